"""Locust's ordinary client on the bench source: HttpUser (requests), `iter_lines`.

As most answers on the net have it, with `chunk_size` None: each HTTP chunk is handed on as it has arrived.
What came is written to BENCH_RESULT by `received`.
"""

from locust import HttpUser, task

# isort: split
import received


class Reader(HttpUser):
    """One stream a user."""

    @task
    def read(self) -> None:
        """Reads until the test ends."""
        with self.client.get("/", stream=True, headers=received.HEADERS, catch_response=True) as response:
            received.read(response.iter_lines(chunk_size=None))
