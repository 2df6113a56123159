"""The verdicts as JUnit XML, in the subset that Jenkins, GitLab and GitHub's readers share.

Rules (measurement.md 6):
- Elements and attributes are those of Jenkins' junit-10.xsd: no properties on a case, no `skipped` on the outermost
  element, times as digits with one dot.
- GitLab shows the body and passes over `message` in places: the whole sentence stands in both.
- XML 1.0 can't hold control characters and halves of surrogate pairs: `printable` has written them as escapes.
- No clock: the time stamp is the run's own, and the same verdict gives the same bytes.
"""

import datetime as dt
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from sseproof.reports.cases import TEXT_CHARS, Case, Level, beside, cases_of, count_levels, name_of, sentences
from sseproof.rundir.text import printable

if TYPE_CHECKING:
    from sseproof.reports.judge import RunVerdict

_ELEMENTS: Final[dict[Level, str]] = {"failure": "failure", "error": "error", "skipped": "skipped"}
_NS_PER_S: Final = 1_000_000_000


def junit_xml(verdict: "RunVerdict") -> bytes:
    """The file, as UTF-8."""
    return ("\n".join(_document(verdict)) + "\n").encode()


def _document(verdict: "RunVerdict") -> Iterator[str]:
    cases = cases_of(verdict)
    counts = count_levels(cases)
    totals = {
        "tests": str(len(cases)),
        "failures": str(counts["failure"]),
        "errors": str(counts["error"]),
        **_time(verdict),
    }
    stamp = {} if verdict.started_ns is None else {"timestamp": _stamp(verdict.started_ns)}
    suite = {"name": verdict.scenario, **totals, "skipped": str(counts["skipped"]), **stamp}
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f"<testsuites{_attributes({'name': 'sseproof', **totals})}>"
    yield f" <testsuite{_attributes(suite)}>"
    yield "  <properties>"
    for name, value in _properties(verdict).items():
        yield f"   <property{_attributes({'name': name, 'value': value})}/>"
    yield "  </properties>"
    for case in cases:
        yield from _case(case)
    if others := beside(verdict):
        told = [f"{each.verdict}: {name_of(each)}: {' '.join(sentences(each))}" for each in others]
        yield f"  <system-out>{escape(chr(10).join(['Beside, not counted:', *told]))}</system-out>"
    yield " </testsuite>"
    yield "</testsuites>"


def _case(case: Case) -> Iterator[str]:
    head = f"  <testcase{_attributes({'classname': case.kind, 'name': case.name})}>"
    body = escape("\n".join(case.lines))
    if case.level == "ok":
        yield f"{head}<system-out>{body}</system-out></testcase>"
        return
    element = _ELEMENTS[case.level]
    told = _attributes({"type": case.word, "message": case.text})
    yield f"{head}<{element}{told}>{body}</{element}></testcase>"


def _properties(verdict: "RunVerdict") -> dict[str, str]:
    """What makes the run again, and what it ran on."""
    return {
        "seed": str(verdict.seed),
        "run": verdict.run,
        "decision": verdict.decision,
        "on-unknown": verdict.on_unknown,
        **({"command": shlex.join(verdict.command)} if verdict.command else {}),
        **{f"label.{key}": value for key, value in verdict.labels.items()},
        **{f"version.{key}": value for key, value in verdict.versions.items()},
        **{f"host.{key}": value for key, value in verdict.host.items()},
    }


def _time(verdict: "RunVerdict") -> dict[str, str]:
    if verdict.started_ns is None or verdict.ended_ns is None:
        return {}
    return {"time": f"{max(verdict.ended_ns - verdict.started_ns, 0) / _NS_PER_S:.3f}"}


def _stamp(ns: int) -> str:
    """In UTC and without a zone, as the readers want it."""
    return f"{dt.datetime.fromtimestamp(ns // _NS_PER_S, tz=dt.UTC):%Y-%m-%dT%H:%M:%S}"


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f" {name}={quoteattr(printable(value, TEXT_CHARS))}" for name, value in values.items())
