"""The lines and blocks of an event stream as they stand, with offsets: what the parser, rightly, does not tell.

Rules (sse.md 1.1, 1.2): LF, CR LF and CR end a line, nothing else does; a blank line ends a block. Bounded: LINES_LIMIT
lines are looked at, and `cut` says that there were more.
"""

import re
from typing import Final, NamedTuple

from msgspec import Struct

LINES_LIMIT: Final = 100_000
FIELDS: Final = frozenset({b"data", b"event", b"id", b"retry"})
_LINE: Final = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
_BOM: Final = b"\xef\xbb\xbf"
_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_-]{0,31}")


class Field(NamedTuple):
    """One line that is no comment."""

    name: bytes
    at: int
    value_at: int
    """Behind the colon and one space."""
    end: int
    spaced: bool
    """A space followed the colon."""
    colon: bool

    @property
    def known(self) -> bool:
        """The standard knows this name."""
        return self.name in FIELDS

    @property
    def variant(self) -> bool:
        """A known name in another case, or with spaces or a BOM around it."""
        bare = self.name.strip().removeprefix(_BOM).strip().lower()
        return not self.known and bare in FIELDS

    @property
    def looks_like_a_field(self) -> bool:
        """Its name could have been meant as one: a word with a colon."""
        return self.colon and _NAME.fullmatch(self.name.strip()) is not None


class Block(Struct):
    """What stands between two blank lines."""

    at: int
    end: int
    """The byte behind its blank line; the end of the bytes for one left open."""
    fields: list[Field]
    comments: int
    closed: bool

    def named(self, name: bytes) -> list[Field]:
        """Its fields of this name."""
        return [field for field in self.fields if field.name == name]


class Lines(Struct):
    """The whole stream."""

    blocks: list[Block]
    endings: dict[bytes, int]
    first_ending: dict[bytes, int]
    """Where each style was seen first."""
    bom: bool
    cut: bool
    open_line: bool
    """The bytes end inside a line."""

    @property
    def foreign(self) -> bool:
        """There are lines, and none of them is a known field or a comment: this is something else."""
        fields = 0
        for block in self.blocks:
            if block.comments or any(field.known or field.variant for field in block.fields):
                return False
            fields += len(block.fields)
        return fields > 0


def read_lines(body: bytes) -> Lines:
    """Every line of these bytes."""
    endings: dict[bytes, int] = {}
    first: dict[bytes, int] = {}
    blocks: list[Block] = []
    bom = body.startswith(_BOM)
    at = block_at = len(_BOM) if bom else 0
    fields: list[Field] = []
    comments = count = 0
    cut = open_line = False
    size = len(body)
    while at < size:
        if count == LINES_LIMIT:
            cut = True
            break
        count += 1
        match = _LINE.match(body, at)
        assert match is not None
        end, after = match.end(1), match.end()
        ending = match[2]
        if ending:
            endings[ending] = endings.get(ending, 0) + 1
            first.setdefault(ending, end)
        else:
            open_line = end > at
        if end == at:
            if fields or comments:
                blocks.append(Block(block_at, after, fields, comments, closed=True))
            fields, comments, block_at = [], 0, after
        elif body[at] == 0x3A:
            comments += 1
        else:
            fields.append(_field(body, at, end))
        at = after
    if (fields or comments) and not cut:
        blocks.append(Block(block_at, size, fields, comments, closed=False))
    return Lines(blocks=blocks, endings=endings, first_ending=first, bom=bom, cut=cut, open_line=open_line)


def _field(body: bytes, at: int, end: int) -> Field:
    colon = body.find(b":", at, end)
    name_end = end if colon < 0 else colon
    name = bytes(body[at : min(name_end, at + 64)])
    if colon < 0:
        return Field(name, at, end, end, spaced=False, colon=False)
    spaced = body[colon + 1 : colon + 2] == b" " and colon + 1 < end
    return Field(name, at, colon + 1 + spaced, end, spaced=spaced, colon=True)
