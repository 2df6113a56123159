"""What CI servers, Prometheus and spreadsheets get: read back by their own readers, and all of them agree.

Every answer and every code of an unknown goes through all outputs; what is foreign in them stays text.
"""

import contextlib
import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sseproof.cli import invoke
from sseproof.outputs import Outputs, check_outputs
from sseproof.reports.annotations import MOST_OF_A_KIND, annotations
from sseproof.reports.cases import RUN_CLASS, cases_of
from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.reports.judge import RunVerdict, Summary, VariantResult, exit_code, judge, judge_directory
from sseproof.reports.junit import junit_xml
from sseproof.reports.markdown import MOST_BYTES, markdown_text
from sseproof.reports.openmetrics import BUCKETS_S, StreamFigures, live_text, openmetrics_text
from sseproof.reports.summary import summary_text
from sseproof.reports.verdicts import Code, Verdict
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import BROWSERS
from sseproof.rundir.rows import BrowserPlan, BrowserRow
from sseproof.rundir.series import Interval, encoded
from sseproof.rundir.series_file import SeriesFile
from tests.reports import made_runs

HOSTILE = "<b>x</b>&amp;|`a``b`*_[l](http://evil.example/)![i](x) @everyone www.evil.example :smile:"
STEERING = "\x1b[2J\r\n::error::owned\u202e\ud800\x00 ##[add-mask]7 %0A,:"
CODES = get_args(Code)
ANSWERS = [("pass", None), ("fail", None), *(("unknown", code) for code in CODES)]


def of(*verdicts: Verdict, **fields) -> RunVerdict:
    told = {
        "run": "20260921T141320.000000Z-7",
        "scenario": "release-check",
        "seed": 7,
        "decision": "One sentence.",
        "exit_code": exit_code(verdicts, fields.get("on_unknown", "fail")),
        "how": "finished",
        "started_ns": 1_790_000_000_250_000_000,
        "ended_ns": 1_790_000_012_345_600_000,
        "load_began_ns": 1_790_000_000_500_000_000,
        "verdicts": list(verdicts),
        "totals": Summary(streams=10, good=9, outcomes={"complete": 9, "cut": 1}),
        **fields,
    }
    return RunVerdict(**told)


def verdict(answer, code=None, claim="success >= 98%", **fields) -> Verdict:
    told = {
        "metric": "success",
        "form": "share",
        "n": 10,
        "k": 9,
        "k_best": 9,
        "sentence": "A sentence.",
        **fields,
    }
    return Verdict(claim=claim, verdict=answer, code=code, next="" if answer == "pass" else "A step.", **told)


def junit_levels(content: bytes) -> dict[str, str]:
    """Case name → ok, failure, error or skipped, as junitparser reads it."""
    kinds = {Failure: "failure", Error: "error", Skipped: "skipped"}
    levels = {}
    for suite in JUnitXml.fromstring(content):
        for case in suite:
            assert f"{case.classname}.{case.name}" not in levels, "GitLab keeps the first of two alone"
            results = case.result
            levels[f"{case.classname}.{case.name}"] = kinds[type(results[0])] if results else "ok"
    return levels


def samples(content: bytes) -> dict[tuple, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


class Cells(HTMLParser):
    """The texts and tags of rendered Markdown."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def rendered(content: bytes) -> Cells:
    """As GitHub's dialect has it: tables, struck text, raw HTML let through."""
    cells = Cells()
    cells.feed(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(content.decode())
    )
    return cells


class TestAgreement:
    @pytest.mark.parametrize("on_unknown", ["fail", "warn"])
    @pytest.mark.parametrize(("answer", "code"), ANSWERS)
    def test_every_output_says_the_same_of_a_claim(self, tmp_path, run, answer, code, on_unknown):
        run.write()
        history = read_history(run.directory)
        result = of(verdict(answer, code), on_unknown=on_unknown)
        red = {"pass": False, "fail": True, "unknown": on_unknown == "fail"}[answer]
        level = {"pass": "ok", "fail": "failure", "unknown": "error" if on_unknown == "fail" else "skipped"}[
            answer
        ]
        assert (result.exit_code != 0) is red
        assert result.exit_code == {"pass": 0, "fail": 1, "unknown": 2 if on_unknown == "fail" else 0}[answer]
        assert junit_levels(junit_xml(result)) == {
            f"{RUN_CLASS}.the run came to its end": "ok",
            "claims.success.success >= 98%": level,
        }
        lines = annotations(result)
        assert [line.startswith("::error ") for line in lines] == (
            [True, False] if red else [False] * len(lines)
        )
        assert any(line.startswith("::warning ") for line in lines) is (level == "skipped")
        row = next(line for line in markdown_text(result).decode().splitlines() if "`success >= 98%`" in line)
        assert answer in row.split("|")[1]
        found = samples(openmetrics_text(history, [], result))
        assert found["sse_run_exit_code", ()] == result.exit_code
        state = {
            dict(labels)["sse_claim_verdict"]: value
            for (name, labels), value in found.items()
            if name == "sse_claim_verdict"
        }
        assert state == {each: float(each == answer) for each in ("pass", "fail", "unknown")}
        row = next(line for line in summary_text(result, tmp_path).splitlines() if "success >= 98%" in line)
        assert answer in row
        if code is not None:
            for text in (junit_xml(result).decode(), lines[0], markdown_text(result).decode()):
                assert code in text
            assert f"{code}: " in summary_text(result, tmp_path)

    def test_what_is_shown_beside_sets_nothing(self, run):
        result = of(verdict("pass", variant="after"), verdict("fail", variant="before", counts=False))
        assert result.exit_code == 0
        assert set(junit_levels(junit_xml(result)).values()) == {"ok"}
        assert not [line for line in annotations(result) if not line.startswith("::notice ")]
        run.write()
        found = samples(openmetrics_text(read_history(run.directory), [], result))
        failing = [
            dict(labels)
            for (name, labels), value in found.items()
            if dict(labels).get("sse_claim_verdict") == "fail" and value
        ]
        assert [(each["variant"], each["counts"]) for each in failing] == [("before", "no")]
        assert "Beside it, not counted" in markdown_text(result).decode()

    @pytest.mark.parametrize("how", ["interrupted", "terminated", "killed", "failed"])
    def test_a_run_that_did_not_come_to_its_end_is_red_whatever_its_claims_say(self, how):
        result = of(verdict("pass"), how=how, problems=["The suite itself failed: no disk."])
        levels = junit_levels(junit_xml(result))
        assert levels[f"{RUN_CLASS}.the run came to its end"] == "error"
        assert levels["claims.success.success >= 98%"] == "ok"
        assert [line.split(" ")[0] for line in annotations(result)] == ["::error", "::notice"]
        assert "no disk" in annotations(result)[0]

    def test_a_run_that_met_its_abort_condition_follows_its_verdicts(self):
        said = "The run was aborted 5 s after its start."
        result = of(verdict("pass"), how="interrupted", aborted=said, problems=[said, "Another."])
        assert result.exit_code == 0
        levels = junit_levels(junit_xml(result))
        assert levels[f"{RUN_CLASS}.the run came to its end"] == "skipped"
        assert [line.split(" ")[0] for line in annotations(result)] == ["::warning", "::notice"]
        assert junit_xml(result).decode().count(said) == 2, "in the message and the body"
        assert said in markdown_text(result).decode()

    def test_a_run_without_claims_is_no_empty_list(self):
        assert junit_levels(junit_xml(of())) == {f"{RUN_CLASS}.the run came to its end": "ok"}


class TestJUnit:
    def test_it_keeps_to_what_jenkins_takes(self):
        """The rules of junit-10.xsd."""
        result = of(
            verdict("fail"), verdict("unknown", "too-few"), verdict("pass", variant="a", counts=False),
            labels={"commit": "e056604"}, command=["sseproof", "run", "lost = 0"], how="killed", problems=["No end."],
        )  # fmt: skip
        root = ET.fromstring(junit_xml(result))
        allowed = {
            "testsuites": {"name", "time", "tests", "failures", "errors"},
            "testsuite": {"name", "time", "tests", "failures", "errors", "skipped", "timestamp"},
            "testcase": {"name", "classname"},
            "failure": {"type", "message"},
            "error": {"type", "message"},
            "property": {"name", "value"},
            "properties": set(),
            "system-out": set(),
        }
        for element in root.iter():
            assert set(element.attrib) <= allowed[element.tag], element.tag
            if "time" in element.attrib:
                assert re.fullmatch(r"[0-9]+\.[0-9]{3}", element.attrib["time"])
        assert [child.tag for child in root] == ["testsuite"]
        assert {child.tag for child in root[0]} == {"properties", "testcase", "system-out"}
        assert root.attrib["tests"] == "3"
        assert (root.attrib["failures"], root.attrib["errors"]) == ("1", "2")
        assert root[0].attrib["time"] == "12.096"
        assert root[0].attrib["timestamp"] == "2026-09-21T14:13:20"
        values = {element.attrib["name"]: element.attrib["value"] for element in root.iter("property")}
        assert values["seed"] == "7"
        assert values["command"] == "sseproof run 'lost = 0'", "as it is typed"
        assert values["label.commit"] == "e056604"
        for element in (*root.iter("failure"), *root.iter("error")):
            assert "\n" in (element.text or ""), "GitLab shows the body alone"
            assert " ".join((element.text or "").split()) == " ".join(element.attrib["message"].split())

    def test_the_same_claim_twice_has_two_names(self):
        levels = junit_levels(junit_xml(of(verdict("pass"), verdict("fail"))))
        assert levels["claims.success.success >= 98%"] == "ok"
        assert levels["claims.success.success >= 98% (2)"] == "failure"

    def test_what_xml_cannot_hold_is_written_as_escapes(self):
        result = of(
            verdict("fail", claim=f"{STEERING}{HOSTILE}", sentence=STEERING * 3, variant=STEERING),
            scenario=STEERING, labels={STEERING: HOSTILE}, problems=[STEERING], how="failed",
        )  # fmt: skip
        content = junit_xml(result)
        assert not re.search(rb"[\x00-\x08\x0b-\x1f]", content)
        (suite,) = JUnitXml.fromstring(content)
        assert "\\x1b[2J" in suite.name
        assert "\u202e" not in content.decode()


class TestAnnotations:
    def test_marks_with_a_meaning_are_escaped(self):
        (line, _) = annotations(
            of(verdict("fail", claim="a: b, c 5%", sentence="50 %,\r\n: end\n::error::x"))
        )
        head, _, text = line.removeprefix("::").partition("::")
        assert head == "error title=fails%3A a%3A b%2C c 5%25"
        assert text == "50 %25,\\r\\n: end\\n::error::x%0AGood: 9 of 10 streams.%0ANext: A step."
        assert "\n" not in line

    @pytest.mark.parametrize(
        ("count", "on_unknown"), [(10, "fail"), (11, "fail"), (200, "warn"), (200, "fail")]
    )
    def test_a_step_makes_ten_of_a_kind_at_most(self, count, on_unknown):
        lines = annotations(
            of(
                *(verdict("fail", claim=f"success >= {number}%") for number in range(count)),
                *(verdict("unknown", "too-few", claim=f"lost = {number}") for number in range(count)),
                on_unknown=on_unknown,
            )
        )
        kinds = [line.split(" ")[0] for line in lines]
        assert all(kinds.count(kind) <= MOST_OF_A_KIND for kind in kinds)
        assert len(lines) <= 50
        assert all(len(line) < 4_000 for line in lines)
        more = [int(found[1]) for line in lines if (found := re.search(r"title=(\d+) more", line))]
        errors = count if on_unknown == "warn" else 2 * count
        assert more == [
            all_ - 9 for all_ in ((errors, count) if on_unknown == "warn" else (errors,)) if all_ > 10
        ]


class TestMarkdown:
    def test_foreign_text_stays_text(self):
        foreign = f"{HOSTILE} {STEERING} $x$ ~~gone~~ <!-- -->"
        result = of(
            verdict("fail", claim=foreign, sentence=foreign, variant=foreign),
            verdict("fail", claim=foreign, counts=False),
            scenario=foreign,
            findings=[foreign, "# heading", "1. list"],
            aborted=foreign,
            problems=[foreign, "# heading", "1. list", "- list", "+ list", "---", "> quote", "    code"],
            command=["sseproof", "run", foreign],
            variants=[
                VariantResult(name=foreign, judged=True, target=foreign, summary=Summary(streams=1, good=1)),
            ],
        )
        cells = rendered(markdown_text(result))
        ours = {"h2", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "h3", "ul", "li"}
        assert set(cells.tags) <= ours
        assert cells.tags.count("li") == 8
        assert cells.tags.count("td") == 6 + 5 + 4, "no bar of a foreign text began a cell"
        text = "".join(cells.texts)
        for part in ("<b>x</b>&amp;|", "![i](x)", "@everyone", "$x$ ~~gone~~ <!-- -->", "\\x1b[2J", "*_[l]("):
            assert text.count(part) >= 4, part

    def test_what_github_would_link_is_code(self):
        result = of(
            verdict("fail", sentence="see http://evil.example/a and @team or www.evil.example, a@b.c")
        )
        source = markdown_text(result).decode()
        for word in ("http://evil.example/a", "@team", "www.evil.example,", "a@b.c"):
            assert f"`{word}`" in source

    def test_it_fits_a_summary(self):
        many = [
            verdict("fail", claim=f"success >= {number}%", sentence="x|<" * 1_300) for number in range(400)
        ]
        content = markdown_text(of(*many))
        assert MOST_BYTES * 0.9 < len(content) <= MOST_BYTES or b"Showing 200 of 400" in content
        cut = markdown_text(of(*many), room_bytes=10_000)
        assert len(cut) <= 10_000
        assert cut.decode().rstrip().endswith("The report has the rest.*")
        assert markdown_text(of(*many), room_bytes=10) == b""

    def test_all_of_a_real_one_is_there(self, tmp_path):
        made_runs.two_variants(tmp_path, 60)
        text = "".join(rendered(markdown_text(judge_directory(tmp_path))).texts)
        for part in (
            "Not decided",
            "ttft p95 <= 1s in group clean [after]",
            "too-few: All 60 streams ended well.",
            "seed 7",
            "cut",
        ):
            assert part in text


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    made_runs.two_variants(directory, 120, hostile=True)
    return directory


class TestOpenMetrics:
    @pytest.fixture
    def content(self, made) -> bytes:
        history = read_history(made)
        facts = all_facts(history)
        return openmetrics_text(history, facts, judge(history, facts))

    def test_it_counts_what_the_rows_hold(self, made, content):
        history = read_history(made)
        found = samples(content)
        assert content.endswith(b"# EOF\n")
        streams = {labels: value for (name, labels), value in found.items() if name == "sse_streams_total"}
        assert sum(streams.values()) == len(history.streams) == 240
        cut = sum(value for labels, value in streams.items() if dict(labels)["outcome"] == "cut")
        assert cut == sum(record.outcome == "cut" for record in history.streams)
        breaks = sum(value for (name, _), value in found.items() if name == "sse_breaks_total")
        assert breaks == len(history.breaks)
        for name, rows, of_one in (
            ("sse_time_to_first_token_seconds", history.streams, lambda row: (row.sent, row.first_token)),
            ("sse_reconnect_seconds", history.breaks, lambda row: (row.seen, row.first_new)),
        ):
            for edge in (0.5, 1.0, *BUCKETS_S):
                reached = sum(
                    value
                    for (sample, labels), value in found.items()
                    if sample == f"{name}_bucket" and float(dict(labels)["le"]) == edge
                )
                within = [
                    (start, end)
                    for start, end in map(of_one, rows)
                    if end is not None and (end.ns - start.ns) / 1e9 <= edge
                ]
                assert reached == len(within), (name, edge)
            whole = sum(value for (sample, _), value in found.items() if sample == f"{name}_count")
            assert whole == len(rows), "what never came is above every bucket"

    def test_gaps_have_the_edges_of_the_plan(self, made, content):
        found = samples(content)
        edges = {
            dict(labels)["le"]
            for (name, labels), _ in found.items()
            if name == "sse_inter_event_gap_seconds_bucket"
        }
        assert {"0.5", "1.0", "0.25", "+Inf"} <= edges
        gaps = sum(value for (name, _), value in found.items() if name == "sse_inter_event_gap_seconds_count")
        assert gaps == sum(record.gaps.count for record in read_history(made).streams)

    def test_faults_switch_at_their_instants(self, made, content):
        families = {family.name: family for family in text_string_to_metric_families(content.decode())}
        active = [
            sample for sample in families["sse_fault_active"].samples if sample.labels["variant"] == "after"
        ]
        slow = [
            (float(sample.timestamp), sample.value) for sample in active if "slow" in sample.labels["toxic"]
        ]
        assert slow == [(1_790_000_000.0, 1.0), (1_790_000_016.002, 0.0)]

    def test_no_label_tells_a_stream(self, content):
        names = {
            name
            for family in text_string_to_metric_families(content.decode())
            for sample in family.samples
            for name in sample.labels
        }
        assert names == {
            *("run", "scenario", "seed", "how", "claim", "variant", "counts", "sse_claim_verdict"),
            *("group", "outcome", "end", "le", "toxic", "indicator", "defect"),
        }

    def test_how_browsers_drew_their_pages(self, run):
        side = run.plan.variants[0]
        side.name = "firefox-eventsource"
        side.browser = BrowserPlan(name="firefox", client="eventsource", at_once=6)
        told = {"variant": side.name, "at_ns": 1, "resolution_ns": 1_000_000, "length_ns": 2_500_000_000}
        run.append(
            BROWSERS,
            BrowserRow(
                **told, frames=150, frame_gap_p50_ns=16_700_000, frame_gap_max_ns=80_000_000, hidden=True
            ),
        )
        run.write()
        history = read_history(run.directory)
        place = (("browser", "firefox"), ("client", "eventsource"), ("variant", side.name))
        for content in (
            openmetrics_text(history, [], of()),
            live_text(run.plan, StreamFigures(run.plan), [], how="running", browsers=history.browsers),
        ):
            found = samples(content)
            gap = "sse_browser_frame_gap_seconds"
            drawn = {
                (name, dict(labels).get("quantile")): value
                for (name, labels), value in found.items()
                if name.startswith("sse_browser_") and set(place) <= set(labels)
            }
            assert drawn == {
                (gap, "0.5"): 0.0167,
                (gap, "1.0"): 0.08,
                (f"{gap}_count", None): 150,
                (f"{gap}_sum", None): 2.5,
                ("sse_browser_timer_lag_seconds", None): 0,
                ("sse_browser_hidden", None): 1,
            }, "what a browser does not tell has no sample"

    def test_foreign_labels_stay_labels(self, run):
        run.write()
        result = of(verdict("fail", claim=f'a"b\\c{STEERING}'), scenario=f'x"}} 1\n{STEERING}')
        content = openmetrics_text(read_history(run.directory), [], result)
        found = samples(content)
        (scenario,) = (dict(labels)["scenario"] for (name, labels) in found if name == "sse_run_info")
        assert scenario.startswith('x"} 1\\n\\x1b[2J')


class TestTables:
    def test_they_hold_a_row_each(self, made):
        assert invoke(["judge", str(made), "--export", "csv"]) in {0, 1, 2}
        history = read_history(made)
        read = {
            name: list(csv.DictReader(io.StringIO((made / "export" / f"{name}.csv").read_text("utf-8"))))
            for name in ("streams", "breaks", "claims")
        }
        assert [int(row["stream"]) for row in read["streams"]] == [
            record.stream for record in history.streams
        ]
        assert len(read["breaks"]) == len(history.breaks)
        assert [row["verdict"] for row in read["claims"]] == [
            each.verdict for each in judge(history).verdicts
        ]
        first, record = read["streams"][0], history.streams[0]
        assert float(first["ttft_ms"]) == pytest.approx((record.first_token.ns - record.sent.ns) / 1e6)
        assert int(first["ended_ns"]) == record.ended.ns
        assert first["text_exact"] == ""
        assert float(first["longest_gap_ms"]) == record.gaps.longest_hi_ns / 1e6

    def test_streams_without_an_end_have_rows_too(self, run):
        run.stream()
        run.start(name="chat")
        run.start(dropped=True)
        run.write()
        assert invoke(["judge", str(run.directory), "--export", "csv"]) == 0
        rows = list(
            csv.DictReader(io.StringIO((run.directory / "export" / "streams.csv").read_text("utf-8")))
        )
        assert [row["outcome"] for row in rows] == ["complete", "unfinished", "dropped"]
        assert rows[1]["name"] == "chat"
        assert rows[1]["dispatched_ns"]
        assert not rows[2]["dispatched_ns"]

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0"])
    def test_no_cell_is_a_formula(self, run, text):
        run.stream(detail=text)
        run.write()
        invoke(["judge", str(run.directory), "--export", "csv"])
        (row,) = csv.DictReader(io.StringIO((run.directory / "export" / "streams.csv").read_text("utf-8")))
        assert row["detail"] == f"'{text}"


class TestLogs:
    def test_a_log_a_series_as_its_own_tools_read_it(self, run):
        run.write()
        file = SeriesFile(run.directory, run.plan.run, 1_790_000_000_000_000_000)
        for second, counts in enumerate([{5: 2, 300: 1}, {401_408: 4}]):
            start = 1_790_000_000_000_000_000 + second * 10**9
            file.append([Interval("gap@after", start, start + 10**9, encoded(counts), 1)])
            file.append([Interval("read-lag@after", start, start + 10**9, encoded({7: 1}))])
        file.close()
        assert invoke(["judge", str(run.directory), "--export", "hlog", "--export", "hgrm"]) == 0
        names = sorted(path.name for path in (run.directory / "export").iterdir())
        assert names == ["gap@after.hgrm", "gap@after.hlog", "read-lag@after.hgrm", "read-lag@after.hlog"]
        path = run.directory / "export" / "gap@after.hlog"
        assert b"Tag=" not in path.read_bytes().replace(b"Tag: ", b"")
        with contextlib.closing(HistogramLogReader(str(path), HdrHistogram(1, (1 << 46) - 1, 2))) as reader:
            intervals = list(iter(reader.get_next_interval_histogram, None))
        totals = [(found.get_total_count(), found.get_max_value()) for found in intervals]
        assert [count for count, _ in totals] == [3, 4]
        assert totals[0][1] == 301


class TestCommand:
    @pytest.fixture
    def judged(self, run):
        run.claims("success >= 98%", "lost = 0")
        run.streams(200)
        run.write()
        return str(run.directory)

    def test_judge_writes_the_same_bytes_again(self, tmp_path, judged, capsys):
        read = []
        for attempt in ("a", "b"):
            folder = tmp_path / attempt / "deep"
            files = {name: folder / f"v.{name}" for name in ("junit", "markdown", "openmetrics")}
            options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
            assert invoke(["judge", judged, *options, "--annotations", "--export", "csv"]) == 0
            exported = sorted((Path(judged) / "export").glob("*.csv"))
            read.append([path.read_bytes() for path in (*files.values(), *exported)])
        assert read[0] == read[1]
        assert len(read[0]) == 6
        assert all(read[0])
        assert "::notice title=sseproof" in capsys.readouterr().err

    def test_a_step_summary_is_appended_to(self, tmp_path, judged, monkeypatch):
        summary = tmp_path / "summary.md"
        summary.write_text("# Before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        assert invoke(["judge", judged, "--markdown", str(summary)]) == 0
        once = summary.read_text("utf-8")
        assert once.startswith("# Before\n\n## 2 of 2 claims hold.\n")
        assert invoke(["judge", judged, "--markdown", str(summary)]) == 0
        assert summary.read_text("utf-8").count("## 2 of 2 claims hold.") == 2
        summary.write_bytes(b"x" * (MOST_BYTES - 100))
        assert invoke(["judge", judged, "--markdown", str(summary)]) == 0
        assert MOST_BYTES - 100 <= summary.stat().st_size <= MOST_BYTES, "GitHub drops a larger one whole"
        other = tmp_path / "other.md"
        for _ in range(2):
            assert invoke(["judge", judged, "--markdown", str(other)]) == 0
        assert other.read_text("utf-8").count("## 2 of 2 claims hold.") == 1

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--junit", ""], ["--junit", "name of a file"]),
            (["--markdown", ""], ["--markdown", "GITHUB_STEP_SUMMARY is only set"]),
            (["--openmetrics", "-"], ["--openmetrics", "name of a file"]),
            (["--junit", "FOLDER"], ["--junit", "something else than a file"]),
            (["--junit", "FOLDER/a", "--markdown", "FOLDER/a"], ["--markdown and --junit", "same file"]),
            (["--junit", "FOLDER/plan.json/deep/a.xml"], ["--junit", "plan.json; name a file elsewhere"]),
            (["--junit", f"FOLDER/{'x' * 300}"], ["--junit", "too long"]),
            (["--export", "xls"], ["--export", "csv"]),
        ],
    )
    def test_a_place_that_cannot_be_written_is_refused(self, tmp_path, judged, capsys, options, words):
        told = [option.replace("FOLDER", str(tmp_path)) for option in options]
        assert invoke(["judge", judged, *told]) == 64
        assert not (Path(judged) / "verdict.json").exists(), "said before anything is done"
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        for word in words:
            assert word in lines[0]

    def test_it_is_refused_before_the_target_is_looked_at(self, tmp_path):
        with pytest.raises(UsageError, match="name another one"):
            check_outputs(Outputs(junit=tmp_path))
        assert invoke(["run", "--target", "http://127.0.0.1:9/", "--junit", str(tmp_path)]) == 64
        assert invoke(["demo", "--markdown", str(tmp_path)]) == 64

    def test_a_disk_that_refuses_is_the_rigs_fault(self, tmp_path, judged, capsys, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        monkeypatch.setattr("sseproof.judging.write_verdict", lambda *_: None)
        monkeypatch.setattr("sseproof.judging.write_bytes", lambda *_: None)
        assert invoke(["judge", judged, "--junit", str(tmp_path / "a.xml")]) == 70
        assert (
            f"--junit {tmp_path / 'a.xml'} can't be written: No space left on device."
            in capsys.readouterr().err
        )


def test_what_a_ci_server_obeys_is_never_printed(run, capsys, monkeypatch):
    """Text from a target reaches standard output and error; no line of them is a command to GitHub, Azure or TeamCity."""
    said = "::set-output name=a::b ##[add-mask]7 ##vso[task.complete] ##teamcity[x]"
    run.claims("success = 100%")
    run.plan.notes = [f"{said} {said}", f"{'x' * 77} {said}"]
    run.failed(detail=said)
    run.write()
    for options in ([], ["--json"]):
        assert invoke(["judge", str(run.directory), *options]) == 1
        shown = capsys.readouterr()
        for line in (shown.out + shown.err).splitlines():
            assert not line.lstrip().startswith("::")
            assert not re.search(r"##\w*\[", line)
    assert "##[add-mask]7" in judge_directory(run.directory).verdicts[0].next, (
        "in JSON only the writing differs"
    )


def test_a_case_has_what_readers_need():
    (run_case, case) = cases_of(of(verdict("unknown", "rig-late")))
    assert run_case.kind == RUN_CLASS
    assert case.text == "rig-late: A sentence. Good: 9 of 10 streams. Next: A step."
