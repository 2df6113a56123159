"""A source that sends as fast as it is read: N numbered events a stream, then the answer's end.

Every event is an HTTP chunk of its own, as a server writes them. A block of events is made once for all streams, and one
`send` takes as much of it as fits, so that writing costs next to nothing. At its end, after SIGTERM, one JSON line: how
many events were written, and the share of its time from the first to the last write in which every reader was behind and
it had nothing to do. Where that share is small, the source was the bottleneck.

    python bench/flood_source.py EVENTS_A_STREAM   # prints its port, then serves until SIGTERM
"""

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
END = b"0\r\n\r\n"
BLOCK_EVENTS = 500
TEXT = b"the quick brown fox jumps over the lazy dog and on"


def block(first: int, last: int) -> bytes:
    """Events `first` to `last`, both included."""
    parts = []
    for number in range(first, last + 1):
        event = b'id: %d\nevent: delta\ndata: {"text":"%s","n":%d}\n\n' % (number, TEXT, number)
        parts.append(b"%x\r\n%s\r\n" % (len(event), event))
    return b"".join(parts)


class Stream:
    """One connection, and what it still has to get."""

    __slots__ = ("at", "offset", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.at = 0
        self.offset = 0


class Flood:
    """The loop: accepts, reads requests, writes where there is room."""

    def __init__(self, events: int) -> None:
        starts = range(1, events + 1, BLOCK_EVENTS)
        self.blocks = [block(start, min(start + BLOCK_EVENTS - 1, events)) for start in starts]
        self.blocks[0] = HEAD + self.blocks[0]
        self.blocks[-1] += END
        self.events = events
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.streams: dict[int, Stream] = {}
        self.whole = 0
        self.idle_s = 0.0
        self.began_s = self.ended_s = 0.0
        self.stopped = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM: leave the loop."""
        self.stopped = True

    def serve(self) -> None:
        """Until stopped."""
        while not self.stopped:
            before_s = time.monotonic()
            ready = self.poll.poll(0.05)
            if self.began_s and not self.ended_s:
                self.idle_s += time.monotonic() - before_s
            for descriptor, what in ready:
                if descriptor == self.listener.fileno():
                    self._accept()
                elif what & select.EPOLLIN and not self.streams[descriptor].at:
                    self._begin(descriptor)
                else:
                    self._write(descriptor)

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                self.streams[connection.fileno()] = Stream(connection)
                self.poll.register(connection, select.EPOLLIN)
        except BlockingIOError:
            return

    def _begin(self, descriptor: int) -> None:
        self.streams[descriptor].socket.recv(65536)
        self.began_s = self.began_s or time.monotonic()
        self.poll.modify(descriptor, select.EPOLLOUT)

    def _write(self, descriptor: int) -> None:
        stream = self.streams[descriptor]
        try:
            stream.offset += stream.socket.send(memoryview(self.blocks[stream.at])[stream.offset :])
        except BlockingIOError:
            return
        except OSError:
            self._close(descriptor)
            return
        if stream.offset == len(self.blocks[stream.at]):
            stream.at += 1
            stream.offset = 0
            if stream.at == len(self.blocks):
                self.whole += 1
                self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self.poll.unregister(descriptor)
        self.streams.pop(descriptor).socket.close()
        if not self.streams:
            self.ended_s = time.monotonic()

    def summary(self) -> dict[str, float]:
        """What was written, and whether it was waited for."""
        length_s = self.ended_s - self.began_s
        return {
            "written": self.whole * self.events,
            "idle_share": self.idle_s / length_s if length_s > 0 else 0.0,
        }


if __name__ == "__main__":
    flood = Flood(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, flood.stop)
    print(flood.listener.getsockname()[1], flush=True)
    flood.serve()
    print(json.dumps(flood.summary()), flush=True)
