"""Breaks by class of fault and by episode: what pooling would hide, and what shares its fate."""

import time

import pytest

from sseproof.reports.checks import fault_windows
from sseproof.reports.episodes import Episodes, _Windows
from sseproof.reports.history import read_history
from sseproof.reports.summary import summary_text


def windowed(run, group, kind, spans_ms, fault=None):
    """A fault that acts several times, from and until these moments."""
    for window, (since, until) in enumerate(spans_ms, 1):
        told = {"fault": fault or group, "kind": kind, "group": group, "window": window}
        run.fault("applied", call_sent_ns=run.at(since).ns, **told)
        run.fault("healed", call_answered_ns=run.at(until).ns, **told)


def standing(run, group, kind="cut"):
    run.fault("applied", fault=group, kind=kind, group=group, call_sent_ns=run.t0)


def broken(run, count, group, seen_ms, *, recovered=True, start_ms=0.0):
    for _ in range(count):
        fields = {} if recovered else {"outcome": "cut", "end": "rst"}
        first = run.attempt(started=run.at(start_ms), ended=run.at(seen_ms), end="rst")
        number = run.stream(group=group, start_ms=start_ms, breaks=1, attempts=[first], **fields).stream
        run.break_(number, group=group, seen_ms=seen_ms, back_ms=seen_ms + 100 if recovered else None)


def splits(verdict):
    return {split.kind: (split.k, split.n, split.unfinished) for split in verdict.faults}


class TestByClass:
    def test_a_class_that_fails_is_not_hidden_by_the_others(self, run):
        standing(run, "cut")
        windowed(run, "gone", "refused", [(400, 600)])
        broken(run, 300, "cut", 500)
        broken(run, 5, "gone", 500, recovered=False)
        broken(run, 5, "gone", 500)
        result = run.one("recovery >= 95%")
        assert (result.k, result.n) == (305, 310)
        assert result.lower > 0.95, "pooled it would pass"
        assert (result.verdict, result.code) == ("fail", None)
        assert result.sentence.startswith("After refused alone only 5 of 10 breaks were recovered.")
        assert splits(result) == {"cut": (300, 300, 0), "refused": (5, 10, 0)}
        assert "By fault: cut 300/300, refused 5/10." in summary_text(run.judge(), "d")

    def test_a_class_that_does_not_refute_the_floor_leaves_the_pool_to_decide(self, run):
        standing(run, "cut")
        windowed(run, "gone", "refused", [(400, 600)])
        broken(run, 300, "cut", 500)
        broken(run, 1, "gone", 500, recovered=False)
        broken(run, 9, "gone", 500)
        result = run.one("recovery >= 95%")
        assert result.verdict == "pass"
        assert splits(result) == {"cut": (300, 300, 0), "refused": (9, 10, 0)}

    def test_breaks_that_no_fault_made_are_a_class(self, run):
        standing(run, "cut")
        broken(run, 60, "cut", 500)
        broken(run, 4, "clean", 500, recovered=False)
        result = run.one("recovery >= 90%")
        assert splits(result) == {"": (0, 4, 0), "cut": (60, 60, 0)}
        assert result.sentence.startswith("Without a fault only 0 of 4 breaks were recovered.")
        assert result.verdict == "fail"

    def test_open_breaks_count_for_the_class_at_its_best(self, run):
        standing(run, "cut")
        windowed(run, "gone", "refused", [(400, 600)])
        broken(run, 300, "cut", 500)
        for _ in range(10):
            number = run.stream(group="gone", outcome="unfinished", end="stopped").stream
            run.break_(number, group="gone", back_ms=None)
        result = run.one("recovery >= 90%")
        assert splits(result)["refused"] == (0, 0, 10)
        assert result.verdict == "pass"

    def test_a_connection_that_was_made_after_the_healing_did_not_break_by_it(self, run):
        windowed(run, "gone", "refused", [(400, 600)])
        broken(run, 3, "gone", 500)
        broken(run, 2, "gone", 1_500, start_ms=700)
        broken(run, 1, "gone", 650, start_ms=590)  # noticed late, made while it lasted
        assert splits(run.one("recovery = 100%")) == {"": (2, 2, 0), "refused": (4, 4, 0)}

    def test_claims_on_other_things_than_recovery_show_the_split_and_pool(self, run):
        standing(run, "cut")
        windowed(run, "gone", "refused", [(400, 600)])
        broken(run, 300, "cut", 500)
        broken(run, 6, "gone", 500, recovered=False)
        result = run.one("reconnect p95 <= 1s")
        assert result.verdict == "pass"
        assert splits(result) == {"cut": (300, 300, 0), "refused": (0, 6, 0)}


class TestEpisodes:
    def test_a_fault_that_stands_makes_none(self, run):
        standing(run, "cut")
        broken(run, 60, "cut", 500)
        assert run.one("recovery = 100%").episodes is None

    def test_breaks_of_one_window_are_one_episode(self, run):
        windowed(run, "gone", "refused", [(400, 600), (1_400, 1_600), (2_400, 2_600)])
        broken(run, 30, "gone", 500)
        broken(run, 20, "gone", 1_500, start_ms=700)
        broken(run, 9, "gone", 2_500, start_ms=1_700)
        broken(run, 1, "gone", 2_500, start_ms=1_700, recovered=False)
        result = run.one("recovery >= 80%")
        assert (result.verdict, result.k, result.n) == ("pass", 59, 60)
        assert result.episodes == Episodes(n=3, k=2, units=60, lower=pytest.approx(0.1353, abs=1e-4))
        assert (
            "60 breaks met 3 episodes of faults and share their fate; in 2 of them all were good."
            in result.sentence
        )

    def test_a_single_restart_is_one(self, run):
        windowed(run, "all", "server-restart", [(400, 600)])
        broken(run, 60, "all", 500)
        result = run.one("recovery = 100%")
        assert (result.episodes.n, result.episodes.k, result.episodes.units) == (1, 1, 60)
        assert "60 breaks met the same one episode of faults and share its fate." in result.sentence

    def test_streams_share_the_episodes_that_they_lived_in(self, run):
        windowed(run, "slow", "latency", [(100, 300), (5_000, 5_300)])
        for _ in range(30):
            run.stream(group="slow")  # until 2 s
        for _ in range(20):
            run.stream(group="slow", start_ms=4_000)  # until 6 s
        for _ in range(10):
            run.failed(group="slow", start_ms=2_500)  # until 4.5 s: none
        run.streams(40, group="clean")
        result = run.one("success >= 80%")
        assert result.n == 100
        assert (result.episodes.n, result.episodes.k, result.episodes.units) == (2, 2, 50)

    def test_without_faults_there_is_nothing_to_say(self, run):
        run.streams(60)
        result = run.one("success >= 95%")
        assert (result.episodes, result.faults) == (None, [])


def test_a_fault_of_no_group_and_of_no_variant_is_everybodys(run):
    run.variant("a", judged=False)
    run.variant("b")
    for variant, group in (
        (None, None),
        ("b", None),
        (None, "mine"),
        ("b", "mine"),
        ("a", "mine"),
        ("b", "theirs"),
    ):
        told = {
            "fault": f"{variant} {group}",
            "kind": f"{variant} {group}",
            "group": group,
            "variant": variant,
        }
        run.fault("applied", window=1, call_sent_ns=run.at(100).ns, **told)
    for _ in range(3):
        run.stream(group="mine", variant="b")
    result = run.one("success >= 1% in variant b")
    assert (result.episodes.n, result.episodes.units) == (4, 3)


def test_twenty_thousand_breaks_and_a_thousand_windows_take_a_moment(run):
    """Of their product nothing is walked: by the clock of this process alone."""
    windowed(run, "gone", "refused", [(100 * each, 100 * each + 50) for each in range(1_000)])
    run.plan.claims = []
    windows = fault_windows(read_history(run.write()).faults)
    ordered = _Windows(windows)
    began = time.process_time()
    for at in range(20_000):
        assert next(ordered.latest_first("gone", None, run.at(at * 5).ns)).episode
    assert time.process_time() - began < 5
