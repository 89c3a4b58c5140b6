"""What a sealed environment consists of, read from its files: prints JSON.

Run by `cellwall env` on the host, as `/usr/bin/python3 -I -S`: standard library alone and the `packaging` library (PEP 440,
PEP 508) that the system's pip carries. Nothing of the environment is imported or executed; its files are read by their names
in the manifest, bounded, and what they say may be a lie of the package that wrote them.

  packages.py show DIRECTORY                  {packages: [{name, version, purl, sha256, licence, size, requires, modules}]}
  packages.py audit DIRECTORY ADVISORIES      {advisories, newest, packages, found: [...]}
  packages.py cover DIRECTORY < JSON          from the names of modules that were imported: {used, unused, unknown, requirements}

What cannot be done is {error}. DIRECTORY has manifest, lock and tree (kernelspec/sealed.h).
"""
import csv
import email.parser
import json
import os
import posixpath
import re
import sys
import urllib.parse
import zipfile

FILE_MAX = 4 << 20  # of one METADATA, RECORD or advisory
MANIFEST_MAX = 512 << 20
ADVISORIES_MAX = 1 << 20  # how many
ADDED = ("lib", "over")  # of what cells have had installed, kernelspec/added.h
LICENCE_CLASSIFIERS = ("License :: OSI Approved :: ", "License :: ")


class Failed(Exception):
    pass


def fail(text):
    raise Failed(text)


def packaging():
    """The library, as Debian's or ensurepip's copy of pip carries it: kept by the Python Packaging Authority."""
    import ensurepip
    for place in ("/usr/share/python-wheels", os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")):
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
            if name.startswith("pip-") and name.endswith(".whl"):
                sys.path.insert(0, os.path.join(place, name))
                from pip._vendor import packaging
                from pip._vendor.packaging import markers, requirements, version
                return packaging
    fail("the system's Python has no pip, which has the rules for comparing versions: install its ensurepip (Debian: python3-venv)")


def canonical(name):
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path, limit=FILE_MAX):
    """A regular file, no link, as text."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return data.decode("utf-8", "replace")


class Package:
    def __init__(self, name, version):
        self.name, self.version = name, version
        self.sha256, self.licence, self.size = None, "unknown", 0
        self.requires, self.modules, self.locked = [], set(), False

    def read_metadata(self, text):
        """Core metadata: the headers of an e-mail."""
        message = email.parser.HeaderParser().parsestr(text.partition("\n\n")[0])
        self.requires = [str(line) for line in message.get_all("Requires-Dist", ())]
        found = [str(message.get("License-Expression") or ""), str(message.get("License") or "")]
        for start in LICENCE_CLASSIFIERS:
            found += [str(line)[len(start):] for line in message.get_all("Classifier", ()) if str(line).startswith(start)]
        for licence in found:
            licence = licence.strip().split("\n")[0].strip()
            if 0 < len(licence) < 80:
                self.licence = licence
                break

    def read_record(self, text, site, sizes):
        for row in csv.reader(text.splitlines()):
            if not row:
                continue
            path = posixpath.normpath(posixpath.join(site, row[0]))
            self.size += sizes.pop(path, 0)  # a file counts once
            stem, dot, kind = posixpath.basename(path).partition(".")
            if kind == "py":
                for compiled in sizes.compiled.get((posixpath.dirname(path), stem), ()):
                    self.size += sizes.pop(compiled, 0)
            if path.startswith(site + "/"):
                parts = path[len(site) + 1:].split("/")
                if len(parts) > 1 and "." not in parts[0]:
                    self.modules.add(parts[0])
                elif len(parts) == 1 and dot and (kind == "py" or kind.endswith("so")):
                    self.modules.add(stem)

    def as_json(self):
        purl = f"pkg:pypi/{urllib.parse.quote(self.name, safe='')}@{urllib.parse.quote(self.version, safe='')}"
        return {"name": self.name, "version": self.version, "purl": purl, "sha256": self.sha256, "licence": self.licence, "size": self.size,
                "requires": self.requires, "modules": sorted(self.modules)}


class Sizes(dict):
    """Of the manifest's files, by path; and where the bytecode of a source is."""

    def __init__(self, manifest):
        super().__init__()
        self.compiled = {}
        for line in manifest.split("\n"):
            if line[:2] in ("f ", "x "):
                _, _, size, path = line.split(" ", 3)
                self[path] = int(size)
                directory, _, name = path.rpartition("/__pycache__/")
                if directory and "/" not in name:
                    self.compiled.setdefault((directory, name.partition(".")[0]), []).append(path)


def manifest(directory):
    """With the lines of its parts."""
    text = read(os.path.join(directory, "manifest"), MANIFEST_MAX)
    parts = re.findall(r"^p \S+ \d+ (parts/\d+)$", text, re.MULTILINE)
    return text + "".join(read(os.path.join(directory, part), MANIFEST_MAX) for part in parts)


class Environment:
    def __init__(self, directory):
        self.tree = os.path.join(directory, "tree")
        sizes = Sizes(manifest(directory))
        found = {}
        for path in sorted(sizes):
            site, _, name = path.rpartition("/")
            site, _, info = site.rpartition("/")
            if name == "METADATA" and info.endswith(".dist-info") and (site.endswith("-packages") or site in ADDED):
                package = Package(*(info[:-len(".dist-info")].split("-", 1) + [""])[:2])
                package.name = canonical(package.name)
                package.read_metadata(read(os.path.join(self.tree, path)))
                found.setdefault(package.name, (package, site, posixpath.join(site, info, "RECORD")))
        for package, site, record in found.values():
            if record in sizes:
                try:
                    package.read_record(read(os.path.join(self.tree, record), 16 * FILE_MAX), site, sizes)
                except (ValueError, csv.Error):
                    pass  # its own sizes and modules are unknown; what is looked up is the name and version
        self.packages = {name: package for name, (package, _, _) in found.items()}
        for line in read(os.path.join(directory, "lock")).splitlines():
            match = re.fullmatch(r"([^=]+)==(\S+) --hash=sha256:([0-9a-f]{64})", line)
            if match:
                name = canonical(match[1])
                package = self.packages.setdefault(name, Package(name, match[2]))
                package.sha256, package.locked = match[3], True
                package.version = match[2]

    def python_version(self):
        """The full version that the environment's Python says it is."""
        try:
            for line in read(os.path.join(self.tree, "pyvenv.cfg")).splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "version":
                    return value.strip()
        except OSError:
            pass
        return "%d.%d.%d" % sys.version_info[:3]


# ---- audit: https://ossf.github.io/osv-schema/ ----

def advisories(place):
    """Each record of a file, a directory or an archive, with where it was."""
    def of_text(text, where):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            fail(f"{where}: no JSON: {error}")
        records = value.get("vulns", [value]) if isinstance(value, dict) else value
        for record in records if isinstance(records, list) else ():
            if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                fail(f"{where}: no OSV record: it has no id")
            yield record

    if os.path.isdir(place):
        for directory, names, files in os.walk(place):
            names.sort()
            for name in sorted(files):
                if name.endswith(".json"):
                    path = os.path.join(directory, name)
                    with open(path, encoding="utf-8") as file:
                        yield from of_text(file.read(FILE_MAX), path)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".json"):
                    with archive.open(entry) as file:
                        yield from of_text(file.read(FILE_MAX).decode("utf-8"), f"{place}: {entry.filename}")
    else:
        with open(place, encoding="utf-8") as file:
            yield from of_text(file.read(64 * FILE_MAX), place)


class Versions:
    """PEP 440. A bound without a local version says nothing of one, as in a specifier of that PEP: 2.1+cpu is 2.1 to it."""

    def __init__(self, library):
        self.version = library.version.Version
        self.invalid = library.version.InvalidVersion

    def order(self, version, bound):
        """-1, 0 or 1; raises `invalid`."""
        bound, version = self.version(bound), self.version(version)
        if bound.local is None:
            version = self.version(version.public)
        return (version > bound) - (version < bound)

    def in_range(self, version, events):
        """Does a range of type ECOSYSTEM hold the version? The evaluation of the OSV schema."""
        bounds, limits, affected = [], [event["limit"] for event in events if "limit" in event], False
        for event in events:
            for kind in ("introduced", "fixed", "last_affected"):
                if kind in event:
                    text = "0.dev0" if event[kind] == "0" else event[kind]  # "0" is before every version
                    bounds.append((self.version(text), kind == "introduced", kind, text))
        for _, _, kind, text in sorted(bounds):
            order = self.order(version, text)
            if kind == "introduced" and order >= 0:
                affected = True
            elif (kind == "fixed" and order >= 0) or (kind == "last_affected" and order > 0):
                affected = False
        return affected and (not limits or any(text == "*" or self.order(version, text) < 0 for text in limits))

    def is_one_of(self, version, listed):
        for one in listed:
            try:
                if one == version or self.order(version, one) == 0:
                    return True
            except self.invalid:
                continue
        return False


def judge(versions, affected, version):
    """Does this part of an advisory hold the version? None: it cannot be told."""
    if versions.is_one_of(version, affected.get("versions") or ()):
        return True
    for one in affected.get("ranges") or ():
        if one.get("type") == "ECOSYSTEM":
            try:
                if versions.in_range(version, one.get("events") or ()):
                    return True
            except versions.invalid:
                return None
    return False


def fixes(parts, name):
    """The versions in which it is mended, of the parts for this package."""
    return [event["fixed"] for part in parts if canonical(part["package"]["name"]) == name
            for one in part.get("ranges") or () if one.get("type") == "ECOSYSTEM"
            for event in one.get("events") or () if "fixed" in event]


def parts_of(record):
    """The parts of an advisory that are about packages of PyPI."""
    for part in record.get("affected") or ():
        package = part.get("package") or {}
        if str(package.get("ecosystem", "")).split(":")[0] == "PyPI" and isinstance(package.get("name"), str):
            yield part


def audit(environment, place):
    versions, count, newest, found = Versions(packaging()), 0, "", []
    for record in advisories(place):
        parts = list(parts_of(record))
        if not parts or count == ADVISORIES_MAX:
            continue
        count += 1
        newest = max(newest, str(record.get("modified") or ""))
        if record.get("withdrawn"):
            continue
        for name in sorted({canonical(part["package"]["name"]) for part in parts}):
            package = environment.packages.get(name)
            mine = [part for part in parts if canonical(part["package"]["name"]) == name]
            verdicts = [judge(versions, part, package.version) for part in mine] if package else []
            if True in verdicts or None in verdicts:
                found.append({"package": name, "version": package.version, "id": record["id"],
                              "aliases": [str(alias) for alias in record.get("aliases") or ()],
                              "summary": str(record.get("summary") or record.get("details") or "").split("\n")[0][:200],
                              "fixed": fixes(mine, name), "severity": record.get("severity") or [],
                              "certain": True in verdicts})
    if count == 0:
        fail(f"{place} holds no advisory for PyPI in the OSV format")
    found.sort(key=lambda one: (one["package"], one["id"]))
    return {"advisories": count, "newest": newest, "packages": len(environment.packages), "found": found}


# ---- usage ----

def needed_by(library, environment, package, extras):
    """The requirements of a package that hold here: [(name, extras)]."""
    short = ".".join(environment.python_version().split(".")[:2])
    here = {"python_version": short, "python_full_version": environment.python_version(), "implementation_version":
            environment.python_version()}
    for line in package.requires:
        try:
            one = library.requirements.Requirement(line)
            if one.marker is None or any(one.marker.evaluate({**here, "extra": extra}) for extra in ("", *extras)):
                yield canonical(one.name), frozenset(one.extras)
        except (ValueError, RecursionError, library.markers.UndefinedEnvironmentName):
            continue


def reach(library, environment, start, extras=frozenset()):
    """The packages that an installation of `start` brings, itself not counted."""
    seen, waiting = set(), [(start, extras)]
    while waiting:
        name, wanted = waiting.pop()
        package = environment.packages.get(name)
        if package is None or (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        waiting += needed_by(library, environment, package, wanted)
    return {name for name, _ in seen} - {start}


def cover(environment, imported):
    """The smallest list: what was used, without what another of the list brings."""
    library = packaging()
    owners = {}
    for name, package in environment.packages.items():
        for module in package.modules:
            owners.setdefault(module, set()).add(name)
    used, unknown = set(), set()
    for module in imported:
        top = str(module).split(".")[0]
        if top in owners:
            used |= owners[top]
        elif top not in sys.stdlib_module_names:
            unknown.add(top)
    brings = {name: reach(library, environment, name) for name in used}
    kept = sorted(used)
    for name in sorted(used):  # of packages that need each other the last stays
        if any(name in brings[other] for other in kept if other != name):
            kept.remove(name)
    covered = set(kept).union(*(brings[name] for name in kept)) if kept else set()
    return {"used": sorted(used), "unused": sorted(set(environment.packages) - covered), "unknown": sorted(unknown),
            "requirements": [f"{name}=={environment.packages[name].version}" for name in kept]}


def main():
    verb, directory, *words = sys.argv[1:]
    environment = Environment(directory)
    if verb == "audit":
        return audit(environment, *words)
    if verb == "cover":
        return cover(environment, json.load(sys.stdin))
    return {"packages": [environment.packages[name].as_json() for name in sorted(environment.packages)]}


try:
    json.dump(main(), sys.stdout)
except (OSError, ValueError, csv.Error, zipfile.BadZipFile, Failed) as error:
    json.dump({"error": str(error)}, sys.stdout)
