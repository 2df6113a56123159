"""What all tests share.

- Hypothesis asks whether something is right, never how fast a busy machine was.
- What thousands of collected tests have imported is for good: no garbage collection need walk through it.
- A shell that runs us in the background has SIGINT ignored; what a test starts and interrupts is to hear it all the same.
- The tests of client and server are marked `wire`, so that other interpreters can run them in one go with those of units.
"""

import gc
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """A folder gives the mark, so that no module is forgotten."""
    if {HERE / "loadtests", HERE / "reference_server"} & {*item.path.parents}:
        item.add_marker("wire")


def pytest_collection_finish() -> None:
    """Before the first test: a collection of everything takes 0.1 s, and some tests ask for hundreds."""
    gc.collect()
    gc.freeze()
