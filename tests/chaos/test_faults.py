"""Faults refuse what no wire can show, and say so in one sentence."""

import msgspec
import pytest

from sseproof.chaos.faults import (
    FAULT_KINDS,
    AcceptThenClose,
    Bandwidth,
    BlackHole,
    Clean,
    Command,
    Cut,
    CutEvents,
    CutTime,
    Fault,
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
    When,
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
    ({"kind": "latency", "delay": "300ms"}, Latency(delay_ms=300)),
    (
        {
            "kind": "latency",
            "delay": "300ms",
            "when": {"after": "1s", "duration": "2s", "every": "5s", "times": 3},
        },
        Latency(delay_ms=300, when=When(after_ms=1_000, duration_ms=2_000, every_ms=5_000, times=3)),
    ),
    (
        {"kind": "slow-drip", "size_bytes": 20, "every": "10ms", "when": {"duration": "2s"}},
        SlowDrip(size_bytes=20, every_ms=10, when=When(duration_ms=2_000)),
    ),
    ({"kind": "jitter", "delay": "300ms", "jitter": "0.1s"}, Jitter(delay_ms=300, jitter_ms=100)),
    ({"kind": "bandwidth", "rate_kb_s": 2}, Bandwidth(rate_kb_s=2)),
    ({"kind": "slow-drip", "size_bytes": 20, "every": "10ms"}, SlowDrip(size_bytes=20, every_ms=10)),
    (
        {"kind": "stall-events", "after_events": 5, "duration": "1s", "inside": "event", "offset_bytes": 3},
        StallEvents(after_events=5, duration_ms=1000, inside="event", offset_bytes=3),
    ),
    ({"kind": "black-hole", "after": 1, "duration": 2}, BlackHole(after_ms=1000, duration_ms=2000)),
    (
        {"kind": "cut-events", "after_events": 0, "inside": "character", "by": "rst", "on": "every"},
        CutEvents(after_events=0, inside="character", by="rst", on="every"),
    ),
    ({"kind": "cut-time", "after": "2s", "by": "rst"}, CutTime(after_ms=2000, by="rst")),
    ({"kind": "split-characters"}, SplitCharacters(delay_ms=5)),
    ({"kind": "split-characters", "delay": "9ms"}, SplitCharacters(delay_ms=9)),
    ({"kind": "accept-then-close", "by": "rst", "on": "every"}, AcceptThenClose(by="rst", on="every")),
    (
        {"kind": "flapping", "after": "1s", "down": "300ms", "up": "700ms", "times": 3},
        Flapping(after_ms=1000, down_ms=300, up_ms=700, times=3),
    ),
    ({"kind": "slow-close", "delay": "700ms"}, SlowClose(delay_ms=700)),
    ({"kind": "server-restart", "after": 1, "duration": 2}, ServerRestart(after_ms=1000, duration_ms=2000)),
    (
        {"kind": "server-restart", "after": 1, "duration": 2, "drain": "1800ms"},
        ServerRestart(after_ms=1000, duration_ms=2000, drain_ms=1800),
    ),
    (
        {
            "kind": "command",
            "do": ["stop", "it"],
            "undo": ["go"],
            "done_when": ["test", "x"],
            "after": "1s",
            "max": "2s",
            "shows": "breaks",
        },
        Command(
            do=("stop", "it"),
            undo=("go",),
            done_when=("test", "x"),
            after_ms=1000,
            max_ms=2000,
            shows="breaks",
        ),
    ),
]

COMMAND = {"kind": "command", "do": ["true"], "after": "1s", "max": "1s", "shows": "breaks"}
LATE = {"kind": "latency", "delay": "1s"}
BAD = [
    (LATE | {"when": "10s"}, "when is a table of times"),
    (LATE | {"when": {"after": "1s"}}, "when needs duration"),
    (LATE | {"when": {"durations": "1s"}}, "did you mean 'duration'"),
    (LATE | {"when": {"duration": "2h"}}, "duration lies between"),
    (LATE | {"when": {"duration": "1s", "every": "2s"}}, "every needs times"),
    (LATE | {"when": {"duration": "1s", "times": 2}}, "needs every"),
    (LATE | {"when": {"duration": "1s", "every": "1s", "times": 2}}, "200ms of rest"),
    (LATE | {"when": {"duration": 10**5000}}, "is not a duration|too long|duration"),
    *(
        (LATE | {key: "1s"}, "belong into one key: when = {")
        for key in ("after", "duration", "start", "every")
    ),
    *(
        (table | {"by": "rst", "when": {"duration": "1s"}}, "can't come and go")
        for table in (
            {"kind": "cut", "after_bytes": 3},
            {"kind": "cut-events", "after_events": 3},
            {"kind": "cut-time", "after": "1s"},
            {"kind": "accept-then-close"},
        )
    ),
    ({}, "needs its kind: latency, jitter, slow-first-byte, .* server-restart or command"),
    ({"kind": "cutt"}, "did you mean 'cut'"),
    ({"kind": "zzz"}, "sseproof chaos list has the kinds"),
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
    ({"kind": "black-hole", "after": "1s", "duration": "0s"}, "duration lies between"),
    ({"kind": "latency", "delay": "61s"}, "delay lies between 1 and 60000 ms"),
    ({"kind": "jitter", "delay": "1s", "jitter": "2s"}, r"jitter \(delay at most\) lies between 1 and 1000"),
    ({"kind": "bandwidth", "rate_kb_s": 0}, "rate_kb_s lies between 1"),
    ({"kind": "bandwidth", "rate_kb_s": -1}, "rate_kb_s lies between 1"),
    ({"kind": "slow-drip", "size_bytes": 0, "every": "1ms"}, "size_bytes lies between 1"),
    ({"kind": "slow-drip", "size_bytes": 1, "every": "2s"}, "every lies between 1 and 1000 ms"),
    ({"kind": "cut-events", "after_events": -1}, "after_events lies between 0"),
    ({"kind": "cut-events", "after_events": 1, "inside": "word"}, "inside is boundary, event or character"),
    ({"kind": "cut-events", "after_events": 1, "offset_bytes": 3}, 'write inside = "event" with it'),
    (
        {"kind": "stall-events", "after_events": 1, "duration": "1s", "inside": "event", "offset_bytes": 0},
        "offset_bytes lies between 1",
    ),
    ({"kind": "stall-events", "after_events": 1}, "needs duration"),
    ({"kind": "cut-time", "after": "0s"}, "after lies between 1"),
    ({"kind": "split-characters", "delay": "0s"}, "delay lies between 1"),
    ({"kind": "accept-then-close", "by": "tcp"}, "by is fin or rst"),
    ({"kind": "flapping", "after": "1s", "down": "1s", "up": "0.1s", "times": 2}, "up lies between 200"),
    ({"kind": "flapping", "after": "1s", "down": "1s", "up": "1s", "times": 1}, "times lies between 2"),
    ({"kind": "slow-close", "delay": "0s"}, "delay lies between 1"),
    ({"kind": "server-restart", "after": "1s"}, "needs duration"),
    (
        {"kind": "server-restart", "after": "1s", "duration": "2s", "drain": "1801ms"},
        "drain .200ms less than duration at most. lies between 0 and 1800 ms",
    ),
    (
        {"kind": "server-restart", "after": "1s", "duration": "100ms", "drain": "0s"},
        "duration is 200 ms at least with drain",
    ),
    ({"kind": "command"}, "needs do, after, max and shows"),
    (COMMAND | {"do": "kill it"}, "do is a list of words"),
    (COMMAND | {"do": []}, "do has 1 to 64 words, not 0"),
    (COMMAND | {"do": ["kill", 3]}, "do is a list of words"),
    (COMMAND | {"do": [""]}, "do holds a word that is no program"),
    (COMMAND | {"undo": ["x\0"]}, "undo holds a word"),
    (COMMAND | {"done_when": ["x" * 5000]}, "longer than 4096"),
    (COMMAND | {"max": "0s"}, "max lies between 1"),
    (COMMAND | {"shows": "nothing"}, "shows is breaks or silence"),
    *(
        (COMMAND | {key: value}, f"is done at after, .* every and times do it again: leave out {key}")
        for key, value in (("duration", "1s"), ("when", {"after": "1s", "duration": "1s"}))
    ),
    (COMMAND | {"every": "5s"}, "every needs times"),
    (COMMAND | {"times": 2}, "times above 1 needs every"),
    (COMMAND | {"times": 0}, "times lies between 1"),
    (COMMAND | {"times": 2, "every": "1.1s"}, "its max and 200ms of rest at least. lies between 1200"),
    (COMMAND | {"undoes": ["true"]}, "did you mean 'undo'"),
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
    for shape, values in (
        (Slice, {"size_bytes": 0}),
        (Bandwidth, {"rate_kb_s": -1}),
        (Jitter, {"delay_ms": 1, "jitter_ms": 1 << 62}),
    ):
        with pytest.raises(FaultError):
            shape(**values)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"kind":"slice","size_bytes":0,"delay_us":100}', type=Fault)


def test_windows_repeat() -> None:
    fault = Refused(after_ms=100, duration_ms=50, every_ms=300, times=3)
    assert list(windows_of(fault)) == [(100, 50), (400, 50), (700, 50)]
    command = Command(do=("true",), after_ms=100, max_ms=50, every_ms=300, times=3, shows="breaks")
    assert list(windows_of(command)) == [(100, 50), (400, 50), (700, 50)]
    assert list(windows_of(parse_fault(COMMAND))) == [(1_000, 1_000)]
    flap = Flapping(after_ms=100, down_ms=50, up_ms=250, times=3)
    assert list(windows_of(flap)) == [(100, 50), (400, 50), (700, 50)]
    assert kind_of(Clean()) == "clean"
