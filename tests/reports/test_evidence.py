"""Evidence that a fault acted, by known answers: what the streams show, not what the injector was told."""

import msgspec
import pytest

from sseproof.chaos.plan import GroupSpec, addresses, parse_groups, plan_faults, with_ports
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reports.clocks import Clocks
from sseproof.reports.evidence import evidence_of
from sseproof.reports.facts import History
from sseproof.rundir.rows import (
    Attempt,
    BrowserPlan,
    FaultRow,
    Gaps,
    GeneratorRow,
    Instant,
    Plan,
    StreamRecord,
    VariantPlan,
)
from sseproof.rundir.units import to_raw

MS = 1_000_000
START = 1_800_000_000_000 * MS


def planned(table: dict, records, faults=(), clean=(), side="client", browser=None) -> History:
    """A history of 20 clean streams, unless others are given, and those of one fault's group."""
    share = "100%" if table["kind"] in {"server-restart", "command"} else "50%"
    specs: list[GroupSpec] = parse_groups([{"name": "hit", "share": share, **table}])
    plan = plan_faults(specs, run="r", seed=1, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=4)
    plan = with_ports(plan, range(20_000, 20_000 + len(plan.proxies)))
    variant = VariantPlan(
        target=to_raw(Target(url="http://127.0.0.1:9/")),
        load=to_raw(Load()),
        client=to_raw(Client()),
        addresses=addresses(plan),
        hop="nginx-sse",
        fault_side=side,
        browser=browser,
    )
    whole = Plan(
        run="r",
        scenario="s",
        seed=1,
        created_ns=START,
        variants=[variant],
        faults=msgspec.Raw(msgspec.json.encode(plan)),
    )
    quick = {"attempt": {**came(30_000), "last_event": Instant(START + 3_900 * MS)}}
    made = [record(n, group="clean", **values) for n, values in enumerate(clean or [quick] * 20)]
    made += [make(variant, n) for n, make in enumerate(records, 100)]
    return History(plan=whole, streams=made, faults=list(faults))


def record(
    number: int,
    *,
    group: str,
    attempt: dict | None = None,
    wait_ms: int = 50,
    silence_ms: int = 40,
    events: int = 0,
    until_ms: int = 4_000,
):
    sent = Instant(START + 1_000 * MS)
    values = {
        "number": 1,
        "address": "127.0.0.1:20000",
        "started": Instant(START),
        "sent": sent,
        "headers": Instant(sent.ns + wait_ms * MS),
        "ended": Instant(START + until_ms * MS),
        "end": "terminal",
        "reads": 10,
        **(attempt or {}),
    }
    return StreamRecord(
        stream=number,
        group=group,
        dispatched=Instant(START),
        sent=sent,
        first_token=Instant(sent.ns + wait_ms * MS),
        ended=Instant(START + until_ms * MS),
        outcome="complete",
        end=values["end"],
        attempts=[Attempt(**values)],
        events=events,
        gaps=Gaps(count=3, longest_lo_ns=silence_ms * MS, longest_hi_ns=silence_ms * MS),
    )


def hit(**values):
    return lambda _variant, number: record(number, group="hit", **values)


def cut(off: int = 0, end: str = "fin"):
    """A first connection that ended that many bytes off the planned place."""

    def make(variant, number):
        place = next(each for each in variant.addresses if each.group == "hit" and each.cut_after_bytes)
        attempt = {
            "address": f"{place.host}:{place.port}",
            "received_bytes": place.cut_after_bytes + off,
            "end": end,
        }
        return record(number, group="hit", attempt=attempt)

    return make


CUT = {"kind": "cut", "after_bytes": [600, 1200]}
SLOW = {"kind": "slow-first-byte", "delay": "600ms"}
STALL = {"kind": "stall", "after": "1s", "duration": "1s"}
SLICE = {"kind": "slice", "size_bytes": 3}
LATE = {"kind": "latency", "delay": "600ms"}
JITTER = {"kind": "jitter", "delay": "500ms", "jitter": "400ms"}
SLOW_RATE = {"kind": "bandwidth", "rate_kb_s": 2}
DRIP = {"kind": "slow-drip", "size_bytes": 20, "every": "10ms"}
STALL_EVENTS = {"kind": "stall-events", "after_events": 5, "duration": "1s"}
HOLE = {"kind": "black-hole", "after": "1s", "duration": "1s"}
EVENTS = {"kind": "cut-events", "after_events": 4}
IN_EVENT = {**EVENTS, "inside": "event", "by": "rst"}
IN_CHARACTER = {**EVENTS, "inside": "character"}
TIMED = {"kind": "cut-time", "after": "1s"}
SPLIT = {"kind": "split-characters"}
CLOSED = {"kind": "accept-then-close"}
FLAP = {"kind": "flapping", "after": "1s", "down": "1s", "up": "1s", "times": 2}
RESTART = {"kind": "server-restart", "after": "1s", "duration": "1s"}
DRAIN = {**RESTART, "drain": "500ms"}
COMMAND = {"kind": "command", "do": ["true"], "after": "1s", "max": "1s", "shows": "breaks"}
PAUSE = COMMAND | {"shows": "silence"}
SLOW_CLOSE = {"kind": "slow-close", "delay": "700ms"}


def first(**attempt):
    """A first connection, to a proxy that breaks."""

    def make(variant, number):
        place = next(each for each in variant.addresses if each.group == "hit" and each.attempts != "later")
        connected = Instant(START + 1_000 * MS)
        values = {
            "address": f"{place.host}:{place.port}",
            "started": connected,
            "connected": connected,
            **attempt,
        }
        return record(number, group="hit", attempt=values)

    return make


def heard(*ms: int):
    """A connection through the window of `applied` (2,000 to 3,001 ms), with what was last heard at those times."""
    instants = [Instant(START + each * MS) for each in ms]
    names = ("headers", "first_event", "last_event")
    return hit(attempt={"headers": None, **dict(zip(names, instants, strict=False))})


def lived(lasted_ms: int) -> dict:
    return {"end": "fin", "ended": Instant(START + (1_000 + lasted_ms) * MS)}


def came(received_bytes: int) -> dict:
    """So many bytes in the 3 s from sending to the end; the clean group's come at 10 KB/s."""
    return {"received_bytes": received_bytes, "first_byte": Instant(START + 1_050 * MS)}


def closing(ms: int) -> dict:
    return {"last_event": Instant(START + (4_000 - ms) * MS), "end": "fin"}


def turned_away() -> dict:
    at = Instant(START + 2_500 * MS)
    return {"started": at, "sent": None, "headers": None, "ended": at, "end": "refused"}


def in_the_gap(**attempt) -> dict:
    at = Instant(START + 2_500 * MS)
    return {"started": at, "sent": at, "headers": None, "ended": at, "end": "fin", **attempt}


STRUCK = [
    hit(
        attempt={"connected": Instant(START + 1_500 * MS), "ended": Instant(START + 2_010 * MS), "end": "fin"}
    )
] * 5


SERVED_AGAIN = [
    hit(
        attempt={
            **{name: Instant(START + 3_300 * MS) for name in ("started", "sent", "headers", "first_event")},
            "ended": Instant(START + 3_500 * MS),
            "last_event": Instant(START + 3_400 * MS),
            "end": "terminal",
            "events": 3,
            "received_bytes": 99,
        }
    )
]


def open_until(ms: int, end: str):
    times = {"connected": Instant(START + 1_500 * MS), "ended": Instant(START + ms * MS)}
    return [hit(attempt={**times, "end": end})] * 5


SENT_AWAY = open_until(2_600, "eof")
OWN_END = open_until(2_400, "terminal")
STAYED = open_until(3_500, "eof")

EARLIER = [hit(until_ms=1_500)] * 10
"""Streams that were over before the window of `applied`."""


def fired(count: int) -> FaultRow:
    return FaultRow(at_ns=START, step="fired", fault="hit", group="hit", fired=count)


def applied(kind: str, *, told_after_ms: int = 1) -> list[FaultRow]:
    """Its heal call was sent a second later, and answered so long after that."""
    at = START + 2_000 * MS
    sent = at + 1_000 * MS
    common = {"fault": "hit", "kind": kind, "group": "hit", "window": 1}
    return [
        FaultRow(at_ns=at, step="applied", call_sent_ns=at, call_answered_ns=at + MS, ok=True, **common),
        FaultRow(
            at_ns=sent,
            step="healed",
            call_sent_ns=sent,
            call_answered_ns=sent + told_after_ms * MS,
            ok=True,
            **common,
        ),
    ]


@pytest.mark.parametrize(
    ("table", "records", "faults", "acted"),
    [
        (CUT, [cut()] * 5, [], True),
        (CUT, [cut(off=-1)] * 5, [], False),
        (CUT, [cut(end="rst")] * 5, [], False),
        ({**CUT, "by": "rst"}, [cut(end="rst")] * 5, [], True),
        (CUT, [hit()] * 5, [], False),
        (SLOW, [hit(wait_ms=660)] * 10, [], True),
        (SLOW, [hit(wait_ms=590)] * 10, [], False),
        (SLOW, [hit(wait_ms=50)] * 10, [], False),
        (STALL, [hit(silence_ms=1_050)] * 10, applied("stall"), True),
        (STALL, [hit(silence_ms=1_050)] * 10, [], False),
        (STALL, [hit(silence_ms=300)] * 10, applied("stall"), False),
        (SLICE, [hit(attempt={"split_events": 8})] * 10, [], True),
        (SLICE, [hit()] * 10, [], False),
        (CUT, [], [], None),
        (LATE, [hit(wait_ms=660)] * 10, [], True),
        (LATE, [hit(wait_ms=590)] * 10, [], False),
        (JITTER, [hit(wait_ms=100 + 80 * n) for n in range(10)], [], True),
        (JITTER, [hit(wait_ms=500 + n) for n in range(10)], [], False),
        (JITTER, [hit()] * 10, [], False),
        *((SLOW_RATE, [hit(attempt=came(each))] * 10, [], each < 6_600) for each in (5_900, 6_500, 9_000)),
        *((DRIP, [hit(attempt=came(each))] * 10, [], each < 6_600) for each in (5_900, 6_500, 9_000)),
        (STALL_EVENTS, [hit(silence_ms=1_010, events=9)] * 10, [fired(10)], True),
        (STALL_EVENTS, [hit(silence_ms=1_010, events=9)] * 10, [fired(0)], False),
        (STALL_EVENTS, [hit(silence_ms=300, events=9)] * 10, [fired(10)], False),
        (STALL_EVENTS, [hit(silence_ms=1_010, events=5)] * 10, [fired(10)], False),
        (HOLE, [heard()] * 10, applied("black-hole"), True),
        (HOLE, [heard(1_900, 1_950, 2_050)] * 10, applied("black-hole"), True),
        (HOLE, [heard(1_900, 1_950, 2_500)] * 10, applied("black-hole"), False),
        (HOLE, [heard(1_900, 1_950, 3_500)] * 10, applied("black-hole"), False),
        (HOLE, [heard()] * 10, [], False),
        (EVENTS, [first(events=4, end="fin")] * 5, [fired(5)], True),
        (EVENTS, [first(events=4, end="fin")] * 5, [fired(0)], False),
        (EVENTS, [first(events=5, end="fin")] * 5, [fired(5)], False),
        (EVENTS, [first(events=4, end="rst")] * 5, [fired(5)], False),
        (EVENTS, [first(events=9, end="terminal")] * 5, [fired(0)], False),
        (IN_EVENT, [first(events=4, end="rst", split_events=1)] * 5, [fired(5)], True),
        (IN_EVENT, [first(events=4, end="rst")] * 5, [fired(5)], False),
        (IN_CHARACTER, [first(events=6, end="fin", split_events=1, split_chars=1)] * 5, [fired(5)], True),
        (IN_CHARACTER, [first(events=6, end="fin", split_events=1)] * 5, [fired(5)], False),
        (TIMED, [first(**lived(1_020))] * 5, [fired(5)], True),
        (TIMED, [first(**lived(1_900))] * 5, [fired(5)], False),
        (TIMED, [first(**lived(900))] * 5, [fired(5)], False),
        (TIMED, [first(**{**lived(1_020), "end": "rst"})] * 5, [fired(5)], False),
        (SPLIT, [hit(attempt={"split_chars": 8})] * 10, [fired(80)], True),
        (SPLIT, [hit(attempt={"split_chars": 8})] * 10, [fired(0)], False),
        (SPLIT, [hit(attempt={"split_events": 8})] * 10, [fired(80)], False),
        (CLOSED, [first(end="fin")] * 5, [], True),
        (CLOSED, [first(end="fin", received_bytes=9)] * 5, [], False),
        (CLOSED, [first(end="rst")] * 5, [], False),
        (CLOSED, [first()] * 5, [], False),
        (FLAP, [hit(attempt=turned_away())] * 5, applied("flapping"), True),
        (FLAP, [hit()] * 5, applied("flapping"), False),
        (COMMAND, STRUCK + EARLIER, applied("command"), True),
        (COMMAND, [hit()] * 5 + EARLIER, applied("command"), False),
        (COMMAND, STRUCK + [hit(until_ms=1_500, attempt={"end": "rst"})] * 5, applied("command"), False),
        (COMMAND, STRUCK + EARLIER, [], False),
        (PAUSE, [hit(silence_ms=1_000)] * 5 + EARLIER, applied("command"), True),
        (PAUSE, [hit(silence_ms=600)] * 5 + EARLIER, applied("command"), False),
        (PAUSE, [hit(silence_ms=1_000)] * 5, applied("command"), None),
        (
            PAUSE,
            [hit(silence_ms=1_000)] * 5 + [hit(until_ms=1_500, silence_ms=1_100)] * 5,
            applied("command"),
            False,
        ),
        (RESTART, STRUCK + [hit(attempt=in_the_gap())] * 5, applied("server-restart"), True),
        (RESTART, [], applied("server-restart"), None),
        (RESTART, [hit()] * 5, applied("server-restart"), False),
        (RESTART, STRUCK, [], False),
        (RESTART, STRUCK + [hit(attempt=in_the_gap(received_bytes=9))] * 5, applied("server-restart"), False),
        (RESTART, [*STRUCK, heard(1_900, 1_950, 2_500)], applied("server-restart"), False),
        (
            DRAIN,
            SENT_AWAY + [hit(attempt=in_the_gap(end="status", status=503, received_bytes=99))] * 5,
            applied("server-restart"),
            True,
        ),
        (DRAIN, SENT_AWAY, applied("server-restart"), True),
        (DRAIN, [], applied("server-restart"), None),
        (DRAIN, OWN_END, applied("server-restart"), False),
        (
            DRAIN,
            OWN_END + [hit(attempt=in_the_gap(end="status", status=503))] * 5,
            applied("server-restart"),
            True,
        ),
        (DRAIN, SENT_AWAY + STAYED, applied("server-restart"), False),
        (DRAIN, SENT_AWAY, [], False),
        (DRAIN, SENT_AWAY + [hit(attempt=in_the_gap(events=3))] * 5, applied("server-restart"), False),
        # A busy rig hears late that the server is back: who came meanwhile was served.
        (DRAIN, SENT_AWAY + SERVED_AGAIN, applied("server-restart", told_after_ms=900), True),
        (RESTART, STRUCK + SERVED_AGAIN, applied("server-restart", told_after_ms=900), True),
        (SLOW_CLOSE, [hit(attempt=closing(720))] * 10, [], True),
        (SLOW_CLOSE, [hit(attempt=closing(300))] * 10, [], False),
        (SLOW_CLOSE, [hit(attempt={**closing(720), "end": "terminal"})] * 10, [], False),
    ],
)
def test_known_answers(table, records, faults, acted):
    (evidence,) = evidence_of(planned(table, records, faults))
    assert evidence.acted is acted, evidence.sentence
    assert evidence.group == "hit"


def within(ns: int, before_ms: int = 0, after_ms: int = 0) -> Instant:
    return Instant(ns, before_ms * MS, after_ms * MS)


def silent(lo_ms: int, hi_ms: int, **values):
    """A stream whose longest silence can have been so short, and so long."""

    def make(_variant, number):
        made = record(number, group="hit", **values)
        made.gaps = Gaps(count=3, longest_lo_ns=lo_ms * MS, longest_hi_ns=hi_ms * MS)
        return made

    return make


def waited(lo_ms: int, hi_ms: int):
    """The headers of an answer that came in that time after sending."""
    headers = within(START + (1_000 + lo_ms) * MS, 0, hi_ms - lo_ms)
    return hit(attempt={"headers": headers})


def throttled(received_bytes: int, early_ms: int):
    """Bytes that were over at 4 s, or as much earlier."""
    return hit(attempt={**came(received_bytes), "ended": within(START + 4_000 * MS, early_ms)})


def late_close(lo_ms: int, hi_ms: int):
    last = within(START + (4_000 - hi_ms) * MS, 0, hi_ms - lo_ms)
    return hit(attempt={"last_event": last, "end": "fin"})


def heard_late(lo_ms: int, hi_ms: int):
    """A connection whose last event came at some time between."""
    return hit(attempt={"headers": None, "last_event": within(START + lo_ms * MS, 0, hi_ms - lo_ms)})


def queued(wait_ms: int, in_proxy_ms: int):
    def make(variant, number):
        made = hit(wait_ms=wait_ms)(variant, number)
        made.proxy_queue_ns = in_proxy_ms * MS
        return made

    return make


@pytest.mark.parametrize(
    ("table", "records", "faults", "acted"),
    [
        # A reader that was late: the silence lasted 40 ms or 1.1 s, and nobody knows.
        (STALL, [silent(40, 1_100)] * 10, applied("stall"), None),
        (STALL, [silent(905, 1_300)] * 10, applied("stall"), True),
        (STALL, [silent(40, 890)] * 10, applied("stall"), False),
        # Three of ten are more than chance, two are not.
        (STALL, [silent(1_000, 1_000)] * 3 + [silent(40, 1_100)] * 7, applied("stall"), True),
        (STALL, [silent(1_000, 1_000)] * 2 + [silent(40, 1_100)] * 8, applied("stall"), None),
        (STALL, [silent(40, 1_100)] * 2 + [silent(40, 40)] * 8, applied("stall"), False),
        (STALL_EVENTS, [silent(40, 1_100, events=9)] * 10, [fired(10)], None),
        (STALL_EVENTS, [silent(40, 1_100, events=9)] * 10, [fired(0)], False),
        (STALL_EVENTS, [silent(950, 1_100, events=9)] * 10, [fired(10)], True),
        (PAUSE, [silent(40, 1_100)] * 5 + EARLIER, applied("command"), None),
        (PAUSE, [silent(950, 1_100)] * 5 + EARLIER, applied("command"), True),
        (SLOW, [waited(50, 900)] * 10, [], None),
        (SLOW, [waited(601, 900)] * 10, [], True),
        (SLOW, [waited(597, 603)] * 10, [], True),
        (SLOW, [waited(530, 603)] * 10, [], None),
        (SLOW, [waited(590, 599)] * 10, [], False),
        (SLOW, [waited(50, 590)] * 10, [], False),
        (LATE, [waited(50, 900)] * 10, [], None),
        (LATE, [queued(900, 850)] * 10, [], None),
        (LATE, [queued(900, 250)] * 10, [], True),
        (JITTER, [waited(100, 100 + 80 * n) for n in range(10)], [], None),
        (JITTER, [waited(100 + 80 * n, 120 + 80 * n) for n in range(10)], [], True),
        (JITTER, [waited(100 + n, 120 + n) for n in range(10)], [], False),
        (SLOW_RATE, [throttled(5_900, 2_000)] * 10, [], None),
        (SLOW_RATE, [throttled(5_900, 200)] * 10, [], True),
        (SLOW_RATE, [throttled(9_000, 500)] * 10, [], False),
        (DRIP, [throttled(5_900, 2_000)] * 10, [], None),
        (DRIP, [throttled(5_900, 200)] * 10, [], True),
        (HOLE, [heard_late(2_050, 2_900)] * 10, applied("black-hole"), None),
        (HOLE, [heard_late(1_950, 2_090)] * 10, applied("black-hole"), True),
        (HOLE, [heard_late(2_150, 2_900)] * 10, applied("black-hole"), False),
        (SLOW_CLOSE, [late_close(20, 900)] * 10, [], None),
        (SLOW_CLOSE, [late_close(705, 900)] * 10, [], True),
        (SLOW_CLOSE, [late_close(697, 703)] * 10, [], True),
        (SLOW_CLOSE, [late_close(20, 690)] * 10, [], False),
    ],
)
def test_our_own_lateness_is_no_evidence_and_hides_none_that_it_can_not_explain(
    table, records, faults, acted
):
    """Design.md decision 4: both ends of the brackets are asked, and between the two nobody knows."""
    (evidence,) = evidence_of(planned(table, records, faults))
    assert evidence.acted is acted, evidence.sentence
    if acted is None:
        assert "Our own measuring was too late to tell." in evidence.sentence


@pytest.mark.parametrize(
    ("lag_ms", "share", "acted"),
    [(100, 0.9, True), (950, 0.9, True), (1_020, 0.9, None), (1_020, 0.5, True), (1_020, None, None)],
)
def test_a_silence_is_none_that_our_own_wait_for_a_core_explains(lag_ms, share, acted):
    """Kernel stamps are exact, but the proxy shares the machine: it may have waited as long as the generator did.

    A generator that was late for a reason of its own (a busy hub) says nothing about the proxy.
    """
    history = planned(STALL, [silent(1_050, 1_050)] * 10, applied("stall"))
    history.generator = [
        second(2_000, loop_lag_max_ns=5 * MS, run_queue_share=0.0),
        second(3_500, interval_ms=1_500, loop_lag_max_ns=lag_ms * MS, run_queue_share=share),
        second(9_000, loop_lag_max_ns=5_000 * MS, run_queue_share=1.0),
    ]
    (evidence,) = evidence_of(history)
    assert evidence.acted is acted, evidence.sentence


def test_a_worker_that_was_held_up_tells_of_it_in_a_row_that_ends_late():
    """It began before rows that begin too late, and stands behind them where rows are in the order of their ends."""
    history = planned(STALL, [silent(1_050, 1_050)] * 10, applied("stall"))
    history.generator = [
        second(6_500, loop_lag_max_ns=5 * MS, run_queue_share=0.0),
        second(7_000, interval_ms=6_000, loop_lag_max_ns=1_020 * MS, run_queue_share=0.9),
    ]
    (evidence,) = evidence_of(history)
    assert evidence.acted is None, evidence.sentence


def second(at_ms: int, interval_ms: int = 1_000, **values) -> GeneratorRow:
    return GeneratorRow(at_ns=START + at_ms * MS, worker=0, interval_ns=interval_ms * MS, **values)


@pytest.mark.parametrize(
    ("mine", "clean", "acted"),
    [
        ({"wait_ms": 1_500, "silence_ms": 1_050}, {"wait_ms": 1_500}, True),
        ({"wait_ms": 1_500, "silence_ms": 40}, {"wait_ms": 1_500}, False),
        ({"wait_ms": 1_500, "silence_ms": 40}, {"silence_ms": 1_600}, True),
        ({"wait_ms": 50, "silence_ms": 1_500}, {"silence_ms": 1_600}, False),
    ],
)
def test_a_service_that_takes_long_to_begin_hides_no_silence_between_events(mine, clean, acted):
    history = planned(STALL, [hit(**mine)] * 10, applied("stall"))
    history.streams = [
        record(n, group="clean", **clean) if each.group == "clean" else each
        for n, each in enumerate(history.streams)
    ]
    (evidence,) = evidence_of(history)
    assert evidence.acted is acted, evidence.sentence


@pytest.mark.parametrize(
    ("step_ms", "first_ms", "acted"),
    [
        (70, 300, True),  # most are longer than the clean group's, and lie further apart
        (70, 50, False),  # as apart as before, and as long as the clean group's
        (30, 300, False),  # longer, and no further apart than those
        (100, 50, True),  # twice as far apart
    ],
)
def test_jitter_shows_beside_a_service_whose_own_waits_lie_far_apart(step_ms, first_ms, acted):
    history = planned(JITTER, [hit(wait_ms=first_ms + step_ms * n) for n in range(10)])
    clean = [each for each in history.streams if each.group == "clean"]
    for n, each in enumerate(clean):
        each.attempts[0].headers = Instant(each.attempts[0].sent.ns + (50 + 20 * n) * MS)
    (evidence,) = evidence_of(history)
    assert evidence.acted is acted, evidence.sentence


def test_a_clean_group_that_was_read_late_takes_no_proof_away_that_is_longer():
    """What its streams can have waited at most is what ours must have been longer than."""
    for clean_hi_ms, acted in ((900, True), (1_200, None)):
        history = planned(STALL, [silent(1_050, 1_050)] * 10, applied("stall"))
        for each in history.streams:
            if each.group == "clean":
                each.gaps = Gaps(count=3, longest_lo_ns=40 * MS, longest_hi_ns=clean_hi_ms * MS)
        (evidence,) = evidence_of(history)
        assert evidence.acted is acted, evidence.sentence


@pytest.mark.parametrize(("table", "value"), [(SLOW, {"wait_ms": 2_480}), (STALL, {"silence_ms": 2_400})])
def test_a_hop_that_is_slow_by_itself_proves_nothing(table, value):
    """Behind a buffering hop the clean group waits as long: time alone is no proof then."""
    history = planned(table, [hit(**value)] * 10, applied("stall") if table is STALL else [])
    history.streams = [
        record(n, group="clean", **value) if each.group == "clean" else each
        for n, each in enumerate(history.streams)
    ]
    (evidence,) = evidence_of(history)
    assert evidence.acted is False
    assert evidence.count == 0


@pytest.mark.parametrize(
    ("records", "acted", "count", "of"),
    [
        ([cut()] + [cut(off=400)] * 40, False, 1, 41),
        ([cut()] * 9 + [cut(off=1)], True, 9, 10),
        ([cut()] * 8 + [cut(off=1)] * 2, False, 8, 10),
        ([cut()] * 8 + [cut(end="idle-timeout")] * 2, False, 8, 10),
        ([cut()] * 3 + [cut(off=-200, end="terminal")] * 40, True, 3, 3),
        ([cut()] * 3 + [cut(end="terminal"), cut(end="stopped")], True, 3, 3),
        ([cut(off=-1, end="eof")] * 40, False, 0, 0),
    ],
    ids=[
        "one-of-41",
        "most",
        "too-few",
        "held-at-its-place",
        "shorter",
        "done-at-its-place",
        "none-got-there",
    ],
)
def test_a_cut_has_to_meet_most_of_those_that_got_as_far(records, acted, count, of):
    (evidence,) = evidence_of(planned(CUT, records))
    assert (evidence.acted, evidence.count, evidence.of) == (acted, count, of), evidence.sentence


REFUSED = {"kind": "refused", "after": "1s", "duration": "1s"}


def dialled(at_ms: int, end: str, ended_ms: int | None = None) -> dict:
    """An attempt that was begun so long after the start and ended 1 ms later, unless it lived longer."""
    started = START + at_ms * MS
    return {
        "started": Instant(started),
        "connected": None if end == "refused" else Instant(started + MS // 2),
        "sent": None,
        "headers": None,
        "ended": Instant(START + ended_ms * MS if ended_ms else started + MS),
        "end": end,
    }


def refused_run(mine: list[dict], clean: list[dict]) -> History:
    """Every attempt is a stream of its own; the link is down from 2 to 3 s."""
    return planned(
        REFUSED,
        [hit(attempt=attempt) for attempt in mine],
        applied("refused"),
        [{"attempt": attempt} for attempt in clean],
    )


TURNED_AWAY = dialled(2_500, "refused")
LONG = dialled(500, "eof", 3_800)
"""Lives from before the fault until after it."""


@pytest.mark.parametrize(
    ("mine", "clean", "acted"),
    [
        ([TURNED_AWAY, *[LONG] * 9], [LONG] * 10, True),
        ([dialled(3_900, "refused"), *[LONG] * 9], [LONG] * 10, False),
        ([TURNED_AWAY] * 10, [TURNED_AWAY] * 10, False),
        ([dialled(500, "fin", 2_001)] * 10, [LONG] * 10, True),
        ([dialled(500, "eof", 2_050)] * 10, [LONG] * 10, True),
        ([dialled(500, "eof", 2_500)] * 10, [LONG] * 10, False),
        (
            [dialled(500, "eof", 2_050 + 400 * n) for n in range(5)],
            [dialled(500, "eof", 2_050 + 400 * n) for n in range(5)],
            False,
        ),
        ([dialled(500, "fin", 2_050)] * 10, [dialled(500, "fin", 2_050)] * 10, False),
        ([dialled(500, "terminal", 2_050)] * 10, [LONG] * 10, False),
    ],
    ids=[
        "one-refusal",
        "after-it",
        "all-refused",
        "ended",
        "ended-cleanly",
        "in-the-middle",
        "end-by-themselves",
        "the-service-ends-all",
        "done",
    ],
)
def test_a_refused_link_shows_by_what_it_alone_does(mine, clean, acted):
    (evidence,) = evidence_of(refused_run(mine, clean))
    assert evidence.acted is acted, evidence.sentence
    assert (evidence.count > 0) is acted


@pytest.mark.parametrize(("error_ms", "acted"), [(5, True), (1, False)])
def test_a_window_is_as_wide_as_the_clocks_of_two_machines_are_apart(error_ms, acted):
    """Refused 3 ms after the link was healed, by the moved clock of a worker elsewhere that is known to the error."""
    history = refused_run([dialled(3_003, "refused")] * 10, [LONG] * 10)
    told = GeneratorRow(at_ns=START, worker=0, master_offset_ns=0, master_offset_error_ns=error_ms * MS)
    history.clocks = Clocks([told])
    (evidence,) = evidence_of(history)
    assert evidence.acted is acted, evidence.sentence


@pytest.mark.parametrize(
    ("table", "values", "acted"),
    [
        (SLOW, {"wait_ms": 660}, None),
        (STALL, {"silence_ms": 1_050}, None),
        (SLICE, {"attempt": {"split_events": 8}}, None),
        (REFUSED, {"attempt": dialled(500, "eof", 2_050)}, False),
        (REFUSED, {"attempt": TURNED_AWAY}, True),
    ],
    ids=["slow", "stall", "slice", "refused-by-ends", "refused"],
)
def test_without_a_clean_stream_only_what_nothing_else_does_is_proof(table, values, acted):
    history = planned(table, [hit(**values)] * 10, applied(table["kind"]))
    history.streams = [each for each in history.streams if each.group != "clean"]
    (evidence,) = evidence_of(history)
    assert evidence.acted is acted, evidence.sentence


def test_a_fault_that_could_not_be_applied_says_so():
    row = FaultRow(
        at_ns=START, fault="hit", step="failed", kind="cut", group="hit", ok=False, detail="no answer in 5 s"
    )
    (evidence,) = evidence_of(planned(CUT, [cut()] * 3, [row]))
    assert evidence.failed
    assert evidence.acted is False
    assert "could not be applied: no answer in 5 s." in evidence.sentence
    stood = msgspec.structs.replace(row, step="applied", ok=True)
    (evidence,) = evidence_of(planned(CUT, [cut()] * 3, [stood, row]))
    assert evidence.failed
    assert "could not be kept up or healed: no answer in 5 s." in evidence.sentence, "it stood for a while"


def test_a_run_without_faults_has_none():
    history = planned(CUT, [])
    history.plan.faults = msgspec.Raw(b"null")
    assert evidence_of(history) == []


def turned_away(status: int):
    return hit(attempt={"started": Instant(START + 2_500 * MS), "end": "status", "status": status})


@pytest.mark.parametrize(
    ("table", "records", "faults", "acted"),
    [
        (CUT, [cut(off=-40, end="fin")] * 5, [], True),
        (CUT, [cut(off=200, end="eof")] * 5, [], True),
        ({**CUT, "by": "rst"}, [cut(end="fin")] * 5, [], True),
        (CUT, [cut(end="fin")] * 2 + [cut(off=100, end="terminal")] * 3, [], False),
        (CUT, [cut(end="idle-timeout")] * 5, [], False),
        (CUT, [hit(attempt={"address": "127.0.0.1:1", "end": "fin"})] * 5, [], False),
        (REFUSED, [turned_away(502)] * 3, applied("refused"), True),
        (REFUSED, [turned_away(503)] * 3, applied("refused"), True),
        (REFUSED, [turned_away(404)] * 3, applied("refused"), False),
    ],
    ids=["fin", "clean-end", "rst-becomes-fin", "too-few", "ours", "another-address", "502", "503", "404"],
)
def test_behind_a_hop_a_fault_shows_as_the_hop_passes_it_on(table, records, faults, acted):
    (evidence,) = evidence_of(planned(table, records, faults, side="service"))
    assert evidence.acted is acted, evidence.sentence
    (before,) = evidence_of(planned(table, records, faults))
    assert before.acted is not True, "before a hop such streams prove nothing"


def test_behind_a_hop_a_cut_needs_a_clean_group_that_ends_well():
    broken = [{"attempt": {"end": "fin"}}] * 20
    (evidence,) = evidence_of(planned(CUT, [cut()] * 5, clean=broken, side="service"))
    assert evidence.acted is False
    history = planned(CUT, [cut()] * 5, side="service")
    history.streams = [each for each in history.streams if each.group == "hit"]
    (evidence,) = evidence_of(history)
    assert evidence.acted is None


# --- faults with times of their own: from 2,000 to 3,001 ms, as `applied` has it ---

WHEN = {"when": {"after": "1s", "duration": "1s"}}


def began(at_ms: int, *, wait_ms: int = 50, until_ms: int = 2_800, end: str = "terminal", **values):
    """A connection to a proxy that breaks, by when it was made, answered and over."""
    attempt = values.pop("attempt", {})

    def make(variant, number):
        place = next(each for each in variant.addresses if each.group == "hit" and each.attempts != "later")
        at = START + at_ms * MS
        made = record(
            number,
            group="hit",
            until_ms=until_ms,
            attempt={
                "address": f"{place.host}:{place.port}",
                "started": Instant(at),
                "connected": Instant(at),
                "sent": Instant(at),
                "headers": Instant(at + wait_ms * MS),
                "ended": Instant(START + until_ms * MS),
                "end": end,
                **attempt,
            },
            **values,
        )
        made.dispatched = Instant(at)
        return made

    return make


EARLY = [
    began(500, until_ms=1_500, attempt={"received_bytes": 900, "events": 9, "first_byte": Instant(START)})
]
LATER = [
    began(3_200, until_ms=3_900, attempt={"received_bytes": 900, "events": 9, "first_byte": Instant(START)})
]
AROUND = EARLY * 40 + LATER * 40
"""Many that never met the fault."""
LATE_300 = {"kind": "latency", "delay": "300ms"} | WHEN
FIRST_300 = {"kind": "slow-first-byte", "delay": "300ms"} | WHEN
JITTER_300 = {"kind": "jitter", "delay": "300ms", "jitter": "300ms"} | WHEN
CUT_600 = {"kind": "cut", "after_bytes": 600} | WHEN
PLACE = {"received_bytes": 600}
OTHER = {"received_bytes": 900}


@pytest.mark.parametrize(
    ("table", "records", "faults", "acted"),
    [
        *(
            (table, [began(2_150, wait_ms=wait)] * 10 + AROUND, [], acted)
            for table in (LATE_300, FIRST_300)
            for wait, acted in ((320, True), (60, False))
        ),
        (LATE_300, [began(500, wait_ms=320, until_ms=1_500)] * 10, [], None),
        (LATE_300, [began(2_800, wait_ms=320, until_ms=3_400)] * 10, [], None),
        (LATE_300, AROUND, [], None),
        (LATE_300, [hit(silence_ms=310)] * 10 + AROUND, [], True),
        (LATE_300, [hit(silence_ms=60)] * 10 + AROUND, [], False),
        (JITTER_300, [began(2_150, wait_ms=60 * n) for n in range(10)] + AROUND, [], True),
        (JITTER_300, [began(2_150, wait_ms=60)] * 10 + AROUND, [], False),
        (CUT_600, [began(2_150, end="fin", attempt=PLACE)] * 5 + AROUND, [fired(5)], True),
        (CUT_600, [began(1_500, end="fin", attempt=PLACE)] * 5 + AROUND, [fired(5)], True),
        (CUT_600, [began(1_500, end="fin", attempt=PLACE)] * 5 + AROUND, [fired(0)], False),
        (CUT_600, [began(2_150, attempt=OTHER)] * 5 + AROUND, [fired(5)], False),
        (CUT_600, [began(1_500, end="fin", attempt=OTHER)] * 5, [fired(5)], None),
        (CUT_600, [began(500, until_ms=1_500, end="fin", attempt=PLACE)] * 5, [fired(5)], None),
        (EVENTS | WHEN, [began(2_150, end="fin", attempt={"events": 4})] * 5 + AROUND, [fired(5)], True),
        (EVENTS | WHEN, [began(2_150, attempt={"events": 9})] * 5 + AROUND, [fired(5)], False),
        (
            {"kind": "cut-time", "after": "300ms"} | WHEN,
            [began(2_150, until_ms=2_460, end="fin")] * 5 + AROUND,
            [fired(5)],
            True,
        ),
        ({"kind": "cut-time", "after": "300ms"} | WHEN, [began(2_150)] * 5 + AROUND, [fired(5)], False),
        (CLOSED | WHEN, [began(2_150, end="fin")] * 5 + AROUND, [], True),
        (CLOSED | WHEN, [began(2_150, end="fin", attempt=OTHER)] * 5 + AROUND, [], False),
        (CLOSED | WHEN, [began(3_200, until_ms=3_900, end="fin")] * 5, [], None),
        *(
            (table, [began(2_150, until_ms=until, attempt=came(1_500))] * 10 + AROUND, [], acted)
            for table in (SLOW_RATE | WHEN, DRIP | WHEN)
            for until, acted in ((3_050, True), (2_400, False), (3_900, None))
        ),
        (SLICE | WHEN, [began(2_150, attempt={"split_events": 8})] * 10 + AROUND, [], True),
        (SLICE | WHEN, [began(2_150)] * 10 + AROUND, [], False),
        (SPLIT | WHEN, [began(2_150, attempt={"split_chars": 8})] * 10 + AROUND, [fired(80)], True),
        (SPLIT | WHEN, [began(3_200, until_ms=3_900, attempt={"split_chars": 8})] * 10, [fired(80)], None),
        (
            {"kind": "stall-events", "after_events": 5, "duration": "300ms"} | WHEN,
            [began(2_150, silence_ms=310, events=9)] * 5 + AROUND,
            [fired(5)],
            True,
        ),
        (
            {"kind": "stall-events", "after_events": 5, "duration": "300ms"} | WHEN,
            [began(2_150, silence_ms=60, events=9)] * 5 + AROUND,
            [fired(5)],
            False,
        ),
        *(
            (
                {"kind": "slow-close", "delay": "300ms"} | WHEN,
                [
                    began(
                        500,
                        until_ms=until,
                        end="fin",
                        attempt={"last_event": Instant(START + (until - waited) * MS)},
                    )
                ]
                * 10,
                [],
                acted,
            )
            for until, waited, acted in ((2_600, 310, True), (2_600, 60, False), (3_900, 310, None))
        ),
    ],
)
def test_a_fault_that_comes_and_goes_is_looked_for_in_its_time(table, records, faults, acted):
    (evidence,) = evidence_of(planned(table, records, [*applied(table["kind"]), *faults]))
    assert evidence.acted is acted, evidence.sentence


def slowly(kind: str) -> list[FaultRow]:
    """As `applied`, by calls of a busy machine: 400 ms until it stands, and 400 ms until it is healed."""
    stands, falls = applied(kind)
    return [
        msgspec.structs.replace(stands, call_answered_ns=START + 2_400 * MS),
        msgspec.structs.replace(falls, call_sent_ns=START + 3_000 * MS, call_answered_ns=START + 3_400 * MS),
    ]


@pytest.mark.parametrize(
    ("table", "hit", "missed"),
    [
        (CUT_600, began(2_550, end="fin", attempt=PLACE), began(2_150, attempt=OTHER)),
        (CUT_600, began(2_250, end="fin", attempt=PLACE), began(2_550, until_ms=3_100, attempt=OTHER)),
        (CUT_600, began(2_550, until_ms=3_300, end="fin", attempt=PLACE), began(2_150, attempt=OTHER)),
        (CLOSED | WHEN, began(2_550, end="fin"), began(2_150, attempt=OTHER)),
        (LATE_300, began(2_550, wait_ms=320), began(2_150, wait_ms=60)),
    ],
)
def test_what_passes_while_a_call_is_on_its_way_counts_against_no_fault(table, hit, missed):
    """Whether it met the fault is not known; what shows the fault counts then, too."""
    (evidence,) = evidence_of(planned(table, [hit] * 5 + [missed] * 25 + AROUND, slowly(table["kind"])))
    assert (evidence.acted, evidence.count, evidence.of) == (True, 5, 5), evidence.sentence


@pytest.mark.parametrize(
    ("table", "records", "acted"),
    [
        (STALL, [hit(silence_ms=620)] * 10, True),
        (STALL, [hit(silence_ms=500)] * 10, False),
        (PAUSE, [hit(silence_ms=620)] * 5 + EARLIER, True),
        (PAUSE, [hit(silence_ms=500)] * 5 + EARLIER, False),
        (HOLE, [heard(1_900, 1_950, 2_300)] * 10, True),
        (HOLE, [heard(1_900, 1_950, 2_600)] * 10, False),
        (RESTART, [*STRUCK, heard(1_900, 1_950, 2_300)], True),
        (RESTART, [*STRUCK, heard(1_900, 1_950, 2_600)], False),
        (DRAIN, [*SENT_AWAY, hit(attempt=in_the_gap(events=3, started=Instant(START + 2_200 * MS)))], True),
        (DRAIN, [*SENT_AWAY, hit(attempt=in_the_gap(events=3, started=Instant(START + 2_600 * MS)))], False),
    ],
)
def test_what_comes_before_the_answer_of_the_call_is_no_sign_against_a_fault(table, records, acted):
    """What was asked for stood 600 ms for certain: from 2,400 to 3,000 ms."""
    (evidence,) = evidence_of(planned(table, records, slowly(table["kind"])))
    assert evidence.acted is acted, evidence.sentence


def test_a_fault_that_never_came_is_not_known_to_have_acted():
    (evidence,) = evidence_of(planned(LATE_300, [began(2_150, wait_ms=320)] * 10))
    assert evidence.acted is None
    assert "none began in its time" in evidence.sentence


CHROMIUM = BrowserPlan(name="chromium", version="1", client="sseconsumer", started_by_us=True, at_once=6)
BROKEN_ONCE = [hit(attempt={"end": "fin"})] * 10
NEVER_BEGAN = {"headers": None}


@pytest.mark.parametrize(
    ("table", "records", "clean", "acted"),
    [
        (CUT, BROKEN_ONCE, (), True),
        (TIMED, BROKEN_ONCE, (), True),
        (CUT, [hit()] * 10, (), False),
        (TIMED, [hit()] * 10, (), False),
        (CUT, BROKEN_ONCE[:5] + [hit()] * 5, (), False),
        (CUT, BROKEN_ONCE[:6] + [hit()] * 4, (), True),
        (CUT, BROKEN_ONCE, [{"attempt": {"end": "fin"}}] * 10, False),
        (CUT, BROKEN_ONCE, [{"attempt": {"end": "fin"}}] * 4 + [{}] * 6, True),
        (CUT, [hit(attempt={"end": "fin", **NEVER_BEGAN})] * 10, (), False),
        (CLOSED, [hit(attempt={"end": "refused", **NEVER_BEGAN})] * 10, (), True),
        (CLOSED, [hit(attempt={"end": "status", **NEVER_BEGAN})] * 10, (), True),
        (CLOSED, [hit(attempt={"end": "status", "status": 503, **NEVER_BEGAN})] * 10, (), False),
        (CLOSED, BROKEN_ONCE, (), False),
        (CUT, [], (), None),
    ],
)
def test_a_page_is_told_of_no_byte(table, records, clean, acted):
    (evidence,) = evidence_of(planned(table, records, clean=clean, browser=CHROMIUM))
    assert evidence.acted is acted, evidence.sentence


@pytest.mark.parametrize("table", [CUT, TIMED, CLOSED])
def test_without_a_clean_group_a_page_proves_no_byte(table):
    history = planned(table, BROKEN_ONCE, browser=CHROMIUM)
    history.streams = [each for each in history.streams if each.group == "hit"]
    (evidence,) = evidence_of(history)
    assert evidence.acted is None
    assert "no stream was clean" in evidence.sentence
