"""nbclassic, the notebook before JupyterLab, in Chromium: run by `tests/run gallery`.

What carries data out of it from a direct kernel, in its own ways too (inline SVG, modules of comms, its pager), reaches
nobody from behind the wall. CELLWALL_CLASSIC is where tests/requirements-nbclassic.txt is installed.
"""

import json
import os
import subprocess
import sys
import time

import harness
import pytest
from conftest import Lab, notebook
from selenium.webdriver.common.by import By
from test_leaks import PER_CELL, Attacker, Stage
from test_lab import SHOTS, until
from vectors import CLICKED, MARKUP, OTHER, SCRIPTED, WHOLE, html_of, outputs

SHOW = "import json\nfrom IPython.display import display\nfor data in json.loads({!r}): display(data, raw=True)"
OWN = (
    "from comm import create_comm\n"
    "create_comm(target_name='x', target_module='TO/module')\n"
    "create_comm(target_name='jupyter.widget', target_module='TO/widget')\n"
    "page = {'source': 'page', 'data': {'text/html': '<img src=TO/pager>', 'text/plain': 'x'}, 'start': 0}\n"
    "get_ipython().payload_manager.write_payload(page)\n"
    "print('https://printed.KIND.test/ http:printed')"
)
BENIGN = {
    "import pandas as pd; pd.DataFrame({'a': [1, 2]})": "table.dataframe td",
    "%matplotlib inline\nimport matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()": "img[src^='data:image/png']",
    "print('\\x1b[31mred\\x1b[0m')": ".ansi-red-fg",
    "from IPython.display import SVG; SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\"/>')": "img[src^='data:image/svg']",
    "from IPython.display import HTML; HTML('<style>p { color: teal }</style><p>x</p>')": "iframe[sandbox='']",
    "from IPython.display import Latex; Latex('$x^2$')": ".MathJax, .MathJax_Preview",
    "1 / 0": ".output_error, .output_stderr, .ansi-red-fg",
}

# Not heard from a direct kernel here either: what JupyterLab alone has (languages of code, figures of vega), what needs a
# click or a header, names, which are no requests, and media and workers, which its pages load late.
QUIET = {"formula", "language", "vega", "names", "named", "portal", "policy", "rules", "service", "audio", "video", "source", "form", "popup"}


class Classic(Lab):
    """A server with nbclassic, without the headers that cellwall proposes."""

    def __init__(self, site):
        self.site, self.folder = site, site.project()
        config = site.root / "config-classic"
        config.mkdir()
        port = harness.free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        log_path = site.root / "classic.log"
        self.log = open(log_path, "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nbclassic", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
            + ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
            + ["--KernelSpecManager.ensure_native_kernel=False"],
            cwd=self.folder,
            env={**site.environment, "JUPYTER_CONFIG_DIR": str(config), "PYTHONPATH": os.environ["CELLWALL_CLASSIC"]},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        end = time.monotonic() + 60 * harness.PATIENCE
        while True:
            try:
                self.get("/api/status")
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.close()
                    raise RuntimeError(log_path.read_text()[-3000:]) from None
                time.sleep(0.2)


class ClassicStage(Stage):
    def run(self, classic, name, cells, kernel):
        """A notebook of these cells, all of them run."""
        self.close_others()  # what a direct kernel has opened
        classic.site.put(classic.folder, name, notebook(cells, kernel))
        self.browser.get(f"{classic.url}/notebooks/{name}")
        ready = "return !!(window.Jupyter && Jupyter.notebook && Jupyter.notebook.kernel && Jupyter.notebook.kernel.is_connected())"
        until(self.browser, lambda: self.browser.execute_script(ready), 120, "a kernel")
        self.browser.execute_script("Jupyter.notebook.execute_all_cells()")
        ended = "return Jupyter.notebook.get_cells().every(cell => typeof cell.input_prompt_number === 'number')"
        until(self.browser, lambda: self.browser.execute_script(ended), 120, "all cells have run")

    def areas(self):
        return self.browser.find_elements(By.CSS_SELECTOR, ".code_cell .output_wrapper")

    def show(self, classic, kernel, who, whole=True):
        every = outputs(whole)
        parts = [every[at : at + PER_CELL] for at in range(0, len(every), PER_CELL)] + [html_of(dict(enumerate(CLICKED)))]
        cells = [SHOW.format(self.attacker.addressed(who, json.dumps(part))) for part in parts]
        cells.insert(-1, "from IPython.display import display\n" + self.attacker.addressed(who, OWN))
        self.run(classic, f"leaks-{who}.ipynb", cells, kernel)
        for output in self.browser.find_elements(By.CSS_SELECTOR, ".output_area")[::8]:
            self.browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", output)
            time.sleep(0.1)

    def click_everywhere(self):
        for output in self.areas()[-1].find_elements(By.CSS_SELECTOR, ".output_subarea"):
            width, height = int(output.size["width"]), int(output.size["height"])
            for y in range(10, min(height, 60), 16):
                for x in range(10, 240, 40):
                    self.click(output, x - width // 2, y - height // 2)
        time.sleep(2)

    def stays(self, classic):
        return len(self.browser.window_handles) == 1 and "/notebooks/leaks-" in self.browser.current_url.removeprefix(classic.url)


@pytest.fixture(scope="module")
def classic(site):
    classic = Classic(site)
    yield classic
    classic.close()


@pytest.fixture(scope="module")
def stage(site):
    attacker = Attacker()
    stage = ClassicStage(site, attacker, "classic", "chromium")
    yield stage
    stage.browser.quit()
    attacker.shutdown()
    attacker.server_close()
    for one in attacker.ports.values():
        one.close()


def test_a_direct_kernel_leaks(stage, classic):
    stage.show(classic, harness.DIRECT, "direct", whole=False)
    every = set(MARKUP) | set(SCRIPTED) | set(OTHER) | set(WHOLE) | {"module", "widget", "pager"}
    assert stage.waited("direct", every - QUIET) == set()


def test_nothing_leaks_from_behind_the_wall(stage, classic):
    stage.show(classic, harness.ISOLATED, "isolated")
    stage.click_everywhere()
    assert stage.attacker.heard("isolated") == set() and stage.stays(classic)


def test_it_shows_what_others_show(stage, classic):
    stage.run(classic, "benign.ipynb", list(BENIGN), harness.ISOLATED)
    for (code, selector), area in zip(BENIGN.items(), stage.areas(), strict=True):
        until(stage.browser, lambda area=area, selector=selector: area.find_elements(By.CSS_SELECTOR, selector), 30, code)
    (SHOTS / "gallery").mkdir(parents=True, exist_ok=True)
    stage.browser.save_screenshot(str(SHOTS / "gallery" / "classic.png"))
