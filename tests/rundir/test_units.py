"""Durations: as people write them, as files hold them, as code counts them."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.rundir.units import (
    LONGEST_NS,
    Duration,
    decode_hook,
    encode_hook,
    format_duration,
    from_raw,
    parse_duration,
    to_raw,
)

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", 250_000_000),
        ("1s", S),
        ("1.5s", 1_500_000_000),
        ("0.25 s", 250_000_000),
        ("2m", 120 * S),
        ("2min", 120 * S),
        ("1m30s", 90 * S),
        ("1h 1m 1s 1ms 1us 1ns", 3661 * S + 1_001_001),
        ("3µs", 3_000),
        (" 7ns ", 7),
        ("168h", LONGEST_NS),
        ("0s", 0),
        (2, 2 * S),
        (0.1, 100_000_000),
        (0, 0),
        (604_800, LONGEST_NS),
    ],
)
def test_durations_as_people_write_them(text, ns):
    assert parse_duration(text).ns == ns


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "s",
        "1 second",
        "1x",
        "-1s",
        "1s2",
        "1,5s",
        ".5s",
        "1e3ms",
        "٣s",
        "1s!",
        "ms5",
        [1],
        None,
        True,
        False,
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(value):
    with pytest.raises(
        ValueError, match="is not a duration: write it with its unit, such as 250ms, 30s or 2m"
    ):
        parse_duration(value)


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        604_801,
        "169h",
        "8888888h",
        math.inf,
        -math.inf,
        math.nan,
        10**400,
        "9" * 400 + "s",
    ],
)
def test_what_is_beyond_a_week_or_no_number_is_refused(value):
    with pytest.raises(ValueError, match="is not a duration between 0 and one week") as caught:
        parse_duration(value)
    assert len(str(caught.value)) < 120


def test_a_number_that_python_refuses_to_print_is_refused_all_the_same():
    with pytest.raises(ValueError, match=r"^a number that large is not a duration between 0 and one week$"):
        parse_duration(-(10**5000))


@given(st.integers(0, LONGEST_NS))
def test_every_duration_reads_back_as_itself(ns):
    assert parse_duration(format_duration(ns)).ns == ns
    assert parse_duration(str(Duration(ns))) == Duration(ns)


@given(
    st.integers(0, LONGEST_NS // 1000).map(lambda us: us * 1000)
    | st.integers(0, LONGEST_NS // S).map(lambda s: s * S)
)
def test_round_durations_read_back_and_stay_short(ns):
    text = format_duration(ns)
    assert parse_duration(text).ns == ns
    assert len(text) <= len(f"{ns}ns")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5us"),
        (250_000_000, "250ms"),
        (1_500_000_000, "1.5s"),
        (90 * S, "90s"),
        (120 * S, "2m"),
        (7200 * S, "2h"),
        (S + 1, "1000.000001ms"),
        (LONGEST_NS, "168h"),
    ],
)
def test_durations_are_written_in_one_unit(ns, text):
    assert format_duration(ns) == text
    assert repr(Duration(ns)) == f"Duration({text})"


def test_durations_are_values():
    assert Duration(5) == Duration(5)
    assert Duration(5) != Duration(6)
    assert Duration(5) != 5
    assert len({Duration(5), Duration(5), Duration(6)}) == 2
    assert (Duration(1_500_000_000).seconds, Duration(1_500_000).ms) == (1.5, 1.5)


class Section(msgspec.Struct):
    idle: Duration
    total: Duration | None = None
    steps: list[Duration] = []


def test_sections_hold_durations_as_text_with_their_unit():
    section = Section(idle=Duration(250_000_000), steps=[Duration(S)])
    raw = to_raw(section)
    assert msgspec.json.decode(raw) == {"idle": "250ms", "total": None, "steps": ["1s"]}
    assert from_raw(raw, Section) == section


def test_a_section_with_a_wrong_duration_is_a_validation_error():
    with pytest.raises(msgspec.ValidationError, match=r"'soon' is not a duration.*`\$\.idle`"):
        from_raw(msgspec.Raw(b'{"idle":"soon"}'), Section)
    with pytest.raises(msgspec.ValidationError, match=r"one week.*`\$\.idle`"):
        msgspec.convert({"idle": math.inf}, Section, dec_hook=decode_hook)


def test_other_types_have_no_place_in_a_row():
    with pytest.raises(NotImplementedError, match="complex"):
        encode_hook(1j)
    with pytest.raises(NotImplementedError, match="complex"):
        decode_hook(complex, 1)
