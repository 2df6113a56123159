"""Stages of a closed loop: which of its places are open when, as instants since the load's start.

Pure. Rules:
- A closed loop of at most n streams at once has the places 0 to n-1. Place k is open while the planned level, which is
  constant or changes linearly within a stage, lies above k: a ramp from 0 to 10 in 10 s opens one place a second, the
  first at once. So exactly as many places are open as the level rounded up.
- A place that closes does not end an answer that runs in it: the answer is the last one there. A subscription has no end
  of its own; it is closed when its place is.
- Worker w of W has the places with number % W == w: the parts of all workers add up to the plan at every instant.
"""

from collections.abc import Sequence

from sseproof.loadtests.settings import Stage


def open_spans_ns(stages: Sequence[Stage], place: int) -> list[tuple[int, int]]:
    """When this place is open: (from, until) since the start in ns, ascending, never touching each other."""
    spans: list[tuple[int, int]] = []
    began = 0
    for stage in stages:
        span = _span_within(stage, place)
        if span is not None:
            since, until = began + span[0], began + span[1]
            if spans and spans[-1][1] == since:
                spans[-1] = (spans[-1][0], until)
            else:
                spans.append((since, until))
        began += stage.duration.ns
    return spans


def opens_ns(stages: Sequence[Stage], place: int, at_ns: int) -> int | None:
    """The first instant from `at_ns` on at which the place is open; None when it never is again."""
    return next((max(since, at_ns) for since, until in open_spans_ns(stages, place) if at_ns < until), None)


def closes_ns(stages: Sequence[Stage], place: int, at_ns: int) -> int:
    """The first instant from `at_ns` on at which the place is closed."""
    return next((until for since, until in open_spans_ns(stages, place) if since <= at_ns < until), at_ns)


def _span_within(stage: Stage, place: int) -> tuple[int, int] | None:
    """When, since the stage began, its level lies above the place; in whole numbers, so that nothing is rounded."""
    length, first, last = stage.duration.ns, stage.first_users, stage.last_users
    since, until = 0, length
    if first <= place:
        if last <= place:
            return None
        since = (place - first) * length // (last - first) + 1
        if place == first == 0:
            since = 0  # a ramp from nobody begins with its first stream, not a nanosecond later
    elif last <= place:
        until = -(-(first - place) * length // (first - last))
    return (since, until) if since < until else None
