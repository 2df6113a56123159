"""Freshness, heartbeats and fan-out: known answers as figures, in the terminal and on the page."""

import html
import re

import pytest

from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.reports.render import render_report
from sseproof.reports.steadiness import steadiness_of
from sseproof.reports.summary import steady_sentences, summary_text

MS = 1_000_000
S = 1_000 * MS


def page_of(run):
    """The words of the report."""
    text = html.unescape(re.sub(r"<[^>]+>", "", render_report(run.write()).decode()))
    return " ".join(text.split())


def figures(run):
    history = read_history(run.write())
    return steadiness_of(all_facts(history), history.plan.gap_edges_ns)


def test_time_is_weighed_and_not_streams(run):
    """One stream of 1.913 s without a stale moment, one of 101.913 s with 10 s: 9.63 % of the time, not 4.9 %."""
    run.claims()
    run.stream(stale_ns=0)
    run.stream(stale_ns=10 * S, ended=run.at(102_000))
    run.stream(stale_ns=None)
    found = figures(run)
    assert (found.stale_streams, found.stream_ns) == (2, 103_826 * MS)
    assert found.stale_share == (10 * S) / (103_826 * MS)
    assert steady_sentences(found) == [
        "The newest event was older than 500 ms in 9.63 % of 104 s in 2 streams."
    ]


def test_what_was_not_measured_has_no_figure_and_no_sentence(run):
    run.claims()
    assert figures(run) is None
    run.stream()
    found = figures(run)
    assert (found.stale_share, found.heartbeat_gaps, found.ages, found.behind) == (None, None, None, None)
    assert steady_sentences(found) == []


def test_intervals_of_all_streams_are_joined(run):
    """Of 100 ages 98 lie at 3 ms and two at 40 ms and 70 ms; half of them in another stream."""
    run.claims()
    run.stream(ages=run.gaps(*[3] * 50), heartbeats=2)
    run.stream(ages=run.gaps(*[3] * 48, 40, 70), heartbeats=1)
    found = figures(run)
    assert found.heartbeats == 3
    assert (found.ages.count, found.ages.streams) == (100, 2)
    assert (found.ages.p50_ns, found.ages.p95_ns, found.ages.p99_ns) == (5 * MS, 5 * MS, 50 * MS)
    assert found.ages.longest_ns == 70 * MS


def test_connections_of_subscriptions_have_an_age_and_those_of_answers_none(run):
    run.claims()
    run.stream(attempts=[run.attempt(headers=run.at(0), ended=run.at(99), events=1)])
    lasting = [(0, 1_000), (1_500, 4_500)]
    held = [run.attempt(headers=run.at(since), ended=run.at(until), events=9) for since, until in lasting]
    run.stream(
        kind="subscription", outcome="held", end="stopped", attempts=[*held, run.attempt(end="refused")]
    )
    run.stream(kind="subscription", outcome="held", end="stopped", attempts=held[1:])
    found = figures(run)
    assert (found.connections.count, found.connections.streams) == (3, 2)
    assert (found.connections.p50_ns, found.connections.longest_ns) == (3 * S, 3 * S)
    assert steady_sentences(found) == ["3 connections of 2 subscriptions lasted p50 3 s, longest 3 s."]


def test_a_heartbeat_that_never_came_is_beyond_every_limit(run):
    run.claims()
    gaps = run.gaps(*[15_000] * 9)
    gaps.hi = [*gaps.hi, *[0] * (len(run.plan.gap_edges_ns) + 1 - len(gaps.hi))]
    gaps.hi[-1] += 1
    gaps.count += 1
    run.stream(heartbeat_gaps=gaps)
    found = figures(run).heartbeat_gaps
    assert (found.count, found.p50_ns, found.p99_ns) == (10, 15 * S, None)


@pytest.fixture
def topic(run):
    run.claims("ttft p95 <= 1s")
    for late in (2, 180):
        run.stream(
            kind="subscription",
            outcome="held",
            end="stopped",
            stale_ns=191 * MS,
            heartbeats=20,
            heartbeat_gaps=run.gaps(*[900] * 20),
            ages=run.gaps(*[late] * 50),
            behind=run.gaps(*[late] * 50),
        )
    return run


def test_the_terminal_says_them(topic):
    text = " ".join(summary_text(topic.judge(), topic.directory).split())
    assert "The newest event was older than 500 ms in 9.98 % of 3.83 s in 2 streams." in text
    assert (
        "Silence before a heartbeat: p50 ≤ 900 ms, p95 ≤ 900 ms, p99 ≤ 900 ms, longest 900 ms (40 heartbeats)."
        in text
    )
    assert "Fan-out from the send time inside the events: p50 ≤ 2 ms, p95 ≤ 180 ms" in text
    assert "Fan-out behind the first subscriber of a worker: p50 ≤ 2 ms" in text
    assert "From send; from plan: –." in text, "a closed loop has no plan to be late of"


def test_the_report_shows_them_and_a_run_without_them_has_no_such_part(topic, build):
    page = page_of(topic)
    assert "The newest event was older than 500 ms in 9.98 % of the time" in page
    assert "behind the first subscriber of the same worker" in page
    assert "From send; from plan: –, since a closed loop plans no start." in page
    other = build()
    other.claims("ttft p95 <= 1s")
    other.stream()
    assert "Freshness" not in page_of(other)
