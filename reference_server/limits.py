"""What one visitor may ask for: the words of a refusal, and a token bucket a visitor (pure).

Rules:
- A refusal is one sentence with its status; those that pass say when to come again, in whole seconds (RFC 9110, 10.2.3).
- A bucket holds `burst` requests and fills up evenly. Who is refused loses nothing by asking: waiting as told is enough.
- The table of buckets is bounded. A bucket that is full again is like none, so the one that was used longest ago goes
  first.
"""

import math
from typing import Final

from msgspec import Struct

VISITORS_KEPT: Final = 10_000
"""At about 200 bytes each. With a login there are no more than users; without, peers could come from anywhere."""


class Refusal(Struct, frozen=True):
    """Why a request is not served: a status, one sentence, and what else the response's head says."""

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    """In the figures; empty for that of its status."""


def come_again(
    status: int, sentence: str, wait_s: float, *more: tuple[str, str], reason: str = ""
) -> Refusal:
    """A refusal that passes: Retry-After says when, rounded up, and never 0."""
    return Refusal(status, sentence, (("Retry-After", str(max(1, math.ceil(wait_s)))), *more), reason)


ROUNDING: Final = 1e-9


class RateLimiter:
    """Requests a minute, for each visitor apart; `now` is the event loop's clock, in seconds.

    `what` is counted, in the words of a refusal, and `reason` is the refusal's.
    """

    def __init__(
        self,
        per_minute: int,
        burst: int,
        limit: int = VISITORS_KEPT,
        *,
        what: str = "requests",
        reason: str = "",
    ) -> None:
        self._per_minute = per_minute
        self._burst = burst
        self._limit = limit
        self._what = what
        self._reason = reason
        self._buckets: dict[str, tuple[float, float]] = {}
        """What each held when it was last looked at, and when that was."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, visitor: str, now: float) -> Refusal | None:
        """Takes one request, or says when there will be one."""
        held = self._held(visitor, now)
        refusal = self._refusal(held)
        self._buckets.pop(visitor, None)
        self._buckets[visitor] = (max(0.0, held - (refusal is None)), now)
        if len(self._buckets) > self._limit:
            del self._buckets[next(iter(self._buckets))]
        return refusal

    def look(self, visitor: str, now: float) -> Refusal | None:
        """What `take` would say; nothing is taken."""
        return self._refusal(self._held(visitor, now))

    def _refusal(self, held: float) -> Refusal | None:
        if held >= 1 - ROUNDING:  # waiting as long as told is enough, whatever the sums of floats
            return None
        return come_again(
            429,
            f"Too many {self._what}: {self._per_minute} a minute are allowed, {self._burst} of them at once.",
            (1 - held) * 60 / self._per_minute,
            ("RateLimit-Policy", f'"{self._what.replace(" ", "-")}";q={self._per_minute};w=60'),
            reason=self._reason,
        )

    def _held(self, visitor: str, now: float) -> float:
        held, since = self._buckets.get(visitor, (float(self._burst), now))
        return min(float(self._burst), held + (now - since) * self._per_minute / 60)
