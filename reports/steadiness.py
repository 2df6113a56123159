"""How streams were while they ran: how fresh, how alive, how far apart subscribers of one topic; figures, no verdicts; pure.

Rules:
- Staleness weighs time, not events (measurement.md 1.2): the share of all stream-seconds, from each first token to the
  stream's end, in which the newest event was older than half a second. A silence of 5 s counts for 4.5 s of it.
- A connection's age says how long a subscription can be held at a stretch, whoever ends it.
- Heartbeat gaps are the silence before each heartbeat; a proxy that cuts idle links counts the same way.
- Fan-out has two ends: from the send time inside the events, which needs the service's clock to agree with ours, and from
  the first subscriber of the same worker that received the event, which needs no other clock.
- Quantiles come from histograms, at the unfavourable end of every bracket: "at most" the upper edge of a bucket.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from sseproof.reports import statistics
from sseproof.reports.facts import Facts
from sseproof.rundir.rows import Gaps, StreamRecord

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Intervals(Struct, kw_only=True, forbid_unknown_fields=True):
    """Many intervals of many streams; None is +infinity: so many never ended."""

    count: Count
    streams: Count
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    longest_ns: int
    """The longest that was seen, ended or not."""


class Steadiness(Struct, kw_only=True, forbid_unknown_fields=True):
    """The figures of one variant, warm-up left out; None was not measured."""

    stale_share: Share | None = None
    """Stream-seconds whose newest event was older than half a second, of all."""
    stale_streams: Count = 0
    """Streams behind it."""
    stream_ns: Count = 0
    """Their time from the first token to the end."""
    heartbeats: Count = 0
    heartbeat_gaps: Intervals | None = None
    connections: Intervals | None = None
    """How long the connections of subscriptions lasted, from the response's head; those still open at the end, till then."""
    ages: Intervals | None = None
    """From the send time inside an event to its arrival."""
    behind: Intervals | None = None
    """From an event's arrival at the first subscriber of the worker to its arrival at each other."""


def steadiness_of(facts: Iterable[Facts], edges_ns: Sequence[int]) -> Steadiness | None:
    """The figures of these streams; None without any."""
    records = [each.record for each in facts]
    if not records:
        return None
    known = [
        (record.stale_ns, record.ended.ns - record.first_token.ns)
        for record in records
        if record.stale_ns is not None and record.first_token is not None
    ]
    lasted = sum(max(length, 0) for _, length in known)
    stale = sum(min(stale, max(length, 0)) for stale, length in known)
    return Steadiness(
        stale_share=stale / lasted if lasted else None,
        stale_streams=len(known),
        stream_ns=lasted,
        heartbeats=sum(record.heartbeats for record in records),
        heartbeat_gaps=_joined((record.heartbeat_gaps for record in records), edges_ns),
        connections=_connections(records),
        ages=_joined((record.ages for record in records), edges_ns),
        behind=_joined((record.behind for record in records), edges_ns),
    )


def _connections(records: Sequence[StreamRecord]) -> Intervals | None:
    lasted = sorted(
        max(attempt.ended.ns - attempt.headers.ns, 0)
        for record in records
        if record.kind == "subscription"
        for attempt in record.attempts
        if attempt.headers is not None and attempt.events
    )
    if not lasted:
        return None
    p50, p95, p99 = (lasted[statistics.quantile_rank(len(lasted), q) - 1] for q in (0.5, 0.95, 0.99))
    streams = sum(record.kind == "subscription" for record in records)
    return Intervals(
        count=len(lasted), streams=streams, p50_ns=p50, p95_ns=p95, p99_ns=p99, longest_ns=lasted[-1]
    )


def _joined(gaps: Iterable[Gaps | None], edges_ns: Sequence[int]) -> Intervals | None:
    found = [each for each in gaps if each is not None and each.count]
    counts = [0] * (len(edges_ns) + 1)
    for each in found:
        for bucket, count in enumerate(each.hi[: len(counts)]):
            counts[bucket] += count
    if not sum(counts):
        return None
    longest = max(each.longest_hi_ns for each in found)
    p50, p95, p99 = (_quantile(counts, edges_ns, longest, q) for q in (0.5, 0.95, 0.99))
    return Intervals(
        count=sum(counts), streams=len(found), p50_ns=p50, p95_ns=p95, p99_ns=p99, longest_ns=longest
    )


def _quantile(counts: Sequence[int], edges_ns: Sequence[int], longest_ns: int, q: float) -> int | None:
    rank = statistics.quantile_rank(sum(counts), q)
    # The last bucket holds what is longer than every edge, and what was never seen to end.
    if statistics.bucket_of_rank(counts, rank) == len(edges_ns) and longest_ns <= edges_ns[-1]:
        return None
    return statistics.edge_at_rank(counts, edges_ns, longest_ns, rank)
