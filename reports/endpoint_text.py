"""The answer of `sseproof check` in the terminal: the diagnosis, then the table, worst first (report-style.md).

Rules: plain text of at most 80 columns; everything that a target sent is made printable; what needs nothing done takes one
line, what does not apply shares one.
"""

from typing import Final

from sseproof.reports.endpoint.model import CheckReport, Finding, Verdict
from sseproof.reports.summary import WIDTH, wrapped
from sseproof.reports.words import count_of, duration_text
from sseproof.rundir.text import printable

MARKS: Final[dict[Verdict, str]] = {
    "fail": "✕ fail",
    "unknown": "? unknown",
    "warn": "! warn",
    "pass": "✓ pass",
    "n/a": "– n/a",  # noqa: RUF001  # a dash, as for everything not measured
}
_MARK_CELLS: Final = 10
_ID_CELLS: Final = 5
_INDENT: Final = " " * (_MARK_CELLS + _ID_CELLS)
_SENTENCE_CHARS: Final = 600


def check_text(report: CheckReport, *, capture: str | None = None) -> str:
    """The whole answer, ending with a line end; `capture` is the kept file."""
    lines = wrapped(printable(report.diagnosis, 1_000))
    lines += wrapped(_about(report))
    lines += ["", "verdict   id   what was seen", "-" * WIDTH]
    for finding in report.findings:
        if finding.verdict != "n/a":
            lines += _row(finding)
    lines += _left_out(report)
    if report.notes:
        lines.append("")
        for note in report.notes:
            lines += wrapped(printable(note), first="- ", rest="  ")
    if capture is not None:
        lines += ["", f"Capture: {capture}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _about(report: CheckReport) -> str:
    parts = [
        f"{printable(report.url, 300)}: {count_of(report.requests, 'request')} in {duration_text(report.lasted_ms * 1e6)}"
    ]
    counted = [f"{report.counts[verdict]} {verdict}" for verdict in MARKS if report.counts.get(verdict)]
    parts.append(", ".join(counted))
    if report.chain:
        parts.append(f"on the way: {', '.join(report.chain)}")
    return f"{'; '.join(parts)}."


def _row(finding: Finding) -> list[str]:
    first = f"{MARKS[finding.verdict]:<{_MARK_CELLS}}{finding.id:<{_ID_CELLS}}"
    lines = wrapped(printable(finding.sentence, _SENTENCE_CHARS), first=first, rest=_INDENT)
    if finding.verdict in {"pass", "n/a"}:
        return lines
    for each in finding.evidence:
        where = "" if each.offset is None else f" at byte {each.offset:,}"
        probe = "" if each.probe is None else f" ({each.probe})"
        shown = "" if each.excerpt is None else f": {printable(each.excerpt, 200)}"
        lines += wrapped(
            f"{printable(each.text)}{where}{probe}{shown}", first=f"{_INDENT}· ", rest=f"{_INDENT}  "
        )
    if finding.fix:
        lines += wrapped(f"→ {printable(finding.fix, _SENTENCE_CHARS)}", first=_INDENT, rest=f"{_INDENT}  ")
    return lines


def _left_out(report: CheckReport) -> list[str]:
    """What does not apply, by its reason."""
    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.verdict == "n/a":
            reasons.setdefault(finding.sentence, []).append(finding.id)
    first = f"{MARKS['n/a']:<{_MARK_CELLS}}"
    lines = []
    for sentence, ids in reasons.items():
        lines += wrapped(
            f"{' '.join(ids)}: {printable(sentence, _SENTENCE_CHARS)}", first=first, rest=" " * _MARK_CELLS
        )
        first = " " * _MARK_CELLS
    return lines
