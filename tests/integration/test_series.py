"""series.hlog of a run with two real workers: what it holds is what the rows count."""

from collections import Counter
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from sseproof.rundir.files import GENERATOR, SERIES_NAME, STARTS, STREAMS
from sseproof.rundir.rows import Gaps
from sseproof.rundir.series import DIGITS, HIGHEST_NS
from tests.integration.suite import directory_of, rows, served, sseproof

pytestmark = pytest.mark.integration

SECOND_MS = 1_000


def read_log(directory: Path) -> list[HdrHistogram]:
    """The interval histograms, as the hdrhistogram package reads them."""
    reader = HistogramLogReader(str(directory / SERIES_NAME), HdrHistogram(1, HIGHEST_NS, DIGITS))
    with reader.input_file:
        found = []
        while (histogram := reader.get_next_interval_histogram()) is not None:
            found.append(histogram)
    return found


def counts_of(intervals: list[HdrHistogram]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for histogram in intervals:
        counts[histogram.get_tag()] += histogram.get_total_count()
    return counts


def count_of(intervals: list[Gaps | None]) -> int:
    return sum(each.count for each in intervals if each is not None)


def test_two_workers_series_hold_what_their_rows_count(tmp_path):
    """100 starts a second for 3 s, the first of them warm-up; then percentile files, twice the same."""
    with served() as url:
        done = sseproof(
            *["run", "--target", f"{url}?events=20&interval_ms=20&sent_at=1", "--rate", "100"],
            *["--duration", "3s", "--workers", "2", "--set", "load.warmup=1s"],
            *["--set", "target.sent_at=json:sent_at"],
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    records = rows(directory, STREAMS)
    judged = [record for record in records if not record.warmup]
    warm = [record for record in records if record.warmup]
    assert {record.worker for record in judged} == {record.worker for record in warm} == {0, 1}
    generator = rows(directory, GENERATOR)
    intervals = read_log(directory)
    found = counts_of(intervals)
    staleness = found.pop("staleness") + found.pop("staleness-warmup", 0)
    assert found == {
        "gap": count_of([record.gaps for record in judged]),
        "gap-warmup": count_of([record.gaps for record in warm]),
        "age": count_of([record.ages for record in judged]),
        "age-warmup": count_of([record.ages for record in warm]),
        "read-lag": sum(row.reads - row.unstamped_reads for row in generator),
        "dispatch-lag": len(rows(directory, STARTS)),
    }
    assert count_of([record.gaps for record in judged]) > 3_000
    assert sum(row.out_of_range for row in generator) == 0
    # One a second of every open stream: of one that lasts T seconds T + 1 at most.
    lasted_s = sum(record.ended.ns - record.dispatched.ns for record in records) / 1e9
    assert 0 < staleness < lasted_s + len(records)
    # Merged: one line a second and series, though two workers report each.
    seconds = Counter((each.get_tag(), int(each.get_start_time_stamp() // SECOND_MS)) for each in intervals)
    assert set(seconds.values()) == {1}
    gaps = HdrHistogram(1, HIGHEST_NS, DIGITS)
    for each in intervals:
        if each.get_tag() == "gap":
            gaps.add(each)
    longest = max(record.gaps.longest_hi_ns for record in judged if record.gaps is not None)
    assert gaps.get_max_value() <= longest * (1 + 1 / 128)
    lasted_ns = sum(record.last_event.ns - record.first_token.ns for record in judged)
    assert abs(gaps.get_mean_value() * gaps.get_total_count() - lasted_ns) < 0.01 * lasted_ns

    again = sseproof("judge", str(directory), "--export", "hgrm", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    exported = {path.stem: path.read_bytes() for path in (directory / "export").iterdir()}
    assert exported.keys() == counts_of(intervals).keys()
    assert all(f"{name}.hgrm" in again.stderr for name in exported)
    assert f"Total count    = {found['gap']:12d}".encode() in exported["gap"]
    sseproof("judge", str(directory), "--export", "hgrm", cwd=tmp_path)
    assert {path.stem: path.read_bytes() for path in (directory / "export").iterdir()} == exported
