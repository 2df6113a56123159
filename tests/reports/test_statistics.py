"""Exact statistics against scipy on a seeded grid, and against the tables of the plan (measurement.md 3.2 to 3.4)."""

import decimal
import itertools
import math
import random
import subprocess
import sys
import time
from statistics import NormalDist, median

import pytest
import scipy.stats

from sseproof.reports import statistics
from sseproof.reports.statistics import (
    LARGEST_POOL,
    advised_n,
    allowed_failures,
    binomial_at_most,
    bucket_of_rank,
    decide,
    decision_chance,
    edge_at_rank,
    further_units,
    hodges_lehmann,
    lower_bound,
    mann_whitney,
    newcombe,
    quantile_interval,
    quantile_rank,
    refuting_failures,
    smallest_n,
    upper_bound,
    wilson,
)

RANDOM = random.Random("bounds")
GRID = sorted({
    (round(n * share), n)
    for n in (1, 2, 3, 7, 20, 59, 149, 420, 1_000, 5_000, 20_000, 100_000)
    for share in (0.0, 0.001, 0.02, 0.3, 0.5, 0.9, 0.98, 0.995, 1.0, RANDOM.random(), RANDOM.random())
} | {(k, n) for n in (10, 500, 100_000) for k in (1, 2, n - 2, n - 1)})  # fmt: skip
CONFIDENCES = (0.5, 0.8, 0.95, 0.99, 0.9999)


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_bounds_equal_the_beta_quantiles_of_scipy(confidence):
    alpha = 1.0 - confidence
    for k, n in GRID:
        lower = scipy.stats.beta.ppf(alpha, k, n - k + 1) if k else 0.0
        upper = scipy.stats.beta.isf(alpha, k + 1, n - k) if k < n else 1.0
        assert lower_bound(k, n, confidence) == pytest.approx(lower, abs=1e-12, rel=1e-10), (k, n)
        assert upper_bound(k, n, confidence) == pytest.approx(upper, abs=1e-12, rel=1e-10), (k, n)


def test_bounds_equal_the_exact_interval_of_scipy_binomtest():
    # its two-sided 90 % interval is made of both one-sided 95 % bounds
    for k, n in [(0, 59), (98, 100), (490, 500), (980, 1_000), (417, 420), (59, 59), (1, 100_000)]:
        interval = scipy.stats.binomtest(k, n).proportion_ci(0.90, method="exact")
        assert lower_bound(k, n) == pytest.approx(interval.low, abs=1e-12)
        assert upper_bound(k, n) == pytest.approx(interval.high, abs=1e-12)


def test_bounds_at_the_edges():
    assert lower_bound(0, 20) == 0.0
    assert upper_bound(20, 20) == 1.0
    assert lower_bound(20, 20) == pytest.approx(0.05 ** (1 / 20), abs=1e-15)
    assert upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20), abs=1e-15)
    assert (lower_bound(0, 0), upper_bound(0, 0)) == (0.0, 1.0)
    assert 1 - lower_bound(312, 312) == pytest.approx(0.0096, abs=0.00005)  # "at most 0.96 % at 95 %"


@pytest.mark.parametrize("question", [lower_bound, upper_bound, wilson])
@pytest.mark.parametrize(
    ("k", "n", "confidence"),
    [(-1, 5, 0.95), (6, 5, 0.95), (0, -1, 0.95), (1, 2, 0.0), (1, 2, 1.0), (1, 2, 95)],
)
def test_what_is_no_count_and_no_confidence_is_refused(question, k, n, confidence):
    with pytest.raises(ValueError):
        question(k, n, confidence)


@pytest.mark.parametrize("p0", [-0.1, 1.1, math.nan])
def test_what_is_no_rate_is_refused(p0):
    for question in (
        lambda: decide(1, 2, p0),
        lambda: allowed_failures(2, p0),
        lambda: refuting_failures(2, p0),
        lambda: smallest_n(p0),
        lambda: decision_chance(2, 0.9, p0),
        lambda: binomial_at_most(1, 2, p0),
        lambda: advised_n(0.9, p0, 0.9),
    ):
        with pytest.raises(ValueError):
            question()


def test_binomial_sums_equal_scipy_where_millions_are_counted():
    for k, n, p in [
        (3, 420, 0.02),
        (0, 149, 0.02),
        (29_500, 1_500_000, 0.02),
        (9_999_000, 10_000_000, 0.9999),
    ]:
        assert binomial_at_most(k, n, p) == pytest.approx(scipy.stats.binom.cdf(k, n, p), rel=1e-9)
    assert binomial_at_most(-1, 5, 0.5) == 0.0
    assert binomial_at_most(5, 5, 0.5) == 1.0
    assert binomial_at_most(2, 5, 0.0) == 1.0
    assert binomial_at_most(2, 5, 1.0) == 0.0
    with pytest.raises(ValueError):
        binomial_at_most(0, -1, 0.5)


def test_binomial_sums_are_sums():
    """Independent of any incomplete beta function: exact integers."""
    for n, numerator in [(30, 7), (200, 196), (75, 1)]:
        denominator = 200
        terms = [math.comb(n, j) * numerator**j * (denominator - numerator) ** (n - j) for j in range(n + 1)]
        for k in (0, 1, n // 3, n // 2, n - 1):
            exact = sum(terms[: k + 1]) / denominator**n
            assert binomial_at_most(k, n, numerator / denominator) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("k", [0, 3, 16, 20, 40])
def test_binomial_sums_keep_their_digits_where_logarithms_lose_ten(k):
    n, p = 10_000_000, 2.0**-19
    with decimal.localcontext(decimal.Context(prec=60)):
        good, bad = 1 - decimal.Decimal(p), decimal.Decimal(p)
        exact = sum(math.comb(n, j) * bad**j * good ** (n - j) for j in range(k + 1))
    assert binomial_at_most(k, n, p) == pytest.approx(float(exact), rel=2e-13)


def test_a_bound_takes_less_than_a_millisecond():
    def seconds(call):
        start = time.process_time()
        for _ in range(40):
            call()
        return (time.process_time() - start) / 40

    for k in (1, 2_500, 4_900, 4_999):
        assert min(seconds(lambda k=k: lower_bound(k, 5_000)) for _ in range(3)) < 1e-3
        assert min(seconds(lambda k=k: upper_bound(k, 5_000)) for _ in range(3)) < 1e-3


def test_no_wald_but_wilson():
    for k, n in GRID:
        interval = scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        assert wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-12)
    low, high = wilson(98, 100)
    assert (round(low, 3), round(high, 3)) == (0.930, 0.994)
    low, high = wilson(490, 500)
    assert (round(low, 3), round(high, 3)) == (0.964, 0.989)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 9)[0] == 0.0
    assert wilson(9, 9)[1] == 1.0
    z = NormalDist().inv_cdf(0.995)
    assert wilson(9, 9, 0.99)[0] == pytest.approx(9 / (9 + z * z))


def test_observed_98_percent_proves_nothing_about_98_percent():
    assert round(lower_bound(490, 500), 3) == 0.966
    assert round(lower_bound(980, 1_000), 3) == 0.971
    assert [decide(98 * n // 100, n, 0.98) for n in (100, 500, 1_000, 100_000)] == ["unknown"] * 4


def test_decisions_agree_with_the_bounds():
    for confidence in (0.8, 0.95, 0.99):
        for k, n in GRID:
            for p0 in (0.5, 0.9, 0.95, 0.98, 0.999):
                low, high = lower_bound(k, n, confidence), upper_bound(k, n, confidence)
                if min(abs(low - p0), abs(high - p0)) < 1e-12:
                    continue
                expected = "pass" if low >= p0 else "fail" if high < p0 else "unknown"
                assert decide(k, n, p0, confidence) == expected, (k, n, p0, confidence)


def test_nothing_observed_decides_nothing():
    assert decide(0, 0, 0.98) == "unknown"
    assert allowed_failures(0, 0.98) is None
    assert refuting_failures(0, 0.98) is None
    assert decide(1_000, 1_000, 1.0) == "unknown"
    assert decide(999, 1_000, 1.0) == "fail"


FLOORS = {
    0.95: {0: 59, 1: 93, 2: 124, 5: 208, 10: 336},
    0.98: {0: 149, 1: 236, 2: 313, 3: 386, 5: 523, 10: 845, 20: 1_449},
    0.99: {0: 299, 1: 473, 2: 628, 5: 1_049, 10: 1_693},
    0.999: {0: 2_995, 1: 4_742},
    0.9999: {0: 29_956},
}


@pytest.mark.parametrize(("p0", "table"), FLOORS.items())
def test_how_many_samples_a_floor_needs(p0, table):
    for failures, n in table.items():
        assert smallest_n(p0, failures) == n
        assert allowed_failures(n, p0) == failures
        assert allowed_failures(n - 1, p0) == (failures - 1 if failures else None)
        assert decide(n - failures, n, p0) == "pass"
        assert decide(n - failures - 1, n, p0) != "pass"


def test_a_family_of_five_claims_needs_228_at_98_percent():
    assert smallest_n(0.98, 0, 0.99) == 228


def test_success_at_n_420_allows_3_failures():
    assert allowed_failures(420, 0.98) == 3


def test_no_number_of_units_shows_100_percent():
    with pytest.raises(ValueError, match="100 %"):
        smallest_n(1.0)


CHANCES = [  # n, allowed, refuting, passes at 99.5 % and 99 %, unknown at 98 %, fails at 97 %, 96 %, 95 %
    (149, 0, 7, 0.47, 0.22, 0.92, 0.16, 0.39, 0.62),
    (500, 4, 16, 0.89, 0.44, 0.92, 0.43, 0.85, 0.98),
    (1_000, 12, 29, 1.0, 0.79, 0.93, 0.60, 0.97, 1.0),
    (2_000, 29, 52, 1.0, 0.98, 0.92, 0.87, 1.0, 1.0),
]


@pytest.mark.parametrize("row", CHANCES)
def test_chance_of_a_decision(row):
    n, allowed, refuting, *chances = row
    assert allowed_failures(n, 0.98) == allowed
    assert refuting_failures(n, 0.98) == refuting
    at = {rate: decision_chance(n, 0.98, rate) for rate in (0.995, 0.99, 0.98, 0.97, 0.96, 0.95)}
    computed = [
        at[0.995].passes,
        at[0.99].passes,
        at[0.98].unknown,
        at[0.97].fails,
        at[0.96].fails,
        at[0.95].fails,
    ]
    assert computed == pytest.approx(chances, abs=0.0051)
    for chance in at.values():
        assert chance.passes + chance.fails + chance.unknown == pytest.approx(1.0)


def test_chances_equal_sums_over_every_possible_count():
    for n, p0, rate, confidence in [(40, 0.9, 0.95, 0.95), (149, 0.98, 0.97, 0.8), (70, 0.95, 0.99, 0.99)]:
        sums = {"pass": 0.0, "fail": 0.0, "unknown": 0.0}
        for k in range(n + 1):
            sums[decide(k, n, p0, confidence)] += math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
        chance = decision_chance(n, p0, rate, confidence)
        assert (chance.passes, chance.fails, chance.unknown) == pytest.approx(
            (sums["pass"], sums["fail"], sums["unknown"]), abs=1e-12
        )


def test_chances_at_certain_rates():
    assert decision_chance(149, 0.98, 1.0).passes == 1.0
    assert decision_chance(149, 0.98, 0.0).fails == 1.0
    assert decision_chance(148, 0.98, 1.0).unknown == 1.0


def test_a_true_98_percent_is_called_pass_in_at_most_5_percent_at_every_n():
    """The engine's own error rate, by exact sums at every n up to 5,000: neither verdict is wrong more often than said."""
    sizes = range(1, 5_001)
    allowed, refuting = [], []
    most, fewest = -1, 1
    for n in sizes:  # `decide` is what judges a claim; both limits only grow with n
        while decide(n - most - 1, n, 0.98) == "pass":
            most += 1
        while decide(n - fewest, n, 0.98) != "fail" and fewest <= n:
            fewest += 1
        allowed.append(most)
        refuting.append(fewest)
        assert decide(n - most - 1, n, 0.98) != "pass"
        assert decide(n - fewest + 1, n, 0.98) != "fail"
    passes = scipy.stats.binom.cdf(allowed, sizes, 0.02)
    fails = scipy.stats.binom.sf([each - 1 for each in refuting], sizes, 0.02)
    assert 0.049 < passes.max() <= 0.05
    assert 0.049 < fails.max() <= 0.05
    assert passes[147] == 0.0 < passes[148]


def test_a_true_95_percent_is_called_fail_in_at_least_99_percent_at_n_1000():
    assert decision_chance(1_000, 0.98, 0.95).fails >= 0.99


def test_simulated_runs_err_no_more_often_than_said():
    """2,000 seeded runs through `decide` itself (measurement.md 3.8)."""
    draw = random.Random("2000 runs")

    def share(verdict, n, rate):
        runs = (decide(sum(draw.random() < rate for _ in range(n)), n, 0.98) for _ in range(2_000))
        return sum(decision == verdict for decision in runs) / 2_000

    assert share("pass", 236, 0.98) <= 0.05
    assert share("fail", 236, 0.90) >= 0.99


def test_refuting_failures_refute_and_one_less_does_not():
    for n in (1, 5, 149, 500, 5_000):
        for p0 in (0.5, 0.95, 0.98, 0.9999):
            fewest = refuting_failures(n, p0)
            if fewest is None:
                assert decide(0, n, p0) == "unknown"
                continue
            assert decide(n - fewest, n, p0) == "fail"
            assert decide(n - fewest + 1, n, p0) != "fail"
    assert refuting_failures(1, 0.5) is None


def _further_by_trying(k, n, p0, confidence, limit):
    """The definition: every larger total in turn, failures to come rounded against the decision."""
    failures = n - k
    for total in range(n + 1, n + limit + 1):
        if k > n * p0:
            bad = -(-failures * total // n)
            if decide(total - bad, total, p0, confidence) == "pass":
                return total - n
        else:
            bad = failures * total // n
            if decide(total - bad, total, p0, confidence) == "fail":
                return total - n
    return None


def test_further_units_are_the_fewest_that_decide_at_the_observed_rate():
    draw = random.Random("further")
    decided = 0
    for _ in range(60):
        n = draw.randrange(3, 250)
        p0 = draw.choice([0.5, 0.9, 0.95, 0.98])
        confidence = draw.choice([0.8, 0.95, 0.99])
        k = min(n, round(n * (p0 + draw.uniform(-0.08, 0.05))))
        if decide(k, n, p0, confidence) != "unknown":
            assert further_units(k, n, p0, confidence, 3_000) == 0
            continue
        expected = _further_by_trying(k, n, p0, confidence, 3_000)
        assert further_units(k, n, p0, confidence, 3_000) == expected, (k, n, p0, confidence)
        decided += expected is not None
    assert decided > 20


def test_further_units_in_plain_cases():
    assert further_units(50, 50, 0.98) == 99  # 149 without a failure
    assert further_units(0, 0, 0.98) == 149
    assert further_units(149, 149, 0.98) == 0
    assert further_units(50, 50, 0.98, limit=98) is None
    assert further_units(98, 100, 0.98) is None  # the floor itself is never decided
    assert further_units(1_000, 1_000, 1.0) is None
    near = further_units(9_801, 10_000, 0.98)
    assert near is not None
    assert near > 100_000
    assert further_units(9_801, 10_000, 0.98, limit=near) == near
    assert further_units(9_801, 10_000, 0.98, limit=near - 1) is None


def test_advised_n_gives_the_chance_and_the_next_smaller_plan_does_not():
    for p0, rate, chance in [(0.98, 0.995, 0.9), (0.98, 0.99, 0.8), (0.95, 0.99, 0.9), (0.97, 0.98, 0.8)]:
        n = advised_n(p0, rate, chance)
        assert n is not None
        failures = allowed_failures(n, p0)
        assert decision_chance(n, p0, rate).passes >= chance
        assert smallest_n(p0, failures) == n
        if failures:
            assert decision_chance(smallest_n(p0, failures - 1), p0, rate).passes < chance
    # "about 1,700, 39 failures allowed, for 80 %": from there on every n will do, the best choice does it sooner
    assert allowed_failures(1_700, 0.97) == 39
    assert decision_chance(1_650, 0.97, 0.98).passes < 0.8 <= decision_chance(1_700, 0.97, 0.98).passes
    assert advised_n(0.97, 0.98, 0.8) == 1_542
    assert advised_n(0.98, 0.9801, 0.9) is None
    assert advised_n(0.98, 1.0, 0.9) == 149
    for rate, chance in [(0.98, 0.9), (0.5, 0.9), (0.99, 1.0), (0.99, 0.0)]:
        with pytest.raises(ValueError):
            advised_n(0.98, rate, chance)


def test_rank_intervals_of_the_table():
    ranks = {100: (90, 100), 200: (184, 197), 500: (465, 485), 1_000: (936, 964), 5_000: (4_719, 4_781)}
    assert {n: quantile_interval(n, 0.95) for n in ranks} == ranks


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3_688)])
def test_a_rank_interval_exists_from_here_on(q, n):
    assert quantile_interval(n - 1, q) is None
    assert quantile_interval(n, q) is not None
    assert quantile_interval(0, q) is None


def test_rank_intervals_are_as_narrow_as_the_confidence_allows():
    for n, q, confidence in [(100, 0.95, 0.95), (50, 0.5, 0.95), (1_000, 0.99, 0.9), (40, 0.1, 0.95)]:
        low, high = quantile_interval(n, q, confidence)
        tail = (1 - confidence) / 2
        below = scipy.stats.binom(
            n, q
        ).cdf  # rank r is above the quantile when fewer than r values are below it
        assert below(low - 1) <= tail < below(low)
        assert below(high - 2) < 1 - tail <= below(high - 1)
        covered = below(high - 1) - below(low - 1)
        assert covered >= confidence


def test_a_rank_lies_in_the_bucket_that_holds_it():
    counts, edges = [2, 0, 3, 1], [10, 20, 30]
    assert [bucket_of_rank(counts, rank) for rank in range(1, 7)] == [0, 0, 2, 2, 2, 3]
    assert [edge_at_rank(counts, edges, 99, rank) for rank in range(1, 7)] == [10, 10, 30, 30, 30, 99]
    assert edge_at_rank([0, 0, 5], edges, 27, 5) == 27, "the longest value closes its bucket"
    for beyond in (bucket_of_rank, lambda counts, rank: edge_at_rank(counts, edges, 99, rank)):
        with pytest.raises(ValueError, match="within the counts"):
            beyond(counts, 7)


def test_quantile_ranks_count_as_written():
    assert quantile_rank(100, 0.99) == 99
    assert quantile_rank(100, 0.07) == 7
    assert quantile_rank(1, 0.999) == 1
    assert quantile_rank(10, 0.95) == 10
    assert quantile_rank(1_000_000, 0.95) == 950_000
    with pytest.raises(ValueError):
        quantile_rank(0, 0.5)
    for q in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError):
            quantile_rank(10, q)
        with pytest.raises(ValueError):
            quantile_interval(10, q)


# Newcombe, "Interval estimation for the difference between independent proportions" (1998), table II, method 10
NEWCOMBE = [
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((0, 10), (0, 10), -0.2775, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0),
    ((10, 10), (0, 10), 0.6075, 1.0),
]


@pytest.mark.parametrize(("after", "before", "low", "high"), NEWCOMBE)
def test_differences_of_rates_are_newcombes(after, before, low, high):
    assert newcombe(before, after) == pytest.approx((low, high), abs=0.00005)
    assert newcombe(after, before) == pytest.approx((-high, -low), abs=0.00005)


def test_differences_of_rates_are_made_of_scipys_wilson_intervals():
    draw = random.Random("newcombe")
    for _ in range(200):
        n1, n2 = draw.randrange(1, 3_000), draw.randrange(1, 3_000)
        k1, k2 = round(n1 * draw.random() ** 0.1), round(n2 * draw.random() ** 0.1)
        confidence = draw.choice([0.8, 0.9, 0.95, 0.99])
        one = scipy.stats.binomtest(k1, n1).proportion_ci(confidence, method="wilson")
        two = scipy.stats.binomtest(k2, n2).proportion_ci(confidence, method="wilson")
        p1, p2 = k1 / n1, k2 / n2
        low = p2 - p1 - math.sqrt((p2 - two.low) ** 2 + (one.high - p1) ** 2)
        high = p2 - p1 + math.sqrt((two.high - p2) ** 2 + (p1 - one.low) ** 2)
        assert newcombe((k1, n1), (k2, n2), confidence) == pytest.approx((low, high), abs=1e-12)


def test_a_side_without_units_leaves_all_that_the_other_allows():
    low, high = wilson(98, 100)
    assert newcombe((0, 0), (98, 100)) == (low - 1.0, high)
    assert newcombe((98, 100), (0, 0)) == (-high, 1.0 - low)
    assert newcombe((0, 0), (0, 0)) == (-1.0, 1.0)
    with pytest.raises(ValueError):
        newcombe((2, 1), (0, 1))


@pytest.mark.parametrize(("size", "p"), [(3, 0.10), (4, 0.029), (5, 0.008), (6, 0.002)])
def test_the_smallest_p_of_runs_that_do_not_overlap(size, p):
    test = mann_whitney(range(size), range(10, 10 + size))
    assert test.two_sided == pytest.approx(p, abs=0.0006)
    assert test.higher == test.two_sided / 2
    assert (test.u, test.pairs, test.lower) == (size * size, size * size, 1.0)


def test_rank_tests_equal_the_exact_ones_of_scipy():
    draw = random.Random("ranks")
    for _ in range(60):
        before = [draw.gauss(0, 1) for _ in range(draw.randrange(1, 13))]
        after = [draw.gauss(0.5, 1) for _ in range(draw.randrange(1, 13))]
        ours = mann_whitney(before, after)
        for side, p in (("two-sided", ours.two_sided), ("greater", ours.higher), ("less", ours.lower)):
            theirs = scipy.stats.mannwhitneyu(after, before, alternative=side, method="exact")
            assert p == pytest.approx(theirs.pvalue, rel=1e-12)
        assert ours.u == theirs.statistic


def test_rank_tests_stay_exact_with_ties():
    """Against every way to deal the values out, which scipy walks."""
    draw = random.Random("ties")

    def statistic(x, y, axis):
        return scipy.stats.mannwhitneyu(x, y, axis=axis, method="asymptotic").statistic

    for _ in range(12):
        before = [draw.randrange(4) for _ in range(draw.randrange(2, 6))]
        after = [draw.randrange(1, 5) for _ in range(draw.randrange(2, 6))]
        ours = mann_whitney(before, after)
        for side, p in (("greater", ours.higher), ("less", ours.lower)):
            theirs = scipy.stats.permutation_test(
                (after, before), statistic, vectorized=True, n_resamples=math.inf, alternative=side
            )
            assert p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert mann_whitney([7, 7], [7, 7, 7]).two_sided == 1.0


def test_two_sets_of_equal_runs_differ_in_at_most_5_percent():
    """Exactly: every way to deal 10 different values out is equally likely when nothing differs."""
    values = range(10)
    wrong = sum(
        mann_whitney([each for each in values if each not in chosen], chosen).two_sided <= 0.05
        for chosen in itertools.combinations(values, 5)
    )
    assert 0.02 < wrong / math.comb(10, 5) <= 0.05


def test_the_largest_pool_is_done_in_a_moment_and_more_is_refused():
    half = LARGEST_POOL // 2
    started = time.process_time()
    test = mann_whitney(range(half), [each + 0.5 for each in range(half)])
    assert time.process_time() - started < 10
    theirs = scipy.stats.mannwhitneyu([each + 0.5 for each in range(half)], range(half), method="exact")
    assert test.two_sided == pytest.approx(theirs.pvalue, rel=1e-9)
    for before, after in [([], [1]), ([1], []), ([math.nan], [1]), ([1], range(LARGEST_POOL))]:
        with pytest.raises(ValueError):
            mann_whitney(before, after)
        with pytest.raises(ValueError):
            hodges_lehmann(before, after)


def test_a_shift_lies_where_the_rank_test_does_not_refuse_it():
    draw = random.Random("shift")
    for _ in range(20):
        before = [draw.gauss(0, 1) for _ in range(draw.randrange(4, 9))]
        after = [draw.gauss(1, 1) for _ in range(draw.randrange(4, 9))]
        shift = hodges_lehmann(before, after)
        assert shift.value == pytest.approx(median(b - a for a in before for b in after))
        low, high = shift.interval
        for at, refused in [
            (low - 1e-9, True),
            (low + 1e-9, False),
            (high - 1e-9, False),
            (high + 1e-9, True),
        ]:
            moved = [value - at for value in after]
            p = scipy.stats.mannwhitneyu(moved, before, method="exact").pvalue
            assert (p <= 0.05) == refused
    assert hodges_lehmann([1, 2, 3], [4, 5, 6]).interval is None  # 3 v 3 never reaches 5 %
    assert hodges_lehmann([1, 2, 3], [4, 5, 6], 0.9).interval == (1, 5)
    with pytest.raises(ValueError):
        hodges_lehmann([1], [math.inf])


def test_the_module_needs_the_standard_library_only():
    code = (
        "import sys; import sseproof.reports.statistics; "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'scipy', 'gevent', 'socket', 'logging')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert statistics.CONFIDENCE == 0.95
