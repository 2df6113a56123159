"""Workers on other machines: the same rows as from here, each once, by one clock; whoever does not belong is refused."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.loadtests.shards import SHIPPED
from sseproof.reports.history import read_history
from sseproof.rundir import files
from sseproof.rundir.files import GENERATOR, LOG_NAME, PLAN_NAME, RUN_NAME, STARTS, STREAMS, read_document
from sseproof.rundir.rows import Instant, Plan, RunInfo
from tests.integration.machines import two_machines
from tests.integration.suite import (
    claims,
    directory_of,
    gaps_of,
    rows,
    series_counts,
    served,
    sseproof,
    started,
    verdict_of,
    wait_for_rows,
)

pytestmark = pytest.mark.integration

MS = 1_000_000
TOKEN = "tok-5e1f6f0c-token"
LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests" / "locustfile.py"
ODD_WORKER = Path(__file__).with_name("odd_worker.py")
LONGEST_ROUND_TRIP_MS = 50


@pytest.fixture
def ports():
    """Two, which nobody else takes while the test runs."""
    with PortLease(2) as lease:
        yield [str(port) for port in lease.ports]


@pytest.fixture
def port(ports):
    return ports[0]


def environ(tmp: Path, **more: str) -> dict[str, str]:
    """With the token, and a folder of the test's own for what is temporary."""
    folder = tmp / "temporary"
    folder.mkdir(exist_ok=True)
    return {**os.environ, "SSEPROOF_TOKEN": TOKEN, "TMPDIR": str(folder), **more}


def worker(
    tmp: Path, port: str, *options: str, host: str = "127.0.0.1", inside: tuple[str, ...] = (), **more: str
) -> subprocess.Popen[str]:
    """`sseproof worker`, running; `inside` is what its command line is put behind."""
    command = [*inside, sys.executable, "-m", "sseproof", "worker", "--master", f"{host}:{port}", *options]
    return begun(command, tmp, **more)


def odd_worker(
    tmp: Path, port: str, odd: str, *, host: str = "127.0.0.1", inside: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    command = [*inside, sys.executable, str(ODD_WORKER), odd, "-f", str(LOCUSTFILE), "--headless", "--worker"]
    return begun([*command, "--master-host", host, "--master-port", port], tmp)


def begun(command: list[str], tmp: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=tmp,
        env=environ(tmp, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_options(url: str, port: str, *options: str, workers: int = 0, remote: int = 1) -> list[str]:
    return [
        *["run", "--target", url, "--workers", str(workers), "--remote-workers", str(remote)],
        *["--master-bind", f"127.0.0.1:{port}", "--quiet", *options],
    ]


def number_of(process: subprocess.Popen[str]) -> int:
    """The worker's number, as soon as it says that it has its part."""
    assert process.stdout is not None
    assert "Looks for the run" in process.stdout.readline()
    line = process.stdout.readline()
    found = re.search(r"this is worker (\d)", line)
    assert found, line
    return int(found[1])


def first_to_end(processes: list[subprocess.Popen[str]], limit_s: float = 60) -> subprocess.Popen[str]:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for process in processes:
            if process.poll() is not None:
                return process
        time.sleep(0.02)
    raise AssertionError("none of them ended")


def left_in(tmp: Path) -> list[str]:
    """Shards that were not taken away."""
    return sorted(each.name for each in (tmp / "temporary").glob("sseproof-worker-*"))


def test_a_worker_that_waits_for_its_run_says_so_at_once(tmp_path, port):
    waiting = worker(tmp_path, port)
    assert waiting.stdout is not None
    try:
        first = waiting.stdout.readline()
    finally:
        waiting.kill()
        waiting.communicate()
    assert first == (
        f"Looks for the run at 127.0.0.1:{port}, for five minutes at most; makes its load as soon as it is there.\n"
    )


def test_workers_from_here_and_elsewhere_make_one_schedule(tmp_path, port):
    """One of this machine, one that sends each batch twice, and one that Locust's own command started."""
    with served() as url:
        run = started(
            *run_options(
                f"{url}?events=2&interval_ms=5", port, "--rate", "60", "--duration", "3s", remote=2, workers=1
            ),
            *["--set", "load.warmup=500ms", *claims("success >= 90%", "ttft p95 <= 5s")],
            cwd=tmp_path,
            environ=environ(tmp_path),
        )
        others = [odd_worker(tmp_path, port, "twice"), worker(tmp_path, port)]
        out, err = run.communicate(timeout=90)
        said = [other.communicate(timeout=30)[0] for other in others]
    assert run.returncode == 0, out + err + "".join(said)
    directory = directory_of(tmp_path)
    starts, records = rows(directory, STARTS), rows(directory, STREAMS)
    assert sorted(row.stream for row in starts) == list(range(180))
    assert sorted(row.stream for row in records) == list(range(180))
    assert {row.stream % 3 == row.worker for row in starts} == {True}
    assert {row.stream for row in starts if row.warmup} == set(range(30))
    first = next(row.intended.ns for row in starts if row.stream == 0)
    for row in starts:
        off = abs(row.intended.ns - first - row.stream * 1_000_000_000 // 60)
        assert off <= (row.intended.before_ns + 2 if row.worker else 1), "one start instant, whoever walks"
    told = [row for row in rows(directory, GENERATOR) if row.master_offset_ns is not None]
    assert {row.worker for row in told} == {1, 2}, "the clock of this machine's own needs no estimate"
    assert all(abs(row.master_offset_ns) <= row.master_offset_error_ns for row in told), (
        "it is the same clock"
    )
    assert all(row.master_offset_error_ns < LONGEST_ROUND_TRIP_MS * MS for row in told)
    series = series_counts(directory)
    assert (series["gap"], series["gap-warmup"]) == (
        gaps_of(record for record in records if not record.warmup),
        gaps_of(record for record in records if record.warmup),
    )
    verdict = verdict_of(directory)
    assert verdict.totals.outcomes == {"complete": 150}
    assert verdict.problems == []
    assert left_in(tmp_path) == []
    assert all("the master has every row" in text for text in said)
    assert read_document(directory / PLAN_NAME, Plan, "plan").remote_workers == 2
    for path in directory.iterdir():
        assert TOKEN.encode() not in path.read_bytes(), path.name


IMPATIENT = """
import importlib.abc, importlib.machinery, sys

class Impatient(importlib.abc.MetaPathFinder):
    '''Locust takes a dead worker out of its book after 60 s, and gives a silent master up after as many: here 2 and 4.'''
    def find_spec(self, name, path, target=None):
        if name != "locust.runners":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module.HEARTBEAT_DEAD_INTERNAL = -2
            module.MASTER_HEARTBEAT_TIMEOUT = 4
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Impatient())
"""


def impatient(tmp: Path) -> str:
    """For PYTHONPATH."""
    site = tmp / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(IMPATIENT)
    return str(site)


def test_a_worker_that_dies_is_named_and_its_part_is_not_made_by_another(tmp_path, port):
    """Past Locust's removal time-out: the dead worker's user is given to the others, and its slice stays its own."""
    site = impatient(tmp_path)
    with served() as url:
        run = started(
            *run_options(
                f"{url}?events=2&interval_ms=5", port, "--rate", "20", "--duration", "12s", remote=2
            ),
            *claims("success >= 90%"),
            cwd=tmp_path,
            environ=environ(tmp_path, PYTHONPATH=site),
        )
        victim = worker(tmp_path, port, "--out", "kept")
        other = worker(tmp_path, port)
        directory = wait_for_rows(tmp_path, 60)
        number = number_of(victim)
        victim.kill()
        victim.communicate(timeout=10)
        out, err = run.communicate(timeout=90)
        said, _ = other.communicate(timeout=30)
    starts = rows(directory, STARTS)
    numbers = [row.stream for row in starts]
    assert len(numbers) == len(set(numbers)), "none twice"
    survivor = 1 - number
    assert {row.stream for row in starts if row.worker == survivor} == set(range(survivor, 240, 2)), (
        out + err + said
    )
    mine = {row.stream for row in starts if row.worker == number}
    assert mine == set(range(number, 2 * len(mine), 2)), "the dead worker's part ends where it died"
    assert 10 < len(mine) < 100
    assert read_document(directory / RUN_NAME, RunInfo, "run").workers_lost == [number]
    verdict = verdict_of(directory)
    assert verdict.totals.outcomes["unfinished"] >= 120 - len(mine)
    assert "dropped" not in verdict.totals.outcomes
    assert any(f"Worker {number} was lost" in problem for problem in verdict.problems)
    assert verdict.verdicts[0].verdict == "unknown"
    (shard,) = (tmp_path / "kept").iterdir()
    kept = {row.stream for row in rows(shard, STARTS)}
    assert mine <= kept, "what it had sent it has still"
    assert len(kept) - len(mine) <= 20, "twice a second: at most what came since"
    assert sseproof("judge", str(shard), cwd=tmp_path).returncode in {0, 2}


def test_two_machines_and_a_clock_that_is_ahead(tmp_path, port):
    """The master, the service and its faults on one, two workers on the other, one of them 200 ms ahead.

    Half of the streams meet a link that is refused for a second, in a window of the master's clock.
    """
    with two_machines() as machines:
        on_master, on_other = machines.on(machines.master), tuple(machines.on(machines.other))
        serve = subprocess.Popen(
            [
                *on_master,
                sys.executable,
                "-m",
                "sseproof",
                "serve",
                "--host",
                machines.address,
                "--port",
                "8000",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert "reference server" in serve.stdout.readline()
            (tmp_path / "scenario.toml").write_text(
                f'workers = 0\nremote_workers = 2\nmaster_bind = "{machines.address}:{port}"\n'
                'claims = ["success >= 10%", "recovery >= 10% after refused"]\n'
                f'[target]\nurl = "http://{machines.address}:8000/api/v1/stream/chat?events=20&interval_ms=50"\n'
                f'allow = ["{machines.address}"]\n'
                '[load]\nrate = 20\nduration = "6s"\n'
                '[[fault]]\nkind = "refused"\nshare = "50%"\nafter = "2s"\nduration = "1s"\n'
            )
            run = begun(
                [*on_master, sys.executable, "-m", "sseproof", "run", "scenario.toml", "--quiet"], tmp_path
            )
            workers = [
                odd_worker(tmp_path, port, "ahead=200", host=machines.address, inside=on_other),
                worker(tmp_path, port, host=machines.address, inside=on_other),
            ]
            out, _ = run.communicate(timeout=100)
            said = [each.communicate(timeout=30)[0] for each in workers]
        finally:
            serve.send_signal(signal.SIGTERM)
            serve.communicate(timeout=20)
    directory = directory_of(tmp_path)
    found = re.search(r"this is worker (\d)", said[0])
    assert found, out + "".join(said)
    ahead = int(found[1])
    told = {
        number: [
            row
            for row in rows(directory, GENERATOR)
            if row.worker == number and row.master_offset_ns is not None
        ]
        for number in (0, 1)
    }
    for number, offsets in told.items():
        true_ns = 200 * MS if number == ahead else 0
        assert len(offsets) >= 6, "through the whole run"
        for row in offsets:
            assert row.master_offset_error_ns < LONGEST_ROUND_TRIP_MS * MS
            assert abs(row.master_offset_ns - true_ns) <= row.master_offset_error_ns
    starts = rows(directory, STARTS)
    assert sorted(row.stream for row in starts) == list(range(120)), out + "".join(said)
    late = [row for row in starts if row.worker == ahead]
    assert all(0 < row.intended.before_ns < LONGEST_ROUND_TRIP_MS * MS for row in starts)
    history = read_history(directory)
    raw = {row.stream: row for row in rows(directory, STREAMS)}
    moved = {row.stream: row for row in history.streams}
    begins = []
    for number, row in moved.items():
        assert row.ended.ns - row.dispatched.ns == raw[number].ended.ns - raw[number].dispatched.ns
        due = Instant(
            row.intended.ns, row.intended.before_ns, row.intended.before_ns
        )  # without its own lateness
        begins.append(history.clocks.across(row.worker, row.dispatched, due))
        begins[-1] = Instant(begins[-1].ns - number * 50 * MS, begins[-1].before_ns, begins[-1].after_ns)
    assert max(each.lo_ns for each in begins) <= min(each.hi_ns for each in begins), (
        "one start instant by one clock"
    )
    assert (
        max(each.hi_ns for each in begins) - min(each.lo_ns for each in begins)
        < 2 * LONGEST_ROUND_TRIP_MS * MS
    )
    assert len(late) == 60
    across = [
        history.clocks.across(row.worker, row.dispatched, row.ended)
        for row in history.streams
        if row.worker == ahead
    ]
    widened = [
        wide.after_ns - row.ended.after_ns
        for wide, row in zip(across, [r for r in history.streams if r.worker == ahead], strict=True)
    ]
    assert all(0 < wider < LONGEST_ROUND_TRIP_MS * MS for wider in widened)
    verdict = verdict_of(directory)
    sentence = re.compile(
        rf"Worker {ahead} has a clock that was ([\d.]+) ms ahead of the master's, known to ([\d.]+) ms"
    )
    named = sentence.search(" ".join(verdict.problems))
    assert named, verdict.problems
    assert abs(float(named[1]) - 200) <= float(named[2]) + 1, "rounded to three digits"
    refused = [each.started.ns for row in history.streams for each in row.attempts if each.end == "refused"]
    since = min(row.call_sent_ns for row in history.faults if row.step == "applied" and row.window)
    until = max(row.call_answered_ns for row in history.faults if row.step == "healed" and row.window)
    assert refused, "the fault was met"
    slack = LONGEST_ROUND_TRIP_MS * MS
    outside = [at - since for at in refused if not since - slack <= at <= until + slack]
    assert outside == [], (until - since, "by the clock of who switched the link")
    assert verdict.totals.outcomes["complete"] > 60


MUTE = """
import time
from locust import User, task

class ScenarioUser(User):
    @task
    def nothing(self):
        time.sleep(1)
"""


@pytest.mark.timeout(300)  # ten processes begin: on a busy machine that alone takes a minute
def test_a_stray_worker_gets_no_part_and_two_runs_have_their_own(tmp_path, ports):
    """Two runs at once; one is also asked by a worker with another token, one without any, and one too many.

    And two that ask nothing, and would take what users Locust gave them.
    """
    (tmp_path / "mute.py").write_text(MUTE)
    with served() as url:
        runs = []
        for name, port in zip("ab", ports, strict=True):
            (tmp_path / name).mkdir()
            options = run_options(f"{url}?events=2&interval_ms=5", port, "--rate", "10", "--duration", "8s")
            own = environ(tmp_path, SSEPROOF_TOKEN=f"{TOKEN}-{name}")
            runs.append(started(*options, cwd=tmp_path / name, environ=own))
        locust = [sys.executable, "-m", "locust", "--headless", "--worker", "-f"]
        strays = [
            worker(tmp_path, ports[0], SSEPROOF_TOKEN=f"{TOKEN}-b"),
            begun([*locust, str(LOCUSTFILE), "--master-port", ports[0]], tmp_path, SSEPROOF_TOKEN=""),
        ]
        for stray in strays:
            out, _ = stray.communicate(timeout=60)
            assert stray.returncode == 64, out
            assert "only workers that know its token" in out
        mutes = [begun([*locust, "mute.py", "--master-port", ports[0]], tmp_path) for _ in range(2)]
        mine = [
            worker(tmp_path, port, SSEPROOF_TOKEN=f"{TOKEN}-{name}")
            for name, port in zip("aab", [ports[0], *ports], strict=True)
        ]
        extra = first_to_end(mine[:2])  # who asks last, however long both take to be there
        mine.remove(extra)
        out, _ = extra.communicate()
        assert extra.returncode == 64, out
        assert "all its 1 workers" in out
        assert number_of(mine[0]) == 0
        for run in runs:
            out, err = run.communicate(timeout=90)
            assert run.returncode == 0, out + err
        for each in [*mine, *mutes]:
            out, _ = each.communicate(timeout=30)
            assert each.returncode == 0, out
            assert each in mine or "Traceback" not in out
    for name in "ab":
        directory = directory_of(tmp_path / name)
        assert sorted(row.stream for row in rows(directory, STREAMS)) == list(range(80))
        assert verdict_of(directory).problems == []
    assert left_in(tmp_path) == []


def test_an_interrupt_ends_workers_elsewhere_and_their_rows_come(tmp_path, port):
    with served() as url:
        run = started(
            *run_options(
                f"{url}?events=200&interval_ms=50", port, "--users", "6", "--duration", "60s", workers=1
            ),
            cwd=tmp_path,
            environ=environ(tmp_path),
        )
        other = worker(tmp_path, port)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            directories = list((tmp_path / "runs").glob("*/latest"))
            if directories and len(rows(directories[0], STARTS)) == 6:
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        said, _ = other.communicate(timeout=30)
    assert run.returncode == 130, out + err + said
    records = rows(directory_of(tmp_path), STREAMS)
    assert {row.worker for row in records} == {0, 1}, out + err + said
    assert len(records) == 6
    assert {row.outcome for row in records} == {"unfinished"}
    assert other.returncode == 0, said
    assert left_in(tmp_path) == []


def test_a_worker_that_is_told_to_stop_sends_what_it_has(tmp_path, port):
    """By somebody at its own machine: its streams are unfinished, it is named, and the run goes on."""
    with served() as url:
        run = started(
            *run_options(
                f"{url}?events=30&interval_ms=100", port, "--users", "4", "--duration", "6s", workers=1
            ),
            cwd=tmp_path,
            environ=environ(tmp_path),
        )
        other = worker(tmp_path, port)
        wait_for_rows(tmp_path, 1)
        other.send_signal(signal.SIGTERM)
        said, _ = other.communicate(timeout=30)
        out, err = run.communicate(timeout=90)
    directory = directory_of(tmp_path)
    assert run.returncode == 0, out + err + said
    records = rows(directory, STREAMS)
    assert sorted(row.stream for row in records) == sorted(row.stream for row in rows(directory, STARTS))
    assert {row.worker for row in records if row.outcome == "unfinished"} == {1}, out + err + said
    assert series_counts(directory)["gap"] == gaps_of(records) > 0
    assert read_document(directory / RUN_NAME, RunInfo, "run").workers_lost == [1]
    assert left_in(tmp_path) == []


def test_a_master_that_is_gone_leaves_a_worker_with_its_shard(tmp_path, port):
    """The whole run is killed: what the worker had not sent is in the folder that it names."""
    with served() as url:
        run = started(
            *run_options(f"{url}?events=4&interval_ms=50", port, "--users", "4", "--duration", "60s"),
            cwd=tmp_path,
            environ=environ(tmp_path),
        )
        other = worker(tmp_path, port, PYTHONPATH=impatient(tmp_path))
        directory = wait_for_rows(tmp_path, 4)
        run.kill()
        run.communicate(timeout=20)
        said, _ = other.communicate(timeout=60)
    assert other.returncode == 70, said
    (name,) = left_in(tmp_path)
    shard = tmp_path / "temporary" / name
    assert f"the master does not have every row of this worker; {shard} does" in said
    sent = {row.stream for row in rows(directory, STREAMS)}
    assert sent < {row.stream for row in rows(shard, STREAMS)}
    assert sseproof("judge", str(shard), cwd=tmp_path).returncode == 0


def test_payloads_reach_workers_elsewhere_and_names_are_looked_up_there(tmp_path, port):
    """Two rows of a file; the header's value is another one on each machine."""
    (tmp_path / "rows.jsonl").write_text('{"n": 3}\n{"n": 5}\n')
    with served() as url:
        options = [
            *[
                "--users",
                "2",
                "--streams",
                "20",
                "--set",
                "load.payloads=rows.jsonl",
                "--set",
                "target.text=json:text",
            ],
            *["--header", "X-Key:env:PLANTED", *claims("success >= 80%")],
        ]
        target = f"{url}?interval_ms=1&events={{payload:n}}"
        own = environ(tmp_path, PLANTED="here")
        run = started(*run_options(target, port, *options, workers=1), cwd=tmp_path, environ=own)
        other = worker(tmp_path, port, PLANTED="there-9d1")
        out, err = run.communicate(timeout=90)
        said, _ = other.communicate(timeout=30)
        assert run.returncode == 0, out + err + said
        records = rows(directory_of(tmp_path), STREAMS)
        assert {row.worker for row in records} == {0, 1}
        assert {(row.payload, row.events) for row in records} == {(0, 5), (1, 7)}
        shutil.rmtree(tmp_path / "runs")
        run = started(*run_options(target, port, *options, workers=1), cwd=tmp_path, environ=own)
        other = worker(tmp_path, port)
        out, err = run.communicate(timeout=90)
        said, _ = other.communicate(timeout=30)
    assert other.returncode == 64, said
    assert run.returncode == 70, out + err
    assert "Worker 1 can't take part" in err
    assert "PLANTED" in err
    for name in (LOG_NAME, STREAMS.name, PLAN_NAME):
        assert "there-9d1" not in (directory_of(tmp_path) / name).read_text()


USERS = """
from locust import task
from sseproof import SSEUser

class Mine(SSEUser):
    @task
    def one(self):
        self.sse.get(name="mine")
"""


def test_a_locustfile_must_be_the_same_on_every_machine(tmp_path, port):
    (tmp_path / "mine.py").write_text(USERS)
    (tmp_path / "other.py").write_text(USERS + "# changed\n")
    with served() as url:
        run = started(
            *run_options(f"{url}?events=2&interval_ms=5", port, "--users", "2", "--duration", "3s"),
            *["--locustfile", "mine.py", *claims("success >= 80%")],
            cwd=tmp_path,
            environ=environ(tmp_path),
        )
        for options in ((), ("--locustfile", "other.py")):
            wrong = worker(tmp_path, port, *options)
            said, _ = wrong.communicate(timeout=60)
            assert wrong.returncode == 64, said
            assert "mine.py" in said
            assert "--locustfile FILE" in said
        right = worker(tmp_path, port, "--locustfile", "mine.py")
        out, err = run.communicate(timeout=90)
        said, _ = right.communicate(timeout=30)
    assert run.returncode == 0, out + err + said
    records = rows(directory_of(tmp_path), STREAMS)
    assert len(records) > 2
    assert {(row.name, row.worker) for row in records} == {("mine", 0)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--remote-workers", "-1"], ["remote_workers is -1"]),
        (["--workers", "0"], ["workers is 0"]),
        (["--master-bind", "127.0.0.1:5557"], ["none is expected", "--remote-workers N"]),
        (["--remote-workers", "1", "--master-bind", "127.0.0.1"], ["no port"]),
        (["--remote-workers", "1", "--master-bind", ":5557"], ["no host"]),
        (["--remote-workers", "1", "--master-bind", "0.0.0.0:5557"], ["not one IPv4 address"]),
        (["--remote-workers", "1", "--master-bind", "example.org:5557"], ["names a host"]),
        (
            ["--remote-workers", "1", "--master-bind", "192.0.2.1:5557"],
            ["192.0.2.1:5557", "can't be listened on"],
        ),
        (["--remote-workers", "1", "--header", "Authorization:Bearer 5up3r"], ["env:NAME", "export NAME"]),
    ],
)
def test_what_a_run_refuses_before_anything_is_sent(tmp_path, options, words):
    done = sseproof("run", "--target", "http://127.0.0.1:9/", *options, cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    for word in words:
        assert word in " ".join(done.stderr.split())
    assert "5up3r" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_port_that_somebody_else_listens_on_is_no_mistake_of_the_scenario(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--remote-workers", "1", "--master-bind", place]
        done = sseproof("run", "--target", "http://127.0.0.1:9/", *options, cwd=tmp_path)
    assert done.returncode == 70, done.stdout + done.stderr
    assert f"master_bind {place} can't be listened on" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "token", "words"),
    [
        (["--master", "nowhere"], TOKEN, ["not HOST:PORT"]),
        (["--master", "127.0.0.1:5557"], "", ["SSEPROOF_TOKEN is not set"]),
        (["--master", "127.0.0.1:5557", "--locustfile", "no.py"], TOKEN, ["'no.py' is not a file"]),
    ],
)
def test_what_a_worker_refuses(tmp_path, options, token, words):
    done = sseproof("worker", *options, cwd=tmp_path, environ={"SSEPROOF_TOKEN": token})
    assert done.returncode == 64, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


def test_every_file_that_a_worker_opens_is_sent():
    source = (Path(__file__).resolve().parents[2] / "loadtests" / "listeners.py").read_text("utf-8")
    opened = set(re.findall(r"Appender\(directory, (\w+), plan\.run\)", source))
    assert {getattr(files, name) for name in opened} == set(SHIPPED)
