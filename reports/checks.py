"""What each claim counts: units with two ends each, from the facts of a run's streams; pure.

Rules:
- Every latency has two ends, from the brackets of its instants (design.md decision 4), the time queued in our own proxy,
  and steps of the clock; an instant that never happened is +infinity (decision 10).
- What we ended ourselves is open: it counts as bad at the unfavourable end and as good at the favourable one
  (decision 6), unless it had failed already.
- Streams in which no event came say nothing about text, loss or doubles: they are left out of those claims and counted.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal

from msgspec import Struct, structs

from sseproof.reports.claims import Claim
from sseproof.reports.clocks import began
from sseproof.reports.facts import KNOWLEDGE, Facts, History, Knowledge, Truth
from sseproof.rundir.rows import (
    Attempt,
    BreakRow,
    FaultRow,
    Gaps,
    Instant,
    Outcome,
    StartRow,
    StreamRecord,
)

Cause = Literal["rig", "unfinished", "dropped", "truth"]
"""Why the two ends of a unit differ: our own lateness, our own ending, a start that we never made, no truth."""

Bracket = tuple[int, int]
"""Shortest and longest that an interval can have been, in ns."""

NO_FAULT: Final = "clean"
"""The kind of a proxy that is set up to break nothing, or to break later."""
LINK_DOWN: Final = frozenset({"refused", "flapping", "black-hole", "stall", "server-restart"})
"""Faults that keep the link down until they are healed: reconnection can't begin before (decision 10)."""

_Of = StreamRecord | StartRow | BreakRow
"""Rows that name a stream and its group."""


class CheckFailedError(Exception):
    """A check of ours raised; its class is in the message. The claim is unknown, never green."""


class Unit(Struct, kw_only=True):
    """One thing that a claim counts, or the gaps of one stream: how many are good at each end."""

    n: int = 1
    worst: int
    """Good ones at the unfavourable end of every bracket."""
    best: int
    """Good ones at the favourable end."""
    cause: Cause | None = None
    """Why the two differ."""
    reason: str = ""
    """What the bad ones have in common, for the sentence."""
    value_ns: int | None = None
    """The measured interval; None is +infinity for latencies, and unused for others."""
    width_ns: int = 0
    """Width of the bracket, where a latency has one."""
    amount: int = 0
    """Events lost or doubled."""
    stream: int
    group: str | None = None


class Measured(Struct, kw_only=True):
    """The units of one claim in one variant."""

    units: list[Unit] = []
    streams: int = 0
    """Streams behind the units."""
    excluded: int = 0
    """Streams left out because not one event came."""
    reading: Literal["from plan", "from send", ""] = ""
    """Where a TTFT starts."""
    beside_ns: list[int | None] = []
    """TTFT of the same streams from send, where they are judged from plan."""
    gap_counts: list[int] = []
    """Gaps per bucket of the plan's edges, at the unfavourable end."""
    longest_gap_ns: int = 0
    knows: list[Knowledge] = []
    """What every stream with an event could have shown."""
    truths: dict[Truth, int] = {}
    """Streams by who tells what they lost."""
    alone: int = 0
    """Streams of a topic that too few others witnessed for anybody to tell."""
    witnessed: float | None = None
    """The least share of a stream's numbers that other subscribers witnessed, among those that they tell about."""
    without_text: int = 0
    """Streams whose text could not be compared with what was meant."""
    gap_edge_missing: bool = False
    """The run did not count gaps against this limit."""


class FaultEvidence(Struct, kw_only=True):
    """Whether a class of faults acted, and where."""

    seen: Literal["acted", "failed", "not-seen"]
    sentence: str = ""
    windows: "list[FaultWindow]" = []


class FaultWindow(Struct, kw_only=True, frozen=True):
    """One fault that was applied: which streams it hit, and when."""

    kind: str
    group: str | None
    """None hits every group."""
    variant: str | None
    since_ns: int
    healed_ns: int | None = None
    """Answer to the heal call."""

    def covers(self, group: str | None, variant: str | None, until_ns: int) -> bool:
        """Whether something in this group that was still going on at `until_ns` can have met the fault."""
        return self.group in {None, group} and self.variant in {None, variant} and until_ns >= self.since_ns


# --- faults ------------------------------------------------------------------------------------------------------------


def fault_windows(faults: Sequence[FaultRow]) -> list[FaultWindow]:
    """Every time a fault was applied, from the call that did it to the answer of the call that healed it.

    A fault that acts several times has a row number for each time; a proxy that is set up without a fault (`clean`) is
    no fault.
    """
    healed: dict[tuple[object, ...], int] = {}
    applied: dict[tuple[object, ...], FaultWindow] = {}
    for row in faults:
        key = (row.fault, row.variant, row.group, row.window)
        if row.step == "healed" and row.call_answered_ns is not None:
            healed[key] = max(row.call_answered_ns, healed.get(key, 0))
        elif row.step == "applied" and row.ok is not False and row.kind != NO_FAULT:
            since = row.at_ns if row.call_sent_ns is None else row.call_sent_ns
            window = FaultWindow(kind=row.kind, group=row.group, variant=row.variant, since_ns=since)
            applied.setdefault(key, window)
    return [structs.replace(window, healed_ns=healed.get(key)) for key, window in applied.items()]


def fault_evidence(faults: Sequence[FaultRow], name: str) -> FaultEvidence:
    """Whether faults of this name (a kind, or a group of the plan) were applied, and not known to have fired at nothing.

    That a fault was applied does not prove that it acted: `evidence` looks for that in the streams.
    """
    windows = [window for window in fault_windows(faults) if name in {window.kind, window.group}]
    ids = {row.fault for row in faults if name in {row.kind, row.group}}
    if not windows:
        failed = next(
            (row for row in faults if row.fault in ids and (row.step == "failed" or row.ok is False)), None
        )
        if failed is not None:
            return FaultEvidence(
                seen="failed", sentence=f"The fault {name} could not be applied: {failed.detail}"
            )
        return FaultEvidence(seen="not-seen", sentence=f"No fault of the class {name} acted in this run.")
    fired = [row.fired for row in faults if row.fault in ids and row.fired is not None]
    if fired and not any(fired):
        return FaultEvidence(seen="not-seen", sentence=f"The fault {name} was applied and never fired.")
    return FaultEvidence(seen="acted", windows=windows)


# --- what a claim counts -------------------------------------------------------------------------------------------------


class Scoped:
    """The part of a history that a claim covers in one variant, and the clock steps that bend it.

    `without` are groups to leave out: those whose fault did not act are no witnesses of what follows on it.
    """

    def __init__(
        self,
        claim: Claim,
        variant: str | None,
        history: History,
        facts: Sequence[Facts],
        without: Collection[str] = (),
    ) -> None:
        self.claim = claim
        self._without = frozenset(without)
        self.history = history
        scope = claim.scope
        self.windows = (
            fault_evidence(history.faults, scope.after).windows if scope.after is not None else None
        )
        self._variant = variant
        self.every = [each for each in facts if each.record.variant == variant]
        """All finished streams of the variant, whatever else the scope says."""
        self.facts = [
            each
            for each in self.every
            if self._covers(
                each.record.variant, each.record.group, {each.record.phase}, self.latest_ns(each.record)
            )
        ]
        self.unfinished = [
            start
            for start in history.unfinished
            if self._covers(start.variant, start.group, history.phases.may_be(start), None)
        ]
        self.dropped = [
            start
            for start in history.dropped
            if self._covers(start.variant, start.group, history.phases.may_be(start), None)
        ]
        self.breaks = [
            row
            for row in history.breaks
            if self._covers(row.variant, row.group, {row.phase}, self.latest_ns(row))
        ]
        self._steps: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for row in history.generator:
            if row.clock_step_ns and row.variant == variant:
                # An instant before the step is on the old clock: the window holds the interval on both.
                behind = max(row.clock_step_ns, 0)
                ahead = max(-row.clock_step_ns, 0)
                start = row.at_ns - row.interval_ns - behind
                self._steps[row.worker].append((start, row.at_ns + ahead, row.clock_step_ns))

    def _covers(
        self, variant: str | None, group: str | None, phases: Collection[str | None], until_ns: int | None
    ) -> bool:
        """Whether the claim speaks of it; `phases` are those that it can have been in."""
        scope = self.claim.scope
        if variant != self._variant or group in self._without:
            return False
        if scope.group is not None and group != scope.group:
            return False
        if scope.phase is not None and scope.phase not in phases:
            return False
        if self.windows is None:
            return True
        return any(
            window.covers(group, variant, window.since_ns if until_ns is None else until_ns)
            for window in self.windows
        )

    def latest_ns(self, row: StreamRecord | BreakRow) -> int:
        """The latest that a stream ended, or a break was seen, by the clock of the fault windows."""
        instant = row.ended if isinstance(row, StreamRecord) else row.seen
        return self.history.clocks.across(row.worker, began(row), instant).hi_ns

    def steps(self, worker: int, start: Instant, end: Instant) -> list[int]:
        """Clock steps, in ns, that the time from `start` to `end` may span."""
        if worker not in self._steps:
            return []
        return [
            step for since, until, step in self._steps[worker] if start.lo_ns <= until and end.hi_ns >= since
        ]

    def between(self, worker: int, start: Instant, end: Instant, queued_ns: int | None = None) -> Bracket:
        """The shortest and the longest that the time from `start` to `end` can have been."""
        low = end.lo_ns - start.hi_ns - (queued_ns or 0)
        high = end.hi_ns - start.lo_ns
        for step in self.steps(worker, start, end):
            low -= max(step, 0)
            high += max(-step, 0)
        return max(low, 0), max(high, 0)


def measure(scoped: Scoped) -> Measured:
    """The units of the claim.

    Raises CheckFailedError when the facts that the claim needs could not be established.
    """
    claim = scoped.claim
    if claim.metric not in {"ttft", "gap", "reconnect"}:
        _refuse_failed(scoped.facts)
    measured = _MEASURES[claim.metric](scoped)
    if claim.metric in {"success", "recovery", "lost", "doubled", "utf8"}:
        judged = [each for each in scoped.facts if each.received]
        measured.truths = dict(Counter(each.truth for each in judged if each.truth is not None))
        measured.alone = sum(
            each.truth is None and each.witnessed is not None and each.lost is None for each in judged
        )
        measured.witnessed = min(
            (each.witnessed for each in judged if each.truth == "subscribers" and each.witnessed is not None),
            default=None,
        )
        measured.knows = [what for what in KNOWLEDGE if judged and all(each.knows(what) for each in judged)]
    return measured


def _refuse_failed(facts: Sequence[Facts]) -> None:
    failed = [each for each in facts if each.failed]
    if failed:
        raise CheckFailedError(
            f"{failed[0].failed} in the check of stream {failed[0].record.stream}"
            + (f" and {len(failed) - 1} more" if len(failed) > 1 else "")
        )


def _success(scoped: Scoped) -> Measured:
    units = [
        _open(each.record)
        if each.outcome == "unfinished"
        else _certain(each.record, good=each.good, reason=each.outcome)
        for each in scoped.facts
    ]
    return Measured(units=units + _never_ended(scoped), streams=len(units))


def _ttft(scoped: Scoped) -> Measured:
    units = []
    beside: list[int | None] = []
    planned = False
    for each in scoped.facts:
        record = each.record
        planned = planned or record.intended is not None
        start = record.sent if record.intended is None else record.intended
        units.append(_arrival(scoped, record, start, record.first_token))
        beside.append(_nominal(record.sent, record.first_token))
    measured = Measured(units=units + _never_ended(scoped), streams=len(units))
    measured.reading = "from plan" if planned else "from send"
    measured.beside_ns = beside if planned else []
    return measured


def _e2e(scoped: Scoped) -> Measured:
    units = []
    excluded = 0
    for each in scoped.facts:
        record = each.record
        if each.outcome == "held":
            excluded += 1  # an open subscription has no end to be timed
            continue
        units.append(
            _arrival(scoped, record, record.sent, record.last_event if each.good else None, each.outcome)
        )
    return Measured(
        units=units + _never_ended(scoped), streams=len(units), excluded=excluded, reading="from send"
    )


def _arrival(
    scoped: Scoped,
    record: StreamRecord,
    start: Instant | None,
    end: Instant | None,
    outcome: Outcome | None = None,
) -> Unit:
    """One stream's time from `start` to something that should have come."""
    if start is not None and end is not None:
        bracket = scoped.between(record.worker, start, end, record.proxy_queue_ns)
        return _latency(scoped.claim, bracket, end.ns - start.ns, record)
    never = _certain(record, good=False, reason=outcome or record.outcome)
    if record.end != "stopped" and record.outcome != "unfinished":
        return never
    if start is not None:  # ended by us, perhaps when it was too late already
        waited = scoped.between(record.worker, start, record.ended, record.proxy_queue_ns)
        if not scoped.claim.within(waited[0]):
            return never
    return _open(record)


def _gap(scoped: Scoped) -> Measured:
    edges = scoped.history.plan.gap_edges_ns
    edge = scoped.claim.edge_ns
    last = bisect_left(edges, edge)
    if last == len(edges) or edges[last] != edge:
        return Measured(gap_edge_missing=True)
    counts = [0] * (len(edges) + 1)
    measured = Measured(gap_counts=counts)
    most = max((each.record.gaps.count for each in scoped.facts if each.record.gaps is not None), default=0)
    for each in scoped.facts:
        record = each.record
        gaps = record.gaps
        if gaps is not None and gaps.count:
            measured.streams += 1
            measured.longest_gap_ns = max(measured.longest_gap_ns, gaps.longest_hi_ns)
            for bucket, count in enumerate(gaps.hi):
                counts[bucket] += count
            measured.units.append(_gap_unit(scoped, record, gaps, last))
        if _ended_in_silence(scoped, record):
            measured.units.append(_certain(record, good=False))
            measured.longest_gap_ns = max(measured.longest_gap_ns, _silence(record.attempts[-1]) or 0)
            counts[-1] += 1
        if record.outcome == "unfinished":
            missing = max(most - (gaps.count if gaps is not None else 0), 1)
            measured.units.append(_open(record, n=missing))
    measured.units += _never_ended(scoped, n=max(most, 1))
    return measured


def _gap_unit(scoped: Scoped, record: StreamRecord, gaps: Gaps, last: int) -> Unit:
    # A silence that our idle time-out ended is on record with its least length; the event never came.
    never = sum(
        1
        for attempt in record.attempts
        if attempt.end == "idle-timeout" and scoped.claim.within(_silence(attempt))
    )
    best = sum(gaps.lo[: last + 1]) - never
    worst = sum(gaps.hi[: last + 1])
    if record.first_event is not None and record.last_event is not None:
        # One gap of the stream holds the step, and nobody knows which.
        for step in scoped.steps(record.worker, record.first_event, record.last_event):
            best += step > 0
            worst -= step < 0
    worst = max(worst, 0)
    best = max(min(best, gaps.count), worst)
    return Unit(
        n=gaps.count,
        worst=worst,
        best=best,
        cause=None if worst == best else "rig",
        value_ns=gaps.longest_hi_ns,
        width_ns=gaps.longest_hi_ns - gaps.longest_lo_ns,
        stream=record.stream,
        group=record.group,
    )


def _silence(attempt: Attempt) -> int | None:
    """The least that the silence at the end of an attempt lasted; None when no event had come."""
    last = attempt.last_event
    return None if last is None else max(attempt.ended.lo_ns - last.hi_ns, 0)


def _ended_in_silence(scoped: Scoped, record: StreamRecord) -> bool:
    """Whether the stream was silent for longer than the limit when we or the total time-out ended it."""
    last = record.attempts[-1] if record.attempts else None
    if last is None or last.end not in {"stopped", "total-timeout"}:
        return False
    silence = _silence(last)
    return silence is not None and not scoped.claim.within(silence)


def _reconnect(scoped: Scoped) -> Measured:
    records = {each.record.stream: each.record for each in scoped.every}
    down = [window for window in fault_windows(scoped.history.faults) if window.kind in LINK_DOWN]
    units = []
    for row in scoped.breaks:
        start = _outage_end(scoped, row, down)
        if row.first_new is not None:
            bracket = scoped.between(row.worker, start, row.first_new, row.proxy_queue_ns)
            nominal = max(row.first_new.ns - start.ns, 0)
            units.append(_latency(scoped.claim, bracket, nominal, row))
            continue
        record = records.get(row.stream)
        if record is not None and record.end != "stopped":
            units.append(_certain(row, good=False, reason=_given_up(row)))
        elif record is not None and not scoped.claim.within(
            scoped.between(row.worker, start, record.ended)[0]
        ):
            units.append(_certain(row, good=False, reason="stopped"))
        else:
            units.append(_open(row))
    return _with_missing_breaks(scoped, units)


def _recovery(scoped: Scoped) -> Measured:
    by_stream = {each.record.stream: each for each in scoped.every}
    units = []
    for row in scoped.breaks:
        facts = by_stream.get(row.stream)
        if facts is None or facts.outcome == "unfinished":
            units.append(_open(row))
        else:
            units.append(_certain(row, good=facts.good, reason=facts.outcome))
    return _with_missing_breaks(scoped, units)


def _given_up(row: BreakRow) -> str:
    return row.end if row.gave_up is None else f"given up: {row.gave_up}"


def _outage_end(scoped: Scoped, row: BreakRow, down: Sequence[FaultWindow]) -> Instant:
    """Where reconnection begins: the break, or the healing of a fault that kept the link down, if that is later.

    The heal call was answered by another clock than that of a worker on another machine.
    """
    start = row.seen
    latest_ns = scoped.latest_ns(row)
    for window in down:
        if window.healed_ns is None or not window.covers(row.group, row.variant, latest_ns):
            continue
        healed = scoped.history.clocks.across(row.worker, row.seen, Instant(window.healed_ns))
        # An instant of ours is this much too early or too late there; a heal seen from here the other way round.
        earliest_ns, latest = healed.ns - healed.after_ns, healed.ns + healed.before_ns
        if latest > start.ns:
            ns = max(start.ns, healed.ns)
            start = Instant(ns, ns - max(min(start.lo_ns, ns), earliest_ns), latest - ns)
    return start


def _with_missing_breaks(scoped: Scoped, units: list[Unit]) -> Measured:
    """Adds the breaks of which no row was left: of streams without an end, and torn rows."""
    rows: dict[int, int] = defaultdict(int)
    for row in scoped.breaks:
        rows[row.stream] += 1
    streams = len(rows)
    for each in scoped.facts if scoped.windows is None else ():
        missing = each.record.breaks - rows[each.record.stream]
        if missing > 0:
            units.append(_open(each.record, n=missing))
    return Measured(units=units + _never_ended(scoped), streams=streams)


def _lost(scoped: Scoped) -> Measured:
    return _counted(scoped, lambda facts: facts.lost)


def _doubled(scoped: Scoped) -> Measured:
    return _counted(scoped, lambda facts: facts.doubled)


def _counted(scoped: Scoped, value: Callable[[Facts], int | None]) -> Measured:
    measured = Measured()
    for each in scoped.facts:
        unfinished = each.outcome == "unfinished"
        if not each.received and not unfinished:
            measured.excluded += 1
            continue
        measured.streams += 1
        amount = value(each)
        if amount:
            measured.units.append(
                Unit(
                    worst=0,
                    best=0,
                    amount=amount,
                    stream=each.record.stream,
                    group=each.record.group,
                    reason=scoped.claim.metric,
                )
            )
        elif unfinished:
            measured.units.append(_open(each.record))
        elif amount is None:
            measured.units.append(_open(each.record, cause="truth"))
        else:
            measured.units.append(_certain(each.record, good=True))
    measured.units += _never_ended(scoped)
    return measured


def _utf8(scoped: Scoped) -> Measured:
    measured = Measured()
    for each in scoped.facts:
        unfinished = each.outcome == "unfinished"
        if not each.received and not unfinished:
            measured.excluded += 1
            continue
        measured.streams += 1
        measured.without_text += each.text_exact is None
        if not each.intact:
            reason = (
                "with ill-formed bytes or U+FFFD" if each.ill_formed else "with other text than was meant"
            )
            measured.units.append(_certain(each.record, good=False, reason=reason))
        else:
            measured.units.append(_open(each.record) if unfinished else _certain(each.record, good=True))
    measured.units += _never_ended(scoped)
    return measured


def _never_ended(scoped: Scoped, n: int = 1) -> list[Unit]:
    """One open unit (or `n`) for every start without an end, and for every start that we never made."""
    return [_open(start, n=n) for start in scoped.unfinished] + [
        _open(start, n=n, cause="dropped") for start in scoped.dropped
    ]


def _nominal(start: Instant | None, end: Instant | None) -> int | None:
    return None if start is None or end is None else end.ns - start.ns


def _latency(claim: Claim, bracket: Bracket, nominal_ns: int, of: _Of) -> Unit:
    best, worst = claim.within(bracket[0]), claim.within(bracket[1])
    return Unit(
        worst=int(worst),
        best=int(best),
        cause=None if best == worst else "rig",
        reason="" if worst else "late",
        value_ns=max(nominal_ns, 0),
        width_ns=bracket[1] - bracket[0],
        stream=of.stream,
        group=of.group,
    )


def _certain(of: _Of, *, good: bool, reason: str = "") -> Unit:
    return Unit(
        worst=int(good), best=int(good), reason="" if good else reason, stream=of.stream, group=of.group
    )


def _open(of: _Of, n: int = 1, cause: Cause = "unfinished") -> Unit:
    return Unit(n=n, worst=0, best=n, cause=cause, reason=cause, stream=of.stream, group=of.group)


_MEASURES: Final[dict[str, Callable[[Scoped], Measured]]] = {
    "success": _success,
    "ttft": _ttft,
    "gap": _gap,
    "e2e": _e2e,
    "reconnect": _reconnect,
    "recovery": _recovery,
    "lost": _lost,
    "doubled": _doubled,
    "utf8": _utf8,
}
