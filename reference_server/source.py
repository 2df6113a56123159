"""A source that costs next to nothing: many streams of the same small events, evenly paced, from one loop.

    python -m sseproof.reference_server.source   # prints its port, then a line of JSON a second, until SIGTERM

Rules:
- The reference server itself spends more on an event than the generator does (33 µs against 14 to 16, capacity.md), so
  it can't show where the generator's limit is. Here an event of a number is made once for all streams and an event
  costs one `send`.
- `GET /each/N` makes N events a second in every stream, `GET /total/N` N in all streams together, `GET /` opens a
  stream, silent until a rate is set. Events of all streams come evenly, one after the other, not in bursts.
- An event whose reader's buffers are full is left out and counted: the reader is behind. An event that comes late is
  counted by its lag: then the source is. So whoever measures can tell which of the two was the limit.
"""

import collections
import contextlib
import selectors
import signal
import socket
import sys
import time
from types import FrameType
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import EXIT_RIG
from sseproof.rundir.parent import orphaned

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
DONE: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
WRONG: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TEXT: Final = "the quick brown fox jumps over the lazy dog and on"
CHUNKS_KEPT: Final = 4_096
ROUND: Final = 64
"""Events between two looks at new connections while the source is behind."""
LOOK_S: Final = 0.002
CLOSE_TO_DUE_S: Final = 0.000_2
"""A sleep ends later than asked by about half of it."""


class SourceRow(Struct):
    """One second of the source."""

    at_ns: int
    open_streams: int
    written: int
    left_out: int
    """Events that were not written because the reader's buffers were full."""
    lag_p99_ms: float
    """How late its events were."""


class _Stream:
    __slots__ = ("number", "send", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.send = connection.send
        self.number = 0


class Source:
    """The loop: accepts, reads requests, writes events when they are due."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4_096)
        self.listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._ring: collections.deque[_Stream] = collections.deque()
        self._total = 0.0
        self._each = 0.0
        self._due_s = 0.0
        self._chunks: dict[int, bytes] = {}
        self._written = self._left_out = 0
        self._lags_s: list[float] = []
        self._stopped = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: leave the loop."""
        self._stopped = True

    def serve(self) -> None:
        """Until stopped; a row a second goes to standard output."""
        tell_s = time.monotonic() + 1
        while not self._stopped:
            self._look()
            self._write_due()
            if time.monotonic() >= tell_s:
                tell_s += 1
                print(msgspec.json.encode(self._row()).decode("ascii"), flush=True)

    def _row(self) -> SourceRow:
        ranked = sorted(self._lags_s)
        p99_s = ranked[int(0.99 * (len(ranked) - 1))] if ranked else 0.0
        row = SourceRow(now_ns(), len(self._ring), self._written, self._left_out, round(p99_s * 1e3, 3))
        self._lags_s = []
        self._written = self._left_out = 0
        return row

    # --- requests ---

    def _look(self) -> None:
        for key, _ in self._selector.select(0 if self._rate else LOOK_S):
            if key.fileobj is self.listener:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._answer(key.fileobj)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # there are no more, or no more descriptors
            while True:
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(connection, selectors.EVENT_READ)

    def _answer(self, connection: socket.socket) -> None:
        """A request comes in one piece: only our own processes ask."""
        self._selector.unregister(connection)
        try:
            request = connection.recv(65_536)
            words = request.split(b" ", 2)
            parts = words[1].split(b"/") if len(words) == 3 else []
            if parts[1:2] == [b""]:
                connection.send(HEAD)
                self._ring.append(_Stream(connection))
                return
            connection.send(DONE if self._understood(parts) else WRONG)
        except OSError:
            pass  # whoever asked is gone
        connection.close()

    def _understood(self, parts: list[bytes]) -> bool:
        try:
            _, unit, number = parts
            rate = float(number)
        except ValueError:
            return False
        if unit not in {b"each", b"total"} or not 0 <= rate < 1e9:
            return False
        self._total, self._each = (rate, 0.0) if unit == b"total" else (0.0, rate)
        self._due_s = time.monotonic()
        return True

    # --- events ---

    @property
    def _rate(self) -> float:
        """Events a second of all streams together."""
        return self._total + self._each * len(self._ring) if self._ring else 0.0

    def _write_due(self) -> None:
        rate = self._rate
        if not rate:
            self._due_s = time.monotonic()
            return
        step_s = 1 / rate
        ring, lags = self._ring, self._lags_s
        clock = time.monotonic
        due_s = self._due_s
        for _ in range(ROUND):
            now_s = clock()
            if now_s < due_s:
                if due_s - now_s > CLOSE_TO_DUE_S:
                    time.sleep(min((due_s - now_s) / 2, LOOK_S))
                break
            lags.append(now_s - due_s)
            due_s += step_s
            stream = ring[0]
            ring.rotate(-1)
            number = stream.number + 1
            chunk = self._chunks.get(number) or self._made(number)
            try:
                stream.send(chunk)
            except BlockingIOError:
                self._left_out += 1
            except OSError:
                stream.socket.close()
                ring.remove(stream)
                if not ring:
                    break
            else:
                stream.number = number
                self._written += 1
        self._due_s = due_s

    def _made(self, number: int) -> bytes:
        if len(self._chunks) >= CHUNKS_KEPT:
            self._chunks.clear()
        event = b'id: %d\nevent: delta\ndata: {"text":"%s"}\n\n' % (number, TEXT.encode())
        chunk = self._chunks[number] = b"%x\r\n%s\r\n" % (len(event), event)
        return chunk


def main() -> int:
    """The exit code."""
    if orphaned():
        return EXIT_RIG
    source = Source()
    signal.signal(signal.SIGTERM, source.stop)
    print(source.listener.getsockname()[1], flush=True)
    source.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
