"""How many units a scenario gives each claim: fixed by the plan, or to be expected.

- Streams: a fixed number of streams, or of starts in the schedule of an open loop without its warm-up, times the share
  of the group that the claim names. A Poisson schedule is fixed by the seed; before there is one, its mean is expected.
- Breaks: a cut of the first connection breaks each stream of its group exactly once; a link that is away breaks what
  is open then, in closed load as many streams of the group as its share of the users, in each window.
- Gaps and streams by duration depend on the target: not known before the run.
"""

from fractions import Fraction

from sseproof.chaos.faults import Clean, Cut, Refused, kind_of
from sseproof.chaos.plan import GroupSpec
from sseproof.loadtests.arrivals import count_starts, expected_starts
from sseproof.reports.claims import Claim
from sseproof.scenario import Resolved, Variant

_EVERYBODY = GroupSpec(name="all", share="100%", fault=Clean())


def judged_variant(resolved: Resolved) -> Variant:
    """The variant that sets the exit code."""
    variants = resolved.scenario.variant
    return next((variant for variant in variants if variant.judged), variants[-1])


def fixed_units(resolved: Resolved, claim: Claim) -> int | None:
    """Units of the claim in the judged variant, where the plan fixes them; at least so many, for breaks."""
    streams = fixed_streams(resolved)
    if streams is None:
        return None
    if claim.unit == "stream":
        return _share_of(streams, _groups(resolved, claim))
    if claim.unit == "break":
        specs = _groups(resolved, claim)
        cuts = [spec for spec in specs if isinstance(spec.fault, Cut) and spec.fault.on == "first"]
        if cuts and not any(isinstance(spec.fault, Refused) for spec in specs):
            return _share_of(streams, cuts)
    return None


def expected_units(resolved: Resolved, claim: Claim) -> int | None:
    """About how many units the claim will have; None where the plan says nothing about it."""
    if claim.unit == "stream":
        streams = expected_streams(resolved)
        return None if streams is None else _share_of(streams, _groups(resolved, claim))
    if claim.unit != "break":
        return None
    load = judged_variant(resolved).load
    streams = expected_streams(resolved)
    found = 0
    for spec in _groups(resolved, claim):
        if isinstance(spec.fault, Cut) and spec.fault.on == "first" and streams is not None:
            found += int(streams * spec.fraction)
        elif isinstance(spec.fault, Refused) and not load.is_open:
            found += int(load.users * spec.fraction) * spec.fault.times
    return found or None


def fixed_streams(resolved: Resolved) -> int | None:
    """Judged streams of the judged variant, where the plan fixes them."""
    position = resolved.scenario.variant.index(judged_variant(resolved))
    load = resolved.scenario.variant[position].load
    if not load.is_open:
        return load.streams
    seed = resolved.scenario.seed
    if seed is None and load.arrivals == "poisson" and load.replay is None:
        return None
    return count_starts(load, seed or 0, resolved.replays[position])


def expected_streams(resolved: Resolved) -> int | None:
    """About how many judged streams the judged variant will have."""
    fixed = fixed_streams(resolved)
    load = judged_variant(resolved).load
    return expected_starts(load) if fixed is None and load.is_open else fixed


def _share_of(streams: int, specs: list[GroupSpec]) -> int:
    return int(streams * sum((spec.fraction for spec in specs), Fraction(0)))


def _groups(resolved: Resolved, claim: Claim) -> list[GroupSpec]:
    """The groups that the claim speaks of."""
    named = {claim.scope.group, claim.scope.after} - {None}
    if not resolved.groups:
        return [] if named else [_EVERYBODY]
    return [spec for spec in resolved.groups if not named or named & {spec.name, kind_of(spec.fault)}]
