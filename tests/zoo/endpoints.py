"""Endpoints of exact bytes for `sseproof check`: one that does everything right, and what can be changed about it.

The usual endpoint answers GET with 24 numbered JSON tokens and `done`, one write each, chunked; it resumes from
Last-Event-ID, answers 204 behind the last event and says `reset` to an id that it does not know; it answers HEAD and
OPTIONS. An animal of the zoo changes one thing of this.
"""

import socket
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from tests.loadtests.rawserver import LAST_CHUNK, Connection, chunk

USUAL_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
TOKENS: Final = 24
PACE_S: Final = 0.025
"""Far above the 5 ms within which reads count as one burst, and 24 of them take as long as a buffer needs to be seen."""
UNKNOWN_ID: Final = b'event: reset\ndata: {"reason":"unknown id"}\n\n'


def token(number: int, text: str | None = None, *, own: str | None = None) -> bytes:
    """One numbered event."""
    said = f"wörd {number} " if text is None else text
    return f'id: {own or f"s-{number}"}\ndata: {{"text":"{said}"}}\n\n'.encode()


def done(number: int) -> bytes:
    """The terminal event."""
    return f"id: s-{number}\nevent: done\ndata: {{}}\n\n".encode()


def tokens(count: int = TOKENS) -> list[bytes]:
    """The usual events, without the last one."""
    return [token(number) for number in range(1, count + 1)]


USUAL: Final = (*tokens(), done(TOKENS + 1))


class Endpoint(Struct, kw_only=True, frozen=True):
    """How one endpoint behaves, and what is to be found about it."""

    name: str
    expected: Mapping[str, str] = {}
    """Check id → the verdict that its defect must get; everything else must not fail."""
    version: str = "1.1"
    headers: Mapping[str, str | None] = {}
    """Laid over the usual ones; None takes one out."""
    events: Sequence[bytes] = USUAL
    pace_s: float = PACE_S
    framing: Literal["chunked", "close", "length"] = "chunked"
    writes: Callable[[Sequence[bytes]], Sequence[bytes]] | None = None
    """How events are cut into writes; None is one write an event."""
    body_s: float = 0.0
    """Between the head and the first write."""
    ending: Literal["whole", "fin", "rst", "open"] = "whole"
    resumes: Literal["after", "repeats", "now", "never", "empty-end"] = "after"
    """What Last-Event-ID brings: what follows, the event itself too, only what is new, all of it anew, an empty stream at the end."""
    answer: Callable[["Endpoint", Connection], bool] | None = None
    """Answers a request in a way of its own; True if it did."""
    asks: Mapping[str, Any] = {}
    """Options of the examination."""
    path: str = "/stream"
    tls: Literal["none", "private", "unknown"] = "none"
    """`private`: HTTP/1.1 alone, of an authority that --cacert names; `unknown`: HTTP/2 as well, with --insecure."""
    origin: "Endpoint | None" = None
    """What stands behind this one, for --origin."""
    through: Literal["direct", "jitter"] = "direct"

    def script(self, connection: Connection) -> None:
        """Serves one connection, in a way of its own where it has one."""
        if self.answer is None or not self.answer(self, connection):
            self.serve(connection)

    def serve(self, connection: Connection) -> None:
        """Serves one connection as usual."""
        method = connection.request_line.partition(" ")[0]
        if method == "OPTIONS":
            connection.send(b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n")
            connection.until_gone()
        elif method == "HEAD":
            connection.send(self.head())
            connection.until_gone()
        else:
            self.stream(connection, connection.header("last-event-id"))

    def head(self, events: Sequence[bytes] | None = None, **changed: str | None) -> bytes:
        """The answer's head before these events; keywords change headers (an underscore stands for a dash)."""
        headers = {**USUAL_HEADERS, **self.headers}
        headers.update({name.replace("_", "-"): value for name, value in changed.items()})
        if self.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        if self.framing == "length":
            headers["Content-Length"] = str(sum(map(len, self.events if events is None else events)))
        if self.framing == "close":
            headers.setdefault("Connection", "close")
        lines = [f"HTTP/{self.version} 200 OK"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([*lines, "", ""]).encode()

    def stream(self, connection: Connection, last_event_id: str | None = None) -> None:
        """The stream, all of it or from an id on."""
        events = self.events if last_event_id is None else self.rest(last_event_id)
        if not events and self.resumes != "empty-end":
            connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.until_gone()
            return
        connection.send(self.head(events))
        self.pause(connection, self.body_s)
        self.send_all(connection, events)
        self.end(connection)

    def send_all(self, connection: Connection, events: Sequence[bytes]) -> None:
        """The events, in this endpoint's writes and pace."""
        for number, data in enumerate(events if self.writes is None else self.writes(events)):
            if number:
                self.pause(connection, self.pace_s)
            self.send(connection, data)

    def send(self, connection: Connection, data: bytes) -> None:
        """One write of the body."""
        if data:
            connection.send(chunk(data) if self.framing == "chunked" else data)

    def end(self, connection: Connection) -> None:
        """How the stream ends."""
        if self.ending == "open":
            connection.until_gone()
        elif self.ending == "rst":
            connection.reset()
        elif self.ending == "fin":
            connection.close()
        elif self.framing == "chunked":
            connection.send(LAST_CHUNK)
            connection.until_gone()
        elif self.framing == "length":
            connection.until_gone()
        else:
            connection.close()

    def rest(self, last_event_id: str) -> Sequence[bytes]:
        """What a resumed stream brings."""
        ids = [id_of(event) for event in self.events]
        if self.resumes == "never" or not any(ids):
            return self.events
        if last_event_id not in ids:
            return [UNKNOWN_ID, *self.events]
        # Of several events with this id the last one was received.
        at = len(ids) - 1 - ids[::-1].index(last_event_id)
        if self.resumes == "repeats":
            return self.events[at:]
        if self.resumes == "now" and at + 1 < len(ids):
            return self.events[-2:]
        return self.events[at + 1 :]

    def pause(self, connection: Connection, seconds: float) -> None:
        """Waits, unless the server is being stopped."""
        if seconds:
            connection.server.tick.wait(seconds)


def id_of(event: bytes) -> str | None:
    """The id that an event carries."""
    for line in event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"id:"):
            return line[3:].removeprefix(b" ").decode("utf-8", "replace")
    return None


# What an endpoint may do otherwise.


def answering(content: bytes, *methods: str) -> Callable[[Endpoint, Connection], bool]:
    """The same bytes for every request of these methods (all of them when none is named), then the connection is closed."""

    def answer(endpoint: Endpoint, connection: Connection) -> bool:
        del endpoint
        if methods and connection.request_line.partition(" ")[0] not in methods:
            return False
        connection.send(content)
        connection.sock.shutdown(socket.SHUT_WR)
        connection.until_gone()
        return True

    return answer


def response(status: str, body: bytes, **headers: str) -> bytes:
    """A whole answer; an underscore in a header's name stands for a dash."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def when(
    test: Callable[[Connection], bool], act: Callable[[Endpoint, Connection], None]
) -> Callable[[Endpoint, Connection], bool]:
    """Another behaviour for some requests."""

    def answer(endpoint: Endpoint, connection: Connection) -> bool:
        if not test(connection):
            return False
        act(endpoint, connection)
        return True

    return answer


def says(content: bytes) -> Callable[[Endpoint, Connection], None]:
    """Sends the bytes and waits for the client to go."""

    def act(endpoint: Endpoint, connection: Connection) -> None:
        del endpoint
        connection.send(content)
        connection.sock.shutdown(socket.SHUT_WR)
        connection.until_gone()

    return act


def is_get(connection: Connection) -> bool:
    """A plain request for the stream."""
    return connection.request_line.startswith("GET ")


def is_fresh(connection: Connection) -> bool:
    """A plain request for the stream from its beginning."""
    return is_get(connection) and connection.header("last-event-id") is None


def takes_gzip(connection: Connection) -> bool:
    """A request that offers compression."""
    return is_get(connection) and "gzip" in (connection.header("accept-encoding") or "")


def gzipped(*, flush: bool) -> Callable[[Endpoint, Connection], None]:
    """The stream compressed: flushed with each event, or when the compressor's 4 KiB are full."""

    def act(endpoint: Endpoint, connection: Connection) -> None:
        packer = zlib.compressobj(wbits=31)
        connection.send(endpoint.head(Content_Encoding="gzip", Vary="Accept-Encoding"))
        for number, event in enumerate(endpoint.events):
            if number:
                endpoint.pause(connection, endpoint.pace_s)
            packed = packer.compress(event) + (packer.flush(zlib.Z_SYNC_FLUSH) if flush else b"")
            endpoint.send(connection, packed)
        endpoint.send(connection, packer.flush())
        endpoint.end(connection)

    return act


def pieces_of(size: int) -> Callable[[Sequence[bytes]], Sequence[bytes]]:
    """A buffer of so many bytes."""

    def writes(events: Sequence[bytes]) -> Sequence[bytes]:
        body = b"".join(events)
        return [body[at : at + size] for at in range(0, len(body), size)]

    return writes


def groups_of(count: int) -> Callable[[Sequence[bytes]], Sequence[bytes]]:
    """So many events a write."""

    def writes(events: Sequence[bytes]) -> Sequence[bytes]:
        return [b"".join(events[at : at + count]) for at in range(0, len(events), count)]

    return writes


def stamped(
    endpoint: Endpoint, connection: Connection, delays_s: Sequence[float], release_s: Callable[[float], float]
) -> None:
    """Events with the sender's clock in them, held back by something behind the sender.

    `delays_s` are the distances at which they are made, `release_s` says for each moment when it is let go.
    """
    connection.send(endpoint.head())
    began = time.monotonic()
    made_s = 0.0
    held: list[tuple[float, bytes]] = []
    for number, delay_s in enumerate(delays_s, 1):
        made_s += delay_s
        sent_at_ms = round((time.time() - time.monotonic() + began + made_s) * 1000)
        event = f'id: s-{number}\ndata: {{"text":"w{number} ","sent_at":{sent_at_ms}}}\n\n'.encode()
        held.append((release_s(made_s), event))
    held.append((held[-1][0] + 0.05, done(len(delays_s) + 1)))
    moments = sorted({moment for moment, _ in held})
    for moment in moments:
        endpoint.pause(connection, max(0.0, began + moment - time.monotonic()))
        endpoint.send(connection, b"".join(event for release, event in held if release == moment))
    endpoint.end(connection)
