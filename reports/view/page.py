"""The page: the decision on top, then the sections in the order of report-style.md."""

from collections.abc import Callable
from typing import Final

from sseproof.reports.findings import figures
from sseproof.reports.view.broke import broke_section
from sseproof.reports.view.browsers import browsers_section
from sseproof.reports.view.claims import chips, claims_section, counting, sides_section
from sseproof.reports.view.faults import faults_section
from sseproof.reports.view.measured import (
    limits_section,
    repeat_section,
    ruler_section,
    spread_section,
    steady_section,
)
from sseproof.reports.view.model import Page, Section
from sseproof.reports.view.record import Record, moment_text
from sseproof.reports.words import count_of, duration_text, joined
from sseproof.rundir.text import printable

_MOST_PROBLEMS: Final = 50
_SECTIONS: Final[tuple[Callable[[Record], Section | None], ...]] = (
    claims_section,
    sides_section,
    browsers_section,
    broke_section,
    faults_section,
    spread_section,
    steady_section,
    ruler_section,
    limits_section,
    repeat_section,
)


def build_page(record: Record) -> Page:
    """Everything the template needs."""
    verdict = record.verdict
    problems = [printable(problem, limit=1_000) for problem in verdict.problems]
    if len(problems) > _MOST_PROBLEMS:
        problems = [
            *problems[:_MOST_PROBLEMS],
            f"and {len(problems) - _MOST_PROBLEMS:,} more (see verdict.json)",
        ]
    return Page(
        title=f"{printable(verdict.scenario, 100)}: {verdict.decision}",
        decision=verdict.decision,
        answer=_answer(record),
        about=_about(record),
        findings=[_led(each) for each in (*verdict.findings, *figures(record.history, record.facts))],
        chips=chips(record),
        problems=problems,
        sections=[section for build in _SECTIONS if (section := build(record)) is not None],
    )


def _led(sentence: str) -> tuple[str, str]:
    """The part that says which claim fails, and the rest."""
    lead, colon, rest = sentence.partition(": ")
    return (lead + colon, rest) if " fails" in lead else ("", sentence)


def _answer(record: Record) -> str:
    answers = {verdict.verdict for verdict in counting(record)}
    return next((answer for answer in ("fail", "unknown", "pass") if answer in answers), "none")


def _about(record: Record) -> list[tuple[str, str]]:
    verdict = record.verdict
    targets = list(dict.fromkeys(printable(variant.target) for variant in verdict.variants))
    lasted = ""
    if verdict.started_ns is not None and verdict.ended_ns is not None:
        lasted = f", for {duration_text(max(verdict.ended_ns - verdict.started_ns, 0))}"
    streams = count_of(verdict.totals.streams, "stream")
    more = [
        count_of(verdict.totals.breaks, "break"),
        count_of(verdict.totals.events, "event"),
    ]
    about = [
        ("Scenario", printable(verdict.scenario)),
        ("Target" if len(targets) == 1 else "Targets", joined(targets)),
        ("When", moment_text(verdict.started_ns) + lasted),
        ("Measured", f"{streams}, {joined(more)}"),
    ]
    if record.several:
        about.append(("Variants", joined([printable(variant.name or "") for variant in verdict.variants])))
    if verdict.how != "finished":
        about.append(("Ended", verdict.how))
    return [(name, text) for name, text in about if text]
