"""Facts of single streams against the witness, and the units that claims count."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.settings import Target
from sseproof.reference_server.script import Script, spec_for
from sseproof.reports.checks import Scoped, fault_evidence, fault_windows, measure
from sseproof.reports.claims import parse_claim
from sseproof.reports.facts import all_facts, stream_facts
from sseproof.reports.history import read_history
from sseproof.rundir.rows import FaultRow, Instant, LiveEnd, PhasePlan, StreamRecord, WitnessRow

MS = 1_000_000


def facts_of(run):
    return all_facts(read_history(run.write()))


def only(run):
    (facts,) = facts_of(run)
    return facts


def units_of(run, text, variant=None):
    if not run.plan.claims:
        run.claims(text)
    history = read_history(run.write())
    return measure(Scoped(parse_claim(text), variant, history, all_facts(history)))


class TestNumbers:
    def test_a_whole_stream_lost_nothing_and_is_exact(self, run):
        run.witnessed((1, 42))
        facts = only(run)
        assert (facts.outcome, facts.lost, facts.text_exact, facts.intact) == ("complete", 0, True, True)
        assert all(facts.knows(what) for what in ("lost", "doubled", "order", "text", "truncation"))

    def test_a_hole_is_lost_and_the_rest_of_the_text_is_still_exact(self, run):
        run.witnessed((1, 9), (12, 42), lost=0)
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.intact, facts.outcome) == (2, True, True, "damaged")

    def test_what_came_before_the_first_number_received_is_lost(self, run):
        run.witnessed((3, 42), lost=0)  # the client can't know that the numbers begin at 1
        assert only(run).lost == 2

    def test_who_subscribes_to_a_topic_in_between_lost_nothing_that_was_before(self, run):
        """What was meant for a stream begins where the server let it in; what it repeats from before is no gain."""
        run.witnessed((11, 42), lost=None, witness={"meant_first": 11})
        run.witnessed((11, 19), (22, 42), lost=None, witness={"meant_first": 11})
        run.witnessed((9, 19), (22, 42), lost=None, witness={"meant_first": 11})
        assert [(each.lost, each.truth) for each in facts_of(run)] == [
            (0, "witness"),
            (2, "witness"),
            (2, "witness"),
        ]

    def test_a_missing_tail_of_a_cut_stream_is_not_lost(self, run):
        run.witnessed((1, 20), outcome="cut", end="rst")
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (0, True, "cut")

    def test_the_terminal_event_counts_as_received_without_a_number(self, run):
        run.witnessed((1, 41), end="terminal")
        assert only(run).lost == 0

    def test_losing_the_last_event_before_the_terminal_one_is_seen(self, run):
        run.witnessed((1, 40), end="terminal")
        facts = only(run)
        assert (facts.lost, facts.outcome) == (1, "damaged")

    def test_a_clean_end_before_the_last_number_is_truncated(self, run):
        run.witnessed((1, 20), end="eof")
        assert only(run).outcome == "truncated"

    def test_a_held_subscription_is_not_truncated(self, run):
        run.witnessed((1, 20), end="stopped", outcome="held", kind="subscription")
        assert only(run).outcome == "held"

    def test_numbers_that_were_never_meant_are_no_exact_text(self, run):
        run.witnessed((1, 42), text="x")
        run.stream(truth_id=f"{run.plan.run}/-/0", ids=[(1, 60)], text_sha256="0")
        facts = facts_of(run)
        assert [each.text_exact for each in facts] == [False, False]
        assert not any(each.failed for each in facts)

    def test_capped_ranges_keep_the_clients_own_count(self, run):
        run.witnessed((1, 9), ids_capped=True, lost=4)
        facts = only(run)
        assert (facts.lost, facts.text_exact) == (4, None)

    def test_the_server_s_numbers_need_the_server_s_dialect(self, run):
        run.read_as(sequence="json:n", text="json:other")
        run.witnessed((3, 42), lost=0, text="whatever")
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (0, None, "complete")

    def test_text_that_was_read_otherwise_is_not_compared(self, run):
        run.read_as(sequence="id", text="data")
        run.witnessed((1, 42), text="something else")
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (0, None, "complete")

    @given(
        received=st.lists(st.integers(1, 42), min_size=1, unique=True),
        flipped=st.booleans(),
    )
    def test_loss_and_damage_never_hide_each_other(self, received, flipped):
        """Whatever is received of a script, lost counts the holes and the text check sees damage and only damage."""
        numbers = sorted(received)
        ranges = [(number, number) for number in numbers]
        spec = spec_for("mixed", 3, events=40)
        text = Script(spec).text_of(ranges)
        damaged = flipped and bool(text)
        record, rows = _planted(spec, ranges, text[:-1] + "\ufffd" if damaged else text)
        facts = stream_facts(record, rows, _TARGET)
        assert facts.lost == numbers[-1] - len(numbers)
        assert facts.text_exact is not damaged
        assert (facts.outcome == "damaged") == (facts.lost > 0 or damaged or bool(record.fffd))


_TARGET = Target(url="http://x/", sequence="id", text="json:text", terminal="event:done")


def _planted(spec, ranges, text):
    """One record and its witness row without a directory, for hypothesis."""
    now = Instant(1)
    record = StreamRecord(
        stream=0,
        dispatched=now,
        ended=now,
        outcome="held",
        end="stopped",
        kind="subscription",
        events=len(ranges),
    )
    record.ids = list(ranges)
    record.lost = record.doubled = record.reordered = 0
    record.text_chars, record.text_bytes = len(text), len(text.encode())
    record.text_sha256 = hashlib.sha256(text.encode()).hexdigest()
    record.fffd = text.count("\ufffd")
    row = WitnessRow(
        run="r",
        truth_id="t",
        connection=1,
        profile="robust",
        script=spec,
        meant_first=1,
        meant_last=42,
        accepted=now,
    )
    return record, [row]


class TestText:
    def test_damage_without_loss_is_only_damage(self, run):
        whole = Script(spec_for("mixed", 0, events=40)).full_text()
        run.witnessed((1, 42), text=whole[:50] + "\ufffd" + whole[51:])
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.intact, facts.outcome) == (0, False, False, "damaged")

    def test_a_changed_letter_is_damage_although_it_is_good_utf8(self, run):
        whole = Script(spec_for("mixed", 0, events=40)).full_text()
        run.witnessed((1, 42), text="x" + whole[1:])
        assert only(run).text_exact is False

    def test_fffd_that_was_meant_is_no_damage(self, run):
        run.witnessed((1, 42), fffd=2)
        assert only(run).intact

    def test_the_truth_clears_a_stream_that_the_client_called_damaged(self, run):
        run.witnessed((1, 42), fffd=2, outcome="damaged")
        run.witnessed((1, 42), fffd=2, outcome="damaged", kind="subscription", end="stopped")
        run.witnessed((1, 9), (11, 42), outcome="damaged")
        run.witnessed((1, 20), outcome="damaged", end="eof", fffd=1)
        run.stream(outcome="damaged")
        outcomes = [each.outcome for each in facts_of(run)]
        assert outcomes == ["complete", "held", "damaged", "truncated", "damaged"]

    def test_without_truth_fffd_and_ill_formed_bytes_are_damage(self, run):
        run.stream(fffd=1)
        run.stream(defects={"invalid-utf8": 2})
        run.stream(defects={"bad-retry": 5, "id-spaces": 1})
        facts = facts_of(run)
        assert [each.intact for each in facts] == [False, False, True]
        assert [each.outcome for each in facts] == ["damaged", "damaged", "complete"]
        assert not any(each.knows("text") for each in facts)

    @pytest.mark.parametrize(
        ("end", "intact"), [("rst", True), ("fin", True), ("idle-timeout", True), ("eof", False)]
    )
    def test_a_character_cut_by_a_break_is_no_damage(self, run, end, intact):
        cut = run.attempt(end=end)
        run.stream(attempts=[cut], defects={"unterminated-character": 1})
        assert only(run).intact is intact

    def test_reordered_text_is_not_called_damaged(self, run):
        run.witnessed((1, 42), text="out of order", reordered=1)
        facts = only(run)
        assert (facts.text_exact, facts.outcome) == (None, "damaged")
        assert facts.intact


class TestTextWithoutIds:
    """The legacy profile: no numbers, so the text is all there is."""

    @pytest.fixture
    def legacy(self, run):
        run.read_as(sequence="none", text="json:text")
        self.script = Script(spec_for("mixed", 0, events=40))

        def plant(text, *, written=((1, 42),), **fields):
            run.witnessed(text=text, witness={"profile": "legacy", "written": list(written)}, **fields)
            (facts,) = facts_of(run)
            return facts

        return plant

    @pytest.fixture(autouse=True)
    def _unknown_to_the_client(self, run, monkeypatch):
        original = run.stream
        monkeypatch.setattr(
            run,
            "stream",
            lambda **fields: original(**{"lost": None, "doubled": None, "reordered": None, **fields}),
        )

    def test_the_whole_text_is_exact_and_complete(self, legacy):
        facts = legacy(self.script.full_text())
        assert (facts.text_exact, facts.lost, facts.doubled, facts.outcome) == (True, 0, 0, "complete")

    @pytest.mark.parametrize("chars", [0, 1, 57, 200])
    def test_a_cut_stream_is_a_prefix(self, legacy, chars):
        facts = legacy(self.script.full_text()[:chars], outcome="cut", end="fin")
        assert (facts.text_exact, facts.lost, facts.outcome) == (True, 0, "cut")

    def test_what_the_server_never_wrote_is_lost_and_not_damage(self, legacy):
        written = ((1, 9), (13, 42))
        facts = legacy(self.script.text_of(written), written=written)
        assert (facts.text_exact, facts.lost, facts.outcome) == (True, 3, "damaged")

    def test_what_was_not_written_after_a_cut_is_not_lost(self, legacy):
        written = ((1, 9), (13, 42))
        facts = legacy(self.script.text_of([(1, 6)]), written=written, outcome="cut", end="rst")
        assert (facts.text_exact, facts.lost) == (True, 0)

    def test_a_cut_stream_lost_what_was_not_written_before_its_cut_only(self, legacy):
        written = ((1, 3), (5, 20), (25, 42))
        facts = legacy(self.script.text_of([(1, 3), (5, 10)]), written=written, outcome="cut", end="rst")
        assert (facts.text_exact, facts.lost) == (True, 1)

    def test_an_ended_stream_lost_all_that_was_not_written(self, legacy):
        written = ((1, 9), (13, 40), (42, 42))
        facts = legacy(self.script.text_of(written), written=written, end="terminal")
        assert (facts.text_exact, facts.lost) == (True, 4)

    def test_an_end_without_the_last_text_is_loss(self, legacy):
        facts = legacy(self.script.text_of([(1, 40)]), end="terminal")
        assert (facts.lost, facts.outcome) == (1, "damaged")

    def test_a_clean_end_without_the_last_text_is_truncated(self, legacy):
        facts = legacy(self.script.text_of([(1, 30)]), end="eof")
        assert (facts.text_exact, facts.outcome) == (True, "truncated")

    def test_anything_else_is_damage_of_a_kind_that_nobody_can_tell(self, legacy):
        facts = legacy(self.script.full_text()[1:])
        assert (facts.text_exact, facts.lost, facts.doubled, facts.outcome) == (False, None, None, "damaged")

    def test_an_endless_text_is_compared_as_far_as_it_came(self, run):
        run.read_as(sequence="none", text="json:text")
        spec = spec_for("endless", 5)
        text = Script(spec).text_of([(1, 600)])[:3_000]
        for number, shown in enumerate((text, text[:-1] + "\ufffd")):
            run.witness(f"t{number}", spec, written=[])  # what was meant is enough
            run.stream(
                truth_id=f"t{number}", kind="subscription", outcome="held", end="stopped", **run.text(shown)
            )
        assert [each.text_exact for each in facts_of(run)] == [True, False]


class TestWithoutTruth:
    def test_unknown_is_not_zero(self, run):
        run.stream(lost=None, doubled=None, reordered=None)
        facts = only(run)
        assert (facts.lost, facts.doubled, facts.outcome) == (None, None, "complete")
        assert not facts.knows("lost")

    @pytest.mark.parametrize("field", ["lost", "doubled", "reordered"])
    def test_what_the_client_counted_damages_a_good_outcome(self, run, field):
        run.stream(**{field: 1})
        assert only(run).outcome == "damaged"

    def test_a_bad_outcome_stays_what_it_was(self, run):
        run.failed("stalled", "idle-timeout", lost=3)
        assert only(run).outcome == "stalled"

    @pytest.mark.parametrize(
        ("terminal", "dialect", "known"),
        [
            ("event:done", None, True),
            ("none", "plain", False),
            (None, None, False),
            (None, "plain", False),
            (None, "gemini", True),
        ],
    )
    def test_truncation_shows_only_with_a_terminal_marker(self, run, terminal, dialect, known):
        run.read_as(terminal=terminal, dialect=dialect)
        run.stream()
        assert only(run).knows("truncation") is known


def test_a_check_that_raises_marks_its_stream_only(run):
    good = run.witnessed((1, 42))
    spec = spec_for("mixed", 0, events=40)
    run.witness("t", msgspec.structs.replace(spec, kind="from-the-future"))
    run.stream(truth_id="t", ids=[(1, 42)])
    facts = facts_of(run)
    assert [each.failed for each in facts] == ["", "ValueError"]
    assert facts[0].record.stream == good.stream


class TestUnits:
    def test_ttft_runs_from_send_to_the_first_token(self, run):
        run.stream(sent=run.at(10), first_event=run.at(12), first_token=run.at(96))
        measured = units_of(run, "ttft p95 <= 1s")
        assert [unit.value_ns for unit in measured.units] == [86 * MS]
        assert measured.reading == "from send"
        assert measured.beside_ns == []

    def test_ttft_runs_from_the_plan_where_there_is_one_and_the_other_stands_beside(self, run):
        run.stream(intended=run.at(0), sent=run.at(10), first_token=run.at(96))
        measured = units_of(run, "ttft p95 <= 1s")
        assert [unit.value_ns for unit in measured.units] == [96 * MS]
        assert measured.reading == "from plan"
        assert measured.beside_ns == [86 * MS]

    @pytest.mark.parametrize(
        ("limit", "worst", "best", "cause"),
        [
            ("420ms", 0, 1, "rig"),
            ("1s", 1, 1, None),
            ("399ms", 0, 0, None),
            ("400ms", 0, 1, "rig"),
            ("430ms", 1, 1, None),
            ("429ms", 0, 1, "rig"),
        ],
    )
    def test_both_ends_of_the_brackets_are_judged(self, run, limit, worst, best, cause):
        run.stream(sent=run.at(0, 2), first_token=run.at(415, 13))  # 400 to 430 ms
        (unit,) = units_of(run, f"ttft p95 <= {limit}").units
        assert (unit.worst, unit.best, unit.cause) == (worst, best, cause)
        assert unit.width_ns == 30 * MS

    @pytest.mark.parametrize(
        ("limit", "worst", "best", "cause"),
        [("1s", 1, 1, None), ("100ms", 0, 1, "rig"), ("70ms", 0, 0, None)],
    )
    def test_our_own_late_start_is_charged_and_known(self, run, limit, worst, best, cause):
        """Planned at 0, made 30 ms late, answered 80 ms after that: a claim at 1 s holds all the same."""
        planned = Instant(run.at(0).ns, 0, 30 * MS)
        run.stream(intended=planned, sent=run.at(30, 0), first_token=run.at(110, 0))
        (unit,) = units_of(run, f"ttft p95 <= {limit}").units
        assert (unit.worst, unit.best, unit.cause) == (worst, best, cause)
        assert (unit.value_ns, unit.width_ns) == (110 * MS, 30 * MS)

    def test_time_in_our_own_proxy_is_taken_off_the_favourable_end(self, run):
        run.stream(sent=run.at(0), first_token=run.at(1_050), proxy_queue_ns=100 * MS)
        (unit,) = units_of(run, "ttft p95 <= 1s").units
        assert (unit.worst, unit.best, unit.cause) == (0, 1, "rig")

    @pytest.mark.parametrize(
        ("step_ms", "first_token_ms", "worst", "best"),
        [(200, 1_100, 0, 1), (-200, 900, 0, 1), (200, 900, 1, 1), (-200, 1_100, 0, 0), (50, 1_100, 0, 0)],
    )
    def test_a_clock_step_widens_what_spans_it(self, run, step_ms, first_token_ms, worst, best):
        run.stream(sent=run.at(0), first_token=run.at(first_token_ms))
        run.generator(at_ns=run.t0 + 800 * MS, interval_ns=500 * MS, clock_step_ns=step_ms * MS)
        (unit,) = units_of(run, "ttft p95 <= 1s").units
        assert (unit.worst, unit.best) == (worst, best)

    def test_a_clock_step_belongs_to_the_worker_that_saw_it(self, run):
        for worker in (0, 1):
            run.stream(sent=run.at(0), first_token=run.at(1_100), worker=worker)
        run.generator(at_ns=run.t0 + 800 * MS, interval_ns=500 * MS, clock_step_ns=200 * MS, worker=1)
        assert [unit.best for unit in units_of(run, "ttft p95 <= 1s").units] == [0, 1]

    @pytest.mark.parametrize(
        "row", [{"at_ms": 3_000}, {"at_ms": 800, "worker": 1}, {"at_ms": 800, "variant": "other"}]
    )
    def test_a_clock_step_elsewhere_widens_nothing(self, run, row):
        run.stream(sent=run.at(0), first_token=run.at(1_100))
        at_ns = run.t0 + row.pop("at_ms") * MS
        run.generator(at_ns=at_ns, interval_ns=500 * MS, clock_step_ns=200 * MS, **row)
        (unit,) = units_of(run, "ttft p95 <= 1s").units
        assert (unit.worst, unit.best) == (0, 0)

    def test_a_first_token_that_never_came_is_infinite(self, run):
        run.failed("stalled", "first-event-timeout", first_token=None)
        run.failed("unreachable", "refused", sent=None, first_token=None)
        units = units_of(run, "ttft p95 <= 1s").units
        assert [(unit.worst, unit.best, unit.value_ns, unit.reason) for unit in units] == [
            (0, 0, None, "stalled"),
            (0, 0, None, "unreachable"),
        ]

    def test_a_stream_we_stopped_before_its_first_token_is_open_unless_it_was_too_late_already(self, run):
        run.stream(outcome="unfinished", end="stopped", first_token=None, sent=run.at(0), ended=run.at(900))
        run.stream(outcome="unfinished", end="stopped", first_token=None, sent=run.at(0), ended=run.at(1_900))
        units = units_of(run, "ttft p95 <= 1s").units
        assert [(unit.worst, unit.best, unit.cause) for unit in units] == [(0, 1, "unfinished"), (0, 0, None)]

    def test_e2e_of_a_stream_that_failed_is_infinite_and_held_ones_are_left_out(self, run):
        run.stream(sent=run.at(1))
        run.failed()
        run.stream(outcome="held", end="stopped", kind="subscription")
        measured = units_of(run, "e2e p95 <= 3s")
        assert [(unit.worst, unit.value_ns, unit.reason) for unit in measured.units] == [
            (1, 1_999 * MS, ""),
            (0, None, "cut"),
        ]
        assert measured.excluded == 1

    def test_gaps_are_counted_at_both_ends(self, run):
        run.claims("gap p99 <= 250ms")
        run.stream(gaps=run.gaps(10, 20, 249, 251, 400, error_ms=5))
        measured = units_of(run, "gap p99 <= 250ms")
        (unit,) = measured.units
        assert (unit.n, unit.worst, unit.best, unit.cause) == (5, 2, 4, "rig")
        assert measured.streams == 1
        assert measured.longest_gap_ns == 405 * MS

    def test_a_gap_of_exactly_the_limit_is_inside_with_at_most_and_outside_with_less(self, run):
        run.claims("gap p99 <= 250ms", "gap p99 < 250ms")
        run.stream(gaps=run.gaps(250))
        assert [unit.worst for unit in units_of(run, "gap p99 <= 250ms").units] == [1]
        assert [unit.worst for unit in units_of(run, "gap p99 < 250ms").units] == [0]

    def test_a_gap_limit_that_the_run_did_not_count_against_is_not_measured(self, run):
        run.claims("gap p99 <= 250ms")
        run.stream(gaps=run.gaps(10))
        assert units_of(run, "gap p99 <= 33ms").gap_edge_missing

    def test_a_silence_that_the_idle_time_out_ended_is_bad_whatever_the_limit(self, run):
        run.claims("gap p99 <= 60s", "gap p99 <= 250ms")
        gaps = run.gaps(10, 5_000)
        gaps.hi = run.gaps(10, 99_000).hi  # how the client records a gap without an end
        stalled = run.attempt(end="idle-timeout", last_event=run.at(1_000), ended=run.at(6_000))
        run.failed("stalled", "idle-timeout", gaps=gaps, attempts=[stalled])
        for claim in run.plan.claims:
            (unit,) = units_of(run, claim.text).units
            assert (unit.n, unit.worst, unit.best, unit.cause) == (2, 1, 1, None)

    @pytest.mark.parametrize(("end", "silence_ms", "bad"), [
        ("stopped", 900, True),
        ("stopped", 200, False),
        ("total-timeout", 900, True),
        ("rst", 900, False),
    ])  # fmt: skip
    def test_a_silence_in_which_we_ended_a_stream_counts_once_it_is_too_long(self, run, end, silence_ms, bad):
        run.claims("gap p99 <= 250ms")
        last = run.attempt(end=end, last_event=run.at(1_000), ended=run.at(1_000 + silence_ms))
        run.stream(outcome="held", end=end, kind="subscription", gaps=run.gaps(10), attempts=[last])
        measured = units_of(run, "gap p99 <= 250ms")
        assert sum(unit.n for unit in measured.units) == 1 + bad
        assert sum(unit.best for unit in measured.units) == 1
        assert sum(measured.gap_counts) == 1 + bad

    @pytest.mark.parametrize(("step_ms", "worst", "best"), [(300, 1, 2), (-300, 0, 1)])
    def test_a_clock_step_bends_one_gap_of_a_stream(self, run, step_ms, worst, best):
        run.claims("gap p99 <= 250ms")
        run.stream(gaps=run.gaps(10, 400), first_event=run.at(0), last_event=run.at(1_000))
        run.generator(at_ns=run.t0 + 800 * MS, interval_ns=500 * MS, clock_step_ns=step_ms * MS)
        (unit,) = units_of(run, "gap p99 <= 250ms").units
        assert (unit.worst, unit.best, unit.cause) == (worst, best, "rig")

    def test_reconnection_runs_from_the_break_to_the_first_new_event(self, run):
        run.stream(breaks=1)
        run.break_(0, seen_ms=500, back_ms=1_400)
        run.stream(breaks=1)
        run.break_(1, seen=run.at(500, 50), back_ms=1_520)
        units = units_of(run, "reconnect p95 <= 1s").units
        assert [(unit.worst, unit.best, unit.value_ns) for unit in units] == [
            (1, 1, 900 * MS),
            (0, 1, 1_020 * MS),
        ]

    def test_a_stream_that_never_came_back_is_infinite_and_one_that_we_stopped_is_open(self, run):
        run.failed(breaks=1)
        run.break_(0, back_ms=None, gave_up="retries")
        run.stream(outcome="unfinished", end="stopped", breaks=1, ended=run.at(900))
        run.break_(1, seen_ms=500, back_ms=None)
        run.stream(outcome="unfinished", end="stopped", breaks=1, ended=run.at(1_900))
        run.break_(2, seen_ms=500, back_ms=None)
        units = units_of(run, "reconnect p95 <= 1s").units
        assert [(unit.worst, unit.best, unit.cause) for unit in units] == [
            (0, 0, None),
            (0, 1, "unfinished"),
            (0, 0, None),
        ]

    def test_breaks_without_a_row_are_open(self, run):
        run.stream(breaks=2)
        run.break_(0)
        run.start()
        for claim in ("reconnect p95 <= 1s", "recovery >= 90%"):
            units = units_of(run, claim).units
            assert [(unit.worst, unit.best, unit.cause) for unit in units] == [
                (1, 1, None),
                (0, 1, "unfinished"),
                (0, 1, "unfinished"),
            ]

    def test_breaks_without_a_row_are_open_after_a_fault_as_well(self, run):
        """Nobody knows when they were: they may have been what the fault broke, and are none that another row is of."""
        run.fault("applied", group="c", call_sent_ns=run.at(0).ns, call_answered_ns=run.at(0).ns)
        for number in range(60):
            run.stream(breaks=1, group="c")
            run.break_(number, group="c")
        run.claims("recovery >= 90% after cut", "retries p90 <= 3 after cut")
        assert [each.verdict for each in run.judge().verdicts] == ["pass", "pass"]
        for _ in range(30):
            run.failed(breaks=1, group="c")
        run.stream(breaks=1)
        for each in run.judge().verdicts:
            assert (each.verdict, each.n, each.unfinished) == ("unknown", 60, 30)

    def test_a_break_before_the_fault_is_none_without_a_row(self, run):
        run.fault("applied", group="c", call_sent_ns=run.at(600).ns, call_answered_ns=run.at(600).ns)
        run.stream(breaks=2, group="c")
        run.break_(0, seen_ms=500, group="c")
        run.break_(0, seen_ms=700, back_ms=900, number=2, group="c")
        units = units_of(run, "recovery >= 90% after cut").units
        assert [(unit.worst, unit.best, unit.cause) for unit in units] == [(1, 1, None)]

    def test_recovery_is_what_became_of_the_stream(self, run):
        run.stream(breaks=1)
        run.break_(0)
        run.stream(breaks=1, doubled=1)
        run.break_(1)
        run.failed(breaks=1)
        run.break_(2, back_ms=None)
        run.stream(outcome="unfinished", end="stopped", breaks=1)
        run.break_(3)
        units = units_of(run, "recovery >= 90%").units
        assert [(unit.worst, unit.best, unit.reason) for unit in units] == [
            (1, 1, ""),
            (0, 0, "damaged"),
            (0, 0, "cut"),
            (0, 1, "unfinished"),
        ]

    @pytest.mark.parametrize(("claim", "field"), [("lost = 0", "lost"), ("doubled = 0", "doubled")])
    def test_counts_without_truth_are_open_and_violations_are_certain(self, run, claim, field):
        run.stream()
        run.stream(**{field: None})
        run.stream(**{field: 3})
        run.failed("unreachable", "refused", events=0, **{field: None})
        measured = units_of(run, claim)
        assert [(unit.worst, unit.best, unit.cause, unit.amount) for unit in measured.units] == [
            (1, 1, None, 0),
            (0, 1, "truth", 0),
            (0, 0, None, 3),
        ]
        assert measured.excluded == 1

    def test_an_unfinished_stream_can_have_failed_already(self, run):
        run.stream(outcome="unfinished", end="stopped", lost=2)
        run.stream(outcome="unfinished", end="stopped", fffd=1)
        run.stream(outcome="unfinished", end="stopped")
        for claim, best in (("lost = 0", [0, 1, 1]), ("utf8 = 100%", [1, 0, 1])):
            units = units_of(run, claim).units
            assert [unit.best for unit in units] == best
            assert [unit.worst for unit in units] == [0, 0, 0]

    def test_starts_without_an_end_and_drops_are_open(self, run):
        run.claims("success >= 98%", "gap p99 <= 250ms")
        run.stream(gaps=run.gaps(10, 20, 30))
        run.start()
        run.start(dropped=True)
        for claim in ("success >= 98%", "ttft p95 <= 1s", "lost = 0", "utf8 = 100%", "e2e p95 <= 9s"):
            opened = [(unit.best, unit.cause) for unit in units_of(run, claim).units if not unit.worst]
            assert opened == [(1, "unfinished"), (1, "dropped")]
        gaps = units_of(run, "gap p99 <= 250ms").units
        assert [(unit.n, unit.cause) for unit in gaps] == [(3, None), (3, "unfinished"), (3, "dropped")]


class TestScopes:
    def test_group_variant_and_phase_choose(self, run):
        run.variant("before")
        run.variant("after")
        run.stream(variant="before", group="a", phase="p1")
        run.stream(variant="after", group="a", phase="p1")
        run.stream(variant="after", group="b", phase="p1")
        run.stream(variant="after", group="b", phase="p2")
        claims = ["success >= 98%", "success >= 98% in group b", "success >= 98% in phase p2"]
        run.claims(*claims)
        counts = [len(units_of(run, claim, "after").units) for claim in claims]
        assert counts == [3, 2, 1]
        assert len(units_of(run, claims[0], "before").units) == 1

    def test_starts_and_breaks_of_another_variant_are_not_covered(self, run):
        run.variant("before")
        run.variant("after")
        run.stream(variant="after", breaks=1)
        run.break_(0, variant="before")
        run.start(variant="before")
        run.start(variant="before", dropped=True)
        assert len(units_of(run, "success >= 98%", "after").units) == 1
        assert [unit.cause for unit in units_of(run, "recovery >= 90%", "after").units] == ["unfinished"]

    def test_a_start_without_an_end_may_belong_to_any_phase(self, run):
        run.plan.phases = [PhasePlan(name="p1", start_ms=0)]
        run.stream(phase="p1")
        run.start()
        assert len(units_of(run, "success >= 98% in phase p1").units) == 2

    def test_after_a_fault_means_its_groups_from_when_it_acted(self, run):
        run.fault("intent", kind="cut", group="a")
        run.fault("applied", group="a", call_sent_ns=run.t0 + 1_000 * MS)
        run.stream(group="a", start_ms=0, ended=run.at(900))
        run.stream(group="a", start_ms=500)
        run.stream(group="b", start_ms=500)
        assert [unit.stream for unit in units_of(run, "success >= 98% after cut").units] == [1]

    @pytest.mark.parametrize(("kind", "met"), [("latency", [1, 2]), ("refused", [1, 2, 3])])
    def test_who_comes_after_a_fault_that_acted_on_what_passed_has_not_met_it(self, run, kind, met):
        """One that took the link away has something to answer for afterwards, too."""
        common = {"kind": kind, "group": "a", "window": 1}
        run.fault("applied", call_sent_ns=run.t0 + 3_000 * MS, call_answered_ns=run.t0 + 3_001 * MS, **common)
        run.fault("healed", call_sent_ns=run.t0 + 5_000 * MS, call_answered_ns=run.t0 + 5_001 * MS, **common)
        for start_ms in (0, 2_000, 4_900, 5_200):
            run.stream(group="a", start_ms=start_ms)
        run.stream(group="b", start_ms=4_000)
        units = units_of(run, f"success >= 98% after {kind}").units
        assert [unit.stream for unit in units] == met
        for seen_ms in (2_900, 3_100, 5_050, 5_200):
            run.break_(1, seen_ms=seen_ms, number=seen_ms, group="a")
        history = read_history(run.write())
        scoped = Scoped(parse_claim(f"reconnect p95 < 1s after {kind}"), None, history, all_facts(history))
        breaks = [row.number for row in scoped.breaks]
        assert breaks == ([3_100, 5_050] if kind == "latency" else [3_100, 5_050, 5_200])

    def test_reconnection_starts_when_the_link_is_healed(self, run):
        run.fault("applied", fault="f", kind="refused", call_sent_ns=run.t0)
        run.fault("healed", fault="f", kind="refused", call_answered_ns=run.t0 + 5_000 * MS)
        run.stream(breaks=1, ended=run.at(9_000))
        run.break_(0, seen_ms=1_000, back_ms=5_300)
        (unit,) = units_of(run, "reconnect p95 <= 1s").units
        assert (unit.worst, unit.value_ns) == (1, 300 * MS)

    def test_a_cut_keeps_no_link_down(self, run):
        run.fault("applied", fault="f", kind="cut", call_sent_ns=run.t0)
        run.fault("healed", fault="f", kind="cut", call_answered_ns=run.t0 + 5_000 * MS)
        run.stream(breaks=1, ended=run.at(9_000))
        run.break_(0, seen_ms=1_000, back_ms=5_300)
        (unit,) = units_of(run, "reconnect p95 <= 1s").units
        assert (unit.worst, unit.value_ns) == (0, 4_300 * MS)


class TestFaultEvidence:
    def rows(self, *steps, **fields):
        return [
            FaultRow(at_ns=index, fault="f", step=step, kind="cut", **fields)
            for index, step in enumerate(steps)
        ]

    def test_an_applied_fault_acted(self):
        evidence = fault_evidence(self.rows("intent", "applied", "healed"), "cut")
        assert evidence.seen == "acted"
        assert len(evidence.windows) == 1

    def test_no_row_of_the_class_was_not_seen(self):
        assert fault_evidence(self.rows("intent", "applied"), "stall").seen == "not-seen"
        assert fault_evidence([], "cut").seen == "not-seen"

    def test_an_intent_alone_was_not_seen(self):
        assert fault_evidence(self.rows("intent"), "cut").seen == "not-seen"

    def test_a_failed_call_is_the_injectors(self):
        assert fault_evidence(self.rows("intent", "failed"), "cut").seen == "failed"
        assert fault_evidence(self.rows("applied", ok=False), "cut").seen == "failed"

    def test_a_toxic_that_fired_at_nothing_was_not_seen(self):
        rows = [*self.rows("applied"), *self.rows("fired", fired=0)]
        assert fault_evidence(rows, "cut").seen == "not-seen"
        assert fault_evidence([*rows, *self.rows("fired", fired=2)], "cut").seen == "acted"

    def test_a_window_ends_with_the_answer_to_the_heal_call(self):
        rows = [*self.rows("applied", call_sent_ns=5), *self.rows("healed", call_answered_ns=9)]
        (window,) = fault_windows(rows)
        assert (window.since_ns, window.healed_ns) == (5, 9)


class TestLiveAnswers:
    """No script stands behind them: the server says what it wrote, and the digest of the whole at its end."""

    TEXT = "a live answer \U0001f600"

    def live(self, run, *ranges, text=TEXT, connections=None, **fields):
        """A stream that received these numbers of a live answer of 1 to 10, unless its connections say otherwise."""
        number = run._numbers
        truth_id = f"{run.plan.run}/-/{number}"
        end = LiveEnd(last=10, text_sha256=hashlib.sha256(self.TEXT.encode()).hexdigest(), said="stop")
        for place, row in enumerate(connections or [{"written": [(1, 10)], "live": end}], 1):
            run.witness(truth_id, None, **{"connection": place, "meant_last": None, **row})
        return run.stream(**{"truth_id": truth_id, "ids": list(ranges), **run.text(text), **fields})

    def test_a_whole_one_lost_nothing_and_is_exact(self, run):
        self.live(run, (1, 10))
        facts = only(run)
        assert (facts.outcome, facts.lost, facts.truth) == ("complete", 0, "witness")
        assert (facts.text_exact, facts.intact) == (True, True)

    def test_a_hole_is_lost_and_nobody_knows_whether_the_rest_is_exact(self, run):
        self.live(run, (1, 4), (7, 10), lost=0)
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (2, None, "damaged")

    def test_what_came_before_the_first_number_received_is_lost(self, run):
        self.live(run, (3, 10), lost=0)
        assert only(run).lost == 2

    def test_another_text_is_no_exact_one(self, run):
        self.live(run, (1, 10), text="something else")
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (0, False, "damaged")

    def test_a_clean_end_before_the_last_number_is_truncated(self, run):
        self.live(run, (1, 6), end="eof")
        facts = only(run)
        assert (facts.outcome, facts.lost, facts.text_exact) == ("truncated", 0, None)

    def test_a_terminal_event_without_a_number_ends_what_was_written(self, run):
        self.live(run, (1, 9))
        self.live(run, (1, 7))
        assert [(each.lost, each.text_exact) for each in facts_of(run)] == [(0, True), (2, None)]

    def test_a_resumed_one_is_told_by_all_its_connections(self, run):
        end = LiveEnd(last=10, text_sha256=hashlib.sha256(self.TEXT.encode()).hexdigest())
        rows = [
            {"written": [(1, 5)], "end": "client-gone"},
            {"written": [(4, 10)], "meant_first": 4, "live": end},
        ]
        self.live(run, (1, 10), connections=rows)
        self.live(run, (1, 3), (5, 10), connections=rows, lost=0)
        assert [(each.lost, each.text_exact) for each in facts_of(run)] == [(0, True), (1, None)]

    def test_a_restarted_one_is_told_by_its_last_answer(self, run):
        end = LiveEnd(last=4, text_sha256=hashlib.sha256(self.TEXT.encode()).hexdigest())
        earlier = LiveEnd(last=9, text_sha256=hashlib.sha256(b"another").hexdigest())
        rows = [{"written": [(1, 9)], "live": earlier}, {"written": [(1, 4)], "live": end}]
        self.live(run, (1, 4), connections=rows)
        facts = only(run)
        assert (facts.lost, facts.text_exact, facts.outcome) == (0, True, "complete")

    @pytest.mark.parametrize(
        ("said", "outcome", "verdict"),
        [
            ("stop", "complete", "pass"),
            ("length", "complete-limited", "pass"),
            ("content_filter", "declined", "fail"),
        ],
    )
    def test_why_the_model_stopped_is_how_it_ended(self, run, said, outcome, verdict):
        """The event `done` is the same for the client, which reads no reason in it."""
        digest = hashlib.sha256(self.TEXT.encode()).hexdigest()
        for _ in range(80):
            end = LiveEnd(last=10, text_sha256=digest, said=said)
            self.live(run, (1, 10), connections=[{"written": [(1, 10)], "live": end}])
        assert {each.outcome for each in facts_of(run)} == {outcome}
        assert run.one("success >= 90%").verdict == verdict

    def test_a_reason_that_never_arrived_says_nothing_of_a_stream(self, run):
        end = LiveEnd(last=10, said="content_filter")
        rows = [{"written": [(1, 10)], "live": end}]
        self.live(run, (1, 7), connections=rows, lost=None, outcome="cut", end="rst")
        assert only(run).outcome == "cut"

    def test_numbers_that_were_never_written_are_not_vouched_for(self, run):
        rows = [{"written": [(1, 5)], "end": "client-gone"}]
        self.live(run, (1, 7), connections=rows, lost=None, outcome="cut", end="rst")
        facts = only(run)
        assert (facts.lost, facts.truth, facts.text_exact) == (None, None, None)

    def test_one_whose_end_is_not_on_record_has_no_exact_text(self, run):
        rows = [{"written": [(1, 10)], "end": "client-gone"}]
        self.live(run, (1, 10), connections=rows)
        facts = only(run)
        assert (facts.lost, facts.truth, facts.text_exact) == (0, "witness", None)

    def test_more_ranges_than_are_kept_leave_the_client_s_count(self, run):
        self.live(run, (1, 4), ids_capped=True, lost=3)
        facts = only(run)
        assert (facts.lost, facts.truth, facts.text_exact) == (3, "sequence", None)

    def test_without_ids_the_whole_text_or_nothing_is_known(self, run):
        run.read_as(sequence="none", text="json:text", terminal="event:done")
        for text, end in ((self.TEXT, "terminal"), ("another", "terminal"), (self.TEXT[:3], "rst")):
            outcome = "complete" if end == "terminal" else "cut"
            self.live(run, text=text, end=end, outcome=outcome, lost=None, doubled=None, reordered=None)
        assert [(each.lost, each.text_exact, each.outcome) for each in facts_of(run)] == [
            (0, True, "complete"),
            (None, False, "damaged"),
            (None, None, "cut"),
        ]

    def test_loss_without_a_witness_of_it_never_passes(self, run):
        run.read_as(sequence="none", text="json:text", terminal="event:done")
        for _ in range(80):
            self.live(run, text="x", end="rst", outcome="cut", lost=None, doubled=None, reordered=None)
        verdict = run.one("lost = 0")
        assert (verdict.verdict, verdict.code) == ("unknown", "no-truth")
