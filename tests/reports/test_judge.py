"""verdict.json: what is in it, its schema, the same bytes each time, and how long a large run takes."""

import json
import time
from pathlib import Path

import jsonschema
import msgspec
import pytest

from sseproof.cli import invoke
from sseproof.reports.judge import (
    SCHEMA_NAME,
    RunVerdict,
    decision_sentence,
    exit_code,
    judge_directory,
    schema_text,
    write_verdict,
)
from sseproof.reports.verdicts import Verdict
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.files import VERDICT_NAME
from sseproof.rundir.rows import Attempt

MS = 1_000_000
SCHEMA = Path(__file__).resolve().parents[2] / "reports" / SCHEMA_NAME
ALL_CLAIMS = (
    "success >= 98%",
    "ttft p95 <= 1s",
    "gap p99 <= 250ms",
    "e2e p95 <= 3s",
    "reconnect p95 < 1s",
    "recovery = 100%",
    "lost = 0",
    "doubled = 0",
    "utf8 = 100%",
)


def of(*answers, counts=True):
    return [
        Verdict(claim="success >= 98%", metric="success", form="share", verdict=answer, counts=counts)
        for answer in answers
    ]


class TestExitCode:
    @pytest.mark.parametrize(
        ("answers", "on_unknown", "code"),
        [
            ([], "fail", 0),
            (["pass", "pass"], "fail", 0),
            (["pass", "fail", "unknown"], "fail", 1),
            (["fail"], "warn", 1),
            (["unknown", "pass"], "fail", 2),
            (["unknown", "pass"], "warn", 0),
        ],
    )
    def test_fail_outranks_unknown_outranks_pass(self, answers, on_unknown, code):
        assert exit_code(of(*answers), on_unknown) == code

    def test_variants_that_are_only_shown_do_not_count(self):
        assert exit_code(of("fail", "unknown", counts=False) + of("pass")) == 0


class TestDecision:
    @pytest.mark.parametrize(
        ("answers", "sentence"),
        [
            ([], "No claim was given; 412 streams were measured."),
            (["pass"], "1 of 1 claim holds."),
            (["pass"] * 3, "3 of 3 claims hold."),
            (["fail"], "Do not release: 1 of 1 claim fails."),
            (
                ["fail", "pass", "pass", "pass", "unknown", "pass"],
                "Do not release: 1 of 6 claims fails, 1 is unknown.",
            ),
            (["fail", "fail", "unknown", "unknown"], "Do not release: 2 of 4 claims fail, 2 are unknown."),
            (["unknown", "pass", "pass"], "Not decided: 1 of 3 claims is unknown, 2 hold."),
            (["unknown", "unknown"], "Not decided: 2 of 2 claims are unknown."),
        ],
    )
    def test_one_sentence(self, answers, sentence):
        assert decision_sentence(of(*answers), "fail", 412) == sentence

    def test_a_warning_says_so(self):
        assert decision_sentence(of("unknown", "pass"), "warn", 1) == (
            "1 of 2 claims holds, 1 is unknown (a warning here)."
        )
        assert (
            decision_sentence(of("unknown"), "warn", 1)
            == "0 of 1 claim holds, 1 is unknown (a warning here)."
        )


class TestDocument:
    @pytest.fixture
    def planted(self, run):
        """A run with something of everything in it."""
        run.claims(*ALL_CLAIMS)
        run.info.labels = {"z": "1", "a": "2"}
        run.info.versions = {"sseproof": "0.1.0"}
        for seed in range(70):
            run.witnessed((1, 42), seed=seed, group="a" if seed % 2 else "b", gaps=run.gaps(35, 40, 300))
        cut = Attempt(number=1, address="127.0.0.1:1", started=run.at(0), ended=run.at(500), end="rst")
        run.failed(attempts=[cut], breaks=1)
        run.break_(70, back_ms=None)
        run.failed("stalled", "idle-timeout", first_token=None, fffd=1)
        run.stream(outcome="held", lost=None)
        run.stream(warmup=True)
        run.start()
        run.start(dropped=True)
        run.generator(
            reads=1_000, unstamped_reads=1, coalesced_reads=100, read_lag_p99_ns=48 * MS, cpu_share=0.5,
            clock_step_ns=-2 * MS, rig_error="too much",
        )  # fmt: skip
        return run

    def test_it_counts_what_happened(self, planted):
        result = planted.judge()
        assert result.totals.streams == 74
        assert result.totals.good == 71
        assert result.totals.outcomes == {
            "complete": 70, "cut": 1, "dropped": 1, "held": 1, "stalled": 1, "unfinished": 1,
        }  # fmt: skip
        assert next(iter(result.totals.outcomes)) == "complete"
        assert result.totals.ends == {"rst": 1}
        assert (result.totals.breaks, result.totals.warmup, result.totals.events) == (1, 1, 73 * 50)
        assert (result.run, result.seed, result.scenario, result.how) == (
            planted.plan.run,
            7,
            "planted",
            "finished",
        )
        assert result.command == ["sseproof", "run", "--seed", "7"]
        assert list(result.labels) == ["a", "z"]
        assert [verdict.claim for verdict in result.verdicts] == list(ALL_CLAIMS)
        assert result.exit_code == 1
        assert result.ended_ns is not None

    def test_outcomes_and_ends_come_most_frequent_first(self, run):
        run.failed("cut", "rst", attempts=[run.attempt(end="fin")])
        for _ in range(2):
            run.failed("truncated", "eof", attempts=[run.attempt(end="rst")])
        totals = run.judge().totals
        assert list(totals.outcomes.items()) == [("truncated", 2), ("cut", 1)]
        assert list(totals.ends.items()) == [("rst", 2), ("fin", 1)]

    def test_a_run_without_claims_is_0(self, run):
        run.streams(3)
        result = run.judge()
        assert (result.exit_code, result.decision) == (0, "No claim was given; 3 streams were measured.")

    def test_what_the_plan_fixed_stands_beside_what_was_counted(self, run):
        run.streams(3)
        run.claims("success >= 98%", "gap p99 <= 1s")
        run.plan.claims[0].planned_n = 4
        assert [(each.planned_n, each.n) for each in run.judge().verdicts] == [(4, 3), (None, 0)]

    def test_on_unknown_warn_comes_from_the_plan(self, run):
        run.streams(3)
        run.claims("success >= 98%")
        assert run.judge().exit_code == 2
        run.plan.on_unknown = "warn"
        assert run.judge().exit_code == 0

    @pytest.mark.parametrize(("planned", "asked", "code"), [("fail", "warn", 0), ("warn", "fail", 2)])
    def test_on_unknown_of_the_judging_replaces_the_plans_in_every_view(
        self, run, planned, asked, code, capsys
    ):
        run.streams(3)
        run.claims("success >= 98%")
        run.plan.on_unknown = planned
        directory = run.write()
        assert invoke(["judge", str(directory), "--on-unknown", asked]) == code
        written = msgspec.json.decode((directory / VERDICT_NAME).read_bytes(), type=RunVerdict)
        assert (written.on_unknown, written.exit_code) == (asked, code)
        assert ("a warning here" in written.decision) == (asked == "warn")
        assert written.decision in capsys.readouterr().out.replace("\n", " ")
        assert invoke(["judge", str(directory)]) == (2 if planned == "fail" else 0)

    def test_the_rig_table_informs_and_vetoes_nothing(self, planted):
        rows = {row.indicator: row for row in planted.judge().rig}
        lag = rows["read lag p99, worst second"]
        assert (lag.value, lag.limit, lag.within) == (48.0, 12.5, False), "5 % of 250 ms"
        assert rows["reads with several events"].value == 0.1
        assert rows["reads with several events"].within is None
        assert rows["reads without a kernel stamp"].within is True
        assert rows["dispatch lag p99, worst second"].value is None
        assert rows["CPU of a worker, p95 of seconds"].within is True
        assert rows["clock step, largest"].within is False
        assert rows["streams never dispatched"].within is False
        assert rows["rig errors"].value == 1
        assert any("too much" in text for text in planted.judge().problems)

    def test_a_late_generator_alone_changes_no_verdict(self, run):
        run.streams(100)
        run.generator(reads=10, read_lag_p99_ns=900 * MS, loop_lag_max_ns=900 * MS)
        assert run.one("ttft p95 <= 1s").verdict == "pass"

    def test_the_same_record_gives_the_same_bytes(self, planted):
        directory = planted.write()
        path = write_verdict(directory, judge_directory(directory))
        first = path.read_bytes()
        write_verdict(directory, judge_directory(directory))
        assert path.read_bytes() == first
        assert str(directory).encode() not in first

    def test_what_is_written_reads_back_as_the_same(self, planted):
        directory = planted.write()
        result = judge_directory(directory)
        written = write_verdict(directory, result).read_bytes()
        assert msgspec.json.decode(written, type=RunVerdict) == result

    def test_it_keeps_its_schema(self, planted):
        directory = planted.write()
        document = json.loads(write_verdict(directory, judge_directory(directory)).read_bytes())
        schema = json.loads(SCHEMA.read_text())
        validator = jsonschema.Draft202012Validator(schema)
        jsonschema.Draft202012Validator.check_schema(schema)
        validator.validate(document)

    @pytest.mark.parametrize("how", ["running", "interrupted", "failed"])
    def test_so_does_an_empty_run_however_it_ended(self, run, how):
        run.claims(*ALL_CLAIMS)
        directory = run.write(how)
        document = json.loads(write_verdict(directory, judge_directory(directory)).read_bytes())
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda document: document.update(extra=1),
            lambda document: document.pop("decision"),
            lambda document: document.update(version=2),
            lambda document: document.update(schema="other"),
            lambda document: document.update(exit_code=3),
            lambda document: document["verdicts"][0].update(extra=1),
            lambda document: document["verdicts"][0].update(verdict="maybe"),
            lambda document: document["verdicts"][0].update(code="because"),
            lambda document: document["verdicts"][0].update(n=-1),
            lambda document: document["verdicts"][0].update(lower=1.5),
            lambda document: document["verdicts"][0].pop("next"),
            lambda document: document["verdicts"][0]["reasons"].update(cut="many"),
            lambda document: document["totals"].update(streams=1.5),
            lambda document: document["rig"][0].update(unit="s"),
            lambda document: document["problems"].append(7),
        ],
    )
    def test_the_schema_refuses_what_is_not_a_verdict(self, planted, damage):
        directory = planted.write()
        document = json.loads(write_verdict(directory, judge_directory(directory)).read_bytes())
        damage(document)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)

    def test_the_stored_schema_is_that_of_the_code(self):
        assert SCHEMA.read_text() == schema_text(), (
            "write it again: python -c 'from sseproof.reports.judge import schema_text; print(schema_text(), end=\"\")'"
            " > reports/verdict.schema.json"
        )

    def test_every_object_of_the_schema_is_closed_and_every_field_required(self):
        definitions = json.loads(SCHEMA.read_text())["$defs"]
        assert set(definitions) >= {"RunVerdict", "Verdict", "Summary", "RigRow", "Quantile"}
        for name, definition in definitions.items():
            assert definition["additionalProperties"] is False, name
            assert sorted(definition["required"]) == sorted(definition["properties"]), name


def test_no_run_directory_is_a_sentence(tmp_path):
    with pytest.raises(UsageError):
        judge_directory(tmp_path)


def test_a_folder_that_can_not_be_written_is_a_rig_error(run):
    directory = run.write()
    result = judge_directory(directory)
    with pytest.raises(RigError):
        write_verdict(directory / "gone", result)


@pytest.mark.slow
def test_a_hundred_thousand_streams_are_judged_in_time(run, record_property):
    """About 10 s of work where this was written; the bound is three times that, for slower machines."""
    run.claims(*ALL_CLAIMS)
    gaps = run.gaps(*[37] * 48)
    attempt = Attempt(number=1, address="127.0.0.1:1", started=run.at(0), ended=run.at(2_000), end="terminal")
    run.streams(100_000, gaps=gaps, attempts=[attempt], ids=[(1, 50)])
    directory = run.write()
    started = time.process_time()
    result = judge_directory(directory)
    seconds = time.process_time() - started
    record_property("seconds", seconds)
    print(f"100,000 streams, {len(ALL_CLAIMS)} claims: {seconds:.1f} s of CPU")
    assert result.verdicts[0].n == 100_000
    assert seconds <= 30
