"""Exact answers to "is this run, or are these runs, worse than those?", with the standard library only; pure.

Rules (measurement.md 3.5):
- Two counts: Fisher's exact test, conditional on how many were good in all. Each side errs with at most half of what is
  allowed, whatever the true rate is, which no score interval promises.
- One run against k kept ones: nothing is assumed but that each of the k + 1 runs was as likely as any other to come last. The
  r-th largest of k values is then below the next one in at most r of k + 1 cases, so with k = 19 the largest is a one-sided
  95 % bound, and smallest and largest hold the next with 18 / 20 = 90 %.
- Several figures of one run are one question: each run's worst deviation counts, in units of each figure's own spread over all
  k + 1 runs. What is the same function of all runs leaves them exchangeable, so its rank errs as one figure's would.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from msgspec import Struct

ERROR: Final = 0.05
"""How often a difference may be called where there is none, over all figures that are called together."""
FEWEST_KEPT: Final = 19
"""Kept runs with which the largest of them is a one-sided 95 % bound of the next."""
_NEGLIGIBLE: Final = 1e-18


class Fisher(Struct, frozen=True, kw_only=True):
    """What chance would make of two counts with one common rate."""

    fewer: float
    """One-sided p: that `after` has so few good ones, given how many are good in both."""
    more: float
    """One-sided p: that it has so many."""
    two_sided: float
    """Twice the smaller, at most 1."""


def fisher(before: tuple[int, int], after: tuple[int, int]) -> Fisher:
    """Fisher's exact test of two counts (k, n).

    Raises ValueError when one is no count.
    """
    (k_before, n_before), (k_after, n_after) = before, after
    for k, n in (before, after):
        if not 0 <= k <= n:
            raise ValueError(f"{k} of {n} is no count")
    good = k_before + k_after
    deal = _Deal(n_before, n_after, good)
    fewer, more = deal.tail(k_after, -1), deal.tail(k_after, 1)
    return Fisher(fewer=fewer, more=more, two_sided=min(1.0, 2.0 * min(fewer, more)))


def smallest_fisher(n_before: int, n_after: int) -> float:
    """The smallest two-sided p that any two counts of so many units can have: all good against none."""
    return fisher((n_before, n_before), (0, n_after)).two_sided


def smallest_rank_test(n_before: int, n_after: int) -> float:
    """The smallest two-sided p of a Mann-Whitney test without ties: 3 against 3 has 0.1, 4 against 4 0.029."""
    return min(1.0, 2.0 / math.comb(n_before + n_after, n_after))


def fewest_runs(error: float) -> int:
    """How many runs a side a Mann-Whitney test needs to err so rarely."""
    runs = 1
    while smallest_rank_test(runs, runs) > error:
        runs += 1
    return runs


class _Deal(NamedTuple):
    """How many of the good ones fall to `after` when all units are dealt out by chance: a hypergeometric number."""

    n_before: int
    n_after: int
    good: int

    def tail(self, k: int, step: int) -> float:
        """P(X <= k) for step -1, P(X >= k) for step 1."""
        mode = (self.good + 1) * (self.n_after + 1) // (self.n_before + self.n_after + 2)
        if (mode - k) * step > 0:  # the other tail is the small one, and holds all digits
            return max(self.chance(k), 1.0 - self._summed(k - step, -step))
        return min(1.0, self._summed(k, step))

    def chance(self, k: int) -> float:
        """P(X = k); 0 for what can't be."""
        if not max(0, self.good - self.n_before) <= k <= min(self.n_after, self.good):
            return 0.0
        return math.exp(
            _log_choose(self.n_after, k)
            + _log_choose(self.n_before, self.good - k)
            - _log_choose(self.n_before + self.n_after, self.good)
        )

    def _summed(self, k: int, step: int) -> float:
        """The chances from k to the end, each by its ratio to the one before; they shrink once past the mode."""
        term = self.chance(k)
        total = 0.0
        while term > total * _NEGLIGIBLE:
            total += term
            fewer = k if step > 0 else k - 1  # from `fewer` to one more, or back
            below = max((fewer + 1) * (self.n_before - self.good + fewer + 1), 1)
            ratio = (self.n_after - fewer) * (self.good - fewer) / below
            if step < 0:
                ratio = 1.0 / ratio if ratio and k > max(0, self.good - self.n_before) else 0.0
            term *= ratio
            k += step
        return total


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


# --- one run against those before it ------------------------------------------------------------------------------------


class Prediction(Struct, frozen=True, kw_only=True):
    """Where the next run's value lies, by the values of k runs."""

    low: float
    high: float
    rank: int
    """The ends are the rank-th smallest and the rank-th largest."""
    one_sided: float
    """The next value lies beyond one given end in at most this share of cases."""
    holds: float
    """The range holds the next value in at least this share of cases."""


def prediction(kept: Sequence[float], error: float = ERROR) -> Prediction | None:
    """The order-statistic prediction interval with so much error at either end; None when there are too few values."""
    rank = math.floor(error * (len(kept) + 1) + 1e-9)
    if rank < 1:
        return None
    ordered = sorted(kept)
    one_sided = rank / (len(kept) + 1)
    return Prediction(
        low=ordered[rank - 1],
        high=ordered[-rank],
        rank=rank,
        one_sided=one_sided,
        holds=1.0 - 2.0 * one_sided,
    )


class Badness(Struct, kw_only=True):
    """One figure of k kept runs and of the one that is asked about, larger is worse."""

    kept: list[float]
    """As bad as each can have been."""
    new: float
    """As good as it can have been."""
    pool: list[float]
    """The k + 1 values as they were seen, by which the spread is told; infinity is never."""


def odd_one_out(figures: Mapping[str, Badness]) -> float:
    """How likely a run as bad as the new one is to come last when all were alike: one p for all figures together.

    Raises ValueError without figures, or when they have different numbers of runs.
    """
    counts = {len(figure.kept) for figure in figures.values()}
    if len(counts) != 1:
        raise ValueError("each figure needs the same kept runs")
    (count,) = counts
    worst = [-math.inf] * count
    worst_new = -math.inf
    for figure in figures.values():
        centre, spread, roof = _scale(figure.pool)
        for index, value in enumerate(figure.kept):
            worst[index] = max(worst[index], (min(value, roof) - centre) / spread)
        worst_new = max(worst_new, (min(figure.new, roof) - centre) / spread)
    return (1 + sum(each >= worst_new for each in worst)) / (count + 1)


def _scale(pool: Sequence[float]) -> tuple[float, float, float]:
    """Centre, spread and what stands for infinity: the same whichever of the values is the new one."""
    finite = [value for value in pool if math.isfinite(value)]
    roof = 10.0 * max([1.0, *(abs(value) for value in finite)])
    values = [min(value, roof) for value in pool]
    centre = median(values)
    apart = [abs(value - centre) for value in values]
    # Most runs of a good service succeed alike: where more than half have no deviation, the mean of all tells more.
    return centre, median(apart) or sum(apart) / len(apart) or 1.0, roof
