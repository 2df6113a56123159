"""Chromium and Firefox as users of a run: each answer cut three times, read by our client and by EventSource.

The distribution's browsers are used (apt-get install chromium firefox-esr); where CI is set, a missing one is a failure.
"""

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from sseproof.browsers import programs
from sseproof.browsers.programs import FOLDER, MARK_VARIABLE, PROGRAMS, Browser, Found, Process, find
from sseproof.cli import invoke
from sseproof.reference_server.misbehave import DUPLICATES
from sseproof.reports.browsers import BrowserResult
from sseproof.reports.judge import RunVerdict, judge_directory
from sseproof.rundir.errors import EXIT_FAIL, EXIT_RIG, EXIT_UNKNOWN, EXIT_USAGE
from sseproof.rundir.files import BROWSERS, REPORT_NAME, STARTS, STREAMS, VERDICT_NAME
from sseproof.rundir.rows import StreamRecord
from tests.integration.suite import (
    RUN_LIMIT_S,
    claims,
    directory_of,
    plan_of,
    rows,
    sseproof,
    started,
    verdict_of,
)

pytestmark = [pytest.mark.integration, pytest.mark.alone]

ANSWERS = 4
QUICKER = ("--set", "target.url=/api/v1/stream/chat?events=60&interval_ms=60&script=mixed")
CUTS = 3
S = 1_000_000_000
USUALLY_BACK_S = 2.5
"""Five times what our client was measured to need, of which 300 to 450 ms are the wait that the service asks for; and less
than what any browser waits by itself."""


class Run(NamedTuple):
    """What a run left behind."""

    pid: int
    code: int
    out: str
    directory: Path
    verdict: RunVerdict
    records: list[StreamRecord]


@pytest.fixture(scope="module", autouse=True)
def both_are_here() -> None:
    for name in PROGRAMS:
        if find(name, os.environ) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name} is not installed: {programs.HOW_TO_GET[name]}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("browsers")
    asked = claims(
        "success = 100% in variant firefox-sseconsumer over 4",
        "lost = 0 in variant chromium-sseconsumer over 4",
        "reconnect p95 < 2s in variant chromium-eventsource-default",
    )
    process = started("browsers", "--answers", str(ANSWERS), "--seed", "5", *QUICKER, *asked, cwd=folder)
    try:
        out, _ = process.communicate(timeout=RUN_LIMIT_S)
    finally:
        process.kill()
    directory = directory_of(folder)
    streams = rows(directory, STREAMS)
    return Run(process.pid, process.returncode, out, directory, verdict_of(directory), streams)


def of(run: Run, browser: str, client: str) -> BrowserResult:
    (found,) = [each for each in run.verdict.browsers if (each.browser, each.client) == (browser, client)]
    return found


@pytest.mark.parametrize("client", ["sseconsumer", "eventsource", "eventsource-default"])
@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_each_answer_is_cut_three_times_and_whole_in_the_end(run: Run, browser: str, client: str) -> None:
    result = of(run, browser, client)
    assert (result.streams, result.good, result.exact, result.untold) == (ANSWERS, ANSWERS, ANSWERS, 0)
    assert (result.breaks, result.mended) == (CUTS * ANSWERS, CUTS * ANSWERS)
    assert (result.lost, result.doubled, result.fffd) == (0, 0, 0)
    mine = [each for each in run.records if each.variant == f"{browser}-{client}"]
    assert [len(each.attempts) for each in mine] == [CUTS + 1] * ANSWERS
    for each in mine:
        assert [attempt.end for attempt in each.attempts] == ["fin"] * CUTS + ["terminal"]
        assert each.ids == [(1, 62)]
        # It was read as it came: no quicker than the script, which takes 60 ms to the first token and 3.6 s to the last.
        assert each.first_token is not None
        assert each.sent is not None
        assert each.first_token.hi_ns - each.sent.lo_ns > 0.055 * S
        assert each.ended.hi_ns - each.sent.lo_ns > 3.5 * S


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_the_waits_of_the_clients_show(run: Run, browser: str) -> None:
    consumer, asked, default = (
        of(run, browser, client) for client in ("sseconsumer", "eventsource", "eventsource-default")
    )
    assert consumer.reconnect_p50_ns is not None
    assert consumer.reconnect_p50_ns < USUALLY_BACK_S * S
    assert asked.reconnect_p50_ns is not None
    assert asked.reconnect_p50_ns > 0.25 * S  # the service asks for 300 ms
    assert default.reconnect_p50_ns is not None
    assert default.reconnect_p50_ns > {"chromium": 2.7, "firefox": 4.5}[browser] * S


def test_the_claims_and_the_exit_code_are_those_of_any_run(run: Run) -> None:
    assert [each.verdict for each in run.verdict.verdicts] == ["pass", "pass", "fail"]
    assert run.code == EXIT_FAIL
    assert all(each.acted for each in run.verdict.faults)
    assert len(run.verdict.faults) == 6 * 3


def test_instants_have_brackets_and_pages_their_rendering(run: Run) -> None:
    drawn = {row.variant: row for row in rows(run.directory, BROWSERS)}
    assert len(drawn) == 6
    for row in drawn.values():
        assert row.isolated
        assert not row.hidden
        assert 0 < row.resolution_ns <= 1_000_000  # what an isolated page is given: 5 µs and 20 µs
        assert row.offset_error_ns is not None
        assert row.frames > 30
        assert row.frame_gap_p50_ns is not None
        assert row.frame_gap_p50_ns > 5_000_000
    assert drawn["chromium-sseconsumer"].long_tasks is not None
    assert drawn["firefox-sseconsumer"].long_tasks is None
    for record in run.records:
        assert record.ended.before_ns >= drawn[record.variant or ""].resolution_ns


def test_browsers_that_nobody_opened_are_unknown(run: Run) -> None:
    unknown = {each.browser: each.next for each in run.verdict.browsers if each.state == "unknown"}
    assert set(unknown) == {"safari", "edge", "mobile"}
    assert all("open the address" in text for text in unknown.values())
    assert "Safari: unknown: open the address" in " ".join(run.out.split())


def test_judging_again_gives_the_same_bytes(run: Run) -> None:
    before = {name: (run.directory / name).read_bytes() for name in (VERDICT_NAME, REPORT_NAME)}
    assert b"SSEConsumer gave the exact text" in before[REPORT_NAME]
    sseproof("judge", str(run.directory), cwd=run.directory.parent)
    assert before == {name: (run.directory / name).read_bytes() for name in before}


def test_nothing_of_the_browsers_stays(run: Run) -> None:
    assert run.verdict.browsers
    assert marked(run.pid) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"{FOLDER}-{run.pid}-*"))


def marked(pid: int) -> list[str]:
    """Names of processes that a browser of this run started: their environment has our mark, and its folder as their home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
            if f"{MARK_VARIABLE}=".encode() in environ and f"{FOLDER}-{pid}-".encode() in environ:
                found.append((folder / "comm").read_text())
        except OSError:
            continue
    return found


# Others that join


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """A run that opens no browser and waits for one; the address that it prints."""
    process = started(
        *("browsers", "--no-browser", "--wait", "60s", "--expect", "1", "--answers", "2"),
        *("--client", "sseconsumer", "--client", "eventsource"),
        # After each break the server sends three events once more: only one of the clients knows them again.
        *("--set", "server.misbehave=duplicate", "--set", "server.misbehave_share=1"),
        *QUICKER,
        *claims(
            "success >= 20% in variant chromium-sseconsumer", "success >= 20% in variant safari-sseconsumer"
        ),
        cwd=tmp_path,
    )
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/\?key=\S+", said)):
        line = process.stderr.readline()
        assert line, said
        said += line
    yield process, found[0]
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.fixture
def desktop() -> Iterator[Callable[[str, list[str], Mapping[str, str]], Process]]:
    """Starts a browser as somebody at a desk would, and waits for its end afterwards."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(_name: str, command: list[str], environ: Mapping[str, str]) -> Process:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        begun.append(subprocess.Popen(command, env=environ, **quiet))
        return Process(begun[-1].poll)

    yield start
    for each in begun:
        each.wait(20)


def test_any_browser_takes_part_by_its_address(
    waiting: "tuple[subprocess.Popen[str], str]",
    desktop: Callable[[str, list[str], Mapping[str, str]], Process],
    tmp_path: Path,
) -> None:
    process, address = waiting
    found = find("chromium", os.environ)
    assert found is not None
    with Browser(found, address, environ=os.environ, start=desktop):
        assert marked(os.getpid()), "the finder finds what lives"
        out, err = process.communicate(timeout=90)
    assert marked(os.getpid()) == []
    # Who claims something of a browser can't know yet whether anybody opens the page in it.
    assert process.returncode == EXIT_UNKNOWN, err
    verdict = judge_directory((tmp_path / "runs" / "browsers" / "latest").resolve())
    assert [each.verdict for each in verdict.verdicts] == ["pass", "unknown"]
    (safari,) = [each for each in verdict.browsers if each.browser == "safari"]
    assert (safari.state, safari.streams, "open the address" in safari.next) == ("unknown", 0, True)
    consumer, source = [each for each in verdict.browsers if each.state == "measured"]
    assert (consumer.browser, consumer.client, source.client) == ("chromium", "sseconsumer", "eventsource")
    assert (consumer.exact, consumer.doubled) == (2, 0)
    assert (source.exact, source.good) == (0, 0)
    assert source.doubled == DUPLICATES * source.breaks
    assert source.breaks >= CUTS * 2
    key = address.partition("key=")[2]
    for path in (tmp_path / "runs").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path
    assert key not in out


BY_BYTES_AND_TIME = """
[server]
[target]
url = "/api/v1/stream/chat?events=40&interval_ms=50&script=mixed"
[load]
users = 6
streams = 6
[[fault]]
kind = "cut"
after_bytes = 1800
on = "every"
share = "35%"
[[fault]]
kind = "cut-time"
after = "1500ms"
on = "every"
share = "35%"
"""


def test_cuts_of_which_a_page_is_told_no_place_are_seen_and_the_way_is_no_way_to_the_witness(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.toml").write_text(BY_BYTES_AND_TIME)
    chosen = ("--browser", "chromium", "--client", "sseconsumer", "--seed", "3")
    process = started("browsers", "mine.toml", *chosen, *claims("lost = 0 over 6"), cwd=tmp_path)
    try:
        while not any(rows(path.parent, STARTS) for path in (tmp_path / "runs").glob("*/*/plan.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        directory = directory_of(tmp_path)
        (variant,) = plan_of(directory)["variants"]
        told = []
        for address in variant["addresses"]:
            for path in ("/witness", "/metrics"):
                connection = http.client.HTTPConnection(address["host"], address["port"], timeout=20)
                connection.request("GET", path, headers={"Host": "localhost"})
                answer = connection.getresponse()
                told.append((answer.status, json.loads(answer.read())["error"]))
                connection.close()
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert set(told) == {(403, "Only the run that started this server is told this.")}
    verdict = verdict_of(directory)
    assert {(each.kind, each.acted) for each in verdict.faults} == {("cut", True), ("cut-time", True)}, out
    assert [each.verdict for each in verdict.verdicts] == ["pass"], "the run itself is told"
    assert process.returncode == 0, err


# What can't be


def test_a_browser_that_ends_by_itself_is_the_rig_s(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "firefox-esr"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = sseproof("browsers", "--browser", "firefox", cwd=tmp_path, environ={"PATH": path})
    assert done.returncode == EXIT_RIG
    assert "Firefox ended by itself with exit code 3" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_browser_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert invoke(["browsers", "--browser", "firefox"]) == EXIT_RIG
    assert "apt-get install firefox-esr" in capsys.readouterr().err
    assert invoke(["browsers"]) == EXIT_RIG
    assert "--wait" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--answers", "0"], "load.streams is 0"),
        (["--answers", "5001"], "5,000 answers"),
        (["--at-once", "7"], "six connections"),
        (["--no-browser"], "--wait"),
        (["--expect", "2"], "--wait"),
        (["--no-browser", "--browser", "firefox"], "one of the two"),
        (["--wait", "soon"], "--wait"),
        (["--host", "example.com"], "no IP address"),
        (["--host", "0.0.0.0"], "every address"),  # it is refused
        (["--host", "192.0.2.7"], "can't be listened on"),
        (["--claim", "success >= 98% in variant safari-eventsource"], "there are"),
        (["--wait", "5m", "--claim", "success >= 98% in variant netscape-eventsource"], "there are"),
        (["--set", "load.duration=5s"], "load."),
        (["--set", "target.method=POST"], "EventSource sends a GET"),
        (["--set", "until_decided=true"], "Locust's users"),
        (["--set", "client.retries=0"], "client.retries is for Locust's users"),
        (["--set", "client.timeouts.idle=5s"], "client.timeouts.idle is for Locust's users"),
        (["--set", "load.max_requests=5"], "load.max_requests is for Locust's users"),
        (["missing.toml"], "missing.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_a_browser_opens(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = invoke(["browsers", *options])
    said = capsys.readouterr().err
    assert code == EXIT_USAGE, said
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[target]\nurl = "http://127.0.0.1:1/x"\n[load]\nusers = 1\nstreams = 1\n', "[server]"),
        (
            '[server]\n[load]\nusers = 1\nstreams = 1\n[[fault]]\nkind = "cut"\nshare = "50%"\nafter_bytes = 99\n',
            'on = "every"',
        ),
        (
            '[server]\n[load]\nusers = 1\nstreams = 1\n[[fault]]\nkind = "server-restart"\nafter = "1s"\nduration = "1s"\nshare = "100%"\n',
            "browsers share theirs",
        ),
        ('[server]\n[load]\nusers = 1\nstreams = 1\n[[variant]]\nname = "a"\n', "[[variant]]"),
        ("[server]\n[load]\nrate = 5\n", "load.users"),
    ],
)
def test_a_scenario_that_is_none_for_browsers_is_refused(
    text: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(text)
    code = invoke(["browsers", "mine.toml"])
    said = capsys.readouterr().err
    assert (code, words in said) == (EXIT_USAGE, True), said


def test_a_dry_run_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["browsers", "--dry-run"]) == 0
    assert "success = 100%" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_what_make_claims_of_100_answers_could_be_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "-n", "check-browsers"],
        cwd=Path(__file__).parents[2],
        # A make above hands down its flags and pytest's arguments.
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MAKE", "MFLAGS")) and name not in {"PYTHON", "ARGS"}
        },
        capture_output=True,
        text=True,
        check=True,
    )
    command = shlex.split(told.stdout.replace("\\\n", " ").splitlines()[-1])
    monkeypatch.chdir(tmp_path)
    assert invoke([*command[1:], "--dry-run", "--json"]) == 0
    needed = [each["plan"]["needed_n"] for each in json.loads(capsys.readouterr().out)["claims"]]
    assert needed[:-1] == [100] * 4
    assert 0.95 * CUTS * 100 < needed[-1] <= CUTS * 100, "none of the reconnections may be above it"


def test_a_profile_says_nothing_to_the_world() -> None:
    found = Found("chromium", "/usr/bin/chromium")
    command = programs.command_of(found, "http://127.0.0.1:8080/?key=x", Path("/profile"), root=False)
    assert "--no-sandbox" not in command
    assert "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1" in command
    assert "--no-sandbox" in programs.command_of(found, "http://127.0.0.1/", Path("/profile"), root=True)
    assert 'user_pref("app.update.enabled", false);' in programs.preferences()
