"""Fan-out: how much later than the first subscriber of its topic each other one received the same event.

Pure. Rules:
- Subscribers are compared by the event's number, within one process: what another worker received first is not known.
- Instants are those of the read's last byte: the earlier events of a read that brought several come out late, never early.
- The first to receive an event is whose read has the earliest stamp. A read that is handled late may bring an earlier
  one; what was counted before it stays as it is, too small by at most the read lag.
- Numbers and topics are bounded: the oldest go first, and an event that comes after that is nobody's second.
"""

from typing import Final

from sseproof.loadtests.tally import Intervals

NUMBERS_KEPT: Final = 4_096
"""Of each topic: 40 s at 100 events a second."""
TOPICS_KEPT: Final = 1_000


class Fanout:
    """The first arrivals of one process, by topic and number."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[int, int]] = {}

    def arrived(self, topic: str, number: int, at_ns: int, behind: Intervals) -> None:
        """An event reached a subscriber; by how much it came behind another's is added to `behind`."""
        firsts = self._topics.get(topic)
        if firsts is None:
            firsts = self._topics[topic] = {}
            if len(self._topics) > TOPICS_KEPT:
                del self._topics[next(iter(self._topics))]
        first = firsts.get(number)
        if first is None:
            firsts[number] = at_ns
            if len(firsts) > NUMBERS_KEPT:
                del firsts[next(iter(firsts))]
            return
        late_ns = max(at_ns - first, 0)
        behind.add_exact(late_ns)
        behind.sum_ns += late_ns
        if at_ns < first:
            firsts[number] = at_ns
