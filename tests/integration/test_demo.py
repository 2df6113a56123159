"""The demo as a stranger runs it: what it shows, whom it accuses, what it leaves behind, and from an installed wheel.

Rules:
- Streams are checked against the reference server's witness to the stream: it wrote down whom it treated badly.
- A finder of left-over processes and ports is shown to find them first, while the run lives.
- Whole demos are dear: those that only have to end somewhere are tiny ones.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import msgspec
import pytest

from sseproof.chaos.hops import HOW_TO_GET_NGINX, find_nginx
from sseproof.judging import judged
from sseproof.reports.judge import SCHEMA_NAME
from sseproof.rundir.files import (
    FAULTS,
    LOG_NAME,
    PLAN_NAME,
    REPORT_NAME,
    RUN_NAME,
    STREAMS,
    VERDICT_NAME,
    read_document,
)
from sseproof.rundir.rows import FaultRow, RunInfo
from tests.integration.demos import (
    BREAKING,
    DOUBLED,
    FAULTS_OF_THE_DEMO,
    GROUPS,
    LOST,
    RECONNECT,
    RECOVERY,
    SEED,
    SUCCESS,
    TINY,
    UTF8,
    Run,
)
from tests.integration.suite import (
    directory_of,
    gone_from,
    listened_by,
    listening,
    living_in,
    nobody_listens,
    plan_of,
    ports_of,
    rows,
    sseproof,
    started,
    state,
    stripped,
    verdict_of,
    wait_for_rows,
    witnesses,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
alone = pytest.mark.alone
slow = pytest.mark.slow
with_nginx = pytest.mark.skipif(
    find_nginx() is None and not os.environ.get("CI"), reason="nginx is not installed"
)

KILLS = int(os.environ.get("SOAK_KILLS", "20"))
LANES = 4
"""Demos that live at once: starting one is mostly waiting."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """SIGINT when a hundred streams have ended: faults are acting and both variants are under load."""
    cwd = tmp_path_factory.mktemp("interrupted")
    demo = started("demo", *SEED, cwd=cwd, environ={"TMPDIR": str(cwd)})
    try:
        directory = wait_for_rows(cwd, 100, limit_s=90)
        seen = living_in(cwd)
        heard = [port for port in ports_of(directory) if listening(port)]
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    return Run(cwd, directory, demo.returncode, out, err, seen, heard)


# --- what it shows ---


@alone
@slow
def test_the_careful_stack_keeps_every_claim(full):
    assert full.code == 0, full.said()
    answers = full.answers("after")
    assert len(answers) == 11
    assert set(answers.values()) == {"pass"}, full.said()
    assert full.out.encode() == (full.directory / VERDICT_NAME).read_bytes()
    assert full.verdict().problems == []


@alone
@slow
def test_the_naive_stack_is_found_out_and_sets_no_exit_code(full):
    answers = full.answers("before")
    failed = {claim for claim, answer in answers.items() if answer == "fail"}
    assert failed >= {SUCCESS, UTF8, *RECOVERY, RECONNECT}
    assert answers[LOST] == answers[DOUBLED] == "unknown", "it numbers nothing, so nobody can tell"
    assert not any(each.counts for each in full.verdict().verdicts if each.variant == "before")


@alone
@slow
def test_as_much_was_measured_as_was_planned(full):
    judged = {each.claim: each for each in full.verdict().verdicts if each.variant == "after"}
    planned = {claim["text"]: claim.get("planned_n") for claim in full.plan()["claims"]}
    fixed = {text: n for text, n in planned.items() if n is not None}
    assert {text: judged[text].n for text in fixed} == fixed
    for fault in BREAKING:
        assert judged[f"recovery = 100% after {fault}"].n >= 59
    for variant in ("before", "after"):
        assert sorted(row.stream for row in full.streams(variant)) == list(range(420))


@alone
@slow
def test_every_fault_acted_and_was_healed(full):
    evidence = {(each.variant, each.group): each.acted for each in full.verdict().faults}
    wanted = {(variant, fault) for variant in ("before", "after") for fault in FAULTS_OF_THE_DEMO}
    assert evidence == dict.fromkeys(wanted, True)
    applied = healed_and_verified(full.directory)
    windows = [(window["group"], window["number"]) for window in full.plan()["faults"]["windows"]]
    for variant in ("before", "after"):
        mine = sorted(each[1:] for each in applied if each[0] == variant)
        assert mine == sorted([*windows, *((group, 0) for group in GROUPS)])
    verified = [which(row) for row in rows(full.directory, FAULTS) if row.step == "verified"]
    assert sorted(verified) == sorted(applied), "each time, not at the end alone"


@alone
@slow
def test_both_stacks_meet_the_same(full):
    variants = full.plan()["variants"]
    met = [
        [(each["group"], each.get("attempts"), each.get("cut_after_bytes")) for each in v["addresses"]]
        for v in variants
    ]
    assert met[0] == met[1]
    assert {group for group, _, _ in met[0]} == GROUPS
    groups = [{row.stream: row.group for row in full.streams(name)} for name in ("before", "after")]
    assert groups[0] == groups[1]


@alone
@slow
@with_nginx
def test_only_slices_ask_for_no_compression(full):
    """nginx compresses for whoever asks. Slices of gzip would cut no character."""
    streams = {row.truth_id: row for row in full.streams("before")}
    asked = {
        (streams[row.truth_id].group, "gzip" in (row.accept_encoding or ""))
        for row in witnesses(full.directory)
        if row.truth_id in streams
    }
    assert asked == {("slice", False), *((group, True) for group in GROUPS - {"slice"})}
    got = {row.group for row in streams.values() for attempt in row.attempts if attempt.gzip}
    assert got - {"refused"} == GROUPS - {"slice", "refused"}, (
        "where nginx holds back, a link that goes away leaves no answer"
    )
    assert not any(attempt.gzip for row in full.streams("after") for attempt in row.attempts)


@alone
@slow
@with_nginx
def test_the_buffer_of_nginx_keeps_the_first_token_back(full):
    assert [each["hop"] for each in full.plan()["variants"]] == ["nginx-defaults", "nginx-sse"]
    before, after = (
        statistics.median(
            row.first_token.ns - row.sent.ns
            for row in full.streams(variant, "clean")
            if row.first_token is not None
        )
        for variant in ("before", "after")
    )
    assert before >= 3 * after


@alone
@slow
def test_the_report_is_one_small_file_and_comes_again_byte_by_byte(full, tmp_path):
    report = (full.directory / REPORT_NAME).read_bytes()
    assert 10_000 < len(report) <= 1_000_000
    copy = tmp_path / "elsewhere"
    shutil.copytree(full.directory, copy)
    (copy / REPORT_NAME).unlink()
    (copy / VERDICT_NAME).unlink()
    judged = sseproof("judge", "elsewhere", cwd=tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    assert (copy / REPORT_NAME).read_bytes() == report
    assert (copy / VERDICT_NAME).read_bytes() == (full.directory / VERDICT_NAME).read_bytes()


@alone
@slow
def test_the_verdict_follows_its_schema(full):
    schema = json.loads((ROOT / "reports" / SCHEMA_NAME).read_bytes())
    jsonschema.Draft202012Validator(schema).validate(json.loads((full.directory / VERDICT_NAME).read_bytes()))


@alone
@slow
def test_it_leaves_nothing_behind(full):
    assert gone_from(full.cwd, 0) == {}
    nobody_listens(ports_of(full.directory))
    assert [path.name for path in full.cwd.iterdir()] == ["runs"]


@alone
@slow
def test_each_stack_has_a_master_of_its_own(full):
    masters = [variant["master_port"] for variant in full.plan()["variants"]]
    assert len(set(masters)) == len(masters) == 2


# --- what it plans ---


AUDITED = """
import os, sys
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system"}
def refuse(event, args):
    if event in STARTS or event.startswith("socket."):
        os.write(2, f"{event} {args}".encode())
        os._exit(99)
sys.addaudithook(refuse)
from sseproof.cli import main
main()
"""


def audited(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command line that ends with 99 at the first socket or process."""
    return subprocess.run(
        [sys.executable, "-c", AUDITED, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_dry_run_sends_and_starts_nothing(tmp_path):
    done = audited("demo", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Nothing was sent." in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert audited("demo", cwd=tmp_path).returncode == 99, "the demo itself does"


@alone
@slow
def test_the_same_seed_plans_the_same(full, interrupted):
    plans = [stripped(run.plan()) for run in (full, interrupted)]
    assert plans[0] == plans[1]
    offsets = [each["cut_after_bytes"] for each in plans[0]["faults"]["proxies"] if each["cut_after_bytes"]]
    assert len(set(offsets)) >= 8, "what the seed drew is in what was compared"


# --- how it ends ---


@alone
@slow
def test_an_interrupt_judges_what_is_there(interrupted):
    assert interrupted.code == 130, interrupted.said()
    assert "Traceback" not in interrupted.err
    assert "side by side" in interrupted.out
    for claim in interrupted.answers("after"):
        assert claim.partition(" in group ")[0] in interrupted.out  # a long one goes on in the next line
    assert read_document(interrupted.directory / RUN_NAME, RunInfo, "run").how == "interrupted"
    assert interrupted.verdict().how == "interrupted"
    before = [(interrupted.directory / name).read_bytes() for name in (VERDICT_NAME, REPORT_NAME)]
    judged = sseproof("judge", str(interrupted.directory), cwd=interrupted.cwd)
    assert judged.returncode in {1, 2}, judged.stdout + judged.stderr
    assert [(interrupted.directory / name).read_bytes() for name in (VERDICT_NAME, REPORT_NAME)] == before


@alone
@slow
@with_nginx
def test_an_interrupt_leaves_nothing_behind(interrupted):
    lived = " | ".join(interrupted.seen.values())
    for part in ("nginx: master", "nginx: worker", "toxiproxy-server", "reference_server", "locust"):
        assert part in lived, "the finder finds it while it lives"
    ports = ports_of(interrupted.directory)
    assert len(interrupted.heard) > len(ports) / 2
    assert gone_from(interrupted.cwd, 0) == {}
    nobody_listens(ports)
    assert [path.name for path in interrupted.cwd.iterdir()] == ["runs"]
    assert len(healed_and_verified(interrupted.directory)) > 2 * len(GROUPS)


def healed_and_verified(directory: Path) -> list[tuple]:
    """Whatever was applied was healed, and read back afterwards; gives what was applied."""
    found = rows(directory, FAULTS)
    assert [row for row in found if row.ok is False] == []
    keys = {step: [which(row) for row in found if row.step == step] for step in ("applied", "healed")}
    assert sorted(keys["applied"]) == sorted(keys["healed"])
    for number, row in enumerate(found):
        if row.step == "healed":
            later = {(each.variant, each.group) for each in found[number:] if each.step == "verified"}
            assert (row.variant, row.group) in later
    return keys["applied"]


def which(row: FaultRow) -> tuple:
    """One fault in one variant, at one of its times if it comes and goes (0: it stays)."""
    return row.variant, row.group, row.window or 0


class Victim(msgspec.Struct):
    """A demo that was killed, and what had lived of it."""

    cwd: Path
    moment: str
    lived: dict[int, str]
    heard: list[int]
    """Ports on which its processes accepted connections."""
    swept: bool
    """Of the nginx folders that the kills before it had left, none was there any more once it had its own."""


MOMENTS = {
    "start": lambda cwd: True,
    "plan": lambda cwd: bool(list(cwd.glob(f"runs/demo/*/{PLAN_NAME}"))),
    "faults": lambda cwd: any(row.step == "applied" for row in rows(directory_of(cwd), FAULTS)),
    "load": lambda cwd: len(rows(directory_of(cwd), STREAMS)) >= 1,
    "end": lambda cwd: len(rows(directory_of(cwd), STREAMS)) >= 28,
}
"""From when on; then comes a random wait. After the end it is healing, judging, or over."""
LONGEST_WAIT_S = 2.0


def killed(lane: Path, number: int, moment: str, wait_s: float) -> Victim:
    """SIGKILL of the front process alone."""
    cwd, temporary = lane / str(number), lane / "tmp"
    cwd.mkdir(parents=True)
    temporary.mkdir(exist_ok=True)
    demo = subprocess.Popen(
        [sys.executable, "-m", "sseproof", "demo", *SEED, *TINY],
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(ValueError, FileNotFoundError):
                if MOMENTS[moment](cwd):
                    break
            time.sleep(0.02)
        else:
            raise AssertionError(f"{moment} never came")
        time.sleep(wait_s)
        halted(demo)
        lived = living_in(lane)
        heard = listened_by(lived)
        owners = {folder.name.split("-")[2] for folder in temporary.glob("sseproof-hop-*")}
    finally:
        demo.kill()
        demo.wait()
    started_its_own = any(command.startswith("nginx") for command in lived.values())
    return Victim(cwd, moment, lived, heard, owners == {str(demo.pid)} or not started_its_own)


def halted(demo: "subprocess.Popen[bytes]") -> None:
    """Until it stands still or has ended: what is looked at one after the other is of one moment then."""
    demo.send_signal(signal.SIGSTOP)
    while state(Path(f"/proc/{demo.pid}")) not in {"T", "Z", ""}:
        time.sleep(0.001)


def judged_as_it_lies(victim: Victim) -> int:
    """Nothing is left of it but its record, and that can be judged; gives the number of its run directories."""
    assert gone_from(victim.cwd.parent) == {}
    if victim.heard:
        nobody_listens(victim.heard, 5)
    plans = list(victim.cwd.glob(f"runs/demo/[0-9]*/{PLAN_NAME}"))
    for plan in plans:
        nobody_listens(ports_of(plan.parent), 5)
        assert judged(plan.parent).exit_code in {1, 2}
        assert (plan.parent / REPORT_NAME).stat().st_size > 10_000
    return len(plans)


@slow
@pytest.mark.timeout(60 + 15 * KILLS)
def test_killed_at_random_moments(tmp_path):
    """While it starts, breaks the link, loads, ends and judges: its parts end, and its ports, and its nginx."""
    chance = random.Random(2026)
    order = [
        (tmp_path / str(number % LANES), number, list(MOMENTS)[number // LANES % len(MOMENTS)])
        for number in range(KILLS)
    ]
    waits = [chance.uniform(0, LONGEST_WAIT_S) for _ in order]

    def one_lane(lane: int) -> list[Victim]:
        mine = [(*each, wait) for each, wait in zip(order, waits, strict=True)][lane::LANES]
        return [killed(*each) for each in mine]

    with ThreadPoolExecutor(LANES) as pool:
        victims = [victim for lane in pool.map(one_lane, range(LANES)) for victim in lane]
    assert len(victims) == KILLS
    assert all(victim.swept for victim in victims)
    recorded = sum(judged_as_it_lies(victim) for victim in victims)
    assert recorded >= KILLS * 3 // 5, "all but those that were starting"
    assert sum(bool(victim.heard) for victim in victims) >= KILLS * 2 // 5, (
        "ports were open when the kill came"
    )
    found = " | ".join(command for victim in victims for command in victim.lived.values())
    for part in ("toxiproxy-server", "reference_server", "locust"):
        assert part in found, "some kill met it alive"


# --- installed, and without nginx ---


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment outside the checkout with the wheel in it; its dependencies are those of the tests."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-index", "--no-deps"]
    wheels, venv = place / "wheels", place / "venv"
    for step in (
        [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)],
        [sys.executable, "-m", "venv", "--without-pip", str(venv)],
    ):
        subprocess.run(step, check=True, timeout=110)
    (wheel,) = wheels.glob("*.whl")
    python = venv / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True, timeout=110)
    (site,) = venv.glob("lib/python*/site-packages")
    # A line of a .pth file becomes a path and nothing more: the link to this checkout in that folder is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return venv / "bin"


def outside(command: Path, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command of the new environment, which knows nothing of this one."""
    left_out = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return subprocess.run(
        [str(command), *arguments],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name not in left_out},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_wheel_brings_everything_of_ours(installed, tmp_path):
    where = outside(
        installed / "python",
        "-c",
        "import sseproof, sseproof.reports as r; print(sseproof.__file__, r.__file__)",
        cwd=tmp_path,
    )
    for path in where.stdout.split():
        assert Path(path).is_relative_to(installed.parent), where.stderr
    assert str(ROOT) not in outside(
        installed / "python", "-c", "import sys; print(sys.path)", cwd=tmp_path
    ).stdout.replace(sysconfig.get_path("purelib"), "")
    assert "demo" in outside(installed / "sseproof", "--help", cwd=tmp_path).stdout
    here = sseproof("demo", "--dry-run", cwd=tmp_path)
    there = outside(installed / "sseproof", "demo", "--dry-run", cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout


@slow
def test_the_wheel_runs_the_demo(installed, tmp_path):
    done = outside(installed / "sseproof", "demo", *SEED, *TINY, "--quiet", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    assert b"<svg" in (directory / REPORT_NAME).read_bytes()
    assert read_document(directory / RUN_NAME, RunInfo, "run").how == "finished"
    for variant in ("before", "after"):
        met = {row.group for row in rows(directory, STREAMS) if row.variant == variant}
        assert met == GROUPS, (directory / LOG_NAME).read_text("utf-8")


WITHOUT_NGINX = """
import sseproof.chaos.hops as hops
hops._PLACES = ""
from sseproof.cli import main
main()
"""


@slow
def test_without_nginx_it_says_what_was_not_measured(tmp_path):
    programs, cwd = tmp_path / "bin", tmp_path / "run"
    programs.mkdir()
    cwd.mkdir()
    for name in ("sh", "setpriv", "go"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NGINX, "demo", *SEED, *TINY, "--quiet"],
        cwd=cwd,
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    directory = directory_of(cwd)
    sentence = f"not measured: {HOW_TO_GET_NGINX}"
    assert any(sentence in problem for problem in verdict_of(directory).problems)
    assert sentence in " ".join(done.stdout.split())
    assert sentence in " ".join((directory / REPORT_NAME).read_text("utf-8").split())
    assert [each.get("hop") for each in plan_of(directory)["variants"]] == [None, None]
    streams = rows(directory, STREAMS)
    assert {row.variant for row in streams} == {"before", "after"}
    assert len(streams) == 28
