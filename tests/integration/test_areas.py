"""Files in and out of the areas of a `cellwall serve`: uploads that meet, and `cellwall stage --server` with a server that is cut off or lies."""

import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
from urllib.parse import quote

import pytest
import requests
from serving import TOKENS, Server, bearer, make_authority, rest, status

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def server(site):
    with Server(site, "--self-signed", listen=("http://127.0.0.1:0", "https://127.0.0.1:0", "unix:DIR/s")) as server:
        yield server
        assert server.process.poll() is None, server.log()


@pytest.fixture
def folder(site):
    return pathlib.Path(site.project())


def staging(server, user="anna", area="default"):
    return server.root / "data" / "users" / user / area / "staging"


class Stage:
    """`cellwall stage ACTION … --server URL` as anna."""

    def __init__(self, site, folder, url):
        self.site, self.folder, self.url = site, folder, url

    def __call__(self, *words, token="anna", **more):
        environment = {"CELLWALL_TOKEN": TOKENS.get(token, token)} if token else {}
        return self.site.run("stage", *words, "--server", self.url, cwd=self.folder, env=environment, **more)


@pytest.fixture
def stage(site, folder, server):
    return Stage(site, folder, server.url)


# ---- uploads that meet ----


class Upload:
    """A PUT of `path` that is given its body by and by."""

    def __init__(self, server, path, size, *more):
        self.client = server.connect()
        head = [f"PUT /api/areas/{path} HTTP/1.1", "Host: localhost", f"Authorization: token {TOKENS['anna']}", f"Content-Length: {size}", "Connection: close", *more, "", ""]
        self.client.sendall("\r\n".join(head).encode())
        self.server, self.asked = server, path.replace("/in/", "/in/", 1)

    def send(self, data, offset=None):
        self.client.sendall(data)
        while offset is not None and requests.get(f"{self.server.url}/api/uploads/{self.asked}", headers=bearer("anna"), timeout=30).json() != {"offset": offset}:
            time.sleep(0.01)

    def end(self):
        """The status; the connection is closed."""
        with self.client:
            return status(rest(self.client))


def test_of_two_uploads_to_one_path_the_newest_counts(server):
    file = staging(server, area="race") / "in" / "file"
    first = Upload(server, "race/in/file", 8)
    first.send(b"1111", 4)
    second = Upload(server, "race/in/file", 8)
    second.send(b"22", 2)
    first.client.sendall(b"1111")
    assert first.end() == 409 and not file.exists()
    second.client.sendall(b"222222")
    assert second.end() == 201 and file.read_bytes() == b"2" * 8
    # Two that go on with the same one: what is whole is not written to any more.
    begun = Upload(server, "race/in/on", 4, "Content-Range: bytes 0-3/8")
    begun.client.sendall(b"0000")
    assert begun.end() == 202
    stale = Upload(server, "race/in/on", 4, "Content-Range: bytes 4-7/8")
    stale.send(b"1", 5)
    newer = Upload(server, "race/in/on", 4, "Content-Range: bytes 4-7/8")
    newer.client.sendall(b"2222")
    assert newer.end() == 201
    stale.client.sendall(b"111")
    assert stale.end() == 409 and (file.parent / "on").read_bytes() == b"00002222"


def test_what_goes_on_is_the_same_file(server):
    """Neither the end of a longer one nor the begin of another one is in it."""

    def put(data, first, total, upload=None):
        return requests.put(
            f"{server.url}/api/areas/race/in/again", params={"upload": upload} if upload else None, data=data,
            headers={**bearer("anna"), "Content-Range": f"bytes {first}-{first + len(data) - 1}/{total}"}, timeout=30,
        ).status_code  # fmt: skip

    file = staging(server, area="race") / "in" / "again"
    assert put(b"a" * 800, 0, 1000) == 202
    assert put(b"b" * 100, 100, 200) == 201 and file.read_bytes() == b"a" * 100 + b"b" * 100
    assert put(b"c" * 50, 0, 100, "one") == 202
    assert put(b"d" * 50, 50, 100, "two") == 416 and put(b"d" * 50, 50, 100) == 416
    assert put(b"e" * 10, 0, 100, "two") == 202 and put(b"c" * 50, 50, 100, "one") == 416
    assert put(b"e" * 90, 10, 100, "two") == 201 and file.read_bytes() == b"e" * 100
    for bad in ("../x", "a" * 65, "a/b", "-"):
        assert put(b"x", 0, 2, bad) == 400
    assert [name for name in os.listdir(server.root / "data" / "users" / "anna" / ".uploads") if name.startswith(".")] == []


# ---- the command ----


def test_files_go_in_and_out(server, stage, folder):
    data = os.urandom(300_000)
    odd = "späße & more #1%.csv"
    for name, content in ((odd, data), ("empty", b""), ("second", b"2")):
        (folder / name).write_bytes(content)
        done = stage("put", name)
        assert (done.returncode, done.stderr) == (0, "") and "default/in/" in done.stdout
    assert stage("put", "second", "a/b/").returncode == 0 and stage("put", "second", "in/c").returncode == 0
    place = staging(server)
    assert (place / "in" / odd).read_bytes() == data and (place / "in" / "empty").read_bytes() == b""
    assert (place / "in" / "a" / "b" / "second").read_bytes() == (place / "in" / "c").read_bytes() == b"2"
    for path, content in (("plot.png", data), ("deep/er/one", b"1"), ("deep/two", b"2")):
        (place / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "out" / path).write_bytes(content)
    here = folder / "here"
    here.mkdir()
    assert stage("get", "out/plot.png", "out/deep", "in/empty", "-o", here).returncode == 0
    files = {str(path.relative_to(here)): path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert files == {"plot.png": data, "deep/er/one": b"1", "deep/two": b"2", "empty": b""}
    again = stage("get", "out/plot.png", "-o", here)
    assert again.returncode == 1 and "is there already" in again.stderr
    missing = stage("get", "out/none")
    assert missing.returncode == 1 and "there is no such file" in missing.stderr
    listed = stage("ls")
    assert listed.returncode == 0 and "area default" in listed.stdout and "300.0 kB" in listed.stdout and odd.split()[1] in listed.stdout
    areas = json.loads(stage("ls", "--json", "--area", "default").stdout)["areas"]
    assert [area["name"] for area in areas] == ["default"] and {"in/empty", "out/deep/er/one"} <= {file["path"] for file in areas[0]["files"]}
    assert stage("ls", "--area", "nothing").stdout == "area nothing\n  nothing is in it\n"


def test_what_comes_out_is_never_a_page_of_the_server(server):
    place = staging(server) / "out"
    place.mkdir(parents=True, exist_ok=True)
    for name in ("page.html", "image.svg", 'a";filename=x.html', "späße.html", "script.js", "x.pdf"):
        (place / name).write_text("<script>alert(1)</script>")
        answer = requests.get(f"{server.url}/api/areas/default/out/{quote(name)}", headers=bearer("anna"), timeout=30)
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = [part.split()[0] for part in answer.headers["Content-Security-Policy"].split(";") if part.strip()]
        assert "sandbox" in policy and "default-src" in policy and "allow-" not in answer.headers["Content-Security-Policy"]
        disposition = answer.headers["Content-Disposition"]
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[A-Za-z0-9._~%-]+", disposition), disposition


def test_a_trial_says_where_token_and_certificate_are(site):
    with Server(site, "--self-signed", listen=("https://127.0.0.1:0",), users=None) as server:
        text = server.log()
        token = pathlib.Path(re.search(r"event=token file=(\S+) reason=", text).group(1))
        made, fingerprint = re.search(r"event=certificate file=(\S+) days=\d+ sha256=([0-9A-F:]+) reason=.made here, for a trial", text).groups()
        shown = subprocess.run(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", made], capture_output=True, text=True, check=True).stdout
        assert shown.strip().endswith(fingerprint) and token.read_text().strip() not in text
        environment = {"CELLWALL_TOKEN": token.read_text().strip()}
        assert site.run("stage", "ls", "--server", server.url, "--ca", made, env=environment).returncode == 0


def test_who_asks_and_whom(site, server, folder):
    (folder / "x").write_bytes(b"x")
    token = folder / "token"
    token.write_text(TOKENS["anna"] + "\n")
    token.chmod(0o644)
    plain, secure, local = (Stage(site, folder, url) for url in server.urls)
    assert "others cannot read" in plain("ls", "--token-file", token, token=None).stderr
    token.chmod(0o600)
    assert plain("ls", "--token-file", token, token=None).returncode == 0
    assert plain("ls", token=None).stderr.startswith("cellwall stage: a token is needed")
    assert "401" in plain("ls", token="w" * 20).stderr
    assert plain("ls", token="two words").returncode == 1
    # TLS, with the certificate that the server made.
    refused = secure("ls")
    assert refused.returncode == 1 and "certificate" in refused.stderr.lower()
    assert secure("put", "x", "--ca", server.root / "data" / "tls" / "certificate.pem").returncode == 0
    # A socket says who comes.
    assert local("ls", token=None).returncode == 0
    # In the clear to nobody else; what is no address.
    for url in ("http://192.0.2.1:8890", "http://localhost.example:1", "ftp://localhost", "https://a:b@localhost", "https://localhost/?x", "localhost:80", ""):
        done = Stage(site, folder, url)("ls")
        assert (url, done.returncode) == (url, 1) and "https://HOST:PORT is needed" in done.stderr


def test_a_client_certificate_instead_of_a_token(site, folder):
    (folder / "x").write_bytes(b"mutual")
    authority = make_authority(folder / "authority")
    (authority / "both.pem").write_bytes((authority / "gateway.pem").read_bytes() + (authority / "gateway.key").read_bytes())
    (authority / "both.pem").chmod(0o600)
    options = ("--certificate", authority / "localhost.pem", "--private-key", authority / "localhost.key", "--client-ca", authority / "ca.pem")
    with Server(site, *options, listen=("https://127.0.0.1:0", "http://127.0.0.1:0"), users={"gate": {"certificate": "gateway"}}) as server:
        url = f"https://localhost:{server.port()}"

        def stage(*words, cert="gateway.pem", key="gateway.key", where=url):
            words = [*words, "--ca", authority / "ca.pem", *(("--cert", authority / cert) if cert else ()), *(("--key", authority / key) if key else ())]
            return Stage(site, folder, where)(*words, token=None)

        assert stage("put", "x").returncode == 0
        assert (staging(server, "gate") / "in" / "x").read_bytes() == b"mutual"
        assert "x" in stage("ls", cert="both.pem", key=None).stdout
        (folder / "got").mkdir()
        assert stage("get", "in/x", "--output", "got").returncode == 0 and (folder / "got" / "x").read_bytes() == b"mutual"
        for wrong in ({"cert": "stranger.pem", "key": "stranger.key"}, {"cert": "two.pem", "key": "two.key"}, {"cert": "gateway.pem", "key": "two.key"}, {"cert": "none.pem"}):
            done = stage("ls", **wrong)
            assert (wrong, done.returncode) == (wrong, 1) and done.stderr.count("\n") == 1, done.stderr
        assert "a token is needed" in stage("ls", cert=None, key=None).stderr
        assert "--cert is missing" in stage("ls", cert=None).stderr
        assert "https:// is needed" in stage("ls", where=server.urls[1]).stderr
        for name, words in (("gateway.key", {}), ("both.pem", {"cert": "both.pem", "key": None})):
            (authority / name).chmod(0o640)
            assert "others cannot read" in stage("ls", **words).stderr


def test_a_kernel_loads_no_http_library(site):
    parts = {name: subprocess.run(["ldd", os.path.join(site.prefix, name)], capture_output=True, text=True, check=True).stdout for name in ("bin/cellwall", "libexec/cellwall/cellwall-remote")}
    assert ["libcurl" in text for text in parts.values()] == [False, True]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "x", "--server", "URL"), ("ls", "--area", "a"), ("ls", "--cert", "a"), ("put", "--server", "URL"), ("put", "a", "b", "c", "--server", "URL"),
        ("ls", "--all", "--server", "URL"), ("get", "out/x", "--area", "a", "--kernel", "b", "--server", "URL"), ("ls", "--server"), ("ls", "--token", "x"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage(site, folder, words):
    assert site.run("stage", *words, cwd=folder).returncode == 2


def test_paths_that_are_none(stage, folder):
    (folder / "x").write_bytes(b"x")
    for path in ("../x", "a/../x", "a//x", "./x", "a\nb", "\x1b[31mx", "a/" * 30 + "x", "y" * 256):
        done = stage(*(("put", "x", path) if len(path) % 2 else ("get", f"out/{path}")))
        assert (path, done.returncode) == (path, 1) and "no path in an area" in done.stderr and "\x1b" not in done.stderr
    os.mkfifo(folder / "fifo")
    assert "not a regular file" in stage("put", "fifo").stderr
    assert stage("ls", "--area", "../ben").returncode == 1 and stage("ls", "--kernel", "no-such").returncode == 1


def test_the_area_of_a_kernel_that_runs(site, server, stage, folder):
    body = {"name": "isolated", "env": {"KERNEL_STAGING_AREA": "experiment"}}
    started = requests.post(f"{server.url}/api/kernels", json=body, headers=bearer("anna"), timeout=60)
    assert started.status_code == 201, started.text
    kernel = started.json()["id"]
    try:
        (folder / "late.csv").write_bytes(b"1,2\n")
        assert stage("put", "late.csv", "--kernel", kernel[:8]).returncode == 0
        assert (staging(server, area="experiment") / "in" / "late.csv").read_bytes() == b"1,2\n"
        assert "in/late.csv" in stage("ls", "-k", kernel[:8]).stdout
        for other in ("ben", "admin"):
            assert "no kernel of yours" in stage("ls", "-k", kernel[:8], token=other).stderr
    finally:
        requests.delete(f"{server.url}/api/kernels/{kernel}", headers=bearer("anna"), timeout=60)


# ---- cut off ----


class Between:
    """A relay to the server that cuts the first connections after so many bytes in one direction; `counts` is what went through of each."""

    def __init__(self, server, cuts, down=False):
        self.target, self.cuts, self.down, self.counts = server.port(), list(cuts), down, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            number = len(self.counts)
            self.counts.append(0)
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, target, counted in ((client, server, not self.down), (server, client, self.down)):
                threading.Thread(target=self.copy, args=(source, target, number if counted else None), daemon=True).start()

    def copy(self, source, target, number):
        most = self.cuts[number] if number is not None and number < len(self.cuts) else None
        try:
            while data := source.recv(65536):
                if number is not None:
                    self.counts[number] += len(data)
                target.sendall(data)
                if most is not None and self.counts[number] >= most:
                    break
        except OSError:
            pass
        for end in (source, target):
            try:  # wakes the other direction
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()  # with what was not read: the other side is told at once

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


SIZE = 8_000_000


def test_an_upload_that_is_cut_goes_on(site, server, folder):
    data = os.urandom(SIZE)
    (folder / "large").write_bytes(data)
    with Between(server, [3_000_000, 2_000_000]) as between:
        done = Stage(site, folder, between.url)("put", "large")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(between.counts) >= 3 and sum(between.counts) < 2 * SIZE
    assert (staging(server) / "in" / "large").read_bytes() == data


def test_a_download_that_is_cut_goes_on(site, server, folder):
    data = os.urandom(SIZE)
    place = staging(server) / "out"
    place.mkdir(parents=True, exist_ok=True)
    (place / "large").write_bytes(data)
    with Between(server, [3_000_000, 2_000_000], down=True) as between:
        done = Stage(site, folder, between.url)("get", "out/large")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(between.counts) >= 3 and sum(between.counts) < 1.5 * SIZE
    assert (folder / "large").read_bytes() == data and list(folder.glob(".cellwall-*")) == []


class Held(Between):
    """The same, but what comes after so many bytes waits for ever."""

    def copy(self, source, target, number):
        most = self.cuts[number] if number is not None and number < len(self.cuts) else None
        try:
            while data := source.recv(65536):
                target.sendall(data)
                if number is not None:
                    self.counts[number] += len(data)
                    if most is not None and self.counts[number] >= most:
                        threading.Event().wait()
        except OSError:
            pass


@pytest.mark.parametrize("action", ["put", "get"])
def test_a_command_that_was_killed_goes_on_the_next_time(site, server, folder, action):
    data = os.urandom(SIZE)
    name = f"killed-{action}"
    place = staging(server) / "out" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    (place if action == "get" else folder / name).write_bytes(data)
    words = ("get", f"out/{name}") if action == "get" else ("put", name)
    with Held(server, [3_000_000], down=action == "get") as held:
        # The same address for both: a download is known by it.
        command = [site.cellwall, "stage", *words, "--server", held.url]
        environment = {**site.environment, "CELLWALL_TOKEN": TOKENS["anna"]}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        while held.counts[:1] < [3_000_000]:
            time.sleep(0.01)
        if action == "get":  # what came through is on the disk
            while max([path.stat().st_size for path in folder.glob(".cellwall-*")], default=0) < 1_000_000:
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / name).exists() if action == "get" else not (staging(server) / "in" / name).exists()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert sum(held.counts[1:]) < SIZE - 500_000
    assert (folder / name if action == "get" else staging(server) / "in" / name).read_bytes() == data


class Slow(Between):
    """Slowly, until `seen` is set."""

    seen = threading.Event()

    def copy(self, source, target, number):
        try:
            while data := source.recv(8192):
                self.seen.wait(0.01)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.mark.parametrize("action", ["put", "get"])
def test_a_long_copy_says_how_far_it_is(site, server, folder, action):
    place = staging(server) / "out" / "slow"
    place.parent.mkdir(parents=True, exist_ok=True)
    (place if action == "get" else folder / "slow").write_bytes(bytes(SIZE))
    with Slow(server, []) as slow:
        slow.seen.clear()
        ours, its = os.openpty()
        words = ("get", "out/slow") if action == "get" else ("put", "slow")
        command = [site.cellwall, "stage", *words, "--server", slow.url]
        process = subprocess.Popen(command, cwd=folder, env={**site.environment, "CELLWALL_TOKEN": TOKENS["anna"]}, stdout=subprocess.PIPE, stderr=its)
        os.close(its)
        shown = b""
        while b"% " not in shown and b"%\x1b" not in shown:
            shown += os.read(ours, 4096)
        slow.seen.set()
        assert process.communicate()[0].startswith(action.encode() if action == "put" else b"got") and process.returncode == 0
        os.close(ours)
        assert re.search(rb"\r(in|out)/slow: [0-9.]+ .?B of 8.0 MB, [0-9]+ %\x1b\[K", shown), shown


def test_another_file_is_not_gone_on_with(site, server, folder):
    """Half of one file, and it is another by now: its own bytes alone arrive."""
    (folder / "changed").write_bytes(b"a" * SIZE)
    with Held(server, [3_000_000]) as held:
        environment = {**site.environment, "CELLWALL_TOKEN": TOKENS["anna"]}
        process = subprocess.Popen([site.cellwall, "stage", "put", "changed", "--server", held.url], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        while held.counts[:1] < [3_000_000]:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    (folder / "changed").write_bytes(b"b" * SIZE)
    assert Stage(site, folder, server.url)("put", "changed").returncode == 0
    assert (staging(server) / "in" / "changed").read_bytes() == b"b" * SIZE


# ---- a server that lies ----


class Liar:
    """Answers each request with what `answers` has for its path, then closes; `asked` is what came."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client):
        with client:
            data = b""
            while b"\r\n\r\n" not in data:
                part = client.recv(65536)
                if not part:
                    return
                data += part
            method, path = data.split(b" ")[:2]
            self.asked.append((method.decode(), path.decode(), data.decode("latin-1")))
            for part in self.answers(method.decode(), path.decode()):
                try:
                    client.sendall(part)
                except OSError:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def reply(body, code="200 OK", *fields, length=None):
    body = json.dumps(body).encode() if not isinstance(body, bytes) else body
    head = [f"HTTP/1.1 {code}", f"Content-Length: {len(body) if length is None else length}", "Connection: close", *fields, "", ""]
    return ["\r\n".join(head).encode() + body]


def forever(first):
    yield first
    while True:
        yield b"x" * 65536


HOSTILE = ["in/../../../evil", "out/../evil", "out/x/../../../evil", "/etc/evil", "out//evil", "out/\x1b]0;evil\x07", "out/a\nb", "out/" + "d/" * 40 + "evil", "out/./evil", 7, None]


def test_names_of_a_server_stay_below_the_folder_and_are_safe_to_print(site, folder):
    files = [{"path": path, "size": 4, "modified": "\x1b[31mnow"} for path in [*HOSTILE, "out/good"]]

    def answers(method, path):
        if path == "/api/areas":
            return reply({"areas": [{"name": "../../x"}, {"name": "\x1b[2J"}, {"name": "default"}, {"name": 5}, 6]})
        if path == "/api/areas/default":
            return reply({"files": files, "all": True})
        if path.endswith("/out"):
            return reply({"message": "no"}, "404 Not Found")
        return reply(b"evil", "200 OK", 'ETag: "1"')

    with Liar(answers) as liar:
        stage = Stage(site, folder, liar.url)
        here = folder / "a" / "b" / "c"
        here.mkdir(parents=True)
        (here / "out").symlink_to("..")
        done = stage("get", "out", "-o", here)
        assert done.returncode == 1, "a link is not followed"
        (here / "out").unlink()
        listed = stage("ls")
        done = stage("get", "out", "-o", here)
        assert listed.returncode == 0 and done.returncode == 1
        for text in (listed.stdout, listed.stderr, done.stdout, done.stderr, stage("ls", "--json").stdout):
            assert not any(ord(letter) < 32 and letter != "\n" for letter in text)
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        assert found == ["a/b/c/out/good"]


WRONG = {
    "more than it said": lambda method: reply(b"evil" * 1000, "200 OK", length=4 if method == "HEAD" else 4000),
    "fewer than it said": lambda method: reply(b"evi", "200 OK", length=4 if method == "HEAD" else 3),
    "no length": lambda method: [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"],
    "no length of what has one": lambda method: reply(b"", "200 OK", length=4) if method == "HEAD" else forever(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
    "chunks without end": lambda method: reply(b"", "200 OK", length=4) if method == "HEAD" else [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", b"x" * 0xFFFFFF],
    "a length past all": lambda method: reply(b"", "200 OK", length=9 * 10**18),
    "another part": lambda method: reply(b"evil", "206 Partial Content", "Content-Range: bytes 5-8/9") if method == "GET" else reply(b"", "200 OK", length=4),
    "a redirection": lambda method: reply(b"", "302 Found", "Location: http://127.0.0.1:1/evil"),
    "an error without end": lambda method: forever(b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n"),
    "an error with escapes": lambda method: reply({"message": "\x1b[31mevil\x07" + "x" * 4000}, "500 No"),
    "nothing": lambda method: [],
    "no HTTP": lambda method: [b"\x1b[31mevil\r\n\r\n"],
    "HTTP/0.9": lambda method: forever(b"evil"),
    "a header without end": lambda method: forever(b"HTTP/1.1 200 OK\r\nX: "),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_server_says_is_checked(site, folder, what):
    with Liar(lambda method, path: WRONG[what](method)) as liar:
        done = Stage(site, folder, liar.url)("get", "out/file")
        assert done.returncode == 1 and "\x1b" not in done.stderr and len(done.stderr) < 1000, done.stderr
        assert [path.name for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "body",
    [b"[1]", b"", b"{", b"[" * 100_000, b'{"files": 5}', b'{"areas": {}}', b'{"offset": -5}', b'{"offset": "many"}', b'{"files": [{"path": "\\u0000"}]}', b'{"offset": 1e999}'],
    ids=lambda body: body.decode()[:20],
)
def test_answers_that_are_none(site, folder, body):
    (folder / "x").write_bytes(b"x")
    with Liar(lambda method, path: reply(body)) as liar:
        stage = Stage(site, folder, liar.url)
        for words in (("ls",), ("ls", "--area", "a", "--json")):
            done = stage(*words)
            assert done.returncode in (0, 1) and "\x1b" not in done.stdout + done.stderr
        assert stage("put", "x").returncode == 1


def test_a_list_without_end_is_not_kept(site, folder):
    with Liar(lambda method, path: forever(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[")) as liar:
        done = Stage(site, folder, liar.url)("ls")
        assert done.returncode == 1 and "without end" in done.stderr


def test_the_token_goes_to_the_server_alone(site, folder):
    with Liar(lambda method, path: reply({"areas": []})) as other, Liar(lambda method, path: reply(b"", "302 Found", f"Location: {other.url}/")) as liar:
        environment = {"http_proxy": other.url, "all_proxy": other.url}
        done = site.run("stage", "ls", "--server", liar.url, cwd=folder, env={**environment, "CELLWALL_TOKEN": TOKENS["anna"]})
        assert done.returncode == 1 and "302" in done.stderr
        assert other.asked == [] and len(liar.asked) == 1


def test_a_file_that_is_prepared_by_another_is_not_gone_on_with(server, stage, folder):
    """In a folder that others can write to, what is there under the name of an unfinished download counts only when it is ours alone."""
    place = staging(server) / "out"
    place.mkdir(parents=True, exist_ok=True)
    (place / "linked").write_bytes(b"good" * 100)
    etag = requests.head(f"{server.url}/api/areas/default/out/linked", headers=bearer("anna"), timeout=30).headers["ETag"]
    where, which = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (f"{stage.url}/api/areas/default/out/linked", f"{etag} 400"))
    name = f".cellwall-{where}-{which}.part"
    (folder / "other").write_bytes(b"evil" * 50)
    (folder / "other").chmod(0o600)
    os.link(folder / "other", folder / name)
    done = stage("get", "out/linked")
    assert done.returncode == 1 and "not ours" in done.stderr and (folder / "other").read_bytes() == b"evil" * 50
