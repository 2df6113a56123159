"""The three clients as tables: every end, every way on, every wait."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.reconnect import (
    BROWSER_RETRY_MS,
    RETRIED_STATUSES,
    RETRY_AFTER_LIMIT_MS,
    RETRY_FLOOR_MS,
    BreakState,
    GiveUp,
    Wait,
    policy,
)
from sseproof.loadtests.settings import Client
from sseproof.rundir.rows import ATTEMPT_ENDS
from sseproof.rundir.units import Duration

MS = 1_000_000


class Highest(Random):
    """The upper edge of the jitter."""

    def random(self):
        return 1.0


class Lowest(Random):
    """The lower edge of the jitter."""

    def random(self):
        return 0.0


def decide(end, *, rng=None, client=None, **state):
    return policy(client or Client()).after(end, BreakState(**state), rng or Highest())


def client(**fields):
    return Client(backoff=Duration(100 * MS), backoff_max=Duration(5000 * MS), **fields)


RESUMABLE = {"got_events": True, "has_last_event_id": True}
CURABLE = {
    "refused", "connect-timeout", "headers-timeout", "first-event-timeout", "idle-timeout", "fin", "rst", "protocol",
}  # fmt: skip


class TestEnds:
    @pytest.mark.parametrize("end", [end for end in ATTEMPT_ENDS if end not in {"status", "eof"}])
    def test_resilient(self, end):
        decision = decide(end, **RESUMABLE)
        assert decision == (Wait(100 * MS, send_last_event_id=True) if end in CURABLE else GiveUp(end))

    @pytest.mark.parametrize("end", [end for end in ATTEMPT_ENDS if end != "eof"])
    def test_browser(self, end):
        decision = decide(end, client=Client(profile="browser"), status=503, **RESUMABLE)
        assert decision == (Wait(3000 * MS, send_last_event_id=True) if end in CURABLE else GiveUp(end))

    @pytest.mark.parametrize("end", ATTEMPT_ENDS)
    def test_legacy(self, end):
        assert decide(end, client=Client(profile="legacy"), **RESUMABLE) == GiveUp("legacy")

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_statuses_that_may_pass(self, status):
        assert isinstance(decide("status", status=status), Wait)

    @pytest.mark.parametrize("status", [None, 201, 204, 206, 301, 304, 400, 401, 403, 404, 410, 501, 505])
    def test_statuses_that_are_final(self, status):
        assert decide("status", status=status) == GiveUp("status")

    def test_the_statuses(self):
        assert {408, 429, 500, 502, 503, 504} == RETRIED_STATUSES

    def test_a_clean_end_is_a_cut_only_where_more_was_to_come(self):
        assert decide("eof", **RESUMABLE) == GiveUp("eof")
        assert isinstance(decide("eof", terminal_known=True, **RESUMABLE), Wait)
        assert isinstance(decide("eof", kind="subscription", **RESUMABLE), Wait)
        assert isinstance(decide("eof", client=Client(profile="browser")), Wait)


class TestBackoff:
    @pytest.mark.parametrize(
        ("failed", "ms"),
        [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1600), (5, 3200), (6, 5000), (7, 5000), (10**9, 5000)],
    )
    def test_doubles_with_each_failed_attempt_up_to_its_limit(self, failed, ms):
        patient = client(retries=10**10)
        assert decide("rst", client=patient, failed_in_a_row=failed, **RESUMABLE).delay_ns == ms * MS
        assert (
            decide("rst", client=patient, failed_in_a_row=failed, rng=Lowest(), **RESUMABLE).delay_ns
            == ms * MS // 2
        )

    def test_before_the_first_event_the_first_wait_is_the_first_one_too(self):
        waits = [decide("refused", client=client(), failed_in_a_row=n).delay_ns for n in (1, 2, 3)]
        assert waits == [100 * MS, 200 * MS, 400 * MS]

    def test_retries_are_failed_attempts_in_a_row(self):
        assert isinstance(decide("rst", client=client(retries=3), failed_in_a_row=2, **RESUMABLE), Wait)
        assert decide("rst", client=client(retries=3), failed_in_a_row=3, **RESUMABLE) == GiveUp("retries")
        assert decide("rst", client=client(retries=0), **RESUMABLE) == GiveUp("retries")
        assert decide("refused", client=client(retries=5), failed_in_a_row=5) == GiveUp("retries")

    def test_a_backoff_of_nothing_stays_nothing(self):
        assert decide("rst", client=Client(backoff=Duration(0)), failed_in_a_row=4, **RESUMABLE).delay_ns == 0

    def test_a_thousand_clients_do_not_come_back_together(self):
        """C32: cut at the same time, not back in the same 100 ms."""
        for state in ({}, {"server_retry_ms": 300}, {"server_retry_ms": 3000}):
            waits = [
                decide(
                    "rst", rng=Random(n), client=Client(backoff=Duration(300 * MS)), **RESUMABLE, **state
                ).delay_ns
                for n in range(1000)
            ]
            assert max(waits) - min(waits) > 100 * MS
            busiest = max(sum(start <= wait < start + 20 * MS for wait in waits) for start in waits)
            assert busiest < 250

    def test_the_same_chance_gives_the_same_wait(self):
        assert decide("rst", rng=Random(7), **RESUMABLE) == decide("rst", rng=Random(7), **RESUMABLE)


class TestServerRetry:
    def test_replaces_the_first_wait_and_is_a_minimum(self):
        assert decide("rst", rng=Lowest(), server_retry_ms=300, **RESUMABLE) == Wait(
            300 * MS, send_last_event_id=True
        )
        assert decide("rst", server_retry_ms=300, **RESUMABLE).delay_ns == 450 * MS

    def test_doubles_from_there(self):
        def wait(n):
            return decide(
                "rst", rng=Lowest(), client=client(), server_retry_ms=3000, failed_in_a_row=n, **RESUMABLE
            ).delay_ns

        assert [wait(n) for n in (0, 1, 2)] == [3000 * MS, 5000 * MS, 5000 * MS]

    def test_a_longer_one_than_our_limit_is_obeyed(self):
        assert (
            decide("rst", rng=Lowest(), server_retry_ms=60_000, failed_in_a_row=2, **RESUMABLE).delay_ns
            == 60_000 * MS
        )

    @pytest.mark.parametrize("retry_ms", [0, 1, RETRY_FLOOR_MS - 1])
    def test_a_tight_loop_is_refused_visibly(self, retry_ms):
        wanted = Wait(RETRY_FLOOR_MS * MS, send_last_event_id=True, clamped=True)
        assert decide("rst", rng=Lowest(), server_retry_ms=retry_ms, **RESUMABLE) == wanted

    def test_at_the_floor_nothing_is_clamped(self):
        assert not decide("rst", server_retry_ms=RETRY_FLOOR_MS, **RESUMABLE).clamped

    @pytest.mark.parametrize(
        ("retry_ms", "ms"), [(None, BROWSER_RETRY_MS), (0, 0), (50, 50), (86_400_000, 86_400_000)]
    )
    def test_browser_obeys_whatever_it_is(self, retry_ms, ms):
        browser = Client(profile="browser", retries=0)
        assert decide("fin", client=browser, server_retry_ms=retry_ms, failed_in_a_row=10**6) == Wait(ms * MS)


class TestRetryAfter:
    @pytest.mark.parametrize("status", sorted(RETRIED_STATUSES))
    def test_is_waited_for_in_full(self, status):
        wait = decide(
            "status", rng=Lowest(), client=client(), status=status, failed_in_a_row=1, retry_after_ms=2000
        )
        assert wait == Wait((2000 + 50) * MS)

    def test_up_to_a_minute(self):
        wait = decide(
            "status", rng=Lowest(), client=client(), status=503, failed_in_a_row=1, retry_after_ms=3_600_000
        )
        assert wait == Wait((RETRY_AFTER_LIMIT_MS + 50) * MS, clamped=True)

    def test_of_an_earlier_answer_is_over(self):
        assert decide("rst", client=client(), retry_after_ms=2000, **RESUMABLE).delay_ns == 100 * MS

    def test_cannot_make_the_wait_negative(self):
        wait = decide("status", client=client(), status=503, failed_in_a_row=1, retry_after_ms=-5000)
        assert wait.delay_ns == 100 * MS


class TestOnCut:
    def test_resume(self):
        assert decide("rst", **RESUMABLE) == Wait(100 * MS, send_last_event_id=True)

    def test_resume_without_an_id_would_double_the_text(self):
        assert decide("rst", got_events=True) == GiveUp("no-id")

    def test_resume_before_any_event_is_a_plain_retry(self):
        assert decide("rst", failed_in_a_row=1) == Wait(100 * MS)

    def test_resume_with_an_id_but_no_event_yet(self):
        assert decide("rst", failed_in_a_row=1, has_last_event_id=True) == Wait(
            100 * MS, send_last_event_id=True
        )

    @pytest.mark.parametrize("has_id", [True, False])
    def test_restart_begins_the_text_anew(self, has_id):
        restart = client(on_cut="restart")
        decision = decide("rst", client=restart, got_events=True, has_last_event_id=has_id)
        assert decision == Wait(100 * MS, restart=True)
        assert decide("rst", client=restart, failed_in_a_row=1, has_last_event_id=has_id) == Wait(100 * MS)

    def test_give_up(self):
        assert decide("rst", client=client(on_cut="give-up"), **RESUMABLE) == GiveUp("give-up")
        assert decide("refused", client=client(on_cut="give-up"), failed_in_a_row=1) == Wait(100 * MS)

    @pytest.mark.parametrize("on_cut", ["resume", "restart", "give-up"])
    def test_the_browser_sends_what_it_has(self, on_cut):
        browser = Client(profile="browser", on_cut=on_cut)
        assert decide("rst", client=browser, got_events=True) == Wait(3000 * MS)
        assert decide("rst", client=browser, **RESUMABLE) == Wait(3000 * MS, send_last_event_id=True)


@given(
    end=st.sampled_from(ATTEMPT_ENDS),
    profile=st.sampled_from(["resilient", "browser", "legacy"]),
    on_cut=st.sampled_from(["resume", "restart", "give-up"]),
    state=st.builds(
        BreakState,
        failed_in_a_row=st.integers(0, 10),
        got_events=st.booleans(),
        has_last_event_id=st.booleans(),
        server_retry_ms=st.none() | st.integers(0, 86_400_000),
        retry_after_ms=st.none() | st.integers(0, 10**9),
        status=st.none() | st.integers(100, 599),
        terminal_known=st.booleans(),
        kind=st.sampled_from(["answer", "subscription"]),
    ),
    seed=st.integers(0, 2**32),
)
def test_every_decision_is_sound(end, profile, on_cut, state, seed):
    settings = Client(profile=profile, on_cut=on_cut)
    decision = policy(settings).after(end, state, Random(seed))
    if isinstance(decision, GiveUp):
        assert decision.reason
        return
    assert profile != "legacy"
    assert end not in {
        "dns",
        "tls",
        "content-type",
        "no-content",
        "too-big",
        "total-timeout",
        "inband-error",
        "terminal",
        "stopped",
    }
    assert not decision.send_last_event_id or (state.has_last_event_id and not decision.restart)
    if profile == "resilient":
        assert state.failed_in_a_row < settings.retries
        # Half of our own first wait, or what the server asks for, but never a tight loop.
        least_ms = 50 if state.server_retry_ms is None else max(state.server_retry_ms, 10)
        assert decision.delay_ns >= least_ms * MS
        if end == "status":
            assert decision.delay_ns >= min(state.retry_after_ms or 0, RETRY_AFTER_LIMIT_MS) * MS
