"""Locust's own best streaming client on the bench source: FastHttpUser, one `readline` after another.

It does what a careful user of stock Locust would do: read lines, take `data:` lines, decode the JSON, note the age of
each event (user clock minus `sent_at`). The ages are written as a histogram of microseconds to BENCH_RESULT.
"""

from locust import FastHttpUser, events, task

# isort: split
import json
import os
import time
from pathlib import Path
from typing import Any

ages_us: dict[int, int] = {}


class Reader(FastHttpUser):
    """One stream a user."""

    @task
    def read(self) -> None:
        """Reads until the test ends."""
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        with self.client.get("/", stream=True, headers=headers, catch_response=True) as response:
            readline = response._response.readline  # noqa: SLF001  # the only way that works (no buffering)
            while line := readline(b"\n"):
                if line.startswith(b"data: "):
                    age = (time.time_ns() - json.loads(line[6:])["sent_at"]) // 1000
                    ages_us[age] = ages_us.get(age, 0) + 1


@events.quitting.add_listener
def _write(**_: Any) -> None:
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(ages_us), encoding="ascii")
