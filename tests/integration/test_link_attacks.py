"""What others on the link's port try: to be somebody else, to stay when they may not, to use it up."""

import os
import pathlib

import pytest
from harness import PATIENCE
from linking import by_hand, far, hosts, keys, linked, talk  # noqa: F401 (fixtures)


def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# A ROUTER's numbers begin with one of rand(3): without a seed of the host's own it is among these.
CHOSEN = r"""
import ctypes
libc = ctypes.CDLL(None)
libc.srandom(1)
first = [(libc.rand() | libc.rand() << 31) & 0xFFFFFFFF for i in range(4)]
known = frame(HELLO, a=1, body=os.urandom(32))
chosen = [Connection(struct.pack(">BI", 0, number + i)) for number in first for i in range(24)]
for connection in chosen:
    connection.send(known)
for connection in [*chosen, *[Connection() for i in range(8)]]:
    assert connection.ask(known, seconds=20) == (REFUSE, NOT_KNOWN)
named = Connection(b"another")
named.send(known)
assert named.ended() and not named.hear(0)
print("refused")
"""


@pytest.mark.core
def test_a_number_of_its_own(far, start):
    """A client chooses the routing id that the next connection would get: neither that one nor the host is harmed."""
    kernel = linked(start, far)
    assert talk(far, CHOSEN) == "refused\n", far.log[-2000:]
    assert kernel.run("1 + 1").result == "2"
    assert far.process.poll() is None


OWNER = r"""
ident = os.urandom(32)
connection = Connection()
assert connection.ask(frame(HELLO, body=ident + b"{}"))[0] == WELCOME
print(ident.hex(), flush=True)
sys.stdin.readline()
again = Connection()
print(again.ask(frame(HELLO, a=1, body=ident)) == (WELCOME, 0), connection.ended())
"""

IMPOSTOR = r"""
ident = bytes.fromhex("%s")
connection = Connection()
assert connection.ask(frame(HELLO, a=1, body=ident)) == (REFUSE, NOT_KNOWN)
connection.send(message(1, 4, b"shutdown"))
other = Connection()
assert other.ask(frame(HELLO, body=ident + b"{}"))[0] == WELCOME      # a kernel of its own
print("refused")
"""


@pytest.mark.core
def test_the_session_of_another_key(far):
    """Who is allowed, and knows even the id of another's session, has nothing of it: neither its kernel nor its end."""
    with by_hand(far, OWNER) as owner:
        ident = owner.stdout.readline().strip()
        assert talk(far, IMPOSTOR % ident, key="second") == "refused\n", far.log[-2000:]
        assert owner.communicate("\n", timeout=100 * PATIENCE)[0] == "True True\n"
    assert "another in its place" not in far.log and "ended it" not in far.log
    assert "user=second result=started" in far.log


REVOKED = r"""
connection = Connection()
assert connection.ask(frame(HELLO, body=os.urandom(32) + b"{}"))[0] == WELCOME
print("started", flush=True)
while not (answer := connection.hear(1)) or answer[1] != REFUSE:
    connection.stay()
print(answer[2] == NOT_ALLOWED, answer[12:].decode(), connection.ended(), flush=True)
late = Connection()
late.send(frame(HELLO, body=os.urandom(32) + b"{}"))
print(late.ended(), late.hear(0))
"""


@pytest.mark.core
def test_revoked_while_it_runs(site, far, start):
    """The connection is cut whatever the client does, its kernels are stopped, others go on."""
    other, own = linked(start, far), start(far.spec(key="second"), transport="ipc")
    own.run("1")
    with by_hand(far, REVOKED, key="second") as client:
        assert client.stdout.readline() == "started\n"
        stopped = far.log.count('reason="its key was revoked"')
        site.run("key", "revoke", "second", check=True)
        try:
            assert client.communicate(timeout=100 * PATIENCE)[0] == "True this client's key was revoked True\nTrue b''\n"
        finally:
            site.run("key", "allow", far.keys / "second.key", check=True)
    assert far.log.count('reason="its key was revoked"') >= stopped + 2
    assert own.wait_gone(30) is not None
    assert "this client's key was revoked" in own.log
    assert other.run("6 * 7").result == "42"


NOISY = r"""
import time
begin, ident = time.monotonic(), os.urandom(32)
connection = Connection()
assert connection.ask(frame(HELLO, body=ident + b"{}"))[0] == WELCOME
for i in range(30):
    connection.send((frame(DATA, 0, 1, 1 << 40),                      # a gap; a channel that is none, in a version that is none
                     frame(DATA, 250, 1, 1, b"x" * 40, version=2))[i % 2])
    while (answer := connection.hear())[1] != REFUSE:
        pass
    connection.close()
    connection = Connection()
    assert connection.ask(frame(HELLO, a=1, body=ident))[0] == WELCOME
print(time.monotonic() - begin)
"""

UNWANTED = r"""
import time
begin = time.monotonic()
for i in range(30):
    connection = Connection()
    assert connection.ended()
    connection.close()
print(time.monotonic() - begin)
"""


def test_lines_in_the_log(far):
    """Of what a client or a stranger does again and again there is one line in a second, and a count."""
    for script, key, line in ((NOISY, "second", "user=second result=ended"), (UNWANTED, "stranger", "result=refused")):
        before = far.log.count(line)
        said = talk(far, script, key=key)
        assert far.log.count(line) - before <= float(said) + 2, said
        assert "count=" in far.log.split(line)[-1].splitlines()[0]


STRANGERS = r"""
import socket
host, port = WHERE.rsplit(":", 1)
def greet(mechanism=b"CURVE", version=b"\x03\x00", server=b"\0"):
    return b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0") + server + bytes(31)
def command(name, body, size=None):                                   # `size`: what a long frame announces
    body = bytes([len(name)]) + name + body
    return (struct.pack(">BQ", 6, size) if size else struct.pack("BB", 4, len(body))) + body
greeting, ready = greet(), command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER")
says = (b"", greeting, greeting + command(b"HELLO", os.urandom(194)), os.urandom(4096), b"GET / HTTP/1.1\r\n\r\n",
        greet(b"NULL") + ready, greet(b"PLAIN") + command(b"HELLO", b"\4user\4word"), greet(b"x" * 20), greet(version=b"\x09\x09"),
        greet(server=b"\1"), b"\x01\0", b"\xff" + bytes(8) + b"\x7f\x01", greeting + ready, greeting + b"\0\5hello", greeting * 20,
        greeting + command(b"HELLO", b"\1\0" + bytes(192)), greeting + command(b"HELLO", b""), greeting + command(b"", b""),
        greeting + command(b"INITIATE", os.urandom(200)), greeting + command(b"WELCOME", os.urandom(160)),
        greeting + command(b"ERROR", b"\xff"), *(greeting + command(b"HELLO", b"a", size=1 << bits) for bits in (16, 31, 32, 62, 63)))
held = []
for i in range(400):
    held.append(socket.create_connection((host, int(port))))
    try:
        held[-1].send(says[i % len(says)])
    except ConnectionError:                                           # it has been ended already
        pass
answers = (Connection().ask(frame(HELLO, a=1, body=os.urandom(32)), seconds=15) for i in range(5))
print(next(filter(None, answers)) == (REFUSE, NOT_KNOWN))
for one in held:                                                      # none of them stays
    one.settimeout(100)
    with contextlib.suppress(ConnectionError):
        while one.recv(65536):
            pass
print("ended", len(held))
"""


@pytest.mark.core
def test_strangers_in_numbers(far, start):
    """Connections that say nothing, stall or lie in the handshake, or send garbage are ended: who may come in does, others go on."""
    kernel = linked(start, far)
    before = resident(far.process.pid)
    assert talk(far, STRANGERS) == "True\nended 400\n", far.log[-2000:]
    assert kernel.run("1 + 1").result == "2"
    assert far.process.poll() is None
    assert resident(far.process.pid) - before < (32 if PATIENCE < 5 else 160) << 20


def test_the_near_end_is_confined(far, start):
    """Every thread of it, also those that came later; what that is worth is tests/unit/web/test_near.c."""
    if b"__asan_init" in pathlib.Path(far.site.prefix, "libexec/cellwall/cellwall-link").read_bytes():
        pytest.skip("a sanitizer's runtime asks for more than the filter lets through")
    kernel = linked(start, far)
    for status in pathlib.Path(f"/proc/{kernel.pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        assert fields["Name"].strip() != "cellwall"
        assert fields["Seccomp"].strip() == "2" and fields["NoNewPrivs"].strip() == "1", fields
