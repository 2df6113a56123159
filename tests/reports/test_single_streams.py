"""Single streams in the report: what happened to each in words, which are shown, and who was connected when."""

import re
from pathlib import Path
from typing import Any

from sseproof.reports.charts.svg import Chart
from sseproof.reports.facts import all_facts
from sseproof.reports.heats import read_heats
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.render import render_report
from sseproof.reports.view.page import build_page
from sseproof.reports.view.record import Record, new_record
from sseproof.reports.view.streams import chosen, segments, told
from sseproof.rundir.files import SERIES_NAME
from sseproof.rundir.series import Interval, encoded
from sseproof.rundir.series_file import SeriesFile
from tests.reports.conftest import RUN, T0, RunBuilder, S, at

MS = 1_000_000


def record_of(run: RunBuilder) -> Record:
    history = read_history(run.write())
    return new_record(history, all_facts(history), judge(history))


def charts(record: Record) -> dict[str, Chart]:
    page = build_page(record)
    return {
        block.chart.key: block.chart
        for section in page.sections
        for block in section.blocks
        if block.kind == "figure"
    }


def words(run: RunBuilder) -> list[str]:
    record = record_of(run)
    return [told(record, facts) for facts in record.facts]


def test_a_stream_that_came_back_is_told_step_by_step(run: RunBuilder) -> None:
    row = run.stream(breaks=1)
    run.break_(row.stream, seen_ms=500.0, back_ms=850.0, attempts=2)
    assert words(run) == [
        (
            "first token after 86 ms; broken at 500 ms, reset (rst), something new 350 ms and 2 attempts later; "
            "complete, 2 s in all."
        )
    ]


def test_a_failure_is_told_with_its_end_its_fault_and_the_reason_on_record(run: RunBuilder) -> None:
    call = {"fault": "f", "kind": "stall", "group": "g"}
    run.fault("applied", call_sent_ns=T0, call_answered_ns=T0 + MS, **call)
    row = run.failed("stalled", "idle-timeout", group="g", breaks=1, detail="5 s without a byte")
    run.break_(row.stream, back_ms=None, attempts=5, gave_up="retries")
    run.failed("unreachable", "refused", first_token=None, events=0)
    assert words(run) == [
        (
            "first token after 86 ms; broken at 500 ms, reset (rst), given up after 5 attempts; stalled until one of our "
            "time-outs, last end: silence for longer than the idle time-out, 2 s in all. On its path: stall in g. On record: 5 s "
            "without a byte."
        ),
        "no token came; unreachable: no connection came about, last end: connection refused, 2 s in all.",
    ]


def test_a_late_start_is_a_step_of_its_own(run: RunBuilder) -> None:
    row = run.stream(intended=at(0), start_ms=300.0)
    step = segments(row)[0]
    assert (step.step, step.since_ms, step.until_ms) == ("late", 0.0, 300.0)


def test_shown_are_failures_of_every_kind_the_slowest_the_longest_breaks_and_a_seeded_sample(
    run: RunBuilder,
) -> None:
    for number in range(300):
        run.stream(start_ms=number * 10.0, first_token=at(number * 10.0 + 87 + number % 7))
    slow = run.stream(first_token=at(1_900))
    long_ = run.stream(breaks=1)
    run.break_(long_.stream, seen_ms=500, back_ms=1_900)
    for _ in range(200):
        run.failed("cut", "rst")
    rare = run.failed("truncated", "eof")
    record = record_of(run)
    shown = chosen(record)
    assert len({facts.record.stream for facts, _ in shown}) == len(shown) <= 40
    by_number = {facts.record.stream: why for facts, why in shown}
    assert by_number[slow.stream] == "of the slowest to their first token"
    assert by_number[long_.stream] == "of the longest breaks that were recovered"
    assert by_number[rare.stream] == "that did not end well", "one of each kind"
    drawn = [facts.record.stream for facts, why in shown if "seed" in why]
    assert len(drawn) == 8
    assert [facts.record.stream for facts, why in chosen(record_of(run)) if "seed" in why] == drawn
    run.plan.seed += 1
    assert [facts.record.stream for facts, why in chosen(record_of(run)) if "seed" in why] != drawn
    chart = charts(record)["lifelines"]
    assert chart.sentence.startswith(f"Showing {len(shown)} of 503 streams: ")
    assert chart.table is not None
    assert all(row[3].endswith(".") for row in chart.table.rows), "each in words"


def attempt(number: int, since_ms: float, until_ms: float, end: str) -> Any:
    return RunBuilder.attempt(
        number=number,
        started=at(since_ms - 1),
        sent=at(since_ms - 1),
        headers=at(since_ms),
        first_event=at(since_ms + 1),
        last_event=at(until_ms),
        ended=at(until_ms),
        end=end,
        status=200,
        events=5,
    )


def test_a_subscription_is_connected_while_a_connection_of_it_is_open(run: RunBuilder) -> None:
    for _ in range(4):
        run.stream(
            kind="subscription",
            outcome="held",
            end="stopped",
            ended=at(10_000),
            attempts=[attempt(1, 0, 4_000, "fin"), attempt(2, 5_500, 10_000, "stopped")],
        )
    run.stream(kind="subscription", outcome="held", end="stopped", ended=at(10_000),
               attempts=[attempt(1, 0, 10_000, "stopped")])  # fmt: skip
    chart = charts(record_of(run))["connected"]
    assert chart.sentence == (
        "At 4 s 1 of 5 subscriptions were connected (20 %), and 1.5 s passed until 99 % were again."
    )


def test_answers_have_no_share_of_subscriptions(run: RunBuilder) -> None:
    run.stream(attempts=[attempt(1, 0, 2_000, "terminal")])
    assert "connected" not in charts(record_of(run))


def series(
    directory: Path, *intervals: tuple[float, dict[int, int]], tag: str = "gap", run: str = RUN
) -> None:
    file = SeriesFile(directory, run, T0)
    for since_s, counts in intervals:
        start = T0 + round(since_s * S)
        file.append([Interval(tag, start, start + S, encoded(counts))])
    file.close()


def test_the_heat_map_holds_every_gap_of_the_series_in_its_second(run: RunBuilder) -> None:
    run.stream(ended=at(9_000))
    directory = run.write()
    series(directory, (0.0, {40 << 20: 7}), (0.0, {40 << 20: 3}), (4.0, {900 << 20: 1}))
    series(directory, (1.0, {40 << 20: 99}), tag="gap-warmup")
    (heat,), problem = read_heats(directory, read_history(directory))
    assert problem == ""
    assert sorted(heat.cells.values()) == [1, 10]
    assert sorted(second for second, _ in heat.cells) == [0, 4]
    text = re.sub(r"<[^>]+>|\s+", " ", render_report(directory).decode().replace("<wbr>", ""))
    assert "11 in all; the longest, between" in text


def test_without_series_the_report_says_so(run: RunBuilder) -> None:
    run.stream()
    assert "Gaps over time are not shown: the run was recorded without series." in (
        render_report(run.write()).decode().replace("<wbr>", "")
    )


def test_the_series_of_another_run_are_not_shown(run: RunBuilder) -> None:
    run.stream()
    directory = run.write()
    series(directory, (0.0, {40 << 20: 7}), run="20270101T000000.000000Z-8")
    heats, problem = read_heats(directory, read_history(directory))
    assert heats == []
    assert problem.startswith("Gaps over time are not shown: ")
    assert "was recorded by the run 20270101T000000.000000Z-8" in problem
    assert (directory / SERIES_NAME).exists()
