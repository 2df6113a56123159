"""The plain dialect's conventions and the cautious guess, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.dialects import (
    ERROR_TYPES,
    HEARTBEAT_TYPES,
    OTHER_TYPES,
    TERMINAL_TYPES,
    Guess,
    Meaning,
    Plain,
    guess,
)
from sseproof.loadtests.sse import Message


def message(data="x", kind="message", own=None, last=""):
    return Message(kind, data, last if own is None else own, 1, own is not None)


class TestKinds:
    @pytest.mark.parametrize("name", sorted(HEARTBEAT_TYPES))
    def test_heartbeats_have_neither_text_nor_number(self, name):
        plain = Plain(sequence="id", text="json:text")
        assert plain.read(message('{"text":"a"}', name, own="a-1")) == Meaning("heartbeat")

    @pytest.mark.parametrize(
        ("name", "kind"),
        [*((n, "error") for n in sorted(ERROR_TYPES)), *((n, "other") for n in sorted(OTHER_TYPES))],
    )
    def test_errors_and_others_are_numbered_and_carry_no_text(self, name, kind):
        assert Plain(sequence="id").read(message("text", name, own="a-3")) == Meaning(kind, sequence=3)

    def test_the_conventions_of_the_specification(self):
        assert {"ping", "heartbeat", "keepalive", "keep-alive"} == HEARTBEAT_TYPES
        assert {"hello", "open", "ready", "connected", "retry", "progress"} == OTHER_TYPES
        assert {"done", "end", "close", "complete"} == TERMINAL_TYPES

    @pytest.mark.parametrize("name", ["message", "delta", "Ping", "done", "end"])
    def test_everything_else_is_a_token(self, name):
        assert Plain().read(message("hello", name)) == Meaning("token", "hello")

    def test_empty_data_carries_nothing(self):
        assert Plain(sequence="id").read(message("", own="7")) == Meaning("other", sequence=7)

    def test_spaces_and_line_ends_are_text(self):
        assert Plain().read(message(" \n")) == Meaning("token", " \n")


class TestTerminal:
    def test_by_type(self):
        plain = Plain("event:done", "id")
        assert not plain.may_end
        assert plain.read(message('{"events":9}', "done", own="a-9")) == Meaning("terminal", sequence=9)
        assert plain.read(message("[DONE]")).kind == "token"

    def test_by_data(self):
        plain = Plain("data:[DONE]")
        assert plain.read(message("[DONE]")) == Meaning("terminal")
        assert plain.read(message("[DONE] ")).kind == "token"
        assert plain.read(message("x", "done")).kind == "token"

    def test_data_with_a_colon(self):
        assert Plain("data:a:b").read(message("a:b")).kind == "terminal"

    def test_the_scenario_outranks_the_conventions(self):
        assert Plain("event:ping").read(message("x", "ping")).kind == "terminal"
        assert Plain("data:x").read(message("x", "error")).kind == "terminal"

    @pytest.mark.parametrize("word", [None, "none"])
    def test_without_one_nothing_is(self, word):
        plain = Plain(word)
        assert plain.may_end
        assert plain.read(message("[DONE]", "done")).kind == "token"

    def test_empty_data_is_not_taken_for_the_marker_of_a_type(self):
        assert Plain("event:done").read(message("")).kind == "other"


class TestSequence:
    @pytest.mark.parametrize(
        ("event_id", "number"),
        [
            ("7", 7),
            ("a-12", 12),
            ("x007", 7),
            ("", None),
            ("a", None),
            ("12a", None),
            ("٣", None),
            ("1²", None),
        ],
    )
    def test_digits_at_the_end_of_the_id(self, event_id, number):
        assert Plain(sequence="id").read(message(own=event_id)).sequence == number

    def test_an_inherited_id_is_not_the_events_own(self):
        assert Plain(sequence="id").read(message(last="a-7")).sequence is None

    def test_random_ids_are_no_numbers(self):
        assert Plain(sequence="id").read(message(own="9" * 18)).sequence == 10**18 - 1
        assert Plain(sequence="id").read(message(own="9" * 19)).sequence is None
        assert Plain(sequence="id").read(message(own="9" * 100_000)).sequence is None

    def test_empty_data_is_never_malformed(self):
        plain = Plain(sequence="id", text="json:text", sent_at="json:at")
        assert plain.read(message("", own="7")) == Meaning("other", "", 7)

    @pytest.mark.parametrize("word", [None, "none"])
    def test_off(self, word):
        assert Plain(sequence=word).read(message(own="7")).sequence is None

    @pytest.mark.parametrize(
        ("data", "number"),
        [
            ('{"n":5}', 5), ('{"n":0}', 0), ('{"n":"12"}', 12), ('{"n":-1}', None), ('{"n":1.5}', None), ('{"n":true}', None),
            ('{"n":null}', None), ("{}", None), ("[]", None), ('{"n":"a1"}', None), ('{"n":99999999999999999999999}', None),
        ],
    )  # fmt: skip
    def test_from_json(self, data, number):
        assert Plain(sequence="json:n").read(message(data, own="7")).sequence == number

    def test_json_numbers_count_on_every_kind_but_heartbeats(self):
        plain = Plain("event:done", "json:n")
        assert plain.read(message('{"n":1}', "hello")) == Meaning("other", sequence=1)
        assert plain.read(message('{"n":2}', "error")) == Meaning("error", sequence=2)
        assert plain.read(message('{"n":3}', "done")) == Meaning("terminal", sequence=3)
        assert plain.read(message('{"n":4}', "ping")) == Meaning("heartbeat")


class TestText:
    @pytest.mark.parametrize(
        ("path", "data", "text"),
        [
            ("json:text", '{"text":"سلام"}', "سلام"),
            ("json:a.b", '{"a":{"b":"x"}}', "x"),
            ("json:choices.0.delta.content", '{"choices":[{"delta":{"content":"x"}}]}', "x"),
            ("json:n", '{"n":1.5}', "1.5"),
            ("json:o", '{"o":{"a":[1]}}', '{"a":[1]}'),
        ],
    )
    def test_from_json(self, path, data, text):
        assert Plain(text=path).read(message(data)) == Meaning("token", text)

    @pytest.mark.parametrize("data", ['{"text":""}', '{"text":null}', "{}", "[]", "1", '"text"', '{"a":1}'])
    def test_an_event_without_the_field_is_no_token(self, data):
        assert Plain(text="json:text").read(message(data)) == Meaning("other")

    @pytest.mark.parametrize(
        "path", ["json:choices.0.text", "json:choices.7.text", "json:choices.x.text", "json:choices.²"]
    )
    def test_list_positions(self, path):
        assert Plain(text=path).read(message('{"choices":[{"text":""}]}')) == Meaning("other")

    def test_the_whole_data_while_numbers_come_from_json(self):
        assert Plain(sequence="json:n", text="data").read(message('{"n":1}')) == Meaning(
            "token", '{"n":1}', 1
        )

    @pytest.mark.parametrize("data", ["{", "[DONE]", "hello", '{"text":"a"} x', "[" * 100_000])
    def test_broken_json_is_a_malformed_token(self, data):
        assert Plain(text="json:text", sequence="id").read(message(data, own="4")) == Meaning(
            "token", data, 4, malformed=True
        )

    @pytest.mark.parametrize(("name", "kind"), [("error", "error"), ("hello", "other"), ("done", "terminal")])
    def test_prose_where_no_token_is_expected_is_not_malformed(self, name, kind):
        plain = Plain("event:done", "json:n", text="json:text")
        assert plain.read(message("overloaded", name)) == Meaning(kind)


class TestSentAt:
    @pytest.mark.parametrize(
        ("value", "ns"),
        [
            ("1760000000", 1_760_000_000_000_000_000),
            ("1760000000.25", 1_760_000_000_250_000_000),
            ("1760000000123", 1_760_000_000_123_000_000),
            ("1760000000123.5", 1_760_000_000_123_500_000),
            ("1760000000123456", 1_760_000_000_123_456_000),
            ("1760000000123456789", 1_760_000_000_123_456_789),
            ("99999999", None), ("0", None), ("-1760000000", None), ("true", None), ('"1760000000"', None), ("null", None),
            ("1e30", None),
        ],
    )  # fmt: skip
    def test_units_by_size(self, value, ns):
        assert Plain(sent_at="json:at").read(message(f'{{"at":{value}}}')).sent_at_ns == ns

    def test_on_other_kinds_too(self):
        read = Plain("event:done", sent_at="json:at").read
        assert read(message('{"at":1760000000}', "done")) == Meaning(
            "terminal", sent_at_ns=1_760_000_000_000_000_000
        )


class TestWords:
    @pytest.mark.parametrize("word", ["done", "event:", "data:", "type:done", "", "EVENT:done"])
    def test_terminal(self, word):
        with pytest.raises(ValueError, match=r"terminal = .* write event:TYPE, data:TEXT or none"):
            Plain(terminal=word)

    @pytest.mark.parametrize("word", ["", "json", "json:", "json:a..b", "json:.a", "ids", "event:a"])
    @pytest.mark.parametrize("key", ["sequence", "sent_at", "text"])
    def test_paths(self, key, word):
        with pytest.raises(ValueError, match=rf"{key} = .* write .*json:FIELD"):
            Plain(**{key: word})

    @pytest.mark.parametrize(
        ("key", "word"), [("sequence", "data"), ("sent_at", "id"), ("text", "none"), ("text", "id")]
    )
    def test_words_of_another_key(self, key, word):
        with pytest.raises(ValueError, match=key):
            Plain(**{key: word})


@given(st.text(), st.text(min_size=1), st.text(), st.booleans())
def test_nothing_a_target_sends_raises(data, kind, last, own):
    plain = Plain("data:x", "json:a.0", "json:b", "json:a.b.c")
    for each in (plain, Plain(sequence="id")):
        assert each.read(Message(kind, data, last, 1, own)).kind in {
            "token",
            "terminal",
            "heartbeat",
            "error",
            "other",
        }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc01"), inner),
    )
)
def test_nor_does_any_json(content):
    import json

    data = json.dumps({"a": content, "b": content})
    meaning = Plain(None, "json:a.0", "json:b", "json:a.b").read(message(data))
    assert meaning.kind in {"token", "other"}


class TestGuess:
    def test_the_reference_servers_stream(self):
        stream = [
            message('{"service":"sse-streaming"}', "hello", own="k-1"),
            message('{"text":"a"}', "delta", own="k-2"),
            message("{}", "ping", last="k-2"),
            message('{"text":"b"}', "delta", own="k-3"),
            message('{"events":4}', "done", own="k-4"),
        ]
        assert guess(stream) == Guess(terminal="event:done", sequence="id", text="json:text", kind="answer")

    def test_a_model_service(self):
        stream = [
            message('{"choices":[{"delta":{"role":"assistant"}}]}'),
            message('{"choices":[{"delta":{"content":"a"}}]}'),
            message("[DONE]"),
        ]
        assert guess(stream) == Guess(
            terminal="data:[DONE]", text="json:choices.0.delta.content", kind="answer"
        )

    def test_prose(self):
        assert guess([message("hello"), message("world")]) == Guess()

    def test_nothing(self):
        assert guess([]) == Guess()

    @pytest.mark.parametrize("name", sorted(TERMINAL_TYPES))
    def test_marker_types(self, name):
        assert guess([message("a"), message("b", name)]).terminal == f"event:{name}"

    def test_a_marker_stands_last_and_only_there(self):
        assert guess([message("a", "done"), message("b")]).terminal is None
        assert guess([message("a", "done"), message("b"), message("c", "done")]).terminal is None
        assert guess([message("[DONE]"), message("b"), message("[DONE]")]).terminal is None

    @pytest.mark.parametrize(
        ("ids", "sequence"),
        [
            (["1", "2"], "id"),
            (["a-9", "a-10", "a-11"], "id"),
            (["1"], None),
            (["1", "3"], None),
            (["2", "1"], None),
            (["1", "1"], None),
            (["a1", "b2"], None),
            (["a", "b"], None),
            (["1", ""], None),
            (["1760000000", "1760000001"], None),
            (["0f3e1", "0f3e2", "77aa3"], None),
        ],
    )
    def test_sequence(self, ids, sequence):
        assert guess([message(own=each) for each in ids]).sequence == sequence

    def test_heartbeats_may_repeat_an_id(self):
        stream = [message(own="1"), message("", "ping", own="1"), message(own="2")]
        assert guess(stream).sequence == "id"

    @pytest.mark.parametrize("field", ["text", "content", "delta", "token", "message"])
    def test_text_fields(self, field):
        assert guess([message(f'{{"n":1,"{field}":"a"}}')]).text == f"json:{field}"

    @pytest.mark.parametrize(
        "tokens", [['{"text":"a"}', "plain"], ['{"text":1}'], ['["text"]'], ['{"a":"b"}']]
    )
    def test_no_text_field(self, tokens):
        assert guess([message(each) for each in tokens]).text is None
