"""The programs people use: nbclient, papermill, jupyter console, jupyter execute, other languages."""

import base64
import json
import os
import pathlib
import subprocess
import sys
import time

import harness
import nbclient
import nbformat
import papermill
import pexpect
import pytest
from harness import DIRECT, ISOLATED

KINDS = pytest.mark.parametrize("kind", [DIRECT, ISOLATED])
BIN = pathlib.Path(sys.executable).parent

DATA_SCIENCE = [
    "%matplotlib inline\nimport numpy as np, pandas as pd, matplotlib.pyplot as plt",
    "frame = pd.read_csv('staging/in/points.csv'); frame.describe()",
    "figure, axes = plt.subplots(); axes.plot(frame.x, frame.y); axes.set_title('a plot'); plt.show()",
    "from sklearn.linear_model import LinearRegression\n"
    "model = LinearRegression().fit(frame[['x']], frame.y)\n"
    "print(round(float(model.coef_[0]), 6), round(float(model.intercept_), 6))",
    "from sklearn.ensemble import RandomForestClassifier\n"
    "from sklearn.datasets import load_iris\n"
    "X, y = load_iris(return_X_y=True)\n"
    "print(RandomForestClassifier(n_estimators=20, n_jobs=2, random_state=0).fit(X, y).score(X, y) > 0.95)",
    "frame.assign(z=frame.y * 2).to_csv('result.csv', index=False); figure.savefig('plot.png')",
    "!ls staging/in",
]


def notebook(cells, kernel, parameters=None):
    book = nbformat.v4.new_notebook()
    book.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
    if parameters is not None:
        cell = nbformat.v4.new_code_cell(parameters)
        cell.metadata["tags"] = ["parameters"]
        book.cells.append(cell)
    book.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    return book


def points(site):
    project = site.project()
    site.put(project, "staging/in/points.csv", "x,y\n" + "".join(f"{x},{3 * x + 1}\n" for x in range(100)))
    return project


def outputs(book):
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def text(book):
    return "".join(output.text for output in outputs(book) if output.output_type == "stream")


@pytest.mark.core
@KINDS
def test_nbclient(site, kind, nothing_left):
    project = points(site)
    book = notebook(DATA_SCIENCE, kind)
    nbclient.NotebookClient(
        book, timeout=120, kernel_name=kind, resources={"metadata": {"path": str(project)}}
    ).execute()
    assert "3.0 1.0" in text(book) and "True" in text(book) and "points.csv" in text(book)
    images = [output.data["image/png"] for output in outputs(book) if "image/png" in output.get("data", {})]
    assert base64.b64decode(images[0]).startswith(b"\x89PNG")
    assert any("<table" in output.get("data", {}).get("text/html", "") for output in outputs(book))
    results = project if kind == DIRECT else project / "staging" / "out"
    assert (results / "result.csv").read_text().startswith("x,y,z\n0,1,2\n")
    assert (results / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_nbclient_error_names_the_cell(site):
    book = notebook(["1", "1/0"], ISOLATED)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        nbclient.NotebookClient(
            book, kernel_name=ISOLATED, resources={"metadata": {"path": str(site.project())}}
        ).execute()


def test_many_notebooks_one_after_another(site, nothing_left):
    for number in range(5):
        book = notebook([f"print({number} * 2)"], ISOLATED)
        nbclient.NotebookClient(
            book, kernel_name=ISOLATED, resources={"metadata": {"path": str(site.project())}}
        ).execute()
        assert text(book) == f"{number * 2}\n"


@pytest.mark.core
@KINDS
def test_papermill(site, kind, nothing_left):
    project = points(site)
    source, target = project / "in.ipynb", site.root / f"out-{kind}.ipynb"
    nbformat.write(notebook([*DATA_SCIENCE, "print('factor', factor)"], kind, parameters="factor = 1"), source)
    papermill.execute_notebook(
        str(source), str(target), parameters={"factor": 5}, cwd=str(project), progress_bar=False, log_output=False
    )
    assert "factor 5" in text(nbformat.read(target, 4))


@KINDS
def test_jupyter_execute(site, kind):
    project = site.project()
    nbformat.write(notebook(["print(6 * 7)"], kind), project / "book.ipynb")
    result = subprocess.run(
        [BIN / "jupyter-execute", "--inplace", "book.ipynb"],
        cwd=project,
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert text(nbformat.read(project / "book.ipynb", 4)) == "42\n"


@KINDS
def test_jupyter_console_existing(start, site, kind):
    kernel = start(kind)
    child = pexpect.spawn(
        str(BIN / "jupyter-console"),
        ["--existing", kernel.connection_file, "--simple-prompt"],
        env={**site.environment, "TERM": "dumb", "PATH": f"{BIN}:{os.environ['PATH']}"},
        timeout=30,
        encoding="utf-8",
    )
    try:
        child.expect(r"In \[\d+\]:")
        child.sendline("print('console', 40 + 2)")
        child.expect("console 42")
        child.expect(r"In \[\d+\]:")
        child.sendline("input('really? ')")
        child.expect("really\\? ")
        child.sendline("yes")
        child.expect("'yes'")
        child.expect(r"In \[\d+\]:")
        child.sendline("exit(keep_kernel=True)")
        if kind == ISOLATED:  # no kernel ends its client: that is asked here
            child.expect(r"In \[\d+\]:")
            child.sendeof()
            child.expect("really want to exit")
            child.sendline("y")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert kernel.run("1").status == "ok"


@pytest.fixture(scope="module")
def wrapped_r(site):
    """The R kernel of the host (Debian: r-cran-irkernel) behind the wall."""
    r = pathlib.Path("/usr/share/jupyter/kernels/ir")
    assert r.exists(), "r-cran-irkernel is not installed"
    env = {"JUPYTER_PATH": site.environment["JUPYTER_PATH"] + ":/usr/share/jupyter"}
    site.run("install", "--prefix", site.root, "--wrap", "ir", "--name", "ir-isolated", check=True, env=env)
    return "ir-isolated"


def test_wrapped_r_spec(site, wrapped_r):
    spec = site.spec(wrapped_r)
    assert spec["language"] == "R" and spec["argv"][0] == site.cellwall and spec["env"]
    assert sum(part.count("{connection_file}") for part in spec["argv"]) == 1


def test_wrapped_r_kernel(site, wrapped_r, start, nothing_left):
    project = site.project()
    site.put(project, "staging/in/points.csv", "x,y\n1,3\n2,5\n3,7\n")
    kernel = start(ISOLATED, spec=wrapped_r, cwd=project)
    run = kernel.run("d <- read.csv('staging/in/points.csv'); coef(lm(y ~ x, d)); cat(sum(d$y), '\\n')", timeout=60)
    assert run.status == "ok", run.problem
    assert "15" in run.stdout
    (shown,) = kernel.run("d").of("display_data")
    table = shown["data"]["text/html"]
    assert '<table class="dataframe">' in table and '<th scope="col">x</th>' in table and "iframe" not in table
    (shown,) = kernel.run("IRdisplay::display_html('<svg></svg>')").of("display_data")
    assert shown["data"]["text/html"].startswith('<iframe sandbox=""')
    kernel.run("write.csv(d, 'out.csv', row.names = FALSE)")
    blocked = kernel.run("url('http://127.0.0.1:1/'); readLines('http://127.0.0.1:1/')")
    assert blocked.status == "error"
    assert not kernel.run(f"cat(file.exists('{site.home}/.ssh/x'))").stdout.startswith("TRUE")
    kernel.shutdown()
    assert (project / "staging" / "out" / "out.csv").read_text().startswith('"x","y"')


def test_wrapped_r_interrupt(site, wrapped_r, start):
    kernel = start(ISOLATED, spec=wrapped_r)
    msg_id = kernel.client.execute("Sys.sleep(30)")
    kernel.started(msg_id)
    time.sleep(1)
    kernel.manager.interrupt_kernel()
    harness.collect(kernel.client, msg_id, 10 * harness.PATIENCE)
    assert kernel.run("cat(1 + 1)").stdout == "2"


def test_wrapped_python(site, start):
    """--wrap of an ipykernel spec with {prefix}, {resource_dir}, env and things that must not stay."""
    prefix = os.path.dirname(os.path.dirname(site.python))
    site._write_spec(
        "plain",
        {
            "argv": ["{prefix}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Plain",
            "language": "python",
            "interrupt_mode": "message",
            "env": {"FROM_SPEC": "yes", "WHERE": "{resource_dir}/x"},
            "metadata": {
                "debugger": True,
                "supported_encryption": ["curve"],
                "kernel_provisioner": {"provisioner_name": "x"},
                "interpreter": {"hash": "h"},
            },
        },
    )
    spec_file = site.specs / "plain" / "kernel.json"
    spec_file.write_text(spec_file.read_text().replace("{prefix}", prefix))
    site.run("install", "--prefix", site.root, "--wrap", "plain", "--name", "plain-isolated", check=True)
    spec = site.spec("plain-isolated")
    assert spec["interrupt_mode"] == "message" and spec["language"] == "python"
    assert spec["metadata"] == {**spec["metadata"], "debugger": True}
    for name in ("supported_encryption", "kernel_provisioner", "interpreter"):
        assert name not in spec["metadata"]
    assert "{resource_dir}" not in json.dumps(spec) and "{prefix}" not in json.dumps(spec)
    kernel = start(ISOLATED, spec="plain-isolated")
    assert kernel.run("import os; os.environ['FROM_SPEC']").result == "'yes'"
