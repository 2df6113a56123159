"""The page of `sseproof browsers` in a real Chromium, before a desk of its own and a service of exact bytes: what it tells."""

# ruff: noqa: F811  # the fixture that is imported is what each test names

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from sseproof.browsers.desk import Desk, Page
from sseproof.browsers.posts import Job, PageAttempt, Rendering, Start, Stream
from tests.integration.test_report_browser import browser  # noqa: F401  # the fixture
from tests.loadtests.rawserver import Connection, Script, chunk, event, serving

pytestmark = pytest.mark.integration

ALLOWED: Final = b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: Last-Event-ID\r\n"
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    + ALLOWED
    + b"\r\n"
)
NOTHING: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n" + ALLOWED + b"\r\n"
VARIANT: Final = "chromium-sseconsumer"


class Told:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.streams: list[Stream] = []
        self.drawings: list[Rendering] = []

    def started(self, _page: Page, _post: Start) -> None:
        self.begun.set()

    def ended(self, _page: Page, post: Stream) -> None:
        self.streams.append(post)

    def drawn(self, _page: Page, post: Rendering) -> None:
        self.drawings.append(post)

    @property
    def attempts(self) -> list[PageAttempt]:
        (stream,) = self.streams
        return stream.attempts


@contextmanager
def reading(
    browser: Any, script: Script, *, total_ms: float = 60_000, before: Callable[[Any], object] | None = None
) -> Iterator[tuple[Any, Told, Callable[[], None]]]:
    """A page that reads one answer with SSEConsumer (prepared by `before`); gives it, what it tells, and what waits until it is over."""

    def answer(connection: Connection) -> None:
        if connection.request_line.startswith("OPTIONS"):
            connection.send(NOTHING)
        else:
            script(connection)

    desk = Desk("127.0.0.1", 0)
    context = browser.new_context()
    try:
        with serving(answer) as server:
            page, told = context.new_page(), Told()
            if before is not None:
                before(page)
            page.goto(desk.address)
            page.wait_for_selector("#state:has-text('Joined')")
            (joined,) = desk.pages
            job = Job(
                variant=VARIANT,
                client="sseconsumer",
                at_once=1,
                total_ms=total_ms,
                terminal="event:done",
                types=["done"],
                streams=[(0, server.url)],
            )
            desk.begin({joined.id: [job]}, told)

            def over() -> None:
                page.wait_for_selector("#state:has-text('It is over')")
                assert [each.problem for each in desk.pages] == [""]

            yield page, told, over
    finally:
        context.close()
        desk.close()


def part(*events: bytes) -> bytes:
    return HEAD + b"".join(map(chunk, events))


HIDDEN: Final = """
hidden => {
  Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.mark.parametrize("hides", [True, False])
def test_a_page_that_was_out_of_sight_for_a_while_tells_it(browser: Any, hides: bool) -> None:
    """Though no frame is drawn meanwhile, and all is as before when the next one is."""
    go_on = threading.Event()

    def script(connection: Connection) -> None:
        connection.send(part(event('{"text": "a"}', number=1)))
        go_on.wait(20)
        connection.send(chunk(event("{}", type_="done", number=2)) + b"0\r\n\r\n")

    with reading(browser, script) as (page, told, over):
        page.wait_for_selector("#streams li:has-text('a')")
        if hides:
            page.evaluate(f"() => {{ for (const hidden of [true, false]) ({HIDDEN})(hidden); }}")
        go_on.set()
        over()
    assert [each.hidden for each in told.drawings] == [hides]
    assert [each.end for each in told.attempts] == ["terminal"]


def test_a_service_that_has_nothing_more_to_say_did_not_end_the_answer(browser: Any) -> None:
    def script(connection: Connection) -> None:
        if connection.header("last-event-id") is None:
            connection.send(part(event('{"text": "a"}', number=1)) + b"0\r\n\r\n")
        else:
            connection.send(NOTHING)

    with reading(browser, script) as (_, told, over):
        over()
    assert [each.end for each in told.attempts] == ["ended", "no-content"]


def test_a_wait_that_its_time_ends_is_no_connection_of_the_future(browser: Any) -> None:
    def script(connection: Connection) -> None:
        connection.send(part(b"retry: 60000\n" + event('{"text": "a"}', number=1)) + b"0\r\n\r\n")

    with reading(browser, script, total_ms=3_000) as (_, told, over):
        over()
    assert [each.end for each in told.attempts] == ["ended", "total-timeout"]
    assert all(each.started_ms <= each.ended_ms for each in told.attempts)


def test_a_page_that_has_its_work_asks_for_no_addresses_again(browser: Any) -> None:
    asked = threading.Event()

    def script(connection: Connection) -> None:
        connection.send(part(event('{"text": "a"}', number=1)))
        asked.wait(20)
        connection.send(chunk(event("{}", type_="done", number=2)) + b"0\r\n\r\n")

    with reading(browser, script) as (page, told, over):
        page.wait_for_selector("#streams li:has-text('a')")
        with page.expect_request("**/task") as alive:
            pass
        asked.set()
        over()
    assert alive.value.post_data_json["again"] is True
    assert len(told.streams) == 1


def test_a_record_whose_answer_was_lost_is_not_told_for_nothing(browser: Any) -> None:
    """A phone's network: what was taken is refused the second time, and that is well."""
    lost: list[str] = []
    times: list[str] = []

    def script(connection: Connection) -> None:
        connection.send(part(event("{}", type_="done", number=1)) + b"0\r\n\r\n")

    def lose(route: Any) -> None:
        path = route.request.url.rpartition("/")[2]
        if route.request.method != "POST" or path in lost:
            route.continue_()
        else:
            lost.append(path)
            assert route.fetch().status == 200
            route.abort()

    def lose_time(route: Any) -> None:
        times.append(route.request.url)
        route.continue_() if len(times) == 1 else route.abort()

    def lossy(page: Any) -> None:
        page.route("**/{start,stream,rendering}", lose)
        page.route("**/clock?*", lose_time)

    with reading(browser, script, before=lossy) as (_, told, over):
        over()
    assert lost == ["start", "stream", "rendering"]
    assert (len(told.streams), len(told.drawings)) == (1, 1)
    assert (len(times), len(told.streams[0].exchanges)) == (6, 1)
