"""The link for tests: `cellwall serve` on the far one of two hosts, kernelspecs for the near one, clients by hand."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import uuid

import processes
import pytest
import serving
import two_hosts
from harness import ISOLATED, PATIENCE

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

    def ask(self, path):
        """What it answers to who runs it, over the Unix socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.site.root / "far.sock"))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = serving.rest(client)
        assert serving.status(answer) == 200, answer
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def kernels(self):
        """Process ids of its kernels."""
        return set(pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

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


def make_keys(site):
    directory = site.root / "config" / "cellwall"
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("host", "client", "second", "stranger"):
        site.run("key", "new", name, check=True)
    for name in ("client", "second"):
        site.run("key", "allow", directory / f"{name}.key", check=True)
    return directory


@pytest.fixture(scope="module")
def keys(site):
    return make_keys(site)


@pytest.fixture(scope="module")
def far(site, hosts, keys):
    far = Far(site, hosts, "--allow-env", "NO_COLOR", "--listen", f"unix:{site.root / 'far.sock'}")
    far.start()
    yield far
    far.stop()


def linked(start, far, *options, **launch):
    return start(far.spec(*options), transport="ipc", **launch)


def by_hand(far, script, key="client", **popen):
    """A program on the near host that speaks the link's protocol by itself, with link_client.py."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)}
    command = [*far.hosts.enter(far=False), sys.executable, "-c", "from link_client import *\n" + script, WHERE]
    command += [str(far.keys / "host.key"), str(far.keys / f"{key}.key_secret")]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **popen
    )


def talk(far, script, key="client"):
    """What such a program prints."""
    with by_hand(far, script, key) as process:
        return process.communicate(timeout=100 * PATIENCE)[0]
