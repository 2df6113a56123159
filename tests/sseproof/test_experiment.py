"""The experiment's own decisions, without a process or a connection."""

import signal
from pathlib import Path

import pytest

from sseproof.experiment import Experiment, Interruption, _preflight_sentence
from sseproof.loadtests.settings import adopted
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import RUN_NAME, read_document
from sseproof.rundir.rows import AddressPlan, PreflightResult, RunInfo
from sseproof.scenario import load_scenario
from tests.reports.made_runs import one_variant


def experiment(folder: Path, text: str, *sets: str) -> Experiment:
    path = folder / "scenario.toml"
    path.write_text(text)
    resolved = load_scenario(path, environ={}, sets=list(sets), flags={})
    return Experiment(resolved, {}, Interruption(), quiet=True, notes=())


TWO_ON_ONE_HOST = """
[target]
url = "https://93.184.216.34/stream"
allow = ["93.184.216.34"]
[load]
users = 50
[[variant]]
name = "one"
[[variant]]
name = "other"
"""
"""A literal address needs no name server, and nothing is contacted."""


def test_consent_is_asked_for_all_variants_together(tmp_path):
    with pytest.raises(UsageError, match=r"100 streams at once .*--allow-load 100"):
        experiment(tmp_path, TWO_ON_ONE_HOST)._checked_services()
    services = experiment(tmp_path, TWO_ON_ONE_HOST, "target.allow_load=100")._checked_services()
    assert services == [AddressPlan(host="93.184.216.34", port=443)] * 2


def test_a_server_of_our_own_needs_no_consent(tmp_path):
    assert experiment(tmp_path, "[server]\n[load]\nusers = 500")._checked_services() == [None]


def test_everything_that_is_adopted_from_the_look_is_said(tmp_path):
    (variant,) = experiment(tmp_path, '[target]\nurl = "http://127.0.0.1:9/s"')._scenario.variant
    seen = PreflightResult(
        ok=True, kind="answer", events=7, terminal="data:[DONE]", sequence="json:n", text="json:t.x"
    )
    sentence = _preflight_sentence(variant, seen)
    adopting = adopted(variant.target, seen)
    for word in ("an answer", "7 events", adopting.terminal, adopting.sequence, adopting.text):
        assert word in sentence


@pytest.mark.parametrize(
    ("interrupted", "problem", "code", "how"),
    [
        (signal.SIGINT, "broken", 130, "interrupted"),
        (signal.SIGTERM, "broken", 143, "terminated"),
        (signal.SIGINT, "", 130, "interrupted"),
        (None, "broken", 70, "failed"),
        (None, "", 1, "finished"),
    ],
)
def test_an_interrupt_outranks_a_broken_rig_and_that_a_failed_claim(
    tmp_path, interrupted, problem, code, how
):
    """The recorded run has a claim that fails."""
    (tmp_path / "run").mkdir()
    directory = one_variant(tmp_path / "run")
    ended = experiment(tmp_path, '[target]\nurl = "http://127.0.0.1:9/s"')
    ended._directory = directory
    ended._info = read_document(directory / RUN_NAME, RunInfo, "run")
    ended._interruption.signal = interrupted
    result = ended._finished(problem)
    assert result.verdict.exit_code == 1
    assert result.exit_code == code
    assert read_document(directory / RUN_NAME, RunInfo, "run").how == how
