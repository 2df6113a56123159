"""Reads that wait to be parsed together give what they would have given one by one, and nothing waits too long."""

import fcntl
import itertools
import socket
import termios
import time
from bisect import bisect_right
from collections.abc import Callable

import gevent
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseproof.loadtests import stream as stream_module
from sseproof.loadtests.deferral import FAST_NS, STEADY_TOKENS, WAITING_READ_BYTES
from sseproof.loadtests.dialects import Plain
from sseproof.loadtests.sse import Message, Parser
from sseproof.loadtests.stream import Session
from sseproof.rundir.rows import GAP_GRID_NS, StreamRecord
from tests.loadtests.rawserver import (
    CHUNKED_HEAD,
    CLOSE_HEAD,
    LAST_CHUNK,
    SSE_HEAD,
    Connection,
    chunk,
    event,
    serving,
)
from tests.loadtests.streaming import MS, Streams, timeouts
from tests.loadtests.test_sse_properties import whole_events

STEP_S = 0.002
TRIES = 5
"""A machine that holds the reader up for the whole of a stream hands it over in a read or two: nothing could wait then."""
DONE = "event:done"

# Parser.run and Plain.read_run against the ways that hold the rules.

IDS = [
    "",
    "id: {n}\n",
    "id:{n}\n",
    "id: s-{n}\n",
    "id: ²\n",
    "id: a b\n",
    "id: a \n",
    "id:\n",
    "id: 1234567890123456789\n",
]
TYPES = ["", "event: delta\n", "event:\n", "event: ping\n", "event: done\n"]
DATA = [
    '{{"t":"a","at":17000000000000000{n}}}', '{{"t":"","at":17000000000000000{n}}}', '{{"t":3}}', '{{"t":"a","at":1.5}}',
    '{{"t":"a"}}', '{{"t":"a"}}{{"t":"b"}}', '{{"t":[{{}}', '{{"u":1}}]}}', "", "[DONE]", "id: 7", "x", '{{"t":"é"}}',
]  # fmt: skip
one_form = st.tuples(st.sampled_from(IDS), st.sampled_from(TYPES), st.sampled_from(DATA))


def stream_of(forms: list[tuple[str, str, str]]) -> list[bytes]:
    return [
        f"{own}{kind}data: {data}\n\n".format(n=10 + number).encode()
        for number, (own, kind, data) in enumerate(forms)
    ]


steady = st.tuples(one_form, st.integers(2, 8)).map(lambda each: [each[0]] * each[1])
with_others = st.lists(one_form, min_size=1, max_size=8)


def begun() -> Parser:
    parser = Parser()
    parser.receive(b"data: x\n\n")
    return parser


@settings(max_examples=600)
@given(st.one_of(steady, with_others).map(stream_of), whole_events)
def test_a_run_is_what_one_by_one_would_be(reads: list[bytes], following: bytes) -> None:
    together, apart = begun(), begun()
    joined = b"".join(reads)
    blocks = together.run(joined)
    assert together.offset == len(b"data: x\n\n")
    messages = [message for read in reads for message in apart.receive(read)]
    if blocks is None:
        assert together.receive(joined) == messages  # and nothing had changed
    else:
        assert [type(each) for each in messages] == [Message] * len(reads)
        assert [(kind or "message", data) for _, kind, data, _ in blocks] == [
            (each.type, each.data) for each in messages if isinstance(each, Message)
        ]
        together.take_run(len(joined), blocks[-1][0])
    assert together.offset == apart.offset
    assert together.last_event_id == apart.last_event_id
    assert together.receive(following) == apart.receive(following)


@settings(max_examples=600)
@given(
    st.one_of(steady, with_others).map(stream_of),
    st.sampled_from([None, DONE, "data:[DONE]"]),
    st.sampled_from([None, "id", "json:t"]),
    st.sampled_from([None, "json:at"]),
    st.sampled_from([None, "json:t", "json:t.u"]),
)
@example(stream_of([("id: {n}\n", "", DATA[0])] * 3), DONE, "id", "json:at", "json:t")
@example(stream_of([("", "", DATA[5]), ("", "", DATA[6]), ("", "", DATA[7])]), None, None, None, "json:t")
def test_a_run_means_what_its_events_mean(
    reads: list[bytes], terminal: str | None, sequence: str | None, sent_at: str | None, text: str | None
) -> None:
    dialect = Plain(terminal, sequence, sent_at, text)
    parser = begun()
    blocks = parser.run(b"".join(reads))
    run = None if blocks is None else dialect.read_run(blocks)
    if run is None:
        return
    meanings = [
        dialect.read(each) for read in reads for each in parser.receive(read) if isinstance(each, Message)
    ]
    assert {each.kind for each in meanings} == {"token"}
    assert not any(each.malformed for each in meanings)
    assert [each.text for each in meanings] == list(run.texts)
    assert [each.sequence for each in meanings] == (run.sequences or [None] * len(reads))
    assert [each.sent_at_ns for each in meanings] == (run.sent_at_ns or [None] * len(reads))


def test_the_usual_stream_is_read_in_runs() -> None:
    """Else the two tests above would compare nothing."""
    for own, sequence in (("id: {n}\n", "id"), ("id: s-{n}\n", "id"), ("", None)):
        blocks = begun().run(b"".join(stream_of([(own, "event: delta\n", DATA[0])] * 8)))
        assert blocks is not None
        for sent_at, text in itertools.product((None, "json:at"), (None, "json:t")):
            assert Plain(DONE, sequence, sent_at, text).read_run(blocks) is not None


# On real sockets: with and without waiting, the row is the same.


class Counter:
    """How many reads were handed on together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        original = Session.on_run

        def counted(
            session: Session, bodies: list[bytes], stamps_ns: list[int], lowers_ns: list[int]
        ) -> bool:
            done = original(session, bodies, stamps_ns, lowers_ns)
            self.taken += len(bodies) * done
            return done

        monkeypatch.setattr(Session, "on_run", counted)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    # A machine that is busy holds the writing thread up now and then, or us, who then get several events in one read.
    monkeypatch.setattr(stream_module, "FAST_NS", 40 * FAST_NS)
    monkeypatch.setattr(stream_module, "STEADY_TOKENS", 4)
    return Counter(monkeypatch)


def tokens(first: int, last: int) -> list[bytes]:
    return [event(f"t{number} é", number=number) for number in range(first, last + 1)]


LONG = "x" * WAITING_READ_BYTES
HALF = b"data: a\n\n\r\n"


def chunks(events: list[bytes]) -> list[bytes]:
    return [chunk(each) for each in events]


def pairs(pieces: list[bytes]) -> list[bytes]:
    return [first + second for first, second in zip(pieces[::2], pieces[1::2], strict=True)]


SENT: dict[str, Callable[[], list[bytes]]] = {
    "answer": lambda: [*chunks([*tokens(1, 60), event("", type_="done", number=61)]), LAST_CHUNK],
    "kept open after the end": lambda: chunks([*tokens(1, 60), event("end", type_="done", number=61)]),
    "heartbeats between": lambda: [
        *chunks([*tokens(1, 30), b": ping\n\n", event("", type_="ping"), *tokens(31, 60)]),
        *chunks([event("end", type_="done", number=61)]),
        LAST_CHUNK,
    ],
    "close-delimited": lambda: [CLOSE_HEAD, *tokens(1, 60), event("end", type_="done", number=61)],
    "by length": lambda: [
        SSE_HEAD + b"Content-Length: %d\r\n\r\n" % len(b"".join(tokens(1, 60))),
        *tokens(1, 60),
    ],
    "two events a read": lambda: [
        *chunks(tokens(1, 30)),
        *pairs(chunks(tokens(31, 60))),
        *chunks([event("end", type_="done", number=61)]),
    ],
    "two events a chunk": lambda: [
        *chunks(tokens(1, 30)),
        *chunks(pairs(tokens(31, 60))),
        *chunks([event("end", type_="done", number=61)]),
    ],
    "an event in two chunks": lambda: [
        *chunks(tokens(1, 30)),
        *(chunk(each[:9]) + chunk(each[9:]) for each in tokens(31, 40)),
        *(part for each in tokens(41, 50) for part in (chunk(each[:9]), chunk(each[9:]))),
        *chunks([event("end", type_="done", number=51)]),
    ],
    "lost and doubled": lambda: [
        *chunks([*tokens(1, 25), *tokens(27, 40), *tokens(40, 60)]),
        *chunks([event("end", type_="done", number=61)]),
    ],
    "ill-formed": lambda: [
        *chunks([*tokens(1, 25), b"id: s-26\ndata: \xff\n\n", *tokens(27, 60)]),
        *chunks([event("end", type_="done", number=61)]),
    ],
    "long events": lambda: [
        *chunks([*tokens(1, 25), event(LONG, number=26), event(LONG, number=27), *tokens(28, 60)]),
        *chunks([event("end", type_="done", number=61)]),
    ],
    "an error inside": lambda: chunks([*tokens(1, 30), event("sorry", type_="error")]),
    "broken framing": lambda: [*chunks(tokens(1, 30)), b"zz\r\nx\n\n\r\n"],
    "cut inside": lambda: [*chunks(tokens(1, 30)), chunk(tokens(31, 31)[0])[:-9]],
    "what looks like framing": lambda: [
        *chunks(tokens(1, 40)),
        # One chunk whose body has, at the end of two reads, what a chunk ends with.
        b"%x\r\n" % len(HALF + b"9\r\n" + HALF) + HALF,
        b"9\r\n" + HALF,
        b"\r\n",
        *chunks([event("end", type_="done", number=41)]),
    ],
}


def received(name: str) -> StreamRecord:
    """The row of one stream that is sent so, a piece at a time."""

    def script(connection: Connection) -> None:
        pieces = SENT[name]()
        if not pieces[0].startswith(b"HTTP/"):
            connection.send(CHUNKED_HEAD)
        for piece in pieces:
            connection.send(piece)
            connection.server.tick.wait(STEP_S)
        if name == "cut inside":
            connection.close()
        else:
            connection.until_gone()

    with serving(script) as server:
        streams = Streams(
            server.url, terminal=DONE, sequence="id", retries=0, timeouts=timeouts(idle=700, total=20_000)
        )
        streams.run()
    record = streams.only
    assert record.gaps is not None
    assert sum(streams.metrics.judged.gaps.values()) == record.gaps.count
    return record


EXACT = (
    "outcome", "end", "events", "tokens", "heartbeats", "body_bytes", "ids", "lost", "doubled", "reordered", "defects",
    "fffd", "text_chars", "text_sha256", "breaks", "detail",
)  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("name", SENT)
def test_waiting_changes_no_row(name: str, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(TRIES):
        waited = received(name)
        if counter.taken:
            break
    assert bool(counter.taken) == (name != "by length")
    monkeypatch.setattr(stream_module, "STEADY_TOKENS", 1 << 40)
    counter.taken = 0
    apart = received(name)
    assert not counter.taken
    for field in EXACT:
        assert getattr(waited, field) == getattr(apart, field), field
    assert waited.gaps is not None
    assert apart.gaps is not None
    assert waited.gaps.count == apart.gaps.count
    assert waited.attempts[0].events == apart.attempts[0].events
    # What follows the terminal event is read only when it came together with it.
    received_bytes = [record.attempts[0].received_bytes for record in (waited, apart)]
    assert max(received_bytes) - min(received_bytes) in {0, len(LAST_CHUNK)}


@pytest.mark.integration
def test_each_event_keeps_its_own_instant(counter: Counter) -> None:
    """The source writes the time into each event; what waits is still aged by its own stamp."""
    count = 80

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for number in range(1, count + 1):
            connection.server.tick.wait(5 * STEP_S)
            connection.send(chunk(event(f'{{"t":"x","at":{time.time_ns()}}}', number=number)))
        connection.send(LAST_CHUNK)

    for _ in range(TRIES):
        counter.taken = 0
        with serving(script) as server:
            streams = Streams(server.url, sequence="id", sent_at="json:at", text="json:t")
            streams.run()
        if counter.taken > count / 4:
            break
    record = streams.only
    assert counter.taken > count / 4
    assert record.ages is not None
    assert record.ages.count == count
    # Eight reads together span 70 ms and more: with the instant of the last of them three in eight were that new.
    assert sum(record.ages.hi[: bisect_right(GAP_GRID_NS, 20 * MS)]) > count / 2
    assert record.gaps is not None
    assert record.gaps.count == count - 1
    assert record.last_token is not None
    assert record.first_token is not None
    assert record.gaps.sum_ns == record.last_token.ns - record.first_token.ns
    short = bisect_right(GAP_GRID_NS, 2 * MS)
    assert sum(record.gaps.lo[:short]) < count / 4


@pytest.mark.integration
@pytest.mark.parametrize("how", ["fin", "rst", "stopped", "idle"])
def test_whatever_ends_it_what_came_before_is_counted(how: str, counter: Counter) -> None:
    """33 tokens: eight and eight together after the steady beginning, the last one alone."""
    steady = STEADY_TOKENS + 20
    sent: list[int] = []

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for each in tokens(1, steady):
            connection.send(chunk(each))
            connection.server.tick.wait(STEP_S)
        sent.append(steady)
        if how == "fin":
            connection.sock.shutdown(socket.SHUT_WR)
        elif how == "rst":
            while client_unread(connection):
                connection.server.tick.wait(0.001)
            connection.reset()
            return
        connection.until_gone()

    for _ in range(TRIES):
        sent.clear()
        with serving(script) as server:
            streams = Streams(
                server.url,
                kind="subscription",
                sequence="id",
                retries=0,
                timeouts=timeouts(idle=300 if how == "idle" else 20_000),
            )
            running = gevent.spawn(streams.run)
            if how == "stopped":
                with gevent.Timeout(20):
                    while not sent:
                        gevent.sleep(0.0005)
                streams.client.stop_all("enough")
            running.get(timeout=20)
        if counter.taken:
            break
    record = streams.only
    assert counter.taken
    assert record.events == steady
    assert record.ids == [(1, steady)]
    assert record.end == {"fin": "fin", "rst": "rst", "stopped": "stopped", "idle": "idle-timeout"}[how]


def client_unread(connection: Connection) -> bool:
    """Whether the kernel still holds bytes that the client has not acknowledged."""
    outstanding = bytearray(4)
    fcntl.ioctl(connection.sock, termios.TIOCOUTQ, outstanding)
    return any(outstanding)


@pytest.mark.integration
def test_a_terminal_event_does_not_wait_for_others(counter: Counter) -> None:
    """The server keeps the connection open after it; the stream is over soon all the same.

    Eight streams of different lengths: in all but one of them the terminal event waits as the first or one of a few.
    """
    sent: dict[int, int] = {}

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for each in tokens(1, STEADY_TOKENS + 16 + connection.number):
            connection.send(chunk(each))
            connection.server.tick.wait(STEP_S)
        sent[connection.sock.getpeername()[1]] = connection.send(chunk(event("end", type_="done")))[1]
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url, terminal=DONE, sequence="id", timeouts=timeouts(total=60_000))
        gevent.joinall([gevent.spawn(streams.run) for _ in range(8)], timeout=10)
    assert counter.taken
    assert [record.end for record in streams.records] == ["terminal"] * 8
    for record in streams.records:
        ended = record.ended.ns - sent[record.attempts[0].local_port or 0]
        assert ended < 100 * MS  # the instant is the event's own
