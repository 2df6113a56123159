"""The parts that a page is made of; every text is plain, and escaped by the template."""

from typing import ClassVar, Final

from msgspec import Struct

from sseproof.reports.charts.svg import Chart, Table
from sseproof.reports.verdicts import Answer

MARKS: Final[dict[str, str]] = {"pass": "✓", "fail": "✕", "unknown": "?"}
"""A verdict is a shape and a word, not only a colour."""


class Paragraph(Struct, kw_only=True):
    """A sentence or two."""

    kind: ClassVar[str] = "paragraph"
    text: str


class Bullets(Struct, kw_only=True):
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    items: list[str]


class Figure(Struct, kw_only=True):
    """A chart with its sentence and its data."""

    kind: ClassVar[str] = "figure"
    chart: Chart


class Grid(Struct, kw_only=True):
    """A table that is read, not folded away."""

    kind: ClassVar[str] = "grid"
    caption: str
    table: Table


class Folded(Struct, kw_only=True):
    """Something long behind a summary: a table, or text as it is."""

    kind: ClassVar[str] = "folded"
    summary: str
    text: str


class Code(Struct, kw_only=True):
    """A command or another text that is copied as it is."""

    kind: ClassVar[str] = "code"
    text: str


class Subheading(Struct, kw_only=True):
    """Starts a part of a section."""

    kind: ClassVar[str] = "subheading"
    text: str


class ClaimRow(Struct, kw_only=True):
    """One claim with its answer."""

    anchor: str
    claim: str
    variant: str
    """Empty where there is only one."""
    answer: Answer
    mark: str
    code: str
    """Why it is unknown."""
    count: str
    """Empty where nothing was measured."""
    observed: str
    bound: str
    unit: str
    bar: Chart | None
    sentence: str
    more: list[str] = []
    """Further facts: TTFT from send, the split by group."""
    next: str = ""


class Claims(Struct, kw_only=True):
    """All claims that set the exit code."""

    kind: ClassVar[str] = "claims"
    rows: list[ClaimRow]


Block = Paragraph | Bullets | Figure | Grid | Folded | Code | Subheading | Claims


class Section(Struct, kw_only=True):
    """One part of the page under its finding."""

    key: str
    """Its anchor."""
    name: str
    """A word for the contents."""
    heading: str
    """The finding."""
    blocks: list[Block] = []


class Chip(Struct, kw_only=True):
    """A verdict in one glance."""

    anchor: str
    answer: Answer
    mark: str
    claim: str


class Page(Struct, kw_only=True):
    """The whole report."""

    title: str
    decision: str
    answer: str
    """pass, fail, unknown, or none without a claim: colours the decision."""
    about: list[tuple[str, str]]
    findings: list[tuple[str, str]] = []
    """The result in plain words, for who must decide: what is made strong, and the rest."""
    chips: list[Chip] = []
    problems: list[str] = []
    sections: list[Section] = []
