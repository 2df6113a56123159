"""Defects planted in the careful service of the demo: each turns its own claims red, and no other stream is accused.

Rules:
- Streams are checked against the reference server's witness to the stream: it wrote down whom it treated badly.
- Copies of the demo's own file carry several defects at once, each in a careful stack of its own behind the same faults.
  All streams run at once and are longer than in the demo, so that the link goes away in the middle of each: every
  breaking fault meets streams with and without the defect.
"""

from pathlib import Path
from typing import Final

import pytest

from sseproof.demo import SCENARIO, load_demo
from sseproof.reference_server.misbehave import MODES
from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.rundir.files import BREAKS
from sseproof.rundir.rows import BreakRow
from tests.integration.demos import (
    BREAKING,
    DOUBLED,
    LOST,
    RECONNECT,
    RECOVERY,
    SUCCESS,
    TTFT,
    UTF8,
    Run,
)
from tests.integration.suite import directory_of, rows, sseproof, witnesses

pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(200)]
slow = pytest.mark.slow

RED: Final = {
    "loss": {SUCCESS, LOST, *RECOVERY},
    "utf8": {SUCCESS, UTF8, *RECOVERY},
    "slow": {TTFT},
    "no-resume": {SUCCESS, DOUBLED, *RECOVERY},
    "duplicate": {SUCCESS, DOUBLED, *RECOVERY},
    "truncate": {SUCCESS, RECONNECT, *RECOVERY},
    "stall": {SUCCESS, RECONNECT, *RECOVERY},
    "cut": set(),
}
"""What must fail; nothing else may. A broken stream that ends badly did not recover, and the careful client mends a cut."""
SOMETIMES: Final = {"no-resume": {RECONNECT}}
"""Who starts again comes to something new only after all that is old: how many need more than a second for it is a
matter of when they were broken."""

TOGETHER: Final = (("loss", "utf8", "duplicate", "cut"), ("slow", "no-resume", "truncate", "stall"))
SMALL: Final = (
    # With this seed every mode hits two streams or more of each group that is broken, and `slow` four of the clean one.
    *("--seed", "45"),
    *("--set", "load.streams=60", "--set", "load.users=60"),
    *("--set", "target.url=/api/v1/stream/chat?events=110&interval_ms=40"),
    *("--set", "client.timeouts.idle=3s", "--set", "client.timeouts.total=10s"),
)
ONCE: Final = ('every = "2500ms"\ntimes = 9\n', "")
"""The link goes away once: a stream that starts again and again would otherwise be broken again and again."""


def copied(modes: tuple[str, ...]) -> str:
    """The demo's file with a careful stack for each mode in the place of its two."""
    shared, _, careful = SCENARIO.read_text("utf-8").rpartition("[[variant]]")
    profile = 'profile = "robust"'
    stacks = [
        careful.replace('"after"', f'"{mode}"')
        .replace("judged = true\n", "")
        .replace(profile, f'{profile}\nmisbehave = "{mode}"')
        for mode in modes
    ]
    faults = shared.partition("[[variant]]")[0]
    assert ONCE[0] in faults
    return "[[variant]]".join([faults.replace(*ONCE), *stacks])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Mode → the run that has it. Made when the first test asks, one after the other."""
    made = {}
    for modes in TOGETHER:
        cwd = tmp_path_factory.mktemp("-".join(modes))
        (cwd / "copy.toml").write_text(copied(modes), "utf-8")
        done = sseproof("run", "copy.toml", *SMALL, "--quiet", cwd=cwd)
        assert (cwd / "runs").exists(), done.stdout + done.stderr
        run = Run(cwd, directory_of(cwd), done.returncode, done.stdout, done.stderr)
        made.update(dict.fromkeys(modes, run))
    return made


@slow
@pytest.mark.parametrize("mode", MODES)
def test_a_planted_defect_turns_exactly_its_claims_red(runs, mode):
    answers = runs[mode].answers(mode)
    assert len(answers) == 11
    failed = {claim for claim, answer in answers.items() if answer == "fail"}
    assert failed - SOMETIMES.get(mode, set()) == RED[mode], runs[mode].said()


@slow
@pytest.mark.parametrize("mode", MODES)
def test_nobody_is_accused_but_whom_the_service_treated_badly(runs, mode):
    run = runs[mode]
    hit = treated_badly(run, mode, mode)
    assert len(hit) >= 6
    facts = [each for each in all_facts(read_history(run.directory)) if each.record.variant == mode]
    assert len(facts) == 60
    bad = {each.record.stream for each in facts if not each.good}
    assert bad == (hit if SUCCESS in RED[mode] else set())
    for claim in RED[mode] & {SUCCESS, UTF8, LOST, DOUBLED}:
        assert run.violations(claim, mode) == len(hit)
    broken = [row for row in rows(run.directory, BREAKS) if row.variant == mode]
    assert {row.group for row in broken} >= set(BREAKING)
    lost_for_good = sum(row.stream in bad for row in broken)
    assert run.violations("recovery = 100%", mode) == lost_for_good
    late = {row.stream for row in broken if late_by_the_service(row)}
    assert late <= hit
    assert bool(late) == (mode in {"no-resume", "truncate", "stall"})


def treated_badly(run: Run, mode: str, variant: str) -> set[int]:
    """The streams on which the server acted so, by its own record."""
    truths = {row.truth_id for row in witnesses(run.directory) if mode in row.misbehaved}
    return {row.stream for row in run.streams(variant) if row.truth_id in truths}


def late_by_the_service(row: BreakRow) -> bool:
    """Nothing new within a second, the client's own waits left out."""
    return row.first_new is None or row.first_new.ns - row.seen.ns - sum(row.waits_ns) >= 1_000_000_000


def test_the_option_of_the_demo_plants_it_in_the_judged_service_alone():
    loaded = load_demo(environ={}, sets=[], flags={}, misbehave="loss,utf8")
    planted = {
        each.name: each.server.misbehave
        for each in loaded.resolved.scenario.variant
        if each.server is not None
    }
    assert planted == {"before": "", "after": "loss,utf8"}


def test_the_table_of_the_documents_is_this_one():
    text = (Path(__file__).resolve().parents[2] / "docs" / "scenario.md").read_text("utf-8")
    short = {
        "success": SUCCESS,
        "utf8": UTF8,
        "lost": LOST,
        "doubled": DOUBLED,
        "ttft": TTFT,
        "reconnect": RECONNECT,
    }
    for mode, red in RED.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{mode}` |"))
        words = {word.strip() for word in row.split("|")[3].split(",")} - {"none"}
        claims = {short[word] for word in words - {"recovery"}} | (RECOVERY if "recovery" in words else set())
        assert claims == red, mode
