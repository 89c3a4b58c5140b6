"""The link's near end alone: what it says when there is no kernel to be had, and a host that does not keep to the protocol."""

import json
import os
import struct
import threading
import uuid

import pytest
import zmq
import zmq.auth
from harness import PATIENCE

HELLO, WELCOME, DATA, ACK, REFUSE = range(1, 6)
IOPUB = 3


def frame(kind, a=0, b=0, number=0, body=b"", version=1):
    return struct.pack("<BBBBQ", version, kind, a, b, number) + body


@pytest.fixture
def keys(site):
    """A directory with the key pairs "host" and "client"."""
    directory = site.root / f"keys-{uuid.uuid4().hex[:8]}"
    for name in ("host", "client"):
        site.run("key", "--directory", directory, "new", name, check=True)
    return directory


class Host:
    """Answers each HELLO with what `answer` gives for it."""

    def __init__(self, keys, answer):
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.curve_server = True
        self.socket.curve_secretkey = zmq.auth.load_certificate(keys / "host.key_secret")[1]
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.answer, self.over = answer, threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.over.is_set():
            if self.socket.poll(100):
                routing, request = self.socket.recv_multipart()
                if request[1] == HELLO:
                    for one in self.answer(request):
                        self.socket.send_multipart([routing, one])

    def close(self):
        self.over.set()
        self.thread.join()
        self.socket.close()


@pytest.fixture
def host(keys):
    hosts = []

    def begin(answer):
        hosts.append(Host(keys, answer))
        return hosts[-1]

    yield begin
    for one in hosts:
        one.close()


@pytest.fixture
def near(launch, keys):
    """near(WHERE, …) gives a near end that runs."""

    def begin(where, *options, host_key="host"):
        given = ["--host", f"curve://{where}", "--host-key", keys / f"{host_key}.key", "--key", keys / "client.key_secret"]
        return launch(options=[*given, *options])

    return begin


def test_no_kernel_in_one_line(near, host):
    """Exit code 1, and one line that says what to do."""
    refusing = host(lambda hello: [frame(REFUSE, 2, body=b"the two ends speak different versions of the link")])
    limited = host(lambda hello: [frame(REFUSE, 3, body=b"you have 4 kernels, which is the limit\x1b[31m\n")])
    later = host(lambda hello: [frame(WELCOME, version=2)])
    ends = {
        "is --host-key the host's?": near(f"127.0.0.1:{refusing.port}", host_key="client"),
        "the two ends speak different versions of the link": near(f"127.0.0.1:{refusing.port}"),
        "you have 4 kernels, which is the limit\\x1b[31m\\n": near(f"localhost:{limited.port}"),
        "another version of the link: install the same": near(f"127.0.0.1:{later.port}"),
    }
    for said, end in ends.items():
        assert end.wait(60) == 1, end.log
        assert end.log.count("\n") == 1 and said in end.log, end.log


def test_wrong_usage(site, near, keys, tmp_path):
    """Exit code 2, before anything is connected to."""
    file = near("127.0.0.1:1")
    given = ["kernel", "-f", str(file.file), "--host-key", str(keys / "host.key"), "--key", str(keys / "client.key_secret")]
    for arguments in (
        [*given, "--host", "tcp://127.0.0.1:1"],
        [*given, "--host", "curve://127.0.0.1"],
        [*given, "--host", "curve://127.0.0.1:0"],
        [*given, "--host", "curve://127.0.0.1:1", "--", "python3"],
        ["kernel", "-f", str(file.file), "--host", "curve://127.0.0.1:1"],
        ["kernel", "-f", str(tmp_path / "none"), *given[3:], "--host", "curve://127.0.0.1:1"],
    ):
        result = site.run(*arguments)
        assert result.returncode == 2, (arguments, result.stderr)
    os.chmod(keys / "client.key_secret", 0o644)
    open_to_all = near("127.0.0.1:1")
    assert open_to_all.wait(30) == 1 and "can be read by others: chmod 600" in open_to_all.log


@pytest.mark.core
def test_more_than_its_window(near, host):
    """A host that sends on while nothing is acknowledged, because the notebook takes nothing: it is no host any more."""

    def flood(hello):
        yield frame(WELCOME)
        subscriber.wait(60 * PATIENCE)
        parts = [b"{}", b"{}", b"{}", bytes(65000)]
        body = struct.pack("<5I", 4, *map(len, parts)) + b"".join(parts)
        for number in range(1, 1000):  # 65 MB: more than the window and all buffers on the way
            yield frame(DATA, IOPUB, 1, number, body)

    subscriber = threading.Event()
    end = near(f"127.0.0.1:{host(flood).port}")
    connection = json.loads(end.file.read_text())
    client = zmq.Context.instance().socket(zmq.SUB)
    client.linger = 0
    client.rcvhwm = 1
    client.subscribe(b"")
    client.connect(f"ipc://{connection['ip']}-{connection['iopub_port']}")
    assert client.poll(30000 * PATIENCE)  # the welcome of a subscriber: it is connected
    subscriber.set()
    try:
        assert end.wait(60) == 1, end.log
        assert "more than its window" in end.log
    finally:
        client.close()
