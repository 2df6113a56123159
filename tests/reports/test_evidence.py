"""Evidence that a fault acted, by known answers: what the streams show, not what the injector was told."""

import msgspec
import pytest

from sseproof.chaos.plan import GroupSpec, addresses, parse_groups, plan_faults, with_ports
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reports.evidence import evidence_of
from sseproof.reports.facts import History
from sseproof.rundir.rows import Attempt, FaultRow, Gaps, Instant, Plan, StreamRecord, VariantPlan
from sseproof.rundir.units import to_raw

MS = 1_000_000
START = 1_800_000_000_000 * MS


def planned(table: dict, records, faults=()) -> History:
    """A history of 20 clean streams and those of one fault's group."""
    specs: list[GroupSpec] = parse_groups([{"name": "hit", "share": "50%", **table}])
    plan = plan_faults(specs, run="r", seed=1, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=4)
    plan = with_ports(plan, range(20_000, 20_000 + len(plan.proxies)))
    variant = VariantPlan(
        target=to_raw(Target(url="http://127.0.0.1:9/")),
        load=to_raw(Load()),
        client=to_raw(Client()),
        addresses=addresses(plan),
    )
    whole = Plan(
        run="r",
        scenario="s",
        seed=1,
        created_ns=START,
        variants=[variant],
        faults=msgspec.Raw(msgspec.json.encode(plan)),
    )
    made = [record(n, group="clean") for n in range(20)] + [
        make(variant, n) for n, make in enumerate(records, 100)
    ]
    return History(plan=whole, streams=made, faults=list(faults))


def record(number: int, *, group: str, attempt: dict | None = None, wait_ms: int = 50, silence_ms: int = 40):
    sent = Instant(START + 1_000 * MS)
    values = {
        "number": 1,
        "address": "127.0.0.1:20000",
        "started": Instant(START),
        "sent": sent,
        "headers": Instant(sent.ns + wait_ms * MS),
        "ended": Instant(START + 4_000 * MS),
        "end": "terminal",
        "reads": 10,
        **(attempt or {}),
    }
    return StreamRecord(
        stream=number,
        group=group,
        dispatched=Instant(START),
        sent=sent,
        first_token=Instant(sent.ns + wait_ms * MS),
        ended=Instant(START + 4_000 * MS),
        outcome="complete",
        end=values["end"],
        attempts=[Attempt(**values)],
        gaps=Gaps(count=3, longest_lo_ns=silence_ms * MS, longest_hi_ns=silence_ms * MS),
    )


def hit(**values):
    return lambda _variant, number: record(number, group="hit", **values)


def cut(off: int = 0, end: str = "fin"):
    """A first connection that ended that many bytes off the planned place."""

    def make(variant, number):
        place = next(each for each in variant.addresses if each.group == "hit" and each.cut_after_bytes)
        attempt = {
            "address": f"{place.host}:{place.port}",
            "received_bytes": place.cut_after_bytes + off,
            "end": end,
        }
        return record(number, group="hit", attempt=attempt)

    return make


CUT = {"kind": "cut", "after_bytes": [600, 1200]}
SLOW = {"kind": "slow-first-byte", "delay": "600ms"}
STALL = {"kind": "stall", "after": "1s", "duration": "1s"}
SLICE = {"kind": "slice", "size_bytes": 3}


def applied(kind: str) -> list[FaultRow]:
    at = START + 2_000 * MS
    common = {"fault": "hit", "kind": kind, "group": "hit", "window": 1}
    return [
        FaultRow(at_ns=at, step="applied", call_sent_ns=at, call_answered_ns=at + MS, ok=True, **common),
        FaultRow(at_ns=at + 1_000 * MS, step="healed", call_answered_ns=at + 1_001 * MS, ok=True, **common),
    ]


@pytest.mark.parametrize(
    ("table", "records", "faults", "acted"),
    [
        (CUT, [cut()] * 5, [], True),
        (CUT, [cut(off=-1)] * 5, [], False),
        (CUT, [cut(end="rst")] * 5, [], False),
        ({**CUT, "by": "rst"}, [cut(end="rst")] * 5, [], True),
        (CUT, [hit()] * 5, [], False),
        (SLOW, [hit(wait_ms=660)] * 10, [], True),
        (SLOW, [hit(wait_ms=590)] * 10, [], False),
        (SLOW, [hit(wait_ms=50)] * 10, [], False),
        (STALL, [hit(silence_ms=1_050)] * 10, applied("stall"), True),
        (STALL, [hit(silence_ms=1_050)] * 10, [], False),
        (STALL, [hit(silence_ms=300)] * 10, applied("stall"), False),
        (SLICE, [hit(attempt={"split_events": 8})] * 10, [], True),
        (SLICE, [hit()] * 10, [], False),
        (CUT, [], [], None),
    ],
)
def test_known_answers(table, records, faults, acted):
    (evidence,) = evidence_of(planned(table, records, faults))
    assert evidence.acted is acted, evidence.sentence
    assert evidence.group == "hit"


@pytest.mark.parametrize(("table", "value"), [(SLOW, {"wait_ms": 2_480}), (STALL, {"silence_ms": 2_400})])
def test_a_hop_that_is_slow_by_itself_proves_nothing(table, value):
    """Behind a buffering hop the clean group waits as long: time alone is no proof then."""
    history = planned(table, [hit(**value)] * 10, applied("stall") if table is STALL else [])
    history.streams = [
        record(n, group="clean", **value) if each.group == "clean" else each
        for n, each in enumerate(history.streams)
    ]
    (evidence,) = evidence_of(history)
    assert evidence.acted is False
    assert evidence.count == 0


def test_a_refused_link_shows_inside_its_window_only():
    table = {"kind": "refused", "after": "1s", "duration": "1s"}
    inside = {"end": "refused", "ended": Instant(START + 2_500 * MS)}
    outside = {"end": "refused", "ended": Instant(START + 3_900 * MS)}
    for attempt, acted in ((inside, True), (outside, False)):
        (evidence,) = evidence_of(planned(table, [hit(attempt=attempt)] * 3, applied("refused")))
        assert evidence.acted is acted


def test_a_fault_that_could_not_be_applied_says_so():
    row = FaultRow(
        at_ns=START, fault="hit", step="failed", kind="cut", group="hit", ok=False, detail="no answer in 5 s"
    )
    (evidence,) = evidence_of(planned(CUT, [cut()] * 3, [row]))
    assert evidence.failed
    assert evidence.acted is False
    assert "no answer in 5 s" in evidence.sentence


def test_a_run_without_faults_has_none():
    history = planned(CUT, [])
    history.plan.faults = msgspec.Raw(b"null")
    assert evidence_of(history) == []
