"""Phases of a plan: written, or following from the faults' own times; and faults that act in one of them."""

import pytest

from sseproof.chaos.faults import CutTime, FaultError, When
from sseproof.chaos.phases import (
    MOST_PHASES,
    check_in_phases,
    in_their_phases,
    parse_phases,
    total_ms,
    with_faults,
)
from sseproof.chaos.plan import parse_groups
from sseproof.rundir.units import parse_duration

CUT = {"kind": "cut", "share": "20%", "after_bytes": 900}
REFUSED = {"kind": "refused", "share": "30%", "after": "4s", "duration": "4s"}


def phases(**lengths: str):
    return parse_phases({name: parse_duration(length) for name, length in lengths.items()})


THREE = {"baseline": "4s", "fault": "4s", "recovery": "2s"}


def placed(table: dict, written=None):
    """The windows of one table that names its phase."""
    known = phases(**THREE) if written is None else written
    specs = parse_groups(in_their_phases([table], known))
    check_in_phases([table], specs, known)
    return [(each.name, each.start_ms, each.end_ms, each.groups) for each in with_faults(known, specs)], specs


def said(*tables: dict, written=()):
    return [
        (each.name, each.start_ms, each.end_ms, each.groups)
        for each in with_faults(list(written), parse_groups(list(tables)))
    ]


def test_they_lie_one_after_the_other_and_the_last_lasts_until_the_end():
    found = phases(**THREE)
    assert [(each.name, each.start_ms, each.end_ms) for each in found] == [
        ("baseline", 0, 4_000),
        ("fault", 4_000, 8_000),
        ("recovery", 8_000, 10_000),
    ]
    assert total_ms(found) == 10_000
    assert [each.end_ms for each in with_faults(found, [])] == [4_000, 8_000, None]


def test_a_timetable_makes_the_natural_ones():
    other = {"kind": "stall", "name": "later", "share": "10%", "after": "6s", "duration": "3s"}
    assert said(REFUSED, other) == [
        ("baseline", 0, 4_000, []),
        ("fault", 4_000, 9_000, ["refused", "later"]),
        ("recovery", 9_000, None, []),
    ]


def test_a_fault_at_the_begin_leaves_no_baseline_and_standing_ones_make_no_phases():
    assert [name for name, *_ in said({**REFUSED, "after": "0s"})] == ["fault", "recovery"]
    assert said(CUT) == []
    assert said(REFUSED, CUT) == [], "there is no time without the cut"
    assert with_faults([], []) == []


def test_each_phase_knows_whose_faults_act_in_it():
    written = phases(a="5s", b="1s", c="2s", d="1s")
    assert said(REFUSED, written=written) == [
        ("a", 0, 5_000, ["refused"]),
        ("b", 5_000, 6_000, ["refused"]),
        ("c", 6_000, 8_000, ["refused"]),
        ("d", 8_000, None, []),
    ]


def test_a_fault_in_a_phase_has_its_times():
    split, specs = placed({"kind": "refused", "share": "30%", "phase": "fault"})
    assert (specs[0].fault.after_ms, specs[0].fault.duration_ms) == (4_000, 4_000)
    assert split[1] == ("fault", 4_000, 8_000, ["refused"])
    assert split[0][3] == split[2][3] == []


def test_what_else_stands_the_whole_run_acts_in_its_phase():
    late = {"kind": "latency", "share": "30%", "delay": "1s", "phase": "fault"}
    split, specs = placed(late)
    assert specs[0].fault.when == When(after_ms=4_000, duration_ms=4_000)
    assert [each[3] for each in split] == [[], ["latency"], []]
    _, specs = placed({"kind": "cut-time", "share": "5%", "after": "1s", "phase": "fault"})
    assert specs[0].fault == CutTime(after_ms=1_000, when=When(after_ms=4_000, duration_ms=4_000))
    _, specs = placed(late | {"when": {"duration": "1s", "every": "2s", "times": 2}})
    assert specs[0].fault.when == When(after_ms=4_000, duration_ms=1_000, every_ms=2_000, times=2)
    assert said({**CUT, "when": {"after": "1s", "duration": "2s"}})[1] == ("fault", 1_000, 3_000, ["cut"])


@pytest.mark.parametrize(
    ("told", "length_ms"),
    [
        ({"kind": "stall", "duration": "1s"}, 1_000),
        ({"kind": "black-hole", "duration": "1s", "every": "1500ms", "times": 2}, 2_500),
        ({"kind": "flapping", "down": "500ms", "up": "500ms", "times": 4}, 3_500),
        ({"kind": "command", "do": ["true"], "max": "3s", "shows": "breaks"}, 3_000),
    ],
)
def test_what_a_fault_says_of_its_length_stands(told, length_ms):
    table = {**told, "share": "100%" if told["kind"] == "command" else "5%", "phase": "fault"}
    _, specs = placed(table)
    assert specs[0].fault.after_ms == 4_000
    with pytest.raises(FaultError, match="its phase 'fault' is over at") as caught:
        placed(table, phases(baseline="4s", fault=f"{length_ms - 1}ms", recovery="9s"))
    assert "\n" not in str(caught.value)
    placed(table, phases(baseline="4s", fault=f"{length_ms}ms", recovery="9s"))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({**REFUSED, "phase": "fault"}, "leave out after, or phase"),
        ({"kind": "refused", "share": "5%", "phase": "fualt"}, "did you mean 'fault'?"),
        ({"kind": "refused", "share": "5%", "phase": "zzz"}, "there are baseline, fault, recovery."),
        ({"kind": "refused", "share": "5%", "phase": 3}, "there are baseline, fault, recovery."),
        ({**CUT, "phase": "fault", "by": "rst"}, "can't come and go"),
        ({**CUT, "phase": "fault", "when": {"after": "1s"}}, "leave out after, or phase"),
        ({**CUT, "phase": "fault", "when": {"every": "1s", "times": 2}}, "needs duration"),
        ({**CUT, "phase": "fault", "when": "4s"}, "when is a table"),
        ({"kind": "stall", "share": "5%", "phase": "fault", "every": "1s", "times": 2}, "needs duration"),
        ({"kind": "stal", "share": "5%", "phase": "fault"}, "did you mean 'stall'?"),
    ],
)
def test_a_fault_that_can_not_be_in_a_phase_is_refused(table, words):
    with pytest.raises(FaultError) as caught:
        placed(table)
    assert words in str(caught.value)
    assert str(caught.value).startswith("[[fault]] number 1: ")


def test_a_phase_that_nobody_wrote_is_refused_with_the_way_out():
    with pytest.raises(FaultError, match=r"add a \[phases\] table"):
        in_their_phases([{"kind": "refused", "share": "5%", "phase": "fault"}], [])


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ({"Baseline": "4s"}, "small letters"),
        ({"": "4s"}, "small letters"),
        ({"a" * 33: "4s"}, "small letters"),
        ({"a": "0s"}, "whole milliseconds"),
        ({"a": "1500us"}, "whole milliseconds"),
        ({f"p{number}": "1s" for number in range(MOST_PHASES + 1)}, "50 at most"),
    ],
)
def test_a_name_or_a_length_that_can_not_be_is_refused(lengths, words):
    with pytest.raises(FaultError, match=words):
        phases(**lengths)
