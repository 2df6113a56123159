"""`sseproof calibrate`: one generator process on this machine against a source, loaded until it lags.

Rules:
- The generator is the real one: a Locust process with full recording, in a run directory that is thrown away.
- The source is a process of its own, reference_server.source: our reference server spends twice as much on an event as
  the generator, so it would be the limit. When the source is, too, that is said.
- First quiet streams, more and more of them, one event a second each; then events, more and more in the same streams.
  Each step lasts a few seconds, of which the first does not count; its indicators decide (calibration.py).
- Everything stays on loopback and is gone afterwards; the answer alone is kept.
"""

import contextlib
import http.client
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.calibration import (
    STARTS_PER_S,
    Calibration,
    Ceiling,
    Limit,
    Step,
    climb,
    machine_key,
    quiet_ramp,
    search,
    store,
)
from sseproof.children import Child, end_all, python_module
from sseproof.limits import (
    DESCRIPTORS_A_PROCESS,
    Demand,
    Side,
    check_limits,
    descriptors_allowed,
    ephemeral_range,
)
from sseproof.loadtests import LOCUSTFILE
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.reference_server.source import SourceRow
from sseproof.reports.judge import rig_rows
from sseproof.rundir.clock import NS_PER_S, now_ns
from sseproof.rundir.errors import EXIT_TERMINATED, RigError
from sseproof.rundir.files import GENERATOR, PLAN_NAME, Reading
from sseproof.rundir.layout import PLAN_VARIABLE, create_run_directory, new_run_id
from sseproof.rundir.rows import AddressPlan, GeneratorRow, Plan, RunInfo, VariantPlan
from sseproof.rundir.units import Duration, to_raw

READY_S: Final = 20.0
END_GRACE_S: Final = 2.0
POLL_S: Final = 0.05
SOURCE_SHARE: Final = 0.95
"""Of the events that a step is named after: a source that writes fewer of them was the limit."""
HOLD_MARGIN_S: Final = 2
"""Until a second's row tells that a level is reached, and the rest of the last one."""
LAST_HOLD_S: Final = 60
"""Until one start more than is needed: with a schedule's last start the streams of an open loop begin to be closed."""
ROW_WAIT_S: Final = 4.0
"""Beyond the seconds of a step: a generator that tells nothing for so long is too busy to be trusted."""
STREAMS_FOR_EVENTS: Final = 500
BUSY_SHARE: Final = 0.05
_NEIGHBOURS: Final = ("waiting for a core", "steal")
"""The indicators that say what others did to the generator, not what it did itself."""


class Pace(Struct, frozen=True, kw_only=True):
    """How thorough it is."""

    levels: Sequence[int]
    """Quiet streams, rising."""
    hold_s: int
    """Seconds that count, of a level and of a step."""
    events_from: int
    events_s: float
    """Time for the search for events a second; the step at hand is finished."""

    @property
    def text(self) -> str:
        """How long it takes."""
        climbing_s = self.levels[-1] / STARTS_PER_S + len(self.levels) * (self.hold_s + HOLD_MARGIN_S)
        return f"about {round((climbing_s + self.events_s + 8) / 10) * 10} s"


FULL: Final = Pace(levels=(1_000, 3_000, 6_000, 10_000, 15_000), hold_s=3, events_from=5_000, events_s=40)
QUICK: Final = Pace(levels=(500, 2_000), hold_s=2, events_from=10_000, events_s=8)


def calibrate(
    pace: Pace, environ: Mapping[str, str], say: Callable[[str], None], *, quick: bool
) -> Calibration:
    """Measures and keeps the answer. Raises RigError when a part breaks or the answer can't be kept."""
    # Unwound like Ctrl-C, so that the parts end and their folder goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    levels, most = _possible(pace.levels)
    streams, busy = _streams(pace, levels, most, environ, say)
    events, also_busy = _events(pace, min(STREAMS_FOR_EVENTS, levels[-1]), environ, say)
    found = Calibration(
        at_ns=now_ns(),
        quick=quick,
        machine=machine_key(),
        events_per_s=events,
        streams=streams,
        busy=busy or also_busy,
    )
    store(found, environ)
    return found


def _possible(levels: Sequence[int]) -> tuple[list[int], tuple[Limit, str]]:
    """The levels that descriptors and ports allow, and what keeps from more."""
    lowest, highest = ephemeral_range()
    limits: list[tuple[int, Limit, str]] = [(highest - lowest + 1, "ports", "outgoing ports to one address")]
    allowed = descriptors_allowed()
    if allowed is not None:
        limits.append((allowed - DESCRIPTORS_A_PROCESS, "descriptors", "file descriptors of one process"))
    room, limit, name = min(limits)
    chosen = [level for level in levels if level <= room] or [max(1, room)]
    if chosen[-1] == levels[-1]:
        return chosen, ("time", "more were not tried")
    if chosen[-1] < room:
        chosen.append(room)
    return chosen, (limit, f"more are not allowed: {name}")


# --- the two searches ---


def _streams(
    pace: Pace,
    levels: Sequence[int],
    most: tuple[Limit, str],
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[Ceiling, bool]:
    """Quiet streams. The generator climbs by its own schedule; we watch until it is too much."""
    hold_s = pace.hold_s + HOLD_MARGIN_S
    load = quiet_ramp([*((level, hold_s) for level in levels[:-1]), (levels[-1], LAST_HOLD_S)])
    with _bench(load, levels[-1], environ) as bench:
        bench.ask("/each/1")

        def measure(level: float) -> Step:
            reached_ns = bench.await_open(int(level), level / STARTS_PER_S + READY_S)
            step = bench.step(level, reached_ns, pace.hold_s, streams=int(level))
            say(f"{int(level):,} quiet streams: {_told(step)}")
            return step

        return climb(levels, measure, most), bench.busy


def _events(
    pace: Pace, streams: int, environ: Mapping[str, str], say: Callable[[str], None]
) -> tuple[Ceiling, bool]:
    """Events a second in so many streams. The source is told what to send; the generator stays."""
    load = Load(model="closed", users=streams, duration=Duration(3_600 * NS_PER_S))
    with _bench(load, streams, environ) as bench:
        bench.ask("/each/1")
        bench.await_open(streams, READY_S)
        until_s = time.monotonic() + pace.events_s

        def measure(events_per_s: float) -> Step:
            bench.ask(f"/total/{events_per_s:.0f}")
            step = bench.step(events_per_s, now_ns() + NS_PER_S, pace.hold_s, streams=streams)
            say(f"{events_per_s:,.0f} events/s: {_told(step)}")
            return step

        found = search(
            measure,
            start=pace.events_from,
            most=1e8,
            most_limit=("time", "more were not tried"),
            time_left=lambda: time.monotonic() < until_s,
        )
        return found, bench.busy


def _told(step: Step) -> str:
    return "within the limits" if step.good else step.reason


# --- the parts ---


class _Bench:
    """A source and a generator that run, and what they say of themselves."""

    def __init__(
        self, directory: Path, source: Child, generator: Child, lines: "_SourceLines", said: "_LastLine"
    ) -> None:
        self._directory = directory
        self._source = source
        self._generator = generator
        self._lines = lines
        self._said = said
        self.busy = False
        """Whether the generator waited for a core in a step: others wanted them too."""

    def ask(self, path: str) -> None:
        """Sets the source's rate."""
        _ask(self._lines.port, path)

    def await_open(self, streams: int, limit_s: float) -> int:
        """When a second had ended with so many streams open; now, if none did in time."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for row in self._rows():
                if row.open_streams >= streams:
                    return row.at_ns
            self._check()
            time.sleep(POLL_S)
        return now_ns()

    def step(self, load: float, from_ns: int, seconds: int, *, streams: int) -> Step:
        """Waits for so many of the generator's seconds that begin after an instant, and judges them."""
        until_s = (from_ns - now_ns()) / 1e9 + seconds + ROW_WAIT_S + time.monotonic()
        while True:
            rows = [row for row in self._rows() if row.at_ns - row.interval_ns > from_ns - NS_PER_S // 10]
            if len(rows) >= seconds or time.monotonic() > until_s:
                break
            self._check()
            time.sleep(POLL_S)
        rows = rows[:seconds]
        to_ns = rows[-1].at_ns if rows else now_ns()
        # A row of the source tells of the second before it.
        sent = [
            row
            for row in self._lines.rows
            if from_ns + NS_PER_S * 9 // 10 < row.at_ns <= to_ns + NS_PER_S // 2
        ]
        step, busy = judged(load, rows, sent, seconds, streams)
        self.busy = self.busy or busy
        return step

    def _rows(self) -> list[GeneratorRow]:
        return list(Reading(self._directory, GENERATOR))

    def _check(self) -> None:
        for child, said in ((self._source, self._lines), (self._generator, self._said)):
            if child.poll() is not None:
                child.wait(1)
                raise RigError(child.rig_error or f"The {child.name} ended in the middle: {said.last}")


def judged(
    load: float, rows: Sequence[GeneratorRow], sent: Sequence[SourceRow], seconds: int, streams: int
) -> tuple[Step, bool]:
    """What some seconds of the generator and of the source say about a load, and whether others wanted the cores.

    A load is good when more than half of the generator's seconds are; of those that are not, the last tells why.
    """
    busy = any(
        _middle(rows, share) > BUSY_SHARE
        for share in (lambda row: row.run_queue_share, lambda row: row.steal_share)
    )
    if len(rows) < seconds:
        reason = f"the generator told only {len(rows)} of {seconds} seconds in time"
        return Step(load=load, good=False, limit="generator", reason=reason), busy
    out = [reason for row in rows if (reason := _out_of_limit(row, streams))]
    written = sum(row.written for row in sent)
    left_out = sum(row.left_out for row in sent)
    middle = sorted(rows, key=lambda row: row.cpu_share or 0.0)[len(rows) // 2]
    limit: Limit | None = None
    reason = ""
    if left_out:
        limit, reason = "generator", f"{left_out:,} events found the generator's receive buffers full"
    elif sent and written < SOURCE_SHARE * load * len(sent):
        limit = "source"
        reason = f"the source of events wrote only {written / len(sent):,.0f} a second; the generator was not the limit"
    elif 2 * len(out) >= len(rows):
        limit, reason = "generator", out[-1]
    step = Step(
        load=load,
        good=limit is None,
        limit=limit,
        reason=reason,
        read_lag_p99_ms=_ms(middle.read_lag_p99_ns),
        loop_lag_ms=_ms(middle.loop_lag_max_ns),
        cpu_share=middle.cpu_share,
    )
    return step, busy


def _middle(rows: Sequence[GeneratorRow], share: Callable[[GeneratorRow], float | None]) -> float:
    """Of what the seconds say; 0 without any."""
    return sorted(share(row) or 0.0 for row in rows)[len(rows) // 2] if rows else 0.0


def _out_of_limit(row: GeneratorRow, streams: int) -> str:
    """The first indicator of a second that is out of its usual limit, in words; empty when none is."""
    if row.open_streams < streams:
        return f"only {row.open_streams:,} streams were open"
    for each in rig_rows([row], row.dropped):
        if each.within is False and not each.indicator.startswith(_NEIGHBOURS):
            value = f"{each.value:.1%}" if each.unit == "share" else f"{each.value:,.0f} {each.unit}"
            limit = f"{each.limit:.0%}" if each.unit == "share" else f"{each.limit:g} {each.unit}"
            return f"{each.indicator.partition(',')[0]} {value}, usually at most {limit}"
    return ""


def _ms(lag_ns: int | None) -> float | None:
    return None if lag_ns is None else round(lag_ns / 1e6, 3)


@contextlib.contextmanager
def _bench(load: Load, streams: int, environ: Mapping[str, str]) -> Iterator[_Bench]:
    """A source, and a generator that loads it; both are gone afterwards, and so are the rows."""
    check_limits(Demand(sides=[Side(streams=streams, service=None)], workers=1))
    kept = {name: value for name, value in environ.items() if not name.startswith(("LOCUST_", "SSEPROOF_"))}
    children: list[Child] = []
    with tempfile.TemporaryDirectory(prefix="sseproof-calibrate-") as folder:
        lines = _SourceLines()
        try:
            command = python_module("sseproof.reference_server.source")
            source = Child("source of events", command, log=lines, environ=kept)
            children.append(source)
            deadline = time.monotonic() + READY_S
            while not lines.port:
                if source.poll() is not None or time.monotonic() > deadline:
                    raise RigError(f"The source of events did not start: {lines.last}")
                time.sleep(POLL_S)
            directory = _directory(Path(folder), load, lines.port)
            users = 1 if load.is_open else load.users
            command = python_module(
                "locust",
                *["-f", str(LOCUSTFILE), "--headless", "--only-summary", "--loglevel", "WARNING"],
                *[
                    "--users",
                    str(users),
                    "--spawn-rate",
                    str(users),
                    "--host",
                    f"http://127.0.0.1:{lines.port}",
                ],
            )
            said = _LastLine()
            generator = Child(
                "generator",
                command,
                log=said,
                environ={**kept, PLAN_VARIABLE: str(directory / PLAN_NAME)},
                cwd=directory,
            )
            children.append(generator)
            yield _Bench(directory, source, generator, lines, said)
        finally:
            for child in children:
                child.kill()  # nothing of theirs is needed any more
            end_all(children, END_GRACE_S)


def _directory(root: Path, load: Load, port: int) -> Path:
    """A run directory for subscriptions to the source."""
    created_ns = now_ns()
    run = new_run_id(1, created_ns)
    target = Target(
        url=f"http://127.0.0.1:{port}/",
        kind="subscription",
        terminal="none",
        sequence="id",
        text="json:text",
    )
    variant = VariantPlan(
        target=to_raw(target),
        load=to_raw(load),
        client=to_raw(Client()),
        addresses=[AddressPlan(host="127.0.0.1", port=port)],
    )
    plan = Plan(run=run, scenario="calibrate", seed=1, created_ns=created_ns, variants=[variant])
    return create_run_directory(root, plan, RunInfo(run=run, started_ns=created_ns))


class _SourceLines:
    """What the source says: its port, then a row a second."""

    def __init__(self) -> None:
        self.port = 0
        self.rows: list[SourceRow] = []
        self.last = "it said nothing"

    def line(self, _source: str, text: str) -> None:
        """One line, as children.Log takes it."""
        self.last = text.strip() or self.last
        if not self.port and text.strip().isdigit():
            self.port = int(text)
        elif self.port:
            with contextlib.suppress(msgspec.DecodeError):
                self.rows.append(msgspec.json.decode(text, type=SourceRow))


class _LastLine:
    """The last thing that the generator said, for the sentence about its early end."""

    def __init__(self) -> None:
        self.last = "it said nothing"

    def line(self, _source: str, text: str) -> None:
        """One line, as children.Log takes it."""
        self.last = text.strip() or self.last


def _ask(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise RigError(f"The source of events does not answer ({error}).") from None
    finally:
        connection.close()
    if status != http.HTTPStatus.NO_CONTENT:
        raise RigError(f"The source of events refused {path} with status {status}.")


# --- the answer ---


def answer_text(found: Calibration, path: Path) -> str:
    """For people, in 80 columns."""
    lines = ["One generator process on this machine bears", ""]
    for name, ceiling in (("events/s", found.events_per_s), ("quiet streams", found.streams)):
        lines += [f"  {ceiling.text:>18} {name:<14} then: {ceiling.reason}"]
    lines += ["", f"  {'load':>16}  {'read lag p99':>13} {'loop lag':>10} {'CPU':>6}"]
    for unit, ceiling in (("streams", found.streams), ("events/s", found.events_per_s)):
        for step in sorted(ceiling.steps, key=lambda each: each.load):
            lines.append(
                f"  {f'{step.load:,.0f} {unit}':>16}  {_cell(step.read_lag_p99_ms, ' ms'):>13} "
                f"{_cell(step.loop_lag_ms, ' ms'):>10} {_percent(step.cpu_share):>6}  {'' if step.good else _mark(step)}"
            )
    lines.append("")
    if found.busy:
        lines.append("Other processes wanted the cores meanwhile: on a quiet machine it may bear more.")
    lines.append(f"Kept for this machine and version: {path}")
    lines.append("A run planned above 70 % of it will say so.")
    return "\n".join(lines)


def _cell(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.2f}{unit}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _mark(step: Step) -> str:
    return "source" if step.limit == "source" else "too much"


def say(sentence: str) -> None:
    """Progress, on standard error."""
    print(sentence, file=sys.stderr, flush=True)
