"""Locust's own best streaming client on the bench source: FastHttpUser, one `readline` after another.

It does what a careful user of stock Locust would do: read lines, take `data:` lines, decode the JSON, note the age of
each event (user clock minus `sent_at`). What came is written to BENCH_RESULT by `received`.
"""

from locust import FastHttpUser, task

# isort: split
import received


class Reader(FastHttpUser):
    """One stream a user."""

    @task
    def read(self) -> None:
        """Reads until the test ends."""
        with self.client.get("/", stream=True, headers=received.HEADERS, catch_response=True) as response:
            readline = response._response.readline  # noqa: SLF001  # the only way that works (no buffering)
            received.read(iter(lambda: readline(b"\n"), b""))
