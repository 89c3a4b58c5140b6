"""Output is never dropped in silence: slow readers, large floods, readers that never come back."""

import re
import threading
import time

import harness
import processes
import pytest
from harness import ISOLATED, Raw, parse, receive, reply_to

OURS = ("proxy", "supervisor", "relay", "init", "collector")
PAUSED_MB = 240 if harness.PATIENCE < 5 else 750  # of ours, while the kernel is paused; sanitizers keep what was freed


def memory(kernel):
    """Our processes' memory in KiB: PSS where we may read it, else resident."""
    total = 0
    for role, process in kernel.roles().items():
        if role in OURS:
            total += processes.memory_kb(process.pid) or processes.resident_kb(process.pid)
    return total


def start_reader(kernel, hwm=None):
    """A raw subscriber that has seen its welcome, so that it misses nothing; the only one there is."""
    kernel.client.stop_channels()
    raw = Raw(kernel.connection_file)
    socket = raw.socket("iopub", **({} if hwm is None else {"rcvhwm": hwm, "rcvbuf": 4096}))
    assert receive(socket, 30) is not None
    return raw, socket


def heartbeats(kernel, over):
    """As every client sends them: they are answered while one does not read, and are no sign that it does."""
    with Raw(kernel.connection_file) as raw:
        while not over.wait(1):
            raw.ping()


def read_until_idle(socket, msg_id, seconds, received=None):
    """The text of all streams of one cell, and our notices; the types of all messages go to `received`."""
    text, notices = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frames = receive(socket, 1)
        if frames is None:
            continue
        message = parse(frames)
        if received is not None:
            received.append(message["msg_type"])
        if message["msg_type"] == "stream":
            # stderr also says "IOStream.flush timed out" when ipykernel was stopped for more than 10 s.
            if message["content"]["name"] == "stdout":
                text.append(message["content"]["text"])
            elif message["content"]["text"].startswith(harness.NOTICE):
                notices.append(message["content"]["text"])
        if (
            message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
            and message["parent_header"].get("msg_id") == msg_id
        ):
            return "".join(text), notices
    raise TimeoutError(f"no idle in {seconds} s; {len(text)} texts")


def test_slow_reader_gets_every_line(start):
    """50,000 lines, a client that does not read until the cell has ended: all of them, in order, in fewer messages, and the
    idle."""
    kernel = start(ISOLATED)
    raw, socket = start_reader(kernel)
    try:
        shell = raw.socket("shell")
        frames = raw.frames(
            "execute_request",
            {
                "code": "for i in range(50000): print(i, flush=True)",
                "silent": False,
                "store_history": False,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
        )
        with harness.Watch(lambda: memory(kernel), 0.25) as watch:
            shell.send_multipart(frames)
            assert receive(shell, 60 * harness.PATIENCE) is not None
            received = []
            text, _ = read_until_idle(socket, raw_id(frames), 120 * harness.PATIENCE, received)
        assert len(received) < 25000, "nothing was joined"
        assert text.split() == [str(index) for index in range(50000)]
        harness.figure(f"50,000 lines, a reader that is late: at most {watch.peak / 1024:.1f} MB in our processes")
        assert watch.peak < 60 * 1024
    finally:
        raw.close()


def raw_id(frames):
    import json

    return json.loads(frames[2])["msg_id"]


FLOOD = """
import time
line = 'x' * 100_000 + '\\n'
begin = time.time()
for i in range({count}):
    print(f'{{i:06}}' + line, flush=True)
"""


def begin_flood(kernel, raw, count):
    shell = raw.socket("shell")
    frames = raw.frames(
        "execute_request",
        {
            "code": FLOOD.format(count=count),
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
    )
    shell.send_multipart(frames)
    return shell, raw_id(frames)


def stopped(kernel):
    process = processes.read(kernel.roles()["kernel"].pid)
    return process is not None and process.state == "T"


@pytest.mark.core
def test_pause_is_visible_bounded_and_undone(start):
    """250 MB for a client that does not read: the kernel is stopped at the bound, and goes on when it reads again."""
    count = 2500 if harness.PATIENCE < 5 else 1500  # sanitizers are slow
    kernel = start(ISOLATED)
    raw, socket = start_reader(kernel, hwm=10)
    try:
        with harness.Watch(lambda: memory(kernel), 0.1) as watch:
            _, msg_id = begin_flood(kernel, raw, count)
            assert processes.wait_until(lambda: stopped(kernel), 15 * harness.PATIENCE), "the kernel was never paused"
            assert all(raw.ping() for _ in range(3)), "no heartbeat while paused"
            time.sleep(2)
            assert stopped(kernel)
            text, notices = read_until_idle(socket, msg_id, 90 * harness.PATIENCE)
        lines = text.split()
        assert [line[:6] for line in lines] == [f"{index:06}" for index in range(count)]
        assert all(len(line) == 100_006 for line in lines)
        assert any("pause" in notice for notice in notices), notices
        harness.figure(f"{count / 10:.0f} MB, a reader that waits: at most {watch.peak / 1024:.1f} MB in our processes")
        assert watch.peak < PAUSED_MB * 1024
        assert harness.execute(kernel.connect(), "1 + 1").result == "2"
    finally:
        raw.close()


@pytest.mark.parametrize("way", ["signal", "message"])
def test_interrupt_while_paused(start, way):
    kernel = start(ISOLATED)
    raw, socket = start_reader(kernel, hwm=10)
    try:
        shell, msg_id = begin_flood(kernel, raw, 20000)
        assert processes.wait_until(lambda: stopped(kernel), 15 * harness.PATIENCE)
        if way == "signal":
            kernel.manager.interrupt_kernel()
        else:
            control = raw.socket("control")
            control.send_multipart(raw.frames("interrupt_request"))
            assert receive(control, 30) is not None
        text, _ = read_until_idle(socket, msg_id, 90 * harness.PATIENCE)
        assert len(text.split()) < 20000
        frames = receive(shell, 30)
        assert parse(frames)["content"]["ename"] == "KeyboardInterrupt"
    finally:
        raw.close()


@pytest.mark.parametrize("now", [False, True])
def test_shutdown_while_paused(start, nothing_left, now):
    kernel = start(ISOLATED)
    raw, socket = start_reader(kernel, hwm=10)
    try:
        begin_flood(kernel, raw, 20000)
        assert processes.wait_until(lambda: stopped(kernel), 15 * harness.PATIENCE)
        everybody = processes.tree(kernel.pid)
        kernel.shutdown(now=now)
        assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 6 * harness.PATIENCE)
    finally:
        raw.close()


def test_no_subscriber_at_all(start):
    """Nobody listens on iopub: a cell with much output ends, nothing is kept."""
    kernel = start(ISOLATED)
    kernel.client.stop_channels()
    with Raw(kernel.connection_file) as raw:
        shell, msg_id = begin_flood(kernel, raw, 3000)
        frames = receive(shell, 60 * harness.PATIENCE)
        assert frames is not None and parse(frames)["content"]["status"] == "ok"


@pytest.mark.slow
def test_reader_that_never_returns(start):
    """One client never reads again: the other is held up for at most 30 s, and what was missed is logged with a count."""
    kernel = start(ISOLATED)
    stuck, _stuck_socket = start_reader(kernel, hwm=10)
    raw, socket = start_reader(kernel)
    over = threading.Event()
    pings = threading.Thread(target=heartbeats, args=(kernel, over))
    pings.start()
    try:
        begin = time.monotonic()
        _, msg_id = begin_flood(kernel, raw, 3000)
        pauses, last, lines = [], time.monotonic(), 0
        while True:
            frames = receive(socket, 60)
            assert frames is not None
            now = time.monotonic()
            pauses.append(now - last)
            last = now
            message = parse(frames)
            lines += message["msg_type"] == "stream" and not message["content"]["text"].startswith(harness.NOTICE)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                if message["parent_header"].get("msg_id") == msg_id:
                    break
        harness.figure(f"one reader that never returns: 300 MB in {now - begin:.1f} s, longest silence {max(pauses):.1f} s")
        assert lines >= 3000 and max(pauses) < 30 + 10 * harness.PATIENCE
        assert kernel.alive()
        told = re.search(r"disconnected 1 client\(s\) that read nothing for 25 s; (\d+) messages for them were lost", kernel.log)
        assert told and int(told[1]) > 0, kernel.log
    finally:
        over.set()
        pings.join()
        stuck.close()
        raw.close()


def test_twenty_thousand_small_outputs_with_a_reader(start):
    kernel = start(ISOLATED)
    run = kernel.run("for i in range(20000): print(i, flush=True)", timeout=120)
    assert run.stdout.split() == [str(index) for index in range(20000)]


HOSTILE = r"""
import json, os, sys, time, zmq, hmac, hashlib, threading
info = json.load(open(sys.argv[1]))
context = zmq.Context()
def bind(kind, channel):
    socket = context.socket(kind)
    socket.bind(f"ipc://{info['ip']}-{info[channel + '_port']}")
    return socket
shell, control, stdin = (bind(zmq.ROUTER, c) for c in ('shell', 'control', 'stdin'))
iopub, hb = bind(zmq.PUB, 'iopub'), bind(zmq.REP, 'hb')
iopub.sndhwm = 0
def sign(parts):
    h = hmac.new(info['key'].encode(), digestmod=hashlib.sha256)
    [h.update(p) for p in parts]
    return h.hexdigest().encode()
serial = 0
def parts(kind, content, parent={}):
    global serial
    serial += 1
    header = {'msg_id': f'h{serial}', 'msg_type': kind, 'session': 's', 'username': 'u', 'date': '2026-01-01T00:00:00Z', 'version': '5.4'}
    return [json.dumps(p).encode() for p in (header, parent, {}, content)]
def publish(kind, content, parent={}, spoil=None):
    p = parts(kind, content, parent)
    signature = sign(p)
    if spoil: signature, p = spoil(signature, p)
    frames = [b'topic', b'<IDS|MSG>', signature, *p]
    iopub.send_multipart(frames)
    return frames
"""


def hostile(site, start, body, *options):
    """A kernel written by an attacker: speaks the inner protocol itself. `body` runs after the sockets are bound."""
    kernel = [site.python, "-c", HOSTILE + body, "{inner_connection_file}"]
    return start(ISOLATED, spec=site.variant("--shared-environment", *options, kernel=kernel), wait=False)


ANSWER = r"""
def serve(extra=None):
    poller = zmq.Poller()
    for s in (shell, control, hb): poller.register(s, zmq.POLLIN)
    while True:
        for s, _ in poller.poll(100):
            frames = s.recv_multipart()
            if s is hb: s.send_multipart(frames); continue
            at = frames.index(b'<IDS|MSG>')
            header = json.loads(frames[at + 2])
            if extra and extra(s, frames, header): continue
            reply = parts(header['msg_type'].replace('_request', '_reply'), {'status': 'ok', 'implementation': 'x', 'protocol_version': '5.4'}, header)
            publish('status', {'execution_state': 'busy'}, header)
            publish('status', {'execution_state': 'idle'}, header)
            s.send_multipart(frames[:at] + [b'<IDS|MSG>', sign(reply), *reply])
"""


@pytest.mark.core
def test_bad_messages_from_the_kernel_go_no_further(site, start):
    body = (
        ANSWER
        + r"""
def extra(s, frames, header):
    if header['msg_type'] != 'execute_request': return False
    publish('stream', {'name': 'stdout', 'text': 'BAD wrong'}, header, lambda sig, p: (sig[::-1], p))
    publish('stream', {'name': 'stdout', 'text': 'BAD missing'}, header, lambda sig, p: (b'', p))
    publish('stream', {'name': 'stdout', 'text': 'BAD changed'}, header, lambda sig, p: (sig, p[:3] + [p[3].replace(b'BAD', b'BAD!')]))
    iopub.send_multipart(publish('stream', {'name': 'stdout', 'text': 'good'}, header))
    iopub.send_multipart([b'x'])
    iopub.send_multipart([b'<IDS|MSG>', b'', b'', b'', b'', b''])
    iopub.send_multipart([b''] * 500)
    iopub.send_multipart([b'<IDS|MSG>', sign([b'[' * 10000, b'{}', b'{}', b'{}']), b'[' * 10000, b'{}', b'{}', b'{}'])
    return False
serve(extra)
"""
    )
    kernel = hostile(site, start, body)
    client = kernel.connect()
    msg_id = client.execute("x")
    run = harness.Run(msg_id, reply_to(client, msg_id), harness.drain(client, 1))
    assert run.stdout == "good"
    assert kernel.alive()
    for word in ("wrong", "missing", "repeated"):
        assert processes.wait_until(lambda: word in kernel.log.lower(), 10 * harness.PATIENCE), kernel.log  # noqa: B023


def test_flood_that_undoes_the_pause(site, start):
    """A kernel whose helpers continue everybody whenever they are stopped: all of them are stopped in the end, and memory is
    bounded."""
    body = (
        ANSWER
        + r"""
def flood():
    for _ in range(4):
        if os.fork() == 0:
            while True: os.kill(-1, 18)
    while True: publish('stream', {'name': 'stdout', 'text': 'y' * 200000})
def extra(s, frames, header):
    if header['msg_type'] == 'execute_request': threading.Thread(target=flood, daemon=True).start()
serve(extra)
"""
    )
    kernel = hostile(site, start, body)
    kernel.client = kernel.connect()
    raw, socket = start_reader(kernel, hwm=10)

    def all_stopped():
        inside = processes.tree(kernel.roles()["kernel"].pid)
        return len(inside) == 5 and all(process.state == "T" for process in inside)

    try:
        with harness.Watch(lambda: memory(kernel), 0.1) as watch:
            begin_flood(kernel, raw, 0)
            assert processes.wait_until(all_stopped, 15 * harness.PATIENCE), "the kernel was never paused"
            time.sleep(1)
            assert all_stopped() and raw.ping()
        harness.figure(f"a flood that undoes the pause: at most {watch.peak / 1024:.1f} MB in our processes")
        assert watch.peak < PAUSED_MB * 1024
    finally:
        raw.close()


def test_messages_pass_byte_for_byte(site, start):
    """Odd but valid JSON, both ways: the bytes of a trusted kernel's signed parts arrive as they were sent."""
    body = (
        ANSWER
        + r"""
def extra(s, frames, header):
    if header['msg_type'] != 'odd_request': return False
    at = frames.index(b'<IDS|MSG>')
    odd = [b'{ "msg_id" : "odd1","msg_type":"odd_reply" , "session":"s","username":"","date":"","version":"5.4"}', frames[at + 2], b'{"\\ud800": NaN}', b'{"received": "%s"}' % frames[at + 2].hex().encode()]
    s.send_multipart(frames[:at] + [b'<IDS|MSG>', sign(odd), *odd, frames[at + 6], b'', b'\x00\xff'])
    return True
serve(extra)
"""
    )
    kernel = hostile(site, start, body, "--policy", site.policy({"outputs": {"mode": "off"}}))
    kernel.connect()
    with Raw(kernel.connection_file) as raw:
        shell = raw.socket("shell")
        header = b'{"version":"5.4",  "msg_type" :"odd_request","msg_id":"a\\u0041","session":"q", "date":"", "username":"\xc3\xa4"}'
        signed = [header, b"{}", b'{ "a" :1}', b'{"n": 1e400}']
        shell.send_multipart([b"<IDS|MSG>", raw.sign(signed), *signed, b"buffer\0"])
        frames = receive(shell, 30)
        assert frames is not None, kernel.log
        at = frames.index(b"<IDS|MSG>")
        assert frames[at + 2].startswith(b'{ "msg_id" : "odd1"') and frames[at + 4] == b'{"\\ud800": NaN}'
        assert header.hex().encode() in frames[at + 5]
        assert frames[at + 6 :] == [b"buffer\0", b"", b"\x00\xff"]
        assert frames[at + 1] == raw.sign(frames[at + 2 : at + 6])
