"""Reads of fast streams whose work waits a moment, so that several are parsed together.

Rules (design.md decisions 2 to 4):
- A read's kernel stamp says when its bytes arrived, so what is done with them can wait without bending anything: at
  50,000 events a second the work above the bare read falls by a third and more (a stream's objects are then in the
  processor's caches once, not sixteen times).
- Only reads that end as an event does wait, of a stream whose tokens come less than FAST_NS apart, and none longer than
  LONGEST_WAIT_NS; after NO_FURTHER_NS without a further one they are parsed, and before anything that ends the exchange.
- What waits is bounded: READS_TOGETHER reads of at most WAITING_READ_BYTES each.
"""

import weakref
from time import time_ns
from typing import Any, Final, Protocol

import gevent

READS_TOGETHER: Final = 16
WAITING_READ_BYTES: Final = 2_048
FAST_NS: Final = 30_000_000
NO_FURTHER_NS: Final = 40_000_000
LONGEST_WAIT_NS: Final = 200_000_000
STEADY_TOKENS: Final = 16
"""Tokens that came one a read before the next may wait: where several come in one read, nothing is saved."""
_LOOK_S: Final = 0.02


class Waiting(Protocol):
    """Somebody with reads that wait."""

    def waiting_since_ns(self) -> tuple[int, int]:
        """When the first and the last of them were read."""

    def catch_up(self) -> None:
        """Does the work."""


class Deferral:
    """Those of one hub that have reads waiting."""

    __slots__ = ("__weakref__", "_timer", "_waiting")

    def __init__(self, loop: Any) -> None:
        self._waiting: set[Waiting] = set()
        self._timer = loop.timer(_LOOK_S, _LOOK_S, ref=False)

    def add(self, waiting: Waiting) -> None:
        """Its first read waits."""
        if not self._waiting:
            self._timer.start(self._look, update=True)
        self._waiting.add(waiting)

    def discard(self, waiting: Waiting) -> None:
        """None of its reads waits any more."""
        self._waiting.discard(waiting)

    def _look(self) -> None:
        now = time_ns()
        for each in list(self._waiting):
            first, last = each.waiting_since_ns()
            if now - last > NO_FURTHER_NS or now - first > LONGEST_WAIT_NS or now < first:
                each.catch_up()
        if not self._waiting:
            self._timer.stop()


_deferrals: "weakref.WeakKeyDictionary[Any, Deferral]" = weakref.WeakKeyDictionary()


def deferral() -> Deferral:
    """That of the calling thread's hub."""
    hub = gevent.get_hub()
    found = _deferrals.get(hub)
    if found is None:
        found = _deferrals[hub] = Deferral(hub.loop)
    return found
