"""Chunk invariance (P1), and the parser against the standard's own algorithm, written as plainly as it reads."""

import itertools
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sseproof.loadtests.sse import LONGEST_RETRY_MS, Defect, Message, Parser, Retry

SYMBOLS = [
    b"a", b":", b" ", b"\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"data", b"event", b"id", b"retry", b"7", b"\t", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"\xed\xa0",
    b"data: ", b"id: ", b"event: ", b": ", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r",
    b"id: 1\nevent: e\ndata: x\n\n", b"id: 2\r\ndata: y\r\n\r\n", b"data: a\ndata: b\n\n", b"event: f\r\ndata\r\n\r\n",
]  # fmt: skip
streams = st.lists(st.sampled_from(SYMBOLS), max_size=24).map(b"".join)


VALUES = [
    b"", b" ", b"7", b"a", b"a ", b"  a", b"\t", b"a:b", b"\0", b"\x7f", b"\r", b"\xff", b"\xc3\xa9", b"\xc2\xb2",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"xxxxxxxxxxxx",
]  # fmt: skip
lines = st.builds(
    lambda name, colon, value: name + colon + value,
    st.sampled_from([b"id", b"event", b"data"]),
    st.sampled_from([b":", b": "]),
    st.sampled_from(VALUES),
)
whole_events = st.lists(lines, max_size=4).map(lambda each: b"\n".join([*each, b"data: x", b"", b""]))


@st.composite
def cut_streams(draw):
    stream = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return stream, [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)])]


def run(chunks, seed="", **limits):
    parser = Parser(seed, **limits)
    items = [item for chunk in chunks for item in parser.receive(chunk)]
    before_close = (parser.in_event, parser.in_char, parser.pending_bytes)
    items += parser.close()
    return items, before_close, parser.last_event_id, parser.retry_ms, parser.offset, parser.dead


def bytewise(stream):
    return [stream[i : i + 1] for i in range(len(stream))]


def standard(stream: bytes, seed: str = ""):
    """HTML Standard 9.2.6, word for word: messages, last event id, reconnection time."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\n|\r", text)[:-1]
    data = kind = ""
    buffer = last = seed
    retry = None
    messages = []
    for line in lines:
        if not line:
            last = buffer
            if data:
                messages.append((kind or "message", data[:-1], last))
            data = kind = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = min(int(value), LONGEST_RETRY_MS)
    return messages, last, retry


@settings(max_examples=600)
@given(cut_streams())
def test_chunking_never_changes_the_result(case):
    stream, chunks = case
    assert run(chunks) == run([stream]) == run(bytewise(stream))


@settings(max_examples=600)
@given(st.lists(whole_events, max_size=6))
@example([b"data: x\n\n", b"id: 1\nevent: e\ndata: \xc3\xa9\n\n", b"data: y\n\n"])
@example([b"data: x\n\n", b"id: a \ndata: x\n\n"])
@example([b"data: x\n\n", b"id: a\x7f\ndata: x\n\n"])
@example([b"data: x\n\n", b"event: a\x7f\ndata: x\n\n"])
@example([b"data: x\n\n", b"data: \rx\n\n"])
@example([b"data: x\n\n", b"data: \xff\n\n"])
@example([b"data: x\n\n", b"event:\ndata: x\n\n", b"id\ndata: x\n\n", b"id:\ndata: x\n\n"])
def test_nor_does_it_where_each_read_is_one_event(events):
    assert run(events) == run(bytewise(b"".join(events)))
    assert run(events, max_event_bytes=12) == run(bytewise(b"".join(events)), max_event_bytes=12)


@settings(max_examples=400)
@given(cut_streams(), st.integers(1, 30))
def test_nor_does_it_with_a_limit(case, limit):
    stream, chunks = case
    whole = run([stream], max_event_bytes=limit)
    assert run(chunks, max_event_bytes=limit) == whole == run(bytewise(stream), max_event_bytes=limit)


@settings(max_examples=600)
@given(streams, st.sampled_from(["", "41"]))
@example(b"data: a\n\n\n\ndata: b\n\n", "")
@example(b"data: a\r\n\r\ndata: b\n\ndata: c\r\r", "")
def test_messages_are_those_of_the_standard(stream, seed):
    items, _, last, retry, _, _ = run([stream], seed)
    messages = [(item.type, item.data, item.last_event_id) for item in items if isinstance(item, Message)]
    assert (messages, last, retry) == standard(stream, seed)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_at_all(stream):
    items, _, last, retry, _, _ = run(bytewise(stream))
    messages = [(item.type, item.data, item.last_event_id) for item in items if isinstance(item, Message)]
    assert (messages, last, retry) == standard(stream)
    assert run([stream]) == run(bytewise(stream))


@settings(max_examples=300)
@given(streams)
def test_every_replacement_has_its_defect(stream):
    """As many ill-formed sequences are named as a decoder replaces, line by line; none is named twice."""
    items, *_ = run([stream])
    named = sum(
        i.count
        for i in items
        if isinstance(i, Defect) and i.kind in {"invalid-utf8", "unterminated-character"}
    )
    replaced = stream.decode("utf-8", "replace").count("\ufffd") - stream.count(b"\xef\xbf\xbd")
    assert named == replaced


@settings(max_examples=200)
@given(streams)
def test_positions_rise(stream):
    items, *_ = run([stream])
    ends = [item.end for item in items if isinstance(item, Message | Retry)]
    assert ends == sorted(set(ends))
    assert all(0 < end <= len(stream) for end in ends)
    assert all(stream[end - 1 : end] in {b"\n", b"\r"} for end in ends)


def test_every_short_string_of_line_ends_and_fields():
    """All strings of up to five symbols: what the line ends and the two paths make of one another."""
    symbols = [b"data:", b"id", b"x", b"\n", b"\r", b"\xff"]
    for size in range(1, 6):
        for parts in itertools.product(symbols, repeat=size):
            stream = b"".join(parts)
            whole = run([stream])
            assert run(bytewise(stream)) == whole, stream
            messages = [
                (item.type, item.data, item.last_event_id) for item in whole[0] if isinstance(item, Message)
            ]
            assert messages == standard(stream)[0], stream
