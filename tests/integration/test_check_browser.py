"""The page of `sseproof check` in a real Chromium: nothing is wider than the page, and axe-core finds nothing serious."""

from typing import Any

import pytest

from sseproof.reports.render import render_check
from tests.integration.test_report_browser import axe_playwright_python, browser  # noqa: F401  # the fixture
from tests.reports.test_endpoint_page import hostile

assert axe_playwright_python
from axe_playwright_python.sync_playwright import Axe  # noqa: E402  # only where it is installed

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark")])
def test_the_page_fits_and_can_be_read(width: int, scheme: str, browser: Any) -> None:  # noqa: F811  # the fixture
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_content(render_check(hostile(), capture="checks/kept.json").decode())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not [url for url in asked if not url.startswith("about:")]
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response
        assert len(found["passes"]) > 20, "axe looked"
        assert not [each["id"] for each in found["violations"] if each["impact"] in {"serious", "critical"}]
    finally:
        context.close()
