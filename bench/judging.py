"""What judging many streams takes: `sseproof judge` on made-up runs of 10,000 and 100,000 streams.

Each run has two variants, faults, breaks and a witness of every answer (`tests/reports/large_runs.py`); it is judged in a
process of its own, without and with every output for machines. CPU time and memory are that process's.

    python bench/judging.py [LEVEL ...]
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reports.large_runs import large_run  # noqa: E402  # the root is only now on the path
from tests.spent import spent  # noqa: E402

LEVELS: Final = (10_000, 100_000)
LIMIT_S: Final = 600.0
GOAL_S: Final = {10_000: 5.0, 100_000: 30.0}
GOAL_MB: Final = 600.0
GOAL_REPORT_KB: Final = 1_000.0
WAITED_SHARE: Final = 0.2
"""So much more time than the process computed: others had the cores."""
_OUTPUTS: Final = ("--junit", "v.xml", "--markdown", "v.md", "--openmetrics", "v.txt", "--export", "csv")


class JudgingRow(msgspec.Struct):
    """One run."""

    streams: int
    outputs: str
    """What was written beside verdict.json and report.html."""
    seconds: float
    """From start to end of the command."""
    cpu_s: float
    peak_mb: float
    """The most memory that the process had."""
    report_kb: float


def measure(levels: tuple[int, ...] = LEVELS) -> list[JudgingRow]:
    """Two rows a level."""
    rows = []
    for streams in levels:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "run"
            directory.mkdir()
            large_run(directory, streams)
            rows += [
                _judged(directory, streams, name, options)
                for name, options in (("none", ()), ("all", _OUTPUTS))
            ]
    return rows


def _judged(directory: Path, streams: int, outputs: str, options: tuple[str, ...]) -> JudgingRow:
    said = directory.parent / "spent.json"
    began = time.monotonic()
    used = spent(["judge", str(directory), *options], cwd=directory, said=said, limit_s=LIMIT_S)
    seconds = time.monotonic() - began
    if used.code not in {0, 1, 2}:
        raise RuntimeError(f"judging {streams:,} streams ended with {used.code}")
    return JudgingRow(
        streams=streams,
        outputs=outputs,
        seconds=seconds,
        cpu_s=used.cpu_s,
        peak_mb=used.peak_bytes / 1e6,
        report_kb=(directory / "report.html").stat().st_size / 1_000,
    )


def missed_goals(rows: list[JudgingRow]) -> list[str]:
    """Sentences."""
    missed = []
    for row in rows:
        title = f"judging {row.streams:,} streams, outputs {row.outputs}"
        goal_s = GOAL_S.get(row.streams)
        if goal_s is not None and row.seconds > goal_s:
            waited = row.seconds > (1 + WAITED_SHARE) * row.cpu_s
            why = f" (the process computed for {row.cpu_s:.1f} s: leave the machine alone)" if waited else ""
            missed.append(f"{title}: {row.seconds:.1f} s; the goal is {goal_s:.0f}{why}")
        if row.peak_mb > GOAL_MB:
            missed.append(f"{title}: {row.peak_mb:.0f} MB; the goal is {GOAL_MB:.0f}")
        if row.report_kb > GOAL_REPORT_KB:
            missed.append(f"{title}: the report has {row.report_kb:.0f} KB; the goal is {GOAL_REPORT_KB:.0f}")
    return missed


if __name__ == "__main__":
    for each in measure(tuple(int(level) for level in sys.argv[1:]) or LEVELS):
        print(each)
