"""A run that gave up: what failed stands, what was over stands, nothing passes for what did not happen."""

import msgspec
import pytest

from sseproof.chaos.phases import parse_phases, with_faults
from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.loadtests.settings import Load
from sseproof.reports.checks import fault_windows
from sseproof.reports.facts import all_facts
from sseproof.reports.figures import run_figures
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge, judge_directory
from sseproof.reports.summary import summary_text
from sseproof.rundir.files import FAULTS, RUN_NAME
from sseproof.rundir.rows import Aborted, AbortPlan, AddressPlan
from sseproof.rundir.units import parse_duration, to_raw
from tests.reports.conftest import MS, T0, at

TEXT = "Aborted at 6 s: success 31.2 % of 48 streams over 2 s (success < 50% for 2s); the faults were healed."


@pytest.fixture
def aborted(run):
    """Three phases of 4, 4 and 2 s, given up at 6 s; its fault stood from the begin on."""
    specs = parse_groups([{"kind": "cut", "share": "100%", "after_bytes": 900, "on": "every"}])
    lengths = {name: parse_duration(f"{s}s") for name, s in (("baseline", 4), ("fault", 4), ("recovery", 2))}
    run.plan.phases = with_faults(parse_phases(lengths), specs)
    run.plan.faults = msgspec.Raw(
        msgspec.json.encode(
            plan_faults(specs, run="r", seed=7, upstreams={None: "127.0.0.1:1"}, connect_ns=1, at_once=1)
        )
    )
    run.plan.variants[0].addresses = [
        AddressPlan(host="127.0.0.1", port=9, group="cut", proxy="p", cut_after_bytes=900)
    ]
    run.info.aborted = Aborted(
        when="success < 50% for 2s",
        stop="faults",
        at_ns=T0 + 6_000 * MS,
        load_ns=6_000 * MS,
        n=48,
        k=15,
        over_ns=2_000 * MS,
    )
    told = {"fault": "cut", "kind": "cut", "group": "cut"}
    run.fault("applied", call_sent_ns=T0, call_answered_ns=T0 + MS, ok=True, **told)
    for healed_ms in (6_010, 12_000):
        run.fault("healed", call_sent_ns=T0, call_answered_ns=T0 + healed_ms * MS, ok=True, **told)
    return run


def lived(run, count: int, phase: str, from_ms: float, *, good: bool = True) -> None:
    for _ in range(count):
        attempt = run.attempt(
            address="127.0.0.1:9",
            started=at(from_ms),
            ended=at(from_ms + 100),
            end="terminal" if good else "fin",
            received_bytes=5_000 if good else 900,
        )
        told = {} if good else {"outcome": "cut", "end": "fin"}
        run.stream(
            group="cut",
            phase=phase,
            dispatched=at(from_ms),
            ended=at(from_ms + 100),
            attempts=[attempt],
            **told,
        )


def test_nothing_passes_that_needed_the_rest_of_the_run(aborted):
    aborted.claims(
        "success >= 50%",
        "success >= 90% in phase baseline",
        "success >= 90% in phase fault",
        "success >= 10% in phase fault",
        "success >= 90% in phase recovery",
        "success >= 90%",
        "utf8 = 100%",
        "success >= 99.99% in phase baseline",
    )
    lived(aborted, 60, "baseline", 1_000)
    lived(aborted, 40, "fault", 5_000, good=False)
    lived(aborted, 10, "fault", 5_100)
    lived(aborted, 50, "fault", 6_500)
    lived(aborted, 50, "recovery", 8_500)
    found = {each.claim: each for each in judge(read_history(aborted.write())).verdicts}
    assert [(each.verdict, each.code) for each in found.values()] == [
        ("unknown", "interrupted"),
        ("pass", None),
        ("fail", None),
        ("unknown", "interrupted"),
        ("unknown", "interrupted"),
        ("fail", None),
        ("unknown", "interrupted"),
        ("unknown", "too-few"),
    ]
    assert (found["success >= 90% in phase fault"].n, found["success >= 90% in phase recovery"].n) == (50, 0)
    assert found["success >= 50%"].sentence.startswith("The run was aborted at 6 s, before all that")
    assert "again to its end" in found["success >= 50%"].next


def test_a_phase_in_which_it_was_aborted_was_not_over(aborted):
    aborted.claims("success >= 10% in phase fault", "success >= 10% in phase baseline")
    lived(aborted, 60, "baseline", 1_000)
    assert [each.code for each in aborted.judge().verdicts] == ["interrupted", "interrupted"]


def test_what_stood_is_looked_for_only_while_it_stood(aborted):
    """Afterwards the same proxies cut nothing: that is no fault without effect."""
    aborted.claims("success >= 90% after cut", "recovery >= 1% after cut")
    lived(aborted, 40, "fault", 5_000, good=False)
    lived(aborted, 400, "fault", 6_500)
    result = aborted.judge()
    (window,) = fault_windows(read_history(aborted.directory).faults)
    assert window.healed_ns == T0 + 6_010 * MS, "and not when the end healed once more"
    (evidence,) = result.faults
    assert (evidence.acted, evidence.count, evidence.of) == (True, 40, 40)
    assert result.verdicts[1].code == "interrupted"


@pytest.mark.parametrize(
    ("at_ms", "lasts_ms", "unended", "words"),
    [
        (5_000, 2_000, 0, "was taken away when the run gave up, and not one of 3 streams that it met was over by then"),
        (5_000, 2_000, 2, "not one of 5 streams that it met"),
        (6_500, 100, 0, "met no stream: nobody of its group ran before the run gave up and took it away."),
        (None, 0, 2, "met 2 streams without an end on record: what it did can't be told."),
        (None, 0, 0, "met no stream: nobody of its group ran before the run gave up and took it away."),
    ],
)  # fmt: skip
def test_what_outlived_a_standing_fault_did_meet_it(aborted, at_ms, lasts_ms, unended, words):
    for _ in range(3 if at_ms is not None else 0):
        aborted.stream(group="cut", dispatched=at(at_ms), ended=at(at_ms + lasts_ms))
    for _ in range(unended):
        aborted.start(group="cut", dispatched=at(5_000))
    (evidence,) = aborted.judge().faults
    assert (evidence.acted, evidence.count, evidence.of) == (None, 0, 0)
    assert words in evidence.sentence


def test_without_an_abort_nobody_ran(run, aborted):
    run.info.aborted = None
    (evidence,) = run.judge().faults
    assert evidence.sentence == "The fault of group cut met no stream: nobody of its group ran."


def test_what_was_turned_away_by_healing_is_not_the_targets_doing(aborted):
    """A rate on living connections can't be raised: proxies were made anew, and their streams paid for it."""
    aborted.claims("success >= 90%", "recovery = 100%")
    told = {"fault": "cut", "kind": "bandwidth", "group": "cut", "ok": True, "ended_connections": True}
    aborted.fault("healed", call_sent_ns=T0 + 6_000 * MS, call_answered_ns=T0 + 6_020 * MS, **told)
    lived(aborted, 60, "baseline", 1_000)
    lived(aborted, 30, "fault", 5_950, good=False)
    lived(aborted, 3, "fault", 6_010, good=False)
    for stream in range(60, 93):
        aborted.break_(stream, back_ms=None)
    history = read_history(aborted.write())
    assert (len(history.streams), len(history.unfinished), history.breaks) == (60, 33, [])
    assert any("connections of 33 streams were ended or turned away" in each for each in history.problems)
    assert [each.code for each in judge(history).verdicts] == ["interrupted", "interrupted"]


def test_others_are_judged_though_healing_ended_connections(aborted):
    aborted.claims("success >= 90%")
    told = {"fault": "cut", "kind": "bandwidth", "group": "slow", "ok": True, "ended_connections": True}
    aborted.fault("healed", call_sent_ns=T0 + 6_000 * MS, call_answered_ns=T0 + 6_020 * MS, **told)
    lived(aborted, 60, "fault", 5_950, good=False)
    assert [each.verdict for each in aborted.judge().verdicts] == ["fail"]


def test_the_answer_says_when_and_why_once(aborted):
    lived(aborted, 3, "baseline", 1_000)
    result = judge(read_history(aborted.write()))
    assert result.aborted == TEXT
    assert TEXT in result.problems, "where a view shows problems alone"
    text = " ".join(summary_text(result, "runs/x").split())
    assert text.count(TEXT) == 1
    assert text.index(TEXT) < text.index("3 streams: 3 complete")


def test_the_load_was_ended_too(aborted):
    aborted.info.aborted.stop = "load"
    lived(aborted, 3, "baseline", 1_000)
    result = judge(read_history(aborted.write("interrupted")))
    assert result.aborted.endswith("; faults were healed and the load ended.")
    assert result.how == "interrupted"


def test_what_failed_stands_whatever_the_plan_still_had(aborted):
    """10 of 30 are bad; all others of the 1,000 planned streams could have been good, but the run gave up over these."""
    aborted.plan.variants[0].load = to_raw(Load(model="closed", users=4, streams=1_000))
    aborted.info.aborted.stop = "load"
    aborted.claims("success >= 95%", "success >= 5%")
    lived(aborted, 20, "baseline", 1_000)
    lived(aborted, 10, "fault", 5_000, good=False)
    found = aborted.judge("interrupted").verdicts
    assert [(each.verdict, each.code) for each in found] == [("fail", None), ("unknown", "interrupted")]
    assert [each.unfinished for each in found] == [0, 0]


def test_a_comparison_knows_that_it_gave_up_and_what_was_asked(aborted):
    lived(aborted, 3, "baseline", 1_000)
    aborted.plan.abort = AbortPlan(when="success < 50% for 2s", stop="faults")
    history = read_history(aborted.write())
    figures = run_figures(history, all_facts(history), aborted.plan.variants[0], "runs/x")
    assert figures.aborted
    assert figures.inputs["abort"] == "success < 50% for 2s, stops the faults"
    assert figures.inputs["phases.recovery"] == "from 8000 ms"


def test_nothing_passes_where_nobody_knows_whether_it_gave_up(aborted):
    """run.json alone says that it did; a fail stands without it."""
    aborted.plan.abort = AbortPlan(when="success < 50% for 2s", stop="faults")
    aborted.claims("success >= 50%", "ttft p90 <= 1ms")
    lived(aborted, 60, "baseline", 1_000)
    directory = aborted.write()
    (directory / RUN_NAME).unlink()
    success, ttft = judge_directory(directory).verdicts
    assert (success.verdict, success.code, success.n, success.k) == ("unknown", "not-measured", 60, 60)
    assert success.sentence.startswith("Without run.json nobody knows whether the run was aborted.")
    assert ttft.verdict == "fail"


def test_a_damaged_word_about_it_is_no_crash(aborted):
    aborted.info.aborted.n = aborted.info.aborted.k = 0
    lived(aborted, 3, "baseline", 1_000)
    assert "success 0 % of 0 streams" in aborted.judge().aborted


def test_a_run_that_did_not_give_up_says_nothing(run):
    run.stream()
    assert run.judge().aborted == ""


@pytest.mark.parametrize("claim", ["success >= 90%", "success = 100%"])
def test_nobody_is_accused_of_what_our_healing_ended_where_its_rows_are_gone(aborted, claim):
    """To heal in the middle of the load proxies are made anew; that it was us stands in faults.jsonl alone."""
    aborted.claims(claim)
    aborted.fault(
        "healed",
        fault="cut",
        kind="cut",
        group="cut",
        ended_connections=True,
        call_sent_ns=T0 + 6_010 * MS,
        call_answered_ns=T0 + 6_050 * MS,
        ok=True,
    )
    lived(aborted, 60, "baseline", 1_000)
    lived(aborted, 60, "fault", 6_000, good=False)
    assert aborted.judge().verdicts[0].code == "interrupted"
    journal = aborted.directory / FAULTS.name
    whole = journal.read_bytes().splitlines(keepends=True)
    for left in (whole[:-1], []):
        journal.write_bytes(b"".join(left))
        (verdict,) = judge_directory(aborted.directory).verdicts
        assert verdict.verdict == "unknown", verdict.sentence
