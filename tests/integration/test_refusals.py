"""What a kernel tries in vain is seen: one line in the notebook, all of them in the log, nothing won by it."""

import socket
import textwrap
import threading

import pytest
from harness import DIRECT, ISOLATED, NOTICE, PATIENCE, Kernel, collect
from processes import wait_until

BLOCKED = NOTICE + "blocked: "

PACKAGE = """
import socket, urllib.request

def post(url):
    try:
        urllib.request.urlopen(url, timeout=5)
    except OSError as problem:
        return str(problem)

def datagram(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b"x", (host, port))
        except OSError as problem:
            return problem.errno
"""


@pytest.fixture(scope="module")
def kernel(site):
    one = Kernel(site, ISOLATED)
    one.run(f"import pathlib; pathlib.Path('somepkg.py').write_text({PACKAGE!r}); import somepkg")
    yield one
    one.close()


def blocked(run):
    return [text[len(BLOCKED) :].strip() for text in run.notices if text.startswith(BLOCKED)]


def test_a_package_connects(kernel):
    """Who, and where to; the second time in the log alone, with file and line."""
    first = kernel.run("print(somepkg.post('http://203.0.113.5:8080/'))")
    assert "Network is unreachable" in first.stdout
    assert blocked(first) == ["`somepkg` tried to connect to 203.0.113.5:8080"]
    again = kernel.run("print(somepkg.post('http://203.0.113.5:8080/'))")
    assert blocked(again) == []
    assert wait_until(lambda: kernel.log.count("203.0.113.5:8080") >= 2, 10 * PATIENCE)
    lines = [line for line in kernel.log.splitlines() if "203.0.113.5:8080" in line]
    assert len(lines) == 2
    assert all("(python" in line and "somepkg.py:6)" in line for line in lines)
    assert blocked(kernel.run("somepkg.post('http://203.0.113.5:8081/')")) != []
    shown = kernel.site.run("log", "--blocked").stdout
    assert shown.count("somepkg.py:6)") == 3 and " attempt " in shown


def test_names_and_datagrams(kernel):
    assert blocked(kernel.run("somepkg.post('http://example.com/')")) == [
        "`somepkg` tried to look up the name example.com:80"
    ]
    run = kernel.run("print(somepkg.datagram('8.8.8.8', 53))")
    assert blocked(run) == ["`somepkg` tried to send to 8.8.8.8:53"]
    assert run.stdout.strip() == "101"
    # As a resolver in C does it, with no help from inside.
    code = """
        import ctypes, struct
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.socket(2, 2, 0)
        there = struct.pack("=H", 2) + struct.pack("!H4B8x", 53, 9, 9, 9, 9)
        print(libc.connect(fd, there, 16))
    """
    assert blocked(kernel.run(textwrap.dedent(code))) == ["`python` tried to connect to 9.9.9.9:53"]
    # Nobody hides by not being dumpable, prctl(2).
    code = """
        there = struct.pack("=H", 2) + struct.pack("!H4B8x", 54, 9, 9, 9, 9)
        print(libc.prctl(4, 0, 0, 0, 0), libc.connect(fd, there, 16), libc.prctl(4, 1, 0, 0, 0), libc.close(fd))
    """
    run = kernel.run(textwrap.dedent(code))
    assert run.stdout.split() == ["0", "-1", "0", "0"]
    assert blocked(run) == ["`python` tried to connect to 9.9.9.9:54"]


def test_inside_is_no_attempt(kernel):
    """lo, sockets with a path, and what the C library asks by itself."""
    code = """
        import socket, asyncio, multiprocessing, subprocess
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        any_address = socket.create_server(("", 0))
        socket.create_connection(("localhost", any_address.getsockname()[1])).close()
        six = socket.create_server(("::1", 0), family=socket.AF_INET6)
        socket.create_connection(six.getsockname()[:2]).close()
        unix = socket.socket(socket.AF_UNIX); unix.bind("/tmp/s"); unix.listen()
        socket.socket(socket.AF_UNIX).connect("/tmp/s")
        print(socket.getaddrinfo("localhost", 1)[0][4][0], socket.gethostbyname(socket.gethostname()))
        with multiprocessing.Manager() as manager:
            print(list(manager.list([1])))
        print(subprocess.run(["/bin/echo", "done"], capture_output=True).stdout)
    """
    run = kernel.run(textwrap.dedent(code))
    assert not run.problem and "done" in run.stdout, run.problem
    assert blocked(run) == []


def test_signals_and_local_sockets(kernel):
    """A connect to a path waits for nobody: no signal can end it halfway, which Python takes for success."""
    code = """
        import os, signal, socket
        server = socket.socket(socket.AF_UNIX); server.bind("/tmp/many"); server.listen()
        signals = []
        old = signal.signal(signal.SIGALRM, lambda *_: signals.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        rounds = 0
        while len(signals) < 200:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("/tmp/many")
                client.getpeername()
                server.accept()[0].close()
            rounds += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("connected")
    """
    run = kernel.run(textwrap.dedent(code))
    assert run.stdout.strip() == "connected", run.problem


def test_calls(kernel):
    code = """
        import ctypes, socket
        libc = ctypes.CDLL(None, use_errno=True)
        for family in (socket.AF_PACKET, socket.AF_VSOCK):
            try:
                socket.socket(family, socket.SOCK_RAW)
            except OSError as problem:
                print(problem.errno)
        for call in (lambda: libc.ptrace(0, 0, 0, 0), lambda: libc.mount(b"a", b"/tmp", b"tmpfs", 0, 0),
                     lambda: libc.unshare(0x10000000), lambda: libc.chroot(b"/tmp")):
            print(call(), ctypes.get_errno())
    """
    run = kernel.run(textwrap.dedent(code))
    assert run.stdout.split() == ["97", "97"] + ["-1", "1"] * 4
    assert blocked(run) == [
        "`python` tried to open a socket AF_PACKET",
        "`python` tried to open a socket AF_VSOCK",
        "`python` tried to use the system call ptrace",
        "`python` tried to use the system call mount",
        "`python` tried to use the system call unshare",
        "`python` tried to use the system call chroot",
    ]


def test_setuid_program(kernel):
    run = kernel.run("import os, subprocess; subprocess.run(['/bin/su', '-c', 'id'], stdin=subprocess.DEVNULL)")
    assert any("tried to run the setuid program /bin/su" in line for line in blocked(run))


def test_secrets(kernel):
    code = "import os\ntry:\n    open(os.path.expanduser('~/.ssh/id_rsa'))\nexcept OSError as problem:\n    print(problem)"
    run = kernel.run(code)
    assert "No such file" in run.stdout
    assert blocked(run) == ["`this cell` tried to read /home/user/.ssh/id_rsa"]


def test_lies_are_harmless(kernel):
    """Whatever is said in the hook's name is shown escaped, and that is all."""
    code = """
        import os
        for words in ("lookup\\tevil\\x1b[2J\\u202e\\t`x`\\r\\t\\x07", "lookup", "", "where\\t\\t\\t", "x" * 2000):
            try:
                os.chroot("cellwall\\t" + words)
            except OSError as problem:
                print(problem.errno)
    """
    run = kernel.run(textwrap.dedent(code))
    assert run.stdout.split() == ["1"] * 5
    assert any("look up the name evil\\x1b[2J" in line for line in blocked(run))
    assert all(text.rstrip("\n").isprintable() for text in run.notices)
    assert "\x1b" not in kernel.log


def test_removed_hook(kernel):
    """Without it the name is the program's, and the attempt is seen all the same."""
    code = """
        import subprocess, sys
        code = "import socket\\ntry: socket.create_connection(('203.0.113.77', 1))\\nexcept OSError: pass"
        subprocess.run([sys.executable, "-S", "-c", code])
    """
    assert any("tried to connect to 203.0.113.77:1" in line for line in blocked(kernel.run(textwrap.dedent(code))))


def test_flood(site):
    """100,000 refused calls from two processes: bounded in time and words, and nothing new is hidden."""
    kernel = Kernel(site, ISOLATED)
    try:
        code = """
            import ctypes, os, socket
            libc = ctypes.CDLL(None)
            child = os.fork()
            for _ in range(50_000):
                libc.unshare(0x10000000)
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            try: socket.create_connection(("203.0.113.6", 1))
            except OSError: print("refused")
        """
        run = kernel.run(textwrap.dedent(code), timeout=60)
        assert run.stdout.strip() == "refused"
        assert blocked(run) == [
            "`python` tried to use the system call unshare",
            "`this cell` tried to connect to 203.0.113.6:1",
        ]
        assert kernel.run("print(6 * 7)").stdout.strip() == "42"
        assert wait_until(lambda: "more attempts, too many to list" in kernel.log, 10 * PATIENCE)
        assert len([line for line in kernel.log.splitlines() if "blocked: " in line]) < 300
        # It waits for answers, and is interrupted and ended all the same.
        endless = "print('begun', flush=True)\nwhile True: libc.unshare(0x10000000)"

        def interrupt(message):
            if message["msg_type"] == "stream":
                kernel.manager.interrupt_kernel()

        messages = collect(kernel.client, kernel.client.execute(endless), 30 * PATIENCE, on_message=interrupt)
        assert any("KeyboardInterrupt" in str(message["content"]) for message in messages)
        kernel.client.execute(endless)
        kernel.shutdown(now=True)
        assert kernel.wait_gone(10) is not None
    finally:
        kernel.close()


RACE = """
import ctypes, socket, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
there = struct.pack("=H", 2) + struct.pack("!H4B8x", {port}, 127, 0, 0, 1)
away = struct.pack("=H", 2) + struct.pack("!H4B8x", {port}, 203, 0, 113, 9)
address, go = ctypes.create_string_buffer(there, 16), True
def flip():
    while go:
        address.raw = away
        address.raw = there
threading.Thread(target=flip, daemon=True).start()
reached = 0
for _ in range(2000):
    fd = libc.socket(2, 0o4001, 0)
    libc.connect(fd, address, 16)
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(True); sock.settimeout({wait})
        try: reached += bool(sock.getpeername())
        except OSError: pass
go = False
print("REACHED" if reached else "none")
"""


@pytest.mark.parametrize("kind", [ISOLATED, DIRECT])
def test_race_for_the_address(site, kind):
    """The address is rewritten while it is looked at: the host's server is reached outside alone."""
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def accept():
        while True:
            try:
                accepted.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    kernel = Kernel(site, kind)
    try:
        rounds = RACE.format(port=server.getsockname()[1], wait=0.01)
        if kind == DIRECT:
            rounds = rounds.replace("range(2000)", "range(20)")
        run = kernel.run(rounds, timeout=60)
        assert run.stdout.strip() == ("REACHED" if kind == DIRECT else "none")
        assert bool(accepted) == (kind == DIRECT)
    finally:
        kernel.close()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in accepted:
            connection.close()
