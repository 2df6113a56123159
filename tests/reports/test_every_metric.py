"""Known answers of every further metric: pass, fail, unknown, what is left out, and both ends of what is uncertain."""

import pytest

from sseproof.reports.judge import judge_directory
from sseproof.reports.metrics import METRICS
from sseproof.reports.summary import summary_text

MS = 1_000_000
S = 1_000 * MS


def answer(verdict):
    return verdict.verdict, verdict.code, verdict.k, verdict.n


class TestComplete:
    def test_the_terminal_marker_counts_whatever_was_lost_on_the_way(self, run):
        run.streams(90)
        run.streams(9, lost=1)
        result = run.one("complete >= 95%")
        assert answer(result) == ("pass", None, 99, 99)
        assert result.sentence == "All 99 streams came to their end."

    def test_a_clean_end_without_the_marker_is_no_end(self, run):
        run.streams(60)
        for _ in range(20):
            run.failed("truncated", "eof")
        result = run.one("complete >= 95%")
        assert answer(result) == ("fail", None, 60, 80)
        assert result.sentence == "20 of 80 streams did not come to their end: 20 truncated."

    def test_without_a_known_marker_a_clean_end_tells_nothing(self, run):
        run.read_as(terminal=None, sequence=None)
        run.streams(200, end="eof")
        result = run.one("complete >= 95%")
        assert answer(result) == ("unknown", "no-truth", 0, 0)
        assert "no terminal marker is known" in result.sentence
        assert "target.terminal" in result.next

    def test_the_witness_knows_an_end_without_a_marker(self, run):
        run.read_as(terminal=None)
        run.witnessed((1, 42), end="eof")
        run.witnessed((1, 20), end="eof")
        assert answer(run.one("complete >= 5%")) == ("unknown", "too-few", 1, 2)

    def test_open_subscriptions_have_no_end(self, run):
        run.streams(80, kind="subscription", outcome="held", end="stopped")
        result = run.one("complete >= 95%")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert result.excluded == 80
        assert result.sentence == "80 subscriptions stayed open: an open stream has no end to come to."

    def test_what_we_ended_is_open(self, run):
        run.streams(59)
        run.failed("unfinished", "stopped")
        assert answer(run.one("complete = 100%")) == ("unknown", "too-few", 59, 59)


class TestErrors:
    def planted(self, run, throttled, other=0):
        run.streams(400)
        for _ in range(throttled):
            run.failed("throttled", "status")
        for _ in range(other):
            run.failed("stalled", "idle-timeout")

    def test_one_class_alone_is_counted(self, run):
        self.planted(run, 2, other=30)
        run.claims("errors <= 2% of throttled", "errors <= 2%", "errors <= 2% of idle-timeout")
        throttled, all_, idle = run.judge().verdicts
        assert answer(throttled) == ("pass", None, 430, 432)
        assert answer(all_) == ("fail", None, 400, 432)
        assert answer(idle) == ("fail", None, 402, 432)
        assert all_.sentence == "32 of 432 streams ended so: 30 stalled, 2 throttled."
        assert throttled.sentence == "2 of 432 streams ended so: 2 throttled. Allowed: up to 3."
        assert throttled.p0 == 0.98

    def test_none_at_all(self, run):
        self.planted(run, 0)
        run.claims("errors = 0 of throttled", "errors = 0 over 500")
        none, more = run.judge().verdicts
        assert (none.verdict, more.verdict, more.code) == ("pass", "unknown", "too-few")
        assert none.sentence == "No violation in 400 streams; at most 0.75 % at 95 %."

    def test_one_fails_what_allows_none(self, run):
        self.planted(run, 1)
        assert answer(run.one("errors = 0 of throttled")) == ("fail", None, 400, 401)

    def test_damage_is_a_class_and_a_held_subscription_is_no_error(self, run):
        run.streams(100, kind="subscription", outcome="held", end="stopped")
        run.stream(lost=2)
        run.claims("errors = 0 of damaged", "errors = 0 of eof", "errors = 0")
        assert [each.verdict for each in run.judge().verdicts] == ["fail", "pass", "fail"]

    def test_unfinished_streams_are_open(self, run):
        self.planted(run, 0)
        for _ in range(30):
            run.start()
        assert answer(run.one("errors <= 2% of throttled")) == ("unknown", "too-few", 400, 400)


class TestTtftFromPlanAndFromSend:
    def test_each_names_its_start(self, run):
        run.streams(59, intended=run.at(-2_000))
        run.claims("ttft-plan p95 <= 1s", "ttft-send p95 <= 1s", "ttft p95 <= 1s")
        plan, send, usual = run.judge().verdicts
        assert (plan.verdict, plan.reading, plan.k) == ("fail", "from plan", 0)
        assert (send.verdict, send.reading, send.k) == ("pass", "from send", 59)
        assert (usual.verdict, usual.reading) == ("fail", "from plan")
        assert plan.beside.value_ns == 86 * MS
        assert send.beside is None
        assert plan.sentence == "59 of 59 first tokens took longer than 1 s."

    def test_a_closed_loop_has_no_plan(self, run):
        run.streams(100)
        run.claims("ttft-plan p95 <= 1s", "ttft-send p95 <= 1s")
        plan, send = run.judge().verdicts
        assert answer(plan) == ("unknown", "not-measured", 0, 0)
        assert plan.sentence == "100 streams without a planned start: there is nothing to judge."
        assert "--rate" in plan.next
        assert send.verdict == "pass"

    def test_a_first_token_that_never_came_is_late(self, run):
        run.streams(59)
        for _ in range(9):
            run.failed("stalled", "first-event-timeout", first_token=None)
        assert answer(run.one("ttft-send p95 <= 1s")) == ("fail", None, 59, 68)


class TestTokenRate:
    def rated(self, run, count, tokens, seconds, error_ms=0.0, **fields):
        told = {
            "first_token": run.at(0),
            "last_token": run.at(seconds * 1_000, error_ms),
            "tokens": tokens,
            **fields,
        }
        run.streams(count, **told)

    def test_tokens_after_the_first_by_the_time_until_the_last(self, run):
        self.rated(run, 60, tokens=41, seconds=2)
        result = run.one("token-rate p5 >= 20/s")
        assert answer(result) == ("pass", None, 60, 60)
        assert result.sentence == "All 60 streams had 20/s or more."
        assert (result.figure.unit, result.figure.value, result.figure.q) == ("per-second", 20.0, 0.05)
        assert result.quantile is None
        assert result.limit_ns is None

    def test_a_little_slower_fails_and_more_than_it_is_no_match(self, run, build):
        self.rated(run, 60, tokens=40, seconds=2)
        result = run.one("token-rate p5 >= 20/s")
        assert answer(result) == ("fail", None, 0, 60)
        assert result.sentence == "60 of 60 streams had less than 20/s."
        other = build()
        self.rated(other, 60, tokens=41, seconds=2)
        assert other.one("token-rate p5 > 20/s").verdict == "fail"

    def test_the_quantile_is_of_the_slow_ones(self, run):
        self.rated(run, 95, tokens=101, seconds=1)
        self.rated(run, 5, tokens=11, seconds=1)
        result = run.one("token-rate p10 >= 50/s")
        assert (result.k, result.figure.value) == (95, 100.0)
        assert result.p0 == 0.9

    def test_a_stream_that_did_not_end_well_had_none(self, run):
        self.rated(run, 59, tokens=1_001, seconds=1)
        self.rated(run, 9, tokens=1_001, seconds=1, outcome="cut", end="rst")
        result = run.one("token-rate p5 >= 20/s")
        assert answer(result) == ("fail", None, 59, 68)
        assert result.sentence == "9 of 68 streams did not end well (9 cut)."

    def test_a_bracket_over_the_limit_is_the_rigs(self, run):
        self.rated(run, 100, tokens=41, seconds=2, error_ms=10)
        result = run.one("token-rate p5 >= 20/s")
        assert (result.verdict, result.code, result.k, result.k_best) == ("unknown", "rig-late", 0, 100)

    def test_single_tokens_have_no_rate(self, run):
        self.rated(run, 80, tokens=1, seconds=0)
        result = run.one("token-rate p5 >= 20/s")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert "80 streams with fewer than two tokens" in result.sentence

    def test_an_open_subscription_is_timed_to_its_end(self, run):
        """One that sends ten tokens at once and then nothing has no good rate."""
        held = {"kind": "subscription", "outcome": "held", "end": "stopped", "ended": run.at(10_000)}
        self.rated(run, 60, tokens=11, seconds=0.1, **held)
        assert run.one("token-rate p5 >= 2/s").figure.value == 1.0


class TestStale:
    def aged(self, run, count, stale_ms, **fields):
        told = {"first_token": run.at(0), "ended": run.at(10_000), "stale_ns": stale_ms * MS, **fields}
        run.streams(count, **told)

    def test_a_share_of_each_streams_time(self, run):
        self.aged(run, 58, 0)
        self.aged(run, 1, 500)
        result = run.one("stale p95 <= 5%")
        assert answer(result) == ("pass", None, 59, 59)
        assert result.sentence == "All 59 streams were stale for at most 5 % of their time."
        assert (result.figure.unit, result.figure.value) == ("share", 0.0)

    def test_longer_fails(self, run):
        self.aged(run, 50, 0)
        self.aged(run, 9, 501)
        result = run.one("stale p95 <= 5%")
        assert answer(result) == ("fail", None, 50, 59)
        assert result.sentence == "9 of 59 streams were stale for more than 5 % of their time."

    def test_without_a_token_a_stream_was_stale_all_the_time(self, run):
        self.aged(run, 50, 0)
        self.aged(run, 9, 0, first_token=None, stale_ns=None, outcome="stalled", end="idle-timeout")
        result = run.one("stale p95 <= 5%")
        assert answer(result) == ("fail", None, 50, 59)
        assert result.sentence == "9 of 59 streams had no token (9 stalled)."

    def test_what_we_were_too_late_to_see_is_the_rigs(self, run):
        self.aged(run, 100, 0, stale_ns=None)
        result = run.one("stale p95 <= 5%")
        assert (result.verdict, result.code, result.k, result.k_best) == ("unknown", "rig-late", 0, 100)
        assert "too late to see" in result.next


class TestAge:
    def test_every_event_counts(self, run):
        run.claims("age p99 <= 500ms")
        run.streams(3, ages=run.gaps(*[100] * 100))
        result = run.one("")
        assert answer(result) == ("pass", None, 300, 300)
        assert result.sentence == "All 300 events were at most 500 ms old. The events come from 3 streams."
        assert (result.unit, result.streams) == ("event", 3)

    def test_old_ones_and_lost_ones_are_bad(self, run):
        run.claims("age p99 <= 500ms")
        run.streams(3, ages=run.gaps(*[100] * 90, *[900] * 5), lost=5)
        result = run.one("")
        assert answer(result) == ("fail", None, 270, 300)
        assert result.sentence.startswith("15 of 300 events were older than 500 ms; 15 never came (15 lost).")
        assert result.quantile.value_ns is None

    def test_both_ends_of_the_bracket(self, run):
        run.claims("age p99 <= 500ms")
        run.streams(4, ages=run.gaps(*[495] * 100, error_ms=10))
        result = run.one("")
        assert (result.verdict, result.code, result.k, result.k_best) == ("unknown", "rig-late", 0, 400)

    def test_without_a_send_time_nothing_was_measured(self, run):
        run.streams(100)
        run.start()
        result = run.one("age p99 <= 500ms")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert result.next.startswith("Check the field's name (--set target.sent_at=json:FIELD)"), (
            "it was named"
        )


class TestFanout:
    def test_how_far_behind_the_first(self, run):
        run.claims("fanout p99 <= 200ms")
        run.streams(3, behind=run.gaps(*[100] * 100), topic="t")
        assert answer(run.one("")) == ("pass", None, 300, 300)

    def test_too_far(self, run):
        run.claims("fanout p99 <= 200ms")
        run.streams(3, behind=run.gaps(*[100] * 80, *[300] * 20), topic="t")
        result = run.one("")
        assert answer(result) == ("fail", None, 240, 300)
        assert result.sentence.startswith("60 of 300 events were more than 200 ms behind.")
        assert result.quantile.value_ns == 300 * MS

    def test_without_a_topic(self, run):
        run.streams(100)
        result = run.one("fanout p99 <= 200ms")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert "target.topic" in result.next

    def test_several_workers_can_show_that_it_is_too_far_and_not_that_it_is_near(self, run):
        """A worker whose subscribers are all late, or that has only one, shows nothing of it."""
        run.claims("fanout p99 <= 200ms", "fanout p95 <= 50ms")
        for worker in (0, 1, 1):
            run.stream(behind=run.gaps(*[100] * 200), topic="t", worker=worker)
        near, far = run.judge().verdicts
        assert (near.verdict, near.code, far.verdict) == ("unknown", "not-measured", "fail")
        assert near.next.startswith("Run again with --workers 1, or claim age")
        for each in (near, far):
            assert (
                "within each of 2 workers: what all those of one received late does not show."
                in each.sentence
            )

    def test_one_worker_knows_all_its_subscribers(self, run):
        run.claims("fanout p99 <= 200ms")
        run.streams(3, behind=run.gaps(*[100] * 200), topic="t")
        run.stream(worker=1)
        result = run.one("")
        assert result.verdict == "pass"
        assert "workers" not in result.sentence


class TestHeartbeat:
    def test_the_longest_silence_of_each_stream(self, run):
        run.claims("heartbeat p95 <= 20s")
        run.streams(59, heartbeat_gaps=run.gaps(15_000, 20_000))
        result = run.one("")
        assert answer(result) == ("pass", None, 59, 59)
        assert result.sentence == "All 59 streams were silent for at most 20 s."

    def test_one_too_long_is_enough_for_a_stream(self, run):
        run.claims("heartbeat p95 <= 20s")
        run.streams(50, heartbeat_gaps=run.gaps(15_000))
        run.streams(9, heartbeat_gaps=run.gaps(1_000, 20_100))
        result = run.one("")
        assert answer(result) == ("fail", None, 50, 59)
        assert "9 of 59 streams were silent for longer than 20 s without a heartbeat" in result.sentence

    def test_a_silence_that_had_none(self, run):
        run.claims("heartbeat p95 <= 20s")
        run.streams(50, heartbeat_gaps=run.gaps(15_000))
        run.streams(5, gaps=run.gaps(30_000))
        silent = run.attempt(last_event=run.at(1_000), ended=run.at(31_000), end="idle-timeout")
        run.streams(4, attempts=[silent])
        result = run.one("")
        assert answer(result) == ("fail", None, 50, 59)
        assert result.sentence == "9 of 59 streams were silent for too long (9 without a heartbeat)."

    def test_where_none_was_due_nothing_was_measured(self, run):
        run.claims("heartbeat p95 <= 20s")
        run.streams(100, gaps=run.gaps(300))
        result = run.one("")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert result.sentence == "100 streams in which no heartbeat was due: there is nothing to judge."


class TestGoodput:
    CLAIM = "goodput >= 95% with ttft <= 1s, gap <= 500ms"

    def test_all_limits_of_one_stream(self, run):
        run.claims(self.CLAIM)
        run.streams(59, gaps=run.gaps(10, 400))
        result = run.one("")
        assert answer(result) == ("pass", None, 59, 59)
        assert result.sentence == "All 59 streams succeeded within all limits."

    def test_the_first_limit_that_is_not_kept_is_the_reason(self, run):
        run.claims(self.CLAIM)
        run.streams(50, gaps=run.gaps(10))
        run.streams(4, gaps=run.gaps(10, 501))
        run.streams(3, first_token=run.at(1_200), gaps=run.gaps(900))
        run.failed("cut", "rst", first_token=run.at(1_200))
        result = run.one("")
        assert answer(result) == ("fail", None, 50, 58)
        assert result.reasons == {"beyond gap <= 500ms": 4, "beyond ttft <= 1s": 3, "cut": 1}
        assert result.sentence.startswith("8 of 58 streams did not succeed within all limits: 4 beyond gap")

    def test_each_alone_would_pass(self, run):
        """What only goodput sees: other streams break other limits."""
        run.claims("success >= 90%", "ttft p90 <= 1s", "goodput >= 90% with ttft <= 1s, gap <= 500ms")
        run.streams(190, gaps=run.gaps(10))
        for _ in range(13):
            run.failed("cut", "rst")
        run.streams(13, first_token=run.at(1_200))
        run.streams(13, gaps=run.gaps(600))
        success, ttft, goodput = run.judge().verdicts
        assert (success.verdict, ttft.verdict) == ("pass", "pass")
        assert answer(goodput) == ("fail", None, 190, 229)

    def test_a_bracket_over_one_limit(self, run):
        run.claims(self.CLAIM)
        run.streams(100, gaps=run.gaps(495, error_ms=10))
        result = run.one("")
        assert (result.verdict, result.code, result.k, result.k_best) == ("unknown", "rig-late", 0, 100)

    def test_what_we_ended_is_open_unless_a_limit_was_broken_already(self, run):
        run.claims(self.CLAIM)
        run.streams(100, gaps=run.gaps(10))
        for _ in range(7):
            run.failed("unfinished", "stopped")
        run.failed("unfinished", "stopped", first_token=run.at(1_200))
        result = run.one("")
        assert (result.verdict, result.code, result.n, result.k, result.unfinished) == (
            "unknown",
            "too-few",
            101,
            100,
            7,
        )

    def test_a_limit_that_nobody_measured_is_never_kept(self, run):
        run.streams(100)
        result = run.one("goodput >= 95% with ttft-plan <= 1s")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert "ttft-plan needs --rate" in result.next

    @pytest.mark.parametrize("tokens", [0, 1])
    def test_a_stream_without_a_rate_keeps_no_rate(self, run, tokens):
        """As the claim about the rate alone says: of such streams nothing is known."""
        first = run.at(87) if tokens else None
        run.streams(100, tokens=tokens, first_token=first, last_token=first)
        result = run.one("goodput >= 95% with token-rate >= 20/s")
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert "token-rate needs two tokens" in result.next

    @pytest.mark.parametrize(
        ("limit", "fields"),
        [
            ("gap <= 500ms", {"events": 1}),
            ("e2e <= 5s", {"kind": "subscription", "outcome": "held", "end": "stopped"}),
            ("token-rate >= 20/s", {"tokens": 1}),
        ],
    )
    def test_a_stream_with_nothing_to_measure_is_left_out_unless_it_breaks_another_limit(
        self, build, limit, fields
    ):
        """Neither good for want of evidence, nor hidden from a limit that it does break, whichever is named first."""
        for limits in (f"{limit}, ttft <= 1s", f"ttft <= 1s, {limit}"):
            run = build()
            run.claims(f"goodput >= 1% with {limits}")
            run.streams(59, gaps=run.gaps(10), last_token=run.at(1_000))
            run.streams(300, **fields)
            run.streams(3, **fields, first_token=run.at(1_200))
            result = run.one("")
            assert answer(result) == ("pass", None, 59, 62)
            assert result.excluded == 300
            assert result.reasons == {"beyond ttft <= 1s": 3}
            assert "300 streams without a measure of a limit" in result.sentence

    def test_where_no_heartbeat_was_due_its_limit_is_kept(self, run):
        run.claims("goodput >= 95% with heartbeat <= 20s")
        run.streams(59, gaps=run.gaps(300))
        assert answer(run.one("")) == ("pass", None, 59, 59)

    @pytest.mark.parametrize(
        ("limit", "good", "bad"),
        [
            ("token-rate >= 20/s", {"tokens": 41}, {"tokens": 40}),
            ("stale <= 5%", {"stale_ns": 100 * MS}, {"stale_ns": 101 * MS}),
            ("attempts <= 1", {"attempts_total": 1}, {"attempts_total": 2}),
            ("e2e <= 2s", {}, {"last_event": 2_002}),
            ("ttft-send <= 100ms", {}, {"first_token": 102}),
            ("age <= 300ms", {"ages": 300}, {"ages": 301}),
            ("heartbeat <= 300ms", {"heartbeat_gaps": 300}, {"heartbeat_gaps": 301}),
        ],
    )
    def test_every_limit_is_heeded(self, run, limit, good, bad):
        run.claims(f"goodput >= 95% with {limit}")

        def fields(changed):
            base = {
                "first_token": 1,
                "last_token": 2_001,
                "ended": 2_001,
                "tokens": 100,
                "stale_ns": 0,
                "ages": 1,
            }
            return {
                name: run.at(value)
                if name in {"first_token", "last_token", "last_event", "ended"}
                else run.gaps(value)
                if name in {"ages", "heartbeat_gaps"}
                else value
                for name, value in {**base, **changed}.items()
            }

        run.streams(59, **fields(good))
        run.streams(9, **fields(bad))
        assert answer(run.one("")) == ("fail", None, 59, 68)


class TestAttempts:
    def test_connections_of_one_stream(self, run):
        run.streams(299, attempts_total=1)
        run.streams(1, attempts_total=3)
        result = run.one("attempts p99 <= 3")
        assert answer(result) == ("pass", None, 300, 300)
        assert (
            result.sentence == "All 300 streams took at most 3 attempts. 1.01 attempts a stream in the mean."
        )
        assert (result.figure.unit, result.figure.value) == ("number", 1.0)

    def test_one_is_not_several(self, run):
        run.streams(300, attempts_total=1)
        assert run.one("attempts p90 <= 1").sentence == (
            "All 300 streams took at most 1 attempt. 1 attempt a stream in the mean."
        )

    def test_too_many(self, run):
        run.streams(80, attempts_total=1)
        run.streams(20, attempts_total=4)
        result = run.one("attempts p99 <= 3")
        assert answer(result) == ("fail", None, 80, 100)
        assert result.sentence.startswith("20 of 100 streams took more than 3 attempts.")
        assert result.figure.value == 4.0

    def test_an_unfinished_stream_could_still_have_taken_more(self, run):
        run.streams(298, attempts_total=1)
        run.failed("unfinished", "stopped", attempts_total=1)
        run.failed("unfinished", "stopped", attempts_total=9)
        result = run.one("attempts p99 <= 3")
        assert (result.n, result.k, result.unfinished) == (299, 298, 1)


class TestBreaks:
    def back(self, run, count, *, headers_ms=600.0, gone=False, attempts=1):
        for _ in range(count):
            number = run.failed("cut", "rst").stream if gone else self.resumed(run, headers_ms)
            run.break_(number, seen_ms=500, back_ms=None if gone else headers_ms + 100, attempts=attempts)

    def resumed(self, run, headers_ms):
        first = run.attempt(ended=run.at(500), end="rst")
        again = run.attempt(number=2, started=run.at(550), headers=run.at(headers_ms), ended=run.at(2_000))
        return run.stream(attempts=[first, again], attempts_total=2, breaks=1).stream

    def test_connected_again_in_time(self, run):
        self.back(run, 99)
        result = run.one("connected >= 95% within 100ms")
        assert answer(result) == ("pass", None, 99, 99)
        assert result.sentence == "All 99 breaks were connected again in time."

    def test_too_late_or_never(self, run):
        self.back(run, 50)
        self.back(run, 5, headers_ms=601)
        self.back(run, 4, gone=True)
        result = run.one("connected >= 95% within 100ms")
        assert answer(result) == ("fail", None, 50, 59)
        assert result.reasons == {"too late": 5, "rst": 4}

    def test_an_answer_that_is_no_stream_does_not_count(self, run):
        first = run.attempt(ended=run.at(500), end="rst")
        refused = run.attempt(number=2, headers=run.at(550), ended=run.at(550), end="status", status=503)
        for _ in range(20):
            number = run.failed("error-http", "status", attempts=[first, refused]).stream
            run.break_(number, back_ms=None)
        assert run.one("connected >= 95% within 100ms").verdict == "fail"

    def test_the_time_counts_from_the_healing_of_a_fault_that_keeps_the_link_down(self, run):
        run.fault("applied", kind="server-restart", call_sent_ns=run.at(450).ns)
        run.fault("healed", kind="server-restart", call_answered_ns=run.at(3_000).ns)
        self.back(run, 59, headers_ms=3_100)
        run.claims("connected >= 95% within 100ms", "connected >= 95% within 99ms")
        assert [each.verdict for each in run.judge().verdicts] == ["pass", "fail"]

    def test_retries_of_one_break(self, run):
        self.back(run, 59, attempts=2)
        run.claims("retries p95 <= 2", "retries p95 < 2")
        kept, broken = run.judge().verdicts
        assert answer(kept) == ("pass", None, 59, 59)
        assert answer(broken) == ("fail", None, 0, 59)
        assert broken.sentence == "59 of 59 breaks took more than 2 attempts."

    @pytest.mark.parametrize(
        "claim", ["connected >= 95% within 1s", "retries p95 <= 2", "reconnect-rate <= 5/s"]
    )
    def test_where_nothing_broke_nothing_was_measured(self, run, claim):
        run.streams(100, attempts=[run.attempt()])
        result = run.one(claim)
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert result.sentence == "No connection broke."

    @pytest.mark.parametrize(
        "claim", ["connected >= 95% within 1s", "retries p95 <= 2", "reconnect-rate <= 5/s"]
    )
    def test_without_the_file_of_breaks_nothing_passes(self, run, claim):
        self.back(run, 80)
        run.claims(claim)
        directory = run.write()
        (directory / "breaks.jsonl").unlink()
        (result,) = judge_directory(directory).verdicts
        assert (result.verdict == "fail") == claim.startswith("reconnect-rate")
        assert result.verdict != "pass"


class TestReconnectRate:
    def herd(self, run, moments_ms, error_ms=0.0):
        for ms in moments_ms:
            again = run.attempt(number=2, started=run.at(ms, error_ms), ended=run.at(ms + 9))
            run.stream(attempts=[run.attempt(), again], attempts_total=2)

    def test_the_worst_second_of_all_streams(self, run):
        self.herd(run, range(0, 100_000, 1_000))
        self.herd(run, [50_100, 50_200, 50_999])
        run.claims("reconnect-rate <= 4/s", "reconnect-rate <= 3/s", "reconnect-rate < 4/s")
        within, above, below = run.judge().verdicts
        assert answer(within) == ("pass", None, 103, 103)
        assert "4 reconnections began within the worst second." in within.sentence
        assert (within.figure.value, within.figure.q, within.unit) == (4.0, None, "attempt")
        assert answer(above) == ("fail", None, 101, 103)
        assert above.sentence.startswith("2 of 103 reconnections began in a second with more than 3.")
        assert below.verdict == "fail"

    def test_a_second_is_half_open(self, run):
        self.herd(run, [0, 1_000, 2_000])
        assert run.one("reconnect-rate <= 1/s over 3").verdict == "pass"

    def test_too_few_show_nothing(self, run):
        self.herd(run, range(0, 58_000, 1_000))
        result = run.one("reconnect-rate <= 50/s")
        assert answer(result) == ("unknown", "too-few", 58, 58)

    def test_instants_that_are_not_exact_count_at_both_ends(self, run):
        self.herd(run, range(0, 100_500, 1_005), error_ms=10)
        result = run.one("reconnect-rate <= 1/s")
        assert (result.verdict, result.code, result.k, result.k_best) == ("unknown", "rig-late", 1, 100)


@pytest.mark.parametrize("name", sorted(METRICS))
class TestOfAll:
    def test_an_empty_run_measures_nothing(self, run, name):
        result = run.one(METRICS[name].example.replace(" after cut", "").replace(" after refused", ""))
        assert answer(result) == ("unknown", "not-measured", 0, 0)
        assert result.sentence
        assert result.next

    def test_streams_of_other_groups_and_phases_are_no_part_of_it(self, run, name):
        """Whatever a metric counts, it counts within the scope."""
        base = METRICS[name].example.partition(" in ")[0].partition(" after ")[0]
        run.claims(base, f"{base} in group mine", f"{base} in phase baseline")
        for group, phase in (
            ("mine", "baseline"),
            ("mine", "later"),
            ("theirs", "baseline"),
            ("theirs", None),
        ):
            for _ in range(10):
                self.rich(run, group, phase)
        all_, mine, baseline = run.judge().verdicts
        assert all_.n
        assert (mine.n, baseline.n) == (all_.n // 2, all_.n // 2)
        assert summary_text(run.judge(), "d")

    @staticmethod
    def rich(run, group, phase):
        """A stream that every metric can count."""
        again = run.attempt(number=2, started=run.at(550), headers=run.at(600), ended=run.at(2_000))
        record = run.stream(
            group=group,
            phase=phase,
            intended=run.at(0),
            last_token=run.at(2_000),
            stale_ns=0,
            attempts=[run.attempt(ended=run.at(500), end="rst"), again],
            attempts_total=2,
            breaks=1,
            topic="t",
            gaps=run.gaps(10, 20),
            ages=run.gaps(10, 20),
            behind=run.gaps(10, 20),
            heartbeat_gaps=run.gaps(10),
        )
        run.break_(record.stream, group=group, phase=phase, attempts=1)
