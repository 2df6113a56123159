"""Fisher's exact test against scipy, and the rank of one run among those before it by counting all orders."""

import itertools
import math
import random

import pytest
import scipy.stats

from sseproof.reports.differences import (
    FEWEST_KEPT,
    Badness,
    fewest_runs,
    fisher,
    odd_one_out,
    prediction,
    smallest_fisher,
    smallest_rank_test,
)

RANDOM = random.Random("differences")
TABLES = [
    ((490, 500), (450, 500)), ((0, 1), (1, 1)), ((5, 5), (0, 5)), ((98, 100), (97, 100)), ((0, 20), (0, 30)),
    ((20, 20), (30, 30)), ((99_000, 100_000), (98_800, 100_000)), ((1, 3), (90_000, 100_000)), ((0, 0), (3, 4)),
] + [
    ((RANDOM.randint(0, n), n), (RANDOM.randint(0, m), m))
    for n, m in ((RANDOM.randint(1, 400), RANDOM.randint(1, 400)) for _ in range(60))
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), TABLES)
def test_fisher_equals_scipy(before, after):
    (k, n), (k2, m) = before, after
    table = [[k2, m - k2], [k, n - k]]
    found = fisher(before, after)
    for tail, name in ((found.fewer, "less"), (found.more, "greater")):
        expected = scipy.stats.hypergeom(n + m, k + k2, m)
        exact = expected.cdf(k2) if name == "less" else expected.sf(k2 - 1)
        assert tail == pytest.approx(exact, rel=1e-7, abs=1e-300), (name, table)
    assert found.two_sided == min(1.0, 2 * min(found.fewer, found.more))


def test_what_is_no_count_is_refused():
    for before, after in (((2, 1), (0, 1)), ((0, 1), (-1, 1))):
        with pytest.raises(ValueError):
            fisher(before, after)


def test_a_common_rate_is_called_different_in_at_most_what_is_allowed():
    """By exact sums over all outcomes: Fisher's test errs by no more at any rate."""
    n, m = 60, 40
    called = {
        (k, k2) for k in range(n + 1) for k2 in range(m + 1) if fisher((k, n), (k2, m)).two_sided <= 0.05
    }
    assert called
    for rate in (0.5, 0.8, 0.9, 0.95, 0.98, 0.995):
        one, other = scipy.stats.binom(n, rate), scipy.stats.binom(m, rate)
        assert sum(one.pmf(k) * other.pmf(k2) for k, k2 in called) <= 0.05


def test_so_few_can_not_decide():
    assert smallest_rank_test(3, 3) == pytest.approx(0.1)
    assert smallest_rank_test(4, 4) == pytest.approx(0.0286, abs=1e-4)
    assert [fewest_runs(error) for error in (0.1, 0.05, 0.05 / 3)] == [3, 4, 5]
    assert smallest_fisher(3, 3) == pytest.approx(2 / math.comb(6, 3))
    assert smallest_fisher(2, 2) > 0.05 >= smallest_fisher(4, 4)


# --- one run against those before it ------------------------------------------------------------------------------------


def test_the_range_of_nineteen_holds_the_next_with_ninety_percent():
    kept = [float(value) for value in range(1, FEWEST_KEPT + 1)]
    found = prediction(kept)
    assert (found.low, found.high, found.rank) == (1.0, 19.0, 1)
    assert (found.one_sided, found.holds) == (pytest.approx(0.05), pytest.approx(0.9))
    assert prediction(kept[:-1]) is None
    assert prediction([float(value) for value in range(39)]).rank == 2


@pytest.mark.parametrize(("k", "error"), [(4, 0.2), (5, 0.34), (7, 0.25)])
def test_the_range_errs_as_promised_in_every_order(k, error):
    """Of k + 1 values each is the last one equally often: beyond each end at most the promised share."""
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5][: k + 1]
    above = below = 0
    for last in range(k + 1):
        found = prediction(values[:last] + values[last + 1 :], error)
        assert found is not None
        above += values[last] > found.high
        below += values[last] < found.low
    assert above / (k + 1) == below / (k + 1) == pytest.approx(found.one_sided)
    assert found.one_sided <= error


def p_of_each(columns):
    """p of each run when it is the new one, over figures given as columns of one value a run."""
    count = len(columns[0])
    found = []
    for new in range(count):
        figures = {
            str(index): Badness(kept=[*column[:new], *column[new + 1 :]], new=column[new], pool=list(column))
            for index, column in enumerate(columns)
        }
        found.append(odd_one_out(figures))
    return found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ties", [False, True])
def test_one_of_twenty_runs_at_most_is_odd_whatever_the_figures_are(seed, ties):
    """Three dependent figures, ties and infinite values included: no more than one of twenty has p <= 5 %."""
    rng = random.Random(f"odd {seed} {ties}")
    base = [rng.lognormvariate(0, 0.3) for _ in range(20)]
    columns = [base, [value * rng.uniform(0.9, 1.4) for value in base], [rng.random() for _ in base]]
    if ties:
        columns[2] = [float(rng.random() < 0.15) for _ in base]
        columns[0] = [math.inf if rng.random() < 0.1 else round(value) for value in base]
    ps = p_of_each(columns)
    assert sum(p <= 0.05 for p in ps) <= 1
    assert sum(p <= 0.1 for p in ps) <= 2
    if not ties:
        assert sorted(ps) == pytest.approx([rank / 20 for rank in range(1, 21)])


def test_a_run_far_beyond_the_others_is_odd_in_one_figure_of_three():
    rng = random.Random("far")
    columns = [[rng.gauss(100, 3) for _ in range(19)] + [130.0]] + [
        [rng.gauss(50, 5) for _ in range(20)] for _ in range(2)
    ]
    assert p_of_each(columns)[-1] == pytest.approx(0.05)
    columns[0][-1] = 100.0
    assert p_of_each(columns)[-1] > 0.05


def test_one_small_slip_among_equal_values_hides_nothing():
    """Of twenty runs one had a single failed stream: its slip is no measure for a time that is far beyond all others."""
    rng = random.Random("slip")
    failed = [0.0] * 20
    failed[4] = 0.001
    assert p_of_each([failed, [rng.gauss(100, 3) for _ in range(19)] + [200.0]])[-1] == pytest.approx(0.05)


def test_alike_runs_are_never_odd():
    assert p_of_each([[1.0] * 20]) == [1.0] * 20
    assert p_of_each([[math.inf] * 20]) == [1.0] * 20
    with pytest.raises(ValueError):
        odd_one_out({})
    uneven = {str(n): Badness(kept=[1.0] * n, new=1.0, pool=[1.0]) for n in (1, 2)}
    with pytest.raises(ValueError):
        odd_one_out(uneven)


def test_orders_of_a_small_pool_are_equally_likely():
    """The joint rank over all orders of five runs: p <= 1/5 in at most a fifth of them."""
    rows = [(1.0, 9.0), (2.0, 1.0), (3.0, 2.0), (4.0, 7.0), (5.0, 3.0)]
    odd = total = 0
    for order in itertools.permutations(rows):
        *kept, new = order
        figures = {
            str(index): Badness(
                kept=[row[index] for row in kept], new=new[index], pool=[row[index] for row in order]
            )
            for index in range(2)
        }
        odd += odd_one_out(figures) <= 0.2 + 1e-9
        total += 1
    assert odd / total <= 0.2
