"""What one stream adds up to: the numbers it received, its gaps, its text, its outcome.

Pure. Rules (design.md "Outcomes", decisions 4 and 11):
- Numbers are kept as ranges: one integer moves while they come in order, whatever the stream's length.
- An interval between two instants with error brackets counts at both ends of what it can have been.
- The text's digest is that of the UTF-8 bytes handed to the user, each event once, in the order of arrival.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.rundir.rows import AttemptEnd, Gaps, Outcome, StreamKind

RANGES_IN_ROW: Final = 1_000
RANGES_KEPT: Final = 50_000
"""A hostile source that skips every second number would fill memory otherwise (about 5 MB at this limit)."""
PARTS_KEPT: Final = 8
"""Pieces of text that wait to be hashed together: a call of the hash costs more than a short token. Twice as many save
0.02 µs a token, and cost each of thousands of quiet streams half a kilobyte."""
LONG_PART_CHARS: Final = 4_096
_NO_COUNTS: Final[list[int]] = []
"""Shared, and never added to."""
REPLACEMENT: Final = "\ufffd"


class Numbers:
    """The sequence numbers of a stream. `next` is the one that continues the newest range.

    The hot path may do `if number == numbers.next: numbers.next = number + 1` itself; `add` takes every other number.
    """

    __slots__ = ("_dropped", "_ends", "_first", "_floor", "_starts", "blind", "doubled", "next", "reordered")

    def __init__(self) -> None:
        self.next = -1
        self.doubled = 0
        self.reordered = 0
        self.blind = False
        """A number came that can no longer be told new or doubled, because too many ranges were dropped."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._first = 0
        self._floor = -1
        self._dropped = 0

    def add(self, number: int) -> bool:
        """Whether this number is received for the first time."""
        starts, ends = self._starts, self._ends
        if not starts:
            starts.append(number)
            ends.append(number)
            self._first = number
            self.next = number + 1
            return True
        ends[-1] = self.next - 1
        if number > ends[-1]:
            self._append(number)
            return True
        if number <= self._floor:
            self.blind = True
            return False
        at = bisect_right(starts, number) - 1
        if at >= 0 and number <= ends[at]:
            self.doubled += 1
            return False
        self.reordered += 1
        self._first = min(self._first, number)
        joins_left = at >= 0 and ends[at] == number - 1
        joins_right = starts[at + 1] == number + 1
        if joins_left and joins_right:
            ends[at] = ends[at + 1]
            del starts[at + 1], ends[at + 1]
        elif joins_left:
            ends[at] = number
        elif joins_right:
            starts[at + 1] = number
        else:
            starts.insert(at + 1, number)
            ends.insert(at + 1, number)
        return True

    def _append(self, number: int) -> None:
        if number == self.next:
            self.next = number + 1
            return
        self._starts.append(number)
        self._ends.append(number)
        self.next = number + 1
        if len(self._starts) > RANGES_KEPT:
            half = RANGES_KEPT // 2
            self._dropped += sum(
                end - start + 1 for start, end in zip(self._starts[:half], self._ends[:half], strict=True)
            )
            self._floor = self._ends[half - 1]
            del self._starts[:half], self._ends[:half]

    @property
    def known(self) -> bool:
        """Whether any number came."""
        return bool(self._starts)

    @property
    def highest(self) -> int | None:
        """The highest number received."""
        return self.next - 1 if self._starts else None

    def lost(self) -> int | None:
        """Numbers between the first range and the highest that never came; None without any, or when blind."""
        if not self._starts or self.blind:
            return None
        ends = [*self._ends[:-1], self.next - 1]
        received = self._dropped + sum(end - start + 1 for start, end in zip(self._starts, ends, strict=True))
        return self.next - self._first - received

    def ranges(self) -> list[tuple[int, int]]:
        """First and last of each range, ascending; at most RANGES_IN_ROW of them."""
        if not self._starts:
            return []
        ends = [*self._ends[:-1], self.next - 1]
        return list(zip(self._starts[:RANGES_IN_ROW], ends[:RANGES_IN_ROW], strict=True))

    @property
    def capped(self) -> bool:
        """Whether `ranges` does not tell all."""
        return len(self._starts) > RANGES_IN_ROW or self._dropped > 0


class Intervals:
    """A histogram of intervals between the plan's edges, at both ends of their error brackets.

    Bucket i holds intervals in (edge[i-1], edge[i]]. The hot path may add an exact interval to `exact` itself. Counts of
    the others are made when there is one: most streams of a load have none, and each has these counts.
    """

    __slots__ = ("edges", "exact", "hi", "lo", "longest_hi_ns", "longest_lo_ns", "sum_ns")

    def __init__(self, edges: Sequence[int]) -> None:
        self.edges = edges
        self.exact = [0] * (len(edges) + 1)
        self.lo = self.hi = _NO_COUNTS
        self.longest_lo_ns = 0
        self.longest_hi_ns = 0
        self.sum_ns = 0

    def add_exact(self, ns: int) -> None:
        """One interval without an error; a negative one (two clocks) counts as none."""
        self.exact[bisect_left(self.edges, ns)] += 1
        if ns > self.longest_lo_ns:  # noqa: PLR1730  # called for each event: a call of max costs more
            self.longest_lo_ns = ns
        if ns > self.longest_hi_ns:  # noqa: PLR1730  # called for each event: a call of max costs more
            self.longest_hi_ns = ns

    def add_run(self, values_ns: Sequence[int]) -> None:
        """Several intervals without an error; their sum is the caller's business."""
        exact, edges = self.exact, self.edges
        for ns in values_ns:
            exact[bisect_left(edges, ns)] += 1
        longest = max(values_ns)
        self.longest_lo_ns = max(self.longest_lo_ns, longest)
        self.longest_hi_ns = max(self.longest_hi_ns, longest)

    def add(self, lo_ns: int, hi_ns: int) -> None:
        """One interval that was at least `lo_ns` and at most `hi_ns` long; its sum is the caller's business."""
        lo_ns = max(lo_ns, 0)
        hi_ns = max(hi_ns, lo_ns)
        self._need_both()
        self.lo[bisect_left(self.edges, lo_ns)] += 1
        self.hi[bisect_left(self.edges, hi_ns)] += 1
        self.longest_lo_ns = max(self.longest_lo_ns, lo_ns)
        self.longest_hi_ns = max(self.longest_hi_ns, hi_ns)

    def add_unended(self, ns: int) -> None:
        """One interval of at least this length that was never seen to end."""
        ns = max(ns, 0)
        self._need_both()
        self.lo[bisect_left(self.edges, ns)] += 1
        self.hi[-1] += 1
        self.longest_lo_ns = max(self.longest_lo_ns, ns)
        self.longest_hi_ns = max(self.longest_hi_ns, ns)
        self.sum_ns += ns

    def _need_both(self) -> None:
        if not self.lo:
            self.lo = [0] * len(self.exact)
            self.hi = [0] * len(self.exact)

    def row(self) -> Gaps | None:
        """The histogram as it is kept; None when it is empty."""
        self._need_both()
        lo = [exact + low for exact, low in zip(self.exact, self.lo, strict=True)]
        hi = [exact + high for exact, high in zip(self.exact, self.hi, strict=True)]
        count = sum(lo)
        if not count:
            return None
        return Gaps(
            count=count,
            longest_lo_ns=self.longest_lo_ns,
            longest_hi_ns=self.longest_hi_ns,
            sum_ns=self.sum_ns,
            lo=_trimmed(lo),
            hi=_trimmed(hi),
        )


class Text:
    """The text handed to the user, as its length and digest; the text itself is not kept."""

    __slots__ = ("_digest", "bytes", "chars", "fffd", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.chars = 0
        self.bytes = 0
        self.fffd = 0
        """U+FFFD characters so far."""
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        """Appends to the text."""
        parts = self.parts
        parts.append(text)
        if len(parts) >= PARTS_KEPT or len(text) >= LONG_PART_CHARS:
            self.flush()

    def flush(self) -> None:
        """Brings the counts up to date."""
        if not self.parts:
            return
        text = "".join(self.parts)
        self.parts.clear()
        encoded = text.encode("utf-8", "surrogatepass")  # a lone surrogate can come from a JSON escape
        self.chars += len(text)
        self.bytes += len(encoded)
        self.fffd += text.count(REPLACEMENT)
        self._digest.update(encoded)

    @property
    def sha256(self) -> str:
        """The digest of everything that was flushed, in hexadecimal."""
        return self._digest.hexdigest()


class Ending(Struct, kw_only=True, frozen=True):
    """What decides a stream's outcome."""

    end: AttemptEnd
    kind: StreamKind
    terminal_known: bool
    got_events: bool
    """On any attempt; heartbeats do not count."""
    last_got_events: bool
    """The last attempt brought events of any kind but heartbeats."""
    streaming: bool = False
    """An event stream was coming in when we ended it."""
    unfinished: bool = False
    """We ended it for a reason that has nothing to do with the target."""
    retry_after: bool = False
    status: int | None = None
    limited: bool = False
    declined: bool = False
    damaged: bool = False
    """Known to be lost, doubled, out of order or ill-formed."""
    inside_event: bool = False
    """The last bytes were those of an event that was not completed, in a stream whose regular end is the connection's."""


def outcome_of(ending: Ending) -> Outcome:
    """The outcome of a stream: its last attempt decides (design.md "Outcomes").

    A clean end is the regular one only if no terminal marker is known, and only after at least one event, and between
    two: an answer without any, or that ends inside one, is `truncated`.
    """
    outcome = _FAILURES.get(ending.end)
    if outcome is not None:
        if outcome == "unreachable" and ending.got_events:
            return "cut"
        throttled = ending.end == "status" and ending.status in {429, 503} and ending.retry_after
        return "throttled" if throttled else outcome
    if ending.declined:
        return "declined"
    if ending.end == "inband-error":
        return "error-inband"
    if ending.end == "stopped":
        held = ending.kind == "subscription" and ending.streaming and not ending.unfinished
        return _checked("held", ending) if held else "unfinished"
    if ending.end == "no-content":
        return _checked("complete", ending) if ending.got_events else "error-http"
    if ending.end == "eof" and (
        ending.terminal_known or ending.kind == "subscription" or not ending.last_got_events
    ):
        return "truncated"
    if ending.end == "eof" and ending.inside_event and not ending.damaged:
        return "truncated"
    return _checked("complete-limited" if ending.limited else "complete", ending)


def _checked(outcome: Outcome, ending: Ending) -> Outcome:
    return "damaged" if ending.damaged else outcome


_FAILURES: Final[dict[AttemptEnd, Outcome]] = {
    "refused": "unreachable",
    "dns": "unreachable",
    "tls": "unreachable",
    "connect-timeout": "unreachable",
    "status": "error-http",
    "content-type": "error-http",
    "protocol": "error-http",
    "too-big": "error-http",
    "fin": "cut",
    "rst": "cut",
    "headers-timeout": "stalled",
    "first-event-timeout": "stalled",
    "idle-timeout": "stalled",
    "total-timeout": "stalled",
}


def _trimmed(counts: list[int]) -> list[int]:
    while counts and not counts[-1]:
        counts.pop()
    return counts
