"""The phases of a run: baseline, fault, recovery, or as a scenario names them; and faults that act in one of them.

Rules (measurement.md 7, "steady state before, steady state after"):
- Phases lie one after the other from the begin of load. The last one lasts until the load ends, so that every stream
  belongs to one.
- Without any of its own a plan whose faults all have a timetable has `baseline` until the first of them begins, `fault`
  until the last ends, and `recovery`. Where one stands the whole run there are none: there is no time without it.
- A fault may name the phase it acts in. It then begins with it, and where its kind has a duration and the table gives none
  it lasts as long. Given one, or times of its own, it has to end within it. What else stands the whole run has its times
  in `when`, and a phase says them there.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import structs

from sseproof.chaos.faults import (
    FAULT_KINDS,
    STANDING_KINDS,
    FaultError,
    keys_of,
    stands,
    windows_of,
)
from sseproof.chaos.plan import GroupSpec
from sseproof.rundir.rows import PhasePlan
from sseproof.rundir.units import Duration, format_duration

BASELINE: Final = "baseline"
FAULT: Final = "fault"
RECOVERY: Final = "recovery"
MOST_PHASES: Final = 50
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NS_PER_MS: Final = 1_000_000


def parse_phases(lengths: Mapping[str, Duration]) -> list[PhasePlan]:
    """The phases of a [phases] table: names and lengths, in the order they are written.

    Raises FaultError, one sentence, for a name or a length that can't be.
    """
    if len(lengths) > MOST_PHASES:
        raise FaultError(f"[phases] has {len(lengths)} phases; give {MOST_PHASES} at most.")
    found: list[PhasePlan] = []
    start_ms = 0
    for name, length in lengths.items():
        if not _NAME.fullmatch(name):
            raise FaultError(
                f"[phases] names {name[:40]!r}: a phase's name is 1 to 32 small letters, digits, - or _ (claims name it)."
            )
        if length.ns == 0 or length.ns % _NS_PER_MS:
            raise FaultError(
                f"[phases] gives {name!r} {length}: a phase has a length in whole milliseconds, such as 10s."
            )
        end_ms = start_ms + length.ns // _NS_PER_MS
        found.append(PhasePlan(name=name, start_ms=start_ms, end_ms=end_ms))
        start_ms = end_ms
    return found


def total_ms(phases: Sequence[PhasePlan]) -> int:
    """How long they last together, as written; 0 without phases."""
    return (phases[-1].end_ms or phases[-1].start_ms) if phases else 0


def in_their_phases(tables: Sequence[Mapping[str, Any]], phases: Sequence[PhasePlan]) -> list[dict[str, Any]]:
    """The [[fault]] tables, each `phase` replaced by the times that it means.

    Raises FaultError, with the table's number in the sentence.
    """
    found = []
    for number, table in enumerate(tables, start=1):
        if "phase" not in table:
            found.append(dict(table))
            continue
        try:
            found.append(_timed(table, phases))
        except FaultError as error:
            raise FaultError(f"[[fault]] number {number}: {error}") from None
    return found


def check_in_phases(
    tables: Sequence[Mapping[str, Any]], specs: Sequence[GroupSpec], phases: Sequence[PhasePlan]
) -> None:
    """Raises FaultError where a fault that names its phase would act beyond it. `specs` are those of the tables."""
    by_name = {phase.name: phase for phase in phases}
    for table, spec in zip(tables, specs, strict=False):  # a clean group may come last
        name = table.get("phase")
        if name is None:
            continue
        phase = by_name[name]
        last_ms = max((start + length for start, length in windows_of(spec.fault)), default=0)
        if phase.end_ms is not None and last_ms > phase.end_ms:
            raise FaultError(
                f"The fault {spec.name!r} would end {last_ms / 1000:g} s after the begin of load, and its phase "
                f"{phase.name!r} is over at {phase.end_ms / 1000:g} s: make it shorter, or the phase longer."
            )


def with_faults(phases: Sequence[PhasePlan], specs: Sequence[GroupSpec]) -> list[PhasePlan]:
    """The phases with the groups whose faults act in each; the natural ones where none are given."""
    windows = [(spec.name, window) for spec in specs for window in windows_of(spec.fault)]
    if not phases and not any(stands(spec.fault) for spec in specs):
        phases = _natural([window for _, window in windows])
    found = []
    for position, phase in enumerate(phases):
        last = position == len(phases) - 1
        end_ms = None if last else phase.end_ms
        groups = [
            name
            for name, (start, length) in windows
            if start + length > phase.start_ms and (end_ms is None or start < end_ms)
        ]
        found.append(structs.replace(phase, end_ms=end_ms, groups=list(dict.fromkeys(groups))))
    return found


def _natural(windows: Sequence[tuple[int, int]]) -> list[PhasePlan]:
    """What the timetable itself divides the load into."""
    if not windows:
        return []
    first_ms = min(start for start, _ in windows)
    last_ms = max(start + length for start, length in windows)
    found = [PhasePlan(name=BASELINE, start_ms=0, end_ms=first_ms)] if first_ms else []
    return [
        *found,
        PhasePlan(name=FAULT, start_ms=first_ms, end_ms=last_ms),
        PhasePlan(name=RECOVERY, start_ms=last_ms),
    ]


def _timed(table: Mapping[str, Any], phases: Sequence[PhasePlan]) -> dict[str, Any]:
    """One table with its phase replaced by times."""
    name = table["phase"]
    phase = next((each for each in phases if each.name == name), None)
    if phase is None:
        raise FaultError(f"phase = {str(name)[:40]!r} is no phase of this plan: {_hint(str(name), phases)}")
    kind = table.get("kind")
    rest = {key: value for key, value in table.items() if key != "phase"}
    if kind not in FAULT_KINDS:
        return rest  # refused where kinds are
    if kind not in STANDING_KINDS:
        return rest | _times(rest, keys_of(kind), phase)
    when = rest.get("when", {})
    if not isinstance(when, Mapping):
        return rest  # refused where faults are
    return rest | {"when": dict(when) | _times(when, ("after", "duration"), phase)}


def _times(given: Mapping[str, Any], keys: Sequence[str], phase: PhasePlan) -> dict[str, str]:
    """What a phase says about the times of a fault that are given in part."""
    if "after" in given:
        raise FaultError("phase says when the fault begins: leave out after, or phase.")
    found = {"after": format_duration(phase.start_ms * _NS_PER_MS)}
    if "duration" in keys and "duration" not in given:
        if "every" in given or "times" in given:
            raise FaultError("phase with every and times needs duration: how long the fault acts each time.")
        assert phase.end_ms is not None  # as written, also of the last one
        found["duration"] = format_duration((phase.end_ms - phase.start_ms) * _NS_PER_MS)
    return found


def _hint(name: str, phases: Sequence[PhasePlan]) -> str:
    known = [phase.name for phase in phases]
    if not known:
        return 'add a [phases] table, such as baseline = "10s", fault = "20s", recovery = "10s".'
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
