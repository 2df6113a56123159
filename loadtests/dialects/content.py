"""JSON as services send it: looked into without ever raising.

What a target sends may have any shape, so every look says None where something is missing or of another kind.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

DECODE_ERRORS: Final = (msgspec.DecodeError, RecursionError)
"""What decoding may raise: broken JSON, and nesting deeper than the interpreter goes."""
DIGITS: Final = "0123456789"
LONGEST_NUMBER: Final = 18
"""Digits; longer ones are random ids, not counters, and do not fit into the rows' 64 bits."""

Path: TypeAlias = tuple[str, ...]

decode_json: Final[Callable[[str], object]] = msgspec.json.Decoder().decode


def walk(content: object, path: Path) -> object:
    """The value at a path of object fields and list positions, None if there is none."""
    for name in path:
        if isinstance(content, dict):
            content = content.get(name)
        elif isinstance(content, list) and name.isascii() and name.isdigit() and len(name) <= LONGEST_NUMBER:
            position = int(name)
            content = content[position] if position < len(content) else None
        else:
            return None
    return content


def field(content: object, *names: str) -> object:
    """The value at a path of object fields, None if there is none."""
    for name in names:
        if not isinstance(content, dict):
            return None
        content = content.get(name)
    return content


def text_field(content: object, *names: str) -> str:
    """The string at a path of object fields; empty where there is none, or something else."""
    value = field(content, *names)
    return value if isinstance(value, str) else ""


def items(value: object) -> Sequence[object]:
    """The members of a list; none of anything else."""
    return value if isinstance(value, list) else ()


def as_text(value: object) -> str:
    """A string as it is, nothing for null, JSON for anything else."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def as_number(value: object) -> int | None:
    """A sequence number: a whole number that is not negative, or a string of digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 10**LONGEST_NUMBER else None
    if isinstance(value, str) and value and not value.strip(DIGITS):
        return number_at_end(value)
    return None


def number_at_end(last_event_id: str) -> int | None:
    """The ASCII digits at the end of an id."""
    digits = last_event_id
    if not (digits.isdigit() and digits.isascii()):
        digits = last_event_id[len(last_event_id.rstrip(DIGITS)) :]
    return int(digits) if 0 < len(digits) <= LONGEST_NUMBER else None
