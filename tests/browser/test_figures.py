"""Figures of plotly and vega-lite are drawn from their data by our own builds, and nothing of them reaches the network.

The kernel needs neither library: their JSON is sent as it is. What a figure looks like is read from its pixels.
"""

import base64
import gzip
import json
import pathlib

import pytest
from conftest import harness, notebook
from selenium.webdriver.common.by import By
from test_headers import listener  # noqa: F401
from test_lab import command, current, find, open_notebook, shot, until

LINE = {
    "data": [{"x": [1, 2, 3], "y": [2, 5, 3], "type": "scatter", "line": {"color": "#ff0000", "width": 8}}],
    "layout": {
        "height": 300,
        "title": {"text": "line <a href='ADDRESS/anchor'>link</a>"},
        "images": [{"source": "ADDRESS/image", "xref": "paper", "yref": "paper", "x": 0, "y": 1, "sizex": 1, "sizey": 1}],
        "annotations": [{"x": 2, "y": 3, "text": "<span style=\"background:url(ADDRESS/style)\">x</span>"}],
    },
    "config": {"plotlyServerURL": "ADDRESS/server", "topojsonURL": "ADDRESS/topojson/", "displaylogo": True},
}
# Only once it is drawn is this a link, of two halves.
LINE["data"][0].update(
    mode="lines+text", text=["a"] * 3, texttemplate="<%{text} href='ADDRESS/template'>t</%{text}>", name="x"
)
BARS = {
    "$schema": "ADDRESS/schema",
    "usermeta": {"embedOptions": {"loader": {"baseURL": "ADDRESS/base"}}},
    "data": {"values": [{"a": "A", "b": 28, "u": "ADDRESS/row"}, {"a": "B", "b": 55}, {"a": "C", "b": 43}]},
    "layer": [
        {
            "mark": {"type": "bar", "color": "#008000"},
            "encoding": {
                "x": {"field": "a", "type": "nominal"},
                "y": {"field": "b", "type": "quantitative"},
                "href": {"field": "u"},
            },
        },
        {"mark": {"type": "image", "width": 9, "height": 9}, "encoding": {"url": {"value": "ADDRESS/mark"}}},
    ],
}
REMOTE = {"data": {"url": "ADDRESS/data.json"}, "mark": "bar", "encoding": {"x": {"field": "a", "type": "nominal"}}}
# An address that is there only once the figure is drawn.
COMPUTED = {
    "width": 100,
    "height": 100,
    "signals": [{"name": "u", "update": "'ADDRESS' + '/computed'"}],
    "marks": [
        {"type": "rect", "encode": {"enter": {"width": {"value": 90}, "height": {"value": 90}, "fill": {"value": "#0000ff"}}}},
        {"type": "image", "encode": {"update": {"url": {"signal": "u"}, "width": {"value": 9}, "height": {"value": 9}}}},
    ],
}
FIGURES = [
    ("application/vnd.plotly.v1+json", LINE, (255, 0, 0)),
    ("application/vnd.vegalite.v5+json", BARS, (0, 128, 0)),
    ("application/vnd.vega.v6+json", COMPUTED, (0, 0, 255)),
    ("application/vnd.vegalite.v6+json", REMOTE, None),
]


COUNT = """
const [picture, red, green, blue, done] = arguments, image = new Image();
image.onload = () => {
    const {width, height} = image, canvas = new OffscreenCanvas(width, height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const data = canvas.getImageData(0, 0, width, height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
    done(count);
};
image.src = 'data:image/png;base64,' + picture;
"""


def pixels(browser, element, colour):
    """How many of that colour are seen."""
    return browser.execute_async_script(COUNT, element.screenshot_as_base64, *colour)


@pytest.fixture(scope="module")
def builds(site):
    if not (pathlib.Path(site.prefix) / "share/cellwall/figures/vega").exists():
        pytest.skip("kernelspec/figures could not fetch the builds: it needs npm")


def cells(address):
    """A cell that shows it, for each figure."""
    for kind, figure, _ in FIGURES:
        text = json.dumps(json.dumps({kind: figure, "text/plain": "figure"}).replace("ADDRESS", address))
        yield f"import json\nfrom IPython.display import display\ndisplay(json.loads({text}), raw=True)"


def test_figures_are_drawn_and_reach_nothing(browser, lab, site, builds, listener):  # noqa: F811
    site.put(lab.folder, "figures.ipynb", notebook(list(cells(listener.url)), harness.ISOLATED))
    open_notebook(browser, lab, "figures.ipynb")
    command(browser, "notebook:run-all-cells")
    until(browser, lambda: len(find(browser, ".jp-OutputArea-output iframe")) == len(FIGURES), 120, "all frames")
    frames = find(browser, ".jp-OutputArea-output iframe")
    for (kind, _, colour), frame in zip(FIGURES, frames, strict=True):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", frame)
        if colour:
            until(browser, lambda: pixels(browser, frame, colour) > 100, 60, f"{kind} drawn")
        browser.switch_to.frame(frame)
        browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe"))
        assert browser.find_elements(By.CSS_SELECTOR, "a, link, area") == [], kind
        assert until(browser, lambda: not browser.find_elements(By.ID, "wait"), 60, f"{kind} without a complaint")
        browser.switch_to.default_content()
        shot(browser, "figure-" + kind.removeprefix("application/vnd.").removesuffix("+json"))
    assert "what it loads from the network" in current(browser)[-1]["text"]
    assert listener.asked == []


def test_the_same_figures_reach_it_in_a_page_of_their_own(browser, site, builds, listener):  # noqa: F811
    browser.get(listener.url + "/plain")
    for name in ("plotly-basic", "vega", "vega-lite"):
        packed = (pathlib.Path(site.prefix) / "share/cellwall/figures" / name).read_text().splitlines()[1]
        browser.execute_script(gzip.decompress(base64.b64decode(packed)).decode())
    figures = json.loads(json.dumps([figure for _, figure, _ in FIGURES]).replace("ADDRESS", listener.url))
    browser.execute_script(
        """
        const [line, bars, computed, remote] = arguments[0], place = () => document.body.appendChild(document.createElement('div'));
        Plotly.newPlot(place(), line);
        for (const spec of [computed, vegaLite.compile(bars).spec, vegaLite.compile(remote).spec])
            new vega.View(vega.parse(spec), {renderer: 'svg', container: place()}).runAsync();
        """,
        figures,
    )
    for way in ("image", "mark", "computed", "data.json"):
        until(browser, lambda: listener.reached(way), 60, way)
    links = browser.execute_script("return [...document.querySelectorAll('a')].map(a => a.href.baseVal || a.href)")
    for way in ("anchor", "template"):
        assert any(way in link for link in links), links
