"""What a comparison of runs looks at: each run's counts and times, at both ends of what is not certain; pure.

Rules:
- Units are those of the claims (`checks`): streams, and breaks for recovery and reconnection. Failed ones stay in n and are
  never; those that we ended ourselves, or that have no end, are bad at the one end and good at the other.
- A gap has no independent neighbours, so the unit is the stream here too: its longest silence between two events.
- Units whose truth nobody knows are left out.
- A figure that needs a file which the record lacks is not measured: what is left of a run is not what happened in it.
- What was asked of a run (its inputs) is kept beside it, without what each run has anew: ports, proxies, instants.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reports import statistics
from sseproof.reports.checks import CheckFailedError, Scoped, Unit, measure
from sseproof.reports.claims import parse_claim
from sseproof.reports.facts import Facts, History, How
from sseproof.reports.phases import has_quantile
from sseproof.reports.verdicts import missing_files
from sseproof.reports.words import most_first
from sseproof.rundir.rows import StreamKind, VariantPlan
from sseproof.rundir.units import encode_hook, from_raw

Kind = Literal["share", "time"]

SHARES: Final[dict[str, tuple[str, str]]] = {
    "success": ("success >= 50%", "streams that succeeded"),
    "recovery": ("recovery = 100%", "breaks after which the stream succeeded"),
    "lost": ("lost = 0", "streams that lost nothing"),
    "doubled": ("doubled = 0", "streams in which nothing came twice"),
    "utf8": ("utf8 = 100%", "streams with the text that was meant"),
}
"""Key, the claim whose units are counted, and what a good one is called."""
UNBROKEN: Final = "unbroken"
TIMES: Final[dict[str, tuple[str | None, str]]] = {
    "ttft": ("ttft p95 <= 1s", "TTFT"),
    "e2e": ("e2e p95 <= 1s", "time to the last event"),
    "reconnect": ("reconnect p95 <= 1s", "reconnection"),
    "silence": (None, "longest silence of a stream"),
}
_OF_ALL_STREAMS: Final = "attempts p95 <= 1"
"""A claim that needs no more of the record than figures of streams without a claim do."""
QUANTILES: Final = (0.5, 0.95, 0.99)
_LONGEST_INPUT_CHARS: Final = 200


class ShareFigure(Struct, kw_only=True):
    """k of n in one run."""

    n: int
    worst: int
    """Good ones at the unfavourable end."""
    best: int
    """Good ones at the favourable end."""


class TimeFigure(Struct, kw_only=True):
    """The times of one run, each list ascending, in ns; infinity is never."""

    seen: list[float]
    low: list[float]
    """The least that each can have been; what is open may have been nothing."""
    high: list[float]
    """The most that each can have been; what is open may never have come."""

    @property
    def n(self) -> int:
        """Units, the open and the failed ones included."""
        return len(self.seen)


class RunFigures(Struct, kw_only=True):
    """One run, or one variant of it."""

    place: str
    """The folder as it was named."""
    run: str
    scenario: str
    variant: str | None
    seed: int
    how: How
    started_ns: int | None
    kind: StreamKind | None
    """What most of its streams were; None without a finished one."""
    is_open: bool
    """Whether its streams started by a schedule, so that TTFT counts from plan."""
    streams: int
    outcomes: dict[str, int]
    """Most frequent first."""
    ends: dict[str, int]
    """How attempts ended, most frequent first."""
    breaks: int
    problems: int
    aborted: bool = False
    """It gave up: what was planned for afterwards did not happen."""
    shares: dict[str, ShareFigure] = {}
    times: dict[str, TimeFigure] = {}
    inputs: dict[str, str] = {}
    """What was asked, on what; `versions.…` and `host.…` are what it ran on."""
    labels: dict[str, str] = {}
    failed: list[str] = []
    """Figures that a check of ours could not establish."""
    lacking: dict[str, list[str]] = {}
    """Figures that are not measured, by the row file that the record lacks or has not whole."""


def run_figures(history: History, facts: Sequence[Facts], variant: VariantPlan, place: str) -> RunFigures:
    """The figures of one variant of a run."""
    name = variant.name
    mine = [each for each in facts if each.record.variant == name]
    unfinished = sum(start.variant == name for start in history.unfinished)
    dropped = sum(start.variant == name for start in history.dropped)
    outcomes = Counter[str](each.outcome for each in mine)
    outcomes["unfinished"] += unfinished
    outcomes["dropped"] += dropped
    kinds = Counter(each.record.kind for each in mine)
    run = history.run
    figures = RunFigures(
        place=place,
        run=history.plan.run,
        scenario=history.plan.scenario,
        variant=name,
        seed=history.plan.seed,
        how=history.how,
        aborted=run is not None and run.aborted is not None,
        started_ns=None if run is None else run.started_ns,
        kind=kinds.most_common(1)[0][0] if kinds else None,
        is_open=from_raw(variant.load, Load).is_open,
        streams=len(mine) + unfinished,
        outcomes=most_first(outcomes),
        ends=most_first(Counter[str](attempt.end for each in mine for attempt in each.record.attempts)),
        breaks=sum(row.variant == name for row in history.breaks),
        problems=len(history.problems),
        inputs=_inputs(history, variant),
        labels={} if run is None else dict(sorted(run.labels.items())),
    )

    def whole_for(key: str, claim: str) -> bool:
        missing = missing_files(parse_claim(claim), history)
        for file in missing:
            figures.lacking.setdefault(file, []).append(key)
        return not missing

    def units(key: str, claim: str) -> list[Unit]:
        if not whole_for(key, claim):
            return []
        try:
            return measure(Scoped(parse_claim(claim), name, history, facts)).units
        except CheckFailedError:
            figures.failed.append(key)
            return []

    for key, (claim, _) in SHARES.items():
        share = _share(units(key, claim))
        if share is not None:
            figures.shares[key] = share
    if mine and whole_for(UNBROKEN, _OF_ALL_STREAMS):
        unbroken = [each for each in mine if each.record.breaks == 0]
        whole = sum(each.outcome != "unfinished" for each in unbroken)
        open_ = unfinished + dropped
        figures.shares[UNBROKEN] = ShareFigure(n=len(mine) + open_, worst=whole, best=len(unbroken) + open_)
    for key, (timed, _) in TIMES.items():
        if key == "e2e" and figures.kind == "subscription":
            continue  # it has no last event; those of the failed ones alone would say nothing
        if timed is not None:
            times = _times(units(key, timed))
        else:
            times = _silences(mine if whole_for(key, _OF_ALL_STREAMS) else [])
        if times.n:
            figures.times[key] = times
    return figures


def _share(units: Sequence[Unit]) -> ShareFigure | None:
    told = [unit for unit in units if unit.cause != "truth"]
    if not any(unit.cause is None for unit in told):
        return None  # nothing that ended: no figure
    return ShareFigure(
        n=sum(unit.n for unit in told),
        worst=sum(unit.worst for unit in told),
        best=sum(unit.best for unit in told),
    )


def _times(units: Sequence[Unit]) -> TimeFigure:
    figure = TimeFigure(seen=[], low=[], high=[])
    for unit in units:
        value = unit.value_ns
        if value is not None:
            # The bracket holds the value, so it reaches at most its width to either side.
            seen, low, high = (
                float(value),
                max(float(value - unit.width_ns), 0.0),
                float(value + unit.width_ns),
            )
        else:
            open_ = unit.cause in {"unfinished", "dropped"}
            seen, low, high = math.inf, 0.0 if open_ else math.inf, math.inf
        for values, each in ((figure.seen, seen), (figure.low, low), (figure.high, high)):
            values.extend([each] * unit.n)
    return _sorted(figure)


def _silences(facts: Sequence[Facts]) -> TimeFigure:
    found = [each.record.gaps for each in facts if each.record.gaps is not None and each.record.gaps.count]
    high = [float(gaps.longest_hi_ns) for gaps in found]
    return _sorted(TimeFigure(seen=list(high), low=[float(gaps.longest_lo_ns) for gaps in found], high=high))


def _sorted(figure: TimeFigure) -> TimeFigure:
    return TimeFigure(seen=sorted(figure.seen), low=sorted(figure.low), high=sorted(figure.high))


def quantile_of(values: Sequence[float], q: float) -> float | None:
    """The observed quantile of ascending values, infinity for never; None where none lies beyond it."""
    if not has_quantile(len(values), q):
        return None
    return values[statistics.quantile_rank(len(values), q) - 1]


# --- inputs -------------------------------------------------------------------------------------------------------------


def _inputs(history: History, variant: VariantPlan) -> dict[str, str]:
    plan = history.plan
    found: dict[str, str] = {"scenario": plan.scenario}
    sections = {
        "target": from_raw(variant.target, Target),
        "load": from_raw(variant.load, Load),
        "client": from_raw(variant.client, Client),
    }
    for name, section in sections.items():
        _flatten(name, msgspec.to_builtins(section, enc_hook=encode_hook), found)
    _flatten("fault", _faults(history), found)
    for name, value in (
        ("phases", {phase.name: f"from {phase.start_ms} ms" for phase in plan.phases}),
        ("abort", None if plan.abort is None else f"{plan.abort.when}, stops the {plan.abort.stop}"),
        ("workers", plan.workers),
        ("remote_workers", plan.remote_workers),
        ("server", variant.server),
        ("hop", variant.hop),
        ("fault_side", variant.fault_side),
        ("locustfile", plan.locustfile_sha256),
        ("payloads", variant.payloads_sha256),
    ):
        _flatten(name, value, found)
    if history.run is not None:
        _flatten("versions", history.run.versions, found)
        _flatten("host", history.run.host, found)
    return {name: found[name] for name in sorted(found)}


def _faults(history: History) -> dict[str, Any]:
    """Name of the group → share and fault, as they were asked for."""
    try:
        plan = msgspec.json.decode(history.plan.faults)
        return {
            str(group["name"]): {"share": group["share"], **group["fault"]}
            for group in (plan or {}).get("groups", [])
        }
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):  # a damaged plan: judge says so
        return {"plan": "unreadable"}


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            _flatten(f"{name}.{key}", each, found)
    elif value not in (None, "", [], False):
        text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=encode_hook).decode()
        found[name] = text if len(text) <= _LONGEST_INPUT_CHARS else f"{text[:_LONGEST_INPUT_CHARS]}…"
