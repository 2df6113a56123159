"""What the next run takes: streams, time and requests, for every code that asks for one."""

from typing import get_args

import msgspec
import pytest

from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.loadtests.settings import Load, Stage
from sseproof.reports.advice import Effort, effort_of, further, length_text
from sseproof.reports.claims import parse_claim
from sseproof.reports.history import read_history
from sseproof.reports.looks import planned_looks
from sseproof.reports.verdicts import Code
from sseproof.rundir.units import Duration, to_raw
from tests.reports.conftest import RUN

S = 1_000_000_000


def loaded(run, **load):
    run.plan.variants[0].load = to_raw(Load(**load))


def effort(run, how="finished", factor=1.0):
    return effort_of(read_history(run.write(how)), None, factor)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (14.9, "15 s"), (119.0, "119 s"), (121.0, "3 min"), (7_200.0, "2 h"), (9_000.0, "2.5 h")],
)
def test_lengths_as_people_plan_them(seconds, text):
    assert length_text(seconds) == text


def test_a_run_by_duration_takes_it_again(run):
    run.streams(40, attempts_total=2)
    run.start()
    assert effort(run) == Effort(streams=41, seconds=10.0, requests=81)
    assert effort(run, factor=3.0) == Effort(streams=123, seconds=30.0, requests=243)


def test_a_run_by_number_takes_as_long_as_it_took(run):
    loaded(run, users=5, streams=40)
    for number in range(40):
        run.stream(start_ms=number * 100.0)
    assert effort(run) == Effort(streams=40, seconds=5.9, requests=40)


def test_an_interrupted_run_is_taken_for_whole(run, build):
    """Half of the streams, or of the time: the whole run takes twice as much at that pace."""
    loaded(run, users=5, streams=80)
    for number in range(40):
        run.stream(start_ms=number * 100.0)
    assert effort(run, how="interrupted") == Effort(streams=80, seconds=11.8, requests=80)
    other = build()
    for number in range(41):
        other.stream(start_ms=number * 125.0)  # 41 starts in 5 s of 10
    assert effort(other, how="interrupted") == Effort(streams=82, seconds=10.0, requests=82)


@pytest.mark.parametrize(("kind", "streams"), [("answer", 240), ("subscription", 6)])
def test_an_interrupt_within_the_first_streams_shows_no_pace_of_thousands(run, kind, streams):
    """Six users began within 1 ms of each other and were stopped after 1.5 s of 60; subscriptions would have stayed six."""
    loaded(run, users=6, duration=Duration(60 * S))
    for number in range(6):
        run.stream(start_ms=number * 0.2, kind=kind, outcome="unfinished", end="stopped", ended=run.at(1_500))
    assert effort(run, how="interrupted") == Effort(streams=streams, seconds=60.0, requests=streams)


def test_a_run_that_a_look_ended_is_as_long_as_it_admitted_streams(run):
    """Its duration is the most that it could have been given: 41 starts in 2 s of 60."""
    run.plan.looks = planned_looks(20)
    loaded(run, users=5, duration=Duration(60 * S))
    for number in range(41):
        run.stream(start_ms=number * 50.0)
    assert effort(run) == Effort(streams=41, seconds=2.0, requests=41)
    assert "run with --streams 99 (about 99 streams, 5 s and 99 requests)" in run.one("ttft p95 <= 1s").next
    loaded(run, users=5, duration=Duration(2 * S))
    assert "run with --max-duration 5s (about" in run.one("ttft p95 <= 1s").next
    run.plan.looks = []
    loaded(run, users=5, duration=Duration(60 * S))
    assert effort(run) == Effort(streams=41, seconds=60.0, requests=41)


def test_what_an_interrupted_run_lacks_may_be_in_its_plan(run):
    """21 of its 41 starts in 5 of 10 s: 59 need more than the planned 42, and neither more than a minute nor than 300."""
    for number in range(21):
        run.stream(start_ms=number * 250.0)
    assert run.one("ttft p95 <= 1s", how="interrupted").next == (
        "38 more streams like these would decide: run with --duration 15s (about 59 streams, 15 s and 59 requests)."
    )
    loaded(run, users=5, duration=Duration(60 * S))
    result = run.one("", how="interrupted")
    assert result.next.startswith(
        "38 more streams like these would decide: run it to its end (about 252 streams"
    )
    assert result.next_run.streams == 252
    loaded(run, users=5, streams=300)
    result = run.one("", how="interrupted")
    assert result.next.startswith("Run again to its end: ")
    assert result.next_run.streams == 300


def test_an_open_loop_lasts_as_long_as_its_schedule(run):
    loaded(run, model="open", rate=4.0, duration=Duration(30 * S))
    run.streams(3, intended=run.at(0))
    assert effort(run).seconds == 30.0


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["sseproof", "run", "--streams", "40"], "--streams 59"),  # which --set would not outrank
        (["sseproof", "demo", "--set", "load.streams=40"], "--set load.streams=59"),  # has no --streams
        (["sseproof", "browsers", "--answers", "40"], "--answers 59"),
    ],
)
def test_a_run_by_number_takes_more_by_an_option_of_its_own_command(run, command, option):
    run.info.command = command
    loaded(run, users=5, streams=40)
    run.streams(40)
    assert f"run with {option} (about 59 streams" in run.one("ttft p95 <= 1s").next


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (
            "success >= 90%",
            "9 more streams like these would decide: run with --users 29 (about 29 streams, 10 s",
        ),
        (
            "gap p99 <= 500ms",
            "259 more gaps like these would decide: run with --duration 75s (about 150 streams, 75 s",
        ),
    ],
)
def test_subscriptions_take_more_users_and_their_gaps_a_longer_load(run, claim, words):
    loaded(run, users=20, duration=Duration(10 * S))
    run.claims(claim)
    held = {"kind": "subscription", "outcome": "held", "end": "stopped", "ended": run.at(10_000)}
    run.streams(20, **held, gaps=run.gaps(5, 5))
    assert words in run.one(claim).next


@pytest.mark.parametrize(
    "load",
    [
        {"model": "open", "replay": "starts.txt", "streams": 40},
        {"model": "closed", "stages": [Stage(duration=Duration(9 * S), users=5)]},
    ],
)
def test_stages_and_recorded_starts_grow_only_in_the_scenario(run, load):
    loaded(run, **load)
    run.plan.variants[0].replay_ns = list(range(40))
    run.streams(40)
    assert "19 more streams like these would decide (about 59 streams" in run.one("ttft p95 <= 1s").next


def test_nothing_is_guessed_of_a_run_without_streams(run):
    run.start()
    assert effort(run) is None


def test_breaks_are_made_by_a_run_that_is_as_much_longer(run):
    for _ in range(40):
        number = run.stream(group="cut", breaks=1).stream
        run.break_(number, group="cut")
    run.streams(60)
    result = run.one("recovery >= 95%")
    assert result.next == (
        "19 more breaks like these would decide: run with --duration 15s (about 148 streams, 15 s and 148 requests)."
    )


FLAPPING = {"kind": "flapping", "after": "1s", "down": "200ms", "up": "1s", "times": 3}
CUT = {"kind": "cut", "after_bytes": 500}


@pytest.mark.parametrize(
    ("tables", "by_itself", "claim", "oftener"),
    [
        ([FLAPPING], False, "recovery >= 95%", True),
        ([FLAPPING], False, "recovery >= 95% in group flapping", True),
        ([FLAPPING], True, "recovery >= 95%", False),  # the service breaks some, too
        ([FLAPPING, CUT], False, "recovery >= 95%", False),
        ([{**CUT, "when": {"after": "1s", "duration": "2s"}}, FLAPPING], False, "recovery >= 95%", True),
    ],
    ids=["breaks", "of-a-group", "some-by-the-service", "and-a-cut-that-stands", "a-cut-at-times"],
)
def test_a_longer_load_has_no_more_of_a_fault_with_planned_times(run, tables, by_itself, claim, oftener):
    specs = parse_groups([{"share": "30%", **table} for table in tables])
    plan = plan_faults(specs, run=RUN, seed=7, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=4)
    run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
    for _ in range(40):
        run.break_(run.stream(group="flapping", breaks=1).stream, group="flapping")
    if by_itself:
        run.break_(run.stream(group="clean", breaks=1).stream, group="clean")
    run.streams(60)
    history = read_history(run.write())
    found = further(parse_claim(claim), history, 40, 40, None)
    assert ("let the fault come 1.5 times as often (times in its [[fault]])" in found.text) is oftener, (
        found.text
    )
    assert ("run with --duration 15s" in found.text) is not oftener
    assert found.factor == pytest.approx(59 / 40)


def test_where_no_number_decides_no_run_is_proposed(run):
    run.streams(98)
    run.failed()
    run.failed()
    result = run.one("success >= 98%")
    assert "margin" in result.next
    assert result.next_run is None


def test_a_pass_and_a_fail_ask_for_no_run(run):
    run.streams(149)
    run.claims("success >= 98%", "ttft p95 <= 1ms")
    passed, failed = run.judge().verdicts
    assert (passed.next, passed.next_run, failed.next_run) == ("", None, None)
    assert failed.next


def test_a_secret_or_an_endless_command_is_not_repeated(run):
    run.streams(60)
    run.start()
    run.info.command = ["sseproof", "run", "x" * 301]
    assert run.one("success = 100%", how="interrupted").next.startswith(
        "Run again to its end (about 305 streams"
    )
    run.info.command = ["sseproof", "run", "a b", "\x1b[31m$(reboot)"]
    (verdict,) = run.judge("interrupted").verdicts
    assert "\x1b" not in verdict.next
    assert "'a b'" in verdict.next
    assert "$(reboot)'" in verdict.next


WORDS = {
    "too-few": "--duration",
    "rig-late": "--workers 2",
    "fault-not-seen": "[[fault]]",
    "injector-failed": "faults.jsonl",
    "no-truth": "--set target.sequence=id",
    "not-measured": "--set target.sent_at=json:FIELD",
    "interrupted": "sseproof run --seed 7",
}
"""A part of what each code proposes."""


class TestEveryUnknownCode:
    """Each names what would settle it, and what that run takes."""

    def plant_too_few(self, run):
        run.streams(100)

    def plant_rig_late(self, run):
        run.streams(100, first_token=run.at(1_000, 50))
        return "ttft p95 <= 1s"

    def plant_fault_not_seen(self, run):
        run.streams(100)
        return "success >= 98% after cut"

    def plant_injector_failed(self, run):
        run.streams(100)
        run.fault("failed", ok=False, detail="no answer")
        return "success >= 98% after cut"

    def plant_no_truth(self, run):
        run.streams(100, lost=None)
        return "lost = 0"

    def plant_not_measured(self, run):
        run.streams(100)
        return "age p99 <= 1s"

    def plant_interrupted(self, run):
        run.streams(382)
        for _ in range(4):
            run.start()

    def test_none_is_forgotten(self):
        assert {*WORDS, "checker-failed"} == set(get_args(Code)), (
            "a check of ours that failed needs no other run"
        )

    @pytest.mark.parametrize(("code", "words"), WORDS.items())
    def test_next(self, run, code, words):
        claim = getattr(self, f"plant_{code.replace('-', '_')}")(run) or "success >= 98%"
        result = run.one(claim, how="interrupted" if code == "interrupted" else "finished")
        assert (result.verdict, result.code) == ("unknown", code)
        assert words in result.next
        assert result.next_run is not None
        assert result.next_run.streams >= 100
        assert result.next.endswith(f"({result.next_run.to_text()}).")
