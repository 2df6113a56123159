r"""The honest naive client: what most hand-written stream readers do, faults included.

It stands for the loop that tutorials and answers show for `fetch` and for `requests`:

    for chunk in response:                      # whatever one read happened to bring
        for block in decode(chunk).split("\n\n"):
            for line in block.split("\n"):
                if line.startswith("data:"): show(line.removeprefix("data:"))

(`new TextDecoder().decode(value)` without `{stream: true}`, or `chunk.decode(errors="replace")`). So a character cut
between two reads becomes U+FFFD on both sides; an event cut between two reads becomes a short one, and the half
without a `data:` prefix is lost without a word; CRLF streams come as one block a read; ids and `retry:` are ignored,
so nothing can be resumed. It runs the `legacy` profile, to show what the network did to users of such clients.

What it breaks itself is no `Defect`: the bytes were right. It shows as U+FFFD and wrong text.
"""

from typing import Final

from sseproof.loadtests.sse import Item, Message, ends_in_char

_BLANK: Final = b"\n\n"


class NaiveParser:
    """The interface of `sse.Parser`; nothing is remembered from one read to the next."""

    ended_in_data: Final = False  # it does not notice

    __slots__ = ("_closed", "_ended_blank", "_tail", "dead", "last_event_id", "offset", "retry_ms")

    def __init__(self, last_event_id: str = "", max_event_bytes: int = 0) -> None:
        """Takes what `sse.Parser` takes and ignores it, as such clients do."""
        del last_event_id, max_event_bytes
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.dead = False
        self.offset = 0
        self._closed = False
        self._ended_blank = True
        self._tail = b""

    @property
    def pending_bytes(self) -> int:
        """Always 0: nothing is kept."""
        return 0

    @property
    def in_event(self) -> bool:
        """The last read ended inside an event, which this client has broken."""
        return not self._ended_blank

    @property
    def in_char(self) -> bool:
        """The last read ended inside a character, which this client has broken."""
        return ends_in_char(self._tail)

    def receive(self, data: bytes) -> list[Item]:
        """The events of this read alone; halves of events count as events."""
        items: list[Item] = []
        end = self.offset
        self.offset += len(data)
        if self._closed or not data:
            return items
        for block in data.split(_BLANK):
            end = min(end + len(block) + len(_BLANK), self.offset)
            message = _message(block, end)
            if message is not None:
                items.append(message)
        self._ended_blank = data.endswith(_BLANK)
        self._tail = data[-3:]
        return items

    def close(self) -> list[Item]:
        """Nothing: this client does not notice that something was unfinished."""
        self._closed = True
        return []


def _message(block: bytes, end: int) -> Message | None:
    # Splitting first and decoding then gives the same text: an LF ends every ill-formed sequence.
    kind = "message"
    data: list[str] = []
    for line in block.decode("utf-8", "replace").split("\n"):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" ").rstrip("\r"))
        elif line.startswith("event:"):
            kind = line[6:].strip() or kind
    return Message(kind, "\n".join(data), "", end, has_id=False) if data else None
