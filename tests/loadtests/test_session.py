"""Logical streams over several attempts: policies, breaks, numbers, outcomes, and who may end them."""

import hashlib
import itertools
import random
import re
import socket
import threading
import time
from collections.abc import Callable

import gevent
import pytest
from msgspec import structs

from sseproof.loadtests.dialects import Meaning, Plain
from sseproof.loadtests.payloads import Payloads
from sseproof.loadtests.session import MOST_UNMADE, SAMPLING_NS, AttemptBudget
from sseproof.loadtests.sse import Message
from sseproof.loadtests.stream import QUEUE_HIGH_EVENTS, Ledger, Session
from sseproof.loadtests.transport import Exchange
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.rows import GAP_GRID_NS, AddressPlan, BreakRow
from sseproof.rundir.text import CUT_MARK, DETAIL_LIMIT_CHARS
from tests.loadtests.rawserver import (
    CHUNKED_HEAD,
    CLOSE_HEAD,
    LAST_CHUNK,
    Connection,
    chunk,
    event,
    serving,
)
from tests.loadtests.streaming import MS, Streams, address, ms, timeouts

pytestmark = pytest.mark.integration

Script = Callable[[Connection], None]
DONE = "event:done"


def numbered(first: int, last: int) -> bytes:
    return b"".join(event(f"t{number} ", number=number) for number in range(first, last + 1))


def finish(connection: Connection, content: bytes) -> None:
    connection.send(CHUNKED_HEAD + chunk(content) + LAST_CHUNK)
    connection.until_gone()


def cut_then(*scripts: bytes, reset: bool = False) -> Script:
    """Attempt k sends the k-th content; all but the last are cut inside the framing."""

    def script(connection: Connection) -> None:
        content = scripts[min(connection.number, len(scripts)) - 1]
        if connection.number >= len(scripts):
            finish(connection, content)
            return
        connection.send(CHUNKED_HEAD + chunk(content))
        if reset:
            connection.reset()
        else:
            connection.close()

    return script


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(first: int, last: int) -> str:
    return "".join(f"t{number} " for number in range(first, last + 1))


def robust(url: str, **options: object) -> Streams:
    return Streams(url, **{"terminal": DONE, "sequence": "id", **options})


def wait_until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.001)


# Resuming, restarting, giving up.


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("s-3", "s-3"),
        ("123456789", "123456789"),
        ("9" * 1_000, "9" * DETAIL_LIMIT_CHARS),
        ("x" * 1_000, "x" * DETAIL_LIMIT_CHARS + CUT_MARK),
        ("a\u202eb", "a\\u202eb"),
        ("you sent tok-5b20e8d4", "you sent [secret]"),
    ],
)
def test_an_id_is_sent_back_as_it_came_and_kept_fit_for_a_row(sent: str, kept: str) -> None:
    """The service chooses it, of any length, and may repeat in it what it was asked."""
    first = f"id: {sent}\ndata: a\n\n".encode()
    end = event("x", type_="done")
    with serving(cut_then(first, end)) as server:
        streams = robust(server.url, headers={"X-Api-Key": "tok-5b20e8d4"})
        record = streams.run(number=7)
        again = server.connections[1]
    assert (again.header("last-event-id") or "").encode("utf-8") == sent.encode()
    assert record.attempts[1].last_event_id == kept


@pytest.mark.parametrize("reset", [False, True])
def test_resume_loses_and_doubles_nothing(reset: bool) -> None:
    end = event("x", type_="done", number=6)
    with serving(cut_then(numbered(1, 3), numbered(4, 5) + end, reset=reset)) as server:
        streams = robust(server.url)
        record = streams.run(number=7)
        first, second = server.connections
    assert first.header("last-event-id") is None
    assert second.header("last-event-id") == "s-3"
    assert (record.outcome, record.end, record.ids) == ("complete", "terminal", [(1, 6)])
    assert (record.lost, record.doubled, record.reordered) == (0, 0, 0)
    assert (record.events, record.tokens, record.attempts_total, record.breaks) == (6, 5, 2, 1)
    assert record.text_sha256 == digest(text_of(1, 5))
    assert (record.text_chars, record.text_bytes) == (15, 15)
    assert [each.end for each in record.attempts] == ["rst" if reset else "fin", "terminal"]
    assert [each.new_events for each in record.attempts] == [3, 3]
    assert record.attempts[1].last_event_id == "s-3"
    assert record.sent == record.attempts[0].sent
    assert record.last_event == record.attempts[1].last_event

    (row,) = streams.breaks
    assert (row.stream, row.number, row.attempt, row.end) == (7, 1, 1, "rst" if reset else "fin")
    assert row.seen == record.attempts[0].ended
    assert (row.attempts, row.resumed, row.gave_up, row.lost, row.doubled) == (1, True, None, 0, 0)
    assert row.connected == record.attempts[1].connected
    assert row.sent == record.attempts[1].sent
    assert row.first_new == record.attempts[1].first_event
    (wait,) = row.waits_ns
    assert 5 * MS <= wait <= 10 * MS
    assert record.attempts[1].started.ns - record.attempts[0].ended.ns >= wait


def test_a_server_that_begins_again_is_seen_to_double() -> None:
    """no-resume: the first events come again; the break is over with the first one not received before."""

    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(CHUNKED_HEAD + chunk(numbered(1, 3)))
            connection.close()
            return
        _send_apart(streams, connection, CHUNKED_HEAD + chunk(numbered(1, 3)))
        connection.server.tick.wait(0.05)
        connection.send(chunk(numbered(4, 5) + event("x", type_="done", number=6)) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = robust(server.url)
        record = streams.run()
    assert (record.outcome, record.doubled, record.lost, record.ids) == ("damaged", 3, 0, [(1, 6)])
    assert (record.events, record.tokens) == (9, 5)
    assert record.text_sha256 == digest(text_of(1, 5))  # doubled events are not handed to the user
    assert [each.new_events for each in record.attempts] == [3, 3]
    (row,) = streams.breaks
    assert (row.doubled, row.lost) == (3, 0)
    second = record.attempts[1]
    assert row.first_new is not None
    assert second.first_event is not None
    assert row.first_new.ns - second.first_event.ns >= 40 * MS


def test_a_greeting_does_not_end_a_break() -> None:
    """Servers greet each connection; new is what the user has not read."""
    greeting = event("welcome", type_="hello")

    def script(connection: Connection) -> None:
        _send_apart(streams, connection, CHUNKED_HEAD + chunk(greeting))
        if connection.number == 1:
            connection.send(chunk(b"id: a\ndata: one\n\n"))
            connection.close()
            return
        connection.server.tick.wait(0.05)
        connection.send(chunk(b"id: b\ndata: two\n\n" + event("x", type_="done")) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url, terminal=DONE)
        record = streams.run()
    assert record.outcome == "complete"
    assert [each.new_events for each in record.attempts] == [2, 2]
    assert streams.breaks[0].first_new == record.attempts[1].first_token
    assert streams.breaks[0].first_new != record.attempts[1].first_event


def test_loss_across_a_break_is_counted_there() -> None:
    with serving(cut_then(numbered(1, 3), numbered(6, 7) + event("x", type_="done", number=8))) as server:
        streams = robust(server.url)
        record = streams.run()
    assert (record.outcome, record.lost, record.ids) == ("damaged", 2, [(1, 3), (6, 8)])
    assert streams.breaks[0].lost == 2


def test_disorder_is_damage() -> None:
    parts = [event("b", number=2), event("a", number=1), event("c", number=3)]
    with serving(cut_then(b"".join(parts))) as server:
        record = Streams(server.url, sequence="id").run()
    assert (record.outcome, record.reordered, record.lost, record.doubled) == ("damaged", 1, 0, 0)
    assert record.text_sha256 == digest("bac")


def test_restart_begins_the_text_anew() -> None:
    whole = numbered(1, 4) + event("x", type_="done", number=5)
    with serving(cut_then(numbered(1, 3), whole)) as server:
        streams = robust(server.url, on_cut="restart")
        record = streams.run()
        assert server.connections[1].header("last-event-id") is None
    assert (record.outcome, record.ids, record.doubled, record.tokens) == ("complete", [(1, 5)], 0, 4)
    assert record.text_sha256 == digest(text_of(1, 4))
    assert record.events == 8
    row = streams.breaks[0]
    assert row.first_new == record.attempts[1].first_event
    assert not row.resumed


def test_give_up_on_cut() -> None:
    with serving(cut_then(numbered(1, 3), numbered(4, 5))) as server:
        streams = robust(server.url, on_cut="give-up")
        record = streams.run()
        assert len(server.connections) == 1
    assert (record.outcome, record.end, record.attempts_total) == ("cut", "fin", 1)
    row = streams.breaks[0]
    assert (row.gave_up, row.first_new, row.attempts, row.waits_ns) == ("give-up", None, 0, [])


def test_nothing_to_resume_by() -> None:
    with serving(cut_then(b"data: a\n\n", b"data: b\n\n")) as server:
        streams = Streams(server.url)
        record = streams.run()
        assert len(server.connections) == 1
    assert (record.outcome, record.lost, record.doubled) == ("cut", None, None)
    assert streams.breaks[0].gave_up == "no-id"
    assert streams.breaks[0].lost is None


def test_retries_are_counted_and_run_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    streams = Streams(f"http://127.0.0.1:{port}/", retries=3)
    record = streams.run()
    assert (record.outcome, record.end, record.attempts_total, record.breaks) == (
        "unreachable",
        "refused",
        3,
        1,
    )
    (row,) = streams.breaks  # a first attempt that is refused is a break; the others belong to it
    assert (row.attempt, row.attempts, row.gave_up, row.end) == (1, 2, "retries", "refused")
    assert len(row.waits_ns) == 2


def test_a_busy_service_is_waited_for() -> None:
    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            connection.close()
        else:
            finish(connection, numbered(1, 2) + event("x", type_="done", number=3))

    with serving(script) as server:
        streams = robust(server.url)
        record = streams.run()
    assert (record.outcome, record.attempts[0].retry_after_ms) == ("complete", 1_000)
    (row,) = streams.breaks
    assert (row.end, row.status, row.first_new is not None) == ("status", 503, True)
    assert row.waits_ns[0] >= 1_000 * MS
    started, ended = record.attempts[1].started, record.attempts[0].ended
    assert started.ns - ended.ns >= row.waits_ns[0]


def test_too_many_waits_for_the_total_time_are_not_begun() -> None:
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"

    def script(connection: Connection) -> None:
        connection.send(answer)
        connection.close()

    with serving(script) as server:
        streams = Streams(server.url, timeouts=timeouts(total=2_000))
        record = streams.run()
    assert (record.outcome, record.attempts_total) == ("throttled", 1)
    assert streams.breaks[0].gave_up == "total-timeout"


def test_the_server_names_the_wait() -> None:
    """`retry:` replaces the first wait and outlives its connection (sse.md C22)."""
    with serving(
        cut_then(b"retry: 60\n\n" + numbered(1, 2), numbered(3, 3) + event("x", type_="done", number=4))
    ) as server:
        streams = robust(server.url, backoff=ms(5))
        record = streams.run()
    assert record.outcome == "complete"
    (row,) = streams.breaks
    assert row.server_retry_ms == 60
    assert 60 * MS <= row.waits_ns[0] <= 90 * MS


# Browser and legacy.


def test_browser_waits_three_seconds_unless_told() -> None:
    with serving(cut_then(numbered(1, 2), numbered(3, 3))) as server:
        streams = robust(server.url, profile="browser", kind="subscription")
        stream = gevent.spawn(streams.run)
        wait_until(lambda: streams.client._sessions and server.connections and _waiting(streams))
        streams.client.stop_all("test")
        record = stream.get(timeout=10)
        assert len(server.connections) == 1
    assert streams.breaks[0].waits_ns == [3_000 * MS]
    assert (streams.breaks[0].gave_up, record.end, record.outcome) == ("test", "stopped", "unfinished")


def _waiting(streams: Streams) -> bool:
    return any(session._wake is not None for session in streams.client._sessions.values())


def test_browser_obeys_retry_and_resumes_until_told_to_stay_away() -> None:
    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(CHUNKED_HEAD + chunk(b"retry: 20\n\n" + numbered(1, 2)))
            connection.close()
        elif connection.number == 2:
            finish(connection, numbered(3, 4))  # a clean end: a browser comes back even so
        else:
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    with serving(script) as server:
        streams = Streams(server.url, profile="browser", sequence="id", terminal="event:never")
        record = streams.run()
        sent = [each.header("last-event-id") for each in server.connections]
    assert sent == [None, "s-2", "s-4"]
    assert (record.outcome, record.end, record.ids) == ("complete", "no-content", [(1, 4)])
    assert [row.waits_ns for row in streams.breaks] == [[20 * MS], [20 * MS]]
    assert streams.breaks[1].first_new == record.attempts[2].ended  # 204: there is nothing more to come
    assert streams.breaks[1].gave_up is None


def test_legacy_never_comes_back() -> None:
    with serving(cut_then(numbered(1, 3), numbered(4, 5))) as server:
        streams = robust(server.url, profile="legacy", retries=9)
        record = streams.run()
        assert len(server.connections) == 1
    assert (record.outcome, record.attempts_total) == ("cut", 1)
    assert streams.breaks[0].gave_up == "legacy"
    assert record.ids == []


def test_legacy_breaks_what_is_cut_between_reads_and_resilient_does_not() -> None:
    text = "data: \u0633\u0644\u0627\u0645\n\n".encode()
    at = text.index("\u0644".encode()) + 1  # inside a two-byte character

    def script(connection: Connection) -> None:
        connection.send(CLOSE_HEAD)
        streams = current[0]
        _reads(streams, 1)
        connection.send(text[:at])
        _reads(streams, 2)
        connection.send(text[at:])
        connection.close()

    current: list[Streams] = []
    with serving(script) as server:
        current[:] = [Streams(server.url, profile="legacy")]
        legacy = current[0].run()
        current[:] = [Streams(server.url)]
        resilient = current[0].run()
    assert legacy.fffd >= 1
    assert legacy.outcome == "damaged"
    assert legacy.attempts[0].split_chars == 1
    assert (resilient.fffd, resilient.outcome, resilient.text_sha256) == (
        0,
        "complete",
        digest("\u0633\u0644\u0627\u0645"),
    )
    assert resilient.attempts[0].split_chars == 1


def _reads(streams: Streams, count: int) -> None:
    """Blocks a server's thread until the client has made so many reads."""
    pause = threading.Event()
    deadline = time.monotonic() + 20
    while streams.metrics.reads < count and time.monotonic() < deadline:
        pause.wait(0.0005)


def _send_apart(streams: Streams, connection: Connection, data: bytes) -> tuple[int, int]:
    """Sends, and blocks the server's thread until it was read: what comes next has a read and a stamp of its own."""
    reads = streams.metrics.reads
    sent = connection.send(data)
    _reads(streams, reads + 1)
    return sent


# What ends an answer.


def test_a_clean_end_without_the_known_marker_is_retried_then_truncated() -> None:
    with serving(cut_then(numbered(1, 3))) as server:
        streams = robust(server.url, retries=2)
        record = streams.run()
    assert (record.outcome, record.end, record.lost) == ("truncated", "eof", 0)
    assert record.attempts_total == 3
    assert streams.breaks[0].gave_up == "retries"
    assert record.doubled == 6


def test_a_clean_end_without_any_marker_is_complete() -> None:
    for terminal in (None, "none"):
        with serving(cut_then(numbered(1, 3))) as server:
            streams = Streams(server.url, terminal=terminal)
            record = streams.run()
        assert (record.outcome, record.attempts_total, streams.breaks) == ("complete", 1, [])


def test_an_answer_without_an_event_is_truncated() -> None:
    with serving(cut_then(b": nothing\n\n")) as server:
        record = Streams(server.url).run()
    assert (record.outcome, record.end, record.events, record.heartbeats) == ("truncated", "eof", 0, 1)


@pytest.mark.parametrize(
    ("rest", "outcome"),
    [
        (b"data: half", "truncated"),
        (b"id: 2\ndata: half\n", "truncated"),
        (b"data: half\ndata", "truncated"),
        (b": a comment", "complete"),
        (b"retry: 20\n", "complete"),
        (b"id: 2\nevent: more\n", "complete"),
        (b"", "complete"),
    ],
)
def test_an_answer_that_ends_inside_an_event_is_not_whole(rest: bytes, outcome: str) -> None:
    """Without a terminal marker the end of the connection is the answer's own, but not in the middle of an event."""
    with serving(cut_then(b"id: 1\ndata: whole\n\n" + rest)) as server:
        record = Streams(server.url).run()
    assert (record.outcome, record.end, record.events) == (outcome, "eof", 1)


def test_what_is_unfinished_at_a_clean_end_is_a_defect_and_at_a_cut_is_not() -> None:
    half = "data: whole\n\ndata: half \u20ac".encode()[:-1]
    with serving(cut_then(half)) as server:
        clean = Streams(server.url).run()
    with serving(cut_then(half, b"")) as server:
        cut = Streams(server.url, on_cut="give-up").run()
    assert set(clean.defects) >= {"unterminated-character"}
    assert clean.outcome == "damaged"
    assert (cut.defects, cut.outcome, cut.events) == ({}, "cut", 1)


def test_ill_formed_bytes_are_damage() -> None:
    with serving(cut_then(b"data: a\xffb\n\n")) as server:
        record = Streams(server.url).run()
    assert (record.outcome, record.defects, record.fffd) == ("damaged", {"invalid-utf8": 1}, 1)


def test_an_in_band_error_ends_the_stream() -> None:
    content = numbered(1, 2) + b'event: error\ndata: {"message": "no \x1b credit"}\n\n' + numbered(3, 9)
    with serving(cut_then(content)) as server:
        streams = robust(server.url)
        record = streams.run()
    assert (record.outcome, record.end, record.ids) == ("error-inband", "inband-error", [(1, 2)])
    assert "no \\x1b credit" in record.detail
    assert streams.breaks[0].gave_up == "inband-error"


class _Model(Plain):
    """A dialect whose answers say why they ended, before they end."""

    def __init__(self, why: str) -> None:
        super().__init__(terminal=DONE)
        self._why = why

    def read(self, message: Message) -> Meaning:
        setattr(self, self._why, True)
        return super().read(message)


@pytest.mark.parametrize(("why", "outcome"), [("limited", "complete-limited"), ("declined", "declined")])
def test_why_the_end_came_decides(why: str, outcome: str) -> None:
    with serving(cut_then(b"data: a\n\n" + event("x", type_="done"))) as server:
        assert Streams(server.url, reader=_Model(why)).run().outcome == outcome


def test_heartbeats_are_counted_and_make_no_gap() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(b"event: ping\ndata: x\n\n"))
        connection.server.tick.wait(0.01)
        _send_apart(streams, connection, chunk(event("a", number=1)))
        for _ in range(3):
            connection.server.tick.wait(0.01)
            _send_apart(streams, connection, chunk(b"event: ping\ndata: x\n\n: comment\n\n"))
        connection.server.tick.wait(0.01)
        connection.send(chunk(event("b", number=2)) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url)
        record = streams.run()
    assert (record.heartbeats, record.events, record.tokens) == (7, 6, 2)
    assert record.gaps is not None
    assert record.gaps.count == 1
    assert record.gaps.longest_lo_ns >= 35 * MS
    assert record.first_event == record.first_token  # a heartbeat is not the first event


LATE = 25 * MS
"""Between sending and the kernel's stamp on a machine with other work: up to 4 ms were seen."""


def test_gaps_are_those_of_the_server() -> None:
    pauses = [0.004, 0.03, 0.004, 0.06]
    times: list[tuple[int, int]] = []

    def script(connection: Connection) -> None:
        _send_apart(streams, connection, CHUNKED_HEAD)
        times.append(_send_apart(streams, connection, chunk(event("x"))))
        for pause in pauses:
            connection.server.tick.wait(pause)
            times.append(_send_apart(streams, connection, chunk(event("x"))))
        connection.server.tick.wait(0.01)
        connection.send(LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url)
        record = streams.run()
    gaps = record.gaps
    assert gaps is not None
    assert gaps.count == len(pauses)
    least = max(b[0] - a[1] for a, b in itertools.pairwise(times))
    most = max(b[1] - a[0] for a, b in itertools.pairwise(times))
    assert least - LATE <= gaps.longest_hi_ns
    assert gaps.longest_lo_ns <= most + LATE
    assert sum(gaps.lo) == sum(gaps.hi) == len(pauses)
    assert times[-1][0] - times[0][1] - LATE <= gaps.sum_ns <= times[-1][1] - times[0][0] + LATE
    over = next(index for index, edge in enumerate(GAP_GRID_NS) if edge >= 20 * MS)
    assert sum(gaps.lo[over:]) >= 2


HALF_S = 500 * MS


def sent_slowly(
    pauses_s: list[float], times: list[tuple[int, int]], *last: bytes, to: Callable[[], Streams]
) -> Script:
    """Events with pauses before each but the first, when each was sent, then what ends the answer."""

    def script(connection: Connection) -> None:
        _send_apart(to(), connection, CHUNKED_HEAD)
        for number, pause in enumerate([0.0, *pauses_s], 1):
            connection.server.tick.wait(pause)
            times.append(_send_apart(to(), connection, chunk(event("x", number=number))))
        for content in last:
            connection.send(chunk(content))
        connection.send(LAST_CHUNK)
        connection.until_gone()

    return script


def stale_between(times: list[tuple[int, int]]) -> tuple[int, int]:
    """The least and the most stale time of events sent within these brackets."""
    pairs = list(itertools.pairwise(times))
    return (
        sum(max(0, after[0] - before[1] - HALF_S) for before, after in pairs),
        sum(max(0, after[1] - before[0] - HALF_S) for before, after in pairs),
    )


def test_stale_time_is_what_every_silence_has_beyond_half_a_second() -> None:
    """Two silences of 0.7 and 0.6 s in a stream that runs fast in between: 0.3 s stale."""
    times: list[tuple[int, int]] = []
    pauses = [0.002] * 5 + [0.7] + [0.002] * 5 + [0.4, 0.002, 0.6, 0.002]
    done = event("x", type_="done", number=99)
    with serving(sent_slowly(pauses, times, done, to=lambda: streams)) as server:
        streams = robust(server.url)
        record = streams.run()
    least, most = stale_between(times)
    assert record.stale_ns is not None
    assert 250 * MS < least - LATE <= record.stale_ns <= most + LATE
    assert record.end == "terminal"


def test_a_stream_without_a_long_silence_is_never_stale_and_one_without_a_token_says_nothing() -> None:
    with serving(sent_slowly([0.002] * 20, [], to=lambda: streams)) as server:
        streams = Streams(server.url)
        assert streams.run().stale_ns == 0
    with serving(lambda connection: finish(connection, b": nothing\n\n")) as server:
        assert Streams(server.url).run().stale_ns is None


def test_heartbeats_are_no_news_and_the_silence_before_our_own_end_counts() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(numbered(1, 3)))
        for _ in range(4):
            connection.server.tick.wait(0.2)
            connection.send(chunk(b"event: ping\ndata: x\n\n"))
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url, kind="subscription", sequence="id")
        running = gevent.spawn(streams.run)
        wait_until(lambda: streams.client.open_numbers() == [0])
        gevent.sleep(1.0)
        streams.client.close_when_open("end of the run")
        record = running.get(timeout=20)
    assert record.outcome == "held"
    assert record.last_event is not None
    assert record.stale_ns == record.ended.ns - record.last_event.ns - HALF_S > 400 * MS


def test_an_outage_is_stale_time() -> None:
    """The reader sees no difference between a silent connection and none."""
    with serving(cut_then(numbered(1, 3), numbered(4, 5) + event("x", type_="done", number=6))) as server:
        record = robust(server.url, backoff=ms(1_400)).run()
    first, second = record.attempts
    assert first.last_event is not None
    assert second.first_event is not None
    assert record.stale_ns == second.first_event.ns - first.last_event.ns - HALF_S > 190 * MS


def test_a_silence_that_nobody_watched_makes_the_stale_time_unknown() -> None:
    with serving(sent_slowly([0.002, 0.002, 0.6, 0.002], [], to=lambda: streams)) as server:
        streams = Streams(server.url)
        streams.client._watch_silence = lambda: None  # type: ignore[method-assign]
        assert streams.run().stale_ns is None


def test_heartbeat_gaps_are_the_silence_before_each() -> None:
    """From whatever came before, on the same connection: two pings 60 ms apart, and one 30 ms after an event."""
    times: list[tuple[int, int]] = []
    beats = [b": still here\n\n", b"event: ping\ndata: x\n\n", event("a", number=1), b":\n\n"]

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for content, pause in zip(beats, (0.0, 0.06, 0.1, 0.03), strict=True):
            connection.server.tick.wait(pause)
            times.append(_send_apart(streams, connection, chunk(content)))
        connection.server.tick.wait(0.01)
        connection.send(LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url)
        record = streams.run()
    gaps = record.heartbeat_gaps
    assert gaps is not None
    assert (record.heartbeats, gaps.count) == (3, 2)
    (before, ping, a, last) = times
    assert ping[0] - before[1] - LATE <= gaps.longest_hi_ns <= ping[1] - before[0] + LATE
    assert gaps.longest_lo_ns >= 20 * MS, "its bracket is that of its own read"
    both = ping[0] - before[1] + last[0] - a[1], ping[1] - before[0] + last[1] - a[0]
    assert both[0] - LATE <= gaps.sum_ns <= both[1] + LATE
    assert record.gaps is None, "heartbeats make no gap between events"


def test_a_silence_in_which_heartbeats_ended_too_is_one_without_an_end() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(event("a", number=1)))
        connection.server.tick.wait(0.01)
        connection.send(chunk(b": one\n\n"))
        connection.until_gone()

    with serving(script) as server:
        record = Streams(server.url, timeouts=timeouts(idle=600), retries=0).run()
    gaps = record.heartbeat_gaps
    assert record.end == "idle-timeout"
    assert gaps is not None
    assert gaps.count == 2
    assert gaps.longest_hi_ns >= 590 * MS
    assert (sum(gaps.lo), len(gaps.hi)) == (2, len(GAP_GRID_NS) + 1)
    assert gaps.hi[-1] == 1, "the next one never came"


def test_a_gap_does_not_span_a_break() -> None:
    with serving(cut_then(numbered(1, 2), numbered(3, 4) + event("x", type_="done", number=5))) as server:
        record = robust(server.url, backoff=ms(1_000)).run()  # waits half of it at least
    assert record.gaps is not None
    assert record.gaps.count == 3
    assert record.gaps.longest_hi_ns < 500 * MS


def test_send_times_give_ages() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for late_ms in (0, 40):
            at = time.time_ns() - late_ms * MS
            connection.send(chunk(event(f'{{"at":{at}}}')))
            connection.server.tick.wait(0.01)
        connection.send(LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        record = Streams(server.url, sent_at="json:at").run()
    assert record.ages is not None
    assert record.ages.count == 2
    assert 40 * MS <= record.ages.longest_hi_ns < 1_000 * MS


# Ended by us.


def held_open(connection: Connection) -> None:
    connection.send(CHUNKED_HEAD + chunk(numbered(1, 3)))
    connection.until_gone()


def test_others_run_while_staleness_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams with reads that wait take their time each; in one go they would hold up the reads of all the others."""
    taken: list[int] = []

    def slow(session: Session, now_ns: int) -> None:
        assert 0 <= time.time_ns() - now_ns < 1_000 * MS
        taken.append(session.number)
        until = time.monotonic_ns() + SAMPLING_NS // 2
        while time.monotonic_ns() < until:
            pass

    monkeypatch.setattr(Session, "sample_staleness", slow)
    with serving(held_open) as server:
        streams = Streams(server.url, kind="subscription", sequence="id")
        running = [gevent.spawn(streams.run, number=number) for number in range(20)]
        wait_until(lambda: streams.metrics.events == 60)
        seen: list[int] = []
        timer = gevent.get_hub().loop.timer(0.0, SAMPLING_NS / 4e9)
        timer.start(lambda: seen.append(len(taken)), update=True)
        streams.client.sample_staleness()
        timer.stop()
        timer.close()
        streams.client.stop_all("the end of the test")
        gevent.joinall(running, timeout=20)
    assert taken == list(range(20))
    assert len(set(seen)) >= 5, seen  # at least every other stream, were the machine exact


@pytest.mark.parametrize(("kind", "outcome"), [("answer", "unfinished"), ("subscription", "held")])
def test_stop_all(kind: str, outcome: str) -> None:
    with serving(held_open) as server:
        streams = Streams(server.url, kind=kind, sequence="id")
        running = [gevent.spawn(streams.run, number=number) for number in range(20)]
        wait_until(lambda: streams.metrics.events == 60)
        assert streams.client.open_numbers() == list(range(20))
        assert streams.metrics.open_streams == 20
        streams.client.sample_staleness()
        assert sum(streams.metrics.judged.staleness.values()) == 20
        streams.client.stop_all("the end of the test")
        gevent.joinall(running, timeout=20)
        streams.client.sample_staleness()
        assert sum(streams.metrics.judged.staleness.values()) == 20
    assert {record.stream for record in streams.records} == set(range(20))
    assert {(record.end, record.outcome) for record in streams.records} == {("stopped", outcome)}
    assert streams.records[0].detail == "the end of the test"
    assert streams.breaks == []
    assert streams.client.open_numbers() == []
    assert (streams.metrics.started, streams.metrics.ended, streams.metrics.open_streams) == (20, 20, 0)


def test_a_subscription_with_loss_is_not_held() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(numbered(1, 2) + numbered(5, 6)))
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url, kind="subscription", sequence="id")
        stream = gevent.spawn(streams.run)
        wait_until(lambda: streams.metrics.events == 4)
        streams.client.stop_all("test")
        assert stream.get(timeout=10).outcome == "damaged"


def test_streams_that_ask_what_the_scenario_asks_have_its_topic() -> None:
    """Its name may come from the payload; what a test's own call asks may be another feed."""
    rows = [{"room": "red"}, {"room": "blue\n"}]
    with serving(lambda connection: finish(connection, numbered(1, 2))) as server:
        streams = Streams(
            server.url,
            topic="room {payload:room}",
            sequence="id",
            payloads=Payloads(rows, seed=1),
            kind="subscription",
            retries=0,
        )
        records = [streams.run(number=number) for number in range(4)]
        own = [streams.run("/other"), streams.run(json={}), streams.run(body="x")]
        assert Streams(server.url, sequence="id", retries=0).run().topic is None
    topics = ["room red", r"room blue\n"]
    assert [record.topic for record in records] == [topics[record.payload or 0] for record in records]
    assert {record.topic for record in records} == set(topics)
    assert [record.topic for record in own] == [None] * 3


def test_a_topics_numbers_may_have_holes() -> None:
    """Nothing is lost and nothing damaged as far as one subscriber can tell."""
    content = b"".join(event("x", number=number) for number in (3, 7, 8, 20))
    script = cut_then(content, event("x", number=30) + event("x", type_="done", number=31))
    with serving(script) as server:
        alone = robust(server.url).run()
    with serving(script) as server:
        streams = robust(server.url, topic="news")
        shared = streams.run()
    assert (alone.outcome, alone.lost) == ("damaged", 23)
    assert (shared.outcome, shared.lost, shared.topic, shared.ids) == ("complete", None, "news", alone.ids)
    assert [row.lost for row in streams.breaks] == [None]


def test_subscriptions_are_closed_once_they_are_open_and_mended() -> None:
    """One is open; one is in a break and is closed only after its first new event."""
    allowed = threading.Event()

    def script(connection: Connection) -> None:
        if connection.header("x-break") and connection.number > 1 and not connection.header("last-event-id"):
            connection.send(CHUNKED_HEAD + chunk(numbered(1, 2)))
            connection.close()
        elif connection.header("x-break"):
            connection.send(CHUNKED_HEAD)
            allowed.wait(20)
            connection.send(chunk(numbered(3, 4)))
            connection.until_gone()
        else:
            held_open(connection)

    with serving(script) as server:
        streams = Streams(server.url, kind="subscription", sequence="id")
        whole = gevent.spawn(streams.run, number=0)
        wait_until(lambda: streams.metrics.events == 3)
        broken = gevent.spawn(streams.run, number=1, headers={"X-Break": "1"})
        wait_until(lambda: len(server.connections) == 3 and server.connections[2].header("last-event-id"))
        streams.client.close_when_open("the run's end")
        assert whole.get(timeout=10).outcome == "held"
        gevent.sleep(0.05)
        assert not broken.dead
        allowed.set()
        record = broken.get(timeout=10)
    assert (record.outcome, record.end, record.ids) == ("held", "stopped", [(1, 3)])
    assert streams.breaks[0].first_new is not None
    # Whoever opens now is closed at once.
    with serving(held_open) as server:
        late = Streams(server.url, kind="subscription")
        late.client.close_when_open("the run's end")
        assert late.run().outcome == "held"


def test_a_stop_while_waiting_to_reconnect_is_unfinished() -> None:
    with serving(cut_then(numbered(1, 2), b"")) as server:
        streams = Streams(
            server.url,
            kind="subscription",
            sequence="id",
            backoff=ms(20_000),
            backoff_max=ms(30_000),
            timeouts=timeouts(total=90_000),
        )
        stream = gevent.spawn(streams.run)
        wait_until(lambda: _waiting(streams))
        streams.client.stop_all("interrupted")
        record = stream.get(timeout=10)
    assert (record.end, record.outcome) == ("stopped", "unfinished")
    assert streams.breaks[0].gave_up == "interrupted"


def test_a_killed_greenlet_leaves_its_row() -> None:
    """Locust kills its users at the end of a test."""
    with serving(held_open) as server:
        streams = Streams(server.url)
        stream = gevent.spawn(streams.run)
        wait_until(lambda: streams.metrics.events == 3)
        stream.kill(timeout=10)
    assert isinstance(stream.value, gevent.GreenletExit)
    assert (streams.only.end, streams.only.outcome, streams.only.events) == ("stopped", "unfinished", 3)
    assert streams.only.attempts_total == 1
    assert streams.client.open_numbers() == []


def test_a_callers_own_time_out_ends_the_stream() -> None:
    with serving(held_open) as server:
        streams = Streams(server.url)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            streams.client.run()
        gone = server.connections[0]
        wait_until(lambda: gone.sock.fileno() == -1)
    assert streams.only.outcome == "unfinished"


def test_max_requests_ends_streams() -> None:
    with serving(
        cut_then(numbered(1, 2), numbered(3, 4), numbered(5, 6) + event("x", type_="done", number=7))
    ) as server:
        budget = AttemptBudget(2)
        streams = robust(server.url, budget=budget)
        record = streams.run()
        assert len(server.connections) == 2
        again = streams.run()
        assert len(server.connections) == 2
    assert budget.left == 0
    assert (record.end, record.outcome, record.attempts_total) == ("stopped", "unfinished", 2)
    assert streams.breaks[1].gave_up == "max_requests was reached"
    assert (again.outcome, again.attempts_total, again.attempts) == ("unfinished", 0, [])


def test_a_stream_that_can_not_be_made_is_dropped_and_named_and_the_next_one_runs() -> None:
    """A lone surrogate has no UTF-8. The error's own words would quote the body."""
    with serving(cut_then(numbered(1, 2) + event("x", type_="done", number=3))) as server:
        streams = robust(server.url)
        for make in (streams.client.run, streams.client.open):
            with pytest.raises(UnicodeEncodeError):
                make(body="hunter2 \ud800", method="POST")
        streams.run()
    assert [(row.stream, row.dropped) for row in streams.starts] == [(0, True), (1, True), (2, False)]
    assert streams.only.stream == 2
    row = streams.metrics.snapshot()
    assert row.dropped == 2
    assert re.fullmatch(
        r"Stream 0 could not be made: UnicodeEncodeError in session\.py, line \d+\. Stream 1 could not .*",
        row.rig_error,
    )
    assert "hunter2" not in row.rig_error


def test_so_many_of_them_end_the_run() -> None:
    streams = Streams("http://127.0.0.1:9/")
    for _ in range(MOST_UNMADE - 1):
        with pytest.raises(UnicodeEncodeError):
            streams.client.run(body="\ud800")
    with pytest.raises(RigError, match=r"100 streams of worker 0 could not be made\. Stream 99 .*Unicode"):
        streams.client.run(body="\ud800")
    assert len(streams.starts) == MOST_UNMADE


# Rows and sinks.


def test_start_and_end_rows() -> None:
    with serving(cut_then(numbered(1, 2))) as server:
        streams = Streams(
            server.url,
            worker=3,
            variant="after",
            addresses=[address(server.port, "red")],
            own_server=True,
        )
        record = streams.run(number=11, group="red", name="chat")
        request = server.connections[0]
    (start,) = streams.starts
    assert (start.stream, start.worker, start.variant, start.group, start.name) == (
        11,
        3,
        "after",
        "red",
        "chat",
    )
    assert start.dispatched == record.dispatched
    assert (record.stream, record.worker, record.variant, record.group, record.name) == (
        11,
        3,
        "after",
        "red",
        "chat",
    )
    assert record.truth_id == request.header("sseproof-stream") == "r1/after/11"
    assert record.dispatched.ns <= record.attempts[0].started.ns


def test_streams_of_a_group_take_its_addresses_in_turn() -> None:
    with serving(cut_then(numbered(1, 1))) as one, serving(cut_then(numbered(1, 1))) as two:
        streams = Streams(
            "http://service.invalid/x",
            addresses=[address(one.port, "g"), address(two.port, "g"), address(9, "other")],
        )
        for number in range(4):
            assert streams.run(number=number, group="g").outcome == "complete"
        assert (len(one.connections), len(two.connections)) == (2, 2)
        assert one.connections[0].header("host") == "service.invalid"


def test_rows_carry_how_long_their_own_proxy_may_have_held_a_connection() -> None:
    with serving(cut_then(numbered(1, 2), numbered(3, 4) + event("x", type_="done", number=5))) as server:
        place = AddressPlan(host="127.0.0.1", port=server.port, group="g", queue_ns=40 * MS)
        streams = robust(server.url, addresses=[place, structs.replace(place, group="other", queue_ns=9)])
        record = streams.run(group="g")
        alone = streams.run(group="nobody's")
    (row,) = streams.breaks
    assert (row.proxy_queue_ns, record.proxy_queue_ns, alone.proxy_queue_ns) == (40 * MS, 40 * MS, None)


@pytest.mark.parametrize("sink", ["on_start", "on_break", "on_end"])
def test_a_full_disk_reaches_the_caller(sink: str) -> None:
    def full(_: object) -> None:
        raise RigError("The disk is full.")

    with serving(cut_then(numbered(1, 2), numbered(3, 4) + event("x", type_="done", number=5))) as server:
        streams = robust(server.url, **{sink: full})
        with pytest.raises(RigError, match="disk is full"):
            streams.run()
    assert streams.client.open_numbers() == []
    assert streams.metrics.open_streams == 0


def test_a_stream_leaves_nothing_behind() -> None:
    """Ten thousand streams of a run must not stay in memory."""
    import gc

    with serving(cut_then(numbered(1, 2), numbered(3, 4) + event("x", type_="done", number=5))) as server:
        streams = robust(server.url, timeouts=timeouts())
        streams.run()
        gevent.sleep(0.1)  # longer than the connection lingers after the end
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Exchange | Session)]


# Memory.


def test_the_largest_stream_goes_when_memory_runs_out() -> None:
    sizes = {0: 100_000, 1: 400_000, 2: 200_000}

    def script(connection: Connection) -> None:
        size = int(connection.header("x-size") or 0)
        connection.send(CLOSE_HEAD + b"data: " + b"x" * size)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(server.url, kind="subscription", ledger_bytes=600_000)
        running = {
            number: gevent.spawn(streams.run, number=number, headers={"X-Size": str(size)})
            for number, size in sizes.items()
        }
        record = running[1].get(timeout=20)
        assert (record.end, record.outcome) == ("stopped", "unfinished")
        wait_until(lambda: streams.ledger.total_bytes >= 300_000)
        assert streams.metrics.pending_bytes == streams.ledger.total_bytes
        assert streams.client.open_numbers() == [0, 2]
        assert "Stream 1 was ended" in (streams.metrics.snapshot().rig_error or "")
        streams.client.stop_all("test")
        gevent.joinall(list(running.values()), timeout=20)
    assert streams.ledger.total_bytes == 0
    assert streams.metrics.pending_bytes == 0
    assert [each.outcome for each in streams.records[1:]] == ["held", "held"]


def test_the_ledger_adds_up() -> None:
    class Holder:
        def __init__(self) -> None:
            self.ended = 0

        def out_of_memory(self, _: int) -> None:
            self.ended += 1

    ledger = Ledger(1_000)
    holders = [Holder() for _ in range(5)]
    rng = random.Random(1)
    held = dict.fromkeys(holders, 0)
    for _ in range(500):
        holder = rng.choice(holders)
        held[holder] = rng.randrange(0, 150)
        ledger.change(holder, held[holder])  # type: ignore[arg-type]
        assert ledger.total_bytes == sum(held.values())
    assert not any(holder.ended for holder in holders)
    ledger.change(holders[3], 990)  # type: ignore[arg-type]
    assert [holder.ended for holder in holders] == [0, 0, 0, 1, 0]
    assert ledger.total_bytes == sum(held[holder] for holder in holders if holder is not holders[3])


# Iterating.


def test_iterating_gives_every_event_once() -> None:
    parts = (numbered(1, 3), numbered(2, 5) + event("x", type_="done", number=6))
    with serving(cut_then(*parts)) as server:
        streams = robust(server.url)
        with streams.client.open() as stream:
            assert stream.record is None
            seen = [message.data for message in stream]
        assert stream.record is not None
    assert seen == ["t1 ", "t2 ", "t3 ", "t4 ", "t5 ", "x"]
    assert stream.record is streams.only
    assert (streams.only.outcome, streams.only.doubled) == ("damaged", 2)


def test_leaving_early_ends_the_stream() -> None:
    with serving(held_open) as server:
        streams = Streams(server.url)
        with streams.client.open(number=4) as stream:
            assert stream.number == 4
            for message in stream:
                assert message.data == "t1 "
                break
        assert stream.record is not None
        connection = server.connections[0]
        wait_until(lambda: connection.sock.fileno() == -1)
    assert (stream.record.end, stream.record.outcome) == ("stopped", "unfinished")


def test_an_exception_in_the_block_ends_the_stream_too() -> None:
    with serving(held_open) as server:
        streams = Streams(server.url)
        with pytest.raises(ZeroDivisionError), streams.client.open() as stream:
            assert 1 / (next(stream).data == "another")
    assert streams.only.outcome == "unfinished"


def test_a_recorder_that_fails_reaches_whoever_iterates() -> None:
    def full(_: BreakRow) -> None:
        raise RigError("The disk is full.")

    with serving(cut_then(numbered(1, 2), numbered(3, 4))) as server:
        streams = robust(server.url, on_break=full)
        with pytest.raises(RigError), streams.client.open() as stream:
            for _ in stream:
                pass


def test_a_slow_reader_is_felt_by_the_server_and_loses_nothing() -> None:
    """Iterating slowly stops the reading, so that memory stays bounded (sse.md C30)."""
    count = 12_000
    block = b"".join(event("x" * 500, number=number) for number in range(1, count + 1))
    progress: list[int] = []

    def script(connection: Connection) -> None:
        connection.send(CLOSE_HEAD)
        for at in range(0, len(block), 65_536):
            connection.send(block[at : at + 65_536])
            progress.append(at)
        connection.close()

    with serving(script) as server:
        streams = Streams(server.url, sequence="id", timeouts=timeouts(idle=600))
        with streams.client.open() as stream:
            next(stream)
            wait_until(lambda: len(stream._queue) > QUEUE_HIGH_EVENTS)
            reads = streams.metrics.reads
            gevent.sleep(0.9)  # longer than the idle time-out: our own pause is nobody's silence
            assert streams.metrics.reads == reads
            assert streams.metrics.pending_bytes < 2 << 20
            assert len(stream._queue) < 1_400
            seen = 1 + sum(1 for _ in stream)
    assert seen == count
    assert stream.record is not None
    assert (stream.record.outcome, stream.record.lost) == ("complete", 0)


# Misuse.


def test_environment_values_must_be_set() -> None:
    with pytest.raises(UsageError, match="TOKEN is not set"):
        Streams("http://127.0.0.1:1/", headers={"Authorization": "Bearer {env:TOKEN}"})


@pytest.mark.parametrize("url", ["127.0.0.1:80/x", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        Streams(url)


def test_headers_that_can_not_be_sent() -> None:
    with pytest.raises(UsageError, match="X-A"):
        Streams("http://127.0.0.1:1/", headers={"X-A": "b\r\nX-C: d"})


def test_paths_to_other_hosts_are_refused() -> None:
    streams = Streams("http://127.0.0.1:1/")
    with pytest.raises(UsageError, match="another host"):
        streams.client.run("http://127.0.0.2:1/x")


@pytest.mark.parametrize("field", ["terminal", "sequence", "sent_at", "dialect"])
def test_words_that_mean_nothing(field: str) -> None:
    with pytest.raises(UsageError):
        Streams("http://127.0.0.1:1/", **{field: "nonsense:"})


def test_an_id_goes_back_in_utf8_and_a_seeded_one_is_sent_first() -> None:
    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(CHUNKED_HEAD + chunk("id: \u2026\ndata: a\n\n".encode()))
            connection.close()
        else:
            finish(connection, b"data: b\n\n")

    with serving(script) as server:
        Streams(server.url, headers={"Last-Event-ID": "from-before"}).run()
        heads = [each.head for each in server.connections]
    assert b"Last-Event-ID: from-before\r\n" in heads[0] + b"\r\n"
    assert "Last-Event-ID: \u2026\r\n".encode() in heads[1] + b"\r\n"


def test_an_id_that_no_header_can_carry_is_left_out_and_said() -> None:
    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(CHUNKED_HEAD + chunk(b"retry: 1\nid: a\x01b\ndata: a\n\n"))
            connection.close()
        else:
            finish(connection, b"data: b\n\n")

    with serving(script) as server:
        record = Streams(server.url, profile="browser").run()
        assert server.connections[1].header("last-event-id") is None
    assert "control characters" in record.attempts[1].detail
    assert record.attempts[1].last_event_id is None


# Secrets that a call brings along.


def echoing(connection: Connection) -> None:
    """A careless service: it repeats the request's head in the body of its refusal."""
    head = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(connection.head)
    connection.send(head + connection.head)
    connection.until_gone()


def test_secrets_of_a_call_are_masked_where_the_target_echoes_them() -> None:
    with serving(echoing) as server:
        streams = Streams(server.url, retries=0, headers={"X-Api-Key": "abc-common-key"})
        for number in range(2):
            record = streams.run(
                f"/s?q=question&api_key=query{number}-of-the-call",
                headers={
                    "Authorization": f"Bearer abc-common-key-{number}-of-the-call",
                    "Cookie": "cookie-of-the-call",
                },
            )
            for shown in (record.detail, record.attempts[-1].detail):
                assert "q=question" in shown, "the target did echo"
                assert "Authorization: [secret]" in shown
                assert "Cookie: [secret]" in shown
                assert "of-the-call" not in shown
                assert "abc-common-key" not in shown
        assert len(server.connections) == 2


def test_secrets_of_past_calls_are_not_kept() -> None:
    """A million users with a token each need no memory for a million tokens."""
    with serving(echoing) as server:
        streams = Streams(server.url, retries=0)
        masks = streams.client.redact
        streams.run(headers={"Authorization": "Bearer token-of-the-call"})
        assert streams.client.redact is masks
        assert masks("token-of-the-call") == "token-of-the-call"
