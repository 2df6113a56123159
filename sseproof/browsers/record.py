"""A page's account of one stream as the rows of any other stream (pure).

Rules:
- Instants are those at which the page's code got something, moved to our clock. Their bracket is the error of that move
  plus one step of the page's clock to either side: browsers coarsen it. What the browser itself needed until then is the
  client's, as it is for whoever sits before it.
- The move is bounded as NTP does it: our clock was read between the page's sending and receiving (`loadtests.offset`).
- A page can't tell FIN from RST, nor 204 from an error: a connection that broke is `fin`, and its detail says so. When a
  browser reconnects by itself the beginning lies between the end of the connection before and the answer.
- An account lies within the time in which its stream was read, give or take what a clock may step: else it is refused, since
  one instant of another century would stretch every axis of the report.
- What events mean, which numbers they have and what the text is, is read as in a load run: by the target's dialect.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.browsers.posts import Exchange, PageAttempt, PageEnd, PageEvent
from sseproof.loadtests.dialects import Dialect, Meaning
from sseproof.loadtests.offset import Offset, OffsetEstimate
from sseproof.loadtests.sse import Message
from sseproof.loadtests.tally import Ending, Intervals, Numbers, Text, outcome_of
from sseproof.rundir.rows import (
    STALE_AFTER_NS,
    Attempt,
    AttemptEnd,
    BreakRow,
    Instant,
    StreamRecord,
)
from sseproof.rundir.text import printable

_NS_PER_MS: Final = 1_000_000
_NS_PER_US: Final = 1_000
ATTEMPTS_IN_ROW: Final = 100
"""As of a load run's streams; the last one matters more than the one before it."""
SLACK_NS: Final = 30_000_000_000
"""What a clock may be unknown by, or step meanwhile."""
NOT_TOLD: Final = "the browser does not tell FIN from RST"
_ENDS: Final[dict[PageEnd, AttemptEnd]] = {
    "terminal": "terminal",
    "broken": "fin",
    "ended": "eof",
    "refused": "refused",
    "status": "status",
    "content-type": "content-type",
    "no-content": "no-content",
    "idle-timeout": "idle-timeout",
    "total-timeout": "total-timeout",
    "too-big": "too-big",
    "inband-error": "inband-error",
    "given-up": "stopped",
}


_BREAKS: Final = frozenset({"fin", "eof", "refused", "idle-timeout"})
"""Ends that leave an answer unfinished where nothing follows."""
_GAVE_UP: Final = frozenset({"total-timeout", "status", "no-content", "inband-error", "too-big"})


class Place(Struct, kw_only=True, frozen=True):
    """What the plan says of one stream."""

    variant: str
    stream: int
    worker: int
    group: str | None
    address: str
    """host:port that the page was given."""
    truth_id: str
    gap_edges_ns: list[int]
    read_ns: tuple[int, int]
    """By our clock: when the page said that it begins, and when it told the account."""


class Rows(Struct, kw_only=True):
    """What one stream leaves behind."""

    record: StreamRecord
    breaks: list[BreakRow]


class PageClock:
    """The page's instants by our clock."""

    def __init__(self, exchanges: Sequence[Exchange], resolution_ms: float) -> None:
        """At least one exchange. Raises ValueError when none of them can be."""
        self.resolution_ns = round(resolution_ms * _NS_PER_MS)
        """One step of the page's clock."""
        estimate = OffsetEstimate()
        for each in exchanges:
            # A coarse clock may show the answer before the question, by up to a step at either end.
            sent_ns = round(each.sent_ms * _NS_PER_MS) - self.resolution_ns
            received_ns = round(each.received_ms * _NS_PER_MS) + self.resolution_ns
            estimate.add(sent_ns, round(each.ours_us * _NS_PER_US), received_ns)
        last_ns = round(max(each.received_ms for each in exchanges) * _NS_PER_MS)
        offset = estimate.at(last_ns)
        if offset is None:
            raise ValueError("no exchange ends after it began")
        self._estimate = estimate
        self.offset: Offset = offset

    def instant(self, at_ms: float, until_ms: float | None = None) -> Instant:
        """A moment, or one that lies between two."""
        at_ns = round(at_ms * _NS_PER_MS)
        offset = self._estimate.at(at_ns) or self.offset
        error_ns = offset.error_ns + self.resolution_ns
        later_ns = 0 if until_ms is None else max(0, round((until_ms - at_ms) * _NS_PER_MS))
        return Instant(at_ns - offset.ns, error_ns, error_ns + later_ns)


def rows_of(place: Place, clock: PageClock, attempts: Sequence[PageAttempt], dialect: Dialect) -> Rows:
    """The rows of one stream. Raises ValueError for an account of another time."""
    _check_times(place.read_ns, clock, attempts)
    return _Reader(place, clock, dialect).rows(attempts)


def _check_times(read_ns: tuple[int, int], clock: PageClock, attempts: Sequence[PageAttempt]) -> None:
    if clock.offset.error_ns > SLACK_NS:
        raise ValueError("nobody knows what its clock shows")
    told_ms = [
        at_ms
        for each in attempts
        for at_ms in (each.started_ms, each.ended_ms, each.opened_ms, *(event.at_ms for event in each.events))
        if at_ms is not None
    ]
    first, last = clock.instant(min(told_ms)), clock.instant(max(told_ms))
    if first.ns < read_ns[0] - SLACK_NS or last.ns > read_ns[1] + SLACK_NS:
        raise ValueError("it tells of another time than that in which the stream was read")


class _Reader:
    """One stream, connection by connection."""

    def __init__(self, place: Place, clock: PageClock, dialect: Dialect) -> None:
        self._place = place
        self._clock = clock
        self._reader = dialect.reader()
        self._numbers = Numbers()
        self._text = Text()
        self._gaps = Intervals(place.gap_edges_ns)
        self._attempts: list[Attempt] = []
        self._breaks: list[BreakRow] = []
        self._open: BreakRow | None = None
        self._doubled_before = 0
        self._lost_before = 0
        self._last_id = ""
        self._events = self._tokens = self._heartbeats = self._new = 0
        self._stale_ns = 0
        self._newest: Instant | None = None
        self._last_token: Instant | None = None

    def rows(self, attempts: Sequence[PageAttempt]) -> Rows:
        """The rows of the whole stream."""
        for number, each in enumerate(attempts, start=1):
            self._attempt(number, each, last=number == len(attempts))
        return Rows(record=self._record(attempts), breaks=self._breaks)

    def _attempt(self, number: int, page: PageAttempt, *, last: bool) -> None:
        clock = self._clock
        ours = number > 1 and page.opened_ms is not None
        started = clock.instant(page.started_ms, page.opened_ms if ours else None)
        sent_id = self._last_id or None if number > 1 else None
        row = Attempt(
            number=number,
            address=self._place.address,
            started=started,
            sent=started if number == 1 else None,
            headers=None if page.opened_ms is None else clock.instant(page.opened_ms),
            ended=clock.instant(page.ended_ms),
            end=_ENDS[page.end],
            status=page.status if page.opened_ms is None else 200,
            last_event_id=None if sent_id is None else printable(sent_id, 200),
            detail=_detail(page),
        )
        previous: Instant | None = None
        for event in page.events:
            previous = self._event(row, event, previous)
        if len(self._attempts) >= ATTEMPTS_IN_ROW:
            self._attempts.pop()
        self._attempts.append(row)
        self._events += row.events
        self._new += row.new_events
        if not last or row.end in _BREAKS:
            self._broken(number, row, page, last=last)
        if last and self._open is not None:
            self._open.gave_up = row.end if row.end in _GAVE_UP else "the client gave up"
            self._close()

    def _event(self, row: Attempt, event: PageEvent, previous: Instant | None) -> Instant | None:
        """One event of a connection; gives the instant that the next gap counts from."""
        at = self._clock.instant(event.at_ms)
        message = Message(event.type, event.data, event.id, 0, bool(event.id))
        meaning = self._reader.read(message)
        row.events += 1
        if event.id:
            self._last_id = event.id
        if meaning.kind == "heartbeat":
            self._heartbeats += 1
            return previous
        row.first_event = row.first_event or at
        row.last_event = at
        if previous is not None and row.first_token is not None:
            # Both instants are by the same clock: its offset cancels out, its steps do not.
            step = at.ns - previous.ns
            coarse = 2 * self._clock.resolution_ns
            self._gaps.add(step - coarse, step + coarse)
            self._gaps.sum_ns += max(step, 0)
        said = meaning.kind == "token" or (meaning.kind == "terminal" and meaning.text != "")
        if self._newest is not None or said:
            self._stale_ns += self._stale_until(at)
            self._newest = at
        if said:
            row.first_token = row.first_token or at
        # A page is told the stream's last id with each event: that of an error, which has none of its own, is no number.
        if meaning.kind != "error" and self._is_new(meaning):
            row.new_events += 1
            self._mend(at)
            if said:
                self._tokens += 1
                self._last_token = at
                self._text.add(meaning.text)
        return at

    def _is_new(self, meaning: Meaning) -> bool:
        numbers, sequence = self._numbers, meaning.sequence
        if sequence is None:
            return meaning.kind != "other" or not self._attempts  # a greeting after a break is no news
        if sequence == numbers.next:
            numbers.next = sequence + 1
            return True
        return numbers.add(sequence)

    def _stale_until(self, at: Instant) -> int:
        return 0 if self._newest is None else max(0, at.ns - self._newest.ns - STALE_AFTER_NS)

    def _broken(self, number: int, row: Attempt, page: PageAttempt, *, last: bool) -> None:
        """A connection ended before the answer did; one that brings nothing new belongs to the same break."""
        if self._open is None:
            self._open = BreakRow(
                stream=self._place.stream,
                number=len(self._breaks) + 1,
                worker=self._place.worker,
                variant=self._place.variant,
                group=self._place.group,
                attempt=number,
                seen=row.ended,
                end=row.end,
                status=row.status,
            )
            self._breaks.append(self._open)
            self._doubled_before = self._numbers.doubled
            self._lost_before = self._numbers.lost() or 0
        if page.wait_ms is not None:
            self._open.waits_ns = [*self._open.waits_ns, round(page.wait_ms * _NS_PER_MS)]
        self._open.attempts += not last

    def _mend(self, at: Instant) -> None:
        if self._open is not None:
            self._open.first_new = at
            self._open.resumed = bool(self._last_id)
            self._close()

    def _close(self) -> None:
        row, self._open = self._open, None
        assert row is not None
        if self._numbers.known:
            lost = self._numbers.lost()
            row.lost = None if lost is None else max(0, lost - self._lost_before)
            row.doubled = max(0, self._numbers.doubled - self._doubled_before)

    def _record(self, pages: Sequence[PageAttempt]) -> StreamRecord:
        place, numbers, text = self._place, self._numbers, self._text
        text.flush()
        last = self._attempts[-1]
        lost = numbers.lost()
        told = numbers.known and not numbers.blind
        ending = Ending(
            end=last.end,
            kind="answer",
            terminal_known=not self._reader.may_end,
            got_events=self._new > 0,
            last_got_events=last.events > 0,
            status=last.status,
            limited=self._reader.limited,
            declined=self._reader.declined,
            unfinished=last.end == "stopped",
            damaged=bool(lost or numbers.doubled or numbers.reordered or text.fffd),
        )
        stale_ns = self._stale_ns + (0 if last.end == "terminal" else self._stale_until(last.ended))
        return StreamRecord(
            stream=place.stream,
            worker=place.worker,
            name=place.variant,
            variant=place.variant,
            group=place.group,
            dispatched=self._clock.instant(pages[0].started_ms),
            sent=self._attempts[0].sent,
            headers=_first([each.headers for each in self._attempts]),
            first_event=_first([each.first_event for each in self._attempts]),
            first_token=_first([each.first_token for each in self._attempts]),
            last_token=self._last_token,
            last_event=_first([each.last_event for each in reversed(self._attempts)]),
            ended=last.ended,
            outcome=outcome_of(ending),
            end=last.end,
            status=last.status,
            attempts=self._attempts,
            attempts_total=len(pages),
            breaks=len(self._breaks),
            events=self._events,
            tokens=self._tokens,
            heartbeats=self._heartbeats,
            ids=numbers.ranges(),
            ids_capped=numbers.capped,
            gaps=self._gaps.row(),
            stale_ns=stale_ns if self._newest is not None else None,
            lost=lost,
            doubled=numbers.doubled if told else None,
            reordered=numbers.reordered if told else None,
            fffd=text.fffd,
            text_chars=text.chars,
            text_bytes=text.bytes,
            text_sha256=text.sha256,
            truth_id=place.truth_id,
            detail=last.detail,
        )


def _first(instants: Sequence[Instant | None]) -> Instant | None:
    return next((each for each in instants if each is not None), None)


def _detail(page: PageAttempt) -> str:
    parts = [NOT_TOLD if page.end == "broken" else "", printable(page.detail, 200)]
    return "; ".join(part for part in parts if part)
