"""Records made by hand, on which a claim would pass though they can't show it, or fail though nothing is wrong.

Each is judged as a user would judge it: from a run directory, by the same call as `sseproof judge`.
"""

from collections.abc import Callable

import msgspec
import pytest

from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.reports.facts import all_facts
from sseproof.reports.figures import run_figures
from sseproof.reports.history import read_history
from sseproof.rundir.rows import Gaps, PhasePlan
from tests.reports.conftest import MS, T0, RunBuilder, S, at

SUBSCRIPTION = {"kind": "subscription", "outcome": "held", "end": "stopped"}
AWAY = {"kind": "refused", "name": "away", "share": "50%", "after": "2s", "duration": "2s"}
QUIET = {"events": 0, "tokens": 0, "first_event": None, "first_token": None, "last_event": None}


def judged(run: RunBuilder, claim: str) -> tuple[str, str | None]:
    verdict = run.one(claim)
    assert verdict.code != "checker-failed", verdict.sentence
    return verdict.verdict, verdict.code


# --- a clock that was stepped: of the intervals of a stream one holds the step, and nobody knows which ---


def longest_gap(run: RunBuilder, ms: float) -> None:
    run.streams(100, gaps=run.gaps(50, ms))


def longest_age(run: RunBuilder, ms: float) -> None:
    run.streams(100, ages=run.gaps(50, ms))


def longest_beat(run: RunBuilder, ms: float) -> None:
    run.streams(100, **SUBSCRIPTION, heartbeat_gaps=run.gaps(ms))


def stale_time(run: RunBuilder, ms: float) -> None:
    run.streams(100, stale_ns=round(ms * MS))


OF_A_STEP: list[tuple[str, Callable[[RunBuilder, float], None], float, float]] = [
    ("goodput >= 90% with gap <= 250ms", longest_gap, 200, 300),
    ("goodput >= 90% with age <= 250ms", longest_age, 200, 300),
    ("age p98 <= 250ms", longest_age, 200, 300),
    ("heartbeat p90 <= 250ms", longest_beat, 200, 300),
    ("goodput >= 90% with heartbeat <= 250ms", longest_beat, 200, 300),
    ("stale p90 <= 10%", stale_time, 150, 250),
]


@pytest.mark.parametrize(("claim", "fill", "good_ms", "bad_ms"), OF_A_STEP)
class TestAStepOfTheClock:
    def test_without_one_the_rows_decide(self, build, claim, fill, good_ms, bad_ms):
        for ms, wanted in ((good_ms, "pass"), (bad_ms, "fail")):
            run = build()
            run.claims(claim)
            fill(run, ms)
            assert judged(run, claim)[0] == wanted

    def test_backwards_it_may_have_hidden_what_is_too_long(self, run, claim, fill, good_ms, bad_ms):
        run.claims(claim)
        run.generator(clock_step_ns=-S)
        fill(run, good_ms)
        assert judged(run, claim) == ("unknown", "rig-late")

    def test_forwards_it_may_be_what_looks_too_long(self, run, claim, fill, good_ms, bad_ms):
        run.claims(claim)
        run.generator(clock_step_ns=S)
        fill(run, bad_ms)
        assert judged(run, claim) == ("unknown", "rig-late")


@pytest.mark.parametrize("claim", ["gap p90 <= 250ms", "goodput >= 90% with gap <= 250ms"])
@pytest.mark.parametrize(
    ("step_ns", "at_ms", "wanted"), [(0, 0, "fail"), (S, 1_900, "pass"), (S, 900, "fail")]
)
def test_a_silence_that_a_step_may_have_made_is_none(run, claim, step_ns, at_ms, wanted):
    """The last 300 ms of each stream, which then was ended by us."""
    run.claims(claim)
    run.generator(at_ns=T0 + at_ms * MS, interval_ns=100 * MS, clock_step_ns=step_ns)
    for _ in range(100):
        last = run.attempt(headers=at(5), last_event=at(1_700), ended=at(2_000), end="stopped")
        run.stream(**SUBSCRIPTION, gaps=run.gaps(50, 50), last_event=at(1_700), attempts=[last])
    assert judged(run, claim)[0] == wanted


# --- heartbeats that did not come ---


class TestSilence:
    def held(self, run: RunBuilder, *, lasted_ms: float = 61_000, **fields) -> None:
        last = fields.pop("last_ms", None)
        attempt = run.attempt(
            headers=at(5),
            last_event=None if last is None else at(last),
            ended=at(lasted_ms),
            end="stopped",
        )
        run.stream(**SUBSCRIPTION, ended=at(lasted_ms), attempts=[attempt], **fields)

    def test_a_subscription_without_any_sign_of_life_had_none_either(self, run):
        run.claims("heartbeat p90 <= 20s")
        for _ in range(60):
            self.held(run, last_ms=2_000, heartbeat_gaps=run.gaps(15_000, 15_000, 15_000))
        for _ in range(40):
            self.held(run, **QUIET)
        verdict = run.one("heartbeat p90 <= 20s")
        assert (verdict.verdict, verdict.n, verdict.k, verdict.excluded) == ("fail", 100, 60, 0)
        assert "40 of 100 streams were silent for too long (40 without a heartbeat)" in verdict.sentence

    @pytest.mark.parametrize(("lasted_ms", "wanted"), [(121_000, "fail"), (31_000, "pass")])
    def test_heartbeats_that_stopped(self, run, lasted_ms, wanted):
        """One came after 10 s; what followed was silence to the end."""
        run.claims("heartbeat p90 <= 20s")
        for _ in range(100):
            self.held(run, lasted_ms=lasted_ms, last_ms=1_000, events=1, heartbeat_gaps=run.gaps(10_000))
        assert judged(run, "heartbeat p90 <= 20s")[0] == wanted

    @pytest.mark.parametrize(
        ("beats", "wanted"), [([10_000], "fail"), ([19_000] * 4, "pass"), ([19_000] * 3, "fail")]
    )
    def test_a_long_gap_needs_as_many_as_its_length_asks(self, run, beats, wanted):
        run.claims("heartbeat p90 <= 20s")
        for _ in range(100):
            self.held(
                run,
                lasted_ms=102_000,
                last_ms=101_990,
                events=2,
                gaps=run.gaps(90_000),
                heartbeat_gaps=run.gaps(*beats),
            )
        assert judged(run, "heartbeat p90 <= 20s")[0] == wanted

    def test_before_any_event_heartbeats_leave_two_silences(self, run):
        """41 s in which one heartbeat came at a time that no row tells: 20.5 s at least on one side of it."""
        run.claims("heartbeat p90 <= 20s")
        for _ in range(50):
            self.held(run, lasted_ms=41_010, **QUIET, heartbeats=1)
        for _ in range(50):
            self.held(run, lasted_ms=39_000, **QUIET, heartbeats=1)
        verdict = run.one("heartbeat p90 <= 20s")
        assert (verdict.n, verdict.k, verdict.excluded) == (50, 0, 50)


# --- reconnections ---


class TestBack:
    def flapping(self, run: RunBuilder, *windows_s: tuple[float, float]) -> None:
        for number, (since, healed) in enumerate(windows_s, 1):
            told = {"kind": "flapping", "group": "flap", "window": number, "ok": True}
            for step, second in (("applied", since), ("healed", healed)):
                ns = T0 + round(second * S)
                run.fault(step, at_ns=ns, call_sent_ns=ns, call_answered_ns=ns, **told)

    def broke(self, run: RunBuilder, seen_ms: float, back_ms: float, **fields) -> None:
        for number in range(60):
            first = run.attempt(ended=at(seen_ms), end="rst")
            second = run.attempt(number=2, headers=at(back_ms), ended=at(20_000))
            run.stream(group="flap", breaks=1, ended=at(20_000), attempts=[first, second], attempts_total=2)
            run.break_(number, group="flap", seen_ms=seen_ms, back_ms=back_ms, **fields)

    @pytest.mark.parametrize("claim", ["reconnect p90 < 1s", "connected >= 90% within 1s"])
    @pytest.mark.parametrize(
        ("windows", "back_ms", "wanted"),
        [
            ([(9, 10)], 12_300, ("fail", None)),
            ([(9, 10), (13, 14)], 12_300, ("fail", None)),  # down again later on: no excuse
            ([(9, 10), (11, 12)], 12_300, ("unknown", "rig-late")),
            ([(9, 10), (11, 12)], 13_100, ("fail", None)),
            ([(9, 10), (11, 12)], 10_500, ("pass", None)),
            (
                [(9, 10), (11, 12)],
                11_300,
                ("fail", None),
            ),  # it came back while the link was down: that was no obstacle
        ],
    )
    def test_a_link_that_goes_down_again_is_not_charged_to_the_service_alone(
        self, run, claim, windows, back_ms, wanted
    ):
        run.claims(claim)
        self.flapping(run, *windows)
        self.broke(run, 9_010, back_ms)
        assert judged(run, claim) == wanted

    def test_it_says_why_it_does_not_know_and_what_to_do(self, run):
        run.claims("reconnect p90 < 1s")
        self.flapping(run, (9, 10), (11, 12))
        self.broke(run, 9_010, 12_300)
        verdict = run.one("reconnect p90 < 1s")
        assert (
            "60 reconnections may lie on either side of 1 s: the link went down once more" in verdict.sentence
        )
        assert "own measurement" not in verdict.sentence
        assert "more time between its faults" in verdict.next

    @pytest.mark.parametrize(("kept", "wanted"), [(3, "fail"), (2, "unknown")])
    def test_attempts_that_are_not_on_record_may_have_been_connected(self, run, kept, wanted):
        """A row keeps a hundred attempts: of a break after those nobody knows whether an answer began in time."""
        run.claims("connected >= 90% within 1s")
        attempts = [run.attempt(number=n, ended=at(100 * n), end="rst") for n in range(1, kept + 1)]
        for number in range(60):
            run.failed(breaks=1, attempts=attempts, attempts_total=3)
            run.break_(number, attempt=2, seen_ms=200, back_ms=None, gave_up="retries")
        assert judged(run, "connected >= 90% within 1s")[0] == wanted


# --- phases, and what a fault did in them ---


class TestPhases:
    def phased(self, run: RunBuilder, table: dict, *, healed_s: float | None) -> None:
        """Sixty streams of either group in each phase; the fault's group got nowhere while it lasted."""
        specs = parse_groups([table])
        plan = plan_faults(
            specs,
            run="r",
            seed=1,
            upstreams={None: "127.0.0.1:9"},
            connect_ns=0,
            at_once=4,
            load_ms=10_000,
        )
        run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
        run.plan.phases = [
            PhasePlan(name="baseline", start_ms=0, end_ms=2_000),
            PhasePlan(name="fault", start_ms=2_000, end_ms=4_000, groups=["away"]),
            PhasePlan(name="recovery", start_ms=4_000),
        ]
        told = {"fault": "away", "kind": table["kind"], "group": "away", "window": 1, "ok": True}
        for step, second in (("applied", 2.0), ("healed", healed_s)):
            if second is not None:
                ns = T0 + round(second * S)
                run.fault(step, at_ns=ns, call_sent_ns=ns, call_answered_ns=ns, **told)
        for phase, ms in (("baseline", 100), ("fault", 2_500), ("recovery", 4_500)):
            for group in ("clean", "away"):
                for _ in range(60):
                    self.one(run, phase, group, ms)

    def one(self, run: RunBuilder, phase: str, group: str, ms: float) -> None:
        where = {"start_ms": ms, "phase": phase, "group": group}
        if (phase, group) == ("fault", "away"):
            attempt = run.attempt(started=at(ms), ended=at(ms + 1), end="refused")
            run.failed("unreachable", "refused", ended=at(ms + 1), attempts=[attempt], **where, **QUIET)
        else:
            attempt = run.attempt(started=at(ms), connected=at(ms + 1), ended=at(ms + 500))
            run.stream(ended=at(ms + 500), attempts=[attempt], **where)

    @pytest.mark.parametrize(("healed_s", "wanted"), [(4, "pass"), (None, "unknown"), (6, "unknown")])
    @pytest.mark.parametrize("how", ["finished", "running"])
    def test_nobody_recovered_from_a_fault_that_was_not_healed(self, run, healed_s, wanted, how):
        """Streams of that time count in the fault's own phase, whatever was planned."""
        claim = "success >= 95% in phase recovery"
        run.claims(claim)
        self.phased(run, AWAY, healed_s=healed_s)
        assert run.one(claim, how).verdict == wanted

    @pytest.mark.parametrize(("error_ms", "code"), [(0, None), (500, "fault-not-seen")])
    def test_a_fault_that_may_be_our_own_lateness_bears_no_verdict(self, run, error_ms, code):
        claim = "success >= 90% in group away"
        run.claims(claim)
        table = {"kind": "stall", "name": "away", "share": "50%", "after": "2s", "duration": "600ms"}
        self.phased(run, table, healed_s=3)
        run.claims(claim)
        run.plan.phases = []
        for _ in range(600):
            self.stalled(run, error_ms)
        verdict = run.one(claim)
        assert verdict.code == code
        assert ("too late to tell" in verdict.sentence) is (code is not None)

    def stalled(self, run: RunBuilder, error_ms: float) -> None:
        run.stream(start_ms=2_100, ended=at(4_000), group="away", gaps=run.gaps(1_000, error_ms=error_ms))


@pytest.mark.parametrize(("outcome", "worst"), [("complete", 60), ("unfinished", 30)])
def test_what_we_ended_may_have_broken_later(run, outcome, worst):
    run.streams(30)
    run.streams(30, outcome=outcome)
    history = read_history(run.write())
    figures = run_figures(history, all_facts(history), run.plan.variants[0], "here")
    found = figures.shares["unbroken"]
    assert (found.n, found.worst, found.best) == (60, worst, 60)


# --- counts that do not add up, and units that are open ---


@pytest.mark.parametrize(("count", "counted"), [(-5, 5), (5, 50)])
def test_a_histogram_that_holds_more_than_it_says_passes_nothing(run, count, counted):
    run.claims("gap p90 <= 250ms")
    run.streams(100, gaps=Gaps(count=count, longest_lo_ns=1, longest_hi_ns=1, lo=[counted], hi=[counted]))
    verdict = run.one("gap p90 <= 250ms")
    assert (verdict.verdict, verdict.code) == ("unknown", "checker-failed")


@pytest.mark.parametrize("open_", [{"dropped": True}, {}], ids=["dropped", "unfinished"])
def test_streams_that_were_never_seen_to_end_pass_and_fail_nothing(run, open_):
    run.claims("errors <= 1%")
    run.streams(500)
    for _ in range(50):
        run.start(**open_)
    assert judged(run, "errors <= 1%") == ("unknown", "too-few")


def test_subscriptions_without_an_event_show_nothing_of_events(build):
    for claim in ("gap p95 <= 250ms", "lost = 0", "utf8 = 100%", "goodput >= 95% with gap <= 1s"):
        run = build()
        run.claims(claim)
        run.streams(100, **SUBSCRIPTION, **QUIET, lost=None, doubled=None)
        assert judged(run, claim) == ("unknown", "not-measured")


def test_a_fault_that_was_set_when_all_was_over_has_no_effect_to_judge(run):
    run.claims("success >= 90% after cut")
    run.streams(60, group="cut")
    run.fault("applied", group="cut", at_ns=T0 + 100 * S, call_sent_ns=T0 + 100 * S)
    assert judged(run, "success >= 90% after cut")[0] == "unknown"
