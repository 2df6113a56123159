"""Runs that go on until they are decided: what is registered, what is refused, and when no further stream is needed."""

import pytest

from sseproof.dry_run import dry_run
from sseproof.progress import Counts
from sseproof.reports.history import read_history
from sseproof.reports.looks import planned_looks
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import ENOUGH_NAME
from sseproof.scenario import load_scenario
from sseproof.until import LookWatch, extended
from tests.reports.conftest import RunBuilder

URL = "http://127.0.0.1:9/stream"


def load(tmp_path, text="", **flags):
    path = tmp_path / "s.toml"
    path.write_text(f'{text}\n[target]\nurl = "{URL}"\n')
    return load_scenario(path, environ={}, sets=[], flags=flags)


def until(tmp_path, text="", claims=("success >= 98%",), load_=None, **flags):
    told = {
        "until_decided": True,
        "max_duration": "2m",
        "claims": list(claims),
        "load": load_ or {"streams": 300},
    }
    return extended(load(tmp_path, text, **{**told, **flags}))


@pytest.mark.parametrize(
    ("load_", "claims", "first"),
    [
        ({"streams": 300}, ("success >= 98%",), 300),
        ({"rate": 5.0, "duration": "40s"}, ("success >= 98%",), 200),
        ({"users": 5, "duration": "10s"}, ("success >= 98%",), 183),
        ({"users": 5, "duration": "10s"}, ("success >= 98%", "ttft p99 <= 1s"), 368),
        ({"users": 5, "duration": "10s"}, ("lost = 0",), 59),
        ({"users": 5, "duration": "10s"}, ("recovery >= 90%",), 100),
    ],
)
def test_the_planned_number_is_the_first_look(tmp_path, load_, claims, first):
    resolved = until(tmp_path, claims=claims, load_=load_)
    assert resolved.looks == planned_looks(first)
    (variant,) = resolved.scenario.variant
    assert (variant.load.streams, variant.load.duration.seconds) == (None, 120.0)


def test_a_claim_on_a_group_plans_for_its_share(tmp_path):
    fault = '[[fault]]\nname = "gone"\nkind = "cut"\nshare = "20%"\nafter_bytes = 600\n'
    resolved = until(
        tmp_path, fault, claims=("success >= 98% in group gone",), load_={"users": 5, "duration": "10s"}
    )
    assert resolved.looks[0].streams == 183 * 5


def test_faults_that_come_and_go_keep_their_times(tmp_path):
    fault = '[[fault]]\nname = "gone"\nkind = "refused"\nshare = "20%"\nafter = "2s"\nduration = "1s"\n'
    resolved = until(tmp_path, fault, claims=("success >= 98% in phase baseline", "recovery = 100%"))
    assert [phase.name for phase in resolved.phases] == ["baseline", "fault", "recovery"]
    assert resolved.phases[-1].end_ms is None
    assert resolved.looks[0].streams == 300


def test_without_it_nothing_changes(tmp_path):
    resolved = load(tmp_path, claims=["success >= 98%"])
    assert extended(resolved) is resolved
    assert resolved.looks == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_duration": None}, ["until_decided", "--max-duration"]),
        ({"until_decided": False}, ["max_duration (2m)", "--until-decided"]),
        ({"claims": []}, ["no claim", "--claim"]),
        ({"load_": {"duration": "2m"}}, ["not above load.duration (2m)"]),
        ({"load_": {"duration": "30s", "warmup": "5s"}}, ["load.warmup"]),
        ({"load_": {"stages": [{"duration": "30s", "rate": 5.0}]}}, ["load.stages"]),
        ({"load_": {"rate": 100_000.0, "duration": "1s"}}, ["10,000,000 starts"]),
        ({"text": '[phases]\nbaseline = "10s"\nrest = "20s"\n'}, ["phases"]),
    ],
)
def test_what_can_not_go_on_is_refused(tmp_path, changed, words):
    with pytest.raises(UsageError) as caught:
        until(tmp_path, **changed)
    for word in words:
        assert word in str(caught.value)


def test_the_dry_run_says_when_it_looks_and_what_the_first_look_can_say(tmp_path):
    resolved = until(tmp_path, claims=("success >= 98%", "gap p99 <= 1s"))
    plan = dry_run(resolved)
    text = " ".join(plan.to_text().split())
    assert "looked at after 300, 600, 1,200, 2,400 streams and at the end" in text
    success, gap = plan.claims
    assert (success.plan.n, success.plan.needed_n, success.plan.allowed_failures) == (300, 183, 1)
    assert (gap.plan.n, gap.at_looks) == (None, None)
    assert success.plan.chance_if_good.passes < 0.6
    assert success.at_looks.passes > 0.99
    assert f"At one of the looks before the end: pass {success.at_looks.passes:.1%}, fail" in text


@pytest.fixture
def run(tmp_path):
    builder = RunBuilder(tmp_path)
    yield builder
    builder.close()


class TestWatch:
    """The record decides, and only at whole looks."""

    def watch(self, run, *claims):
        run.claims(*(claims or ("success >= 90%",)))
        run.plan.looks = planned_looks(40)
        self.now = 0.0
        self.reads = 0

        def read():
            self.reads += 1
            return read_history(run.write("running"))

        return LookWatch(run.plan, run.directory, read, lambda: self.now)

    def test_it_does_not_read_before_a_look_can_be_whole(self, run):
        watch = self.watch(run)
        assert not watch.enough(Counts(started=80, ended=39))
        assert self.reads == 0

    def test_a_pass_at_the_first_look_is_enough_once(self, run):
        watch = self.watch(run)
        run.streams(40)
        assert watch.enough(Counts(started=40, ended=40))
        assert (run.directory / ENOUGH_NAME).exists()
        assert not watch.enough(Counts(started=90, ended=90))

    def test_a_look_with_a_stream_missing_is_taken_later(self, run):
        watch = self.watch(run)
        for number in (*range(39), 40):
            run.stream(stream=number)
        assert not watch.enough(Counts(started=41, ended=40))
        run.stream(stream=39)
        self.now += 0.5
        assert not watch.enough(Counts(started=41, ended=41))
        assert self.reads == 1
        self.now += 0.6
        assert watch.enough(Counts(started=41, ended=41))

    def test_undecided_it_goes_on_to_the_next_look(self, run):
        watch = self.watch(run)
        run.streams(39)
        run.failed()
        assert not watch.enough(Counts(started=40, ended=40))
        self.now += 2
        assert not watch.enough(Counts(started=79, ended=79))
        run.streams(40)
        assert watch.enough(Counts(started=80, ended=80))
        assert self.reads == 2

    def test_a_failing_claim_is_enough_whatever_the_others_say(self, run):
        watch = self.watch(run, "success >= 90%", "ttft p50 <= 1ms", "reconnect p95 <= 1s")
        run.streams(40)
        assert watch.enough(Counts(started=40, ended=40))

    def test_an_unknown_one_is_not(self, run):
        watch = self.watch(run, "success >= 90%", "reconnect p95 <= 1s")
        run.streams(40)
        assert not watch.enough(Counts(started=40, ended=40))
        assert not (run.directory / ENOUGH_NAME).exists()

    def test_after_the_last_numbered_look_only_the_end_is_left(self, run):
        watch = self.watch(run, "success >= 90%", "reconnect p95 <= 1s")
        run.streams(320)
        for _ in range(6):
            self.now += 2
            assert not watch.enough(Counts(started=320, ended=320))
        assert self.reads == 4
