"""Outputs that carry data out, in a real JupyterLab, in Chromium and in Firefox: a direct kernel's reach the attacker,
the same ones from behind the wall do not.

The attacker has an HTTP server and ports for what is not HTTP (WebRTC, WebTransport, connections alone); the browser's own
log of name look-ups stands for his DNS server. The notebook server is without the headers that cellwall proposes, but
where they are what is tried.
"""

import contextlib
import json
import re
import socket
import time

import harness
import pytest
from conftest import Lab, notebook, start_browser
from firefox import Firefox
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from test_headers import Listener
from test_lab import command, current, find, open_notebook, shot, until
from vectors import CLICKED, MARKUP, OTHER, SCRIPTED, WHOLE, html_of, outputs

PORTS = {
    "stun": socket.SOCK_DGRAM,
    "transport": socket.SOCK_DGRAM,
    "turn": socket.SOCK_STREAM,
    "preconnect": socket.SOCK_STREAM,
}
# Not heard from a direct kernel either: a pop-up needs a click, an SVG is a picture, what no browser has (any more), what
# only a header can ask for, and names, which are no requests.
QUIET = {"form", "popup", "svgimage", "portal", "policy", "rules", "names", "named"}
QUIET_IN = {
    "chromium": set(),
    # Unknown, switched off, not from what JupyterLab puts into its page, and dropped when something else begins to load.
    "firefox": {"later", "pinged", "refresh", "prefetch", "hint"},
}
PER_CELL = 40  # JupyterLab shows 50 outputs of a cell
# The names that are looked up for a direct kernel.
NAMES = {
    "chromium": {"dns-prefetch", "preconnect", "script", "stun"},
    "firefox": {"dns-prefetch", "preconnect", "script", "stun", "anchor", "printed"},
}


class Attacker(Listener):
    """Knows who shows it by what is asked for."""

    def __init__(self):
        super().__init__()
        self.ports, self.found = {}, {}

    def port(self, kind, name):
        """A port of its own for each."""
        if (kind, name) not in self.ports:
            one = self.ports[kind, name] = socket.socket(socket.AF_INET, PORTS[name])
            one.bind(("127.0.0.1", 0))
            one.settimeout(0.05)
            if PORTS[name] == socket.SOCK_STREAM:
                one.listen()
        return self.ports[kind, name].getsockname()[1]

    def addressed(self, kind, text):
        """`text` with this attacker's addresses in it."""
        text = re.sub(r"PORT-(\w+)", lambda match: str(self.port(kind, match[1])), text)
        return text.replace("TO/", f"{self.url}/{kind}-").replace("KIND", kind)

    def heard(self, kind):
        """What reached it from this kernel's outputs so far."""
        found = self.found.setdefault(kind, set())
        found |= {match[1] for path in list(self.asked) if (match := re.match(rf"/{kind}-(\w+)", path))}
        for (whose, name), one in self.ports.items():
            with contextlib.suppress(TimeoutError):
                if whose == kind and (one.accept() if PORTS[name] == socket.SOCK_STREAM else one.recv(2048)):
                    found.add(name)
        return found


class Stage:
    """A browser, its log of names, and the attacker."""

    def __init__(self, site, attacker, name, kind):
        self.attacker, self.kind = attacker, kind
        self.names = site.root / f"{name}.names"
        if kind == "firefox":
            self.browser = Firefox(site.root / name, self.names, site.environment)
            self.names = site.root / f"{name}.names.moz_log"
        else:
            self.browser = start_browser(site, name, f"--log-net-log={self.names}")

    def show(self, lab, kernel, who, whole=True):
        """All outputs, in a notebook of its own."""
        self.close_others()
        every = outputs(whole)
        parts = [every[at : at + PER_CELL] for at in range(0, len(every), PER_CELL)] + [html_of(dict(enumerate(CLICKED)))]
        show = "import json\nfrom IPython.display import display\nfor data in json.loads({!r}): display(data, raw=True)"
        cells = [show.format(self.attacker.addressed(who, json.dumps(part))) for part in parts]
        cells[0] = f"print('https://printed.{who}.test/')\n{cells[0]}"
        lab.site.put(lab.folder, f"service-{who}.js", f"fetch('{self.attacker.url}/{who}-service', {{mode: 'no-cors'}})")
        lab.site.put(lab.folder, f"leaks-{who}.ipynb", notebook(cells, kernel))
        open_notebook(self.browser, lab, f"leaks-{who}.ipynb")
        command(self.browser, "notebook:run-all-cells")
        last = f"[{len(cells)}]:"
        until(self.browser, lambda: current(self.browser)[-1]["prompt"].strip() == last, 120, f"all outputs {who}")
        for output in find(self.browser, ".jp-OutputArea-output")[::8]:
            self.browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", output)
            time.sleep(0.1)

    def waited(self, who, wanted):
        """What did not reach the attacker in time."""
        end = time.monotonic() + 90
        while wanted - self.attacker.heard(who) and time.monotonic() < end:
            time.sleep(0.2)
        return wanted - self.attacker.heard(who)

    def click(self, element, x=0, y=0):
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser, duration=0).move_to_element_with_offset(element, x, y).click().perform()

    def click_everywhere(self):
        """All of what is to be clicked, by the mouse."""
        area = self.browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell")[-1]
        shown = area.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output")
        assert len(shown) == len(CLICKED) and shown[1].find_elements(By.TAG_NAME, "iframe")
        shot(self.browser, f"7-links-behind-the-wall-{self.kind}")
        for output in shown:
            width, height = int(output.size["width"]), int(output.size["height"])
            for y in range(10, min(height, 60), 16):
                for x in range(10, 240, 40):
                    self.click(output, x - width // 2, y - height // 2)
        # A link that is drawn out of the frame and dropped on the page.
        output, page = shown[1], self.browser.find_element(By.CSS_SELECTOR, ".jp-Notebook")
        drag = ActionChains(self.browser).move_to_element_with_offset(output, 20 - width // 2, 16 - height // 2)
        drag.click_and_hold().move_by_offset(5, 5).move_to_element(page).release().perform()
        time.sleep(2)

    def stays(self, lab):
        """Nothing was opened or sent elsewhere."""
        return len(self.browser.window_handles) == 1 and self.browser.current_url.startswith(lab.url + "/lab")

    def close_others(self):
        first, *others = self.browser.window_handles
        for handle in others:
            self.browser.switch_to.window(handle)
            self.browser.close()
        self.browser.switch_to.window(first)


@pytest.fixture(scope="module")
def attacker():
    attacker = Attacker()
    yield attacker
    attacker.shutdown()
    attacker.server_close()
    for one in attacker.ports.values():
        one.close()


@pytest.fixture(scope="module")
def plain(site):
    """A server without the headers."""
    lab = Lab(site, headers=False)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def interactive(site):
    return site.variant("--policy", site.policy({"outputs": {"mode": "interactive"}}))


@pytest.fixture(scope="module", params=("chromium", "firefox"))
def stage(request, site, attacker):
    stage = Stage(site, attacker, f"leaks-{request.param}", request.param)
    yield stage
    with contextlib.suppress(WebDriverException, OSError):
        stage.browser.quit()


def test_a_direct_kernel_leaks(stage, plain):
    who = f"{stage.kind}-direct"
    stage.show(plain, harness.DIRECT, who, whole=False)
    stage.close_others()  # what is behind another window loads no media
    every = set(MARKUP) | set(SCRIPTED) | set(OTHER) | set(WHOLE)
    assert stage.waited(who, every - QUIET - QUIET_IN[stage.kind]) == set()
    for text in ("bbbb", "eeee"):
        stage.click(stage.browser.find_element(By.LINK_TEXT, text))
    stage.click(find(stage.browser, ".jp-OutputArea-output form button")[0])
    assert stage.waited(who, {"bbbb", "ping", "pinged", "posted"} - QUIET_IN[stage.kind]) == set()


def test_nothing_leaks_from_behind_the_wall(stage, plain):
    who = f"{stage.kind}-isolated"
    stage.show(plain, harness.ISOLATED, who)
    stage.click_everywhere()
    assert stage.attacker.heard(who) == set() and stage.stays(plain)


@pytest.mark.skipif(not harness.SLOW, reason="tests/run leaks")
def test_scripts_of_outputs_make_no_request(stage, plain, interactive):
    """In mode interactive. What is no request (WebRTC, connections, names) is for the headers to stop."""
    who = f"{stage.kind}-interactive"
    stage.show(plain, interactive, who)
    stage.click_everywhere()
    assert stage.attacker.heard(who) - set(PORTS) == set() and stage.stays(plain)


def test_names_that_were_looked_up(stage):
    stage.browser.quit()  # its log is written to the end
    log = stage.names.read_text(errors="replace")
    seen = {name for name in NAMES["firefox"] if f"{name}.{stage.kind}-direct.test" in log}
    assert seen == NAMES[stage.kind]
    assert f"{stage.kind}-isolated.test" not in log


@pytest.mark.skipif(not harness.SLOW, reason="tests/run leaks")
def test_with_the_headers_scripts_of_outputs_reach_nobody(site, lab, attacker, interactive):
    stage = Stage(site, attacker, "headers-chromium", "chromium")
    try:
        stage.show(lab, interactive, "headers")
        stage.click_everywhere()
        assert attacker.heard("headers") == set() and stage.stays(lab)
    finally:
        stage.browser.quit()
    assert "headers.test" not in stage.names.read_text(errors="replace")
