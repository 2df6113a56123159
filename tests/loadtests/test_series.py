"""What workers report of their series, merged by second into series.hlog."""

import random
from collections import Counter
from pathlib import Path

import pytest

from sseproof.loadtests import series
from sseproof.loadtests.series import HOLD_NS, SeriesLog, to_report
from sseproof.rundir.errors import RigError
from sseproof.rundir.rows import Plan
from sseproof.rundir.series import STEP_MASKS, Interval, decoded, encoded
from sseproof.rundir.series_file import SeriesReading

SECOND = 1_000_000_000
BEGIN_NS = 1_767_225_600 * SECOND
PLAN = Plan(run="r", scenario="s", seed=1, created_ns=BEGIN_NS)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock: its one element is the time."""
    clock = [BEGIN_NS]
    monkeypatch.setattr(series, "now_ns", lambda: clock[0])
    return clock


def found(directory: Path) -> list[tuple[Interval, dict[int, int]]]:
    reading = SeriesReading(directory, PLAN.run)
    rows = list(reading)
    assert not reading.problem
    return rows


def part(
    second: float, values: dict[int, int], *, tag: str = "gap", length: float = 1, out_of_range: int = 0
) -> Interval:
    start = BEGIN_NS + round(second * SECOND)
    payload = encoded(values) if values else ""
    return Interval(tag, start, start + round(length * SECOND), payload, out_of_range)


def test_seconds_of_several_workers_are_merged_exactly(tmp_path: Path, at: list[int]) -> None:
    """300 seconds of three workers whose reports come late and in any order; the file is the sum of what was sent."""
    draw = random.Random(7)
    log = SeriesLog(tmp_path, PLAN)
    sent: dict[str, Counter[int]] = {"gap": Counter(), "read-lag": Counter()}
    reports = []
    for worker in range(3):
        for second in range(300):
            batch = []
            for tag, total in sent.items():
                values = [draw.getrandbits(draw.randint(1, 40)) for _ in range(draw.randint(0, 6))]
                counts = Counter(value & STEP_MASKS[value.bit_length()] for value in values)
                if counts:
                    batch.append(part(second + worker / 7, counts, tag=tag, length=0.9))
                total.update(counts)
            reports.append((second + 1 + draw.random() * 5, to_report(batch)))
    for when, report in sorted(reports, key=lambda each: each[0]):
        at[0] = BEGIN_NS + round(when * SECOND)
        log.take(report)
    rows_before_the_end = found(tmp_path)
    assert len(rows_before_the_end) > 500, "seconds are written as they are complete"
    log.write()
    rows = found(tmp_path)
    for tag, total in sent.items():
        got: Counter[int] = Counter()
        seconds = []
        for interval, counts in rows:
            if interval.tag == tag:
                got.update(counts)
                seconds.append(interval.start_ns // SECOND)
                assert interval.start_ns <= interval.end_ns <= interval.start_ns + 1.2 * SECOND
        assert got == total
        assert seconds == sorted(set(seconds)), "one line a second, in order"


def test_a_late_interval_has_a_line_of_its_own(tmp_path: Path, at: list[int]) -> None:
    log = SeriesLog(tmp_path, PLAN)
    at[0] = BEGIN_NS + HOLD_NS
    log.take(to_report([part(0, {1: 1})]))
    assert found(tmp_path) == [], "the other workers may still report this second"
    at[0] += SECOND
    log.take([])
    log.take(to_report([part(0.2, {2: 1})]))
    log.write()
    assert [counts for _, counts in found(tmp_path)] == [{1: 1}, {2: 1}]


def test_values_out_of_range_add_up(tmp_path: Path) -> None:
    log = SeriesLog(tmp_path, PLAN)
    log.take(
        to_report(
            [part(0, {}, out_of_range=2), part(0.1, {5: 1}, out_of_range=3), part(1, {}, out_of_range=1)]
        )
    )
    log.write()
    rows = found(tmp_path)
    assert [counts for _, counts in rows if counts] == [{5: 1}]
    assert [interval.out_of_range for interval, _ in rows if interval.out_of_range] == [5, 1]


@pytest.mark.parametrize(
    "report",
    [
        7,
        [["gap", 1, 2]],
        [["gap", "one", 2, ""]],
        [*to_report([part(0, {1: 1})]), ["gap", BEGIN_NS, BEGIN_NS, "AAAA", 0]],
        [["gap", BEGIN_NS, BEGIN_NS, "AAAA", 0]],
        [["gap,\nTag=x", BEGIN_NS, BEGIN_NS, encoded({1: 1}), 0]],
    ],
)
def test_a_damaged_report_is_refused(tmp_path: Path, report: object) -> None:
    log = SeriesLog(tmp_path, PLAN)
    with pytest.raises(RigError, match="damaged"):
        log.take(report)
    assert [counts for _, counts in found(tmp_path)] == []


def test_a_report_is_made_of_what_messages_carry() -> None:
    (wire,) = to_report([part(0, {1: 2}, out_of_range=3)])
    assert wire == ["gap", BEGIN_NS, BEGIN_NS + SECOND, encoded({1: 2}), 3]
    assert decoded(wire[3]) == {1: 2}
