"""A person installs a package in a notebook: `%pip install` in a cell, its progress, and the import below it."""

import json

import harness
import pytest
import test_env
import test_lab

CELLS = [
    "import socket\ndef out():\n    try:\n        socket.create_connection(%r, 2)\n        return 'REACHED'\n"
    "    except OSError as problem:\n        return type(problem).__name__\nprint('before:', out())",
    "before = 40\n%%pip install alpha\nimport alpha\nprint('alpha', alpha.version, before + 2)",
    "print('after:', out())",
    "%%pip install ./alpha",
]


@pytest.fixture
def index():
    index = test_env.Index()
    index.files["alpha-1.0-py3-none-any.whl"] = test_env.wheel("alpha", "1.0", {"alpha.py": "version = '1.0'\n"})
    yield index
    index.close()


def test_installed_and_imported_without_a_restart(browser, lab, site, index):
    kernel = site.variant("--policy", site.policy({"install": "allow"}))
    spec = site.spec(kernel)
    spec["env"] = test_env.Store(site, index, "installed").environment
    (site.specs / kernel / "kernel.json").write_text(json.dumps(spec))
    from conftest import notebook

    cells = [cell % ((index.server.server_address,) if "%r" in cell else ()) for cell in CELLS]
    site.put(lab.folder, "install.ipynb", notebook(cells, kernel))
    test_lab.open_notebook(browser, lab, "install.ipynb")
    test_lab.command(browser, "notebook:run-all-cells")
    seen = lambda at, word: lambda: word in test_lab.current(browser)[at]["text"]  # noqa: E731
    test_lab.until(browser, seen(1, "alpha 1.0 42"), 60, "the import")
    test_lab.until(browser, seen(3, "is a path"), 60, "the refusal")
    text = [cell["text"] for cell in test_lab.current(browser)]
    assert "adds: alpha 1.0" in text[1] and "reached 127.0.0.1" in text[1]
    assert "REACHED" not in "".join(text) and "Refused" in text[0] and "Refused" in text[2]
    numbered = [f"[{n}]:" for n in range(1, 5)]
    test_lab.until(browser, lambda: [cell["prompt"].strip() for cell in test_lab.current(browser)] == numbered, 60, "the end")
    test_lab.shot(browser, "12-installed")
