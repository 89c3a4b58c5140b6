"""Interrupt, restart, crash, shutdown, and the way VS Code starts kernels."""

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import time

import harness
import processes
import pytest
from harness import DIRECT, ISOLATED, Raw, reply_to, request
from jupyter_client.ioloop import AsyncIOLoopKernelManager
from traitlets.config import Config

KINDS = pytest.mark.parametrize("kind", [DIRECT, ISOLATED])
# A kernel without the wall shows what is expected, over whatever.
WIRES = pytest.mark.parametrize("kind, transport", [(DIRECT, "tcp"), (ISOLATED, "tcp"), (ISOLATED, "ipc")])

COUNT_INTERRUPTS = """
import signal, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(time.time()))
print('ready', flush=True)
end = time.time() + 15
while not seen and time.time() < end:
    {wait}
end = time.time() + 1
while time.time() < end:
    time.sleep(0.05)
len(seen)
"""
SLEEP, BUSY = "time.sleep(0.05)", "sum(range(1000))"


def by_group(kernel):
    os.killpg(os.getpgid(kernel.pid), signal.SIGINT)


def by_pid(kernel):
    os.kill(kernel.pid, signal.SIGINT)


def by_message(kernel):
    msg_id = request(kernel.client, "interrupt_request", channel="control")
    assert reply_to(kernel.client, msg_id, channel="control")["msg_type"] == "interrupt_reply"


WAYS = [by_group, by_pid, by_message]


def wait_ready(kernel, msg_id):
    return harness.collect(kernel.client, msg_id, 20, stop_at_idle=False, on_message=_stop_at_ready)


class Ready(Exception):
    pass


def _stop_at_ready(message):
    if message["msg_type"] == "stream" and message["content"]["text"].startswith("ready"):
        raise Ready


def run_until_ready(kernel, code):
    msg_id = kernel.client.execute(code)
    with contextlib.suppress(Ready):
        wait_ready(kernel, msg_id)
    return msg_id


def finish(kernel, msg_id, timeout=20 * harness.PATIENCE):
    messages = harness.collect(kernel.client, msg_id, timeout)
    return harness.Run(msg_id, reply_to(kernel.client, msg_id, timeout), messages)


@pytest.mark.core
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wait", [SLEEP, BUSY], ids=["sleeping", "busy"])
def test_one_interrupt_arrives_once(shared, way, wait):
    msg_id = run_until_ready(shared, COUNT_INTERRUPTS.replace("{wait}", wait))
    way(shared)
    assert finish(shared, msg_id).result == "1"
    assert shared.run("'alive'").result == "'alive'"


@pytest.mark.core
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", ["time.sleep(30)", "while True: pass", "input('?')"], ids=["sleep", "loop", "input"])
def test_interrupt_ends_a_cell(shared, way, code):
    msg_id = shared.client.execute(f"import time; print('ready', flush=True)\n{code}", allow_stdin=True)
    with contextlib.suppress(Ready):
        wait_ready(shared, msg_id)
    time.sleep(0.3)
    begin = time.monotonic()
    way(shared)
    run = finish(shared, msg_id)
    assert run.status == "error" and "Interrupt" in run.problem
    assert time.monotonic() - begin < 20, "it came to its end by itself"
    with contextlib.suppress(queue.Empty):
        shared.client.get_stdin_msg(timeout=0.1)
    assert shared.run("'alive'").result == "'alive'"


def test_interrupt_of_an_idle_kernel_does_nothing(shared):
    for way in (by_group, by_pid):
        way(shared)
        time.sleep(0.2)
        assert shared.alive()
    assert shared.run("1").status == "ok"


@KINDS
def test_interrupt_reaches_a_child(start, kind):
    """`!sleep` and subprocess.run in a cell end with it."""
    kernel = start(kind)
    msg_id = run_until_ready(
        kernel, "import subprocess; print('ready', flush=True); subprocess.run(['sleep', '30'], check=False)"
    )
    time.sleep(0.3)
    begin = time.monotonic()
    by_group(kernel)
    assert finish(kernel, msg_id).status == "error"
    assert time.monotonic() - begin < 20, "it came to its end by itself"


def test_interrupt_mode_message_of_the_manager(site, start):
    kernel = start(ISOLATED, spec=site.variant(interrupt_mode="message"))
    msg_id = run_until_ready(kernel, COUNT_INTERRUPTS.replace("{wait}", SLEEP))
    kernel.manager.interrupt_kernel()
    assert finish(kernel, msg_id).result == "1"


@pytest.mark.core
@pytest.mark.parametrize("now", [False, True], ids=["gracefully", "now"])
@WIRES
def test_restart(start, site, kind, transport, now, nothing_left):
    kernel = start(kind, transport=transport)
    before = json.load(open(kernel.connection_file))
    kernel.run("x = 1")
    old = processes.read(kernel.pid)
    kernel.manager.restart_kernel(now=now)
    assert kernel.pid != old.pid and not old.alive()
    assert json.load(open(kernel.connection_file)) == before
    kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)
    assert kernel.run("'x' in globals()").result == "False"
    kernel.shutdown()


def test_restart_again_and_again(start):
    kernel = start(ISOLATED)
    for _ in range(4):
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)
        assert kernel.run("1 + 1").result == "2"


@KINDS
def test_gone_soon_after_its_kernel(start, kind):
    """A client starts the next process on the same ports as soon as this one ends."""
    kernel = start(kind)
    inner = kernel.roles()["kernel"] if kind == ISOLATED else processes.read(kernel.pid)
    kernel.client.execute("import os; os._exit(3)")
    assert processes.wait_until(lambda: not inner.alive(), 10, 0.002)
    gone = kernel.wait_gone()
    assert gone is not None
    harness.figure(f"{kind}: the process that a client started ends {gone * 1000:.0f} ms after its kernel")


@pytest.mark.parametrize("how", ["exit", "kill"])
@KINDS
def test_autorestart(site, kind, how, nothing_left):
    """jupyter_client's restarter brings a crashed kernel back on the same connection file."""

    async def scenario():
        manager = AsyncIOLoopKernelManager(
            kernel_name=kind,
            connection_file=str(site.root / "runtime" / f"kernel-auto-{kind}-{how}.json"),
            config=Config({"KernelRestarter": {"time_to_dead": 0.5}}),
        )
        await manager.start_kernel(cwd=str(site.project()), env=site.environment)
        try:
            client = manager.client()
            client.start_channels()
            await client.wait_for_ready(timeout=60 * harness.PATIENCE)
            first = manager.provisioner.pid
            if how == "exit":
                client.execute("import os; os._exit(1)")
            else:
                target = processes.roles(first).get("kernel") or processes.read(first)
                assert target.kill()
            for _ in range(int(100 * harness.PATIENCE)):
                await asyncio.sleep(0.1)
                if manager.provisioner.pid not in (None, first) and await manager.is_alive():
                    break
            assert manager.provisioner.pid != first
            await client.wait_for_ready(timeout=60 * harness.PATIENCE)
            msg_id = client.execute("40 + 2")
            reply = await client.get_shell_msg(timeout=20 * harness.PATIENCE)
            while reply["parent_header"]["msg_id"] != msg_id:
                reply = await client.get_shell_msg(timeout=20 * harness.PATIENCE)
            assert reply["content"]["status"] == "ok" and reply["content"]["execution_count"] == 1
            client.stop_channels()
        finally:
            await manager.shutdown_kernel(now=True)

    asyncio.run(scenario())


@pytest.mark.core
@WIRES
def test_graceful_shutdown(start, kind, transport, nothing_left):
    kernel = start(kind, transport=transport)
    kernel.run("import atexit; atexit.register(lambda: open('written-at-exit', 'w').write('yes'))")
    everybody = processes.tree(kernel.pid)
    begin = time.monotonic()
    kernel.shutdown()
    harness.figure(f"{kind}, {transport}: a shutdown takes {(time.monotonic() - begin) * 1000:.0f} ms")
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 3 * harness.PATIENCE)
    where = kernel.cwd if kind == DIRECT else kernel.cwd / "staging" / "out"
    assert (where / "written-at-exit").read_text() == "yes"


@KINDS
def test_shutdown_messages(start, kind):
    """The reply on control, the broadcast on iopub, an exit status of 0."""
    kernel = start(kind)
    harness.drain(kernel.client)
    msg_id = request(kernel.client, "shutdown_request", {"restart": False}, channel="control")
    reply = reply_to(kernel.client, msg_id, channel="control")
    assert reply["content"] == {"status": "ok", "restart": False}
    assert "shutdown_reply" in [m["msg_type"] for m in harness.drain(kernel.client, 1)]
    assert kernel.wait_gone() is not None
    assert kernel.manager.provisioner.process.returncode == 0


@pytest.mark.core
@KINDS
def test_immediate_shutdown(start, kind, nothing_left):
    kernel = start(kind)
    everybody = processes.tree(kernel.pid)
    kernel.shutdown(now=True)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 3 * harness.PATIENCE)


@KINDS
def test_shutdown_while_a_cell_runs(start, kind, nothing_left):
    kernel = start(kind)
    kernel.started(kernel.client.execute("while True: pass"))
    everybody = processes.tree(kernel.pid)
    kernel.shutdown()
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 3 * harness.PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end(start, number, nothing_left):
    kernel = start(ISOLATED)
    everybody = processes.tree(kernel.pid)
    os.kill(kernel.pid, number)
    assert kernel.wait_gone() is not None
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 3 * harness.PATIENCE)


def raw_argv(site, file, form):
    """The kernelspec's argv as VS Code and others rewrite it."""
    argv = site.spec()["argv"]
    at = next(index for index, part in enumerate(argv) if "{connection_file}" in part)
    assert argv[at] == "{connection_file}" and argv[at - 1] == "-f"
    return argv[: at - 1] + [word.replace("FILE", str(file)) for word in form] + argv[at + 1 :]


@pytest.mark.parametrize("form", [["-f", "FILE"], ["-f=FILE"], ["--f=FILE"]], ids=["-f FILE", "-f=FILE", "--f=FILE"])
def test_raw_start(site, form, nothing_left):
    """As VS Code does: no manager, waits for the ports to be taken, interrupts the pid alone, kills the tree."""
    file = site.root / "runtime" / f"kernel-v2-{os.getpid()}.json"
    info = harness.write_connection_file(file)
    project = site.project()
    begin = time.monotonic()
    process = subprocess.Popen(
        raw_argv(site, file, form),
        cwd=project,
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def taken(port):
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        assert processes.wait_until(
            lambda: taken(info["shell_port"]) and taken(info["iopub_port"]), 10 * harness.PATIENCE, 0.005
        )
        harness.figure(f"the ports are in use {(time.monotonic() - begin) * 1000:.0f} ms after the start")
        client = harness.BlockingKernelClient()
        client.load_connection_file(str(file))
        client.start_channels()
        client.wait_for_ready(timeout=60 * harness.PATIENCE)
        msg_id = client.execute("import time; print('begun', flush=True); time.sleep(30)")
        while client.get_iopub_msg(timeout=20 * harness.PATIENCE)["msg_type"] != "stream":
            pass
        os.kill(process.pid, signal.SIGINT)
        assert reply_to(client, msg_id)["content"]["ename"] == "KeyboardInterrupt"
        client.stop_channels()
        everybody = processes.tree(process.pid)
        for found in reversed(everybody):
            found.kill()
        assert processes.wait_until(lambda: not any(found.alive() for found in everybody), 5 * harness.PATIENCE)
    finally:
        process.kill()
        process.wait(10)
        file.unlink()
    # Nobody was left to remove the (here empty) directory behind /work; the next start or this does.
    site.run("stage", "recover", cwd=project, check=True)


@pytest.mark.core
def test_heartbeat_while_booting_and_after_death(site, start):
    """A kernel that takes long to come up is not dead, one that is gone is not alive."""
    slow = ["/usr/bin/python3", "-c", "import time; time.sleep(60)", "{inner_connection_file}"]
    kernel = start(ISOLATED, spec=site.variant("--shared-environment", kernel=slow), wait=False)
    with Raw(kernel.connection_file) as raw:
        assert raw.ping(), kernel.log
        assert processes.wait_until(lambda: kernel.roles().get("kernel"), 10 * harness.PATIENCE)
        assert raw.ping()
        assert kernel.roles()["kernel"].kill()
        assert kernel.wait_gone() is not None
        assert not raw.ping(0.5)
    assert kernel.manager.provisioner.process.returncode not in (0, None)


def test_requests_of_a_client_that_was_there_first(start):
    """A client that connects and asks before the kernel is up gets its answer."""
    kernel = start(ISOLATED, wait=False)
    client = kernel.connect(wait=False)
    msg_id = client.execute("6 * 7")
    assert reply_to(client, msg_id, 60)["content"]["status"] == "ok"


def test_exit_status_is_the_kernels(start):
    kernel = start(ISOLATED)
    kernel.client.execute("import os; os._exit(7)")
    assert kernel.wait_gone() is not None
    assert kernel.manager.provisioner.process.returncode == 7
