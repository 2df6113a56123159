"""MCP over HTTP: JSON-RPC messages as events, by protocol version (sse.md 6).

- 2025-03-26 to 2025-11-25 (Streamable HTTP): a POST is answered by an event stream that ends with the response to its
  request. Until then there may be notifications, and requests of the server's own. An event with an id and empty data
  primes the client for resuming, which is always done by GET with Last-Event-ID. 2025-03-26 alone has batches.
- 2026-07-28: the same without resuming.
- 2024-11-05: GET opens an endless stream, whose first event, `endpoint`, says where to post. Nothing ends it.

The response is the answer itself, so it is an end with something to read. A JSON-RPC error, and a result that a tool calls
an error (`isError`), are errors. A notification that says something (a log message, the words of a progress) is a token.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from sseproof.loadtests.dialects.content import DECODE_ERRORS, as_text, decode_json, field, items, text_field
from sseproof.loadtests.dialects.meaning import Meaning
from sseproof.loadtests.sse import Message

ENDPOINT_VERSION: Final = "2024-11-05"
RESUMABLE_VERSIONS: Final = ("2025-03-26", "2025-06-18", "2025-11-25")
UNRESUMABLE_VERSION: Final = "2026-07-28"
VERSIONS: Final = (ENDPOINT_VERSION, *RESUMABLE_VERSIONS, UNRESUMABLE_VERSION)
ENDPOINT_TYPE: Final = "endpoint"


class McpReader:
    """One stream of messages from a server."""

    __slots__ = ("_waiting", "limited", "may_end")
    reads_runs: ClassVar[bool] = False
    declined: ClassVar[bool] = False

    def __init__(self, requests: int = 1) -> None:
        """`requests` is how many responses end the stream."""
        self._waiting = requests
        self.limited = False
        self.may_end = False

    def read(self, message: Message) -> Meaning:
        """The meaning of one event; never raises."""
        if message.type == ENDPOINT_TYPE:
            self.may_end = (
                True  # the endless stream of 2024-11-05: whoever closes it has not cut an answer short
            )
            self._waiting = 0
            return Meaning("other")
        if not message.data:
            return Meaning("other")
        try:
            content = decode_json(message.data)
        except DECODE_ERRORS:
            return Meaning("other", malformed=True)
        batch = content if isinstance(content, list) else [content]
        said = []
        for each in batch:
            if field(each, "error") is not None:
                return Meaning("error", as_text(field(each, "error", "code")))
            if field(each, "result", "isError") is True:
                return Meaning("error", "isError")
            if is_response(each):
                self._waiting -= 1
                said.append(result_text(field(each, "result")))
            else:
                said.append(notification_text(each))
        text = "".join(said)
        if self._waiting == 0 and any(map(is_response, batch)):
            return Meaning("terminal", text)
        return Meaning("token", text) if text else Meaning("other")

    def read_run(self, blocks: Sequence[tuple[str, str, str, str]]) -> None:
        """None: each event is read by itself."""
        del blocks


class Mcp:
    """MCP over HTTP, whichever version the stream itself shows."""

    accept: Final = "application/json, text/event-stream"

    def __init__(self, version: str | None = None, body: str | None = None) -> None:
        """The version that the request names in MCP-Protocol-Version, and the request's body; None = it has none."""
        self.resumable = version != UNRESUMABLE_VERSION
        self.resumes_by_get = self.resumable and version != ENDPOINT_VERSION
        self._requests = requests_in(body)

    def reader(self) -> McpReader:
        """For a stream that begins."""
        return McpReader(self._requests)


def requests_in(body: str | None) -> int:
    """How many responses a body asks for: one, but for a batch."""
    try:
        content = decode_json(body or "")
    except DECODE_ERRORS:
        return 1
    asked = sum("method" in each and "id" in each for each in items(content) if isinstance(each, dict))
    return max(asked, 1)


def is_response(content: object) -> bool:
    """Whether a JSON-RPC message answers a request (and is none itself)."""
    return (
        isinstance(content, dict)
        and "id" in content
        and "method" not in content
        and ("result" in content or "error" in content)
    )


def result_text(result: object) -> str:
    """What a result gives to read: a tool's texts, else all of it."""
    parts = [text_field(each, "text") for each in items(field(result, "content"))]
    return "".join(parts) or ("" if result is None else msgspec.json.encode(result).decode())


def notification_text(content: object) -> str:
    """What a notification says; empty for those that are no news for the user."""
    method = text_field(content, "method")
    if method == "notifications/progress":
        return text_field(content, "params", "message")
    if method == "notifications/message":
        return as_text(field(content, "params", "data"))
    return ""
