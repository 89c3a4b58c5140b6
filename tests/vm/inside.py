"""What is tested in the virtual machine: begun as root by its one service; the user's part by the shell of a user who
has logged in. Results go to the second serial port, a line each. pytest loads this as a plugin, and tells them the same way."""

import contextlib
import json
import os
import pathlib
import platform
import re
import subprocess
import time

CACHE = pathlib.Path("/var/tmp/cellwall-tests")
TESTS = CACHE / "tests"
CELLWALL = CACHE / "prefix/bin/cellwall"
PORT = "/dev/ttyS1"
STATE = pathlib.Path("/run/cellwall-vm")  # what root and the user tell each other
PLACES = {"root": "/srv", "user": "/home/user"}
EXPORT, HOME = "/srv/export", "/nfs"
USER_SECONDS = 5400  # on a machine that is busy with something else

SETTINGS = dict(line.split("=", 1) for line in (TESTS / "vm/settings").read_text().splitlines())
PARTS = SETTINGS["PARTS"].split() or ["doctor", "session", "probes", "nfs", "limits", "service"]
WHO = "root" if os.geteuid() == 0 else "user"
CONTROLLERS = {"memory", "pids", "cpu"}
# What a cgroup holds; the rest of that suite is the same on every system.
LIMITS = "no_rlimit_sees or of_children or test_processes or processor or enforce or killed_supervisor"


def say(text):
    if not text:
        return
    with open(PORT, "w", encoding="utf-8") as port:
        port.write(text + "\n")


def count(ok, name, why=""):
    with open(STATE / f"counts-{WHO}", "a", encoding="utf-8") as file:
        file.write("ok\n" if ok else "failed\n")
    say(f"{'ok' if ok else 'FAILED'} {WHO}: {name}")
    if why and not ok:
        say("\n".join(f"   | {line}" for line in why.splitlines()[-60:]))


def command(*argv, seconds=300, **options):
    """Its exit status and all it said."""
    try:
        done = subprocess.run(
            list(map(str, argv)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            timeout=seconds,
            check=False,
            **options,
        )
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        processes = subprocess.run(["ps", "axfww", "-o", "pid,stat,wchan:20,args"], capture_output=True, text=True, check=False)
        return -1, f"{late.stdout}\nno end after {seconds} s\n{processes.stdout}"


def pytest(name, *arguments, place, seconds=600, before=(), **variables):
    """Tests of the integration suites, against the installed build, each counted by itself; begun by `before`."""
    begin = time.monotonic()
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "CELLWALL_PART": name,
        "CELLWALL_PREFIX": str(CACHE / "prefix"),
        "CELLWALL_KERNEL": SETTINGS["CELLWALL_KERNEL"],
        "CELLWALL_RELAY": str(CACHE / "prefix/libexec/cellwall/cellwall-relay"),
        "CELLWALL_TESTS": str(TESTS),
        "CELLWALL_PLACE": place,
        # Emulation is ten times slower than the machine it runs on.
        "CELLWALL_PATIENCE": "10",
        **variables,
    }
    code, out = command(
        *before,
        SETTINGS["CELLWALL_CLIENT"],
        *("-m", "pytest", "-p", "no:cacheprovider", "-p", "inside", "-q", "--tb=short"),
        *("-o", f"faulthandler_timeout={seconds // 3}", *arguments),
        seconds=seconds,
        cwd=TESTS / "integration",
        env=environment,
    )
    if code not in (0, 1):  # 1: some failed, which has been said
        count(False, f"{name}: pytest ended with {code}", out)
    say(f"   {name}: {time.monotonic() - begin:.0f} s")


def pytest_runtest_logreport(report):
    name = f"{os.environ['CELLWALL_PART']}: {report.location[2]}"
    if report.skipped:
        say(f"   skipped: {name}: {report.longrepr[2]}")
    elif report.when == "call" or report.failed:
        count(report.passed, name, str(report.longrepr))
        say("\n".join(f"   {line}" for line in report.capstdout.splitlines() if line.startswith("figure: ")))


def doctor():
    code, out = command(CELLWALL, "doctor")
    say("\n".join(f"   {line}" for line in out.splitlines()))
    count(code == 0, "cellwall doctor finds all it needs", out)


def session():
    """The login is what systemd makes of it: controllers are handed down to the user's own manager."""
    mine = pathlib.Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    uid = os.getuid()
    manager = pathlib.Path(f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service")
    given = set((manager / "cgroup.controllers").read_text().split())
    count("/session-" in mine and CONTROLLERS <= given, f"{mine}; delegated: {' '.join(sorted(given))}")


def probes():
    pytest("probes", "test_isolation.py", "-k", "probe", place=PLACES[WHO])


def limits():
    """In a scope as `cellwall doctor` says it: the controllers are the user's, and a cgroup holds every limit."""
    scope = ("systemd-run", *(["--user"] if WHO == "user" else []), "--scope", "--quiet", "-p", "Delegate=yes", "--")
    code, out = command(*scope, CELLWALL, "doctor")
    said = [line.split() for line in out.splitlines() if "  cgroup  " in line]
    count(code == 0 and said and said[0][0] == "ok", f"in a delegated scope: {' '.join(said[0]) if said else ''}", out)
    pytest("limits", "test_limits.py", "-k", LIMITS, place=PLACES[WHO], seconds=1800, before=scope, CELLWALL_CGROUP="required")


def nfs():
    """HOME, the state directory, the project: all of it on NFS."""
    kind = command("stat", "-f", "-c", "%T", HOME)[1].strip()
    count(kind == "nfs", f"{HOME} is on {kind}")
    pytest("nfs", "test_nfs.py", place=f"{HOME}/{WHO}", CELLWALL_NFS="1")


def service():
    """The unit as it is installed, by systemd: it starts, runs a kernel behind the wall, reloads, and ends with what it started."""
    home, etc = pathlib.Path("/var/lib/cellwall"), pathlib.Path("/etc/cellwall")
    command("useradd", "--system", "--create-home", "--home-dir", home, "cellwall")
    etc.mkdir(mode=0o700)
    for name in ("certificate.pem", "key.pem"):
        (etc / name).write_bytes((TESTS / "vm" / name).read_bytes())
    (etc / "users.json").write_text(json.dumps({"users": {"anna": {"token": "a" * 32}}}))
    for path in etc.iterdir():
        path.chmod(0o600)
    unit = (CACHE / "prefix/share/cellwall/systemd/cellwall-serve.service").read_text()
    system = pathlib.Path("/etc/systemd/system")
    (system / "cellwall-serve.service").write_text(re.sub(r"ExecStart=\S+", f"ExecStart={CELLWALL}", unit))
    # The program and the environments are below /var/tmp here, of which the service has one of its own.
    (system / "cellwall-serve.service.d").mkdir()
    (system / "cellwall-serve.service.d/here.conf").write_text(f"[Service]\nBindReadOnlyPaths={CACHE}\n")
    install = ("runuser", "-u", "cellwall", "--", "env", f"HOME={home}", CELLWALL, "install", "--name", "isolated", "--python", SETTINGS["CELLWALL_KERNEL"])
    code, out = command(*install, cwd=home)
    count(code == 0, "service: a kernelspec for its user", out)
    command("systemctl", "daemon-reload")
    code, out = command("systemctl", "start", "cellwall-serve")  # is over with READY=1
    log = command("journalctl", "-u", "cellwall-serve", "--no-pager")[1]
    count(code == 0, "service: started", out + log)
    code, out = command(SETTINGS["CELLWALL_CLIENT"], TESTS / "vm" / "client.py", TESTS / "vm" / "certificate.pem", seconds=600)
    count(code == 0 and out.strip().endswith("2"), "service: a kernel behind the wall", out + command("journalctl", "-u", "cellwall-serve", "--no-pager")[1])
    code, out = command("systemctl", "reload", "cellwall-serve")
    state = command("systemctl", "show", "-p", "ActiveState,SubState,NRestarts,StatusText", "cellwall-serve")[1]
    count(code == 0 and "SubState=running" in state and "NRestarts=0" in state, "service: reloaded, running", out + state)
    code, out = command("systemctl", "stop", "cellwall-serve")
    result = command("systemctl", "show", "-p", "Result,ExecMainStatus", "cellwall-serve")[1]
    left = command("pgrep", "-u", "cellwall", "-a")[1]
    count(code == 0 and "Result=success" in result and not left, "service: stopped, and nothing of it is left", out + result + left)


def run(*parts):
    for part in parts:
        if part.__name__ in PARTS:
            try:
                part()
            except Exception as problem:  # the others are still to be seen
                count(False, part.__name__, repr(problem))


def export():
    """This machine's own NFS server, mounted by itself: version 4, as people's homes are."""
    for name in PLACES:
        pathlib.Path(EXPORT, name).mkdir(parents=True)
    os.chown(f"{EXPORT}/user", 1000, 1000)
    os.makedirs(HOME)
    for argv in (
        ("systemctl", "start", "nfs-server"),
        ("exportfs", "-o", "rw,no_subtree_check,no_root_squash,fsid=0", f"localhost:{EXPORT}"),
        ("mount", "-t", "nfs4", "localhost:/", HOME),
    ):
        code, out = command(*argv)
        if code != 0:
            count(False, " ".join(argv), out)


def log_in():
    """The user logs in, tests, and is waited for."""
    command("chmod", "666", PORT)
    command("systemctl", "start", "getty@tty1.service")
    end = time.monotonic() + USER_SECONDS
    while not (STATE / "user-done").exists() and time.monotonic() < end:
        time.sleep(1)
    if not (STATE / "user-done").exists():
        count(False, "the user's part did not end", command("systemctl", "status", "getty@tty1.service")[1])


def total():
    text = "".join(path.read_text() for path in STATE.glob("counts-*"))
    say(f"{text.count('ok')} passed, {text.count('failed')} failed")


def main():
    if WHO == "user":
        with contextlib.suppress(KeyError):
            say(f"   session of {os.environ['USER']}: {json.dumps(os.environ['XDG_RUNTIME_DIR'])}")
        run(session, doctor, probes, nfs, limits)
        (STATE / "user-done").touch()
        return
    STATE.mkdir(mode=0o777)
    STATE.chmod(0o777)
    say(f"   Linux {platform.release()}, {command('systemctl', '--version')[1].splitlines()[0]}")
    if "nfs" in PARTS:
        export()
    if PARTS != ["service"]:
        log_in()
    run(doctor, probes, nfs, limits, service)
    total()


if __name__ == "__main__":
    main()
