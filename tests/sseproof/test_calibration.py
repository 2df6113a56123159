"""The ceiling: found on curves whose answer is known, kept and read back, and a plan held against it."""

import msgspec
import pytest

from sseproof import environment
from sseproof.calibrate import judged
from sseproof.calibration import (
    Calibration,
    Ceiling,
    PlannedLoad,
    Step,
    calibration_path,
    climb,
    machine_key,
    quiet_ramp,
    read,
    search,
    store,
    too_near,
    warning,
)
from sseproof.dry_run import dry_run
from sseproof.planning import asked_rate, planned_load
from sseproof.reference_server.source import SourceRow
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.rows import GeneratorRow
from sseproof.scenario import load_scenario

MOST = ("descriptors", "no more are allowed")


class Curve:
    """A machine that bears loads up to `ceiling`; the tries named in `disturbed` (0 is the first) fail anyhow."""

    def __init__(self, ceiling: float, *, limit="generator", disturbed=(), tries=1_000) -> None:
        self.ceiling = ceiling
        self.limit = limit
        self.disturbed = disturbed
        self.left = tries
        self.loads: list[float] = []

    def measure(self, load: float) -> Step:
        good = load <= self.ceiling and len(self.loads) not in self.disturbed
        self.loads.append(load)
        self.left -= 1
        return Step(load=load, good=good, limit=None if good else self.limit, reason="" if good else "late")

    def searched(self, **more) -> Ceiling:
        asked = {"start": 1_000, "most": 1e8, "most_limit": MOST, "time_left": lambda: self.left > 0, **more}
        return search(self.measure, **asked)


@pytest.mark.parametrize("ceiling", [1_000, 1_001, 1_999, 2_000, 47_000, 3_333_333])
def test_the_ceiling_is_found_to_a_tenth(ceiling):
    curve = Curve(ceiling)
    found = curve.searched()
    assert ceiling / 1.1 <= found.value <= ceiling
    assert (found.limit, found.reason) == ("generator", "late")
    assert len(curve.loads) < 35


@pytest.mark.parametrize("disturbed", [{0}, {3}, {0, 2, 4}, {6}])
def test_what_is_out_once_is_measured_again(disturbed):
    assert Curve(47_000, disturbed=disturbed).searched().value >= 47_000 / 1.1


def test_even_the_lowest_load_may_be_too_much():
    found = Curve(10).searched()
    assert (found.value, found.limit, found.text) == (0, "generator", "fewer than 1,000")


def test_the_most_that_can_be_tried_is_named():
    curve = Curve(1e9)
    found = curve.searched(most=5_000)
    assert (found.value, found.limit, found.reason) == (5_000, *MOST)
    assert curve.loads == [1_000, 2_000, 4_000, 5_000]
    assert found.text == "5,000"


def test_a_source_that_is_the_limit_gives_at_least():
    found = Curve(47_000, limit="source").searched()
    assert found.limit == "source"
    assert found.text == f"at least {found.value:,}"


def test_the_search_ends_with_its_time():
    early = Curve(1e9, tries=3)
    found = early.searched()
    assert (found.value, found.limit) == (4_000, "time")
    rough = Curve(5_000, tries=5)
    found = rough.searched()
    assert (len(rough.loads), found.value, found.limit) == (5, 4_000, "generator")


@pytest.mark.parametrize(
    ("ceiling", "disturbed", "answer"),
    [
        (70, (), (60, "generator")),
        (70, {1}, (60, "generator")),
        (1_000, (), (90, "descriptors")),
        (1_000, {4}, (60, "generator")),
        (5, (), (0, "generator")),
    ],
)
def test_a_climb_ends_after_two_levels_too_many(ceiling, disturbed, answer):
    curve = Curve(ceiling, disturbed=disturbed)
    found = climb([10, 20, 40, 60, 90], curve.measure, MOST)
    assert (found.value, found.limit) == answer


# --- what a step's seconds say ---


def second(**more) -> GeneratorRow:
    shown = {"open_streams": 50, "reads": 500, "read_lag_p99_ns": 1_000_000, "loop_lag_max_ns": 2_000_000}
    return GeneratorRow(at_ns=1, worker=0, pid=1, interval_ns=10**9, **{"cpu_share": 0.4, **shown, **more})


def sent(written: int, left_out: int = 0) -> SourceRow:
    return SourceRow(at_ns=1, open_streams=50, written=written, left_out=left_out, lag_p99_ms=1.0)


@pytest.mark.parametrize(
    ("rows", "source", "limit", "word"),
    [
        ([second()] * 3, [sent(500)] * 3, None, ""),
        ([second(), second(read_lag_p99_ns=30_000_000), second()], [sent(500)] * 3, None, ""),
        (
            [second(), *[second(read_lag_p99_ns=30_000_000)] * 2],
            [sent(500)] * 3,
            "generator",
            "read lag p99 30 ms",
        ),
        ([second(loop_lag_max_ns=101_000_000)] * 3, [sent(500)] * 3, "generator", "loop lag 101 ms"),
        (
            [second(dispatch_lag_p99_ns=11_000_000)] * 3,
            [sent(500)] * 3,
            "generator",
            "dispatch lag p99 11 ms",
        ),
        (
            [second(cpu_share=0.81)] * 3,
            [sent(500)] * 3,
            "generator",
            "CPU of a worker 81.0%, usually at most 80%",
        ),
        ([second(open_streams=49)] * 3, [sent(500)] * 3, "generator", "only 49 streams"),
        ([second()] * 2, [sent(500)] * 3, "generator", "only 2 of 3 seconds"),
        ([second()] * 3, [sent(500), sent(400, left_out=100)], "generator", "100 events found"),
        ([second(cpu_share=0.9)] * 3, [sent(500), sent(400), sent(500)], "source", "wrote only 467 a second"),
    ],
)
def test_what_limits_a_step(rows, source, limit, word):
    step, busy = judged(500, rows, source, 3, 50)
    assert (step.limit, step.good) == (limit, limit is None)
    assert word in step.reason
    assert not busy


@pytest.mark.parametrize("others", [{"run_queue_share": 0.3}, {"steal_share": 0.3}])
def test_others_that_want_the_cores_are_said_and_not_held_against_the_generator(others):
    """Nor left unsaid where they let it tell too few seconds."""
    step, busy = judged(500, [second(**others)] * 3, [sent(500)] * 3, 3, 50)
    assert step.good
    assert busy
    step, busy = judged(500, [second(**others)] * 2, [sent(500)] * 3, 3, 50)
    assert not step.good
    assert busy


# --- on disk ---


def ceiling(value: int, limit="generator") -> Ceiling:
    return Ceiling(value=value, limit=limit, reason="late", steps=[Step(load=value, good=True)])


def calibration(events: Ceiling, streams: Ceiling) -> Calibration:
    at_ns = 1_800_000_000_000_000_000
    return Calibration(at_ns=at_ns, quick=False, machine=machine_key(), events_per_s=events, streams=streams)


KEPT = calibration(ceiling(50_000), ceiling(10_000, "descriptors"))


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_what_is_kept_is_read_back(environ):
    assert read(environ) is None
    path = store(KEPT, environ)
    assert read(environ) == KEPT
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    store(calibration(ceiling(7), ceiling(8)), environ)
    assert read(environ).events_per_s.value == 7


def test_another_machine_or_version_has_its_own(environ, monkeypatch):
    here = calibration_path(environ)
    monkeypatch.setattr("sseproof.calibration.host_facts", lambda: {"cores": "64"})
    there = calibration_path(environ)
    monkeypatch.setattr("sseproof.calibration.versions", lambda: {"sseproof": "9"})
    assert len({here, there, calibration_path(environ)}) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"schema":1}', b'{"schema":"x"}', msgspec.json.encode(KEPT)[:-40]],
)
def test_a_damaged_file_is_a_sentence(environ, content):
    path = store(KEPT, environ)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is damaged: run sseproof calibrate again\.$"):
        read(environ)
    said = warning(PlannedLoad(streams=1, events_per_s=None, processes=1, cores=2), environ)
    assert "is damaged" in said
    finding = environment.calibrated(environ)
    assert (finding.ok, finding.needed) == (False, False)
    assert "is damaged" in finding.advice


def test_a_newer_file_is_a_sentence(environ):
    store(msgspec.structs.replace(KEPT, schema=2), environ)
    with pytest.raises(UsageError, match=r"another version.*run sseproof calibrate again"):
        read(environ)


def test_a_folder_that_can_not_be_written_is_a_sentence(environ, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(RigError, match="XDG_CACHE_HOME"):
        store(KEPT, environ)


def test_setup_says_whether_there_is_one_and_from_when(environ):
    assert "sseproof calibrate" in environment.calibrated(environ).advice
    store(KEPT, environ)
    finding = environment.calibrated(environ)
    assert finding.ok
    assert finding.value == "50,000 events/s and 10,000 quiet streams in one process, measured 2027-01-15"


# --- a plan against it ---


def planned(streams: int, events: float | None = None, processes: int = 1, cores: int = 2) -> PlannedLoad:
    return PlannedLoad(streams=streams, events_per_s=events, processes=processes, cores=cores)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (planned(7_000, 35_000), None),
        (
            planned(7_001),
            ["7,001 streams at once, 70% of", "(10,000, sseproof calibrate of 2027-01-15)", "more workers"],
        ),
        (planned(10, 35_001), ["35,001 events/s, 70% of", "50,000"]),
        (planned(9_000, 60_000), ["60,000 events/s, 120% of"]),
        (planned(14_000, 70_000, processes=2), None),
        (planned(14_001, 70_000, processes=2), ["70% of", "10,000 in each of 2 processes", "more machines"]),
        (planned(14_001, processes=8), ["in each of 2 processes"]),
    ],
)
def test_a_plan_above_seven_tenths_warns(load, words):
    sentence = too_near(load, KEPT)
    if words is None:
        assert sentence is None
    else:
        assert all(word in sentence for word in words), sentence


def test_at_least_so_many_warns_only_beyond_that():
    open_ended = calibration(ceiling(50_000, "source"), ceiling(10_000, "time"))
    assert too_near(planned(10_000, 50_000), open_ended) is None
    assert "at least 10,000" in too_near(planned(10_001), open_ended)
    assert "at least 50,000" in too_near(planned(1, 50_001), open_ended)


def test_where_the_lowest_was_too_much_a_plan_is_held_against_it():
    lowest = [Step(load=500, good=False, limit="generator", reason="late")]
    nothing = msgspec.structs.replace(ceiling(0), steps=lowest)
    found = calibration(nothing, nothing)
    assert too_near(planned(350, 350), found) is None
    assert "351 streams at once, more than 70% of" in too_near(planned(351), found)
    assert "(fewer than 500, sseproof calibrate" in too_near(planned(1, 600), found)
    unknown = msgspec.structs.replace(nothing, limit="source")
    assert too_near(planned(10**6, 10**9), calibration(unknown, unknown)) is None


def scenario(target=None, **load):
    asked = target or {"url": "/api/v1/stream/chat?interval_ms=20"}
    flags = {"server": {}, "target": asked, "load": load}
    return load_scenario(None, environ={}, sets=[], flags=flags)


def test_what_a_scenario_plans():
    resolved = scenario(users=30, duration="5s")
    (variant,) = resolved.scenario.variant
    assert asked_rate(variant) == 50
    load = planned_load(resolved, [30, 20], [50.0, 10.0], 4)
    assert load == PlannedLoad(streams=50, events_per_s=1_700, processes=2, cores=4)
    assert planned_load(resolved, [30, 20], [50.0, None], 4).events_per_s is None


def test_a_dry_run_warns(environ):
    assert dry_run(scenario(users=800, duration="5s"), environ=environ).warning is None
    store(KEPT, environ)
    assert dry_run(scenario(users=600, duration="5s"), environ=environ).warning is None
    assert "40,000 events/s" in dry_run(scenario(users=800, duration="5s"), environ=environ).warning


def test_a_dry_run_of_an_open_loop_estimates_or_says_that_it_can_not(environ):
    """50 starts a second of answers of 200 s are 10,000 at once, with room more than the calibration knows."""
    long = {"url": "/api/v1/stream/chat?interval_ms=2000&events=101"}
    crowded = scenario(long, rate=50.0, duration="300s", max_open=20_000)
    assert dry_run(crowded, environ=environ).warning is None
    store(KEPT, environ)
    assert "of what this machine was seen to bear" in dry_run(crowded, environ=environ).warning
    few = dry_run(scenario(long, rate=1.0, duration="300s"), environ=environ)
    assert (few.warning, few.unknown_load) == (None, None)
    unknown = dry_run(scenario(rate=5.0, duration="5s"), environ=environ)
    assert unknown.warning is None
    assert "known only after the look" in " ".join(unknown.to_text().split())


def test_the_ramp_of_quiet_streams_holds_each_level_and_keeps_one_start_for_the_end():
    load = quiet_ramp([(800, 5.0), (2_400, 60.0)], idle_s=3.0)
    stages = [(stage.duration.ns / 1e9, stage.rate) for stage in load.stages]
    assert stages == [(3, 0), (1, 800), (5, 0), (2, 800), (60, 0), (1, 1)]
    assert load.max_open == 2_401
