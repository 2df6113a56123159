"""What a chat completions endpoint streams, read from bytes however they are cut."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.reference_server.completions import (
    EVENT_LIMIT_BYTES,
    Completion,
    CompletionError,
    Finish,
    Piece,
    status_error,
)

DONE = b"data: [DONE]\n\n"


def chunk(content=None, finish=None, *, index=0, escape=True, end="\n"):
    delta = {"role": "assistant"} if content is None else {"content": content}
    data = json.dumps(
        {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}, ensure_ascii=escape
    )
    return f"data: {data}{end}{end}".encode()


def read(*parts, close=True):
    completion = Completion()
    found = [item for part in parts for item in completion.receive(part)]
    return found + completion.close() if close else found


def problem(*parts):
    with pytest.raises(CompletionError) as caught:
        read(*parts)
    return caught.value


def text_of(items):
    return "".join(item.text for item in items if isinstance(item, Piece))


def test_pieces_come_in_order_and_the_reason_once():
    answer = chunk() + chunk("") + chunk("Hel") + chunk("lo", "length") + chunk(None, "stop") + DONE
    assert read(answer) == [Piece("Hel"), Piece("lo"), Finish("length")]


@pytest.mark.parametrize(
    "ending",
    [chunk(None, "stop"), chunk(None, "stop") + DONE, DONE, b"data: [DONE]", b"data:[DONE]\n"],
)
def test_a_finish_reason_or_a_done_makes_it_whole(ending):
    *_, last = read(chunk("x") + ending)
    assert last == Finish("stop" if b"stop" in ending else None)


def test_an_end_without_either_is_a_cut():
    assert problem(chunk("x")).code == "upstream-cut"
    assert problem(b"").code == "upstream-cut"
    assert problem(chunk("x"), chunk("y")[:20]).code == "upstream-malformed"


def test_comments_usage_other_choices_and_other_fields_are_no_text():
    other = b': waiting\n\nid: 4\nretry: 5\ndata: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: {"object":"x"}\n\n'
    assert read(other + chunk("no", index=1) + chunk("yes") + DONE) == [Piece("yes"), Finish(None)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_line_end_and_data_over_several_lines(end):
    lines = 'data: {"choices":[{"delta":\ndata: {"content":"ü"}}]}\n\n'.replace("\n", end).encode()
    answer = lines + chunk("x", end=end) + DONE
    for pieces in ([answer], [bytes([byte]) for byte in answer]):
        assert read(*pieces) == [Piece("ü"), Piece("x"), Finish(None)]


@given(st.data())
def test_how_the_bytes_are_cut_changes_nothing(data):
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    texts = data.draw(st.lists(st.text(min_size=1).filter(lambda text: text.isprintable()), max_size=6))
    escape = data.draw(st.booleans())
    answer = b"".join(chunk(text, escape=escape, end=end) for text in texts)
    answer += chunk(None, "stop", end=end) + DONE
    cuts = sorted(data.draw(st.sets(st.integers(0, len(answer)))))
    pieces = [answer[low:high] for low, high in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert read(*pieces) == [*map(Piece, texts), Finish("stop")]


def test_halves_of_a_character_wait_for_each_other():
    assert read(chunk("a\ud83d") + chunk("\ude00b") + DONE) == [Piece("a"), Piece("😀b"), Finish(None)]


def test_a_half_without_the_other_is_a_replacement_character():
    assert (
        text_of(read(chunk("\ude00x") + chunk("y\ud83d") + chunk("z\ud83d") + DONE))
        == "\ufffdxy\ufffdz\ufffd"
    )
    assert text_of(read(chunk("ü", escape=False).replace(b"\xc3\xbc", b"\xc3") + DONE)) == "\ufffd"


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b'{"choices": 3}',
        b'{"choices":[{"delta":{"content":5}}]}',
        b"[" * 100_000,
        b"9" * 5_000,
        b'"x"',
    ],
)
def test_what_is_no_chunk_is_said_without_repeating_it(data):
    error = problem(b"data: " + data + b"\n\n")
    assert error.code == "upstream-malformed"
    assert "hello" not in error.sentence


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"error": {"message": "key sk-1 at /srv/x.py", "type": "server_error"}}, "upstream-error"),
        ({"error": {"message": "sk-1", "code": "rate_limit_exceeded"}}, "upstream-busy"),
        ({"error": {"message": "sk-1", "code": 429}}, "upstream-busy"),
        ({"error": "sk-1"}, "upstream-error"),
        ({"choices": [{"delta": {"content": "sk-1"}, "finish_reason": "error"}]}, "upstream-error"),
    ],
)
def test_errors_inside_the_stream_have_a_code_and_none_of_their_words(data, code):
    error = problem(b"data: " + json.dumps(data).encode() + b"\n\n")
    assert error.code == code
    assert "sk-1" not in error.sentence


def test_an_event_of_type_error_is_one():
    assert problem(b'event: error\ndata: {"message":"x"}\n\n').code == "upstream-error"


def test_a_reason_that_is_no_word_is_left_out():
    assert read(chunk("x", "key sk-1\n") + DONE) == [Piece("x"), Finish(None)]


@pytest.mark.parametrize(
    "endless", [b"data: " + b"x" * 1000, b"x" * 1000, b"data: x\n" * 100, b"data:\n" * 1000]
)
def test_an_event_without_end_is_given_up(endless):
    completion = Completion()
    fed = 0
    with pytest.raises(CompletionError) as caught:  # noqa: PT012  # where it gives up is what is looked at
        while fed < 10 * EVENT_LIMIT_BYTES:
            completion.receive(endless)
            fed += len(endless)
    assert caught.value.code == "upstream-malformed"
    assert fed < 7 * EVENT_LIMIT_BYTES


def test_comments_without_end_take_no_memory_and_stop_nothing():
    completion = Completion()
    for _ in range(3_000):
        assert completion.receive(b": " + b"x" * 1000 + b"\n") == []
    assert completion.receive(chunk("x")) == [Piece("x")]


def test_time_is_linear_in_a_line_that_comes_byte_by_byte():
    def spent(size):
        completion = Completion()
        began = time.process_time()
        for _ in range(size):
            completion.receive(b"x")
        return time.process_time() - began

    assert spent(200_000) < 8 * max(spent(50_000), 0.01)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "upstream-refused"),
        (403, "upstream-refused"),
        (429, "upstream-busy"),
        (503, "upstream-busy"),
        (404, "upstream-error"),
        (302, "upstream-error"),
        (500, "upstream-error"),
    ],
)
def test_a_status_says_what_it_means(status, code):
    error = status_error(status)
    assert error.code == code
    assert str(status) in error.sentence
