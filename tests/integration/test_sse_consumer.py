"""`sse-consumer.js` in a real Chromium: the conformance table in every delivery, and connections that go wrong.

The servers are scripts of exact bytes; what the page's module did is read from its own answers and from what it asked for.
"""

# ruff: noqa: F811  # the fixture that is imported is what each test names

import base64
import socket
import time
import tomllib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.pages import Stage, says, staged, streams
from tests.integration.test_report_browser import browser  # noqa: F401  # the fixture
from tests.loadtests.rawserver import CHUNKED_HEAD, LAST_CHUNK, Connection, chunk, event

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(browser: Any) -> Iterator[Stage]:
    with staged(browser) as stage:
        yield stage


TABLE = Path(__file__).parents[1] / "data" / "sse" / "conformance.toml"


def stream_of(case: dict[str, Any]) -> bytes:
    return case["input"].replace("¦", "").encode("ascii").decode("unicode_escape").encode("latin-1")


def wanted_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": item.get("type", "message"),
            "data": item["data"],
            "id": item.get("id", ""),
            "own": item.get("own", False),
        }
        for item in case["items"]
        if "data" in item
    ]


PARSE = """
async cases => {
  const {EventStreamParser} = await import("/sse-consumer.js");
  const cut = (bytes, ...places) => [0, ...places].map((from, n) => bytes.slice(from, places[n]));
  const wrong = [];
  let deliveries = 0;
  for (const {name, stream, seed, events, id, retry} of cases) {
    const bytes = Uint8Array.from(atob(stream), char => char.charCodeAt(0));
    const size = bytes.length;
    const every = width => Array.from({length: Math.ceil(size / width)}, (_, n) => bytes.slice(n * width, (n + 1) * width));
    const ways = [[bytes], every(1), every(1).flatMap(one => [bytes.slice(0, 0), one, bytes.slice(0, 0)])];
    for (const width of [2, 3, 5, 7]) ways.push(every(width));
    for (let first = 0; first <= size; first++) {
      ways.push(cut(bytes, first));
      for (let second = first; second <= Math.min(size, 24); second++) ways.push(cut(bytes, first, second));
    }
    const wanted = JSON.stringify({events, id, retry});
    for (const way of ways) {
      const parser = new EventStreamParser({lastEventId: seed});
      const got = way.flatMap(chunk => parser.push(chunk));
      const found = JSON.stringify({events: got, id: parser.lastEventId, retry: parser.retryMs});
      deliveries++;
      if (found !== wanted) { wrong.push([name, way.map(chunk => chunk.length), found, wanted]); break; }
    }
  }
  return {wrong, deliveries};
}
"""


def test_the_conformance_table_in_every_delivery(stage: Stage) -> None:
    cases = tomllib.loads(TABLE.read_text("utf-8"))["case"]
    told = [
        {
            "name": case["name"],
            "stream": base64.b64encode(stream_of(case)).decode(),
            "seed": case.get("seed", ""),
            "events": wanted_of(case),
            "id": case.get("id", ""),
            "retry": case.get("retry"),
        }
        for case in cases
    ]
    stage.play(says())
    found = stage.page.evaluate(PARSE, told)
    assert found["wrong"] == []
    assert found["deliveries"] > 50 * len(cases) > 5_000


RUN: Final = """
async ({options = {}, random = null, subscription = false, closeOn = "", throwOn = ""}) => {
  const {SSEConsumer} = await import("/sse-consumer.js");
  const log = {events: [], opens: [], retries: [], ends: [], states: []};
  const noted = (name, list) => told => {
    list.push(told);
    log.states.push(consumer.state);
    if (closeOn === name) consumer.close();
    if (throwOn === name) throw new Error("thrown by " + name);
  };
  const calls = {
    onopen: noted("open", log.opens), onretry: noted("retry", log.retries),
    onend: noted("end", log.ends),
  };
  const noteEvent = noted("event", log.events);
  calls.onevent = event => {
    void fetch("/taken?" + window.play, {method: "POST", body: String(event.sequence)});
    noteEvent(event);
  };
  if (random !== null) calls.random = () => random;
  if (subscription) calls.terminal = null;
  const consumer = new SSEConsumer("/stream?" + window.play, {backoffMs: 2, ...options, ...calls});
  if (closeOn === "start") setTimeout(() => consumer.close());
  log.result = await consumer.start();
  log.endMs = performance.timeOrigin + performance.now();
  log.states.push(consumer.state);
  return log;
}
"""


def run(stage: Stage, **told: Any) -> dict[str, Any]:
    """One stream to its end; its callbacks as they came."""
    log = stage.page.evaluate(RUN, told)
    assert log["ends"] == [log["result"]]
    assert log["states"][-1] == "closed"
    assert [each["sequence"] for each in log["events"]] == list(range(1, len(log["events"]) + 1))
    return log


def numbers(log: dict[str, Any]) -> list[int]:
    return [int(each["id"].rpartition("-")[2]) for each in log["events"]]


def head(status: str, *lines: str, body: bytes = b"") -> bytes:
    told = ["HTTP/1.1 " + status, *lines, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(told).encode() + body


def hang(connection: Connection) -> None:
    connection.until_gone()


DONE: Final = event("{}", type_="done", number=4)


class TestBreaks:
    @pytest.mark.parametrize("whole", [False, True])
    def test_a_broken_answer_goes_on_where_it_stopped(self, stage: Stage, whole: bool) -> None:
        wide = event("é€😀", number=2)
        first = streams(
            event("a", number=1), wide[:-5], wide[-5:] + event("late", number=3)[:-1], whole=whole, taken=2
        )
        rest = streams(event("c", number=3), DONE)
        attempts = stage.play(first, rest)
        log = run(stage)
        assert [each["data"] for each in log["events"]] == ["a", "é€😀", "c", "{}"], (
            "the unfinished event is dropped"
        )
        assert log["result"] == {
            "outcome": "complete",
            "attempts": 2,
            "lastEventId": "s-4",
            "error": None,
            "repeats": 0,
        }
        assert attempts.last_ids == [None, "s-2"]
        assert [each["reason"] for each in log["retries"]] == ["eof" if whole else "cut"]
        assert [each["attempt"] for each in log["opens"]] == [1, 2]
        assert log["retries"][0]["attempt"] == 2

    def test_an_event_carries_the_instant_of_its_read(self, stage: Stage) -> None:
        sent_ms: list[float] = []
        taken_ms: list[float] = []

        def script(connection: Connection) -> None:
            connection.send(CHUNKED_HEAD)
            for number in (1, 2):
                sent_ms.append(connection.send(chunk(event("a", number=number)))[0] / 1e6)
                attempts.wait_taken(number)
                taken_ms.append(time.time_ns() / 1e6)
                connection.server.tick.wait(0.1)
            sent_ms.append(connection.send(chunk(DONE) + LAST_CHUNK)[0] / 1e6)

        attempts = stage.play(script)
        log = run(stage)
        for thread in stage.server.threads:
            thread.join(5)  # the page may have the last one before it is written down here
        instants = [each["atMs"] for each in log["events"]]
        taken_ms.append(log["endMs"])
        for before_ms, at_ms, after_ms in zip(sent_ms, instants, taken_ms, strict=True):
            assert before_ms - 1 <= at_ms <= after_ms + 1, "browsers round to 0.1 ms"

    def test_what_a_resume_repeats_is_not_handed_on_again(self, stage: Stage) -> None:
        def events(*numbers: int) -> bytes:
            return b"".join(event(str(number), number=number) for number in numbers)

        ping = event("{}", type_="ping", number=2)
        scripts = (
            streams(events(1, 2), ping, whole=False, taken=3),
            streams(events(1)),
            streams(events(1, 2, 3), DONE),
        )
        attempts = stage.play(*scripts)
        log = run(stage)
        assert [each["data"] for each in log["events"]] == ["1", "2", "{}", "3", "{}"], (
            "a heartbeat repeats an id by design"
        )
        assert log["result"]["repeats"] == 3
        assert attempts.last_ids == [None, "s-2", "s-2"], "a server that begins anew moves nobody back"

    def test_equal_ids_on_one_connection_are_two_events(self, stage: Stage) -> None:
        one = event("a", number=1)
        stage.play(streams(one, one, event("b", number=1), DONE))
        log = run(stage)
        assert [each["data"] for each in log["events"]] == ["a", "a", "b", "{}"]

    def test_without_ids_an_answer_is_not_begun_anew(self, stage: Stage) -> None:
        attempts = stage.play(streams(event("a"), whole=False, taken=1))
        assert run(stage)["result"]["outcome"] == "cut"
        assert len(attempts.seen) == 1
        again = stage.play(streams(event("a"), whole=False, taken=1), streams(event("b")))
        log = run(stage, subscription=True, options={"retries": 0})
        assert len(again.seen) == 1
        assert [each["data"] for each in log["events"]] == ["a"]
        again = stage.play(*[streams(event("a"))] * 2, says(head("404 Gone")))
        log = run(stage, subscription=True)
        assert [each["data"] for each in log["events"]] == ["a", "a"], (
            "a subscription has no beginning to go back to"
        )
        assert len(again.seen) == 3

    def test_a_lone_id_block_moves_the_place(self, stage: Stage) -> None:
        first = streams(
            event("a", number=1), b"id: s-2\n\n" + event("b") + b"id: s-3\n", whole=False, taken=2
        )
        attempts = stage.play(first, streams(DONE))
        assert run(stage)["result"]["outcome"] == "complete"
        assert attempts.last_ids == [None, "s-2"]


class TestRetries:
    def test_waits_double_up_to_the_limit_and_five_in_a_row_are_all(self, stage: Stage) -> None:
        attempts = stage.play(says(head("503 Busy")))
        log = run(stage, random=0, options={"backoffMs": 8, "maxBackoffMs": 60})
        assert [each["delayMs"] for each in log["retries"]] == [4, 8, 16, 30, 30]
        assert len(attempts.seen) == log["result"]["attempts"] == 6
        assert log["result"]["outcome"] == "error-http"
        assert log["result"]["error"]["status"] == 503

    def test_a_new_event_starts_the_count_over(self, stage: Stage) -> None:
        busy = says(head("503 Busy"))

        def next_one(number: int) -> Any:
            return streams(event(str(number), number=number), whole=False, taken=number)

        scripts = (busy, busy, next_one(1), busy, busy, next_one(2), busy, busy, streams(DONE))
        stage.play(*scripts)
        log = run(stage, random=0, options={"backoffMs": 8, "retries": 3})
        assert log["result"]["outcome"] == "complete"
        assert [each["delayMs"] for each in log["retries"]] == [4, 8, 4, 8, 16, 4, 8, 16]

    def test_a_greeting_is_no_progress(self, stage: Stage) -> None:
        """Else a service that says hello and hangs up would be asked for ever."""
        for greeting in (event("hello", number=1), event("{}", type_="ping"), event("hello")):
            attempts = stage.play(
                streams(event("a", number=1), whole=False, taken=1), streams(greeting, whole=False)
            )
            log = run(stage)
            assert log["result"]["outcome"] == "cut"
            assert len(attempts.seen) == 6

    def test_the_servers_time_is_a_floor(self, stage: Stage) -> None:
        asked: list[int] = []

        def named(retry: bytes) -> Any:
            def script(connection: Connection) -> None:
                asked.append(time.time_ns())
                streams(
                    b"retry: " + retry + b"\n", event("a", number=len(asked)), whole=False, taken=len(asked)
                )(connection)

            return script

        scripts = (named(b"200"), named(b"1x"), named(b"0"), streams(DONE))
        stage.play(*scripts)
        log = run(stage)
        delays = [each["delayMs"] for each in log["retries"]]
        assert all(200 <= delay <= 300 for delay in delays[:2]), (
            "jitter goes upwards; what is no number changes nothing"
        )
        assert 10 <= delays[2] <= 15, "a tight loop is not obeyed"
        for earlier, later, delay in zip(asked[:2], asked[1:3], delays[:2], strict=True):
            assert (later - earlier) / 1e6 >= delay - 1

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_asked_again(self, stage: Stage, status: int) -> None:
        stage.play(says(head(f"{status} No")), streams(DONE))
        log = run(stage)
        assert log["result"]["outcome"] == "complete"
        assert [each["reason"] for each in log["retries"]] == ["status"]

    @pytest.mark.parametrize("status", [201, 206, 400, 401, 403, 404, 405, 410, 413, 431, 501])
    def test_every_other_status_is_final(self, stage: Stage, status: int) -> None:
        body = b'{"error": "The question is too long: 4,000 <b>characters</b> at most."}'
        script = says(head(f"{status} No", "Content-Type: application/json; charset=utf-8", body=body))
        attempts = stage.play(script)
        log = run(stage)
        assert len(attempts.seen) == 1
        assert log["result"]["outcome"] == "error-http"
        message = "The question is too long: 4,000 <b>characters</b> at most."
        assert log["result"]["error"] == {"reason": "status", "message": message, "status": status}

    @pytest.mark.parametrize(
        ("told", "at_least", "at_most"),
        [
            ("2", 2_000, 2_010),
            ("0", 0, 10),
            ("99999", 60_000, 60_010),
            ("-1", 0, 10),
            ("soon", 0, 10),
            ("date", 10_000, 20_010),
        ],
    )
    def test_retry_after_is_waited_for_in_full(
        self,
        stage: Stage,
        told: str,
        at_least: int,
        at_most: int,
    ) -> None:
        value = formatdate(time.time() + 20, usegmt=True) if told == "date" else told
        for status in (429, 503):
            stage.play(says(head(f"{status} Busy", f"Retry-After: {value}")))
            log = run(stage, closeOn="retry")
            assert at_least <= log["retries"][0]["delayMs"] <= at_most

    def test_who_was_turned_away_to_the_end_was_throttled(self, stage: Stage) -> None:
        attempts = stage.play(says(head("429 Slow down", "Retry-After: 0")))
        assert run(stage)["result"]["outcome"] == "throttled"
        assert len(attempts.seen) == 6

    def test_nobody_there(self, stage: Stage) -> None:
        attempts = stage.play(says(then=Connection.reset))
        log = run(stage)
        assert log["result"]["outcome"] == "unreachable"
        assert [each["reason"] for each in log["retries"]] == ["network"] * 5
        assert log["opens"] == []
        assert len(attempts.seen) >= 6, "Chromium itself may ask once more"


class TestAnswers:
    def test_204_is_the_end(self, stage: Stage) -> None:
        nothing = says(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        attempts = stage.play(nothing)
        log = run(stage)
        assert (log["result"]["outcome"], log["result"]["error"]["reason"]) == (
            "error-http",
            "no-content",
        )
        assert len(attempts.seen) == 1
        attempts = stage.play(streams(event("a", number=1), whole=False, taken=1), nothing)
        assert run(stage)["result"]["outcome"] == "complete"
        assert len(attempts.seen) == 2

    @pytest.mark.parametrize(
        ("kind", "taken"),
        [
            ("TEXT/Event-Stream", True),
            ("text/event-stream; charset=latin1", True),
            ("text/event-stream;x=bogus", True),
            ("text/event-streamx", False),
            ("text/plain; x=text/event-stream", False),
            ("text/html", False),
            (None, False),
        ],
    )
    def test_only_an_event_stream_is_read(self, stage: Stage, kind: str | None, taken: bool) -> None:
        lines = [] if kind is None else [f"Content-Type: {kind}"]
        attempts = stage.play(says(head("200 OK", *lines, body=DONE)))
        log = run(stage)
        assert len(attempts.seen) == 1
        assert log["result"]["outcome"] == ("complete" if taken else "error-http")
        if not taken:
            assert log["result"]["error"]["reason"] == "content-type"
            assert log["opens"] == []

    def test_an_error_event_is_handed_on_and_ends_it(self, stage: Stage) -> None:
        script = streams(
            event("a", number=1), event('{"message": "no"}', type_="error"), event("b", number=2)
        )
        attempts = stage.play(script)
        log = run(stage)
        assert [each["type"] for each in log["events"]] == ["message", "error"]
        assert log["result"]["outcome"] == "error-inband"
        assert '"no"' in log["result"]["error"]["message"]
        assert len(attempts.seen) == 1

    def test_silence_is_a_break_and_a_heartbeat_is_not_silence(self, stage: Stage) -> None:
        def beating(connection: Connection) -> None:
            connection.send(CHUNKED_HEAD)
            for _ in range(6):
                connection.send(chunk(b":\n\n"))
                connection.server.tick.wait(0.4)
            connection.send(chunk(DONE) + LAST_CHUNK)

        first = streams(event("a", number=1), then=hang)
        attempts = stage.play(first, hang, beating)
        log = run(stage, options={"idleMs": 2_000})
        assert log["result"]["outcome"] == "complete"
        assert [each["reason"] for each in log["retries"]] == ["idle-timeout", "idle-timeout"]
        assert attempts.last_ids == [None, "s-1", "s-1"]

    def test_the_end_of_an_answer_is_waited_for(self, stage: Stage) -> None:
        """Cutting it off would look like a user who left; what comes behind the end is not read."""
        met: list[str] = []

        def script(connection: Connection) -> None:
            connection.send(CHUNKED_HEAD + chunk(DONE + event("late", number=5)))
            connection.sock.settimeout(0.2)
            try:
                met.append("closed" if connection.sock.recv(10) == b"" else "asked")
            except TimeoutError:
                met.append("still there")
            connection.send(chunk(event("later", number=6)) + LAST_CHUNK)

        stage.play(script)
        log = run(stage)
        assert [each["type"] for each in log["events"]] == ["done"]
        for thread in stage.server.threads:
            thread.join(5)
        assert met == ["still there"]

    def test_too_long_an_event_is_given_up(self, stage: Stage) -> None:
        for parts in ([b"data: " + b"x" * 2_000], [b"data: " + b"x" * 400 + b"\n"] * 4):
            attempts = stage.play(streams(*parts, then=hang))
            log = run(stage, options={"maxEventChars": 1_000})
            assert log["result"]["error"]["reason"] == "too-big"
            assert len(attempts.seen) == 1


class TestRequests:
    def test_what_was_asked_is_asked_again(self, stage: Stage) -> None:
        options = {
            "method": "POST",
            "headers": {"Content-Type": "application/json", "Authorization": "Bearer t"},
            "body": '{"question": "لماذا؟"}',
            "lastEventId": "s-0",
        }
        attempts = stage.play(streams(event("a", number=1), whole=False, taken=1), streams(DONE))
        assert run(stage, options=options)["result"]["outcome"] == "complete"
        for connection in attempts.seen:
            assert connection.request_line == f"POST /stream?{attempts.number} HTTP/1.1"
            assert connection.body.decode() == options["body"]
            assert connection.header("authorization") == "Bearer t"
            assert connection.header("accept") == "text/event-stream"
            assert connection.header("cache-control") == "no-cache"
        assert attempts.last_ids == ["s-0", "s-1"]

    @pytest.mark.parametrize("name", ["…", "é", "نص", "😀", "a\tb", "\x01\x7f", "\ufeff", "a b"])
    def test_an_id_goes_out_in_utf8(self, stage: Stage, name: str) -> None:
        block = f"id: {name}\ndata: a\n\n".encode()
        attempts = stage.play(streams(block, whole=False, taken=1), streams(DONE))
        assert run(stage)["result"]["outcome"] == "complete"
        assert attempts.last_ids == [None, name]

    def test_an_id_that_no_header_holds_is_refused_in_a_sentence(self, stage: Stage) -> None:
        block = b"id: " + b"x" * 5_000 + b"\ndata: a\n\n"
        attempts = stage.play(streams(block, whole=False, taken=1))
        log = run(stage)
        assert log["result"]["error"]["reason"] == "id-too-long"
        assert len(attempts.seen) == 1

    def test_an_id_is_forgotten_when_it_is_emptied(self, stage: Stage) -> None:
        first = streams(event("a", number=1), b"id\ndata: b\n\n", whole=False, taken=2)
        attempts = stage.play(first, streams(DONE))
        log = run(stage, subscription=True, options={"retries": 0})
        assert attempts.last_ids == [None]
        assert [each["id"] for each in log["events"]] == ["s-1", ""]
        assert log["result"]["lastEventId"] == ""

    @pytest.mark.parametrize(
        ("url", "options", "kind"),
        [
            ("http://[", {}, "TypeError"),
            ("/stream", {"body": "x"}, "TypeError"),
            ("/stream", {"method": "CONNECT"}, "TypeError"),
            ("/stream", {"headers": {"a b": "c"}}, "TypeError"),
            ("/stream", {"lastEventId": "a\nb"}, "TypeError"),
            ("/stream", {"retries": -1}, "RangeError"),
            ("/stream", {"backoffMs": 0}, "RangeError"),
            ("/stream", {"highWater": "many"}, "RangeError"),
        ],
    )
    def test_misuse_is_refused_before_the_first_connection(
        self,
        stage: Stage,
        url: str,
        options: dict[str, Any],
        kind: str,
    ) -> None:
        build = """
        async ([url, options]) => {
          const {SSEConsumer} = await import("/sse-consumer.js");
          try { new SSEConsumer(url, options); return "taken"; } catch (error) { return error.name; }
        }
        """
        attempts = stage.play(says())
        assert stage.page.evaluate(build, [url, options]) == kind
        assert attempts.seen == []


class TestOurSide:
    @pytest.mark.parametrize(
        ("when", "script", "events"),
        [
            ("start", hang, 0),
            ("open", streams(event("a", number=1), event("b", number=2), then=hang), 0),
            ("event", streams(event("a", number=1) + event("b", number=2), then=hang), 1),
            ("retry", streams(event("a", number=1), whole=False, taken=1), 1),
        ],
    )
    def test_close_ends_it_at_once(self, stage: Stage, when: str, script: Any, events: int) -> None:
        attempts = stage.play(script)
        log = run(stage, closeOn=when, options={"backoffMs": 60_000})
        assert log["result"]["outcome"] == "unfinished"
        assert log["result"]["error"]["reason"] == "stopped"
        assert len(log["events"]) == events
        assert log["result"]["lastEventId"] == ("s-1" if events else "")
        assert len(attempts.seen) <= 1

    def test_who_closes_on_the_last_event_has_the_whole_answer(self, stage: Stage) -> None:
        stage.play(streams(DONE))
        assert run(stage, closeOn="event")["result"]["outcome"] == "complete"

    @pytest.mark.parametrize("where", ["open", "event", "retry"])
    def test_a_callback_that_throws_ends_it(self, stage: Stage, where: str) -> None:
        stage.play(streams(event("a", number=1)))
        log = run(stage, throwOn=where)
        assert log["result"]["outcome"] == "unfinished"
        assert log["result"]["error"]["reason"] == "callback"
        assert log["result"]["error"]["message"] == f"A callback threw: thrown by {where}"

    def test_it_runs_once(self, stage: Stage) -> None:
        twice = """
        async () => {
          const {SSEConsumer} = await import("/sse-consumer.js");
          const consumer = new SSEConsumer("/stream?" + window.play);
          const first = consumer.start();
          try { consumer.start(); return "taken"; } catch (error) { return error.message + (await first).outcome; }
        }
        """
        stage.play(streams(DONE))
        assert stage.page.evaluate(twice) == "A consumer runs once: make another one.complete"

    def test_a_slow_user_stops_the_server(self, stage: Stage) -> None:
        size, count = 64 * 1024, 4_000
        sent: list[int] = []

        def script(connection: Connection) -> None:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            connection.send(CHUNKED_HEAD)
            connection.sock.settimeout(1)
            block = chunk(event("x" * size, number=1))
            try:
                for _ in range(count):
                    connection.sock.sendall(block)
                    sent.append(size)
            except TimeoutError:
                return
            sent.append(0)

        hold = """
        async () => {
          const {SSEConsumer} = await import("/sse-consumer.js");
          let most = 0;
          const consumer = new SSEConsumer("/stream?" + window.play, {highWater: 4, onevent: () => new Promise(() => { most += 1; })});
          window.consumer = consumer;
          window.ended = consumer.start();
          return most;
        }
        """
        attempts = stage.play(script)
        stage.page.evaluate(hold)
        stage.page.wait_for_function("window.consumer.state === 'open'")
        for thread in stage.server.threads:
            thread.join(30)
        assert sum(sent) < size * count / 2, "it came to a halt; Chromium and the kernel hold some 60 MB"
        assert stage.page.evaluate("(window.consumer.close(), window.ended)")["outcome"] == "unfinished"
        assert len(attempts.seen) == 1

    def test_a_user_who_takes_a_while_gets_everything_in_order(self, stage: Stage) -> None:
        def script(connection: Connection) -> None:
            last = int((connection.header("last-event-id") or "s-0").removeprefix("s-"))
            blocks = b"".join(event(str(number), number=number) for number in range(last + 1, 300))
            streams(blocks, event("{}", type_="done", number=300), whole=last > 0, taken=150 * (last == 0))(
                connection
            )

        slow = """
        async () => {
          const {SSEConsumer} = await import("/sse-consumer.js");
          let at = 0, most = 0;
          const seen = [];
          const onevent = async event => {
            if (event.sequence === 150) void fetch("/taken?" + window.play, {method: "POST", body: "150"});
            at += 1;
            most = Math.max(most, at);
            await new Promise(resolve => setTimeout(resolve));
            seen.push(event.sequence);
            at -= 1;
          };
          const consumer = new SSEConsumer("/stream?" + window.play, {highWater: 2, backoffMs: 1, onevent});
          return {result: await consumer.start(), seen, most};
        }
        """
        attempts = stage.play(script)
        found = stage.page.evaluate(slow)
        assert found["result"]["outcome"] == "complete", (found["result"], attempts.last_ids)
        assert found["seen"] == list(range(1, 301))
        assert found["most"] == 1, "one at a time"
        assert len(attempts.seen) == found["result"]["attempts"]
