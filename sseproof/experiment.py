"""One run from a scenario to a verdict: checks, preflight, plan, processes, faults, witness, judgement.

Rules:
- Everything that can be refused is refused before the first judged connection, and nothing is left half-started.
- Generator, server, injector and checker are separate processes or pure functions; they meet in the run directory.
  This process imports neither gevent nor asyncio (design.md decision 7).
- Variants run at the same time under the same seeded faults, each with a Locust master and workers of its own. Worker
  numbers run through: worker w works for variant w // workers.
- The chain of a stream is client, Toxiproxy, hop, service; or client, hop, Toxiproxy, service. In the latter each proxy
  has a port of the hop for itself, so that which stream meets which fault is decided in the same way. Faults are healed however the run ends, and what is on disk
  is judged: an interrupt gives the verdicts so far, a broken rig gives 70.
"""

import contextlib
import hashlib
import http.client
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from sseproof import environment
from sseproof.abort import Abort, Watch, parse_condition
from sseproof.calibration import warning
from sseproof.chaos.faults import Command, FaultError, ReadsText, ServerRestart
from sseproof.chaos.plan import FaultPlan, addresses, plan_faults, planned_connect_ns, with_ports
from sseproof.chaos.processes import LOOPBACK, PortLease
from sseproof.children import Child, RunLog, end_all, python_module, run_to_end
from sseproof.engine import check_engine, check_named_engine
from sseproof.judging import judged
from sseproof.limits import check_limits
from sseproof.live_metrics import Endpoint, LiveRun, endpoint
from sseproof.loadtests import LOCUSTFILE
from sseproof.loadtests.arrivals import admission_ns
from sseproof.loadtests.dialects import PLAIN
from sseproof.loadtests.joining import TOKEN_VARIABLE, new_token
from sseproof.loadtests.payloads import read_payloads
from sseproof.loadtests.settings import Load, PreflightRequest, Target, adopted
from sseproof.marks import take_marks
from sseproof.planning import check_faults, demand_of, fixed_units, most_at_once, planned_load, service_of
from sseproof.progress import Progress, RowCounter
from sseproof.reference_server.settings import KEY_HEADER, KEY_VARIABLE, ServerSettings
from sseproof.reports.claims import gap_edges
from sseproof.reports.facts import History
from sseproof.reports.history import add_witness, read_history
from sseproof.reports.judge import RunVerdict, judge_directory
from sseproof.reports.lean import Witnessed
from sseproof.reports.words import aborted_text, count_of
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import (
    EXIT_INTERRUPTED,
    EXIT_RIG,
    EXIT_TERMINATED,
    RigError,
    SuiteError,
    UsageError,
)
from sseproof.rundir.files import (
    FAULTS,
    LARGEST_ROW_BYTES,
    LOG_NAME,
    PLAN_NAME,
    RUN_NAME,
    WITNESS,
    Appender,
    lines_of,
    write_document,
)
from sseproof.rundir.layout import PLAN_VARIABLE, WORKER_VARIABLE, alive, create_run_directory, new_run_id
from sseproof.rundir.machine import host_facts, versions
from sseproof.rundir.rows import (
    Aborted,
    AbortPlan,
    AddressPlan,
    FaultRow,
    Plan,
    PlannedClaim,
    PreflightResult,
    RunInfo,
    VariantPlan,
    WitnessRow,
)
from sseproof.rundir.seeds import new_seed, with_seed
from sseproof.rundir.text import Redactor, inert, printable
from sseproof.rundir.units import encode_hook, parse_duration, to_raw
from sseproof.rundir.variables import env_names, resolve_env
from sseproof.scenario import (
    ENV_PREFIX,
    SECRET_PREFIX,
    STAND_IN,
    Resolved,
    Variant,
    bind_address,
)
from sseproof.servers import OwnServer
from sseproof.until import LookWatch

if TYPE_CHECKING:
    from sseproof.chaos.command import CommandBracket
    from sseproof.chaos.injector import Injector, Service

PREFLIGHT_LIMIT_S: Final = 60.0
MASTER_WAIT_S: Final = 900
"""How long Locust's master waits for somebody to connect: longer than our own limits for those who may take part."""
REMOTE_END_S: Final = 12.0
"""Further time for a master that is to end, while workers on other machines send their last rows."""
POLL_S: Final = 0.1
INTERRUPT_GRACE_S: Final = 6.0
END_GRACE_S: Final = 5.0
WITNESS_WAIT_S: Final = 5.0
"""How long a server may take to notice that the last connections are gone."""
MOST_WITNESS_BYTES: Final = 512 * 1024 * 1024
"""Half a kilobyte for each of a million connections; what calls itself our own server may be anybody."""
_WITNESS_TEXTS: Final = ("profile", "path", "end", "last_event_id", "accept", "accept_encoding", "user_agent")
_MOST_MISBEHAVED: Final = 20
HOP_FOLDER: Final = "sseproof-hop"
EARLY_LINES: Final = 1_000
"""Lines of children kept until there is a run.log for them."""


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
    resolved: Resolved,
    *,
    environ: Mapping[str, str],
    command: list[str],
    quiet: bool,
    notes: Sequence[str] = (),
) -> RunResult:
    """Runs and judges; `notes` are put on record beside the verdicts.

    Raises UsageError (64) or RigError (70) when the run can't begin.
    """
    interruption = Interruption()
    interruption.install()
    with endpoint(resolved.scenario.metrics_port, say, quiet=quiet) as metrics:
        return Experiment(resolved, environ, interruption, quiet=quiet, notes=notes, metrics=metrics).run(
            command
        )


class Side(Struct, kw_only=True):
    """One variant while the run is made: the service behind it and what one look found out."""

    variant: Variant
    service: AddressPlan
    """The target itself, where its witness is asked."""
    upstream: AddressPlan
    """What clients (or their proxies) dial: the hop, else the target."""
    seen: PreflightResult
    connect_ns: int | None
    """Of one connect to the upstream."""
    entries: list[AddressPlan] = []
    """Where clients dial each proxy of this variant, in the plan's order, when the faults sit behind the hop."""

    @property
    def faults_behind_hop(self) -> bool:
        """Client, hop, Toxiproxy, service."""
        return self.variant.fault_side == "service"

    @property
    def upstream_is_ours(self) -> bool:
        """A server or hop that this run started, on loopback."""
        return self.variant.server is not None or (
            self.variant.hop is not None and not self.faults_behind_hop
        )


class _AbortWatch:
    """The run's condition for giving up, by this process's clock."""

    def __init__(self, abort: Abort, variant: str | None) -> None:
        self._stop = abort.stop
        self._variant = variant
        self._condition = parse_condition(abort.when)
        self._watch = Watch(self._condition)
        self._is_over = False

    def ended(self, variant: str | None, good: bool) -> None:  # what RowCounter says
        """A stream's row came in."""
        if variant == self._variant:
            self._watch.ended(time.monotonic(), good=good)

    def blind(self) -> str:
        """That it could not be met, in a sentence; empty where it could."""
        return self._watch.blind()

    def look(self) -> Aborted | None:
        """What is to be put on record, when it is met for the first time; the load has begun."""
        now_s = time.monotonic()
        self._watch.began(now_s)
        met = None if self._is_over else self._watch.look(now_s)
        if met is None:
            return None
        self._is_over = True
        return Aborted(
            when=self._condition.text,
            stop=self._stop,
            at_ns=now_ns(),
            load_ns=round(self._watch.elapsed_s(now_s) * 1e9),
            n=met.n,
            k=met.k,
            over_ns=self._condition.length.ns,
        )


class Experiment:
    """One run, from its checks to its verdict."""

    def __init__(
        self,
        resolved: Resolved,
        environ: Mapping[str, str],
        interruption: Interruption,
        *,
        quiet: bool,
        notes: Sequence[str],
        metrics: Endpoint | None = None,
    ) -> None:
        self._resolved = resolved
        self._scenario = resolved.scenario
        self._interruption = interruption
        self._quiet = quiet
        self._environ = _child_environ(environ, resolved)
        self._token = environ.get(TOKEN_VARIABLE) or new_token()
        self._server_key = new_token()
        """Who knows it is told by our own servers what they sent."""
        self._secrets = [*_secret_values(self._resolved, self._environ), self._token, self._server_key]
        self._redact = Redactor(self._secrets)
        self._log: RunLog | None = None
        self._early: deque[tuple[str, str]] = deque(maxlen=EARLY_LINES)
        self._injector: Injector | None = None
        self._servers: dict[str | None, OwnServer] = {}
        self._command: CommandBracket | None = None
        self._notes = list(notes)
        self._metrics = metrics
        self._live: LiveRun | None = None

    def run(self, command: list[str]) -> RunResult:
        """The whole of it; `command` goes on record."""
        with contextlib.ExitStack() as parts:
            self._seed = self._scenario.seed if self._scenario.seed is not None else new_seed()
            if self._scenario.seed is None:
                command = with_seed(command, self._seed)
            self._scenario.seed = self._seed  # what the plan fixes may depend on it
            check_limits(demand_of(self._resolved))
            check_faults(self._resolved)
            self._bind = self._master_bind()
            check_named_engine(
                self._resolved.source, self._resolved.groups, self._scenario.toxiproxy, ask=True
            )
            services = self._checked_services()
            self._sides = [
                self._side(variant, service, parts)
                for variant, service in zip(self._scenario.variant, services, strict=True)
            ]
            self._compare_with_calibration()
            created_ns = now_ns()
            self._run_id = new_run_id(self._seed, created_ns)
            self._faults = self._planned_faults(parts)
            engine = self._fault_engine()
            self._ports = parts.enter_context(PortLease(len(self._sides))).ports
            if self._bind is not None:
                self._ports = [self._bind[1]]
            self._plan = self._planned(created_ns)
            self._check_reach()
            self._info = self._described(command)
            self._directory = create_run_directory(Path(self._scenario.out), self._plan, self._info)
            self._begin_log(parts)
            if self._metrics is not None:
                self._live = LiveRun(self._directory, self._plan, self._faults)
                self._metrics.text = self._live.text
            problem = self._faulted(engine)
            self._fetch_witness()
        return self._finished(problem)

    # --- before the run: services, hops, one look at each ---

    def _master_bind(self) -> tuple[str, int] | None:
        """Where workers on other machines join, when a place was named; on loopback any free port does."""
        if self._scenario.master_bind is None:
            return None
        host, port = bind_address(self._scenario.master_bind)
        environment.check_bind(host, port)
        return host, port

    @property
    def _host(self) -> str:
        """Where the master listens, and the proxies: what other machines must reach is there."""
        return LOOPBACK if self._bind is None else self._bind[0]

    def _check_reach(self) -> None:
        """Raises UsageError when workers on other machines could not get at what streams connect to."""
        if not self._scenario.remote_workers or ipaddress.ip_address(self._host).is_loopback:
            return
        for variant in self._plan.variants:
            for address in variant.addresses:
                if ipaddress.ip_address(address.host).is_loopback:
                    raise UsageError(
                        f"Streams would connect to {_place(address)}, which is this machine alone, and workers on other "
                        "machines would find themselves there: name the target by an address that they can reach."
                    )

    def _checked_services(self) -> list[AddressPlan | None]:
        """Where each variant's target is, with consent for all of them; None for those that the run starts itself."""
        aims = [_aim(variant) if variant.server is None else None for variant in self._scenario.variant]
        environment.check_consents([aim for aim in aims if aim is not None])
        return [None if aim is None else AddressPlan(host=aim.addresses[0], port=aim.port) for aim in aims]

    def _side(self, variant: Variant, service: AddressPlan | None, parts: contextlib.ExitStack) -> Side:
        service = service or self._started_server(variant, parts)
        with contextlib.ExitStack() as look:
            # Behind a hop there is nothing yet: for the look it leads to the service, and for the run there is another one.
            behind = bool(self._resolved.groups) and variant.fault_side == "service"
            upstream = service
            if variant.hop is not None:
                (upstream,) = self._started_hop(variant, [_place(service)], look if behind else parts)
            seen = self._preflight(variant, upstream)
        connect_ns = seen.connect_ns
        if behind:
            upstream = service
            connect_ns = None if variant.server is not None else _measured_connect_ns(service)
        if (variant.target.kind or seen.kind) == "subscription" and variant.load.streams is not None:
            raise UsageError(
                "The target is a subscription, which does not end by itself, so a number of streams says nothing about "
                'how long they are held: give a duration (or kind = "answer" if its streams do end).'
            )
        _check_topic(adopted(variant.target, seen))
        if not self._quiet:
            say(_preflight_sentence(variant, seen))
        return Side(variant=variant, service=service, upstream=upstream, seen=seen, connect_ns=connect_ns)

    def _started_server(self, variant: Variant, parts: contextlib.ExitStack) -> AddressPlan:
        """A reference server of our own for this variant."""
        assert variant.server is not None
        name = f"server {variant.name}" if variant.name else "server"
        # One that is to come back must find its port free, so it gets one of ours.
        restart = next(
            (each.fault for each in self._resolved.groups if isinstance(each.fault, ServerRestart)), None
        )
        drain_ms = None if restart is None else restart.drain_ms
        settings = ServerSettings(
            port=parts.enter_context(PortLease(1)).ports[0] if restart else 0,
            profile=variant.server.profile,
            misbehave=variant.server.misbehave,
            misbehave_share=variant.server.misbehave_share,
            heartbeat=variant.server.heartbeat,
            seed=self._seed,
            drain=None if drain_ms is None else parse_duration(drain_ms / 1_000),
            handover=None
            if drain_ms is None
            else str(Path(parts.enter_context(_swept_folder())) / "handover.json"),
        )
        server = OwnServer(
            name,
            self._settings_of(variant, settings),
            environ={**self._environ, KEY_VARIABLE: self._server_key},
            line=self._line,
            heed=self._heed_interruption,
        )
        parts.callback(server.close)
        self._servers[variant.name] = server
        variant.target.url = variant.target.url.replace(f"//{STAND_IN}", f"//127.0.0.1:{server.port}", 1)
        return AddressPlan(host="127.0.0.1", port=server.port)

    def _settings_of(self, _variant: Variant, settings: ServerSettings) -> ServerSettings:
        """The settings of a variant's server, as they are used."""
        return settings

    def _started_hop(
        self, variant: Variant, upstreams: Sequence[str], parts: contextlib.ExitStack
    ) -> list[AddressPlan]:
        """The variant's hop, until the parts end; where it listens for each upstream."""
        from sseproof.chaos.hops import Hop

        assert variant.hop is not None
        folder = Path(parts.enter_context(_swept_folder()))
        name = f"hop {variant.name}" if variant.name else "hop"
        hop = parts.enter_context(
            Hop(
                variant.hop,
                upstreams=upstreams,
                folder=folder,
                say=lambda text: self._line(name, text),
                route=urlsplit(variant.target.url).path or "/",
            )
        )
        return [AddressPlan(host=hop.host, port=port) for port in hop.ports]

    def _preflight(self, variant: Variant, upstream: AddressPlan) -> PreflightResult:
        """One stream before the run. Raises UsageError when it shows that the target can't be measured."""
        request = PreflightRequest(
            target=msgspec.structs.replace(variant.target, connect_to=_place(upstream)),
            timeouts=variant.client.timeouts,
            payload=dict(read_payloads(Path(variant.load.payloads))[0]) if variant.load.payloads else None,
        )
        answer = run_to_end(
            python_module("sseproof.loadtests.preflight"),
            msgspec.json.encode(request, enc_hook=encode_hook),
            environ=self._environ,
            timeout_s=PREFLIGHT_LIMIT_S,
            cancelled=lambda: self._interruption.signal is not None,
        )
        self._heed_interruption()
        try:
            result = msgspec.json.decode(answer.stdout, type=PreflightResult)
        except msgspec.DecodeError:
            last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise RigError(f"The look at the target before the run broke: {last[0]}") from None
        if not result.ok:
            raise UsageError(result.sentence)
        return result

    def _heed_interruption(self) -> None:
        if self._interruption.exit_code is not None:
            raise InterruptedBeforeRunError(self._interruption.exit_code)

    def _compare_with_calibration(self) -> None:
        """Warns of a plan too near to what this machine was seen to bear, and puts that on record."""
        rates = [
            side.seen.events / (side.seen.looked_ns / 1e9) if side.seen.looked_ns else None
            for side in self._sides
        ]
        at_once = [self._at_once(side) for side in self._sides]
        sentence = warning(planned_load(self._resolved, at_once, rates, os.cpu_count() or 1), self._environ)
        if sentence is None:
            return
        self._notes.append(sentence)
        if not self._quiet:
            say(sentence)

    # --- the plan ---

    def _planned_faults(self, parts: contextlib.ExitStack) -> FaultPlan | None:
        """Groups, proxies with their ports, windows; None in a run without faults."""
        if not self._resolved.groups:
            return None
        lengths = [length for side in self._sides if (length := self._admission_ns(side)) is not None]
        try:
            plan = plan_faults(
                self._resolved.groups,
                run=self._run_id,
                seed=self._seed,
                upstreams={side.variant.name: _place(side.upstream) for side in self._sides},
                connect_ns=max(
                    planned_connect_ns(side.connect_ns, own=side.upstream_is_ours) for side in self._sides
                ),
                at_once=max(self._at_once(side) for side in self._sides),
                load_ms=round(min(lengths) / 1e6) if lengths else None,
            )
        except FaultError as error:
            raise UsageError(f"{self._resolved.source}: {error}") from None
        plan = with_ports(plan, parts.enter_context(PortLease(len(plan.proxies))).ports, self._host)
        for side in self._sides:
            if side.faults_behind_hop:
                proxies = [proxy.listen for proxy in plan.proxies if proxy.variant == side.variant.name]
                side.entries = self._started_hop(side.variant, proxies, parts)
        return plan

    def _admission_ns(self, side: Side) -> int | None:
        """How long new streams are admitted; None in a closed loop of a fixed number."""
        return admission_ns(side.variant.load, self._replay_ns(side))

    def _replay_ns(self, side: Side) -> list[int]:
        return self._resolved.replays[self._scenario.variant.index(side.variant)]

    def _at_once(self, side: Side) -> int:
        """About how many streams are open at the same time; in an open loop the rate and the look's length say it."""
        return most_at_once(side.variant.load, side.seen.length_ns, self._replay_ns(side))

    def _planned(self, created_ns: int) -> Plan:
        scenario = self._scenario
        return Plan(
            run=self._run_id,
            scenario=scenario.name,
            seed=self._seed,
            created_ns=created_ns,
            workers=scenario.all_workers,
            remote_workers=scenario.remote_workers,
            variants=[
                self._planned_variant(side, port) for side, port in zip(self._sides, self._ports, strict=True)
            ],
            claims=[
                PlannedClaim(
                    text=claim.text,
                    unit=claim.unit,
                    planned_n=None if self._resolved.looks else fixed_units(self._resolved, claim),
                )
                for claim in self._resolved.claims
            ],
            gap_edges_ns=gap_edges(self._resolved.claims),
            faults=msgspec.Raw(msgspec.json.encode(self._faults)) if self._faults else msgspec.Raw(b"null"),
            groups=msgspec.Raw(msgspec.json.encode(self._faults.rule))
            if self._faults
            else msgspec.Raw(b"null"),
            phases=self._resolved.phases,
            abort=None
            if scenario.abort is None
            else AbortPlan(when=scenario.abort.when, stop=scenario.abort.stop),
            looks=self._resolved.looks,
            on_unknown=scenario.on_unknown,
            locustfile=scenario.locustfile,
            locustfile_sha256=_sha256_of(scenario.locustfile),
            notes=self._notes,
        )

    def _planned_variant(self, side: Side, master_port: int) -> VariantPlan:
        variant = side.variant
        return VariantPlan(
            name=variant.name,
            judged=variant.judged,
            hop=variant.hop,
            fault_side=variant.fault_side,
            server=variant.server.profile if variant.server else None,
            target=to_raw(adopted(variant.target, side.seen)),
            load=to_raw(variant.load),
            client=to_raw(variant.client),
            addresses=self._addresses(side),
            identity_groups=[
                group.name for group in self._resolved.groups if isinstance(group.fault, ReadsText)
            ],
            preflight=side.seen,
            master_port=master_port,
            master_host=self._host,
            replay_ns=self._replay_ns(side),
            payloads_sha256=_sha256_of(variant.load.payloads),
        )

    def _addresses(self, side: Side) -> list[AddressPlan]:
        """Where the variant's streams connect to: its proxies, or the ports of the hop that lead to them."""
        if self._faults is None:
            return [side.upstream]
        proxies = addresses(self._faults, side.variant.name)
        if not side.faults_behind_hop:
            return proxies
        return [
            msgspec.structs.replace(proxy, host=entry.host, port=entry.port)
            for proxy, entry in zip(proxies, side.entries, strict=True)
        ]

    def _described(self, command: list[str]) -> RunInfo:
        return RunInfo(
            run=self._plan.run,
            started_ns=self._plan.created_ns,
            labels=self._scenario.labels,
            versions=versions() | self._engine_version(),
            host=host_facts(),
            command=[self._redact(part) for part in command],
            pid=os.getpid(),
        )

    # --- faults ---

    def _fault_engine(self) -> "Callable[[], Injector] | None":
        """Finds or builds the server now, while nothing is recorded; starts it later, when there is a directory."""
        self._engine: str | None = None
        if self._faults is None:
            return None
        from sseproof.chaos.injector import Injector
        from sseproof.chaos.install import engine_name, install
        from sseproof.chaos.toxiproxy import Client, Server

        found = install(say, self._scenario.toxiproxy, heed=self._heed_interruption)
        self._heed_interruption()
        external = Client.from_url(found.url) if found.url is not None else None
        version = external.version() if external is not None else found.version
        check_engine(self._resolved.source, self._resolved.groups, version, found.url or found.path)
        self._engine = engine_name(version)
        if self._engine != version:
            where = found.url or found.path
            self._notes.append(
                f"The fault engine is a stock Toxiproxy ({where}, {version}), no build of ours."
            )
        faults = self._faults

        def start() -> Injector:
            server: Server | Client
            if external is not None:
                server = external
            else:
                server = Server(found, say=lambda text: self._line("toxiproxy", text), environ=self._environ)
            rows: Appender[FaultRow] = Appender(self._directory, FAULTS, self._run_id)
            for side in self._sides:
                if side.variant.name in self._servers:
                    self._servers[side.variant.name].before_kill = partial(self._fetch_rows, side)
            return Injector(faults, server, rows, self._services())

        return start

    def _services(self) -> "dict[str | None, Service]":
        """What a fault may take away in each variant: its server, or what the scenario's command does to all of them."""
        commands = [group.fault for group in self._resolved.groups if isinstance(group.fault, Command)]
        if not commands:
            return dict(self._servers)
        from sseproof.chaos.command import CommandBracket

        self._command = CommandBracket(
            commands[0],
            say=lambda text: self._line("command", text),
            environ=self._environ,
            secrets=self._secrets,
        )
        return {side.variant.name: self._command for side in self._sides}

    def _engine_version(self) -> dict[str, str]:
        return {} if self._engine is None else {"toxiproxy": self._engine}

    def _faulted(self, engine: "Callable[[], Injector] | None") -> str:
        """The load, under faults where there are any; healed in any case. Gives the rig's problem, if there was one."""
        if engine is None:
            return self._loaded()
        try:
            self._injector = engine()
        except SuiteError as error:
            return str(error)
        try:
            with self._injector as injector:
                try:
                    injector.setup()
                    problem = self._loaded()
                except SuiteError as error:
                    problem = str(error)
        finally:
            if self._command is not None:
                self._command.close()
        return problem or (str(injector.problem) if injector.problem else "")

    # --- the load ---

    def _loaded(self) -> str:
        """Runs the load to its end; gives the rig's problem in one sentence, empty when there was none."""
        masters: list[Child] = []
        workers: list[Child] = []
        try:
            for position, side in enumerate(self._sides):
                self._start(position, side, masters, workers)
            self._say_where_to_join()
            problem = self._watched(masters, workers)
        except SuiteError as error:
            return str(error)
        else:
            self._say_what_follows()
            return problem
        finally:
            remote_s = REMOTE_END_S if self._scenario.remote_workers else 0.0
            end_all([*masters, *workers], END_GRACE_S + remote_s)

    def _start(self, position: int, side: Side, masters: list[Child], workers: list[Child]) -> None:
        """The variant's master, then its workers; each is in its list as soon as it lives."""
        scenario = self._scenario
        locustfile = Path(scenario.locustfile).resolve() if scenario.locustfile else LOCUSTFILE
        # Locust reads locust.conf and pyproject.toml of its working directory; the run's folder has neither.
        cwd = None if scenario.locustfile else self._directory
        environ = {
            **self._environ,
            PLAN_VARIABLE: str((self._directory / PLAN_NAME).resolve()),
            TOKEN_VARIABLE: self._token,
        }
        port = str(self._plan.variants[position].master_port)
        parts = urlsplit(side.variant.target.url)
        users = str(_locust_users(side.variant.load, self._plan.workers))
        suffix = f" {side.variant.name}" if side.variant.name else ""
        # Locust counts who connects; the load begins when those who may are ready, and our own limit ends the wait.
        wait_s = str(round(MASTER_WAIT_S))
        common = ["-f", str(locustfile), "--headless", "--loglevel", "WARNING", "--exit-code-on-error", "0"]
        as_master = [
            *["--master", "--master-bind-host", self._host, "--master-bind-port", port, "--only-summary"],
            *["--expect-workers", str(self._plan.workers), "--expect-workers-max-wait", wait_s],
            *["--users", users, "--spawn-rate", users, "--host", f"{parts.scheme}://{parts.netloc}"],
        ]
        as_worker = ["--worker", "--master-host", self._host, "--master-port", port]
        assert self._log is not None
        command = python_module("locust", *common, *as_master)
        masters.append(Child(f"master{suffix}", command, log=self._log, environ=environ, cwd=cwd))
        command = python_module("locust", *common, *as_worker)
        first = position * self._plan.workers
        for number in range(first, first + scenario.workers):
            own = {**environ, WORKER_VARIABLE: str(number)}
            workers.append(Child(f"worker {number}{suffix}", command, log=self._log, environ=own, cwd=cwd))

    def _say_where_to_join(self) -> None:
        """What has to be typed on the other machines. The token is for their terminals; no file has it."""
        if not self._scenario.remote_workers:
            return
        variant = self._plan.variants[0]
        own = f" --locustfile {Path(self._plan.locustfile).name}" if self._plan.locustfile else ""
        print(
            f"Waiting for {count_of(self._scenario.remote_workers, 'worker')} to join; on each of the other machines:\n"
            f"  {TOKEN_VARIABLE}={self._token} sseproof worker --master {variant.master_host}:{variant.master_port}{own}",
            file=sys.stderr,
            flush=True,
        )

    def _watched(self, masters: list[Child], workers: list[Child]) -> str:
        """Waits for the masters' end; notes lost workers; ends early on a signal or a rig error."""
        watch = self._watch_for_abort()
        looks = self._watch_for_looks()
        rows = RowCounter(self._directory) if watch is None else RowCounter(self._directory, watch.ended)
        begun = False
        with Progress(
            expected_s=self._expected_s(), streams=self._all_streams(), quiet=self._quiet
        ) as progress:
            while any(master.poll() is None for master in masters):
                time.sleep(POLL_S)
                counts = rows.update()
                progress.show(counts)
                if self._live is not None:
                    self._live.update()
                if self._interruption.signal is not None:
                    self._end_load(masters, workers)
                    return ""
                if problem := _said_problem([*masters, *workers]):
                    return problem
                if self._injector is not None and counts.started:
                    if not begun:
                        self._injector.begin()
                        begun = True
                    self._injector.check()  # what it finds is told at the end; the load goes on
                    if self._injector.is_lost:
                        return str(self._injector.problem)
                if watch is not None and counts.started and (aborted := watch.look()) is not None:
                    self._abort(aborted)
                    if aborted.stop == "load":
                        self._end_load(masters, workers)
                        return ""
                if looks is not None and looks.enough(counts) and not self._quiet:
                    say(f"Decided after {count_of(counts.ended, 'stream')}: no further one is started.")
                self._note_lost(masters, workers)
                if len(self._info.workers_lost) == len(self._sides) * self._plan.workers:
                    return f"Every worker ended early; {LOG_NAME} in the run directory says why."
        if watch is not None and (blind := watch.blind()):
            say(blind)
        if problem := _said_problem([*masters, *workers]):
            return problem
        for master in masters:
            if master.wait(1):
                return f"Locust's {master.name} ended with exit code {master.poll()}; {LOG_NAME} says why."
        if rows.update().started == 0:
            return f"No stream was started; {LOG_NAME} in the run directory says why."
        return ""

    def _end_load(self, masters: list[Child], workers: list[Child]) -> None:
        """Ends the workers before their time: what is open is closed, and put on record."""
        if self._scenario.remote_workers:
            # Else Locust hands the users of our own workers to those elsewhere, who know of no end yet.
            for master in masters:
                master.terminate()
        end_all(workers, INTERRUPT_GRACE_S)

    def _watch_for_looks(self) -> LookWatch | None:
        """None in a run that is judged once, when it is over."""
        if not self._plan.looks:
            return None
        return LookWatch(self._plan, self._directory, self._history_so_far)

    def _history_so_far(self) -> History:
        """What is on record now, and what our own servers know of it: their rows come to the record at the end."""
        history = read_history(self._directory)
        for side in self._sides:
            if side.seen.witness_path is None:
                continue
            with contextlib.suppress(OSError, http.client.HTTPException, msgspec.DecodeError, ValueError):
                rows = self._witness_rows(side)
                add_witness(history, [msgspec.convert(row, Witnessed, from_attributes=True) for row in rows])
        return history

    def _watch_for_abort(self) -> _AbortWatch | None:
        if self._scenario.abort is None:
            return None
        variant = next(each.name for each in self._plan.variants if each.judged)
        return _AbortWatch(self._scenario.abort, variant)

    def _abort(self, aborted: Aborted) -> None:
        """Puts on record that the run gives up, and heals what is broken."""
        self._info.aborted = aborted
        sentence = aborted_text(aborted)
        if self._injector is not None:
            self._injector.abort(sentence)
        if not self._quiet:
            say(sentence)
        # Whatever becomes of this process, what came afterwards must not be judged as if it had been planned.
        write_document(self._directory / RUN_NAME, self._info)

    def _say_what_follows(self) -> None:
        """One line after the bar, which would else leave the terminal silent for some seconds."""
        if self._quiet:
            return
        steps = ["heal the faults"] if self._injector is not None else []
        if any(side.seen.witness_path is not None for side in self._sides):
            steps.append("ask the server what it sent")
        say(f"The load is over. Next: {', '.join([*steps, 'judge what was recorded'])}.")

    def _note_lost(self, masters: list[Child], workers: list[Child]) -> None:
        """A worker that ended with an error while the master lives is lost; its open streams are unfinished.

        One on another machine is lost while its master does not see it.
        """
        here = self._scenario.workers
        lost = {
            position // here * self._plan.workers + position % here
            for position, worker in enumerate(workers)
            if worker.poll() not in {None, 0}
        }
        self._info.workers_lost = sorted(lost.union(*(master.workers_lost for master in masters)))

    def _expected_s(self) -> float | None:
        ends = [
            (length + (side.seen.length_ns or 0)) / 1e9
            for side in self._sides
            if (length := self._admission_ns(side)) is not None
        ]
        return max(ends) if len(ends) == len(self._sides) else None

    def _all_streams(self) -> int | None:
        if any(side.variant.load.is_open for side in self._sides):
            return None  # time is the better measure of a schedule
        fixed = [side.variant.load.streams for side in self._sides]
        return sum(number or 0 for number in fixed) if all(fixed) else None

    # --- afterwards ---

    def _fetch_witness(self) -> None:
        """Copies our own servers' rows of this run into the directory; a server that is gone leaves loss unknown."""
        for side in self._sides:
            if side.seen.witness_path is not None:
                self._fetch_rows(side, settled=True)

    def _fetch_rows(self, side: Side, *, settled: bool = False) -> None:
        """One server's rows, as they are now or once they have settled."""
        try:
            rows = self._settled_witness(side) if settled else self._witness_rows(side)
            witness: Appender[WitnessRow] = Appender(self._directory, WITNESS, self._run_id)
            for row in rows:
                witness.append(self._fit_for_file(row))
            witness.close()
        except (OSError, http.client.HTTPException, msgspec.DecodeError, ValueError, RigError) as error:
            self._line("sseproof", f"the witness could not be read: {error}")

    def _fit_for_file(self, row: WitnessRow) -> WitnessRow:
        """The row with its texts printable and without secrets: anybody can call himself our own server."""
        texts = {
            name: printable(self._redact(value)) for name in _WITNESS_TEXTS if (value := getattr(row, name))
        }
        misbehaved = [printable(self._redact(each)) for each in row.misbehaved[:_MOST_MISBEHAVED]]
        return msgspec.structs.replace(row, **texts, misbehaved=misbehaved)

    def _witness_rows(self, side: Side) -> list[WitnessRow]:
        """What the server says of this run's streams, to whom they belong where it asks for a login."""
        assert side.seen.witness_path is not None
        target = side.variant.target
        clear = urlsplit(target.url).scheme == "http"  # what goes over TLS must not be sent without
        logins = {
            name: resolve_env(value, self._environ)[0]
            for name, value in target.headers.items()
            if clear and name.lower() == "authorization"
        }
        if side.variant.server is not None:
            logins[KEY_HEADER] = self._server_key
        return _witness_rows(side.service, side.seen.witness_path, self._run_id, logins)

    def _settled_witness(self, side: Side) -> list[WitnessRow]:
        """The rows, once the server has noticed that every connection is gone or the wait is over."""
        deadline = time.monotonic() + WITNESS_WAIT_S
        while True:
            rows = self._witness_rows(side)
            if all(row.ended is not None for row in rows) or time.monotonic() > deadline:
                return rows
            time.sleep(POLL_S)

    def _finished(self, problem: str) -> RunResult:
        """Writes how the run ended, judges it, and gives the exit code."""
        code = self._interruption.exit_code or (EXIT_RIG if problem else None)
        info = self._info
        info.ended_ns = now_ns()
        info.problem = problem
        info.how = "failed" if problem else "finished"
        if self._interruption.signal is not None:
            info.how = "interrupted" if self._interruption.signal == signal.SIGINT else "terminated"
        elif info.aborted is not None and info.aborted.stop == "load" and not problem:
            info.how = "interrupted"
        if self._live is not None:
            self._live.end(info.how)
        try:
            if self._scenario.marks is not None and (
                left := take_marks(Path(self._scenario.marks), self._directory, info)
            ):
                say(left)
            info.lines = lines_of(self._directory)
            write_document(self._directory / RUN_NAME, info)
            verdict = judged(self._directory)
        except RigError as error:
            problem, code = problem or str(error), code or EXIT_RIG
            verdict = judge_directory(self._directory)
        if problem:
            say(problem)
        return RunResult(
            directory=self._directory, verdict=verdict, exit_code=verdict.exit_code if code is None else code
        )

    # --- lines of children ---

    def _begin_log(self, parts: contextlib.ExitStack) -> None:
        self._log = RunLog(self._directory / LOG_NAME, self._redact)
        parts.callback(self._log.close)
        while self._early:
            self._log.line(*self._early.popleft())

    def _line(self, source: str, text: str) -> None:
        if self._log is None:
            self._early.append((source, text))
        else:
            self._log.line(source, text)


@contextlib.contextmanager
def _swept_folder() -> Iterator[str]:
    """A folder for a hop's files, gone afterwards; what a killed run left there goes at the next one's start."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{HOP_FOLDER}-*-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{HOP_FOLDER}-{os.getpid()}-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured_connect_ns(address: AddressPlan) -> int | None:
    """Of one connect to a service that the look met through a hop; None when it fails: the look did not."""
    began_ns = time.monotonic_ns()
    try:
        socket.create_connection((address.host, address.port), PREFLIGHT_LIMIT_S).close()
    except OSError:
        return None
    return time.monotonic_ns() - began_ns


def _check_topic(target: Target) -> None:
    """Raises UsageError where the streams can't be subscribers of one topic."""
    if target.topic is None:
        return
    if target.kind == "answer":
        raise UsageError(
            "target.topic is for subscriptions, and one look took the target for an answer: leave it out "
            '(or say kind = "subscription").'
        )
    if target.sequence in {None, "none"}:
        raise UsageError(
            "target.topic needs numbered events, and one look found none: name target.sequence (id, or json:FIELD)."
        )


def _locust_users(load: Load, workers: int) -> int:
    """How many users Locust starts: in an open loop one a worker, who walks the worker's part of the schedule.

    Staged users take places, which are split by their numbers: each worker has as many users as it may have places.
    """
    if load.is_open:
        return workers
    return -(-load.at_once // workers) * workers if load.is_staged else load.users


def _place(address: AddressPlan) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _child_environ(environ: Mapping[str, str], resolved: Resolved) -> dict[str, str]:
    """The children's environment: no settings of Locust's or ours but the secrets, by their names."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("LOCUST_", ENV_PREFIX)) or name.startswith(SECRET_PREFIX)
    }
    return {**kept, **resolved.secrets}


def _secret_values(resolved: Resolved, environ: Mapping[str, str]) -> list[str]:
    texts: list[str] = []
    for variant in resolved.scenario.variant:
        target = variant.target
        texts += [target.url, *target.headers.values(), target.body or ""]
    for group in resolved.groups:
        if isinstance(group.fault, Command):
            texts += [*group.fault.do, *group.fault.undo, *group.fault.done_when]
    return [environ[name] for text in texts for name in env_names(text) if name in environ]


def _aim(variant: Variant) -> environment.Aim:
    """Where a variant's load goes; its name is resolved here, once."""
    target = variant.target
    host, port = service_of(target)
    return environment.Aim(
        host=host,
        addresses=environment.resolve(host, port),
        port=port,
        users=variant.load.at_once,
        allow=target.allow,
        allow_load=target.allow_load,
    )


def _preflight_sentence(variant: Variant, seen: PreflightResult) -> str:
    whose = f"{variant.name}: l" if variant.name else "L"
    kind = "a subscription (still open when the look ended)" if seen.kind == "subscription" else "an answer"
    if adopted(variant.target, seen).dialect != PLAIN:
        return f"{whose}ooked at one stream: {kind}, {count_of(seen.events, 'event')}. {_dialect_sentence(variant, seen)} Not judged."
    end = "no terminal marker" if seen.terminal in {None, "none"} else f"terminal {seen.terminal}"
    witness = ", our own reference server: its witness will be asked" if seen.witness_path else ""
    service = f" It looks like {seen.service}, and is read as plain events." if seen.service else ""
    return (
        f"{whose}ooked at one stream: {kind}, {count_of(seen.events, 'event')}, {end}, "
        f"sequence {seen.sequence or 'unknown'}, text {seen.text or 'unknown'}{witness}.{service} Not judged."
    )


def _dialect_sentence(variant: Variant, seen: PreflightResult) -> str:
    """How the events of a model service will be read, and how that is known."""
    named = variant.target.dialect
    if named is None:
        return (
            f'Recognised from its events: {seen.service}, read as such (dialect = "{PLAIN}" says otherwise).'
        )
    if seen.service and seen.dialect != named:
        return f"Read as {named}, as the scenario says; its events look like {seen.service}."
    return f"Read as {named}, as the scenario says."


def _sha256_of(path: str | None) -> str | None:
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _said_problem(children: list[Child]) -> str | None:
    return next((child.rig_error for child in children if child.rig_error), None)


def _witness_rows(
    address: AddressPlan, path: str, run: str, headers: Mapping[str, str] | None = None
) -> list[WitnessRow]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    try:
        connection.request("GET", f"{path}?run={run}", headers=dict(headers or {}))
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"status {answer.status}")
        decoder = msgspec.json.Decoder(WitnessRow)
        rows = []
        left = MOST_WITNESS_BYTES
        while line := answer.readline(LARGEST_ROW_BYTES):
            left -= len(line)
            if left < 0:
                raise ValueError(f"more than {MOST_WITNESS_BYTES:,} bytes")
            if line.strip():
                rows.append(decoder.decode(line))
        return [row for row in rows if row.run == run]
    finally:
        connection.close()


def say(sentence: str) -> None:
    """One line of progress, harmless wherever it is printed."""
    print(inert(sentence), file=sys.stderr, flush=True)
