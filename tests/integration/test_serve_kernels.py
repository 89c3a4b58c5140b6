"""Kernels through `cellwall serve`: the REST contract of jupyter_server, both WebSocket protocols, and their ends."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import gateway
import harness
import processes
import pytest
import requests
import websocket
from harness import DIRECT, ISOLATED

BIN = pathlib.Path(sys.executable).parent
KERNEL_ID = re.compile(r"^\w+-\w+-\w+-\w+-\w+$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


@pytest.fixture(scope="module")
def serve(site):
    server = gateway.Serve(site)
    yield server
    server.close()


@pytest.fixture
def begin(site):
    """begin(option, …) gives a server of its own that ends with the test."""
    servers = []

    def start(*options, **more):
        servers.append(gateway.Serve(site, *options, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def kernel(serve):
    return serve.start()


def test_rest_contract(serve):
    listed = serve.ask("GET", "/api/kernelspecs").json()
    # other tests may have installed more of them
    assert {listed["default"], ISOLATED} <= set(listed["kernelspecs"]) and DIRECT not in listed["kernelspecs"]
    entry = listed["kernelspecs"][ISOLATED]
    assert entry["name"] == ISOLATED and entry["spec"]["language"] == "python"
    assert serve.ask("GET", f"/api/kernelspecs/{ISOLATED}").json() == entry
    assert serve.ask("GET", f"/api/kernelspecs/{DIRECT}").status_code == 404
    assert serve.ask("GET", "/api/kernelspecs?user=anna").json() == listed  # as a GatewayClient asks
    assert entry["resources"]
    for logo in entry["resources"].values():
        whole, head = serve.ask("GET", logo), serve.ask("HEAD", logo)
        assert whole.status_code == head.status_code == 200 and not head.content
        assert int(head.headers["Content-Length"]) == len(whole.content) > 0 and head.headers["Content-Type"] == whole.headers["Content-Type"]
    for path in ("kernel.json", "nothing.png", "..%2fkernel.json"):
        assert serve.ask("GET", f"/kernelspecs/{ISOLATED}/{path}").status_code in (400, 404)

    answer = serve.ask("POST", "/api/kernels", json={"name": ISOLATED})
    model = answer.json()
    assert answer.status_code == 201 and answer.headers["Location"] == f"/api/kernels/{model['id']}"
    assert KERNEL_ID.match(model["id"]) and model["name"] == ISOLATED and int(model["connections"]) == 0
    assert TIME.match(model["last_activity"]) and model["execution_state"] == "starting"
    serve.wait_state(model["id"], "idle")
    path = f"/api/kernels/{model['id']}"
    assert model["id"] in [one["id"] for one in serve.ask("GET", "/api/kernels").json()]
    assert serve.ask("POST", path + "/interrupt", json={}).status_code == 204
    answer = serve.ask("POST", path + "/restart", json={})
    assert answer.status_code == 200 and answer.json()["id"] == model["id"]
    serve.wait_state(model["id"], "idle")
    assert serve.ask("GET", "/api/status").json()["kernels"] >= 1
    assert serve.ask("DELETE", path).status_code == 204
    assert serve.ask("GET", path).status_code == serve.ask("DELETE", path).status_code == 404

    answer = serve.ask("POST", "/api/kernels", json={"name": DIRECT})
    assert answer.status_code == 404 and answer.json()["message"]
    assert serve.ask("POST", "/api/kernels", data="[]").status_code == 400


def test_sessions(serve):
    body = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": ISOLATED}}
    answer = serve.ask("POST", "/api/sessions", json=body)
    session = answer.json()
    assert answer.status_code == 201 and session["path"] == "a.ipynb" and KERNEL_ID.match(session["kernel"]["id"])
    path = f"/api/sessions/{session['id']}"
    assert serve.ask("PATCH", path, json={"path": "b.ipynb"}).json()["path"] == "b.ipynb"
    assert [one["id"] for one in serve.ask("GET", "/api/sessions").json()] == [session["id"]]
    assert serve.ask("GET", "/api/sessions", "bob").json() == [] and serve.ask("GET", path, "bob").status_code == 404
    # No more than 256 of one user, and nobody else has fewer for it.
    answers = [serve.ask("POST", "/api/sessions", json={"kernel": {"id": session["kernel"]["id"]}}).status_code for _ in range(256)]
    assert answers[:255] == [201] * 255 and answers[255] not in (201, 500)
    assert serve.ask("DELETE", path).status_code == 204
    assert serve.ask("GET", f"/api/kernels/{session['kernel']['id']}").status_code == 404


def test_users_do_not_see_each_other(serve, kernel):
    path = f"/api/kernels/{kernel}"
    assert serve.ask("GET", "/api/kernels", "bob").json() == []
    assert serve.ask("GET", path, "bob").status_code == 404
    for verb in ("interrupt", "restart"):
        assert serve.ask("POST", f"{path}/{verb}", "bob", json={}).status_code == 404
    assert serve.ask("DELETE", path, "bob").status_code == 404
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        serve.connect(kernel, "bob")
    assert refused.value.status_code == 404
    assert serve.ask("GET", path).status_code == 200  # hers is still there




@pytest.mark.parametrize("v1", [True, False])
def test_both_protocols(serve, kernel, v1):
    client = serve.connect(kernel, v1=v1)
    messages = client.run("print('ä' * 3); 1 + 1")
    assert gateway.text_of(messages) == "äää\n"
    results = [m["content"]["data"]["text/plain"] for m in messages if m["header"]["msg_type"] == "execute_result"]
    assert results == ["2"]
    assert {m["channel"] for m in messages} == {"iopub", "shell"}
    if not v1:
        assert all(m["msg_type"] == m["header"]["msg_type"] and m["msg_id"] for m in messages)
    asked = client.send("execute_request", {"code": "input('? ')", "silent": False, "allow_stdin": True})
    request = client.until(parent=asked, msg_type="input_request")[-1]
    assert request["channel"] == "stdin" and request["content"]["prompt"].endswith("? ")
    client.send("input_reply", {"value": "an answer"}, channel="stdin")
    result = client.until(parent=asked, msg_type="execute_result")[-1]
    assert result["content"]["data"]["text/plain"] == "'an answer'"
    info = client.send("kernel_info_request", {}, channel="control")
    assert client.until(parent=info, msg_type="kernel_info_reply")[-1]["channel"] == "control"
    # Anything that is no message ends the connection, not the server.
    client.ws.send_binary(b"\xff" * 40)
    with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
        while True:
            client.receive()
    assert serve.model(kernel)["id"] == kernel


def test_every_line_arrives(serve, kernel):
    client = serve.connect(kernel)
    messages = client.run("for i in range(20000): print(i)")
    assert gateway.text_of(messages) == "".join(f"{i}\n" for i in range(20000))
    client.close()


def test_reconnect_replays(serve, kernel):
    client = serve.connect(kernel)
    sent = client.send(
        "execute_request", {"code": "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.05)"}
    )
    seen = client.until(parent=sent, msg_type="stream") + client.hang_up()
    other = serve.connect(kernel)  # another session is told nothing of it
    other.run("1")
    again = serve.connect(kernel, session=client.session)
    seen += again.until(parent=sent)
    once = {message["header"]["msg_id"]: message for message in seen}  # what was on its way may come twice
    assert gateway.text_of(once.values()) == "".join(f"{i}\n" for i in range(20))
    third = serve.connect(kernel, session=again.session)  # and a second connection takes it over
    with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
        while True:
            again.receive()
    assert gateway.text_of(third.run("print('here')")) == "here\n"
    third.close()
    other.close()


def test_what_was_not_read_is_sent_again(serve, kernel):
    """A connection that ends swallows what its buffers held, here the client's own: all of it comes again."""
    deaf = serve.connect(kernel)
    deaf.run("1")
    sent = deaf.send("execute_request", {"code": "for i in range(60): print(str(i) * 50000, flush=True)"})
    other = serve.connect(kernel)
    other.run("1")  # runs after it
    deaf.cut()
    again = serve.connect(kernel, session=deaf.session)
    assert gateway.text_of(again.until(parent=sent)).split() == [str(i) * 50000 for i in range(60)]
    other.close()
    again.close()


@pytest.mark.parametrize("answers", (True, False))
def test_what_was_read_comes_once(serve, kernel, answers):
    """The connection ends while a cell prints. What came before a ping that the client has answered is not sent again, all that
    came after it is; what the client has read without an answer nobody knows of, and it comes twice."""
    client = serve.connect(kernel)
    sent = client.send("execute_request", {"code": "import time\nfor i in range(300): print(i, flush=True); time.sleep(0.01)"})
    seen = []
    asked = False
    while len(gateway.text_of(seen).split()) < 50 or answers and not asked:
        frame = client.ws.recv_frame()  # answers no ping by itself
        asked = frame.opcode == websocket.ABNF.OPCODE_PING and len(frame.data) == 8  # not one that looks whether we are there
        if not asked:
            seen.append(gateway.unpack_v1(frame.data))
        elif answers:
            client.ws.pong(frame.data)
    client.ws.sock.shutdown(socket.SHUT_WR)
    while client.ws.sock.recv(1 << 20):  # until the server has read the answer and the end
        pass
    again = serve.connect(kernel, session=client.session)
    rest = again.until(parent=sent)
    numbers = [int(number) for number in gateway.text_of((seen if answers else []) + rest).split()]
    assert numbers == list(range(300))
    again.close()


def test_what_is_not_kept_is_told(serve, kernel):
    """A client reads 40 MB and answers no ping, and its connection ends: the last 16 MiB come again, and a line says how many messages
    do not; it comes again too when the next connection answers nothing either."""
    client = serve.connect(kernel)
    sent = client.send("execute_request", {"code": "for n in range(40): display({'text/plain': str(n).rjust(1000000)}, raw=True)"})

    def read():
        """Up to the end of the cell, without an answer to a ping."""
        messages = []
        while not messages or messages[-1]["content"].get("execution_state") != "idle" or messages[-1]["parent_header"].get("msg_id") != sent:
            frame = client.ws.recv_frame()
            if frame.opcode != websocket.ABNF.OPCODE_PING:
                messages.append(gateway.unpack_v1(frame.data))
        return messages, [int(message["content"]["data"]["text/plain"]) for message in messages if message["header"]["msg_type"] == "display_data"]

    assert read()[1] == list(range(40))
    for _ in range(2):
        client.cut()
        client = serve.connect(kernel, session=client.session)
        messages, shown = read()
        assert len(shown) in (15, 16) and shown == list(range(40 - len(shown), 40))
        dropped = int(re.search(r"cellwall: (\d+) messages of this kernel were dropped", gateway.text_of(messages, "stderr")).group(1))
        assert 40 - len(shown) <= dropped <= 40 - len(shown) + 10
    client.close()


def test_what_waits_for_a_client_is_bounded(serve, kernel):
    """Nobody is there while 40 MB are shown: the last 16 MiB are kept, and a line says how many messages were not."""
    away = serve.connect(kernel)
    away.run("1")
    away.hang_up()
    here = serve.connect(kernel)
    messages = here.run("for n in range(40): display({'text/plain': str(n).rjust(1000000)}, raw=True)")
    shown = [int(message["content"]["data"]["text/plain"]) for message in messages if message["header"]["msg_type"] == "display_data"]
    assert shown == list(range(40))
    again = serve.connect(kernel, session=away.session)
    messages = again.until(parent=messages[0]["parent_header"]["msg_id"])
    shown = [int(message["content"]["data"]["text/plain"]) for message in messages if message["header"]["msg_type"] == "display_data"]
    assert len(shown) in (15, 16) and shown == list(range(40 - len(shown), 40))
    dropped = int(re.search(r"cellwall: (\d+) messages of this kernel were dropped", gateway.text_of(messages, "stderr")).group(1))
    assert 40 - len(shown) <= dropped <= 40 - len(shown) + 10
    here.close()
    again.close()


def test_a_client_that_does_not_read_holds_nobody_else_up(serve, kernel):
    """Its kernel waits for it; others do not, and it gets everything in the end."""
    slow = serve.connect(kernel)
    sent = slow.send("execute_request", {"code": "for i in range(60): print('x' * 1000000)"})
    fast = serve.start(user="bob")
    client = serve.connect(fast, "bob")
    assert gateway.text_of(client.run("print('quick')")) == "quick\n"
    size = len(gateway.text_of(slow.until(parent=sent)))
    assert size == 60 * 1000001
    serve.ask("DELETE", f"/api/kernels/{fast}", "bob")
    slow.close()


def test_a_kernel_that_never_stops_leaves_others_their_turn(serve, kernel):
    """Its client reads as fast as it can; another kernel answers again and again meanwhile."""
    flooded, other = serve.connect(kernel), serve.connect(serve.start(user="bob"), "bob")
    other.run("1+1")
    sent = flooded.send("execute_request", {"code": "while True: print('x' * 1000)"})
    taken, ended = [0], []

    def take():
        with contextlib.suppress(OSError, websocket.WebSocketException):
            while not ended:
                _, data = flooded.ws.recv_data()
                taken[0] += len(data)
                if b'"execute_reply"' in data and sent.encode() in data:
                    ended.append(taken[0])

    thread = threading.Thread(target=take)
    thread.start()
    try:
        assert processes.wait_until(lambda: taken[0] > 1_000_000, 20 * harness.PATIENCE)
        for _ in range(3):
            before = taken[0]
            answers = [one["content"]["data"]["text/plain"] for one in other.run("1+1") if one["header"]["msg_type"] == "execute_result"]
            assert answers == ["2"] and not ended
            assert processes.wait_until(lambda before=before: taken[0] > before, 20 * harness.PATIENCE)
        assert serve.ask("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
        thread.join(20 * harness.PATIENCE)
        assert ended
    finally:
        flooded.cut()
        thread.join(20 * harness.PATIENCE)
    other.close()


def test_buffers_go_to_a_kernel_and_back(begin):
    """In both protocols. (Behind the wall widgets' comms alone pass; the operator may name other kernels.)"""
    serve = begin("--kernelspec", DIRECT)
    kernel = serve.start(DIRECT)
    for v1 in (True, False):
        client = serve.connect(kernel, v1=v1)
        client.run(
            "def opened(comm, message):\n"
            "    comm.on_msg(lambda m: comm.send(m['content']['data'], buffers=[bytes(b)[::-1] for b in m['buffers']]))\n"
            "get_ipython().kernel.comm_manager.register_target('echo', opened)"
        )
        client.send("comm_open", {"comm_id": f"c{v1}", "target_name": "echo", "data": {}})
        for buffers in ([b"\0\xff" * 3], [b"", os.urandom(100_000), b"end"], []):
            sent = client.send("comm_msg", {"comm_id": f"c{v1}", "data": {"n": len(buffers)}}, buffers=buffers)
            message = client.until(parent=sent, msg_type="comm_msg")[-1]
            assert message["content"]["data"] == {"n": len(buffers)}
            assert [bytes(one) for one in message["buffers"]] == [one[::-1] for one in buffers]
        client.close()


def test_too_large_for_tornado(begin):
    """GatewayClient takes 10 MiB in a message: it gets words instead, and stays connected. (Behind the wall outputs
    are smaller; the operator may name other kernels.)"""
    serve = begin("--kernelspec", DIRECT)
    assert list(serve.ask("GET", "/api/kernelspecs").json()["kernelspecs"]) == [DIRECT]
    kernel = serve.start(DIRECT)
    client = serve.connect(kernel, v1=False, agent="Tornado/6.4")
    messages = client.run("print('x' * 11000000)")
    assert "10 MiB" in gateway.text_of(messages, "stderr") and gateway.text_of(messages) == ""
    assert gateway.text_of(client.run("print('alive')")) == "alive\n"
    other = serve.connect(kernel, v1=False)
    assert len(gateway.text_of(other.run("print('x' * 11000000)"))) == 11000001
    pid = serve.kernel_pid()
    serve.process.kill()
    serve.process.wait()
    assert processes.wait_until(lambda: not gateway.alive(pid), 10 * harness.PATIENCE)


def test_returns_and_dies(begin, site):
    broken = site.variant(kernel=harness.shell("echo this one cannot >&2; exit 3"))
    serve = begin()
    kernel = serve.start()
    client = serve.connect(kernel)
    sent = client.send("execute_request", {"code": "import os; os._exit(1)"})
    states = [
        message["content"]["execution_state"]
        for message in client.until(msg_type="status", state="restarting")
        if message["header"]["msg_type"] == "status"
    ]
    assert sent and states[-1] == "restarting"
    assert gateway.text_of(client.run("print('again')")) == "again\n"
    dead = serve.start(broken)
    model = serve.wait_state(dead, "dead")
    assert model["reason"], model
    assert serve.ask("DELETE", f"/api/kernels/{dead}").status_code == 204


def test_interrupt_and_restart(serve):
    kernel = serve.start()
    client = serve.connect(kernel)
    sent = client.send("execute_request", {"code": "print('begun', flush=True)\nimport time; time.sleep(1000)"})
    client.until(parent=sent, msg_type="stream")
    assert serve.ask("POST", f"/api/kernels/{kernel}/interrupt", json={}).status_code == 204
    reply = client.until(parent=sent, msg_type="execute_reply")[-1]
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    client.run("x = 1")
    assert serve.ask("POST", f"/api/kernels/{kernel}/restart", json={}).status_code == 200
    # Asked at once, while the old one is still ending: the new one answers.
    assert "NameError" in [m["content"].get("ename") for m in client.run("x")]
    assert serve.ask("DELETE", f"/api/kernels/{kernel}").status_code == 204
    with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
        while True:
            client.receive()


def test_limits(begin):
    serve = begin("--max-kernels", "3", limits={"max_kernels": 2})
    for _ in range(2):
        serve.start()
    answer = serve.ask("POST", "/api/kernels", json={"name": ISOLATED})
    assert answer.status_code == 403 and "2 kernels" in answer.json()["message"]
    serve.start(user="bob")
    answer = serve.ask("POST", "/api/kernels", "bob", json={"name": ISOLATED})
    assert answer.status_code == 403 and answer.json()["reason"] == "Resource Limit"


def described(site, **metadata):
    """A kernelspec whose metadata say this; its name."""
    name = "described-" + uuid.uuid4().hex[:8]
    site._write_spec(name, {**site.spec(ISOLATED), "metadata": metadata})
    return name


def test_a_user_has_the_kernelspecs_of_her_list(begin, site):
    """What is not in it she neither sees nor starts, by no name and no way."""
    hidden = site.variant()
    (site.specs / hidden / "logo-64x64.png").write_bytes(b"picture")
    options = ("--kernelspec", hidden, "--kernelspec", ISOLATED, "--default-kernel", hidden)
    everybody, serve = begin(*options), begin(*options, limits={"kernelspecs": [ISOLATED]})
    logo = f"/kernelspecs/{hidden}/logo-64x64.png"
    for server, seen in ((everybody, True), (serve, False)):
        listed = server.ask("GET", "/api/kernelspecs").json()
        assert set(listed["kernelspecs"]) == ({hidden, ISOLATED} if seen else {ISOLATED})
        assert listed["default"] == (hidden if seen else ISOLATED)
        for path in (f"/api/kernelspecs/{hidden}", logo):
            assert [server.ask(method, path).status_code for method in ("GET", "HEAD")] == [200 if seen else 404] * 2
    for path, body in (
        ("/api/kernels", {"name": hidden}),
        ("/api/kernels", {}),
        ("/api/sessions", {"path": "a", "kernel": {"name": hidden}}),
        ("/api/sessions", {"path": "a"}),
    ):
        answer = serve.ask("POST", path, json=body)
        assert answer.status_code == 403 and "you may not start" in answer.json()["message"], body
    session = serve.ask("POST", "/api/sessions", json={"path": "a", "kernel": {"name": ISOLATED}}).json()
    assert serve.ask("PATCH", f"/api/sessions/{session['id']}", json={"kernel": {"name": hidden}}).status_code == 403
    assert [one["name"] for one in serve.ask("GET", "/api/kernels").json()] == [ISOLATED]


def test_limits_hold_for_many_at_once(begin, site):
    """What starts is counted before it has started: of six requests at a time one kernel of this kernelspec, two of the user."""
    serve, single = begin(limits={"max_kernels": 2}), described(site, max_kernels=1)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for name, most in ((single, 1), (ISOLATED, 1)):
            answers = pool.map(lambda name: serve.ask("POST", "/api/kernels", json={"name": name}), [name] * 6)
            assert sorted(answer.status_code for answer in answers) == [201] * most + [403] * (6 - most)


def test_environment_is_filtered(begin):
    # The environment of ours nobody can read.
    serve = begin("--kernelspec", DIRECT, "--kernelspec", ISOLATED, "--allow-env", "KERNEL_FLAVOUR")
    hostile = {
        "KERNEL_USERNAME": "anna",
        "KERNEL_LAUNCH_TIMEOUT": "40",
        "KERNEL_FLAVOUR": "sweet",
        "KERNEL_FLAVOURS": "sour",
        "KERNEL_FLAVOU": "sour",
        "kernel_flavour": "sour",
        "KERNEL_WORKING_DIR": "/etc",
        "LD_PRELOAD": "/tmp/evil.so",
        "PATH": "/tmp/evil",
        "SECRET": "x",
    }
    serve.start(DIRECT, env=hostile)
    pid = serve.kernel_pid()
    processes.wait_until(lambda: "KERNEL_GATEWAY" in gateway.environment_of(pid), 10)
    environment = gateway.environment_of(pid)
    assert environment["KERNEL_USERNAME"] == "anna" and environment["PATH"] != "/tmp/evil"
    assert environment["KERNEL_LAUNCH_TIMEOUT"] == "40" and environment["KERNEL_FLAVOUR"] == "sweet" and "sour" not in environment.values()
    assert not {"LD_PRELOAD", "SECRET", "KERNEL_WORKING_DIR", "SECRET_OF_THE_HOST"} & set(environment)
    assert os.readlink(f"/proc/{pid}/cwd") == str(serve.data / "users" / "anna" / "default")
    for bad in ({"KERNEL_USERNAME": "a\nb"}, {"KERNEL_USERNAME": 1}, {"KERNEL_USERNAME": "x" * 5000}, {"KERNEL_FLAVOUR": "\x1b[2J"}):
        assert serve.ask("POST", "/api/kernels", json={"name": ISOLATED, "env": bad}).status_code == 400
    answer = serve.ask("POST", "/api/kernels", json={"name": ISOLATED, "env": {"KERNEL_STAGING_AREA": "../bob"}})
    assert answer.status_code == 400


def test_idle_kernels_are_stopped(begin):
    """And take no upload to their area with them: it goes on, and the area's next kernel has the file."""
    serve = begin("--cull-idle", "2", "--cull-interval", "1")
    area = {"KERNEL_STAGING_AREA": "experiment"}
    kernel, connected = serve.start(env=area), serve.start()
    client = serve.connect(connected)

    def put(first, part):
        headers = {"Content-Range": f"bytes {first}-{first + len(part) - 1}/8"}
        return serve.ask("PUT", "/api/areas/experiment/in/data.csv", data=part, headers=headers).status_code

    assert put(0, b"1,2\n") == 202
    gone = lambda: serve.ask("GET", f"/api/kernels/{kernel}").status_code == 404  # noqa: E731
    assert processes.wait_until(gone, 20 * harness.PATIENCE)
    assert gateway.text_of(client.run("print('still here')")) == "still here\n"
    assert serve.ask("GET", "/api/uploads/experiment/in/data.csv").json()["offset"] == 4
    assert put(4, b"3,4\n") == 201
    again = serve.connect(serve.start(env=area))
    assert gateway.text_of(again.run("print(open('staging/in/data.csv').read())")) == "1,2\n3,4\n\n"


def test_kernels_that_are_connected_or_busy_are_stopped_when_asked_for(begin, site):
    kept = described(site, cull_idle_timeout=3600)
    options = ("--cull-idle", "3", "--cull-interval", "1", "--cull-connected")
    with contextlib.ExitStack() as stack:
        running = []
        for more in ((), ("--cull-busy",)):
            serve = begin(*options, *more)
            busy, idle = serve.connect(serve.start()), serve.connect(serve.start())
            busy.send("execute_request", {"code": "import time; time.sleep(600)"})
            running.append((serve, serve.start(kept), [idle, busy] if more else [idle], (0, 1) if more else (1, 2)))
            stack.callback(busy.cut)
            stack.callback(idle.cut)
        for serve, other, ending, wanted in running:
            for client in ending:
                with pytest.raises((ConnectionError, websocket.WebSocketConnectionClosedException)):
                    while True:
                        client.receive()
            left = {model["id"]: model["execution_state"] for model in serve.ask("GET", "/api/kernels").json()}
            assert other in left and (list(left.values()).count("busy"), len(left)) == wanted, left


def test_a_kernel_that_never_answers_is_dead(begin, site):
    serve = begin("--start-timeout", "1")
    model = serve.wait_state(serve.start(site.variant(kernel=harness.SLEEP)), "dead")
    assert "did not answer" in model["reason"], model


def test_killed_server_leaves_nothing(begin, site, nothing_left):
    serve = begin()
    kernel = serve.start()
    client = serve.connect(kernel)
    client.run("open('result.txt', 'w').write('kept')")
    pid = serve.kernel_pid()
    # What a kernel's sockets and key are in is nobody else's, and the key is gone with its first answer.
    places = [serve.runtime, *(path for path in serve.runtime.rglob("*") if path.is_dir())]
    assert [path.name for path in serve.runtime.rglob("k*") if path.is_dir()] and {path.stat().st_mode & 0o7777 for path in places} == {0o700}
    assert list(serve.runtime.rglob("*.json")) == []
    client.send("execute_request", {"code": "while True: pass"})
    client.until(msg_type="execute_input")
    serve.process.send_signal(signal.SIGKILL)
    serve.process.wait()
    assert processes.wait_until(lambda: not gateway.alive(pid), 15 * harness.PATIENCE)
    # no key of a kernel stays on disk
    assert processes.wait_until(lambda: not list(serve.runtime.rglob("*.json")), 15 * harness.PATIENCE)
    results = serve.data / "users" / "anna" / "default" / "staging" / "out"
    assert harness.becomes(results / "result.txt", "kept") == "kept"


def test_a_kernel_ended_before_it_answers_leaves_nothing(begin):
    serve = begin()
    assert serve.ask("DELETE", f"/api/kernels/{serve.start()}").status_code == 204

    def left():
        return [name for _, *names in os.walk(serve.runtime) for name in sum(names, []) if name.startswith("k")]

    assert processes.wait_until(lambda: not left(), 15 * harness.PATIENCE), left()


def answering(runtime):
    """The address of the notebook server that writes there, when it answers."""
    end = time.monotonic() + 60 * harness.PATIENCE
    while time.monotonic() < end:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, requests.ConnectionError):
                url = f"http://127.0.0.1:{json.loads(path.read_text())['port']}"
                requests.get(f"{url}/api", timeout=10)
                return url
        time.sleep(0.05)
    raise AssertionError("the notebook server does not answer")


def test_jupyter_server_as_a_client(serve, site):
    """A notebook server that has never heard of cellwall, with --gateway-url."""
    token, port_file = uuid.uuid4().hex, site.root / "jupyter-runtime"
    port_file.mkdir(exist_ok=True)
    log = open(site.root / "jupyter.log", "wb")
    jupyter = subprocess.Popen(
        [str(BIN / "jupyter"), "server", "--no-browser", "--ServerApp.port=0", f"--IdentityProvider.token={token}"]
        + ["--ServerApp.allow_root=True", f"--gateway-url={serve.url}", f"--ServerApp.root_dir={site.root}"],
        env={**site.environment, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.TOKENS["anna"]}
        | {"JUPYTER_RUNTIME_DIR": str(port_file)},
        stdout=log,
        stderr=log,
    )
    try:
        url, headers = answering(port_file), {"Authorization": f"token {token}"}
        answer = requests.post(f"{url}/api/kernels", json={"name": ISOLATED}, headers=headers, timeout=60)
        assert answer.status_code == 201, (answer.text, serve.log, (site.root / "jupyter.log").read_text())
        kernel = answer.json()["id"]
        client = gateway.Socket.__new__(gateway.Socket)
        client.v1, client.session = False, uuid.uuid4().hex
        client.ws = websocket.create_connection(
            f"{url.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id={client.session}",
            header=headers,
            timeout=20 * harness.PATIENCE,
        )
        assert gateway.text_of(client.run("print(6 * 7)")) == "42\n"
        answer = requests.post(f"{url}/api/kernels/{kernel}/restart", headers=headers, timeout=60)
        assert answer.status_code == 200
        assert gateway.text_of(client.run("print('again')")) == "again\n"
        client.close()
        assert requests.delete(f"{url}/api/kernels/{kernel}", headers=headers, timeout=60).status_code == 204
        assert kernel not in [one["id"] for one in serve.ask("GET", "/api/kernels").json()]
    finally:
        jupyter.kill()
        jupyter.wait()
        log.close()


def test_what_nobody_uses_costs_little(begin):
    """A kernel costs one socket while nobody is connected and all are answered; what a burst took is given back."""
    serve = begin("--cull-interval", "1")
    links, statm = pathlib.Path(f"/proc/{serve.process.pid}/fd"), pathlib.Path(f"/proc/{serve.process.pid}/statm")

    def sockets():
        with contextlib.suppress(FileNotFoundError):
            return sum(os.readlink(link).startswith("socket:") for link in links.iterdir())

    def memory():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    idle = sockets() + 1
    kernel = serve.start()
    serve.wait_state(kernel, "idle")
    assert processes.wait_until(lambda: sockets() == idle, 20 * harness.PATIENCE), (idle, sockets())
    least = memory()
    client = serve.connect(kernel, session="a-session")
    client.run("x = 1")
    assert sockets() > idle
    # Who asked and went away gets the answer when she is back.
    code = "for i in range(2_400): display({'text/plain': 'y' * 6_000}, raw=True)\nprint(x)"
    asked = client.send("execute_request", {"code": code, "silent": False})
    client.close()
    assert processes.wait_until(lambda: sockets() == idle, 60 * harness.PATIENCE)
    assert processes.wait_until(lambda: memory() > least + 8 * 2**20, 60 * harness.PATIENCE), (least, memory())  # it waits for her
    client = serve.connect(kernel, session="a-session")
    types, text = set(), ""
    while not {"execute_reply", "idle"} <= types:
        message = client.receive()
        if message["parent_header"].get("msg_id") == asked:
            types |= {message["header"]["msg_type"], message["content"].get("execution_state")}
            text += gateway.text_of([message])
    assert text == "1\n"
    assert gateway.text_of(client.run("print(x + 1)")) == "2\n"
    assert processes.wait_until(lambda: memory() < least + 8 * 2**20, 60 * harness.PATIENCE), (least, memory())
    assert serve.ask("POST", f"/api/kernels/{kernel}/interrupt", json={}).status_code == 204
    assert serve.ask("DELETE", f"/api/kernels/{kernel}").status_code == 204


def test_a_socket_ends_with_its_token(begin):
    """When the token file is read again: of a user who is not in it any more, or has another token; others go on."""
    server = begin()
    sockets = {user: server.connect(server.start(user=user), user) for user in gateway.TOKENS}
    users = {name: {"token": token} for name, token in gateway.TOKENS.items()}
    users["bob"]["token"] = uuid.uuid4().hex
    server.tokens.write_text(json.dumps({"users": users}))
    server.process.send_signal(signal.SIGHUP)
    with pytest.raises(ConnectionError, match="the token that this was opened with has ended"):
        while True:
            sockets["bob"].receive()
    assert gateway.text_of(sockets["anna"].run("print(6 * 7)")) == "42\n"
    del users["anna"]
    server.tokens.write_text(json.dumps({"users": users}))
    server.process.send_signal(signal.SIGHUP)
    with pytest.raises(ConnectionError, match="has ended"):
        while True:
            sockets["anna"].receive()
