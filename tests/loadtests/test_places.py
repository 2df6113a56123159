"""Places of a staged closed loop: known spans of ramp, step, spike and soak, and what holds for any stages."""

import math
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from sseproof.loadtests.places import closes_ns, open_spans_ns, opens_ns
from sseproof.loadtests.settings import Load, Stage
from sseproof.rundir.units import Duration

SECOND = 1_000_000_000


def stage(duration_s: float, users: int, to: int | None = None) -> Stage:
    return Stage(duration=Duration(round(duration_s * SECOND)), users=users, to=to)


def spans_s(stages: list[Stage], place: int) -> list[tuple[float, float]]:
    return [
        (round(since / SECOND, 6), round(until / SECOND, 6)) for since, until in open_spans_ns(stages, place)
    ]


def test_a_ramp_opens_a_place_a_second_and_a_falling_one_closes_the_last_first() -> None:
    ramp = [stage(10, 0, 10)]
    assert [spans_s(ramp, place) for place in range(11)] == [*([(place, 10.0)] for place in range(10)), []]
    falling = [stage(10, 10, 0)]
    assert [spans_s(falling, place) for place in range(10)] == [[(0.0, 10.0 - place)] for place in range(10)]


def test_steps_stand_at_their_level() -> None:
    steps = [stage(5, 2), stage(5, 4), stage(5, 1)]
    assert [spans_s(steps, place) for place in range(5)] == [
        [(0.0, 15.0)],
        [(0.0, 10.0)],
        [(5.0, 10.0)],
        [(5.0, 10.0)],
        [],
    ]


def test_a_spike_opens_its_places_once_and_a_soak_keeps_them() -> None:
    spike = [stage(10, 3), stage(1, 30), stage(10, 3)]
    assert spans_s(spike, 2) == [(0.0, 21.0)], "one span, though three stages make it"
    assert spans_s(spike, 3) == spans_s(spike, 29) == [(10.0, 11.0)]
    assert spans_s([stage(3_600, 7)], 6) == [(0.0, 3_600.0)]


def test_a_place_that_comes_again_is_waited_for() -> None:
    stages = [stage(1, 2), stage(1, 1), stage(1, 2)]
    assert opens_ns(stages, 1, 0) == 0
    assert opens_ns(stages, 1, SECOND) == 2 * SECOND
    assert opens_ns(stages, 1, 2 * SECOND + 5) == 2 * SECOND + 5
    assert opens_ns(stages, 1, 3 * SECOND) is None
    assert opens_ns(stages, 2, 0) is None
    assert (closes_ns(stages, 1, 5), closes_ns(stages, 1, SECOND)) == (SECOND, SECOND)
    assert closes_ns(stages, 0, 5) == 3 * SECOND


def test_the_most_at_once_is_the_highest_level() -> None:
    load = Load(model="closed", stages=[stage(1, 2, 9), stage(1, 4)])
    assert (load.at_once, load.is_staged) == (9, True)
    assert Load(model="closed", users=3).at_once == 3


STAGES = st.lists(
    st.builds(
        lambda ns, users, to: Stage(duration=Duration(ns), users=users, to=to),
        st.integers(1, 10**11),
        st.integers(0, 40),
        st.none() | st.integers(0, 40),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=300)
@given(STAGES, st.floats(0, 1, exclude_max=True), st.integers(1, 5))
def test_as_many_places_are_open_as_the_level_rounded_up(
    stages: list[Stage], share: float, workers: int
) -> None:
    at_ns = int(sum(each.duration.ns for each in stages) * share)
    left = at_ns
    for each in stages:
        if left < each.duration.ns:
            break
        left -= each.duration.ns
    level = each.first_users + Fraction(left, each.duration.ns) * (each.last_users - each.first_users)
    open_places = [place for place in range(41) if opens_ns(stages, place, at_ns) == at_ns]
    expected = math.ceil(level)
    if left == 0 and each.first_users == 0 < each.last_users:
        expected = 1
    assert open_places == list(range(expected))
    parts = [sum(place % workers == worker for place in open_places) for worker in range(workers)]
    assert sum(parts) == expected
    assert max(parts) - min(parts) <= 1


@settings(max_examples=200)
@given(STAGES, st.integers(0, 40))
def test_spans_are_apart_and_within_the_stages(stages: list[Stage], place: int) -> None:
    spans = open_spans_ns(stages, place)
    flat = [edge for span in spans for edge in span]
    assert flat == sorted(set(flat))
    assert not flat or (flat[0] >= 0 and flat[-1] <= sum(each.duration.ns for each in stages))
