"""The parser beside httpx-sse and sseclient-py: events a second of CPU time, and the ratios, from one run.

Each reader gets the same chunks in memory and has to give the same types and data, which is checked first. Clients take
turns and the best of several rounds counts, so that a busy machine disturbs all alike. An event is what a streaming
answer sends: id, event and data of about 90 bytes.

    python bench/parser.py [FILE.json]
"""

import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import httpx
import httpx_sse
import msgspec
import sseclient

from sseproof.loadtests.sse import Message, Parser
from sseproof.reference_server.encoder import encode

EVENTS: Final = 10_000
"""About 1 MB: long enough for a clock of 1 µs, short enough to sit in a processor's cache like a read does."""
ROUNDS: Final = 7
READ_BYTES: Final = 65_536
TEXTS: Final = {
    "ASCII": "the quick brown fox jumps over the lazy dog and runs away ",
    "Arabic": "الثعلب البني السريع يقفز فوق الكلب ",
}
GOAL_ONE_EVENT_LF: Final = 2.0
GOAL_OTHERWISE: Final = 1.0

Chunks = list[bytes]
Reader = Callable[[Chunks], Iterable[object]]


class ParserRow(msgspec.Struct):
    """One shape of stream: events a second of each reader, and how many times faster ours is."""

    text: str
    newline: str
    chunk: str
    sseproof: int
    httpx_sse: int
    sseclient_py: int
    times_httpx_sse: float
    times_sseclient_py: float


class _Stream(httpx.SyncByteStream):
    """A response body that is there already, in the chunks it would come in."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


def ours(chunks: Chunks) -> Iterable[Message]:
    parser = Parser()
    for chunk in chunks:
        for item in parser.receive(chunk):
            if type(item) is Message:
                yield item


def httpx_sse_events(chunks: Chunks) -> Iterable[httpx_sse.ServerSentEvent]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Stream(chunks))
    return httpx_sse.EventSource(response).iter_sse()


def sseclient_events(chunks: Chunks) -> Iterable[sseclient.Event]:
    return sseclient.SSEClient(iter(chunks)).events()


READERS: Final[dict[str, Reader]] = {
    "sseproof": ours,
    "httpx_sse": httpx_sse_events,
    "sseclient_py": sseclient_events,
}


def measure() -> list[ParserRow]:
    """All shapes: ASCII and Arabic, LF and CRLF, one event a chunk and reads of 64 KiB."""
    rows = []
    for text in TEXTS:
        for newline, name in (("\n", "LF"), ("\r\n", "CRLF")):
            events = [event(number, TEXTS[text], newline) for number in range(EVENTS)]
            whole = b"".join(events)
            reads = [whole[start : start + READ_BYTES] for start in range(0, len(whole), READ_BYTES)]
            rows.append(_row(text, name, "event", events))
            rows.append(_row(text, name, "64 KiB", reads))
    return rows


def event(number: int, text: str, newline: str) -> bytes:
    data = f'{{"text":"{text}","n":{number}}}'
    return encode("delta", data, id=f"s-{number}", newline="\r\n" if newline == "\r\n" else "\n")


def missed_goals(rows: list[ParserRow]) -> list[str]:
    """A sentence for each shape in which the parser is not as fast as it must be."""
    missed = []
    for row in rows:
        goal = GOAL_ONE_EVENT_LF if (row.newline, row.chunk) == ("LF", "event") else GOAL_OTHERWISE
        if row.times_httpx_sse < goal:
            missed.append(
                f"the parser is {row.times_httpx_sse:.2f} times as fast as httpx-sse with {row.text}, {row.newline}, "
                f"chunks of {row.chunk}; the goal is {goal:.0f}"
            )
    return missed


def main(json_path: Path | None = None) -> list[ParserRow]:
    """Measures and prints; with a path, writes the rows there as JSON too."""
    rows = measure()
    print("Events a second of CPU time, and how many times faster sseproof is")
    print(
        f"{'text':7} {'newline':7} {'chunk':7} {'sseproof':>9} {'httpx-sse':>9} {'sseclient':>9} {'times':>6} {'times':>6}"
    )
    for row in rows:
        print(
            f"{row.text:7} {row.newline:7} {row.chunk:7} {row.sseproof:>9,} {row.httpx_sse:>9,} {row.sseclient_py:>9,} "
            f"{row.times_httpx_sse:>6.2f} {row.times_sseclient_py:>6.2f}"
        )
    for sentence in missed_goals(rows):
        print(f"missed: {sentence}")
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    return rows


def _row(text: str, newline: str, chunk: str, chunks: Chunks) -> ParserRow:
    _check_agreement(chunks)
    best_ns = dict.fromkeys(READERS, sys.maxsize)
    for _ in range(ROUNDS):
        for name, reader in READERS.items():
            best_ns[name] = min(best_ns[name], _cpu_ns(reader, chunks))
    rates = {name: round(EVENTS * 1e9 / ns) for name, ns in best_ns.items()}
    return ParserRow(
        text,
        newline,
        chunk,
        rates["sseproof"],
        rates["httpx_sse"],
        rates["sseclient_py"],
        round(best_ns["httpx_sse"] / best_ns["sseproof"], 2),
        round(best_ns["sseclient_py"] / best_ns["sseproof"], 2),
    )


def _cpu_ns(reader: Reader, chunks: Chunks) -> int:
    gc.collect()
    start = time.process_time_ns()
    count = sum(1 for _ in reader(chunks))
    spent_ns = time.process_time_ns() - start
    if count != EVENTS:
        raise AssertionError(f"{count} events instead of {EVENTS}")
    return spent_ns


def _check_agreement(chunks: Chunks) -> None:
    mine = [(message.type, message.data) for message in ours(chunks)]
    if mine != [(each.event, each.data) for each in httpx_sse_events(chunks)]:
        raise AssertionError("httpx-sse reads something else")
    if mine != [(each.event, each.data) for each in sseclient_events(chunks)]:
        raise AssertionError("sseclient-py reads something else")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
