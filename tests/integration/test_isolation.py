"""What a cell can reach. Each check runs without the wall too and reaches its aim there, so that it can fail.

A check is a piece of code that prints REACHED when it got what it must not get. What only root may have on the host
(/etc/shadow) is checked outside only when the suite runs as root.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import socket
import subprocess
import textwrap
import threading

import harness
import pytest
from harness import DIRECT, ISOLATED

ROOT = os.geteuid() == 0
PROBE = pathlib.Path(os.environ.get("CELLWALL_TESTS", pathlib.Path(__file__).parents[1])) / "probe" / "inside.py"


class Host:
    """Things of the host that a kernel must not reach, for as long as the tests of this module run."""

    def __init__(self, site):
        self.site = site
        self.loopback = self._serve(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.port = self.loopback.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp_port = self.udp.getsockname()[1]
        threading.Thread(target=self._answer_names, daemon=True).start()
        self.abstract_name = f"cellwall-test-{os.getpid()}"
        self.abstract = self._serve(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.abstract_name)
        self.path = site.home / "host.sock"
        self.by_path = self._serve(socket.AF_UNIX, socket.SOCK_STREAM, str(self.path))
        os.chmod(self.path, 0o777)
        self.marker = f"86{os.getpid()}.25"
        self.process = subprocess.Popen(["sleep", self.marker])
        self.keyring_word = "cellwall-test-key"
        self.keyring = self._add_key()
        self.writable = site.home / "may-be-written"
        self.writable.mkdir()

    @staticmethod
    def _serve(family, kind, address):
        server = socket.socket(family, kind)
        server.bind(address)
        server.listen(8)

        def loop():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"HELLO FROM THE HOST")

        threading.Thread(target=loop, daemon=True).start()
        return server

    def _answer_names(self):
        while True:
            try:
                data, address = self.udp.recvfrom(512)
            except OSError:
                return
            self.udp.sendto(b"ANSWER " + data[:2], address)

    def _add_key(self):
        """A key in the session keyring, which children inherit (keyrings(7)); None where the host has none."""
        libc = ctypes.CDLL(None, use_errno=True)
        serial = libc.syscall(248, b"user", self.keyring_word.encode(), b"key material", 12, -3)
        return serial if serial > 0 else None

    def close(self):
        self.process.kill()
        self.process.wait()
        for server in (self.loopback, self.abstract, self.by_path, self.udp):
            server.close()


@pytest.fixture(scope="module")
def host(site):
    host = Host(site)
    yield host
    host.close()


@pytest.fixture(scope="module", params=[DIRECT, ISOLATED])
def kernel(request, host, site):
    site.put(site.root, "shown/plain.txt", "shown")
    kernel = harness.Kernel(site, request.param, cwd=site.project(staging__in__given_txt="given"))
    yield kernel
    kernel.close()


CHECKS = {
    "interface": """
        names = [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]
        if [name for name in names if name != 'lo']: print('REACHED', names)
    """,
    "interface-ioctl": """
        import socket
        names = [name for _, name in socket.if_nameindex()]
        if [name for name in names if name != 'lo']: print('REACHED', names)
    """,
    "loopback": """
        import socket
        print('REACHED', socket.create_connection(('127.0.0.1', {port}), 3).recv(99))
    """,
    "loopback-by-any-address": """
        import socket
        print('REACHED', socket.create_connection(('0.0.0.0', {port}), 3).recv(99))
    """,
    "abstract-socket": """
        import socket
        s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect('\\0{abstract}')
        print('REACHED', s.recv(99))
    """,
    "socket-path": """
        import socket
        s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect({socket_path!r})
        print('REACHED', s.recv(99))
    """,
    "datagram": """
        import socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
        s.sendto(b'xx', ('127.0.0.1', {udp_port})); print('REACHED', s.recv(99))
    """,
    "home-ssh": """
        print('REACHED', open({home!r} + '/.ssh/x').read())
    """,
    "home-expanded": """
        import os
        print('REACHED', open(os.path.expanduser('~/.ssh/x')).read())
    """,
    "home-listed": """
        import os
        if 'may-be-written' in os.listdir({home!r}): print('REACHED')
    """,
    "shadow-exists": """
        import os
        if os.path.exists('/etc/shadow'): print('REACHED')
    """,
    "environment": """
        import os
        if {secret!r} in str(os.environ): print('REACHED')
    """,
    "environment-of-others": """
        import glob
        for path in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/task/*/environ'):
            try:
                if {secret!r}.encode() in open(path, 'rb').read(): print('REACHED', path)
            except OSError: pass
    """,
    "environment-of-pid-1": """
        print('REACHED' if open('/proc/1/environ', 'rb').read() else '')
    """,
    "processes": """
        import glob
        for path in glob.glob('/proc/[0-9]*/cmdline'):
            try:
                if {marker!r}.encode() in open(path, 'rb').read(): print('REACHED', path)
            except OSError: pass
    """,
    "signal": """
        import os
        os.kill({pid}, 0)
        if b'{marker}' in open('/proc/{pid}/cmdline', 'rb').read(): print('REACHED')
    """,
    "connection-file": """
        print('REACHED', open({connection_file!r}).read())
    """,
    "outer-key-anywhere": """
        import glob, os, sys
        sys.setrecursionlimit(20000)  # os.walk, in trees that others left below /tmp
        def places():
            yield from ('/proc/self/environ', *glob.glob('/proc/[0-9]*/cmdline'), *glob.glob('/proc/[0-9]*/environ'), {connection_file!r})
            for top in ('/cellwall', '/tmp', '/work', '/home', '/dev/shm', '/run', '/s'):
                for directory, _, names in os.walk(top):
                    yield from (os.path.join(directory, name) for name in names)
        for place in places():
            try:
                if os.path.isfile(place) and {yek!r}[::-1].encode() in open(place, 'rb').read(1 << 20):
                    print('REACHED', place)
                    break  # outside there may be a great deal more
            except OSError: pass
    """,
    "keyring": """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        serial = libc.syscall(250, 10, -3, b'user', {key_word!r}.encode(), 0)
        if serial > 0: print('REACHED')
    """,
    "write-outside": """
        open({writable!r} + '/from-inside', 'w').write('x'); print('REACHED')
    """,
    "write-interpreter": """
        import sys
        open(sys.prefix + '/cellwall-was-here', 'w').close(); print('REACHED')
    """,
    "write-staged": """
        open('staging/in/given_txt', 'a').write('x'); print('REACHED')
    """,
    "new-user-namespace": """
        import subprocess
        print('REACHED' if subprocess.run(['unshare', '--user', 'true'], capture_output=True).returncode == 0 else '')
    """,
    "setuid-bit": """
        import os, stat
        open('s', 'w').close(); os.chmod('s', 0o4755)
        if os.stat('s').st_mode & stat.S_ISUID: print('REACHED')
    """,
    "sys": """
        import os
        if os.listdir('/sys'): print('REACHED')
    """,
    "run": """
        import os
        if os.listdir('/run'): print('REACHED')
    """,
    "host-directory": """
        import os
        if os.path.exists({root!r}): print('REACHED')
    """,
    "mounts": """
        if [l for l in open('/proc/self/mountinfo') if l.split()[4] in ('/var', '/var/tmp', '/root', '/boot', '/sys', '/run') or {root!r} in l.split()[4]]: print('REACHED')
        import os
        if os.path.exists({root!r}) : print('REACHED')
    """,
    "memory-of-pid-1": """
        open('/proc/1/maps').read(1); import os; os.readlink('/proc/1/exe'); print('REACHED')
    """,
    "hostname": """
        import socket
        if socket.gethostname() == {hostname!r}: print('REACHED')
    """,
    "user-name": """
        import pwd
        if any(u.pw_name in ('daemon', 'cellwall-test') for u in pwd.getpwall()): print('REACHED')
    """,
}
ROOT_ONLY_OUTSIDE = {"write-interpreter"}
OF_PID_1 = {"environment-of-pid-1": "/proc/1/environ", "memory-of-pid-1": "/proc/1/maps"}  # not even root's everywhere


def readable(path):
    try:
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def prepare(check, host, kernel):
    values = {
        "port": host.port,
        "udp_port": host.udp_port,
        "abstract": host.abstract_name,
        "socket_path": str(host.path),
        "home": str(host.site.home),
        "secret": host.site.secret,
        "marker": host.marker,
        "pid": host.process.pid,
        "connection_file": kernel.connection_file,
        "yek": json.load(open(kernel.connection_file))["key"][::-1],  # the history holds this cell's own text
        "key_word": host.keyring_word,
        "writable": str(host.writable),
        "root": str(host.site.root),
        "hostname": socket.gethostname(),
    }
    return textwrap.dedent(CHECKS[check]).format(**values)


@pytest.mark.core
@pytest.mark.parametrize("check", CHECKS)
def test_out_of_reach(kernel, host, check):
    run = kernel.run(prepare(check, host, kernel))
    reached = "REACHED" in run.stdout
    if kernel.kind == ISOLATED:
        assert not reached, run.stdout
        return
    if (check in ROOT_ONLY_OUTSIDE and not ROOT) or (check in OF_PID_1 and not readable(OF_PID_1[check])):
        return
    if check == "keyring" and host.keyring is None:
        pytest.skip("this host has no keyrings to reach")
    if check.startswith("interface") and len(socket.if_nameindex()) == 1:
        pytest.skip("this host has no interface but lo")
    if check == "hostname":
        assert reached or socket.gethostname() == "cellwall"
        return
    assert reached, f"the check cannot fail: {run.stdout}{run.problem}"


def test_shadow_of_the_host(kernel):
    if kernel.kind == DIRECT and not ROOT:
        pytest.skip("an ordinary user cannot read it on the host either")
    run = kernel.run("print(open('/etc/shadow').read()[:5])")
    assert (run.status == "ok") == (kernel.kind == DIRECT)


def test_name_resolution_fails(kernel):
    if kernel.kind == DIRECT:
        assert kernel.run("import socket; socket.getaddrinfo('localhost', 1)").status == "ok"
        return
    run = kernel.run("import socket; socket.setdefaulttimeout(3); socket.getaddrinfo('example.org', 80)")
    assert run.status == "error" and "gaierror" in run.problem


def test_socket_in_a_staged_directory(site, host, start):
    """A socket that somebody on the host makes in a staged directory after the start: visible, but not a way out."""
    for kind in (DIRECT, ISOLATED):
        project = site.project(data__a_csv="1")
        policy = site.policy({"stage": {"in": ["data"]}})
        spec = site.variant("--policy", policy) if kind == ISOLATED else None
        kernel = start(kind, cwd=project, spec=spec)
        assert kernel.run("open('data/a_csv').read()").result == "'1'"
        here = os.getcwd()
        os.chdir(project / "data")  # a short name for a socket address
        server = Host._serve(socket.AF_UNIX, socket.SOCK_STREAM, "late.sock")
        os.chdir(here)
        os.chmod(project / "data" / "late.sock", 0o777)
        code = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect('data/late.sock'); s.recv(99)"
        )
        run = kernel.run(code)
        os.mkfifo(project / "data" / "late.fifo")
        os.chmod(project / "data" / "late.fifo", 0o666)
        reader = os.open(project / "data" / "late.fifo", os.O_RDONLY | os.O_NONBLOCK)
        fifo = kernel.run("import os; os.write(os.open('data/late.fifo', os.O_WRONLY | os.O_NONBLOCK), b'x')")
        server.close()
        os.close(reader)
        if kind == ISOLATED and not ROOT:
            pytest.skip("not promised to an ordinary user, see SECURITY.md")
        assert (run.status == "ok") == (kind == DIRECT), run.result if run.status == "ok" else run.problem
        assert (fifo.status == "ok") == (kind == DIRECT), fifo.problem


def test_what_the_host_changes_is_seen(site, start):
    """Inputs are the host's files of this moment: new, replaced and removed ones, also under a name that was asked for before."""
    for kind in (DIRECT, ISOLATED):
        kernel = start(kind, cwd=site.project(staging__in__a="old", staging__in__sub__b="old"))
        staged = kernel.cwd / "staging" / "in"
        look = (
            "import os\n"
            "def read(name):\n"
            "    try: return open('staging/in/' + name).read()\n"
            "    except FileNotFoundError: return None\n"
            "[read(name) for name in ('a', 'sub/b', 'c', 'sub/d')]"
        )
        assert kernel.run(look).result == "['old', 'old', None, None]"
        for name in ("a", "sub/b", "c", "sub/d"):
            (staged / "new").write_text("new")
            (staged / "new").rename(staged / name)
        assert kernel.run(look).result == "['new', 'new', 'new', 'new']"
        (staged / "a").unlink()
        assert kernel.run(look).result == "[None, 'new', 'new', 'new']"


def test_places_that_cannot_be_written(kernel):
    own = ("/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/self/mem", "/proc/self/task/%d/comm")
    run = kernel.run(
        f"import os, sys, tempfile\nown = [path.replace('%d', str(os.getpid())) for path in {own}]\n"
        "def write(*paths):\n"
        "    for path in paths:\n"
        "        try:\n"
        "            os.close(os.open(path, os.O_WRONLY)); print('WROTE', path)\n"
        "        except OSError: pass\n"
        "write(*own)\n"
    )
    assert run.status == "ok", run.problem
    if kernel.kind == DIRECT:
        assert run.stdout.count("WROTE") == len(own), run.stdout
        return
    assert run.stdout == ""
    run = kernel.run(
        "for place in ('/', '/usr', '/usr/bin', '/etc', '/home', '/dev', '/proc', '/cellwall', '/bin', '/lib', sys.prefix, sys.base_prefix,\n"
        "              '/work/staging/in'):\n"
        "    try:\n"
        "        open(place + '/cellwall-was-here', 'w').close()\n"
        "        print('WROTE', place)\n"
        "    except OSError: pass\n"
        "write('/etc/passwd', '/etc/hosts', '/proc/sys/kernel/hostname', '/work/staging/in/given_txt')\n"
        "for place in ('/work', '/tmp', '/dev/shm', os.environ['HOME'], '/work/staging/out'):\n"
        "    open(place + '/.may', 'w').close(); os.unlink(place + '/.may')\n"
    )
    assert run.status == "ok", run.problem
    wrong = [line for line in run.stdout.splitlines() if line != "WROTE /cellwall"]  # the sockets' own directory
    assert wrong == []


def test_inherited_descriptors_are_closed(site):
    """A descriptor that the server leaks into its children is read directly, and is not there behind the wall."""
    secret = site.put(site.root, "leaked.txt", site.secret)
    for kind in (DIRECT, ISOLATED):
        descriptor = os.open(secret, os.O_RDONLY)
        os.set_inheritable(descriptor, True)
        kernel = harness.Kernel(site, kind, pass_fds=(descriptor,))
        try:
            run = kernel.run(
                "import os\n"
                "for fd in range(3, 200):\n"
                "    try:\n"
                "        if os.pread(fd, 99, 0).startswith(b'host-secret'): print('REACHED', fd)\n"
                "    except OSError: pass\n"
            )
            assert ("REACHED" in run.stdout) == (kind == DIRECT), run.stdout
            if kind == ISOLATED:
                links = kernel.run("import os; print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)])").stdout
                assert str(site.root) not in links and os.getcwd() not in links
        finally:
            kernel.close()
            os.close(descriptor)


def test_who_the_kernel_is(kernel):
    if kernel.kind == DIRECT:
        return
    facts = kernel.run(
        "import json, os, socket\n"
        "status = {line.split(':')[0]: line.split(':')[1].strip() for line in open('/proc/self/status')}\n"
        "print(json.dumps({'uid': os.getuid(), 'euid': os.geteuid(), 'groups': [g for g in os.getgroups() if g not in (os.getgid(), 65534)],\n"
        " 'caps': {k: v for k, v in status.items() if k.startswith('Cap')}, 'nnp': status['NoNewPrivs'],\n"
        " 'seccomp': status['Seccomp'], 'host': socket.gethostname(), 'cwd': os.getcwd(), 'home': os.environ['HOME'],\n"
        " 'session': os.getsid(0) not in (0, 1), 'visible': sorted(int(n) for n in os.listdir('/proc') if n.isdigit())[:1]}))"
    )
    assert facts.status == "ok", facts.problem
    facts = json.loads(facts.stdout)
    assert facts["uid"] == facts["euid"] == 1000 and facts["groups"] == []
    assert all(int(value, 16) == 0 for value in facts["caps"].values()), facts["caps"]
    assert facts["nnp"] == "1" and facts["seccomp"] == "2"
    first = kernel.run("print([line.split()[1] for line in open('/proc/1/status') if line.startswith('Cap')])").stdout
    assert set(first) <= set("[]', 0\n"), f"pid 1: {first}"
    assert facts["host"] == "cellwall" and facts["cwd"] == "/work" and facts["visible"] == [1]


def test_what_the_collector_may_do(start):
    """It handles names and files that the kernel made: as root it keeps what it takes to read and hand them over."""
    collector = start(ISOLATED).roles()["collector"]
    status = dict(line.split(":", 1) for line in open(f"/proc/{collector.pid}/status", encoding="utf-8"))
    wanted = {0, 1, 2, 3, 28} if ROOT else set()  # chown, dac_override, dac_read_search, fowner, lease
    for name in ("CapPrm", "CapEff"):
        assert {bit for bit in range(64) if int(status[name], 16) >> bit & 1} <= wanted, status[name]
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0 and int(status["NoNewPrivs"]) == 1
    assert not ROOT or int(status["CapBnd"], 16) == 0


def test_uid_on_the_host(start):
    """As root the kernel still runs as somebody who owns nothing here."""
    roles = start(ISOLATED).roles()
    if ROOT:
        assert roles["kernel"].uid not in (0, 65534)
    else:
        assert roles["kernel"].uid == os.geteuid()


@pytest.mark.core
def test_tree(start):
    """Each process of ours in its place: the relay and the kernel see neither each other nor the supervisor."""
    roles = start(ISOLATED).roles()
    assert {"proxy", "supervisor", "relay", "init", "kernel"} <= set(roles), roles
    assert roles["proxy"].namespaces == roles["supervisor"].namespaces == 1
    assert roles["relay"].inner_pid == roles["init"].inner_pid == 1
    assert roles["relay"].parent == roles["init"].parent == roles["supervisor"].pid
    if ROOT:
        space = {role: os.readlink(f"/proc/{process.pid}/ns/pid_for_children") for role, process in roles.items()}
        assert space["relay"] != space["init"] and space["kernel"] == space["init"]
        users = {role: os.readlink(f"/proc/{process.pid}/ns/user") for role, process in roles.items()}
        assert len({users["proxy"], users["relay"], users["kernel"]}) == 3
        network = {role: os.readlink(f"/proc/{process.pid}/ns/net") for role, process in roles.items()}
        assert network["proxy"] == network["supervisor"] != network["kernel"] == network["relay"]
        assert all(
            os.readlink(f"/proc/{roles[role].pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
            for role in ("relay", "kernel")
        )


def test_what_a_data_scientist_needs(kernel):
    """The same things that work outside work inside."""
    code = """
import ctypes, fcntl, multiprocessing, os, pty, shutil, socket, sqlite3, subprocess, tempfile, threading, uuid
import numpy, pandas
from multiprocessing import shared_memory, Pool
assert subprocess.run(['ls', '/usr'], capture_output=True, check=True).stdout
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname()); client.close(); server.close()
with tempfile.TemporaryDirectory() as directory:
    base = sqlite3.connect(directory + '/x.db'); base.execute('create table t (a)'); base.commit(); base.close()
memory = shared_memory.SharedMemory(create=True, size=1000); memory.close(); memory.unlink()
with multiprocessing.get_context('fork').Pool(2) as pool:
    assert pool.map(abs, [-1, 2]) == [1, 2]
assert numpy.linalg.inv(numpy.eye(300)).shape == (300, 300)
pandas.DataFrame({'a': [1, 2]}).to_csv(tempfile.gettempdir() + '/a.csv')
os.openpty()
assert os.path.realpath('/dev/stdin')
open('/dev/null', 'w').write('x'); assert len(open('/dev/urandom', 'rb').read(5)) == 5
threads = [threading.Thread(target=sum, args=(range(10),)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
multiprocessing.cpu_count(); uuid.uuid4(); shutil.disk_usage('.')
print('all fine')
"""
    run = kernel.run(code, timeout=60)
    assert run.stdout.endswith("all fine\n"), run.problem
    shell = kernel.run("!echo from the shell; echo $((6 * 7))")
    assert "from the shell" in shell.stdout and "42" in shell.stdout


def test_dask_cluster(kernel):
    """Several processes that talk TCP on the sandbox's own lo."""
    code = """
import dask.array
from dask.distributed import Client, LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client:
    print('sum', int(dask.array.arange(1000, chunks=100).sum().compute()))
"""
    run = kernel.run(code, timeout=90)
    assert "sum 499500" in run.stdout, run.problem


def test_numpy_of_debian(site, launch):
    """The system's interpreter and its numpy, whose BLAS is found through /etc/alternatives and ld.so.cache."""
    code = "import numpy; print('inverse', numpy.linalg.inv(numpy.eye(50)).sum())"
    launched = launch("/usr/bin/python3", "-c", code, "{inner_connection_file}", options=("--shared-environment",))
    assert launched.wait(30) == 0, launched.log
    assert "inverse 50.0" in launched.log


@pytest.mark.core
def test_probe_program(site, host, kernel):
    """tests/probe/inside.py: behind the wall every probe holds, without it most do not."""
    targets = {
        "files": [str(site.home / ".ssh" / "x"), "/etc/shadow", kernel.connection_file],
        "sockets": [str(host.path)],
        "port": host.port,
        "abstract": [host.abstract_name],
        "pids": [host.process.pid, os.getpid()],
        "environ": ["SECRET_OF_THE_HOST", "JPY_PARENT_PID"],
        "words": [site.secret[::-1]],
        "keys": [host.keyring_word] if host.keyring else [],
    }
    code = (
        f"import json; targets = {targets!r}; targets['words'] = [word[::-1] for word in targets['words']]\n"
        f"space = {{'__name__': 'probe'}}; exec({PROBE.read_text()!r}, space)\n"
        "print('RESULTS', json.dumps(space['run'](targets)))"
    )
    run = kernel.run(code, timeout=120)
    assert "RESULTS" in run.stdout, run.problem
    results = json.loads(run.stdout.split("RESULTS", 1)[1])
    bad = [result for result in results if not result["ok"]]
    harness.figure(f"{kernel.kind}: {len(results)} probes, {len(bad)} reach something")
    if kernel.kind == ISOLATED:
        assert bad == []
    else:
        walls = [result for result in results if not result["name"].startswith("useful:")]
        assert len([result for result in walls if not result["ok"]]) > len(walls) / (2 if ROOT else 4), (
            "the probes cannot fail"
        )
