r"""The verdicts as Markdown, for the summary of a CI step or a comment.

Rules (measurement.md 6):
- Tables and paragraphs only: a summary shows no inline SVG.
- Foreign text says nothing in Markdown, HTML or GitHub's own words: every mark of punctuation that means something is
  escaped, and a word that GitHub would turn into a link or a mention (with `://`, `www.` or `@` in it) is shown as code.
- At most 1,024 KiB, beyond which GitHub drops the whole summary: what does not fit is left out from the end, with a note.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from sseproof.reports.browsers import COLUMNS, BrowserResult, cells
from sseproof.reports.browsers import name_of as browser_name
from sseproof.reports.cases import TEXT_CHARS, beside, name_of, sentences
from sseproof.reports.summary import MARKS, about, bound_text, count_text, observed_text, untold_faults
from sseproof.reports.verdicts import Verdict
from sseproof.reports.words import NOT_MEASURED, share_text
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.judge import RunVerdict

MOST_BYTES: Final = 1024 * 1024
_MOST_ROWS: Final = 200
_MOST_PROBLEMS: Final = 50
_CUT_NOTE: Final = "\n*Cut here: a summary holds 1,024 KiB. The report has the rest.*\n"
_MEANING: Final = re.compile(r"([\\`*_\[\]|~<>&$]|:(?=\w))")
_BEGINNING: Final = re.compile(r"^(\d{0,9})([#+\-=.)])(?=[\s#=-]|$)")
"""What would begin a heading, a list or a rule."""
_HTML: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LINKED: Final = re.compile(r"://|www\.|@", re.IGNORECASE)


def markdown_text(verdict: "RunVerdict", room_bytes: int = MOST_BYTES) -> bytes:
    """The summary, as UTF-8 of at most so many bytes."""
    kept: list[bytes] = []
    size = 0
    note = _CUT_NOTE.encode()
    for block in _blocks(verdict):
        piece = block.encode()
        if size + len(piece) + len(note) > room_bytes:
            kept.append(note if size + len(note) <= room_bytes else b"")
            break
        kept.append(piece)
        size += len(piece)
    return b"".join(kept)


def escaped(text: str) -> str:
    """Foreign text as text: what would be a link or a mention is shown as code."""
    words = printable(text, TEXT_CHARS).split()
    shown = (code(word, cell=True) if _LINKED.search(word) else _MEANING.sub(_escape, word) for word in words)
    return _BEGINNING.sub(r"\1\\\2", " ".join(shown))


def code(text: str, *, cell: bool = False) -> str:
    """A code span of any printable text; in a table's cell a bar needs a stroke before it even there."""
    shown = printable(text, TEXT_CHARS)
    if cell:
        shown = shown.replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{'`' * (longest + 1)}{pad}{shown or ' '}{pad}{'`' * (longest + 1)}"


def _escape(found: "re.Match[str]") -> str:
    return _HTML.get(found[1], f"\\{found[1]}")


def _blocks(verdict: "RunVerdict") -> Iterator[str]:
    yield f"## {escaped(verdict.decision)}\n\n"
    yield from (f"{escaped(each)}\n\n" for each in verdict.findings)
    yield f"{about(verdict, escaped, code)}, seed {verdict.seed}.\n"
    if verdict.aborted:
        yield f"\n{escaped(verdict.aborted)}\n"
    counting = [each for each in verdict.verdicts if each.counts]
    if counting:
        yield from _table(
            ("verdict", "claim", "good", "observed", "bound", "what happened"),
            "llrrrl",
            [_claim_row(each) for each in counting],
        )
    if others := beside(verdict):
        yield "\n### Beside it, not counted\n"
        yield from _table(
            ("verdict", "claim", "good", "observed", "bound"),
            "llrrr",
            [_claim_row(each)[:5] for each in others],
        )
    yield from _outcomes(verdict)
    yield from _browsers(verdict.browsers)
    if verdict.faults:
        acted = sum(each.acted is True for each in verdict.faults)
        untold = untold_faults(verdict)
        yield f"\n{acted:,} of {len(verdict.faults):,} planned faults acted, by the streams' own rows.{untold}\n"
    late = [row for row in verdict.rig if row.within is False]
    if late:
        names = ", ".join(escaped(row.indicator) for row in late)
        yield f"\nThe generator was outside its usual limits (already in the bounds): {names}.\n"
    if verdict.problems:
        yield "\n### Problems of the record\n\n"
        yield from _items(verdict.problems)
    if verdict.command:
        yield f"\nTo repeat it: {code(shlex.join(verdict.command))}\n"


def _claim_row(verdict: Verdict) -> list[str]:
    return [
        MARKS[verdict.verdict],
        code(name_of(verdict), cell=True),
        escaped(count_text(verdict)),
        escaped(observed_text(verdict)),
        escaped(bound_text(verdict)),
        escaped(" ".join(sentences(verdict))),
    ]


def _outcomes(verdict: "RunVerdict") -> Iterator[str]:
    rows = []
    for variant in verdict.variants:
        summary = variant.summary
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in summary.outcomes.items())
        share = share_text(summary.good / summary.streams) if summary.streams else NOT_MEASURED
        name = NOT_MEASURED if variant.name is None else code(variant.name, cell=True)
        rows.append([name, f"{summary.good:,}/{summary.streams:,}", share, counts or NOT_MEASURED])
    yield from _table(("variant", "succeeded", "share", "outcomes"), "lrrl", rows)


def _browsers(results: Sequence[BrowserResult]) -> Iterator[str]:
    measured = [each for each in results if each.state == "measured"]
    if not results:
        return
    yield "\n### Browsers\n"
    yield from _table(COLUMNS, "llrrrrrrrr", [list(map(escaped, cells(each))) for each in measured])
    if unknown := [f"{browser_name(each)}: {each.next}" for each in results if each.state == "unknown"]:
        yield "\n"
        yield from _items(unknown)


def _table(heads: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    rules = ["---" if side == "l" else "---:" for side in sides]
    yield f"\n| {' | '.join(heads)} |\n| {' | '.join(rules)} |\n"
    for row in rows[:_MOST_ROWS]:
        yield f"| {' | '.join(row)} |\n"
    if len(rows) > _MOST_ROWS:
        yield f"\nShowing {_MOST_ROWS:,} of {len(rows):,}.\n"


def _items(texts: Iterable[str]) -> Iterator[str]:
    told = list(texts)
    for text in told[:_MOST_PROBLEMS]:
        yield f"- {escaped(text)}\n"
    if len(told) > _MOST_PROBLEMS:
        yield f"- and {len(told) - _MOST_PROBLEMS:,} more\n"
