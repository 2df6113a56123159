"""Run directories that look like real ones, for the report: seeded, written by the real Appender, of any size.

Two variants (a fragile one before, a sound one after) under the same planned faults, or one without faults.
"""

import random
from pathlib import Path
from typing import Any

from msgspec import Raw

from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reports.claims import gap_edges, parse_claims
from sseproof.rundir.files import (
    BREAKS,
    FAULTS,
    GENERATOR,
    PLAN_NAME,
    ROW_FILES,
    RUN_NAME,
    STARTS,
    STREAMS,
    Appender,
    create_with_header,
    write_document,
)
from sseproof.rundir.rows import (
    Attempt,
    BreakRow,
    FaultRow,
    Gaps,
    GeneratorRow,
    Instant,
    Plan,
    PlannedClaim,
    RunInfo,
    StartRow,
    StreamRecord,
    VariantPlan,
)
from sseproof.rundir.units import Duration, to_raw

T0 = 1_790_000_000_000_000_000
MS = 1_000_000
S = 1_000 * MS
RUN = "20260921T141320.000000Z-7"
CLAIMS = (
    "success >= 98%",
    "ttft p95 <= 1s in group clean",
    "gap p99 <= 250ms in group clean",
    "reconnect p95 < 1s",
    "recovery = 100%",
    "lost = 0",
    "utf8 = 100%",
)
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \u202eevil\u202c مرحبا بالعالم {{ 7*7 }} &amp;"
)


def at(ms: float, error_ms: float = 0.02) -> Instant:
    """A moment of the run with a small error."""
    return Instant(T0 + round(ms * MS), round(error_ms * MS), round(error_ms * MS))


class Maker:
    """Writes one run directory."""

    def __init__(self, directory: Path, *, seed: int = 7, hostile: bool = False) -> None:
        self.directory = directory
        self.rng = random.Random(seed)
        self.hostile = hostile
        self.edges = gap_edges(parse_claims(CLAIMS))
        self._open: dict[str, Appender[Any]] = {}
        for file in ROW_FILES:
            create_with_header(directory / file.name, file.schema, RUN)

    def append(self, file: Any, row: Any) -> None:
        if file.name not in self._open:
            self._open[file.name] = Appender(self.directory, file, RUN)
        self._open[file.name].append(row)

    def documents(
        self,
        variants: list[str | None],
        *,
        claims: tuple[str, ...] = CLAIMS,
        length_s: float,
        how: str = "finished",
    ) -> None:
        bad = HOSTILE if self.hostile else ""
        plan = Plan(
            run=RUN,
            scenario=f"release-check{bad}",
            seed=7,
            created_ns=T0 - S,
            claims=[PlannedClaim(text=claim.text, unit=claim.unit) for claim in parse_claims(claims)],
            gap_edges_ns=self.edges,
            faults=Raw(b"null"),
            variants=[
                VariantPlan(
                    name=name,
                    judged=name in {None, variants[-1]},
                    target=to_raw(
                        Target(
                            url=f"http://127.0.0.1:8765/api/v1/stream/chat{bad}",
                            terminal="event:done",
                            sequence="id",
                            text="json:text",
                        )
                    ),
                    load=to_raw(Load(users=50, duration=Duration(round(length_s * S)))),
                    client=to_raw(Client(profile="legacy" if name == "before" else "resilient")),
                )
                for name in variants
            ],
        )
        write_document(self.directory / PLAN_NAME, plan)
        running = how == "running"
        info = RunInfo(
            run=RUN,
            started_ns=T0 - S // 2,
            ended_ns=None if running else T0 + round((length_s + 4) * S),
            how=how,  # type: ignore[arg-type]  # tests name it
            command=["sseproof", "run", "demo.toml", "--seed", "7", *([bad] if bad else [])],
            versions={
                "sseproof": "0.1.0",
                "python": "3.11.9",
                "toxiproxy": "2.12.0 sseproof-3",
                "kernel": "6.8.0",
            },
            host={"cpus": "2", "memory": "8 GiB", "system": "Linux"},
            labels={"commit": "e056604", **({bad: bad} if bad else {})},
        )
        write_document(self.directory / RUN_NAME, info)

    # streams ------------------------------------------------------------------------------------------------------------

    def gaps(self, count: int, slow: bool) -> Gaps:
        buckets = [0] * (len(self.edges) + 1)
        longest = total = 0
        for _ in range(count):
            gap = round(self.rng.lognormvariate(3.4, 0.35) * MS)
            if slow and self.rng.random() < 0.06:
                gap = round(self.rng.uniform(300, 900) * MS)
            total += gap
            longest = max(longest, gap)
            buckets[next((i for i, edge in enumerate(self.edges) if gap <= edge), len(self.edges))] += 1
        while buckets and not buckets[-1]:
            buckets.pop()
        return Gaps(
            count=count, longest_lo_ns=longest, longest_hi_ns=longest, sum_ns=total, lo=buckets, hi=buckets
        )

    def stream(
        self, number: int, start_ms: float, variant: str | None, group: str, *, slow_until_ms: float = 0
    ) -> None:
        rng = self.rng
        legacy = variant == "before"
        sent = start_ms + rng.uniform(0.3, 1.2)
        wait = rng.lognormvariate(4.4, 0.25) * (4 if legacy else 1)
        if start_ms < slow_until_ms and group == "slow":
            wait += 2_000
        first = sent + wait
        events = rng.randint(30, 60)
        length = events * rng.uniform(28, 36)
        record = StreamRecord(
            stream=number,
            variant=variant,
            group=group,
            dispatched=at(start_ms),
            intended=None,
            sent=at(sent),
            headers=at(first - 2),
            first_byte=at(first - 1),
            first_event=at(first),
            first_token=at(first + 0.1),
            last_event=at(first + length),
            last_token=at(first + length),
            ended=at(first + length + 1),
            outcome="complete",
            end="terminal",
            events=events,
            tokens=events - 2,
            ids=[(1, events)],
            lost=0,
            doubled=0,
            reordered=0,
            attempts_total=1,
            gaps=self.gaps(min(events, 20), legacy),
        )
        whole = self.attempt(1, start_ms, sent, first, first + length, "terminal")
        record.attempts = [whole]
        self.append(
            STARTS,
            StartRow(stream=number, variant=variant, group=group, dispatched=record.dispatched),
        )
        if group.startswith("cut"):
            self._cut(record, first, length, legacy=legacy)
        elif legacy and rng.random() < 0.05:
            record.defects, record.fffd = {"ill-formed-utf8": 2}, 2
        if self.hostile:
            record.detail, record.group = HOSTILE, f"{group}{HOSTILE}"
        self.append(STREAMS, record)

    def _cut(self, record: StreamRecord, first: float, length: float, *, legacy: bool) -> None:
        rng = self.rng
        end = "rst" if record.group == "cut-rst" else "fin"
        seen = first + length * rng.uniform(0.2, 0.8)
        record.attempts = [self.attempt(1, record.dispatched.ns / MS - T0 / MS, first - 80, first, seen, end)]
        record.breaks = 1
        row = BreakRow(
            stream=record.stream,
            number=1,
            variant=record.variant,
            group=record.group,
            attempt=1,
            seen=at(seen),
            end=end,
            waits_ns=[round(rng.uniform(80, 160) * MS)],
            attempts=1,
        )
        if legacy:
            record.outcome, record.end = "cut", end
            record.ended = record.last_event = at(seen)
            row.waits_ns, row.attempts, row.gave_up = [], 0, "no retry"
        else:
            back = seen + row.waits_ns[0] / MS
            new = back + rng.lognormvariate(3.9, 0.5)
            row.connected, row.sent, row.first_new, row.resumed = at(back + 1), at(back + 2), at(new), True
            record.attempts.append(self.attempt(2, back, back + 2, new, new + length / 2, "terminal"))
            record.attempts_total = 2
            record.ended = record.last_event = at(new + length / 2)
            if rng.random() < 0.01:
                record.outcome, record.end = "cut", "refused"
        self.append(BREAKS, row)

    @staticmethod
    def attempt(number: int, start: float, sent: float, first: float, last: float, end: str) -> Attempt:
        return Attempt(
            number=number,
            address="127.0.0.1:21001",
            started=at(start),
            connected=at(start + 0.2),
            sent=at(max(sent, start + 0.3)),
            headers=at(first - 1),
            first_byte=at(first - 0.5),
            first_event=at(first),
            first_token=at(first),
            last_event=at(last),
            ended=at(last + 0.5),
            end=end,  # type: ignore[arg-type]  # tests name it
            status=200,
        )

    def fault(
        self, name: str, kind: str, group: str, since_s: float, until_s: float, variant: str | None = None
    ) -> None:
        bad = HOSTILE if self.hostile else ""
        told: dict[str, Any] = {
            "fault": name + bad,
            "kind": kind + bad,
            "group": group + bad,
            "variant": variant,
        }
        since, until = T0 + round(since_s * S), T0 + round(until_s * S)
        self.append(FAULTS, FaultRow(at_ns=since, step="intent", **told))
        self.append(
            FAULTS,
            FaultRow(
                at_ns=since,
                step="applied",
                ok=True,
                call_sent_ns=since,
                call_answered_ns=since + 2 * MS,
                **told,
            ),
        )
        self.append(
            FAULTS,
            FaultRow(
                at_ns=until,
                step="healed",
                ok=True,
                call_sent_ns=until,
                call_answered_ns=until + 2 * MS,
                **told,
            ),
        )

    def generator(self, length_s: float, variant: str | None) -> None:
        rng = self.rng
        for second in range(int(length_s) + 3):
            self.append(
                GENERATOR,
                GeneratorRow(
                    at_ns=T0 + (second + 1) * S,
                    worker=0,
                    variant=variant,
                    interval_ns=S,
                    open_streams=50,
                    reads=1_500,
                    events=1_600,
                    coalesced_reads=rng.randint(0, 30),
                    read_lag_p50_ns=round(rng.uniform(0.1, 0.3) * MS),
                    read_lag_p99_ns=round(rng.lognormvariate(0.8, 0.5) * MS),
                    read_lag_max_ns=round(rng.lognormvariate(1.5, 0.5) * MS),
                    dispatch_lag_p99_ns=round(rng.lognormvariate(-0.5, 0.4) * MS),
                    dispatch_lag_max_ns=round(rng.lognormvariate(0.5, 0.4) * MS),
                    loop_lag_max_ns=round(rng.lognormvariate(1.8, 0.6) * MS),
                    cpu_share=rng.uniform(0.2, 0.5),
                    run_queue_share=rng.uniform(0.0, 0.04),
                ),
            )

    def close(self) -> None:
        for appender in self._open.values():
            appender.close()


GROUPS = ("clean", "clean", "cut-fin", "cut-rst", "slow", "clean")


def two_variants(directory: Path, streams: int = 420, *, hostile: bool = False) -> Path:
    """Before and after, each with so many streams, under cuts, slow first bytes and a stall."""
    maker = Maker(directory, hostile=hostile)
    length_s = 30.0
    for variant in ("before", "after"):
        for number in range(streams):
            start = number * length_s * 1_000 / streams
            maker.stream(number, start, variant, GROUPS[number % len(GROUPS)], slow_until_ms=16_000)
        for name, kind, group, since, until in (
            ("f1", "cut", "cut-fin", 0.0, length_s + 3),
            ("f2", "cut", "cut-rst", 0.0, length_s + 3),
            ("f3", "slow-first-byte", "slow", 0.0, 16.0),
        ):
            maker.fault(f"{name}-{variant}", kind, group, since, until, variant)
        maker.generator(length_s, variant)
    maker.documents(["before", "after"], length_s=length_s)
    maker.close()
    return directory


def one_variant(
    directory: Path, streams: int = 300, *, faults: bool = True, length_s: float = 30.0, hostile: bool = False
) -> Path:
    """A run without variants."""
    maker = Maker(directory, hostile=hostile)
    for number in range(streams):
        group = GROUPS[number % len(GROUPS)] if faults else "clean"
        start = number * length_s * 1_000 / max(streams, 1)
        maker.stream(number, start, None, group, slow_until_ms=length_s * 500)
    if faults:
        maker.fault("f1", "cut", "cut-fin", 2.0, 12.0)
        maker.fault("f2", "cut", "cut-rst", 8.0, 20.0)
        maker.fault("f3", "slow-first-byte", "slow", 5.0, length_s / 2)
    if streams:
        maker.generator(length_s, None)
    maker.documents([None], length_s=length_s)
    maker.close()
    return directory


def crowded(directory: Path) -> Path:
    """Everything at once: four variants, long names, many faults and ends, starts without an end, drops."""
    maker = Maker(directory)
    variants = ["a baseline with a rather long variant name", "b", "c", "after"]
    ends = ("dns", "tls", "status", "protocol", "too-big", "idle-timeout", "inband-error", "content-type")
    for variant in variants:
        for number in range(80):
            maker.stream(number, number * 300.0, variant, GROUPS[number % len(GROUPS)], slow_until_ms=9_000)
        for number in range(80, 100):
            maker.append(
                STREAMS, _failed(number, variant, at(number * 10), "unreachable", "refused", group="g" * 200)
            )
        for number in range(100, 110):
            maker.append(STARTS, StartRow(stream=number, variant=variant, dispatched=at(5_000)))
        for number in range(110, 112):
            maker.append(STARTS, StartRow(stream=number, variant=variant, dropped=True))
        for number, end in enumerate(ends, start=200):
            maker.append(STREAMS, _failed(number, variant, at(number), "error-http", end, group=None))
    for number in range(40):
        kind = f"stall-{number}-{'y' * 60}"
        maker.fault(f"f{number}", kind, f"group-{number}", number * 0.6, number * 0.6 + 2)
    for number in range(10):
        maker.fault(f"r{number}", "refuse", "clean", number * 2.0, number * 2 + 0.5, "after")
    maker.generator(30, "after")
    maker.documents(list(variants), length_s=30)
    maker.close()
    return directory


def _failed(
    number: int, variant: str, when: Instant, outcome: Any, end: Any, *, group: str | None
) -> StreamRecord:
    """A stream of one attempt in which nothing came."""
    attempt = Attempt(number=1, address="127.0.0.1:1", started=when, ended=when, end=end)
    return StreamRecord(
        stream=number,
        variant=variant,
        group=group,
        dispatched=when,
        ended=when,
        outcome=outcome,
        end=end,
        attempts=[attempt],
        attempts_total=1,
        detail="x" * 5_000,
    )
