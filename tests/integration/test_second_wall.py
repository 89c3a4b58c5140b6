"""The wall without namespaces ("wall": "landlock"): the same kernel, relay, staging and collection, on hosts that give none."""

import json
import os
import signal
import socket
import subprocess
import threading


import harness
import processes
import pytest
from harness import ISOLATED, SLEEP, shell
from test_hosts import CALLS, CONTAINER, filtered

ROOT = os.geteuid() == 0
# What container engines leave to root: no CAP_SYS_ADMIN, no CAP_SYS_PTRACE.
KEPT = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,setfcap"
CAPABILITIES = ["setpriv", "--bounding-set", "-all," + ",".join("+" + name for name in KEPT.split(","))] if ROOT else []


@pytest.fixture(autouse=ROOT)
def entered(site):
    """As root the kernel's own uid comes to its files through the directories above them."""
    for path in (site.root, site.state):
        path.chmod(0o711)
    yield
    for path in (site.root, site.state):
        path.chmod(0o700)


@pytest.fixture
def policy(site):
    return site.policy({"wall": "landlock"})


@pytest.fixture
def begin(site, start, policy):
    def go(**files):
        project = site.project(**files)
        project.chmod(0o755)
        return start(ISOLATED, cwd=project, spec=site.variant("--policy", policy))

    return go


def text(run):
    return run.stdout if run.status == "ok" else run.problem


def test_packages_for_a_cell_are_refused_in_words(site, start):
    """What a build makes is shown by a mount; `cellwall kernel --env` says the same before it starts."""
    project = site.project()
    project.chmod(0o755)
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", site.policy({"wall": "landlock", "install": "allow"})))
    notices = kernel.run("%pip install alpha --retries 0 --timeout 1").notices
    assert any("nothing is installed" in notice and "needs a wall of namespaces" in notice for notice in notices), notices


@pytest.mark.skipif(not ROOT, reason="root only")
def test_root_that_cannot(site, launch, policy):
    """Without the capabilities, or where the kernel's own uid comes to nothing: one line says what to do."""
    unable = ["setpriv", "--bounding-set", "-setuid"]
    launched = launch(*SLEEP, options=("--policy", policy), wrapper=unable)
    assert launched.wait(15) == 1 and "CAP_SETUID" in launched.log, launched.log
    site.state.chmod(0o700)
    launched = launch(*SLEEP, options=("--policy", policy))
    assert launched.wait(15) == 1 and "XDG_STATE_HOME=/var/lib" in launched.log, launched.log
    assert not site.private_directories()
    site.state.chmod(0o711)
    project = site.project(staging__in__a_csv="x")
    launched = launch(*SLEEP, options=("--policy", policy), cwd=project)
    assert launched.wait(15) == 1 and "chmod -R o+rX" in launched.log and "staging/in" in launched.log, launched.log


@pytest.mark.skipif(not ROOT, reason="root only")
def test_root_is_somebody_else(site, begin):
    """A uid that owns nothing, no capability, no group; what root alone may read stays so beside Landlock."""
    kernel = begin(staging__in__a_csv="x\n1\n")
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups(), [l for l in open('/proc/self/status') if l.startswith('Cap')])"
    said = kernel.run(code).stdout
    uid = int(said[1:].split(",")[0])
    assert uid >= 0x70000000 and said.count(str(uid)) == 6 and said.count("0000000000000000") == 5 and ") [] [" in said, said
    assert kernel.run("open('mine', 'w').write('x')").status == "ok"
    out = kernel.cwd / "staging" / "out" / "mine"
    assert processes.wait_until(out.exists, 10 * harness.PATIENCE) and out.stat().st_uid == 0


def test_needs_scopes(launch, policy):
    wrapper = filtered({CALLS["landlock_create_ruleset"]: 38})
    launched = launch(*SLEEP, options=("--policy", policy), wrapper=wrapper)
    assert launched.wait(15) == 1 and "needs Landlock ABI 6" in launched.log, launched.log


def test_where_containers_refuse_namespaces(launch, policy):
    """Under the answers of a container engine's default filter the first wall does not stand, this one does."""
    wrapper = CAPABILITIES + filtered(dict.fromkeys(CONTAINER.values(), 1), namespaces=True)
    hello = shell("echo the kernel runs")
    launched = launch(*hello, wrapper=wrapper)
    assert launched.wait(15) == 1 and '"wall": "landlock"' in launched.log, launched.log
    launched = launch(*hello, options=("--policy", policy), wrapper=wrapper)
    assert launched.wait(15) == 0 and "the kernel runs" in launched.log, launched.log
    assert "the kernel has no user-namespace" in launched.log


def test_a_notebook(begin):
    """What a data scientist does: inputs, results, libraries, an interrupt, a restart; and what there is not."""
    kernel = begin(staging__in__a_csv="x\n1\n", data__b_csv="1")
    run = kernel.run("import pandas; print(pandas.read_csv('staging/in/a_csv').x.sum())")
    assert run.stdout == "1\n", run.problem
    code = """
import matplotlib, numpy, pandas, sqlite3, subprocess, tempfile, threading
from concurrent.futures import ThreadPoolExecutor
from sklearn.linear_model import LinearRegression
matplotlib.use('agg')
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.savefig('plot.png')
assert numpy.linalg.inv(numpy.eye(200)).shape == (200, 200)
assert LinearRegression().fit([[1], [2]], [1, 2]).coef_[0] > 0.9
base = sqlite3.connect('x.db'); base.execute('create table t (a)'); base.commit(); base.close()
with tempfile.TemporaryDirectory() as directory: open(directory + '/x', 'w').close()
assert list(ThreadPoolExecutor(4).map(abs, [-1, 2])) == [1, 2]
assert subprocess.run(['ls', '/usr'], capture_output=True, check=True).stdout
import os
os.makedirs('staging/out', exist_ok=True)
pandas.DataFrame({'a': [1]}).to_csv('staging/out/r.csv')
print('all fine')
"""
    run = kernel.run(code, timeout=90)
    assert "all fine" in run.stdout, run.problem
    out = kernel.cwd / "staging" / "out"
    assert processes.wait_until(lambda: {"r.csv", "plot.png", "x.db"} <= {path.name for path in out.rglob("*")}, 10 * harness.PATIENCE), list(out.rglob("*"))
    assert not list(out.rglob("a_csv")) and not [line for line in kernel.log.splitlines() if "symbolic link" in line]
    assert kernel.run("open('staging/in/a_csv', 'w')").status == "error"
    assert "PermissionError" in kernel.run("import multiprocessing; multiprocessing.Lock()").problem
    threading.Timer(1, kernel.manager.interrupt_kernel).start()
    assert "KeyboardInterrupt" in kernel.run("import time; time.sleep(30)").problem


CHECKS = {
    "file": "print('REACHED', open({secret!r}).read())",
    "list": "import os; print('REACHED', os.listdir({home!r}))",
    "write": "open({home!r} + '/written', 'w'); print('REACHED')",
    "mode": "import os; os.chmod({secret!r}, 0o606); print('REACHED' if os.stat({secret!r}).st_mode & 0o777 == 0o606 else '')",
    "times": "import os; os.utime({secret!r}, (1, 1)); print('REACHED' if os.stat({secret!r}).st_mtime == 1 else '')",
    "socket": "import socket; s = socket.socket(socket.AF_UNIX); s.connect({socket!r}); print('REACHED')",
    "datagram": "import socket; a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); a.sendto(b'x', {socket!r}); print('REACHED')",
    "abstract": "import socket; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + {abstract!r}); print('REACHED')",
    "network": "import socket; socket.create_connection(('127.0.0.1', {port})); print('REACHED')",
    "datagrams": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM); print('REACHED')",
    "signal": "import os; os.kill({pid}, 0); print('REACHED')",
    "memory": "print('REACHED', open('/proc/{pid}/environ').read())",
    "command": "print('REACHED', open('/proc/{pid}/cmdline').read())",
    "processes": "import os; print('REACHED', os.listdir('/proc'))",
    "limits": "import resource; resource.prlimit({pid}, resource.RLIMIT_CORE, (0, 0)); print('REACHED')",
    "affinity": "import os; os.sched_setaffinity({pid}, {{0}}); print('REACHED')",
    "priority": "import os; os.setpriority(os.PRIO_PROCESS, {pid}, 19); print('REACHED')",
    "shared-memory": "import ctypes; print('REACHED' if ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0 else '')",
    "watching": "import ctypes; l = ctypes.CDLL(None); print('REACHED' if l.inotify_add_watch(l.inotify_init(), {home!r}.encode(), 256) >= 0 else '')",
    "namespaces": "import subprocess; print('' if subprocess.run(['unshare', '--user', 'true']).returncode else 'REACHED')",
}


def test_out_of_reach(site, begin, start):
    path = site.home / "second.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(8)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0second-wall-{os.getpid()}")
    abstract.listen(8)
    tcp = socket.create_server(("127.0.0.1", 0))
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagram.bind(str(path) + ".d")
    sleeper = subprocess.Popen(["sleep", "1000"])
    places = {
        "secret": str(site.home / ".ssh" / "x"), "home": str(site.home), "socket": str(path), "port": tcp.getsockname()[1],
        "abstract": f"second-wall-{os.getpid()}", "pid": sleeper.pid,
    }  # fmt: skip
    try:
        kernel, direct = begin(), start(harness.DIRECT)
        for name, code in CHECKS.items():
            values = dict(places, socket=places["socket"] + ".d") if name == "datagram" else places
            run = kernel.run(code.format(**values))
            assert "REACHED" not in run.stdout, (name, run.stdout)
            run = direct.run(code.format(**values))
            assert "REACHED" in run.stdout, (name, run.problem)
        assert kernel.run("import os; os.kill(-1, 15)").status == "ok"  # to all that it may reach: itself is spared
        assert sleeper.poll() is None and kernel.run("1").result == "1"
    finally:
        sleeper.kill()
        sleeper.wait()
        for one in (server, abstract, tcp, datagram):
            one.close()


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3, 64):
            try: os.close(fd)
            except OSError: pass
        time.sleep(1000)
    os._exit(0)
os.wait()
"""


def gone(marks):
    return processes.wait_until(lambda: not [mark for mark in marks if mark.alive()], 10 * harness.PATIENCE)


@pytest.mark.parametrize("killed", ["", "proxy", "supervisor", "stand-in"])
def test_nothing_stays(begin, nothing_left, killed):
    """However it ends, what the kernel started ends too: there is no pid namespace that would see to it."""
    kernel = begin()
    with open(f"/proc/{kernel.roles()['relay'].pid}/status", encoding="utf-8") as file:
        status = dict(line.split(":", 1) for line in file)
    assert int(status["Seccomp"]) == 2 and int(status["NoNewPrivs"]) == 1 and int(status["CapPrm"], 16) == 0
    assert kernel.run(DAEMON).status == "ok"
    inside = int(text(kernel.run("import os; print(os.getpid())")))
    stand_in = processes.read(processes.read(inside).parent)
    marks = [process for process in processes.tree(stand_in.pid) if process.pid != stand_in.pid]
    assert len(marks) >= 2, marks
    if killed == "proxy":
        kernel.roles()["proxy"].kill(signal.SIGKILL)
    elif killed == "supervisor":
        kernel.roles()["supervisor"].kill(signal.SIGKILL)
    elif killed == "stand-in":
        stand_in.kill(signal.SIGKILL)
    else:
        kernel.close()
    assert gone([*marks, stand_in]), processes.everything()


def test_layers_are_recorded(site, launch, policy):
    launched = launch(*shell("true"), options=("--policy", policy))
    assert launched.wait(15) == 0
    assert "the kernel has no user-namespace inner-user-namespace pid-namespace" in launched.log
    assert "is not reported" not in launched.log
    shown = json.loads(site.run("policy", "show", policy).stdout)
    assert shown["wall"] == "landlock"
