"""Packages for a notebook: `%pip install` in a cell is built outside, and the kernel gets what was added.

The packages come from an index that the test serves on 127.0.0.1.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import environments
import harness
import processes
import pytest
import test_env

BUILD = 120  # seconds that a build may take beside others
PROBE = """
import socket, threading, time
tried, over = set(), threading.Event()
def probe():
    while not over.is_set():
        for target in ((%r, %d), ("203.0.113.9", 80)):
            try:
                socket.create_connection(target, 1).close()
                tried.add("reached")
            except OSError as error:
                tried.add(type(error).__name__)
        time.sleep(0.01)
prober = threading.Thread(target=probe)
prober.start()
while not tried: time.sleep(0.01)
"""


class Index(test_env.Index):
    """Files can be kept back, and what was asked for is seen."""

    def __init__(self):
        super().__init__()
        index = self
        self.open = threading.Event()
        self.open.set()

        class Asked(list):
            def append(self, path):
                super().append(path)
                if path.startswith("/files/"):
                    index.open.wait(60 * harness.PATIENCE)

        self.asked = Asked()
        self.server.handle_error = lambda *words: None  # a build that is interrupted hangs up

    def add(self, name, version, files):
        self.files[f"{name}-{version}-py3-none-any.whl"] = test_env.wheel(name, version, files)

    def wants(self, name):
        return any(name in path for path in self.asked)


@pytest.fixture(scope="module")
def index():
    index = Index()
    for name in ("alpha", "beta", "gamma"):
        index.add(name, "1.0", {f"{name}.py": "version = '1.0'\n"})
    yield index
    index.open.set()
    index.close()


class Place:
    """A store and a folder of its own, and kernels whose cells may install."""

    def __init__(self, site, start, index, name, install="allow"):
        self.site, self.start, self.index = site, start, index
        self.store = test_env.Store(site, index, "pip-" + hashlib.sha256(name.encode()).hexdigest()[:8])
        self.folder = site.project()
        self.spec = site.variant("--policy", site.policy({"install": install}))
        self.state = site.root / f"{self.store.data.name}-state"

    def kernel(self, **options):
        environment = {**self.store.environment, "XDG_STATE_HOME": str(self.state)}
        options.setdefault("spec", self.spec)
        return self.start(harness.ISOLATED, cwd=self.folder, env=environment, **options)

    def names(self):
        return sorted(path.name for path in (self.store.place / "names").glob("notebook-*"))

    def left(self, where):
        return sorted(path.name for path in (self.store.place / where).glob("*"))

    def log(self):
        return [json.loads(line) for path in (self.state / "cellwall" / "log").rglob("*") if path.is_file()
                for line in path.read_text(errors="replace").splitlines() if line.startswith("{")]


@pytest.fixture
def place(site, start, index, request):
    index.asked.clear()
    return Place(site, start, index, request.node.name)


@pytest.fixture
def ended(site):
    """No process of ours is left behind: a build that is given up takes its sandbox down first."""
    since = processes.now_ticks()
    yield
    assert processes.wait_until(lambda: not processes.strays(site.prefix, since), 60 * harness.PATIENCE)


def restart(kernel, place):
    kernel.manager.restart_kernel(now=False, cwd=str(kernel.cwd), env={**place.site.environment, **place.store.environment})
    kernel.client.wait_for_ready(timeout=60 * harness.PATIENCE)


def test_installed_in_the_middle_of_a_cell_without_a_network(place, index, launch, ended):
    with contextlib.closing(socket.create_connection(index.server.server_address, 5)):
        pass  # what the kernel tries in vain can be reached from outside
    kernel = place.kernel()
    assert kernel.run(PROBE % index.server.server_address).status == "ok"
    cell = kernel.run("before = 1\n%pip install alpha==1.0 --quiet\nimport alpha, sys\nprint(alpha.version, alpha.__file__, sys.path[-1])",
                      BUILD)
    assert cell.status == "ok", cell.messages
    assert "adds: alpha 1.0" in cell.stdout and "reached 127.0.0.1" in cell.stdout
    assert "1.0 /cellwall-added/1/lib/alpha.py /cellwall-added/1/lib" in cell.stdout, cell.stdout
    assert sum(path.startswith("/files/alpha") for path in index.asked) == 1  # this index lets nobody keep what it sends
    assert cell.reply["content"]["execution_count"] == 2
    probed = kernel.run("over.set(); prober.join(); print(*tried)").stdout.split()
    assert probed and "reached" not in probed
    # read-only, whoever asks
    tried = kernel.run("import os\nfor act in (lambda: open(alpha.__file__, 'a'), lambda: os.remove(alpha.__file__),\n"
                       "            lambda: os.mkdir('/cellwall-added/7'), lambda: open('/cellwall-added/asked-7', 'w')):\n"
                       "    try:\n        act(); print('done')\n    except OSError as error:\n        print(type(error).__name__)")
    assert len(tried.stdout.split()) == 4 and "done" not in tried.stdout, tried.stdout
    # the other ways to write it, and what has no need of a network
    again = kernel.run("!pip install alpha\n!{sys.executable} -m pip install 'alpha>=1' beta\nimport beta\n!pip list\n!python -m pip show beta",
                       2 * BUILD)
    assert again.status == "ok" and "Requirement already satisfied: alpha" in again.stdout, again.stdout
    assert "adds: beta 1.0" in again.stdout and "Location: /cellwall-added/" in again.stdout
    refused = kernel.run("%pip uninstall alpha").stdout
    assert "nothing is uninstalled" in refused, refused
    # one environment of this folder, which the log names
    assert len(place.names()) == 1
    shown = place.store.record(place.names()[0])
    assert [(one["name"], one["licence"]) for one in shown["packages"]] == [("alpha", "MIT"), ("beta", "MIT")]
    assert f"installed by cells of notebooks in {place.folder.resolve()}" in place.store.env("show", place.names()[0]).stdout
    assert shown["record"]["folder"] == str(place.folder.resolve()) and shown["record"]["base"] == place.site.python
    noted = [line for line in place.log() if line["event"] == "install"]
    assert noted[0]["verdict"] == "installed" and "alpha==1.0" in noted[0]["reason"], noted
    assert place.store.env("update", place.names()[0], "gamma").returncode == 1
    kernel.shutdown()
    # and the next kernel of the folder starts with it; one of another folder does not
    kernel = place.kernel()
    assert kernel.run("import alpha, beta\nprint(alpha.__file__)").stdout == "/cellwall-added/0/lib/alpha.py\n"
    assert len(place.left("live")) == 1
    kernel.shutdown()
    # neither does one of another environment or of another user
    look = "try:\n    import alpha\n    print('has', alpha.version)\nexcept ImportError:\n    print('has none')\n"
    other = place.site.root / "other-python"
    subprocess.run([test_env.PYTHON, "-m", "venv", "--without-pip", other], check=True, timeout=60 * harness.PATIENCE)
    policy = place.site.policy({"install": "allow"})
    for python, found, environment in (
        (place.site.python, "has 1.0", {}), (other / "bin/python", "has none", {}),
        (place.site.python, "has none", {"XDG_DATA_HOME": str(place.site.root / "other-user")}),
    ):
        started = launch(python, "-c", look, "{inner_connection_file}", options=("--policy", policy), cwd=place.folder,
                         env={**place.site.environment, **place.store.environment, **environment})
        started.wait(30)
        assert found in started.log, (python, started.log)
    place.folder = place.site.project()
    kernel = place.kernel()
    assert "ModuleNotFoundError" in kernel.run("import alpha").problem
    kernel.shutdown()


def test_what_replaces_a_distribution_waits_for_a_restart(place, index):
    version = "999.0"
    index.add("zipp", version, {"zipp.py": f"version = {version!r}\n"})
    kernel = place.kernel()
    cell = kernel.run("%pip install -U zipp\nimport zipp, zipp as z\nprint(hasattr(zipp, 'version'))", BUILD)
    assert f"-> {version}" in cell.stdout and "next start" in cell.stdout and cell.stdout.endswith("False\n"), cell.stdout
    restart(kernel, place)
    assert kernel.run("import zipp\nprint(zipp.version)").stdout == version + "\n"
    del index.files[f"zipp-{version}-py3-none-any.whl"]


def test_nothing_but_the_text_of_a_cell_asks(place, index, site):
    kernel = place.kernel()
    attempts = [
        "import subprocess\nprint(subprocess.run(['pip', 'install', 'gamma'], capture_output=True, text=True).stderr)",
        "get_ipython().run_line_magic('pip', 'install gamma')",
        "print('%pip install gamma')\n'''\n%pip install gamma\n'''",
        "name = 'gamma'\n%pip install {name}",
        "%%bash\npip install gamma",
        "get_ipython().set_next_input('%pip install gamma')",
    ]
    for code in attempts:
        kernel.run(code)
    kernel.run("%pip install gamma", silent=True)
    # a kernel that forges what the trusted side writes: what it has is its own, and read by nobody outside
    kernel.run("import json, os\nos.makedirs('/tmp/a', exist_ok=True)\nopen('/tmp/a/asked-1', 'w').write('{}')")
    assert not index.wants("gamma") and place.names() == []
    asked = kernel.run("%pip install gamma", BUILD)
    assert index.wants("gamma") and "adds: gamma" in asked.stdout, asked.stdout


def test_refused_in_words(place, index, site):
    (place.folder / "unstaged.txt").write_text("gamma\n")
    kernel = place.kernel()
    for line, word in (
        ("%pip install gamma @ https://example.org/x.whl", "address"),
        ("%pip install git+https://example.org/x", "address"),
        ("%pip install -e .", "index"),
        ("!pip install ./gamma", "path"),
        ("%pip install --index-url https://example.org gamma", "configured"),
        ("!pip install $NAME", "expanded"),
        ("!pip install gamma && echo x", "shell"),
    ):
        cell = kernel.run(line)
        assert len(cell.notices) == 1 and "nothing is installed" in cell.notices[0] and word in cell.notices[0], cell.notices
        assert word != "path" or cell.notices[0].replace("./gamma", "./x") in environments.page(site), cell.notices
    cell = kernel.run("%pip install -r unstaged.txt")
    assert "is not staged" in cell.stdout, cell.stdout
    # cells that were sent together: each has its own answer
    first = kernel.client.execute("!pip install nowhere", allow_stdin=False)
    second = kernel.client.execute("!pip install ./nowhere", allow_stdin=False)
    said = [(message["parent_header"].get("msg_id"), message["content"].get("text", ""))
            for message in harness.collect(kernel.client, first, BUILD * harness.PATIENCE)]
    assert [cell for cell, text in said if "nothing is installed" in text] == [second], said
    text = "".join(text for cell, text in said if cell == first)
    assert "No matching distribution found for nowhere" in text, text
    assert not index.wants("gamma") and place.names() == []
    kernel.shutdown()
    noted = [line["verdict"] for line in place.log() if line["event"] == "install"]
    assert sorted(noted) == ["failed"] * 2 + ["refused"] * 8


def test_a_policy_says_who_may(site, start, index, request):
    index.asked.clear()
    place = Place(site, start, index, request.node.name, ["alpha"])
    staged = place.folder / "staging" / "in"
    (staged / "deep" / "er").mkdir(parents=True)
    (staged / "deep" / "er" / "good.txt").write_text("# what it needs\nAlpha == 1.0\n")
    (staged / "bad.txt").write_text("alpha\nbeta\n")
    (staged / "link.txt").symlink_to("deep/er/good.txt")
    (staged / "way").symlink_to("deep")
    (place.folder / "unstaged.txt").write_text("alpha\n")
    kernel = place.kernel()
    assert "not among the packages of the policy" in kernel.run("%pip install alpha beta").notices[0]
    assert "not among the packages of the policy" in kernel.run("%pip install -r staging/in/bad.txt").stdout
    os.mkfifo(staged / "pipe")  # none is staged at a start
    # below what is staged there is no way out, no link is followed, and nothing but a file is read
    ways = ("link.txt", "way/er/good.txt", "../../unstaged.txt", "deep/../deep/er/good.txt", "/etc/hostname", "none.txt")
    for way in (*ways, "pipe", "deep"):
        said = kernel.run(f"%pip install -r {'' if way.startswith('/') else 'staging/in/'}{way}").stdout
        assert "nothing is installed" in said and ("is not staged" if way in ways else "it is no file") in said, (way, said)
    (staged / "pipe").unlink()
    assert not index.asked
    cell = kernel.run("%pip install -r staging/in/deep//er/good.txt\nimport alpha", BUILD)
    assert cell.status == "ok", cell.messages
    # without a word in the policy nobody may
    plain = place.kernel(spec=harness.ISOLATED)
    cell = plain.run("%pip install --dry-run alpha --retries 0 --timeout 1", 60)
    assert '"install": "allow"' in cell.notices[0], cell.notices
    assert plain.run("import os; print(os.path.exists('/cellwall-added'))").stdout == "False\n"


def test_a_policy_says_what_is_built(place, index, site):
    """`install` lets cells ask; whether anything is built, and from which hosts, is `build`'s to say."""
    port = index.server.server_port
    for build, words in (({"allow": False}, "build.allow"), ({"hosts": ["pypi.org"]}, f"127.0.0.1 port {port} is not reached")):
        kernel = place.kernel(spec=site.variant("--policy", site.policy({"install": "allow", "build": build})))
        cell = kernel.run("%pip install alpha", BUILD)
        assert words in cell.stdout and index.asked == [] and place.names() == [], cell.stdout
        kernel.shutdown()


@pytest.mark.slow
def test_going_back(place, index):
    """The user's way: `rollback` and `remove` outside, and the next start of the kernel has it so."""
    kernel = place.kernel()
    assert kernel.run("%pip install alpha\n%pip install beta\nimport alpha, beta", 2 * BUILD).status == "ok"
    [name] = place.names()
    said = place.store.env("rollback", name, check=True).stdout
    assert "generation 1" in said and "start now" in said
    assert kernel.run("import importlib, beta\nprint(importlib.reload(beta).version)").stdout == "1.0\n"  # what runs keeps its own
    restart(kernel, place)
    assert "No module named 'beta'" in kernel.run("import alpha, beta").problem
    # what is asked for from there on is added to that, which comes by its hash and not by its name
    kept = index.files["alpha-1.0-py3-none-any.whl"]
    index.add("alpha", "1.0", {"alpha.py": "version = 'other'\n"})
    cell = kernel.run("%pip install gamma", BUILD)
    index.files["alpha-1.0-py3-none-any.whl"] = kept
    assert "DO NOT MATCH THE HASHES" in cell.stdout and "nothing was changed" in cell.stdout, cell.stdout
    assert kernel.run("%pip install gamma\nimport alpha, gamma", BUILD).status == "ok"
    assert [one["name"] for one in place.store.record(name)["packages"]] == ["alpha", "gamma"]
    said = place.store.env("remove", name, check=True).stdout
    assert f"removed {name}" in said and place.names() == []
    assert kernel.run("import gamma\nprint(gamma.version)").stdout == "1.0\n"
    restart(kernel, place)
    assert "No module named 'alpha'" in kernel.run("import alpha").problem


@pytest.mark.slow
def test_packages_that_mean_harm(place, index, site):
    """What fails to build changes nothing; what is built runs in the kernel alone, takes no place of ours, and stops no later cell."""
    harm = f"import os; os.path.isdir({str(site.root)!r}) and os.mkdir({str(site.root / 'pip-ran')!r})\n"
    index.add("line", "1.0", {"a\nb.py": ""})
    index.add("up", "1.0", {"../../../../../../tmp/up.py": ""})
    index.add("harm", "1.0", {
        "harm.py": "main = print\n", "harm.pth": "import builtins; builtins.pth_ran = True\n", "sitecustomize.py": harm, "cellwall_added.py": harm,
        "pip/__init__.py": harm, "l" * 255: "",
        "harm-1.0.dist-info/entry_points.txt": "[console_scripts]\npip = harm:main\npython = harm:main\n../../x = harm:main\n"})
    kernel = place.kernel()
    for name, words in (("line", "a name that is not taken"), ("up", "outside the target directory")):
        said = kernel.run(f"%pip install {name}", BUILD).stdout
        assert words in said and "Traceback" not in said and place.names() == [] and place.left("builds") == [], said
    cell = kernel.run("%pip install harm\nimport harm, shutil\nprint(pth_ran, shutil.which('pip'), shutil.which('python'))", BUILD)
    assert cell.stdout.split()[-3:] == ["True", "/cellwall-install/bin/pip", os.path.join(os.path.dirname(site.python), "python")], cell.stdout
    [name] = place.names()
    restart(kernel, place)
    cell = kernel.run("import cellwall_added\nprint(pth_ran, cellwall_added.ADDED)\n%pip install alpha\nimport alpha", BUILD)
    assert cell.status == "ok" and cell.stdout.startswith("True /cellwall-added\n"), cell.stdout
    assert [one["name"] for one in place.store.record(name)["packages"]] == ["alpha", "harm"]
    place.store.env("verify", name, check=True)
    assert not (site.root / "pip-ran").exists() and not os.path.lexists("/tmp/up.py")


def test_an_interrupt_ends_the_build(place, index, ended):
    index.open.clear()
    try:
        kernel = place.kernel()
        msg_id = kernel.client.execute("%pip install gamma\nprint('went on')", allow_stdin=False)
        assert processes.wait_until(lambda: index.wants("/files/gamma"), BUILD * harness.PATIENCE)
        kernel.manager.interrupt_kernel()
        harness.collect(kernel.client, msg_id, BUILD * harness.PATIENCE)
        assert processes.wait_until(lambda: place.left("builds") == [], 30 * harness.PATIENCE)
        assert place.names() == []
    finally:
        index.open.set()
    cell = kernel.run("%pip install gamma\nimport gamma", BUILD)
    assert cell.status == "ok", cell.messages
    kernel.shutdown()


def test_a_cell_ends_when_the_installer_does(place, index):
    index.open.clear()
    try:
        kernel = place.kernel()
        msg_id = kernel.client.execute("%pip install gamma\nprint('went on')", allow_stdin=False)
        assert processes.wait_until(lambda: index.wants("/files/gamma"), BUILD * harness.PATIENCE)
        [installer] = [process for process in processes.tree(kernel.pid) if process.name == "cellwall" and process.parent == kernel.pid]
        installer.kill()
        messages = harness.collect(kernel.client, msg_id, BUILD * harness.PATIENCE)
        assert any("went on" in message["content"].get("text", "") for message in messages)
        assert processes.wait_until(lambda: not any(process.name == "cellwall" and process.pid != kernel.pid
                                                    for process in processes.tree(kernel.pid)), 30 * harness.PATIENCE)
    finally:
        index.open.set()
    assert "has ended" in kernel.run("%pip install gamma").notices[0]
    assert place.names() == []


def test_two_kernels_of_a_folder_lose_nothing(place, index):
    index.open.clear()
    try:
        kernels = [place.kernel(), place.kernel()]
        asked = [kernel.client.execute(f"%pip install {name}\nimport {name}\nprint('has', {name}.version)", allow_stdin=False)
                 for kernel, name in zip(kernels, ("alpha", "beta"))]
        assert processes.wait_until(lambda: index.wants("/files/"), BUILD * harness.PATIENCE)
    finally:
        index.open.set()
    for kernel, msg_id in zip(kernels, asked):
        messages = harness.collect(kernel.client, msg_id, BUILD * harness.PATIENCE)
        text = "".join(message["content"].get("text", "") for message in messages)
        assert "has 1.0" in text, text
    [name] = place.names()
    assert [one["name"] for one in place.store.record(name)["packages"]] == ["alpha", "beta"]


def test_everything_ends_with_the_kernel(place, index, ended):
    index.open.clear()
    try:
        kernel = place.kernel()
        kernel.client.execute("%pip install gamma", allow_stdin=False)
        assert processes.wait_until(lambda: index.wants("/files/gamma"), BUILD * harness.PATIENCE)
        os.kill(kernel.pid, signal.SIGKILL)
        gone = processes.wait_until(lambda: place.left("live") == [] and place.left("builds") == [], 60 * harness.PATIENCE)
        assert gone and place.names() == []
    finally:
        index.open.set()
