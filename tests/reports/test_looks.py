"""Runs that go on until they are decided: the rule's total error by exact sums, and which look gives the verdict."""

import numpy as np
import pytest
import scipy.stats

from sseproof.reports import looks
from sseproof.reports.claims import parse_claim
from sseproof.reports.history import read_history
from sseproof.reports.looks import LOOKS, complete, confidence_at, planned_looks
from sseproof.reports.statistics import chance_at_looks, decide, decision_chance
from sseproof.reports.verdicts import judge_claim


def verdicts_by_exact_sums(numbers, claim, rate):
    """The chance that some look of these numbers passes, and that some look fails, at this true rate.

    The distribution of failures goes on from look to look, without the counts that were decided.
    """
    registered = planned_looks(numbers[0])
    passes = fails = 0.0
    going = np.array([1.0])
    before = 0
    for n, look in zip(numbers, registered, strict=True):
        more = scipy.stats.binom.pmf(np.arange(n - before + 1), n - before, 1.0 - rate)
        going = np.convolve(going, more)
        before = n
        confidence = confidence_at(claim, look)
        answers = np.array([answer(claim, n - failures, n, confidence) for failures in range(n + 1)])
        passes += going[answers == "pass"].sum()
        fails += going[answers == "fail"].sum()
        going[answers != "unknown"] = 0.0
    return passes, fails


def answer(claim, good, n, confidence):
    if claim.form == "all":
        return "fail" if good < n else "pass" if n >= claim.needed_units() else "unknown"
    return decide(good, n, claim.required_share(), confidence)


def numbers_of(first, end):
    return [first * 2**power for power in range(LOOKS - 1)] + [end]


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("success >= 98%", 149, 2_384),
        ("success >= 98%", 236, 2_000),
        ("success >= 98%", 400, 3_201),
        ("success >= 98% confidence 90%", 120, 1_500),
        ("ttft p95 <= 1s", 59, 944),
        ("ttft p50 <= 1s", 20, 400),
    ],
)
def test_the_error_of_all_looks_together_is_that_of_one_verdict(text, first, end):
    """A service exactly at the limit, which is the hardest one, for passes and for fails alike."""
    claim = parse_claim(text)
    passes, fails = verdicts_by_exact_sums(numbers_of(first, end), claim, claim.required_share())
    assert 0.005 < passes <= 1.0 - claim.confidence
    assert 0.005 < fails <= 1.0 - claim.confidence


@pytest.mark.parametrize("rate", [0.999, 0.993, 0.98, 0.96, 0.9, 1.0])
@pytest.mark.parametrize(("text", "first"), [("success >= 98%", 149), ("ttft p95 <= 1s", 59)])
def test_the_chance_at_some_look_is_that_of_the_sums(text, first, rate):
    claim = parse_claim(text)
    numbers = numbers_of(first, first * 16)
    confidences = [confidence_at(claim, look) for look in planned_looks(first)]
    chance = chance_at_looks(numbers, confidences, claim.required_share(), rate)
    passes, fails = verdicts_by_exact_sums(numbers, claim, rate)
    assert (chance.passes, chance.fails) == pytest.approx((passes, fails), abs=1e-9)
    assert chance.passes + chance.fails + chance.unknown == pytest.approx(1.0)


def test_one_look_is_one_decision_and_looks_grow():
    once = chance_at_looks([420], [0.95], 0.98, 0.995)
    assert once.passes == pytest.approx(decision_chance(420, 0.98, 0.995).passes, abs=1e-12)
    for sizes in ([10, 10], [20, 10], [0, 10]):
        with pytest.raises(ValueError, match="more units"):
            chance_at_looks(sizes, [0.95, 0.95], 0.98, 0.99)


def test_looking_as_often_without_the_rule_would_err_more_often(monkeypatch):
    """What the rule is for: the same looks at the whole confidence each."""
    claim = parse_claim("success >= 98%")
    monkeypatch.setattr("tests.reports.test_looks.confidence_at", lambda claim, _look: claim.confidence)
    passes, fails = verdicts_by_exact_sums(numbers_of(149, 2_384), claim, 0.98)
    assert passes > 0.07
    assert fails > 0.07


def test_no_violation_keeps_its_confidence_at_every_look():
    claim = parse_claim("utf8 = 100%")
    passes, _ = verdicts_by_exact_sums(numbers_of(59, 944), claim, 0.95)
    assert 0.04 < passes <= 0.05
    assert {confidence_at(claim, look) for look in planned_looks(59)} == {0.95}


def test_going_on_decides_what_one_look_leaves_open():
    claim = parse_claim("success >= 98%")
    passes, fails = verdicts_by_exact_sums(numbers_of(149, 2_384), claim, 0.993)
    assert passes > 0.95
    assert fails < 0.01
    assert scipy.stats.binom.pmf(0, 149, 0.007) < 0.4  # the chance of a pass at the planned number alone


def test_the_shares_of_the_error_add_up_to_all_of_it():
    registered = planned_looks(200)
    assert [look.streams for look in registered] == [200, 400, 800, 1_600, None]
    assert sum(look.error_share for look in registered) == pytest.approx(1.0, abs=1e-12)
    assert confidence_at(parse_claim("success >= 98%"), registered[0]) == pytest.approx(0.975)
    assert confidence_at(parse_claim("success >= 98%"), registered[-1]) == pytest.approx(0.99375)


class TestVerdicts:
    CLAIM = "success >= 90%"

    def planned(self, run, first, *claims):
        run.claims(*(claims or (self.CLAIM,)))
        run.plan.looks = planned_looks(first)

    def plant(self, run, *outcomes):
        for good in outcomes:
            run.stream() if good else run.failed()

    def test_the_first_look_that_decides_is_the_verdict(self, run):
        self.planned(run, 40)
        self.plant(run, *[True] * 40, *[False] * 30)
        (verdict,) = run.judge().verdicts
        assert (verdict.verdict, verdict.n, verdict.k) == ("pass", 40, 40)
        assert (verdict.look.number, verdict.look.of, verdict.look.streams) == (1, 5, 40)
        assert verdict.confidence == pytest.approx(0.975)
        assert verdict.sentence == (
            "All 40 streams ended well. Look 1 of 5, after the first 40 streams, at 97.5 %; 30 later streams not counted."
        )

    def test_by_stream_numbers_and_not_by_who_ended_first(self, run):
        self.planned(run, 40)
        for number in range(40, 100):
            run.stream(stream=number)
        for number in range(40):
            run.failed(stream=number)
        (verdict,) = run.judge().verdicts
        assert (verdict.verdict, verdict.n, verdict.k) == ("fail", 40, 0)

    def test_a_look_that_is_not_whole_is_none(self, run):
        """79 of 80: all of them would pass at the second look, and the end is not reached."""
        self.planned(run, 40)
        self.plant(run, *[True] * 39, False, *[True] * 39)
        assert run.one("", how="interrupted").verdict == "unknown"
        self.plant(run, True)
        verdict = run.one("", how="interrupted")
        assert (verdict.verdict, verdict.look.number, verdict.n) == ("pass", 2, 80)

    def test_the_planned_end_is_the_last_look(self, run):
        self.planned(run, 40)
        self.plant(run, *[True] * 39, False, *[True] * 39)
        verdict = run.one("")
        assert (verdict.verdict, verdict.look.number, verdict.n, verdict.look.streams) == ("pass", 5, 79, 79)
        assert "Look 5 of 5, at the end, at 99.4 %." in verdict.sentence

    @pytest.mark.parametrize("how", ["interrupted", "terminated", "failed", "running"])
    def test_an_end_that_was_not_planned_is_no_look(self, run, how):
        self.planned(run, 40)
        self.plant(run, *[True] * 39, False, *[True] * 39)
        verdict = run.one("", how=how)
        assert (verdict.verdict, verdict.code) == ("unknown", "interrupted")
        assert verdict.sentence.startswith("No registered look decided it")
        assert (verdict.next_run, "--max-duration" in verdict.next) == (None, True)

    def test_an_end_because_another_claim_was_decided_is_no_look(self, run):
        self.planned(run, 40, "success >= 99%", "ttft p90 <= 1s")
        for number in range(79):
            first_token = run.at(1_500 if number == 1 else 87)
            run.stream(first_token=first_token) if number % 4 else run.failed(first_token=first_token)
        assert [each.verdict for each in run.judge().verdicts] == ["fail", "pass"], "the end itself is a look"
        run.generator(admission_end="decided")
        success, ttft = run.judge().verdicts
        assert (success.verdict, success.look.number) == ("fail", 1)
        assert (ttft.verdict, ttft.code) == ("unknown", "too-few")

    def test_a_look_sees_nothing_of_later_streams(self, run, monkeypatch):
        """Neither their rows, by which faults are proved, nor what they left open."""
        self.planned(run, 40)
        for number in range(100):
            run.stream(stream=number, breaks=1)
            run.break_(number)
        for number in (100, 101):
            run.start(stream=number)
            run.start(stream=number + 2, dropped=True)
        seen = []

        def judged(claim, history, facts):
            rows = (*history.streams, *history.breaks, *history.unfinished, *history.dropped)
            seen.append({*(row.stream for row in rows), *(each.record.stream for each in facts)})
            return judge_claim(claim, history, facts)

        monkeypatch.setattr(looks, "judge_claim", judged)
        run.judge()
        assert seen == [set(range(each)) for each in (40, 80, 104, 104, 104)]

    def test_what_is_undecided_at_every_look_is_unknown(self, run):
        self.planned(run, 40)
        self.plant(run, *[True, True, True, True, True, True, True, True, True, False] * 8)
        verdict = run.one("")
        assert (verdict.verdict, verdict.code, verdict.n) == ("unknown", "too-few", 80)

    @pytest.mark.parametrize("ended", ["finished", "decided", "interrupted"])
    def test_a_violation_after_the_look_that_passed_fails_all_the_same(self, run, ended):
        """`= 0` says that it never happens: a run that saw it 50 times can't say so."""
        self.planned(run, 60, "lost = 0", self.CLAIM)
        for _ in range(60):
            run.stream(lost=0)
        for _ in range(50):
            run.stream(lost=3)
        if ended == "decided":
            run.generator(admission_end="decided")
        lost, success = run.judge("interrupted" if ended == "interrupted" else "finished").verdicts
        assert (lost.verdict, lost.n, lost.k, lost.amount) == ("fail", 110, 60, 150)
        assert (success.verdict, success.n, success.look.number) == ("pass", 60, 1), "shares go by their look"
        looked = "Look 5 of 5" in lost.sentence
        assert looked == (ended == "finished")
        assert ("One violation fails at every moment" in lost.sentence) != looked

    @pytest.mark.parametrize("how", ["interrupted", "terminated", "running"])
    def test_a_violation_before_the_first_look_fails_an_interrupted_run(self, run, how):
        self.planned(run, 60, "lost = 0", self.CLAIM)
        for _ in range(50):
            run.stream(lost=3)
        lost, success = run.judge(how).verdicts
        assert (lost.verdict, lost.code, lost.amount) == ("fail", None, 150)
        assert (success.verdict, success.code) == ("unknown", "interrupted")

    def test_breaks_count_with_their_streams(self, run):
        self.planned(run, 40, "recovery >= 90%")
        for number in range(80):
            bad = number >= 40
            fields = {"outcome": "cut", "end": "rst"} if bad else {}
            run.stream(stream=number, breaks=1, **fields)
            run.break_(number, back_ms=None if bad else 700)
        (verdict,) = run.judge().verdicts
        assert (verdict.verdict, verdict.n, verdict.k, verdict.look.number) == ("pass", 40, 40, 1)

    def test_every_variant_has_its_own_looks(self, run):
        self.planned(run, 40)
        run.variant("a", judged=False)
        run.variant("b")
        for number in range(40):
            run.stream(stream=number, variant="a")
        for number in range(39):
            run.stream(stream=number, variant="b")
        first, second = run.judge("interrupted").verdicts
        assert (first.verdict, second.verdict) == ("pass", "unknown")

    def test_a_drop_completes_a_look_and_stays_open(self, run):
        self.planned(run, 40)
        self.plant(run, *[True] * 39)
        run.start(dropped=True)
        verdict = run.one("", how="interrupted")
        assert (verdict.look.number, verdict.dropped, verdict.verdict) == (5, 1, "unknown")
        assert complete(read_history(run.write("interrupted")), run.plan.looks[0], None)

    def test_a_run_without_the_rule_is_judged_once(self, run):
        run.claims(self.CLAIM)
        self.plant(run, *[True] * 40)
        verdict = run.one("")
        assert (verdict.look, verdict.confidence) == (None, 0.95)
        assert "Look" not in verdict.sentence
