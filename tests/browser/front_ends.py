"""JupyterLab 4 and Notebook 7 in Chromium, their kernels behind --gateway-url, and the page of a Hub's service: run by
`tests/run gateway`.

Each front end is the server of one user, with a token of hers, and reaches `cellwall serve` over TLS through a port that the
test can cut. CELLWALL_GATEWAY is the environment of tests/requirements-gateway.txt.
"""

import json
import os
import pathlib
import subprocess
import time
import urllib.request

import pytest
import requests
from conftest import notebook, start_browser
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.ui import WebDriverWait
from test_lab import command, current, dismiss, find, kernel_status, shot, until

import gateway_hub
import harness
import serving
import wire

ENVIRONMENT = pathlib.Path(os.environ["CELLWALL_GATEWAY"])
CUT = 20  # seconds
FIRST, LINES = 50, 400  # of a cell that prints ten a second; the cut begins after the first

NOTEBOOKS = {
    "work": [
        "import pathlib, matplotlib.pyplot as plt\nprint(sorted(p.name for p in pathlib.Path('staging/in').iterdir()))",
        "plt.figure(figsize=(4, 2)); plt.plot([x * x for x in range(50)]); plt.show()",
        "print('all cells ran', 6 * 7)",
    ],
    "control": ["x = 5\nprint('x is set')", "import time\ntime.sleep(300)", "print('x' in globals())"],
    **dict.fromkeys(
        ("refuse", "silence", "lose"),
        [
            f"import time\nfor i in range({LINES}):\n    print(i, flush=True)\n    time.sleep(0.1)",
            "print('after', 6 * 7)",
        ],
    ),
}


class FrontEnd:
    """A Jupyter server of one user, and where it shows a notebook."""

    def __init__(self, site, name, module, path, user, gateway_url, certificate):
        self.name, self.path, self.user = name, path, user
        self.folder = site.project()
        for title, cells in NOTEBOOKS.items():
            site.put(self.folder, f"{title}.ipynb", notebook(cells, harness.ISOLATED))
        settings, runtime, config = (site.root / f"{name}-{what}" for what in ("settings", "runtime", "config"))
        for directory in (runtime, config):
            directory.mkdir(mode=0o700)
        site.put(
            settings,
            "@jupyterlab/apputils-extension/notification.jupyterlab-settings",
            '{"fetchNews": "false", "checkForUpdates": false}',
        )
        self.log_path = site.root / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [ENVIRONMENT / "bin" / "python", "-m", module, "--no-browser", "--allow-root", "--ip=127.0.0.1"]
                + [f"--port={harness.free_ports(1)[0]}", f"--gateway-url={gateway_url}"]
                + ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"]
                + ["--JupyterNotebookApp.expose_app_in_browser=True"],
                cwd=self.folder,
                env={
                    **site.environment,
                    "JUPYTER_GATEWAY_AUTH_TOKEN": serving.TOKENS[user],
                    "SSL_CERT_FILE": str(certificate),
                    "JUPYTERLAB_SETTINGS_DIR": str(settings),
                    "JUPYTER_RUNTIME_DIR": str(runtime),
                    "JUPYTER_CONFIG_DIR": str(config),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = self._wait(runtime)

    def _wait(self, runtime):
        """It may have taken another port than the one it was asked for; its file says which."""
        end = time.monotonic() + 60 * harness.PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            for path in runtime.glob("jpserver-*.json"):
                try:
                    url = json.loads(path.read_text())["url"].rstrip("/")
                    urllib.request.urlopen(f"{url}/api/status", timeout=10).close()
                    return url
                except (OSError, ValueError):
                    pass
            time.sleep(0.1)
        raise RuntimeError(self.log_path.read_text()[-3000:])

    def kernels(self):
        return {kernel["id"] for kernel in requests.get(f"{self.url}/api/kernels", timeout=60).json()}

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def gateway(site):
    users = {name: {"token": serving.TOKENS[name]} for name in ("anna", "ben")}
    server = serving.Server(site, "--self-signed", listen=("https://127.0.0.1:0",), users=users)
    for user in users:
        site.put(server.root / "data" / "users" / user / "default", f"staging/in/of-{user}.csv", "x\n")
    yield server
    server.close()


@pytest.fixture(scope="module")
def cable(gateway):
    cable = wire.Wire(gateway.port())
    yield cable
    cable.close()


@pytest.fixture(scope="module")
def fronts(site, gateway, cable):
    """JupyterLab is Anna's, Notebook is Ben's."""
    started = {}

    def get(name):
        if name not in started:
            module, path, user = {"lab": ("jupyterlab", "/lab/tree/", "anna"), "notebook": ("notebook", "/notebooks/", "ben")}[name]
            certificate = gateway.root / "data" / "tls" / "certificate.pem"
            url = f"https://localhost:{cable.port}"
            started[name] = FrontEnd(site, name, module, path, user, url, certificate)
        return started[name]

    yield get
    for front in started.values():
        front.close()


@pytest.fixture(params=("lab", "notebook"))
def front(request, fronts):
    return fronts(request.param)


@pytest.fixture(scope="module")
def browser(site):
    browser = start_browser(site, "chromium")
    yield browser
    browser.quit()


def open_notebook(browser, front, title):
    browser.get(f"{front.url}{front.path}{title}.ipynb?reset")
    until(browser, lambda: browser.execute_script("return !!window.jupyterapp"), what=f"{front.name} {title} the page")
    until(browser, lambda: current(browser), what=f"{front.name} {title} opened")
    until(browser, lambda: kernel_status(browser) == "idle", what=f"{front.name} {title} an idle kernel")
    dismiss(browser)


def run_cell(browser, index):
    browser.execute_script("window.jupyterapp.shell.currentWidget.content.activeCellIndex = arguments[0]", index)
    command(browser, "notebook:run-cell")


def test_run_and_plot(browser, front):
    open_notebook(browser, front, "work")
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: "all cells ran 42" in current(browser)[-1]["text"], 120, f"{front.name} the last output")
    cells = current(browser)
    assert cells[0]["text"].strip() == f"['of-{front.user}.csv']"
    source, width = cells[1]["images"][0]
    assert source.startswith("data:image/png;base64,") and width > 100
    browser.execute_script("document.querySelector('.jp-OutputArea-output img').scrollIntoView({block: 'center'})")
    shot(browser, f"gateway-{front.name}")


def test_interrupt_and_restart(browser, front):
    open_notebook(browser, front, "control")
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: "x is set" in current(browser)[0]["text"], what="the first cell")
    until(browser, lambda: "[*]" in current(browser)[1]["prompt"] and kernel_status(browser) == "busy", what="the sleep")
    command(browser, "notebook:interrupt-kernel")
    until(browser, lambda: "KeyboardInterrupt" in current(browser)[1]["text"], 30, "the interrupt")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    before = front.kernels()
    command(browser, "notebook:restart-kernel")
    until(browser, lambda: find(browser, ".jp-Dialog .jp-mod-accept"), 30, "the question")
    find(browser, ".jp-Dialog .jp-mod-accept")[-1].click()
    until(browser, lambda: not find(browser, ".jp-Dialog"), 30, "the answer")
    until(browser, lambda: "[ ]" in current(browser)[0]["prompt"] or kernel_status(browser) == "idle", 60, "the restart")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel after the restart")
    run_cell(browser, 2)
    until(browser, lambda: "False" in current(browser)[2]["text"], 60, "the cell after the restart")
    assert front.kernels() == before


@pytest.mark.parametrize("name, cut", (("lab", "refuse"), ("notebook", "silence"), ("lab", "lose"), ("notebook", "lose")))
def test_network_is_cut(browser, fronts, cable, name, cut):
    """Twenty seconds in the middle of a cell that prints: every line is there, in its place.

    A silence is over when TCP sends again what it has kept: nothing comes twice. Of what a connection that ends has on its way
    nobody can say whether it arrived; it is sent again. Neither can they when what was sent in a silence is lost and the
    connection is dead afterwards."""
    open_notebook(browser, fronts(name), cut)
    run_cell(browser, 0)
    until(browser, lambda: len(current(browser)[0]["text"].split()) >= FIRST, 60, "the first lines")
    try:
        getattr(cable, cut)()
        time.sleep(CUT)
        assert len(current(browser)[0]["text"].split()) < LINES / 2, "nothing was cut"
    finally:
        cable.restore()
    until(browser, lambda: f"{LINES - 1}" in current(browser)[0]["text"].split(), 120, f"{name} the last line")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel after the cut")
    lines = [int(line) for line in current(browser)[0]["text"].split()]
    twice = len(lines) - LINES
    how = {"refuse": "ended", "silence": "silent", "lose": "silent and then dead, packets lost,"}[cut]
    harness.figure(f"{name}, connections {how} for {CUT} s under flowing output: {twice} of {LINES} lines came twice")
    assert 0 <= twice <= (0 if cut == "silence" else LINES / 10), lines
    at = next((n for n in range(1, len(lines)) if lines[n] != lines[n - 1] + 1), 0)  # where it goes on anew
    assert lines == list(range(at)) + list(range(at - twice, LINES)) if twice else lines == list(range(LINES))
    run_cell(browser, 1)
    until(browser, lambda: "after 42" in current(browser)[1]["text"], 60, f"{name} the cell after the cut")


def test_two_users_do_not_see_each_other(fronts, gateway):
    seen = {name: fronts(name).kernels() for name in ("lab", "notebook")}
    assert seen["lab"] and seen["notebook"] and not seen["lab"] & seen["notebook"], seen
    ask = requests.Session()
    ask.verify = str(gateway.root / "data" / "tls" / "certificate.pem")
    ask.headers.update(serving.bearer("ben"))
    url = gateway.url.replace("127.0.0.1", "localhost")
    for kernel in seen["lab"]:
        assert ask.get(f"{url}/api/kernels/{kernel}", timeout=60).status_code == 404
        for method, path in (("POST", "/interrupt"), ("POST", "/restart"), ("DELETE", "")):
            assert ask.request(method, f"{url}/api/kernels/{kernel}{path}", timeout=60).status_code == 404
    assert fronts("lab").kernels() == seen["lab"]


def test_the_page_of_a_hubs_service(site):
    """Below the Hub's prefix, through its proxy, with a token that the Hub gave: nothing is asked for anywhere else."""
    hub = gateway_hub.start(site, gateway_hub.configuration(site, "One gateway for all users"))
    page = None
    try:
        assert hub.ask("POST", "/hub/api/users/anna").status_code == 201
        token, below = hub.token("anna")["token"], f"{hub.url}/services/cellwall/"
        answer = hub.ask("POST", "/services/cellwall/api/kernels", token, json={"name": harness.ISOLATED})
        assert answer.status_code == 201, answer.text
        kernel = answer.json()["id"]
        page = start_browser(site, "hub")
        page.get(below)
        page.execute_script("window.violations = []; document.addEventListener('securitypolicyviolation', event => violations.push(event.blockedURI))")
        until(page, lambda: page.switch_to.active_element.get_attribute("id") == "token", what="the question for a token")
        page.switch_to.active_element.send_keys(token, Keys.ENTER)

        def says(selector, words):
            until(page, lambda: words in page.find_element("css selector", selector).text, 60, f"{words} in {selector}")

        says("#who", "anna")
        says("#list", kernel[:8])
        says("#list", "idle")
        page.find_element("css selector", "#list button").click()
        says("#lines", "launch")
        says("#may", "staging/in")
        page.find_element("css selector", "#list .danger").click()
        WebDriverWait(page, 60).until(alert_is_present()).accept()
        says("#past-title", "Ended: 1")
        shot(page, "gateway-hub-page")
        asked = page.execute_script("return performance.getEntries().filter(one => ['resource', 'navigation'].includes(one.entryType)).map(one => one.name)")
        assert len(asked) > 5 and all(url.startswith(below) for url in asked), asked
        assert page.execute_script("return violations") == []
        page.find_element("id", "leave").click()
        until(page, lambda: page.find_element("id", "token").is_displayed(), what="the end of the login")
        assert page.execute_script("return fetch('api/me').then(answer => answer.status)") == 401
    finally:
        if page:
            page.quit()
        hub.close()
