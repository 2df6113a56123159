"""Run directories of any size with rows as full as a real run's: for what the judging of many streams takes.

Two variants under cuts, resets, slow first bytes and refusals, each answer witnessed by the server: texts, numbers, gaps and
attempts as the demo's are, brackets mostly of width 0. Seeded: the same call gives the same bytes. Rows are written in
pieces of a thousand, since a hundred thousand appends would take longer than judging them.
"""

import random
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from sseproof.reference_server.script import Script, spec_for
from sseproof.rundir.files import BREAKS, GENERATOR, STARTS, STREAMS, WITNESS, RowFile
from sseproof.rundir.rows import (
    Attempt,
    BreakRow,
    Gaps,
    GeneratorRow,
    Instant,
    ScriptSpec,
    StartRow,
    StreamRecord,
    WitnessRow,
)
from tests.reports.made_runs import CLAIMS, MS, RUN, T0, Maker, S

EVENTS: Final = 60
SCRIPTS: Final = 400
GROUPS: Final = ("clean", "clean", "cut-fin", "cut-rst", "slow", "refused", "clean", "slice")
_PIECE: Final = 1_000
_PACE_MS: Final = 33.0


class Answer(msgspec.Struct):
    """A scripted answer and what a user who got all of it has."""

    spec: ScriptSpec
    chars: int
    size_bytes: int
    digest: str


def answers() -> list[Answer]:
    found = []
    for seed in range(SCRIPTS):
        spec = spec_for("mixed", seed, events=EVENTS)
        text = Script(spec).full_text()
        found.append(Answer(spec, len(text), len(text.encode()), sha256(text.encode()).hexdigest()))
    return found


def large_run(
    directory: Path, streams: int, *, seed: int = 7, witnessed: bool = True, length_s: float = 300.0
) -> Path:
    """A run of so many streams, half of them before and half after."""
    maker = Maker(directory, seed=seed)
    rng = random.Random(seed)
    scripts = answers()
    each = streams // 2
    for variant in ("before", "after"):
        rows = _Rows(directory)
        for number in range(each):
            _stream(
                rows, rng, scripts, maker.edges, variant, number, number * length_s * 1_000 / each, witnessed
            )
        for second in range(int(length_s)):
            rows.add(GENERATOR, _second(rng, second, variant, each / length_s))
        rows.close()
        for name, kind, group, since, until in (
            ("f1", "cut", "cut-fin", 0.0, length_s + 3),
            ("f2", "cut", "cut-rst", 0.0, length_s + 3),
            ("f3", "slow-first-byte", "slow", 0.0, length_s / 2),
            ("f4", "refused", "refused", length_s / 3, length_s / 3 + 5),
        ):
            maker.fault(f"{name}-{variant}", kind, group, since, until, variant)
    maker.documents(["before", "after"], claims=CLAIMS, length_s=length_s)
    maker.close()
    return directory


class _Rows:
    """Rows of several files, written a piece at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: dict[str, list[bytes]] = {}
        self._encode = msgspec.json.Encoder().encode

    def add(self, file: RowFile[Any], row: Any) -> None:
        lines = self._waiting.setdefault(file.name, [])
        lines.append(self._encode(row))
        if len(lines) >= _PIECE:
            self._write(file.name, lines)

    def _write(self, name: str, lines: list[bytes]) -> None:
        with (self._directory / name).open("ab") as file:
            file.write(b"\n".join([*lines, b""]))
        lines.clear()

    def close(self) -> None:
        for name, lines in self._waiting.items():
            self._write(name, lines)


def _at(ms: float, before_ns: int = 0, after_ns: int = 0) -> Instant:
    return Instant(T0 + round(ms * MS), before_ns, after_ns)


def _stream(
    rows: _Rows,
    rng: random.Random,
    scripts: list[Answer],
    edges: list[int],
    variant: str,
    number: int,
    start_ms: float,
    witnessed: bool,
) -> None:
    legacy = variant == "before"
    group = GROUPS[number % len(GROUPS)]
    answer = scripts[number % len(scripts)]
    sent_ms = start_ms + rng.uniform(0.3, 2.0)
    first_ms = (
        sent_ms + rng.lognormvariate(4.4, 0.25) * (4 if legacy else 1) + (600 if group == "slow" else 0)
    )
    last_ms = first_ms + EVENTS * rng.uniform(_PACE_MS, _PACE_MS * 1.3)
    late = rng.random() < 0.2
    error_ns = rng.randint(20_000, 400_000) if late else 0
    truth_id = f"{RUN}/{variant}/{number}"
    worker = number % 2
    first = _attempt(rng, 1, start_ms, sent_ms, first_ms, last_ms, "terminal", error_ns)
    record = StreamRecord(
        stream=number, worker=worker, name="/api/v1/stream/chat", variant=variant, group=group,
        dispatched=_at(start_ms), sent=first.sent, headers=first.headers, first_byte=first.first_byte,
        first_event=first.first_event, first_token=_at(first_ms + 30), last_token=_at(last_ms - 40),
        last_event=first.last_event, ended=first.ended, outcome="complete", end="terminal", status=200,
        attempts=[first], attempts_total=1, events=EVENTS + 2, tokens=EVENTS, body_bytes=4_477,
        ids=[] if legacy else [(1, EVENTS + 2)], gaps=_gaps(rng, edges), stale_ns=0,
        text_chars=answer.chars, text_bytes=answer.size_bytes, text_sha256=answer.digest,
        truth_id=truth_id if witnessed else None, proxy_queue_ns=6_000_000,
    )  # fmt: skip
    if not legacy:
        record.lost = record.doubled = record.reordered = 0
    rows.add(
        STARTS,
        StartRow(
            stream=number, worker=worker, name=record.name, variant=variant, group=group,
            dispatched=record.dispatched,
        ),
    )  # fmt: skip
    written = [(1, EVENTS + 2)]
    if group.startswith("cut") or (group == "refused" and rng.random() < 0.05):
        written = [(1, EVENTS // 2)]
        _break(rows, rng, record, first_ms, last_ms, legacy=legacy)
    elif legacy and rng.random() < 0.05:
        record.defects, record.fffd, record.text_sha256 = {"ill-formed-utf8": 2}, 2, "0" * 64
    rows.add(STREAMS, record)
    if witnessed:
        for connection, ranges in enumerate(
            [written] if legacy or len(record.attempts) == 1 else [written, [(31, 62)]]
        ):
            rows.add(WITNESS, _witness(record, answer, connection + 1, ranges, legacy=legacy))


def _attempt(
    rng: random.Random,
    number: int,
    start: float,
    sent: float,
    first: float,
    last: float,
    end: Any,
    error_ns: int,
) -> Attempt:
    return Attempt(
        number=number, address=f"127.0.0.1:{20_360 + number}", local_port=rng.randint(32_768, 60_000),
        started=_at(start), connected=_at(start + 0.2, error_ns), sent=_at(max(sent, start + 0.3), 0, error_ns),
        headers=_at(first - 2, error_ns), first_byte=_at(first - 1, error_ns), first_event=_at(first),
        first_token=_at(first + 30), last_event=_at(last, error_ns), ended=_at(last, error_ns), end=end,
        status=200, received_bytes=4_780, body_bytes=4_188, events=EVENTS, new_events=EVENTS, reads=50,
        coalesced_reads=1, read_lag_max_ns=rng.randint(100_000, 9_000_000),
    )  # fmt: skip


def _break(
    rows: _Rows, rng: random.Random, record: StreamRecord, first_ms: float, last_ms: float, *, legacy: bool
) -> None:
    end = "fin" if record.group == "cut-fin" else "rst"
    seen_ms = first_ms + (last_ms - first_ms) * rng.uniform(0.2, 0.8)
    begun = record.attempts[0]
    begun.end, begun.ended, begun.last_event = end, _at(seen_ms, 235_349), _at(seen_ms - 20)  # type: ignore[assignment]
    record.breaks = 1
    row = BreakRow(
        stream=record.stream, number=1, worker=record.worker, variant=record.variant, group=record.group,
        attempt=1, seen=begun.ended, end=begun.end, status=200, proxy_queue_ns=6_000_000,
    )  # fmt: skip
    if legacy:
        record.outcome, record.end = "cut", begun.end
        record.ended, record.last_event = begun.ended, begun.last_event
        record.text_chars, record.text_bytes, record.text_sha256 = 10, 10, "1" * 64
        row.gave_up = "no retry"
    else:
        back_ms = seen_ms + rng.uniform(300, 500)
        new_ms = back_ms + rng.lognormvariate(3.9, 0.5)
        row.waits_ns, row.attempts, row.resumed = [round((back_ms - seen_ms) * MS)], 1, True
        row.connected, row.sent, row.first_new = _at(back_ms + 1), _at(back_ms + 2, 0, 12_118), _at(new_ms)
        row.lost = row.doubled = 0
        again = _attempt(rng, 2, back_ms, back_ms + 2, new_ms, new_ms + (last_ms - seen_ms), "terminal", 0)
        again.last_event_id = f"882be9e65f99-{EVENTS // 2}"
        record.attempts.append(again)
        record.attempts_total = 2
        record.ended = record.last_event = again.ended
        if rng.random() < 0.01:
            record.outcome, record.end = "cut", "refused"
    rows.add(BREAKS, row)


def _gaps(rng: random.Random, edges: list[int]) -> Gaps:
    buckets = [0] * (len(edges) + 1)
    longest = round(rng.lognormvariate(4.2, 0.4) * MS)
    for gap, count in ((12 * MS, 10), (35 * MS, EVENTS - 12), (longest, 1)):
        buckets[next((i for i, edge in enumerate(edges) if gap <= edge), len(edges))] += count
    while not buckets[-1]:
        buckets.pop()
    return Gaps(
        count=EVENTS - 1,
        longest_lo_ns=longest,
        longest_hi_ns=longest,
        sum_ns=1_970_828_017,
        lo=buckets,
        hi=buckets,
    )


def _witness(
    record: StreamRecord, answer: Answer, connection: int, ranges: Any, *, legacy: bool
) -> WitnessRow:
    attempt = record.attempts[connection - 1]
    assert record.truth_id is not None
    return WitnessRow(
        run=RUN, truth_id=record.truth_id, connection=connection, profile="legacy" if legacy else "robust",
        path=record.name, script=answer.spec, meant_first=ranges[0][0], meant_last=EVENTS + 2, written=ranges,
        written_text_chars=answer.chars, written_bytes=2_937, accepted=attempt.started, first_write=attempt.headers,
        first_token_write=attempt.first_token, last_write=attempt.last_event, ended=attempt.ended, end="done",
        accept="text/event-stream", accept_encoding="gzip", user_agent="sseproof/0.1.0",
    )  # fmt: skip


def _second(rng: random.Random, second: int, variant: str, rate: float) -> GeneratorRow:
    return GeneratorRow(
        at_ns=T0 + (second + 1) * S, worker=second % 2, variant=variant, interval_ns=S,
        open_streams=round(rate * 2.5), started=round(rate), ended=round(rate), reads=round(rate * 50),
        events=round(rate * 60), coalesced_reads=rng.randint(0, 30),
        read_lag_p50_ns=round(rng.uniform(0.1, 0.3) * MS), read_lag_p99_ns=round(rng.lognormvariate(0.8, 0.5) * MS),
        read_lag_max_ns=round(rng.lognormvariate(1.5, 0.5) * MS),
        dispatch_lag_p99_ns=round(rng.lognormvariate(-0.5, 0.4) * MS),
        dispatch_lag_max_ns=round(rng.lognormvariate(0.5, 0.4) * MS),
        loop_lag_max_ns=round(rng.lognormvariate(1.8, 0.6) * MS),
        cpu_share=rng.uniform(0.2, 0.5), run_queue_share=rng.uniform(0.0, 0.04),
    )  # fmt: skip
