import json

import pytest

from sseproof.reference_server.ask import TooLongError, parse_ask, sentence
from sseproof.reference_server.streams import (
    EVENTS_LIMIT,
    QUESTION_LIMIT_CHARS,
    SEED_LIMIT,
    WAIT_LIMIT_MS,
    Ask,
)

EVERYTHING = {
    "question": "لماذا؟",
    "script": "arabic",
    "seed": 5,
    "events": 7,
    "first_token_ms": 1.5,
    "interval_ms": 0.0,
    "sent_at": True,
}


def test_nothing_asked_for_is_the_default():
    assert parse_ask({}, b"") == Ask() == parse_ask({}, b" {} \n")


def test_query_and_body_say_the_same():
    query = {name: str(value) for name, value in EVERYTHING.items()}
    asked = Ask(**EVERYTHING)
    assert parse_ask(query, b"") == asked
    assert parse_ask({}, json.dumps(EVERYTHING).encode()) == asked


def test_the_body_wins():
    assert parse_ask({"seed": "1", "events": "2"}, b'{"seed": 3}') == Ask(seed=3, events=2)


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_sent_at_in_a_query(value):
    assert parse_ask({"sent_at": value}, b"").sent_at is True


def test_the_limits_themselves_are_taken():
    limits = Ask(
        question="x" * QUESTION_LIMIT_CHARS,
        seed=SEED_LIMIT,
        events=EVENTS_LIMIT,
        first_token_ms=WAIT_LIMIT_MS,
        interval_ms=WAIT_LIMIT_MS,
    )
    values = {name: getattr(limits, name) for name in Ask.__struct_fields__}
    assert parse_ask({}, json.dumps(values).encode()) == limits


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"event": "3"}, "'event' is not known: did you mean 'events'"),
        ({"zzz": "3"}, "'zzz' is not known: there are question, script"),
        ({"\n\x1b[0m": "3"}, r"'\\n\\x1b"),
        ({"events": "-1"}, "'events' can't be taken"),
        ({"events": str(EVENTS_LIMIT + 1)}, "'events' can't be taken"),
        ({"events": "3.5"}, "'events' can't be taken"),
        ({"events": "many"}, "'events' can't be taken"),
        ({"seed": "-1"}, "'seed' can't be taken"),
        ({"seed": str(SEED_LIMIT + 1)}, "'seed' can't be taken"),
        ({"seed": "9" * 40}, "'seed' can't be taken"),
        ({"interval_ms": "nan"}, "'interval_ms' can't be taken"),
        ({"interval_ms": "inf"}, "'interval_ms' can't be taken"),
        ({"first_token_ms": "-0.1"}, "'first_token_ms' can't be taken"),
        ({"first_token_ms": str(WAIT_LIMIT_MS + 1)}, "'first_token_ms' can't be taken"),
        ({"script": "klingon"}, "'script' can't be taken"),
        ({"sent_at": "perhaps"}, "'sent_at' can't be taken"),
        ({"question": "x" * (QUESTION_LIMIT_CHARS + 1)}, "the question has 4,001 characters, and 4,000 are"),
    ],
)
def test_a_wrong_query_is_named(query, problem):
    with pytest.raises(ValueError, match=problem):
        parse_ask(query, b"")


def test_a_long_question_is_told_from_a_wrong_one():
    assert parse_ask({"question": "x" * 7}, b"", 7).question == "x" * 7
    for query, body in (({"question": "x" * 8}, b""), ({}, json.dumps({"question": "ش" * 8}).encode())):
        with pytest.raises(TooLongError, match="the question has 8 characters, and 7 are the most"):
            parse_ask(query, body, 7)


DEEP = b'{"question":' * 5_000


@pytest.mark.parametrize("body", [b"[1]", b"{", b'"x"', b"\xff", b'{"question": "\xff"}', b"null", DEEP])
def test_a_body_that_is_no_object(body):
    with pytest.raises(ValueError, match="JSON object"):
        parse_ask({}, body)


@pytest.mark.parametrize(
    "body",
    [b'{"question": 5}', b'{"events": []}', b'{"script": {"a": 1}}', b'{"interval_ms": null, "events": "x"}'],
)
def test_a_body_of_the_wrong_types(body):
    with pytest.raises(ValueError, match="can't be taken"):
        parse_ask({}, body)


def test_a_sentence_ends_once():
    assert sentence("the port is taken") == "The port is taken."
    assert sentence("did you mean it?") == "Did you mean it?"


def test_a_sentence_is_printable_and_bounded():
    with pytest.raises(ValueError) as caught:
        parse_ask({"script": "\x1b[31m" + "x" * 5_000}, b"")
    shown = sentence(str(caught.value))
    assert shown.isprintable()
    assert len(shown) < 400
