"""A scenario: what to measure, how hard, and what is claimed; from a TOML file, the environment, --set and flags.

Rules:
- Precedence: flag > --set > SSEPROOF_* > file > default (design.md "Ground rules"). Every layer is a tree of plain
  values; the merged tree is converted once, strictly: an unknown key is an error that names the nearest known one,
  and every error names the place the value came from.
- Each package owns the struct of its own section (`loadtests.settings`); this module only joins them.
- Values that may be secret never reach plan.json: `env:NAME` stays a name, and a literal value of a secret header or
  a secret part of a URL is moved into the environment of the children under a name (`Secrets`).
"""

import base64
import copy
import difflib
import ipaddress
import math
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from sseproof.abort import Abort, Condition, parse_condition
from sseproof.chaos.faults import Clean, Command, FaultError, ReadsEvents, ServerRestart, kind_of
from sseproof.chaos.hop_config import HopKind, check_route
from sseproof.chaos.install import check_address
from sseproof.chaos.phases import check_in_phases, in_their_phases, parse_phases, total_ms, with_faults
from sseproof.chaos.plan import GroupSpec, parse_groups
from sseproof.claims_file import PlacedClaim, read_claims
from sseproof.loadtests.arrivals import MOST_STARTS, admission_ns, starts_before
from sseproof.loadtests.dialects import AUTO, dialect_of
from sseproof.loadtests.payloads import fields_of, read_payloads
from sseproof.loadtests.settings import Client, Load, Target
from sseproof.marks import read_marks
from sseproof.reference_server.misbehave import parse_modes
from sseproof.refusals import in_plain_words, key_of
from sseproof.replay import read_replay
from sseproof.reports.claims import Claim, ClaimError, parse_claim
from sseproof.rundir.errors import UsageError
from sseproof.rundir.rows import FaultSide, LookPlan, PhasePlan
from sseproof.rundir.text import SECRET_HEADERS, SECRET_QUERY, printable
from sseproof.rundir.units import Duration, decode_hook, encode_hook
from sseproof.rundir.variables import env_names

OnUnknown = Literal["fail", "warn"]

ENV_PREFIX: Final = "SSEPROOF_"
INTERNAL_VARIABLES: Final = frozenset({"PLAN", "PARENT", "TOKEN", "TOKENS", "WORKER"})
"""No keys: set by the suite for its own children, or by people the token of workers on other machines, and the users'
tokens of `sseproof serve`."""
SECRET_PREFIX: Final = "SSEPROOF_SECRET_"  # noqa: S105  # a variable's name

_WRITTEN_PASSWORD: Final = re.compile(r"((?:\{env:\w+\}|[^:{])*):([^{]+)")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT_DURATION: Final = Duration(30_000_000_000)
MOST_WORKERS: Final = 256
REFERENCE_PATH: Final = "/api/v1/stream/chat"
STAND_IN: Final = "reference.invalid"
"""The host in the URL of a target whose server the run starts itself, until that server says where it listens."""
MOST_USERS: Final = 1_000_000
MOST_RATE: Final = 100_000.0
"""Starts a second: far above what one machine can make, below what would fill its memory with a schedule."""

Tree = dict[str, Any]


class ServerChoice(Struct, kw_only=True, forbid_unknown_fields=True):
    """A reference server that the run starts for itself, instead of a target that is there already."""

    profile: Literal["robust", "legacy"] = "robust"
    misbehave: str = ""
    misbehave_share: float = 0.3
    heartbeat: Duration = Duration(20_000_000_000)


class Variant(Struct, kw_only=True, forbid_unknown_fields=True):
    """One side of a run, as resolved: what the scenario says for all, with what it says for this side laid over it."""

    name: str | None = None
    judged: bool = True
    """Sets the exit code; of several variants only one does."""
    server: ServerChoice | None = None
    hop: HopKind | None = None
    fault_side: FaultSide = "client"
    """Of the hop: before it, or between it and the service."""
    target: Target
    load: Load = msgspec.field(default_factory=Load)
    client: Client = msgspec.field(default_factory=Client)


class Scenario(Struct, kw_only=True, forbid_unknown_fields=True):
    """A scenario as resolved, before anything is contacted."""

    name: str = "run"
    seed: int | None = None
    workers: int = 1
    """Load-generating processes of this machine."""
    remote_workers: int = 0
    """Those that join from elsewhere."""
    master_bind: str | None = None
    """[HOST:]PORT where they join; None is loopback and a free port."""
    labels: dict[str, str] = {}
    claims: list[str] = []
    claims_file: str | None = None
    """Further claims, one a line or as a list in TOML; read and checked with the scenario."""
    on_unknown: OnUnknown = "fail"
    until_decided: bool = False
    """Goes on beyond the planned number of streams, to registered looks (`sseproof.until`)."""
    max_duration: Duration | None = None
    """The longest load of a run that goes on until it is decided."""
    out: str = "runs"
    locustfile: str | None = None
    toxiproxy: str | None = None
    """Path of a Toxiproxy server, or the URL of one that runs; None finds or builds one."""
    marks: str | None = None
    """File of outside events, read when the load is over."""
    metrics_port: int | None = None
    """Of loopback, where the run answers a Prometheus while it lasts; 0 is a free one, None is no port."""
    fault: list[dict[str, Any]] = []
    """Each table is a fault and the share of streams that meet it; `sseproof.chaos.plan` reads them."""
    phases: dict[str, Duration] = {}
    """Name and length, in their order; without any they follow from the times of the faults."""
    abort: Abort | None = None
    """When the run gives up."""
    server: ServerChoice | None = None
    hop: HopKind | None = None
    fault_side: FaultSide = "client"
    target: Target = msgspec.field(default_factory=lambda: Target(url=""))
    load: Load = msgspec.field(default_factory=Load)
    client: Client = msgspec.field(default_factory=Client)
    variant: list[Variant] = []
    """Never empty once resolved: a scenario without variants has one without a name."""

    @property
    def all_workers(self) -> int:
        """Of each variant, on all machines."""
        return self.workers + self.remote_workers


class Secrets:
    """Literal secrets of a scenario, moved out of it: variable name → value, for the environment of the children."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    def keep(self, what: str, value: str) -> str:
        """Stores the value and gives the variable's name that stands for it."""
        name = SECRET_PREFIX + re.sub(r"[^A-Z0-9]+", "_", what.upper())
        self.variables[name] = value
        return name


class Resolved(Struct):
    """A scenario ready to be planned: values checked, claims parsed, secrets moved out."""

    scenario: Scenario
    claims: list[Claim]
    groups: list[GroupSpec]
    """Who meets which fault; empty without faults."""
    phases: list[PhasePlan]
    """Parts of the load that claims may name; empty without a timetable of faults and phases of its own."""
    secrets: dict[str, str]
    """Environment variables for the children."""
    source: str
    """The scenario file, or the flags."""
    replays: list[list[int]] = []
    """Of each variant: recorded starts in ns since the first, empty without a replay."""
    looks: list[LookPlan] = []
    """When the claims may be decided; empty in a run that is judged once, when it is over."""


def load_scenario(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    sets: list[str],
    flags: Tree,
    variants: Sequence[Tree] = (),
) -> Resolved:
    """Merges all layers and checks every value.

    `flags` is a tree of scenario keys as the command line gave them; `sets` are KEY=VALUE texts; `variants` are the tables
    of a command that makes the variants itself.
    Raises UsageError with one sentence for anything that can't be taken.
    """
    origin = _Origins()
    tree: Tree = {}
    if path is not None:
        origin.merge(tree, read_toml(path), str(path))
        tree.setdefault("name", path.stem)
    if variants:
        if "variant" in tree:
            raise UsageError(f"{path}: the browsers are the variants of such a run: leave [[variant]] out.")
        tree["variant"] = [dict(table) for table in variants]
    _refuse_two_loads(tree, origin)
    above: Tree = {}
    layers = [
        [(_nested(key, value), variable) for variable, key, value in _environment(environ)],
        [(_nested(key, value), f"--set {key}") for key, value in map(_parse_set, sets)],
        [(flags, "the command line")],
    ]
    for layer in layers:
        joined: Tree = {}
        for part, place in layer:
            origin.merge(joined, part, place)
        _refuse_two_loads(joined, origin)
        _give_way(above, joined, written=False)
        _Origins().merge(above, copy.deepcopy(joined), "")
    _refuse_unknown(tree, Scenario, "", origin)
    _refuse_unknown(above, Scenario, "", origin)
    _lay_out_variants(tree, above, origin)
    scenario = _convert(tree, origin)
    _check_toxiproxy(scenario, origin)
    _default_judged(scenario, tree)
    written = _phases(scenario, origin)
    placed = _checked(scenario, origin)
    groups = _groups(scenario, written, origin)
    phases = with_faults(written, groups)
    _check_scopes(placed, scenario, groups, phases)
    _check_measured(placed, scenario)
    condition = _abort_condition(scenario, origin)
    replays = [
        [] if variant.load.replay is None else read_replay(Path(variant.load.replay))
        for variant in scenario.variant
    ]
    for variant, table, replay in zip(scenario.variant, tree["variant"], replays, strict=True):
        _check_starts(variant.load, replay, origin)
        _refuse_of_schedules(variant.load, table, origin)
        _check_phases(variant.load, replay, written, origin)
        if condition is not None and variant.judged:
            _check_abort(_longest(variant.load, scenario), replay, condition, origin)
    secrets = Secrets()
    for variant in scenario.variant:
        _move_secrets(variant.target, secrets)
    scenario.target = scenario.variant[-1].target
    if scenario.remote_workers and secrets.variables:
        raise UsageError(
            f"{origin.of('remote_workers')}: a secret of the target is written out, and only names of variables go to other "
            "machines: write env:NAME in its place and export NAME on each machine."
        )
    return Resolved(
        scenario=scenario,
        claims=[each.claim for each in placed],
        groups=groups,
        phases=phases,
        secrets=secrets.variables,
        source=str(path) if path else "the command line",
        replays=replays,
    )


_SHARED: Final = ("target", "load", "client", "server")
"""Tables of the scenario that a variant's own tables are laid over."""


def _lay_out_variants(tree: Tree, above: Tree, origin: "_Origins") -> None:
    """Gives every variant what the scenario says for all; makes the one nameless variant where there are none.

    `above` is what outranks the file: it is laid over the variants' own tables too.
    """
    tables = tree.get("variant") or [{}]
    laid_out = []
    for table in tables:
        _refuse_two_loads(table, origin)
        whole: Tree = {}
        for section in _SHARED:
            layers = [layer[section] for layer in (tree, table, above) if section in layer]
            if layers:
                whole[section] = {}
                for layer in layers:
                    _give_way(whole, {section: layer})
                    _Origins().merge(whole[section], copy.deepcopy(layer), "")
        whole.update({key: value for key, value in table.items() if key not in _SHARED})
        for key in ("hop", "fault_side"):
            said = [layer[key] for layer in (above, table, tree) if key in layer]
            if said:
                whole[key] = said[0]
        target = whole.setdefault("target", {})
        if "url" not in target:
            if "server" not in whole:
                raise UsageError(
                    'No target: give --target URL, or a scenario file with url = "…" under [target] or a [server].'
                )
            target["url"] = REFERENCE_PATH
        if "server" in whole and str(target["url"]).startswith("/"):
            target["url"] = f"http://{STAND_IN}{target['url']}"
        laid_out.append(whole)
    names = [table.get("name") for table in tables]
    if tree.get("variant") and (None in names or len(set(names)) < len(names)):
        raise UsageError(f"{origin.of('variant')}: every [[variant]] needs a name of its own.")
    _give_way(tree, above)
    _Origins().merge(tree, above, "")
    tree["variant"] = laid_out
    tree.pop("target", None)


_LOADS: Final = ("users", "rate", "stages", "replay")
"""Keys of [load] that say how much load there is: each stands alone."""
_ENDS: Final = ("streams", "duration")
"""Keys of [load] that say where it ends: each stands alone."""
_OF_SCHEDULES: Final = ("arrivals", "max_open")
"""Keys of [load] that only an open loop has."""


def _give_way(below: Tree, layer: Tree, *, written: bool = True) -> None:
    """A layer that says how much load there is says it instead of what lies below, the kind of loop included.

    So does one that says where it ends: a number of streams or a duration.
    `written`: what lies below is a file, whose keys of a schedule go with it; beside a closed loop of the same command
    they are a mistake.
    """
    load, lower = layer.get("load"), below.get("load")
    if not isinstance(load, dict) or not isinstance(lower, dict):
        return  # a wrong kind of value is refused, with its name, where values are converted
    if any(key in load for key in _LOADS):
        for key in (*_LOADS, "model"):
            lower.pop(key, None)
    if any(key in load for key in _ENDS):
        for key in _ENDS:
            lower.pop(key, None)
    stages = load.get("stages")
    of_users = isinstance(stages, list) and any(isinstance(each, dict) and "users" in each for each in stages)
    if written and ("users" in load or of_users):
        for key in _OF_SCHEDULES:
            lower.pop(key, None)


def _refuse_two_loads(layer: Tree, origin: "_Origins") -> None:
    """Users beside what makes an open loop, or beside stages, would be ignored."""
    load = layer.get("load")
    if not isinstance(load, dict) or "users" not in load:
        return
    others = [key for key in _LOADS[1:] if key in load]
    if others:
        raise UsageError(
            f"{origin.of(f'load.{others[0]}')}: load.users and load.{others[0]} exclude each other; give one of them."
        )


def _refuse_of_schedules(load: Load, table: Tree, origin: "_Origins") -> None:
    """What only a schedule has would be ignored in a closed loop; `table` is the variant as it was written."""
    said = [key for key in _OF_SCHEDULES if key in table.get("load", {})]
    if said and not load.is_open:
        raise UsageError(
            f"{origin.of(f'load.{said[0]}')}: load.{said[0]} is of an open loop's schedule, which a closed loop does not "
            "have: leave it out, or give load.rate in place of load.users."
        )


def _check_toxiproxy(scenario: Scenario, origin: "_Origins") -> None:
    """Also where nothing is broken and it is never asked: the command line is kept with every run."""
    try:
        check_address(scenario.toxiproxy or "")
    except UsageError as error:
        raise UsageError(f"{origin.of('toxiproxy')}: {error}") from None


def _default_judged(scenario: Scenario, tree: Tree) -> None:
    """Only one variant sets the exit code: the one that says so, else the last."""
    said = [
        variant for variant, table in zip(scenario.variant, tree["variant"], strict=True) if "judged" in table
    ]
    chosen = [variant for variant in said if variant.judged]
    if len(chosen) > 1:
        raise UsageError("Only one [[variant]] can be judged = true: it alone sets the exit code.")
    for variant in scenario.variant:
        variant.judged = variant in chosen if chosen else variant is scenario.variant[-1]


def _phases(scenario: Scenario, origin: "_Origins") -> list[PhasePlan]:
    """The phases of [phases]; a load of no length of its own lasts as long as they do."""
    try:
        phases = parse_phases(scenario.phases)
    except FaultError as error:
        raise UsageError(f"{origin.of('phases')}: {error}") from None
    for variant in scenario.variant if phases else ():
        load = variant.load
        if load.duration is None and load.streams is None and load.replay is None and not load.stages:
            load.duration = Duration(total_ms(phases) * 1_000_000)
    return phases


def _check_phases(load: Load, replay_ns: list[int], phases: list[PhasePlan], origin: "_Origins") -> None:
    """The last phase lasts until the load ends: it has to begin before that, and as long as it is written it must fit."""
    length_ns = admission_ns(load, replay_ns)
    if length_ns is not None and total_ms(phases) * 1_000_000 > length_ns:
        raise UsageError(
            f"{origin.of('phases')}: the phases last {total_ms(phases) / 1e3:g} s together, and the load "
            f"{length_ns / 1e9:g} s: shorten a phase, or lengthen the load (without a duration it lasts as long as they do)."
        )
    if phases and load.warmup is not None and load.warmup.ns >= (phases[0].end_ms or 0) * 1_000_000:
        raise UsageError(
            f"{origin.of('load.warmup')}: load.warmup ({load.warmup}) is over only after the phase {phases[0].name!r}, of "
            "which no stream would be judged: shorten it, or lengthen that phase, which counts from the begin of load."
        )


def _groups(scenario: Scenario, phases: list[PhasePlan], origin: "_Origins") -> list[GroupSpec]:
    if not scenario.fault:
        return []
    try:
        groups = parse_groups(in_their_phases(scenario.fault, phases))
        check_in_phases(scenario.fault, groups, phases)
    except FaultError as error:
        raise UsageError(f"{origin.of('fault')}: {error}") from None
    if any(isinstance(spec.fault, ServerRestart) for spec in groups) and any(
        variant.server is None for variant in scenario.variant
    ):
        raise UsageError(
            f"{origin.of('fault')}: server-restart kills a server that the run itself has started: add [server] in place "
            "of the target's host, or use refused, which leaves the target alone."
        )
    for spec in groups:
        if isinstance(spec.fault, Command):
            _check_command(spec.fault, origin)
    blind = [spec for spec in groups if isinstance(spec.fault, ReadsEvents)]
    if blind and any(urlsplit(variant.target.url).scheme == "https" for variant in scenario.variant):
        raise UsageError(
            f"{origin.of('fault')}: the fault {kind_of(blind[0].fault)} has to read the stream, and https hides it from "
            "the proxy: use a fault that counts bytes or time (cut, cut-time, slice, stall), or an http:// target."
        )
    return groups


def _abort_condition(scenario: Scenario, origin: "_Origins") -> Condition | None:
    """When to give up, whose text is normalised; None without [abort]. There has to be something to stop."""
    if scenario.abort is None:
        return None
    try:
        condition = parse_condition(scenario.abort.when)
    except ValueError as error:
        raise UsageError(f"{origin.of('abort.when')}: abort.when {error}") from None
    if scenario.abort.stop == "faults" and not scenario.fault:
        raise UsageError(
            f'{origin.of("abort")}: abort stops the faults, and there is no [[fault]]: write stop = "load" in it, or leave '
            "it out."
        )
    scenario.abort.when = condition.text
    return condition


def _longest(load: Load, scenario: Scenario) -> Load:
    """The load as long as it may become: one that goes on until its claims are decided has no number, and a longest time."""
    if not scenario.until_decided or scenario.max_duration is None:
        return load
    return msgspec.structs.replace(load, duration=scenario.max_duration, streams=None)


def _check_abort(load: Load, replay_ns: list[int], condition: Condition, origin: "_Origins") -> None:
    """The condition can be met while the load lasts, as far as its length and its streams are known before."""
    length_ns = admission_ns(load, replay_ns)
    if length_ns is not None and condition.length.ns > length_ns:
        raise UsageError(
            f"{origin.of('abort.when')}: abort.when watches {condition.length.seconds:g} s, and the load lasts "
            f"{length_ns / 1e9:g} s: it would not be met before that is over; watch for less, or load longer."
        )
    if load.streams is not None and condition.fewest > load.streams:
        raise UsageError(
            f"{origin.of('abort.when')}: abort.when waits for {condition.fewest:,} streams, and the load has "
            f"{load.streams:,}: it would never be met; write a smaller number behind it (over 5), or load more."
        )


def _check_command(fault: Command, origin: "_Origins") -> None:
    """The programs are there and the variables are set: a fault that can't be done or undone is refused now."""
    for key, words in (("do", fault.do), ("undo", fault.undo), ("done_when", fault.done_when)):
        missing = [name for word in words for name in env_names(word) if name not in os.environ]
        if missing:
            raise UsageError(
                f"{origin.of('fault')}: {key} of the command names env:{missing[0]}, which is not set; export it first."
            )
        if words and shutil.which(words[0]) is None:
            raise UsageError(
                f"{origin.of('fault')}: {key} of the command runs {printable(words[0], 80)!r}, which is no program here: "
                "give its path, or one on PATH (there is no shell: write the words of a command as a list)."
            )


def _check_scopes(
    placed: list[PlacedClaim], scenario: Scenario, groups: list[GroupSpec], phases: list[PhasePlan]
) -> None:
    """A claim about a name that the plan does not have could only come out unknown: refused before anything is sent."""
    named = [spec.name for spec in groups]
    kinds = [spec.name for spec in groups if not isinstance(spec.fault, Clean)]
    kinds += [kind_of(spec.fault) for spec in groups if not isinstance(spec.fault, Clean)]
    variants = [variant.name for variant in scenario.variant if variant.name is not None]
    for claim, place in placed:
        scope = claim.scope
        for word, name, known in (
            ("in variant", scope.variant, variants),
            ("in group", scope.group, named),
            ("in phase", scope.phase, [phase.name for phase in phases]),
            ("after", scope.after, kinds),
        ):
            if name is None or name in known:
                continue
            there, end = "there are: " + ", ".join(dict.fromkeys(known)), "."
            if not known:
                there = f"the scenario has none: {_MAKES[word]}"
            elif word == "in phase" and (near := nearest(name, known)) is not None:
                there, end = f"did you mean {near!r}", "?"
            raise UsageError(f'{place}: the claim "{claim.text}" says {word} {name!r}; {there}{end}')


_MAKES: Final = {
    "in variant": "add [[variant]] tables, or leave it out",
    "in group": "a [[fault]] makes groups of streams; add one, or leave it out",
    "in phase": "add [phases], or give every fault a begin and an end in the run (after and duration, or when)",
    "after": "add a [[fault]], or leave it out",
}
"""What gives a scenario the names that a claim's scope asks for."""


def _check_measured(placed: list[PlacedClaim], scenario: Scenario) -> None:
    """A claim about something that no stream of the scenario can show could only come out unknown: refused as well."""
    for claim, place in placed:
        sides = [
            variant for variant in scenario.variant if claim.scope.variant in {None, variant.name}
        ]  # of several variants one may be enough
        for name in (claim.metric, *(limit.metric for limit in claim.limits)):
            wanted = _NEEDED.get(name)
            if wanted is not None and not any(wanted.there(side) for side in sides):
                raise UsageError(
                    f'{place}: the claim "{claim.text}" can\'t be measured: {name} {wanted.sentence}'
                )


class _Needed(NamedTuple):
    """What a metric takes from the scenario."""

    there: Callable[[Variant], bool]
    sentence: str
    """Goes on after the metric's name."""


_NEEDED: Final = {
    "ttft-plan": _Needed(
        lambda side: side.load.is_open,
        "counts from a planned start, which only an open load has: give --rate, or claim ttft-send.",
    ),
    "age": _Needed(
        lambda side: side.target.sent_at is not None,
        "counts from the send time inside the events: name it, as in --set target.sent_at=json:FIELD.",
    ),
    "fanout": _Needed(
        lambda side: side.target.topic is not None,
        "compares subscribers of one topic: name it, as in --set target.topic=NAME.",
    ),
}


class _Origins:
    """Where each value came from, by dotted key."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def merge(self, into: Tree, layer: Tree, place: str, prefix: str = "") -> None:
        """Lays a layer over the tree; tables merge, every other value replaces."""
        for key, value in layer.items():
            dotted = f"{prefix}{key}"
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self.merge(into[key], value, place, f"{dotted}.")
            elif isinstance(value, dict):
                into[key] = {}
                self._places[dotted] = place
                self.merge(into[key], value, place, f"{dotted}.")
            else:
                into[key] = value
                self._places[dotted] = place

    def has(self, dotted: str) -> bool:
        """Whether some layer wrote this key or one below it."""
        return any(place == dotted or place.startswith(f"{dotted}.") for place in self._places)

    def of(self, dotted: str) -> str:
        """The place a key came from, or its nearest parent's."""
        while dotted:
            if dotted in self._places:
                return self._places[dotted]
            dotted = dotted.rpartition(".")[0]
        return "the scenario"


def read_toml(path: Path, instead: str = "name a scenario file, or use --target URL without one") -> Tree:
    """The tree of a TOML file. Raises UsageError, in one sentence, for one that can't be read; `instead` is the way out."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; {instead}.") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from None


def _parse_set(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set {text!r} is not KEY=VALUE; write for example --set client.timeouts.idle=5s.")
    return key, _plain_value(value.strip())


def _plain_value(text: str) -> Any:
    """A TOML value where it is one (3, true, [..], "x"), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _nested(dotted: str, value: Any) -> Tree:
    first, _, rest = dotted.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """(variable, dotted key, value) of every SSEPROOF_ variable that sets a scenario key."""
    known = {dotted.upper().replace(".", "_"): dotted for dotted in leaf_keys(Scenario)}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable.startswith(SECRET_PREFIX):
            continue
        tail = variable.removeprefix(ENV_PREFIX)
        if tail in INTERNAL_VARIABLES:
            continue
        if tail not in known:
            near = nearest(tail, known)
            hint = (
                f"; did you mean {ENV_PREFIX}{near}?"
                if near
                else "; unset it, or see docs/scenario.md for the keys."
            )
            raise UsageError(f"The environment variable {variable} names no scenario key{hint}")
        value = environ[variable]
        yield variable, known[tail], _plain_value(value)


def leaf_keys(kind: type[Struct], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a struct that holds a value; free tables (headers, labels) are not leaves."""
    for field in msgspec.structs.fields(kind):
        inner = _struct_of(field.type)
        if get_origin(field.type) is list and inner is not None:
            continue
        if inner is not None:
            yield from leaf_keys(inner, f"{prefix}{field.encode_name}.")
        elif not _is_table(field.type):
            yield f"{prefix}{field.encode_name}"


def _struct_of(kind: Any) -> type[Struct] | None:
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, Struct):
            return option
    return None


def _is_table(kind: Any) -> bool:
    return get_origin(kind) is dict or kind == list[dict[str, Any]]


def nearest(word: str, known: Any) -> str | None:
    """The known name closest to a mistyped one, None when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def _refuse_unknown(tree: Tree, kind: type[Struct], prefix: str, origin: _Origins) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if key not in fields:
            near = nearest(key, fields)
            where = f"[{prefix.rstrip('.')}] has no key" if prefix else "there is no key"
            hint = f"did you mean {near!r}?" if near else f"known are {', '.join(sorted(fields))}."
            raise UsageError(f"{origin.of(dotted)}: {where} {key!r}; {hint}")
        inner = _struct_of(fields[key].type)
        if inner is not None and get_origin(fields[key].type) is list:
            if not isinstance(value, list):
                raise UsageError(
                    f"{origin.of(dotted)}: {dotted} is a list of tables; write [[{dotted}]] above each."
                )
            for table in value:
                _refuse_unknown(table, inner, f"{dotted}.", origin)
        elif inner is not None:
            if not isinstance(value, dict):
                raise UsageError(
                    f"{origin.of(dotted)}: {dotted} is a table; write it as [{dotted}] with keys below."
                )
            _refuse_unknown(value, inner, f"{dotted}.", origin)


def _convert(tree: Tree, origin: _Origins) -> Scenario:
    try:
        return msgspec.convert(tree, Scenario, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        dotted = _written(key_of(error), tree, origin)
        choices = _choices(dotted) if "enum value" in str(error) else []
        shown = in_plain_words(error, dotted, tables={"fault"}, choices=choices)
        raise UsageError(f"{origin.of(dotted)}: {shown}.") from None


def _choices(dotted: str) -> list[str]:
    """The words that a key of the scenario takes."""
    kind: Any = Scenario
    for key in dotted.split("."):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(_struct_of(kind) or kind)}
        kind = fields[key]
    options = [kind, *get_args(kind)]
    return [word for option in options if get_origin(option) is Literal for word in get_args(option)]


def _written(dotted: str, tree: Tree, origin: _Origins) -> str:
    """The key as its writer wrote it: variants are laid out by us, and an entry of a table is named, not the table."""
    shared = dotted.removeprefix("variant.")
    if not origin.has("variant") or origin.has(shared):
        dotted = shared
    value: Any = tree["variant"][0] if dotted.startswith(_SHARED) else tree
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    wrong = (
        [key for key, each in value.items() if not isinstance(each, str)] if isinstance(value, dict) else []
    )
    return f"{dotted}.{wrong[0]}" if len(wrong) == 1 else dotted


def _checked(scenario: Scenario, origin: _Origins) -> list[PlacedClaim]:
    """Checks what types can't say. Raises UsageError; gives the parsed claims and stores their normalised text."""

    def refuse(key: str, sentence: str) -> UsageError:
        return UsageError(f"{origin.of(key)}: {key} {sentence}")

    if not _NAME.fullmatch(scenario.name):
        raise refuse(
            "name", f"{scenario.name!r} can't name a folder; use letters, digits, dot, dash, underscore."
        )
    least = 0 if scenario.remote_workers > 0 else 1
    if not least <= scenario.workers <= MOST_WORKERS:
        raise refuse("workers", f"is {scenario.workers}; give {least} to {MOST_WORKERS}.")
    _check_remote(scenario, refuse)
    if scenario.seed is not None and scenario.seed < 0:
        raise refuse("seed", f"is {scenario.seed}; give a whole number from 0 up.")
    for variant in scenario.variant:
        _check_variant(variant, scenario.all_workers, refuse)
        if (
            variant.load.streams is not None
            and not variant.load.is_open
            and scenario.all_workers > variant.load.users
        ):
            # The numbers of the streams are split over the workers: one without a user would never take its own.
            users, workers = variant.load.users, scenario.all_workers
            raise refuse(
                "workers",
                f"is {workers}, more than the users ({users}), and a number of streams needs a user in every "
                f"worker: give --workers {users} or fewer, or --users {workers} or more.",
            )
    scenario.load, scenario.client = scenario.variant[-1].load, scenario.variant[-1].client
    claims = []
    for text in scenario.claims:
        try:
            claims.append(PlacedClaim(parse_claim(text), origin.of("claims")))
        except ClaimError as error:
            raise UsageError(f"{origin.of('claims')}: {error}") from None
    if scenario.claims_file is not None:
        claims += read_claims(Path(scenario.claims_file))
    once: dict[Claim, PlacedClaim] = {}
    for each in claims:
        once.setdefault(each.claim, each)
    scenario.claims = [claim.text for claim in once]
    if scenario.metrics_port is not None and not 0 <= scenario.metrics_port <= 65_535:
        raise refuse("metrics_port", f"is {scenario.metrics_port}; give 1 to 65535, or 0 for a free one.")
    if scenario.marks is not None:
        try:
            read_marks(Path(scenario.marks))
        except UsageError as error:
            raise refuse("marks", f"can't be taken: {error}") from None
    if scenario.locustfile is not None and not Path(scenario.locustfile).is_file():
        raise refuse("locustfile", f"{scenario.locustfile!r} is not a file.")
    if scenario.locustfile is not None and any(variant.load.is_open for variant in scenario.variant):
        raise refuse(
            "locustfile",
            "has users that start their own streams, one after the other: leave out what makes an open loop.",
        )
    return list(once.values())


def bind_address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`; loopback without a host. Raises ValueError, with the end of a sentence."""
    host, colon, port = text.rpartition(":")
    host = host or ("" if colon else "127.0.0.1")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError("has no port of 1 to 65535; write HOST:PORT, such as 10.0.0.1:5557.")
    if not host:
        raise ValueError("has no host; write HOST:PORT, or the PORT alone for loopback.")
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            "names a host; write the IPv4 address of this machine that workers can reach."
        ) from None
    if found.version != 4 or found.is_unspecified or found.is_multicast:
        raise ValueError("is not one IPv4 address of this machine; workers must be told where to connect.")
    return host, int(port)


def _check_remote(scenario: Scenario, refuse: Any) -> None:
    """Workers on other machines: how many, where they join, and what can't reach them."""
    if not 0 <= scenario.remote_workers <= MOST_WORKERS:
        raise refuse("remote_workers", f"is {scenario.remote_workers}; give 0 to {MOST_WORKERS}.")
    if scenario.master_bind is not None:
        if not scenario.remote_workers:
            raise refuse(
                "master_bind", "is where other machines join, and none is expected: add --remote-workers N."
            )
        try:
            bind_address(scenario.master_bind)
        except ValueError as error:
            raise refuse("master_bind", f"{scenario.master_bind!r} {error}") from None
    if scenario.remote_workers and len(scenario.variant) > 1:
        raise refuse(
            "remote_workers",
            "belongs to a run without [[variant]]: each variant has a master of its own; run them one after the other.",
        )


def _check_variant(variant: Variant, workers: int, refuse: Any) -> None:
    if variant.name is not None and not _NAME.fullmatch(variant.name):
        raise refuse(
            "variant.name", f"{variant.name!r} can't be a name; use letters, digits, dot, dash, underscore."
        )
    _check_target(variant.target, refuse)
    _check_hop(variant, refuse)
    _check_load(variant.load, workers, refuse)
    _check_payloads(variant, refuse)
    if variant.server is not None:
        try:
            parse_modes(variant.server.misbehave)
        except ValueError as error:
            raise refuse("server.misbehave", f"is wrong: {error}") from None
    client = variant.client
    if client.retries < 0:
        raise refuse("client.retries", f"is {client.retries}; give 0 or more.")
    if client.backoff.ns > client.backoff_max.ns:
        raise refuse(
            "client.backoff", f"({client.backoff}) is above client.backoff_max ({client.backoff_max})."
        )
    for name in client.timeouts.__struct_fields__:
        if getattr(client.timeouts, name).ns == 0:
            raise refuse(f"client.timeouts.{name}", "is 0; every limit needs a length, such as 5s.")


def _check_target(target: Target, refuse: Any) -> None:
    parts = split_url(target.url, refuse)
    if parts.scheme not in {"http", "https"}:
        raise refuse("target.url", f"{target.url!r} is not an http:// or https:// address.")
    if not re.fullmatch(r"[A-Z]{1,20}", target.method):
        raise refuse("target.method", f"{target.method!r} is no method; use GET or POST.")
    for name, value in target.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise refuse("target.headers", f"holds {name!r}, which can't be a header name.")
        if re.search(r"[\r\n\0]", value):
            raise refuse(f"target.headers.{name}", "holds a line end, which no header value can.")
        for variable in env_names(value):
            if variable not in os.environ:
                raise refuse(
                    f"target.headers.{name}", f"names env:{variable}, which is not set; export it first."
                )
    for key in ("url", "body"):
        for variable in env_names(getattr(target, key) or ""):
            if variable not in os.environ:
                raise refuse(f"target.{key}", f"names env:{variable}, which is not set; export it first.")
    if target.topic is not None and not target.topic.strip():
        raise refuse("target.topic", "is empty; give what its subscribers have in common a name.")
    if target.topic is not None and (target.kind == "answer" or target.sequence == "none"):
        raise refuse(
            "target.topic",
            "is for subscriptions with numbered events, which all subscribers share: leave it out, or kind and sequence.",
        )
    if target.dialect == AUTO:
        target.dialect = None
    try:
        dialect_of(target)
    except ValueError as error:
        raise refuse("target", f"{error}") from None
    if target.ca is not None and not Path(target.ca).is_file():
        raise refuse(
            "target.ca", f"{target.ca!r} is not a file; give the PEM file of your certificate authority."
        )
    if target.ca is not None:
        target.ca = str(
            Path(target.ca).resolve()
        )  # the processes that load have a working folder of their own
    if target.connect_to is not None and not re.fullmatch(
        r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):\d{1,5}", target.connect_to
    ):
        raise refuse("target.connect_to", f"{target.connect_to!r} is not HOST:PORT.")


def _check_hop(variant: Variant, refuse: Any) -> None:
    if variant.hop is None:
        if variant.fault_side == "service":
            raise refuse(
                "fault_side", 'is "service", and there is no hop to be behind of: give one, or leave it out.'
            )
        return
    parts = urlsplit(variant.target.url)
    if parts.scheme == "https":
        raise refuse("hop", "passes requests on by HTTP, and target.url is https: leave the hop out.")
    try:
        check_route(variant.hop, parts.path or "/")
    except UsageError as error:
        raise refuse("hop", f"can't stand before this target: {error}") from None


def _check_load(load: Load, workers: int, refuse: Any) -> None:
    if not 1 <= load.users <= MOST_USERS:
        raise refuse("load.users", f"is {load.users}; give 1 to {MOST_USERS}.")
    if load.duration is not None and load.streams is not None:
        raise refuse("load.streams", "and load.duration exclude each other; give one of them.")
    if load.streams is not None and load.streams < 1:
        raise refuse("load.streams", f"is {load.streams}; give 1 or more.")
    if load.duration is not None and load.duration.ns == 0:
        raise refuse("load.duration", "is 0; give a length, such as 30s.")
    if load.max_requests is not None and load.max_requests < 1:
        raise refuse("load.max_requests", f"is {load.max_requests}; give 1 or more.")
    paced = [key for key in ("rate", "stages", "replay") if getattr(load, key)]
    of_users = bool(load.stages) and all(stage.users is not None for stage in load.stages)
    if load.model is None:
        load.model = "closed" if of_users else "open" if paced or load.rate is not None else "closed"
    if load.stages:
        _check_stages(load, refuse)
    if load.is_open:
        _check_schedule(load, paced, workers, refuse)
    elif load.rate is not None or load.replay is not None:
        raise refuse(
            f"load.{'replay' if load.rate is None else 'rate'}",
            "starts streams by a schedule, which no closed loop has: leave it out, or the users of the stages."
            if of_users
            else 'belongs to an open loop; leave load.model out, or write "open".',
        )
    by_length = load.duration is None and load.streams is None
    if by_length and not load.stages and load.replay is None:
        load.duration = DEFAULT_DURATION
    _check_warmup(load, refuse)


def _check_stages(load: Load, refuse: Any) -> None:
    """Stages are all of the load's own kind, have a length, and let a stream start."""
    own, other = ("rate", "users") if load.is_open else ("users", "rate")
    most = MOST_RATE if load.is_open else MOST_USERS
    unit = "starts a second" if load.is_open else "users, a whole number"
    for number, stage in enumerate(load.stages, 1):
        if stage.duration.ns == 0:
            raise refuse(
                "load.stages",
                f"has a stage, number {number}, with a duration of 0; give a length, such as 30s.",
            )
        if getattr(stage, other) is not None or getattr(stage, own) is None:
            model = "an open loop" if load.is_open else "a closed loop"
            raise refuse(
                "load.stages", f"is of {model}, and stage {number} must say {own} = N, and not {other}."
            )
        for key in (own, "to"):
            level = getattr(stage, key)
            whole = load.is_open or level is None or level % 1 == 0
            if level is not None and not (0 <= level <= most and whole):
                raise refuse(
                    "load.stages", f"has {key} = {level:g} in stage {number}; give 0 to {most:.0f} {unit}."
                )
    if all(getattr(stage, own) == 0 == (stage.to or 0) for stage in load.stages):
        named = "a rate" if load.is_open else "users"
        raise refuse("load.stages", f"has no stage with {named} above 0, so no stream would ever start.")
    if load.streams is not None and not load.is_open:
        raise refuse(
            "load.streams", "and stages of users exclude each other: the stages say how long the load lasts."
        )
    together = Duration(sum(stage.duration.ns for stage in load.stages))
    if load.duration is not None and load.duration.ns > together.ns:
        raise refuse(
            "load.duration",
            f"({load.duration}) is longer than the stages together ({together}): it can only end them earlier; "
            "lengthen a stage, or give --users or --rate instead of the stages.",
        )


def _check_schedule(load: Load, paced: list[str], workers: int, refuse: Any) -> None:
    """An open loop has one source of starts, which can be walked."""
    if len(paced) > 1:
        raise refuse(f"load.{paced[1]}", f"and load.{paced[0]} exclude each other; give one of them.")
    if load.rate is not None and not 0 < load.rate <= MOST_RATE:
        raise refuse(
            "load.rate", f"is {load.rate:g}; give a number of starts a second above 0, up to {MOST_RATE:g}."
        )
    if not paced:
        raise refuse(
            "load.model", 'is "open" without starts; give load.rate, [[load.stages]] or load.replay.'
        )
    if not workers <= load.max_open <= MOST_USERS:
        raise refuse(
            "load.max_open",
            f"is {load.max_open}; give {workers} (one for each worker) to {MOST_USERS} streams at once.",
        )
    if load.think.ns:
        raise refuse(
            "load.think", "is a pause of a closed loop's users; an open loop has none: leave it out."
        )


def _check_payloads(variant: Variant, refuse: Any) -> None:
    """The file has what URL, headers and body ask for; its path is made absolute: workers have a folder of their own."""
    target, load = variant.target, variant.load
    in_headers = [field for value in target.headers.values() for field in fields_of(value)]
    asked = dict.fromkeys([*fields_of(target.url), *in_headers, *fields_of(target.body or "")])
    wanted = asked | dict.fromkeys(fields_of(target.topic or ""))
    if load.payloads is None:
        if wanted:
            raise refuse(
                "target",
                f"asks for {{payload:{next(iter(wanted))}}}, and load.payloads names no file; give one.",
            )
        return
    if not asked:
        raise refuse(
            "load.payloads",
            "is used nowhere: write {payload:FIELD} into target.body, target.url or a header.",
        )
    load.payloads = str(Path(load.payloads).resolve())
    read_payloads(Path(load.payloads), list(wanted), in_headers)


def _check_warmup(load: Load, refuse: Any) -> None:
    if load.warmup is None:
        return
    if not load.is_open and load.streams is not None:
        raise refuse(
            "load.warmup",
            "leaves out an unknown part of a fixed number of streams; give a duration instead of streams.",
        )
    if load.duration is not None and load.warmup.ns >= load.duration.ns:
        raise refuse("load.warmup", f"({load.warmup}) is not below load.duration ({load.duration}).")
    together = Duration(sum(stage.duration.ns for stage in load.stages))
    if load.stages and load.warmup.ns >= together.ns:
        raise refuse("load.warmup", f"({load.warmup}) is not below the stages together ({together}).")


def _check_starts(load: Load, replay_ns: list[int], origin: "_Origins") -> None:
    """An open loop's schedule can be walked, has the streams that were asked for, and goes beyond the warm-up."""
    if not load.is_open:
        return
    key = next(key for key in ("replay", "stages", "rate") if getattr(load, key))
    starts = starts_before(load, math.inf, replay_ns)
    wanted = starts if load.streams is None else min(starts, load.streams)
    if wanted > MOST_STARTS:
        raise UsageError(
            f"{origin.of(f'load.{key}')}: load.{key} makes {wanted:,.0f} starts, and {MOST_STARTS:,} are the most of one run: "
            "lower the rate, or end the load earlier."
        )
    if load.streams is not None and load.streams > starts:
        raise UsageError(
            f"{origin.of('load.streams')}: load.streams is {load.streams:,}, and load.{key} makes only {starts:,.0f} starts: "
            "give that number or fewer, or leave load.streams out."
        )
    if load.warmup is not None and starts_before(load, load.warmup.ns, replay_ns) >= wanted:
        raise UsageError(
            f"{origin.of('load.warmup')}: load.warmup ({load.warmup}) is over only after the last start of load.{key}, so no "
            "stream would be judged: shorten it, or lengthen the load."
        )


def split_url(url: str, refuse: Any) -> Any:
    """The parts of a URL with a host and a usable port; raises what `refuse` makes."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refuse("target.url", f"{url!r} is not an address: {error}.") from None
    if not parts.hostname or port == 0:
        raise refuse("target.url", f"{url!r} is not an address; write http://HOST:PORT/PATH.")
    if re.search(r"[\s\x00-\x1f]", url):
        raise refuse("target.url", "holds white space or control characters; percent-encode them.")
    return parts


def _move_secrets(target: Target, secrets: Secrets) -> None:
    """Literal secrets become `env:` names; what was a name already stays."""
    marked = SECRET_HEADERS | {name.lower() for name in target.secret_headers}
    for name, value in target.headers.items():
        if name.lower() in marked and not env_names(value):
            target.headers[name] = f"env:{secrets.keep(name, value)}"
    target.url = _without_secrets(target, secrets)


def _without_secrets(target: Target, secrets: Secrets) -> str:
    parts = urlsplit(target.url)
    netloc = parts.netloc
    user, at, place = netloc.rpartition("@")
    if at and env_names(user):
        # The client looks the names up and makes the header; only a password written out beside them leaves.
        written = _WRITTEN_PASSWORD.fullmatch(user)
        if written:
            netloc = f"{written[1]}:{{env:{secrets.keep('url_password', written[2])}}}@{place}"
    elif at:
        netloc = place
        secrets.keep("url_user", user)  # known to the log and the reports, so that they can mask it
        if "authorization" not in {name.lower() for name in target.headers}:
            basic = base64.b64encode(user.encode()).decode("ascii")
            target.headers["Authorization"] = f"env:{secrets.keep('authorization', f'Basic {basic}')}"
    query = parts.query
    for name, value in parse_qsl(parts.query, keep_blank_values=False):
        if SECRET_QUERY.search(name.lower()) and not env_names(value):
            for pair in parts.query.split("&"):
                key, _, raw = pair.partition("=")
                if key == name and raw:
                    stand_in = "{env:" + secrets.keep(f"url_{name}", raw) + "}"
                    query = query.replace(pair, f"{key}={stand_in}")
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def scenario_json(scenario: Scenario) -> bytes:
    """The resolved scenario as JSON with durations as text; secrets have been moved out before."""
    return msgspec.json.encode(scenario, enc_hook=encode_hook)
