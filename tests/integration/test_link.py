"""The link: kernels that run on another host, over one port that a firewall lets through."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import nbformat
import pages
import processes
import pytest
import two_hosts
import zmq
import zmq.auth
from harness import ISOLATED, PATIENCE, Kernel, collect, notices, reply_to

MARK = "plain-" + uuid.uuid4().hex
WHERE = f"{two_hosts.FAR}:{two_hosts.PORT}"


class Far:
    """`cellwall serve` on the far host."""

    def __init__(self, site, hosts, *options):
        self.site, self.hosts, self.options = site, hosts, options
        self.keys = site.root / "config" / "cellwall"
        self.process = None

    def start(self, *options):
        self.log_path = self.site.root / f"far-{uuid.uuid4().hex[:6]}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*self.hosts.enter(far=True), self.site.cellwall, "serve", "--listen", f"curve://{WHERE}"]
                + ["--data", str(self.site.root / "far"), "--runtime", str(self.site.root / "run")]
                + ["--default-kernel", ISOLATED, *self.options, *options],
                cwd=self.site.root,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        assert processes.wait_until(lambda: "event=listen" in self.log, 20 * PATIENCE), self.log

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def spec(self, *options, key="client", enter=True):
        """A kernelspec on the near host, for clients there or (enter) here; returns its name."""
        command = [self.site.cellwall, "kernel", "-f", "{connection_file}", "--host", f"curve://{WHERE}"]
        command += ["--host-key", str(self.keys / "host.key"), "--key", str(self.keys / f"{key}.key_secret")]
        name = f"linked-{uuid.uuid4().hex[:8]}"
        argv = [*(self.hosts.enter(far=False) if enter else []), *command, *map(str, options)]
        self.site._write_spec(name, {"argv": argv, "display_name": name, "language": "python"})
        return name

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20 * PATIENCE)


@pytest.fixture(scope="module")
def hosts(site):
    hosts = two_hosts.Hosts(site.root / "captured")
    yield hosts
    hosts.close()


@pytest.fixture(scope="module")
def keys(site):
    for name in ("host", "client", "stranger"):
        site.run("key", "new", name, check=True)
    directory = site.root / "config" / "cellwall"
    site.run("key", "allow", directory / "client.key", check=True)
    return directory


@pytest.fixture(scope="module")
def far(site, hosts, keys):
    far = Far(site, hosts)
    far.start()
    yield far
    far.stop()


def linked(start, far, *options, **launch):
    return start(far.spec(*options), transport="ipc", **launch)


def test_keys(site, tmp_path):
    """Made, shown, allowed and revoked; pyzmq's certificates are ours and ours are pyzmq's; errors are one line."""

    def key(*arguments, **more):
        return site.run("key", "--directory", tmp_path, *arguments, **more)

    key("new", "laptop", check=True)
    public, secret = zmq.auth.load_certificate(tmp_path / "laptop.key_secret")
    assert zmq.auth.load_certificate(tmp_path / "laptop.key") == (public, None)
    assert (tmp_path / "laptop.key_secret").stat().st_mode & 0o7777 == 0o600
    assert key("show", "laptop", check=True).stdout.strip() == public.decode()
    theirs, _ = zmq.auth.create_certificates(tmp_path, "theirs")
    key("allow", theirs, check=True)
    key("allow", tmp_path / "laptop.key", "--as", "anna", check=True)
    assert "anna" in key("show", check=True).stdout
    key("revoke", "anna", check=True)
    for wrong in (
        ("new", "laptop"),
        ("new", "../x"),
        ("allow", theirs),
        ("allow", "/nowhere.key"),
        ("allow", "/etc/passwd", "--as", "x"),
        ("revoke", "anna"),
    ):
        result = key(*wrong)
        assert result.returncode == 1
        assert result.stderr.startswith("cellwall key: ") and result.stderr.count("\n") == 1, result.stderr
        assert secret.decode() not in result.stderr + result.stdout


def test_page(site, tmp_path, monkeypatch):
    """The commands of the page, in a place of their own; the kernelspec it shows is one."""
    monkeypatch.setitem(site.environment, "XDG_CONFIG_HOME", str(tmp_path))
    text = (pathlib.Path(site.prefix) / "share/cellwall/doc/link.md").read_text()
    wrong = []
    for kind, block in pages.blocks(text):
        if kind == "console":
            (tmp_path / "cellwall").mkdir(exist_ok=True)
            wrong += pages.command(site, tmp_path / "cellwall", block)
        elif kind == "json":
            argv = json.loads(block)["argv"]
            known = site.run(*argv[1:], "--help", check=True).stdout
            assert all(word in known for word in argv if word.startswith("--"))
    assert wrong == [], "".join(wrong)


def test_notebook_over_one_port(site, hosts, far):
    """nbclient on one host, the kernel on the other; no other port and no plaintext on the wire between them."""
    code = [f"text = '{MARK}'\nprint(text)", "open('made.txt', 'w').write(text)\n6 * 7"]
    notebook = site.root / "linked.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in code]
    spec = {"name": far.spec(enter=False), "display_name": "x", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), notebook)
    execute = str(pathlib.Path(sys.executable).with_name("jupyter-execute"))
    subprocess.run(
        [*hosts.enter(far=False), execute, "--inplace", str(notebook)], check=True, timeout=120 * PATIENCE, cwd=site.root
    )
    done = nbformat.read(notebook, 4)
    assert MARK in done.cells[0].outputs[0].text
    assert done.cells[1].outputs[0].data["text/plain"] == "42"
    assert (site.root / "far/users/client/default/staging/out/made.txt").read_text() == MARK

    # What this looks for is found when it is there.
    sent = f"import socket; socket.create_connection(('{two_hosts.FAR}', {two_hosts.PORT})).send(b'control-' + b'{MARK}')"
    subprocess.run([*hosts.enter(far=False), sys.executable, "-c", sent], check=True)
    captured = site.root / "captured"
    assert processes.wait_until(lambda: b"control-" in captured.read_bytes(), 10 * PATIENCE)
    seen = [frame for frame in two_hosts.frames(captured) if two_hosts.tcp_ports(frame)]
    assert len(seen) > 20
    assert all(two_hosts.PORT in two_hosts.tcp_ports(frame) for frame in seen)
    plain = [frame for frame in two_hosts.frames(captured) if MARK.encode() in frame]
    assert len(plain) == 1 and b"control-" in plain[0]
    blocked = f"import socket; socket.create_connection(('{two_hosts.FAR}', {two_hosts.PORT + 1}), 1)"
    assert subprocess.run([*hosts.enter(False), sys.executable, "-c", blocked], capture_output=True).returncode == 1


def count_through_cut(kernel, cut, seconds):
    """Lines that a cell prints before, while and after the link is cut: each once, in order."""
    lines = int((seconds + 2) * 20)
    code = f"import time\nfor i in range({lines}):\n    print(i, flush=True)\n    time.sleep(0.05)"
    msg_id = kernel.client.execute(code)
    seen = []

    def look(message):
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            if not seen:
                cut()
            seen.extend(message["content"]["text"].split())

    messages = collect(kernel.client, msg_id, (seconds + 60) * PATIENCE, on_message=look)
    assert seen == [str(i) for i in range(lines)]
    assert reply_to(kernel.client, msg_id)["content"]["status"] == "ok"
    return notices(messages)


def test_refused_for_a_while(start, hosts, far):
    """The connection is ended from outside and no new one is let in: nothing is lost, and the notebook is told."""
    kernel = linked(start, far)
    kernel.run("x = 1")

    def cut():
        hosts.tell("refuse")
        time.sleep(3.5)
        hosts.tell("accept")

    said = count_through_cut(kernel, cut, 4)
    assert any("does not answer" in text for text in said) and any("is back" in text for text in said), said
    assert kernel.run("x").result == "1"


@pytest.mark.slow
def test_cut_for_20_seconds(start, hosts, far):
    """The wire is cut for 20 s while a cell prints."""
    kernel = linked(start, far)

    def cut():
        hosts.tell("down")
        time.sleep(20)
        hosts.tell("up")

    count_through_cut(kernel, cut, 20)


def test_interrupt_while_much_flows(start, far):
    """Megabytes of one kernel flow while another, and then itself, is interrupted."""
    loud, quiet = linked(start, far), linked(start, far)
    flowing = loud.client.execute("while True:\n    print('y' * 1_000_000)")
    waiting = quiet.client.execute("import time\nprint('begun', flush=True)\ntime.sleep(1000)")
    while True:
        message = quiet.client.get_iopub_msg(timeout=30 * PATIENCE)
        if message["msg_type"] == "stream":
            break
    quiet.manager.interrupt_kernel()
    assert reply_to(quiet.client, waiting, 30 * PATIENCE)["content"]["ename"] == "KeyboardInterrupt"
    loud.manager.interrupt_kernel()
    collect(loud.client, flowing, 60 * PATIENCE)
    assert reply_to(loud.client, flowing, 30 * PATIENCE)["content"]["ename"] == "KeyboardInterrupt"
    assert loud.run("1 + 1").result == "2"
    loud.manager.restart_kernel(now=False)
    loud.client.wait_for_ready(timeout=60 * PATIENCE)
    assert loud.run("6 * 7").result == "42"


def test_wrong_key_gets_nothing(site, start, far):
    """A key that is not allowed, and a host that is another one: one line that says so, and no kernel."""
    before = far.log.count("result=started")
    kernel = start(far.spec(key="stranger"), transport="ipc", wait=False)
    client = kernel.connect(own_session=False, wait=False)
    reply = reply_to(client, client.kernel_info(), 20 * PATIENCE)
    assert "cellwall key allow" in reply["content"]["evalue"], reply
    assert kernel.wait_gone(10) is not None
    kernel = start(far.spec("--host-key", far.keys / "stranger.key"), transport="ipc", wait=False)
    assert processes.wait_until(lambda: "is --host-key the host's" in kernel.log, 40 * PATIENCE), kernel.log
    assert "result=refused" in far.log
    assert far.log.count("result=started") == before


HOSTILE = r"""
import os, struct, sys, zmq, zmq.auth
where, host_key, own_key = sys.argv[1:]
def frame(kind, a=0, b=0, number=0, body=b"", version=1):
    return struct.pack("<BBBBQ", version, kind, a, b, number) + body
def talk(*messages, seconds=5):
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.curve_serverkey = zmq.auth.load_certificate(host_key)[0]
    socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(own_key)
    socket.connect("tcp://" + where)
    for message in messages:
        socket.send_multipart(message if isinstance(message, list) else [message])
    answer = socket.recv() if socket.poll(int(1000 * seconds)) else b""
    socket.close()
    return (answer[1], answer[2]) if answer else None
ident = os.urandom(32)
hello = frame(1, body=ident + b'{"kernel": "none"}')
assert talk(frame(1, body=ident, version=9)) == (5, 2)               # REFUSE, another version
assert talk(frame(1, a=1, body=ident)) == (5, 1)                     # REFUSE, no such session
assert talk(hello) == (5, 3)                                         # REFUSE, no such kernelspec
for order in (b"", b"[]", b"{" * 8000, b'{"kernel": 1}', b'{"area": "../x"}', b"\xff"):
    assert talk(frame(1, body=ident + order)) == (5, 3), order
for bad in (b"", b"\0", frame(3, number=1, body=b"x"), frame(4, number=2**64 - 1), frame(3, a=250), frame(77),
            frame(1, body=b"short"), [b"", b"", b""], [hello, hello], frame(5, a=1), frame(2)):
    talk_nothing = talk(bad, seconds=0.5)
    assert talk_nothing in (None, (5, 3)), (bad, talk_nothing)
print("survived")
"""


def test_hostile_frames(site, hosts, far, start):
    """A client whose key is allowed and that breaks the protocol: refused in words, and others go on."""
    other = linked(start, far)
    keys = [str(far.keys / name) for name in ("host.key", "client.key_secret")]
    command = [*hosts.enter(far=False), sys.executable, "-c", HOSTILE, WHERE, *keys]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100 * PATIENCE)
    assert result.stdout == "survived\n", result.stderr + far.log[-2000:]
    assert other.run("1 + 1").result == "2"
    assert far.process.poll() is None


FLOOD = r"""
import os, struct, sys, zmq, zmq.auth
where, host_key, own_key = sys.argv[1:]
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 0
socket.curve_serverkey = zmq.auth.load_certificate(host_key)[0]
socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(own_key)
socket.connect("tcp://" + where)
socket.send(struct.pack("<BBBBQ", 1, 1, 0, 0, 0) + os.urandom(32) + b"{}")
assert socket.recv()[1] == 2                                          # WELCOME
print("started", flush=True)
sys.stdin.readline()
parts = [b"{}"] * 4 + [bytes(65000)]
body = struct.pack("<6I", 5, *map(len, parts)) + b"".join(parts)
for number in range(1, 8192):                                         # 512 MiB, whatever is acknowledged
    socket.send(struct.pack("<BBBBQ", 1, 3, 0, 1, number) + body)
    if socket.poll(0) and (answer := socket.recv())[1] == 5:
        break
else:
    answer = b""
    while socket.poll(20000) and (answer := socket.recv())[1] != 5:
        pass
print(answer[12:].decode())
"""


def test_more_than_the_window(hosts, far):
    """A client whose kernel takes nothing and that sends on without an acknowledgement: its connection ends in words."""
    keys = [str(far.keys / name) for name in ("host.key", "client.key_secret")]
    children = pathlib.Path(f"/proc/{far.process.pid}/task/{far.process.pid}/children")
    before = set(children.read_text().split())
    command = [*hosts.enter(far=False), sys.executable, "-c", FLOOD, WHERE, *keys]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "started\n"
    (kernel,) = set(children.read_text().split()) - before
    os.kill(int(kernel), signal.SIGSTOP)
    try:
        assert client.communicate("\n", timeout=60 * PATIENCE)[0] == "more than is acknowledged was sent\n"
        assert far.process.poll() is None
    finally:
        client.kill()
        os.kill(int(kernel), signal.SIGKILL)
        far.stop()
        far.start()


def test_killed_ends_leave_nothing(site, far, nothing_left):
    """SIGKILL of the near end: its kernel goes after the stated time. SIGKILL of the host: the near end ends itself.

    The last one: it starts the host again."""
    far.stop()
    far.start("--link-keep", "2")
    kernels = []
    try:
        kernels.append(Kernel(site, far.spec(), transport="ipc"))
        kernels[0].manager.restart_kernel(now=True)  # SIGKILL, and another in its place
        kernels[0].client.wait_for_ready(timeout=60 * PATIENCE)
        assert "started another in its place" in far.log
        os.kill(kernels[0].pid, signal.SIGKILL)
        assert processes.wait_until(lambda: "stayed away" in far.log, 30 * PATIENCE), far.log
        kernels.append(Kernel(site, far.spec(), transport="ipc"))
        far.process.kill()
        far.process.wait()
        far.start()
        assert kernels[1].wait_gone(30) is not None
        assert "the kernel is gone" in kernels[1].log
    finally:
        far.stop()
        for kernel in kernels:
            kernel.close()
