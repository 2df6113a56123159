"""Marks: outside events that somebody tells a run of, such as a pod that was killed. Shown beside what was measured.

Rules:
- A mark changes no verdict. Its text is made printable and bounded before it is written, and escaped where it is shown.
- It lies within its run: one that was before the run or after its end says nothing about it, and is refused or left out.
- `--marks FILE` is checked when the run begins and read when its load is over, so that others may write it meanwhile.
"""

import datetime as dt
import math
import re
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.refusals import in_plain_words, key_of
from sseproof.reports.words import count_of
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import MARKS, RUN_NAME, Appender, read_document
from sseproof.rundir.layout import LATEST
from sseproof.rundir.rows import MarkRow, RunInfo
from sseproof.rundir.text import printable
from sseproof.rundir.units import parse_duration

LONGEST_TEXT: Final = 500
LONGEST_SOURCE: Final = 100
MOST_FILE_BYTES: Final = 1 << 20
MOST_MARKS: Final = 1_000
SOURCE: Final = "sseproof mark"
_AFTER_START: Final = re.compile(r"\+(.+)")


class Taken(Struct, kw_only=True):
    """The answer of `sseproof mark --marks FILE`."""

    directory: str
    marks: list[MarkRow]
    left_out: int
    """Of another time than the run's."""

    def to_text(self) -> str:
        """What a person reads."""
        left = f" {count_of(self.left_out, 'mark')} of another time left out." if self.left_out else ""
        return f"Marked in {self.directory}: {count_of(len(self.marks), 'mark')}.{left}"


class _Line(Struct, forbid_unknown_fields=True):
    """One line of a marks file."""

    at: str | float | int
    text: str
    source: str = ""


def newest_run(out: Path) -> Path:
    """The run below a folder that began last. Raises UsageError when there is none."""
    found = [link.resolve() for link in out.glob(f"*/{LATEST}") if (link / RUN_NAME).is_file()]
    if not found:
        raise UsageError(
            f"There is no run in {out}: name its directory with --run, or the folder of runs with --out."
        )
    return max(found, key=lambda directory: read_document(directory / RUN_NAME, RunInfo, "run").started_ns)


def put_mark(directory: Path, text: str, *, at: str | None, source: str = SOURCE) -> MarkRow:
    """Writes one mark into a run that goes on or is over; `at` None is now.

    Raises UsageError for an empty text, and for a moment that is not one of the run.
    """
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    at_ns = now_ns() if at is None else _moment(at, info.started_ns)
    if info.ended_ns is not None and at is None:
        raise UsageError(
            f"The run in {directory} is over: say when it happened with --at, such as --at +12.5s (after its start) or "
            f"--at {_iso(info.started_ns)}."
        )
    if not info.started_ns <= at_ns <= (info.ended_ns or now_ns()):
        until = f"until {_iso(info.ended_ns)}" if info.ended_ns is not None else "until now"
        raise UsageError(
            f"{_iso(at_ns)} is no moment of the run in {directory}: it went from {_iso(info.started_ns)} {until}."
        )
    mark = _made(at_ns, text, source)
    _append(directory, info.run, [mark])
    return mark


def read_marks(path: Path, started_ns: int = 0) -> list[MarkRow]:
    """The marks of a JSONL file, in its order: {"at": "2026-11-27T14:03:05Z", "text": "pod killed"} a line.

    `at` is a moment with its zone, seconds since 1970, or "+12.5s" after the start of the run; `source` may say who says so.
    Raises UsageError naming the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    if len(content) > MOST_FILE_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: no run has so many outside events.")
    marks = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            each = msgspec.json.decode(line, type=_Line)
            marks.append(_made(_moment(each.at, started_ns), each.text, each.source or path.name))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, UsageError) as error:
            wrong = (
                in_plain_words(error, key_of(error))
                if isinstance(error, msgspec.ValidationError)
                else str(error)
            )
            raise UsageError(
                f"{path}, line {number}: {printable(wrong).rstrip('.')}; "
                'write {"at": "2026-11-27T14:03:05Z", "text": "pod killed"}.'
            ) from None
    if len(marks) > MOST_MARKS:
        raise UsageError(f"{path} has {len(marks)} marks: a run takes {MOST_MARKS}.")
    return marks


def put_marks(directory: Path, path: Path) -> Taken:
    """Writes a file's marks into a run that goes on or is over, but for those of another time.

    Raises UsageError for a bad line, and when no mark is of the run's time.
    """
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    marks = read_marks(path, info.started_ns)
    within = _within(marks, info)
    if not within:
        until = f"until {_iso(info.ended_ns)}" if info.ended_ns is not None else "until now"
        raise UsageError(
            f"{path} has no mark of the run in {directory}: it went from {_iso(info.started_ns)} {until}."
        )
    _append(directory, info.run, within)
    return Taken(directory=str(directory), marks=within, left_out=len(marks) - len(within))


def take_marks(path: Path, directory: Path, info: RunInfo) -> str:
    """Writes a file's marks of this run into it. Gives a sentence about what was left out, empty when nothing was."""
    try:
        marks = read_marks(path, info.started_ns)
    except UsageError as error:
        return f"No mark was taken: {error}"
    within = _within(marks, info)
    _append(directory, info.run, within)
    left = len(marks) - len(within)
    return f"{left} of {len(marks)} marks in {path} are of another time than this run." if left else ""


def _within(marks: list[MarkRow], info: RunInfo) -> list[MarkRow]:
    ended_ns = info.ended_ns or now_ns()
    return [mark for mark in marks if info.started_ns <= mark.at_ns <= ended_ns]


def _append(directory: Path, run: str, marks: list[MarkRow]) -> None:
    rows: Appender[MarkRow] = Appender(directory, MARKS, run)
    try:
        for mark in marks:
            rows.append(mark)
    finally:
        rows.close()


def _made(at_ns: int, text: str, source: str) -> MarkRow:
    """Raises UsageError for an empty text."""
    if not text.strip():
        raise UsageError('A mark needs a text, such as "pod killed".')
    return MarkRow(
        at_ns=at_ns,
        text=printable(" ".join(text.split()), LONGEST_TEXT),
        source=printable(" ".join(source.split()), LONGEST_SOURCE),
    )


def _moment(at: str | float, started_ns: int) -> int:
    """Raises UsageError for a text that names no moment."""
    if not isinstance(at, str):
        if not math.isfinite(at) or not 0 <= at < 1e10:
            raise UsageError(f"{at!r} is no number of seconds since 1970.")
        return round(at * 1e9)
    after = _AFTER_START.fullmatch(at.strip())
    try:
        if after is not None:
            return started_ns + parse_duration(after[1]).ns
        moment = dt.datetime.fromisoformat(at.strip())
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1e9)
        why = "it has no zone"
    except (ValueError, OverflowError, OSError) as error:
        why = printable(str(error), 80)
    raise UsageError(
        f"{printable(at, 60)!r} is no moment ({why}): write 2026-11-27T14:03:05Z, or +12.5s for a time after the start of "
        "the run."
    )


def _iso(ns: int) -> str:
    at = dt.datetime.fromtimestamp(ns / 1e9, tz=dt.UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns // 1_000_000 % 1_000:03d}Z"
