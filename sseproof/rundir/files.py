"""Appending and reading the files of a run directory (design.md "Run directory").

Rules:
- Every process appends its own rows: one `write` a row on an O_APPEND descriptor, so rows of several processes never
  mix. A row is on disk (in the page cache) when `append` returns; SIGKILL of the writer loses nothing before it.
- A SIGKILL or a full disk can tear the one row being written. The next writer's row then stands on the same line;
  the reader finds it again by the head that every row of the file starts with, and counts what was torn.
- Each file's first row names schema and version. Older versions are upgraded row by row, newer ones are refused.
- A file that was cut between two rows looks whole: run.json says at the end how many lines each has (`lines_of`).
- JSON documents (plan.json, run.json, verdict.json) are replaced whole: written beside and renamed.
"""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, Generic, TypeVar

import msgspec

from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.rows import (
    SCHEMA_PREFIX,
    SCHEMA_VERSION,
    BreakRow,
    BrowserRow,
    FaultRow,
    GeneratorRow,
    Header,
    MarkRow,
    OpenRow,
    Plan,
    Row,
    RunInfo,
    StartRow,
    StreamRecord,
    WitnessRow,
)

R = TypeVar("R", bound=Row)
D = TypeVar("D", Plan, RunInfo)

LARGEST_ROW_BYTES: Final = 16 * 1024 * 1024
"""A line longer than this is damage: our own rows are capped far below."""

Upgrade = Callable[[dict[str, object]], dict[str, object]]
UPGRADES: Final[dict[tuple[str, int], Upgrade]] = {}
"""(schema, version) -> how a row or document of that version becomes one of the next; filled when version 2 comes."""


class RowFile(msgspec.Struct, Generic[R], frozen=True):
    """One JSONL file of the run directory and the type of its rows."""

    name: str
    schema: str
    type: type[R]

    @property
    def head(self) -> bytes:
        """What every row on disk starts with: the first field's key."""
        first = self.type.__struct_fields__[0]
        return b'{"' + first.encode() + b'":'


STARTS: Final = RowFile("starts.jsonl", "starts", StartRow)
STREAMS: Final = RowFile("streams.jsonl", "streams", StreamRecord)
BREAKS: Final = RowFile("breaks.jsonl", "breaks", BreakRow)
FAULTS: Final = RowFile("faults.jsonl", "faults", FaultRow)
WITNESS: Final = RowFile("witness.jsonl", "witness", WitnessRow)
GENERATOR: Final = RowFile("generator.jsonl", "generator", GeneratorRow)
OPEN: Final = RowFile("open.jsonl", "open", OpenRow)
MARKS: Final = RowFile("marks.jsonl", "marks", MarkRow)
BROWSERS: Final = RowFile("browsers.jsonl", "browsers", BrowserRow)
"""Only in runs whose users are browsers."""
ROW_FILES: Final[tuple[RowFile[Row], ...]] = (
    STARTS,
    STREAMS,
    BREAKS,
    FAULTS,
    WITNESS,
    GENERATOR,
    OPEN,
    MARKS,
)  # type: ignore[assignment]  # invariant only in theory: frozen

PLAN_NAME: Final = "plan.json"
RUN_NAME: Final = "run.json"
SERIES_NAME: Final = "series.hlog"
VERDICT_NAME: Final = "verdict.json"
LOG_NAME: Final = "run.log"
ENOUGH_NAME: Final = "enough"
"""Empty; made when a run that goes on until its claims are decided has no need of further streams."""
REPORT_NAME: Final = "report.html"

_CI_COMMAND: Final = re.compile(rb"##(?=\w*\[)")
"""As in `text.inert`; in a document it can only stand inside a string."""
_PIECE_BYTES: Final = 1024 * 1024
_encoder = msgspec.json.Encoder()
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class LineFile:
    """A file of a run directory to which whole lines are appended; safe beside other processes on the same file."""

    def __init__(self, path: Path, head: bytes) -> None:
        """Opens (and if need be creates, `head` first) the file.

        Raises RigError when the folder can't be written.
        """
        self.path = path
        try:
            _create(path, head)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise _write_error(path, error) from error

    def write(self, lines: bytes) -> None:
        """Whole lines, one write.

        Raises RigError on a full disk; what was written before stays readable.
        """
        try:
            written = os.write(self._fd, lines)
            while written < len(lines):  # only a filling disk or a signal cuts a write to a regular file
                written += os.write(self._fd, lines[written:])
        except OSError as error:
            raise _write_error(self.path, error) from error

    def sync(self) -> None:
        """Forces the lines through to the disk; used for a fault's intent, before its call is made.

        Raises RigError when the disk refuses: some are found full only now.
        """
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _write_error(self.path, error) from error

    def close(self) -> None:
        """Closes the descriptor; writing afterwards is an error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Appender(LineFile, Generic[R]):
    """Appends rows of one type to one file of a run directory."""

    def __init__(self, directory: Path, file: RowFile[R], run: str) -> None:
        """Opens (and if need be creates, header first) the file.

        Raises RigError when the folder can't be written.
        """
        super().__init__(directory / file.name, header_line(file.schema, run))

    def append(self, row: R) -> None:
        """One row, one write.

        Raises RigError on a full disk; what was written before stays readable.
        """
        self.write(_encoder.encode(row) + b"\n")


def header_line(schema: str, run: str) -> bytes:
    """The first line of a file of rows: what it holds, in which version, for which run."""
    return _encoder.encode(Header(schema=SCHEMA_PREFIX + schema, version=SCHEMA_VERSION, run=run)) + b"\n"


def create_with_header(path: Path, schema: str, run: str) -> None:
    """Makes the file with its header row unless it exists; whole or not at all, also when two processes race."""
    _create(path, header_line(schema, run))


def _create(path: Path, head: bytes) -> None:
    if path.exists():
        return
    with _beside(path) as temporary:
        temporary.write_bytes(head)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)


def document_bytes(document: object) -> bytes:
    """A JSON document as it stands on disk: indented, one line end, and without what a CI server takes for a command."""
    return _CI_COMMAND.sub(b"#\\\\u0023", msgspec.json.format(_encoder.encode(document), indent=1)) + b"\n"


def write_document(path: Path, document: msgspec.Struct) -> None:
    """Replaces a JSON document whole: a reader sees the old one or the new one.

    Raises RigError when it can't be written.
    """
    write_bytes(path, document_bytes(document))


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file whole. Raises RigError when it can't be written."""
    try:
        with _beside(path) as temporary:
            temporary.write_bytes(content)
            temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error


class Salvage:
    """A file of a run that is read as far as it is whole, and what could not be read of it.

    `torn` is the number of damaged places, `problem` a sentence about them (or about a file without anything), else empty.
    """

    unit: ClassVar[str]
    """What it holds, one of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self.missing = False
        self.empty = False
        """Not even its first line is there, which is written whole or not at all."""

    @property
    def problem(self) -> str:
        """One sentence for the report, empty when all was well."""
        if self.missing:
            return f"{self.path.name} is missing."
        if self.empty:
            return f"{self.path.name} is empty: what it held is lost."
        if self.torn:
            places = "place" if self.torn == 1 else "places"
            return f"{self.path.name} is damaged in {self.torn} {places}; every whole {self.unit} was read."
        return ""

    def opened(self) -> BinaryIO | None:
        """The file, None when it is missing. Raises UsageError when it can't be read."""
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            self.missing = True
            return None
        except OSError as error:
            raise UsageError(f"{self.path} can't be read: {error.strerror}.") from error


class Reading(Salvage, Generic[R]):
    """Iterates over the rows of one file and counts what could not be read."""

    unit = "row"

    def __init__(self, directory: Path, file: RowFile[R]) -> None:
        super().__init__(directory / file.name)
        self._file = file
        self.lines = 0
        """Read so far, the header and damaged ones included."""

    def __iter__(self) -> Iterator[R]:
        """The rows, oldest first. Raises UsageError for a newer schema, a foreign file or one that can't be read."""
        stream = self.opened()
        if stream is None:
            return
        with stream:
            decoder = msgspec.json.Decoder(self._file.type)
            version = SCHEMA_VERSION
            line = self._line(stream)
            self.empty = not line
            header = header_of(line)
            if header is not None:
                version = checked_version(self.path, header.schema, header.version, self._file.schema)
                line = self._line(stream)
            while line:  # without a header (it is written whole or not at all) the beginning is damaged
                yield from self._rows(line, decoder, version)
                line = self._line(stream)

    def _line(self, stream: BinaryIO) -> bytes:
        line = stream.readline(LARGEST_ROW_BYTES)
        self.lines += bool(line) and (line.endswith(b"\n") or len(line) < LARGEST_ROW_BYTES)
        return line

    def _rows(self, line: bytes, decoder: "msgspec.json.Decoder[R]", version: int) -> Iterator[R]:
        if not line.strip():
            return
        try:
            row = self._decoded(line, decoder, version)
        except _UNREADABLE:
            yield from self._salvaged(line, decoder, version)
        else:
            yield row

    def _salvaged(self, line: bytes, decoder: "msgspec.json.Decoder[R]", version: int) -> Iterator[R]:
        """The whole rows of a line that holds more than one: behind a torn row, or behind one torn just at its end."""
        whole = 0
        pieces = self._pieces(line)
        for piece in pieces:
            try:
                row = self._decoded(piece, decoder, version)
            except _UNREADABLE:
                continue
            whole += 1
            yield row
        self.torn += max(1, len(pieces) - whole)

    def _pieces(self, line: bytes) -> list[bytes]:
        """The line cut before every place where a row begins; a row's text can't hold such a place, quotes are escaped."""
        head = self._file.head
        cuts = [0]
        at = line.find(head, 1)
        while at > 0:
            cuts.append(at)
            at = line.find(head, at + 1)
        return [line[start:end] for start, end in zip(cuts, [*cuts[1:], len(line)], strict=True)]

    def _decoded(self, line: bytes, decoder: "msgspec.json.Decoder[R]", version: int) -> R:
        if version == SCHEMA_VERSION:
            return decoder.decode(line)
        row = msgspec.json.decode(line, type=dict[str, object])
        # Through JSON once more: raw sections can only be taken from text.
        return decoder.decode(_encoder.encode(upgraded(self._file.schema, version, row)))


def lines_of(directory: Path) -> dict[str, int]:
    """How many lines each file of rows has, by its schema: what `Reading.lines` is when all of it is there.

    A file that is not there or can't be read is left out.
    """
    found: dict[str, int] = {}
    files: tuple[RowFile[Row], ...] = (*ROW_FILES, BROWSERS)  # type: ignore[arg-type]  # as there
    for file in files:
        with contextlib.suppress(OSError), (directory / file.name).open("rb") as stream:
            count, last = 0, b"\n"
            while piece := stream.read(_PIECE_BYTES):
                count, last = count + piece.count(b"\n"), piece
            found[file.schema] = count + (not last.endswith(b"\n"))
    return found


def why_not_written(error: RigError) -> str:
    """The reason alone, for a sentence that names the option; of an error that `write_bytes` raised."""
    reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else None
    return reason or str(error)


def header_of(line: bytes) -> Header | None:
    """What the first line of a file says; None when it is damaged or no header."""
    try:
        return msgspec.json.decode(line, type=Header)
    except _UNREADABLE:
        return None


def read_document(path: Path, kind: type[D], schema: str) -> D:
    """plan.json or run.json.

    Raises UsageError, in one sentence, when it is missing, unreadable, damaged or of a newer version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} is not a run directory: it has no {path.name}; name the folder that a run printed."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    try:
        head = msgspec.json.decode(content, type=Header)
        version = checked_version(path, head.schema, head.version, schema)
        if version == SCHEMA_VERSION:
            return msgspec.json.decode(content, type=kind)
        row = msgspec.json.decode(content, type=dict[str, object])
        return msgspec.json.decode(_encoder.encode(upgraded(schema, version, row)), type=kind)
    except _UNREADABLE as error:
        needed = "; the run can't be judged without it" if schema == "plan" else ""
        raise UsageError(f"{path} is damaged ({error}){needed}.") from error


def checked_version(path: Path, schema: str, version: int, wanted: str) -> int:
    """The version, if this suite can read it. Raises UsageError for a foreign file or a newer version."""
    if schema != SCHEMA_PREFIX + wanted:
        raise UsageError(f"{path} holds {schema!r}, not {SCHEMA_PREFIX + wanted!r}: it is not part of a run.")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{path} was written by a newer sseproof (schema {version}, this one reads up to {SCHEMA_VERSION}): "
            "update sseproof to read it."
        )
    return version


def upgraded(schema: str, version: int, row: dict[str, object]) -> dict[str, object]:
    """A row of an older version, brought up step by step."""
    for step in range(version, SCHEMA_VERSION):
        upgrade = UPGRADES.get((schema, step))
        if upgrade is not None:
            row = upgrade(row)
    if "version" in row:
        row["version"] = SCHEMA_VERSION
    return row


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, gone afterwards whatever happens."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write_error(path: Path, error: OSError) -> RigError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RigError(f"The disk is full: {path} can't be written; what was recorded before is readable.")
    return RigError(f"{path} can't be written: {error.strerror}; choose another folder with --out.")
