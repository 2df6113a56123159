"""A whole stream against its dialect's rules: the recorded streams keep them, and each rule is broken once."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from sseproof.loadtests.dialects import NAMES, PLAIN, Plain, dialect_of
from sseproof.loadtests.dialects.review import REMARKS_KEPT, Review, review
from sseproof.loadtests.settings import Target
from sseproof.loadtests.sse import Message, Parser

STREAMS: Final[list[dict[str, Any]]] = tomllib.loads(
    (Path(__file__).parents[1] / "data" / "dialects" / "streams.toml").read_text("utf-8")
)["stream"]


def named(name: str) -> str:
    return next(each["body"] for each in STREAMS if each["name"].startswith(name))


def reviewed(dialect: str, body: str) -> Review:
    messages = [item for item in Parser().receive(body.encode()) if isinstance(item, Message)]
    return review(messages, dialect_of(Target(url="", dialect=dialect)))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream["name"])
def test_the_recorded_streams_keep_the_rules(stream: dict[str, Any]) -> None:
    found = reviewed(stream["dialect"], stream["body"])
    faulty = {"responses: a number is missing": ["sequence"]}
    usage = {"chat: text, usage behind the last choice": ["usage"]}
    expected = (faulty | usage).get(stream["name"], [])
    assert [remark.kind for remark in found.remarks] == expected
    heard = [word for word in stream["events"] if word.startswith(("token", "terminal:"))]
    assert (found.tokens, found.noise) == (len(heard), 0)
    assert bool(found.errors) == (stream["outcome"] == "error-inband")
    assert found.limited == (stream["outcome"] == "complete-limited")
    assert found.declined == (stream["outcome"] == "declined")


def drop(what: str) -> Callable[[str], str]:
    """Without the first event that has this in it."""

    def changed(body: str) -> str:
        blocks = body.split("\n\n")
        at = next(number for number, block in enumerate(blocks) if what in block)
        return "\n\n".join(blocks[:at] + blocks[at + 1 :])

    return changed


def put(before: str, after: str, count: int = 1) -> Callable[[str], str]:
    def changed(body: str) -> str:
        assert before in body
        return body.replace(before, after, count)

    return changed


def repeat(what: str) -> Callable[[str], str]:
    def changed(body: str) -> str:
        block = next(block for block in body.split("\n\n") if what in block)
        return body.replace(block, f"{block}\n\n{block}", 1)

    return changed


def add(block: str) -> Callable[[str], str]:
    return lambda body: f"{block}\n\n{body}"


BROKEN: Final = [
    ("openai", "chat: text", put('"id":"c-1"', '"id":"c-9"'), "order", "id changes from c-9 to c-1"),
    (
        "openai",
        "chat: text",
        put('"delta":{},"finish_reason":"stop"}]}', '"delta":{},"finish_reason":"stop"}]}\n\ndata: {"choices":[{"index":0,"delta":{"content":"more"}}]}'),
        "order",
        "choice 0 goes on after its finish_reason",
    ),
    (
        "openai",
        "chat: two choices",
        lambda body: body + "data: [DONE]\n\n",
        "order",
        "choice 1 never got a finish_reason",
    ),
    ("openai-responses", "responses: text", drop('"sequence_number":4'), "sequence", "leaves a gap: 5 follows 3"),
    ("openai-responses", "responses: text", repeat('"sequence_number":3'), "sequence", "repeats or goes back: 3 follows 3"),
    ("openai-responses", "responses: text", drop("response.created"), None, ""),
    (
        "openai-responses",
        "responses: text",
        put("response.created", "response.in_progress", 2),
        "order",
        "begins with response.in_progress",
    ),
    ("openai-responses", "responses: text", put('"text":"Während"', '"text":"Wahrend"'), "sum", "7 characters of deltas, 7 in the whole, the first difference at character 1"),
    ("openai-responses", "responses: text", put('"delta":"rend"', '"delta":""'), "sum", "3 characters of deltas, 7"),
    ("openai-responses", "responses: text", put("event: response.output_text.done", "event: response.output_text.end"), "order", "carries the type response.output_text.done"),
    (
        "openai-responses",
        "responses: text",
        put('"text":"Während"}', '"text":"Während"}\n\ndata: {"type":"response.output_text.delta","item_id":"m-1","output_index":0,"content_index":0,"delta":"x"}'),
        "order",
        "after the same part was done",
    ),
    ("anthropic", "messages: thinking", drop("message_start"), "order", "content_block_start before message_start"),
    ("anthropic", "messages: thinking", repeat("message_start"), "order", "a second message_start"),
    ("anthropic", "messages: thinking", drop('content_block_start","index":1'), "order", "a delta for block 1, which is not open"),
    ("anthropic", "messages: thinking", drop('content_block_stop","index":0'), "order", "block 1 starts while block 0 is open"),
    ("anthropic", "messages: thinking", drop('content_block_stop","index":1'), "order", "message_delta while block 1 is open"),
    ("anthropic", "messages: thinking", repeat('content_block_stop","index":1'), "order", "a stop for block 1, which is not open"),
    ("anthropic", "messages: thinking", put('content_block_start","index":1', 'content_block_start","index":3'), "order", "block 3 starts, block 1 is next"),
    ("anthropic", "messages: thinking", drop('"message_delta"'), "order", "message_stop without a stop_reason"),
    (
        "anthropic",
        "messages: thinking",
        put('"usage":{"output_tokens":9}}', '"usage":{"output_tokens":9}}\n\nevent: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":3}}'),
        "order",
        "output_tokens fall from 9 to 3",
    ),
    (
        "anthropic",
        "messages: thinking",
        put("event: message_stop", 'event: content_block_start\ndata: {"type":"content_block_start","index":2}\n\nevent: content_block_stop\ndata: {"type":"content_block_stop","index":2}\n\nevent: message_stop'),
        "order",
        "a block starts after message_delta",
    ),
    ("anthropic", "messages: thinking", put("event: ping", "event: message_stop"), "order", "event message_stop carries the type ping"),
    ("gemini", "gemini: a thought", put('"role":"model"', '"role":"user"'), "order", "the role is user, not model"),
    ("gemini", "gemini: a thought", put('"totalTokenCount":7', '"totalTokenCount":5'), "order", "totalTokenCount falls from 6 to 5"),
    ("mcp", "mcp: primed", put('"jsonrpc":"2.0"', '"jsonrpc":"1.0"'), "order", 'jsonrpc is 1.0, not "2.0"'),
    ("mcp", "mcp 2024-11-05", repeat('"id":1'), "order", "request 1 is answered twice"),
    ("mcp", "mcp 2024-11-05", repeat("event: endpoint"), "order", "the endpoint event is not the first"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "name", "change", "kind", "words"), BROKEN, ids=[f"{row[0]}-{row[4]}" for row in BROKEN]
)
def test_each_rule_sees_what_it_is_for(
    dialect: str, name: str, change: Callable[[str], str], kind: str | None, words: str
) -> None:
    body = change(named(name))
    found = [remark for remark in reviewed(dialect, body).remarks if remark.kind != "usage"]
    if kind is None:  # a stream that is taken up in the middle has no beginning
        assert found == []
        return
    assert kind in {remark.kind for remark in found}
    assert any(words in remark.told for remark in found), [remark.told for remark in found]
    assert all(0 < remark.end <= len(body.encode()) for remark in found)


@pytest.mark.parametrize(
    ("dialect", "body", "ending"),
    [
        ("openai", named("chat: text"), "marker"),
        ("openai", named("chat: text").replace("data: [DONE]\n\n", ""), "implied"),
        ("openai", 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n', "bare"),
        ("openai", 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', "missing"),
        ("openai", named("chat: an error"), "error"),
        ("openai-responses", named("responses: text"), "marker"),
        ("openai-responses", drop("response.completed")(named("responses: text")), "missing"),
        ("anthropic", named("messages: thinking"), "marker"),
        ("anthropic", drop("message_stop")(named("messages: thinking")), "missing"),
        ("gemini", named("gemini: a thought"), "marker"),
        ("gemini", drop("STOP")(named("gemini: a thought")), "missing"),
        ("mcp", named("mcp: primed"), "marker"),
        ("mcp", named("mcp 2024-11-05"), "endless"),
        ("mcp", named("mcp: primed").rpartition("id: s1-3")[0], "missing"),
    ],
)
def test_the_ending(dialect: str, body: str, ending: str) -> None:
    found = reviewed(dialect, body)
    assert found.ending == ending
    assert found.marker
    assert (found.terminal is not None) == (ending in {"marker", "bare"} and dialect != "gemini")


def test_the_ending_of_a_plain_stream() -> None:
    messages = [Message("message", "a", "", 9, False), Message("done", "", "", 20, False)]
    assert review(messages, Plain("event:done")).ending == "marker"
    assert review(messages[:1], Plain("event:done")).ending == "missing"
    assert review(messages, Plain(), terminal_known=False).ending == "unknown"
    assert review([Message("error", "x", "", 9, False)], Plain(), terminal_known=False).ending == "error"


@pytest.mark.parametrize(
    ("dialect", "block", "noise", "heartbeats"),
    [
        ("openai", 'data: {"type":"ping"}', 1, 0),
        ("openai", "data: ping", 1, 0),
        ("openai", "data:", 1, 0),
        ("openai", "data: {}", 1, 0),
        ("openai", "event: ping\ndata: {}", 0, 1),
        ("openai", ": ping", 0, 0),
        ("plain", 'data: {"type":"ping"}', 1, 0),
        ("plain", "data: {}", 1, 0),
        ("plain", "data: keep-alive", 1, 0),
        ("plain", "data: pingpong", 0, 0),
        ("plain", "event: ping\ndata: 1", 0, 1),
        ("plain", "event: tick\ndata: {}", 0, 0),
        ("anthropic", 'event: ping\ndata: {"type":"ping"}', 0, 1),
        ("mcp", "id: 1\ndata:", 0, 0),
    ],
)
def test_noise_is_told_from_heartbeats(dialect: str, block: str, noise: int, heartbeats: int) -> None:
    body = named("mcp: a result") if dialect == "mcp" else ""
    found = reviewed(dialect, add(block)(body))
    assert (found.noise, found.heartbeats) == (noise, heartbeats)


def test_usage_beside_a_choice_is_no_usage_frame() -> None:
    body = named("chat: a length limit").replace('"length"}]', '"length"}],"usage":{"total_tokens":3}')
    assert reviewed("openai", body).remarks == []


def test_errors_have_their_code_and_place() -> None:
    body = named("messages: overloaded")
    (error,) = reviewed("anthropic", body).errors
    assert (error.code, error.end) == ("overloaded_error", len(body.encode()))


def test_the_first_token_and_what_follows_the_end() -> None:
    found = reviewed("anthropic", named("messages: thinking") + named("messages: thinking"))
    assert (found.first_token, found.tokens, found.terminal) == (3, 3, 10)
    assert found.remarks == []


@pytest.mark.parametrize("name", sorted(set(NAMES) - {PLAIN}))
def test_remarks_are_bounded(name: str) -> None:
    block = {
        "openai": 'data: {"id":"%d"}',
        "openai-responses": 'data: {"type":"x","sequence_number":%d0}',
        "anthropic": 'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}',
        "gemini": 'data: {"candidates":[{"content":{"role":"%d"}}]}',
        "mcp": 'data: {"jsonrpc":"%d"}',
    }[name]
    found = reviewed(name, "\n\n".join(block % number for number in range(1, 302)) + "\n\n")
    assert len(found.remarks) == REMARKS_KEPT
    assert found.remarks_left_out >= 250


HOSTILE: Final[Sequence[str]] = (
    "null", "[]", "[1]", '{"choices":[null,1,{"index":{}}]}', '{"candidates":[{"content":[]}]}', '{"jsonrpc":2,"id":{}}',
    '{"type":"content_block_start","index":[]}', '{"type":"content_block_stop"}', '{"type":"response.refusal.done","refusal":1}',
    '{"type":"message_delta","usage":[]}', '{"usageMetadata":{"totalTokenCount":"9"}}', '{"type":"response.x.delta","delta":{"a":[1]}}',
    '{"jsonrpc":"2.0","id":{"a":1},"result":{}}', '{"choices":[{"index":1e99,"delta":{"content":"a"}}]}', "{" * 2000,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("type_", ["message", "error", "endpoint", "content_block_start"])
def test_nothing_that_a_target_sends_is_an_exception(name: str, type_: str) -> None:
    messages = [Message(type_, data, "", 1, False) for data in HOSTILE * 2]
    found = review(messages, dialect_of(Target(url="", dialect=name)))
    assert all(remark.told.isprintable() for remark in found.remarks)
