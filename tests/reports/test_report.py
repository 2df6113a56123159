"""report.html as a document: what it says, that it needs nothing from outside, and what it costs."""

import base64
import hashlib
import html.parser
import re
import time
from pathlib import Path

import msgspec
import pytest

from sseproof.chaos.plan import parse_groups, plan_faults
from sseproof.reports.charts.svg import FAIL, PASS, UNKNOWN
from sseproof.reports.checks import fault_windows
from sseproof.reports.evidence import Evidence
from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.render import pieces, render_history, render_report, write_report
from sseproof.reports.view.model import ClaimRow, Page
from sseproof.reports.view.page import build_page
from sseproof.reports.view.record import new_record
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import REPORT_NAME
from tests.reports.conftest import RunBuilder
from tests.reports.made_runs import HOSTILE, Maker, crowded, one_variant, two_variants

VOID = {"wbr", "meta", "link", "br", "img", "input", "hr"}
REMOTE = (
    "src",
    "href",
    "xlink:href",
    "action",
    "data",
    "poster",
    "srcset",
    "background",
    "ping",
    "formaction",
)


class Document(html.parser.HTMLParser):
    """Every element with its attributes, its text, and whether all are closed in order."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.stack: list[str] = []
        self.broken = False
        self.feed(content.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.broken = tag == "wbr" and bool(self.texts)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack[-1] == tag, f"</{tag}> closes <{self.stack[-1]}>"
        self.stack.pop()

    def handle_data(self, data):
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        if self.broken:  # a word that may break is one text
            self.broken = False
            tag, before = self.texts.pop()
            self.texts.append((tag, before + data))
        elif self.stack and data.strip():
            self.texts.append((self.stack[-1], data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text.strip() for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        return "\n".join(text.strip() for _, text in self.texts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories of every kind, made once."""
    kinds = {
        "two": lambda path: two_variants(path, 120),
        "one": lambda path: one_variant(path, 120),
        "quiet": lambda path: one_variant(path, 60, faults=False),
        "single": lambda path: one_variant(path, 1, faults=False),
        "zero": lambda path: one_variant(path, 0, faults=False),
        "hostile": lambda path: two_variants(path, 24, hostile=True),
        "crowded": crowded,
    }
    return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in kinds.items()}


def page_of(directory: Path) -> Page:
    history = read_history(directory)
    return build_page(new_record(history, all_facts(history), judge(history)))


def headings(page: Page) -> dict[str, str]:
    return {section.key: section.heading for section in page.sections}


KINDS = ("two", "one", "quiet", "single", "zero", "hostile", "crowded")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_comes_from_outside_and_only_the_pages_own_script_runs(
    made: dict[str, Path], kind: str
) -> None:
    document = Document(render_report(made[kind]))
    tags = {tag for tag, _ in document.elements}
    assert not tags & {
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "image",
        "use",
        "foreignobject",
    }
    for tag, attributes in document.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", "a policy without styles drops it: use presentation attributes"
            if name in REMOTE:
                assert value.startswith("#") or tag == "path", (tag, name, value)
            assert "url(" not in value
    (style,) = document.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    (script,) = document.text_of("script")
    for word in ("fetch", "XMLHttpRequest", "import", "eval", "Function", "innerHTML", "outerHTML", "insertAdjacent",
                 "document.write", "cookie", "Storage", "WebSocket", "EventSource", "location"):  # fmt: skip
        assert word not in script, word
    assert re.findall(r"https?://[^\"]+", script) == ["http://www.w3.org/2000/svg"], (
        "a namespace, which nobody fetches"
    )
    assert len(script.splitlines()) <= 200
    (policy,) = (each["content"] for each in document.all("meta") if "http-equiv" in each)
    raw = render_report(made[kind]).decode()
    own = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", raw, re.DOTALL) for tag in ("style", "script")}
    digests = {
        tag: base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        for tag, texts in own.items()
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'"
    )
    assert not document.stack, "elements left open"


@pytest.mark.parametrize("kind", KINDS)
def test_every_link_leads_somewhere_and_ids_are_unique(made: dict[str, Path], kind: str) -> None:
    document = Document(render_report(made[kind]))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"].removeprefix("#") for attributes in document.all("a")]
    assert links
    assert set(links) <= set(ids)
    for _, attributes in document.elements:
        for reference in attributes.get("aria-labelledby", "").split():
            assert reference in ids


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_has_title_description_axes_sentence_and_data(made: dict[str, Path], kind: str) -> None:
    page = page_of(made[kind])
    figures = [block.chart for section in page.sections for block in section.blocks if block.kind == "figure"]
    assert figures or kind == "zero"
    for chart in figures:
        assert chart.title, chart.key
        assert chart.description.endswith("."), chart.key
        assert chart.sentence.endswith("."), chart.key
        assert chart.table is not None, chart.key
        assert 0 < len(chart.table.rows) <= 200, chart.key
        assert {len(row) for row in chart.table.rows} == {len(chart.table.columns)}, chart.key
        texts = " ".join(text.text for text in chart.texts)
        assert any(
            unit in texts
            for unit in (", s", ", ms", "log scale", "%", "number of streams", "percentage points")
        ), f"{chart.key} has no axis title with its unit"
    drawn = [svg for svg in Document(render_report(made[kind])).all("svg") if svg.get("role") == "img"]
    bars = [
        row.bar
        for section in page.sections
        for b in section.blocks
        if b.kind == "claims"
        for row in b.rows
        if row.bar
    ]
    assert len(drawn) == len(figures) + len(bars)


def test_same_record_same_bytes(made: dict[str, Path]) -> None:
    first = render_report(made["two"])
    assert render_report(made["two"]) == first
    assert write_report(made["two"]).read_bytes() == first
    assert (made["two"] / REPORT_NAME).exists()
    assert str(made["two"]).encode() not in first, "the directory's place is no part of the record"
    (made["two"] / REPORT_NAME).unlink()


def test_the_order_is_that_of_three_readings(made: dict[str, Path]) -> None:
    keys = [section.key for section in page_of(made["two"]).sections]
    assert keys == ["claims", "sides", "broke", "faults", "spread", "ruler", "limits", "repeat"]
    assert "sides" not in headings(page_of(made["one"]))


def test_the_decision_comes_first_with_a_chip_for_each_counting_claim(made: dict[str, Path]) -> None:
    page = page_of(made["two"])
    document = Document(render_report(made["two"]))
    assert document.text_of("h1") == [page.decision]
    verdicts = [verdict for verdict in judge(read_history(made["two"])).verdicts if verdict.counts]
    assert [chip.answer for chip in page.chips] == [verdict.verdict for verdict in verdicts]
    words = [text for text in document.text_of("strong") if text[0] in "✓✕?"]
    assert len(words) == 2 * len(verdicts), "a chip on top and one in the row"
    for chip in page.chips:
        assert f"{chip.mark} {chip.answer}" in words


def test_hostile_text_is_shown_and_never_markup(made: dict[str, Path]) -> None:
    content = render_report(made["hostile"])
    document = Document(content)
    assert "<script>alert(1)</script>" in document.text
    assert content.count(b"<script") == 1, "the page's own"
    assert b"<img" not in content
    assert "\u202e" not in content.decode(), "a bidi override turns lines round"
    assert "{{ 7*7 }}" in document.text, "foreign braces are text, not a template"
    assert "49" not in {text.strip() for text in document.text_of("dd")}
    assert HOSTILE not in content.decode()


def test_right_to_left_names_are_isolated(made: dict[str, Path]) -> None:
    text = Document(render_report(made["hostile"])).text
    assert "\u2068" in text
    assert text.count("\u2068") == text.count("\u2069")


@pytest.mark.integration
def test_ten_thousand_streams_stay_small_and_quick(tmp_path: Path) -> None:
    two_variants(tmp_path, 5_000)
    started = time.process_time()
    content = render_report(tmp_path)
    took = time.process_time() - started
    assert len(content) <= 1_000_000
    assert took <= 5.0
    assert "Showing 4,000 of 5,000 points" in Document(content).text
    rows = list(Document(content).all("tr"))
    assert len(rows) < 2_000


def test_a_run_without_streams_says_so_and_nothing_passes(made: dict[str, Path]) -> None:
    page = page_of(made["zero"])
    assert {chip.answer for chip in page.chips} == {"unknown"}
    document = Document(render_report(made["zero"]))
    assert "No stream was recorded." in document.text
    assert "No claim could be measured" in document.text
    assert "%)" not in document.text, "no percentage without its n"
    assert "not measured" in document.text


def test_a_run_without_claims_has_no_claims_section(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.stream(0, 0.0, None, "clean")
    maker.documents([None], claims=(), length_s=5.0)
    maker.close()
    page = page_of(tmp_path)
    assert page.answer == "none"
    assert "claims" not in headings(page)
    assert "No claim was given" in page.decision
    assert any("nothing here is a pass" in item for item in bullets(page, "limits"))


def bullets(page: Page, key: str) -> list[str]:
    (section,) = (section for section in page.sections if section.key == key)
    return [item for block in section.blocks if block.kind == "bullets" for item in block.items]


@pytest.mark.parametrize("name", ["generator", "breaks", "faults", "witness", "streams", "starts"])
def test_a_missing_file_is_named_and_the_rest_is_shown(tmp_path: Path, name: str) -> None:
    one_variant(tmp_path, 30)
    (tmp_path / f"{name}.jsonl").unlink()
    document = Document(render_report(tmp_path))
    assert f"{name}.jsonl is missing." in document.text_of("li")
    assert document.text_of("h1")


def test_missing_run_json_leaves_a_report(tmp_path: Path) -> None:
    one_variant(tmp_path, 30)
    (tmp_path / "run.json").unlink()
    document = Document(render_report(tmp_path))
    assert any("run.json is missing" in text for text in document.text_of("li"))
    assert any("The command is not on record" in text for text in document.text_of("p"))


def test_a_torn_row_is_named(tmp_path: Path) -> None:
    one_variant(tmp_path, 30)
    with (tmp_path / "streams.jsonl").open("ab") as file:
        file.write(b'{"stream":99,"disp')
    assert any("streams.jsonl is damaged" in text for text in Document(render_report(tmp_path)).text_of("li"))


def test_a_foreign_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run directory"):
        render_report(tmp_path)


def test_a_killed_run_says_so_on_top(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.stream(0, 0.0, None, "clean")
    maker.documents([None], length_s=5.0, how="running")
    maker.close()
    page = page_of(tmp_path)
    assert ("Ended", "killed") in page.about
    assert any("has no end on record" in problem for problem in page.problems)


# --- the bars are the verdicts -----------------------------------------------------------------------------------------------


def claim_rows(page: Page) -> list[ClaimRow]:
    return [
        row
        for section in page.sections
        for block in section.blocks
        if block.kind == "claims"
        for row in block.rows
    ]


def placed(row: ClaimRow) -> tuple[float, float, float]:
    """Left and right end of the interval, and the line of what is asked, in thousandths of the width."""
    assert row.bar is not None
    colour = {"pass": PASS, "fail": FAIL, "unknown": UNKNOWN}[row.answer]
    (box,) = (
        dict(shape.attributes)["d"] for shape in row.bar.shapes if dict(shape.attributes)["fill"] == colour
    )
    (line,) = (
        dict(shape.attributes)["d"]
        for shape in row.bar.shapes
        if dict(shape.attributes).get("stroke-dasharray")
    )
    left, right = re.match(r"M([\d.]+) [\d.]+H([\d.]+)V", box).groups()
    return float(left), float(right), float(line[1:].split()[0])


@pytest.mark.parametrize("late", [0, 1, 2, 3, 4, 6, 9, 12, 20, 40])
def test_a_bar_of_times_lies_on_the_side_of_its_verdict(run: RunBuilder, late: int) -> None:
    """The interval is the dual of the count: whole on the good side passes, on the bad side fails, across is unknown."""
    run.claims("ttft p95 <= 500ms")
    for number in range(120):
        wait_ms = 400 - number if number >= late else 600 + number
        run.stream(first_token=run.at(1 + wait_ms))
    page = page_of(run.write())
    (row,) = claim_rows(page)
    left, right, asked = placed(row)
    side = "pass" if right <= asked else "fail" if left > asked else "unknown"
    assert side == row.answer


@pytest.mark.parametrize("bad", [0, 1, 3, 4, 6, 9, 15, 60])
def test_a_bar_of_shares_lies_on_the_side_of_its_verdict(run: RunBuilder, bad: int) -> None:
    run.claims("success >= 95%")
    run.streams(120 - bad)
    for _ in range(bad):
        run.failed()
    (row,) = claim_rows(page_of(run.write()))
    left, right, asked = placed(row)
    side = "pass" if left >= asked else "fail" if right < asked else "unknown"
    assert side == row.answer


def test_open_load_shows_ttft_from_plan_and_from_send(run: RunBuilder) -> None:
    for number in range(30):
        run.stream(intended=run.at(-100.0 * number), start_ms=0.0)
    page = page_of(run.write())
    (section,) = (section for section in page.sections if section.key == "spread")
    chart = next(block.chart for block in section.blocks if block.kind == "figure")
    assert chart.key == "ttft-spectrum"
    assert [key.text for key in chart.keys] == ["from plan", "from send"]
    plan, send = chart.table.rows
    assert plan[2] != send[2] == "86 ms (86 ms to 86 ms)"
    assert "from plan" in section.heading or "TTFT p50" in section.heading


def test_variants_are_compared_with_an_interval_of_their_difference(run: RunBuilder) -> None:
    run.variant("before", judged=False)
    run.variant("after")
    for variant, good in (("before", 48), ("after", 56)):
        for number in range(80 if variant == "before" else 70):
            if number < good:
                run.stream(variant=variant)
            else:
                run.failed(variant=variant)
    (section,) = (section for section in page_of(run.write()).sections if section.key == "sides")
    (chart,) = (b.chart for b in section.blocks if b.kind == "figure" and b.chart.key == "difference")
    # Newcombe 1998, table II (a): 56/70 - 48/80 = 0.2, method 10: 0.0524 to 0.3339.
    assert chart.sentence == (
        "after less before: +20 percentage points, at 95 % between +5.24 and +33.4 (Newcombe, 70 and 80 streams): more "
        "than chance makes."
    )
    assert chart.table.rows == [["after less before", "+20", "+5.24", "+33.4"]]


# --- findings ------------------------------------------------------------------------------------------------------------


def test_headings_state_the_finding(made: dict[str, Path]) -> None:
    history = read_history(made["two"])
    verdict = judge(history)
    found = headings(page_of(made["two"]))
    before, after = (variant.summary for variant in verdict.variants)
    assert f"before {before.good} of 120" in found["sides"]
    assert f"after {after.good} of 120" in found["sides"]
    bad = 240 - before.good - after.good
    assert found["broke"].startswith(f"{bad} of 240 streams did not end well, most often cut")
    assert "under a fault" in found["faults"]
    assert found["ruler"].startswith("The generator kept up: ")
    assert "seed 7" in found["repeat"]


def test_what_broke_counts_every_class_once(made: dict[str, Path]) -> None:
    history = read_history(made["two"])
    facts = all_facts(history)
    (section,) = (section for section in page_of(made["two"]).sections if section.key == "broke")
    ends, *charts = (block.chart for block in section.blocks if block.kind == "figure")
    assert ends.table.columns == ["ended", "before", "after", "share of all"]
    counted = {row[0]: int(row[1]) + int(row[2]) for row in ends.table.rows}
    whole = counted.pop("well, never broke")
    assert sum(counted.values()) == sum(1 for each in facts if not each.good or each.record.breaks)
    assert whole + sum(counted.values()) == len(facts)
    bad = [count for label, count in counted.items() if not label.startswith("complete")]
    assert bad == sorted(bad, reverse=True), "most frequent first"
    assert len(charts) == len(counted)
    for chart in charts:
        assert 1 <= len([text for text in chart.texts if text.text.startswith("stream ")]) <= 3


def test_a_class_shows_three_streams_from_all_variants(run: RunBuilder) -> None:
    run.variant("before", judged=False)
    run.variant("after")
    for variant in ("before", "after"):
        for _ in range(5):
            run.failed(variant=variant)
    (section,) = (section for section in page_of(run.write()).sections if section.key == "broke")
    _, chart = (block.chart for block in section.blocks if block.kind == "figure")
    shown = [text.text for text in chart.texts if text.text.startswith("stream ")]
    assert [text.split(" · ")[1] for text in shown] == ["before", "before", "after"]
    assert "Showing 3 of 10." in chart.sentence


def test_the_active_fault_is_named_with_its_share(made: dict[str, Path]) -> None:
    text = Document(render_report(made["two"])).text
    assert "Active on their path: cut in cut-rst in 20 of 20 (100 %)" in text


def test_a_fault_acts_from_its_call_to_its_healing_each_time(run: RunBuilder) -> None:
    told = {"fault": "gone", "group": "gone"}
    run.fault("applied", kind="clean", call_sent_ns=run.t0, call_answered_ns=run.t0, **told)
    for window, since in ((1, 2), (2, 6)):
        for variant in (None, "other"):
            at = run.t0 + since * 10**9 + (variant is not None) * 10**8
            told |= {"kind": "refused", "window": window, "variant": variant}
            run.fault("applied", call_sent_ns=at, call_answered_ns=at + 1, ok=True, **told)
            run.fault("healed", call_sent_ns=at + 10**9, call_answered_ns=at + 10**9, ok=True, **told)
    run.fault("applied", fault="never", kind="cut", ok=False)
    run.fault("applied", fault="stands", kind="cut", group="cut")
    windows = fault_windows(read_history(run.write()).faults)
    seconds = [
        (
            each.kind,
            each.variant,
            (each.since_ns - run.t0) / 1e9,
            each.healed_ns and (each.healed_ns - run.t0) / 1e9,
        )
        for each in windows
    ]
    assert seconds == [
        ("refused", None, 2.0, 3.0),
        ("refused", "other", 2.1, 3.1),
        ("refused", None, 6.0, 7.0),
        ("refused", "other", 6.1, 7.1),
        ("cut", None, 0.0, None),
    ]


@pytest.mark.parametrize(
    ("since", "until", "bands"),
    [((0.0, 0.1), (29.6, 31.5), 1), ((5.0, 5.2), (7.0, 7.3), 1), ((5.0, 6.0), (7.0, 8.0), 2)],
)
def test_one_fault_of_two_variants_is_one_band(
    run: RunBuilder, since: tuple[float, float], until: tuple[float, float], bands: int
) -> None:
    run.variant("before", judged=False)
    run.variant("after")
    for name, start, end in zip(("before", "after"), since, until, strict=True):
        run.stream(variant=name, ended=run.at(30_000))
        told = {"fault": "f", "kind": "stall", "group": "g", "variant": name}
        for step, moment in (("applied", start), ("healed", end)):
            at = run.t0 + round(moment * 1e9)
            run.fault(step, call_sent_ns=at, call_answered_ns=at, **told)
    history = read_history(run.write())
    assert len(new_record(history, all_facts(history), judge(history)).bands()) == bands


def test_reconnection_is_counted_against_the_line(made: dict[str, Path]) -> None:
    text = Document(render_report(made["two"])).text
    assert "Breaks with a new event within 1 s: before: 0 of 40 (0 %); after: 40 of 40 (100 %)" in text
    assert "Reconnection, before: after none of 40 breaks did a new event come." in text


def test_evidence_has_a_row_a_fault_and_is_absent_without(made: dict[str, Path]) -> None:
    evidence = [
        Evidence(group="a", kind="cut", variant=None, acted=True, sentence="40 of 40 were reset"),
        Evidence(group="b", kind="stall", variant=None, acted=False, sentence="<b>nothing</b> stalled"),
        Evidence(group="c", kind="slice", variant=None, acted=None, sentence="not measured"),
    ]
    history = read_history(made["one"])
    verdict = judge(history)
    verdict.faults = evidence
    document = Document(render_history(history, verdict))
    assert "1 of 3 faults are known to have acted" in document.text
    for text in ("✓ acted", "✕ no effect", "? not known", "40 of 40 were reset", "<b>nothing</b> stalled"):
        assert text in document.text_of("td"), text
    assert "known to have acted" not in Document(render_report(made["one"])).text


def test_planned_faults_bring_their_evidence(run: RunBuilder) -> None:
    groups = parse_groups([{"kind": "cut", "share": "50%", "by": "rst", "after_bytes": 900}])
    plan = plan_faults(
        groups,
        run="r",
        seed=1,
        upstreams={None: "127.0.0.1:9"},
        connect_ns=1_000_000,
        at_once=5,
    )
    run.plan.faults = msgspec.Raw(msgspec.json.encode(plan))
    run.stream(group="clean")
    text = Document(render_report(run.write())).text
    assert "0 of 1 faults are known to have acted" in text
    assert "? not known" in text


def test_what_the_run_does_not_show_names_every_unknown_claim(made: dict[str, Path]) -> None:
    page = page_of(made["single"])
    items = bullets(page, "limits")
    for chip in page.chips:
        if chip.answer == "unknown":
            assert any(f"“{chip.claim}”" in item for item in items), chip.claim
    assert any("No connection broke" in item for item in items)
    assert any("No fault acted" in item for item in items)
    assert any("1 stream shows no percentile with an interval" in item for item in items)


@pytest.mark.parametrize(
    ("streams", "words"),
    [(35, "up to p50"), (71, "up to p90"), (367, "up to p95"), (368, "up to p99"), (3_688, None)],
)
def test_percentiles_without_an_interval_are_not_said_to_be_shown(
    run: RunBuilder, streams: int, words: str | None
) -> None:
    """The fewest of measurement.md 3.4."""
    run.streams(streams)
    items = bullets(page_of(run.write()), "limits")
    said = [item for item in items if "percentile" in item]
    assert len(said) == (words is not None)
    assert words is None or f"show percentiles with an interval {words}, not beyond." in said[0]


def test_a_crowded_run_stays_bounded(made: dict[str, Path]) -> None:
    content = render_report(made["crowded"])
    assert len(content) < 400_000
    text = Document(content).text
    assert "Without lanes: " in text
    assert "more faults" in text
    assert "How 40 unfinished streams would have ended." in text
    assert "What 8 streams would have met that we could not start in time." in text
    assert "y" * 61 not in text
    assert "x" * 301 not in text


def test_the_command_repeats_the_run(made: dict[str, Path]) -> None:
    assert "sseproof run demo.toml --seed 7" in Document(render_report(made["one"])).text_of("code")


def test_no_percentage_without_its_n(made: dict[str, Path]) -> None:
    """Findings and sentences that name a share also name what it is a share of."""
    page = page_of(made["two"])
    sentences = [section.heading for section in page.sections]
    sentences += [
        block.text for section in page.sections for block in section.blocks if block.kind == "subheading"
    ]
    for sentence in sentences:
        if "%" in sentence.replace("99 % of gaps", ""):
            assert " of " in sentence, sentence


@pytest.mark.parametrize(
    ("text", "tied"),
    [
        ("98 % in 1.2 s", "98\u00a0% in 1.2\u00a0s"),
        ("41 ms late", "41\u00a0ms late"),
        ("5 streams, 3 slow", "5 streams, 3 slow"),
    ],
)
def test_numbers_stay_with_their_units(text: str, tied: str) -> None:
    assert pieces(text) == [tied]


def test_only_long_words_may_break() -> None:
    assert pieces("a" * 24 + " b") == ["a" * 24 + " b"]
    assert pieces("x " + "a" * 50 + " y") == ["x " + "a" * 24, "a" * 24, "aa y"]
    assert pieces("") == [""]
