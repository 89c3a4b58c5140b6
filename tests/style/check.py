#!/usr/bin/env python3
"""House rules that a machine can check: style/check.py TREE. Prints what is wrong, then "N passed, N failed"."""

import pathlib
import re
import shutil
import subprocess
import sys

TREE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
ROOMS = ("sandbox", "proxy", "kernelspec", "web")
MAY_INCLUDE = {
    "sandbox": {"sandbox"},
    "proxy": {"proxy", "sandbox"},
    "kernelspec": {"kernelspec", "proxy", "sandbox"},
    "web": {"web", "kernelspec", "proxy", "sandbox"},
}
# proxy/main.c holds the verbs table, so it is the one place that looks up.
EXCEPTIONS = {("proxy/main.c", "kernelspec/verbs.h")}
BANNED = "strcpy strcat sprintf vsprintf strtok atoi atol gets alloca system popen rand srand".split()
TEXT = {".c", ".h", ".py", ".md", ".sh", ".txt", ".json", ".cmake", ".1", ".bash", ""}
# Left for later is not in a tree: it is done, or it is named in the documentation. (Put together so that this file passes.)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
# A path that is somebody's machine and not a place of the project.
FOREIGN_PATH = re.compile(r"(?<!\w)/(root/[a-z]|tmp/build-|Users/)")
FILE_LINES, FUNCTION_LINES = 700, 120


def sources(*suffixes, under=(*ROOMS, "tests")):
    for directory in under:
        yield from sorted(path for path in (TREE / directory).rglob("*") if path.suffix in suffixes and path.is_file())


def name(path):
    return str(path.relative_to(TREE))


def without_comments_and_strings(text):
    """C code with comments and the inside of literals blanked, line numbers kept."""
    pattern = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()) if m.group()[0] == "/" else '""', text)


def clang_format():
    tool = shutil.which("clang-format-14")
    if tool is None:
        return ["clang-format-14 is not installed"]
    files = [str(path) for path in sources(".c", ".h")]
    result = subprocess.run([tool, "-n", "-Werror", *files], capture_output=True, text=True, cwd=TREE, check=False)
    places = [line.split(":") for line in result.stderr.replace(f"{TREE}/", "").splitlines() if ": error:" in line]
    return [
        f"{file}: lines {', '.join(sorted({p[1] for p in places if p[0] == file}, key=int)[:10])}"
        for file in sorted({p[0] for p in places})
    ]


def banned_functions():
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    for path in sources(".c", ".h"):
        for number, line in enumerate(without_comments_and_strings(path.read_text()).splitlines(), 1):
            for match in pattern.finditer(line):
                yield f"{name(path)}:{number}: {match.group(1)}"


def line_comments():
    for path in sources(".c", ".h"):
        for number, line in enumerate(without_comments_and_strings(path.read_text()).splitlines(), 1):
            if "//" in line:
                yield f"{name(path)}:{number}: a comment is /* */"


def include_direction():
    for room in ROOMS:
        for path in sources(".c", ".h", under=(room,)):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if match and match.group(1).split("/")[0] not in MAY_INCLUDE[room]:
                    if (name(path), match.group(1)) not in EXCEPTIONS:
                        yield f"{name(path)}:{number}: {room} may not include {match.group(1)}"


def own_header_first():
    for path in sources(".c", under=ROOMS):
        header = path.with_suffix(".h")
        includes = re.findall(r'^\s*#\s*include\s+[<"]([^">]+)', path.read_text(), re.M)
        if header.exists() and includes and includes[0] != name(header):
            yield f"{name(path)}: includes {includes[0]} before {name(header)}"


def no_exit_outside_main():
    for path in sources(".c", under=ROOMS):
        if path.name in ("main.c", "relay.c"):
            continue
        for number, line in enumerate(without_comments_and_strings(path.read_text()).splitlines(), 1):
            if re.search(r"(?<![\w.>])exit\s*\(", line):
                yield f"{name(path)}:{number}: exit() outside main"


def every_text():
    listed = subprocess.run(
        ["git", "-C", TREE, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    for entry in listed or [name(path) for path in TREE.rglob("*") if ".git" not in path.parts]:
        path = TREE / entry
        if path.is_file() and path.suffix in TEXT and "corpus" not in path.parts:
            try:
                yield path, path.read_text()
            except UnicodeDecodeError:
                pass


def unfinished():
    for path, text in every_text():
        for number, line in enumerate(text.splitlines(), 1):
            if UNFINISHED.search(line):
                yield f"{name(path)}:{number}: {line.strip()[:80]}"


def foreign_paths():
    for path, text in every_text():
        for number, line in enumerate(text.splitlines(), 1):
            if FOREIGN_PATH.search(line):
                yield f"{name(path)}:{number}: {line.strip()[:80]}"


def white_space():
    for path, text in every_text():
        if path.suffix == ".md":
            continue
        if text and not text.endswith("\n"):
            yield f"{name(path)}: no newline at the end"
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                yield f"{name(path)}:{number}: white space at the end"


def sizes():
    for path in sources(".c", under=ROOMS):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_LINES:
            yield f"{name(path)}: {len(lines)} lines"
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                if number - start > FUNCTION_LINES:
                    yield f"{name(path)}:{start}: a function of {number - start} lines"
                start = None


def scripts():
    for path, text in every_text():
        first = text.split("\n", 1)[0]
        if re.match(r"#!.*\b(ba)?sh\b", first):
            shell = "bash" if "bash" in first else "sh"
            result = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
            if result.returncode:
                yield f"{name(path)}: {result.stderr.strip()}"
            if not path.stat().st_mode & 0o100:
                yield f"{name(path)}: has a first line like a program, but is not executable"
        elif path.suffix == ".py" or "python" in first[:30]:
            try:
                compile(text, name(path), "exec")
            except SyntaxError as problem:
                yield f"{name(path)}: {problem}"


def every_source_is_built():
    build = (TREE / "CMakeLists.txt").read_text() + (TREE / "tests" / "CMakeLists.txt").read_text()
    for path in sources(".c", under=ROOMS):
        if name(path) not in build:
            yield f"{name(path)}: no target builds it"


CHECKS = [
    clang_format,
    banned_functions,
    line_comments,
    include_direction,
    own_header_first,
    no_exit_outside_main,
    unfinished,
    foreign_paths,
    white_space,
    sizes,
    scripts,
    every_source_is_built,
]


def main():
    failed = 0
    for check in CHECKS:
        wrong = list(check())
        failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok'} {check.__name__.replace('_', ' ')}")
        for line in wrong[:40]:
            print(f"  {line}")
        if len(wrong) > 40:
            print(f"  and {len(wrong) - 40} more")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
