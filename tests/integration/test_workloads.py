"""What data scientists' code asks of the system passes the system call filter: each workload in a kernel behind the wall."""

import textwrap

import harness
import pytest
from harness import ISOLATED

WORKLOADS = {
    "numpy and scipy with threads": """
        import numpy, scipy.linalg, scipy.optimize, threading
        a = numpy.random.default_rng(0).normal(size=(400, 400))
        assert numpy.allclose(scipy.linalg.inv(a) @ a, numpy.eye(400), atol=1e-6)
        threads = [threading.Thread(target=lambda: numpy.linalg.svd(a)) for _ in range(4)]
        [thread.start() for thread in threads]; [thread.join() for thread in threads]
    """,
    "memory maps and large files": """
        import numpy, os, tempfile, mmap
        m = numpy.memmap("big.dat", dtype="float64", mode="w+", shape=(1000, 1000)); m[:] = 1; m.flush()
        assert numpy.memmap("big.dat", dtype="float64", mode="r").sum() == 1e6
        with tempfile.TemporaryFile() as f:
            f.truncate(1 << 20); mmap.mmap(f.fileno(), 1 << 20)[:4] = b"abcd"
        os.sync()
    """,
    "pandas, pyarrow and parquet": """
        import pandas, pyarrow, pyarrow.parquet, pyarrow.dataset, pyarrow.compute
        frame = pandas.DataFrame({"a": range(100000), "b": list("xy") * 50000})
        frame.to_parquet("t.parquet"); frame.to_feather("t.feather")
        assert pandas.read_parquet("t.parquet").equals(frame)
        assert pyarrow.dataset.dataset("t.parquet").count_rows() == 100000
        assert pyarrow.memory_map("t.feather").size() > 0
    """,
    "matplotlib": """
        import matplotlib; matplotlib.use("agg")
        import matplotlib.pyplot as plt
        plt.plot(range(10)); plt.savefig("p.png"); plt.savefig("p.pdf"); plt.savefig("p.svg")
    """,
    "scikit-learn on all processors": """
        from sklearn.datasets import make_classification
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import GridSearchCV
        x, y = make_classification(500)
        GridSearchCV(RandomForestClassifier(), {"max_depth": [2, 4]}, n_jobs=2, cv=2).fit(x, y)
    """,
    "joblib with processes, threads and memory maps": """
        import joblib, numpy, math
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(math.sqrt)(i * i) for i in range(20)) == list(range(20))
        assert joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(abs)(i) for i in range(5)) == list(range(5))
        big = numpy.ones(2_000_000)
        assert joblib.Parallel(n_jobs=2, max_nbytes="1M")(joblib.delayed(numpy.sum)(big) for _ in range(2)) == [2e6] * 2
        memory = joblib.Memory("cache", verbose=0); assert memory.cache(math.sqrt)(4) == 2
    """,
    "multiprocessing": """
        import multiprocessing, math, queue
        from multiprocessing import shared_memory
        for method in ("fork", "forkserver", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert pool.map(math.sqrt, [1, 4, 9]) == [1, 2, 3], method
        with multiprocessing.Manager() as manager:
            shared = manager.dict(); shared["a"] = 1; assert dict(shared) == {"a": 1}
        block = shared_memory.SharedMemory(create=True, size=4096); block.buf[0] = 7; block.close(); block.unlink()
        lock = multiprocessing.Lock(); lock.acquire(); lock.release(); multiprocessing.Queue().put(1)
    """,
    "numba, parallel and cached": """
        import numba, numpy
        @numba.njit(parallel=True)
        def total(a):
            s = 0.0
            for i in numba.prange(a.size):
                s += a[i]
            return s
        assert total(numpy.ones(100000)) == 100000
    """,
    "asyncio, subprocesses and pseudo terminals": """
        import asyncio, subprocess, pty, os, sys
        async def main():
            process = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
            assert (await process.communicate())[0] == b"hi\\n"
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close(); server.close()
            await asyncio.to_thread(os.getcwd)
        import threading
        thread = threading.Thread(target=lambda: asyncio.run(main())); thread.start(); thread.join()
        assert subprocess.run("ls / | wc -l; uname -a; id; df . ; ps aux", shell=True, capture_output=True).returncode == 0
        assert pty.spawn(["true"]) == 0
        assert subprocess.run(["stty", "size"], stdin=pty.openpty()[1], capture_output=True).returncode == 0
    """,
    "files as tools handle them": """
        import shutil, os, subprocess, sqlite3, fcntl, zipfile
        open("a", "w").write("1"); shutil.copy2("a", "b"); shutil.move("b", "c"); os.chmod("c", 0o600); os.utime("c")
        subprocess.run("cp -a a d && mv d e && tar czf t.tgz a c && tar tzf t.tgz && ln -s a l && rm l && touch -d yesterday a "
                       "&& mkfifo f && rm f && lsattr a; find . -name a -exec cat {} +; dd if=/dev/zero of=z bs=1k count=4 conv=fsync",
                       shell=True, check=True, capture_output=True)
        db = sqlite3.connect("s.db"); db.execute("pragma journal_mode=wal"); db.execute("create table t(a)"); db.commit(); db.close()
        with open("a") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
    """,
    "psutil": """
        import psutil, os
        p = psutil.Process(); p.memory_full_info(); p.open_files(); p.cpu_affinity(); p.threads(); p.nice(); p.net_connections()
        psutil.virtual_memory(); psutil.cpu_count(); psutil.net_if_stats(); psutil.disk_usage("/")
    """,
    "dask": """
        import dask.dataframe, pandas, dask.distributed
        with dask.distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
            with cluster.get_client() as client:
                assert client.submit(sum, [1, 2]).result() == 3
    """,
}


@pytest.fixture(scope="module")
def kernel(site):
    kernel = harness.Kernel(site, ISOLATED)
    yield kernel
    kernel.close()


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload(kernel, name):
    run = kernel.run(textwrap.dedent(WORKLOADS[name]) + "\nprint('worked')", timeout=180)
    assert run.status == "ok" and run.stdout.endswith("worked\n"), run
