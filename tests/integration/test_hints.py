"""A cell fails for want of something that is beside the notebook: one line says how it is staged, to the user alone."""

import os
import re
import subprocess

import harness
import pytest
from harness import ISOLATED

pytestmark = pytest.mark.core

# In every notebook folder of these tests.
SEVEN = "def seven(): return 7\n"
FORGE = """
def forge(ename, evalue, parent=None):
    kernel = get_ipython().kernel
    content = {"ename": ename, "evalue": evalue, "traceback": [evalue]}
    kernel.session.send(kernel.iopub_socket, "error", content, parent=parent or kernel.get_parent("shell"), ident=b"error")
def missing(name):
    forge("FileNotFoundError", f"[Errno 2] No such file or directory: {name!r}")
"""


@pytest.fixture(scope="module")
def folder(site):
    directory = site.project(data__x_csv="a", staging__in__here="1", staging__out__old_txt="old")
    for name, content in {
        "utils.py": SEVEN,
        "package/__init__.py": "",
        "package/sub.py": SEVEN,
        "loose/part.py": SEVEN,
        "data/x.csv": "a\n7\n",
        "data/deep/y.csv": "a\n7\n",
        "my data.csv": "a\n7\n",
        "helper.py": "print('helped')\n",
        ".env": "TOKEN=1",
        ".hidden/x.csv": "a",
        "keys/id_rsa": "key",
        "server.pem": "key",
        "secrets.csv": "key",
        "x=/y": "",
        "it's.csv": "",
        "$(touch pwned).csv": "a\n7\n",
        "bad\x1b[2J.csv": "",
    }.items():
        site.put(directory, name, content)
    big = site.project(behind_bin="12345678")
    (directory / "big").symlink_to(big)
    (directory / "file.bin").symlink_to(big / "behind_bin")
    site.put(directory.parent, "neighbour.csv", "a")
    return directory


@pytest.fixture(scope="module")
def kernel(site, folder):
    kernel = harness.Kernel(site, ISOLATED, cwd=folder)
    kernel.run(FORGE)
    yield kernel
    kernel.close()


def hints(run):
    return [text for text in run.notices if "beside the notebook" in text or "staging/out/" in text]


def commands(text):
    return re.findall(r"`(cellwall stage add [^`]*)`", text)


@pytest.mark.parametrize(
    "code, named, command",
    [
        ("import utils", "utils.py", ["utils.py"]),
        ("from utils import seven", "utils.py", ["utils.py"]),
        ("import package.sub", "package", ["package"]),
        ("from loose import part", "loose", ["loose"]),
        ("import pandas; pandas.read_csv('data/x.csv')", "data/x.csv", ["data/x.csv", "data"]),
        ("open('/work/data/deep/y.csv')", "data/deep/y.csv", ["data/deep/y.csv", "data/deep"]),
        ("open('./data//x.csv')", "data/x.csv", ["data/x.csv", "data"]),
        ("import numpy; numpy.loadtxt('data/x.csv')", "data/x.csv", ["data/x.csv", "data"]),
        ("import matplotlib.pyplot as p; p.imread('data/x.csv')", "data/x.csv", ["data/x.csv", "data"]),
        ("import os; os.listdir('data')", "data", ["data"]),
        ("open('my data.csv')", "my data.csv", ["'my data.csv'"]),
        ("open('big/behind_bin')", "big", ["big"]),
        ("open('file.bin')", "file.bin", ["file.bin"]),
        ("%run helper.py", "helper.py", ["helper.py"]),
        ("open('$(touch pwned).csv')", "$(touch pwned).csv", ["'$(touch pwned).csv'"]),
    ],
)
def test_error_is_followed_by_the_command(kernel, code, named, command):
    run = kernel.run(code)
    assert run.status == "error"
    found = hints(run)
    assert len(found) == 1, run.notices
    assert found[0].startswith(f"{harness.NOTICE}{named} "), found
    assert commands(found[0]) == [f"cellwall stage add {word}" for word in command]
    assert found[0].endswith("\n") and found[0].count("\n") == 1
    # After the error, before the cell is over, and part of the cell.
    order = [message["msg_type"] for message in run.messages]
    at = next(index for index, message in enumerate(run.messages) if harness.notices([message]))
    assert order.index("error") < at < len(order) - 1
    assert run.messages[at]["parent_header"]["msg_id"] == run.id


def test_absolute_path_of_the_folder(kernel, folder):
    """As people have it in their notebooks; inside it is another path, but the hint leads there."""
    run = kernel.run(f"open({str(folder / 'data' / 'x.csv')!r})")
    assert commands(hints(run)[0])[0] == "cellwall stage add data/x.csv"


def test_earlier_results_are_elsewhere(kernel):
    run = kernel.run("open('old_txt')")
    assert hints(run) == [
        f"{harness.NOTICE}old_txt is among the results of earlier runs: the kernel sees it as staging/out/old_txt\n"
    ]
    assert kernel.run("print(open('staging/out/old_txt').read())").stdout == "old\n"


SILENT = [
    ".env",
    "./.env",
    "data/../.env",
    ".hidden/x.csv",
    "keys/id_rsa",
    "server.pem",
    "secrets.csv",
    "staging/in/there",
    "staging/out/there",
    "staging",
    "../neighbour.csv",
    "/etc/shadow",
    "/etc/hostname",
    "absent.csv",
    "data/absent.csv",
    "x=/y",
    "it's.csv",
    "bad\x1b[2J.csv",
    "-rf",
    ".",
    "..",
    "/work",
    "x" * 5000,
]


@pytest.mark.parametrize("name", SILENT, ids=lambda name: ascii(name[:20]))
def test_names_that_are_never_said(kernel, name):
    """Both when a cell does miss them, and when a package only says so."""
    for code in (f"missing({name!r})", f"forge('ModuleNotFoundError', 'No module named ' + repr({name!r}))"):
        run = kernel.run(code)
        assert run.of("error"), "the forged error did not arrive: the test proves nothing"
        assert run.notices == []


def test_absolute_path_of_something_else_is_silent(kernel, folder):
    home = str(folder.parent / "home" / ".ssh" / "x")
    assert kernel.run(f"missing({home!r})").notices == []
    assert kernel.run(f"missing({str(folder.parent / 'neighbour.csv')!r})").notices == []
    assert kernel.run(f"missing({str(folder)!r})").notices == []


def test_links_are_not_followed(kernel):
    """Whether something is behind a link makes no difference to what is said."""
    present, absent = hints(kernel.run("missing('big/behind_bin')")), hints(kernel.run("missing('big/absent')"))
    assert present == absent and len(present) == 1


def test_one_hint_per_cell(kernel):
    """However many errors a package forges, and whatever cell it says they belong to."""
    run = kernel.run("for _ in range(50):\n    missing('utils.py'); missing('data/x.csv'); missing('helper.py')")
    assert len(run.of("error")) == 150 and len(hints(run)) == 1
    forged = kernel.run(
        "import copy\n"
        "parent = copy.deepcopy(get_ipython().kernel.get_parent('shell'))\n"
        "for index in range(50):\n"
        "    parent['header']['msg_id'] = f'invented-{index}'\n"
        "    forge('FileNotFoundError', \"[Errno 2] No such file or directory: 'utils.py'\", parent)\n"
        "    parent['header']['msg_id'] = ''\n"
        "    forge('FileNotFoundError', \"[Errno 2] No such file or directory: 'utils.py'\", parent)\n"
    )
    assert hints(forged) == []
    assert harness.notices(harness.drain(kernel.client, 0.5)) == []


def test_later_output_of_earlier_cell(kernel):
    """A thread that fails after its cell has ended: its cell had no hint yet."""
    run = kernel.run("import copy; saved = copy.deepcopy(get_ipython().kernel.get_parent('shell'))")
    later = kernel.run("forge('FileNotFoundError', \"[Errno 2] No such file or directory: 'utils.py'\", saved)")
    texts = later.notices + harness.notices(harness.drain(kernel.client, 0.5))
    assert len(texts) <= 1 and run.status == "ok"


def test_hostile_contents(kernel):
    """What is no error as Jupyter defines it goes on unchanged and means nothing."""
    run = kernel.run(
        "kernel = get_ipython().kernel\n"
        "def send(content): kernel.session.send(kernel.iopub_socket, 'error', content, parent=kernel.get_parent('shell'))\n"
        "said = \"[Errno 2] No such file or directory: 'utils.py'\"\n"
        "for content in ({}, {'ename': 'FileNotFoundError'}, {'ename': ['FileNotFoundError'], 'evalue': said},\n"
        "                {'ename': 'FileNotFoundError', 'evalue': {'evalue': said}},\n"
        "                {'ename': 'FileNotFoundError', 'evalue': said, 'traceback': ['x' * 1_100_000]},\n"
        "                {'x': {'ename': 'FileNotFoundError', 'evalue': said}}):\n"
        "    send(content)\n"
    )
    assert run.status == "ok" and len(run.of("error")) == 6
    assert run.notices == []
    assert kernel.run("import utils").notices


def test_kernel_does_not_learn_the_answer(kernel):
    """Nothing arrives in the kernel that depends on what is beside the notebook."""
    kernel.run(
        "kernel = get_ipython().kernel; received = []\n"
        "deserialize = kernel.session.deserialize\n"
        "def tap(*arguments, **options):\n"
        "    message = deserialize(*arguments, **options)\n"
        "    received.append(message['header']['msg_type'])\n"
        "    return message\n"
        "kernel.session.deserialize = tap\n"
    )
    seen = {}
    for name in ("utils.py", "absent.py"):
        kernel.run("received.clear()")
        assert bool(hints(kernel.run(f"missing({name!r})"))) == (name == "utils.py")
        seen[name] = kernel.run("print(received)").stdout
    kernel.run("kernel.session.deserialize = deserialize")
    assert "execute_request" in seen["utils.py"]
    assert seen["utils.py"] == seen["absent.py"]


def test_hint_keeps_its_place_behind_held_output(site, start):
    """`Run all`: the cell before waits for its files while the next one fails."""
    project = site.project()
    site.put(project, "utils.py", SEVEN)
    kernel = start(ISOLATED, cwd=project)
    client = kernel.client
    kernel.run("import absent_module")  # so that the traceback's own modules are there
    many = "import os; os.mkdir('many')\nfor index in range(5000): open(f'many/{index}', 'w').write('x')"
    first = client.execute(many, allow_stdin=False)
    second = client.execute("import utils", allow_stdin=False)
    messages = harness.collect(client, first, 30 * harness.PATIENCE)
    messages += harness.collect(client, second, 30 * harness.PATIENCE)
    kinds = [
        "hint" if harness.notices([message]) else message["msg_type"]
        for message in messages
        if message["parent_header"].get("msg_id") == second and "still being copied" not in str(message["content"])
    ]
    assert kinds[-3:] == ["error", "hint", "status"], kinds
    (order,) = [
        index
        for index, message in enumerate(messages)
        if message["parent_header"].get("msg_id") == first
        and message["content"].get("execution_state") == "idle"
    ]
    assert order < next(index for index, message in enumerate(messages) if message["msg_type"] == "error")


def restarted(kernel):
    kernel.manager.restart_kernel(now=False, cwd=str(kernel.cwd), env=kernel.site.environment)
    kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)


def test_the_command_works_as_it_is_shown(site, start):
    """Copied into a shell in the folder, then the kernel is restarted: the cell runs, and the hint is gone."""
    project = site.project()
    site.put(project, "utils.py", SEVEN)
    site.put(project, "my data/$(touch pwned).csv", "a\n7\n")
    kernel = start(ISOLATED, cwd=project)
    cells = {"import utils; print(utils.seven())": 0, "print(open('my data/$(touch pwned).csv').read()[2:3])": 1}
    for cell, which in cells.items():
        shown = commands(hints(kernel.run(cell))[0])[which]
        result = subprocess.run(
            ["bash", "-c", shown],
            cwd=project,
            env={**site.environment, "PATH": f"{site.prefix}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    restarted(kernel)
    for cell in cells:
        run = kernel.run(cell)
        assert run.status == "ok" and run.stdout == "7\n" and run.notices == [], run.problem
    run = kernel.run("open('my data/absent.csv')")
    assert run.status == "error" and run.notices == []
    assert not (project / "pwned").exists()


def test_no_command_where_nothing_may_be_added(site, folder, start):
    policy = site.policy({"stage": {"may_add": []}})
    kernel = start(ISOLATED, cwd=folder, spec=site.variant("--policy", policy))
    run = kernel.run("import utils")
    assert run.status == "error" and run.notices == []


def test_results_that_run_code_are_named_once(site, start):
    kernel = start(ISOLATED)
    run = kernel.run(
        "import pickle\n"
        "for name in ('page.html', 'plain.csv', 'sub.txt'): open(name, 'w').write('<p>x</p>')\n"
        "pickle.dump(1, open('model.pkl', 'wb'))\n"
        "open('bad\\x1b[2J.html', 'w').close()\n"
    )

    def flagged_in(run):
        """What is said of the results of a cell, which may be copied after its end."""
        found = [text for text in run.notices if "run code when opened" in text]
        return found or [text for text in [kernel.notice("run code when opened", 10)] if text]

    flagged = flagged_in(run)
    assert len(flagged) == 1, run.notices
    assert "page.html" in flagged[0] and "model.pkl" in flagged[0]
    assert "plain.csv" not in flagged[0] and "\x1b" not in "".join(run.notices)
    assert (kernel.cwd / "staging" / "out" / "model.pkl").exists(), "flagged is not refused"
    again = kernel.run("open('page.html', 'w').write('<p>y</p>')")
    assert not [text for text in again.notices if "run code when opened" in text]
    many = kernel.run("for i in range(40): open(f'p{i}.html', 'w').close()")
    flagged = flagged_in(many)
    assert len(flagged) == 1 and len(flagged[0]) < 1000 and "more" in flagged[0], many.notices
