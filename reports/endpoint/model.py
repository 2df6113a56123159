"""A finding, and the report that all findings add up to.

Rules (checks.md 5.3; issue words pass, warn, fail, n/a, unknown):
- A finding says what was seen, in figures or bytes with their offset, and for warn and fail what to change.
- `info` of checks.md is pass: the sentence says what is worth knowing.
- Essential checks that stay unknown set the exit code: without them nothing was proved.
"""

from typing import Final, Literal

from msgspec import Struct

from sseproof.rundir.text import printable

Verdict = Literal["pass", "warn", "fail", "n/a", "unknown"]
WORST_FIRST: Final[tuple[Verdict, ...]] = ("fail", "unknown", "warn", "pass", "n/a")
ESSENTIAL: Final = frozenset({"H01", "H02", "W01", "B01", "B02", "D02"})
EXCERPT_BYTES: Final = 24
"""To either side of an offset."""


class Evidence(Struct, kw_only=True, frozen=True):
    """One thing that was seen."""

    text: str
    probe: str | None = None
    """Which probe's answer it was seen in; None for the main one."""
    offset: int | None = None
    """In its body, after decompression."""
    excerpt: str | None = None
    """The bytes around it, escaped."""


class Outcome(Struct, kw_only=True, frozen=True):
    """What one check found."""

    verdict: Verdict
    sentence: str
    fix: str = ""
    evidence: list[Evidence] = []


class Finding(Struct, kw_only=True, frozen=True):
    """The outcome of one check by its id."""

    id: str
    name: str
    verdict: Verdict
    sentence: str
    fix: str = ""
    evidence: list[Evidence] = []
    essential: bool = False


class Timeline(Struct, kw_only=True, frozen=True):
    """When the answer came: one row a burst, for those who look closer."""

    at_ms: list[float]
    """Since the request was sent."""
    size_bytes: list[int]
    events: list[int]
    """Events that each burst completed."""
    between_events: list[bool]
    """Whether each burst ended between events."""
    ended_ms: float
    """When the look or the answer was over."""


class CheckReport(Struct, kw_only=True):
    """Everything `sseproof check` answers."""

    schema: str = "sseproof/check"
    version: int = 1
    url: str
    diagnosis: str
    verdict: Verdict
    exit_code: int
    findings: list[Finding]
    """Worst first, in the order of their ids within a verdict."""
    counts: dict[str, int]
    chain: list[str]
    """Servers and proxies that named themselves."""
    notes: list[str]
    requests: int
    connections: int
    lasted_ms: float
    """Wall time of the whole check."""
    status: int | None
    dialect: str | None = None
    events: int = 0
    body_bytes: int = 0
    timeline: Timeline | None = None


def passed(sentence: str, *evidence: Evidence) -> Outcome:
    """Nothing to complain of."""
    return Outcome(verdict="pass", sentence=sentence, evidence=list(evidence))


def warned(sentence: str, fix: str, *evidence: Evidence) -> Outcome:
    """Works, and will hurt somebody."""
    return Outcome(verdict="warn", sentence=sentence, fix=fix, evidence=list(evidence))


def failed(sentence: str, fix: str, *evidence: Evidence) -> Outcome:
    """Broken."""
    return Outcome(verdict="fail", sentence=sentence, fix=fix, evidence=list(evidence))


def not_applicable(why: str) -> Outcome:
    """The question does not arise here, or was not asked for."""
    return Outcome(verdict="n/a", sentence=why)


def unknown(why: str, next_step: str = "") -> Outcome:
    """It could not be told."""
    return Outcome(verdict="unknown", sentence=why, fix=next_step)


def bytes_at(body: bytes, offset: int, text: str, *, size: int = 1, probe: str | None = None) -> Evidence:
    """The bytes around an offset."""
    start = max(0, offset - EXCERPT_BYTES)
    around = body[start : offset + size + EXCERPT_BYTES]
    return Evidence(text=text, offset=offset, excerpt=escaped(around), probe=probe)


def escaped(data: bytes) -> str:
    """Bytes as they would be typed: text stays, ill-formed bytes and controls become escapes."""
    text = data.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")
    return printable(text, 200)
