"""Random plans of faults, each killed at a random moment: nothing of a run outlives it, and the next one starts clean.

A seed makes a plan, with phases and a condition to give up or without, its hop and the moment of its kill. Plans are
killed one after the other in a lane, which has one folder for runs and one for temporary files; the next one starts at
once. The last plan of a lane then runs to its end. `sseproof chaos run` is killed with plans of its own, while clients
hang in its faults.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import Struct

from sseproof.chaos.faults import FAULT_KINDS, STANDING_KINDS
from sseproof.chaos.hops import find_apache, find_nginx
from sseproof.planning import check_faults
from sseproof.rundir.files import FAULTS, PLAN_NAME, RUN_NAME, STREAMS, read_document
from sseproof.rundir.rows import FaultRow, RunInfo
from sseproof.scenario import load_scenario
from sseproof.standalone import Asked, planned
from tests.chaos.wire import Listener, Upstream, ticking
from tests.integration.suite import (
    carrying,
    directory_of,
    gone_from,
    listened_by,
    listening,
    living_in,
    nobody_listens,
    ports_of,
    rows,
    sseproof,
)

PLANS = int(os.environ.get("SOAK_PLANS", "10"))
"""Few in CI; `make soak` has 200."""
FIRST_SEED = int(os.environ.get("SOAK_SEED", "13"))
"""From 13 on ten plans hold what happens to the service itself, too."""
A_LANE = 5
LANES = range(FIRST_SEED, FIRST_SEED + PLANS, A_LANE)
SOAK_PLANS = 200

pytestmark = pytest.mark.integration

SCENARIO = """\
name = "soak"
claims = {claims}
{hop}
[server]
[target]
url = "/api/v1/stream/chat?events=30&interval_ms=20&script=mixed"
[load]
users = {users}
duration = "{load_ms}ms"
[client.timeouts]
headers = "3s"
idle = "3s"
total = "6s"
"""
USERS = 6
LOAD_MS = 4_000
OF_EVERYBODY = ("server-restart", "command")
"""What happens to the service and not to a link is alone in its plan, and meets all."""
HOPS = {"nginx-sse": find_nginx, "nginx-defaults": find_nginx, "apache-flush": find_apache}
DONE = "done-by-the-command"

Chance = random.Random


def _ms(chance: Chance, key: str, least: int, most: int) -> str:
    return f'{key} = "{chance.randint(least, most)}ms"'


def _shares(chance: Chance, count: int) -> list[float]:
    """Of some faults: in half per cents, and once in four plans with nothing left for the clean group."""
    weights = [chance.randint(1, 40) for _ in range(count)]
    most = 200 if chance.random() < 0.25 else max(count, min(sum(weights), 160))
    left, shares = most, []
    for number, weight in enumerate(weights, start=1):
        rest = count - number
        mine = left if not rest else min(max(1, most * weight // sum(weights)), left - rest)
        shares.append(mine / 2)
        left -= mine
    return shares


PHASED = "fault"
"""The phase that faults are put into: the one in the middle."""
OWN_LENGTH = {"flapping", "command"}
"""Times of their own that may be longer than a phase."""


def _phases(chance: Chance) -> dict[str, int]:
    """Name and length in ms, together no longer than the load; none for half of the plans."""
    if chance.random() < 0.5:
        return {}
    lengths = (chance.randint(200, 1_200), chance.randint(800, 1_600), chance.randint(200, 1_200))
    return dict(zip(("baseline", PHASED, "recovery"), lengths, strict=True))


def _abort(chance: Chance) -> str:
    """When it gives up, soon and easily; never, for half of the plans."""
    if chance.random() < 0.5:
        return ""
    below, over, stop = chance.randint(30, 100), chance.randint(1, 5), chance.choice(["faults", "load"])
    return f'[abort]\nwhen = "success < {below}% for 1s over {over}"\nstop = "{stop}"\n'


def _windows(chance: Chance) -> list[str]:
    duration = chance.randint(1, 1_000)
    keys = [_ms(chance, "after", 0, 1_000), f'duration = "{duration}ms"']
    if chance.random() < 0.5:
        keys += [_ms(chance, "every", duration + 200, duration + 500), "times = 2"]
    return keys


def _bytes(chance: Chance) -> str:
    first = chance.randint(1, 1_500)
    return f"after_bytes = {[first, first + chance.randint(0, 500)] if chance.random() < 0.5 else first}"


def _place(chance: Chance) -> list[str]:
    inside = chance.choice(["boundary", "event", "character"])
    keys = [f"after_events = {chance.randint(0, 25)}", f'inside = "{inside}"']
    return [*keys, f"offset_bytes = {chance.randint(1, 20)}"] if inside == "event" else keys


def _how(chance: Chance) -> list[str]:
    return [f'by = "{chance.choice(["fin", "rst"])}"', f'on = "{chance.choice(["first", "every"])}"']


KEYS: dict[str, Callable[[Chance], list[str]]] = {
    "latency": lambda c: [_ms(c, "delay", 1, 800)],
    "jitter": lambda c: [_ms(c, "delay", 200, 400), _ms(c, "jitter", 1, 200)],
    "slow-first-byte": lambda c: [_ms(c, "delay", 1, 900)],
    "bandwidth": lambda c: [f"rate_kb_s = {c.randint(2, 50)}"],
    "slow-drip": lambda c: [f"size_bytes = {c.randint(20, 200)}", _ms(c, "every", 1, 10)],
    "stall": _windows,
    "stall-events": lambda c: [*_place(c), _ms(c, "duration", 1, 1_500)],
    "black-hole": _windows,
    "cut": lambda c: [_bytes(c), *_how(c)],
    "cut-events": lambda c: [*_place(c), *_how(c)],
    "cut-time": lambda c: [_ms(c, "after", 1, 1_000), *_how(c)],
    "slice": lambda c: [f"size_bytes = {c.randint(2, 60)}", f'delay = "{c.randint(100, 1_000)}us"'],
    "split-characters": lambda c: [_ms(c, "delay", 1, 10)],
    "refused": _windows,
    "accept-then-close": _how,
    "flapping": lambda c: [
        _ms(c, "after", 0, 1_000),
        _ms(c, "down", 1, 400),
        _ms(c, "up", 200, 500),
        f"times = {c.randint(2, 3)}",
    ],
    "slow-close": lambda c: [_ms(c, "delay", 1, 1_500)],
    "server-restart": _windows,
    "command": lambda c: [
        f'do = ["touch", "{DONE}"]',
        f'undo = ["rm", "-f", "{DONE}"]',
        'shows = "silence"',
        _ms(c, "after", 0, 500),
        _ms(c, "max", 1_500, 3_000),
    ],
}
"""What a kind of fault is asked for, drawn."""


def _when(chance: Chance, kind: str, keys: list[str], *, phased: bool) -> list[str]:
    """Times of its own, for half of those that would else stand for the whole run; those of a phase, for half of any."""
    in_phase = phased and kind not in OWN_LENGTH and chance.random() < 0.5
    if kind not in STANDING_KINDS:
        return [f'phase = "{PHASED}"'] if in_phase else keys
    if not in_phase and chance.random() < 0.5:
        return keys
    # Nothing can make an end a reset for a time only.
    keys = [key for key in keys if not key.startswith("by = ")]
    return [*keys, f'phase = "{PHASED}"' if in_phase else f"when = {{ {', '.join(_windows(chance))} }}"]


def _tables(chance: Chance, kinds: Sequence[str], shares: Sequence[float], *, phased: bool) -> str:
    """The [[fault]] tables, a share in each where there are any."""
    found = []
    for number, kind in enumerate(kinds):
        share = [f'share = "{shares[number]:g}%"'] if shares else []
        keys = _when(chance, kind, KEYS[kind](chance), phased=phased)
        found += ["[[fault]]", f'kind = "{kind}"', *share, *keys]
    return "".join(f"{line}\n" for line in found)


def _table(lengths: Mapping[str, int]) -> str:
    lines = [f'{name} = "{length}ms"' for name, length in lengths.items()]
    return "\n".join(["[phases]", *lines, ""]) if lines else ""


def gave_up(directory: Path) -> bool:
    """Whether its condition was met."""
    path = directory / RUN_NAME
    return path.exists() and read_document(path, RunInfo, "run").aborted is not None


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "start": lambda directory: True,
    "plan": lambda directory: (directory / PLAN_NAME).exists(),
    "faults": lambda directory: any(row.step == "applied" for row in rows(directory, FAULTS)),
    "load": lambda directory: len(rows(directory, STREAMS)) >= 1,
    "end": lambda directory: len(rows(directory, STREAMS)) >= 2 * USERS or gave_up(directory),
}
"""From when on; then comes a random wait. After the end it loads, drains, heals, judges, or is over."""
LONGEST_WAIT_S = 2.0
LONGEST_START_S = 60.0


class Drawn(Struct, frozen=True):
    """What a seed makes."""

    seed: int
    kinds: tuple[str, ...]
    faults: str
    hop: str | None
    side: str
    moment: str
    wait_s: float
    phases: dict[str, int]
    abort: str

    def scenario(self, hop: str | None) -> str:
        lines = f'hop = "{hop}"\nfault_side = "{self.side}"\n' if hop else ""
        claims = ["success >= 50%", "lost = 0", *(f"success >= 50% in phase {name}" for name in self.phases)]
        base = SCENARIO.format(claims=claims, hop=lines, users=USERS, load_ms=LOAD_MS)
        return base + _table(self.phases) + self.abort + self.faults


def drawn(seed: int) -> Drawn:
    """One kind after the other comes with the seeds, others beside it by chance."""
    chance = random.Random(seed)
    kind = FAULT_KINDS[seed % len(FAULT_KINDS)]
    if kind in OF_EVERYBODY:
        kinds, shares = [kind], [100]
    else:
        others = [each for each in FAULT_KINDS if each != kind and each not in OF_EVERYBODY]
        kinds = [kind, *chance.sample(others, chance.randint(0, 4))]
        shares = _shares(chance, len(kinds))
    phases = _phases(chance)
    return Drawn(
        seed=seed,
        kinds=tuple(kinds),
        phases=phases,
        abort=_abort(chance),
        faults=_tables(chance, kinds, shares, phased=bool(phases)),
        hop=chance.choice([None, None, *HOPS]),
        side=chance.choice(["client", "service"]),
        moment=list(MOMENTS)[seed % len(MOMENTS)],
        wait_s=chance.uniform(0, LONGEST_WAIT_S),
    )


def there(hop: str | None) -> str | None:
    """The hop, or none where its program is not installed and need not be."""
    return hop if hop is None or os.environ.get("CI") or HOPS[hop]() else None


@contextlib.contextmanager
def repeatable(plan: Drawn) -> Iterator[None]:
    """A failure says how to have it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(
            f"the plan of seed {plan.seed}, killed {plan.wait_s:.2f} s after {plan.moment}; again with\n"
            f"    SOAK_SEED={plan.seed} SOAK_PLANS=1 make soak\n{plan.scenario(plan.hop)}"
        )
        raise


def living(cwd: Path) -> dict[int, str]:
    """The processes of a run, with their command lines: by what they carry, or by where they work.

    Locust works in the run directory, and nginx overwrites what it carries.
    """
    found = living_in(cwd)
    for pid in carrying(f"MARKED={cwd}\0"):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found[pid] = b" ".join(words).decode(errors="replace")
    return found


class Victim(Struct):
    """A run that was killed, and what had lived of it."""

    plan: Drawn
    cwd: Path
    directory: Path | None
    lived: dict[int, str]
    heard: list[int]
    """Ports on which its processes accepted connections."""


class Lane:
    """A folder of runs, and one of temporary files."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.temporary = place / "tmp"
        self.temporary.mkdir()
        self.victims: list[Victim] = []

    def directories(self) -> set[Path]:
        return {path.parent for path in self.place.glob(f"runs/soak/[0-9]*/{PLAN_NAME}")}

    def begun(self, plan: Drawn, name: str, hop: str | None) -> tuple[Path, list[str], dict[str, str]]:
        """The folder, the arguments and the environment of a run."""
        cwd = self.place / name
        cwd.mkdir()
        (cwd / "plan.toml").write_text(plan.scenario(hop))
        arguments = ["run", "plan.toml", "--quiet", "--seed", str(plan.seed), "--out", "../runs"]
        marks = {"TMPDIR": str(self.temporary), "MARKED": str(cwd)}
        return cwd, arguments, marks

    def kill(self, plan: Drawn) -> None:
        """SIGKILL of the front process alone, at the plan's moment."""
        before = self.directories()
        cwd, arguments, marks = self.begun(plan, str(plan.seed), there(plan.hop))
        with (cwd / "said").open("wb") as said:
            run = subprocess.Popen(
                [sys.executable, "-m", "sseproof", *arguments],
                cwd=cwd,
                env={**os.environ, **marks},
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        try:
            deadline = time.monotonic() + LONGEST_START_S
            while not any(MOMENTS[plan.moment](each) for each in self._mine(before, plan.moment)):
                assert run.poll() is None, (cwd / "said").read_text()
                assert time.monotonic() < deadline, f"{plan.moment} never came"
                time.sleep(0.02)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(plan.wait_s)
            lived = living(cwd)
            heard = listened_by(lived)
        finally:
            run.kill()
            run.wait()
        assert run.returncode in {0, 1, 2, -signal.SIGKILL}, (cwd / "said").read_text()
        (directory,) = self.directories() - before or {None}
        self.victims.append(Victim(plan, cwd, directory, lived, heard))

    def _mine(self, before: set[Path], moment: str) -> set[Path]:
        return {self.place} if moment == "start" else self.directories() - before


def nothing_is_left(victim: Victim) -> None:
    """No process, no port, nothing that its command did; its record can be judged."""
    deadline = time.monotonic() + 5
    while (left := living(victim.cwd)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == {}
    if ports := {*victim.heard, *(ports_of(victim.directory) if victim.directory else ())}:
        nobody_listens(sorted(ports), limit_s=5)
    assert not (victim.cwd / DONE).exists(), "the command was not undone"
    assert b"Traceback" not in (victim.cwd / "said").read_bytes()
    if victim.directory is not None:
        judged = sseproof("judge", str(victim.directory), cwd=victim.cwd)
        assert judged.returncode in {0, 1, 2}, judged.stdout + judged.stderr
        assert "Traceback" not in judged.stdout + judged.stderr


def the_next_is_clean(lane: Lane, plan: Drawn) -> None:
    """To its end: all that it broke is healed and verified, and what the kills had left is swept."""
    hop = there("nginx-sse")
    before = lane.directories()
    cwd, arguments, marks = lane.begun(plan, "whole", hop)
    done = sseproof(*arguments, cwd=cwd, environ=marks)
    assert done.returncode in {0, 1, 2}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (directory,) = lane.directories() - before
    faults = rows(directory, FAULTS)
    assert [row for row in faults if row.ok is False] == []
    steps = {
        step: {(row.fault, row.variant, row.window) for row in faults if row.step == step}
        for step in ("applied", "healed", "verified")
    }
    assert steps["applied"] == steps["healed"]
    assert steps["applied"] or gave_up(directory)
    assert steps["verified"]
    assert living(cwd) == {}
    assert list(lane.place.glob("runs/soak/.new-*")) == []
    if hop:
        assert list(lane.temporary.iterdir()) == []


def test_seeds_make_plans_of_every_kind(tmp_path: Path) -> None:
    """Each can be run, as far as reading it tells, and is the same when it is drawn again."""
    plans = [drawn(seed) for seed in range(1, SOAK_PLANS + 1)]
    assert {kind for plan in plans for kind in plan.kinds} == set(FAULT_KINDS) == set(KEYS)
    assert {plan.hop for plan in plans} == {None, *HOPS}
    assert {plan.moment for plan in plans} == set(MOMENTS)
    assert plans == [drawn(plan.seed) for plan in plans]
    assert {kind for plan in plans for kind in _having(plan, "when")} == STANDING_KINDS
    assert {kind for plan in plans for kind in _having(plan, "phase")} == set(FAULT_KINDS) - OWN_LENGTH
    stops = [tomllib.loads(plan.abort)["abort"]["stop"] if plan.abort else "" for plan in plans]
    assert set(stops) == {"", "faults", "load"}
    assert {bool(plan.phases) for plan in plans if plan.abort} == {True, False}
    file = tmp_path / "plan.toml"
    for plan in plans:
        with repeatable(plan):
            file.write_text(plan.scenario(plan.hop))
            resolved = load_scenario(file, environ={}, sets=[], flags={})
            assert len(resolved.groups) >= len(plan.kinds)
            check_faults(resolved)
    sums = {_of_all(plan) for plan in plans if plan.kinds[0] not in OF_EVERYBODY}
    assert max(sums) == 100 > min(sums), "with a clean group, and without"


def _of_all(plan: Drawn) -> float:
    """The shares of a plan together, in per cent."""
    return sum(float(table["share"].rstrip("%")) for table in tomllib.loads(plan.faults)["fault"])


def _having(plan: Drawn, key: str) -> list[str]:
    """The kinds of a plan whose tables have a key."""
    tables = tomllib.loads(plan.faults)["fault"]
    return [table["kind"] for table in tables if key in table]


@pytest.mark.slow
@pytest.mark.timeout(60 + 40 * A_LANE)
@pytest.mark.parametrize("first", LANES)
def test_nothing_outlives_a_random_plan_that_is_killed(tmp_path: Path, first: int) -> None:
    lane = Lane(tmp_path)
    plans = [drawn(seed) for seed in range(first, min(first + A_LANE, FIRST_SEED + PLANS))]
    for plan in plans:
        with repeatable(plan):
            lane.kill(plan)
    for victim in lane.victims:
        with repeatable(victim.plan):
            nothing_is_left(victim)
    with repeatable(plans[-1]):
        the_next_is_clean(lane, plans[-1])
    if len(plans) == A_LANE:
        found = " | ".join(command for victim in lane.victims for command in victim.lived.values())
        for part in ("toxiproxy-server", "reference_server", "locust"):
            assert part in found, f"no kill of the seeds {first} to {plans[-1].seed} met it alive"


# --- faults alone ---------------------------------------------------------------------------------------------------------

ALONE = max(1, PLANS // 10)
"""Plans of `sseproof chaos run` that are killed."""
PLACE = re.compile(r"^\S+:(\d+)  \S+ \(", re.MULTILINE)


def _said(cwd: Path) -> str:
    return (cwd / "said").read_text("utf-8")


def _journal(cwd: Path) -> list[FaultRow]:
    return [row for directory in cwd.glob("runs/plan/[0-9]*") for row in rows(directory, FAULTS)]


ALONE_MOMENTS: dict[str, Callable[[Path], bool]] = {
    "start": lambda cwd: True,
    "plan": lambda cwd: any(cwd.glob(f"runs/plan/[0-9]*/{PLAN_NAME}")),
    "faults": lambda cwd: any(row.step == "applied" for row in _journal(cwd)),
    "clients": lambda cwd: "Ready" in _said(cwd),
    "ready": lambda cwd: "Ready" in _said(cwd),
}
"""From when on; with clients, some hang in every fault by then."""


class Alone(Struct, frozen=True):
    """What a seed makes of `chaos run`."""

    seed: int
    kinds: tuple[str, ...]
    shared: bool
    text: str
    moment: str
    wait_s: float


def alone(seed: int) -> Alone:
    """As `drawn`, with ports instead of shares for half of the plans, and every cut on every connection."""
    chance = random.Random(f"alone {seed}")
    every = [each for each in FAULT_KINDS if each not in OF_EVERYBODY]
    kind = every[seed % len(every)]
    kinds = [kind, *chance.sample([each for each in every if each != kind], chance.randint(0, 3))]
    shares = _shares(chance, len(kinds)) if chance.random() < 0.5 else []
    phases = _phases(chance)
    tables = _tables(chance, kinds, shares, phased=bool(phases)).splitlines()
    faults = "".join(f"{line}\n" for line in tables if not line.startswith("on = "))
    return Alone(
        seed=seed,
        kinds=tuple(kinds),
        shared=bool(shares),
        text=(f'duration = "{LOAD_MS}ms"\n' + _table(phases) if phases else "") + faults,
        moment=list(ALONE_MOMENTS)[seed % len(ALONE_MOMENTS)],
        wait_s=chance.uniform(0, 1),
    )


def test_seeds_make_plans_of_chaos_run_of_every_kind(tmp_path: Path) -> None:
    plans = [alone(seed) for seed in range(SOAK_PLANS // 5)]
    assert {kind for plan in plans for kind in plan.kinds} == set(FAULT_KINDS) - set(OF_EVERYBODY)
    assert {plan.shared for plan in plans} == {True, False}
    assert {plan.moment for plan in plans} == set(ALONE_MOMENTS)
    assert {"[phases]" in plan.text for plan in plans} == {True, False}
    for plan in plans:
        (tmp_path / "plan.toml").write_text(plan.text)
        _, groups, _ = planned(Asked(plan=tmp_path / "plan.toml", upstream="127.0.0.1:9", listen=0))
        assert len(groups) >= len(plan.kinds)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ALONE))
def test_nothing_outlives_a_chaos_run_that_is_killed(tmp_path: Path, seed: int) -> None:
    """No process, no port, and no client that waits; the record can be read, and the same plan begins again at once."""
    plan = alone(seed)
    (tmp_path / "plan.toml").write_text(plan.text)
    with Upstream(ticking(600, 0.05)) as service:
        clients: list[Listener] = []
        with _begun(tmp_path, service) as run:
            _await(tmp_path, run, plan.moment)
            if plan.moment == "clients":
                clients += [
                    Listener(int(port)) for port in PLACE.findall(_said(tmp_path)) if listening(int(port))
                ]
                assert clients
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(plan.wait_s)
            lived = living(tmp_path)
            heard = listened_by(lived)
        assert run.returncode in {0, -signal.SIGKILL}, _said(tmp_path)
        for client in clients:
            assert client.result().end in {"fin", "rst"}
        assert gone_from(tmp_path) == {}
        if heard:
            nobody_listens(heard, limit_s=5)
        assert "Traceback" not in _said(tmp_path)
        for directory in tmp_path.glob(f"runs/plan/[0-9]*/{PLAN_NAME}"):
            judged = sseproof("judge", str(directory.parent), cwd=tmp_path)
            assert judged.returncode == 0, judged.stdout + judged.stderr
            assert ("no end on record" in " ".join(judged.stdout.split())) == (run.returncode != 0)
        with _begun(tmp_path, service) as run:
            _await(tmp_path, run, "ready")
            run.send_signal(signal.SIGINT)
            assert run.wait(30) in {0, 130}, _said(tmp_path)
        last = [row for row in rows(directory_of(tmp_path), FAULTS) if row.step == "verified"]
        assert last
        assert all(row.ok for row in last)


@contextlib.contextmanager
def _begun(cwd: Path, service: Upstream) -> Iterator["subprocess.Popen[bytes]"]:
    """The command in a process of its own, killed at the end."""
    with (cwd / "said").open("wb") as said:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "sseproof", "chaos", "run", "plan.toml"),
                *("--upstream", service.place, "--listen", "0", "--seed", "7"),
            ],
            cwd=cwd,
            env={**os.environ, "MARKED": str(cwd)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            yield run
        finally:
            run.kill()
            run.wait()


def _await(cwd: Path, run: "subprocess.Popen[bytes]", moment: str) -> None:
    deadline = time.monotonic() + LONGEST_START_S
    while not ALONE_MOMENTS[moment](cwd):
        assert run.poll() is None, _said(cwd)
        assert time.monotonic() < deadline, f"{moment} never came"
        time.sleep(0.02)
