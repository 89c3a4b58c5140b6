#!/usr/bin/env python3
"""What the documentation says exists: docs.py TREE CELLWALL. Prints what is wrong, then "N passed, N failed".

Commands in fenced blocks and in the man page name verbs and options that the program knows; links and paths lead to
files that are there; the man page, the shell completion and --help name the same verbs.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

TREE, CELLWALL = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
MAN, COMPLETION = TREE / "kernelspec" / "cellwall.1", TREE / "kernelspec" / "completion.bash"
helps = {}


def run(*arguments):
    result = subprocess.run([CELLWALL, *arguments], capture_output=True, text=True, check=False, timeout=20)
    return result.stdout + result.stderr


def help_of(verb):
    if verb not in helps:
        helps[verb] = run(verb, "--help")
    return helps[verb]


def verbs():
    """The verbs that `cellwall --help` lists: the first word of each indented line."""
    return set(re.findall(r"^ {1,4}([a-z]+)\b", run("--help"), re.M))


def documents():
    return sorted(path for path in TREE.rglob("*.md") if ".git" not in path.parts and "build" not in path.parts[-2])


def fenced_commands():
    for path in documents():
        for block in re.findall(r"^```(?:sh|console|bash|shell)\n(.*?)^```", path.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^[$#] ", "", line.strip())
                if line and not line.startswith("#"):
                    yield path.name, line


def words(line):
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def commands_are_known():
    for where, line in fenced_commands():
        found = words(line)
        while found and (found[0] == "sudo" or re.match(r"[A-Z_]+=", found[0])):
            found = found[1:]
        if not found or pathlib.Path(found[0]).name != "cellwall":
            continue
        if len(found) < 2 or found[1].startswith("-"):
            continue
        verb = found[1]
        if verb not in verbs():
            yield f"{where}: no verb '{verb}' in: {line}"
            continue
        ours = found[2 : found.index("--")] if "--" in found else found[2:]
        for option in (word.split("=")[0] for word in ours if word.startswith("--")):
            if option not in help_of(verb):
                yield f"{where}: `cellwall {verb} --help` says nothing of {option}"


def scripts_are_there():
    for where, line in fenced_commands():
        for word in words(line):
            if re.match(r"(\./)?(tests|kernelspec|\.ci)/[\w/.-]+$", word) and not (TREE / word).exists():
                yield f"{where}: {word} is not there"


def links_lead_somewhere():
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                yield f"{path.name}: {target} is not there"


def paths_in_words_exist():
    for path in documents():
        for target in re.findall(r"`((?:proxy|sandbox|kernelspec|tests|web)/[\w/.-]+)`", path.read_text()):
            if not (TREE / target).exists():
                yield f"{path.name}: `{target}` is not there"


def what_is_said_of_outputs_is_said():
    """What outputs.md explains are words of the sources."""
    text = (TREE / "kernelspec/share/doc/outputs.md").read_text()
    said = "".join(path.read_text() for path in sorted((TREE / "proxy").glob("*.c")))
    for row in re.findall(r"^\| ([^|]+) \|", text.split("| it says | do this |")[1].split("\n\n")[0], re.M):
        for words in re.split("[,;] ", re.sub(r" \(.*\)", "", row)):
            if words != "---" and words.removesuffix(" static") not in said:
                yield f"outputs.md: {words}"


def man_page_names_every_verb():
    if not MAN.exists():
        yield f"{MAN.name} is not there"
        return
    text = MAN.read_text().replace("\\-", "-")
    for verb in sorted(verbs() - {"help"}):
        if not re.search(rf"\b{verb}\b", text):
            yield f"{MAN.name}: nothing about {verb}"
        for option in sorted(set(re.findall(r"(--[a-z][a-z-]+)", help_of(verb))) - {"--help", "--usage", "--version"}):
            if option not in text:
                yield f"{MAN.name}: nothing about {option} of {verb}"


def man_page_is_well_formed():
    if MAN.exists():
        result = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", MAN], capture_output=True, text=True, check=False
        )
        yield from result.stderr.splitlines()[:5]


def completion_names_every_verb():
    if not COMPLETION.exists():
        yield f"{COMPLETION.name} is not there"
        return
    text = COMPLETION.read_text()
    for verb in sorted(verbs()):
        if not re.search(rf"\b{verb}\b", text):
            yield f"{COMPLETION.name}: nothing about {verb}"
        for option in sorted(set(re.findall(r"^ {2,6}(?:-\w, )?(--[a-z][a-z-]+)", help_of(verb), re.M)) - {"--usage"}):
            if not re.search(rf"{option}\b(?!-)", text):
                yield f"{COMPLETION.name}: nothing about {option} of {verb}"
    result = subprocess.run(["bash", "-n", COMPLETION], capture_output=True, text=True, check=False)
    yield from result.stderr.splitlines()


def completion_runs_no_name():
    """Names of kernelspecs, environments and staged files are free text: they are offered as they are, and nothing runs."""
    name = "$(touch${IFS}ran)`touch${IFS}ran`x"
    script = [f"cellwall() {{ printf '%s generation 1\\n%s  (from /)\\n' {shlex.quote(name + ' 3.12')} {shlex.quote(name)}; }}"]
    script.append(f". {shlex.quote(str(COMPLETION))}")
    for line in (["install", "--wrap"], ["kernel", "--env"], ["serve", "--kernelspec"], ["env", "show"], ["remove"], ["stage", "drop"]):
        typed = shlex.join(["cellwall", *line])
        script.append(f"COMP_WORDS=({typed} '$') COMP_CWORD={len(line) + 1}; _cellwall; printf '%s\\n' \"${{COMPREPLY[*]}}\"")
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        (place / "kernels" / name).mkdir(parents=True)
        (place / "kernels" / name / "kernel.json").touch()
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "JUPYTER_DATA_DIR": directory}
        result = subprocess.run(
            ["bash", "-c", "\n".join(script)], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        if (place / "ran").exists():
            yield f"{COMPLETION.name}: a name was run"
        if result.stdout.splitlines() != [name] * 6 or result.stderr:
            yield f"{COMPLETION.name}: {result.stdout}{result.stderr}"


def documents_that_must_be_there():
    for wanted in ("README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"):
        if not (TREE / wanted).exists():
            yield f"{wanted} is not there"


def help_lists_verbs():
    missing = {"kernel", "install", "list", "remove", "doctor", "policy", "stage"} - verbs()
    if missing:
        yield f"`cellwall --help` does not list {', '.join(sorted(missing))}"


CHECKS = [
    help_lists_verbs,
    commands_are_known,
    scripts_are_there,
    links_lead_somewhere,
    paths_in_words_exist,
    what_is_said_of_outputs_is_said,
    man_page_names_every_verb,
    man_page_is_well_formed,
    completion_names_every_verb,
    completion_runs_no_name,
    documents_that_must_be_there,
]


def main():
    failed = 0
    for check in CHECKS:
        wrong = list(check())
        failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok'} {check.__name__.replace('_', ' ')}")
        for line in wrong[:30]:
            print(f"  {line}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
