"""Who meets which fault, decided before the run from one seed: groups, proxies, cut offsets, windows.

Rules (design.md decision 8, toxiproxy.md 1.0, 1.1 and 8.4):
- Chance lives here: each stream belongs to one group (`rundir.groups`), each group to its own proxies, and a proxy
  breaks all of its connections alike. What no fault asked for is the clean group, the control.
- One proxy has one `limit_data`, so a group whose offsets are a range has several proxies, each with the offset drawn
  for it from an equal part of the range: early and late cuts come in every run, whatever the seed.
- "Cut the first connection only" works with a stock server because a stream's first attempt dials a faulty proxy and
  its later attempts dial proxies of the same group that have no toxic and lead to the same upstream.
- Toxiproxy's accept loop dials one connection after the other. With connect time c and r connections at once the last
  of them waits r * c on one proxy, so a group gets as many proxies as keep that wait within `QUEUE_BUDGET_NS`; what
  remains is written down (`queue_ns`) and belongs to the error bracket, not to the service.
- The same specs and seed give the same plan but for ports: draws are named after group and proxy, and the connect time
  is a fixed one, or rounded so coarsely that a little more or less of it is the same.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from msgspec import Struct, structs

from sseproof.chaos.faults import (
    Clean,
    Cut,
    Fault,
    FaultError,
    OfEverybody,
    OnFirst,
    kind_of,
    parse_fault,
    windows_of,
)
from sseproof.rundir.groups import GroupRule, GroupShare
from sseproof.rundir.rows import AddressPlan
from sseproof.rundir.seeds import named_random

CLEAN_GROUP: Final = "clean"
QUEUE_BUDGET_NS: Final = 50_000_000
"""A twentieth of the second within which a stream is claimed to be back."""
OWN_CONNECT_NS: Final = 1_000_000
"""For one connect to a server or hop of our own on loopback: ten times what the kernel takes for it. One measured connect
is as late as this machine is busy, and the same seed would not give the same plan."""
MOST_PROXIES_A_GROUP: Final = 128
"""Each costs about four calls at the start and 50 KB a connection; beyond it the wait is told, not avoided."""
OFFSETS_A_RANGE: Final = 8
"""Proxies of a group whose cut offsets are a range: eighths of it."""
LARGEST_BLOCK: Final = 1_000
"""Shares are exact over a block, so a block must be short against a run."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)\s*%")
_MS: Final = 1_000_000


class GroupSpec(Struct, frozen=True, kw_only=True):
    """A group as the scenario asks for it: one [[fault]] table."""

    name: str
    share: str
    """Of all streams, as written: `20%`."""
    fault: Fault

    @property
    def fraction(self) -> Fraction:
        """The share as a number."""
        return _share(self.share)


class GroupPlan(Struct, frozen=True, kw_only=True):
    """A group as planned."""

    name: str
    share: str
    fault: Fault
    at_once: int
    """Connections that may be made at the same moment."""
    queue_ns: int
    """The longest a connection may wait for our own proxy to dial."""


class ProxyPlan(Struct, frozen=True, kw_only=True):
    """One proxy: what it is called, where it listens, where it leads, what stands on it."""

    name: str
    group: str
    variant: str | None
    host: str = "127.0.0.1"
    port: int = 0
    """0 until `with_ports`."""
    upstream: str
    """host:port"""
    attempts: str = "any"
    fault: Fault
    """What stands on this proxy or acts on it in windows: `Clean` for the one that later attempts dial."""
    cut_after_bytes: int | None = None

    @property
    def listen(self) -> str:
        """host:port as Toxiproxy writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Window(Struct, frozen=True, kw_only=True):
    """One planned time of one fault."""

    group: str
    number: int
    """1 is the first."""
    kind: str
    start_ms: int
    """From the begin of load."""
    duration_ms: int


class FaultPlan(Struct, frozen=True, kw_only=True):
    """Everything the injector does, decided before the run; plan.json holds it whole."""

    run: str
    seed: int
    connect_ns: int
    """Of one connect to the upstream, as planned with (`planned_connect_ns`)."""
    rule: GroupRule
    groups: list[GroupPlan]
    proxies: list[ProxyPlan]
    windows: list[Window]


def parse_groups(tables: Sequence[Mapping[str, Any]]) -> list[GroupSpec]:
    """The groups of a scenario's [[fault]] tables, in their order, the clean one (what is left) last.

    Each table holds `share`, the fault's own keys, and `name` where two faults are of one kind.
    Raises FaultError with the table's number in the sentence.
    """
    specs: list[GroupSpec] = []
    for number, table in enumerate(tables, start=1):
        try:
            specs.append(_group(table))
        except FaultError as error:
            raise FaultError(f"[[fault]] number {number}: {error}") from None
    _check_names(specs)
    shared = next((spec for spec in specs if isinstance(spec.fault, OfEverybody)), None)
    if shared is not None and (len(specs) > 1 or _share(shared.share) < 1):
        raise FaultError(
            f"The fault {kind_of(shared.fault)} happens to the service, which all streams share: give it "
            'share = "100%", and no other [[fault]] beside it.'
        )
    left = 1 - sum((_share(spec.share) for spec in specs), Fraction(0))
    if left < 0:
        raise FaultError("The shares of all [[fault]] tables come to more than 100%.")
    if left:
        specs.append(GroupSpec(name=CLEAN_GROUP, share=_percent(left), fault=Clean()))
    rule_of(specs, 0)
    return specs


def _group(table: Mapping[str, Any]) -> GroupSpec:
    rest = {key: value for key, value in table.items() if key not in {"name", "share"}}
    fault = parse_fault(rest)
    name = table.get("name", kind_of(fault))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FaultError(
            "name is 1 to 32 small letters, digits, - or _ (it names the group in claims and tables)."
        )
    share = table.get("share")
    if share is None:
        raise FaultError('it needs the share of streams it meets: share = "20%".')
    return GroupSpec(name=name, share=_percent(_share(share)), fault=fault)


def _check_names(specs: Sequence[GroupSpec]) -> None:
    seen: set[str] = set()
    for spec in specs:
        if spec.name == CLEAN_GROUP:
            raise FaultError(
                f"{CLEAN_GROUP!r} is the group of the streams that no fault meets: take another name."
            )
        if spec.name in seen:
            raise FaultError(f"Two [[fault]] tables are named {spec.name!r}: give one of them another name.")
        seen.add(spec.name)


def _share(value: object) -> Fraction:
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    share = Fraction(match[1]) / 100 if match else Fraction(0)
    if not 0 < share <= 1:
        raise FaultError(
            f'share is a percentage above 0% and up to 100%, such as "20%", not {str(value)[:40]!r}.'
        )
    return share


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):.2f}".rstrip("0").rstrip(".") + "%"


def rule_of(specs: Sequence[GroupSpec], seed: int) -> GroupRule:
    """The seeded rule that gives every stream number its group. Raises FaultError for shares too fine to be exact."""
    shares = [_share(spec.share) for spec in specs]
    block = math.lcm(*(share.denominator for share in shares))
    if block > LARGEST_BLOCK:
        raise FaultError(
            f"These shares come out even only every {block} streams: round them to whole or half per cents."
        )
    return GroupRule(
        seed=seed,
        block=block,
        shares=tuple(
            GroupShare(spec.name, int(share * block)) for spec, share in zip(specs, shares, strict=True)
        ),
    )


def plan_faults(
    specs: Sequence[GroupSpec],
    *,
    run: str,
    seed: int,
    upstreams: Mapping[str | None, str],
    connect_ns: int,
    at_once: int,
    load_ms: int | None = None,
) -> FaultPlan:
    """The plan, its ports still 0.

    `upstreams` maps each variant (None without variants) to the host:port behind its proxies; `connect_ns` is the
    time of one connect there (`planned_connect_ns`); `at_once` is how many streams one variant has open at the same moment;
    `load_ms` is the length of the load where it is fixed.

    Raises FaultError when a window would lie beyond the load.
    """
    groups = [_group_plan(spec, connect_ns, at_once) for spec in specs]
    windows = sorted(
        (window for group in groups for window in _windows(group)),
        key=lambda each: (each.start_ms, each.group),
    )
    _check_fits(windows, load_ms)
    return FaultPlan(
        run=run,
        seed=seed,
        connect_ns=connect_ns,
        rule=rule_of(specs, seed),
        groups=groups,
        proxies=[
            proxy
            for variant, upstream in upstreams.items()
            for group in groups
            for proxy in _proxies(group, run, seed, variant=variant, upstream=upstream, connect_ns=connect_ns)
        ],
        windows=windows,
    )


def with_ports(plan: FaultPlan, ports: Sequence[int], host: str = "127.0.0.1") -> FaultPlan:
    """The plan with a listening port for each proxy, in order, on an address of this machine."""
    proxies = [
        structs.replace(proxy, host=host, port=port) for proxy, port in zip(plan.proxies, ports, strict=True)
    ]
    return structs.replace(plan, proxies=proxies)


def addresses(plan: FaultPlan, variant: str | None = None) -> list[AddressPlan]:
    """Where the streams of one variant connect to; `rundir.groups.address_of` picks one for each attempt."""
    queue_ns = {group.name: group.queue_ns for group in plan.groups}
    return [
        AddressPlan(
            host=proxy.host,
            port=proxy.port,
            group=proxy.group,
            proxy=proxy.name,
            attempts=proxy.attempts,  # type: ignore[arg-type]  # made below from the same three words
            cut_after_bytes=proxy.cut_after_bytes,
            queue_ns=queue_ns[proxy.group],
        )
        for proxy in plan.proxies
        if proxy.variant == variant
    ]


def planned_connect_ns(measured_ns: int | None, *, own: bool) -> int:
    """The connect time to plan with: fixed for a server of our own, else the measured one up to the next 1, 2, 4, 8 … ms."""
    if own or not measured_ns:
        return OWN_CONNECT_NS
    steps = math.ceil(measured_ns / _MS)
    return _MS << (steps - 1).bit_length()


def proxies_needed(connect_ns: int, at_once: int) -> int:
    """How many proxies keep the wait for serial dialling within the budget."""
    return max(
        1, min(math.ceil(connect_ns * at_once / QUEUE_BUDGET_NS), MOST_PROXIES_A_GROUP, max(at_once, 1))
    )


def longest_queue_ns(connect_ns: int, at_once: int, proxies: int) -> int:
    """How long the last of `at_once` connections waits until its proxy dials it."""
    return max(math.ceil(at_once / proxies) - 1, 0) * connect_ns


def _group_plan(spec: GroupSpec, connect_ns: int, at_once: int) -> GroupPlan:
    mine = max(1, math.ceil(_share(spec.share) * at_once))
    return GroupPlan(
        name=spec.name,
        share=spec.share,
        fault=spec.fault,
        at_once=mine,
        queue_ns=longest_queue_ns(connect_ns, mine, proxies_needed(connect_ns, mine)),
    )


def _proxies(
    group: GroupPlan, run: str, seed: int, *, variant: str | None, upstream: str, connect_ns: int
) -> Iterator[ProxyPlan]:
    """The proxies of one group in one variant; names and offsets don't depend on the variant: both meet the same."""
    needed = proxies_needed(connect_ns, group.at_once)
    prefix = f"{proxy_prefix(run)}{variant}.{group.name}" if variant else f"{proxy_prefix(run)}{group.name}"
    fault = group.fault
    places: list[int | None] = [None] * needed
    if isinstance(fault, Cut):
        places = list(_offsets(fault, seed, group.name, needed))
    first_only = isinstance(fault, OnFirst) and fault.on == "first"
    for number, place in enumerate(places):
        yield ProxyPlan(
            name=f"{prefix}.{number}",
            group=group.name,
            variant=variant,
            upstream=upstream,
            attempts="first" if first_only else "any",
            fault=fault,
            cut_after_bytes=place,
        )
    for number in range(needed if first_only else 0):
        yield ProxyPlan(
            name=f"{prefix}.later.{number}",
            group=group.name,
            variant=variant,
            upstream=upstream,
            attempts="later",
            fault=Clean(),
        )


def proxy_prefix(run: str) -> str:
    """What the names of all proxies of a run begin with: by it they are told from other people's."""
    return f"sseproof-{re.sub(r'[^A-Za-z0-9_.-]', '-', run)}-"


def _offsets(fault: Cut, seed: int, group: str, needed: int) -> Iterator[int]:
    """One cut offset a proxy: number i is drawn from the i-th equal part of the range, then the parts are shuffled."""
    last = fault.to_bytes if fault.to_bytes is not None else fault.after_bytes
    width = last - fault.after_bytes + 1
    count = max(needed, min(OFFSETS_A_RANGE, width))
    draws = named_random(seed, "cut", group)
    found = []
    for part in range(count):
        low = fault.after_bytes + width * part // count
        high = max(low, fault.after_bytes + width * (part + 1) // count - 1)
        found.append(draws.randint(low, high))
    draws.shuffle(found)
    yield from found


def _windows(group: GroupPlan) -> Iterator[Window]:
    for number, (start_ms, duration_ms) in enumerate(windows_of(group.fault), start=1):
        yield Window(
            group=group.name,
            number=number,
            kind=kind_of(group.fault),
            start_ms=start_ms,
            duration_ms=duration_ms,
        )


def _check_fits(windows: Iterable[Window], load_ms: int | None) -> None:
    for window in windows:
        end_ms = window.start_ms + window.duration_ms
        if load_ms is not None and end_ms > load_ms:
            raise FaultError(
                f"The fault of group {window.group!r} would end {end_ms / 1000:g} s after the begin of load, "
                f"which lasts {load_ms / 1000:g} s: let it begin earlier, be shorter, or load longer."
            )
