"""Whether arrivals keep to a beat: their distances are whole multiples of one time (checks.md 5.4).

What a timer lets go comes at its ticks, though what it holds was made at any moment; with groups that come less often
than it ticks, neither the number of events a burst nor an even spacing shows it. Senders that work by a timer of their own
keep to a beat as well: alone a beat accuses nobody (docs/check-evidence.md has who keeps to one, and how closely).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

MS: Final = 1_000_000
SHORTEST_NS: Final = 50 * MS
"""Nobody notices a faster timer."""
LONGEST_NS: Final = 5_000 * MS
LEAST_DISTANCES: Final = 19
DISTANCES_LIMIT: Final = 120
STEADY_FROM: Final = 0.85
"""Jittery links and senders reach 0.6, timers 0.95 and more."""
NEAR: Final = 0.1
"""Of the beat: so close a distance fits."""
OTHER_SHARE: Final = 0.15
"""Of the distances: so many are another multiple than the commonest one, or the beat is just even spacing."""
_STEPS: Final = 40
"""In which the longest distance turns once."""


class Beat(Struct, frozen=True):
    """A time that the distances are multiples of."""

    every_ns: int
    steady: float
    """Mean cosine of the distances' phases: 1 when all are exact multiples, 0 when they fall anywhere."""
    fitting: int
    """Distances within NEAR of a multiple."""
    distances: int
    even: bool
    """Nearly all are the same multiple: as likely an even pace."""


def distances_of(instants_ns: Sequence[int]) -> list[int]:
    """The first distances between instants."""
    return [after - before for before, after in itertools.pairwise(instants_ns)][:DISTANCES_LIMIT]


def beat_of(instants_ns: Sequence[int]) -> Beat | None:
    """The beat that these instants keep to, None where they keep to none or are too few."""
    distances = distances_of(instants_ns)
    if len(distances) < LEAST_DISTANCES:
        return None
    ordered = sorted(distances)
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    # Nothing is let go twice in one tick.
    longest = min(LONGEST_NS, low * 11 // 10)
    if longest < SHORTEST_NS:
        return None
    step = 1 / (_STEPS * high)
    count = int((1 / SHORTEST_NS - 1 / longest) / step) + 1
    found = max((1 / longest + turn * step for turn in range(count)), key=lambda each: _mean(distances, each))
    steady = _mean(distances, found)
    if steady < STEADY_FROM:
        return None
    multiples = [round(each * found) for each in distances]
    every = sum(distances) / sum(multiples)
    commonest = max(multiples.count(each) for each in set(multiples))
    return Beat(
        every_ns=round(every),
        steady=steady,
        fitting=sum(abs(each / every - round(each / every)) <= NEAR for each in distances),
        distances=len(distances),
        even=len(distances) - commonest < OTHER_SHARE * len(distances),
    )


def steadiness(instants_ns: Sequence[int], every_ns: int) -> float:
    """How well these instants keep to a given beat: 1 exactly, 0 not at all."""
    distances = distances_of(instants_ns)
    return _mean(distances, 1 / every_ns) if distances else 0.0


def _mean(distances: Sequence[int], per_ns: float) -> float:
    return sum(math.cos(math.tau * each * per_ns) for each in distances) / len(distances)
