"""What a stock Locust client of the bench does with its lines, and what it says at its end; each locustfile imports it.

BENCH_RESULT gets JSON: `ages_ms`, the age of each event (user clock minus `sent_at`) in ms with its count, and `lost`,
events numbered below the last one of their stream that never came.
"""

from locust import events

# isort: split
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

HEADERS: Final = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}

_ages_us: dict[int, int] = {}
_lost: list[int] = []


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
        # An event may have been cut between its id and its data.
        _lost.append(max(0, int(last[4:]) - count - 1))


@events.quitting.add_listener
def _write(**_: Any) -> None:
    said = {"ages_ms": {us / 1000: count for us, count in _ages_us.items()}, "lost": sum(_lost)}
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(said), encoding="ascii")
