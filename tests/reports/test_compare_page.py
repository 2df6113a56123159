"""The page of a comparison: everything that was asked for is on it, and it is like the report in make and manner."""

import base64
import hashlib
import html
import re

import pytest

from sseproof.reports.charts.changes import Change, Lane, differences, strip
from sseproof.reports.compare import Asked, compare_baseline, compare_pair, compare_sets
from sseproof.reports.facts import all_facts
from sseproof.reports.figures import run_figures
from sseproof.reports.history import read_history
from sseproof.reports.render import render_comparison
from tests.reports.made_sets import made_run, made_sides


def figures(directory):
    history = read_history(directory)
    return run_figures(history, all_facts(history), history.plan.variants[0], directory.name)


def page_of(comparison, before, after):
    return render_comparison(comparison, before, after, left_out=[], command=["sseproof", "compare"]).decode()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    before, after = ([figures(path) for path in side] for side in made_sides(root, 5, slower=1.3, bad=0.2))
    kept = [figures(made_run(root / "kept" / str(seed), 200 + seed, minute=seed)) for seed in range(19)]
    made = {
        "pair": (compare_pair(before[0], after[0], Asked()), before[:1], after[:1]),
        "sets": (compare_sets(before, after, Asked()), before, after),
        "baseline": (compare_baseline(kept, after[0], Asked()), kept, after[:1]),
    }
    return {name: page_of(*each) for name, each in made.items()}


@pytest.mark.parametrize("kind", ["pair", "sets", "baseline"])
def test_a_page_is_one_file_that_needs_nothing(pages, kind):
    page = pages[kind]
    assert "<script" not in page
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)
    assert html.unescape(policy) == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "style=" not in page
    assert len(page) < 200_000
    ids = re.findall(r"\bid=\"([^\"]+)\"", page)
    assert len(ids) == len(set(ids))
    for anchor in re.findall(r"href=\"#([^\"]+)\"", page):
        assert anchor in ids
    assert page.count('<svg width="100%"') > page.count("<figure>") >= 4 or kind == "pair"
    assert page.count("<figure>") == page.count("<figcaption>")


def test_the_page_of_sets_shows_every_run_and_what_is_called(pages):
    page = pages["sets"]
    assert "Worse: success" in page
    assert page.count("run by run</b>") == 3
    for seed in (*range(5), *range(100, 105)):
        assert f"made-{seed}" in page
    assert "Change of times, as a ratio" in page
    assert "exact Mann-Whitney test" in page
    assert "The inputs are the same" in page


def test_the_page_of_a_baseline_shows_the_range(pages):
    page = pages["baseline"]
    assert "holds the next" in page
    assert "The band holds the next run in 90" in page
    assert "kept runs" in page


def test_the_page_of_a_pair_warns(pages):
    page = pages["pair"]
    assert "One pair of runs does not show a regression of latency" in page
    assert "run by run" not in page


def test_bars_stand_around_no_change():
    changes = [
        Change(name="TTFT, p95", size=2.0, low=1.5, high=3.0, way="worse", word="worse"),
        Change(name="never", size=None, word="not decided"),
        Change(name="TTFT, p50", size=1.0, word="no difference shown"),
    ]
    chart = differences("x", "time", changes, 0.05, "95 % intervals")
    assert chart is not None
    assert len(chart.table.rows) == 2
    assert chart.sentence == (
        "TTFT, p95: worse, \N{MULTIPLICATION SIGN}2 (\N{MULTIPLICATION SIGN}1.5 to \N{MULTIPLICATION SIGN}3). "
        "Bars are 95 % intervals."
    )
    dots = [
        dict(shape.attributes)["d"] for shape in chart.shapes if dict(shape.attributes).get("stroke-linecap")
    ]
    assert [float(re.match(r"M([\d.]+)", dot)[1]) for dot in dots] == [740.0, 500.0]
    assert differences("x", "share", [Change(name="n", size=None, word="")], None, "") is None


def test_a_strip_has_a_dot_for_each_run_and_says_never():
    lanes = [
        Lane(name="before", values=[1e8, 2e8, 3e8], low=1e8, high=3e8),
        Lane(name="after", values=[4e8, float("inf")]),
    ]
    chart = strip("x", "TTFT, p95", "time", lanes)
    assert chart is not None
    dots = [
        dict(shape.attributes)["d"] for shape in chart.shapes if dict(shape.attributes).get("stroke-linecap")
    ]
    assert [dot.count("M") for dot in dots] == [3, 1]
    assert any("1 never" in text.text for text in chart.texts)
    assert "before: 200 ms in the middle of 3 runs; after: never in the middle of 2 runs." in chart.sentence
    assert [row[2] for row in chart.table.rows] == ["100 ms", "200 ms", "300 ms", "400 ms", "never"]
    assert strip("x", "TTFT", "time", [Lane(name="a", values=[float("inf")])]) is None
