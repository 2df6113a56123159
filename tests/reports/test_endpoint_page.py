"""The page of a check: one file without scripts, everything foreign escaped, the findings worst first."""

import re

from sseproof.reports.charts.arrival import Arrived, arrival_chart
from sseproof.reports.render import render_check
from tests.reports.captures import events, head, judged, probed

HOSTILE = '</style><script>alert(1)</script>"onload="x'


def page_of(report) -> str:
    return render_check(report, capture="checks/kept.json").decode()


def hostile():
    body = [*events(), f"data: {HOSTILE}\u202e\xff\n\n".encode("latin-1", "replace"), b"Data: \xff<b>\n\n"]
    start = head(
        server=f"nginx {HOSTILE}", content_type=f"text/event-stream; charset={HOSTILE.replace(' ', '')}"
    )
    return judged(
        probed(body, start=start, detail=HOSTILE, end="fin"), terminal=None, sensitive_query=[HOSTILE]
    )


def test_the_page_is_one_file_that_needs_nothing() -> None:
    for report in (
        hostile(),
        judged(probed(events())),
        judged(probed([], start=b"", framed=False, end="refused")),
    ):
        page = page_of(report)
        assert "<script" not in page
        assert not re.search(r"(?:src|href)=\"(?!#)", page)
        assert "default-src 'none'; style-src 'sha256-" in page.replace("&#39;", "'")
        ids = re.findall(r"\bid=\"([^\"]+)\"", page)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r"href=\"#([^\"]+)\"", page)) <= set(ids)
        assert len(page) < 200_000


def test_foreign_text_stays_text() -> None:
    page = page_of(hostile())
    assert "</style><script>" not in page
    assert '"onload="' not in page
    assert "\u202e" not in page


def test_findings_stand_worst_first_with_evidence_and_fix() -> None:
    report = hostile()
    page = page_of(report)
    asking = [each for each in report.findings if each.verdict in {"fail", "unknown", "warn"}]
    places = [page.index(f'<article class="claim" id="{each.id.lower()}"') for each in asking]
    assert places == sorted(places)
    assert page.count("<b>Fix:</b>") == sum(bool(each.fix) for each in asking)
    assert "Data: \\xff&lt;b&gt;" in page.replace("<wbr>", "")


def test_the_chart_tells_bursts_inside_events_from_others() -> None:
    whole = arrival_chart("a", [Arrived(10.0, 600, 1, True), Arrived(50.0, 700, 2, True)], 60.0)
    assert whole is not None
    assert len(whole.keys) == 1
    assert whole.sentence.startswith("3 events and 1,300 bytes in 2 bursts")
    cut = arrival_chart("a", [Arrived(10.0, 600, 1, True), Arrived(50.0, 700, 2, False)], 60.0)
    assert cut is not None
    assert len(cut.keys) == 2
    assert "1 of them end inside" in cut.sentence
    assert arrival_chart("a", [], 60.0) is None
