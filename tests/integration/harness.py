"""Starting kernels with and without the wall, and talking to them as a notebook does.

Every check of these suites can run against a plain ipykernel ("direct") and the same one behind the wall ("isolated"):
what is forbidden inside must succeed outside, or the check proves nothing.

The environment says what is tested (tests/run sets it):
  CELLWALL_PREFIX   where cmake --install put cellwall
  CELLWALL_KERNEL   the python of the kernel's environment (ipykernel, pandas, matplotlib, scikit-learn)
  CELLWALL_SLOW     1: also the checks that take half a minute each
  CELLWALL_PLACE    where homes, projects and state directories are made (/var/tmp)
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import jupyter_client
import processes
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.session import Session

ISOLATED, DIRECT = "isolated", "direct"
NOTICE = "cellwall: "  # how every message of ours in a notebook begins
SLOW = os.environ.get("CELLWALL_SLOW") == "1"
# An instrumented build is several times slower: limits that are about speed are stretched, never dropped.
PATIENCE = float(os.environ.get("CELLWALL_PATIENCE", "1"))


def figure(text):
    """Something measured on the way; tests/run shows it."""
    print(f"figure: {text}")


def shell(script):
    """A kernel that is a line of shell: for checks in which its language does not matter, it starts in no time."""
    return ("/bin/sh", "-c", script, "sh", "{inner_connection_file}")


SLEEP = shell("exec sleep 1000")


class Site:
    """One place to run kernels in: a home, a state directory, kernelspecs; removed at the end."""

    def __init__(self):
        self.prefix = os.path.realpath(os.environ["CELLWALL_PREFIX"])
        self.cellwall = os.path.join(self.prefix, "bin", "cellwall")
        self.python = os.environ["CELLWALL_KERNEL"]
        # Short: the path of an ipc socket has at most 107 bytes.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="cwt-", dir=os.environ.get("CELLWALL_PLACE", "/var/tmp")))
        for name in ("home", "state", "runtime", "tmp", "share", "config"):
            (self.root / name).mkdir(mode=0o700)
        self.home = self.root / "home"
        self.state = self.root / "state"
        self.kernels = self.state / "cellwall" / "kernels"
        self.secret = "host-secret-" + uuid.uuid4().hex
        (self.home / ".ssh").mkdir(mode=0o700)
        (self.home / ".ssh" / "x").write_text(self.secret)
        self.environment = dict(os.environ)
        for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_CONFIG_DIR", "VIRTUAL_ENV", "PYTHONPATH"):
            self.environment.pop(name, None)
        self.environment.update(
            HOME=str(self.home),
            TMPDIR=str(self.root / "tmp"),
            XDG_STATE_HOME=str(self.state),
            XDG_RUNTIME_DIR=str(self.root / "runtime"),
            XDG_CONFIG_HOME=str(self.root / "config"),
            JUPYTER_RUNTIME_DIR=str(self.root / "runtime"),
            JUPYTER_DATA_DIR=str(self.home / ".local" / "share" / "jupyter"),
            JUPYTER_PATH=str(self.root / "share" / "jupyter"),
            JUPYTER_PLATFORM_DIRS="1",
            PYTHONDONTWRITEBYTECODE="1",
            SECRET_OF_THE_HOST=self.secret,
        )
        os.environ.clear()
        os.environ.update(self.environment)
        self.specs = self.root / "share" / "jupyter" / "kernels"
        self._install()

    def _install(self):
        direct = {
            "argv": [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python 3 (direct)",
            "language": "python",
            "env": {"KIND": DIRECT},
            "metadata": {"debugger": True},
        }
        self._write_spec(DIRECT, direct)
        self.run("install", "--prefix", str(self.root), "--name", ISOLATED, "--python", self.python, check=True)

    def _write_spec(self, name, spec):
        directory = self.specs / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "kernel.json").write_text(json.dumps(spec, indent=1))

    def spec(self, name=ISOLATED):
        return json.loads((self.specs / name / "kernel.json").read_text())

    def variant(self, *options, kernel=None, base=ISOLATED, interrupt_mode=None):
        """A kernelspec like `base` with more options for `cellwall kernel`, or another kernel; returns its name."""
        spec = self.spec(base)
        if base == DIRECT:
            if kernel is not None:
                spec["argv"] = [part.replace("{inner_connection_file}", "{connection_file}") for part in kernel]
        else:
            at = spec["argv"].index("--")
            inner = spec["argv"][at + 1 :] if kernel is None else list(kernel)
            spec["argv"] = spec["argv"][:at] + [str(option) for option in options] + ["--"] + inner
        if interrupt_mode is not None:
            spec["interrupt_mode"] = interrupt_mode
        name = f"{base}-{uuid.uuid4().hex[:8]}"
        self._write_spec(name, spec)
        return name

    def run(self, *arguments, check=False, cwd=None, timeout=60 * PATIENCE, env=None, input=None):
        """`cellwall ARGUMENTS`; stdout and stderr as text."""
        result = subprocess.run(
            [self.cellwall, *map(str, arguments)],
            cwd=cwd or self.root,
            env={**self.environment, **(env or {})},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"cellwall {' '.join(map(str, arguments))}: {result.returncode}\n{result.stderr}")
        return result

    def project(self, **files):
        """A fresh notebook folder. Keyword names with `__` are paths: staging__in__a_csv."""
        directory = pathlib.Path(tempfile.mkdtemp(prefix="p-", dir=self.root))
        for name, content in files.items():
            self.put(directory, name.replace("__", "/"), content)
        return directory

    @staticmethod
    def put(directory, name, content):
        path = pathlib.Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return path

    def policy(self, text):
        path = self.root / f"policy-{uuid.uuid4().hex[:8]}.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        return path

    def private_directories(self):
        """What is left below the state directory: one name per kernel whose results were not brought out."""
        try:
            return sorted(entry.name for entry in self.kernels.iterdir())
        except FileNotFoundError:
            return []

    def leftovers(self):
        """Sockets and temporary files that nobody should have left."""
        found = []
        for directory in (self.root / "runtime", self.root / "tmp"):
            for path in directory.rglob("*"):
                if path.is_socket() or "cellwall" in path.name:
                    found.append(str(path))
        return found

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)


@dataclasses.dataclass
class Run:
    """What one execute_request gave."""

    id: str
    reply: dict
    messages: list

    def of(self, msg_type):
        return [message["content"] for message in self.messages if message["msg_type"] == msg_type]

    def stream(self, name):
        return "".join(
            content["text"]
            for content in self.of("stream")
            if content["name"] == name and not content["text"].startswith(NOTICE)
        )

    @property
    def stdout(self):
        return self.stream("stdout")

    @property
    def status(self):
        return self.reply["content"]["status"]

    @property
    def result(self):
        return self.of("execute_result")[-1]["data"]["text/plain"]

    @property
    def problem(self):
        return "\n".join(f"{content['ename']}: {content['evalue']}" for content in self.of("error"))

    @property
    def notices(self):
        return notices(self.messages)


def notices(messages):
    """The texts of cellwall's own messages."""
    return [
        message["content"]["text"]
        for message in messages
        if message["msg_type"] == "stream"
        and message["content"]["name"] == "stderr"
        and message["content"]["text"].startswith(NOTICE)
    ]


def collect(client, msg_id, timeout, stop_at_idle=True, on_message=None):
    """iopub messages until the idle of `msg_id`."""
    messages = []
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no idle for {msg_id} in {timeout} s; got {[m['msg_type'] for m in messages][-20:]}")
        try:
            message = client.get_iopub_msg(timeout=min(left, 1))
        except queue.Empty:
            continue
        parent = message["parent_header"].get("msg_id")
        if parent != msg_id and not notices([message]):
            continue
        messages.append(message)
        if on_message is not None:
            on_message(message)
        if (
            stop_at_idle
            and parent == msg_id
            and message["msg_type"] == "status"
            and message["content"]["execution_state"] == "idle"
        ):
            return messages


def reply_to(client, msg_id, timeout=30 * PATIENCE, channel="shell"):
    """The reply to one request, others thrown away."""
    receive = getattr(client, f"get_{channel}_msg")
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            message = receive(timeout=max(0.01, end - time.monotonic()))
        except queue.Empty:
            break
        if message["parent_header"].get("msg_id") == msg_id:
            return message
    raise TimeoutError(f"no reply to {msg_id} on {channel} in {timeout} s")


def execute(client, code, timeout=30, **options):
    """Runs a cell and waits for its reply and its idle."""
    timeout *= PATIENCE
    options.setdefault("allow_stdin", False)
    msg_id = client.execute(code, **options)
    messages = collect(client, msg_id, timeout)
    return Run(msg_id, reply_to(client, msg_id, timeout), messages)


def request(client, msg_type, content=None, channel="shell", buffers=None, header=None, metadata=None):
    """Sends any message; returns its id."""
    message = client.session.msg(msg_type, content or {}, metadata=metadata)
    message["header"].update(header or {})
    socket = getattr(client, f"{channel}_channel").socket
    client.session.send(socket, message, buffers=buffers)
    return message["header"]["msg_id"]


def drain(client, seconds=0.3):
    """Everything that iopub has to say until it is silent for `seconds`."""
    messages = []
    with contextlib.suppress(queue.Empty):
        while True:
            messages.append(client.get_iopub_msg(timeout=seconds))
    return messages


class Kernel:
    """One kernel, started as a Jupyter server starts it: jupyter_client's KernelManager, new session, closed stdin."""

    def __init__(
        self,
        site,
        kind,
        transport="tcp",
        cwd=None,
        spec=None,
        env=None,
        key=None,
        scheme=None,
        wait=True,
        manager=jupyter_client.KernelManager,
        **launch,
    ):
        self.site, self.kind = site, kind
        self.cwd = pathlib.Path(cwd) if cwd else site.project()
        self.log_path = self.cwd.parent / f"{self.cwd.name}-{uuid.uuid4().hex[:6]}.log"
        self.log_file = open(self.log_path, "wb")
        self.manager = manager(
            kernel_name=spec or kind,
            transport=transport,
            connection_file=str(site.root / "runtime" / f"kernel-{uuid.uuid4().hex[:12]}.json"),
        )
        if key is not None:
            self.manager.session.key = key
        if scheme is not None:
            self.manager.session.signature_scheme = scheme
        self.clients = []
        self.started_ticks = processes.now_ticks()
        self.client = None
        environment = {**site.environment, **(env or {})}
        if launch.pop("start", True):
            self.manager.start_kernel(cwd=str(self.cwd), env=environment, stderr=self.log_file, **launch)
            if wait:
                self.client = self.connect(own_session=False)

    @property
    def pid(self):
        return self.manager.provisioner.pid

    @property
    def connection_file(self):
        return self.manager.connection_file

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def alive(self):
        return self.manager.is_alive()

    def wait_gone(self, seconds=5):
        """Seconds until the process the client started has ended, or None."""
        begin = time.monotonic()
        if processes.wait_until(lambda: not self.alive(), seconds * PATIENCE, 0.005):
            return time.monotonic() - begin
        return None

    def roles(self):
        return processes.roles(self.pid)

    def connect(self, own_session=True, session=None, wait=True, timeout=60):
        """A blocking client; with a session (and so an identity) of its own unless told otherwise."""
        if own_session:
            client = BlockingKernelClient()
            client.load_connection_file(self.connection_file)
            client.session = Session(
                key=self.manager.session.key,
                signature_scheme=self.manager.session.signature_scheme,
                **({"session": session} if session else {}),
            )
        else:
            client = self.manager.client()
        client.start_channels()
        if wait:
            try:
                client.wait_for_ready(timeout=timeout * PATIENCE)
            except RuntimeError as problem:
                raise RuntimeError(f"{problem}\n{self.log}") from problem
        self.clients.append(client)
        return client

    def run(self, code, timeout=30, **options):
        return execute(self.client, code, timeout, **options)

    def notice(self, word, seconds=5):
        """The first of our messages in the notebook that contains `word`; "" when none comes."""
        end = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                for text in notices([self.client.get_iopub_msg(timeout=0.2)]):
                    if word in text:
                        return text
        return ""

    def started(self, msg_id, by="execute_input"):
        """Returns when a cell is said to begin; with "stream" when its code runs: before, an interrupt may find nothing to end."""

        class Begun(Exception):
            pass

        def look(message):
            if message["msg_type"] == by:
                raise Begun

        with contextlib.suppress(Begun):
            collect(self.client, msg_id, 20 * PATIENCE, stop_at_idle=False, on_message=look)

    def shutdown(self, now=False):
        for client in self.clients:
            client.stop_channels()
        self.clients = []
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=now)

    def close(self):
        """Ends it whatever its state; a test that already did loses nothing."""
        with contextlib.suppress(Exception):
            self.shutdown(now=True)
        self.log_file.close()


class Raw:
    """Sockets without jupyter_client: for messages that no honest client sends."""

    SOCKETS = {"shell": zmq.DEALER, "control": zmq.DEALER, "stdin": zmq.DEALER, "iopub": zmq.SUB, "hb": zmq.REQ}

    def __init__(self, connection_file, identity=None):
        with open(connection_file, encoding="utf-8") as file:
            self.info = json.load(file)
        self.context = zmq.Context()
        self.identity = identity or uuid.uuid4().hex.encode()
        self.session = Session(
            key=self.info["key"].encode(),
            signature_scheme=self.info["signature_scheme"],
            session=self.identity.decode(),
        )
        self.open = []

    def endpoint(self, channel):
        separator = "-" if self.info["transport"] == "ipc" else ":"
        return f"{self.info['transport']}://{self.info['ip']}{separator}{self.info[channel + '_port']}"

    def socket(self, channel, **options):
        socket = self.context.socket(self.SOCKETS[channel])
        socket.linger = 0
        if self.SOCKETS[channel] == zmq.DEALER:
            socket.identity = self.identity
        for name, value in options.items():
            setattr(socket, name, value)
        if channel == "iopub" and "subscribe" not in options:
            socket.subscribe(b"")
        socket.connect(self.endpoint(channel))
        self.open.append(socket)
        return socket

    def frames(self, msg_type, content=None, **header):
        """The frames of a signed message: delimiter, signature, header, parent, metadata, content."""
        message = self.session.msg(msg_type, content or {})
        message["header"].update(header)
        return self.session.serialize(message)

    def sign(self, parts):
        return self.session.sign(parts)

    def ping(self, seconds=20.0):
        """Is the heartbeat answered?"""
        socket = self.socket("hb")
        try:
            socket.send(b"ping")
            return socket.poll(int(seconds * 1000)) != 0 and socket.recv() == b"ping"
        finally:
            socket.close()
            self.open.remove(socket)

    def close(self):
        for socket in self.open:
            socket.close(linger=0)
        self.context.term()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def receive(socket, seconds=5):
    """One multipart message, or None."""
    return socket.recv_multipart() if socket.poll(int(seconds * 1000)) else None


def parse(frames):
    """A message's frames as a dictionary: what stands before the delimiter, the four parts, the buffers."""
    at = frames.index(b"<IDS|MSG>")
    header, parent, metadata, content = (json.loads(frames[at + 2 + index]) for index in range(4))
    return {
        "before": frames[:at],
        "signature": frames[at + 1],
        "header": header,
        "msg_type": header.get("msg_type"),
        "parent_header": parent,
        "metadata": metadata,
        "content": content,
        "buffers": frames[at + 6 :],
    }


def becomes(path, content, seconds=10):
    """What a file holds once it holds `content`, or in the end; None: it is not there. The files of a cell are awaited for
    1 s, and then come after its reply."""

    def read():
        try:
            return path.read_text() if isinstance(content, str) else path.read_bytes()
        except FileNotFoundError:
            return None

    processes.wait_until(lambda: read() == content, seconds * PATIENCE)
    return read()


class Watch:
    """Samples something in a thread while a test goes on; `peak` is its largest value."""

    def __init__(self, sample, step=0.1):
        self.peak = 0
        self._sample, self._step = sample, step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def _loop(self):
        while not self._stop.wait(self._step):
            with contextlib.suppress(OSError):
                self.peak = max(self.peak, self._sample())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def write_connection_file(path, transport="tcp", key=None, scheme="hmac-sha256", ports=None, **extra):
    """A connection file as a client writes it; returns its content."""
    if transport == "ipc":
        ip, ports = str(path)[: -len(".json")] + "-ipc", ports or [1, 2, 3, 4, 5]
    else:
        ip, ports = "127.0.0.1", ports or free_ports(5)
    info = dict(zip(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), ports))
    info.update(
        transport=transport,
        ip=ip,
        key=uuid.uuid4().hex if key is None else key,
        signature_scheme=scheme,
        kernel_name="isolated",
    )
    info.update(extra)
    pathlib.Path(path).write_text(json.dumps(info))
    os.chmod(path, 0o600)
    return info


_reserved = collections.deque(maxlen=200)  # descriptors are bounded, too


def free_ports(count):
    """Ports that nobody gets while a program that we start has not bound them yet: not among those that the system gives
    (ip(7), ip_local_port_range), and named by a socket of ours, which other runs of these tests look for."""
    found = []
    while len(found) < count:
        port = random.randrange(12000, 32000)
        name, probe = socket.socket(socket.AF_UNIX), socket.socket()
        with contextlib.suppress(OSError), probe:
            name.bind(f"\0cellwall-test-port-{port}")
            probe.bind(("127.0.0.1", port))
            found.append(port)
            _reserved.append(name)
    return found


class Launch:
    """`cellwall kernel` started by hand, with any program as the kernel; for life-cycle and error checks."""

    def __init__(self, site, *kernel, options=(), cwd=None, transport="ipc", connection=None, wrapper=(), **popen):
        self.site = site
        self.cwd = pathlib.Path(cwd) if cwd else site.project()
        self.file = pathlib.Path(connection or site.root / "runtime" / f"kernel-{uuid.uuid4().hex[:12]}.json")
        if connection is None:
            write_connection_file(self.file, transport)
        self.log_path = self.cwd.parent / f"{self.cwd.name}.log"
        self.since = processes.now_ticks()
        argv = [*wrapper, site.cellwall, "kernel", "-f", str(self.file), *map(str, options), "--", *map(str, kernel)]
        popen.setdefault("env", site.environment)
        with open(self.log_path, "wb") as log:
            popen.setdefault("stdin", subprocess.DEVNULL)
            popen.setdefault("stdout", log)
            popen.setdefault("stderr", log)
            popen.setdefault("start_new_session", True)
            self.process = subprocess.Popen(argv, cwd=self.cwd, **popen)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def roles(self):
        return processes.roles(self.pid)

    def wait_role(self, role, seconds=10):
        return processes.wait_until(lambda: self.roles().get(role), seconds * PATIENCE, 0.005)

    def wait(self, seconds=10):
        """The exit status, or None when it still runs."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            return None

    def close(self):
        """SIGKILL for every process of it that this test started."""
        for process in processes.tree(self.pid):
            process.kill(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
