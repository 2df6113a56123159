import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.sse import Message, Parser
from sseproof.reference_server import wire
from sseproof.reference_server.encoder import encode

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_each_event_byte_for_byte():
    assert wire.hello_frame("k", "k", 300) == (
        b'retry: 300\nid: k-1\nevent: hello\ndata: {"service":"sse-streaming","stream":"k"}\n\n'
    )
    assert wire.delta_frame("k", 2, "سلا م") == 'id: k-2\nevent: delta\ndata: {"text":"سلا م"}\n\n'.encode()
    assert wire.delta_frame("k", 2, "a", 5) == b'id: k-2\nevent: delta\ndata: {"text":"a","sent_at":5}\n\n'
    assert wire.ping_frame("k", 7) == b"id: k-7\nevent: ping\ndata: {}\n\n"
    assert wire.done_frame("k", 9, "ab") == b'id: k-9\nevent: done\ndata: {"events":9,"sha256":"ab"}\n\n'
    assert wire.progress_frame("k", 3, 40, "fetched") == (
        b'id: k-3\nevent: progress\ndata: {"percent":40,"step":"fetched"}\n\n'
    )
    assert wire.error_frame("no") == b'event: error\ndata: {"message":"no"}\n\n'


def test_the_legacy_profile_has_neither_ids_nor_retry():
    assert (
        wire.hello_frame(None, "k", None)
        == b'event: hello\ndata: {"service":"sse-streaming","stream":"k"}\n\n'
    )
    assert wire.delta_frame(None, 2, "a") == b'event: delta\ndata: {"text":"a"}\n\n'
    assert wire.done_frame(None, 9, "ab") == b'event: done\ndata: {"events":9,"sha256":"ab"}\n\n'


@pytest.mark.parametrize("make", [wire.error_frame, lambda text: wire.delta_frame("k", 2, text)])
@given(text=TEXTS)
def test_no_text_can_break_the_frame(make, text):
    frame = make(text)
    assert frame.endswith(b"\n\n")
    assert b"\r" not in frame
    *fields, data, empty, rest = frame.decode().split("\n")
    assert (empty, rest) == ("", "")
    assert [line.split(": ")[0] for line in fields] in (["event"], ["id", "event"])
    assert text in json.loads(data.removeprefix("data: ")).values()


@given(
    text=st.text() | st.text(st.sampled_from('\r\n\0\ud800\udfff\u2028:{}"\\ id:data')),
    detail=st.text() | st.just("x\r\n\r\nid: 9\nevent: done\ndata: {}\n\n"),
)
def test_whatever_an_error_says_is_one_event_without_an_id(text, detail):
    """By the suite's own parser, behind an event whose id must stay the last."""
    parser = Parser()
    frames = wire.ping_frame("k", 7) + wire.error_frame(text, detail=detail) + wire.ping_frame("k", 8)
    events = [event for event in parser.receive(frames) + parser.close() if isinstance(event, Message)]
    assert [event.type for event in events] == ["ping", "error", "ping"]
    assert [event.last_event_id for event in events] == ["k-7", "k-7", "k-8"]
    said = json.loads(events[1].data)
    assert said == {"message": in_utf8(text), "detail": in_utf8(detail)}


def in_utf8(text):
    return text.encode("utf-8", "replace").decode()


@given(text=TEXTS)
def test_the_literal_is_what_stands_in_the_frame(text):
    assert wire.delta_frame("k", 2, text).count(b'{"text":' + wire.text_literal(text) + b"}") == 1


@given(
    key=st.none() | st.text("0123456789abcdefé-\n\0", min_size=1, max_size=8),
    text=TEXTS,
    sent_at=st.none() | st.integers(0),
)
def test_a_delta_is_what_the_encoder_makes(key, text, sent_at):
    data = {"text": text} if sent_at is None else {"text": text, "sent_at": sent_at}
    shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        slow = encode("delta", shown, id=None if key is None else f"{key}-2")
    except ValueError:
        with pytest.raises(ValueError, match="can't be sent"):
            wire.delta_frame(key, 2, text, sent_at)
    else:
        assert wire.delta_frame(key, 2, text, sent_at) == slow
