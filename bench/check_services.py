"""`sseproof check` against real services and real hops: what it finds, and whether that is right.

Each service of bench/services and our own reference server is examined direct and behind nginx: with its defaults, with
the five settings of sse.conf, with gzip forced on, with a read time-out of 5 s, and with a cache that ignores what the
service says. Flask under four sync workers of gunicorn is examined with eight streams at once and watched for 40 s.
Nothing but loopback is contacted once they are set up.

    python bench/check_services.py FOLDER [--write]   # FOLDER has the set-up of `make check-real`

What must be found is in `expected`: exit code 1 when something else was. `--write` puts the table into
docs/check-evidence.md.
"""

import contextlib
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import evidence

from sseproof.chaos.hop_config import HopKind
from sseproof.chaos.hops import Hop
from sseproof.chaos.processes import Child
from sseproof.loadtests.examination import CheckRequest, examine
from sseproof.reports.endpoint.judge import judge_capture
from sseproof.reports.endpoint.model import CheckReport, Finding

HERE: Final = Path(__file__).resolve().parent / "services"
START_LIMIT_S: Final = 30.0
SIDE_BY_SIDE: Final = 6
"""Examinations at once: nearly all of their time is spent waiting."""
WATCHED_S: Final = 40.0
BUFFERING: Final = frozenset({"B01", "B02"})
CACHED: Final = frozenset({"H04"})
CLOSED: Final = frozenset({"T06", "T08"})

WAYS: Final[dict[str, HopKind | None]] = {
    "direct": None,
    "nginx, its defaults": "nginx-plain",
    "nginx, sse.conf": "nginx-sse",
    "nginx, gzip on": "nginx-defaults",
    "nginx, read time-out 5 s": "nginx-timeout",
    "nginx, caching": "nginx-cache",
}


class Service(NamedTuple):
    """One service: how it starts, and where its streams are."""

    name: str
    command: Sequence[str]
    steady: str = "/stream"
    quiet: str = "/stream?quiet=1"
    unbuffered: bool = False
    """It sends X-Accel-Buffering: no, which nginx obeys by default."""
    endless: bool = False
    """Its streams are a topic that goes on, no answer."""


class Seen(NamedTuple):
    """One examination, and what is wrong with its findings."""

    service: str
    way: str
    report: CheckReport
    wrong: list[str]


def services(folder: Path) -> list[Service]:
    """Those that are examined behind nginx."""
    python, reference = folder / "python" / "bin", [sys.executable, "-m", "sseproof", "serve", "--port", "0"]
    ask = "script=long&sent_at=true&first_token_ms=0"
    steady, quiet = f"{ask}&events=1500&interval_ms=8", f"{ask}&events=20&interval_ms=7000"
    chat = "/api/v1/stream/chat"
    uvicorn = [str(python / "uvicorn"), "--app-dir", str(HERE), "--port", "0", "starlette_service:app"]
    return [
        Service("reference server", reference, f"{chat}?{steady}", f"{chat}?{quiet}", unbuffered=True),
        Service("sse-starlette, uvicorn", uvicorn, unbuffered=True),
        Service("better-sse, Node", ["node", str(folder / "node" / "better_sse.js")], unbuffered=True),
        Service(
            "r3labs/sse, Go",
            [str(folder / "r3labs")],
            "/stream?stream=steady",
            "/stream?stream=quiet",
            endless=True,
        ),
    ]


def flask(folder: Path) -> Service:
    """Four workers, each of which serves one stream and is killed after 30 s of it."""
    gunicorn = str(folder / "python" / "bin" / "gunicorn")
    return Service(
        "Flask, gunicorn -w 4",
        [gunicorn, "--chdir", str(HERE), "-w", "4", "-b", "127.0.0.1:0", "flask_service:app"],
    )


@contextlib.contextmanager
def running(service: Service) -> Iterator[int]:
    """Starts it; gives its port, which is the first that it names."""
    ports: list[int] = []
    told = threading.Event()

    def hear(line: str) -> None:
        found = re.search(r"(?:127\.0\.0\.1:|^)(\d{4,5})\b", line)
        if found and not told.is_set():
            ports.append(int(found[1]))
            told.set()

    child = Child(service.name, list(service.command), say=lambda _: None, on_line=hear, process_group=True)
    try:
        if not told.wait(START_LIMIT_S):
            sys.exit(f"{service.name} did not say its port within {START_LIMIT_S:g} s: {child.last_line}")
        yield ports[0]
    finally:
        child.end()


def accused(report: CheckReport) -> dict[str, Finding]:
    """The findings that fail, by id."""
    return {finding.id: finding for finding in report.findings if finding.verdict == "fail"}


def named(found: dict[str, Finding], ids: frozenset[str], fix: str) -> list[str]:
    """What is missing when none of these ids fails, or none with this fix."""
    fitting = [each for check, each in found.items() if check in ids]
    if not fitting:
        return [f"none of {', '.join(sorted(ids))} fails"]
    return [] if any(fix in each.fix for each in fitting) else [f"no fix says {fix}: {fitting[0].fix}"]


def expected(service: Service, way: str, report: CheckReport) -> list[str]:
    """How the findings differ from what they have to be."""
    found = accused(report)
    may: frozenset[str] = frozenset()
    wrong: list[str] = []
    if way == "nginx, its defaults" and not service.unbuffered:
        may, wrong = BUFFERING, named(found, BUFFERING, "proxy_buffering off")
    elif way == "nginx, gzip on":
        # Where the service forbids buffering, nginx flushes its compressor too: compressed, and in time.
        may = BUFFERING | {"B06", "H05", "H07"}
        if not service.unbuffered:
            wrong = named(found, frozenset({"B06"}), "gzip off")
        elif not any(each.id == "H07" and each.verdict in {"fail", "warn"} for each in report.findings):
            wrong = ["H07 says nothing of compression"]
    elif way == "nginx, read time-out 5 s":
        may, wrong = CLOSED, named(found, CLOSED, "proxy_read_timeout")
    elif way == "nginx, caching":
        # A topic without an end is never whole, and so never kept. A kept answer ignores the id that comes back.
        may = BUFFERING | {"H04", "R01"}
        ids, fix = (BUFFERING, "proxy_buffering off") if service.endless else (CACHED, "proxy_cache off")
        wrong = named(found, ids, fix)
    return wrong + [f"{check} fails: {each.sentence}" for check, each in found.items() if check not in may]


def look(service: Service, port: int, way: str) -> Seen:
    """Examines one service by one way."""
    quiet = way == "nginx, read time-out 5 s"
    url = f"http://127.0.0.1:{port}{service.quiet if quiet else service.steady}"
    report = judge_capture(examine(CheckRequest(url=url), {}, lambda _: None))
    return Seen(service.name, way, report, expected(service, way, report))


def look_at_flask(service: Service, port: int) -> Seen:
    """Eight at once, and one watched for longer than a worker lives."""
    asked = CheckRequest(
        url=f"http://127.0.0.1:{port}{service.steady}", parallel=True, idle_s=WATCHED_S, look_s=12
    )
    report = judge_capture(examine(asked, {}, lambda _: None))
    found = accused(report)
    wrong = named(found, frozenset({"K01"}), "worker") + named(found, CLOSED, "asynchronous worker class")
    if "K01" in found and "4 of 8" not in found["K01"].sentence:
        wrong.append(f"K01 does not say four of eight: {found['K01'].sentence}")
    if "T06" in found and "30 s" not in found["T06"].sentence:
        wrong.append(f"T06 does not say 30 s: {found['T06'].sentence}")
    wrong += [
        f"{check} fails: {each.sentence}"
        for check, each in found.items()
        if check not in {"K01", "T06", "T08"}
    ]
    return Seen(service.name, "direct, --parallel --idle 40", report, wrong)


def cell(seen: Seen) -> list[str]:
    """One row of the table."""
    found = accused(seen.report)
    warned = [each.id for each in seen.report.findings if each.verdict == "warn"]
    fixes = " ".join(f"{check}: {each.fix}" for check, each in found.items())
    return [seen.service, seen.way, " ".join(found) or "-", " ".join(warned) or "-", fixes or "-"]


def main(folder: Path, *, write: bool) -> int:
    """Examines all, prints the table; the exit code."""
    jobs = []
    with contextlib.ExitStack() as parts:
        place = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o755)
        pool = parts.enter_context(ThreadPoolExecutor(SIDE_BY_SIDE))
        stuck = flask(folder)
        starting = [
            (service, parts.enter_context(running(service))) for service in [stuck, *services(folder)]
        ]
        jobs.append(pool.submit(look_at_flask, *starting[0]))
        for service, port in starting[1:]:
            for way, kind in WAYS.items():
                through = port
                if kind is not None:
                    name = f"{service.name}-{kind}".replace(" ", "-").replace("/", "-")
                    hop = Hop(kind, upstreams=[f"127.0.0.1:{port}"], folder=place / name, say=lambda _: None)
                    through = parts.enter_context(hop).port
                jobs.append(pool.submit(look, service, through, way))
        seen = [job.result() for job in jobs]
    text = evidence.table(
        ("service", "way", "fails", "warns", "fix of what fails"),
        [cell(each) for each in [*seen[1:], seen[0]]],
    )
    print(text)
    wrong = [f"{each.service}, {each.way}: {'; '.join(each.wrong)}" for each in seen if each.wrong]
    print(f"\n{len(seen) - len(wrong)} of {len(seen)} as they have to be.", *wrong, sep="\n")
    if write and not wrong:
        evidence.write("services", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), write="--write" in sys.argv[2:]))
