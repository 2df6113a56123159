"""Takes back what a run that crashed left on somebody else's Toxiproxy: exactly that, and nothing else.

Rules (design.md decision 9):
- What is ours is on record: named in an intent of the run's faults.jsonl, with the addresses that its plan.json gave it. A
  proxy of such a name that listens or leads elsewhere was made by somebody else and stays.
- On such a server runs only make proxies and never change one, so taking back is removing.
- It is verified: the server is read once more, ours have to be gone and refuse connections, all others have to be as they
  were, with every toxic. What was done is written behind the run's own rows.
- A run that still goes on is not touched: its own end heals.
"""

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.chaos.plan import FaultPlan, ProxyPlan, proxy_prefix
from sseproof.chaos.toxiproxy import Client, MismatchError, ProxyState, same_listen
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import FAULTS, PLAN_NAME, RUN_NAME, Appender, Reading, read_document
from sseproof.rundir.layout import LATEST, alive
from sseproof.rundir.rows import FaultRow, Plan, RunInfo

CONNECT_LIMIT_S: Final = 2.0
SAID_BY: Final = "Taken back after the run, by sseproof chaos heal."


class Record(Struct, frozen=True):
    """What one run is known to have made on a server."""

    directory: Path
    run: str
    proxies: list[ProxyPlan]


class Healed(Struct, kw_only=True):
    """What was taken back from a server, and what was left as it was."""

    server: str
    removed: list[str] = []
    """Proxies of ours, gone now."""
    not_ours: list[str] = []
    """Of a name of ours, with addresses that we did not give them: left alone."""
    others: int = 0
    """Other people's proxies, each as it was before."""


def run_directories(root: Path) -> list[Path]:
    """The runs kept below a folder, oldest first."""
    found = [path.parent for path in root.glob(f"*/*/{PLAN_NAME}") if path.parent.name != LATEST]
    return sorted(path for path in found if not path.is_symlink())


def made_by(directory: Path) -> Record:
    """What the run of this directory made on a server, by its own record.

    Raises UsageError when it is no run directory, or its run still goes on.
    """
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    try:
        faults = msgspec.json.decode(plan.faults, type=FaultPlan | None)
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(f"{directory / PLAN_NAME} is damaged ({error}).") from None
    if faults is None:
        return Record(directory, plan.run, [])
    with contextlib.suppress(UsageError):  # without a run.json nobody says that it goes on
        info = read_document(directory / RUN_NAME, RunInfo, "run")
        going = info.ended_ns is None and info.pid is not None and alive(info.pid)
        if going:
            return _refuse(directory, info)
    intended = {name for row in Reading(directory, FAULTS) if row.step == "intent" for name in row.proxies}
    prefix = proxy_prefix(faults.run)
    mine = [each for each in faults.proxies if each.name in intended and each.name.startswith(prefix)]
    return Record(directory, plan.run, mine)


class RunGoesOnError(RigError):
    """Its own end heals; from outside its load would lose its way."""


def _refuse(directory: Path, info: RunInfo) -> Record:
    raise RunGoesOnError(
        f"The run in {directory} still goes on (process {info.pid}): end it, and it heals by itself."
    )


def take_back(client: Client, records: Sequence[Record]) -> Healed:
    """Removes what these runs left on the server, verifies it, and writes it behind their rows.

    Raises RigError when the server fails, or when it is not as it should be afterwards.
    """
    before = client.proxies()
    healed = Healed(server=client.place)
    for record in records:
        mine = []
        for proxy in record.proxies:
            state = before.get(proxy.name)
            if state is None:
                continue
            if same_listen(proxy.listen, state.listen) and state.upstream == proxy.upstream:
                mine.append(proxy)
            else:
                healed.not_ours.append(proxy.name)
        if mine:
            _remove(client, record, mine)
            healed.removed += [proxy.name for proxy in mine]
    others = {name: state for name, state in before.items() if name not in healed.removed}
    _check_others(client, others, healed.removed)
    healed.others = len(others)
    return healed


def _remove(client: Client, record: Record, mine: Sequence[ProxyPlan]) -> None:
    rows: Appender[FaultRow] = Appender(record.directory, FAULTS, record.run)
    try:
        sides = dict.fromkeys((proxy.variant, proxy.group) for proxy in mine)
        for variant, group in sides:
            names = [proxy.name for proxy in mine if (proxy.variant, proxy.group) == (variant, group)]
            row = FaultRow(
                at_ns=now_ns(),
                fault=group,
                step="heal-intent",
                group=group,
                variant=variant,
                proxies=names,
                detail=SAID_BY,
            )
            rows.append(row)
            rows.sync()
            sent_ns = now_ns()
            for name in names:
                client.delete(name)
            rows.append(
                msgspec.structs.replace(
                    row,
                    at_ns=now_ns(),
                    step="healed",
                    call_sent_ns=sent_ns,
                    call_answered_ns=now_ns(),
                    ok=True,
                )
            )
            for proxy in mine:
                if proxy.name in names:
                    _check_refuses(proxy)
            rows.append(msgspec.structs.replace(row, at_ns=now_ns(), step="verified", ok=True))
    finally:
        rows.close()


def _check_others(client: Client, others: dict[str, ProxyState], removed: Sequence[str]) -> None:
    after = client.proxies()
    if still := sorted(set(removed) & set(after)):
        raise MismatchError(f"The proxies {', '.join(still)} were removed and are still there.")
    changed = sorted(name for name, state in others.items() if after.get(name) != state)
    if changed:
        raise MismatchError(
            f"While ours were removed somebody changed {', '.join(changed)}: look whether that was meant."
        )


def _check_refuses(proxy: ProxyPlan) -> None:
    try:
        socket.create_connection((proxy.host, proxy.port), CONNECT_LIMIT_S).close()
    except OSError:
        return
    raise MismatchError(f"The proxy {proxy.name} was removed, and {proxy.listen} still accepts connections.")
