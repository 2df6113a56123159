"""Streams that one reference server holds: memory a stream, heartbeats, and whether its health endpoint still answers.

9,000 answers whose first token is minutes away say hello and are silent then, but for a heartbeat every 5 s. Memory is the
RSS of the server process above that of the same process when it had served one stream, as the kernel counts it. Health is
asked every 100 ms over a connection of its own while two rounds of heartbeats go by: its time is what a newcomer waits.

    python bench/holding.py [STREAMS ...]
"""

import contextlib
import http.client
import re
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec
import server as server_bench

from sseproof.reference_server.settings import CHAT_PATH, HEALTH_PATH, ServerSettings, settings_to_json
from sseproof.rundir.units import Duration

LEVELS: Final = (9_000,)
HEARTBEAT_S: Final = 5.0
ROUNDS: Final = 2
OPEN_LIMIT_S: Final = 120.0
HEALTH_EVERY_S: Final = 0.1
GOAL_KB_A_STREAM: Final = 24.0
HEALTH_LIMIT_MS: Final = 1_000.0
LATE_SHARE: Final = 0.2
"""A heartbeat comes a twentieth late by the server's own rule; the rest is for a busy machine."""
SILENCE_LIMIT: Final = 2.0
"""Times the heartbeat."""
BUSY_SHARE: Final = 0.05
DESCRIPTORS_BESIDE: Final = 64
SILENT: Final = f"{CHAT_PATH}?script=endless&first_token_ms=600000"


class HoldRow(msgspec.Struct):
    """One level."""

    streams: int
    heartbeat_s: float
    most_open: int
    """Together; all of them said hello."""
    idle_mb: float
    """RSS of the server before."""
    rss_mb: float
    """The most while they were held."""
    kb_a_stream: float
    heartbeats: int
    """In all."""
    fewest: int
    """Of any stream."""
    silence_s: float
    """The longest that a stream waited for one of them, once all were open."""
    health_asked: int
    health_p50_ms: float
    health_max_ms: float
    waiting_share: float
    """Of the time, in which the server was ready to run and others had the cores."""


def measure(levels: tuple[int, ...] = LEVELS, heartbeat_s: float = HEARTBEAT_S) -> list[HoldRow]:
    """A row a level. Raises AssertionError when this machine can't open so many, or a stream ends."""
    return [_level(streams, heartbeat_s) for streams in levels]


def _level(streams: int, heartbeat_s: float) -> HoldRow:
    settings = ServerSettings(port=0, heartbeat=Duration(round(heartbeat_s * 1e9)))
    start = [sys.executable, "-m", "sseproof.reference_server", settings_to_json(settings)]
    with _descriptors(streams), server_bench.served(start) as (pid, port), _Readers() as readers:
        with _Readers() as first:
            first.open(port, 1)
        idle_bytes = rss_bytes(pid)
        readers.open(port, streams)
        readers.count_from_now()
        waited_s, began_s = server_bench.scheduled_s(pid)[1], time.monotonic()
        rss = 0
        with _Health(port) as health:
            while time.monotonic() < began_s + (ROUNDS + LATE_SHARE) * heartbeat_s:
                readers.read(0.2)
                rss = max(rss, rss_bytes(pid))
        length_s = time.monotonic() - began_s
        waited_s = server_bench.scheduled_s(pid)[1] - waited_s
        beats = readers.beats()
    took_ms = sorted(health.took_ms)
    return HoldRow(
        streams=streams,
        heartbeat_s=heartbeat_s,
        most_open=len(beats),
        idle_mb=idle_bytes / 1e6,
        rss_mb=rss / 1e6,
        kb_a_stream=(rss - idle_bytes) / streams / 1e3,
        heartbeats=sum(beats),
        fewest=min(beats),
        silence_s=readers.silence_s,
        health_asked=len(took_ms),
        health_p50_ms=took_ms[len(took_ms) // 2],
        health_max_ms=took_ms[-1],
        waiting_share=waited_s / length_s,
    )


class _Stream:
    __slots__ = ("beats", "heard_s", "receive")

    def __init__(self, stream: socket.socket) -> None:
        self.receive = stream.recv
        self.beats = 0
        self.heard_s = time.monotonic()


class _Readers:
    """Streams that are read by one loop; closed afterwards."""

    def __init__(self) -> None:
        self.silence_s = 0.0
        self._poll = select.epoll()
        self._opened = contextlib.ExitStack()
        self._streams: dict[int, _Stream] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        self._opened.close()

    def open(self, port: int, streams: int) -> None:
        """So many streams, each after its first event."""
        greeted = 0
        until_s = time.monotonic() + OPEN_LIMIT_S
        for _ in range(streams):
            stream = self._opened.enter_context(server_bench.ask(port, SILENT))
            self._streams[stream.fileno()] = _Stream(stream)
            self._poll.register(stream, select.EPOLLIN)
            greeted += self._read_once(0).count(b"event: hello")
        while greeted < streams:
            assert time.monotonic() < until_s, f"{greeted} of {streams} streams began within {OPEN_LIMIT_S} s"
            greeted += self._read_once(0.05).count(b"event: hello")

    def count_from_now(self) -> None:
        """Forgets what was: thousands that connect at once hold up the heartbeats, which is another matter."""
        now_s = time.monotonic()
        self.silence_s = 0.0
        for stream in self._streams.values():
            stream.heard_s, stream.beats = now_s, 0

    def read(self, seconds: float) -> None:
        """Everything for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            self._read_once(left_s)

    def beats(self) -> list[int]:
        """Heartbeats of each stream."""
        return [stream.beats for stream in self._streams.values()]

    def _read_once(self, most_s: float) -> bytes:
        said = []
        for descriptor, _ in self._poll.poll(most_s):
            stream = self._streams[descriptor]
            data = stream.receive(65_536)
            assert data, "the server ended a stream"
            now_s = time.monotonic()
            if b"event: ping" in data:
                stream.beats += data.count(b"event: ping")
                self.silence_s = max(self.silence_s, now_s - stream.heard_s)
            stream.heard_s = now_s
            said.append(data)
        return b"".join(said)


class _Health:
    """Asks for a sign of life again and again, over a new connection each time, until it is left."""

    def __init__(self, port: int) -> None:
        self.took_ms: list[float] = []
        self._port = port
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._problem: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def _ask(self) -> None:
        try:
            while not self._left.wait(HEALTH_EVERY_S):
                began_s = time.monotonic()
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                connection.request("GET", HEALTH_PATH)
                body = connection.getresponse().read()
                connection.close()
                self.took_ms.append((time.monotonic() - began_s) * 1e3)
                assert msgspec.json.decode(body)["status"] == "ok"
        except BaseException as problem:  # noqa: BLE001  # whoever leaves raises it
            self._problem = problem


def rss_bytes(pid: int) -> int:
    """What the kernel counts as the process's resident memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@contextlib.contextmanager
def _descriptors(streams: int) -> Iterator[None]:
    """Room for so many connections in this process, which is often granted 1,024 at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = streams + DESCRIPTORS_BESIDE
    assert hard == resource.RLIM_INFINITY or hard >= needed, f"{streams} streams need {needed} descriptors"
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def missed_goals(rows: list[HoldRow]) -> list[str]:
    """At most 24 KB RSS a stream, a heartbeat for every stream in every round, and health within a second."""
    missed = []
    for row in rows:
        before = len(missed)
        title = f"{row.streams:,} streams on one server"
        if row.most_open < row.streams:
            missed.append(f"{title}: only {row.most_open:,} were open together")
        if row.kb_a_stream > GOAL_KB_A_STREAM:
            missed.append(
                f"{title}: {row.kb_a_stream:.1f} KB RSS a stream; the goal is {GOAL_KB_A_STREAM:.0f}"
            )
        if row.fewest < ROUNDS:
            missed.append(f"{title}: one got {row.fewest} of {ROUNDS} heartbeats")
        if row.silence_s > SILENCE_LIMIT * row.heartbeat_s:
            missed.append(f"{title}: {row.silence_s:.1f} s without a heartbeat of {row.heartbeat_s:g} s")
        if row.health_max_ms > HEALTH_LIMIT_MS:
            missed.append(
                f"{title}: the health endpoint took {row.health_max_ms:,.0f} ms; the goal is {HEALTH_LIMIT_MS:,.0f}"
            )
        if len(missed) > before and row.waiting_share > BUSY_SHARE:
            missed.append(
                f"{title}: the server waited {row.waiting_share:.0%} of the time for a core: leave the machine alone"
            )
    return missed


if __name__ == "__main__":
    for each in measure(tuple(int(level) for level in sys.argv[1:]) or LEVELS):
        print(each)
