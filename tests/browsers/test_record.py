"""What a page tells, as rows: instants and their brackets, breaks, loss, text, and ends, against answers known beforehand."""

import hashlib
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.browsers.posts import Exchange, PageAttempt, PageEnd, PageEvent, browser_of, unique
from sseproof.browsers.record import NOT_TOLD, PageClock, Place, Rows, rows_of
from sseproof.loadtests.dialects import Plain
from sseproof.rundir.rows import GAP_GRID_NS, StreamRecord

MS = 1_000_000
T0_MS = 1_700_000_000_000.0
PLACE = Place(
    variant="chromium-sseconsumer",
    stream=3,
    worker=1,
    group="between",
    address="127.0.0.1:20001",
    truth_id="run/chromium-sseconsumer/3",
    gap_edges_ns=list(GAP_GRID_NS),
    read_ns=(round(T0_MS) * MS, round(T0_MS + 10_000) * MS),
)


def exchange(sent_ms: float, *, ahead_ms: float = 0.0, trip_ms: float = 1.0) -> Exchange:
    """A question of a page whose clock is ahead of ours, answered in the middle of its way."""
    ours_us = (T0_MS + sent_ms - ahead_ms + trip_ms / 2) * 1e3
    return Exchange(T0_MS + sent_ms, ours_us, T0_MS + sent_ms + trip_ms)


def clock(resolution_ms: float = 0.0, **how: float) -> PageClock:
    return PageClock([exchange(0, **how)], resolution_ms)


def delta(at_ms: float, number: int, text: str = "x") -> PageEvent:
    return PageEvent(T0_MS + at_ms, "delta", f"key-{number}", json.dumps({"text": text}))


def done(at_ms: float, number: int) -> PageEvent:
    return PageEvent(T0_MS + at_ms, "done", f"key-{number}", "{}")


def attempt(
    started_ms: float, ended_ms: float, end: PageEnd, events: Sequence[PageEvent] = (), **more: object
) -> PageAttempt:
    opened = more.pop("opened_ms", started_ms + 1)
    return PageAttempt(
        started_ms=T0_MS + started_ms,
        opened_ms=None if opened is None else T0_MS + opened,  # type: ignore[operator]  # a number of these tests
        ended_ms=T0_MS + ended_ms,
        end=end,
        events=list(events),
        **more,  # type: ignore[arg-type]  # as above
    )


def read(*attempts: PageAttempt, by: PageClock | None = None) -> Rows:
    return rows_of(PLACE, by or clock(), attempts, Plain("event:done", "id", None, "json:text"))


def ms_of(record: StreamRecord, name: str) -> float:
    return getattr(record, name).ns / MS - T0_MS


def test_a_whole_answer() -> None:
    rows = read(attempt(10, 100, "terminal", [delta(60, 1, "a"), delta(80, 2, "é"), done(100, 3)]))
    record = rows.record
    assert (record.outcome, record.end, record.breaks, rows.breaks) == ("complete", "terminal", 0, [])
    assert (record.events, record.tokens, record.ids) == (3, 2, [(1, 3)])
    assert (record.lost, record.doubled, record.reordered, record.fffd) == (0, 0, 0, 0)
    assert record.text_sha256 == hashlib.sha256("aé".encode()).hexdigest()
    assert [round(ms_of(record, name)) for name in ("sent", "headers", "first_token", "ended")] == [
        10,
        11,
        60,
        100,
    ]
    assert record.gaps is not None
    assert record.gaps.count == 2
    assert record.truth_id == PLACE.truth_id


def test_a_cut_that_is_mended() -> None:
    rows = read(
        attempt(0, 50, "broken", [delta(20, 1), delta(40, 2)], wait_ms=300.0),
        attempt(350, 500, "terminal", [delta(360, 3), done(500, 4)], opened_ms=355.0),
    )
    record, (row,) = rows.record, rows.breaks
    assert (record.outcome, record.breaks, record.lost, record.doubled) == ("complete", 1, 0, 0)
    assert record.attempts[0].end == "fin"
    assert NOT_TOLD in record.attempts[0].detail
    assert record.attempts[1].last_event_id == "key-2"
    assert row.first_new is not None
    assert round((row.first_new.ns - row.seen.ns) / MS) == 310
    assert (row.waits_ns, row.attempts, row.resumed, row.gave_up) == ([300 * MS], 1, True, None)
    assert (row.lost, row.doubled) == (0, 0)


def test_a_reconnection_that_the_browser_makes_lies_between_two_moments() -> None:
    rows = read(
        attempt(0, 50, "broken", [delta(20, 1)]),
        attempt(50, 3_100, "terminal", [done(3_100, 2)], opened_ms=3_060.0),
    )
    started = rows.record.attempts[1].started
    assert round(started.ns / MS - T0_MS) == 50
    assert round(started.hi_ns / MS - T0_MS) == pytest.approx(3_060, abs=1)
    assert rows.breaks[0].waits_ns == []


def test_attempts_without_news_belong_to_one_break() -> None:
    rows = read(
        attempt(0, 50, "broken", [delta(20, 1)], wait_ms=100.0),
        attempt(150, 160, "refused", opened_ms=None, wait_ms=200.0),
        attempt(360, 500, "terminal", [done(500, 2)]),
    )
    (row,) = rows.breaks
    assert (row.attempts, row.waits_ns) == (2, [100 * MS, 200 * MS])


@pytest.mark.parametrize(
    ("end", "outcome", "gave_up"),
    [
        ("broken", "cut", "the client gave up"),
        ("ended", "truncated", "the client gave up"),
        ("refused", "cut", "the client gave up"),
        ("total-timeout", "stalled", None),
        ("status", "error-http", None),
        ("given-up", "unfinished", None),
    ],
)
def test_ends_of_an_answer_that_stays_a_piece(end: PageEnd, outcome: str, gave_up: str | None) -> None:
    rows = read(attempt(0, 50, end, [delta(20, 1)]))
    assert rows.record.outcome == outcome
    assert [row.gave_up for row in rows.breaks] == ([] if gave_up is None else [gave_up])
    assert all((row.first_new, row.attempts) == (None, 0) for row in rows.breaks)


def test_a_break_before_a_time_out_is_not_mended() -> None:
    rows = read(attempt(0, 50, "broken", [delta(20, 1)]), attempt(50, 900, "total-timeout", opened_ms=None))
    assert [(row.first_new, row.gave_up) for row in rows.breaks] == [(None, "total-timeout")]


def test_lost_and_doubled_events_are_counted() -> None:
    rows = read(
        attempt(0, 50, "broken", [delta(10, 1), delta(20, 2), delta(30, 3)]),
        attempt(50, 200, "terminal", [delta(100, 3), delta(110, 5), done(200, 6)]),
    )
    assert (rows.record.lost, rows.record.doubled, rows.record.outcome) == (1, 1, "damaged")
    # What is new after a break is not what came before: the repeated event does not mend it.
    first_new = rows.breaks[0].first_new
    assert first_new is not None
    assert round(first_new.ns / MS - T0_MS) == 110


def test_replacement_characters_reach_the_count() -> None:
    record = read(attempt(0, 50, "terminal", [delta(10, 1, "a\ufffd\ufffdb"), done(50, 2)])).record
    assert (record.fffd, record.outcome) == (2, "damaged")


def test_heartbeats_are_no_events_of_the_answer() -> None:
    ping = PageEvent(T0_MS + 30, "ping", "key-1", "{}")
    record = read(attempt(0, 90, "terminal", [delta(10, 1), ping, delta(50, 2), done(90, 3)])).record
    assert (record.heartbeats, record.doubled, record.tokens) == (1, 0, 2)


def test_an_eventsource_that_gets_nowhere_has_as_many_attempts_as_it_made() -> None:
    first = attempt(0, 10, "broken", [delta(5, 1)])
    tries = [attempt(10 + number, 11 + number, "refused", opened_ms=None) for number in range(1_998)]
    rows = read(first, *tries, attempt(2_010, 2_020, "total-timeout", opened_ms=None))
    record, (row,) = rows.record, rows.breaks
    assert (record.attempts_total, len(record.attempts), row.attempts) == (2_000, 100, 1_999)
    assert [each.number for each in record.attempts[-2:]] == [99, 2_000]
    assert (record.outcome, record.first_token is None) == ("stalled", False)


def test_an_error_doubles_nothing() -> None:
    """It has no id: what the page is told with it is that of the event before."""
    error = PageEvent(T0_MS + 50, "error", "key-2", '{"message": "no"}')
    record = read(attempt(0, 50, "inband-error", [delta(20, 1), delta(40, 2), error])).record
    assert (record.outcome, record.doubled, record.events) == ("error-inband", 0, 3)
    rows = read(
        attempt(0, 50, "broken", [delta(20, 1), delta(40, 2), error]),
        attempt(350, 500, "terminal", [error, delta(360, 3), done(500, 4)]),
    )
    assert (rows.record.outcome, rows.record.doubled) == ("complete", 0)
    assert rows.breaks[0].first_new is not None
    assert round(rows.breaks[0].first_new.ns / MS - T0_MS) == 360


@given(
    ahead_ms=st.floats(-5_000, 5_000),
    trip_ms=st.floats(0.0, 50),
    resolution_ms=st.sampled_from([0.005, 0.02, 1.0, 16.7]),
    at_ms=st.floats(0, 60_000),
    asymmetry=st.floats(0, 1),
    up=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_the_truth_lies_in_the_bracket(
    ahead_ms: float,
    trip_ms: float,
    resolution_ms: float,
    at_ms: float,
    asymmetry: float,
    up: tuple[bool, bool, bool],
) -> None:
    """Whatever the way of the question, however coarse the page's clock, and wherever it shows its steps: Firefox draws that."""

    def shown(true_ms: float, after: bool) -> float:
        steps = (T0_MS + true_ms + ahead_ms) // resolution_ms
        return (steps + after) * resolution_ms

    asked = Exchange(shown(0, up[0]), (T0_MS + asymmetry * trip_ms) * 1e3, shown(trip_ms, up[1]))
    instant = PageClock([asked], resolution_ms).instant(shown(at_ms, up[2]))
    truth_ns = round((T0_MS + at_ms) * MS)
    assert (
        instant.lo_ns - 2_000 <= truth_ns <= instant.hi_ns + 2_000
    )  # doubles end at a quarter of a microsecond


def test_the_tightest_exchange_counts() -> None:
    both = PageClock([exchange(0, trip_ms=40), exchange(100, trip_ms=1), exchange(200, trip_ms=30)], 0.0)
    assert both.offset.error_ns < 1 * MS


def test_an_exchange_that_ends_before_it_began_is_refused() -> None:
    with pytest.raises(ValueError, match="no exchange"):
        PageClock([Exchange(T0_MS + 50, T0_MS * 1e3, T0_MS)], 0.0)


@pytest.mark.parametrize("ms", [-31_000.0, 41_000.0])
def test_an_account_of_another_time_is_refused(ms: float) -> None:
    """One instant of it would stretch every axis of the report."""
    ends = sorted((ms, 50.0))
    with pytest.raises(ValueError, match="another time"):
        read(attempt(ends[0], ends[1], "broken", opened_ms=None))
    with pytest.raises(ValueError, match="another time"):
        read(attempt(0, 50, "terminal", [delta(ms, 1)]))
    assert read(attempt(-29_000, 39_000, "terminal", [delta(0, 1)])).record.events == 1


def test_a_clock_of_which_nobody_knows_what_it_shows_is_refused() -> None:
    wide = PageClock([exchange(0, trip_ms=61_000)], 0.0)
    with pytest.raises(ValueError, match="clock"):
        read(attempt(0, 50, "terminal", [delta(20, 1)]), by=wide)
    beyond = PageClock([Exchange(0.0, 1e16, 1e13)], 0.0)
    with pytest.raises(ValueError, match="clock"):
        read(attempt(0, 50, "terminal", [delta(20, 1)]), by=beyond)


def test_a_coarse_clock_makes_gaps_uncertain() -> None:
    rows = read(
        attempt(0, 90, "terminal", [delta(10, 1), delta(50, 2), done(90, 3)]), by=clock(resolution_ms=1.0)
    )
    gaps = rows.record.gaps
    assert gaps is not None
    assert round(gaps.longest_hi_ns / MS) == 42
    assert round(gaps.longest_lo_ns / MS) == 38


AGENTS = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0": ("firefox", "128.0"),
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36": (
        "chromium",
        "156.0.0.0",
    ),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.2849.5": (
        "edge",
        "130.0.2849.5",
    ),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15": (
        "safari",
        "18.1",
    ),
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1": (
        "mobile-safari",
        "18.1",
    ),
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36": (
        "mobile-chromium",
        "130.0.0.0",
    ),
    "curl/8.5.0": ("other", ""),
    "../../etc Firefox/9;rm": ("firefox", "9"),
}


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent[:20])
def test_browsers_by_what_they_say_of_themselves(agent: str) -> None:
    assert browser_of(agent) == AGENTS[agent]


def test_a_second_browser_of_a_kind_gets_a_number() -> None:
    assert unique("firefox", ["firefox", "chromium", "firefox-2"]) == "firefox-3"
