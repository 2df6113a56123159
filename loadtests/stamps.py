"""When something happened on a socket, where the kernel gives no stamp: what the event loop's polls say about it.

Rules (design.md decisions 3 and 4, measurement.md 2.3, capacity.md "How"):
- Connects, FIN and RST carry no stamp. A poll of the event loop reports whatever is ready when it ends, so something
  that this poll reported was not ready when the poll before was harvested; and where nothing at all was ready when this
  poll began, it came later and woke us, so it happened at most the wake-up time before the poll returned.
- Whether something was ready is asked of the kernel just before each poll (0.6 µs): how long a poll took says nothing,
  since the hypervisor or another thread of the process can hold up one that had all it wanted.
- The wake-up time is WAKE_NS plus the time the process waited for a core, which the kernel counts (schedstat). Where we
  gave the core up more than once, another thread may have had the interpreter meanwhile: then only the poll's begin counts.
"""

import os
import resource
import select
import weakref
from collections.abc import Callable
from time import time_ns
from typing import Any, Final

import gevent
import gevent.monkey

from sseproof.rundir.rows import Instant

WAKE_NS: Final = 200_000
"""From an event's arrival to the return of the poll that slept on it, the wait for a core apart. Measured on a loaded
2-core virtual machine, 1,500 times: p99 12 µs, at most 53 µs."""
QUICK_NS: Final = 30_000
"""After a poll that took less, the next is not asked about either: polls then follow each other closely, and the begin of
the last one is bound enough. At 50,000 events a second the questions would cost a tenth of the processor."""
CROWDED_READS: Final = 48
"""From about 64 ready descriptors on, one poll may leave some to the next (libev's first event array)."""
_SAMPLE_EVERY_NS: Final = 10_000_000
_WHOSE: Final = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class PollClock:
    """When the polls of one hub began and returned, in CLOCK_REALTIME ns."""

    __slots__ = (
        "__weakref__",
        "_check",
        "_handled_before",
        "_last_slept",
        "_last_waits",
        "_next_sample_ns",
        "_pending",
        "_prepare",
        "_samples",
        "_schedstat",
        "_waits",
        "began_ns",
        "handled",
        "last_began_ns",
        "last_returned_ns",
        "polls",
        "returned_ns",
        "slept",
    )

    def __init__(self, loop: Any) -> None:
        now = time_ns()
        self.polls = 0
        self.handled = 0
        """Reads since the last poll returned; whoever reads adds to it."""
        self.began_ns = self.returned_ns = self.last_began_ns = self.last_returned_ns = now
        self._handled_before = 0
        self.slept = self._last_slept = False
        """Whether nothing is known to have been ready when the last poll began: all that it reported came later."""
        self._pending = _pending_of(loop)
        self._waits = self._last_waits = 0
        self._schedstat = _open_schedstat()
        self._samples = [(now, self._waited_ns())] * 2
        self._next_sample_ns = now + _SAMPLE_EVERY_NS
        # After all other prepare watchers (gevent runs its callbacks in one), before all others after the poll.
        self._prepare = loop.prepare(ref=False, priority=loop.MINPRI)
        self._prepare.start(self._before_poll)
        self._check = loop.check(ref=False, priority=loop.MAXPRI)
        self._check.start(self._after_poll)

    def close(self) -> None:
        """Stops watching; for hubs that end before their process."""
        for watcher in (self._prepare, self._check):
            watcher.stop()
            watcher.close()
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1

    def _before_poll(self) -> None:
        quick = self.returned_ns - self.began_ns < QUICK_NS
        self.last_began_ns = self.began_ns
        self.began_ns = time_ns()  # before the question: what is not ready then comes after this instant
        self._last_slept, self._last_waits = self.slept, self._waits
        self.slept = not quick and not self._pending(0)
        if self.slept:
            self._waits = _waits()

    def _after_poll(self) -> None:
        self.last_returned_ns = self.returned_ns
        self.returned_ns = now = time_ns()
        self.polls += 1
        self._handled_before = self.handled
        self.handled = 0
        if now > self._next_sample_ns:
            self._samples = [self._samples[1], (now, self._waited_ns())]
            self._next_sample_ns = now + _SAMPLE_EVERY_NS

    def lower_bound(self) -> int:
        """The earliest that something which the last poll reported can have become ready.

        Only valid for a descriptor that was watched, and not ready, when the poll before that returned.
        """
        if self.slept:
            return self._woken(self.began_ns, self.returned_ns, self._waits)
        if self._handled_before >= CROWDED_READS:
            return 0
        if not self._last_slept:
            return self.last_began_ns
        return self._woken(self.last_began_ns, self.last_returned_ns, self._last_waits)

    def readiness(self, not_before_ns: int, *, fresh: bool = True) -> Instant:
        """The moment of something without a stamp that the last poll reported; `not_before_ns` is known otherwise.

        `fresh` is False when it may have been ready at the poll before already.
        """
        returned = self.returned_ns
        lower = not_before_ns
        if fresh or self.slept:
            lower = max(lower, self.lower_bound())
        lower = min(lower, returned)
        return Instant(returned, returned - lower)

    def _woken(self, began_ns: int, returned_ns: int, waits: int) -> int:
        """The harvest of a poll that slept: not before it began, not earlier than our wake-up time before it returned."""
        if returned_ns - WAKE_NS <= began_ns or _waits() - waits > 1:
            return began_ns
        waited = self._waited_since(began_ns)
        return began_ns if waited is None else max(began_ns, returned_ns - WAKE_NS - waited)

    def _waited_since(self, since_ns: int) -> int | None:
        """An upper bound of the time we waited for a core since then; None when it is not known."""
        waited = self._waited_ns()
        if waited < 0:
            return None
        for at_ns, before in reversed(self._samples):
            if at_ns <= since_ns:
                return waited - before
        return None

    def _waited_ns(self) -> int:
        """This thread's whole wait for a core so far; -1 where the kernel does not say."""
        if self._schedstat < 0:
            return -1
        try:
            return int(os.pread(self._schedstat, 128, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return -1


_clocks: "weakref.WeakKeyDictionary[Any, PollClock]" = weakref.WeakKeyDictionary()


def poll_clock() -> PollClock:
    """The poll clock of the calling thread's hub."""
    hub = gevent.get_hub()
    clock = _clocks.get(hub)
    if clock is None:
        clock = _clocks[hub] = PollClock(hub.loop)
    return clock


def _open_schedstat() -> int:
    """The thread's own file, kept open: it stays this thread's whoever reads it."""
    try:
        return os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _pending_of(loop: Any) -> Callable[[int], object]:
    """A question, asked with 0: is any descriptor that the loop watches ready? Where it can't be asked, always yes."""
    try:
        # Locust patches the module: gevent's own poll would switch, which no callback of the loop may.
        poll = gevent.monkey.get_original("select", "poll")()
        poll.register(loop.fileno(), select.POLLIN)
    except (AttributeError, OSError, TypeError, ValueError):
        return lambda _: True
    asked: Callable[[int], object] = poll.poll
    return asked


def _waits() -> int:
    """How often this thread gave the core up to wait for something."""
    return resource.getrusage(_WHOSE).ru_nvcsw
