"""The terminal's answer: 80 columns, no colour, no bare percentages, hostile names made harmless."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sseproof.reports.evidence import Evidence
from sseproof.reports.judge import judge_directory
from sseproof.reports.summary import WIDTH, summary_text, wrapped
from sseproof.reports.words import count_of, digits, duration_text, joined, least_text, most_text, share_text

MS = 1_000_000
CLAIMS = ("success >= 98%", "ttft p95 <= 1s", "lost = 0", "reconnect p95 < 1s", "gap p99 <= 250ms")
HOSTILE = "\x1b[31m\u202eevil\u2066 流式传输 👨\u200d👩\u200d👧 " + "x" * 120


def text_of(run, how="finished"):
    return summary_text(run.judge(how), "runs/planted/latest")


def assert_fits(text):
    for line in text.splitlines():
        assert cell_len(line) <= WIDTH, line
        assert line == line.rstrip()


def test_a_good_run_reads_well(run):
    run.claims("success >= 98%", "ttft p95 <= 1s", "lost = 0")
    run.streams(312)
    assert text_of(run) == (
        "3 of 3 claims hold.\n"
        "planted, GET http://127.0.0.1:8765/api/v1/stream/chat: 312 streams in 12 s\n"
        "\n"
        "verdict   claim                                    k/n      observed       bound\n"
        "--------------------------------------------------------------------------------\n"
        "✓ pass    success >= 98%                       312/312         100 %      ≥ 99 %\n"
        "    All 312 streams ended well.\n"
        "✓ pass    ttft p95 <= 1s                       312/312     p95 86 ms      ≥ 99 %\n"
        "    All 312 first tokens within 1 s.\n"
        "    From send; from plan: –.\n"
        "✓ pass    lost = 0                             312/312        0 lost      ≥ 99 %\n"
        "    No violation in 312 streams; at most 0.96 % at 95 %.\n"
        "\n"
        "312 streams: 312 complete.\n"
        "\n"
        "Run: runs/planted/latest\n"
        "Report: runs/planted/latest/report.html\n"
    )


def test_the_parts_add_up_to_the_number_before_them(run):
    """What was never started is none of the streams."""
    run.streams(23)
    run.start()
    for _ in range(700):
        run.start(dropped=True)
    text = " ".join(text_of(run).split())
    assert (
        "24 streams: 23 complete, 1 unfinished; 700 more were planned and never started by us (dropped)."
        in (text)
    )


def test_a_run_in_which_nothing_was_started_has_no_parts(run):
    run.start(dropped=True)
    assert "0 streams; 1 more was planned and never started by us (dropped)." in " ".join(
        text_of(run).split()
    )


def test_a_bad_run_says_what_happened_and_what_would_decide(run):
    run.claims(*CLAIMS)
    run.streams(200, group="a", gaps=run.gaps(30, 31))
    for _ in range(60):
        run.failed(group="b", gaps=run.gaps(30))
    run.stream(group="b", lost=3)
    text = text_of(run)
    assert_fits(text)
    assert text.startswith("Do not release: 2 of 5 claims fail, 1 is unknown.\n")
    assert "✕ fail    success >= 98%                       200/261        76.6 %    ≤ 80.9 %" in text
    assert "61 of 261 streams failed: 60 cut, 1 damaged." in text
    assert "By group: a 200/200, b 0/61." in text
    assert "Next: See streams 200, 201 and 202 in streams.jsonl." in text
    assert "? unknown reconnect p95 < 1s                         –             –           –" in text
    assert "not-measured: No connection broke." in text
    assert "✕ fail    lost = 0                             260/261        3 lost     < 100 %" in text
    assert "261 streams: 200 complete, 60 cut, 1 damaged." in text


def test_nothing_depends_on_colour_or_on_the_terminal(run):
    run.claims(*CLAIMS)
    run.streams(10)
    text = text_of(run)
    assert "\x1b" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_every_percentage_of_a_claim_has_its_n_on_the_line(run):
    run.claims(*CLAIMS)
    run.streams(10)
    for line in text_of(run).splitlines():
        if line[:1] in set("✓✕?") and " %" in line:
            assert re.search(r"\d/\d", line), line


def test_hostile_names_stay_in_their_columns_and_harmless(run):
    run.plan.scenario = HOSTILE
    run.variant(HOSTILE, judged=True)
    run.claims("success >= 98%", f'success >= 98% in group "{"g" * 90}"')
    run.streams(200, variant=HOSTILE, group=HOSTILE)
    run.streams(3, variant=HOSTILE, group="流" * 60, outcome="cut", end="rst")
    run.generator(rig_error=HOSTILE * 3)
    text = text_of(run)
    assert_fits(text)
    for char in ("\x1b", "\u202e", "\u2066"):
        assert char not in text
    assert r"\x1b[31m" in text


def test_long_claims_wrap_in_their_column(run):
    claim = f'success >= 98% in group "{" ".join(["long"] * 22)}" confidence 99.9%'
    run.claims(claim)
    run.streams(10)
    text = text_of(run)
    assert_fits(text)
    assert len(text.splitlines()) > 10


def test_two_variants_stand_side_by_side(run):
    run.variant("before", judged=False)
    run.variant("after")
    run.claims("success >= 98%", "lost = 0")
    run.streams(300, variant="after")
    for _ in range(300):
        run.failed(variant="before", lost=None)
    text = text_of(run)
    assert_fits(text)
    assert text.startswith("2 of 2 claims hold.\n")
    assert "✕ fail" not in text
    assert "side by side                 before                    after (judged)" in text
    assert re.search(r"success >= 98% +✕ 0/300 0 % +✓ 300/300 100 %", text)
    assert re.search(r"lost = 0 +\? – +✓ 300/300 0 lost", text)
    assert re.search(r"streams that succeeded +0/300 0 % +300/300 100 %", text)
    assert "before: 300 streams: 300 cut." in text


def test_more_variants_stand_below_each_other(run):
    for name in ("a", "b", "c" * 70):
        run.variant(name)
        run.streams(60, variant=name)
    run.claims("success >= 95%")
    text = text_of(run)
    assert_fits(text)
    assert re.search(r"^    a +✓ 60/60 100 %$", text, re.MULTILINE)
    assert text.count("60/60 100 %") == 6
    assert "success >= 95% [a]" in text


def test_a_quantile_below_an_edge_stays_on_its_line(run):
    run.claims("gap p99 <= 32.8ms")
    run.streams(300, gaps=run.gaps(30, 32.8))
    (line,) = (each for each in text_of(run).splitlines() if "gap p99" in each)
    assert line.startswith("✓ pass    gap p99 <= 32.8ms ")
    assert " p99 ≤ 32.8 ms " in line


def test_a_bracket_leaves_a_range(run):
    run.claims("ttft p95 <= 420ms")
    run.streams(100, sent=run.at(0), first_token=run.at(415, 10))
    text = text_of(run)
    assert_fits(text)
    assert "0…100/100" in text
    assert "rig-late" in text


def test_problems_and_a_late_generator_are_shown(run):
    run.claims("success >= 98%")
    run.streams(10)
    run.generator(reads=10, read_lag_p99_ns=48 * MS, unstamped_reads=5)
    run.info.workers_lost = [1]
    text = text_of(run, "interrupted")
    assert "Problems of the record:\n- The run was interrupted" in text
    assert "- Worker 1 was lost" in text
    told = " ".join(text.split())
    assert (
        "- read lag p99, worst second: 48 ms, usually at most 25 ms. Worst 1 s after the start in worker 0."
        in told
    )
    assert "- reads without a kernel stamp: 50 %, usually at most 1 %. Worst 1 s after" in told
    assert_fits(text)


def test_a_generator_in_order_is_not_mentioned(run):
    run.streams(1)
    run.generator(reads=10, read_lag_p99_ns=1 * MS)
    assert "generator" not in text_of(run)


def test_other_readings_and_the_warm_up_are_mentioned(run):
    run.claims("ttft p95 <= 1s")
    run.streams(60, intended=run.at(0), sent=run.at(50), first_token=run.at(400))
    run.stream(warmup=True)
    text = text_of(run)
    assert "From send: p95 350 ms." in text
    assert "60 streams (1 stream of the warm-up left out): 60 complete." in text


def test_an_empty_run_measures_nothing(run):
    run.claims(*CLAIMS)
    text = text_of(run, "running")
    assert_fits(text)
    assert text.startswith("Not decided: 5 of 5 claims are unknown.\n")
    assert "no stream was recorded." in text
    assert " 0 %" not in text


@pytest.mark.parametrize(
    ("fields", "claim"), [({"lost": None}, "lost = 0"), ({"outcome": "unfinished"}, "success >= 98%")]
)
def test_what_is_not_known_is_a_dash_and_never_0(run, fields, claim):
    run.claims(claim)
    run.streams(100, **fields)
    (line,) = [line for line in text_of(run).splitlines() if line.startswith("? unknown")]
    assert line.split()[-3:] == ["–", "–", "–"]


def test_a_claim_and_a_problem_from_elsewhere_are_harmless(run):
    run.claims("success >= 98%")
    run.plan.claims[0].text = HOSTILE
    verdict = run.judge()
    verdict.problems.append(HOSTILE)
    text = summary_text(verdict, "x")
    assert_fits(text)
    assert text.count(r"\x1b[31m") == 3, "claim, problem, and the finding that names the claim"
    assert "\x1b" not in text
    assert "\u202e" not in text


def seen(group: str, count: int, *, acted: bool | None = True) -> Evidence:
    return Evidence(
        group=group, kind="cut", variant=None, acted=acted, count=count, of=63, sentence=f"{group} says."
    )


def test_what_shows_each_fault_is_counted(run):
    run.streams(20)
    verdict = run.judge()
    assert "planned faults" not in summary_text(verdict, "x")
    verdict.faults = [seen("cut", 60), seen("late", 3, acted=False), seen("odd", 0, acted=None)]
    text = " ".join(summary_text(verdict, "x").split())
    said = "1 of 3 planned faults acted, by the streams' own rows: cut 60/63. Of 1 it can't be told."
    assert said in text
    verdict.faults = [seen("late", 3, acted=False)]
    assert "0 of 1 planned faults acted, by the streams' own rows.\n" in summary_text(verdict, "x")
    verdict.faults = [seen(f"group-{n}-{HOSTILE}", n) for n in range(30)]
    text = summary_text(verdict, "x")
    assert_fits(text)
    assert "10 more." in text
    assert "\x1b" not in text


def test_a_long_path_has_a_line_of_its_own(run):
    directory = run.write()
    path = "/" + "/".join(["deep"] * 30)
    text = summary_text(judge_directory(directory), path)
    assert text.endswith(f"Run:\n{path}\nReport:\n{path}/report.html\n")


class TestWrapping:
    @given(st.text(max_size=300), st.integers(8, 60), st.sampled_from(["", "  ", "- "]))
    def test_no_line_is_wider_and_nothing_is_lost(self, text, width, lead):
        lines = wrapped(text, first=lead, rest=" " * len(lead), width=width)
        assert all(cell_len(line) <= width for line in lines)
        assert "".join("".join(lines).split()).endswith("".join(text.split()))

    def test_it_breaks_between_words(self):
        assert wrapped("one two three", width=8) == ["one two", "three"]

    def test_and_within_a_word_that_is_longer_than_a_line(self):
        assert wrapped("ab" * 6, width=8) == ["abababab", "abab"]

    def test_wide_characters_count_twice(self):
        assert wrapped("流式 传输", width=8) == ["流式", "传输"]


class TestWords:
    @pytest.mark.parametrize(
        ("ns", "text"),
        [
            (None, "never"),
            (0, "0 ms"),
            (270_000, "0.27 ms"),
            (86 * MS, "86 ms"),
            (999_400_000, "999 ms"),
            (999_600_000, "1 s"),
            (1_000 * MS, "1 s"),
            (1_234 * MS, "1.23 s"),
            (12_345 * MS, "12.3 s"),
            (123_456 * MS, "123 s"),
            (1_234_567 * MS, "1,230 s"),
        ],
    )
    def test_durations_have_three_digits(self, ns, text):
        assert duration_text(ns) == text

    @pytest.mark.parametrize(
        ("share", "text"),
        [
            (None, "–"),
            (1.0, "100 %"),
            (0.9999, "> 99.9 %"),
            (0.0, "0 %"),
            (0.00001, "< 0.01 %"),
            (0.009552, "0.96 %"),
            (0.98, "98 %"),
            (0.7663, "76.6 %"),
        ],
    )
    def test_shares_are_never_rounded_to_all_or_none(self, share, text):
        assert share_text(share) == text

    def test_bounds_are_rounded_to_the_side_that_claims_less(self):
        assert (least_text(0.98796), most_text(0.98711)) == ("98.7 %", "98.8 %")
        assert (least_text(0.29), most_text(0.29)) == ("29 %", "29 %")
        assert (least_text(0.99999), least_text(1.0)) == ("99.9 %", "100 %")

    @given(st.floats(0.01, 1e12))
    def test_digits_are_close(self, value):
        shown = float(digits(value).replace(",", ""))
        assert abs(shown - value) <= max(0.0051, value * 0.0051)

    def test_counts_and_lists(self):
        assert (count_of(1, "stream"), count_of(1_200, "stream")) == ("1 stream", "1,200 streams")
        assert [joined([]), joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == [
            "",
            "a",
            "a and b",
            "a, b and c",
        ]
