"""HTTP/1.1 responses, read leniently and with offsets: what `check` needs to know of the framing, and no more.

Rules (RFC 9112; llhttp, which load runs use, gives neither offsets nor what it tolerates):
- Bytes in any cuts give the same result. Nothing raises: what is no HTTP/1.1 sets `broken` to a sentence's end.
- The body is a list of spans of the received bytes, so that every byte of it can be found in the read that brought it.
- Bounded: a head of HEAD_LIMIT_BYTES, interim answers included, and a chunk's line of CHUNK_LINE_LIMIT_BYTES.
"""

from array import array
from bisect import bisect_right
from typing import Final, Literal

from msgspec import Struct

HEAD_LIMIT_BYTES: Final = 65_536
"""Servers' own limits are 8 to 32 KiB."""
CHUNK_LINE_LIMIT_BYTES: Final = 1_024
INTERIM_LIMIT: Final = 20
EVENT_STREAM: Final = "text/event-stream"
_NO_BODY: Final = frozenset({204, 304})

Framing = Literal["chunked", "length", "close", "none"]


def is_event_stream(content_type: str) -> bool:
    """Whether the essence of a Content-Type is text/event-stream, whatever its case and parameters (C07)."""
    return content_type.partition(";")[0].strip().lower() == EVENT_STREAM


class Head(Struct, kw_only=True):
    """A response's head."""

    version: str
    """1.1, 1.0"""
    status: int
    reason: str
    headers: list[tuple[str, str]]
    """Names in lower case."""
    at: int
    """Its first byte."""
    end: int
    """The byte behind its blank line."""

    def get(self, name: str) -> str | None:
        """A header, joined when it came several times; None when it did not come."""
        found = [value for each, value in self.headers if each == name]
        return ", ".join(found) if found else None


class ResponseReader:
    """Reads one response; `method` is that of its request, because an answer to HEAD has no body."""

    def __init__(self, method: str = "GET") -> None:
        self._method = method
        self._data = bytearray()
        self._at = 0
        self._step: Literal["head", "chunk", "chunk-data", "chunk-end", "trailers", "body", "done"] = "head"
        self._left = 0
        self.head: Head | None = None
        self.interim: list[Head] = []
        self.framing: Framing = "none"
        self.complete = False
        """The framing says that the response is whole."""
        self.broken = ""
        """Why this is no HTTP/1.1; what was read before stays."""
        self.broken_at = 0
        self.starts = array("q")
        """Where the spans of the body begin in the received bytes."""
        self.ends = array("q")
        self._before = array("q")
        """Body bytes before each span."""
        self.body_bytes = 0

    @property
    def received(self) -> bytes:
        """Everything that was fed."""
        return bytes(self._data)

    @property
    def received_bytes(self) -> int:
        """Bytes fed so far."""
        return len(self._data)

    @property
    def trailing_bytes(self) -> int:
        """Bytes behind a whole response."""
        return len(self._data) - self._at if self.complete else 0

    def feed(self, data: bytes) -> None:
        """Takes further bytes."""
        self._data += data
        if self.broken:
            return
        while self._turn():
            pass

    def close(self) -> None:
        """The connection was closed; completes a body that ends so."""
        if self.framing == "close" and self._step == "body":
            self.complete = True
            self._step = "done"

    def body(self) -> bytes:
        """All body bytes so far, as they were transferred."""
        data = self._data
        return b"".join(bytes(data[start:end]) for start, end in zip(self.starts, self.ends, strict=True))

    def body_offset(self, received: int) -> int:
        """How many body bytes lie within the first `received` bytes."""
        span = bisect_right(self.starts, received) - 1
        if span < 0:
            return 0
        return self._before[span] + min(received, self.ends[span]) - self.starts[span]

    def _turn(self) -> bool:
        """One step; False when it needs more bytes or is done."""
        if self._step == "head":
            return self._read_head()
        if self._step == "chunk":
            return self._read_chunk_line()
        if self._step in {"chunk-data", "body"}:
            return self._read_body()
        if self._step == "chunk-end":
            return self._read_chunk_end()
        if self._step == "trailers":
            return self._read_trailers()
        return False

    def _break(self, why: str) -> bool:
        self.broken = why
        self.broken_at = self._at
        return False

    def _read_head(self) -> bool:
        data = self._data
        beginning = bytes(data[self._at : self._at + 5])
        if not b"HTTP/".startswith(beginning[:5]) and not beginning.startswith(b"HTTP/"):
            if beginning[:1] == b"\0" and len(data) < 9:
                return False  # it may become the head of a SETTINGS frame
            if data[3:9] == b"\x04\0\0\0\0\0":
                return self._break("the answer is HTTP/2 frames, though HTTP/1.1 was spoken")
            return self._break("the answer does not begin with HTTP/")
        end, after = _head_end(data, self._at)
        if end < 0:
            if len(data) - self._at > HEAD_LIMIT_BYTES or self._at > HEAD_LIMIT_BYTES:
                return self._break(f"the head is longer than {HEAD_LIMIT_BYTES >> 10} KiB")
            return False
        if after > HEAD_LIMIT_BYTES:
            return self._break(f"the head is longer than {HEAD_LIMIT_BYTES >> 10} KiB")
        head = _parse_head(bytes(data[self._at : end]), self._at, after)
        if head is None:
            return self._break("the status line is not one of HTTP/1.1")
        self._at = after
        if 100 <= head.status < 200 and head.status != 101:
            self.interim.append(head)
            return len(self.interim) <= INTERIM_LIMIT or self._break("one interim answer after the other")
        self.head = head
        return self._choose_framing(head)

    def _choose_framing(self, head: Head) -> bool:
        if self._method == "HEAD" or head.status in _NO_BODY or head.status == 101:
            return self._done()
        coding = (head.get("transfer-encoding") or "").lower()
        length = head.get("content-length")
        if "chunked" in coding:
            self.framing, self._step = "chunked", "chunk"
            return True
        if length is not None:
            first = length.partition(",")[0].strip()
            if not (first.isascii() and first.isdigit()) or len(first) > 18:
                return self._break("Content-Length is not a number")
            self.framing, self._step, self._left = "length", "body", int(first)
            return True if self._left else self._done()
        self.framing, self._step = "close", "body"
        return True

    def _done(self) -> bool:
        self._step = "done"
        self.complete = True
        return False

    def _line(self) -> tuple[bytes, int] | None:
        """The line at hand without its end, and the byte behind it."""
        end = self._data.find(b"\n", self._at, self._at + CHUNK_LINE_LIMIT_BYTES)
        if end < 0:
            if len(self._data) - self._at >= CHUNK_LINE_LIMIT_BYTES:
                self._break("a chunk's first line does not end")
            return None
        return bytes(self._data[self._at : end]).removesuffix(b"\r"), end + 1

    def _read_chunk_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size_text = line[0].partition(b";")[0].strip()
        try:
            if not size_text or not all(each in b"0123456789abcdefABCDEF" for each in size_text):
                raise ValueError  # noqa: TRY301  # int() also takes signs and underscores
            size = int(size_text, 16)
        except ValueError:
            return self._break("a chunk does not begin with its size")
        self._at = line[1]
        self._left = size
        self._step = "chunk-data" if size else "trailers"
        return True

    def _read_body(self) -> bool:
        there = len(self._data) - self._at
        if there <= 0:
            return False
        take = there if self.framing == "close" else min(there, self._left)
        if self.ends and self.ends[-1] == self._at:
            self.ends[-1] += take
        else:
            self.starts.append(self._at)
            self.ends.append(self._at + take)
            self._before.append(self.body_bytes)
        self.body_bytes += take
        self._at += take
        if self.framing == "close":
            return False
        self._left -= take
        if self._left:
            return False
        if self.framing == "length":
            return self._done()
        self._step = "chunk-end"
        return True

    def _read_chunk_end(self) -> bool:
        there = bytes(self._data[self._at : self._at + 2])
        if there.startswith(b"\n"):
            self._at += 1
        elif there == b"\r\n":
            self._at += 2
        elif there in {b"", b"\r"}:
            return False
        else:
            return self._break("a chunk is longer than it says")
        self._step = "chunk"
        return True

    def _read_trailers(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._at = line[1]
        return True if line[0] else self._done()


def _head_end(data: bytearray, at: int) -> tuple[int, int]:
    """Where the head's last line ends, and where its blank line does; -1 when it is not there yet."""
    found = [
        (place, place + len(mark))
        for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n")
        if (place := data.find(mark, at, at + HEAD_LIMIT_BYTES + 4)) >= 0
    ]
    return min(found, default=(-1, -1))


def _parse_head(text: bytes, at: int, end: int) -> Head | None:
    first, *lines = text.replace(b"\r\n", b"\n").split(b"\n")
    parts = first.decode("latin-1").split(" ", 2)
    status = parts[1] if len(parts) > 1 else ""
    if not (len(status) == 3 and status.isascii() and status.isdigit()):
        return None
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in {b" ", b"\t"} and headers:  # a folded line continues the one before
            name, value = headers[-1]
            headers[-1] = name, f"{value} {line.strip().decode('utf-8', 'replace')}"
            continue
        raw_name, _, raw_value = line.partition(b":")
        headers.append(
            (raw_name.strip().decode("latin-1").lower(), raw_value.strip().decode("utf-8", "replace"))
        )
    return Head(
        version=parts[0].removeprefix("HTTP/"),
        status=int(status),
        reason=parts[2] if len(parts) > 2 else "",
        headers=headers,
        at=at,
        end=end,
    )
