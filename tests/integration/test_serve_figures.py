"""What `cellwall serve` says of itself: /metrics and its log."""

import json
import re
import time

import gateway
import pytest
import requests
from harness import ISOLATED, PATIENCE
from serving import TOKENS, Server, bearer

USERS = {"anna": {"token": gateway.TOKENS["anna"]}, "admin": {"token": TOKENS["admin"], "admin": True}}

# One of each kind that the wall counts.
TRIED = """
import contextlib, ctypes, os, socket, subprocess
for try_it in (
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("203.0.113.5", 53)),
    lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    lambda: ctypes.CDLL(None).ptrace(0, 0, 0, 0),
    lambda: subprocess.run(["/bin/su", "-c", "id"], stdin=subprocess.DEVNULL, capture_output=True),
    lambda: socket.gethostbyname("example.com"),
    lambda: open(os.path.expanduser("~/.ssh/id_rsa")),
    lambda: os.symlink("/etc/passwd", "alink"),
):
    with contextlib.suppress(OSError):
        try_it()
"""


class Metrics:
    """One look; figures by name and labels, and each name's type."""

    LINE = re.compile(r'^(cellwall_[a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)+)\})? (\d+(?:\.\d+)?)$')

    def __init__(self, server):
        answer = requests.get(f"{server.url}/metrics", headers=bearer("admin"), timeout=30)
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        self.types, self.figures, self.text = {}, {}, answer.text
        for line in answer.text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in self.types
                self.types[name] = kind
            elif not line.startswith("# HELP "):
                found = self.LINE.match(line)
                assert found, line
                name, labels, value = found.groups()
                family = name if name in self.types else re.sub(r"_(bucket|sum|count)$", "", name)
                assert family in self.types, line  # under its own TYPE line
                key = name, frozenset(re.findall(r'([a-z]+)="([^"]*)"', labels or ""))
                assert key not in self.figures, line
                self.figures[key] = float(value)

    def __call__(self, name, **labels):
        return self.figures.get((f"cellwall_{name}", frozenset(labels.items())), 0)


def start(server, name=ISOLATED):
    answer = requests.post(f"{server.url}/api/kernels", json={"name": name}, headers={"Authorization": f"token {gateway.TOKENS['anna']}"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def until(server, good):
    """The first look that is good: what a wall counts is there a moment after what it answers."""
    end = time.monotonic() + 60 * PATIENCE
    while True:
        metrics = Metrics(server)
        if good(metrics):
            return metrics
        assert time.monotonic() < end, metrics.text


@pytest.mark.core
def test_metrics(site):
    with Server(site, users=USERS) as server:
        before = Metrics(server)
        assert before("kernel_start_seconds_count") == 0 and before("wall_messages_total", channel="iopub", direction="out", verdict="passed") == 0
        kernel = start(server)
        client = gateway.Socket(server, kernel, "anna", True, "s", "test")
        client.run("1")
        client.run("import socket\nfor _ in range(3):\n try: socket.create_connection(('203.0.113.5', 443), 1)\n except OSError: pass")
        client.run("from IPython.display import HTML, display; display(HTML('<script>1</script>'))")

        client.run(TRIED)
        client.run("kernel = get_ipython().kernel; kernel.session.send(kernel.iopub_socket, 'strange_news', {}, parent=kernel.get_parent('shell'))")

        def good(metrics):
            tried = all(metrics("wall_blocked_total", kind=kind) >= 1 for kind in ("send", "socket", "call", "exec", "lookup", "read", "result"))
            dropped = metrics("wall_messages_total", channel="iopub", direction="out", verdict="dropped")
            return tried and dropped == 1 and metrics("wall_blocked_total", kind="connect") >= 3 and metrics("kernels", user="anna", state="idle") == 1

        metrics = until(server, good)
        assert metrics("wall_message_bytes_total", channel="iopub", direction="out", verdict="dropped") > 100
        assert metrics("wall_messages_total", channel="iopub", direction="out", verdict="changed") == 1
        for channel, direction in (("shell", "in"), ("shell", "out"), ("iopub", "out")):
            labels = {"channel": channel, "direction": direction}
            assert metrics("messages_total", **labels) >= 3 and metrics("message_bytes_total", **labels) > 300
            assert metrics("wall_messages_total", **labels, verdict="passed") >= 3
            assert metrics("wall_message_bytes_total", **labels, verdict="passed") > 300
        assert metrics("kernel_start_seconds_count") == metrics("kernel_start_seconds_bucket", le="+Inf") == 1
        assert metrics("kernel_start_seconds_sum") > 0 and metrics.types["cellwall_kernel_start_seconds"] == "histogram"
        assert metrics("websockets") == 1 and metrics("sessions_away") == 0
        assert {labels for name, labels in metrics.figures if name == "cellwall_queue_bytes"}
        # Nothing of what a client or a kernel chose is a label.
        assert kernel not in metrics.text and "203.0.113.5" not in metrics.text
        # A session that is away keeps what it is owed; what a kernel said is counted when it is gone, too.
        client.send("execute_request", {"code": "import time; time.sleep(0.3); print('x' * 1000)", "silent": False})
        client.cut()
        until(server, lambda metrics: metrics("sessions_away") == 1 and metrics("queue_messages", queue="to_clients") > 0 and metrics("queue_bytes", queue="to_clients") > 1000)
        path = f"{server.url}/api/kernels/{kernel}"
        assert requests.delete(path, headers={"Authorization": f"token {gateway.TOKENS['anna']}"}, timeout=30).status_code == 204
        gone = until(server, lambda metrics: "cellwall_kernels{" not in metrics.text)
        for (name, labels), value in metrics.figures.items():
            if name.endswith("_total") or name.startswith("cellwall_kernel_start"):
                assert gone.figures[name, labels] >= value, name


def test_a_kernel_without_a_wall_is_counted_by_what_goes_through(site):
    with Server(site, "--kernelspec", "direct", users=USERS) as server:
        client = gateway.Socket(server, start(server, "direct"), "anna", True, "s", "test")
        client.run("1")
        metrics = Metrics(server)
        assert metrics("messages_total", channel="shell", direction="in") >= 1
        assert metrics("wall_messages_total", channel="shell", direction="in", verdict="passed") == 0
        client.close()


# ---- the log ----


def test_no_token_is_ever_in_the_log(site):
    """Whatever way a token comes, right or wrong, in its place or not, with all that the server says of itself."""
    with Server(site, "--log-format", "json", users=USERS) as server:
        right, wrong = gateway.TOKENS["anna"], "guess-" + "1" * 32
        kernel = start(server, ISOLATED)
        for token in (right, wrong):
            for path in ("/api/me", f"/api/kernels/{kernel}/channels", f"/nothing/{'x' * 200}", "/login"):
                for method in ("GET", "POST", "DELETE", "BREW"):
                    for headers in ({}, {"Authorization": f"token {token}"}, {"Authorization": f"Bearer {token}"}, {"Cookie": f"cellwall={token}"}):
                        requests.request(method, f"{server.url}{path}?token={token}", headers=headers, json={"token": token}, timeout=30)
        assert requests.post(f"{server.url}/login", json={"token": right}, timeout=30).status_code in (204, 429)
        client = gateway.Socket(server, kernel, "anna", True, "s", "test")
        client.run("import sys; sys.__stderr__.write('a \\x1b line \\\\ of \"its own\"\\n'); sys.__stderr__.flush()")
        client.close()
        requests.delete(f"{server.url}/api/kernels/{kernel}", headers={"Authorization": f"token {right}"}, timeout=30)
        until(server, lambda metrics: "cellwall_kernels{" not in metrics.text)
        log = server.log()
        assert right not in log and wrong not in log and TOKENS["admin"] not in log
        lines = [json.loads(line) for line in log.splitlines()]
        events = {line["event"] for line in lines}
        assert {"listen", "request", "refused", "kernel"} <= events, events
        for line in lines:
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", line["time"]) and line["level"] in ("debug", "info", "warning", "error")
        request = next(line for line in lines if line["event"] == "request" and line["status"] == 201)
        assert request["user"] == "anna" and request["path"] == "/api/kernels" and isinstance(request["ms"], int)
        states = [line["state"] for line in lines if line["event"] == "kernel"]
        assert states[0] == "starting" and states[-1] == "terminating"
