"""CPU per event of the reference server beside a plain aiohttp handler that writes the same events at the same pace.

Both serve 200 streams at 50 events a second each to the same reader, one after the other, several rounds in turn; CPU is
the server process's own over a window in the middle, events are what the reader counted in it. The plain handler is what
a service would do at least: one `write` an event, no ids to resume from, no witness, no bounds, no heartbeats.

    python bench/server.py
"""

import contextlib
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import parts

from sseproof.reference_server.settings import ServerSettings, settings_to_json

STREAMS_OPEN: Final = 200
INTERVAL_MS: Final = 20
SETTLE_S: Final = 2.0
WINDOW_S: Final = 5.0
LEAST_RATE: Final = 0.9
READY_S: Final = 20.0


class ServerRow(msgspec.Struct):
    """One server in its best round."""

    server: str
    events_per_s: float
    cpu_us_per_event: float
    events_per_core_s: float
    """What one core would bear at that price."""


def measure(rounds: int = 2) -> list[ServerRow]:
    """The reference server, then the plain handler; the best (least CPU) round of each."""
    commands = {
        "reference server": (
            [sys.executable, "-m", "sseproof.reference_server", settings_to_json(ServerSettings(port=0))],
            f"/api/v1/stream/chat?script=endless&interval_ms={INTERVAL_MS}",
        ),
        "plain aiohttp handler": (
            [sys.executable, str(parts.BENCH / "plain_server.py"), str(INTERVAL_MS)],
            "/",
        ),
    }
    rows: dict[str, ServerRow] = {}
    for _ in range(rounds):
        for name, (command, path) in commands.items():
            row = _round(name, command, path)
            if name not in rows or row.cpu_us_per_event < rows[name].cpu_us_per_event:
                rows[name] = row
    return list(rows.values())


def _round(name: str, command: list[str], path: str) -> ServerRow:
    with _served(command) as (pid, port), contextlib.ExitStack() as opened:
        poll = select.epoll()
        streams = {}
        for _ in range(STREAMS_OPEN):
            stream = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            stream.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
            )
            poll.register(stream, select.EPOLLIN)
            streams[stream.fileno()] = stream
        _read(poll, streams, SETTLE_S)
        before_s, began_s = parts.cpu_s(pid), time.monotonic()
        events = _read(poll, streams, WINDOW_S)
        spent_s, length_s = parts.cpu_s(pid) - before_s, time.monotonic() - began_s
        poll.close()
    return ServerRow(
        server=name,
        events_per_s=events / length_s,
        cpu_us_per_event=spent_s / events * 1e6,
        events_per_core_s=events / spent_s,
    )


def _read(poll: select.epoll, streams: dict[int, socket.socket], seconds: float) -> int:
    """Reads everything for so long; counts the ends of events. One that two reads share is missed: there is about none."""
    events = 0
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for descriptor, _ in poll.poll(0.05):
            data = streams[descriptor].recv(65_536)
            if not data:
                raise AssertionError("the server ended a stream")
            events += data.count(b"\n\n")
        time.sleep(0.001)  # leaves the reader's core some rest; an event waits for nobody
    return events


@contextlib.contextmanager
def _served(command: list[str]) -> Iterator[tuple[int, int]]:
    """(process id, port) of a server that says its address when it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process.pid, int(line.partition("//127.0.0.1:")[2].partition("/")[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def missed_goals(rows: list[ServerRow]) -> list[str]:
    """There is no goal but that the load was the one that the title says."""
    planned = STREAMS_OPEN * 1e3 / INTERVAL_MS
    return [
        f"{row.server}: {row.events_per_s:,.0f} of {planned:,.0f} events a second came"
        for row in rows
        if row.events_per_s < LEAST_RATE * planned
    ]


if __name__ == "__main__":
    for each in measure():
        print(each)
