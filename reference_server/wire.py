"""The reference server's events as bytes (reference: design.md, claims.md "Systems").

Rules:
- The id of event n is `key-n`; the legacy profile has no ids (key None).
- Data is one line of JSON, so no text can end a line, an event or the frame; characters stay as they are in UTF-8
  (no ASCII escapes), since whole characters on the wire are what is tested.
- `retry:` comes with hello; `ping` repeats the last id, so that it moves nobody's position; `error` has no id.
"""

from collections.abc import Mapping

import msgspec

from sseproof.reference_server.encoder import encode

SERVICE = "sse-streaming"

_json = msgspec.json.Encoder()


def hello_frame(
    key: str | None, stream: str, retry_ms: int | None, details: Mapping[str, str | int] | None = None
) -> bytes:
    """Event 1."""
    return _frame("hello", {"service": SERVICE, "stream": stream, **(details or {})}, key, 1, retry_ms)


def delta_frame(key: str | None, number: int, text: str, sent_at_ns: int | None = None) -> bytes:
    """A piece of the answer, with the send time inside where it was asked for.

    What `encode` would make, at a tenth of its price: nearly every event is a delta, its JSON has no line end, and a key
    of letters and digits needs no look.
    """
    if key is not None and not key.isalnum():
        data = {"text": text} if sent_at_ns is None else {"text": text, "sent_at": sent_at_ns}
        return _frame("delta", data, key, number)
    literal = _json.encode(text)
    end = b"}\n\n" if sent_at_ns is None else b',"sent_at":%d}\n\n' % sent_at_ns
    if key is None:
        return b'event: delta\ndata: {"text":%b%b' % (literal, end)
    return b'id: %b-%d\nevent: delta\ndata: {"text":%b%b' % (key.encode(), number, literal, end)


def progress_frame(key: str | None, number: int, percent: int, step: str) -> bytes:
    """How far the work before the first delta has come."""
    return _frame("progress", {"percent": percent, "step": step}, key, number)


def done_frame(key: str | None, number: int, sha256: str, finish_reason: str | None = None) -> bytes:
    """The last event: how many there were, the digest of the whole text, and why a model stopped where it says so."""
    reason = {} if finish_reason is None else {"finish_reason": finish_reason}
    return _frame("done", {"events": number, "sha256": sha256, **reason}, key, number)


def ping_frame(key: str | None, last_number: int) -> bytes:
    """A heartbeat; its id is that of the last event."""
    return _frame("ping", {}, key, last_number)


def error_frame(message: str, **details: str) -> bytes:
    """An in-band error; half a surrogate pair, which has no UTF-8, is sent as a question mark."""
    said = {"message": message, **details}
    return _frame("error", {name: _with_utf8(text) for name, text in said.items()}, None, 0)


def retry_frame(retry_ms: int) -> bytes:
    """The reconnection time alone: no event."""
    return encode(data=None, retry_ms=retry_ms)


def text_literal(text: str) -> bytes:
    """The text as it stands in a delta's JSON."""
    return _json.encode(text)


def _with_utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _frame(kind: str, data: object, key: str | None, number: int, retry_ms: int | None = None) -> bytes:
    event_id = None if key is None else f"{key}-{number}"
    return encode(kind, _json.encode(data).decode(), id=event_id, retry_ms=retry_ms)
