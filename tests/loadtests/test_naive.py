"""The naive client breaks what the network cuts, and nothing else."""

import pytest

from sseproof.loadtests.naive import NaiveParser
from sseproof.loadtests.sse import Message, Parser
from sseproof.reference_server.encoder import encode

EVENT = encode("delta", '{"text":"سلام"}', id="a-1")


def run(chunks):
    parser = NaiveParser("41", 16)
    items = [item for chunk in chunks for item in parser.receive(chunk)]
    return [*items, *parser.close()], parser


def texts(chunks):
    return [(item.type, item.data) for item in run(chunks)[0]]


def test_whole_events_are_read_well_but_ids_are_not():
    items, parser = run([EVENT, EVENT + EVENT])
    ends = [len(EVENT) * n for n in (1, 2, 3)]
    assert items == [Message("delta", '{"text":"سلام"}', "", end, has_id=False) for end in ends]
    assert (parser.last_event_id, parser.retry_ms, parser.dead, parser.pending_bytes) == ("", None, False, 0)
    assert parser.offset == 3 * len(EVENT)


def test_retry_is_ignored():
    assert run([encode(data="a", retry_ms=5)])[1].retry_ms is None


def test_a_comment_is_nothing():
    assert texts([b": ping\n\n"]) == []


def test_several_data_lines():
    assert texts([b"data: a\ndata:b\ndata:  c\n\n"]) == [("message", "a\nb\n c")]


def test_an_event_cut_between_two_reads_is_broken_in_two():
    assert texts([b"event: delta\ndata: hello ", b"world\n\n"]) == [("delta", "hello ")]
    assert texts([b"event: delta\ndata: a\n", b"data: b\n\n"]) == [("delta", "a"), ("message", "b")]


def test_a_cut_character_is_two_replacements():
    cut = EVENT.index("ل".encode()) + 1
    (first,) = texts([EVENT[:cut], EVENT[cut:]])
    assert first == ("delta", '{"text":"س\ufffd')


def test_a_lone_continuation_is_replaced_too():
    chunks = [b"data: \xd8", b"\xb3\n\ndata: \xd8\xb3\n\n"]
    assert texts(chunks) == [("message", "\ufffd"), ("message", "س")]


@pytest.mark.parametrize("cut", range(len(EVENT) + 1))
def test_cut_anywhere_the_right_parser_is_whole_and_the_naive_one_is_not(cut):
    chunks = [EVENT[:cut], EVENT[cut:]]
    parser = Parser()
    assert len([item for chunk in chunks for item in parser.receive(chunk)]) == 1
    # Only cuts before the first field's value or inside the blank line leave this event as it was.
    assert (texts(chunks) == texts([EVENT])) == (cut in {0, *harmless(cut), len(EVENT)})


def harmless(cut):
    """Cuts that fall where this client happens to lose nothing of type and data."""
    head, tail = EVENT[:cut], EVENT[cut:]
    if b"event:" in tail and b"data:" in tail:
        return {cut}  # only the id line is damaged, and it reads none
    return {cut} if head.endswith((b"}", b"}\n")) else set()


def test_crlf_streams_come_as_one_block_a_read():
    assert texts([b"data: a\r\n\r\ndata: b\r\n\r\n"]) == [("message", "a\nb")]


def test_where_reads_end():
    parser = NaiveParser()
    seen = []
    for chunk in (b"data: \xd8", b"\xb3", b"\n\n", b"data: a"):
        parser.receive(chunk)
        seen.append((parser.in_event, parser.in_char))
    assert seen == [(True, True), (True, False), (False, False), (True, False)]


def test_nothing_after_close():
    parser = NaiveParser()
    assert parser.close() == []
    assert parser.receive(EVENT) == []
