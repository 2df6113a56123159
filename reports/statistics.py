"""Exact statistics of counted units and of two samples, with the standard library only.

Bounds, decisions, plans and ranks of one count; differences of two shares, and rank tests of two sets of values.

Rules:
- Every question is about k good units of n and a floor p0 (measurement.md 3.1). A verdict uses the one-sided
  Clopper-Pearson bound (3.2): it passes when the lower bound reaches p0, fails when the upper bound is below p0, and is
  unknown between. Wilson's interval is for display only, the normal approximation is used nowhere.
- `decide` compares the binomial tail at p0 with the error that is allowed, which is the same as comparing the bound with
  p0 and needs no inversion: a verdict never hangs on the last digit of a root search.
- All binomial tails go through one regularised incomplete beta function: a continued fraction whose prefactor is the
  binomial probability in saddle-point form (C. Loader, "Fast and accurate computation of binomial probabilities", 2000).
  Differences of lgamma lose ten digits at n = 10^6; this form loses none.
- Two shares are compared by Newcombe's hybrid score interval, two sets of values by the exact Mann-Whitney test and the
  Hodges-Lehmann shift (3.5): the values are those of whole runs, of which there are few, so nothing is approximated.
- `confidence` is one-sided, 0.95 unless said, and two-sided for intervals; `n`, `k` and `failures` count units; ranks
  count from 1.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from statistics import NormalDist
from typing import Final, Literal

from msgspec import Struct

Decision = Literal["pass", "fail", "unknown"]

CONFIDENCE: Final = 0.95
"""One-sided, the usual 5 % of error (measurement.md 3.2)."""

ADVISED_LIMIT: Final = 1_000_000
"""Nobody plans a run of more units to decide one claim."""

FURTHER_LIMIT: Final = 10_000_000
"""More units than this are no advice."""

LARGEST_POOL: Final = 200
"""Values of two samples together: the exact distribution of more takes seconds, and they are runs."""

_TINY: Final = 1e-300
_RELATIVE_STEP: Final = 4e-16
_RELATIVE_ROOT: Final = 1e-14
"""A further step would change less than the rounding of the probabilities themselves: steps grow cubically small."""
_LONGEST_FRACTION: Final = 200_000
"""Terms of the continued fraction: about the square root of n are needed, so this bounds n at about 10^10."""
_LONGEST_SEARCH: Final = 200
_HALF_LOG_TWO_PI: Final = 0.5 * math.log(2 * math.pi)
_INVERSE_ROOT_TWO_PI: Final = 1.0 / math.sqrt(2 * math.pi)


class Chance(Struct, frozen=True, kw_only=True):
    """How likely each decision is at a given true rate; the three add up to 1."""

    passes: float
    fails: float
    unknown: float


class RankTest(Struct, frozen=True, kw_only=True):
    """What ranks say about two samples; exact under "which value came from which sample is chance"."""

    u: float
    """Pairs in which the later sample's value is the larger one; a tie is half a pair."""
    pairs: int
    higher: float
    """One-sided p: how likely chance puts the later sample at least so high."""
    lower: float
    """One-sided p: how likely chance puts it at least so low."""
    two_sided: float
    """Twice the smaller of both, at most 1."""


class Shift(Struct, frozen=True, kw_only=True):
    """By how much the values of a later sample are above those of an earlier one (Hodges-Lehmann)."""

    value: float
    """The median of all differences of pairs."""
    interval: tuple[float, float] | None
    """Two-sided and distribution-free; None when there are too few values for one."""


def lower_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The rate that k of n shows at least: one-sided exact (Clopper-Pearson) bound, 0 for n = 0.

    Raises ValueError when not 0 <= k <= n, or when the confidence is not between 0 and 1.
    """
    alpha = _alpha(k, n, confidence)
    if k == 0:
        return 0.0
    if k == n:
        return math.exp(math.log(alpha) / n)
    return _beta_quantile(alpha, k, n - k + 1, start=_wilson(k, n, NormalDist().inv_cdf(1 - alpha))[0])


def upper_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """The rate that k of n shows at most: one-sided exact (Clopper-Pearson) bound, 1 for n = 0.

    Raises ValueError when not 0 <= k <= n, or when the confidence is not between 0 and 1.
    """
    alpha = _alpha(k, n, confidence)
    if k == n:
        return 1.0
    if k == 0:
        return -math.expm1(math.log(alpha) / n)
    return 1.0 - lower_bound(n - k, n, confidence)


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's two-sided score interval of a rate, for display; (0, 1) for n = 0.

    Raises ValueError when not 0 <= k <= n, or when the confidence is not between 0 and 1.
    """
    alpha = _alpha(k, n, confidence)
    if n == 0:
        return 0.0, 1.0
    return _wilson(k, n, NormalDist().inv_cdf(1 - alpha / 2))


def decide(k: int, n: int, p0: float, confidence: float = CONFIDENCE) -> Decision:
    """Whether k of n shows a rate of at least p0 (pass), below p0 (fail), or neither (unknown, also for n = 0).

    Raises ValueError when not 0 <= k <= n, or when p0 or the confidence are out of range.
    """
    alpha = _alpha(k, n, confidence)
    _check_rate(p0)
    if n == 0:
        return "unknown"
    if _at_least(k, n, p0) <= alpha:
        return "pass"
    if _at_most(k, n, p0) < alpha:
        return "fail"
    return "unknown"


def allowed_failures(n: int, p0: float, confidence: float = CONFIDENCE) -> int | None:
    """The most failures among n units with which a floor of p0 still passes; None when n is too small for any.

    Raises ValueError when n, p0 or the confidence are out of range.
    """
    alpha = _alpha(0, n, confidence)
    _check_rate(p0)
    if n == 0:
        return None
    too_many = _first(lambda failures: _at_least(n - failures, n, p0) > alpha, n + 1)
    return too_many - 1 if too_many else None


def refuting_failures(n: int, p0: float, confidence: float = CONFIDENCE) -> int | None:
    """The fewest failures among n units that refute a floor of p0; None when not even n failures would.

    Raises ValueError when n, p0 or the confidence are out of range.
    """
    alpha = _alpha(0, n, confidence)
    _check_rate(p0)
    if n == 0:
        return None
    enough = _first(lambda failures: _at_most(n - failures, n, p0) < alpha, n + 1)
    return enough if enough <= n else None


def smallest_n(p0: float, failures: int = 0, confidence: float = CONFIDENCE) -> int:
    """The smallest number of units with which a floor of p0 passes in spite of so many failures.

    Raises ValueError when p0 is not below 1 (no number of units shows 100 %), or for values out of range.
    """
    alpha = _alpha(0, failures, confidence)
    _check_rate(p0)
    if p0 >= 1.0:
        raise ValueError("no number of units shows a rate of 100 %")
    high = 2 * (failures + 1)
    while _at_least(high - failures, high, p0) > alpha:
        high *= 2
    return _first(lambda n: _at_least(n - failures, n, p0) <= alpha, high)


def decision_chance(n: int, p0: float, true_rate: float, confidence: float = CONFIDENCE) -> Chance:
    """How likely n units decide about a floor of p0 when the true rate is `true_rate`; exact.

    Raises ValueError for values out of range.
    """
    _check_rate(true_rate)
    allowed = allowed_failures(n, p0, confidence)
    refuting = refuting_failures(n, p0, confidence)
    passes = 0.0 if allowed is None else _at_least(n - allowed, n, true_rate)
    fails = 0.0 if refuting is None else _at_most(n - refuting, n, true_rate)
    return Chance(passes=passes, fails=fails, unknown=max(0.0, 1.0 - passes - fails))


def chance_at_looks(
    sizes: Sequence[int], confidences: Sequence[float], p0: float, true_rate: float
) -> Chance:
    """How likely some of several looks at growing numbers of units decides about a floor of p0; exact.

    Each look has a confidence of its own; the first that decides ends the run, and what none decides is unknown. The
    distribution of failures goes on from look to look without the counts that were decided.
    Raises ValueError when the sizes do not grow, or for values out of range.
    """
    _check_rate(true_rate)
    passes = fails = 0.0
    open_: dict[int, float] = {0: 1.0}
    before = 0
    for n, confidence in zip(sizes, confidences, strict=True):
        if n <= before:
            raise ValueError("each look has more units than the one before it")
        allowed = allowed_failures(n, p0, confidence)
        refuting = refuting_failures(n, p0, confidence)
        first = 0 if allowed is None else allowed + 1
        last = n if refuting is None else refuting - 1
        more = n - before
        still: dict[int, float] = {}
        for failures, chance in open_.items():
            if allowed is not None:
                passes += chance * _at_most(allowed - failures, more, 1.0 - true_rate)
            if refuting is not None:
                fails += chance * _at_least(refuting - failures, more, 1.0 - true_rate)
            for total in range(max(first, failures), min(last, failures + more) + 1):
                still[total] = still.get(total, 0.0) + chance * _exactly(
                    total - failures, more, 1.0 - true_rate
                )
        open_, before = still, n
    return Chance(passes=passes, fails=fails, unknown=max(0.0, 1.0 - passes - fails))


def advised_n(
    p0: float, true_rate: float, chance: float, confidence: float = CONFIDENCE, limit: int = ADVISED_LIMIT
) -> int | None:
    """The number of units with which a true rate above p0 passes with at least this chance; None when over `limit`.

    Of all numbers only those are tried that just allow some number of failures: between two of them more units help
    nobody. Raises ValueError when the true rate is not above p0, or for values out of range.
    """
    _check_rate(true_rate)
    if not p0 < true_rate or not 0.0 < chance < 1.0:
        raise ValueError(f"a rate of {true_rate} never passes a floor of {p0} with a chance of {chance}")

    def n_of(failures: int) -> int:
        return smallest_n(p0, failures, confidence)

    def likely(failures: int) -> bool:
        n = n_of(failures)
        return n > limit or _at_least(n - failures, n, true_rate) >= chance

    high = 1
    while not likely(high):
        high *= 2
    n = n_of(_first(likely, high))
    return n if n <= limit else None


def further_units(
    k: int, n: int, p0: float, confidence: float = CONFIDENCE, limit: int = FURTHER_LIMIT
) -> int | None:
    """How many more units at the observed rate would decide; 0 when k of n already does, None when over `limit`.

    Failures to come are rounded against the decision. Nothing observed counts as no failure so far.
    Raises ValueError for values out of range.
    """
    if decide(k, n, p0, confidence) != "unknown":
        return 0
    if k < n:
        total = _deciding_total(k, n, p0, 1.0 - confidence, n + limit)
    else:
        total = smallest_n(p0, 0, confidence) if p0 < 1.0 else None
    return None if total is None or total - n > limit else total - n


def newcombe(
    before: tuple[int, int], after: tuple[int, int], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's two-sided hybrid score interval of a difference of rates, after minus before.

    Both are (k, n). Made of two Wilson intervals (Newcombe 1998, method 10); without units on one side, all that the other
    allows.
    Raises ValueError when one is no count, or when the confidence is not between 0 and 1.
    """
    (k_before, n_before), (k_after, n_after) = before, after
    low_before, high_before = wilson(k_before, n_before, confidence)
    low_after, high_after = wilson(k_after, n_after, confidence)
    if not n_before or not n_after:  # a side without units has any rate, up to both ends
        return low_after - high_before, high_after - low_before
    rate_before, rate_after = k_before / n_before, k_after / n_after
    difference = rate_after - rate_before
    low = difference - math.hypot(rate_after - low_after, high_before - rate_before)
    high = difference + math.hypot(high_after - rate_after, rate_before - low_before)
    return max(-1.0, low), min(1.0, high)


def mann_whitney(before: Sequence[float], after: Sequence[float]) -> RankTest:
    """The exact Mann-Whitney test of two samples; tied values share the mean of their ranks.

    The distribution is that of all ways to deal the pooled values out (Streitberg and Roehmel 1986), so ties cost no
    exactness. Raises ValueError when a sample is empty, holds NaN, or both hold more than LARGEST_POOL values.
    """
    _check_samples(before, after)
    ranks = _double_ranks([*before, *after])
    small, offset = (after, len(before)) if len(after) <= len(before) else (before, 0)
    ways = _rank_sums(ranks, len(small))
    observed = sum(ranks[offset : offset + len(small)])
    total = math.comb(len(ranks), len(small))
    at_most = sum(count for twice, count in enumerate(ways) if twice <= observed) / total
    at_least = sum(count for twice, count in enumerate(ways) if twice >= observed) / total
    lower, higher = (at_most, at_least) if small is after else (at_least, at_most)
    pairs = len(before) * len(after)
    u = observed / 2 - len(small) * (len(small) + 1) / 2
    return RankTest(
        u=u if small is after else pairs - u,
        pairs=pairs,
        higher=higher,
        lower=lower,
        two_sided=min(1.0, 2.0 * min(higher, lower)),
    )


def hodges_lehmann(before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE) -> Shift:
    """By how much `after` is above `before`, with the interval that inverts the exact Mann-Whitney test.

    Of logarithms it is the logarithm of a ratio. Raises ValueError as `mann_whitney`, for infinite values, and when the
    confidence is not between 0 and 1.
    """
    _alpha(0, 0, confidence)
    _check_samples(before, after)
    if not all(map(math.isfinite, [*before, *after])):
        raise ValueError("a shift of infinite values is no number")
    differences = sorted(b - a for a in before for b in after)
    pairs = len(differences)
    middle = (differences[(pairs - 1) // 2] + differences[pairs // 2]) / 2
    small = min(len(before), len(after))
    ways = _rank_sums([2 * rank for rank in range(1, len(before) + len(after) + 1)], small)
    least = small * (small + 1)
    # Few values have few probabilities, so ends fall exactly on a tail: 1 - 0.9 is taken as it is written.
    most = (1 - Decimal(repr(confidence))) / 2 * math.comb(len(before) + len(after), small)
    below = trimmed = 0
    while (below := below + ways[least + 2 * trimmed]) <= most:
        trimmed += 1
    interval = (differences[trimmed - 1], differences[pairs - trimmed]) if trimmed else None
    return Shift(value=middle, interval=interval)


def _check_samples(before: Sequence[float], after: Sequence[float]) -> None:
    if not before or not after:
        raise ValueError("a comparison needs values on both sides")
    if len(before) + len(after) > LARGEST_POOL:
        raise ValueError(f"at most {LARGEST_POOL} values are compared exactly")
    if any(map(math.isnan, [*before, *after])):
        raise ValueError("NaN has no rank")


def _double_ranks(values: Sequence[float]) -> list[int]:
    """Twice the rank of each value, from 1; ties get the mean of theirs, which doubled is whole."""
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered, start=1)))}
    last = {value: place for place, value in enumerate(ordered, start=1)}
    return [first[value] + last[value] for value in values]


def _rank_sums(double_ranks: Sequence[int], size: int) -> list[int]:
    """In how many ways `size` of the values have each doubled rank sum; the index is that sum.

    A polynomial in one big integer: each coefficient has a field that the number of all ways does not fill.
    """
    width = math.comb(len(double_ranks), size).bit_length() // 8 + 1
    chosen = [1] + [0] * size
    for taken, rank in enumerate(double_ranks):
        for count in range(min(taken + 1, size), 0, -1):
            chosen[count] += chosen[count - 1] << (rank * width * 8)
    highest = sum(sorted(double_ranks)[len(double_ranks) - size :])
    packed = chosen[size].to_bytes((highest + 1) * width, "little")
    return [int.from_bytes(packed[at : at + width], "little") for at in range(0, len(packed), width)]


def quantile_rank(n: int, q: float) -> int:
    """The rank (from 1) of the q-quantile of n sorted values: the smallest with at least the share q at or below it.

    p99 of 1…100 is 99. Raises ValueError when n is not positive or q not between 0 and 1.
    """
    if n < 1:
        raise ValueError("a quantile needs at least one value")
    _check_quantile(q)
    # 0.07 * 100 is 7.000000000000001 in binary: the product is taken of the number as it is written.
    return max(1, math.ceil(Decimal(repr(q)) * n))


def bucket_of_rank(counts: Sequence[int], rank: int) -> int:
    """Which bucket of a histogram holds the value of this rank (from 1). Raises ValueError beyond the last value."""
    passed = 0
    for bucket, count in enumerate(counts):
        passed += count
        if passed >= rank:
            return bucket
    raise ValueError("a rank lies within the counts")


def edge_at_rank(counts: Sequence[int], edges: Sequence[int], longest: int, rank: int) -> int:
    """The upper edge of that bucket, or the longest value where that is less.

    The last bucket has no edge: the longest value closes it, which may lie below another's edge. Raises ValueError beyond
    the last value.
    """
    bucket = bucket_of_rank(counts, rank)
    return min(edges[bucket], longest) if bucket < len(edges) else longest


def quantile_interval(n: int, q: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks (from 1) between which the true q-quantile lies with two-sided confidence; None when n is too small.

    Distribution-free: each side errs with at most half of 1 - confidence. Raises ValueError for values out of range.
    """
    tail = _alpha(0, n, confidence) / 2
    _check_quantile(q)
    if n == 0 or _at_most(0, n, q) > tail or _at_most(n - 1, n, q) < 1.0 - tail:
        return None
    low = _first(lambda rank: _at_most(rank, n, q) > tail, n)
    high = 1 + _first(lambda rank: _at_most(rank, n, q) >= 1.0 - tail, n)
    return low, high


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) of n independent units with rate p, exact to about 14 digits.

    Raises ValueError when n is negative or p not between 0 and 1.
    """
    if n < 0:
        raise ValueError("n is a count")
    _check_rate(p)
    return _at_most(k, n, p)


def _alpha(k: int, n: int, confidence: float) -> float:
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no count")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies between 0 and 1, not {confidence}")
    return 1.0 - confidence


def _check_rate(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a rate lies between 0 and 1, not {p}")


def _check_quantile(q: float) -> None:
    if not 0.0 < q < 1.0:
        raise ValueError(f"a quantile lies between 0 and 1, not {q}")


def _wilson(k: int, n: int, z: float) -> tuple[float, float]:
    rate = k / n
    scale = 1.0 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z * math.sqrt(rate * (1.0 - rate) / n + z * z / (4.0 * n * n)) / scale
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def _first(holds: Callable[[int], bool], end: int) -> int:
    """The first number in 0…end-1 for which `holds`, which stays true once it is; `end` when there is none."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _deciding_total(k: int, n: int, p0: float, alpha: float, limit: int) -> int | None:
    """The smallest total that decides at the observed rate, failures rounded against the decision."""
    failures = n - k
    passing = k > n * p0

    def undecided(total: float) -> bool:
        """The same question in fractions of a unit, which is decided no later."""
        bad = failures * total / n
        good = total - bad
        if passing:
            return _beta(p0, 1.0 - p0, good, bad + 1.0) > alpha
        return _beta(1.0 - p0, p0, bad, good + 1.0) >= alpha

    low = high = float(n)
    while undecided(high):  # for ever at a rate equal to the floor
        if high > limit:
            return None
        low, high = high, high * 2.0
    while high - low > 0.5:
        middle = (low + high) / 2.0
        low, high = (middle, high) if undecided(middle) else (low, middle)
    first_bad = max(failures, math.floor(failures * low / n))
    search = _passing_total if passing else _failing_total
    return search(failures, n, p0, alpha, limit=limit, bad=first_bad)


def _passing_total(failures: int, n: int, p0: float, alpha: float, *, limit: int, bad: int) -> int | None:
    """The smallest total N that passes with ceil(failures * N / n) failures, of which there are at least `bad`."""
    while (bad - 1) * n // failures < limit:
        first = max((bad - 1) * n // failures + 1, n)
        last = bad * n // failures

        def passes(more: int, first: int = first, bad: int = bad) -> bool:
            return _at_least(first + more - bad, first + more, p0) <= alpha

        if passes(last - first):  # within one count of failures every further good unit helps
            return first + _first(passes, last - first)
        bad += 1
    return None


def _failing_total(failures: int, n: int, p0: float, alpha: float, *, limit: int, bad: int) -> int | None:
    """The smallest total N that fails with floor(failures * N / n) failures, of which there are at least `bad`."""
    while bad * n // failures <= limit:
        first = -(-bad * n // failures)  # within one count of failures the first total is the worst
        if _at_most(first - bad, first, p0) < alpha:
            return first
        bad += 1
    return None


def _exactly(k: int, n: int, p: float) -> float:
    """P(X = k)."""
    if p <= 0.0 or p >= 1.0:
        return float(k == (n if p >= 1.0 else 0))
    log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))


def _at_least(k: int, n: int, p: float) -> float:
    """P(X >= k)."""
    if k <= 0:
        return 1.0
    return _beta(p, 1.0 - p, k, n - k + 1) if k <= n else 0.0


def _at_most(k: int, n: int, p: float) -> float:
    """P(X <= k)."""
    if k >= n:
        return 1.0
    return _beta(1.0 - p, p, n - k, k + 1) if k >= 0 else 0.0


def _beta(x: float, y: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b); y is 1 - x, given apart to keep the digits of a small one."""
    if x <= 0.0 or y <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    front = _front(x, y, a, b)
    if a * y > b * x:
        return min(1.0, front / _fraction(x, y, a, b))
    return max(0.0, 1.0 - front / _fraction(y, x, b, a))


def _beta_quantile(alpha: float, a: float, b: float, start: float) -> float:
    """The x with I_x(a, b) = alpha: Halley's steps from `start`, bisection where one would leave the bracket."""
    low, high = 0.0, 1.0
    x = start
    for _ in range(_LONGEST_SEARCH):
        excess = _beta(x, 1.0 - x, a, b) - alpha
        if excess > 0.0:
            high = x
        else:
            low = x
        slope = _front(x, 1.0 - x, a, b) / (x * (1.0 - x))
        newton = excess / slope if slope > 0.0 else math.inf
        if abs(newton) <= _RELATIVE_ROOT * x:
            return x - newton
        bend = newton * ((a - 1.0) / x - (b - 1.0) / (1.0 - x)) / 2.0
        following = x - newton / (1.0 - min(0.5, max(-0.5, bend))) if math.isfinite(bend) else low
        x = following if low < following < high else (low + high) / 2.0
    return x


def _front(x: float, y: float, a: float, b: float) -> float:
    """x^a y^b / B(a, b), from the binomial probability of a in a + b in saddle-point form."""
    n = a + b
    exponent = (
        _stirling_error(n)
        - _stirling_error(a)
        - _stirling_error(b)
        - _deviance(a, n * x)
        - _deviance(b, n * y)
    )
    return math.exp(exponent) * math.sqrt(a * b / n) * _INVERSE_ROOT_TWO_PI


def _stirling_error(n: float) -> float:
    """log(n!) minus Stirling's formula; Loader's series where it is exact to the last digit."""
    if n <= 16.0:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - _HALF_LOG_TWO_PI
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n


def _deviance(count: float, mean: float) -> float:
    """Loader's bd0: count * log(count / mean) + mean - count, without cancellation where the two are close."""
    difference = count - mean
    if abs(difference) >= 0.1 * (count + mean):
        return count * math.log(count / mean) - difference
    ratio = difference / (count + mean)
    total = difference * ratio
    term = 2.0 * count * ratio
    odd = 1
    while True:
        term *= ratio * ratio
        odd += 2
        following = total + term / odd
        if following == total:
            return total
        total = following


def _fraction(x: float, y: float, a: float, b: float) -> float:
    """x^a y^b / B(a, b) / I_x(a, b) for x up to a / (a + b): DiDonato and Morris' continued fraction, by Lentz's method.

    Its terms hold a y - b x, which is positive there: nothing cancels, however close x is to 1 (ACM TOMS 708, 1992).
    """
    excess = a * y - b * x + 1.0
    result = c = _nonzero(a * excess / (a + 1.0))
    d = 0.0
    for m in range(1, _LONGEST_FRACTION):
        before = a + 2 * m - 1.0
        numerator = m * (a + m - 1.0) / before * ((a + b + m - 1.0) / before) * (b - m) * x * x
        term = m + m * (b - m) * x / before + (a + m) * (excess + m * (1.0 + y)) / (before + 2.0)
        d = 1.0 / _nonzero(term + numerator * d)
        c = _nonzero(term + numerator / c)
        change = c * d
        result *= change
        if abs(change - 1.0) <= _RELATIVE_STEP:
            return result
    raise ArithmeticError(f"the continued fraction did not settle for {a}, {b} at {x}")


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
