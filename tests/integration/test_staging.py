"""Files in, files out: read-only inputs under their own names, results in staging/out, nothing discarded in silence."""

import os
import pathlib
import signal
import socket
import stat

import harness
import processes
import pytest
from harness import DIRECT, ISOLATED

KINDS = pytest.mark.parametrize("kind", [DIRECT, ISOLATED])


def appears(path, seconds=5):
    """The text of a file as soon as it is there."""
    path = pathlib.Path(path)
    processes.wait_until(path.exists, seconds * harness.PATIENCE)
    return path.read_text() if path.exists() else None


@pytest.mark.core
@KINDS
def test_staged_directory_is_read(site, start, kind):
    project = site.project(staging__in__data_csv="a,b\n1,2\n", staging__in__sub__deep_txt="deep")
    kernel = start(kind, cwd=project)
    code = "import pandas; print(pandas.read_csv('staging/in/data_csv').b[0], open('staging/in/sub/deep_txt').read())"
    assert kernel.run(code).stdout == "2 deep\n"


@pytest.mark.core
@KINDS
def test_project_runs_unchanged(site, start, kind):
    """Names beside the notebook are the names inside; what the policy names is there, what it does not is not."""
    project = site.project(data__x_csv="a\n7\n", staging__in__k_txt="k", private_txt="not for the kernel")
    site.put(project, "utils.py", "def seven(): return 7")
    (project / "data" / "link").symlink_to("x_csv")
    spec = site.variant("--policy", site.policy({"stage": {"in": ["data", "utils.py"]}})) if kind == ISOLATED else None
    kernel = start(kind, cwd=project, spec=spec)
    code = (
        "import pandas as pd, utils, pickle\n"
        "assert pd.read_csv('data/x.csv'.replace('.', '_')).a[0] == utils.seven()\n"
        "pickle.dump({'m': 1}, open('model.pkl', 'wb'))\n"
        "assert pickle.load(open('model.pkl', 'rb')) == {'m': 1}\n"
        "assert open('data/link').read().startswith('a')\n"
        "import os; print(os.path.exists('private_txt'))\n"
    )
    run = kernel.run(code)
    assert run.status == "ok", run.problem
    assert run.stdout == ("True\n" if kind == DIRECT else "False\n")


def test_stage_option_and_absolute_paths(site, start):
    """--stage: another directory with in/ and out/; the policy's absolute paths are staged under their last name."""
    project, elsewhere, other = site.project(), site.project(big__x="1"), site.project(st__in__y="2")
    policy = site.policy({"stage": {"in": [str(elsewhere / "big")]}})
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", policy, "--stage", other / "st"))
    found = kernel.run(
        "import os; print(sorted(os.path.join(d, f) for d, _, fs in os.walk('/work') for f in fs))"
    ).stdout
    assert "/x'" in found and "/y'" in found, found
    kernel.run("open('result', 'w').write('3')")
    assert appears(other / "st" / "out" / "result") == "3"
    assert not (project / "staging").exists()


@pytest.mark.core
def test_results_are_brought_out_after_the_cell(site, start):
    kernel = start(ISOLATED)
    out = kernel.cwd / "staging" / "out"
    run = kernel.run(
        "import os; os.makedirs('sub/deeper'); os.makedirs('/work/staging/out', exist_ok=True)\n"
        "open('result.csv', 'w').write('1'); open('sub/deeper/a.txt', 'w').write('2'); open('/work/staging/out/b.txt', 'w').write('3')"
    )
    assert run.status == "ok", run.problem
    assert appears(out / "result.csv") == "1"
    assert appears(out / "sub" / "deeper" / "a.txt") == "2"
    assert appears(out / "b.txt") == "3"
    assert not (out / "staging").exists() or list((out / "staging").rglob("b.txt")) == []
    mode = (out / "result.csv").stat()
    assert mode.st_uid == os.geteuid() and stat.S_IMODE(mode.st_mode) & 0o7111 == 0
    kernel.run("open('result.csv', 'w').write('changed')")
    assert processes.wait_until(lambda: (out / "result.csv").read_text() == "changed", 5 * harness.PATIENCE)
    assert list(kernel.cwd.glob("*")) == [kernel.cwd / "staging"], "only staging/out may change beside the notebook"


@pytest.mark.core
@pytest.mark.parametrize("how", ["shutdown", "now", "exit", "kill-kernel", "terminate"])
def test_results_survive_every_end(site, start, how):
    """Written in the last moment before the kernel ends, in whatever way it does."""
    kernel = start(ISOLATED)
    kernel.client.execute(
        "open('last.txt', 'w').write('x' * 100000); open('done', 'w').close(); import time; time.sleep(60)"
    )
    inside = processes.wait_until(lambda: list(site.kernels.glob("*/work/done")), 20 * harness.PATIENCE)
    assert inside or (kernel.cwd / "staging" / "out" / "done").exists()
    if how in ("shutdown", "now"):
        kernel.shutdown(now=how == "now")
    elif how == "exit":
        assert kernel.roles()["kernel"].kill(signal.SIGTERM)
    elif how == "kill-kernel":
        assert kernel.roles()["kernel"].kill()
    else:
        os.kill(kernel.pid, signal.SIGTERM)
    if how == "now":  # SIGKILL of the proxy: the supervisor brings the results out, or leaves them for recover
        processes.wait_until(lambda: (kernel.cwd / "staging" / "out" / "last.txt").exists(), 3 * harness.PATIENCE)
        site.run("stage", "recover", cwd=kernel.cwd, check=True)
    else:
        kernel.wait_gone()
    assert len(appears(kernel.cwd / "staging" / "out" / "last.txt") or "") == 100000


@pytest.mark.core
def test_recover_after_sigkill_of_everything(site, start):
    kernel = start(ISOLATED)
    kernel.client.execute(
        "open('precious.txt', 'w').write('42'); open('done', 'w').close(); import time; time.sleep(60)"
    )
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/done")), 20 * harness.PATIENCE)
    since = kernel.started_ticks
    everybody = processes.tree(kernel.pid)
    for process in everybody:  # first stop them all, so that none reacts to another's death
        process.kill(signal.SIGSTOP)
    for process in everybody:
        process.kill(signal.SIGKILL)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 5 * harness.PATIENCE)
    assert processes.strays(site.prefix, since) == []
    assert not (kernel.cwd / "staging" / "out" / "precious.txt").exists()
    assert len(site.private_directories()) == 1
    result = site.run("stage", "recover", cwd=kernel.cwd)
    assert result.returncode == 0, result.stderr
    assert (kernel.cwd / "staging" / "out" / "precious.txt").read_text() == "42"
    assert site.private_directories() == []
    assert site.run("stage", "recover", cwd=kernel.cwd).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_recovery_names_what_can_run_code(site, start):
    kernel = start(ISOLATED)
    out = kernel.cwd / "staging" / "out"
    (kernel.cwd / "staging").mkdir()
    out.mkdir(mode=0o555)
    kernel.run("import pickle; pickle.dump([1], open('model.pkl', 'wb')); open('plain.csv', 'w').write('1')")
    for process in processes.tree(kernel.pid):
        process.kill()
    assert processes.wait_until(lambda: not processes.strays(site.prefix, kernel.started_ticks), 5 * harness.PATIENCE)
    out.chmod(0o755)
    said = site.run("stage", "recover", cwd=kernel.cwd, check=True).stdout
    assert said.startswith("can run code when opened: model.pkl (") and "plain" not in said, said


def test_next_kernel_brings_in_what_was_left(site, start):
    """Results of a kernel that was killed with all of ours are not forgotten: the next one in the folder brings them."""
    kernel = start(ISOLATED)
    code = "import os, time; os.symlink('/etc', 'oldlink'); open('left.txt', 'w').write('42'); open('done', 'w').close(); time.sleep(60)"
    kernel.client.execute(code)
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/done")), 20 * harness.PATIENCE)
    everybody = processes.tree(kernel.pid)
    for process in everybody:
        process.kill(signal.SIGSTOP)
    for process in everybody:
        process.kill(signal.SIGKILL)
    again = start(ISOLATED, cwd=kernel.cwd)
    again.run("1")
    again.shutdown()
    said = [line for line in again.log.splitlines() if "oldlink" in line]
    assert said and "earlier kernel" in said[0], again.log
    assert appears(kernel.cwd / "staging" / "out" / "left.txt") == "42"
    assert site.private_directories() == []


@pytest.mark.core
def test_refused_by_name(site, start):
    """Links, fifos, sockets, hidden files: not brought out, and said so in the notebook and in the log."""
    outside = site.put(site.root, "outside.txt", site.secret)
    kernel = start(ISOLATED)
    run = kernel.run(
        "import os, socket\n"
        f"os.symlink({str(outside)!r}, 'alink'); os.symlink('/etc', 'dirlink'); os.mkfifo('afifo'); open('.hidden', 'w').write('h')\n"
        "s = socket.socket(socket.AF_UNIX); s.bind('asocket')\n"
        "open('fine.txt', 'w').write('ok'); open('bad\\x1b[2Jname\\n\\u202e', 'w').write('escape')\n"
    )
    assert run.status == "ok", run.problem
    out = kernel.cwd / "staging" / "out"
    assert appears(out / "fine.txt") == "ok"
    texts, refused = run.notices, ("alink", "dirlink", "afifo", "asocket")
    for _ in range(int(20 * harness.PATIENCE)):
        if all(name in "".join(texts) for name in refused):
            break
        texts += harness.notices(harness.drain(kernel.client, 1))
    kernel.shutdown()
    everything = "".join(texts)
    for name in refused:
        assert name in everything, f"{name} is not named in {texts}"
        assert name in kernel.log
        assert not os.path.lexists(out / name)
    hidden = out / ".hidden"
    assert hidden.exists() or ".hidden" in everything, "a hidden file is brought out or named, never dropped in silence"
    assert "\x1b" not in everything and "\u202e" not in everything and "\x1b" not in kernel.log


def test_output_never_goes_through_a_link(site, start):
    """staging/out/x that is a link on the host, made before: the target is not written."""
    victim = site.put(site.root, "victim.txt", "untouched")
    project = site.project()
    out = project / "staging" / "out"
    out.mkdir(parents=True)
    (out / "a.txt").symlink_to(victim)
    (out / "dir").symlink_to(site.root)
    kernel = start(ISOLATED, cwd=project)
    kernel.run("import os; os.makedirs('dir'); open('a.txt', 'w').write('x'); open('dir/planted.txt', 'w').write('x')")
    kernel.shutdown()
    assert victim.read_text() == "untouched"
    assert not (site.root / "planted.txt").exists()


def test_what_was_in_out_before_is_not_lost(site, start):
    project = site.project(staging__out__old_txt="old", staging__out__same_txt="first")
    kernel = start(ISOLATED, cwd=project)
    assert kernel.run("open('new.txt', 'w').write('new'); open('same_txt', 'w').write('second')").status == "ok"
    kernel.shutdown()
    out = project / "staging" / "out"
    assert (out / "old_txt").read_text() == "old" and (out / "new.txt").read_text() == "new"
    assert "second" in [path.read_text() for path in out.glob("same_txt*")]


def test_size_and_count_limits(site, start):
    policy = site.policy({"stage": {"out_limit": "1M", "out_files": 20}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    run = kernel.run(
        "import os\n"
        "os.mkdir('many')\n"
        "for index in range(50): open(f'many/{index}', 'w').write('x')\n"
        "try:\n"
        "    open('big', 'wb').write(b'x' * 3_000_000)\n"
        "except OSError as problem: print(problem)\n"
    )
    texts = run.notices + harness.notices(harness.drain(kernel.client, 1))
    kernel.shutdown()
    out = kernel.cwd / "staging" / "out"
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) <= 20 and sum(path.stat().st_size for path in files) <= 1 << 20
    assert texts or run.stdout, "a limit was reached and nothing was said"


@pytest.mark.parametrize("kind", ["socket", "fifo"])
def test_staged_tree_with_a_special_file_is_refused(site, launch, kind):
    project = site.project(staging__in__a_txt="1")
    path = project / "staging" / "in" / "special"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        here = os.getcwd()
        os.chdir(path.parent)
        holder = socket.socket(socket.AF_UNIX)
        holder.bind("special")
        os.chdir(here)
    launched = launch(*harness.SLEEP, cwd=project)
    assert launched.wait() not in (0, None)
    assert "special" in launched.log and kind in launched.log


def test_nothing_written_leaves_nothing(site, start, nothing_left):
    project = site.project(staging__in__a_txt="1")
    kernel = start(ISOLATED, cwd=project)
    assert kernel.run("open('staging/in/a_txt').read()").status == "ok"
    kernel.shutdown()


def test_many_files_and_a_large_one(site, start):
    kernel = start(ISOLATED)
    kernel.run(
        "import os\nfor i in range(2000): open(f'f{i}', 'w').write(str(i))\nopen('large', 'wb').write(os.urandom(1 << 20) * 64)"
    )
    kernel.shutdown()
    out = kernel.cwd / "staging" / "out"
    if site.private_directories():  # not all within the time a client allows: then recover brings the rest
        site.run("stage", "recover", cwd=kernel.cwd, check=True)
    assert (out / "large").stat().st_size == 64 << 20
    assert sorted(int(path.name[1:]) for path in out.glob("f*")) == list(range(2000))


def test_two_kernels_in_one_folder(site, start):
    project = site.project()
    one, two = start(ISOLATED, cwd=project), start(ISOLATED, cwd=project)
    one.run("open('one.txt', 'w').write('1')")
    two.run("import os; assert not os.path.exists('one.txt'); open('two.txt', 'w').write('2')")
    one.shutdown()
    two.shutdown()
    out = project / "staging" / "out"
    assert (out / "one.txt").read_text() == "1" and (out / "two.txt").read_text() == "2"
