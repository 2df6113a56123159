"""What one worker process measures of itself: counters of the hot path, lateness, processor, memory, clock.

Rules (measurement.md 2, capacity.md "How"):
- The hot path only adds to plain attributes and to dicts of rounded values (0.16 µs); the work is done once a second.
- Values are rounded to the steps of the series' histograms (`rundir.series`), so that workers and seconds add up exactly.
- `snapshot` gives the figures since the last one and begins anew; a rig error is told once, in the next row. It puts the
  series of that time into `unsent`, which the reports to Locust's master empty.
- Streams of the warm-up have series of their own: they are recorded and not judged. Lags are the generator's and have
  nothing to do with that.
- The loop lag is the lateness of a 10 ms timer; about 1 ms of it is epoll's own resolution.
"""

import itertools
import os
import resource
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import gevent

from sseproof.rundir.clock import ClockWatch, now_ns
from sseproof.rundir.rows import GeneratorRow
from sseproof.rundir.series import STEP_BITS, STEP_MASKS, Counts, Interval, encoded, tag_of, within_range

LAG_BITS: Final = STEP_BITS
"""Significant bits that are kept of a lag: 1 part in 128 at worst."""
LAG_MASKS: Final = STEP_MASKS
"""For a lag of so many bits: what is left of it by `&` is what is kept."""
TICK_S: Final = 0.01
TICK_NS: Final = 10_000_000
RIG_ERRORS_KEPT: Final = 20
"""Different sentences of one second; a failing disk says the same a thousand times."""
UNSENT_KEPT: Final = 10_000
"""Some twenty minutes of series in a process that reports to nobody; Locust ends a worker that lost its master long before."""

_Steps = defaultdict[int, int]


class StreamSeries:
    """Series of streams as dicts of rounded values; the hot path adds to them directly."""

    __slots__ = ("ages", "gaps", "staleness")

    def __init__(self) -> None:
        self.gaps: _Steps = defaultdict(int)
        """Between the instants of two events of one attempt, as often as `StreamRecord.gaps` counts one."""
        self.ages: _Steps = defaultdict(int)
        """Receive instant minus the send time inside the event."""
        self.staleness: _Steps = defaultdict(int)
        """Age of the newest event, once a second and stream, disconnected ones too: their shares are those of stream time."""

    def take(self) -> list[tuple[str, Counts]]:
        """The series by their names in series.hlog; begins them anew."""
        taken = [("gap", self.gaps), ("age", self.ages), ("staleness", self.staleness)]
        self.gaps, self.ages, self.staleness = defaultdict(int), defaultdict(int), defaultdict(int)
        return list(taken)


def count_all(steps: _Steps, values_ns: Sequence[int]) -> None:
    """Counts several values, each as its step."""
    for value in values_ns:
        steps[value & STEP_MASKS[value.bit_length()]] += 1


class Lags:
    """A histogram of lags in ns as a dict of rounded values; `values` may be added to directly."""

    __slots__ = ("longest_ns", "values")

    def __init__(self) -> None:
        self.values: defaultdict[int, int] = defaultdict(int)
        self.longest_ns = 0

    def add(self, lag_ns: int) -> None:
        """Counts one lag; a negative one (a stamp newer than our own reading of the clock) counts as none."""
        lag_ns = max(lag_ns, 0)
        self.longest_ns = max(self.longest_ns, lag_ns)
        self.values[lag_ns & LAG_MASKS[lag_ns.bit_length()]] += 1

    def add_all(self, lags_ns: Sequence[int]) -> None:
        """Counts several at once."""
        if min(lags_ns) < 0:
            lags_ns = [max(0, lag) for lag in lags_ns]
        self.longest_ns = max(self.longest_ns, *lags_ns)
        count_all(self.values, lags_ns)

    def quantile(self, share: float) -> int | None:
        """The smallest kept value that at least this share of the lags do not exceed; None when there are none."""
        total = sum(self.values.values())
        if not total:
            return None
        ordered = sorted(self.values)
        wanted = share * total
        for value, below in zip(
            ordered, itertools.accumulate(self.values[each] for each in ordered), strict=True
        ):
            if below >= wanted:
                return value
        return ordered[-1]


class Metrics:
    """Counters of one worker process; the transport adds, `snapshot` reads."""

    def __init__(self, *, worker: int, variant: str | None = None) -> None:
        self.worker = worker
        self.variant = variant
        # Added to by the hot path.
        self.events = 0
        self.coalesced_reads = 0
        self.unstamped_reads = 0
        self.read_lags = Lags()
        self.judged = StreamSeries()
        self.warmup = StreamSeries()
        # Added to by each stream.
        self.started = 0
        self.ended = 0
        self.dropped = 0
        self.open_streams = 0
        self.pending_bytes = 0
        """A gauge, kept by the ledger."""
        self.master_offset_ns: int | None = None
        self.master_offset_error_ns: int | None = None
        self.unsent: deque[Interval] = deque(maxlen=UNSENT_KEPT)
        """Series that wait to be written or sent."""
        self._series_since_ns = now_ns()
        self._dispatch_lags = Lags()
        self._loop_lag_max_ns: int | None = None
        self._rig_errors: list[str] = []
        self._clock = ClockWatch()
        self._since_ns = time.monotonic_ns()
        self._cpu_ns = time.process_time_ns()
        self._waited_ns = run_queue_wait_ns()
        self._pressed_ns = cpu_pressure_ns()
        self._stolen = stolen_ticks()
        self._ticker: Any = None
        self._ticked_ns = 0

    @property
    def reads(self) -> int:
        """Reads since the last snapshot: each is counted once already, by its lag or as one without a stamp."""
        return sum(self.read_lags.values.values()) + self.unstamped_reads

    def start(self) -> None:
        """Starts the 10 ms timer in the hub of the calling thread; harmless when it runs already."""
        if self._ticker is None:
            self._ticked_ns = time.monotonic_ns()
            self._ticker = gevent.get_hub().loop.timer(TICK_S, TICK_S, ref=False)
            self._ticker.start(self._tick)

    def stop(self) -> None:
        """Stops the timer."""
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker.close()
            self._ticker = None

    def begin(self) -> None:
        """The load begins: the first interval does not reach back to the start of the process, and its lag is none."""
        self._series_since_ns = now_ns()
        self._since_ns = self._ticked_ns = time.monotonic_ns()
        self._cpu_ns, self._waited_ns = time.process_time_ns(), run_queue_wait_ns()
        self._pressed_ns, self._stolen = cpu_pressure_ns(), stolen_ticks()
        self._loop_lag_max_ns = None

    def _tick(self) -> None:
        now = time.monotonic_ns()
        late = max(0, now - self._ticked_ns - TICK_NS)
        self._ticked_ns = now
        if self._loop_lag_max_ns is None or late > self._loop_lag_max_ns:
            self._loop_lag_max_ns = late

    def dispatch_lag(self, lag_ns: int) -> None:
        """A start came this much later than the schedule said."""
        self._dispatch_lags.add(lag_ns)

    def rig_error(self, sentence: str) -> None:
        """Something of ours bent or ended a measurement; the next row names it."""
        if sentence not in self._rig_errors and len(self._rig_errors) < RIG_ERRORS_KEPT:
            self._rig_errors.append(sentence)

    def snapshot(self) -> GeneratorRow:
        """The row of the time since the last call; counters begin anew."""
        now_mono, cpu, waited = time.monotonic_ns(), time.process_time_ns(), run_queue_wait_ns()
        pressed, stolen = cpu_pressure_ns(), stolen_ticks()
        interval = max(1, now_mono - self._since_ns)
        reads = self.reads
        lags, self.read_lags = self.read_lags, Lags()
        dispatch, self._dispatch_lags = self._dispatch_lags, Lags()
        out_of_range = self._end_series(lags, dispatch)
        row = GeneratorRow(
            at_ns=now_ns(),
            worker=self.worker,
            variant=self.variant,
            pid=os.getpid(),
            interval_ns=interval,
            open_streams=self.open_streams,
            started=self.started,
            ended=self.ended,
            dropped=self.dropped,
            reads=reads,
            events=self.events,
            coalesced_reads=self.coalesced_reads,
            unstamped_reads=self.unstamped_reads,
            read_lag_p50_ns=lags.quantile(0.5),
            read_lag_p99_ns=lags.quantile(0.99),
            read_lag_max_ns=lags.longest_ns if lags.values else None,
            dispatch_lag_p99_ns=dispatch.quantile(0.99),
            dispatch_lag_max_ns=dispatch.longest_ns if dispatch.values else None,
            loop_lag_max_ns=self._loop_lag_max_ns,
            cpu_share=round((cpu - self._cpu_ns) / interval, 4),
            run_queue_share=_share(self._waited_ns, waited, interval),
            pressure_share=_share(self._pressed_ns, pressed, interval),
            steal_share=_steal_share(self._stolen, stolen),
            rss_bytes=rss_bytes(),
            pending_bytes=self.pending_bytes,
            out_of_range=out_of_range,
            clock_step_ns=self._clock.step_ns(),
            master_offset_ns=self.master_offset_ns,
            master_offset_error_ns=self.master_offset_error_ns,
            rig_error=" ".join(self._rig_errors) or None,
        )
        self._since_ns, self._cpu_ns, self._waited_ns = now_mono, cpu, waited
        self._pressed_ns, self._stolen = pressed, stolen
        self.started = self.ended = self.dropped = 0
        self.events = self.coalesced_reads = self.unstamped_reads = 0
        self._loop_lag_max_ns = None
        self._rig_errors = []
        return row

    def _end_series(self, reads: Lags, dispatches: Lags) -> int:
        """Ends the interval of every series; how many values their histograms can't hold."""
        start_ns, self._series_since_ns = self._series_since_ns, now_ns()
        ended = [(tag_of(name, self.variant), counts) for name, counts in self.judged.take()]
        ended += [(tag_of(name, self.variant, warmup=True), counts) for name, counts in self.warmup.take()]
        ended += [(tag_of("read-lag", self.variant), reads.values)]
        ended += [(tag_of("dispatch-lag", self.variant), dispatches.values)]
        total = 0
        for tag, counts in ended:
            held, out_of_range = within_range(counts)
            if counts:
                payload = encoded(held) if held else ""
                self.unsent.append(Interval(tag, start_ns, self._series_since_ns, payload, out_of_range))
            total += out_of_range
        return total


def run_queue_wait_ns() -> int | None:
    """How long the process's main thread has waited for a core since it began; None where the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None


def cpu_pressure_ns() -> int | None:
    """How long some process of this machine has waited for a core since it started; None where the kernel does not say."""
    try:
        some = Path("/proc/pressure/cpu").read_text("ascii").partition("\n")[0]
        return int(some.rpartition("total=")[2]) * 1_000
    except (OSError, ValueError):
        return None


def stolen_ticks() -> tuple[int, int] | None:
    """Clock ticks of all cores that a hypervisor took, and ticks in all; None where the kernel does not say."""
    try:
        with Path("/proc/stat").open("rb") as stat:
            fields = [int(field) for field in stat.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (fields[7], sum(fields)) if len(fields) == 8 else None


def rss_bytes() -> int | None:
    """Memory of this process that is resident now (its peak where the kernel does not say)."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _share(before: int | None, after: int | None, interval: int) -> float | None:
    if before is None or after is None:
        return None
    return round((after - before) / interval, 4)


def _steal_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round((after[0] - before[0]) / (after[1] - before[1]), 4)
