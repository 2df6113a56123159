"""Events to bytes: the mirror of the parser (HTML Standard, section 9.2), sharing its conformance table.

Rules:
- What can't be expressed on the wire is refused, never bent: parsing the bytes gives back what was encoded (P2).
- Data is split at every LF, CR and CRLF into lines of its own; all three come back as LF, the format knows no other.
- Fields go out in one order: comment, retry, id, event, data. Their order means nothing to a client (F23).
"""

import re
from typing import Final, Literal

Newline = Literal["\n", "\r\n", "\r"]

_NEWLINES: Final = frozenset({"\n", "\r\n", "\r"})
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def encode(
    type: str = "message",  # noqa: A002  # the field's own name, on both sides of the wire
    data: str | None = "",
    *,
    id: str | None = None,  # noqa: A002  # the same
    retry_ms: int | None = None,
    comment: str | None = None,
    newline: Newline = "\n",
    bom: bool = False,
    space: bool = True,
) -> bytes:
    """One block with its blank line, ready for the wire.

    `data=None` leaves the data line out: such a block sets id and retry and dispatches nothing (F08, F13); "" is one
    empty data line and dispatches an empty event. `id=""` resets the client's id (F12). `space=False` leaves out the
    space after colons where the value allows it. `bom` belongs before a stream's first block only.

    Raises ValueError for what the format can't express: NUL or a line end in an id, a line end in a type, an empty
    type, a negative retry, lone surrogates, another newline than LF, CRLF or CR.
    """
    if newline not in _NEWLINES:
        raise ValueError(f"newline is {newline!r}; the format knows LF, CRLF and CR")
    lines: list[str] = []
    if comment is not None:
        lines += [_line("", part, space) for part in _LINE_END.split(comment)]
    if retry_ms is not None:
        lines.append(_line("retry", _retry(retry_ms), space))
    if id is not None:
        lines.append(_line("id", _id(id), space))
    if type != "message":
        lines.append(_line("event", _type(type), space))
    if data is not None:
        lines += [_line("data", part, space) for part in _LINE_END.split(data)]
    lines.append("")
    try:
        block = newline.join([*lines, ""]).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{error.object[error.start : error.end]!r} has no UTF-8: half a surrogate pair"
        ) from error
    return b"\xef\xbb\xbf" + block if bom else block


def encode_comment(text: str = "", newline: Newline = "\n") -> bytes:
    """A comment with its blank line, the usual heartbeat; it dispatches nothing.

    Raises ValueError as `encode` does.
    """
    return encode(data=None, comment=text, newline=newline)


def _line(name: str, value: str, space: bool) -> str:
    # One space after the colon is eaten by the client, so a value that starts with one always gets it.
    return f"{name}: {value}" if space or value.startswith(" ") else f"{name}:{value}"


def _retry(retry_ms: int) -> str:
    if isinstance(retry_ms, bool) or not isinstance(retry_ms, int) or retry_ms < 0:
        raise ValueError(f"retry_ms is {retry_ms!r}; it is a whole number of milliseconds, 0 or more")
    return str(retry_ms)


def _id(value: str) -> str:
    if "\0" in value or _LINE_END.search(value):
        raise ValueError(f"the id {value!r} can't be sent: an id holds neither NUL nor line ends")
    return value


def _type(value: str) -> str:
    if not value or _LINE_END.search(value):
        raise ValueError(f"the type {value!r} can't be sent: a type is not empty and holds no line ends")
    return value
