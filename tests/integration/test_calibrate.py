"""`sseproof calibrate` with a real source and a real generator, briefly, and the warning of a run against what it kept."""

import json
import os
import signal
import uuid

import msgspec
import pytest

from sseproof import calibrate, cli
from sseproof.calibration import Calibration, read, store
from tests.integration.suite import carrying, claims, directory_of, served, sseproof, started, verdict_of

pytestmark = [pytest.mark.integration]

LIGHT_SHARE = 0.4
"""Of a core, for 20 quiet streams or a thousand events a second: six times what they were seen to take."""
TINY = calibrate.Pace(levels=(20, 60), hold_s=1, events_from=1_000, events_s=3)


@pytest.fixture
def sigterm():
    """What the command takes over for its process, which here is the tests'."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.alone
@pytest.mark.usefixtures("sigterm")
def test_a_brief_calibration(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calibrate, "QUICK", TINY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.invoke(["calibrate", "--quick", "--json"]) == 0
    said = capsys.readouterr()
    found = msgspec.json.decode(said.out, type=Calibration)
    assert found == read(os.environ)
    assert found.quick
    for ceiling, lowest in ((found.streams, 20), (found.events_per_s, 1_000)):
        assert ceiling.steps[0].load == lowest
        good = [step.load for step in ceiling.steps if step.good]
        assert ceiling.value == max(good, default=0)
        assert all(step.cpu_share and step.read_lag_p99_ms is not None for step in ceiling.steps if step.good)
        assert all(step.reason for step in ceiling.steps if not step.good)
        # A thousand small events a second are a fiftieth of what a slow core bears, whoever else wants it: what the load
        # costs does not depend on neighbours, and all streams were open.
        shares = [
            step.cpu_share for step in ceiling.steps if step.load == lowest and step.cpu_share is not None
        ]
        assert shares
        assert max(shares) < LIGHT_SHARE
        assert not any("streams were open" in step.reason for step in ceiling.steps)
    if not found.busy:  # then nobody else can be why a step was too much
        assert found.streams.value >= 20
        assert found.events_per_s.value >= 1_000
    assert "events/s: " in said.err
    assert cli.invoke(["setup", "--check", "--json"]) in {0, 70}
    (finding,) = [each for each in json.loads(capsys.readouterr().out) if each["name"] == "calibration"]
    assert found.when in finding["value"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_calibration_leaves_nothing(tmp_path, number, code):
    mark = f"calibrated-{uuid.uuid4()}"
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path), "CALIBRATION_MARK": mark}
    running = started("calibrate", "--quick", cwd=tmp_path, environ=places)
    assert running.stderr is not None
    assert "takes about" in running.stderr.readline()
    assert "500 quiet streams" in running.stderr.readline()
    running.send_signal(number)
    running.communicate(timeout=20)
    assert running.returncode == code
    assert carrying(mark) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_near_the_ceiling_warns_and_says_so_in_its_verdict(tmp_path):
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    small = msgspec.json.decode(SMALL, type=Calibration)
    store(small, environ)
    with served() as url:
        load = ["--target", f"{url}?events=10&interval_ms=10", "--streams", "8", *claims("utf8 = 100%")]
        near = sseproof("run", *load, "--users", "4", cwd=tmp_path, environ=environ)
        sentence = "The plan has 4 streams at once, 80% of what this machine was seen to bear (5, sseproof calibrate of"
        assert sentence in near.stderr
        assert any(sentence in problem for problem in verdict_of(directory_of(tmp_path)).problems)
        before = sseproof("run", *load, "--users", "4", "--dry-run", cwd=tmp_path, environ=environ)
        assert before.stderr.startswith(sentence)
        below = sseproof("run", *load, "--users", "3", "--dry-run", cwd=tmp_path, environ=environ)
        assert below.stderr == ""


SMALL = json.dumps(
    {
        "at_ns": 1,
        "quick": True,
        "machine": {},
        "events_per_s": {"value": 10**6, "limit": "generator", "reason": "late", "steps": []},
        "streams": {"value": 5, "limit": "generator", "reason": "late", "steps": []},
    }
)
