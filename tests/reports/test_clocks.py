"""Rows of workers on other machines, by the master's clock: moved whole, and wider only where clocks are compared."""

import pytest

from sseproof.reports.clocks import Clocks
from sseproof.reports.history import read_history
from sseproof.rundir.rows import GeneratorRow, Instant
from tests.reports.conftest import MS, T0, S, at

AHEAD_MS = 200.0


def told(worker: int, at_ms: float, ahead_ms: float, error_ms: float) -> GeneratorRow:
    """What a worker says of its clock; `at_ms` is by that clock."""
    return GeneratorRow(
        at_ns=at(at_ms).ns,
        worker=worker,
        master_offset_ns=round(ahead_ms * MS),
        master_offset_error_ns=round(error_ms * MS),
    )


def test_a_worker_of_the_masters_machine_is_left_alone(run):
    record = run.stream(worker=0)
    clocks = Clocks([GeneratorRow(at_ns=T0, worker=0), told(1, 0, AHEAD_MS, 1)])
    assert clocks.workers == [1]
    assert clocks.moved(record) is record
    assert clocks.across(0, record.dispatched, record.ended) is record.ended


def test_a_row_is_moved_whole_and_its_intervals_stay(run):
    attempt = run.attempt(started=at(1_001), connected=at(1_002, 0.5), ended=at(3_000))
    record = run.stream(worker=1, start_ms=1_000, attempts=[attempt], intended=at(999, 0.25))
    clocks = Clocks([told(1, 0, AHEAD_MS, 0.5), told(1, 2_000, AHEAD_MS + 0.3, 0.5)])
    moved = clocks.moved(record)
    assert moved.dispatched == at(1_000 - AHEAD_MS)
    assert moved.intended == at(999 - AHEAD_MS, 0.25)
    assert moved.first_token.ns - moved.sent.ns == record.first_token.ns - record.sent.ns
    assert moved.ended == at(3_000 - AHEAD_MS), "by the offset at its beginning"
    assert moved.attempts[0].connected == at(1_002 - AHEAD_MS, 0.5)
    left = {"dispatched", "intended", "sent", "first_event", "first_token", "last_event", "ended", "attempts"}
    for name in set(record.__struct_fields__) - left:
        assert getattr(moved, name) == getattr(record, name)
    assert clocks.moved(told(1, 500, AHEAD_MS, 0.5)).at_ns == at(500 - AHEAD_MS).ns


def test_across_clocks_a_bracket_gets_the_error_and_what_they_drifted_apart(run):
    clocks = Clocks([told(1, 0, 200, 0.5), told(1, 2_000, 203, 0.25), told(1, 9_000, 100, 90)])
    first = at(1_000 - 200)
    assert clocks.across(1, first, at(900, 1)) == Instant(at(900).ns, 4_250_000, 1_500_000)
    near = clocks.across(1, first, first)
    assert (near.before_ns, near.after_ns) == (3_250_000, 500_000), "up to the offset that was found next"
    late = clocks.across(1, at(2_500), at(2_600))
    assert late.before_ns == 250_000
    assert late.after_ns == 203 * MS - (100 - 90) * MS, "the one found next is no better known than this"
    assert clocks.widest(1) == (100 * MS, 90 * MS)
    assert clocks.widest(0) is None


def test_the_history_is_by_the_masters_clock(run):
    run.generator(worker=1, **offset_fields(0))
    run.stream(worker=1, start_ms=1_000, group="broken")
    run.stream(worker=0, start_ms=1_000)
    run.break_(0, seen_ms=1_500, worker=1)
    history = read_history(run.write())
    assert [record.dispatched.ns - T0 for record in history.streams] == [800 * MS, 1_000 * MS]
    assert history.breaks[0].seen == at(1_300)
    assert history.generator[0].at_ns == T0 - 200 * MS
    (sentence,) = history.problems
    assert "Worker 1" in sentence
    assert "200 ms ahead" in sentence


def offset_fields(at_ms: float) -> dict[str, int]:
    return {
        "at_ns": at(at_ms).ns,
        "master_offset_ns": round(AHEAD_MS * MS),
        "master_offset_error_ns": 2 * MS,
    }


@pytest.mark.parametrize(
    ("seen_ms", "covered"),
    [(1_202.5, True), (1_199, True), (1_197.5, False)],
    ids=["in", "perhaps", "before"],
)
def test_a_fault_window_is_met_by_the_masters_clock_and_its_error(run, seen_ms, covered):
    """The window opens at 1,000 ms: by the worker's clock at 1,200, give or take 2 ms."""
    run.generator(worker=1, **offset_fields(0))
    run.stream(worker=1, breaks=1)
    run.break_(0, seen_ms=seen_ms, back_ms=seen_ms + 50, worker=1)
    run.fault("applied", call_sent_ns=at(1_000).ns, call_answered_ns=at(1_001).ns)
    verdict = run.one("reconnect p95 < 1s after cut")
    assert verdict.n == int(covered)


def test_a_heal_seen_from_another_machine_has_the_error_of_its_clock(run):
    """Healed at 2,000 ms; back at 3,201.5 by a clock that is 200 ms ahead, give or take 2: after 999.5 to 1,003.5 ms."""
    run.generator(worker=1, **offset_fields(0))
    for worker, back_ms in ((1, 3_201.5), (0, 3_001.5), (0, 2_999.5)):
        ahead = AHEAD_MS if worker else 0
        record = run.stream(worker=worker, breaks=1, group="dark", start_ms=ahead)
        run.break_(record.stream, seen_ms=1_500 + ahead, back_ms=back_ms, worker=worker, group="dark")
    run.fault("applied", kind="stall", group="dark", call_sent_ns=at(1_400).ns)
    run.fault("healed", kind="stall", group="dark", call_answered_ns=at(2_000).ns)
    verdict = run.one("reconnect p50 < 1s")
    assert (verdict.n, verdict.k, verdict.k_best) == (3, 1, 2)


def test_the_error_does_not_reach_intervals_of_one_worker(run):
    """0.5 ms below the limit by a clock that is known to 2 ms: certain all the same."""
    run.generator(worker=1, **offset_fields(0))
    for _ in range(60):
        run.stream(worker=1, sent=at(1), first_token=at(1_000.5))
    assert run.one("ttft p50 < 1s").verdict == "pass"


def test_offsets_are_found_by_time_not_by_the_order_of_rows():
    clocks = Clocks([told(1, 5 * 1_000, 20, 0), told(1, 0, 10, 0)])
    assert clocks.moved(told(1, 4_999, 0, 0)).at_ns == T0 + 4_989 * MS
    assert clocks.moved(told(1, 5_000, 0, 0)).at_ns == T0 + 5 * S - 20 * MS
