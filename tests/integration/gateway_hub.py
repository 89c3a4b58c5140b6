"""A JupyterHub with the configuration of its page, each user's kernels behind the wall: run by `tests/run gateway`.

Once with `cellwall serve` as a service of the Hub, once with the kernelspec. CELLWALL_GATEWAY is the environment of
tests/requirements-gateway.txt; the proxy is Debian's configurable-http-proxy.
"""

import contextlib
import os
import pathlib
import subprocess
import time
import uuid

import gateway
import harness
import pages
import pytest
import requests
from harness import ISOLATED

ENVIRONMENT = pathlib.Path(os.environ["CELLWALL_GATEWAY"])
TESTER = uuid.uuid4().hex

# What the page leaves to the Hub's owner: who logs in, how servers start, where they are.
OWN = """
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_port = {hub}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{root}/home-{{username}}"
c.Spawner.args = [*c.Spawner.get("args", []), "--allow-root"]
c.Spawner.environment = {{**c.Spawner.get("environment", {{}}), "JUPYTER_PATH": "{kernels}"}}
for service in c.JupyterHub.services:
    service["environment"] = {{"JUPYTER_PATH": "{kernels}"}}
    service["command"] += ["--runtime", "{root}/run"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 180
c.JupyterHub.services.append({{"name": "tester", "api_token": "{tester}"}})
c.JupyterHub.load_roles.append({{
    "name": "tester", "services": ["tester"],
    "scopes": ["admin:users", "admin:servers", "tokens", "access:servers", "access:services"],
}})
"""


class Hub:
    def __init__(self, site, config):
        self.site, self.root = site, site.project()
        ports = harness.free_ports(4)
        self.url = f"http://127.0.0.1:{ports[0]}"
        config = config.replace(":8890", f":{ports[3]}").replace(":8081", f":{ports[1]}")
        config = config.replace("/usr/local/bin/cellwall", site.cellwall).replace("/srv/cellwall", f"{self.root}/srv")
        kernels = site.environment["JUPYTER_PATH"]
        config += OWN.format(public=ports[0], hub=ports[1], proxy=ports[2], root=self.root, tester=TESTER, kernels=kernels)
        (self.root / "jupyterhub_config.py").write_text("c.JupyterHub.services = []\nc.JupyterHub.load_roles = []\n" + config)
        self.log_path = self.root / "log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [ENVIRONMENT / "bin" / "jupyterhub", "--config", "jupyterhub_config.py"],
                cwd=self.root,
                env={
                    **site.environment,
                    "PATH": f"{ENVIRONMENT}/bin:{site.prefix}/bin:{os.environ['PATH']}",
                    "NODE_PATH": "/usr/share/nodejs",  # for a node that is not Debian's
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def started(self):
        end = time.monotonic() + 60 * harness.PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/hub/api/users").status_code == 200:
                    return True
            time.sleep(0.1)
        return False

    def ask(self, method, path, token=TESTER, **options):
        headers = {"Authorization": f"token {token}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60 * harness.PATIENCE, **options)

    def begin(self, user):
        """The user's server runs; returns a token of the user."""
        assert self.ask("POST", f"/hub/api/users/{user}").status_code == 201
        assert self.ask("POST", f"/hub/api/users/{user}/server").status_code in (201, 202)
        end = time.monotonic() + 120 * harness.PATIENCE
        while not self.ask("GET", f"/hub/api/users/{user}").json()["server"]:
            assert time.monotonic() < end, self.log[-6000:]
            time.sleep(0.2)
        return self.token(user)["token"]

    def token(self, user):
        answer = self.ask("POST", f"/hub/api/users/{user}/tokens", json={"note": "a test"})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def connect(self, user, token, kernel):
        """A WebSocket to a kernel, through the Hub's proxy and the user's server."""
        return Channels(f"{self.url}/user/{user}", token, kernel)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Channels(gateway.Socket):
    def __init__(self, url, token, kernel):
        self.v1, self.session = False, uuid.uuid4().hex
        self.ws = gateway.websocket.create_connection(
            f"{url.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id={self.session}",
            header={"Authorization": f"token {token}"},
            timeout=20 * harness.PATIENCE,
        )


def configuration(site, heading):
    """What the page has for jupyterhub_config.py below a heading."""
    text = (pathlib.Path(site.prefix) / "share/cellwall/doc/hub.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(block for kind, block in pages.blocks(section) if kind == "python")


def start(site, config):
    for _ in range(3):  # a port may be somebody else's by now
        hub = Hub(site, config)
        if hub.started():
            return hub
        hub.close()
    raise AssertionError(hub.log[-6000:])


def run(hub, user, token):
    """A notebook's session in the user's server; returns the kernel's id and its channels."""
    body = {"path": "n.ipynb", "name": "n", "type": "notebook", "kernel": {"name": ISOLATED}}
    answer = hub.ask("POST", f"/user/{user}/api/sessions", token, json=body)
    assert answer.status_code == 201, (answer.text, hub.log[-6000:])
    kernel = answer.json()["kernel"]["id"]
    channels = hub.connect(user, token, kernel)
    assert gateway.text_of(channels.run("print(6 * 7)")) == "42\n"
    return kernel, channels


PRIVATE = """
import os, socket
print([name for name in os.environ if "HUB" in name or "TOKEN" in name])
try:
    socket.create_connection(("127.0.0.1", {port}), 5); print("REACHED")
except OSError as problem:
    print(type(problem).__name__)
"""


def check_wall(hub, channels):
    said = gateway.text_of(channels.run(PRIVATE.format(port=hub.url.rsplit(":", 1)[1])))
    assert said == "[]\nConnectionRefusedError\n", said


def test_gateway_as_a_service(site):
    hub = start(site, configuration(site, "One gateway for all users"))
    try:
        tokens = {user: hub.begin(user) for user in ("anna", "ben")}
        running = {}
        for user, token in tokens.items():
            running[user], channels = run(hub, user, token)
            check_wall(hub, channels)
            channels.close()
        for user, token in tokens.items():
            seen = hub.ask("GET", "/services/cellwall/api/kernels", token).json()
            assert [kernel["id"] for kernel in seen] == [running[user]], seen
        assert hub.ask("GET", f"/services/cellwall/api/kernels/{running['anna']}", tokens["ben"]).status_code == 404
        assert hub.ask("GET", "/services/cellwall/api/kernels", "0" * 32).status_code == 401
        assert hub.ask("POST", f"/user/anna/api/kernels/{running['anna']}/interrupt", tokens["anna"]).status_code == 204

        # The page, with a token of the Hub's: its cookie ends with the token, and so does a WebSocket.
        given, page = hub.token("anna"), requests.Session()
        held = Channels(f"{hub.url}/services/cellwall", given["token"], running["anna"])
        page.headers["Origin"] = hub.url
        assert page.post(f"{hub.url}/services/cellwall/login", json={"token": given["token"]}, timeout=60).status_code == 204

        def me():
            return page.get(f"{hub.url}/services/cellwall/api/me", timeout=60)

        assert me().json()["identity"]["username"] == "anna"
        assert "cellwall" in page.get(f"{hub.url}/services/cellwall/", timeout=60).text
        assert hub.ask("DELETE", f"/hub/api/users/anna/tokens/{given['id']}").status_code == 204
        end = time.monotonic() + 120 * harness.PATIENCE
        while me().status_code == 200:
            assert time.monotonic() < end, "the cookie outlives its token"
            time.sleep(1)
        assert me().status_code == 401
        with pytest.raises(ConnectionError, match="has ended"):
            while True:
                held.receive()
        assert hub.ask("DELETE", "/hub/api/users/anna/server").status_code in (202, 204)
    finally:
        hub.close()


def test_kernelspec_for_all_users(site):
    hub = start(site, configuration(site, "The kernelspec"))
    try:
        for user in ("anna", "ben"):
            token = hub.begin(user)
            specs = hub.ask("GET", f"/user/{user}/api/kernelspecs", token).json()["kernelspecs"]
            assert set(specs) == {ISOLATED}, specs
            _, channels = run(hub, user, token)
            check_wall(hub, channels)
            channels.run(f"open('made.txt', 'w').write('of {user}')")
            out = hub.root / f"home-{user}" / "staging" / "out" / "made.txt"
            assert out.read_text() == f"of {user}"
            channels.close()
    finally:
        hub.close()
