"""For tests of environments: packages as hostile as one likes, an index that serves them, and a store of one's own."""

import base64
import csv
import hashlib
import http.server
import importlib.metadata
import io
import json
import pathlib
import re
import ssl
import subprocess
import tarfile
import threading
import urllib.parse
import zipfile

import harness
import pytest

PYTHON = "/usr/bin/python3"


def wheel(name, version, files, metadata="", compression=zipfile.ZIP_STORED):
    """The bytes of a wheel with these files, and no others but its metadata."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n{metadata}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return pack(files, info, compression)


def pack(files, info, compression=zipfile.ZIP_STORED):
    """A wheel of these files, texts or bytes, with a RECORD of them."""
    rows = []
    for path, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append([path, f"sha256={digest}", len(data)])
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows([*rows, [f"{info}/RECORD", "", ""]])
    files = {**files, f"{info}/RECORD": record.getvalue()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return out.getvalue()


def repacked(distribution, left_out=()):
    """The name and the bytes of the wheel that a distribution of this machine came from; `left_out` begin names of files."""
    info = distribution.locate_file("").joinpath(next(str(path.parent) for path in distribution.files if path.name == "METADATA"))
    files = {}
    for path in distribution.files:
        name = str(path)
        if path.parts[0] != ".." and "__pycache__" not in path.parts and not name.startswith(left_out):
            if not (path.parent.name == info.name and path.name in ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")):
                files[name] = path.read_binary()
    tags = re.findall(r"^Tag: ([\w.]+)-(\w+)-(\w+)", files[f"{info.name}/WHEEL"].decode(), re.MULTILINE)
    tag = "-".join(".".join(sorted({words[at] for words in tags})) for at in range(3))
    return f"{info.name[: -len('.dist-info')]}-{tag}.whl", pack(files, info.name)


def needed(name, place):
    """The distributions below `place` (a site-packages) that `name` needs, itself among them."""
    there = {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one for one in importlib.metadata.distributions(path=[str(place)])}
    found, waiting = {}, [name]
    while waiting:
        name = waiting.pop()
        if name in there and name not in found:
            found[name] = there[name]
            waiting += [re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in there[name].requires or [] if "extra ==" not in line]
    return found


def source(name, version, files):
    """The bytes of a source distribution."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in {"PKG-INFO": f"Metadata-Version: 1.2\nName: {name}\nVersion: {version}\n", **files}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


BACKEND = """
import base64, hashlib, zipfile
def build_wheel(directory, settings=None, metadata=None):
    seen = []
    exec({code!r}, {{"seen": seen, "directory": directory}})
    name, version = {name!r}, {version!r}
    info = f"{{name}}-{{version}}.dist-info/"
    files = {{name + ".py": "seen = " + repr(seen), info + "METADATA": f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n",
             info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}}
    files[info + "RECORD"] = "".join(f"{{path}},,\\n" for path in [*files, info + "RECORD"])
    with zipfile.ZipFile(f"{{directory}}/{{name}}-{{version}}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{{name}}-{{version}}-py3-none-any.whl"
"""


def building(name, version, code):
    """A source distribution whose build runs `code` and needs no other package; its module has what the code put in `seen`."""
    return source(name, version, {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(code=code, name=name, version=version),
    })


class Index:
    """The simple repository API (PEP 503) on this machine, over plain HTTP or, with a certificate, as localhost over TLS."""

    def __init__(self, certificate=None):
        self.files, self.asked, self.pages, self.moved = {}, [], {}, {}
        self.slowly = threading.Event()  # until it is set a large file comes in small pieces
        self.slowly.set()
        self.digest = "sha256"  # that its links name
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                index.asked.append(self.path)
                if self.path == "/slow":  # until the other side has gone
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"s")
                    self.wfile.flush()
                    self.connection.recv(1)
                    return
                parts = urllib.parse.unquote(self.path).strip("/").split("/")
                if parts[-1] in index.moved:
                    self.send_response(302)
                    self.send_header("Location", index.moved[parts[-1]])
                    self.end_headers()
                elif parts[0] == "simple" and parts[-1] in index.pages:
                    self.answer("text/html", f"<!DOCTYPE html><html><head></head><body>{index.pages[parts[-1]]}</body></html>".encode())
                elif parts[0] == "simple" and len(parts) == 2:
                    links = "".join(
                        f'<a href="/files/{name}#{index.digest}={hashlib.new(index.digest, data).hexdigest()}">{name}</a><br>\n'
                        for name, data in index.files.items()
                        if name.split("-")[0].lower().replace("_", "-") == parts[1]
                    )
                    self.answer("text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), 200 if links else 404)
                elif parts[0] == "files" and parts[1] in index.files:
                    self.answer("application/octet-stream", index.files[parts[1]])
                else:
                    self.answer("text/plain", b"no", 404)

            def answer(self, kind, data, status=200):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                while len(data) > 100_000 and not index.slowly.wait(0.05):
                    self.wfile.write(data[:1000])
                    data = data[1000:]
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.url = f"https://localhost:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def page(site):
    """The text of the how-to page."""
    return (pathlib.Path(site.prefix) / "share" / "cellwall" / "doc" / "env.md").read_text()


def shape(line):
    """A line of output without what differs from run to run: numbers, sizes, hashes, hosts, names of packages after a colon."""
    line = re.sub(r"\b[0-9a-f]{16}\b", "HASH", line.rstrip())
    line = re.sub(r"\b(pypi\.org|files\.pythonhosted\.org|127\.0\.0\.1)\b", "HOST", line)
    line = re.sub(r"Downloading \S*/", "Downloading ", line)
    line = re.sub(r"^(# not needed by it: ).*", r"\1NAMES", re.sub(r"^[\w-]+==\S+$", "NAME==VERSION", line))
    return re.sub(r"\d+(\.\d+)*( [kMG]?B\b| bytes\b)?", "0", line)


def shown_as(text, first, output, **names):
    """What a page shows, in the block that begins with the line `first`, is what was really said, in that order: returns the lines that
    were not. `names` are other words in the output than on the page; of lines that are alike but for numbers one is enough."""
    [block] = re.findall(rf"^```text\n({re.escape(first)}\n.*?)^```", text, re.M | re.S)
    said = [shape(line) for line in output.splitlines()]
    for name, other in names.items():
        block = block.replace(name, other)
    missing = []
    for line in block.splitlines():
        if line == "..." or line.startswith("'"):  # what was left out, and a cell's value
            continue
        begin, cut, _ = line.partition(" ...")
        at = next((at for at, one in enumerate(said) if one == shape(line) or (cut and one.startswith(shape(begin)))), None)
        if at is None:
            missing.append(line)
        else:
            said = said[at:]
    return missing


@pytest.fixture(scope="module")
def index():
    index = Index()
    for version in ("1.0", "2.0"):
        name = f"plain-{version}-py3-none-any.whl"
        index.files[name] = wheel("plain", version, {"plain.py": f"version = {version!r}\n", "plain_data/d.txt": "data"})
    yield index
    index.close()


class Store:
    """A store of its own, on which `cellwall env` is run."""

    def __init__(self, site, index, name):
        self.site, self.data = site, site.root / name
        self.environment = {"XDG_DATA_HOME": str(self.data), "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": index.url,
                            "PIP_FIND_LINKS": "", "https_proxy": "", "HTTPS_PROXY": "", "http_proxy": "", "ALL_PROXY": "",
                            "all_proxy": ""}
        self.place = self.data / "cellwall" / "environments"

    def env(self, *words, check=False, timeout=120, cwd=None):
        return self.site.run("env", *words, check=check, cwd=cwd, timeout=timeout * harness.PATIENCE, env=self.environment)

    def create(self, name, *words):
        return self.env("create", name, "--python", PYTHON, "--no-kernel", *words)

    def record(self, name):
        return json.loads(self.env("show", name, "--json", check=True).stdout)

    def tree(self, name):
        return self.place / "trees" / self.record(name)["record"]["tree"] / "tree"


@pytest.fixture
def store(site, index, request):
    return Store(site, index, "store-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8])


def left_over(store):
    return sorted(path.name for path in (store.place / "builds").glob("*"))


def begin(store, *words, out=subprocess.PIPE):
    return subprocess.Popen([store.site.cellwall, "env", *words], env={**store.site.environment, **store.environment}, cwd=store.site.root,
                            stdout=out, stderr=subprocess.STDOUT, text=True)
