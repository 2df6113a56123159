"""Subscribers of one topic as each other's witnesses of loss (design.md decision 11); pure.

Rules:
- A number is lost for a subscriber if another subscriber of the same topic received it, it lies between this one's first
  and last number, and this one never received it. What nobody received shows nowhere: numbers of a topic may have holes.
- Only streams that the scenario puts under one topic are compared (`[target] topic`): that its numbers are the topic's,
  and not each connection's own, can't be seen from outside and is never assumed.
- A stream was witnessed where its span of numbers lies inside another's. A loss that was seen is known; that nothing was
  lost is known only where others witnessed nearly all that it spans: who was alone has no witness.
- Where no topic is named and streams have no number in common, but fill each other's holes, the numbers are the
  service's own: holes are then no loss, and nobody knows what is.
- A stream whose list of ranges is not whole witnesses for others what the list holds, and is not judged itself.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from sseproof.rundir.rows import StreamRecord

WITNESSED_SHARE: Final = 0.9
"""Subscribers do not come and go at the same instant: a few numbers at either end have one recipient."""

Ranges = list[tuple[int, int]]
StreamKey = tuple[str | None, int]


class TopicTruth(Struct, frozen=True, kw_only=True):
    """What the other subscribers of its topic say about one stream."""

    lost: int | None
    """None when too little of it was witnessed to say that nothing was."""
    seen: int
    """Numbers of the topic within its span that somebody received, itself included."""
    witnessed: int
    """Those of them that lie within another subscriber's span as well."""


def topic_truths(records: Iterable[StreamRecord]) -> dict[StreamKey, TopicTruth]:
    """The truth about every stream with a topic and a number, by variant and stream number."""
    topics: dict[tuple[str | None, str], list[StreamRecord]] = defaultdict(list)
    for record in records:
        if record.topic is not None and record.ids:
            topics[record.variant, record.topic].append(record)
    truths: dict[StreamKey, TopicTruth] = {}
    for subscribers in topics.values():
        received = _Set(merged(span for record in subscribers for span in record.ids))
        shared = _Set(_common(received.ranges, _covered_twice([_span(record) for record in subscribers])))
        for record in subscribers:
            truths[record.variant, record.stream] = _truth(record, received, shared)
    return truths


def numbered_by_the_service(records: Iterable[StreamRecord]) -> set[str | None]:
    """The variants whose service numbers the events of all its streams together: what one stream lacks came to others.

    Then no number comes to two streams, and others received most of those that are missing between a stream's first and
    last one. Streams that each count for themselves have numbers in common; those of a topic are compared in other ways.
    """
    streams: dict[str | None, list[StreamRecord]] = defaultdict(list)
    for record in records:
        if record.topic is None and record.ids and not record.ids_capped:
            streams[record.variant].append(record)
    return {variant for variant, found in streams.items() if _share_numbers(found)}


def _share_numbers(records: Sequence[StreamRecord]) -> bool:
    if not any(len(record.ids) > 1 for record in records):
        return False
    received = _Set(merged(span for record in records for span in record.ids))
    own = [sum(high - low + 1 for low, high in record.ids) for record in records]
    if sum(own) != sum(high - low + 1 for low, high in received.ranges):
        return False
    spans = [_span(record) for record in records]
    missing = sum(last - first + 1 for first, last in spans) - sum(own)
    came_to_others = sum(received.within(first, last) for first, last in spans) - sum(own)
    return came_to_others > 0 and 2 * came_to_others >= missing


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same numbers as ranges that are ascending and apart."""
    found: Ranges = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _truth(record: StreamRecord, received: "_Set", shared: "_Set") -> TopicTruth:
    first, last = _span(record)
    seen = received.within(first, last)
    witnessed = shared.within(first, last)
    lost: int | None = None
    if not record.ids_capped:
        own = sum(high - low + 1 for low, high in record.ids)
        lost = seen - own
        if not lost and witnessed < WITNESSED_SHARE * seen:
            lost = None
    return TopicTruth(lost=lost, seen=seen, witnessed=witnessed)


def _span(record: StreamRecord) -> tuple[int, int]:
    return record.ids[0][0], record.ids[-1][1]


def _covered_twice(spans: Sequence[tuple[int, int]]) -> Ranges:
    """Where at least two of the spans lie over each other."""
    edges = sorted([(first, 1) for first, _ in spans] + [(last + 1, -1) for _, last in spans])
    found: Ranges = []
    depth = since = 0
    for at, change in edges:
        before, depth = depth, depth + change
        if before < 2 <= depth:
            since = at
        elif depth < 2 <= before and since < at:
            found.append((since, at - 1))
    return merged(found)


def _common(one: Ranges, other: Ranges) -> Ranges:
    """The numbers of both; both ascending and apart."""
    found: Ranges = []
    at = 0
    for low, high in one:
        while at < len(other) and other[at][1] < low:
            at += 1
        place = at
        while place < len(other) and other[place][0] <= high:
            found.append((max(low, other[place][0]), min(high, other[place][1])))
            place += 1
    return found


class _Set:
    """A set of numbers as ranges, which counts those between two numbers in logarithmic time."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self._lows = [low for low, _ in ranges]
        self._highs = [high for _, high in ranges]
        self._before = [0]
        for low, high in ranges:
            self._before.append(self._before[-1] + high - low + 1)

    def within(self, first: int, last: int) -> int:
        """How many numbers lie from `first` to `last`, both included."""
        begin, end = bisect_left(self._highs, first), bisect_right(self._lows, last)
        if begin >= end:
            return 0
        outside = max(0, first - self._lows[begin]) + max(0, self._highs[end - 1] - last)
        return self._before[end] - self._before[begin] - outside
