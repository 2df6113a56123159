"""Comparisons: what is called and what is not, how often by chance, and what may stand beside each other at all."""

import itertools
import math
import random

import pytest
import scipy.stats

from sseproof.reports.compare import (
    Asked,
    IncomparableError,
    compare_baseline,
    compare_pair,
    compare_sets,
)
from sseproof.reports.facts import all_facts
from sseproof.reports.figures import (
    SHARES,
    TIMES,
    UNBROKEN,
    RunFigures,
    ShareFigure,
    TimeFigure,
    run_figures,
)
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.statistics import quantile_interval, quantile_rank
from sseproof.rundir.rows import SUCCESSES
from tests.reports.made_runs import crowded, one_variant, two_variants

MS = 1e6
NUMBERS = itertools.count()
USUAL = Asked()


def times(values, *, open_=0, width=0.0):
    """As figures make them: `open_` of them without an end."""
    seen = sorted([*values, *[math.inf] * open_])
    return TimeFigure(
        seen=seen,
        low=sorted([*(max(value - width, 0.0) for value in values), *[0.0] * open_]),
        high=sorted([*(value + width for value in values), *[math.inf] * open_]),
    )


def run(good=98, n=100, *, ttft=None, whole=True, open_=0, **fields):
    """The figures of a run: so many good streams of n, of which `open_` have no end."""
    number = next(NUMBERS)
    shares = {"success": ShareFigure(n=n, worst=good, best=good + open_)}
    if whole:
        shares |= {key: ShareFigure(n=n, worst=n, best=n) for key in ("lost", "doubled", "utf8")}
    known = {
        "place": f"runs/s/r{number}", "run": f"r{number}", "scenario": "s", "variant": None, "seed": number,
        "how": "finished", "started_ns": number * 10**9, "kind": "answer", "is_open": False, "streams": n,
        "outcomes": {"complete": good, "cut": n - good}, "ends": {"terminal": n}, "breaks": 0, "problems": 0,
        "shares": shares, "times": {} if ttft is None else {"ttft": times(ttft)},
    }  # fmt: skip
    return RunFigures(**(known | fields))


def lognormal(rng, n=200, *, scale=1.0, effect=0.02):
    """First tokens of one run: a spread of 25 % within it, and the run's own effect on all of them."""
    own = scale * rng.lognormvariate(0.0, effect)
    return [rng.lognormvariate(4.6, 0.25) * own * MS for _ in range(n)]


def row_of(comparison, key):
    return next(row for row in comparison.rows if row.key == key)


# --- two runs -----------------------------------------------------------------------------------------------------------


def test_a_planted_loss_of_success_is_a_regression():
    found = compare_pair(run(490, 500), run(450, 500), USUAL)
    row = row_of(found, "success")
    assert (row.call, found.exit_code) == ("worse", 1)
    assert row.difference == pytest.approx(-0.08)
    assert row.interval[0] < -0.08 < row.interval[1] < 0
    assert found.decision.startswith("Worse: success 490 of 500 (98 %) → 450 of 500 (90 %).")
    back = compare_pair(run(450, 500), run(490, 500), USUAL)
    assert (row_of(back, "success").call, back.exit_code) == ("better", 0)
    assert back.decision.startswith("Better: success")


def test_integrity_is_compared_as_success_is():
    damaged = run(500, 500)
    damaged.shares["utf8"] = ShareFigure(n=500, worst=470, best=470)
    found = compare_pair(run(500, 500), damaged, USUAL)
    assert [row.key for row in found.rows if row.call == "worse"] == ["utf8"]
    assert found.exit_code == 1
    losing = run(500, 500)
    losing.shares["lost"] = losing.shares["doubled"] = ShareFigure(n=500, worst=470, best=470)
    assert compare_pair(run(500, 500), losing, USUAL).decision.startswith(
        "Worse: nothing lost in 500 of 500 (100 %) → 470 of 500 (94 %) and nothing doubled in 500 of 500 (100 %)"
    ), "not: lost 500 of 500"


@pytest.mark.parametrize("rate", [0.9, 0.98, 0.995])
def test_alike_runs_are_called_different_in_at_most_five_percent(rate):
    """By exact sums over every pair of counts, with the whole error on one figure."""
    n = 60
    chances = scipy.stats.binom(n, rate).pmf(range(n + 1))
    likely = [k for k in range(n + 1) if chances[k] > 1e-7]
    called = better = 0.0
    for a, b in itertools.product(likely, likely):
        call = row_of(compare_pair(run(a, n, whole=False), run(b, n, whole=False), USUAL), "success").call
        called += chances[a] * chances[b] * (call in {"worse", "better"})
        better += chances[a] * chances[b] * (call == "better")
    assert called <= 0.05
    assert better <= 0.025 + 1e-9


def test_the_planted_loss_is_caught_almost_always():
    """98 % to 90 % at n = 500, the error shared by four figures: exact power over nearly all outcomes."""
    before, after = scipy.stats.binom(500, 0.98), scipy.stats.binom(500, 0.90)
    caught = 0.0
    for a in range(480, 500):
        for b in range(425, 472):
            found = row_of(compare_pair(run(a, 500), run(b, 500), USUAL), "success").call == "worse"
            caught += before.pmf(a) * after.pmf(b) * found
    assert caught > 0.99


def test_figures_share_the_error():
    alone = compare_pair(run(98, 100, whole=False), run(90, 100, whole=False), USUAL)
    shared = compare_pair(run(98, 100), run(90, 100), USUAL)
    gated = compare_pair(run(98, 100), run(90, 100), Asked(gate=("success",)))
    p = row_of(alone, "success").p
    assert 0.05 / 4 < p <= 0.05
    assert [row_of(each, "success").call for each in (alone, shared, gated)] == [
        "worse",
        "none shown",
        "worse",
    ]
    assert [each.exit_code for each in (alone, shared, gated)] == [1, 0, 1]
    assert not row_of(gated, "utf8").may_call


def test_alike_pairs_with_five_figures_by_simulation():
    """Each figure of its own rate; a difference in any of them counts."""
    called = regressions = 0
    for seed in range(300):
        rng = random.Random(f"five {seed}")
        pair = run(whole=False), run(whole=False)
        for key, rate in zip(
            ("success", "recovery", "lost", "doubled", "utf8"), (0.9, 0.95, 0.97, 0.98, 0.8), strict=True
        ):
            for each in pair:
                good = sum(rng.random() < rate for _ in range(200))
                each.shares[key] = ShareFigure(n=200, worst=good, best=good)
        found = compare_pair(*pair, USUAL)
        called += any(row.call in {"worse", "better"} for row in found.rows)
        regressions += found.exit_code
    assert called <= 0.05 * 300
    assert regressions <= called


def test_so_few_streams_are_not_decided_with_a_gate_and_without():
    found = compare_pair(run(3, 3), run(0, 3), USUAL)
    assert row_of(found, "success").call == "undecided"
    assert not row_of(found, "success").decidable
    assert found.exit_code == 2
    assert compare_pair(run(3, 3), run(0, 3), Asked(gate=("success",))).exit_code == 2


def test_nothing_measured_on_both_sides_is_no_pass():
    """What could have shown no regression says nothing, as a claim that nobody measured does."""
    before, after = run(), run()
    before.shares, before.times, after.shares, after.times = after.shares, after.times, {}, {}
    found = compare_pair(before, after, USUAL)
    assert (found.decision, found.exit_code) == ("Nothing was measured on both sides.", 2)


def test_streams_without_an_end_count_against_the_call():
    """Of 500 in the second run 40 have no end: had they been good, there would be no difference."""
    found = compare_pair(run(490, 500), run(450, 500, open_=40), USUAL)
    row = row_of(found, "success")
    assert (row.call, row.decidable) == ("undecided", False)
    assert "40 units were left open, and what they came to decides" in row.sentence
    assert "Not decided: success" in found.decision
    assert row.interval[0] < -0.08 < 0 < row.interval[1]
    assert row_of(compare_pair(run(450, 500, open_=40), run(490, 500), USUAL), "success").call == "undecided"
    assert compare_pair(run(490, 500), run(450, 500, open_=40), Asked(gate=("success",))).exit_code == 2


def test_open_streams_that_could_hide_nothing_leave_it_at_none_shown():
    found = compare_pair(run(490, 500), run(488, 500, open_=4), USUAL)
    assert row_of(found, "success").call == "none shown"


@pytest.mark.parametrize(
    ("open_", "call", "code"), [(0, "worse", 1), (300, "undecided", 2), (3, "none shown", 0)]
)
def test_a_run_whose_open_streams_may_hide_a_change_from_kept_ones_is_not_called_alike(open_, call, code):
    kept = [run(495, 500) for _ in range(20)]
    new = run(495 - max(open_, 300 * (not open_)), 500, open_=open_)
    found = compare_baseline(kept, new, Asked(gate=("success",)))
    assert (row_of(found, "success").call, found.exit_code) == (call, code)


@pytest.mark.parametrize("factor", [1.0, 1.3, 5.0, 0.5])
def test_one_pair_never_calls_a_time(factor):
    rng = random.Random("pair")
    pair = run(ttft=lognormal(rng)), run(ttft=lognormal(rng, scale=factor))
    found = compare_pair(*pair, USUAL)
    rows = [row for row in found.rows if row.kind == "time"]
    assert [row.call for row in rows if row.call in {"worse", "better"}] == []
    assert found.exit_code == 0
    leans = {row.key: row.leans for row in rows}
    assert leans["ttft p50"] == {1.0: "", 1.3: "worse", 5.0: "worse", 0.5: "better"}[factor]
    assert any("in this pair" in row.sentence for row in rows) == (factor != 1.0)
    assert any("One pair of runs does not show a regression of latency" in each for each in found.warnings)
    assert compare_pair(*pair, Asked(gate=("ttft p95",))).exit_code == 2


def test_intervals_of_a_pair_are_order_statistics():
    values = [float(value) * MS for value in range(1, 501)]
    found = row_of(compare_pair(run(ttft=values), run(ttft=[2 * v for v in values]), USUAL), "ttft p95")
    low, high = quantile_interval(500, 0.95)
    assert (found.before.low, found.before.high) == (values[low - 1], values[high - 1])
    assert found.before.value == values[quantile_rank(500, 0.95) - 1]
    assert found.difference == pytest.approx(2.0)
    outer = quantile_interval(500, 0.95, 0.975)
    assert found.interval == pytest.approx((2 * outer[0] / outer[1], 2 * outer[1] / outer[0]))


def test_a_percentile_of_too_few_has_no_interval():
    values = [float(value) * MS for value in range(1, 51)]
    found = compare_pair(run(ttft=values), run(ttft=values), USUAL)
    assert row_of(found, "ttft p95").interval is None
    assert "too small" in row_of(found, "ttft p95").sentence
    assert row_of(found, "ttft p50").interval is not None
    assert "ttft p99" not in {row.key for row in found.rows}


def test_brackets_widen_the_interval_of_a_time():
    values = [float(value) * MS for value in range(100, 600)]
    narrow, wide = run(ttft=values), run()
    wide.times["ttft"] = times(values, width=50 * MS)
    sharp = row_of(compare_pair(narrow, run(ttft=values), USUAL), "ttft p50").interval
    blurred = row_of(compare_pair(narrow, wide, USUAL), "ttft p50").interval
    assert blurred[0] < sharp[0]
    assert sharp[1] < blurred[1]


# --- two sets of runs ---------------------------------------------------------------------------------------------------


def sets(rng, runs, scale=1.0, good=98, **kinds):
    """So many runs a side; those behind are slower by `scale`, and `good` of their hundred streams succeed."""
    before = [run(ttft=lognormal(rng, **kinds)) for _ in range(runs)]
    return before, [run(good, ttft=lognormal(rng, scale=scale, **kinds)) for _ in range(runs)]


def test_a_planted_shift_of_thirty_percent_over_five_runs_is_a_regression():
    for seed in range(20):
        found = compare_sets(*sets(random.Random(f"shift {seed}"), 5, 1.3), USUAL)
        row = row_of(found, "ttft p95")
        assert (row.call, found.exit_code) == ("worse", 1), seed
        assert row.p == pytest.approx(2 / 252)
        assert row.interval[0] > 1.0
        assert row.difference == pytest.approx(1.3, rel=0.15)
        assert row_of(found, "success").call == "none shown"
    back = compare_sets(*sets(random.Random("back"), 5, 1 / 1.3), USUAL)
    assert (row_of(back, "ttft p95").call, back.exit_code) == ("better", 0)


def test_fewer_good_streams_over_five_runs_are_a_regression():
    rng = random.Random("success")
    before = [run(490 + rng.randint(-3, 3), 500) for _ in range(5)]
    after = [run(450 + rng.randint(-6, 6), 500) for _ in range(5)]
    found = compare_sets(before, after, USUAL)
    assert row_of(found, "success").call == "worse"
    assert row_of(found, "success").difference == pytest.approx(-0.08, abs=0.01)


def test_alike_sets_are_called_different_in_at_most_five_percent():
    """Exact: of all ways to deal ten runs out to two sides, those that are called, times three figures."""
    values = [100.0 * 1.2**rank * MS for rank in range(10)]  # far apart, so that the test alone decides
    called = 0
    for chosen in itertools.combinations(range(10), 5):
        sides = [
            [run(ttft=[values[i]] * 40) for i in range(10) if (i in chosen) == after]
            for after in (False, True)
        ]
        called += row_of(compare_sets(*sides, USUAL), "ttft p50").call in {"worse", "better"}
    assert called == 4
    assert 3 * called / math.comb(10, 5) <= 0.05


def test_alike_sets_by_simulation():
    called = regressions = 0
    for seed in range(200):
        found = compare_sets(*sets(random.Random(f"alike {seed}"), 5, n=60, effect=0.1), USUAL)
        calls = {row.call for row in found.rows}
        called += bool(calls & {"worse", "better"})
        regressions += found.exit_code
    assert called <= 0.05 * 200
    assert regressions <= called


@pytest.mark.parametrize(
    ("runs", "gate", "decides"),
    [(3, ("ttft p95",), False), (4, ("ttft p95",), True), (4, (), False), (5, (), True)],
)
def test_so_few_runs_can_not_decide(runs, gate, decides):
    """3 against 3 never; 4 against 4 where one figure has the whole error; 5 against 5 for the usual three."""
    found = compare_sets(*sets(random.Random("few"), runs, 2.0), Asked(gate=gate))
    row = row_of(found, "ttft p95")
    assert row.decidable is decides
    assert found.exit_code == (1 if decides else 2)
    assert ("can't decide" in row.sentence) is not decides
    if not decides:
        assert f"{4 if gate else 5} a side can" in row.sentence


def test_a_sure_change_that_does_not_matter_is_none():
    found = compare_sets(*sets(random.Random("small"), 8, 1.03, effect=0.001, n=2_000), USUAL)
    row = row_of(found, "ttft p50")
    assert row.p < 0.01
    assert row.call == "none shown"
    assert "less than matters" in row.sentence
    strict = compare_sets(*sets(random.Random("small"), 8, 1.03, effect=0.001, n=2_000), Asked(ratio=0.01))
    assert row_of(strict, "ttft p50").call == "worse"


def test_figures_beside_point_and_are_never_called():
    before, after = sets(random.Random("beside"), 6, 1.5)
    for each in (*before, *after):
        each.times["e2e"] = each.times["ttft"]
    found = compare_sets(before, after, USUAL)
    row = row_of(found, "e2e p95")
    assert (row.may_call, row.call, row.leans) == (False, "undecided", "worse")
    gated = compare_sets(before, after, Asked(gate=("success",)))
    assert gated.exit_code == 0
    assert row_of(compare_sets(before, after, Asked(gate=("e2e p95",))), "e2e p95").call == "worse"


def test_runs_in_which_nothing_ever_came_are_worse_and_have_no_ratio():
    before = [run(ttft=lognormal(random.Random(str(seed)))) for seed in range(5)]
    after = [run(0, ttft=[math.inf] * 100) for _ in range(5)]
    found = compare_sets(before, after, USUAL)
    row = row_of(found, "ttft p50")
    assert (row.call, row.difference, row.interval) == ("worse", None, None)
    assert math.isinf(row.after.value)
    assert "never" in found.decision
    dead = compare_sets(after, [run(0, ttft=[math.inf] * 100) for _ in range(5)], USUAL)
    assert row_of(dead, "ttft p50").call == "none shown"


def test_open_streams_count_against_the_call_of_sets_too():
    before = [run(490, 500) for _ in range(6)]
    after = [run(450, 500, open_=40) for _ in range(6)]
    row = row_of(compare_sets(before, after, USUAL), "success")
    assert (row.call, row.decidable) == ("undecided", False)
    after = [run(488, 500, open_=2) for _ in range(6)]
    assert row_of(compare_sets(before, after, USUAL), "success").call == "none shown"


def test_taking_turns_is_asked_for():
    said = "All runs of one side came before all of the other"
    before, after = [run() for _ in range(5)], [run() for _ in range(5)]
    assert any(said in each for each in compare_sets(before, after, USUAL).warnings)
    turned = [before[0], *after[1:]], [after[0], *before[1:]]
    assert not any(said in each for each in compare_sets(*turned, USUAL).warnings)


# --- a run and those kept before it -------------------------------------------------------------------------------------


def kept(rng, k, **kinds):
    return [run(98 + rng.randint(-1, 1), ttft=lognormal(rng, **kinds)) for _ in range(k)]


def test_a_run_beyond_all_of_nineteen_is_a_regression():
    rng = random.Random("baseline")
    runs = kept(rng, 19)
    found = compare_baseline(runs, run(ttft=lognormal(rng, scale=1.3)), USUAL)
    assert {row.key for row in found.rows if row.call == "worse"} == {"ttft p50", "ttft p95"}
    assert found.exit_code == 1
    row = row_of(found, "ttft p95")
    values = [value for value in row.before.each if value is not None]
    assert (row.before.low, row.before.high, row.confidence) == (min(values), max(values), pytest.approx(0.9))
    assert "19 were better, 0 worse" in row.sentence
    faster = compare_baseline(runs, run(ttft=lognormal(rng, scale=0.7)), USUAL)
    assert (row_of(faster, "ttft p95").call, faster.exit_code) == ("better", 0)
    fewer = compare_baseline(runs, run(80, ttft=lognormal(rng)), USUAL)
    assert [row.key for row in fewer.rows if row.call == "worse"] == ["success"]


def test_of_twenty_alike_runs_at_most_one_is_called_worse_and_one_better():
    """Each of the twenty once as the new one: exact, since any of them was as likely to come last."""
    for seed in range(5):
        runs = kept(random.Random(f"alike {seed}"), 20, effect=0.15)
        calls = [
            {row.call for row in compare_baseline(runs[:i] + runs[i + 1 :], runs[i], USUAL).rows}
            for i in range(20)
        ]
        assert sum("worse" in each for each in calls) <= 1
        assert sum("better" in each for each in calls) <= 1


@pytest.mark.parametrize("gate", [(), ("ttft p95",)])
def test_with_fewer_than_nineteen_there_are_counts_only(gate):
    rng = random.Random("few")
    found = compare_baseline(kept(rng, 18), run(ttft=lognormal(rng, scale=5.0)), Asked(gate=gate))
    assert {row.call for row in found.rows} == {"undecided"}
    assert found.exit_code == 2
    row = row_of(found, "ttft p95")
    assert "of 18 kept runs 18 were better, 0 worse" in row.sentence
    assert "Counts only" in row.sentence
    assert row.before.low is None
    assert any("18 kept runs show counts only" in each for each in found.warnings)
    one = compare_baseline(kept(rng, 1), run(ttft=lognormal(rng, scale=5.0)), Asked(gate=gate))
    assert "of 1 kept run 1 was better, 0 worse" in row_of(one, "ttft p95").sentence
    assert any("1 kept run shows counts only" in each for each in one.warnings)


def test_beyond_all_but_by_little_is_none():
    runs = [run(ttft=[100 * MS + n] * 60) for n in range(19)]
    found = compare_baseline(runs, run(ttft=[101 * MS] * 60), USUAL)
    assert row_of(found, "ttft p50").call == "none shown"
    assert (
        row_of(compare_baseline(runs, run(ttft=[101 * MS] * 60), Asked(ratio=0.005)), "ttft p50").call
        == "worse"
    )


def test_a_figure_that_some_kept_runs_lack_is_not_decided():
    rng = random.Random("lack")
    runs = kept(rng, 20)
    runs[3].times.clear()
    found = compare_baseline(runs, run(ttft=lognormal(rng, scale=2.0)), USUAL)
    assert row_of(found, "ttft p50").call == "undecided"
    assert "measured in 19 of 20 kept runs" in row_of(found, "ttft p50").sentence


def test_open_streams_of_the_new_run_count_against_the_call():
    runs = kept(random.Random("open"), 19)
    assert row_of(compare_baseline(runs, run(60, 100), USUAL), "success").call == "worse"
    assert row_of(compare_baseline(runs, run(60, 100, open_=40), USUAL), "success").call == "undecided"


def test_an_open_figure_is_not_named_beside_one_that_is_odd():
    rng = random.Random("beside")
    found = compare_baseline(kept(rng, 19), run(60, 100, open_=40, ttft=lognormal(rng, scale=2.0)), USUAL)
    assert row_of(found, "ttft p95").call == "worse"
    assert row_of(found, "success").call == "undecided"


# --- what may be compared -----------------------------------------------------------------------------------------------


def test_what_can_not_be_compared_is_refused_in_a_sentence():
    one = run()
    for other, said in (
        (run(is_open=True), "a closed loop and .* an open loop"),
        (run(kind="subscription"), "answers and .* subscriptions"),
        (run(0, 0, streams=0, shares={}), "not one finished stream"),
        (run(run=one.run), "one and the same run"),
    ):
        with pytest.raises(IncomparableError, match=said):
            compare_pair(one, other, USUAL)
        with pytest.raises(IncomparableError, match=said):
            compare_sets([one, run()], [other, run()], USUAL)
    with pytest.raises(IncomparableError, match="at least two runs on one side"):
        compare_sets([run()], [run()], USUAL)
    assert compare_pair(one, run(run=one.run, variant="after"), USUAL).rows


def test_what_was_asked_and_is_not_the_same_is_named():
    one = run(
        inputs={"load.users": "20", "target.url": "http://a", "versions.sseproof": "1"},
        labels={"commit": "a"},
    )
    two = run(
        inputs={"load.users": "50", "target.url": "http://a", "host.cores": "2", "versions.sseproof": "2"},
        labels={"commit": "b"},
    )
    found = compare_pair(one, two, USUAL)
    named = {each.name: (each.before, each.after) for each in found.differing}
    assert named["load.users"] == (["20"], ["50"])
    assert named["host.cores"] == ([], ["2"])
    assert named["labels.commit"] == (["a"], ["b"])
    assert "seed" in named
    assert "target.url" not in named
    assert any("What was asked is not the same (load.users)" in each for each in found.warnings)
    assert any("host.cores and versions.sseproof" in each for each in found.warnings)
    alike = compare_pair(run(seed=1), run(seed=1), USUAL)
    assert alike.differing == []
    assert len(alike.warnings) == 1


def test_a_run_that_did_not_finish_is_said():
    found = compare_pair(run(), run(how="interrupted"), USUAL)
    assert any("ended as interrupted" in each for each in found.warnings)


def test_a_run_that_gave_up_is_said():
    found = compare_pair(run(), run(aborted=True), USUAL)
    assert any("was aborted" in each for each in found.warnings)
    assert not any("was aborted" in each for each in compare_pair(run(), run(), USUAL).warnings)


def test_a_figure_of_one_side_only_is_not_decided():
    found = compare_pair(run(ttft=[MS] * 100), run(), USUAL)
    row = row_of(found, "ttft p50")
    assert (row.call, row.after.runs) == ("undecided", 0)
    assert compare_pair(run(), run(), Asked(gate=("reconnect p95",))).exit_code == 2


# --- the figures of a run -----------------------------------------------------------------------------------------------


def test_figures_are_those_that_the_verdicts_count(tmp_path):
    history = read_history(one_variant(tmp_path, 240))
    found = run_figures(history, all_facts(history), history.plan.variants[0], "here")
    counted = {verdict.metric: verdict for verdict in judge(history).verdicts}
    for key in ("success", "recovery", "lost", "utf8"):
        share = found.shares[key]
        verdict = counted[key]
        open_ = verdict.unfinished + verdict.dropped
        assert (share.worst, share.n) == (verdict.k, verdict.n + open_), key
    assert found.times["reconnect"].n == counted["reconnect"].n
    assert found.streams == 240
    good = sum(count for outcome, count in found.outcomes.items() if outcome in SUCCESSES)
    assert good == counted["success"].k
    assert found.inputs["load.users"] == "50"
    assert found.labels == {"commit": "e056604"}
    values = found.times["ttft"]
    assert values.low[0] < values.seen[0] < values.high[0]


def test_what_has_no_end_may_have_come_at_once_or_never(tmp_path):
    history = read_history(crowded(tmp_path))
    history.missing.clear()  # it is made without the start rows of some streams that ended
    (variant,) = [each for each in history.plan.variants if each.name == "after"]
    found = run_figures(history, all_facts(history), variant, "here")
    open_ = sum(start.variant == "after" for start in (*history.unfinished, *history.dropped))
    assert open_ == 12
    values = found.times["ttft"]
    assert values.low[:open_] == [0.0] * open_
    assert values.low[open_] > 0
    failed = sum(record.variant == "after" and record.first_token is None for record in history.streams)
    assert [each.count(math.inf) for each in (values.low, values.high)] == [failed, failed + open_]
    assert found.shares["success"].best == found.shares["success"].worst + open_


def test_each_variant_has_its_own_figures(tmp_path):
    history = read_history(two_variants(tmp_path, 120))
    facts = all_facts(history)
    before, after = (run_figures(history, facts, variant, "here") for variant in history.plan.variants)
    assert before.shares["recovery"].worst == 0
    assert after.shares["recovery"].worst > 0
    assert math.isinf(before.times["reconnect"].seen[0])
    found = compare_pair(before, after, USUAL)
    assert {"success", "recovery"} <= {row.key for row in found.rows if row.call == "better"}
    assert "client.profile" in {each.name for each in found.differing}


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("starts", {*SHARES, *TIMES, UNBROKEN}),
        ("breaks", {"recovery", "reconnect"}),
        ("generator", {"ttft", "e2e", "reconnect"}),
    ],
)
def test_what_a_lost_file_would_tell_is_not_compared(tmp_path, name, gone):
    """What is left of a run is not what happened in it: no figure of the rest hides a regression, or makes one."""
    sides = []
    for place in ("whole", "broken"):
        directory = tmp_path / place
        directory.mkdir()
        one_variant(directory)
        if place == "broken":
            (directory / f"{name}.jsonl").unlink()
        history = read_history(directory)
        sides.append(run_figures(history, all_facts(history), history.plan.variants[-1], place))
    whole, broken = sides
    broken.run = "another"
    lost = {*whole.shares, *whole.times} - {*broken.shares, *broken.times}
    assert lost == gone & {*whole.shares, *whole.times}
    assert not whole.lacking
    compared = compare_pair(whole, broken, Asked(gate=("success",)))
    assert compared.exit_code == (2 if "success" in gone else 0)
    assert any(f"In broken {name}.jsonl is missing or not whole" in each for each in compared.warnings)
