"""One run from a scenario to a verdict: checks, preflight, plan, processes, witness, judgement.

Rules:
- Everything that can be refused is refused before the first judged connection, and nothing is left half-started.
- Generator, server and checker are separate processes or pure functions; they meet in the run directory. This process
  imports neither gevent nor asyncio (design.md decision 7).
- However the run ends, what is on disk is judged: an interrupt gives the verdicts so far, a broken rig gives 70.
"""

import http.client
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from sseproof import environment
from sseproof.children import Child, RunLog, end_all, python_module, run_to_end
from sseproof.loadtests.settings import PreflightRequest, adopted
from sseproof.progress import Progress, RowCounter
from sseproof.reports.claims import gap_edges
from sseproof.reports.judge import RunVerdict, judge_directory, write_verdict
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import (
    EXIT_INTERRUPTED,
    EXIT_RIG,
    EXIT_TERMINATED,
    RigError,
    SuiteError,
    UsageError,
)
from sseproof.rundir.files import LOG_NAME, PLAN_NAME, RUN_NAME, WITNESS, Appender, write_document
from sseproof.rundir.layout import PLAN_VARIABLE, WORKER_VARIABLE, create_run_directory, new_run_id
from sseproof.rundir.rows import (
    AddressPlan,
    Plan,
    PlannedClaim,
    PreflightResult,
    RunInfo,
    VariantPlan,
    WitnessRow,
)
from sseproof.rundir.seeds import new_seed
from sseproof.rundir.text import Redactor
from sseproof.rundir.units import encode_hook, to_raw
from sseproof.scenario import ENV_PREFIX, SECRET_PREFIX, Resolved, Scenario, env_names

LOCUSTFILE: Final = Path(__file__).resolve().parent / "loadtests" / "locustfile.py"
PREFLIGHT_LIMIT_S: Final = 60.0
WORKERS_WAIT_S: Final = 60
"""How long the master waits for its workers to import Locust and connect."""
POLL_S: Final = 0.1
INTERRUPT_GRACE_S: Final = 6.0
END_GRACE_S: Final = 5.0
WITNESS_WAIT_S: Final = 5.0
"""How long the server may take to notice that the last connections are gone."""
START_ALLOWANCE_S: Final = 3.0
"""Start-up of the Locust processes, for the time left."""


class RunResult(Struct):
    """What a run left behind."""

    directory: Path
    verdict: RunVerdict
    exit_code: int


class Interruption:
    """Notes SIGINT and SIGTERM instead of unwinding whatever runs; a second one is the same wish, not a crash."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def install(self) -> None:
        """Takes over both signals for this process."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)

    @property
    def exit_code(self) -> int | None:
        """130 or 143 once a signal came."""
        if self.signal is None:
            return None
        return EXIT_INTERRUPTED if self.signal == signal.SIGINT else EXIT_TERMINATED


class InterruptedBeforeRunError(SuiteError):
    """A signal came before anything was recorded."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("Interrupted before the run began; nothing was recorded.")
        self.exit_code = exit_code


def run_scenario(
    resolved: Resolved, *, environ: Mapping[str, str], command: list[str], quiet: bool
) -> RunResult:
    """Runs and judges. Raises UsageError (64) or RigError (70) when the run can't begin."""
    interruption = Interruption()
    interruption.install()
    return _Experiment(resolved, environ, interruption, quiet=quiet).run(command)


class _Experiment:
    """One run, from its checks to its verdict."""

    def __init__(
        self, resolved: Resolved, environ: Mapping[str, str], interruption: Interruption, *, quiet: bool
    ) -> None:
        self._resolved = resolved
        self._scenario = resolved.scenario
        self._interruption = interruption
        self._quiet = quiet
        self._environ = _child_environ(environ, resolved)
        self._redact = Redactor(_secret_values(self._scenario, self._environ))

    def run(self, command: list[str]) -> RunResult:
        address = _checked_address(self._scenario)
        preflight = self._preflight(address)
        if not self._quiet:
            _say(_preflight_sentence(preflight))
        self._seen = preflight
        self._address = address
        self._plan = self._planned()
        self._info = RunInfo(
            run=self._plan.run,
            started_ns=self._plan.created_ns,
            labels=self._scenario.labels,
            versions=environment.versions(),
            host=environment.host_facts(),
            command=[self._redact(part) for part in command],
        )
        self._directory = create_run_directory(Path(self._scenario.out), self._plan, self._info)
        self._log = RunLog(self._directory / LOG_NAME, self._redact)
        problem = self._loaded()
        self._fetch_witness()
        self._log.close()
        return self._finished(problem)

    def _preflight(self, address: AddressPlan) -> PreflightResult:
        """One stream before the run. Raises UsageError when it shows that the target can't be measured."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        request = PreflightRequest(
            target=msgspec.structs.replace(self._scenario.target, connect_to=f"{host}:{address.port}"),
            timeouts=self._scenario.client.timeouts,
        )
        answer = run_to_end(
            python_module("sseproof.loadtests.preflight"),
            msgspec.json.encode(request, enc_hook=encode_hook),
            environ=self._environ,
            timeout_s=PREFLIGHT_LIMIT_S,
            cancelled=lambda: self._interruption.signal is not None,
        )
        if self._interruption.exit_code is not None:
            raise InterruptedBeforeRunError(self._interruption.exit_code)
        try:
            result = msgspec.json.decode(answer.stdout, type=PreflightResult)
        except msgspec.DecodeError:
            last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise RigError(f"The look at the target before the run broke: {last[0]}") from None
        if not result.ok:
            raise UsageError(result.sentence)
        return result

    def _planned(self) -> Plan:
        scenario = self._scenario
        seed = scenario.seed if scenario.seed is not None else new_seed()
        created_ns = now_ns()
        variant = VariantPlan(
            target=to_raw(adopted(scenario.target, self._seen)),
            load=to_raw(scenario.load),
            client=to_raw(scenario.client),
            addresses=[self._address],
            preflight=self._seen,
            master_port=environment.free_port(),
        )
        return Plan(
            run=new_run_id(seed, created_ns),
            scenario=scenario.name,
            seed=seed,
            created_ns=created_ns,
            workers=scenario.workers,
            variants=[variant],
            claims=[
                PlannedClaim(text=claim.text, unit=claim.unit, planned_n=planned_n(scenario, claim.unit))
                for claim in self._resolved.claims
            ],
            gap_edges_ns=gap_edges(self._resolved.claims),
            on_unknown=scenario.on_unknown,
            locustfile=scenario.locustfile,
        )

    def _loaded(self) -> str:
        """Runs the load to its end; gives the rig's problem in one sentence, empty when there was none."""
        children: list[Child] = []
        try:
            self._start(children)
            return self._watched(children)
        except SuiteError as error:
            return str(error)
        finally:
            end_all(children, END_GRACE_S)

    def _start(self, children: list[Child]) -> None:
        """The master first, then its workers; each is in the list as soon as it lives."""
        scenario = self._scenario
        locustfile = Path(scenario.locustfile).resolve() if scenario.locustfile else LOCUSTFILE
        # Locust reads locust.conf and pyproject.toml of its working directory; the run's folder has neither.
        cwd = None if scenario.locustfile else self._directory
        environ = {**self._environ, PLAN_VARIABLE: str((self._directory / PLAN_NAME).resolve())}
        port = str(self._plan.variants[0].master_port)
        parts = urlsplit(scenario.target.url)
        users = str(scenario.load.users)
        common = ["-f", str(locustfile), "--headless", "--loglevel", "WARNING", "--exit-code-on-error", "0"]
        as_master = [
            *["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--only-summary"],
            *["--expect-workers", str(self._plan.workers), "--expect-workers-max-wait", str(WORKERS_WAIT_S)],
            *["--users", users, "--spawn-rate", users, "--host", f"{parts.scheme}://{parts.netloc}"],
        ]
        as_worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
        command = python_module("locust", *common, *as_master)
        children.append(Child("master", command, log=self._log, environ=environ, cwd=cwd))
        command = python_module("locust", *common, *as_worker)
        for number in range(self._plan.workers):
            own = {**environ, WORKER_VARIABLE: str(number)}
            children.append(Child(f"worker {number}", command, log=self._log, environ=own, cwd=cwd))

    def _watched(self, children: list[Child]) -> str:
        """Waits for the master's end; notes lost workers; ends early on a signal or a rig error."""
        master, *workers = children
        rows = RowCounter(self._directory)
        load = self._scenario.load
        with Progress(expected_s=self._expected_s(), streams=load.streams, quiet=self._quiet) as progress:
            while master.poll() is None:
                time.sleep(POLL_S)
                progress.show(rows.update())
                if self._interruption.signal is not None:
                    end_all(workers, INTERRUPT_GRACE_S)
                    return ""
                if problem := _said_problem(children):
                    return problem
                self._note_lost(workers)
                if len(self._info.workers_lost) == len(workers):
                    return f"Every worker ended early; {LOG_NAME} in the run directory says why."
        if problem := _said_problem(children):
            return problem
        if master.wait(1):
            return f"Locust's master ended with exit code {master.poll()}; {LOG_NAME} in the run directory says why."
        if rows.update().started == 0:
            return f"No stream was started; {LOG_NAME} in the run directory says why."
        return ""

    def _note_lost(self, workers: list[Child]) -> None:
        """A worker that ended with an error while the master lives is lost; its open streams are unfinished."""
        for number, worker in enumerate(workers):
            if worker.poll() not in {None, 0} and number not in self._info.workers_lost:
                self._info.workers_lost.append(number)

    def _expected_s(self) -> float | None:
        duration = self._scenario.load.duration
        if duration is None:
            return None
        return START_ALLOWANCE_S + duration.seconds + (self._seen.length_ns or 0) / 1e9

    def _fetch_witness(self) -> None:
        """Copies our own server's rows of this run into the directory; a server that is gone leaves loss unknown."""
        if self._seen.witness_path is None:
            return
        deadline = time.monotonic() + WITNESS_WAIT_S
        while True:
            try:
                rows = _witness_rows(self._address, self._seen.witness_path, self._plan.run)
            except (OSError, http.client.HTTPException, msgspec.DecodeError, ValueError) as error:
                self._log.line("sseproof", f"the witness could not be read: {error}")
                return
            if all(row.ended is not None for row in rows) or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        try:
            witness: Appender[WitnessRow] = Appender(self._directory, WITNESS, self._plan.run)
            for row in rows:
                witness.append(row)
            witness.close()
        except RigError as error:
            self._log.line("sseproof", str(error))

    def _finished(self, problem: str) -> RunResult:
        """Writes how the run ended, judges it, and gives the exit code."""
        code = self._interruption.exit_code or (EXIT_RIG if problem else None)
        info = self._info
        info.ended_ns = now_ns()
        info.problem = problem
        info.how = "failed" if problem else "finished"
        if self._interruption.signal is not None:
            info.how = "interrupted" if self._interruption.signal == signal.SIGINT else "terminated"
        try:
            write_document(self._directory / RUN_NAME, info)
            verdict = judge_directory(self._directory)
            write_verdict(self._directory, verdict)
        except RigError as error:
            problem, code = problem or str(error), code or EXIT_RIG
            verdict = judge_directory(self._directory)
        if problem:
            _say(problem)
        return RunResult(
            directory=self._directory, verdict=verdict, exit_code=verdict.exit_code if code is None else code
        )


def _child_environ(environ: Mapping[str, str], resolved: Resolved) -> dict[str, str]:
    """The children's environment: no settings of Locust's or ours but the secrets, by their names."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("LOCUST_", ENV_PREFIX)) or name.startswith(SECRET_PREFIX)
    }
    return {**kept, **resolved.secrets}


def _secret_values(scenario: Scenario, environ: Mapping[str, str]) -> list[str]:
    target = scenario.target
    texts = [target.url, *target.headers.values(), target.body or ""]
    return [environ[name] for text in texts for name in env_names(text) if name in environ]


def _checked_address(scenario: Scenario) -> AddressPlan:
    """Resolves the target once and checks consent and the machine's limits."""
    target = scenario.target
    parts = urlsplit(target.url)
    assert parts.hostname is not None
    host = parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if target.connect_to is not None:
        name, _, text = target.connect_to.rpartition(":")
        host, port = name.strip("[]"), int(text)
    found = environment.resolve(host, port)
    environment.check_consent(host, found, scenario.load.users, target.allow, target.allow_load)
    environment.check_descriptors(scenario.load.users, scenario.workers)
    environment.check_ephemeral_ports(scenario.load.users)
    return AddressPlan(host=found[0], port=port)


def _preflight_sentence(seen: PreflightResult) -> str:
    kind = "a subscription (still open when the look ended)" if seen.kind == "subscription" else "an answer"
    end = "no terminal marker" if seen.terminal in {None, "none"} else f"terminal {seen.terminal}"
    witness = ", our own reference server: its witness will be asked" if seen.witness_path else ""
    return (
        f"Looked at one stream: {kind}, {seen.events} events, {end}, sequence {seen.sequence or 'unknown'}{witness}. "
        "Not judged."
    )


def planned_n(scenario: Scenario, unit: str) -> int | None:
    """The number of units a claim will be judged on, where the plan fixes it."""
    return scenario.load.streams if unit == "stream" else None


def _said_problem(children: list[Child]) -> str | None:
    return next((child.rig_error for child in children if child.rig_error), None)


def _witness_rows(address: AddressPlan, path: str, run: str) -> list[WitnessRow]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    try:
        connection.request("GET", f"{path}?run={run}")
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"status {answer.status}")
        decoder = msgspec.json.Decoder(WitnessRow)
        return [decoder.decode(line) for line in answer if line.strip()]
    finally:
        connection.close()


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
