"""A run that gives up: the faults are gone from the real server, the load goes on or ends, and nothing passes by accident."""

import pytest

from sseproof.rundir.files import FAULTS, RUN_NAME, STREAMS, read_document
from sseproof.rundir.rows import RunInfo
from tests.integration.suite import claims, directory_of, nobody_listens, ports_of, rows, sseproof, verdict_of

pytestmark = pytest.mark.integration

LOAD = """
[server]
[target]
url = "/api/v1/stream/chat?events=10&interval_ms=20"
[client]
retries = 0
on_cut = "give-up"
"""


def test_the_faults_are_healed_and_the_load_goes_on(tmp_path):
    """The window was to last for four more seconds."""
    scenario = """
[load]
rate = 15
[phases]
baseline = "2s"
fault = "5s"
recovery = "500ms"
[[fault]]
kind = "refused"
share = "100%"
phase = "fault"
[abort]
when = "success < 50% for 1s over 5"
"""
    wanted = [f"success >= {share}% in phase {name}" for name, share in (("baseline", 80), ("fault", 80))]
    wanted += ["success >= 10% in phase recovery", "success >= 10%"]
    (tmp_path / "gives-up.toml").write_text(LOAD + scenario)
    done = sseproof("run", "gives-up.toml", *claims(*wanted), cwd=tmp_path)
    directory = directory_of(tmp_path)
    verdict = verdict_of(directory)
    assert [(v.verdict, v.code) for v in verdict.verdicts] == [
        ("pass", None),
        ("fail", None),
        ("unknown", "interrupted"),
        ("unknown", "interrupted"),
    ], done.stdout + done.stderr
    assert done.returncode == 1
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert info.how == "finished"
    assert info.aborted is not None
    assert info.aborted.n >= 5
    assert info.aborted.k < info.aborted.n / 2
    assert verdict.aborted.startswith("Aborted at ")
    assert verdict.aborted in done.stderr
    told = rows(directory, FAULTS)
    (applied,) = (row for row in told if row.step == "applied" and row.window)
    intent, healed = (
        next(row for row in told if row.step == step and row.window) for step in ("heal-intent", "healed")
    )
    assert intent.detail == verdict.aborted
    assert (healed.call_sent_ns - applied.call_sent_ns) / 1e9 < 4
    assert {row.ok for row in told if row.step == "verified"} == {True}, "the server's state, read back"
    later = [row for row in rows(directory, STREAMS) if row.dispatched.lo_ns > healed.call_answered_ns]
    assert len(later) > 10, "the load went on"
    assert {row.outcome for row in later} == {"complete"}
    nobody_listens(ports_of(directory))


def test_the_load_ends_with_them_if_asked(tmp_path):
    """A minute was planned. Six in ten streams are cut, which leaves a floor of 10 % well shown, and not proven."""
    scenario = """
[load]
rate = 20
duration = "60s"
[[fault]]
kind = "cut"
share = "60%"
after_bytes = 900
[abort]
when = "success < 60% for 2s"
stop = "load"
"""
    (tmp_path / "ends.toml").write_text(LOAD + scenario)
    done = sseproof(
        "run", "ends.toml", "--quiet", *claims("success >= 10%", "success >= 98% after cut"), cwd=tmp_path
    )
    directory = directory_of(tmp_path)
    verdict = verdict_of(directory)
    assert [(v.verdict, v.code) for v in verdict.verdicts] == [("unknown", "interrupted"), ("fail", None)], (
        done.stdout + done.stderr
    )
    assert done.returncode == 1, "by the verdicts: nobody pressed a key"
    assert verdict.how == "interrupted"
    assert verdict.aborted.endswith("faults were healed and the load ended.")
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert (info.ended_ns - info.started_ns) / 1e9 < 40
    assert len(rows(directory, STREAMS)) < 600
    assert verdict.faults[0].acted
    nobody_listens(ports_of(directory))


def test_a_condition_that_saw_too_few_streams_is_told(tmp_path):
    scenario = """
[load]
rate = 5
duration = "2s"
[abort]
when = "success < 50% for 1s"
stop = "load"
"""
    (tmp_path / "blind.toml").write_text(LOAD + scenario)
    done = sseproof("run", "blind.toml", "--quiet", cwd=tmp_path)
    assert done.returncode == 0
    assert "abort.when was blind: it waits for 20 streams that end within 1s" in done.stderr
