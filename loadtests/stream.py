"""One logical stream over as many attempts as its client's policy makes; from bytes to rows.

Rules (design.md "Outcomes", decisions 2, 4, 6, 11, 14):
- `Session.on_data` is the hot path: one call takes what one read brought, parses it and records it. No greenlet runs
  until the stream's end, or, where a test's own code iterates, until its next event. `_record` holds the rules for any
  read; `on_data` itself is their short form for a running stream's usual read, one token with an exact instant.
- A gap is the time between two events of one attempt, from its first token on and heartbeats left out; the silence that
  ends in an idle time-out is a gap of at least its length. The earlier events of a read have its whole bracket, and
  its gaps have that together: of them at most one is as long, two are at most half as long, and so on.
- An event is new unless its number came before. Without a number, an event that carries nothing to read (a greeting)
  is new only while the stream has received nothing else. After a restart everything is new again.
- A stream is stale while its newest event is older than half a second: the time since the last one, less that, is added
  when the next one comes, on whichever attempt, and at the end. The hot path does not add it up: `watch_silence` takes a
  stream that has gone quiet off it, so that the event which ends a long silence comes to `_record`.
- A break opens with every attempt that ends neither well nor by us. It is over with the first new event, with the 204
  that says there is nothing more, or when the client gives up.
- What is wrong at the end of the bytes counts only where the stream ended by itself: a cut connection leaves an
  unfinished event, which is dropped (sse.md L15), and accuses nobody.
- An event that was held back in memory beyond 256 MiB in one process ends the largest stream: ours to answer for.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from operator import sub
from typing import TYPE_CHECKING, Any, Final, Protocol

import gevent
import gevent.event

from sseproof.loadtests.connector import Attempted
from sseproof.loadtests.deferral import FAST_NS, STEADY_TOKENS
from sseproof.loadtests.dialects import Meaning, Reader
from sseproof.loadtests.dialects.plain import Plain
from sseproof.loadtests.metrics import count_all
from sseproof.loadtests.naive import NaiveParser
from sseproof.loadtests.reconnect import BreakState, GiveUp
from sseproof.loadtests.request import Request
from sseproof.loadtests.sse import (
    ILL_FORMED,
    MAX_EVENT_BYTES,
    Comment,
    Defect,
    Item,
    Message,
    Parser,
    sendable,
)
from sseproof.loadtests.tally import (
    LONG_PART_CHARS,
    PARTS_KEPT,
    Ending,
    Intervals,
    Numbers,
    Text,
    outcome_of,
)
from sseproof.loadtests.transport import Exchange, Limits
from sseproof.rundir.errors import SuiteError
from sseproof.rundir.rows import (
    STALE_AFTER_NS,
    Attempt,
    AttemptEnd,
    BreakRow,
    Instant,
    StartRow,
    StreamRecord,
)
from sseproof.rundir.seeds import named_random
from sseproof.rundir.series import STEP_MASKS
from sseproof.rundir.text import DETAIL_LIMIT_CHARS, printable

if TYPE_CHECKING:
    from sseproof.loadtests.session import StreamClient

SETTLE_AFTER_NS: Final = STALE_AFTER_NS // 5
"""A stream this long without an event is taken off the hot path. Looking is due twice before it is stale."""
PENDING_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Unfinished and unread events of one process (decision 14)."""
ATTEMPTS_IN_ROW: Final = 100
QUEUE_HIGH_EVENTS: Final = 1_000
QUEUE_LOW_EVENTS: Final = 100
"""A test that iterates more slowly than the server sends: reading stops, the server feels it (sse.md C30)."""

_PENDING_WORTH_COUNTING: Final = 1_024
_LAST: Final = frozenset({"terminal", "error"})
_WELL: Final[frozenset[AttemptEnd]] = frozenset({"terminal", "stopped"})


class Listener(Protocol):
    """Somebody who takes a stream's events one by one; called from the event loop's callbacks."""

    def opened(self) -> None:
        """An event stream is open."""

    def push(self, message: Message) -> int:
        """One more event; how many wait now."""

    def over(self) -> None:
        """No further event will come."""


class Ledger:
    """Memory that the streams of one process hold for events not finished or not read yet."""

    def __init__(self, limit_bytes: int = PENDING_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.total_bytes = 0
        self._held: dict[Session, int] = {}

    def change(self, session: "Session", held_bytes: int) -> None:
        """This stream now holds so much; beyond the limit the largest one is ended."""
        before = self._held.pop(session, 0)
        self.total_bytes += held_bytes - before
        if held_bytes:
            self._held[session] = held_bytes
        while self.total_bytes > self.limit_bytes and self._held:
            largest = max(self._held, key=self._held.__getitem__)
            self.total_bytes -= self._held.pop(largest)
            largest.out_of_memory(self.limit_bytes)


PROCESS_LEDGER: Final = Ledger()


class Break:
    """A disconnect that is not over yet."""

    __slots__ = ("doubled_before", "lost_before", "row")

    def __init__(self, row: BreakRow, lost_before: int | None, doubled_before: int) -> None:
        self.row = row
        self.lost_before = lost_before
        self.doubled_before = doubled_before


class Session:
    """One logical stream. The transport's callbacks fill it, its greenlet runs `run`."""

    __slots__ = (
        "_ages",
        "_attempt_number",
        "_attempts",
        "_attempts_total",
        "_beat_hi",
        "_beat_lo",
        "_beats",
        "_behind",
        "_body_bytes",
        "_break",
        "_breaks",
        "_calm_reads",
        "_client",
        "_coalesced",
        "_defects",
        "_detail",
        "_dispatched",
        "_edges",
        "_events",
        "_exchange",
        "_failed_in_a_row",
        "_first_event",
        "_first_token",
        "_forced",
        "_gaps",
        "_greeting_is_new",
        "_group",
        "_heartbeats",
        "_ill_formed",
        "_inside_event",
        "_intended",
        "_interruption",
        "_last_event_id",
        "_last_hi",
        "_last_lo",
        "_last_token_hi",
        "_last_token_lo",
        "_ledger",
        "_listener",
        "_metrics",
        "_naive",
        "_name",
        "_new_events",
        "_new_since_begin",
        "_newest",
        "_newest_sent",
        "_numbers",
        "_offset",
        "_parser",
        "_payload",
        "_pending",
        "_phase",
        "_place",
        "_queue_ns",
        "_queued_bytes",
        "_read",
        "_read_run",
        "_reader",
        "_reads_runs",
        "_request",
        "_retry_ms",
        "_rng",
        "_seed",
        "_series",
        "_split_chars",
        "_split_events",
        "_stale_gaps",
        "_stale_ns",
        "_started_mono_ns",
        "_steady",
        "_steady_tokens",
        "_stopping",
        "_streaming_at_stop",
        "_text",
        "_tokens",
        "_topic",
        "_total_events",
        "_total_new",
        "_truth_id",
        "_wake",
        "_warmup",
        "closing",
        "number",
        "record",
    )

    def __init__(
        self,
        client: "StreamClient",
        request: Request,
        *,
        number: int,
        name: str,
        intended: Instant | None,
        group: str | None,
        place: Callable[[int], tuple[str, int] | None],
        queue_ns: int | None,
        truth_id: str | None,
        payload: int | None,
        topic: str | None,
        seed: int,
    ) -> None:
        self.number = number
        self.record: StreamRecord | None = None
        self.closing: str | None = None
        """Why this subscription alone is closed as soon as it is open; None while it is not."""
        self._client = client
        self._request = request
        self._name = name
        self._intended = intended
        self._group = group
        self._place = place
        self._queue_ns = queue_ns
        self._truth_id = truth_id
        self._payload = payload
        self._topic = topic
        self._seed = seed
        self._rng: Any = None
        self._metrics = client.metrics
        self._series = client.metrics.judged
        self._ledger = client.ledger
        self._reader: Reader
        self._read: Callable[[Message], Meaning]
        self._begin_reading()
        self._offset = client.offset
        self._edges = client.gap_edges_ns
        self._dispatched = Instant(0)
        self._phase: str | None = None
        self._warmup = False
        self._started_mono_ns = 0
        self._stopping: str | None = None
        self._forced = False
        self._streaming_at_stop = False
        self._wake: Any = None
        self._interruption: BaseException | None = None
        self._listener: Listener | None = None
        self._queued_bytes = 0
        # over all attempts
        self._attempts: list[Attempt] = []
        self._attempts_total = 0
        self._break: Break | None = None
        self._breaks = 0
        self._failed_in_a_row = 0
        self._last_event_id = _seeded_id(request)
        self._retry_ms: int | None = None
        self._numbers = Numbers()
        self._text = Text()
        self._gaps = Intervals(self._edges)
        self._ages: Intervals | None = None
        self._newest_sent = 0
        self._beats: Intervals | None = None
        self._behind = None if topic is None else Intervals(self._edges)
        self._newest = 0
        self._stale_ns = 0
        self._stale_gaps = 0
        self._tokens = 0
        self._heartbeats = 0
        self._body_bytes = 0
        self._total_events = 0
        self._total_new = 0
        self._new_since_begin = 0
        self._defects: dict[str, int] = {}
        self._ill_formed = False
        self._inside_event = False
        self._last_token_lo = self._last_token_hi = 0
        self._detail = ""
        # of the attempt at hand
        self._attempt_number = 0
        self._exchange: Exchange | None = None
        self._naive = client.client.profile == "legacy"
        self._parser: Parser | NaiveParser = Parser()
        self._pending = 0
        self._events = 0
        self._new_events = 0
        self._steady = False
        self._steady_tokens = 0
        self._calm_reads = 0
        self._coalesced = 0
        self._split_events = 0
        self._split_chars = 0
        self._first_event: Instant | None = None
        self._first_token: Instant | None = None
        self._last_lo = 0
        self._last_hi = 0
        self._beat_lo = 0
        self._beat_hi = 0
        self._greeting_is_new = True

    # The greenlet's side.

    def listen(self, listener: "Listener") -> None:
        """Hands every event to somebody who iterates."""
        self._listener = listener

    def run(self) -> StreamRecord:
        """The stream, from its first row to its last; blocks the greenlet."""
        self._dispatched = Instant(time.time_ns())
        self._started_mono_ns = time.monotonic_ns()
        if self._intended is not None:
            # Our own lateness is the plan's error: had we been on time, the stream had begun anywhere in between.
            late_ns = max(0, self._dispatched.ns - self._intended.ns)
            # The schedule's start instant has an error of its own where another machine's clock said it.
            self._intended = Instant(
                self._intended.ns, self._intended.before_ns, max(self._intended.after_ns, late_ns)
            )
            self._metrics.dispatch_lag(late_ns)
        self._warmup = self._client.is_warmup(self._intended or self._dispatched)
        self._phase = self._client.phase_of(self._intended or self._dispatched)
        if self._warmup:
            self._series = self._metrics.warmup
        self._client.on_start(
            StartRow(
                stream=self.number,
                worker=self._client.worker,
                name=self._name,
                variant=self._client.variant,
                group=self._group,
                phase=self._phase,
                warmup=self._warmup,
                intended=self._intended,
                dispatched=self._dispatched,
            )
        )
        self._client.began(self)
        try:
            try:
                end, ended, status, retry_after = self._live()
            except (gevent.GreenletExit, gevent.Timeout, KeyboardInterrupt) as interruption:
                # Between two attempts; within one the connector calls on_interrupt.
                self.on_interrupt(interruption)
                self._mend_not("stopped")
                end, ended, status, retry_after = "stopped", Instant(time.time_ns()), None, False
            record = self._conclude(end, ended, status, retry_after=retry_after)
        except Exception as error:
            if not isinstance(error, SuiteError):
                self._metrics.rig_error(f"Stream {self.number} was ended by a fault of the suite: {error!r}.")
            raise
        finally:
            self._release()
        if self._interruption is not None:
            raise self._interruption
        return record

    def _release(self) -> None:
        self._queued_bytes = 0
        self._hold(0)
        self._client.ended(self)
        if self._listener is not None:
            self._listener.over()

    def stop(self, reason: str) -> None:
        """Ends the stream by our own decision; from any greenlet or callback of this hub."""
        if self._exchange is not None:
            self._exchange.catch_up()
        if self._stopping is not None:
            return
        self._stopping = reason
        self._detail = self._detail or reason
        exchange = self._exchange
        if exchange is not None and not exchange.over:
            self._streaming_at_stop = exchange.open
            exchange.stop(reason)
        if self._wake is not None:
            self._wake.set()

    def out_of_memory(self, limit_bytes: int) -> None:
        """This stream holds the most memory of all, and together they hold too much."""
        self._forced = True
        self._metrics.rig_error(
            f"Stream {self.number} was ended: the unfinished events of this process exceeded {limit_bytes >> 20} MiB."
        )
        self.stop(f"unfinished events of the process exceeded {limit_bytes >> 20} MiB")

    def sample_staleness(self, now_ns: int) -> None:
        """Records how old the newest event is now: since it was sent where that is known, else since it came."""
        if self._exchange is not None:
            self._exchange.catch_up()
        newest = self._newest_sent or self._last_hi or self._newest
        if self._newest_sent and self._offset is not None:
            newest += self._offset().ns  # sent by the master's clock
        if newest:  # before the first event there is only the TTFT
            age = now_ns - newest
            self._series.staleness[age & STEP_MASKS[age.bit_length()]] += 1

    def close_if_open(self) -> None:
        """Ends a subscription that is to be closed, if it is open and mended."""
        reason = self.closing or self._client.closing
        if (
            reason is not None
            and self._client.kind == "subscription"
            and self._break is None
            and self._exchange is not None
            and self._exchange.open
        ):
            self.stop(reason)

    def _begin_reading(self) -> None:
        """A reader for an answer that begins."""
        topic, dialect = self._topic, self._client.dialect
        self._reader = reader = dialect.reader()
        self._read = reader.read if topic is None else self._read_of_topic
        self._read_run = reader.read_run
        self._reads_runs = topic is None and reader.reads_runs

    def _live(self) -> tuple[AttemptEnd, Instant, int | None, bool]:
        """Attempts until the stream is over: how and when the last one ended, its status, whether it said Retry-After."""
        client = self._client
        limits = Limits.of(client.client.timeouts, self._started_mono_ns)
        restart = False
        send_id = True
        while True:
            if self._stopping is None and client.budget is not None and not client.budget.take():
                self._forced = True
                self._stopping = self._detail = "max_requests was reached"
            if self._stopping is not None:
                self._mend_not(self._stopping)
                return "stopped", Instant(time.time_ns()), None, False
            if restart:
                self._begin_anew()
            attempted = self._attempt(limits, send_id=send_id)
            exchange = attempted.exchange
            status = exchange.status if exchange is not None else None
            retry_after = exchange.retry_after_ms if exchange is not None else None
            outcome = attempted.end, attempted.ended, status, retry_after is not None
            if self._ends_well(attempted):
                return outcome
            self._open_break(attempted, status)
            decision = client.policy.after(
                attempted.end,
                BreakState(
                    failed_in_a_row=self._failed_in_a_row,
                    got_events=self._total_new > 0,
                    has_last_event_id=bool(self._last_event_id)
                    and client.dialect.resumable
                    and sendable(self._last_event_id),
                    server_retry_ms=self._retry_ms,
                    retry_after_ms=retry_after,
                    status=status,
                    terminal_known=not self._reader.may_end,
                    kind=client.kind,
                ),
                self._random(),
            )
            if isinstance(decision, GiveUp):
                self._mend_not(decision.reason)
                return outcome
            if time.monotonic_ns() + decision.delay_ns >= limits.deadline_ns:
                self._mend_not("total-timeout")
                return outcome
            assert self._break is not None
            self._break.row.waits_ns.append(decision.delay_ns)
            self._wait(decision.delay_ns)
            restart = decision.restart
            send_id = decision.send_last_event_id

    def _attempt(self, limits: Limits, *, send_id: bool) -> Attempted:
        """One attempt, and its row."""
        client = self._client
        self._attempt_number += 1
        last_event_id, note = self._last_event_id if send_id else "", ""
        if self._last_event_id and not sendable(self._last_event_id):
            last_event_id, note = "", "Last-Event-ID holds control characters and was not sent"
        request = self._request
        if last_event_id:
            request = request.with_header("Last-Event-ID", last_event_id)
            if client.dialect.resumes_by_get:
                request = request.as_get()
        elif self._attempt_number > 1:
            self._begin_reading()  # to the server it is a new request, which is answered from the beginning
        if self._naive:
            self._parser = NaiveParser()
        else:
            self._parser = Parser(self._last_event_id)
        self._steady = False
        self._events = self._new_events = 0
        self._coalesced = self._split_events = self._split_chars = 0
        self._first_event = self._first_token = None
        self._last_lo = self._last_hi = 0
        self._beat_lo = self._beat_hi = 0
        self._greeting_is_new = self._new_since_begin == 0
        if self._break is not None:
            self._break.row.attempts += 1
            self._break.row.resumed = bool(last_event_id)
        attempted = client.connector.attempt(request, self._place(self._attempt_number), limits, self)
        self._close_attempt(attempted, last_event_id or None, note)
        return attempted

    def _close_attempt(self, attempted: Attempted, last_event_id: str | None, note: str) -> None:
        """Takes over what the next attempt needs, and keeps the row of this one."""
        exchange = attempted.exchange
        parser = self._parser
        self._settle()
        self._hold(0)
        if attempted.end == "idle-timeout" and self._first_token is not None:
            silence = attempted.ended.ns - self._last_hi
            self._gaps.add_unended(silence)
            self._series.gaps[silence & STEP_MASKS[silence.bit_length()]] += 1
        if attempted.end == "idle-timeout" and self._beats is not None:
            alive = max(self._last_hi, self._beat_hi)
            if alive:
                self._beats.add_unended(attempted.ended.ns - alive)
        if attempted.end == "eof" and not self._may_go_on():
            for item in parser.close():
                if isinstance(item, Defect):
                    self._defect(item)
            # Behind the last words of a model's answer nothing is missed; of a plain one, nobody knows what was to come.
            self._inside_event = parser.ended_in_data and isinstance(self._reader, Plain)
        self._last_event_id = parser.last_event_id
        if parser.retry_ms is not None:
            self._retry_ms = parser.retry_ms
        if self._first_token is not None:
            self._gaps.sum_ns += self._last_hi - self._first_token.ns
        self._total_events += self._events
        self._total_new += self._new_events
        self._new_since_begin += self._new_events
        self._failed_in_a_row = 0 if self._new_events else self._failed_in_a_row + 1
        self._body_bytes += exchange.body_bytes if exchange is not None else 0
        row = Attempt(
            number=self._attempt_number,
            address=attempted.address,
            local_port=exchange.local_port if exchange is not None else None,
            started=attempted.started,
            connected=attempted.connected,
            secured=attempted.secured,
            sent=attempted.sent,
            headers=exchange.head_received if exchange is not None else None,
            first_byte=exchange.first_byte if exchange is not None else None,
            first_event=self._first_event,
            first_token=self._first_token,
            last_event=Instant(self._last_hi, self._last_hi - self._last_lo) if self._last_hi else None,
            ended=attempted.ended,
            end=attempted.end,
            status=exchange.status if exchange is not None else None,
            redirects=attempted.redirects,
            retry_after_ms=exchange.retry_after_ms if exchange is not None else None,
            last_event_id=self._shown_id(last_event_id),
            gzip=exchange.gzip if exchange is not None else False,
            received_bytes=attempted.received_bytes,
            body_bytes=exchange.body_bytes if exchange is not None else 0,
            events=self._events,
            new_events=self._new_events,
            reads=attempted.reads,
            split_events=self._split_events,
            split_chars=self._split_chars,
            coalesced_reads=self._coalesced,
            unstamped_reads=attempted.unstamped_reads,
            read_lag_max_ns=attempted.read_lag_max_ns,
            detail=self._client.masked(
                "; ".join(part for part in (attempted.detail, note) if part), self._request
            ),
        )
        self._attempts_total += 1
        if len(self._attempts) >= ATTEMPTS_IN_ROW:
            self._attempts.pop()  # the last one matters more than the one before it
        self._attempts.append(row)

    def _shown_id(self, last_event_id: str | None) -> str | None:
        """What was sent as Last-Event-ID, fit for a row: the service chose it, and may repeat in it what it was asked."""
        if last_event_id is None or last_event_id.isdigit():
            return last_event_id if last_event_id is None else last_event_id[:DETAIL_LIMIT_CHARS]
        return printable(self._client.masked(last_event_id, self._request))

    def _may_go_on(self) -> bool:
        """A clean end is taken for a cut: a terminal marker is known and did not come, or streams here are endless."""
        return not self._reader.may_end or self._client.kind == "subscription"

    def _ends_well(self, attempted: Attempted) -> bool:
        """Whether nothing is left to be mended after this attempt."""
        end = attempted.end
        if end == "no-content" and self._total_new:
            self._mend(attempted.ended.lo_ns, attempted.ended.ns)
            return True
        if end == "eof" and not self._may_go_on():
            return self._events > 0
        if end == "stopped":
            self._mend_not(self._stopping or "stopped")
        return end in _WELL

    def _begin_anew(self) -> None:
        """The client restarts the answer: what was received is discarded."""
        self._numbers = Numbers()
        self._text = Text()
        self._tokens = 0
        self._last_token_lo = self._last_token_hi = 0
        self._last_event_id = ""
        self._new_since_begin = 0

    def _wait(self, delay_ns: int) -> None:
        """Waits at least so long (sse.md C20), unless the stream is stopped."""
        until = time.monotonic_ns() + delay_ns
        self._wake = gevent.event.Event()
        while self._stopping is None and (left_ns := until - time.monotonic_ns()) > 0:
            self._wake.wait(left_ns / 1e9)
        self._wake = None

    def _random(self) -> Any:
        if self._rng is None:
            self._rng = named_random(self._seed, "client", self._client.variant or "-", self.number)
        return self._rng

    # Breaks.

    def _open_break(self, attempted: Attempted, status: int | None) -> None:
        if self._break is not None:
            return
        self._breaks += 1
        row = BreakRow(
            stream=self.number,
            number=self._breaks,
            worker=self._client.worker,
            variant=self._client.variant,
            group=self._group,
            phase=self._phase,
            proxy_queue_ns=self._queue_ns,
            attempt=self._attempt_number,
            seen=attempted.ended,
            end=attempted.end,
            status=status,
            waits_ns=[],
        )
        self._break = Break(row, self._lost(), self._numbers.doubled)

    def _mend(self, lo_ns: int, hi_ns: int) -> None:
        """The break is over: something new came."""
        if self._break is None:
            return
        exchange = self._exchange
        row = self._break.row
        row.first_new = Instant(hi_ns, hi_ns - lo_ns)
        if exchange is not None:
            row.connected, row.sent = exchange.connected, exchange.sent
        self._close_break()
        self.close_if_open()

    def _mend_not(self, reason: str) -> None:
        """The break is over: nothing new will come."""
        if self._break is not None:
            self._break.row.gave_up = reason
            self._close_break()

    def _close_break(self) -> None:
        broken, self._break = self._break, None
        assert broken is not None
        row = broken.row
        row.server_retry_ms = self._retry_ms if self._parser.retry_ms is None else self._parser.retry_ms
        if self._numbers.known:
            lost = self._lost()
            row.lost = None if lost is None else max(0, lost - (broken.lost_before or 0))
            row.doubled = max(0, self._numbers.doubled - broken.doubled_before)
        self._client.on_break(row)

    def _lost(self) -> int | None:
        """Numbers that never came; None where that is for other subscribers of the topic to say."""
        return None if self._topic is not None else self._numbers.lost()

    # The callbacks' side.

    def on_exchange(self, exchange: Exchange) -> None:
        """A connection of this attempt is about to start."""
        self._exchange = exchange
        if self._stopping is not None:
            exchange.stop(self._stopping)

    def on_open(self) -> None:
        """Status 200 and an event stream."""
        if self._listener is not None:
            self._listener.opened()
        self.close_if_open()

    def header(self, name: str) -> str:
        """A header of the latest response, empty without one."""
        return self._exchange.header(name) if self._exchange is not None else ""

    def on_data(self, data: bytes, lower_ns: int, stamp_ns: int, exact: bool) -> None:
        """What one read brought: parsed and recorded. The hot path.

        Most reads of a running stream are one token whose instant is exact, next in number to the one before, which was
        exact too. For these everything that `_record` asks is known (`_steady`), and what it writes is one counter, the
        instant, a gap, an age and the text. What is here is what `_record` would do.
        """
        parser = self._parser
        items = parser.receive(data)
        meaning = None
        if self._steady and exact and len(items) == 1:
            item = items[0]
            if type(item) is Message and item.end == parser.offset:
                meaning = self._read(item)
                sequence = meaning.sequence
                numbers = self._numbers
                if meaning.kind == "token" and (sequence == numbers.next or sequence is None):
                    if sequence is not None:
                        numbers.next = sequence + 1
                    gap = stamp_ns - self._last_hi
                    self._last_hi = stamp_ns
                    self._steady_tokens += 1
                    self._metrics.events += 1
                    self._series.gaps[gap & STEP_MASKS[gap.bit_length()]] += 1
                    # Intervals.add_exact, twice, without the call; `longest_hi_ns` is never the shorter one.
                    gaps = self._gaps
                    gaps.exact[bisect_left(self._edges, gap)] += 1
                    if gap > gaps.longest_lo_ns:
                        gaps.longest_lo_ns = gap
                        if gap > gaps.longest_hi_ns:  # noqa: PLR1730  # a call costs more than the comparison
                            gaps.longest_hi_ns = gap
                    sent_at = meaning.sent_at_ns
                    if sent_at is not None:
                        self._newest_sent = sent_at
                        age = stamp_ns - sent_at
                        ages = self._ages
                        if ages is None or self._offset is not None:
                            self._age(age, age)
                        else:
                            self._series.ages[age & STEP_MASKS[age.bit_length()]] += 1
                            ages.exact[bisect_left(self._edges, age)] += 1
                            if age > ages.longest_lo_ns:
                                ages.longest_lo_ns = age
                                if age > ages.longest_hi_ns:  # noqa: PLR1730  # a call costs more than the comparison
                                    ages.longest_hi_ns = age
                            ages.sum_ns += age
                    # Text.add, without the call
                    text = meaning.text
                    parts = self._text.parts
                    parts.append(text)
                    if len(parts) >= PARTS_KEPT or len(text) >= LONG_PART_CHARS:
                        self._text.flush()
                    if gap < FAST_NS and self._steady_tokens >= STEADY_TOKENS and self._reads_runs:
                        assert self._exchange is not None
                        self._exchange.defer()
                    return
        self._settle()
        before_ns = self._last_hi
        self._record(items, data, lower_ns, stamp_ns, exact, meaning=meaning)
        self._steady = (
            self._first_token is not None
            and self._last_lo == self._last_hi
            and self._break is None
            and self._listener is None
            and not self._pending
            and not self._naive
        )
        # A generator that is behind gets several events a read; that must not keep it from saving work.
        self._calm_reads = self._calm_reads + 1 if self._steady and self._reads_runs else 0
        if self._calm_reads >= STEADY_TOKENS and self._last_hi - before_ns < FAST_NS:
            assert self._exchange is not None
            self._exchange.defer()

    def on_run(self, bodies: list[bytes], stamps_ns: list[int], lowers_ns: list[int]) -> bool:
        """What several reads of a steady stream brought: tokens alone, or nothing is changed and it is False.

        As `on_data` would one by one.
        """
        parser = self._parser
        self._calm_reads = 0
        if not self._steady or isinstance(parser, NaiveParser):
            return False
        body = b"".join(bodies)
        blocks = parser.run(body)
        run = None if blocks is None else self._read_run(blocks)
        if blocks is None or run is None:
            return False
        count = len(blocks)
        numbers = self._numbers
        if run.sequences is not None:
            following = numbers.next + count
            if run.sequences != list(range(numbers.next, following)):
                return False
            numbers.next = following
        parser.take_run(len(body), blocks[-1][0])
        self._metrics.events += count
        if count == len(bodies):
            self._one_a_read(stamps_ns, run.sent_at_ns)
        else:
            counts = [each.count(b"\n\n") for each in bodies]
            self._several_a_read(counts, stamps_ns, lowers_ns, run.sent_at_ns)
        if run.sent_at_ns is not None:
            self._newest_sent = run.sent_at_ns[-1]
        self._text.add("".join(run.texts))
        return True

    def _one_a_read(self, stamps_ns: list[int], sent_at_ns: list[int] | None) -> None:
        """The instants of tokens that came alone."""
        gaps = list(map(sub, stamps_ns, [self._last_hi, *stamps_ns[:-1]]))
        self._gaps.add_run(gaps)
        count_all(self._series.gaps, gaps)
        self._last_hi = stamps_ns[-1]
        self._steady_tokens += len(stamps_ns)
        if sent_at_ns is None:
            return
        ages = list(map(sub, stamps_ns, sent_at_ns))
        if self._offset is not None:
            for age in ages:
                self._age(age, age)
            return
        if self._ages is None:
            self._ages = Intervals(self._edges)
        self._ages.add_run(ages)
        self._ages.sum_ns += sum(ages)
        count_all(self._series.ages, ages)

    def _several_a_read(
        self, counts: list[int], stamps_ns: list[int], lowers_ns: list[int], sent_at_ns: list[int] | None
    ) -> None:
        """The instants of tokens some of which came together: of these only the last one has the stamp."""
        self._settle()
        gaps, steps, last_lo, last_hi = self._gaps, self._series.gaps, self._last_lo, self._last_hi
        at = 0
        for count, stamp, lower in zip(counts, stamps_ns, lowers_ns, strict=True):
            if count > 1:
                self._coalesced += 1
                self._metrics.coalesced_reads += 1
            span, shared = stamp - last_lo, 0
            for left in range(count - 1, -1, -1):
                low = min(lower, stamp) if left else stamp
                gap = stamp - last_hi
                steps[gap & STEP_MASKS[gap.bit_length()]] += 1
                if low == stamp and last_lo == last_hi <= low:
                    gaps.add_exact(gap)
                else:
                    shared += 1
                    gaps.add(low - last_hi, span // shared)
                last_lo, last_hi = low, stamp
                if sent_at_ns is not None:
                    self._age(low - sent_at_ns[at], stamp - sent_at_ns[at])
                    at += 1
        tokens = sum(counts)
        self._events += tokens
        self._new_events += tokens
        self._tokens += tokens
        self._newest = self._last_lo = self._last_hi = self._last_token_lo = self._last_token_hi = last_hi

    def _settle(self) -> None:
        """Writes down what steady tokens left unwritten."""
        tokens = self._steady_tokens
        if tokens:
            self._steady_tokens = 0
            self._events += tokens
            self._new_events += tokens
            self._tokens += tokens
            self._newest = self._last_lo = self._last_token_lo = self._last_token_hi = self._last_hi

    def watch_silence(self, now_ns: int) -> None:
        """Takes a stream without an event for SETTLE_AFTER_NS off the hot path, until its next one."""
        waiting = self._exchange is not None and self._exchange.reads_wait
        if self._steady and not waiting and now_ns - self._last_hi > SETTLE_AFTER_NS:
            self._settle()
            self._steady = False

    def _record(
        self,
        items: list[Item],
        data: bytes,
        lower_ns: int,
        stamp_ns: int,
        exact: bool,
        *,
        meaning: Meaning | None = None,
    ) -> None:
        """What one read brought, by all the rules; `meaning` is that of its only event, where that was asked for already.

        Some dialects count what they read (MCP its responses), so an event is read once.
        """
        parser = self._parser
        offset = parser.offset
        if not items:
            self._unfinished()
            return
        last = items[-1]
        last_end = -1 if isinstance(last, Defect) else last.end
        # Of a CR LF that ends the block the item ends with the CR; nothing but the LF follows.
        whole = last_end == offset or (last_end == offset - 1 and data.endswith(b"\r\n"))
        exact_end = last_end if exact and whole else -1
        exchange = self._exchange
        assert exchange is not None
        several = len(items) > 1
        if several or exact_end < 0:
            lower_ns = exchange.arrival_lower_ns()
        events = 0
        span = shared = 0
        numbers = self._numbers
        for item in items:
            if type(item) is not Message:
                if type(item) is Comment:
                    alone = exact and not several and not data[-2:].strip(b"\r\n") and offset - item.end <= 2
                    self._heartbeat(stamp_ns if alone else exchange.arrival_lower_ns(), stamp_ns)
                elif type(item) is Defect:
                    self._defect(item)
                continue
            events += 1
            low = stamp_ns if item.end == exact_end else lower_ns
            if meaning is None or several:
                meaning = self._read(item)
            kind = meaning.kind
            if kind == "heartbeat":
                self._heartbeat(low, stamp_ns)
                if meaning.sequence is not None:
                    numbers.add(meaning.sequence)
                if self._listener is not None:
                    self._hand_out(item)
                continue
            previous = self._last_hi
            if not previous:
                self._first_event = Instant(stamp_ns, stamp_ns - low)
                exchange.first_event_seen()
            elif self._first_token is None:
                pass  # a greeting is no part of the text: the wait for the first token is the TTFT
            elif low == stamp_ns and self._last_lo == previous and low >= previous:
                gaps = self._gaps
                gap = stamp_ns - previous
                self._series.gaps[gap & STEP_MASKS[gap.bit_length()]] += 1
                gaps.exact[bisect_left(self._edges, gap)] += 1
                if gap > STALE_AFTER_NS:
                    self._stale_gaps += 1
                if gap > gaps.longest_lo_ns:  # noqa: PLR1730  # a call costs more than the comparison
                    gaps.longest_lo_ns = gap
                if gap > gaps.longest_hi_ns:  # noqa: PLR1730  # a call costs more than the comparison
                    gaps.longest_hi_ns = gap
            else:
                gap = stamp_ns - previous
                self._series.gaps[gap & STEP_MASKS[gap.bit_length()]] += 1
                if not shared:
                    span = stamp_ns - self._last_lo
                shared += 1
                self._gaps.add(low - previous, span // shared)
            self._last_lo = low
            self._last_hi = stamp_ns
            # An end that is the answer itself is read like a token.
            said = kind == "token" or (kind == "terminal" and meaning.text != "")
            if self._newest or said:
                self._stale_ns += self._stale_until(stamp_ns)
                self._newest = stamp_ns
            sequence = meaning.sequence
            new = True
            if sequence is None:
                if kind == "other":
                    new = self._greeting_is_new
            elif sequence == numbers.next:
                numbers.next = sequence + 1
            else:
                new = numbers.add(sequence)
            if said and self._first_token is None:
                self._first_token = Instant(stamp_ns, stamp_ns - low)
            if meaning.sent_at_ns is not None:
                self._newest_sent = max(self._newest_sent, meaning.sent_at_ns)
                self._age(low - meaning.sent_at_ns, stamp_ns - meaning.sent_at_ns)
            if new and kind != "error":
                self._new_events += 1
                if self._break is not None:
                    self._mend(low, stamp_ns)
                if said:
                    self._tokens += 1
                    self._last_token_lo = low
                    self._last_token_hi = stamp_ns
                    self._text.add(meaning.text)
                if self._listener is not None:
                    self._hand_out(item)
            if kind in _LAST:
                self._end_by(item, meaning, low, stamp_ns)
                break
            if self._stopping is not None:
                break
        if events:
            self._events += events
            self._metrics.events += events
            if events > 1:
                self._coalesced += 1
                self._metrics.coalesced_reads += 1
        if not whole or self._naive:
            self._unfinished()
        elif self._pending:
            self._hold(0)

    def _read_of_topic(self, message: Message) -> Meaning:
        """As the dialect reads it, and compared with when other subscribers received it."""
        meaning = self._reader.read(message)
        sequence = meaning.sequence
        if sequence is not None and sequence >= self._numbers.next:
            assert self._exchange is not None
            assert self._topic is not None
            assert self._behind is not None
            self._client.fanout.arrived(self._topic, sequence, self._exchange.read_instant().ns, self._behind)
        return meaning

    def on_interrupt(self, interruption: BaseException) -> None:
        """The stream's greenlet is being ended from outside: what is there is recorded first, then it goes on."""
        self._interruption = self._interruption or interruption
        self.stop("interrupted")

    def _heartbeat(self, lo_ns: int, hi_ns: int) -> None:
        """A sign of life without news, and how long there was none before it on this connection."""
        self._heartbeats += 1
        since_lo, since_hi = max(self._last_lo, self._beat_lo), max(self._last_hi, self._beat_hi)
        if since_hi:
            if self._beats is None:
                self._beats = Intervals(self._edges)
            self._beats.add(lo_ns - since_hi, hi_ns - since_lo)
            self._beats.sum_ns += max(hi_ns - since_hi, 0)
        self._beat_lo, self._beat_hi = lo_ns, hi_ns

    def _stale_until(self, ns: int) -> int:
        """For how long the newest event had been too old by then; 0 before the first."""
        return max(0, ns - self._newest - STALE_AFTER_NS) if self._newest else 0

    def _stale(self, end: AttemptEnd, ended: Instant) -> int | None:
        """The stale time of the whole stream; None where it is not known."""
        first_above = bisect_left(self._edges, STALE_AFTER_NS) + 1
        counted = sum(self._gaps.exact[first_above:])
        if not self._newest or counted != self._stale_gaps:
            return None
        return self._stale_ns + (0 if end == "terminal" else self._stale_until(ended.ns))

    def _defect(self, defect: Defect) -> None:
        self._defects[defect.kind] = self._defects.get(defect.kind, 0) + defect.count
        if defect.kind in ILL_FORMED:
            self._ill_formed = True
        if defect.kind == "too-big" and self._exchange is not None:
            detail = f"an event of more than {MAX_EVENT_BYTES >> 20} MiB"
            self._exchange.finish("too-big", self._exchange.read_instant(), detail)

    def _end_by(self, message: Message, meaning: Meaning, lo_ns: int, hi_ns: int) -> None:
        """An event that ends the stream at once; the server may finish its framing, an error's connection is closed."""
        assert self._exchange is not None
        ended = Instant(hi_ns, hi_ns - lo_ns)
        if meaning.kind == "terminal":
            self._exchange.finish("terminal", ended, linger=True)
        else:
            self._exchange.finish("inband-error", ended, printable(message.data))

    def _age(self, lo_ns: int, hi_ns: int) -> None:
        if self._offset is not None:  # the sender's instant is taken to be by the master's clock
            offset = self._offset()
            lo_ns -= offset.ns + offset.error_ns
            hi_ns -= offset.ns - offset.error_ns
        self._series.ages[hi_ns & STEP_MASKS[hi_ns.bit_length()]] += 1
        if self._ages is None:
            self._ages = Intervals(self._edges)
        if lo_ns == hi_ns:
            self._ages.add_exact(hi_ns)
        else:
            self._ages.add(lo_ns, hi_ns)
        self._ages.sum_ns += hi_ns

    def _unfinished(self) -> None:
        """The read ended inside an event, or brought no event."""
        parser = self._parser
        if parser.in_event:
            self._split_events += 1
            if parser.in_char:
                self._split_chars += 1
        pending = parser.pending_bytes
        if pending > _PENDING_WORTH_COUNTING or self._pending:
            self._hold(pending)

    def _hold(self, pending_bytes: int) -> None:
        """Tells the process's ledger what this stream holds in memory."""
        self._pending = pending_bytes
        self._ledger.change(self, pending_bytes + self._queued_bytes)
        self._metrics.pending_bytes = self._ledger.total_bytes

    # Events for a test that iterates.

    def _hand_out(self, message: Message) -> None:
        assert self._listener is not None
        waiting = self._listener.push(message)
        self._queued_bytes += len(message.data)
        self._hold(self._pending)
        if waiting > QUEUE_HIGH_EVENTS and self._exchange is not None:
            self._exchange.pause()

    def taken(self, message: Message, waiting: int) -> None:
        """The listener has taken an event out of its queue; so many are left."""
        self._queued_bytes = max(0, self._queued_bytes - len(message.data))
        self._hold(self._pending)
        if waiting < QUEUE_LOW_EVENTS and self._exchange is not None:
            self._exchange.resume()

    # The row.

    def _conclude(
        self, end: AttemptEnd, ended: Instant, status: int | None, *, retry_after: bool
    ) -> StreamRecord:
        client = self._client
        numbers, text = self._numbers, self._text
        text.flush()
        lost = self._lost()
        told = numbers.known and not numbers.blind
        damaged = bool(
            lost
            or numbers.doubled
            or numbers.reordered
            or text.fffd
            or (self._ill_formed and end != "too-big")
        )
        outcome = outcome_of(
            Ending(
                end=end,
                kind=client.kind,
                terminal_known=not self._reader.may_end,
                got_events=self._total_new > 0,
                last_got_events=self._events > 0,
                streaming=self._streaming_at_stop,
                unfinished=self._forced,
                retry_after=retry_after,
                status=status,
                limited=self._reader.limited,
                declined=self._reader.declined,
                damaged=damaged,
                inside_event=self._inside_event,
            )
        )
        attempts = self._attempts
        last_event = next(
            (each.last_event for each in reversed(attempts) if each.last_event is not None), None
        )
        self.record = record = StreamRecord(
            stream=self.number,
            worker=client.worker,
            name=self._name,
            variant=client.variant,
            group=self._group,
            phase=self._phase,
            proxy_queue_ns=self._queue_ns,
            kind=client.kind,
            warmup=self._warmup,
            intended=self._intended,
            dispatched=self._dispatched,
            sent=_first(each.sent for each in attempts),
            headers=_first(each.headers for each in attempts),
            first_byte=_first(each.first_byte for each in attempts),
            first_event=_first(each.first_event for each in attempts),
            first_token=_first(each.first_token for each in attempts),
            last_token=(
                Instant(self._last_token_hi, self._last_token_hi - self._last_token_lo)
                if self._last_token_hi
                else None
            ),
            last_event=last_event,
            ended=ended,
            outcome=outcome,
            end=end,
            status=status,
            attempts=attempts,
            attempts_total=self._attempts_total,
            breaks=self._breaks,
            events=self._total_events,
            tokens=self._tokens,
            heartbeats=self._heartbeats,
            body_bytes=self._body_bytes,
            ids=numbers.ranges(),
            ids_capped=numbers.capped,
            topic=self._topic,
            gaps=self._gaps.row(),
            heartbeat_gaps=self._beats.row() if self._beats is not None else None,
            behind=self._behind.row() if self._behind is not None else None,
            stale_ns=self._stale(end, ended),
            ages=self._ages.row() if self._ages is not None else None,
            lost=lost,
            doubled=numbers.doubled if told else None,
            reordered=numbers.reordered if told else None,
            defects=self._defects,
            fffd=text.fffd,
            text_chars=text.chars,
            text_bytes=text.bytes,
            text_sha256=text.sha256,
            truth_id=self._truth_id,
            payload=self._payload,
            detail=client.masked(self._detail, self._request) or (attempts[-1].detail if attempts else ""),
        )
        client.on_end(record)
        return record


def _first(instants: Iterator[Instant | None]) -> Instant | None:
    return next((each for each in instants if each is not None), None)


def _seeded_id(request: Request) -> str:
    """A Last-Event-ID that the user's own headers begin with (sse.md C03)."""
    return next((value for name, value in request.headers if name.lower() == "last-event-id"), "")
