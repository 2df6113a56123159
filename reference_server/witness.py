"""The second witness: what the server meant and what it handed to the transport, one row a connection.

Rules:
- Nothing is written per event: numbers are folded into ranges while the connection lasts, the row leaves when it ends.
- An instant is that of handing bytes to the transport: `ns` before the call, `after_ns` how long the call took. With an
  empty write buffer (the ordinary case) the bytes are in the kernel by then.
- `written_bytes` are bytes of the event stream, without chunk framing: what a client counts as its body.
- Finished rows are kept encoded and bounded; the oldest go first and are counted for their run.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.rundir.clock import now_ns
from sseproof.rundir.files import WITNESS, Appender
from sseproof.rundir.rows import Instant, LiveEnd, WitnessRow

ROWS_KEPT: Final = 100_000
"""At about 600 bytes a row 60 MB; more streams than one run of this size of suite makes."""
BYTES_KEPT: Final = 128 * 1024 * 1024
"""Of their lines: whoever fills the headers that a row repeats makes it twenty times as long."""
RUNS_COUNTED: Final = 1_000
"""Runs whose dropped rows are counted; the oldest count goes first."""


class KeptRow(Struct, frozen=True):
    """A finished row, as it is handed to the next server."""

    run: str
    owner: str | None
    line: str


class Connection:
    """One connection as it goes; `row` is its state as it would be written now."""

    __slots__ = (
        "_last_after_ns",
        "_last_before_ns",
        "_row",
        "heartbeat_timeouts",
        "heartbeats",
        "owner",
        "tokens",
    )

    def __init__(self, row: WitnessRow, owner: str | None = None) -> None:
        self._row = row
        self.owner = owner
        """The user whose stream it is; who he is never stands in a row."""
        self._last_before_ns: int | None = None
        self._last_after_ns = 0
        self.tokens = 0
        """Events with text, repeated ones included."""
        self.heartbeats = 0
        """Sent."""
        self.heartbeat_timeouts = 0
        """Due, and could not be sent."""

    @property
    def run(self) -> str:
        """The run this connection belongs to."""
        return self._row.run

    def wrote(self, number: int, chars: int) -> None:
        """Event `number`, with so many characters of script text, goes to the transport next."""
        written = self._row.written
        if written and written[-1][1] == number - 1:
            written[-1] = (written[-1][0], number)
        else:
            written.append((number, number))
        self._row.written_text_chars += chars
        self.tokens += chars > 0

    def handed(self, size_bytes: int, before_ns: int, *, token: bool) -> None:
        """So many bytes of events were just handed to the transport, in a call that began at `before_ns`."""
        after_ns = max(0, now_ns() - before_ns)  # the clock may be stepped back inside the call
        row = self._row
        row.written_bytes += size_bytes
        self._last_before_ns, self._last_after_ns = before_ns, after_ns
        if row.first_write is None:
            row.first_write = Instant(before_ns, 0, after_ns)
        if token and row.first_token_write is None:
            row.first_token_write = Instant(before_ns, 0, after_ns)

    def extra_bytes(self, size_bytes: int) -> None:
        """Bytes that are no numbered event: heartbeats, error events, the half event before a cut."""
        self._row.written_bytes += size_bytes

    def misbehaved(self, mode: str) -> None:
        """A planted defect acted."""
        if mode not in self._row.misbehaved:
            self._row.misbehaved.append(mode)

    def answered(self, last: int | None, text_sha256: str | None, said: str) -> None:
        """A live answer was written to its end: the number of done and the digest of its text, or the error's code."""
        self._row.live = LiveEnd(last=last, text_sha256=text_sha256, said=said)

    def end(self, end: str) -> None:
        """The connection ended now, for this reason."""
        self._row.ended = Instant(now_ns())
        self._row.end = end

    @property
    def row(self) -> WitnessRow:
        """The row as of now."""
        if self._last_before_ns is not None:
            self._row.last_write = Instant(self._last_before_ns, 0, self._last_after_ns)
        return self._row


class Witness:
    """The rows of all connections, those still open included.

    Raises RigError when a directory is given and can't be written.
    """

    def __init__(
        self, directory: Path | None = None, limit: int = ROWS_KEPT, limit_bytes: int = BYTES_KEPT
    ) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._kept_bytes = 0
        self._rows: deque[tuple[str, str | None, bytes]] = deque()
        """Run, owner and line."""
        self._open: dict[Connection, None] = {}
        self._dropped: dict[str, int] = {}
        self._encoder = msgspec.json.Encoder()
        self._appender = Appender(directory, WITNESS, "") if directory else None

    def opened(self, connection: Connection) -> None:
        """From here on the connection is part of `lines`."""
        self._open[connection] = None

    def closed(self, connection: Connection, end: str) -> None:
        """Writes the connection's row, once; later calls change nothing.

        Raises RigError when the run directory's disk is full.
        """
        if connection not in self._open:
            return
        del self._open[connection]
        connection.end(end)
        row = connection.row
        self._keep(row.run, connection.owner, self._encoder.encode(row) + b"\n")
        if self._appender is not None:
            self._appender.append(row)

    def lines(self, run: str | None = None, owner: str | None = None) -> Iterator[bytes]:
        """The rows of one run (or of all), each a line of JSON: the finished ones in the order they ended, then the open.

        With an owner only those of his streams.
        """
        finished, still_open = (
            list(self._rows),
            list(self._open),
        )  # the reader may take turns with the streams
        for its_run, its_owner, line in finished:
            if (run is None or its_run == run) and (owner is None or its_owner == owner):
                yield line
        for connection in still_open:
            if (run is None or connection.run == run) and (owner is None or connection.owner == owner):
                yield self._encoder.encode(connection.row) + b"\n"

    def dropped(self, run: str | None = None) -> int:
        """Rows of this run (or of all) that are no longer kept."""
        return sum(self._dropped.values()) if run is None else self._dropped.get(run, 0)

    def kept(self) -> tuple[list[KeptRow], dict[str, int]]:
        """The finished rows, and how many were dropped, by run."""
        return [KeptRow(run, owner, line.decode()) for run, owner, line in self._rows], dict(self._dropped)

    def take_over(self, rows: Iterable[KeptRow], dropped: Mapping[str, int]) -> None:
        """Goes on behind what an earlier server kept; its run directory, where there is one, has the rows already."""
        self._dropped.update(dropped)
        for row in rows:
            self._keep(row.run, row.owner, row.line.encode())

    def close(self) -> None:
        """Closes the run directory's file."""
        if self._appender is not None:
            self._appender.close()

    def _keep(self, run: str, owner: str | None, line: bytes) -> None:
        self._rows.append((run, owner, line))
        self._kept_bytes += len(line)
        while len(self._rows) > self._limit or self._kept_bytes > self._limit_bytes:
            self._drop()

    def _drop(self) -> None:
        run, _, line = self._rows.popleft()
        self._kept_bytes -= len(line)
        self._dropped[run] = self._dropped.get(run, 0) + 1
        if len(self._dropped) > RUNS_COUNTED:
            del self._dropped[next(iter(self._dropped))]
