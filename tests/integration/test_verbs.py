"""install, list, remove, policy: what they write and what they refuse."""

import json
import os
import pathlib
import subprocess
import sys

import harness
import pytest
from harness import ISOLATED
from jupyter_client.kernelspec import KernelSpecManager


@pytest.fixture
def place(site, tmp_path_factory):
    """A fresh prefix to install into."""
    return site.project()


def spec_below(prefix, name):
    return json.loads((pathlib.Path(prefix) / "share" / "jupyter" / "kernels" / name / "kernel.json").read_text())


def test_installed_spec(site):
    spec = site.spec()
    argv = spec["argv"]
    assert argv[0] == site.cellwall and os.path.isabs(argv[0])
    assert sum(part.count("{connection_file}") for part in argv) == 1
    assert argv[argv.index("--") + 1] == site.python
    assert "{inner_connection_file}" in argv
    assert spec["env"], "a spec without env is rewritten by VS Code"
    assert spec["language"] == "python" and spec["metadata"].get("debugger") is True
    assert "isolated" in spec["display_name"] and spec["display_name"] != "Python 3 (ipykernel)"
    for name in ("kernel_provisioner", "supported_encryption", "interpreter"):
        assert name not in spec["metadata"]


def test_logos(site):
    directory = site.specs / ISOLATED
    for name, size in (("logo-32x32.png", 32), ("logo-64x64.png", 64)):
        data = (directory / name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(data[16:20], "big") == int.from_bytes(data[20:24], "big") == size
    assert b"<svg" in (directory / "logo-svg.svg").read_bytes()


def test_jupyter_finds_it(site):
    assert ISOLATED in KernelSpecManager().find_kernel_specs()


def test_names_and_display_name(site, place):
    site.run(
        "install",
        "--prefix",
        place,
        "--name",
        "mine",
        "--display-name",
        "Mine, walled",
        "--python",
        site.python,
        check=True,
    )
    assert spec_below(place, "mine")["display_name"] == "Mine, walled"


@pytest.mark.parametrize("name", ["python", "python3", "Python3", "a b", "../up", "", "a/b"])
def test_names_that_are_refused(site, place, name):
    result = site.run("install", "--prefix", place, "--name", name, "--python", site.python)
    assert result.returncode in (1, 2) and len(result.stderr.splitlines()) <= 3, result.stderr
    assert not list(place.rglob("kernel.json")) and not (place.parent / "up").exists()


def test_user_install(site, tmp_path):
    site.run("install", "--user", "--name", "for-me", "--python", site.python, check=True)
    found = list((site.home / ".local").rglob("for-me/kernel.json"))
    assert len(found) == 1
    assert site.run("remove", "for-me").returncode == 0
    assert not found[0].exists()


def test_policy_is_named_by_its_absolute_path(site, place):
    policy = site.policy({"env": {"set": {"WORD": "from the policy"}}})
    site.run("install", "--prefix", place, "--name", "p", "--python", site.python, "--policy", policy, check=True)
    argv = spec_below(place, "p")["argv"]
    assert argv[argv.index("--policy") + 1] == str(policy)


def test_list_and_remove(site, place):
    env = {"JUPYTER_PATH": str(place / "share" / "jupyter")}
    for name in ("one", "two"):
        site.run("install", "--prefix", place, "--name", name, "--python", site.python, check=True)
    listed = site.run("list", env=env, check=True).stdout
    assert "one" in listed and "two" in listed
    assert site.run("remove", "one", env=env).returncode == 0
    listed = site.run("list", env=env, check=True).stdout
    assert "two" in listed and not (place / "share" / "jupyter" / "kernels" / "one").exists()
    assert site.run("remove", "one", env=env).returncode == 1


def test_remove_leaves_other_kernels_alone(site):
    result = site.run("remove", harness.DIRECT)
    assert result.returncode == 1
    assert (site.specs / harness.DIRECT / "kernel.json").exists()


def test_install_replaces_its_own_only(site, place):
    site.run("install", "--prefix", place, "--name", "again", "--python", site.python, check=True)
    site.run(
        "install", "--prefix", place, "--name", "again", "--python", site.python, "--display-name", "New", check=True
    )
    assert spec_below(place, "again")["display_name"] == "New"
    directory = place / "share" / "jupyter" / "kernels" / "foreign"
    directory.mkdir()
    (directory / "kernel.json").write_text('{"argv": ["x"], "display_name": "x", "language": "x"}')
    result = site.run("install", "--prefix", place, "--name", "foreign", "--python", site.python)
    assert result.returncode == 1
    assert json.loads((directory / "kernel.json").read_text())["display_name"] == "x"


def test_python_without_ipykernel_or_not_there(site, place):
    result = site.run("install", "--prefix", place, "--name", "x", "--python", "/nowhere/python")
    assert result.returncode == 1 and "/nowhere/python" in result.stderr
    environment = site.project()
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to("/nowhere/python3")
    for name, words in ((environment, "is a directory"), (environment / "bin" / "python", "make the environment anew")):
        result = site.run("install", "--prefix", place, "--name", "x", "--python", name)
        assert result.returncode == 1 and f"{name} is a" in result.stderr and words in result.stderr, result.stderr


def test_shared_environment_is_refused(site, place):
    """The environment of the server (here: of these tests, as JUPYTER_PATH says) must not be the kernel's."""
    prefix = pathlib.Path(sys.prefix)
    env = {"PATH": f"{prefix}/bin:{os.environ['PATH']}"}
    result = site.run("install", "--prefix", place, "--name", "shared", "--python", sys.executable, env=env)
    assert result.returncode == 1, result.stdout
    assert str(prefix) in result.stderr and "venv" in result.stderr
    assert not list(place.rglob("kernel.json"))
    result = site.run(
        "install", "--prefix", place, "--name", "shared", "--python", sys.executable, "--shared-environment", env=env
    )
    assert result.returncode == 0, result.stderr
    assert "--shared-environment" in spec_below(place, "shared")["argv"]


def test_shared_environment_is_refused_at_every_launch(site, launch):
    env = {**site.environment, "JUPYTER_PATH": str(pathlib.Path(sys.prefix) / "share" / "jupyter")}
    launched = launch(sys.executable, "-c", "pass", "{inner_connection_file}", env=env)
    assert launched.wait() not in (0, None)
    assert "venv" in launched.log


def test_a_pth_file_of_the_kernel_never_runs_on_the_host(site, place):
    """The interpreter's prefix is found without running it."""
    venv = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, env={"PATH": "/usr/bin:/bin"})
    packages = next(venv.glob("lib/python3*/site-packages"))
    witness = site.root / "the-host-ran-it"
    (packages / "evil.pth").write_text(f"import os; open({str(witness)!r}, 'w').close()\n")
    python = venv / "bin" / "python"
    subprocess.run([python, "-c", ""], check=True)
    assert witness.exists(), "the check cannot fail"
    witness.unlink()
    site.run("install", "--prefix", place, "--name", "evil", "--python", python)
    site.run("doctor")
    launched = harness.Launch(site, python, "-c", "print('ran')", "{inner_connection_file}")
    try:
        assert launched.wait() == 0, launched.log
    finally:
        launched.close()
    assert not witness.exists()


def test_policy_show_is_a_policy(site):
    policy = site.policy({"stage": {"in": ["data"], "out_limit": "2G"}, "env": {"keep": ["LANG"]}})
    shown = site.run("policy", "show", policy, check=True).stdout
    again = site.policy(shown)
    assert site.run("policy", "check", again).returncode == 0
    assert json.loads(shown)["stage"]["in"] == ["data"]


def test_policy_environment(site, start):
    policy = site.policy({"env": {"keep": ["KEPT"], "set": {"WORD": "from the policy"}}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy), env={"KEPT": "kept", "NOT_KEPT": "x"})
    run = kernel.run("import os; print(os.environ.get('KEPT'), os.environ.get('WORD'), os.environ.get('NOT_KEPT'))")
    assert run.stdout == "kept from the policy None\n"


def test_setenv(site, start):
    kernel = start(ISOLATED, spec=site.variant("--setenv", "A_WORD=with = signs"))
    assert kernel.run("import os; os.environ['A_WORD']").result == "'with = signs'"


def test_show_option(site, start):
    """--show DIR: a further directory, read-only."""
    shown = site.project(file_txt="shown")
    kernel = start(ISOLATED, spec=site.variant("--show", shown))
    assert kernel.run(f"open('{shown}/file_txt').read()").result == "'shown'"
    assert kernel.run(f"open('{shown}/other', 'w')").status == "error"


def test_resources(site, start):
    policy = site.policy({"resources": {"memory": "4G", "pids": 64, "open_files": 300, "tmp": "16M"}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    run = kernel.run(
        "import resource as r\n"
        "print(r.getrlimit(r.RLIMIT_DATA)[1] >> 30, r.getrlimit(r.RLIMIT_NOFILE)[1])\n"
        "try:\n"
        "    open('/tmp/big', 'wb').write(bytes(40_000_000)); print('WROTE')\n"
        "except OSError as problem: print(problem.errno)\n"
    )
    assert run.stdout.split() == ["4", "300", "28"]
