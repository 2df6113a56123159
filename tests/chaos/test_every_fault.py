"""What the wire does for each fault of the vocabulary, byte by byte, on the real server."""

import socket
import time
from itertools import accumulate
from pathlib import Path

import pytest

from sseproof.chaos.plan import FaultPlan, addresses, parse_groups, plan_faults, with_ports
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxiproxy import CALL_LIMIT_S, Server
from tests.chaos.test_injector import await_row, connect_and_hear_something, injecting, row_of
from tests.chaos.wire import (
    HEAD,
    REQUEST,
    RUN,
    Heard,
    Listener,
    Upstream,
    answer,
    at_once,
    chunk,
    connect,
    fetch,
    one_group,
    rows,
    ticking,
)

pytestmark = pytest.mark.integration

ENOUGH = 3
"""Times that a length is measured: a busy machine makes some of them longer, and none shorter."""
SETTLED_NS = 300_000_000
"""What was under way arrives within it; half of the shortest window here."""
EVENT = "id: {n}\ndata: سلام 🎈 é {n}\n\n"


def heard_through(server: Server, lease: PortLease, folder: Path, table: dict, upstream: Upstream) -> Heard:
    """What one client hears of one answer under a fault that stands."""
    plan = one_group(table, upstream.place, lease)
    with injecting(plan, server, folder):
        return fetch(plan.proxies[0].port)


def payload(data: bytes) -> bytes:
    """The event stream of a chunked answer, as far as it came."""
    rest, body = data.removeprefix(HEAD), b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body


def fired(folder: Path) -> int | None:
    return next(row.fired for row in rows(folder) if row.step == "fired")


def test_latency_shifts_and_keeps_the_pace(server: Server, lease: PortLease, tmp_path: Path) -> None:
    with Upstream(ticking(10, 0.03)) as upstream:
        heard = heard_through(server, lease, tmp_path, {"kind": "latency", "delay": "600ms"}, upstream)
    assert (heard.at_ns[0] - upstream.requested_ns[0]) / 1e6 >= 600
    assert heard.longest_gap_ms < 500
    assert heard.data.count(b"data:") == 10


def test_jitter_keeps_the_order(server: Server, lease: PortLease, tmp_path: Path) -> None:
    table = {"kind": "jitter", "delay": "50ms", "jitter": "50ms"}
    with Upstream(ticking(20, 0.02)) as upstream:
        heard = heard_through(server, lease, tmp_path, table, upstream)
    assert payload(heard.data) == b"".join(b"id: %d\ndata: %d\n\n" % (n, n) for n in range(20))


@pytest.mark.parametrize(
    ("table", "bytes_s"),
    [
        ({"kind": "bandwidth", "rate_kb_s": 4}, 4_000),
        ({"kind": "slow-drip", "size_bytes": 40, "every": "10ms"}, 4_000),
    ],
    ids=["bandwidth", "drip"],
)
def test_a_rate_is_kept_and_nothing_lost(
    server: Server, lease: PortLease, tmp_path: Path, table: dict, bytes_s: int
) -> None:
    whole = answer(60)
    with Upstream(at_once(whole)) as upstream:
        heard = heard_through(server, lease, tmp_path, table, upstream)
    assert heard.data == whole
    took_s = (heard.at_ns[-1] - upstream.requested_ns[0]) / 1e9
    assert took_s >= 0.9 * len(whole) / bytes_s


@pytest.mark.parametrize("by", ["fin", "rst"])
@pytest.mark.parametrize("pause_s", [0, 0.01], ids=["at-once", "ticking"])
@pytest.mark.parametrize(
    ("place", "tail"),
    [
        ({"after_events": 0}, b""),
        ({"after_events": 5}, b""),
        ({"after_events": 5, "inside": "event"}, b"id: 5\nda"),
        ({"after_events": 5, "inside": "event", "offset_bytes": 2}, b"id"),
        ({"after_events": 5, "inside": "character"}, "id: 5\ndata: س".encode()[:-1]),
    ],
    ids=["head", "boundary", "event", "offset", "character"],
)
def test_a_cut_at_an_event(
    server: Server, lease: PortLease, tmp_path: Path, by: str, pause_s: float, place: dict, tail: bytes
) -> None:
    chunks = [chunk(EVENT.format(n=n).encode()) for n in range(12)]

    def serve(connection: socket.socket) -> None:
        connection.sendall(HEAD if pause_s else HEAD + b"".join(chunks) + b"0\r\n\r\n")
        for each in chunks if pause_s else ():
            connection.sendall(each)
            time.sleep(pause_s)  # the pace of the service under test

    with Upstream(serve) as upstream:
        heard = heard_through(server, lease, tmp_path, {"kind": "cut-events", "by": by, **place}, upstream)
    whole = "".join(EVENT.format(n=n) for n in range(place["after_events"])).encode()
    assert payload(heard.data) == whole + tail
    assert heard.end == by
    assert fired(tmp_path) == 1


@pytest.mark.parametrize("by", ["fin", "rst"])
def test_a_cut_after_a_time(server: Server, lease: PortLease, tmp_path: Path, by: str) -> None:
    with Upstream(ticking(500, 0.01)) as upstream:
        begun_ns = time.time_ns()
        table = {"kind": "cut-time", "after": "400ms", "by": by}
        heard = heard_through(server, lease, tmp_path, table, upstream)
    assert (heard.ended_ns - begun_ns) / 1e6 >= 400
    assert 2 < heard.data.count(b"data:") < 60
    assert (heard.end, fired(tmp_path)) == (by, 1)


def test_every_character_is_split_and_nothing_lost(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(6)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "split-characters", "delay": "20ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            all_heard = [fetch(plan.proxies[0].port) for _ in range(ENOUGH)]
    assert {heard.data for heard in all_heard} == {whole}
    leads = {at + 1 for at, byte in enumerate(whole) if byte >= 0xC2}
    ends = {end for heard in all_heard for end in accumulate(heard.reads)}
    assert leads <= ends, "each character comes in two reads, where the reader is not late"
    assert len(leads) == 36
    assert fired(tmp_path) == ENOUGH * 36


def test_a_stall_after_events_is_as_long_as_asked(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(20)
    table = {"kind": "stall-events", "after_events": 7, "inside": "event", "duration": "400ms"}
    with Upstream(at_once(whole)) as upstream:
        plan = one_group(table, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            all_heard = [fetch(plan.proxies[0].port) for _ in range(ENOUGH)]
    for heard in all_heard:
        assert heard.data == whole
        assert payload(heard.data[: heard.reads[0]]).endswith(b"id: 7\nda")
    assert 395 <= min(heard.longest_gap_ms for heard in all_heard) < 600


def test_what_a_stall_holds_blocks_no_healing(server: Server, lease: PortLease, tmp_path: Path) -> None:
    """Half of the clients leave while it holds, the others wait: its toxic goes at once all the same."""
    whole = answer(20)
    table = {"kind": "stall-events", "after_events": 7, "duration": "1h"}
    with Upstream(at_once(whole)) as upstream:
        plan = one_group(table, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            waiting = [connect(plan.proxies[0].port) for _ in range(20)]
            for connection in waiting:
                connection.sendall(REQUEST)
                assert connection.recv(10)
            for connection in waiting[::2]:
                connection.close()
            begun_s = time.monotonic()
            injector.heal()
            assert time.monotonic() - begun_s < CALL_LIMIT_S
            assert injector.problem is None
            assert fetch(plan.proxies[0].port).data == whole
            for connection in waiting[1::2]:
                connection.close()
    assert row_of(tmp_path, "verified").ok is True
    assert fired(tmp_path) == 20


@pytest.mark.parametrize("by", ["fin", "rst"])
def test_accepted_then_closed(server: Server, lease: PortLease, tmp_path: Path, by: str) -> None:
    whole = answer(5)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "accept-then-close", "by": by}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            first = next(each for each in addresses(plan) if each.attempts == "first")
            later = next(each for each in addresses(plan) if each.attempts == "later")
            for _ in range(3):
                heard = fetch(first.port)
                assert (heard.data, heard.end) == (b"", by)
            assert upstream.requests == 0, "the target sees none of it"
            assert fetch(later.port).data == whole


def test_a_slow_close_delays_the_end_alone(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(5)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "slow-close", "delay": "400ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            all_heard = [fetch(plan.proxies[0].port) for _ in range(ENOUGH)]
    assert {(heard.data, heard.end) for heard in all_heard} == {(whole, "fin")}
    assert 395 <= min((heard.ended_ns - heard.at_ns[-1]) / 1e6 for heard in all_heard) < 600


def test_a_black_hole_gives_nothing_back(server: Server, lease: PortLease, tmp_path: Path) -> None:
    table = {"kind": "black-hole", "after": "300ms", "duration": "600ms"}
    with Upstream(ticking(400, 0.005)) as upstream:
        plan = one_group(table, upstream.place, lease)
        port = plan.proxies[0].port
        with injecting(plan, server, tmp_path) as injector:
            before = Listener(port)
            injector.begin()
            (applied,) = await_row(tmp_path, "applied", 1)
            asked = upstream.requests
            inside = Listener(port)  # the connection is made, and its request never arrives
            leaving = [connect(port) for _ in range(10)]
            for connection in leaving:
                connection.sendall(REQUEST)
                connection.close()
            heard, nothing = before.result(), inside.result()
            assert (upstream.requests, nothing.data) == (asked, b"")
            (verified,) = await_row(tmp_path, "verified", 1)
            assert (verified.ok, injector.check()) == (True, None)
            assert connect_and_hear_something(port)
    healed = row_of(tmp_path, "healed", 1)
    assert heard.end == nothing.end == "fin"
    assert heard.at_ns[-1] <= applied.call_answered_ns + SETTLED_NS
    for each in (heard, nothing):
        assert healed.call_sent_ns <= each.ended_ns <= healed.call_answered_ns + SETTLED_NS


def test_a_flapping_link(server: Server, lease: PortLease, tmp_path: Path) -> None:
    table = {"kind": "flapping", "after": "100ms", "down": "600ms", "up": "800ms", "times": 3}
    with Upstream(ticking(1000, 0.01)) as upstream:
        plan = one_group(table, upstream.place, lease)
        port = plan.proxies[0].port
        with injecting(plan, server, tmp_path) as injector:
            injector.begin()
            for number in (1, 2, 3):
                await_row(tmp_path, "applied", number)
                with pytest.raises(ConnectionRefusedError):
                    connect(port)
                await_row(tmp_path, "verified", number)
                assert connect_and_hear_something(port)
    first, last = row_of(tmp_path, "applied", 1), row_of(tmp_path, "applied", 3)
    assert abs((last.call_sent_ns - first.call_sent_ns) / 1e6 - 2_800) < 400


# --- what has its times ---

WHEN = {"after": "100ms", "duration": "3s"}
TIMED = {
    "latency": {"delay": "300ms"},
    "jitter": {"delay": "300ms", "jitter": "100ms"},
    "slow-first-byte": {"delay": "300ms"},
    "bandwidth": {"rate_kb_s": 2},
    "slow-drip": {"size_bytes": 20, "every": "10ms"},
    "cut": {"after_bytes": 400},
    "cut-events": {"after_events": 5},
    "cut-time": {"after": "200ms"},
    "accept-then-close": {},
    "slice": {"size_bytes": 3, "delay": "1ms"},
    "split-characters": {"delay": "10ms"},
    "stall-events": {"after_events": 5, "duration": "300ms"},
    "slow-close": {"delay": "300ms"},
}
HELD_S = 0.5


def timed_plan(upstream: str, lease: PortLease) -> FaultPlan:
    """A group for each kind that else stands, all of them in the same time, on one server."""
    tables = [{"kind": kind, "share": "7.5%", "when": WHEN} | keys for kind, keys in TIMED.items()]
    plan = plan_faults(
        parse_groups(tables), run=RUN, seed=1, upstreams={None: upstream}, connect_ns=0, at_once=1
    )
    return with_ports(plan, lease.ports[: len(plan.proxies)])


def dialled(plan: FaultPlan) -> dict[str, int]:
    return {each.group: each.port for each in addresses(plan) if each.attempts != "later"}


def effect(kind: str, heard: Heard, sent_ns: int, whole: bytes) -> bool:
    """Whether the fault shows on a connection to a service that keeps its last bytes back for HELD_S.

    Of what comes in pieces an eighth is enough: a reader who is late takes several at once.
    """
    first_ms = (heard.at_ns[0] - sent_ns) / 1e6 if heard.at_ns else 0.0
    kept = whole[:-5]
    match kind:
        case "cut":
            return (heard.data, heard.end) == (whole[:400], "fin")
        case "cut-events":
            five = "".join(EVENT.format(n=n) for n in range(5)).encode()
            return (payload(heard.data), heard.end) == (five, "fin")
        case "cut-time":
            return (heard.data, heard.end) == (kept, "fin")
        case "accept-then-close":
            return (heard.data, heard.end) == (b"", "fin")
    assert (heard.data, heard.end) == (whole, "fin"), f"{kind} lost something"
    match kind:
        case "latency" | "slow-first-byte":
            return first_ms >= 300
        case "jitter":
            return first_ms >= 200
        case "bandwidth" | "slow-drip":
            place = next(n for n, total in enumerate(accumulate(heard.reads)) if total >= len(kept))
            return (heard.at_ns[place] - sent_ns) / 1e6 >= 0.9 * len(kept) / 2_000 * 1e3
        case "slice":
            return len(heard.reads) > len(whole) / 3 / 8
        case "split-characters":
            leads = {at + 1 for at, byte in enumerate(whole) if byte >= 0xC2}
            return len(leads.intersection(accumulate(heard.reads))) > len(leads) / 8
        case "stall-events":
            return payload(heard.data[: heard.reads[0]]).count(b"data:") == 5
        case _:
            return (heard.ended_ns - heard.at_ns[-1]) / 1e6 >= 295


@pytest.mark.alone
def test_what_stands_can_come_and_go(server: Server, lease: PortLease, tmp_path: Path) -> None:
    chunks = [chunk(EVENT.format(n=n).encode()) for n in range(24)]
    whole = HEAD + b"".join(chunks) + b"0\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        connection.sendall(whole[:-5])
        time.sleep(HELD_S)  # the pace of the service under test
        connection.sendall(whole[-5:])

    def seen() -> set[str]:
        sent_ns = time.time_ns()
        listeners = {kind: Listener(port) for kind, port in dialled(plan).items()}
        heard = {kind: each.result() for kind, each in listeners.items()}
        assert (heard["clean"].data, heard["clean"].end) == (whole, "fin")
        return {kind for kind in TIMED if effect(kind, heard[kind], sent_ns, whole)}

    with Upstream(serve) as upstream:
        plan = timed_plan(upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            assert set.intersection(*(seen() for _ in range(ENOUGH))) == set(), "a busy machine is late once"
            injector.begin()
            await_row(tmp_path, "applied", 1, len(TIMED))
            found = seen()
            while found != set(TIMED) and not any(row.step == "heal-intent" for row in rows(tmp_path)):
                found |= seen()  # what comes close together may be read as one
            assert found == set(TIMED)
            verified = await_row(tmp_path, "verified", 1, len(TIMED))
            assert all(each.ok for each in verified)
            assert set.intersection(*(seen() for _ in range(ENOUGH))) == set()
            assert injector.check() is None
    for kind in TIMED:
        of_it = [(row.step, row.window) for row in rows(tmp_path) if row.group == kind and row.window]
        assert of_it == [(step, 1) for step in ("intent", "applied", "heal-intent", "healed", "verified")]
    assert {row.kind for row in rows(tmp_path) if row.window is None} == {"clean"}


@pytest.mark.alone
def test_a_stream_that_outlives_a_fault_of_every_kind_loses_nothing(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """Its places lie behind it when they come; and while they act, nobody's connection is ended to begin or heal them."""
    with Upstream(ticking(300, 0.01)) as upstream:
        plan = timed_plan(upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            listeners = {kind: Listener(port) for kind, port in dialled(plan).items()}
            for _ in listeners:
                upstream.serving.get(timeout=10)
            time.sleep(HELD_S)  # so that every place of a cut or a stall is behind
            injector.begin()
            heard = {kind: each.result() for kind, each in listeners.items()}
            await_row(tmp_path, "verified", 1, len(TIMED))
            assert injector.check() is None
    events = b"".join(b"id: %d\ndata: %d\n\n" % (n, n) for n in range(300))
    assert {kind for kind, each in heard.items() if payload(each.data) != events} == set()
    assert heard["latency"].longest_gap_ms >= 290
