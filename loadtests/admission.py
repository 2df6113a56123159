"""Who may start, and under which number: admission of new streams in one process.

Stream numbers are `index + k * stride`, so that several workers never share one and a fixed number of streams is
split exactly. Admission ends after the duration, with the last number, with the attempt budget, or by order.
"""

import time
from typing import Protocol

import gevent.event

from sseproof.rundir.rows import AdmissionEnd


class Budget(Protocol):
    """What is left of `max_requests`."""

    @property
    def left(self) -> int:
        """Attempts that may still be made."""


class Admission:
    """Hands out stream numbers until admission ends."""

    def __init__(
        self,
        index: int,
        stride: int,
        *,
        streams: int | None,
        duration_ns: int | None,
        budget: Budget | None = None,
    ) -> None:
        self.stopped = False
        """The process is being told to stop; set by the listener that does so."""
        self.ended_by: AdmissionEnd | None = None
        """Why no further stream may start; None while one may."""
        self._next = index
        self._stride = stride
        self._streams = streams
        self._duration_ns = duration_ns
        self._deadline_ns: int | None = None
        self._budget = budget
        self._closed = gevent.event.Event()

    def start(self, now_ns: int) -> None:
        """The load begins; `now_ns` is monotonic."""
        if self._duration_ns is not None:
            self._deadline_ns = now_ns + self._duration_ns
        if self._streams is not None and self._next >= self._streams:
            self.close("numbers")

    def take(self) -> int | None:
        """The number of a new stream, None when none may start any more."""
        if self._closed.is_set():
            return None
        if self._deadline_ns is not None and time.monotonic_ns() >= self._deadline_ns:
            self.close("duration")
            return None
        if self._budget is not None and self._budget.left <= 0:
            self.close("requests")
            return None
        number = self._next
        if self._streams is not None and number >= self._streams:
            self.close("numbers")
            return None
        self._next += self._stride
        if self._streams is not None and self._next >= self._streams:
            self.close("numbers")
        return number

    @property
    def closed(self) -> bool:
        """Whether admission has ended."""
        return bool(self._closed.is_set())

    def close(self, why: AdmissionEnd) -> None:
        """No further stream may start; the first reason stays."""
        self.ended_by = self.ended_by or why
        self._closed.set()

    def wait_closed(self, at_most_s: float | None = None) -> None:
        """Blocks the greenlet until admission has ended, or for so long."""
        until = None if at_most_s is None else time.monotonic_ns() + round(at_most_s * 1e9)
        while not self._closed.is_set():
            ends = [end for end in (self._deadline_ns, until) if end is not None]
            if not ends:
                self._closed.wait()
                return
            left_s = (min(ends) - time.monotonic_ns()) / 1e9
            if left_s > 0:
                self._closed.wait(left_s)
            elif self._deadline_ns is not None and min(ends) == self._deadline_ns:
                self.close("duration")
            else:
                return
