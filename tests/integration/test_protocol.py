"""What jupyter_kernel_test leaves out: stdin, comms, debugger, subshells, several clients, keys, transports, buffers."""

import contextlib
import hashlib
import os
import queue
import threading
import time

import harness
import pytest
from harness import DIRECT, ISOLATED, Raw, execute, parse, receive, reply_to, request

KINDS = pytest.mark.parametrize("kind", [DIRECT, ISOLATED])


def with_outputs(start, site, kernel, **outputs):
    """Another kernel than this one, when it is behind the wall, with these words of the policy."""
    if kernel.kind == DIRECT:
        return kernel
    return start(ISOLATED, spec=site.variant("--policy", site.policy({"outputs": outputs})))


@pytest.fixture
def trusted(start, site, shared):
    """One whose messages are not looked at."""
    return with_outputs(start, site, shared, mode="off")


@pytest.fixture
def commed(start, site, shared):
    """One that may open the comms of these tests."""
    return with_outputs(start, site, shared, comm_targets=["echo", "mine"])


@pytest.mark.core
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@KINDS
def test_executes(start, kind, transport):
    kernel = start(kind, transport=transport)
    assert kernel.run("1 + 1").result == "2"
    assert len(kernel.run("print('a', flush=True); print('b')").stdout) == 4
    failed = kernel.run("1/0")
    assert failed.status == "error" and failed.problem.startswith("ZeroDivisionError")


@pytest.mark.core
def test_input(shared):
    client = shared.client
    msg_id = client.execute("print('hello ' + input('name? '))", allow_stdin=True)
    asked = client.get_stdin_msg(timeout=10 * harness.PATIENCE)
    assert asked["msg_type"] == "input_request"
    assert asked["content"]["prompt"].endswith("name? ") and asked["content"]["password"] is False
    assert asked["parent_header"]["msg_id"] == msg_id
    client.input("world")
    run = harness.Run(msg_id, reply_to(client, msg_id), harness.collect(client, msg_id, 10))
    assert run.stdout == "hello world\n" and run.status == "ok"


def test_input_goes_to_the_client_that_asked(shared):
    other = shared.connect()
    msg_id = other.execute("answer = input('?')", allow_stdin=True)
    assert other.get_stdin_msg(timeout=10 * harness.PATIENCE)["msg_type"] == "input_request"
    with pytest.raises(queue.Empty):
        shared.client.get_stdin_msg(timeout=0.3)
    other.input("from the second")
    assert reply_to(other, msg_id)["content"]["status"] == "ok"
    assert shared.run("answer").result == "'from the second'"


def test_input_that_is_not_allowed(shared):
    run = shared.run("input()", allow_stdin=False)
    assert run.status == "error" and "StdinNotImplementedError" in run.problem


def test_history_of_a_range(shared):
    client = shared.client
    codes = ["'first of the range'", "'second of the range'"]
    first = [shared.run(code).reply["content"]["execution_count"] for code in codes][0]
    msg_id = client.history(raw=True, output=True, hist_access_type="range", session=0, start=first, stop=first + 2)
    entries = reply_to(client, msg_id)["content"]["history"]
    assert [(line, source) for _, line, (source, _) in entries] == [(first, codes[0]), (first + 1, codes[1])]


ECHO_COMM = """
def echo(comm, opened):
    @comm.on_msg
    def answer(message):
        comm.send({'sizes': [len(b) for b in message['buffers']]}, buffers=[bytes(b)[::-1] for b in message['buffers']])
get_ipython().kernel.comm_manager.register_target('echo', echo)
"""


@pytest.mark.core
def test_comm_with_buffers_both_ways(commed):
    client = commed.client
    commed.run(ECHO_COMM)
    request(client, "comm_open", {"comm_id": "one", "target_name": "echo", "data": {}})
    buffers = [b"", os.urandom(1), b"<IDS|MSG>", bytes(range(256)), os.urandom(1 << 20)]
    msg_id = request(client, "comm_msg", {"comm_id": "one", "data": {"x": 1}}, buffers=buffers)
    answers = [m for m in harness.collect(client, msg_id, 20) if m["msg_type"] == "comm_msg"]
    assert len(answers) == 1
    assert answers[0]["content"]["data"] == {"sizes": [len(buffer) for buffer in buffers]}
    assert [bytes(buffer) for buffer in answers[0]["buffers"]] == [buffer[::-1] for buffer in buffers]


def test_comm_opened_by_the_kernel(commed):
    run = commed.run(
        "from comm import create_comm\nc = create_comm('mine', data={'a': 1}, buffers=[b'\\x00\\xff'])\nc.close()"
    )
    opened = [message for message in run.messages if message["msg_type"] == "comm_open"]
    assert opened[0]["content"]["target_name"] == "mine" and bytes(opened[0]["buffers"][0]) == b"\x00\xff"
    assert [m["msg_type"] for m in run.messages].count("comm_close") == 1


def test_many_buffers(commed):
    client = commed.client
    commed.run(ECHO_COMM)
    request(client, "comm_open", {"comm_id": "many", "target_name": "echo", "data": {}})
    buffers = [bytes([index % 256]) * index for index in range(500)]
    msg_id = request(client, "comm_msg", {"comm_id": "many", "data": {}}, buffers=buffers)
    answers = [m for m in harness.collect(client, msg_id, 20) if m["msg_type"] == "comm_msg"]
    assert [bytes(buffer) for buffer in answers[0]["buffers"]] == [buffer[::-1] for buffer in buffers]


@pytest.mark.core
def test_large_output_arrives_whole(shared):
    run = shared.run("print('x' * 20_000_000)", timeout=60)
    assert len(run.stdout) == 20_000_001


def test_large_input_arrives_whole(shared):
    text = os.urandom(4_000_000).hex()
    run = shared.run(f"import hashlib; hashlib.sha256('{text}'.encode()).hexdigest()", timeout=60)
    assert run.result == repr(hashlib.sha256(text.encode()).hexdigest())


def test_text_that_json_libraries_stumble_over(trusted):
    run = trusted.run(
        "from IPython.display import publish_display_data as p\n"
        "p({'application/x': {'big': 2**80, 'small': 1e-300, 'nul': chr(0), 'emoji': chr(0x1f600)}})"
    )
    data = run.of("display_data")[0]["data"]["application/x"]
    assert data == {"big": 2**80, "small": 1e-300, "nul": "\0", "emoji": "\U0001f600"}


def test_unknown_message_type_passes(trusted):
    client = trusted.client
    trusted.run(
        "kernel = get_ipython().kernel\n"
        "async def answer(stream, ident, parent):\n"
        "    kernel.session.send(kernel.iopub_socket, 'strange_news', {'n': 1}, parent=parent, ident=b'strange')\n"
        "    kernel.session.send(stream, 'strange_reply', parent['content'], parent, ident=ident)\n"
        "kernel.shell_handlers['strange_request'] = answer\n"
    )
    msg_id = request(client, "strange_request", {"deep": [[[1]]], "extra": None}, header={"unknown_field": [1, 2]})
    reply = reply_to(client, msg_id)
    assert reply["msg_type"] == "strange_reply" and reply["content"] == {"deep": [[[1]]], "extra": None}
    assert reply["parent_header"]["unknown_field"] == [1, 2]
    assert "strange_news" in [m["msg_type"] for m in harness.collect(client, msg_id, 10)]


def test_shell_requests_on_control(shared):
    msg_id = request(shared.client, "kernel_info_request", channel="control")
    assert reply_to(shared.client, msg_id, channel="control")["content"]["implementation"] == "ipython"


def test_control_is_answered_while_a_cell_runs(shared):
    client = shared.client
    msg_id = client.execute("print('begun', flush=True)\nwhile True: pass")
    shared.started(msg_id, "stream")
    asked = request(client, "kernel_info_request", channel="control")
    reply_to(client, asked, channel="control")
    with contextlib.suppress(queue.Empty):
        while True:
            assert client.get_shell_msg(timeout=0)["parent_header"].get("msg_id") != msg_id
    shared.manager.interrupt_kernel()
    reply_to(client, msg_id)
    harness.collect(client, msg_id, 10 * harness.PATIENCE)


@pytest.mark.core
def test_debugger(shared):
    """Attach, breakpoint, stop, look, go on: what JupyterLab's debugger does."""
    client, number = shared.client, iter(range(1, 100))

    def debug(command, arguments=None):
        content = {"type": "request", "seq": next(number), "command": command, "arguments": arguments or {}}
        reply = reply_to(client, request(client, "debug_request", content, channel="control"), channel="control")
        assert reply["content"].get("success"), reply["content"]
        return reply["content"].get("body") or {}

    def event(name):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            message = client.get_iopub_msg(timeout=20 * harness.PATIENCE)
            if message["msg_type"] == "debug_event" and message["content"]["event"] == name:
                return message["content"]
        raise TimeoutError(name)

    code = "def f(a):\n    b = a + 1\n    return b * 2\nprint(f(20))"
    debug(
        "initialize",
        {
            "clientID": "t",
            "clientName": "t",
            "adapterID": "",
            "linesStartAt1": True,
            "columnsStartAt1": True,
            "pathFormat": "path",
            "supportsVariableType": True,
            "supportsVariablePaging": True,
            "supportsRunInTerminalRequest": True,
            "locale": "en",
        },
    )
    debug("attach")
    try:
        path = debug("dumpCell", {"code": code})["sourcePath"]
        points = debug(
            "setBreakpoints", {"source": {"path": path}, "breakpoints": [{"line": 2}], "sourceModified": False}
        )["breakpoints"]
        assert points[0]["verified"]
        debug("configurationDone")
        assert debug("debugInfo")["isStarted"]
        msg_id = client.execute(code)
        thread = event("stopped")["body"]["threadId"]
        frame = debug("stackTrace", {"threadId": thread})["stackFrames"][0]
        assert frame["line"] == 2
        scope = debug("scopes", {"frameId": frame["id"]})["scopes"][0]
        values = debug("variables", {"variablesReference": scope["variablesReference"]})["variables"]
        assert {value["name"]: value["value"] for value in values}["a"] == "20"
        debug("continue", {"threadId": thread})
        run = harness.Run(msg_id, reply_to(client, msg_id), harness.collect(client, msg_id, 20))
        assert run.stdout == "42\n"
    finally:
        debug("disconnect", {"restart": False, "terminateDebuggee": False})


def test_subshells(shared):
    client = shared.client
    info = reply_to(client, request(client, "kernel_info_request"))
    if "kernel subshells" not in info["content"].get("supported_features", []):
        pytest.skip("this ipykernel has no subshells")

    def control(msg_type, content=None):
        return reply_to(client, request(client, msg_type, content, channel="control"), channel="control")["content"]

    one = control("create_subshell_request")["subshell_id"]
    two = control("create_subshell_request")["subshell_id"]
    assert sorted(control("list_subshell_request")["subshell_id"]) == sorted([one, two])
    shared.run("import threading; together = threading.Barrier(3)")
    execution = {"silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    wait = {"code": "together.wait(60)", **execution}  # fails in all when the three do not run at the same time
    main = request(client, "execute_request", wait)
    first = request(client, "execute_request", wait, header={"subshell_id": one})
    second = request(client, "execute_request", wait, header={"subshell_id": two})
    waiting, replies = {main, first, second}, {}
    while waiting:
        reply = client.get_shell_msg(timeout=80)
        replies[reply["parent_header"]["msg_id"]] = reply
        waiting.discard(reply["parent_header"]["msg_id"])
    assert [replies[one]["content"]["status"] for one in (main, first, second)] == ["ok"] * 3
    assert replies[first]["header"].get("subshell_id") in (one, None)
    assert replies[first]["parent_header"]["subshell_id"] == one
    for subshell in (one, two):
        assert control("delete_subshell_request", {"subshell_id": subshell})["status"] == "ok"
    assert control("list_subshell_request")["subshell_id"] == []
    harness.drain(client)


@pytest.mark.core
def test_two_clients(shared):
    """Each gets its own replies; both see all output."""
    first, second = shared.client, shared.connect()
    harness.drain(first)
    harness.drain(second)
    a = first.execute("print('from the first')")
    b = second.execute("print('from the second')")
    for client, msg_id in ((first, a), (second, b)):
        assert reply_to(client, msg_id)["content"]["status"] == "ok"
    for client in (first, second):
        texts, idle = [], set()
        while idle != {a, b}:
            message = client.get_iopub_msg(timeout=20 * harness.PATIENCE)
            texts += [message["content"]["text"]] if message["msg_type"] == "stream" else []
            if message["content"].get("execution_state") == "idle":
                idle |= {a, b} & {message["parent_header"]["msg_id"]}
        assert sorted(texts) == ["from the first\n", "from the second\n"]
        with pytest.raises(queue.Empty):
            client.get_shell_msg(timeout=0.2)


def test_many_clients_at_once(shared):
    clients = [shared.connect() for _ in range(6)]
    wrong = []

    def work(index):
        for turn in range(10):
            msg_id = clients[index].execute(f"{index} * 1000 + {turn}", store_history=False)
            try:
                reply_to(clients[index], msg_id, 20)
            except TimeoutError as problem:
                wrong.append(problem)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    harness.drain(shared.client)


def test_same_identity_takes_over(shared):
    """A client that reconnects under its identity gets the replies, the stale connection does not (ROUTER_HANDOVER)."""
    old = shared.connect(session="reconnecting-client")
    assert execute(old, "1").status == "ok"
    new = shared.connect(session="reconnecting-client")
    assert execute(new, "2").result == "2"
    old.stop_channels()
    assert execute(new, "3").result == "3"


def test_reply_waits_for_a_client_that_reconnects(shared):
    """The reply to a request of a connection that is gone reaches the same identity when it is back."""
    old = shared.connect(session="comes-back")
    msg_id = old.execute("import time; time.sleep(1); 'late'")
    shared.started(msg_id)
    old.stop_channels()
    new = shared.connect(session="comes-back", wait=False)
    assert reply_to(new, msg_id, 10 * harness.PATIENCE)["content"]["status"] == "ok"


@pytest.mark.core
def test_every_subscriber_is_welcomed(shared):
    """ipykernel itself welcomes the first subscriber only; behind the wall it is each one."""
    for number in range(3):
        with Raw(shared.connection_file) as raw:
            socket = raw.socket("iopub")
            if shared.kind == DIRECT:
                continue
            frames = receive(socket, 20)
            assert frames is not None, f"subscriber {number + 1} got no welcome"
            message = parse(frames)
            assert message["msg_type"] == "iopub_welcome"
            assert message["content"] == {"subscription": ""} and message["parent_header"] == {}
            assert message["signature"] == raw.sign(frames[frames.index(b"<IDS|MSG>") + 2 :][:4])


def test_topic_subscriptions(shared):
    with Raw(shared.connection_file) as raw:
        socket = raw.socket("iopub", subscribe=b"stream")
        kinds, texts = [], []
        for _ in range(20):  # until the subscription has arrived
            shared.run("print('for the topic'); 1")
            while (frames := receive(socket, 1)) is not None:
                message = parse(frames)
                kinds.append(message["msg_type"])
                assert message["msg_type"] == "iopub_welcome" or frames[0].startswith(b"stream")
                texts += [message["content"].get("text")]
            if "for the topic\n" in texts:
                break
        assert "for the topic\n" in texts and "execute_result" not in kinds


KEYS = [(b"", None), (b"k", "hmac-md5"), (b"key" * 99, "hmac-sha512"), (b"\xc3\xa4", "hmac-sha1")]


@pytest.mark.parametrize("key, scheme", KEYS)
@pytest.mark.parametrize("kind, transport", [(DIRECT, "ipc"), (ISOLATED, "tcp"), (ISOLATED, "ipc")])
def test_keys_and_schemes(start, kind, transport, key, scheme):
    kernel = start(kind, transport=transport, key=key, scheme=scheme)
    assert kernel.run("21 * 2").result == "42"


@pytest.mark.core
@KINDS
def test_bad_signatures_go_no_further(start, kind):
    kernel = start(kind)
    kernel.run("hits = []")
    options = {"silent": True, "store_history": False, "user_expressions": {}, "allow_stdin": False}

    def request_for(word):
        return {"code": f"hits.append({word!r})", **options}

    with Raw(kernel.connection_file) as raw:
        for channel in ("shell", "control"):
            socket = raw.socket(channel)
            good = raw.frames("execute_request", request_for("good " + channel))
            wrong = raw.frames("execute_request", request_for("wrong"))
            wrong[1] = bytes(reversed(wrong[1]))
            missing = raw.frames("execute_request", request_for("missing"))
            missing[1] = b""
            short = raw.frames("execute_request", request_for("short"))
            short[1] = short[1][:-1]
            upper = raw.frames("execute_request", request_for("other content"))
            upper[5] = upper[5].replace(b"other", b"OTHER")
            for frames in (good, wrong, missing, short, upper, good):
                socket.send_multipart(frames)
            # No delimiter, no frames to speak of, and a delimiter alone.
            for frames in ([b"x"], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"", b"{}"], [b""] * 8):
                socket.send_multipart(frames)
            assert receive(socket, 20) is not None
            # What comes behind them all is answered behind them.
            socket.send_multipart(raw.frames("kernel_info_request"))
            assert receive(socket, 20) is not None
    assert kernel.run("sorted(hits)").result == "['good control', 'good shell']"
    if kind == ISOLATED:
        log = kernel.log.lower()
        for word in ("wrong", "missing", "repeated"):
            assert word in log, f"nothing about {word} in:\n{log}"


def test_signature_covers_what_comes_back(shared):
    with Raw(shared.connection_file) as raw:
        shell, iopub = raw.socket("shell"), raw.socket("iopub")
        for _ in range(20):  # until the subscription has arrived
            shell.send_multipart(raw.frames("kernel_info_request"))
            if iopub.poll(1000):
                break
        for socket in (shell, iopub):
            frames = receive(socket, 20)
            at = frames.index(b"<IDS|MSG>")
            assert frames[at + 1] == raw.sign(frames[at + 2 : at + 6])


def test_heartbeat(shared):
    with Raw(shared.connection_file) as raw:
        assert all(raw.ping() for _ in range(5))
        socket = raw.socket("hb")
        for data in (b"", b"\0", os.urandom(2000)):
            socket.send(data)
            assert receive(socket) == [data]


@pytest.mark.core
@KINDS
def test_order_of_many_cells(start, kind):
    """Cells sent all at once: what a cell puts out comes whole, between its busy and its idle, before the next one's."""
    kernel = start(kind)
    harness.drain(kernel.client)
    ids = [kernel.client.execute(f"print({index})") for index in range(50)]
    seen = []
    while not seen or seen[-1] != (ids[-1], "idle"):
        message = kernel.client.get_iopub_msg(timeout=20 * harness.PATIENCE)
        content, parent = message["content"], message["parent_header"].get("msg_id")
        if parent in ids:
            seen.append((parent, content.get("execution_state") or content.get("text") or message["msg_type"]))
    cells = {msg_id: [what for parent, what in seen if parent == msg_id] for msg_id in ids}
    for index, msg_id in enumerate(ids):
        whole = cells[msg_id]
        assert whole[:2] == ["busy", "execute_input"] and whole[-1] == "idle" and "".join(whole[2:-1]) == f"{index}\n"
    order = [parent for parent, _ in seen]
    assert order == sorted(order, key=ids.index), "messages of one cell overtook those of another"
    replies = []
    while len(replies) < len(ids):
        parent = kernel.client.get_shell_msg(timeout=10 * harness.PATIENCE)["parent_header"]["msg_id"]
        if parent in ids:  # not a late one to what was asked until the kernel was there
            replies.append(parent)
    assert replies == ids
