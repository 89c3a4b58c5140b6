"""What a first start would make and throw away is there: bytecode and matplotlib's list of fonts, made at the
installation."""

import os
import pathlib
import shutil
import subprocess
import time

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


COLD = (
    "import sys; print([m.__name__ for m in list(sys.modules.values()) if getattr(m, '__cached__', None)\n"
    "  and m.__cached__.startswith(sys.prefix + '/') and not __import__('os').path.exists(m.__cached__)])"
)


@pytest.fixture
def bare(site):
    """An environment as uv leaves it: packages without bytecode. A .pth file in it tells who starts Python from it."""
    place = site.root / "bare-env"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", place], check=True)
    packages = next(place.glob("lib/python3*/site-packages"))
    old = next(pathlib.Path(OLD).parents[1].glob("lib/python3*/site-packages"))
    leave = shutil.ignore_patterns("__pycache__", "pip*", "setuptools*", "pkg_resources", "debugpy*", "jedi*", "tests", "babel*", "jupyterlab*", "notebook*")
    shutil.copytree(old, packages, dirs_exist_ok=True, ignore=leave)
    (packages / "tell.pth").write_text(f"import os; open({str(site.root / 'told')!r}, 'a').close()\n")
    yield place
    shutil.rmtree(place)


@pytest.mark.skipif(not os.access(OLD, os.X_OK), reason="CELLWALL_OLD_KERNEL is not set")
def test_packages_are_compiled_at_the_installation(site, start, bare):
    """By nothing of the environment: its .pth files do not run on the host. Who may not write there is told how."""
    python, told = bare / "bin" / "python", site.root / "told"
    packages = next(bare.glob("lib/python3*/site-packages"))
    compiled = lambda: sorted(packages.rglob("*.pyc"))  # noqa: E731
    install = ("install", "--prefix", site.root, "--name", "bare", "--python", python)

    def first_reply():
        begin = time.monotonic()
        kernel = start(ISOLATED, spec="bare")
        seconds = time.monotonic() - begin
        cold = kernel.run(COLD).stdout
        kernel.shutdown()
        return seconds, cold

    owner = packages.stat().st_uid
    os.chown(packages, 65534 if owner == 0 else owner, -1)  # somebody else's, or not to be written
    packages.chmod(0o555)
    refused = site.run(*install, timeout=120 * harness.PATIENCE)
    assert f"-m compileall -q {packages}" in refused.stderr and not compiled(), refused.stderr
    before, cold = first_reply()
    assert "ipykernel.kernelapp" in cold
    packages.chmod(0o755)
    os.chown(packages, owner, -1)

    result = site.run(*install, timeout=120 * harness.PATIENCE)
    assert result.returncode == 0 and result.stderr == "" and compiled(), result.stderr
    assert not told.exists()
    after, cold = first_reply()
    assert cold == "[]\n"
    subprocess.run([python, "-B", "-c", ""], check=True)  # it would have told
    assert told.exists()
    harness.figure(f"first reply of a kernel without bytecode after {before:.2f} s, with it after {after:.2f} s")
