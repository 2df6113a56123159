"""Answers that are not known beforehand: events numbered as they come, kept for whoever comes back (pure).

Rules:
- Numbers are those of scripted answers: 1 is hello, then a delta each piece of text, the last is done. They are given
  once, when the piece comes, so a resumed answer has the same ids.
- One reader an answer. A later connection of the same answer takes it over and the earlier one ends: after a cut the
  server may still hold a connection that nobody reads.
- Memory is bounded: what the reader has not taken yet (beyond the limit `full` asks the source to pause) and what is
  kept behind the reader for its return (as much again; older events go first and can't be resumed).
- An error ends the answer without a number, after all that came before it; who comes back is told it again.
"""

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from sseproof.reference_server.completions import CompletionError

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT_COST_BYTES: Final = 100
"""Of an event beside its text: its objects and its place in the queue."""


class Kept(Struct, frozen=True, gc=False):
    """One numbered event."""

    text: str
    cost_bytes: int


class Reader(Protocol):
    """The connection that an answer goes to."""

    def more(self) -> None:
        """Something new can be read."""

    def taken_over(self) -> None:
        """Another connection reads from now on."""


class LiveAnswer:
    """One answer as it comes."""

    endless: Final = False

    def __init__(self, limit_bytes: int, *, resumable: bool = True) -> None:
        self.limit_bytes = limit_bytes
        self.last: int | None = None
        """The number of done; None until the answer is whole."""
        self.finish_reason: str | None = None
        self.error: CompletionError | None = None
        """Why the answer ended before it was whole."""
        self.on_room: Callable[[], None] = _nothing
        """Called when the reader has taken so much that the source may go on."""
        self.on_attached: Callable[[], None] = _nothing
        """Called when a reader takes its place."""
        self.on_left: Callable[[], None] = _nothing
        """Called when the reader is gone."""
        self.reader: Reader | None = None
        self._resumable = resumable
        self._events: deque[Kept] = deque()
        """Those from number `first` on, hello and done left out."""
        self._first = 2
        self._taken = 2
        """The number of the first event that no reader has taken."""
        self._ahead_bytes = 0
        self._behind_bytes = 0
        self._digest = hashlib.sha256()

    @property
    def over(self) -> bool:
        """Nothing comes any more."""
        return self.last is not None or self.error is not None

    @property
    def newest(self) -> int:
        """The number of the newest event."""
        return self._first + len(self._events) - 1 if self.last is None else self.last

    @property
    def full(self) -> bool:
        """The reader is so far behind that the source has to wait."""
        return self._ahead_bytes > self.limit_bytes

    @property
    def kept_bytes(self) -> int:
        """What its events take in memory, about."""
        return self._ahead_bytes + self._behind_bytes

    def sha256(self) -> str:
        """Of the text so far, in UTF-8."""
        return self._digest.hexdigest()

    def has(self, number: int) -> bool:
        """Whether event `number`, a delta or done, is kept or comes next."""
        return self._first <= number <= (self.newest + 1 if self.last is None else self.last)

    def text(self, number: int) -> str:
        """The text of a delta that is kept."""
        return self._events[number - self._first].text

    def add(self, text: str) -> None:
        """The next delta."""
        encoded = text.encode()
        self._digest.update(encoded)
        event = Kept(text, len(encoded) + EVENT_COST_BYTES)
        self._events.append(event)
        self._ahead_bytes += event.cost_bytes
        self._tell()

    def finish(self, reason: str | None) -> None:
        """The answer is whole; what comes later is ignored."""
        if not self.over:
            self.last = self.newest + 1
            self.finish_reason = reason
            self._tell()

    def fail(self, error: CompletionError) -> None:
        """The answer ends here; one that is whole stays whole."""
        if not self.over:
            self.error = error
            self._tell()

    def taken(self, number: int) -> None:
        """The reader was handed all events below `number`."""
        was_full = self.full
        while self._taken < min(number, self._first + len(self._events)):
            cost_bytes = self._events[self._taken - self._first].cost_bytes
            self._ahead_bytes -= cost_bytes
            self._behind_bytes += cost_bytes
            self._taken += 1
        while self._first < self._taken and (self._behind_bytes > self.limit_bytes or not self._resumable):
            self._behind_bytes -= self._events.popleft().cost_bytes
            self._first += 1
        if was_full and not self.full:
            self.on_room()

    def attach(self, reader: Reader) -> None:
        """This one reads from now on."""
        earlier, self.reader = self.reader, reader
        if earlier is not None:
            earlier.taken_over()
        self.on_attached()

    def abandon(self) -> None:
        """Nobody wants it any more."""
        if self.reader is not None:
            self.reader.taken_over()

    def detach(self, reader: Reader) -> None:
        """This one reads no more; nothing happens when another took its place."""
        if self.reader is reader:
            self.reader = None
            self.on_left()

    def _tell(self) -> None:
        if self.reader is not None:
            self.reader.more()


def _nothing() -> None:
    """Nobody waits."""
