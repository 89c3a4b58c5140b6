"""What staging/out held at the start is there inside and may be changed; the host's files stay as they are."""

import json
import os
import pathlib
import pickle
import shutil
import signal
import stat
import subprocess
import time

import harness
import processes
import pytest
from harness import DIRECT, ISOLATED

ROOT = os.geteuid() == 0


def out_of(kernel):
    return kernel.cwd / "staging" / "out"


def listing(directory):
    """Everything about every file below a directory that somebody could change."""
    found = {}
    for path in sorted([directory, *pathlib.Path(directory).rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path)] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)
    return found


def becomes(path, text, seconds=5):
    return processes.wait_until(
        lambda: path.exists() and path.read_text() == text, seconds * harness.PATIENCE
    ), path.read_text()


def done(kernel, code, timeout=30):
    run = kernel.run(code, timeout)
    assert run.status == "ok", run.problem
    return run.stdout


def inside_mounts(site, script, base=ISOLATED, policy=None):
    """A kernelspec whose kernels, with the whole of cellwall, live in a mount namespace that `script` has changed."""
    options = () if policy is None else ("--policy", policy)
    name = site.variant(*options, base=base)
    path = site.specs / name / "kernel.json"
    spec = json.loads(path.read_text())
    enter = ["unshare", "--mount"] if ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
    spec["argv"] = [*enter, "--propagation", "private", "/bin/sh", "-c", f'set -e\n{script}\nexec "$@"', "sh", *spec["argv"]]
    path.write_text(json.dumps(spec))
    return name


def overlay_script(directory):
    """Mounts an overlay on `directory`: a file system that can be no upper layer of another one."""
    layers = {name: directory.parent / f"{directory.name}-{name}" for name in ("lower", "upper", "work")}
    for path in (directory, *layers.values()):
        path.mkdir(mode=0o700, exist_ok=True)
    options = ",".join(f"{name}{'' if name == 'workdir' else 'dir'}={path}" for name, path in layers.items())
    options = options.replace("work=", "workdir=").replace("workdirdir", "workdir")
    if not ROOT:
        options += ",userxattr"
    return f"mount -t overlay overlay -o {options} {directory}", layers["upper"]


@pytest.fixture
def earlier(site):
    """A project with results of yesterday."""
    project = site.project(staging__out__log_txt="monday\n", staging__out__tables__a_csv="a\n1\n", utils_py="x = 1\n")
    site.put(project, "staging/out/model.pkl", pickle.dumps({"epoch": 1}))
    site.put(project, "staging/out/other/deep/b_csv", "b\n")
    return project


@pytest.mark.core
@pytest.mark.parametrize("kind", [DIRECT, ISOLATED])
def test_run_again(site, start, earlier, kind):
    """A notebook that reads yesterday's model, overwrites it and appends to its log, run twice."""
    elsewhere = site.put(earlier, "notes.txt", "mine")
    kernel = start(kind, cwd=earlier)
    code = (
        "import pickle, os\n"
        "os.chdir('staging/out')\n"
        "model = pickle.load(open('model.pkl', 'rb')); model['epoch'] += 1\n"
        "pickle.dump(model, open('model.pkl', 'wb'))\n"
        "with open('log_txt', 'a') as log: print(model['epoch'], file=log)\n"
        "open('tables/new_csv', 'w').write('n')\n"
        "os.chdir('../..')\n"
        "print(model['epoch'])\n"
    )
    untouched = (earlier / "staging/out/tables/a_csv", earlier / "staging/out/other/deep/b_csv", elsewhere)
    before = [listing(path) for path in untouched]
    assert done(kernel, code) == "2\n"
    out = out_of(kernel)
    assert becomes(out / "log_txt", "monday\n2\n")[0]
    assert done(kernel, code) == "3\n"
    assert becomes(out / "log_txt", "monday\n2\n3\n")[0]
    kernel.shutdown()
    assert pickle.loads((out / "model.pkl").read_bytes()) == {"epoch": 3}
    assert (out / "tables" / "new_csv").read_text() == "n"
    assert [listing(path) for path in untouched] == before
    again = start(kind, cwd=earlier)
    assert done(again, code) == "4\n"
    again.shutdown()
    assert pickle.loads((out / "model.pkl").read_bytes()) == {"epoch": 4}
    assert sorted(path.name for path in out.iterdir()) == ["log_txt", "model.pkl", "other", "tables"]


@pytest.mark.core
def test_what_is_only_looked_at_is_not_touched(site, start, earlier, nothing_left):
    before = listing(earlier)
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os\n"
        "print(sorted(os.path.relpath(os.path.join(d, f), 'staging/out') for d, _, fs in os.walk('staging/out') for f in fs))\n"
        "for d, _, fs in os.walk('staging/out'):\n"
        "    for f in fs: open(os.path.join(d, f), 'rb').read()\n"
        "print(os.stat('staging/out').st_uid == os.getuid(), os.stat('staging/out/tables').st_uid == os.getuid())\n"
    )
    assert done(kernel, code) == "['log_txt', 'model.pkl', 'other/deep/b_csv', 'tables/a_csv']\nTrue True\n"
    kernel.shutdown()
    assert listing(earlier) == before
    other = [line for line in kernel.log.splitlines() if ": kernel: " not in line]
    assert [line for line in other if "limits are held by" not in line] == []


@pytest.mark.core
def test_deleted_renamed_and_changed_modes(site, start, earlier, nothing_left):
    """Deleting inside deletes nothing outside; a new name is a new result; a mode is no result."""
    kernel = start(ISOLATED, cwd=earlier)
    out = out_of(kernel)
    before = listing(out)
    code = (
        "import os, shutil\n"
        "os.chdir('/work/staging/out')\n"
        "os.chmod('tables/a_csv', 0o777)\n"
        "os.rename('log_txt', 'renamed_txt')\n"
        "os.remove('model.pkl'); shutil.rmtree('other')\n"
        "os.mkdir('other')\n"  # opaque: nothing of the former one shows through
        "os.chdir('/work')\n"
        "print(sorted(os.listdir('staging/out')), os.listdir('staging/out/other'))\n"
    )
    assert done(kernel, code) == "['other', 'renamed_txt', 'tables'] []\n"
    assert becomes(out / "renamed_txt", "monday\n")[0]
    kernel.shutdown()
    after = listing(out)
    (out / "renamed_txt").unlink()
    same = {path: value for path, value in after.items() if path in before and path != str(out)}
    assert same == {path: value for path, value in before.items() if path != str(out)}
    assert set(after) - set(before) == {str(out / "renamed_txt")}


def test_a_directory_is_renamed(site, start, earlier):
    """overlayfs answers EXDEV for directories of the host's, and programs copy instead, as between file systems."""
    kernel = start(ISOLATED, cwd=earlier)
    code = "import shutil; shutil.move('staging/out/tables', 'staging/out/moved'); print(open('staging/out/moved/a_csv').read())"
    assert done(kernel, code) == "a\n1\n\n"
    kernel.shutdown()
    out = out_of(kernel)
    assert (out / "tables/a_csv").read_text() == (out / "moved/a_csv").read_text() == "a\n1\n"


def test_hidden_attributes_of_the_host_lead_nowhere(site, start, earlier):
    """A folder from the internet: files that carry overlayfs' own attributes, as if somebody had prepared a layer."""
    site.put(site.root, "overlay-secret.txt", site.secret)
    out = earlier / "staging" / "out"
    (out / "redirected").mkdir()
    (out / "redirected" / "here_txt").write_text("here")
    (out / "meta_txt").write_text("plain")
    (out / "hollow_txt").write_text("")
    target = b"/../../../overlay-secret.txt"
    try:
        os.setxattr(out / "redirected", "user.overlay.redirect", b"/../../..")
        os.setxattr(out / "meta_txt", "user.overlay.metacopy", b"")
        for name in ("meta_txt", "hollow_txt"):
            os.setxattr(out / name, "user.overlay.redirect", target)
        os.setxattr(out / "tables", "user.overlay.opaque", b"y")
        os.setxattr(out / "hollow_txt", "user.overlay.metacopy", b"")
    except OSError as problem:
        pytest.skip(f"no user attributes here: {problem}")
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os\n"
        "def read(name):\n"
        "    try: return open(os.path.join('staging/out', name)).read()\n"
        "    except OSError as problem: return type(problem).__name__\n"
        "print(os.listdir('staging/out/redirected'), repr(read('meta_txt')), repr(read('hollow_txt')), repr(read('tables/a_csv')))\n"
        "for name in ('redirected', 'meta_txt', 'hollow_txt'):\n"
        "    try: print([x for x in os.listxattr(f'staging/out/{name}') if 'overlay' in x])\n"
        "    except OSError as problem: print([])\n"
        "for name in ('meta_txt', 'redirected/here_txt'):\n"
        "    try: open('staging/out/' + name, 'a').write('+')\n"
        "    except OSError: pass\n"
        "print([repr(read(n)) for n in ('meta_txt', 'redirected/here_txt')])\n"
    )
    said = done(kernel, code)
    assert site.secret not in said
    first = said.splitlines()[0]
    assert first.startswith("['here_txt']") and "'a\\n1\\n'" in first, said
    assert said.splitlines()[1:4] == ["[]", "[]", "[]"]
    kernel.shutdown()
    for path in earlier.rglob("*"):
        assert not path.is_file() or site.secret not in path.read_text(errors="replace")


@pytest.mark.core
def test_attacks_from_inside(site, start, earlier, nothing_left):
    """Attributes, whiteouts, devices, mounts, links to what is below: each refused or without effect."""
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os, stat, errno, ctypes\n"
        "def outcome(call, *arguments, **options):\n"
        "    try: call(*arguments, **options)\n"
        "    except OSError as problem: return errno.errorcode[problem.errno]\n"
        "    return 'done'\n"
        "out = '/work/staging/out'\n"
        "os.makedirs('/work/planted'); open('/work/planted/x', 'w').close()\n"
        "results = {}\n"
        "for name, value in (('redirect', b'/../..'), ('opaque', b'y'), ('metacopy', b''), ('origin', b'x' * 29), ('whiteout', b'y')):\n"
        "    for place in (out + '/tables', out + '/log_txt', out):\n"
        "        for space in ('user', 'trusted'):\n"
        "            results[space, name, place] = outcome(os.setxattr, place, f'{space}.overlay.{name}', value)\n"
        "    outcome(os.setxattr, '/work/planted', f'user.overlay.{name}', value)\n"
        "print('trusted', sorted({v for k, v in results.items() if k[0] == 'trusted'}))\n"
        "print('listing', sorted(os.listdir(out)), open(out + '/tables/a_csv').read().split())\n"
        # a directory with planted attributes cannot get below the overlay
        "print('rename', outcome(os.rename, '/work/planted', out + '/planted'))\n"
        "print('link', outcome(os.link, out + '/log_txt', '/work/hard'), outcome(os.link, '/work/planted/x', out + '/hard'))\n"
        "print('whiteout', outcome(os.mknod, out + '/w', stat.S_IFCHR, os.makedev(0, 0)), outcome(os.mknod, '/work/w', stat.S_IFCHR, os.makedev(0, 0)))\n"
        "print('device', outcome(os.mknod, out + '/d', stat.S_IFBLK | 0o666, os.makedev(254, 0)))\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(function, *arguments):\n"
        "    return 'done' if function(*arguments) == 0 else errno.errorcode[ctypes.get_errno()]\n"
        "print('umount', call(libc.umount2, out.encode(), 2), call(libc.mount, b'x', out.encode(), b'tmpfs', 0, None))\n"
        "print('trees', [name for name in ('.layers', 'layers', 'overlay') if os.path.lexists('/' + name)])\n"
        "print('private', [line.split()[3] for line in open('/proc/self/mountinfo') if '/cellwall/kernels/' in line.split()[3]])\n"
        "print('mounts', [line for line in open('/proc/self/mountinfo') if ' - overlay ' in line])\n"
    )
    said = dict(line.split(" ", 1) for line in done(kernel, code).splitlines())
    # Stored under escaped names (Linux 6.7) or refused: none of those that overlayfs itself reads.
    assert "done" not in said["trusted"]
    (private,) = site.kernels.iterdir()
    upper = private / "work" / "staging" / "out"
    for path in (upper, upper / "tables", upper / "log_txt"):
        names = {name for name in (os.listxattr(path) if path.exists() else ()) if name.startswith("user.overlay.")}
        own = {name for name in names if not name.startswith("user.overlay.overlay.")}
        assert own <= {"user.overlay." + name for name in ("origin", "impure", "uuid")}, (path, names)
        for name in own:
            assert os.getxattr(path, name) not in (b"x" * 29, b"/../.."), (path, name)
    assert said["listing"] == "['log_txt', 'model.pkl', 'other', 'tables'] ['a', '1']"
    assert said["rename"] == "EXDEV"
    assert said["link"] == "EXDEV EXDEV"
    assert "done" not in said["whiteout"] + said["device"] + said["umount"], said
    assert said["trees"] == "[]"
    shown = eval(said["private"])
    assert len(shown) == 1 and shown[0].endswith("/work"), "the private directory itself is no mount inside"
    assert str(site.root) not in said["mounts"] and str(earlier) not in said["mounts"]
    kernel.shutdown()


def test_the_upper_layer_is_nowhere_else(site, start, earlier, nothing_left):
    """/work/staging is moved away and made anew: the mount goes with it, what it covers stays covered."""
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os\n"
        "open('/work/staging/out/only-once', 'w').write('1')\n"
        "os.rename('/work/staging', '/work/away')\n"
        "os.makedirs('/work/staging/out')\n"
        "open('/work/staging/out/fresh', 'w').write('2')\n"
        "print(sorted(os.listdir('/work/staging/out')), sorted(os.listdir('/work/away/out')))\n"
        "tops = {line.split()[4] for line in open('/proc/self/mountinfo')}\n"
        "tops = [top for top in tops if top.count('/') == 1 and top != '/proc'] + ['/home', '/etc']\n"
        "found = [os.path.join(d, 'only-once') for top in tops for d, ds, fs in os.walk(top) if 'only-once' in fs]\n"
        "print(found)\n"
        "try: os.rename('/work/away/out', '/work/free')\n"
        "except OSError as problem: print(problem.errno)\n"
        "try: os.rmdir('/work/away/out')\n"
        "except OSError as problem: print(problem.errno)\n"
    )
    assert done(kernel, code).splitlines() == [
        "['fresh'] ['log_txt', 'model.pkl', 'only-once', 'other', 'tables']",
        "['/work/away/out/only-once']",
        "16",
        "16",
    ]
    out = out_of(kernel)
    assert becomes(out / "fresh", "2")[0]
    kernel.shutdown()
    assert "1" in [path.read_text() for path in out.rglob("only-once")]
    assert (out / "log_txt").read_text() == "monday\n"


@pytest.mark.core
def test_setuid_stays_without_effect(site, start, earlier):
    tool = earlier / "staging" / "out" / "tool"
    shutil.copy("/usr/bin/id", tool)
    tool.chmod(0o4755)
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os, shutil, subprocess\n"
        "shutil.copy('/usr/bin/id', 'staging/out/id')\n"
        "try: os.chmod('staging/out/id', 0o6755)\n"
        "except PermissionError: pass\n"
        "for name in ('id', 'tool'):\n"
        "    print(subprocess.run(['staging/out/' + name, '-u'], capture_output=True, text=True).stdout.strip() == str(os.getuid()))\n"
        "open('staging/out/tool', 'ab').write(b'changed')\n"
    )
    assert done(kernel, code) == "True\nTrue\n"
    out = out_of(kernel)
    assert processes.wait_until((out / "id").exists, 5 * harness.PATIENCE)
    assert processes.wait_until(lambda: tool.read_bytes().endswith(b"changed"), 5 * harness.PATIENCE)
    assert stat.S_IMODE((out / "id").stat().st_mode | tool.stat().st_mode) & 0o7022 == 0
    line = done(kernel, "print([l for l in open('/proc/self/mountinfo') if ' /work/staging/out ' in l][0])")
    assert "nosuid" in line and "nodev" in line, line
    kernel.shutdown()


@pytest.mark.core
def test_sigkill_of_everything(site, start, earlier, nothing_left):
    """No mount outlives them, what was changed is recovered, the private directory can be removed."""
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "import os, time\n"
        "open('staging/out/log_txt', 'a').write('tuesday\\n'); os.remove('staging/out/model.pkl')\n"
        "open('staging/out/new_txt', 'w').write('n'); open('done', 'w').close(); time.sleep(60)\n"
    )
    kernel.client.execute(code)
    assert processes.wait_until(lambda: list(site.kernels.glob("*/work/done")), 20 * harness.PATIENCE)
    everybody = processes.tree(kernel.pid)
    for process in everybody:
        process.kill(signal.SIGSTOP)
    for process in everybody:
        process.kill(signal.SIGKILL)
    assert processes.wait_until(lambda: not any(process.alive() for process in everybody), 5 * harness.PATIENCE)
    out = out_of(kernel)
    assert (out / "log_txt").read_text() == "monday\n"
    site.run("stage", "recover", cwd=kernel.cwd, check=True)
    assert (out / "log_txt").read_text() == "monday\ntuesday\n" and (out / "new_txt").read_text() == "n"
    assert (out / "model.pkl").exists()
    assert site.private_directories() == []


def test_a_launch_that_fails_leaves_nothing(site, launch, earlier, nothing_left):
    before = listing(earlier)
    launched = launch("/nonexistent/kernel", cwd=earlier)
    assert launched.wait() not in (0, None)
    assert listing(earlier) == before


def test_two_kernels_see_their_own(site, start, earlier):
    one, two = start(ISOLATED, cwd=earlier), start(ISOLATED, cwd=earlier)
    done(one, "open('staging/out/log_txt', 'a').write('one\\n'); open('staging/out/one', 'w').write('1')")
    assert becomes(out_of(one) / "one", "1")[0]
    done(two, "open('staging/out/log_txt', 'a').write('two\\n')")
    one.shutdown()
    two.shutdown()
    texts = sorted(path.read_text() for path in out_of(one).glob("log_txt*"))
    # Whether the second saw what the first had brought or not, nothing of either is lost.
    assert texts[0] == "monday\none\n" and texts[-1] in ("monday\ntwo\n", "monday\none\ntwo\n"), texts


def foreign_ids():
    """Of somebody who is neither root nor the user: a group that the user is in, or as root any ids."""
    if ROOT:
        return 12345, 12346
    groups = [gid for gid in os.getgroups() if gid != os.getegid()]
    return (-1, groups[0]) if groups else None


def test_results_of_others_can_be_changed(site, start, earlier):
    """A folder that is shared by a group: files of other owners are readable and can be overwritten inside."""
    ids = foreign_ids()
    if ids is None:
        pytest.skip("this user has one group only, so nothing can belong to another one")
    out = earlier / "staging" / "out"
    for path in (out / "log_txt", out / "other" / "deep", out / "other" / "deep" / "b_csv"):
        os.chown(path, *ids)
    kernel = start(ISOLATED, cwd=earlier)
    done(
        kernel,
        "open('staging/out/log_txt', 'a').write('tuesday\\n')\n"
        "open('staging/out/other/deep/b_csv', 'w').write('c'); open('staging/out/other/deep/new', 'w').write('d')",
    )
    kernel.shutdown()
    assert (out / "other/deep/new").read_text() == "d"
    assert "monday\ntuesday\n" in [path.read_text() for path in out.glob("log_txt*")]
    assert "c" in [path.read_text() for path in (out / "other/deep").glob("b_csv*")]


@pytest.mark.skipif(not ROOT, reason="only root can make files of others")
def test_private_files_of_others_stay_private(site, start, earlier):
    """As root: a 0600 file in staging/out is shown when it is the folder owner's, and not when it is another's."""
    out = earlier / "staging" / "out"
    for path in (out.parent, *out.parent.rglob("*")):
        os.chown(path, 12345, 12345)
    (out / "log_txt").chmod(0o600)
    site.put(out, "roots_txt", site.secret).chmod(0o600)
    site.put(out, "links_txt", site.secret).chmod(0o640)
    os.chown(out / "links_txt", 12347, 12345)
    kernel = start(ISOLATED, cwd=earlier)
    code = (
        "def read(name):\n"
        "    try: return open('staging/out/' + name).read()\n"
        "    except OSError as problem: return type(problem).__name__\n"
        "print([read(name) for name in ('log_txt', 'roots_txt', 'links_txt')])\n"
        "open('staging/out/log_txt', 'a').write('tuesday\\n')\n"
    )
    assert done(kernel, code) == "['monday\\n', 'PermissionError', 'PermissionError']\n"
    kernel.shutdown()
    status = (out / "log_txt").stat()
    assert (out / "log_txt").read_text() == "monday\ntuesday\n"
    assert (status.st_uid, status.st_gid) == (12345, 12345)


def copy_of(site, earlier, policy=None):
    """A kernelspec and an environment in which overlayfs refuses the private directory as its upper layer."""
    state = site.root / f"overlaid-{earlier.name}"
    script, upper = overlay_script(state)
    return inside_mounts(site, script, policy=policy), {"XDG_STATE_HOME": str(state)}, upper


@pytest.mark.core
def test_without_overlayfs(site, start, earlier):
    """A host that gives none: a copy, and a notice with what is too large for it."""
    before = listing(earlier)
    with open(earlier / "staging" / "out" / "zlarge", "wb") as file:
        file.truncate(300 << 20)
    (earlier / "staging" / "out" / "alink").symlink_to("log_txt")
    spec, environment, upper = copy_of(site, earlier)
    kernel = start(ISOLATED, cwd=earlier, spec=spec, env=environment)
    assert "overlay" not in done(kernel, "print(open('/proc/self/mountinfo').read().count(' /work/staging/out ') and 'overlay')")
    said = done(kernel, "import os; print(sorted(os.listdir('staging/out')), open('staging/out/log_txt').read())")
    assert said == "['log_txt', 'model.pkl', 'other', 'tables'] monday\n\n"
    assert "zlarge" in kernel.log or kernel.notice("zlarge"), kernel.log
    out = out_of(kernel)
    (out / "zlarge").unlink()
    (out / "alink").unlink()
    after = listing(earlier)
    assert {path: value for path, value in after.items() if path != str(out)} == {
        path: value for path, value in before.items() if path != str(out)
    }, "what was copied in is no result"
    done(kernel, "open('staging/out/log_txt', 'a').write('tuesday\\n'); os.remove('staging/out/model.pkl')")
    assert becomes(out / "log_txt", "monday\ntuesday\n")[0]
    kernel.shutdown()
    assert (out / "model.pkl").exists()
    left = [path for path in (upper / "cellwall" / "kernels").iterdir() if stat.S_ISDIR(path.lstat().st_mode)]
    assert left == []


def test_a_copy_is_bounded(site, start, earlier):
    """More files than a copy takes: the launch neither fails nor takes long, and says it."""
    many = earlier / "staging" / "out" / "many"
    many.mkdir()
    for index in range(10_500):
        (many / f"{index}").touch()
    spec, environment, _ = copy_of(site, earlier)
    began = time.monotonic()
    kernel = start(ISOLATED, cwd=earlier, spec=spec, env=environment)
    harness.figure(f"launch with a copy of 10,000 files: {time.monotonic() - began:.1f} s")
    count = int(done(kernel, "import os; print(len(os.listdir('staging/out/many')))"))
    assert 9_000 < count <= 10_000
    assert "too many" in kernel.log or kernel.notice("too many"), kernel.log
    kernel.shutdown()
    assert len(list(many.iterdir())) == 10_500


@pytest.mark.parametrize("system", ["tmpfs", "overlay"])
def test_results_on_other_file_systems(site, start, earlier, system):
    """The project on a tmpfs or an overlay, the private directory elsewhere."""
    project = site.root / f"on-{system}-{earlier.name}"
    project.mkdir()
    script = f"mount -t tmpfs tmpfs {project}" if system == "tmpfs" else overlay_script(project)[0]
    script += f"\ncp -a {earlier}/. {project}/\ncd {project}"
    kernel = start(ISOLATED, cwd=project, spec=inside_mounts(site, script))
    code = (
        "import os\n"
        "open('staging/out/log_txt', 'a').write('tuesday\\n'); os.remove('staging/out/model.pkl')\n"
        "print(open('staging/out/log_txt').read().split(), sorted(os.listdir('staging/out')))\n"
    )
    assert done(kernel, code) == "['monday', 'tuesday'] ['log_txt', 'other', 'tables']\n"
    # The file system ends with its mount namespace: what was brought out is looked at through a process in it.
    root = pathlib.Path(f"/proc/{kernel.pid}/root")
    out = pathlib.Path(f"{root}{project}/staging/out")
    if ROOT:
        assert becomes(out / "log_txt", "monday\ntuesday\n")[0]
        assert (out / "model.pkl").exists()
    kernel.shutdown()


def test_private_directory_on_a_tmpfs(site, start, earlier):
    state = site.root / f"state-tmpfs-{earlier.name}"
    state.mkdir(mode=0o700)
    spec = inside_mounts(site, f"mount -t tmpfs -o mode=700 tmpfs {state}")
    kernel = start(ISOLATED, cwd=earlier, spec=spec, env={"XDG_STATE_HOME": str(state)})
    done(kernel, "open('staging/out/log_txt', 'a').write('tuesday\\n')")
    assert becomes(out_of(kernel) / "log_txt", "monday\ntuesday\n")[0]
    kernel.shutdown()


def test_ten_thousand_earlier_results_cost_little(site, start):
    """The start looks at each for its owner; it copies none."""
    project = site.project()
    out = project / "staging" / "out"
    out.mkdir(parents=True)
    seconds = {}
    for count in (0, 10_000):
        for index in range(count):
            (out / f"{index}").touch()
        kernel = start(ISOLATED, cwd=project, spec=site.variant(kernel=harness.SLEEP), wait=False)
        began = time.monotonic()
        assert processes.wait_until(lambda: kernel.roles().get("kernel"), 10 * harness.PATIENCE, 0.001)
        seconds[count] = time.monotonic() - began
        kernel.shutdown(now=True)
    harness.figure(f"start with 0 and 10,000 earlier results: {seconds[0] * 1000:.0f} and {seconds[10_000] * 1000:.0f} ms")
    assert seconds[10_000] < seconds[0] + 1 * harness.PATIENCE


def test_shutdown_does_not_wait_for_the_disk(site, start, earlier):
    """The end of an overlay syncs the whole file system of the host, unless it is told not to."""
    kernel = start(ISOLATED, cwd=earlier)
    done(kernel, "open('staging/out/log_txt', 'a').write('x')")
    line = done(kernel, "print([l for l in open('/proc/self/mountinfo') if ' - overlay ' in l][0])")
    assert "volatile" in line, line
    assert subprocess.run(["stat", "-f", "-c", "%T", str(site.root)], capture_output=True, text=True).stdout
    kernel.shutdown()
