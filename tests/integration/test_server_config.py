"""install --server-config: the notebook server's headers, written, found, never over what is another's."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def config(site, tmp_path_factory):
    """A configuration directory of its own, and the environment that names it."""
    directory = site.project() / "jupyter"
    return directory, {"JUPYTER_CONFIG_DIR": str(directory), "JUPYTER_CONFIG_PATH": ""}


def headers(path):
    return json.loads(path.read_text())["ServerApp"]["tornado_settings"]["headers"]


def test_written_found_and_removed(site, config):
    directory, env = config
    assert "limited  server headers" in site.run("doctor", env=env).stdout
    result = site.run("install", "--server-config", env=env, check=True)
    path = directory / "jupyter_config.json"
    assert str(path) in result.stdout
    assert {"Connection-Allowlist", "X-DNS-Prefetch-Control", "Referrer-Policy", "Content-Security-Policy"} == set(
        headers(path)
    )
    assert [entry.name for entry in directory.iterdir()] == [path.name]
    assert f"ok       server headers     {path}" in site.run("doctor", env=env).stdout
    assert json.loads(site.run("install", "--server-config=-", check=True).stdout) == json.loads(path.read_text())
    site.run("install", "--server-config", env=env, check=True)
    assert site.run("remove", "--server-config", env=env).returncode == 0 and not path.exists()
    assert site.run("remove", "--server-config", env=env).returncode == 1


def test_what_is_anothers_stays(site, config):
    directory, env = config
    directory.mkdir()
    path = directory / "jupyter_config.json"
    for text in ('{"ServerApp": {"port": 1}}', "not JSON", '{"cellwall": 7}'):
        path.write_text(text)
        for words in (("install", "--server-config"), ("remove", "--server-config")):
            result = site.run(*words, env=env)
            assert result.returncode == 1 and str(path) in result.stderr and len(result.stderr.splitlines()) == 1
        assert path.read_text() == text


def test_places(site, config):
    prefix = site.project()
    site.run("install", "--server-config", "--prefix", prefix, check=True)
    assert headers(prefix / "etc" / "jupyter" / "jupyter_config.json")
    assert site.run("remove", "--server-config", "--prefix", prefix).returncode == 0
    named = prefix / "named"
    site.run("install", f"--server-config={named}", check=True)
    assert headers(named / "jupyter_config.json")
    env = {"JUPYTER_CONFIG_DIR": "", "JUPYTER_PLATFORM_DIRS": "0"}
    site.run("install", "--server-config", env=env, check=True)
    assert headers(site.home / ".jupyter" / "jupyter_config.json")
    site.run("remove", "--server-config", env=env, check=True)


def test_nothing_else_with_it(site):
    for more in (["--python", "x"], ["--wrap", "x"], ["--name", "x"]):
        assert site.run("install", "--server-config", *more).returncode == 2


def test_install_says_whether_it_is_there(site, config):
    directory, env = config
    words = ("install", "--prefix", site.project(), "--name", "x", "--python", site.python)
    assert "cellwall install --server-config" in site.run(*words, env=env, check=True).stdout
    site.run("install", "--server-config", env=env, check=True)
    assert str(directory) in site.run(*words, env=env, check=True).stdout


def test_the_server_sends_them(site, config):
    """jupyter_server reads the file from where its own jupyter_core says the configuration is."""
    _, env = config
    site.run("install", "--server-config", env=env, check=True)
    shown = subprocess.run(
        [sys.executable, "-m", "jupyter_server", "--show-config-json"],
        env={**site.environment, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    found = json.loads(shown)["ServerApp"]["tornado_settings"]["headers"]
    assert found["X-DNS-Prefetch-Control"] == "off"
