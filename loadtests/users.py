"""Locust users whose tasks run whole streams: `from sseproof import SSEUser`.

`self.sse.post(path, json=…)` runs one logical stream to its end at full speed and gives its StreamRecord;
`with self.sse.open("GET", path) as stream: for event in stream: …` hands over each event. When admission has ended,
both raise StopUser, which Locust takes as the user's regular end.
"""

# locust comes first: gevent must patch before anything imports ssl (RecursionError otherwise).
from locust import User, constant
from locust.exception import StopUser

# isort: split
import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import gevent
import gevent.event

from sseproof.loadtests.listeners import WorkerRun, run_of, stop_broken
from sseproof.loadtests.session import OpenStream
from sseproof.rundir.errors import SuiteError
from sseproof.rundir.rows import SUCCESSES, Instant, StreamRecord

REQUEST_TYPE: Final = "SSE"


class StreamError(Exception):
    """What Locust's failures page shows for a stream that did not end well: its outcome."""


class SSEClient:
    """Streams on behalf of one user."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._place: int | None = None

    def get(
        self, path: str | None = None, *, name: str | None = None, headers: Mapping[str, str] | None = None
    ) -> StreamRecord:
        """One GET stream to its end. `path` is relative to the target; None is the target itself."""
        return self.request("GET", path, name=name, headers=headers)

    def post(
        self,
        path: str | None = None,
        *,
        json: object = None,
        body: str | bytes | None = None,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> StreamRecord:
        """One POST stream to its end; `json` is encoded, `body` is sent as it is."""
        return self.request("POST", path, json=json, body=body, name=name, headers=headers)

    def request(
        self,
        method: str | None = None,
        path: str | None = None,
        *,
        json: object = None,
        body: str | bytes | None = None,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> StreamRecord:
        """One stream to its end; without arguments the scenario's own request."""
        run = run_of(self._environment)
        with self._admitted(run) as number:
            record = run.client.run(
                path, method=method, json=json, body=body, headers=headers, name=name, number=number
            )
            self._report(record)
            return record

    @contextlib.contextmanager
    def open(
        self,
        method: str = "GET",
        path: str | None = None,
        *,
        json: object = None,
        body: str | bytes | None = None,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[OpenStream]:
        """One stream, event by event; leaving the block early ends it as `stopped`."""
        run = run_of(self._environment)
        with self._admitted(run) as number:
            stream = run.client.open(
                path, method=method, json=json, body=body, headers=headers, name=name, number=number
            )
            try:
                with stream:
                    yield stream
            finally:
                if stream.record is not None:
                    self._report(stream.record)

    @property
    def by_schedule(self) -> bool:
        """Whether streams start by the scenario's schedule instead of one after the other."""
        return run_of(self._environment).load.is_open

    def walk(self) -> None:
        """Makes this worker's part of the schedule, then waits for the end of the run; each stream has a greenlet.

        A start that would make too many streams at once is dropped and put on record.
        """
        run = run_of(self._environment)
        try:
            for number, intended in run.planned_starts():
                if run.full:
                    run.client.drop(number, intended)
                    continue
                run.busy += 1
                gevent.spawn(self._planned, run, number, intended)
        except SuiteError as error:
            stop_broken(self._environment, error)
        gevent.event.Event().wait()  # a user that ends would be started again

    def _planned(self, run: WorkerRun, number: int, intended: Instant) -> None:
        try:
            self._report(run.client.run(number=number, intended=intended))
        except SuiteError as error:
            stop_broken(self._environment, error)
        except Exception as error:  # noqa: BLE001  # the client has put it on record, by stream
            print(f"sseproof: a planned stream ended in {type(error).__name__}", file=sys.stderr)
        finally:
            run.busy -= 1

    @contextlib.contextmanager
    def _admitted(self, run: WorkerRun) -> Iterator[int]:
        if run.load.is_staged:
            self._place = run.new_place() if self._place is None else self._place
            assert self._place is not None
            run.wait_for(self._place)
        number = run.admission.take()
        if number is None:
            raise StopUser
        run.busy += 1
        held = self._place is not None and run.target.kind == "subscription"
        ends = (
            run.ending_with(self._place, number)
            if held and self._place is not None
            else contextlib.nullcontext()
        )
        try:
            with ends:
                yield number
        except SuiteError as error:
            stop_broken(self._environment, error)
            raise StopUser from error
        finally:
            run.busy -= 1

    def _report(self, record: StreamRecord) -> None:
        """Feeds Locust's page: the response time is the TTFT, or the whole time of a stream without a token."""
        sent = record.sent or record.dispatched
        first = record.first_token or record.ended
        failed = record.outcome not in SUCCESSES
        self._environment.events.request.fire(
            request_type=REQUEST_TYPE,
            name=record.name,
            response_time=(first.ns - sent.ns) / 1e6,
            response_length=record.body_bytes,
            exception=StreamError(record.outcome) if failed else None,
            context={"stream": record.stream},
            start_time=sent.ns / 1e9,
            url=None,
            response=None,
        )


class SSEUser(User):
    """A Locust user with a stream client."""

    abstract = True
    wait_time = constant(0)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.sse = SSEClient(environment)

    @property
    def think_s(self) -> float:
        """The scenario's pause between two streams."""
        return run_of(self.environment).load.think.seconds
