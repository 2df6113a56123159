"""Percentile files: HdrHistogram's own lines, with the hdrhistogram package as the oracle."""

import io
import math

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.iterators import PercentileIterator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseproof.reports.percentiles import hgrm, levels
from sseproof.rundir.series import DIGITS, HIGHEST_NS, STEP_MASKS

values = st.integers(0, 45).flatmap(lambda bits: st.integers(0, 1 << bits))


class JavaIterator(PercentileIterator):
    """The library's, with the levels of the original: whole halvings of the distance to 100 %."""

    def increment_iteration_level(self) -> None:
        gap = 100.0 - self.percentile_to_iterate_to
        if gap:
            self.percentile_to_iterate_to += 100.0 / (5 * 2 ** (int(math.log2(100 / gap)) + 1))


def stepped(counts: dict[int, int]) -> dict[int, int]:
    steps: dict[int, int] = {}
    for value, count in counts.items():
        step = value & STEP_MASKS[value.bit_length()]
        steps[step] = steps.get(step, 0) + count
    return steps


def oracle(counts: dict[int, int]) -> HdrHistogram:
    histogram = HdrHistogram(1, HIGHEST_NS, DIGITS)
    for value, count in counts.items():
        assert histogram.record_value(value, count)
    return histogram


@settings(max_examples=30)  # the library walks through all its 5,120 counters
@given(st.dictionaries(values, st.integers(1, 5_000), max_size=60))
@example({})
@example({0: 1})
@example({7: 1, 8: 1})
@example({1_000_000: 10**9, 40_000_000: 1})
def test_levels_are_the_librarys_own(counts: dict[int, int]) -> None:
    found = [tuple(level) for level in levels(stepped(counts))]
    wanted = [
        (item.value_iterated_to, item.percentile_level_iterated_to, item.total_count_to_this_value)
        for item in JavaIterator(oracle(counts), 5)
    ]
    assert found == wanted


@settings(max_examples=30)  # the library walks through all its 5,120 counters
@given(st.dictionaries(values, st.integers(1, 5_000), min_size=1, max_size=60), st.integers(0, 9))
def test_a_file_is_what_the_library_writes(counts: dict[int, int], out_of_range: int) -> None:
    library = io.BytesIO()
    histogram = oracle(counts)
    histogram.get_percentile_iterator = lambda ticks: JavaIterator(histogram, ticks)
    histogram.output_percentile_distribution(library, 1e6)
    ours = hgrm(stepped(counts), out_of_range).decode().splitlines()
    theirs = library.getvalue().decode().splitlines()
    assert len(ours) == len(theirs) + 1
    assert ours[:2] == theirs[:2]
    for mine, its in zip(ours[2:-4], theirs[2:-3], strict=True):
        value, *rest = mine.split()
        their_value, *their_rest = its.split()
        assert rest == their_rest
        assert float(value) == pytest.approx(float(their_value), abs=0.00501)
    mean, deviation, longest, total, buckets, parts = (
        float(part.split("=")[1].rstrip("]")) for line in ours[-4:-1] for part in line.split(",")
    )
    assert mean == pytest.approx(histogram.get_mean_value() / 1e6, rel=1e-9, abs=1e-6)
    assert deviation == pytest.approx(histogram.get_stddev() / 1e6, rel=1e-9, abs=1e-6)
    assert longest == pytest.approx(histogram.get_max_value() / 1e6, abs=1e-6)
    assert (total, buckets) == (sum(counts.values()), histogram.bucket_count)
    assert parts == histogram.sub_bucket_count
    assert ours[-1].endswith(f"not among them: {out_of_range}]")


def test_levels_are_denser_towards_the_end() -> None:
    found = [level.percent for level in levels(dict.fromkeys(range(200), 1))]
    assert found[:16] == [0, 10, 20, 30, 40, 50, 55, 60, 65, 70, 75, 77.5, 80, 82.5, 85, 87.5]
    assert found == sorted(set(found))
    assert (found[-1], found[-2] < 100) == (100, True)


def test_the_median_of_a_known_series_is_where_it_belongs() -> None:
    """90 values of 10 ms, 9 of 100 ms, one of 5 s."""
    counts = stepped({10_000_000: 90, 100_000_000: 9, 5_000_000_000: 1})
    at = {level.percent: level.value_ns / 1e6 for level in levels(counts)}
    assert at[50.0] == pytest.approx(10, rel=1 / 128)
    assert at[95.0] == pytest.approx(100, rel=1 / 128)
    assert at[100.0] == pytest.approx(5_000, rel=1 / 128)
    assert math.isclose(at[0.0], at[50.0])


def test_an_empty_series_has_no_levels() -> None:
    assert list(levels({})) == []
    assert b"Total count    =            0" in hgrm({}, 4)
