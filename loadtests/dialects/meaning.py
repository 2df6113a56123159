"""What an event means to the user who waits for it: a token, the end, a heartbeat, an error, or something else.

A dialect is what one kind of service does, and is shared by all streams; its reader reads one stream. Readers of model
services remember what an answer has said of its own end, because there the reason of an end comes before the end itself
(sse.md 6). The plain dialect has nothing to remember and is its own reader, which costs the hot path nothing.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from sseproof.loadtests.sse import Message

MeaningKind = Literal["token", "terminal", "heartbeat", "error", "other"]

HEARTBEAT_TYPES: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
"""Event types that keep a connection open and say nothing, whatever the dialect."""
TERMINAL_DATA: Final = "[DONE]"
"""How OpenAI's chat completions, and much that follows them, end a stream."""


class Meaning(Struct, gc=False):
    """What one event means."""

    kind: MeaningKind
    text: str = ""
    """What the user reads: of tokens, and of an end that is the answer itself (MCP). Of an error its code, if it has one."""
    sequence: int | None = None
    """The event's own number, by which loss and doubling are known."""
    sent_at_ns: int | None = None
    """When the sender says it sent the event, in ns since 1970."""
    malformed: bool = False
    """JSON was expected and this was none."""


class Run(Struct, gc=False):
    """What several events in a row mean that are tokens all."""

    texts: Sequence[str]
    """Each not empty."""
    sequences: list[int] | None = None
    """None = the events have no numbers."""
    sent_at_ns: list[int] | None = None
    """None = the sender does not say it."""


class Reader(Protocol):
    """Reads the events of one stream."""

    def read(self, message: Message) -> Meaning:
        """The meaning of one event; never raises."""

    def read_run(self, blocks: Sequence[tuple[str, str, str, str]]) -> Run | None:
        """The meaning of several events as `Parser.run` gives them; None if they are not tokens all, or for any doubt.

        Never raises. What it gives is what `read` would.
        """

    @property
    def reads_runs(self) -> bool:
        """`read_run` is worth asking at all."""

    @property
    def may_end(self) -> bool:
        """A clean end of the connection now would be the answer's own, and not `truncated`."""

    @property
    def limited(self) -> bool:
        """The answer said that a length limit ended it."""

    @property
    def declined(self) -> bool:
        """The answer said that a content filter ended it."""


class Dialect(Protocol):
    """One kind of service; keeps no state, so one serves all streams."""

    def reader(self) -> Reader:
        """For a stream that begins."""

    @property
    def resumable(self) -> bool:
        """A broken stream can be taken up again, if its events have ids."""

    @property
    def resumes_by_get(self) -> bool:
        """A broken stream is taken up again by GET without a body, whatever method began it."""

    @property
    def accept(self) -> str | None:
        """The Accept header that such services want; None is the usual one."""
