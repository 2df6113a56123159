"""B01 to B07 of `sseproof check`, calibrated: which ways of holding events back are found, and who is accused wrongly.

Three sources (an event of some 180 bytes every 40 ms; five at once every 200 ms; one a second; all vary by 30 %) are examined RUNS times
each by every way: direct, through a real nginx, a real Toxiproxy, and relays that hold back on purpose: by a timer that
ticks or that the first byte held starts, by a buffer of a size, or each event until the next one; and from a service that
itself sends at ticks, which nobody may accuse of failing. Where a buffer of a size is on the way the two fast sources run four
times as fast, so that a look of 30 s sees 20 bursts of 16 KiB: the rule looks at where bursts end, not at when.

Each capture is judged twice, as it is and with the senders' clock renamed, which is how the rules without a clock are
tried on the same bytes. Exit code 1 when a way that holds nothing back is accused, or one that does is never found.

    python bench/buffering.py [RUNS] [--write]   # 8 runs take some five minutes
"""

import asyncio
import contextlib
import functools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import evidence
from msgspec.structs import replace

from sseproof.chaos.hop_config import HopKind
from sseproof.chaos.hops import Hop
from sseproof.chaos.install import install
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxics import Toxic
from sseproof.chaos.toxiproxy import Server
from sseproof.loadtests.examination import CheckRequest, examine
from sseproof.reports.endpoint.buffering import ACCUSED_BURSTS, flow_of
from sseproof.reports.endpoint.case import Case
from sseproof.reports.endpoint.judge import judge_capture
from sseproof.rundir.capture import Capture

RUNS: Final = 8
SIDE_BY_SIDE: Final = 40
CHECKS: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07")
VARIES: Final = 0.3
"""Of each source's pace."""
TEXT: Final = "x" * 130
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
REFUSED: Final = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SIZES: Final = {"relay, buffer of 4 KiB": 4_096, "relay, buffer of 16 KiB": 16_384}
TIMERS: Final = {"relay, timer of 100 ms": 0.1, "relay, timer of 500 ms": 0.5}
STARTED: Final = "relay, 100 ms from the first"
BEHIND: Final = "relay, one event behind"
TICKING: Final = "service, at ticks of 100 ms"
TICK_S: Final = 0.1
TOXICS: Final[dict[str, Toxic]] = {
    "Toxiproxy, 60 ± 60 ms": Toxic(name="late", type="latency", attributes={"latency": 60, "jitter": 60}),
    "Toxiproxy, slices": Toxic(
        name="sliced", type="slicer", attributes={"average_size": 100, "size_variation": 50, "delay": 8_000}
    ),
}
HOPS: Final[dict[str, HopKind]] = {
    "nginx, sse.conf": "nginx-sse",
    "nginx, its defaults": "nginx-plain",
    "nginx, gzip flushed": "nginx-gzip",
    "nginx, gzip and its defaults": "nginx-defaults",
}


class Source(NamedTuple):
    """How events come: so many at once, so often."""

    name: str
    at_once: int
    every_s: float


SOURCES: Final = (
    Source("every 40 ms", 1, 0.04),
    Source("5 every 200 ms", 5, 0.2),
    Source("every second", 1, 1.0),
)
FINDS: Final[dict[str, frozenset[str]]] = {
    "nginx, its defaults": frozenset({"B01", "B02"}),
    "nginx, gzip and its defaults": frozenset({"B01", "B02", "B06"}),
    **dict.fromkeys(SIZES, frozenset({"B01", "B02"})),
    **dict.fromkeys((*TIMERS, STARTED), frozenset({"B03", "B04"})),
    BEHIND: frozenset({"B05"}),
}
"""What may accuse a way; nothing may accuse the others."""
WAYS: Final = ("direct", TICKING, *HOPS, *TOXICS, *TIMERS, STARTED, *SIZES, BEHIND)
FASTER: Final = {"nginx, its defaults", "nginx, gzip and its defaults", *SIZES}


# The child: the sources, and the relays before them.

_SERVING: Final[set[asyncio.Task[None]]] = set()


async def _serve_source(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tick_s: float | None = None
) -> None:
    line = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
    if line[0] != "GET":
        writer.write(REFUSED)
        return
    at_once, every_s = int(line[1].split("/")[1]), float(line[1].split("/")[2])
    chunked = line[2].startswith("HTTP/1.1")  # nginx asks by 1.0 unless it is told otherwise
    writer.write(HEAD if chunked else HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""))
    pace = random.Random(f"{at_once} {every_s}")  # not for secrets
    number = 0
    loop = asyncio.get_running_loop()
    began_s = made_s = loop.time()
    while not writer.is_closing():
        group = b""
        for _ in range(at_once):
            number += 1
            group += b'id: %d\ndata: {"ts":%d,"text":"%s"}\n\n' % (number, time.time_ns(), TEXT.encode())
        writer.write(b"%x\r\n%b\r\n" % (len(group), group) if chunked else group)
        await writer.drain()
        # From now, not from a schedule: a source that was late must not make up for it in a bunch.
        wait_s = every_s * pace.uniform(1 - VARIES, 1 + VARIES)
        if tick_s is not None:
            made_s += wait_s
            wait_s = began_s + math.ceil((made_s - began_s) / tick_s) * tick_s - loop.time()
        await asyncio.sleep(max(0.0, wait_s))


async def _by_timer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, every_s: float) -> None:
    held = bytearray()
    ended = False

    async def take() -> None:
        nonlocal ended
        while data := await reader.read(65_536):
            held.extend(data)
        ended = True

    taking = asyncio.create_task(take())
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        while not ended:
            # Ticks of a schedule, as tickers keep to it: one that was late does not move the next.
            await asyncio.sleep(every_s - (loop.time() - began_s) % every_s)
            writer.write(bytes(held))
            held.clear()
            await writer.drain()
    finally:
        taking.cancel()


async def _from_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after_s: float) -> None:
    """The first byte held starts the timer, as in Go's reverse proxy."""
    loop = asyncio.get_running_loop()
    while held := await reader.read(65_536):
        until_s = loop.time() + after_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                while data := await reader.read(65_536):
                    held += data
        writer.write(held)
        await writer.drain()


async def _by_size(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    # The head passes: a buffer that holds it back is another defect (T02).
    writer.write(await reader.readuntil(b"\r\n\r\n"))
    held = bytearray()
    while data := await reader.read(65_536):
        held += data
        while len(held) >= size:
            writer.write(held[:size])
            del held[:size]
            await writer.drain()
    writer.write(held)


async def _one_behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: float) -> None:
    held = await reader.readuntil(b"\r\n\r\n")
    while data := await reader.read(65_536):
        writer.write(held)
        held = data
        await writer.drain()
    writer.write(held)


def _relay(
    upstream: int,
    hold: Callable[[asyncio.StreamReader, asyncio.StreamWriter, float], Awaitable[None]],
    by: float,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        back, there = await asyncio.open_connection("127.0.0.1", upstream)
        try:
            there.write(request)
            await hold(back, writer, by)
        finally:
            there.close()

    return serve


def _closing(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        _SERVING.add(task)  # the loop alone keeps no task alive
        task.add_done_callback(_SERVING.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        with contextlib.suppress(OSError):
            writer.close()

    return served


async def _child() -> None:
    """Prints the ports by way, and serves until its standard input ends."""
    ports: dict[str, int] = {}

    async def listen(
        name: str, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        server = await asyncio.start_server(_closing(serve), "127.0.0.1", 0)
        ports[name] = server.sockets[0].getsockname()[1]

    await listen("direct", _serve_source)
    origin = ports["direct"]
    for name, every_s in TIMERS.items():
        await listen(name, _relay(origin, _by_timer, every_s))
    await listen(STARTED, _relay(origin, _from_the_first, 0.1))
    await listen(TICKING, functools.partial(_serve_source, tick_s=TICK_S))
    for name, size in SIZES.items():
        await listen(name, _relay(origin, _by_size, size))
    await listen(BEHIND, _relay(origin, _one_behind, 0))
    print(json.dumps(ports), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # what is still being served has no reader any more


# The parent: examines, judges, counts.


@contextlib.contextmanager
def ways(folder: Path) -> Iterator[dict[str, int]]:
    """The port of each way."""
    command = [sys.executable, __file__, "serve"]
    with contextlib.ExitStack() as parts:
        child = parts.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert child.stdin is not None
        assert child.stdout is not None
        parts.callback(child.stdin.close)
        ports: dict[str, int] = json.loads(child.stdout.readline())
        upstream = f"127.0.0.1:{ports['direct']}"
        for name, kind in HOPS.items():
            hop = Hop(kind, upstreams=[upstream], folder=folder / kind, say=lambda _: None)
            ports[name] = parts.enter_context(hop).port
        server = Server(install(print), say=lambda _: None)
        parts.callback(server.close)
        leased = parts.enter_context(PortLease(len(TOXICS)))
        for (name, toxic), port in zip(TOXICS.items(), leased.ports, strict=True):
            server.client.create(toxic.name, listen=f"127.0.0.1:{port}", upstream=upstream, enabled=True)
            server.client.add_toxic(toxic.name, toxic)
            ports[name] = port
        yield ports


def without_clock(capture: Capture) -> Capture:
    """The same bytes at the same instants from a sender that does not say when it sent them."""
    probes = [replace(each, received=each.received.replace(b'"ts":', b'"xx":')) for each in capture.probes]
    return replace(capture, probes=probes)


class Answer(NamedTuple):
    """What the checks of buffering say: B04 without the clock, the others with it; and how the bursts lie."""

    verdicts: dict[str, str]
    alignment: float | None
    """None of fewer bursts than anybody is accused on."""
    variation: float | None


def examined(way: str, source: Source, port: int) -> Answer:
    """One examination."""
    every_s = source.every_s / 4 if way in FASTER and source.every_s < 1 else source.every_s
    url = f"http://127.0.0.1:{port}/{source.at_once}/{every_s}"
    capture = examine(CheckRequest(url=url), {}, lambda _: None)
    clocked = {each.id: each.verdict for each in judge_capture(capture, only=["B"]).findings}
    bare = {each.id: each.verdict for each in judge_capture(without_clock(capture), only=["B"]).findings}
    flow = flow_of(Case(capture).main)
    alignment = flow.alignment if flow.judged >= ACCUSED_BURSTS else None
    return Answer({**clocked, "B04": bare["B04"]}, alignment, flow.variation)


def cell(counts: Counter[str]) -> str:
    """Verdicts of one check: only those that say something."""
    said = [f"{counts[each]} {each}" for each in ("fail", "warn", "unknown") if counts[each]]
    return ", ".join(said) or "-"


def span(values: list[float]) -> str:
    """Least and most."""
    return f"{min(values):.0%} to {max(values):.0%}" if values else "-"


def main(runs: int, *, write: bool) -> int:
    """Examines everything, prints the table; the exit code."""
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        ports = parts.enter_context(ways(folder))
        pool = parts.enter_context(ThreadPoolExecutor(SIDE_BY_SIDE))
        # The runs of one cell lie apart, so that a busy moment of this machine does not hit all of them.
        jobs = [
            (way, source, pool.submit(examined, way, source, ports[way]))
            for _ in range(runs)
            for way in WAYS
            for source in SOURCES
        ]
        found: dict[tuple[str, str], dict[str, Counter[str]]] = {}
        accused: Counter[tuple[str, str]] = Counter()
        ending: dict[tuple[str, str], list[float]] = {}
        spacing: dict[tuple[str, str], list[float]] = {}
        for way, source, job in jobs:
            answer, alignment, variation = job.result()
            if alignment is not None:
                ending.setdefault((way, source.name), []).append(alignment)
            if variation is not None:
                spacing.setdefault((way, source.name), []).append(variation)
            counts = found.setdefault((way, source.name), {check: Counter() for check in CHECKS})
            for check in CHECKS:
                counts[check][answer[check]] += 1
            said = {check for check in CHECKS if answer[check] in {"fail", "warn"}}
            fails = {check for check in CHECKS if answer[check] == "fail"}
            right = said & FINDS[way] if way in FINDS else fails
            accused[way, source.name] += bool(right)
    rows = [
        [
            way,
            source,
            f"{accused[way, source]} of {runs}",
            span(ending.get((way, source), [])),
            span(spacing.get((way, source), [])),
            *(cell(counts[check]) for check in CHECKS),
        ]
        for (way, source), counts in found.items()
    ]
    text = evidence.table(
        ("way", "source", "found or accused", "end between events", "spacing varies by", *CHECKS), rows
    )
    print(text)
    wrong = [
        f"{way}, {source}: accused" for (way, source), count in accused.items() if way not in FINDS and count
    ]
    wrong += [f"{way}: never found" for way in FINDS if not any(accused[way, each.name] for each in SOURCES)]
    wrong += [
        f"{way}, {source}: {check} fails"
        for (way, source), counts in found.items()
        for check in CHECKS
        if counts[check]["fail"] and way in FINDS and check not in FINDS[way]
    ]
    print(f"\n{len(wrong)} wrong.", *wrong, sep="\n")
    if write:
        evidence.write("buffering", f"{runs} runs a row.\n\n{text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_child())
    else:
        given = [each for each in sys.argv[1:] if each.isdigit()]
        sys.exit(main(int(given[0]) if given else RUNS, write="--write" in sys.argv[1:]))
