"""One clock for all rows: what workers on other machines wrote, moved to the clock of the master's machine; pure.

Rules (design.md "Clock", decision 7):
- A worker on another machine writes rows by its own clock, and once a second how far it is ahead of the master's, with the
  error of that figure. Workers of the master's machine share its clock and say nothing.
- A row is moved as a whole, by the offset at its beginning: an interval inside one worker stays what it was, to the ns.
- An instant that is compared with somebody else's clock (a fault window, another worker) gets the error of the offset into
  its bracket, and how far the two clocks drifted apart since the row began.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, Final, TypeVar, get_args

from msgspec import structs

from sseproof.rundir.rows import Attempt, BreakRow, GeneratorRow, Instant, OpenRow, StartRow, StreamRecord

R = TypeVar("R", StreamRecord, StartRow, BreakRow, GeneratorRow, OpenRow)
_Any = TypeVar("_Any", StreamRecord, StartRow, BreakRow, GeneratorRow, OpenRow, Attempt)


class Clocks:
    """How far the clocks of workers on other machines were ahead of the master's, over the run."""

    def __init__(self, rows: Iterable[GeneratorRow] = ()) -> None:
        """`rows` are as they were written, by each worker's own clock."""
        found: dict[int, list[tuple[int, int, int]]] = {}
        for row in rows:
            if row.master_offset_ns is not None:
                told = row.at_ns, row.master_offset_ns, row.master_offset_error_ns or 0
                found.setdefault(row.worker, []).append(told)
        self._workers = {worker: _Offsets(sorted(told)) for worker, told in found.items()}

    @property
    def workers(self) -> list[int]:
        """The workers with a clock of their own, ascending."""
        return sorted(self._workers)

    def widest(self, worker: int) -> tuple[int, int] | None:
        """The offset with the largest error, and that error, in ns; None for a worker of the master's machine."""
        offsets = self._workers.get(worker)
        return None if offsets is None else offsets.widest

    def moved(self, row: R) -> R:
        """The row by the master's clock; the row itself where it is so already."""
        offsets = self._workers.get(row.worker)
        if offsets is None:
            return row
        if isinstance(row, GeneratorRow | OpenRow):
            return _shifted(row, offsets.at(row.at_ns))
        first = began(row)
        return row if first is None else _shifted(row, offsets.at(first.ns))

    def across(self, worker: int, first: Instant | None, instant: Instant) -> Instant:
        """A moved instant as another clock's reader must take it; `first` is what its row was moved by, moved."""
        offsets = self._workers.get(worker)
        if offsets is None or first is None:
            return instant
        before_ns, after_ns = offsets.error(first.ns, instant.ns)
        return Instant(instant.ns, instant.before_ns + before_ns, instant.after_ns + after_ns)


class _Offsets:
    """What one worker said about its clock, by its own clock and by the master's."""

    def __init__(self, told: list[tuple[int, int, int]]) -> None:
        self._own_ns = [at for at, _, _ in told]
        self._master_ns = sorted(at - offset for at, offset, _ in told)
        self._told = [(offset, error) for _, offset, error in told]

    @property
    def widest(self) -> tuple[int, int]:
        return max(self._told, key=lambda each: each[1])

    def at(self, own_ns: int) -> int:
        """The offset that was known last at an instant of the worker's own clock; before the first, the first."""
        return self._told[max(0, bisect_right(self._own_ns, own_ns) - 1)][0]

    def error(self, began_ns: int, until_ns: int) -> tuple[int, int]:
        """How much earlier and later, by the master's clock, an instant can have been that was moved with its row."""
        first = max(0, bisect_right(self._master_ns, began_ns) - 1)
        last = min(len(self._told), bisect_left(self._master_ns, until_ns) + 1)
        told = self._told[first : max(last, first + 1)]
        moved = told[0][0]
        return (
            max(0, max(offset + error for offset, error in told) - moved),
            max(0, moved - min(offset - error for offset, error in told)),
        )


def began(row: StreamRecord | StartRow | BreakRow) -> Instant | None:
    """The instant by which a row is moved; None for a start that has none."""
    return row.seen if isinstance(row, BreakRow) else row.dispatched or row.intended


def _instants_of(kind: type) -> tuple[str, ...]:
    return tuple(
        field.name
        for field in structs.fields(kind)
        if field.type is Instant or Instant in get_args(field.type)
    )


_INSTANTS: Final = {
    kind: _instants_of(kind) for kind in (StreamRecord, StartRow, BreakRow, GeneratorRow, OpenRow, Attempt)
}
"""The fields of each row that hold an instant."""


def _shifted(row: _Any, offset_ns: int) -> _Any:
    changes: dict[str, Any] = {}
    for name in _INSTANTS[type(row)]:
        instant = getattr(row, name)
        if instant is not None:
            changes[name] = Instant(instant.ns - offset_ns, instant.before_ns, instant.after_ns)
    if isinstance(row, GeneratorRow | OpenRow):
        changes["at_ns"] = row.at_ns - offset_ns
    if isinstance(row, StreamRecord):
        changes["attempts"] = [_shifted(attempt, offset_ns) for attempt in row.attempts]
    return structs.replace(row, **changes)
