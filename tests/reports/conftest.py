"""Run directories with planted rows, written by the real Appender: the right answer of each is known beforehand."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reference_server.script import Script, spec_for
from sseproof.reports.claims import gap_edges, parse_claim
from sseproof.reports.judge import RunVerdict, judge_directory
from sseproof.reports.verdicts import Verdict
from sseproof.rundir.files import (
    BREAKS,
    FAULTS,
    GENERATOR,
    PLAN_NAME,
    ROW_FILES,
    RUN_NAME,
    STARTS,
    STREAMS,
    WITNESS,
    Appender,
    create_with_header,
    lines_of,
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
    ScriptSpec,
    StartRow,
    StreamRecord,
    VariantPlan,
    WitnessRow,
)
from sseproof.rundir.units import Duration, to_raw

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
S = 1_000 * MS
RUN = "20260101T000000.000000Z-7"


def at(ms: float, error_ms: float = 0.0) -> Instant:
    """A moment, in ms after the start of the run, with the same error to either side."""
    return Instant(T0 + round(ms * MS), round(error_ms * MS), round(error_ms * MS))


class RunBuilder:
    """One run directory in the making."""

    t0 = T0
    at = staticmethod(at)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plan = Plan(run=RUN, scenario="planted", seed=7, created_ns=T0)
        self.info = RunInfo(run=RUN, started_ns=T0, command=["sseproof", "run", "--seed", "7"])
        self._appenders: dict[str, Appender[Any]] = {}
        self._numbers = 0
        self.variant()

    # plan ---------------------------------------------------------------------------------------------------------

    def claims(self, *texts: str) -> "RunBuilder":
        parsed = [parse_claim(text) for text in texts]
        self.plan.claims = [PlannedClaim(text=claim.text, unit=claim.unit) for claim in parsed]
        self.plan.gap_edges_ns = gap_edges(parsed)
        return self

    def variant(self, name: str | None = None, *, judged: bool = True, **target: Any) -> None:
        """Adds a variant; the first call with a name replaces the unnamed one."""
        if name is not None and self.plan.variants and self.plan.variants[0].name is None:
            self.plan.variants = []
        told = {"terminal": "event:done", "sequence": "id", "text": "json:text", **target}
        self.plan.variants.append(
            VariantPlan(
                name=name,
                judged=judged,
                target=to_raw(Target(url="http://127.0.0.1:8765/api/v1/stream/chat", **told)),
                load=to_raw(Load(users=50, duration=Duration(10 * S))),
                client=to_raw(Client()),
            )
        )

    def read_as(self, **target: Any) -> None:
        """Replaces how the one variant's target is read."""
        self.plan.variants = []
        self.variant(None, **target)

    # rows ---------------------------------------------------------------------------------------------------------

    def stream(self, *, started: bool = True, start_ms: float = 0.0, **fields: Any) -> StreamRecord:
        """A healthy stream of 2 s with its first token after 86 ms, unless the fields say something else."""
        number = fields.pop("stream", None)
        if number is None:
            number = self._numbers
        self._numbers = max(self._numbers, number) + 1
        record = StreamRecord(
            stream=number,
            dispatched=at(start_ms),
            ended=at(start_ms + 2_000),
            outcome="complete",
            end="terminal",
        )
        record.sent = at(start_ms + 1)
        record.first_event = at(start_ms + 5)
        record.first_token = at(start_ms + 87)
        record.last_event = at(start_ms + 2_000)
        record.events, record.tokens = 50, 48
        record.lost = record.doubled = record.reordered = 0
        for name, value in fields.items():
            setattr(record, name, value)
        if started:
            self.start(
                stream=number,
                variant=record.variant,
                group=record.group,
                warmup=record.warmup,
                dispatched=record.dispatched,
                worker=record.worker,
            )
        self.append(STREAMS, record)
        return record

    def streams(self, count: int, **fields: Any) -> None:
        for _ in range(count):
            self.stream(**fields)

    def failed(self, outcome: str = "cut", end: str = "rst", **fields: Any) -> StreamRecord:
        """A stream that did not end well, after some events."""
        return self.stream(outcome=outcome, end=end, **fields)

    def start(self, **fields: Any) -> None:
        if "stream" not in fields:
            fields["stream"] = self._numbers
            self._numbers += 1
        if not fields.get("dropped"):
            fields.setdefault("dispatched", at(0))
        self.append(STARTS, StartRow(**fields))

    def break_(
        self, stream: int, *, seen_ms: float = 500.0, back_ms: float | None = 700.0, **fields: Any
    ) -> None:
        told = {"number": 1, "attempt": 1, "end": "rst", "seen": at(seen_ms), **fields}
        if back_ms is not None:
            told.setdefault("first_new", at(back_ms))
        self.append(BREAKS, BreakRow(stream=stream, **told))

    def fault(self, step: str, **fields: Any) -> None:
        told = {"at_ns": T0, "fault": "f1", "kind": "cut", **fields}
        self.append(FAULTS, FaultRow(step=step, **told))

    def generator(self, **fields: Any) -> None:
        self.append(GENERATOR, GeneratorRow(**{"at_ns": T0 + S, "worker": 0, "interval_ns": S, **fields}))

    def witness(self, truth_id: str, script: ScriptSpec | None, **fields: Any) -> None:
        told = {
            "connection": 1,
            "profile": "robust",
            "meant_first": 1,
            "meant_last": script.events + 2 if script is not None and script.events else None,
            "accepted": at(0),
            "end": "done",
            **fields,
        }
        self.append(WITNESS, WitnessRow(run=RUN, truth_id=truth_id, script=script, **told))

    def witnessed(
        self, *ranges: tuple[int, int], text: str | None = None, seed: int = 0, **fields: Any
    ) -> StreamRecord:
        """A stream of a scripted answer of 40 deltas (numbers 1 to 42) that received these ranges of it."""
        spec = spec_for("mixed", seed, events=40)
        number = self._numbers
        truth_id = f"{RUN}/-/{number}"
        got = text if text is not None else Script(spec).text_of(ranges)
        self.witness(truth_id, spec, **{"written": [(1, 42)], **fields.pop("witness", {})})
        return self.stream(**{"truth_id": truth_id, "ids": list(ranges), **self.text(got), **fields})

    @staticmethod
    def attempt(**fields: Any) -> Attempt:
        """One connection that ended after 9 ms."""
        told = {
            "number": 1,
            "address": "127.0.0.1:1",
            "started": at(0),
            "ended": at(9),
            "end": "terminal",
            **fields,
        }
        return Attempt(**told)

    @staticmethod
    def text(text: str) -> dict[str, Any]:
        """The fields of a record whose user read this text."""
        encoded = text.encode()
        return {
            "text_chars": len(text),
            "text_bytes": len(encoded),
            "text_sha256": hashlib.sha256(encoded).hexdigest(),
            "fffd": text.count("\ufffd"),
        }

    def gaps(self, *ms: float, error_ms: float = 0.0) -> Gaps:
        """The histograms of these gaps, in ms, against the plan's edges."""
        edges = self.plan.gap_edges_ns
        lo, hi = [0] * (len(edges) + 1), [0] * (len(edges) + 1)
        for gap in ms:
            for counts, value in ((lo, gap - error_ms), (hi, gap + error_ms)):
                ns = round(value * MS)
                counts[next((index for index, edge in enumerate(edges) if ns <= edge), len(edges))] += 1
        return Gaps(
            count=len(ms),
            longest_lo_ns=round((max(ms) - error_ms) * MS),
            longest_hi_ns=round((max(ms) + error_ms) * MS),
            sum_ns=round(sum(ms) * MS),
            lo=_trimmed(lo),
            hi=_trimmed(hi),
        )

    def append(self, file: Any, row: Any) -> None:
        if file.name not in self._appenders:
            self._appenders[file.name] = Appender(self.directory, file, RUN)
        self._appenders[file.name].append(row)

    # judging ------------------------------------------------------------------------------------------------------

    def write(self, how: str = "finished") -> Path:
        """Writes the documents and the empty row files, and gives the directory."""
        for file in ROW_FILES:
            create_with_header(self.directory / file.name, file.schema, RUN)
        write_document(self.directory / PLAN_NAME, self.plan)
        self.info.how = how  # type: ignore[assignment]  # tests name it
        self.info.ended_ns = None if how == "running" else T0 + 12 * S
        self.info.lines = {} if how == "running" else lines_of(self.directory)
        write_document(self.directory / RUN_NAME, self.info)
        return self.directory

    def judge(self, how: str = "finished") -> RunVerdict:
        return judge_directory(self.write(how))

    def one(self, claim: str, how: str = "finished") -> Verdict:
        """The only verdict on this claim."""
        self.claims(claim) if not self.plan.claims else None
        (verdict,) = self.judge(how).verdicts
        return verdict

    def close(self) -> None:
        for appender in self._appenders.values():
            appender.close()


def _trimmed(counts: list[int]) -> list[int]:
    while counts and not counts[-1]:
        counts.pop()
    return counts


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunBuilder]:
    """A run directory to plant rows in."""
    builder = RunBuilder(tmp_path)
    yield builder
    builder.close()


@pytest.fixture
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RunBuilder]]:
    """Makes run directories, as many as a test needs."""
    builders: list[RunBuilder] = []

    def make() -> RunBuilder:
        builders.append(RunBuilder(tmp_path_factory.mktemp("run")))
        return builders[-1]

    yield make
    for builder in builders:
        builder.close()
