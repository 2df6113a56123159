"""Arrivals of one topic's events at several subscribers: known spreads, and bounds on what is remembered."""

from collections.abc import Sequence

from sseproof.loadtests import fanout
from sseproof.loadtests.fanout import Fanout
from sseproof.loadtests.tally import Intervals

MS = 1_000_000
EDGES = [1 * MS, 10 * MS, 100 * MS]


def after(
    arrivals: Sequence[tuple[str, int, float, int]], subscribers: int, known: Fanout | None = None
) -> list[Intervals]:
    """What each subscriber was behind, after (topic, number, ms, subscriber) in the order of handling."""
    behind = [Intervals(EDGES) for _ in range(subscribers)]
    known = known or Fanout()
    for topic, number, at_ms, subscriber in arrivals:
        known.arrived(topic, number, round(at_ms * MS), behind[subscriber])
    return behind


def test_each_is_behind_the_first_of_its_topic_and_number() -> None:
    first, second, third = after(
        [
            ("a", 1, 0, 0),
            ("a", 1, 5, 1),
            ("a", 1, 50, 2),
            ("a", 2, 100, 1),
            ("a", 2, 100.5, 0),
            ("b", 1, 900, 2),
        ],
        3,
    )
    assert [each.exact for each in (first, second, third)] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert (second.sum_ns, third.longest_hi_ns) == (5 * MS, 50 * MS)


def test_a_read_that_is_handled_late_and_came_earlier_is_the_first_from_then_on() -> None:
    first, second, third = after([("a", 1, 10, 0), ("a", 1, 7, 1), ("a", 1, 12, 2)], 3)
    assert (first.row(), second.sum_ns, third.sum_ns) == (None, 0, 5 * MS)


def test_old_numbers_and_topics_are_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(fanout, "NUMBERS_KEPT", 2)
    monkeypatch.setattr(fanout, "TOPICS_KEPT", 2)
    known = Fanout()
    (first, second) = after([("a", number, 0, 0) for number in (1, 2, 3)] + [("a", 1, 9, 1)], 2, known)
    assert first.row() is second.row() is None
    (only,) = after([("b", 1, 0, 0), ("c", 1, 0, 0), ("a", 3, 9, 0)], 1, known)
    assert only.row() is None
