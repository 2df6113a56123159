"""When the streams of an open loop start: seeded schedules of offsets from one start instant.

Pure. Rules (design.md decision 5, measurement.md 1.3):
- The schedule is fixed before the run by the scenario and the seed; what the target does never moves a start.
- Stages follow each other; within one the rate is constant or changes linearly. The k-th start lies where the integral
  of the rate reaches k (`constant`) or the k-th point of a Poisson process of rate 1 (`poisson`): a change of rate
  neither loses nor doubles a start.
- Worker w of W walks the starts with number % W == w. All of them draw the same numbers, so the parts fit together.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Final

from sseproof.loadtests.settings import SECOND_NS, Load, Stage
from sseproof.rundir.seeds import named_random
from sseproof.rundir.units import Duration

MOST_STARTS: Final = 10_000_000
"""Of one schedule, on average: three hours at 1,000 a second. A scenario with more is refused, none is cut."""
_NEARLY: Final = 1e-6
"""Part of a start that the sums of the rates may be wrong by."""


def schedule_ns(load: Load, seed: int, replay_ns: Sequence[int] = ()) -> Iterator[int]:
    """The offsets of all starts in ns since the start instant, ascending; the position is the stream's number."""
    offsets = iter(replay_ns) if load.replay is not None else _by_rate(load, seed)
    if load.duration is not None:
        end_ns = load.duration.ns
        offsets = takewhile(lambda offset: offset < end_ns, offsets)
    return offsets if load.streams is None else islice(offsets, load.streams)


def part_ns(
    load: Load, seed: int, replay_ns: Sequence[int], index: int, workers: int
) -> Iterator[tuple[int, int]]:
    """(number, offset in ns) of the starts that one of several workers walks."""
    for number, offset in enumerate(schedule_ns(load, seed, replay_ns)):
        if number % workers == index:
            yield number, offset


def count_starts(load: Load, seed: int, replay_ns: Sequence[int] = (), *, warmup: bool = False) -> int:
    """How many starts the schedule has; those of the warm-up only when asked for."""
    first_ns = 0 if warmup or load.warmup is None else load.warmup.ns
    return sum(1 for offset in schedule_ns(load, seed, replay_ns) if offset >= first_ns)


def expected_starts(load: Load, *, warmup: bool = False) -> int:
    """How many starts a schedule by rate has on average; those of the warm-up only when asked for."""
    stages = _stages(load)
    end_s = sum(stage.duration.seconds for stage in stages)
    if load.duration is not None:
        end_s = min(end_s, load.duration.seconds)
    whole = _mass(stages, end_s)
    if load.streams is not None:
        whole = min(whole, load.streams)
    warm = 0.0 if warmup or load.warmup is None else _mass(stages, min(load.warmup.seconds, end_s))
    return max(0, math.floor(whole - warm))


def starts_before(load: Load, until_ns: float, replay_ns: Sequence[int] = ()) -> float:
    """How many starts of an open loop lie before an offset, infinite for all, without walking them or counting streams.

    Exact for recorded starts and a constant rate (but at the offset itself), the mean of a Poisson process.
    """
    if load.duration is not None:
        until_ns = min(until_ns, load.duration.ns)
    if load.replay is not None:
        return bisect_left(replay_ns, until_ns)
    mass = _mass(_stages(load), until_ns / SECOND_NS)
    return mass if load.arrivals == "poisson" else math.ceil(mass - _NEARLY)


def admission_ns(load: Load, replay_ns: Sequence[int] = ()) -> int | None:
    """How long new streams are admitted, in ns; None in a closed loop of a fixed number."""
    if load.is_open or load.is_staged:
        return length_ns(load, replay_ns)
    return None if load.duration is None else load.duration.ns


def length_ns(load: Load, replay_ns: Sequence[int] = ()) -> int:
    """How long the starts of an open loop can come, or how long the stages of a closed one last, in ns.

    A number of streams ends a schedule when its rates have reached it; a Poisson process does so then in the mean.
    """
    if load.replay is not None:
        starts = replay_ns[: load.streams]
        longest = starts[-1] if starts else 0
    else:
        stages = _stages(load)
        longest = sum(stage.duration.ns for stage in stages)
        if load.streams is not None and load.is_open:
            longest = min(longest, _reached_ns(stages, load.streams))
    return longest if load.duration is None else min(longest, load.duration.ns)


def _stages(load: Load) -> list[Stage]:
    """The stages, or the one that a single rate is."""
    if load.stages:
        return load.stages
    assert load.rate is not None
    duration = load.duration
    if duration is None:  # by a number of streams: long enough for them, a Poisson process included
        assert load.streams is not None
        duration = Duration(round(2 * (load.streams + 100) / load.rate * SECOND_NS))
    return [Stage(duration=duration, rate=load.rate)]


def _by_rate(load: Load, seed: int) -> Iterator[int]:
    stages = _stages(load)
    points = _poisson(seed) if load.arrivals == "poisson" else _whole_numbers()
    point = next(points)
    began_s = below = 0.0
    for stage in stages:
        length_s = stage.duration.seconds
        mass = _mass_within(stage, length_s)
        while point < below + mass:
            yield round((began_s + _time_of(stage, point - below)) * SECOND_NS)
            point = next(points)
        began_s += length_s
        below += mass


def _whole_numbers() -> Iterator[float]:
    number = 0
    while True:
        yield float(number)
        number += 1


def _poisson(seed: int) -> Iterator[float]:
    """The points of a Poisson process of rate 1."""
    chance = named_random(seed, "arrivals")
    at = 0.0
    while True:
        at += chance.expovariate(1.0)
        yield at


def _mass_within(stage: Stage, time_s: float) -> float:
    """Starts of the first `time_s` seconds of a stage, on average."""
    slope = (stage.last_rate - stage.first_rate) / stage.duration.seconds
    return stage.first_rate * time_s + slope * time_s * time_s / 2


def _mass(stages: Sequence[Stage], until_s: float) -> float:
    found = 0.0
    for stage in stages:
        found += _mass_within(stage, min(until_s, stage.duration.seconds))
        until_s = max(0.0, until_s - stage.duration.seconds)
    return found


def _reached_ns(stages: Sequence[Stage], mass: float) -> int:
    """When so many starts are reached; the end of the last stage where they never are."""
    began_ns = 0
    for stage in stages:
        mine = _mass_within(stage, stage.duration.seconds)
        if mass <= mine:
            return began_ns + round(_time_of(stage, mass) * SECOND_NS)
        mass -= mine
        began_ns += stage.duration.ns
    return began_ns


def _time_of(stage: Stage, mass: float) -> float:
    """When, in seconds since a stage began, so many starts are reached; the form that stays exact near a zero slope."""
    if mass <= 0:
        return 0.0
    slope = (stage.last_rate - stage.first_rate) / stage.duration.seconds
    return (
        2
        * mass
        / (stage.first_rate + math.sqrt(max(0.0, stage.first_rate * stage.first_rate + 2 * slope * mass)))
    )
