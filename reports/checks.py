"""What each claim counts: units with two ends each, from the facts of a run's streams; pure.

Rules:
- Every latency has two ends, from the brackets of its instants (design.md decision 4), the time queued in our own proxy,
  and steps of the clock; an instant that never happened is +infinity (decision 10).
- What we ended ourselves is open: it counts as bad at the unfavourable end and as good at the favourable one
  (decision 6), unless it had failed already.
- Streams in which no event came say nothing about text, loss or doubles: they are left out of those claims and counted.
- A value of a stream that is no duration (a rate, a share of its time, a number) has two ends as well, where instants go
  into it. A stream that did not end well had no rate; one without a token was stale all the time.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal

from msgspec import Struct, structs

from sseproof.chaos.faults import STANDING_KINDS
from sseproof.reports.claims import Claim, Limit
from sseproof.reports.clocks import began
from sseproof.reports.facts import KNOWLEDGE, Facts, History, Knowledge, Truth
from sseproof.reports.metrics import METRICS
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

SETTLED: Final[frozenset[Cause | None]] = frozenset({None, "rig"})
"""Of units that ended, and whose truth is known: they count in n, whatever our own lateness leaves open of them."""

Bracket = tuple[int, int]
"""Shortest and longest that an interval can have been, in ns."""

NO_FAULT: Final = "clean"
"""The kind of a proxy that is set up to break nothing, or to break later."""
LINK_DOWN: Final = frozenset({"refused", "flapping", "black-hole", "stall", "server-restart"})
"""Faults that keep the link down until they are healed: reconnection can't begin before (decision 10)."""

BREAK_SLACK_NS: Final = 100_000_000
"""How long after the answer to a healing call a break that was made before may be seen, scheduling included."""
_NS_PER_S: Final = 1_000_000_000

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
    value: float | None = None
    """The measured rate a second, portion or number; unused for others."""
    width_ns: int = 0
    """Width of the bracket, where a latency has one."""
    down_again: bool = False
    """A fault took the link away once more before the reconnection that it times."""
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
    """Streams that the claim says nothing about, left out."""
    reading: Literal["from plan", "from send", ""] = ""
    """Where a TTFT starts."""
    beside_ns: list[int | None] = []
    """TTFT of the same streams from send, where they are judged from plan."""
    gap_counts: list[int] = []
    """Gaps, or ages of events, per bucket of the plan's edges, at the unfavourable end."""
    longest_gap_ns: int = 0
    never: int = 0
    """Of the last bucket: events that never came."""
    peak: int | None = None
    """The most attempts within a second."""
    knows: list[Knowledge] = []
    """What every stream with an event could have shown."""
    truths: dict[Truth, int] = {}
    """Streams by who tells what they lost."""
    alone: int = 0
    """Streams of a topic that too few others witnessed for anybody to tell."""
    shared_numbers: int = 0
    """Streams whose numbers are those of the whole service."""
    witnessed: float | None = None
    """The least share of a stream's numbers that other subscribers witnessed, among those that they tell about."""
    without_text: int = 0
    """Streams whose text could not be compared with what was meant."""
    witnessing_workers: int = 0
    """Fan-out: workers with subscribers of a topic, each of which knows the first arrivals of its own ones alone."""
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
    stands_ns: int
    """Answer to the call that set it: on a busy machine that call, one a proxy, lasts longer than connections do."""
    healed_ns: int | None = None
    """Answer to the heal call."""
    heal_sent_ns: int | None = None
    """When that call was sent: until then the fault certainly stood."""
    episode: str = ""
    """Which of the times that several streams meet at once; empty for a fault that stands the whole run."""

    def covers(
        self, group: str | None, variant: str | None, until_ns: int, began_ns: int | None = None
    ) -> bool:
        """Whether something in this group that was still going on at `until_ns` can have met the fault.

        A fault that acts on what passes is not met by what began after its time; one that takes the link away may be
        followed by others than those that it met.
        """
        if self.kind in STANDING_KINDS and began_ns is not None and began_ns > (self.healed_ns or began_ns):
            return False
        return self.group in {None, group} and self.variant in {None, variant} and until_ns >= self.since_ns


# --- faults ------------------------------------------------------------------------------------------------------------


def fault_windows(faults: Sequence[FaultRow]) -> list[FaultWindow]:
    """Every time a fault was applied, from the call that did it to the answer of the call that healed it.

    A fault that acts several times has a row number for each time; a proxy that is set up without a fault (`clean`) is
    no fault.
    """
    healed: dict[tuple[object, ...], FaultRow] = {}
    applied: dict[tuple[object, ...], FaultWindow] = {}
    for row in faults:
        key = (row.fault, row.variant, row.group, row.window)
        if row.step == "healed":
            healed.setdefault(key, row)  # the first: after an abort the end heals once more
        elif row.step == "applied" and row.ok is not False and row.kind != NO_FAULT:
            since = row.at_ns if row.call_sent_ns is None else row.call_sent_ns
            window = FaultWindow(
                kind=row.kind,
                group=row.group,
                variant=row.variant,
                since_ns=since,
                stands_ns=row.at_ns if row.call_answered_ns is None else row.call_answered_ns,
                episode="" if row.window is None else f"{row.fault} {row.window}",
            )
            applied.setdefault(key, window)
    return [
        window
        if (end := healed.get(key)) is None
        # Without a call the server had ended by then, and with it whatever it did.
        else structs.replace(
            window,
            healed_ns=end.at_ns if end.call_answered_ns is None else end.call_answered_ns,
            heal_sent_ns=end.at_ns if end.call_sent_ns is None else end.call_sent_ns,
        )
        for key, window in applied.items()
    ]


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
            if self._covers(each.record, {each.record.phase}, self.latest_ns(each.record))
        ]
        self.unfinished = [
            start for start in history.unfinished if self._covers(start, history.phases.may_be(start), None)
        ]
        self.dropped = [
            start for start in history.dropped if self._covers(start, history.phases.may_be(start), None)
        ]
        self.every_break = [row for row in history.breaks if row.variant == variant]
        """All breaks of the variant that are on record, whatever else the scope says."""
        self.breaks = [row for row in self.every_break if self._covers(row, {row.phase}, self.latest_ns(row))]
        self._steps: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for row in history.generator:
            if row.clock_step_ns and row.variant == variant:
                # An instant before the step is on the old clock: the window holds the interval on both.
                behind = max(row.clock_step_ns, 0)
                ahead = max(-row.clock_step_ns, 0)
                start = row.at_ns - row.interval_ns - behind
                self._steps[row.worker].append((start, row.at_ns + ahead, row.clock_step_ns))

    def _covers(self, row: _Of, phases: Collection[str | None], until_ns: int | None) -> bool:
        """Whether the claim speaks of it; `phases` are those that it can have been in."""
        scope = self.claim.scope
        if row.variant != self._variant or row.group in self._without:
            return False
        if scope.group is not None and row.group != scope.group:
            return False
        if scope.phase is not None and scope.phase not in phases:
            return False
        if self.windows is None:
            return True
        began_ns = self.earliest_ns(row)
        return any(
            window.covers(row.group, row.variant, window.since_ns if until_ns is None else until_ns, began_ns)
            for window in self.windows
        )

    def latest_ns(self, row: StreamRecord | BreakRow) -> int:
        """The latest that a stream ended, or a break was seen, by the clock of the fault windows."""
        instant = row.ended if isinstance(row, StreamRecord) else row.seen
        return self.history.clocks.across(row.worker, began(row), instant).hi_ns

    def earliest_ns(self, row: _Of) -> int | None:
        """The earliest that a stream began, or what broke a connection did, by the clock of the fault windows."""
        instant = began(row)
        if instant is None:
            return None
        ns = self.history.clocks.across(row.worker, instant, instant).lo_ns
        return ns - BREAK_SLACK_NS if isinstance(row, BreakRow) else ns

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
        return self.bent(worker, start, end, (low, end.hi_ns - start.lo_ns))

    def bent(self, worker: int, start: Instant, end: Instant, bracket: Bracket) -> Bracket:
        """What an interval within that time can have been, clock steps included: nobody knows which of several held one."""
        low, high = bracket
        for step in self.steps(worker, start, end):
            low -= max(step, 0)
            high += max(-step, 0)
        return max(low, 0), max(high, 0)

    def bent_in(self, record: StreamRecord, low_ns: int, high_ns: int) -> Bracket:
        """The same of an interval somewhere in a stream."""
        return self.bent(record.worker, record.dispatched, record.ended, (low_ns, high_ns))


_FROM_ROWS: Final = frozenset({
    "ttft", "ttft-plan", "ttft-send", "gap", "stale", "fanout", "heartbeat", "reconnect", "connected",
    "attempts", "retries", "reconnect-rate",
})  # fmt: skip
"""Metrics that need no truth about the streams: what the check of one found does not matter to them."""
NEEDS_TRUTH: Final = frozenset({"success", "goodput", "errors", "recovery", "lost", "doubled", "utf8"})
"""Metrics whose answer depends on what could be known about loss, order and text."""


def measure(scoped: Scoped) -> Measured:
    """The units of the claim.

    Raises CheckFailedError when the facts that the claim needs could not be established.
    """
    claim = scoped.claim
    if claim.metric not in _FROM_ROWS:
        _refuse_failed(scoped.facts)
    measured = _MEASURES[claim.metric](scoped)
    if claim.metric in NEEDS_TRUTH:
        judged = [each for each in scoped.facts if each.received]
        measured.truths = dict(Counter(each.truth for each in judged if each.truth is not None))
        measured.alone = sum(
            each.truth is None and each.witnessed is not None and each.lost is None for each in judged
        )
        measured.shared_numbers = sum(each.shared_numbers for each in judged)
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


def _streams(scoped: Scoped) -> Measured:
    """One unit a stream, by what its metric asks of it; those that it says nothing about are left out and counted."""
    of_one = _OF_STREAM[scoped.claim.metric]
    asked = scoped.claim.limit if scoped.claim.form == "quantile" else None
    measured = Measured()
    for each in scoped.facts:
        unit = of_one(scoped, each, asked)
        if unit is None:
            measured.excluded += 1
        else:
            measured.units.append(unit)
    measured.units += _never_ended(scoped)
    measured.streams = len(measured.units)
    return measured


def _success(_scoped: Scoped, each: Facts, _asked: Limit | None) -> Unit:
    if each.outcome == "unfinished":
        return _open(each.record)
    return _certain(each.record, good=each.good, reason=each.outcome)


def _complete(_scoped: Scoped, each: Facts, _asked: Limit | None) -> Unit | None:
    """Whether the stream came to its end; what was lost or ill-formed on the way is asked by others."""
    record = each.record
    if each.outcome == "unfinished":
        return _open(record)
    if record.kind == "subscription" and record.end == "stopped":
        return None  # an open subscription has no end to come to
    if record.end == "terminal":
        return _certain(record, good=True)
    if not each.good and each.outcome != "damaged":
        return _certain(record, good=False, reason=each.outcome)
    # It ended well without a marker: that is the whole answer only if a missing end would have shown.
    return _certain(record, good=True) if each.truncation_known else _open(record, cause="truth")


def _errors(scoped: Scoped, each: Facts, _asked: Limit | None) -> Unit:
    kind = scoped.claim.of
    if each.outcome == "unfinished":
        return _open(each.record)
    if kind is None:
        return _certain(each.record, good=each.good, reason=each.outcome)
    bad = kind == each.outcome or (not each.good and kind == each.record.end)
    return _certain(each.record, good=not bad, reason=kind)


def _goodput(scoped: Scoped, each: Facts, _asked: Limit | None) -> Unit | None:
    """Success, and every limit kept; the first that is not names the reason.

    A limit that the stream has nothing to be measured by is not kept: unless it breaks another one, nothing is known of it.
    """
    record = each.record
    unit = _success(scoped, each, None)
    unmeasured = False
    for asked in scoped.claim.limits if unit.best else ():
        kept = _OF_STREAM[asked.metric](scoped, each, asked)
        if kept is None:
            unmeasured |= asked.metric not in _KEPT_BY_NONE
        elif not kept.best:
            return _certain(record, good=False, reason=f"beyond {asked.text}")
        elif unit.cause is None and not kept.worst:
            unit = structs.replace(kept, value=None, value_ns=None, reason=f"beyond {asked.text}")
    return None if unmeasured and each.outcome != "unfinished" else unit


_KEPT_BY_NONE: Final = frozenset({"heartbeat"})
"""Limits that a stream keeps of which their metric says nothing: where no silence was as long, no heartbeat was due."""


def _ttft(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit:
    record = each.record
    start = record.sent if record.intended is None else record.intended
    return _arrival(scoped, asked, record, start, record.first_token)


def _ttft_plan(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit | None:
    record = each.record
    if record.intended is None:
        return None
    return _arrival(scoped, asked, record, record.intended, record.first_token)


def _ttft_send(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit:
    return _arrival(scoped, asked, each.record, each.record.sent, each.record.first_token)


def _ttft_streams(scoped: Scoped) -> Measured:
    measured = _streams(scoped)
    planned = scoped.claim.metric != "ttft-send" and any(
        each.record.intended is not None for each in scoped.facts
    )
    measured.reading = "from plan" if planned else "from send"
    if planned:
        measured.beside_ns = [_nominal(each.record.sent, each.record.first_token) for each in scoped.facts]
    return measured


def _e2e(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit | None:
    record = each.record
    if each.outcome == "held":
        return None  # an open subscription has no end to be timed
    return _arrival(
        scoped, asked, record, record.sent, record.last_event if each.good else None, outcome=each.outcome
    )


def _e2e_streams(scoped: Scoped) -> Measured:
    measured = _streams(scoped)
    measured.reading = "from send"
    return measured


def _token_rate(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit | None:
    """Tokens after the first one, by the time until the last one; of an open subscription until its end."""
    assert asked is not None
    record = each.record
    if each.outcome == "unfinished":
        return _open(record)
    if not each.good and each.outcome != "damaged":
        return _valued(_certain(record, good=False, reason=each.outcome), 0.0)
    last = record.ended if each.outcome == "held" else record.last_token
    if record.tokens < 2 or record.first_token is None or last is None:
        return None  # a single token has no rate
    low, high = scoped.between(record.worker, record.first_token, last)
    nominal = max(last.ns - record.first_token.ns, 1)
    tokens = (record.tokens - 1) * _NS_PER_S
    return _between(record, asked, tokens / nominal, best=tokens / max(low, 1), worst=tokens / max(high, 1))


def _stale(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit:
    """How much of its time the stream's newest event was too old."""
    assert asked is not None
    record = each.record
    if each.outcome == "unfinished":
        return _open(record)
    if record.first_token is None:
        return _valued(_certain(record, good=False, reason=each.outcome), 1.0)
    if record.stale_ns is None:
        return _too_late_to_see(record)  # when a long silence ended
    low, high = scoped.between(record.worker, record.first_token, record.ended)
    nominal = max(record.ended.ns - record.first_token.ns, 1)
    least, most = scoped.bent_in(record, record.stale_ns, record.stale_ns)
    parts = ((record.stale_ns, nominal), (least, high), (most, low))
    ends = [min(1.0, stale / max(length, 1)) for stale, length in parts]
    return _between(record, asked, ends[0], best=ends[1], worst=ends[2])


def _attempts(_scoped: Scoped, each: Facts, asked: Limit | None) -> Unit:
    assert asked is not None
    record = each.record
    made = max(record.attempts_total, len(record.attempts))
    if each.outcome == "unfinished" and asked.keeps(made):
        return _open(record)
    return _between(record, asked, made, best=made, worst=made)


def _heartbeat(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit | None:
    """The longest silence before a heartbeat, or that had none; where neither was, whether one was due."""
    assert asked is not None
    record = each.record
    beats = record.heartbeat_gaps
    if not asked.within(_longest_without_heartbeat(scoped, record)):
        return _certain(record, good=False, reason="without a heartbeat")
    if beats is None or not beats.count:
        return _open(record) if each.outcome == "unfinished" else None
    bracket = scoped.bent_in(record, beats.longest_lo_ns, beats.longest_hi_ns)
    unit = _latency(asked, bracket, beats.longest_hi_ns, record)
    # Unfinished, it could still have been silent for longer.
    return _open(record) if each.outcome == "unfinished" and unit.best else unit


def _longest_without_heartbeat(scoped: Scoped, record: StreamRecord) -> int:
    """The least that the longest silence lasted in which no heartbeat came; 0 where the row does not tell.

    Heartbeats leave no instants. But the silences that they ended follow one another, so what is left of a time between two
    signs of life when all of them are taken from it had none: in one piece after an event, in two at most before any.
    """
    beats_ns = 0 if record.heartbeat_gaps is None else record.heartbeat_gaps.sum_ns
    gap_ns = 0 if record.gaps is None else record.gaps.longest_lo_ns
    longest = scoped.bent_in(record, gap_ns - beats_ns, gap_ns)[0]
    for attempt in record.attempts:
        since = attempt.last_event or attempt.headers
        if since is not None:
            silence = scoped.between(record.worker, since, attempt.ended)[0] - beats_ns
            pieces = 2 if attempt.last_event is None and record.heartbeats else 1
            longest = max(longest, silence // pieces)
    return longest


def _longest(of: Callable[[StreamRecord], Gaps | None]) -> "_OfStream":
    """The longest of a stream's own intervals, for goodput."""

    def longest(scoped: Scoped, each: Facts, asked: Limit | None) -> Unit | None:
        assert asked is not None
        gaps = of(each.record)
        if asked.metric == "gap" and _ended_in_silence(scoped, each.record, asked):
            return _certain(each.record, good=False)
        if gaps is None or not gaps.count:
            return None
        bracket = scoped.bent_in(each.record, gaps.longest_lo_ns, gaps.longest_hi_ns)
        return _latency(asked, bracket, gaps.longest_hi_ns, each.record)

    return longest


def _arrival(
    scoped: Scoped,
    asked: Limit | None,
    record: StreamRecord,
    start: Instant | None,
    end: Instant | None,
    *,
    outcome: Outcome | None = None,
) -> Unit:
    """One stream's time from `start` to something that should have come."""
    assert asked is not None
    if start is not None and end is not None:
        bracket = scoped.between(record.worker, start, end, record.proxy_queue_ns)
        return _latency(asked, bracket, end.ns - start.ns, record)
    never = _certain(record, good=False, reason=outcome or record.outcome)
    if record.end != "stopped" and record.outcome != "unfinished":
        return never
    if start is not None:  # ended by us, perhaps when it was too late already
        waited = scoped.between(record.worker, start, record.ended, record.proxy_queue_ns)
        if not asked.within(waited[0]):
            return never
    return _open(record)


def _gap(scoped: Scoped) -> Measured:
    last = _edge_index(scoped)
    if last is None:
        return Measured(gap_edge_missing=True)
    counts = [0] * (len(scoped.history.plan.gap_edges_ns) + 1)
    measured = Measured(gap_counts=counts)
    most = max((each.record.gaps.count for each in scoped.facts if each.record.gaps is not None), default=0)
    for each in scoped.facts:
        record = each.record
        gaps = record.gaps
        if gaps is not None and gaps.count:
            _count(measured, gaps)
            measured.units.append(_gap_unit(scoped, record, gaps, last))
        if _ended_in_silence(scoped, record, scoped.claim.limit):
            measured.units.append(_certain(record, good=False))
            silence = _silence(scoped, record, record.attempts[-1]) or 0
            measured.longest_gap_ns = max(measured.longest_gap_ns, silence)
            counts[-1] += 1
        if record.outcome == "unfinished":
            missing = max(most - (gaps.count if gaps is not None else 0), 1)
            measured.units.append(_open(record, n=missing))
    measured.units += _never_ended(scoped, n=max(most, 1))
    return measured


def _edge_index(scoped: Scoped) -> int | None:
    """Which of the plan's edges is the claim's limit; None when the run did not count against it."""
    edges = scoped.history.plan.gap_edges_ns
    edge = scoped.claim.edge_ns
    last = bisect_left(edges, edge)
    return last if last < len(edges) and edges[last] == edge else None


def _count(measured: Measured, gaps: Gaps) -> None:
    """Adds one stream's intervals to those of all."""
    measured.streams += 1
    measured.longest_gap_ns = max(measured.longest_gap_ns, gaps.longest_hi_ns)
    for bucket, count in enumerate(gaps.hi):
        measured.gap_counts[bucket] += count


def _age(scoped: Scoped) -> Measured:
    return _events(scoped, lambda each: each.record.ages, lambda each: each.lost or 0)


def _fanout(scoped: Scoped) -> Measured:
    measured = _events(scoped, lambda each: each.record.behind, lambda _: 0)
    measured.witnessing_workers = len(
        {each.record.worker for each in scoped.every if each.record.topic is not None}
    )
    return measured


def _events(scoped: Scoped, of: Callable[[Facts], Gaps | None], lost: Callable[[Facts], int]) -> Measured:
    """The events of all streams, by how late each came; lost ones never did."""
    last = _edge_index(scoped)
    if last is None:
        return Measured(gap_edge_missing=True)
    measured = Measured(gap_counts=[0] * (len(scoped.history.plan.gap_edges_ns) + 1))
    found = [(each, gaps) for each in scoped.facts if (gaps := of(each)) is not None and gaps.count]
    most = max((gaps.count for _, gaps in found), default=0)
    for each, gaps in found:
        record = each.record
        _count(measured, gaps)
        within = sum(gaps.hi[: last + 1]), sum(gaps.lo[: last + 1])
        measured.units.append(_intervals(scoped, record, gaps, *within))
        if missing := lost(each):
            measured.gap_counts[-1] += missing
            measured.never += missing
            measured.units.append(
                Unit(n=missing, worst=0, best=0, reason="lost", stream=record.stream, group=record.group)
            )
    if found:
        for each in scoped.facts:
            if each.record.outcome == "unfinished":
                own = of(each)
                measured.units.append(_open(each.record, n=max(most - (own.count if own else 0), 1)))
        measured.units += _never_ended(scoped, n=max(most, 1))
    return measured


def _gap_unit(scoped: Scoped, record: StreamRecord, gaps: Gaps, last: int) -> Unit:
    # A silence that our idle time-out ended is on record with its least length; the event never came.
    never = sum(
        1
        for attempt in record.attempts
        if attempt.end == "idle-timeout" and scoped.claim.within(_silence(scoped, record, attempt))
    )
    return _intervals(scoped, record, gaps, sum(gaps.hi[: last + 1]), sum(gaps.lo[: last + 1]) - never)


def _intervals(scoped: Scoped, record: StreamRecord, gaps: Gaps, worst: int, best: int) -> Unit:
    """One stream's intervals, of which so many are good at either end of the brackets."""
    if record.first_event is not None and record.last_event is not None:
        # One interval of the stream holds the step, and nobody knows which.
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


def _silence(scoped: Scoped, record: StreamRecord, attempt: Attempt) -> int | None:
    """The least that the silence at the end of an attempt lasted; None when no event had come."""
    last = attempt.last_event
    return None if last is None else scoped.between(record.worker, last, attempt.ended)[0]


def _ended_in_silence(scoped: Scoped, record: StreamRecord, asked: Limit) -> bool:
    """Whether the stream was silent for longer than the limit when we or the total time-out ended it."""
    last = record.attempts[-1] if record.attempts else None
    if last is None or last.end not in {"stopped", "total-timeout"}:
        return False
    silence = _silence(scoped, record, last)
    return silence is not None and not asked.within(silence)


def _reconnect(scoped: Scoped) -> Measured:
    records = {each.record.stream: each.record for each in scoped.every}
    down = [window for window in fault_windows(scoped.history.faults) if window.kind in LINK_DOWN]
    units = []
    for row in scoped.breaks:
        start = _outage_end(scoped, row, down)
        if row.first_new is not None:
            units.append(_back(scoped, scoped.claim.limit, row, (start, row.first_new), down))
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


def _connected(scoped: Scoped) -> Measured:
    """Breaks by whether an answer had begun again in time; what came of it is asked by others."""
    records = {each.record.stream: each.record for each in scoped.every}
    down = [window for window in fault_windows(scoped.history.faults) if window.kind in LINK_DOWN]
    asked = Limit(metric="reconnect", op="<=", value=float(scoped.claim.within_ns or 0))
    units = []
    for row in scoped.breaks:
        start = _outage_end(scoped, row, down)
        record = records.get(row.stream)
        begun = None if record is None else _begun_again(record, row)
        if begun is not None:
            unit = _back(scoped, asked, row, (start, begun), down)
            unit.reason = unit.reason and "too late"
            units.append(unit)
        elif record is None:
            units.append(_open(row))
        elif record.attempts_total > len(record.attempts):
            units.append(_too_late_to_see(row))
        elif record.end != "stopped" and record.outcome != "unfinished":
            units.append(_certain(row, good=False, reason=_given_up(row)))
        elif not asked.within(scoped.between(row.worker, start, record.ended)[0]):
            units.append(_certain(row, good=False, reason="too late"))
        else:
            units.append(_open(row))
    return _with_missing_breaks(scoped, units)


def _begun_again(record: StreamRecord, row: BreakRow) -> Instant | None:
    """When the first answer after the break had begun: the head of an event stream had come."""
    return next(
        (
            attempt.headers
            for attempt in record.attempts
            if attempt.number > row.attempt and attempt.headers is not None and attempt.end not in _NO_ANSWER
        ),
        None,
    )


_NO_ANSWER: Final = frozenset({"status", "content-type", "no-content", "protocol"})


def _retries(scoped: Scoped) -> Measured:
    asked = scoped.claim.limit
    over = {each.record.stream for each in scoped.every if each.outcome != "unfinished"}
    units = [
        _open(row)
        if row.stream not in over and asked.keeps(row.attempts)
        else _between(row, asked, row.attempts, best=row.attempts, worst=row.attempts)
        for row in scoped.breaks
    ]
    return _with_missing_breaks(scoped, units)


def _reconnect_rate(scoped: Scoped) -> Measured:
    """Every attempt but a stream's first, by how many began in the second that ends with it."""
    found = sorted(
        (
            (attempt.started, each.record)
            for each in scoped.facts
            for attempt in each.record.attempts
            if attempt.number > 1
        ),
        key=lambda pair: pair[0].ns,
    )
    capped = [each.record for each in scoped.facts if each.record.attempts_total > len(each.record.attempts)]
    starts = [started.ns for started, _ in found]
    slack = max((started.before_ns + started.after_ns for started, _ in found), default=0)
    asked = scoped.claim.value
    units = []
    for place, (started, record) in enumerate(found):
        at_once = [
            place + 1 - bisect_right(starts, started.ns - length)
            for length in (_NS_PER_S, max(_NS_PER_S - slack, 1), _NS_PER_S + slack)
        ]
        good = [count <= asked if scoped.claim.inclusive else count < asked for count in at_once]
        units.append(
            Unit(
                worst=int(good[2]),
                best=int(good[1]),
                cause=None if good[1] == good[2] else "rig",
                reason="" if good[2] else "at once",
                value=float(at_once[0]),
                width_ns=2 * slack,
                stream=record.stream,
                group=record.group,
            )
        )
    units += [_too_late_to_see(record) for record in capped]
    measured = Measured(units=units, streams=len({unit.stream for unit in units}))
    measured.peak = max((int(unit.value or 0) for unit in units), default=None)
    if found:
        measured.units += _never_ended(scoped)
    return measured


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


def _back(
    scoped: Scoped, asked: Limit, row: BreakRow, during: tuple[Instant, Instant], down: Sequence[FaultWindow]
) -> Unit:
    """One reconnection. Where the link went down once more in between it took no less than from the last healing."""
    start, back = during
    low, high = scoped.between(row.worker, start, back, row.proxy_queue_ns)
    latest = scoped.history.clocks.across(row.worker, row.seen, back)
    healed = [
        window.healed_ns
        for window in down
        if window.healed_ns is not None
        and window.covers(row.group, row.variant, latest.hi_ns)
        and start.hi_ns < window.healed_ns <= latest.hi_ns
    ]
    if healed:
        low = min(low, max(latest.lo_ns - max(healed) - (row.proxy_queue_ns or 0), 0))
    unit = _latency(asked, (low, high), max(back.ns - start.ns, 0), row)
    unit.down_again = bool(healed)
    return unit


def _with_missing_breaks(scoped: Scoped, units: list[Unit]) -> Measured:
    """Adds the breaks of which no row was left: of streams without an end, and torn rows.

    After a fault, too: a row that is gone does not say when its break was, and may have been one that the claim is about.
    """
    rows = Counter(row.stream for row in scoped.every_break)
    streams = len({row.stream for row in scoped.breaks})
    for each in scoped.facts:
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


def _latency(asked: Limit, bracket: Bracket, nominal_ns: int, of: _Of) -> Unit:
    best, worst = asked.within(bracket[0]), asked.within(bracket[1])
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


def _between(of: _Of, asked: Limit, nominal: float, *, best: float, worst: float) -> Unit:
    """A value with its two ends against a limit."""
    kept, kept_at_worst = asked.keeps(best), asked.keeps(worst)
    return Unit(
        worst=int(kept_at_worst),
        best=int(kept),
        cause=None if kept == kept_at_worst else "rig",
        reason="" if kept_at_worst else "late",
        value=float(nominal),
        stream=of.stream,
        group=of.group,
    )


def _too_late_to_see(of: _Of) -> Unit:
    """Open for a reason of ours: how it was is not on record."""
    return Unit(worst=0, best=1, cause="rig", reason="late", stream=of.stream, group=of.group)


def _valued(unit: Unit, value: float) -> Unit:
    unit.value = value
    return unit


def _certain(of: _Of, *, good: bool, reason: str = "") -> Unit:
    return Unit(
        worst=int(good), best=int(good), reason="" if good else reason, stream=of.stream, group=of.group
    )


def _open(of: _Of, n: int = 1, cause: Cause = "unfinished") -> Unit:
    return Unit(n=n, worst=0, best=n, cause=cause, reason=cause, stream=of.stream, group=of.group)


_OfStream = Callable[[Scoped, Facts, Limit | None], Unit | None]
_OF_STREAM: Final[dict[str, _OfStream]] = {
    "success": _success,
    "complete": _complete,
    "errors": _errors,
    "goodput": _goodput,
    "ttft": _ttft,
    "ttft-plan": _ttft_plan,
    "ttft-send": _ttft_send,
    "e2e": _e2e,
    "token-rate": _token_rate,
    "stale": _stale,
    "attempts": _attempts,
    "heartbeat": _heartbeat,
    "gap": _longest(lambda record: record.gaps),
    "age": _longest(lambda record: record.ages),
}
"""What a metric makes of one stream; None where it says nothing about it."""
assert {metric.name for metric in METRICS.values() if metric.of_stream} <= _OF_STREAM.keys()

_MEASURES: Final[dict[str, Callable[[Scoped], Measured]]] = {
    "success": _streams,
    "complete": _streams,
    "errors": _streams,
    "goodput": _streams,
    "ttft": _ttft_streams,
    "ttft-plan": _ttft_streams,
    "ttft-send": _ttft_streams,
    "e2e": _e2e_streams,
    "token-rate": _streams,
    "stale": _streams,
    "attempts": _streams,
    "heartbeat": _streams,
    "gap": _gap,
    "age": _age,
    "fanout": _fanout,
    "reconnect": _reconnect,
    "connected": _connected,
    "retries": _retries,
    "reconnect-rate": _reconnect_rate,
    "recovery": _recovery,
    "lost": _lost,
    "doubled": _doubled,
    "utf8": _utf8,
}
