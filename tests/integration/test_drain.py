"""A deployment under load, as the suite itself reports it: nothing lost, nothing doubled, every answer complete."""

from collections import Counter
from pathlib import Path

import pytest

from sseproof.reports.evidence import evidence_of
from sseproof.reports.history import read_history
from sseproof.rundir.files import FAULTS, STREAMS, WITNESS
from tests.integration.suite import claims, directory_of, rows, sseproof, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.alone]

STREAMS_OPEN = 500
SCENARIO = f"""
[server]
[target]
url = "/api/v1/stream/chat?events=24&interval_ms=200&first_token_ms=50&script=mixed"
[load]
users = {STREAMS_OPEN}
streams = {STREAMS_OPEN}
[client]
retries = 50
[[fault]]
kind = "server-restart"
share = "100%"
after = "2500ms"
duration = "1s"
drain = "600ms"
"""


def test_a_restart_in_good_order_under_500_open_streams(tmp_path: Path) -> None:
    (tmp_path / "deploy.toml").write_text(SCENARIO)
    wanted = claims(
        "success >= 98%",
        "lost = 0",
        "doubled = 0",
        "utf8 = 100%",
        "recovery = 100% after server-restart",
    )
    done = sseproof("run", "deploy.toml", "--quiet", "--seed", "5", *wanted, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    verdict = verdict_of(directory)
    assert [(each.k, each.n) for each in verdict.verdicts[:4]] == [(STREAMS_OPEN, STREAMS_OPEN)] * 4
    (evidence,) = evidence_of(read_history(directory))
    assert evidence.acted, evidence.sentence
    applied, healed = (row for row in rows(directory, FAULTS) if row.call_sent_ns and row.window)
    streams = rows(directory, STREAMS)
    assert len(streams) == STREAMS_OPEN
    open_then = [row for row in streams if row.sent.ns < applied.call_sent_ns < row.ended.ns]
    assert len(open_then) == STREAMS_OPEN
    assert {row.outcome for row in streams} == {"complete"}
    broken = [row for row in streams if row.attempts_total > 1]
    assert len(broken) > 0.9 * STREAMS_OPEN, "they were open for longer than the drain"
    for row in (
        broken
    ):  # how long that takes is what the client chose to wait, longer after each try that found nobody
        later = [each for each in row.attempts if each.started.lo_ns > healed.call_answered_ns]
        assert len(later) <= 1, "the first try after the server is back is the last"
    witnessed = rows(directory, WITNESS)
    ends = Counter(row.end for row in witnessed)
    assert set(ends) == {"drain", "done"}
    assert ends["done"] == STREAMS_OPEN
    assert ends["drain"] == len(broken)
    assert {row.connection for row in witnessed if row.end == "drain"} == {1}
