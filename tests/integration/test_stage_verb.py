"""`cellwall stage` as a person uses it, and what a launch makes of the record and of the policy's stage section."""

import json
import os
import pathlib
import socket
import stat
import subprocess
import time

import harness
import processes
import pytest
from harness import ISOLATED

pytestmark = pytest.mark.usefixtures("nothing_left")


def folder(site, **files):
    """A project with a big data set elsewhere and a link to it."""
    project = site.project(data__x_csv="a\n7\n", utils_py="", **files)
    (project / "utils_py").rename(project / "utils.py")
    (project / "utils.py").write_text("def seven(): return 7\n")
    return project


def listing(site, project, *options):
    return json.loads(site.run("stage", "list", "--json", *options, cwd=project, check=True).stdout)


def names(site, project):
    return [entry["name"] for entry in listing(site, project)]


def records(site):
    return sorted((site.state / "cellwall" / "folders").glob("*/inputs.json"))


SEE = "import os; print(sorted(n for n in os.listdir('.') if n not in ('staging', '.cellwall-history.sqlite')))"


def kernel_sees(kernel):
    return eval(kernel.run(SEE).stdout)


def logged(kernel, *words):
    return processes.wait_until(lambda: all(word in kernel.log for word in words), 5 * harness.PATIENCE) or kernel.log


# ---- add, list, drop ----


@pytest.mark.core
def test_one_add_makes_a_project_work(site, start):
    """A module, a folder, a large file behind a link: after one `stage add` the notebook runs, and nothing changes."""
    project = folder(site)
    elsewhere = site.project()
    with open(elsewhere / "big.bin", "wb") as file:
        file.truncate(2 << 30)
    (project / "big.bin").symlink_to(elsewhere / "big.bin")
    before = sorted(str(path) for path in project.rglob("*"))
    added = site.run("stage", "add", "utils.py", "data", "big.bin", cwd=project, check=True).stdout
    assert f"added big.bin, which leads to {elsewhere / 'big.bin'}" in added
    assert sorted(str(path) for path in project.rglob("*")) == before, "the record is not in the project"
    begin = time.monotonic()
    kernel = start(ISOLATED, cwd=project)
    took = time.monotonic() - begin
    run = kernel.run(
        "import utils, os\n"
        "assert open('data/x_csv').read() == 'a\\n7\\n'\n"
        "assert os.path.getsize('big.bin') == 2 << 30 and not os.path.islink('big.bin')\n"
        "print(utils.seven())\n"
        "import errno\n"
        "for name in ('utils.py', 'data/x_csv', 'big.bin', 'data/new'):\n"
        "    try: open(name, 'a'); print('written', name)\n"
        # a file that the kernel's uid does not own is not for it to write in the first place
        "    except OSError as e: assert e.errno in (errno.EROFS, errno.EACCES), e\n"
    )
    assert run.status == "ok", run.problem
    assert run.stdout == "7\n"
    assert took < 30 * harness.PATIENCE, "2 GB are bound, not copied"
    kernel.shutdown()
    assert sorted(str(path) for path in project.rglob("*") if "staging" not in path.parts) == before


def test_a_cloned_project_stages_nothing_by_itself(site, start):
    """What lies in the folder is no record, whatever it is called; nor does a kernel of another folder have it."""
    project, other = folder(site), folder(site)
    site.put(project, ".cellwall/inputs.json", '{"version":1,"folder":"x","inputs":[{"name":"data","real":"/x"}]}')
    site.run("stage", "add", "data", cwd=other, check=True)
    assert kernel_sees(start(ISOLATED, cwd=project)) == []
    assert kernel_sees(start(ISOLATED, cwd=other)) == ["data"]


def test_all_of_a_folder(site, start):
    """"." is what is not hidden; a link that leads out is not followed by it, and said to be."""
    project, outside = folder(site, secret="", staging__in__k="k"), site.project(private="p")
    (project / "secret").rename(project / ".env")
    (project / "out").symlink_to(outside)
    (project / "near").symlink_to("data")
    os.mkfifo(project / "pipe")
    site.run("stage", "add", ".", cwd=project, check=True)
    kernel = start(ISOLATED, cwd=project)
    assert kernel_sees(kernel) == ["data", "near", "utils.py"]
    assert logged(kernel, "out leads out of the folder", "pipe is a fifo") is True
    site.run("stage", "add", "out", cwd=project, check=True)
    again = start(ISOLATED, cwd=project)
    assert kernel_sees(again) == ["data", "near", "out", "utils.py"]
    assert logged(again, "pipe is a fifo") is True and "leads out" not in again.log


@pytest.mark.parametrize("where", ["home", "root", "/"])
def test_all_of_the_home_is_refused(site, where):
    place = {"home": site.home, "root": site.root, "/": pathlib.Path("/")}[where]
    before = records(site)
    result = site.run("stage", "add", ".", cwd=place)
    assert result.returncode == 1
    assert "the home" in result.stderr and records(site) == before


def test_the_home_as_a_folder(site, start):
    """Single things in it can be staged, with the results beside them; the rest stays out of sight."""
    site.put(site.home, "table.csv", "1")
    try:
        site.run("stage", "add", "table.csv", cwd=site.home, check=True)
        kernel = start(ISOLATED, cwd=site.home)
        assert kernel_sees(kernel) == ["table.csv"]
        assert kernel.run("open('r.txt', 'w').write('r')").status == "ok"
        assert processes.wait_until(lambda: (site.home / "staging" / "out" / "r.txt").exists(), 5 * harness.PATIENCE)
    finally:
        site.run("stage", "drop", "--all", cwd=site.home)


def test_what_cannot_be_added(site):
    """Everything is looked at before anything is recorded; the line says what is wrong, with the path."""
    project = folder(site)
    (project / "keys").symlink_to(site.home / ".ssh")
    (project / "sub").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(project / "sub")
    listener.bind("s\x1b[31m.sock")
    os.chdir(here)
    cases = {
        "nothing": "not there",
        "..": "the home",
        "/": "the home",
        "/proc/self": "belongs to the system",
        "keys": "a hidden place of your home",
        "sub": "s\\x1b[31m.sock is a socket",
        "staging": "not there",
        "x/../y=/usr": "plain relative name",
        "set=../sets": "NAME=PATH needs an absolute path",
    }
    for word, expected in cases.items():
        result = site.run("stage", "add", "data", word, cwd=project)
        assert result.returncode == 1 and expected in result.stderr, (word, result.stderr)
        assert "\x1b" not in result.stderr
    assert names(site, project) == []
    listener.close()


def test_usage_is_exit_code_2(site):
    for words in (
        [],
        ["frobnicate"],
        ["add"],
        ["drop"],
        ["get"],
        ["put"],
        ["put", "a", "b", "c"],
        ["status", "--all"],
        ["add", "x", "--json"],
        ["drop", "x", "--all"],
        ["list", "word"],
    ):
        assert site.run("stage", *words).returncode == 2, words
    assert site.run("stage", "--help").returncode == 0


def test_odd_names(site, start):
    """A newline, an escape, bytes that are no UTF-8: staged as they are, printed and listed safely."""
    project = site.project()
    name = b"n\new\x1b[31m\xff%41"
    os.mkdir(os.fsencode(project) + b"/" + name)
    result = subprocess.run(
        [os.fsencode(site.cellwall), b"stage", b"add", name], cwd=project, capture_output=True, env=site.environment
    )
    assert result.returncode == 0, result.stderr
    assert b"added n\\new\\x1b[31m\\xff%41\n" in result.stdout
    entry = listing(site, project)[0]
    assert (entry["name"], entry["name_encoding"]) == ("n%0aew%1b[31m%ff%2541", "percent")
    kernel = start(ISOLATED, cwd=project)
    assert eval(kernel.run("import os; print([n for n in os.listdir(b'.') if n != b'staging'])").stdout) == [name]
    ls = site.run("stage", "ls", cwd=project, check=True).stdout
    assert "n\\new\\x1b[31m\\xff%41" in ls and "\x1b" not in ls


def test_missing_is_a_notice_and_required_is_an_error(site, start):
    project = folder(site)
    site.run("stage", "add", "data", "utils.py", cwd=project, check=True)
    (project / "utils.py").unlink()
    policy = site.policy({"stage": {"in": ["nothing", "/nowhere/at/all"]}})
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", policy))
    assert kernel_sees(kernel) == ["data"]
    assert logged(kernel, "utils.py: not there", "nothing: not there", "/nowhere/at/all: not there") is True
    assert "NOT STAGED" in site.run("stage", "list", cwd=project, check=True).stdout
    policy = site.policy({"stage": {"in": [{"path": "nothing", "required": True}]}})
    failed = start(ISOLATED, cwd=project, spec=site.variant("--policy", policy), wait=False)
    assert failed.wait_gone(10) is not None
    assert "a required input" in failed.log and "nothing: not there" in failed.log


def test_a_device_socket_or_fifo_stops_the_launch_with_its_path(site, start):
    project = folder(site)
    site.run("stage", "add", "data", cwd=project, check=True)
    os.mkfifo(project / "data" / "pipe")
    kernel = start(ISOLATED, cwd=project, wait=False)
    assert kernel.wait_gone(10) is not None
    assert "data/pipe is a fifo" in kernel.log and "cellwall stage drop data" in kernel.log


def test_a_link_that_leads_elsewhere_since(site, start):
    """What a link led to was agreed to: a `git pull` that points it at something else stages nothing."""
    project, agreed, other = folder(site), site.project(good="1"), site.project(secret="2")
    (project / "set").symlink_to(agreed)
    site.run("stage", "add", "set", cwd=project, check=True)
    (project / "set").unlink()
    (project / "set").symlink_to(other)
    kernel = start(ISOLATED, cwd=project)
    assert kernel_sees(kernel) == []
    assert logged(kernel, "leads to", "add it again if that is meant") is True
    site.run("stage", "add", "set", cwd=project, check=True)
    assert start(ISOLATED, cwd=project).run("print(open('set/secret').read())").stdout == "2\n"


@pytest.mark.parametrize("part", ["staging", "staging/in", "staging/out"])
def test_a_staging_that_leads_out_of_the_folder(site, start, part):
    """A cloned project could have it read, or have results written, beside itself: only when agreed to."""
    project, outside = site.project(), site.project(victim="v")
    (project / part).parent.mkdir(exist_ok=True)
    (project / part).symlink_to(outside)
    kernel = start(ISOLATED, cwd=project, wait=False)
    assert kernel.wait_gone(10) is not None
    assert f"cellwall stage add {part}" in kernel.log
    assert sorted(path.name for path in outside.iterdir()) == ["victim"]
    site.run("stage", "add", part, cwd=project, check=True)
    assert start(ISOLATED, cwd=project).run("1").status == "ok"


def test_a_folder_that_was_moved(site, start):
    """The record belongs to the path: the folder has none at its new place, and the old one is shown as gone."""
    project = folder(site)
    site.run("stage", "add", "data", cwd=project, check=True)
    moved = project.with_name(project.name + "-moved")
    project.rename(moved)
    assert names(site, moved) == []
    assert kernel_sees(start(ISOLATED, cwd=moved)) == []
    gone = [entry for entry in listing(site, moved, "--all") if entry["folder"] == str(project)]
    assert gone and gone[0]["gone"] is True
    assert f"forgot {project}" in site.run("stage", "drop", "--gone", cwd=moved, check=True).stdout
    assert [entry for entry in listing(site, moved, "--all") if entry["folder"] == str(project)] == []


def test_adding_at_the_same_time(site):
    """Every one of many at once is recorded."""
    project = site.project(**{f"f{i}": "" for i in range(12)})
    running = [
        subprocess.Popen([site.cellwall, "stage", "add", f"f{i}"], cwd=project, stdout=subprocess.DEVNULL)
        for i in range(12)
    ]
    assert [process.wait(30) for process in running] == [0] * 12
    assert sorted(names(site, project)) == sorted(f"f{i}" for i in range(12))
    site.run("stage", "drop", *(f"f{i}" for i in range(12)), cwd=project, check=True)
    assert names(site, project) == []


def test_a_record_that_cannot_be_used(site, start):
    """Damaged, or to be written by others: the kernel starts with less, and says so; changing it is refused."""
    project = folder(site)
    before = set(records(site))
    site.run("stage", "add", "data", cwd=project, check=True)
    (record,) = set(records(site)) - before
    assert stat.S_IMODE(record.stat().st_mode) == 0o600 and stat.S_IMODE(record.parent.stat().st_mode) == 0o700
    good = record.read_text()
    for problem in ("damaged", "written by others", "belongs to uid"):
        if problem == "damaged":
            record.write_text("{")
        elif problem == "written by others":
            record.write_text(good)
            record.chmod(0o666)
        elif os.geteuid() != 0:
            continue
        else:
            record.chmod(0o600)
            os.chown(record, 12345, 12345)
        kernel = start(ISOLATED, cwd=project)
        assert kernel_sees(kernel) == []
        assert logged(kernel, problem) is True
        for words in (["add", "utils.py"], ["list"], ["ls"], ["drop", "data"]):
            result = site.run("stage", *words, cwd=project)
            assert result.returncode == 1 and problem in result.stderr
    record.unlink()


# ---- the policy ----


def test_policy_bounds_what_may_be_added(site, start):
    project, outside = folder(site), site.project(o="o")
    site.run("stage", "add", "data", f"far={outside}", cwd=project, check=True)
    seen = {}
    for name, may_add in {"default": None, "none": [], "outside": [str(outside.parent)], "both": [".", str(outside)]}.items():
        stage = {} if may_add is None else {"may_add": may_add}
        kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", site.policy({"stage": stage})))
        seen[name] = kernel_sees(kernel)
        if name == "none":
            assert logged(kernel, "data: the policy (stage.may_add) does not let it be added", "far: the policy") is True
        kernel.close()
    # the project lies below the directory of `outside` as well
    assert seen == {"default": ["data"], "none": [], "outside": ["data", "far"], "both": ["data", "far"]}


def test_policy_names_and_places(site, start):
    """NAME=/abs/path and objects; a place inside another's tree is refused by name, the same files are no matter."""
    project, outside = folder(site), site.project(o="o")
    stage = {"in": ["data", "data/x_csv", f"far/off={outside}", {"path": "utils.py", "name": "tools.py"}, f"data/no={outside}"]}
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", site.policy({"stage": stage})))
    assert kernel_sees(kernel) == ["data", "far", "tools.py"]
    assert kernel.run("print(open('far/off/o').read(), open('data/x_csv').read()[0])").stdout == "o a\n"
    assert logged(kernel, "data/no: its place is that of") is True


def test_policy_show_and_check(site):
    policy = site.policy({"stage": {"in": [{"path": "a", "required": True}], "may_add": [], "history": "folder"}})
    shown = json.loads(site.run("policy", "show", policy, check=True).stdout)["stage"]
    assert shown["in"] == [{"path": "a", "name": "a", "required": True}]
    assert shown["may_add"] == [] and shown["history"] == "folder" and shown["caches"] == []
    bad = site.policy('{"stage": {\n "caches": ["nltk", "x"]}}')
    result = site.run("policy", "check", bad)
    assert result.returncode == 1 and ':2:21: unknown cache "x"' in result.stderr


def test_caches(site, start):
    """Read-only for the host, changeable inside, without the token beside them; moved ones are followed."""
    caches = site.project(hf__hub__models__m="weights", hf__token="hf_secret", hf__datasets__d="d", nltk__corpora__c="c")
    policy = site.policy({"stage": {"caches": ["huggingface", "nltk", "torch"]}})
    moved = {"HF_HOME": str(caches / "hf"), "NLTK_DATA": str(caches / "nltk")}
    kernel = start(ISOLATED, spec=site.variant("--policy", policy), env=moved)
    run = kernel.run(
        "import os\n"
        "home = os.path.expanduser('~')\n"
        "print(os.environ['HF_HUB_OFFLINE'], os.environ['TRANSFORMERS_OFFLINE'], os.environ['HF_HOME'])\n"
        "print(open(os.environ['HF_HOME'] + '/hub/models/m').read(), open(home + '/nltk_data/corpora/c').read())\n"
        "print(os.path.exists(os.environ['HF_HOME'] + '/token'))\n"
        "open(os.environ['HF_HOME'] + '/hub/lock', 'w').close()\n"
        "open(os.environ['HF_HOME'] + '/hub/models/m', 'w').write('poisoned')\n"
    )
    assert run.status == "ok", run.problem
    assert run.stdout == "1 1 /home/user/.cache/huggingface\nweights c\nFalse\n"
    assert logged(kernel, "the policy gives the torch cache, but") is True
    kernel.close()
    assert (caches / "hf" / "hub" / "models" / "m").read_text() == "weights"
    assert sorted(os.listdir(caches / "hf" / "hub")) == ["models"]


def test_startup_files(site, start):
    """They run in their order; the user's own ~/.ipython does not."""
    project = site.project(a_py="order = ['a']", b_py="order.append('b')")
    for name in "ab":
        (project / f"{name}_py").rename(project / f"{name}.py")
    own = site.put(site.home, ".ipython/profile_default/startup/00-own.py", "order = ['own']")
    policy = site.policy({"stage": {"startup": [str(project / "a.py"), "b.py", "missing.py"]}})
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", policy))
    own.unlink()
    run = kernel.run("print(order)")
    assert run.status == "ok", run.problem
    assert run.stdout == "['a', 'b']\n"
    assert logged(kernel, "missing.py: not there") is True


def test_history_of_a_folder(site, start):
    """Off by default; "folder" keeps what was typed for the next kernel there and for no other."""
    project, other = site.project(), site.project()
    spec = site.variant("--policy", site.policy({"stage": {"history": "folder"}}))
    kernel = start(ISOLATED, cwd=project, spec=spec)
    kernel.run("remembered = 12345", store_history=True)
    kernel.run("%history -g -f /dev/null", store_history=True)
    kernel.shutdown()
    kernel.wait_gone()
    again = start(ISOLATED, cwd=project, spec=spec)
    assert "remembered = 12345" in again.run("%history -g").stdout
    assert "remembered" not in start(ISOLATED, cwd=other, spec=spec).run("%history -g").stdout
    assert "remembered" not in start(ISOLATED, cwd=project).run("%history -g").stdout
    assert not list(project.rglob("*history*"))


def test_names_that_are_let_out(site, start):
    out_names = site.policy({"stage": {"out_names": ["conftest.py"]}})
    code = "open('conftest.py', 'w').write('1')\nopen('.envrc', 'w').write('1')\nopen('last', 'w').write('1')"
    for policy, expected in ((site.policy({}), ["last"]), (out_names, ["conftest.py", "last"])):
        kernel = start(ISOLATED, spec=site.variant("--policy", policy))
        kernel.run(code)
        kernel.shutdown()
        assert sorted(os.listdir(kernel.cwd / "staging" / "out")) == expected


# ---- running kernels ----


def test_ls_of_a_running_kernel(site, start):
    """Sizes, origin, and what the kernel made."""
    project = folder(site)
    site.run("stage", "add", "data", cwd=project, check=True)
    assert "no kernel runs in this folder" in site.run("stage", "ls", cwd=project, check=True).stdout
    kernel = start(ISOLATED, cwd=project)
    kernel.run("open('done.txt', 'w').write('x' * 1500)\nimport os; os.symlink('/etc', 'e\\x1b[31m')")

    def settled():
        text = site.run("stage", "ls", cwd=project, check=True).stdout
        return "collected     1.5 kB  done.txt" in text and "  e\\x1b[31m  (" in text

    assert processes.wait_until(settled, 10 * harness.PATIENCE)
    seen = json.loads(site.run("stage", "ls", "--json", cwd=project, check=True).stdout)
    assert [(entry["name"], entry["size"], entry["files"]) for entry in seen["inputs"]] == [("data", 4, 1)]
    (running,) = seen["kernels"]
    assert running["out"] == str(project / "staging" / "out") and abs(running["started"] - time.time()) < 120
    files = {entry["path"]: entry for entry in running["files"]}
    assert files["data"]["kind"] == "staged" and files["data"]["origin"] == str(project / "data")
    assert files["done.txt"]["kind"] == "collected" and files["done.txt"]["size"] == 1500
    assert files["e\x1b[31m"]["kind"] == "refused"
    text = site.run("stage", "ls", cwd=project, check=True).stdout
    assert "  e\\x1b[31m  (" in text and "\x1b" not in text
    assert "collected     1.5 kB  done.txt" in text and f"kernel {running['id'][:8]}, since" in text
    assert json.loads(site.run("stage", "status", "--json", cwd=project, check=True).stdout)[0]["running"] is True


def test_diff_get_and_put(site, start, tmp_path):
    project = site.project(given_txt="from the host\n")
    kernel = start(ISOLATED, cwd=project)
    out = project / "staging" / "out"
    kernel.run("open('log.txt', 'w').write('one\\ntwo\\n'); open('odd name', 'w').write('1')")
    assert processes.wait_until(lambda: (out / "log.txt").exists() and (out / "odd name").exists(), 5 * harness.PATIENCE)
    assert site.run("stage", "diff", cwd=project, check=True).stdout == "nothing differs from staging/out\n"
    # while a cell runs, what it writes is not collected yet
    request = kernel.client.execute(
        "f = open('log.txt', 'w'); f.write('one\\n\\x1b[31m2\\n'); f.close(); open('fresh', 'w').close()\n"
        "import time, os\nwhile not os.path.exists('go'): time.sleep(0.05)"
    )
    assert processes.wait_until(lambda: "fresh" in site.run("stage", "diff", cwd=project).stdout, 10 * harness.PATIENCE)
    diff = site.run("stage", "diff", cwd=project, check=True).stdout
    assert " one\n-two\n+\\x1b[31m2\n" in diff and "\x1b" not in diff and "new: fresh" in diff
    listed = json.loads(site.run("stage", "diff", "--json", cwd=project, check=True).stdout)
    assert {(entry["path"], entry["kind"]) for entry in listed} == {("log.txt", "changed"), ("fresh", "new")}

    target = site.project()
    got = site.run("stage", "get", "/work/log.txt", "odd name", "--output", target, cwd=project, check=True)
    assert (target / "log.txt").read_text() == "one\n\x1b[31m2\n" and "\x1b" not in got.stdout + got.stderr
    again = site.run("stage", "get", "log.txt", "--output", target, cwd=project)
    assert again.returncode == 1 and "is there already" in again.stderr
    assert site.run("stage", "get", "nothing", cwd=project).returncode == 1
    assert site.run("stage", "get", "../../out", cwd=project).returncode == 1

    site.run("stage", "put", "given_txt", "in/here/go.txt", cwd=project, check=True)
    assert site.run("stage", "put", "given_txt", "log.txt", cwd=project).returncode == 1
    assert site.run("stage", "put", ".", cwd=project).returncode == 1
    site.run("stage", "put", "given_txt", "go", cwd=project, check=True)
    harness.reply_to(kernel.client, request, 20 * harness.PATIENCE)
    run = kernel.run("print(open('in/here/go.txt').read(), end=''); open('in/here/go.txt', 'a').write('mine')")
    assert run.status == "ok", run.problem
    assert run.stdout == "from the host\n"


def test_which_kernel_is_meant(site, start):
    """Two in one folder: each is named by the beginning of its id; one of another folder by it alone."""
    project = site.project()
    assert "no kernel runs" in site.run("stage", "get", "x", cwd=project).stderr
    start(ISOLATED, cwd=project).run("open('mine', 'w').write('1')")
    start(ISOLATED, cwd=project).run("open('mine', 'w').write('2')")
    ambiguous = site.run("stage", "get", "mine", cwd=project)
    assert ambiguous.returncode == 1 and ambiguous.stderr.count("--kernel ") >= 2
    kernels = json.loads(site.run("stage", "ls", "--json", cwd=project, check=True).stdout)["kernels"]
    elsewhere, contents = site.project(), set()
    for kernel in kernels:
        site.run("stage", "get", "mine", "--kernel", kernel["id"][:10], cwd=elsewhere, check=True)
        contents.add((elsewhere / "mine").read_text())
        (elsewhere / "mine").unlink()
    assert contents == {"1", "2"}
    assert site.run("stage", "get", "mine", "--kernel", "zz", cwd=project).returncode == 1
