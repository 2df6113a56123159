"""Rows of a worker on another machine: its own shard, and how the shard's rows get into the run directory.

Rules (design.md "Run directory"):
- The worker writes its rows into a shard of its own as if it were the run directory; the shard stays whatever happens.
- What is sent is read from the shard, so nothing waits in memory: a batch is what follows the rows that the master
  acknowledged. It comes under a number, and again under the same one until it is acknowledged.
- The master decodes every row before it writes it: of the type of its file, and by the worker that sent it. A batch with
  the number of one that was taken is acknowledged and not written again.
"""

from pathlib import Path
from typing import Final

import msgspec

from sseproof.rundir.errors import RigError
from sseproof.rundir.files import (
    BREAKS,
    GENERATOR,
    LARGEST_ROW_BYTES,
    OPEN,
    STARTS,
    STREAMS,
    Appender,
    RowFile,
)
from sseproof.rundir.rows import BreakRow, GeneratorRow, OpenRow, Row, StartRow, StreamRecord

SHIPPED: Final[tuple[RowFile[Row], ...]] = (GENERATOR, STARTS, STREAMS, BREAKS, OPEN)  # type: ignore[assignment]  # as ROW_FILES
"""The files that a worker writes; starts before what follows on them."""
BATCH_BYTES: Final = 1 << 20
"""Of one file in one batch: a thousand rows or more."""


class BadRowsError(Exception):
    """A batch holds what no worker of this run writes."""


class Outbox:
    """What of a shard the master does not have yet."""

    def __init__(self, directory: Path) -> None:
        self._paths = {file.name: directory / file.name for file in SHIPPED}
        self._taken = {name: _header_bytes(path) for name, path in self._paths.items()}
        self._under_way: dict[str, int] = {}

    def batch(self) -> dict[str, bytes]:
        """The next rows by file, whole lines; the same again until `taken` is called. Empty when there are none."""
        rows = {}
        for name, path in self._paths.items():
            with path.open("rb") as file:
                file.seek(self._taken[name])
                size = self._under_way.get(name)
                found = file.read(BATCH_BYTES if size is None else size)
                if size is None and found and b"\n" not in found:
                    found += file.read(LARGEST_ROW_BYTES)
            lines = found[: found.rfind(b"\n") + 1]
            if lines:
                rows[name] = lines
        self._under_way = {name: len(rows.get(name, b"")) for name in self._paths} if rows else {}
        return rows

    def taken(self) -> None:
        """The master has the rows of the last batch."""
        for name, size in self._under_way.items():
            self._taken[name] += size
        self._under_way = {}

    @property
    def behind_bytes(self) -> int:
        """How much the master does not have."""
        return sum(path.stat().st_size - self._taken[name] for name, path in self._paths.items())


class Inbox:
    """Writes the batches of all remote workers into the run directory, each row once."""

    def __init__(self, directory: Path, run: str) -> None:
        self._directory = directory
        self._run = run
        self._files = {file.name: file for file in SHIPPED}
        self._decoders = {file.name: msgspec.json.Decoder(file.type) for file in SHIPPED}
        self._appenders: dict[str, Appender[Row]] = {}
        self._last: dict[int, int] = {}
        """The number of the batch that was taken last, by worker."""

    def take(self, worker: int, variant: str | None, number: int, rows: dict[str, bytes]) -> int:
        """Writes a batch unless it was taken before; gives the number of the last batch that was.

        Raises BadRowsError for a batch that is not the worker's own rows, RigError when a row can't be written.
        """
        last = self._last.get(worker, 0)
        if number != last + 1:
            return last
        # All are read before one is written: a batch is taken whole or not at all.
        batch = [
            (name, self._row(name, line, worker, variant))
            for name in (file.name for file in SHIPPED)
            for line in rows.get(name, b"").split(b"\n")
            if line
        ]
        if not set(rows) <= set(self._files):
            raise BadRowsError(f"{min(set(rows) - set(self._files))!r} is no file of a worker")
        for name, row in batch:
            self._appender(name).append(row)
        self._last[worker] = number
        return number

    def forget(self, worker: int) -> None:
        """Another process will have this worker's number."""
        self._last.pop(worker, None)

    def tell(self, row: GeneratorRow) -> None:
        """Writes what the master knows of a worker that can't say it any more. Raises RigError as `take` does."""
        self._appender(GENERATOR.name).append(row)

    def _row(self, name: str, line: bytes, worker: int, variant: str | None) -> Row:
        try:
            row: Row = self._decoders[name].decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRowsError(f"a row of {name} can't be read ({error})") from None
        assert isinstance(row, GeneratorRow | StartRow | StreamRecord | BreakRow | OpenRow)
        if (row.worker, row.variant) != (worker, variant):
            raise BadRowsError(f"a row of {name} is of worker {row.worker}")
        return row

    def _appender(self, name: str) -> Appender[Row]:
        if name not in self._appenders:
            self._appenders[name] = Appender(self._directory, self._files[name], self._run)
        return self._appenders[name]


def _header_bytes(path: Path) -> int:
    """The length of a shard file's first row, which the run directory has already.

    Raises RigError when the shard is gone or was made by somebody else.
    """
    try:
        with path.open("rb") as file:
            return len(file.readline(LARGEST_ROW_BYTES))
    except OSError as error:
        raise RigError(f"{path} can't be read: {error.strerror}; it is this worker's own record.") from error
