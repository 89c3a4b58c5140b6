"""The HTTP side of `cellwall serve` against clients that mean no good: what they send, who they say they are, how slow they are."""

import base64
import os
import pathlib
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import harness
import pages
import processes
import pytest
import requests
from serving import TOKENS, USERS, Server, answer_of, bearer, make_authority, rest, status

pytestmark = [pytest.mark.core, pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning", "ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def server(site):
    with Server(site, listen=("http://127.0.0.1:0", "https://127.0.0.1:0", "unix:DIR/s"), *("--self-signed",)) as server:
        yield server
        assert server.process.poll() is None, server.log()


def get(server, path="/api/me", index=0, **more):
    return requests.get(server.urls[index] + path, timeout=30, verify=False, **more)


def head(*lines, first="GET /api HTTP/1.1", host="localhost"):
    lines = [first, *([f"Host: {host}"] if host else []), *lines, "", ""]
    return "\r\n".join(lines).encode()


# ---- requests that are none ----

REFUSED = {
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400),
    "no version": (b"GET /api\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3": (head(first="GET /api HTTP/3.0"), 505),
    "a method that is none": (head(first="BREW /api HTTP/1.1"), 501),
    "a proxy's target": (head(first="GET http://localhost/api HTTP/1.1"), 400),
    "CONNECT": (head(first="CONNECT localhost:80 HTTP/1.1"), 501),
    "no Host": (head(host=None), 400),
    "two Hosts": (head("Host: other"), 400),
    "a bare line feed": (b"GET /api HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "a bare line feed in a field": (head("X: a\nY: b"), 400),
    "a bare carriage return": (head("X: a\rY: b"), 400),
    "a folded field": (head("X: a", " b"), 400),
    "a space before the colon": (head("X : a"), 400),
    "a field without a name": (head(": a"), 400),
    "a NUL": (head("X: a\0b"), 400),
    "both lengths": (head("Content-Length: 5", "Transfer-Encoding: chunked", first="POST /login HTTP/1.1"), 400),
    "two lengths": (head("Content-Length: 5", "Content-Length: 5", first="POST /login HTTP/1.1"), 400),
    "a list of lengths": (head("Content-Length: 5, 5", first="POST /login HTTP/1.1"), 400),
    "a signed length": (head("Content-Length: +5", first="POST /login HTTP/1.1"), 400),
    "a length past all": (head("Content-Length: 99999999999999999999", first="POST /login HTTP/1.1"), 400),
    "an unknown coding": (head("Transfer-Encoding: gzip, chunked", first="POST /login HTTP/1.1"), 501),
    "a chunk of no size": (head("Transfer-Encoding: chunked", first="POST /login HTTP/1.1") + b"zz\r\n", 400),
    "a chunk past all": (head("Transfer-Encoding: chunked", first="POST /login HTTP/1.1") + b"f" * 20 + b"\r\n", 400),
    "a negative chunk": (head("Transfer-Encoding: chunked", first="POST /login HTTP/1.1") + b"-5\r\nhello\r\n", 400),
    "an expectation": (head("Expect: miracles"), 417),
    "a body of 1 GiB": (head("Content-Length: 1073741824", first="POST /login HTTP/1.1"), 413),
    "a body of nobody known, too large": (head("Content-Length: 4097", first="POST /login HTTP/1.1"), 413),
    "the same in a chunk": (head("Transfer-Encoding: chunked", first="POST /logout HTTP/1.1") + b"1001\r\n" + b"a" * 4097, 413),
    "65 fields": (head(*(f"X{i}: a" for i in range(65))), 431),
    "a field of 40,000 bytes": (head("X: " + "a" * 40000), 431),
    "a head without an end": (b"GET /" + b"a" * 70000, 431),
    "up and out": (head(first="GET /api/../../etc/passwd HTTP/1.1"), 400),
    "up and out, written otherwise": (head(first="GET /api/%2e%2e/%2e%2e/etc/passwd HTTP/1.1"), 400),
    "a slash that is hidden": (head(first="GET /api%2f..%2fme HTTP/1.1"), 400),
    "a NUL that is hidden": (head(first="GET /api%00 HTTP/1.1"), 400),
    "empty parts": (head(first="GET //api HTTP/1.1"), 400),
    "half an escape": (head(first="GET /api%2 HTTP/1.1"), 400),
    "UTF-8 that is none": (head(first="GET /api%ff HTTP/1.1"), 400),
    "a fragment": (head(first="GET /api#a HTTP/1.1"), 400),
    "parts without end": (head(first="GET " + "/a" * 40 + " HTTP/1.1"), 400),
    "a query without end": (head(first="GET /api?" + "&".join(f"a{i}=1" for i in range(40)) + " HTTP/1.1"), 400),
    "nothing of this name": (head("Connection: close", first="GET /nothing HTTP/1.1"), 404),
    "a method for nothing": (head("Connection: close", first="DELETE /api HTTP/1.1"), 405),
    "another site's name": (head("Connection: close", host="evil.example"), 421),
    "another site's page": (head("Connection: close", "Origin: https://evil.example"), 403),
    "a page from nowhere": (head("Connection: close", "Origin: null"), 403),
}


@pytest.mark.parametrize("index", [0, 1], ids=["http", "https"])
def test_malformed_requests_are_refused(server, index):
    for what, (data, wanted) in list(REFUSED.items())[:: 1 if index == 0 else 8]:
        assert (what, status(server.raw(data, index))) == (what, wanted)
    assert get(server, "/api", index).status_code == 200


def test_a_request_in_single_bytes_and_several_at_once(server):
    with server.connect() as client:
        for byte in head(first="GET /api HTTP/1.1"):
            client.sendall(bytes([byte]))
        assert status(answer_of(client)) == 200
        client.sendall(head() * 3 + head("Connection: close"))
        assert rest(client).count(b'{"version"') == 4


def test_nobody_speaks_anything_but_http_1(server):
    for upgrade in ("h2c", "h2c, websocket", "TLS/1.3", "websocket"):
        answer = server.raw(head(f"Upgrade: {upgrade}", "Connection: Upgrade, HTTP2-Settings, close", "HTTP2-Settings: AAMAAABk"))
        assert status(answer) == 200 and b"101" not in answer.split(b"\r\n")[0]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", server.port(1))) as plain, context.wrap_socket(plain) as client:
        assert client.selected_alpn_protocol() == "http/1.1"


def test_plain_http_on_the_tls_port_is_told(server):
    with socket.create_connection(("127.0.0.1", server.port(1))) as client:
        client.sendall(head())
        assert b"HTTPS" in rest(client)


def test_old_tls_is_refused(server):
    for version, good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", server.port(1))) as plain:
            if good:
                with context.wrap_socket(plain) as client:
                    assert client.version()
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    context.wrap_socket(plain)


# ---- who asks ----


def test_tokens(server):
    assert get(server).status_code == 401
    assert get(server, headers=bearer("anna")).json()["identity"]["username"] == "anna"
    assert get(server, headers={"Authorization": f"Bearer {TOKENS['ben']}"}).json()["identity"]["username"] == "ben"
    for wrong in (f"token {TOKENS['anna'][:-1]}", f"Basic {base64.b64encode(b'anna:x').decode()}", "token ", "token", ""):
        assert get(server, headers={"Authorization": wrong}).status_code == 401
    # In an address a token is looked at for WebSockets alone.
    assert get(server, f"/api/me?token={TOKENS['anna']}").status_code == 401
    assert get(server, "/metrics", headers=bearer("anna")).status_code == 403
    assert "cellwall_requests_total" in get(server, "/metrics", headers=bearer("admin")).text
    assert not any(token in server.log() for token in TOKENS.values())


def test_the_unix_socket_knows_its_own(server):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.urls[2].removeprefix("unix:"))
        client.sendall(head("Connection: close", first="GET /api/me HTTP/1.1"))
        assert b'"username":"local"' in rest(client)
    assert pathlib.Path(server.urls[2].removeprefix("unix:")).stat().st_mode & 0o077 == 0


def test_the_unix_socket_knows_others(site):
    """It is open to others when the token file names one of them, and then it tells them apart."""
    with Server(site, listen=("unix:DIR/s",)) as server, tempfile.TemporaryDirectory(dir=site.root.parent) as place:
        path = pathlib.Path(server.urls[0].removeprefix("unix:"))

        def mode():
            return path.stat().st_mode & 0o777

        def reload(users, wanted):
            server.write_users(users)
            server.process.send_signal(signal.SIGHUP)
            while mode() != wanted:
                time.sleep(0.01)

        def ask(uid):
            os.chmod(place, 0o755)
            pathlib.Path(place, "s").unlink(missing_ok=True)
            os.link(path, f"{place}/s")  # the server's own directory is closed to others
            asked = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('s')\n"
            asked += f"s.sendall({head('Connection: close', first='GET /api/me HTTP/1.1')!r})\n"
            asked += "while b := s.recv(9999): print(b.decode())"
            return subprocess.run(["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "/usr/bin/python3", "-c", asked],
                                  cwd=place, capture_output=True, text=True, check=False).stdout  # fmt: skip

        assert mode() == 0o600
        reload({**USERS, "other": {"uid": 65534}}, 0o666)
        if os.getuid() == 0:
            assert '"username":"other"' in ask(65534)
            assert " 401 " in ask(65533)
        reload(USERS, 0o600)
        if os.getuid() == 0:
            assert ask(65534) == ""


def test_a_cookie_for_the_page_alone(server):
    session = requests.Session()
    own = {"Origin": server.url}
    form = session.post(f"{server.url}/login", data={"token": TOKENS["anna"]}, timeout=30)
    assert form.status_code == 400 and not session.cookies
    answer = session.post(f"{server.url}/login", json={"token": TOKENS["anna"]}, headers=own, timeout=30)
    assert answer.status_code == 204
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKENS["anna"] not in cookie
    assert session.get(f"{server.url}/api/me", timeout=30).json()["identity"]["username"] == "anna"
    # What changes something has to say which page it comes from.
    assert session.post(f"{server.url}/api/me", timeout=30).status_code == 405
    answer = requests.post(f"{server.urls[1]}/login", json={"token": TOKENS["anna"]}, verify=False, timeout=30)
    assert "Secure" in answer.headers["Set-Cookie"]
    assert session.post(f"{server.url}/logout", headers=own, timeout=30).status_code == 204
    session.cookies.set("cellwall", cookie.split("=")[1].split(";")[0])
    assert session.get(f"{server.url}/api/me", timeout=30).status_code == 401


def test_answers_give_a_page_nothing_to_work_with(server):
    for answer in (get(server, "/api"), get(server), get(server, "/nothing")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_guessing_is_limited_and_locks_nobody_out(site):
    with Server(site) as server:
        assert get(server, headers=bearer("anna")).status_code == 200
        answers = [get(server, headers={"Authorization": f"token guess-{i:032}"}).status_code for i in range(15)]
        assert answers[:10] == [401] * 10 and answers[-1] == 429
        assert requests.post(f"{server.url}/login", json={"token": "x" * 20}, timeout=30).status_code == 429
        # Somebody new from there waits, who was there before does not.
        assert get(server, headers=bearer("ben")).status_code == 429
        assert get(server, headers=bearer("anna")).status_code == 200


def test_trusted_proxies_and_a_base_url(site):
    with Server(site, "--trusted-proxy", "127.0.0.1", "--base-url", "/services/wall/", "--allow-host", "hub.example") as server:
        answer = get(server, "/api/me", headers={"X-Forwarded-For": "6.6.6.6, 10.1.2.3", "Host": "hub.example"})
        assert answer.status_code == 401
        assert "address=10.1.2.3" in server.log() and "6.6.6.6" not in server.log()
        both = head("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 10.4.5.6", "Connection: close", first="GET /services/wall/api/me HTTP/1.1")
        assert status(server.raw(both)) == 401
        assert "address=10.4.5.6" in server.log() and "6.6.6.6" not in server.log()
        assert get(server, "/api").status_code == 200
        for path in ("/api", "/services/wallet/api", "/services/wall/../api", "/services/wal"):
            assert status(server.raw(head("Connection: close", first=f"GET {path} HTTP/1.1"))) in (400, 404)
        # That it came over TLS is believed of a trusted proxy; behind it a second one has appended how the first asked.
        said = {"https": True, "HTTPS, http": True, "https,http": True, "http": False, "http,https": False, "httpsx": False, "": False, None: False}
        assert {proto: cookie_is_secure(server, proto) for proto in said} == said
    with Server(site, "--trusted-proxy", "::FFFF:127.0.0.1", "--trusted-proxy", "2001:DB8:0:0::1") as server:
        get(server, headers={"X-Forwarded-For": "6.6.6.6, ::ffff:10.7.8.9, 2001:db8::1"})
        assert "address=10.7.8.9" in server.log() and "6.6.6.6" not in server.log()
    with Server(site) as server:
        get(server, headers={"X-Forwarded-For": "10.1.2.3"})
        assert "10.1.2.3" not in server.log()
        assert not cookie_is_secure(server, "https")


def cookie_is_secure(server, proto):
    answer = requests.post(f"{server.url}/login", json={"token": TOKENS["anna"]}, headers={"X-Forwarded-Proto": proto}, timeout=30)
    out = requests.post(f"{server.url}/logout", headers={"X-Forwarded-Proto": proto}, timeout=30)
    assert answer.status_code == out.status_code == 204
    secure = ["; Secure" in each.headers["Set-Cookie"] for each in (answer, out)]
    assert secure[0] == secure[1]
    return secure[0]


def test_a_page_that_came_without_tls_is_another_one(server):
    for scheme, wanted in (("https", 200), ("http", 403)):
        origin = f"{scheme}://127.0.0.1:{server.port(1)}"
        assert get(server, index=1, headers={"Origin": origin, **bearer("anna")}).status_code == wanted


def test_origins_that_are_allowed(site):
    with Server(site, "--allow-origin", "https://lab.example") as server:
        answer = get(server, headers={"Origin": "https://lab.example", **bearer("anna")})
        assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == "https://lab.example"
        assert get(server, headers={"Origin": "https://lab.example.evil", **bearer("anna")}).status_code == 403


# ---- what it refuses to start with ----


@pytest.mark.parametrize(
    "listen, options, users, words",
    [
        ("http://0.0.0.0:0", (), USERS, "without TLS only a loopback address"),
        ("http://[::]:0", (), USERS, "without TLS only a loopback address"),
        ("https://127.0.0.1:0", (), USERS, "needs --certificate"),
        ("https://0.0.0.0:0", ("--certificate", "/c", "--private-key", "/k"), None, "who comes has to be known"),
        ("https://192.0.2.1:0", ("--self-signed",), USERS, "port 0 (an address that this host has"),
        ("ftp://127.0.0.1:0", (), USERS, "is needed"),
        ("http://example.org:80", (), USERS, "is needed"),
        ("unix:relative", (), USERS, "absolute path"),
        ("http://127.0.0.1:0", (), {"a": {"token": "short"}}, "16 to"),
        ("http://127.0.0.1:0", (), {"a": {"tokn": "x" * 20}}, "tokn"),
        ("http://127.0.0.1:0", (), {"a": {"uid": "x"}}, "must be a whole number"),
        ("http://127.0.0.1:0", (), {"a": {"max_kernels": 1}}, "nobody can come in by it"),
        ("http://127.0.0.1:0", (), {"../a": {"token": "x" * 20}}, "no user's name"),
        ("http://127.0.0.1:0", (), {"a": {"token": "x" * 20}, "b": {"token": "x" * 20}}, "same token"),
        ("http://127.0.0.1:0", ("--hub-api", "https://hub"), USERS, "--hub-api"),
        ("http://127.0.0.1:0", ("--hub-api", "http://127.0.0.1:1/", "--hub-scopes", "x"), USERS, "JSON list"),
    ],
)
def test_what_it_does_not_start_with(site, listen, options, users, words):
    with Server(site, *options, listen=(listen,), users=users) as server:
        assert server.urls is None and server.process.returncode == 1
        assert words in server.log().splitlines()[-1]


@pytest.mark.parametrize(
    "option",
    [
        "--trusted-proxy=name",
        "--allow-host=https://name",
        "--allow-host=name:443",
        "--allow-host=*",
        "--allow-host=*.example.org",
        "--allow-host=[::1]",
        "--allow-origin=https://",
        "--allow-origin=name",
        "--allow-origin=https://name/path",
        "--allow-env=A=B",
    ],
)
def test_options_that_cannot_be_meant(site, option):
    with Server(site, option) as server:
        assert server.urls is None and server.process.returncode == 2
        assert f"cellwall serve: {option.split('=')[0]} " in server.log()


def test_an_address_that_is_in_use(site):
    with Server(site) as first, Server(site, listen=(f"http://127.0.0.1:{first.port()}",)) as second:
        assert second.urls is None and f"port {first.port()} (another port: --listen)" in second.log()


def test_a_kernelspec_that_is_not_there(site):
    with Server(site, "--kernelspec", "nowhere") as server:
        assert "event=kernelspec name=nowhere" in server.log()


def test_no_text_of_the_token_file_is_shown(site):
    with Server(site, users='{"users":\n {"anna": {"token" "%s"}}}' % TOKENS["anna"]) as server:
        assert server.urls is None and "line 2, column" in server.log() and "token-000" not in server.log()


def test_a_token_file_that_others_can_read(site):
    with Server(site) as server:
        server.token_file.chmod(0o644)
        again = subprocess.run(
            [site.cellwall, "serve", "--listen", "http://127.0.0.1:0", "--token-file", server.token_file],
            capture_output=True, text=True, timeout=30, check=False, env=site.environment,
        )  # fmt: skip
        assert again.returncode == 1 and "readable by nobody else" in again.stderr


def test_a_token_for_one_run(site):
    with Server(site, users=None) as server:
        path = server.root / "run" / "token"
        assert path.stat().st_mode & 0o777 == 0o600
        assert get(server, headers={"Authorization": f"token {path.read_text().strip()}"}).json()["admin"] is True
        assert path.read_text().strip() not in server.log()
        server.process.terminate()
        assert server.process.wait(30) == 0 and not path.exists()


def test_a_token_for_one_run_is_left_alone_by_a_second_server(site):
    with Server(site, users=None) as first:
        path = first.root / "run" / "token"
        for listen in (f"http://127.0.0.1:{first.port()}", "http://127.0.0.1:0"):
            with Server(site, "--runtime", path.parent, listen=(listen,), users=None) as second:
                assert second.urls is None and f"{path} has the token of another" in second.log()
        with Server(site, "--runtime", path.parent) as second:
            assert second.urls
        assert get(first, headers={"Authorization": f"token {path.read_text().strip()}"}).status_code == 200
        first.process.kill()
        first.process.wait(30)
        with Server(site, "--runtime", path.parent, users=None) as second:
            assert get(second, headers={"Authorization": f"token {path.read_text().strip()}"}).status_code == 200


def test_a_certificate_for_the_names_it_was_told(site):
    """--self-signed: clients check it by its file; it is made anew when a name is missing, else kept."""
    names, kept = ["my_gate.example.org", "203.0.113.5"], site.root / "kept"
    kept.mkdir()
    seen = []
    for count in (0, 1, 2, 2, 1):
        more = [word for name in names[:count] for word in ("--allow-host", name)]
        with Server(site, "--self-signed", "--data", kept, *more, listen=("https://127.0.0.1:0",)) as server:
            seen.append((kept / "tls" / "certificate.pem").read_text())
            context = ssl.create_default_context(cadata=seen[-1])
            for name in ("localhost", "127.0.0.1", *names[:count]):
                with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port())), server_hostname=name) as client:
                    client.sendall(f"GET /api HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                    assert status(rest(client)) == 200
    assert len(set(seen)) == 3 and seen[2] == seen[3] == seen[4]
    for name in ("a,DNS:b", "a:b"):
        with Server(site, "--self-signed", "--allow-host", name, listen=("https://127.0.0.1:0",)) as server:
            assert server.urls is None and "--allow-host" in server.log()


# ---- SIGHUP, certificates of clients ----


@pytest.fixture(scope="module")
def authority(site):
    return make_authority(site.root / "authority")


def subject(server):
    return subprocess.run(
        ["openssl", "x509", "-noout", "-subject"], input=ssl.get_server_certificate(("127.0.0.1", server.port())),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def wait_for(server, words):
    assert processes.wait_until(lambda: words in server.log(), 60 * harness.PATIENCE), server.log()


def test_sighup_reads_certificate_and_tokens_again(site, authority):
    for kind in ("key", "pem"):
        (authority / f"now.{kind}").write_bytes((authority / f"one.{kind}").read_bytes())
        (authority / f"now.{kind}").chmod(0o600)
    options = ("--certificate", authority / "now.pem", "--private-key", authority / "now.key")
    with Server(site, *options, listen=("https://127.0.0.1:0",)) as server:
        assert "one" in subject(server)
        pages = {}
        for name in ("anna", "admin"):
            pages[name] = requests.Session()
            pages[name].verify = False
            assert pages[name].post(f"{server.url}/login", json={"token": TOKENS[name]}, timeout=30).status_code == 204
            assert pages[name].get(f"{server.url}/api/me", timeout=30).status_code == 200
        with server.connect() as before:
            for kind in ("key", "pem"):
                (authority / f"now.{kind}").write_bytes((authority / f"two.{kind}").read_bytes())
            server.write_users({"anna": USERS["anna"], "new": {"token": "n" * 20}, "admin": {"token": "m" * 20, "admin": True}})
            server.process.send_signal(signal.SIGHUP)
            wait_for(server, "event=reload what=tokens")
            assert "two" in subject(server)
            before.sendall(head("Connection: close"))  # a connection from before goes on
            assert status(rest(before)) == 200
        assert get(server, headers={"Authorization": "token " + "n" * 20}).status_code == 200
        assert get(server, headers=bearer("anna")).status_code == 200
        assert get(server, headers=bearer("ben")).status_code == 401
        # With a token end the cookies that it gave.
        assert [page.get(f"{server.url}/api/me", timeout=30).status_code for page in pages.values()] == [200, 401]
        # What cannot be read changes nothing.
        (authority / "now.pem").write_text("none")
        server.write_users("{}")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "what=tokens result=kept")
        assert "what=certificate result=kept" in server.log() and "two" in subject(server)
        assert get(server, headers=bearer("anna")).status_code == 200


def test_client_certificates(site, authority):
    options = ("--certificate", authority / "one.pem", "--private-key", authority / "one.key", "--client-ca", authority / "ca.pem")
    users = {"gate": {"certificate": "gateway"}, "anna": USERS["anna"]}
    with Server(site, *options, listen=("https://127.0.0.1:0",), users=users) as server:

        def with_certificate(name):
            return get(server, cert=(str(authority / f"{name}.pem"), str(authority / f"{name}.key")))

        assert with_certificate("gateway").json()["identity"]["username"] == "gate"
        assert with_certificate("stranger").status_code == 401
        assert get(server, headers=bearer("anna")).status_code == 200
        with pytest.raises(requests.exceptions.ConnectionError):
            with_certificate("two")  # of no authority that is known
    with Server(site, *options, listen=("https://127.0.0.1:0",), users={"gate": {"certificate": "gateway"}}) as server:
        with pytest.raises(requests.exceptions.ConnectionError):
            get(server)  # nobody can come without one here


# ---- a JupyterHub ----


class Hub(BaseHTTPRequestHandler):
    asked = 0
    users = {"hub-anna": {"name": "anna-of-hub", "kind": "user", "scopes": ["access:services!service=wall"]},
             "hub-other": {"name": "other", "kind": "user", "scopes": ["read:users"]},
             "hub-admin": {"name": "admin", "kind": "user", "scopes": ["access:services!service=wall"]},
             "hub-boss": {"name": "boss", "kind": "user", "admin": True, "scopes": ["access:services!service=wall"]},
             "hub-boss-later": {"name": "boss", "kind": "user", "admin": False, "scopes": ["access:services!service=wall"]},
             "hub-new": {"name": "new", "kind": "user", "scopes": ["access:services!service=wall"]},
             "hub-bad": {"name": "../../etc", "kind": "user", "scopes": ["access:services!service=wall"]}}  # fmt: skip

    def do_GET(self):
        Hub.asked += 1
        user = self.users.get(self.headers.get("Authorization", "").removeprefix("token "))
        body = __import__("json").dumps(user).encode() if user else b"{}"
        self.send_response(200 if user and self.path == "/hub/api/user" else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_hub_knows_whose_a_token_is(site):
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    options = ("--hub-api", f"http://127.0.0.1:{hub.server_port}/hub/api", "--hub-scopes", '["access:services!service=wall"]')
    with Server(site, *options, users=TOKENS["admin"]) as server:

        def ask(token):
            return get(server, headers={"Authorization": f"token {token}"})

        assert ask("hub-anna").json()["identity"]["username"] == "anna-of-hub"
        before = Hub.asked
        assert ask("hub-anna").status_code == 200 and Hub.asked == before
        for refused in ("hub-other", "hub-bad", "nobody", "hub-admin"):  # the last is not our own admin
            assert (refused, ask(refused).status_code) == (refused, 401)
        assert ask(TOKENS["admin"]).json()["admin"] is True
        assert [ask(token).json()["admin"] for token in ("hub-boss", "hub-boss-later", "hub-boss")] == [True, False, False]
        # Too many wrong ones from this address: what the Hub knows is let in all the same, also for the first time.
        assert {ask(f"wrong-{n}").status_code for n in range(12)} == {401, 429}
        assert ask("wrong-again").status_code == 429
        assert ask("hub-new").json()["identity"]["username"] == "new"
        page = requests.Session()
        assert page.post(f"{server.url}/login", json={"token": "hub-anna"}, timeout=30).status_code == 204
        assert page.get(f"{server.url}/api/me", timeout=30).json()["identity"]["username"] == "anna-of-hub"
        hub.shutdown()
        hub.server_close()
        assert ask("hub-late").status_code == 503
        assert ask("hub-anna").status_code == 200  # for a minute


# ---- slowly, and in numbers ----


def test_idle_connections_make_room(site):
    with Server(site, "--max-connections", "100") as server:
        data = os.urandom(20_000_000)
        assert requests.put(f"{server.url}/api/areas/work/in/file", data=data, headers=bearer("anna"), timeout=30).status_code == 201
        reads = server.connect()
        reads.sendall(head(f"Authorization: token {TOKENS['anna']}", first="GET /api/areas/work/in/file HTTP/1.1"))
        answer = reads.recv(1)
        # A body of nobody known is no reason to stay either.
        begun = [server.connect() for _ in range(95)]
        for client in begun:
            client.sendall(head("Content-Length: 4000", first="POST /login HTTP/1.1") + b"{")
        idle = [server.connect() for _ in range(300)]
        with requests.Session() as session:
            assert session.get(f"{server.url}/api", timeout=30).status_code == 200
        text = get(server, "/metrics", headers=bearer("admin")).text
        assert int(re.search(r"^cellwall_connections (\d+)", text, re.M).group(1)) <= 100
        while not answer.endswith(data[-1000:]):
            part = reads.recv(1 << 20)
            assert part, "a connection was closed that reads"
            answer += part
        for client in (reads, *begun, *idle):
            client.close()


def test_10000_idle_connections(site):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard[1] < 15000:
        pytest.skip(f"only {hard[1]} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard[1], hard[1]))
    try:
        with Server(site, "--max-connections", "12000") as server:
            before = server.memory()
            idle = []
            for _ in range(10000):
                client = socket.socket()
                client.connect(("127.0.0.1", server.port()))
                idle.append(client)
            assert get(server, headers=bearer("anna")).status_code == 200
            grown = server.memory() - before
            print(f"figure: 10,000 idle connections take {grown / 1e6:.1f} MB")
            assert grown < 64e6
            for client in idle:
                client.close()
            assert get(server, headers=bearer("anna")).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, hard)


@pytest.mark.slow
def test_slow_clients_are_ended(server):
    """A head, a handshake and a body that never end, at the same time."""
    begun = head("Content-Length: 1000", "Content-Type: application/json", first="POST /login HTTP/1.1")
    clients = {"head": server.connect(), "body": server.connect(), "nothing": server.connect()}
    clients["handshake"] = socket.create_connection(("127.0.0.1", server.port(1)), timeout=60)
    clients["head"].sendall(b"GET /api HTTP/1.1\r\n")
    clients["body"].sendall(begun)
    stop = threading.Event()

    def drip():
        while not stop.wait(1):
            for name, data in (("head", b"X: a\r\n"), ("body", b" ")):
                try:
                    clients[name].sendall(data)
                except OSError:
                    pass

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for client in clients.values():
            client.settimeout(60)
            assert rest(client) == b""
            client.close()
    finally:
        stop.set()
        dripping.join()


def test_a_client_that_does_not_read_costs_little(server):
    before = server.memory()
    with server.connect() as client:
        client.settimeout(2)
        try:
            for _ in range(2000):
                client.sendall(head(first="GET /api HTTP/1.1") * 100)
        except (TimeoutError, socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        assert server.memory() - before < 16e6
    assert get(server, "/api").status_code == 200


# ---- the page ----


def test_the_page_runs_nothing_but_its_own_script(server):
    page = get(server, "/")
    policy = page.headers["Content-Security-Policy"]
    assert page.status_code == 200 and "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"<script>|<style>|style=|\bon[a-z]+=|https?://", page.text)
    for path in re.findall(r'(?:href|src)="(page/[^"]+)"', page.text):
        answer = get(server, f"/{path}")
        assert answer.status_code == 200 and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "innerHTML" not in get(server, "/page/page.js").text
    for path in ("/page/other.js", "/page/..%2fpage.js", "/page/index.html/x"):
        assert get(server, path).status_code in (400, 404)
    assert get(server, "/api/wall/kernels").status_code == 401


def test_the_page_shows_kernels_to_whom_they_belong(site):
    spec = site.variant("--policy", site.policy({"outputs": {"mode": "interactive"}, "stage": {"out_limit": "3G"}}))
    with Server(site) as server:
        started = requests.post(f"{server.url}/api/kernels", json={"name": spec}, headers=bearer("anna"), timeout=60)
        assert started.status_code == 201, started.text
        kernel = started.json()["id"]

        def kernels(user):
            return get(server, "/api/wall/kernels", headers=bearer(user)).json()["kernels"]

        assert [one["owner"] for one in kernels("admin")] == ["anna"]
        assert kernels("ben") == []
        for order in ("interrupt", "restart", "stop"):
            url = f"{server.url}/api/wall/kernels/{kernel}/{order}"
            assert requests.post(url, headers=bearer("ben"), timeout=30).status_code == 404
        for part in ("log", "policy"):
            assert get(server, f"/api/wall/kernels/{kernel}/{part}", headers=bearer("ben")).status_code == 404
        may = get(server, f"/api/wall/kernels/{kernel}/policy", headers=bearer("anna")).json()
        assert may["walled"] is True and may["policy"]["outputs"]["mode"] == "interactive" and may["policy"]["stage"]["out_limit"] == "3G"
        events = []
        while "launch" not in events:
            lines = get(server, f"/api/wall/kernels/{kernel}/log", headers=bearer("anna")).json()["lines"]
            events = [line["event"] for line in lines]
        (one,) = kernels("anna")
        assert one["memory"] > 0 and one["processes"] > 0
        assert get(server, f"/api/wall/kernels/{kernel}/log?q=nothing-has-this", headers=bearer("anna")).json()["lines"] == []
        url = f"{server.url}/api/wall/kernels/{kernel}/stop"
        assert requests.post(url, headers=bearer("admin"), timeout=30).status_code == 204
        assert kernels("anna") == []
        # What it did can be asked for still, by the same.
        assert requests.post(url, headers=bearer("admin"), timeout=30).status_code == 404
        for user in ("anna", "admin"):
            (one,) = get(server, "/api/wall/kernels", headers=bearer(user)).json()["ended"]
            assert one["id"] == kernel and one["owner"] == "anna" and one["name"] == spec and one["reason"] == "stopped from the page" and one["started"] < one["ended"]
        assert get(server, "/api/wall/kernels", headers=bearer("ben")).json()["ended"] == []
        for part in ("log", "policy"):
            assert get(server, f"/api/wall/kernels/{kernel}/{part}", headers=bearer("ben")).status_code == 404
        assert get(server, f"/api/wall/kernels/{kernel}/policy", headers=bearer("anna")).json() == may
        until = ""
        while "end" not in events:
            answer = get(server, f"/api/wall/kernels/{kernel}/log?since={until}", headers=bearer("anna")).json()
            until, events = answer["until"], events + [line["event"] for line in answer["lines"]]
        assert events.count("end") == 1 and get(server, f"/api/wall/kernels/{kernel}/log?since={until}", headers=bearer("anna")).json()["lines"] == []


def test_the_commands_of_the_page(site):
    """Those with curl, in the order in which they stand there."""
    text = (pathlib.Path(site.prefix) / "share/cellwall/doc/serve.md").read_text()
    (block,) = [block for kind, block in pages.blocks(text) if kind == "console" and "curl" in block]
    with Server(site) as server:
        (server.root / "auth").write_text(f"Authorization: token {TOKENS['anna']}\n")
        (server.root / "data.csv").write_text("1,2\n")
        moved = block.replace("http://127.0.0.1:8890", server.url.rstrip("/")).replace("python3-isolated", harness.ISOLATED)
        wrong = list(pages.command(site, server.root, moved))
    assert wrong == [] and block.count("$ curl") >= 8, "".join(wrong)


# ---- staging areas ----


def test_files_go_in_and_out_of_an_area(site):
    with Server(site, "--area-limit", "3M") as server:
        url, anna = f"{server.url}/api/areas/work", bearer("anna")
        data = os.urandom(1_000_000)

        def put(path, body, user="anna", **headers):
            return requests.put(f"{url}/{path}", data=body, headers={**bearer(user), **headers}, timeout=30)

        assert put("in/a/b c.bin", data).status_code == 201
        assert put("in/chunked", iter([data[:10], data[10:20]])).status_code == 201
        answer = requests.get(f"{url}/in/a/b c.bin", headers=anna, timeout=30)
        assert answer.content == data and answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment") and "sandbox" in answer.headers["Content-Security-Policy"]
        part = requests.get(f"{url}/in/a/b c.bin", headers={**anna, "Range": "bytes=10-19"}, timeout=30)
        assert part.status_code == 206 and part.content == data[10:20] and part.headers["Content-Range"] == "bytes 10-19/1000000"
        assert requests.get(f"{url}/in/a/b c.bin", headers={**anna, "Range": "bytes=9999999-"}, timeout=30).status_code == 416
        # In parts, and on after the connection was cut.
        assert put("in/parts", data[:400], **{"Content-Range": "bytes 0-399/1000"}).json() == {"offset": 400}
        begun = head(f"Authorization: token {TOKENS['anna']}", "Content-Length: 600", "Content-Range: bytes 400-999/1000", first="PUT /api/areas/work/in/parts HTTP/1.1")
        with server.connect() as client:
            client.sendall(begun + data[400:500])
            while requests.get(f"{server.url}/api/uploads/work/in/parts", headers=anna, timeout=30).json() != {"offset": 500}:
                time.sleep(0.01)
        assert requests.get(f"{url}/in/parts", headers=anna, timeout=30).status_code == 404
        assert put("in/parts", data[600:1000], **{"Content-Range": "bytes 600-999/1000"}).status_code == 416
        assert put("in/parts", data[500:1000], **{"Content-Range": "bytes 500-999/1000"}).status_code == 201
        assert requests.get(f"{url}/in/parts", headers=anna, timeout=30).content == data[:1000]
        # Nobody else's, no other place, no more than the limit.
        assert requests.get(f"{url}/in/parts", headers=bearer("ben"), timeout=30).status_code == 404
        assert put("in/large", data * 3).status_code == 507
        for path in ("out/x", "x", "in", ".uploads/in/x", "../../in/x"):
            assert status(server.raw(head(f"Authorization: token {TOKENS['anna']}", "Content-Length: 0", "Connection: close", first=f"PUT /api/areas/work/{path} HTTP/1.1"))) in (400, 404, 405)
        folder = server.root / "data" / "users" / "anna" / "work" / "staging"
        secret = server.root / "secret"
        secret.write_text("secret")
        (folder / "out").mkdir()
        (folder / "out" / "link").symlink_to(secret)
        (folder / "in" / "away").symlink_to(server.root)
        os.mkfifo(folder / "out" / "fifo")
        for path in ("out/link", "in/away/secret", "out/fifo", "in/a"):
            assert requests.get(f"{url}/{path}", headers=anna, timeout=30).status_code == 404
        assert put("in/away/x", b"x").status_code == 404 and not (server.root / "x").exists()
        listed = requests.get(url, headers=anna, timeout=30).json()["files"]
        assert sorted(file["path"] for file in listed) == ["in/a/b c.bin", "in/chunked", "in/parts"]
        assert requests.delete(f"{url}/in/chunked", headers=anna, timeout=30).status_code == 204
        areas = requests.get(f"{server.url}/api/areas", headers=anna, timeout=30).json()["areas"]
        assert [(area["name"], area["files"]) for area in areas] == [("work", 2)]


def test_a_large_file_passes_in_small_memory(site):
    """In and out: what waits for a client that reads slowly is on disk."""
    size, bound = 100_000_000, 50_000_000  # sanitizers keep what was freed
    with Server(site, "--area-limit", "200M") as server:
        url, before, seen = f"{server.url}/api/areas/work/in/large", server.memory(), []

        def parts():
            for _ in range(100):
                yield bytes(size // 100)
                seen.append(server.memory())

        answer = requests.put(url, data=parts(), headers=bearer("anna"), timeout=60)
        assert answer.status_code == 201 and max(seen) - before < bound
        with requests.get(url, headers=bearer("anna"), stream=True, timeout=60) as answer:
            left = size
            for part in answer.iter_content(1_000_000):
                seen.append(server.memory())
                left -= len(part)
        assert left == 0 and len(seen) >= 200 and max(seen) - before < bound


def test_an_area_never_holds_more_than_its_limit(site):
    users = {"anna": {**USERS["anna"], "area_limit": 60_000}, "ben": {**USERS["ben"], "area_limit": 1000}}
    with Server(site, users=users) as server:

        def put(path, size, user="anna"):
            return requests.put(f"{server.url}/api/areas/work/in/{path}", data=bytes(size), headers=bearer(user), timeout=30).status_code

        deep = "d/" * 19 + "file"
        assert put(deep, 40_000) == 201 and put("file", 40_000) == 507
        assert requests.delete(f"{server.url}/api/areas/work/in/{deep}", headers=bearer("anna"), timeout=30).status_code == 204
        # Two at once.
        both = [server.connect(), server.connect()]
        for name, client in enumerate(both):
            client.sendall(head(f"Authorization: token {TOKENS['anna']}", "Content-Length: 40000", first=f"PUT /api/areas/work/in/{name} HTTP/1.1") + b"a")
            while requests.get(f"{server.url}/api/uploads/work/in/{name}", headers=bearer("anna"), timeout=30).json() != {"offset": 1}:
                time.sleep(0.01)
        answers = []
        for client in both:
            client.sendall(bytes(39_999))
            answers.append(status(answer_of(client)))
            client.close()
        assert answers == [201, 507]
        # Names take room too.
        assert put("all", 1000, "ben") == 201 and put("empty", 0, "ben") == 507
