"""One whole stream against the rules of its dialect (sse.md 6): what `sseproof check` asks, and no load run pays for.

Rules:
- A remark accuses the service of what its own dialect forbids, never of events or fields that are not known here.
- What a look cut off is nobody's fault: rules about the end are looked at by `Review.ending`, for the caller to weigh.
- Bounded: REMARKS_KEPT are kept, the rest is counted.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from sseproof.loadtests.dialects.content import (
    DECODE_ERRORS,
    as_number,
    as_text,
    decode_json,
    field,
    items,
    text_field,
)
from sseproof.loadtests.dialects.mcp import ENDPOINT_TYPE, Mcp, is_response
from sseproof.loadtests.dialects.meaning import HEARTBEAT_TYPES, Dialect
from sseproof.loadtests.dialects.models import (
    Anthropic,
    Chat,
    Gemini,
    Responses,
    chat_text,
)
from sseproof.loadtests.dialects.plain import Plain
from sseproof.loadtests.sse import Message
from sseproof.rundir.text import printable

REMARKS_KEPT: Final = 50
CODE_CHARS: Final = 80

RemarkKind = Literal["order", "sequence", "sum", "usage"]
Ending = Literal["marker", "implied", "bare", "missing", "error", "endless", "unknown"]
"""How the events say that the stream is over: by the dialect's own marker; by reasons to end, without the marker that should
follow (`implied`); by the marker without a reason (`bare`); not at all; by an error; never, by design; nobody knows."""


class Remark(Struct, frozen=True):
    """One thing that is not as the dialect has it."""

    kind: RemarkKind
    told: str
    """A sentence; what it quotes is escaped."""
    end: int
    """Offset in the stream behind the event it is about."""


class InbandError(Struct, frozen=True):
    """An error that came as an event."""

    code: str
    """Escaped; empty when it has none."""
    end: int


class Review(Struct, kw_only=True):
    """What a stream says of itself, and what of that is wrong."""

    tokens: int = 0
    first_token: int | None = None
    """Which event (from 0) was the first to read."""
    terminal: int | None = None
    """Which event (from 0) was the terminal marker."""
    ending: Ending
    marker: str
    """How a stream of this dialect ends, in words."""
    limited: bool = False
    declined: bool = False
    errors: list[InbandError] = []
    noise: int = 0
    """Events that only keep the connection open and are neither comments nor the dialect's own heartbeat."""
    heartbeats: int = 0
    """Events that are the dialect's own heartbeat."""
    remarks: list[Remark] = []
    remarks_left_out: int = 0


def review(messages: Sequence[Message], dialect: Dialect, *, terminal_known: bool = True) -> Review:
    """Reads all of a stream; `terminal_known` is whether a plain one's terminal marker is known."""
    reader = dialect.reader()
    audit = _audit_of(dialect)
    told = Review(ending="missing", marker=_marker_of(dialect))
    for number, message in enumerate(messages):
        meaning = reader.read(message)
        if told.terminal is not None:
            continue
        audit.at = message.end
        content = _content_of(message)
        said = meaning.kind == "token" or (meaning.kind == "terminal" and meaning.text != "")
        if (
            meaning.kind in {"other", "token"}
            and not isinstance(dialect, Mcp)
            and _is_noise(message, content)
        ):
            told.noise += 1
        elif said:
            told.tokens += 1
            told.first_token = number if told.first_token is None else told.first_token
        if meaning.kind == "error":
            told.errors.append(InbandError(printable(meaning.text, CODE_CHARS), message.end))
        elif meaning.kind == "heartbeat":
            told.heartbeats += message.type in HEARTBEAT_TYPES
        if meaning.kind == "terminal":
            told.terminal = number
            told.ending = "marker" if not isinstance(dialect, Chat) or reader.may_end else "bare"
        audit.see(message, content)
    if told.terminal is None:
        told.ending = _ending_without_marker(dialect, told, reader.may_end, terminal_known=terminal_known)
    audit.close(ended=told.terminal is not None)
    told.limited, told.declined = reader.limited, reader.declined
    told.remarks = audit.found[:REMARKS_KEPT]
    told.remarks_left_out = len(audit.found) - len(told.remarks)
    return told


def _ending_without_marker(dialect: Dialect, told: Review, may_end: bool, *, terminal_known: bool) -> Ending:
    if told.errors:
        return "error"
    if isinstance(dialect, Plain):
        return "missing" if terminal_known else "unknown"
    if not may_end:
        return "missing"
    if isinstance(dialect, Mcp):
        return "endless"
    return "implied" if isinstance(dialect, Chat) else "marker"


def _marker_of(dialect: Dialect) -> str:
    if isinstance(dialect, Chat):
        return "a finish_reason for every choice, then data: [DONE]"
    if isinstance(dialect, Responses):
        return "response.completed, response.incomplete or response.failed"
    if isinstance(dialect, Anthropic):
        return "message_stop"
    if isinstance(dialect, Gemini):
        return "a finishReason, then the end of the connection"
    if isinstance(dialect, Mcp):
        return "the JSON-RPC response"
    return "the terminal event"


def _content_of(message: Message) -> object:
    try:
        return decode_json(message.data) if message.data else None
    except DECODE_ERRORS:
        return None


_NOISE: Final = HEARTBEAT_TYPES | {""}


def _is_noise(message: Message, content: object) -> bool:
    """Whether an event without a type for it only keeps the connection open."""
    if message.type != "message":
        return False
    if message.data.strip().lower() in _NOISE or content == {}:
        return True
    return text_field(content, "type") in HEARTBEAT_TYPES


class _Audit:
    """The rules of one dialect; the plain one has none."""

    def __init__(self) -> None:
        self.at = 0
        self.found: list[Remark] = []

    def see(self, message: Message, content: object) -> None:
        """One more event."""

    def close(self, *, ended: bool) -> None:
        """There are no more; `ended` is whether the terminal marker came."""

    def _note(self, kind: RemarkKind, told: str) -> None:
        self.found.append(Remark(kind, told, self.at))

    def _named_as_typed(self, message: Message, content: object) -> None:
        """The event's name and the type inside it say the same."""
        kind = text_field(content, "type")
        if kind and message.type not in {kind, "message"}:
            self._note("order", f"the event {_shown(message.type)} carries the type {_shown(kind)}")


class _ChatAudit(_Audit):
    """One id per stream; a choice is silent once it has ended, and each ends before the marker."""

    def __init__(self) -> None:
        super().__init__()
        self._id = ""
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def see(self, message: Message, content: object) -> None:
        del message
        own = text_field(content, "id")
        if own and self._id and own != self._id:
            self._note("order", f"the id changes from {_shown(self._id)} to {_shown(own)}")
        self._id = own or self._id
        choices = field(content, "choices")
        if choices == [] and field(content, "usage") is not None:
            self._note("usage", "a usage frame without choices")
        for choice in items(choices):
            index = field(choice, "index")
            index = index if isinstance(index, int) else 0
            if index in self._ended and chat_text(choice):
                self._note("order", f"choice {index} goes on after its finish_reason")
            self._begun.add(index)
            if text_field(choice, "finish_reason"):
                self._ended.add(index)

    def close(self, *, ended: bool) -> None:
        open_ = sorted(self._begun - self._ended)
        if ended and self._ended and open_:
            self._note("order", f"choice {open_[0]} never got a finish_reason, others did")


_Part: TypeAlias = tuple[str, str, str]


class _ResponsesAudit(_Audit):
    """Numbers go up by one; names are types; deltas add up to what their part is said to be when it is done."""

    def __init__(self) -> None:
        super().__init__()
        self._last: int | None = None
        self._sums: dict[_Part, list[str]] = {}
        self._done: set[_Part] = set()
        self._any = False

    def see(self, message: Message, content: object) -> None:
        self._named_as_typed(message, content)
        kind = text_field(content, "type") or message.type
        number = as_number(field(content, "sequence_number"))
        if number is not None:
            if self._last is not None and number != self._last + 1:
                what = "repeats or goes back" if number <= self._last else "leaves a gap"
                self._note("sequence", f"the sequence_number {what}: {number} follows {self._last}")
            self._last = number
        if kind.startswith("response.") and not self._any:
            self._any = True
            if kind not in {"response.created", "response.queued"} and number in {None, 0}:
                self._note("order", f"the stream begins with {_shown(kind)}, not with response.created")
        stem, _, verb = kind.rpartition(".")
        if verb == "delta":
            part = _part_of(stem, content)
            if part in self._done:
                self._note("order", f"a {_shown(kind)} after the same part was done")
            self._sums.setdefault(part, []).append(as_text(field(content, "delta")))
        elif verb == "done" and stem in _WHOLE:
            part = _part_of(stem, content)
            self._done.add(part)
            whole = field(content, _WHOLE[stem])
            summed = "".join(self._sums.pop(part, []))
            if isinstance(whole, str) and whole != summed:
                self._note(
                    "sum",
                    f"the text of {_shown(stem)}: {len(summed):,} characters of deltas, {len(whole):,} in the whole"
                    f"{_first_difference(summed, whole)}",
                )


_WHOLE: Final = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.code_interpreter_call_code": "code",
}
"""Where the event that ends a part holds all of it."""


def _part_of(stem: str, content: object) -> _Part:
    index = [as_text(field(content, name)) for name in ("output_index", "content_index", "summary_index")]
    return stem, text_field(content, "item_id"), "/".join(index)


def _first_difference(summed: str, whole: str) -> str:
    for place, (left, right) in enumerate(zip(summed, whole, strict=False)):
        if left != right:
            return f", the first difference at character {place:,}"
    return ""


class _AnthropicAudit(_Audit):
    """message_start; for each index start, deltas, stop; message_delta; message_stop."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._open: int | None = None
        self._next = 0
        self._closing = False
        self._output_tokens = -1

    def see(self, message: Message, content: object) -> None:
        self._named_as_typed(message, content)
        kind = text_field(content, "type") or message.type
        if kind in HEARTBEAT_TYPES or kind == "error":
            return
        if kind == "message_start":
            if self._started:
                self._note("order", "a second message_start")
            self._started = True
        elif not self._started and kind in _ANTHROPIC_KINDS:
            self._note("order", f"a {kind} before message_start")
            self._started = True
        if kind == "content_block_start":
            self._begin(field(content, "index"))
        elif kind == "content_block_delta":
            index = field(content, "index")
            if index != self._open:
                self._note("order", f"a delta for block {_shown(as_text(index))}, which is not open")
        elif kind == "content_block_stop":
            index = field(content, "index")
            if index != self._open:
                self._note("order", f"a stop for block {_shown(as_text(index))}, which is not open")
            self._open = None
        elif kind in {"message_delta", "message_stop"}:
            self._end(kind, content)

    def _begin(self, index: object) -> None:
        if self._open is not None:
            self._note("order", f"block {_shown(as_text(index))} starts while block {self._open} is open")
        if self._closing:
            self._note("order", "a block starts after message_delta")
        if index != self._next:
            self._note("order", f"block {_shown(as_text(index))} starts, block {self._next} is next")
        self._open = index if isinstance(index, int) else None
        self._next = (index if isinstance(index, int) else self._next) + 1

    def _end(self, kind: str, content: object) -> None:
        if self._open is not None:
            self._note("order", f"a {kind} while block {self._open} is open")
            self._open = None
        if kind == "message_stop" and not self._closing:
            self._note("order", "a message_stop without a stop_reason before it")
        self._closing = self._closing or bool(text_field(content, "delta", "stop_reason"))
        output = field(content, "usage", "output_tokens")
        if isinstance(output, int):
            if output < self._output_tokens:
                self._note("order", f"the output_tokens fall from {self._output_tokens} to {output}")
            self._output_tokens = output


_ANTHROPIC_KINDS: Final = frozenset(
    {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)


class _GeminiAudit(_Audit):
    """The model speaks; usage only grows."""

    def __init__(self) -> None:
        super().__init__()
        self._total = 0

    def see(self, message: Message, content: object) -> None:
        del message
        for candidate in items(field(content, "candidates")):
            role = text_field(candidate, "content", "role")
            if role not in {"", "model"}:
                self._note("order", f"the role is {_shown(role)}, not model")
        total = field(content, "usageMetadata", "totalTokenCount")
        if isinstance(total, int):
            if total < self._total:
                self._note("order", f"the totalTokenCount falls from {self._total} to {total}")
            self._total = total


class _McpAudit(_Audit):
    """JSON-RPC 2.0; `endpoint` is the first event if it comes at all; each request has one response."""

    def __init__(self) -> None:
        super().__init__()
        self._events = 0
        self._answered: set[str] = set()

    def see(self, message: Message, content: object) -> None:
        if message.type == ENDPOINT_TYPE:
            if self._events:
                self._note("order", "the endpoint event is not the first")
            self._events += 1
            return
        self._events += bool(message.data)
        batch = content if isinstance(content, list) else [content]
        for each in batch:
            if not isinstance(each, dict):
                continue
            if each.get("jsonrpc") != "2.0":
                self._note("order", f'the field jsonrpc is {_shown(as_text(each.get("jsonrpc")))}, not "2.0"')
            if is_response(each):
                own = as_text(each["id"])
                if own in self._answered:
                    self._note("order", f"request {_shown(own)} is answered twice")
                self._answered.add(own)


def _audit_of(dialect: Dialect) -> _Audit:
    for kind, audit in _AUDITS.items():
        if isinstance(dialect, kind):
            return audit()
    return _Audit()


_AUDITS: Final[dict[type, type[_Audit]]] = {
    Chat: _ChatAudit,
    Responses: _ResponsesAudit,
    Anthropic: _AnthropicAudit,
    Gemini: _GeminiAudit,
    Mcp: _McpAudit,
}


def _shown(text: str) -> str:
    return printable(text, CODE_CHARS) or '""'
