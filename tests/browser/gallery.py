"""What libraries show, in each mode of outputs: run by `tests/run gallery`, pictures in tests/browser/shots/gallery.

The notebook is made here, one cell per library, run in JupyterLab with the isolated kernel, saved, opened anew without
and with trust, and converted. CELLWALL_KERNEL is the python of tests/requirements-gallery.txt.
"""

import contextlib
import json
import subprocess
import sys
import time

import pytest
from conftest import Lab, notebook
from selenium.webdriver.common.by import By
from test_headers import Listener
from test_lab import SHOTS, command, current, find, kernel_status, open_notebook, until

MODES = ("text", "static", "interactive")

# What a cell shows: a CSS selector of something in the page, "frame SELECTOR" in a frame, or "WORDS" in the text.
TABLE, IMAGE = "table", "img"
BLOCKED = '"[cellwall blocked'
CELLS = {
    "pandas": (
        "import numpy as np, pandas as pd\n"
        "frame = pd.DataFrame({'x': range(5), 'name': list('abcde'), 'y': np.linspace(0, 1, 5)}); frame",
        ('"name', TABLE, TABLE),
    ),
    "styler": (
        "frame.style.background_gradient(subset='y').bar('x').format(precision=2)",
        ('"Styler', "frame table", "frame table"),
    ),
    "matplotlib": (
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(4, 2)); plt.plot([1, 4, 9]); plt.title('squares'); plt.show()",
        (IMAGE, IMAGE, IMAGE),
    ),
    "matplotlib-svg": (
        "from matplotlib_inline.backend_inline import set_matplotlib_formats\nset_matplotlib_formats('svg')\n"
        "plt.figure(figsize=(4, 2)); plt.plot([1, 4, 9]); plt.show()\nset_matplotlib_formats('png')",
        (IMAGE, IMAGE, IMAGE),
    ),
    "seaborn": (
        "import seaborn\nseaborn.set_theme()\nseaborn.histplot(np.sin(np.arange(200)), kde=True).figure.set_size_inches(4, 2)",
        (IMAGE, IMAGE, IMAGE),
    ),
    "plotly": (
        "import plotly.express as px\npx.scatter(frame, x='x', y='y', color='name', title='points')",
        ('"plotly figure', "frame .main-svg .trace", "frame .main-svg .trace"),
    ),
    "bokeh": (
        "from bokeh.plotting import figure, show\n"
        "picture = figure(width=500, height=300, title='a line'); picture.line([1, 2, 3], [1, 4, 9]); show(picture)",
        ('"figure(', BLOCKED, "frame .bk-Figure"),
    ),
    "altair": (
        "import altair\naltair.Chart(frame).mark_bar().encode(x='name', y='y').properties(width=300, height=200)",
        (IMAGE, "frame canvas, frame svg.marks", "frame canvas, frame svg.marks"),
    ),
    "rich": (
        "import rich, rich.table\nlist_ = rich.table.Table('name', 'value')\n"
        "list_.add_row('[red]a[/]', '[bold]1[/]'); list_.add_row('b', '2'); rich.print(list_)",
        ('"value', "pre", "pre"),
    ),
    "tqdm": (
        "import tqdm.notebook\nfor _ in tqdm.notebook.tqdm(range(20), desc='rows'): pass",
        ('"20/20', ".widget-hprogress", ".widget-hprogress"),
    ),
    "widgets": (
        "import ipywidgets\nipywidgets.IntSlider(value=7, description='amount')",
        ('"IntSlider', ".widget-slider", ".widget-slider"),
    ),
    "audio": (
        "from IPython.display import HTML, SVG, Audio, Latex, Markdown, Video\n"
        "Audio(np.sin(np.arange(8000) / 10), rate=8000)",
        ('"Audio', "frame audio", "frame audio"),
    ),
    "video": (
        "Video(b'', embed=True, mimetype='video/mp4')",
        ('"Video', "frame video", "frame video"),
    ),
    "html": (
        "HTML('<p>some <b>bold</b> and <i>slanted</i> words</p>')",
        ('"HTML', "b", "b"),
    ),
    "html-own": (
        "HTML('<style>p { color: teal; font: 20px serif }</style><p>words in a style of their own</p>')",
        ('"HTML', "frame p", "frame p"),
    ),
    "markdown": ("Markdown('# a title\\n- one\\n- *two*')", ('"Markdown', "h1", "h1")),
    "latex": (r"Latex(r'$\sum_{n=1}^{9} n^2 = 285$')", ('"Latex', "mjx-container", "mjx-container")),
    "svg": (
        "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"90\" height=\"60\">"
        "<circle cx=\"45\" cy=\"30\" r=\"25\" fill=\"orange\"/></svg>')",
        (IMAGE, IMAGE, IMAGE),
    ),
    "scikit-learn": (
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\n"
        "from sklearn.linear_model import LogisticRegression\nmake_pipeline(StandardScaler(), LogisticRegression())",
        ('"Pipeline', "frame .sk-top-container", "frame .sk-top-container"),
    ),
    "sympy": (
        "import sympy\nsympy.Integral(sympy.sin(sympy.Symbol('x')) ** 2, sympy.Symbol('x'))",
        ('"Integral', "mjx-container", "mjx-container"),
    ),
    "great_tables": (
        "from great_tables import GT\nGT(frame).tab_header(title='five rows').fmt_percent('y')",
        ('"GT', "frame .gt_table", "frame .gt_table"),
    ),
    "folium": (
        "import folium\nfolium.Map(location=(52.5, 13.4), zoom_start=11)",
        ('"Map', BLOCKED, BLOCKED),
    ),
}


@pytest.fixture(scope="session")
def lab(site):
    for name in CELLS:
        (SHOTS / "gallery" / name).mkdir(parents=True, exist_ok=True)
    # All cells are in the page, not only those that are in sight.
    settings = "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    site.put(site.root, settings, '{"windowingMode": "none"}')
    lab = Lab(site)
    for mode in MODES:
        policy = site.policy({"outputs": {"mode": mode}})
        cells = [source for source, _ in CELLS.values()]
        site.put(lab.folder, f"gallery-{mode}.ipynb", notebook(cells, site.variant("--policy", policy)))
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def ran(lab, browser):
    """Runs the notebook of a mode, once, and saves it; it is then the one in front."""
    done = set()
    browser.set_window_size(1300, 1900)

    def run(mode):
        open_notebook(browser, lab, f"gallery-{mode}.ipynb")
        if mode in done:
            return
        command(browser, "notebook:run-all-cells")
        last = f"[{len(CELLS)}]:"
        until(browser, lambda: current(browser)[-1]["prompt"] == last, 240, "all cells have run")
        until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
        command(browser, "docmanager:save")
        done.add(mode)

    return run


def frames(browser, area):
    """Goes into the innermost frame of an output; whether there was one."""
    inner = area.find_elements(By.CSS_SELECTOR, "iframe")
    for _ in range(2):
        if not inner:
            return False
        browser.switch_to.frame(inner[0])
        inner = browser.find_elements(By.CSS_SELECTOR, "iframe")
    return True


def shows(browser, area, what):
    if what.startswith('"'):
        return what[1:] in area.text
    if not what.startswith("frame "):
        return any(one.is_displayed() for one in area.find_elements(By.CSS_SELECTOR, what))
    try:
        selector = what.replace("frame ", "")
        return frames(browser, area) and any(
            one.is_displayed() for one in browser.find_elements(By.CSS_SELECTOR, selector)
        )
    finally:
        browser.switch_to.default_content()


def look(browser, mode, suffix=""):
    """A picture of each cell's output; what is not there."""
    missing = []
    areas = find(browser, ".jp-CodeCell .jp-Cell-outputWrapper")
    for cell, area in zip(CELLS, areas, strict=True):
        what = CELLS[cell][1][MODES.index(mode)]
        browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", area)
        try:
            until(browser, lambda area=area, what=what: shows(browser, area, what), 15, f"{cell} {mode}")
        except AssertionError:
            missing.append((cell, what, area.text[:300]))
        area.screenshot(str(SHOTS / "gallery" / cell / f"{mode}{suffix}.png"))
    return missing


def use_theme(browser, theme, light):
    command(browser, "apputils:change-theme", f"{{theme: 'JupyterLab {theme}'}}")
    until(browser, lambda: browser.execute_script("return document.body.dataset.jpThemeLight") == light, what="the theme")
    time.sleep(1)


@pytest.mark.parametrize("mode", MODES)
def test_each_library_shows_what_the_page_says(browser, lab, ran, mode):
    ran(mode)
    assert look(browser, mode) == []
    use_theme(browser, "Dark", "false")
    try:
        assert look(browser, mode, "-dark") == []
    finally:
        use_theme(browser, "Light", "true")


def test_widgets_work_after_a_reload(browser, lab, ran):
    ran("static")
    open_notebook(browser, lab, "gallery-static.ipynb")
    areas = dict(zip(CELLS, find(browser, ".jp-CodeCell .jp-Cell-outputWrapper"), strict=True))
    for name in ("tqdm", "widgets"):
        until(browser, lambda name=name: shows(browser, areas[name], CELLS[name][1][1]), 90, f"{name} after a reload")


LEAKS = (
    "from IPython.display import HTML, Markdown, SVG, Video, display\nto = 'URL'\n"
    "display(HTML(f'<p>before</p><img src={to}/image><link rel=stylesheet href={to}/link><iframe src={to}/frame></iframe>'\n"
    "    f'<style>@import \"{to}/import\"; p {{ background: url({to}/style) }}</style><video src={to}/media autoplay></video>'\n"
    "    f'<meta http-equiv=refresh content=\"0;url={to}/refresh\">'\n"
    "    f'<script>fetch(\"{to}/fetch\"); location = \"{to}/location\"</script>'))\n"
    "display(Markdown(f'![x]({to}/markdown)'))\n"
    "display(SVG(f'<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"{to}/svg\" width=\"9\" height=\"9\"/></svg>'))"
)
KEPT = ("pandas", "styler", "matplotlib", "great_tables", "latex")


def outputs_in(path):
    """Of its last cell; none while the file is being written."""
    with contextlib.suppress(ValueError):
        return json.loads(path.read_text())["cells"][-1]["outputs"]


def convert(site, path):
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", str(path)],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path.with_suffix(".html").as_uri()


def wait_loaded(browser):
    """Longer than what a page of this kind needs to ask for what it names."""
    until(browser, lambda: browser.execute_script("return document.readyState") == "complete", what="a page")
    browser.execute_async_script("setTimeout(arguments[0], 2000)")


@pytest.mark.parametrize("mode", ("static", "interactive"))
def test_a_saved_notebook_is_readable_and_tells_nobody(either, site, lab, mode):
    browser, kind = either
    listener = Listener()
    cells = [CELLS[name][0] for name in KEPT]
    cells[KEPT.index("latex")] = "from IPython.display import Latex\n" + cells[KEPT.index("latex")]
    cells.append(LEAKS.replace("URL", listener.url))
    policy = site.policy({"outputs": {"mode": mode}})
    saved = site.put(lab.folder, f"saved-{mode}-{kind}.ipynb", notebook(cells, site.variant("--policy", policy)))
    open_notebook(browser, lab, saved.name)
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: current(browser)[-1]["prompt"] == f"[{len(cells)}]:", 120, "all cells have run")
    until(browser, lambda: kernel_status(browser) == "idle", what="an idle kernel")
    command(browser, "docmanager:save")
    until(browser, lambda: outputs_in(saved), what="a saved file")

    # Another file than the one whose outputs the server knows: nobody trusts it.
    content = json.loads(saved.read_text())
    content["metadata"]["title"] = "of somebody else"
    other = site.put(lab.folder, f"other-{mode}-{kind}.ipynb", json.dumps(content))
    for trust in (False, True):
        if trust:
            site_trust = [sys.executable, "-m", "jupyter", "trust", str(other)]
            subprocess.run(site_trust, env=site.environment, capture_output=True, timeout=60, check=True)
        open_notebook(browser, lab, other.name)
        areas = find(browser, ".jp-CodeCell .jp-Cell-outputWrapper")
        wait_loaded(browser)
        for name, area in zip(KEPT, areas, strict=False):
            what = CELLS[name][1][MODES.index(mode)]
            if not trust and what.startswith("frame "):
                what = '"shown when this notebook is trusted'
            until(browser, lambda area=area, what=what: shows(browser, area, what), 15, f"{name} reopened {trust}")
        browser.save_screenshot(str(SHOTS / "gallery" / f"saved-{mode}-{kind}-{'trusted' if trust else 'untrusted'}.png"))

    browser.get(convert(site, other))
    wait_loaded(browser)
    body = browser.find_element(By.TAG_NAME, "body")
    for what in ("table", "img", "frame .gt_table"):
        assert any(shows(browser, one, what) for one in body.find_elements(By.CSS_SELECTOR, ".jp-Cell")), what
    browser.save_screenshot(str(SHOTS / "gallery" / f"saved-{mode}-{kind}-converted.png"))
    assert listener.asked == []

    # The same as it would have been without cellwall.
    plain = {"data": {"text/html": f"<img src={listener.url}/image>"}, "metadata": {}, "output_type": "display_data"}
    content["cells"][-1]["outputs"] = [plain]
    browser.get(convert(site, site.put(lab.folder, f"plain-{mode}-{kind}.ipynb", json.dumps(content))))
    until(browser, lambda: listener.reached("image"), 15, "the listener is reached without cellwall")
    listener.shutdown()
    listener.server_close()
