"""What a first start would make and throw away is there: matplotlib's list of fonts, made at the installation."""

import os

import harness
import pytest
from harness import ISOLATED

LOOK = "import os; print(os.listdir(os.path.expanduser('~/.cache/matplotlib')))"
OLD = os.environ.get("CELLWALL_OLD_KERNEL", "")


def kept(site):
    return {path: path.read_bytes() for path in (site.state / "cellwall" / "warm").glob("*/*")}


def test_fonts_are_listed_at_the_installation(site, start):
    for path in kept(site):
        path.unlink()
        path.parent.rmdir()
    assert start(ISOLATED).run(LOOK).status == "error"  # an empty home
    result = site.run("install", "--user", "--name", "warm", "--python", site.python, timeout=60 * harness.PATIENCE)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    before = kept(site)
    assert [path.name.startswith("fontlist-v") for path in before] == [True]
    kernel = start(ISOLATED)
    assert "fontlist-v" in kernel.run(LOOK).stdout
    # It is taken as it is, and what a kernel makes of it is its own.
    run = kernel.run(
        "import glob, logging; logging.basicConfig(level=logging.INFO)\n"
        "import matplotlib.font_manager as f; print(len(f.fontManager.ttflist) > 0)\n"
        "[open(n, 'w').write('gone') for n in glob.glob(os.path.expanduser('~/.cache/matplotlib/*.json'))]",
        timeout=60,
    )
    assert run.stdout == "True\n" and "generated new fontManager" not in run.stream("stderr"), run
    kernel.shutdown()
    assert kept(site) == before
    assert "fontlist-v" in start(ISOLATED).run(LOOK).stdout


@pytest.mark.skipif(not os.access(OLD, os.X_OK), reason="CELLWALL_OLD_KERNEL is not set")
def test_an_environment_without_matplotlib_says_nothing(site):
    before = kept(site)
    result = site.run("install", "--user", "--name", "cold", "--python", OLD, timeout=60 * harness.PATIENCE)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert kept(site) == before
