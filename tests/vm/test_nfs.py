"""A home on NFS: the project, the state directory and staging/out are there. Run in the virtual machine, which exports
to itself; every place of the suite is below CELLWALL_PLACE."""

import os
import pathlib
import subprocess

import harness
import processes
import pytest
from harness import ISOLATED, shell

ROOT = os.geteuid() == 0


def kind(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def everything_is_on_nfs(site):
    assert kind(site.root) == kind(site.home) == kind(site.state) == "nfs"


def results(project):
    out = project / "staging" / "out"
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


def test_a_notebook(site, start):
    """Inputs are read, results of before are there and can be appended to, what is written comes out."""
    project = site.project(staging__in__a_csv="1,2\n", staging__out__log_txt="monday\n")
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run(
        "print(open('staging/in/a_csv').read(), end='')\n"
        "print(open('staging/out/log_txt', 'a').write('tuesday\\n'), open('staging/out/log_txt').read().split())\n"
        "import os; os.makedirs('d'); open('d/new.txt', 'w').write('new')\n"
        "try: open('staging/in/a_csv', 'a')\n"
        "except OSError as problem: print(type(problem).__name__, problem.errno)",
        timeout=60,
    )
    assert run.stdout.startswith("1,2\n8 ['monday', 'tuesday']\n"), run.stdout + run.problem
    assert run.stdout.endswith(("OSError 30\n", "PermissionError 13\n"))
    assert processes.wait_until(
        lambda: results(project) == {"log_txt": "monday\ntuesday\n", "d/new.txt": "new"}, 10 * harness.PATIENCE
    ), (results(project), kernel.log)
    kernel.shutdown()
    assert site.private_directories() == []
    assert (project / "staging" / "in" / "a_csv").read_text() == "1,2\n"


def test_an_input_of_the_owner_alone(site, start):
    """Mode 0600: as root the kernel has another uid, and NFS cannot be idmapped on every system."""
    project = site.project(staging__in__key_csv="secret")
    (project / "staging" / "in" / "key_csv").chmod(0o600)
    kernel = start(ISOLATED, cwd=project)
    assert kernel.run("print(open('staging/in/key_csv').read())").stdout == "secret\n"
    assert not ROOT or "a copy of now" in kernel.log or "idmap" not in kernel.log


def test_everything_is_killed(site, launch):
    """What was written before is brought in by the next kernel in the folder."""
    project = site.project()
    launched = launch(*shell("cd /work; echo one > one.txt; echo two > two.txt; touch ready; exec sleep 1000"), cwd=project)
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/ready")), 20 * harness.PATIENCE), launched.log
    for process in processes.tree(launched.pid):
        process.kill()
    assert processes.wait_until(lambda: not processes.strays(site.prefix, launched.since), 10 * harness.PATIENCE)
    launched.close()
    again = launch(*shell("exec true"), cwd=project)
    assert again.wait(30) == 0, again.log
    assert "that an earlier kernel could not bring out" in again.log
    assert results(project) == {"one.txt": "one\n", "two.txt": "two\n", "ready": ""}
    assert site.private_directories() == []


def test_locks(site, launch):
    """What is added is recorded under a lock; two kernels in one folder keep out of each other's way."""
    project = site.project(data__x_csv="7")
    added = site.run("stage", "add", "data", cwd=project)
    assert added.returncode == 0, added.stderr
    script = "cat /work/data/x_csv > /work/seen-$0; sleep 1"
    launches = [launch(*shell(script.replace("$0", str(number))), cwd=project) for number in range(2)]
    for launched in launches:
        assert launched.wait(30) == 0, launched.log
    assert results(project) == {"seen-0": "7", "seen-1": "7"}
    assert site.private_directories() == []


def test_a_folder_that_becomes_read_only_for_the_user(site, launch):
    """The server refuses: the results wait, and nothing is lost."""
    if ROOT:
        pytest.skip("root may write everywhere")
    project = site.project()
    project.chmod(0o555)
    launched = launch(*shell("echo x > /work/x"), cwd=project)
    assert launched.wait(30) is not None
    assert "results stay in" in launched.log
    project.chmod(0o755)
    site.run("stage", "recover", cwd=project, check=True)
    assert results(project) == {"x": "x\n"}
    assert pathlib.Path(project / "staging" / "out" / "x").stat().st_uid == os.geteuid()


def test_a_file_that_somebody_holds_open(site, start, launch):
    """NFS keeps it, and with it the private directory: results are out, and the next start removes what is left."""
    project = site.project()
    kernel = start(ISOLATED, cwd=project)
    kernel.run("open('x', 'w').write('x')")
    (private,) = site.private_directories()
    with open(site.kernels / private / "written", "rb"):
        kernel.shutdown()
        assert results(project) == {"x": "x"}
        assert [name[:4] for name in os.listdir(site.kernels / private)] == [".nfs"]
        assert "is removed by the next start: a file in it is still open" in kernel.log
    launched = launch(*shell("exec true"), cwd=project)
    assert launched.wait(30) == 0, launched.log
    assert site.private_directories() == []
    assert results(project) == {"x": "x"}
