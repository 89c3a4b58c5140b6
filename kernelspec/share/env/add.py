"""Builds what a cell asks for: the distributions that a base environment and what was added before lack, and nothing else.

Run as build.py is, with the base's own Python, which sees the base read-only at its place. What comes out has two
directories (kernelspec/added.h): lib, and over for what takes the place of a distribution of the base.
"""
import importlib.metadata
import json
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import build

BEFORE = "/cellwall-before"
NOTHING = 3  # the exit code that says so
REPORT = build.PLACE + "/report.json"


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(places=None):
    found = {}
    for distribution in importlib.metadata.distributions(**({"path": places} if places else {})):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(plain(name), distribution.version)
    return found


class Pip:
    """pip in this process, which starts and reads it once: the base's own where it is new enough, else the system's."""

    def __init__(self):
        try:
            import pip
            new = tuple(int(part) for part in pip.__version__.split(".")[:2]) >= (22, 2)
        except (ImportError, ValueError):
            new = False
        if not new:
            for name in [name for name in sys.modules if name.partition(".")[0] == "pip"]:
                del sys.modules[name]
            sys.path.insert(0, os.path.dirname(build.find_pip()))
        from pip._internal.cli.main import main as run
        self.run = run

    def __call__(self, *words):
        if self.run([words[0], "--disable-pip-version-check", "--no-input", *words[1:]]) != 0:
            sys.exit(1)


def resolve(pip, lines, upgrade):
    """What is lacking, as pip finds it: {name: version}. What was added before counts as installed."""
    sys.path[:0] = [f"{BEFORE}/over", f"{BEFORE}/lib"]
    pip("install", "--dry-run", "--report", REPORT, *(["--upgrade"] if upgrade else []), "--", *lines)
    del sys.path[:2]
    with open(REPORT, encoding="utf-8") as file:
        report = json.load(file)
    return {plain(one["metadata"]["name"]): one["metadata"]["version"] for one in report["install"]}


def say_what(new, base, before):
    fresh = [f"{name} {version}" for name, version in sorted(new.items()) if name not in base and name not in before]
    other = [f"{name} {before.get(name, base.get(name))} -> {version}" for name, version in sorted(new.items())
             if name in base or name in before]
    if fresh:
        build.say("adds: " + ", ".join(fresh))
    if other:
        build.say("from the next start of the kernel on: " + ", ".join(other))


def main():
    wanted = json.loads(os.environ.pop("CELLWALL_BUILD"))
    os.makedirs(build.PLACE + "/tmp")
    os.environ["TMPDIR"] = build.PLACE + "/tmp"
    os.environ["PIP_CACHE_DIR"] = build.PLACE + "/cache"
    build.ENVIRONMENT = build.PLACE + "/added"
    for name in ("lib", "over"):
        os.makedirs(build.ENVIRONMENT + "/" + name)
    base = installed()
    before = dict(re.findall(r"^([^=\s]+)==(\S+)", wanted["lock"], re.MULTILINE))
    pip = Pip()
    new = resolve(pip, wanted["requirements"].splitlines(), wanted["upgrade"])
    if not new:
        sys.exit(NOTHING)
    pins = [f"{name}=={version}" for name, version in sorted({**before, **new}.items())]
    names = build.fetch(pip, ["--quiet", "--no-deps", *pins])
    wheels = build.build_wheels(pip, names, [])
    for place, over in (("lib", False), ("over", True)):
        some = [path for path in wheels if (plain(build.name_and_version(path)[0]) in base) == over]
        if some:
            pip("install", "--no-index", "--no-deps", "--no-compile", "--no-warn-script-location", "--no-cache-dir", "--quiet",
                "--target", build.ENVIRONMENT + "/" + place, *some)
    build.finish(names)
    say_what(new, base, before)


main()
