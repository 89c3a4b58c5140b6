"""An ipykernel of 2024: PUB without welcome messages, no subshells, a debugger that is asked for by another field.

CELLWALL_OLD_KERNEL is the python of such an environment.
"""

import json
import os

import harness
import pytest
from harness import ISOLATED, Raw, parse, receive, reply_to, request

OLD = os.environ.get("CELLWALL_OLD_KERNEL", "")

pytestmark = pytest.mark.skipif(not os.access(OLD, os.X_OK), reason="CELLWALL_OLD_KERNEL is not set")


@pytest.fixture
def old(site, start):
    argv = [OLD, "-m", "ipykernel_launcher", "-f", "{inner_connection_file}"]
    spec = site.variant(kernel=argv)
    return lambda **options: start(ISOLATED, spec=spec, **options)


def test_it_is_old(old):
    kernel = old()
    info = reply_to(kernel.client, request(kernel.client, "kernel_info_request"))
    assert "kernel subshells" not in info["content"].get("supported_features", [])
    assert kernel.run("import ipykernel; ipykernel.__version__[:2]").result == "'6.'"


def test_first_output_is_not_lost(old):
    """Nothing tells when the subscription of the relay has reached such a kernel; no output is lost all the same."""
    for _ in range(5):
        kernel = old(wait=False)
        client = kernel.connect(wait=False)
        with Raw(kernel.connection_file) as raw:
            socket = raw.socket("iopub")
            assert parse(receive(socket, 20))["msg_type"] == "iopub_welcome"
            msg_id = client.execute("print('first')")
            seen = []
            while not seen or seen[-1] != "idle":
                message = parse(receive(socket, 20))
                if message["parent_header"].get("msg_id") == msg_id:
                    seen.append(
                        message["content"].get("execution_state")
                        or message["content"].get("text")
                        or message["msg_type"]
                    )
            assert seen == ["busy", "execute_input", "first\n", "idle"]
        kernel.shutdown(now=True)


def test_interrupt_restart_shutdown(old, nothing_left):
    kernel = old()
    msg_id = kernel.client.execute("import time; print('begun', flush=True); time.sleep(30)")
    kernel.started(msg_id, "stream")
    kernel.manager.interrupt_kernel()
    harness.collect(kernel.client, msg_id, 20 * harness.PATIENCE)  # cells sent before its idle are given up with it
    assert reply_to(kernel.client, msg_id)["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.run("x = 1; open('kept.txt', 'w').write('1')").status == "ok"
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)
    assert kernel.run("'x' in globals()").result == "False"
    kernel.shutdown()
    assert (kernel.cwd / "staging" / "out" / "kept.txt").exists()


def test_input(old):
    kernel = old()
    msg_id = kernel.client.execute("input('?')", allow_stdin=True)
    assert kernel.client.get_stdin_msg(timeout=20 * harness.PATIENCE)["msg_type"] == "input_request"
    kernel.client.input("x")
    assert reply_to(kernel.client, msg_id)["content"]["status"] == "ok"


def test_inner_connection_file_is_ipc_and_private(old):
    kernel = old()
    facts = kernel.run(
        "import json, os, ipykernel.connect as c; path = c.get_connection_file(); info = json.load(open(path))\n"
        "print(json.dumps([info['transport'], info['key'], os.stat(path).st_mode & 0o77]))"
    )
    transport, key, mode = json.loads(facts.stdout)
    assert transport == "ipc" and len(key) >= 32 and mode == 0
    assert key != json.load(open(kernel.connection_file))["key"]
