"""Where packages come from: what pip's own configuration says, as pip itself reads it."""

import json
import os
import pathlib
import subprocess

import pytest
from environments import PYTHON

# pip's own reader of options and, for each URL, the proxy that its requests chooses.
PIP = """
import glob, json, os, sys
sys.path.insert(0, glob.glob("/usr/share/python-wheels/pip-*.whl")[0])
from pip._internal.commands import create_command
from pip._internal.network.session import PipSession
from pip._vendor.requests.utils import select_proxy
said, session = [], PipSession()
for environment, urls in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environment)
    command = create_command("install")
    options, _ = command.parser.parse_args([])
    proxies = {"http": options.proxy, "https": options.proxy} if options.proxy else {}
    ways = {url: select_proxy(url, session.merge_environment_settings(url, dict(proxies), None, None, None)["proxies"]) or "" for url in urls}
    said.append({
        "index-url": options.index_url, "extra-index-url": options.extra_index_urls, "find-links": options.find_links,
        "trusted-host": options.trusted_hosts, "cert": options.cert or "", "client-cert": options.client_cert or "",
        "no-index": options.no_index, "ways": ways})
json.dump(said, sys.stdout)
"""
# Ours, which is run anew for each.
OURS = """
import contextlib, io, json, os, runpy, sys
program, all = sys.argv[1], []
for environment, urls in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = io.StringIO(json.dumps(urls))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(program)
    all.append(json.loads(out.getvalue()))
json.dump(all, sys.stdout)
"""
URLS = ["https://pypi.org/simple", "http://index.corp/x", "https://index.corp:8443/x", "https://user:pw@INDEX.corp/x", "http://10.1.2.3:80/",
        "https://127.0.0.1:1/x", "https://notindex.org", "http://[fd00::1]:8080/", "https://corp/"]
FILES = {  # (place, text), each in the order in which pip reads them
    "one of each": [("dirs1", "[global]\nindex-url = http://dirs1\n"), ("dirs2", "[global]\nindex-url = http://dirs2\ntrusted-host = two\n"),
                    ("old", "[global]\nindex-url = http://old\ncert = ~/old.pem\n"), ("new", "[global]\nindex-url = http://new\n")],
    "old over dirs": [("dirs1", "[global]\nindex-url = http://dirs1\n"), ("old", "[global]\nindex_url = http://old\n--proxy = http://p:1\n")],
    "a later global": [("dirs1", "[install]\nindex-url = http://first\n"), ("new", "[global]\nindex-url = http://second\n")],
    "an earlier global": [("dirs1", "[global]\nindex-url = http://first\n"), ("new", "[install]\nindex-url = http://second\n")],
    "another command": [("new", "[download]\nindex-url = http://download\n[global]\nextra-index-url = http://a\n    http://b\n[list]\nindex-url = x\n")],
    "the first section last": [("new", "[install]\nindex-url = http://install\n[global]\nindex-url = http://global\n")],
    "empty": [("old", "[global]\nindex-url = http://old\nfind-links = /links http://l/x\n"), ("new", "[global]\nindex-url =\n[install]\ncert =\n")],
    "an empty later one hides": [("old", "[install]\nindex-url = http://old\n"), ("new", "[install]\nindex-url =\n")],
    "named": [("old", "[global]\nindex-url = http://old\nno-index = yes\n"), ("dirs1", "[global]\ncert = /dirs1\n"),
              ("PIP_CONFIG_FILE", "[global]\nextra-index-url = http://named\n")],
    "named over the user's": [("new", "[global]\nindex-url = http://new\n"), ("PIP_CONFIG_FILE", "[install]\nindex-url = http://named\n")],
    "defaults": [("new", "[DEFAULT]\nindex-url = http://default\n[global]\nclient-cert = /key\n")],
}
VARIABLES = [
    {},
    {"PIP_CONFIG_FILE": "/dev/null"},
    {"PIP_CONFIG_FILE": "/nothing/there", "PIP_EXTRA_INDEX_URL": "http://c http://d", "PIP_CERT": "/pip.pem", "PIP_INDEX_URL": ""},
    {"PIP_INDEX_URL": "http://variable", "PIP_FIND_LINKS": "http://f", "PIP_TRUSTED_HOST": "t u", "PIP_NO_INDEX": "1", "PIP_CLIENT_CERT": "/c"},
    {"https_proxy": "http://s:1", "http_proxy": "http://h:2", "no_proxy": "index.corp, 10.0.0.0/8"},
    {"HTTPS_PROXY": "http://capital:1", "https_proxy": "http://small:1", "ALL_PROXY": "http://all:1", "NO_PROXY": ".corp:8443,.org"},
    {"all_proxy": "http://all:1", "http_proxy": "", "HTTP_PROXY": "http://h:2", "no_proxy": "index.corp:8443,127.0.0.1,corp"},
    {"http_proxy": "http://h:2", "no_proxy": "*"},
    {"https_proxy": "http://me:p%40ss@s:1", "no_proxy": "org,.index.corp,7.0.0.1,fd00::1"},
    {"PIP_PROXY": "http://pip:1", "https_proxy": "http://s:1", "no_proxy": "*"},
]


def run(program, words, said):
    result = subprocess.run([PYTHON, *words, "-c", program, said[0]], env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                            input=json.dumps(said[1]), capture_output=True, text=True, timeout=60, check=True)
    return json.loads(result.stdout)


def test_as_pip_reads_it(site, tmp_path):
    """Files in all their places, sections in all their orders, variables and proxies: pip itself is asked the same."""
    cases = [({}, variables) for variables in VARIABLES] + [(FILES[name], {}) for name in FILES] + [
        (FILES["one of each"], variables) for variables in VARIABLES[1:4]]
    asked = []
    for i, (files, variables) in enumerate(cases):
        top = tmp_path / str(i)
        environment = {"HOME": str(top / "home"), "XDG_CONFIG_HOME": str(top / "new"), "XDG_CONFIG_DIRS": f"{top}/dirs1:{top}/dirs2", **variables}
        for place, text in files:
            path = top / ("home/.pip/pip.conf" if place == "old" else f"{place}/pip/pip.conf")
            path.parent.mkdir(parents=True)
            path.write_text(text)
            if place == "PIP_CONFIG_FILE":
                environment[place] = str(path)
        asked.append((environment, URLS))
    program = pathlib.Path(site.prefix) / "share" / "cellwall" / "env" / "index.py"
    ours, pips = run(OURS, ["-I", "-S"], (program, asked)), run(PIP, [], ("", asked))
    for (environment, _), pip, own in zip(asked, pips, ours):
        own["ways"] = {url: own["ways"][url] for url in URLS}
        own["index-url"] = own.get("index-url") or "https://pypi.org/simple"
        assert {key: own.get(key, "") for key in pip} == pip, environment
    # each of the cases says something of its own, but for homes that move and what is there to change nothing
    assert len({json.dumps(own).replace(str(tmp_path), "") for own in pips}) >= len(cases) // 2


def ask(site, tmp_path, **variables):
    """What is read in the directory tmp_path, where a notebook may lie."""
    program = pathlib.Path(site.prefix) / "share" / "cellwall" / "env" / "index.py"
    result = subprocess.run([PYTHON, "-I", "-S", program], input="[]", cwd=tmp_path, env={"HOME": str(tmp_path / "home"), **variables},
                            capture_output=True, text=True, timeout=60, check=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize("variables", [{"XDG_CONFIG_DIRS": "/nothing:"}, {"XDG_CONFIG_DIRS": "."}, {"XDG_CONFIG_HOME": "."}], ids=str)
def test_nothing_beside_the_notebook(site, tmp_path, variables):
    """A relative place would be where the kernel writes."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[global]\nproxy = http://attacker:1\n")
    assert "proxy" not in ask(site, tmp_path, **variables)
    assert ask(site, tmp_path, XDG_CONFIG_DIRS=str(tmp_path))["proxy"] == "http://attacker:1"


@pytest.mark.parametrize("text, line", [
    ("index-url = https://u:s3cret@h/\n", 1), ("[global]\ns3cret\n", 2), ("[global]\ns3cret = 1\ns3cret = 2\n", 3), ("[s3cret]\n[s3cret]\n", 2)])
def test_a_file_that_is_none(site, tmp_path, text, line):
    """The line is named, not shown: it may hold a password."""
    file = tmp_path / "pip.conf"
    file.write_text(text)
    said = ask(site, tmp_path, PIP_CONFIG_FILE=str(file))["error"]
    assert said.startswith(f"{file}, line {line}: ") and "s3cret" not in said
