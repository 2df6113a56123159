"""Whether a variant's answers were held back and then handed over at once, and what its gaps are worth then (pure).

Whoever buffers an answer makes its first token late and its gaps short: a claim about gaps passes that no user would
call smooth. Only the rows say so, and only against a variant that did not buffer: of streams that ended well on their
first connection, the median time to the first token, and from there to the last event.
"""

import statistics
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.facts import Facts
from sseproof.reports.words import duration_text
from sseproof.rundir.text import printable

LEAST_STREAMS: Final = 8
"""A median of fewer is no ground for a sentence."""
SHORTER: Final = 4
"""So many times shorter than in the other variant is the time from the first token to the last event."""

_AT_ONCE_NS: Final = 500_000


class Pace(Struct, frozen=True):
    """Medians of one variant, in ns."""

    wait_ns: float
    """From sending the request to the first token."""
    rest_ns: float
    """From the first token to the last event."""


def pace_of(facts: Sequence[Facts], variant: str | None) -> Pace | None:
    """None with too few streams that ended well on their first connection."""
    waits, rests = [], []
    for each in facts:
        record = each.record
        sent, first, last = record.sent, record.first_token, record.last_event
        if record.variant != variant or record.outcome != "complete" or record.attempts_total != 1:
            continue
        if sent is not None and first is not None and last is not None:
            waits.append(first.ns - sent.ns)
            rests.append(last.ns - first.ns)
    if len(waits) < LEAST_STREAMS:
        return None
    return Pace(statistics.median(waits), statistics.median(rests))


def held_back(facts: Sequence[Facts], variants: Sequence[str | None]) -> dict[str | None, str]:
    """A sentence for each variant whose answers came at once after a wait that took the place of the others' pace."""
    paces = {name: pace for name in variants if (pace := pace_of(facts, name)) is not None}
    found = {}
    for name, pace in paces.items():
        smooth = [
            (other, theirs)
            for other, theirs in paces.items()
            if theirs.rest_ns >= SHORTER * pace.rest_ns
            and pace.wait_ns - theirs.wait_ns >= (theirs.rest_ns - pace.rest_ns) / 2
        ]
        if not smooth:
            continue
        other, theirs = max(smooth, key=lambda each: each[1].rest_ns)
        rest = "with it" if pace.rest_ns < _AT_ONCE_NS else f"{duration_text(pace.rest_ns)} later"
        found[name] = (
            f"{printable(name or '', 60)}: the answers were held back and then came at once, the first token after "
            f"{duration_text(pace.wait_ns)} and the last event {rest} ({printable(other or '', 60)}: "
            f"{duration_text(theirs.wait_ns)} and {duration_text(theirs.rest_ns)} later; medians). Short gaps there are "
            "no sign of a smooth stream."
        )
    return found
