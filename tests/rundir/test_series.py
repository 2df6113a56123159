"""Histograms of series: the steps, payloads and log lines of the HdrHistogram package, which is the oracle."""

import base64
import struct
import zlib
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import SERIES_NAME
from sseproof.rundir.series import (
    DIGITS,
    HIGHEST_NS,
    STEP_MASKS,
    Interval,
    decoded,
    encoded,
    interval_lines,
    last_of_step,
    merged,
    parsed_line,
    tag_of,
    within_range,
)
from sseproof.rundir.series_file import SeriesFile, SeriesReading

RUN = "20260101T000000.000000Z-1"
SECOND = 1_000_000_000
BEGIN_NS = 1_767_225_600 * SECOND + 250_000_000

in_range = st.one_of(
    st.integers(0, HIGHEST_NS),
    st.integers(0, 46).flatmap(lambda bits: st.integers(0, (1 << bits) - 1)),
    st.sampled_from([0, 1, 255, 256, 257, 511, 512, HIGHEST_NS, HIGHEST_NS - 1]),
)


def stepped(values: list[int]) -> dict[int, int]:
    """As the hot path counts them."""
    counts: dict[int, int] = {}
    for value in values:
        step = value & STEP_MASKS[value.bit_length()]
        counts[step] = counts.get(step, 0) + 1
    return counts


def oracle(values: list[int]) -> HdrHistogram:
    histogram = HdrHistogram(1, HIGHEST_NS, DIGITS)
    for value in values:
        assert histogram.record_value(value)
    return histogram


@given(in_range)
def test_a_step_is_the_librarys_own(value: int) -> None:
    histogram = HdrHistogram(1, HIGHEST_NS, DIGITS)
    step = value & STEP_MASKS[value.bit_length()]
    assert step == histogram.get_lowest_equivalent_value(value)
    assert last_of_step(step) == histogram.get_highest_equivalent_value(value)
    assert step <= value <= last_of_step(step)
    assert last_of_step(step) - step <= value / 128


@given(st.lists(in_range, max_size=300))
def test_a_payload_is_the_librarys_own_byte_for_byte(values: list[int]) -> None:
    counts = stepped(values)
    payload = encoded(counts)
    assert payload.encode() == oracle(values).encode()
    assert decoded(payload) == counts


@given(st.lists(st.lists(in_range, max_size=60), max_size=5), st.integers(1, 2**40))
def test_a_merge_is_the_histogram_of_all(parts: list[list[int]], times: int) -> None:
    """Through payloads, as workers send them, and with counts of any size."""
    whole = merged(decoded(encoded(stepped(part))) for part in parts)
    assert whole == stepped([value for part in parts for value in part])
    many = {value: count * times for value, count in whole.items()}
    assert decoded(encoded(many)) == many
    library = HdrHistogram(1, HIGHEST_NS, DIGITS)
    for part in parts:
        library.decode_and_add(encoded(stepped(part)))
    assert library.encode() == encoded(whole).encode()


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=50), st.lists(in_range, max_size=50))
def test_what_a_histogram_cannot_hold_is_counted(wild: list[int], tame: list[int]) -> None:
    counts, out_of_range = within_range(stepped([*wild, *tame]))
    library = HdrHistogram(1, HIGHEST_NS, DIGITS)
    forgotten = sum(1 for value in [*wild, *tame] if not library.record_value(value))
    assert out_of_range == forgotten
    assert encoded(counts).encode() == library.encode()


def forged(
    body: bytes = b"", *, cookie: int = 0x1C849313, highest: int = HIGHEST_NS, length: int | None = None
) -> str:
    said = len(body) if length is None else length
    packed = zlib.compress(struct.pack(">IIIIQQd", cookie, said, 0, DIGITS, 1, highest, 1.0) + body)
    return base64.b64encode(struct.pack(">II", 0x1C849314, len(packed)) + packed).decode()


def test_a_forged_payload_is_read_where_it_is_right() -> None:
    assert decoded(forged(b"\x09\x06")) == {5: 3}
    assert decoded(forged(b"\x00\x06")) == {1: 3}  # an empty step on its own may be a 0


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "HISTFAAA",
        "not base64!",
        encoded({5: 1})[:-4],
        encoded({5: 1})[4:],
        HdrHistogram(1, HIGHEST_NS, 3).encode().decode(),
        forged(cookie=0x1C849303),
        forged(highest=HIGHEST_NS * 2 + 1),
        forged(b"\x02", length=7),
        forged(b"\x82"),  # a number that does not end
        forged(b"\xff" * 9 + b"\x01"),  # a count of more bits than any clock has seconds
        forged(b"\x81\x50\x02"),  # beyond the last step
        forged(b"\x00" * 2_000_000),
    ],
    ids=lambda payload: payload[:24],
)  # fmt: skip  # one forgery a line
def test_a_payload_that_is_not_ours_is_refused(payload: str) -> None:
    with pytest.raises(ValueError, match=r"histogram|count|steps"):
        decoded(payload)


def interval(values: list[int], *, tag: str = "gap", second: int = 0, out_of_range: int = 0) -> Interval:
    start = BEGIN_NS + second * SECOND
    return Interval(tag, start, start + SECOND, encoded(stepped(values)) if values else "", out_of_range)


def read_back(directory: Path) -> tuple[list[tuple[Interval, dict[int, int]]], SeriesReading]:
    reading = SeriesReading(directory, RUN)
    return list(reading), reading


def test_the_library_reads_the_log_back(tmp_path: Path) -> None:
    written = {
        ("gap", 0): [10_000_000, 10_100_000, 250_000_000],
        ("read-lag@after", 0): [30_000, 31_000],
        ("gap", 1): [9_900_000],
    }
    file = SeriesFile(tmp_path, RUN, BEGIN_NS)
    file.append(interval(values, tag=tag, second=second) for (tag, second), values in written.items())
    file.append([interval([], tag="age", out_of_range=3)])
    file.close()
    reader = HistogramLogReader(str(tmp_path / SERIES_NAME), HdrHistogram(1, HIGHEST_NS, DIGITS))
    found = {}
    while (histogram := reader.get_next_interval_histogram()) is not None:
        second = (histogram.get_start_time_stamp() * 1e6 - BEGIN_NS) / SECOND
        assert second == pytest.approx(round(second), abs=1e-3)
        assert histogram.get_end_time_stamp() - histogram.get_start_time_stamp() == pytest.approx(1_000)
        found[histogram.get_tag(), round(second)] = histogram
    reader.input_file.close()
    assert reader.get_start_time_sec() == BEGIN_NS // 1_000_000 / 1_000
    assert found.keys() == written.keys()
    for key, values in written.items():
        assert found[key].encode() == oracle(values).encode()
    lines = (tmp_path / SERIES_NAME).read_text("ascii").splitlines()
    assert lines[0] == f'#{{"schema":"sseproof/series","version":1,"run":"{RUN}"}}'
    longest = next(line for line in lines if line.startswith("Tag=gap,")).split(",")[3]
    assert float(longest) == oracle(written["gap", 0]).get_max_value() // 1_000 / 1_000


def test_the_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    wanted = [interval([1, 2, 3]), interval([7], tag="gap-warmup@be-fore.2", second=1, out_of_range=2), interval([], out_of_range=9)]  # fmt: skip
    for one in wanted:  # several processes: none writes a second head
        file = SeriesFile(tmp_path, RUN, BEGIN_NS)
        file.append([one])
        file.close()
    found, reading = read_back(tmp_path)
    assert not reading.problem
    assert merged(counts for _, counts in found) == {1: 1, 2: 1, 3: 1, 7: 1}
    assert [(one.tag, one.out_of_range) for one, _ in found] == [
        ("gap", 0), ("gap-warmup@be-fore.2", 0), ("gap-warmup@be-fore.2", 2), ("gap", 9),
    ]  # fmt: skip
    assert [one.start_ns for one, _ in found] == [
        each.start_ns for each in (wanted[0], wanted[1], wanted[1], wanted[2])
    ]
    assert found[0][0] == wanted[0]


@pytest.mark.parametrize("torn", [3, 12, 40, -1])
def test_a_torn_line_costs_only_itself(tmp_path: Path, torn: int) -> None:
    file = SeriesFile(tmp_path, RUN, BEGIN_NS)
    file.append([interval([1])])
    whole = interval_lines(interval([2], second=1))
    file.write(whole[:torn])
    file.append([interval([], second=2, out_of_range=5), interval([3], second=2), interval([4], second=3)])
    file.close()
    found, reading = read_back(tmp_path)
    assert [list(counts) for _, counts in found] == [[1], *([[2]] if torn == -1 else []), [], [3], [4]]
    assert sum(one.out_of_range for one, _ in found) == 5
    assert (reading.torn, reading.problem) == (
        1,
        f"{SERIES_NAME} is damaged in 1 place; every whole line was read.",
    )


def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    found, reading = read_back(tmp_path)
    assert (found, reading.missing, reading.problem) == ([], True, f"{SERIES_NAME} is missing.")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b'#{"schema":"sseproof/series","version":2,"run":"x"}\n', "newer sseproof"),
        (b'#{"schema":"sseproof/streams","version":1}\n', "not part of a run"),
        (b'#{"schema":"sseproof/series","version":1,"run":"another"}\n', "recorded by the run another"),
    ],
)
def test_another_runs_log_is_refused(tmp_path: Path, head: bytes, said: str) -> None:
    (tmp_path / SERIES_NAME).write_bytes(head)
    with pytest.raises(UsageError, match=said):
        list(SeriesReading(tmp_path, RUN))


@pytest.mark.parametrize(
    "damaged",
    [
        Interval("gap", BEGIN_NS, BEGIN_NS, "x\nTag=evil,0,0,0,x"),
        Interval("gap\nTag=evil", BEGIN_NS, BEGIN_NS, encoded({1: 1})),
        Interval("", BEGIN_NS, BEGIN_NS, "", 1),
    ],
    ids=lambda damaged: damaged.tag,
)
def test_a_damaged_interval_is_not_written(tmp_path: Path, damaged: Interval) -> None:
    file = SeriesFile(tmp_path, RUN, BEGIN_NS)
    with pytest.raises(RigError, match="damaged"):
        file.append([damaged])
    file.close()
    assert read_back(tmp_path)[0] == []


@pytest.mark.parametrize("line", [b"", b"\n", b"# a comment\n", b'"StartTimestamp","Interval_Length"\n'])
def test_lines_of_other_kinds_hold_nothing(line: bytes) -> None:
    assert parsed_line(line) is None


def test_tags_name_series_warmup_and_variant() -> None:
    assert tag_of("gap", None) == "gap"
    assert tag_of("gap", "after", warmup=True) == "gap-warmup@after"
