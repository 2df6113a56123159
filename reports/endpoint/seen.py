"""One probe's answer, read: head, body, events, and which read brought which byte.

Rules (checks.md 5.4): reads are mapped to events by byte offsets, after decompression where there was any; reads less than
5 ms apart are one burst; a burst with a read that we made late is void, because it may be several. Bounded: EVENTS_LIMIT
events are looked at.
"""

from bisect import bisect_left
from functools import cached_property
from typing import Final

from msgspec import Struct

from sseproof.loadtests.content import Decoded
from sseproof.loadtests.framing import Head, ResponseReader, is_event_stream
from sseproof.loadtests.sse import Comment, Defect, Item, Message, Parser, Retry
from sseproof.reports.endpoint.lines import Lines, read_lines
from sseproof.rundir.capture import Probed, Read

BURST_GAP_NS: Final = 5_000_000
LATE_READ_NS: Final = 5_000_000
EVENTS_LIMIT: Final = 20_000
_PIECE_BYTES: Final = 65_536
_SNIFFED: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


class Burst(Struct, frozen=True):
    """Reads that belong together."""

    at_ns: int
    """Arrival of its last byte."""
    began_ns: int
    size: int
    """Body bytes, as transferred."""
    start: int
    """Body offset, decoded."""
    end: int
    events: int
    """Events completed in it."""
    between_events: bool
    """Its last byte ends an event, a comment or a block."""
    void: bool
    """We read late: it may have been several."""


class Seen:
    """What one probe's answer shows; everything is computed once, when first asked for."""

    def __init__(self, probed: Probed) -> None:
        self.probed = probed
        self.reader = ResponseReader(probed.method)
        self.reader.feed(probed.received)
        if probed.end == "eof":
            self.reader.close()

    @property
    def head(self) -> Head | None:
        """The final response's head."""
        return self.reader.head

    @property
    def status(self) -> int | None:
        """Its status."""
        return None if self.head is None else self.head.status

    def get(self, name: str) -> str:
        """A header's value, empty when it did not come."""
        return "" if self.head is None else self.head.get(name) or ""

    @property
    def opened(self) -> bool:
        """Status 200 and an event stream by its type."""
        return self.status == 200 and is_event_stream(self.get("content-type"))

    @property
    def readable(self) -> bool:
        """Its body can be looked at as an event stream, whatever its type says."""
        if self.status != 200:
            return False
        return self.opened or self.body.lstrip(b"\xef\xbb\xbf\r\n").startswith(_SNIFFED)

    @property
    def ended_by_server(self) -> bool:
        """The answer was whole when it ended."""
        return self.probed.end in {"complete", "eof"}

    # The body.

    @cached_property
    def _arrived(self) -> list[tuple[Read, int]]:
        """The reads that brought body bytes, with the body's size after each (as transferred)."""
        arrived = []
        received = before = 0
        for read in self.probed.reads:
            received += read.size
            size = self.reader.body_offset(received)
            if size > before:
                arrived.append((read, size))
                before = size
        return arrived

    @cached_property
    def decoded(self) -> Decoded:
        """The body without its content coding."""
        whole = self.reader.body()
        sizes = [size for _, size in self._arrived]
        parts = [whole[start:end] for start, end in zip([0, *sizes], sizes, strict=False)]
        return Decoded(self.get("content-encoding"), parts)

    @property
    def damaged(self) -> bool:
        """Nobody can read the body; where a secret in it was overwritten by us, that may have damaged it."""
        return self.decoded.damaged and not self.probed.echoed

    @cached_property
    def body(self) -> bytes:
        """The body as it was meant."""
        return bytes(self.decoded.data)

    @cached_property
    def lines(self) -> Lines:
        """Its lines and blocks."""
        return read_lines(self.body)

    # Events.

    @cached_property
    def _parsed(self) -> tuple[list[Item], bool]:
        parser = Parser()
        items: list[Item] = []
        body = self.body
        for at in range(0, len(body), _PIECE_BYTES):
            items += parser.receive(body[at : at + _PIECE_BYTES])
            if len(items) >= EVENTS_LIMIT:
                return items[:EVENTS_LIMIT], True
        if self.ended_by_server:
            items += parser.close()
        return items, False

    @property
    def cut(self) -> bool:
        """There were more events than are looked at."""
        return self._parsed[1]

    @cached_property
    def messages(self) -> list[Message]:
        """The events that a conforming client delivers."""
        return [item for item in self._parsed[0] if isinstance(item, Message)]

    @cached_property
    def comments(self) -> list[Comment]:
        """Comment lines."""
        return [item for item in self._parsed[0] if isinstance(item, Comment)]

    @cached_property
    def retries(self) -> list[Retry]:
        """Accepted reconnection times."""
        return [item for item in self._parsed[0] if isinstance(item, Retry)]

    @cached_property
    def defects(self) -> list[Defect]:
        """What is wrong with the bytes."""
        return [item for item in self._parsed[0] if isinstance(item, Defect)]

    @cached_property
    def ids(self) -> list[str]:
        """The ids of events that have one of their own."""
        return [
            message.last_event_id for message in self.messages if message.has_id and message.last_event_id
        ]

    # Time.

    @property
    def sent_ns(self) -> int:
        """When the request was on its way: before anything came back, though our look at the clock may come later."""
        sent = self.probed.sent_ns or self.probed.began_ns
        return min(sent, self.probed.reads[0].at_ns) if self.probed.reads else sent

    @cached_property
    def head_ns(self) -> int | None:
        """Arrival of the head's last byte."""
        if self.head is None:
            return None
        received = 0
        for read in self.probed.reads:
            received += read.size
            if received >= self.head.end:
                return read.at_ns
        return None

    @property
    def first_byte_ns(self) -> int | None:
        """Arrival of the first body byte."""
        return self._arrived[0][0].at_ns if self._arrived else None

    @property
    def last_byte_ns(self) -> int | None:
        """Arrival of the last body byte."""
        return self._arrived[-1][0].at_ns if self._arrived else None

    def arrival_ns(self, offset: int) -> int:
        """When the body byte before this (decoded) offset arrived."""
        sizes = self.decoded.sizes
        return self._arrived[min(bisect_left(sizes, offset), len(sizes) - 1)][0].at_ns

    @cached_property
    def event_ns(self) -> list[int]:
        """When each event was complete."""
        return [self.arrival_ns(message.end) for message in self.messages]

    @property
    def stamped(self) -> bool:
        """Every instant comes from the kernel."""
        return all(read.stamped for read in self.probed.reads)

    @property
    def lags_ns(self) -> list[int]:
        """How late our reads were."""
        return sorted(read.lag_ns for read in self.probed.reads)

    @property
    def body_lags_ns(self) -> list[int]:
        """How late our reads of the body were, in their order."""
        return [read.lag_ns for read, _ in self._arrived]

    # Bursts.

    @cached_property
    def _quiet_points(self) -> list[int]:
        """Offsets between events: behind every block, and behind comments outside of one."""
        points = [block.end for block in self.lines.blocks if block.closed]
        # A CR LF's event is complete at its CR, a comment alone at its line's end.
        points += [point - 1 for point in points if self.body[point - 2 : point] == b"\r\n"]
        # A comment may stand by itself, without a blank line: it is between events as long as no field came before it.
        opened = [(block.fields[0].at, block.end) for block in self.lines.blocks if block.fields]
        for comment in self.comments:
            at = bisect_left(opened, (comment.end,))
            if at and comment.end <= opened[at - 1][1]:
                continue
            points.append(comment.end)
            if self.body[comment.end : comment.end + 1] == b"\n":
                points.append(comment.end + 1)
        return sorted(set(points))

    @cached_property
    def bursts(self) -> list[Burst]:
        """The reads of the body, joined where they are closer than 5 ms."""
        groups: list[list[int]] = []
        previous_ns: int | None = None
        for number, (read, _) in enumerate(self._arrived):
            if previous_ns is None or read.at_ns - previous_ns >= BURST_GAP_NS:
                groups.append([])
            groups[-1].append(number)
            previous_ns = read.at_ns
        sizes = self.decoded.sizes
        ends = [message.end for message in self.messages]
        points = self._quiet_points
        bursts = []
        for group in groups:
            first, last = group[0], group[-1]
            start = sizes[first - 1] if first else 0
            end = sizes[last]
            before = self._arrived[first - 1][1] if first else 0
            at = bisect_left(points, end)
            bursts.append(
                Burst(
                    at_ns=self._arrived[last][0].at_ns,
                    began_ns=self._arrived[first][0].at_ns,
                    size=self._arrived[last][1] - before,
                    start=start,
                    end=end,
                    events=bisect_left(ends, end + 1) - bisect_left(ends, start + 1),
                    between_events=at < len(points) and points[at] == end,
                    void=any(self._arrived[number][0].lag_ns > LATE_READ_NS for number in group),
                )
            )
        return bursts
