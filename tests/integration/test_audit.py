"""The audit log: what is in it, what shows when it is changed, and what happens when it cannot be written."""

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import time

import harness
import processes
import pytest
from harness import ISOLATED


@pytest.fixture
def logs(site, tmp_path_factory):
    """A state directory of its own: only the logs of this test are in it."""
    state = site.project()
    return Logs(site, state)


class Logs:
    def __init__(self, site, state):
        self.site, self.env = site, {"XDG_STATE_HOME": str(state)}
        self.directory = state / "cellwall" / "log"

    def files(self):
        return sorted(self.directory.glob("*.jsonl"))

    def lines(self, file=None):
        return [json.loads(line) for f in ([file] if file else self.files()) for line in f.read_text().splitlines()]

    def of(self, event):
        return [line for line in self.lines() if line["event"] == event]

    def run(self, *arguments):
        return self.site.run("log", *arguments, env=self.env)

    def verify(self, *arguments):
        return self.run("verify", *arguments)


def policy(site, **audit):
    return site.variant("-f", "{connection_file}", "--policy", site.policy({"audit": audit}))


def test_what_is_recorded(logs, start):
    kernel = start(ISOLATED, env=logs.env, cwd=logs.site.project(staging__in__a_txt="a"))
    code = "print('not in the log')"
    kernel.run(code)
    kernel.run("import os\nos.symlink('/etc/passwd', 'alink')")
    assert processes.wait_until(lambda: logs.of("result"), 10 * harness.PATIENCE)
    assert logs.verify().returncode == 0 and "running" in logs.verify().stdout
    kernel.shutdown()
    (file,) = logs.files()
    assert file.stat().st_mode & 0o7777 == 0o600 and logs.directory.stat().st_mode & 0o7777 == 0o700
    lines = logs.lines()
    assert [line["event"] for line in lines][:3] == ["begin", "launch", "layers"]
    layers = lines[2]
    assert {"proxy-filter", "proxy-files", "relay-filter"} <= set(layers["has"].split()) and "open files" in layers["limits"], layers
    held = subprocess.run(["stat", "-f", "-c", "%T", kernel.cwd], capture_output=True, text=True, check=True).stdout.strip()
    assert ("idmapped-inputs" in layers["has"].split()) == (os.geteuid() == 0 and held not in ("overlayfs", "nfs")), (held, layers)
    (limits,) = [line for line in lines if line["event"] == "limits"]
    assert limits["held_by"] in ("cgroup", "watcher") and "memory" in limits["limits"], limits
    assert lines[-1]["event"] == "end" and lines[-1]["cells"] == 2
    assert lines[1]["folder"] == str(kernel.cwd)
    assert "system-call-filter" in lines[2]["has"].split()
    assert logs.of("cell")[0]["sha256"] == hashlib.sha256(code.encode()).hexdigest()
    assert "not in the log" not in file.read_text()
    assert "alink" in logs.of("result")[0]["reason"]
    assert {line["kernel"] for line in lines} == {re.search("kernel-(.*).json", kernel.connection_file)[1]}
    assert all(line["user"] and line["time"].endswith("Z") for line in lines)
    assert not logs.of("message")
    result = logs.verify()
    assert result.returncode == 0 and "whole" in result.stdout, result.stdout


def test_content_and_messages_when_asked(site, logs, start):
    kernel = start(ISOLATED, env=logs.env, spec=policy(site, content=True, messages=True))
    kernel.run("print('said by the cell')")
    kernel.shutdown()
    assert logs.of("cell")[0]["content"] == "print('said by the cell')"
    streams = [line for line in logs.of("message") if line["msg_type"] == "stream"]
    assert any("said by the cell" in line["content"] for line in streams)
    assert {line["direction"] for line in logs.of("message")} == {"in", "out"}
    assert logs.verify().returncode == 0


def test_show(logs, start):
    first, second = (start(ISOLATED, env=logs.env) for _ in range(2))
    first.run("import os\nos.symlink('/etc/passwd', 'a\\x1b]0;title\\x07link')")
    second.run("1")
    first.shutdown()
    second.shutdown()
    names = [line["kernel"] for line in logs.of("launch")]
    shown = logs.run().stdout
    assert all(name[:8] in shown for name in names)
    assert "\x1b" not in shown and "link" in shown
    blocked = logs.run("--blocked").stdout.splitlines()
    assert len(blocked) == 1 and "kept inside" in blocked[0]
    assert names[1][:8] not in logs.run(names[0][:6]).stdout
    assert all(json.loads(line)["kernel"] == names[1] for line in logs.run("--json", names[1]).stdout.splitlines())
    assert logs.run("no-such-kernel").returncode == 1
    assert logs.run("--nonsense").returncode == 2 and logs.run("verify", "--follow").returncode == 2
    coloured = subprocess.run(
        ["script", "-qec", f"{logs.site.cellwall} log --blocked", "/dev/null"],
        env={**logs.site.environment, **logs.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert "\x1b[31m" in coloured and "\x1b]" not in coloured


def test_no_log_yet(logs):
    result = logs.run()
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1


def test_follow(logs, start):
    follower = subprocess.Popen(
        [logs.site.cellwall, "log", "--follow", "--json"],
        env={**logs.site.environment, **logs.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert processes.wait_until(logs.directory.exists, 10 * harness.PATIENCE)
        time.sleep(0.3)
        kernel = start(ISOLATED, env=logs.env)
        kernel.run("1 + 1")
        kernel.shutdown()
        seen = []
        for line in follower.stdout:
            seen.append(json.loads(line))
            if seen[-1]["event"] == "end":
                break
        assert seen == logs.lines()
    finally:
        follower.kill()
        follower.wait()


def test_tampering_shows(logs, start):
    for _ in range(2):
        kernel = start(ISOLATED, env=logs.env)
        kernel.run("'a cell'")
        kernel.run("'another'")
        kernel.shutdown()
    first, second = logs.files()
    assert logs.verify().returncode == 0
    text = first.read_text()
    lines = text.splitlines(keepends=True)
    changed = {
        "edited": text.replace('"execute_request"', '"history_request"', 1),
        "deleted": "".join(lines[:3] + lines[4:]),
        "reordered": "".join(lines[:3] + [lines[4], lines[3]] + lines[5:]),
        "added": text + lines[-1],
        "beginning cut off": "".join(lines[2:]),
        "end cut off": "".join(lines[:-2]),  # the next log knows what was there
        "emptied": "",
        "of another kernel": second.read_text(),
    }
    for how, content in changed.items():
        first.write_text(content)
        result = logs.verify()
        assert result.returncode == 3 and "changed" in result.stdout, f"{how}: {result.stdout}"
        states = [json.loads(line)["state"] for line in logs.verify("--json").stdout.splitlines()]
        assert "changed" in states, how
    first.unlink()
    result = logs.verify()
    assert result.returncode == 3 and "missing" in result.stdout
    first.write_text(text)
    assert logs.verify().returncode == 0
    assert logs.verify(str(first)).returncode == 0
    # and what cannot be seen: the documentation says so
    second.unlink()
    assert logs.verify().returncode == 0


def test_killed_in_the_middle(logs, start):
    kernel = start(ISOLATED, env=logs.env)
    kernel.run("1")
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.wait_gone()
    (file,) = logs.files()
    with open(file, "a", encoding="ascii") as log:
        log.write('{"seq":9,"time":"20')
    result = logs.verify()
    assert result.returncode == 0 and "unfinished" in result.stdout and "19 bytes" in result.stdout, result.stdout
    successor = start(ISOLATED, env=logs.env)
    successor.run("2")
    successor.shutdown()
    assert len(logs.files()) == 2 and logs.lines(logs.files()[1])[0]["after"] == file.name
    assert logs.verify().returncode == 0


def test_no_place_for_a_log(site, logs, start):
    """The kernel runs and says so; where the policy requires a log, nothing starts."""
    logs.directory.parent.mkdir(parents=True)
    logs.directory.write_text("no directory")
    kernel = start(ISOLATED, env=logs.env)
    result = kernel.run("1 + 1")
    assert result.result == "2" and any("no audit log is kept" in notice for notice in result.notices)
    kernel.shutdown()
    refused = start(ISOLATED, env=logs.env, spec=policy(site, required=True), wait=False)
    assert refused.wait_gone(20) is not None
    assert "the policy requires an audit log" in refused.log


@pytest.mark.parametrize("required", [False, True])
def test_full_disk(site, logs, start, required):
    """A limit on the size of its files stands for a full disk; the kernel is told, or stopped."""
    kernel = start(ISOLATED, env=logs.env, spec=policy(site, required=required))
    kernel.run("1")
    (file,) = logs.files()
    soft, hard = resource.prlimit(kernel.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(kernel.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 50, hard))
    if required:
        kernel.client.execute("2")
        assert kernel.wait_gone(20) is not None
        assert "the policy requires it: the kernel is stopped" in kernel.log
    else:
        kernel.run("2")
        assert kernel.run("3").result == "3"
        assert kernel.log.count("the audit log") == 1
        resource.prlimit(kernel.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert kernel.run("4").result == "4"
        kernel.shutdown()
        assert [line["lines"] for line in logs.of("lost")] == [2]
    assert logs.verify().returncode == 0
