"""What the wire did against what was asked, for every fault, on the real server; and that everything is taken back."""

import fcntl
import itertools
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from sseproof.chaos.command import CommandBracket
from sseproof.chaos.faults import Command
from sseproof.chaos.injector import Injector
from sseproof.chaos.install import Found
from sseproof.chaos.plan import FaultPlan, GroupSpec, addresses, parse_groups, plan_faults, with_ports
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxics import toxics_laid_to_rest
from sseproof.chaos.toxiproxy import Client, MismatchError, ProxyState, Server, ServerError, WedgedError
from sseproof.live_metrics import faults_text
from sseproof.reports.history import outages
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import FAULTS, Appender
from sseproof.rundir.rows import FaultRow, Instant, Plan
from tests.chaos.conftest import absent
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
    journal,
    listen_to,
    one_group,
    rows,
    ticking,
)
from tests.reports.conftest import RunBuilder

pytestmark = pytest.mark.integration

LATE_MS = 400
"""What a busy machine adds to the length of anything; it takes nothing away."""


@contextmanager
def injecting(plan: FaultPlan, server: Server, folder: Path) -> Iterator[Injector]:
    appender = journal(folder)
    with Injector(plan, server, appender) as injector:
        injector.setup()
        yield injector
    appender.close()


def steps(folder: Path, window: int | None = None) -> list[str]:
    return [row.step for row in rows(folder) if row.window == window]


def row_of(folder: Path, step: str, window: int | None = None) -> FaultRow:
    return next(row for row in rows(folder) if row.step == step and row.window == window)


def await_row(folder: Path, step: str, window: int, count: int = 1) -> list[FaultRow]:
    """Waits for rows of a window: the injector's own record is the event."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = [row for row in rows(folder) if row.step == step and row.window == window]
        if len(found) >= count:
            return found
        threading.Event().wait(0.01)
    raise AssertionError(f"no {step} row: {[(row.step, row.detail) for row in rows(folder)]}")


# --- faults that stand ---


@pytest.mark.parametrize("by", ["fin", "rst"])
@pytest.mark.parametrize("after_bytes", [1, len(HEAD) - 2, len(HEAD), 1500])
def test_a_cut_is_exact_to_the_byte(
    server: Server, lease: PortLease, tmp_path: Path, by: str, after_bytes: int
) -> None:
    whole = answer(100)
    assert len(whole) > 1500
    with Upstream(ticking_bytes(whole)) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": after_bytes, "by": by}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            heard = fetch(plan.proxies[0].port)
    assert heard.data == whole[:after_bytes]
    assert heard.end == by


def ticking_bytes(whole: bytes):
    """The answer in pieces, so that a cut meets a live stream."""

    def serve(connection: socket.socket) -> None:
        for start in range(0, len(whole), 100):
            connection.sendall(whole[start : start + 100])

    return serve


def test_only_the_first_connection_is_cut(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(50)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300, "by": "rst"}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            first = next(each for each in addresses(plan) if each.attempts == "first")
            later = next(each for each in addresses(plan) if each.attempts == "later")
            assert fetch(first.port).end == "rst"
            heard = fetch(later.port)
    assert (heard.data, heard.end) == (whole, "fin")


def test_every_connection_is_cut(server: Server, lease: PortLease, tmp_path: Path) -> None:
    with Upstream(at_once(answer(50))) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300, "on": "every"}, upstream.place, lease)
        assert [each.attempts for each in addresses(plan)] == ["any"]
        with injecting(plan, server, tmp_path):
            assert [len(fetch(plan.proxies[0].port).data) for _ in range(3)] == [300, 300, 300]


def test_each_proxy_cuts_at_its_own_offset(server: Server, lease: PortLease, tmp_path: Path) -> None:
    with Upstream(at_once(answer(100))) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": [400, 1500]}, upstream.place, lease)
        faulty = [proxy for proxy in plan.proxies if proxy.cut_after_bytes]
        assert len(faulty) == 8
        with injecting(plan, server, tmp_path):
            assert [len(fetch(proxy.port).data) for proxy in faulty] == [
                proxy.cut_after_bytes for proxy in faulty
            ]


def test_a_slow_first_byte_delays_the_beginning_alone(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    with Upstream(ticking(10, 0.03)) as upstream:
        plan = one_group({"kind": "slow-first-byte", "delay": "400ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            connection = connect(plan.proxies[0].port)
            sent_ns = time.time_ns()
            heard = listen_to(connection)
    assert 400 <= (heard.at_ns[0] - sent_ns) / 1e6 < 400 + LATE_MS
    assert 400 <= (upstream.requested_ns[-1] - sent_ns) / 1e6 < 400 + LATE_MS
    assert heard.longest_gap_ms < 400
    assert heard.data.count(b"data:") == 10


@pytest.mark.parametrize("size", [1, 5])
def test_slices_split_characters_and_lose_nothing(
    server: Server, lease: PortLease, tmp_path: Path, size: int
) -> None:
    whole = answer(6)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "slice", "size_bytes": size, "delay": "5ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path):
            heard = fetch(plan.proxies[0].port)
    assert heard.data == whole
    assert len(heard.reads) > len(whole) / size / 8, "a reader who is late takes several at once"
    assert any(not _is_utf8(heard.data[: sum(heard.reads[:n])]) for n in range(1, len(heard.reads)))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_the_clean_group_is_left_alone(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(50)
    with Upstream(at_once(whole)) as upstream:
        specs = parse_groups([{"kind": "cut", "share": "50%", "after_bytes": 200}])
        plan = plan_faults(specs, run="x", seed=1, upstreams={None: upstream.place}, connect_ns=0, at_once=2)
        plan = with_ports(plan, lease.ports[: len(plan.proxies)])
        with injecting(plan, server, tmp_path):
            clean = next(proxy for proxy in plan.proxies if proxy.group == "clean")
            assert fetch(clean.port).data == whole


# --- faults that come and go ---


def test_a_stall_holds_every_byte_and_heals(server: Server, lease: PortLease, tmp_path: Path) -> None:
    with Upstream(ticking(60, 0.02)) as upstream:
        plan = one_group({"kind": "stall", "after": "300ms", "duration": "500ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            listener = Listener(plan.proxies[0].port)
            injector.begin()
            heard = listener.result()
            await_row(tmp_path, "verified", 1)
    direct = b"".join(chunk(f"id: {n}\ndata: {n}\n\n".encode()) for n in range(60))
    assert heard.data == HEAD + direct + b"0\r\n\r\n"
    assert heard.end == "fin"
    applied, healed = row_of(tmp_path, "applied", 1), row_of(tmp_path, "healed", 1)
    asked_ms = (healed.call_sent_ns - applied.call_sent_ns) / 1e6
    assert 490 < asked_ms < 500 + LATE_MS
    assert -50 < heard.longest_gap_ms - asked_ms < LATE_MS
    assert steps(tmp_path, 1) == ["intent", "applied", "heal-intent", "healed", "verified"]


def test_a_client_that_leaves_during_a_stall_wedges_nothing(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    with Upstream(ticking(2000, 0.002)) as upstream:
        plan = one_group({"kind": "stall", "after": "100ms", "duration": "400ms"}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            leaving = [connect(plan.proxies[0].port) for _ in range(20)]
            for connection in leaving:
                connection.sendall(REQUEST)
                assert connection.recv(10)
            injector.begin()
            await_row(tmp_path, "applied", 1)
            for connection in leaving:
                connection.close()
            await_row(tmp_path, "verified", 1)
            assert injector.check() is None
            assert connect_and_hear_something(plan.proxies[0].port)


def connect_and_hear_something(port: int) -> bool:
    with connect(port) as connection:
        connection.sendall(REQUEST)
        return bool(connection.recv(100))


def test_refused_is_refused_and_comes_back(server: Server, lease: PortLease, tmp_path: Path) -> None:
    with Upstream(ticking(500, 0.02)) as upstream:
        plan = one_group({"kind": "refused", "after": "150ms", "duration": "500ms"}, upstream.place, lease)
        port = plan.proxies[0].port
        with injecting(plan, server, tmp_path) as injector:
            listener = Listener(port)
            injector.begin()
            (applied,) = await_row(tmp_path, "applied", 1)
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            heard = listener.result()
            (healed,) = await_row(tmp_path, "healed", 1)
            assert connect_and_hear_something(port)
    assert heard.end == "fin"
    assert (
        applied.call_sent_ns - 1_000_000 <= heard.ended_ns <= applied.call_answered_ns + LATE_MS * 1_000_000
    )
    assert 490 < (healed.call_sent_ns - applied.call_sent_ns) / 1e6 < 500 + LATE_MS
    echo = msgspec.json.decode(applied.echo, type=dict[str, ProxyState])
    assert [state.enabled for state in echo.values()] == [False]


def test_a_fault_repeats(server: Server, lease: PortLease, tmp_path: Path) -> None:
    table = {"kind": "refused", "after": "50ms", "duration": "50ms", "every": "600ms", "times": 3}
    with Upstream(at_once(answer(1))) as upstream:
        plan = one_group(table, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            injector.begin()
            await_row(tmp_path, "verified", 3)
    begun = [row_of(tmp_path, "applied", number).call_sent_ns for number in (1, 2, 3)]
    assert [abs((b - a) / 1e6 - 600) < 300 for a, b in itertools.pairwise(begun)] == [True, True]


def test_a_time_that_begins_late_is_over_before_the_next_one_begins(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """The timer thread gets its turn when both should have begun."""
    table = {"kind": "refused", "after": "50ms", "duration": "200ms", "every": "400ms", "times": 2}
    with Upstream(at_once(answer(1))) as upstream:
        plan = one_group(table, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            with injector._lock:
                injector.begin()
                threading.Event().wait(0.6)
            await_row(tmp_path, "verified", 2)
    order = [(row.step, row.window) for row in rows(tmp_path) if row.window]
    assert [each for each in order if each[0] in {"applied", "healed"}] == [
        *[("applied", 1), ("healed", 1), ("applied", 2), ("healed", 2)]
    ]
    lasted = [
        row_of(tmp_path, "healed", number).call_sent_ns - row_of(tmp_path, "applied", number).call_sent_ns
        for number in (1, 2)
    ]
    assert min(lasted) >= 190e6


# --- healing ---


def test_healing_takes_back_what_stands_and_says_so(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(50)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300, "by": "rst"}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            injector.heal()
            injector.heal()
            assert all(state.toxics == [] and state.enabled for state in server.client.proxies().values())
            assert fetch(plan.proxies[0].port).data == whole
            assert injector.problem is None
    assert steps(tmp_path) == ["intent", "applied", "heal-intent", "healed", "verified"]
    assert row_of(tmp_path, "verified").ok is True
    assert server.pid is None


def test_an_interrupt_in_the_middle_of_a_window_heals_it(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    with Upstream(ticking(100, 0.02)) as upstream:
        plan = one_group({"kind": "refused", "after": "0s", "duration": "1h"}, upstream.place, lease)
        appender = journal(tmp_path)

        def interrupted() -> None:
            with Injector(plan, server, appender) as injector:
                injector.setup()
                injector.begin()
                await_row(tmp_path, "applied", 1)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert row_of(tmp_path, "healed", 1).ok is True
    echo = msgspec.json.decode(row_of(tmp_path, "healed", 1).echo, type=dict[str, ProxyState])
    assert [state.enabled for state in echo.values()] == [True]
    assert row_of(tmp_path, "verified").ok is True


class SlowDisk(Appender[FaultRow]):
    """What takes its time to be on the disk."""

    def sync(self) -> None:
        time.sleep(0.4)
        super().sync()


def test_a_slow_disk_takes_nothing_from_the_length_of_a_window(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    plan = one_group({"kind": "refused", "after": "0s", "duration": "300ms"}, "127.0.0.1:9", lease)
    appender = SlowDisk(tmp_path, FAULTS, plan.run)
    with Injector(plan, server, appender) as injector:
        injector.setup()
        injector.begin()
        await_row(tmp_path, "verified", 1)
    appender.close()
    lasted_ns = row_of(tmp_path, "heal-intent", 1).at_ns - row_of(tmp_path, "applied", 1).call_sent_ns
    assert lasted_ns >= 200_000_000, "and not what a sync of 400 ms left of it"


@contextmanager
def a_command_that_is_to_end(server: Server, lease: PortLease, tmp_path: Path) -> Iterator[Injector]:
    """Its time is over, and what undoes it is an errand of the main thread."""
    table = {"kind": "command", "do": ["true"], "after": "0s", "max": "300ms", "shows": "breaks"}
    table["undo"] = ["touch", str(tmp_path / "undone")]
    plan = one_group(table, "127.0.0.1:9", lease)
    (group,) = plan.groups
    assert isinstance(group.fault, Command)
    command = CommandBracket(group.fault, say=lambda line: None, environ=os.environ)
    appender = journal(tmp_path)
    try:
        with Injector(plan, server, appender, {None: command}) as injector:
            injector.setup()
            injector.begin()
            await_row(tmp_path, "heal-intent", 1)
            yield injector
    finally:
        command.close()
        appender.close()


def test_an_interrupt_while_a_window_waits_for_its_end_ends_it(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """The main thread has what ends it to do, and heals instead: that is no broken rig, and it is done all the same."""
    with a_command_that_is_to_end(server, lease, tmp_path) as injector:
        injector.heal()
        assert injector.problem is None
    assert (tmp_path / "undone").exists()
    assert [row.step for row in rows(tmp_path) if row.step in {"failed", "healed"}] == ["healed", "healed"]
    assert row_of(tmp_path, "healed", 1).ok is True


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_an_abort_ends_a_window_at_once_and_lets_no_other_begin(
    server: Server, lease: PortLease, tmp_path: Path, whose: str
) -> None:
    table = {"kind": "refused", "after": "0s", "duration": "1s", "every": "1300ms", "times": 9}
    with Upstream(at_once(answer(5))) as upstream:
        plan = one_group(table, upstream.place, lease)
        (proxy,) = plan.proxies
        appender = journal(tmp_path)
        with Injector(plan, server if whose == "ours" else server.client, appender) as injector:
            injector.setup()
            injector.begin()
            await_row(tmp_path, "applied", 1)
            injector.abort("it was enough")
            injector.abort("and again")
            assert server.client.proxies()[proxy.name].enabled
            assert fetch(proxy.port).data == answer(5), "the link is up while the run goes on"
            threading.Event().wait(1.5)  # when the second window would act: that it does not is no event
            assert server.client.proxies()[proxy.name].enabled
            assert injector.check() is None
        appender.close()
    assert {row.window for row in rows(tmp_path) if row.step == "applied"} == {None, 1}
    assert row_of(tmp_path, "heal-intent", 1).detail == "it was enough"
    healed = row_of(tmp_path, "healed", 1)
    assert healed.ok is True
    assert [row.ok for row in rows(tmp_path) if row.step == "verified"] == [True, True]
    assert whose == "ours" or server.client.proxies() == {}


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_an_abort_lays_what_stands_to_rest_and_keeps_the_link(
    server: Server, lease: PortLease, tmp_path: Path, whose: str
) -> None:
    whole = answer(50)
    table = {"kind": "cut", "after_bytes": 300, "on": "every"}
    with Upstream(at_once(whole)) as upstream:
        plan = one_group(table, upstream.place, lease)
        (proxy,) = plan.proxies
        appender = journal(tmp_path)
        with Injector(plan, server if whose == "ours" else server.client, appender) as injector:
            injector.setup()
            injector.begin()
            assert len(fetch(proxy.port).data) == 300
            injector.abort("it was enough")
            state = server.client.proxies()[proxy.name]
            assert (state.toxics, state.enabled) == (toxics_laid_to_rest(proxy.fault), True)
            assert fetch(proxy.port).data == whole
            assert injector.problem is None
        appender.close()
    # Healed and verified by the abort, and once more at the end, when a proxy on somebody else's server goes away.
    assert steps(tmp_path) == ["intent", "applied", *["heal-intent", "healed", "verified"] * 2]
    assert row_of(tmp_path, "heal-intent").detail == "it was enough"
    assert all(row.ok for row in rows(tmp_path) if row.step in {"healed", "verified"})


def test_what_stands_is_healed_and_verified_while_clients_are_there(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """On their links a toxic of a rate or a latency would not yield in time, and the server would be taken for wedged."""
    tables = [{"kind": "bandwidth", "rate_kb_s": 2, "share": "50%"}]
    tables += [{"kind": "latency", "delay": "300ms", "share": "50%"}]
    with Upstream(ticking(2_000, 0.01)) as upstream:
        plan = plan_faults(
            parse_groups(tables), run=RUN, seed=1, upstreams={None: upstream.place}, connect_ns=0, at_once=1
        )
        plan = with_ports(plan, lease.ports[: len(plan.proxies)])
        with injecting(plan, server, tmp_path) as injector:
            there = [Listener(proxy.port) for proxy in plan.proxies for _ in range(8)]
            for _ in there:
                upstream.serving.get(timeout=10)
            threading.Event().wait(1)  # that each link holds something
            injector.heal()
            assert injector.problem is None
            state = server.client.proxies()
            assert [(each.toxics, each.enabled) for each in state.values()] == [([], True)] * 2
            assert {each.result().end for each in there} <= {"fin", "rst"}
    last = [(row.step, row.ok) for row in rows(tmp_path)][-4:]
    assert last == [("healed", True)] * 2 + [("verified", True)] * 2


STANDING = {
    "latency": {"delay": "100ms"},
    "jitter": {"delay": "100ms", "jitter": "50ms"},
    "slow-first-byte": {"delay": "100ms"},
    "slow-drip": {"size_bytes": 40, "every": "5ms"},
    "slice": {"size_bytes": 20},
    "slow-close": {"delay": "200ms"},
    "cut": {"after_bytes": 20_000, "on": "every"},
    "cut-events": {"after_events": 290, "on": "every"},
    "cut-time": {"after": "20s", "on": "every"},
    "stall-events": {"after_events": 20, "duration": "20s"},
    "split-characters": {"delay": "5ms"},
}


def test_an_abort_ends_no_connection(server: Server, lease: PortLease, tmp_path: Path) -> None:
    """Nor does it turn anybody away: taking a latency away on a live connection would keep the link down for seconds."""
    tables = [{"kind": kind, "share": "9%", **keys} for kind, keys in STANDING.items()]
    with Upstream(ticking(100, 0.02)) as upstream:
        plan = plan_faults(
            parse_groups(tables), run=RUN, seed=1, upstreams={None: upstream.place}, connect_ns=0, at_once=1
        )
        plan = with_ports(plan, lease.ports[: len(plan.proxies)])
        ports = {each.group: each.port for each in addresses(plan)}
        with injecting(plan, server, tmp_path) as injector:
            injector.begin()
            there = {kind: Listener(port) for kind, port in ports.items()}
            for _ in there:
                upstream.serving.get(timeout=10)
            threading.Event().wait(0.5)  # that events are under way
            injector.abort("it was enough")
            later = {kind: Listener(port) for kind, port in ports.items()}
            heard = [(kind, each.result()) for kind, each in [*there.items(), *later.items()]]
            assert injector.problem is None
    told = {(kind, each.data.count(b"data:"), each.data[-5:], each.end) for kind, each in heard}
    assert told == {(kind, 100, b"0\r\n\r\n", "fin") for kind in [*STANDING, "clean"]}
    healed = [row for row in rows(tmp_path) if row.step == "healed"]
    assert {row.group for row in healed} == {*STANDING, "clean"}
    assert {(row.ok, row.ended_connections) for row in healed} == {(True, False)}


@pytest.mark.parametrize(
    "table", [{"kind": "bandwidth", "rate_kb_s": 2}, {"kind": "cut", "after_bytes": 9_000, "by": "rst"}]
)
def test_an_abort_that_has_to_end_connections_says_so(
    server: Server, lease: PortLease, tmp_path: Path, table: dict[str, object]
) -> None:
    with Upstream(ticking(300, 0.01)) as upstream:
        plan = one_group({**table}, upstream.place, lease)
        proxy = plan.proxies[0]
        with injecting(plan, server, tmp_path) as injector:
            injector.begin()
            listener = Listener(proxy.port)
            upstream.serving.get(timeout=10)
            injector.abort("it was enough")
            assert server.client.proxies()[proxy.name].toxics == []
            assert listener.result().data.count(b"data:") < 300
            assert injector.problem is None
    healed = [row.ended_connections for row in rows(tmp_path) if row.step == "healed"]
    assert healed == [True, False], "at the end nobody is there any more"


def test_an_abort_ends_the_time_of_what_stands(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(50)
    table = {"kind": "cut", "after_bytes": 300, "on": "every", "when": {"after": "0s", "duration": "1h"}}
    with Upstream(at_once(whole)) as upstream:
        plan = one_group(table, upstream.place, lease)
        (proxy,) = plan.proxies
        with injecting(plan, server, tmp_path) as injector:
            injector.begin()
            await_row(tmp_path, "applied", 1)
            assert len(fetch(proxy.port).data) == 300
            injector.abort("it was enough")
            assert fetch(proxy.port).data == whole
            assert injector.problem is None
    assert row_of(tmp_path, "healed", 1).ok is True
    assert all(row.ok for row in rows(tmp_path) if row.step == "verified")


def test_an_abort_undoes_a_command_whose_end_is_waited_for(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """The window's end is an errand of the main thread, which aborts in that moment."""
    with a_command_that_is_to_end(server, lease, tmp_path) as injector:
        injector.abort("it was enough")
        assert (tmp_path / "undone").exists()
        assert injector.problem is None
    assert row_of(tmp_path, "healed", 1).ok is True


def test_a_server_that_hangs_in_an_abort_is_replaced(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    with Upstream(at_once(answer(5))) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 30, "on": "every"}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            injector.abort("it was enough")
            assert injector.check() is not None
            assert fetch(plan.proxies[0].port).data == answer(5)
    assert "failed" in steps(tmp_path)


def test_the_intent_is_on_disk_before_the_call(server: Server, lease: PortLease, tmp_path: Path) -> None:
    """Without a server every call fails; the intent is there all the same."""
    server.close()
    plan = one_group({"kind": "cut", "after_bytes": 300}, "127.0.0.1:9", lease)
    appender = journal(tmp_path)
    injector = Injector(plan, server, appender)
    with pytest.raises(ServerError):
        injector.setup()
    assert steps(tmp_path) == ["intent", "failed"]
    assert rows(tmp_path)[0].proxies == [proxy.name for proxy in plan.proxies]
    injector.close()


def test_a_full_disk_stops_the_call_and_not_the_healing(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    class FullAppender:
        def append(self, row: FaultRow) -> None:
            raise RigError("The disk is full.")

        def sync(self) -> None:
            pass

    with Upstream(at_once(answer(1))) as upstream:
        plan = one_group({"kind": "stall", "after": "0s", "duration": "1h"}, upstream.place, lease)
        appender = journal(tmp_path)
        injector = Injector(plan, server, appender)
        injector.setup()
        injector._rows = FullAppender()
        injector.begin()
        injector._thread.join(5)
        (state,) = server.client.proxies().values()
        assert [toxic.attributes["latency"] for toxic in state.toxics] == [0]
        assert "disk is full" in str(injector.check())
        injector.close()
    assert server.pid is None


def test_a_wedged_server_is_replaced_within_seconds(server: Server, lease: PortLease, tmp_path: Path) -> None:
    """One client that does not read deadlocks a stock server for good (toxiproxy.md 1.9)."""

    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 65536)

    with Upstream(flood) as upstream:
        plan = one_group({"kind": "stall", "after": "0s", "duration": "1s"}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            deaf = connect(plan.proxies[0].port)
            deaf.sendall(REQUEST)
            _until_stuck(upstream.serving.get(timeout=5))
            old = server.pid
            begun = time.monotonic()
            injector.begin()
            await_row(tmp_path, "failed", 1)
            problem = injector.check()
            assert time.monotonic() - begun < 6
            assert isinstance(problem, WedgedError)
            assert server.pid not in {None, old}
            assert connect_and_hear_something(plan.proxies[0].port)
            deaf.close()
    failed = row_of(tmp_path, "failed", 1)
    assert failed.ok is False
    assert "wedged" in failed.detail
    assert steps(tmp_path)[2:] == ["healed", "heal-intent", "healed", "verified"]


def test_a_call_that_fails_fails_what_stands_beside_its_window_too(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """Ending the server takes every toxic away: streams of no group meet their fault any more."""
    server.client._limit_s = 1
    tables = [
        {"kind": "latency", "share": "30%", "delay": "100ms"},
        {"kind": "stall", "share": "30%", "after": "0s", "duration": "1s"},
    ]
    specs = parse_groups(tables)
    plan = plan_faults(specs, run="x", seed=1, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=1)
    plan = with_ports(plan, lease.ports[: len(plan.proxies)])
    with injecting(plan, server, tmp_path) as injector:
        os.kill(server.pid, signal.SIGSTOP)
        injector.begin()
        assert "wedged" in str(await_problem(injector))
    failed = [(row.group, row.window) for row in rows(tmp_path) if row.step == "failed"]
    assert sorted(failed) == [("clean", None), ("latency", None), ("stall", 1)]


def _until_stuck(flooding: socket.socket) -> None:
    """Until the flood fills every buffer on the way: the upstream's send queue no longer moves."""
    deadline, last = time.monotonic() + 10, -1
    while time.monotonic() < deadline:
        queued = struct.unpack("i", fcntl.ioctl(flooding, termios.TIOCOUTQ, b"\0" * 4))[0]
        if queued and queued == last:
            return
        last = queued
        threading.Event().wait(0.2)
    raise AssertionError("the connection never filled up")


def test_a_server_that_ends_by_itself_is_noticed(server: Server, lease: PortLease, tmp_path: Path) -> None:
    whole = answer(50)
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            assert injector.check() is None
            server.kill()
            assert "ended by itself" in str(injector.check())
            assert fetch(plan.proxies[0].port).data == whole
    assert "failed" in steps(tmp_path)


def active_now(plan: FaultPlan, folder: Path) -> int:
    """How many faults act, as the live metrics say by the journal."""
    of_run = Plan(run=RUN, scenario="s", seed=1, created_ns=1)
    lines = faults_text(of_run, plan, rows(folder)).decode().splitlines()
    values = [int(line.split()[-1]) for line in lines if line.startswith("sse_fault_active{")]
    assert values
    return sum(values)


def test_a_fault_that_ended_with_its_server_acts_no_more(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """Neither the one that stands nor the window that is open, though nobody was asked to heal them."""
    tables = [
        {"kind": "latency", "share": "30%", "delay": "100ms"},
        {"kind": "stall", "share": "30%", "after": "0s", "duration": "1h"},
    ]
    specs = parse_groups(tables)
    plan = plan_faults(specs, run="x", seed=1, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=1)
    plan = with_ports(plan, lease.ports[: len(plan.proxies)])
    with injecting(plan, server, tmp_path) as injector:
        injector.begin()
        await_row(tmp_path, "applied", 1)
        assert active_now(plan, tmp_path) == 2
        before_ns = time.time_ns()
        server.kill()
        assert "ended by itself" in str(await_problem(injector))
        assert active_now(plan, tmp_path) == 0
    ended = row_of(tmp_path, "healed", 1)
    assert before_ns < ended.call_sent_ns <= ended.call_answered_ns
    assert [row.ok for row in rows(tmp_path) if row.step == "healed" and row.window == 1] == [True]


def test_a_fault_acts_no_more_where_no_server_takes_the_place_of_its_own(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """Somebody else has the port of its proxy meanwhile: streams find no way, and the outage has no end."""
    plan = one_group({"kind": "cut", "after_bytes": 300, "on": "every"}, "127.0.0.1:9", lease)
    with injecting(plan, server, tmp_path) as injector:
        assert active_now(plan, tmp_path) == 1
        server.kill()
        with socket.create_server(("127.0.0.1", plan.proxies[0].port)):
            await_problem(injector)
            assert active_now(plan, tmp_path) == 0
            assert steps(tmp_path)[-2:] == ["failed", "healed"]
            ((_, until_ns),) = outages(rows(tmp_path))
            assert until_ns == 1 << 63


@contextmanager
def commanding(fault: Command, server: Server, lease: PortLease, tmp_path: Path) -> Iterator[Injector]:
    """An injector that does and undoes a command for two variants, and has begun."""
    spec = GroupSpec(name="g", share="100%", fault=fault)
    places = {"a": "127.0.0.1:9", "b": "127.0.0.1:9"}
    plan = plan_faults([spec], run="x", seed=1, upstreams=places, connect_ns=0, at_once=1)
    plan = with_ports(plan, lease.ports[: len(plan.proxies)])
    command = CommandBracket(fault, say=lambda line: None, environ=os.environ)
    appender = journal(tmp_path)
    try:
        with Injector(plan, server, appender, {"a": command, "b": command}) as injector:
            injector.setup()
            injector.begin()
            yield injector
    finally:
        command.close()
        appender.close()


def test_a_server_that_ends_while_errands_wait_holds_nobody_up(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """A window of two variants ends by two errands of the main thread, which finds the dead server in between."""
    fault = Command(do=("true",), undo=("true",), after_ms=0, max_ms=300, shows="breaks")
    with commanding(fault, server, lease, tmp_path) as injector:
        await_row(tmp_path, "heal-intent", 1, 2)
        server.kill()
        # A main thread that waits for the timer, which waits for it, is freed by this and the test fails.
        freed = threading.Timer(10, injector._over.set)
        freed.start()
        await_problem(injector)
        assert freed.is_alive()
        freed.cancel()
    assert [row.ok for row in rows(tmp_path) if row.step == "healed" and row.window == 1] == [True, True]


def test_what_a_command_did_outlives_the_proxies(server: Server, lease: PortLease, tmp_path: Path) -> None:
    fault = Command(do=("true",), undo=("true",), after_ms=0, max_ms=60_000, shows="breaks")
    with commanding(fault, server, lease, tmp_path) as injector:
        await_row(tmp_path, "applied", 1, 2)
        server.kill()
        await_problem(injector)
        assert "healed" not in steps(tmp_path, 1), "nobody has undone it"


def test_a_command_is_done_again_and_its_longest_time_begins_anew(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    """Once for two variants each time: the first is over when it says so, the second after its longest time."""
    told, flag = tmp_path / "told", tmp_path / "flag"
    fault = Command(
        do=("sh", "-c", f"echo done >> {told}"),
        undo=("sh", "-c", f"echo undone >> {told}; rm -f {flag}"),
        done_when=("test", "-e", str(flag)),
        after_ms=0,
        max_ms=1_200,
        every_ms=1_400,
        times=2,
        shows="breaks",
    )
    with commanding(fault, server, lease, tmp_path) as injector:
        await_row(tmp_path, "applied", 1)
        flag.touch()
        deadline = time.monotonic() + 20
        while not any(row.step == "verified" and row.window == 2 for row in rows(tmp_path)):
            assert injector.check() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert told.read_text().split() == ["done", "undone"] * 2
    healed, applied = row_of(tmp_path, "healed", 2), row_of(tmp_path, "applied", 2)
    assert healed.call_answered_ns - applied.call_sent_ns > 600_000_000, "not over because the first one was"


def await_problem(injector: Injector) -> RigError:
    """As the experiment asks, from the main thread, again and again."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (problem := injector.check()) is not None:
            return problem
        threading.Event().wait(0.05)
    raise AssertionError("nothing was noticed")


def place_of(server: Server) -> tuple[str, int]:
    host, _, port = server.client.place.rpartition(":")
    return host, int(port)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda server, name: server.kill(), "is not there"),
        (lambda server, name: os.kill(server.pid, signal.SIGSTOP), "wedged"),
        (lambda server, name: server.client.delete(name), "no longer on"),
    ],
    ids=["gone", "wedged", "taken"],
)
def test_someone_elses_server_that_fails_is_noticed_between_the_calls(
    server: Server, lease: PortLease, tmp_path: Path, harm, words: str
) -> None:
    """No window begins or ends: only the watch can see it."""
    client = Client(*place_of(server), limit_s=1)
    with Upstream(at_once(answer(50))) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300}, upstream.place, lease)
        with Injector(plan, client, journal(tmp_path)) as injector:
            injector.setup()
            assert injector.check() is None
            assert not injector.is_lost
            before_ns = time.time_ns()
            harm(server, plan.proxies[0].name)
            problem = await_problem(injector)
            assert words in str(problem)
            assert "sseproof-" in str(problem), "what may be left can be found by its name"
            assert injector.is_lost
            if words == "wedged":
                os.kill(server.pid, signal.SIGCONT)
    (failed, *_) = (row for row in rows(tmp_path) if row.step == "failed")
    assert failed.call_sent_ns < before_ns + 50_000_000 < failed.call_answered_ns + 50_000_000


def test_a_wedged_server_of_ours_is_replaced_between_the_calls(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    whole = answer(50)
    server.client._limit_s = 1
    with Upstream(at_once(whole)) as upstream:
        plan = one_group({"kind": "cut", "after_bytes": 300}, upstream.place, lease)
        with injecting(plan, server, tmp_path) as injector:
            old = server.pid
            os.kill(old, signal.SIGSTOP)
            assert "wedged" in str(await_problem(injector))
            assert not injector.is_lost
            assert server.pid not in {None, old}
            assert fetch(plan.proxies[0].port).data == whole, "the new one is clean"
    assert steps(tmp_path)[:4] == ["intent", "applied", "failed", "healed"]
    ((since_ns, until_ns),) = outages(rows(tmp_path))
    assert row_of(tmp_path, "applied").call_sent_ns < since_ns < until_ns < time.time_ns()


def test_what_the_server_has_and_was_not_given_is_an_error(
    server: Server, lease: PortLease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toxic that somebody slips in is seen by the last look before the load."""
    plan = one_group({"kind": "cut", "after_bytes": 300}, "127.0.0.1:9", lease)
    appender = journal(tmp_path)
    injector = Injector(plan, server, appender)
    verify = injector._verify_all

    def slip_in() -> None:
        server.client._call(
            "patch", f"/proxies/{plan.proxies[0].name}/toxics/limit", {"attributes": {"bytes": 301}}
        )
        verify()

    monkeypatch.setattr(injector, "_verify_all", slip_in)
    with pytest.raises(MismatchError, match="bytes is 301 instead of 300"):
        injector.setup()
    injector.close()


def test_someone_elses_server_is_left_as_it_was(server: Server, lease: PortLease, tmp_path: Path) -> None:
    client = server.client
    with Upstream(at_once(answer(50))) as upstream:
        others = client.create(
            "theirs", listen=f"127.0.0.1:{lease.ports[-1]}", upstream=upstream.place, enabled=True
        )
        plan = one_group({"kind": "cut", "after_bytes": [300, 900]}, upstream.place, lease)
        appender = journal(tmp_path)
        with Injector(plan, client, appender) as injector:
            injector.setup()
            assert len(client.proxies()) == 1 + len(plan.proxies)
        assert client.proxies() == {"theirs": others}
        assert injector.problem is None
    assert row_of(tmp_path, "verified").ok is True
    assert server.pid is not None


def test_a_name_that_somebody_has_is_not_taken_from_them(
    server: Server, lease: PortLease, tmp_path: Path
) -> None:
    plan = one_group({"kind": "cut", "after_bytes": 300}, "127.0.0.1:9", lease)
    theirs = server.client.create(
        plan.proxies[0].name, listen=f"127.0.0.1:{lease.ports[-1]}", upstream="127.0.0.1:9"
    )
    injector = Injector(plan, server.client, journal(tmp_path))
    with pytest.raises(ServerError, match="already exists"):
        injector.setup()
    injector.close()
    assert server.client.proxies() == {theirs.name: theirs}


CONNECT_NS = 20_000_000
TWO_HUNDRED = 200


@pytest.fixture
def slow_dialler(found: Found, tmp_path: Path) -> Iterator[Server]:
    """The real server, each of whose own connects takes 20 ms: nothing on loopback takes that long by itself.

    The tracer delays the system call and nothing else; detached, it leaves the server our child.
    """
    tracer = shutil.which("strace")
    assert found.path is not None
    delay = f"inject=connect:delay_enter={CONNECT_NS // 1_000}"
    traced = [
        *(str(tracer), "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"),
        *("-e", "trace=connect", "-e", delay),
    ]
    if tracer is None or subprocess.run([*traced, "true"], capture_output=True, check=False).returncode:
        absent("strace not found, or it may not trace: install it (Debian: apt-get install strace).")
    program = tmp_path / "slow-dialler"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(traced)} {shlex.quote(str(found.path))} "$@"\n')
    program.chmod(0o755)
    running = Server(structs.replace(found, path=program), say=lambda line: None)
    yield running
    running.close()


class Returning(threading.Thread):
    """A client that dials again as soon as its first connection ends."""

    def __init__(self, first: int, later: int) -> None:
        super().__init__(daemon=True)
        self._ports = (first, later)
        self.heard: list[Heard] = []
        self.start()

    def run(self) -> None:
        self.heard = [fetch(port) for port in self._ports]


@pytest.mark.parametrize(("planned_ns", "together"), [(CONNECT_NS, True), (0, False)])
def test_two_hundred_streams_cut_at_once_come_back_together(
    slow_dialler: Server, tmp_path: Path, planned_ns: int, together: bool
) -> None:
    """One proxy dials for one connection after the other: the last of 200 would wait 4 s, and the claim would fail.

    The plan spreads them by the measured connect time. A plan that takes connecting for free shows the difference.
    """
    whole = answer(50)
    every_one_is_there = threading.Event()

    def together_then(connection: socket.socket) -> None:
        if upstream.requests >= TWO_HUNDRED:
            every_one_is_there.set()
        every_one_is_there.wait(30)
        connection.sendall(whole)

    with PortLease(160) as lease, Upstream(together_then) as upstream:
        plan = one_group(
            {"kind": "cut", "after_bytes": [300, 1500], "by": "rst"},
            upstream.place,
            lease,
            at_once=TWO_HUNDRED,
            connect_ns=planned_ns,
        )
        first = [proxy for proxy in plan.proxies if proxy.attempts == "first"]
        later = [proxy for proxy in plan.proxies if proxy.attempts == "later"]
        assert len(later) == (80 if together else 1)
        with injecting(plan, slow_dialler, tmp_path):
            clients = [
                Returning(first[number % len(first)].port, later[number % len(later)].port)
                for number in range(TWO_HUNDRED)
            ]
            for client in clients:
                client.join(30)
    cut, back = zip(*(client.heard for client in clients), strict=True)
    assert [(len(each.data), each.end) for each in cut] == [
        (first[number % len(first)].cut_after_bytes, "rst") for number in range(TWO_HUNDRED)
    ]
    assert all(each.data == whole and each.end == "fin" for each in back)
    waits_ns = sorted(b.at_ns[0] - a.ended_ns for a, b in zip(cut, back, strict=True))
    if not together:
        assert waits_ns[-1] >= (TWO_HUNDRED - 1) * CONNECT_NS
    assert judged(tmp_path / "run", plan, cut, back) == ("pass" if together else "fail"), waits_ns[-1] / 1e9


def judged(folder: Path, plan: FaultPlan, cut: Sequence[Heard], back: Sequence[Heard]) -> str:
    """The verdict on what these clients saw, from rows as a worker would have written them."""
    folder.mkdir()
    run = RunBuilder(folder)
    (place, *_) = addresses(plan)
    for number, (before, after) in enumerate(zip(cut, back, strict=True)):
        run.stream(breaks=1, ended=Instant(after.ended_ns))
        run.break_(
            number,
            seen=Instant(before.ended_ns),
            first_new=Instant(after.at_ns[0]),
            proxy_queue_ns=place.queue_ns,
        )
    verdict = run.one("reconnect p95 < 1s")
    run.close()
    return verdict.verdict
