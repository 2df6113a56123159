"""Which dialect a stream speaks, told from its content: never from its URL alone (sse.md 6).

- The first LOOKED_AT events that say something decide; heartbeats and MCP's priming events are passed over.
- A dialect is recognised by a shape that only it has; whatever is in doubt is plain, which does everything but know.
- Streams that carry other conventions over SSE are named (`service`) and read as plain.
- What looks like a stream and is no SSE (`lookalike`) is named, not parsed.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.loadtests.dialects.content import DECODE_ERRORS, decode_json, field, text_field
from sseproof.loadtests.dialects.mcp import ENDPOINT_TYPE, VERSIONS
from sseproof.loadtests.dialects.meaning import HEARTBEAT_TYPES
from sseproof.loadtests.sse import Message

LOOKED_AT: Final = 3
PLAIN: Final = "plain"


class Recognised(Struct, frozen=True):
    """What a stream was taken for."""

    dialect: str
    """A name of `dialects.NAMES`."""
    service: str
    """In words; empty for events that follow no convention known here."""
    endless: bool = False
    """Streams of this kind do not end by themselves."""


NOTHING: Final = Recognised(PLAIN, "")

_CHAT: Final = Recognised("openai", "OpenAI chat completions")
_RESPONSES: Final = Recognised("openai-responses", "OpenAI Responses")
_ANTHROPIC: Final = Recognised("anthropic", "Anthropic messages")
_GEMINI: Final = Recognised("gemini", "Gemini")
_MCP: Final = Recognised("mcp", "MCP Streamable HTTP")
_MCP_ENDPOINT: Final = Recognised("mcp", "MCP 2024-11-05 (HTTP with SSE)", endless=True)
_VERCEL: Final = Recognised(PLAIN, "a UI message stream of the Vercel AI SDK")
_A2A: Final = Recognised(PLAIN, "A2A (JSON-RPC)")
_AG_UI: Final = Recognised(PLAIN, "AG-UI")

_A2A_KINDS: Final = frozenset({"task", "message", "status-update", "artifact-update"})
_A2A_FIELDS: Final = ("statusUpdate", "artifactUpdate", "task")
_AG_UI_TYPES: Final = frozenset({"RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "STEP_STARTED"})
_VERCEL_TYPES: Final = frozenset({"start", "text-start", "text-delta"})
_ANTHROPIC_FRAMES: Final = frozenset({"content_block_start", "content_block_delta"})


def recognise(messages: Sequence[Message]) -> Recognised:
    """From the first events of a stream."""
    looked_at = 0
    for message in messages:
        if message.type in HEARTBEAT_TYPES or not message.data:
            continue
        found = _recognised(message)
        if found is not None:
            return found
        looked_at += 1
        if looked_at == LOOKED_AT:
            break
    return NOTHING


def _recognised(message: Message) -> Recognised | None:
    """What one event can only be; None if it may be anything."""
    if message.type == ENDPOINT_TYPE:
        return _MCP_ENDPOINT
    try:
        content = decode_json(message.data)
    except DECODE_ERRORS:
        return None
    if isinstance(content, list):
        content = content[0] if content else None
    if not isinstance(content, dict):
        return None
    named = message.type != "message"
    kind = text_field(content, "type")
    if content.get("jsonrpc") == "2.0":
        if _is_a2a(content.get("result")):
            return _A2A
        # The answer to `initialize` says which version was agreed on.
        version = text_field(content, "result", "protocolVersion")
        return Recognised("mcp", f"MCP {version}") if version in VERSIONS else _MCP
    if kind.startswith("response.") and message.type in {"message", kind}:
        return _RESPONSES
    if kind == message.type:
        if kind == "message_start" and isinstance(content.get("message"), dict):
            return _ANTHROPIC
        if kind in _ANTHROPIC_FRAMES and "index" in content:
            return _ANTHROPIC
        if kind == "error" and isinstance(content.get("error"), dict):
            return _ANTHROPIC
    if kind in _AG_UI_TYPES:
        return _AG_UI
    return None if named else _unnamed(content, kind)


def _unnamed(content: dict[str, object], kind: str) -> Recognised | None:
    """What an event without a type of its own can only be."""
    choices = content.get("choices")
    if isinstance(choices, list):
        chunk = text_field(content, "object") in {"chat.completion.chunk", "text_completion"}
        if chunk or any(isinstance(field(choice, "delta"), dict) for choice in choices):
            return _CHAT
    if isinstance(content.get("candidates"), list) or isinstance(content.get("usageMetadata"), dict):
        return _GEMINI
    if isinstance(content.get("promptFeedback"), dict):
        return _GEMINI
    error = content.get("error")
    if isinstance(error, dict) and "message" in error and not kind:
        if isinstance(error.get("status"), str) and isinstance(error.get("code"), int):
            return _GEMINI
        if "type" in error and "code" in error:
            return _CHAT
    return _VERCEL if kind in _VERCEL_TYPES and ("id" in content or "messageId" in content) else None


def _is_a2a(result: object) -> bool:
    """A2A answers with a row of JSON-RPC responses, each a piece of news about a task."""
    kind = text_field(result, "kind")
    known = any(isinstance(field(result, name), dict) for name in _A2A_FIELDS)
    return kind in _A2A_KINDS or known


class Lookalike(Struct, frozen=True):
    """What an answer that is no event stream is instead."""

    what: str
    """In a few words, with their article."""
    instead: str
    """What to do about it, as a sentence without its first capital and its end."""


def lookalike(content_type: str, body: str = "", upgrade: str = "") -> Lookalike | None:
    """What an answer that is no event stream probably is; None for the unknown.

    `body` is its beginning, line ends may have become spaces; `upgrade` the header of that name.
    """
    if "websocket" in upgrade.lower():
        return Lookalike("a WebSocket, another protocol", _SSE_ADDRESS)
    essence = content_type.partition(";")[0].strip().lower()
    for named, found in _TYPES.items():
        if essence == named or (named.endswith("*") and essence.startswith(named[:-1])):
            return found
    text = body.lstrip("\ufeff \t\r\n")
    if _AWS_HEADER in text[:_HEAD_CHARS]:
        return _AWS
    if text.startswith("["):
        return _GEMINI_ARRAY if '"candidates"' in text else _ARRAY
    if text.startswith("{"):
        return _LINES if _NEXT_OBJECT.search(text) else _DOCUMENT
    if text.startswith("<") or "html" in essence:
        return Lookalike(
            "a page, not a stream", "check the path, and whether a login page or an error page answers"
        )
    return None


_HEAD_CHARS: Final = 300
_AWS_HEADER: Final = ":message-type"
"""A header that each message of an AWS event stream begins with, behind its lengths."""
_NEXT_OBJECT: Final = re.compile(r"\}\s+\{")
_SSE_ADDRESS: Final = "ask for the service's SSE address"
_AWS: Final = Lookalike(
    "an AWS event stream (binary frames, as Bedrock sends), not SSE",
    "use an SDK that reads them, or a gateway that makes SSE of them",
)
_LINES: Final = Lookalike(
    "a line of JSON each (NDJSON), not SSE", "ask for SSE; Ollama has it under /v1/chat/completions"
)
_ARRAY: Final = Lookalike(
    "a JSON array in pieces, not SSE", "ask the service for SSE (Gemini: add alt=sse to the query)"
)
_GEMINI_ARRAY: Final = Lookalike(
    "a JSON array in pieces, not SSE, as Gemini sends it", "add alt=sse to the query"
)
_DOCUMENT: Final = Lookalike(
    "one JSON document, not a stream", 'ask for streaming: for chat services "stream": true in the body'
)
_GRPC: Final = Lookalike("gRPC, another protocol", _SSE_ADDRESS)
_SEQUENCE: Final = Lookalike("a JSON text sequence (RFC 7464), not SSE", "ask the service for SSE")
_MULTIPART: Final = Lookalike("a multipart stream, not SSE", "ask the service for SSE")
_TYPES: Final = {
    "application/vnd.amazon.eventstream": _AWS,
    **dict.fromkeys(
        (
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonlines",
            "application/json-lines",
            "application/stream+json",
        ),
        _LINES,
    ),
    "application/json-seq": _SEQUENCE,
    "application/grpc*": _GRPC,
    "multipart/x-mixed-replace": _MULTIPART,
}
