"""Faults in a run: they act on the streams they were planned for, are proved, healed, and leave nothing behind."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sseproof.chaos.hops import find_apache, find_nginx
from sseproof.chaos.install import install
from sseproof.chaos.plan import OWN_CONNECT_NS
from sseproof.chaos.toxiproxy import Server
from sseproof.reports.checks import fault_windows
from sseproof.reports.evidence import evidence_of
from sseproof.reports.history import read_history
from sseproof.rundir.files import BREAKS, FAULTS, REPORT_NAME, RUN_NAME, STREAMS, read_document
from sseproof.rundir.rows import OUTCOMES, RunInfo, StreamRecord
from tests.chaos.wire import Upstream, at_once
from tests.integration.suite import (
    carrying,
    claims,
    directory_of,
    gone_from,
    nobody_listens,
    plan_of,
    ports_of,
    rows,
    sseproof,
    started,
    stock_server,
    stripped,
    verdict_of,
    wait_for_rows,
)

pytestmark = pytest.mark.integration

SETTLED_NS = 300_000_000
"""What was under way when a fault was healed is seen within it."""
SERVED = '[server]\n[target]\nurl = "/api/v1/stream/chat?events=30&interval_ms=20"\n'


def run(cwd: Path, scenario: str, *options: str):
    (cwd / "faults.toml").write_text(SERVED + scenario)
    return sseproof("run", "faults.toml", "--quiet", *options, cwd=cwd)


def test_what_comes_and_goes_meets_who_is_there_in_its_times(tmp_path):
    scenario = """
[load]
users = 20
duration = "5s"
[[fault]]
name = "slow"
kind = "latency"
delay = "600ms"
share = "40%"
when = { after = "1s", duration = "2s" }
[[fault]]
kind = "cut"
on = "every"
after_bytes = [700, 900]
share = "30%"
when = { after = "1s", duration = "1s", every = "2s", times = 2 }
"""
    done = run(tmp_path, scenario, *claims("success >= 50% after slow", "recovery = 100% over 5 after cut"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    history = read_history(directory)
    evidence = evidence_of(history)
    assert all(each.acted for each in evidence), [each.sentence for each in evidence]
    places = {f"{each.host}:{each.port}": each.cut_after_bytes for each in history.plan.variants[0].addresses}
    windows = {
        name: [each for each in fault_windows(history.faults) if each.group == name]
        for name in ("slow", "cut")
    }
    assert [len(each) for each in windows.values()] == [1, 2]
    cut = [
        each
        for row in rows(directory, STREAMS)
        for each in row.attempts
        if row.group == "cut" and each.end == "fin"
    ]
    assert len(cut) > 5
    for each in cut:
        assert each.received_bytes == places[each.address]
        assert any(
            window.since_ns <= each.ended.hi_ns and each.ended.lo_ns <= window.healed_ns + SETTLED_NS
            for window in windows["cut"]
        )
    (window,) = windows["slow"]
    slow = [row for row in rows(directory, STREAMS) if row.group == "slow"]
    met = [
        row for row in slow if row.dispatched.lo_ns <= window.healed_ns and row.ended.hi_ns >= window.since_ns
    ]
    success = next(each for each in verdict_of(directory).verdicts if each.metric == "success")
    assert 0 < success.n == len(met) < len(slow)
    verified = [row for row in rows(directory, FAULTS) if row.step == "verified"]
    assert sorted((row.group, row.window or 0) for row in verified) == [
        *[("clean", 0), ("cut", 0), ("cut", 1), ("cut", 2), ("slow", 0), ("slow", 1)]
    ]
    assert all(row.ok for row in verified)


@pytest.mark.timeout(240)
def test_the_same_seed_makes_every_stream_meet_the_same(tmp_path):
    """In the plan, and by the rows of the streams, on the real server."""
    scenario = """
[load]
streams = 60
users = 15
[[fault]]
name = "bytes"
kind = "cut"
by = "rst"
share = "30%"
after_bytes = [500, 1500]
[[fault]]
kind = "cut-events"
share = "20%"
after_events = 9
inside = "event"
[[fault]]
kind = "accept-then-close"
share = "20%"
"""
    plans, met = [], []
    for name, seed in (("one", "7"), ("two", "7"), ("other", "8")):
        (tmp_path / name).mkdir()
        done = run(tmp_path / name, scenario, "--seed", seed)
        assert done.returncode == 0, done.stdout + done.stderr
        directory = directory_of(tmp_path / name)
        plan = plan_of(directory)
        assert plan["faults"]["connect_ns"] == OWN_CONNECT_NS, "not as late as the machine is busy"
        plans.append(stripped(plan))
        met.append({row.stream: (row.group, *first_met(row)) for row in rows(directory, STREAMS)})
    assert plans[0] == plans[1] != plans[2]
    assert met[0] == met[1] != met[2]
    assert Counter(group for group, *_ in met[0].values()) == {
        "bytes": 18,
        "clean": 18,
        "cut-events": 12,
        "accept-then-close": 12,
    }
    assert len({place for group, end, place in met[0].values() if (group, end) == ("bytes", "rst")}) > 3


def first_met(row: StreamRecord) -> tuple[str, int]:
    """How the first connection ended, after how many bytes; for a cut at an event, after how many events."""
    first = row.attempts[0]
    if first.end == "terminal" or row.group == "cut-events":
        return first.end, first.events  # comments that keep it alive may lie between them, or not
    return first.end, first.received_bytes


def test_a_plan_longer_than_the_run_is_refused_before_the_target_hears_of_it(tmp_path):
    fault = '[[fault]]\nkind = "stall"\nshare = "10%"\nafter = "1s"\nduration = "2s"\n'
    with Upstream(at_once(b"")) as upstream:
        target = f'[target]\nurl = "http://{upstream.place}/"\n[load]\nduration = "2s"\n'
        (tmp_path / "long.toml").write_text(target + fault)
        done = sseproof("run", "long.toml", cwd=tmp_path)
        assert upstream.requests == 0
    assert done.returncode == 64
    (line,) = done.stderr.splitlines()
    assert line.startswith("long.toml: The fault of group 'stall' would end 3 s after the begin of load")
    assert not (tmp_path / "runs").exists()


def test_cuts_are_exact_resumed_and_healed(tmp_path):
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
name = "fin"
kind = "cut"
by = "fin"
share = "25%"
after_bytes = [700, 1100]
[[fault]]
name = "rst"
kind = "cut"
by = "rst"
share = "25%"
after_bytes = 900
"""
    done = run(
        tmp_path,
        scenario,
        *claims("success >= 90%", "recovery = 100% over 40", "reconnect p50 <= 2s"),
        *claims("complete >= 90%", "goodput >= 90% with ttft <= 5s, attempts <= 2", "errors <= 5% of cut"),
        *claims("ttft-send p90 <= 5s", "token-rate p10 >= 1/s", "stale p90 <= 90%"),
        *claims("connected >= 90% within 5s after cut", "retries p90 <= 1", "reconnect-rate <= 41/s over 40"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    found = {each.metric: each for each in verdict_of(directory).verdicts}
    assert {name: each.n for name, each in found.items()} == {
        **dict.fromkeys(("success", "complete", "goodput", "errors", "ttft-send", "token-rate", "stale"), 80),
        **dict.fromkeys(("recovery", "reconnect", "connected", "retries", "reconnect-rate"), 40),
    }
    assert found["reconnect-rate"].figure.value <= 40
    assert 1 < found["token-rate"].figure.value < 60, "30 tokens in 0.6 s, and a reconnection in half of them"
    assert [(each.kind, each.n) for each in found["recovery"].faults] == [("cut", 40)]
    plan = plan_of(directory)
    planned = {f"{a['host']}:{a['port']}": a.get("cut_after_bytes") for a in plan["variants"][0]["addresses"]}
    streams = rows(directory, STREAMS)
    for group, end in (("fin", "fin"), ("rst", "rst")):
        mine = [row for row in streams if row.group == group]
        assert len(mine) == 20
        for row in mine:
            first, second = row.attempts
            assert first.end == end
            assert first.received_bytes == planned[first.address]
            assert second.end == "terminal"
            assert second.last_event_id
    assert len({planned[row.attempts[0].address] for row in streams if row.group == "fin"}) > 3, (
        "offsets vary"
    )
    assert all(len(row.attempts) == 1 for row in streams if row.group == "clean")
    assert len(rows(directory, BREAKS)) == 40
    steps = [(row.fault, row.step) for row in rows(directory, FAULTS)]
    for fault in ("fin", "rst"):
        order = [step for name, step in steps if name == fault]
        assert order.index("intent") < order.index("applied") < order.index("healed")
    nobody_listens(ports_of(directory))


def test_a_stall_heals_and_loses_nothing(tmp_path):
    scenario = """
[load]
streams = 60
users = 20
[[fault]]
kind = "stall"
share = "50%"
after = "700ms"
duration = "1s"
"""
    done = run(tmp_path, scenario, *claims("success >= 90%", "utf8 = 100%"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    (evidence,) = evidence_of(read_history(directory))
    assert evidence.acted
    assert evidence.count >= 5
    assert rows(directory, BREAKS) == [], "a healed stall is no break"
    assert {row.outcome for row in rows(directory, STREAMS)} == {"complete"}


def test_a_refused_link_is_waited_out(tmp_path):
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
kind = "refused"
share = "50%"
after = "400ms"
duration = "800ms"
every = "2s"
times = 2
"""
    done = run(tmp_path, scenario, *claims("success >= 90%", "recovery = 100% over 8 after refused"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    attempts = [
        attempt for row in rows(directory, STREAMS) if row.group == "refused" for attempt in row.attempts
    ]
    assert any(attempt.end == "refused" for attempt in attempts)
    assert any(attempt.end == "fin" for attempt in attempts)
    assert all(row.group == "refused" for row in rows(directory, BREAKS))


def test_slices_split_characters_and_harm_only_the_naive(tmp_path):
    scenario = """
[load]
streams = 64
users = 16
[[fault]]
kind = "slice"
size_bytes = 3
share = "50%"
[[variant]]
name = "naive"
[variant.client]
profile = "legacy"
[[variant]]
name = "careful"
"""
    done = run(tmp_path, scenario, *claims("utf8 = 100% in group slice over 30"))
    directory = directory_of(tmp_path)
    found = {verdict.variant: verdict.verdict for verdict in verdict_of(directory).verdicts}
    assert found == {"naive": "fail", "careful": "pass"}, done.stdout + done.stderr
    assert done.returncode == 0, "only the judged variant, the last, sets the exit code"
    for row in rows(directory, STREAMS):
        if row.group == "slice" and row.variant == "careful":
            assert sum(attempt.split_chars for attempt in row.attempts) > 0
            assert row.fffd == 0


def test_a_fault_without_effect_makes_its_claims_unknown(tmp_path):
    """The cut lies behind the end of every answer: planned, applied, and nobody met it."""
    scenario = """
[load]
streams = 80
users = 20
[[fault]]
name = "too-late"
kind = "cut"
share = "50%"
after_bytes = 900000
"""
    wanted = ["success >= 90%", "recovery = 100% after too-late", "ttft p50 <= 5s in group too-late"]
    done = run(tmp_path, scenario, *claims(*wanted))
    verdicts = verdict_of(directory_of(tmp_path)).verdicts
    assert [(v.verdict, v.code) for v in verdicts] == [
        ("pass", None),
        ("unknown", "fault-not-seen"),
        ("unknown", "fault-not-seen"),
    ], done.stdout + done.stderr
    assert done.returncode == 2
    assert "did not act" in done.stdout


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('kind = "cutt"\nshare = "10%"', ["cutt", "cut"]),
        ('kind = "cut"\nshare = "10%"', ["after_bytes"]),
        ('kind = "slice"\nshare = "10%"\nsize_bytes = 0', ["size_bytes"]),
        ('kind = "cut"\nshare = "120%"\nafter_bytes = 5', ["share"]),
        ('kind = "stall"\nshare = "10%"\nafter = "1s"\nduration = "0s"', ["duration"]),
        ('kind = "bandwidth"\nshare = "10%"\nrate_kb_s = -1', ["rate_kb_s", "-1"]),
        ('kind = "jitter"\nshare = "10%"\ndelay = "1s"\njitter = "4611686018427s"', ["jitter"]),
    ],
    ids=[
        "unknown",
        "no-offset",
        "killing-slice",
        "share",
        "no-length",
        "killing-rate",
        "killing-jitter",
    ],
)
def test_bad_faults_are_refused_before_anything_starts(tmp_path, fault, words):
    done = run(tmp_path, f"[[fault]]\n{fault}\n")
    assert done.returncode == 64, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ('{kind="slice", share="10%", size_bytes=0}', "size_bytes"),
        ('{kind="bandwidth", share="10%", rate_kb_s=-1}', "rate_kb_s"),
        ('{kind="jitter", share="10%", delay="1s", jitter="4611686018427s"}', "jitter"),
    ],
    ids=["slice", "rate", "jitter"],
)
def test_what_ends_a_server_is_refused_on_the_command_line_too(tmp_path, fault, word):
    done = sseproof("run", "--target", "http://127.0.0.1:1/", "--set", f"fault=[{fault}]", cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# --- whose server it is ---

CUT_HALF = """
[load]
streams = {streams}
users = 20
[[fault]]
kind = "cut"
share = "50%"
after_bytes = 900
"""
ENGINE = "toxiproxy"


@pytest.fixture
def other() -> Iterator[Server]:
    """A server that somebody else runs."""
    server = Server(install(print), say=lambda line: None)
    yield server
    server.close()


def info_of(directory: Path) -> RunInfo:
    return read_document(directory / RUN_NAME, RunInfo, "run")


def test_a_server_by_its_url_is_asked_who_it_is_and_left_as_it_was(tmp_path, other):
    url = f"http://{other.client.place}"
    done = run(
        tmp_path,
        CUT_HALF.format(streams=140),
        *("--toxiproxy", url),
        *claims("recovery = 100% after cut", "success >= 90%"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    assert info_of(directory).versions[ENGINE] == other.client.version()
    assert not any("stock" in problem for problem in verdict_of(directory).problems)
    assert other.client.proxies() == {}
    assert other.pid is not None


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry-run"])
def test_what_a_stock_server_cannot_do_is_refused_by_name(tmp_path, dry):
    scenario = """
[[fault]]
kind = "cut-events"
share = "10%"
after_events = 3
[[fault]]
kind = "split-characters"
share = "10%"
[[fault]]
kind = "cut"
share = "10%"
after_bytes = 900
"""
    done = run(tmp_path, scenario, "--toxiproxy", str(stock_server(tmp_path)), *dry)
    assert done.returncode == 64, done.stdout + done.stderr
    assert "can't do cut-events, split-characters:" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_stream_behind_tls_cannot_be_read(tmp_path):
    fault = '[[fault]]\nkind = "stall-events"\nshare = "10%"\nafter_events = 3\nduration = "1s"\n'
    (tmp_path / "tls.toml").write_text(f'[target]\nurl = "https://127.0.0.1:1/"\n{fault}')
    done = sseproof("run", "tls.toml", "--quiet", cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert "stall-events has to read the stream" in done.stderr
    assert not (tmp_path / "runs").exists()


COMMAND = """
[load]
streams = 60
users = 20
[[fault]]
kind = "command"
share = "100%"
after = "300ms"
max = "1s"
shows = "breaks"
"""


def test_a_command_that_fails_is_charged_to_nobody_and_undone(tmp_path):
    fails = 'do = ["sh", "-c", "echo no such pod; exit 3"]\nundo = ["touch", "undone"]\n'
    done = run(tmp_path, COMMAND + fails, *claims("success >= 50%", "recovery = 100% after command"))
    assert done.returncode == 70, done.stdout + done.stderr
    assert "ended with exit code 3: no such pod" in done.stderr
    assert (tmp_path / "undone").exists()
    verdicts = {
        each.metric: (each.verdict, each.code) for each in verdict_of(directory_of(tmp_path)).verdicts
    }
    assert verdicts["recovery"] == ("unknown", "injector-failed")
    assert len(rows(directory_of(tmp_path), STREAMS)) == 60, "the load goes on"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ('do = ["no-such-program-here"]', "'no-such-program-here', which is no program here"),
        ('do = ["sh", "env:SSEPROOF_TEST_UNSET"]', "env:SSEPROOF_TEST_UNSET, which is not set"),
        ('do = ["true"]\nundo = ["no-such-program-here"]', "undo of the command runs"),
        ('do = "rm -r /"', "do is a list of words"),
    ],
    ids=["program", "variable", "undo", "shell"],
)
def test_a_command_that_cannot_be_done_or_undone_is_refused(tmp_path, words, sentence):
    done = run(tmp_path, COMMAND + words)
    assert done.returncode == 64, done.stdout + done.stderr
    assert sentence in done.stderr
    assert not (tmp_path / "runs").exists()


LONG = """
[load]
users = 8
duration = "60s"
[client]
retries = 3
[[fault]]
share = "100%"
after = "200ms"
"""


@pytest.mark.parametrize(
    "fault",
    [
        'kind = "server-restart"\nduration = "50s"\n',
        'kind = "command"\ndo = ["touch", "done"]\nundo = ["touch", "undone"]\nmax = "50s"\nshows = "breaks"\n',
    ],
    ids=["restart", "command"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_in_the_middle_brings_the_service_back_and_leaves_nothing(tmp_path, fault, number):
    (tmp_path / "faults.toml").write_text(SERVED + LONG + fault)
    process = started("run", "faults.toml", "--quiet", cwd=tmp_path)
    try:
        directory = wait_for_rows(tmp_path, 8)
        deadline = time.monotonic() + 40
        while not any(row.step == "applied" and row.window for row in rows(directory, FAULTS)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert gone_from(tmp_path, 20) == {}
    nobody_listens(ports_of(directory), 10)
    assert (tmp_path / "undone").exists() == (tmp_path / "done").exists() == ("command" in fault)
    if number == signal.SIGINT:
        assert process.returncode == 130, out + err
        healed = [row for row in rows(directory, FAULTS) if row.window and row.step == "healed"]
        assert [row.ok for row in healed] == [True]


def test_only_a_server_of_the_run_can_be_killed(tmp_path):
    fault = '[[fault]]\nkind = "server-restart"\nshare = "100%"\nafter = "1s"\nduration = "1s"\n'
    (tmp_path / "restart.toml").write_text(f'[target]\nurl = "http://127.0.0.1:1/"\n{fault}')
    done = sseproof("run", "restart.toml", "--quiet", cwd=tmp_path)
    assert done.returncode == 64, done.stdout + done.stderr
    assert "add [server]" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_stock_server_is_named_as_such(tmp_path):
    program = stock_server(tmp_path)
    run(tmp_path, CUT_HALF.format(streams=20), "--toxiproxy", str(program))
    directory = directory_of(tmp_path)
    assert info_of(directory).versions[ENGINE] == "2.12.0 (stock)"
    (note,) = (problem for problem in verdict_of(directory).problems if "stock" in problem)
    assert str(program) in note
    report = (directory / REPORT_NAME).read_text()
    assert "2.12.0 (stock)" in report
    assert "stock Toxiproxy" in report


def test_a_foreign_server_that_dies_in_the_middle_is_told_and_not_charged_to_faults(tmp_path, other):
    (tmp_path / "faults.toml").write_text(
        SERVED + "[client]\nbackoff = '2s'\n" + CUT_HALF.format(streams=400)
    )
    options = (
        "--toxiproxy",
        f"http://{other.client.place}",
        *claims("recovery = 100% after cut", "ttft p95 <= 5s in group cut", "success >= 98%"),
        *claims("recovery = 100%", "success = 100% in group clean"),
    )
    process = started("run", "faults.toml", "--quiet", *options, cwd=tmp_path)
    try:
        directory = wait_for_rows(tmp_path, 5)
        other.kill()
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 70, out + err
    assert len(err.strip().splitlines()) == 1, err
    assert "Toxiproxy" in err
    assert "sseproof-" in err, "what may be left there can be found by name"
    verdict = verdict_of(directory)
    assert [(each.verdict, each.code) for each in verdict.verdicts[:3]] == [
        ("unknown", "injector-failed")
    ] * 3
    # These name no fault. Where few streams had ended before the server did, too few is as true.
    assert {(each.verdict, each.code) for each in verdict.verdicts[3:]} <= {
        ("unknown", "injector-failed"),
        ("unknown", "too-few"),
    }
    assert 5 <= len(rows(directory, STREAMS)) < 400, "without a way to the target there is no use in going on"
    assert any("count as unfinished" in problem for problem in verdict.problems)
    assert "failed" in {row.step for row in rows(directory, FAULTS)}


def stop_the_server_of(cwd: Path) -> None:
    """SIGSTOP to the run's own fault engine."""
    (pid, *_) = (
        pid for pid in carrying(f"MARKED={cwd}") if "toxiproxy" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    os.kill(pid, signal.SIGSTOP)


def test_a_server_of_ours_that_stops_answering_is_replaced_and_never_charged_to_the_target(tmp_path):
    """SIGSTOP stands for wedged: nothing of any stream moves until a new one takes its place."""
    scenario = CUT_HALF.format(streams=200).replace("after_bytes = 900", "after_bytes = 900000")
    (tmp_path / "faults.toml").write_text(SERVED + "[client]\nprofile = 'legacy'\n" + scenario)
    options = claims(
        "recovery = 100% after cut", "success = 100% in group clean", "gap p99 <= 3s in group clean"
    )
    process = started(
        "run", "faults.toml", "--quiet", *options, cwd=tmp_path, environ={"MARKED": str(tmp_path)}
    )
    try:
        directory = wait_for_rows(tmp_path, 20)
        stop_the_server_of(tmp_path)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 70, out + err
    assert "wedged" in err
    verdict = verdict_of(directory)
    assert all(each.verdict != "fail" for each in verdict.verdicts), out
    assert (verdict.verdicts[0].verdict, verdict.verdicts[0].code) == ("unknown", "injector-failed")
    assert len(rows(directory, STREAMS)) == 200, "the load went on through the new one"
    assert any(row.outcome != "complete" for row in rows(directory, STREAMS)), "some were broken by it"
    nobody_listens(ports_of(directory))


def test_a_window_that_fails_proves_nothing_about_the_faults_beside_it(tmp_path):
    """The new server has no toxics: later streams of every group are clean, and a claim on them would pass on nothing."""
    scenario = """
[load]
streams = 140
users = 20
[[fault]]
kind = "latency"
share = "50%"
delay = "300ms"
[[fault]]
kind = "stall"
share = "10%"
after = "2s"
duration = "1s"
"""
    (tmp_path / "faults.toml").write_text(SERVED + scenario)
    options = claims(
        "ttft p95 <= 5s in group latency",
        "success >= 50% in group latency",
        "gap p50 <= 5s in group latency",
        "success >= 10% in group stall",
    )
    process = started(
        "run", "faults.toml", "--quiet", *options, cwd=tmp_path, environ={"MARKED": str(tmp_path)}
    )
    try:
        directory = wait_for_rows(tmp_path, 20)
        stop_the_server_of(tmp_path)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 70, out + err
    found = [(each.verdict, each.code) for each in verdict_of(directory).verdicts]
    assert found == [("unknown", "injector-failed")] * 4, out
    failed = [row.group for row in rows(directory, FAULTS) if row.step == "failed"]
    assert sorted(failed) == ["clean", "latency", "stall"]


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_hops_show_what_they_do_to_the_first_token(tmp_path):
    scenario = """
[load]
streams = 10
users = 10
[[variant]]
name = "defaults"
hop = "nginx-defaults"
[variant.server]
profile = "legacy"
[[variant]]
name = "sse"
hop = "nginx-sse"
"""
    run(tmp_path, scenario)
    directory = directory_of(tmp_path)
    waits = {"defaults": [], "sse": []}
    for row in rows(directory, STREAMS):
        assert row.outcome in OUTCOMES
        waits[row.variant].append(row.first_token.ns - row.sent.ns)
    assert min(waits["defaults"]) > 2 * max(waits["sse"]), "the buffer holds the whole answer back"
    nobody_listens(ports_of(directory))


@pytest.mark.skipif(
    (find_nginx() is None or find_apache() is None) and not os.environ.get("CI"),
    reason="nginx or Apache is not installed",
)
def test_it_matters_on_which_side_of_the_hop_the_link_breaks(tmp_path):
    """The same faults, before and behind a hop: from behind it a reset comes as FIN, and a refusal as an answer."""
    scenario = """
hop = "nginx-sse"
[load]
streams = 80
users = 20
[[fault]]
name = "rst"
kind = "cut"
by = "rst"
share = "30%"
after_bytes = [700, 900]
[[fault]]
kind = "refused"
share = "30%"
after = "400ms"
duration = "600ms"
every = "1500ms"
times = 3
[[variant]]
name = "before"
[[variant]]
name = "apache"
hop = "apache-flush"
fault_side = "service"
[[variant]]
name = "behind"
fault_side = "service"
"""
    (tmp_path / "faults.toml").write_text(scenario.replace("[load]", f"{SERVED}[load]"))
    done = sseproof(
        "run", "faults.toml", "--quiet", *claims("recovery = 100% after rst over 20"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    assert [each.acted for each in evidence_of(read_history(directory))] == [True] * 6
    streams = rows(directory, STREAMS)
    assert {row.variant for row in streams} == {"before", "behind", "apache"}
    plan = plan_of(directory)
    planned = {
        f"{a['host']}:{a['port']}": a.get("cut_after_bytes") for v in plan["variants"] for a in v["addresses"]
    }
    for row in streams:
        first = row.attempts[0]
        if row.group == "rst" and row.variant == "before":
            assert (first.end, first.received_bytes) == ("rst", planned[first.address])
        elif row.group == "rst":
            assert first.end == "fin"
            assert planned[first.address], "the port of the hop that leads to the proxy that cuts"
    ends = {"before": set(), "behind": set(), "apache": set()}
    for row in streams:
        if row.group == "refused":
            ends[row.variant] |= {(each.end, each.status) for each in row.attempts}
    assert ("refused", None) in ends["before"]
    assert ("status", 502) not in ends["before"]
    assert ("status", 502) in ends["behind"]
    assert ("refused", None) not in ends["behind"] | ends["apache"]
    assert ("status", 503) in ends["apache"]
    nobody_listens([*ports_of(directory), *(proxy["port"] for proxy in plan["faults"]["proxies"])])


@pytest.mark.skipif(find_apache() is None and not os.environ.get("CI"), reason="Apache is not installed")
def test_a_stream_goes_through_apache_and_a_route_of_its_own(tmp_path):
    scenario = """
[load]
streams = 60
users = 20
[[variant]]
name = "apache"
hop = "apache-flush"
[[variant]]
name = "routes"
hop = "nginx-routes"
[variant.server]
profile = "legacy"
"""
    done = run(tmp_path, scenario, *claims("success >= 90%", "utf8 = 100%"))
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    for row in rows(directory, STREAMS):
        held_ns = row.last_token.ns - row.first_token.ns
        assert held_ns > 300_000_000, "29 intervals of 20 ms: it was passed on as it came"
    nobody_listens(ports_of(directory))
