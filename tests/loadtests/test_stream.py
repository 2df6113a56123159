"""The short way of a steady stream's reads against the long one, which holds the rules."""

import time
from typing import Any, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseproof.loadtests.connector import Attempted
from sseproof.loadtests.session import _Job
from sseproof.loadtests.tally import LONG_PART_CHARS, PARTS_KEPT
from sseproof.loadtests.transport import TLS, Address, Exchange, Limits
from sseproof.rundir.rows import Instant, StreamRecord
from tests.loadtests.streaming import MS, Streams, timeouts

BEGAN_NS = 1_700_000_000_000_000_000


class Read(NamedTuple):
    """What one read brings: an event's kind, and how much later than the one before it came."""

    kind: str
    gap_ns: int = 10 * MS
    exact: bool = True


class Feed:
    """A session whose exchange never connects; every read is handed to it directly, on a clock of its own."""

    def __init__(self, *, steady: bool) -> None:
        self.streams = Streams(
            "http://127.0.0.1:9/",
            kind="subscription",
            terminal="event:done",
            sequence="id",
            text="json:text",
            sent_at="json:at",
        )
        self.session = self.streams.client._session(_Job(*[None] * 9))
        self.exchange = Exchange(
            self.session._request,
            Address("127.0.0.1", 9),
            limits=Limits.of(timeouts(), time.monotonic_ns()),
            receiver=self.session,
            metrics=self.streams.metrics,
            tls=TLS(),
        )
        self.session.on_exchange(self.exchange)
        # The bracket begins at the read before, whatever this hub's polls say.
        self.exchange._drained = False
        self.steady = steady
        self.short_reads = 0
        self.stamp_ns = BEGAN_NS
        self.number = 0

    def read(self, what: Read) -> None:
        data = self._bytes(what.kind)
        lower, self.stamp_ns = self.stamp_ns, self.stamp_ns + what.gap_ns
        self.exchange._lower_ns, self.exchange._stamp_ns = lower, self.stamp_ns
        if not self.steady:
            self.session._steady = False
        before = self.session._steady_tokens
        self.session.on_data(data, lower, self.stamp_ns, what.exact)
        self.short_reads += self.session._steady_tokens > before

    def _bytes(self, kind: str) -> bytes:
        sent_at = self.stamp_ns + 3 * MS
        if kind == "token":
            self.number += 1
            return b'id: %d\ndata: {"text":"t\xc3\xa9%d ","at":%d}\n\n' % (self.number, self.number, sent_at)
        if kind == "two":
            return self._bytes("token") + self._bytes("token")
        if kind == "skip":
            self.number += 3
            return self._bytes("token")
        if kind == "again":
            self.number -= 1
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
            "rest": b'"r"}\n\n',
        }[kind]

    def end(self) -> StreamRecord:
        self.exchange.stop("closed")
        session, ended = self.session, Instant(self.stamp_ns + MS)
        attempted = Attempted(
            exchange=self.exchange,
            address="127.0.0.1:9",
            started=Instant(BEGAN_NS),
            connected=None,
            secured=None,
            sent=None,
            end="stopped",
            ended=ended,
            detail="",
            redirects=0,
            received_bytes=0,
            reads=0,
            unstamped_reads=0,
            read_lag_max_ns=0,
        )
        session._close_attempt(attempted, None, "")
        return session._conclude("stopped", ended, 200, retry_after=False)


def both(reads: list[Read]) -> tuple[Feed, StreamRecord]:
    """The feed that took the short way where it could, and the record, the same both ways."""
    results: list[tuple[Any, ...]] = []
    feeds = [Feed(steady=True), Feed(steady=False)]
    for feed in feeds:
        for read in reads:
            feed.read(read)
        record = feed.end()
        metrics = feed.streams.metrics
        results.append((record, metrics.events, metrics.coalesced_reads, feed.session._last_event_id))
    assert results[0] == results[1]
    assert not feeds[1].short_reads
    return feeds[0], results[0][0]


KINDS = [
    *["token"] * 8, "two", "skip", "again", "long", "no id", "undated", "future", "crlf", "plain", "other", "empty",
    "heartbeat", "comment", "ill-formed", "half", "rest",
]  # fmt: skip
reads_of_streams = st.lists(
    st.builds(
        Read,
        st.sampled_from(KINDS),
        st.sampled_from([10 * MS, 7 * MS, 900 * MS, 1, 0, -MS]),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(reads_of_streams)
@example([Read("token")] * (2 * PARTS_KEPT + 3))
@example([Read("token"), Read("half"), Read("rest"), Read("token"), Read("token")])
@example([Read("token"), Read("token", exact=False), Read("token"), Read("token")])
@example([Read("token"), Read("token", -MS), Read("token")])
@example([Read("token"), Read("long"), Read("long"), Read("future"), Read("token")])
@example([Read("token"), Read("token"), Read("other"), Read("token", exact=False)])
def test_the_short_way_records_what_the_long_one_does(reads: list[Read]) -> None:
    both(reads)


def test_a_running_stream_takes_the_short_way() -> None:
    feed, record = both([Read("token", gap) for gap in (1, 10 * MS, 20 * MS, 5 * MS, 900 * MS)] * 10)
    assert feed.short_reads == 49  # all but the first token
    assert (record.events, record.tokens, record.ids) == (50, 50, [(1, 50)])
    assert record.gaps is not None
    assert (record.gaps.count, record.gaps.longest_lo_ns) == (49, 900 * MS)
    assert record.gaps.sum_ns == record.last_token.ns - record.first_token.ns
    assert record.last_token == record.last_event == Instant(feed.stamp_ns)
    assert record.ages is not None
    assert record.ages.count == 50


def test_a_stopped_stream_takes_it_no_more() -> None:
    feed = Feed(steady=True)
    for _ in range(3):
        feed.read(Read("token"))
    assert feed.short_reads == 2
    feed.session.stop("enough")
    feed.read(Read("two"))
    feed.read(Read("token"))
    assert feed.short_reads == 2
    assert feed.end().events == 5  # of the two in one read after the stop, the first
