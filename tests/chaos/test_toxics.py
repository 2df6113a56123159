"""The recipes in Toxiproxy's words, and the inputs that would end the server."""

import pytest

from sseproof.chaos.faults import Clean, Cut, FaultError, Refused, Slice, SlowFirstByte, Stall
from sseproof.chaos.toxics import Switch, Toxic, checked, standing_toxics, window_action


def toxic(kind: str, toxicity: float = 1.0, **attributes: int) -> Toxic:
    return Toxic(name="t", type=kind, toxicity=toxicity, attributes=attributes)


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
    Toxic(name="t", type="bandwidth", stream="sideways", attributes={"rate": 0}),
]


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
        (
            Cut(after_bytes=9, by="rst"),
            None,
            [("reset_peer", "downstream", 0, {"timeout": 0}), ("limit_data", "downstream", 1, {"bytes": 9})],
        ),
    ],
)
def test_recipes(fault, offset, expected) -> None:
    made = standing_toxics(fault, offset)
    assert [(each.type, each.stream, each.toxicity, each.attributes) for each in made] == expected
    assert [checked(each) for each in made] == made


def test_windows_change_what_stands() -> None:
    stall = Stall(after_ms=0, duration_ms=3_600_000)
    action = window_action(stall)
    (standing,) = standing_toxics(stall)
    assert isinstance(action, Toxic)
    assert (action.name, action.type, action.stream) == (standing.name, standing.type, standing.stream)
    assert action.attributes["latency"] > stall.duration_ms
    assert window_action(Refused(after_ms=0, duration_ms=1)) == Switch()
