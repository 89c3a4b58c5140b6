"""The relay alone: real namespaces, a kernel made of plain ZeroMQ sockets, and this process as the proxy.

The executable is the one below CELLWALL_PREFIX; CELLWALL_RELAY names another.
"""

import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback

import pytest
import zmq

RELAY = os.environ.get("CELLWALL_RELAY",
                       os.path.join(os.environ.get("CELLWALL_PREFIX", ""), "libexec/cellwall/cellwall-relay"))
SHELL, CONTROL, STDIN, IOPUB, HB = range(5)
MESSAGE, READY, DROPPED = 1, 2, 3
PORT = {SHELL: 1, IOPUB: 2, STDIN: 3, CONTROL: 4, HB: 5}
MIB = 1024 * 1024

NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC = 0x20000, 0x10000000, 0x20000000, 0x40000000, 0x08000000
SYS_OPEN_TREE = 428
OPEN_TREE_CLONE, AT_FDCWD, AT_EMPTY_PATH = 1, -100, 0x1000
libc = ctypes.CDLL(None, use_errno=True)
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(16) + b"\0" + bytes(31)  # ZMTP 3.0, NULL


def instrumented():
    with open(RELAY, "rb") as file:
        return b"__asan_init" in file.read()


ASAN = os.access(RELAY, os.R_OK) and instrumented()
pytestmark = pytest.mark.core


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def frame(kind, channel, parts):
    head = struct.pack("<4sBBHI", b"CW01", kind, channel, len(parts), sum(map(len, parts)))
    return head + struct.pack("<%dI" % len(parts), *map(len, parts)) + b"".join(parts)


class Kernel:
    """Five sockets where the relay looks for them; runs in a process of its own inside the namespaces."""

    def __init__(self, place, orders):
        self.place, self.orders = place, orders
        self.context = zmq.Context()
        self.sockets = {}

    def bind(self, channel):
        kind = zmq.XPUB if channel == IOPUB else zmq.ROUTER
        made = self.context.socket(kind)
        made.linger = 1000
        made.sndhwm = 0
        made.bind(f"ipc://{self.place}/k-{PORT[channel]}")
        self.sockets[channel] = made
        return made

    def bind_all(self):
        for channel in PORT:
            self.bind(channel)
        return self

    def listen(self, channel):
        """A plain listener where this channel's socket would be: for what no ZeroMQ socket says."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self.place}/k-{PORT[channel]}")
        listener.listen()
        return listener

    def all_but(self, channel):
        """The sockets of the others, and greet(more): a connection to a plain listener in the place of this one. It was
        greeted as by a ZeroMQ socket, and told `more` in the same breath; what it is told then is the test's."""
        for other in PORT:
            if other != channel:
                self.bind(other)
        listener = self.listen(channel)
        kind = b"PUB" if channel == IOPUB else b"ROUTER"
        ready = b"\5READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind

        def greet(more=b""):
            connection = listener.accept()[0]
            connection.sendall(GREETING + b"\4" + bytes([len(ready)]) + ready + more)
            return connection

        return greet

    def subscribed(self):
        assert self.sockets[IOPUB].recv() == b"\1"

    def order(self):
        """Waits for the test to say something."""
        return self.orders.recv(1)

    def tell(self):
        self.orders.send(b".")

    def echo(self, seconds=60):
        poller = zmq.Poller()
        for made in self.sockets.values():
            poller.register(made, zmq.POLLIN)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for made, _ in poller.poll(1000):
                parts = made.recv_multipart()
                if made is not self.sockets[IOPUB]:
                    made.send_multipart(parts)


class Sandbox:
    """Builds the namespaces and starts a kernel and the relay, as the supervisor does."""

    def __init__(self, kernel, place, detached=True, before=None, wrong="", memory=0):
        self.wall, inner_wall = socket.socketpair()
        self.orders, inner_orders = socket.socketpair()
        life_read, self.life = os.pipe()
        self.error, error_write = os.pipe()
        report_read, report = os.pipe()
        builder = os.fork()
        if builder == 0:
            try:
                self.wall.close()
                os.close(self.life)
                self._build(kernel, str(place), detached, before, wrong, memory, inner_wall, inner_orders,
                            life_read, error_write, report)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(9)
        for fd in (life_read, error_write, report):
            os.close(fd)
        inner_wall.close()
        inner_orders.close()
        self.builder, self.report, self.buffer = builder, report_read, bytearray()
        line = self._line()
        self.pid, self.kernel = map(int, line.split())

    def _line(self):
        line = b""
        while not line.endswith(b"\n"):
            got = os.read(self.report, 1)
            assert got, "the builder failed"
            line += got
        return line

    def _build(self, kernel, place, detached, before, wrong, memory, wall, orders, life, error, report):
        user, group = os.getuid(), os.getgid()
        check(libc.unshare(NEWUSER | NEWNS | NEWNET | NEWIPC))
        for name, text in ("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1"):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
        check(libc.mount(b"sockets", place.encode(), b"tmpfs", 6, b"size=64m"))  # nosuid, nodev
        if before:
            before(place)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for fd in (life, error, report):
                    os.close(fd)
                wall.close()
                kernel(Kernel(place, orders))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        orders.close()
        check(libc.unshare(NEWPID))
        # Leaves both a descriptor that is not CLOEXEC, and in the namespace the relay is going to have.
        relay = os.fork()
        if relay == 0:
            check(libc.unshare(NEWNS))
            tree = (check(libc.syscall(SYS_OPEN_TREE, AT_FDCWD, (place + wrong).encode(), OPEN_TREE_CLONE))
                    if detached else os.open(place, os.O_RDONLY | os.O_DIRECTORY))
            fds = [os.dup(fd) for fd in (wall.fileno(), life, tree, error)]
            fds = [os.dup2(fd, 40 + i) for i, fd in enumerate(fds)]
            for i, fd in enumerate(fds):
                os.dup2(fd, 3 + i)
            os.closerange(7, 64)
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
            if memory:
                resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            os.execve(RELAY, ["cellwall-relay"], sanitizer())
        for fd in (life, error):
            os.close(fd)
        wall.close()
        os.write(report, f"{relay} {child}\n".encode())
        _, status = os.waitpid(relay, 0)
        os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os._exit(0)

    def status(self, seconds=30):
        """The relay's exit status, once it has ended."""
        assert select.select([self.report], [], [], seconds)[0], "the relay runs on"
        return int(self._line())

    def send(self, channel, *parts):
        self.wall.sendall(frame(MESSAGE, channel, list(parts)))

    def _need(self, size):
        while len(self.buffer) < size:
            got = self.wall.recv(MIB)
            if not got:
                raise EOFError
            self.buffer += got

    def receive(self, seconds=30):
        """(kind, channel, parts) of the next frame."""
        self.wall.settimeout(seconds)
        self._need(12)
        magic, kind, channel, count, total = struct.unpack_from("<4sBBHI", self.buffer)
        assert magic == b"CW01"
        self._need(12 + 4 * count + total)
        sizes = struct.unpack_from("<%dI" % count, self.buffer, 12)
        at, parts = 12 + 4 * count, []
        for size in sizes:
            parts.append(bytes(self.buffer[at:at + size]))
            at += size
        del self.buffer[:at]
        return kind, channel, parts

    def ready(self):
        said = os.read(self.error, 1000) if select.select([self.error], [], [], 30)[0] else b"nothing for 30 s"
        assert not said, said
        assert self.receive() == (READY, IOPUB, [])

    def memory(self):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def close(self):
        self.wall.close()
        self.orders.close()
        os.close(self.life)
        os.close(self.error)
        os.waitpid(self.builder, 0)
        os.close(self.report)


def sanitizer():
    return {"ASAN_OPTIONS": "detect_leaks=0"} if ASAN else {}


@pytest.fixture
def sandbox(tmp_path):
    made = []

    def make(kernel, **arguments):
        made.append(Sandbox(kernel, tmp_path, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def echo(kernel):
    kernel.bind_all().echo()


@pytest.mark.parametrize("detached", [True, False])
def test_every_channel_both_ways(sandbox, detached):
    relay = sandbox(echo, detached=detached)
    relay.ready()
    for channel in (SHELL, CONTROL, STDIN, HB):
        relay.send(channel, b"client", b"", b"ping", bytes(100_000))
        assert relay.receive() == (MESSAGE, channel, [b"client", b"", b"ping", bytes(100_000)])


def test_messages_wait_for_iopub(sandbox):
    def late(kernel):
        kernel.bind(SHELL)
        kernel.order()
        kernel.bind(IOPUB)
        identity, *parts = kernel.sockets[SHELL].recv_multipart()
        kernel.sockets[IOPUB].send_multipart([b"status", b"busy"])
        kernel.order()

    relay = sandbox(late)
    relay.send(SHELL, b"execute")
    time.sleep(0.3)
    assert not select.select([relay.wall], [], [], 0)[0]
    relay.orders.send(b"g")
    relay.ready()
    assert relay.receive() == (MESSAGE, IOPUB, [b"status", b"busy"])


def test_one_identity(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        identity, _ = kernel.sockets[SHELL].recv_multipart()
        assert len(identity) == 16
        kernel.sockets[STDIN].router_mandatory = True
        for _ in range(1000):
            try:
                kernel.sockets[STDIN].send_multipart([identity, b"input_request"])
                break
            except zmq.ZMQError:
                time.sleep(0.02)
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.send(SHELL, b"execute")
    assert relay.receive() == (MESSAGE, STDIN, [b"input_request"])


def test_large_and_many(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        kernel.sockets[IOPUB].send_multipart([b"big", bytes(100_000_000)])
        kernel.sockets[IOPUB].send_multipart([b"big", bytes(100_000_000)])
        for i in range(20_000):
            kernel.sockets[IOPUB].send_multipart([b"topic", b"<IDS|MSG>", b"%d" % i])
        kernel.echo()

    relay = sandbox(kernel)
    relay.ready()
    for _ in range(2):
        kind, channel, parts = relay.receive(30)
        assert (kind, channel) == (MESSAGE, IOPUB)
        assert parts == [b"big", bytes(100_000_000)]
    for i in range(20_000):
        assert relay.receive() == (MESSAGE, IOPUB, [b"topic", b"<IDS|MSG>", b"%d" % i])
    relay.send(SHELL, b"x", bytes(100_000_000))
    assert relay.receive(30) == (MESSAGE, SHELL, [b"x", bytes(100_000_000)])


@pytest.mark.parametrize("size", [10, 2_000, 300_000])
def test_flood_without_a_reader(sandbox, size):
    """Output past the limit is dropped, memory stays bounded, and the count is exact."""
    sent = {10: 2_000_000, 2_000: 400_000, 300_000: 3_000}[size]

    def kernel(kernel):
        kernel.bind_all().subscribed()
        kernel.sockets[IOPUB].sndhwm = 0
        payload = bytes(size)
        for _ in range(sent):
            kernel.sockets[IOPUB].send_multipart([b"topic", payload], copy=size < 10_000)
        kernel.tell()
        kernel.order()
        kernel.sockets[IOPUB].send_multipart([b"end"])
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.settimeout(120)
    relay.orders.recv(1)
    time.sleep(1)
    assert relay.memory() < (1200 if ASAN else 500) * MIB
    arrived = dropped = bytes_dropped = 0
    while arrived + dropped < sent:
        kind, channel, parts = relay.receive()
        assert channel == IOPUB
        if kind == DROPPED:
            counts = struct.unpack("<2Q", parts[0])
            dropped += counts[0]
            bytes_dropped += counts[1]
        else:
            arrived += 1
    assert dropped > 0
    assert bytes_dropped == dropped * (5 + size)
    relay.orders.send(b"g")
    assert relay.receive() == (MESSAGE, IOPUB, [b"end"])


def test_replies_without_a_reader(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        identity, _ = kernel.sockets[SHELL].recv_multipart()
        kernel.sockets[SHELL].sndhwm = 1000
        for i in range(300_000):
            kernel.sockets[SHELL].send_multipart([identity, bytes(1000)])
        kernel.tell()
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.send(SHELL, b"go")
    relay.orders.settimeout(60)
    relay.orders.recv(1)
    assert relay.memory() < (400 if ASAN else 120) * MIB
    for _ in range(10_000):
        assert relay.receive()[:2] == (MESSAGE, SHELL)


def test_a_message_over_the_caps(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        out = kernel.sockets[IOPUB]
        out.send_multipart([b"p"] * 5000)
        out.send_multipart([b"p"] * 4096)
        out.send_multipart([b"q", bytes(300 * MIB), bytes(300 * MIB)], copy=False)
        out.send_multipart([b"after"])
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    seen = [relay.receive(30) for _ in range(2)]
    told = [struct.unpack("<2Q", parts[0]) for kind, _, parts in seen if kind == DROPPED]
    while sum(count for count, _ in told) < 2 or seen[-1][2] != [b"after"]:
        seen.append(relay.receive(30))
        if seen[-1][0] == DROPPED:
            told.append(struct.unpack("<2Q", seen[-1][2][0]))
            if seen[-2][2] == [b"after"]:
                break
    assert [parts for kind, _, parts in seen if kind == MESSAGE] == [[b"p"] * 4096, [b"after"]]
    assert sum(size for _, size in told) == 5000 + 1 + 600 * MIB


def test_a_frame_over_the_cap_ends_only_one_connection(sandbox):
    """It is made again, with a word that something is missing."""
    def kernel(kernel):
        out = kernel.bind_all().sockets[IOPUB]
        kernel.subscribed()
        kernel.order()
        out.send_multipart([b"q", bytes(600 * MIB)], copy=False)
        while out.recv() != b"\1":
            pass
        out.send_multipart([b"after"])
        kernel.echo()

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.send(b"g")
    seen = [relay.receive(30), relay.receive(30)]
    assert (MESSAGE, IOPUB, [b"after"]) in seen
    assert (DROPPED, IOPUB, [struct.pack("<2Q", 1, 0)]) in seen
    relay.send(SHELL, b"still")
    assert relay.receive() == (MESSAGE, SHELL, [b"still"])


def listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def test_sockets_of_the_kernel_restart(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        kernel.order()
        for channel in (SHELL, IOPUB):
            kernel.sockets[channel].close(0)
        for channel in (SHELL, IOPUB):  # closing is done by another thread
            while listens(f"{kernel.place}/k-{PORT[channel]}"):
                time.sleep(0.01)
        time.sleep(0.1)
        kernel.tell()
        time.sleep(0.2)
        for channel in (SHELL, IOPUB):
            kernel.bind(channel)
        kernel.subscribed()
        kernel.sockets[IOPUB].send_multipart([b"again"])
        kernel.echo()

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.send(b"g")
    relay.orders.recv(1)
    relay.send(SHELL, b"hello")
    seen = [relay.receive(), relay.receive()]
    if any(kind == DROPPED for kind, _, _ in seen):  # said as a precaution: something may have been lost
        seen.append(relay.receive())
    assert (MESSAGE, SHELL, [b"hello"]) in seen
    assert (MESSAGE, IOPUB, [b"again"]) in seen


GARBAGE = [
    b"\0" * 64, b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 200,
    # A good greeting, then a command, a message or a frame size that no peer would send.
    GREETING + b"\4\x05HELLO",
    GREETING + b"\6" + b"\xff" * 8,
    GREETING + b"\4\x19\5READY\x0bSocket-Type\xff\xff\xff\xffPUB",
]


def test_garbage(sandbox):
    """A kernel that speaks anything but ZMTP on four sockets loses those; heartbeat and relay go on."""
    def kernel(kernel):
        listeners = [kernel.listen(channel) for channel in (SHELL, CONTROL, STDIN)]
        kernel.bind(IOPUB)
        kernel.bind(HB)
        kernel.subscribed()
        import threading

        def spit(listener):
            for i in range(10_000):
                with listener.accept()[0] as one:
                    try:
                        one.sendall(GARBAGE[i % len(GARBAGE)])
                        one.settimeout(0.1)
                        while one.recv(1000):
                            pass
                    except OSError:
                        pass

        for listener in listeners:
            threading.Thread(target=spit, args=(listener,), daemon=True).start()
        kernel.echo()

    relay = sandbox(kernel)
    relay.ready()
    for i in range(100):
        for channel in (SHELL, CONTROL, STDIN):
            relay.send(channel, b"anybody?")
        relay.send(HB, b"%d" % i)
        assert relay.receive() == (MESSAGE, HB, [b"%d" % i])
        time.sleep(0.01)


def test_a_message_that_never_ends(sandbox):
    """Of a message with ever more parts nothing is kept; the other connections go on."""
    def kernel(kernel):
        import threading

        greet = kernel.all_but(IOPUB)

        def flood():
            with greet() as out:
                kernel.order()
                for _ in range(2_000):
                    out.sendall(b"\1\0" * 10_000 + b"\1\xff" + bytes(255))
                kernel.tell()
                kernel.order()

        threading.Thread(target=flood, daemon=True).start()
        while True:
            kernel.sockets[HB].send_multipart(kernel.sockets[HB].recv_multipart())

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.send(b"g")
    relay.orders.settimeout(60)
    relay.orders.recv(1)
    assert relay.memory() < (200 if ASAN else 20) * MIB
    relay.send(HB, b"alive")
    assert relay.receive() == (MESSAGE, HB, [b"alive"])


def test_a_large_output_that_breaks_off(sandbox):
    """Its beginning is through already: the rest are zeroes, and what follows is whole."""
    def kernel(kernel):
        greet = kernel.all_but(IOPUB)
        with greet() as out:
            kernel.order()
            out.sendall(b"\1\5topic" + b"\2" + struct.pack(">Q", MIB) + b"x" * 300_000)
            kernel.order()
        with greet(b"\0\5after"):
            kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.send(b"g")
    relay._need(200_000)
    relay.orders.send(b"g")
    assert relay.receive() == (MESSAGE, IOPUB, [b"topic", b"x" * 300_000 + bytes(MIB - 300_000)])
    assert relay.receive() == (DROPPED, IOPUB, [struct.pack("<2Q", 1, 0)])
    assert relay.receive() == (MESSAGE, IOPUB, [b"after"])


def test_a_reply_that_breaks_off(sandbox):
    """The connection is made again, with a word that something is missing; what comes next is whole."""
    def kernel(kernel):
        greet = kernel.all_but(SHELL)
        with greet() as shell:
            kernel.order()
            shell.sendall(b"\0\5whole" + b"\1\4half" + b"\2" + struct.pack(">Q", MIB) + b"x" * 1000)
            kernel.order()
        with greet(b"\0\5after"):
            kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.orders.send(b"g")
    assert relay.receive() == (MESSAGE, SHELL, [b"whole"])
    relay.orders.send(b"g")
    seen = [relay.receive(), relay.receive()]  # a reply goes before what belongs to iopub
    assert (MESSAGE, SHELL, [b"after"]) in seen
    assert (DROPPED, IOPUB, [struct.pack("<2Q", 1, 0)]) in seen


def test_commands_between_frames(sandbox):
    """A heartbeat of ZMTP is answered, also inside a message, and is no part of it."""
    def kernel(kernel):
        greet = kernel.all_but(IOPUB)
        ping = b"\4\x0b\4PING\0\0" + b"ctxt"
        with greet(ping) as out:
            out.sendall(b"\1\5topic" + ping + b"\0\4text")
            out.settimeout(10)
            got, pong = b"", b"\4\x09\4PONG" + b"ctxt"
            while got.count(pong) < 2:
                more = out.recv(1000)
                assert more
                got += more
            kernel.tell()
            kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    assert relay.receive() == (MESSAGE, IOPUB, [b"topic", b"text"])
    relay.orders.settimeout(10)
    assert relay.orders.recv(1) == b"."


def test_planted_files_and_links(sandbox):
    """What the kernel puts beside the sockets is neither read nor followed."""
    def before(place):
        os.makedirs(f"{place}/etc")
        os.makedirs(f"{place}/lib/x86_64-linux-gnu")
        with open(f"{place}/etc/nsswitch.conf", "w") as file:
            file.write("protocols: evil\n")
        for name in ("lib/x86_64-linux-gnu/libnss_evil.so.2", "etc/passwd", "etc/localtime"):
            with open(f"{place}/{name}", "w") as file:
                file.write("x")
        os.symlink("/../../../run/somebody.sock", f"{place}/k-1")
        os.symlink("k-2", f"{place}/k-4")

    def kernel(kernel):
        for channel in (IOPUB, STDIN, HB):
            kernel.bind(channel)
        kernel.echo()

    relay = sandbox(kernel, before=before)
    relay.ready()
    relay.send(CONTROL, b"through a link")
    relay.send(SHELL, b"through a link")
    relay.send(HB, b"alive")
    assert relay.receive() == (MESSAGE, HB, [b"alive"])
    with pytest.raises(TimeoutError):
        relay.receive(0.5)


def test_the_proxy_ends(sandbox):
    """After the proxy's last word, what the kernel has said arrives; then the relay ends by itself."""
    def kernel(kernel):
        kernel.bind_all().subscribed()
        kernel.sockets[CONTROL].recv_multipart()
        for i in range(40):
            kernel.sockets[IOPUB].send_multipart([b"%d" % i, bytes(100_000)])  # more than the socket holds
        kernel.tell()
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()
    relay.send(CONTROL, b"shutdown_request")
    relay.orders.recv(1)
    time.sleep(0.5)  # it has them: a kernel's silence ends it
    relay.wall.shutdown(socket.SHUT_WR)
    for i in range(40):
        assert relay.receive() == (MESSAGE, IOPUB, [b"%d" % i, bytes(100_000)])
    with pytest.raises(EOFError):
        relay.receive()
    assert relay.status() == 0


def test_the_proxy_ends_before_the_kernel_is_there(sandbox):
    relay = sandbox(lambda kernel: kernel.order())
    relay.send(SHELL, b"never")
    relay.wall.shutdown(socket.SHUT_WR)
    assert relay.status() == 0


def test_the_proxy_dies(sandbox):
    relay = sandbox(echo)
    relay.ready()
    relay.wall.close()
    assert relay.status() == 0


def test_the_supervisor_dies(sandbox):
    relay = sandbox(echo)
    relay.ready()
    lifeline, relay.life = relay.life, os.open("/dev/null", os.O_RDONLY)
    os.close(lifeline)
    assert relay.status() == 113


def test_a_broken_frame_ends_it(sandbox):
    relay = sandbox(echo)
    relay.ready()
    relay.wall.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert relay.status() == 1


def test_idle_costs_nothing(sandbox):
    def kernel(kernel):
        kernel.bind_all().subscribed()
        kernel.order()

    relay = sandbox(kernel)
    relay.ready()

    def switches():
        total = 0
        for task in os.listdir(f"/proc/{relay.pid}/task"):
            with open(f"/proc/{relay.pid}/task/{task}/status") as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        return total

    for _ in range(10):  # once it has come to rest
        before = relay.cpu(), switches()
        time.sleep(2)
        after = relay.cpu(), switches()
        if after == before:
            break
    assert after == before


def test_a_failed_start_says_why(sandbox):
    """A descriptor that is no directory: the stage, what was tried, and the errno in words."""
    def before(place):
        with open(f"{place}/file", "w"):
            pass

    relay = sandbox(echo, before=before, wrong="/file")
    assert os.read(relay.error, 1000) == b"sockets: cannot attach the socket directory: Invalid argument\n"
    assert relay.status() == 1


def test_what_is_left_of_it(sandbox):
    """Capabilities, flags, mounts and threads of the running relay, as /proc shows them from outside."""
    relay = sandbox(echo)
    relay.ready()
    with open(f"/proc/{relay.pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1\n", "2\n")
    for task in os.listdir(f"/proc/{relay.pid}/task"):
        with open(f"/proc/{relay.pid}/task/{task}/status") as file:
            assert "Seccomp:\t2" in file.read()
    if os.getuid() == 0:
        with open(f"/proc/{relay.pid}/mountinfo") as file:
            mounts = [(fields[4], fields[5]) for fields in map(str.split, file)]
        assert [place for place, _ in mounts] == ["/", "/s"]
        assert mounts[0][1].startswith("ro,nosuid,nodev,noexec")
        assert mounts[1][1].startswith("rw,nosuid,nodev,noexec")
        assert sorted(os.listdir(f"/proc/{relay.pid}/root")) == ["s"]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, *sys.argv[1:]]))
