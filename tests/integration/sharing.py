"""Runs that go on beside each other share the work, a file of tests at a time: who comes first to a file takes it.

A conftest.py that imports the hook below has its suite shared when CELLWALL_SHARED names a directory.
"""

import contextlib
import os
import pathlib

import pytest

TAKEN = pytest.StashKey()  # by name: is this file's work ours?


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    if "CELLWALL_SHARED" not in os.environ:
        return None
    taken = item.config.stash.setdefault(TAKEN, {})
    name = item.path.name
    if name not in taken:
        with contextlib.suppress(FileExistsError):
            taken[name] = False
            pathlib.Path(os.environ["CELLWALL_SHARED"], name).touch(exist_ok=False)
            taken[name] = True
    return None if taken[name] else True
