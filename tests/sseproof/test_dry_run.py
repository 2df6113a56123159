"""What `--dry-run` promises is an upper limit, or it says that there is none."""

from pathlib import Path

import pytest

from sseproof import limits
from sseproof.dry_run import dry_run
from sseproof.reports.metrics import METRICS
from sseproof.rundir.errors import UsageError
from sseproof.scenario import load_scenario


def planned(*sets: str):
    flags = {"target": {"url": "http://127.0.0.1:8000/stream"}}
    return dry_run(load_scenario(None, environ={}, sets=list(sets), flags=flags))


@pytest.mark.parametrize(
    ("sets", "most"),
    [
        ([], None),  # each new event gives a stream all its retries back
        (["client.profile=browser"], None),
        (["client.on_cut=give-up"], 70 * 5),
        (["client.retries=0"], 70),
        (["client.retries=0", "client.on_cut=give-up"], 70),
        (["client.profile=legacy"], 70),
        (["load.max_requests=12"], 12),
    ],
)
def test_the_most_requests_that_a_number_of_streams_can_make(sets, most):
    assert planned("load.streams=70", *sets).needs.requests_at_most == most


def test_one_of_a_thing_is_not_several():
    text = planned("load.streams=1", "load.users=1", "client.retries=0").to_text()
    assert "1 stream by 1 user in 1 worker." in text
    assert "At most 1 request, reconnections included" in text


def test_a_schedule_fixes_its_streams_and_leaves_its_warm_up_out():
    constant = planned("load.rate=20", "load.duration=30s", "load.warmup=5s", 'claims=["success >= 98%"]')
    assert (constant.needs.streams, constant.needs.at_once, constant.needs.duration_s) == (600, 1_000, 30)
    (success,) = constant.claims
    assert (success.plan.n, success.fixed) == (500, True)
    poisson = ("load.rate=20", "load.duration=30s", "load.arrivals=poisson", 'claims=["success >= 98%"]')
    (mean,) = planned(*poisson).claims
    assert (mean.plan.n, mean.fixed) == (600, False)
    (seeded,) = planned(*poisson, "seed=4").claims
    assert seeded.fixed
    assert 500 < seeded.plan.n < 700
    assert "by schedule" in constant.to_text()


def test_subscriptions_are_as_many_as_their_users():
    held = ("target.kind=subscription", "load.duration=10s", "load.users=70", 'claims=["success >= 90%"]')
    (success,) = planned(*held).claims
    assert (success.plan.n, success.fixed, success.not_fixed) == (70, False, "")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["load.duration=10s"], "fix it with --streams"),
        (['load.stages=[{duration="9s", users=5}]'], "depends on how long an answer lasts"),
        (["target.kind=subscription", "load.duration=10s", "load.warmup=1s"], "(--users)"),
        (["load.duration=9s", "phases.one=4s", "phases.two=5s"], "open loop (--rate)"),
        (
            ["load.rate=5", "phases.one=4s", "phases.two=5s", 'claims=["gap p99 <= 1s in phase two"]'],
            "gaps come",
        ),
    ],
)
def test_what_is_not_fixed_says_why_and_names_only_what_such_a_load_takes(sets, words):
    scope = " in phase two" if "phases.two=5s" in sets else ""
    text = " ".join(planned(f'claims=["success >= 90%{scope}"]', *sets).to_text().split())
    _, said = text.split("The plan does not fix their number: ")
    assert words in said


def test_a_limit_that_would_refuse_the_run_is_said_before(monkeypatch):
    assert planned("load.users=3").refusal is None
    monkeypatch.setattr(limits, "ephemeral_range", lambda: (1000, 1001))
    refused = planned("load.users=3")
    assert "outgoing ports" in refused.refusal
    assert "This machine would refuse it. 3 streams at once" in said(refused)
    assert "MiB of memory" in said(refused)


def said(plan) -> str:
    return " ".join(plan.to_text().split())


def test_the_time_of_a_run_by_duration_is_bounded_by_the_drain():
    plan = planned("load.duration=20s", "load.drain=15s")
    assert (plan.needs.duration_s, plan.needs.drain_s) == (20, 15)
    assert "Takes 20 s" in said(plan)
    assert "at most 35 s" in said(plan)
    assert planned("load.duration=20s", "client.timeouts.total=50s").needs.drain_s == 50


def test_the_time_of_a_number_of_streams_is_unknown_for_somebody_elses_service():
    plan = planned("load.streams=70")
    assert plan.needs.expected_s is None
    assert "not known before" in said(plan)


@pytest.mark.parametrize(
    ("query", "expected_s"),
    [
        ("?events=61&interval_ms=40", 10 * 2.4),
        ("?events=61&interval_ms=40&first_token_ms=600", 10 * 3.0),
        ("?events=61", None),
        ("?events=0&interval_ms=40", None),
        ("", None),
    ],
)
def test_the_time_of_a_number_of_streams_of_our_own_server(query, expected_s):
    flags = {"server": {}, "target": {"url": f"/api/v1/stream/chat{query}"}}
    plan = dry_run(load_scenario(None, environ={}, sets=["load.streams=95", "load.users=10"], flags=flags))
    assert plan.needs.expected_s == (None if expected_s is None else pytest.approx(expected_s))
    assert ("at least" if expected_s else "not known before") in said(plan)


def with_fault(tmp_path, load: str):
    path = tmp_path / "x.toml"
    path.write_text(
        f'[target]\nurl = "http://127.0.0.1:8000/"\n[load]\n{load}\n'
        '[[fault]]\nkind = "stall"\nshare = "20%"\nafter = "10s"\nduration = "5s"\n'
    )
    return dry_run(load_scenario(path, environ={}, sets=[], flags={}))


def test_the_faults_are_drawn_over_the_load(tmp_path):
    plan = with_fault(tmp_path, 'duration = "20s"')
    assert [(each.group, each.windows_ms) for each in plan.faults] == [
        ("stall", [(10_000, 5_000)]),
        ("clean", []),
    ]
    text = plan.to_text()
    assert "Faults, from the begin of load:" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    (bar,) = (line for line in text.splitlines() if "#" in line)
    assert bar.startswith("stall 20%")
    assert "#" not in planned().to_text()


def test_a_fault_that_would_outlast_the_load_is_refused_as_the_run_does(tmp_path):
    with pytest.raises(UsageError, match="begin earlier"):
        with_fault(tmp_path, 'duration = "12s"')
    assert with_fault(tmp_path, "streams = 5").faults


def test_a_length_is_told_to_a_hundredth_of_a_second():
    text = planned("load.rate=3", "load.streams=10").to_text()
    assert "within 3.33 s and" in text
    assert "Takes 3.33 s and what open answers still need: at most 303.33 s" in text


def test_each_phase_of_a_schedule_has_the_streams_that_start_in_it():
    lengths = ("phases.baseline=4s", "phases.fault=5s", "phases.recovery=6s")
    text = "success >= 90% in phase {}".format
    names = ("baseline", "fault", "recovery")
    found = planned(*lengths, "load.rate=20", f"claims={[text(name) for name in names]}")
    assert [(each.claim, each.plan.n, each.fixed) for each in found.claims] == [
        (text(name), n, False) for name, n in zip(names, (80, 100, 120), strict=True)
    ]
    assert [(each.name, each.start_ms, each.end_ms) for each in found.phases][2] == ("recovery", 9_000, None)
    assert found.needs.duration_s == 15
    assert "phase fault: from 4s to 9s" in found.to_text()
    warm = planned(*lengths, "load.rate=20", "load.warmup=3s", f"claims={[text('baseline')]}")
    assert warm.claims[0].plan.n == 20
    with pytest.raises(UsageError, match=r"the phases last 15 s together, and the load 4\.5 s"):
        planned(*lengths, "load.stages=[{duration='15s', rate=20}]", "load.streams=90")


def test_a_fault_takes_the_streams_that_it_finds_open():
    """Answers of 1 s: 20 of the 80 streams that start in the 4 s before the fault are still open when it comes."""
    resolved = load_scenario(
        None,
        environ={},
        sets=[],
        flags={
            "server": {},
            "target": {"url": "/api/v1/stream/chat?events=51&interval_ms=20&first_token_ms=0"},
            "load": {"rate": 20},
            "phases": {"baseline": "4s", "fault": "4s", "recovery": "4s"},
            "fault": [{"kind": "refused", "share": "50%", "phase": "fault"}],
            "claims": [f"success >= 90% in phase {name}" for name in ("baseline", "fault", "recovery")]
            + ["success >= 90% in phase fault in group refused"],
        },
    )
    assert [each.plan.n for each in dry_run(resolved).claims] == [60, 100, 80, 50]


def test_when_the_run_would_give_up_is_said():
    found = planned('abort={when="success < 50% for 10s", stop="load"}')
    assert "Stops the load when success < 50% for 10s, of 20 streams or more." in found.to_text()
    assert found.abort.stop == "load"
    few = planned('abort={when="success < 50% for 10s over 3", stop="load"}')
    assert "Stops the load when success < 50% for 10s over 3." in few.to_text()


def test_a_closed_loop_does_not_say_before_how_many_streams_a_phase_gets():
    found = planned("phases.a=4s", "phases.b=4s", 'claims=["success >= 90% in phase b"]')
    assert found.claims[0].plan.n is None
    assert "--rate" in found.to_text()


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_has_its_chance_where_the_plan_fixes_its_units(name):
    example = METRICS[name].example.partition(" in ")[0].partition(" after ")[0]
    claim = example.replace("'", "")
    plan = planned(
        "load.rate=20", "load.streams=400", "target.sent_at=json:at", "target.topic=t", f"claims=['{claim}']"
    )
    (one,) = plan.claims
    text = " ".join(plan.to_text().split())
    if METRICS[name].unit == "stream":
        assert (one.plan.n, one.fixed) == (400, True)
        chance = one.plan.chance_if_good
        assert chance.passes + chance.fails + chance.unknown == pytest.approx(1.0)
        assert chance.passes > 0.1
        assert "400 streams planned" in text
        assert "Chance if" in text
    else:
        assert one.plan.n is None
        assert f"{METRICS[name].unit}s come as they come" in text
    assert one.plan.needed_n >= 59
    assert "A pass needs at least" in text


def see_it_act() -> str:
    """The scenario at the end of docs/faults.md, which its reader is told to run."""
    text = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    return text.partition("## See it act")[2].partition("```toml\n")[2].partition("```")[0]


@pytest.mark.parametrize(("times", "n"), [(8, 71), (6, 49)])
def test_breaks_that_chance_makes_are_the_fewest_to_expect(tmp_path, times, n):
    """More may come, and with them a pass: that none is possible would not be true."""
    file = tmp_path / "refused.toml"
    file.write_text(see_it_act().replace("times = 8", f"times = {times}"))
    plan = dry_run(load_scenario(file, environ={}, sets=[], flags={}))
    recovery = plan.claims[0]
    assert (recovery.plan.n, recovery.fixed) == (n, False)
    assert (recovery.plan.allowed_failures is None) == (times == 6), (
        "the page shows a claim that can be decided"
    )
    assert f"At least {n} breaks to be expected; with so many: " in said(plan)
    assert "Chance, with so many, if " in said(plan)
    assert "200 streams planned: 12 may fail" in said(plan)
