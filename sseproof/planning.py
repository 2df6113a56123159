"""How many units a scenario gives each claim: fixed by the plan, or to be expected.

- Streams: a fixed number of streams, or of starts in the schedule of an open loop without its warm-up, times the share
  of the group that the claim names. A Poisson schedule is fixed by the seed; before there is one, its mean is expected.
- Breaks: a cut of the first connection, for the whole run, breaks each stream of its group exactly once. A link that is away breaks what is
  open then: in closed load each window finds as many streams open as there are users, and of those of the group it is
  chance how many (under stages nobody knows before how many are open). What is expected is what so many draws bring nearly always: their mean less three deviations.
- Gaps: from a reference server of the run that was asked for so many events, one before each event after the first
  token, the terminal one included, in groups whose connections nothing ends. Otherwise, and in
  closed loops by duration, they depend on the target and are not known before the run.
- Events with an age and attempts after breaks come as they come.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from sseproof.calibration import PlannedLoad
from sseproof.chaos.faults import (
    Clean,
    Cut,
    EndsConnections,
    FaultError,
    Flapping,
    Refused,
    kind_of,
    windows_of,
)
from sseproof.chaos.plan import GroupSpec, plan_faults
from sseproof.limits import Demand, Side
from sseproof.loadtests.arrivals import admission_ns, count_starts, expected_starts, starts_before
from sseproof.loadtests.settings import Load, Target
from sseproof.reference_server.ask import parse_ask
from sseproof.reports.claims import Claim
from sseproof.reports.words import count_of
from sseproof.rundir.errors import UsageError
from sseproof.rundir.rows import PhasePlan
from sseproof.scenario import Resolved, Variant

DEVIATIONS: Final = 3
"""Fewer breaks than the mean less so many standard deviations come about once in 700 runs."""
SPAWNED_S: Final = 2.0
"""All users of a closed loop have begun by then: Locust is told to start them within a second."""
OPEN_HEADROOM: Final = 2.0
"""Streams at once of an open loop, over rate times length: a Poisson schedule and slow answers pile some up."""

_EVERYBODY = GroupSpec(name="all", share="100%", fault=Clean())


def judged_variant(resolved: Resolved) -> Variant:
    """The variant that sets the exit code."""
    variants = resolved.scenario.variant
    return next((variant for variant in variants if variant.judged), variants[-1])


def demand_of(resolved: Resolved) -> Demand:
    """What the load takes of this machine. A Toxiproxy of somebody else's keeps its own books."""
    scenario = resolved.scenario
    return Demand(
        sides=[
            Side(
                streams=variant.load.at_once,
                service=None if variant.server is not None else "{}:{}".format(*service_of(variant.target)),
                hop=variant.hop is not None,
            )
            for variant in scenario.variant
        ],
        workers=scenario.all_workers,
        elsewhere=scenario.remote_workers,
        proxied=bool(resolved.groups) and "://" not in (scenario.toxiproxy or ""),
    )


def planned_load(
    resolved: Resolved, at_once: Sequence[int], rates: Sequence[float | None], cores: int
) -> PlannedLoad:
    """What the generator processes of a run on this machine would bear.

    For each variant: streams at once, and events a second of one stream, None where they are not known.
    """
    known = [rate for rate in rates if rate is not None]
    events = (
        sum(streams * rate for streams, rate in zip(at_once, known, strict=True))
        if len(known) == len(rates)
        else None
    )
    scenario = resolved.scenario
    here = scenario.workers / scenario.all_workers
    return PlannedLoad(
        streams=math.ceil(sum(at_once) * here),
        events_per_s=None if events is None else events * here,
        processes=len(at_once) * scenario.workers,
        cores=cores,
    )


def asked_rate(variant: Variant) -> float | None:
    """Events a second of a stream of our own server that its address asks for; None for anybody else's."""
    if variant.server is None:
        return None
    try:
        ask = parse_ask(dict(parse_qsl(urlsplit(variant.target.url).query)), b"")
    except ValueError:
        return None
    return 1e3 / ask.interval_ms if ask.interval_ms else None


def asked_length_s(variant: Variant) -> float | None:
    """How long an answer of our own server lasts that its address asks for; None where it leaves that open, or for others."""
    if variant.server is None:
        return None
    try:
        ask = parse_ask(dict(parse_qsl(urlsplit(variant.target.url).query)), b"")
    except ValueError:
        return None
    if not ask.events or ask.interval_ms is None:
        return None
    return ((ask.first_token_ms or 0) + (ask.events - 1) * ask.interval_ms) / 1e3


def most_at_once(load: Load, length_ns: int | None, replay_ns: Sequence[int]) -> int:
    """About how many streams are open at the same time; in an open loop its rate and the length of an answer say it."""
    if not load.is_open or length_ns is None:
        return load.at_once
    fastest = max((max(stage.first_rate, stage.last_rate) for stage in load.stages), default=load.rate or 0.0)
    if load.replay is not None:
        fastest = len(replay_ns) / max(1.0, replay_ns[-1] / 1e9)
    # Up to a power of two: the same plan must not depend on how long the look took.
    found = math.ceil(OPEN_HEADROOM * fastest * length_ns / 1e9) + 1
    return min(load.at_once, 1 << (found - 1).bit_length())


def service_of(target: Target) -> tuple[str, int]:
    """The host name (or address) and port that connections to the target are for."""
    parts = urlsplit(target.url)
    if target.connect_to is not None:
        name, _, text = target.connect_to.rpartition(":")
        return name.strip("[]"), int(text)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def check_faults(resolved: Resolved) -> None:
    """Raises UsageError for faults and phases that the load is too short for, as far as that is known before anything is contacted.

    A number of streams in a closed loop has no length, but a last moment: each is over by its total time-out.
    """
    for variant in resolved.scenario.variant:
        _check_begins(resolved, variant)
    lengths = [
        length_ns
        for variant, replay in zip(resolved.scenario.variant, resolved.replays, strict=True)
        if (length_ns := admission_ns(variant.load, replay)) is not None
    ]
    if not resolved.groups or not lengths:
        return
    try:
        plan_faults(
            resolved.groups,
            run="dry",
            seed=0,
            upstreams={None: ""},
            connect_ns=0,
            at_once=1,
            load_ms=round(min(lengths) / 1e6),
        )
    except FaultError as error:
        raise UsageError(f"{resolved.source}: {error}") from None


def _check_begins(resolved: Resolved, variant: Variant) -> None:
    """Raises UsageError for what would begin when the streams of a closed loop are over whatever they do.

    Of a fault that comes several times the first time counts: how often it comes is an upper limit there.
    """
    latest_s = _over_by_s(resolved, variant)
    if latest_s is None:
        return
    begins = [
        (f"the fault of group {spec.name!r}", start_ms / 1e3)
        for spec in resolved.groups
        for start_ms, _ in itertools.islice(windows_of(spec.fault), 1)
    ]
    if resolved.scenario.phases:  # those of the faults' own times end with the load
        begins += [(f"the phase {phase.name!r}", phase.start_ms / 1e3) for phase in resolved.phases]
    for what, start_s in begins:
        if start_s >= latest_s:
            raise UsageError(
                f"{resolved.source}: {what} would begin {start_s:g} s after the begin of load, whose "
                f"{count_of(variant.load.streams or 0, 'stream')} are over after {latest_s:g} s at the latest, by their total "
                "time-out: let it begin earlier, or load longer."
            )


def _over_by_s(resolved: Resolved, variant: Variant) -> float | None:
    """When the last of a fixed number of streams in a closed loop is over at the latest; None where that is open."""
    load, scenario = variant.load, resolved.scenario
    if load.streams is None or load.is_open or load.is_staged or scenario.locustfile is not None:
        return None
    workers = scenario.all_workers
    rounds = math.ceil(math.ceil(load.streams / workers) / max(1, load.users // workers))
    return SPAWNED_S + rounds * (variant.client.timeouts.total.seconds + load.think.seconds)


def fixed_units(resolved: Resolved, claim: Claim) -> int | None:
    """Units of the claim in the judged variant, where the plan fixes them; at least so many, for breaks."""
    if claim.scope.phase is not None:
        return None  # faults that come late, and streams that they meet, move the borders of phases
    streams = fixed_streams(resolved)
    if streams is None:
        return None
    if claim.unit == "stream":
        return _share_of(streams, _groups(resolved, claim))
    if claim.unit == "break":
        specs = _groups(resolved, claim)
        cuts = [spec for spec in specs if _cuts_each(spec)]
        others = [spec for spec in specs if not isinstance(spec.fault, Cut)]
        if cuts and not any(isinstance(spec.fault, EndsConnections) for spec in others):
            return _share_of(streams, cuts)
        return None
    return _fixed_gaps(resolved, claim, streams) if claim.unit == "gap" else None


def expected_units(resolved: Resolved, claim: Claim) -> int | None:
    """About how many units the claim will have; None where the plan says nothing about it."""
    if claim.scope.phase is not None:
        streams = _streams_in(resolved, claim.scope.phase) if claim.unit == "stream" else None
        return None if streams is None else _share_of(streams, _groups(resolved, claim))
    if claim.unit == "stream":
        streams = expected_streams(resolved)
        if streams is None:
            streams = _held_subscriptions(judged_variant(resolved))
        return None if streams is None else _share_of(streams, _groups(resolved, claim))
    if claim.unit != "break":
        return fixed_units(resolved, claim)
    load = judged_variant(resolved).load
    streams = expected_streams(resolved)
    found = 0
    for spec in _groups(resolved, claim):
        if _cuts_each(spec) and streams is not None:
            found += int(streams * spec.fraction)
        elif isinstance(spec.fault, Refused | Flapping) and not (load.is_open or load.is_staged):
            found += _met(load, spec, spec.fault)
    return found or None


def fixed_streams(resolved: Resolved, *, warmup: bool = False) -> int | None:
    """Streams of the judged variant, where the plan fixes them; those of a warm-up only when asked for."""
    position = resolved.scenario.variant.index(judged_variant(resolved))
    load = resolved.scenario.variant[position].load
    if not load.is_open:
        return load.streams
    seed = resolved.scenario.seed
    if seed is None and load.arrivals == "poisson" and load.replay is None:
        return None
    return count_starts(load, seed or 0, resolved.replays[position], warmup=warmup)


def expected_streams(resolved: Resolved, *, warmup: bool = False) -> int | None:
    """About how many streams the judged variant will have; those of a warm-up only when asked for."""
    fixed = fixed_streams(resolved, warmup=warmup)
    load = judged_variant(resolved).load
    return expected_starts(load, warmup=warmup) if fixed is None and load.is_open else fixed


def _held_subscriptions(variant: Variant) -> int | None:
    """In a closed loop by duration each user holds one, from the begin of load to its end; None elsewhere."""
    load = variant.load
    if variant.target.kind != "subscription" or load.is_open or load.is_staged or load.warmup is not None:
        return None
    return load.users


def _streams_in(resolved: Resolved, name: str) -> int | None:
    """About how many streams of the judged variant a phase will have, in an open loop.

    Those that a following fault still finds open are that fault's.
    """
    position = resolved.scenario.variant.index(judged_variant(resolved))
    variant, replay_ns = resolved.scenario.variant[position], resolved.replays[position]
    if not variant.load.is_open:
        return None
    length_s = asked_length_s(variant) or 0.0
    at = next(index for index, phase in enumerate(resolved.phases) if phase.name == name)
    edges = [_begins_ns(resolved.phases, index, length_s) for index in (at, at + 1)]
    first_ns = max(edges[0], 0 if variant.load.warmup is None else variant.load.warmup.ns)
    most = math.inf if variant.load.streams is None else variant.load.streams
    before, until = (min(starts_before(variant.load, edge, replay_ns), most) for edge in (first_ns, edges[1]))
    return max(0, math.floor(until - before))


def _begins_ns(phases: Sequence[PhasePlan], index: int, length_s: float) -> float:
    """From which start on streams of that length belong to a phase or a later one."""
    if index == len(phases):
        return math.inf
    met = index > 0 and phases[index].groups and not phases[index - 1].groups
    return max(phases[index].start_ms * 1e6 - (length_s * 1e9 if met else 0.0), 0.0)


def _cuts_each(spec: GroupSpec) -> bool:
    return isinstance(spec.fault, Cut) and spec.fault.on == "first" and spec.fault.when is None


def share_covered(resolved: Resolved, claim: Claim) -> Fraction:
    """The share of all streams that are in the groups of which the claim speaks."""
    return sum((spec.fraction for spec in _groups(resolved, claim)), Fraction(0))


def _share_of(streams: int, specs: list[GroupSpec]) -> int:
    return int(streams * sum((spec.fraction for spec in specs), Fraction(0)))


def _met(load: Load, spec: GroupSpec, fault: Refused | Flapping) -> int:
    """Streams of the group that the fault's windows nearly always find open.

    Windows further apart than a stream lasts find other streams each time: draws without putting back, from all
    streams where their number is fixed.
    """
    share = float(spec.fraction)
    draws = load.users * fault.times
    rest = 1.0
    if load.streams is not None:
        draws = min(draws, load.streams)
        rest = (load.streams - draws) / max(load.streams - 1, 1)
    deviation = math.sqrt(draws * share * (1 - share) * rest)
    return max(0, math.floor(draws * share - DEVIATIONS * deviation))


def _fixed_gaps(resolved: Resolved, claim: Claim, streams: int) -> int | None:
    """Gaps of whole answers of a known length."""
    variant = judged_variant(resolved)
    if variant.server is None or resolved.scenario.locustfile is not None:
        return None
    try:
        ask = parse_ask(
            dict(parse_qsl(urlsplit(variant.target.url).query)), (variant.target.body or "").encode()
        )
    except ValueError:
        return None
    specs = _groups(resolved, claim)
    if (
        not ask.events
        or ask.script == "endless"
        or any(isinstance(spec.fault, EndsConnections) for spec in specs)
    ):
        return None
    return _share_of(streams, specs) * ask.events


def _groups(resolved: Resolved, claim: Claim) -> list[GroupSpec]:
    """The groups that the claim speaks of."""
    named = {claim.scope.group, claim.scope.after} - {None}
    if not resolved.groups:
        return [] if named else [_EVERYBODY]
    return [spec for spec in resolved.groups if not named or named & {spec.name, kind_of(spec.fault)}]
