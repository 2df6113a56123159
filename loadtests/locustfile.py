"""The scenario's own load: each user runs the target's stream again and again until admission ends.

`locust -f loadtests/locustfile.py --host http://127.0.0.1:8000/api/v1/stream/chat` works too, with Locust's options
and web page. Locust loads this file by its path, so everything is imported by its full name.
"""

from locust import task

from sseproof.loadtests.users import SSEUser


class ScenarioUser(SSEUser):
    """Runs the target's stream as the scenario describes it."""

    def wait_time(self) -> float:
        """The scenario's think time."""
        return self.think_s

    @task
    def stream(self) -> None:
        """One stream to its end; in an open loop this worker's part of the schedule."""
        if self.sse.by_schedule:
            self.sse.walk()
        else:
            self.sse.request()
