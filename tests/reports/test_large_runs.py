"""Many streams: the report stays small, memory and time grow no faster than the streams, and what is sampled says so."""

import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec import structs

from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.lean import leaner
from sseproof.rundir.files import STREAMS, Reading
from sseproof.rundir.rows import StreamRecord
from tests.reports.large_runs import EVENTS, large_run
from tests.spent import spent

FEW, MANY = 2_000, 10_000
MOST_REPORT_BYTES = 1_000_000
MOST_ROWS = 200
MOST_BYTES_A_STREAM = 6_000
"""So that 100,000 streams stay below 600 MB; measured: 4,000 and a bit."""
MOST_CPU_S_A_STREAM = 1.25e-3
"""Five times what was measured on two cores, where 100,000 streams take 22 s."""
MOST_CPU_S = 12.0
"""Of everything, for 10,000 streams; measured: 2.3."""


class Judged(NamedTuple):
    directory: Path
    cpu_s: float
    peak_bytes: int
    report: str


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Judged]:
    """Runs of two sizes, each judged in a process of its own."""
    found = {}
    for streams in (FEW, MANY):
        directory = large_run(tmp_path_factory.mktemp(f"run-{streams}"), streams)
        folder = directory.parent
        used = spent(["judge", str(directory)], cwd=folder, said=folder / "spent.json", limit_s=100)
        assert used.code == 1
        report = (directory / "report.html").read_text("utf-8")
        found[streams] = Judged(directory, used.cpu_s, used.peak_bytes, report)
    return found


def test_the_report_of_ten_thousand_streams_is_small(judged):
    report = judged[MANY].report
    assert len(report.encode()) <= MOST_REPORT_BYTES
    tables = re.findall(r"<table.*?</table>", report, re.DOTALL)
    assert len(tables) > 10
    assert max(table.count("<tr") for table in tables) <= MOST_ROWS + 2, (
        "a head, and a line that says how many more"
    )


def test_what_is_sampled_says_so(judged):
    texts = re.sub(r"<[^>]*>", " ", judged[MANY].report)
    assert re.search(r"Showing 4,000 of 5,000 points", texts)
    assert re.search(r"Showing \d+ of 10,000 streams", texts)


def test_memory_and_time_grow_no_faster_than_the_streams(judged):
    few, many = judged[FEW], judged[MANY]
    assert (many.peak_bytes - few.peak_bytes) / (MANY - FEW) <= MOST_BYTES_A_STREAM
    assert (many.cpu_s - few.cpu_s) / (MANY - FEW) <= MOST_CPU_S_A_STREAM
    assert many.cpu_s <= MOST_CPU_S


def test_the_verdicts_are_those_of_what_was_planted(judged):
    history = read_history(judged[FEW].directory)
    result = judge(history)
    assert result.totals.streams == FEW
    after = {each.metric: each for each in result.verdicts if each.variant == "after"}
    assert (after["success"].verdict, after["lost"].verdict, after["utf8"].verdict) == (
        "pass",
        "pass",
        "pass",
    )
    assert after["lost"].truths == {"witness": FEW // 2}
    before = {each.metric: each for each in result.verdicts if each.variant == "before"}
    assert (before["success"].verdict, before["utf8"].verdict) == ("fail", "fail")
    cut = [record for record in history.streams if record.variant == "before" and record.outcome == "cut"]
    assert result.variants[0].summary.outcomes["cut"] == len(cut) > FEW // 2 // 4


def test_lean_rows_are_the_same_rows(judged):
    directory = judged[FEW].directory
    whole, lean = list(Reading(directory, STREAMS)), list(map(leaner(), Reading(directory, STREAMS)))
    assert lean == whole
    assert lean[0].sent is lean[0].attempts[0].sent
    assert lean[0].name is lean[1].name
    assert lean[0].events == EVENTS + 2
    at_once = structs.replace(whole[0], first_token=whole[0].first_event, last_token=whole[0].last_event)
    copied = msgspec.json.decode(msgspec.json.encode(at_once), type=StreamRecord)
    copied = leaner()(copied)
    assert copied == at_once
    assert copied.first_token is copied.first_event


def test_the_same_seed_makes_the_same_bytes(tmp_path):
    read = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        directory = large_run(tmp_path / name, 200)
        read.append({path.name: path.read_bytes() for path in directory.iterdir()})
    assert read[0] == read[1]
