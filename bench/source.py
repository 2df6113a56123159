"""A source of events that write their own send time: N streams, each at a fixed rate, from one epoll loop.

Each event is `id`, `event`, `data` with about 100 bytes; `data` is JSON with `sent_at`, the CLOCK_REALTIME instant just
before the write. Streams are spread evenly over the period, so that writes do not come in bursts. On SIGUSR1 it prints the
number of events written so far; on SIGTERM one JSON line: events written, events left out because a reader was behind,
and how late its own schedule was (p50 and p99), so that a bench can tell when the source was the bottleneck.

    python bench/source.py RATE   # prints its port, then serves until SIGTERM
"""

import heapq
import json
import select
import signal
import socket
import sys
import time
from types import FrameType

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
PADDING = "x" * 20


class Stream:
    """One connection and the number of its last event."""

    __slots__ = ("number", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.number = 0


def chunk(number: int) -> bytes:
    """One event in one HTTP chunk, stamped now."""
    event = b'id: %d\nevent: delta\ndata: {"text":"%s","sent_at":%d}\n\n' % (
        number,
        PADDING.encode(),
        time.time_ns(),
    )
    return b"%x\r\n%s\r\n" % (len(event), event)


class Source:
    """The loop: accepts, reads requests, writes events when they are due."""

    def __init__(self, rate: float) -> None:
        self.period_ns = round(1e9 / rate)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.waiting: dict[int, socket.socket] = {}
        self.streams: list[tuple[int, int, Stream]] = []
        """A heap: when the next event is due, order of joining, the stream."""
        self.joined = 0
        self.written = 0
        self.blocked = 0
        self.lags_us: dict[int, int] = {}
        self.stopped = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: leave the loop."""
        self.stopped = True

    def say(self, _number: int, _frame: FrameType | None) -> None:
        """SIGUSR1: how many events were written so far."""
        print(self.written, flush=True)

    def serve(self) -> None:
        """Until stopped."""
        while not self.stopped:
            self._accept()
            self._write_due()

    def _accept(self) -> None:
        for descriptor, _ in self.poll.poll(0 if self.streams else 0.05):
            if descriptor == self.listener.fileno():
                try:
                    while True:
                        connection, _ = self.listener.accept()
                        connection.setblocking(False)
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self.waiting[connection.fileno()] = connection
                        self.poll.register(connection, select.EPOLLIN)
                except BlockingIOError:
                    continue
            elif descriptor in self.waiting:
                connection = self.waiting.pop(descriptor)
                self.poll.unregister(descriptor)
                connection.recv(65536)
                connection.send(HEAD)
                offset = self.joined * 7919 * 1009 % self.period_ns
                self.joined += 1
                heapq.heappush(self.streams, (time.monotonic_ns() + offset, self.joined, Stream(connection)))

    def _write_due(self) -> None:
        streams = self.streams
        for _ in range(len(streams)):
            due_ns, order, stream = streams[0]
            now = time.monotonic_ns()
            if due_ns > now:
                if due_ns - now > 200_000:
                    time.sleep((due_ns - now - 100_000) / 1e9)
                return
            lag = (now - due_ns) // 1000
            self.lags_us[lag] = self.lags_us.get(lag, 0) + 1
            stream.number += 1
            try:
                stream.socket.send(chunk(stream.number))
            except BlockingIOError:
                self.blocked += 1  # the reader is behind and its buffers are full: this event is left out
                stream.number -= 1
                heapq.heapreplace(streams, (due_ns + self.period_ns, order, stream))
                continue
            except OSError:
                stream.socket.close()
                heapq.heappop(streams)
                continue
            self.written += 1
            heapq.heapreplace(streams, (due_ns + self.period_ns, order, stream))

    def summary(self) -> dict[str, float]:
        """What was written, and how late."""
        total = sum(self.lags_us.values())
        return {
            "written": self.written,
            "blocked": self.blocked,
            "lag_p50_ms": self._lag(total, 0.5),
            "lag_p99_ms": self._lag(total, 0.99),
        }

    def _lag(self, total: int, share: float) -> float:
        seen = 0
        for lag in sorted(self.lags_us):
            seen += self.lags_us[lag]
            if seen >= share * total:
                return lag / 1000
        return 0.0


if __name__ == "__main__":
    source = Source(float(sys.argv[1]))
    signal.signal(signal.SIGTERM, source.stop)
    signal.signal(signal.SIGUSR1, source.say)
    print(source.listener.getsockname()[1], flush=True)
    source.serve()
    print(json.dumps(source.summary()), flush=True)
