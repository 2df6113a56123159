"""Schedules of an open loop: counts by the integral of the rate, parts that fit together, bounds."""

import math
import re
import statistics
import tomllib
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sseproof.loadtests.arrivals import (
    count_starts,
    expected_starts,
    length_ns,
    part_ns,
    schedule_ns,
)
from sseproof.loadtests.settings import Load, Stage
from sseproof.rundir.units import Duration, decode_hook

SECOND = 1_000_000_000


def seconds(value: float) -> Duration:
    return Duration(round(value * SECOND))


def stage(duration_s: float, rate: float, to: float | None = None) -> Stage:
    return Stage(duration=seconds(duration_s), rate=rate, to=to)


def opened(**keys: object) -> Load:
    return Load(model="open", **keys)  # type: ignore[arg-type]


def test_a_constant_rate_starts_every_nth_part_of_a_second() -> None:
    offsets = list(schedule_ns(opened(rate=4.0, duration=seconds(2)), seed=1))
    assert offsets == [round(k * SECOND / 4) for k in range(8)]


def test_a_ramp_starts_as_many_as_lie_under_it() -> None:
    """From 0 to 20 a second in 10 s is 100 starts, half of them in the last 2.93 s."""
    offsets = list(schedule_ns(opened(stages=[stage(10, 0, 20)]), seed=1))
    assert len(offsets) == 100
    assert sum(offset >= round((10 - 10 * (1 - math.sqrt(0.5))) * SECOND) for offset in offsets) == 50
    gaps = [after - before for before, after in pairwise(offsets)]
    assert gaps == sorted(gaps, reverse=True), "it only becomes faster"


def test_stages_follow_each_other_and_a_pause_is_one() -> None:
    load = opened(stages=[stage(2, 5), stage(3, 0), stage(1, 100), stage(2, 5)])
    offsets = [offset / SECOND for offset in schedule_ns(load, seed=1)]
    assert [sum(low <= at < high for at in offsets) for low, high in ((0, 2), (2, 5), (5, 6), (6, 8))] == [
        10,
        0,
        100,
        10,
    ]
    assert length_ns(load) == 8 * SECOND


def test_a_falling_ramp_ends_at_zero() -> None:
    offsets = list(schedule_ns(opened(stages=[stage(10, 20, 0)]), seed=1))
    assert len(offsets) == 100
    assert offsets[-1] < 10 * SECOND


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    offsets = list(schedule_ns(opened(rate=100.0, arrivals="poisson", duration=seconds(100)), seed=7))
    assert abs(len(offsets) - 10_000) < 4 * math.sqrt(10_000)
    gaps = [(after - before) / SECOND for before, after in pairwise(offsets)]
    assert statistics.mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05), "an exponential's spread is its mean"


def test_the_seed_is_the_schedule() -> None:
    load = opened(rate=50.0, arrivals="poisson", duration=seconds(5))
    assert list(schedule_ns(load, seed=1)) == list(schedule_ns(load, seed=1))
    assert list(schedule_ns(load, seed=1)) != list(schedule_ns(load, seed=2))


def test_a_replay_is_repeated_as_it_was_and_cut_by_duration_and_number() -> None:
    recorded = [0, SECOND, SECOND, 3 * SECOND, 9 * SECOND]
    load = opened(replay="starts.csv")
    assert list(schedule_ns(load, 1, recorded)) == recorded
    assert length_ns(load, recorded) == 9 * SECOND
    cut = opened(replay="starts.csv", duration=seconds(5), streams=3)
    assert list(schedule_ns(cut, 1, recorded)) == recorded[:3]
    assert length_ns(cut, recorded) == SECOND
    assert length_ns(opened(replay="starts.csv", duration=seconds(5)), recorded) == 5 * SECOND


@pytest.mark.parametrize(
    ("load", "length_s"),
    [
        ({"rate": 10.0, "streams": 25}, 2.5),
        ({"rate": 10.0, "streams": 25, "duration": seconds(60)}, 2.5),
        ({"rate": 10.0, "streams": 25, "duration": seconds(2)}, 2.0),
        ({"stages": [stage(2, 5), stage(3, 0), stage(10, 0, 10)], "streams": 30}, 5 + math.sqrt(40)),
        ({"stages": [stage(2, 5), stage(3, 5)], "streams": 300}, 5.0),
    ],
)
def test_a_number_of_streams_ends_the_load_before_its_time(load: dict[str, object], length_s: float) -> None:
    assert length_ns(opened(**load)) == pytest.approx(length_s * SECOND)
    assert max(schedule_ns(opened(**load), seed=1)) <= length_s * SECOND


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_number_of_streams_is_kept_exactly(arrivals: str) -> None:
    load = opened(rate=10.0, arrivals=arrivals, streams=25)
    assert len(list(schedule_ns(load, seed=3))) == 25
    assert count_starts(load, seed=3) == 25


def test_the_warm_up_is_not_counted() -> None:
    load = opened(rate=10.0, duration=seconds(5), warmup=seconds(2))
    assert count_starts(load, seed=1) == expected_starts(load) == 30
    assert count_starts(load, seed=1, warmup=True) == 50


RATES = st.floats(0, 200, allow_nan=False)
STAGES = st.lists(st.builds(stage, st.floats(0.01, 20), RATES, st.none() | RATES), min_size=1, max_size=6)


@settings(max_examples=80)
@given(STAGES, st.sampled_from(["constant", "poisson"]), st.integers(0, 2**32), st.integers(1, 5))
def test_any_schedule(stages: list[Stage], arrivals: str, seed: int, workers: int) -> None:
    load = opened(stages=stages, arrivals=arrivals)
    offsets = list(schedule_ns(load, seed))
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= length_ns(load) + 1 for offset in offsets)
    parts = [list(part_ns(load, seed, (), index, workers)) for index in range(workers)]
    assert sorted(start for part in parts for start in part) == list(enumerate(offsets))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if arrivals == "constant":
        mass = sum((each.rate + each.last_rate) / 2 * each.duration.seconds for each in stages)
        assert abs(len(offsets) - math.ceil(mass)) <= 1
        assert abs(expected_starts(load) - mass) < 1 + 1e-6


def documented_shapes() -> dict[str, tuple[Load, list[int]]]:
    """Name → the load and the starts of each stage, as docs/scenario.md says them."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "scenario.md").read_text("utf-8")
    found = {}
    for name, written, counts in re.findall(r"^\| (\w+) \| `(\[\{.*?\}\])` \| (.*?) \|$", text, re.MULTILINE):
        stages = msgspec.convert(
            tomllib.loads(f"stages = {written}")["stages"], list[Stage], dec_hook=decode_hook
        )
        numbers = [int(count.replace(",", "")) for count in re.findall(r"[\d,]*\d", counts)]
        found[name] = Load(model="open", stages=stages), numbers
    return found


def test_ramp_step_spike_and_soak_start_as_many_as_the_documents_say() -> None:
    """The number under each stage is the mean of its first and last rate times its length."""
    shapes = documented_shapes()
    assert shapes.keys() == {"ramp", "step", "spike", "soak"}
    for name, (load, counts) in shapes.items():
        offsets = list(schedule_ns(load, seed=1))
        began = 0
        for number, (each, count) in enumerate(zip(load.stages, counts, strict=True)):
            until = began + each.duration.ns
            mass = (each.first_rate + each.last_rate) / 2 * each.duration.seconds
            assert count == mass, f"{name}, stage {number}"
            assert sum(began <= offset < until for offset in offsets) == count, f"{name}, stage {number}"
            began = until
        assert len(offsets) == sum(counts) == count_starts(load, 1) == expected_starts(load)
        assert length_ns(load) == began
