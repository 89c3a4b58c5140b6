"""Whatever is killed, filled up or taken away: nothing written before is lost, nothing half-written is presented as
whole, and the next launch in that folder says what it brought in.

  CELLWALL_ROUNDS   how often everything is killed (100)
"""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import time

import harness
import processes
import pytest
from harness import ISOLATED

ROUNDS = int(os.environ.get("CELLWALL_ROUNDS", "100"))
BUDGET = 100 * harness.PATIENCE  # seconds for the random kills of one test; fewer rounds on a slow machine
BROUGHT_IN = "that an earlier kernel could not bring out"
SMALL, LARGE = 2000, 3_000_000

# Writes without end; a name that is no temporary one is whole from the moment it is there. Every file is one character
# over and over. "end" of them may be reached: then the final collection begins, which is when there is most to copy.
WRITER = harness.shell(
    "cd /work || exit 9; mkdir -p d/e\n"
    f"small=$(head -c {SMALL} /dev/zero | tr '\\0' s)\n"
    f"head -c {LARGE} /dev/zero | tr '\\0' L > .large\n"
    "i=0; while [ $i -lt $END ]; do i=$((i + 1))\n"
    '  printf %s "$small" > .t && mv .t s$i\n'
    '  [ $((i % 4)) = 0 ] && printf %s "$small" > .t && mv .t d/e/s$i\n'
    "  [ $((i % 10)) = 0 ] && cp .large .t && mv .t L$i\n"
    "done"
)


def kill_everything(pid):
    """SIGKILL of all of ours and of the kernel, in one moment: stopped first, so that none reacts to another's end."""
    everybody = processes.tree(pid)
    for process in everybody:
        process.kill(signal.SIGSTOP)
    everybody += [process for process in processes.tree(pid) if process not in everybody]
    for process in everybody:
        process.kill(signal.SIGKILL)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 10 * harness.PATIENCE)


def whole(path):
    """The size of a result that is all of one file, or an AssertionError."""
    data = path.read_bytes()
    size = {"s": SMALL, "L": LARGE}[path.name[0]]
    assert len(data) == size and data.count(path.name[:1].encode()) == size, f"{path.name}: {len(data)} bytes of {size}"
    return size


def results(directory):
    """The final names below `directory`, relative; what is not a hidden one."""
    return {str(path.relative_to(directory)) for path in directory.rglob("[!.]*") if path.is_file()}


def written(site):
    """What the kernels had written, by the private directories that are there and not being removed."""
    found = set()
    for work in site.kernels.glob("*/work"):
        if os.path.lexists(work.parent / "out"):  # goes first, when all is brought out
            found |= {name for name in results(work) if not name.startswith("staging/")}
    return found


def temporaries(directory):
    return [path for path in directory.rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_random_kills(site, launch):
    """SIGKILL of everything at random moments: while it is launched, while it writes, while results are collected."""
    policy = site.policy({"env": {"set": {"END": "120"}}})
    rng, begin = random.Random(1), time.monotonic()
    kills = during_collection = recovered = said = 0
    while kills < ROUNDS and time.monotonic() - begin < BUDGET:
        project = site.project()
        out = project / "staging" / "out"
        launched = launch(*WRITER, cwd=project, options=("--policy", policy))
        if kills % 3:
            time.sleep(rng.uniform(0.0, 0.5))
        else:  # and in the short time in which results are brought out
            processes.wait_until(lambda: out.exists() and os.listdir(out), 3 * harness.PATIENCE, 0.001)
            time.sleep(rng.uniform(0.0, 0.04))
        kill_everything(launched.pid)
        launched.close()
        kills += 1
        before = results(out)
        during_collection += bool(before and site.private_directories())
        for name in before:
            whole(out / name)
        expected = before | written(site)
        if kills % 2:
            again = launch(*harness.shell("exec true"), cwd=project)
            again.wait()
            told = BROUGHT_IN in again.log
            assert told == bool(expected - before), again.log
            said += told
        else:
            site.run("stage", "recover", cwd=project, check=True)
        assert results(out) == expected
        for name in expected - before:
            whole(out / name)
        recovered += len(expected - before)
        assert temporaries(out) == [], "litter of a collector that was killed"
        if site.private_directories():  # all of it is out; a launch that ended at once cut its removal short
            site.run("stage", "recover", cwd=project, check=True)
        assert site.private_directories() == []
    harness.figure(
        f"{kills} kills of everything, {during_collection} of them during the collection; "
        f"{recovered} files brought in later, {said} launches said so"
    )
    assert kills >= min(ROUNDS, 10) and recovered and said


@pytest.mark.slow
def test_random_kills_of_a_notebook(site, start):
    """The same with cells: their results are collected while the next one writes."""
    rng, begin = random.Random(2), time.monotonic()
    kills = 0
    while kills < max(1, ROUNDS // 10) and time.monotonic() - begin < BUDGET / 4:
        kernel = start(ISOLATED)
        out = kernel.cwd / "staging" / "out"
        kernel.client.execute(
            f"import os, time\ndef put(name, size):\n"
            "    with open('.t', 'w') as file: file.write(name[0] * size)\n"
            "    os.rename('.t', name)\n"
        )
        for cell in range(30):
            kernel.client.execute(
                f"for i in range(10): put(f's{cell}-{{i}}', {SMALL})\n" f"put('L{cell}', {LARGE})"
            )
        time.sleep(rng.uniform(0.0, 0.7))
        kill_everything(kernel.pid)
        kills += 1
        before = results(out)
        for name in before:
            whole(out / name)
        expected = before | written(site)
        site.run("stage", "recover", cwd=kernel.cwd, check=True)
        assert results(out) == expected
        for name in expected:
            whole(out / name)
        assert temporaries(out) == [] and site.private_directories() == []
        kernel.close()
    harness.figure(f"{kills} kills of everything between the cells of a notebook")


def test_only_the_collector_is_killed(site, start):
    """The one process that copies is killed in the middle of it: the kernel goes on, and its end brings all out."""
    kernel = start(ISOLATED)
    collector = kernel.roles()["collector"]
    kernel.client.execute(f"for i in range(40): open(f'L{{i}}', 'w').write('L' * {LARGE})")
    out = kernel.cwd / "staging" / "out"
    processes.wait_until(lambda: results(out), 20 * harness.PATIENCE)
    collector.kill()
    assert kernel.run("6 * 7").result == "42"
    kernel.shutdown()
    assert kernel.wait_gone() is not None
    site.run("stage", "recover", cwd=kernel.cwd, check=True)
    assert results(out) == {f"L{index}" for index in range(40)}
    for name in results(out):
        whole(out / name)
    assert temporaries(out) == [] and site.private_directories() == []


class Elsewhere:
    """A mount namespace of the test's own: a small tmpfs on a directory, which ends with it."""

    def __init__(self, directory, options):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # Commands come on its stdin: an ordinary user who joins later would lose the right to mount at execve(2).
        script = (
            f"mount -t tmpfs -o {options} cellwall-test {directory} && chmod 755 {directory} && echo done; "
            'while read -r command; do eval "$command" && echo done; done'
        )
        # An ordinary user gets one with a user namespace, in which it stays who it is.
        self.own = os.geteuid() != 0
        options = ["--user", "--map-current-user", "--keep-caps"] if self.own else []
        self.process = subprocess.Popen(
            ["unshare", "--mount", *options, "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        line = self.process.stdout.readline()
        if line != "done\n":
            self.close()
            pytest.skip(f"no mount namespace here: {line}")

    def enter(self, directory):
        """What a program is started with to run there, in a folder as it is there: with what is mounted on it."""
        user = ["--user", "--preserve-credentials"] if self.own else []
        return ("nsenter", f"--target={self.process.pid}", "--mount", *user, f"--wdns={directory}")

    def remount(self, options):
        self.process.stdin.write(f"mount -o remount,{options} {self.directory}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line == "done\n", line

    def see(self, path):
        """A path there, from here."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{path}")

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def elsewhere():
    made = []

    def begin(directory, options):
        made.append(Elsewhere(directory, options))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_full_disk(site, launch, elsewhere):
    """staging/out is on a disk with room for a part: that part is whole, the rest waits and comes when there is room."""
    project = site.project()
    place = elsewhere(project, "size=8m")
    policy = site.policy({"env": {"set": {"END": "100"}}})
    launched = launch(*WRITER, cwd=project, wrapper=place.enter(project), options=("--policy", policy))
    assert launched.wait(20) is not None
    out = place.see(project / "staging" / "out")
    some = results(out)
    assert some, launched.log
    for name in some:
        whole(out / name)
    assert "No space left on device" in launched.log and "results stay in" in launched.log
    assert temporaries(out) == []
    expected = some | written(site)
    assert len(expected) == 135 and len(site.private_directories()) == 1
    place.remount("size=64m")
    again = subprocess.run(
        [*place.enter(project), site.cellwall, "stage", "recover"],
        capture_output=True,
        text=True,
        env=site.environment,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert results(out) == expected
    for name in expected:
        whole(out / name)
    assert site.private_directories() == []


def test_folder_that_becomes_read_only(site, launch, elsewhere):
    """The folder's file system is mounted read-only while the kernel runs: the kernel goes on, results wait."""
    project = site.project()
    place = elsewhere(project, "size=64m")
    launched = launch(
        *harness.shell("echo 1 > /work/s; while [ ! -e /work/stop ]; do sleep 0.05; done; exit 0"),
        cwd=project,
        wrapper=place.enter(project),
    )
    work = processes.wait_until(lambda: list(site.kernels.glob("*/work/s")), 20 * harness.PATIENCE)
    assert work, launched.log
    place.remount("ro")
    (work[0].parent / "stop").touch()
    if os.geteuid() == 0:
        os.chown(work[0].parent / "stop", work[0].stat().st_uid, -1)
    assert launched.wait(20) is not None
    assert "results stay in" in launched.log and "ead-only" in launched.log
    assert not place.see(project / "staging").exists()
    place.remount("rw")
    again = subprocess.run(
        [*place.enter(project), site.cellwall, "stage", "recover"],
        capture_output=True,
        text=True,
        env=site.environment,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert results(place.see(project / "staging" / "out")) == {"s", "stop"}
    assert site.private_directories() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("when", ["before", "while it runs"])
def test_folder_that_cannot_be_written(site, start, when):
    """No write permission: the kernel works, says where its results stay, and the next launch brings them in."""
    project = site.project(staging__in__a_txt="1") if when == "while it runs" else site.project()
    if when == "before":
        project.chmod(0o555)
    kernel = start(ISOLATED, cwd=project)
    try:
        if when != "before":
            assert kernel.run("open('first.txt', 'w').write('1')").status == "ok"
            assert processes.wait_until(lambda: (project / "staging" / "out" / "first.txt").exists(), 5 * harness.PATIENCE)
            (project / "staging" / "out").chmod(0o555)
        run = kernel.run("open('last.txt', 'w').write('2')")
        assert run.status == "ok", run.problem
        assert "ermission denied" in "".join(run.notices) or kernel.notice("ermission denied", 10), kernel.log
        kernel.shutdown()
        assert len(site.private_directories()) == 1
        assert not (project / "staging" / "out" / "last.txt").exists()
    finally:
        project.chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            (project / "staging" / "out").chmod(0o755)
    again = start(ISOLATED, cwd=project)
    assert processes.wait_until(lambda: BROUGHT_IN in again.log, 5 * harness.PATIENCE), again.log
    assert harness.becomes(project / "staging" / "out" / "last.txt", "2") == "2"
    again.shutdown()
    assert site.private_directories() == []


def test_the_same_notebook_twice(site, start):
    """Two kernels in one folder write the same name at once: both results are there, and whose came second is said."""
    project = site.project()
    kernels = [start(ISOLATED, cwd=project) for _ in range(2)]
    out, name = project / "staging" / "out", "result (cellwall 1).csv"
    for number, kernel in enumerate(kernels):
        run = kernel.run(f"open('result.csv', 'w').write('kernel {number}')")
        harness.becomes(out / (name if number else "result.csv"), f"kernel {number}")
    assert name in "".join(run.notices) or kernel.notice(name, 10), kernel.log
    for turn in range(3):
        for number, kernel in enumerate(kernels):
            assert kernel.run(f"open('result.csv', 'w').write('kernel {number}, {turn}')").status == "ok"
    for kernel in kernels:
        kernel.shutdown()
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "result.csv": "kernel 0, 2",
        name: "kernel 1, 2",
    }


def test_two_kernels_that_end_at_once(site, launch):
    """The same with the final collections at one time: no result is lost, none is half."""
    project = site.project()
    policy = site.policy({"env": {"set": {"END": "60"}}})
    launches = [launch(*WRITER, cwd=project, options=("--policy", policy)) for _ in range(2)]
    for launched in launches:
        assert launched.wait(30) is not None
    site.run("stage", "recover", cwd=project, check=True)
    out = project / "staging" / "out"
    names = {f"s{i}" for i in range(1, 61)} | {f"d/e/s{i}" for i in range(4, 61, 4)} | {f"L{i}" for i in range(10, 61, 10)}
    assert results(out) == names  # their contents are the same: nothing goes beside
    for name in names:
        whole(out / name)
    assert temporaries(out) == [] and site.private_directories() == []


def test_folder_that_is_the_home(site, start):
    """Nothing of the home is inside; results go to ~/staging/out, and nothing else of it changes."""
    before = sorted(path.name for path in site.home.iterdir() if path.name != "staging")
    kernel = start(ISOLATED, cwd=site.home)
    run = kernel.run(
        "import os; print(sorted(name for name in os.listdir('.') if name != 'staging')); print(os.path.expanduser('~'))\n"
        "print(os.path.exists(os.path.expanduser('~/.ssh'))); open('result.txt', 'w').write('1')"
    )
    assert run.stdout == "[]\n/home/user\nFalse\n", run.stdout + run.problem
    kernel.shutdown()
    try:
        assert (site.home / "staging" / "out" / "result.txt").read_text() == "1"
        assert sorted(path.name for path in site.home.iterdir() if path.name != "staging") == before
        assert site.secret not in "".join(path.read_text() for path in (site.home / "staging").rglob("*.*"))
    finally:
        for path in sorted((site.home / "staging").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (site.home / "staging").rmdir()
