"""Faults refuse what no wire can show, and say so in one sentence."""

import msgspec
import pytest

from sseproof.chaos.faults import (
    FAULT_KINDS,
    Clean,
    Cut,
    Fault,
    FaultError,
    Refused,
    Slice,
    SlowFirstByte,
    Stall,
    keys_of,
    kind_of,
    parse_fault,
    windows_of,
)

GOOD = [
    ({"kind": "slow-first-byte", "delay": "1.5s"}, SlowFirstByte(delay_ms=1500)),
    ({"kind": "slow-first-byte", "delay": 2}, SlowFirstByte(delay_ms=2000)),
    ({"kind": "cut", "after_bytes": 900}, Cut(after_bytes=900)),
    (
        {"kind": "cut", "after_bytes": [400, 900], "by": "rst", "on": "every"},
        Cut(after_bytes=400, to_bytes=900, by="rst", on="every"),
    ),
    ({"kind": "slice", "size_bytes": 3}, Slice(size_bytes=3, delay_us=100)),
    ({"kind": "slice", "size_bytes": 3, "delay": "1ms"}, Slice(size_bytes=3, delay_us=1000)),
    ({"kind": "stall", "after": "2s", "duration": "500ms"}, Stall(after_ms=2000, duration_ms=500)),
    (
        {"kind": "refused", "after": "1s", "duration": "1s", "every": "2s", "times": 4},
        Refused(after_ms=1000, duration_ms=1000, every_ms=2000, times=4),
    ),
]

BAD = [
    ({}, "needs its kind: slow-first-byte, cut, slice, stall or refused"),
    ({"kind": "cutt"}, "did you mean 'cut'"),
    ({"kind": "zzz"}, "the kinds are slow-first-byte, cut"),
    ({"kind": ["cut"]}, "is no fault"),
    ({"kind": "cut"}, "needs after_bytes"),
    ({"kind": "stall"}, "needs after and duration"),
    ({"kind": "cut", "after_byte": 3}, "did you mean 'after_bytes'"),
    ({"kind": "cut", "after_bytes": 0}, "after_bytes lies between 1 and"),
    ({"kind": "cut", "after_bytes": -1}, "after_bytes lies between 1 and"),
    ({"kind": "cut", "after_bytes": True}, "whole number, not True"),
    ({"kind": "cut", "after_bytes": 1.5}, "whole number, not 1.5"),
    ({"kind": "cut", "after_bytes": 10**5000}, "a number that large"),
    ({"kind": "cut", "after_bytes": [9, 8]}, "the end of after_bytes lies between 9"),
    ({"kind": "cut", "after_bytes": [1, 2, 3]}, r"two of them: \[from, to\]"),
    ({"kind": "cut", "after_bytes": 3, "by": "fn"}, "by is fin or rst, not 'fn'"),
    ({"kind": "cut", "after_bytes": 3, "on": "2"}, "on is first or every"),
    ({"kind": "slice", "size_bytes": 0}, "size_bytes lies between 1"),
    ({"kind": "slice", "size_bytes": 1, "delay": "99us"}, "delay lies between 100"),
    ({"kind": "slice", "size_bytes": 1, "delay": "100500ns"}, "finer than 1us"),
    ({"kind": "slow-first-byte", "delay": "0s"}, "delay lies between 1 and 60000 ms"),
    ({"kind": "slow-first-byte", "delay": "61s"}, "delay lies between 1 and 60000 ms"),
    ({"kind": "slow-first-byte", "delay": "1.5ms"}, "finer than 1ms"),
    ({"kind": "slow-first-byte", "delay": "soon"}, "'soon' is not a duration"),
    ({"kind": "stall", "after": "1s", "duration": "2h"}, "duration lies between"),
    ({"kind": "stall", "after": "1s", "duration": "1s", "times": 2}, "times above 1 needs every"),
    ({"kind": "stall", "after": "1s", "duration": "1s", "every": "2s"}, "every needs times"),
    ({"kind": "stall", "after": "1s", "duration": "1s", "every": "1.1s", "times": 2}, "200ms of rest"),
    ({"kind": "refused", "after": "1s", "duration": "1s", "times": 0}, "times lies between 1"),
]


@pytest.mark.parametrize(("table", "fault"), GOOD)
def test_a_table_is_read(table: dict, fault: Fault) -> None:
    assert parse_fault(table) == fault


@pytest.mark.parametrize(("table", "sentence"), BAD)
def test_a_bad_table_is_refused_in_one_sentence(table: dict, sentence: str) -> None:
    with pytest.raises(FaultError, match=sentence) as caught:
        parse_fault(table)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(("table", "fault"), GOOD)
def test_a_fault_survives_the_plan_file_and_stays_frozen(table: dict, fault: Fault) -> None:
    assert msgspec.json.decode(msgspec.json.encode(fault), type=Fault) == fault
    with pytest.raises(AttributeError):
        fault.by = "rst"


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_every_key_is_used_by_some_table(kind: str) -> None:
    used = {key for table, _ in GOOD if table["kind"] == kind for key in table}
    assert used - {"kind"} <= set(keys_of(kind))
    assert any(kind_of(fault) == kind for _, fault in GOOD)


def test_a_bad_value_is_refused_in_python_too() -> None:
    with pytest.raises(FaultError):
        Slice(size_bytes=0)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"kind":"slice","size_bytes":0,"delay_us":100}', type=Fault)


def test_windows_repeat() -> None:
    fault = Refused(after_ms=100, duration_ms=50, every_ms=300, times=3)
    assert list(windows_of(fault)) == [(100, 50), (400, 50), (700, 50)]
    assert kind_of(Clean()) == "clean"
