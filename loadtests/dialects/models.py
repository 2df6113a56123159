"""What the streams of model services mean: OpenAI (chat completions, Responses), Anthropic, Gemini (sse.md 6).

Rules of all four:
- Names of events and fields that are not known are ignored, never errors; broken JSON is no token, and `malformed`.
- A token is an event with something to read: text, reasoning, a refusal, the arguments of a call, audio, an image. A
  role, usage, padding and the frames around the content are not: else the TTFT would be that of the first frame.
- A reason to end counts when it has been given for every choice; the reason says whether a length limit (`limited`) or a
  content filter (`declined`) ended the answer.
- Sequence numbers exist in OpenAI Responses alone, from one event to the next, heartbeats included.

Where the answer is over: OpenAI chat says `[DONE]` (services that leave it out end by closing after the last reason),
Responses has three events for it, Anthropic one, Gemini none: it closes after a reason.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from sseproof.loadtests.dialects.content import (
    DECODE_ERRORS,
    as_number,
    as_text,
    decode_json,
    field,
    items,
    text_field,
)
from sseproof.loadtests.dialects.meaning import HEARTBEAT_TYPES, TERMINAL_DATA, Meaning
from sseproof.loadtests.sse import Message

OPENAI_LIMITED: Final = frozenset({"length"})
OPENAI_DECLINED: Final = frozenset({"content_filter"})
ANTHROPIC_LIMITED: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
ANTHROPIC_DECLINED: Final = frozenset({"refusal"})
GEMINI_LIMITED: Final = frozenset({"MAX_TOKENS"})
GEMINI_DECLINED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)
GEMINI_PARTS: Final = ("functionCall", "inlineData", "executableCode", "codeExecutionResult")
"""Parts of a candidate that are no text."""
MOST_CHOICES: Final = 128
"""As many as OpenAI lets one ask for; what a stream has beyond is not remembered."""

_NO_REASON: Final = "FINISH_REASON_UNSPECIFIED"


class ModelReader:
    """What the readers of model services share."""

    __slots__ = ("declined", "limited", "may_end")
    reads_runs: ClassVar[bool] = False
    ends_with_done: ClassVar[bool] = False
    """`[DONE]` ends an answer; elsewhere it is what some proxies append, and says nothing."""

    def __init__(self) -> None:
        self.limited = False
        self.declined = False
        self.may_end = False

    def read(self, message: Message) -> Meaning:
        """The meaning of one event; never raises."""
        if message.type in HEARTBEAT_TYPES:
            return self._heartbeat(message)
        data = message.data
        if not data:
            return Meaning("other")
        if data == TERMINAL_DATA:
            return Meaning("terminal" if self.ends_with_done else "other")
        try:
            content = decode_json(data)
        except DECODE_ERRORS:
            error = message.type == "error"
            return Meaning("error") if error else Meaning("other", malformed=True)
        return self._understand(message.type, content)

    def read_run(self, blocks: Sequence[tuple[str, str, str, str]]) -> None:
        """None: each event is read by itself."""
        del blocks

    def _heartbeat(self, message: Message) -> Meaning:
        del message
        return Meaning("heartbeat")

    def _understand(self, type_: str, content: object) -> Meaning:
        """An event with JSON in it."""
        raise NotImplementedError


class _Choices:
    """Which of an answer's choices have begun, and why each of them ended."""

    __slots__ = ("_open", "reasons")

    def __init__(self) -> None:
        self._open: set[object] = set()
        self.reasons: dict[object, str] = {}

    def seen(self, choice: object, reason: str) -> bool:
        """One more piece of a choice; an empty reason says that it goes on. Whether that is news."""
        index = field(choice, "index")
        index = index if isinstance(index, int) else 0
        known = index in self._open or index in self.reasons
        if known and not reason:
            return False
        if not known and len(self.reasons) + len(self._open) >= MOST_CHOICES:
            return False
        if reason:
            self._open.discard(index)
            self.reasons[index] = reason
        else:
            self._open.add(index)
        return True

    @property
    def over(self) -> bool:
        """Whether every choice that has begun has ended."""
        return bool(self.reasons) and not self._open

    def any_of(self, reasons: frozenset[str]) -> bool:
        """Whether one of these ended a choice."""
        return not reasons.isdisjoint(self.reasons.values())


class ChatReader(ModelReader):
    """One answer of OpenAI chat completions, or of a service that speaks like them."""

    __slots__ = ("_choices",)
    ends_with_done: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._choices = _Choices()

    def _understand(self, type_: str, content: object) -> Meaning:
        error = field(content, "error")
        # vLLM puts the error itself in the place of the chunk.
        if error or text_field(content, "object") == "error" or type_ == "error":
            return Meaning("error", error_code(error or content))
        said = ""
        news = False
        choices = self._choices
        for choice in items(field(content, "choices")):
            reason = text_field(choice, "finish_reason")
            if reason == "error":
                return Meaning("error", error_code(field(choice, "error")) or reason)
            news |= choices.seen(choice, reason)
            said += chat_text(choice)
        if news:
            self.may_end = choices.over
            self.limited = choices.any_of(OPENAI_LIMITED)
            self.declined = choices.any_of(OPENAI_DECLINED)
        return Meaning("token", said) if said else Meaning("other")


class ResponsesReader(ModelReader):
    """One answer of OpenAI Responses."""

    __slots__ = ("_numbered",)

    def __init__(self, *, numbered: bool = True) -> None:
        """`numbered` = False leaves the sequence numbers alone."""
        super().__init__()
        self._numbered = numbered

    def _heartbeat(self, message: Message) -> Meaning:
        # Numbered like any event: without it the next one would seem to follow a loss.
        try:
            content = decode_json(message.data) if message.data else None
        except DECODE_ERRORS:
            content = None
        return Meaning("heartbeat", "", self._number(content))

    def _number(self, content: object) -> int | None:
        return as_number(field(content, "sequence_number")) if self._numbered else None

    def _understand(self, type_: str, content: object) -> Meaning:
        kind = text_field(content, "type") or type_
        number = self._number(content)
        if kind.endswith(".delta"):
            text = as_text(field(content, "delta"))
            return Meaning("token", text, number) if text else Meaning("other", "", number)
        if kind == "response.completed":
            return Meaning("terminal", "", number)
        if kind == "response.incomplete":
            reason = text_field(content, "response", "incomplete_details", "reason")
            self.declined = reason in OPENAI_DECLINED
            self.limited = not self.declined
            return Meaning("terminal", "", number)
        if kind == "response.failed":
            return Meaning("error", error_code(field(content, "response", "error")), number)
        if kind == "error":
            return Meaning("error", error_code(field(content, "error") or content), number)
        if kind in HEARTBEAT_TYPES:
            return Meaning("heartbeat", "", number)
        return Meaning("other", "", number)


class AnthropicReader(ModelReader):
    """One answer of Anthropic messages."""

    __slots__ = ()

    def _understand(self, type_: str, content: object) -> Meaning:
        kind = text_field(content, "type") or type_
        if kind == "content_block_delta":
            text = anthropic_text(field(content, "delta"))
            return Meaning("token", text) if text else Meaning("other")
        if kind == "message_delta":
            reason = text_field(content, "delta", "stop_reason")
            self.limited = self.limited or reason in ANTHROPIC_LIMITED
            self.declined = self.declined or reason in ANTHROPIC_DECLINED
            return Meaning("other")
        if kind == "message_stop":
            return Meaning("terminal")
        if kind == "error":
            return Meaning("error", error_code(field(content, "error")))
        if kind in HEARTBEAT_TYPES:
            return Meaning("heartbeat")
        return Meaning("other")


class GeminiReader(ModelReader):
    """One answer of Gemini's streamGenerateContent with alt=sse."""

    __slots__ = ("_blocked", "_choices")

    def __init__(self) -> None:
        super().__init__()
        self._choices = _Choices()
        self._blocked = False

    def _understand(self, type_: str, content: object) -> Meaning:
        error = field(content, "error")
        if error or type_ == "error":
            return Meaning("error", error_code(error or content))
        said = ""
        news = False
        choices = self._choices
        for candidate in items(field(content, "candidates")):
            reason = text_field(candidate, "finishReason")
            news |= choices.seen(candidate, "" if reason == _NO_REASON else reason)
            said += gemini_text(candidate)
        if text_field(content, "promptFeedback", "blockReason"):
            self._blocked = news = True
        if news:
            self.may_end = self._blocked or choices.over
            # Some models give a reason with every chunk: the last one is the answer's.
            self.limited = choices.any_of(GEMINI_LIMITED)
            self.declined = self._blocked or choices.any_of(GEMINI_DECLINED)
        return Meaning("token", said) if said else Meaning("other")


class _ModelService:
    resumable: Final = True
    resumes_by_get: Final = False
    accept: Final = None


class Chat(_ModelService):
    """OpenAI chat completions."""

    def reader(self) -> ChatReader:
        """For a stream that begins."""
        return ChatReader()


class Responses(_ModelService):
    """OpenAI Responses."""

    def __init__(self, *, numbered: bool = True) -> None:
        """`numbered` = False leaves the sequence numbers alone, for services that count wrongly."""
        self._numbered = numbered

    def reader(self) -> ResponsesReader:
        """For a stream that begins."""
        return ResponsesReader(numbered=self._numbered)


class Anthropic(_ModelService):
    """Anthropic messages."""

    def reader(self) -> AnthropicReader:
        """For a stream that begins."""
        return AnthropicReader()


class Gemini(_ModelService):
    """Gemini's streamGenerateContent with alt=sse."""

    def reader(self) -> GeminiReader:
        """For a stream that begins."""
        return GeminiReader()


def chat_text(choice: object) -> str:
    """What one choice of a chat completion chunk adds for the user to read; `text` is that of the older completions."""
    delta = field(choice, "delta")
    content = field(delta, "content")
    if isinstance(content, str) and isinstance(delta, dict) and len(delta) == 1:
        return content  # nearly every chunk; what follows gives the same
    parts = [
        as_content(content),
        text_field(delta, "refusal"),
        text_field(delta, "reasoning_content") or as_content(field(delta, "reasoning")),
        text_field(delta, "audio", "transcript") or text_field(delta, "audio", "data"),
        text_field(delta, "function_call", "arguments"),
        *(text_field(call, "function", "arguments") for call in items(field(delta, "tool_calls"))),
        text_field(choice, "text"),
    ]
    return "".join(parts)


def as_content(value: object) -> str:
    """A text, or a list of parts that hold texts (how some services write content)."""
    if isinstance(value, str):
        return value
    return "".join(text_field(part, "text") for part in items(value))


def anthropic_text(delta: object) -> str:
    """What a delta of a content block adds."""
    for name in ("text", "partial_json", "thinking", "signature"):
        text = text_field(delta, name)
        if text:
            return text
    return as_text(field(delta, "citation"))


def gemini_text(candidate: object) -> str:
    """What a candidate adds: text (thoughts included), the call of a function, data."""
    said = ""
    for part in items(field(candidate, "content", "parts")):
        text = field(part, "text")
        said += (
            text if isinstance(text, str) else "".join(as_text(field(part, name)) for name in GEMINI_PARTS)
        )
    return said


def error_code(error: object) -> str:
    """The shortest name that a service gives its error, as text; empty if it has none."""
    for name in ("status", "code", "type"):
        value = field(error, name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "error":
            return str(value)
    return error if isinstance(error, str) else ""
