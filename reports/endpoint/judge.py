"""All checks over one capture: findings, diagnosis, exit code. The same capture gives the same report.

Rules (issue words; design.md "Commands"): 1 when a check fails, 2 when none does and an essential one is unknown, else 0.
The diagnosis names the likeliest cause first: what explains the others stands before them in CAUSES.
"""

from collections.abc import Collection
from typing import Final

from sseproof.reports.endpoint.buffering import BUFFERING
from sseproof.reports.endpoint.capacity import CAPACITY
from sseproof.reports.endpoint.case import Case, Check
from sseproof.reports.endpoint.dialect import DIALECT
from sseproof.reports.endpoint.handshake import HANDSHAKE
from sseproof.reports.endpoint.model import (
    ESSENTIAL,
    WORST_FIRST,
    CheckReport,
    Finding,
    Outcome,
    Timeline,
    Verdict,
    unknown,
)
from sseproof.reports.endpoint.resume import RESUME
from sseproof.reports.endpoint.safety import SAFETY
from sseproof.reports.endpoint.timing import TIMING
from sseproof.reports.endpoint.wire import WIRE
from sseproof.reports.words import count_of
from sseproof.rundir.capture import Capture
from sseproof.rundir.errors import EXIT_FAIL, EXIT_PASS, EXIT_UNKNOWN, UsageError

CHECKS: Final[tuple[Check, ...]] = (
    *HANDSHAKE, *TIMING, *WIRE, *RESUME, *CAPACITY, *BUFFERING, *DIALECT, *SAFETY,
)  # fmt: skip
CAUSES: Final = (
    "H01", "H02", "H11", "H12", "B08", "B06", "H07", "B01", "B02", "B03", "B05", "T02", "H08", "T08", "D03", "W01", "W02",
    "W12", "W06", "W07", "W05", "W11", "D04", "D05", "D06", "S01", "H04", "D02", "R01", "R05", "K01",
)  # fmt: skip
OURS: Final = "T10"
"""What it says is about us, and never stands for the endpoint."""
TELLING: Final = frozenset({"H01", "H02", "W01"})
"""Without these nothing is said of the stream as a whole."""
TIMELINE_BURSTS: Final = 2_000


def judge_capture(capture: Capture, *, only: Collection[str] = (), skip: Collection[str] = ()) -> CheckReport:
    """The report of a capture. Raises UsageError as chosen_checks does."""
    chosen = chosen_checks(only, skip)
    case = Case(capture)
    findings = [_finding(check, case) for check in chosen]
    findings.sort(key=lambda each: WORST_FIRST.index(each.verdict))  # stable: ids stay in their order
    counts: dict[str, int] = {}
    for each in WORST_FIRST:
        counts[each] = sum(finding.verdict == each for finding in findings)
    verdict, code = _answer(findings)
    seen = case.main
    return CheckReport(
        url=capture.url,
        diagnosis=_diagnosis(findings, case),
        verdict=verdict,
        exit_code=code,
        findings=findings,
        counts=counts,
        chain=case.chain.hops,
        notes=[f"{probe}: not made, {why}." for probe, why in capture.skipped.items()],
        requests=capture.requests,
        connections=capture.connections,
        lasted_ms=round((capture.ended_ns - capture.began_ns) / 1e6, 1),
        status=seen.status,
        dialect=case.spoken.name if seen.readable else None,
        events=len(seen.messages) if seen.readable else 0,
        body_bytes=len(seen.body),
        timeline=_timeline(case),
    )


def chosen_checks(only: Collection[str], skip: Collection[str]) -> list[Check]:
    """The checks that are wanted: an id, or the letter of a group.

    Raises UsageError for ids that no check has, and where none is left.
    """
    ids = {check.id for check in CHECKS}
    groups = {check.id[0] for check in CHECKS}
    for option, given in (("--only", only), ("--skip", skip)):
        strange = sorted(each for each in given if each not in ids and each not in groups)
        if strange:
            raise UsageError(
                f"{option} {strange[0]}: no check has this id; they are {', '.join(sorted(groups))} and a number, "
                "as the table shows them."
            )
    chosen = [
        check
        for check in CHECKS
        if (not only or check.id in only or check.id[0] in only)
        and check.id not in skip
        and check.id[0] not in skip
    ]
    if not chosen:
        raise UsageError("--only and --skip leave no check over: name fewer in --skip.")
    return chosen


def _finding(check: Check, case: Case) -> Finding:
    try:
        outcome = check.decide(case)
    except Exception as error:  # noqa: BLE001  # one check that breaks must not hide the others' findings
        outcome = _broke(error)
    return Finding(
        id=check.id,
        name=check.name,
        verdict=outcome.verdict,
        sentence=_capital(outcome.sentence),
        fix=_capital(outcome.fix),
        evidence=outcome.evidence,
        essential=check.id in ESSENTIAL,
    )


def _broke(error: Exception) -> Outcome:
    return unknown(f"The check itself broke ({type(error).__name__}).", "Please report it, with the capture.")


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" if text else ""


def _answer(findings: list[Finding]) -> tuple[Verdict, int]:
    if any(each.verdict == "fail" for each in findings):
        return "fail", EXIT_FAIL
    if any(each.verdict == "unknown" and each.essential for each in findings):
        return "unknown", EXIT_UNKNOWN
    return ("warn" if any(each.verdict == "warn" for each in findings) else "pass"), EXIT_PASS


def _diagnosis(findings: list[Finding], case: Case) -> str:
    """One sentence or two: what is wrong and what to do, or that nothing is."""
    bad = [each for each in findings if each.verdict == "fail"]
    rank = {name: number for number, name in enumerate(CAUSES)}
    bad.sort(key=lambda each: rank.get(each.id, len(rank)))
    if bad:
        first = bad[0]
        more = (
            f" {count_of(len(bad) - 1, 'other check')} also {'fails' if len(bad) == 2 else 'fail'}."
            if bad[1:]
            else ""
        )
        return f"{first.sentence} {first.fix}{more}".strip()
    open_questions = [each for each in findings if each.verdict == "unknown" and each.essential]
    if open_questions:
        first = open_questions[0]
        return f"Nothing is broken as far as could be seen, but {first.id} ({first.name}) stayed open: {_small(first.sentence)} {first.fix}".strip()
    warnings = [each for each in findings if each.verdict == "warn" and each.id != OURS]
    if warnings:
        return f"A working event stream, with {count_of(len(warnings), 'warning')}; the first: {_small(warnings[0].sentence)}"
    unsettled = sum(each.verdict == "unknown" for each in findings)
    but = f"; {count_of(unsettled, 'check')} stayed open" if unsettled else ""
    if case.main.opened and {each.id for each in findings} >= TELLING:
        return f"A healthy event stream: {count_of(len(case.main.messages), 'event')} seen, nothing to complain of{but}."
    settled = sum(each.verdict in {"pass", "warn"} for each in findings)
    if not settled:
        first = findings[0]
        return f"Nothing was settled: {first.id} ({first.name}): {_small(first.sentence)}"
    return f"Nothing to complain of in what {count_of(settled, 'check')} settled{but}."


def _small(text: str) -> str:
    """A sentence in the middle of another: its first letter as it would be there."""
    return text if text[:2].isupper() or not text else f"{text[0].lower()}{text[1:]}"


def _timeline(case: Case) -> Timeline | None:
    seen = case.main
    if not seen.readable or not seen.bursts:
        return None
    bursts = seen.bursts[:TIMELINE_BURSTS]
    return Timeline(
        at_ms=[round((burst.at_ns - seen.sent_ns) / 1e6, 3) for burst in bursts],
        size_bytes=[burst.size for burst in bursts],
        events=[burst.events for burst in bursts],
        between_events=[burst.between_events for burst in bursts],
        ended_ms=round((seen.probed.ended_ns - seen.sent_ns) / 1e6, 3),
    )
