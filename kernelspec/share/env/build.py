"""Builds a Python environment behind the wall: no file of the host, no network but the package index.

Run by `cellwall env`, inside the sandbox, with the system's or another base Python. What to build comes as JSON in the
variable CELLWALL_BUILD; what was built goes to one file, /work/bundle, which the trusted side reads record by record and
believes nothing of (kernelspec/bundle.h has the format). Anything here may have been changed by the packages that are
built: it decides about nothing but the environment itself.
"""
import base64
import configparser
import csv
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ENVIRONMENT = "/env"
PYTHON = ENVIRONMENT + "/bin/python"
PLACE = "/work/.build"
WHEELS = PLACE + "/wheels"
BUNDLE = "/work/bundle"
CACHE = "/cellwall-wheels"  # <sha256>/<file name>, read-only, of earlier builds
UV = "/cellwall-uv"
HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = 4  # a fixed number, so that the bytecode does not depend on the machine
CHUNK = 1 << 20
EVERY = 0.5  # seconds
FILES = (".whl", ".tar.gz", ".tar.bz2", ".zip")  # that an index has
LEFT = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")  # in a .dist-info
PROGRAM = """#!{interpreter}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attribute}())
"""


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
    """Where pip is: the base's own where it is new enough, or the wheel that ensurepip carries, or Debian keeps beside it."""
    import ensurepip
    import importlib.util
    own = importlib.util.find_spec("pip")
    if own and own.origin:
        with open(own.origin, encoding="utf-8") as file:
            version = re.search(r"^__version__ = \"(\d+)\.(\d+)", file.read(), re.MULTILINE)
        if version and tuple(map(int, version.groups())) >= (22, 2):
            return os.path.dirname(os.path.dirname(own.origin))
    places = [getattr(ensurepip, "_WHEEL_PKG_DIR", None), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"),
              "/usr/share/python-wheels"]
    for place in places:
        if place and os.path.isdir(place):
            for name in sorted(os.listdir(place)):
                if name.startswith("pip-") and name.endswith(".whl"):
                    return os.path.join(place, name)
    fail(f"{sys.executable} has no pip to build with: install its ensurepip (Debian: python3-venv)")


class Pip:
    """pip in this process, which starts and reads it once. What else is at that place is not installed here."""

    def __init__(self, place):
        there = place in sys.path
        if not there:
            sys.path.insert(0, place)
        from pip._internal.cli.main import main
        from pip._internal.commands import create_command
        from pip._internal.network import download
        for name in ("download", "install", "wheel"):
            create_command(name)
        download.get_download_progress_renderer = progress_of
        if not there:
            sys.path.remove(place)
        self.main = main

    def __call__(self, *words):
        if self.main([words[0], "--disable-pip-version-check", "--no-input", *words[1:]]) != 0:
            sys.exit(1)

    def install(self, names, *where):
        """A source distribution becomes a wheel first."""
        sources = [os.path.join(WHEELS, name) for name in names if not name.endswith(".whl")]
        wheels = [os.path.join(WHEELS, name) for name in names if name.endswith(".whl")]
        if sources:
            built = tempfile.mkdtemp(dir=PLACE)
            self("wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", built, *sources)
            wheels += [os.path.join(built, name) for name in os.listdir(built)]
        if wheels:
            self("install", "--no-index", "--no-deps", "--no-compile", "--no-warn-script-location", "--no-cache-dir", "--quiet",
                 *where, *sorted(wheels))


def progress_of(size=None, **_):
    """In place of pip's bar, which wants a terminal: now and then a line that the next one replaces (env_build.c)."""
    def count(chunks):
        done, said = 0, time.monotonic()
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            if time.monotonic() - said >= EVERY:
                said = time.monotonic()
                print(f"  {done / 1e6:.1f} MB" + (f" of {size / 1e6:.1f} MB" if size else ""), end="\r", flush=True)
    return count


class Uv:
    """uv resolves and installs, configured as pip is; pip fetches what was resolved, by its hashes: files are locked and cached
    in one way. Of several indexes uv takes a package from the first that has it: index-url, then the others in their order."""

    def __init__(self, python):
        self.python = python
        indexes = [os.environ.get("PIP_INDEX_URL", ""), *os.environ.get("PIP_EXTRA_INDEX_URL", "").split()]
        os.environ.update({
            "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_CACHE_DIR": PLACE + "/uv", "UV_LINK_MODE": "copy",
            "UV_DEFAULT_INDEX": indexes[-1], "UV_INDEX": " ".join(indexes[:-1]),
            "UV_FIND_LINKS": ",".join(os.environ.get("PIP_FIND_LINKS", "").split()),
            "UV_INSECURE_HOST": os.environ.get("PIP_TRUSTED_HOST", ""), "UV_HTTP_TIMEOUT": os.environ.get("PIP_DEFAULT_TIMEOUT", "60"),
            "NO_COLOR": "1"})
        for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_INSECURE_HOST"):
            if not os.environ[name]:
                del os.environ[name]
        if os.environ.get("PIP_CERT"):
            os.environ["SSL_CERT_FILE"] = os.environ["PIP_CERT"]

    def __call__(self, *words, **more):
        run(UV, "pip", *words, "--python", self.python, *(["--no-index"] if os.environ.get("PIP_NO_INDEX") else []), **more)

    def resolve(self, requirements, pins, *options):
        """Writes `pins`; the versions that are there already are kept where they can be."""
        self("compile", "--generate-hashes", "--no-header", "--no-annotate", "--emit-build-options", "--output-file", pins, *options,
             requirements, stdout=subprocess.DEVNULL)

    def install(self, names, *where):
        if names:
            self("install", "--no-deps", "--quiet", *where, *(os.path.join(WHEELS, name) for name in names))


class Used(logging.Handler):
    """The files that pip says it saved or found. A log file of pip's would have a line for each link that it passes over."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.names = set()
        logger = logging.getLogger("pip._internal")
        logger.setLevel(logging.INFO)  # what is shown is decided by pip's own handlers
        logger.addHandler(self)

    def emit(self, record):
        found = re.match(r"(?:Saved|File was already downloaded) (\S.*)$", record.getMessage())
        if found:
            self.names.add(os.path.basename(found[1]))


def fetch(pip, wanted):
    """Resolves and downloads; returns the file names, sorted. Cached files are taken when the index names their hash."""
    os.makedirs(WHEELS, exist_ok=True)
    if os.path.isdir(CACHE):
        for digest in sorted(os.listdir(CACHE)):
            for name in os.listdir(os.path.join(CACHE, digest)):
                link = os.path.join(WHEELS, name)
                if not os.path.lexists(link):
                    os.symlink(os.path.join(CACHE, digest, name), link)
    os.chdir(WHEELS)
    used = Used()
    pip("download", "--dest", WHEELS, *wanted)
    return sorted(name for name in used.names if os.path.exists(os.path.join(WHEELS, name)))


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
    stem = name[:-len(next((end for end in FILES if name.endswith(end)), "")) or None]
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
        try:
            file = open(target, "wb")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # longer than that of the source
                continue
            raise
        with file:
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


def check_python():
    """A kernel is started by these names: what takes the place of one would be started instead."""
    for name in ("python", "python3"):
        if not os.path.islink(f"{ENVIRONMENT}/bin/{name}"):
            fail(f"a package puts a program of its own in the place of bin/{name}: the environment would have no Python")


def tidy():
    """What an installer leaves that says when and where it ran, and which one it was."""
    for directory, names, files in os.walk(ENVIRONMENT):
        for name in list(names):
            if name == "__pycache__":
                shutil.rmtree(os.path.join(directory, name))
                names.remove(name)
        for name in files:
            if (directory.endswith(".dist-info") and name in LEFT) or name == ".lock":
                os.unlink(os.path.join(directory, name))


def entry_points(path):
    """The programs that a distribution names: {name: (module, attribute)}."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str
    with open(path, encoding="utf-8") as file:
        parser.read_file(file)
    found = {}
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            match = re.fullmatch(r"([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?", value)
            if match:
                found[name] = match[1], match[2]
    return found


def write_programs(info, programs, interpreter):
    """Installers differ in how they start what a distribution names; returns the rows for its RECORD."""
    try:
        named = entry_points(os.path.join(info, "entry_points.txt"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    rows = {}
    for name, (module, attribute) in named.items():
        path = os.path.join(programs, name)
        if "/" in name or os.path.islink(path) or not os.path.isfile(path):
            continue
        text = PROGRAM.format(interpreter=interpreter, module=module, first=attribute.partition(".")[0], attribute=attribute).encode()
        with open(path, "wb") as file:
            file.write(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
        rows[os.path.relpath(path, os.path.dirname(info))] = [f"sha256={digest}", str(len(text))]
    return rows


def settle(interpreter):
    """The programs, and the RECORD of what is there now, the same whoever installed it."""
    for directory, _, files in packages():
        if "RECORD" not in files or not directory.endswith(".dist-info"):
            continue
        path, top = os.path.join(directory, "RECORD"), os.path.dirname(directory)
        programs = os.path.join(top if top in (ENVIRONMENT + "/lib", ENVIRONMENT + "/over") else ENVIRONMENT, "bin")
        with open(path, encoding="utf-8", newline="") as file:
            rows = {row[0]: row[1:] for row in csv.reader(file) if row}
        for name in rows:
            program = os.path.normpath(os.path.join(top, name))
            if os.path.dirname(program) == programs and os.path.isfile(program) and not os.path.islink(program):
                os.chmod(program, 0o755)
        rows.update(write_programs(directory, programs, interpreter))
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [name, *rest] for name, rest in sorted(rows.items())
                if "__pycache__" not in name and not (os.path.basename(name) in LEFT and ".dist-info/" in name))


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


def finish(names, interpreter):
    """From the packages in their place to the bundle, with the files that they came from."""
    try:
        tidy()
        settle(interpreter)
        say("compiling")
        compile_all()
        say("sealing")
        write_bundle(names)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        fail("what was built is larger than it may be (a policy's build.size)")


def write_bundle(names):
    bundle = Bundle(BUNDLE)
    bundle.text(b"m", "lock", lock_of(names).encode())
    for name in names:
        if not os.path.islink(os.path.join(WHEELS, name)):  # a link: the cache has it
            bundle.file(b"w", name, os.path.join(WHEELS, name))
    bundle.tree(ENVIRONMENT)
    bundle.end()


def begin():
    """What is wanted."""
    os.makedirs(PLACE + "/tmp", exist_ok=True)
    os.environ["TMPDIR"] = PLACE + "/tmp"
    return json.loads(os.environ.pop("CELLWALL_BUILD"))


def main():
    """In the new environment, whose Python pip installs for."""
    wanted = begin()
    pip = Pip(sys.argv[2])
    installer = Uv(PYTHON) if wanted["uv"] else pip
    requirements, pins = PLACE + "/requirements.txt", PLACE + "/pins.txt"
    with open(requirements, "w", encoding="utf-8") as file:
        file.write(wanted["requirements"])
    if wanted["locked"]:
        names = fetch(pip, ["--require-hashes", "-r", requirements])
    elif wanted["uv"]:
        installer.resolve(requirements, pins, "--emit-index-url", "--emit-find-links")
        names = fetch(pip, ["--require-hashes", "--no-deps", "-r", pins])
    else:
        names = fetch(pip, ["-r", requirements])
    say("installing")
    installer.install(names)
    check_python()
    finish(names, PYTHON)


if __name__ == "__main__":
    if sys.argv[1:] == ["compile"]:
        compile_part(sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\0"))
    elif sys.argv[1:2] == ["inside"]:
        main()
    else:
        os.makedirs(PLACE)
        make_environment()
        os.execv(PYTHON, [PYTHON, "-s", os.path.abspath(__file__), "inside", find_pip()])
