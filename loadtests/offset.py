"""How far this worker's clock is ahead of the master's: round trips, the tightest of which is believed.

Pure. Rules (design.md decision 7):
- The master reads its clock between our sending and our receiving, so one round trip bounds the offset on both sides,
  however long either process took: it lies in [sent - master, received - master].
- Clocks drift apart, by at most DRIFT_PPM of the time that has passed, so an old bound widens as it ages. The bound that is
  tightest now is the estimate.
- A bound that contradicts the estimate shows that a clock was stepped: everything older is forgotten.
"""

from typing import Final

from msgspec import Struct

DRIFT_PPM: Final = 500
"""What adjtime may slew a clock by; two free-running crystals drift apart by less."""


class Offset(Struct, frozen=True):
    """Our clock less the master's, and how far the truth can lie to either side, in ns."""

    ns: int = 0
    error_ns: int = 0


class OffsetEstimate:
    """Takes round trips, gives the offset.

    All bounds widen at the same rate, so only the tightest has to be kept.
    """

    def __init__(self) -> None:
        self._best: tuple[int, int, int] | None = None
        """When it was received by our clock, the offset in its middle, half its width."""

    def add(self, sent_ns: int, master_ns: int, received_ns: int) -> None:
        """One round trip: sent and received by our clock, answered by the master's."""
        if received_ns < sent_ns:
            return  # our clock was stepped back on the way
        low, high = sent_ns - master_ns, received_ns - master_ns
        known = self.at(received_ns)
        half = -(-(high - low) // 2)
        if (
            known is None
            or half <= known.error_ns
            or low > known.ns + known.error_ns
            or high < known.ns - known.error_ns
        ):
            self._best = received_ns, (low + high) // 2, half

    def at(self, now_ns: int) -> Offset | None:
        """The offset at an instant of our clock; None before the first round trip."""
        if self._best is None:
            return None
        received_ns, offset_ns, half = self._best
        return Offset(offset_ns, half + abs(now_ns - received_ns) * DRIFT_PPM // 1_000_000)
