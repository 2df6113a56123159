"""Worse, better, or no difference shown: two runs, a run and those kept before it, or two sets of runs; pure.

Rules (measurement.md 3.5):
- Two runs: shares by Newcombe's interval of the difference, and called only where Fisher's exact test agrees, which errs no
  more than it says at any rate. Times are shown with their order-statistic intervals and never called: streams of one run
  share that run's fate, so one pair shows that two runs differ and not that the service does. The unit is the run.
- A run and k kept ones: each figure against its prediction interval, all figures together by one rank (`differences`); counts
  only with fewer than 19.
- Two sets of runs: an exact Mann-Whitney test on the figure of each run, and a change that matters in practice
  (Hodges-Lehmann); called only where both agree.
- The 5 % of error are one budget: figures that may be called share it. Figures beside them are shown and never called.
- What is not certain counts against the call: a run is worse only if it is with all that it left open taken as good, and the
  other's as bad. Where it would be the other way round, what was left open decides, and nothing is shown: not even that no
  difference was.
- No difference shown is no proof of none. A comparison that could not have shown one says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final, Literal

from msgspec import Struct, structs

from sseproof.reports import statistics
from sseproof.reports.differences import (
    ERROR,
    FEWEST_KEPT,
    Badness,
    fewest_runs,
    fisher,
    odd_one_out,
    prediction,
    smallest_fisher,
    smallest_rank_test,
)
from sseproof.reports.figures import (
    QUANTILES,
    SHARES,
    TIMES,
    UNBROKEN,
    Kind,
    RunFigures,
    ShareFigure,
    TimeFigure,
    quantile_of,
)
from sseproof.reports.words import (
    NOT_MEASURED,
    count_of,
    digits,
    duration_text,
    joined,
    share_text,
    signed,
    times_text,
)

Mode = Literal["pair", "baseline", "sets"]
Call = Literal["worse", "better", "none shown", "undecided"]

RATIO: Final = 0.05
"""Of times: a smaller change is of no matter."""
POINTS: Final = 0.01
"""Of shares: a smaller change, in shares of 1, is of no matter."""
_PAIR_CALLED: Final = tuple(SHARES)
_RUNS_CALLED: Final = ("success", "ttft p50", "ttft p95")
_OF_EACH_SIDE: Final = 0.975
"""Each side's order statistics, so that their difference holds with 95 %."""


class IncomparableError(Exception):
    """These runs can't be held against each other; the message is a sentence."""


class Value(Struct, kw_only=True):
    """One figure of one run: a share from 0 to 1, or ns, with the ends of what is not certain; infinity is never."""

    seen: float
    worst: float
    best: float
    n: int
    k: int | None = None
    """Good ones of n, of a share."""


class Side(Struct, kw_only=True):
    """One figure of one side."""

    runs: int
    """Runs in which it was measured."""
    value: float | None
    """Of one run, or the median of several; None was not measured."""
    n: int = 0
    """Units behind it, over all runs."""
    k: int | None = None
    low: float | None = None
    high: float | None = None
    """Ends of its own 95 % interval (of a quantile: order statistics; of kept runs: where the next one lies)."""
    each: list[float | None] = []
    """A value a run, in the order of the runs; None was not measured, infinity is never."""


class Row(Struct, kw_only=True):
    """One figure compared."""

    key: str
    kind: Kind
    name: str
    """What it is, in words."""
    may_call: bool
    """It is among those that share the error budget."""
    decidable: bool
    """So many units or runs could have shown a difference."""
    call: Call
    leans: Literal["worse", "better", ""] = ""
    """Where an undecided one points."""
    before: Side
    after: Side
    difference: float | None = None
    """Of shares: after minus before, as a share of 1. Of times: the ratio after to before."""
    interval: tuple[float, float] | None = None
    """Of the difference; None where there is none."""
    confidence: float | None = None
    """Of the interval, two-sided."""
    p: float | None = None
    """Two-sided; of a run against kept ones, the one-sided rank of all figures together."""
    sentence: str = ""


class RunHead(Struct, kw_only=True):
    """A run that was compared."""

    place: str
    run: str
    scenario: str
    variant: str | None
    seed: int
    how: str
    started_ns: int | None
    streams: int
    problems: int
    labels: dict[str, str] = {}


class Differing(Struct, kw_only=True):
    """An input that is not the same on both sides."""

    name: str
    before: list[str]
    """Every value that it has there; empty where it is not set."""
    after: list[str]


class Comparison(Struct, kw_only=True):
    """The answer of `sseproof compare`."""

    schema: Literal["sseproof/comparison"] = "sseproof/comparison"
    version: Literal[1] = 1
    mode: Mode
    decision: str
    exit_code: Literal[0, 1, 2]
    error: float
    """How often a difference is called where there is none, at most."""
    gate: list[str] = []
    """The figures that were asked to decide; empty for the usual ones."""
    before: list[RunHead]
    after: list[RunHead]
    rows: list[Row]
    differing: list[Differing]
    warnings: list[str]
    """What bends the comparison, a sentence each."""
    ratio: float = RATIO
    points: float = POINTS


class Asked(Struct, kw_only=True, frozen=True):
    """What the command line says about the decision."""

    gate: tuple[str, ...] = ()
    """Figures that have to be decided; they alone are called."""
    ratio: float = RATIO
    points: float = POINTS


class Spec(Struct, frozen=True):
    """A figure that can be compared."""

    key: str
    kind: Kind
    name: str
    metric: str
    q: float | None = None


def specs() -> list[Spec]:
    """Every figure, shares first."""
    found = [Spec(key, "share", name, key) for key, (_, name) in SHARES.items()]
    found.append(Spec(UNBROKEN, "share", "streams without a break", UNBROKEN))
    for metric, (_, name) in TIMES.items():
        found += [
            Spec(f"{metric} p{digits(q * 100)}", "time", f"{name}, p{digits(q * 100)}", metric, q)
            for q in QUANTILES
        ]
    return found


FIGURES: Final = tuple(spec.key for spec in specs())
"""What --gate may name."""


def compare_pair(before: RunFigures, after: RunFigures, asked: Asked) -> Comparison:
    """Two runs, B against A. Raises IncomparableError."""
    return _compared("pair", [before], [after], asked)


def compare_baseline(kept: Sequence[RunFigures], new: RunFigures, asked: Asked) -> Comparison:
    """A run against those kept before it. Raises IncomparableError."""
    return _compared("baseline", kept, [new], asked)


def compare_sets(before: Sequence[RunFigures], after: Sequence[RunFigures], asked: Asked) -> Comparison:
    """Two sets of runs, at least two in all on one side. Raises IncomparableError."""
    return _compared("sets", before, after, asked)


def _compared(
    mode: Mode, before: Sequence[RunFigures], after: Sequence[RunFigures], asked: Asked
) -> Comparison:
    _check_comparable(mode, before, after)
    measured = [spec for spec in specs() if any(value_of(run, spec) for run in (*before, *after))]
    called = _called(mode, measured, before, after, asked)
    error = ERROR / max(len(called), 1)
    rows = []
    for spec in measured:
        sides = (_side(spec, before), _side(spec, after))
        row = Row(
            key=spec.key,
            kind=spec.kind,
            name=spec.name,
            may_call=spec.key in called,
            decidable=False,
            call="undecided",
            before=sides[0],
            after=sides[1],
        )
        if not sides[0].runs or not sides[1].runs:
            row.sentence = (
                f"Measured on one side only: {count_of(sides[0].runs, 'run')} before, {sides[1].runs} after."
            )
        elif mode == "pair":
            _judge_pair(row, spec, before[0], after[0], error)
        elif mode == "sets":
            _judge_sets(row, spec, (before, after), error, asked)
        rows.append(row)
    if mode == "baseline":
        _judge_baseline(rows, before, after[0], asked)
    for row in rows:
        if not row.may_call and (row.call == "worse" or row.call == "better"):  # noqa: PLR1714  # narrows the type
            row.leans, row.call = row.call, "undecided"
            row.sentence += " Shown beside and not called: --gate names what is."
    missing = [key for key in asked.gate if key not in {row.key for row in rows}]
    comparison = Comparison(
        mode=mode,
        decision="",
        exit_code=_exit_code(rows, asked, missing),
        error=ERROR,
        gate=list(asked.gate),
        before=[_head(run) for run in before],
        after=[_head(run) for run in after],
        rows=rows,
        differing=_differing(before, after),
        warnings=[],
        ratio=asked.ratio,
        points=asked.points,
    )
    comparison.warnings = _warnings(comparison, before, after, missing)
    comparison.decision = _decision(comparison, missing)
    return comparison


def _called(
    mode: Mode,
    measured: Sequence[Spec],
    before: Sequence[RunFigures],
    after: Sequence[RunFigures],
    asked: Asked,
) -> list[str]:
    """The figures that share the budget: those asked for, else the usual ones, as far as both sides measured them."""
    wanted = asked.gate or (_PAIR_CALLED if mode == "pair" else _RUNS_CALLED)
    return [
        spec.key
        for spec in measured
        if spec.key in wanted
        and any(value_of(run, spec) for run in before)
        and any(value_of(run, spec) for run in after)
    ]


# --- values -------------------------------------------------------------------------------------------------------------


def value_of(run: RunFigures, spec: Spec) -> Value | None:
    """The figure of one run; None where it was not measured, or of too few units for that quantile."""
    if spec.kind == "share":
        share = run.shares.get(spec.metric)
        if share is None or not share.n:
            return None
        worst, best = share.worst / share.n, share.best / share.n
        return Value(seen=worst, worst=worst, best=best, n=share.n, k=share.worst)
    times = run.times.get(spec.metric)
    if times is None or spec.q is None:
        return None
    seen, low, high = (quantile_of(values, spec.q) for values in (times.seen, times.low, times.high))
    if seen is None or low is None or high is None:
        return None
    return Value(seen=seen, worst=high, best=low, n=times.n)


def _side(spec: Spec, runs: Sequence[RunFigures]) -> Side:
    values = [value_of(run, spec) for run in runs]
    found = [value for value in values if value is not None]
    if not found:
        return Side(runs=0, value=None)
    side = Side(
        runs=len(found),
        value=median(value.seen for value in found),
        n=sum(value.n for value in found),
        each=[None if value is None else value.seen for value in values],
    )
    if spec.kind == "share":
        side.k = sum(value.k or 0 for value in found)
    return side


def value_text(kind: Kind, value: float) -> str:
    """A figure's value in words: 98 %, 86 ms, never."""
    if kind == "share":
        return share_text(value)
    return duration_text(None if math.isinf(value) else value)


def _text(row: Row | Spec, value: float | None) -> str:
    return "not measured" if value is None else value_text(row.kind, value)


# --- two runs -----------------------------------------------------------------------------------------------------------


def _judge_pair(row: Row, spec: Spec, before: RunFigures, after: RunFigures, error: float) -> None:
    if spec.kind == "share":
        _judge_shares(row, before.shares[spec.metric], after.shares[spec.metric], error)
        return
    assert spec.q is not None
    _judge_times(row, spec.q, before.times[spec.metric], after.times[spec.metric])


def _judge_shares(row: Row, before: ShareFigure, after: ShareFigure, error: float) -> None:
    row.confidence = 1.0 - error
    a, b = (before.worst, before.n), (after.worst, after.n)
    row.difference = after.worst / after.n - before.worst / before.n
    low, _ = statistics.newcombe((before.best, before.n), b, row.confidence)
    _, high = statistics.newcombe(a, (after.best, after.n), row.confidence)
    row.interval = (low, high)
    fewer = fisher(a, (after.best, after.n))
    more = fisher((before.best, before.n), b)
    row.p = min(fewer.two_sided, more.two_sided)
    row.decidable = smallest_fisher(before.n, after.n) <= error
    row.before.low, row.before.high = statistics.wilson(before.worst, before.n)
    row.after.low, row.after.high = statistics.wilson(after.worst, after.n)
    sides = (
        f"{before.worst:,} of {before.n:,} ({share_text(before.worst / before.n)}) before, "
        f"{after.worst:,} of {after.n:,} ({share_text(after.worst / after.n)}) after"
    )
    if fewer.fewer * 2 <= error and high < 0:
        row.call = "worse"
    elif more.more * 2 <= error and low > 0:
        row.call = "better"
    elif not row.decidable:
        row.sentence = f"{sides}: so few units can't show a difference."
        return
    elif open_units := _hiding(a, b, before, after, error):
        row.decidable = False
        row.sentence = f"{sides}: {open_units} left open, and what they came to decides."
        return
    else:
        row.call = "none shown"
    row.sentence = f"{sides}: {CALLS[row.call]}; the difference lies between {_span(low, high)}."


def _hiding(
    a: tuple[int, int], b: tuple[int, int], before: ShareFigure, after: ShareFigure, error: float
) -> str:
    """The open units, where those of one side taken as bad and those of the other as good show a difference; else empty."""
    open_ = before.best - before.worst + after.best - after.worst
    fewer, more = fisher((before.best, before.n), b).fewer, fisher(a, (after.best, after.n)).more
    return (
        f"{count_of(open_, 'unit')} {'was' if open_ == 1 else 'were'}"
        if open_ and min(fewer, more) * 2 <= error
        else ""
    )


def _judge_times(row: Row, q: float, before: TimeFigure, after: TimeFigure) -> None:
    """The order statistics of both; a pair of runs never calls a time."""
    own = [_own_interval(times, q, 0.95) for times in (before, after)]
    for side, interval in zip((row.before, row.after), own, strict=True):
        if interval is not None:
            side.low, side.high = interval
    a, b = (_own_interval(times, q, _OF_EACH_SIDE) for times in (before, after))
    seen_a, seen_b = row.before.value, row.after.value
    assert seen_a is not None
    assert seen_b is not None
    if a is None or b is None:
        row.sentence = f"n too small for an interval: {before.n:,} before, {after.n:,} after."
        return
    row.difference = _ratio(seen_b, seen_a)
    row.confidence = 0.95
    low, high = _ratio(b[0], a[1]), _ratio(b[1], a[0])
    row.interval = None if low is None or high is None else (low, high)
    sides = f"{_text(row, seen_a)} before, {_text(row, seen_b)} after"
    if b[0] > a[1]:
        row.leans = "worse"
    elif b[1] < a[0]:
        row.leans = "better"
    else:
        row.call = "none shown"
        row.sentence = f"{sides}: no difference shown, and one pair of runs could not show one of times."
        return
    slower = "slower" if row.leans == "worse" else "faster"
    row.sentence = f"{sides}: {slower} in this pair."


def _own_interval(times: TimeFigure, q: float, confidence: float) -> tuple[float, float] | None:
    ranks = statistics.quantile_interval(times.n, q, confidence)
    return None if ranks is None else (times.low[ranks[0] - 1], times.high[ranks[1] - 1])


def _ratio(value: float, to: float) -> float | None:
    """None where one never was, or took no time."""
    return value / to if to > 0 and math.isfinite(to) and math.isfinite(value) else None


# --- two sets of runs ---------------------------------------------------------------------------------------------------


def _judge_sets(
    row: Row,
    spec: Spec,
    sides_of: tuple[Sequence[RunFigures], Sequence[RunFigures]],
    error: float,
    asked: Asked,
) -> None:
    a, b = ([value for run in runs if (value := value_of(run, spec))] for runs in sides_of)
    least = smallest_rank_test(len(a), len(b))
    row.decidable = least <= error
    row.confidence = 1.0 - error
    pessimist = _shift(spec, [value.worst for value in a], [value.best for value in b], row.confidence)
    optimist = _shift(spec, [value.best for value in a], [value.worst for value in b], row.confidence)
    seen = _shift(spec, [value.seen for value in a], [value.seen for value in b], row.confidence)
    row.difference, row.interval = seen.shown, seen.interval
    down_is_worse = spec.kind == "share"
    worse_p = pessimist.lower if down_is_worse else pessimist.higher
    better_p = optimist.higher if down_is_worse else optimist.lower
    row.p = min(1.0, 2.0 * min(worse_p, better_p))
    text = _change(spec, seen.shown)
    sides = (
        f"median {_text(row, row.before.value)} in {len(a)} runs, {_text(row, row.after.value)} in {len(b)}"
    )
    if 2.0 * worse_p <= error and _matters(spec, pessimist.size, asked) < 0:
        row.call = "worse"
    elif 2.0 * better_p <= error and _matters(spec, optimist.size, asked) > 0:
        row.call = "better"
    elif not row.decidable:
        row.sentence = (
            f"{sides}: {len(a)} against {len(b)} runs can't decide: the smallest p they can have is {_p(least)}, and "
            f"{_p(error)} is asked; {fewest_runs(error)} a side can."
        )
        return
    elif _may_hide(spec, pessimist, optimist, error, asked):
        row.decidable = False
        row.sentence = f"{sides}: units were left open, and what they came to decides."
        return
    else:
        row.call = "none shown"
    row.sentence = f"{sides}: {CALLS[row.call]}; {text}, p = {_p(row.p)}."
    if row.call == "none shown" and row.p <= error:
        row.sentence += " That is less than matters."


def _may_hide(spec: Spec, pessimist: "_Shift", optimist: "_Shift", error: float, asked: Asked) -> bool:
    """Whether a change that matters shows with the open units of one side taken as bad and those of the other as good."""
    if pessimist == optimist:
        return False
    worse_p, better_p = (
        (optimist.lower, pessimist.higher) if spec.kind == "share" else (optimist.higher, pessimist.lower)
    )
    worse = 2.0 * worse_p <= error and _matters(spec, optimist.size, asked) < 0
    return worse or (2.0 * better_p <= error and _matters(spec, pessimist.size, asked) > 0)


class _Shift(Struct):
    size: float
    """After minus before of shares, after to before of times."""
    shown: float | None
    """The same, None where one of the two is never."""
    interval: tuple[float, float] | None
    higher: float
    lower: float


_NEVER: Final = 1_000.0
"""How many times the longest one stands for a time that never came: a ratio with one is beyond any other."""


def _shift(spec: Spec, before: Sequence[float], after: Sequence[float], confidence: float) -> _Shift:
    test = statistics.mann_whitney(before, after)
    if spec.kind == "share":
        shift = statistics.hodges_lehmann(before, after, confidence)
        return _Shift(shift.value, shift.value, shift.interval, test.higher, test.lower)
    finite = [max(value, 1.0) for value in (*before, *after) if math.isfinite(value)]
    roof = max(finite, default=1.0) * _NEVER

    def logs(values: Sequence[float]) -> list[float]:
        return [math.log(max(min(value, roof), 1.0)) for value in values]

    shift = statistics.hodges_lehmann(logs(before), logs(after), confidence)
    size = math.exp(shift.value)
    ends = None if shift.interval is None else (math.exp(shift.interval[0]), math.exp(shift.interval[1]))
    if len(finite) < len(before) + len(after):
        most = max(finite, default=1.0) / min(finite, default=1.0)
        # Of a pair of never and never nothing is known, and one with a time is no ratio.
        nothing = not finite or (math.isinf(median(before)) and math.isinf(median(after)))
        shown = None if nothing or not 1 / most <= size <= most else size
        ends = None if shown is None or ends is None or not 1 / most <= ends[0] <= ends[1] <= most else ends
        return _Shift(size, shown, ends, test.higher, test.lower)
    return _Shift(size, size, ends, test.higher, test.lower)


def _matters(spec: Spec, size: float, asked: Asked) -> int:
    """-1 for a change to the worse that matters, 1 for one to the better, 0 for none."""
    if spec.kind == "share":
        return -1 if size < -asked.points else 1 if size > asked.points else 0
    return -1 if size > 1.0 + asked.ratio else 1 if size < 1.0 / (1.0 + asked.ratio) else 0


# --- a run and those before it ------------------------------------------------------------------------------------------


Way = Literal["worse", "better"]
_WAYS: Final[tuple[Way, ...]] = ("worse", "better")


def _judge_baseline(rows: Sequence[Row], kept: Sequence[RunFigures], new: RunFigures, asked: Asked) -> None:
    by_key = {spec.key: spec for spec in specs()}
    measured: dict[str, tuple[Spec, list[Value], Value]] = {}
    for row in rows:
        spec = by_key[row.key]
        values = [value for run in kept if (value := value_of(run, spec))]
        mine = value_of(new, spec)
        if mine is None or not values:
            continue
        whole = len(values) == len(kept)
        row.decidable = whole and len(kept) >= FEWEST_KEPT
        _place_among(row, spec, [value.seen for value in values], mine)
        if row.decidable:
            measured[row.key] = spec, values, mine
        elif not whole:
            row.sentence += f" It was measured in {len(values)} of {len(kept)} kept runs."
    decidable = [row for row in rows if row.decidable]
    calls, p = _odd(decidable, measured, asked)
    swapped = {
        key: (spec, list(map(_swapped, values)), _swapped(mine))
        for key, (spec, values, mine) in measured.items()
    }
    hidden, _ = _odd(decidable, swapped, asked)
    for row in decidable:
        row.call = calls.get(row.key, "none shown")
        row.p = p if row.may_call else None
        if row.may_call and row.call == "none shown" and row.key in hidden:
            row.call, row.decidable = "undecided", False
            row.sentence += " Units were left open, and what they came to decides."
        else:
            row.sentence += f" {CALLS[row.call][0].upper()}{CALLS[row.call][1:]}."


def _swapped(value: Value) -> Value:
    """The same with what is open taken for the call, and not against it."""
    return structs.replace(value, worst=value.best, best=value.worst)


def _odd(
    rows: Sequence[Row], measured: Mapping[str, tuple[Spec, Sequence[Value], Value]], asked: Asked
) -> tuple[dict[str, Way], float | None]:
    """The figures by which the new run is odd, and in which way; and the rank of all figures together."""
    joint = {
        way: {row.key: _badness(*measured[row.key], to_worse=way == "worse") for row in rows if row.may_call}
        for way in _WAYS
    }
    ps = {way: odd_one_out(found) for way, found in joint.items() if found}
    calls = {
        row.key: way
        for row in rows
        for way in _WAYS
        if (not row.may_call or ps[way] <= ERROR + 1e-12)
        and _is_outside(row, measured[row.key][0], way, asked, measured[row.key][2])
    }
    return calls, min(ps.values(), default=None)


def _badness(spec: Spec, values: Sequence[Value], mine: Value, *, to_worse: bool) -> Badness:
    """Larger is further in the direction asked about; what is open is taken against the call."""
    sign = 1.0 if (spec.kind == "time") == to_worse else -1.0
    ours: Callable[[Value], float] = lambda value: value.best if to_worse else value.worst  # noqa: E731
    theirs: Callable[[Value], float] = lambda value: value.worst if to_worse else value.best  # noqa: E731
    return Badness(
        kept=[sign * theirs(value) for value in values],
        new=sign * ours(mine),
        pool=[sign * value.seen for value in (*values, mine)],
    )


def _place_among(row: Row, spec: Spec, values: Sequence[float], mine: Value) -> None:
    """How many kept runs were better and worse, and the range that holds the next one where there are enough."""
    worse = [value for value in values if (value > mine.seen if spec.kind == "time" else value < mine.seen)]
    better = [value for value in values if (value < mine.seen if spec.kind == "time" else value > mine.seen)]
    middle = median(values)
    row.difference = mine.seen - middle if spec.kind == "share" else _ratio(mine.seen, middle)
    were = "was" if len(better) == 1 else "were"
    row.sentence = (
        f"{_text(row, mine.seen)}; of {count_of(len(values), 'kept run')} {len(better)} {were} better, "
        f"{len(worse)} worse"
    )
    found = prediction(values)
    if found is None:
        row.sentence += f". Counts only: a range for the next run needs {FEWEST_KEPT} kept ones."
        return
    row.before.low, row.before.high = found.low, found.high
    row.interval, row.confidence = None, found.holds
    row.sentence += f"; {_text(row, found.low)} to {_text(row, found.high)} holds the next one in {share_text(found.holds)} of cases."


def _is_outside(row: Row, spec: Spec, direction: Way, asked: Asked, mine: Value) -> bool:
    """Whether the run is odd by this figure: outside the range on that side, and by as much as matters."""
    low, high, middle = row.before.low, row.before.high, row.before.value
    assert low is not None
    assert high is not None
    assert middle is not None
    value = mine.best if direction == "worse" else mine.worst
    above = (spec.kind == "time") == (direction == "worse")
    if not (value > high if above else value < low):
        return False
    size = value - middle if spec.kind == "share" else _ratio(value, middle)
    # Without a ratio one of the two is never, which matters.
    return size is None or _matters(spec, size, asked) == (-1 if direction == "worse" else 1)


# --- words --------------------------------------------------------------------------------------------------------------

CALLS: Final[Mapping[Call, str]] = {
    "worse": "worse",
    "better": "better",
    "none shown": "no difference shown",
    "undecided": "not decided",
}


def _span(low: float, high: float) -> str:
    return f"{points_text(low)} and {points_text(high)}"


def points_text(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{signed(share * 100)} points"


def ratio_text(ratio: float | None) -> str:
    """Times so much: x1.3."""
    return "never" if ratio is None else times_text(ratio)


def side_text(row: Row, side: Side) -> str:
    """One side's figure as a table shows it: k/n of one run, else its value or the median of several."""
    if side.value is None:
        return NOT_MEASURED
    if side.k is not None and side.runs == 1:
        return f"{side.k:,}/{side.n:,}"
    return _text(row, side.value)


def change_text(row: Row) -> str:
    """The change as a table shows it."""
    if row.difference is None:
        return NOT_MEASURED
    return points_text(row.difference) if row.kind == "share" else ratio_text(row.difference)


def _change(spec: Spec, size: float | None) -> str:
    return points_text(size or 0.0) if spec.kind == "share" else ratio_text(size)


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


def _exit_code(rows: Sequence[Row], asked: Asked, missing: Sequence[str]) -> Literal[0, 1, 2]:
    """1 for a regression that was shown; 2 where a figure had to be decided, or one at least, and could not be; else 0."""
    calling = [row for row in rows if row.may_call]
    if any(row.call == "worse" for row in calling):
        return 1
    if asked.gate:
        gated = [row for row in rows if row.key in asked.gate]
        return 2 if missing or any(not row.decidable for row in gated) else 0
    return 0 if any(row.decidable for row in calling) else 2


def _decision(comparison: Comparison, missing: Sequence[str]) -> str:
    rows = [row for row in comparison.rows if row.may_call]
    worse = [row for row in rows if row.call == "worse"]
    better = [row for row in rows if row.call == "better"]
    decidable = [row for row in rows if row.decidable]
    parts = []
    if worse:
        parts.append(f"Worse: {joined([_finding(row, comparison.mode) for row in worse])}.")
    if better:
        parts.append(f"Better: {joined([_finding(row, comparison.mode) for row in better])}.")
    rest = len(decidable) - len(worse) - len(better)
    if not worse and not better and decidable:
        parts.append(f"No difference shown in {joined([row.key for row in decidable])}.")
    elif rest:
        parts.append(f"No difference shown in {count_of(rest, 'further figure')}.")
    undecided = [row.key for row in rows if not row.decidable] + list(missing)
    if undecided:
        parts.append(f"Not decided: {joined(undecided)}.")
    leaning = [row for row in comparison.rows if row.leans and row.key.startswith("ttft")]
    if comparison.mode == "pair" and leaning:
        ways = dict.fromkeys("slower" if row.leans == "worse" else "faster" for row in leaning)
        parts.append(
            f"TTFT is {joined(list(ways))} in this pair, which one pair can't put down to the service."
        )
    return " ".join(parts) or "Nothing was measured on both sides."


_GOOD: Final = {"lost": "nothing lost in", "doubled": "nothing doubled in"}
"""How a sentence names the share of good streams where the figure is called by what the bad ones did."""


def _finding(row: Row, mode: Mode) -> str:
    name = _GOOD.get(row.key, row.key)
    if row.kind == "share" and mode == "pair":
        before, after = row.before, row.after
        return (
            f"{name} {before.k:,} of {before.n:,} ({_text(row, before.value)}) → "
            f"{after.k:,} of {after.n:,} ({_text(row, after.value)})"
        )
    return f"{name} {_text(row, row.before.value)} → {_text(row, row.after.value)}"


# --- what may be compared -----------------------------------------------------------------------------------------------


def _check_comparable(mode: Mode, before: Sequence[RunFigures], after: Sequence[RunFigures]) -> None:
    """Raises IncomparableError."""
    runs = [*before, *after]
    places: dict[tuple[str, str | None], str] = {}
    for run in runs:
        key = (run.run, run.variant)
        if key in places:
            raise IncomparableError(
                f"{places[key]} and {run.place} are one and the same run: name two different ones."
            )
        places[key] = run.place
    if mode == "sets" and len(runs) < 3:
        raise IncomparableError(
            "Two sets of runs need at least two runs on one side; two runs are a pair: A B."
        )
    for run in runs:
        if not run.streams or run.kind is None:
            raise IncomparableError(f"{run.place} has not one finished stream: there is nothing to compare.")
    _check_same(
        runs,
        lambda run: "an open loop" if run.is_open else "a closed loop",
        "had {} and {} had {}: TTFT starts at another moment, and the loads are not alike",
    )
    _check_same(runs, lambda run: f"{run.kind}s", "had {} and {} had {}: success means something else")


def _check_same(runs: Sequence[RunFigures], what: Callable[[RunFigures], str], sentence: str) -> None:
    first = runs[0]
    for run in runs[1:]:
        if what(run) != what(first):
            words = sentence.format(what(first), run.place, what(run))
            raise IncomparableError(f"{first.place} {words}.")


def comparable(first: RunFigures, other: RunFigures) -> bool:
    """Whether a kept run can stand beside another."""
    return bool(other.streams) and (first.kind, first.is_open) == (other.kind, other.is_open)


def _head(run: RunFigures) -> RunHead:
    return RunHead(
        place=run.place,
        run=run.run,
        scenario=run.scenario,
        variant=run.variant,
        seed=run.seed,
        how=run.how,
        started_ns=run.started_ns,
        streams=run.streams,
        problems=run.problems,
        labels=run.labels,
    )


def _differing(before: Sequence[RunFigures], after: Sequence[RunFigures]) -> list[Differing]:
    """Inputs and labels whose values are not the same on both sides, seeds of single runs among them."""
    sides = [[_inputs(run) for run in runs] for runs in (before, after)]
    names = sorted({name for side in sides for inputs in side for name in inputs})
    found = []
    for name in names:
        values = [sorted({inputs[name] for inputs in side if name in inputs}) for side in sides]
        partly = any(name not in inputs for side in sides for inputs in side)
        several = len(before) + len(after) > 2
        if name == "seed" and several:
            continue  # each run of a set has its own
        if values[0] != values[1] or (several and partly) or max(map(len, values)) > 1:
            found.append(Differing(name=name, before=values[0], after=values[1]))
    return found


def _inputs(run: RunFigures) -> dict[str, str]:
    return {
        **run.inputs,
        "seed": str(run.seed),
        "variant": run.variant or "",
        **{f"labels.{name}": value for name, value in run.labels.items()},
    }


_MACHINE: Final = ("host.", "versions.")


def _warnings(
    comparison: Comparison, before: Sequence[RunFigures], after: Sequence[RunFigures], missing: Sequence[str]
) -> list[str]:
    found = []
    names = [each.name for each in comparison.differing]
    asked = [
        name
        for name in names
        if not name.startswith((*_MACHINE, "labels.")) and name not in {"seed", "variant"}
    ]
    machine = [name for name in names if name.startswith(_MACHINE)]
    if asked:
        found.append(
            f"What was asked is not the same ({joined(asked[:8])}{f' and {len(asked) - 8} more' if len(asked) > 8 else ''}): "
            "a difference may come from that and not from the service."
        )
    if machine:
        found.append(
            f"The runs had other machines or versions ({joined(machine[:8])}): times may differ by that alone."
        )
    if comparison.mode == "pair":
        found.append(
            "One pair of runs does not show a regression of latency: the unit is the run, runs differ by themselves, and more "
            "streams do not help. "
            f"Compare sets of runs (A1 A2 … --with B1 B2 …), or keep {FEWEST_KEPT} runs as a baseline."
        )
    if comparison.mode == "sets" and not _interleaved(before, after):
        found.append(
            "All runs of one side came before all of the other: a slow change of the machine looks like a difference. "
            "Take turns (A B B A)."
        )
    if comparison.mode == "baseline" and len(before) < FEWEST_KEPT:
        show = "shows" if len(before) == 1 else "show"
        found.append(
            f"{count_of(len(before), 'kept run')} {show} counts only: a range that holds the next run takes {FEWEST_KEPT}."
        )
    for run in (*before, *after):
        if run.how != "finished":
            found.append(f"{run.place} ended as {run.how}: what it left open counts against every call.")
        if run.aborted:
            found.append(
                f"{run.place} was aborted: what its streams met is not what was planned, nor what others met."
            )
        for file, keys in run.lacking.items():
            found.append(
                f"In {run.place} {file}.jsonl is missing or not whole: {joined(keys)} can't be compared."
            )
        if run.failed:
            found.append(f"In {run.place} a check of ours failed: {joined(run.failed)} can't be compared.")
    if missing:
        found.append(f"{joined(list(missing))} was not measured on either side.")
    return found


def _interleaved(before: Sequence[RunFigures], after: Sequence[RunFigures]) -> bool:
    starts = [[run.started_ns for run in side if run.started_ns is not None] for side in (before, after)]
    if not starts[0] or not starts[1]:
        return True
    return not (max(starts[0]) < min(starts[1]) or max(starts[1]) < min(starts[0]))
