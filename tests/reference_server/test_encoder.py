"""The encoder writes what the conformance table says, and the parser reads back what it was given (P2)."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.sse import Comment, Message, Parser, Retry
from sseproof.reference_server.encoder import encode, encode_comment

TABLE = Path(__file__).parent.parent / "data" / "sse" / "conformance.toml"
CASES = [case for case in tomllib.loads(TABLE.read_text(encoding="utf-8"))["case"] if "encode" in case]


def call(row):
    arguments = dict(row)
    if arguments.pop("no_data", False):
        arguments["data"] = None
    return encode(**arguments)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_table_written(case):
    wanted = case["input"].replace("¦", "").encode("ascii").decode("unicode_escape").encode("latin-1")
    assert b"".join(call(row) for row in case["encode"]) == wanted


def test_the_table_is_used():
    assert len(CASES) > 20


text = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from("a :\n\r\0\ufeff\u2028سé👩")
)
one_line = text.map(lambda value: re.sub(r"[\r\n]", "", value))
newlines = st.sampled_from(["\n", "\r\n", "\r"])


def as_read(value: str) -> str:
    return re.sub(r"\r\n|\r", "\n", value)


@given(
    kind=one_line.filter(bool),
    data=text,
    own=st.none() | one_line.map(lambda value: value.replace("\0", "")),
    retry_ms=st.none() | st.integers(0, 86_400_000),
    comment=st.none() | one_line.filter(lambda value: len(value) < 100),
    newline=newlines,
    bom=st.booleans(),
    space=st.booleans(),
)
def test_what_is_written_is_read_back(kind, data, own, retry_ms, comment, newline, bom, space):
    block = encode(
        kind, data, id=own, retry_ms=retry_ms, comment=comment, newline=newline, bom=bom, space=space
    )
    parser = Parser("before")
    items = [item for item in parser.receive(block) if isinstance(item, Message | Comment | Retry)]
    end = len(block) - (newline == "\r\n")
    wanted = [Message(kind, as_read(data), "before" if own is None else own, end, own is not None)]
    assert [item for item in items if isinstance(item, Message)] == wanted
    assert [item.ms for item in items if isinstance(item, Retry)] == ([] if retry_ms is None else [retry_ms])
    assert [item.text for item in items if isinstance(item, Comment)] == (
        [] if comment is None else [comment]
    )
    assert not parser.in_event
    assert parser.close() == []


@given(st.lists(st.tuples(one_line.filter(bool), text, newlines), max_size=5))
def test_blocks_one_after_the_other(blocks):
    """But for CR before LF: those two are one line end wherever they meet."""
    styles = {newline for *_, newline in blocks}
    stream = b"".join(
        encode(kind, data, newline=newline if len(styles) == 1 else "\n") for kind, data, newline in blocks
    )
    read = [(item.type, item.data) for item in Parser().receive(stream) if isinstance(item, Message)]
    assert read == [(kind, as_read(data)) for kind, data, _ in blocks]


class TestDefaults:
    def test_an_empty_event(self):
        assert encode() == b"data: \n\n"

    def test_the_default_type_is_not_written(self):
        assert encode("message", "a") == b"data: a\n\n"

    def test_a_block_without_data(self):
        assert encode(data=None, id="7", retry_ms=5) == b"retry: 5\nid: 7\n\n"

    def test_a_comment(self):
        assert encode_comment("ping") == b": ping\n\n"
        assert encode_comment() == b": \n\n"
        assert encode_comment("a\r\nb\rc", newline="\r\n") == b": a\r\n: b\r\n: c\r\n\r\n"


class TestRefused:
    @pytest.mark.parametrize("value", ["\0", "a\0b", "a\nb", "a\rb", "\r\n", "a\n"])
    def test_ids(self, value):
        with pytest.raises(ValueError, match="neither NUL nor line ends"):
            encode(data="x", id=value)

    @pytest.mark.parametrize("value", ["", "a\nb", "a\rb", "a\n", "\r"])
    def test_types(self, value):
        with pytest.raises(ValueError, match="a type is not empty"):
            encode(value, "x")

    @pytest.mark.parametrize("value", [-1, 1.5, True, "5"])
    def test_retries(self, value):
        with pytest.raises(ValueError, match="whole number of milliseconds"):
            encode(retry_ms=value)

    @pytest.mark.parametrize("value", ["", "\n\n", "\n\r", "\u2028"])
    def test_newlines(self, value):
        with pytest.raises(ValueError, match="LF, CRLF and CR"):
            encode(newline=value)

    @pytest.mark.parametrize("key", ["type", "data", "id", "comment"])
    def test_half_a_surrogate_pair(self, key):
        with pytest.raises(ValueError, match="half a surrogate pair"):
            encode(**{key: "a\ud83d"})
