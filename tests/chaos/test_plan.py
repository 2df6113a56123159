"""Plans: exact shares, offsets from the seed, as many proxies as serial dialling needs."""

from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from sseproof.chaos.faults import Cut, FaultError
from sseproof.chaos.plan import (
    CLEAN_GROUP,
    MOST_PROXIES_A_GROUP,
    OWN_CONNECT_NS,
    QUEUE_BUDGET_NS,
    FaultPlan,
    addresses,
    longest_queue_ns,
    parse_groups,
    plan_faults,
    planned_connect_ns,
    proxies_needed,
    rule_of,
    with_ports,
)
from sseproof.rundir.groups import address_of, group_of, seat_of

TABLES = [
    {"kind": "cut", "share": "20%", "after_bytes": [500, 4000]},
    {"kind": "cut", "name": "cut-rst", "share": "12.5%", "after_bytes": 600, "by": "rst"},
    {"kind": "stall", "share": "10%", "after": "2s", "duration": "1s"},
    {"kind": "refused", "share": "10%", "after": "1s", "duration": "500ms", "every": "2s", "times": 2},
]


def planned(seed: int = 7, **changes) -> FaultPlan:
    options = {
        "run": "20261123T050000.000001Z-7",
        "seed": seed,
        "upstreams": {None: "127.0.0.1:80"},
        "connect_ns": 100_000,
        "at_once": 50,
    }
    return plan_faults(parse_groups(TABLES), **(options | changes))


def test_shares_are_exact_over_every_block() -> None:
    rule = planned().rule
    assert rule.block == 40
    for block in range(5):
        counts = Counter(group_of(rule, stream) for stream in range(block * 40, block * 40 + 40))
        assert counts == {"cut": 8, "cut-rst": 5, "stall": 4, "refused": 4, CLEAN_GROUP: 19}


def test_no_worker_owns_a_group() -> None:
    """With k % workers a fixed order would give one worker all streams of a group."""
    rule = planned().rule
    for workers in (2, 4, 5, 8):
        for worker in range(workers):
            seen = {group_of(rule, stream) for stream in range(worker, 40 * 40, workers)}
            assert len(seen) == 5


def test_the_seed_decides_and_nothing_else() -> None:
    first, again, other = planned(7), planned(7), planned(8)
    assert first == again
    assert [group_of(first.rule, n) for n in range(80)] != [group_of(other.rule, n) for n in range(80)]
    assert [proxy.cut_after_bytes for proxy in first.proxies] != [
        proxy.cut_after_bytes for proxy in other.proxies
    ]


@pytest.mark.parametrize("measured_ms", [None, 0.03, 0.9, 5.0, 5.6, 40.0])
def test_a_server_of_our_own_is_planned_for_alike_however_busy_the_machine(measured_ms) -> None:
    measured_ns = None if measured_ms is None else round(measured_ms * 1_000_000)
    assert planned_connect_ns(measured_ns, own=True) == OWN_CONNECT_NS == 1_000_000


@pytest.mark.parametrize(
    ("measured_ms", "planned_ms"),
    [(0.03, 1), (1, 1), (1.001, 2), (5.0, 8), (5.6, 8), (8, 8), (8.1, 16), (20, 32), (300, 512)],
)
def test_a_little_more_or_less_of_connecting_is_the_same_plan(measured_ms, planned_ms) -> None:
    measured_ns = round(measured_ms * 1_000_000)
    connect_ns = planned_connect_ns(measured_ns, own=False)
    assert connect_ns == planned_ms * 1_000_000
    assert connect_ns >= measured_ns, "the bracket must hold the wait"


def test_both_variants_meet_the_same() -> None:
    plan = planned(upstreams={"before": "127.0.0.1:80", "after": "127.0.0.1:81"})
    before, after = addresses(plan, "before"), addresses(plan, "after")
    assert [each.cut_after_bytes for each in before] == [each.cut_after_bytes for each in after]
    assert {each.proxy for each in before}.isdisjoint(each.proxy for each in after)
    assert {proxy.upstream for proxy in plan.proxies if proxy.variant == "after"} == {"127.0.0.1:81"}


def test_the_plan_is_readable_and_takes_its_ports() -> None:
    plan = planned()
    ports = list(range(20_000, 20_000 + len(plan.proxies)))
    placed = with_ports(plan, ports)
    assert [proxy.port for proxy in placed.proxies] == ports
    assert msgspec.json.decode(msgspec.json.encode(placed), type=FaultPlan) == placed
    assert len({proxy.name for proxy in placed.proxies}) == len(placed.proxies)
    with pytest.raises(ValueError, match="zip"):
        with_ports(plan, ports[1:])


def test_offsets_cover_the_range_evenly_and_belong_to_streams() -> None:
    plan = planned()
    first = [each for each in addresses(plan) if each.group == "cut" and each.attempts == "first"]
    offsets = sorted(each.cut_after_bytes for each in first)
    edges = [500 + 3501 * part // 8 for part in range(9)]
    assert all(low <= offset < high for offset, (low, high) in zip(offsets, pairwise(edges), strict=True))
    streams = [n for n in range(40 * 8) if group_of(plan.rule, n) == "cut"]
    used = Counter(address_of(addresses(plan), plan.rule, n, 1).cut_after_bytes for n in streams)
    assert set(used.values()) == {8}
    assert len(used) == 8


def test_later_attempts_go_elsewhere() -> None:
    plan = planned()
    for stream in range(80):
        group = group_of(plan.rule, stream)
        for attempt in (1, 2, 3):
            address = address_of(addresses(plan), plan.rule, stream, attempt)
            assert address.group == group
            if group.startswith("cut"):
                assert (address.cut_after_bytes is None) == (attempt > 1)
    assert address_of([], plan.rule, 0, 1) is None


def test_ordinals_count_the_streams_of_a_group() -> None:
    rule = planned().rule
    seen: Counter[str] = Counter()
    ordinals: dict[str, set[int]] = {}
    for stream in range(200):
        seat = seat_of(rule, stream)
        ordinals.setdefault(seat.group, set()).add(seat.ordinal)
        seen[seat.group] += 1
    assert all(ordinals[group] == set(range(count)) for group, count in seen.items())


def test_proxies_follow_from_serial_dialling() -> None:
    assert proxies_needed(100_000, 50) == 1
    assert proxies_needed(20_000_000, 200) == 80
    assert longest_queue_ns(20_000_000, 200, 80) <= QUEUE_BUDGET_NS
    assert longest_queue_ns(20_000_000, 200, 1) == 199 * 20_000_000
    assert proxies_needed(10**9, 5) == 5, "more proxies than connections help nobody"
    assert proxies_needed(10**9, 10_000) == MOST_PROXIES_A_GROUP
    assert proxies_needed(0, 0) == 1


def test_windows_are_in_order_and_inside_the_load() -> None:
    plan = planned(load_ms=4_000)
    assert [(w.kind, w.number, w.start_ms, w.duration_ms) for w in plan.windows] == [
        ("refused", 1, 1000, 500),
        ("stall", 1, 2000, 1000),
        ("refused", 2, 3000, 500),
    ]
    with pytest.raises(FaultError, match=r"would end 3\.5 s after the begin of load, which lasts 3\.2 s"):
        planned(load_ms=3_200)


def test_a_group_may_be_everything() -> None:
    specs = parse_groups([{"kind": "cut", "share": "100%", "after_bytes": 9}])
    assert [spec.name for spec in specs] == ["cut"]
    assert specs[0].fault == Cut(after_bytes=9)
    assert parse_groups([])[0].share == "100%"


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ([{"kind": "cut", "after_bytes": 9}], "number 1: it needs the share"),
        ([{"kind": "cut", "after_bytes": 9, "share": "0%"}], "number 1: share is a percentage above 0%"),
        ([{"kind": "cut", "after_bytes": 9, "share": "101%"}], "share is a percentage"),
        ([{"kind": "cut", "after_bytes": 9, "share": 20}], "share is a percentage"),
        ([{"kind": "cut", "after_bytes": 9, "share": "20%", "name": "A B"}], "small letters"),
        ([{"kind": "cut", "after_bytes": 9, "share": "20%", "name": "clean"}], "take another name"),
        ([{"kind": "cut", "after_bytes": 9, "share": "60%"}] * 2, "Two .* are named 'cut'"),
        (
            [{"kind": "cut", "after_bytes": 9, "share": "60%", "name": n} for n in "ab"],
            "come to more than 100%",
        ),
        ([{"kind": "cut", "after_bytes": 9, "share": "33.33%"}], "only every 10000 streams"),
        ([{"kind": "cut", "share": "20%"}], "number 1: The fault 'cut' needs after_bytes"),
    ],
)
def test_bad_groups_are_refused_in_one_sentence(tables: list, sentence: str) -> None:
    with pytest.raises(FaultError, match=sentence):
        parse_groups(tables)


def test_rule_has_whole_blocks() -> None:
    rule = rule_of(parse_groups(TABLES), 3)
    assert sum(share.per_block for share in rule.shares) == rule.block


@pytest.mark.parametrize(
    "tables",
    [
        [{"kind": "server-restart", "share": "50%", "after": "1s", "duration": "1s"}],
        [{"kind": "server-restart", "share": "100%", "after": "1s", "duration": "1s"}] * 2,
        [{"kind": "server-restart", "share": "50%", "after": "1s", "duration": "1s"}, TABLES[0]],
    ],
    ids=["half", "twice", "beside-another"],
)
def test_what_happens_to_the_service_happens_to_all(tables) -> None:
    named = [{"name": f"n{number}", **table} for number, table in enumerate(tables)]
    with pytest.raises(FaultError, match=r"server-restart happens to the service.*share = \"100%\""):
        parse_groups(named)


def test_what_stands_may_have_its_windows() -> None:
    late = {"kind": "latency", "share": "20%", "delay": "1s"}
    when = {"after": "1s", "duration": "500ms", "every": "2s", "times": 2}
    plan = planned_of([late | {"when": when}, TABLES[0]])
    assert [(w.group, w.number, w.start_ms, w.duration_ms) for w in plan.windows] == [
        ("latency", 1, 1_000, 500),
        ("latency", 2, 3_000, 500),
    ]
    assert msgspec.json.decode(msgspec.json.encode(plan), type=FaultPlan) == plan
    with pytest.raises(FaultError, match=r"would end 3\.5 s after the begin of load"):
        planned_of([late | {"when": when}], load_ms=3_400)


def planned_of(tables: list[dict], **changes) -> FaultPlan:
    options = {"run": "r", "seed": 1, "upstreams": {None: "127.0.0.1:80"}, "connect_ns": 0, "at_once": 1}
    return plan_faults(parse_groups(tables), **(options | changes))
