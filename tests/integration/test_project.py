"""A project folder as people have it: notebook, modules, data, a large file behind a link, yesterday's results.

It works after one `cellwall stage add`, again and again, and what is in it stays as it was but for staging/. The last
test runs the how-to page: every command and every cell of it, in the order in which they stand there.
"""

import hashlib
import json
import os
import pathlib
import stat

import harness
import pages
import processes
import pytest
from harness import DIRECT, ISOLATED, becomes

LARGE = 2 << 30
PAGE = "share/cellwall/doc/project.md"

UTILS = '''"""Of this project alone."""


def mean(rows):
    return sum(rows) / len(rows)
'''
NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": "import utils"}
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def make_project(site, folder):
    """The folder, and what its link leads to, outside of it."""
    site.put(folder, "analysis.ipynb", json.dumps(NOTEBOOK, indent=1))
    site.put(folder, "utils.py", UTILS)
    site.put(folder, "features/__init__.py", "from .ratio import ratio\n")
    site.put(folder, "features/ratio.py", "def ratio(a, b):\n    return a / b\n")
    site.put(folder, "data/2025.csv", "sensor,value\na,1\nb,3\n")
    site.put(folder, "data/2026.csv", "sensor,value\na,5\nb,7\n")
    site.put(folder, "staging/out/model.json", '{"version": 1}')
    site.put(folder, "staging/out/log.txt", "first run\n")
    site.put(folder, ".git/config", "[core]\n")
    site.put(folder, ".env", f"TOKEN={site.secret}\n")
    site.put(folder, "__pycache__/utils.cpython-39.pyc", b"old")
    archive = folder.parent / f"{folder.name}-archive"
    archive.mkdir(exist_ok=True)
    with open(archive / "measurements.bin", "wb") as large:
        large.write(b"begin")
        large.seek(LARGE - 3)
        large.write(b"end")
    (folder / "measurements.bin").symlink_to(archive / "measurements.bin")
    (folder / "data" / "latest.csv").symlink_to("2026.csv")
    os.chmod(folder / "data" / "2025.csv", 0o600)
    return archive


def digest(path, status):
    """Of the content; of a sparse giant only what is not a hole."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        at = 0
        while at < status.st_size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            file.seek(begin)
            found.update(b"%d-%d" % (begin, at))
            found.update(file.read(at - begin))
    return found.hexdigest()


def listing(*folders):
    """All that can be told of what is in a folder, but for staging/: names, kinds, modes, owners, times, contents."""
    found = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.relative_to(folder).parts[0] == "staging":
                continue
            status = path.lstat()
            entry = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_nlink]
            entry.append(status.st_ctime_ns if not stat.S_ISDIR(status.st_mode) else 0)
            if path.is_symlink():
                entry.append(os.readlink(path))
            elif path.is_file():
                entry.append(digest(path, status))
            found[str(path)] = entry
    return found


@pytest.fixture
def project(site):
    """A folder that must be found again as it was, when the test is over."""
    folder = site.project()
    archive = make_project(site, folder)
    before = listing(folder, archive)
    assert len(before) > 12
    yield folder
    after = listing(folder, archive)
    assert set(after) - set(before) == set(), "something was left in the folder"
    assert after == before


def restarted(kernel):
    kernel.manager.restart_kernel(now=False, cwd=str(kernel.cwd), env=kernel.site.environment)
    kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)


ANALYSIS = [
    "import json, os, pandas as pd, utils, features",
    "rows = pd.concat(pd.read_csv(f'data/{year}.csv') for year in (2025, 2026))\n"
    "assert utils.mean(rows.value) == 4 and features.ratio(8, 2) == 4\n"
    "assert len(pd.read_csv('data/latest.csv')) == 2",
    "with open('measurements.bin', 'rb') as large:\n"
    "    head = large.read(5); large.seek(-3, 2); tail = large.read()\n"
    "assert head + tail == b'beginend' and os.path.getsize('measurements.bin') == 2 << 30",
    "old = json.load(open('staging/out/model.json'))\n"
    "json.dump({'version': old['version'] + 1}, open('staging/out/model.json', 'w'))\n"
    "with open('staging/out/log.txt', 'a') as log: log.write('next run\\n')",
    "rows.groupby('sensor').value.mean().to_csv('summary.csv')\n"
    "os.makedirs('plots', exist_ok=True)\n"
    "import matplotlib; matplotlib.use('Agg')\n"
    "ax = rows.plot(); ax.figure.savefig('plots/rows.png')",
]


def analyse(kernel):
    for cell in ANALYSIS:
        run = kernel.run(cell, timeout=60)
        assert run.status == "ok", f"{cell}\n{run.problem}\n{kernel.log}"


@pytest.mark.core
def test_project_works_after_one_command(site, start, project):
    """Cells, the same again, a restart, and a second notebook open all the time."""
    site.run("stage", "add", ".", "measurements.bin", cwd=project, check=True)
    out = project / "staging" / "out"
    kernel, second = start(ISOLATED, cwd=project), start(ISOLATED, cwd=project)
    analyse(kernel)
    assert becomes(out / "model.json", '{"version": 2}') == '{"version": 2}'
    assert becomes(out / "log.txt", "first run\nnext run\n") == "first run\nnext run\n"
    assert becomes(out / "summary.csv", "sensor,value\na,3.0\nb,5.0\n") == "sensor,value\na,3.0\nb,5.0\n"
    assert processes.wait_until((out / "plots" / "rows.png").exists, 10 * harness.PATIENCE)
    assert (out / "plots" / "rows.png").read_bytes().startswith(b"\x89PNG")
    run = second.run(
        "import utils, os; print(utils.mean([1, 3]), os.path.exists('summary.csv')); open('second.txt', 'w').write('2')"
    )
    assert run.stdout == "2.0 False\n", run.problem
    assert becomes(out / "second.txt", "2") == "2"
    analyse(kernel)
    assert becomes(out / "model.json", '{"version": 3}') == '{"version": 3}'
    restarted(kernel)
    analyse(kernel)
    assert becomes(out / "model.json", '{"version": 4}') == '{"version": 4}'
    assert becomes(out / "log.txt", "first run\n" + 3 * "next run\n") == "first run\n" + 3 * "next run\n"
    assert second.run("print(open('second.txt').read())").stdout == "2\n"
    second.shutdown()
    kernel.shutdown()
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == ["log.txt", "model.json", "plots/rows.png", "second.txt", "summary.csv"]
    assert site.private_directories() == []
    again = start(ISOLATED, cwd=project)
    analyse(again)
    assert becomes(out / "model.json", '{"version": 5}') == '{"version": 5}'


@pytest.mark.core
def test_inputs_cannot_be_changed(site, start, project):
    site.run("stage", "add", ".", "measurements.bin", cwd=project, check=True)
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run(
        "import errno, os\n"
        "def refused(action, *arguments):\n"
        "    try: action(*arguments)\n"
        "    except OSError as problem: print(errno.errorcode[problem.errno], end=' ')\n"
        "    else: print('DONE', end=' ')\n"
        "refused(open, 'data/2025.csv', 'a')\n"
        "refused(open, 'data/new.csv', 'w')\n"
        "refused(open, 'utils.py', 'w')\n"
        "refused(open, 'measurements.bin', 'r+b')\n"
        "refused(os.truncate, 'measurements.bin', 0)\n"
        "refused(os.unlink, 'data/2026.csv')\n"
        "refused(os.rename, 'data/2025.csv', 'data/x.csv')\n"
        "refused(os.chmod, 'data/2025.csv', 0o777)\n"
        "refused(os.utime, 'data/2025.csv')\n"
        "refused(os.setxattr, 'data/2025.csv', 'user.x', b'1')\n"
    )
    assert run.status == "ok", run.problem
    # As root the mounts map no group, and files of an unmapped owner are refused before the mount is looked at.
    allowed = {"EROFS", "EACCES"} if os.geteuid() == 0 else {"EROFS"}
    assert set(run.stdout.split()) <= allowed, run.stdout
    assert len(run.stdout.split()) == 10


@pytest.mark.core
def test_what_is_hidden_is_not_there(site, start, project):
    """`.` means what is not hidden: no token, no repository. And nothing is there without being added."""
    look = "import os; print(sorted(os.listdir('/work')), os.path.exists('.env'), os.path.exists('/work/.git'))"
    before = start(ISOLATED, cwd=project)
    names, env, git = before.run(look).stdout.rpartition("]")[0], *before.run(look).stdout.split()[-2:]
    assert "utils.py" not in names and "data" not in names and (env, git) == ("False", "False")
    before.shutdown()
    site.run("stage", "add", ".", cwd=project, check=True)
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run(look)
    assert run.stdout.split()[-2:] == ["False", "False"]
    assert "utils.py" in run.stdout and "analysis.ipynb" in run.stdout
    walk = kernel.run(
        "print([os.path.join(d, f) for d, _, fs in os.walk('/work') for f in fs\n"
        f"       if os.path.isfile(os.path.join(d, f)) and {site.secret!r} in open(os.path.join(d, f), errors='replace').read(10000)])"
    )
    assert walk.stdout == "[]\n"


@pytest.mark.core
def test_link_out_of_the_folder_is_not_staged_by_the_dot(site, start, project):
    """Who made the project chose where the link leads; the user is told, in the first cell, how to agree to it."""
    site.run("stage", "add", ".", cwd=project, check=True)
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run("import os; print(os.path.exists('measurements.bin'))")
    assert run.stdout == "False\n"
    said = [text for text in run.notices if "measurements.bin" in text]
    assert len(said) == 1 and "cellwall stage add measurements.bin" in said[0], run.notices
    assert not [text for text in kernel.run("1").notices if "measurements.bin" in text], "once is enough"


@pytest.mark.core
def test_same_file_from_two_kernels(site, start, project):
    """Neither loses what it wrote: the later one gets a name beside it, and its user is told."""
    one, two = start(ISOLATED, cwd=project), start(ISOLATED, cwd=project)
    one.run("open('shared.txt', 'w').write('from one')")
    assert becomes(project / "staging" / "out" / "shared.txt", "from one") == "from one"
    run = two.run("open('shared.txt', 'w').write('from two')")
    one.shutdown()
    two.shutdown()
    found = sorted((project / "staging" / "out").glob("shared*.txt"))
    assert sorted(path.read_text() for path in found) == ["from one", "from two"], run.notices + found
    assert any("shared" in text for text in run.notices) or "shared" in two.log


@pytest.mark.core
def test_project_after_a_crash(site, start, project):
    """Everything is killed in the middle of a cell: the next kernel brings in what was written, and says so."""
    site.run("stage", "add", "data", "utils.py", cwd=project, check=True)
    kernel = start(ISOLATED, cwd=project)
    kernel.client.execute(
        "open('partial.csv', 'w').write('1\\n'); open('done', 'w').close(); import time; time.sleep(60)",
        allow_stdin=False,
    )
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/done")), 20 * harness.PATIENCE)
    everybody = processes.tree(kernel.pid)
    for process in everybody:
        process.kill(19)
    for process in everybody:
        process.kill(9)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 5 * harness.PATIENCE)
    again = start(ISOLATED, cwd=project)
    run = again.run("import utils; print(open('staging/out/partial.csv').read())")
    assert run.stdout == "1\n\n", run.problem
    assert any("earlier" in text for text in run.notices), run.notices
    assert becomes(project / "staging" / "out" / "partial.csv", "1\n") == "1\n"


def test_same_cells_without_the_wall(site, start):
    """The project is an ordinary one: what the cells above compute does not come from the wall."""
    folder = site.project()
    make_project(site, folder)
    analyse(start(DIRECT, cwd=folder))


# ---- the page ----


@pytest.mark.core
def test_page(site, start):
    """Every command, every cell and every line of output on the page."""
    text = (pathlib.Path(site.prefix) / PAGE).read_text()
    home = site.home / "rivers"
    home.mkdir()
    archive = make_project(site, home)
    archive.rename(site.home / "archive")
    (home / "measurements.bin").unlink()
    (home / "measurements.bin").symlink_to("../archive/measurements.bin")
    (home / "features" / "__init__.py").unlink()
    (home / "features" / "ratio.py").unlink()
    (home / "features").rmdir()
    (home / "__pycache__" / "utils.cpython-39.pyc").unlink()
    (home / "__pycache__").rmdir()
    (site.home / "kernel-env").symlink_to(pathlib.Path(site.python).parent.parent)
    before = listing(home)
    kernel, cell, wrong, counts = None, None, [], {"console": 0, "python": 0, "restart": 0}
    for kind, block in [*pages.blocks(text), ("end", "")]:
        if cell is not None:
            wrong += pages.compare(*cell[:1], block if kind == "text" else "", cell[1])
            cell = None
        counts[kind] = counts.get(kind, 0) + 1
        if kind == "console":
            wrong += pages.command(site, home, block)
        elif kind == "json":
            site.put(site.home, "policies/models.json", block)
        elif kind == "python":
            kernel = kernel or start(ISOLATED, cwd=home)
            cell = block, pages.cell(kernel, block)
        elif kind == "restart":
            restarted(kernel)
    assert wrong == [], "".join(wrong)
    assert counts["console"] >= 5 and counts["python"] >= 5 and counts["restart"] >= 1, counts
    kernel.shutdown()
    assert listing(home) == before
