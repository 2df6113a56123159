"""report.html in a real Chromium: nothing is fetched, nothing is wider than the page, everything can be read.

The distribution's browser is used (apt-get install chromium); where CI is set, a missing one is a failure.
"""

import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from sseproof.reports.render import render_report
from sseproof.rundir.files import REPORT_NAME
from tests.reports.made_runs import crowded, one_variant, two_variants

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.alone]

POLICY = "default-src 'none'"
LOWEST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for text of ordinary size."""
REAL = pytest.param("demo", marks=pytest.mark.slow)
"""The demo's own report: real groups, real times, three hundred labels more."""
KINDS = ("two", "hostile", "crowded", "zero", "single", REAL)
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
    }
    return {kind: render_report(make(tmp_path_factory.mktemp(kind))) for kind, make in makers.items()}


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
        # Without a sandbox of its own: containers refuse it, and the page holds no script.
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
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

    def __init__(self, browser: Any, url: str, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
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
        assert all("style" in message for message in seen.console), seen.console
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


@pytest.mark.parametrize("kind", ["two", REAL])
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


@pytest.mark.parametrize("kind", ["two", "hostile", REAL])
def test_a_print_splits_no_chart_and_cuts_nothing_off(browser: Any, report: bytes, kind: str) -> None:
    with Served(report, None) as served, Seen(browser, served.url, PRINTED_WIDTH) as seen:
        page = seen.page
        page.emulate_media(media="print")
        figures = page.evaluate(
            "[...document.querySelectorAll('figure, .claim')].map(each => ["
            " getComputedStyle(each).breakInside, each.getBoundingClientRect().height])"
        )
        assert len(figures) > 10
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
