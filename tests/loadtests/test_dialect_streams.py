"""The dialects of model services: recorded streams, however they are cut, alone and through a load run's client."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, convert

from sseproof.loadtests.dialects import (
    NAMES,
    PLAIN,
    Meaning,
    Reader,
    describes_plain,
    dialect_of,
    lookalike,
    recognise,
)
from sseproof.loadtests.dialects.mcp import VERSIONS
from sseproof.loadtests.settings import Target
from sseproof.loadtests.sse import Comment, Message, Parser, Retry
from sseproof.rundir.rows import StreamRecord
from tests.loadtests.rawserver import CHUNKED_HEAD, LAST_CHUNK, Connection, chunk, serving
from tests.loadtests.streaming import Streams

TABLE: Final = Path(__file__).parents[1] / "data" / "dialects" / "streams.toml"


class Case(Struct, forbid_unknown_fields=True):
    name: str
    dialect: str
    body: str
    events: list[str]
    outcome: str
    without_end: str

    @property
    def data(self) -> bytes:
        return self.body.encode()

    @property
    def meanings(self) -> list[Meaning]:
        return [_meaning(word) for word in self.events]

    @property
    def text(self) -> str:
        """What the user has read when the stream is over."""
        said = []
        for meaning in self.meanings:
            if meaning.kind in {"token", "terminal"}:
                said.append(meaning.text)
            if meaning.kind in {"terminal", "error"}:
                break
        return "".join(said)


def _meaning(word: str) -> Meaning:
    head, _, text = word.partition(":")
    kind, _, number = head.partition("#")
    return convert(
        {"kind": kind, "text": text, "sequence": int(number) if number else None}, Meaning, strict=True
    )


CASES: Final = convert(tomllib.loads(TABLE.read_text("utf-8"))["stream"], list[Case])
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def reader_of(dialect: str) -> Reader:
    return dialect_of(Target(url="", dialect=dialect)).reader()


def messages_of(pieces: Iterator[bytes] | list[bytes]) -> list[Message]:
    parser = Parser()
    items = [item for piece in pieces for item in parser.receive(piece)] + parser.close()
    assert all(isinstance(item, Message | Comment | Retry) for item in items), (
        "the table's bytes are well-formed"
    )
    return [item for item in items if isinstance(item, Message)]


def read(dialect: str, pieces: list[bytes]) -> list[Meaning]:
    reader = reader_of(dialect)
    return [reader.read(message) for message in messages_of(pieces)]


def test_the_table_has_every_dialect_and_every_kind_of_end() -> None:
    assert {case.dialect for case in CASES} == set(NAMES) - {PLAIN}
    for dialect in set(NAMES) - {PLAIN, "mcp"}:
        outcomes = {case.outcome for case in CASES if case.dialect == dialect}
        assert outcomes >= {"complete", "complete-limited", "declined", "error-inband"}, dialect
        assert "truncated" in {case.without_end for case in CASES if case.dialect == dialect}
    assert len({case.name for case in CASES}) == len(CASES)


@each_case
class TestAStream:
    def test_whole(self, case: Case) -> None:
        reader = reader_of(case.dialect)
        assert [reader.read(message) for message in messages_of([case.data])] == case.meanings
        assert reader.limited == (case.outcome == "complete-limited")
        assert reader.declined == (case.outcome == "declined")

    def test_byte_by_byte(self, case: Case) -> None:
        assert read(case.dialect, [bytes([byte]) for byte in case.data]) == case.meanings

    def test_cut_anywhere(self, case: Case) -> None:
        data = case.data
        for cut in range(len(data)):
            assert read(case.dialect, [data[:cut], data[cut:]]) == case.meanings

    def test_with_other_line_ends(self, case: Case) -> None:
        assert read(case.dialect, [case.data.replace(b"\n", b"\r\n")]) == case.meanings

    def test_is_recognised(self, case: Case) -> None:
        found = recognise(messages_of([case.data]))
        assert found.dialect == case.dialect
        assert found.service
        assert found.endless == ("2024-11-05" in case.name)

    def test_no_dialect_trips_over_it(self, case: Case) -> None:
        for dialect in NAMES:
            read(dialect, [case.data])


# Through the client of a load run.


ONE_A_READ_S: Final = 0.01
"""Between events, so that each comes in a read of its own and a running stream's short way is taken."""


def run_against(case: Case, data: bytes, ends: bytes = LAST_CHUNK, pause_s: float = 0) -> StreamRecord:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        messages = data.split(b"\n\n")
        for part in messages[:-1]:
            connection.send(chunk(part + b"\n\n"))
            connection.server.tick.wait(pause_s)
        connection.send(ends)
        if ends:
            connection.until_gone()

    with serving(script) as server:
        return Streams(
            server.url, dialect=case.dialect, method="POST", body="{}", retries=0, on_cut="give-up"
        ).run()


@pytest.mark.integration
@each_case
class TestALoadRun:
    @pytest.mark.parametrize("pause_s", [0, ONE_A_READ_S])
    def test_judges_the_end(self, case: Case, pause_s: float) -> None:
        record = run_against(case, case.data, pause_s=pause_s)
        assert record.outcome == case.outcome
        text = case.text.encode()
        assert (record.text_bytes, record.text_sha256) == (len(text), hashlib.sha256(text).hexdigest())
        heard = [
            meaning for meaning in case.meanings if meaning.kind in {"token", "terminal"} and meaning.text
        ]
        assert record.tokens == len(heard)
        assert (record.first_token is not None) == bool(heard)

    def test_judges_an_end_that_is_missing(self, case: Case) -> None:
        shorter = case.data[: case.data.rstrip(b"\n").rfind(b"\n\n") + 2] if len(case.events) > 1 else b""
        assert run_against(case, shorter).outcome == case.without_end

    def test_judges_a_cut(self, case: Case) -> None:
        """Behind the first event the connection breaks inside the framing."""
        first = case.data[: case.data.find(b"\n\n") + 2]
        ends = {"terminal": "complete", "error": "error-inband"}
        meanings = read(case.dialect, [first])
        expected = next((ends[each.kind] for each in meanings if each.kind in ends), "cut")
        assert run_against(case, first, ends=b"").outcome == expected


def test_frames_and_pings_are_no_first_token() -> None:
    """The wait for the first token ends with the first text, not with what the service sends at once."""
    case = next(each for each in CASES if each.name.startswith("messages: thinking"))
    frames, _, text = case.data.partition(b"event: content_block_delta")

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(frames))
        connection.server.tick.wait(0.05)
        connection.send(chunk(b"event: content_block_delta" + text) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        record = Streams(server.url, dialect="anthropic").run()
    assert record.outcome == "complete"
    assert record.first_event is not None
    assert record.first_token is not None
    assert record.first_token.ns - record.first_event.ns > 40_000_000
    assert record.heartbeats == 1


def test_an_mcp_stream_is_resumed_by_get() -> None:
    """An early end behind an event with an id is legal: the client waits as told, and asks for the rest by GET."""
    case = next(each for each in CASES if each.name.startswith("mcp: primed"))
    primed, _, rest = case.data.partition(b"\n\n")

    def script(connection: Connection) -> None:
        body = primed + b"\n\n" if connection.number == 1 else rest
        connection.send(CHUNKED_HEAD + chunk(body) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        streams = Streams(
            server.url, dialect="mcp", method="POST", body='{"jsonrpc":"2.0","id":1,"method":"x"}'
        )
        record = streams.run()
        first, second = server.connections
    assert (record.outcome, record.attempts_total, record.breaks) == ("complete", 2, 1)
    assert first.header("accept") == "application/json, text/event-stream"
    assert first.request_line.startswith("POST ")
    assert first.header("last-event-id") is None
    assert second.request_line.startswith("GET ")
    assert second.header("last-event-id") == "s1-0"
    assert (second.header("content-type"), second.body) == (None, b"")


def test_a_version_of_mcp_that_can_t_resume_is_not_asked_to() -> None:
    case = next(each for each in CASES if each.name.startswith("mcp: primed"))
    primed = case.data.partition(b"\n\n")[0] + b"\n\n"

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(primed) + LAST_CHUNK)
        connection.until_gone()

    with serving(script) as server:
        headers = {"MCP-Protocol-Version": "2026-07-28"}
        streams = Streams(server.url, dialect="mcp", method="POST", body="{}", headers=headers)
        record = streams.run()
    assert (record.outcome, record.attempts_total) == ("truncated", 1)
    assert streams.breaks[0].gave_up == "no-id"


def test_an_answer_that_begins_anew_is_read_anew() -> None:
    """A reason to end that came before the cut says nothing of the second answer."""
    limited = b'data: {"choices":[{"index":1,"delta":{"content":"a"},"finish_reason":"length"}]}\n\n'
    whole = (
        b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )

    def script(connection: Connection) -> None:
        if connection.number == 1:
            connection.send(CHUNKED_HEAD + chunk(limited))
            connection.close()
        else:
            connection.send(CHUNKED_HEAD + chunk(whole) + LAST_CHUNK)
            connection.until_gone()

    with serving(script) as server:
        record = Streams(server.url, dialect="openai", on_cut="restart").run()
    assert (record.outcome, record.attempts_total, record.tokens) == ("complete", 2, 1)


# The target's words.


class TestDialectOf:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_name(self, name: str) -> None:
        assert dialect_of(Target(url="", dialect=name)).reader().read(
            Message("ping", "", "", 1, False)
        ).kind == ("other" if name == "mcp" else "heartbeat")

    def test_none_is_plain(self) -> None:
        assert dialect_of(Target(url="", terminal="event:done")).reader().may_end is False

    @pytest.mark.parametrize("key", ["terminal", "sequence", "sent_at", "text"])
    def test_words_for_a_plain_stream_are_refused(self, key: str) -> None:
        target = Target(url="", dialect="openai", **{key: "json:a"})
        with pytest.raises(ValueError, match=f"{key} describes a plain stream"):
            dialect_of(target)
        assert describes_plain(target) == [key]

    def test_an_unknown_name_is_told_the_nearest(self) -> None:
        with pytest.raises(ValueError, match=r"did you mean anthropic\? known are: plain, openai, "):
            dialect_of(Target(url="", dialect="antropic"))

    def test_wrong_numbers_can_be_left_alone(self) -> None:
        case = next(each for each in CASES if each.name == "responses: a number is missing")
        reader = dialect_of(Target(url="", dialect="openai-responses", sequence="none")).reader()
        assert [reader.read(each).sequence for each in messages_of([case.data])] == [None, None, None]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_resuming_mcp_depends_on_the_version(self, version: str) -> None:
        dialect = dialect_of(Target(url="", dialect="mcp", headers={"MCP-Protocol-Version": version}))
        assert dialect.resumes_by_get == (version not in {"2024-11-05", "2026-07-28"})
        assert dialect.resumable == (version != "2026-07-28")

    def test_a_batch_ends_with_its_last_response(self) -> None:
        body = '[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":2,"method":"b"},{"method":"c"}]'
        reader = dialect_of(Target(url="", dialect="mcp", body=body)).reader()
        first, second = (
            Message("message", f'{{"jsonrpc":"2.0","id":{number},"result":"{number}"}}', "", 1, False)
            for number in (1, 2)
        )
        assert [reader.read(first).kind, reader.read(second).kind] == ["token", "terminal"]


# Hostile content.

odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "choices",
                    "delta",
                    "content",
                    "index",
                    "finish_reason",
                    "candidates",
                    "parts",
                    "text",
                    "error",
                    "code",
                    "message",
                    "response",
                    "sequence_number",
                    "jsonrpc",
                    "id",
                    "result",
                    "method",
                    "params",
                    "object",
                    "usage",
                    "citation",
                    "tool_calls",
                    "function",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["message", "error", "response.completed", "content_block_delta", "endpoint", "keepalive"]
            ),
            odd_json.map(json.dumps) | st.text(max_size=20),
        ),
        max_size=6,
    ),
)
def test_nothing_that_a_target_sends_is_an_exception(name: str, blocks: list[tuple[str, str]]) -> None:
    reader = reader_of(name)
    messages = [Message(type_, data, "", 1, False) for type_, data in blocks]
    for message in messages:
        meaning = reader.read(message)
        assert isinstance(meaning.text, str)
        assert meaning.text or meaning.kind != "token"
    recognise(messages)


@pytest.mark.parametrize("name", NAMES)
def test_deep_nesting_and_long_numbers(name: str) -> None:
    reader = reader_of(name)
    for data in (
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"sequence_number":' + "9" * 10_000 + "}",
        "{" * 5,
        "\ufffd",
    ):
        reader.read(Message("message", data, "", 1, False))


def test_choices_are_bounded() -> None:
    reader = reader_of("openai")
    for index in range(1_000):
        reader.read(Message("message", f'{{"choices":[{{"index":{index},"delta":{{}}}}]}}', "", 1, False))
    assert len(reader._choices._open) == 128  # type: ignore[attr-defined]


# Other conventions, and what is no SSE.


@pytest.mark.parametrize(
    ("data", "service"),
    [
        ('{"type":"start","messageId":"m"}', "Vercel"),
        ('{"type":"text-delta","id":"0","delta":"a"}', "Vercel"),
        ('{"jsonrpc":"2.0","id":1,"result":{"kind":"status-update","taskId":"t"}}', "A2A"),
        ('{"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"taskId":"t"}}}', "A2A"),
        ('{"type":"RUN_STARTED","threadId":"t","runId":"r"}', "AG-UI"),
        ("[DONE]", ""),
        ('{"text":"a"}', ""),
        ('{"error":{"message":"x"}}', ""),
        ('{"type":"response","text":"a"}', ""),
        ('{"choices":[]}', ""),
        ('{"choices":"many"}', ""),
        ("[]", ""),
        ("hello", ""),
    ],
)
def test_plain_whatever_it_is_called(data: str, service: str) -> None:
    found = recognise([Message("message", data, "", 1, False)])
    assert (found.dialect, found.endless) == (PLAIN, False)
    assert service in found.service
    assert bool(service) == bool(found.service)


@pytest.mark.parametrize("version", [*VERSIONS, "3000-01-01"])
def test_the_version_that_was_agreed_on_is_named(version: str) -> None:
    data = f'{{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"{version}","capabilities":{{}}}}}}'
    found = recognise([Message("message", data, "", 1, False)])
    assert found.dialect == "mcp"
    assert (version in found.service) == (version in VERSIONS)


def test_only_the_first_events_decide() -> None:
    hello = Message("message", "hello", "", 1, False)
    ping = Message("ping", "{}", "", 1, False)
    primer = Message("message", "", "1", 1, True)
    chat = messages_of([CASES[0].data])[0]
    assert recognise([hello, ping, hello, primer, chat]).dialect == "openai"
    assert recognise([hello, hello, hello, chat]).dialect == PLAIN
    assert recognise([]).dialect == PLAIN


@pytest.mark.parametrize(
    ("content_type", "body", "upgrade", "word"),
    [
        ("application/x-ndjson", "", "", "NDJSON"),
        ("application/x-ndjson; charset=utf-8", "", "", "NDJSON"),
        ("application/vnd.amazon.eventstream", "", "", "AWS"),
        ("application/octet-stream", "\x00\x00\x00\x7f\r:message-type\x07\x00\x05event", "", "AWS"),
        ("application/json", '{"a":1} {"a":2}', "", "NDJSON"),
        ("text/plain", ' {"a":1}\n{"a":2}', "", "NDJSON"),
        ("application/json", '[{"candidates":[]}', "", "alt=sse"),
        ("application/json", "[1,", "", "array"),
        ("application/json", '{"id":"x"}', "", '"stream": true'),
        ("application/grpc-web+proto", "", "", "gRPC"),
        ("", "", "WebSocket", "WebSocket"),
        ("text/html", "", "", "a page"),
        ("text/plain", "<!doctype html>", "", "a page"),
        ("text/plain", "", "", None),
    ],
)
def test_lookalikes_are_named(content_type: str, body: str, upgrade: str, word: str | None) -> None:
    found = lookalike(content_type, body, upgrade)
    if word is None:
        assert found is None
        return
    assert found is not None
    assert word in f"{found.what}: {found.instead}"
