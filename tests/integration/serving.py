"""A `cellwall serve` to ask things of, and bytes on a socket for clients that no library would be."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

TOKENS = {name: f"{name}-token-{'0' * 24}" for name in ("anna", "ben", "admin")}
USERS = {
    "anna": {"token": TOKENS["anna"], "max_kernels": 2},
    "ben": {"token": TOKENS["ben"], "max_kernels": 2},
    "admin": {"token": TOKENS["admin"], "admin": True},
}


def bearer(user):
    return {"Authorization": f"token {TOKENS[user]}"}


class Server:
    """Runs until close(). `url` is the first address, `log()` what it said so far."""

    def __init__(self, site, *options, listen=("http://127.0.0.1:0",), users=USERS, environment=None):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="serve-", dir=site.root))
        self.token_file = self.root / "users.json"
        if users is not None:
            self.write_users(users)
            options = ("--token-file", self.token_file, *options)
        self.listen = [text.replace("DIR", str(self.root)) for text in listen]
        command = [site.cellwall, "serve", "--data", self.root / "data", "--runtime", self.root / "run", "--log", "debug"]
        for text in self.listen:
            command += ["--listen", text]
        self.output = open(self.root / "log", "w+b")
        self.process = subprocess.Popen(
            [str(part) for part in (*command, *options)],
            stderr=self.output, stdin=subprocess.DEVNULL, cwd=site.root,
            env={**site.environment, **(environment or {})},
        )  # fmt: skip
        self.urls = self._wait()
        self.url = self.urls[0] if self.urls else None

    def write_users(self, users):
        new = self.root / "users.new"
        new.touch(mode=0o600)
        new.write_text(users if isinstance(users, str) else json.dumps({"users": users}))
        new.rename(self.token_file)

    def _wait(self):
        """The addresses, once all are there; None when it ended."""
        wanted = len([text for text in self.listen if not text.startswith("curve:")])
        while True:
            urls = re.findall(r'(?:event=listen url=|"event":"listen","url":")([^\s"]+)', self.log())
            if len(urls) == wanted:
                return urls
            if self.process.poll() is not None:
                return None
            time.sleep(0.01)

    def log(self):
        return (self.root / "log").read_text()

    def port(self, index=0):
        return int(re.search(r":(\d+)(/|$)", self.urls[index]).group(1))

    def connect(self, index=0):
        plain = socket.create_connection(("127.0.0.1", self.port(index)), timeout=30)
        if not self.urls[index].startswith("https"):
            return plain
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname="localhost")

    def raw(self, data, index=0):
        """Sends bytes, reads until the server closes."""
        with self.connect(index) as client:
            client.sendall(data)
            return rest(client)

    def memory(self):
        """Resident bytes."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        self.output.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def make_authority(place, *addresses):
    """Certificates and keys in a new directory: two that sign themselves, an authority, and of it one for "localhost"
    and these addresses and two of clients."""
    place.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("one", "two", "ca"):
        openssl("req", "-x509", *key, "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name in ("localhost", "gateway", "stranger"):
        names = ",".join([f"DNS:{name}", *(f"IP:{address}" for address in addresses if name == "localhost")])
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", f"{name}.pem", "-copy_extensions", "copy")  # fmt: skip
    for path in place.glob("*.key"):
        path.chmod(0o600)
    return place


def rest(client):
    """All bytes until the end."""
    parts = []
    while True:
        try:
            part = client.recv(65536)
        except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def answer_of(client):
    """The next answer of a connection that stays open; only those with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(1)
        assert part, data
        data += part
    left = int(re.search(rb"\r\nContent-Length: (\d+)\r\n", data).group(1))
    while left:
        part = client.recv(left)
        assert part, data
        data += part
        left -= len(part)
    return data


def status(answer):
    """The status of a raw answer; 0 when there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
