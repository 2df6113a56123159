"""The history of a run: every row of a run directory, read once, with what could not be read said beside it.

Rules:
- Reading is forgiving about what a crash leaves (torn rows, a missing file, a run without an end) and strict about what
  is not ours: a foreign or newer file of rows is left out, and so is one that is empty or can't be read, each in a sentence.
  No claim passes without a file that could have refuted it (`History.missing`); without the plan nothing is judged.
- A start without a stream record is *unfinished*; a start that was never dispatched is *dropped* (design.md decision 6).
  Neither is forgotten: both stay in n, and so does a planned stream of which no worker wrote a row.
- A row that came twice (the same stream of the same variant) counts once, the first one, and is a problem.
- Streams of the warm-up, and their breaks, are counted and left out.
- Rows of workers on other machines are moved to the master's clock (`sseproof.reports.clocks`).
- While our own fault engine was broken no stream could show what the service does: those that lived then are unfinished,
  and their breaks are left out. Neither is the target's doing, whatever they came to.
"""

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from sseproof.loadtests.arrivals import schedule_ns
from sseproof.loadtests.settings import Load, Target
from sseproof.reports.clocks import Clocks
from sseproof.reports.facts import History, How
from sseproof.reports.lean import Witnessed, leaner
from sseproof.reports.phases import FOR_GOOD_NS, Phases, phases_of
from sseproof.reports.words import aborted_text, count_of
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import (
    BREAKS,
    BROWSERS,
    FAULTS,
    GENERATOR,
    LARGEST_ROW_BYTES,
    MARKS,
    OPEN,
    PLAN_NAME,
    RUN_NAME,
    STARTS,
    STREAMS,
    WITNESS,
    Reading,
    RowFile,
    read_document,
)
from sseproof.rundir.groups import GroupRule, group_of
from sseproof.rundir.phases import phase_at
from sseproof.rundir.rows import (
    AdmissionEnd,
    BreakRow,
    FaultRow,
    Header,
    Plan,
    Row,
    RunInfo,
    StartRow,
    StreamRecord,
    VariantPlan,
)
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

R = TypeVar("R", bound=Row)
_WITNESSED: Final = RowFile(WITNESS.name, WITNESS.schema, Witnessed)
StreamKey = tuple[str | None, int]
"""Variant and stream number: stream numbers count from the start in each variant."""

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
CLOCK_NOTED_NS: Final = 10 * NS_PER_MS
MOST_MOMENTS: Final = 3
MOST_NAMED: Final = 5
"""A sentence names so many moments, and so many streams of each; open.jsonl has all."""
_Unmade = Literal["lost", "never made", "stopped", "requests", "users", "shape", "decided"]
_UNMADE: Final[dict[_Unmade, str]] = {
    "lost": "not reported as made: a lost worker had them, and they count as unfinished.",
    "never made": "not made by any worker: they count as dropped.",
    "stopped": "not on record as started when the run stopped: they count as unfinished.",
    "requests": "not to be started, since load.max_requests was spent: they are in no count.",
    "users": "not to be started, since the users had stopped by themselves: they are in no count.",
    "decided": "not to be started, since the claims were decided: they are in no count.",
    "shape": "not to be started, since the users' load shape had ended the test: they are in no count.",
}
"""What became of planned streams without a row; from `requests` on by a limit of the user's own."""
ENDED: Final[dict[str, str]] = {
    "interrupted": "The run was interrupted; the verdicts cover what had happened until then.",
    "terminated": "The run was terminated; the verdicts cover what had happened until then.",
    "killed": "The run has no end on record (killed, or still running); the verdicts cover what was recorded.",
}


def read_history(directory: Path) -> History:
    """The rows of a run directory.

    Raises UsageError, in one sentence, when it is no run directory or holds a file of another kind or a newer version.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a run directory; name the folder that a run printed.")
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    _check_variants(directory, plan)
    history = History(plan=plan, problems=list(plan.notes))
    history.run = _read_run(directory, history)
    history.how = _how(history.run)
    if history.how == "failed" and history.run is not None:
        history.problems.append(f"The suite itself failed: {printable(history.run.problem)}")
    elif history.how in ENDED:
        history.problems.append(ENDED[history.how])
    if history.run is not None and history.run.aborted is not None:
        history.problems.append(printable(aborted_text(history.run.aborted)))
    # A hundred thousand live structs make each pass of the cyclic collector expensive, and rows hold no cycles.
    collecting = gc.isenabled()
    gc.disable()
    try:
        history.generator = list(_rows(directory, GENERATOR, history))
        history.clocks = Clocks(history.generator)
        _read_streams(directory, history)
        _read_rest(directory, history)
        _note_last_seen(directory, history)
    finally:
        if collecting:
            gc.enable()
    _note_outages(history)
    _note_ended_by_us(history)
    _place_in_phases(history)
    _note_workers(history)
    _note_clocks(history)
    _note_unmade(history)
    return history


def _check_variants(directory: Path, plan: Plan) -> None:
    """The sections that only the judging reads. Raises UsageError when one is damaged."""
    try:
        for variant in plan.variants:
            from_raw(variant.target, Target)
            from_raw(variant.load, Load)
        msgspec.json.decode(plan.groups, type=GroupRule | None)
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(
            f"{directory / PLAN_NAME} is damaged ({printable(str(error))}); the run can't be judged without it."
        ) from None


def _check_run(path: Path, run: str) -> None:
    """Rows of another run prove nothing about this one. Raises UsageError; a damaged header is left to the reading."""
    try:
        with path.open("rb") as stream:
            header = msgspec.json.decode(stream.readline(LARGEST_ROW_BYTES), type=Header)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return
    if header.run not in {"", run}:
        raise UsageError(
            f"{path} was recorded by the run {printable(header.run)}, {PLAN_NAME} beside it by {printable(run)}: "
            "put the files of one run together again."
        )


def _read_run(directory: Path, history: History) -> RunInfo | None:
    path = directory / RUN_NAME
    if not path.exists():
        history.problems.append(f"{RUN_NAME} is missing: how the run ended is not known.")
        return None
    try:
        return read_document(path, RunInfo, "run")
    except UsageError as error:
        sentence = str(error).replace(str(path), RUN_NAME)
        history.problems.append(f"{printable(sentence)} How the run ended is not known.")
        return None


def _how(run: RunInfo | None) -> How:
    if run is None or run.how == "running" or run.ended_ns is None:
        return "killed"
    return run.how


def _read_streams(directory: Path, history: History) -> None:
    moved = history.clocks.moved
    starts = _first_of(map(moved, _rows(directory, STARTS, history)), _key, "stream was started", history)
    records = _first_of(
        map(leaner(), map(moved, _rows(directory, STREAMS, history))), _key, "stream has", history
    )
    warm = {key for key, start in starts.items() if start.warmup}
    warm |= {key for key, record in records.items() if record.warmup}
    history.warmup = len(warm)
    history.streams = [record for key, record in records.items() if key not in warm]
    judged = [(key, start) for key, start in starts.items() if key not in warm]
    history.dropped = [start for key, start in judged if start.dropped and key not in records]
    history.unfinished = [start for key, start in judged if not start.dropped and key not in records]
    history.starts = len(judged) - len(history.dropped)
    _note_unannounced(sum(1 for key in records if key not in starts), history)
    breaks = _first_of(map(moved, _rows(directory, BREAKS, history)), _break_key, "break has", history)
    history.breaks = [row for row in breaks.values() if (row.variant, row.stream) not in warm]


def _note_unannounced(unannounced: int, history: History) -> None:
    """Streams that ended without a start row, and what that says of those that did not end.

    Each damaged place explains one. A place more may have been the start of a stream without an end; a stream more, and
    rows are gone without a trace, those of streams without an end perhaps among them.
    """
    if STARTS.schema in history.missing:
        return
    if unannounced:
        history.problems.append(
            f"{count_of(unannounced, 'stream')} ended without a start row; counted all the same."
        )
    torn = history.torn.get(STARTS.schema, 0)
    history.hidden = max(torn - unannounced, 0)
    if unannounced > torn:
        history.missing.append(STARTS.schema)


def add_witness(history: History, rows: Iterable[Witnessed]) -> None:
    """What a server knows of the streams, each stream's connections in their order."""
    for row in rows:
        history.witness.setdefault(row.truth_id, []).append(row)
    for of_stream in history.witness.values():
        of_stream.sort(key=lambda row: row.connection)


def _read_rest(directory: Path, history: History) -> None:
    history.faults = list(_rows(directory, FAULTS, history))
    add_witness(history, _rows(directory, _WITNESSED, history))
    history.generator = [history.clocks.moved(row) for row in history.generator]
    history.marks = list(_rows(directory, MARKS, history))
    if any(variant.browser is not None for variant in history.plan.variants):
        history.browsers = list(_rows(directory, BROWSERS, history))


def _rows(directory: Path, file: RowFile[R], history: History) -> Iterable[R]:
    """The rows of one file; what is wrong with it is noted when they have been read."""
    _check_run(directory / file.name, history.plan.run)
    reading = Reading(directory, file)
    try:
        yield from reading
    except UsageError as error:
        sentence = str(error).replace(str(reading.path), file.name)
        history.problems.append(f"{printable(sentence)} Judged without it.")
        history.missing.append(file.schema)
        return
    if reading.problem:
        history.problems.append(reading.problem)
    if reading.missing or reading.empty:
        history.missing.append(file.schema)
    history.torn[file.schema] = reading.torn
    told = 0 if history.run is None else history.run.lines.get(file.schema, 0)
    if (short := told - reading.lines) > 0 and file.schema not in history.missing:
        _note_short(file, short, history)


def _note_short(file: RowFile[R], short: int, history: History) -> None:
    """A file that ends before the end that it had when the run was over.

    Of streams and breaks others' rows tell which are gone; of starts that so many are. Of the rest nothing does.
    """
    history.problems.append(
        f"{file.name} has {count_of(short, 'line')} less than when the run ended: what they held is lost."
    )
    if file.schema in {STARTS.schema, STREAMS.schema}:
        history.torn[file.schema] += short
    elif file.schema != BREAKS.schema:
        history.missing.append(file.schema)


def _key(row: StartRow | StreamRecord) -> StreamKey:
    return (row.variant, row.stream)


def _break_key(row: BreakRow) -> tuple[str | None, int, int]:
    return (row.variant, row.stream, row.number)


def _first_of(
    rows: Iterable[R], key: "Callable[[R], Hashable]", what: str, history: History
) -> dict[Hashable, R]:
    first: dict[Hashable, R] = {}
    doubled = 0
    for row in rows:
        if first.setdefault(key(row), row) is not row:
            doubled += 1
    if doubled:
        history.problems.append(
            f"{count_of(doubled, 'row')} came a second time (a {what} two rows); the first of each counts."
        )
    return first


def _note_outages(history: History) -> None:
    history.outages = outages(history.faults)
    if not history.outages:
        return
    met = [record for record in history.streams if _lived_in(record, history.outages, history)]
    _set_aside(history, met)
    history.problems.append(
        f"The fault engine was broken while {count_of(len(met), 'stream')} ran: they count as unfinished, whatever they came to."
    )


def _note_ended_by_us(history: History) -> None:
    """Streams whose proxies were made anew when a run gave up: their end or their wait says nothing about the target."""
    spans: dict[tuple[str | None, str | None], list[tuple[int, int]]] = {}
    for row in history.faults:
        if row.ended_connections and row.call_sent_ns is not None and row.call_answered_ns is not None:
            spans.setdefault((row.variant, row.group), []).append((row.call_sent_ns, row.call_answered_ns))
    met = [
        record
        for record in history.streams
        if (mine := spans.get((record.variant, record.group))) and _lived_in(record, mine, history)
    ]
    if not met:
        return
    _set_aside(history, met)
    history.problems.append(
        f"To heal faults in the middle of the load, connections of {count_of(len(met), 'stream')} were ended or turned away: they "
        "count as unfinished, whatever they came to."
    )


def _set_aside(history: History, met: Sequence[StreamRecord]) -> None:
    """Takes streams for unfinished that met something of ours."""
    keys = {_key(record) for record in met}
    history.streams = [record for record in history.streams if _key(record) not in keys]
    history.breaks = [row for row in history.breaks if (row.variant, row.stream) not in keys]
    history.unfinished += [
        StartRow(
            stream=record.stream,
            worker=record.worker,
            name=record.name,
            variant=record.variant,
            group=record.group,
            phase=record.phase,
            intended=record.intended,
            dispatched=record.dispatched,
        )
        for record in met
    ]


def outages(faults: Sequence[FaultRow]) -> list[tuple[int, int]]:
    """When the fault engine was broken: since it was last well, until a new one had clean proxies for all, else for good."""
    found: list[tuple[int, int]] = []
    for failed in faults:
        if failed.step != "failed" or failed.call_sent_ns is None or failed.call_answered_ns is None:
            continue
        if found and failed.call_sent_ns <= found[-1][1]:
            continue  # another group's row of the same failure
        again = {
            (row.variant, row.group): row.call_answered_ns
            for row in reversed(faults)
            if row.step == "healed"
            and row.window is None
            and row.call_answered_ns is not None
            and row.at_ns >= failed.at_ns
        }
        found.append((failed.call_sent_ns, max(again.values(), default=FOR_GOOD_NS)))
    return found


def _lived_in(record: StreamRecord, spans: Sequence[tuple[int, int]], history: History) -> bool:
    """Whether a stream may have lived in one of the spans, which are by the injector's clock."""
    began, ended = (
        history.clocks.across(record.worker, record.dispatched, each)
        for each in (record.dispatched, record.ended)
    )
    return any(ended.hi_ns >= since and began.lo_ns <= until for since, until in spans)


def _place_in_phases(history: History) -> None:
    """Each stream and break in the phase that it counts in, in the place of the planned one."""
    if not history.plan.phases:
        return
    try:
        history.phases = phases_of(history.plan, history.faults, history.clocks, _aborted_ns(history))
    except msgspec.DecodeError as error:
        history.phases = Phases(history.plan.phases)
        history.problems.append(
            f"The fault plan in {PLAN_NAME} can't be read ({printable(str(error))}): phases are those that were planned."
        )
    for record in history.streams:
        record.phase = history.phases.of(record)
    found = {_key(record): record.phase for record in history.streams}
    for row in history.breaks:
        row.phase = found.get((row.variant, row.stream), row.phase)


def _aborted_ns(history: History) -> int | None:
    return None if history.run is None or history.run.aborted is None else history.run.aborted.at_ns


def _note_workers(history: History) -> None:
    if history.run is not None and history.run.workers_lost:
        numbers = ", ".join(str(number) for number in sorted(history.run.workers_lost))
        one = len(history.run.workers_lost) == 1
        history.problems.append(
            f"{'Worker' if one else 'Workers'} {numbers} {'was' if one else 'were'} lost; "
            "streams without an end are unfinished."
        )
    counts = Counter(
        (row.worker, printable(row.rig_error)) for row in history.generator if row.rig_error is not None
    )
    for (worker, sentence), count in counts.items():
        times = "" if count == 1 else f" ({count} times)"
        history.problems.append(f"Rig error in worker {worker}{times}: {sentence}")


def _note_clocks(history: History) -> None:
    """Workers whose clock was so far from the master's that somebody who reads their rows must know it."""
    for worker in history.clocks.workers:
        found = history.clocks.widest(worker)
        if found is None or max(abs(found[0]), found[1]) <= CLOCK_NOTED_NS:
            continue
        offset_ns, error_ns = found
        way = "ahead of" if offset_ns > 0 else "behind"
        history.problems.append(
            f"Worker {worker} has a clock that was {abs(offset_ns) / NS_PER_MS:.3g} ms {way} the master's, known to "
            f"{error_ns / NS_PER_MS:.2g} ms: its rows were moved by that, and compared with other clocks within that error."
        )


def _note_last_seen(directory: Path, history: History) -> None:
    """When the streams without an end were last on a worker's list of open ones, the latest moments first."""
    wanted = {_key(start) for start in history.unfinished}
    if not wanted:
        return
    seen_ns: dict[StreamKey, int] = {}
    for row in map(history.clocks.moved, _rows(directory, OPEN, history)):
        for key in wanted.intersection((row.variant, number) for number in row.streams):
            seen_ns[key] = max(row.at_ns, seen_ns.get(key, row.at_ns))
    began_ns = history.plan.created_ns if history.run is None else history.run.started_ns
    moments: dict[int, list[StreamKey]] = {}
    for key, at_ns in seen_ns.items():
        moments.setdefault(round((at_ns - began_ns) / NS_PER_S), []).append(key)
    latest = sorted(moments, reverse=True)
    parts = [f"{_named(moments[each])} {each:,} s after the start" for each in latest[:MOST_MOMENTS]]
    if earlier := [key for each in latest[MOST_MOMENTS:] for key in moments[each]]:
        parts.append(f"{_named(earlier)} before that")
    if never := wanted - set(seen_ns):
        parts.append(f"{_named(never)} never, since the open ones are listed every 10 s only")
    history.problems.append(
        f"{count_of(len(wanted), 'stream')} without an end, last seen open: {'; '.join(parts)}."
    )


def _named(keys: Iterable[StreamKey]) -> str:
    """How many streams, and the numbers of the first ones."""
    ranked = sorted((number, variant or "") for variant, number in keys)
    names = [f"{number}{f' of {variant}' if variant else ''}" for number, variant in ranked[:MOST_NAMED]]
    more = ", …" if len(ranked) > MOST_NAMED else ""
    return f"{len(ranked):,} ({', '.join(names)}{more})"


def _note_unmade(history: History) -> None:
    """Planned streams that are not on record stay in n, which was fixed before the run (design.md decision 10).

    The part of a lost worker may have been made, and is unfinished; what the others did not make is dropped. A run that
    was stopped would have made the rest: unfinished too, or whoever stops it when it looks well makes a pass of it. What
    a limit of the user's own kept from starting was not to be made, and is said. A run that gave up passes nothing, and
    what failed until then stands, whatever was still to come.
    """
    stopped = history.how != "finished" and history.run is not None  # without run.json nobody knows
    if stopped and _aborted_ns(history) is not None:
        return
    rule = msgspec.json.decode(history.plan.groups, type=GroupRule | None)
    ends = {row.worker: row.admission_end for row in history.generator if row.admission_end is not None}
    lost = set() if history.run is None else set(history.run.workers_lost)
    for position, variant in enumerate(history.plan.variants):
        load = from_raw(variant.load, Load)
        missing = _planned(history, variant, load)
        missing -= {
            start.stream for start in (*history.unfinished, *history.dropped) if start.variant == variant.name
        }
        missing -= {record.stream for record in history.streams if record.variant == variant.name}
        unmade: Counter[_Unmade] = Counter()
        rest: _Unmade = "stopped" if stopped else "never made"
        phases = _phases_of_the_rest(history, variant, load) if stopped else {}
        for number in sorted(missing):
            worker = position * history.plan.workers + number % history.plan.workers
            why: _Unmade = "lost" if worker in lost else _own_limit(load, ends.get(worker)) or rest
            unmade[why] += 1
            start = StartRow(
                stream=number,
                worker=worker,
                variant=variant.name,
                group=None if rule is None else group_of(rule, number),
                phase=phases.get(number),
                dropped=why == "never made",
            )
            if why in {"lost", "stopped"}:
                history.unfinished.append(start)
            elif why == "never made":
                history.dropped.append(start)
        whose = f" of {variant.name}" if variant.name else ""
        for why, count in unmade.items():
            were = "was" if count == 1 else "were"
            history.problems.append(f"{count_of(count, 'planned stream')}{whose} {were} {_UNMADE[why]}")


def _phases_of_the_rest(history: History, variant: VariantPlan, load: Load) -> dict[int, str | None]:
    """The first phase that each planned stream can have been in had it not been started when the run stopped.

    A schedule says it. A closed loop goes on in the phase that it had come to: what was over then is no concern of theirs.
    """
    phases = history.plan.phases
    if not phases:
        return {}
    if load.is_open:
        offsets = schedule_ns(load, history.plan.seed, variant.replay_ns)
        return {number: phase_at(phases, offset) for number, offset in enumerate(offsets)}
    order = [phase.name for phase in phases]
    seen = {row.phase for row in history.streams if row.variant == variant.name}
    seen |= {row.phase for row in history.unfinished if row.variant == variant.name}
    last = max((order.index(each) for each in seen if each in order), default=0)
    return dict.fromkeys(range(load.streams or 0), order[last])


def _planned(history: History, variant: VariantPlan, load: Load) -> set[int]:
    """The numbers that the plan fixes, without those of the warm-up; none for a closed loop by duration."""
    if not load.is_open:
        return set(range(load.streams or 0))
    warm_ns = 0 if load.warmup is None else load.warmup.ns
    offsets = schedule_ns(load, history.plan.seed, variant.replay_ns)
    return {number for number, offset in enumerate(offsets) if offset >= warm_ns}


def _own_limit(load: Load, end: AdmissionEnd | None) -> "_Unmade | None":
    """The user's own limit by which a worker's admission ended; None where none did."""
    if load.is_open:
        return end if end in {"requests", "decided"} else None
    return end if end in {"requests", "users", "shape", "decided"} else None
