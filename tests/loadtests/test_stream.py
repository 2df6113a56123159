"""The short way of a steady stream's reads against the long one, which holds the rules."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseproof.loadtests.connector import Attempted
from sseproof.loadtests.deferral import NO_FURTHER_NS
from sseproof.loadtests.offset import Offset
from sseproof.loadtests.request import Request
from sseproof.loadtests.session import _Job
from sseproof.loadtests.sse import Message
from sseproof.loadtests.tally import LONG_PART_CHARS, PARTS_KEPT
from sseproof.loadtests.transport import TLS, Address, Exchange, Limits
from sseproof.rundir.rows import AttemptEnd, Gaps, Instant, StreamRecord
from sseproof.rundir.series import STEP_MASKS, last_of_step
from tests.loadtests.streaming import MS, Streams, timeouts

BEGAN_NS = 1_700_000_000_000_000_000


class Read(NamedTuple):
    """What one read brings: an event's kind, and how much later than the one before it came."""

    kind: str
    gap_ns: int = 10 * MS
    exact: bool = True


CUT = Read("cut")


class Listening:
    """Keeps the events it is handed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def opened(self) -> None:
        """Nothing to do."""

    def push(self, message: Message) -> int:
        """One more."""
        self.messages.append(message)
        return 0

    def over(self) -> None:
        """Nothing to do."""


class Feed:
    """A session whose connector opens no socket: it hands scripted reads over directly, on a clock of its own."""

    def __init__(
        self,
        reads: list[Read],
        *,
        short: bool,
        together: int = 0,
        profile: str = "resilient",
        listen: bool = False,
        offset: Offset | None = None,
    ) -> None:
        """With `together`, so many reads of a steady stream wait for one another, as the transport lets them."""
        self.streams = Streams(
            "http://127.0.0.1:9/",
            kind="subscription",
            profile=profile,
            terminal="event:done",
            sequence="id",
            text="json:text",
            sent_at="json:at",
            offset=None if offset is None else lambda: offset,
        )
        self.streams.client.connector = self
        self.session = self.streams.client._session(_Job(*[None] * 9))
        self.listening = Listening()
        if listen:
            self.session.listen(self.listening)
        self.left = list(reads)
        self.short = short
        self.together = together
        self.waiting: list[tuple[bytes, int, int]] = []
        self.runs = 0
        self.short_reads = 0
        self.held_bytes: list[int] = []
        """What the process's ledger says after each read."""
        self.stamp_ns = BEGAN_NS
        self.number = 0

    def attempt(self, request: Request, _place: object, limits: Limits, receiver: Any) -> Attempted:
        """Reads up to the next cut; as `Connector.attempt`."""
        exchange = Exchange(
            request,
            Address("127.0.0.1", 9),
            limits=limits,
            receiver=receiver,
            metrics=self.streams.metrics,
            tls=TLS(),
        )
        receiver.on_exchange(exchange)
        # The bracket begins at the read before, whatever this hub's polls say.
        exchange._drained = False
        while self.left and (read := self.left.pop(0)) != CUT:
            data = self._bytes(read.kind)
            lower, self.stamp_ns = self.stamp_ns, self.stamp_ns + read.gap_ns
            exchange._lower_ns, exchange._stamp_ns = lower, self.stamp_ns
            if read.gap_ns > NO_FURTHER_NS:
                self._catch_up(exchange, receiver)  # as the deferral's timer does
            if not self.waiting:
                self.session.watch_silence(self.stamp_ns)  # as the client's timer does
            if self.together and self.session._steady and read.exact and data.endswith(b"\n\n"):
                self.waiting.append((data, lower, self.stamp_ns))
                if len(self.waiting) >= self.together:
                    self._catch_up(exchange, receiver)
                continue
            self._catch_up(exchange, receiver)
            exchange._lower_ns, exchange._stamp_ns = lower, self.stamp_ns
            if not self.short:
                self.session._steady = False
            before = self.session._steady_tokens
            receiver.on_data(data, lower, self.stamp_ns, read.exact)
            self.short_reads += self.session._steady_tokens > before
            self.held_bytes.append(self.streams.ledger.total_bytes)
        self._catch_up(exchange, receiver)
        end: AttemptEnd = "fin" if self.left else "stopped"
        exchange.stop("closed")
        return Attempted(
            exchange=exchange,
            address="127.0.0.1:9",
            started=Instant(BEGAN_NS),
            connected=None,
            secured=None,
            sent=None,
            end=end,
            ended=Instant(self.stamp_ns + MS),
            detail="",
            redirects=0,
            received_bytes=0,
            reads=0,
            unstamped_reads=0,
            read_lag_max_ns=0,
        )

    def _catch_up(self, exchange: Exchange, receiver: Any) -> None:
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        bodies, lowers, stamps = ([read[at] for read in waiting] for at in range(3))
        if receiver.on_run(bodies, stamps, lowers):
            self.runs += 1
            return
        for data, lower, stamp in waiting:
            exchange._lower_ns, exchange._stamp_ns = lower, stamp
            receiver.on_data(data, lower, stamp, True)

    def _bytes(self, kind: str) -> bytes:
        sent_at = self.stamp_ns + 3 * MS
        if kind == "token":
            self.number += 1
            return b'id: %d\ndata: {"text":"t\xc3\xa9%d ","at":%d}\n\n' % (self.number, self.number, sent_at)
        if kind == "two":
            return self._bytes("token") + self._bytes("token")
        if kind == "eight":
            return b"".join(self._bytes("token") for _ in range(8))
        if kind == "one and a half":
            return self._bytes("token") + self._bytes("half")
        if kind == "skip":
            self.number += 3
            return self._bytes("token")
        if kind == "again":
            self.number = max(0, self.number - 2)
            return self._bytes("token")
        if kind == "long":
            self.number += 1
            return b'id: %d\ndata: {"text":"%s"}\n\n' % (self.number, b"x" * LONG_PART_CHARS)
        return {
            "no id": b'data: {"text":"n","at":%d}\n\n' % sent_at,
            "undated": b'data: {"text":"u"}\n\n',
            "future": b'data: {"text":"f","at":%d}\n\n' % (self.stamp_ns + 90_000 * MS),
            "crlf": b'data: {"text":"c"}\r\n\r\n',
            "plain": b"data: words\n\n",
            "other": b"event: hello\ndata: x\n\n",
            "empty": b"data:\n\n",
            "heartbeat": b"event: ping\ndata: x\n\n",
            "comment": b":\n\n",
            "ill-formed": b'data: {"text":"\xff"}\n\n',
            "half": b'data: {"text":',
            "large half": b'data: {"text":' + b" " * 3_000,
            "rest": b'"r"}\n\n',
        }[kind]

    def run(self) -> StreamRecord:
        """All attempts, one after another without a wait."""
        session = self.session
        limits = Limits.of(timeouts(), time.monotonic_ns())
        while True:
            attempted = session._attempt(limits, send_id=True)
            if attempted.end == "stopped":
                session._mend_not("stopped")
                return session._conclude("stopped", attempted.ended, 200, retry_after=False)
            session._open_break(attempted, 200)


def assert_same_intervals(steps: dict[int, int], row: Gaps | None) -> None:
    """The process's series of this one stream holds what its row does: as many, and as long together to the rounding."""
    if row is None:
        assert not steps
        return
    assert sum(steps.values()) == row.count
    shortest = sum(step * count for step, count in steps.items())
    longest = sum(last_of_step(step) * count for step, count in steps.items())
    assert shortest <= row.sum_ns <= longest


def both(reads: list[Read], **options: Any) -> tuple[Feed, StreamRecord]:
    """The feed that took the short way where it could, and the record, the same both ways, and for reads that waited."""
    results: list[tuple[Any, ...]] = []
    feeds = [Feed(reads, short=short, **options) for short in (True, False)]
    feeds += [Feed(reads, short=True, together=together, **options) for together in (2, 5)]
    for feed in feeds:
        record = feed.run()
        metrics = feed.streams.metrics
        series = metrics.judged
        assert_same_intervals(series.gaps, record.gaps)
        assert_same_intervals(series.ages, record.ages)
        counted = metrics.events, metrics.coalesced_reads, metrics.pending_bytes, series.gaps, series.ages
        results.append((record, feed.streams.breaks, counted, feed.held_bytes, feed.listening.messages))
    assert results[0] == results[1]
    for result in results[2:]:  # but for what was held in memory meanwhile
        assert result[:3] == results[0][:3]
        assert result[4] == results[0][4]
    assert not feeds[1].short_reads
    return feeds[0], results[0][0]


KINDS = [
    *["token"] * 8, "two", "eight", "skip", "again", "long", "no id", "undated", "future", "crlf", "plain", "other", "empty",
    "heartbeat", "comment", "ill-formed", "half", "large half", "rest", "one and a half", "cut",
]  # fmt: skip
TOKEN = Read("token")
streams_of_reads = st.lists(
    st.builds(
        Read,
        st.sampled_from(KINDS),
        st.sampled_from([10 * MS, 7 * MS, 900 * MS, 1, 0, -MS]),
        st.sampled_from([True, True, True, False]),
    ).map(lambda read: CUT if read.kind == "cut" else read),
    max_size=40,
)


@pytest.mark.parametrize("profile", ["resilient", "legacy"])
@settings(max_examples=200)
@given(reads=streams_of_reads, listen=st.booleans())
@example(reads=[TOKEN] * (2 * PARTS_KEPT + 3), listen=False)
@example(reads=[TOKEN] * 5, listen=True)
@example(reads=[TOKEN, TOKEN, Read("half"), Read("rest"), TOKEN, TOKEN], listen=False)
@example(reads=[TOKEN, TOKEN, Read("large half"), Read("rest"), TOKEN, TOKEN], listen=False)
@example(reads=[TOKEN, TOKEN, Read("one and a half"), Read("rest"), TOKEN, TOKEN], listen=False)
@example(reads=[TOKEN, Read("token", exact=False), TOKEN, TOKEN], listen=False)
@example(reads=[TOKEN, Read("token", -MS), TOKEN], listen=False)
@example(reads=[TOKEN, Read("long"), Read("long"), Read("future"), TOKEN], listen=False)
@example(reads=[TOKEN, TOKEN, Read("other"), Read("token", exact=False)], listen=False)
@example(reads=[TOKEN, TOKEN, TOKEN, CUT, Read("again"), TOKEN, TOKEN, TOKEN], listen=False)
@example(reads=[TOKEN, TOKEN, CUT, Read("other"), TOKEN, TOKEN], listen=False)
def test_the_short_way_records_what_the_long_one_does(profile: str, reads: list[Read], listen: bool) -> None:
    both(reads, profile=profile, listen=listen)


@pytest.mark.parametrize("kind", ["token", "two"])
def test_reads_that_wait_are_taken_together(kind: str) -> None:
    """Else there was nothing to compare: also of a stream whose reads bring two events each."""
    feed = Feed([TOKEN] * 3 + [Read(kind)] * 10, short=True, together=5)
    record = feed.run()
    assert feed.runs == 3  # what is left at the end, too
    assert record.events == 3 + 10 * (1 + (kind == "two"))


def longer(counts: list[int], edges: Sequence[int], ns: int) -> int:
    """How many intervals of a histogram are longer than one of its edges."""
    return sum(counts[edges.index(ns) + 1 :])


def test_of_the_gaps_in_a_late_read_one_at_most_is_as_long_as_it() -> None:
    """Eight events that were read at once after 336 ms: a pause of ours makes no eight gaps of 250 ms possible."""
    feed, record = both([TOKEN] * 4 + [Read("eight", 336 * MS), TOKEN])
    edges = feed.streams.client.gap_edges_ns
    assert record.gaps is not None
    assert (record.gaps.count, record.gaps.longest_hi_ns) == (12, 336 * MS)
    for limit_ms, most in ((500, 0), (250, 1), (100, 3)):
        assert longer(record.gaps.hi, edges, limit_ms * MS) == most
    assert longer(record.gaps.lo, edges, 10 * MS) == 0


COUNTS = {"token": 1, "two": 2, "eight": 8}


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(COUNTS)),
            st.integers(1, 2_000 * MS),
            st.lists(st.integers(0, 1_000), min_size=7, max_size=7),
        ),
        max_size=12,
    )
)
def test_the_truth_lies_between_both_ends_at_every_edge(reads: list[tuple[str, int, list[int]]]) -> None:
    """Wherever in its bracket each event of a read came."""
    feed, record = both([TOKEN, *(Read(kind, gap_ns) for kind, gap_ns, _ in reads)])
    at_ns = [0]
    for kind, gap_ns, places in reads:
        begin_ns = at_ns[-1]
        at_ns += [begin_ns + gap_ns * place // 1_000 for place in sorted(places[: COUNTS[kind] - 1])]
        at_ns.append(begin_ns + gap_ns)
    true_ns = [after - before for before, after in pairwise(at_ns)]
    assert (record.gaps is None) == (not true_ns)
    if record.gaps is None:
        return
    edges = feed.streams.client.gap_edges_ns
    for edge in edges:
        true = sum(gap > edge for gap in true_ns)
        assert longer(record.gaps.lo, edges, edge) <= true <= longer(record.gaps.hi, edges, edge)


def test_a_silence_that_ends_in_a_time_out_is_in_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed([TOKEN, TOKEN, CUT, TOKEN], short=True)
    attempt = feed.attempt

    def quiet(*arguments: Any) -> Attempted:
        attempted = attempt(*arguments)
        return msgspec.structs.replace(attempted, end="idle-timeout") if feed.left else attempted

    monkeypatch.setattr(feed, "attempt", quiet)
    record = feed.run()
    assert record.gaps is not None
    assert record.gaps.count == 2
    assert_same_intervals(feed.streams.metrics.judged.gaps, record.gaps)


@pytest.mark.parametrize(("kind", "since_ns"), [("token", 7 * MS), ("undated", 0)])
def test_staleness_grows_from_the_newest_event_on(
    monkeypatch: pytest.MonkeyPatch, kind: str, since_ns: int
) -> None:
    """From its sending where that is known, else from its arrival; also while the stream has no connection."""
    feed = Feed([Read(kind), Read(kind), Read(kind), CUT, Read("comment")], short=True)
    session = feed.session
    attempt = feed.attempt
    asked: list[int] = []

    def sampled(*arguments: Any) -> Attempted:
        session.sample_staleness(feed.stamp_ns + 7_000 * MS)
        asked.append(sum(feed.streams.metrics.judged.staleness.values()))
        attempted = attempt(*arguments)
        session.sample_staleness(feed.stamp_ns + 40 * MS)
        asked.append(sum(feed.streams.metrics.judged.staleness.values()))
        return attempted

    monkeypatch.setattr(feed, "attempt", sampled)
    feed.run()
    assert asked == [0, 1, 2, 3], "there is none before the first event"
    wanted = [40 * MS + since_ns, 7_000 * MS + since_ns, 50 * MS + since_ns]
    assert feed.streams.metrics.judged.staleness == {
        age & STEP_MASKS[age.bit_length()]: 1 for age in wanted
    }  # the comment is no event: it makes nothing newer


def test_an_event_sent_earlier_makes_nothing_older() -> None:
    """Doubled events after a reconnection; the first of them was sent 3 ms after the last token came, says its text."""
    feed = Feed([TOKEN, TOKEN, TOKEN, CUT, Read("again", -40 * MS), Read("again")], short=True)
    feed.run()
    last_token_ns = feed.stamp_ns + 30 * MS
    feed.session.sample_staleness(last_token_ns + 70 * MS)
    age = 67 * MS
    assert feed.streams.metrics.judged.staleness == {age & STEP_MASKS[age.bit_length()]: 1}


def test_the_warm_up_has_series_of_its_own() -> None:
    feed = Feed([TOKEN, TOKEN, TOKEN], short=True)
    feed.streams.client.warm_until_ns = time.time_ns() + 10**12
    record = feed.session.run()
    metrics = feed.streams.metrics
    assert record.warmup
    assert_same_intervals(metrics.warmup.gaps, record.gaps)
    assert_same_intervals(metrics.warmup.ages, record.ages)
    assert (sum(metrics.warmup.gaps.values()), sum(metrics.warmup.ages.values())) == (2, 3)
    assert not metrics.judged.gaps
    assert not metrics.judged.ages


def test_a_running_stream_takes_the_short_way() -> None:
    feed, record = both([Read("token", gap) for gap in (1, 10 * MS, 20 * MS, 5 * MS, 900 * MS)] * 10)
    assert feed.short_reads == 39  # all but the first token and the ten that end a long silence
    assert record.stale_ns == 10 * 400 * MS
    assert (record.events, record.tokens, record.ids) == (50, 50, [(1, 50)])
    assert record.gaps is not None
    assert (record.gaps.count, record.gaps.longest_lo_ns) == (49, 900 * MS)
    assert record.gaps.sum_ns == record.last_token.ns - record.first_token.ns
    assert record.last_token == record.last_event == Instant(feed.stamp_ns)
    assert record.ages is not None
    assert record.ages.count == 50


def test_ages_are_by_the_masters_clock_and_as_wide_as_that_is_known() -> None:
    """Read 7 ms after each was sent, by a clock that is 4 ms ahead, give or take 1."""
    feed, record = both([TOKEN] * 20, offset=Offset(4 * MS, MS))
    assert feed.short_reads == 19
    assert record.ages is not None
    assert (record.ages.count, record.ages.longest_lo_ns, record.ages.longest_hi_ns) == (20, 2 * MS, 4 * MS)
    edges = feed.streams.client.gap_edges_ns
    assert sum(record.ages.lo[: edges.index(2 * MS) + 1]) == 20
    assert sum(record.ages.hi[: edges.index(2 * MS) + 1]) == 0
    assert record.gaps is not None
    assert record.gaps.longest_lo_ns == record.gaps.longest_hi_ns == 10 * MS, "inside one worker: exact"


def test_several_reads_at_once_and_staleness_know_the_masters_clock_too() -> None:
    """As above; and the newest event, sent 7 ms before it came, is 3 ms old by the master's clock."""
    feed = Feed([TOKEN] * 3, short=True, offset=Offset(4 * MS, MS))
    session = feed.session
    session._attempt(Limits.of(timeouts(), time.monotonic_ns()), send_id=True)
    bodies, stamps = [], []
    for _ in range(4):
        bodies.append(feed._bytes("token"))
        feed.stamp_ns += 10 * MS
        stamps.append(feed.stamp_ns)
    assert session.on_run(bodies, stamps, [BEGAN_NS, *stamps[:-1]])
    ages = session._ages.row()
    assert (ages.count, ages.longest_lo_ns, ages.longest_hi_ns) == (7, 2 * MS, 4 * MS)
    assert sum(feed.streams.metrics.judged.ages.values()) == 7
    session._exchange = None
    session.sample_staleness(feed.stamp_ns)
    ((age, count),) = feed.streams.metrics.judged.staleness.items()
    assert (age <= 3 * MS <= last_of_step(age), count) == (True, 1)


def test_long_texts_are_not_kept() -> None:
    feed = Feed([TOKEN, TOKEN, Read("long"), Read("long")], short=True)
    feed.session._attempt(Limits.of(timeouts(), time.monotonic_ns()), send_id=True)
    assert feed.short_reads == 3
    assert not feed.session._text.parts
    assert feed.session._text.chars > 2 * LONG_PART_CHARS
