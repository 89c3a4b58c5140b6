"""A kernel as people use it, of a sealed environment: made with ipykernel, installed, started by its name, and what its cells add.

What ipykernel needs is packed again from the environment of the tests' kernels, so that no network is asked for it.
"""

import json
import pathlib

import harness
import pytest
from environments import PYTHON, Index, Store, needed, page, repacked, shown_as, wheel
from test_pip import BUILD, restart

# Large, and of no use to a kernel that nobody asks for completions or a debugger: of these the metadata alone is installed.
BARE = ("jedi/", "parso/", "debugpy/", "tzdata/", "pygments/lexers/_", "tornado/test/", "psutil/tests/", "zmq/tests/")


class Sealed:
    """An index with a real ipykernel, a store, an environment of it, and its kernelspec."""

    def __init__(self, site):
        self.site, self.index = site, Index()
        place = next(pathlib.Path(site.python).parent.parent.glob("lib/python3*/site-packages"))
        for distribution in needed("ipykernel", place).values():
            name, data = repacked(distribution, BARE)
            self.index.files[name] = data
        for name, version in (("alpha", "1.0"), ("beta", "1.0"), ("beta", "2.0"), ("gamma", "1.0"), ("top", "1.0"), ("plain", "1.0"), ("idle", "1.0")):
            self.add(name, version)
        self.store = Store(site, self.index, "sealed-kernel")
        self.base("real", "plain", "idle", "beta==1.0")

    def add(self, name, version, **more):
        self.index.files[f"{name}-{version}-py3-none-any.whl"] = wheel(name, version, {f"{name}.py": f"version = {version!r}\n"}, **more)

    def base(self, name, *packages):
        made = self.store.env("create", name, "--python", PYTHON, *packages)
        assert made.returncode == 0, made.stdout + made.stderr
        self.site.run("install", "--env", name, "--prefix", self.site.root, "--policy", self.site.policy({"install": "allow"}), check=True,
                      env=self.store.environment)

    def added(self):
        """The records of what cells have had installed."""
        names = sorted(path.name for path in (self.store.place / "names").glob("notebook-*"))
        return {name: self.store.record(name) for name in names}


@pytest.fixture(scope="module")
def sealed(site):
    sealed = Sealed(site)
    yield sealed
    sealed.index.close()


def test_a_kernelspec_of_a_sealed_environment(site, start, sealed):
    """Started by its name, as a Jupyter client does; what a cell adds is there at once, and after a restart."""
    kernel = start(harness.ISOLATED, spec="real", env=sealed.store.environment)
    assert kernel.run("import sys, ipykernel\nprint(sys.executable, sys.prefix, ipykernel.__file__)").stdout.startswith(
        "/env/bin/python /env /env/lib/python3")
    assert json.loads((site.specs / "real" / "kernel.json").read_text())["display_name"] == "real (isolated)"
    cell = kernel.run("import plain\n%pip install alpha\nimport alpha\nprint(alpha.version, alpha.__file__)", BUILD)
    assert cell.stdout.endswith("1.0 /cellwall-added/1/lib/alpha.py\n") and "adds: alpha 1.0" in cell.stdout, cell.messages
    assert shown_as(page(site), "Collecting humanize", cell.stdout, humanize="alpha") == [], cell.stdout
    [(name, shown)] = sealed.added().items()
    tree = sealed.store.record("real")["record"]["tree"]
    assert (shown["record"]["base"], shown["record"]["base_tree"], [one["name"] for one in shown["packages"]]) == ("real", tree, ["alpha"])
    restart(kernel, sealed)
    assert kernel.run("import plain, alpha\nprint(alpha.version, alpha.__file__)").stdout == "1.0 /cellwall-added/0/lib/alpha.py\n"
    kernel.shutdown()
    usage = json.loads(sealed.store.env("usage", "real", "--json", check=True).stdout)
    found = usage["found"]
    assert usage["runs"] == 2 and {"ipykernel", "ipython", "pyzmq", "plain"} <= set(found["used"]), usage
    assert found["unused"] == ["beta", "idle"] and found["unknown"] == [], usage
    assert [line.split("=")[0] for line in found["requirements"]] == ["ipykernel", "plain"], usage
    sealed.store.env("verify", "real", check=True)


@pytest.mark.slow
def test_the_base_changes(site, start, sealed):
    """What cells added is fitted to it: what the base has now is the base's, what is newer stays, what it lacks comes."""
    store = sealed.store

    def begin():
        return start(harness.ISOLATED, spec="real", cwd=folder, env=store.environment)

    folder, known = site.project(), set(sealed.added())
    kernel = begin()
    assert kernel.run("%pip install beta==2.0 gamma top", BUILD).status == "ok"
    [name] = set(sealed.added()) - known
    kernel.shutdown()
    before = store.record("real")["record"]["tree"]
    store.env("update", "real", "gamma", check=True)
    newer = store.record("real")
    now = newer["record"]["tree"]
    kernel = begin()
    # as it is until then: what takes the place of another still does, of what both have the base's is taken
    inside = next((store.tree("real") / "lib").glob("python3*")).name
    own = f"/env/lib/{inside}/site-packages/gamma.py"
    cell = kernel.run("import beta, gamma, top\nprint(beta.__file__, gamma.__file__, top.__file__)")
    assert cell.stdout.split() == ["/cellwall-added/0/over/beta.py", own, "/cellwall-added/0/lib/top.py"]
    assert [notice for notice in cell.notices if '"real" has changed' in notice and name in notice], cell.notices
    cell = kernel.run("%pip install alpha\nimport alpha", BUILD)
    assert "the environment has now: gamma 1.0" in cell.stdout and "adds: alpha 1.0" in cell.stdout, cell.stdout
    shown = store.record(name)
    assert shown["record"]["base_tree"] == now != before
    assert [(one["name"], one["version"]) for one in shown["packages"]] == [("alpha", "1.0"), ("beta", "2.0"), ("top", "1.0")]
    # a base that has less again: what cells asked for is complete once more
    store.env("rollback", "real", check=True)
    restart(kernel, sealed)
    assert "No module named 'gamma'" in kernel.run("import gamma").problem
    cell = kernel.run("%pip install alpha\nimport gamma", BUILD)
    assert cell.status == "ok" and "adds: gamma 1.0" in cell.stdout, cell.stdout
    assert store.record(name)["record"]["base_tree"] == before
    # what a kernel of the newest base has fitted is left so by one of an older
    sealed.add("last", "1.0")
    store.env("rollback", "real", str(newer["generation"]), check=True)
    assert "the environment has now: gamma 1.0" in begin().run("%pip install alpha", BUILD).stdout
    cell = kernel.run("%pip install last", BUILD)
    assert cell.status == "ok" and "last 1.0" in cell.stdout and "gamma" not in cell.stdout, cell.stdout
