"""Builds a Python environment behind the wall: no file of the host, no network but the package index.

Run by `cellwall env`, inside the sandbox, with the system's or another base Python. What to build comes as JSON in the
variable CELLWALL_BUILD; what was built goes to one file, /work/bundle, which the trusted side reads record by record and
believes nothing of (kernelspec/bundle.h has the format). Anything here may have been changed by the packages that are
built: it decides about nothing but the environment itself.
"""
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys

ENVIRONMENT = "/env"
PLACE = "/work/.build"
WHEELS = PLACE + "/wheels"
LOG = PLACE + "/pip.log"
BUNDLE = "/work/bundle"
CACHE = "/cellwall-wheels"  # <sha256>/<file name>, read-only, of earlier builds
HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = 4  # a fixed number, so that the bytecode does not depend on the machine
CHUNK = 1 << 20


def say(text):
    print(text, flush=True)


def fail(text):
    print("cellwall: " + text, file=sys.stderr, flush=True)
    sys.exit(1)


def run(*command, **more):
    if subprocess.call(command, **more) != 0:
        sys.exit(1)


def make_environment():
    """/env is a link to where it is built, which venv does not take; kernels see the tree itself there."""
    built = PLACE + "/env"
    run(sys.executable, "-m", "venv", "--without-pip", built)
    names = [built + "/pyvenv.cfg"] + [entry.path for entry in os.scandir(built + "/bin") if not entry.is_symlink()]
    for name in names:
        with open(name, encoding="utf-8") as file:
            text = file.read()
        with open(name, "w", encoding="utf-8") as file:
            file.write(text.replace(built, ENVIRONMENT))


def find_pip():
    """What runs pip without an installed one: the wheel that ensurepip carries, or that Debian keeps beside it."""
    import ensurepip
    places = [getattr(ensurepip, "_WHEEL_PKG_DIR", None), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"),
              "/usr/share/python-wheels"]
    for place in places:
        if place and os.path.isdir(place):
            for name in sorted(os.listdir(place)):
                if name.startswith("pip-") and name.endswith(".whl"):
                    return os.path.join(place, name, "pip")
    fail(f"{sys.executable} has no pip to build with: install its ensurepip (Debian: python3-venv)")


class Pip:
    def __init__(self, how):
        self.command = [ENVIRONMENT + "/bin/python", "-s", how]

    def __call__(self, *words):
        run(*self.command, *words, "--disable-pip-version-check", "--no-input")


def fetch(pip, wanted):
    """Resolves and downloads; returns the file names, sorted. Cached files are taken when the index names their hash."""
    os.makedirs(WHEELS)
    if os.path.isdir(CACHE):
        for digest in sorted(os.listdir(CACHE)):
            for name in os.listdir(os.path.join(CACHE, digest)):
                link = os.path.join(WHEELS, name)
                if not os.path.lexists(link):
                    os.symlink(os.path.join(CACHE, digest, name), link)
    os.chdir(WHEELS)
    pip("download", "--dest", WHEELS, "--log", LOG, *wanted)
    used = set()
    with open(LOG, encoding="utf-8", errors="replace") as log:
        for line in log:
            found = re.search(r"(?:Saved|File was already downloaded) (\S.*)$", line.rstrip())
            if found:
                used.add(os.path.basename(found.group(1)))
    return sorted(name for name in used if os.path.exists(os.path.join(WHEELS, name)))


def build_wheels(pip, names, options):
    """A source distribution becomes a wheel; returns the paths of all wheels."""
    wheels, sources = [], []
    for name in names:
        (wheels if name.endswith(".whl") else sources).append(os.path.join(WHEELS, name))
    built = PLACE + "/built"
    os.makedirs(built)
    if sources:
        pip("wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", built, *options, *sources)
    return sorted(wheels + [os.path.join(built, name) for name in os.listdir(built)])


def digest_of(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            data = file.read(CHUNK)
            if not data:
                return total.hexdigest()
            total.update(data)


def name_and_version(path):
    """By the file's name: PEP 427 for a wheel, PEP 625 for a source distribution."""
    name = os.path.basename(path)
    if name.endswith(".whl"):
        parts = name[:-4].split("-")
        return parts[0], parts[1]
    stem = re.sub(r"\.(tar\.gz|tar\.bz2|zip)$", "", name)
    name, _, version = stem.rpartition("-")
    return name, version


def lock_of(names):
    """A requirements file with hashes, as pip takes it with --require-hashes."""
    lines = []
    for file in names:
        name, version = name_and_version(file)
        name = re.sub(r"[-_.]+", "-", name).lower()
        lines.append(f"{name}=={version} --hash=sha256:{digest_of(os.path.join(WHEELS, file))}\n")
    return "".join(sorted(lines))


def compile_part(paths):
    """Bytecode that is valid by the hash of its source: nothing of the time or of the machine goes in."""
    import importlib.util
    from importlib._bootstrap_external import _code_to_hash_pyc
    for path in paths:
        with open(path, "rb") as file:
            source = file.read()
        try:
            code = compile(source, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            continue  # templates and tests of other versions
        target = importlib.util.cache_from_source(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def packages():
    """The directories below which packages are."""
    for top in ("lib", "over"):
        yield from os.walk(f"{ENVIRONMENT}/{top}")


def compile_all():
    paths = []
    for directory, names, files in packages():
        names.sort()
        if not os.path.islink(directory):
            paths += sorted(os.path.join(directory, name) for name in files if name.endswith(".py"))
    parts = [part for part in (paths[i::PARTS] for i in range(PARTS)) if part]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
    running, ahead = [], max(1, min(PARTS, len(os.sched_getaffinity(0))))
    while parts or running:
        while parts and len(running) < ahead:
            child = subprocess.Popen([sys.executable, "-s", "-S", os.path.join(HERE, "build.py"), "compile"], stdin=subprocess.PIPE,
                                     env=environment)
            child.stdin.write("\0".join(parts.pop(0)).encode("utf-8", "surrogateescape"))
            child.stdin.close()
            running.append(child)
        if running.pop(0).wait() != 0:
            fail("the bytecode could not be made")


def tidy():
    """What pip leaves that says when and where it ran."""
    for directory, names, files in os.walk(ENVIRONMENT):
        for name in list(names):
            if name == "__pycache__":
                shutil.rmtree(os.path.join(directory, name))
                names.remove(name)
        for name in files:
            if name in ("REQUESTED", "direct_url.json") and directory.endswith(".dist-info"):
                os.unlink(os.path.join(directory, name))


def strip_records():
    """RECORD names what was removed above."""
    for directory, _, files in packages():
        if "RECORD" in files and directory.endswith(".dist-info"):
            path = os.path.join(directory, "RECORD")
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
            kept = [line for line in lines if "__pycache__" not in line and
                    not re.search(r"/(REQUESTED|direct_url\.json),", line)]
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(sorted(kept)) + "\n")


class Bundle:
    """See kernelspec/bundle.h."""

    def __init__(self, path):
        self.out = open(path, "wb", buffering=CHUNK)
        self.out.write(b"cellwall bundle 1\n")

    def head(self, kind, name):
        name = os.fsencode(name)
        self.out.write(kind + struct.pack("<H", len(name)) + name)

    def text(self, kind, name, text):
        self.head(kind, name)
        self.out.write(struct.pack("<Q", len(text)) + text)

    def file(self, kind, name, path):
        self.head(kind, name)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.out.write(struct.pack("<Q", size))
            shutil.copyfileobj(file, self.out, CHUNK)

    def tree(self, top):
        def visit(directory, relative):
            with os.scandir(directory) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
            for entry in entries:
                name = relative + entry.name
                if entry.is_symlink():
                    self.text(b"l", name, os.fsencode(os.readlink(entry.path)))
                elif entry.is_dir():
                    self.head(b"d", name)
                    visit(entry.path, name + "/")
                elif entry.is_file():
                    self.file(b"x" if entry.stat().st_mode & 0o100 else b"f", name, entry.path)
                else:
                    fail(f"{name} is neither a file nor a directory")
        visit(top, "")

    def end(self):
        self.out.write(b"e")
        self.out.close()


def finish(names):
    """From the packages in their place to the bundle, with the files that they came from."""
    tidy()
    strip_records()
    say("compiling")
    compile_all()
    say("sealing")
    bundle = Bundle(BUNDLE)
    bundle.text(b"m", "lock", lock_of(names).encode())
    for name in names:
        if not os.path.islink(os.path.join(WHEELS, name)):  # a link: the cache has it
            bundle.file(b"w", name, os.path.join(WHEELS, name))
    bundle.tree(ENVIRONMENT)
    bundle.end()


def main():
    wanted = json.loads(os.environ.pop("CELLWALL_BUILD"))
    os.makedirs(PLACE + "/tmp")
    os.environ["TMPDIR"] = PLACE + "/tmp"
    make_environment()
    pip = Pip(find_pip())
    requirements = PLACE + "/requirements.txt"
    with open(requirements, "w", encoding="utf-8") as file:
        file.write(wanted["requirements"])
    options = wanted["options"]
    names = fetch(pip, [*options, *(["--require-hashes"] if wanted["locked"] else []), "-r", requirements])
    wheels = build_wheels(pip, names, options)
    if wheels:
        pip("install", "--no-index", "--no-deps", "--no-compile", "--no-warn-script-location", "--no-cache-dir", "--quiet", *wheels)
    finish(names)


if __name__ == "__main__":
    if sys.argv[1:] == ["compile"]:
        compile_part(sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0"))
    else:
        main()
