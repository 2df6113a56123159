"""A run of browsers, without any: what the desk is told, down to the rows of a run directory, and who is missed."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sseproof.browser_run import _Opened, _Sink
from sseproof.browsers.desk import Page
from sseproof.browsers.posts import Exchange, Join, PageAttempt, Start, Stream
from sseproof.browsers.programs import Found
from sseproof.rundir.files import STARTS, STREAMS
from sseproof.rundir.rows import AddressPlan, BrowserPlan
from tests.integration.suite import rows
from tests.reports.conftest import RUN, RunBuilder

VARIANT = "safari-sseconsumer"
WHOSE: Any = {"key": "key", "page": "page"}


@pytest.fixture
def sink(tmp_path: Path) -> Any:
    run = RunBuilder(tmp_path)
    run.variant(VARIANT)
    planned = run.plan.variants[0]
    planned.browser = BrowserPlan(name="safari", client="sseconsumer", at_once=1)
    planned.addresses = [AddressPlan(host="127.0.0.1", port=20_001)]
    made = _Sink(tmp_path, RUN, run.plan)
    yield made
    made.close()


def account(number: int, began_ms: float) -> Stream:
    ends = PageAttempt(started_ms=began_ms, ended_ms=began_ms + 1, end="refused")
    asked = Exchange(began_ms, began_ms * 1e3, began_ms + 1)
    return Stream(**WHOSE, variant=VARIANT, stream=number, exchanges=[asked], attempts=[ends])


def test_an_account_is_taken_for_the_time_in_which_its_stream_was_read(sink: Any, tmp_path: Path) -> None:
    joined = Join(**WHOSE, user_agent="x", resolution_ms=0.1)
    page = Page(id="page", name="safari", version="18", joined=joined, seen_s=0.0)
    for number in (0, 1):
        sink.started(page, Start(**WHOSE, variant=VARIANT, stream=number))
    with pytest.raises(ValueError, match="another time"):
        sink.ended(page, account(0, 5.0))
    sink.ended(page, account(1, time.time() * 1e3))
    assert [row.stream for row in rows(tmp_path, STARTS)] == [0, 1]
    assert [(row.stream, row.outcome) for row in rows(tmp_path, STREAMS)] == [(1, "unreachable")]


def test_a_browser_that_ends_when_its_page_is_through_breaks_nothing() -> None:
    opened = _Opened({}, quiet=True)
    ended: Any = SimpleNamespace(found=Found("chromium", "/usr/bin/chromium"), ended=-11)
    runs: Any = SimpleNamespace(found=Found("firefox", "/usr/bin/firefox"), ended=None)
    opened._browsers = [ended, runs]
    assert opened.dead(["firefox", "safari"]) == ""
    assert opened.dead(["chromium", "firefox"]) == "Chromium ended by itself with exit code -11."
    assert opened.dead() == opened.dead(["chromium"])
