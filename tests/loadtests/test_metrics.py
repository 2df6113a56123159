"""What a worker measures of itself."""

import time
from pathlib import Path

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.metrics import LAG_BITS, Lags, Metrics
from sseproof.rundir.clock import now_ns
from sseproof.rundir.series import HIGHEST_NS, decoded


@given(st.lists(st.integers(-1_000, 10**11), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_of_lags_are_right_to_their_rounding(values: list[int], share: float) -> None:
    lags = Lags()
    for value in values:
        lags.add(value)
    told = lags.quantile(share)
    ordered = sorted(max(value, 0) for value in values)
    rank = next(index for index in range(1, len(ordered) + 1) if index >= share * len(ordered))
    true = ordered[rank - 1]
    assert told is not None
    assert true * (1 - 2.0 ** (1 - LAG_BITS)) - 1 <= told <= true
    assert lags.longest_ns == ordered[-1]
    assert len(lags.values) <= len(set(ordered))


def test_no_lags_no_quantile() -> None:
    assert Lags().quantile(0.5) is None


def test_a_snapshot_tells_once_and_begins_anew() -> None:
    metrics = Metrics(worker=3, variant="before")
    metrics.events, metrics.coalesced_reads, metrics.unstamped_reads = 7, 2, 1
    metrics.started, metrics.ended, metrics.dropped, metrics.open_streams = 4, 3, 1, 9
    metrics.pending_bytes = 11
    metrics.read_lags.add(1_000_000)
    metrics.dispatch_lag(2_000_000)
    metrics.rig_error("one.")
    metrics.rig_error("two.")
    metrics.rig_error("one.")
    row = metrics.snapshot()
    assert (row.worker, row.variant, row.reads, row.events) == (3, "before", 2, 7)
    assert (row.coalesced_reads, row.unstamped_reads) == (2, 1)
    assert (row.started, row.ended, row.dropped, row.open_streams, row.pending_bytes) == (4, 3, 1, 9, 11)
    assert row.read_lag_max_ns == 1_000_000
    assert row.dispatch_lag_max_ns == 2_000_000
    assert row.rig_error == "one. two."
    assert row.rss_bytes is not None
    assert 2**20 < row.rss_bytes < 2**34
    again = metrics.snapshot()
    assert (again.reads, again.events, again.started, again.ended, again.dropped) == (0, 0, 0, 0, 0)
    assert (again.open_streams, again.pending_bytes) == (9, 11)  # gauges stay
    assert (again.read_lag_max_ns, again.dispatch_lag_max_ns, again.rig_error) == (None, None, None)


def test_a_snapshot_ends_an_interval_of_every_series() -> None:
    metrics = Metrics(worker=0, variant="after")
    metrics.begin()
    begun = now_ns()
    metrics.judged.gaps[5] += 2
    metrics.warmup.gaps[6] += 1
    metrics.judged.ages[-3] += 4
    metrics.judged.staleness[HIGHEST_NS + 1] += 1
    metrics.judged.staleness[7] += 3
    metrics.read_lags.add(1_000_000)
    metrics.dispatch_lag(300)
    assert metrics.snapshot().out_of_range == 5
    found = {each.tag: each for each in metrics.unsent}
    assert {tag: decoded(each.payload) if each.payload else {} for tag, each in found.items()} == {
        "gap@after": {5: 2},
        "gap-warmup@after": {6: 1},
        "age@after": {},
        "staleness@after": {7: 3},
        "read-lag@after": {999_424: 1},
        "dispatch-lag@after": {300: 1},
    }
    assert (found["age@after"].out_of_range, found["staleness@after"].out_of_range) == (4, 1)
    (bounds,) = {(each.start_ns, each.end_ns) for each in metrics.unsent}
    assert abs(bounds[0] - begun) < 10**9
    assert bounds[0] <= bounds[1] <= now_ns()
    metrics.unsent.clear()
    metrics.judged.gaps[9] += 1
    assert metrics.snapshot().out_of_range == 0
    (again,) = metrics.unsent
    assert (again.tag, decoded(again.payload), again.start_ns) == ("gap@after", {9: 1}, bounds[1])


def test_cpu_share_is_that_of_the_interval() -> None:
    metrics = Metrics(worker=0)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    row = metrics.snapshot()
    assert row.cpu_share is not None
    assert row.cpu_share * row.interval_ns == pytest.approx(1e8, rel=0.3)
    gevent.sleep(0.05)
    idle = metrics.snapshot()
    assert idle.cpu_share is not None
    assert idle.cpu_share * idle.interval_ns < 5e7, "nothing of the interval before"


def test_steal_and_pressure_are_those_of_the_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Planted kernel files: 35 of 195 ticks stolen; then some process waited for 40 ms."""
    files = {"/proc/stat": tmp_path / "stat", "/proc/pressure/cpu": tmp_path / "cpu"}

    def say(ticks: str, total_us: int) -> None:
        files["/proc/stat"].write_text(f"cpu  {ticks} 0 0\ncpu0 1 2 3\n")
        files["/proc/pressure/cpu"].write_text(f"some avg10=9.99 avg60=1.00 total={total_us}\nfull total=7\n")

    monkeypatch.setattr("sseproof.loadtests.metrics.Path", lambda path: files.get(path, Path(path)))
    say("100 0 50 800 10 0 5 35", 5_000_000)
    metrics = Metrics(worker=0)
    say("150 0 60 890 10 0 15 70", 5_000_000)
    row = metrics.snapshot()
    assert (row.steal_share, row.pressure_share) == (round(35 / 195, 4), 0.0)
    say("150 0 60 990 10 0 15 70", 5_040_000)
    row = metrics.snapshot()
    assert row.steal_share == 0.0
    assert row.pressure_share == pytest.approx(40e6 / row.interval_ns, abs=1e-4)
    for file in files.values():
        file.unlink()
    row = metrics.snapshot()
    assert (row.steal_share, row.pressure_share) == (None, None)


def test_what_came_before_the_load_is_no_lag_of_the_load() -> None:
    """A process that imports Locust is busy for a second; a rig error of that time is told all the same."""

    def busy() -> None:
        until = time.process_time() + 0.15
        while time.process_time() < until:
            pass
        time.sleep(0.5)  # holds the loop for longer than a busy machine does

    metrics = Metrics(worker=0)
    metrics.start()
    try:
        gevent.sleep(0.03)
        busy()
        gevent.sleep(0.03)  # the timer has seen the first wait, and not the second
        busy()
        metrics.rig_error("too early.")
        metrics.begin()
        gevent.sleep(0.03)
        row = metrics.snapshot()
    finally:
        metrics.stop()
    assert row.loop_lag_max_ns is not None
    assert row.loop_lag_max_ns < 500_000_000
    assert row.cpu_share is not None
    assert row.cpu_share * row.interval_ns < 100_000_000
    assert row.rig_error == "too early."


def test_the_loop_lag_shows_a_blocked_loop() -> None:
    metrics = Metrics(worker=0)
    metrics.start()
    metrics.start()  # harmless
    try:
        gevent.sleep(0.05)
        metrics.snapshot()
        time.sleep(0.08)  # what a user's code does that holds the hub
        gevent.sleep(0.03)
        lag = metrics.snapshot().loop_lag_max_ns
    finally:
        metrics.stop()
    assert lag is not None
    assert lag > 60_000_000
    assert metrics.snapshot().loop_lag_max_ns is None


def test_a_clock_step_is_told_in_the_interval_it_fell_into(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(worker=0)
    assert metrics.snapshot().clock_step_ns == 0
    real = time.time_ns
    monkeypatch.setattr("sseproof.rundir.clock.time.time_ns", lambda: real() + 5_000_000)
    assert metrics.snapshot().clock_step_ns == pytest.approx(5_000_000, abs=500_000)
    assert metrics.snapshot().clock_step_ns == 0
