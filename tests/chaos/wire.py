"""What the tests of the injector see the wire with: an upstream in threads and a client, both on plain blocking sockets."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from msgspec import Struct

from sseproof.chaos.faults import parse_fault
from sseproof.chaos.plan import FaultPlan, GroupSpec, plan_faults, with_ports
from sseproof.chaos.processes import PortLease
from sseproof.rundir.files import FAULTS, Appender, Reading
from sseproof.rundir.rows import FaultRow

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
REQUEST: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
RUN: Final = "r-1"

Serve = Callable[[socket.socket], None]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(events: int, text: str = "سلام 🎈 é") -> bytes:
    """A whole answer as it goes over the wire."""
    body = b"".join(chunk(f"id: {n}\ndata: {text} {n}\n\n".encode()) for n in range(events))
    return HEAD + body + b"0\r\n\r\n"


class Upstream:
    """Takes connections, reads a request head from each, and lets `serve` write; a context manager."""

    def __init__(self, serve: Serve, *, wait_for_request: bool = True) -> None:
        self.requests = 0
        self.requested_ns: list[int] = []
        self.serving: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._serve = serve
        self._wait = wait_for_request
        self._live: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._live:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._live.append(connection)
            thread = threading.Thread(target=self._one, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = b""
                while self._wait and not request.endswith(b"\r\n\r\n"):
                    got = connection.recv(4096)
                    if not got:
                        return
                    request += got
                self.requested_ns.append(time.time_ns())
                self.requests += 1
                self.serving.put(connection)
                self._serve(connection)
            except OSError:
                pass


def at_once(data: bytes) -> Serve:
    return lambda connection: connection.sendall(data)


def ticking(events: int, interval_s: float, stop: threading.Event | None = None) -> Serve:
    """An answer of `events` events, one every interval."""
    over = stop or threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for number in range(events):
            connection.sendall(chunk(f"id: {number}\ndata: {number}\n\n".encode()))
            if over.wait(interval_s):
                break
        connection.sendall(b"0\r\n\r\n")

    return serve


class Heard(Struct):
    """What one client saw."""

    data: bytes
    end: str
    """fin, rst or time-out"""
    reads: list[int]
    """Bytes of each read."""
    at_ns: list[int]
    """When each read returned."""
    ended_ns: int

    @property
    def longest_gap_ms(self) -> float:
        return max((b - a) / 1e6 for a, b in zip(self.at_ns, self.at_ns[1:], strict=False))


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.settimeout(20)
    return connection


def listen_to(connection: socket.socket, request: bytes = REQUEST) -> Heard:
    """Sends the request and reads to the end."""
    heard = Heard(data=b"", end="", reads=[], at_ns=[], ended_ns=0)
    with connection:
        try:
            connection.sendall(request)
            while True:
                got = connection.recv(65536)
                if not got:
                    heard.end = "fin"
                    break
                heard.data += got
                heard.reads.append(len(got))
                heard.at_ns.append(time.time_ns())
        except ConnectionResetError:
            heard.end = "rst"
        except TimeoutError:
            heard.end = "time-out"
    heard.ended_ns = time.time_ns()
    return heard


def fetch(port: int) -> Heard:
    return listen_to(connect(port))


class Listener(threading.Thread):
    """A client in a thread of its own."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._connection = connect(port)
        self.heard: Heard | None = None
        self.start()

    def run(self) -> None:
        self.heard = listen_to(self._connection)

    def result(self) -> Heard:
        self.join(30)
        assert self.heard is not None
        return self.heard


def one_group(
    table: dict[str, Any],
    upstream: str,
    lease: PortLease,
    *,
    at_once: int = 1,
    name: str = "g",
    seed: int = 1,
    connect_ns: int = 0,
) -> FaultPlan:
    """A plan with one group that all streams belong to."""
    spec = GroupSpec(name=name, share="100%", fault=parse_fault(table))
    plan = plan_faults(
        [spec], run=RUN, seed=seed, upstreams={None: upstream}, connect_ns=connect_ns, at_once=at_once
    )
    return with_ports(plan, lease.ports[: len(plan.proxies)])


def journal(folder: Path) -> Appender[FaultRow]:
    return Appender(folder, FAULTS, RUN)


def rows(folder: Path) -> list[FaultRow]:
    return list(Reading(folder, FAULTS))
