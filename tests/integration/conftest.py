"""Fixtures: one site per run, kernels that end with their test, and a look for what was left behind after each test."""

import faulthandler
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402
import processes  # noqa: E402
from sharing import pytest_runtest_protocol as pytest_runtest_protocol  # noqa: E402, PLC0414


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes half a minute; run when CELLWALL_SLOW=1")
    config.addinivalue_line("markers", "core: also run against the instrumented build")
    for name in ("CELLWALL_PREFIX", "CELLWALL_KERNEL"):
        if name not in os.environ:
            raise pytest.UsageError(f"{name} is not set: start these suites with tests/run")
    # A test that hangs says where, and ends the run instead of holding it for ever.
    faulthandler.dump_traceback_later(1500, exit=True)


def pytest_collection_modifyitems(config, items):
    if not harness.SLOW:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Fixtures can see whether their test failed."""
    outcome = yield
    if call.when == "call":
        item.has_failed = outcome.get_result().failed


@pytest.fixture(scope="session")
def site():
    site = harness.Site()
    os.chdir(site.root)
    yield site
    os.chdir("/")
    site.close()


@pytest.fixture
def start(site):
    """start(kind, …) gives a running kernel that ends with the test."""
    kernels = []

    def begin(kind, **options):
        kernel = harness.Kernel(site, kind, **options)
        kernels.append(kernel)
        return kernel

    yield begin
    for kernel in kernels:
        kernel.close()


@pytest.fixture
def launch(site):
    """launch(program, …) gives a `cellwall kernel` process that ends with the test."""
    launches = []

    def begin(*kernel, **options):
        launched = harness.Launch(site, *kernel, **options)
        launches.append(launched)
        return launched

    yield begin
    for launched in launches:
        launched.close()


@pytest.fixture(scope="module", params=[harness.DIRECT, harness.ISOLATED])
def shared_holder(request):
    holder = {"kind": request.param}
    yield holder
    if "kernel" in holder:
        holder["kernel"].close()


@pytest.fixture
def shared(shared_holder, site):
    """One kernel of each kind for all tests of a module that leave it as they found it.

    One that a failed test left busy or dead is replaced, so that a failure is one failure."""
    kernel = shared_holder.get("kernel")
    try:
        healthy = kernel is not None and kernel.alive() and kernel.run("1", timeout=3).status == "ok"
    except (TimeoutError, RuntimeError):
        healthy = False
    if not healthy:
        if kernel is not None:
            kernel.close()
        kernel = shared_holder["kernel"] = harness.Kernel(site, shared_holder["kind"])
    return kernel


@pytest.fixture(autouse=True)
def no_remains(request, site):
    """What a test that failed left for a recovery is no matter of the next one."""
    yield
    if getattr(request.node, "has_failed", True):
        shutil.rmtree(site.kernels, ignore_errors=True)


@pytest.fixture
def nothing_left(request, site):
    """Fails the test when a process, mount, socket or private directory of a kernel stays behind.

    A test that failed anyway left before its end, and is not asked."""
    mounts = processes.mounts(site.root)
    since = processes.now_ticks()
    private, before = set(site.private_directories()), set(site.leftovers())
    yield
    if getattr(request.node, "has_failed", True):
        return
    gone = processes.wait_until(lambda: not processes.strays(site.prefix, since), 5 * harness.PATIENCE)
    assert gone, processes.strays(site.prefix, since)
    assert processes.mounts(site.root) - mounts == set()
    assert set(site.leftovers()) - before == set()
    assert set(site.private_directories()) - private == set()
