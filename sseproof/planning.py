"""How many units a scenario gives each claim: fixed by the plan, or to be expected.

- Streams: a fixed number of streams, times the share of the group that the claim names.
- Breaks: a cut of the first connection breaks each stream of its group exactly once; a link that is away breaks what
  is open then, in closed load as many streams of the group as its share of the users, in each window.
- Gaps and streams by duration depend on the target: not known before the run.
"""

from fractions import Fraction

from sseproof.chaos.faults import Clean, Cut, Refused, kind_of
from sseproof.chaos.plan import GroupSpec
from sseproof.reports.claims import Claim
from sseproof.scenario import Resolved, Variant

_EVERYBODY = GroupSpec(name="all", share="100%", fault=Clean())


def judged_variant(resolved: Resolved) -> Variant:
    """The variant that sets the exit code."""
    variants = resolved.scenario.variant
    return next((variant for variant in variants if variant.judged), variants[-1])


def fixed_units(resolved: Resolved, claim: Claim) -> int | None:
    """Units of the claim in the judged variant, where the plan fixes them; at least so many, for breaks."""
    streams = judged_variant(resolved).load.streams
    if streams is None:
        return None
    if claim.unit == "stream":
        return int(streams * sum((spec.fraction for spec in _groups(resolved, claim)), Fraction(0)))
    if claim.unit == "break":
        specs = _groups(resolved, claim)
        cuts = [spec for spec in specs if isinstance(spec.fault, Cut) and spec.fault.on == "first"]
        if cuts and not any(isinstance(spec.fault, Refused) for spec in specs):
            return int(streams * sum((spec.fraction for spec in cuts), Fraction(0)))
    return None


def expected_units(resolved: Resolved, claim: Claim) -> int | None:
    """About how many units the claim will have; None where the plan says nothing about it."""
    if claim.unit != "break":
        return fixed_units(resolved, claim)
    load = judged_variant(resolved).load
    found = 0
    for spec in _groups(resolved, claim):
        if isinstance(spec.fault, Cut) and spec.fault.on == "first" and load.streams is not None:
            found += int(load.streams * spec.fraction)
        elif isinstance(spec.fault, Refused):
            found += int(load.users * spec.fraction) * spec.fault.times
    return found or None


def _groups(resolved: Resolved, claim: Claim) -> list[GroupSpec]:
    """The groups that the claim speaks of."""
    named = {claim.scope.group, claim.scope.after} - {None}
    if not resolved.groups:
        return [] if named else [_EVERYBODY]
    return [spec for spec in resolved.groups if not named or named & {spec.name, kind_of(spec.fault)}]
