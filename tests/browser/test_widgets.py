"""What a person works with, in Chromium and in Firefox: a table, a plot, a frame and widgets, which still work after the
page was loaded anew.
"""

import pytest
from conftest import harness, notebook
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_lab import command, current, find, kernel_status, open_notebook, run_cell, shot, until

CELLS = [
    "import ipywidgets\nslider = ipywidgets.IntSlider(value=7, description='amount')\nslider",
    # As tqdm.notebook makes it.
    "bar = ipywidgets.FloatProgress(value=20, max=20, bar_style='success')\n"
    "ipywidgets.HBox([ipywidgets.HTML('rows: 100%'), bar, ipywidgets.HTML(' 20/20')])",
    "print('the value is', slider.value)",
    "import pandas\nframe = pandas.read_csv('staging/in/points.csv')\nframe.head()",
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.figure(figsize=(4, 2)); plt.plot(frame.x); plt.show()",
    "from IPython.display import HTML\nHTML('<style>p { font-size: 30px }</style><p>in a frame</p>')",
]


def see(browser, what, selector):
    until(browser, lambda: find(browser, f".jp-OutputArea-output {selector}"), 60, what)


def see_widgets(browser):
    see(browser, "the slider", ".widget-slider .noUi-handle")
    see(browser, "the bar", ".progress-bar-success")
    until(browser, lambda: "20/20" in current(browser)[1]["text"], what="the bar's text")


def move(browser, value):
    """The slider to the right, by its key; then the kernel knows."""
    find(browser, ".noUi-handle")[0].send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda: find(browser, ".widget-readout")[0].text == str(value), what="the slider moved")
    run_cell(browser, 2)
    until(browser, lambda: current(browser)[2]["text"].strip() == f"the value is {value}", 30, "the kernel's value")


def test_outputs_and_widgets_work_also_after_a_reload(either, lab):
    browser, kind = either
    name = f"widgets-{kind}.ipynb"
    lab.site.put(lab.folder, name, notebook(CELLS, harness.ISOLATED))
    open_notebook(browser, lab, name)
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: current(browser)[-1]["prompt"].strip() == f"[{len(CELLS)}]:", 120, "all cells")
    see(browser, "the table", "table")
    see(browser, "the plot", "img")
    see(browser, "the frame", "iframe")
    see_widgets(browser)
    move(browser, 8)
    browser.switch_to.frame(find(browser, ".jp-OutputArea-output iframe")[0])
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe"))
    assert browser.find_element(By.TAG_NAME, "p").text == "in a frame"
    browser.switch_to.default_content()
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    command(browser, "docmanager:save")
    until(browser, lambda: "the value is 8" in (lab.folder / name).read_text(), 30, "the saved file")
    open_notebook(browser, lab, name)
    see_widgets(browser)
    shot(browser, f"8-widgets-after-a-reload-{kind}")
    move(browser, 9)


SEEN = """
const style = getComputedStyle(document.documentElement);
return [style.backgroundColor, style.color, matchMedia('(prefers-color-scheme: dark)').matches];
"""


@pytest.mark.parametrize("system", ("light", "dark"))
@pytest.mark.parametrize("theme", ("Light", "Dark"))
def test_frames_follow_the_theme_of_the_page(browser, lab, system, theme):
    """And not what the system prefers."""
    name = "theme.ipynb"
    if not (lab.folder / name).exists():
        lab.site.put(lab.folder, name, notebook([CELLS[-1]], harness.ISOLATED))
        open_notebook(browser, lab, name)
        run_cell(browser, 0)
    see(browser, "the frame", "iframe")
    media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    command(browser, "apputils:change-theme", f"{{theme: 'JupyterLab {theme}'}}")
    light = "true" if theme == "Light" else "false"
    until(browser, lambda: browser.execute_script("return document.body.dataset.jpThemeLight") == light, what="the theme")
    until(browser, lambda: not find(browser, ".jp-SplashScreen, #jupyterlab-splash"), what="the page")
    wanted = ["rgb(255, 255, 255)", "rgb(17, 17, 17)", False]
    if theme == "Dark":
        wanted = ["rgb(17, 17, 17)", "rgb(221, 221, 221)", True]

    def seen():
        browser.switch_to.frame(find(browser, ".jp-OutputArea-output iframe")[0])
        browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe"))
        try:
            return browser.execute_script(SEEN)
        finally:
            browser.switch_to.default_content()

    until(browser, lambda: seen() == wanted, 20, f"colours {theme} {system}")
    shot(browser, f"9-frame-{theme.lower()}-{system}")
