"""Environments whose builds meet a proxy with a password, a full disk, SIGKILL, and packages that mean harm.

  CELLWALL_FAULTS   at how many moments a build is killed (2); as root nothing of this runs without it: it takes minutes
"""

import base64
import collections
import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import pty
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import zipfile

import harness
import processes
import pytest
import test_pip
from environments import PYTHON, Index, Store, begin, building, index, left_over, store, wheel  # noqa: F401

FAULTS = int(os.environ.get("CELLWALL_FAULTS", "2"))
pytestmark = pytest.mark.skipif(os.getuid() == 0 and "CELLWALL_FAULTS" not in os.environ, reason="tests/run faults")


class Upstream:
    """A host's own proxy, which wants a password and alone knows where the hosts of `leads` are: {"NAME:PORT": address}."""

    def __init__(self, leads, password):
        self.asked, self.refused = [], 0
        expected = "Basic " + base64.b64encode(password.encode()).decode()
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def begin(self, name):
                """A connection to where it leads, or None after a refusal."""
                if self.headers.get("Proxy-Authorization") != expected:
                    upstream.refused += 1
                    self.send_error(407)
                    return None
                upstream.asked.append(f"{self.command} {self.path}")
                if name not in leads:
                    self.send_error(502)
                    return None
                return socket.create_connection(leads[name], 20)

            def do_GET(self):
                target = urllib.parse.urlsplit(self.path)
                way = self.begin(f"{target.hostname}:{target.port or 80}")
                if way:
                    with way:
                        way.sendall(f"GET {target.path} HTTP/1.0\r\n\r\n".encode())
                        while data := way.recv(65536):
                            self.wfile.write(data)

            def do_CONNECT(self):
                way = self.begin(self.path)
                if way:
                    with way:
                        self.send_response(200)
                        self.end_headers()
                        other = {way: self.connection, self.connection: way}
                        while True:
                            for one in select.select([*other], [], [])[0]:
                                data = one.recv(65536)
                                if not data:
                                    return
                                other[one].sendall(data)

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *words: None  # who hangs up
        self.place = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def certificates(place, name):
    """An authority of its own and what it signed for `name`: the file that clients take, and the server's."""
    place.mkdir()
    for words in (
        ["-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt"],
        ["-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "server.key", "-out", "server.crt"],
    ):
        subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", *words],
                       cwd=place, check=True, capture_output=True, timeout=60)
    (place / "server.pem").write_text((place / "server.key").read_text() + (place / "server.crt").read_text())
    return place / "ca.crt", place / "server.pem"


LOOK = """
import os, pathlib
found = [name + "=" + value for name, value in os.environ.items()]
for place in ("/proc/self/environ", "/proc/1/environ", "/etc/pip.conf", os.path.expanduser("~/.config/pip/pip.conf")):
    try:
        found.append(pathlib.Path(place).read_text())
    except OSError as error:
        pass
seen.append("p\\x40ss" in " ".join(found) or "p%40ss" in " ".join(found))
"""


def test_the_ways_to_indexes(site, store, index):
    """pip.conf and the proxies of the environment: each index by the way that pip takes, through tunnels and not, past no_proxy;
    a proxy gets its password, the build none; names are the proxy's to resolve."""
    place = site.root / (store.data.name + "-config")
    place.mkdir()
    authority, both = certificates(place / "tls", "index.private")
    private, linked = Index(both), Index()
    private.files["looking-1.tar.gz"] = building("looking", "1", LOOK)
    linked.files["linked-1-py3-none-any.whl"] = wheel("linked", "1", {"linked.py": ""})
    tunnels = Upstream({"index.private:443": private.server.server_address}, "me:p@ss")
    pages = Upstream({"links.private:80": linked.server.server_address}, "you:p@ss")
    for name, text in {
        "host": f"[global]\nindex-url = http://first.invalid/\n[install]\nindex-url = https://index.private/simple\n",
        "user": f"[global]\nindex-url = http://later.invalid/\ncert = {authority}\nextra-index-url = {index.url}\n"
                "find-links =\n    http://links.private/simple/linked\ntrusted-host = links.private\n",
    }.items():
        (place / name / "pip").mkdir(parents=True)
        (place / name / "pip" / "pip.conf").write_text(text)
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL"):
        del store.environment[name]
    store.environment |= {"XDG_CONFIG_DIRS": str(place / "host"), "XDG_CONFIG_HOME": str(place / "user"), "no_proxy": "127.0.0.0/8",
                          "PIP_CLIENT_CERT": "/key.pem",
                          "HTTPS_PROXY": "http://nobody.invalid", "https_proxy": f"http://me:p%40ss@{tunnels.place}",
                          "http_proxy": f"you:p%40ss@{pages.place}"}
    index.asked.clear()
    try:
        made = store.create("ways", "plain==1.0", "looking", "linked")
        assert made.returncode == 0, made.stdout + made.stderr
        assert "client-cert is not used" in made.stderr, made
        assert {package["name"] for package in store.record("ways")["packages"]} == {"plain", "looking", "linked"}
        assert set(tunnels.asked) == {"CONNECT index.private:443"} and "/files/looking-1.tar.gz" in private.asked
        assert "GET http://links.private/files/linked-1-py3-none-any.whl" in pages.asked and "CONNECT" not in " ".join(pages.asked)
        assert "/files/plain-1.0-py3-none-any.whl" in index.asked and "127.0.0.1" not in " ".join(tunnels.asked + pages.asked)
        assert tunnels.refused == pages.refused == 0
        assert {(one["host"], one["port"]) for one in store.record("ways")["record"]["reached"]} == {
            ("index.private", 443), ("links.private", 80), index.server.server_address}
        module = next(store.tree("ways").glob("lib/python3*/site-packages/looking.py")).read_text()
        assert module == "seen = [False]"
        store.environment["https_proxy"] = f"http://me:wr%40ng@{tunnels.place}"
        refused = store.create("refused", "looking")
        assert refused.returncode == 1 and tunnels.refused > 0, refused
        assert not {"wr%40ng", "wr@ng", "p%40ss", "p@ss"} & set(re.split(r"[\s/:]", refused.stdout + refused.stderr)), refused
        assert "tried to reach index.private port 443 (failed)" in refused.stdout, refused
    finally:
        for server in (private, linked, tunnels, pages):
            server.close()


COMPILE = """
import pathlib, socket, subprocess, zipfile
pathlib.Path("seven.c").write_text("int seven(void) { return 7; }")
subprocess.run(["gcc", "-shared", "-fPIC", "-o", "/tmp/seven.so", "seven.c"], check=True)
seen.append(pathlib.Path("/tmp/seven.so").read_bytes())
# and a process that stays behind, with a connection that nobody ends
if not os.fork():
    os.setsid()
    os.closerange(0, 1000)
    way = socket.create_connection(("127.0.0.1", 3128), 20)
    way.sendall(b"GET http://127.0.0.1:{port}/slow HTTP/1.1\\r\\n\\r\\n")
    pathlib.Path("/tmp/slow").write_bytes(way.recv(1))
    time.sleep(1000)
while not os.path.exists("/tmp/slow"):
    time.sleep(0.05)
"""


def test_c_is_compiled_and_every_connection_is_named(site, store, index, launch):
    """One that is open when the build ends is in the result too."""
    code = "import os, time\n" + COMPILE.replace("{port}", str(index.server.server_port))
    index.files["seven-1.tar.gz"] = building("seven", "1", code)
    index.asked.clear()
    made = store.create("seven", "seven")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "/slow" in index.asked
    reached = store.record("seven")["record"]["reached"]
    assert [(one["host"], one["verdict"]) for one in reached] == [("127.0.0.1", "ok")] and reached[0]["connections"] == len(index.asked)
    code = ("import ctypes, seven\nopen('/tmp/seven.so', 'wb').write(seven.seen[0])\n"
            "print('made', ctypes.CDLL('/tmp/seven.so').seven(), flush=True)\n")
    started = launch("/env/bin/python", "-c", code, "{inner_connection_file}", options=("--env", "seven"), cwd=site.project(),
                     env={**site.environment, **store.environment})
    started.wait(30)
    assert "made 7" in started.log or "failed to map segment" in started.log, started.log


HARM = {
    "a link out": ("os.symlink('/etc/passwd', '/env/lib/stolen')", "a link that leads out"),
    "a pipe": ("os.mkfifo('/env/lib/pipe')", "neither a file nor a directory"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_a_build_puts_beside_its_package(store, index, harm):
    code, words = HARM[harm]
    index.files["harm-1.tar.gz"] = building("harm", "1", f"import os\nif not os.path.lexists('/env/lib/done'): {code}\nopen('/env/lib/done', 'w').close()\n")
    made = store.create("harm", "harm")
    assert made.returncode == 1 and words in made.stdout + made.stderr, made.stdout + made.stderr
    assert left_over(store) == [] and not (store.place / "names" / "harm").exists()


def test_what_a_wheel_puts_elsewhere(site, store, index):
    """Scripts and data files come to lie in the tree, or the build fails: nothing else is written, nothing is run."""
    info = "inside-1.dist-info"
    index.files["inside-1-py3-none-any.whl"] = wheel("inside", "1", {
        "inside.py": "", "inside-1.data/data/etc/inside.conf": "x", "inside-1.data/scripts/inside-tool": "#!python\nprint('ran')\n",
        f"{info}/entry_points.txt": "[console_scripts]\ninside = inside:main\n"})
    made = store.create("inside", "inside")
    assert made.returncode == 0, made.stdout + made.stderr
    tree = store.tree("inside")
    assert (tree / "etc/inside.conf").read_text() == "x" and {path.name for path in (tree / "bin").glob("inside*")} == {"inside", "inside-tool"}
    # a program whose name leads elsewhere lies beside the others, by the last part of it
    for name, program in (("outscript", "../../../../tmp/outscript"), ("outtool", "/tmp/outtool")):
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", {
            f"{name}.py": "", f"{name}-1.dist-info/entry_points.txt": f"[console_scripts]\n{program} = {name}:main\n"})
    store.create("tools", "outscript", "outtool").check_returncode()
    assert {path.name for path in (store.tree("tools") / "bin").glob("out*")} == {"outscript", "outtool"}
    assert not os.path.lexists("/tmp/outscript") and not os.path.lexists("/tmp/outtool")
    names = {"outdata": "outdata-1.data/data/../../../../../../tmp/outdata", "outup": "../../../../../../tmp/outup", "outroot": "/tmp/outroot"}
    for name, path in names.items():
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", {path: "x"})
        made = store.create(name, name)
        assert made.returncode == 1 and ("scheme key" if name == "outdata" else "outside the target directory") in made.stderr + made.stdout, made
        assert not os.path.lexists(f"/tmp/{name}") and not (store.place / "names" / name).exists()
    assert left_over(store) == []


def test_names_of_files(store, index):
    """Those that a file system has are kept as they are, byte for byte; those that it has not fail the build in words."""
    kept = ("l" * 255, "m" * 252 + ".py", "Caser/x.py", "caser/x.py", "CASER.py", "caf\u00e9.py", "\u202e.py", "\U0001f600.txt", "two words.py")
    index.files["named-1-py3-none-any.whl"] = wheel("named", "1", {name: f"# {name}\n" for name in kept})
    index.files["bytes-1.tar.gz"] = building("bytes", "1", "open(b'/env/lib/\\xff\\xfe', 'w').close()")
    made = store.create("named", "named", "bytes")
    assert made.returncode == 0, made.stdout + made.stderr
    tree = store.tree("named")
    packages = next(tree.glob("lib/python3*/site-packages"))
    assert {name: (packages / name).read_text() for name in kept} == {name: f"# {name}\n" for name in kept}
    assert b"\xff\xfe" in os.listdir(os.fsencode(tree / "lib"))
    store.env("verify", "named", check=True)
    assert [one["name"] for one in store.record("named")["packages"]] == ["bytes", "named"]
    for name, path, words in (("longer", "l" * 256, "File name too long"), ("deep", "d/" * 100 + "x.py", "which is too deep"),
                              ("path", ("d" * 200 + "/") * 20 + "x.py", "a name of ")):
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", {path: "x = 1\n"})
        made = store.create(name, name)
        assert made.returncode == 1 and words in made.stdout + made.stderr, made.stdout + made.stderr
        assert "Traceback" not in made.stderr and not (store.place / "names" / name).exists()
    assert left_over(store) == []


def with_links(data):
    """The wheel with entries that say they are symbolic links, and one that leads out and on."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        for path, to in (("tricks_link", "/etc"), ("tricks_link/passwd", "x"), ("tricks_up", "../../../../../../etc/passwd")):
            entry = zipfile.ZipInfo(path)
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            archive.writestr(entry, to)
    return out.getvalue()


def test_an_index_that_means_harm(site, store, index):
    """It may lead a build to what only this host reaches, name other files, and have packages that take the place of Python."""
    reached = []
    near = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Near", (http.server.BaseHTTPRequestHandler,), {
        "do_GET": lambda self: reached.append(self.path), "do_HEAD": lambda self: reached.append(self.path)}))
    threading.Thread(target=near.serve_forever, daemon=True).start()
    port = near.server_port
    pages = {
        "led": f'<base href="http://127.0.0.1:{port}/"><a href="led-1-py3-none-any.whl">led-1-py3-none-any.whl</a>',
        "up": '<a href="/files/..%2f..%2f..%2f..%2ftmp%2fup-1-py3-none-any.whl">up-1-py3-none-any.whl</a>'
              '<a href="file:///etc/passwd#egg=up-2">up-2-py3-none-any.whl</a><a href="/files/up-1%0a2-py3-none-any.whl">up</a>',
    }
    index.pages = pages
    index.moved = {"near": f"http://127.0.0.1:{port}/x", "far": "http://files.example/x", "inner": "http://10.0.0.1/"}
    store.environment["PIP_FIND_LINKS"] = " ".join(f"{index.url}/{name}" for name in index.moved)
    away = [f"tried to reach {place} (refused)" for place in (f"127.0.0.1 port {port}", "files.example port 80", "10.0.0.1 port 80")]
    try:
        for name, words in (("led", [f"http://127.0.0.1:{port}/led-1", *away]), ("up", away)):
            made = store.create(name, name)
            assert made.returncode == 1 and all(one in made.stdout + made.stderr for one in words), made.stdout + made.stderr
            assert left_over(store) == [] and not (store.place / "names" / name).exists()
        assert reached == [] and not os.path.lexists("/tmp/up-1-py3-none-any.whl")
    finally:
        index.pages, index.moved = {}, {}
        store.environment["PIP_FIND_LINKS"] = ""
        near.shutdown()
        near.server_close()
    index.files["shadow-1-py3-none-any.whl"] = wheel("shadow", "1", {
        "shadow.py": "main = print\n", "shadow-1.dist-info/entry_points.txt": "[console_scripts]\npython = shadow:main\n"})
    made = store.create("shadow", "shadow")
    assert made.returncode == 1 and "in the place of bin/python" in made.stdout + made.stderr, made.stdout + made.stderr
    harm = f"import os; os.mkdir({str(site.root / 'tricks-ran')!r})\n"
    tricks = wheel("tricks", "1", {
        "tricks.py": "", "sitecustomize.py": harm, "usercustomize.py": harm, "json.py": harm, "tricks.pth": harm, "compileall.py": harm,
        "tricks-1.dist-info/entry_points.txt": "[console_scripts]\npip = tricks:main\n../../x = tricks:main\n"})
    index.files["tricks-1-py3-none-any.whl"] = tricks
    made = store.create("tricks", "tricks")
    assert made.returncode == 0, made.stdout + made.stderr
    store.env("verify", "tricks", check=True)
    assert [one["name"] for one in store.record("tricks")["packages"]] == ["tricks"]
    assert {path.name for path in (store.tree("tricks") / "bin").iterdir()} >= {"pip", "x"} and store.env("usage", "tricks").returncode == 1
    # what an archive says is a link is a file to pip, which then finds that nothing can lie in it
    index.files["tricks-1-py3-none-any.whl"] = with_links(tricks)
    made = store.create("links", "tricks")
    assert made.returncode == 1 and "Not a directory" in made.stdout + made.stderr and not (store.place / "names" / "links").exists(), made
    assert not (site.root / "tricks-ran").exists() and not os.path.lexists("/env") and left_over(store) == []


def test_the_cache_of_wheels_is_used_where_a_hash_decides(site, store, index):
    """A build may say of anything that it is the wheel of another package: with a private index it is not taken for that."""
    evil = wheel("plain", "2.0", {"plain.py": "version = 'evil'\n"})
    place = store.place / "wheels" / hashlib.sha256(evil).hexdigest()
    place.mkdir(parents=True)
    (place / "plain-2.0-py3-none-any.whl").write_bytes(evil)
    store.create("open", "plain").check_returncode()
    lock = site.root / "cache.lock"
    lock.write_text(store.env("show", "open", "--lock", check=True).stdout)
    store.create("locked", "--lock", "-r", str(lock)).check_returncode()
    for name in ("open", "locked"):
        assert "evil" not in next(store.tree(name).glob("lib/python3*/site-packages/plain.py")).read_text()
    # a lock of the one that lies there does not make it one of the index, which has another
    lock.write_text(f"plain==2.0 --hash=sha256:{hashlib.sha256(evil).hexdigest()}\n")
    refused = store.create("other", "--lock", "-r", str(lock))
    assert refused.returncode == 1 and "DO NOT MATCH THE HASHES" in refused.stdout and not (store.place / "names" / "other").exists(), refused


def test_what_is_cached_is_not_fetched_again(site, store, index):
    """By a lock's hash. Without one a private index is asked each time: what lies in the cache under a name may be anything."""
    lock = site.root / "again.lock"

    def fetched(name, *words):
        index.asked.clear()
        made = store.create(name, *words)
        assert made.returncode == 0, made.stdout + made.stderr
        return sum(path.startswith("/files/") for path in index.asked)

    assert fetched("first", "plain==2.0") == 1
    lock.write_text(store.env("show", "first", "--lock", check=True).stdout)
    assert fetched("second", "plain==2.0") == 1
    assert fetched("locked", "--lock", "-r", str(lock)) == 0
    # what is not what it is called is not taken, but fetched
    [kept] = (store.place / "wheels").glob("*/plain-2.0-py3-none-any.whl")
    kept.parent.chmod(0o755)
    kept.chmod(0o644)
    kept.write_bytes(wheel("plain", "2.0", {"plain.py": "version = 'evil'\n"}))
    assert fetched("mended", "--lock", "-r", str(lock)) == 1
    assert store.record("mended")["record"]["tree"] == store.record("first")["record"]["tree"]


def test_an_import_runs_no_other_program(site, store):
    store.create("i", "plain").check_returncode()
    file = site.root / "python.bundle"
    file.unlink(missing_ok=True)
    store.env("export", "i", str(file), check=True)
    whole, own = file.read_bytes(), json.dumps(PYTHON).encode()
    start = whole.index(b"m\6\0record") + 17
    before = whole[start : start + int.from_bytes(whole[start - 8 : start], "little")]
    assert before.count(own) == 1
    for other, words in (("/bin/sh", "names no Python"), ("python3", "no absolute path"), ("/nothing", "not on this host")):
        record = before.replace(own, json.dumps(other).encode().ljust(len(own)))
        file.write_bytes(whole.replace(before, record).replace(*(hashlib.sha256(text).hexdigest().encode() for text in (before, record))))
        refused = store.env("import", "other", str(file))
        assert refused.returncode == 1 and words in refused.stderr, refused
        assert not (store.place / "names" / "other" / "current").exists() and left_over(store) == []


LARGE = {  # of what may be 1 MB in all: what is said
    "fetched": ({"large.py": "x" * 3_000_000}, "cut: 127.0.0.1 port"),
    "unpacked": ({"large.py": "", "zeros": "0" * 50_000_000}, "File too large"),
    "in all": ({f"large/{i}": str(i) * 500_000 for i in range(9)}, "larger than it may be (a policy's build.size)"),
}


@pytest.fixture
def ended(site):
    since = processes.now_ticks()
    yield
    assert processes.wait_until(lambda: not processes.strays(site.prefix, since), 60 * harness.PATIENCE)


@pytest.mark.parametrize("large", LARGE)
def test_what_is_too_large(site, store, index, ended, large):
    """A large answer of an index, and small ones that unpack to far more."""
    files, words = LARGE[large]
    compression = zipfile.ZIP_STORED if large == "fetched" else zipfile.ZIP_DEFLATED
    index.files["large-1-py3-none-any.whl"] = wheel("large", "1", files, compression=compression)
    try:
        made = store.create("large", "large", "--policy", site.policy({"build": {"size": "1M"}}))
    finally:
        del index.files["large-1-py3-none-any.whl"]
    assert made.returncode == 1 and words in made.stdout + made.stderr, made.stdout + made.stderr
    assert "nothing was changed" in made.stderr and "Traceback" not in made.stdout + made.stderr, made
    assert left_over(store) == [] and not (store.place / "names" / "large").exists()


# A process that leaves its session and then asks the index, and one that waits for nothing.
LEAVES = """
import os, time, urllib.request
if not os.fork():
    os.setsid()
    urllib.request.urlopen({url!r})
time.sleep(1000)
"""


def test_what_takes_too_long(site, store, index, ended):
    """Whatever it does meanwhile, and what it leaves behind."""
    index.pages["left"] = ""
    index.files["long-1.tar.gz"] = building("long", "1", LEAVES.format(url=index.url + "/left"))
    for seconds in (5, 20, 80):  # until it has come that far
        made = store.create("long", "long", "--policy", site.policy({"build": {"time": f"{seconds}s"}}))
        assert made.returncode == 1 and f"was ended after {seconds} seconds: nothing was changed" in made.stderr, made
        assert left_over(store) == [] and not (store.place / "names" / "long").exists()
        if "/simple/left" in index.asked:
            break
    assert "/simple/left" in index.asked, made


def test_progress_in_a_terminal(store, index):
    """A line that moves, before the download has ended; without a terminal there is none."""
    index.files["wide-1-py3-none-any.whl"] = wheel("wide", "1", {"wide.py": "#" * 2_400_000})
    index.slowly.clear()
    terminal, end = pty.openpty()
    other = begin(store, "create", "other", "--python", PYTHON, "--no-kernel", "wide")
    try:
        made = begin(store, "create", "wide", "--python", PYTHON, "--no-kernel", "wide", out=end)
        os.close(end)
        shown, moving = b"", rb"\r?  \d\.\d MB of 2\.4 MB *\r"
        while not re.search(moving, shown):
            assert select.select([terminal], [], [], 60 * harness.PATIENCE)[0], shown
            shown += os.read(terminal, 65536)
        assert made.poll() is None and b"sealing" not in shown
        index.slowly.set()
        with contextlib.suppress(OSError):  # its other side is closed
            while data := os.read(terminal, 65536):
                shown += data
        assert made.wait(60 * harness.PATIENCE) == 0, shown
        assert b"sealing\r\n" in shown and b"wide: generation 1" in shown
        plain, _ = other.communicate(timeout=60 * harness.PATIENCE)
        assert other.returncode == 0 and "sealing\n" in plain and "MB of" not in plain, plain
    finally:
        index.slowly.set()
        os.close(terminal)


def test_progress_in_a_cell(site, start, index, request):
    index.files["broad-1-py3-none-any.whl"] = wheel("broad", "1", {"broad.py": "x = 1\n" + "#" * 2_400_000})
    kernel = test_pip.Place(site, start, index, request.node.name).kernel()
    index.slowly.clear()
    try:
        asked = kernel.client.execute("%pip install broad\nimport broad\nprint('has', broad.x)")
        shown = ""
        while "idle" not in shown:
            message = kernel.client.get_iopub_msg(timeout=60 * harness.PATIENCE)
            if message["parent_header"].get("msg_id") == asked:
                shown += message["content"].get("text", message["content"].get("execution_state", ""))
            if not index.slowly.is_set() and re.search(r"\d\.\d MB of 2\.4 MB", shown):
                assert "sealing" not in shown
                index.slowly.set()
        assert index.slowly.is_set() and "has 1" in shown, shown
    finally:
        index.slowly.set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk(site, index):
    """Whatever it is that does not fit any more: one line, and the environment that was there is as it was."""
    index.files["large-1-py3-none-any.whl"] = wheel("large", "1", {f"large{i}.py": f"# {random.Random(i).randbytes(400_000).hex()}\n" for i in range(5)})
    store = Store(site, index, "small-disk")
    sizes = [7, 16] if FAULTS <= 4 else range(3, 40)
    store.data.mkdir()
    for size in sizes:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "tmpfs", store.data], check=True, timeout=30)
        try:
            store.create("small", "plain==1.0").check_returncode()
            before = store.record("small")
            made = store.env("update", "small", "large")
            if made.returncode == 0:
                assert len(store.record("small")["packages"]) == 2
            else:
                clear = ("No space left", "failed with code", "more disk than it may")
                assert any(words in made.stdout + made.stderr for words in clear), made.stdout + made.stderr
                assert store.record("small") == before
            store.env("verify", "small", check=True)
            assert left_over(store) == []
        finally:
            subprocess.run(["umount", store.data], check=True, timeout=30)


def killed(process, moment, chance):
    """SIGKILL for it or for one of its processes, after `moment` seconds. Returns the name of which, or None when it had ended."""
    time.sleep(moment)
    others = processes.tree(process.pid)[1:] if chance.random() < 0.5 else []
    if others:
        victim = chance.choice(others)
        return victim.name if victim.kill() else None
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    return "cellwall env"


def settle(*stores):
    """What a supervisor that is still ending leaves goes too: with the next gc there is nothing but whole trees, each file of them once."""

    def is_settled(store):
        return store.env("gc").returncode == 0 and left_over(store) == []

    for store in stores:
        assert processes.wait_until(lambda: is_settled(store), 30 * harness.PATIENCE), left_over(store)  # noqa: B023
        assert not [*store.place.rglob(".new-*"), *store.place.glob("names/*/.*")]
        assert not [path for path in store.place.glob("files/*/*") if path.stat().st_nlink < 2]
        named = {json.loads(path.read_text())["tree"] for path in store.place.glob("names/*/*.json")}
        assert {path.name for path in store.place.glob("trees/*")} == named


def test_builds_are_killed(store, index):
    """Each makes a tree that is new, of files that are: it is there whole or not at all, and gc finds the rest."""
    store.create("k", "plain==1.0").check_returncode()
    begun = time.monotonic()
    store.env("update", "k", "plain==2.0", check=True)
    whole = time.monotonic() - begun
    hit = collections.Counter()
    for i in range(FAULTS):
        chance, version = random.Random(i), f"3.{i}"
        index.files[f"plain-{version}-py3-none-any.whl"] = wheel("plain", version, {f"plain/m{j}.py": f"x = {i}, {j}\n" for j in range(20)})
        before = store.record("k")
        build = begin(store, "update", "k", f"plain=={version}")
        victim = killed(build, whole * chance.uniform(0, 1.1), chance)
        hit[victim] += 1
        out, _ = build.communicate(timeout=60 * harness.PATIENCE)
        now = store.record("k")
        if now["packages"][0]["version"] != version:
            assert now == before and build.returncode != 0, (victim, out)
        store.env("verify", "k", check=True)
        del index.files[f"plain-{version}-py3-none-any.whl"]
    settle(store)
    store.env("verify", "k", check=True)
    print("builds:", hit)
    assert FAULTS < 100 or len(hit) > 4, hit


def test_imports_and_removals_are_killed(site, store):
    store.create("k", "plain==1.0").check_returncode()
    file, other = site.root / "killed.bundle", Store(site, Index(), store.data.name + "-other")
    file.unlink(missing_ok=True)
    store.env("export", "k", str(file), check=True)
    tree = store.record("k")["record"]["tree"]
    done, whole = collections.Counter(), {}
    for words in (("import", "k", str(file)), ("remove", "k")):
        begun = time.monotonic()
        other.env(*words, check=True)
        whole[words[0]] = time.monotonic() - begun
    for i in range(FAULTS):
        for words in (("import", "k", str(file)), ("remove", "k")):
            if words[0] == "remove":
                other.env("import", "k", str(file), check=True)
            chance = random.Random(f"{i} {words[0]}")
            process = begin(other, *words)
            time.sleep(whole[words[0]] * chance.uniform(0, 1))  # it has no other processes
            process.kill()
            process.communicate(timeout=60 * harness.PATIENCE)
            there = (other.place / "names/k/current").exists()
            done[words[0], process.returncode, there] += 1
            if there:
                assert other.record("k")["record"]["tree"] == tree
                other.env("verify", "k", check=True)
                other.env("remove", "k", check=True)
    settle(store, other)
    assert not [*other.place.glob("files/*/*"), *other.place.glob("names/[!.]*")]
    print("imports and removals:", done)
