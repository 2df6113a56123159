"""Browsers side by side, as tables: what came, and how it was drawn."""

from sseproof.reports.browsers import (
    COLUMNS,
    DRAWN_COLUMNS,
    BrowserResult,
    cells,
    drawn_cells,
    name_of,
    notes,
)
from sseproof.reports.charts.svg import Table
from sseproof.reports.view.model import Bullets, Grid, Paragraph, Section
from sseproof.reports.view.record import Record
from sseproof.reports.words import count_of, joined


def browsers_section(record: Record) -> Section | None:
    """None in a run whose users are Locust's."""
    results = record.verdict.browsers
    if not results:
        return None
    measured = [each for each in results if each.state == "measured"]
    unknown = [f"{name_of(each)}: {each.next}." for each in results if each.state == "unknown"]
    return Section(
        key="browsers",
        name="Browsers",
        heading=_heading(measured),
        blocks=[
            Grid(
                caption="What came",
                table=Table(columns=list(COLUMNS), rows=[cells(each) for each in measured], text_columns=2),
            ),
            Paragraph(text=notes(measured)),
            Grid(
                caption="How it was drawn, and how well the pages' clocks tell time",
                table=Table(
                    columns=list(DRAWN_COLUMNS), rows=[drawn_cells(each) for each in measured], text_columns=2
                ),
            ),
            *([Bullets(items=unknown)] if unknown else []),
        ],
    )


def _heading(measured: list[BrowserResult]) -> str:
    exact = [
        f"{each.exact} of {count_of(each.streams, 'answer')} in {name_of(each)}"
        for each in measured
        if each.client == "sseconsumer"
    ]
    return f"SSEConsumer gave the exact text of {joined(exact)}" if exact else "Browsers side by side"
