"""Every moment of the load lies in one planned phase."""

import pytest

from sseproof.rundir.phases import phase_at
from sseproof.rundir.rows import PhasePlan

MS = 1_000_000
THREE = [
    PhasePlan(name="baseline", start_ms=0, end_ms=4_000),
    PhasePlan(name="fault", start_ms=4_000, end_ms=8_000, groups=["cut"]),
    PhasePlan(name="recovery", start_ms=8_000),
]


@pytest.mark.parametrize(
    ("offset_ns", "name"),
    [
        (-5, "baseline"),
        (0, "baseline"),
        (4_000 * MS - 1, "baseline"),
        (4_000 * MS, "fault"),
        (8_000 * MS - 1, "fault"),
        (8_000 * MS, "recovery"),
        (10**18, "recovery"),
    ],
)
def test_a_moment_lies_in_the_phase_that_has_begun_last(offset_ns, name):
    assert phase_at(THREE, offset_ns) == name


def test_without_phases_there_is_none():
    assert phase_at([], 5) is None
