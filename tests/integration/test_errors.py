"""Failures in words: one readable line on stderr, an exit status, and never a process that stays."""

import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import time

import harness
import pytest
from harness import ISOLATED, SLEEP, shell


def fails(launched, *words, seconds=10):
    """It ends by itself with a status that is not 0, one line, and these words in it."""
    code = launched.wait(seconds)
    assert code is not None and code > 0, (code, launched.log)
    lines = [line for line in launched.log.splitlines() if line.strip()]
    assert len(lines) == 1, launched.log
    assert lines[0].startswith(("cellwall", "<")), lines
    for word in words:
        assert re.search(word, lines[0]), (word, lines[0])
    return code


@pytest.fixture(autouse=True)
def clean(nothing_left):
    """Every failure leaves nothing behind."""


def connection(site, text=None, **changes):
    path = site.root / "runtime" / f"kernel-{os.urandom(4).hex()}.json"
    if text is None:
        info = harness.write_connection_file(path)
        info.update(changes)
        text = json.dumps({name: value for name, value in info.items() if value is not None})
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, changes, words",
    [
        ("", {}, []),
        ("{", {}, []),
        ("[]", {}, []),
        ("\0" * 100, {}, []),
        ("{" * 50000, {}, []),
        (None, {"shell_port": 70000}, ["shell_port"]),
        (None, {"shell_port": "x"}, ["shell_port"]),
        (None, {"iopub_port": None}, ["iopub_port"]),
        (None, {"transport": "inproc"}, ["transport"]),
        (None, {"signature_scheme": "hmac-none"}, ["hmac-none"]),
        (None, {"signature_scheme": "rsa"}, ["rsa"]),
        (None, {"ip": "0.0.0.0", "key": ""}, ["0.0.0.0|key"]),
        (None, {"curve_publickey": "x" * 40, "curve_secretkey": "y" * 40}, ["curve"]),
        (None, {"transport": "ipc", "ip": "/" + "x" * 200}, ["107|long"]),
    ],
)
def test_bad_connection_file(site, launch, text, changes, words):
    path = connection(site, text, **changes)
    key = "" if text is not None else json.loads(path.read_text()).get("key")
    launched = launch(*SLEEP, connection=path)
    fails(launched, *words)
    assert not key or key not in launched.log, "the key is in the log"


def test_missing_connection_file(site, launch):
    fails(launch(*SLEEP, connection=site.root / "runtime" / "no-such.json"), "no-such.json", "No such file")


def test_connection_file_is_a_directory(site, launch):
    (site.root / "runtime" / "directory.json").mkdir(exist_ok=True)
    fails(launch(*SLEEP, connection=site.root / "runtime" / "directory.json"), "directory.json")


def test_same_port_twice(site, launch):
    port = harness.free_ports(1)[0]
    fails(launch(*SLEEP, connection=connection(site, shell_port=port, iopub_port=port)), "port")


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", [r":1:\d+"]),
        ('{"stage": {"in": "data"}}', [r":1:\d+|stage"]),
        ('{\n "unknown_key": 1 }', [r":2:\d+", "unknown_key"]),
        ('{"stage": {}, "stage": {}}', ["stage"]),
        ('{"stage": {"in": ["../up"]}}', [r"\.\."]),
        ('{"resources": {"memory": "lots"}}', ["lots|memory"]),
        ('{"resources": {"pids": -1}}', ["pids"]),
    ],
)
def test_bad_policy(site, launch, text, words):
    policy = site.policy(text)
    fails(launch(*SLEEP, options=("--policy", policy)), re.escape(policy.name), *words)
    checked = site.run("policy", "check", policy)
    assert checked.returncode == 1 and policy.name in checked.stderr + checked.stdout


def test_missing_policy(site, launch):
    assert fails(launch(*SLEEP, options=("--policy", site.root / "none.json")), "none.json") == 2


def test_bad_policy_is_said_in_the_notebook(site, launch):
    """In the answer to what a client asks, within the second that a failed launch leaves the sockets open."""
    policy = site.policy('{"reosurces": {}}')
    for _ in range(5):
        file = site.root / "runtime" / f"kernel-{os.urandom(4).hex()}.json"
        harness.write_connection_file(file, "ipc")
        client = harness.BlockingKernelClient()
        client.load_connection_file(str(file))
        client.start_channels(hb=False)
        client.kernel_info()
        launched = launch(*SLEEP, options=("--policy", policy), connection=file)
        said, over = "", False
        while not over and "reosurces" not in said:
            over = launched.process.poll() is not None  # what it said before its end may be on its way
            with contextlib.suppress(queue.Empty):
                said = client.get_shell_msg(timeout=0.2)["content"].get("evalue", "")
        client.stop_channels()
        assert launched.wait() == 2
        if said:
            break
    assert f"{policy.name}:1:2: unknown key" in said, launched.log


def test_missing_kernel(launch):
    fails(launch("/nowhere/bin/python", "{inner_connection_file}"), "/nowhere/bin/python")
    fails(launch("no-such-program-at-all", "{inner_connection_file}"), "no-such-program-at-all")


def test_kernel_without_a_connection_file(site, launch):
    fails(launch(site.python, "-m", "ipykernel_launcher"), "inner_connection_file")


def test_kernel_that_cannot_be_executed(site, launch):
    """A text file without a first line that names an interpreter."""
    program = site.put(site.root, "bin/broken", "\x7fELF broken")
    program.chmod(0o755)
    code = launch(program, "{inner_connection_file}").wait(10)
    assert code not in (0, None)


def test_missing_staged_thing(site, launch):
    policy = site.policy({"stage": {"in": ["not-there"]}})
    launched = launch(*shell("true"), options=("--policy", policy))
    code = launched.wait(10)
    assert "not-there" in launched.log, (code, launched.log)


def test_port_in_use_is_waited_for(site, launch):
    """A restarted kernel finds its predecessor's port in use for a moment: bind is tried again."""
    path = connection(site)
    holder = socket.socket()
    holder.bind(("127.0.0.1", json.loads(path.read_text())["shell_port"]))
    holder.listen()
    launched = launch(*SLEEP, connection=path)
    time.sleep(1)
    assert launched.process.poll() is None, launched.log
    holder.close()
    assert launched.wait_role("kernel", 8), launched.log
    launched.process.terminate()
    assert launched.wait() is not None


def test_port_in_use_for_good(site, launch):
    path = connection(site)
    port = json.loads(path.read_text())["shell_port"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        begin = time.monotonic()
        launched = launch(*SLEEP, connection=path)
        fails(launched, str(port), "in use")
        assert 3 < time.monotonic() - begin < 9 * harness.PATIENCE


@pytest.mark.parametrize("which", ["user", "mnt", "pid", "net"])
def test_no_namespaces(site, launch, which):
    """A host that gives no namespaces, made by a limit in a namespace of our own (user_namespaces(7))."""
    wrapper = (
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        f'echo 0 > /proc/sys/user/max_{which}_namespaces && exec "$@"',
        "sh",
    )
    code = fails(launch(*SLEEP, wrapper=wrapper), "namespace|userns|mounts|network|unshare|clone|pid")
    assert code in (1, 3)


def test_doctor_here(site):
    result = site.run("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.splitlines()) <= 60
    for word in ("user", "mount", "pid", "net", "seccomp", "Landlock", "cgroup"):
        assert word.lower() in result.stdout.lower(), word


def test_doctor_for_machines(site):
    """Everything that the page says, with what is needed and what to do; and the layers of a sandbox really started."""
    result = site.run("doctor", "--json")
    page = json.loads(result.stdout)
    lines = {line["what"]: line for line in page["lines"]}
    assert result.returncode == 0 and page["can_run"] is True
    assert set(lines["user namespaces"]) == {"what", "state", "detail", "help", "needed"}
    layers = lines["its layers"]
    assert lines["the proxy"]["detail"] == "proxy-filter proxy-files" or lines["Landlock"]["state"] != "ok"
    assert "all together" in lines["its limits"]["detail"] and "open files" in lines["its limits"]["detail"]
    assert {"user-namespace", "inner-user-namespace", "pid-namespace", "system-call-filter"} <= set(layers["detail"].split())
    assert ("landlock" in layers["detail"].split()) == (lines["Landlock"]["state"] == "ok")


def test_doctor_without_namespaces(site):
    result = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"',
            "sh",
            site.cellwall,
            "doctor",
        ],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 3, result.stdout
    assert "namespace" in result.stdout.lower()


def test_failure_reaches_a_connected_client(site, start):
    """A client that is already there reads why, instead of looking at a silent dead kernel."""
    kernel = start(ISOLATED, spec=site.variant(kernel=["/nowhere/bin/python", "{inner_connection_file}"]), wait=False)
    assert kernel.wait_gone(10) is not None
    assert "/nowhere/bin/python" in kernel.log
    assert kernel.manager.provisioner.process.returncode not in (0, None)


def test_kernel_that_dies_at_start_says_why(site, start):
    """What the kernel wrote to stderr before it died is in the log, escaped."""
    kernel = start(
        ISOLATED,
        spec=site.variant(
            "--shared-environment",
            kernel=[
                "/usr/bin/python3",
                "-c",
                "import sys; sys.exit('broken by \\x1b[31m intent')",
                "{inner_connection_file}",
            ],
        ),
        wait=False,
    )
    assert kernel.wait_gone(10) is not None
    assert "broken by" in kernel.log and "\x1b[31m" not in kernel.log
    assert kernel.manager.provisioner.process.returncode == 1


@pytest.mark.parametrize(
    "arguments", [["kernel"], ["kernel", "-f"], ["kernel", "--nonsense"], ["nonsense"], [], ["kernel", "-f", "x"], ["kernel", "-f", "x", "--verify", "--", "x"]]
)
def test_wrong_usage(site, arguments):
    result = site.run(*arguments)
    assert result.returncode == 2, (result.returncode, result.stderr)
    assert 0 < len(result.stderr.splitlines()) <= 40


def test_output_that_cannot_be_written(site):
    with open("/dev/full", "w") as full:
        result = subprocess.run([site.cellwall, "policy", "show"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1 and result.stderr.startswith("cellwall policy: its output cannot be written")


@pytest.mark.parametrize("verb", ["kernel", "install", "list", "remove", "doctor", "policy", "stage"])
def test_help(site, verb):
    result = site.run(verb, "--help")
    assert result.returncode == 0 and verb in result.stdout and result.stderr == ""


def test_help_and_version(site):
    assert "kernel" in site.run("--help").stdout
    assert re.search(r"\d+\.\d+\.\d+", site.run("--version").stdout + site.run("version").stdout)
