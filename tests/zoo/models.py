"""Streams of model services for the zoo, whole and right; animals change one thing of them."""

import json


def _data(content: object) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _named(content: dict[str, object]) -> bytes:
    return f"event: {content['type']}\n".encode() + _data(content)


def _chunk(delta: dict[str, object], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _data(
        {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "zoo", "choices": [choice]}
    )


def chat(words: int = 24) -> list[bytes]:
    """OpenAI chat completions."""
    return [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": f"wörd {number} "}) for number in range(words)),
        _chunk({}, "stop"),
        b"data: [DONE]\n\n",
    ]


def responses(words: int = 24) -> list[bytes]:
    """OpenAI Responses: the text is `Hello there` and numbers."""
    parts = ["Hello there ", *(f"{number} " for number in range(words))]
    place = {"item_id": "m-1", "output_index": 0, "content_index": 0}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": {"id": "r-1", "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m-1", "type": "message"}},
        *({"type": "response.output_text.delta", **place, "delta": part} for part in parts),
        {"type": "response.output_text.done", **place, "text": "".join(parts)},
        {"type": "response.completed", "response": {"id": "r-1", "status": "completed"}},
    ]
    return [
        _named({"type": event.pop("type"), "sequence_number": number, **event})
        for number, event in enumerate(events)
    ]


def anthropic(words: int = 24) -> list[bytes]:
    """Anthropic messages, with a ping."""
    return [
        _named(
            {
                "type": "message_start",
                "message": {"id": "msg-1", "type": "message", "role": "assistant", "content": []},
            }
        ),
        _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        _named({"type": "ping"}),
        *(
            _named(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": f"wörd {number} "},
                }
            )
            for number in range(words)
        ),
        _named({"type": "content_block_stop", "index": 0}),
        _named(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": words}}
        ),
        _named({"type": "message_stop"}),
    ]


def gemini(words: int = 24) -> list[bytes]:
    """Gemini with alt=sse."""
    events = []
    for number in range(words):
        candidate: dict[str, object] = {
            "content": {"parts": [{"text": f"wörd {number} "}], "role": "model"},
            "index": 0,
        }
        if number == words - 1:
            candidate["finishReason"] = "STOP"
        events.append(_data({"candidates": [candidate], "usageMetadata": {"totalTokenCount": 4 + number}}))
    return events


def mcp(steps: int = 24) -> list[bytes]:
    """MCP over Streamable HTTP: primed, progress, the response."""

    def numbered(number: int, content: object) -> bytes:
        return f"id: s-{number}\nevent: message\n".encode() + _data(content)

    return [
        b"id: s-0\nretry: 1000\ndata:\n\n",
        *(
            numbered(
                number,
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/progress",
                    "params": {"progress": number, "message": "on"},
                },
            )
            for number in range(1, steps + 1)
        ),
        numbered(
            steps + 1, {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "done"}]}}
        ),
    ]
