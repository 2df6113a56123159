"""The picture of a plan: every fault at its time, within 80 columns."""

import pytest

from sseproof.chaos.phases import parse_phases, with_faults
from sseproof.chaos.plan import parse_groups
from sseproof.rundir.units import Duration
from sseproof.timeline import planned_faults, planned_phases, timeline

CUT = {"kind": "cut", "share": "20%", "after_bytes": 900}
STALL = {"kind": "stall", "share": "30%", "after": "10s", "duration": "5s"}


def drawn(*tables: dict, length_ms: float | None = 40_000, shares: bool = True) -> list[str]:
    return timeline(planned_faults(parse_groups(list(tables))), length_ms, shares=shares)


def test_a_fault_stands_where_it_acts_and_nowhere_else():
    axis, cut, stall, clean, *words = drawn(CUT, STALL)
    columns = len(cut.split()[-1])
    assert cut.split()[-1] == "=" * columns
    bar = stall.split()[-1]
    assert set(bar) == {".", "#"}
    assert abs(bar.index("#") - columns / 4) <= 1
    assert abs(bar.count("#") - columns / 8) <= 1
    assert clean.split() == ["clean", "50%", "." * columns]
    assert axis.split() == ["0s", "10s", "20s", "30s", "40s"]
    assert "stall: stall for 5s, first at 10s" in words
    assert "clean: nothing is broken" in words


def test_what_has_its_times_is_drawn_at_them():
    timed = {**CUT, "when": {"after": "10s", "duration": "5s", "every": "20s", "times": 2}}
    _, bar, clean, *words = drawn(timed)
    columns = len(bar.split()[-1])
    assert bar.split()[-1].strip(".#") == ""
    assert abs(bar.count("#") - columns / 4) <= 2
    assert clean.split()[-1] == "." * columns
    assert "cut: cut for 5s, first at 10s, every 20s, 2 times" in words


def test_each_of_many_short_times_is_seen():
    often = {**STALL, "after": "1s", "duration": "1ms", "every": "4s", "times": 9}
    (_, bar, *words) = drawn(often)
    assert bar.count("#") == 9
    assert any("every 4s, 9 times" in line for line in words)


def test_a_time_at_the_very_end_is_inside_the_picture():
    (_, bar, *_) = drawn({**STALL, "after": "39.999s", "duration": "1ms"})
    assert bar.endswith("#")


def test_without_a_length_the_last_time_closes_it_and_that_is_said():
    axis, bar, *words = drawn(STALL, length_ms=None)
    assert axis.split()[-1] == "15s"
    assert bar.endswith("#")
    assert "not known before" in words[-1]
    assert drawn(CUT, length_ms=None)[-1] == "clean: nothing is broken"


@pytest.mark.parametrize("length_ms", [None, 1, 40_000, 7 * 24 * 3_600_000])
def test_it_never_needs_more_than_80_columns(length_ms):
    long = {**CUT, "name": "a-name-of-thirty-two-characters-"}
    lines = drawn(long, {**STALL, "after": "0s", "duration": "1ms"}, length_ms=length_ms)
    assert max(len(line) for line in lines) <= 80
    assert timeline([], 40_000) == []


def test_phases_are_drawn_where_they_begin_and_said_in_words():
    phases = planned_phases(
        with_faults(parse_phases({name: Duration(10**10) for name in ("quiet", "b", "after-it-all")}), [])
    )
    lines = timeline(planned_faults(parse_groups([STALL])), 30_000, phases=phases)
    _, ruler, stall, *_ = lines
    assert ruler.startswith("phase ")
    assert ruler.index("|b") == stall.index("#"), "the stall begins with it"
    assert ruler.index("|quiet") == stall.index(".")
    assert [line for line in lines if line.startswith("phase ")][1:] == [
        "phase quiet: from 0s to 10s",
        "phase b: from 10s to 20s",
        "phase after-it-all: from 20s to the end",
    ]
    assert max(map(len, lines)) <= 80


def test_many_phases_in_little_room_are_cut_and_not_mixed_up():
    phases = planned_phases(
        with_faults(parse_phases({f"phase-number-{n}": Duration(10**9) for n in range(50)}), [])
    )
    ruler = timeline([], 50_000, phases=phases)[1]
    assert ruler.count("|") == 50
    assert len(ruler) <= 80
