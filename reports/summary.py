"""The result in the terminal: what the report says, shorter (report-style.md).

Rules:
- Plain text of at most 80 columns, without colour or cursor movement: the same in a terminal, a pipe and a CI log. Only
  the path of the run may be longer, in a line of its own, so that it can be copied.
- Widths are counted in terminal cells (rich), not characters: names may be Arabic, Chinese or emoji.
- Names and reasons that came from outside are made printable: they can't move the cursor or turn a line round.
- A percentage never stands without its n; what was not measured is a dash.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.cells import cell_len, chop_cells

from sseproof.reports.browsers import (
    COLUMNS,
    DRAWN_COLUMNS,
    BrowserResult,
    cells,
    drawn_cells,
    name_of,
    notes,
)
from sseproof.reports.judge import RigRow, RunVerdict, Summary, rig_advice
from sseproof.reports.phases import PhaseResult, has_quantile
from sseproof.reports.steadiness import Intervals, Steadiness
from sseproof.reports.verdicts import Answer, Figure, Quantile, Verdict
from sseproof.reports.words import (
    NOT_MEASURED,
    count_of,
    digits,
    duration_text,
    least_text,
    most_text,
    share_text,
)
from sseproof.rundir.files import REPORT_NAME
from sseproof.rundir.text import printable

WIDTH: Final = 80
MARKS: Final[dict[Answer, str]] = {"pass": "✓ pass", "fail": "✕ fail", "unknown": "? unknown"}
_VERDICT_CELLS: Final = 9
_COUNT_CELLS: Final = 13
_OBSERVED_CELLS: Final = 13
"""As long as `p99 ≤ 32.8 ms`, a quantile that is only known to lie below an edge."""
_BOUND_CELLS: Final = 11
_CLAIM_CELLS: Final = WIDTH - _VERDICT_CELLS - _COUNT_CELLS - _OBSERVED_CELLS - _BOUND_CELLS - 4
_SIDE_CELLS: Final = 25
_TTFT_CELLS: Final = 10
_INDENT: Final = "    "
_MOST_SHOWN: Final = 20


class _Cell(NamedTuple):
    text: str
    cells: int
    right: bool = False


def summary_text(verdict: RunVerdict, directory: Path | str) -> str:
    """The whole answer of `sseproof run` and `sseproof judge`, ending with a line end."""
    lines = wrapped(verdict.decision)
    lines += wrapped(about(verdict))
    lines += wrapped(verdict.aborted) if verdict.aborted else []
    if verdict.findings:
        lines += ["", *(line for each in verdict.findings for line in wrapped(printable(each, 2_000)))]
    counting = [each for each in verdict.verdicts if each.counts]
    if counting:
        lines += ["", *_claims_table(counting)]
    if len(verdict.variants) > 1:
        lines += ["", *_variants_table(verdict)]
        for variant in verdict.variants:
            lines += wrapped(printable(variant.note, limit=2_000)) if variant.note else []
    lines += _browsers(verdict.browsers)
    lines += ["", *_outcomes(verdict)]
    for variant in verdict.variants:
        lead = f"{printable(variant.name or '')}: " if len(verdict.variants) > 1 else ""
        for sentence in [] if variant.steadiness is None else steady_sentences(variant.steadiness):
            lines += wrapped(f"{lead}{sentence}", rest="  ")
    for variant in verdict.variants:
        lead = f"{printable(variant.name or '')}: " if len(verdict.variants) > 1 else ""
        lines += _phases_table(variant.phases, lead)
    if verdict.faults:
        lines += _evidence(verdict)
    lines += _outside(verdict)
    lines += _rig(verdict.rig, verdict.load_began_ns)
    if problems := [each for each in verdict.problems if each != verdict.aborted]:
        lines += ["", "Problems of the record:"]
        for problem in problems:
            lines += wrapped(printable(problem), first="- ", rest="  ")
    lines += ["", *_path_lines("Run: ", str(directory))]
    lines += _path_lines("Report: ", str(Path(directory) / REPORT_NAME))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _outside(verdict: RunVerdict) -> list[str]:
    """The marks, by their time in the run."""
    if not verdict.marks:
        return []
    lines = ["", "Marked, from outside:"]
    for each in verdict.marks[:_MOST_SHOWN]:
        at = duration_text(max(each.at_ns - verdict.load_began_ns, 0))
        source = f" ({printable(each.source)})" if each.source else ""
        lines += wrapped(f"{at}: {printable(each.text, limit=2_000)}{source}", first="- ", rest="  ")
    left = len(verdict.marks) - _MOST_SHOWN
    return [*lines, f"- and {left:,} more (see verdict.json)"] if left > 0 else lines


def wrapped(text: str, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """Lines of at most `width` cells, broken between words, and within one that is longer than a line."""
    lines = []
    line = first
    empty = True
    for word in text.split():
        for piece in _pieces(word, width - max(cell_len(first), cell_len(rest))):
            gap = "" if empty else " "
            if not empty and cell_len(line) + cell_len(gap) + cell_len(piece) > width:
                lines.append(line)
                line, gap = rest, ""
            line += gap + piece
            empty = False
    return [*lines, line]


def _pieces(word: str, cells: int) -> list[str]:
    return [word] if cell_len(word) <= cells else chop_cells(word, max(cells, 2))


def about(
    verdict: RunVerdict, prose: Callable[[str], str] = printable, code: Callable[[str], str] = printable
) -> str:
    """What ran, against what, and how long; `prose` and `code` make foreign words and addresses harmless."""
    targets = {variant.target for variant in verdict.variants}
    target = f", {code(targets.pop())}" if len(targets) == 1 else ""
    lasted = ""
    if verdict.started_ns is not None and verdict.ended_ns is not None:
        lasted = f" in {duration_text(verdict.ended_ns - verdict.started_ns)}"
    streams = count_of(verdict.totals.streams, "stream")
    return f"{prose(verdict.scenario)}{target}: {streams}{lasted}"


# --- claims --------------------------------------------------------------------------------------------------------------


def untold_faults(verdict: RunVerdict) -> str:
    """Of how many planned faults nobody can tell whether they acted: a sentence to put behind another, or empty."""
    untold = sum(each.acted is None for each in verdict.faults)
    return f" Of {untold:,} it can't be told." if untold else ""


def _evidence(verdict: RunVerdict) -> list[str]:
    """How many faults acted, and on how many of the occasions of each; the sentences are in the report."""
    acted = [each for each in verdict.faults if each.acted]
    seen = f"{len(acted)} of {len(verdict.faults)} planned faults acted, by the streams' own rows"
    several = len(verdict.variants) > 1
    told = [
        f"{f'{each.variant} ' if several and each.variant else ''}{each.group} {each.count:,}/{each.of:,}"
        for each in acted[:_MOST_SHOWN]
    ]
    more = [f"{len(acted) - _MOST_SHOWN:,} more"] if len(acted) > _MOST_SHOWN else []
    text = printable(f"{seen}: {', '.join([*told, *more])}.", limit=4_000) if acted else f"{seen}."
    return wrapped(text + untold_faults(verdict))


def _claims_table(verdicts: Sequence[Verdict]) -> list[str]:
    lines = _row(
        _Cell("verdict", _VERDICT_CELLS),
        _Cell("claim", _CLAIM_CELLS),
        _Cell("k/n", _COUNT_CELLS, right=True),
        _Cell("observed", _OBSERVED_CELLS, right=True),
        _Cell("bound", _BOUND_CELLS, right=True),
    )
    lines.append("-" * WIDTH)
    for verdict in verdicts:
        lines += _row(
            _Cell(MARKS[verdict.verdict], _VERDICT_CELLS),
            _Cell(_claim_name(verdict, verdicts), _CLAIM_CELLS),
            _Cell(count_text(verdict), _COUNT_CELLS, right=True),
            _Cell(observed_text(verdict), _OBSERVED_CELLS, right=True),
            _Cell(bound_text(verdict), _BOUND_CELLS, right=True),
        )
        lines += _details(verdict)
    return lines


def _claim_name(verdict: Verdict, verdicts: Sequence[Verdict]) -> str:
    """The claim, with its variant where several of them count."""
    several = len({each.variant for each in verdicts}) > 1
    named = verdict.variant is not None and f"in variant {verdict.variant}" not in verdict.claim
    text = printable(verdict.claim)
    return f"{text} [{printable(verdict.variant or '')}]" if several and named else text


def _details(verdict: Verdict) -> list[str]:
    code = f"{verdict.code}: " if verdict.code is not None else ""
    lines = wrapped(printable(f"{code}{verdict.sentence}", limit=2_000), first=_INDENT, rest=_INDENT)
    if verdict.beside is not None:
        text = f"From send: p{digits(verdict.beside.q * 100)} {_quantile_text(verdict.beside)}."
        lines += wrapped(text, first=_INDENT, rest=_INDENT)
    elif verdict.metric == "ttft" and verdict.reading == "from send":
        lines.append(f"{_INDENT}From send; from plan: {NOT_MEASURED}.")
    if len(verdict.groups) > 1:
        splits = ", ".join(
            f"{printable(split.group)} {split.k:,}/{split.n:,}"
            + (f" and {split.unfinished:,} open" if split.unfinished else "")
            for split in verdict.groups
        )
        lines += wrapped(f"By group: {splits}.", first=_INDENT, rest=_INDENT)
    if len(verdict.faults) > 1:
        lines += wrapped(f"By fault: {fault_splits_text(verdict)}.", first=_INDENT, rest=_INDENT)
    if verdict.next:
        lines += wrapped(f"Next: {printable(verdict.next)}", first=_INDENT, rest=_INDENT)
    return lines


def fault_splits_text(verdict: Verdict) -> str:
    """Breaks by the class of fault that made them: cut 100/100, refused 3/10."""
    return ", ".join(
        f"{printable(split.kind) or 'none'} {split.k:,}/{split.n:,}"
        + (f" and {split.unfinished:,} open" if split.unfinished else "")
        for split in verdict.faults
    )


def count_text(verdict: Verdict) -> str:
    """Good units of all that ended: 405/412; a range where the brackets leave one."""
    if verdict.n == 0:
        return NOT_MEASURED
    good = f"{verdict.k:,}" if verdict.k == verdict.k_best else f"{verdict.k:,}…{verdict.k_best:,}"
    return f"{good}/{verdict.n:,}"


def observed_text(verdict: Verdict) -> str:
    """What was seen: a share, a quantile, or a number of events."""
    if verdict.n == 0:
        return NOT_MEASURED
    if verdict.quantile is not None:
        return f"p{digits(verdict.quantile.q * 100)} {_quantile_text(verdict.quantile)}"
    if verdict.figure is not None:
        return figure_text(verdict.figure)
    if verdict.amount is not None:
        return f"{verdict.amount:,} {verdict.metric}"
    return share_text(verdict.observed)


def bound_text(verdict: Verdict) -> str:
    """What the count shows about the true share, exactly, at the claim's confidence."""
    if verdict.n == 0 or verdict.lower is None or verdict.upper is None:
        return NOT_MEASURED
    if verdict.verdict == "pass":
        return f"≥ {least_text(verdict.lower)}"
    if verdict.verdict == "fail":
        most = most_text(verdict.upper)
        return "< 100 %" if verdict.form in {"all", "none"} or most.startswith(">") else f"≤ {most}"
    return f"{least_text(verdict.lower).removesuffix(' %')}…{most_text(verdict.upper)}"


def figure_text(figure: Figure) -> str:
    """A value that is no duration: p5 23.4/s, p95 3 %, p99 2, peak 37/s."""
    value = {
        "per-second": f"{digits(figure.value)}/s",
        "share": share_text(figure.value),
        "number": digits(figure.value),
    }[figure.unit]
    return f"peak {value}" if figure.q is None else f"p{digits(figure.q * 100)} {value}"


def _quantile_text(quantile: Quantile) -> str:
    return f"{'≤ ' if quantile.at_most else ''}{duration_text(quantile.value_ns)}"


# --- variants ------------------------------------------------------------------------------------------------------------


def _variants_table(verdict: RunVerdict) -> list[str]:
    """Every claim in every variant; beside each other when two fit, else below."""
    names = [variant.name for variant in verdict.variants]
    by_claim: dict[str, dict[str | None, Verdict]] = {}
    for each in verdict.verdicts:
        by_claim.setdefault(each.claim, {})[each.variant] = each
    if len(names) > 2:
        return _stacked(verdict, names, by_claim)
    cells = WIDTH - len(names) * (_SIDE_CELLS + 1)
    heads = [
        _Cell(printable(variant.name or "") + (" (judged)" if variant.judged else ""), _SIDE_CELLS)
        for variant in verdict.variants
    ]
    lines = [*_row(_Cell("side by side", cells), *heads), "-" * WIDTH]
    for claim, verdicts in by_claim.items():
        sides = [_Cell(_side(verdicts.get(name)), _SIDE_CELLS) for name in names]
        lines += _row(_Cell(printable(claim), cells), *sides)
    sides = [_Cell(_good(variant.summary), _SIDE_CELLS) for variant in verdict.variants]
    return lines + _row(_Cell("streams that succeeded", cells), *sides)


def _stacked(
    verdict: RunVerdict, names: Sequence[str | None], by_claim: dict[str, dict[str | None, Verdict]]
) -> list[str]:
    lines = ["side by side", "-" * WIDTH]
    for claim, verdicts in by_claim.items():
        lines += wrapped(printable(claim))
        for name in names:
            if name in verdicts:  # a claim may speak of one of many variants
                lines += _below(name, _side(verdicts[name]))
    lines.append("streams that succeeded")
    for variant in verdict.variants:
        lines += _below(variant.name, _good(variant.summary))
    return lines


def _below(name: str | None, text: str) -> list[str]:
    half = (WIDTH - len(_INDENT)) // 2
    return _row(_Cell("", len(_INDENT) - 1), _Cell(printable(name or ""), half), _Cell(text, half - 1))


def _side(verdict: Verdict | None) -> str:
    if verdict is None:
        return NOT_MEASURED
    mark = MARKS[verdict.verdict].partition(" ")[0]
    if verdict.n == 0:
        return f"{mark} {NOT_MEASURED}"
    return f"{mark} {count_text(verdict)} {observed_text(verdict)}"


def _good(summary: Summary) -> str:
    if not summary.streams:
        return NOT_MEASURED
    return f"{summary.good:,}/{summary.streams:,} {share_text(summary.good / summary.streams)}"


def _browsers(results: Sequence[BrowserResult]) -> list[str]:
    """A few lines for each browser and client: a row of ten columns has no room in a terminal."""
    if not results:
        return []
    lines = ["", "browsers", "-" * WIDTH]
    for each in results:
        if each.state == "unknown":
            lines += wrapped(f"{name_of(each)}: {each.next}", rest="  ")
            continue
        named = list(zip(COLUMNS, cells(each), strict=True))
        lines += wrapped(f"{named[0][1]}, {named[1][1]}")
        lines += wrapped(", ".join(f"{name} {text}" for name, text in named[2:]), first="  ", rest="  ")
        drawn = list(zip(DRAWN_COLUMNS, drawn_cells(each), strict=True))[2:]
        lines += wrapped(", ".join(f"{name} {text}" for name, text in drawn), first="  ", rest="  ")
    return lines + wrapped(notes([each for each in results if each.state == "measured"]))


# --- the rest ------------------------------------------------------------------------------------------------------------


def _outcomes(verdict: RunVerdict) -> list[str]:
    if len(verdict.variants) < 2:
        return _outcome_lines("", verdict.totals)
    return [
        line
        for variant in verdict.variants
        for line in _outcome_lines(f"{printable(variant.name or '')}: ", variant.summary)
    ]


def steady_sentences(steady: Steadiness) -> list[str]:
    """What is known of freshness, heartbeats and fan-out; nothing of what was not measured."""
    found = []
    if steady.stale_share is not None:
        found.append(
            f"The newest event was older than 500 ms in {share_text(steady.stale_share)} of "
            f"{duration_text(steady.stream_ns)} in {count_of(steady.stale_streams, 'stream')}."
        )
    held = steady.connections
    if held is not None:
        found.append(
            f"{count_of(held.count, 'connection')} of {count_of(held.streams, 'subscription')} lasted "
            f"p50 {duration_text(held.p50_ns)}, longest {duration_text(held.longest_ns)}."
        )
    for intervals, what, noun in (
        (steady.heartbeat_gaps, "Silence before a heartbeat", "heartbeat"),
        (steady.ages, "Fan-out from the send time inside the events", "event"),
        (steady.behind, "Fan-out behind the first subscriber of a worker", "event"),
    ):
        if intervals is not None:
            found.append(f"{what}: {intervals_text(intervals)} ({count_of(intervals.count, noun)}).")
    return found


def intervals_text(intervals: Intervals) -> str:
    """p50 ≤ 2 ms, p99 ≤ 20 ms, longest 31 ms; what never ended is beyond any limit."""
    quantiles = [
        f"p{percent} {'never' if value is None else f'≤ {duration_text(value)}'}"
        for percent, value in ((50, intervals.p50_ns), (95, intervals.p95_ns), (99, intervals.p99_ns))
    ]
    return f"{', '.join(quantiles)}, longest {duration_text(intervals.longest_ns)}"


def _outcome_lines(lead: str, summary: Summary) -> list[str]:
    if not summary.outcomes:
        return wrapped(f"{lead}no stream was recorded.")
    dropped = summary.outcomes.get("dropped", 0)
    counts = [f"{count:,} {outcome}" for outcome, count in summary.outcomes.items() if outcome != "dropped"]
    parts = f": {', '.join(counts)}" if counts else ""
    were = "was" if dropped == 1 else "were"
    more = f"; {dropped:,} more {were} planned and never started by us (dropped)" if dropped else ""
    warm = f" ({count_of(summary.warmup, 'stream')} of the warm-up left out)" if summary.warmup else ""
    return wrapped(f"{lead}{count_of(summary.streams, 'stream')}{warm}{parts}{more}.", rest="  ")


def _phases_table(phases: Sequence[PhaseResult], lead: str) -> list[str]:
    """Before, during and after: how many streams of each phase ended well, and how soon their first token came."""
    if not phases:
        return []
    cells = WIDTH - 4 - _COUNT_CELLS - _OBSERVED_CELLS - 2 * _TTFT_CELLS
    lines = _row(
        _Cell(f"{lead}streams by phase", cells),
        _Cell("ended well", _COUNT_CELLS, right=True),
        _Cell("observed", _OBSERVED_CELLS, right=True),
        _Cell("TTFT p50", _TTFT_CELLS, right=True),
        _Cell("TTFT p95", _TTFT_CELLS, right=True),
    )
    for phase in phases:
        opened = f" and {phase.unfinished:,} open" if phase.unfinished else ""
        lines += _row(
            _Cell(f"{printable(phase.name)}{' (faults)' if phase.faults else ''}{opened}", cells),
            _Cell(f"{phase.k:,}/{phase.n:,}" if phase.n else NOT_MEASURED, _COUNT_CELLS, right=True),
            _Cell(share_text(phase.k / phase.n) if phase.n else NOT_MEASURED, _OBSERVED_CELLS, right=True),
            _Cell(phase_ttft_text(phase, 0.5), _TTFT_CELLS, right=True),
            _Cell(phase_ttft_text(phase, 0.95), _TTFT_CELLS, right=True),
        )
    return ["", *lines]


def phase_ttft_text(phase: PhaseResult, q: float) -> str:
    """A quantile of TTFT; a dash where so few streams have none, never where it did not come."""
    if not has_quantile(phase.n, q):
        return NOT_MEASURED
    return duration_text(phase.ttft_p50_ns if q <= 0.5 else phase.ttft_p95_ns)


def _rig(rows: Sequence[RigRow], load_began_ns: int) -> list[str]:
    late = [row for row in rows if row.within is False]
    if not late:
        return []
    lines = ["", "The generator was outside its usual limits (already in the brackets above):"]
    for row in late:
        text = f"{row.indicator}: {rig_text(row, row.value)}, usually at most {rig_text(row, row.limit)}"
        lines += wrapped(f"{text}. {rig_advice(row, load_began_ns)}", first="- ", rest="  ")
    return lines


def rig_text(row: RigRow, value: float | None) -> str:
    """A value of this indicator in its unit."""
    if value is None:
        return NOT_MEASURED
    if row.unit == "share":
        return share_text(value)
    return duration_text(value * 1e6) if row.unit == "ms" else digits(value)


def _row(*cells: _Cell) -> list[str]:
    """One table row; a cell that does not fit goes on in the lines below."""
    columns = [wrapped(cell.text, width=cell.cells) for cell in cells]
    height = max(len(column) for column in columns)
    lines = []
    for index in range(height):
        parts = [
            _padded(column[index] if index < len(column) else "", cell)
            for cell, column in zip(cells, columns, strict=True)
        ]
        lines.append(" ".join(parts))
    return lines


def _padded(text: str, cell: _Cell) -> str:
    room = " " * max(cell.cells - cell_len(text), 0)
    return room + text if cell.right else text + room


def _path_lines(lead: str, path: str) -> list[str]:
    shown = printable(path, limit=4_096)
    return [lead + shown] if cell_len(lead + shown) <= WIDTH else [lead.rstrip(), shown]
