"""From a run directory to verdict.json: the result of a run, of which every other output is a view.

Rules:
- The same record gives the same bytes: nothing here looks at a clock, at the machine or at the directory's place, and
  every mapping has a fixed order (measurement.md 7: the verdict is re-derivable from the record).
- The exit code is that of the verdicts alone: 0, 1 or 2. How the run itself ended (70, 130, 143) outranks it and belongs
  to the command (design.md "Commands").
- The generator's own indicators (measurement.md 2.4) stand in one table, `rig_rows`, beside their usual limits. One that
  is out of its limit is named with its worst second and what to do; none vetoes anything: what they bend is already in
  the brackets (decision 4).
"""

import contextlib
import functools
import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from sseproof.loadtests.settings import Load, Target
from sseproof.reports.browsers import BrowserResult, browser_results
from sseproof.reports.claims import ClaimError, parse_claim
from sseproof.reports.evidence import Evidence, evidence_of
from sseproof.reports.facts import Facts, History, How, all_facts, load_began_ns, ttft_ns
from sseproof.reports.findings import findings
from sseproof.reports.held_back import held_back
from sseproof.reports.history import read_history
from sseproof.reports.looks import judge_at_looks
from sseproof.reports.phases import PhaseResult, ttft_quantile
from sseproof.reports.steadiness import Steadiness, steadiness_of
from sseproof.reports.verdicts import Count, Verdict, unreadable_claim
from sseproof.reports.words import aborted_text, count_of, most_first
from sseproof.rundir.errors import EXIT_FAIL, EXIT_PASS, EXIT_UNKNOWN
from sseproof.rundir.files import PLAN_NAME, VERDICT_NAME, write_document
from sseproof.rundir.rows import SUCCESSES, BrowserRow, GeneratorRow, Plan, PlannedClaim
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

OnUnknown = Literal["fail", "warn"]
RigUnit = Literal["ms", "share", "count"]

VERDICT_VERSION: Final = 1
SCHEMA_ID: Final = "sseproof/verdict/1"
_MOST_MARKS: Final = 1_000
SCHEMA_NAME: Final = "verdict.schema.json"

_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9


class Summary(Struct, kw_only=True, forbid_unknown_fields=True):
    """What happened, counted; without the warm-up."""

    streams: Count = 0
    """Dispatched ones, and those of which a lost worker did not say so."""
    good: Count = 0
    """Those that succeeded."""
    outcomes: dict[str, Count] = {}
    """Most frequent first; `unfinished` and `dropped` include starts without a record."""
    ends: dict[str, Count] = {}
    """How attempts ended, most frequent first."""
    breaks: Count = 0
    events: Count = 0
    warmup: Count = 0
    """Streams of the warm-up, left out of everything else."""


class VariantResult(Struct, kw_only=True, forbid_unknown_fields=True):
    """One side of a run; a run without variants has one, unnamed."""

    name: str | None
    judged: bool
    target: str
    """Method and URL, secrets left out."""
    summary: Summary
    steadiness: Steadiness | None = None
    """How fresh, alive and close together its streams were; None without a finished stream."""
    phases: list[PhaseResult] = []
    """Its streams by the parts of the load; empty in a run without phases."""
    note: str = ""
    """What its figures alone would not tell, in sentences; empty when there is nothing."""


class RigRow(Struct, kw_only=True, forbid_unknown_fields=True):
    """One indicator of how well the generator kept up."""

    indicator: str
    value: float | None
    """None was not measured."""
    unit: RigUnit
    limit: float | None
    """What is usual on a machine that keeps up; None for indicators without one."""
    within: bool | None
    meaning: str
    at_ns: int | None = None
    """The end of the second in which it was worst; None where no second is to blame, or where nothing is."""
    worker: int | None = None
    """Whose second that was."""
    next: str = ""
    """What to do; empty within the limit."""


class Mark(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outside event that somebody told the run of; it changes no verdict."""

    at_ns: int
    text: str
    source: str


class RunVerdict(Struct, kw_only=True, forbid_unknown_fields=True):
    """verdict.json."""

    schema: Literal["sseproof/verdict"] = "sseproof/verdict"
    version: Literal[1] = 1
    run: str
    scenario: str
    seed: int
    decision: str
    """One sentence."""
    findings: list[str] = []
    """Why it is so, the weightiest sentence first; empty when every claim holds."""
    exit_code: Literal[0, 1, 2]
    """Of the verdicts alone; how the run ended may outrank it."""
    on_unknown: OnUnknown = "fail"
    how: How
    """How the run ended."""
    started_ns: int | None = None
    ended_ns: int | None = None
    load_began_ns: int
    """The first stream's start."""
    aborted: str = ""
    """Why the run gave up, in a sentence; empty where it did not."""
    verdicts: list[Verdict] = []
    variants: list[VariantResult] = []
    totals: Summary
    browsers: list[BrowserResult] = []
    """A row for each browser and client, and for browsers that nobody opened; empty where the users are Locust's."""
    faults: list[Evidence] = []
    """For every planned fault and variant, what shows that it acted."""
    marks: list[Mark] = []
    """In the order of their moments."""
    rig: list[RigRow] = []
    problems: list[str] = []
    command: list[str] = []
    """The command that repeats the run, secrets left out."""
    labels: dict[str, str] = {}
    versions: dict[str, str] = {}
    host: dict[str, str] = {}


def judge_directory(directory: Path) -> RunVerdict:
    """The result of the run recorded in this directory.

    Raises UsageError, in one sentence, when it is no run directory or can't be read.
    """
    return judge(read_history(directory))


def judge(
    history: History, on_unknown: OnUnknown | None = None, facts: Sequence[Facts] | None = None
) -> RunVerdict:
    """The result of a history; pure.

    `on_unknown` replaces what the plan says; `facts` are the history's own, where they are known already.
    """
    facts = all_facts(history) if facts is None else facts
    verdicts = [
        verdict for claim in history.plan.claims for verdict in _claim_verdicts(claim, history, facts)
    ]
    totals = _summary(history, facts, lambda _: True)
    totals.warmup = history.warmup
    run = history.run
    plan = history.plan
    on_unknown = on_unknown or plan.on_unknown
    try:
        faults = evidence_of(history)
    except msgspec.DecodeError as error:
        faults = []
        history.problems.append(f"The fault plan in {PLAN_NAME} can't be read: {printable(str(error))}")
    return RunVerdict(
        run=plan.run,
        scenario=plan.scenario,
        seed=plan.seed,
        decision=decision_sentence(verdicts, on_unknown, totals.streams),
        findings=findings(history, facts, verdicts),
        exit_code=exit_code(verdicts, on_unknown),
        on_unknown=on_unknown,
        how=history.how,
        started_ns=None if run is None else run.started_ns,
        ended_ns=None if run is None else run.ended_ns,
        load_began_ns=load_began_ns(history),
        aborted="" if run is None or run.aborted is None else printable(aborted_text(run.aborted)),
        verdicts=verdicts,
        variants=_variants(history, facts),
        totals=totals,
        browsers=browser_results(history, facts),
        faults=faults,
        marks=[
            Mark(at_ns=row.at_ns, text=printable(row.text), source=printable(row.source))
            for row in sorted(history.marks, key=lambda row: row.at_ns)[:_MOST_MARKS]
        ],
        rig=rig_table(history),
        problems=[
            *history.problems,
            *_unchecked_certificates(history),
            *(
                each.sentence if each.failed else f"{each.sentence} It did not act."
                for each in faults
                if each.acted is False
            ),
            *_failed_checks(facts),
        ],
        command=[] if run is None else run.command,
        labels={} if run is None else _sorted(run.labels),
        versions={} if run is None else _sorted(run.versions),
        host={} if run is None else _sorted(run.host),
    )


def write_verdict(directory: Path, verdict: RunVerdict) -> Path:
    """Writes verdict.json, whole, and gives its path.

    Raises RigError when it can't be written.
    """
    path = directory / VERDICT_NAME
    write_document(path, verdict)
    return path


def exit_code(verdicts: Sequence[Verdict], on_unknown: OnUnknown = "fail") -> Literal[0, 1, 2]:
    """0 when every claim holds (or none was given), 1 when one fails, 2 when none fails and one is unknown."""
    answers = {verdict.verdict for verdict in verdicts if verdict.counts}
    if "fail" in answers:
        return EXIT_FAIL
    if "unknown" in answers and on_unknown == "fail":
        return EXIT_UNKNOWN
    return EXIT_PASS


def decision_sentence(verdicts: Sequence[Verdict], on_unknown: OnUnknown, streams: int) -> str:
    """The one sentence that the report opens with."""
    counting = [verdict for verdict in verdicts if verdict.counts]
    if not counting:
        return f"No claim was given; {count_of(streams, 'stream')} {_was(streams)} measured."
    answers = Counter(verdict.verdict for verdict in counting)
    fails, unknown, all_ = answers["fail"], answers["unknown"], len(counting)
    claims = f"{all_} claim{'' if all_ == 1 else 's'}"
    if fails:
        tail = f", {unknown} {_is(unknown)} unknown" if unknown else ""
        return f"Do not release: {fails} of {claims} {'fails' if fails == 1 else 'fail'}{tail}."
    if not unknown:
        return f"{all_} of {claims} {'holds' if all_ == 1 else 'hold'}."
    if on_unknown == "warn":
        hold = "holds" if all_ == 1 else _holds(answers["pass"])
        return f"{answers['pass']} of {claims} {hold}, {unknown} {_is(unknown)} unknown (a warning here)."
    held = f", {answers['pass']} {_holds(answers['pass'])}" if answers["pass"] else ""
    return f"Not decided: {unknown} of {claims} {_is(unknown)} unknown{held}."


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _holds(count: int) -> str:
    return "holds" if count == 1 else "hold"


def _claim_verdicts(planned: PlannedClaim, history: History, facts: Sequence[Facts]) -> list[Verdict]:
    try:
        claim = parse_claim(planned.text)
    except ClaimError as error:
        return [unreadable_claim(planned.text, error.sentence)]
    verdicts = judge_at_looks(claim, history, facts)
    for verdict in verdicts:
        verdict.planned_n = planned.planned_n if verdict.counts else None  # of the variant that is judged
    return verdicts


# --- counting ----------------------------------------------------------------------------------------------------------


def _variants(history: History, facts: Sequence[Facts]) -> list[VariantResult]:
    notes = held_back(facts, [variant.name for variant in history.plan.variants])
    return [
        VariantResult(
            name=variant.name,
            judged=variant.judged,
            target=_target_text(from_raw(variant.target, Target)),
            summary=_summary(history, facts, functools.partial(operator.eq, variant.name)),
            steadiness=steadiness_of(
                (each for each in facts if each.record.variant == variant.name), history.plan.gap_edges_ns
            ),
            phases=_phases(history, facts, variant.name),
            note=notes.get(variant.name, ""),
        )
        for variant in history.plan.variants
    ]


def _phases(history: History, facts: Sequence[Facts], variant: str | None) -> list[PhaseResult]:
    if not history.plan.phases:
        return []
    by_phase: dict[str | None, list[Facts]] = {}
    for each in facts:
        if each.record.variant == variant:
            by_phase.setdefault(each.record.phase, []).append(each)
    results = []
    for phase in history.plan.phases:
        mine = by_phase.get(phase.name, [])
        values = [ttft_ns(each.record) for each in mine if each.outcome != "unfinished"]
        open_ = [start for start in history.unfinished if start.variant == variant]
        results.append(
            PhaseResult(
                name=phase.name,
                start_ms=phase.start_ms,
                end_ms=phase.end_ms,
                faults=bool(phase.groups),
                n=len(values),
                k=sum(each.good for each in mine),
                unfinished=len(mine)
                - len(values)
                + sum(phase.name in history.phases.may_be(start) for start in open_),
                ttft_p50_ns=ttft_quantile(values, 0.5),
                ttft_p95_ns=ttft_quantile(values, 0.95),
            )
        )
    return results


def _target_text(target: Target) -> str:
    return f"{target.method} {target.url}"


def _summary(history: History, facts: Sequence[Facts], wanted: "Callable[[str | None], bool]") -> Summary:
    chosen = [each for each in facts if wanted(each.record.variant)]
    outcomes = Counter[str](each.outcome for each in chosen)
    unfinished = sum(1 for start in history.unfinished if wanted(start.variant))
    outcomes["unfinished"] += unfinished
    outcomes["dropped"] += sum(1 for start in history.dropped if wanted(start.variant))
    return Summary(
        streams=len(chosen) + unfinished,
        good=sum(1 for each in chosen if each.outcome in SUCCESSES),
        outcomes=most_first(outcomes),
        ends=most_first(Counter[str](attempt.end for each in chosen for attempt in each.record.attempts)),
        breaks=sum(1 for row in history.breaks if wanted(row.variant)),
        events=sum(each.record.events for each in chosen),
    )


def _sorted(mapping: dict[str, str]) -> dict[str, str]:
    return dict(sorted(mapping.items()))


def _unchecked_certificates(history: History) -> list[str]:
    """A run that trusts anybody says so: what it measured may have been somebody else's."""
    trusting = [
        variant.name
        for variant in history.plan.variants
        if (target := from_raw(variant.target, Target)).insecure and target.url.startswith("https:")
    ]
    whose = [f" in variant {name}" if name is not None else "" for name in trusting]
    return [f"The target's certificate was not checked{each} (insecure = true)." for each in whose]


def _failed_checks(facts: Sequence[Facts]) -> list[str]:
    classes = Counter(each.failed for each in facts if each.failed)
    return [
        f"The check of {count_of(count, 'stream')} failed with {name}: claims that need it are unknown."
        for name, count in sorted(classes.items())
    ]


# --- was the ruler straight? ---------------------------------------------------------------------------------------------


_FEWER: Final = "Fewer streams a worker, or more workers (--workers)."
_FEWER_STARTS: Final = "Start fewer streams a second, or give the run more workers (--workers)."
_BLURRED_NS: Final = 1_000_000
"""A first event whose bracket is wider came while we were busy: else the loop's last poll would have narrowed it."""
_OF_TIGHTEST: Final = 0.05
"""The read lag may be this share of the tightest duration that is judged, where that is less than its own limit."""


class _Found(NamedTuple):
    """An indicator's value and where it was worst."""

    value: float | None
    at_ns: int | None = None
    worker: int | None = None


NOTHING_FOUND: Final = _Found(None)


def rig_table(history: History) -> list[RigRow]:
    """The generator's indicators with their usual limits; informational (decision 4)."""
    opened = {variant.name for variant in history.plan.variants if from_raw(variant.load, Load).is_open}
    starts = [start for start in (*history.dropped, *history.unfinished) if start.variant in opened]
    if history.how != "finished":  # what a stopped run had not come to is no fault of its generator
        starts = [start for start in starts if start.dropped or start.dispatched is not None]
    unmade = [start for start in starts if start.dispatched is None]
    made = sum(record.variant in opened for record in history.streams) + len(starts) - len(unmade)
    lost = any(not start.dropped for start in unmade)
    if _is_of_browsers(history.plan):
        return _browser_rows(history.generator, history.browsers)
    return rig_rows(
        history.generator,
        len(history.dropped),
        not_made=_share(len(unmade), len(unmade) + made),
        lost=lost,
        blurred=_blurred(history),
        tightest_ns=_tightest_ns(history.plan),
    )


def rig_table_so_far(
    plan: Plan, rows: Sequence[GeneratorRow], browsers: Sequence[BrowserRow], dropped: int
) -> list[RigRow]:
    """Those of them, with the same limits, that can be told while the run lasts."""
    if _is_of_browsers(plan):
        return _browser_rows(rows, browsers) if browsers else []
    return rig_rows(rows, dropped, tightest_ns=_tightest_ns(plan))


def _is_of_browsers(plan: Plan) -> bool:
    return any(variant.browser is not None for variant in plan.variants)


def _browser_rows(rows: Sequence[GeneratorRow], browsers: Sequence[BrowserRow]) -> list[RigRow]:
    """What pages tell of how they kept up; the rest of the indicators are a generator's of ours."""
    less = (
        "Leave the machine to the browser: one at a time (--browser), or fewer answers at a time (--at-once)."
    )
    return [
        _rig("page's timer late, longest", _worst(rows, lambda row: _ms(row.loop_lag_max_ns)), "ms", 100.0,
             "How late a 10 ms timer of the page fired: its code could not run for so long.", less),
        _rig("page's clock uncertain, most",
             _Found(max((_ms(each) or 0.0 for row in browsers if (each := row.offset_error_ns) is not None),
                        default=None)), "ms", 25.0,
             "How far its clock may lie from ours to either side; it is in every bracket.", less),
        _rig("pages not in front",
             _Found(float(sum(row.hidden for row in browsers)) if browsers else None), "count", 0.0,
             "Browsers slow down pages that nobody sees.", "Leave the page in front until it says that it is over."),
    ]  # fmt: skip  # a table


def rig_rows(
    rows: Sequence[GeneratorRow],
    dropped: int,
    *,
    not_made: float | None = None,
    lost: bool = False,
    blurred: _Found = NOTHING_FOUND,
    tightest_ns: int | None = None,
) -> list[RigRow]:
    """The indicators over some seconds of generators (measurement.md 2.4); empty without any.

    `not_made` is the share of an open loop's planned starts, `lost` whether a lost worker had any of them, `blurred` that of streams with an inexact first event,
    `tightest_ns` the shortest duration that a claim judges.
    """
    if not rows:
        return []
    lag_limit = 25.0 if tightest_ns is None else min(25.0, _OF_TIGHTEST * tightest_ns / _NS_PER_MS)
    return [
        _rig("read lag p99, worst second", _worst(rows, lambda row: _ms(row.read_lag_p99_ns)), "ms", lag_limit,
             "From a byte's arrival in the kernel until we read it; arrival instants do not depend on it.", _FEWER),
        _rig("dispatch lag p99, worst second", _worst(rows, lambda row: _ms(row.dispatch_lag_p99_ns)), "ms", 10.0,
             "How late streams were started; charged to TTFT from plan.", _FEWER_STARTS),
        _rig("dispatch lag, longest", _worst(rows, lambda row: _ms(row.dispatch_lag_max_ns)), "ms", 50.0,
             "The latest start of all.", _FEWER_STARTS),
        _rig("loop lag, longest", _worst(rows, lambda row: _ms(row.loop_lag_max_ns)), "ms", 100.0,
             "How late a 10 ms timer fired: the generator was busy for so long.",
             "Fewer streams a worker, or less work in the users' own code."),
        _rig("first events over 1 ms uncertain", blurred, "share", 0.01,
             "They came in one read with others, or without a stamp, after we had been busy.", _FEWER),
        _rig("reads without a kernel stamp", _overall(rows, lambda row: row.unstamped_reads, lambda row: row.reads),
             "share", 0.01, "Their instants are our own clock's, with a wider bracket.",
             "Run the generator on Linux; sseproof setup --check says whether its kernel stamps."),
        _rig("reads with several events", _overall(rows, lambda row: row.coalesced_reads, lambda row: row.reads),
             "share", None, "Only the last event of such a read has an exact instant."),
        _rig("CPU of a worker, p95 of seconds", _p95(rows, lambda row: row.cpu_share), "share", 0.8,
             "Of one core.", _FEWER),
        _rig("waiting for a core, p95 of seconds", _p95(rows, lambda row: row.run_queue_share), "share", 0.05,
             "Time in which a worker was ready to run and had no core.",
             "Leave the generator cores of its own: fewer workers than cores, and the service on another machine."),
        _rig("pressure on the cores, p95 of seconds", _p95(rows, lambda row: row.pressure_share), "share", None,
             "Time in which any process of this machine was ready to run and had no core."),
        _rig("steal, p95 of seconds", _p95(rows, lambda row: row.steal_share), "share", 0.02,
             "Processor time of this machine that its hypervisor gave to others.",
             "Run the generator on a machine whose cores are its own."),
        _rig("clock step, largest", _worst(rows, lambda row: abs(row.clock_step_ns) / _NS_PER_MS), "ms", 1.0,
             "A jump of the wall clock; every interval that spans one has a wider bracket.",
             "Have the clock slewed and not stepped while a run lasts."),
        _rig("streams never dispatched", _counted(rows, float(dropped), lambda row: row.dropped), "count", 0.0,
             "Starts that we could not make; judged like unfinished streams.",
             "Raise load.max_open, or start fewer streams a second."),
        _rig("planned starts not made", _Found(not_made), "share", 0.01,
             "The load that was offered was so much less than planned.",
             "See in run.log what ended the lost worker." if lost else
             "Raise load.max_open, or start fewer streams a second."),
        _rig("series values out of range", _counted(rows, None, lambda row: row.out_of_range), "count", 0.0,
             "Missing in series.hlog, which holds values from 0 to 19.5 hours.",
             "An age below 0 means that the sender's clock is ahead of ours: set both by the same source."),
        _rig("rig errors", _counted(rows, None, lambda row: int(row.rig_error is not None)), "count", 0.0,
             "Errors of our own.", "They are named among the problems."),
    ]  # fmt: skip  # a table


def rig_advice(row: RigRow, load_began_ns: int) -> str:
    """When an indicator was out of its limit and what to do, in sentences; empty for one that was not."""
    if row.within is not False:
        return ""
    if row.at_ns is None:
        return row.next
    whose = "" if row.worker is None else f" in worker {row.worker}"
    after = max(0, row.at_ns - load_began_ns) / _NS_PER_S
    return f"Worst {after:.0f} s after the start{whose}. {row.next}"


def _rig(
    indicator: str,
    found: _Found,
    unit: RigUnit,
    limit: float | None,
    *sentences: str,
) -> RigRow:
    """One row; the sentences are what it means and, where it has a limit, what to do beyond it."""
    meaning, advice = sentences if len(sentences) > 1 else (sentences[0], "")
    within = None if found.value is None or limit is None else found.value <= limit
    if within is not False:
        found, advice = _Found(found.value), ""
    return RigRow(
        indicator=indicator,
        value=found.value,
        unit=unit,
        limit=limit,
        within=within,
        meaning=meaning,
        at_ns=found.at_ns,
        worker=found.worker,
        next=advice,
    )


def _worst(rows: Sequence[GeneratorRow], value: Callable[[GeneratorRow], float | None]) -> _Found:
    """The largest value of any second; the first of equal ones."""
    worst = NOTHING_FOUND
    for row in rows:
        own = value(row)
        if own is not None and (worst.value is None or own > worst.value):
            worst = _Found(own, row.at_ns, row.worker)
    return worst


def _p95(rows: Sequence[GeneratorRow], value: Callable[[GeneratorRow], float | None]) -> _Found:
    ranked = sorted(own for row in rows if (own := value(row)) is not None)
    if not ranked:
        return NOTHING_FOUND
    return _worst(rows, value)._replace(value=ranked[math.ceil(0.95 * len(ranked)) - 1])


def _overall(
    rows: Sequence[GeneratorRow], part: Callable[[GeneratorRow], int], whole: Callable[[GeneratorRow], int]
) -> _Found:
    """A share over the whole run; its worst second is the one with the most of them."""
    return _worst(rows, part)._replace(value=_share(sum(map(part, rows)), sum(map(whole, rows))))


def _counted(
    rows: Sequence[GeneratorRow], total: float | None, count: Callable[[GeneratorRow], int]
) -> _Found:
    """A count over the whole run, or the one that is known better; its worst second is the one with the most."""
    found = _worst(rows, count)
    if not found.value:  # no second has any: a lost worker's starts
        found = _Found(0.0)
    return found._replace(value=float(sum(map(count, rows))) if total is None else total)


def _blurred(history: History) -> _Found:
    """The share of streams whose first event is uncertain by more than 1 ms, and the worst of them."""
    firsts = [
        (first.hi_ns - first.lo_ns, record)
        for record in history.streams
        if (first := record.first_event) is not None
    ]
    if not firsts:
        return NOTHING_FOUND
    worst = max(firsts, key=operator.itemgetter(0))[1]
    wide = sum(width > _BLURRED_NS for width, _ in firsts)
    assert worst.first_event is not None
    return _Found(wide / len(firsts), worst.first_event.ns, worst.worker)


def _tightest_ns(plan: Plan) -> int | None:
    """The shortest duration that a claim judges; None without any."""
    limits = []
    for planned in plan.claims:
        with contextlib.suppress(ClaimError):
            claim = parse_claim(planned.text)
            if claim.form == "quantile" and claim.value_kind == "duration":
                limits.append(claim.limit_ns)
    return min(limits, default=None)


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_MS


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# --- the schema ----------------------------------------------------------------------------------------------------------


def verdict_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of verdict.json, as stored in verdict.schema.json."""
    schema = msgspec.json.schema(RunVerdict)
    for struct in schema["$defs"].values():
        if "properties" in struct:
            struct["required"] = list(struct["properties"])  # every field is written, defaults included
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "The result of a run of sseproof",
        **schema,
    }


def schema_text() -> str:
    """`verdict_schema` as the stored file's text."""
    return (
        msgspec.json.format(msgspec.json.encode(verdict_schema(), order="sorted"), indent=1).decode() + "\n"
    )
