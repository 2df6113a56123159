"""The recipes in Toxiproxy's words, and the inputs that would end the server."""

import pytest

from sseproof.chaos.faults import (
    FAULT_KINDS,
    STANDING_KINDS,
    AcceptThenClose,
    Bandwidth,
    BlackHole,
    Clean,
    Command,
    Cut,
    CutEvents,
    CutTime,
    FaultError,
    Flapping,
    Jitter,
    Latency,
    Refused,
    ServerRestart,
    Slice,
    SlowClose,
    SlowDrip,
    SlowFirstByte,
    SplitCharacters,
    Stall,
    StallEvents,
    Standing,
    kind_of,
    parse_fault,
)
from sseproof.chaos.toxics import (
    Change,
    Outside,
    Switch,
    Toxic,
    checked,
    needs_own_build,
    standing_toxics,
    window_action,
)
from tests.chaos.test_faults import GOOD


def toxic(kind: str, toxicity: float = 1.0, **attributes: int | str) -> Toxic:
    return Toxic(name="t", type=kind, toxicity=toxicity, attributes=attributes)


def sse(**changes: int | str) -> dict[str, int | str]:
    whole = {"action": "cut", "at": "boundary", "times": 1, "after_events": 0, "offset": 0}
    return whole | {"after_ms": 0, "after_bytes": 0, "delay_ms": 0} | changes


KILLING = [
    toxic("slicer"),
    toxic("slicer", average_size=0, size_variation=0, delay=100),
    toxic("slicer", average_size=1, size_variation=-1, delay=100),
    toxic("slicer", average_size=1, size_variation=8, delay=100),
    toxic("slicer", average_size=4, size_variation=4, delay=100),
    toxic("bandwidth", rate=-1),
    toxic("latency", latency=1, jitter=2**62),
    toxic("latency", latency=1, jitter=-1),
]
SILENT = [
    toxic("latency", latancy=1000, jitter=0),
    toxic("latency", latency=1000),
    toxic("bandwidth"),
    toxic("limit_data", bytes=0),
    toxic("limit_data", bytes=True),
    toxic("limit_data", bytes="9"),
    toxic("limit_data", toxicity=0.5, bytes=9),
    toxic("limit_data", toxicity=0.0, bytes=9),
    toxic("reset_peer", toxicity=7, timeout=0),
    toxic("packet_loss", share=1),
    toxic("sse", **sse(action="cuts")),
    toxic("sse", **sse(at="word")),
    toxic("sse", **sse(at="event")),
    toxic("sse", **sse(at=3)),
    toxic("sse", **sse(delay_ms="9")),
    toxic("sse", **sse(delay_ms=1 << 50)),
    toxic("sse", action="cut", at="time"),
    Toxic(name="t", type="sse", stream="upstream", attributes=sse()),
    Toxic(name="t", type="bandwidth", stream="sideways", attributes={"rate": 0}),
]


RESET = ("reset_peer", "downstream", 0, {"timeout": 0})


@pytest.mark.parametrize("bad", KILLING + SILENT)
def test_what_ends_the_server_or_does_nothing_is_refused(bad: Toxic) -> None:
    with pytest.raises(FaultError):
        checked(bad)


@pytest.mark.parametrize(
    ("fault", "offset", "expected"),
    [
        (Clean(), None, []),
        (Refused(after_ms=0, duration_ms=1), None, []),
        (Stall(after_ms=0, duration_ms=1), None, [("latency", "downstream", 1, {"latency": 0, "jitter": 0})]),
        (SlowFirstByte(delay_ms=700), None, [("latency", "upstream", 1, {"latency": 700, "jitter": 0})]),
        (
            Slice(size_bytes=3, delay_us=150),
            None,
            [("slicer", "downstream", 1, {"average_size": 3, "size_variation": 0, "delay": 150})],
        ),
        (Cut(after_bytes=9), None, [("limit_data", "downstream", 1, {"bytes": 9})]),
        (Cut(after_bytes=9, to_bytes=20), 13, [("limit_data", "downstream", 1, {"bytes": 13})]),
        (Cut(after_bytes=9, by="rst"), None, [RESET, ("limit_data", "downstream", 1, {"bytes": 9})]),
        (Latency(delay_ms=7), None, [("latency", "downstream", 1, {"latency": 7, "jitter": 0})]),
        (Jitter(delay_ms=7, jitter_ms=2), None, [("latency", "downstream", 1, {"latency": 7, "jitter": 2})]),
        (Bandwidth(rate_kb_s=3), None, [("bandwidth", "downstream", 1, {"rate": 3})]),
        (
            SlowDrip(size_bytes=3, every_ms=4),
            None,
            [("slicer", "downstream", 1, {"average_size": 3, "size_variation": 0, "delay": 4000})],
        ),
        (
            BlackHole(after_ms=0, duration_ms=1),
            None,
            [
                ("latency", "downstream", 1, {"latency": 0, "jitter": 0}),
                ("latency", "upstream", 1, {"latency": 0, "jitter": 0}),
            ],
        ),
        (SlowClose(delay_ms=9), None, [("slow_close", "downstream", 1, {"delay": 9})]),
        (AcceptThenClose(), None, [("limit_data", "upstream", 1, {"bytes": 0})]),
        (AcceptThenClose(by="rst"), None, [("reset_peer", "upstream", 1, {"timeout": 0})]),
        (CutEvents(after_events=4), None, [("sse", "downstream", 1, sse(after_events=4))]),
        (
            CutEvents(after_events=4, inside="event", by="rst"),
            None,
            [RESET, ("sse", "downstream", 1, sse(after_events=4, at="event", offset=8))],
        ),
        (CutTime(after_ms=50), None, [("sse", "downstream", 1, sse(at="time", after_ms=50))]),
        (
            StallEvents(after_events=1, duration_ms=30, inside="event", offset_bytes=2),
            None,
            [
                (
                    "sse",
                    "downstream",
                    1,
                    sse(action="stall", after_events=1, at="event", offset=2, delay_ms=30),
                )
            ],
        ),
        (
            SplitCharacters(delay_ms=6),
            None,
            [("sse", "downstream", 1, sse(action="split", at="character", delay_ms=6, times=0))],
        ),
        (ServerRestart(after_ms=0, duration_ms=1), None, []),
        (Flapping(after_ms=0, down_ms=1, up_ms=200, times=2), None, []),
    ],
)
def test_recipes(fault, offset, expected) -> None:
    made = standing_toxics(fault, offset)
    assert [(each.type, each.stream, each.toxicity, each.attributes) for each in made] == expected
    assert [checked(each) for each in made] == made


@pytest.mark.parametrize(
    "fault", [Stall(after_ms=0, duration_ms=3_600_000), BlackHole(after_ms=0, duration_ms=3_600_000)]
)
def test_windows_change_what_stands(fault) -> None:
    action = window_action(fault)
    assert isinstance(action, Change)
    assert action.closes == isinstance(fault, BlackHole)
    for changed, standing in zip(action.toxics, standing_toxics(fault), strict=True):
        assert (changed.name, changed.type, changed.stream) == (standing.name, standing.type, standing.stream)
        assert changed.attributes["latency"] > fault.duration_ms
    assert window_action(Refused(after_ms=0, duration_ms=1)) == Switch()
    command = Command(do=("true",), after_ms=0, max_ms=1, shows="breaks")
    assert (window_action(command), standing_toxics(command)) == (Outside(), [])
    assert window_action(ServerRestart(after_ms=0, duration_ms=1)) == Outside()
    assert window_action(Flapping(after_ms=0, down_ms=1, up_ms=200, times=2)) == Switch()


STANDING = [
    table
    for table, fault in GOOD
    if isinstance(fault, Standing) and fault.when is None and table.get("by") != "rst"
]
ALL_STANDING = [*STANDING, {"kind": "cut-time", "after": "2s"}, {"kind": "cut-events", "after_events": 1}]
ALL_STANDING += [{"kind": "accept-then-close"}]
WHEN = {"after": "1s", "duration": "2s"}


@pytest.mark.parametrize("table", ALL_STANDING, ids=lambda table: table["kind"])
def test_what_comes_and_goes_rests_in_between(table) -> None:
    """The same toxics by name, so that no toxic is added to a live proxy; no more than their attributes differ."""
    fault = parse_fault(table | {"when": WHEN})
    resting, action = standing_toxics(fault, 700), window_action(fault, 700)
    assert isinstance(action, Change)
    assert not action.closes
    for rest, act in zip(resting, action.toxics, strict=True):
        assert (rest.name, rest.type, rest.stream, rest.toxicity) == (act.name, act.type, act.stream, 1)
        assert rest.attributes != act.attributes
        assert rest.type not in {"bandwidth", "reset_peer", "timeout"}, "unfit for a live proxy"
    if table["kind"] not in {"cut", "bandwidth"}:
        assert action.toxics == standing_toxics(parse_fault(table))
    if table["kind"] == "cut":
        assert action.toxics[0].attributes["after_bytes"] == 700


def test_each_standing_kind_has_its_times() -> None:
    assert {table["kind"] for table in ALL_STANDING} == STANDING_KINDS
    assert len(STANDING_KINDS) == 13


def test_what_a_stock_server_cannot_do() -> None:
    timed = [parse_fault(table | {"when": WHEN}) for table in ALL_STANDING]
    assert {kind_of(fault) for fault in timed if needs_own_build(fault)} == {
        *("bandwidth", "cut", "cut-events", "cut-time", "stall-events", "split-characters")
    }
    faults = [parse_fault(table) for table, _ in GOOD]
    own = {kind_of(fault) for fault in faults if needs_own_build(fault)}
    assert own == {"cut-events", "cut-time", "stall-events", "split-characters"}
    assert {kind_of(fault) for fault in faults} == set(FAULT_KINDS)
