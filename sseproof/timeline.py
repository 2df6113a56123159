"""Planned faults drawn as a timeline in the terminal: a row a group, the time from left to right.

A fault that stands is one bar over the whole load; one that comes in windows has a mark for each, at least one column
wide, so that none is too short to be seen. Without a known length the last window's end closes the picture.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.chaos.faults import kind_of, stands, windows_of
from sseproof.chaos.plan import GroupSpec
from sseproof.rundir.rows import PhasePlan

WIDTH: Final = 80
STANDS: Final = "="
ACTS: Final = "#"
QUIET: Final = "."
_PHASES: Final = "phase"
_NAME_CELLS: Final = 20
_MARKS: Final = 4
"""Parts of the axis between which a time is written."""


class PlannedFault(Struct, kw_only=True):
    """A group and when its fault acts."""

    group: str
    share: str
    kind: str
    stands: bool
    """For the whole load; the clean group's nothing does, too."""
    windows_ms: list[tuple[int, int]]
    """Begin and length of each time, from the begin of load."""


class PlannedPhase(Struct, kw_only=True):
    """A part of the load."""

    name: str
    start_ms: int
    """From the begin of load."""
    end_ms: int | None
    """None is its end."""


def planned_phases(phases: Sequence[PhasePlan]) -> list[PlannedPhase]:
    """The phases of a plan, in their order."""
    return [PlannedPhase(name=each.name, start_ms=each.start_ms, end_ms=each.end_ms) for each in phases]


def last_end_ms(faults: Sequence[PlannedFault]) -> int:
    """When the last of the times is over, from the begin of load; 0 where all stand."""
    return max((start + length for each in faults for start, length in each.windows_ms), default=0)


def planned_faults(groups: Sequence[GroupSpec]) -> list[PlannedFault]:
    """What the groups of a scenario or a plan will meet, in their order."""
    return [
        PlannedFault(
            group=spec.name,
            share=spec.share,
            kind=kind_of(spec.fault),
            stands=stands(spec.fault),
            windows_ms=list(windows_of(spec.fault)),
        )
        for spec in groups
    ]


def timeline(
    faults: Sequence[PlannedFault],
    length_ms: float | None,
    *,
    shares: bool = True,
    phases: Sequence[PlannedPhase] = (),
) -> list[str]:
    """The lines of the picture, at most 80 columns wide; none without faults and phases.

    `length_ms` is that of the load, if known.
    """
    if not faults and not phases:
        return []
    last_ms = max([last_end_ms(faults), *(each.end_ms or each.start_ms for each in phases)])
    span_ms = length_ms or last_ms or None
    names = [_label(each, shares=shares) for each in faults]
    indent = max(len(name) for name in [*names, *([_PHASES] if phases else [])]) + 1
    columns = WIDTH - indent
    lines = [
        f"{name:<{indent}}{_bar(each, span_ms, columns)}" for name, each in zip(names, faults, strict=True)
    ]
    if span_ms is not None:
        lines.insert(0, " " * indent + _axis(span_ms, columns))
    if phases and span_ms is not None:
        lines.insert(1, f"{_PHASES:<{indent}}{_ruler(phases, span_ms, columns)}".rstrip())
    lines += [""] + [_phase_words(each) for each in phases]
    lines += [f"{name.split()[0]}: {_words(each)}" for name, each in zip(names, faults, strict=True)]
    if length_ms is None and last_ms:
        lines.append("How long the load lasts is not known before: times after its end don't happen.")
    return lines


def _label(fault: PlannedFault, *, shares: bool) -> str:
    name = fault.group if len(fault.group) <= _NAME_CELLS else f"{fault.group[: _NAME_CELLS - 1]}…"
    return f"{name} {fault.share}" if shares else name


def _bar(fault: PlannedFault, span_ms: float | None, columns: int) -> str:
    if fault.stands:
        return STANDS * columns
    cells = [QUIET] * columns
    if span_ms is not None:
        for start_ms, length_ms in fault.windows_ms:
            first = min(int(start_ms / span_ms * columns), columns - 1)
            last = min(max(first, int((start_ms + length_ms) / span_ms * columns) - 1), columns - 1)
            cells[first : last + 1] = ACTS * (last + 1 - first)
    return "".join(cells)


def _ruler(phases: Sequence[PlannedPhase], span_ms: float, columns: int) -> str:
    """Each phase's name from the column where it begins, as far as there is room for it."""
    starts = [min(int(each.start_ms / span_ms * columns), columns - 1) for each in phases]
    cells = [" "] * columns
    for each, start, following in zip(phases, starts, [*starts[1:], columns], strict=True):
        text = f"|{each.name}"[: max(following - start, 1)]
        cells[start : start + len(text)] = text
    return "".join(cells)


def _phase_words(phase: PlannedPhase) -> str:
    until = "the end" if phase.end_ms is None else seconds_text(phase.end_ms)
    return f"phase {phase.name}: from {seconds_text(phase.start_ms)} to {until}"


def _axis(span_ms: float, columns: int) -> str:
    """Times above their columns, the last one ending with the picture."""
    cells = [" "] * columns
    for part in range(_MARKS + 1):
        text = seconds_text(span_ms * part / _MARKS)
        place = min(round(columns * part / _MARKS), columns - len(text))
        cells[place : place + len(text)] = text
    return "".join(cells).rstrip()


def _words(fault: PlannedFault) -> str:
    if not fault.windows_ms:
        return f"{fault.kind}, the whole time" if fault.stands else "nothing is broken"
    start_ms, length_ms = fault.windows_ms[0]
    text = f"{fault.kind} for {seconds_text(length_ms)}, first at {seconds_text(start_ms)}"
    if len(fault.windows_ms) == 1:
        return text
    every_ms = fault.windows_ms[1][0] - start_ms
    return f"{text}, every {seconds_text(every_ms)}, {len(fault.windows_ms):,} times"


def seconds_text(ms: float) -> str:
    """1500 as 1.5s, 90000 as 90s."""
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
