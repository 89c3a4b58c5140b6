"""Limits on the whole kernel: each attack succeeds where its limit is off, and is held where it is on.

The same checks run where a cgroup holds memory (a host with a delegated cgroup v2) and where the supervisor looks.
"""

import os
import pathlib
import re
import signal
import subprocess
import time

import processes
import pytest
from harness import ISOLATED, NOTICE, PATIENCE, drain, notices

MIB = 1 << 20
# What a kernel may take of this machine, in MiB, when nothing stops it.
LIMIT, BOMB = 512, 900
OFF = {"memory": 0}
HELD = {"memory": f"{LIMIT}M"}
SHARE = "the kernel was ended"
OTHERS = "processes that the kernel had started were ended"


@pytest.fixture
def limited(site, start):
    """limited(resources): a kernel under such a policy."""

    def make(**resources):
        return start(ISOLATED, spec=site.variant("--policy", site.policy({"resources": resources})))

    return make


def ends(kernel, code, what):
    """Runs a cell that the kernel does not survive; returns what the notebook was told."""
    kernel.client.execute(code)
    said = []

    def told():
        said.extend(notices(drain(kernel.client, 0.1)))
        return any(what in text for text in said)

    assert processes.wait_until(told, 30 * PATIENCE, 0.05), (said, kernel.log)
    assert kernel.wait_gone(20) is not None
    assert not [text for text in said if "signal" in text], said
    return "".join(text for text in said if what in text)


# Each takes more memory than the limit in steps, and says DONE when it could.
IN_ONE_PROCESS = f"blocks = [bytearray({MIB}) for i in range({BOMB})]; print('DONE')"
SHARED = f"""
import mmap
memory = mmap.mmap(-1, {BOMB * MIB})
for i in range({BOMB}):
    memory[i * {MIB} : (i + 1) * {MIB}] = b"x" * {MIB}
print("DONE")
"""
FILES = f"""
import os
files = [os.memfd_create("bomb") for i in range(9)]
for file in files:
    for i in range({BOMB // 9}):
        os.write(file, b"x" * {MIB})
print("DONE")
"""
# What is on its way in sockets is in no process.
SOCKETS = f"""
import socket
pairs, sent = [socket.socketpair() for i in range(1900)], 0
for end in [end for pair in pairs for end in pair]:
    end.setblocking(False)
    try:
        while sent < {BOMB * MIB}:
            sent += end.send(b"x" * 65536)
    except BlockingIOError:
        pass
print("DONE" if sent > {LIMIT * MIB} else sent)
"""
# Of 50 children, each below the limit by itself. The one that counts them lives on.
CHILDREN = f"""
import os, signal, time
children, lost = [], 0
done, busy = os.pipe()
for i in range(50):
    child = os.fork()
    if child == 0:
        blocks = []
        while len(blocks) < {BOMB // 50}:
            blocks.append(bytearray({MIB})); time.sleep(0.02)
        os.close(busy)
        time.sleep(1000)
    children.append(child)
os.close(busy)
os.read(done, 1)  # all are full, or have been ended
time.sleep(3)
for child in children:
    if os.waitpid(child, os.WNOHANG)[0]:
        lost += 1
    else:
        os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
print("DONE" if lost == 0 else "LOST SOME")
"""
ROOMS = f"""
import errno, os
written, errors = 0, []
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    try:
        with open(place + "/bomb", "wb") as file:
            for i in range({BOMB // 3}):
                file.write(b"x" * {MIB}); written += 1
    except OSError as problem:
        errors.append(errno.errorcode[problem.errno])
    finally:
        os.unlink(place + "/bomb")
print("DONE" if written == {BOMB // 3} * 3 else " ".join(errors))
"""


@pytest.mark.parametrize("code", [IN_ONE_PROCESS, SHARED, FILES, CHILDREN, ROOMS, SOCKETS],
                         ids=["process", "shared", "files", "children", "rooms", "sockets"])
def test_memory_without_limit(limited, code):
    kernel = limited(**OFF)
    assert kernel.run(code, timeout=60).stdout.split() == ["DONE"]


def test_memory_of_one_process(limited):
    """A size is an error in the cell; what was computed before is still there."""
    kernel = limited(**HELD)
    kernel.run("precious = 42")
    assert "MemoryError" in kernel.run(IN_ONE_PROCESS, timeout=60).problem
    assert kernel.run("precious").result == "42"


@pytest.mark.parametrize("code", [SHARED, FILES, SOCKETS], ids=["shared", "files", "sockets"])
def test_memory_that_no_rlimit_sees(limited, code):
    kernel = limited(**HELD)
    said = ends(kernel, code, SHARE)
    assert re.search(r"it used [\d.]+ [MG]B of memory, the limit is 512 MB \(resources\.memory\)", said), said
    assert said.startswith(NOTICE)
    assert SHARE in kernel.log


def test_memory_of_children(limited):
    """They end, the largest first; the kernel and its variables stay."""
    kernel = limited(**HELD)
    kernel.run("precious = 42")
    run = kernel.run(CHILDREN, timeout=60)
    assert run.stdout.split() == ["LOST", "SOME"], run.stdout
    assert OTHERS in "".join(run.notices + [kernel.log])
    assert kernel.run("precious").result == "42"
    assert processes.wait_until(lambda: OTHERS in kernel.log, 5 * PATIENCE, 0.05)


# Two that together take more, in threads that go on without the first one, of which alone /proc/PID tells.
THREADS = f"""
import ctypes, os, signal, threading, time
def take():
    blocks = [bytearray(b"x") * {MIB} for i in range({BOMB // 3})]
    time.sleep(1000)
children = []
for i in range(2):
    children.append(os.fork())
    if children[-1] == 0:
        threading.Thread(target=take).start()
        ctypes.CDLL(None).syscall(60, 0)  # exit: of this thread
child, status = os.wait()
children.remove(child)
print(os.WTERMSIG(status))
os.kill(children[0], signal.SIGKILL)
os.wait()
"""


def test_memory_behind_a_first_thread_that_has_ended(limited):
    """Such a child goes, not the kernel."""
    kernel = limited(**HELD)
    if in_cgroup(kernel):
        pytest.skip("the system chooses who goes")
    kernel.run("precious = 42")
    run = kernel.run(THREADS, timeout=60)
    assert run.stdout.split()[-1] == "9", (run.stdout, run.problem, kernel.log)
    assert kernel.run("precious").result == "42"


def test_rooms_in_memory(limited):
    """/tmp, /dev/shm and the home are full before the memory is: an error, no end."""
    kernel = limited(**HELD)
    assert kernel.run(ROOMS, timeout=60).stdout.split() == ["ENOSPC"] * 3
    assert kernel.run("1 + 1").result == "2"


def test_files_in_rooms(limited):
    """Names take memory too: a room has so many inodes and no more."""
    code = """
import errno, os
os.mkdir("/tmp/names"); number = 0
try:
    while number < 20000:
        os.close(os.open(f"/tmp/names/{number}", os.O_CREAT | os.O_WRONLY)); number += 1
    print("DONE")
except OSError as problem:
    print(errno.errorcode[problem.errno])
for name in os.listdir("/tmp/names"): os.unlink("/tmp/names/" + name)
"""
    assert limited(tmp="1G").run(code).stdout.split() == ["DONE"]
    kernel = limited(tmp="16M")
    assert kernel.run(code).stdout.split() == ["ENOSPC"]
    assert kernel.run("1 + 1").result == "2"


FORKS = """
import errno, os, signal, time
children = []
try:
    while len(children) < 160:
        child = os.fork()
        if child == 0: time.sleep(1000)
        children.append(child)
    print("DONE")
except OSError as problem:
    print(errno.errorcode[problem.errno])
for child in children: os.kill(child, signal.SIGKILL)
for child in children: os.waitpid(child, 0)
"""
# Every child forks as well: nobody can count or stop them from inside.
FORK_BOMB = """
import os, time
for i in range(100):
    try: os.fork()
    except OSError: time.sleep(0.01)
"""


def test_processes(limited):
    assert limited(pids=1000).run(FORKS, timeout=60).stdout.split() == ["DONE"]
    kernel = limited(pids=128)
    assert kernel.run(FORKS, timeout=60).stdout.split() == ["EAGAIN"]
    assert kernel.run("1 + 1").result == "2"


def test_fork_bomb(limited):
    """The host goes on, and an end ends all of it."""
    kernel = limited(pids=128)
    kernel.client.execute(FORK_BOMB)
    for _ in range(10):
        begin = time.monotonic()
        subprocess.run(["/bin/true"], check=True)  # a process of ours is still to be had
        assert time.monotonic() - begin < 5 * PATIENCE
        time.sleep(0.2)
    kernel.manager.shutdown_kernel(now=True)
    assert kernel.wait_gone(20) is not None


def test_descriptors(limited):
    code = """
import errno, os
held = []
try:
    while len(held) < 500: held.append(os.open("/dev/null", os.O_RDONLY))
    print("DONE")
except OSError as problem:
    print(errno.errorcode[problem.errno])
for file in held: os.close(file)
"""
    assert limited(open_files=1000).run(code).stdout.split() == ["DONE"]
    kernel = limited(open_files=300)
    assert kernel.run(code).stdout.split() == ["EMFILE"]
    assert kernel.run("1 + 1").result == "2"


MANY_BYTES = """
import time
for i in range(120):
    with open(f"part-{i}", "wb") as file: file.write(b"x" * (1 << 20))
    time.sleep(0.01)
end = time.monotonic() + 8
while time.monotonic() < end: sum(range(10000))
print("DONE")
"""
MANY_FILES = """
import os, time
os.mkdir("d")
for i in range(8000): open(f"d/{i}", "w").close()
end = time.monotonic() + 8
while time.monotonic() < end: sum(range(10000))
print("DONE")
"""


@pytest.mark.parametrize("code", [MANY_BYTES, MANY_FILES], ids=["bytes", "files"])
def test_disk(limited, site, code):
    """Many files, each below the size that one may have."""
    kernel = limited(disk="64M")
    said = ends(kernel, code, SHARE)
    assert re.search(r"it used [\d.]+ [MG]B of disk, the limit is [\d.]+ MB \(resources\.disk\)", said), said

    def brought_out():
        site.run("stage", "recover", cwd=kernel.cwd)  # what did not come out in 2 s
        return not site.private_directories()

    assert processes.wait_until(brought_out, 20 * PATIENCE, 0.5)


def test_disk_without_limit(limited):
    kernel = limited(disk=0)
    assert kernel.run(MANY_BYTES, timeout=60).stdout.split() == ["DONE"]


def test_processors(limited):
    """One processor's time: by a cgroup, or by the processors that can be used at all, which code cannot widen."""
    kernel = limited(cpus=1)
    code = """
import os
if len(os.sched_getaffinity(0)) == 1:
    try: os.sched_setaffinity(0, range(os.cpu_count())); print("WIDENED", len(os.sched_getaffinity(0)))
    except PermissionError: print("HELD")
else: print("WHOLE")
"""
    held = kernel.run(code).stdout.split()
    if os.cpu_count() > 1 and not in_cgroup(kernel):
        assert held == ["HELD"]
        free = limited()
        assert free.run("import os; len(os.sched_getaffinity(0)) > 1").result == "True"
    else:
        quota = "".join((group / "cpu.max").read_text() for group in cgroups(kernel))
        assert quota.split() == ["100000", "100000"], quota


BUSY = """
import time
begin, used = time.monotonic(), time.process_time()
while time.monotonic() < begin + 3: pass
print((time.process_time() - used) / (time.monotonic() - begin))
"""


def test_part_of_a_processor(limited):
    """Nothing is silently less: where it cannot be had, the notebook is told what is there."""
    kernel = limited(cpus=0.5)
    run = kernel.run("1")
    if in_cgroup(kernel):
        (group,) = cgroups(kernel)
        assert (group / "cpu.max").read_text().split() == ["50000", "100000"]
        assert float(kernel.run(BUSY, timeout=60).stdout) < 0.6
        assert int(re.search(r"^nr_throttled (\d+)$", (group / "cpu.stat").read_text(), re.MULTILINE)[1]) > 0
    else:
        assert "resources.cpus is held as 1" in kernel.log
        assert any("resources.cpus" in text for text in run.notices + notices(drain(kernel.client)))


def test_idle_timeout(limited):
    kernel = limited(idle_timeout="3s")
    assert kernel.run("import time; time.sleep(5); 7", timeout=60).result == "7"  # a cell that runs is no idleness
    assert kernel.notice("nobody has used it for 3 s (resources.idle_timeout)", 20)
    assert kernel.wait_gone(20) is not None


def cgroups(kernel):
    """The group of each process of the sandbox that is in one of ours."""
    found = set()
    for process in processes.tree(kernel.pid):
        text = pathlib.Path(f"/proc/{process.pid}/cgroup").read_text()
        for line in re.findall(r"^0::(.*/cellwall-[0-9a-f]{8})$", text, re.MULTILINE):
            found.add(pathlib.Path("/sys/fs/cgroup" + line))
    return sorted(found)


def in_cgroup(kernel):
    held = "not by a cgroup" not in kernel.log
    assert held or os.environ.get("CELLWALL_CGROUP") != "required", kernel.log
    return held


def test_enforce(limited, site, start):
    """With "cgroup" nothing weaker will do; without one nothing starts, and the reason is there."""
    if in_cgroup(limited()):
        kernel = limited(enforce="cgroup", **HELD)
        (group,) = cgroups(kernel)
        assert (group / "memory.max").read_text().strip() == str(LIMIT * MIB)
        kernel.manager.shutdown_kernel(now=True)
        assert kernel.wait_gone(20) is not None
        assert processes.wait_until(lambda: not group.exists(), 10 * PATIENCE, 0.05)
    else:
        policy = site.policy({"resources": {"enforce": "cgroup"}})
        kernel = start(ISOLATED, spec=site.variant("--policy", policy), wait=False)
        assert kernel.wait_gone(20) is not None
        assert "limits: the policy asks for a cgroup (resources.enforce): " in kernel.log
        assert "cellwall doctor" in kernel.log


def test_a_killed_supervisor_leaves_no_group(limited):
    """What it made is removed by the next start."""
    kernel = limited()
    if not in_cgroup(kernel):
        pytest.skip("no cgroup here")
    (group,) = cgroups(kernel)
    os.kill(kernel.roles()["supervisor"].pid, signal.SIGKILL)
    assert kernel.wait_gone(20) is not None
    limited().run("1")
    assert not group.exists()
