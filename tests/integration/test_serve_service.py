"""`cellwall serve` as a service: what systemd hears of it, and what it thinks of the unit."""

import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import types

import gateway
import pytest
import requests
from harness import ISOLATED
from serving import Server

# What systemd.exec(5) refuses for these, by numbers of x86-64: with EPERM, and openat2 with ENOSYS, as if there were none.
OPENAT2 = 437
REFUSED = {
    "ProtectHostname": (170, 171),  # sethostname, setdomainname
    "ProtectClock": (159, 164, 227, 305),  # adjtimex, settimeofday, clock_settime, clock_adjtime
    "ProtectKernelModules": (175, 176, 313),  # init_module, delete_module, finit_module
    "ProtectKernelLogs": (103,),  # syslog
    "PrivateDevices": (172, 173),  # iopl, ioperm
    "RestrictSUIDSGID": (OPENAT2,),
}
RESTRICTED = """#!/usr/bin/python3
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = struct.pack("HBBI", 0x20, 0, 0, 0)  # the call's number
for number in %r:
    code += struct.pack("HBBI", 0x15, 0, 1, number) + struct.pack("HBBI", 6, 0, 0, 0x50000 + (38 if number == %r else 1))
code += struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
class Program(ctypes.Structure):
    _fields_ = [("size", ctypes.c_ushort), ("code", ctypes.c_char_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code))) == 0
os.execv(%r, [%r, *sys.argv[1:]])
"""


def unit_of(site):
    return (pathlib.Path(site.prefix) / "share/cellwall/systemd/cellwall-serve.service").read_text()


class Manager:
    """The socket on which systemd listens; `name` is what NOTIFY_SOCKET says."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.socket.settimeout(60)
        self.beats = 0

    def heard(self):
        """The next that is not a heartbeat, as a dict."""
        while True:
            text = self.socket.recv(4096).decode()
            if text != "WATCHDOG=1":
                return dict(line.split("=", 1) for line in text.splitlines())
            self.beats += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_what_systemd_hears(site, kind):
    name = str(site.root / "notify") if kind == "path" else f"@cellwall-test-{os.getpid()}"
    with Manager(name) as manager, Server(site, environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}) as server:
        ready = manager.heard()
        assert ready["READY"] == "1" and ready["STATUS"]
        while manager.beats < 3:
            manager.beats += manager.socket.recv(4096) == b"WATCHDOG=1"
        server.process.send_signal(signal.SIGHUP)
        reloading = manager.heard()
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > int(ready["MONOTONIC_USEC"])
        assert manager.heard()["READY"] == "1"
        server.process.send_signal(signal.SIGTERM)
        assert manager.heard() == {"STOPPING": "1"}
        assert server.process.wait(60) == 0


def test_a_manager_that_is_gone_changes_nothing(site):
    for name in (str(site.root / "nobody"), "relative", "@" + "x" * 200, ""):
        with Server(site, environment={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "none"}) as server:
            assert server.urls


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_the_unit_is_one(site):
    text = unit_of(site)
    unit = site.root / "cellwall-serve.service"
    # Its page may not be installed where man looks, and the program is where this copy of it is.
    lines = [line for line in text.splitlines() if not line.startswith("Documentation=")]
    unit.write_text("\n".join(f"ExecStart={site.cellwall} {line.split(' ', 1)[1]}" if line.startswith("ExecStart=") else line for line in lines))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0 and not verified.stderr, verified.stderr
    exposed = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=50", "--no-pager", unit], capture_output=True, text=True, timeout=60, check=False)
    assert exposed.returncode == 0, exposed.stdout + exposed.stderr
    print("figure: systemd-analyze security:", exposed.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are another system's")
def test_a_kernel_runs_where_the_unit_refuses_calls(site):
    settings = dict(line.split("=", 1) for line in unit_of(site).splitlines() if "=" in line and not line.startswith("#"))
    refused = [number for name, numbers in REFUSED.items() if settings.get(name) == "yes" for number in numbers]
    assert refused
    restricted = site.root / "restricted"
    restricted.write_text(RESTRICTED % (refused, OPENAT2, site.cellwall, site.cellwall))
    restricted.chmod(0o755)
    place = types.SimpleNamespace(root=site.root, cellwall=str(restricted), environment=site.environment)
    with Server(place, users={"anna": {"token": gateway.TOKENS["anna"]}}) as server:
        headers = {"Authorization": f"token {gateway.TOKENS['anna']}"}
        answer = requests.post(f"{server.url}/api/kernels", json={"name": ISOLATED}, headers=headers, timeout=60)
        client = gateway.Socket(server, answer.json()["id"], "anna", True, "s", "test")
        assert gateway.text_of(client.run("print(1 + 1)")) == "2\n"
        client.close()
