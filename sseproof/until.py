"""`--until-decided`: a run that goes on beyond its planned number of streams until its claims are decided.

Rules (measurement.md 3.7):
- The looks at which it may be decided are registered in plan.json before the first judged connection, by stream numbers
  (`sseproof.reports.looks`): the planned number, twice, four and eight times as many, and the end.
- The planned number is that of the scenario; of a closed loop by duration the smallest with which every claim about
  streams can pass at the first look. `max_duration` replaces the load's own end.
- Here only the end of admission is decided, by what is on record so far. The verdicts are made of the whole record, by
  the same rule, when the run is over: that they were looked at early changes none of them.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import structs

from sseproof.loadtests.arrivals import MOST_STARTS, starts_before
from sseproof.planning import expected_streams, share_covered
from sseproof.progress import Counts
from sseproof.reports.claims import Claim, parse_claims
from sseproof.reports.facts import History, all_facts
from sseproof.reports.looks import complete, confidence_at, exit_is_settled, judge_at_looks, planned_looks
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import ENOUGH_NAME
from sseproof.rundir.rows import LookPlan, Plan
from sseproof.scenario import Resolved

WITHOUT_STREAM_CLAIMS: Final = 100
"""Planned streams where no claim counts them and nothing else fixes their number."""
LOOK_AGAIN_S: Final = 1.0
"""Reading the record takes time of the machine that measures: not more often."""


def extended(resolved: Resolved) -> Resolved:
    """The scenario with its looks and the longest load, where it is to go on until it is decided; else as it is.

    Raises UsageError for what can't go on, or has nothing to decide.
    """
    scenario = resolved.scenario
    limit = scenario.max_duration
    if not scenario.until_decided:
        if limit is not None:
            raise UsageError(
                f"{resolved.source}: max_duration ({limit}) is the longest that until_decided may take: add --until-decided, "
                "or give --duration."
            )
        return resolved
    if limit is None:
        raise UsageError(
            f"{resolved.source}: until_decided needs a longest time: add --max-duration, such as 10m."
        )
    if not resolved.claims:
        raise UsageError(f"{resolved.source}: until_decided has no claim to decide: add --claim.")
    for variant in scenario.variant:
        load = variant.load
        for key, given in (("warmup", load.warmup), ("stages", load.stages), ("replay", load.replay)):
            if given:
                raise UsageError(
                    f"{resolved.source}: until_decided counts the streams of one steady load from the first: leave out "
                    f"load.{key}."
                )
        if load.streams is None and load.duration is not None and load.duration.ns >= limit.ns:
            raise UsageError(
                f"{resolved.source}: max_duration ({limit}) is not above load.duration ({load.duration}), so nothing could "
                "go on: give a longer one, or leave until_decided out."
            )
    if scenario.phases:
        raise UsageError(
            f"{resolved.source}: until_decided moves the end of the load, and [phases] are parts of a load of a known length: "
            "leave out one of them."
        )
    looks = planned_looks(_planned_number(resolved))
    for variant in scenario.variant:
        variant.load = structs.replace(variant.load, duration=limit, streams=None)
        if variant.load.is_open and starts_before(variant.load, math.inf, []) > MOST_STARTS:
            raise UsageError(
                f"{resolved.source}: max_duration ({limit}) makes more than {MOST_STARTS:,} starts, the most of one run: "
                "lower the rate, or give a shorter one."
            )
    scenario.load = scenario.variant[-1].load
    return structs.replace(resolved, looks=looks)


def _planned_number(resolved: Resolved) -> int:
    planned = expected_streams(resolved)
    if planned:
        return planned
    (first, *_) = planned_looks(1)
    needed = [
        math.ceil(_needed(claim, first) / share)
        for claim in resolved.claims
        if claim.unit == "stream" and (share := share_covered(resolved, claim))
    ]
    return max(needed, default=WITHOUT_STREAM_CLAIMS)


def _needed(claim: Claim, look: LookPlan) -> int:
    """Units with which the claim can pass at this look."""
    return structs.replace(claim, confidence=confidence_at(claim, look)).needed_units()


class LookWatch:
    """Whether the streams so far decide; asked often, and looks only when a registered look may be whole."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        read: Callable[[], History],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`read` gives the history so far, with what witnesses know."""
        self._looks = [look for look in plan.looks if look.streams is not None]
        self._claims = parse_claims(claim.text for claim in plan.claims)
        self._variants = [variant.name for variant in plan.variants]
        self._directory = directory
        self._read = read
        self._clock = clock
        self._not_before = 0.0
        self._next = 0
        """Of the looks."""

    def enough(self, counts: Counts) -> bool:
        """Whether no further stream is needed, for the first time; the workers are told so."""
        if self._next >= len(self._looks):
            return False
        look = self._looks[self._next]
        wanted = (look.streams or 0) * len(self._variants)
        if counts.ended + counts.dropped < wanted or self._clock() < self._not_before:
            return False
        self._not_before = self._clock() + LOOK_AGAIN_S
        history = self._read()
        if not all(complete(history, look, variant) for variant in self._variants):
            return False
        self._next += 1
        facts = all_facts(history)
        if not exit_is_settled([judge_at_looks(claim, history, facts) for claim in self._claims]):
            return False
        self._next = len(self._looks)
        (self._directory / ENOUGH_NAME).touch()
        return True
