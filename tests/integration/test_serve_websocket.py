"""The WebSockets of `cellwall serve` against clients that keep to nothing: each gets a close code, and nobody else notices."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import threading

import gateway
import harness
import processes
import pytest
import requests
from serving import TOKENS, Server, bearer

USERS = {name: {"token": gateway.TOKENS.get(name) or TOKENS[name], "admin": name == "admin"} for name in ("anna", "bob", "admin")}
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MIB = 1 << 20
# An instrumented server keeps what it has freed for a while.
SLACK = (24 if harness.PATIENCE < 5 else 120) * MIB


@pytest.fixture(scope="module")
def server(site):
    """With one kernel that never answers: what waits for it waits in the server."""
    name = site.variant(kernel=harness.SLEEP)
    with Server(site, "--kernelspec", name, "--start-timeout", "0", users=USERS) as server:
        server.kernels = {user: start(server, name, user) for user in ("anna", "bob")}
        yield server
        assert server.process.poll() is None, server.log()
        assert "ERROR: AddressSanitizer" not in server.log() and "runtime error" not in server.log()


@pytest.fixture(autouse=True)
def the_others_are_served(server):
    with Raw(server, user="bob") as other:
        yield
        other.send(frame(PING, b"here?"))
        assert (PONG, b"here?") in iter(other.frame, None)  # what its kernel says may come before


def start(server, name, user="anna"):
    answer = requests.post(f"{server.url}/api/kernels", json={"name": name}, headers={"Authorization": f"token {gateway.TOKENS[user]}"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def frame(opcode, payload=b"", *, last=True, mask=b"\x01\x02\x03\x04", reserved=0, size=None, wide=None):
    """`size` announces another length; `wide` (2 or 8) writes it in so many bytes, whatever it is."""
    size = len(payload) if size is None else size
    wide = wide or (0 if size < 126 else 2 if size < 65536 else 8)
    head = bytes([(0x80 if last else 0) | reserved << 4 | opcode, (0x80 if mask else 0) | {0: size, 2: 126, 8: 127}[wide]])
    head += size.to_bytes(wide, "big") if wide else b""
    if not mask:
        return head + payload
    number = int.from_bytes(payload, "little") ^ int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "little")
    return head + mask + number.to_bytes(len(payload), "little")


class Raw:
    """A connection that is upgraded, and what is sent on it as it is."""

    def __init__(self, server, v1=False, user="anna", kernel=None):
        self.socket = server.connect()
        lines = [f"GET /api/kernels/{kernel or server.kernels[user]}/channels HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Authorization: token {gateway.TOKENS[user]}"]
        lines += [f"Sec-WebSocket-Protocol: {gateway.V1}"] if v1 else []
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.input = self.socket.makefile("rb")
        assert self.input.readline().startswith(b"HTTP/1.1 101"), server.log()
        while self.input.readline() != b"\r\n":
            pass

    def send(self, data):
        """What the other end does not want any more is nothing to wait for."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self.socket.sendall(data)

    def frame(self):
        """(opcode, payload); None at the end."""
        head = self.input.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self.input.read(2 if size == 126 else 8), "big")
        return head[0] & 15, self.input.read(size)

    def close_code(self):
        """The code with which the server closes, None: it ended without a word, PING: it is still there after 30 s."""
        with contextlib.suppress(ConnectionResetError):
            while got := self.frame():
                if got == (PING, b""):  # those with a payload ask what has arrived
                    return PING
                if got[0] == CLOSE:
                    assert self.frame() is None
                    return int.from_bytes(got[1][:2], "big")
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()


def upgrade(server, *lines, host="localhost", token=None):
    """Status of the answer to an upgrade to anna's kernel."""
    query = f"?token={token}" if token else ""
    head = [f"GET /api/kernels/{server.kernels['anna']}/channels{query} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *lines, "", ""]
    with server.connect() as client, client.makefile("rb") as answer:
        client.sendall("\r\n".join(head).encode())
        return int(answer.readline().split()[1])


@pytest.mark.core
def test_pages_of_others_get_no_websocket(server):
    """A browser sends the cookie with an upgrade of any page, and asks nobody before."""
    own = server.url
    answer = requests.post(f"{own}/login", json={"token": gateway.TOKENS["anna"]}, timeout=30)
    cookie, token = f"Cookie: {answer.headers['Set-Cookie'].split(';')[0]}", f"Authorization: token {gateway.TOKENS['anna']}"
    here = own.removeprefix("http://")
    assert upgrade(server, cookie, f"Origin: {own}", host=here) == 101
    assert upgrade(server, cookie, f"Origin: https://{here}", host=here) == 101  # behind a proxy
    assert upgrade(server, cookie, host=here) == 401  # nobody says whose page it is
    assert upgrade(server, token, host=here) == 101  # no browser
    for origin in ("http://evil.example", "null", f"http://evil.example/{here}", f"{own}.evil.example", f"http://{here}@evil.example", f"ftp://{here}", "http://localhost"):
        for known in (cookie, token):
            assert upgrade(server, known, f"Origin: {origin}", host=here) == 403, origin
        assert upgrade(server, f"Origin: {origin}", host=here, token=gateway.TOKENS["anna"]) == 403, origin
    # A name of somebody else's that is made to point here: page and Host go together, and it is no name of ours.
    for host in ("evil.example", f"evil.example:{server.port()}"):
        assert upgrade(server, cookie, f"Origin: http://{host}", host=host) == 421
        assert upgrade(server, token, host=host) == 421


@pytest.mark.core
def test_a_token_in_the_address_is_never_logged(server, site):
    """It is looked at for WebSockets; the log has each request (--log debug), and no token."""
    good, wrong = gateway.TOKENS["anna"], "guess-" + "x" * 24
    assert upgrade(server, token=good) == 101
    assert " status=101 " in server.log() and good not in server.log() and "token=" not in server.log()
    with Server(site, users=USERS) as other:  # with a log of its own: no more than 20 refusals of a second are in it
        other.kernels = {"anna": "none"}
        assert upgrade(other, token=good) == 404  # known
        assert upgrade(other, token=wrong) == upgrade(other) == 401
        assert upgrade(other, "Origin: http://evil.example", token=good) == 403
        assert upgrade(other, host="evil.example", token=good) == 421
        assert requests.get(f"{other.url}/api/kernels?token={good}", timeout=30).status_code == 401  # no upgrade
        log = other.log()
    assert [f"/channels status={code} " in log for code in (401, 403, 404, 421)] == [True] * 4
    assert good not in log and wrong not in log and "token=" not in log


FRAMES = {
    "without a mask": (frame(TEXT, b"{}", mask=None), 1002),
    **{f"reserved bits {bits}": (frame(TEXT, b"{}", reserved=bits), 1002) for bits in (1, 2, 4, 7)},
    **{f"opcode {opcode}": (frame(opcode, b"{}"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a ping in parts": (frame(PING, b"a", last=False), 1002),
    "a close in parts": (frame(CLOSE, b"\x03\xe8", last=False), 1002),
    "a long ping": (frame(PING, b"a" * 126), 1002),
    "a long close": (frame(CLOSE, b"\x03\xe8" + b"a" * 124), 1002),
    "a part without a beginning": (frame(0, b"{}"), 1002),
    "a last part without a beginning": (frame(0, b"{}", last=False), 1002),
    "a message inside a message": (frame(TEXT, b"{", last=False) + frame(TEXT, b"}"), 1002),
    "a length in too many bytes": (frame(TEXT, b"{}", wide=2), 1002),
    "a length in 8 bytes that needs 2": (frame(BINARY, b"a" * 300, wide=8), 1002),
    "a length of 2^63": (frame(BINARY, size=1 << 63, wide=8), 1002),
    "a length of 2^64 - 1": (frame(BINARY, size=(1 << 64) - 1, wide=8), 1002),
    "a length of 2^63 - 1": (frame(BINARY, size=(1 << 63) - 1, wide=8), 1009),
    "more than 64 MiB": (frame(BINARY, size=64 * MIB + 1, wide=8), 1009),
    "more than 64 MiB in two parts": (frame(BINARY, b"a", last=False) + frame(0, size=64 * MIB, wide=8), 1009),
    "more than 64 MiB past 2^64": (frame(BINARY, b"a" * 10, last=False) + frame(0, size=(1 << 63) - 5, wide=8), 1009),
}
for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535):
    FRAMES[f"close code {code}"] = (frame(CLOSE, code.to_bytes(2, "big")), 1002)
for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999):
    FRAMES[f"close code {code}"] = (frame(CLOSE, code.to_bytes(2, "big") + b"bye"), code)
FRAMES |= {
    "a close without a code": (frame(CLOSE), 1000),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    "a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1002),
    "frames after the close": (frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"{}") * 10, 1000),
}
for number, text in enumerate((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xc3", b"a\x80", b"\xe2\x82")):
    FRAMES[f"text that is no UTF-8, {number}"] = (frame(TEXT, text), 1007)
    FRAMES[f"text that is no UTF-8, {number}, in parts"] = (frame(TEXT, text[:1], last=False) + frame(0, text[1:]), 1007)
for number, text in enumerate((b"\xff", b"\xe0\x9f", b"\xed\xa0", b"\xf4\x90", b"a\x80")):  # no end of the message is waited for
    FRAMES[f"text that will be no UTF-8, {number}"] = (frame(TEXT, text, last=False), 1007)
    FRAMES[f"text that will be no UTF-8, {number}, in a frame without end"] = (frame(TEXT, text, size=1000), 1007)


@pytest.mark.core
def test_frames_that_are_none(server):
    for what, (data, wanted) in FRAMES.items():
        with Raw(server) as client:
            client.send(data)
            assert (what, client.close_code()) == (what, wanted)
    for what, (data, wanted) in list(FRAMES.items())[::5]:
        with Raw(server) as client:  # a byte at a time
            for byte in data:
                client.send(bytes([byte]))
            assert (what, client.close_code()) == (what, wanted)


GOOD = b'{"header":{"msg_type":"x"},"parent_header":{},"metadata":{},"content":{},"channel":"shell","buffers":[]}'
PARTS = [b"shell", b"{}", b"{}", b"{}", b"{}"]


def v1(parts=PARTS, count=None, change=None):
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    if change:
        offsets[change[0]] = change[1]
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets) if count is None else count, *offsets) + b"".join(parts)


def legacy(*numbers, text=GOOD):
    return struct.pack(f">{len(numbers)}I", *numbers) + text


@pytest.mark.core
def test_messages_that_are_none(server):
    v1_messages = [b"", b"\0" * 7, b"\xff" * 8, b"\xff" * 4096, v1([]), v1(PARTS[:4]), v1([b"iopub", *PARTS[1:]]), v1([b"hb", *PARTS[1:]])]
    v1_messages += [v1([b"SHELL", *PARTS[1:]]), v1([b"shell\0", *PARTS[1:]]), v1([b"x" * 100000, *PARTS[1:]])]
    v1_messages += [v1(count=count) for count in (0, 1, 2, 5, 7, 100, 1 << 32, 1 << 61, (1 << 61) + 6, 1 << 63, (1 << 64) - 1)]
    for index in range(6):
        v1_messages += [v1(change=(index, value)) for value in (0, 1, 47, 1 << 32, 1 << 63, (1 << 64) - 1)]
    v1_messages += [v1(PARTS + [b""] * 5000)]
    legacy_messages = [b"", b"\0", legacy(0), legacy(1), legacy(0xFFFFFFFF), legacy(0x40000001, 8), legacy(1, 0), legacy(1, 7), legacy(1, 9), legacy(1, 0xFFFFFFFF)]
    legacy_messages += [legacy(2, 12, 11), legacy(2, 12, 0), legacy(2, 12, 0xFFFFFFFF), legacy(2, len(GOOD) + 12, 12), legacy(3, 16, 200, 150), legacy(5000, *range(5000))]
    legacy_messages += [legacy(1, 8, text=text) for text in (b"", b"[]", b"{", GOOD[:-1], GOOD + b"}", b"[" * 100000, b'{"a":' * 100000)]
    for is_v1, opcode, messages in (
        (True, BINARY, v1_messages),
        (True, TEXT, [GOOD, b""]),
        (False, BINARY, legacy_messages),
        (False, TEXT, [b"", b"1", b"[]", b"{", b"[" * 1000000, GOOD.replace(b"shell", b"iopub")]),
    ):
        for message in messages:
            with Raw(server, is_v1) as client:
                client.send(frame(opcode, message))
                assert (message[:100], client.close_code()) == (message[:100], 1002)


@pytest.mark.core
def test_parts_without_end_cost_nothing(server):
    before = server.memory()
    with Raw(server) as client:
        client.send(frame(TEXT, b"{", last=False))
        parts = frame(0, last=False) * 4096
        for _ in range(50):
            client.send(parts)
        client.send(frame(PING, b"still"))  # may stand between parts
        assert client.frame() == (PONG, b"still")
        client.send(frame(0, b"a" * 1000, last=False) * 1000 + frame(PING))
        assert client.frame() == (PONG, b"")
        client.send(frame(0, b""))
        assert client.close_code() == 1002  # no JSON
    assert server.memory() - before < SLACK


@pytest.mark.core
def test_what_is_announced_costs_nothing(server):
    """Half a frame, and then nothing more."""
    before = server.memory()
    with contextlib.ExitStack() as clients:
        for n in range(200):
            client = clients.enter_context(Raw(server))
            client.send(frame(BINARY, b"abc", size=64 * MIB, wide=8)[: 3 + n % 14])
        assert requests.get(f"{server.url}/api/me", headers=bearer("admin"), timeout=30).status_code == 200
        assert server.memory() - before < SLACK


def test_unfinished_messages_of_one_user_are_bounded(server):
    """Eight of them with 40 MiB each would be 320 MiB, and a user has 256 over all her connections."""
    before = server.memory()
    part = frame(0, b"a" * (4 * MIB), last=False)
    with contextlib.ExitStack() as clients:
        refused = 0
        for _ in range(8):
            client = clients.enter_context(Raw(server))
            client.send(frame(BINARY, last=False))
            for _ in range(10):
                client.send(part)
            client.send(frame(PING, b"there"))
            client.socket.settimeout(60)
            got = client.frame()
            assert got == (PONG, b"there") or got is None or (got[0] == CLOSE and got[1][:2] == struct.pack(">H", 1011)), got
            refused += got != (PONG, b"there")
        assert 1 <= refused <= 4
        assert server.memory() - before < 256 * MIB + SLACK
    with Raw(server) as client:  # with the connections goes what they held
        client.send(frame(BINARY, last=False) + part * 10 + frame(PING))
        assert client.frame() == (PONG, b"")


@pytest.mark.core
def test_pings_that_nobody_reads_the_answers_to(server):
    before = server.memory()
    with Raw(server) as client:
        client.socket.settimeout(0.5)
        pings = frame(PING, b"a" * 125) * 1000
        with contextlib.suppress(TimeoutError, socket.timeout):
            for _ in range(300):
                client.send(pings)
        assert server.memory() - before < SLACK


def queued(server, queue):
    text = requests.get(f"{server.url}/metrics", headers=bearer("admin"), timeout=30).text
    return int(text.split(f'cellwall_queue_bytes{{queue="{queue}"}} ')[1].split()[0])


@pytest.mark.core
def test_messages_for_a_kernel_that_takes_none(server):
    """Twelve connections to one kernel with 12 MiB each: what waits is counted over all of them, 128 MiB are kept."""
    before = server.memory()
    data = frame(BINARY, v1([*PARTS, bytes(12 * MIB)]))
    with contextlib.ExitStack() as clients:
        everybody = [clients.enter_context(Raw(server, True)) for _ in range(12)]
        for client in everybody[:10]:
            client.send(data)
        assert processes.wait_until(lambda: queued(server, "to_kernels") > 10 * 12 * MIB, 30 * harness.PATIENCE)
        for client in everybody[10:]:
            client.send(data)
            assert client.close_code() == 1011
        assert queued(server, "to_kernels") <= 128 * MIB and server.memory() - before < 128 * MIB + 2 * SLACK


@pytest.mark.core
def test_a_client_goes_on_when_its_kernel_does(site):
    """While the wall of a kernel takes nothing its client is not read; then all of it arrives, in order."""
    with Server(site, users=USERS) as server, Raw(server, True, kernel=start(server, harness.ISOLATED)) as client:
        count, room = 6, "x" * (4 * MIB)
        client.socket.settimeout(100 * harness.PATIENCE)
        client.send(request(0, "done = []"))
        assert replies(client, 1) == ["0"]
        (wall,) = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(wall), signal.SIGSTOP)
        try:
            everything = b"".join(request(n, f"done.append({n})", room) for n in range(1, count))
            everything += request(count, f"assert done == list(range(1, {count})), done")
            sender = threading.Thread(target=client.send, args=(everything,))
            sender.start()
            assert processes.wait_until(lambda: queued(server, "to_kernels") > 0, 30 * harness.PATIENCE)
            # One message waits, not what comes behind it.
            assert queued(server, "to_kernels") < 2 * len(room)
        finally:
            os.kill(int(wall), signal.SIGCONT)
        assert replies(client, count) == [str(n) for n in range(1, count + 1)]
        sender.join()
        assert queued(server, "to_kernels") == 0


def request(number, code, room=""):
    header = {"msg_id": str(number), "msg_type": "execute_request", "session": "s", "username": "u", "date": "2024-01-01T00:00:00.000000Z", "version": "5.4"}
    parts = [b"shell", *(json.dumps(part).encode() for part in (header, {}, {"room": room}, {"code": code, "silent": False}))]
    return frame(BINARY, v1(parts))


def replies(client, count):
    """The requests that the next replies are to; all are good."""
    seen = []
    while len(seen) < count:
        opcode, data = client.frame()
        assert opcode in (BINARY, PING), data
        message = gateway.unpack_v1(data) if opcode == BINARY else {"channel": ""}
        if opcode == PING:  # asks what has arrived
            client.send(frame(PONG, data))
        elif message["channel"] == "shell":
            assert message["content"]["status"] == "ok", message
            seen.append(message["parent_header"]["msg_id"])
    return seen


@pytest.mark.core
def test_a_client_that_never_reads(site):
    """Its kernel waits for it, in the server and in the wall, and memory stays."""
    with Server(site, users=USERS) as server:
        with Raw(server, True, kernel=start(server, harness.ISOLATED)) as client:
            before = server.memory()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            code = "for n in range(60): display({'text/plain': 'x' * 1000000}, raw=True)"
            content = json.dumps({"code": code, "silent": False}).encode()
            header = b'{"msg_id":"1","msg_type":"execute_request","session":"s","username":"u","date":"2024-01-01T00:00:00.000000Z","version":"5.4"}'
            client.send(frame(BINARY, v1([b"shell", header, b"{}", b"{}", content])))
            assert processes.wait_until(lambda: queued(server, "to_clients") > 8 * MIB, 30 * harness.PATIENCE)
            assert queued(server, "to_clients") < 24 * MIB
            assert server.memory() - before < 48 * MIB + SLACK
