"""When a run gives up: a condition on its own streams, watched while it lasts; pure.

Rules:
- The condition is one line, `success < 50% for 10s`, or with another least number of streams `… over 5`.
- It counts the streams of the judged variant that ended in the last so many seconds, as their rows come in; the warm-up
  too, since it is about harm and not about measuring. By their own word: what only a witness could tell comes later.
- It is met only when the load has lasted that long, and with that many streams (20 unless said): two bad ones stop nothing.
- A stream that hangs has not ended: it counts when a time-out of the client has ended it.
"""

import re
from collections import deque
from typing import Final, Literal

from msgspec import Struct

from sseproof.reports.words import count_of
from sseproof.rundir.units import Duration, format_duration, parse_duration

Stop = Literal["faults", "load"]

FEWEST: Final = 20
"""Streams, unless the condition says how many: half of them bad is then no bad luck of a service that fails once in ten."""
MOST_FEWEST: Final = 1_000_000
SHORTEST_NS: Final = 1_000_000_000
LONGEST_NS: Final = 3_600_000_000_000
EXAMPLE: Final = "success < 50% for 10s"
_LONGEST_SHOWN_CHARS: Final = 60
_CONDITION: Final = re.compile(
    r"success\s*<\s*(\d{1,3}(?:\.\d{1,2})?)\s*%\s+for\s+(\S+)(?:\s+over\s+(\d{1,7}))?", re.ASCII
)


class Abort(Struct, kw_only=True, forbid_unknown_fields=True):
    """[abort] of a scenario."""

    when: str
    stop: Stop = "faults"


class Condition(Struct, frozen=True, kw_only=True):
    """A condition as it was read."""

    below: float
    """Share of good streams."""
    length: Duration
    fewest: int = FEWEST

    @property
    def text(self) -> str:
        """As it is written."""
        over = "" if self.fewest == FEWEST else f" over {self.fewest}"
        return f"success < {self.below * 100:.4g}% for {format_duration(self.length.ns)}{over}"


class Met(Struct, frozen=True, kw_only=True):
    """What the streams showed when it was met."""

    n: int
    k: int
    """Good ones."""


def parse_condition(text: str) -> Condition:
    """The condition. Raises ValueError, with the end of a sentence, for one that can't be watched."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:_LONGEST_SHOWN_CHARS]!r} is no condition; write it as in {EXAMPLE!r}.")
    share = float(match[1])
    if not 0 < share <= 100:
        raise ValueError(
            f"{match[1]}% is no share that success can be below of; give one above 0% up to 100%."
        )
    try:
        length = parse_duration(match[2])
    except ValueError as error:
        raise ValueError(f"is not understood: {error}.") from None
    if not SHORTEST_NS <= length.ns <= LONGEST_NS:
        raise ValueError(f"watches {length}; give 1s to 1h.")
    fewest = FEWEST if match[3] is None else int(match[3])
    if not 1 <= fewest <= MOST_FEWEST:
        raise ValueError(f"needs {match[3]} streams; give 1 to {MOST_FEWEST:,}.")
    return Condition(below=share / 100, length=length, fewest=fewest)


class Watch:
    """The streams that ended lately. Instants are seconds of one monotonic clock."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._began: float | None = None
        self._ended: deque[tuple[float, bool]] = deque()
        self._good = 0
        self._most = 0

    def began(self, at_s: float) -> None:
        """The load has begun; only the first word counts."""
        self._began = at_s if self._began is None else self._began

    def elapsed_s(self, at_s: float) -> float:
        """Since the load began."""
        return 0.0 if self._began is None else at_s - self._began

    def ended(self, at_s: float, *, good: bool) -> None:
        """A stream's row came in."""
        self._ended.append((at_s, good))
        self._good += good

    def look(self, at_s: float) -> Met | None:
        """What was seen, if the condition is met now."""
        length_s = self._condition.length.seconds
        while self._ended and self._ended[0][0] <= at_s - length_s:
            self._good -= self._ended.popleft()[1]
        n = len(self._ended)
        self._most = max(self._most, n)
        if self._began is None or at_s - self._began < length_s or n < self._condition.fewest:
            return None
        return Met(n=n, k=self._good) if self._good < self._condition.below * n else None

    def blind(self) -> str:
        """That it never had streams enough to be met, whatever they came to: a sentence, empty where it had."""
        fewest, length = self._condition.fewest, self._condition.length
        if self._most >= fewest:
            return ""
        return (
            f"abort.when was blind: it waits for {count_of(fewest, 'stream')} that end within {length}, and there were never "
            f"more than {self._most:,}. Let it watch for longer, or write a smaller number behind it (over "
            f"{max(1, self._most // 2):,})."
        )
