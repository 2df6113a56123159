"""Which phase of a run each stream counts in, by when the faults really acted; pure.

Rules (measurement.md 7: steady state before is the precondition, steady state after is the recovery):
- A stream counts in the planned phase that its start lies in: the planned one in an open loop, else the real one.
- Planned times are not when faults acted: a call is made when it is made, and healing takes calls too. So next to a phase
  without faults a phase with faults lasts from when the first of its calls was sent until the last that healed was
  answered, and takes in every stream that was open in that time. `baseline` then holds only streams that were over before
  the first fault, and `recovery` only those that began after the last was healed; who lived in two phases met the fault.
- A fault whose healing is not on record lasts for good: nothing shows that anybody recovered from it.
- A phase whose first fault begins later than itself keeps its own begin: what a scenario names is not moved.
- Where a bracket leaves open on which side of a border a stream lies, it met the fault.
- A start without an end may have met whatever came after it, and counts in each phase that it can have been in; one of
  which no worker says when it was, in all of them, and one that a stopped run never came to, in its own and later ones.
- A stream that begins after the run was aborted counts in no phase: what was planned for then did not happen.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from sseproof.chaos.plan import FaultPlan
from sseproof.reports import statistics
from sseproof.reports.clocks import Clocks, began
from sseproof.rundir.rows import FaultRow, Instant, PhasePlan, Plan, StartRow, StreamRecord

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
FOR_GOOD_NS: Final = 1 << 63
_FEWEST: Final = 1 - 1e-9
"""Expected values beyond a quantile, below which so few values have none."""


class PhaseResult(Struct, kw_only=True, forbid_unknown_fields=True):
    """The streams of one phase in one variant; without the warm-up."""

    name: str
    start_ms: Count
    """As planned, from the begin of load."""
    end_ms: Count | None
    """None is the end of the load."""
    faults: bool
    """Whether faults act in it by the timetable; those that stand the whole run are not meant."""
    n: Count = 0
    """Streams that ended."""
    k: Count = 0
    """Those that ended well."""
    unfinished: Count = 0
    """Without an end, and possibly of this phase."""
    ttft_p50_ns: int | None = None
    """From the planned start in an open loop, else from sending; None where it never came, or so few streams have no median."""
    ttft_p95_ns: int | None = None


class Phases:
    """The phases of one run."""

    def __init__(
        self,
        phases: Sequence[PhasePlan] = (),
        plan: FaultPlan | None = None,
        faults: Sequence[FaultRow] = (),
        clocks: Clocks | None = None,
        aborted_ns: int | None = None,
    ) -> None:
        """`plan` and `faults` are what was to be broken, and what was; `aborted_ns` when the run gave up."""
        self.planned = list(phases)
        self._index = {phase.name: index for index, phase in enumerate(self.planned)}
        self._clocks = clocks or Clocks()
        self._aborted_ns = aborted_ns
        self._begins: list[int | None] = [None] * len(self.planned)
        """When the first call that breaks something in a phase was sent, where a window of its own has begun."""
        self._heals: list[int | None] = [None] * len(self.planned)
        """When the last call that heals something in it was answered."""
        self._moves_begin = [False] * len(self.planned)
        if plan is not None:
            for index, phase in enumerate(self.planned):
                self._bound(index, phase, plan, faults)

    def _bound(self, index: int, phase: PhasePlan, plan: FaultPlan, faults: Sequence[FaultRow]) -> None:
        """What was really done in one phase."""
        begun = {(w.group, w.number): w for w in plan.windows if _begins_in(w.start_ms, phase)}
        ended = {
            (w.group, w.number)
            for w in plan.windows
            if w.start_ms + w.duration_ms > phase.start_ms
            and (phase.end_ms is None or w.start_ms + w.duration_ms <= phase.end_ms)
        }
        sent = [
            row.call_sent_ns for row in faults if row.step == "applied" and (row.group, row.window) in begun
        ]
        applied = {
            (row.variant, row.group, row.window)
            for row in faults
            if row.step == "applied" and row.ok is not False and (row.group, row.window) in ended
        }
        answered = {
            (row.variant, row.group, row.window): row.call_answered_ns
            for row in faults
            if row.step == "healed" and row.call_answered_ns is not None and (row.group, row.window) in ended
        }
        self._begins[index] = min((ns for ns in sent if ns is not None), default=None)
        whole = applied <= answered.keys()
        self._heals[index] = max(answered.values(), default=None) if whole else FOR_GOOD_NS
        self._moves_begin[index] = any(window.start_ms == phase.start_ms for window in begun.values())

    def of(self, record: StreamRecord) -> str | None:
        """The phase a finished stream counts in; None where it counts in none."""
        index = self._index.get(record.phase or "")
        if index is None:
            return record.phase
        if self._is_after_abort(record):
            return None
        return self.planned[self._met(index, *self._span(record))].name

    def may_be(self, start: StartRow) -> frozenset[str]:
        """The phases that a start without an end can have been in."""
        index = self._index.get(start.phase or "")
        if index is None:
            return frozenset(self._index)
        if start.dropped:
            return frozenset({self.planned[index].name})
        if self._is_after_abort(start):
            return frozenset()
        first = start.intended or start.dispatched
        if first is None:
            return frozenset(phase.name for phase in self.planned[index:])
        earliest = self._across(start, first).lo_ns
        at = self._met(index, earliest, earliest)
        found = [at]
        if not self.planned[at].groups:
            found += [each for each in range(at + 1, len(self.planned)) if self._begins[each] is not None]
        return frozenset(self.planned[each].name for each in found)

    def was_over(self, name: str, starts: Iterable[StreamRecord | StartRow], at_ns: int) -> bool:
        """Whether a phase had come to its end at an instant: streams of a later one had begun."""
        index = self._index.get(name, len(self.planned))
        return any(
            row.dispatched is not None
            and row.dispatched.ns < at_ns
            and self._index.get(row.phase or "", -1) > index
            for row in starts
        )

    def _met(self, index: int, earliest_ns: int, latest_ns: int) -> int:
        """The phase of a stream that was open for so long, by the planned one of its start."""
        phase = self.planned[index]
        before = self.planned[index - 1] if index else None
        if phase.groups:
            begins = self._begins[index]
            quiet_yet = begins is not None and self._moves_begin[index] and latest_ns < begins
            return index - 1 if quiet_yet and before is not None and not before.groups else index
        if before is not None and before.groups:
            healed = self._heals[index - 1]
            if healed is not None and earliest_ns <= healed:
                return index - 1
        for later in range(index + 1, len(self.planned)):
            begins = self._begins[later]
            if begins is not None and latest_ns >= begins:
                return later
        return index

    def _span(self, record: StreamRecord) -> tuple[int, int]:
        """The earliest it can have begun and the latest it can have ended, by the injector's clock."""
        first = record.intended or record.dispatched
        return self._across(record, first).lo_ns, self._across(record, record.ended).hi_ns

    def _across(self, row: StreamRecord | StartRow, instant: Instant) -> Instant:
        return self._clocks.across(row.worker, began(row), instant)

    def _is_after_abort(self, row: StreamRecord | StartRow) -> bool:
        return (
            self._aborted_ns is not None
            and row.dispatched is not None
            and self._across(row, row.dispatched).hi_ns >= self._aborted_ns
        )


def phases_of(
    plan: Plan, faults: Sequence[FaultRow], clocks: Clocks, aborted_ns: int | None = None
) -> Phases:
    """The phases of a recorded run. Raises msgspec.DecodeError where its fault plan can't be read."""
    decoded = msgspec.json.decode(plan.faults, type=FaultPlan | None)
    return Phases(plan.phases, decoded, faults, clocks, aborted_ns)


def has_quantile(n: int, q: float) -> bool:
    """Whether so many values have one: at least one of them is expected beyond it."""
    return n * (1 - q) >= _FEWEST


def ttft_quantile(values: Sequence[int | None], q: float) -> int | None:
    """The observed quantile, what never came as +infinity; None for that, and where so few values have none."""
    return quantile_ns(values, q) if has_quantile(len(values), q) else None


def quantile_ns(values: Sequence[int | None], q: float) -> int | None:
    """The observed quantile, None for +infinity. Raises ValueError without a value."""
    ranked = sorted(float("inf") if value is None else value for value in values)
    value = ranked[statistics.quantile_rank(len(ranked), q) - 1]
    return None if value == float("inf") else int(value)


def _begins_in(start_ms: int, phase: PhasePlan) -> bool:
    return start_ms >= phase.start_ms and (phase.end_ms is None or start_ms < phase.end_ms)
