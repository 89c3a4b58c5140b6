"""Clients in numbers that do nothing, or as slowly as they can: run by `tests/run conformance`.

Memory stays bounded, whoever does something is served meanwhile, and who does nothing is ended.
"""

import contextlib
import re
import resource
import select
import socket
import ssl
import time

import harness
import pytest
import requests
from harness import PATIENCE
from linking import far, hosts, keys, linked, talk  # noqa: F401 (fixtures)
from serving import TOKENS, Server, bearer, make_authority

OVER_TLS, SLOW = 1000, 400  # a connection that is kept has 75 s
MB = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 15000:
        pytest.skip(f"only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def certificates(site):
    return make_authority(site.root / "authority")


def serve(site, certificates, most):
    listen = ("https://127.0.0.1:0", "http://127.0.0.1:0")
    own = ("--certificate", certificates / "localhost.pem", "--private-key", certificates / "localhost.key")
    return Server(site, *own, "--max-connections", str(most), listen=listen)


def asked(server, certificates):
    """Somebody new is served, over both."""
    tls = server.urls[0].replace("127.0.0.1", "localhost")
    for url in (tls, server.urls[1]):
        assert requests.get(f"{url}/api/kernels", headers=bearer("anna"), verify=certificates / "ca.pem", timeout=30 * PATIENCE).json() == []


def test_idle_over_tls(site, certificates):
    """A thousand that asked once and then stay."""
    request = f"GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {TOKENS['anna']}\r\n\r\n".encode()
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    with serve(site, certificates, 4 * OVER_TLS) as server, contextlib.ExitStack() as stack:
        before = server.memory()
        for _ in range(OVER_TLS):
            plain = socket.create_connection(("127.0.0.1", server.port()), timeout=30 * PATIENCE)
            client = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            client.sendall(request)
            assert client.recv(12) == b"HTTP/1.1 200"
        grown = server.memory() - before
        asked(server, certificates)
        text = requests.get(f"{server.urls[1]}/metrics", headers=bearer("admin"), timeout=30 * PATIENCE).text
        (there,) = re.findall(r"^cellwall_connections (\d+)", text, re.M)
        harness.figure(f"{there} idle connections over TLS take {grown / MB:.1f} MB")
        assert grown < OVER_TLS * 100_000


def drip(clients):
    """Sends each the next byte of what it has left; those that the server has ended are closed and left out."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    ended = {descriptor for descriptor, _ in poll.poll(0)}
    going = {}
    for client, data in clients.items():
        with contextlib.suppress(OSError):
            if client.fileno() not in ended:
                client.send(data[:1])
                going[client] = data[1:] or data
                continue
        client.close()
    return going


def client_hello():
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(into, out, server_hostname="localhost").do_handshake()
    return out.read()


@pytest.mark.parametrize("way", ("head", "handshake"))
def test_slow_in_numbers(site, certificates, way):
    """Four times as many as there is room for, each of which sends a byte now and then."""
    with serve(site, certificates, SLOW // 4) as server:
        before = server.memory()
        index = 0 if way == "handshake" else 1
        data = client_hello() if way == "handshake" else b"GET /api HTTP/1.1\r\n" + b"X-Slow: a\r\n" * 1000
        clients = {socket.create_connection(("127.0.0.1", server.port(index)), timeout=30 * PATIENCE): data for _ in range(SLOW)}
        grown, begin, rounds = 0, time.monotonic(), 0
        while clients:
            assert time.monotonic() - begin < 60 * PATIENCE, f"{len(clients)} of {SLOW} are still there"
            clients = drip(clients)
            asked(server, certificates)
            grown = max(grown, server.memory() - before)
            rounds += 1
            time.sleep(0.2)
        harness.figure(f"{SLOW} slow connections ({way}) are ended in {time.monotonic() - begin:.1f} s, {grown / MB:.1f} MB meanwhile")
        assert rounds > 3 and grown < 32 * MB


IDLE = r"""
import socket
host, port = WHERE.rsplit(":", 1)
waiting = []
for i in range(10000):
    waiting.append(socket.create_connection((host, int(port))))
    if i % 1000 == 999:                                                   # who is allowed is let in among them
        answers = (Connection().ask(frame(HELLO, a=1, body=os.urandom(32)), seconds=15) for i in range(5))
        assert next(filter(None, answers)) == (REFUSE, NOT_KNOWN)
for client in waiting:                                                    # a greeting, then its end
    client.settimeout(120)
    with contextlib.suppress(ConnectionError):
        while client.recv(1000):
            pass
print("ended")
"""


def test_idle_on_the_link(far, start):
    """Ten thousand strangers that say nothing: each is ended, a kernel over the link goes on and another client is let in."""
    kernel = linked(start, far)
    with harness.Watch(lambda: memory(far.process.pid)) as watch:
        before = memory(far.process.pid)
        assert talk(far, IDLE) == "ended\n", far.log[-2000:]
        assert kernel.run("1 + 1").result == "2"
    harness.figure(f"10,000 strangers on the link's port take {(watch.peak - before) / MB:.1f} MB")
    assert watch.peak - before < 64 * MB


def memory(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
