"""The generator's indicators (measurement.md 2.4): each with a planted second out of its limit, and one within."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from sseproof.loadtests.settings import Load
from sseproof.reports.judge import RigRow
from sseproof.reports.render import render_report
from sseproof.reports.summary import summary_text
from sseproof.rundir.rows import Instant, PlannedClaim
from sseproof.rundir.units import Duration, to_raw
from tests.reports.conftest import MS, T0, RunBuilder, S

Plant = Callable[[RunBuilder], None]


def seconds(bad: int = 1, **fields: Any) -> Plant:
    """Twenty quiet seconds of two workers, of which the 7th of worker 1 (and those after it) is as told."""

    def plant(run: RunBuilder) -> None:
        quiet: dict[str, Any] = {
            "reads": 100, "read_lag_p99_ns": MS, "dispatch_lag_p99_ns": MS, "dispatch_lag_max_ns": 2 * MS,
            "loop_lag_max_ns": MS, "cpu_share": 0.1, "run_queue_share": 0.01, "steal_share": 0.0,
            "pressure_share": 0.02,
        }  # fmt: skip
        for number in range(1, 21):
            for worker in (0, 1):
                told = {**quiet, **fields} if worker and 7 <= number < 7 + bad else quiet
                run.generator(at_ns=T0 + number * S, worker=worker, **told)

    return plant


def first_events(uncertain: int) -> Plant:
    """100 streams whose first events are 0.9 ms uncertain, but so many of worker 1, which are so by 1.1 ms."""

    def plant(run: RunBuilder) -> None:
        seconds()(run)
        for number in range(100):
            late = number < uncertain
            first = Instant(T0 + (7 if late else 3) * S, 1_100_000 if late else 900_000)
            run.stream(first_event=first, worker=int(late))

    return plant


def open_loop(dropped: int, *, told: bool = True) -> Plant:
    """100 starts of an open loop, so many not made; `told`: the generator's 7th second says so."""

    def plant(run: RunBuilder) -> None:
        seconds(dropped=dropped if told else 0)(run)
        run.plan.variants[0].load = to_raw(Load(model="open", rate=10, duration=Duration(10 * S)))
        run.streams(100 - dropped)
        for _ in range(dropped):
            run.start(dropped=True)

    return plant


OUT: list[tuple[str, Plant, float, str]] = [
    ("read lag p99, worst second", seconds(read_lag_p99_ns=26 * MS), 26.0, "more workers"),
    ("dispatch lag p99, worst second", seconds(dispatch_lag_p99_ns=11 * MS), 11.0, "more workers"),
    ("dispatch lag, longest", seconds(dispatch_lag_max_ns=51 * MS), 51.0, "more workers"),
    ("loop lag, longest", seconds(loop_lag_max_ns=101 * MS), 101.0, "users' own code"),
    ("first events over 1 ms uncertain", first_events(2), 0.02, "more workers"),
    ("reads without a kernel stamp", seconds(unstamped_reads=50), 50 / 4_000, "setup --check"),
    ("CPU of a worker, p95 of seconds", seconds(3, cpu_share=0.95), 0.95, "more workers"),
    ("waiting for a core, p95 of seconds", seconds(3, run_queue_share=0.3), 0.3, "cores of its own"),
    ("steal, p95 of seconds", seconds(3, steal_share=0.03), 0.03, "cores are its own"),
    ("clock step, largest", seconds(clock_step_ns=-2 * MS), 2.0, "slewed"),
    ("streams never dispatched", open_loop(1), 1.0, "load.max_open"),
    ("series values out of range", seconds(out_of_range=3), 3.0, "same source"),
    ("rig errors", seconds(rig_error="too much"), 1.0, "among the problems"),
]
"""Who is planted how, told as what, with which advice; each has the 7th second of worker 1 to blame."""


def table(run: RunBuilder) -> dict[str, RigRow]:
    return {row.indicator: row for row in run.judge().rig}


@pytest.mark.parametrize(("indicator", "plant", "value", "advice"), OUT, ids=[each[0] for each in OUT])
def test_an_indicator_out_of_its_limit_is_named_with_when_and_what_to_do(
    run: RunBuilder, indicator: str, plant: Plant, value: float, advice: str
) -> None:
    plant(run)
    rows = table(run)
    row = rows[indicator]
    assert (row.value, row.within, row.at_ns, row.worker) == (pytest.approx(value), False, T0 + 7 * S, 1)
    assert advice in row.next
    assert [name for name, each in rows.items() if each.within is False] == [indicator]
    told = " ".join(summary_text(run.judge(), "runs/x").split())
    assert re.search(rf"- {re.escape(indicator)}: .*Worst 7 s after the start in worker 1\. .*{advice}", told)


def test_every_indicator_with_a_limit_is_planted_above(run: RunBuilder) -> None:
    open_loop(0)(run)
    rows = table(run)
    limited = {name for name, row in rows.items() if row.limit is not None}
    assert limited == {name for name, *_ in OUT} | {"planned starts not made"}
    assert {name for name, row in rows.items() if row.limit is None} == {
        "reads with several events",
        "pressure on the cores, p95 of seconds",
    }
    assert all(row.within is not False for row in rows.values())
    assert all((row.at_ns, row.worker, row.next) == (None, None, "") for row in rows.values())
    assert "generator" not in summary_text(run.judge(), "runs/x")


@pytest.mark.parametrize(
    "plant",
    [
        seconds(read_lag_p99_ns=25 * MS, dispatch_lag_p99_ns=10 * MS, dispatch_lag_max_ns=50 * MS),
        seconds(loop_lag_max_ns=100 * MS, clock_step_ns=MS, unstamped_reads=40),
        seconds(3, cpu_share=0.8, run_queue_share=0.05, steal_share=0.02),
        seconds(2, cpu_share=1.0, run_queue_share=1.0, steal_share=1.0),  # two seconds in forty are no p95
        first_events(1),
    ],
)
def test_an_indicator_at_its_limit_is_within(run: RunBuilder, plant: Plant) -> None:
    run.streams(5)
    plant(run)
    assert [name for name, row in table(run).items() if row.within is False] == []


def test_starts_that_nobody_made_have_no_second_to_blame(run: RunBuilder) -> None:
    open_loop(2, told=False)(run)
    rows = table(run)
    assert (rows["planned starts not made"].value, rows["planned starts not made"].within) == (0.02, False)
    assert (rows["streams never dispatched"].value, rows["streams never dispatched"].at_ns) == (2.0, None)
    told = " ".join(summary_text(run.judge(), "runs/x").split())
    assert "- planned starts not made: 2 %, usually at most 1 %. Raise load.max_open" in told


def test_starts_that_a_lost_worker_did_not_report_are_its_end_to_explain(run: RunBuilder) -> None:
    seconds()(run)
    run.plan.workers = 2
    run.plan.variants[0].load = to_raw(Load(model="open", rate=10, duration=Duration(10 * S)))
    for number in range(0, 100, 2):
        run.stream(stream=number)
    run.info.workers_lost = [1]
    rows = table(run)
    assert (rows["planned starts not made"].value, rows["planned starts not made"].within) == (0.5, False)
    assert "run.log" in rows["planned starts not made"].next
    assert rows["streams never dispatched"].value == 0.0


def test_a_closed_loop_has_no_planned_starts(run: RunBuilder) -> None:
    seconds()(run)
    run.streams(5)
    assert table(run)["planned starts not made"].value is None


def test_the_read_lag_is_held_to_the_tightest_duration_that_is_judged(run: RunBuilder) -> None:
    """5 % of 250 ms; a claim without a duration changes nothing, one that can't be read neither."""
    run.claims("success >= 98%", "ttft p95 <= 1s", "gap p99 <= 250ms")
    run.plan.claims.append(PlannedClaim(text="nonsense"))
    seconds(read_lag_p99_ns=13 * MS)(run)
    row = table(run)["read lag p99, worst second"]
    assert (row.limit, row.within) == (12.5, False)
    run.claims("success >= 98%", "ttft p95 <= 1s")
    assert table(run)["read lag p99, worst second"].limit == 25.0


def test_the_report_names_the_second_and_the_way_out(run: RunBuilder) -> None:
    run.streams(5)
    seconds(loop_lag_max_ns=500 * MS)(run)
    page = re.sub(r"<[^>]+>|\s+", " ", render_report(run.write()).decode())
    assert "Worst 7 s after the start in worker 1. Fewer streams a worker, or less work in the users" in page
    assert page.count("Worst") == 1
