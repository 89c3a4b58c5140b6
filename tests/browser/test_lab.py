"""What a person sees: the launcher with the isolated kernel, a notebook that runs, an interrupt, a restart, a notice.

Screenshots go to CELLWALL_SHOTS (tests/run copies them to tests/browser/shots).
"""

import os
import pathlib
import time
import urllib.request

import harness
import processes
from selenium.common.exceptions import (
    JavascriptException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SHOTS = pathlib.Path(os.environ.get("CELLWALL_SHOTS", pathlib.Path(__file__).parent / "shots"))


def until(browser, condition, seconds=90, what=""):
    """Waits for something to be seen; a screenshot shows what was there instead."""
    passing = (NoSuchElementException, StaleElementReferenceException, JavascriptException)
    seconds *= harness.PATIENCE
    try:
        return WebDriverWait(browser, seconds, 0.1, ignored_exceptions=passing).until(lambda _: condition())
    except TimeoutException:
        shot(browser, "failed-" + "-".join(what.split()))
        raise AssertionError(f"{what}: not seen in {seconds} s; {current(browser)}") from None


def find(browser, selector):
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def shot(browser, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SHOTS / f"{name}.png"))


def command(browser, name, arguments="{}"):
    """A JupyterLab command, as a menu entry would run it; errors are raised, its end is not waited for."""
    browser.execute_script(
        f"window.commandProblem = null; window.jupyterapp.commands.execute({name!r}, {arguments})"
        ".catch(problem => { window.commandProblem = String(problem); })"
    )


def dismiss(browser):
    """Dialogs of a first start (news, kernel selection) are answered with their default."""
    for button in find(browser, ".jp-Dialog .jp-mod-accept"):
        button.click()
        time.sleep(0.2)


def open_lab(browser, lab, path=""):
    browser.get(f"{lab.url}/lab{path}?reset")
    until(
        browser,
        lambda: browser.execute_script("return !!(window.jupyterapp && window.jupyterapp.commands)"),
        what="JupyterLab",
    )
    until(browser, lambda: find(browser, "#jp-main-dock-panel"), what="the main panel")


def current(browser):
    """The notebook in front: its cells' prompts and output texts."""
    return browser.execute_script(
        """
        const panel = [...document.querySelectorAll('.jp-NotebookPanel')].find(p => p.offsetParent !== null);
        if (!panel) return null;
        return [...panel.querySelectorAll('.jp-CodeCell')].map(cell => ({
            prompt: (cell.querySelector('.jp-InputPrompt') || {}).textContent || '',
            text: [...cell.querySelectorAll('.jp-OutputArea-output')].map(o => o.textContent).join('\\n'),
            tables: cell.querySelectorAll('.jp-OutputArea-output table').length,
            images: [...cell.querySelectorAll('.jp-OutputArea-output img')].map(i => [i.src.slice(0, 40), i.naturalWidth]),
        }));
        """
    )


def kernel_status(browser):
    """The kernel's state as the notebook in front knows it; None until its session is ready."""
    return browser.execute_script(
        """
        const context = (window.jupyterapp.shell.currentWidget || {}).sessionContext;
        const kernel = context && context.isReady && context.session && context.session.kernel;
        return kernel && kernel.connectionStatus === 'connected' ? kernel.status : null;
        """
    )


def open_notebook(browser, lab, name):
    open_lab(browser, lab, f"/tree/{name}")
    until(browser, lambda: current(browser), what=f"{name} opened")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    dismiss(browser)


def test_specs_and_logos_of_the_server(lab):
    specs = lab.get("/api/kernelspecs")["kernelspecs"]
    assert "isolated" in specs
    assert {"logo-32x32", "logo-64x64", "logo-svg"} <= set(specs["isolated"]["resources"])


def test_launcher_shows_the_kernel_with_its_logo(browser, lab):
    open_lab(browser, lab)
    icon = ".jp-LauncherCard-icon img, .jp-LauncherCard-icon svg"

    def logo():
        for card in find(browser, ".jp-LauncherCard"):
            if "isolated" in card.get_attribute("title").lower():
                for shown in card.find_elements(By.CSS_SELECTOR, icon):
                    if shown.tag_name == "svg" or browser.execute_script("return arguments[0].naturalWidth > 0", shown):
                        return shown
        return None

    until(browser, logo, what="a launcher card with its logo")
    shot(browser, "1-launcher")


def test_sample_notebook_runs(browser, lab):
    open_notebook(browser, lab, "sample.ipynb")
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: "all cells ran 42" in current(browser)[-1]["text"], 120, "the last output")
    cells = current(browser)
    assert [cell["prompt"].strip() for cell in cells] == [f"[{n}]:" for n in range(1, len(cells) + 1)]
    assert cells[1]["tables"] == 1
    source, width = cells[2]["images"][0]
    assert source.startswith("data:image/png;base64,") and width > 100
    assert "blocked: ConnectionRefusedError" in cells[3]["text"] and "REACHED" not in cells[3]["text"]
    browser.execute_script("document.querySelector('.jp-OutputArea-output img').scrollIntoView({block: 'center'})")
    time.sleep(0.5)
    shot(browser, "2-sample-notebook")
    result = lab.folder / "staging" / "out" / "summary.csv"
    until(browser, result.exists, what="the result file")
    assert result.read_text().startswith(",x,y")


def test_plot_is_really_drawn(browser, lab):
    """The image in the page has a curve in it, not one colour."""
    pixels = browser.execute_async_script(
        """
        const done = arguments[0], image = document.querySelector('.jp-OutputArea-output img');
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data, colours = new Set();
        for (let i = 0; i < data.length; i += 4) colours.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
        done(colours.size);
        """
    )
    assert pixels > 20


def test_interrupt_and_restart(browser, lab):
    open_notebook(browser, lab, "control.ipynb")
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: "x is set" in current(browser)[0]["text"], what="the first cell")
    until(browser, lambda: "asleep" in current(browser)[1]["text"], what="the sleep")
    shot(browser, "3-busy")
    command(browser, "notebook:interrupt-kernel")
    until(browser, lambda: "KeyboardInterrupt" in current(browser)[1]["text"], what="the interrupt")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    shot(browser, "4-interrupted")
    first = lab.get("/api/kernels")
    command(browser, "notebook:restart-kernel")
    until(browser, lambda: find(browser, ".jp-Dialog .jp-mod-accept"), what="the question")
    browser.execute_script(
        "window.states = []; window.jupyterapp.shell.currentWidget.sessionContext.statusChanged.connect("
        "(_, state) => { window.states.push(state); })"
    )
    find(browser, ".jp-Dialog .jp-mod-accept")[-1].click()
    until(browser, lambda: "restarting" in browser.execute_script("return window.states"), what="the restart")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    assert {kernel["id"] for kernel in first} == {kernel["id"] for kernel in lab.get("/api/kernels")}
    browser.execute_script("window.jupyterapp.commands.execute('notebook:select-all')")
    run_cell(browser, 2)
    until(browser, lambda: "False" in current(browser)[2]["text"], 30, "the cell after the restart")
    shot(browser, "5-restarted")


def run_cell(browser, index):
    """Clicks into a cell and presses Shift+Enter."""
    panel = [element for element in find(browser, ".jp-NotebookPanel")][0]
    cell = panel.find_elements(By.CSS_SELECTOR, ".jp-CodeCell")[index]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    editor = cell.find_element(By.CSS_SELECTOR, ".cm-content")
    editor.click()
    editor.send_keys(Keys.SHIFT, Keys.ENTER)


def test_notice_of_cellwall_is_seen(browser, lab):
    """A link that the cell made is not brought out, and the notebook says so below that cell."""
    run_cell(browser, 3)
    until(
        browser,
        lambda: any("cellwall:" in cell["text"] and "alink" in cell["text"] for cell in current(browser)),
        what="cellwall's notice",
    )
    shot(browser, "6-notice")


def test_shutdown_leaves_nothing(browser, lab, site):
    for kernel in lab.get("/api/kernels"):
        urllib.request.urlopen(
            urllib.request.Request(f"{lab.url}/api/kernels/{kernel['id']}", method="DELETE"), timeout=30
        )
    assert processes.wait_until(lambda: not processes.strays(site.prefix, lab.since), 30), processes.strays(
        site.prefix, lab.since
    )
