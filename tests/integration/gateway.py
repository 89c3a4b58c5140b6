"""`cellwall serve` and the two ways in which clients speak to its kernels: REST and WebSockets."""

import contextlib
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import time
import uuid

import harness
import requests
import websocket

V1 = "v1.kernel.websocket.jupyter.org"
TOKENS = {"anna": "anna-" + uuid.uuid4().hex, "bob": "bob-" + uuid.uuid4().hex}


class Serve:
    """One server on a loopback port, with two users."""

    def __init__(self, site, *options, limits=None):
        self.site = site
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="s-", dir=site.root))
        self.data, self.runtime = self.root / "data", self.root / "run"
        users = {name: {"token": token, **(limits or {})} for name, token in TOKENS.items()}
        self.tokens = self.root / "tokens.json"
        self.tokens.write_text(json.dumps({"users": users}))
        self.tokens.chmod(0o600)
        self.log_path = self.root / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [site.cellwall, "serve", "--listen", "http://127.0.0.1:0", "--token-file", str(self.tokens)]
                + ["--data", str(self.data), "--runtime", str(self.runtime), *options],
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=site.root,
            )
        self.url = self._wait()

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def _wait(self):
        end = time.monotonic() + 20 * harness.PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log)
            if found and found.group(1) != "0":
                return found.group().rstrip("/")
            time.sleep(0.02)
        raise AssertionError(f"cellwall serve does not answer:\n{self.log}")

    def ask(self, method, path, user="anna", **options):
        headers = {"Authorization": f"token {TOKENS[user]}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def start(self, name=harness.ISOLATED, user="anna", **body):
        answer = self.ask("POST", "/api/kernels", user, json={"name": name, **body})
        assert answer.status_code == 201, (answer.text, self.log)
        return answer.json()["id"]

    def model(self, kernel, user="anna"):
        return self.ask("GET", f"/api/kernels/{kernel}", user).json()

    def wait_state(self, kernel, *states, seconds=30):
        end = time.monotonic() + seconds * harness.PATIENCE
        while time.monotonic() < end:
            model = self.model(kernel)
            if model["execution_state"] in states:
                return model
            time.sleep(0.05)
        raise AssertionError(f"{model}\n{self.log}")

    def connect(self, kernel, user="anna", v1=True, session=None, agent="test", **options):
        return Socket(self, kernel, user, v1, session or uuid.uuid4().hex, agent, **options)

    def kernel_pid(self):
        """Of the one `cellwall kernel` that runs."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Socket:
    def __init__(self, serve, kernel, user, v1, session, agent, **options):
        self.v1, self.session = v1, session
        self.ws = websocket.create_connection(
            f"{serve.url.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id={session}",
            header={"Authorization": f"token {TOKENS[user]}", "User-Agent": agent},
            subprotocols=[V1] if v1 else None,
            skip_utf8_validation=True,  # in Python it takes seconds
            **options,
            timeout=20 * harness.PATIENCE,
        )

    def send(self, msg_type, content, channel="shell", buffers=(), metadata=None):
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": self.session,
            "username": "test",
            "date": "2024-01-01T00:00:00.000000Z",
            "version": "5.4",
        }
        parts = [header, {}, metadata or {}, content]
        if self.v1:
            self.ws.send_binary(pack_v1(channel, [json.dumps(part).encode() for part in parts], buffers))
        else:
            message = dict(zip(("header", "parent_header", "metadata", "content"), parts), channel=channel, buffers=[])
            text = json.dumps(message)
            if buffers:
                self.ws.send_binary(pack_legacy(text.encode(), buffers))
            else:
                self.ws.send(text)
        return header["msg_id"]

    def receive(self):
        opcode, data = self.ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise ConnectionError(f"closed: {data!r}")
        if self.v1:
            assert opcode == websocket.ABNF.OPCODE_BINARY
            return unpack_v1(data)
        if opcode == websocket.ABNF.OPCODE_TEXT:
            return json.loads(data)
        return unpack_legacy(data)

    def until(self, *, parent=None, msg_type="status", state="idle"):
        """Messages up to this one."""
        messages = []
        while True:
            message = self.receive()
            messages.append(message)
            if parent is not None and message["parent_header"].get("msg_id") != parent:
                continue
            if message["header"]["msg_type"] != msg_type:
                continue
            if msg_type != "status" or message["content"]["execution_state"] == state:
                return messages

    def run(self, code, **content):
        sent = self.send("execute_request", {"code": code, "silent": False, "store_history": True, **content})
        messages, done = [], set()
        while done != {"reply", "idle"}:
            message = self.receive()
            if message["parent_header"].get("msg_id") != sent:
                continue
            messages.append(message)
            kind = message["header"]["msg_type"]
            if kind == "execute_reply":
                done.add("reply")
            if kind == "status" and message["content"]["execution_state"] == "idle":
                done.add("idle")
        return messages

    def close(self):
        self.ws.close(timeout=1)

    def hang_up(self):
        """Ends the connection and gives what was still on its way."""
        self.ws.sock.shutdown(socket.SHUT_WR)
        messages = []
        with contextlib.suppress(OSError, websocket.WebSocketException):
            while True:
                messages.append(self.receive())
        self.ws.shutdown()
        return messages

    def cut(self):
        """Without a word, as when a cable is pulled and the system notices."""
        self.ws.shutdown()


def text_of(messages, name="stdout"):
    return "".join(
        message["content"]["text"]
        for message in messages
        if message["header"]["msg_type"] == "stream" and message["content"]["name"] == name
    )


def pack_v1(channel, parts, buffers):
    parts = [channel.encode(), *parts, *buffers]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack_v1(data):
    (count,) = struct.unpack_from("<Q", data)
    offsets = struct.unpack_from(f"<{count}Q", data, 8)
    parts = [data[begin:end] for begin, end in zip(offsets, offsets[1:])]
    assert offsets[-1] == len(data)
    message = dict(zip(("header", "parent_header", "metadata", "content"), map(json.loads, parts[1:5])))
    return {**message, "channel": parts[0].decode(), "buffers": parts[5:]}


def pack_legacy(text, buffers):
    parts = [text, *buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f">{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def unpack_legacy(data):
    (count,) = struct.unpack_from(">I", data)
    offsets = [*struct.unpack_from(f">{count}I", data, 4), len(data)]
    parts = [data[begin:end] for begin, end in zip(offsets, offsets[1:])]
    return {**json.loads(parts[0]), "buffers": parts[1:]}


def environment_of(pid):
    text = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
