"""What all tests share.

- Hypothesis asks whether something is right, never how fast a busy machine was.
- What thousands of collected tests have imported is for good: no garbage collection need walk through it.
"""

import gc

from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Before the first test: a collection of everything takes 0.1 s, and some tests ask for hundreds."""
    gc.collect()
    gc.freeze()
