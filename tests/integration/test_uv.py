"""Environments that uv resolves and installs: the real one, whose path tests/run gives in CELLWALL_UV."""

import os
import pathlib
import socket
import subprocess

import pytest
import test_pip
from environments import PYTHON, Index, building, left_over, wheel
from environments import store as store  # noqa: PLC0414
from test_pip import BUILD

UV = os.environ.get("CELLWALL_UV", "")
pytestmark = pytest.mark.skipif(not UV, reason="needs CELLWALL_UV, a program of PyPI's package uv")
PLAIN = "/usr/local/bin:/usr/bin:/bin"  # where there is none
PATH = f"{os.path.dirname(UV)}:{PLAIN}"
NEEDS = "Requires-Dist: alpha>=1\nRequires-Dist: never; python_version < '3'\n"


@pytest.fixture(scope="module")
def index():
    index = test_pip.Index()
    for name in ("alpha", "beta", "gamma"):
        index.add(name, "1.0", {f"{name}.py": "version = '1.0'\n"})
    info = "tool-1.0.dist-info"
    index.files["tool-1.0-py3-none-any.whl"] = wheel("tool", "1.0", {
        "tool/__init__.py": "class Main:\n    def run():\n        print('the tool ran')\n", "tool-1.0.data/data/etc/tool.conf": "x",
        "tool-1.0.data/scripts/plain-tool": "#!python\nprint('ran')\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntool = tool:Main.run\n[other]\nx = y\n"}, NEEDS)
    yield index
    index.open.set()
    index.close()


def use_uv(store):
    store.environment["PATH"] = PATH
    return store


def test_the_tree_that_pip_makes(site, store, index):
    """The same lock and tree, whichever installs; and from the lock by uv again."""
    store.create("by-pip", "tool").check_returncode()
    made = use_uv(store).create("by-uv", "--uv", "tool")
    assert made.returncode == 0 and "Resolved 2 packages" in made.stdout and "blocked" not in made.stdout, made.stdout + made.stderr
    by_pip, by_uv = store.record("by-pip"), store.record("by-uv")
    assert by_pip["record"]["tree"] == by_uv["record"]["tree"]
    assert [one["name"] for one in by_uv["packages"]] == ["alpha", "tool"]
    lock = site.root / "uv.lock"
    lock.write_text(store.env("show", "by-uv", "--lock", check=True).stdout)
    made = store.create("locked", "--uv", "--lock", "-r", lock)
    assert made.returncode == 0 and store.record("locked")["record"]["tree"] == by_uv["record"]["tree"], made.stdout + made.stderr
    # what the programs are is cellwall's own, and says nothing of who wrote them
    tree = store.tree("by-uv")
    assert "from tool import Main\n" in (tree / "bin/tool").read_text() and (tree / "etc/tool.conf").exists()
    record = next(tree.glob("lib/python3*/site-packages/tool-1.0.dist-info/RECORD")).read_text()
    assert "../../../bin/tool,sha256=" in record and "INSTALLER" not in record
    # offline: find-links alone
    links = site.root / "links"
    links.mkdir()
    for name in ("alpha-1.0-py3-none-any.whl", "tool-1.0-py3-none-any.whl"):
        (links / name).write_bytes(index.files[name])
    index.asked.clear()
    store.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    made = store.create("offline", "--uv", "tool")
    assert made.returncode == 0 and index.asked == [] and "reached" not in made.stdout, made.stdout + made.stderr
    assert store.record("offline")["record"]["tree"] == by_uv["record"]["tree"]


def test_no_uv(store):
    store.environment["PATH"] = PLAIN
    refused = store.create("none", "--uv", "alpha")
    assert refused.returncode == 1 and refused.stdout == "", refused
    assert refused.stderr == f"cellwall env: there is no uv in PATH or beside {PYTHON}: install it, or leave --uv out\n"
    assert left_over(store) == [] and not (store.place / "names" / "none").exists()


TRY = f"""
import os, socket
seen.append(os.path.exists({str(pathlib.Path(UV).parent)!r}))
for target in (("203.0.113.9", 80), ("127.0.0.1", %d)):
    try:
        socket.create_connection(target, 2)
        seen.append("reached")
    except OSError as error:
        seen.append(type(error).__name__)
"""


def test_configured_as_pip_is(site, store, index):
    """Certificates, more than one index, and a source distribution that is built behind the same wall."""
    certificate, both = site.root / "uv-index.crt", site.root / "uv-index.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", both, "-out", certificate],
                   check=True, capture_output=True, timeout=60)
    with both.open("a") as out:
        out.write(certificate.read_text())
    private = Index(both)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        private.files["trying-1.tar.gz"] = building("trying", "1", TRY % listener.getsockname()[1])
        private.files["alpha-0.5-py3-none-any.whl"] = wheel("alpha", "0.5", {"alpha.py": ""})
        try:
            use_uv(store).environment |= {"PIP_INDEX_URL": private.url, "PIP_EXTRA_INDEX_URL": index.url, "PIP_CERT": str(certificate)}
            made = store.create("both", "--uv", "trying", "beta", "alpha")
        finally:
            private.close()
    assert made.returncode == 0, made.stdout + made.stderr
    assert {(one["name"], one["version"]) for one in store.record("both")["packages"]} == {
        ("trying", "1"), ("beta", "1.0"), ("alpha", "0.5")}  # the first index that has a package
    module = next(store.tree("both").glob("lib/python3*/site-packages/trying.py")).read_text()
    assert module == "seen = [False, 'OSError', 'ConnectionRefusedError']", module


@pytest.mark.slow
def test_uv_in_a_cell(site, start, index, request):
    place = test_pip.Place(site, start, index, request.node.name)
    place.store.environment["PATH"] = PATH
    kernel = place.kernel()
    cell = kernel.run("%uv pip install alpha\nimport alpha\n!uv pip install -q 'beta>=1' alpha\nimport beta\nprint(beta.version, alpha.__file__)",
                      2 * BUILD)
    assert cell.status == "ok", cell.messages
    assert "Resolved" in cell.stdout and "adds: alpha 1.0" in cell.stdout and "adds: beta 1.0" in cell.stdout, cell.stdout
    assert "1.0 /cellwall-added/1/lib/alpha.py" in cell.stdout
    [name] = place.names()
    assert [one["name"] for one in place.store.record(name)["packages"]] == ["alpha", "beta"]
    # an index that knows its files by another digest
    index.digest = "sha512"
    try:
        cell = kernel.run("%uv pip install gamma\nimport gamma", BUILD)
    finally:
        index.digest = "sha256"
    assert cell.status == "ok" and "adds: gamma 1.0" in cell.stdout, cell.messages
    # what is there is kept where it can be; a later version that is asked for is taken
    index.add("alpha", "2.0", {"alpha.py": "version = '2.0'\n"})
    try:
        cell = kernel.run("%uv pip install -U alpha tool", BUILD)
        assert "adds: tool 1.0" in cell.stdout and "alpha 1.0 -> 2.0" in cell.stdout, cell.stdout
    finally:
        del index.files["alpha-2.0-py3-none-any.whl"]
    kernel.shutdown()
    # without uv it means the same packages
    place = test_pip.Place(site, start, index, request.node.name + "none")
    place.store.environment["PATH"] = PLAIN
    cell = place.kernel().run("%uv pip install alpha\nimport alpha", BUILD)
    assert cell.status == "ok" and "there is no uv on this host: pip builds" in cell.stdout, cell.stdout
