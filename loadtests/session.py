"""The stream client: makes the streams of one worker and one variant, and ends them.

`StreamClient.run` runs one logical stream to its end, `StreamClient.open` hands its events to the caller's own loop. The
stream itself is in stream.py, its connections in connector.py and transport.py.
"""

import collections
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urljoin

import gevent
import gevent.event
import msgspec
from msgspec import Struct

from sseproof.loadtests.connector import Connector
from sseproof.loadtests.dialects import Dialect, dialect_of
from sseproof.loadtests.fanout import Fanout
from sseproof.loadtests.kernel_stamps import warm_stamps
from sseproof.loadtests.metrics import Metrics
from sseproof.loadtests.offset import Offset
from sseproof.loadtests.payloads import Payload, Payloads, fields_of, filled, in_url, plainly, writer_for
from sseproof.loadtests.reconnect import Policy, policy
from sseproof.loadtests.request import (
    Endpoint,
    Request,
    build_request,
    checked_headers,
    parse_url,
    secret_query_values,
    secret_values,
    user_information,
)
from sseproof.loadtests.settings import Client, Target
from sseproof.loadtests.sse import (
    Message,
)
from sseproof.loadtests.stream import PROCESS_LEDGER, SETTLE_AFTER_NS, Ledger, Session
from sseproof.loadtests.transport import TLS
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, SuiteError, UsageError
from sseproof.rundir.groups import GroupRule, address_of, group_of
from sseproof.rundir.phases import phase_at
from sseproof.rundir.rows import (
    AddressPlan,
    BreakRow,
    Instant,
    PhasePlan,
    StartRow,
    StreamKind,
    StreamRecord,
)
from sseproof.rundir.text import Redactor, printable
from sseproof.rundir.variables import resolve_env

SAMPLING_NS: Final = 1_000_000
"""For so long at a time staleness is taken, and for as long others have their turn: of a stream with reads that wait it
takes 40 µs, and 500 of them in one go made each stream once a second get two events in one read."""
MOST_UNMADE: Final = 100
"""One odd stream, or some of them, leave the load as it is; with so many in one worker there is no load to speak of."""
TRUTH_HEADER: Final = "Sseproof-Stream"
"""Tells our own reference server which logical stream a connection belongs to."""
WATCH_S: Final = SETTLE_AFTER_NS / 1e9
"""How often streams that have gone quiet are looked for: 60 ns a stream, of 9,000 about half a millisecond."""
R = TypeVar("R", StartRow, BreakRow, StreamRecord)
Sink = Callable[[R], None]


class AttemptBudget:
    """What is left of `max_requests`: one is taken for each attempt."""

    def __init__(self, attempts: int) -> None:
        self.left = attempts

    def take(self) -> bool:
        """Takes one; False when there is none."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True


class _Job(Struct, frozen=True):
    """What a caller wants of one stream; None is the target's own."""

    path: str | None
    method: str | None
    json: object
    body: str | bytes | None
    headers: Mapping[str, str] | None
    name: str | None
    number: int | None
    intended: Instant | None
    group: str | None


class StreamClient:
    """Makes the streams of one worker and one variant."""

    def __init__(
        self,
        target: Target,
        client: Client,
        *,
        run: str,
        metrics: Metrics,
        seed: int = 0,
        worker: int = 0,
        variant: str | None = None,
        kind: StreamKind = "answer",
        addresses: Sequence[AddressPlan] = (),
        groups: GroupRule | None = None,
        identity_groups: Collection[str] = (),
        gap_edges_ns: Sequence[int] = (),
        on_start: Sink[StartRow] | None = None,
        on_break: Sink[BreakRow] | None = None,
        on_end: Sink[StreamRecord] | None = None,
        dialect: Dialect | None = None,
        budget: AttemptBudget | None = None,
        payloads: Payloads | None = None,
        own_server: bool = False,
        environ: Mapping[str, str] | None = None,
        ledger: Ledger = PROCESS_LEDGER,
        offset: Callable[[], Offset] | None = None,
    ) -> None:
        """Looks up `env:` values, checks URL and headers, starts the metrics' timer in this thread's hub.

        Raises UsageError when the target can't be used as it is written.
        """
        environ = os.environ if environ is None else environ
        url, secrets = resolve_env(target.url, environ)
        self._url = url
        self.endpoint = parse_url(url)
        self._headers: dict[str, str] = {}
        self._secret_headers = list(target.secret_headers)
        information = user_information(url)
        if information is not None:
            self._headers["Authorization"] = information
        for name, value in target.headers.items():
            resolved, found = resolve_env(value, environ)
            self._headers[name] = resolved
            secrets += found
            if found:
                self._secret_headers.append(name)
        self.dialect = dialect or _dialect(target)
        if self.dialect.accept is not None:
            self._headers = {"Accept": self.dialect.accept, **self._headers}
        self._headers = checked_headers(self._headers)
        self._body: str | None = None
        if target.body is not None:
            self._body, found = resolve_env(target.body, environ)
            secrets += found
        secrets += secret_values(self._headers.items(), self._secret_headers)
        self._secrets = frozenset(secrets)
        self.redact = Redactor(secrets)
        """Masks the secrets of the target; `masked` knows those of one call as well."""
        self._target = target
        self.client = client
        self.run_id = run
        self._seed = seed
        self.worker = worker
        self.variant = variant
        self.kind: StreamKind = kind
        self.metrics = metrics
        self.budget = budget
        self.ledger = ledger
        self.offset = offset
        """How far our clock is ahead of the master's, on another machine than that."""
        self.gap_edges_ns = list(gap_edges_ns)
        self.on_start: Sink[StartRow] = on_start or _nothing
        self.on_break: Sink[BreakRow] = on_break or _nothing
        self.on_end: Sink[StreamRecord] = on_end or _nothing
        self.policy: Policy = policy(client)
        self._own_server = own_server
        self._payloads = payloads
        self._own_requests: dict[bool, Request] = {}
        """With and without gzip."""
        self._url_has_fields = bool(fields_of(url))
        self._addresses = list(addresses)
        self._groups = groups
        self._identity_groups = frozenset(identity_groups)
        self.fanout = Fanout()
        self._sessions: dict[int, Session] = {}
        self._watch = gevent.get_hub().loop.timer(WATCH_S, WATCH_S, ref=False)
        self._next_number = 0
        self._unmade = 0
        self.warm_until_ns = 0
        """Streams that start before this instant are the warm-up's; 0 = there is none."""
        self.phases: list[PhasePlan] = []
        """Parts of the load, counted from `load_began_ns`, an instant by this worker's clock."""
        self.load_began_ns = 0
        self.closing: str | None = None
        """Why subscriptions are closed as soon as they are open; None while they are not."""
        self.connector = Connector(
            tls=TLS(ca=target.ca, insecure=target.insecure),
            metrics=metrics,
            allow=target.allow,
            secret_headers=self._secret_headers,
        )
        warm_stamps()
        metrics.start()

    def run(
        self,
        path: str | None = None,
        *,
        method: str | None = None,
        json: object = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        number: int | None = None,
        intended: Instant | None = None,
        group: str | None = None,
    ) -> StreamRecord:
        """One stream to its end at full speed; blocks the greenlet.

        `path` is relative to the target's URL, None is the URL itself; without `method` and body they are the target's.
        Raises UsageError for a path that leads to another host, RigError when a row can't be written or too many streams
        could not be made, and whatever kept this one from being made, when that is on record.
        """
        job = _Job(path, method, json, body, headers, name, number, intended, group)
        return self._made(job).run()

    def open(
        self,
        path: str | None = None,
        *,
        method: str | None = None,
        json: object = None,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        number: int | None = None,
        intended: Instant | None = None,
        group: str | None = None,
    ) -> "OpenStream":
        """One stream whose events the caller iterates over, in a `with` block; leaving it early ends it `stopped`."""
        job = _Job(path, method, json, body, headers, name, number, intended, group)
        return OpenStream(self._made(job))

    def resolved_addresses(self) -> list[str]:
        """The IP addresses that names of this client's streams resolved to so far."""
        return self.connector.resolved_addresses()

    def open_numbers(self) -> list[int]:
        """The streams that have begun and not ended, ascending."""
        return sorted(self._sessions)

    def sample_staleness(self) -> None:
        """Records for each open stream how old its newest event is; between slices of the work others run."""
        now = until = 0
        for number in list(self._sessions):
            if now >= until:
                gevent.sleep(SAMPLING_NS / 1e9)
                now = time.time_ns()
                until = now + SAMPLING_NS
            session = self._sessions.get(number)
            if session is not None:
                session.sample_staleness(now)
                now = time.time_ns()

    def stop_all(self, reason: str) -> None:
        """Ends every stream, now: end `stopped`; their rows follow as their greenlets wake."""
        for session in list(self._sessions.values()):
            session.stop(reason)

    def close_one_when_open(self, number: int, reason: str) -> None:
        """Ends one subscription as `close_when_open` ends all."""
        session = self._sessions.get(number)
        if session is not None:
            session.closing = reason
            session.close_if_open()

    def close_when_open(self, reason: str) -> None:
        """Ends every subscription as soon as it is open and has mended its last break (decision 6)."""
        self.closing = reason
        for session in list(self._sessions.values()):
            session.close_if_open()

    def masked(self, text: str, request: Request) -> str:
        """The text without the target's secrets and without those that this request carries.

        A call's own secrets are looked up where there is something to show, and not kept: each stream may have others.
        """
        if not text:
            return text
        carried = secret_values(request.headers, self._secret_headers) + secret_query_values(request.endpoint)
        own = [value for value in carried if value not in self._secrets]
        return (Redactor([*self._secrets, *own]) if own else self.redact)(text)

    def _made(self, job: "_Job") -> "Session":
        """The stream; one that an error of no known kind prevents is dropped, and the error named as the rig's."""
        number = self._next_number if job.number is None else job.number
        try:
            return self._session(job)
        except SuiteError:
            raise
        except Exception as error:
            # Not its words: they may quote what was to be sent, secrets included.
            place = traceback.extract_tb(error.__traceback__)[-1]
            told = (
                f"Stream {number} could not be made: {type(error).__name__} in {Path(place.filename).name}, "
                f"line {place.lineno}."
            )
            self.metrics.rig_error(told)
            self.drop(number, job.intended)
            self._unmade += 1
            if self._unmade >= MOST_UNMADE:
                raise RigError(
                    f"{MOST_UNMADE} streams of worker {self.worker} could not be made. {told}"
                ) from error
            raise

    def _session(self, job: "_Job") -> "Session":
        number = self._next_number if job.number is None else job.number
        self._next_number = max(self._next_number, number) + 1
        group = job.group
        if group is None and self._groups is not None:
            group = group_of(self._groups, number)
        payload = None if self._payloads is None else self._payloads.index_of(number)
        row = None if payload is None or self._payloads is None else self._payloads.rows[payload]
        request = self._request(job, row, gzip=self._target.gzip and group not in self._identity_groups)
        truth_id = None
        if self._own_server:
            truth_id = f"{self.run_id}/{self.variant or '-'}/{number}"
            request = request.with_header(TRUTH_HEADER, truth_id)
        return Session(
            self,
            request,
            number=number,
            name=self._named(job.name, request.endpoint),
            intended=job.intended,
            group=group,
            place=partial(self._place, group, number),
            queue_ns=max((each.queue_ns for each in self._addresses if each.group == group), default=0)
            or None,
            truth_id=truth_id,
            payload=payload,
            topic=self._topic_of(job, row),
            seed=self._seed,
        )

    def _topic_of(self, job: "_Job", payload: Payload | None) -> str | None:
        """The topic of a stream that asks what the scenario asks; what a test's own call asks may be something else."""
        topic = self._target.topic
        if topic is None or not (job.path is job.json is job.body is None):
            return None
        return printable(topic if payload is None else filled(topic, payload, plainly))

    def _request(self, job: "_Job", payload: Payload | None, *, gzip: bool) -> Request:
        """What a stream asks for; the target's own request is made once and shared by its streams."""
        if payload is not None or any(
            each is not None for each in (job.path, job.method, job.json, job.body, job.headers)
        ):
            return self._made_request(job, payload, gzip=gzip)
        if gzip not in self._own_requests:
            self._own_requests[gzip] = self._made_request(job, payload, gzip=gzip)
        return self._own_requests[gzip]

    def _made_request(self, job: "_Job", payload: Payload | None, *, gzip: bool) -> Request:
        endpoint, headers, body = self.endpoint, self._headers, self._body
        if payload is not None:
            if self._url_has_fields:
                endpoint = parse_url(filled(self._url, payload, in_url))
            if body is not None:
                body = filled(body, payload, writer_for(headers))
            headers = {name: filled(value, payload, plainly) for name, value in headers.items()}
        if job.path is not None:
            endpoint = parse_url(_joined(self._url, job.path))
            if endpoint.origin != self.endpoint.origin:
                raise UsageError(
                    f"The path {job.path!r} leads to another host than the target: give that host as the target's URL."
                )
        if job.json is not None:
            content = msgspec.json.encode(job.json)
        elif job.body is not None:
            content = job.body.encode() if isinstance(job.body, str) else job.body
        elif job.path is None and body is not None:
            content = body.encode()
        else:
            content = b""
        merged = dict(headers)
        for name, value in checked_headers(job.headers or {}).items():
            for known in [each for each in merged if each.lower() == name.lower()]:
                del merged[known]
            merged[name] = value
        default = self._target.method if job.path is None else "GET"
        return build_request(endpoint, job.method or default, merged, content, gzip=gzip)

    def _place(self, group: str | None, number: int, attempt: int) -> tuple[str, int] | None:
        """Where an attempt of this stream connects to: by the seeded rule, else its group's addresses in turn."""
        if self._groups is not None:
            planned = address_of(self._addresses, self._groups, number, attempt)
            if planned is not None:
                return planned.host, planned.port
        mine = [each for each in self._addresses if each.group == group]
        if mine:
            address = mine[number % len(mine)]
            return address.host, address.port
        if self._target.connect_to:
            host, _, port = self._target.connect_to.rpartition(":")
            if not host or not port.isdigit():
                raise UsageError(
                    f"connect_to = {self._target.connect_to!r} is not understood: write HOST:PORT."
                )
            return host.strip("[]"), int(port)
        return None

    def is_warmup(self, start: Instant) -> bool:
        """Whether a stream with this start, planned or real, belongs to the warm-up."""
        return start.ns < self.warm_until_ns

    def phase_of(self, start: Instant) -> str | None:
        """The planned phase that this start, planned or real, lies in; None in a run without phases."""
        return phase_at(self.phases, start.ns - self.load_began_ns)

    def drop(self, number: int, intended: Instant | None) -> None:
        """Puts a start on record that is not made: too many streams are open (decision 5), or it can't be made."""
        self.metrics.dropped += 1
        start = intended or Instant(now_ns())
        self.on_start(
            StartRow(
                stream=number,
                worker=self.worker,
                name=self._named(None, self.endpoint),
                variant=self.variant,
                group=None if self._groups is None else group_of(self._groups, number),
                phase=self.phase_of(start),
                warmup=self.is_warmup(start),
                intended=intended,
                dropped=True,
            )
        )

    @staticmethod
    def _named(name: str | None, endpoint: Endpoint) -> str:
        """The endpoint's name in tables: the caller's, else the path."""
        return name or endpoint.target.partition("?")[0]

    def began(self, session: "Session") -> None:
        """Puts a stream on the list of open ones."""
        if not self._sessions:
            self._watch.start(self._watch_silence)
        self._sessions[session.number] = session
        self.metrics.started += 1
        self.metrics.open_streams += 1

    def ended(self, session: "Session") -> None:
        """Takes a stream off that list."""
        if self._sessions.get(session.number) is session:
            del self._sessions[session.number]
            if not self._sessions:
                self._watch.stop()
            self.metrics.ended += 1
            self.metrics.open_streams -= 1

    def _watch_silence(self) -> None:
        at_ns = now_ns()
        for session in self._sessions.values():
            session.watch_silence(at_ns)


class OpenStream:
    """A stream whose events a test's own code takes one by one: `with client.open() as stream: for event in stream:`.

    Events that are known to be doubled are left out. After the block `record` holds the row.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue: collections.deque[Message] = collections.deque()
        self._ready = gevent.event.Event()
        self._opened = gevent.event.Event()
        self._was_opened = False
        self._over = False
        self._greenlet: Any = None
        self._error: BaseException | None = None
        session.listen(self)

    @property
    def number(self) -> int:
        """The stream's number."""
        return self._session.number

    @property
    def record(self) -> StreamRecord | None:
        """The row, None until the stream has ended."""
        return self._session.record

    def __enter__(self) -> Self:
        self._greenlet = gevent.spawn(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.stop("the test left the stream")
        self._greenlet.join()
        if self._error is not None:
            raise self._error

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        while not self._queue:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            self._ready.clear()
            self._ready.wait()
        message = self._queue.popleft()
        self._session.taken(message, len(self._queue))
        return message

    def wait_open(self) -> bool:
        """Blocks until an event stream is open (True), or until the stream has ended without one (False)."""
        self._opened.wait()
        return self._was_opened

    def header(self, name: str) -> str:
        """A header of the latest response by its lower case name, empty when it did not come."""
        return self._session.header(name)

    def opened(self) -> None:
        """An event stream is open. Called from the event loop."""
        self._was_opened = True
        self._opened.set()

    def push(self, message: Message) -> int:
        """One more event; how many wait now. Called from the event loop."""
        self._queue.append(message)
        self._ready.set()
        return len(self._queue)

    def over(self) -> None:
        """No further event will come."""
        self._over = True
        self._opened.set()
        self._ready.set()

    def _run(self) -> None:
        try:
            self._session.run()
        except BaseException as error:  # noqa: BLE001  # raised again in the greenlet that iterates
            self._error = error
        finally:
            self.over()


def _nothing(_: object) -> None:
    """The sink of rows that nobody keeps."""


def _joined(url: str, path: str) -> str:
    try:
        return urljoin(url, path)
    except ValueError:
        return path


def _dialect(target: Target) -> Dialect:
    try:
        return dialect_of(target)
    except ValueError as error:
        raise UsageError(f"[target] {error}.") from None
