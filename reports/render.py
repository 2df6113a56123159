"""report.html: one offline file, made from a run directory and nothing else.

Rules (measurement.md 5.2, design.md decision 12):
- Same record, same bytes: no clock, no path, no order that depends on hashing.
- No reference to anything outside the file. The page carries a policy of its own that allows its one style element and
  its one script by their digests and nothing else, and it is complete without both: under the policy
  `default-src 'none'` of a CI server's artifact pages neither acts.
- Autoescape is on for every value; foreign text is made printable and bounded before it gets to the template.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jinja2

from sseproof.reports.charts.heat import Heat
from sseproof.reports.compare import Comparison
from sseproof.reports.endpoint.model import CheckReport
from sseproof.reports.facts import Facts, History, all_facts
from sseproof.reports.figures import RunFigures
from sseproof.reports.heats import read_heats
from sseproof.reports.history import read_history
from sseproof.reports.judge import RunVerdict, judge
from sseproof.reports.view.check import build_check
from sseproof.reports.view.compare import build_comparison
from sseproof.reports.view.page import build_page
from sseproof.reports.view.record import new_record
from sseproof.rundir.files import REPORT_NAME, write_bytes

_TEMPLATES: Final = Path(__file__).parent / "templates"
_UNIT: Final = re.compile(r"(?<=\d) (?=(?:%|ms\b|s\b))")
_UNBROKEN_CHARS: Final = 24
"""A word of so many characters fits every column of a page of 400 px."""
_STROKES: Final = frozenset("/?&=,;:._-")
_FEWEST_CHARS: Final = 8
"""No piece of a long word is shorter, so that there are few of them."""
_WORDS: Final = re.compile(r"(\s+)")


def render_report(directory: Path) -> bytes:
    """The report of the run recorded in this directory, as UTF-8.

    Raises UsageError, in one sentence, when it is no run directory or can't be read.
    """
    history = read_history(directory)
    return render_history(history, judge(history), read_heats(directory, history))


def write_report(directory: Path) -> Path:
    """Writes report.html, whole, and gives its path.

    Raises UsageError when the record can't be read, RigError when the file can't be written.
    """
    path = directory / REPORT_NAME
    write_bytes(path, render_report(directory))
    return path


def render_history(
    history: History,
    verdict: RunVerdict,
    heats: tuple[list[Heat], str] = ([], ""),
    facts: list[Facts] | None = None,
) -> bytes:
    """The report of a history that was judged already; pure but for the templates, which are read once.

    `heats` as `read_heats` gives them; without, the report has no heat map. `facts` are the history's own, where they are
    known already.
    """
    facts = all_facts(history) if facts is None else facts
    record = new_record(history, facts, verdict)
    record.heats, record.heat_problem = heats
    style, script = _asset("report.css"), _asset("report.js")
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}"
    template = _environment().get_template("report.html.jinja")
    text = template.render(page=build_page(record), policy=policy, style=style, script=script)
    return text.encode("utf-8", "backslashreplace")


@functools.cache
def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _digest(text: str) -> str:
    """A source of a content security policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render_check(report: CheckReport, *, capture: str) -> bytes:
    """The page of `sseproof check`, as UTF-8; pure but for the templates, which are read once."""
    return _without_script("check.html.jinja", build_check(report, capture))


def _without_script(name: str, page: object) -> bytes:
    """A page whose style element is all that it is allowed."""
    style = _asset("report.css")
    policy = f"default-src 'none'; style-src {_digest(style)}"
    text = _environment().get_template(name).render(page=page, policy=policy, style=style)
    return text.encode("utf-8", "backslashreplace")


def render_comparison(
    comparison: Comparison,
    before: Sequence[RunFigures],
    after: Sequence[RunFigures],
    *,
    left_out: Sequence[str],
    command: Sequence[str],
) -> bytes:
    """The page of a comparison, as UTF-8; pure but for the templates, which are read once."""
    return _without_script(
        "compare.html.jinja", build_comparison(comparison, before, after, left_out, command)
    )


def pieces(text: str) -> list[str]:
    """The text with its numbers tied to their units, cut wherever a line may end within one of its longest words.

    Without the style element nothing else would keep a long word from widening the page.
    """
    cut = [""]
    for part in _WORDS.split(_UNIT.sub("\N{NO-BREAK SPACE}", text)):
        first, *more = _chunks(part)
        cut[-1] += first
        cut += more
    return cut


def _chunks(word: str) -> list[str]:
    """Pieces of a long word that fit a line: they end behind a stroke of a URL or path where there is one."""
    chunks = []
    while len(word) > _UNBROKEN_CHARS:
        ends = [
            at + 1
            for at, char in enumerate(word[:_UNBROKEN_CHARS])
            if char in _STROKES and at >= _FEWEST_CHARS
        ]
        end = ends[-1] if ends else _UNBROKEN_CHARS
        chunks.append(word[:end])
        word = word[end:]
    return [*chunks, word]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pieces"] = pieces
    return environment
