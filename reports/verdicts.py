"""Verdicts: what the counted units say about a claim, exactly, with the reason and what would decide.

Rules (design.md decisions 4, 6, 10; measurement.md 3.2):
- Units are counted twice, at the unfavourable and at the favourable end of everything that is not certain. A claim passes
  if it would at the unfavourable end, and fails if it would at the favourable one; between the two it is unknown.
- Shares and quantiles are held against one-sided exact bounds. `= 100 %` and `= 0`: one violation fails, none in enough
  units passes, and the words say what that shows at most.
- Nothing counted is never a pass. A check of ours that raises is unknown, never green.
- Every unknown has a code and says what would decide it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, structs

from sseproof.reports import statistics
from sseproof.reports.advice import Effort, further, repeat_text, with_effort
from sseproof.reports.checks import (
    NEEDS_TRUTH,
    SETTLED,
    Cause,
    CheckFailedError,
    Measured,
    Scoped,
    Unit,
    fault_evidence,
    measure,
)
from sseproof.reports.claims import Claim, Form
from sseproof.reports.episodes import Episodes, FaultSplit, splits_of
from sseproof.reports.evidence import Evidence, evidence_of, planned_faults
from sseproof.reports.facts import KNOWLEDGE, Facts, History, Knowledge, Truth
from sseproof.reports.metrics import METRICS, ValueKind
from sseproof.reports.metrics import Unit as UnitName
from sseproof.reports.words import (
    count_of,
    digits,
    duration_text,
    joined,
    least_text,
    most_text,
    plural,
    share_text,
)
from sseproof.rundir.text import printable

Answer = Literal["pass", "fail", "unknown"]
Code = Literal[
    "too-few",
    "rig-late",
    "fault-not-seen",
    "no-truth",
    "not-measured",
    "injector-failed",
    "interrupted",
    "checker-failed",
]

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

_CAUSES: Final[tuple[Cause, ...]] = ("truth", "rig", "unfinished", "dropped")
_MOST_EXAMPLES: Final = 3
_MOST_REASONS: Final = 4
"""A sentence names the commonest reasons; verdict.json holds all."""

_NOUNS: Final[dict[str, str]] = {
    "ttft": "first token",
    "ttft-plan": "first token",
    "ttft-send": "first token",
    "reconnect": "reconnection",
    "reconnect-rate": "reconnection",
}
"""What a sentence calls the units where that is not their name."""

_WELL: Final = {
    "success": ("ended well", "failed"),
    "complete": ("came to their end", "did not come to their end"),
    "goodput": ("succeeded within all limits", "did not succeed within all limits"),
    "errors": ("had no such error", "ended so"),
    "recovery": ("were recovered", "were not recovered"),
    "connected": ("were connected again in time", "were not connected again in time"),
    "utf8": ("are intact", "are not intact"),
}
"""What good and bad units of a share did."""

_SLOW: Final = {
    "token-rate": ("had {} or more", "had less than {}"),
    "stale": ("were stale for at most {} of their time", "were stale for more than {} of their time"),
    "attempts": ("took at most {}", "took more than {}"),
    "retries": ("took at most {}", "took more than {}"),
    "gap": ("were within {}", "were longer than {}"),
    "age": ("were at most {} old", "were older than {}"),
    "fanout": ("were at most {} behind", "were more than {} behind"),
    "heartbeat": ("were silent for at most {}", "were silent for longer than {} without a heartbeat"),
}
"""What good and bad units of a quantile were; others took longer than the limit."""
_ONE: Final = {"were ": "was ", "are ": "is ", "their ": "its "}


class Quantile(Struct, kw_only=True, forbid_unknown_fields=True):
    """An observed quantile with the interval of its order statistics."""

    q: float
    value_ns: int | None
    """None is +infinity: that many never came."""
    at_most: bool = False
    """The value is the upper edge of a histogram's bucket."""
    low_ns: int | None = None
    high_ns: int | None = None
    """Ends of the interval, as observed; a None beside `interval` true is +infinity."""
    interval: bool = False
    """False when n is too small for an interval to exist."""


class Figure(Struct, kw_only=True, forbid_unknown_fields=True):
    """An observed value that is no duration, with the interval of its order statistics."""

    unit: Literal["per-second", "share", "number"]
    value: float
    q: float | None = None
    """None is the highest of all."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval, as observed; None when n is too small for one."""


class LookResult(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which of the registered looks gave the verdict (`--until-decided`)."""

    number: Count
    of: Count
    streams: Count
    """Streams of the variant that it counts."""
    confidence: Share


class GroupSplit(Struct, kw_only=True, forbid_unknown_fields=True):
    """The same count for the streams behind one proxy."""

    group: str
    n: Count
    k: Count
    unfinished: Count = 0


class Verdict(Struct, kw_only=True, forbid_unknown_fields=True):
    """The answer to one claim in one variant."""

    claim: str
    """Normalised."""
    metric: str
    form: Form | None
    variant: str | None = None
    counts: bool = True
    """Whether it sets the exit code: not so for the variants that are only shown beside the judged one."""
    verdict: Answer
    code: Code | None = None
    """Why it is unknown; None for pass and fail."""
    unit: UnitName = "stream"
    planned_n: Count | None = None
    """Units that the plan fixed before the run; None where they come as they come."""
    n: Count = 0
    """Units that ended, with a known truth where the claim needs one."""
    k: Count = 0
    """Good ones among them at the unfavourable end of every bracket."""
    k_best: Count = 0
    """Good ones at the favourable end."""
    unfinished: Count = 0
    """Units that we ended, or that have no end on record."""
    dropped: Count = 0
    """Streams that we never dispatched."""
    untold: Count = 0
    """Units whose truth is not known."""
    excluded: Count = 0
    """Streams in which nothing came that the claim is about."""
    streams: Count = 0
    """Streams behind the units: the gaps of one stream are not independent."""
    p0: Share = 1.0
    """The share of good units that had to be shown."""
    confidence: Share = 0.95
    observed: Share | None = None
    """k of n as a share."""
    lower: Share | None = None
    """The exact one-sided bound at the unfavourable end, unfinished units included."""
    upper: Share | None = None
    """The exact one-sided bound at the favourable end, unfinished units included."""
    wilson: tuple[Share, Share] | None = None
    """Two-sided score interval of k of n, for display."""
    limit_ns: int | None = None
    quantile: Quantile | None = None
    figure: Figure | None = None
    """The observed rate, portion or number, where that is claimed."""
    beside: Quantile | None = None
    """TTFT from send, where it is judged from plan."""
    amount: Count | None = None
    """Events lost or doubled in all streams."""
    reading: str = ""
    """`from plan` or `from send`: where a latency starts."""
    knows: list[Knowledge] = []
    """What every stream could have shown."""
    blind: list[Knowledge] = []
    """What some or all streams could not have shown."""
    truths: dict[Truth, Count] = {}
    """Who tells what was lost, and in how many streams: the server's witness, other subscribers, the numbers alone."""
    reasons: dict[str, Count] = {}
    """Why the bad units are bad, most frequent first."""
    examples: list[Count] = []
    """Numbers of the first streams with a bad unit."""
    groups: list[GroupSplit] = []
    faults: list[FaultSplit] = []
    """Breaks by the class of fault that made them."""
    episodes: Episodes | None = None
    """The times at which faults hit several units at once; None where no unit met one."""
    look: LookResult | None = None
    """None in a run that is judged once, when it is over."""
    sentence: str = ""
    next: str = ""
    """What would decide; empty for pass."""
    next_run: Effort | None = None
    """What the run that `next` asks for takes; None where it asks for none, or where nothing shows it."""


class _Tally(Struct, kw_only=True):
    """Units summed up."""

    n: int = 0
    worst: int = 0
    best: int = 0
    open: dict[Cause, int] = {}

    @property
    def total(self) -> int:
        return self.n + self.missing

    @property
    def missing(self) -> int:
        return sum(self.open.values())

    @property
    def most_good(self) -> int:
        return self.best + self.missing


def judge_claim(claim: Claim, history: History, facts: Sequence[Facts]) -> list[Verdict]:
    """The verdicts on a claim: one, or one for each variant when it names none in a run with several.

    Never raises: a check that fails makes its verdict unknown.
    """
    variants = history.plan.variants
    names = [variant.name for variant in variants] or [None]
    if claim.scope.variant is not None:
        return [_guarded(claim, claim.scope.variant, history, facts, counts=True)]
    counting = {variant.name for variant in variants if variant.judged} or {names[-1]}
    return [_guarded(claim, name, history, facts, counts=name in counting) for name in names]


def _guarded(
    claim: Claim, variant: str | None, history: History, facts: Sequence[Facts], *, counts: bool
) -> Verdict:
    verdict = Verdict(
        claim=claim.text,
        metric=claim.metric,
        form=claim.form,
        variant=variant,
        counts=counts,
        verdict="unknown",
        unit=claim.unit,
        p0=claim.required_share(),
        confidence=claim.confidence,
        limit_ns=claim.limit_ns if claim.form == "quantile" and claim.value_kind == "duration" else None,
    )
    try:
        _judge(claim, variant, history, facts, verdict)
        _heed_abort(claim, history, verdict)
    except CheckFailedError as error:
        _unchecked(verdict, str(error))
    except Exception as error:  # noqa: BLE001  # Jepsen's check-safe: a check that raises is unknown, not a crash
        _unchecked(verdict, type(error).__name__)
    return verdict


def _heed_abort(claim: Claim, history: History, verdict: Verdict) -> None:
    """What was planned for after an abort did not happen: nothing passes for it, and no number of units is too small for it.

    A fail stands, and so does what is claimed of a phase that was over by then.
    """
    if history.run is None and history.plan.abort is not None and verdict.verdict == "pass":
        verdict.verdict, verdict.code = "unknown", "not-measured"
        verdict.sentence = f"Without run.json nobody knows whether the run was aborted. {verdict.sentence}"
        verdict.next = _again(_KEEP, verdict, history)
        return
    aborted = None if history.run is None else history.run.aborted
    if aborted is None or verdict.verdict == "fail" or verdict.code not in _OF_SHORT_RUNS:
        return
    phase = claim.scope.phase
    if phase is not None and (
        history.phases.was_over(phase, history.streams, aborted.at_ns)
        or history.phases.was_over(phase, history.unfinished, aborted.at_ns)
    ):
        return
    verdict.verdict, verdict.code = "unknown", "interrupted"
    when = duration_text(aborted.load_ns)
    lead = f"The run was aborted at {when}, before all that was planned had happened."
    verdict.sentence = f"{lead} {verdict.sentence}".strip()
    verdict.next = _again("Find out what failed, then run again to its end.", verdict, history)


_OF_SHORT_RUNS: Final[frozenset[Code | None]] = frozenset(
    {None, "too-few", "not-measured", "fault-not-seen", "interrupted"}
)
"""Of a pass, and of an unknown that the rest of the run might have decided."""


def _unchecked(verdict: Verdict, what: str) -> None:
    verdict.verdict, verdict.code = "unknown", "checker-failed"
    verdict.sentence = f"The check itself failed: {what}."
    verdict.next = "This is a fault of sseproof: please report it with the run directory."


def unreadable_claim(text: str, why: str) -> Verdict:
    """The verdict on a claim of the plan that this version can't read."""
    verdict = Verdict(claim=text, metric="", form=None, verdict="unknown")
    _unchecked(verdict, f"the claim can't be read ({why})")
    return verdict


def _judge(
    claim: Claim, variant: str | None, history: History, facts: Sequence[Facts], verdict: Verdict
) -> None:
    if claim.scope.after is not None:
        evidence = fault_evidence(history.faults, claim.scope.after)
        if evidence.seen != "acted":
            if evidence.seen == "not-seen" and _not_on_record(verdict, claim, history):
                return
            verdict.code = "injector-failed" if evidence.seen == "failed" else "fault-not-seen"
            verdict.sentence = printable(evidence.sentence)
            verdict.next = _again(_FAULT_NEXT[evidence.seen], verdict, history)
            return
    unseen, acted = _unseen(claim, variant, history)
    scoped = Scoped(claim, variant, history, facts, without=[each.group for each in unseen])
    if unseen and not acted:
        if any(each.failed for each in unseen) or not _not_on_record(verdict, claim, history, unseen):
            _doubt(verdict, history, unseen)
        return
    measured = measure(scoped)
    tally = _tally(measured.units)
    _fill(verdict, claim, scoped, measured, tally)
    verdict.faults, verdict.episodes = splits_of(scoped, measured)
    _decide(verdict, claim, history, measured, tally)
    if unseen and verdict.verdict != "fail":
        _doubt(verdict, history, unseen)
    elif verdict.verdict == "pass" and (unborne := _unseen_in_phase(claim, variant, history)):
        _doubt(verdict, history, unborne)
    elif verdict.verdict == "fail":
        verdict.sentence = " ".join(
            filter(None, [verdict.sentence, _failed_before(claim, variant, history, facts)])
        )


def _failed_before(claim: Claim, variant: str | None, history: History, facts: Sequence[Facts]) -> str:
    """That the claim fails before any fault as well: steady state is the condition for blaming one (measurement.md 7)."""
    phases = history.phases.planned
    first = next((index for index, phase in enumerate(phases) if phase.groups), 0)
    if claim.scope.phase not in {phase.name for phase in phases[first:]} or not first:
        return ""
    before = phases[first - 1].name
    steady = structs.replace(claim, scope=structs.replace(claim.scope, phase=before))
    tally = _tally(measure(Scoped(steady, variant, history, facts)).units)
    if not tally.total or _answer(claim, tally.most_good, tally.total) != "fail":
        return ""
    return (
        f"So it does in phase {printable(before)}, before any fault ({tally.worst:,} of {tally.n:,} good): "
        "the fault need not be why."
    )


def _unseen(claim: Claim, variant: str | None, history: History) -> tuple[list[Evidence], bool]:
    """The faults that this claim speaks of (`after FAULT`, `in group G`) and that did not act; whether any other did."""
    after, group = claim.scope.after, claim.scope.group
    if after is None and group is None:
        return [], False
    meant = [
        each
        for each in evidence_of(history)
        if each.variant == variant and after in {None, each.kind, each.group} and group in {None, each.group}
    ]
    unseen = [each for each in meant if not each.acted]
    return unseen, len(unseen) < len(meant)


def _unseen_in_phase(claim: Claim, variant: str | None, history: History) -> list[Evidence]:
    """The faults that did not act in a claim's phase, or at all before it: nothing was to be borne, or recovered from."""
    scope = claim.scope
    if scope.phase is None or scope.after is not None:
        return []
    before: set[str] = set()
    at = None
    for phase in history.phases.planned:
        if phase.name == scope.phase:
            at = phase
            break
        before |= set(phase.groups)
    plan = planned_faults(history)
    if at is None or plan is None:
        return []
    times = {
        (window.group, window.number)
        for window in plan.windows
        if window.start_ms + window.duration_ms > at.start_ms
        and (at.end_ms is None or window.start_ms < at.end_ms)
    }
    found = [each for each in evidence_of(history) if each.group in before]
    found += evidence_of(history, times) if times else []
    return [
        each
        for each in found
        if each.variant == variant and scope.group in {None, each.group} and not each.acted
    ]


def _not_on_record(verdict: Verdict, claim: Claim, history: History, unseen: Sequence[Evidence] = ()) -> bool:
    """Whether what the fault did may stand in rows that are gone: their absence says nothing about the fault."""
    missing = missing_files(claim, history)
    if not missing and _ends_lost(history) and unseen and all(each.acted is None for each in unseen):
        missing = ["streams"]
    _tell_missing(verdict, history, missing)
    return bool(missing)


def _doubt(verdict: Verdict, history: History, unseen: Sequence[Evidence]) -> None:
    """Unknown: what follows on these faults was not seen. What others showed stays counted."""
    failed = [each for each in unseen if each.failed]
    first = (failed or unseen)[0]
    verdict.verdict, verdict.code = "unknown", "injector-failed" if failed else "fault-not-seen"
    verdict.sentence = " ".join(filter(None, [printable(first.sentence), verdict.sentence]))
    verdict.next = _again(_FAULT_NEXT["failed" if failed else "unproved"], verdict, history)


_FAULT_NEXT: Final = {
    "failed": "See faults.jsonl and run.log for the call that failed, then run again.",
    "unproved": "Check that streams run through this fault's proxies and last long enough to meet it, beside a clean group, "
    "then run again.",
    "not-seen": "Plan a fault of this class ([[fault]] in the scenario), or judge without `after`.",
}


# --- counting ----------------------------------------------------------------------------------------------------------


def _tally(units: Sequence[Unit]) -> _Tally:
    tally = _Tally(open=dict.fromkeys(_CAUSES, 0))
    for unit in units:
        if unit.cause is None or unit.cause in SETTLED:
            tally.n += unit.n
            tally.worst += unit.worst
            tally.best += unit.best
        else:
            tally.open[unit.cause] += unit.n
    return tally


def _fill(verdict: Verdict, claim: Claim, scoped: Scoped, measured: Measured, tally: _Tally) -> None:
    """Everything that can be counted without deciding."""
    verdict.n, verdict.k, verdict.k_best = tally.n, tally.worst, tally.best
    verdict.unfinished = tally.open["unfinished"]
    verdict.dropped = tally.open["dropped"]
    verdict.untold = tally.open["truth"]
    verdict.excluded = measured.excluded
    verdict.streams = measured.streams
    verdict.reading = measured.reading
    if tally.n:
        verdict.observed = tally.worst / tally.n
        verdict.wilson = statistics.wilson(tally.worst, tally.n, claim.confidence)
    if tally.total:
        verdict.lower = statistics.lower_bound(tally.worst, tally.total, claim.confidence)
        verdict.upper = statistics.upper_bound(tally.most_good, tally.total, claim.confidence)
    if claim.value_kind == "count":
        verdict.amount = sum(unit.amount for unit in measured.units)
    if claim.value_kind in _FIGURES and tally.n:
        verdict.figure = _figure(claim, measured)
    elif claim.quantile is not None and tally.n:
        verdict.quantile = _observed_quantile(claim.quantile, scoped, measured, claim.confidence)
        if measured.beside_ns:
            verdict.beside = _quantile_of(measured.beside_ns, claim.quantile, claim.confidence)
    if claim.metric in NEEDS_TRUTH:
        verdict.knows = measured.knows
        verdict.truths = dict(sorted(measured.truths.items()))
        verdict.blind = [what for what in KNOWLEDGE if what not in measured.knows] if measured.streams else []
    reasons = Counter[str]()
    for unit in measured.units:
        if unit.cause in SETTLED and unit.reason:
            reasons[unit.reason] += unit.n - unit.worst
    verdict.reasons = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    verdict.examples = _examples(measured.units)
    verdict.groups = _groups(measured.units)


_FIGURES: Final[dict[ValueKind, Literal["per-second", "share", "number"]]] = {
    "rate": "per-second",
    "peak": "per-second",
    "portion": "share",
    "number": "number",
}


def _figure(claim: Claim, measured: Measured) -> Figure | None:
    """What was observed of a value that is no duration; None where nothing is known of any unit."""
    unit = _FIGURES[claim.value_kind]
    if claim.quantile is None:
        return None if measured.peak is None else Figure(unit=unit, value=float(measured.peak))
    values = sorted(each.value for each in measured.units if each.cause in SETTLED and each.value is not None)
    if not values:
        return None
    figure = Figure(
        unit=unit,
        q=claim.quantile,
        value=values[statistics.quantile_rank(len(values), claim.quantile) - 1],
    )
    ranks = statistics.quantile_interval(len(values), claim.quantile, claim.confidence)
    if ranks is not None:
        figure.low, figure.high = (values[rank - 1] for rank in ranks)
    return figure


def _examples(units: Sequence[Unit]) -> list[int]:
    """The lowest stream numbers among the bad units that are certain."""
    streams = {unit.stream for unit in units if unit.cause is None and unit.worst < unit.n}
    return sorted(streams)[:_MOST_EXAMPLES]


def _groups(units: Sequence[Unit]) -> list[GroupSplit]:
    splits: dict[str, GroupSplit] = {}
    for unit in units:
        if unit.group is None:
            continue
        split = splits.setdefault(unit.group, GroupSplit(group=unit.group, n=0, k=0))
        if unit.cause in SETTLED:
            split.n += unit.n
            split.k += unit.worst
        else:
            split.unfinished += unit.n
    return [splits[group] for group in sorted(splits)]


def _observed_quantile(q: float, scoped: Scoped, measured: Measured, confidence: float) -> Quantile:
    if measured.gap_counts:
        return _gap_quantile(q, scoped.history.plan.gap_edges_ns, measured)
    return _quantile_of([unit.value_ns for unit in measured.units if unit.cause in SETTLED], q, confidence)


def _quantile_of(values: Sequence[int | None], q: float, confidence: float) -> Quantile:
    ranked = sorted(math.inf if value is None else value for value in values)
    quantile = Quantile(q=q, value_ns=_finite(ranked[statistics.quantile_rank(len(ranked), q) - 1]))
    ranks = statistics.quantile_interval(len(ranked), q, confidence)
    if ranks is not None:
        quantile.interval = True
        quantile.low_ns, quantile.high_ns = (_finite(ranked[rank - 1]) for rank in ranks)
    return quantile


def _finite(value: float) -> int | None:
    return None if value == math.inf else int(value)


def _gap_quantile(q: float, edges: Sequence[int], measured: Measured) -> Quantile:
    rank = statistics.quantile_rank(sum(measured.gap_counts), q)
    if rank > sum(measured.gap_counts) - measured.never:
        return Quantile(q=q, value_ns=None)
    value = statistics.edge_at_rank(measured.gap_counts, edges, measured.longest_gap_ns, rank)
    return Quantile(q=q, value_ns=value, at_most=True)


# --- deciding ----------------------------------------------------------------------------------------------------------


def _decide(verdict: Verdict, claim: Claim, history: History, measured: Measured, tally: _Tally) -> None:
    if measured.gap_edge_missing:
        verdict.code = "not-measured"
        verdict.sentence = "The run did not count gaps against this limit."
        again = (
            "Run again with this claim: each run counts gaps and ages against the limits of its own claims."
        )
        verdict.next = _again(again, verdict, history)
        return
    if tally.total == 0:
        verdict.code = "not-measured"
        _heed_missing_files(verdict, claim, history)
        early = history.how != "finished" and (claim.scope.phase is not None or not history.streams)
        if not verdict.sentence and early:
            verdict.code = "interrupted"
            of_phase = "" if claim.scope.phase is None else " of this phase"
            verdict.sentence = f"The run ended before a stream{of_phase} did."
            verdict.next = _again("Run again to its end.", verdict, history)
        if not verdict.sentence:
            verdict.sentence, text = _nothing(claim, verdict)
            verdict.next = _again(text, verdict, history)
        return
    worst = _answer(claim, tally.worst, tally.total + history.hidden)
    best = _answer(claim, tally.most_good + history.hidden, tally.total + history.hidden)
    hidden = _hidden_by_pooling(verdict, claim)
    if hidden:
        verdict.verdict = "fail"
    elif worst == "pass":
        verdict.verdict = "pass"
    elif best == "fail":
        verdict.verdict = "fail"
    else:
        verdict.code = _code(claim, history, tally, worst, best)
    if verdict.verdict == "pass" and measured.witnessing_workers > 1:
        # How far an event was behind the first of its own worker is the least that it can have been behind all others.
        verdict.verdict, verdict.code = "unknown", "not-measured"
        verdict.sentence = _sentence(verdict, claim, measured, tally, history)
        again = (
            "Run again with --workers 1, or claim age, which needs target.sent_at and no other subscriber."
        )
        verdict.next = _again(again, verdict, history)
    _heed_missing_files(verdict, claim, history)
    if not verdict.sentence:
        verdict.sentence = " ".join(
            filter(None, [hidden, _sentence(verdict, claim, measured, tally, history)])
        )
        verdict.next = _next(verdict, claim, history, measured, tally)


def _hidden_by_pooling(verdict: Verdict, claim: Claim) -> str:
    """The class of faults after which recovery fails by itself, whatever the others show; a sentence, else empty.

    Each of m classes is asked at a confidence of 1 - (1 - c) / m, so that all together err no more often than one claim.
    """
    if claim.metric != "recovery" or claim.form != "share" or len(verdict.faults) < 2:
        return ""
    confidence = 1.0 - (1.0 - claim.confidence) / len(verdict.faults)
    for split in verdict.faults:
        most_good, n = split.k_best + split.unfinished, split.n + split.unfinished
        if statistics.decide(most_good, n, claim.required_share(), confidence) == "fail":
            name = f"After {printable(split.kind)} alone" if split.kind else "Without a fault"
            return f"{name} only {split.k:,} of {count_of(split.n, 'break')} were recovered."
    return ""


def _answer(claim: Claim, good: int, n: int) -> Answer:
    if claim.form in {"share", "quantile"}:
        return statistics.decide(good, n, claim.required_share(), claim.confidence)
    if good < n:
        return "fail"
    return "pass" if n >= claim.needed_units() else "unknown"


def _code(claim: Claim, history: History, tally: _Tally, worst: Answer, best: Answer) -> Code:
    """Why neither end decides."""
    rig = tally.best - tally.worst
    if worst == best or not (tally.missing or rig):
        return "too-few"
    exact = claim.form in {"all", "none"}
    if tally.n and exact and best == "unknown" and tally.worst == tally.n:
        return "too-few"  # not even good ends of all open units would be enough
    causes = {**tally.open, "rig": rig}
    cause = max(_CAUSES, key=lambda each: (causes[each], -_CAUSES.index(each)))
    if cause == "truth":
        return "no-truth"
    if cause == "rig":
        return "rig-late"
    if history.outages and cause == "unfinished":
        return "injector-failed"
    return "too-few" if history.how == "finished" else "interrupted"


def missing_files(claim: Claim, history: History) -> list[str]:
    """The row files that the claim needs and the record lacks, or has not whole, without their ending."""
    return sorted(_needed_files(claim, history) & (set(history.missing) | _holed(history)))


def _heed_missing_files(verdict: Verdict, claim: Claim, history: History) -> None:
    """Without its files a record can hide what failed: no pass, and no share that others could have lifted."""
    missing = missing_files(claim, history)
    ours = "faults" in missing and _may_have_ended_streams(history)  # then a violation may be our own doing
    if verdict.verdict == "fail" and claim.form in {"all", "none"} and not ours:
        return
    _tell_missing(verdict, history, missing)


def _tell_missing(verdict: Verdict, history: History, missing: Sequence[str]) -> None:
    if not missing:
        return
    verdict.verdict, verdict.code = "unknown", "not-measured"
    verdict.sentence = (
        f"{joined([f'{name}.jsonl' for name in missing])} {'is' if len(missing) == 1 else 'are'} missing or not whole: "
        "what is not on record can't be counted."
    )
    verdict.next = _again(_KEEP, verdict, history)


_KEEP: Final = "Run again, and keep the whole run directory."
_TIMED: Final = frozenset({"duration", "rate", "portion", "peak"})
"""Values that a step of the clock bends, of which only the generator's rows tell."""
_TOLD_BY_WITNESS: Final = frozenset({"success", "goodput", "errors", "recovery", "lost", "doubled", "utf8"})
"""Metrics that the server's own rows can turn from good to bad."""

_FROM_HEALING: Final = frozenset({"reconnect", "connected"})
"""Metrics that begin where a fault was healed, if that is later than the break."""


def _holed(history: History) -> set[str]:
    """Files of which a row that matters may be torn: a crash tears its last one, in a run that ended well none is."""
    return {
        name
        for name in ("generator", "witness", "faults")
        if history.how == "finished" and history.torn.get(name)
    }


def _ends_lost(history: History) -> bool:
    """Whether the ends of streams that are unfinished here may have been on record: a run that ended well tears none."""
    return history.how == "finished" and bool(history.torn.get("streams"))


def _may_have_ended_streams(history: History) -> bool:
    """Healing in the middle of the load, or a fault engine that broke: only the faults' rows say whose streams that met."""
    return history.run is None or history.run.aborted is not None or history.how == "failed"


def _needed_files(claim: Claim, history: History) -> set[str]:
    """The row files without which this claim could pass by accident."""
    needed = {"starts", "streams"}
    if claim.unit in {"break", "attempt"}:
        needed.add("breaks")
    if METRICS[claim.metric].value in _TIMED or claim.metric in {"goodput", "connected"}:
        needed.add("generator")
    if claim.scope.after is not None or (
        bytes(history.plan.faults) != b"null"
        and (
            claim.scope.phase is not None or claim.metric in _FROM_HEALING or _may_have_ended_streams(history)
        )
    ):
        needed.add("faults")
    if claim.metric in _TOLD_BY_WITNESS and any(
        variant.preflight is not None and variant.preflight.witness_path is not None
        for variant in history.plan.variants
    ):
        needed.add("witness")
    return needed


# --- words ---------------------------------------------------------------------------------------------------------------


def _nothing(claim: Claim, verdict: Verdict) -> tuple[str, str]:
    """Nothing counted: what is missing and how to get it."""
    if verdict.excluded and claim.metric in {"e2e", "complete"}:
        end = "to be timed" if claim.metric == "e2e" else "to come to"
        return (
            f"{count_of(verdict.excluded, 'subscription')} stayed open: an open stream has no end {end}.",
            "Claim ttft, gap or success for subscriptions.",
        )
    if verdict.excluded and claim.metric in _LEFT_OUT:
        found = (
            f"{count_of(verdict.excluded, 'stream')} {_LEFT_OUT[claim.metric]}: there is nothing to judge."
        )
        return found, _NOT_MEASURED_NEXT[claim.metric]
    if verdict.excluded:
        return (
            f"Not one event came in {count_of(verdict.excluded, 'stream')}: there is nothing to judge.",
            "See the outcomes for what stopped the streams.",
        )
    if claim.unit in {"break", "attempt"}:
        return "No connection broke.", "Add a fault that cuts connections ([[fault]] in the scenario)."
    if claim.unit == "gap":
        return "No stream had two events.", "See the outcomes for what stopped the streams."
    if claim.unit == "event":
        what = "a send time" if claim.metric == "age" else "a first subscriber to be behind of"
        return f"No event had {what}.", _NOT_MEASURED_NEXT[claim.metric]
    scope = claim.text.partition(" in ")[2] or claim.text.partition(" after ")[2]
    if scope:
        return (
            f"No stream is in the scope of this claim ({scope}).",
            "Check the names in the claim and the plan.",
        )
    return "No stream was recorded.", "Run longer, or with more users."


_NOT_MEASURED_NEXT: Final = {
    "ttft-plan": "Start streams by a schedule (--rate), or claim ttft-send.",
    "token-rate": "Ask for longer answers, or claim e2e.",
    "heartbeat": "Hold the streams through silences longer than the limit (--duration), or claim gap.",
    "goodput": "Leave out the limit that nobody measured: ttft-plan needs --rate, age needs target.sent_at, "
    "token-rate needs two tokens a stream, gap two events, e2e an end.",
    "age": "Check the field's name (--set target.sent_at=json:FIELD): the data of the events has to have it, with the sender's "
    "time since 1970 as a number, in seconds to nanoseconds.",
    "fanout": "Name what subscribers share, and hold several in a worker: --set target.topic=NAME --users N.",
}


def _sentence(verdict: Verdict, claim: Claim, measured: Measured, tally: _Tally, history: History) -> str:
    bad = tally.n - tally.worst
    if tally.n == 0:
        text = ""
    elif bad == 0:
        text = _clean(verdict, claim)
    else:
        text = _bad_ones(verdict, claim, bad)
    parts = [text] if text else []
    parts += _open_parts(verdict, claim, measured, history)
    if claim.unit in {"gap", "event"} and tally.n:
        parts.append(f"The {plural(claim.unit)} come from {count_of(verdict.streams, 'stream')}.")
    if claim.metric == "reconnect-rate" and measured.peak is not None:
        parts.append(f"{count_of(measured.peak, 'reconnection')} began within the worst second.")
    if claim.metric == "attempts" and tally.n:
        made = sum(unit.value or 0.0 for unit in measured.units)
        mean = f"{made / tally.n:.3g}"
        parts.append(f"{mean} {'attempt' if mean == '1' else 'attempts'} a stream in the mean.")
    if claim.metric == "utf8" and measured.without_text and tally.n:
        blind = "" if measured.without_text == tally.n else f" ({count_of(measured.without_text, 'stream')})"
        parts.append(f"Without a truth{blind} only ill-formed bytes and U+FFFD show.")
    if claim.metric == "fanout" and tally.n and measured.witnessing_workers > 1:
        parts.append(
            f"Subscribers are compared within each of {measured.witnessing_workers} workers: what all those of one "
            "received late does not show."
        )
    told = verdict.truths.get("subscribers")
    if told and claim.metric == "lost" and tally.n:
        witnesses = f"of {count_of(told, 'stream')} " if told < verdict.streams else ""
        parts.append(
            f"Other subscribers of the topic tell the loss {witnesses}(at least {least_text(measured.witnessed)} of a "
            "stream's numbers had another witness); what none of them received does not show."
        )
    parts += _episode_parts(verdict, claim)
    if verdict.excluded:
        why = _LEFT_OUT.get(claim.metric, "without any event")
        parts.append(f"{count_of(verdict.excluded, 'stream')} {why} left out.")
    return " ".join(parts)


def _episode_parts(verdict: Verdict, claim: Claim) -> list[str]:
    """How many independent faults stand behind units that shared one's fate."""
    found = verdict.episodes
    if found is None or found.units <= found.n or claim.form == "none":
        return []
    units = claim.unit if claim.unit in {"stream", "break"} else "stream"
    met = count_of(found.units, units)
    if found.n == 1:
        return [f"{met} met the same one episode of faults and share its fate."]
    all_good = "each" if found.k == found.n else f"{found.k:,} of them"
    return [f"{met} met {found.n:,} episodes of faults and share their fate; in {all_good} all were good."]


_LEFT_OUT: Final = {
    "complete": "still open",
    "e2e": "still open",
    "ttft-plan": "without a planned start",
    "token-rate": "with fewer than two tokens",
    "heartbeat": "in which no heartbeat was due",
    "goodput": "without a measure of a limit",
}
"""Why streams are not counted; without any event unless said."""


def _noun(claim: Claim) -> str:
    return _NOUNS.get(claim.metric, claim.unit)


def _clean(verdict: Verdict, claim: Claim) -> str:
    noun = _noun(claim)
    if claim.form in {"all", "none"}:
        most = 1.0 - statistics.lower_bound(verdict.n, verdict.n, claim.confidence)
        return (
            f"No violation in {count_of(verdict.n, noun)}; "
            f"at most {most_text(most)} at {share_text(claim.confidence)}."
        )
    if claim.form == "quantile":
        well = (
            _SLOW[claim.metric][0].format(_limit(claim))
            if claim.metric in _SLOW
            else f"within {_limit(claim)}"
        )
    else:
        well = _WELL[claim.metric][0]
    return f"{_all_of(verdict.n, noun)} {_numbered(well, verdict.n)}."


def _numbered(words: str, count: int) -> str:
    """A phrase about several, or about one."""
    if count == 1:
        for many, one in _ONE.items():
            words = words.replace(many, one)
    return words


def _bad_ones(verdict: Verdict, claim: Claim, bad: int) -> str:
    out_of = f"of {count_of(verdict.n, _noun(claim))}"
    of = f"{bad:,} {out_of}"
    if claim.form == "quantile":
        return _too_slow(verdict, claim, out_of)
    if claim.value_kind == "peak":
        return f"{of} began in a second with more than {_limit(claim).removesuffix('/s')}."
    if claim.value_kind == "count":
        verb = "lost" if claim.metric == "lost" else "received"
        twice = "" if claim.metric == "lost" else " twice"
        return f"{of} {verb} {count_of(verdict.amount or 0, 'event')}{twice}."
    ill = _numbered(_WELL[claim.metric][1], bad)
    return f"{of} {ill}: {_reasons(verdict.reasons)}.{_allowed(verdict, claim)}"


def _too_slow(verdict: Verdict, claim: Claim, of: str) -> str:
    late = verdict.reasons.get("late", 0)
    never = {reason: count for reason, count in verdict.reasons.items() if reason != "late"}
    if claim.metric == "gap":
        late, never = verdict.n - verdict.k, {}
    if claim.unit == "event":
        late = verdict.n - verdict.k - sum(never.values())
    parts = []
    if late:
        slow = (
            _SLOW[claim.metric][1].format(_limit(claim))
            if claim.metric in _SLOW
            else f"took longer than {_limit(claim)}"
        )
        parts.append(f"{late:,} {of} {_numbered(slow, late)}")
    if never:
        lead = "" if late else f" {of}"
        verb = _NEVER.get(claim.metric, "never came")
        parts.append(f"{sum(never.values()):,}{lead} {verb} ({_reasons(never)})")
    return f"{'; '.join(parts)}.{_allowed(verdict, claim)}"


_NEVER: Final = {
    "e2e": "did not end well",
    "token-rate": "did not end well",
    "stale": "had no token",
    "heartbeat": "were silent for too long",
}
"""What became of units without a value; others never came."""


def _limit(claim: Claim) -> str:
    if claim.value_kind == "duration":
        return duration_text(claim.limit_ns)
    if claim.value_kind in {"rate", "peak"}:
        return f"{digits(claim.value)}/s"
    return share_text(claim.value) if claim.value_kind == "portion" else count_of(int(claim.value), "attempt")


def _allowed(verdict: Verdict, claim: Claim) -> str:
    """How many bad ones that many units may have, where a pass has used up some of them."""
    if verdict.verdict != "pass" or claim.form not in {"share", "quantile"}:
        return ""
    allowed = statistics.allowed_failures(verdict.n, claim.required_share(), claim.confidence)
    return "" if allowed is None else f" Allowed: up to {allowed:,}."


def _reasons(reasons: dict[str, int]) -> str:
    shown = list(reasons.items())[:_MOST_REASONS]
    rest = sum(list(reasons.values())[_MOST_REASONS:])
    texts = [f"{count:,} {printable(reason)}" for reason, count in shown]
    return ", ".join([*texts, f"{rest:,} others"] if rest else texts)


def _why_untold(claim: Claim, measured: Measured) -> str:
    if claim.metric == "complete":
        return "no terminal marker is known"
    if claim.metric == "lost" and measured.alone:
        return "no other subscriber of their topic witnessed enough of them"
    if claim.metric == "lost" and measured.shared_numbers:
        return "the service numbers the events of all streams together, and what one lacks came to others"
    return "no numbers, no witness"


def _open_parts(verdict: Verdict, claim: Claim, measured: Measured, history: History) -> list[str]:
    parts = []
    if verdict.unfinished and claim.unit == "stream" and _ends_lost(history):
        have = "has" if verdict.unfinished == 1 else "have"
        lost = count_of(verdict.unfinished, "stream")
        parts.append(f"{lost} {have} no end on record: streams.jsonl is not whole.")
    elif verdict.unfinished:
        parts.append(_UNFINISHED[claim.unit].format(count_of(verdict.unfinished, claim.unit)))
    if verdict.dropped:
        parts.append(
            f"{count_of(verdict.dropped, 'stream')} were never started by us.".replace(
                "1 stream were", "1 stream was"
            )
        )
    if verdict.untold:
        what = _UNTOLD[claim.metric]
        parts.append(
            f"Whether {count_of(verdict.untold, 'stream')} {what} can't be told: {_why_untold(claim, measured)}."
        )
    if verdict.k_best != verdict.k:
        late = verdict.k_best - verdict.k
        side = "of a limit" if claim.form in {"share", "all"} else f"of {_limit(claim)}"
        why = "our own measurement was that late"
        if again := _down_again(measured):
            others = "" if again == late else f" of {again:,} of them; of the others {why}"
            why = f"the link went down once more in the course{others}"
        parts.append(f"{count_of(late, _noun(claim))} may lie on either side {side}: {why}.")
    return parts


def _down_again(measured: Measured) -> int:
    return sum(unit.cause == "rig" and unit.down_again for unit in measured.units)


_UNTOLD: Final = {
    "lost": "lost events",
    "doubled": "received events twice",
    "complete": "came to their end",
}

_UNFINISHED: Final[dict[UnitName, str]] = {
    "stream": "{} did not end within the run.",
    "break": "Up to {} of unfinished streams may be missing.",
    "gap": "Up to {} of unfinished streams may be missing.",
    "event": "Up to {} of unfinished streams may be missing.",
    "attempt": "Those of up to {} of unfinished streams may be missing.",
}


def _all_of(n: int, noun: str) -> str:
    return f"The one {noun}" if n == 1 else f"All {n:,} {plural(noun)}"


def _next(verdict: Verdict, claim: Claim, history: History, measured: Measured, tally: _Tally) -> str:
    if verdict.verdict == "pass":
        return ""
    if verdict.verdict == "fail":
        return _where_to_look(verdict, history)
    if verdict.code == "too-few":
        return _further(verdict, claim, history, tally)
    return _again(_unknown_next(verdict, claim, history, measured), verdict, history)


def _unknown_next(verdict: Verdict, claim: Claim, history: History, measured: Measured) -> str:
    """What would settle an unknown that more units alone would not."""
    if verdict.code == "rig-late" and _down_again(measured):
        return "Leave the link more time between its faults (up, every), so that clients are back before the next one."
    if verdict.code == "rig-late":
        widest = max(unit.width_ns for unit in measured.units if unit.cause == "rig")
        wide = (
            f"Our brackets are up to {duration_text(widest)} wide here"
            if widest
            else "We were too late to see"
        )
        more = f"--workers {2 * max(history.plan.workers, 1)}"
        return (
            f"{wide}: use fewer users or more workers ({more}), or run the generator on a machine of its own."
        )
    if verdict.code == "no-truth":
        if claim.metric == "complete":
            return "Name the terminal marker: --set target.terminal=event:done, or data:[DONE]."
        if claim.metric == "lost" and measured.alone:
            return "Hold more subscriptions of each topic, at the same time and longer (--users, --duration)."
        if claim.metric == "lost" and measured.shared_numbers:
            return (
                "Name a field that counts the events of each stream (--set target.sequence=json:FIELD), or none "
                "(target.sequence=none)."
            )
        return "Name the events' sequence: --set target.sequence=id, or json:FIELD."
    if verdict.code == "injector-failed":
        return _FAULT_NEXT["failed"]
    repeat = repeat_text(history)
    return f"Run again to its end{f': {repeat}' if repeat else ''}."


def _where_to_look(verdict: Verdict, history: History) -> str:
    """The streams to look at, and what the first of them that says anything said."""
    if not verdict.examples:
        return ""
    word = "stream" if len(verdict.examples) == 1 else "streams"
    text = f"See {word} {joined([str(number) for number in verdict.examples])} in streams.jsonl."
    said = {
        record.stream: record.detail
        for record in history.streams
        if record.variant == verdict.variant and record.stream in verdict.examples and record.detail
    }
    return f"{text} Stream {min(said)}: {printable(said[min(said)], _DETAIL_CHARS)}" if said else text


_DETAIL_CHARS: Final = 200
"""Enough for a status and the beginning of its body; the row holds more."""


def _further(verdict: Verdict, claim: Claim, history: History, tally: _Tally) -> str:
    """How many more units would decide, and what run gives them; else what kept the missing ones open.

    A longer run leaves as many open in proportion: where there are enough units with them, they are what is in the way.
    """
    if tally.open["unfinished"] and _ends_lost(history):
        return _again(_KEEP, verdict, history)
    decides_without = tally.missing and _answer(claim, tally.most_good, tally.total) != "unknown"
    found = None if decides_without else further(claim, history, tally.worst, tally.n, verdict.variant)
    if found is not None:
        if not found.factor:
            return found.text
        text, verdict.next_run = with_effort(
            found.text, history, verdict.variant, found.factor, wider=found.wider
        )
        return text
    text = "Run again with a higher drain limit (--set load.drain=…), so that no stream is left open."
    if tally.open["dropped"]:
        text = (
            "Run again so that every planned start is made: fewer starts, a higher load.max_open (--set load.max_open=N), "
            "or more workers (--workers)."
        )
    elif history.run is not None and history.run.workers_lost:
        text = "Run again with all workers; run.log says what ended the lost one."
    return _again(text, verdict, history)


def _again(text: str, verdict: Verdict, history: History) -> str:
    """The advice, with what the same run takes once more."""
    text, verdict.next_run = with_effort(text, history, verdict.variant)
    return text
