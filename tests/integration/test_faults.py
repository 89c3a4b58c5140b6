"""Whoever of ours is killed, and whatever the kernel does to what it can reach: everything ends within ten seconds, no
process, mount, socket or directory is left, every file that was written comes out, and the user is told.

  CELLWALL_FAULTS   how many processes are killed (20)
"""

import contextlib
import os
import random
import signal
import time

import harness
import processes
import pytest
import test_kill
from harness import ISOLATED

FAULTS = int(os.environ.get("CELLWALL_FAULTS", "20"))
WITHIN = 10 * harness.PATIENCE
# What the log says when this one is killed while the kernel runs. The proxy is who would say it.
SAID = {
    "supervisor": "the supervisor ended unexpectedly",
    "relay": "the relay was ended by signal 9",
    "init": "ended by signal 9",
    "kernel": "ended by signal 9",
    "collector": "",
    "proxy": "",
}


def all_gone(site, launched, everybody, kept=()):
    """Within ten seconds from now."""
    begin = time.monotonic()
    assert launched.wait(WITHIN / harness.PATIENCE) is not None, launched.roles()
    left = lambda: [process for process in everybody if process.alive()] or processes.strays(site.prefix, launched.since)  # noqa: E731
    assert processes.wait_until(lambda: not left(), WITHIN), left()
    return time.monotonic() - begin


@pytest.mark.core
def test_one_of_ours_is_killed(site, launch, nothing_left):
    """SIGKILL of one process at a random moment, while the kernel writes files and floods its output."""
    policy = site.policy({"env": {"set": {"END": "100000"}}})
    noisy = test_kill.WRITER[2].replace("; i=$((i + 1))\n", "; i=$((i + 1))\n  echo line $i; echo error $i >&2\n", 1)
    dice, slowest, files = random.Random(4), 0.0, 0
    hits = dict.fromkeys(SAID, 0)
    for number in range(FAULTS):
        role = list(SAID)[number % len(SAID)]
        project = site.project()
        launched = launch(*harness.shell(noisy), cwd=project, options=("--policy", policy))
        assert launched.wait_role("kernel", 20), launched.log
        time.sleep(dice.uniform(0, 0.4))
        everybody = processes.tree(launched.pid)
        victim = launched.roles().get(role)
        assert victim is not None and victim.kill(), (role, launched.roles())
        hits[role] += 1
        if role == "collector":  # the kernel goes on without it
            time.sleep(0.1)
            assert launched.process.poll() is None, launched.log
            launched.process.terminate()
        slowest = max(slowest, all_gone(site, launched, everybody))
        assert SAID[role] in launched.log, (role, launched.log[-2000:])
        out = project / "staging" / "out"
        expected = test_kill.results(out) | test_kill.written(site)
        site.run("stage", "recover", cwd=project, check=True)
        assert test_kill.results(out) == expected
        for name in expected:
            test_kill.whole(out / name)
        assert test_kill.temporaries(out) == []
        files += len(expected)
    harness.figure(f"{sum(hits.values())} processes killed ({hits}), {files} files, none lost; gone in {slowest:.1f} s at most")


@pytest.mark.core
@pytest.mark.parametrize("role", ("examiner", "guard"))
def test_the_guard_process_is_killed(site, start, nothing_left, role):
    """While a cell shows one display after the other: a new one looks at what follows, what is lost is said, and each
    of the others comes out, in order."""
    policy = site.policy({"outputs": {"mode": "static"}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    dice, kills, lost, count = random.Random(5), 0, 0, 400
    code = (
        "from IPython.display import display; import time\n"
        f"for i in range({count}):\n"
        "    display({'text/html': f'<b>{i}</b>', 'text/plain': f'number {i}'}, raw=True)\n"
        "    if i % 10 == 0: time.sleep(0.02)\n"
    )
    one = "from IPython.display import display; display({'text/html': '<b>x</b>', 'text/plain': 'x'}, raw=True)"

    def shown_again():
        """How many are lost of what comes next: one, when a kill came after the last display."""
        tries = 0
        while not (run := kernel.run(one)).of("display_data"):
            tries += 1
            assert tries < 3
        assert run.of("display_data")[0]["data"]["text/plain"] == "x"
        return tries

    for times in (3, 3, 3) if role == "examiner" else (1,):  # one more of these templates is kept
        msg_id, killed = kernel.client.execute(code, allow_stdin=False), []
        for _ in range(times):
            time.sleep(dice.uniform(0.02, 0.2))
            victim = kernel.roles().get(role)
            if victim is not None and victim.kill():
                killed.append(victim)
        messages = harness.collect(kernel.client, msg_id, WITHIN)
        assert harness.reply_to(kernel.client, msg_id, WITHIN)["content"]["status"] == "ok"
        shown = [m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "display_data"]
        assert killed and shown == sorted(set(shown), key=lambda text: int(text.split()[1]))
        assert count - len(killed) <= len(shown) <= count, len(shown)
        assert len(shown) == count or any("display_data" in text and "ended" in text for text in harness.notices(messages))
        kills, lost = kills + len(killed), lost + count - len(shown) + shown_again()
    roles = kernel.roles()
    assert {"guard", "examiner"} <= set(roles) and not any(victim.alive() for victim in killed)
    kernel.shutdown()
    assert kernel.log.count("blocked in a display_data of") == lost, kernel.log
    harness.figure(f"{role} killed {kills} times while outputs came: {lost} lost")


HOSTILE = {
    "floods": (
        "import threading\n"
        "def flood():\n"
        "    while True: os.write(1, b'x' * 65536); print('y' * 65536)\n"
        "for _ in range(4): threading.Thread(target=flood, daemon=True).start()\n"
        "time.sleep(1000)\n"
    ),
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)\n",
    "hangs": (
        "for number in range(1, 32):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except OSError: pass\n"
        "while True: pass\n"
    ),
    "forks away": (
        "for number in (1, 2, 13, 15): signal.signal(number, signal.SIG_IGN)\n"
        "def away():\n"
        "    while True:\n"
        "        try: pid = os.fork()\n"
        "        except OSError: time.sleep(0.01); continue\n"
        "        if pid == 0: os.setsid()\n"
        "        time.sleep(0.05)\n"
        "if os.fork() == 0: away()\n"
        "time.sleep(1000)\n"
    ),
    "closes its descriptors": "os.closerange(3, 4096)\ntime.sleep(1000)\n",
    "removes its sockets": (
        "for name in os.listdir('/cellwall'): os.remove('/cellwall/' + name)\n"
        "os._exit(3)\n"
    ),
    "sends garbage": (
        "import socket, threading\n"
        "def serve(path):\n"
        "    os.remove(path); listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen(64)\n"
        "    while True:\n"
        "        peer = listener.accept()[0]\n"
        "        try:\n"
        "            peer.sendall(dice.choice([b'', b'\\xff' + bytes(8) + b'\\x7f', b'\\0' * 64]) + dice.randbytes(65536))\n"
        "            peer.recv(64)\n"
        "        except OSError: pass\n"
        "        peer.close()\n"
        "import random; dice = random.Random(1)\n"
        "for number in range(1, 6): threading.Thread(target=serve, args=(f'/cellwall/k-{number}',), daemon=True).start()\n"
        "time.sleep(0.5); os.closerange(3, 20); time.sleep(1000)\n"
    ),
    "fills its memory": "data = []\nwhile True: data.append(bytearray(1 << 26))\n",
    "fills its places": (
        "for place in ('/tmp', '/dev/shm', os.path.expanduser('~'), '/cellwall'):\n"
        "    try:\n"
        "        with open(place + '/full', 'wb') as file:\n"
        "            while True: file.write(bytes(1 << 20))\n"
        "    except OSError as problem: print(problem)\n"
        "    try:\n"
        "        for index in range(1 << 20): os.close(os.open(f'{place}/{index}', os.O_CREAT | os.O_WRONLY))\n"
        "    except OSError as problem: print(problem)\n"
        "os.kill(os.getpid(), 11)\n"
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_kernel(site, start, nothing_left, what):
    """It does its worst after it has written a file; a client then ends it as clients do."""
    policy = site.policy({"resources": {"memory": "2G", "tmp": "64M", "pids": 200}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    assert kernel.run("import os, signal, time; open('first.txt', 'w').write('first')").status == "ok"
    everybody = processes.tree(kernel.pid)
    kernel.client.execute(HOSTILE[what])
    with contextlib.suppress(Exception):
        harness.drain(kernel.client, 1) if what != "floods" else time.sleep(1)
    everybody += [process for process in processes.tree(kernel.pid) if process not in everybody]
    ours = [process for process in everybody if process.namespaces == 1]
    memory = sum(processes.resident_kb(process.pid) for process in ours)
    begin = time.monotonic()
    kernel.shutdown()
    left = lambda: [process for process in everybody if process.alive()]  # noqa: E731
    assert processes.wait_until(lambda: not left(), WITHIN), left()
    assert time.monotonic() - begin < WITHIN
    assert (kernel.cwd / "staging" / "out" / "first.txt").read_text() == "first"
    harness.figure(f"{what}: gone in {time.monotonic() - begin:.1f} s, ours had {memory // 1024} MB")


def test_no_memory_for_us(site, launch, nothing_left):
    """A launch with ever less memory for our own processes: it works, or says in a line what it lacks."""
    works = fails = 0
    for megabytes in (1000, 500, 250, 150, 120, 60, 30):
        launched = launch(*harness.shell("echo 1 > /work/s; exit 0"), wrapper=("prlimit", f"--as={megabytes << 20}"))
        code = launched.wait(WITHIN / harness.PATIENCE)
        assert code is not None, f"{megabytes} MB: hangs"
        if code == 0:
            works += 1
            continue
        fails += 1
        assert launched.log.startswith("cellwall") and "memory" in launched.log, (megabytes, code, launched.log)
        assert len(launched.log.splitlines()) == 1, launched.log
    assert works and fails, (works, fails)


def test_signals_that_nobody_sends(site, launch, nothing_left):
    """Signals that would end a program by default find ours prepared, or ended in order."""
    for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGALRM, signal.SIGXFSZ, signal.SIGXCPU):
        for role in ("proxy", "supervisor", "collector", "relay", "init"):
            launched = launch(*harness.SLEEP)
            assert launched.wait_role("kernel", 20), launched.log
            everybody = processes.tree(launched.pid)
            launched.roles()[role].kill(number)
            time.sleep(0.02)
            if launched.process.poll() is None:
                launched.process.terminate()
            all_gone(site, launched, everybody)
