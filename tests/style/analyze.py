#!/usr/bin/env python3
"""Static analysis of the C code: analyze.py TREE BUILD. Prints what is found, then "N passed, N failed".

cppcheck, clang-tidy (bugprone and cert: paths through the code are for the others) and gcc -fanalyzer, without a finding but
for those that exceptions.txt names, with the reason; an exception that nothing needs is a finding too. BUILD is a build
tree, for what the build makes."""

import concurrent.futures
import glob
import os
import pathlib
import re
import subprocess
import sys

TREE, BUILD = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
HERE = pathlib.Path(__file__).resolve().parent
SOURCES = sorted(str(path.relative_to(TREE)) for room in ("sandbox", "proxy", "kernelspec", "web") for path in (TREE / room).glob("*.c"))
FLAGS = ["-I.", f"-I{BUILD}/made", "-D_GNU_SOURCE", '-DCELLWALL_VERSION="0"']
FINDING = re.compile(r"^(\S+?):(\d+):(?:\d+:)? (?:warning|error|style|portability|performance): (.*) \[(?:-W)?([^][]+)\]$")


def compiler_flags(source):
    # What a source cannot know of sandbox/base.c, which has no need to be told.
    model = [] if source == "sandbox/base.c" else ["-include", str(HERE / "model.h")]
    return ["-std=gnu17", *model, *FLAGS]


# Loops and lists that are macros, which cppcheck would take for what it cannot read.
MACROS = ["/usr/include/jansson.h", *glob.glob("/usr/include/*-linux-gnu/sys/queue.h")]


def cppcheck(source):
    return ["cppcheck", "-q", "--std=c11", "--enable=warning,performance,portability", "-D__x86_64__", *FLAGS,
            *(f"--include={header}" for header in MACROS),
            "--template={file}:{line}: warning: {message} [{id}]", source]  # fmt: skip


def clang_tidy(source):
    return ["clang-tidy-14", "-quiet", "--checks=-*,bugprone-*,cert-*", source, "--", *compiler_flags(source)]


def gcc(source):
    return ["gcc", "-O1", "-fanalyzer", *compiler_flags(source), "-c", "-o", "/dev/null", source]


def findings(command):
    """(file, line, text, check) of each, once. A tool that fails without one has found that it cannot read the source."""
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=TREE, check=False)
    lines = (result.stdout + result.stderr).replace(f"{TREE}/", "").splitlines()
    found = {match.groups() for match in map(FINDING.match, lines) if match}
    if result.returncode != 0 and not found:
        found.add((command[0], "0", f"status {result.returncode}: {lines[-1:]}", "status"))
    return found


def exceptions():
    """(tool, check, file or "") of each line "TOOL CHECK[:FILE] REASON"."""
    for line in (HERE / "exceptions.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            tool, what, reason = line.split(None, 2)
            assert reason
            check, _, file = what.partition(":")
            yield tool, check, file


def main():
    allowed = list(exceptions())
    passed = failed = 0
    for name, tool in (("cppcheck", cppcheck), ("gcc", gcc), ("clang-tidy", clang_tidy)):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            found = set().union(*pool.map(lambda source: findings(tool(source)), SOURCES))  # noqa: B023
        bad, needed = [], set()
        for file, line, text, check in sorted(found):
            # an alias is named beside its check, with a comma
            reasons = {entry for entry in allowed if entry[0] == name and entry[1] in check.split(",") and entry[2] in ("", file)}
            needed |= reasons
            if not reasons:
                bad.append(f"{file}:{line}: {text} [{check}]")
        bad += [f"exceptions.txt: nothing needs {entry[1]} {entry[2]}" for entry in allowed if entry[0] == name and entry not in needed]
        passed, failed = passed + (not bad), failed + bool(bad)
        print(f"{'FAILED' if bad else 'ok'} {name}: {len(SOURCES)} sources, {len(found)} findings", *bad, sep="\n  ")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
