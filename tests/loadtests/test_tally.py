"""Ranges of numbers, intervals at both ends of their brackets, text and outcomes, without a socket."""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests import tally
from sseproof.loadtests.tally import Ending, Intervals, Numbers, Text, outcome_of
from sseproof.rundir.rows import ATTEMPT_ENDS, Outcome


def _feed(numbers: Numbers, values: list[int]) -> list[bool]:
    """As the hot path does it: one comparison while they come in order."""
    new = []
    for value in values:
        if value == numbers.next:
            numbers.next = value + 1
            new.append(True)
        else:
            new.append(numbers.add(value))
    return new


@given(st.lists(st.integers(min_value=0, max_value=40), max_size=60))
def test_numbers_agree_with_a_set(values: list[int]) -> None:
    numbers = Numbers()
    new = _feed(numbers, values)
    seen: set[int] = set()
    highest = -1
    doubled = reordered = 0
    for value, said_new in zip(values, new, strict=True):
        assert said_new == (value not in seen)
        doubled += value in seen
        reordered += value not in seen and value < highest
        seen.add(value)
        highest = max(highest, value)
    assert (numbers.doubled, numbers.reordered) == (doubled, reordered)
    assert numbers.lost() == (max(seen) - min(seen) + 1 - len(seen) if seen else None)
    told = [number for first, last in numbers.ranges() for number in range(first, last + 1)]
    assert told == sorted(seen)
    for (_, last), (first, _) in itertools.pairwise(numbers.ranges()):
        assert first > last + 1  # ranges that touch are one
    assert numbers.highest == (max(seen) if seen else None)
    assert numbers.known == bool(seen)


def test_numbers_of_a_hostile_source_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "RANGES_KEPT", 100)
    monkeypatch.setattr(tally, "RANGES_IN_ROW", 10)
    numbers = Numbers()
    _feed(numbers, list(range(0, 2_000, 2)))
    assert len(numbers._starts) <= 100
    assert numbers.lost() == 999  # every odd number below the highest
    assert numbers.doubled == 0
    assert numbers.capped
    assert len(numbers.ranges()) == 10
    assert not numbers.add(4)  # long dropped: new or doubled can't be told any more
    assert numbers.blind
    assert numbers.lost() is None


EDGES = [10, 20, 50]


@given(st.lists(st.tuples(st.integers(-5, 80), st.integers(0, 40)), max_size=40))
def test_intervals_count_each_end_in_its_bucket(spans: list[tuple[int, int]]) -> None:
    intervals = Intervals(EDGES)
    for low, width in spans:
        intervals.add(low, low + width)
    row = intervals.row()
    if not spans:
        assert row is None
        return
    assert row is not None
    lows = [max(0, low) for low, _ in spans]
    highs = [max(0, low, low + width) for low, width in spans]
    for counts, values in ((row.lo, lows), (row.hi, highs)):
        full = [*counts, *[0] * (len(EDGES) + 1 - len(counts))]
        bounds = [-1, *EDGES, 10**9]
        assert full == [
            sum(bottom < value <= top for value in values) for bottom, top in itertools.pairwise(bounds)
        ]
        assert not counts or counts[-1]
    assert (row.count, row.longest_lo_ns, row.longest_hi_ns) == (len(spans), max(lows), max(highs))


def test_an_interval_that_never_ended_is_above_every_edge_at_its_far_end() -> None:
    intervals = Intervals(EDGES)
    intervals.exact[0] += 2
    intervals.add_unended(15)
    row = intervals.row()
    assert row is not None
    assert (row.count, row.lo, row.hi) == (3, [2, 1], [2, 0, 0, 1])
    assert row.longest_lo_ns == 15


@given(st.lists(st.text(max_size=20), max_size=70))
def test_text_is_that_of_all_parts(parts: list[str]) -> None:
    text = Text()
    for part in parts:
        text.add(part)
    text.flush()
    whole = "".join(parts)
    assert (text.chars, text.bytes, text.fffd) == (len(whole), len(whole.encode()), whole.count("\ufffd"))
    assert text.sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert not text.parts


def test_text_takes_lone_surrogates_and_keeps_long_parts_briefly() -> None:
    text = Text()
    text.add("\ud83d")
    text.add("x" * tally.LONG_PART_CHARS)
    assert not text.parts
    assert text.chars == tally.LONG_PART_CHARS + 1


def _ending(**given_: object) -> Ending:
    fields = {
        "end": "eof",
        "kind": "answer",
        "terminal_known": False,
        "got_events": True,
        "last_got_events": True,
    }
    return Ending(**{**fields, **given_})


@pytest.mark.parametrize(
    ("outcome", "given_"),
    [
        ("complete", {"end": "terminal"}),
        ("complete", {"end": "terminal", "kind": "subscription"}),
        ("complete-limited", {"end": "terminal", "limited": True}),
        ("declined", {"end": "terminal", "declined": True}),
        ("declined", {"end": "inband-error", "declined": True}),
        ("damaged", {"end": "terminal", "damaged": True}),
        ("damaged", {"end": "terminal", "limited": True, "damaged": True}),
        ("complete", {"end": "eof"}),
        ("damaged", {"end": "eof", "damaged": True}),
        ("truncated", {"end": "eof", "terminal_known": True}),
        ("truncated", {"end": "eof", "kind": "subscription"}),
        ("truncated", {"end": "eof", "got_events": False, "last_got_events": False}),
        ("truncated", {"end": "eof", "last_got_events": False}),
        ("truncated", {"end": "eof", "inside_event": True}),
        ("damaged", {"end": "eof", "inside_event": True, "damaged": True}),
        ("complete", {"end": "terminal", "inside_event": True}),
        ("complete", {"end": "no-content"}),
        ("damaged", {"end": "no-content", "damaged": True}),
        ("error-http", {"end": "no-content", "got_events": False}),
        ("error-inband", {"end": "inband-error"}),
        ("held", {"end": "stopped", "kind": "subscription", "streaming": True}),
        ("damaged", {"end": "stopped", "kind": "subscription", "streaming": True, "damaged": True}),
        ("unfinished", {"end": "stopped", "kind": "subscription"}),
        ("unfinished", {"end": "stopped", "kind": "subscription", "streaming": True, "unfinished": True}),
        ("unfinished", {"end": "stopped", "streaming": True}),
        ("unreachable", {"end": "refused", "got_events": False}),
        ("cut", {"end": "refused"}),
        ("cut", {"end": "dns"}),
        ("cut", {"end": "tls"}),
        ("cut", {"end": "connect-timeout"}),
        ("unreachable", {"end": "connect-timeout", "got_events": False}),
        ("cut", {"end": "fin"}),
        ("cut", {"end": "rst", "got_events": False}),
        ("error-http", {"end": "status", "status": 500}),
        ("throttled", {"end": "status", "status": 429, "retry_after": True}),
        ("throttled", {"end": "status", "status": 503, "retry_after": True}),
        ("error-http", {"end": "status", "status": 503}),
        ("error-http", {"end": "status", "status": 500, "retry_after": True}),
        ("error-http", {"end": "content-type"}),
        ("error-http", {"end": "protocol"}),
        ("error-http", {"end": "too-big"}),
        ("stalled", {"end": "headers-timeout"}),
        ("stalled", {"end": "first-event-timeout"}),
        ("stalled", {"end": "idle-timeout"}),
        ("stalled", {"end": "total-timeout"}),
    ],
)
def test_outcome(outcome: Outcome, given_: dict[str, object]) -> None:
    assert outcome_of(_ending(**given_)) == outcome


def test_every_end_has_an_outcome() -> None:
    for end in ATTEMPT_ENDS:
        outcome_of(_ending(end=end))
