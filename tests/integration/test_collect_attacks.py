"""An enemy inside against the collector: brought out right or refused by name; the host never follows a link that the
kernel made, never hangs, and never overwrites what is not its own.

What test_staging.py has (plain links, fifos, sockets, hidden names, limits) is not repeated here."""

import os
import pathlib
import stat
import statistics
import threading
import time

import harness
import processes
import pytest
from harness import ISOLATED

# In every cell: the system calls that python has no name for.
PRELUDE = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def exchange(a, b):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2):
        raise OSError(ctypes.get_errno(), 'renameat2')
"""


def out_of(kernel):
    return kernel.cwd / "staging" / "out"


def everything_said(kernel, *runs):
    """Ends the kernel. All our messages in the notebook so far, and the log."""
    texts = [text for run in runs for text in run.notices]
    texts += harness.notices(harness.drain(kernel.client, 1))
    kernel.shutdown()
    return "".join(texts) + kernel.log


def files_below(directory):
    """Every regular file as bytes paths relative to `directory`, without following a link."""
    top = os.fsencode(directory)
    found = []
    for place, _, names in os.walk(top):
        found += [os.path.relpath(os.path.join(place, name), top) for name in names]
    return sorted(found)


def contents(directory):
    """Everything that is below `directory`, as one string of bytes."""
    top = os.fsencode(directory)
    return b"".join(pathlib.Path(os.fsdecode(os.path.join(top, name))).read_bytes() for name in files_below(directory))


def test_links_modes_and_devices(site, start):
    """Hard links of its own are files; of a staged file there are none; set-id bits and devices do not come out."""
    project = site.project(staging__in__secret_csv="staged")
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run(
        PRELUDE + "import stat\n"
        "open('one.txt', 'w').write('same'); os.link('one.txt', 'two.txt')\n"
        "for source in ('staging/in/secret_csv', '/etc/passwd', '/usr/bin/env'):\n"
        "    try: os.link(source, 'stolen'); print('linked', source)\n"
        "    except OSError: pass\n"
        "def open_up(path):\n"
        "    for mode in (0o7777, 0o1777):\n"
        "        try: return os.chmod(path, mode)\n"
        "        except OSError: pass\n"
        "open('tool', 'w').write('#!/bin/sh'); open_up('tool')\n"
        "os.mkdir('sticky'); open_up('sticky'); open('sticky/f', 'w').write('1')\n"
        "for name, kind, number in (('null', stat.S_IFCHR, (1, 3)), ('disk', stat.S_IFBLK, (8, 0)), ('white', stat.S_IFCHR, (0, 0))):\n"
        "    try: os.mknod(name, kind | 0o666, os.makedev(*number)); print('made', name)\n"
        "    except OSError: pass\n"
        "os.symlink('/proc/self/fd', 'magic'); os.symlink('one.txt', 'inner')\n"
    )
    assert run.status == "ok", run.problem
    assert "linked" not in run.stdout and "made null" not in run.stdout and "made disk" not in run.stdout
    said = everything_said(kernel, run)
    kernel.shutdown()
    out = out_of(kernel)
    assert (out / "one.txt").read_text() == (out / "two.txt").read_text() == "same"
    for name in ("tool", "sticky", "sticky/f"):
        status = (out / name).lstat()
        assert status.st_mode & 0o7000 == 0, name
        assert status.st_mode & stat.S_IWOTH == 0, name
        assert status.st_uid == os.geteuid()
    assert "magic" in said and "inner" in said
    names = {"one.txt", "two.txt", "tool", "sticky"}
    if "made white" in run.stdout:
        assert "white" in said
    assert {path.name for path in out.iterdir()} == names


def test_sparse_files(site, start):
    """Petabytes of nothing cannot be made inside; what can be is bounded together; within the limits holes stay holes."""
    kernel = start(ISOLATED)
    run = kernel.run("with open('sparse', 'wb') as file: file.seek(1 << 30); file.write(b'end')")
    assert run.status == "ok", run.problem
    out = out_of(kernel)
    assert processes.wait_until(lambda: (out / "sparse").exists(), 10 * harness.PATIENCE)
    again = kernel.run(
        "import os\n"
        "for shift in range(50, 20, -1):\n"
        "    try:\n"
        "        with open('huge', 'wb') as file: os.truncate(file.fileno(), 1 << shift)\n"
        "        print(shift); break\n"
        "    except OSError: pass\n"
    )
    begin = time.monotonic()
    said = everything_said(kernel, run, again)
    kernel.shutdown()
    assert time.monotonic() - begin < 10 * harness.PATIENCE
    assert int(again.stdout) <= 31, "larger than any result may be"
    assert "huge" in said and "together would be larger" in said
    status = (out / "sparse").stat()
    assert status.st_size == (1 << 30) + 3
    assert status.st_blocks * 512 < 1 << 24, "the hole was written out"
    assert [path.name for path in out.iterdir()] == ["sparse"]


def test_many_files(site, start):
    """Twice as many as the limit lets out, names beyond what is said: bounded in time, words and files."""
    kernel = start(ISOLATED)
    run = kernel.run(
        "for place in range(20):\n"
        "    import os; os.mkdir(f'd{place}')\n"
        "    for index in range(1000): os.close(os.open(f'd{place}/{index}', os.O_CREAT | os.O_WRONLY))\n",
        timeout=120,
    )
    assert run.status == "ok", run.problem
    assert kernel.run("6 * 7", timeout=10).result == "42", "the kernel goes on while the collector is at it"
    processes.wait_until(lambda: len(files_below(out_of(kernel))) >= 10000, 30 * harness.PATIENCE, 0.5)
    said = run.notices
    # It comes when the collector has seen the last of them.
    processes.wait_until(lambda: said.extend(harness.notices(harness.drain(kernel.client, 1))) or said, 30 * harness.PATIENCE)
    kernel.shutdown()
    site.run("stage", "recover", cwd=kernel.cwd)
    assert len(files_below(out_of(kernel))) == 10000
    assert 1 <= len(said) < 100
    assert "10000" in "".join(said) + kernel.log
    assert kernel.log_path.stat().st_size < 1 << 20


@pytest.mark.slow
def test_hundreds_of_thousands_of_files(site, start):
    """The limit ends the collection, the notebook and another kernel go on meanwhile, and nothing is left at the end."""
    before = site.private_directories()
    kernel, other = start(ISOLATED), start(ISOLATED)
    code = (
        "import os, sys\n"
        "def fill(places):\n"
        "    for place in places:\n"
        "        os.mkdir(f'd{place}'); os.chdir(f'd{place}')\n"
        "        for index in range(20000): os.close(os.open(str(index), os.O_CREAT | os.O_WRONLY))\n"
        "        os.chdir('..')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    fill(range(0, 20, 2)); os._exit(0)\n"
        "fill(range(1, 20, 2)); os.waitpid(pid, 0)\n"
    )
    begin = time.monotonic()
    request = kernel.client.execute(code)
    waits, made = [], []

    def beside():
        sent = time.monotonic()
        assert other.run("6 * 7", timeout=20).result == "42"
        waits.append(time.monotonic() - sent)

    ended = threading.Thread(target=lambda: made.append(harness.collect(kernel.client, request, 600)))
    ended.start()
    while ended.is_alive():
        beside()
        ended.join(0.2)
    assert made
    seconds = time.monotonic() - begin
    assert kernel.run("6 * 7", timeout=20).result == "42", "the kernel goes on while the collector is at it"
    out = out_of(kernel)
    assert processes.wait_until(lambda: len(files_below(out)) >= 10000, 60 * harness.PATIENCE, 0.5)
    settled = time.monotonic() - begin - seconds
    for _ in range(10):
        beside()
    said = harness.notices(harness.drain(kernel.client, 1)) + harness.notices(made[0])
    begin = time.monotonic()
    kernel.shutdown()
    ending = time.monotonic() - begin
    assert ending < 10 * harness.PATIENCE
    assert len(files_below(out)) == 10000
    assert "10000" in "".join(said) + kernel.log, "the limit is not said"
    assert len(said) < 100 and kernel.log_path.stat().st_size < 1 << 20
    other.shutdown()
    # What is too much to be removed in the time of an end is removed by whoever comes next.

    def recovered():
        site.run("stage", "recover", cwd=kernel.cwd, timeout=300)
        return site.private_directories() == before

    assert processes.wait_until(recovered, 60 * harness.PATIENCE, 1)
    assert len(files_below(out)) == 10000
    harness.figure(
        f"400,000 files in {seconds:.0f} s, the limit reached {settled:.1f} s later, ended in {ending:.1f} s; "
        f"a cell beside it took {statistics.median(waits) * 1e3:.0f} ms, {max(waits) * 1e3:.0f} ms at the most"
    )


def test_deep_directories(site, start):
    """Depth 1,000 is refused by name and removed at the end; what is near enough comes out."""
    before = site.private_directories()
    kernel = start(ISOLATED)
    run = kernel.run(
        "import os\n"
        "top = os.getcwd()\n"
        "for depth in range(1000):\n"
        "    os.mkdir('d'); os.chdir('d')\n"
        "    if depth == 50: open('near.txt', 'w').write('near')\n"
        "open('far.txt', 'w').write('far'); os.chdir(top); print('done')\n"
    )
    assert run.stdout == "done\n", run.problem
    said = everything_said(kernel, run)
    kernel.shutdown()
    found = files_below(out_of(kernel))
    assert [os.path.basename(name) for name in found] == [b"near.txt"]
    assert "directories deep" in said or "longer than" in said
    assert processes.wait_until(lambda: site.private_directories() == before, 5 * harness.PATIENCE)


NAMES = {
    b"line\nbreak": False,
    b"esc\x1b]0;title\x07": False,
    b"\xff\xfe": False,
    b"tab\there": False,
    "right\u202eleft".encode(): False,
    b"..x": False,
    b".. ": False,
    b" ..": True,
    b"...": False,
    b"-rf": True,
    b"a\\b": True,
    b"$(touch x)": True,
    b"%s%n": True,
    b"A.txt": True,
    b"a.txt": True,
    b"n" * 255: True,
    "e\u0301.txt".encode(): True,
    "\u00e9.txt".encode(): True,
    b"conftest.py": False,
    b"CONFTEST.PY": False,
    b"matplotlibrc": False,
    b"HEAD": False,
    b"Thumbs.db": True,
}


def test_names(site, start):
    """Every name comes out as it is or is refused, and nothing it holds reaches the terminal of whoever reads of it."""
    kernel = start(ISOLATED)
    run = kernel.run(f"for name in {list(NAMES)!r}: open(name, 'wb').write(name)")
    assert run.status == "ok", run.problem
    said = everything_said(kernel, run)
    kernel.shutdown()
    out = os.fsencode(out_of(kernel))
    assert sorted(os.listdir(out)) == sorted(name for name, comes in NAMES.items() if comes)
    for name, comes in NAMES.items():
        if comes:
            with open(os.path.join(out, name), "rb") as file:
                assert file.read() == name
    assert not any(mark in said for mark in "\x1b\x07\u202e")
    for word in ("line\\nbreak", "conftest.py", "CONFTEST.PY", "matplotlibrc", "HEAD"):
        assert word in kernel.log, f"{word} was dropped in silence"


def test_changes_while_it_is_copied(site, start):
    """Files that are rewritten, cut and extended without pause: what is in staging/out is always one of their states."""
    kernel = start(ISOLATED)
    run = kernel.run(
        PRELUDE + "size, stop = 6 << 20, time.monotonic() + 8\n"
        "def rewrite():\n"
        "    turn = 0\n"
        "    while time.monotonic() < stop:\n"
        "        turn += 1\n"
        "        with open('rewritten', 'wb') as file: file.write(bytes([turn % 255 + 1]) * size)\n"
        "        time.sleep(0.01 * (turn % 4))\n"
        "def resize():\n"
        "    while time.monotonic() < stop:\n"
        "        with open('resized', 'wb') as file: file.write(b'x' * size)\n"
        "        time.sleep(0.02)\n"
        "        with open('resized', 'r+b') as file: file.truncate(size // 2)\n"
        "        time.sleep(0.02)\n"
        "def replace():\n"
        "    turn = 0\n"
        "    while time.monotonic() < stop:\n"
        "        turn += 1\n"
        "        with open('.next', 'wb') as file: file.write(bytes([turn % 255 + 1]) * (size // 3))\n"
        "        os.replace('.next', 'replaced')\n"
        "threads = [threading.Thread(target=one) for one in (rewrite, resize, replace)]\n"
        "for thread in threads: thread.start()\n"
    )
    assert run.status == "ok", run.problem
    out = out_of(kernel)
    size, looks = 6 << 20, 0
    sizes = {"rewritten": {size}, "resized": {size, size // 2}, "replaced": {size // 3}}
    end = time.monotonic() + 8
    while time.monotonic() < end or (looks <= 10 and time.monotonic() < end + 60):
        assert kernel.run("1", timeout=20).status == "ok"
        for name, right in sizes.items():
            if (out / name).exists():
                data = (out / name).read_bytes()
                assert len(data) in right, f"{name}: {len(data)} bytes were never all of it"
                assert data.count(data[:1]) == len(data), f"{name}: half of one and half of another"
                looks += 1
    kernel.run("for thread in threads: thread.join()")
    kernel.shutdown()
    harness.figure(f"{looks} states of three files that change all the time, each whole")
    assert looks > 10
    assert {path.name for path in out.iterdir()} == set(sizes)


def test_directories_exchanged_for_links(site, start):
    """renameat2 RENAME_EXCHANGE of directories and files with links to the host's, 10 s long."""
    kernel = start(ISOLATED)
    secrets = site.home / ".ssh"
    plants = site.root / "planted"
    plants.mkdir(exist_ok=True)
    run = kernel.run(
        PRELUDE + "stop = time.monotonic() + 10\n"
        "os.makedirs('d/e'); open('d/x', 'w').write('mine'); open('d/e/x', 'w').write('mine'); open('f', 'w').write('mine')\n"
        f"os.symlink({str(secrets)!r}, 'l'); os.symlink({str(secrets / 'x')!r}, 'g'); os.symlink({str(plants)!r}, 'p')\n"
        "os.mkdir('q'); open('q/planted.txt', 'w').write('mine')\n"
        "turns = 0\n"
        "def loop():\n"
        "    global turns\n"
        "    while time.monotonic() < stop:\n"
        "        for pair in (('d', 'l'), ('f', 'g'), ('d/e', 'l'), ('q', 'p')):\n"
        "            try: exchange(*pair); turns += 1\n"
        "            except OSError: pass\n"
        "def touch():\n"
        "    while time.monotonic() < stop:\n"
        "        for path in ('d/x', 'd/e/x', 'f', 'q/planted.txt'):\n"
        "            try: open(path, 'w').write('mine')\n"
        "            except OSError: pass\n"
        "        time.sleep(0.001)\n"
        "threads = [threading.Thread(target=one) for one in (loop, touch)]\n"
        "for thread in threads: thread.start()\n"
    )
    assert run.status == "ok", run.problem
    end, cells = time.monotonic() + 10, 0
    while time.monotonic() < end:
        assert kernel.run("1", timeout=20).status == "ok", "the collector hangs"
        cells += 1
    turns = int(kernel.run("for thread in threads: thread.join()\nturns").result)
    harness.figure(f"{turns} exchanges of directories and links during {cells} cells")
    assert turns > 1000
    kernel.shutdown()
    site.run("stage", "recover", cwd=kernel.cwd)
    out = out_of(kernel)
    found = contents(out)
    assert site.secret.encode() not in found and set(found.replace(b"mine", b"")) == set()
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert list(plants.iterdir()) == [] and sorted(path.name for path in secrets.iterdir()) == ["x"]


def test_links_of_the_host_in_the_way(site, start):
    """Output names that become links, fifos and directories on the host while the kernel runs: never written through,
    never waited for, refused by name."""
    victim = site.put(site.root, "victim-2.txt", "untouched")
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    kernel = start(ISOLATED)
    kernel.run("import os; os.mkdir('dir')\nfor name in ('a', 'b', 'c', 'e', 'dir/x'): open(name, 'w').write('first')")
    out = out_of(kernel)
    assert processes.wait_until(lambda: (out / "dir" / "x").exists(), 5 * harness.PATIENCE)
    for name in ("a", "b", "c", "e", "dir/x"):
        (out / name).unlink()
    (out / "dir").rmdir()
    (out / "a").symlink_to(victim)
    os.mkfifo(out / "b")
    (out / "c").mkdir()
    (out / "e").symlink_to(site.root / "not-there-yet")
    (out / "dir").symlink_to(elsewhere)
    begin = time.monotonic()
    run = kernel.run("for name in ('a', 'b', 'c', 'e', 'dir/x', 'fine'): open(name, 'w').write('second')")
    assert time.monotonic() - begin < 5 * harness.PATIENCE
    said = everything_said(kernel, run)
    kernel.shutdown()
    assert (out / "fine").read_text() == "second"
    assert victim.read_text() == "untouched"
    assert list(elsewhere.iterdir()) == [] and not (site.root / "not-there-yet").exists()
    assert stat.S_ISFIFO((out / "b").lstat().st_mode) and list((out / "c").iterdir()) == []
    for name in ("a", "b", "c", "e", "dir/x"):
        assert f"staging/out: {name}: " in said, f"{name} is not named"


def test_never_overwrites_what_the_host_changed(site, start):
    """Somebody edits a result while the kernel runs, and the kernel writes it again: both are there, and it is said."""
    kernel = start(ISOLATED)
    kernel.run("open('report.csv', 'w').write('first')")
    out = out_of(kernel)
    assert processes.wait_until(lambda: (out / "report.csv").exists(), 5 * harness.PATIENCE)
    time.sleep(0.05)
    (out / "report.csv").write_text("edited by hand")
    run = kernel.run("open('report.csv', 'w').write('second')")
    said = everything_said(kernel, run)
    kernel.shutdown()
    assert (out / "report.csv").read_text() == "edited by hand"
    assert (out / "report (cellwall 1).csv").read_text() == "second"
    assert 'report.csv: that file was changed on the host, so it is there as "report (cellwall 1).csv"' in said


def test_what_was_there_before(site, start):
    """The enemy has yesterday's results before it, and may change them in its own eyes: what is deleted, renamed or made
    something else inside is still there on the host; what is only touched is no new result."""
    project = site.project()
    names = ("deleted", "touched", "changed", "became_dir", "renamed", "shut", "dir/a", "dir/b", "gone/x", "became_link")
    for name in names:
        site.put(project / "staging" / "out", name, f"yesterday {name}")
    out = project / "staging" / "out"
    inodes = {name: (out / name).stat().st_ino for name in names}
    kernel = start(ISOLATED, cwd=project)
    run = kernel.run(
        PRELUDE + "import shutil\n"
        "os.chdir('staging/out')\n"
        "assert open('deleted').read() == 'yesterday deleted'\n"
        "os.unlink('deleted')\n"
        "open('touched', 'a').close()\n"
        "with open('changed', 'a') as file: file.write(' and today')\n"
        "os.unlink('became_dir'); os.mkdir('became_dir'); open('became_dir/in', 'w').write('1')\n"
        "os.rename('renamed', 'new_name'); os.chmod('shut', 0)\n"
        "shutil.rmtree('dir'); os.mkdir('dir'); open('dir/a', 'w').write('today'); shutil.rmtree('gone')\n"
        "os.unlink('became_link'); os.symlink('/etc/passwd', 'became_link'); print(sorted(os.listdir('.')))\n"
        "os.chdir('/work')\n"
    )
    assert run.status == "ok", run.problem
    said = everything_said(kernel, run)
    kernel.shutdown()
    changed = {"changed": "yesterday changed and today", "dir/a": "today"}
    for name in names:
        assert (out / name).read_text() == changed.get(name, f"yesterday {name}"), name
        if name not in changed:
            assert (out / name).stat().st_ino == inodes[name], f"{name} was written anew"
    assert (out / "new_name").read_text() == "yesterday renamed"
    assert sorted(os.fsdecode(name) for name in files_below(out)) == sorted([*names, "new_name"])
    assert "became_link" in said and "became_dir" in said
    assert "dir/b" not in said and "touched" not in said


def test_unreadable_and_open_files(site, start):
    """Modes taken away hide nothing in silence; a file that stays open is named and comes out at the end."""
    kernel = start(ISOLATED)
    run = kernel.run(
        "import os\n"
        "open('closed.txt', 'w').write('1'); os.chmod('closed.txt', 0)\n"
        "os.mkdir('shut'); open('shut/in.txt', 'w').write('2'); os.chmod('shut', 0)\n"
        "log = open('log.txt', 'w'); log.write('3'); log.flush(); os.chmod('.', 0)\n"
    )
    assert run.status == "ok", run.problem
    out = out_of(kernel)
    assert processes.wait_until(lambda: "log.txt" in kernel.log, 10 * harness.PATIENCE)
    assert not (out / "log.txt").exists()
    said = everything_said(kernel, run)
    assert harness.becomes(out / "log.txt", "3") == "3"
    for name in ("closed.txt", "shut"):
        assert (out / name).exists() or name in said, f"{name} was dropped in silence"


def test_flagged_types_are_said(site, start):
    """Results that run code when somebody opens them come out, and the notebook says which they are."""
    kernel = start(ISOLATED)
    run = kernel.run(
        "for name in ('page.html', 'model.pkl', 'plain.csv'): open(name, 'w').write('<script>')\n"
    )
    said = everything_said(kernel, run)
    kernel.shutdown()
    assert {path.name for path in out_of(kernel).iterdir()} == {"page.html", "model.pkl", "plain.csv"}
    assert "page.html" in said and "model.pkl" in said and "plain.csv" not in said


@pytest.mark.parametrize("end", ["shutdown", "recover"])
def test_names_that_the_policy_lets_out(site, start, end):
    """stage.out_names: kept inside without it; with it brought out, also by a recovery of a kernel that was killed."""
    policy = site.policy({"stage": {"out_names": ["conftest.py", ".keep"]}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    code = "for name in ('conftest.py', '.keep', '.other', 'test_x.py'): open(name, 'w').write('1')\n"
    if end == "recover":
        kernel.client.execute(code + "open('let-out', 'w').close(); import time; time.sleep(60)")
        assert processes.wait_until(lambda: list(site.kernels.glob("*/work/let-out")), 20 * harness.PATIENCE)
        kill_everything(kernel.pid)
        site.run("stage", "recover", cwd=kernel.cwd, check=True)
    else:
        assert kernel.run(code).status == "ok"
        kernel.shutdown()
    assert {path.name for path in out_of(kernel).iterdir()} - {"let-out"} == {"conftest.py", ".keep"}


def kill_everything(pid):
    everybody = processes.tree(pid)
    for process in everybody:
        process.kill(19)
    for process in everybody:
        process.kill(9)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 5 * harness.PATIENCE)
