"""Hosts as they are: each kind is made here as far as namespaces and filters can, and then a kernel starts, or the launch
and `cellwall doctor` say the one thing to do. The rows of kernelspec/share/doc/hosts.md that say "tested" are these."""

import json
import os
import re
import struct
import subprocess
import sys

import harness
import processes
import pytest
from harness import SLEEP, shell

ROOT = os.geteuid() == 0
HELLO = shell("echo the kernel runs; exit 0")

# x86-64 numbers. "container": what container engines' default filter refuses without CAP_SYS_ADMIN.
NAMESPACES = 0x7E020000  # CLONE_NEWNS and the rest of clone(2)
CALLS = {"mount_setattr": 442, "openat2": 437, "close_range": 436, "landlock_create_ruleset": 444, "clone3": 435}
CONTAINER = {"mount": 165, "umount2": 166, "pivot_root": 155, "setns": 308, "keyctl": 250, "bpf": 321, "open_tree": 428,
             "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
             "add_key": 248, "request_key": 249, "perf_event_open": 298, "ptrace": 101}  # fmt: skip


def filtered(refused, namespaces=False):
    """A command line that runs the rest of itself under a filter: {number: errno}; namespaces: unshare and clone too."""
    load, equal, test, give = 0x20, 0x15, 0x45, 0x06
    program = [(load, 0, 0, 0)]
    for number, code in refused.items():
        program += [(equal, 0, 1, number), (give, 0, 0, 0x00050000 | code)]
    if namespaces:
        for number in (56, 272):
            program += [(equal, 0, 4, number), (load, 0, 0, 16), (test, 0, 1, NAMESPACES), (give, 0, 0, 0x00050001), (load, 0, 0, 0)]
        program += [(equal, 0, 1, CALLS["clone3"]), (give, 0, 0, 0x00050000 | 38)]
    program += [(give, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    script = (
        "import ctypes, os, sys\n"
        f"code = ctypes.create_string_buffer({code!r})\n"
        "class Program(ctypes.Structure): _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]\n"
        f"program = Program({len(program)}, ctypes.addressof(code))\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", script]


def inside(script, *flags):
    """A command line that runs the rest of itself in namespaces of its own, after a script."""
    return ["unshare", "--user", "--map-root-user", "--mount", *flags, "sh", "-ec", script + '\nexec "$@"', "sh"]


NEW_PROC = ("--pid", "--fork", "--mount-proc")
MASKED = inside(
    "for name in kcore keys timer_list; do [ ! -e /proc/$name ] || mount --bind /dev/null /proc/$name; done\n"
    "mount -t tmpfs -o ro none /proc/acpi 2>/dev/null || mount -t tmpfs -o ro none /proc/fs\n"
    "mount --bind -o ro /proc/sys /proc/sys",
    *NEW_PROC,
)
UNABLE = {
    "container-filter": (filtered(dict.fromkeys(CONTAINER.values(), 1), namespaces=True), ["seccomp|filter", "container"]),
    "masked-proc": (MASKED, ["/proc", "systempaths=unconfined", "Unmasked"]),
    "no-user-namespaces": (inside("echo 0 >/proc/sys/user/max_user_namespaces"), ["max_user_namespaces", "disk space"]),
    "no-network-namespaces": (inside("echo 0 >/proc/sys/user/max_net_namespaces"), ["network: ", "max_net_namespaces"]),
    "chroot": (inside('mkdir -p "$TMPDIR/root"; mount --rbind / "$TMPDIR/root"; set -- chroot "$TMPDIR/root" "$@"'), ["chroot"]),
    "before-5.12": (filtered({CALLS["mount_setattr"]: 38}), ["5.12"]),
    "before-5.6": (filtered({CALLS["openat2"]: 38}), ["5.12"]),
}
READ_ONLY = (
    'for place in "$TMPDIR" "$XDG_STATE_HOME" "$XDG_RUNTIME_DIR" "$PWD"; do mount --bind "$place" "$place"; done\n'
    'mkdir -p "$TMPDIR/root"; mount --rbind / "$TMPDIR/root"; mount -o remount,ro,bind "$TMPDIR/root"; here=$PWD\n'
    'cd "$TMPDIR/root"; pivot_root . .; umount -l .; cd "$here"; ! touch /usr/written 2>/dev/null'
)
ABLE = {
    # without capabilities, which would see through it
    "hidepid": inside(
        "mount -t proc -o hidepid=2 proc /proc\n"
        'set -- unshare --user --map-user 1234 --map-group 1234 "$@"',
        "--pid",
        "--fork",
    ),
    "noexec-home": inside(
        'for place in "$HOME" "$XDG_STATE_HOME" "$PWD" "$TMPDIR"; do\n'
        'mount --bind "$place" "$place"; mount -o remount,bind,noexec,nosuid,nodev "$place"; done'
    ),
    "read-only-root": inside(READ_ONLY),
    "no-new-privileges": ["setpriv", "--no-new-privs"],
    "container-without-masks": inside("", "--net", "--ipc", "--uts", "--cgroup", *NEW_PROC),
    "without-landlock": filtered({CALLS["landlock_create_ruleset"]: 38}),
}


def doctor(site, wrapper, *options):
    command = [*wrapper, site.cellwall, "doctor", *options]
    return subprocess.run(command, env=site.environment, cwd=site.root, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", UNABLE)
def test_says_what_to_do(site, launch, nothing_left, kind):
    """No kernel, one line that names the cause; the doctor finds the same, with what to do beside it."""
    wrapper, words = UNABLE[kind]
    launched = launch(*HELLO, wrapper=wrapper)
    assert launched.wait(15) == 1, launched.log
    assert "the kernel runs" not in launched.log
    lines = launched.log.splitlines()
    assert len(lines) == 1, lines
    for word in words:
        assert re.search(word, lines[0]), (word, lines[0])
    page = doctor(site, wrapper, "--json")
    assert page.returncode == 3, page.stdout + page.stderr
    page = json.loads(page.stdout)
    broken = [line for line in page["lines"] if line["needed"] and line["state"] == "missing"]
    assert page["can_run"] is False and broken and broken[0]["help"], broken
    said = " ".join(line["detail"] + " " + line["help"] for line in page["lines"])
    assert any(re.search(word, said) for word in words), said


@pytest.mark.parametrize("kind", ABLE)
def test_works(site, launch, nothing_left, kind):
    launched = launch(*HELLO, wrapper=ABLE[kind])
    assert launched.wait(15) == 0, launched.log
    assert "the kernel runs" in launched.log
    lines = [line for line in launched.log.splitlines() if "the kernel runs" not in line and "limits are held" not in line]
    assert len(lines) == (kind == "without-landlock"), lines
    assert doctor(site, ABLE[kind]).returncode == 0


def test_what_is_lacking_is_named(site, launch):
    """A layer that the host does not have has a line of its own in the log, and the doctor measures the same."""
    launched = launch(*HELLO, wrapper=ABLE["without-landlock"])
    assert launched.wait(15) == 0
    assert "the kernel has no landlock landlock-" in launched.log
    page = json.loads(doctor(site, ABLE["without-landlock"], "--json").stdout)
    lines = {line["what"]: line for line in page["lines"]}
    assert page["can_run"] is True and lines["its layers"]["state"] == "limited"
    assert "landlock" in lines["its layers"]["detail"].split() and lines["Landlock"]["state"] == "limited"
    assert "the kernel has no" not in launch(*HELLO).log


LISTENER_ABOVE = """
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("@HP", 1, ctypes.addressof(code)))
libc.syscall.restype = ctypes.c_long
fd = libc.syscall(317, 1, 8, program)
assert fd >= 0, ctypes.get_errno()
parent = os.getpid()
if os.fork() == 0:
    os.setsid()
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(0)
os.close(fd)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_listener_of_its_own(launch):
    """Another process answers system calls already: the kernel runs, and one line says what that costs."""
    run = launch(*SLEEP, wrapper=[sys.executable, "-c", LISTENER_ABOVE])
    assert run.wait_role("kernel")
    said = "what the kernel is refused is not reported: the host gives no listener (EBUSY)"
    assert processes.wait_until(lambda: said in run.log, 10 * harness.PATIENCE) and run.log.count(said) == 1


def test_container_as_root(site, launch):
    """Root with the capabilities that container engines leave it, and no filter: kernels run as its own uid."""
    if not ROOT:
        pytest.skip("root only")
    keep = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap"
    wrapper = ["setpriv", "--bounding-set", "-all," + ",".join("+" + name for name in keep.split(","))]
    launched = launch(*HELLO, wrapper=wrapper)
    assert launched.wait(15) == 0, launched.log


# An unprivileged container: a user namespace with 65,536 uids of its own, all namespaces, a /proc of its own, root with all
# capabilities in it. What is there belongs to nobody unless it was given to the container.
UNPRIVILEGED = """
import ctypes, os, sys
first, count = 300000, 65536
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert libc.unshare(0x10000000) == 0, ctypes.get_errno()
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    assert libc.unshare(0x6E020000) == 0, ctypes.get_errno()
    if os.fork() == 0:
        assert libc.mount(None, b"/", None, 0x44000, None) == 0
        assert libc.mount(b"proc", b"/proc", b"proc", 14, None) == 0
        os.execvp(sys.argv[1], sys.argv[1:])
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write(f"0 {first} {count}")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not ROOT, reason="root makes the container")
@pytest.mark.parametrize("uid", [0, 1000])
def test_unprivileged_container(site, launch, uid):
    """Its root gives each kernel uids of the container's own; its ordinary users are ordinary users."""
    place = site.project(staging__in__a_txt="given")
    connection = place / "connection.json"
    harness.write_connection_file(connection, "ipc")
    environment = dict(site.environment, HOME=str(place), XDG_STATE_HOME=f"{place}/state", TMPDIR=str(place), XDG_RUNTIME_DIR=str(place))
    for path in (place, *place.rglob("*")):
        os.chown(path, 300000 + uid, 300000 + uid)
    site.root.chmod(0o711)
    wrapper = [sys.executable, "-c", UNPRIVILEGED, *(["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid else [])]
    try:
        script = shell("cat staging/in/a_txt; echo; cat /proc/self/uid_map; echo the kernel runs")
        launched = launch(*script, wrapper=wrapper, cwd=place, connection=connection, env=environment)
        assert launched.wait(15) == 0 and "given" in launched.log and "the kernel runs" in launched.log, launched.log
        command = [*wrapper, site.cellwall, "doctor", "--json"]
        page = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=60, check=False)
        assert json.loads(page.stdout)["can_run"] is True, page.stdout
    finally:
        site.root.chmod(0o700)


# What the distribution's own tools try, all of which works in namespaces of one's own outside the wall.
TOOLS = {
    "unshare": "unshare --user true",
    "unshare-mount": "unshare --mount true",
    "nsenter": "nsenter --target $$ --mount --net true",
    "setpriv": "setpriv --inh-caps +sys_admin true",
    "mount": "mount -t tmpfs none /mnt",
    "remount": "mount -o remount,bind,ro /",
    "strace": "strace -o /dev/null true",
    "ip": "ip link set lo mtu 1400",
    "hostname": "hostname probe",
    "chroot": "chroot / true",
    "capsh": "capsh --has-p=cap_sys_admin",
}


def test_public_tools(launch):
    lines = [f"if {line} </dev/null >/dev/null 2>&1; then echo REACHED {name}; fi" for name, line in TOOLS.items()]
    lines += [f"command -v {line.split()[0]} >/dev/null || echo MISSING {line.split()[0]}" for line in TOOLS.values()]
    script = "PATH=/usr/bin:/usr/sbin\n" + "\n".join([*lines, "echo done"])
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--uts"]
    outside = subprocess.run([*namespaces, "sh", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "MISSING" not in outside and outside.count("REACHED") == len(TOOLS), outside
    launched = launch(*shell(script))
    assert launched.wait(60) == 0, launched.log
    assert "done" in launched.log and "REACHED" not in launched.log and "MISSING" not in launched.log, launched.log
