"""A page of another site in a real Chromium before a server that pays for its answers, and the server's own page."""

# ruff: noqa: F811  # the fixtures that are imported are what each test names

from typing import Any

import pytest

from tests.integration.pages import staged
from tests.integration.test_report_browser import browser, sync_api  # noqa: F401  # the fixture
from tests.reference_server.conftest import Serve, serve  # noqa: F401  # the fixture
from tests.reference_server.upstream import upstream

pytestmark = pytest.mark.integration

TRIES = """async url => {
    const load = (name, attribute) => new Promise(done => {
        const each = document.createElement(name);
        each.onload = each.onerror = done;
        each[attribute] = url;
        document.body.append(each);
    });
    await load("img", "src");
    await load("script", "src");
    await load("iframe", "src");
    for (const method of ["GET", "POST"]) {
        const body = method === "POST" ? '{"question":"whole"}' : undefined;
        await fetch(url, {method, body, mode: "no-cors"});
        await fetch(url, {method, body}).catch(() => {});
    }
    await new Promise(done => { new EventSource(url).onerror = done; });
}"""
WAYS = 8


def test_a_page_of_another_site_starts_no_answer_and_the_own_page_does(browser: Any, serve: Serve) -> None:
    with upstream() as model, staged(browser) as stage:
        server = serve(answers="upstream", environ=model.environ, fresh=True)
        stage.page.evaluate(TRIES, f"http://127.0.0.1:{server.port}/api/v1/stream/chat?question=whole")
        figures = server.client().send("/metrics", {"Connection": "close"}).reply().body.decode()
        refused = 'sse_server_errors_total{endpoint="/api/v1/stream/chat",reason="other-site"}'
        assert f"{refused} {WAYS}.0" in figures
        assert model.calls == [], "nothing was asked for, or paid"
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.wait_for_selector("body[data-ready]")
        page.get_by_label("Question").fill("whole")
        page.get_by_role("button", name="Ask", exact=True).click()
        for reader in ("careful", "native"):
            page.wait_for_selector(f"#{reader} [data-figure=text]:text-matches('exact')")
        context.close()
        assert len(model.calls) == 2
