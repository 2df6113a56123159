"""Streams, breaks and claims as CSV, for a spreadsheet or a notebook.

Rules:
- A row a stream (those without an end and those never started included, the warm-up left out), a break, a verdict.
- Instants in ns of the run's clock, intervals in ms between the middles of their brackets; an empty cell was not measured
  or never happened.
- Foreign text is printable, and one that a spreadsheet would take for a formula gets a quote mark before it.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sseproof.reports.facts import Facts, History
from sseproof.reports.verdicts import Verdict
from sseproof.rundir.rows import BreakRow, Instant, StartRow
from sseproof.rundir.text import printable

_FORMULA: Final = ("=", "+", "-", "@")
_CHUNK_ROWS: Final = 1_000
_NS_PER_MS: Final = 1_000_000
_TEXT_CHARS: Final = 4_000
_INSTANTS: Final = [
    "intended",
    "dispatched",
    "sent",
    "headers",
    "first_byte",
    "first_event",
    "first_token",
    "last_token",
    "last_event",
    "ended",
]
_TOLD: Final = ["name", "kind", "phase", "end", "status", "events", "tokens", "heartbeats", "body_bytes"]


def streams_csv(history: History, facts: Sequence[Facts]) -> Iterator[bytes]:
    """The file of streams, in pieces."""
    heads = [
        *("stream", "variant", "group", "worker", "outcome"),
        *_TOLD,
        *(
            "attempts",
            "breaks",
            "ttft_ms",
            "ttft_from_plan_ms",
            "e2e_ms",
            "gaps",
            "longest_gap_ms",
            "stale_ms",
        ),
        *("lost", "doubled", "reordered", "ill_formed", "text_exact"),
        *(f"{name}_ns" for name in _INSTANTS),
        "detail",
    ]
    open_ = [
        *((row, "unfinished") for row in history.unfinished),
        *((row, "dropped") for row in history.dropped),
    ]
    return _csv(
        heads, (*map(_stream_row, facts), *(_start_row(row, what, len(heads)) for row, what in open_))
    )


def breaks_csv(history: History) -> Iterator[bytes]:
    """The file of breaks, in pieces."""
    heads = [
        "stream",
        "variant",
        "group",
        "phase",
        "worker",
        "number",
        "attempt",
        "end",
        "status",
        "attempts",
        "waits_ms",
        "reconnect_ms",
        "resumed",
        "gave_up",
        "lost",
        "doubled",
        "server_retry_ms",
        "seen_ns",
        "connected_ns",
        "sent_ns",
        "first_new_ns",
    ]
    return _csv(heads, map(_break_row, history.breaks))


def claims_csv(verdicts: Iterable[Verdict]) -> Iterator[bytes]:
    """The file of verdicts, in pieces."""
    heads = [
        "claim",
        "variant",
        "counts",
        "verdict",
        "code",
        "metric",
        "unit",
        "n",
        "k",
        "k_best",
        "unfinished",
        "dropped",
        "untold",
        "excluded",
        "streams",
        "p0",
        "confidence",
        "observed",
        "lower",
        "upper",
        "amount",
        "reading",
        "sentence",
        "next",
    ]
    return _csv(heads, ([getattr(each, name) for name in heads] for each in verdicts))


def _stream_row(facts: Facts) -> list[Any]:
    record = facts.record
    gaps = record.gaps
    return [
        *(record.stream, record.variant, record.group, record.worker, facts.outcome),
        *(getattr(record, name) for name in _TOLD),
        *(record.attempts_total or len(record.attempts), record.breaks),
        _between_ms(record.sent, record.first_token),
        _between_ms(record.intended, record.first_token),
        _between_ms(record.sent, record.last_event),
        *((None, None) if gaps is None else (gaps.count, gaps.longest_hi_ns / _NS_PER_MS)),
        None if record.stale_ns is None else record.stale_ns / _NS_PER_MS,
        *(facts.lost, facts.doubled, facts.reordered, facts.ill_formed, facts.text_exact),
        *(_ns(getattr(record, name)) for name in _INSTANTS),
        record.detail,
    ]


def _start_row(start: StartRow, outcome: str, width: int) -> list[Any]:
    first = [start.stream, start.variant, start.group, start.worker, outcome, start.name]
    instants = {"intended": _ns(start.intended), "dispatched": _ns(start.dispatched)}
    last = [*(instants.get(name) for name in _INSTANTS), None]
    return [*first, *[None] * (width - len(first) - len(last)), *last]


def _break_row(row: BreakRow) -> list[Any]:
    return [
        *(
            row.stream,
            row.variant,
            row.group,
            row.phase,
            row.worker,
            row.number,
            row.attempt,
            row.end,
            row.status,
        ),
        *(row.attempts, " ".join(f"{wait / _NS_PER_MS:g}" for wait in row.waits_ns)),
        *(_between_ms(row.seen, row.first_new), row.resumed, row.gave_up, row.lost, row.doubled),
        *(row.server_retry_ms, _ns(row.seen), _ns(row.connected), _ns(row.sent), _ns(row.first_new)),
    ]


class _Lines(list[str]):
    """What csv writes into."""

    write = list[str].append


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow(heads)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if len(lines) >= _CHUNK_ROWS:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


def _text(text: str) -> str:
    shown = printable(text, _TEXT_CHARS)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _ns(instant: Instant | None) -> int | None:
    return None if instant is None else instant.ns


def _between_ms(start: Instant | None, end: Instant | None) -> float | None:
    return None if start is None or end is None else (end.ns - start.ns) / _NS_PER_MS
