"""What a chat completions endpoint streams: bytes → pieces of text and the end of the answer (pure).

The stream is the one that OpenAI's API describes for `"stream": true` and that other services copy: an event stream of
JSON chunks whose first choice holds a delta, then `[DONE]`.

Rules:
- Lines are found in bytes and decoded afterwards, so that a character cut between two reads never looks broken. What is
  ill-formed all the same becomes U+FFFD, as in a browser: a reader sees where it was.
- Half a surrogate pair at the end of a delta waits for its other half: tokenisers cut there, and half of it has no UTF-8.
- An answer is whole once a chunk gave its finish reason, or `[DONE]` came. An end without either is a cut.
- Whatever else is wrong is a `CompletionError`: a code for programs, a sentence for people, and nothing of what the
  upstream said, which may hold keys, paths and stack traces.
"""

import json
import re
from typing import Final, Literal

import msgspec
from msgspec import Struct

ErrorCode = Literal[
    "no-upstream",
    "upstream-unreachable",
    "upstream-refused",
    "upstream-busy",
    "upstream-error",
    "upstream-cut",
    "upstream-timeout",
    "upstream-malformed",
    "reader-slow",
    "server-stopping",
    "internal",
]

EVENT_LIMIT_BYTES: Final = 1024 * 1024
"""Of one line, and of one event: a chunk of text has some hundred bytes."""
_REASON: Final = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
_DONE: Final = "[DONE]"
_FAILED: Final = "error"
"""A finish reason of routers in front of several models: the model failed on the way."""
_BUSY: Final = ("429", "rate_limit", "overloaded")


class CompletionError(Exception):
    """The upstream gave no answer, or not all of it."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code: ErrorCode = code
        self.sentence = sentence


class Piece(Struct, frozen=True):
    """Text of the answer; never empty."""

    text: str


class Finish(Struct, frozen=True):
    """The answer is whole."""

    reason: str | None
    """In the upstream's word: stop, length, content_filter ...; None when it said none, or no such word."""


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    error: object = None


class Completion:
    """Reads one answer. `receive` and `close` raise CompletionError."""

    def __init__(self) -> None:
        self.finished = False
        """A finish reason or `[DONE]` has come."""
        self.ended = False
        """`[DONE]` has come; nothing follows."""
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._type = b""
        self._half = ""
        self._after_cr = False

    def receive(self, data: bytes) -> list[Piece | Finish]:
        """What these bytes complete."""
        if self._after_cr and data.startswith(b"\n"):
            data, self._after_cr = data[1:], False
        if data:
            self._after_cr = data.endswith(b"\r")
        first, *rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._add(first)
        found: list[Piece | Finish] = []
        for part in rest:
            line, self._line = bytes(self._line), bytearray()
            self._take(line, found)
            self._add(part)
        return found

    def close(self) -> list[Piece | Finish]:
        """The upstream has ended its body. An event without its blank line still counts when it is whole JSON."""
        found = self.receive(b"\n\n")
        if not self.finished:
            raise CompletionError("upstream-cut", "The language model's answer ended in the middle.")
        return found

    def _add(self, part: bytes) -> None:
        self._line += part
        if len(self._line) + self._data_bytes > EVENT_LIMIT_BYTES:
            raise CompletionError(
                "upstream-malformed", "The language model sent an event that is too long to be one."
            )

    def _take(self, line: bytes, found: list[Piece | Finish]) -> None:
        if not line:
            data, kind = b"\n".join(self._data), self._type
            self._data, self._data_bytes, self._type = [], 0, b""
            if data and not self.ended:
                self._event(data.decode("utf-8", "replace"), kind, found)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"event":
            self._type = value

    def _event(self, data: str, kind: bytes, found: list[Piece | Finish]) -> None:
        if data.strip() == _DONE:
            self.ended = True
            self._finish(None, found)
            return
        chunk = _chunk(data)
        if chunk.error or kind == b"error":
            raise _said(chunk.error)
        for choice in chunk.choices or []:
            if choice.index != 0 or self.finished:
                continue
            if choice.delta is not None and choice.delta.content:
                self._piece(choice.delta.content, found)
            if choice.finish_reason == _FAILED:
                raise _said(None)
            if choice.finish_reason:
                self._finish(choice.finish_reason, found)

    def _piece(self, text: str, found: list[Piece | Finish]) -> None:
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = _paired(text.removesuffix(self._half) if self._half else text)
        if whole:
            found.append(Piece(whole))

    def _finish(self, reason: str | None, found: list[Piece | Finish]) -> None:
        if self.finished:
            return
        self.finished = True
        if self._half:
            found.append(Piece("\ufffd"))
        found.append(Finish(reason if reason and _REASON.fullmatch(reason) else None))


def _paired(text: str) -> str:
    """Surrogate halves joined to characters; what has no other half is U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _chunk(data: str) -> _Chunk:
    try:
        return msgspec.convert(json.loads(data), _Chunk)
    except (ValueError, RecursionError):
        raise CompletionError(
            "upstream-malformed", "The language model sent something that is no chunk of an answer."
        ) from None


def _said(error: object) -> CompletionError:
    """Of an error inside the stream only its kind is passed on."""
    known = [str(error.get(name)) for name in ("code", "type")] if isinstance(error, dict) else []
    if any(word in each for each in known for word in _BUSY):
        return CompletionError("upstream-busy", "The language model is busy; ask again later.")
    return CompletionError("upstream-error", "The language model reported an error and ended its answer.")


def status_error(status: int) -> CompletionError:
    """What an answer with this HTTP status means."""
    if status in {401, 403}:
        return CompletionError(
            "upstream-refused", f"The language model refused this server's credentials (HTTP {status})."
        )
    if status in {429, 503, 529}:
        return CompletionError(
            "upstream-busy", f"The language model is busy (HTTP {status}); ask again later."
        )
    return CompletionError("upstream-error", f"The language model answered HTTP {status} and no stream.")
