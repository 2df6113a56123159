"""What would decide an unknown claim, and what the run for it takes: streams, time, requests; pure.

Rules:
- How many more units would decide is exact at the observed share (`statistics.further_units`); that such units come at
  the same pace as before is the only assumption, and the words say "about".
- A run is made longer by its own measure: a number of streams by more of them, a duration by a longer one, subscriptions
  that are held for the whole run by more users. Where faults act at planned times, more of their kind come only with a
  longer plan, which the user has to write.
- The option is one of the command that made the run, and outranks what else that command said.
- The effort is that of the judged load alone, without the look before it and without other variants.
"""

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from sseproof.chaos.faults import Clean, is_timed, kind_of, when_of
from sseproof.chaos.plan import CLEAN_GROUP
from sseproof.loadtests.arrivals import length_ns
from sseproof.loadtests.settings import Load
from sseproof.reports import statistics
from sseproof.reports.claims import Claim
from sseproof.reports.evidence import planned_faults
from sseproof.reports.facts import History
from sseproof.reports.words import count_of, digits, plural
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

if TYPE_CHECKING:
    from sseproof.rundir.rows import VariantPlan

_NS_PER_S: Final = 1_000_000_000
_LONGEST_SECONDS: Final = 120.0
_MINUTES_IN_HOURS: Final = 120.0
_COMMAND_CHARS: Final = 300
"""A longer command stands in the report and in run.json."""

CLOSE: Final = "So close to the limit no number of units decides: claim a margin, such as `margin 1%`."


class Effort(Struct, kw_only=True, forbid_unknown_fields=True):
    """What one run takes, about."""

    streams: int
    seconds: float
    """Of load."""
    requests: int
    """Attempts, reconnections included."""

    def to_text(self) -> str:
        """About 149 streams, 15 s and 151 requests."""
        return (
            f"about {count_of(self.streams, 'stream')}, {length_text(self.seconds)} and "
            f"{count_of(self.requests, 'request')}"
        )


def length_text(seconds: float) -> str:
    """A length as people plan it: 15 s, 12 min, 3 h."""
    if seconds < _LONGEST_SECONDS:
        return f"{math.ceil(seconds)} s"
    minutes = seconds / 60.0
    return f"{math.ceil(minutes)} min" if minutes < _MINUTES_IN_HOURS else f"{digits(minutes / 60.0)} h"


class Further(Struct, kw_only=True):
    """How many more units would decide, in words, and by how much the run has to grow for them."""

    text: str
    factor: float = 0.0
    """0 where no run is proposed."""
    wider: bool = False
    """By more streams at once, and not by a longer load."""


def effort_of(
    history: History, variant: str | None, factor: float = 1.0, *, wider: bool = False
) -> Effort | None:
    """What the same run takes again, so many times as long (or as wide); None where nothing shows it.

    An interrupted run is taken for whole: at its pace until its planned end.
    """
    records = [record for record in history.streams if record.variant == variant]
    if not records:
        return None
    began = min(record.dispatched.ns for record in records)
    lasted_s = max(record.ended.ns - began for record in records) / _NS_PER_S
    made = _made(history, variant)
    load = _load_of(history, variant)
    planned_s = None if load is None else _admitted_s(history, variant, *load)
    held = load is not None and _held_throughout(history, variant, load[0])
    scale = 1.0 if held else _whole_of(history, variant)
    requests = (
        sum(max(record.attempts_total, len(record.attempts), 1) for record in records) + made - len(records)
    )
    factor *= scale
    seconds = (
        planned_s
        if planned_s is not None and load is not None and load[0].streams is None
        else lasted_s * scale
    )
    return Effort(
        streams=math.ceil(made * factor),
        seconds=seconds if wider else seconds * factor / scale,
        requests=math.ceil(requests * factor),
    )


def _made(history: History, variant: str | None) -> int:
    ended = sum(record.variant == variant for record in history.streams)
    return ended + sum(
        start.variant == variant and (start.dispatched is not None or history.how == "finished")
        for start in history.unfinished
    )


def _whole_of(history: History, variant: str | None) -> float:
    """How many times as much the planned run is as what an interrupted one came to; 1 for one that was not."""
    records = [record for record in history.streams if record.variant == variant]
    found = _load_of(history, variant)
    if history.how == "finished" or not records or found is None:
        return 1.0
    if found[0].streams is not None:
        return max(1.0, found[0].streams / _made(history, variant))
    planned_s = _planned_s(*found)
    dispatched = [record.dispatched.ns for record in records]
    ended = [record.ended.ns for record in records]
    last = max(dispatched)
    if not found[0].is_open and last < min(ended):
        last = max(ended)  # no user had come to a second stream: that they all began at once is no pace
    admitted_s = (last - min(dispatched)) / _NS_PER_S
    return max(1.0, planned_s / admitted_s) if planned_s is not None and admitted_s else 1.0


def with_effort(
    advice: str, history: History, variant: str | None, factor: float = 1.0, *, wider: bool = False
) -> tuple[str, Effort | None]:
    """The advice, with what its run takes before the full stop."""
    effort = effort_of(history, variant, factor, wider=wider)
    if effort is None or not advice.endswith("."):
        return advice, effort
    return f"{advice[:-1]} ({effort.to_text()}).", effort


def repeat_text(history: History) -> str:
    """The command that repeats the run, as it would be typed; empty where it is not on record, or too long to read."""
    command = [] if history.run is None else history.run.command
    text = shlex.join(printable(part, _COMMAND_CHARS) for part in command)
    return text if len(text) <= _COMMAND_CHARS else ""


def further(claim: Claim, history: History, good: int, n: int, variant: str | None) -> Further | None:
    """How many more units would decide and the option that makes them.

    None when no more units are missing. `good` of `n` units are good.
    """
    if claim.form in {"all", "none"}:
        more: int | None = max(claim.needed_units() - n, 0)
    else:
        more = statistics.further_units(good, n, claim.required_share(), claim.confidence)
    if more is None:
        return Further(text=CLOSE)
    if more == 0:
        return None
    text = f"{more:,} more {claim.unit if more == 1 else plural(claim.unit)} like these would decide"
    if not n:
        return Further(text=f"{text}.")
    factor = (n + more) / n / _whole_of(history, variant)
    if factor <= 1.0:  # the plan holds as many, had it not been interrupted
        return Further(text=f"{text}: run it to its end.", factor=1.0)
    if claim.scope.phase is not None:  # a longer run has no more of any phase but the last
        longer = math.ceil(factor * 10) / 10
        phase = printable(claim.scope.phase)
        return Further(
            text=f"{text}: make phase {phase} {longer:g} times as long ([phases], or the times of the faults)."
        )
    if _made_at_times(claim, history):
        oftener = math.ceil(factor) if factor >= 10.0 else math.ceil(factor * 10) / 10
        return Further(
            text=f"{text}: let the fault come {oftener:g} times as often (times in its [[fault]]), in a load that is as much "
            "longer.",
            factor=factor,
        )
    found = _load_of(history, variant)
    wider = found is not None and claim.unit == "stream" and _held_throughout(history, variant, found[0])
    option = "" if found is None else _larger_run(history, variant, *found, factor, wider=wider)
    return Further(text=f"{text}{f': run with {option}' if option else ''}.", factor=factor, wider=wider)


def _made_at_times(claim: Claim, history: History) -> bool:
    """Whether only faults with planned times make units of this claim: a longer load alone has no more of them."""
    plan = planned_faults(history)
    if plan is None or claim.unit not in {"break", "attempt", "stream"}:
        return False
    names = {claim.scope.group, claim.scope.after} - {None}
    meant = [
        group.fault
        for group in plan.groups
        if not isinstance(group.fault, Clean) and (not names or names & {group.name, kind_of(group.fault)})
    ]
    if claim.unit == "stream":  # `after` leaves out those that come when such a fault is over, and no others
        return claim.scope.after is not None and bool(meant) and all(map(when_of, meant))
    by_itself = any(row.group in {None, CLEAN_GROUP} for row in history.breaks)
    return bool(meant) and all(map(is_timed, meant)) and not (by_itself and not names)


def _held_throughout(history: History, variant: str | None, load: Load) -> bool:
    """Whether each user of a closed loop holds a subscription until the end: a longer load has no more streams."""
    records = [record for record in history.streams if record.variant == variant]
    return not load.is_open and load.streams is None and all(each.kind == "subscription" for each in records)


def _larger_run(
    history: History,
    variant: str | None,
    load: Load,
    replay_ns: Sequence[int],
    factor: float,
    *,
    wider: bool,
) -> str:
    """The option that makes the run so many times as long, or as wide; empty where only the scenario can."""
    if load.stages or load.replay is not None or (load.streams is None and load.duration is None):
        return ""
    if wider:
        return _option(history, "users", f"{math.ceil(load.users * factor)}")
    if load.streams is not None:
        return _option(history, "streams", f"{math.ceil(load.streams * factor)}")
    if load.duration is None:
        return ""
    admitted_s = _admitted_s(history, variant, load, replay_ns) or load.duration.seconds
    if not history.plan.looks:
        return _option(history, "duration", f"{math.ceil(admitted_s * factor)}s")
    if admitted_s * factor > load.duration.seconds:  # it went on for as long as it was allowed to
        return _option(history, "max_duration", f"{math.ceil(admitted_s * factor)}s")
    return _option(history, "streams", f"{math.ceil(_made(history, variant) * factor)}")


_OPTIONS: Final = {
    "run": {
        "streams": "--streams",
        "users": "--users",
        "duration": "--duration",
        "max_duration": "--max-duration",
    },
    "browsers": {"streams": "--answers"},
}
"""By the command that made the run. A flag outranks --set: beside --streams another number there would be ignored."""


def _option(history: History, key: str, value: str) -> str:
    command = [] if history.run is None else history.run.command
    flag = _OPTIONS.get(command[1] if len(command) > 1 else "run", {}).get(key)
    if flag is not None:
        return f"{flag} {value}"
    return f"--set {key if key == 'max_duration' else f'load.{key}'}={value}"


def _load_of(history: History, variant: str | None) -> tuple[Load, Sequence[int]] | None:
    found: VariantPlan | None = next(
        (each for each in history.plan.variants if variant is None or each.name == variant), None
    )
    return None if found is None else (from_raw(found.load, Load), found.replay_ns)


def _admitted_s(history: History, variant: str | None, load: Load, replay_ns: Sequence[int]) -> float | None:
    """As `_planned_s`; where looks could end the load sooner, how long it admitted new streams."""
    planned_s = _planned_s(load, replay_ns)
    dispatched = [record.dispatched.ns for record in history.streams if record.variant == variant]
    if planned_s is None or not history.plan.looks or history.how != "finished" or len(dispatched) < 2:
        return planned_s
    return min(planned_s, (max(dispatched) - min(dispatched)) / _NS_PER_S)


def _planned_s(load: Load, replay_ns: Sequence[int]) -> float | None:
    """How long new streams were to be admitted; None where their number ends the load."""
    if load.is_open or load.stages:
        return length_ns(load, replay_ns) / _NS_PER_S
    return None if load.duration is None else load.duration.seconds
