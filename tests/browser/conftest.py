"""JupyterLab in headless browsers with the isolated kernel installed, in a home of its own."""

import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import pytest
from firefox import Firefox
from selenium import webdriver

TESTS = pathlib.Path(os.environ.get("CELLWALL_TESTS", pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(TESTS / "integration"))

import harness  # noqa: E402
import processes  # noqa: E402
from sharing import pytest_runtest_protocol as pytest_runtest_protocol  # noqa: E402, PLC0414

SAMPLE = [
    "%matplotlib inline\nimport pandas as pd, matplotlib.pyplot as plt\nprint('imports done')",
    "frame = pd.read_csv('staging/in/points.csv'); frame.head()",
    "plt.figure(figsize=(4, 2)); plt.plot(frame.x, frame.y); plt.title('read from staging'); plt.show()",
    "frame.describe().to_csv('summary.csv')\n"
    "import socket\n"
    "try:\n"
    "    socket.create_connection(('127.0.0.1', {port}), 2); print('REACHED')\n"
    "except OSError as problem:\n"
    "    print('blocked:', type(problem).__name__)",
    "print('all cells ran', 6 * 7)",
]


def notebook(cells, kernel):
    return json.dumps(
        {
            "cells": [
                {
                    "cell_type": "code",
                    "execution_count": None,
                    "id": f"c{n}",
                    "metadata": {},
                    "outputs": [],
                    "source": source,
                }
                for n, source in enumerate(cells)
            ],
            "metadata": {
                "kernelspec": {"name": kernel, "display_name": "Python 3 (isolated)", "language": "python"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


class Lab:
    def __init__(self, site, headers=True):
        """With the headers that cellwall proposes, or a server as it comes."""
        self.site = site
        self.since = processes.now_ticks()
        self.folder = site.project()
        self.port = harness.free_ports(1)[0]
        points = "x,y\n" + "".join(f"{x},{x * x}\n" for x in range(50))
        site.put(self.folder, "staging/in/points.csv", points)
        site.put(
            self.folder,
            "sample.ipynb",
            notebook([c.replace("{port}", str(self.port)) for c in SAMPLE], harness.ISOLATED),
        )
        site.put(
            self.folder,
            "control.ipynb",
            notebook(
                [
                    "x = 5\nprint('x is set')",
                    "import time\nprint('asleep', flush=True)\ntime.sleep(300)",
                    "print('x' in globals())",
                    "import os\nos.symlink('/etc/passwd', 'alink')",
                ],
                harness.ISOLATED,
            ),
        )
        site.put(
            site.root,
            "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings",
            '{"fetchNews": "false", "checkForUpdates": false}',
        )
        config = site.root / ("config-headers" if headers else "config-plain")
        config.mkdir()
        if headers:
            site.run("install", f"--server-config={config}", check=True)
        self.log = open(site.root / f"lab-{self.port}.log", "wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                "--ServerApp.port_retries=0",
                "--IdentityProvider.token=",
                "--ServerApp.password=",
                "--ServerApp.disable_check_xsrf=True",
                "--KernelSpecManager.ensure_native_kernel=False",
                "--expose-app-in-browser",
            ],
            cwd=self.folder,
            env={
                **site.environment,
                "JUPYTERLAB_SETTINGS_DIR": str(site.root / "settings"),
                "JUPYTER_CONFIG_DIR": str(config),
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.url = f"http://127.0.0.1:{self.port}"
        end = time.monotonic() + 60 * harness.PATIENCE
        while True:
            try:
                self.get("/api/status")
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.close()
                    raise RuntimeError((site.root / f"lab-{self.port}.log").read_text()[-3000:]) from None
                time.sleep(0.2)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def site():
    site = harness.Site()
    os.chdir(site.root)
    yield site
    os.chdir("/")
    site.close()


@pytest.fixture(scope="session")
def lab(site):
    lab = Lab(site)
    yield lab
    lab.close()


def start_browser(site, name, *more):
    """Headless Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-extensions",
        "--no-first-run",
        "--window-size=1300,1000",
        f"--user-data-dir={site.root / name}",
        *more,
    ):
        options.add_argument(flag)
    service = webdriver.ChromeService(
        "/usr/bin/chromedriver", log_output=str(site.root / f"{name}.log"), env=site.environment
    )
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_script_timeout(60)
    return browser


@pytest.fixture(scope="session")
def browser(site, lab):
    browser = start_browser(site, "chromium")
    yield browser
    browser.quit()


@pytest.fixture(scope="session")
def firefox(site, lab):
    browser = Firefox(site.root / "firefox", site.root / "firefox.names", site.environment)
    yield browser
    browser.quit()


@pytest.fixture(params=("chromium", "firefox"))
def either(request):
    """A browser, and its name."""
    return request.getfixturevalue("firefox" if request.param == "firefox" else "browser"), request.param
