"""Appending and reading series.hlog (the format: `series`).

Rules:
- The first line says schema, version and run as in every other file, in a comment that readers of the format pass over.
- A torn line is counted and left out, and what was appended behind it is found again, as in the files of rows.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import SERIES_NAME, LineFile, Salvage, checked_version, header_line, header_of
from sseproof.rundir.series import Interval, decoded, head_lines, interval_lines, parsed_line
from sseproof.rundir.text import printable

SCHEMA: Final = "series"
LONGEST_LINE_BYTES: Final = 128 * 1024
_BEGINNING: Final = re.compile(rb"(?<=[^ ])(?=Tag=)|(?<=.)(?=#\[OutOfRange: )")
"""Where a line begins that stands behind a torn one."""


class SeriesFile(LineFile):
    """Appends intervals to series.hlog; safe beside other processes on the same file."""

    def __init__(self, directory: Path, run: str, start_ns: int) -> None:
        """Opens (and if need be creates) the file. Raises RigError when the folder can't be written."""
        super().__init__(directory / SERIES_NAME, b"#" + header_line(SCHEMA, run) + head_lines(start_ns))

    def append(self, intervals: Iterable[Interval]) -> None:
        """The lines of these intervals. Raises RigError on a full disk or for a damaged interval."""
        for interval in intervals:
            try:
                lines = interval_lines(interval)
            except ValueError as error:
                raise RigError(f"A worker's series {interval.tag!r} is damaged: {error}.") from None
            self.write(lines)


class SeriesReading(Salvage):
    """Iterates over the intervals of series.hlog with their histograms, and counts what could not be read."""

    unit = "line"

    def __init__(self, directory: Path, run: str) -> None:
        super().__init__(directory / SERIES_NAME)
        self._run = run

    def __iter__(self) -> Iterator[tuple[Interval, dict[int, int]]]:
        """In the order of the file. Raises UsageError for another run's file, a newer one or one that can't be read."""
        stream = self.opened()
        if stream is None:
            return
        with stream:
            line = stream.readline(LONGEST_LINE_BYTES)
            self._check(line)
            while line:
                yield from self._found(line)
                line = stream.readline(LONGEST_LINE_BYTES)

    def _check(self, line: bytes) -> None:
        header = header_of(line[1:])
        if header is None:
            return  # the beginning is damaged: it is written whole or not at all
        checked_version(self.path, header.schema, header.version, SCHEMA)
        if header.run not in {"", self._run}:
            raise UsageError(
                f"{self.path} was recorded by the run {printable(header.run)}, not by {printable(self._run)}: "
                "put the files of one run together again."
            )

    def _found(self, line: bytes) -> Iterator[tuple[Interval, dict[int, int]]]:
        """What a line holds; where it is torn, the whole ones that stand on it."""
        try:
            found = _whole(line)
        except ValueError:
            pieces = _BEGINNING.split(line)
            whole = 0
            for piece in pieces:
                with contextlib.suppress(ValueError):
                    if (found := _whole(piece)) is not None:
                        whole += 1
                        yield found
            self.torn += max(1, len(pieces) - whole)
        else:
            if found is not None:
                yield found


def _whole(line: bytes) -> tuple[Interval, dict[int, int]] | None:
    """An interval and its histogram, None for a line that holds none. Raises ValueError for a damaged line."""
    interval = parsed_line(line)
    if interval is None:
        return None
    return interval, decoded(interval.payload) if interval.payload else {}
