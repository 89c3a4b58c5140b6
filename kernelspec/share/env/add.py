"""Builds what a cell asks for: the distributions that a base environment and what was added before lack, and nothing else.

Run as build.py is, with the base's own Python, which sees the base read-only at its place. What comes out has two
directories (kernelspec/added.h): lib, and over for what takes the place of a distribution of the base.
"""
import contextlib
import importlib.metadata
import json
import os
import re
import sys
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import build

BEFORE = "/cellwall-before"
THERE = build.PLACE + "/there"  # the metadata of what was added before, and still counts
NOTHING = 3  # the exit code that says so
REPORT = build.PLACE + "/report.json"
PINS = build.PLACE + "/all-pins.txt"  # with what was added before


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(places=None):
    found = {}
    for distribution in importlib.metadata.distributions(**({"path": places} if places else {})):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(plain(name), distribution.version)
    return found


def added():
    """Where the metadata is of what was added before: (name, directory, whether it takes the place of one of the base's)."""
    for place in ("over", "lib"):
        with contextlib.suppress(FileNotFoundError), os.scandir(f"{BEFORE}/{place}") as entries:
            for entry in entries:
                if entry.name.endswith(".dist-info"):
                    yield plain(entry.name[:-len(".dist-info")].rpartition("-")[0]), entry.path, place == "over"


def outdated(locked, base):
    """Of what was added before, what a base that has changed since now has itself: all but what is newer than its own."""
    from pip._vendor.packaging.version import InvalidVersion, Version

    def newer(version, other):
        try:
            return Version(version) > Version(other)
        except InvalidVersion:
            return True
    over = {name for name, _, replaces in added() if replaces}
    return {name for name, match in locked.items() if name in base and not (name in over and newer(match[2], base[name]))}


def show_pip(gone):
    """What was added before is there for pip, but for what is `gone`."""
    os.makedirs(THERE)
    for name, path, _ in added():
        if name not in gone:
            with contextlib.suppress(FileExistsError):
                os.symlink(path, f"{THERE}/{os.path.basename(path)}")
    sys.path.insert(0, THERE)


@contextlib.contextmanager
def downloads_kept():
    """What pip downloads to find out what it needs is not downloaded again, where pip is as it is known."""
    try:
        from pip._internal.network.download import Downloader
        pips = Downloader.__call__
    except (ImportError, AttributeError):
        yield
        return

    def call(self, link, location):
        path, kind = pips(self, link, location)
        kept = os.path.join(build.WHEELS, os.path.basename(path))
        if path.endswith(build.FILES) and not os.path.lexists(kept):
            os.link(path, kept)
        return path, kind
    Downloader.__call__ = call
    yield
    Downloader.__call__ = pips


def digest_in(report):
    """The SHA-256 of one that pip's report names: the index's word, which pip compared, or what was downloaded."""
    info = report["download_info"]
    archive = info.get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").partition("sha256=")[2]
    if not digest:
        path = urllib.parse.unquote(urllib.parse.urlsplit(info["url"]).path)
        kept = path if info["url"].startswith("file:") else os.path.join(build.WHEELS, os.path.basename(path))
        digest = build.digest_of(kept)
    return digest


def resolve_by_pip(pip, lines, upgrade, gone):
    """What is lacking, as pip finds it: {name: (version, pin)}. What was added before counts as installed."""
    show_pip(gone)
    with downloads_kept():
        pip("install", "--dry-run", "--report", REPORT, *(["--upgrade"] if upgrade else []), "--", *lines)
    sys.path.remove(THERE)
    with open(REPORT, encoding="utf-8") as file:
        report = json.load(file)
    found = {}
    for one in report["install"]:
        name, version = plain(one["metadata"]["name"]), one["metadata"]["version"]
        found[name] = version, f"{name}=={version} --hash=sha256:{digest_in(one)}\n"
    return found


def resolve_by_uv(uv, lines, upgrade, there):
    """The same by uv, for which what is there are the versions that it keeps where it can."""
    from pip._vendor.packaging.version import InvalidVersion, Version
    asked, pins = build.PLACE + "/asked.txt", build.PLACE + "/pins.txt"
    with open(asked, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    known = {}
    for name, version in there.items():
        try:
            known[name] = Version(version)
        except InvalidVersion:
            pass  # Debian's own
    with open(pins, "w", encoding="utf-8") as file:
        file.writelines(f"{name}=={version}\n" for name, version in sorted(known.items()))
    named = [plain(re.match(r"[\w.-]+", line)[0]) for line in lines] if upgrade else []
    uv.resolve(asked, pins, *(word for name in named for word in ("--upgrade-package", name)))
    with open(pins, encoding="utf-8") as file:
        written = file.read().replace("\\\n", "").split("\n")
    found = {}
    for line in written:
        if not line or line.startswith(("#", "--")):
            continue
        match = re.fullmatch(r"([\w.-]+)==(\S+)((?:\s+--hash=\w+:[0-9a-f]+)*)\s*", line)
        if not match:
            build.fail(f"uv names no version of an index: {line}")
        name, version, hashes = match.groups()
        if Version(version) != known.get(name):
            found[name] = version, f"{name}=={version} {hashes.strip()}\n"
    return found


def say_what(new, base, before):
    fresh = [f"{name} {version}" for name, version in sorted(new.items()) if name not in base and name not in before]
    other = [f"{name} {before.get(name, base.get(name))} -> {version}" for name, version in sorted(new.items())
             if name in base or name in before]
    if fresh:
        build.say("adds: " + ", ".join(fresh))
    if other:
        build.say("from the next start of the kernel on: " + ", ".join(other))


def main():
    wanted = build.begin()
    os.environ["PIP_CACHE_DIR"] = build.PLACE + "/cache"
    os.makedirs(build.WHEELS)
    build.ENVIRONMENT = build.PLACE + "/added"
    for name in ("lib", "over"):
        os.makedirs(build.ENVIRONMENT + "/" + name)
    base = installed()
    pip = build.Pip(build.find_pip())
    locked = {match[1]: match for match in re.finditer(r"^([^=\s]+)==(\S+) .*\n", wanted["lock"], re.MULTILINE)}
    gone = outdated(locked, base) if wanted["changed"] else set()
    before = {name: match[2] for name, match in locked.items() if name not in gone}
    lines, installer = wanted["requirements"].splitlines(), pip
    if wanted["uv"]:
        installer = build.Uv(sys.executable)
        new = resolve_by_uv(installer, lines, wanted["upgrade"], {**base, **before})
    else:
        new = resolve_by_pip(pip, lines, wanted["upgrade"], gone)
    if not new and not wanted["changed"]:
        sys.exit(NOTHING)
    pins = {**{name: match[0] for name, match in locked.items() if name in before}, **{name: pin for name, (_, pin) in new.items()}}
    with open(PINS, "w", encoding="utf-8") as file:
        file.writelines(pins[name] for name in sorted(pins))
    names = build.fetch(pip, ["--quiet", "--no-deps", "--require-hashes", "-r", PINS])
    build.say("installing")
    for place, over in (("lib", False), ("over", True)):
        some = [name for name in names if (plain(build.name_and_version(name)[0]) in base) == over]
        installer.install(some, "--target", build.ENVIRONMENT + "/" + place)
    build.finish(names, sys.executable)
    if gone - set(new):
        build.say("the environment has now: " + ", ".join(f"{name} {base[name]}" for name in sorted(gone - set(new))))
    say_what({name: version for name, (version, _) in new.items()}, base, before)


main()
