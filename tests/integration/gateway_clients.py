"""Servers and clients of other projects whose kernels `cellwall serve` runs: run by `tests/run gateway`.

CELLWALL_GATEWAY is the environment of tests/requirements-gateway.txt, CELLWALL_ENTERPRISE a directory with the package
enterprise_gateway, whose integration tests are meant for a gateway that runs.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import gateway
import harness
import pages
import pytest
import requests
import serving
import websocket
from harness import ISOLATED

ENVIRONMENT = pathlib.Path(os.environ["CELLWALL_GATEWAY"])
PYTHONS = {"debian": "/usr/bin/python3", "pypi": ENVIRONMENT / "bin" / "python"}
LOCAL = gateway.TOKENS["anna"]  # what the notebook server itself wants


@pytest.fixture(scope="module")
def authority(site):
    return serving.make_authority(site.root / "authority")


@pytest.fixture(scope="module")
def server(site, authority):
    """One gateway; Anna comes with a token, "gate" with a certificate."""
    users = {**serving.USERS, "gate": {"certificate": "gateway"}}
    options = ["--certificate", authority / "localhost.pem", "--private-key", authority / "localhost.key"]
    options += ["--client-ca", authority / "ca.pem"]
    with serving.Server(site, *options, listen=("https://127.0.0.1:0", "http://127.0.0.1:0"), users=users) as server:
        yield server


def environment_of_gateway(server, authority, how):
    """What a Jupyter server is told: where the gateway is and how it gets in."""
    common = {"JUPYTER_GATEWAY_URL": server.url.replace("127.0.0.1", "localhost")}
    if how == "token":
        return {**common, "JUPYTER_GATEWAY_AUTH_TOKEN": serving.TOKENS["anna"], "SSL_CERT_FILE": str(authority / "ca.pem")}
    return {
        **common,
        "JUPYTER_GATEWAY_CLIENT_CERT": str(authority / "gateway.pem"),
        "JUPYTER_GATEWAY_CLIENT_KEY": str(authority / "gateway.key"),
        "JUPYTER_GATEWAY_CA_CERTS": str(authority / "ca.pem"),
    }


class Notebooks:
    """A jupyter_server behind a gateway. It has what gateway.Socket needs."""

    def __init__(self, site, command, environment, cwd=None):
        self.root = site.project()
        (self.root / "runtime").mkdir(mode=0o700)
        own = {"open_browser": False, "allow_root": True, "ip": "127.0.0.1", "port": harness.free_ports(1)[0], "token": LOCAL}
        site.put(self.root, "config/jupyter_server_config.json", json.dumps({"ServerApp": own}))
        own = {"JUPYTER_RUNTIME_DIR": str(self.root / "runtime"), "JUPYTER_CONFIG_DIR": str(self.root / "config")}
        self.log_path = self.root / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=cwd or self.root,
                env={**site.environment, **environment, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = self._wait()

    def _wait(self):
        end = time.monotonic() + 60 * harness.PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            for path in (self.root / "runtime").glob("jpserver-*.json"):
                try:
                    self.url = json.loads(path.read_text())["url"].rstrip("/")
                    self.ask("GET", "/api/status")
                    return self.url
                except (OSError, ValueError):
                    pass
            time.sleep(0.1)
        raise AssertionError(self.log_path.read_text()[-3000:])

    def ask(self, method, path, **options):
        headers = {"Authorization": f"token {LOCAL}"}
        return requests.request(method, self.url + path, headers=headers, timeout=60 * harness.PATIENCE, **options)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=("debian-token", "debian-certificate", "pypi-token", "pypi-certificate"))
def notebooks(site, server, authority, request):
    which, how = request.param.split("-")
    notebooks = Notebooks(site, [PYTHONS[which], "-m", "jupyter_server"], environment_of_gateway(server, authority, how))
    yield notebooks
    notebooks.close()


def connect(notebooks, kernel):
    """Asks until an answer comes, as JupyterLab does: version 1 loses what is sent before it has its own connection."""
    channels = gateway.Socket(notebooks, kernel, "anna", False, "s1", "test")
    patience = channels.ws.gettimeout()
    channels.ws.settimeout(2)
    end = time.monotonic() + 60 * harness.PATIENCE
    while time.monotonic() < end:
        channels.send("kernel_info_request", {})
        try:
            channels.until(msg_type="kernel_info_reply")
        except websocket.WebSocketTimeoutException:
            continue
        channels.ws.settimeout(patience)
        return channels
    raise AssertionError(notebooks.log_path.read_text()[-3000:])


def begin(notebooks, name):
    """A notebook's session; its answer and its channels."""
    session = {"path": "n.ipynb", "name": "n", "type": "notebook", "kernel": {"name": name}}
    answer = notebooks.ask("POST", "/api/sessions", json=session)
    assert answer.status_code == 201, (answer.text, notebooks.log_path.read_text()[-2000:])
    return answer.json(), connect(notebooks, answer.json()["kernel"]["id"])


def kinds(messages):
    return [message["header"]["msg_type"] for message in messages]


def test_jupyter_server(site, server, notebooks):
    """Version 1.23 of Debian and 2.x of PyPI, with a token and with a certificate: as a notebook uses them."""
    listed = notebooks.ask("GET", "/api/kernelspecs").json()
    assert ISOLATED in listed["kernelspecs"] and harness.DIRECT not in listed["kernelspecs"]
    logo = notebooks.ask("GET", listed["kernelspecs"][ISOLATED]["resources"]["logo-64x64"])
    assert logo.status_code == 200 and logo.content.startswith(b"\x89PNG")
    session, channels = begin(notebooks, ISOLATED)
    kernel = session["kernel"]["id"]
    assert gateway.text_of(channels.run("x = 5\nprint('ran', x)")) == "ran 5\n"
    drawn = channels.run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9]); plt.show()")
    assert any("image/png" in message["content"].get("data", {}) for message in drawn), kinds(drawn)

    # Version 1 sends its whole environment; none of it comes to the kernel.
    seen = gateway.text_of(channels.run("import os\nprint(sorted(os.environ), *os.environ.values())"))
    assert site.secret not in seen and "JUPYTER_GATEWAY" not in seen

    sent = channels.send("execute_request", {"code": "print('begun', flush=True)\nimport time; time.sleep(1000)"})
    channels.until(parent=sent, msg_type="stream")
    assert notebooks.ask("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
    assert "KeyboardInterrupt" in json.dumps(channels.until(parent=sent))
    restarted = notebooks.ask("POST", f"/api/kernels/{kernel}/restart")
    assert restarted.status_code == 200 and restarted.json()["id"] == kernel
    assert gateway.text_of(channels.run("print('x' in globals())")) == "False\n"
    assert [model["id"] for model in notebooks.ask("GET", "/api/kernels").json()] == [kernel]
    channels.close()
    assert notebooks.ask("DELETE", f"/api/sessions/{session['id']}").status_code == 204
    assert notebooks.ask("GET", "/api/kernels").json() == []


DRIVEN = """
import asyncio
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager

async def main():
    manager = GatewayKernelManager(kernel_name="isolated")
    await manager.start_kernel(kernel_name="isolated")
    client = manager.client()
    await client.start_channels()
    client.execute("print(6 * 7)")
    while True:
        message = await client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            print(message["content"]["text"], end="", flush=True)
            break
    client.stop_channels()
    await manager.shutdown_kernel()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ("certificate", "token"))
def test_server_that_drives_kernels_itself(site, server, authority, how):
    """GatewayKernelClient sends no token on its WebSocket: a certificate is what lets it in."""
    environment = {**site.environment, **environment_of_gateway(server, authority, how)}
    done = subprocess.run(
        [PYTHONS["pypi"], "-c", DRIVEN], env=environment, cwd=site.root, capture_output=True, text=True, timeout=120, check=False
    )
    if how == "certificate":
        assert done.stdout == "42\n", done.stderr
    else:
        assert "42" not in done.stdout and "Handshake status 401" in done.stderr, done.stderr
        for kernel in requests.get(f"{server.urls[1]}/api/kernels", headers=serving.bearer("anna"), timeout=60).json():
            requests.delete(f"{server.urls[1]}/api/kernels/{kernel['id']}", headers=serving.bearer("anna"), timeout=60)


# Enterprise Gateway's client has no way to show who it is, since Enterprise Gateway does not ask. This gives it a token.
PLUGIN = """
import os, requests, websocket
header = {"Authorization": "token " + os.environ["TOKEN"]}
plain, connect = requests.Session.request, websocket.create_connection
requests.Session.request = lambda self, *a, **k: plain(self, *a, **{**k, "headers": header})
websocket.create_connection = lambda *a, **k: connect(*a, **{**k, "header": header})
"""

# Of its integration tests those that do not run here, each with its reason.
LEFT_OUT = {
    "test_scala_kernel.py": "Apache Toree, whose kernelspecs need a Spark cluster",
    "TestPythonKernelDistributed": "a kernelspec of a YARN or ssh cluster",
    "TestPythonKernelClient": "Spark on YARN",
    "TestPythonKernelCluster": "Spark on YARN",
    "TestRKernelClient": "Spark on YARN",
    "TestRKernelCluster": "Spark on YARN",
    "test_unauthorized_users": "who may start a kernelspec is said by the user's token, not by the name that a client gives itself",
}


def test_enterprise_gateways_own_tests(site, server):
    site.run("install", "--prefix", str(site.root), "--wrap", "ir", "--name", "ir-isolated", check=True)
    site.put(site.root, "plugin/with_token.py", PLUGIN)
    package = pathlib.Path(os.environ["CELLWALL_ENTERPRISE"])
    tests = package / "enterprise_gateway" / "itests"
    chosen = [f"--ignore={tests}/{name}" if name.endswith(".py") else f"--deselect={name}" for name in LEFT_OUT]
    left_out = [name for name in LEFT_OUT if not name.endswith(".py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "with_token", "-p", "no:cacheprovider", "-rA", "-q", str(tests)]
        + [word for word in chosen if word.startswith("--ignore")]
        + ["-k", " and ".join(f"not {name}" for name in left_out)],
        cwd=site.root,
        env={
            **site.environment,
            "PYTHONPATH": f"{site.root / 'plugin'}:{package}",
            "TOKEN": serving.TOKENS["anna"],
            "GATEWAY_HOST": server.urls[1].removeprefix("http://"),
            "PYTHON_KERNEL_LOCAL_NAME": ISOLATED,
            "R_KERNEL_LOCAL_NAME": "ir-isolated",
            "AUTHORIZATION_KERNEL_NAME": ISOLATED,
            "ITEST_HOSTNAME_PREFIX": ".",
        },
        capture_output=True,
        text=True,
        timeout=300 * harness.PATIENCE,
        check=False,
    )
    passed = re.findall(r"^PASSED .*::(\w+)$", done.stdout, re.M)
    harness.figure(f"Enterprise Gateway's integration tests: {len(passed)} passed")
    for name, reason in LEFT_OUT.items():
        harness.figure(f"left out: {name}: {reason}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    wanted = {"test_hello_world", "test_get_hostname", "test_restart", "test_interrupt", "test_scope"}
    assert wanted <= set(passed), passed


# ---- pages ----


def page(site, name):
    return (pathlib.Path(site.prefix) / "share/cellwall/doc" / name).read_text()


def scripts(text):
    return [block for kind, block in pages.blocks(text) if kind == "sh" and "-m venv" not in block]


def test_environment_of_the_pages(site, monkeypatch):
    """Made from PyPI as the three pages say, it starts a kernel behind the wall."""
    place, said = site.project() / "env", set()
    for name, where in (("gateway.md", "~/kernel-env"), ("hub.md", "/opt/kernels/py"), ("course.md", "/srv/course/env")):
        block = next(block for kind, block in pages.blocks(page(site, name)) if kind == "sh" and "-m venv" in block)
        said.add(block.replace(where, str(place)))
    (block,) = said
    subprocess.run(["bash", "-ec", block], env=site.environment, cwd=site.root, check=True, timeout=300 * harness.PATIENCE)
    site.run("install", "--prefix", str(site.root), "--name", "made", "--python", place / "bin" / "python", check=True, timeout=60 * harness.PATIENCE)
    with serving.Server(site) as server:
        kernel = requests.post(f"{server.url}/api/kernels", json={"name": "made"}, headers=serving.bearer("anna"), timeout=120)
        assert kernel.status_code == 201, kernel.text
        monkeypatch.setitem(gateway.TOKENS, "anna", serving.TOKENS["anna"])
        client = gateway.Socket(server, kernel.json()["id"], "anna", True, "s", "test")
        assert gateway.text_of(client.run("import pandas, matplotlib\nprint(6 * 7)")) == "42\n"
        client.close()
    shutil.rmtree(place)


class Background:
    """A page's `cellwall serve …`, on a port that is free."""

    def __init__(self, site, script):
        self.log_path = site.project() / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", "exec " + script.replace("0.0.0.0:8890", "127.0.0.1:0") + " --runtime " + str(self.log_path.parent / "run")],
                env={**site.environment, "PATH": f"{site.prefix}/bin:{os.environ['PATH']}"},
                cwd=site.root,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        end = time.monotonic() + 30 * harness.PATIENCE
        while not (found := re.search(r"url=https://127\.0\.0\.1:(\d+)", self.log_path.read_text())):
            assert time.monotonic() < end and self.process.poll() is None, self.log_path.read_text()
            time.sleep(0.02)
        self.url = f"https://localhost:{found.group(1)}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def test_page_of_a_laptop_and_a_server(site, monkeypatch):
    """Its commands in their order; both ends are this host, `scp server:` is `cp ~/`."""
    monkeypatch.setitem(site.environment, "JUPYTER_PATH", str(site.root / "no-kernels-of-the-site"))
    (site.home / "kernel-env").symlink_to(pathlib.Path(site.python).parent.parent)
    laptop = site.project()
    site.put(laptop, "points.csv", "1\n2\n3\n")
    server, rest = page(site, "gateway.md").split("\n## The laptop\n")
    files = rest.split("\n## Files\n")[1]
    wrong = [line for kind, block in pages.blocks(server) if kind == "console" for line in pages.command(site, site.root, block)]
    assert wrong == [], "".join(wrong)
    with Background(site, scripts(server)[0].strip()) as gate:
        copy, lab = scripts(rest)
        subprocess.run(["bash", "-ec", copy.replace("scp", "cp").replace("server:", "~/")], cwd=laptop, env=site.environment, check=True)
        environment = {"PATH": f"{ENVIRONMENT}/bin:{os.environ['PATH']}"}
        command = lab.replace("https://server:8890", gate.url).replace("jupyter lab", "exec jupyter lab")
        notebooks = Notebooks(site, ["bash", "-ec", command], environment, laptop)
        try:
            assert set(notebooks.ask("GET", "/api/kernelspecs").json()["kernelspecs"]) == {ISOLATED}
            before, after = [block.replace("https://server:8890", gate.url) for kind, block in pages.blocks(files) if kind == "console"]
            wrong = list(pages.command(site, laptop, before))
            _, channels = begin(notebooks, ISOLATED)
            code = "open('sum.txt', 'w').write(f'{sum(map(int, open(\"staging/in/points.csv\")))}\\n')"
            assert not any(message["header"]["msg_type"] == "error" for message in channels.run(code))
            channels.close()
            wrong += pages.command(site, laptop, after)
            assert wrong == [], "".join(wrong)
        finally:
            notebooks.close()


def test_page_of_a_class(site, authority):
    """The server of the page for teachers: students see the course's data, their own kernels and nobody else's."""
    text = page(site, "course.md").replace("/srv/course", f"{site.root}/course")
    policy, users = (block for kind, block in pages.blocks(text) if kind == "json")
    course = site.root / "course"
    site.put(course, "data/marks.csv", "who,points\n")
    site.put(course, "policy.json", policy)
    for name, what in (("certificate.pem", "localhost.pem"), ("key.pem", "localhost.key")):
        site.put(course, name, (authority / what).read_bytes()).chmod(0o600)
    tokens = [f"{name}-{'0' * 20}" for name in ("alice", "bob", "teacher")]
    for token in tokens:
        users = users.replace("…", token, 1)
    site.put(course, "users.json", users).chmod(0o600)
    site.run("install", "--prefix", str(site.root), "--name", "course", "--python", site.python, "--policy", course / "policy.json", check=True)
    with Background(site, scripts(text)[0].strip()) as gate:

        def ask(token, method, path, **options):
            return requests.request(method, gate.url + path, headers={"Authorization": f"token {token}"}, timeout=60, verify=authority / "ca.pem", **options)

        kernels = [ask(token, "POST", "/api/kernels", json={"name": "course"}).json()["id"] for token in tokens[:2]]
        assert [[kernel["id"] for kernel in ask(token, "GET", "/api/kernels").json()] for token in tokens[:2]] == [kernels[:1], kernels[1:]]
        seen = ask(tokens[2], "GET", "/api/wall/kernels").text
        assert all(kernel in seen for kernel in kernels), seen
        environment = {"JUPYTER_GATEWAY_URL": gate.url, "JUPYTER_GATEWAY_AUTH_TOKEN": tokens[0], "SSL_CERT_FILE": str(authority / "ca.pem")}
        notebooks = Notebooks(site, [PYTHONS["pypi"], "-m", "jupyter_server"], environment)
        try:
            _, channels = begin(notebooks, "course")
            assert gateway.text_of(channels.run("import os\nprint(os.listdir('data'))\nopen('answer.txt', 'w').write('6')")) == "['marks.csv']\n"
            channels.close()
        finally:
            notebooks.close()
        assert (course / "serve/users/alice/default/staging/out/answer.txt").read_text() == "6"
