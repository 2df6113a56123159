"""Faults in a run: they act on the streams they were planned for, are proved, healed, and leave nothing behind."""

from pathlib import Path

import pytest

from sseproof.chaos.hops import find_nginx
from sseproof.chaos.plan import OWN_CONNECT_NS
from sseproof.reports.evidence import evidence_of
from sseproof.reports.history import read_history
from sseproof.rundir.files import BREAKS, FAULTS, STREAMS
from sseproof.rundir.rows import OUTCOMES
from tests.integration.suite import (
    claims,
    directory_of,
    nobody_listens,
    plan_of,
    ports_of,
    rows,
    sseproof,
    stripped,
    verdict_of,
)

pytestmark = pytest.mark.integration

SERVED = '[server]\n[target]\nurl = "/api/v1/stream/chat?events=30&interval_ms=20"\n'


def run(cwd: Path, scenario: str, *options: str):
    (cwd / "faults.toml").write_text(SERVED + scenario)
    return sseproof("run", "faults.toml", "--quiet", *options, cwd=cwd)


def test_cuts_are_exact_resumed_and_healed(tmp_path):
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
name = "fin"
kind = "cut"
by = "fin"
share = "25%"
after_bytes = [700, 1100]
[[fault]]
name = "rst"
kind = "cut"
by = "rst"
share = "25%"
after_bytes = 900
"""
    done = run(
        tmp_path, scenario, *claims("success >= 90%", "recovery = 100% over 40", "reconnect p50 <= 2s")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    plan = plan_of(directory)
    planned = {f"{a['host']}:{a['port']}": a.get("cut_after_bytes") for a in plan["variants"][0]["addresses"]}
    streams = rows(directory, STREAMS)
    for group, end in (("fin", "fin"), ("rst", "rst")):
        mine = [row for row in streams if row.group == group]
        assert len(mine) == 20
        for row in mine:
            first, second = row.attempts
            assert first.end == end
            assert first.received_bytes == planned[first.address]
            assert second.end == "terminal"
            assert second.last_event_id
    assert len({planned[row.attempts[0].address] for row in streams if row.group == "fin"}) > 3, (
        "offsets vary"
    )
    assert all(len(row.attempts) == 1 for row in streams if row.group == "clean")
    assert len(rows(directory, BREAKS)) == 40
    steps = [(row.fault, row.step) for row in rows(directory, FAULTS)]
    for fault in ("fin", "rst"):
        order = [step for name, step in steps if name == fault]
        assert order.index("intent") < order.index("applied") < order.index("healed")
    nobody_listens(ports_of(directory))


def test_a_stall_heals_and_loses_nothing(tmp_path):
    scenario = """
[load]
streams = 60
users = 20
[[fault]]
kind = "stall"
share = "50%"
after = "700ms"
duration = "1s"
"""
    done = run(tmp_path, scenario, *claims("success >= 90%", "utf8 = 100%"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    (evidence,) = evidence_of(read_history(directory))
    assert evidence.acted
    assert evidence.count >= 5
    assert rows(directory, BREAKS) == [], "a healed stall is no break"
    assert {row.outcome for row in rows(directory, STREAMS)} == {"complete"}


def test_a_refused_link_is_waited_out(tmp_path):
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
kind = "refused"
share = "50%"
after = "400ms"
duration = "800ms"
every = "2s"
times = 2
"""
    done = run(tmp_path, scenario, *claims("success >= 90%", "recovery = 100% over 8 after refused"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    attempts = [
        attempt for row in rows(directory, STREAMS) if row.group == "refused" for attempt in row.attempts
    ]
    assert any(attempt.end == "refused" for attempt in attempts)
    assert any(attempt.end == "fin" for attempt in attempts)
    assert all(row.group == "refused" for row in rows(directory, BREAKS))


def test_slices_split_characters_and_harm_only_the_naive(tmp_path):
    scenario = """
[load]
streams = 64
users = 16
[[fault]]
kind = "slice"
size_bytes = 3
share = "50%"
[[variant]]
name = "naive"
[variant.client]
profile = "legacy"
[[variant]]
name = "careful"
"""
    done = run(tmp_path, scenario, *claims("utf8 = 100% in group slice over 30"))
    directory = directory_of(tmp_path)
    found = {verdict.variant: verdict.verdict for verdict in verdict_of(directory).verdicts}
    assert found == {"naive": "fail", "careful": "pass"}, done.stdout + done.stderr
    assert done.returncode == 0, "only the judged variant, the last, sets the exit code"
    for row in rows(directory, STREAMS):
        if row.group == "slice" and row.variant == "careful":
            assert sum(attempt.split_chars for attempt in row.attempts) > 0
            assert row.fffd == 0


def test_a_fault_without_effect_makes_its_claims_unknown(tmp_path):
    """The cut lies behind the end of every answer: planned, applied, and nobody met it."""
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
name = "too-late"
kind = "cut"
share = "50%"
after_bytes = 900000
"""
    wanted = ["success >= 90%", "recovery = 100% after too-late", "ttft p50 <= 5s in group too-late"]
    done = run(tmp_path, scenario, *claims(*wanted))
    verdicts = verdict_of(directory_of(tmp_path)).verdicts
    assert [(v.verdict, v.code) for v in verdicts] == [
        ("pass", None),
        ("unknown", "fault-not-seen"),
        ("unknown", "fault-not-seen"),
    ], done.stdout + done.stderr
    assert done.returncode == 2
    assert "did not act" in done.stdout


def test_the_same_seed_plans_the_same(tmp_path):
    scenario = """
[load]
streams = 8
users = 8
[[fault]]
kind = "cut"
share = "50%"
after_bytes = [600, 1200]
[[fault]]
kind = "slice"
share = "25%"
size_bytes = 4
"""
    plans = []
    for name in ("one", "two"):
        cwd = tmp_path / name
        cwd.mkdir()
        run(cwd, scenario, "--seed", "7")
        plan = plan_of(directory_of(cwd))
        assert plan["faults"]["connect_ns"] == OWN_CONNECT_NS, "not as late as the machine is busy"
        plans.append(stripped(plan))
    assert plans[0] == plans[1]
    other = tmp_path / "other"
    other.mkdir()
    run(other, scenario, "--seed", "8")
    assert stripped(plan_of(directory_of(other))) != plans[0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('kind = "cutt"\nshare = "10%"', ["cutt", "cut"]),
        ('kind = "cut"\nshare = "10%"', ["after_bytes"]),
        ('kind = "slice"\nshare = "10%"\nsize_bytes = 0', ["size_bytes"]),
        ('kind = "cut"\nshare = "120%"\nafter_bytes = 5', ["share"]),
        ('kind = "stall"\nshare = "10%"\nafter = "1s"\nduration = "0s"', ["duration"]),
    ],
    ids=["unknown", "no-offset", "killing-slice", "share", "no-length"],
)
def test_bad_faults_are_refused_before_anything_starts(tmp_path, fault, words):
    done = run(tmp_path, f"[[fault]]\n{fault}\n")
    assert done.returncode == 64, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_hops_show_what_they_do_to_the_first_token(tmp_path):
    scenario = """
[load]
streams = 10
users = 10
[[variant]]
name = "defaults"
hop = "nginx-defaults"
[variant.server]
profile = "legacy"
[[variant]]
name = "sse"
hop = "nginx-sse"
"""
    run(tmp_path, scenario)
    directory = directory_of(tmp_path)
    waits = {"defaults": [], "sse": []}
    for row in rows(directory, STREAMS):
        assert row.outcome in OUTCOMES
        waits[row.variant].append(row.first_token.ns - row.sent.ns)
    assert min(waits["defaults"]) > 2 * max(waits["sse"]), "the buffer holds the whole answer back"
    nobody_listens(ports_of(directory))
