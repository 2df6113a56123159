"""Every file of a run directory, broken in every way: a sentence, the rest is judged, and no claim passes by accident.

For each file there is a run in which a claim does not pass because of what this file holds. Whatever is done to the file,
the claim may become unknown, but it never passes.
"""

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.cli import invoke
from sseproof.loadtests.settings import Load
from sseproof.reports.judge import RunVerdict, judge_directory
from sseproof.rundir.files import (
    BREAKS,
    BROWSERS,
    FAULTS,
    GENERATOR,
    LOG_NAME,
    MARKS,
    OPEN,
    PLAN_NAME,
    REPORT_NAME,
    ROW_FILES,
    RUN_NAME,
    SERIES_NAME,
    STARTS,
    STREAMS,
    VERDICT_NAME,
    WITNESS,
    write_document,
)
from sseproof.rundir.rows import BrowserPlan, BrowserRow, MarkRow, OpenRow, PreflightResult
from sseproof.rundir.series import Interval, encoded
from sseproof.rundir.series_file import SeriesFile
from sseproof.rundir.units import to_raw
from tests.reports.conftest import RUN, T0, RunBuilder, S

MS = 1_000_000
CLAIMS = ("success >= 90%", "ttft p95 <= 1s", "reconnect p95 < 1s", "lost = 0", "success >= 1% after cut")
ENOUGH = 120


def healthy(run: RunBuilder) -> None:
    """All claims but the one about a fault pass: what a broken file must not bring about is possible."""
    run.claims(*CLAIMS)
    variant = run.plan.variants[0]
    variant.preflight = PreflightResult(ok=True, witness_path="/witness")
    for number in range(ENOUGH):
        run.witnessed((1, 42), seed=number)
        run.break_(number)
    run.generator()
    run.fault("intent")
    file = SeriesFile(run.directory, RUN, T0)
    file.append([Interval("gap", T0, T0 + S, encoded({5: 2}))])
    file.close()
    run.append(OPEN, OpenRow(at_ns=T0 + S, worker=0, streams=[1]))
    run.append(MARKS, MarkRow(at_ns=T0 + S, text="deployed"))


def starts(run: RunBuilder) -> str:
    for _ in range(60):
        run.start()
    return "success"


def streams(run: RunBuilder) -> str:
    for _ in range(60):
        run.failed()
    return "success"


def breaks(run: RunBuilder) -> str:
    for number in range(60):
        record = run.stream(breaks=1)
        run.break_(record.stream, back_ms=5_000.0 + number)
    return "reconnect"


def faults(run: RunBuilder) -> str:
    return "success after"


def witness(run: RunBuilder) -> str:
    run.witnessed((1, 20), (22, 42), seed=999)  # the client alone would not know
    return "lost"


def generator(run: RunBuilder) -> str:
    for _ in range(60):
        run.stream(first_token=run.at(900))
    run.generator(at_ns=T0 + 2 * S, interval_ns=4 * S, clock_step_ns=-500 * MS)
    return "ttft"


def unmade(run: RunBuilder) -> str:
    """run.json: the run ended well, so what was planned and is not on record was never made."""
    run.plan.variants[0].load = to_raw(Load(users=1, streams=ENOUGH + 60))
    return "success"


def nothing(run: RunBuilder) -> str:
    return "success after"


PLANTS: dict[str, Callable[[RunBuilder], str]] = {
    STARTS.name: starts,
    STREAMS.name: streams,
    BREAKS.name: breaks,
    FAULTS.name: faults,
    WITNESS.name: witness,
    GENERATOR.name: generator,
    OPEN.name: starts,
    MARKS.name: nothing,
    RUN_NAME: unmade,
    PLAN_NAME: nothing,
    SERIES_NAME: nothing,
    VERDICT_NAME: nothing,
    REPORT_NAME: nothing,
    LOG_NAME: nothing,
}


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[30:])


def beginning_alone(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def cut_between_rows(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 1 + len(lines) // 3]))


def rubbish(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    deep = b'{"unheard of": ' + b"[" * 100_000 + b"\n"
    lines[len(lines) // 2] = b'{"stream": [}, \xff\x00 "\n' + deep
    path.write_bytes(b"".join(lines))


def newer(path: Path) -> None:
    path.write_bytes(re.sub(rb'("version": ?)1', rb"\g<1>99", path.read_bytes(), count=1))


def foreign(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"sseproof/", b"vegeta/", 1))


DAMAGES = (gone, empty, folder, torn, headless, beginning_alone, cut_between_rows, rubbish, newer, foreign)
MADE_AGAIN = {VERDICT_NAME, REPORT_NAME}
NO_VERDICT_RESTS_ON = {LOG_NAME, SERIES_NAME, OPEN.name, MARKS.name}
ROWS = {file.name for file in ROW_FILES}


def named(result: RunVerdict, name: str) -> str:
    metric, _, scope = name.partition(" ")
    (found,) = [
        each
        for each in result.verdicts
        if each.metric == metric and (" after " in each.claim) == (scope == "after")
    ]
    return found.verdict


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """For every file the run that needs it, judged once, and the claim that must not pass."""
    made = {}
    for plant in dict.fromkeys(PLANTS.values()):
        with contextlib.closing(RunBuilder(tmp_path_factory.mktemp(plant.__name__))) as run:
            healthy(run)
            claim = plant(run)
            directory = run.write()
        (directory / LOG_NAME).write_text("sseproof: began\n")
        assert invoke(["judge", str(directory)]) in {1, 2}
        made[plant.__name__] = (directory, claim)
    return made


def test_the_runs_are_what_the_test_needs(planted):
    """Without what is planted all claims pass; with it the named one does not."""
    directory, _ = planted["nothing"]
    answers = {each.claim: each.verdict for each in judge_directory(directory).verdicts}
    assert [answers[claim] for claim in list(answers)[:4]] == ["pass"] * 4, answers
    for directory, claim in planted.values():
        assert named(judge_directory(directory), claim) != "pass"
    files = {path.name for path in directory.iterdir()}
    assert files == set(PLANTS), "every file of a run directory is in the table"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", PLANTS)
def test_a_sentence_the_rest_judged_and_no_pass_by_accident(planted, tmp_path, capsys, name, damage):
    source, claim = planted[PLANTS[name].__name__]
    directory = tmp_path / "run"
    shutil.copytree(source, directory)
    damage(directory / name)
    code = invoke(["judge", str(directory)])
    shown = capsys.readouterr()
    said = " ".join((shown.out + shown.err).split())
    assert "sseproof itself broke" not in said
    assert "Traceback" not in said
    if name == PLAN_NAME and damage not in {beginning_alone, torn, rubbish, cut_between_rows}:
        assert code == 64
    if name in MADE_AGAIN and damage is folder:
        assert code == 70
    if code in {64, 70}:
        assert name in {PLAN_NAME, *MADE_AGAIN}
        assert name in said
        assert len(shown.err.splitlines()) == 1
        return
    assert code in {1, 2}
    result = judge_directory(directory)
    assert len(result.verdicts) == len(CLAIMS), "the rest is judged"
    assert named(result, claim) != "pass"
    noticed = damage in {gone, empty, folder, newer, foreign, headless} or (
        damage in {torn, rubbish, beginning_alone, cut_between_rows} and name in ROWS
    )
    if name not in MADE_AGAIN | {LOG_NAME, SERIES_NAME} and noticed:
        assert any(name in problem for problem in result.problems), result.problems
        assert name in said
    if name in NO_VERDICT_RESTS_ON | MADE_AGAIN:
        assert result.verdicts == judge_directory(source).verdicts


@pytest.mark.parametrize("file", [WITNESS, GENERATOR, FAULTS, BROWSERS], ids=lambda file: file.schema)
def test_a_file_cut_between_two_rows_is_told_by_the_end_of_the_run(run, file):
    """And only by it: a run recorded before lines were counted is judged as it always was."""
    healthy(run)
    run.fault("applied")
    if file is BROWSERS:
        run.plan.variants[0].browser = BrowserPlan(name="firefox", client="eventsource", at_once=1)
        for hidden in (False, True):
            run.append(
                BROWSERS,
                BrowserRow(variant="", at_ns=1, resolution_ns=1, length_ns=1, frames=1, hidden=hidden),
            )
    directory = run.write()
    lines = (directory / file.name).read_bytes().splitlines(keepends=True)
    (directory / file.name).write_bytes(b"".join(lines[:-1]))
    said = f"{file.name} has 1 line less than when the run ended: what they held is lost."
    assert said in judge_directory(directory).problems
    run.info.lines = {}
    write_document(directory / RUN_NAME, run.info)
    result = judge_directory(directory)
    assert [problem for problem in result.problems if file.name in problem] == []
    assert [each.verdict for each in result.verdicts][:4] == ["pass"] * 4


def test_starts_that_are_gone_may_have_had_no_end(run):
    """The last two streams: one ended, of the other nothing is left."""
    run.claims("success = 100%")
    run.streams(200)
    run.start()
    directory = run.write()
    starts = directory / STARTS.name
    lines = starts.read_bytes().splitlines(keepends=True)
    for damaged in (lines[:-2], [*lines[:-2], lines[-2][:9]]):
        starts.write_bytes(b"".join(damaged))
        result = judge_directory(directory)
        assert result.verdicts[0].verdict == "unknown"
        assert any(STARTS.name in problem for problem in result.problems)


def test_a_start_that_is_torn_counts_against_every_claim(run):
    """One more stream may have started and not ended: exact claims and bare bounds can't pass without it."""
    run.claims("success = 100%")
    run.streams(200)
    directory = run.write()
    assert judge_directory(directory).verdicts[0].verdict == "pass"
    with (directory / STARTS.name).open("ab") as file:
        file.write(b'{"stream":200,"disp')
    result = judge_directory(directory)
    assert result.verdicts[0].verdict == "unknown"
    assert result.totals.streams == 200, "what nobody knows of is in no count"


def test_nothing_at_all_passes_nothing(run):
    run.claims(*CLAIMS)
    result = run.judge()
    assert {each.verdict for each in result.verdicts} == {"unknown"}
    for file in ROW_FILES:
        (run.directory / file.name).unlink()
    result = judge_directory(run.directory)
    assert {each.verdict for each in result.verdicts} == {"unknown"}


@pytest.mark.parametrize("damage", [gone, newer, beginning_alone], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("file", [FAULTS, STREAMS], ids=lambda file: file.schema)
def test_what_a_lost_file_may_have_shown_of_a_fault_is_not_denied(run, file, damage):
    """Rows that are gone are no sign that a fault did nothing, nor that a stream did not end."""
    run.claims("success >= 1% after refused", "success >= 90%")
    specs = parse_groups([{"kind": "refused", "share": "50%", "after": "1s", "duration": "500ms"}])
    plan = plan_faults(specs, run=RUN, seed=7, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=4)
    run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
    for _ in range(60):
        run.stream(group="clean", start_ms=3_000)
        run.stream(group="refused", start_ms=3_000)
    for step, at_ms in ("applied", 1_000), ("healed", 1_500):
        at_ns = run.at(at_ms).ns
        told = {"group": "refused", "kind": "refused", "window": 0, "at_ns": at_ns, "ok": True}
        run.fault(step, call_sent_ns=at_ns, call_answered_ns=at_ns + MS, **told)
    run.write()
    assert [each.code for each in judge_directory(run.directory).verdicts] == ["fault-not-seen", None]
    damage(run.directory / file.name)
    result = judge_directory(run.directory)
    after, every = result.verdicts
    assert (after.verdict, after.code) == ("unknown", "not-measured"), after.sentence
    assert f"{file.name} is missing or not whole" in after.sentence
    assert [each.acted for each in result.faults] == [None]
    assert not any("did not act" in problem for problem in result.problems)
    assert every.verdict == ("pass" if file is FAULTS else "unknown")


@pytest.mark.parametrize("damage", [torn, rubbish, cut_between_rows], ids=lambda damage: damage.__name__)
def test_ends_that_were_on_record_are_not_called_unfinished_streams_of_the_run(run, damage):
    run.claims("success = 100%")
    run.streams(200)
    damage(run.write() / STREAMS.name)
    (verdict,) = judge_directory(run.directory).verdicts
    assert (verdict.verdict, verdict.code) == ("unknown", "too-few")
    assert "no end on record: streams.jsonl is not whole." in verdict.sentence
    assert "did not end" not in verdict.sentence
    assert verdict.next.startswith("Run again, and keep the whole run directory")


def test_a_healing_that_is_torn_makes_no_reconnection_late(run):
    """It would run from the break: five seconds that were our own fault's."""
    run.claims("reconnect p95 < 1s")
    run.plan.faults = msgspec.Raw(b'{"any": "plan"}')
    healthy_run = [run.stream(breaks=1) for _ in range(60)]
    for record in healthy_run:
        run.break_(record.stream, back_ms=5_000.0)
    run.fault("applied")
    run.fault("healed")
    path = run.write() / FAULTS.name
    assert judge_directory(run.directory).verdicts[0].verdict == "fail"
    torn(path)
    (verdict,) = judge_directory(run.directory).verdicts
    assert (verdict.verdict, verdict.code) == ("unknown", "not-measured")


def test_a_fault_that_our_engine_lost_is_not_said_to_have_had_no_effect(run):
    """It may have acted until then: what is known is that we failed."""
    run.claims("success >= 90%")
    specs = parse_groups([{"kind": "cut", "share": "50%", "after_bytes": 500}])
    plan = plan_faults(specs, run=RUN, seed=7, upstreams={None: "127.0.0.1:9"}, connect_ns=0, at_once=4)
    run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
    run.streams(60)
    run.fault("applied", group="cut", ok=True)
    run.fault("failed", group="cut", ok=False, detail="Toxiproxy is not there.")
    assert invoke(["judge", str(run.write())]) == 0
    (problem,) = (each for each in judge_directory(run.directory).problems if "group cut" in each)
    assert problem == "The fault of group cut could not be kept up or healed: Toxiproxy is not there."
    page = (run.directory / REPORT_NAME).read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "! our failure" in page
    assert "no effect" not in page
