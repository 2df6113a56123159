"""This machine's ceiling as numbers: the search for it, its place on disk, and whether a plan comes too near.

Rules (measurement.md 2.4 and 4; reports.judge.rig_rows has the limits):
- A load is trustworthy while most of its seconds have every indicator of the generator within its usual limit. What is
  out once is measured again: a neighbour's second is not the generator's.
- Where the source of events could not keep its own schedule, the generator was not the limit: the figure is "at least".
- A calibration holds for one machine, Python, kernel and version of sseproof; it is kept in the user's cache under a
  key of these, so that another machine with the same home folder has its own.
- A plan above 70 % of it warns and is made all the same: what lags is in the brackets (decision 4). Where the figure is
  only "at least", a plan above the figure does.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from sseproof.loadtests.settings import Load, Stage
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.machine import host_facts, user_cache, versions
from sseproof.rundir.units import Duration

SCHEMA: Final = 1
NEAR: Final = 0.7
"""Share of the ceiling beyond which a plan warns."""
FINE: Final = 1.1
"""The search ends when the lowest load that is too much is within this factor of the highest that is not."""

STARTS_PER_S: Final = 800
"""How fast quiet streams are opened; a start costs the generator half a millisecond."""

Limit = Literal["generator", "source", "descriptors", "ports", "time"]
_SHORT: Final[frozenset[Limit]] = frozenset({"source", "time"})
"""Limits of the calibration, not of this machine: it bears at least the figure."""


def quiet_ramp(
    levels: Sequence[tuple[int, float]], *, idle_s: float = 0.0, drain: Duration | None = None
) -> Load:
    """The open load that opens subscriptions up to each level, rising, and holds it for so many seconds.

    With a schedule's last start its streams begin to be closed, so one start more than the highest level comes at its end.
    """
    stages = [Stage(duration=_seconds(idle_s), rate=0.0)] if idle_s else []
    before = 0
    for level, hold_s in levels:
        stages.append(Stage(duration=_seconds((level - before) / STARTS_PER_S), rate=STARTS_PER_S))
        stages.append(Stage(duration=_seconds(hold_s), rate=0.0))
        before = level
    stages.append(Stage(duration=_seconds(1), rate=1.0))
    return Load(model="open", stages=stages, max_open=before + 1, drain=drain)


def _seconds(count: float) -> Duration:
    return Duration(round(count * 1e9))


class Step(Struct, frozen=True, kw_only=True):
    """One load that was tried."""

    load: float
    """Events a second, or streams at once."""
    good: bool
    limit: Limit | None = None
    """What was too slow for it; None when it is good."""
    reason: str = ""
    """The indicator out of its limit, in a sentence."""
    read_lag_p99_ms: float | None = None
    loop_lag_ms: float | None = None
    cpu_share: float | None = None


class Ceiling(Struct, frozen=True, kw_only=True):
    """The highest load that was trustworthy."""

    value: int
    """0 = not even the lowest was."""
    limit: Limit
    """What stood in the way of more."""
    reason: str
    steps: list[Step]

    @property
    def text(self) -> str:
        """The figure with its direction."""
        if not self.value:
            return f"fewer than {self.lowest:,.0f}"
        return f"{self.value:,}" if self.limit not in _SHORT else f"at least {self.value:,}"

    @property
    def lowest(self) -> float:
        """The smallest load that was tried."""
        return min((step.load for step in self.steps), default=0.0)

    @property
    def bound(self) -> float:
        """The load that a plan is held against; 0 = nothing is known. Where the lowest was too much, less is borne."""
        return self.value or (0.0 if self.limit in _SHORT else self.lowest)

    @property
    def warns_from(self) -> float:
        """The load above which a plan comes too near; where no limit was met, only what was never tried does."""
        return self.bound if self.limit in _SHORT else NEAR * self.bound


class Calibration(Struct, frozen=True, kw_only=True):
    """What one generator process of this machine bears."""

    schema: int = SCHEMA
    at_ns: int
    quick: bool
    machine: dict[str, str]
    events_per_s: Ceiling
    streams: Ceiling
    """At once, quiet: one event a second each."""
    busy: bool = False
    """Something else wanted the cores meanwhile: on a quiet machine the ceilings may be higher."""

    @property
    def when(self) -> str:
        """The day, in UTC."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.at_ns / 1e9))

    @property
    def text(self) -> str:
        """Both figures in a sentence's part."""
        return (
            f"{self.events_per_s.text} events/s and {self.streams.text} quiet streams in one process, "
            f"measured {self.when}"
        )


# --- the search ---


def search(
    measure: Callable[[float], Step],
    *,
    start: float,
    most: float,
    most_limit: tuple[Limit, str],
    time_left: Callable[[], bool],
) -> Ceiling:
    """Doubles the load until it is too much, then halves the distance, until it is fine enough or time is up.

    `most` is the highest load that can be tried, and `most_limit` what keeps from more. A load that is too much is
    measured once more, and the second answer counts.
    """
    steps: list[Step] = []
    best = 0.0
    worst: Step | None = None
    load = min(start, most)
    while True:
        step = measure(load)
        if not step.good and time_left():
            steps.append(step)
            step = measure(load)
        steps.append(step)
        if step.good:
            best = max(best, load)
        else:
            worst = step
        if worst is None and load >= most:
            return _ceiling(best, most_limit, steps)
        if worst is not None and (worst.load <= FINE * best or worst.load <= start):
            break
        if not time_left():
            if worst is None:
                return _ceiling(best, ("time", "the time was over before a load was too much"), steps)
            break
        load = min(2 * load, most) if worst is None else (best * worst.load) ** 0.5
    return _ceiling(best, (worst.limit or "generator", worst.reason), steps)


def climb(
    levels: Sequence[float], measure: Callable[[float], Step], most_limit: tuple[Limit, str]
) -> Ceiling:
    """The highest of rising levels before two in a row are too much: a climb has no way back to measure again."""
    steps: list[Step] = []
    best = 0.0
    for level in levels:
        steps.append(measure(level))
        if steps[-1].good:
            best = level
        elif len(steps) > 1 and not steps[-2].good:
            return _ceiling(best, (steps[-2].limit or "generator", steps[-2].reason), steps)
    if steps and not steps[-1].good:
        return _ceiling(best, (steps[-1].limit or "generator", steps[-1].reason), steps)
    return _ceiling(best, most_limit, steps)


def _ceiling(best: float, limit: tuple[Limit, str], steps: list[Step]) -> Ceiling:
    return Ceiling(value=int(best), limit=limit[0], reason=limit[1], steps=steps)


# --- on disk ---


def machine_key() -> dict[str, str]:
    """What a calibration holds for. Memory changes by a few MiB with each boot: it is taken in GiB."""
    facts = {**host_facts(), **versions()}
    if "memory_mib" in facts:
        facts["memory_gib"] = str(round(int(facts.pop("memory_mib")) / 1024))
    return facts


def calibration_path(environ: Mapping[str, str]) -> Path:
    """The file of this machine and version in the user's cache."""
    key = hashlib.sha256(msgspec.json.encode(machine_key(), order="sorted")).hexdigest()[:16]
    return user_cache(environ) / f"calibration-{key}.json"


def store(calibration: Calibration, environ: Mapping[str, str]) -> Path:
    """Writes it, in one step. Raises RigError when that can't be done."""
    path = calibration_path(environ)
    hidden = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
        hidden.replace(path)
    except OSError as error:
        raise RigError(
            f"The calibration can't be kept in {path.parent} ({error.strerror}): name another folder by XDG_CACHE_HOME."
        ) from None
    return path


def read(environ: Mapping[str, str]) -> Calibration | None:
    """The kept one of this machine and version; None without one.

    Raises UsageError, in one sentence, when the file is damaged.
    """
    path = calibration_path(environ)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}): run sseproof calibrate again.") from None
    try:
        found = msgspec.json.decode(content, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UsageError(f"{path} is damaged: run sseproof calibrate again.") from None
    if found.schema != SCHEMA:
        raise UsageError(f"{path} is of another version of sseproof: run sseproof calibrate again.")
    return found


# --- a plan against it ---


class PlannedLoad(Struct, frozen=True, kw_only=True):
    """What all generator processes of a run together would bear."""

    streams: int
    """At once."""
    events_per_s: float | None
    """None = not known before the run."""
    processes: int
    cores: int

    @property
    def at_once(self) -> int:
        """Processes that have a core to themselves."""
        return max(1, min(self.processes, self.cores))


def warning(planned: PlannedLoad, environ: Mapping[str, str]) -> str | None:
    """The sentence about a plan too near this machine's ceiling, or about a damaged calibration; None otherwise."""
    try:
        found = read(environ)
    except UsageError as error:
        return f"Whether this machine bears the plan is not known: {error}"
    return None if found is None else too_near(planned, found)


def too_near(planned: PlannedLoad, found: Calibration) -> str | None:
    """The sentence about a plan above 70 % of the ceiling; None below."""
    loads = [(float(planned.streams), "streams at once", found.streams)]
    if planned.events_per_s is not None:
        loads.append((planned.events_per_s, "events/s", found.events_per_s))
    near = [
        (load / (ceiling.bound * planned.at_once), load, unit, ceiling)
        for load, unit, ceiling in loads
        if ceiling.bound and load > ceiling.warns_from * planned.at_once
    ]
    if not near:
        return None
    share, load, unit, ceiling = max(near, key=lambda each: each[0])
    least = "" if ceiling.value else "more than "
    each = "" if planned.at_once == 1 else f" in each of {planned.at_once} processes"
    more = "use more workers" if planned.processes < planned.cores else "spread it over more machines"
    return (
        f"The plan has {load:,.0f} {unit}, {least}{share:.0%} of what this machine was seen to bear "
        f"({ceiling.text}{each}, sseproof calibrate of {found.when}): make it smaller or {more}, else the generator's own "
        "lag may widen the error brackets."
    )
