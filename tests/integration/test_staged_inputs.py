"""Inputs as people have them: private files, links to big data, folders of others, file systems of every kind."""

import errno
import os
import socket
import stat

import harness
import processes
import pytest
from harness import ISOLATED
from test_overlay import ROOT, becomes, done, inside_mounts, listing, overlay_script

READ = (
    "import os\n"
    "def read(name):\n"
    "    try: return open(name).read()\n"
    "    except OSError as problem: return type(problem).__name__\n"
)


@pytest.mark.core
def test_private_input(site, start, nothing_left):
    """A 0600 file in a 0700 directory of the user's is read as by the user."""
    project = site.project(staging__in__secret_csv="s\n1\n", staging__in__deep__x_csv="x\n")
    if ROOT:  # whose files they are is not who starts the kernel
        for path in (project, *project.rglob("*")):
            os.chown(path, 12345, 12345)
    for path, mode in (("staging/in", 0o700), ("staging/in/deep", 0o700), ("staging/in/secret_csv", 0o600)):
        (project / path).chmod(mode)
    (project / "staging/in/deep/x_csv").chmod(0o400)
    before = listing(project)
    kernel = start(ISOLATED, cwd=project)
    assert done(kernel, READ + "print([read('staging/in/secret_csv'), read('staging/in/deep/x_csv')])") == "['s\\n1\\n', 'x\\n']\n"
    kernel.shutdown()
    assert listing(project) == before


@pytest.mark.core
@pytest.mark.skipif(not ROOT, reason="only root can give files away")
def test_staging_directory_of_somebody_else(site, start, nothing_left):
    """As root: results belong to whom the staging directory belongs; nobody else's private files become readable."""
    project = site.project(staging__in__a_csv="a", staging__in__roots_csv=site.secret, staging__out__old_txt="old")
    (project / "staging/in/roots_csv").chmod(0o600)
    for path in (project, project / "staging", *project.rglob("*")):
        if path.name != "roots_csv":
            os.chown(path, 12345, 23456)
    kernel = start(ISOLATED, cwd=project)
    code = READ + (
        "os.makedirs('sub'); open('sub/new_txt', 'w').write('1'); open('staging/out/old_txt', 'a').write('er')\n"
        "print([read('staging/in/a_csv'), read('staging/in/roots_csv')])\n"
    )
    assert done(kernel, code) == "['a', 'PermissionError']\n"
    out = project / "staging" / "out"
    assert becomes(out / "old_txt", "older")[0] and becomes(out / "sub" / "new_txt", "1")[0]
    kernel.shutdown()
    for path in (out / "old_txt", out / "sub", out / "sub" / "new_txt"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456), path


# How each way to change a staged thing fails: to an ordinary user, and to root. As root the group is nobody's inside, so
# that not even a socket or a fifo that comes later can be written to: that is looked at before the mount is.
CHANGES = {
    "open(file, 'r+')": ("EROFS", "EACCES"),
    "open(file, 'a')": ("EROFS", "EACCES"),
    "open(file, 'w')": ("EROFS", "EROFS"),
    "os.truncate(file, 0)": ("EROFS", "EACCES"),
    "open(place + '/new', 'w')": ("EROFS", "EROFS"),
    "os.remove(file)": ("EROFS", "EROFS"),
    "os.rename(file, place + '/c')": ("EROFS", "EROFS"),
    "os.mkdir(place + '/d')": ("EROFS", "EROFS"),
    "os.rmdir(place + '/sub')": ("EROFS", "EROFS"),
    "os.symlink('x', place + '/l')": ("EROFS", "EROFS"),
    "os.chmod(file, 0o777)": ("EROFS", "EROFS"),
    "os.utime(file)": ("EROFS", "EROFS"),
    "os.setxattr(file, 'user.x', b'y')": ("EROFS", "EROFS"),
    "os.link(file, '/work/hard')": ("EXDEV", "EXDEV"),
    "open(place + '/sub/b_csv', 'r+')": ("EROFS", "EACCES"),
}


@pytest.mark.core
def test_staged_things_cannot_be_changed(site, start):
    """Every way to change one fails, and in the way that staging.md says."""
    project = site.project(staging__in__a_csv="a", staging__in__sub__b_csv="b")
    before = listing(project / "staging" / "in")
    kernel = start(ISOLATED, cwd=project)
    code = (
        "import os, errno\n"
        "place, outcomes = '/work/staging/in', {}\n"
        "file = place + '/a_csv'\n"
        f"for call in {list(CHANGES)!r}:\n"
        "    try: outcomes[call] = repr(eval(call))\n"
        "    except OSError as problem: outcomes[call] = errno.errorcode[problem.errno]\n"
        "print(outcomes)\n"
    )
    outcomes = eval(done(kernel, code))
    kernel.shutdown()
    assert outcomes == {call: expected[ROOT] for call, expected in CHANGES.items()}
    assert listing(project / "staging" / "in") == before


@pytest.mark.core
def test_data_set_behind_a_link(site, start):
    """40 GB elsewhere, a link beside the notebook: bound under the link's name, links resolved once, nothing copied."""
    elsewhere = site.project(part__one_csv="1\n")
    with open(elsewhere / "huge.bin", "wb") as file:
        file.truncate(40 << 30)
    (elsewhere / "inner").symlink_to("part/one_csv")
    (elsewhere / "outward").symlink_to(site.home / ".ssh" / "x")
    project = site.project()
    (project / "hop").symlink_to(elsewhere)
    (project / "data").symlink_to("hop")
    policy = site.policy({"stage": {"in": ["data"]}})
    kernel = start(ISOLATED, cwd=project, spec=site.variant("--policy", policy))
    code = READ + "print(os.path.getsize('data/huge.bin') >> 30, os.path.islink('data'), [read('data/' + n) for n in ('part/one_csv', 'inner', 'outward')])"
    assert done(kernel, code) == "40 False ['1\\n', '1\\n', 'FileNotFoundError']\n"
    # exchanged on the host while the kernel runs: what was bound stays
    (project / "data").unlink()
    (project / "data").symlink_to(site.home)
    assert done(kernel, READ + "print(sorted(os.listdir('data')))") == "['huge.bin', 'inner', 'outward', 'part']\n"
    assert sum(path.stat().st_blocks for path in site.kernels.rglob("*")) < 1000
    kernel.shutdown()


def special(path, kind):
    """Makes a socket, fifo or device; what must stay open is returned."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this user can make no device")
    else:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            holder = socket.socket(socket.AF_UNIX)
            holder.bind(path.name)
        finally:
            os.chdir(here)
        holder.listen()
        return holder
    return None


@pytest.mark.parametrize("kind", ["socket", "fifo", "device"])
def test_special_files_are_refused_with_their_path(site, launch, kind, nothing_left):
    project = site.project(staging__in__a__b__c_txt="1")
    path = project / "staging" / "in" / "a" / "b" / "special\nfile"
    holder = special(path, kind)
    launched = launch(*harness.SLEEP, cwd=project)
    assert launched.wait() not in (0, None)
    assert f"{project}/staging/in/a/b/special\\nfile is a {kind}" in launched.log, launched.log
    if holder:
        holder.close()


@pytest.mark.core
@pytest.mark.parametrize("place", ["staging/in", "staging/out"])
def test_special_files_that_come_later_lead_nowhere(site, start, place):
    """Made by the host in a staged directory while the kernel runs: it cannot reach the process at the other end.

    For an ordinary user this holds in staging/out alone; SECURITY.md says what remains."""
    if place == "staging/in" and not ROOT:
        pytest.skip("documented: only an idmapped mount or an overlay takes the right to write to it away")
    project = site.project(staging__in__a_txt="1", staging__out__b_txt="2")
    kernel = start(ISOLATED, cwd=project)
    holder = special(project / place / "later", "socket")
    os.mkfifo(project / place / "pipe", 0o666)
    reader = os.open(project / place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    code = (
        "import os, socket, errno\n"
        f"place = '/work/{place}/'\n"
        "def outcome(call):\n"
        "    try: call()\n"
        "    except OSError as problem: return errno.errorcode[problem.errno]\n"
        "    return 'done'\n"
        "print(sorted(os.listdir(place)), outcome(lambda: socket.socket(socket.AF_UNIX).connect(place + 'later')))\n"
        "print(outcome(lambda: os.write(os.open(place + 'pipe', os.O_WRONLY | os.O_NONBLOCK), b'x')))\n"
    )
    said = done(kernel, code)
    holder.settimeout(0.5)
    with pytest.raises(TimeoutError):
        holder.accept()
    assert os.read(reader, 10) == b"" and "later" in said, said
    assert "done" not in said.splitlines()[0], said
    kernel.shutdown()
    os.close(reader)
    holder.close()


@pytest.mark.parametrize("system", ["tmpfs", "overlay"])
def test_inputs_on_other_file_systems(site, start, system):
    """A private input where a mount may be impossible to idmap: then it comes as a copy, and that is said."""
    project = site.project(staging__in__secret_csv="s", staging__in__deep__x_csv="x", big__y_csv="y")
    there = site.root / f"{system}-{project.name}"
    there.mkdir()
    script = f"mount -t tmpfs tmpfs {there}" if system == "tmpfs" else overlay_script(there)[0]
    script += (
        f"\ncp -a {project}/. {there}/\ncd {there}\nchmod 600 staging/in/secret_csv\nchmod 700 staging/in staging/in/deep\n"
        "ln -s deep/x_csv staging/in/link\n"
    )
    if ROOT:
        script += "chown -R 12345:12345 staging\n"
    kernel = start(ISOLATED, cwd=there, spec=inside_mounts(site, script))
    code = READ + (
        "print([read('staging/in/' + n) for n in ('secret_csv', 'deep/x_csv', 'link')], os.path.islink('staging/in/link'))\n"
        "try: open('staging/in/secret_csv', 'w')\n"
        "except OSError as problem: print(problem.errno)\n"
    )
    assert done(kernel, code) == f"['s', 'x', 'x'] True\n{errno.EROFS}\n"
    if ROOT and system == "overlay":
        assert "a copy of now" in kernel.log or kernel.notice("a copy of now"), kernel.log
    kernel.shutdown()
    assert site.private_directories() == []


@pytest.mark.skipif(not ROOT, reason="an ordinary user's mounts need no idmapping")
@pytest.mark.parametrize("required", [False, True])
def test_a_copy_of_an_input_is_bounded(site, start, launch, required):
    """Too large for a copy and not readable: left out with a notice, or the launch fails when it is required."""
    project = site.project(data__a_csv="a")
    there = site.root / f"bounded-{project.name}"
    there.mkdir()
    script = overlay_script(there)[0] + (
        f"\ncp -a {project}/. {there}/\ncd {there}\ntruncate -s 300M data/zlarge\nchmod 700 data\n"
    )
    policy = site.policy({"stage": {"in": [{"path": "data", "required": required}]}})
    spec = inside_mounts(site, script, policy=policy)
    if required:
        argv = site.spec(spec)["argv"]
        connection = site.root / "runtime" / f"bounded-{project.name}.json"
        harness.write_connection_file(connection, "ipc")
        result = harness.subprocess.run(
            [part.replace("{connection_file}", str(connection)) for part in argv],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=site.environment,
        )
        assert result.returncode != 0 and "zlarge" in result.stderr, result.stderr
        return
    kernel = start(ISOLATED, cwd=there, spec=spec)
    assert done(kernel, READ + "print(read('data/a_csv'))") in ("FileNotFoundError\n", "PermissionError\n")
    assert "zlarge" in kernel.log or kernel.notice("zlarge"), kernel.log
    kernel.shutdown()


@pytest.mark.skipif(not ROOT, reason="an ordinary user's mounts need no idmapping")
def test_one_private_file_in_a_large_public_tree(site, start):
    """It alone cannot be read inside, everything else can, and its name is said."""
    project = site.project(data__a_csv="a", data__private_csv="p")
    there = site.root / f"public-{project.name}"
    there.mkdir()
    script = overlay_script(there)[0] + (
        f"\ncp -a {project}/. {there}/\ncd {there}\ntruncate -s 300M data/zlarge\nchmod 755 data\nchmod 644 data/*\n"
        "chmod 600 data/private_csv\n"
    )
    policy = site.policy({"stage": {"in": ["data"]}})
    kernel = start(ISOLATED, cwd=there, spec=inside_mounts(site, script, policy=policy))
    assert done(kernel, READ + "print(read('data/a_csv'), read('data/private_csv'), os.path.getsize('data/zlarge') >> 20)") == (
        "a PermissionError 300\n"
    )
    assert "private_csv" in kernel.log or kernel.notice("private_csv"), kernel.log
    kernel.shutdown()


@pytest.mark.skipif(not ROOT, reason="an ordinary user has none of them anyway")
def test_root_without_the_right_to_mount(site, start):
    """Root in a container without CAP_SYS_ADMIN: no idmapped mount, so what is private comes as a copy."""
    project = site.project(staging__in__secret_csv="s", staging__in__open_csv="o", staging__out__log_txt="monday\n")
    (project / "staging/in/secret_csv").chmod(0o600)
    (project / "staging/out/log_txt").chmod(0o600)
    spec = site.variant()
    path = site.specs / spec / "kernel.json"
    content = harness.json.loads(path.read_text())
    content["argv"] = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-all", *content["argv"]]
    path.write_text(harness.json.dumps(content))
    kernel = start(ISOLATED, cwd=project, spec=spec)
    code = READ + (
        "print([read('staging/in/' + n) for n in ('secret_csv', 'open_csv')], read('staging/out/log_txt'))\n"
        "open('staging/out/log_txt', 'a').write('tuesday\\n')\n"
    )
    assert done(kernel, code) == "['s', 'o'] monday\n\n"
    assert becomes(project / "staging" / "out" / "log_txt", "monday\ntuesday\n")[0]
    kernel.shutdown()
    assert site.private_directories() == []


def test_history_of_the_folder(site, start):
    """history: off | folder. The inputs of an earlier kernel in the folder are there, its user's own ~/.ipython is not."""
    site.put(site.home, ".ipython/profile_default/startup/00-x.py", "FROM_THE_HOME = 1\n")
    policy = site.policy({"stage": {"history": "folder"}})
    project = site.project()
    look = (
        "print(get_ipython().history_manager.hist_file, 'FROM_THE_HOME' in globals(),\n"
        "      any('unforgettable' + '_line' in line for _, _, line in get_ipython().history_manager.get_tail(50, include_latest=False)))"
    )
    spec = site.variant("--policy", policy)
    first = start(ISOLATED, cwd=project, spec=spec)
    done(first, "unforgettable_line = 1")
    assert done(first, look).startswith("/work/.cellwall-history.sqlite False")
    first.shutdown()
    second = start(ISOLATED, cwd=project, spec=spec)
    assert done(second, look) == "/work/.cellwall-history.sqlite False True\n"
    second.shutdown()
    assert sorted(path.name for path in project.rglob("*")) == []
    plain = start(ISOLATED, cwd=project)
    assert done(plain, look).startswith("/home/user/.ipython/") and done(plain, look).endswith("False\n")
    plain.shutdown()


def test_caches_can_be_written_to_inside_alone(site, start):
    """A cache of the user's: its files are read, lock files beside them are the kernel's own."""
    hub = site.home / ".cache" / "huggingface" / "hub"
    site.put(hub, "models--x/refs/main", "abc")
    before = listing(hub.parent)
    policy = site.policy({"stage": {"caches": ["huggingface"]}})
    kernel = start(ISOLATED, spec=site.variant("--policy", policy))
    code = (
        "import os\n"
        "hub = os.path.expanduser('~/.cache/huggingface/hub/')\n"
        "os.makedirs(hub + '.locks/models--x'); open(hub + '.locks/models--x/abc.lock', 'w').write('l')\n"
        "open(hub + 'models--x/refs/main', 'a').write('d')\n"
        "print(open(hub + 'models--x/refs/main').read(), os.environ['HF_HUB_OFFLINE'])\n"
    )
    assert done(kernel, code) == "abcd 1\n"
    kernel.shutdown()
    assert listing(hub.parent) == before
    assert processes.wait_until(lambda: site.private_directories() == [], 5 * harness.PATIENCE)
