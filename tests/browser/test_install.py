"""A person installs a package in a notebook: `%pip install` in a cell, its progress, and the import below it."""

import json
import socket

import harness
import pytest
import test_env
import test_lab

CELLS = [
    # a thread that tries for as long as the cells run, and counts: the network is not there before, during or after
    "import socket, threading, time\ntried, over = [], threading.Event()\ndef probe():\n    while not over.is_set():\n        try:\n"
    "            socket.create_connection(%r, 2)\n            tried.append('REACHED')\n"
    "        except OSError as problem:\n            tried.append(type(problem).__name__)\n        time.sleep(0.05)\n"
    "prober = threading.Thread(target=probe)\nprober.start()\nwhile not tried: time.sleep(0.01)\nprint('before:', tried[0])",
    "before = len(tried)\n%%pip install alpha\nduring = len(tried)\nimport alpha\nprint('alpha', alpha.version, 'probed', during - before > 3)",
    "while len(tried) == during: time.sleep(0.01)\nover.set(); prober.join()\nprint('tried:', *sorted(set(tried)))",
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

    with socket.create_connection(index.server.server_address, 5):
        pass  # what the kernel tries in vain can be reached from outside
    cells = [cell % ((index.server.server_address,) if "%r" in cell else ()) for cell in CELLS]
    site.put(lab.folder, "install.ipynb", notebook(cells, kernel))
    test_lab.open_notebook(browser, lab, "install.ipynb")
    test_lab.command(browser, "notebook:run-all-cells")
    seen = lambda at, word: lambda: word in test_lab.current(browser)[at]["text"]  # noqa: E731
    test_lab.until(browser, seen(1, "alpha 1.0 probed True"), 60, "the import")
    test_lab.until(browser, seen(2, "tried:"), 60, "the end of the probe")
    test_lab.until(browser, seen(3, "is a path"), 60, "the refusal")
    text = [cell["text"] for cell in test_lab.current(browser)]
    assert "adds: alpha 1.0" in text[1] and "reached 127.0.0.1" in text[1]
    assert "before: ConnectionRefusedError" in text[0] and "tried: ConnectionRefusedError" in text[2] and "REACHED" not in "".join(text[::2])
    numbered = [f"[{n}]:" for n in range(1, 5)]
    test_lab.until(browser, lambda: [cell["prompt"].strip() for cell in test_lab.current(browser)] == numbered, 60, "the end")
    test_lab.shot(browser, "12-installed")
