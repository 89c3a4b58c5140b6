"""The page of `cellwall serve` in a headless browser: by keyboard, as a screen reader hears it, narrow and wide, light and dark.

In Chromium; in Firefox with CELLWALL_BROWSER=firefox (`tests/run gallery`)."""

import os
import pathlib
import time

import gateway
import harness
import pytest
import requests
from conftest import start_browser
from firefox import Firefox
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.ui import WebDriverWait
from serving import TOKENS, Server, bearer
from wire import Wire

gateway.TOKENS.update(TOKENS)
ATTEMPT = "import socket\ntry:\n    socket.create_connection(('93.184.216.34', 4321), 1)\nexcept OSError as problem:\n    print(type(problem).__name__)"
LONG = "a-name-without-an-end-" * 9 + ".csv"
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', event => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Page:
    """In one of the browsers below, each of which has `browser`, look(), nodes() and drop()."""

    def __init__(self, site, server, wire):
        self.server, self.url = server, f"http://127.0.0.1:{wire.port}"
        self.downloads = site.root / "downloads"
        self.downloads.mkdir()
        self.start(site)
        self.open()

    def open(self):
        self.browser.get(self.url + "/")
        self.wait("return !document.getElementById('login').hidden || !document.getElementById('kernels').hidden", True)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def wait(self, script, wanted=None):
        """What the script returns, once that is `wanted`, or something."""
        end = time.monotonic() + 60 * harness.PATIENCE
        while True:
            value = self.run(script)
            if value == wanted if wanted is not None else value:
                return value
            assert time.monotonic() < end, (script, value, wanted, self.text("main"))
            time.sleep(0.05)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def until(self, selector, words):
        end = time.monotonic() + 60 * harness.PATIENCE
        while words not in self.text(selector):
            assert time.monotonic() < end, (words, self.text(selector))
            time.sleep(0.05)

    def keys(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self):
        return self.run("const one = document.activeElement; return one.ariaLabel || one.id || one.textContent")

    def tab_to(self, begin):
        for _ in range(60):
            if self.focused().startswith(begin):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"{begin} cannot be reached by Tab")

    def press(self, begin, confirm=False):
        self.tab_to(begin)
        self.keys(Keys.ENTER)
        if confirm:
            WebDriverWait(self.browser, 60).until(alert_is_present()).accept()

    def login(self, user):
        self.tab_to("token")
        self.keys(TOKENS[user], Keys.ENTER)
        self.wait("return document.getElementById('login').hidden")

    def begin(self, user, kernel=None):
        """Anew, as this user, with the details of this kernel."""
        self.look(1400, "light")
        self.open()
        if self.run("return document.getElementById('login').hidden") and not self.text("#who").startswith(user):
            self.logout()
        if not self.run("return document.getElementById('login').hidden"):
            self.login(user)
        if kernel:
            self.until("#list", kernel[:8])
            self.press("Details and log of isolated")
            self.until("#lines", "launch")
            self.run("for (const id of ['more', 'past']) document.getElementById(id).open = true")

    def logout(self):
        self.press("leave")
        self.wait("return !document.getElementById('login').hidden")

    def shot(self, name):
        shots = pathlib.Path(os.environ.get("CELLWALL_SHOTS", "/nowhere"))
        if shots.is_dir():
            self.browser.save_screenshot(str(shots / f"page-{NAME}-{name}.png"))


class InChromium(Page):
    def start(self, site):
        self.browser = start_browser(site, "page")
        self.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(self.downloads)})

    def look(self, width, scheme):
        """As on a screen of this width, in this scheme."""
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def nodes(self):
        """Of the accessibility tree: (role, name), as a screen reader has them."""
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def drop(self, file):
        where = self.run("document.getElementById('drop').scrollIntoView({block: 'center'}); const box = document.getElementById('drop').getBoundingClientRect(); return [box.x + 9, box.y + 9]")
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": where[0], "y": where[1], "data": {"items": [], "files": [str(file)], "dragOperationsMask": 1}}
            self.browser.execute_cdp_cmd("Input.dispatchDragEvent", event)


# What Firefox calls what ARIA names otherwise.
ROLES = {"pushbutton": "button", "entry": "textbox", "checkbutton": "checkbox"}
# The tree of the page, as Firefox gives it to a screen reader.
TREE = """
const service = Cc["@mozilla.org/accessibilityService;1"].getService(Ci.nsIAccessibilityService);
const found = [];
function walk(one) {
  let role = service.getStringRole(one.role);
  try { role = one.attributes.getStringProperty("xml-roles").split(" ")[0]; } catch {}
  found.push([role, one.name || ""]);
  for (let child = one.firstChild; child; child = child.nextSibling) walk(child);
}
const top = service.getAccessibleFor(gBrowser.selectedBrowser);
if (top) walk(top);
return found;
"""


class InFirefox(Page):
    def start(self, site):
        downloads = {"browser.download.folderList": 2, "browser.download.dir": str(self.downloads), "browser.download.alwaysOpenPanel": False}
        self.browser = Firefox(site.root / "page", site.root / "page.names", site.environment, preferences=downloads)
        self.browser.in_the_window("resizeTo(1500, 1100)")

    def open(self):
        super().open()
        self.run(WATCH)

    def keys(self, *keys):
        super().keys(*keys)
        if keys == (Keys.TAB,) and not self.run("return document.hasFocus()"):  # on to the window's own buttons: back
            self.browser.in_the_window("gBrowser.selectedBrowser.focus()")

    def look(self, width, scheme):
        self.browser.in_the_window("gBrowser.selectedBrowser.style.cssText = `max-width: ${arguments[0]}px; min-height: 900px; max-height: 900px`", width)
        self.browser.in_the_window("Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', arguments[0])", int(scheme == "light"))
        self.wait(f"return innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches")

    def nodes(self):
        end = time.monotonic() + 60 * harness.PATIENCE
        while len(nodes := self.browser.in_the_window(TREE)) < 20:  # it comes when it is asked for
            assert time.monotonic() < end, nodes
            time.sleep(0.1)
        return [(ROLES.get(role, role), name) for role, name in nodes]

    def drop(self, file):
        self.run(
            """
            const data = new DataTransfer();
            data.items.add(new File([arguments[1]], arguments[0]));
            for (const kind of ['dragenter', 'dragover', 'drop']) document.getElementById('drop').dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
            """,
            file.name,
            file.read_text(),
        )


NAME = os.environ.get("CELLWALL_BROWSER", "chromium")


@pytest.fixture(scope="module")
def server(site):
    with Server(site) as server:
        yield server


@pytest.fixture(scope="module")
def wire(server):
    """Between the browser and the server."""
    wire = Wire(server.port())
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def page(site, server, wire):
    page = {"chromium": InChromium, "firefox": InFirefox}[NAME](site, server, wire)
    yield page
    assert page.run("return violations") == []
    page.browser.quit()


def start(server, user="anna"):
    answer = requests.post(f"{server.url}/api/kernels", json={"name": "isolated"}, headers=bearer(user), timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def kernel(server):
    return start(server)


@pytest.fixture(scope="module")
def ended(server):
    kernel = start(server)
    assert requests.delete(f"{server.url}/api/kernels/{kernel}", headers=bearer("anna"), timeout=60).status_code == 204


@pytest.fixture(scope="module")
def staged(server):
    for name in (LONG, "späße & more.csv"):
        assert requests.put(f"{server.url}/api/areas/default/in/{name}", data=b"1", headers=bearer("anna"), timeout=30).status_code == 201


def row(kernel):
    return f"[...document.querySelectorAll('#list li')].find(item => item.textContent.includes('{kernel[:8]}'))"


def test_a_token_is_asked_for(page, kernel):
    page.open()
    assert page.focused() == "token"
    page.keys("w" * 20, Keys.ENTER)
    page.until("#login-error", "This is no token")
    assert ("alert", "") in page.nodes() and page.run("return document.getElementById('kernels').hidden")
    page.shot("login")
    page.login("ben")
    page.until("#kernels", "No kernel is running")
    page.until("#areas", "in this area yet")
    assert kernel[:8] not in page.text("main")
    page.shot("empty")
    page.logout()
    assert page.run("return document.cookie") == ""


def test_what_a_kernel_may_and_did(page, server, kernel):
    page.begin("anna")
    page.until("#list", kernel[:8])
    page.until("#list", "idle")
    words = page.text("#list")
    assert "anna\u00a0· area default" in words and "MB" in words and "nobody is connected" in words
    client = gateway.Socket(server, kernel, "anna", True, "page", "test")
    try:
        client.run(ATTEMPT)  # the page shows it without being asked
        page.wait(f"const one = {row(kernel)}.querySelector('.bad'); return one && one.innerText.includes('just now')", True)
        assert page.wait(f"return Number({row(kernel)}.querySelectorAll('.figures dd')[4].textContent.split(' ')[0])") >= 1
        client.run("import time\nwhile time.process_time() < 1.5: pass")
        page.wait(f"return parseFloat({row(kernel)}.querySelectorAll('.figures dd')[2].textContent) >= 1.4", True)
        page.press("Details and log of isolated")
        page.until("#lines", "93.184.216.34:4321")
        page.wait("return document.activeElement.id", "detail")
        may = page.text("#may")
        assert "Network\nNone" in may and "staging/in" in may and "Static: no script runs" in may
        assert page.run("return document.getElementById('held').textContent.includes('system-call-filter')")
        page.shot("details")
        page.tab_to("words")
        page.keys("4321")
        page.wait("return [...document.querySelectorAll('#lines tr')].length > 0 && [...document.querySelectorAll('#lines tr')].every(line => line.innerText.includes('4321'))", True)
        page.keys("-nothing-has-this")
        page.wait("return document.getElementById('none').hidden", False)
        page.keys(*[Keys.BACKSPACE] * 30)
        page.until("#lines", "launch")
        page.tab_to("blocked")
        page.keys(Keys.SPACE)
        page.wait("return [...document.querySelectorAll('#lines tr')].every(line => line.className === 'blocked')", True)
        page.keys(Keys.ESCAPE)
        assert page.run("return document.getElementById('detail').hidden") and page.focused().startswith("Details")
    finally:
        client.close()


def test_a_kernel_is_interrupted_restarted_and_stopped(page, server, kernel):
    page.begin("anna")
    client = gateway.Socket(server, kernel, "anna", True, "page", "test")
    try:
        page.wait(f"return {row(kernel)}?.querySelector('.state').textContent", "idle")
        client.send("execute_request", {"code": "import time\ntime.sleep(600)", "silent": False})
        page.wait(f"return {row(kernel)}.querySelector('.state').textContent", "busy")
        page.press("Interrupt isolated of anna")
        page.wait(f"return {row(kernel)}.querySelector('.state').textContent", "idle")
        page.press("Restart isolated of anna", confirm=True)
        page.wait(f"return {row(kernel)}.textContent.includes('1 restart')", True)
    finally:
        client.close()
    other = start(server, "ben")
    page.begin("admin")
    page.until("#list", other[:8])
    assert page.text("#who") == "admin, administrator" and "ben" in page.text("#list") and "anna" in page.text("#list")
    page.press("Stop isolated of ben", confirm=True)
    page.wait(f"return {row(other)} === undefined", True)
    assert page.focused() == "main"
    # What it did is there still.
    page.press("past-title")
    page.until("#ended", "Stopped from the page.")
    page.shot("ended")
    assert "ben" in page.text("#ended") and other[:8] in page.text("#ended")
    page.press(f"Details and log of isolated of ben, {other[:8]}, which has ended")
    page.until("#lines", "launch")
    assert "ended" in page.text("#detail-title") and "Network\nNone" in page.text("#may")
    page.wait("return document.activeElement.id", "detail")
    page.keys(Keys.ESCAPE)
    assert page.focused().startswith("Details") and page.focused().endswith("which has ended")


def test_files_by_drop_by_choice_and_out_again(page, server, site):
    page.begin("anna")
    place = server.root / "data" / "users" / "anna" / "default" / "staging"
    dropped, chosen = site.root / "dropped.csv", site.root / LONG
    dropped.write_text("dropped")
    chosen.write_text("chosen")
    page.drop(dropped)
    page.until("#files", "in/dropped.csv")
    assert (place / "in" / "dropped.csv").read_text() == "dropped"
    page.browser.find_element("id", "file").send_keys(str(chosen))
    page.until("#files", LONG)
    assert (place / "in" / LONG).read_text() == "chosen"
    (place / "out").mkdir(exist_ok=True)
    (place / "out" / "page.html").write_text("<script>document.title = 'evil'</script>")
    page.press("Remove in/dropped.csv", confirm=True)
    page.until("#files", "out/page.html")
    assert not (place / "in" / "dropped.csv").exists() and "dropped.csv" not in page.text("#files")
    page.press("out/page.html")
    end = time.monotonic() + 60 * harness.PATIENCE
    while not (page.downloads / "page.html").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert page.browser.title == "cellwall" and page.run("return document.getElementById('login').hidden")
    dragged = page.run(
        """
        const data = new DataTransfer();
        [...document.querySelectorAll('#files a')].find(one => one.textContent === 'out/page.html').dispatchEvent(new DragEvent('dragstart', { dataTransfer: data, bubbles: true }));
        return data.getData('DownloadURL');
        """
    )
    assert dragged == f"application/octet-stream:page.html:{page.url}/api/areas/default/out/page.html"


def uploaded(server):
    text = requests.get(f"{server.url}/metrics", headers=bearer("admin"), timeout=30).text
    return int(text.split("\ncellwall_uploaded_bytes_total ")[1].split()[0])


def test_an_upload_that_is_cut_off_goes_on(page, server, site, wire):
    """By itself when the server is there again, and when the same file is chosen after a stop: each byte is sent once."""
    page.begin("anna")
    data = os.urandom(1 << 20) * 8
    file = site.root / "large.bin"
    file.write_bytes(data)
    place = server.root / "data" / "users" / "anna" / "default" / "staging" / "in" / file.name
    for stopped in (False, True):
        before = uploaded(server)
        try:
            wire.refuse_after(3 << 20)
            page.browser.find_element("id", "file").send_keys(str(file))
            page.until("#sent", "large.bin: the connection ended, trying again")
            wire.drained()
            assert not place.exists() and uploaded(server) - before > 2 << 20
            assert page.run("return document.getElementById('progress').position") == -1
            page.shot(f"upload-{'stopped' if stopped else 'cut'}")
            if stopped:
                page.press("Stop the upload")
                page.wait("return document.getElementById('sending').hidden")
        finally:
            wire.restore()
        if stopped:
            page.open()
            page.browser.find_element("id", "file").send_keys(str(file))
        page.until("#files", file.name)
        assert place.read_bytes() == data and uploaded(server) - before == len(data)
        page.press("Remove in/large.bin", confirm=True)
        page.wait("return document.getElementById('files').innerText.includes('large.bin')", False)


# Text against what is behind it (WCAG 2.1, 1.4.3); what is disabled or hidden from sight apart.
CONTRAST = """
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
function behind(node) {
  for (; node; node = node.parentElement) { const color = parse(getComputedStyle(node).backgroundColor); if (color.length < 4 || color[3] === 1) return color; }
  return [255, 255, 255];
}
const bad = [];
for (const node of document.querySelectorAll('body *')) {
  if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()) || !node.checkVisibility() || node.closest('.hidden, thead')) continue;
  const one = light(parse(getComputedStyle(node).color)), other = light(behind(node));
  const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
  if (ratio < 4.5) bad.push(`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
}
// What a control ends with (1.4.11).
for (const node of document.querySelectorAll('input:not([type=checkbox]):not([type=file]), select, .drop')) {
  if (!node.checkVisibility()) continue;
  const one = light(parse(getComputedStyle(node).borderTopColor)), other = light(behind(node.parentElement));
  const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
  if (ratio < 3) bad.push(`border of ${node.id} ${ratio.toFixed(2)}`);
}
return bad;
"""


def test_narrow_and_wide_light_and_dark(page, staged, kernel, ended):
    page.begin("anna", kernel)
    papers = {}
    for width in (360, 1400):
        for scheme in ("light", "dark"):
            page.look(width, scheme)
            assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth && innerWidth") == width
            assert page.run("return [...document.querySelectorAll('main *')].filter(one => one.checkVisibility() && !one.closest('.hidden, thead, input') && one.getBoundingClientRect().right > innerWidth).map(one => one.outerHTML.slice(0, 80))") == []
            assert page.run(CONTRAST) == [], (width, scheme)
            papers[width, scheme] = page.run("return getComputedStyle(document.body).backgroundColor")
            page.shot(f"{width}-{scheme}")
    assert len(set(papers.values())) == 2 and papers[360, "dark"] == papers[1400, "dark"]


@pytest.mark.parametrize("width", [360, 1400])
def test_the_keyboard_alone_reaches_everything(page, staged, kernel, ended, width):
    page.begin("anna", kernel)
    page.look(width, "light")
    wanted = page.run("return [...document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')].filter(one => one.checkVisibility()).length")
    seen = []
    for _ in range(wanted + 5):
        page.keys(Keys.TAB)
        number, drawn, top = page.run(
            """
            const one = document.activeElement, all = [...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')].filter(one => one.checkVisibility());
            const style = getComputedStyle(one.id === 'file' ? one.closest('.drop') : one), box = one.getBoundingClientRect();
            return [all.indexOf(one), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, box.bottom > 0 && box.top < innerHeight];
            """
        )
        if number < 0 or number in seen:  # out of the page, and in again
            continue
        assert drawn and top, page.focused()
        seen.append(number)
    first = seen.index(0)
    assert seen[first:] + seen[:first] == list(range(wanted)), "in the order in which it is read"


def test_a_screen_reader_hears_what_is_there(page, staged, kernel, ended):
    page.begin("anna", kernel)
    page.look(360, "light")
    nodes = page.nodes()
    nameless = [role for role, name in nodes if role in ("button", "link", "textbox", "searchbox", "combobox", "checkbox", "MenuListPopup", "region", "progressbar", "heading") and not name.strip() and role != "MenuListPopup"]
    assert nameless == []
    names = {name for _, name in nodes}
    assert {"Kernels", "Staging areas", "Area", "Search the log", "Only what was blocked or went wrong", "Log", "Files", "choose files"} <= names
    roles = [role for role, _ in nodes]
    assert roles.count("table") == 2 and "row" in roles and "columnheader" in roles and "main" in roles and "search" in roles
    buttons = [name for role, name in nodes if role == "button"]
    assert len(buttons) == len(set(buttons)), "each says what it is for"
    assert page.run("return [...document.querySelectorAll('[aria-live], [role=alert], [role=status]')].length") >= 3


def test_it_asks_nobody_else(page, kernel):
    page.begin("anna", kernel)
    asked = page.run("return performance.getEntries().filter(one => ['resource', 'navigation'].includes(one.entryType)).map(one => one.name)")
    assert len(asked) > 5 and all(url.startswith(page.url + "/") for url in asked)
    assert page.run("return violations") == []
    # What looks for violations sees them: what is tried is stopped by the policy.
    page.run("fetch('http://127.0.0.1:9/').catch(() => 0); document.body.appendChild(new Image()).src = 'http://127.0.0.1:9/x'; try { document.body.setAttribute('onclick', '1'); } catch { }")
    seen = " ".join(page.wait("return violations.length >= 3 && violations"))
    assert "connect-src" in seen and "img-src" in seen and "require-trusted-types-for" in seen
    page.open()


def test_a_server_that_is_gone_is_said(page, server):
    page.begin("anna")
    server.process.terminate()
    server.process.wait(30)
    page.until("#message", "The server does not answer")
