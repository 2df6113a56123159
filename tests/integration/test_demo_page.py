"""The demo page of a real reference server in a real Chromium: both readers, what they show, and who can use it."""

# ruff: noqa: F811  # the fixtures that are imported are what each test names

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.pages import Stage, staged
from tests.integration.test_report_browser import AXE, GRAVE, browser, sync_api  # noqa: F401  # the fixture
from tests.reference_server.conftest import Serve, Server, serve  # noqa: F401  # the fixture

pytestmark = pytest.mark.integration

CHAT: Final = "**/api/v1/stream/chat*"
READERS: Final = ("careful", "native")
ENDED: Final = ":is([data-state=complete], [data-state=failed], [data-state=stopped])"
BROKEN: Final = re.compile("Failed to load resource: ")


class Demo:
    """The page, with everything it asked for and said."""

    def __init__(self, page: Any, server: Server) -> None:
        self.page = page
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        self.origin = f"http://127.0.0.1:{server.port}/"
        page.goto(self.origin)
        page.wait_for_selector("body[data-ready]")

    def ask(
        self,
        *,
        example: str = "",
        script: str = "",
        pace: str = "fast",
        question: str = "",
        token: str = "",
    ) -> None:
        if example:
            self.page.get_by_role("button", name=example).click()
        if script:
            self.page.get_by_label("Script of the answer").select_option(script)
        self.page.get_by_label("Pace of the answer").select_option(pace)
        if question:
            self.page.get_by_label("Question").fill(question)
        if token:
            self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Ask", exact=True).click()

    def until(self, reader: str, state: str) -> None:
        self.page.wait_for_selector(f"#{reader} .state{state}")

    def ended(self) -> None:
        """Until both readers are through, figures and all."""
        for reader in READERS:
            self.until(reader, ENDED)
            self.page.wait_for_selector(
                f"#{reader} [data-figure=text]:text-matches('exact|differs|compared|none')"
            )

    def state(self, reader: str) -> str:
        return self.page.locator(f"#{reader} .state .word").inner_text()

    def figure(self, reader: str, name: str) -> str:
        return self.page.locator(f"#{reader} [data-figure={name}]").inner_text()

    def answer(self, reader: str) -> str:
        return self.page.locator(f"#{reader} .answer").text_content()

    def complaints(self) -> list[str]:
        """What stands on the console but failed requests, which the browser itself notes there."""
        return [each for each in self.said if not BROKEN.match(each)]


@contextmanager
def demo(browser: Any, server: Server, **options: Any) -> Iterator[Demo]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    try:
        shown = Demo(context.new_page(), server)
        yield shown
        assert shown.complaints() == []
        assert [url for url in shown.asked if not url.startswith(shown.origin)] == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def stage(browser: Any) -> Iterator[Stage]:
    with staged(browser) as stage:
        yield stage


# --- what the readers get --------------------------------------------------------------------------------------------------


def test_both_readers_show_the_same_whole_answer(browser: Any, serve: Serve) -> None:
    with demo(browser, serve()) as page:
        page.ask(example="بالعربية")
        page.ended()
        for reader in READERS:
            assert page.state(reader) == "complete"
            assert [page.figure(reader, name) for name in ("lost", "doubled", "broken", "reconnected")] == [
                "0",
                "0",
                "0",
                "–",
            ]
            assert page.figure(reader, "connections") == "1"
            assert re.fullmatch(r"\d+ ms|\d+\.\d\d s", page.figure(reader, "ttft"))
            assert page.figure(reader, "text").endswith("chars, exact")
        sync_api.expect(page.page.locator("#careful .answer")).to_have_text(page.answer("native"))
        box = page.page.locator("#careful .answer")
        assert box.evaluate("each => getComputedStyle(each).direction") == "rtl"
        assert (
            page.page.get_by_label("Question").evaluate("each => getComputedStyle(each).direction") == "rtl"
        )


def test_what_the_server_does_wrong_is_told_apart(browser: Any, serve: Serve) -> None:
    """A cut, and a resume that begins anew: the careful reader leaves out what it has, the other one shows it twice."""
    with demo(browser, serve(misbehave="cut,no-resume", misbehave_share=1.0)) as page:
        page.ask(script="emoji", pace="ordinary")
        page.ended()
        assert page.state("careful") == "complete"
        assert page.figure("careful", "text").endswith("chars, exact")
        assert re.fullmatch(r"0 \(\d+ left out\)", page.figure("careful", "doubled"))
        assert page.state("native").startswith("damaged")
        assert int(page.figure("native", "doubled")) > 10
        assert page.figure("native", "text").endswith("chars, differs")
        for reader in READERS:
            # A browser too busy to read anything before the cut throws it all away, and begins another answer.
            assert int(page.figure(reader, "connections")) in {2, 3}
            assert re.match("[12] ×, ", page.figure(reader, "reconnected"))
            assert page.figure(reader, "lost") == "0"


def test_loss_and_damage_are_seen(browser: Any, serve: Serve) -> None:
    with demo(browser, serve(misbehave="loss,utf8", misbehave_share=1.0)) as page:
        page.ask(script="arabic")
        page.ended()
        for reader in READERS:
            assert page.state(reader).startswith("damaged")
            assert [page.figure(reader, name) for name in ("lost", "broken")] == ["1", "1"]
            assert page.figure(reader, "text").endswith("differs")


def test_without_ids_nothing_is_claimed(browser: Any, serve: Serve) -> None:
    with demo(browser, serve(profile="legacy")) as page:
        page.ask()
        page.ended()
        assert [page.figure(reader, name) for reader in READERS for name in ("lost", "doubled")] == ["–"] * 4


def test_a_stalled_answer_can_be_stopped_and_asked_again(browser: Any, serve: Serve) -> None:
    with demo(browser, serve(misbehave="stall", misbehave_share=1.0)) as page:
        stop = page.page.get_by_role("button", name="Stop")
        assert stop.is_disabled()
        page.ask()
        for reader in READERS:
            page.page.wait_for_selector(f"#{reader} .log :text-is('first token')")
        for _ in range(2):
            stop.click()
            page.ended()
            assert [page.state(reader) for reader in READERS] == ["stopped", "stopped"]
            assert stop.is_disabled()
            page.ask()
            for reader in READERS:
                page.until(reader, "[data-state=open]")
        page.ask()
        for reader in READERS:
            page.until(reader, "[data-state=open]")
            assert not re.search("compared|none", page.figure(reader, "text")), (
                "what was asked before is over"
            )
        assert page.page.locator("#said").inner_text() == "Asked."


def test_a_login_and_a_token(browser: Any, start_login: Server) -> None:
    with demo(browser, start_login) as page:
        page.ask()
        page.ended()
        assert page.state("careful").startswith("error-http: A login is needed")
        assert page.state("native") == "closed for good: the browser tells no reason"
        page.ask(token=TOKEN)
        page.until("careful", "[data-state=complete]")
        page.until("native", "[data-state=failed]")
        assert page.page.get_by_text("EventSource can’t send it").is_visible()
        page.page.get_by_label("Token").fill("سر")
        page.page.get_by_role("button", name="Ask", exact=True).click()
        assert (
            page.page.get_by_role("alert").inner_text()
            == "The token holds characters that no header can carry."
        )
        assert [url for url in page.asked if TOKEN in url] == []
        assert TOKEN not in page.page.content()
        kept = (
            "() => [localStorage.length, sessionStorage.length, document.cookie, location.href.includes('?')]"
        )
        assert page.page.evaluate(kept) == [0, 0, "", False]


TOKEN: Final = "a-token-that-is-long-enough-to-be-one"


@pytest.fixture
def start_login(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"ann:{TOKEN}\n", "utf-8")
    tokens.chmod(0o600)
    return serve(login=True, tokens_file=str(tokens))


def test_who_is_turned_away_waits_as_long_as_told(browser: Any, serve: Serve) -> None:
    with demo(browser, serve(rate_per_minute=1, rate_burst=2)) as page:
        page.ask()
        page.ended()
        page.ask()
        page.until("careful", "[data-state=waiting]")
        waits = re.fullmatch(r"status; attempt 2 in (\d+\.\d\d) s", page.state("careful"))
        assert waits
        assert 5 < float(waits[1]) <= 61, "one a minute: Retry-After is obeyed"
        page.until("native", "[data-state=failed]")
        page.page.get_by_role("button", name="Stop").click()


def test_what_was_chosen_is_what_is_asked_for(browser: Any, serve: Serve) -> None:
    """And both readers ask for the same answer."""
    with demo(browser, serve()) as page:
        bodies: list[dict[str, Any]] = []

        def noted(route: Any) -> None:
            request = route.request
            query = parse_qs(urlsplit(request.url).query)
            bodies.append(
                json.loads(request.post_data or "{}") or {key: value[0] for key, value in query.items()}
            )
            route.fulfill(status=204)

        page.page.route(CHAT, noted)
        for pace, wanted in (
            ("slow", {"interval_ms": 200}),
            ("ordinary", {}),
            ("fast", {"first_token_ms": 20, "interval_ms": 5}),
        ):
            page.page.get_by_label("Pace of the answer").select_option(pace)
            page.page.get_by_label("Question").fill("a & b?")
            page.page.get_by_role("button", name="Ask", exact=True).click()
            page.ended()
            careful, native = bodies[-2:] if isinstance(bodies[-2]["seed"], int) else bodies[:-3:-1]
            assert {key: str(value) for key, value in careful.items()} == native
            del careful["seed"]
            assert careful == {"question": "a & b?", "script": "mixed", **wanted}


def test_a_model_is_asked_for_no_script(browser: Any, serve: Serve) -> None:
    with demo(browser, serve()) as page:
        about = {"answers": "upstream", "login": False}
        page.page.route("**/page.json", lambda route: route.fulfill(json=about))
        bodies: list[str] = []
        page.page.route(
            CHAT, lambda route: (bodies.append(route.request.post_data or ""), route.fulfill(status=204))
        )
        page.page.reload()
        page.page.wait_for_selector("body[data-ready]")
        assert page.page.get_by_text("each reader asks for an answer of its own").is_visible()
        assert not page.page.get_by_label("Script of the answer").is_visible()
        assert not page.page.get_by_label("Pace of the answer").is_visible()
        page.page.get_by_role("button", name="بالعربية").click()
        page.page.get_by_role("button", name="Ask", exact=True).click()
        page.ended()
        assert {body for body in bodies if body} == {'{"question":"لماذا تصل الإجابة على شكل أجزاء؟"}'}
        assert (
            sum(
                f"{page.origin}api/v1/stream/chat?question=" in url and "seed" not in url
                for url in page.asked
            )
            == 1
        )


# --- what a stranger sends -------------------------------------------------------------------------------------------------

MARKUP: Final = "<img src=x onerror=document.title='caught'><script>document.title='caught'</script>\u202e"
HOSTILE: Final = "".join(
    f"id: k-{number}\nevent: {kind}\ndata: {data}\n\n"
    for number, (kind, data) in enumerate(
        [
            ("hello", "[1]"),
            ("delta", '{"text": ' + '"' + MARKUP.replace('"', "'") + '"}'),
            ("delta", "{no json"),
            ("delta", '{"text": 7}'),
            ("progress", MARKUP),
            ("__proto__", "{}"),
            ("error", '{"message": "' + MARKUP + '"}'),
        ],
        1,
    )
)


def test_nothing_that_comes_is_ever_markup(browser: Any, serve: Serve) -> None:
    with demo(browser, serve()) as page:
        page.page.route(
            CHAT, lambda route: route.fulfill(status=200, content_type="text/event-stream", body=HOSTILE)
        )
        page.ask()
        for reader in READERS:
            page.until(reader, "[data-state=failed]")
            sync_api.expect(page.page.locator(f"#{reader} .answer")).to_have_text(MARKUP)
            assert page.state(reader).endswith(MARKUP)
        assert page.page.evaluate("() => document.querySelectorAll('img, main script').length") == 0
        assert page.page.title() == "One answer, two readers · sseproof"


RECORD: Final = """
async events => {
  const {AnswerRecord} = await import("/answer-record.js");
  const record = new AnswerRecord();
  const news = events.map(([type, id, data]) => record.take({type, id, data, atMs: 5}).isNew);
  const {text, lost, doubled, broken, error, unreadable, firstTokenMs} = record;
  return {text, lost, doubled, broken, error, unreadable, firstTokenMs, news, exact: await record.isExact()};
}
"""


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled"),
    [
        ([1, 2, 3], 0, 0),
        ([1, 3, 4], 1, 0),
        ([2, 3], 1, 0),
        ([1, 4, 2, 3], 0, 0),
        ([1, 2, 2, 1, 3], 0, 2),
        ([1, 5, 5, 3], 2, 1),
        ([3, 1, 7, 5, 2, 6, 4, 7], 0, 1),
        ([1, 999_999_999], 999_999_997, 0),
        ([], None, None),
        (list(range(1, 5_000, 2)), None, None),
    ],
)
def test_numbers_tell_what_was_lost_and_doubled(
    stage: Stage, numbers: list[int], lost: int | None, doubled: int | None
) -> None:
    stage.play()
    found = stage.page.evaluate(RECORD, [["delta", f"key-{number}", '{"text": "a"}'] for number in numbers])
    assert (found["lost"], found["doubled"]) == (lost, doubled)
    if lost is not None:
        assert found["news"].count(False) == doubled


def test_a_record_reads_only_what_it_knows(stage: Stage) -> None:
    stage.play()
    digest = hashlib.sha256("hi\ufffd".encode()).hexdigest()
    events = [
        ["hello", "k-1", "{}"],
        ["ping", "k-1", "{}"],
        ["delta", "k-2", '{"text": "hi\\ufffd"}'],
        ["delta", "k-3", "null"],
        ["delta", "k-4", "not json"],
        ["error", "k-4", '{"message": 5}'],
        ["done", "k-5", f'{{"events": 5, "sha256": "{digest}"}}'],
    ]
    found = stage.page.evaluate(RECORD, events)
    assert found["text"] == "hi\ufffd"
    assert (found["lost"], found["doubled"], found["broken"], found["unreadable"]) == (0, 0, 1, 2)
    assert found["error"] == "no reason given"
    assert found["exact"] is True
    events[2][2] = '{"text": "ho\\ufffd"}'
    assert stage.page.evaluate(RECORD, events)["exact"] is False
    assert stage.page.evaluate(RECORD, events[:3])["exact"] is None


# --- who can use it --------------------------------------------------------------------------------------------------------

LOOK: Final = "() => axe.run(document, {resultTypes: ['violations']})"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_it_can_be_read_and_fits(browser: Any, start_login: Server, scheme: str, width: int) -> None:
    """A login and a broken answer show every part of the page there is. axe needs a page that lets it evaluate."""
    size = {"width": width, "height": 900}
    with demo(browser, start_login, color_scheme=scheme, viewport=size, bypass_csp=True) as page:
        page.page.evaluate(AXE.read_text("utf-8"))
        for step in ("before", "after", "refused"):
            if step == "after":
                page.ask(question="W" * 400, token=TOKEN, script="long")
                page.ended()
            if step == "refused":
                page.page.get_by_label("Token").fill("سر")
                page.page.get_by_role("button", name="Ask", exact=True).click()
            found = page.page.evaluate(LOOK)
            assert len(found["passes"]) > 20, "axe looked"
            grave = [each for each in found["violations"] if each["impact"] in GRAVE]
            assert [(each["id"], each["nodes"][0]["html"][:200]) for each in grave] == []
            assert page.page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_axe_and_the_width_see_what_is_wrong(browser: Any, serve: Serve) -> None:
    with demo(browser, serve(), viewport={"width": 400, "height": 900}, bypass_csp=True) as page:
        page.page.evaluate(AXE.read_text("utf-8"))
        page.page.evaluate(
            "() => { document.querySelector('label').remove(); document.body.style.color = '#ccc';"
            " document.querySelector('.answer').style.width = '500px'; }"
        )
        found = {each["id"] for each in page.page.evaluate(LOOK)["violations"] if each["impact"] in GRAVE}
        assert {"color-contrast", "label"} <= found
        assert page.page.evaluate("() => document.documentElement.scrollWidth") > 400


def test_the_keyboard_is_enough_and_tokens_are_not_read_aloud(browser: Any, serve: Serve) -> None:
    with demo(browser, serve()) as page:
        page.page.evaluate(
            "() => { window.said = []; new MutationObserver(() => said.push(document.querySelector('#said').textContent))"
            ".observe(document.querySelector('#said'), {childList: true, characterData: true, subtree: true}); }"
        )
        met = []
        for _ in range(8):
            page.page.keyboard.press("Tab")
            met.append(
                page.page.evaluate("() => document.activeElement.id || document.activeElement.textContent")
            )
        assert met == ["question", "many scripts", "بالعربية", "בעברית", "日本語", "script", "pace", "Ask"]
        page.page.keyboard.press("Enter")
        page.ended()
        said = page.page.evaluate("() => said")
        assert said[0] == "Asked."
        assert set(said[1:]) == {
            "SSEConsumer: complete; text exact.",
            "EventSource: complete; text exact.",
        }
        live = "() => [...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')].map(each => each.id)"
        assert page.page.evaluate(live) == ["problem", "said"]
        assert int(page.figure("native", "events")) > 20


def test_the_policy_acts(browser: Any, serve: Serve) -> None:
    with demo(browser, serve()) as page:
        found = page.page.evaluate(
            "() => { const blocked = []; const seen = new Promise(resolve => addEventListener('securitypolicyviolation', event => {"
            " blocked.push(event.effectiveDirective); if (blocked.length === 2) resolve(blocked); }));"
            " const style = document.createElement('style'); style.textContent = 'p { color: red }'; document.head.append(style);"
            " const script = document.createElement('script'); try { script.textContent = 'document.title = 1'; } catch {}"
            " document.body.append(script); return seen; }"
        )
        assert "style-src-elem" in found
        assert page.page.title() == "One answer, two readers · sseproof"
        assert [
            each
            for each in page.complaints()
            if "Content Security Policy" not in each and "Trusted" not in each
        ] == []
        page.said.clear()
