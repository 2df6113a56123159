"""One clock for all processes: CLOCK_REALTIME in nanoseconds, because kernel receive stamps are on it.

CLOCK_REALTIME can be stepped (NTP, an administrator, a resumed virtual machine). A step shows as a change of
CLOCK_REALTIME - CLOCK_MONOTONIC; both are slewed alike, so ordinary NTP slewing does not show. A step over 1 ms is
recorded in generator.jsonl with the sampling interval in which it fell, and the checker widens every interval that
spans it (design.md "Clock").
"""

import time
from typing import Final

CLOCK_STEP_LIMIT_NS: Final = 1_000_000
"""Steps up to this size are lost in the jitter of reading two clocks one after the other."""

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

now_ns = time.time_ns


class ClockWatch:
    """Notices steps of the wall clock between two calls of `step_ns`."""

    def __init__(self) -> None:
        self._offset_ns = _offset_ns()

    def step_ns(self) -> int:
        """How far the wall clock was stepped since the last call, in ns; 0 where it is within the limit."""
        offset_ns = _offset_ns()
        step = offset_ns - self._offset_ns
        if abs(step) <= CLOCK_STEP_LIMIT_NS:
            return 0
        self._offset_ns = offset_ns
        return step


def _offset_ns() -> int:
    """CLOCK_REALTIME - CLOCK_MONOTONIC, from the closest of three readings (a reading can be preempted)."""
    best_width: int | None = None
    best = 0
    for _ in range(3):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if best_width is None or after - before < best_width:
            best_width = after - before
            best = wall - (before + after) // 2
    return best
