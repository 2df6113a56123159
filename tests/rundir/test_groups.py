"""The seeded rule that gives a stream its group and its addresses."""

from collections import Counter

from sseproof.rundir.groups import GroupRule, GroupShare, address_of, group_of, seat_of
from sseproof.rundir.rows import AddressPlan

RULE = GroupRule(seed=5, block=4, shares=(GroupShare("a", 1), GroupShare("b", 3)))


def address(port: int, group: str, attempts: str = "any") -> AddressPlan:
    return AddressPlan(host="127.0.0.1", port=port, group=group, attempts=attempts)


def test_every_block_is_exact() -> None:
    for block in range(50):
        counts = Counter(group_of(RULE, stream) for stream in range(block * 4, block * 4 + 4))
        assert counts == {"a": 1, "b": 3}


def test_blocks_differ_and_seeds_differ() -> None:
    order = [group_of(RULE, stream) for stream in range(80)]
    assert len({tuple(order[start : start + 4]) for start in range(0, 80, 4)}) == 4
    other = GroupRule(seed=6, block=4, shares=RULE.shares)
    assert [group_of(other, stream) for stream in range(80)] != order


def test_the_rule_is_stable() -> None:
    """Plans of earlier runs must read the same for ever."""
    assert [group_of(RULE, stream) for stream in range(12)] == list("bbbabbbaabbb")


def test_ordinals_are_dense_within_a_group() -> None:
    for group in ("a", "b"):
        ordinals = [seat_of(RULE, n).ordinal for n in range(400) if group_of(RULE, n) == group]
        assert sorted(ordinals) == list(range(len(ordinals)))


def test_first_attempts_go_round_the_faulty_addresses() -> None:
    addresses = [
        address(1, "b", "first"),
        address(2, "b", "first"),
        address(3, "b", "later"),
        address(4, "a"),
    ]
    dialled = Counter(address_of(addresses, RULE, n, 1).port for n in range(400))
    assert dialled == {1: 150, 2: 150, 4: 100}
    later = {address_of(addresses, RULE, n, attempt).port for n in range(400) for attempt in (2, 3)}
    assert later == {3, 4}
    assert address_of([], RULE, 0, 1) is None
