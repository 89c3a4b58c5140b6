"""What honest cells show is the same behind the wall: as a direct kernel has it, byte for byte, but for tables and help."""

import re

import harness
import pytest
from harness import DIRECT, ISOLATED

CELLS = {
    "text": "print('a: b, ratio 3:4, data at 12:30, http 404, https: ok', {'data': 1, 'http': 2}); 'x' * 3",
    "words that come one by one": "for word in 'the left draft of data at http'.split(): print(word, end=' ', flush=True)",
    "colours": "import sys; print('\\x1b[1;31mred\\x1b[0m \\x1b[38;5;200mpink\\x1b[m', file=sys.stderr)",
    "a progress bar": "for done in range(4): print(f'\\r{25 * done:3}%|{done * \"█\":4}| {done}/4', end='')\nprint()",
    "a traceback": "def f(a, b='x'): return a / 0\nf(1, b={'k': 2})",
    "an exception with names": "raise ValueError(\"<module> File not found: 'a.csv' (In [1])\")",
    "a syntax error": "x = (1,\ny = 2",
    "a picture": "%matplotlib inline\nimport matplotlib.pyplot as plt; plt.plot([1, 4, 9]); plt.title('x'); plt.show()",
    "a display that changes": "handle = display('first', display_id='shown'); handle.update('second')",
    "markup": "from IPython.display import HTML, Markdown, Latex, JSON\n"
    "display(HTML('<b>x</b><p style=\"color: red\">y</p>'), Markdown('# T\\n* a **b** `c` ``{}``\\n\\n1 < 2\\n\\n~ ```r\\n  a:::b(function() { 1 })\\n  ```'),"
    " Latex(r'$\\left[0, 1\\right] \\sqrt[3]{x}\\\\[2pt]$'), JSON({'a': [1, {'b': '```'}]}))",
    "a warning": "import warnings; warnings.formatwarning = lambda text, *_: f'{text}\\n'; warnings.warn('careful')",
}
TABLE = "import pandas as pd; pd.DataFrame({'a': [1, 2], 'b': ['x<y', 'ü & $1$']}, index=['r', 's'])"


@pytest.fixture(scope="module")
def kernels(site):
    started = [harness.Kernel(site, kind) for kind in (DIRECT, ISOLATED)]
    yield started
    for kernel in started:
        kernel.close()


def seen(kernel, code):
    """Streams as front ends join them, what is displayed, the reply."""
    run = kernel.run(code, 60)
    shown = [
        (message["msg_type"], {key: value for key, value in message["content"].items() if key != "execution_count"})
        for message in run.messages
        if message["msg_type"] not in ("status", "execute_input", "stream")
    ]
    reply = {key: value for key, value in run.reply["content"].items() if key in ("status", "ename", "evalue", "payload")}
    return re.sub(r"In\[\d+\]", "In[N]", repr((run.stdout, run.stream("stderr"), shown, reply)))


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_is_seen(kernels, cell):
    direct, isolated = (seen(kernel, CELLS[cell]) for kernel in kernels)
    assert direct == isolated


def test_a_table_is_one_in_the_page(kernels):
    """Its style is the front end's own, all else is as it was."""
    direct, isolated = (kernel.run(TABLE, 60).of("execute_result")[0]["data"] for kernel in kernels)
    plain = re.sub(r"<style.*</style>", "", direct["text/html"], flags=re.S).replace("right;", "right")
    assert isolated["text/html"] == plain.replace("$", "<span>$</span>") and isolated["text/plain"] == direct["text/plain"]


def test_help_is_text(kernels):
    direct, isolated = (kernel.run("len?", 60).reply["content"]["payload"][0] for kernel in kernels)
    assert isolated["source"] == "page" and isolated["data"] == {"text/plain": direct["data"]["text/plain"]}
