"""What all tests share.

- Hypothesis asks whether something is right, never how fast a busy machine was.
- What thousands of collected tests have imported is for good: no garbage collection need walk through it.
- The tests of client and server are marked `wire`, so that other interpreters can run them in one go with those of units.
"""

import gc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

HERE = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """A folder gives the mark, so that no module is forgotten."""
    if {HERE / "loadtests", HERE / "reference_server"} & {*item.path.parents}:
        item.add_marker("wire")


def pytest_collection_finish() -> None:
    """Before the first test: a collection of everything takes 0.1 s, and some tests ask for hundreds."""
    gc.collect()
    gc.freeze()
