"""`sseproof chaos run`: faults before a service whose load comes from elsewhere, by plain sockets here."""

import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from sseproof.chaos.install import install
from sseproof.chaos.processes import PORTS_FROM, PortLease
from sseproof.chaos.toxiproxy import Server
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import FAULTS, PLAN_NAME, RUN_NAME, lines_of, read_document
from sseproof.rundir.rows import FaultRow, Plan, RunInfo
from sseproof.standalone import Asked, ChaosResult, planned
from tests.chaos.wire import Upstream, answer, at_once, fetch, listen_to
from tests.integration.suite import (
    carrying,
    directory_of,
    has_ipv6,
    listened_by,
    listening,
    nobody_listens,
    plan_of,
    rows,
    sseproof,
    started,
    stock_server,
)

pytestmark = pytest.mark.integration

CUT = '[[fault]]\nkind = "cut"\nby = "rst"\nafter_bytes = 900\n'
AWAY = '[[fault]]\nname = "away"\nkind = "refused"\nafter = "200ms"\nduration = "600ms"\n'
WHOLE = answer(60)
PLACE = re.compile(r"^(\S+):(\d+)\s+(\S+) \(")


@pytest.fixture
def service() -> Iterator[Upstream]:
    with Upstream(at_once(WHOLE)) as upstream:
        yield upstream


def plan(cwd: Path, text: str) -> Path:
    path = cwd / "plan.toml"
    path.write_text(text)
    return path


class Running:
    """The command in a process of its own, its lines on standard error as they come."""

    def __init__(self, cwd: Path, upstream: str, text: str, *options: str) -> None:
        plan(cwd, text)
        self.process = started(
            *("chaos", "run", "plan.toml", "--upstream", upstream, "--listen", "0", *options),
            cwd=cwd,
            environ={"MARKED": str(cwd)},
        )
        self.ports: dict[str, int] = {}
        self.lines: list[str] = []
        try:
            self.until("Ready")
        except BaseException:
            self.__exit__()
            raise
        for line in self.lines:
            if found := PLACE.match(line):
                self.ports[found[3]] = int(found[2])

    def until(self, words: str) -> str:
        """The next line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if words in line:
                return line
        raise AssertionError(f"no line with {words!r}: {self.lines}")

    def ended(self, number: signal.Signals | None = None) -> str:
        """Standard output, after a signal or by itself."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        self.lines += err.splitlines()
        return out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_breaks_by_port_until_it_is_told_to_end_and_heals(
    tmp_path: Path, service: Upstream, number: signal.Signals
) -> None:
    with Running(tmp_path, service.place, CUT + AWAY, "--json") as chaos:
        chaos.until("away: refused acts, time 1")
        assert not listening(chaos.ports["away"])
        heard = fetch(chaos.ports["cut"])
        assert (heard.data, heard.end) == (WHOLE[:900], "rst")
        assert fetch(chaos.ports["clean"]).data == WHOLE
        chaos.until("away: healed and verified")
        assert fetch(chaos.ports["away"]).data == WHOLE
        journal = json.loads(chaos.ended(number))
        assert chaos.process.returncode == 128 + number
    nobody_listens(list(chaos.ports.values()))
    assert journal["problem"] == ""
    assert journal["how"] == ("interrupted" if number == signal.SIGINT else "terminated")
    verified = [(row["group"], row["ok"]) for row in journal["journal"] if row["step"] == "verified"]
    assert verified == [("away", True), ("cut", True), ("away", True), ("clean", True)]
    directory = directory_of(tmp_path)
    assert [row.step for row in rows(directory, FAULTS)] == [row["step"] for row in journal["journal"]]
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert (info.how, info.lines) == (journal["how"], lines_of(directory))
    seed = read_document(directory / PLAN_NAME, Plan, "plan").seed
    assert info.command[-2:] == ["--seed", str(seed)], "nobody chose it, and a repetition needs it"
    assert sseproof("judge", str(directory), cwd=tmp_path).returncode == 0


def test_a_plan_of_windows_ends_by_itself_and_a_terminal_shows_its_state(
    tmp_path: Path, service: Upstream
) -> None:
    plan(tmp_path, AWAY)
    master, slave = pty.openpty()
    command = ["chaos", "run", "plan.toml", "--upstream", service.place, "--listen", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sseproof", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(slave)
    shown = b""
    try:
        while True:
            try:
                got = os.read(master, 65536)
            except OSError:  # Linux: the other end of the terminal is closed
                break
            shown += got
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        os.close(master)
    assert process.returncode == 0, shown
    for words in (b"refused acts, time 1", b"healed and verified", b"nothing is broken now"):
        assert words in shown
    assert "1 time a fault came and went. Everything is healed and verified." in out


def test_nothing_outlives_a_kill(tmp_path: Path, service: Upstream) -> None:
    with Running(tmp_path, service.place, CUT) as chaos:
        assert listening(chaos.ports["cut"])
    nobody_listens(list(chaos.ports.values()), limit_s=5)


def servers_of(cwd: Path) -> list[int]:
    """The fault engines of what runs there."""
    return [
        pid
        for pid in carrying(f"MARKED={cwd}")
        if b"toxiproxy-server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    ]


def test_elsewhere_only_when_told_and_the_servers_interface_never(tmp_path: Path, service: Upstream) -> None:
    """127.0.0.2 stands for another address of this machine."""
    with Running(tmp_path, service.place, CUT) as chaos, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", chaos.ports["cut"]), 5)
    with Running(tmp_path, service.place, CUT, "--listen-host", "127.0.0.2") as chaos:
        with socket.create_connection(("127.0.0.2", chaos.ports["cut"]), 5):
            pass
        (api,) = set(listened_by(servers_of(tmp_path))) - set(chaos.ports.values())
        assert listening(api)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", api), 5)


def test_every_address_means_every_address(tmp_path: Path, service: Upstream) -> None:
    with Running(tmp_path, service.place, CUT, "--listen-host", "0.0.0.0") as chaos:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, chaos.ports["clean"]), 5):
                pass
        chaos.ended(signal.SIGINT)
    assert chaos.process.returncode == 130, chaos.lines


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_it_listens_by_ipv6_too_and_the_servers_interface_does_not(
    tmp_path: Path, service: Upstream, host: str
) -> None:
    if not has_ipv6():
        pytest.skip("no ::1 on this machine")
    with Running(tmp_path, service.place, CUT + AWAY, "--listen-host", host) as chaos:
        connection = socket.create_connection(("::1", chaos.ports["cut"]), 5)
        connection.settimeout(20)
        heard = listen_to(connection)
        assert (heard.data, heard.end) == (WHOLE[:900], "rst")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", chaos.ports["cut"]), 5)
        (api,) = set(listened_by(servers_of(tmp_path))) - set(chaos.ports.values())
        assert listening(api)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", api), 5)
        chaos.until("away: healed and verified")
        chaos.ended(signal.SIGINT)
    assert chaos.process.returncode == 130, chaos.lines


def test_a_service_that_is_not_there_yet_is_said_and_waited_for(tmp_path: Path) -> None:
    with PortLease(1) as lease, Running(tmp_path, f"127.0.0.1:{lease.ports[0]}", CUT) as chaos:
        (line,) = (line for line in chaos.lines if line.startswith("Nobody takes connections at"))
        assert f"127.0.0.1:{lease.ports[0]} yet (Connection refused)" in line
        assert chaos.process.poll() is None


def test_a_server_of_ours_that_goes_away_ends_it(tmp_path: Path, service: Upstream) -> None:
    """The new one breaks nothing: who makes the load would measure a service without any fault."""
    with Running(tmp_path, service.place, CUT) as chaos:
        (server,) = servers_of(tmp_path)
        os.kill(server, signal.SIGKILL)
        chaos.ended()
        assert chaos.process.returncode == 70, chaos.lines
    assert any("cut: failed: The Toxiproxy server ended by itself" in line for line in chaos.lines)
    assert any("cut: healed: A new server, clean." in line for line in chaos.lines)
    nobody_listens(list(chaos.ports.values()))


def two_apart() -> int:
    """The first of two free ports that are let go and not lost: neither leases nor the kernel take one from there."""
    while True:
        first = random.randrange(10_000, PORTS_FROM, 2)
        try:
            PortLease.of([first, first + 1]).close()
        except RigError:
            continue
        return first


def test_the_same_ports_can_be_had_again_at_once(tmp_path: Path, service: Upstream) -> None:
    """Each cut by FIN leaves a connection in TIME_WAIT on our side of it."""
    first = two_apart()
    text = CUT.replace("rst", "fin")
    for _ in range(2):
        with Running(tmp_path, service.place, text, "--listen", str(first)) as chaos:
            assert chaos.ports["cut"] == first
            assert fetch(first).end == "fin"
            chaos.ended(signal.SIGINT)
            assert chaos.process.returncode == 130, chaos.lines
    with pytest.raises(OSError, match="in use"), socket.socket() as plain:
        plain.bind(("127.0.0.1", first))


def test_somebody_elses_server_that_goes_away_ends_it(tmp_path: Path, service: Upstream) -> None:
    other = Server(install(print), say=lambda line: None)
    try:
        with Running(tmp_path, service.place, CUT, "--toxiproxy", f"http://{other.client.place}") as chaos:
            other.kill()
            chaos.ended()
            assert chaos.process.returncode == 70
        assert any("is not there" in line for line in chaos.lines)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (CUT.replace('"cut"', '"cutt"'), [], ["cutt", "cut"]),
        ("fault = 3\n", [], ["plan.toml: fault is a list of tables; write [[fault]] above each."]),
        ("seed = [1]\n" + CUT, [], ["plan.toml: seed: expected a whole number, got a list."]),
        (CUT, ["--upstream", "no.such.host.invalid:80"], ["--upstream", "does not resolve"]),
        (CUT, ["--upstream", "127.0.0.1"], ["HOST:PORT"]),
        (CUT, ["--upstream", "192.0.2.1:80"], ["--allow-target 192.0.2.1"]),
        (CUT, ["--listen-host", "localhost"], ["--listen-host", "no address"]),
        (CUT, ["--listen", "65535"], ["65535"]),
        (AWAY, ["--duration", "500ms"], ["0.8s", "500ms"]),
        (f'duration = "0.5s"\n{AWAY}', [], ["0.8s"]),
        (f"durration = 3\n{CUT}", [], ["durration", "duration"]),
        (CUT.replace("900", "[1000, 900]"), [], ["after_bytes"]),
        (f'{CUT}share = "20%"\n{AWAY}', [], ["[[fault]] number 2 has no share", "give each of them one"]),
        (f'{CUT}share = "20"\n', [], ["share is a percentage"]),
        (f'{CUT}share = "60%"\n{AWAY}share = "60%"\n', [], ["more than 100%"]),
        (f'{CUT}on = "first"\n', [], ["first"]),
        ('[[fault]]\nkind = "cut-time"\nafter = "1s"\non = "first"\n', [], ["first"]),
        ('[[fault]]\nkind = "server-restart"\nafter = "1s"\nduration = "1s"\n', [], ["sseproof run"]),
        (
            '[[fault]]\nkind = "command"\ndo = ["true"]\nafter = "1s"\nmax = "1s"\nshows = "breaks"\n',
            [],
            ["sseproof run"],
        ),
        ("", [], ["[[fault]]"]),
        ("[[fault]\n", [], ["TOML"]),
    ],
)
def test_what_can_not_be_is_said_in_one_sentence_before_anything_starts(
    tmp_path: Path, text: str, options: list[str], words: list[str]
) -> None:
    plan(tmp_path, text)
    base = ["--upstream", "127.0.0.1:9"] if "--upstream" not in options else []
    base += ["--listen", "0"] if "--listen" not in options else []
    done = sseproof("chaos", "run", "plan.toml", *base, *options, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_plan_file_that_is_not_there_is_no_scenario(tmp_path: Path) -> None:
    done = sseproof(*("chaos", "run", "no.toml", "--upstream", "127.0.0.1:9", "--listen", "0"), cwd=tmp_path)
    assert done.returncode == 64
    assert done.stderr == "no.toml does not exist; name a plan file, a TOML of [[fault]] tables.\n"


SHARED = """
seed = 5
[[fault]]
kind = "cut"
share = "40%"
after_bytes = [700, 1500]
by = "rst"
[[fault]]
kind = "slow-first-byte"
share = "20%"
delay = "300ms"
"""


def test_with_shares_one_port_draws_each_connection_from_the_seed(tmp_path: Path, service: Upstream) -> None:
    """Two runs of one seed: connection by connection the same, to the byte of each cut."""
    met = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with Running(tmp_path / name, service.place, SHARED, "--json") as chaos:
            assert len(set(chaos.ports.values())) == 1
            assert any("cut (cut), 40% of connections" in line for line in chaos.lines)
            port = chaos.ports["clean"]
            heard = [fetch(port) for _ in range(20)]
            answer_ = json.loads(chaos.ended(signal.SIGINT))
        assert chaos.process.returncode == 130, chaos.lines
        assert answer_["connections"] == {"cut": 8, "slow-first-byte": 4, "clean": 8}
        nobody_listens([port])
        met.append([(len(each.data), each.end) for each in heard])
    assert met[0] == met[1]
    cut = [count for count, end in met[0] if end == "rst"]
    assert len(cut) == len(set(cut)) == 8, "each of eight places once"
    assert 700 <= min(cut) < max(cut) <= 1500
    assert [each for each in met[0] if each[1] != "rst"] == [(len(WHOLE), "fin")] * 12


def test_a_port_of_its_own_cuts_in_a_range_too(tmp_path: Path, service: Upstream) -> None:
    text = "seed = 5\n" + CUT.replace("900", "[700, 1500]")
    with Running(tmp_path, service.place, text) as chaos:
        heard = [fetch(chaos.ports["cut"]) for _ in range(8)]
        assert {each.end for each in heard} == {"rst"}
        assert len({len(each.data) for each in heard}) == 8
        assert all(700 <= len(each.data) <= 1500 for each in heard)
        assert fetch(chaos.ports["clean"]).data == WHOLE


def test_a_port_that_cuts_inside_a_character(tmp_path: Path, service: Upstream) -> None:
    """Every connection of it, by the toxic of our own."""
    text = '[[fault]]\nkind = "cut-events"\nafter_events = 3\ninside = "character"\nby = "rst"\n'
    with Running(tmp_path, service.place, text) as chaos:
        port = chaos.ports["cut-events"]
        for _ in range(2):
            heard = fetch(port)
            assert (heard.end, heard.data) == ("rst", WHOLE[: WHOLE.index("سلام 🎈 é 3".encode()) + 1])


def test_a_port_that_somebody_has_is_named(tmp_path: Path, service: Upstream) -> None:
    plan(tmp_path, CUT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--upstream", service.place, "--listen", str(port))
        done = sseproof("chaos", "run", "plan.toml", *options, cwd=tmp_path)
    assert done.returncode == 70
    assert f"Port {port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_dry_run_draws_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    plan(tmp_path, CUT + AWAY)
    options = ("--upstream", "no.such.host.invalid:80", "--listen", "9000", "--dry-run")
    done = sseproof("chaos", "run", "plan.toml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    for place in ("127.0.0.1:9000  cut", "127.0.0.1:9001  away", "127.0.0.1:9002  clean"):
        assert place in done.stdout
    assert "#" in done.stdout
    machine = json.loads(sseproof("chaos", "run", "plan.toml", *options, "--json", cwd=tmp_path).stdout)
    assert [each["group"] for each in machine["faults"]] == ["cut", "away", "clean"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry-run"])
def test_what_a_stock_server_cannot_do_is_refused_by_name(tmp_path: Path, dry: tuple[str, ...]) -> None:
    plan(tmp_path, CUT + '[[fault]]\nkind = "cut-events"\nafter_events = 3\n')
    options = ("--upstream", "127.0.0.1:9", "--listen", "0", "--toxiproxy", str(stock_server(tmp_path)))
    done = sseproof("chaos", "run", "plan.toml", *options, *dry, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert "can't do cut-events:" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# --- phases ---

PHASES = '[phases]\nbaseline = "400ms"\nfault = "400ms"\nrecovery = "300ms"\n'
IN_FAULT = '[[fault]]\nname = "away"\nkind = "refused"\nphase = "fault"\n'


def test_a_plan_has_phases_too_and_ends_with_the_last(tmp_path: Path, service: Upstream) -> None:
    with Running(tmp_path, service.place, PHASES + IN_FAULT, "--json") as chaos:
        chaos.until("phase fault begins")
        chaos.until("away: refused acts")
        chaos.until("phase recovery begins")
        answered = json.loads(chaos.ended())
    assert chaos.process.returncode == 0
    assert answered["how"] == "finished"
    assert [
        (each["name"], each.get("groups", [])) for each in plan_of(tmp_path / answered["directory"])["phases"]
    ] == [
        ("baseline", []),
        ("fault", ["away"]),
        ("recovery", []),
    ]
    (applied,) = (row for row in answered["journal"] if row["step"] == "applied" and row.get("window"))
    (healed,) = (row for row in answered["journal"] if row["step"] == "healed" and row.get("window"))
    lasted_ms = (healed["call_sent_ns"] - applied["call_sent_ns"]) / 1e6
    assert 300 < lasted_ms < 2_400, "it is healed so long after it was set, or later"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PHASES + IN_FAULT.replace('"fault"', '"fualt"'), "did you mean 'fault'?"),
        (PHASES + IN_FAULT + 'duration = "2s"\n', "'fault' is over at 0.8 s"),
        ('duration = "1s"\n' + PHASES + IN_FAULT, "phases last 1.1s together, and it lasts 1s"),
        (IN_FAULT, "add a [phases] table"),
        ('[phases]\na = "0s"\n' + CUT, "whole milliseconds"),
        (AWAY + '[abort]\nwhen = "success < 50% for 10s"\n', "the load is somebody else's"),
    ],
    ids=["unknown", "too long", "no room", "none", "no length", "abort"],
)
def test_phases_that_can_not_be_and_an_abort_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(Asked(plan=plan(tmp_path, text), upstream="127.0.0.1:1", listen=0))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "plan.toml"))
    assert "\n" not in str(caught.value)


def test_a_dry_run_draws_them(tmp_path: Path) -> None:
    drawn = planned(Asked(plan=plan(tmp_path, PHASES + IN_FAULT), upstream="127.0.0.1:1", listen=0))[
        0
    ].to_text()
    assert "|baseline" in drawn
    assert "phase recovery: from 0.8s to the end" in drawn
    assert "for 1.1s" in drawn


@pytest.mark.parametrize(
    ("looked", "said"),
    [((), "NOT verified"), ((True,), "healed and verified"), ((True, False), "NOT verified")],
)
def test_what_nobody_looked_at_is_not_called_verified(looked: tuple[bool, ...], said: str) -> None:
    rows = [FaultRow(at_ns=1, fault="g", step="healed", ok=True, detail="The server was ended.")]
    rows += [FaultRow(at_ns=2, fault="g", step="verified", ok=ok) for ok in looked]
    told = {"directory": "d", "upstream": "u", "listen": {}, "connections": {}, "how": "interrupted"}
    assert said in ChaosResult(**told, problem="", journal=rows).to_text()
