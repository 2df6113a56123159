"""What the tests of the demo share: its names, and a demo that has ended."""

from pathlib import Path

import msgspec

from sseproof.reports.judge import RunVerdict
from sseproof.rundir.files import STREAMS
from tests.integration.suite import directory_of, plan_of, rows, sseproof, verdict_of

SEED = ("--seed", "7")
FAULTS_OF_THE_DEMO = ("slow", "cut-fin", "cut-rst", "stall", "slice", "refused")
GROUPS = {*FAULTS_OF_THE_DEMO, "clean"}
BREAKING = ("cut-fin", "cut-rst", "refused")
RECOVERY = {"recovery = 100%", *(f"recovery = 100% after {fault}" for fault in BREAKING)}
SUCCESS, UTF8, LOST, DOUBLED = "success >= 98%", "utf8 = 100%", "lost = 0", "doubled = 0"
RECONNECT = "reconnect p95 < 1s"
GAP = "gap p99 <= 250ms in group clean"
TTFT = "ttft p95 <= 1s in group clean"
TINY = (
    *("--set", "load.streams=14", "--set", "load.users=14"),
    *("--set", "target.url=/api/v1/stream/chat?events=20&interval_ms=20"),
)
"""Every group has a stream with seed 7; nothing can be decided."""


class Run(msgspec.Struct):
    """A demo that has ended."""

    cwd: Path
    directory: Path
    code: int
    out: str
    err: str
    seen: dict[int, str] = {}
    """Processes that lived in its middle."""
    heard: list[int] = []
    """Ports that were open in its middle."""

    def plan(self) -> dict:
        return plan_of(self.directory)

    def verdict(self) -> RunVerdict:
        return verdict_of(self.directory)

    def answers(self, variant: str) -> dict[str, str]:
        """Claim → pass, fail or unknown."""
        return {each.claim: each.verdict for each in self.verdict().verdicts if each.variant == variant}

    def violations(self, claim: str, variant: str) -> int:
        """Units of a variant that broke the claim."""
        (found,) = (
            each for each in self.verdict().verdicts if each.claim == claim and each.variant == variant
        )
        return found.n - found.k

    def streams(self, variant: str, group: str | None = None) -> list:
        return [
            row
            for row in rows(self.directory, STREAMS)
            if row.variant == variant and group in {None, row.group}
        ]

    def said(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def whole(cwd: Path, *options: str) -> Run:
    """A demo to its end; its temporary files are made in its own folder."""
    done = sseproof("demo", *options, cwd=cwd, environ={"TMPDIR": str(cwd)})
    assert (cwd / "runs").exists(), done.stdout + done.stderr
    return Run(cwd, directory_of(cwd), done.returncode, done.stdout, done.stderr)
