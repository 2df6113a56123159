"""What a stock Locust client of the bench does with its lines, and what it says at its end; each locustfile imports it.

BENCH_RESULT gets JSON: `ages_ms`, the age (user clock minus `sent_at`) in ms, with its count, of the events that came
between the two instants of BENCH_WINDOW (seconds since the epoch); `received`, how many came in all; and `lost`, events
numbered below the last one of their stream that never came.
"""

from locust import events

# isort: split
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import gevent

HEADERS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}

_ages_us: dict[int, int] = {}
_in_window: list[dict[int, int]] = []
_received: list[int] = []
_lost: list[int] = []


@events.init.add_listener
def _watch(**_: Any) -> None:
    """A new count at both ends of the window: the events themselves are spared the question."""
    begins, ends = (float(word) for word in os.environ["BENCH_WINDOW"].split())
    gevent.spawn_later(begins - time.time(), _turn)
    gevent.spawn_later(ends - time.time(), _turn)


def _turn() -> None:
    global _ages_us  # noqa: PLW0603
    _in_window.append(_ages_us)
    _ages_us = {}


def read(lines: Iterable[bytes]) -> None:
    """One stream; Locust ends it by an exception at the end of the test."""
    count = 0
    last = b"id: 0"
    try:
        for line in lines:
            if line.startswith(b"data: "):
                age = (time.time_ns() - json.loads(line[6:])["sent_at"]) // 1000
                _ages_us[age] = _ages_us.get(age, 0) + 1
                count += 1
            elif line.startswith(b"id: "):
                last = line
    finally:
        _received.append(count)
        # An event may have been cut between its id and its data.
        _lost.append(max(0, int(last[4:]) - count - 1))


@events.quitting.add_listener
def _write(**_: Any) -> None:
    ages = _in_window[1] if len(_in_window) > 1 else {}
    said = {
        "ages_ms": {us / 1000: count for us, count in ages.items()},
        "received": sum(_received),
        "lost": sum(_lost),
    }
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(said), encoding="ascii")
