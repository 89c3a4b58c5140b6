"""No process, mount, socket or directory stays behind, whoever is killed and whenever.

The kernel here is sleep(1) where its language does not matter: hundreds of starts fit into a minute.
"""

import fcntl
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time

import harness
import processes
import pytest
from harness import ISOLATED, SLEEP, shell

ROUNDS = int(os.environ.get("CELLWALL_ROUNDS", "30"))
ROLES = ["proxy", "supervisor", "relay", "init", "kernel", "collector"]


def assert_gone(site, launched, everybody, within=3):
    """All of them are gone soon after one of them was killed."""
    within *= harness.PATIENCE
    code = launched.wait(within)
    assert code is not None, f"the proxy still runs: {launched.roles()}"
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), within), [
        process for process in everybody if process.alive()
    ]
    assert processes.wait_until(lambda: not processes.strays(site.prefix, launched.since), within), processes.strays(
        site.prefix, launched.since
    )


@pytest.mark.core
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_killed_when_idle(site, launch, nothing_left, role, transport):
    for _ in range(3):
        launched = launch(*SLEEP, transport=transport)
        assert launched.wait_role("kernel"), launched.log
        time.sleep(0.2)
        everybody = processes.tree(launched.pid)
        victim = launched.roles().get(role)
        if role == "collector" and victim is None:
            pytest.skip("no collector runs while nothing is to be collected")
        assert victim is not None, launched.roles()
        victim.kill()
        if role == "collector":
            time.sleep(0.5)
            os.kill(launched.pid, signal.SIGTERM) if launched.process.poll() is None else None
        assert_gone(site, launched, everybody)


@pytest.mark.core
@pytest.mark.parametrize("role", ["proxy", "supervisor", "relay", "init"])
def test_killed_while_starting(site, launch, nothing_left, role):
    """SIGKILL at a random moment of the first 400 ms, or soon after the victim is there; whoever does not exist yet lets
    the proxy be it. Its sockets go too: before they are made there is a process that was told of them."""
    dice = random.Random(f"{role}-7")
    hit = 0
    for turn in range(ROUNDS):
        launched = launch(*SLEEP)
        if turn % 2:
            assert launched.wait_role(role), launched.log
        time.sleep(dice.uniform(0, 0.4) if dice.random() < 0.5 else dice.uniform(0, 0.06))
        everybody = processes.tree(launched.pid)
        roles = launched.roles()
        hit += role in roles
        roles.get(role, roles.get("proxy", processes.read(launched.pid))).kill()
        assert_gone(site, launched, everybody)
    assert hit >= ROUNDS / 4, f"{role} was there in {hit} of {ROUNDS} rounds only"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_signal_while_starting(site, launch, nothing_left, number):
    dice = random.Random(int(number))
    for _ in range(max(ROUNDS // 3, 5)):
        launched = launch(*SLEEP)
        time.sleep(dice.uniform(0, 0.1))
        os.kill(launched.pid, number)
        if number == signal.SIGINT:  # an interrupt ends nothing once the kernel is on its way
            time.sleep(0.1)
            os.kill(launched.pid, signal.SIGTERM) if launched.process.poll() is None else None
        everybody = processes.tree(launched.pid)
        assert_gone(site, launched, everybody)


@pytest.mark.core
def test_group_killed(site, launch, nothing_left):
    """What a server's last resort does: SIGKILL for the whole process group."""
    for _ in range(5):
        launched = launch(*SLEEP)
        assert launched.wait_role("kernel")
        everybody = processes.tree(launched.pid)
        os.killpg(launched.pid, signal.SIGKILL)
        assert_gone(site, launched, everybody)


def test_closed_terminal(site, launch, nothing_left):
    """The terminal in which it runs is closed: SIGHUP, EOF and write errors at once."""
    for delay in (0.0, 0.02, 0.5):
        leader, follower = pty.openpty()
        launched = launch(
            *SLEEP,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=False,
            preexec_fn=_own_terminal,
        )
        os.close(follower)
        time.sleep(delay)
        everybody = processes.tree(launched.pid)
        os.close(leader)
        assert_gone(site, launched, everybody)


def _own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_server_dies(site, launch, nothing_left):
    """The process that started it is killed; nobody sends a signal, the kernel's clients are gone for good.

    A kernel that JupyterLab's server left behind on a crash: the proxy notices that its parent is gone."""
    connection = site.root / "runtime" / "kernel-orphan.json"
    harness.write_connection_file(connection, "ipc")
    script = (
        "import os, subprocess, sys, time\n"
        "env = {**os.environ, 'JPY_PARENT_PID': str(os.getpid())}\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True, env=env)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    argv = [site.cellwall, "kernel", "-f", str(connection), "--", *SLEEP]
    for delay in (0.01, 0.5):
        server = subprocess.Popen(
            [sys.executable, "-c", script, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=site.project(),
            env=site.environment,
        )
        pid = int(server.stdout.readline())
        time.sleep(delay)
        server.kill()
        server.wait()
        gone = processes.wait_until(lambda: not processes.tree(pid), 5 * harness.PATIENCE)
        leftover = processes.tree(pid)
        for process in leftover:
            process.kill()
        assert gone, leftover


@pytest.mark.core
@pytest.mark.parametrize("reads", [True, False])
def test_supervisor_waits_for_nobody(site, start, reads):
    """More to say than a socket holds, and a proxy that does not read: SIGTERM still ends everything inside."""
    kernel = start(ISOLATED)
    kernel.client.execute(
        "import os, time\n"
        "for d in range(3):\n"
        "    os.mkdir(f'd{d}')\n"
        "    for i in range(900): os.symlink('x', f'd{d}/' + 'n' * 150 + str(i))\n"
        "os.mkdir('last'); time.sleep(60)"
    )
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/last")), 20 * harness.PATIENCE)
    everybody = kernel.roles()
    everybody["proxy"].kill(signal.SIGSTOP)
    try:
        everybody["supervisor"].kill(signal.SIGTERM)
        inside = [everybody[role] for role in ("kernel", "init", "relay")]
        assert processes.wait_until(lambda: not any(process.alive() for process in inside), 3 * harness.PATIENCE)
        if not reads:
            ours = [everybody[role] for role in ("supervisor", "collector")]
            assert processes.wait_until(lambda: not any(process.alive() for process in ours), 15 * harness.PATIENCE)
    finally:
        everybody["proxy"].kill(signal.SIGCONT)
    kernel.wait_gone()
    assert not reads or "unexpectedly" not in kernel.log, kernel.log[-500:]


@pytest.mark.core
def test_twenty_at_once(site, launch, nothing_left):
    begin = time.monotonic()
    launches = [launch(*SLEEP) for _ in range(20)]
    for launched in launches:
        assert launched.wait_role("kernel", 30), launched.log
    harness.figure(f"20 sandboxes at once in {time.monotonic() - begin:.2f} s")
    everybody = [process for launched in launches for process in processes.tree(launched.pid)]
    for launched in launches:
        os.kill(launched.pid, signal.SIGTERM)
    for launched in launches:
        assert launched.wait(10) is not None
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 5 * harness.PATIENCE)


@pytest.mark.core
def test_successor_keeps_its_sockets(site, launch, nothing_left):
    """A proxy is killed and the next one starts on the same files at once: what cleans up after the first leaves the
    second's sockets alone."""
    connection = site.root / "runtime" / "kernel-successor.json"
    harness.write_connection_file(connection, "ipc")
    project = site.project()
    for _ in range(max(ROUNDS // 2, 5)):
        first = launch(*SLEEP, connection=connection, cwd=project)
        assert first.wait_role("kernel"), first.log
        os.kill(first.pid, signal.SIGKILL)
        second = launch(*SLEEP, connection=connection, cwd=project)
        assert second.wait_role("kernel"), second.log
        time.sleep(0.1)
        assert [number for number in range(1, 6) if not os.path.exists(f"{str(connection)[:-5]}-ipc-{number}")] == []
        with harness.Raw(connection) as raw:
            assert raw.ping()
        second.process.terminate()
        assert second.wait() is not None


def test_kernel_that_ends_at_once(site, launch, nothing_left):
    launched = launch(*shell("exit 0"))
    assert launched.wait() == 0
    launched = launch(*shell("exit 9"))
    assert launched.wait() == 9
    launched = launch(*shell("kill -TERM $$"))
    assert launched.wait() == 128 + signal.SIGTERM


def test_double_forked_daemon_dies_with_the_kernel(start, nothing_left):
    kernel = start(ISOLATED)
    kernel.run(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        import signal\n"
        "        for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
        "        os.execvp('sleep', ['sleep', '1000'])\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    assert processes.wait_until(lambda: any(process.name == "sleep" for process in processes.tree(kernel.pid)), 5 * harness.PATIENCE)
    everybody = processes.tree(kernel.pid)
    kernel.shutdown()
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 3 * harness.PATIENCE)


def test_zombies_are_reaped(start):
    kernel = start(ISOLATED)
    run = kernel.run(
        "import os, time\n"
        "for _ in range(50):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "left, end = lambda: [p for p in os.listdir('/proc') if p.isdigit()], time.monotonic() + 20\n"
        "while len(left()) > 4 and time.monotonic() < end: time.sleep(0.05)\n"
        "print(len(left()))"
    )
    assert int(run.stdout) <= 4, run.stdout


def test_idle_costs_nothing(start):
    kernel = start(ISOLATED)
    ours = [process for role, process in kernel.roles().items() if role != "kernel"]

    def used():
        """Clock ticks in 3 s."""
        before = sum(processes.cpu_ticks(process.pid) for process in ours)
        time.sleep(3)
        return sum(processes.cpu_ticks(process.pid) for process in ours) - before

    seen = []
    while not seen or seen[-1] > 1 and len(seen) < 10:  # what begins a kernel may take its time to end
        seen.append(used())
    assert seen[-1] <= 1, f"{seen} clock ticks in 3 s each"
