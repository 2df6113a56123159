"""What polls say about when a descriptor became ready, against instants that are known."""

import os
import subprocess
import sys
import threading
import time

import gevent
import pytest

from sseproof.loadtests import kernel_stamps, stamps
from sseproof.loadtests.kernel_stamps import warm_stamps
from sseproof.loadtests.stamps import PollClock, poll_clock
from sseproof.rundir.rows import Instant  # noqa: TC001  # a type only; the module is loaded anyway

pytestmark = pytest.mark.integration

MS = 1_000_000
PREEMPTED_NS = 200_000
"""Between a thread's reading of the clock and its write it can be preempted."""


class _Writer:
    """A thread that makes a pipe readable at instants it notes."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.written: list[tuple[int, int]] = []
        self._go = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self._open = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self) -> None:
        self._go.release()

    def _run(self) -> None:
        never = threading.Event()
        while self._go.acquire() and self._open:
            never.wait(0.003)  # by then the loop sleeps, unless somebody holds it
            before = time.time_ns()
            os.write(self._write_end, b"x")
            self.written.append((before, time.time_ns()))
            self.done.release()

    def close(self) -> None:
        self._open = False
        self._go.release()
        self._thread.join(5)
        os.close(self.read_end)
        os.close(self._write_end)


@pytest.mark.alone
def test_the_bracket_of_a_readiness_holds_the_instant() -> None:
    writer = _Writer()
    clock = poll_clock()
    seen: list[tuple[Instant, bool]] = []

    def readable() -> None:
        os.read(writer.read_end, 64)
        seen.append((clock.readiness(0), clock.slept))

    watcher = gevent.get_hub().loop.io(writer.read_end, 1)
    watcher.start(readable)
    try:
        for turn in range(60):
            gevent.sleep(0.003)
            writer.go()
            if turn % 3 == 2:
                assert writer.done.acquire(timeout=10)  # holds the hub
                time.sleep(0.01)  # what a user's code does
            with gevent.Timeout(10):
                while len(seen) <= turn:
                    gevent.sleep(0.002)
            if turn % 3 != 2:
                assert writer.done.acquire(timeout=10)
    finally:
        watcher.stop()
        watcher.close()
        writer.close()
    widths = []
    for (instant, slept), (before, after) in zip(seen, writer.written, strict=True):
        assert instant.lo_ns <= after + PREEMPTED_NS
        assert instant.hi_ns >= before
        if slept:
            widths.append(instant.before_ns)
    assert len(widths) > 20
    # A poll that slept is a good witness; where other work makes the process wait for a core it is rightly a worse one.
    assert min(widths) <= 2 * stamps.WAKE_NS


def test_a_readiness_is_never_before_what_is_known_otherwise() -> None:
    clock = poll_clock()
    gevent.sleep(0.01)
    known = clock.returned_ns - 1_000
    assert clock.readiness(known).lo_ns >= known
    later = clock.readiness(clock.returned_ns + 5 * MS)
    assert later.before_ns == 0


def test_what_may_have_been_ready_before_keeps_its_own_lower_end() -> None:
    clock = poll_clock()
    gevent.sleep(0.01)
    clock.slept = False
    known = clock.last_began_ns - 50 * MS
    assert clock.readiness(known, fresh=False).lo_ns == known
    assert clock.readiness(known).lo_ns > known


def test_a_crowded_poll_says_nothing_of_the_next() -> None:
    """libev takes 64 ready descriptors at first: others may wait for the poll after."""
    clock = PollClock(gevent.get_hub().loop)
    try:
        gevent.sleep(0.002)
        clock.slept = False
        clock._handled_before = stamps.CROWDED_READS
        assert clock.lower_bound() == 0
        clock._handled_before = 0
        assert clock.lower_bound() > 0
    finally:
        clock.close()


def test_without_the_kernels_count_the_bracket_is_the_whole_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "_open_schedstat", lambda: -1)
    clock = PollClock(gevent.get_hub().loop)
    try:
        with gevent.Timeout(10):
            while not clock.slept:
                gevent.sleep(0.03)
        assert clock.lower_bound() == clock.began_ns
    finally:
        clock.close()


def test_a_slow_poll_that_had_all_it_wanted_has_not_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hypervisor, or a thread with the interpreter, may hold it up: what it reports may be as old as the last poll."""
    writer = _Writer()
    clock = PollClock(gevent.get_hub().loop)
    bounds: list[tuple[bool, int]] = []

    def readable() -> None:
        os.read(writer.read_end, 64)
        bounds.append((clock.slept, clock.lower_bound()))

    pending = clock._pending
    monkeypatch.setattr(clock, "_pending", lambda timeout: (pending(timeout), time.sleep(0.001))[0])
    watcher = gevent.get_hub().loop.io(writer.read_end, 1)
    watcher.start(readable)
    try:
        for _ in range(10):
            gevent.sleep(0.002)
            writer.go()
            assert writer.done.acquire(timeout=10)  # holds the hub until it is written
            with gevent.Timeout(10):
                while len(bounds) < len(writer.written):
                    gevent.sleep(0)
    finally:
        watcher.stop()
        watcher.close()
        clock.close()
        writer.close()
    for (slept, lower), (_, after) in zip(bounds, writer.written, strict=True):
        assert not slept
        assert lower <= after + PREEMPTED_NS


def test_after_another_thread_had_the_interpreter_only_the_begin_of_the_poll_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PollClock, "_waited_ns", lambda _: 0)  # as on a machine that is ours alone
    clock = PollClock(gevent.get_hub().loop)
    try:
        with gevent.Timeout(10):
            # A descriptor that is stopped, but not forgotten, shows up once; and a loop that is late hardly sleeps.
            while not clock.slept or clock.returned_ns - clock.began_ns <= stamps.WAKE_NS:
                gevent.sleep(0.03)
        monkeypatch.setattr(stamps, "_waits", lambda: clock._waits + 1)
        assert clock.lower_bound() == clock.returned_ns - stamps.WAKE_NS
        monkeypatch.setattr(stamps, "_waits", lambda: clock._waits + 2)
        assert clock.lower_bound() == clock.began_ns
    finally:
        clock.close()


def test_a_patched_process_asks_the_kernel_too() -> None:
    """Under Locust `select` is gevent's, whose poll no callback of the loop may call."""
    code = (
        "import gevent.monkey; gevent.monkey.patch_all()\n"
        "import gevent\n"
        "from sseproof.loadtests.stamps import poll_clock\n"
        "clock = poll_clock()\n"
        "found = []\n"
        "for _ in range(10): gevent.sleep(0.002); found.append(clock.slept)\n"
        "assert sum(found) >= 8, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_where_readiness_cannot_be_asked_no_poll_counts_as_slept() -> None:
    class Loop:
        def fileno(self) -> int:
            raise AttributeError

    assert stamps._pending_of(Loop())(0)


def test_the_warm_socket_is_opened_once() -> None:
    warm_stamps()
    first = list(kernel_stamps._warm)
    warm_stamps()
    assert kernel_stamps._warm == first
