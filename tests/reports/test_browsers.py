"""The table of browsers, from planted rows: each figure's right answer is known beforehand."""

from typing import Any

import pytest

from sseproof.chaos.faults import CutEvents
from sseproof.reports.browsers import BrowserResult, cells, drawn_cells, name_of
from sseproof.reports.judge import RunVerdict
from sseproof.reports.markdown import markdown_text
from sseproof.reports.render import render_report
from sseproof.reports.summary import summary_text
from sseproof.rundir.files import BROWSERS
from sseproof.rundir.rows import BrowserPlan, BrowserRow
from tests.reports.conftest import MS, T0, RunBuilder, S, at


def browser(run: RunBuilder, name: str, client: Any = "sseconsumer", version: str = "156.0") -> str:
    """A variant whose users are pages; gives its name."""
    variant = f"{name}-{client}"
    run.variant(variant, judged=not run.plan.variants or run.plan.variants[0].name is None)
    run.plan.variants[-1].browser = BrowserPlan(name=name, version=version, client=client, at_once=6)
    return variant


def drawn(run: RunBuilder, variant: str, **fields: Any) -> None:
    told = {"at_ns": T0, "resolution_ns": 5_000, "length_ns": S, "frames": 60, **fields}
    run.append(BROWSERS, BrowserRow(variant=variant, **told))


def measured(verdict: RunVerdict) -> list[BrowserResult]:
    return [each for each in verdict.browsers if each.state == "measured"]


def test_figures_of_one_browser(run: RunBuilder) -> None:
    variant = browser(run, "chromium")
    for ms in (50, 60, 70, 200):
        run.stream(variant=variant, first_token=at(1 + ms), fffd=1 if ms == 200 else 0)
    run.failed(variant=variant, lost=2)
    run.start(variant=variant)  # it never ended
    run.break_(0, variant=variant, seen_ms=500, back_ms=800)
    run.break_(1, variant=variant, seen_ms=500, back_ms=1_500)
    drawn(
        run, variant, frame_gap_p95_ns=17 * MS, frame_gap_max_ns=90 * MS, long_tasks=2, long_tasks_ns=142 * MS
    )
    (result,) = measured(run.judge())
    assert (result.streams, result.good, result.lost, result.doubled, result.fffd) == (6, 3, 2, 0, 1)
    assert (result.breaks, result.mended) == (2, 2)
    assert (result.reconnect_p50_ns, result.reconnect_max_ns) == (300 * MS, 1_000 * MS)
    assert result.ttft_p50_ns == 70 * MS  # third of six: of two it never came, or late
    assert result.ttft_p95_ns is None  # one never came
    assert (result.untold, result.exact) == (5, 0)  # no server of ours told what was meant
    row = " | ".join(cells(result))
    assert "3/6 50 %" in row
    assert "300 ms / 1 s / 1 s" in row
    assert "70 ms / never" in row
    assert "2, 142 ms" in drawn_cells(result)


def test_a_text_with_a_hole_is_not_exact(run: RunBuilder) -> None:
    """Of what came, each piece is right; the whole is not."""
    variant = browser(run, "chromium")
    run.witnessed((1, 42), variant=variant)
    run.witnessed((1, 19), (21, 42), variant=variant)
    run.witnessed((1, 42), variant=variant, doubled=3)
    (result,) = measured(run.judge())
    assert (result.exact, result.untold, result.lost, result.doubled) == (1, 0, 1, 3)


def test_a_break_that_never_healed_is_never_a_number(run: RunBuilder) -> None:
    variant = browser(run, "firefox")
    run.failed(variant=variant)
    run.break_(0, variant=variant, back_ms=None, gave_up="the client gave up")
    (result,) = measured(run.judge())
    assert (result.reconnect_max_ns, result.mended) == (None, 0)
    assert "never / never / never" in cells(result)


def test_without_breaks_and_rendering_nothing_is_made_up(run: RunBuilder) -> None:
    variant = browser(run, "firefox")
    run.stream(variant=variant)
    verdict = run.judge()
    (result,) = measured(verdict)
    assert result.frames is None
    assert "never" not in " ".join(cells(result))
    assert set(drawn_cells(result)[2:]) == {"–", "– / –"}  # a dash, as for all that was not measured
    assert "browsers.jsonl is missing." in verdict.problems


def test_browsers_that_nobody_opened_stay_unknown(run: RunBuilder) -> None:
    for name in ("chromium", "mobile-safari", "edge-2"):
        variant = browser(run, name)
        run.stream(variant=variant)
        drawn(run, variant)
    verdict = run.judge()
    unknown = [each.browser for each in verdict.browsers if each.state == "unknown"]
    assert unknown == ["firefox", "safari"]  # a phone's Safari is a phone, not the desk's
    text = " ".join(summary_text(verdict, run.directory).split())
    assert "Safari: unknown: open the address" in text
    assert "Mobile-safari 156.0, SSEConsumer" in text


def test_a_page_that_ran_nothing_is_unknown(run: RunBuilder) -> None:
    browser(run, "chromium")
    browser(run, "chromium", "eventsource")
    run.stream(variant="chromium-sseconsumer")
    result = run.judge().browsers[1]
    assert (result.client, result.state, "run.log" in result.next) == ("eventsource", "unknown", True)


@pytest.mark.parametrize("how", ["finished", "interrupted"])
def test_answers_that_no_page_asked_for_are_none_that_failed(run: RunBuilder, how: str) -> None:
    """Two pages went away: one before its first answer, one after its second. Claims know what was planned."""
    from sseproof.loadtests.settings import Load
    from sseproof.rundir.units import to_raw

    for name in ("safari", "edge"):
        browser(run, name)
        run.plan.variants[-1].load = to_raw(Load(users=1, streams=60))
    run.stream(variant="edge-sseconsumer")
    run.start(variant="edge-sseconsumer", stream=1)
    run.claims("success >= 20% in variant edge-sseconsumer")
    verdict = run.judge(how)
    gone, went = measured_or_not = verdict.browsers[:2]
    assert [each.browser for each in measured_or_not] == ["safari", "edge"]
    assert (gone.state, gone.streams, "run.log" in gone.next) == ("unknown", 0, True)
    assert (went.state, went.streams, went.good) == ("measured", 2, 1)
    assert [each.verdict for each in verdict.verdicts] == ["unknown"]


def test_a_run_of_locust_s_users_has_no_such_table(run: RunBuilder) -> None:
    run.stream()
    verdict = run.judge()
    assert verdict.browsers == []
    assert "browsers" not in summary_text(verdict, run.directory)
    assert b'id="browsers"' not in render_report(run.directory)


def test_the_report_has_both_tables_and_takes_no_markup(run: RunBuilder) -> None:
    variant = browser(run, "chromium", version="<b>1</b>")
    run.stream(variant=variant)
    drawn(run, variant, hidden=True, user_agent="<script>alert(1)</script>")
    run.write()
    page = render_report(run.directory)
    for words in (b'id="browsers"', b"What came", b"How it was drawn", b"page not in front", b"Safari"):
        assert words in page
    assert b"<b>1</b>" not in page
    assert b"<script>alert" not in page


def test_a_step_summary_has_the_table(run: RunBuilder) -> None:
    variant = browser(run, "chromium", version="<b>|9|</b>")
    run.stream(variant=variant)
    drawn(run, variant)
    text = markdown_text(run.judge()).decode()
    (row,) = [line for line in text.splitlines() if line.startswith("| Chromium")]
    assert row.startswith("| Chromium &lt;b&gt;\\|9\\|&lt;/b&gt; | SSEConsumer | 1/1 100 % |")
    assert "- Firefox: unknown: open the address" in text


def test_a_page_behind_others_and_a_clock_that_is_not_known_are_said(run: RunBuilder) -> None:
    variant = browser(run, "chromium")
    run.stream(variant=variant)
    run.generator(variant=variant, loop_lag_max_ns=151 * MS)
    drawn(run, variant, hidden=True, offset_error_ns=40 * MS)
    rig = {row.indicator: (row.value, row.within) for row in run.judge().rig}
    assert rig == {
        "page's timer late, longest": (151.0, False),
        "page's clock uncertain, most": (40.0, False),
        "pages not in front": (1.0, False),
    }


def test_of_a_page_that_told_nothing_no_figure_is_made_up(run: RunBuilder) -> None:
    """It went away before it could say how it was drawn, or what its clock shows."""
    variant = browser(run, "chromium")
    run.start(variant=variant)
    indicators = ["page's clock uncertain, most", "pages not in front"]
    rig = {row.indicator: (row.value, row.within) for row in run.judge().rig}
    assert [rig[each] for each in indicators] == [(None, None), (None, None)]
    drawn(run, variant)
    rig = {row.indicator: (row.value, row.within) for row in run.judge().rig}
    assert [rig[each] for each in indicators] == [(None, None), (0.0, True)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("chromium", "Chromium 9"), ("mobile-firefox", "Mobile-firefox 9"), ("firefox-2", "Firefox-2 9")],
)
def test_names(name: str, shown: str) -> None:
    assert name_of(BrowserResult(browser=name, version="9")) == shown


@pytest.mark.parametrize(
    ("inside", "events", "acted"),
    [
        ("boundary", 16, True),
        ("boundary", 17, False),
        ("event", 16, True),
        ("event", 20, False),
        ("character", 19, True),
    ],
)
def test_a_page_shows_a_cut_by_whole_events_alone(
    run: RunBuilder, inside: Any, events: int, acted: bool
) -> None:
    """A page is never handed a piece of an event: what counts is after how many of them its connection broke."""
    import msgspec

    from sseproof.chaos.plan import GroupSpec, addresses, plan_faults, with_ports

    variant = browser(run, "chromium")
    fault = CutEvents(after_events=16, inside=inside, on="every")
    plan = with_ports(
        plan_faults(
            [GroupSpec(name="cut", share="100%", fault=fault)],
            run=run.plan.run,
            seed=1,
            upstreams={variant: "127.0.0.1:1"},
            connect_ns=1,
            at_once=1,
        ),
        [20_001],
    )
    run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
    run.plan.variants[-1].addresses = addresses(plan, variant)
    cut = run.attempt(address="127.0.0.1:20001", end="fin", events=events)
    whole = run.attempt(number=2, address="127.0.0.1:20001", events=5)
    run.stream(variant=variant, group="cut", attempts=[cut, whole])
    drawn(run, variant)
    (evidence,) = run.judge().faults
    assert evidence.acted is acted
