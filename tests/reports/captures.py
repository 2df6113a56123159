"""Captures made by hand: an answer's bytes and when each piece of it came, as `sseproof check` would have kept them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sseproof.reports.endpoint.judge import judge_capture
from sseproof.reports.endpoint.model import CheckReport
from sseproof.rundir.capture import Asked, Capture, Probed, Read

MS: Final = 1_000_000
BEGAN_NS: Final = 1_800_000_000_000_000_000
GOOD: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Transfer-Encoding": "chunked",
}


def head(status: str = "200 OK", **headers: str | None) -> bytes:
    """A response head; keyword names stand for header names (content_type), None takes one out."""
    merged: dict[str, str | None] = {
        **GOOD,
        **{name.replace("_", "-").title(): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in merged.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def probed(
    pieces: Iterable[bytes],
    *,
    start: bytes | None = None,
    gap_ms: float | Sequence[float] = 30,
    first_ms: float = 10,
    head_ms: float = 5,
    end: str = "complete",
    lag_ns: int = 50_000,
    framed: bool = True,
    **options: Any,
) -> Probed:
    """One answer: its head `head_ms` after the request, its pieces from `first_ms` on, each in a read (and a chunk)."""
    start = head() if start is None else start
    reads = [Read(len(start), BEGAN_NS + int(head_ms * MS), lag_ns, True)]
    received = start
    at_ms = first_ms
    pieces = list(pieces)
    gaps = [gap_ms] * len(pieces) if isinstance(gap_ms, int | float) else list(gap_ms)
    for piece, following in zip(pieces, gaps, strict=True):
        data = chunk(piece) if framed else piece
        received += data
        reads.append(Read(len(data), BEGAN_NS + int(at_ms * MS), lag_ns, True))
        at_ms += following
    if framed and end == "complete":
        received += b"0\r\n\r\n"
        reads.append(Read(5, BEGAN_NS + int(at_ms * MS), lag_ns, True))
    return Probed(
        **{
            "probe": "stream",
            "url": "http://127.0.0.1:8000/stream",
            "began_ns": BEGAN_NS,
            "sent_ns": BEGAN_NS,
            "ended_ns": BEGAN_NS + int(at_ms * MS),
            "end": end,
            "reads": reads,
            "received": received,
            **options,
        }
    )


def capture(*answers: Probed, url: str = "http://127.0.0.1:8000/stream", **asked: Any) -> Capture:
    return Capture(
        suite="0",
        url=url,
        asked=Asked(**{"look_s": 30.0, "terminal": "none", **asked}),
        began_ns=BEGAN_NS,
        ended_ns=max(each.ended_ns for each in answers),
        requests=len(answers),
        connections=len(answers),
        probes=list(answers),
    )


def judged(*answers: Probed, only: Sequence[str] = (), skip: Sequence[str] = (), **asked: Any) -> CheckReport:
    report = judge_capture(capture(*answers, **asked), only=only, skip=skip)
    broken = [each for each in report.findings if "itself broke" in each.sentence]
    assert not broken, broken
    return report


def verdicts(report: CheckReport) -> dict[str, str]:
    return {each.id: each.verdict for each in report.findings}


def event(number: int, text: str = "a word or two") -> bytes:
    return f'id: {number}\ndata: {{"text": "{text} {number}"}}\n\n'.encode()


def events(count: int = 40) -> list[bytes]:
    return [event(number) for number in range(1, count + 1)]
