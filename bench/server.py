"""Events a core of the reference server beside two peers that write the same bytes: aiohttp and sse-starlette.

Paced: the three serve 100 streams at 50 events a second each, at the same time and to one reader, so that whatever else the
machine does meets all of them alike. CPU per event is each server process's own over a window in the middle, and events are
what the reader counted in it. Unpaced: 200 streams of one server after the other, in turns, as fast as they are read; who is
behind may then write many events in one piece, and the reference server writes up to 64. Each ratio is the median of the
rounds' own ones.
The plain handler is what a service would do at least: one `write` an event with the text at hand, no ids to resume from,
no witness, no bounds, no heartbeats. sse-starlette (under uvicorn, on the same event loop) is what many use.
`wants_core` is the share of the window in which the server ran or waited for a core: near 1 it was the limit, else the
reader or the pace was.

    python bench/server.py [ROUNDS]
"""

import contextlib
import select
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import parts
import peer_events

from sseproof.reference_server.settings import CHAT_PATH, ServerSettings, settings_to_json

PACED_STREAMS: Final = 100
INTERVAL_MS: Final = 20
UNPACED_STREAMS: Final = 200
SETTLE_S: Final = 1.0
WINDOW_S: Final = 4.0
ROUNDS: Final = 3
LEAST_PACE: Final = 0.9
LEAST_WANTED: Final = 0.9
LEAST_OF_PLAIN: Final = 0.9
OURS: Final = "reference server"
PLAIN: Final = "plain aiohttp handler"
STARLETTE: Final = "sse-starlette, uvicorn"
SERVERS: Final = (OURS, PLAIN, STARLETTE)


class ServerRow(msgspec.Struct):
    """One server at one pace, in its best round."""

    server: str
    pace: str
    events_per_s: float
    cpu_us_per_event: float
    events_per_core_s: float
    """What one core bears at that price."""
    of_plain: float
    """That over the plain handler's of the same round: the median of all rounds."""
    wants_core: float


class _Window(NamedTuple):
    events_per_s: float
    events_per_core_s: float
    wants_core: float


def measure(rounds: int = ROUNDS) -> list[ServerRow]:
    """A row a server and pace; the best round is the one with the least CPU for an event."""
    paced = [_windows(SERVERS, INTERVAL_MS, PACED_STREAMS) for _ in range(rounds)]
    unpaced: list[dict[str, _Window]] = []
    for turn in range(rounds):
        unpaced.append({})
        for server in SERVERS if turn % 2 == 0 else reversed(SERVERS):
            unpaced[turn] |= _windows([server], 0, UNPACED_STREAMS)
    return [
        row_of(server, pace, [each[server] for each in taken], [each[PLAIN] for each in taken])
        for pace, taken in (("paced", paced), ("unpaced", unpaced))
        for server in SERVERS
    ]


def row_of(server: str, pace: str, rounds: list[_Window], plain: list[_Window]) -> ServerRow:
    """The rounds of one server beside those of the plain handler, in the order they were made."""
    best = max(rounds, key=lambda each: each.events_per_core_s)
    pairs = zip(rounds, plain, strict=True)
    return ServerRow(
        server=server,
        pace=pace,
        events_per_s=best.events_per_s,
        cpu_us_per_event=1e6 / best.events_per_core_s,
        events_per_core_s=best.events_per_core_s,
        of_plain=statistics.median(
            ours.events_per_core_s / theirs.events_per_core_s for ours, theirs in pairs
        ),
        wants_core=best.wants_core,
    )


def command(server: str, interval_ms: int) -> tuple[list[str], str]:
    """How a server starts, and the path of its streams."""
    if server == OURS:
        settings = settings_to_json(ServerSettings(port=0))
        ask = f"script=endless&seed={peer_events.SEED}&first_token_ms=0&interval_ms={interval_ms}"
        return [sys.executable, "-m", "sseproof.reference_server", settings], f"{CHAT_PATH}?{ask}"
    name = "plain_server.py" if server == PLAIN else "starlette_server.py"
    return [sys.executable, str(parts.BENCH / name), str(interval_ms)], "/"


def _windows(servers: Sequence[str], interval_ms: int, streams: int) -> dict[str, _Window]:
    """A window of these servers at the same time, so many streams of each."""
    with contextlib.ExitStack() as opened, contextlib.closing(select.epoll()) as poll:
        pids: dict[str, int] = {}
        owners: dict[int, tuple[socket.socket, str]] = {}
        ways: dict[str, tuple[int, str]] = {}
        for server in servers:
            start, path = command(server, interval_ms)
            pids[server], port = opened.enter_context(served(start))
            ways[server] = port, path
        for _ in range(streams):
            for server in servers:
                stream = opened.enter_context(ask(*ways[server]))
                poll.register(stream, select.EPOLLIN)
                owners[stream.fileno()] = stream, server
            # Even over the interval: streams that begin together share a server's wake-ups for ever.
            _read(poll, owners, interval_ms / 1e3 * (1 + 1 / streams))
        _read(poll, owners, SETTLE_S)
        before = {server: scheduled_s(pid) for server, pid in pids.items()}
        began_s = time.monotonic()
        events = _read(poll, owners, WINDOW_S)
        after = {server: scheduled_s(pid) for server, pid in pids.items()}
        length_s = time.monotonic() - began_s
    windows = {}
    for server in servers:
        ran_s, waited_s = (now - then for now, then in zip(after[server], before[server], strict=True))
        windows[server] = _Window(
            events[server] / length_s, events[server] / ran_s, (ran_s + waited_s) / length_s
        )
    return windows


def ask(port: int, path: str) -> socket.socket:
    """A connection that has asked for a stream."""
    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
    return stream


def _read(
    poll: select.epoll, owners: Mapping[int, tuple[socket.socket, str]], seconds: float
) -> Counter[str]:
    """Reads everything for so long; the ends of events, by server. One that two reads share is missed: there is about none."""
    events: Counter[str] = Counter()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for descriptor, _ in poll.poll(0.05):
            stream, server = owners[descriptor]
            data = stream.recv(65_536)
            if not data:
                raise AssertionError(f"the {server} ended a stream")
            events[server] += data.count(b"\n\n")
        time.sleep(0.001)  # leaves the reader's core some rest; an event waits for nobody
    return events


def scheduled_s(pid: int) -> tuple[float, float]:
    """For how long the process has run so far, and for how long it was ready to run and others had the cores."""
    ran_ns, waited_ns, _ = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


@contextlib.contextmanager
def served(start: list[str]) -> Iterator[tuple[int, int]]:
    """(process id, port) of a server that says its address when it is ready."""
    process = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process.pid, int(line.partition("//127.0.0.1:")[2].partition("/")[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def missed_goals(rows: list[ServerRow]) -> list[str]:
    """The reference server sends at least nine tenths of the plain handler's events a core, and the load was the planned one."""
    planned = PACED_STREAMS * 1e3 / INTERVAL_MS
    missed = []
    for row in rows:
        title = f"{row.server}, {row.pace}"
        if row.pace == "paced" and row.events_per_s < LEAST_PACE * planned:
            missed.append(f"{title}: {row.events_per_s:,.0f} of {planned:,.0f} events a second came")
        if row.pace == "paced" and row.wants_core >= LEAST_WANTED:
            missed.append(f"{title}: it was behind, and events went in groups: leave the machine alone")
        if row.pace == "unpaced" and row.wants_core < LEAST_WANTED:
            missed.append(f"{title}: it was at work for {row.wants_core:.0%} of the time: the reader limited")
        if row.server == OURS and row.of_plain < LEAST_OF_PLAIN:
            missed.append(
                f"{title}: {row.of_plain:.2f} of the {PLAIN}'s events a core; the goal is {LEAST_OF_PLAIN}"
            )
    return missed


if __name__ == "__main__":
    for each in measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
        print(each)
