"""Public tools that try systems, as Debian has them, behind the wall: `tests/run tools`."""

import subprocess

import pytest
from harness import shell

LIMITS = {"resources": {"memory": "512M", "pids": 200, "disk": "64M", "tmp": "32M"}}


@pytest.fixture
def inside(site, launch, nothing_left):
    """inside(line): what it says in a kernel's place under these limits; then nothing of it is left, and the next kernel starts."""

    def run(line):
        options = ("--policy", site.policy(LIMITS))
        launched = launch(*shell(f"PATH=/usr/sbin:/usr/bin; {line} 2>&1; echo it has ended; exit 0"), options=options)
        assert launched.wait(300) is not None
        log = launched.log
        launched = launch(*shell("echo the next one runs; exit 0"), options=options)
        assert launched.wait(60) == 0 and "the next one runs" in launched.log, launched.log
        assert (site.home / ".ssh" / "x").read_text() == site.secret
        return log

    return run


def outside(*line):
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False).stdout


def test_capabilities(inside):
    """libcap-ng's captest: which capabilities a process has, whether it gets any back, and /etc/shadow with them."""
    free = outside("unshare", "--user", "--map-root-user", "captest")
    assert "capabilities:" in free and "capabilities: none" not in free, free
    log = inside("captest")
    assert "Current capabilities: none" in log and "Child capabilities: none" in log and "SUCCE" not in log, log


def test_random_calls(inside):
    """trinity: system calls at random for a minute; it knows of each what it takes."""
    log = inside("mkdir victims; echo 1 >victims/file; timeout -s KILL 60 trinity -q -a64 -V victims -l off -C 4")
    assert "it has ended" in log or "the kernel was ended" in log, log
    assert "syscalls" in log and "blocked: `trinity" in log, log[-3000:]


def test_everything_at_once(inside):
    """stress-ng's forks, memory, sockets, files and pipes."""
    log = inside("stress-ng --timeout 10 --vm 2 --vm-bytes 1g --fork 4 --sock 2 --shm 2 --memfd 2 --pipe 2 --fallocate 2 --hdd 2 --dentry 2")
    assert "it has ended" in log or "the kernel was ended" in log, log
    assert "blocked: `stress-ng" in log, log[-3000:]
