"""Which planned phase a moment of the load lies in; pure.

Phases follow one another from the begin of load without a gap, so every moment lies in exactly one.
"""

from collections.abc import Sequence
from typing import Final

from sseproof.rundir.rows import PhasePlan

_NS_PER_MS: Final = 1_000_000


def phase_at(phases: Sequence[PhasePlan], offset_ns: int) -> str | None:
    """The name of the phase at an offset from the begin of load; None without phases. Before it the first one counts."""
    found = None
    for phase in phases:
        if found is not None and offset_ns < phase.start_ms * _NS_PER_MS:
            break
        found = phase.name
    return found
