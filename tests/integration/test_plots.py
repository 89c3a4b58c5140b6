"""Plotting libraries are told how to draw, by the mode of outputs and when they are imported, not before."""

import pytest
from harness import ISOLATED, Kernel

# A library of that name, which says what it was told.
FAKE = """
import os, pathlib, sys, tempfile
place = pathlib.Path(tempfile.mkdtemp())
(place / 'vl_convert.py').touch()
(place / 'altair.py').write_text(
    'told = []\\nclass renderers:\\n    def enable(*words, **options): told.append((words, options))\\n')
before = 'altair' in sys.modules
sys.path.insert(0, str(place))
import altair
print(os.environ['CELLWALL_OUTPUTS'], before, altair.told)
"""


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("static", [(("mimetype",), {})]),
        ("interactive", [(("html",), {"template": "inline"})]),
        ("off", []),
    ],
)
def test_a_library_is_told_how_to_draw(site, mode, told):
    kernel = Kernel(site, ISOLATED, spec=site.variant("--policy", site.policy({"outputs": {"mode": mode}})))
    try:
        assert kernel.run(FAKE).stream("stdout") == f"{mode} False {told}\n"
    finally:
        kernel.close()
