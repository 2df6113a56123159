"""How many units a plan gives each claim: exact where it is fixed, on the safe side where it is to be expected."""

from pathlib import Path

import pytest

from sseproof.demo import EXPECTED_RATE, SCENARIO
from sseproof.dry_run import dry_run
from sseproof.planning import check_faults, expected_units, fixed_units
from sseproof.rundir.errors import UsageError
from sseproof.scenario import load_scenario

GAP = "gap p99 <= 250ms in group clean"
BREAKS_OF_REFUSED = (71, 76, 85)
"""Breaks by the nine windows of the demo, for 84 streams, in runs on two cores."""


def demo(*sets: str):
    return load_scenario(SCENARIO, environ={}, sets=list(sets), flags={})


def units(resolved, text: str) -> tuple[int | None, int | None]:
    (claim,) = (claim for claim in resolved.claims if claim.text == text)
    return fixed_units(resolved, claim), expected_units(resolved, claim)


@pytest.mark.parametrize(
    ("claim", "n"),
    [
        ("success >= 98%", 420),
        ("ttft p95 <= 1s in group clean", 105),
        ("recovery = 100% after cut-fin", 63),
        (GAP, 105 * 60),
    ],
)
def test_what_the_plan_of_the_demo_fixes(claim, n):
    assert units(demo(), claim) == (n, n)


def test_breaks_of_a_link_that_is_away_are_expected_and_not_fixed():
    """378 streams are open in the windows, a fifth of them in the group: 75.6, less three deviations of 2.46."""
    fixed, expected = units(demo(), "recovery = 100% after refused")
    assert (fixed, expected) == (None, 68)
    assert expected < min(BREAKS_OF_REFUSED)
    assert units(demo(), "recovery = 100%") == (None, 63 + 63 + 68)


def test_who_meets_every_stream_of_the_group_is_certain():
    """Windows enough for all: each of the 84 streams is broken once."""
    resolved = demo("load.users=420")
    assert units(resolved, "recovery = 100% after refused") == (None, 84)


@pytest.mark.parametrize(
    "asked",
    ["", "?events=60&script=endless", "?events=many"],
    ids=["each answer's length is drawn", "endless", "refused by the server"],
)
def test_gaps_are_fixed_only_where_every_answer_has_one_length(asked):
    resolved = demo(f"target.url=/api/v1/stream/chat{asked}")
    assert units(resolved, GAP) == (None, None)


def test_gaps_are_not_fixed_where_somebody_else_answers_or_asks():
    foreign, own_users, by_duration = demo(), demo(), demo()
    for variant in foreign.scenario.variant:
        variant.server = None
    own_users.scenario.locustfile = "users.py"
    for variant in by_duration.scenario.variant:
        variant.load.streams = None
    assert [units(each, GAP) for each in (foreign, own_users, by_duration)] == [(None, None)] * 3


def test_gaps_across_breaks_are_not_fixed():
    resolved = load_scenario(
        SCENARIO, environ={}, sets=[], flags={"claims": ["gap p99 <= 1s", "gap p99 <= 1s in group cut-fin"]}
    )
    assert [fixed_units(resolved, claim) for claim in resolved.claims] == [None, None]


def test_every_claim_of_the_demo_will_be_decided():
    """By the plan, with a stack that fails once in a thousand."""
    assert EXPECTED_RATE <= 0.999
    planned = {each.claim: each.plan for each in dry_run(demo(), EXPECTED_RATE).claims}
    assert len(planned) == 11
    for claim, plan in planned.items():
        assert plan.chance_if_good is not None, claim
        assert 1 - plan.chance_if_good.unknown >= 0.99, claim
    assert planned["success >= 98%"].allowed_failures == 3
    assert planned["ttft p95 <= 1s in group clean"].allowed_failures == 1
    for fault in ("cut-fin", "cut-rst", "refused"):
        assert planned[f"recovery = 100% after {fault}"].n >= 59 + 4, "with a margin"


def test_a_service_that_hangs_holds_the_demo_up_for_a_minute_at_most():
    """Three streams in ten hang until the total time-out, shared by the users; a planned stall must not look like that."""
    resolved = demo()
    judged = next(variant for variant in resolved.scenario.variant if variant.judged)
    (stall,) = (spec.fault for spec in resolved.groups if spec.name == "stall")
    timeouts = judged.client.timeouts
    assert timeouts.idle.seconds >= 3 * stall.duration_ms / 1000
    assert timeouts.total.seconds >= 4 * (60 * 40 + stall.duration_ms) / 1000
    assert judged.load.streams is not None
    assert 0.3 * judged.load.streams * timeouts.total.seconds / judged.load.users <= 60


def planned(text: str, tmp_path: Path):
    """A scenario of so many streams at http://127.0.0.1:9/ whose answers are over within 10 s."""
    path = tmp_path / "plan.toml"
    path.write_text('[target]\nurl = "http://127.0.0.1:9/"\n[client.timeouts]\ntotal = "10s"\n' + text)
    return load_scenario(path, environ={}, sets=[], flags={})


WHEN = (
    '[[fault]]\nkind = "latency"\ndelay = "1s"\nshare = "50%"\nwhen = {{ after = "{}s", duration = "1s" }}\n'
)


@pytest.mark.parametrize(
    ("load", "after_s", "words"),
    [
        (
            "streams = 25\nstages = [{ duration = '60s', rate = 10 }]",
            1.6,
            "would end 2.6 s .* which lasts 2.5 s",
        ),
        ("duration = '20s'", 19.1, "would end 20.1 s after the begin of load, which lasts 20 s"),
        (
            "users = 5\nstreams = 25",
            52,
            "would begin 52 s .* whose 25 streams are over after 52 s at the latest",
        ),
        ("users = 25\nstreams = 25", 12, "over after 12 s at the latest, by their total time-out"),
        ("users = 5\nstreams = 25\nthink = '1s'", 57, "would begin 57 s"),
    ],
)
def test_a_fault_after_the_end_of_the_load_is_refused_before_anything_starts(load, after_s, words, tmp_path):
    text = f"[load]\n{load}\n"
    with pytest.raises(UsageError, match=words) as refused:
        check_faults(planned(text + WHEN.format(after_s), tmp_path))
    assert str(refused.value).startswith(f"{tmp_path / 'plan.toml'}: ")
    check_faults(planned(text + WHEN.format(after_s - 0.1), tmp_path))


def test_a_fault_that_begins_in_time_may_come_more_often_than_streams_last(tmp_path):
    again = WHEN.format(5).replace('duration = "1s"', 'duration = "1s", every = "5s", times = 4')
    check_faults(planned(f"[load]\nusers = 25\nstreams = 25\n{again}", tmp_path))


def test_a_phase_after_the_last_stream_is_refused_before_anything_starts(tmp_path):
    text = '[load]\nusers = 5\nstreams = 5\n[phases]\nbaseline = "{}s"\nrecovery = "1s"\n'
    with pytest.raises(UsageError, match="the phase 'recovery' would begin 12 s"):
        check_faults(planned(text.format(12), tmp_path))
    check_faults(planned(text.format(11), tmp_path))
