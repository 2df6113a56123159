"""Payload files: one row for each stream, put into URL, headers and body where the scenario says `{payload:FIELD}`.

Rules:
- JSONL (an object a line) or CSV (its first line names the fields). A row that can't be read is named by its line.
- Which stream gets which row follows from the seed and the stream's number alone, whatever worker runs it: each pass over
  the file takes every row once, in an order of its own.
- A value is written as its place needs it: inside a JSON body as the inside of a JSON string (numbers, lists and objects
  as JSON), percent-encoded in a URL and in a form, as it is elsewhere. No value can become a reference to the environment.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from sseproof.loadtests.request import HEADER_VALUE_REFUSED
from sseproof.rundir.errors import UsageError
from sseproof.rundir.seeds import named_random

Payload = Mapping[str, Any]

LARGEST_FILE_BYTES: Final = 64 << 20
"""Each worker holds the rows in memory."""
MOST_ROWS: Final = 100_000
_FIELD: Final = re.compile(r"\{payload:([^{}:]+)\}")
_PASSES_KEPT: Final = 4


def fields_of(text: str) -> list[str]:
    """The fields that a text refers to, in order."""
    return _FIELD.findall(text)


def filled(text: str, payload: Payload, write: Callable[[Any], str]) -> str:
    """The text with every `{payload:FIELD}` replaced by what `write` makes of the value."""
    return _FIELD.sub(lambda match: write(payload[match.group(1)]), text)


def plainly(value: Any) -> str:
    """As it is: in headers, and in bodies of no known kind."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def in_json(value: Any) -> str:
    """Inside a JSON body: the inside of a string, or any other value as JSON."""
    return json.dumps(value, ensure_ascii=False)[1:-1] if isinstance(value, str) else json.dumps(value)


def in_url(value: Any) -> str:
    """Inside a URL."""
    return quote(plainly(value), safe="")


def in_form(value: Any) -> str:
    """Inside a body of application/x-www-form-urlencoded."""
    return quote_plus(plainly(value))


def writer_for(headers: Mapping[str, str]) -> Callable[[Any], str]:
    """How values are written into a body with these request headers; without a Content-Type it is JSON."""
    kinds = [value.lower() for name, value in headers.items() if name.lower() == "content-type"]
    if not kinds or "json" in kinds[0]:
        return in_json
    return in_form if "x-www-form-urlencoded" in kinds[0] else plainly


class Payloads:
    """The rows of a file, and which stream gets which."""

    def __init__(self, rows: Sequence[Payload], seed: int) -> None:
        self.rows = rows
        self._seed = seed

    def index_of(self, stream: int) -> int:
        """The row of this stream, from 0."""
        number, place = divmod(stream, len(self.rows))
        return _order(self._seed, number, len(self.rows))[place]


@lru_cache(maxsize=_PASSES_KEPT)
def _order(seed: int, number: int, rows: int) -> tuple[int, ...]:
    """The rows of one pass over the file."""
    order = list(range(rows))
    named_random(seed, "payloads", number).shuffle(order)
    return tuple(order)


def read_payloads(path: Path, wanted: Sequence[str] = (), in_headers: Sequence[str] = ()) -> list[Payload]:
    """The rows of a .jsonl or .csv file, each with the wanted fields.

    Raises UsageError, naming file and line, for a row that can't be read, lacks a field, or whose value can't stand in a
    header.
    """
    text = _text_of(path)
    numbered = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(path, text)
    if not numbered:
        raise UsageError(f"{path} holds no payload; write one a line.")
    if len(numbered) > MOST_ROWS:
        raise UsageError(f"{path} holds {len(numbered):,} payloads; {MOST_ROWS:,} are the most.")
    for line, row in numbered:
        for field in wanted:
            if field not in row:
                raise UsageError(
                    f"{path}, line {line}: there is no field {field!r}, which the target asks for."
                )
        for field in in_headers:
            if HEADER_VALUE_REFUSED.search(plainly(row[field])):
                raise UsageError(
                    f"{path}, line {line}: the field {field!r} holds a line break or another control character, "
                    "which no header can."
                )
    return [row for _, row in numbered]


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError(
                f"{path} is larger than {LARGEST_FILE_BYTES >> 20} MiB, which every worker would hold."
            )
        return path.read_bytes().decode("utf-8-sig")  # a line end inside a quoted cell stays what it is
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from None


def _json_rows(path: Path, text: str) -> list[tuple[int, Payload]]:
    rows: list[tuple[int, Payload]] = []
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            row = json.loads(written)
        except (ValueError, RecursionError):
            raise UsageError(f"{path}, line {line} is not JSON; write one object a line.") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {line} is JSON but no object; write one object a line.")
        try:
            # json.loads takes more than can be sent: half of a surrogate pair, NaN, and numbers that become infinite.
            json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            why = "half a surrogate pair" if isinstance(error, UnicodeError) else "NaN or an infinite number"
            raise UsageError(f"{path}, line {line} holds {why}, which no request can carry.") from None
        rows.append((line, row))
    return rows


def _csv_rows(path: Path, text: str) -> list[tuple[int, Payload]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, Payload]] = []
    names: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            raise UsageError(f"{path}, line {line} is not CSV: {error}.") from None
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [cell.strip() for cell in cells]
            twice = [name for name, times in Counter(names).items() if name and times > 1]
            if twice:
                raise UsageError(f"{path}, line {line} names the field {twice[0]!r} twice; rename one.")
            continue
        if len(cells) != len(names):
            raise UsageError(
                f"{path}, line {line} has {len(cells)} cells, the first line names {len(names)} fields."
            )
        rows.append((line, dict(zip(names, cells, strict=True))))
