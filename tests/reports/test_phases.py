"""Which phase a stream counts in: by when faults really acted, never by the plan alone."""

import re

import msgspec
import pytest

from sseproof.chaos.phases import parse_phases, with_faults
from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.phases import has_quantile, ttft_quantile
from sseproof.reports.render import render_report
from sseproof.reports.summary import summary_text
from sseproof.rundir.rows import Aborted
from sseproof.rundir.units import parse_duration
from tests.reports.conftest import MS, T0, at

GROUP = "refused"


@pytest.fixture
def three(run):
    """Phases of 4, 4 and 2 s; the fault acts from 4.2 s (planned: 4) to 8.3 s (planned: 8)."""
    planned(run)
    acted(run, 4_200, 8_300)
    return run


def planned(run, *tables, **lengths):
    tables = tables or ({"kind": "refused", "share": "100%", "after": "4s", "duration": "4s"},)
    lengths = lengths or {"baseline": "4s", "fault": "4s", "recovery": "2s"}
    specs = parse_groups(list(tables))
    written = parse_phases({name: parse_duration(length) for name, length in lengths.items()})
    run.plan.phases = with_faults(written, specs)
    faults = plan_faults(specs, run="r", seed=7, upstreams={None: "127.0.0.1:1"}, connect_ns=1, at_once=1)
    run.plan.faults = msgspec.Raw(msgspec.json.encode(faults))


def acted(run, from_ms: int, to_ms: int, *, window: int = 1, group: str = GROUP) -> None:
    told = {"fault": group, "kind": "refused", "group": group, "window": window, "ok": True}
    run.fault("applied", call_sent_ns=T0 + from_ms * MS, call_answered_ns=T0 + (from_ms + 20) * MS, **told)
    run.fault("healed", call_sent_ns=T0 + (to_ms - 20) * MS, call_answered_ns=T0 + to_ms * MS, **told)


def lived(run, from_ms: float, to_ms: float, phase: str, **fields):
    """A stream with its planned phase, as a worker writes it; when it broke, broken by the fault."""
    told = {"group": GROUP, "phase": phase, "dispatched": at(from_ms), "ended": at(to_ms), **fields}
    return run.stream(**told)


def counted(run) -> list[str | None]:
    """The phase that each stream counts in, in the order of the rows."""
    return [record.phase for record in read_history(run.write()).streams]


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "written", "counts"),
    [
        (0, 3_900, "baseline", "baseline"),
        (3_900, 4_199, "baseline", "baseline"),  # planned instants have passed, and no call was made
        (3_900, 4_200, "baseline", "fault"),  # still open when the call was sent
        (100, 9_900, "baseline", "fault"),  # lived through all of it
        (4_050, 4_150, "fault", "baseline"),  # planned for the fault, which was late
        (4_050, 4_250, "fault", "fault"),
        (5_000, 9_900, "fault", "fault"),
        (8_250, 9_900, "recovery", "fault"),  # the link was not healed yet
        (8_300, 9_900, "recovery", "fault"),
        (8_301, 9_900, "recovery", "recovery"),
    ],
)
def test_real_calls_and_not_planned_times_are_the_borders(three, from_ms, to_ms, written, counts):
    lived(three, from_ms, to_ms, written)
    assert counted(three) == [counts]


def test_where_a_bracket_leaves_it_open_the_stream_met_the_fault(three):
    lived(three, 3_000, 4_190, "baseline", ended=at(4_190, 20))
    lived(three, 8_310, 9_000, "recovery", dispatched=at(8_310, 20))
    lived(three, 8_310, 9_000, "recovery", dispatched=at(8_310, 5))
    assert counted(three) == ["fault", "fault", "recovery"]


def test_a_planned_start_says_it_in_an_open_loop(three):
    """Late by our own doing: the schedule had it begin when the link was down."""
    lived(three, 8_400, 9_000, "fault", intended=at(7_990))
    lived(three, 8_400, 9_000, "recovery", intended=at(8_290))
    assert counted(three) == ["fault", "fault"]


def test_the_clock_of_a_worker_elsewhere_is_known_only_so_well(three):
    three.generator(worker=3, at_ns=T0, master_offset_ns=0, master_offset_error_ns=50 * MS)
    for worker in (0, 3):
        lived(three, 3_900, 4_160, "baseline", worker=worker)
    assert counted(three) == ["baseline", "fault"]


def test_a_phase_that_begins_before_its_first_fault_keeps_its_own_begin(run):
    planned(
        run,
        {"kind": "refused", "share": "100%", "after": "6s", "duration": "1s"},
        baseline="4s",
        chaos="4s",
        recovery="2s",
    )
    acted(run, 6_100, 7_100)
    lived(run, 3_900, 4_500, "baseline")  # over before anything was broken
    lived(run, 4_500, 4_900, "chaos")
    lived(run, 3_900, 6_200, "baseline")
    lived(run, 8_001, 8_100, "recovery")  # healed long before the phase began
    assert counted(run) == ["baseline", "chaos", "chaos", "recovery"]


def test_several_windows_last_from_the_first_call_to_the_last_answer(run):
    table = {"kind": "refused", "share": "100%", "after": "4s", "duration": "1s", "every": "3s", "times": 2}
    planned(run, table)
    acted(run, 4_100, 5_100)
    acted(run, 7_100, 8_150, window=2)
    lived(run, 5_500, 6_500, "fault")  # between both
    lived(run, 8_120, 9_000, "recovery")
    lived(run, 8_160, 9_000, "recovery")
    assert counted(run) == ["fault", "fault", "recovery"]


def test_without_a_call_on_record_the_plan_is_all_there_is(run):
    planned(run)
    lived(run, 3_900, 4_500, "baseline")
    lived(run, 4_050, 4_150, "fault")
    lived(run, 8_010, 9_000, "recovery")
    assert counted(run) == ["baseline", "fault", "recovery"]


def test_breaks_count_where_their_streams_do(three):
    lived(three, 3_900, 6_000, "baseline", breaks=1)
    lived(three, 8_400, 9_000, "recovery", breaks=1)
    three.break_(0, seen_ms=4_210, phase="baseline", group=GROUP)
    three.break_(1, seen_ms=8_500, phase="recovery", group=GROUP)
    assert [row.phase for row in read_history(three.write()).breaks] == ["fault", "recovery"]


def test_a_start_without_an_end_counts_in_each_phase_it_can_have_been_in(three):
    three.start(phase="baseline", dispatched=at(1_000))
    three.start(phase="fault", dispatched=at(5_000))
    three.start(phase="recovery", dispatched=at(8_200))
    three.start(phase="recovery", dispatched=at(9_000))
    three.start(phase="fault", dropped=True)
    three.start()  # of a worker that did not say so
    history = read_history(three.write())
    found = [history.phases.may_be(start) for start in (*history.unfinished, *history.dropped)]
    assert found == [
        {"baseline", "fault"},
        {"fault"},
        {"fault"},
        {"recovery"},
        {"baseline", "fault", "recovery"},
        {"fault"},
    ]


def test_a_stream_that_may_be_anywhere_is_open_in_each_claim(three):
    three.start(phase="baseline", dispatched=at(1_000))
    three.claims(*(f"success >= 90% in phase {name}" for name in ("baseline", "fault", "recovery")))
    for _ in range(3):
        lived(three, 100, 200, "baseline")
    found = three.judge().verdicts
    assert [(each.n, each.unfinished) for each in found] == [(3, 1), (0, 1), (0, 0)]


def broke(run, count: int, phase: str, from_ms: int) -> None:
    """Streams that the refused link turned away."""
    attempt = run.attempt(address="127.0.0.1:9", started=at(from_ms), ended=at(from_ms + 1), end="refused")
    for _ in range(count):
        lived(
            run,
            from_ms,
            from_ms + 1,
            phase,
            outcome="unreachable",
            end="refused",
            attempts=[attempt],
            first_token=None,
            events=0,
        )


def test_each_phase_has_its_verdict_and_its_line(three):
    three.claims(*(f"success >= 90% in phase {name}" for name in ("baseline", "fault", "recovery")))
    for _ in range(40):
        lived(three, 1_000, 2_000, "baseline", sent=at(1_000), first_token=at(1_080))
        lived(three, 9_000, 9_500, "recovery", sent=at(9_000), first_token=at(9_050))
    broke(three, 40, "fault", 5_000)
    history = read_history(three.write())
    result = judge(history)
    assert [each.verdict for each in result.verdicts] == ["pass", "fail", "pass"]
    (variant,) = result.variants
    assert [(p.name, p.k, p.n, p.faults, p.unfinished) for p in variant.phases] == [
        ("baseline", 40, 40, False, 0),
        ("fault", 0, 40, True, 0),
        ("recovery", 40, 40, False, 0),
    ]
    assert [(p.ttft_p50_ns, p.ttft_p95_ns) for p in variant.phases] == [
        (80 * MS, 80 * MS),
        (None, None),
        (50 * MS, 50 * MS),
    ]
    lines = summary_text(result, "runs/x").splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("streams by phase"))) :][:4]
    assert [line.split() for line in table[1:]] == [
        ["baseline", "40/40", "100", "%", "80", "ms", "80", "ms"],
        ["fault", "(faults)", "0/40", "0", "%", "never", "never"],
        ["recovery", "40/40", "100", "%", "50", "ms", "50", "ms"],
    ]
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize("phase", ["fault", "recovery"])
def test_a_fault_that_did_not_act_leaves_nothing_to_bear_and_nothing_to_recover_from(three, phase):
    three.claims(f"success >= 90% in phase {phase}", "success >= 90% in phase baseline")
    for _ in range(40):
        lived(three, 1_000, 2_000, "baseline")
        lived(three, 5_000, 6_000, "fault")
        lived(three, 9_000, 9_500, "recovery")
    doubted, baseline = three.judge().verdicts
    assert (doubted.verdict, doubted.code) == ("unknown", "fault-not-seen")
    assert doubted.n == 40
    assert baseline.verdict == "pass"


def test_what_a_fault_did_in_one_phase_proves_nothing_about_the_next(run):
    """It acts twice, and the second time nobody was turned away."""
    table = {"kind": "refused", "share": "100%", "after": "2s", "duration": "2s", "every": "4s", "times": 2}
    planned(run, table, before="2s", first="2s", between="2s", second="2s", after="2s")
    acted(run, 2_000, 4_000)
    acted(run, 6_000, 8_000, window=2)
    run.claims(
        "success >= 40% in phase first",
        "success >= 40% in phase second",
        "success >= 40% in group refused in phase second",
        "success >= 40% in phase after",
    )
    broke(run, 10, "first", 3_000)
    for _ in range(40):
        lived(run, 3_500, 3_600, "first")
        lived(run, 7_000, 7_500, "second")
        lived(run, 9_000, 9_500, "after")
    found = run.judge().verdicts
    assert [(each.verdict, each.code) for each in found] == [
        ("pass", None),
        ("unknown", "fault-not-seen"),
        ("unknown", "fault-not-seen"),
        ("pass", None),
    ]
    assert "refused 0 of the 0 connections tried" in found[1].sentence


def test_what_fails_in_a_phase_fails_whether_its_fault_acted_or_not(three):
    three.claims("success >= 90% in phase recovery")
    for _ in range(40):
        lived(three, 9_000, 9_500, "recovery", outcome="cut", end="rst")
    assert three.judge().verdicts[0].verdict == "fail"


def test_more_streams_of_a_phase_come_with_a_longer_phase(three):
    three.claims("success >= 90% in phase baseline")
    for _ in range(10):
        lived(three, 1_000, 2_000, "baseline")
    (verdict,) = three.judge().verdicts
    assert verdict.code == "too-few"
    assert "19 more streams like these would decide: make phase baseline 2.9 times as long" in verdict.next
    assert "--duration" not in verdict.next


def test_what_fails_before_any_fault_need_not_be_its_doing(three):
    claims = [f"success >= 90% in phase {name}" for name in ("baseline", "fault", "recovery")]
    three.claims(*claims, "success >= 99% in phase recovery")
    for _ in range(30):
        lived(three, 1_000, 2_000, "baseline", outcome="cut", end="rst")
        lived(three, 9_000, 9_500, "recovery", outcome="cut", end="rst")
    for _ in range(10):
        lived(three, 1_000, 2_000, "baseline")
    broke(three, 40, "fault", 5_000)
    baseline, fault, recovery, _ = (each.sentence for each in three.judge().verdicts)
    words = "So it does in phase baseline, before any fault (10 of 40 good): the fault need not be why."
    assert words in fault
    assert words in recovery
    assert "So it does" not in baseline


def test_what_failed_under_a_fault_alone_is_not_excused(three):
    three.claims("success >= 90% in phase fault")
    for _ in range(40):
        lived(three, 1_000, 2_000, "baseline")
    broke(three, 40, "fault", 5_000)
    (verdict,) = three.judge().verdicts
    assert verdict.verdict == "fail"
    assert "So it does" not in verdict.sentence


@pytest.mark.parametrize(("how", "code"), [("interrupted", "interrupted"), ("finished", "not-measured")])
def test_a_phase_that_never_came_says_why(three, how, code):
    three.claims("success >= 90% in phase recovery")
    lived(three, 1_000, 2_000, "baseline")
    (verdict,) = three.judge(how).verdicts
    assert (verdict.verdict, verdict.code) == ("unknown", code)


def test_few_values_have_no_high_quantile_and_what_never_came_is_beyond_all():
    assert ttft_quantile([None, 5, 3], 0.5) == 5
    assert ttft_quantile([1] * 19, 0.95) is None
    assert not has_quantile(19, 0.95)
    assert ttft_quantile([1] * 18 + [None, None], 0.95) is None
    assert ttft_quantile([], 0.5) is None


def test_a_run_without_phases_has_none(run):
    run.stream()
    result = run.judge()
    assert result.variants[0].phases == []
    assert "by phase" not in summary_text(result, "x")


def test_the_report_shows_each_variants_phases_and_no_markup_of_theirs(run):
    hostile = "<script>alert(1)</script>\u202e"
    planned(run)
    run.plan.phases[0].name = hostile
    run.plan.variants = []
    run.variant("before")
    run.variant("after")
    acted(run, 4_200, 8_300)
    for number in range(30):
        for variant, outcome in (("before", "cut"), ("after", "complete")):
            lived(run, 9_000, 9_500, "recovery", variant=variant, outcome=outcome, stream=number)
    run.info.aborted = Aborted(
        when=hostile, stop="load", at_ns=T0 + 11_000 * MS, load_ns=11_000 * MS, n=3, k=1, over_ns=2_000 * MS
    )
    page = render_report(run.write()).decode()
    assert "Streams that ended well, by phase" in page
    assert "<script>alert(1)" not in page
    assert "\u202e" not in page
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "before recovery 8 s the end of load 30 0 of 30 (0 %) 0" in text
    assert "after recovery 8 s the end of load 30 30 of 30 (100 %) 0" in text
    assert "Aborted at 11 s: success 33.3" in text
