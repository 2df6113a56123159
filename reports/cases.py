"""What each claim came to as CI servers count it: the one table behind JUnit, annotations and the exit code.

Rules (measurement.md 6, design.md "Commands"):
- pass is ok and fail is a failure. unknown is an error, never a failure: it charges nothing to the target. With
  `--on-unknown warn` it is skipped, as the exit code then passes over it.
- Only verdicts that set the exit code are cases; those of variants that are shown beside the judged one are told apart.
- The run itself is a case: one that did not come to its end is an error whatever its claims say, as 70 and 130 outrank
  their exit code. So a run without claims has a case, too; some readers call an empty list a broken one. One that met an
  abort condition of its own is skipped: its exit code is that of its verdicts, most of them unknown then.
- A case has a name of its own within its class: readers keep only the first of two with the same name.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from sseproof.reports.verdicts import Verdict
from sseproof.reports.words import count_of
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.judge import OnUnknown, RunVerdict

Level = Literal["ok", "failure", "error", "skipped"]

RUN_CLASS: Final = "run"
RUN_NAME: Final = "the run came to its end"
CLAIMS_CLASS: Final = "claims"
TEXT_CHARS: Final = 4_000
"""Of a sentence; ours are far below, and what they quote is cut already."""
NAME_CHARS: Final = 500

_ENDS: Final[dict[str, str]] = {
    "interrupted": "The run was interrupted.",
    "terminated": "The run was terminated.",
    "killed": "The run has no end on record: it was killed, or it is still running.",
    "failed": "The suite itself failed.",
}


class Case(Struct, frozen=True, kw_only=True):
    """One claim of one variant, or the run itself."""

    kind: str
    """Its class: claims.METRIC, or run."""
    name: str
    """Unique within the class, printable."""
    level: Level
    word: str
    """pass, fail, or the code of what is unknown."""
    lines: list[str]
    """What happened, what was counted, what is next; printable."""

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join(self.lines)


def level_of(verdict: Verdict, on_unknown: "OnUnknown") -> Level:
    """How a verdict that counts is counted."""
    if verdict.verdict == "pass":
        return "ok"
    if verdict.verdict == "fail":
        return "failure"
    return "error" if on_unknown == "fail" else "skipped"


def cases_of(verdict: "RunVerdict") -> list[Case]:
    """The run itself, then the verdicts that set the exit code, in their order."""
    named: dict[tuple[str, str], int] = {}
    cases = [_run_case(verdict)]
    for each in verdict.verdicts:
        if not each.counts:
            continue
        kind, name = kind_of(each), name_of(each)
        number = named[kind, name] = named.get((kind, name), 0) + 1
        cases.append(
            Case(
                kind=kind,
                name=name if number == 1 else f"{name} ({number})",
                level=level_of(each, verdict.on_unknown),
                word=each.verdict if each.code is None else each.code,
                lines=list(_lines(each)),
            )
        )
    return cases


def beside(verdict: "RunVerdict") -> list[Verdict]:
    """The verdicts that set nothing: those of variants that are only shown beside the judged one."""
    return [each for each in verdict.verdicts if not each.counts]


def kind_of(verdict: Verdict) -> str:
    """The class of a claim: that of its metric."""
    return f"{CLAIMS_CLASS}.{printable(verdict.metric or 'unreadable')}"


def name_of(verdict: Verdict) -> str:
    """The claim as written, and its variant where the claim does not name it."""
    claim = printable(verdict.claim, NAME_CHARS)
    if verdict.variant is None or f"in variant {verdict.variant}" in verdict.claim:
        return claim
    return f"{claim} [{printable(verdict.variant, NAME_CHARS)}]"


def sentences(verdict: Verdict) -> list[str]:
    """What happened, with its code, and what is next."""
    code = "" if verdict.code is None else f"{verdict.code}: "
    told = [printable(f"{code}{verdict.sentence}", TEXT_CHARS)]
    return [*told, f"Next: {printable(verdict.next, TEXT_CHARS)}"] if verdict.next else told


def _lines(verdict: Verdict) -> Iterator[str]:
    what, *following = sentences(verdict)
    yield what
    if verdict.n:
        best = "" if verdict.k == verdict.k_best else f" (at best {verdict.k_best:,})"
        yield f"Good: {verdict.k:,}{best} of {count_of(verdict.n, verdict.unit)}."
    yield from following


def _run_case(verdict: "RunVerdict") -> Case:
    level: Level = "ok" if verdict.how == "finished" else "skipped" if verdict.aborted else "error"
    return Case(
        kind=RUN_CLASS,
        name=RUN_NAME,
        level=level,
        word="aborted" if verdict.aborted else verdict.how,
        lines=[
            printable(verdict.aborted, TEXT_CHARS) or _ENDS.get(verdict.how, "The run came to its end."),
            printable(verdict.decision, TEXT_CHARS),
            *(printable(problem, TEXT_CHARS) for problem in verdict.problems if problem != verdict.aborted),
        ],
    )


def count_levels(cases: Sequence[Case]) -> dict[Level, int]:
    """How many cases have each level."""
    counts: dict[Level, int] = {"ok": 0, "failure": 0, "error": 0, "skipped": 0}
    for case in cases:
        counts[case.level] += 1
    return counts
