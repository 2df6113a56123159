"""The verdicts as GitHub's workflow commands, which become annotations of the job.

Rules (measurement.md 6):
- A step may make ten of a kind, and a job fifty: the last of ten says how many more there are.
- `%`, CR and LF are escaped in the text, `:` and `,` in the title as well. Nothing else has a meaning there.
- A claim that fails or is unknown is an error, with `--on-unknown warn` an unknown one a warning, and the decision a notice:
  what is an error here is what the exit code calls one.
"""

from typing import TYPE_CHECKING, Final, Literal

from sseproof.reports.cases import RUN_CLASS, Case, Level, cases_of
from sseproof.rundir.text import inert, printable

if TYPE_CHECKING:
    from sseproof.reports.judge import RunVerdict

Kind = Literal["error", "warning", "notice"]

MOST_OF_A_KIND: Final = 10
_LINE_CHARS: Final = 1_000
_MOST_LINES: Final = 6
_TITLE_CHARS: Final = 200
_KINDS: Final[dict[Level, Kind]] = {"failure": "error", "error": "error", "skipped": "warning"}
_WORDS: Final[dict[Level, str]] = {"failure": "fails", "error": "unknown", "skipped": "unknown"}


def annotations(verdict: "RunVerdict") -> list[str]:
    """The lines to print, none of them longer than some thousand characters."""
    cases = [case for case in cases_of(verdict) if case.level != "ok"]
    lines = []
    for kind in ("error", "warning"):
        own = [case for case in cases if _KINDS[case.level] == kind]
        shown = own if len(own) <= MOST_OF_A_KIND else own[: MOST_OF_A_KIND - 1]
        lines += [_command(kind, _title(case), *case.lines) for case in shown]
        if left := len(own) - len(shown):
            more = f"and {left:,} more: {', '.join(case.name for case in own[len(shown) :])}"
            lines.append(_command(kind, f"{left:,} more", more))
    return [*lines, _command("notice", f"sseproof {verdict.scenario}", verdict.decision)]


def _title(case: Case) -> str:
    return case.name if case.kind == RUN_CLASS else f"{_WORDS[case.level]}: {case.name}"


def _command(kind: str, title: str, *lines: str) -> str:
    shown = inert("\n".join(printable(line, _LINE_CHARS) for line in lines[:_MOST_LINES]))
    return f"::{kind} title={_property(inert(printable(title, _TITLE_CHARS)))}::{_data(shown)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
