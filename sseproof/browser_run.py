"""A run whose users are real browsers: the experiment of every other run, with pages in place of Locust's workers.

Rules:
- Pages join first, then the plan is written, then they get their work: who takes part is decided before the first judged
  connection. A variant is one browser with one client.
- All variants with the same service share one server and one hop: browsers are what is compared. Each has proxies of its
  own, so its six connections too.
- Clients of one page run one after the other: what is drawn then is theirs. Browsers run beside each other.
- A browser of ours that ends before its page is done is a broken rig, never the service's fault.
"""

import contextlib
import dataclasses
import ipaddress
import re
import socket
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from sseproof.browsers import programs
from sseproof.browsers.desk import CLIENT_FOLDER, CLIENT_NAME, Desk, Page
from sseproof.browsers.posts import NAME, Job, Join, Rendering, Start, Stream
from sseproof.browsers.record import PageClock, Place, rows_of
from sseproof.chaos.faults import OnFirst, ServerRestart, kind_of
from sseproof.chaos.hops import HOW_TO_GET_NGINX, find_nginx
from sseproof.chaos.processes import LOOPBACK
from sseproof.children import Child, RunLog
from sseproof.experiment import Experiment, Interruption, RunResult, Side, say
from sseproof.live_metrics import endpoint
from sseproof.loadtests.dialects import ERROR_TYPES, HEARTBEAT_TYPES, OTHER_TYPES, TERMINAL_TYPES, dialect_of
from sseproof.loadtests.settings import Client, Load, Target, Timeouts
from sseproof.progress import Progress, RowCounter
from sseproof.reference_server.settings import STREAM_PARAMETER, ServerSettings
from sseproof.reports.words import joined
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, SuiteError, UsageError, unbound
from sseproof.rundir.files import BREAKS, BROWSERS, GENERATOR, STARTS, STREAMS, Appender
from sseproof.rundir.groups import GroupRule, address_of, seat_of
from sseproof.rundir.rows import (
    AddressPlan,
    BreakRow,
    BrowserClient,
    BrowserPlan,
    BrowserRow,
    GeneratorRow,
    Instant,
    Plan,
    StartRow,
    StreamRecord,
    VariantPlan,
)
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw, parse_duration
from sseproof.scenario import Resolved, Variant, load_scenario

SCENARIO: Final = Path(programs.__file__).resolve().parent / "browsers.toml"
CLIENTS: Final[tuple[BrowserClient, ...]] = ("sseconsumer", "eventsource", "eventsource-default")
"""In the order in which a page runs them: the one that claims are about comes first."""
AT_ONCE: Final = 6
"""Connections to one place that browsers open over HTTP/1.1."""
MOST_ANSWERS: Final = 5_000
DEFAULT_CLIENT_ANSWERS: Final = 12
"""Each waits three times for seconds: enough to show for how long."""
JOIN_S: Final = 60.0
"""For a browser of ours to open the page: under load Firefox needs seconds for its profile."""
LATE_S: Final = 5.0
POLL_S: Final = 0.1
TYPES: Final = sorted({"message", "delta", *HEARTBEAT_TYPES, *ERROR_TYPES, *OTHER_TYPES, *TERMINAL_TYPES})
"""EventSource hands out only what it was told to listen for."""
_OWN_CLIENT: Final = [
    (name, getattr(Client(), name)) for name in ("profile", "retries", "backoff", "backoff_max", "on_cut")
]
_OWN_TIMEOUTS: Final = [
    (name, getattr(Timeouts(), name)) for name in ("connect", "headers", "first_event", "idle")
]
_OWN_LOAD: Final = [(name, getattr(Load(), name)) for name in ("payloads", "think", "max_requests", "drain")]
"""What of a scenario no page is told, with what it is where nobody asks for it."""
_IN_VARIANT: Final = re.compile(r"\bin\s+variant\s+(\S+)")
_CLAIMS: Final = ("success = 100%", "utf8 = 100%", "lost = 0", "doubled = 0", "reconnect p95 < 1s")


class Choice(Struct, kw_only=True):
    """What the command was asked for."""

    scenario: Path | None = None
    browsers: list[programs.BrowserName] | None = None
    """None = those that are installed."""
    clients: list[BrowserClient] = msgspec.field(default_factory=lambda: list(CLIENTS))
    wait_s: float = 0.0
    """How long further browsers may join."""
    expect: int | None = None
    """Begin as soon as so many of those are there."""
    host: str = LOOPBACK
    port: int = 0


@dataclasses.dataclass(frozen=True)
class User:
    """A variant of the run: one page with one client."""

    name: str
    page: Page
    client: BrowserClient


def choose(scenario: Path | None, options: Mapping[str, Any]) -> Choice:
    """The command line's options. Raises UsageError."""
    browsers = list(dict.fromkeys(options["browsers"]))
    if options["no_browser"] and browsers:
        raise UsageError("--no-browser opens none and --browser opens one: give one of the two.")
    if options["expect"] is not None and options["wait"] is None:
        raise UsageError(
            "--expect is the number of browsers that --wait waits for: give --wait TIME with it."
        )
    if options["no_browser"] and options["wait"] is None:
        raise UsageError("With --no-browser others have to join: give --wait TIME, such as --wait 5m.")
    wait_s = 0.0
    if options["wait"] is not None:
        try:
            wait_s = parse_duration(options["wait"]).seconds
        except ValueError as error:
            raise UsageError(f"--wait: {error}") from None
    return Choice(
        scenario=scenario,
        browsers=[] if options["no_browser"] else browsers or None,
        clients=[each for each in CLIENTS if each in options["clients"]] or list(CLIENTS),
        wait_s=wait_s,
        expect=options["expect"],
        host=options["host"],
        port=options["port"],
    )


def dry(choice: Choice, *, environ: Mapping[str, str], sets: list[str], flags: dict[str, Any]) -> Resolved:
    """The scenario as it would run with the browsers of this machine. Raises UsageError or RigError."""
    names = _planned(choice, check_choice(choice, environ), flags)
    return resolve_for(choice, names, environ=environ, sets=sets, flags=flags)


def _planned(
    choice: Choice, browsers: Sequence[programs.Found], flags: Mapping[str, Any]
) -> list[tuple[str, BrowserClient]]:
    """The variants of our own browsers and of those that are claimed; where there are none, of one that may join."""
    names: list[str] = [each.name for each in browsers]
    claimed = _claimed(choice, flags)
    known = [(f"{name}-{client}", client) for name in names for client in choice.clients]
    known += [each for each in claimed.items() if each not in known]
    return known or [(f"other-{client}", client) for client in choice.clients]


def _claimed(choice: Choice, flags: Mapping[str, Any]) -> dict[str, BrowserClient]:
    """Variants of browsers that may join, as claims name them: who makes a claim can't know yet who will."""
    if not choice.wait_s:
        return {}
    texts = flags.get("claims")
    if texts is None and choice.scenario is not None:
        with contextlib.suppress(OSError, ValueError):  # what is wrong with it is said where it is read
            texts = tomllib.loads(choice.scenario.read_text("utf-8")).get("claims")
    found: dict[str, BrowserClient] = {}
    for text in texts if isinstance(texts, list) else ():
        for name in _IN_VARIANT.findall(str(text)):
            for client in choice.clients:
                if name.endswith(f"-{client}") and NAME.fullmatch(name.removesuffix(f"-{client}")):
                    found[name] = client
    return found


def check_choice(choice: Choice, environ: Mapping[str, str]) -> list[programs.Found]:
    """The browsers of this machine that are to run. Raises UsageError or RigError."""
    _check_host(choice.host, choice.port)
    if choice.browsers is not None:
        there = programs.parts(choice.browsers, environ)
        for name, found in there.items():
            if found is None:
                raise RigError(
                    f"{name.capitalize()} is not installed ({programs.HOW_TO_GET[name]}): install it, or leave out --browser {name}."
                )
    else:
        there = programs.parts(tuple(programs.PROGRAMS), environ)
    browsers = [found for found in there.values() if found is not None]
    if not browsers and not choice.wait_s:
        raise RigError(
            "No browser is on PATH: install one "
            f"({' or '.join(programs.HOW_TO_GET.values())}), or let others join with --wait 5m."
        )
    if not (CLIENT_FOLDER / CLIENT_NAME).is_file():
        raise RigError(f"{CLIENT_NAME} is missing from this installation: install sseproof again.")
    return browsers


def _check_host(host: str, port: int) -> None:
    """Raises UsageError unless the page can be served there."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"--host {printable(host, 80)!r} is no IP address: give one of this machine that the other desks reach."
        ) from None
    if address.is_unspecified:
        raise UsageError(f"--host {host} is every address and none: give the one that the other desks reach.")
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:  # IPv6
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise unbound(
                error,
                f"--host {host} --port {port} can't be listened on ({error.strerror}): give an address of this machine and "
                "a free port.",
            ) from None


def resolve_for(
    choice: Choice,
    names: Sequence[tuple[str, BrowserClient]],
    *,
    environ: Mapping[str, str],
    sets: list[str],
    flags: dict[str, Any],
) -> Resolved:
    """The scenario with a variant for each name. Raises UsageError for what browsers can't do."""
    chosen = choice.scenario or SCENARIO
    if choice.scenario is None and "claims" not in flags and "claims_file" not in flags:
        flags = flags | {
            "claims": [
                f"{claim} in variant {name}"
                for name, client in names
                if client == "sseconsumer"
                for claim in _CLAIMS
            ]
        }
    tables: list[dict[str, Any]] = [
        {"name": name, "judged": not number} for number, (name, _) in enumerate(names)
    ]
    resolved = load_scenario(chosen, environ=environ, sets=sets, flags=flags, variants=tables)
    _check(resolved)
    for variant, (_, client) in zip(resolved.scenario.variant, names, strict=True):
        if client == "eventsource-default":
            assert variant.load.streams is not None
            variant.load.streams = min(variant.load.streams, DEFAULT_CLIENT_ANSWERS)
    return resolved


def _check(resolved: Resolved) -> None:
    """Raises UsageError, naming the place and the way out."""
    scenario, source = resolved.scenario, resolved.source
    for key in ("locustfile", "abort", "until_decided", "remote_workers"):
        if getattr(scenario, key):
            raise UsageError(
                f"{source}: {key} is for Locust's users, and this run's are browsers: leave it out."
            )
    for variant in scenario.variant:
        if variant.server is None:
            raise UsageError(
                f"{source}: browsers read from a server of the run, which allows their page to: give [server] and a path "
                "as the target's url."
            )
        load, target = variant.load, variant.target
        if load.is_open or load.stages or load.streams is None or load.warmup is not None:
            raise UsageError(
                f"{source}: a page reads a number of answers, some at a time: give load.users and load.streams alone."
            )
        if not 1 <= load.streams <= MOST_ANSWERS:
            raise UsageError(f"{source}: load.streams is from 1 to {MOST_ANSWERS:,} answers a page.")
        if not 1 <= load.users <= AT_ONCE:
            raise UsageError(
                f"{source}: load.users is from 1 to {AT_ONCE}: over HTTP/1.1 a page has six connections to one place, and a "
                "further stream would wait for one."
            )
        for key, told in (
            *((f"client.{name}", getattr(variant.client, name) != default) for name, default in _OWN_CLIENT),
            *(
                (f"client.timeouts.{name}", getattr(variant.client.timeouts, name) != default)
                for name, default in _OWN_TIMEOUTS
            ),
            *((f"load.{name}", getattr(load, name) != default) for name, default in _OWN_LOAD),
        ):
            if told:
                raise UsageError(
                    f"{source}: {key} is for Locust's users; a page's clients have their own ways, and of their limits only "
                    "client.timeouts.total holds: leave it out."
                )
        if target.method != "GET" or target.headers or target.body:
            raise UsageError(
                f"{source}: EventSource sends a GET without headers or body of its own: leave target.method, headers and "
                "body out."
            )
    for spec in resolved.groups:
        if isinstance(spec.fault, ServerRestart):
            raise UsageError(
                f"{source}: the fault {kind_of(spec.fault)} of group {spec.name!r} takes a variant's own server away, and "
                "browsers share theirs: leave it out, or use refused, which takes the way to it away."
            )
        if isinstance(spec.fault, OnFirst) and spec.fault.on == "first":
            raise UsageError(
                f'{source}: the fault {kind_of(spec.fault)} of group {spec.name!r} has on = "first", and a browser '
                'reconnects to where it was: give on = "every".'
            )


def run_browsers(
    choice: Choice,
    *,
    environ: Mapping[str, str],
    sets: list[str],
    flags: dict[str, Any],
    command: list[str],
    quiet: bool,
) -> RunResult:
    """Opens the browsers, runs and judges.

    Raises UsageError (64) or RigError (70) when the run can't begin.
    """
    browsers = check_choice(choice, environ)
    # What can be refused is refused before a browser opens.
    planned = resolve_for(choice, _planned(choice, browsers, flags), environ=environ, sets=sets, flags=flags)
    interruption = Interruption()
    interruption.install()
    with contextlib.ExitStack() as parts:
        metrics = parts.enter_context(endpoint(planned.scenario.metrics_port, say, quiet=quiet))
        desk = Desk(choice.host, choice.port)
        parts.callback(desk.close)
        opened = _Opened(environ, quiet=quiet)
        parts.callback(opened.close)
        for found in browsers:
            opened.open(found, desk.address)
        users = _joined(desk, opened, choice, interruption, quiet=quiet)
        users += _missing(_claimed(choice, flags), users)
        resolved = resolve_for(
            choice, [(user.name, user.client) for user in users], environ=environ, sets=sets, flags=flags
        )
        notes = _notes(resolved, browsers)
        run = _BrowserRun(resolved, environ, interruption, quiet=quiet, notes=notes, metrics=metrics)
        run.take(desk, opened, users, choice.host)
        result = run.run(command)
        desk.finish()
        return result


def _notes(resolved: Resolved, browsers: Sequence[programs.Found]) -> list[str]:
    """What this machine bends, for the record."""
    notes = []
    if find_nginx() is None and any(
        (variant.hop or "").startswith("nginx") for variant in resolved.scenario.variant
    ):
        for variant in resolved.scenario.variant:
            variant.hop = None
        notes.append(f"Through nginx: not measured: {HOW_TO_GET_NGINX}")
    if programs.is_root() and any(found.name == "chromium" for found in browsers):
        notes.append("Chromium ran without its sandbox (--no-sandbox), which needs another user than root.")
    return notes


class _Opened:
    """The browsers that this run opened, and what they say."""

    def __init__(self, environ: Mapping[str, str], *, quiet: bool) -> None:
        self.log: RunLog | None = None
        self._environ = environ
        self._quiet = quiet
        self._browsers: list[programs.Browser] = []

    def line(self, source: str, text: str) -> None:
        """As `children.Log`; what browsers say before there is a run is of no interest."""
        if self.log is not None:
            self.log.line(source, text)

    def open(self, found: programs.Found, address: str) -> None:
        """One more. Raises RigError."""
        self._browsers.append(programs.Browser(found, address, environ=self._environ, start=self._start))
        if not self._quiet:
            say(f"Opened {found.name} ({found.path}), without a window.")

    def _start(self, name: str, command: list[str], environ: Mapping[str, str]) -> programs.Process:
        return programs.Process(poll=Child(name, command, log=self, environ=environ).poll)

    @property
    def names(self) -> list[str]:
        """Of the browsers that were opened."""
        return [each.found.name for each in self._browsers]

    def dead(self, among: Collection[str] | None = None) -> str:
        """A browser (of these) that ended by itself, in a sentence; empty while all run."""
        for each in self._browsers:
            if each.ended is not None and (among is None or each.found.name in among):
                return f"{each.found.name.capitalize()} ended by itself with exit code {each.ended}."
        return ""

    def close(self) -> None:
        """Ends them and all that they started."""
        for each in self._browsers:
            each.close()


def _joined(
    desk: Desk, opened: _Opened, choice: Choice, interruption: Interruption, *, quiet: bool
) -> list[User]:
    """Waits for our own browsers, then as long as others may join; gives the variants."""
    deadline = time.monotonic() + JOIN_S
    while missing := [name for name in opened.names if name not in [page.name for page in desk.pages]]:
        _heed(interruption)
        if problem := opened.dead():
            raise RigError(f"{problem} It had not opened the page yet.")
        if time.monotonic() > deadline:
            raise RigError(f"{missing[0].capitalize()} did not open the page within {JOIN_S:.0f} s.")
        time.sleep(POLL_S)
    ours = set(opened.names)
    if choice.wait_s:
        # The address holds the run's key: it is for the people who are to open it, and no file has it.
        print_address(desk.address, choice)
        until = time.monotonic() + choice.wait_s
        while time.monotonic() < until:
            _heed(interruption)
            others = [page for page in desk.pages if page.name not in ours]
            if choice.expect is not None and len(others) >= choice.expect:
                break
            time.sleep(POLL_S)
    pages = desk.pages
    if not pages:
        raise RigError(
            "No browser opened the page: open the address that is printed, within the time of --wait."
        )
    if not quiet:
        say(f"{joined([f'{page.name} {page.version}'.strip() for page in pages])} joined.")
    return [User(f"{page.name}-{client}", page, client) for page in pages for client in choice.clients]


def _missing(claimed: Mapping[str, BrowserClient], users: Sequence[User]) -> list[User]:
    """Variants that are claimed and that nobody opened: they stay in the plan, and their claims unknown."""
    known = {user.name for user in users}
    nobody = Join(key="", page="", user_agent="", resolution_ms=0.0)
    return [
        User(
            name,
            Page(id="", name=name.removesuffix(f"-{client}"), version="", joined=nobody, seen_s=0.0),
            client,
        )
        for name, client in claimed.items()
        if name not in known
    ]


def print_address(address: str, choice: Choice) -> None:
    """Where people open the page; on standard error also of a quiet run, which would else wait for nobody."""
    say(
        f"For {choice.wait_s:g} s, open this in any browser that is to take part, and leave it in front:\n  {address}"
    )
    if not ipaddress.ip_address(choice.host).is_loopback:
        say("Other desks reach it as long as their network does; whoever has the address can take part.")


def _heed(interruption: Interruption) -> None:
    from sseproof.experiment import InterruptedBeforeRunError

    if interruption.exit_code is not None:
        raise InterruptedBeforeRunError(interruption.exit_code)


class _BrowserRun(Experiment):
    """The experiment, with pages for users."""

    def take(self, desk: Desk, opened: _Opened, users: Sequence[User], host: str) -> None:
        """Who takes part, before `run`."""
        self._desk = desk
        self._opened = opened
        self._users = {user.name: user for user in users}
        self._place = host
        self._shared: dict[bool, Side] = {}

    @property
    def _host(self) -> str:
        """Proxies are where the page is: other desks must reach both."""
        return self._place

    def _user(self, side: Side) -> User:
        assert side.variant.name is not None
        return self._users[side.variant.name]

    def _settings_of(self, variant: Variant, settings: ServerSettings) -> ServerSettings:
        assert variant.name is not None
        silent = self._users[variant.name].client == "eventsource-default"
        return msgspec.structs.replace(
            settings,
            allow_origin=self._desk.origin,
            retry_ms=None if silent else settings.retry_ms,
        )

    def _side(self, variant: Variant, service: AddressPlan | None, parts: contextlib.ExitStack) -> Side:
        assert variant.name is not None
        silent = self._users[variant.name].client == "eventsource-default"
        known = self._shared.get(silent)
        if known is None:
            self._shared[silent] = side = super()._side(variant, service, parts)
            return side
        variant.target.url = known.variant.target.url
        return msgspec.structs.replace(known, variant=variant)

    def _planned_variant(self, side: Side, master_port: int) -> VariantPlan:
        user = self._user(side)
        return msgspec.structs.replace(
            super()._planned_variant(side, master_port),
            browser=BrowserPlan(
                name=user.page.name,
                version=user.page.version,
                client=user.client,
                started_by_us=user.page.name in self._opened.names,
                at_once=min(side.variant.load.users, side.variant.load.streams or 1),
            ),
            master_port=None,
        )

    def _fetch_witness(self) -> None:
        """Once from each server."""
        for side in self._shared.values():
            if side.seen.witness_path is not None:
                self._fetch_rows(side, settled=True)

    def _loaded(self) -> str:
        self._opened.log = self._log
        sink = _Sink(self._directory, self._run_id, self._plan)
        try:
            jobs: dict[str, list[Job]] = {}
            for side in self._sides:
                if page := self._user(side).page.id:  # a browser that nobody opened has none
                    jobs.setdefault(page, []).append(sink.job(side))
            self._desk.begin(jobs, sink)
            problem = self._watch_pages()
        except SuiteError as error:
            return str(error)
        finally:
            self._desk.finish()
            sink.close()
        self._say_what_follows()
        return problem

    def _watch_pages(self) -> str:
        """Until all pages are over; the rig's problem in a sentence."""
        rows = RowCounter(self._directory)
        begun = False
        problem = ""
        with Progress(expected_s=None, streams=self._all_streams(), quiet=self._quiet) as progress:
            while waiting := self._desk.waiting_for():
                time.sleep(POLL_S)
                counts = rows.update()
                progress.show(counts)
                if self._live is not None:
                    self._live.update()
                if self._interruption.signal is not None:
                    return ""
                if self._desk.problem is not None:
                    return str(self._desk.problem)
                if self._injector is not None and counts.started:
                    if not begun:
                        self._injector.begin()
                        begun = True
                    self._injector.check()
                    if self._injector.is_lost:
                        return str(self._injector.problem)
                if problem := self._opened.dead([page.name for page in waiting]):
                    return problem
        for page in self._desk.pages:
            if page.problem:
                self._line("browsers", f"{page.name}: {page.problem}")
                if page.name in self._opened.names:
                    problem = f"The page in {page.name} could not go on: {page.problem}"
        if not problem and rows.update().started == 0:
            return "No page asked for a stream; run.log in the run directory says why."
        return problem


class _Sink:
    """Puts on record what pages tell; called by the desk, one at a time."""

    def __init__(self, directory: Path, run_id: str, plan: Plan) -> None:
        self._run_id = run_id
        self._plan = plan
        self._starts: Appender[StartRow] = Appender(directory, STARTS, run_id)
        self._streams: Appender[StreamRecord] = Appender(directory, STREAMS, run_id)
        self._breaks: Appender[BreakRow] = Appender(directory, BREAKS, run_id)
        self._browsers: Appender[BrowserRow] = Appender(directory, BROWSERS, run_id)
        self._generator: Appender[GeneratorRow] = Appender(directory, GENERATOR, run_id)
        self._variants = {variant.name: variant for variant in self._plan.variants}
        self._numbers = {variant.name: number for number, variant in enumerate(self._plan.variants)}
        self._rule = msgspec.json.decode(self._plan.groups, type=GroupRule | None)
        self._begun_ns: dict[tuple[str, int], int] = {}
        self._widest: dict[str, int] = {}

    def job(self, side: Side) -> Job:
        """What a page is to do for one variant."""
        assert side.variant.name is not None
        variant = self._variants[side.variant.name]
        target = from_raw(variant.target, Target)
        assert variant.browser is not None
        load = side.variant.load
        return Job(
            variant=side.variant.name,
            client="sseconsumer" if variant.browser.client == "sseconsumer" else "eventsource",
            at_once=variant.browser.at_once,
            total_ms=side.variant.client.timeouts.total.ns / 1e6,
            terminal=target.terminal or "",
            types=TYPES,
            streams=[
                (number, self._url(side.variant.name, target, number)) for number in range(load.streams or 0)
            ],
        )

    def started(self, _page: Page, post: Start) -> None:
        """A stream begins; the post's arrival is the latest that this can have been."""
        self._begun_ns[post.variant, post.stream] = begun_ns = now_ns()
        self._starts.append(
            StartRow(
                stream=post.stream,
                worker=self._numbers[post.variant],
                name=post.variant,
                variant=post.variant,
                group=self._group(post.stream),
                dispatched=Instant(begun_ns),
            )
        )

    def ended(self, page: Page, post: Stream) -> None:
        """A stream is over. Raises ValueError for an account that can't be."""
        variant = self._variants[post.variant]
        clock = PageClock(post.exchanges, page.joined.resolution_ms)
        target = from_raw(variant.target, Target)
        place = Place(
            variant=post.variant,
            stream=post.stream,
            worker=self._numbers[post.variant],
            group=self._group(post.stream),
            address=self._address(post.variant, post.stream),
            truth_id=self._truth_id(post.variant, post.stream),
            gap_edges_ns=self._plan.gap_edges_ns,
            read_ns=(self._begun_ns[post.variant, post.stream], now_ns()),
        )
        rows = rows_of(place, clock, post.attempts, dialect_of(target))
        for row in rows.breaks:
            self._breaks.append(row)
        self._streams.append(rows.record)
        self._widest[post.variant] = max(self._widest.get(post.variant, 0), clock.offset.error_ns)

    def drawn(self, page: Page, post: Rendering) -> None:
        """How one client's streams were drawn."""
        at_ns = now_ns()
        number = self._numbers[post.variant]
        self._browsers.append(
            BrowserRow(
                variant=post.variant,
                at_ns=at_ns,
                user_agent=printable(page.joined.user_agent, 512),
                resolution_ns=_ns(page.joined.resolution_ms) or 0,
                offset_error_ns=self._widest.get(post.variant),
                isolated=page.joined.isolated,
                hidden=post.hidden,
                length_ns=_ns(post.length_ms) or 0,
                frames=post.frames,
                frame_gap_p50_ns=_ns(post.frame_gap_p50_ms),
                frame_gap_p95_ns=_ns(post.frame_gap_p95_ms),
                frame_gap_max_ns=_ns(post.frame_gap_max_ms),
                long_tasks=post.long_tasks,
                long_tasks_ns=_ns(post.long_tasks_ms),
                timer_lag_max_ns=_ns(post.timer_lag_max_ms) or 0,
            )
        )
        self._generator.append(
            GeneratorRow(
                at_ns=at_ns,
                worker=number,
                variant=post.variant,
                interval_ns=_ns(post.length_ms) or 0,
                loop_lag_max_ns=_ns(post.timer_lag_max_ms),
            )
        )

    def close(self) -> None:
        """The record is over."""
        for each in (self._starts, self._streams, self._breaks, self._browsers, self._generator):
            each.close()

    def _truth_id(self, variant: str, number: int) -> str:
        return f"{self._run_id}/{variant}/{number}"

    def _url(self, variant: str, target: Target, number: int) -> str:
        parts = urlsplit(target.url)
        query = f"{parts.query}&" if parts.query else ""
        name = quote(self._truth_id(variant, number), safe="")
        return f"http://{self._address(variant, number)}{parts.path}?{query}{STREAM_PARAMETER}={name}"

    def _group(self, number: int) -> str | None:
        return None if self._rule is None else seat_of(self._rule, number).group

    def _address(self, variant: str, number: int) -> str:
        addresses = self._variants[variant].addresses
        found = addresses[0] if self._rule is None else address_of(addresses, self._rule, number, 1)
        assert found is not None
        return f"[{found.host}]:{found.port}" if ":" in found.host else f"{found.host}:{found.port}"


def _ns(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1e6)
