"""report.html in a real Chromium: nothing is fetched, nothing is wider than the page, everything can be read and reached.

axe-core looks for what keeps people with a keyboard or a screen reader out; what it finds with an impact of "serious" or
"critical" is a failure.

The distribution's browser is used (apt-get install chromium); where CI is set, a missing one is a failure.
"""

import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from sseproof.compare_commands import Runs
from sseproof.compare_commands import compared as compare_runs
from sseproof.reports.render import render_report
from sseproof.rundir.files import REPORT_NAME
from tests.reports.made_runs import crowded, one_variant, two_variants
from tests.reports.made_sets import made_sides

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe_playwright_python = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
pytestmark = pytest.mark.integration

POLICY = "default-src 'none'"
LOWEST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for text of ordinary size."""
REAL = pytest.param("demo", marks=[pytest.mark.slow, pytest.mark.alone])
"""The demo's own report: real groups, real times, three hundred labels more. It lies where the demo measured."""
KINDS = ("two", "hostile", "crowded", "zero", "single", "compared", REAL)
SIZES = (400, 1280)


@pytest.fixture
def report(kind: str, made: dict[str, bytes], request: pytest.FixtureRequest) -> bytes:
    """The report of one kind; the demo runs only where it is asked for, and once for all modules."""
    if kind == "demo":
        return (request.getfixturevalue("full").directory / REPORT_NAME).read_bytes()
    return made[kind]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    makers = {
        "two": lambda path: two_variants(path, 120),
        "hostile": lambda path: two_variants(path, 24, hostile=True),
        "crowded": crowded,
        "zero": lambda path: one_variant(path, 0, faults=False),
        "single": lambda path: one_variant(path, 1, faults=False),
        "small": lambda path: two_variants(path, 12),
    }
    reports = {kind: render_report(make(tmp_path_factory.mktemp(kind))) for kind, make in makers.items()}
    return reports | {"compared": compared(tmp_path_factory.mktemp("compared"))}


def compared(folder: Path) -> bytes:
    """The page of a comparison of two sets of runs, whose chart of times has every kind of row."""
    before, after = made_sides(folder, 5, slower=1.3, bad=0.2)
    answer = compare_runs(
        Runs(before=before, after=after), gate=(), ratio=0.05, points=0.01, command=["sseproof"], report=None
    )
    return Path(answer.report).read_bytes()


FIRST_START_LIMIT_MS = 90_000
"""Of a browser that the machine has never started, beside two others that begin."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if path is None:
        missing = "no Chromium on PATH (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox of its own: containers refuse it, and the page's only script is ours.
        running = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"], timeout=FIRST_START_LIMIT_MS
        )
        yield running
        running.close()


class Served:
    """A loopback server with one report, which remembers what was asked of it."""

    def __init__(self, content: bytes, policy: str | None) -> None:
        self.paths: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                if policy is not None:
                    self.send_header("Content-Security-Policy", policy)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/report.html"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Seen:
    """A page with what it said on the console and what it asked for."""

    def __init__(
        self, browser: Any, url: str, width: int, scheme: str = "light", *, script: bool = True
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        self.page = self.context.new_page()
        self.console: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url, wait_until="load")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.context.close()

    def width(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", SIZES)
def test_nothing_is_fetched_and_nothing_is_wider_than_the_page(
    browser: Any, report: bytes, kind: str, width: int
) -> None:
    with Served(report, None) as served, Seen(browser, served.url, width) as seen:
        assert seen.width() <= width
        assert seen.console == []
        assert seen.requests == [served.url]
        assert set(served.paths) <= {"/report.html", "/favicon.ico"}
        assert (
            seen.page.evaluate("[...document.querySelectorAll('details')].forEach(each => each.open = true)")
            is None
        )
        assert seen.width() <= width, "opened tables scroll inside themselves"


WIDER = """
width => [...document.querySelectorAll('main *')]
  .filter(each => each.getBoundingClientRect().right > width + 1 && !each.closest('table, pre'))
  .map(each => [each.tagName, String(each.className), each.textContent.trim().slice(0, 40)])
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", SIZES)
def test_it_reads_under_a_policy_that_refuses_everything(
    browser: Any, report: bytes, kind: str, width: int
) -> None:
    with Served(report, POLICY) as served, Seen(browser, served.url, width) as seen:
        page = seen.page
        assert page.evaluate("getComputedStyle(document.body).maxWidth") == "none", "the policy acts"
        assert all("style" in message or "script" in message for message in seen.console), seen.console
        assert page.query_selector("button, input, svg line") is None, (
            "the script does not run, and leaves no dead control"
        )
        assert seen.requests == [served.url]
        assert page.inner_text("h1").strip()
        if width > min(SIZES):
            assert seen.width() <= width
        # Without its style a table can't scroll inside itself: on a phone it is what may be wider, and nothing else.
        assert page.evaluate(WIDER, width) == []
        drawn = page.evaluate(
            "[...document.querySelectorAll('svg[role=img]')].map(svg => ["
            " svg.getBoundingClientRect().width, svg.getBoundingClientRect().height,"
            " [...svg.querySelectorAll('path')].map(path => path.getBoundingClientRect())"
            ".filter(box => box.width + box.height > 0).length])"
        )
        assert drawn or kind == "zero"
        for chart_width, height, shapes in drawn:
            assert chart_width > 0.7 * width
            assert height > 40
            assert shapes >= 2, "ground and threshold at least; a dot has no box of its own"
        colours = page.evaluate(
            "[...new Set([...document.querySelectorAll('svg[role=img] path')].map("
            "path => getComputedStyle(path).stroke + getComputedStyle(path).fill))].length"
        )
        assert colours > 2 or kind == "zero", "colours are presentation attributes"


OVERLAPS = """
() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([text, box], index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 2 || box.top < frame.top - 2)
        found.push(['outside', svg.querySelector('title').textContent, text]);
      for (const [other, second] of boxes.slice(index + 1)) {
        const across = Math.min(box.right, second.right) - Math.max(box.left, second.left);
        const down = Math.min(box.bottom, second.bottom) - Math.max(box.top, second.top);
        if (across > 1 && down > 4) found.push(['overlap', svg.querySelector('title').textContent, text, other]);
      }
    });
  }
  return found;
}
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", SIZES)
def test_no_label_of_a_chart_is_cut_off_or_hides_another(
    browser: Any, report: bytes, kind: str, width: int
) -> None:
    with Served(report, None) as served, Seen(browser, served.url, width) as seen:
        assert seen.page.evaluate(OVERLAPS) == []


CONTRASTS = """
() => {
  const parse = colour => {
    const [r, g, b, a] = colour.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a === undefined ? 1 : a];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const result = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ['STYLE', 'title', 'desc'].includes(parent.tagName)) continue;
    const style = getComputedStyle(parent);
    const below = background(parent);
    const ink = over(parse(parent instanceof SVGElement ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    result.push([(a + 0.05) / (b + 0.05), walker.currentNode.textContent.trim().slice(0, 40), style.color]);
  }
  return result;
}
"""


@pytest.mark.parametrize("kind", ["two", "compared", REAL])
@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)]
)
def test_every_text_has_enough_contrast(
    browser: Any, report: bytes, kind: str, scheme: str, width: int
) -> None:
    with Served(report, None) as served, Seen(browser, served.url, width, scheme) as seen:
        page = seen.page
        page.evaluate("[...document.querySelectorAll('details')].forEach(each => each.open = true)")
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert body == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 300
        assert [each for each in contrasts if each[0] < LOWEST_CONTRAST] == []


PRINTED_WIDTH = 703
"""A4 less its margins, in CSS pixels."""
CUT_OFF = """
width => [...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  const scrolls = each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX !== 'visible';
  return box.width > 0 && (box.right > width + 1 || box.left < -1 || (scrolls && !(each instanceof SVGElement)));
}).map(each => [each.tagName, String(each.className), each.textContent.trim().slice(0, 40)])
"""


@pytest.mark.parametrize("kind", ["two", "hostile", "compared", REAL])
def test_a_print_splits_no_chart_and_cuts_nothing_off(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, PRINTED_WIDTH) as seen:
        page = seen.page
        page.emulate_media(media="print")
        figures = page.evaluate(
            "[...document.querySelectorAll('figure, .claim')].map(each => ["
            " getComputedStyle(each).breakInside, each.getBoundingClientRect().height])"
        )
        assert len(figures) > (6 if kind == "compared" else 10)
        for rule, height in figures:
            assert rule == "avoid"
            assert 0 < height < 1_000, "one page holds it"
        assert page.evaluate(CUT_OFF, PRINTED_WIDTH) == []
        # Wide content would make Chromium shrink the print or add pages beside: its pages hold the height and no more.
        height = page.evaluate("document.documentElement.scrollHeight")
        printed = page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "1.2cm"))
        pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))
        assert height / 1_050 - 1 <= pages <= 2 * height / 1_050 + 1


@pytest.mark.parametrize("kind", ["hostile", REAL])
def test_the_keyboard_reaches_what_scrolls(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 400) as seen:
        page = seen.page
        page.evaluate("[...document.querySelectorAll('details')].forEach(each => each.open = true)")
        stuck = page.evaluate(
            "[...document.querySelectorAll('*')].filter(each => each.scrollWidth > each.clientWidth + 1"
            " && ['auto', 'scroll'].includes(getComputedStyle(each).overflowX) && each.tabIndex < 0)"
            ".map(each => each.className)"
        )
        assert stuck == []


def test_a_caption_is_read_whole_on_a_narrow_screen_and_stays_where_its_table_scrolls(
    browser: Any, made: dict[str, bytes]
) -> None:
    outside = """[...document.querySelectorAll('caption span')].filter(each => {
      const box = each.getBoundingClientRect(); return box.left < 0 || box.right > window.innerWidth;
    }).map(each => each.textContent)"""
    with Served(made["two"], None) as served, Seen(browser, served.url, 400) as seen:
        page = seen.page
        assert page.evaluate("document.querySelectorAll('caption span').length") > 2
        assert page.evaluate(outside) == []
        scrolled = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(each => (each.scrollLeft = 90, each.scrollLeft))"
        )
        assert max(scrolled) > 0
        assert page.evaluate(outside) == []


# --- who can't see or point ------------------------------------------------------------------------------------------------

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
GRAVE = {"serious", "critical"}
LOOK = """
axe.run({exclude: [['tbody tr:nth-child(n+4)'], ['svg path']]}, {resultTypes: ['violations']})
"""
"""Rows of one table are alike: three of each are looked at."""


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("small", "light"),
        ("small", "dark"),
        ("hostile", "light"),
        ("zero", "dark"),
        ("compared", "light"),
        ("compared", "dark"),
        pytest.param("demo", "light", marks=[pytest.mark.slow, pytest.mark.alone]),
    ],
)
def test_axe_finds_nothing_serious(browser: Any, report: bytes, kind: str, scheme: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 1280, scheme) as seen:
        page = seen.page
        page.evaluate("[...document.querySelectorAll('details')].forEach(each => each.open = true)")
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate(LOOK)
        assert len(found["passes"]) > 20, "axe looked"
        assert [
            (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"][:3]])
            for each in found["violations"]
            if each["impact"] in GRAVE
        ] == []


@pytest.mark.parametrize("kind", ["zero"])
def test_axe_sees_what_is_wrong(browser: Any, report: bytes, kind: str) -> None:
    """The check can fail: a page whose text is hardly there, and a button without a name."""
    bad = report.replace(b"--ink: #1b1f24", b"--ink: #e0e0e0").replace(b"<main ", b"<button></button><main ")
    bad = re.sub(rb"<meta http-equiv[^>]*>", b"", bad)
    with Served(bad, None) as served, Seen(browser, served.url, 1280) as seen:
        seen.page.evaluate(AXE.read_text("utf-8"))
        found = seen.page.evaluate(LOOK)
        assert {"color-contrast", "button-name"} <= {
            each["id"] for each in found["violations"] if each["impact"] in GRAVE
        }


@pytest.mark.parametrize("kind", ["two"])
def test_the_first_tab_skips_to_the_claims(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 1280) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the claims"
        box = page.evaluate(
            "(box => [box.left, box.top, box.width])(document.activeElement.getBoundingClientRect())"
        )
        assert min(box) >= 0, "it is seen while it has the focus"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


# --- the optional script ---------------------------------------------------------------------------------------------------

VISIBLE = "[...document.querySelectorAll('article.claim')].filter(each => each.getBoundingClientRect().height > 0).length"


@pytest.mark.parametrize("kind", ["two"])
def test_claims_are_filtered_by_their_verdict(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 1280) as seen:
        page = seen.page
        every = page.evaluate(VISIBLE)
        button = page.get_by_role("button", name=re.compile("^✓ pass "))
        count = int(button.inner_text().rpartition(" ")[2])
        assert 0 < count < every
        button.focus()
        page.keyboard.press("Enter")
        assert page.evaluate(VISIBLE) == count
        assert button.get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name=f"all {every}").click()
        assert page.evaluate(VISIBLE) == every
        assert seen.console == []


@pytest.mark.parametrize("kind", ["crowded"])
def test_rows_are_filtered_and_counted(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 1280) as seen:
        page = seen.page
        page.get_by_role("button", name="Open all tables").click()
        assert page.evaluate("[...document.querySelectorAll('details')].every(each => each.open)")
        search = page.locator("input[type=search]").first
        line = search.locator("xpath=ancestor::p")
        table = line.locator("xpath=following-sibling::div[1]//tbody")
        word = table.locator("tr").first.locator("td").first.inner_text()
        search.fill(word.upper())
        rows = table.locator("tr").all()
        shown = [row for row in rows if row.is_visible()]
        assert len(shown) == sum(word.lower() in row.text_content().lower() for row in rows)
        assert f"{len(shown)}" in line.locator("[role=status]").inner_text()
        search.fill("no such row at all")
        assert line.locator("[role=status]").inner_text() == f"0 of {len(rows)} rows"


@pytest.mark.parametrize("kind", ["two"])
def test_a_pointer_reads_one_moment_in_all_charts_over_time(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, 1280) as seen:
        page = seen.page
        charts = page.locator("svg[data-from]")
        assert charts.count() >= 5
        chart = charts.first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        told = chart.evaluate(
            "each => ['from', 'to', 'start', 'end'].map(name => Number(each.dataset[name]))"
        )
        middle = (told[2] + told[3]) / 2
        page.mouse.move(box["x"] + box["width"] * middle / 1_000, box["y"] + box["height"] / 2)
        at = (told[0] + told[1]) / 2
        readout = chart.locator("xpath=following-sibling::p[1]").inner_text()
        assert abs(float(readout.partition(" s")[0]) - at) < 0.1
        assert "streams" in readout, "the row of the chart's own table"
        lines = page.locator("svg[data-from] > line")
        assert {line.get_attribute("visibility") for line in lines.all()} == {"visible"}
        page.mouse.move(5, 5)
        assert {line.get_attribute("visibility") for line in lines.all()} == {"hidden"}
        assert seen.console == []


@pytest.mark.parametrize("kind", ["two"])
def test_without_a_script_the_page_says_the_same(browser: Any, report: bytes, kind: str) -> None:
    texts = []
    for script in (True, False):
        with Served(report, None) as served, Seen(browser, served.url, 1280, script=script) as seen:
            texts.append(seen.page.locator("main").inner_text())
    added = re.compile(r"Rows with ?\n? ?\d+ rows\n*")
    assert added.sub("", texts[0]).split() == texts[1].split()
    assert len(texts[1]) > 5_000


INJECTED = (
    b"<img src=x onerror='document.title=1'><script>document.title=2</script><p style='color:red'>x</p>"
)


@pytest.mark.parametrize("kind", ["two"])
def test_even_markup_that_got_in_could_neither_run_nor_fetch(browser: Any, report: bytes, kind: str) -> None:
    """The page's own policy stands behind the escaping."""
    content = report.replace(b"<main ", INJECTED + b"<main ")
    with Served(content, None) as served, Seen(browser, served.url, 1280) as seen:
        assert seen.page.title() not in {"1", "2"}
        assert "/x" not in served.paths, "not even the picture was asked for"
        colour = seen.page.evaluate("getComputedStyle(document.querySelector('body > p[style]')).color")
        assert colour != "rgb(255, 0, 0)"
    without = re.sub(rb"<meta http-equiv[^>]*>", b"", content)
    with Served(without, None) as served, Seen(browser, served.url, 1280) as seen:
        assert seen.page.title() in {"1", "2"}, "without the policy it would have"
        assert "/x" in served.paths
