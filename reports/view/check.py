"""The page of `sseproof check`: the diagnosis, the findings worst first with their evidence, and how the answer came."""

import shlex
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.arrival import Arrived, arrival_chart
from sseproof.reports.charts.svg import Table
from sseproof.reports.endpoint.model import CheckReport, Finding, Verdict
from sseproof.reports.view.model import Block, Bullets, Code, Figure, Grid, Paragraph
from sseproof.reports.words import NOT_MEASURED, count_of, duration_text
from sseproof.rundir.text import printable

MARKS: Final[dict[Verdict, str]] = {
    "fail": "✕",
    "unknown": "?",
    "warn": "!",
    "pass": "✓",
    "n/a": NOT_MEASURED,
}
_STYLES: Final[dict[Verdict, str]] = {
    "fail": "fail",
    "unknown": "unknown",
    "warn": "unknown",
    "pass": "pass",
    "n/a": "none",
}
_MOST_CHARS: Final = 1_000


class Proof(Struct, kw_only=True):
    """One thing that was seen."""

    text: str
    excerpt: str
    """The bytes, escaped; empty without."""


class FindingRow(Struct, kw_only=True):
    """One finding that asks for something."""

    anchor: str
    style: str
    mark: str
    word: str
    id: str
    name: str
    sentence: str
    proofs: list[Proof]
    fix: str


class CheckSection(Struct, kw_only=True):
    """One part of the page: findings, or blocks as on every page."""

    key: str
    name: str
    heading: str
    rows: list[FindingRow] = []
    blocks: list[Block] = []


class CheckPage(Struct, kw_only=True):
    """The whole page."""

    title: str
    decision: str
    answer: str
    about: list[tuple[str, str]]
    chips: list[FindingRow]
    sections: list[CheckSection]


def build_check(report: CheckReport, capture: str) -> CheckPage:
    """Everything the template needs."""
    asking = [each for each in report.findings if each.verdict in {"fail", "unknown", "warn"}]
    rows = [_row(each) for each in asking]
    sections = [
        _asking(report, rows),
        _arrival(report),
        _passed(report),
        _left_out(report),
        _repeat(report, capture),
    ]
    diagnosis = printable(report.diagnosis, _MOST_CHARS)
    return CheckPage(
        title=f"Check of {printable(report.url, 100)}: {report.verdict}",
        decision=diagnosis,
        answer=_STYLES[report.verdict],
        about=_about(report),
        chips=rows,
        sections=[section for section in sections if section is not None],
    )


def _about(report: CheckReport) -> list[tuple[str, str]]:
    counted = ", ".join(f"{report.counts[each]} {each}" for each in MARKS if report.counts.get(each))
    about = [
        ("Endpoint", printable(report.url, 300)),
        ("Checks", counted),
        ("Sent", f"{count_of(report.requests, 'request')} in {duration_text(report.lasted_ms * 1e6)}"),
    ]
    if report.status is not None:
        seen = f"HTTP {report.status}, {count_of(report.events, 'event')}, {report.body_bytes:,} bytes"
        about.append(("Seen", f"{seen}, {report.dialect}" if report.dialect else seen))
    if report.chain:
        about.append(("On the way", ", ".join(report.chain)))
    return about


def _row(finding: Finding) -> FindingRow:
    return FindingRow(
        anchor=finding.id.lower(),
        style=_STYLES[finding.verdict],
        mark=MARKS[finding.verdict],
        word=finding.verdict,
        id=finding.id,
        name=finding.name,
        sentence=printable(finding.sentence, _MOST_CHARS),
        proofs=[
            Proof(
                text=printable(each.text)
                + ("" if each.offset is None else f" at byte {each.offset:,}")
                + ("" if each.probe is None else f" ({each.probe})"),
                excerpt=printable(each.excerpt or "", 300),
            )
            for each in finding.evidence
        ],
        fix=printable(finding.fix, _MOST_CHARS),
    )


def _asking(report: CheckReport, rows: list[FindingRow]) -> CheckSection | None:
    if not rows:
        return None
    parts = [f"{report.counts[each]} {word}" for each, word in _WORDS.items() if report.counts.get(each)]
    return CheckSection(
        key="findings", name="Findings", heading=f"What asks for something: {', '.join(parts)}", rows=rows
    )


_WORDS: Final[dict[str, str]] = {"fail": "failing", "unknown": "not decided", "warn": "to be warned of"}


def _arrival(report: CheckReport) -> CheckSection | None:
    line = report.timeline
    if line is None:
        return None
    bursts = [
        Arrived(at_ms, size, events, between)
        for at_ms, size, events, between in zip(
            line.at_ms, line.size_bytes, line.events, line.between_events, strict=True
        )
    ]
    chart = arrival_chart("arrival", bursts, line.ended_ms)
    if chart is None:
        return None
    return CheckSection(
        key="arrival",
        name="Arrival",
        heading=f"The body came in {count_of(len(bursts), 'burst')}",
        blocks=[Figure(chart=chart)],
    )


def _passed(report: CheckReport) -> CheckSection | None:
    good = [each for each in report.findings if each.verdict == "pass"]
    if not good:
        return None
    rows = [[each.id, each.name, printable(each.sentence, _MOST_CHARS)] for each in good]
    table = Table(columns=["id", "check", "what was seen"], rows=rows, text_columns=3)
    return CheckSection(
        key="passed",
        name="In order",
        heading=f"{count_of(len(good), 'check')} found nothing to complain of",
        blocks=[Grid(caption="Checks that pass", table=table)],
    )


def _left_out(report: CheckReport) -> CheckSection | None:
    reasons: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.verdict == "n/a":
            reasons.setdefault(finding.sentence, []).append(f"{finding.id} {finding.name}")
    if not reasons:
        return None
    rows = [[", ".join(names), printable(why, _MOST_CHARS)] for why, names in reasons.items()]
    blocks: list[Block] = [
        Grid(
            caption="Checks that do not apply",
            table=Table(columns=["checks", "why"], rows=rows, text_columns=2),
        )
    ]
    if report.notes:
        blocks.append(Bullets(items=[printable(note) for note in report.notes]))
    return CheckSection(
        key="left-out",
        name="Not shown",
        heading=f"{count_of(report.counts['n/a'], 'check')} did not apply, or were not asked for",
        blocks=blocks,
    )


def _repeat(report: CheckReport, capture: str) -> CheckSection:
    return CheckSection(
        key="repeat",
        name="Repeat",
        heading="How to repeat it",
        blocks=[
            Paragraph(text="Judge the same bytes again, without a connection:"),
            Code(text=printable(shlex.join(["sseproof", "check", "--from", capture]), 2_000)),
            Paragraph(text="Examine the endpoint again, with the options that were given then:"),
            Code(text=printable(shlex.join(["sseproof", "check", report.url]), 2_000)),
        ],
    )
