"""The offset of a worker's clock from round trips: the truth lies inside the bracket whatever the trips were like."""

from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.offset import DRIFT_PPM, Offset, OffsetEstimate

MS = 1_000_000
S = 1_000 * MS
T0 = 1_700_000_000 * S


def trip(estimate: OffsetEstimate, at_ns: int, ahead_ns: int, out_ns: int, back_ns: int) -> int:
    """One round trip that begins at `at_ns` of the master's clock; gives our clock at its end."""
    received = at_ns + out_ns + back_ns + ahead_ns
    estimate.add(at_ns + ahead_ns, at_ns + out_ns, received)
    return received


def test_nothing_is_known_before_the_first_trip():
    assert OffsetEstimate().at(T0) is None


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.tuples(st.integers(0, 500 * MS), st.integers(0, 500 * MS)), min_size=1, max_size=200),
    st.integers(-DRIFT_PPM // 2, DRIFT_PPM // 2),
)
def test_the_truth_lies_inside_the_bracket_of_the_tightest_trip(ahead_ns, trips, drift_ppm):
    """Lopsided delays, and a clock that drifts: half a second between two trips."""
    estimate = OffsetEstimate()
    now = truth = 0
    for number, (out_ns, back_ns) in enumerate(trips):
        truth = ahead_ns + number * (S // 2) * drift_ppm // 1_000_000
        now = trip(estimate, T0 + number * (S // 2) * 3, truth, out_ns, back_ns)
    found = estimate.at(now)
    assert found is not None
    assert found.ns - found.error_ns - 1 <= truth <= found.ns + found.error_ns + 1
    assert found.error_ns <= (trips[-1][0] + trips[-1][1] + 1) // 2, "the newest trip alone says as much"


def test_the_error_is_half_the_shortest_trip_and_grows_with_its_age():
    estimate = OffsetEstimate()
    trip(estimate, T0, 200 * MS, 40 * MS, 2 * MS)
    now = trip(estimate, T0 + S, 200 * MS, MS // 5, MS // 5)
    assert estimate.at(now) == Offset(200 * MS, MS // 5)
    later = trip(estimate, T0 + 2 * S, 200 * MS, 90 * MS, 90 * MS)
    found = estimate.at(later)
    assert found is not None
    assert found.ns == 200 * MS
    assert found.error_ns == MS // 5 + (later - now) * DRIFT_PPM // 1_000_000


def test_a_step_of_either_clock_makes_it_forget():
    estimate = OffsetEstimate()
    trip(estimate, T0, 5 * MS, MS, MS)
    now = trip(estimate, T0 + S, 55 * MS, 3 * MS, 3 * MS)
    assert estimate.at(now) == Offset(55 * MS, 3 * MS)


def test_a_trip_that_ends_before_it_began_says_nothing():
    estimate = OffsetEstimate()
    estimate.add(T0, T0, T0 - 1)
    assert estimate.at(T0) is None
