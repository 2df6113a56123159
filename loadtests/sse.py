"""Bytes in, events out: the event stream parser of the HTML Standard, section 9.2, without I/O.

Rules (numbers as in the conformance table, tests/data/sse/conformance.toml):
- Lines are found in bytes and decoded afterwards: a character cut between two reads never looks broken (L08).
- How the bytes are cut into reads never changes the items or the final state (L17).
- An event leaves with its last byte: a CR at the end of a read ends its line at once, an LF after it is swallowed (L11).
- What is wrong with the bytes is an item, a `Defect`, never an exception: the caller counts, the parser goes on.
- Memory is bounded: comments and unknown fields are dropped as they come, everything else counts against
  `max_event_bytes`, beyond which the parser is dead. Each byte is looked at a constant number of times.
- One parser a connection; only the last event id and the reconnection time outlive it (C26).

Three paths give the same items: `_SIMPLE` takes a read that is one event of the commonest form (half a µs), `_ORDINARY`
finds whole ordinary events (about 1 µs), `_walk` takes any piece of any stream and is where the standard's rules are
written down.
"""

import codecs
import re
from typing import Final, Literal, TypeAlias

from msgspec import Struct

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""An event beyond this is an attack or a mistake: models send images of a few MB in one event at most."""
COMMENT_LIMIT_BYTES: Final = 4096
"""What is kept of a comment line, its colon included: enough to read it, too little to fill memory with."""
LISTED_PER_LINE: Final = 16
"""Ill-formed sequences of one line that get an item each; one more item counts the rest of the line."""
LONGEST_RETRY_MS: Final = 24 * 3600 * 1000
"""One day (A3); a longer reconnection time is a slip of the unit or an attack."""

DefectKind = Literal[
    "invalid-utf8",
    "nul-in-id",
    "id-not-sendable",
    "id-spaces",
    "bad-retry",
    "huge-retry",
    "interior-bom",
    "unterminated-character",
    "unterminated-line",
    "unterminated-event",
    "too-big",
]
ILL_FORMED: Final[frozenset[DefectKind]] = frozenset({"invalid-utf8", "unterminated-character", "too-big"})
"""The bytes themselves are wrong; every other kind is a warning for the record."""


class Message(Struct, frozen=True, gc=False):
    """One dispatched event."""

    type: str
    """Never empty; `message` when the block named none."""
    data: str
    last_event_id: str
    """The id a reconnection after this event would send; it may come from an earlier block."""
    end: int
    """Offset in the stream just after the byte that completed the event (of a CRLF that is the CR: L11)."""
    has_id: bool
    """The block carried an accepted id field of its own."""


class Comment(Struct, frozen=True, gc=False):
    """One comment line: how most services keep a quiet connection open."""

    text: str
    """Without the colon and one space after it, cut at COMMENT_LIMIT_BYTES."""
    end: int


class Retry(Struct, frozen=True, gc=False):
    """The server set the reconnection time; valid from the end of its line, without a blank line (F18)."""

    ms: int
    end: int


class Defect(Struct, frozen=True, gc=False):
    """Something wrong in the bytes.

    `offset` is the ill-formed sequence's own for the kinds about characters, the first byte beyond the limit for
    `too-big`, the first byte of the block for `unterminated-event`, and that of the line for all others.
    """

    kind: DefectKind
    offset: int
    count: int = 1
    """More than 1 only for the rest of a line with many ill-formed sequences; `offset` is then the first one's."""


Item: TypeAlias = Message | Comment | Retry | Defect

_LF: Final = 0x0A
_CR: Final = 0x0D
_BOM: Final = codecs.BOM_UTF8
_FIELDS: Final = frozenset({b"data", b"event", b"id", b"retry"})
_BEGINNINGS: Final = frozenset(name[:size] for name in _FIELDS for size in range(1, len(name) + 1))
_LONGEST_NAME: Final = max(map(len, _FIELDS))

# An ordinary event: data lines in one piece, an id and a type at most before or behind them, all ended alike. Everything
# else, defects and comments included, goes the thorough way. Values are possessive and a line matches in one way only,
# so a mismatch costs one look at the block; `re` keeps about 130 bytes for each repetition, so those are bounded.
# "Anything but one byte" is what `re` scans fastest by far; a value with the other half of a line end in it is found
# afterwards, where it is cheap (`_Style.foreign`).
_ORDINARY: Final = (
    rb"(?:id:[ ]?+(V)N)?(?:event:[ ]?+(V)N)?(?:id:[ ]?+(V)N)?data:[ ]?+(V)N((?:data:[ ]?+VN){0,255})"
    rb"((?:(?:id|event):VN){0,2})N"
)
_BLANK: Final = re.compile(rb"\n\r?\n")
# The commonest of them alone in its read: decoded at once, because three small calls cost more than a long one.
_SIMPLE: Final = re.compile(
    r"(?:id:[ ]?+([^\n]*+)\n)?+(?:event:[ ]?+([^\n]*+)\n)?+data:[ ]?+([^\n]*+)\n\n"
).fullmatch
# Several of them, and what is left from the first byte on that is none.
_RUN: Final = re.compile(
    r"(?:id:[ ]?+([^\n]*+)\n)?+(?:event:[ ]?+([^\n]*+)\n)?+data:[ ]?+([^\n]*+)\n\n|(.+)", re.DOTALL
).findall


class _Style:
    """How the fast path reads streams of one kind of line end."""

    __slots__ = ("after", "data_lines", "fields", "foreign", "match")

    def __init__(self, newline: bytes, value: bytes, foreign: str) -> None:
        self.match = re.compile(_ORDINARY.replace(b"V", value).replace(b"N", newline)).match
        self.data_lines = re.compile(f"data:[ ]?+({value.decode()}){newline.decode()}").findall
        self.fields = re.compile(b"(id|event):[ ]?+(" + value + b")" + newline).findall
        self.foreign = foreign
        """A line end that the pattern takes for a part of a value."""
        self.after = len(newline) - 1
        """Bytes of the blank line behind the one that completes the event (L11)."""


_LF_STYLE: Final = _Style(b"\n", rb"[^\n]*+", foreign="\r")
_CRLF_STYLE: Final = _Style(b"\r\n", rb"[^\r]*+", foreign="\n")

# What an unfinished line is known to be.
_NONE: Final = 0  # there is none
_UNDECIDED: Final = 1  # so far the beginning of a field's name
_FIELD: Final = 2  # a known name and its colon: kept
_COMMENT: Final = 3  # its first bytes are kept
_UNKNOWN: Final = 4  # only enough is kept to see a byte order mark
_KEPT_BYTES: Final = {_COMMENT: COMMENT_LIMIT_BYTES + 1, _UNKNOWN: len(_BOM)}


def sendable(last_event_id: str) -> bool:
    """Whether the id can go into a Last-Event-ID header: no control characters but tab (RFC 9110 5.5, A5)."""
    return last_event_id.isprintable() or not any(
        (char < " " and char != "\t") or char == "\x7f" for char in last_event_id
    )


def ends_in_char(tail: bytes) -> bool:
    """Whether bytes end inside a multi-byte character that can still become whole; the last three are enough."""
    if not tail or tail[-1] < 0x80:
        return False
    left = tail[codecs.utf_8_decode(tail, "replace", False)[1] :]
    # Python's decoder holds half a surrogate pair back for its own surrogatepass; here it can never become whole.
    return bool(left) and not (left[0] == 0xED and left[1:] >= b"\xa0")


class Parser:
    """Parses one connection's event stream; pure, and cheap enough to be one of ten thousand.

    `last_event_id` and `retry_ms` (None until the server sets it) are what a reconnection needs.
    `dead` is True once an event was too big: nothing is delivered any more, close the connection (C29).
    """

    __slots__ = (
        "_bad",
        "_bad_more",
        "_bad_more_at",
        "_block_at",
        "_carry",
        "_clean",
        "_closed",
        "_data",
        "_has_data",
        "_head",
        "_id",
        "_id_bytes",
        "_kind",
        "_line",
        "_line_at",
        "_max",
        "_own_id",
        "_skip_lf",
        "_style",
        "_tail",
        "_type",
        "_type_bytes",
        "dead",
        "ended_in_data",
        "last_event_id",
        "offset",
        "retry_ms",
    )

    def __init__(self, last_event_id: str = "", max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        """Starts at the first byte of a response body, with the id kept from the connection before (F16).

        Raises ValueError for a limit below one byte.
        """
        if max_event_bytes < 1:
            raise ValueError(f"max_event_bytes is {max_event_bytes}: an event has at least one byte")
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self.dead = False
        self.ended_in_data = False
        """Known after `close`: what was dropped then had a data field, or had begun one. An event was cut off."""
        self.offset = 0
        """Bytes received."""
        self._max = max_event_bytes
        self._closed = False
        self._clean = False  # at the start of a block with nothing held back: the fast path may be taken
        self._head: bytes | None = b""  # the stream's first bytes while they may be a byte order mark
        self._style = _LF_STYLE  # of the bytes before
        self._skip_lf = False  # the last byte was a CR
        self._tail = b""  # up to three last bytes when the last one is not ASCII
        # the unfinished line
        self._kind = _NONE
        self._line = bytearray()
        self._line_at = 0
        self._carry = b""  # an unfinished character of a line that is not kept
        self._bad = 0  # ill-formed sequences of this line that got an item
        self._bad_more = 0  # and those that did not
        self._bad_more_at = 0
        # the unfinished block
        self._block_at = -1
        self._data = bytearray()
        self._has_data = False
        self._type = ""
        self._type_bytes = 0
        self._id = last_event_id
        self._id_bytes = 0
        self._own_id = False

    @property
    def pending_bytes(self) -> int:
        """Memory held for the unfinished event."""
        if self._clean:
            return 0
        return len(self._line) + self._block_bytes() + len(self._head or b"") + len(self._carry)

    @property
    def in_event(self) -> bool:
        """The last byte received lies inside a line, or inside a block that has fields."""
        return self._kind != _NONE or self._block_at >= 0 or bool(self._head)

    @property
    def in_char(self) -> bool:
        """The last byte received lies inside a multi-byte character: more of it must come."""
        return ends_in_char(self._tail)

    def receive(self, data: bytes) -> list[Item]:
        """The items that these bytes complete, in the order of the stream; nothing once dead or closed."""
        items: list[Item] = []
        at = self.offset
        size = len(data)
        self.offset = at + size
        if self._clean:
            # A live stream comes one whole event a read.
            style = self._style
            if style is _LF_STYLE and size <= self._max:
                message = self._simple(data)
                if message is not None:
                    return [message]
            match = style.match(data)
            if match and match.end() == size <= self._max and self._event(match, at, style, items):
                return items
            self._blocks(data, 0, at, items)
        else:
            here = self._continue(data, at, items)
            if here < size:
                self._blocks(data, here, at, items)
        if size:
            self._tail = b"" if data[-1] < 0x80 else (self._tail + data[-3:])[-3:]
        return items

    def run(self, data: bytes) -> "list[tuple[str, str, str, str]] | None":
        """(id, type, data, "") of these bytes' events, if all are whole and of the commonest form; changes nothing.

        An id or type that did not come is empty; either all events have an id or none. None for anything else.
        `take_run` then takes them; `receive` would give the same, an event at a time.
        """
        if not self._clean or len(data) > self._max:
            return None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        if "\r" in text:
            return None
        blocks: list[tuple[str, str, str, str]] = _RUN(text)
        if not blocks or blocks[-1][3]:
            return None
        ids = [block[0] for block in blocks]
        if "" in ids:
            # An empty id that was sent is not one that was not.
            return None if "id:" in text else blocks
        joined = "".join(ids)
        plain = joined.isdigit() or (joined.isprintable() and all(each.strip() == each for each in ids))
        return blocks if plain else None

    def take_run(self, size: int, last_event_id: str) -> None:
        """Takes the bytes that `run` was shown; `last_event_id` is that of their last event, empty for none."""
        self.offset += size
        if last_event_id:
            self.last_event_id = self._id = last_event_id

    def close(self) -> list[Item]:
        """The stream has ended: what was unfinished is dropped, as the standard says, and named (L15, L16)."""
        items: list[Item] = []
        if self.dead or self._closed:
            return items
        if self._head:
            self._walk(self._head, 0, items)
        if self._kind in {_FIELD, _UNDECIDED}:
            used = self._check(self._line, self._line_at, False, items)
            self._carry = bytes(self._line[used:])
        if self._carry and not ends_in_char(self._carry):
            self._check(self._carry, self.offset - len(self._carry), True, items)
            self._carry = b""
        self._report_more(items)
        if self._carry:
            items.append(Defect("unterminated-character", self.offset - len(self._carry)))
        if self._kind != _NONE:
            items.append(Defect("unterminated-line", self._line_at))
        if self._block_at >= 0:
            items.append(Defect("unterminated-event", self._block_at))
        self.ended_in_data = self._has_data or self._line.startswith(b"data:") or self._line == b"data"
        self._forget()
        self._closed = True
        return items

    # Whole blocks: the fast paths.

    def _simple(self, data: bytes) -> Message | None:
        """A read that is one event of the commonest form; None, and nothing has changed, for anything else."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        match = None if "\r" in text else _SIMPLE(text)
        if match is None:
            return None
        own, kind, value = match.groups()
        kind = kind or "message"
        if own is None:
            return Message(kind, value, self.last_event_id, self.offset, False)
        # Digits, the usual id, are printable and no spaces.
        if not own.isdigit() and (not own.isprintable() or own.strip() != own):
            return None
        self.last_event_id = self._id = own
        return Message(kind, value, own, self.offset, True)

    def _blocks(self, data: bytes, here: int, at: int, items: list[Item]) -> None:
        """The bytes from index `here`, the start of a block, on; `at` is the offset of index 0."""
        style = _LF_STYLE
        if b"\r" in data and data.count(b"\r", here) == data.count(b"\n", here) == data.count(b"\r\n", here):
            style = _CRLF_STYLE
        self._style = style
        size = len(data)
        while here < size:
            match = style.match(data, here)
            if match and match.end() - here <= self._max and self._event(match, at, style, items):
                here = match.end()
            else:
                here = self._walk_block(data, here, at, items)

    def _event(self, match: re.Match[bytes], at: int, style: "_Style", items: list[Item]) -> bool:
        """One whole ordinary event; False, and nothing has changed, if it needs `_walk` all the same."""
        own, kind, late_own, value, more, behind = match.groups()
        if late_own is not None:
            if own is not None:
                return False
            own = late_own
        for field, late in style.fields(behind) if behind else ():
            # What a later field replaces may hide a defect: two of a kind go the thorough way.
            if field == b"id" and own is None:
                own = late
            elif field == b"event" and kind is None:
                kind = late
            else:
                return False
        try:
            data = value.decode()
            name = kind.decode() if kind else "message"
            if style.foreign in data or not name.isprintable():
                return False
            if more:
                lines = style.data_lines(more.decode())
                if style.foreign in "".join(lines):
                    return False
                data = "\n".join([data, *lines])
            end = at + match.end() - style.after
            if own is None:
                items.append(Message(name, data, self.last_event_id, end, False))
                return True
            last_event_id = own.decode()
        except UnicodeDecodeError:
            return False
        if not last_event_id.isprintable() or last_event_id.strip() != last_event_id:
            return False
        self.last_event_id = self._id = last_event_id
        items.append(Message(name, data, last_event_id, end, True))
        return True

    def _walk_block(self, data: bytes, here: int, at: int, items: list[Item]) -> int:
        """By `_walk` up to a blank line, where the fast path may go on; gives the index reached."""
        blank = _BLANK.search(data, here)
        cut = blank.end() if blank else len(data)
        self._walk(data[here:cut], at + here, items)
        return len(data) if self.dead else cut

    def _continue(self, data: bytes, at: int, items: list[Item]) -> int:
        """What follows something unfinished, up to where the fast path may go on; gives the index reached."""
        if self.dead or self._closed:
            return len(data)
        head = self._head
        if head is not None:
            start = head + data[: len(_BOM)]
            if len(start) < len(_BOM) and _BOM.startswith(start):
                self._head = start
                return len(data)
            self._head = None
            self._clean = True
            if start.startswith(_BOM):
                return len(_BOM) - len(head)
            if not head:
                return 0
            self._walk(head, 0, items)
        return self._walk_block(data, 0, at, items)

    # Lines, whole or in pieces: the standard's algorithm.

    def _walk(self, data: bytes, at: int, items: list[Item]) -> None:
        """Any piece of the stream; `at` is the offset of its first byte."""
        size = len(data)
        here = 0
        if self._skip_lf and size:
            self._skip_lf = False
            here = 1 if data[0] == _LF else 0
        lf = data.find(b"\n", here)
        cr = data.find(b"\r", here)
        while lf >= 0 or cr >= 0:
            if cr < 0 or 0 <= lf < cr:
                stop = lf
                after = stop + 1
            else:
                stop = cr
                after = stop + 1
                if after == size:
                    self._skip_lf = True
                elif data[after] == _LF:
                    after += 1
            if stop > here:
                self._piece(data[here:stop], at + here, items)
                if self.dead:
                    return
            self._end_line(at + stop, at + stop + 1, items)
            if self.dead:
                return
            here = after
            if 0 <= lf < here:
                lf = data.find(b"\n", here)
            if 0 <= cr < here:
                cr = data.find(b"\r", here)
        if here < size:
            self._piece(data[here:], at + here, items)
        self._clean = not (self._kind or self._block_at >= 0 or self._skip_lf or self.dead)

    def _piece(self, piece: bytes, at: int, items: list[Item]) -> None:
        """A piece of a line, not empty, without its end."""
        line = self._line
        kind = self._kind
        if kind == _NONE:
            self._line_at = at
        if kind in {_NONE, _UNDECIDED}:
            piece = bytes(line) + piece
            at = self._line_at
            line.clear()
            kind = self._kind = _kind_of(piece)
        if kind in _KEPT_BYTES:
            self._skim(piece, at, items)
            return
        line += piece
        if kind == _FIELD:
            self._limit(items)

    def _skim(self, piece: bytes, at: int, items: list[Item]) -> None:
        """A piece of a comment or an unknown field: looked at for defects, hardly kept."""
        line = self._line
        room = _KEPT_BYTES[self._kind] - len(line)
        if room > 0:
            line += piece[:room]
            if self._kind == _UNKNOWN and line == _BOM:
                items.append(Defect("interior-bom", self._line_at))
        if self._carry or not piece.isascii():
            text = self._carry + piece
            used = self._check(text, at - len(self._carry), False, items)
            self._carry = text[used:]

    def _end_line(self, at: int, end: int, items: list[Item]) -> None:
        """The line has ended before offset `at`; `end` is just after the byte that ended it."""
        kind = self._kind
        if kind == _NONE:
            self._end_block(end, items)
            return
        if kind == _UNDECIDED:
            kind = _FIELD if bytes(self._line) in _FIELDS else _UNKNOWN
        if kind == _FIELD:
            if self._limit(items):
                return
            if not self._line.isascii():
                self._check(self._line, self._line_at, True, items)
        elif self._carry:
            self._check(self._carry, at - len(self._carry), True, items)
        self._report_more(items)
        if kind == _FIELD:
            self._field(end, items)
        elif kind == _COMMENT:
            items.append(Comment(_comment_text(self._line), end))
        self._kind = _NONE
        self._line.clear()
        self._carry = b""
        self._bad = 0

    def _field(self, end: int, items: list[Item]) -> None:
        """The whole line of a known field."""
        line = self._line
        colon = line.find(b":")
        name = bytes(line if colon < 0 else line[:colon])
        start = len(line) if colon < 0 else colon + 1
        if line[start : start + 1] == b" ":
            start += 1
        if name == b"retry":
            self._retry(bytes(line[start:]), end, items)
            return
        if name == b"data":
            with memoryview(line) as view:
                self._data += view[start:]
            self._data.append(_LF)
            self._has_data = True
        elif name == b"event":
            self._type = line[start:].decode("utf-8", "replace")
            self._type_bytes = len(line) - start
        elif not self._set_id(line[start:].decode("utf-8", "replace"), len(line) - start, items):
            return
        if self._block_at < 0:
            self._block_at = self._line_at

    def _set_id(self, value: str, size: int, items: list[Item]) -> bool:
        """False if the field is ignored (F11)."""
        if "\0" in value:
            items.append(Defect("nul-in-id", self._line_at))
            return False
        if not sendable(value):
            items.append(Defect("id-not-sendable", self._line_at))
        if value.strip(" \t") != value:
            items.append(Defect("id-spaces", self._line_at))
        self._id = value
        self._id_bytes = size
        self._own_id = True
        return True

    def _retry(self, value: bytes, end: int, items: list[Item]) -> None:
        """F17, A1, A3; bytes.isdigit knows ASCII digits only."""
        if not value.isdigit():
            items.append(Defect("bad-retry", self._line_at))
            return
        digits = value.lstrip(b"0") or b"0"
        # Python refuses to convert very long digit strings; nothing above nine digits is below a day.
        ms = int(digits) if len(digits) <= 9 else LONGEST_RETRY_MS + 1
        if ms > LONGEST_RETRY_MS:
            items.append(Defect("huge-retry", self._line_at))
            ms = LONGEST_RETRY_MS
        self.retry_ms = ms
        items.append(Retry(ms, end))

    def _end_block(self, end: int, items: list[Item]) -> None:
        """A blank line: the id is committed even without data (F13), the type is cleared even so (F10)."""
        self.last_event_id = self._id
        if self._has_data:
            data = self._data
            del data[-1]
            text = data.decode("utf-8", "replace")
            items.append(Message(self._type or "message", text, self._id, end, self._own_id))
        if self._block_at >= 0:
            self._clear_block()

    # Ill-formed bytes and limits.

    def _check(self, text: bytes | bytearray, at: int, final: bool, items: list[Item]) -> int:
        """Names the ill-formed sequences of `text`, which starts at offset `at`, in a Defect each.

        Gives how many bytes were judged: all, or, if not `final`, all but an unfinished character at the end.
        Sequences are the decoder's own maximal subparts, so they are as many as there are U+FFFD put in (L07).
        """
        start = 0
        with memoryview(text) as view:
            while True:
                try:
                    return start + codecs.utf_8_decode(view[start:], "strict", final)[1]
                except UnicodeDecodeError as error:
                    bad = start + error.start
                    start += error.end
                if self._bad == LISTED_PER_LINE:
                    break
                self._bad += 1
                items.append(Defect("invalid-utf8", at + bad))
            # Too many to list: replacing and counting stays linear.
            if not self._bad_more:
                self._bad_more_at = at + bad
            decoded, used = codecs.utf_8_decode(view[start:], "replace", final)
            replaced = decoded.count("\ufffd") - bytes(view[start : start + used]).count(b"\xef\xbf\xbd")
            self._bad_more += 1 + replaced
            return start + used

    def _report_more(self, items: list[Item]) -> None:
        """The ill-formed sequences of the line beyond those that were listed."""
        if self._bad_more:
            items.append(Defect("invalid-utf8", self._bad_more_at, self._bad_more))
            self._bad_more = 0

    def _block_bytes(self) -> int:
        return len(self._data) + self._type_bytes + self._id_bytes

    def _limit(self, items: list[Item]) -> bool:
        """Whether the event has become too big; the parser is then dead and holds nothing."""
        room = self._max - self._block_bytes()
        if len(self._line) <= room:
            return False
        items.append(Defect("too-big", self._line_at + room))
        self._forget()
        self.dead = True
        return True

    def _clear_block(self) -> None:
        self._block_at = -1
        self._data.clear()
        self._has_data = False
        self._type = ""
        self._type_bytes = 0
        self._id_bytes = 0
        self._own_id = False

    def _forget(self) -> None:
        self._clear_block()
        self._clean = False
        self._head = None
        self._skip_lf = False
        self._kind = _NONE
        self._line.clear()
        self._carry = b""
        self._bad = 0


def _kind_of(line: bytes) -> int:
    """What a line is, as far as its first bytes tell."""
    colon = line.find(b":", 0, _LONGEST_NAME + 1)
    if colon == 0:
        return _COMMENT
    if colon > 0:
        return _FIELD if line[:colon] in _FIELDS else _UNKNOWN
    return _UNDECIDED if line in _BEGINNINGS else _UNKNOWN


def _comment_text(line: bytearray) -> str:
    """The comment without its colon and one space; a character cut by the limit is left out."""
    whole = len(line) <= COMMENT_LIMIT_BYTES
    start = 2 if line[1:2] == b" " else 1
    return codecs.utf_8_decode(line[start:COMMENT_LIMIT_BYTES], "replace", whole)[0]
