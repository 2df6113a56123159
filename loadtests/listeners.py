"""What one Locust process does for a run: rows to the run directory, an end that loses none of them.

Rules:
- A worker of the master's machine finds the plan by SSEPROOF_PLAN; one on another machine is given it by the master
  (`remote.py`). A bare `locust -f …` makes a run directory of its own at test start and hands its place to its workers.
- Admission of new streams ends after the duration or with the last of a fixed number. Then answers drain, while
  subscriptions are closed by us once they are open. Only when every worker has reported that it drained does the
  master quit: Locust's own stop time-out loses what is in flight (design.md decision 6).
- Locust's page gets one request event a stream; the rows are written first (style.md "Locust drives").
- A recorder that fails (full disk) stops the run with exit code 70: measuring on without rows would be a lie.
"""

# locust comes first: gevent must patch before anything imports ssl (RecursionError otherwise).
from locust import events
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

# isort: split
import contextlib
import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import gevent
import gevent.event
import msgspec
from msgspec import structs

from sseproof.loadtests import LOCUSTFILE
from sseproof.loadtests.admission import Admission
from sseproof.loadtests.arrivals import admission_ns, part_ns
from sseproof.loadtests.bare import make_bare_run
from sseproof.loadtests.desk import BEGIN_MESSAGE, Desk
from sseproof.loadtests.joining import DRAINED, ENOUGH, JOIN, TOKEN_VARIABLE, Note, digest, packed, unpacked
from sseproof.loadtests.metrics import Metrics
from sseproof.loadtests.offset import Offset, OffsetEstimate
from sseproof.loadtests.payloads import Payloads, read_payloads
from sseproof.loadtests.places import closes_ns, opens_ns
from sseproof.loadtests.remote import Membership, RemoteWorker
from sseproof.loadtests.series import REPORT_KEY, SeriesLog, to_report
from sseproof.loadtests.session import AttemptBudget, StreamClient
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import EXIT_RIG, RigError, SuiteError
from sseproof.rundir.files import (
    BREAKS,
    GENERATOR,
    OPEN,
    PLAN_NAME,
    RUN_NAME,
    STARTS,
    STREAMS,
    Appender,
    lines_of,
    read_document,
    write_document,
)
from sseproof.rundir.groups import GroupRule
from sseproof.rundir.layout import PLAN_VARIABLE, WORKER_VARIABLE
from sseproof.rundir.parent import RIG_ERROR_MARK, orphaned
from sseproof.rundir.rows import (
    BreakRow,
    GeneratorRow,
    Instant,
    OpenRow,
    Plan,
    RunInfo,
    StartRow,
    StreamRecord,
)
from sseproof.rundir.seeds import named_random
from sseproof.rundir.units import from_raw

PLAN_MESSAGE: Final = "sseproof-plan"
SERIES_MESSAGE: Final = "sseproof-series"
"""From a worker that is stopped; the master answers with the same."""
BEGIN_WAIT_S: Final = 60.0
OPEN_ROWS_EVERY_S: Final = 10
TICK_MARGIN_NS: Final = 2_000_000
"""A timer that fires early must not end the same second twice."""
BARE_STRIDE: Final = 1024
"""A bare locust master may get workers at any time: stream numbers leave room for this many."""
LAST_WORDS_S: Final = 2.0
"""How long a stopped worker waits for the answer to its last series, and an ending master for such series."""
REMOTE_FLUSH_S: Final = 5.0
"""How long a worker on another machine that is told to stop there waits for its master to take the rest."""
STOP_GRACE_S: Final = 3.0
"""How long an interrupted worker waits for its streams to write their rows."""


class WorkerRun:
    """One process's part of a run: the stream client, the row files, admission and drain."""

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        worker: int,
        stride: int,
        *,
        estimate: OffsetEstimate | None = None,
    ) -> None:
        """`estimate` is of a worker on another machine: how far its clock is ahead of the master's."""
        self.plan = plan
        self._estimate = estimate
        # Worker numbers run through the variants: worker w works for variant w // stride, as its w % stride-th.
        self.variant = variant = plan.variants[worker // stride]
        self.worker = worker
        self.target = from_raw(variant.target, Target)
        self.load = from_raw(variant.load, Load)
        client = from_raw(variant.client, Client)
        self.series: SeriesLog | None = None
        """Where a process without a master writes its series; workers send theirs."""
        self.last_words: gevent.event.Event = gevent.event.Event()
        """The master has the series that were left when this worker was stopped."""
        self.busy = 0
        """Client calls under way, their rows and request events included."""
        self._starts: Appender[StartRow] = Appender(directory, STARTS, plan.run)
        self._streams: Appender[StreamRecord] = Appender(directory, STREAMS, plan.run)
        self._breaks: Appender[BreakRow] = Appender(directory, BREAKS, plan.run)
        self._generator: Appender[GeneratorRow] = Appender(directory, GENERATOR, plan.run)
        self._open: Appender[OpenRow] = Appender(directory, OPEN, plan.run)
        budget = None
        if self.load.max_requests is not None:
            budget = AttemptBudget(_share(self.load.max_requests, worker % stride, stride))
        self._budget = budget
        by_schedule = self.load.is_open
        self.admission = Admission(
            worker % stride,
            stride,
            streams=None if by_schedule else self.load.streams,
            duration_ns=None if by_schedule else admission_ns(self.load),
            budget=budget,
        )
        self._places = itertools.count(worker % stride, stride)
        self._start_ns = 0
        self._part = worker % stride, stride
        self._start: gevent.event.AsyncResult = gevent.event.AsyncResult()
        self._walked = False
        self.metrics = Metrics(worker=worker, variant=variant.name)
        preflight = variant.preflight
        self.client = StreamClient(
            self.target,
            client,
            run=plan.run,
            seed=plan.seed,
            worker=worker,
            variant=variant.name,
            kind=self.target.kind or "answer",
            addresses=variant.addresses,
            groups=msgspec.json.decode(plan.groups, type=GroupRule | None),
            identity_groups=variant.identity_groups,
            gap_edges_ns=plan.gap_edges_ns,
            on_start=self._starts.append,
            on_break=self._breaks.append,
            on_end=self._streams.append,
            metrics=self.metrics,
            budget=budget,
            payloads=None
            if self.load.payloads is None
            else Payloads(read_payloads(Path(self.load.payloads)), plan.seed),
            own_server=preflight is not None and preflight.witness_path is not None,
            environ=os.environ,
            offset=None if estimate is None else self.offset,
        )
        self.drain_ns = self.load.drain.ns if self.load.drain is not None else client.timeouts.total.ns

    def offset(self) -> Offset:
        """How far this worker's clock is ahead of the master's; nothing on the master's machine."""
        known = None if self._estimate is None else self._estimate.at(now_ns())
        return known or Offset()

    def begin(self, start_ns: int) -> None:
        """The load's start instant by the master's clock, one for all workers; warm-up and schedule count from it."""
        offset = self.offset()
        start = Instant(start_ns + offset.ns, offset.error_ns, offset.error_ns)
        self.client.phases, self.client.load_began_ns = self.plan.phases, start.ns
        if self.load.warmup is not None:
            self.client.warm_until_ns = start.ns + self.load.warmup.ns
        if self.load.is_staged:
            self.admission.start(time.monotonic_ns() + start.ns - now_ns())
        self._start_ns = start.ns
        self._start.set(start)

    def new_place(self) -> int | None:
        """A place of a staged load, for a user who comes and keeps it; None where the load has no stages.

        Places of a dead worker's users are not taken over: they stay with that worker's number.
        """
        return next(self._places) if self.load.is_staged else None

    def wait_for(self, place: int) -> None:
        """Blocks until this place of a staged load is open, or admission has ended."""
        self._heed_start()
        while not self.admission.closed:
            opens = opens_ns(self.load.stages, place, now_ns() - self._start_ns)
            if opens is None:
                self.admission.wait_closed()
                return
            wait_ns = self._start_ns + opens - now_ns()
            if wait_ns <= 0:
                return
            self.admission.wait_closed(wait_ns / 1e9)

    @contextlib.contextmanager
    def ending_with(self, place: int, number: int) -> Iterator[None]:
        """Ends the subscription of this number when its place closes: it has no end of its own."""
        closes = closes_ns(self.load.stages, place, now_ns() - self._start_ns)
        wait_s = max(0, self._start_ns + closes - now_ns()) / 1e9
        closing = gevent.spawn_later(wait_s, self.client.close_one_when_open, number, "end of its stage")
        try:
            yield
        finally:
            closing.kill(block=False)

    def _heed_start(self) -> Instant:
        try:
            start: Instant = self._start.get(timeout=BEGIN_WAIT_S)
        except gevent.Timeout:
            raise RigError("Locust's master did not say when the load begins.") from None
        return start

    def planned_starts(self) -> Iterator[tuple[int, Instant]]:
        """(number, intended start) of this worker's part of the schedule, each when its time has come.

        Only the first call gives any: Locust hands a dead worker's user to another worker, and a slice is never walked
        twice (decision 5). Ends early when admission does, and ends admission. Starts that are late come at once.
        """
        if self._walked:
            return
        self._walked = True
        start = self._heed_start()
        index, workers = self._part
        for number, offset_ns in part_ns(self.load, self.plan.seed, self.variant.replay_ns, index, workers):
            due_ns = start.ns + offset_ns
            gevent.sleep(max(0, due_ns - now_ns()) / 1e9)
            if self._budget is not None and self._budget.left <= 0:
                self.admission.close("requests")
            if self.admission.closed:
                return
            yield number, Instant(due_ns, start.before_ns, start.after_ns)
        self.admission.close("numbers")

    @property
    def full(self) -> bool:
        """Whether a start would be one too many: as many streams are open as may be."""
        index, workers = self._part
        return self.busy >= _share(self.load.max_open, index, workers)

    def tick(self, *, with_open: bool) -> None:
        """Writes what this worker measured of itself; every 10 s also which streams are open."""
        if self._estimate is not None:
            known = self.offset()
            self.metrics.master_offset_ns, self.metrics.master_offset_error_ns = known.ns, known.error_ns
        row = self.metrics.snapshot()
        row.admission_end = self.admission.ended_by
        self._generator.append(row)
        if self.series is not None:
            self.series.take(self.take_series())
            self.series.write()
        if with_open:
            numbers = self.client.open_numbers()
            self._open.append(
                OpenRow(at_ns=row.at_ns, worker=self.worker, streams=numbers, variant=self.variant.name)
            )

    def take_series(self) -> list[object]:
        """The series that were not sent yet, for a message to the master and by its clock."""
        ahead_ns = self.offset().ns
        intervals = to_report(
            structs.replace(each, start_ns=each.start_ns - ahead_ns, end_ns=each.end_ns - ahead_ns)
            for each in self.metrics.unsent
        )
        self.metrics.unsent.clear()
        return intervals

    def rig_error(self, sentence: str) -> None:
        """Puts a failure of ours on record."""
        self._generator.append(
            GeneratorRow(
                at_ns=now_ns(),
                worker=self.worker,
                variant=self.variant.name,
                pid=os.getpid(),
                rig_error=sentence,
            )
        )

    def drain(self) -> None:
        """Waits for the end of admission, then until the last row is written; blocks the greenlet."""
        if self.load.is_staged:
            self._heed_start()
        self.admission.wait_closed()
        if self.target.kind == "subscription":
            self.client.close_when_open("end of the run")
        deadline = time.monotonic_ns() + self.drain_ns
        while self.busy and time.monotonic_ns() < deadline:
            gevent.sleep(0.02)
        self.stop("the drain limit")

    def stop(self, reason: str) -> None:
        """Ends every open stream (`stopped`) and waits a moment for the rows."""
        self.admission.close("stopped")
        self.client.stop_all(reason)
        deadline = time.monotonic() + STOP_GRACE_S
        while self.busy and time.monotonic() < deadline:
            gevent.sleep(0.02)


_runs: dict[int, WorkerRun] = {}
"""The run of each Locust environment, by its identity: tests and notebooks may have several."""
_elsewhere: dict[int, RemoteWorker] = {}
"""What a worker on another machine than the master's does beside its load, by the same key."""


def run_of(environment: Any) -> WorkerRun:
    """The run this environment works for.

    Raises StopUser where the run was refused at its start: Locust spawns users all the same until it has quit.
    """
    try:
        return _runs[id(environment)]
    except KeyError:
        raise StopUser from None


def _elsewhere_of(environment: Any) -> RemoteWorker | None:
    """What this worker does for a master on another machine; None where it has no part in such a run."""
    remote = _elsewhere.get(id(environment))
    return remote if remote is not None and remote.joined else None


def stop_broken(environment: Any, error: SuiteError) -> None:
    """The recorder failed: say why, end the run with 70, lose nothing that was written."""
    print(f"{RIG_ERROR_MARK}{error}", file=sys.stderr, flush=True)
    remote = _elsewhere_of(environment)
    if remote is not None:
        remote.trouble(str(error))
    if remote is not None or PLAN_VARIABLE in os.environ:
        os._exit(EXIT_RIG)  # rows are on disk; unwinding greenlets could only write more to what just failed
    environment.process_exit_code = EXIT_RIG
    gevent.spawn(environment.runner.quit)


def end_without_parent() -> None:
    """Leaves at once when the suite that started us is gone (pdeathsig does not cover the moment before exec)."""
    if orphaned():
        os._exit(EXIT_RIG)


def _share(total: int, worker: int, stride: int) -> int:
    """One worker's part of a total, so that the parts add up to it exactly."""
    return total // stride + (1 if worker < total % stride else 0)


def _on_init(environment: Any, **_: object) -> None:
    end_without_parent()
    runner = environment.runner
    plan_path = os.environ.get(PLAN_VARIABLE)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if isinstance(runner, MasterRunner):
        _Master(environment, None if plan_path is None else Path(plan_path), token)
    elif plan_path is not None:
        path, worker = Path(plan_path), int(os.environ.get(WORKER_VARIABLE, "0"))
        _adopt(environment, path.parent, worker, stride=None)
        if isinstance(runner, WorkerRunner):
            runner.register_message(BEGIN_MESSAGE, _on_begin_message)
            Membership(environment, token, worker=worker)
    elif isinstance(runner, WorkerRunner):
        runner.register_message(PLAN_MESSAGE, _on_plan_message)
        runner.register_message(BEGIN_MESSAGE, _on_begin_message)
        _join_elsewhere(environment, token)
    elif isinstance(runner, LocalRunner):
        environment.events.test_start.add_listener(_start_bare)
    if isinstance(runner, WorkerRunner):
        runner.register_message(ENOUGH, _on_enough)
        runner.register_message(SERIES_MESSAGE, _on_series_answer)
        environment.events.report_to_master.add_listener(lambda data, **_: _report_series(environment, data))
    environment.events.test_start.add_listener(_on_test_start)
    environment.events.test_stopping.add_listener(_on_test_stopping)
    environment.events.quitting.add_listener(_on_quitting)


def _join_elsewhere(environment: Any, token: str) -> None:
    """A worker that was given nothing but the master's address: with the run's token it may be on another machine."""

    def adopt(shard: Path, plan: Plan, worker: int, estimate: OffsetEstimate) -> WorkerRun:
        run = WorkerRun(shard, plan, worker, plan.workers, estimate=estimate)
        _runs[id(environment)] = run
        return run

    own = [
        Path(name).resolve()
        for name in environment.parsed_locustfiles or ()
        if Path(name).resolve() != LOCUSTFILE
    ]
    remote = RemoteWorker(environment, token, adopt, digest=digest(own[0].read_bytes()) if own else None)
    _elsewhere[id(environment)] = remote
    # Locust asks its listeners in reverse: first whoever stops the streams and sends the rest, then this one.
    environment.events.quitting.add_listener(lambda **_: remote.over(environment))


def _adopt(environment: Any, directory: Path, worker: int, *, stride: int | None) -> None:
    try:
        plan = read_document(directory / PLAN_NAME, Plan, "plan")
        run = WorkerRun(directory, plan, worker, stride or plan.workers)
        if not isinstance(environment.runner, WorkerRunner):
            run.series = SeriesLog(directory, plan)
        _runs[id(environment)] = run
    except SuiteError as error:
        stop_broken(environment, error)


def _report_series(environment: Any, data: dict[str, object]) -> None:
    run = _runs.get(id(environment))
    if run is not None:
        data[REPORT_KEY] = run.take_series()


def _start_bare(environment: Any, **_: object) -> None:
    """`locust -f …` without the front door: a run directory of its own for each test."""
    try:
        directory = make_bare_run(environment.host, workers=1, options=environment.parsed_options)
    except SuiteError as error:
        print(f"sseproof: {error}", file=sys.stderr, flush=True)
        environment.process_exit_code = error.exit_code
        gevent.spawn(environment.runner.quit)
        return
    _adopt(environment, directory, 0, stride=1)
    _say_where(environment, directory)


def _say_where(environment: Any, directory: Path) -> None:
    print(f"sseproof: rows go to {directory}", file=sys.stderr, flush=True)

    def finish(**_: object) -> None:
        info = read_document(directory / RUN_NAME, RunInfo, "run")
        if info.ended_ns is None:
            info.ended_ns, info.how = now_ns(), "finished"
            info.lines = lines_of(directory)
            write_document(directory / RUN_NAME, info)
            print(f"sseproof: judge it with: sseproof judge {directory}", file=sys.stderr, flush=True)

    environment.events.test_stop.add_listener(finish)


def _on_plan_message(environment: Any, msg: Any, **_: object) -> None:
    directory = Path(msg.data["directory"])
    if not (directory / PLAN_NAME).is_file():
        print(
            f"{RIG_ERROR_MARK}the master's run directory {directory} is not on this machine; "
            "start workers on the master's machine.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_RIG)
    _adopt(environment, directory, environment.runner.worker_index, stride=BARE_STRIDE)


def _on_begin_message(environment: Any, msg: Any, **_: object) -> None:
    run = _runs.get(id(environment))
    if run is None or run.plan.run != msg.data["run"]:
        return
    if run.load.is_open or run.load.is_staged:
        run.begin(msg.data["start_ns"])


def _on_enough(environment: Any, msg: Any, **_: object) -> None:
    run, note = _runs.get(id(environment)), unpacked(msg.data, Note)
    if run is not None and note is not None and note.run == run.plan.run:
        run.admission.close("decided")


def _on_test_start(environment: Any, **_: object) -> None:
    run = _runs.get(id(environment))
    if run is None:
        if isinstance(environment.runner, WorkerRunner):
            print("sseproof: this worker joined after the test began and has no part in it.", file=sys.stderr)
        return
    gc.collect()
    gc.freeze()  # Locust's imports are for good: later collections need not walk through them
    run.metrics.begin()
    if not run.load.is_staged:
        run.admission.start(time.monotonic_ns())
    if not (run.load.is_open or run.load.is_staged) or isinstance(environment.runner, LocalRunner):
        run.begin(now_ns())
    _guarded(environment, lambda: _tick_each_second(run))
    _guarded(environment, lambda: _sample_each_second(run))
    remote = _elsewhere_of(environment)
    if remote is not None:
        remote.begun = True
    if remote is not None or PLAN_VARIABLE in os.environ:
        environment.events.spawning_complete.add_listener(
            lambda **_: gevent.spawn(_close_without_users, environment, run)
        )
        _guarded(environment, lambda: _drain_and_report(environment, run))


def _guarded(environment: Any, work: Callable[[], None]) -> None:
    """A greenlet of ours whose failure ends the run instead of vanishing."""

    def body() -> None:
        try:
            work()
        except SuiteError as error:
            stop_broken(environment, error)

    gevent.spawn(body)


def _tick_each_second(run: WorkerRun) -> None:
    """The seconds are the clock's: those of all workers end together, and their series merge into one."""
    for second in itertools.count(1):
        offset_ns = run.offset().ns
        gevent.sleep((1_000_000_000 - (now_ns() - offset_ns) % 1_000_000_000 + TICK_MARGIN_NS) / 1e9)
        if run.admission.stopped:
            return
        run.tick(with_open=second % OPEN_ROWS_EVERY_S == 0)


def _sample_each_second(run: WorkerRun) -> None:
    """At a random moment of each second: at the same one, a stream with an event a second would always look as old."""
    draw = named_random(run.plan.seed, "staleness", run.worker)
    began = time.monotonic()
    for second in itertools.count():
        gevent.sleep(max(0.0, began + second + draw.random() - time.monotonic()))
        run.client.sample_staleness()


def _close_without_users(environment: Any, run: WorkerRun) -> None:
    """Ends admission when the users have all gone by themselves (StopUser, an error in on_start): nobody takes the rest.

    A load shape may bring others later, and ends the test itself.
    """
    runner = environment.runner
    runner.user_greenlets.join()
    if environment.shape_class is not None or run.admission.closed:
        return
    if runner.target_user_count:
        print("every user stopped before the load was over: no stream is started any more", file=sys.stderr)
    run.admission.close("users")


def _drain_and_report(environment: Any, run: WorkerRun) -> None:
    run.drain()
    remote = _elsewhere_of(environment)
    if remote is not None:
        run.admission.stopped = True  # no row after the last that is sent
    run.tick(with_open=False)
    if isinstance(environment.runner, LocalRunner):
        environment.runner.quit()
        return
    last = {REPORT_KEY: run.take_series()}
    if remote is not None:
        environment.runner.send_message(SERIES_MESSAGE, last)
        remote.flush()
        remote.say_drained()
    else:
        environment.runner.send_message(DRAINED, packed(Note(run=run.plan.run)) | last)


def _on_test_stopping(environment: Any, **_: object) -> None:
    run = _runs.get(id(environment))
    if run is not None and environment.shape_class is not None:
        run.admission.close("shape")
    _on_stopping(environment)


def _on_stopping(environment: Any, **_: object) -> None:
    run = _runs.get(id(environment))
    if run is None or run.admission.stopped:
        return
    run.admission.stopped = True
    try:
        run.stop("interrupted")
        run.tick(with_open=False)
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.send_message(SERIES_MESSAGE, {REPORT_KEY: run.take_series()})
        remote = _elsewhere_of(environment)
        if remote is not None:
            with gevent.Timeout(REMOTE_FLUSH_S, False):
                remote.flush()
    except SuiteError as error:
        stop_broken(environment, error)


def _on_quitting(environment: Any, **_: object) -> None:
    """A worker that ends by itself (SIGTERM) sees to it that its last series have arrived: what is in flight is lost."""
    run = _runs.get(id(environment))
    told = run is not None and run.admission.stopped
    _on_stopping(environment)
    if run is not None and not told and isinstance(environment.runner, WorkerRunner):
        run.last_words.wait(LAST_WORDS_S)


def _on_series_answer(environment: Any, **_: object) -> None:
    run = _runs.get(id(environment))
    if run is not None:
        run.last_words.set()


class _Master:
    """Writes the series that workers report; makes a bare run's directory, or opens the desk of a run with a plan."""

    def __init__(self, environment: Any, plan_path: Path | None, token: str) -> None:
        self._environment = environment
        self._desk: Desk | None = None
        """Of a run with a plan: who takes part, when it begins and ends."""
        self._drained: set[str] = set()
        self._reporting: set[str] = set()
        """Workers that have reported and not said their last word."""
        self._series: SeriesLog | None = None
        environment.runner.register_message(DRAINED, self._on_drained)
        environment.runner.register_message(SERIES_MESSAGE, self._on_series)
        environment.events.worker_report.add_listener(self._on_report)
        environment.events.test_stop.add_listener(lambda **_: self._write_series())
        environment.events.quitting.add_listener(self._on_quitting)
        if plan_path is None:
            environment.runner.register_message(JOIN, lambda **_: None)  # workers ask whether there is a plan
            environment.events.test_start.add_listener(self._start_bare)
        elif plan := self._open_series(plan_path.parent):
            self._desk = Desk(
                environment,
                plan_path.parent,
                plan,
                token,
                broken=lambda error: stop_broken(environment, error),
                before_quit=self._write_series,
            )

    def _heard(self, node: str) -> bool:
        """Whether somebody's word counts: Locust's port is open to whoever finds it."""
        return self._desk is None or self._desk.takes_part(node)

    def _on_drained(self, environment: Any, msg: Any, **_: object) -> None:
        del environment
        if not self._heard(msg.node_id):
            return
        self._take_series(msg.data)
        self._reporting.discard(msg.node_id)
        self._drained.add(msg.node_id)
        if self._desk is not None:
            self._desk.drained(msg)

    def _on_report(self, client_id: str, data: dict[str, object]) -> None:
        if not self._heard(client_id):
            return
        if client_id not in self._drained:
            self._reporting.add(client_id)
        self._take_series(data)

    def _on_series(self, environment: Any, msg: Any, **_: object) -> None:
        if not self._heard(msg.node_id):
            return
        self._take_series(msg.data)
        self._reporting.discard(msg.node_id)
        environment.runner.send_message(SERIES_MESSAGE, None, msg.node_id)

    def _on_quitting(self, **_: object) -> None:
        deadline = time.monotonic() + LAST_WORDS_S
        while self._reporting and time.monotonic() < deadline:
            gevent.sleep(0.02)
        self._write_series()

    def _open_series(self, directory: Path) -> Plan | None:
        try:
            plan = read_document(directory / PLAN_NAME, Plan, "plan")
            self._series = SeriesLog(directory, plan)
        except SuiteError as error:
            stop_broken(self._environment, error)
            return None
        return plan

    def _take_series(self, data: dict[str, object]) -> None:
        try:
            if self._series is not None:
                self._series.take(data.get(REPORT_KEY) or [])
        except SuiteError as error:
            stop_broken(self._environment, error)

    def _write_series(self) -> None:
        """All that is there; what still comes has lines of its own."""
        try:
            if self._series is not None:
                self._series.write()
        except SuiteError as error:
            stop_broken(self._environment, error)

    def _start_bare(self, environment: Any, **_: object) -> None:
        try:
            directory = make_bare_run(
                environment.host, workers=BARE_STRIDE, options=environment.parsed_options
            )
        except SuiteError as error:
            print(f"sseproof: {error}", file=sys.stderr, flush=True)
            environment.process_exit_code = error.exit_code
            gevent.spawn(environment.runner.quit)
            return
        self._open_series(directory)
        environment.runner.send_message(PLAN_MESSAGE, {"directory": str(directory)})
        _say_where(environment, directory)


events.init.add_listener(_on_init)  # type: ignore[no-untyped-call]  # locust types its hooks only in part
