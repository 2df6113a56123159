"""A source of events that write their own send time: N streams, each at a fixed rate, from one epoll loop.

Each event is `id`, `event`, `data` with about 100 bytes; `data` is JSON with `sent_at`, the CLOCK_REALTIME instant just
before the write. Streams are spread evenly over the period; what falls due within REST_S is written together, so that the
source leaves its core to others in between. All periods are the same, so the order in which streams are due never changes.
On SIGUSR1 and at its end on SIGTERM it prints one JSON line: events written, events left out because a reader was behind,
and how late its own schedule was since the line before (p50 and p99), so that a bench can tell when the source was the
bottleneck.

    python bench/source.py RATE   # prints its port, then serves until SIGTERM
"""

import bisect
import json
import select
import signal
import socket
import sys
import time
from collections import deque
from types import FrameType

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENT = b'id: %d\nevent: delta\ndata: {"text":"xxxxxxxxxxxxxxxxxxxx","sent_at":%d}\n\n'
REST_S = 0.0005


class Stream:
    """One connection, the number of its last event, and when the next one is due."""

    __slots__ = ("due_ns", "number", "send", "socket")

    def __init__(self, connection: socket.socket, due_ns: int) -> None:
        self.socket = connection
        self.send = connection.send
        self.due_ns = due_ns
        self.number = 0


def due_of(stream: Stream) -> int:
    """Sorts streams."""
    return stream.due_ns


class Source:
    """The loop: accepts, reads requests, writes events when they are due."""

    def __init__(self, rate: float) -> None:
        self.period_ns = round(1e9 / rate)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.waiting: dict[int, socket.socket] = {}
        self.streams: deque[Stream] = deque()
        """In the order in which they are due."""
        self.joined = 0
        self.written = 0
        self.blocked = 0
        self.lags_us: dict[int, int] = {}
        self.stopped = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: leave the loop."""
        self.stopped = True

    def say(self, _number: int, _frame: FrameType | None) -> None:
        """SIGUSR1: what was written so far, and how late since the line before."""
        print(json.dumps(self.summary()), flush=True)

    def serve(self) -> None:
        """Until stopped."""
        while not self.stopped:
            rest_s = self._write_due()
            if rest_s < 2 * REST_S:
                time.sleep(rest_s)
                rest_s = 0
            self._accept(rest_s)

    def _accept(self, most_s: float) -> None:
        for descriptor, _ in self.poll.poll(most_s):
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
                bisect.insort(self.streams, Stream(connection, time.monotonic_ns() + offset), key=due_of)

    def _write_due(self) -> float:
        """Returns for how many seconds there is nothing to do."""
        streams, lags_us, period_ns = self.streams, self.lags_us, self.period_ns
        now_ns = time.monotonic_ns()
        for _ in range(len(streams)):
            stream = streams[0]
            if stream.due_ns > now_ns:
                now_ns = time.monotonic_ns()
                if stream.due_ns > now_ns:
                    break
            streams.popleft()
            lag = (now_ns - stream.due_ns) // 1000
            lags_us[lag] = lags_us.get(lag, 0) + 1
            event = EVENT % (stream.number + 1, time.time_ns())
            try:
                stream.send(b"%x\r\n%s\r\n" % (len(event), event))
            except BlockingIOError:
                self.blocked += 1  # the reader is behind and its buffers are full: this event is left out
            except OSError:
                stream.socket.close()
                continue
            else:
                stream.number += 1
                self.written += 1
            stream.due_ns += period_ns
            streams.append(stream)
        else:
            return 0 if streams else 0.05
        return max(REST_S, (stream.due_ns - now_ns) / 1e9 - REST_S)

    def summary(self) -> dict[str, float]:
        """What was written in all, and how late since the last time this was asked."""
        lags_us = self.lags_us.copy()
        self.lags_us.clear()
        return {
            "written": self.written,
            "blocked": self.blocked,
            "lag_p50_ms": lag_ms(lags_us, 0.5),
            "lag_p99_ms": lag_ms(lags_us, 0.99),
        }


def lag_ms(lags_us: dict[int, int], share: float) -> float:
    """The lateness that this share of the counted ones do not exceed."""
    total = sum(lags_us.values())
    seen = 0
    for lag in sorted(lags_us):
        seen += lags_us[lag]
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
