"""The clock: steps are seen, jitter and slewing are not, and a preempted reading is not taken for a step."""

import time

import pytest

from sseproof.rundir import clock
from sseproof.rundir.clock import CLOCK_STEP_LIMIT_NS, ClockWatch, now_ns

MS = 1_000_000


class Clocks:
    """Both clocks of a machine; each reading takes `costs` nanoseconds, in turn."""

    def __init__(self, costs=(0,)):
        self.wall_ns = 1_700_000_000_000_000_000
        self.monotonic = 5_000_000_000
        self.costs = list(costs)

    def advance(self, ns):
        self.wall_ns += ns
        self.monotonic += ns

    def _reading(self, name):
        value = getattr(self, name)
        cost = self.costs.pop(0) if len(self.costs) > 1 else self.costs[0]
        self.advance(cost)
        return value

    def time_ns(self):
        return self._reading("wall_ns")

    def monotonic_ns(self):
        return self._reading("monotonic")


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(clock, "time", clocks)
    return clocks


def test_a_clock_that_runs_makes_no_step(clocks):
    watch = ClockWatch()
    for _ in range(10):
        clocks.advance(1_000 * MS)
        assert watch.step_ns() == 0


@pytest.mark.parametrize(
    "step_ns", [2 * MS, -2 * MS, 3_600_000 * MS, -CLOCK_STEP_LIMIT_NS - 1, CLOCK_STEP_LIMIT_NS + 1]
)
def test_a_step_is_told_once_with_its_sign(clocks, step_ns):
    watch = ClockWatch()
    clocks.advance(1_000 * MS)
    clocks.wall_ns += step_ns
    assert watch.step_ns() == step_ns
    clocks.advance(1_000 * MS)
    assert watch.step_ns() == 0


@pytest.mark.parametrize("step_ns", [CLOCK_STEP_LIMIT_NS, -CLOCK_STEP_LIMIT_NS, 1, 0])
def test_jitter_within_the_limit_is_no_step(clocks, step_ns):
    watch = ClockWatch()
    clocks.wall_ns += step_ns
    assert watch.step_ns() == 0


def test_small_steps_add_up(clocks):
    watch = ClockWatch()
    told = []
    for _ in range(4):
        clocks.wall_ns += 600_000
        told.append(watch.step_ns())
    assert told == [0, 1_200_000, 0, 1_200_000]


def test_a_suspended_machine_shows_as_a_step(clocks):
    watch = ClockWatch()
    clocks.wall_ns += 60_000 * MS  # CLOCK_MONOTONIC stands still meanwhile
    assert watch.step_ns() == 60_000 * MS


@pytest.mark.parametrize("preempted", range(9))
def test_a_preempted_reading_is_not_taken_for_a_step(clocks, preempted):
    watch = ClockWatch()
    clocks.costs = [0] * preempted + [40 * MS] + [0] * 9
    assert watch.step_ns() == 0


def test_slow_readings_are_not_taken_for_a_step(clocks):
    watch = ClockWatch()
    clocks.costs = [3 * MS // 2]
    assert watch.step_ns() == 0


def test_the_clock_is_the_one_of_kernel_stamps():
    before = time.clock_gettime_ns(time.CLOCK_REALTIME)
    now = now_ns()
    after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    assert before <= now <= after


def test_the_real_clocks_make_no_step():
    watch = ClockWatch()
    assert [watch.step_ns() for _ in range(100)] == [0] * 100
