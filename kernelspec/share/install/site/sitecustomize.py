"""Runs when a Python of the kernel starts, after its own packages are there: adds what cells have had installed.

A sitecustomize that this one hides runs afterwards.
"""
import os
import sys

import cellwall_added

cellwall_added.begin()
sys.path[:] = [place for place in sys.path if place != os.path.dirname(__file__)]
del sys.modules["sitecustomize"]
try:
    import sitecustomize  # noqa: F401
except ImportError:
    pass
