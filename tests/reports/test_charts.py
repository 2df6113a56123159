"""The charts' geometry: scales and ticks, and that each shape lies where its value says."""

import itertools
import re

import pytest

from sseproof.reports import statistics
from sseproof.reports.charts import svg
from sseproof.reports.charts.back import Backs, back_within, steps
from sseproof.reports.charts.bars import Bar, interval_bar, share_scale, time_scale
from sseproof.reports.charts.connected import (
    Dip,
    Holders,
    Share,
    Subscriber,
    connected_over_time,
    dips,
    shares,
)
from sseproof.reports.charts.ends import EndClass, ends_chart
from sseproof.reports.charts.health import Line, health_over_time
from sseproof.reports.charts.heat import CLASSES, Heat, add, class_edges, heat_map, row_of
from sseproof.reports.charts.lanes import (
    MOST_EPISODES,
    Episode,
    Lane,
    Life,
    Segment,
    episodes,
    lifelines,
    waterfall,
)
from sseproof.reports.charts.overtime import (
    MOST_LANES,
    Band,
    Ended,
    Point,
    Series,
    busiest,
    compact,
    lanes,
    outcomes_over_time,
    ttft_over_time,
)
from sseproof.reports.charts.spread import Counts, Sample, gap_histogram, gap_quantile_ns, spectrum
from sseproof.reports.charts.svg import Chart, Scale

MS = 1_000_000
S = 1_000 * MS
NUMBER = r"-?\d+(?:\.\d+)?"


def bars(chart: Chart, colour: str) -> list[tuple[float, float, float, float]]:
    """Rectangles of one colour: left, right, top, bottom."""
    found = []
    for shape in chart.shapes:
        attributes = dict(shape.attributes)
        match = re.fullmatch(rf"M({NUMBER}) ({NUMBER})H({NUMBER})V({NUMBER})H({NUMBER})Z", attributes["d"])
        if match and attributes["fill"] == colour:
            left, top, right, bottom, _ = map(float, match.groups())
            found.append((left, right, top, bottom))
    return found


def points(chart: Chart, colour: str) -> list[tuple[float, float]]:
    """Places of all dots of one colour."""
    return [
        (float(x), float(y))
        for shape in chart.shapes
        if dict(shape.attributes).get("stroke") == colour
        for x, y in re.findall(rf"M({NUMBER}) ({NUMBER})h0", dict(shape.attributes)["d"])
    ]


def texts(chart: Chart) -> list[str]:
    return [text.text for text in chart.texts]


# --- scales, ticks, text ---------------------------------------------------------------------------------------------------


def test_a_scale_maps_its_ends_and_keeps_what_is_outside_at_the_end() -> None:
    scale = Scale(0.0, 10.0, 100.0, 200.0)
    assert [scale(value) for value in (-5, 0, 5, 10, 50)] == [100, 100, 150, 200, 200]
    assert Scale(1.0, 100.0, 0.0, 10.0, log=True)(10.0) == pytest.approx(5.0)
    assert Scale(3.0, 3.0, 7.0, 9.0)(3.0) == 7.0
    assert scale.holds(10)
    assert not scale.holds(10.1)


@pytest.mark.parametrize("high", [0.003, 0.7, 1.0, 3.3, 14.7, 59.0, 640.0, 86_400.0])
def test_linear_ticks_are_round_few_and_inside(high: float) -> None:
    ticks = svg.linear_ticks(0, high)
    assert 3 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= high * (1 + 1e-9)
    steps = {round(second - first, 9) for first, second in itertools.pairwise(ticks)}
    assert len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"


@pytest.mark.parametrize(("low", "high"), [(0.1, 100.0), (50.0, 1_000.0), (0.001, 1e6), (20.0, 200.0)])
def test_log_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    ticks = svg.log_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert all(f"{tick:e}"[0] in "1235" for tick in ticks)


def test_log_ends_are_round_and_hold_all_values() -> None:
    assert svg.log_ends([37.0, 420.0], 1, 10) == (20.0, 500.0)
    assert svg.log_ends([], 10.0, 1_000.0) == (10.0, 1_000.0)
    low, high = svg.log_ends([42.0], 1, 10)
    assert low <= 42 <= high
    assert high >= 10 * low


def test_a_label_is_short_printable_and_isolated() -> None:
    assert svg.short("clean") == "clean"
    assert svg.short(None) == ""
    assert len(svg.short("x" * 500)) == svg.LONGEST_LABEL_CHARS
    assert svg.short("a\x1b[31m\u202eb") == "a\\x1b[31m\\u202eb"
    assert svg.short("مرحبا") == "\u2068مرحبا\u2069"


def test_a_sample_is_even_and_complete_when_it_can_be() -> None:
    assert svg.sampled(5, 10) == [0, 1, 2, 3, 4]
    chosen = svg.sampled(10_000, 100)
    assert len(chosen) == 100
    assert {second - first for first, second in itertools.pairwise(chosen)} == {100}


def test_spans_that_touch_become_one() -> None:
    assert svg.joined_spans([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]


def test_a_scatter_is_one_path() -> None:
    chart = Chart(key="k", title="t", description="d.", height=10)
    chart.dots([(index / 10, 5.0) for index in range(2_000)], svg.DATA)
    assert len(chart.shapes) == 1
    assert len(points(chart, svg.DATA)) == 2_000


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def blended(top: str, below: str, opacity: float) -> str:
    parts = [
        round(int(top[at : at + 2], 16) * opacity + int(below[at : at + 2], 16) * (1 - opacity))
        for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


@pytest.mark.parametrize("page", ["#ffffff", "#14171b", "#121212"])
def test_colours_of_data_are_seen_in_light_and_dark(page: str) -> None:
    """WCAG 2.2, 1.4.11: 3:1 for what must be seen to understand a chart."""
    for colour in {*svg.SERIES, svg.PASS, svg.FAIL, svg.UNKNOWN, svg.BAND, svg.QUIET}:
        assert contrast(colour, page) >= 3.0, colour


@pytest.mark.parametrize(
    ("page", "ink"), [("#ffffff", "#1b1f24"), ("#14171b", "#e7eaee"), ("#121212", "#ffffff")]
)
def test_names_on_bands_are_read_in_light_and_dark(page: str, ink: str) -> None:
    chart = ttft_over_time(
        [Series(name="", points=[Point(1.0, 80 * MS)])], [Band(name="cut", since_s=0, until_s=2)], 4, [], ""
    )
    assert chart is not None
    (lane,) = (shape for shape in chart.shapes if shape.title)
    opacity = float(dict(lane.attributes)["fill-opacity"])
    assert contrast(ink, blended(svg.BAND, page, opacity)) >= 4.5


# --- interval bars -----------------------------------------------------------------------------------------------------------


def test_all_shares_have_one_scale_with_room_below_each_threshold() -> None:
    rows = [Bar(low=0.985, high=0.999, seen=0.99, asked=0.98), Bar(low=0.97, high=1.0, seen=1.0, asked=1.0)]
    scale = share_scale(rows)
    assert (scale.low, scale.high) == (0.9, 1.0)
    low = Bar(low=0.1, high=0.2, seen=0.15, asked=0.98)
    assert share_scale([*rows, low]).low == 0.9, "one very bad row does not flatten the others"
    assert share_scale([Bar(low=0.6, high=0.8, seen=0.7, asked=0.98)]).low == 0.5


def test_the_bar_lies_where_the_interval_is() -> None:
    row = Bar(low=0.985, high=0.999, seen=0.995, asked=0.98)
    scale = share_scale([row])
    chart = interval_bar("b", row, scale, svg.PASS, "sentence.")
    ((left, right, _, _),) = bars(chart, svg.PASS)
    assert left == pytest.approx(scale(0.985), abs=0.1)
    assert right == pytest.approx(scale(0.999), abs=0.1)
    assert scale(0.98) < left, "a pass stands whole on the right side of what is asked"
    assert points(chart, "currentColor") == [(pytest.approx(scale(0.995), abs=0.1), 27.0)]
    assert "asked: 98 %" in texts(chart)


def test_what_lies_left_of_the_scale_is_said() -> None:
    row = Bar(low=0.2, high=0.4, seen=0.3, asked=0.98)
    chart = interval_bar("b", row, Scale(0.9, 1.0, 10, 990), svg.FAIL, "sentence.")
    assert "◀ from 20 %" in texts(chart)
    assert points(chart, "currentColor") == []


def test_a_quantile_that_never_came_points_to_the_right() -> None:
    row = Bar(low=150e6, high=None, seen=None, asked=1e9)
    scale = time_scale([row])
    chart = interval_bar("b", row, scale, svg.FAIL, "sentence.")
    ((left, right, _, _),) = bars(chart, svg.FAIL)
    assert left == pytest.approx(scale(150e6), abs=0.1)
    assert right == pytest.approx(990.0)
    assert "never ▶" in texts(chart)
    assert scale.low < 150e6
    assert scale.high > 1e9, "the asked value does not stand on the edge"


def test_too_few_for_an_interval_is_said() -> None:
    row = Bar(low=0, high=None, seen=40e6, asked=1e9, interval=False)
    chart = interval_bar("b", row, time_scale([row]), svg.UNKNOWN, "sentence.")
    assert bars(chart, svg.UNKNOWN) == []
    assert "too few for an interval" in texts(chart)


# --- over time ---------------------------------------------------------------------------------------------------------------


def series(count: int, never: int = 0, name: str = "") -> Series:
    came = [Point(index / 10, (50 + index % 7) * MS) for index in range(count)]
    return Series(name=name, points=came + [Point(index / 10, None) for index in range(never)])


def test_every_stream_is_a_point_at_its_start_and_its_ttft() -> None:
    chart = ttft_over_time(
        [Series(name="", points=[Point(2.0, 100 * MS), Point(8.0, 1_000 * MS)])], [], 10, [], "from send"
    )
    assert chart is not None
    (first, second) = points(chart, svg.DATA)
    across = svg.RIGHT - svg.LEFT
    assert first[0] == pytest.approx(svg.LEFT + 0.2 * across, abs=0.1)
    assert second[0] == pytest.approx(svg.LEFT + 0.8 * across, abs=0.1)
    assert second[1] < first[1], "slower is higher"
    assert "TTFT from send, log scale" in texts(chart)
    assert "time since the start of the run, s" in texts(chart)


def test_streams_without_a_first_token_stand_on_top() -> None:
    with_ = ttft_over_time([series(30, never=3)], [], 5, [], "from send")
    without = ttft_over_time([series(30)], [], 5, [], "from send")
    assert with_ is not None
    assert without is not None
    assert "never" in texts(with_)
    assert "never" not in texts(without)
    assert "30 of 33 streams got a first token" in with_.sentence
    ticks = [shape for shape in with_.shapes if dict(shape.attributes).get("stroke") == svg.FAIL]
    assert dict(ticks[0].attributes)["d"].count("M") == 3


def test_bins_hold_at_least_72_streams() -> None:
    few = ttft_over_time([series(143)], [], 15, [], "")
    many = ttft_over_time([series(720)], [], 72, [], "")
    assert few is not None
    assert many is not None
    assert few.table is not None
    assert many.table is not None
    assert [row[3] for row in few.table.rows] == ["143"]
    assert [row[3] for row in many.table.rows] == ["72"] * 10
    quiet = ttft_over_time([series(71)], [], 8, [], "")
    assert quiet is not None
    assert quiet.table is not None
    assert quiet.table.columns == ["variant", "start, s", "TTFT"]


def test_a_sampled_scatter_says_showing_x_of_y() -> None:
    chart = ttft_over_time([series(9_000)], [], 900, [], "")
    assert chart is not None
    assert len(points(chart, svg.DATA)) == svg.MOST_POINTS
    assert "Showing 4,000 of 9,000 points." in chart.sentence


def test_without_any_first_token_there_is_no_ttft_chart() -> None:
    assert ttft_over_time([series(0, never=5)], [], 5, [], "") is None
    assert ttft_over_time([], [], 5, [], "") is None


def test_a_band_reaches_from_applied_to_healed_or_the_end() -> None:
    bands = [Band(name="cut", since_s=2, until_s=4), Band(name="stall", since_s=6, until_s=None)]
    chart = ttft_over_time([series(30)], bands, 10, [], "")
    assert chart is not None
    time = Scale(0, 10, svg.LEFT, svg.RIGHT)
    drawn = bars(chart, svg.BAND)
    for since, until in ((2, 4), (6, 10)):
        matching = [bar for bar in drawn if bar[0] == pytest.approx(time(since), abs=0.1)]
        assert len(matching) == 2, "its lane, and its shade behind the data"
        assert all(bar[1] == pytest.approx(time(until), abs=0.1) for bar in matching)
    assert {"cut", "stall"} <= set(texts(chart))
    titles = [shape.title for shape in chart.shapes if shape.title]
    assert "stall: 6 s to the end" in titles


def test_many_faults_share_the_last_lane() -> None:
    bands = [Band(name=f"f{index}", since_s=index, until_s=index + 1) for index in range(20)]
    rows = lanes(bands)
    assert len(rows) == MOST_LANES
    assert rows[-1][0].name == "13 more faults"
    assert [(band.since_s, band.until_s) for band in rows[-1]] == [(7, 20)], "spans that touch are one"


def test_outcomes_are_counted_where_they_ended() -> None:
    streams = (
        [Ended(0.5, True, "complete")] * 3 + [Ended(0.6, False, "cut")] * 2 + [Ended(2.5, None, "unfinished")]
    )
    chart = outcomes_over_time("o", "", streams, bands=[], length_s=3.0, most=5)
    assert chart is not None
    assert chart.table is not None
    assert sum(int(row[1]) for row in chart.table.rows) == 3
    assert sum(int(row[2]) for row in chart.table.rows) == 2
    assert "2 cut" in " ".join(row[4] for row in chart.table.rows)
    assert "3 of 6 streams ended well." in chart.sentence
    good, bad = bars(chart, svg.PASS), bars(chart, svg.FAIL)
    assert good[0][2] == pytest.approx(bad[0][3], abs=0.2), "the bad ones stand on the good ones"
    assert [key.text for key in chart.keys] == ["good", "not good (ticked on top)", "not finished (lined)"]


def test_charts_that_are_compared_have_one_scale() -> None:
    few = [Ended(0.5, True, "complete")]
    many = [Ended(0.5, True, "complete")] * 10
    most = max(busiest(few, 3.0), busiest(many, 3.0))
    small = outcomes_over_time("a", "a", few, bands=[], length_s=3.0, most=most)
    large = outcomes_over_time("b", "b", many, bands=[], length_s=3.0, most=most)
    assert small is not None
    assert large is not None
    ((_, _, top, bottom),) = bars(small, svg.PASS)
    ((_, _, high, _),) = bars(large, svg.PASS)
    assert (bottom - top) * 10 == pytest.approx(bottom - high, abs=1.5)


def test_what_stands_the_whole_run_shades_nothing_and_shares_a_lane() -> None:
    standing = [Band(name=name, since_s=0, until_s=None) for name in ("cut", "slice")]
    passing = Band(name="stall", since_s=2, until_s=4)
    chart = ttft_over_time([series(30)], [*standing, passing], 10, [], "")
    assert chart is not None
    tall = [bar for bar in bars(chart, svg.BAND) if bar[3] - bar[2] > 100]
    time = Scale(0, 10, svg.LEFT, svg.RIGHT)
    assert [bar[:2] for bar in tall] == [pytest.approx((time(2), time(4)), abs=0.1)]
    joined = compact([*standing, passing], 10)
    assert [band.name for band in joined] == ["2 faults, the whole run", "stall"]
    assert compact([standing[0], passing], 10) == [standing[0], passing]


def test_brackets_are_drawn_where_the_calls_were() -> None:
    band = Band(name="stall", since_s=2, until_s=4, brackets=((2.0, 2.5), (3.9, 4.0)))
    chart = ttft_over_time([series(30)], [band], 10, [], "")
    assert chart is not None
    time = Scale(0, 10, svg.LEFT, svg.RIGHT)
    (edges,) = (
        re.findall(rf"M({NUMBER}) {NUMBER}H({NUMBER})V", dict(shape.attributes)["d"])
        for shape in chart.shapes
        if dict(shape.attributes)["d"].count("M") == 2 and dict(shape.attributes).get("fill") == svg.BAND
    )
    drawn = [tuple(map(float, edge)) for edge in edges]
    assert drawn[0] == pytest.approx((time(2.0), time(2.5)), abs=0.1)
    assert drawn[1][0] == pytest.approx(time(3.9), abs=0.1)


def test_a_mark_is_a_line_in_a_lane_of_its_own() -> None:
    bands = [Band(name=f"f{index}", since_s=index, until_s=index + 1) for index in range(20)]
    marks = [Band(name="marked", since_s=at, until_s=at, mark=True) for at in (3.0, 5.0)]
    assert lanes([*bands, *marks])[-1] == marks
    chart = ttft_over_time([series(30)], marks, 10, [], "")
    assert chart is not None
    assert bars(chart, svg.BAND) == []
    assert "marked, 2 times" in texts(chart)


def test_phases_share_the_first_lane_and_shade_nothing() -> None:
    phases = [
        Band(name="before", since_s=0, until_s=4, phase=True),
        Band(name="fault", since_s=4, until_s=8, phase=True),
        Band(name="x", since_s=8, until_s=8.2, phase=True),
        Band(name="after", since_s=8.2, until_s=None, phase=True),
    ]
    fault = Band(name="stall", since_s=5, until_s=6)
    assert [row[0].name for row in lanes([fault, *phases])] == ["before", "stall"]
    chart = ttft_over_time([series(30)], [*phases, fault], 10, [], "")
    assert chart is not None
    assert {"before", "fault", "after"} <= set(texts(chart))
    assert "x" not in texts(chart), "no room for it; its bar has a title"
    assert "phase x, from 8 s as planned" in [shape.title for shape in chart.shapes]
    tall = [bar for bar in bars(chart, svg.BAND) if bar[3] - bar[2] > 100]
    assert len(tall) == 1, "only the fault"
    assert compact([*phases, fault], 10) == [*phases, fault]


def test_a_limit_says_whether_somebody_claimed_it() -> None:
    for claimed, text in ((True, "claimed: 1 s"), (False, "1 s")):
        backs = Backs(name="", over_ms=[100.0])
        for chart in (
            back_within([backs], 1_000.0, claimed=claimed),
            episodes("e", "x", [episode(0, 100.0)], 1_000.0, 1_000.0, claimed=claimed),
        ):
            assert chart is not None
            assert text in texts(chart)


def test_every_series_has_a_form_of_its_own() -> None:
    names = ["a", "b", "c", "d"]
    chart = ttft_over_time([series(10, name=name) for name in names], [], 10, [], "")
    assert chart is not None
    assert [key.sign for key in chart.keys] == list(svg.SIGNS)
    drawn = {
        dict(shape.attributes)["stroke"]: (
            dict(shape.attributes).get("stroke-linecap", ""),
            "".join(re.findall("v[0-9.]+", dict(shape.attributes)["d"])[:1]),
            dict(shape.attributes)["stroke-width"],
        )
        for shape in chart.shapes
        if dict(shape.attributes).get("stroke") in svg.SERIES
    }
    assert len(set(drawn.values())) == 4, drawn


def test_health_has_a_panel_a_unit_on_one_time() -> None:
    lines = [
        Line(name="read lag p99", unit="ms", points=[(0, 1.0), (1, 9.0), (2, 2.0)]),
        Line(name="CPU of a worker", unit="%", points=[(0, 20.0), (1, 90.0)]),
        Line(name="open streams", unit="streams", points=[(0, 5.0), (1, 50.0)]),
    ]
    chart = health_over_time(lines, [], 3, [1.0])
    assert chart is not None
    assert chart.sentence == (
        "Read lag p99: median 2 ms, highest 9 ms at 1 s. CPU of a worker: median 20 %, highest 90 % at 1 s. "
        "Open streams: median 5, highest 50 at 1 s."
    )
    assert {"lag, log scale", "share of one core, %", "streams that were open"} <= set(texts(chart))
    assert "streams that could not be started (tick)" in [key.text for key in chart.keys]
    assert health_over_time([Line(name="x", unit="ms", points=[])], [], 3) is None


# --- ends ----------------------------------------------------------------------------------------------------------------


def test_a_class_of_ends_has_its_sign_its_counts_and_bars_from_zero() -> None:
    classes = [
        EndClass(label="cut, first end rst", good=False, counts=(100, 0)),
        EndClass(label="unfinished", good=None, counts=(0, 10)),
        EndClass(label="whole", good=True, counts=(50, 200)),
    ]
    chart = ends_chart(classes, ["before", "after"])
    assert chart is not None
    assert texts(chart)[-3:] == [
        "✕ cut, first end rst: before 100, after 0",
        "? unfinished: before 0, after 10",
        "✓ whole: before 50, after 200",
    ]
    scale = Scale(0, 200, 2, 990)
    assert [bar[:2] for bar in bars(chart, svg.FAIL)] == [pytest.approx((2, scale(100)), abs=0.1)]
    assert [bar[1] for bar in bars(chart, svg.PASS)] == [pytest.approx(scale(50), abs=0.1), 990]
    assert chart.sentence == "250 of 360 streams ended well (69.4 %)."
    assert ends_chart([], []) is None


# --- reconnection ----------------------------------------------------------------------------------------------------------


def test_the_curve_counts_what_was_over_and_never_what_was_given_up() -> None:
    backs = Backs(name="", over_ms=[100.0, 200.0, 200.0], never=1)
    assert steps(backs) == [(0.0, 0.0), (100.0, pytest.approx(0.25)), (200.0, pytest.approx(0.75))]


def test_a_censored_break_counts_as_open_until_then() -> None:
    # Kaplan and Meier by hand: 1 of 4 over at 100, one leaves at 150, then 1 of 2 is over at 200.
    backs = Backs(name="", over_ms=[100.0, 200.0, 300.0], censored_ms=[150.0])
    assert steps(backs) == [
        (0.0, 0.0),
        (100.0, pytest.approx(0.25)),
        (200.0, pytest.approx(1 - 0.75 * 0.5)),
        (300.0, 1.0),
    ]


def test_the_share_of_breaks_is_told_against_the_limit() -> None:
    backs = Backs(name="after", over_ms=[100.0] * 7 + [3_000.0] * 2, censored_ms=[500.0], never=2)
    chart = back_within([backs, Backs(name="before", over_ms=[], never=5, colour=1)], 1_000.0)
    assert chart is not None
    assert chart.sentence == (
        "after: 7 of 12 breaks were over within 1 s, the slowest after 3 s; 2 were given up; 1 ended with the run while "
        "open. before: 0 of 5 breaks were over within 1 s; 5 were given up."
    )
    assert "1 s" in texts(chart)
    assert [key.dash for key in chart.keys if key.sign == "bar"] == [False, True]
    assert back_within([Backs(name="", over_ms=[], never=5)], 1_000.0) is None


# --- subscriptions ---------------------------------------------------------------------------------------------------------


def test_the_share_is_of_those_that_are_held() -> None:
    subscribers = [
        Subscriber(0.0, 10.0, ((0.0, 4.0), (6.0, 10.0))),
        Subscriber(2.0, 10.0, ((2.0, 10.0),)),
    ]
    line = shares(subscribers)
    assert line == [Share(0.0, 1, 1), Share(2.0, 2, 2), Share(4.0, 2, 1), Share(6.0, 2, 2)]
    assert dips(line, 10.0) == [Dip(4.0, 6.0, Share(4.0, 2, 1))]
    assert dips(line[:3], 10.0) == [Dip(4.0, None, Share(4.0, 2, 1))]


def test_a_restart_shows_as_a_dip_with_its_length() -> None:
    held = [Subscriber(0.0, 20.0, ((0.0, 8.0), (9.5 + index / 100, 20.0))) for index in range(100)]
    chart = connected_over_time([Holders(name="", subscribers=held)], [], 20.0)
    assert chart is not None
    assert chart.sentence == (
        "At 8 s 0 of 100 subscriptions were connected (0 %), and 2.48 s passed until 99 % were again."
    )
    assert chart.table is not None
    assert chart.table.rows == [["all", "8", "10.5", "0 %", "0 of 100"]]
    assert connected_over_time([Holders(name="", subscribers=[])], [], 20.0) is None


def test_a_thinned_line_keeps_the_deepest_dip() -> None:
    held = [
        Subscriber(0.0, 20.0, ((0.0, own), (own + 0.002, 20.0)))
        if number % 2 or own > 9
        else Subscriber(0.0, 20.0, ((0.0, own), (own + 0.002, 10.03), (10.031, 20.0)))
        for number in range(1_000)
        for own in (1 + number / 60,)
    ]
    chart = connected_over_time([Holders(name="", subscribers=held)], [], 20.0)
    assert chart is not None
    worst = min(share.share for share in shares(held))
    assert worst < 0.8, "for a millisecond, between many small ones"
    (path,) = (
        dict(shape.attributes)["d"]
        for shape in chart.shapes
        if dict(shape.attributes).get("stroke") == svg.DATA
    )
    lowest = max(float(y) for y in re.findall(rf"[ML]{NUMBER} ({NUMBER})", path))
    top = svg.TOP + 8
    assert lowest == pytest.approx(Scale(0, 100, top + 180, top)(worst * 100), abs=0.1)
    assert len(path) < 6_000


# --- gaps over time -------------------------------------------------------------------------------------------------------


def test_every_gap_lies_in_one_cell_of_its_class() -> None:
    heat = Heat(name="", cells={})
    add(heat.cells, 0, {40 * MS: 500, 45 * MS: 3})
    add(heat.cells, 7, {1_500 * MS: 1})
    chart = heat_map("h", heat, [], 10.0, [250 * MS])
    assert chart is not None
    drawn = [shape for shape in chart.shapes if dict(shape.attributes).get("fill") == svg.DATA]
    cells = [
        cell
        for shape in drawn
        for cell in re.findall(rf"M({NUMBER}) ({NUMBER})H", dict(shape.attributes)["d"])
    ]
    assert len(cells) == 2, "500 and 3 in one class of length, 1 in another"
    time = Scale(0, 10, svg.LEFT, svg.RIGHT)
    assert sorted(float(x) for x, _ in cells) == [
        pytest.approx(time(0), abs=0.1),
        pytest.approx(time(7), abs=0.1),
    ]
    assert len({dict(shape.attributes).get("fill-opacity") for shape in drawn}) == 2
    assert chart.sentence.startswith("504 in all; the longest, between ")
    assert "ended between 7 and 8 s. 1 lie in rows above that of 250 ms." in chart.sentence
    assert "claimed: 250 ms" in texts(chart)
    assert heat_map("h", Heat(name="", cells={}), [], 10.0, []) is None


@pytest.mark.parametrize("most", [1, 2, 5, 6, 40, 1_000, 123_456])
def test_classes_of_counts_leave_none_out(most: int) -> None:
    edges = class_edges(most)
    assert 1 <= len(edges) <= CLASSES
    assert edges[0][0] == 1
    assert edges[-1][1] == most
    for (_, high), (low, _) in itertools.pairwise(edges):
        assert low == high + 1


def test_a_row_holds_its_lengths() -> None:
    assert row_of(0) == row_of(10_000) == 0
    assert row_of(100_000) == 6
    assert row_of(99_999) == 5


# --- lives ------------------------------------------------------------------------------------------------------------------


def test_lives_lie_on_the_time_of_the_run_by_their_start() -> None:
    def life(number: int, since_s: float, good: bool | None) -> Life:
        return Life(
            number=str(number),
            variant="",
            since_s=since_s,
            segments=[Segment("waiting", 0, 500), Segment("streaming", 500, 2_000)],
            good=good,
            words=f"what happened to {number}.",
            why="drawn" if good else "bad",
        )

    bands = [Band(name="stall", since_s=2, until_s=4)]
    chart = lifelines([life(7, 6.0, True), life(3, 1.0, False), life(5, 2.0, None)], bands, 10.0, 40)
    assert chart is not None
    time = Scale(0, 10, 4, 990)
    assert [bar[0] for bar in bars(chart, svg.DATA)] == [
        pytest.approx(time(at), abs=0.1) for at in (1.5, 2.5, 6.5)
    ]
    assert [text for text in texts(chart) if text[0] in "✓✕?"] == ["✕ 3", "? 5", "✓ 7"]
    assert chart.sentence.startswith("Showing 3 of 40 streams: 2 bad, 1 drawn.")
    assert chart.table is not None
    assert chart.table.rows[0] == ["3", "bad", "1", "what happened to 3."]
    assert lifelines([], [], 10.0, 0) is None


# --- lanes -------------------------------------------------------------------------------------------------------------------


def test_steps_lie_in_order_on_one_axis() -> None:
    lane = Lane(
        label="stream 1",
        segments=[
            Segment("waiting", 0, 500),
            Segment("streaming", 500, 1_500),
            Segment("broken", 1_500, 2_000),
        ],
        good=False,
        retries_ms=[1_800.0],
    )
    chart = waterfall("w", "t", [lane])
    assert chart is not None
    (waiting,), (streaming,), (broken,) = (bars(chart, colour) for colour in (svg.BAND, svg.DATA, svg.FAIL))
    assert waiting[1] == streaming[0]
    assert streaming[1] == broken[0]
    assert streaming[1] - streaming[0] == pytest.approx(2 * (waiting[1] - waiting[0]), abs=0.2)
    heights = {bar[3] - bar[2] for bar in (waiting, streaming, broken)}
    assert len(heights) == 3, "told apart without colour"
    assert "✕" in texts(chart)
    assert chart.table is not None
    assert [row[1] for row in chart.table.rows] == ["waiting", "streaming", "broken"]


def test_a_good_lane_ends_in_a_dot_and_a_blink_is_only_in_the_table() -> None:
    lane = Lane(
        label="a", segments=[Segment("streaming", 0, 10_000), Segment("silent", 10_000, 10_001)], good=True
    )
    chart = waterfall("w", "t", [lane])
    assert chart is not None
    assert "✕" not in texts(chart)
    assert len(points(chart, "currentColor")) == 1
    assert bars(chart, svg.UNKNOWN) == []
    assert chart.table is not None
    assert len(chart.table.rows) == 2


def episode(index: int, back_ms: float | None) -> Episode:
    return Episode(
        label=f"stream {index}, break 1",
        connected_ms=None if back_ms is None else back_ms / 2,
        back_ms=back_ms,
    )


def test_breaks_are_sorted_and_counted_against_the_line() -> None:
    chart = episodes(
        "e",
        "t",
        [episode(1, 900.0), episode(2, 100.0), episode(3, None), episode(4, 2_000.0)],
        1_000.0,
        2_000.0,
    )
    assert chart is not None
    assert chart.sentence == "2 of 4 breaks had a new event within 1 s; after 1 none ever came."
    assert chart.table is not None
    assert [row[0].split(",")[0] for row in chart.table.rows] == [
        "stream 2",
        "stream 1",
        "stream 4",
        "stream 3",
    ]
    ends = [bar[1] for bar in bars(chart, svg.DATA)]
    assert ends == sorted(ends)
    assert len(bars(chart, svg.FAIL)) == 1
    assert "1 s" in texts(chart)


def test_many_breaks_are_sampled_with_the_slowest_among_them() -> None:
    chart = episodes("e", "t", [episode(index, 10.0 + index) for index in range(1_000)], 1_000.0, 1_009.0)
    assert chart is not None
    drawn = bars(chart, svg.DATA)
    assert len(drawn) == MOST_EPISODES
    assert max(bar[1] for bar in drawn) == pytest.approx(Scale(0, 1_200, 4, 990)(1_009.0), abs=0.2)
    assert f"Showing {MOST_EPISODES} of 1,000" in chart.sentence
    assert chart.table is not None
    assert len(chart.table.rows) == 200


# --- distributions -----------------------------------------------------------------------------------------------------------


def test_the_spectrum_tells_the_observed_quantiles() -> None:
    values: list[int | None] = [index * MS for index in range(1, 101)]
    chart = spectrum("s", "TTFT", [Sample(name="from send", values_ns=values)], [80 * MS])
    assert chart is not None
    assert chart.table is not None
    row = dict(zip(chart.table.columns, chart.table.rows[0], strict=True))
    assert row["p50"] == "50 ms (40 ms to 61 ms)"
    assert row["p95"] == "95 ms (90 ms to 100 ms)"
    assert "p99" not in row, "the p99 of 100 streams has no interval"
    assert "claimed: 80 ms" in texts(chart)
    assert "percentile, log scale of the rest" in texts(chart)


def test_the_curve_ends_where_streams_never_came() -> None:
    values: list[int | None] = [100 * MS] * 90 + [None] * 10
    chart = spectrum("s", "TTFT", [Sample(name="x", values_ns=values, band=False)], [])
    assert chart is not None
    line = next(shape for shape in chart.shapes if dict(shape.attributes).get("stroke") == svg.DATA)
    xs = [float(x) for x in re.findall(rf"[ML]({NUMBER}) ", dict(line.attributes)["d"])]
    (p90,) = (text.x for text in chart.texts if text.text == "p90")
    assert svg.LEFT < max(xs) <= p90 + 1, "p90 is the last that came"
    assert "10 never" in chart.sentence
    assert spectrum("s", "TTFT", [Sample(name="x", values_ns=[None] * 5)], []) is None


@pytest.mark.parametrize("n", [6, 36, 72, 100, 368])
def test_a_curve_ends_where_its_interval_does(n: int) -> None:
    values: list[int | None] = [(1 + index) * MS for index in range(n)]
    chart = spectrum("s", "TTFT", [Sample(name="x", values_ns=values)], [])
    assert chart is not None
    area = next(shape for shape in chart.shapes if dict(shape.attributes).get("fill") == svg.DATA)
    line = next(shape for shape in chart.shapes if dict(shape.attributes).get("stroke") == svg.DATA)
    ends = [
        max(float(x) for x in re.findall(rf"[ML]({NUMBER}) ", dict(shape.attributes)["d"]))
        for shape in (area, line)
    ]
    assert ends[0] == ends[1]
    least = {6: "p50", 36: "p90", 72: "p95", 368: "p99"}  # measurement.md 3.4
    if n in least:
        assert chart.table is not None
        told = [
            name
            for name, cell in zip(chart.table.columns, chart.table.rows[0], strict=True)
            if cell[0] != "–"
        ]
        assert told[-1] == least[n]


def test_too_few_for_an_interval_are_points() -> None:
    chart = spectrum("s", "TTFT", [Sample(name="x", values_ns=[1 * MS, 2 * MS, 3 * MS])], [])
    assert chart is not None
    assert not any("L" in dict(shape.attributes)["d"] and dict(shape.attributes).get("stroke") == svg.DATA
                   for shape in chart.shapes)  # fmt: skip
    assert points(chart, svg.DATA)


def test_gaps_are_shares_of_their_buckets() -> None:
    edges = [10 * MS, 20 * MS, 50 * MS]
    counts = Counts(name="", counts=[10, 80, 9, 1], streams=4, longest_ns=70 * MS)
    chart = gap_histogram([counts], edges, [50 * MS])
    assert chart is not None
    assert chart.table is not None
    assert [row[-1] for row in chart.table.rows] == ["10", "80", "9", "1"]
    assert "99 % of 100 gaps in 4 streams are at most 50 ms, the longest is 70 ms." in chart.sentence
    assert "claimed: 50 ms" in texts(chart)
    assert "share of all gaps, %" in texts(chart)
    assert gap_histogram([Counts(name="", counts=[0, 0], streams=0, longest_ns=0)], edges, []) is None


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 0.995])
def test_a_gap_quantile_is_the_edge_of_its_bucket(q: float) -> None:
    edges = [10 * MS, 20 * MS, 50 * MS]
    counts = Counts(name="", counts=[50, 40, 9, 1], streams=1, longest_ns=70 * MS)
    values = [10 * MS] * 50 + [20 * MS] * 40 + [50 * MS] * 9 + [70 * MS]
    assert gap_quantile_ns(counts, edges, q) == values[statistics.quantile_rank(100, q) - 1]
