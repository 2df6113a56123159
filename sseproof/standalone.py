"""`sseproof chaos run`: faults alone, for load that comes from elsewhere.

Rules (design.md decisions 8, 9 and 13):
- Nobody of ours decides which stream meets which fault. Without shares each fault of the plan has a port of its own, and a
  clean one comes last: who makes the load decides by where it dials. With shares there is one port, and each connection
  to it is drawn into a group from the seed (`chaos.front`).
- Nobody knows whose connection is whose, so a cut is on every connection.
- It listens on loopback unless told otherwise, by IPv4 or IPv6; the server's own interface never leaves loopback.
- The run directory is that of a run without streams: its plan, its journal, and how it ended. Ctrl-C is its usual end;
  whatever ends it, everything is healed.
"""

import contextlib
import ipaddress
import os
import queue
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, get_args

import msgspec
from msgspec import Struct, structs

from sseproof import environment
from sseproof.chaos.faults import FAULT_KINDS, FaultError, OfEverybody, OnFirst, keys_of, shape_of
from sseproof.chaos.front import Front
from sseproof.chaos.phases import check_in_phases, in_their_phases, parse_phases, total_ms, with_faults
from sseproof.chaos.plan import OWN_CONNECT_NS, FaultPlan, GroupSpec, addresses, parse_groups, plan_faults
from sseproof.chaos.processes import LOOPBACK, PortLease
from sseproof.children import RunLog
from sseproof.engine import check_engine, check_named_engine
from sseproof.experiment import InterruptedBeforeRunError, Interruption, say
from sseproof.live_metrics import endpoint, faults_text
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.refusals import in_plain_words, key_of
from sseproof.reports.words import count_of
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import EXIT_RIG, RigError, UsageError
from sseproof.rundir.files import FAULTS, LOG_NAME, RUN_NAME, Appender, lines_of, write_document
from sseproof.rundir.groups import GroupRule, GroupShare
from sseproof.rundir.layout import create_run_directory, new_run_id
from sseproof.rundir.machine import host_facts, versions
from sseproof.rundir.rows import AddressPlan, FaultRow, PhasePlan, Plan, RunInfo, VariantPlan
from sseproof.rundir.seeds import new_seed, with_seed
from sseproof.rundir.text import Redactor, printable
from sseproof.rundir.units import Duration, decode_hook, to_raw
from sseproof.scenario import nearest, read_toml
from sseproof.timeline import (
    PlannedFault,
    PlannedPhase,
    last_end_ms,
    planned_faults,
    planned_phases,
    seconds_text,
    timeline,
)

if TYPE_CHECKING:
    from types import TracebackType

POLL_S: Final = 0.1
UPSTREAM_LIMIT_S: Final = 2.0
"""For one connect before it begins; the rig may well be started before the service, so it goes on without."""
REDRAW_S: Final = 0.5
TAIL_MS: Final = 500
"""After the last window, so that its healing is verified before everything ends."""
SHARE: Final = "1%"
"""Of each fault with a port of its own: it has no share, and the planner wants one."""
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):(\d{1,5})")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ChaosFile(Struct, kw_only=True, forbid_unknown_fields=True):
    """The plan file: faults as a scenario has them, and how long they last."""

    seed: int | None = None
    duration: Duration | None = None
    """None ends with the last phase or window, or with Ctrl-C where something stands."""
    phases: dict[str, Duration] = {}
    """Name and length, in their order; without any they follow from the times of the faults."""
    fault: list[dict[str, Any]] = []


class Asked(Struct, kw_only=True):
    """What the command line says."""

    plan: Path
    upstream: str
    """HOST:PORT"""
    listen: int
    """The first port; 0 takes free ones."""
    listen_host: str = LOOPBACK
    allow: Sequence[str] = ()
    toxiproxy: str | None = None
    out: Path = Path("runs")
    duration: Duration | None = None
    seed: int | None = None
    metrics_port: int | None = None


class ChaosPlan(Struct, kw_only=True):
    """What would be done: the answer of `--dry-run`."""

    upstream: str
    listen: list[str]
    """Of each group, in their order."""
    duration_ms: int | None
    """None until Ctrl-C."""
    faults: list[PlannedFault]
    phases: list[PlannedPhase] = []
    shared: bool = False
    """One port for all of them, which draws each connection into a group."""

    def to_text(self) -> str:
        """As text of 80 columns."""
        lasts = "until Ctrl-C" if self.duration_ms is None else f"for {seconds_text(self.duration_ms)}"
        lines = [f"Nothing was started. Faults before {printable(self.upstream)}, {lasts}:", ""]
        lines += timeline(self.faults, self.duration_ms, shares=self.shared, phases=self.phases)
        lines += ["", *addresses_text(self.faults, self.listen, shared=self.shared)]
        return "\n".join(lines)


class ChaosResult(Struct, kw_only=True):
    """The answer: the journal, and how it ended."""

    directory: str
    upstream: str
    listen: dict[str, str]
    """Group → where its clients dial."""
    connections: dict[str, int]
    """Group → how many connections a port with shares drew into it; empty without shares."""
    how: str
    problem: str
    journal: list[FaultRow]

    def to_text(self) -> str:
        """What a person reads."""
        looks = [row.ok for row in self.journal if row.step == "verified" and row.window is None]
        verified = bool(looks) and all(row.ok for row in self.journal if row.step == "verified")
        times = sum(row.step == "applied" and row.window is not None for row in self.journal)
        healed = (
            "Everything is healed and verified."
            if verified and not self.problem
            else "NOT verified: see the journal."
        )
        drawn = ", ".join(f"{group} {count:,}" for group, count in self.connections.items())
        told = f"Connections: {drawn}.\n" if drawn else ""
        return (
            f"{count_of(times, 'time')} a fault came and went. {healed}\n{told}"
            f"Journal: {self.directory}/{FAULTS.name}"
        )


def addresses_text(
    faults: Sequence[PlannedFault], listen: Sequence[str], *, shared: bool = False
) -> list[str]:
    """A line for each group: where to dial for it, and how many of the connections there meet it."""
    width = max(len(place) for place in listen)
    return [
        f"{place:<{width}}  {each.group} ({each.kind}){f', {each.share} of connections' if shared else ''}"
        for place, each in zip(listen, faults, strict=True)
    ]


def planned(asked: Asked) -> tuple[ChaosPlan, list[GroupSpec], ChaosFile]:
    """Reads and checks the plan. Nothing is contacted, not even a name server.

    Raises UsageError, in one sentence, for everything that can't be.
    """
    file = _read(asked)
    written = _phases(asked.plan, file)
    groups = _groups(asked.plan, file, written)
    shared = _is_shared(file)
    faults = planned_faults(groups)
    last_ms = last_end_ms(faults)
    duration = asked.duration or file.duration
    if written and duration is None:
        duration = Duration(total_ms(written) * 1_000_000)
    if duration is not None and total_ms(written) > duration.ns / 1e6:
        raise UsageError(
            f"{asked.plan}: its phases last {seconds_text(total_ms(written))} together, and it lasts {duration}: shorten a "
            "phase, or leave the duration out."
        )
    duration_ms = None if duration is None else round(duration.ns / 1e6)
    if duration is not None and last_ms > duration.ns / 1e6:
        raise UsageError(
            f"{asked.plan}: its last fault ends at {seconds_text(last_ms)}, and it lasts {duration}: "
            "let the fault begin earlier or be shorter, or give a longer duration."
        )
    if duration_ms is None and last_ms and not any(each.stands for each in faults):
        duration_ms = last_ms + TAIL_MS
    _host_and_port(asked.upstream)
    _check_listen(asked, 1 if shared else len(groups))
    check_named_engine(asked.plan, groups, asked.toxiproxy, ask=False)
    listen = [
        _shown(asked.listen_host, asked.listen and asked.listen + (0 if shared else number))
        for number in range(len(groups))
    ]
    return (
        ChaosPlan(
            upstream=asked.upstream,
            listen=listen,
            duration_ms=duration_ms,
            faults=faults,
            phases=planned_phases(with_faults(written, groups)),
            shared=shared,
        ),
        groups,
        file,
    )


def _read(asked: Asked) -> ChaosFile:
    tree = read_toml(asked.plan, "name a plan file, a TOML of [[fault]] tables")
    known = ChaosFile.__struct_fields__
    for key in tree:
        if key == "abort":
            raise UsageError(
                f"{asked.plan}: abort watches the streams of a run, and here the load is somebody else's: leave it out; "
                "Ctrl-C heals and ends."
            )
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}."
            raise UsageError(f"{asked.plan}: there is no key {printable(key)!r}; {hint}")
    try:
        file = msgspec.convert(tree, ChaosFile, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        shown = in_plain_words(error, key_of(error), tables={"fault"})
        raise UsageError(f"{asked.plan}: {printable(shown)}.") from None
    if not file.fault:
        raise UsageError(f"{asked.plan} has no [[fault]]: nothing would be broken.")
    for duration in (asked.duration, file.duration):
        if duration is not None and duration.ns == 0:
            raise UsageError(f"{asked.plan}: the duration is 0; give a length, such as 30s.")
    return file


def _phases(path: Path, file: ChaosFile) -> list[PhasePlan]:
    try:
        return parse_phases(file.phases)
    except FaultError as error:
        raise UsageError(f"{path}: {error}") from None


def _is_shared(file: ChaosFile) -> bool:
    return any("share" in table for table in file.fault)


def _groups(path: Path, file: ChaosFile, phases: Sequence[PhasePlan]) -> list[GroupSpec]:
    """The plan's groups, a clean one last where something is left for it."""
    tables = []
    for number, table in enumerate(file.fault, start=1):
        if _is_shared(file) and "share" not in table:
            raise UsageError(
                f"{path}: [[fault]] number {number} has no share, and others have: give each of them one, and they share a "
                "port, or none, and each has a port of its own."
            )
        told = dict(table)
        kind = told.get("kind")
        if kind in FAULT_KINDS and "on" in keys_of(str(kind)):
            told.setdefault("on", "every")
        if kind in FAULT_KINDS and issubclass(shape_of(str(kind)), get_args(OfEverybody)):
            raise UsageError(
                f"{path}: the fault {kind} happens to the service and to no port: it belongs to a scenario of sseproof run."
            )
        tables.append({"share": SHARE, **told})
    try:
        groups = parse_groups(in_their_phases(tables, phases))
        check_in_phases(file.fault, groups, phases)
    except FaultError as error:
        raise UsageError(f"{path}: {error}") from None
    for spec in groups:
        if isinstance(spec.fault, OnFirst) and spec.fault.on == "first":
            raise UsageError(
                f"{path}: a port can't tell a stream's first connection from its next: "
                f'leave out on = "first" in the fault {spec.name!r}, and each connection is cut.'
            )
    return groups


def _host_and_port(upstream: str) -> tuple[str, int]:
    match = _PLACE.fullmatch(upstream)
    if match is None or not 0 < int(match[2]) < 65_536:
        raise UsageError(f"--upstream {printable(upstream)!r} is not HOST:PORT, such as 127.0.0.1:8000.")
    return match[1].strip("[]"), int(match[2])


def _check_listen(asked: Asked, count: int) -> None:
    try:
        asked.listen_host = str(ipaddress.ip_address(asked.listen_host.strip("[]")))
    except ValueError:
        raise UsageError(
            f"--listen-host {printable(asked.listen_host)!r} is no address of this machine, such as 127.0.0.1, ::1 or "
            "0.0.0.0 for all of them."
        ) from None
    if asked.listen and asked.listen + count - 1 > 65_535:
        raise UsageError(
            f"--listen {asked.listen} leaves no room for {count} ports: one for each fault, and a clean one."
        )


def _resolved(asked: Asked) -> str:
    """The upstream's address, its name looked up once; with consent. As host:port."""
    host, port = _host_and_port(asked.upstream)
    try:
        found = environment.resolve(host, port)
    except UsageError:
        raise UsageError(
            f"--upstream {asked.upstream}: the host name {host!r} does not resolve: check its spelling."
        ) from None
    environment.check_consent(host, found, 0, asked.allow, None)
    return _shown(found[0], port)


def _silence_of(upstream: str) -> str | None:
    """Why nobody takes a connection at host:port, in a sentence; None when somebody does."""
    try:
        socket.create_connection(_host_and_port(upstream), UPSTREAM_LIMIT_S).close()
    except OSError as error:
        why = (error.strerror or "no answer in time") if not isinstance(error, TimeoutError) else "no answer"
        return (
            f"Nobody takes connections at {printable(upstream)} yet ({why}): clients will be turned away until somebody "
            "does. If that is not what you want, start the service or mend --upstream."
        )
    return None


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Journal(Appender[FaultRow]):
    """The journal, which also tells the terminal what it holds. Rows come from two threads."""

    def __init__(self, directory: Path, run: str) -> None:
        super().__init__(directory, FAULTS, run)
        self.rows: list[FaultRow] = []
        self.news: queue.SimpleQueue[FaultRow] = queue.SimpleQueue()

    def append(self, row: FaultRow) -> None:
        super().append(row)
        self.rows.append(row)
        self.news.put(row)


def run_chaos(
    asked: Asked, *, environ: Mapping[str, str], command: list[str], quiet: bool
) -> tuple[ChaosResult, int]:
    """Breaks and heals by the plan until its end or an interrupt; the answer and the exit code.

    Raises UsageError (64) or RigError (70) when it can't begin.
    """
    from sseproof.chaos.injector import Injector
    from sseproof.chaos.install import engine_name, install
    from sseproof.chaos.toxiproxy import Client as Api
    from sseproof.chaos.toxiproxy import Server

    interruption = Interruption()
    interruption.install()

    def heed() -> None:
        if interruption.exit_code is not None:
            raise InterruptedBeforeRunError(interruption.exit_code)

    chaos, groups, file = planned(asked)
    upstream = _resolved(asked)
    seed = next((each for each in (asked.seed, file.seed) if each is not None), None)
    if seed is None:
        seed = new_seed()
        command = with_seed(command, seed)
    created_ns = now_ns()
    run = new_run_id(seed, created_ns)
    with contextlib.ExitStack() as parts:
        metrics = parts.enter_context(endpoint(asked.metrics_port, say, quiet=quiet))
        count = 1 if chaos.shared else len(groups)
        lease = parts.enter_context(
            PortLease.of(range(asked.listen, asked.listen + count), asked.listen_host)
            if asked.listen
            else PortLease(count)
        )
        faults = _planned_faults(
            groups, run=run, seed=seed, upstream=upstream, source=asked.plan, duration_ms=chaos.duration_ms
        )
        fronted = _fronted(faults, shared=chaos.shared)
        behind = parts.enter_context(PortLease(sum(proxy.group in fronted for proxy in faults.proxies)))
        public = _public(groups, lease.ports, shared=chaos.shared)
        faults = _with_places(faults, public, fronted, host=asked.listen_host, behind=behind.ports)
        found = install(say, asked.toxiproxy, heed=heed)
        heed()
        external = Api.from_url(found.url) if found.url is not None else None
        version = external.version() if external is not None else found.version
        check_engine(asked.plan, groups, version, found.url or found.path)
        info = RunInfo(
            run=run,
            started_ns=created_ns,
            versions=versions() | {"toxiproxy": engine_name(version)},
            host=host_facts(),
            command=command,
            pid=os.getpid(),
        )
        plan = _plan(asked, run, seed, created_ns, faults)
        plan.phases = with_faults(_phases(asked.plan, file), groups)
        directory = create_run_directory(asked.out, plan, info)
        log = RunLog(directory / LOG_NAME, Redactor([]))
        parts.callback(log.close)
        journal = _Journal(directory, run)
        parts.callback(journal.close)
        if metrics is not None:
            metrics.text = lambda: faults_text(plan, faults, list(journal.rows))
        server = external or Server(found, say=lambda text: log.line("toxiproxy", text), environ=environ)
        listen = {group: _shown(asked.listen_host, port) for group, port in public.items()}
        problem = ""
        fronts: list[Front] = []
        with (
            Injector(faults, server, journal) as injector,
            _Live(chaos, listen, journal, quiet=quiet) as live,
        ):
            try:
                injector.setup()
                fronts = _fronts(faults, public, fronted, asked.listen_host, parts)
                if (silence := _silence_of(upstream)) is not None:
                    say(silence)
                live.ready()
                injector.begin()
                _until_end(injector, interruption, live, chaos.duration_ms)
            except RigError as error:
                problem = str(error)
            injector.heal()
            live.show()
            problem = problem or (str(injector.problem) if injector.problem else "")
        info.ended_ns, info.problem = now_ns(), problem
        info.how = "failed" if problem else "finished"
        code = EXIT_RIG if problem else 0
        if interruption.exit_code is not None:
            info.how = "interrupted" if interruption.signal == signal.SIGINT else "terminated"
            code = interruption.exit_code
        info.lines = lines_of(directory)
        write_document(directory / RUN_NAME, info)
        if problem:
            say(problem)
    result = ChaosResult(
        directory=str(directory),
        upstream=upstream,
        listen=listen,
        connections=dict(sum((front.counts for front in fronts), Counter())) if chaos.shared else {},
        how=info.how,
        problem=problem,
        journal=journal.rows,
    )
    return result, code


def _planned_faults(
    groups: Sequence[GroupSpec],
    *,
    run: str,
    seed: int,
    upstream: str,
    source: Path,
    duration_ms: int | None,
) -> FaultPlan:
    """The plan, its ports still 0: a proxy a group, or several where the places of a cut are a range."""
    try:
        return plan_faults(
            groups,
            run=run,
            seed=seed,
            upstreams={None: upstream},
            connect_ns=OWN_CONNECT_NS,
            at_once=1,
            load_ms=duration_ms,
        )
    except FaultError as error:
        raise UsageError(f"{source}: {error}") from None


def _fronted(faults: FaultPlan, *, shared: bool) -> set[str]:
    """The groups whose connections are handed on by a port of ours: all with shares, else those of several proxies."""
    proxies = Counter(proxy.group for proxy in faults.proxies)
    return {group for group, count in proxies.items() if shared or count > 1}


def _public(groups: Sequence[GroupSpec], ports: Sequence[int], *, shared: bool) -> dict[str, int]:
    """Group → the port that its clients dial."""
    names = [spec.name for spec in groups]
    return dict.fromkeys(names, ports[0]) if shared else dict(zip(names, ports, strict=True))


def _with_places(
    faults: FaultPlan, public: Mapping[str, int], fronted: set[str], *, host: str, behind: Sequence[int]
) -> FaultPlan:
    """The plan with its proxies where clients dial them, or on loopback behind a port of ours."""
    inner = iter(behind)
    proxies = [
        structs.replace(proxy, host=LOOPBACK, port=next(inner))
        if proxy.group in fronted
        else structs.replace(proxy, host=host, port=public[proxy.group])
        for proxy in faults.proxies
    ]
    return structs.replace(faults, proxies=proxies)


def _fronts(
    faults: FaultPlan,
    public: Mapping[str, int],
    fronted: set[str],
    host: str,
    parts: contextlib.ExitStack,
) -> list[Front]:
    """The ports of ours, until the parts end. One that several groups share draws by the plan's own rule."""
    places = addresses(faults)
    made = []
    for port in dict.fromkeys(public[group] for group in public if group in fronted):
        names = [group for group in public if public[group] == port]
        rule = (
            faults.rule
            if len(names) > 1
            else GroupRule(seed=faults.seed, block=1, shares=(GroupShare(names[0], 1),))
        )
        front = Front(host, port, rule, [each for each in places if each.group in names])
        parts.callback(front.close)
        made.append(front)
    return made


def _plan(asked: Asked, run: str, seed: int, created_ns: int, faults: FaultPlan) -> Plan:
    stem = asked.plan.stem
    return Plan(
        run=run,
        scenario=stem if _NAME.fullmatch(stem) else "chaos",
        seed=seed,
        created_ns=created_ns,
        variants=[
            VariantPlan(
                target=to_raw(Target(url=f"http://{asked.upstream}/")),
                load=to_raw(Load()),
                client=to_raw(Client()),
                addresses=[
                    AddressPlan(
                        host=proxy.host,
                        port=proxy.port,
                        group=proxy.group,
                        proxy=proxy.name,
                        cut_after_bytes=proxy.cut_after_bytes,
                    )
                    for proxy in faults.proxies
                ],
            )
        ],
        faults=msgspec.Raw(msgspec.json.encode(faults)),
        groups=msgspec.Raw(msgspec.json.encode(faults.rule)),
        notes=["Faults alone: the load came from elsewhere, and no stream was measured."],
    )


def _until_end(injector: Any, interruption: Interruption, live: "_Live", duration_ms: int | None) -> None:
    """Raises RigError when the injector has a problem: from then on nothing breaks, and who makes the load must know."""
    ends = None if duration_ms is None else time.monotonic() + duration_ms / 1e3
    while interruption.signal is None and (ends is None or time.monotonic() < ends):
        time.sleep(POLL_S)
        problem = injector.check()
        live.show()
        if problem is not None:
            raise problem


class _Live:
    """What happens, on standard error: a table that is redrawn on a terminal, else a line for each step."""

    def __init__(
        self, chaos: ChaosPlan, listen: Mapping[str, str], journal: _Journal, *, quiet: bool
    ) -> None:
        self._chaos = chaos
        self._listen = listen
        self._journal = journal
        self._quiet = quiet
        self._begun = time.monotonic()
        self._states: dict[str, str] = dict.fromkeys(listen, "being set up")
        self._is_ready = False
        self._phase: str | None = None
        self._live: Any = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), refresh_per_second=1 / REDRAW_S, get_renderable=self._table
            )
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: "TracebackType | None"
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def ready(self) -> None:
        """Everything listens: the plan's time begins now."""
        self._begun = time.monotonic()
        self._is_ready = True
        ends = "Ctrl-C heals and ends."
        if self._chaos.duration_ms is not None:
            ends = f"Ends after {seconds_text(self._chaos.duration_ms)}; {ends}"
        if not self._quiet:
            places = list(self._listen.values())
            for line in addresses_text(self._chaos.faults, places, shared=self._chaos.shared):
                self._line(line)
            self._line(f"Ready, before {printable(self._chaos.upstream)}. {ends}")
        self.show()

    def show(self) -> None:
        """Takes over what the journal holds since the last time."""
        self._show_phase()
        while True:
            try:
                row = self._journal.news.get_nowait()
            except queue.Empty:
                return
            said = _state(row)
            if said is None or row.group is None:
                continue
            self._states[row.group] = said
            told = said != _QUIET and (row.step != "healed" or row.detail)  # else what verifies it says it
            if self._live is None and not self._quiet and told:
                self._line(f"{self._elapsed_s():.1f} s: {row.group}: {said}")

    def _show_phase(self) -> None:
        if not self._is_ready:
            return
        begun = [each.name for each in self._chaos.phases if each.start_ms <= self._elapsed_s() * 1e3]
        if begun and begun[-1] != self._phase:
            self._phase = begun[-1]
            if not self._quiet:
                self._line(f"{self._elapsed_s():.1f} s: phase {self._phase} begins")

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            say(text)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._begun

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for head in ("dial", "group", "fault", f"{self._elapsed_s():.0f} s"):
            table.add_column(head)
        for each in self._chaos.faults:
            cells = (self._listen[each.group], each.group, each.kind, self._states[each.group])
            table.add_row(*(Text(cell) for cell in cells))
        return table


_QUIET: Final = "nothing is broken now"


def _state(row: FaultRow) -> str | None:
    """What a step of the journal means for those behind the port; None where it changes nothing they meet."""
    if row.step == "failed" or row.ok is False:
        return f"failed: {row.detail}"
    if row.step == "applied":
        clean = row.window is None and row.kind == "clean"
        time_ = "" if row.window is None else f", time {row.window}"
        return _QUIET if clean else f"{row.kind} acts{time_}"
    if row.step == "healed":
        return f"healed: {row.detail}" if row.detail else "healed"
    if row.step == "verified":
        return "healed and verified"
    return None
