"""The desk over real sockets: what it serves, whom it believes, and what strangers can't do."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sseproof.browsers import desk as desk_module
from sseproof.browsers.desk import MOST_PAGES, Desk, Page
from sseproof.browsers.posts import BODY_LIMIT_BYTES, Job, Rendering, Start, Stream
from sseproof.rundir.errors import RigError

pytestmark = pytest.mark.integration

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
ATTEMPT = {"started_ms": 1.0, "ended_ms": 2.0, "end": "terminal"}
STREAM = {"exchanges": [[1.0, 1000.0, 2.0]], "attempts": [ATTEMPT]}


class Kept:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.drawings: list[str] = []
        self.problem: Exception | None = None

    def started(self, _page: Page, post: Start) -> None:
        self.rows.append(("started", post.stream))

    def ended(self, _page: Page, post: Stream) -> None:
        if self.problem is not None:
            raise self.problem
        self.rows.append(("ended", post.stream))

    def drawn(self, _page: Page, post: Rendering) -> None:
        self.drawings.append(post.variant)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk("127.0.0.1", 0)
    yield made
    made.close()


def ask(
    desk: Desk, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=10)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(content) if is_json else content, answer


def post(desk: Desk, path: str, **fields: Any) -> tuple[int, Any]:
    told = {"key": desk.key, "page": "", **fields}
    return ask(desk, "POST", path, json.dumps(told).encode())[:2]


def joined(desk: Desk, agent: str = AGENT) -> str:
    status, answer = post(desk, "/join", user_agent=agent, resolution_ms=0.02)
    assert status == 200, answer
    return str(answer["page"])


def begun(desk: Desk, sink: Kept) -> str:
    """A page with two streams to read."""
    page = joined(desk)
    job = Job(
        variant="firefox-eventsource",
        client="eventsource",
        at_once=1,
        total_ms=1_000,
        terminal="event:done",
        types=["done"],
        streams=[(0, "http://127.0.0.1:1/"), (1, "http://127.0.0.1:1/")],
    )
    desk.begin({page: [job]}, sink)
    return page


def test_the_page_needs_the_key(desk: Desk) -> None:
    status, content, answer = ask(desk, "GET", f"/?key={desk.key}")
    assert status == 200
    assert b"page.js" in content
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/", "/?key=", "/?key=wrong", f"/?key={desk.key}x", f"/clock?key={desk.key[:-1]}"):
        status, answer_, _ = ask(desk, "GET", path)
        assert (status, "key" in answer_["error"]) == (403, True), path


@pytest.mark.parametrize("name", ["page.js", "page.css", "sse-consumer.js"])
def test_its_parts_are_served(desk: Desk, name: str) -> None:
    status, content, _ = ask(desk, "GET", f"/{name}")
    assert status == 200
    assert desk.key.encode() not in content


@pytest.mark.parametrize(
    "path",
    ["/desk.py", "/../desk.py", "/page.js/..", "/%2e%2e/desk.py", "/index.html", "//etc/passwd", "/x" * 400],
)
def test_nothing_else_is(desk: Desk, path: str) -> None:
    assert ask(desk, "GET", path)[0] in {404, 403}


def test_a_page_of_another_name_leads_nowhere(desk: Desk) -> None:
    status, answer, _ = ask(desk, "GET", f"/?key={desk.key}", headers={"Host": "evil.example"})
    assert (status, "name" in answer["error"]) == (421, True)


def test_a_page_joins_waits_runs_and_is_over(desk: Desk) -> None:
    sink = Kept()
    page = joined(desk)
    assert post(desk, "/task", page=page) == (200, {"state": "wait", "jobs": []})
    page = begun(desk, sink)
    status, work = post(desk, "/task", page=page)
    assert (status, work["state"], len(work["jobs"])) == (200, "run", 1)
    assert post(desk, "/task", page=page, again=True) == (200, {"state": "run", "jobs": []})
    assert [each.id for each in desk.waiting_for()] == [page]
    where = {"page": page, "variant": "firefox-eventsource", "stream": 1}
    assert post(desk, "/start", **where)[0] == 200
    assert post(desk, "/stream", **where, **STREAM)[0] == 200
    assert sink.rows == [("started", 1), ("ended", 1)]
    drawing = {"page": page, "variant": "firefox-eventsource", "length_ms": 5.0, "frames": 3}
    assert post(desk, "/rendering", **drawing)[0] == 200
    assert post(desk, "/rendering", **drawing)[0] == 409  # once, else a page could fill the disk
    assert sink.drawings == ["firefox-eventsource"]
    assert post(desk, "/done", page=page)[0] == 200
    assert desk.waiting_for() == []
    assert post(desk, "/start", page=page, variant="firefox-eventsource", stream=0)[0] == 409


def test_nothing_is_put_on_record_once_the_run_is_over(desk: Desk) -> None:
    """Of an interrupted run, whose pages still read: its files are closed."""
    sink = Kept()
    page = begun(desk, sink)
    where = {"page": page, "variant": "firefox-eventsource", "stream": 0}
    assert post(desk, "/start", **where)[0] == 200
    desk.finish()
    assert post(desk, "/stream", **where, **STREAM)[0] == 409
    assert post(desk, "/task", page=page) == (200, {"state": "over", "jobs": []})
    assert sink.rows == [("started", 0)]


def test_only_what_was_given_is_taken_and_once(desk: Desk) -> None:
    sink = Kept()
    page = begun(desk, sink)
    other = joined(desk)
    mine = {"page": page, "variant": "firefox-eventsource"}
    refused = [
        post(desk, "/stream", **mine, stream=0, **STREAM),  # did not begin
        post(desk, "/start", **mine, stream=2),
        post(desk, "/start", page=page, variant="chromium-eventsource", stream=0),
        post(desk, "/start", page=other, variant="firefox-eventsource", stream=0),
        post(desk, "/rendering", page=page, variant="../x", length_ms=1.0, frames=1),
    ]
    assert [status for status, _ in refused] == [409] * len(refused)
    assert post(desk, "/start", **mine, stream=0)[0] == 200
    assert post(desk, "/start", **mine, stream=0)[0] == 409
    assert post(desk, "/stream", **mine, stream=0, **STREAM)[0] == 200
    assert post(desk, "/stream", **mine, stream=0, **STREAM)[0] == 409
    assert sink.rows == [("started", 0), ("ended", 0)]


def test_another_key_or_page_is_refused(desk: Desk) -> None:
    begun(desk, Kept())
    where = {"variant": "firefox-eventsource", "stream": 0}
    assert post(desk, "/start", page="nobody", **where)[0] == 403
    assert post(desk, "/join", key="", user_agent=AGENT, resolution_ms=1.0)[0] == 403
    assert post(desk, "/join", key="ö" * 60, user_agent=AGENT, resolution_ms=1.0)[0] == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": []},
        {"attempts": [{**ATTEMPT, "end": "fin"}]},
        {"attempts": [{**ATTEMPT, "started_ms": -1.0}]},
        {"attempts": [{**ATTEMPT, "started_ms": 1e300}]},
        {"attempts": [{**ATTEMPT, "path": "/etc/passwd"}]},
        {"attempts": [{**ATTEMPT, "events": [[1.0, "x" * 300, "", ""]]}]},
        {"attempts": [{**ATTEMPT, "events": [["1", "x", "", ""]]}]},
        {"attempts": [ATTEMPT] * 2_001},
        {"exchanges": []},
        {"exchanges": [[1.0, 1.0]]},
        {"stream": -1},
        {"stream": 1e9},
        {"variant": "v" * 65},
    ],
    ids=str,
)
def test_a_record_out_of_bounds_is_refused(desk: Desk, fields: dict[str, Any]) -> None:
    sink = Kept()
    page = begun(desk, sink)
    where = {"page": page, "variant": "firefox-eventsource", "stream": 0}
    assert post(desk, "/start", **where)[0] == 200
    assert post(desk, "/stream", **{**where, **STREAM, **fields})[0] == 400
    assert sink.rows == [("started", 0)]


def test_an_eventsource_that_gets_nowhere_is_taken(desk: Desk) -> None:
    """The service's failure is none of the rig's: three tries a second for some minutes."""
    sink = Kept()
    where = {"page": begun(desk, sink), "variant": "firefox-eventsource", "stream": 0}
    assert post(desk, "/start", **where)[0] == 200
    assert post(desk, "/stream", **{**where, **STREAM, "attempts": [ATTEMPT] * 2_000})[0] == 200
    assert sink.rows == [("started", 0), ("ended", 0)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_record_is_refused(desk: Desk, body: bytes) -> None:
    assert ask(desk, "POST", "/join", body)[0] == 400


def test_a_body_without_end_or_too_long_is_refused(desk: Desk) -> None:
    for head in (
        b"POST /join HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /join HTTP/1.1\r\nHost: %s\r\nContent-Length: "
        + str(BODY_LIMIT_BYTES + 1).encode()
        + b"\r\n\r\n",
        b"POST /join HTTP/1.1\r\nHost: %s\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", desk.port), 10) as connection:
            connection.sendall(head % desk.origin.removeprefix("http://").encode())
            answer = b""
            while data := connection.recv(65_536):  # it is closed: what follows would be the body
                answer += data
        assert answer.split(b" ")[1] in {b"411", b"413"}


def test_an_account_that_cannot_be_is_the_page_s_fault(desk: Desk) -> None:
    sink = Kept()
    page = begun(desk, sink)
    where = {"page": page, "variant": "firefox-eventsource", "stream": 0}
    post(desk, "/start", **where)
    sink.problem = ValueError("no exchange ends after it began")
    assert post(desk, "/stream", **where, **STREAM) == (
        400,
        {"error": "This can't be: no exchange ends after it began."},
    )
    assert desk.problem is None


def test_a_full_disk_ends_the_run(desk: Desk) -> None:
    sink = Kept()
    page = begun(desk, sink)
    where = {"page": page, "variant": "firefox-eventsource", "stream": 0}
    post(desk, "/start", **where)
    sink.problem = RigError("The disk is full.")
    assert post(desk, "/stream", **where, **STREAM)[0] == 500
    assert str(desk.problem) == "The disk is full."


def test_pages_and_connections_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(MOST_PAGES):
        joined(desk)
    assert post(desk, "/join", user_agent=AGENT, resolution_ms=1.0)[0] == 429
    names = [page.name for page in desk.pages]
    assert len(set(names)) == MOST_PAGES
    monkeypatch.setattr(desk_module, "MOST_CONNECTIONS", 3)
    small = Desk("127.0.0.1", 0)
    silent = [socket.create_connection(("127.0.0.1", small.port), 10) for _ in range(4)]
    assert silent[-1].recv(1) == b""  # closed at once
    silent[0].close()
    silent[1].close()
    for each in silent[2:]:
        each.close()
    small.close()


def test_a_page_that_is_silent_is_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(desk, Kept())
    assert len(desk.waiting_for()) == 1
    monkeypatch.setattr(desk_module, "GONE_S", -1.0)
    assert desk.waiting_for() == []
    assert [page.problem for page in desk.pages] == ["the page went away"]


def test_a_port_that_is_taken_is_said(desk: Desk) -> None:
    with pytest.raises(RigError, match=str(desk.port)):
        Desk("127.0.0.1", desk.port)
