"""How far a run is, read from the rows as they come: nothing is asked of the processes that measure.

On a terminal a bar with the time left; elsewhere a line now and then. All of it goes to standard error.
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from sseproof.rundir.files import STARTS, STREAMS
from sseproof.rundir.rows import SUCCESSES

PLAIN_LINE_EVERY_S: Final = 10


class _Ended(msgspec.Struct):
    """The fields of a stream row that progress needs, and who watches."""

    outcome: str
    variant: str | None = None


class _Planned(msgspec.Struct):
    """The one field of a start row that progress needs."""

    dropped: bool = False


class Counts(msgspec.Struct):
    """What the rows say so far."""

    started: int = 0
    dropped: int = 0
    """Planned starts that were not made."""
    ended: int = 0
    good: int = 0

    @property
    def bad(self) -> int:
        """Ended streams that did not end well."""
        return self.ended - self.good

    @property
    def open(self) -> int:
        """Started and not ended."""
        return self.started - self.ended


class RowCounter:
    """Counts rows of a growing run directory, reading only what is new."""

    def __init__(
        self, directory: Path, on_end: "Callable[[str | None, bool], None]" = lambda _variant, _good: None
    ) -> None:
        """`on_end` is told each stream's variant and whether it ended well."""
        self._on_end = on_end
        self.counts = Counts()
        self._starts = Tail(directory / STARTS.name)
        self._streams = Tail(directory / STREAMS.name)
        self._decoder = msgspec.json.Decoder(_Ended)
        self._starts_decoder = msgspec.json.Decoder(_Planned)

    def update(self) -> Counts:
        """The counts, brought up to date."""
        for line in self._starts.lines():
            try:
                dropped = self._starts_decoder.decode(line).dropped
            except msgspec.DecodeError:
                dropped = False
            self.counts.dropped += dropped
            self.counts.started += not dropped
        for line in self._streams.lines():
            self.counts.ended += 1
            try:
                ended = self._decoder.decode(line)
            except msgspec.DecodeError:
                continue
            good = ended.outcome in SUCCESSES
            self.counts.good += good
            self._on_end(ended.variant, good)
        return self.counts


class Tail:
    """Whole lines appended to a file since the last look; the first line is the header."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._header_seen = False

    def lines(self) -> list[bytes]:
        """The new ones, without their line ends; none of a file that is not there yet."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except OSError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and not self._header_seen:
            self._header_seen = True
            del lines[0]
        return lines


class Progress:
    """Shows a run's progress; `expected_s` is admission plus what an answer lasts, `streams` a fixed number.

    Time left is counted from the first stream: what Locust takes to start says nothing about streams.
    """

    def __init__(
        self,
        *,
        expected_s: float | None,
        streams: int | None,
        quiet: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected_s = expected_s
        self._streams = streams
        self._clock = clock
        self._began = clock()
        self._first: float | None = None
        self._last_line = self._began
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._bar = self._rich_bar()
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, counts: Counts) -> None:
        """Redraws, or prints a line when it is time for one."""
        if self._first is None and counts.started:
            self._first = self._clock()
        if self._quiet:
            return
        words = f"{counts.ended} streams ended, {counts.open} open"
        words += f", {counts.bad} bad" if counts.bad else ""
        words += f", {counts.dropped} dropped" if counts.dropped else ""
        if self._bar is not None:
            self._bar.update(
                self._task, completed=self._share(counts), description=f"{words}, {self._left(counts)}"
            )
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = now
            print(f"{now - self._began:.0f} s: {words}, {self._left(counts)}", file=sys.stderr, flush=True)

    @property
    def _elapsed_s(self) -> float:
        return 0.0 if self._first is None else self._clock() - self._first

    def _share(self, counts: Counts) -> float:
        if self._streams:
            return min(counts.ended / self._streams, 1.0)
        if not self._expected_s or not counts.started:
            return 0.0
        return min(self._elapsed_s / self._expected_s, 0.99)

    def _left(self, counts: Counts) -> str:
        if not counts.started:
            return "starting"
        if self._streams:
            if counts.ended >= self._streams:
                return "all streams ended"
            share = self._share(counts)
            if share <= 0.05:
                return "time left not known yet"
            return f"about {_whole_s(self._elapsed_s / share * (1 - share))} s left"
        if self._expected_s is None:
            return "time left not known"
        left = self._expected_s - self._elapsed_s
        return f"{_whole_s(left)} s left" if left > 0 else "waiting for the last answers"

    @staticmethod
    def _rich_bar() -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        return RichProgress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )


def _whole_s(seconds: float) -> int:
    """Rounded up: while something is left it is not 0 s."""
    return max(1, math.ceil(seconds))
