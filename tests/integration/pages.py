"""Pages of the documentation that are run: their commands and cells, and what these print."""

import os
import re
import subprocess

import harness


def blocks(text):
    """(kind, text) of what can be run, in order: fences, and the words that ask for a restart."""
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$|\*\*(Restart the kernel)[^*]*\*\*", text, re.M | re.S):
        if match.group(3):
            yield "restart", ""
        else:
            yield match.group(1), match.group(2)


def agrees(shown, real):
    """Whether a printed line is what came out; … stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, real, re.S) is not None


def compare(where, shown, real):
    """Nothing, or what is wrong."""
    wanted, found = shown.rstrip("\n").split("\n"), real.rstrip("\n").split("\n")
    if len(wanted) == len(found) and all(map(agrees, wanted, found)):
        return []
    return [f"\n$ {where}\n--- the page\n{shown}\n--- really\n{real}"]


def command(site, folder, block):
    """A console block: commands after `$ `, what they print below."""
    environment = {**site.environment, "PATH": f"{site.prefix}/bin:{os.environ['PATH']}"}
    commands = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append([line[2:], ""])
        elif commands and commands[-1][0].endswith("\\"):
            commands[-1][0] = f"{commands[-1][0][:-1]}{line}"
        else:
            commands[-1][1] += line + "\n"
    for command, shown in commands:
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60 * harness.PATIENCE,
            check=False,
        )
        yield from compare(command, shown, result.stdout)


def cell(kernel, code):
    """What a notebook shows of a cell: streams and the last line of an error."""
    run = kernel.run(code, timeout=60)
    shown = ""
    for message in run.messages:
        content = message["content"]
        if message["msg_type"] == "stream":
            shown += content["text"]
        elif message["msg_type"] == "error":
            shown += f"{content['ename']}: {content['evalue']}\n"
    return shown
