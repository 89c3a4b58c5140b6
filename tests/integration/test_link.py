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
import serving
import two_hosts
import zmq
import zmq.auth
from harness import ISOLATED, PATIENCE, Kernel, becomes, collect, notices, reply_to
from linking import WHERE, by_hand, far, hosts, keys, linked, talk  # noqa: F401 (fixtures)

MARK = "plain-" + uuid.uuid4().hex


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
        ("allow", tmp_path / "laptop.key_secret", "--as", "x"),
        ("revoke", "anna"),
    ):
        result = key(*wrong)
        assert result.returncode == 1
        assert result.stderr.startswith("cellwall key: ") and result.stderr.count("\n") == 1, result.stderr
        assert secret.decode() not in result.stderr + result.stdout


def test_install(site, tmp_path, monkeypatch):
    """A kernelspec of a kernel on another host is written, listed, said to be broken without its key, and removed."""
    monkeypatch.setitem(site.environment, "XDG_CONFIG_HOME", str(tmp_path))
    host = ["install", "--prefix", tmp_path, "--host", "curve://host.example.org:8890", "--host-key", "host.key"]
    directory = tmp_path / "cellwall"

    def key_file(*arguments):
        return site.run(*arguments, cwd=directory)

    directory.mkdir()
    result = key_file(*host)
    assert result.returncode == 1 and "host.key" in result.stderr and result.stderr.count("\n") == 1
    site.run("key", "new", "host", check=True)
    result = key_file(*host)
    assert result.returncode == 1 and "`cellwall key new client`" in result.stderr and result.stderr.count("\n") == 1
    site.run("key", "new", "client", check=True)
    assert key_file(*host, "--host-kernel", "r", "--host-area", "a", "--language", "R").returncode == 0
    spec = json.loads((tmp_path / "share/jupyter/kernels/python3-linked/kernel.json").read_text())
    assert spec["argv"][1:] == ["kernel", "-f", "{connection_file}", "--host", "curve://host.example.org:8890"] + [
        *["--host-key", str(directory / "host.key"), "--host-kernel", "r", "--host-area", "a"]
    ]
    assert spec["display_name"] == "Python 3 (isolated, on host.example.org)" and spec["language"] == "R"
    (row,) = json.loads(site.run("list", "--prefix", tmp_path, "--json", check=True).stdout)
    assert row["ok"] and row["kernel"] == "curve://host.example.org:8890"
    (directory / "host.key").unlink()
    (row,) = json.loads(site.run("list", "--prefix", tmp_path, "--json").stdout)
    assert not row["ok"] and "host.key" in row["state"]
    site.run("remove", "--prefix", tmp_path, "python3-linked", check=True)
    for wrong in (
        ["--host", "tcp://host:1", "--host-key", "x"],
        ["--host", "curve://host", "--host-key", "x"],
        ["--host", "curve://:1", "--host-key", "x"],
    ):
        assert site.run("install", "--prefix", tmp_path, *wrong).returncode == 1
    for wrong in (["--host", "curve://host:1"], ["--host-key", "x"], ["--key", "x"], [*host[3:], "--python", "x"]):
        assert site.run("install", "--prefix", tmp_path, *wrong).returncode == 2


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
    """nbclient on one host, the kernel on the other; nothing but the one port and no plaintext on the wire between them."""
    captured = site.root / "captured"
    since = captured.stat().st_size
    code = [f"text = '{MARK}'\nprint(text)", "open('made.txt', 'w').write(text)\n6 * 7"]
    notebook = site.root / "linked.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in code]
    installed = ["--host", f"curve://{WHERE}", "--host-key", far.keys / "host.key", "--name", "installed"]
    site.run("install", *installed, check=True)
    spec = {"name": "installed", "display_name": "x", "language": "python"}
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
    sent = f"import socket; socket.create_connection(('{two_hosts.FAR}', {two_hosts.PORT})).send(b'control-' + b'{MARK}')\n"
    sent += f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'datagram-', ('{two_hosts.FAR}', {two_hosts.PORT}))"
    subprocess.run([*hosts.enter(far=False), sys.executable, "-c", sent], check=True)
    assert processes.wait_until(lambda: b"control-" in (seen := captured.read_bytes()) and b"datagram-" in seen, 10 * PATIENCE)
    seen = list(two_hosts.frames(captured, since))
    assert len([frame for frame in seen if two_hosts.has_address(frame, two_hosts.FAR)]) > 20
    strange = two_hosts.strange(seen)
    assert len(strange) == 1 and b"datagram-" in strange[0], strange
    plain = [frame for frame in seen if MARK.encode() in frame]
    assert len(plain) == 1 and b"control-" in plain[0]
    blocked = f"import socket; socket.create_connection(('{two_hosts.FAR}', {two_hosts.PORT + 1}), 1)"
    assert subprocess.run([*hosts.enter(False), sys.executable, "-c", blocked], capture_output=True).returncode == 1


def test_the_page_shows_a_links_kernel(start, far):
    """Whose it is, what it was blocked from, and that too when it has ended."""
    kernel = linked(start, far)
    kernel.run("import socket\ntry: socket.create_connection(('203.0.113.5', 443), 1)\nexcept OSError: pass")

    def running():
        return far.ask("/api/wall/kernels")["kernels"][-1]  # the one that began last

    def ended():
        return [gone for gone in far.ask("/api/wall/kernels")["ended"] if gone["id"] == one["id"]]

    assert processes.wait_until(lambda: running()["blocked"] > 0, 20 * PATIENCE)
    one = running()
    assert one["owner"] == "client" and one["name"] == ISOLATED and one["seconds"] > 0 and one["memory"] > 0
    kernel.shutdown()
    assert processes.wait_until(ended, 20 * PATIENCE)
    (gone,) = ended()
    assert gone["owner"] == "client" and gone["blocked"] > 0 and gone["reason"] == "its client ended it"
    lines = far.ask(f"/api/wall/kernels/{one['id']}/log?blocked=1")["lines"]
    assert any("203.0.113.5:443" in line.get("reason", "") for line in lines), lines


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
    """The connection is ended from outside and no new one is let in: nothing is lost, and the notebook is told.

    Of two variables that are sent, and that a kernel would get, the one that the host allows arrives."""
    kernel = linked(start, far, "--setenv", "NO_COLOR=sweet", "--setenv", "COLORTERM=sour")
    kernel.run("import os\nx = os.environ.get('NO_COLOR'), os.environ.get('COLORTERM')")

    def cut():
        hosts.tell("refuse")
        told = processes.wait_until(lambda: "does not answer" in kernel.log, 60 * PATIENCE)
        hosts.tell("accept")
        assert told, kernel.log

    said = count_through_cut(kernel, cut, 4)
    assert any("does not answer" in text for text in said) and any("is back" in text for text in said), said
    assert kernel.run("x").result == "('sweet', None)"


ASKED = """
import time
typed = input('? ')
open('TYPED', 'a').write(typed)
"""
LOOP = """
print('begun', flush=True)
try:
    while True:
        time.sleep(0.1)
except KeyboardInterrupt:
    print(typed, input('more? '))
"""


def test_asked_while_it_is_cut(site, start, hosts, far):
    """What is asked in a cut arrives when the link is back, and once: also what the host has, whose word of it was lost."""
    kernel = linked(start, far)
    client = kernel.client
    assert hosts.connections() == 1
    typed = f"typed-{uuid.uuid4().hex[:8]}"
    first = client.execute(ASKED.replace("TYPED", typed), allow_stdin=True)
    assert client.get_stdin_msg(timeout=30 * PATIENCE)["content"]["prompt"].endswith("? ")
    hosts.tell("deaf")
    try:
        client.input("in the cut")
        arrived = site.root / "far/users/client/default/staging/out" / typed
        assert becomes(arrived, "in the cut") == "in the cut", kernel.log
        hosts.tell("refuse")
        loop = client.execute(LOOP, allow_stdin=True)
        last = client.execute("open(PATH, 'a').write('x')\nopen(PATH).read()".replace("PATH", repr(typed)))
        assert processes.wait_until(lambda: hosts.connections() == 0, 30 * PATIENCE), kernel.log
        hosts.tell("accept")
        assert reply_to(client, first)["content"]["status"] == "ok"
        while client.get_iopub_msg(timeout=30 * PATIENCE)["content"].get("text") != "begun\n":
            pass  # the notices of the cut are streams, too

        hosts.tell("refuse")
        kernel.manager.interrupt_kernel()
        assert processes.wait_until(lambda: hosts.connections() == 0, 30 * PATIENCE), kernel.log
    finally:
        hosts.tell("accept")
    # One that came twice would end this question.
    assert client.get_stdin_msg(timeout=30 * PATIENCE)["content"]["prompt"].endswith("more? ")
    client.input("and after it")
    shown = "".join(m["content"]["text"] for m in collect(client, loop, 30 * PATIENCE) if m["msg_type"] == "stream")
    assert shown.endswith("in the cut and after it\n") and shown.count("cut") == 1, shown
    messages = collect(client, last, 30 * PATIENCE)
    (shown,) = [message["content"]["data"]["text/plain"] for message in messages if message["msg_type"] == "execute_result"]
    assert shown == repr("in the cutx")
    assert reply_to(client, last)["content"]["status"] == "ok"


# What a notebook does, by hand: argv has the address of its server here, what to run, how many lines that prints.
NOTEBOOK = r"""
import gateway, json, os, requests, sys, types
url, code, lines = sys.argv[1], sys.argv[2], int(sys.argv[3])
gateway.TOKENS["anna"] = os.environ["JUPYTER_TOKEN"]
answer = requests.post(url + "/api/kernels", json={"name": "isolated"}, headers={"Authorization": "token " + gateway.TOKENS["anna"]}, timeout=60)
print(answer.status_code, flush=True)
if answer.status_code != 201:
    sys.exit()
client = gateway.Socket(types.SimpleNamespace(url=url), answer.json()["id"], "anna", False, "one-session", "test")
sent = client.send("execute_request", dict(code=code, silent=False, store_history=False, user_expressions={}, allow_stdin=False))
seen, twice, known = "", 0, set()
while True:
    message = client.receive()
    ident = message["header"]["msg_id"]
    if message["parent_header"].get("msg_id") != sent:
        continue
    if ident in known:                                                    # nobody knew whether it had arrived
        twice += 1
        continue
    known.add(ident)
    if message["header"]["msg_type"] == "stream":
        if not seen:
            print("begun", flush=True)
        seen += message["content"]["text"]                                # not always whole lines
    if message["header"]["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
        break
print(json.dumps([twice, seen.split()[::2], "".join(m["content"]["text"] for m in client.run("print('after')") if m["header"]["msg_type"] == "stream")]))
"""


class NearServer:
    """A Jupyter server on the near host whose kernels are a gateway's; `trusted` is who may vouch for that."""

    def __init__(self, site, hosts, port, trusted, token):
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = site.root / f"near-{uuid.uuid4().hex[:6]}.log"
        program = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
        program += [f"--gateway-url=https://{two_hosts.FAR_TOO}:{two_hosts.PORT}"]
        self.environment = {**site.environment, "JUPYTER_TOKEN": uuid.uuid4().hex}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*hosts.enter(far=False), *program], cwd=site.project(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**self.environment, "SSL_CERT_FILE": str(trusted), "JUPYTER_GATEWAY_AUTH_TOKEN": token},
            )  # fmt: skip
        assert processes.wait_until(lambda: "is running at" in self.log, 60 * PATIENCE), self.log

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def notebook(self, hosts, code, lines):
        return subprocess.Popen(
            [*hosts.enter(far=False), sys.executable, "-c", NOTEBOOK, self.url, code, str(lines)],
            stdout=subprocess.PIPE, text=True, env={**self.environment, "PYTHONPATH": str(pathlib.Path(__file__).parent)},
        )  # fmt: skip

    def close(self):
        self.process.terminate()
        self.process.wait(30 * PATIENCE)


def far_gateway(site, hosts):
    """A gateway on the far host, at the one port; its process, its token, and the certificates of who vouches for it or not."""
    directory = site.root / f"gateway-{uuid.uuid4().hex[:6]}"
    authority, token = serving.make_authority(directory, two_hosts.FAR_TOO), uuid.uuid4().hex
    (directory / "token").touch(mode=0o600)
    (directory / "token").write_text(token)
    listen = ["--listen", f"https://{two_hosts.FAR_TOO}:{two_hosts.PORT}", "--token-file", directory / "token"]
    listen += ["--certificate", authority / "localhost.pem", "--private-key", authority / "localhost.key"]
    where = ["--data", directory / "data", "--runtime", directory / "run", "--default-kernel", ISOLATED]
    with open(directory / "log", "wb") as log:
        command = [*hosts.enter(far=True), site.cellwall, "serve", *listen, *where]
        process = subprocess.Popen([*map(str, command)], cwd=site.root, stdin=subprocess.DEVNULL, stderr=log)
    assert processes.wait_until(lambda: b"event=listen" in (directory / "log").read_bytes(), 20 * PATIENCE)
    return process, token, (authority / "ca.pem", authority / "one.pem")


@pytest.mark.slow
def test_cut_for_20_seconds(site, start, launch, hosts, far):
    """Packets are lost for 20 s while cells print, and then connections of before are dead: nothing of a kernel is, through the link and
    through a Jupyter server whose kernels are a gateway's and who checks its certificate. Neither is seen on the wire.

    Who looks for a host in vain gives up after 20 s, too: exit code 1, and one line that says what to do."""
    keys = ["--host-key", far.keys / "host.key", "--key", far.keys / "client.key_secret"]
    nowhere = {
        "nobody answers there: is `cellwall serve": launch(options=["--host", "curve://127.0.0.1:1", *keys]),
        "no address is known for no..such": launch(options=["--host", "curve://no..such:8890", *keys]),
    }
    captured = site.root / "captured"
    since = captured.stat().st_size
    kernel = linked(start, far)
    gateway, token, (good, bad) = far_gateway(site, hosts)
    lines, mark = 22 * 20, "plain-" + uuid.uuid4().hex
    code = f"import time\nfor i in range({lines}):\n    print(i, '{mark}', flush=True)\n    time.sleep(0.05)"
    servers, clients = [], []
    try:
        for port, trusted in ((8888, good), (8889, bad)):
            servers.append(NearServer(site, hosts, port, trusted, token))
            clients.append(servers[-1].notebook(hosts, code, lines))
        assert int(clients[1].stdout.readline()) >= 500 and "CERTIFICATE_VERIFY_FAILED" in servers[1].log, servers[1].log
        assert clients[0].stdout.readline() + clients[0].stdout.readline() == "201\nbegun\n", servers[0].log

        def cut():
            hosts.tell("down")
            time.sleep(20)
            hosts.tell("refuse")
            hosts.tell("up")
            gone = processes.wait_until(lambda: hosts.connections() == 0, 60 * PATIENCE)
            hosts.tell("accept")
            assert gone

        count_through_cut(kernel, cut, 20)
        twice, seen, after = json.loads(clients[0].communicate(timeout=100 * PATIENCE)[0])
        assert seen == [str(i) for i in range(lines)] and after == "after\n", servers[0].log
        print(f"figure: jupyter_server over two hosts, cut for 20 s under flowing output: {twice} messages came twice")
        assert "Lost connection to Gateway" in servers[0].log
    finally:
        for client in clients:
            client.kill()
            client.wait()
        for server in servers:
            server.close()
        gateway.terminate()
        gateway.wait(30 * PATIENCE)
    for said, end in nowhere.items():
        assert end.wait(30) == 1, end.log
        assert end.log.count("\n") == 1 and said in end.log, end.log
    seen = list(two_hosts.frames(captured, since))
    for address in (two_hosts.FAR, two_hosts.FAR_TOO):
        assert len([frame for frame in seen if two_hosts.has_address(frame, address)]) > 20
    assert two_hosts.strange(seen) == []
    assert not [frame for frame in seen if mark.encode() in frame or token.encode() in frame]


def test_interrupt_while_much_flows(start, hosts, far):
    """Megabytes of one kernel fill the wire, without an end, while another, and then itself, is interrupted."""
    hosts.tell("rate 200mbit")
    try:
        loud, quiet = linked(start, far), linked(start, far)
        # Its end would else be that of cells that come too soon after it, in the kernel.
        flowing = loud.client.execute("while True:\n    print('y' * 1_000_000)", stop_on_error=False)
        waiting = quiet.client.execute("import time\nprint('begun', flush=True)\ntime.sleep(1000)")
        quiet.started(waiting, "stream")
        quiet.manager.interrupt_kernel()
        assert reply_to(quiet.client, waiting, 30 * PATIENCE)["content"]["ename"] == "KeyboardInterrupt"
        loud.manager.interrupt_kernel()
        collect(loud.client, flowing, 60 * PATIENCE)
    finally:
        hosts.tell("rate")
    assert reply_to(loud.client, flowing, 30 * PATIENCE)["content"]["ename"] == "KeyboardInterrupt"
    assert loud.run("1 + 1").result == "2"
    loud.manager.restart_kernel(now=False)
    loud.client.wait_for_ready(timeout=60 * PATIENCE)
    assert loud.run("6 * 7").result == "42"
    before = far.kernels()
    for kernel in (loud, quiet):
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=False)  # asks on the control channel, and kills who does not go
        assert kernel.wait_gone(10) is not None, kernel.log
    assert processes.wait_until(lambda: len(far.kernels()) == len(before) - 2, 20 * PATIENCE), far.log


@pytest.mark.core
def test_wrong_key_gets_nothing(start, hosts, far):
    """A key that is not allowed, and a host that is another one: one line that says so, and no kernel."""
    before = far.log.count("result=started")
    hosts.tell("refuse")  # until the client has asked
    try:
        kernel = start(far.spec(key="stranger"), transport="ipc", wait=False)
        shell = json.loads(pathlib.Path(kernel.connection_file).read_text())
        there = pathlib.Path(f"{shell['ip']}-{shell['shell_port']}")
        assert processes.wait_until(there.exists, 20 * PATIENCE), kernel.log
        client = kernel.connect(own_session=False, wait=False)
        asked = client.kernel_info()
    finally:
        hosts.tell("accept")
    reply = reply_to(client, asked, 20 * PATIENCE)
    assert "cellwall key allow" in reply["content"]["evalue"], reply
    assert kernel.wait_gone(10) is not None
    kernel = start(far.spec("--host-key", far.keys / "stranger.key"), transport="ipc", wait=False)
    assert processes.wait_until(lambda: "is --host-key the host's" in kernel.log, 40 * PATIENCE), kernel.log
    assert "result=refused" in far.log
    assert far.log.count("result=started") == before


HOSTILE = r"""
def talk(*frames, seconds=60):
    connection = Connection()
    answer = connection.ask(*frames, seconds=seconds)
    connection.close()
    return answer
ident = os.urandom(32)
hello = frame(HELLO, body=ident + b'{"kernel": "none"}')
assert talk(frame(HELLO, body=ident, version=9)) == (REFUSE, NOT_SPOKEN)
assert talk(frame(HELLO, a=1, body=ident)) == (REFUSE, NOT_KNOWN)
assert talk(hello) == (REFUSE, NOT_STARTED)
for order in (b"", b"[]", b"{" * 8000, b'{"kernel": 1}', b'{"area": "../x"}', b"\xff"):
    assert talk(frame(HELLO, body=ident + order)) == (REFUSE, NOT_STARTED), order
for bad in (b"", b"\0", frame(DATA, number=1, body=b"x"), frame(ACK, number=2**64 - 1), frame(DATA, a=250), frame(77),
            frame(HELLO, body=b"short"), [b"", b"", b""], [hello, hello], frame(REFUSE, a=1), frame(WELCOME)):
    talk_nothing = talk(bad, seconds=0.5)
    assert talk_nothing in (None, (REFUSE, NOT_STARTED)), (bad, talk_nothing)
large = Connection()
large.send(bytes(70000))                                              # a frame has 64 KiB at the most
assert large.ended()
print("survived")
"""


@pytest.mark.core
def test_hostile_frames(far, start):
    """A client whose key is allowed and that breaks the protocol: refused in words, and others go on."""
    other = linked(start, far)
    assert talk(far, HOSTILE) == "survived\n", far.log[-2000:]
    assert other.run("1 + 1").result == "2"
    assert far.process.poll() is None


FLOOD = r"""
connection = Connection()
assert connection.ask(frame(HELLO, body=os.urandom(32) + b"{}"))[0] == WELCOME
print("started", flush=True)
sys.stdin.readline()
for number in range(1, 8192):                                         # 512 MiB, whatever is acknowledged
    connection.send(message(number, 0, *[b"{}"] * 4, bytes(65000)))
    if connection.socket.poll(0) and (answer := connection.hear())[1] == REFUSE:
        break
else:
    while (answer := connection.hear(20)) and answer[1] != REFUSE:
        pass
print(answer[12:].decode())
"""


def test_more_than_the_window(far):
    """A client whose kernel takes nothing and that sends on without an acknowledgement: its connection ends in words."""
    before = far.kernels()
    client = by_hand(far, FLOOD)
    assert client.stdout.readline() == "started\n"
    (kernel,) = far.kernels() - before
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
