"""The pages for teachers and for administrators: their commands in the order in which they stand there.

Absolute paths of the pages lie below a place that the test made.
"""

import json
import os
import pathlib
import sys

import pages
import pytest

NOTEBOOKS = {
    "alice": [
        "import csv\n"
        "total = sum(int(row['points']) for row in csv.DictReader(open('data/marks.csv')))\n"
        "print(open('answer.txt', 'w').write(f'{total}\\n'))"
    ],
    "bob": [
        "import urllib.request\nurllib.request.urlopen('http://203.0.113.5/answers')",
        "open('../alice/homework.ipynb').read()",
    ],
}


def write_notebook(path, cells):
    path.parent.mkdir(parents=True)
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"c{n}", "metadata": {}, "outputs": [], "source": source}
        for n, source in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def moved(site, monkeypatch, request):
    """The page's text with its absolute paths below the site, and what runs a command there."""
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    place = site.root / request.node.name
    monkeypatch.setitem(site.environment, "XDG_STATE_HOME", str(place / "state"))  # the logs of these kernels alone
    for name in ("srv/course", "usr/local", "etc/cellwall", "opt/kernels", "srv/course/submissions"):
        (place / name).mkdir(parents=True, exist_ok=True)

    def move(page):
        text = (pathlib.Path(site.prefix) / "share/cellwall/doc" / page).read_text()
        for name in ("/srv/course", "/usr/local", "/etc/cellwall", "/opt/kernels"):
            text = text.replace(name, f"{place}{name}")
        return text

    for name in ("srv/course/env", "opt/kernels/py"):
        (place / name).symlink_to(pathlib.Path(site.python).parent.parent)
    return place, move


def run_page(site, folder, text, policy):
    wrong, count = [], 0
    policy.write_text(next(block for kind, block in pages.blocks(text) if kind == "json"))
    for kind, block in pages.blocks(text):
        if kind == "console":
            count += 1
            wrong += pages.command(site, folder, block)
    assert wrong == [], "".join(wrong)
    return count


@pytest.mark.core
def test_classroom(site, moved):
    place, move = moved
    folder = place / "srv/course/submissions"
    (place / "srv/course/data").mkdir()
    (place / "srv/course/data/marks.csv").write_text("who,points\na,4\nb,2\n")
    for name, cells in NOTEBOOKS.items():
        write_notebook(folder / name / "homework.ipynb", cells)
    assert run_page(site, folder, move("course.md"), place / "srv/course/policy.json") == 3
    assert (folder / "alice/staging/out/answer.txt").read_text() == "6\n"


@pytest.mark.core
def test_hub(site, moved):
    place, move = moved
    assert run_page(site, place, move("hub.md"), place / "etc/cellwall/hub.json") == 3
    assert (place / "usr/local/share/jupyter/kernels/isolated/kernel.json").exists()
