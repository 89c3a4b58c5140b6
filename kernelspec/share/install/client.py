"""`pip` and `uv` as a kernel calls them: what a cell asks for is built outside, and this shows how that goes.

Nothing here starts a build: the trusted side saw the line in the cell before the kernel did (proxy/install.h). Whoever runs
this without a cell that says so is told so.
"""
import json
import os
import shutil
import sys
import time

ADDED = "/cellwall-added"
TOLD = ADDED + "/told"  # what the proxy writes
EVERY = 0.03  # seconds


def say(text):
    print("pip: " + text, file=sys.stderr, flush=True)


def numbers():
    """Of the lines that cells had, the newest first."""
    found = [name[6:] for name in os.listdir(TOLD) if name.startswith("asked-") and name[6:].isdigit()]
    return sorted(map(int, found), reverse=True)


def find(words):
    """The newest line with these words; else one that was refused, whose words were not read to the end."""
    cut = None
    for number in numbers():
        try:
            with open(f"{TOLD}/asked-{number}", encoding="utf-8") as file:
                asked = json.load(file)
        except (OSError, ValueError):
            continue
        own = asked["words"]
        if own == words:
            return number, asked["refused"]
        if asked["refused"] and own == words[:len(own)]:
            cut = cut or number
    return cut, cut is not None


def copy(file):
    text = file.read()
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def install(words):
    number, refused = find(words)
    if refused:
        say("nothing is installed")  # the cell has the reason
        return 1
    if number is None:
        say("nothing is installed: this is not what the text of a cell says. What programs run, and what is expanded, asks "
            "for nothing; write it as a line of a cell, as in: %pip install pandas")
        return 1
    said, ends = f"{ADDED}/said-{number}", (f"{ADDED}/done-{number}", f"{TOLD}/done-{number}")
    while not os.path.exists(said) and not any(map(os.path.exists, ends)):
        time.sleep(EVERY)
    if not os.path.exists(said):
        return 1
    with open(said, encoding="utf-8", errors="replace", newline="") as file:
        while not any(map(os.path.exists, ends)):
            copy(file)
            time.sleep(EVERY)
        copy(file)
    with open(next(filter(os.path.exists, ends)), encoding="utf-8") as file:
        return int(file.read())


def real(program):
    """The program of that name that comes after this one in PATH."""
    places = [place for place in os.environ.get("PATH", "").split(":") if place != os.path.dirname(__file__) + "/bin"]
    return shutil.which(program, path=":".join(places))


def main(program, words):
    if program == "uv" and words[:1] == ["pip"]:
        program, words = "pip", words[1:]
    if program == "uv":
        there = real("uv")
        if there is None:
            say("uv is not in this environment; `uv pip install` is all that is taken here")
            return 1
        os.execv(there, ["uv", *words])
    if words[:1] == ["install"]:
        return install(words[1:])
    if words[:1] == ["uninstall"]:
        say("nothing is uninstalled: what a kernel runs from is read-only. Outside, `cellwall env remove` takes away all that "
            "cells have had installed")
        return 1
    python = os.environ["CELLWALL_PYTHON"]
    os.execv(python, [python, os.path.dirname(__file__) + "/listing.py", *words])


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
