"""Which fault each unit met, and how many independent episodes stand behind a count; pure.

Rules (measurement.md 3.1, 3.8):
- What one fault hits at one time shares its fate: a restart that a hundred subscribers meet is one episode. A fault that
  stands the whole run and acts on each stream by itself (a cut after so many bytes) makes no episodes.
- A break belongs to the latest fault of its group that had begun by then and was not healed before the broken connection
  was made; a stream to every episode that it lived in. What met none is not in the counts here.
- Pooling must not hide a class of faults that fails: counts by class stand beside the verdict.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from sseproof.reports import statistics
from sseproof.reports.checks import SETTLED, FaultWindow, Measured, Scoped, Unit, fault_windows
from sseproof.rundir.rows import BreakRow, StreamRecord

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

NO_FAULT_KIND: Final = ""
"""The class of breaks that met no fault of ours."""


class FaultSplit(Struct, kw_only=True, forbid_unknown_fields=True):
    """The same count for the breaks of one class of faults."""

    kind: str
    """Empty for breaks that no fault of ours made."""
    n: Count = 0
    k: Count = 0
    """At the unfavourable end."""
    k_best: Count = 0
    unfinished: Count = 0


class Episodes(Struct, kw_only=True, forbid_unknown_fields=True):
    """The independent times at which faults hit several units at once."""

    n: Count
    k: Count
    """Those in which every unit was good, at the unfavourable end."""
    units: Count
    """Units that met one."""
    lower: Share
    """The exact one-sided bound of the share of good episodes."""


def splits_of(scoped: Scoped, measured: Measured) -> tuple[list[FaultSplit], Episodes | None]:
    """The units by the faults that they met: by class for claims on breaks, and by episode.

    None where no unit met an episode.
    """
    windows = fault_windows(scoped.history.faults)
    if not windows:
        return [], None
    if scoped.claim.unit == "break":
        met = _of_breaks(scoped, measured, windows)
        return _by_class(met), _episodes([(unit, window) for unit, window in met if window is not None])
    return [], _episodes(_of_streams(scoped, measured, windows))


class _Windows:
    """Faults by who can meet them, in the order in which they began: there may be many of both."""

    def __init__(self, windows: Sequence[FaultWindow]) -> None:
        self._found: dict[tuple[str | None, str | None], list[FaultWindow]] = defaultdict(list)
        for window in sorted(windows, key=lambda window: window.since_ns):
            self._found[window.group, window.variant].append(window)

    def latest_first(self, group: str | None, variant: str | None, until_ns: int) -> Iterator[FaultWindow]:
        """Those that had begun by then, the latest first; a fault of no group, or of no variant, is everybody's."""
        begun: list[FaultWindow] = []
        for key in {(group, variant), (None, variant), (group, None), (None, None)}:
            windows = self._found.get(key, [])
            begun += windows[: bisect_right(windows, until_ns, key=lambda window: window.since_ns)]
        if len(self._found) > 1:
            begun.sort(key=lambda window: window.since_ns)
        return reversed(begun)


def _of_breaks(
    scoped: Scoped, measured: Measured, windows: Sequence[FaultWindow]
) -> list[tuple[Unit, FaultWindow | None]]:
    """Each break's unit with its fault; units stand in the order of the rows, before those of which there is no row."""
    records = {each.record.stream: each.record for each in scoped.every}
    ordered = _Windows(windows)
    met: list[tuple[Unit, FaultWindow | None]] = []
    for row, unit in zip(scoped.breaks, measured.units, strict=False):
        made_ns = _made_ns(records.get(row.stream), row)
        found = (
            window
            for window in ordered.latest_first(row.group, row.variant, scoped.latest_ns(row))
            if made_ns is None or window.healed_ns is None or made_ns <= window.healed_ns
        )
        met.append((unit, next(found, None)))
    return met


def _made_ns(record: StreamRecord | None, row: BreakRow) -> int | None:
    """When the broken connection was begun at the earliest; None where that is not on record."""
    if record is None:
        return None
    return next((each.started.lo_ns for each in record.attempts if each.number == row.attempt), None)


def _of_streams(
    scoped: Scoped, measured: Measured, windows: Sequence[FaultWindow]
) -> list[tuple[Unit, FaultWindow]]:
    timed = [window for window in windows if window.episode]
    if not timed:
        return []
    ordered = _Windows(timed)
    records = {each.record.stream: each.record for each in scoped.facts}
    met = []
    for unit in measured.units:
        record = records.get(unit.stream)
        if record is None:
            continue
        began_ns = record.dispatched.lo_ns
        met += [
            (unit, window)
            for window in ordered.latest_first(record.group, record.variant, scoped.latest_ns(record))
            if window.healed_ns is None or began_ns <= window.healed_ns
        ]
    return met


def _by_class(met: Sequence[tuple[Unit, FaultWindow | None]]) -> list[FaultSplit]:
    splits: dict[str, FaultSplit] = {}
    for unit, window in met:
        kind = NO_FAULT_KIND if window is None else window.kind
        split = splits.setdefault(kind, FaultSplit(kind=kind))
        if unit.cause in SETTLED:
            split.n += unit.n
            split.k += unit.worst
            split.k_best += unit.best
        else:
            split.unfinished += unit.n
    return [splits[kind] for kind in sorted(splits)]


def _episodes(met: Sequence[tuple[Unit, FaultWindow]]) -> Episodes | None:
    good: dict[str, bool] = defaultdict(lambda: True)
    units = set()
    for unit, window in met:
        if window.episode:
            good[window.episode] &= unit.worst == unit.n
            units.add(id(unit))
    if not good:
        return None
    k = sum(good.values())
    return Episodes(n=len(good), k=k, units=len(units), lower=statistics.lower_bound(k, len(good)))
