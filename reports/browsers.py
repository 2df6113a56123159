"""The table of browsers: what each of them came to with each client, and those that nobody opened (pure).

Rules:
- A row is a variant of the run; its figures are those of the same rows that claims are judged by, at the middle of their
  brackets. Claims decide, this table is read.
- TTFT counts from the moment at which the page asked for the stream: the browser's own work, its connecting and what it
  checks with the service beforehand are in it. Reconnection counts from the break that the page saw to the first new event.
- A browser that no page of this run belongs to is unknown: the claims of the product speak of it all the same.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from sseproof.reports.facts import Facts, History, ttft_ns
from sseproof.reports.phases import quantile_ns
from sseproof.reports.verdicts import Count
from sseproof.reports.words import NOT_MEASURED, digits, duration_text, share_text
from sseproof.rundir.rows import BreakRow, BrowserRow, VariantPlan
from sseproof.rundir.text import printable

EXPECTED: Final[dict[str, str]] = {
    "chromium": "Chromium",
    "firefox": "Firefox",
    "safari": "Safari",
    "edge": "Edge",
    "mobile": "A phone's browser",
}
"""Families that the product's claims name, and how they are called."""
CLIENTS: Final[dict[str, str]] = {
    "sseconsumer": "SSEConsumer",
    "eventsource": "EventSource",
    "eventsource-default": "EventSource, no retry:",
}
HOW_TO_OPEN: Final = "open the address that “sseproof browsers --wait 5m” prints in that browser"


class BrowserResult(Struct, kw_only=True, forbid_unknown_fields=True):
    """One browser with one client."""

    browser: str
    version: str = ""
    client: str = ""
    """Empty for a browser that nobody opened."""
    variant: str | None = None
    state: Literal["measured", "unknown"] = "measured"
    next: str = ""
    """What would make it known."""
    streams: Count = 0
    """Answers that were begun."""
    good: Count = 0
    exact: Count = 0
    """Good ones whose text is known to be, byte for byte, what the service meant."""
    untold: Count = 0
    """Those of which nobody knows."""
    breaks: Count = 0
    mended: Count = 0
    """Breaks after which something new came."""
    ttft_p50_ns: Count | None = None
    """None where it never came."""
    ttft_p95_ns: Count | None = None
    reconnect_p50_ns: Count | None = None
    reconnect_p95_ns: Count | None = None
    reconnect_max_ns: Count | None = None
    """None where some break never healed, or there was none."""
    lost: Count | None = None
    doubled: Count | None = None
    fffd: Count = 0
    """U+FFFD characters that the page was given."""
    at_once: Count = 0
    """Streams that the page had open at a time."""
    resolution_ns: Count | None = None
    """One step of the page's clock."""
    offset_error_ns: Count | None = None
    frames: Count | None = None
    frame_gap_p95_ns: Count | None = None
    frame_gap_max_ns: Count | None = None
    long_tasks: Count | None = None
    """None where the browser does not tell."""
    long_tasks_ns: Count | None = None
    timer_lag_max_ns: Count | None = None
    hidden: bool = False
    """The page was not in front at some time: its rendering says nothing."""


def browser_results(history: History, facts: Sequence[Facts]) -> list[BrowserResult]:
    """A row for every variant that is a browser's, then one for each family that is missing; none in other runs."""
    drawn = {row.variant: row for row in history.browsers}
    found = [
        _result(variant, history, facts, drawn.get(variant.name or ""))
        for variant in history.plan.variants
        if variant.browser is not None
    ]
    if not found:
        return []
    there = {_family(each.browser) for each in found}
    unknown = [
        BrowserResult(browser=family, state="unknown", next=f"unknown: {HOW_TO_OPEN}")
        for family in EXPECTED
        if family not in there
    ]
    return found + unknown


def _family(browser: str) -> str:
    return "mobile" if browser.startswith("mobile-") else browser.partition("-")[0]


def _result(
    variant: VariantPlan, history: History, facts: Sequence[Facts], row: BrowserRow | None
) -> BrowserResult:
    assert variant.browser is not None
    mine = [each for each in facts if each.record.variant == variant.name]
    # What an interrupted run had not come to was asked for by nobody; claims count it, as was planned.
    open_ = sum(
        start.variant == variant.name and start.dispatched is not None for start in history.unfinished
    )
    breaks = [each for each in history.breaks if each.variant == variant.name]
    ttft = [ttft_ns(each.record) for each in mine] + [None] * open_
    back = [_back_ns(each) for each in breaks]
    result = BrowserResult(
        browser=variant.browser.name,
        version=printable(variant.browser.version, 40),
        client=variant.browser.client,
        variant=variant.name,
        streams=len(mine) + open_,
        good=sum(each.good for each in mine),
        exact=sum(each.good and each.text_exact is True for each in mine),
        untold=sum(each.text_exact is None for each in mine),
        breaks=len(breaks),
        mended=sum(each is not None for each in back),
        ttft_p50_ns=quantile_ns(ttft, 0.5) if ttft else None,
        ttft_p95_ns=quantile_ns(ttft, 0.95) if ttft else None,
        reconnect_p50_ns=quantile_ns(back, 0.5) if back else None,
        reconnect_p95_ns=quantile_ns(back, 0.95) if back else None,
        reconnect_max_ns=_longest(back),
        lost=_sum([each.lost for each in mine]),
        doubled=_sum([each.doubled for each in mine]),
        fffd=sum(each.record.fffd for each in mine),
        at_once=variant.browser.at_once,
    )
    if not mine and not open_:
        # Nobody of its name joined, or its page went away before it began.
        what = "its page ran no answer; see run.log"
        if not variant.browser.started_by_us:
            what += f", or {HOW_TO_OPEN}"
        result.state, result.next = "unknown", f"unknown: {what}"
    if row is not None:
        result.resolution_ns = row.resolution_ns
        result.offset_error_ns = row.offset_error_ns
        result.frames = row.frames
        result.frame_gap_p95_ns = row.frame_gap_p95_ns
        result.frame_gap_max_ns = row.frame_gap_max_ns
        result.long_tasks, result.long_tasks_ns = row.long_tasks, row.long_tasks_ns
        result.timer_lag_max_ns = row.timer_lag_max_ns
        result.hidden = row.hidden
    return result


def _back_ns(row: BreakRow) -> int | None:
    """From the break to the first new event; None never came."""
    return None if row.first_new is None else max(row.first_new.ns - row.seen.ns, 0)


def _longest(values: Sequence[int | None]) -> int | None:
    """None without any, and where one never came."""
    known = [each for each in values if each is not None]
    return max(known) if known and len(known) == len(values) else None


def _sum(values: Sequence[int | None]) -> int | None:
    """None where nobody knows of some."""
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


COLUMNS: Final = (
    "browser",
    "client",
    "success",
    "exact text",
    "TTFT p50 / p95",
    "back p50 / p95 / max",
    "breaks",
    "lost",
    "doubled",
    "U+FFFD",
)
DRAWN_COLUMNS: Final = (
    "browser",
    "client",
    "frames",
    "frame gap p95 / max",
    "long tasks",
    "timer late by up to",
    "clock step",
    "clock bracket",
)


def name_of(result: BrowserResult) -> str:
    """The browser as people call it, with its version."""
    return f"{EXPECTED.get(result.browser) or result.browser.capitalize()} {result.version}".strip()


def cells(result: BrowserResult) -> list[str]:
    """A row of COLUMNS."""
    if result.state == "unknown":
        return [name_of(result), CLIENTS.get(result.client, result.client), result.next]
    back = (result.reconnect_p50_ns, result.reconnect_p95_ns, result.reconnect_max_ns)
    known = result.streams - result.untold
    return [
        name_of(result),
        CLIENTS.get(result.client, result.client),
        f"{result.good}/{result.streams} {share_text(result.good / max(result.streams, 1))}",
        f"{result.exact}/{known}",
        " / ".join(map(duration_text, (result.ttft_p50_ns, result.ttft_p95_ns))),
        " / ".join(map(duration_text, back)) if result.breaks else NOT_MEASURED,
        f"{result.mended}/{result.breaks}",
        NOT_MEASURED if result.lost is None else f"{result.lost:,}",
        NOT_MEASURED if result.doubled is None else f"{result.doubled:,}",
        f"{result.fffd:,}",
    ]


def drawn_cells(result: BrowserResult) -> list[str]:
    """A row of DRAWN_COLUMNS."""
    tasks = NOT_MEASURED if result.long_tasks is None else f"{result.long_tasks:,}"
    if result.long_tasks:
        tasks += f", {duration_text(result.long_tasks_ns or 0)}"
    gaps = " / ".join(map(_length, (result.frame_gap_p95_ns, result.frame_gap_max_ns)))
    return [
        name_of(result),
        CLIENTS.get(result.client, result.client),
        NOT_MEASURED if result.frames is None else f"{result.frames:,}",
        f"{gaps} (page not in front)" if result.hidden else gaps,
        tasks,
        _length(result.timer_lag_max_ns),
        NOT_MEASURED if result.resolution_ns is None else f"{digits(result.resolution_ns / 1e3)} µs",
        _length(result.offset_error_ns),
    ]


def notes(results: Sequence[BrowserResult]) -> str:
    """What the figures count from, in sentences."""
    most = max((each.at_once for each in results), default=0)
    return (
        f"A page had at most {most} streams open: HTTP/1.1 gives it six connections to one place, and a further stream would "
        "wait for one. TTFT counts from the moment at which the page asked, so the browser's own work is in it. A break "
        "counts from the moment at which the page knew of it to the first new event."
    )


def _length(ns: int | None) -> str:
    return NOT_MEASURED if ns is None else duration_text(ns)
