"""Before, during and after a fault, judged apart: the same run with a service that comes back, and with one that does not."""

from pathlib import Path

import pytest

from sseproof.rundir.files import FAULTS, REPORT_NAME, STARTS, STREAMS
from tests.integration.suite import claims, directory_of, plan_of, rows, serving, sseproof, verdict_of

pytestmark = pytest.mark.integration

NAMES = ("baseline", "fault", "recovery")
CLAIMS = [f"success >= 80% in phase {name}" for name in NAMES]
LOAD = """
[server]
[target]
url = "/api/v1/stream/chat?events=10&interval_ms=20"
[load]
rate = 15
[client]
retries = 0
on_cut = "give-up"
"""
THREE = """
[phases]
baseline = "2s"
fault = "2s"
recovery = "3s"
"""
NEVER = '[abort]\nwhen = "success < 1% for 5s over 5"\n'
AWAY = '[[fault]]\nkind = "refused"\nshare = "100%"\nphase = "fault"\n'


def ran(cwd: Path, scenario: str, *options: str):
    (cwd / "phases.toml").write_text(LOAD + scenario)
    done = sseproof("run", "phases.toml", "--quiet", *options, *claims(*CLAIMS), cwd=cwd)
    directory = directory_of(cwd)
    return done, directory, verdict_of(directory)


def test_the_service_was_well_was_not_and_is_well_again(tmp_path):
    """Every stream that met the link while it was down failed, and no other did."""
    done, directory, verdict = ran(tmp_path, THREE + AWAY + NEVER)
    assert [(v.verdict, v.code) for v in verdict.verdicts] == [
        ("pass", None),
        ("fail", None),
        ("pass", None),
    ], done.stdout + done.stderr
    assert done.returncode == 1
    (variant,) = verdict.variants
    assert [phase.name for phase in variant.phases] == list(NAMES)
    baseline, fault, recovery = variant.phases
    assert (baseline.k, recovery.k) == (baseline.n, recovery.n)
    assert sum(phase.n for phase in variant.phases) == len(rows(directory, STREAMS))
    assert baseline.ttft_p95_ns is not None
    assert fault.ttft_p50_ns is None
    (applied,) = (row for row in rows(directory, FAULTS) if row.step == "applied" and row.window)
    healed = next(row for row in rows(directory, FAULTS) if row.step == "healed" and row.window)
    met = [
        row
        for row in rows(directory, STREAMS)
        if row.ended.hi_ns >= applied.call_sent_ns and row.intended.lo_ns <= healed.call_answered_ns
    ]
    assert fault.n == len(met)
    for row in met:  # while a call is on its way either may be
        certain = row.ended.lo_ns > applied.call_answered_ns and row.intended.hi_ns < healed.call_sent_ns
        assert row.outcome != "complete" or not certain, row
    assert verdict.aborted == "", "a condition that is not met changes nothing"
    assert abs((healed.call_sent_ns - applied.call_sent_ns) / 1e6 - 2_000) < 500
    assert {row.phase for row in rows(directory, STARTS)} == set(NAMES)
    assert [phase["start_ms"] for phase in plan_of(directory)["phases"]] == [0, 2_000, 4_000]
    assert "streams by phase" in done.stdout
    page = (directory / REPORT_NAME).read_text("utf-8")
    assert "Streams that ended well, by phase" in page
    before = (directory / "verdict.json").read_bytes()
    assert sseproof("judge", str(directory), cwd=tmp_path).returncode == 1
    assert (directory / "verdict.json").read_bytes() == before


def test_a_service_that_stays_broken_does_not_recover(tmp_path):
    """The command ends the service, and nothing brings it back. The phases are those of its times, in a closed loop."""
    with serving() as (url, pid):
        scenario = (
            LOAD.replace("[server]\n", "")
            .replace("/api/v1/stream/chat", url)
            .replace("rate = 15", 'users = 8\nthink = "100ms"\nduration = "6500ms"')
        )
        scenario += (
            '[[fault]]\nkind = "command"\nshare = "100%"\nafter = "2500ms"\nmax = "2s"\nshows = "breaks"\n'
        )
        (tmp_path / "stays.toml").write_text(scenario + f'do = ["kill", "-KILL", "{pid}"]\n')
        done = sseproof("run", "stays.toml", "--quiet", *claims(*CLAIMS), cwd=tmp_path)
    verdict = verdict_of(directory_of(tmp_path))
    assert [v.verdict for v in verdict.verdicts] == ["pass", "fail", "fail"], done.stdout + done.stderr
    (variant,) = verdict.variants
    assert [(phase.name, phase.start_ms, phase.end_ms) for phase in variant.phases] == [
        ("baseline", 0, 2_500),
        ("fault", 2_500, 4_500),
        ("recovery", 4_500, None),
    ]
    assert variant.phases[2].k == 0
