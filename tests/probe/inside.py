"""What code behind the wall can reach: one JSON line per probe, {"name", "ok", "reached",
"detail"}.

"ok" means that the wall holds there, or, where the name begins with "useful:", that what a kernel needs
works. "reached" is left to say that something outside the wall was really reached, where a wrong errno is not
that already. The same file run without the wall must report most of the others as not ok: a probe that cannot
fail proves nothing. Nothing here does harm when there is no wall: calls that would change something are
made with arguments that fail for another reason, or are undone, or end with a child.

    python inside.py [TARGETS]

TARGETS is a JSON object that says where the host put its baits; a bait that is not named is not probed:
    files    paths that must not be readable        sockets   paths of listening sockets
    port     a TCP port on the host's 127.0.0.1     abstract  names of abstract sockets, without the NUL
    pids     processes of the host                  environ   names that must not be in the environment
    keys     names of keys of the type "user" in the session keyring
    words    text that must not be in any /proc/1 file, environment or mount table
From a notebook cell: `import runpy; runpy.run_path("inside.py")["run"]({...})` returns the list.
Standard library only.
"""

import ctypes
import errno
import json
import os
import pwd
import resource
import signal
import socket
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PROBES = []

# System call numbers that are the same on x86-64 and the generic table are written once; x86-64 is what
# the wall is tested on.
NR = {
    "ioctl": 16, "mkdir": 83, "chmod": 90, "ptrace": 101, "syslog": 103, "mknod": 133, "personality": 135,
    "modify_ldt": 154, "pivot_root": 155, "acct": 163, "mount": 165, "umount2": 166, "swapon": 167,
    "reboot": 169, "iopl": 172, "init_module": 175, "quotactl": 179, "clock_settime": 227,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "move_pages": 279,
    "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsmount": 432, "fspick": 433, "clone3": 435, "openat2": 437,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447, "statmount": 457,
    "listmount": 458, "io_setup": 206, "vmsplice": 278, "remap_file_pages": 216, "landlock_create_ruleset": 444, "seccomp": 317,
    "prctl": 157,
}


def probe(function):
    PROBES.append(function)
    return function


def call(number, *args):
    """The errno of a raw system call, 0 when it succeeded."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    ctypes.set_errno(0)
    if LIBC.syscall(ctypes.c_long(number), *converted) == -1:
        return ctypes.get_errno()
    return 0


def name_of(code):
    return errno.errorcode.get(code, str(code)) if code else "success"


def in_child(function):
    """Runs function in a child; returns its result (0..255), or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function() & 0xFF)
        except BaseException:
            os._exit(255)
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def readable(path):
    """What can be got out of a path: text that says so, or None."""
    try:
        if os.path.isdir(path):
            return "directory with %d entries" % len(os.listdir(path))
        with open(path, "rb") as file:
            return "%d bytes" % len(file.read(256))
    except OSError:
        return None


def writable(directory):
    path = os.path.join(directory, ".probe-%d" % os.getpid())
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError as error:
        return False, name_of(error.errno)
    os.unlink(path)
    return True, "created a file"


def status_field(name, path="/proc/self/status"):
    with open(path) as file:
        for line in file:
            if line.startswith(name + ":"):
                return line.split(":", 1)[1].strip()
    return None


# Files ------------------------------------------------------------------------------------------------

@probe
def files_of_the_host(targets):
    """The host's own places are not there."""
    paths = ["/root", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh", "/etc/machine-id", "/boot",
             "/var/lib", "/var/log", "/run", "/sys", "/srv", "/mnt", "/media", "/etc/ssl/private",
             os.path.expanduser("~/.ssh"), "/var/run/docker.sock"]
    for path in paths:
        got = readable(path)
        yield "file:" + path, got is None, got or "not there"


@probe
def files_of_the_test(targets):
    for path in targets.get("files", []):
        got = readable(path)
        yield "bait:" + path, got is None, got or "not there"


@probe
def dotdot(targets):
    """No number of .. leaves the root."""
    up = os.stat("/" + "../" * 50)
    root = os.stat("/")
    try:
        entries = sorted(os.listdir("/" + "../" * 50))
    except PermissionError:
        entries = []
    expected = {"bin", "cellwall", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "opt", "proc",
                "sbin", "tmp", "usr", "var", "work"}
    extra = set(entries) - expected
    yield "root_entries", (up.st_ino, up.st_dev) == (root.st_ino, root.st_dev) and not extra, " ".join(entries)


@probe
def writing_outside(targets):
    for directory in ["/", "/usr", "/usr/lib", "/usr/local", "/etc", "/home", "/dev", "/bin", "/lib", "/opt",
                      "/var", "/proc", "/proc/sys/kernel"]:
        if os.path.isdir(directory):
            able, detail = writable(directory)
            yield "write:" + directory, not able, detail


@probe
def writing_where_it_should(targets):
    """These are the kernel's: a wall without them would be of no use."""
    for directory in ["/tmp", "/dev/shm", os.path.expanduser("~")]:
        able, detail = writable(directory)
        yield "useful:write:" + directory, able, detail


@probe
def mounts(targets):
    """Every mount is nosuid; only tmpfs, devpts, proc, /work and copies (overlays) may be written; no mount is shared."""
    copies = ("/work/staging/out", os.path.expanduser("~/"))
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    for fields in lines:
        point, options, dash = fields[4], fields[5].split(","), fields.index("-")
        kind = fields[dash + 1]
        bad = []
        if "nosuid" not in options:
            bad.append("suid")
        if "nodev" not in options and kind not in ("devtmpfs", "devpts") and not point.startswith("/dev/"):
            if not point.startswith("/proc/"):
                bad.append("dev")
        if "rw" in options and kind not in ("tmpfs", "devpts", "proc") and point != "/work":
            if kind != "overlay" or not point.startswith(copies):
                bad.append("writable")
        if any(field.startswith(("shared:", "master:")) for field in fields[6:dash]):
            bad.append("propagates")
        if bad:
            yield "mount:" + point, False, kind + " " + " ".join(bad)
    yield "mounts", len(lines) < 400, "%d mounts" % len(lines)


@probe
def setuid_bits(targets):
    """No file of the kernel's can run as another user."""
    path = "/tmp/.probe-setuid-%d" % os.getpid()

    def attempt(action):
        try:
            action()
        except OSError as error:
            return error.errno
        mode = os.stat(path).st_mode & 0o6000 if os.path.exists(path) else 0
        return 0 if mode else errno.EPERM

    def create(mode):
        os.umask(0)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    attempts = {
        "open": lambda: create(0o4755),
        "chmod": lambda: (create(0o755), os.chmod(path, 0o4755)),
        "chmod_setgid": lambda: (create(0o755), os.chmod(path, 0o2755)),
        "fchmod": lambda: (create(0o755), os.fchmod(os.open(path, os.O_RDONLY), 0o6755)),
        "fchmodat": lambda: (create(0o755), os.chmod(os.path.basename(path), 0o4755,
                                                     dir_fd=os.open("/tmp", os.O_RDONLY))),
        "mknod": lambda: os.mknod(path, 0o104755),
    }
    for name, action in attempts.items():
        code = in_child(lambda: attempt(action))
        try:
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        except OSError:
            pass
        yield "setuid:" + name, code in (errno.EPERM, errno.EACCES), name_of(code), code == 0


@probe
def device_nodes(targets):
    path = "/tmp/.probe-null-%d" % os.getpid()
    try:
        os.mknod(path, 0o20666, os.makedev(1, 3))
        os.unlink(path)
        yield "mknod", False, "made a device"
    except OSError as error:
        yield "mknod", True, name_of(error.errno)
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "fd", "stdin", "stdout", "stderr",
               "shm"}
    extra = sorted(set(os.listdir("/dev")) - allowed)
    yield "dev", not extra, " ".join(extra[:20])
    try:
        os.utime("/dev/null")
        yield "dev_null_times", False, "changed the times of /dev/null"
    except OSError as error:
        yield "dev_null_times", True, name_of(error.errno)


@probe
def pseudo_terminals(targets):
    """A private devpts: it works, and the first terminal is number 0 or close to it."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        yield "useful:pty", False, name_of(error.errno)
        return
    name = os.ttyname(slave)
    yield "useful:pty", True, name
    # TIOCSTI types into a terminal. Also with a high bit set, which the system ignores and a filter must.
    byte = ctypes.create_string_buffer(b"x")
    for bits in (0, 1 << 32, 1 << 63):
        request = ctypes.c_ulong(0x5412 | bits)
        ctypes.set_errno(0)
        result = LIBC.syscall(ctypes.c_long(NR["ioctl"]), ctypes.c_long(slave), request, byte)
        code = ctypes.get_errno() if result == -1 else 0
        yield "tiocsti:%#x" % bits, code == errno.ENOTTY, name_of(code), code == 0
    os.close(master)
    os.close(slave)


# Network ----------------------------------------------------------------------------------------------

@probe
def interfaces(targets):
    with open("/proc/net/dev") as file:
        names = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    yield "interfaces", names == ["lo"], " ".join(names)


@probe
def loopback(targets):
    """lo works among the sandbox' own processes."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, \
                socket.create_connection(server.getsockname(), 2) as client:
            peer, _ = server.accept()
            client.sendall(b"x")
            ok = peer.recv(1) == b"x"
            peer.close()
        yield "useful:loopback", ok, ""
    except OSError as error:
        yield "useful:loopback", False, str(error)
    for name in ("localhost", "cellwall"):
        try:
            yield "useful:resolve:" + name, socket.gethostbyname(name) == "127.0.0.1", ""
        except OSError as error:
            yield "useful:resolve:" + name, False, str(error)


def connects(family, address):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(2)
            client.connect(address)
            return True, "connected"
    except OSError as error:
        return False, name_of(error.errno) if error.errno else str(error)


@probe
def connections(targets):
    if "port" in targets:
        able, detail = connects(socket.AF_INET, ("127.0.0.1", targets["port"]))
        yield "tcp:host_loopback", not able, detail
    for path in targets.get("sockets", []):
        able, detail = connects(socket.AF_UNIX, path)
        yield "unix:" + path, not able, detail
    for name in targets.get("abstract", []):
        able, detail = connects(socket.AF_UNIX, "\0" + name)
        yield "abstract:" + name, not able, detail
    # Unreachable at once, not after a timeout: there is no route.
    for address in (("192.0.2.1", 53), ("169.254.169.254", 80)):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.connect(address)
            yield "udp:" + address[0], False, "has a route"
        except OSError as error:
            yield "udp:" + address[0], error.errno in (errno.ENETUNREACH, errno.EAFNOSUPPORT), name_of(error.errno), False
    try:
        yield "resolve", False, socket.gethostbyname("example.org")
    except OSError as error:
        yield "resolve", True, str(error)


@probe
def socket_families(targets):
    """Only AF_UNIX, AF_INET and AF_INET6; libzmq lives with one errno for AF_NETLINK only."""
    for family in range(1, 46):
        if family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
            continue
        expected = errno.EOPNOTSUPP if family == 16 else errno.EAFNOSUPPORT
        codes = set()
        for bits in (0, 1 << 32):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                codes.add(open_socket(family | bits, kind, 0))
        yield "family:%d" % family, codes == {expected}, " ".join(sorted(map(name_of, codes))), 0 in codes


def open_socket(family, kind, protocol):
    ctypes.set_errno(0)
    fd = LIBC.syscall(ctypes.c_long(41), ctypes.c_ulong(family), ctypes.c_ulong(kind), ctypes.c_ulong(protocol))
    if fd == -1:
        return ctypes.get_errno()
    os.close(fd)
    return 0


@probe
def socket_kinds(targets):
    kinds = {
        "raw": (2, 3, 1), "icmp": (2, 2, 1), "icmp6": (10, 2, 58), "dccp": (2, 6, 33), "sctp": (2, 1, 132),
        "sctp_seqpacket": (2, 5, 132), "udplite": (2, 2, 136), "mptcp": (2, 1, 262), "mptcp6": (10, 1, 262),
        "packet": (2, 10, 0), "raw_high_bit": (2, 3 | 1 << 32, 255), "mptcp_high_bit": (2, 1, 262 | 1 << 32),
    }
    for name, arguments in kinds.items():
        code = open_socket(*arguments)
        refused = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT)
        yield "socket:" + name, code in refused, name_of(code), code == 0
    for family, kind, protocol in ((1, 1, 0), (2, 1, 0), (2, 1 | 0o2004000, 6), (2, 2, 17), (10, 1, 0)):
        code = open_socket(family, kind, protocol)
        yield "useful:socket:%d:%d:%d" % (family, kind & 15, protocol), code == 0, name_of(code)


# Processes --------------------------------------------------------------------------------------------

@probe
def processes(targets):
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        yield "pids", len(pids) < 64 and max(pids) < 100000, "%d processes" % len(pids)
    except PermissionError:
        yield "pids", True, "EACCES"
    for pid in targets.get("pids", []):
        # The number may exist inside as well; a signal 0 to somebody of another uid says EPERM.
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                line = file.read(200)
        except OSError:
            line = b""
        hit = any(word.encode() in line for word in targets.get("words", []))
        yield "pid:%d" % pid, not hit, repr(line)


@probe
def pid_one(targets):
    """pid 1 holds the control socket: nothing of it can be read or traced."""
    for name in ("environ", "mem", "maps", "auxv", "exe", "cwd", "root", "fd", "ns/mnt", "ns/user", "io",
                 "syscall", "stack", "pagemap"):
        path = "/proc/1/" + name
        try:
            if name in ("exe", "cwd", "root", "ns/mnt", "ns/user"):
                yield "pid1:" + name, False, os.readlink(path)
            elif name == "fd":
                yield "pid1:" + name, False, " ".join(os.listdir(path))
            else:
                with open(path, "rb") as file:
                    got = file.read(4096)
                yield "pid1:" + name, False, "%d bytes" % len(got)
        except OSError as error:
            yield "pid1:" + name, error.errno in (errno.EACCES, errno.EPERM, errno.EIO), name_of(error.errno)
    try:
        with open("/proc/1/cmdline", "rb") as file:
            line = file.read()
        yield "pid1:cmdline", line == b"cellwall-sandbox\0", repr(line[:100])
    except PermissionError:
        yield "pid1:cmdline", True, "EACCES"
    # PTRACE_SEIZE: where root may attach to the host's own init, PTRACE_ATTACH would leave it stopped for good.
    code = in_child(lambda: call(NR["ptrace"], 0x4206, 1, 0, 0))
    yield "pid1:ptrace", code in (errno.EPERM, errno.ESRCH), name_of(code)
    try:
        os.kill(1, signal.SIGSTOP)
        state = status_field("State", "/proc/1/status")
        yield "pid1:stop", not state.startswith("T"), state
    except PermissionError:
        yield "pid1:stop", os.getpid() != 1, "EPERM"


@probe
def identity(targets):
    yield "uid", (os.getuid(), os.geteuid(), os.getgid()) == (1000, 1000, 1000), "%d %d" % (os.getuid(), os.getgid())
    # As an ordinary user the host's groups cannot be given up; they show as nobody's.
    yield "groups", not set(os.getgroups()) - {65534, 1000}, str(os.getgroups())
    try:
        yield "user_name", pwd.getpwuid(os.getuid()).pw_name == "user", pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        yield "user_name", False, "nobody"
    yield "hostname", socket.gethostname() == "cellwall", socket.gethostname()
    try:
        with open("/proc/self/uid_map") as file:
            words = file.read().split()
        yield "uid_map", words[0::3] == ["1000"] and words[2::3] == ["1"], " ".join(words)
    except PermissionError:
        yield "uid_map", True, "EACCES"
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        value = status_field(name)
        yield "capabilities:" + name, int(value, 16) == 0, value
    yield "no_new_privs", status_field("NoNewPrivs") == "1", ""
    yield "seccomp", status_field("Seccomp") == "2", status_field("Seccomp")
    yield "session", os.getsid(0) not in (0,) and not os.path.exists("/proc/self/fd/0/..") and \
        controlling_terminal() == 0, "terminal %d" % controlling_terminal()


def controlling_terminal():
    with open("/proc/self/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[4])


@probe
def environment(targets):
    secret = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY", "AWS_", "SSH_", "GITHUB_", "SUDO_",
              "DBUS_", "XDG_RUNTIME", "JUPYTERHUB_", "JPY_")
    found = sorted(name for name in os.environ if name.upper().startswith(secret) or
                   any(word in name.upper() for word in secret[:5]))
    found += [name for name in targets.get("environ", []) if name in os.environ]
    yield "environment", not found, " ".join(found)
    text = "\0".join(os.environ.values())
    for word in targets.get("words", []):
        yield "environment_word:" + word, word not in text, ""
    yield "home", os.path.expanduser("~") == "/home/user", os.path.expanduser("~")


@probe
def descriptors(targets):
    """Nothing of the host is open: descriptors name pipes, sockets and files inside."""
    bad = []
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
        if link.startswith(("pipe:", "socket:", "anon_inode:", "/dev/", "/proc/", "/memfd:", "/tmp/", "/work",
                            "/home/user", "/usr/", "/cellwall", "/[aio]")):
            continue
        if os.path.exists(link) and os.path.samestat(os.stat(link), os.fstat(int(name))):
            # The same file by its path inside, as a kernel's own imports leave it.
            if not link.startswith(("/root", "/home")) and os.access("/cellwall", os.F_OK):
                continue
        bad.append("%s -> %s" % (name, link))
    yield "descriptors", not bad, "; ".join(bad)
    try:
        up = os.stat("/proc/self/fd/0/../etc/hostname")
        yield "descriptor_dotdot", False, str(up.st_size)
    except OSError as error:
        yield "descriptor_dotdot", True, name_of(error.errno)
    yield "cwd", os.getcwd().startswith(("/work", "/tmp")), os.getcwd()


# The system's surface ---------------------------------------------------------------------------------

@probe
def namespaces(targets):
    flags = {"user": 0x10000000, "mount": 0x00020000, "net": 0x40000000, "pid": 0x20000000, "ipc": 0x08000000,
             "uts": 0x04000000, "cgroup": 0x02000000, "time": 0x80}
    for name, flag in flags.items():
        code = in_child(lambda: call(272, flag))
        yield "unshare:" + name, code == errno.EPERM, name_of(code), code == 0
    code = in_child(lambda: call(272, 0x10000000 | 1 << 32))
    yield "unshare:user_high_bit", code == errno.EPERM, name_of(code), code == 0

    def clone_user():
        ctypes.set_errno(0)
        result = LIBC.syscall(ctypes.c_long(56), ctypes.c_ulong(0x10000000 | 17), ctypes.c_long(0),
                              ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0))
        return ctypes.get_errno() if result == -1 else 0

    code = in_child(clone_user)
    yield "clone:user", code == errno.EPERM, name_of(code), code == 0
    code = call(NR["clone3"], 0, 0)
    yield "clone3", code == errno.ENOSYS, name_of(code)
    code = call(NR["setns"], -1, 0)
    yield "setns", code == errno.EPERM, name_of(code)
    try:
        with open("/proc/sys/user/max_user_namespaces") as file:
            yield "max_user_namespaces", True, file.read().strip()
    except OSError as error:
        yield "max_user_namespaces", True, name_of(error.errno)


@probe
def closed_calls(targets):
    """With arguments that fail anyway, so that the errno shows who refused."""
    none = ctypes.c_void_p(None)
    nowhere = ctypes.c_char_p(b"/nonexistent/probe")
    eperm, enosys = errno.EPERM, errno.ENOSYS
    calls = {
        "mount": ((none, nowhere, none, 0, none), eperm), "umount2": ((nowhere, 0), eperm),
        "pivot_root": ((nowhere, nowhere), eperm), "open_tree": ((-1, nowhere, 0), enosys),
        "move_mount": ((-1, nowhere, -1, nowhere, 0), enosys), "fsopen": ((nowhere, 0), enosys),
        "fsmount": ((-1, 0, 0), enosys), "fspick": ((-1, nowhere, 0), enosys),
        "mount_setattr": ((-1, nowhere, 0, none, 0), enosys), "statmount": ((none, none, 0, 0), enosys),
        "listmount": ((none, none, 0, 0), enosys), "openat2": ((-100, nowhere, none, 0), enosys),
        "bpf": ((0, none, 0), eperm), "perf_event_open": ((none, 0, -1, -1, 0), eperm),
        "io_uring_setup": ((0, none), enosys), "io_uring_enter": ((-1, 0, 0, 0, none), enosys),
        "userfaultfd": ((1 << 30,), enosys), "memfd_secret": ((1 << 30,), enosys),
        "add_key": ((none, none, none, 0, 0), eperm), "request_key": ((none, none, none, 0), eperm),
        "keyctl": ((0, -3, 0), eperm), "open_by_handle_at": ((-1, none, 0), eperm),
        "name_to_handle_at": ((-1, nowhere, none, none, 0), errno.EOPNOTSUPP),
        "process_vm_readv": ((1, none, 0, none, 0, 0), eperm),
        "process_vm_writev": ((1, none, 0, none, 0, 0), eperm), "kcmp": ((os.getpid(), os.getpid(), 0, 0, 0), eperm),
        "pidfd_getfd": ((-1, 0, 0), eperm), "process_madvise": ((-1, none, 0, 0, 0), eperm),
        "fanotify_init": ((1 << 30, 0), eperm), "quotactl": ((0, none, 0, none), eperm),
        "kexec_load": ((0, 0, none, 1 << 10), eperm), "init_module": ((none, 0, none), eperm),
        "finit_module": ((-1, none, 0), eperm), "swapon": ((nowhere, 0), eperm), "acct": ((nowhere,), eperm),
        "reboot": ((0, 0, 0, none), eperm), "syslog": ((10, none, 0), eperm),
        "clock_settime": ((9999, none), eperm), "iopl": ((7,), eperm), "modify_ldt": ((99, none, 0), eperm),
        "move_pages": ((0, 0, none, none, none, 0), eperm), "ptrace": ((99, 0, 0, 0), eperm),
        "io_setup": ((0, none), enosys), "vmsplice": ((-1, none, 0, 0), enosys),
        "remap_file_pages": ((0, 0, 1, 0, 0), enosys), "landlock_create_ruleset": ((none, 0, 1), enosys),
        "seccomp": ((99, 0, none), errno.EINVAL),
    }
    for name, (arguments, expected) in calls.items():
        code = call(NR[name], *arguments)
        yield "call:" + name, code == expected, name_of(code), code not in (expected, eperm, enosys, errno.EACCES)
    for name, request in {"NS_GET_USERNS": 0xB701, "FS_IOC_SETFLAGS": 0x40086602, "TIOCLINUX": 0x541C, "TIOCSETD": 0x5423,
                          "FITRIM": 0xC0185879, "SIOCSIFADDR": 0x8916}.items():
        code = call(NR["ioctl"], -1, request, none)
        yield "ioctl:" + name, code == errno.ENOTTY, name_of(code), code == errno.EBADF
    for name, option in {"PR_SET_MM": 35, "PR_MCE_KILL": 33, "PR_SET_MEMORY_MERGE": 67, "PR_SET_SYSCALL_USER_DISPATCH": 59}.items():
        code = in_child(lambda option=option: call(NR["prctl"], option, 0, 0, 0, 0))
        yield "prctl:" + name, code == errno.EINVAL, name_of(code)
    code = call(NR["mknod"], ctypes.c_char_p(b"whiteout"), 0o020600, 0)
    yield "mknod:whiteout", code == eperm, name_of(code), code == 0
    code = in_child(lambda: call(NR["personality"], 0x0040000))
    yield "call:personality", code == eperm, name_of(code)
    yield "useful:personality", call(NR["personality"], 0xFFFFFFFF) == 0, "asked"


@probe
def effects(targets):
    """Calls with arguments that would work, in a child that first tries for namespaces of its own: there they do no
    harm, and where it gets none only the rights that it has are asked."""
    none = ctypes.c_void_p(None)
    text = ctypes.c_char_p
    bind_remount = 4096 | 32

    def alone(*arguments):
        def attempt():
            for _ in range(8):  # the namespace of the child before may not be gone yet
                if call(272, 0x10000000 | 0x00020000 | 0x04000000) != errno.ENOSPC:
                    break
                time.sleep(0.01)
            call(NR["mount"], none, text(b"/"), none, 0x4000 | 0x40000, none)  # MS_REC | MS_PRIVATE
            return call(*arguments)
        return attempt

    def traced():
        child = os.fork()
        if child == 0:
            signal.pause()
        code = call(NR["ptrace"], 16, child, 0, 0)
        os.kill(child, signal.SIGKILL)
        return code

    def memory():
        byte = ctypes.create_string_buffer(b"x")
        vector = struct.pack("PN", ctypes.addressof(byte), 1)
        child = os.fork()
        if child == 0:
            signal.pause()
        code = call(NR["process_vm_readv"], child, text(vector), 1, text(vector), 1, 0)
        os.kill(child, signal.SIGKILL)
        return code

    attempts = {
        "mount": alone(NR["mount"], text(b"probe"), text(b"/tmp"), text(b"tmpfs"), 0, none),
        "bind": alone(NR["mount"], text(b"/usr"), text(b"/tmp"), none, 4096, none),
        "remount": alone(NR["mount"], none, text(b"/"), none, bind_remount, none),
        "umount": alone(NR["umount2"], text(b"/proc"), 2),
        "chroot": alone(161, text(b"/tmp")),
        "hostname": alone(170, text(b"probe"), 5),
        "fsopen": alone(NR["fsopen"], text(b"tmpfs"), 0),
        "open_tree": alone(NR["open_tree"], -100, text(b"/usr"), 1),
        "setuid": lambda: call(105, 0 if os.getuid() else 1),
        "setgroups": lambda: call(116, 0, none),
        "nice": lambda: call(141, 0, 0, ctypes.c_long(-5)),
        "realtime": lambda: call(144, 0, 1, text(struct.pack("i", 1))),
        "ptrace": traced,
        "process_vm_readv": memory,
        "io_uring": lambda: call(NR["io_uring_setup"], 1, ctypes.create_string_buffer(120)),
        "userfaultfd": lambda: call(NR["userfaultfd"], 1),
        "bpf": lambda: call(NR["bpf"], 0, text(struct.pack("IIII", 2, 4, 4, 1) + bytes(112)), 128),
        "perf": lambda: call(NR["perf_event_open"], ctypes.create_string_buffer(struct.pack("II", 1, 112) + bytes(104)), 0, -1, -1, 0),
        "fanotify": lambda: call(NR["fanotify_init"], 0x200, 0),
        "settimeofday": lambda: call(164, none, none),
        "swapoff": lambda: call(168, text(b"/nonexistent/probe")),
        "syslog": lambda: call(NR["syslog"], 10, none, 0),
        "iopl": lambda: call(NR["iopl"], 3),
    }
    for name, attempt in attempts.items():
        code = in_child(attempt)
        yield "effect:" + name, code != 0, name_of(code)


@probe
def foreign_architectures(targets):
    """The x32 and i386 tables are another way to every call."""
    code = in_child(lambda: call(0x40000000 | 39))
    yield "x32", code == -signal.SIGSYS, name_of(code) if code > 0 else str(code), code == 0
    if os.uname().machine == "x86_64":
        import mmap
        code = in_child(lambda: run_code(mmap, b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"))  # mov eax, 20; int 0x80; ret
        yield "i386", code == -signal.SIGSYS, str(code), code == 0


def run_code(mmap, code):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return 0 if function() else 1


@probe
def limits(targets):
    yield "limit:core", resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), ""
    for name in ("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_FSIZE"):
        soft, hard = resource.getrlimit(getattr(resource, name))
        yield "limit:" + name, hard != resource.RLIM_INFINITY and soft == hard, "%d %d" % (soft, hard)
    for path in ("/tmp", "/dev/shm", os.path.expanduser("~")):
        info = os.statvfs(path)
        own = os.stat(path).st_dev not in (os.stat("/usr").st_dev,)
        yield "tmpfs:" + path, own and info.f_files > 0, "%d MiB, %d inodes" % (
            info.f_blocks * info.f_frsize >> 20, info.f_files)


@probe
def proc_files(targets):
    """What tells of the host is empty; what acts on it cannot be written."""
    for name in ("kcore", "keys", "key-users", "kallsyms", "timer_list", "sched_debug", "interrupts", "cmdline",
                 "config.gz", "diskstats", "partitions", "iomem", "ioports", "modules", "slabinfo", "locks",
                 "softirqs", "swaps", "kmsg", "devices"):
        path = "/proc/" + name
        if not os.path.exists(path):
            yield "proc:" + name, True, "not there"
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            got = os.read(fd, 64)
            os.close(fd)
            yield "proc:" + name, not got, "%d bytes" % len(got)
        except OSError as error:
            yield "proc:" + name, True, name_of(error.errno)
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
                 "/proc/sys/user/max_user_namespaces", "/proc/pressure/memory"):
        if not os.path.exists(path):
            yield "proc_write:" + path, True, "not there"
            continue
        try:
            os.close(os.open(path, os.O_WRONLY))
            # An empty /dev/null in its place can be opened and does nothing.
            null = os.stat(path).st_rdev == os.makedev(1, 3)
            yield "proc_write:" + path, null, "can be opened for writing"
        except OSError as error:
            yield "proc_write:" + path, True, name_of(error.errno)


@probe
def words_of_the_host(targets):
    """The host's names in what any process may read of itself."""
    for word in targets.get("words", []):
        for path in ("/proc/self/environ", "/proc/1/cmdline", "/etc/passwd", "/etc/hosts", "/etc/hostname",
                     "/etc/resolv.conf", "/proc/self/cgroup"):
            try:
                with open(path, "rb") as file:
                    yield "word:%s:%s" % (word, path), word.encode() not in file.read(), ""
            except OSError as error:
                yield "word:%s:%s" % (word, path), True, name_of(error.errno)


@probe
def keyring(targets):
    """A key in the session keyring that the launch was given."""
    for name in targets.get("keys", []):
        kind, word = ctypes.c_char_p(b"user"), ctypes.c_char_p(name.encode())
        code = call(NR["keyctl"], 10, -3, kind, word, 0)  # KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING
        yield "keyring", code == errno.EPERM, name_of(code), code == 0


def run(targets=None):
    """All probes as a list of dictionaries."""
    results = []
    for function in PROBES:
        try:
            for name, ok, detail, *reached in function(targets or {}):
                reached = bool(reached[0]) if reached else not ok
                results.append({"name": name, "ok": bool(ok), "reached": reached, "detail": str(detail)})
        except Exception as error:  # a probe that breaks must not hide the others
            refused = isinstance(error, PermissionError)
            results.append({"name": function.__name__, "ok": False, "reached": not refused, "detail": repr(error)})
    return results


def main():
    targets = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    for result in run(targets):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
