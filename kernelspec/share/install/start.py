"""In IPython: %pip and %uv, and "python -m pip" in a line for the shell, are the programs of bin/."""
import re
import shlex

import cellwall_added

BIN = "/cellwall-install/bin/"
CALL = re.compile(r"\s*(?:\{sys\.executable\}|python[0-9.]*|" + re.escape(__import__("sys").executable) + r")\s+-m\s+pip(?=\s|$)")


def start(shell):
    plain = shell.system

    def system(command):
        found = CALL.match(command)
        plain(BIN + "pip" + command[found.end():] if found else command)
        cellwall_added.refresh()

    def call(program):
        def magic(line):
            """What pip, or uv, does in a kernel behind the wall: see `cellwall env --help`."""
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                print(f"{program}: {error}")
                return
            system(shlex.join([BIN + program, *words]))
        return magic

    shell.system = system
    for program in ("pip", "uv"):
        shell.register_magic_function(call(program), "line", program)
    shell.events.register("pre_run_cell", lambda *_: cellwall_added.refresh())
