"""/metrics over real sockets, read by Prometheus' own parsers: its counts are the witness's, before and after an end."""

import json
import time

import pytest
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser

from sseproof.rundir.units import Duration
from tests.reference_server.upstream import TEXT, upstream

CHAT = "/api/v1/stream/chat"
FEED = "/api/v1/stream/feed"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
NUMBERS = 22
"""Of a QUICK answer: 20 pieces of text, hello and done."""
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"

pytestmark = pytest.mark.integration


def ms(value):
    return Duration(value * 1_000_000)


def scraped(server, **headers):
    client = server.client()
    reply = client.send("/metrics", {"Accept": OPENMETRICS, **headers}).reply()
    client.close()
    return reply


class Figures:
    """The samples of one scrape, less those of an earlier one: tests share a server."""

    def __init__(self, server, since=None):
        reply = scraped(server)
        assert reply.status == 200
        self.families = list(parser.text_string_to_metric_families(reply.body.decode()))
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }
        for key, value in {} if since is None else since._samples.items():
            self._samples[key] -= value

    def of(self, name, **labels):
        """The value; 0 where nothing was counted yet."""
        return self._samples.get((f"sse_server_{name}", tuple(sorted(labels.items()))), 0)

    def by(self, name, label, **labels):
        """Sum by one label, where it is not 0."""
        found = {}
        for (told, pairs), value in self._samples.items():
            told_labels = dict(pairs)
            if told == f"sse_server_{name}" and value and labels.items() <= told_labels.items():
                found[told_labels[label]] = found.get(told_labels[label], 0) + value
        return found


def deltas(*replies):
    return sum(reply.types.count("delta") for reply in replies)


def test_every_count_is_the_witnesses(serve):
    server = serve()
    before = Figures(server)
    whole = [server.stream(f"all/-/{number}", QUICK) for number in (1, 2, 3)]
    key = whole[0].last_id.rpartition("-")[0]
    resumed = server.stream("all/-/1", QUICK, last_event_id=f"{key}-15")
    again = server.stream("all/-/2", QUICK)
    finished = server.stream("all/-/1", QUICK, last_event_id=f"{key}-{NUMBERS}")
    unknown = server.stream("all/-/1", QUICK, last_event_id="0123456789ab-3")
    assert (finished.status, unknown.types) == (204, ["error"])
    leaver = server.open("first_token_ms=0&interval_ms=20&events=500", {"Sseproof-Stream": "all/-/9"})
    leaver.read_until(
        b"-40\nevent"
    )  # longer than a busy machine holds up a server, which then sends all that is due
    leaver.close()
    rows = server.ended_rows("all", 8)
    figures = Figures(server, before)

    assert figures.by("connections_ended_total", "end", endpoint=CHAT) == {
        "done": 5,
        "client-gone": 1,
        "finished": 1,
        "unknown-id": 1,
    }
    assert figures.of("sent_bytes_total", endpoint=CHAT) == sum(row.written_bytes for row in rows)
    written = sum(last - first + 1 for row in rows for first, last in row.written)
    assert figures.of("events_total", endpoint=CHAT) == written
    (left,) = (row for row in rows if row.end == "client-gone")
    left_early = left.written[-1][1] - 1  # all but hello
    assert figures.of("tokens_total", endpoint=CHAT) == deltas(*whole, resumed, again) + left_early
    assert deltas(*whole, resumed, again) == 4 * 20 + (NUMBERS - 1 - 15)
    assert figures.by("reconnections_total", "result", endpoint=CHAT) == {
        "resumed": 1,
        "restarted": 1,
        "finished": 1,
        "unknown": 1,
    }
    assert figures.by("errors_total", "reason", endpoint=CHAT) == {"unknown-id": 1}
    assert figures.by("requests_total", "status", endpoint=CHAT) == {"200": 7, "204": 1}
    assert figures.of("active_connections", endpoint=CHAT) == 0

    streamed = [row for row in rows if row.written]
    lengths = [(row.ended.ns - row.accepted.ns) / 1e9 for row in streamed]
    assert figures.of("stream_duration_seconds_count", endpoint=CHAT) == len(streamed) == 6
    assert figures.of("stream_duration_seconds_sum", endpoint=CHAT) == pytest.approx(sum(lengths))
    assert figures.of("stream_size_bytes_sum", endpoint=CHAT) == sum(row.written_bytes for row in streamed)
    assert figures.of("stream_size_bytes_count", endpoint=CHAT) == 6
    waits = [
        (row.first_token_write.ns - row.accepted.ns) / 1e9 for row in streamed if row.last_event_id is None
    ]
    assert figures.of("time_to_first_token_seconds_count", endpoint=CHAT) == len(waits) == 5
    assert figures.of("time_to_first_token_seconds_sum", endpoint=CHAT) == pytest.approx(sum(waits))
    for edge in ("0.5", "1.0"):
        within = sum(wait <= float(edge) for wait in waits)
        assert figures.of("time_to_first_token_seconds_bucket", endpoint=CHAT, le=edge) == within
    spread = [row for row in streamed if row.last_write.ns > row.first_token_write.ns]
    assert left in spread, "what is sent in one go has no speed"
    assert figures.of("stream_tokens_per_second_count", endpoint=CHAT) == len(spread)
    assert figures.of("sent_bytes_total", endpoint=FEED) == 0


def test_an_open_stream_counts_while_it_lasts_and_once(serve):
    server = serve()
    before = Figures(server)
    client = server.client().send(f"{FEED}?topic=news&interval_ms=5", {"Sseproof-Stream": "open/-/1"})
    client.read_until(b"event: delta")
    client.read_until(b"-12\nevent")
    first = Figures(server, before)
    assert first.of("active_connections", endpoint=FEED) == 1
    assert first.of("time_to_first_token_seconds_count", endpoint=FEED) == 1
    assert first.of("tokens_total", endpoint=FEED) >= 9
    assert first.of("connections_ended_total", endpoint=FEED, end="client-gone") == 0
    second = Figures(server, before)
    assert second.of("sent_bytes_total", endpoint=FEED) >= first.of("sent_bytes_total", endpoint=FEED)
    client.close()
    (row,) = server.ended_rows("open", 1)
    last = Figures(server, before)
    assert last.of("active_connections", endpoint=FEED) == 0
    assert last.of("sent_bytes_total", endpoint=FEED) == row.written_bytes
    count = sum(until - since + 1 for since, until in row.written)
    assert last.of("events_total", endpoint=FEED) == last.of("tokens_total", endpoint=FEED) == count
    assert last.of("time_to_first_token_seconds_count", endpoint=FEED) == 1


def test_a_stream_that_has_not_begun_to_speak_counts_nothing_less_than_nothing(serve):
    server = serve()
    before = Figures(server)
    client = server.open("script=endless&first_token_ms=600000", {"Sseproof-Stream": "mute/-/1"})
    client.read_until(b"event: hello")
    figures = Figures(server, before)
    assert figures.of("events_total", endpoint=CHAT) == 1
    assert figures.of("tokens_total", endpoint=CHAT) == 0
    assert figures.of("time_to_first_token_seconds_count", endpoint=CHAT) == 0
    client.close()
    server.ended_rows("mute", 1)


def test_progress_is_an_event_and_no_token(serve):
    server = serve()
    before = Figures(server)
    reply = server.get("script=multimedia&first_token_ms=20&interval_ms=1&events=5")
    assert reply.types.count("progress") >= 1
    figures = Figures(server, before)
    assert figures.of("tokens_total", endpoint=CHAT) == 5
    assert figures.of("events_total", endpoint=CHAT) == len(reply.types)


def test_live_answers_count_as_others_do_and_their_errors_by_code(serve):
    with upstream() as model:
        server = serve(fresh=True, answers="upstream", environ=model.environ)
        whole = server.get("question=whole")
        failed = server.get("question=inband")
        figures = Figures(server)
    assert figures.of("tokens_total", endpoint=CHAT) == deltas(whole, failed) >= len(TEXT)
    assert figures.of("sent_bytes_total", endpoint=CHAT) == len(whole.body) + len(failed.body)
    assert figures.by("connections_ended_total", "end", endpoint=CHAT) == {"done": 1, "error": 1}
    code = json.loads(failed.events[-1]["data"])["code"]
    assert figures.by("errors_total", "reason", endpoint=CHAT) == {code: 1} == {"upstream-error": 1}
    assert figures.of("time_to_first_token_seconds_count", endpoint=CHAT) == 1 + ("delta" in failed.types)


def test_what_the_server_breaks_is_an_error_of_its_endpoint(serve):
    server = serve(fresh=True, misbehave="truncate", misbehave_share=1.0)
    reply = server.stream("broken/-/1", QUICK)
    server.ended_rows("broken", 1)
    figures = Figures(server)
    assert figures.by("errors_total", "reason", endpoint=CHAT) == {"truncate": 1}
    assert figures.of("tokens_total", endpoint=CHAT) == deltas(reply)


def test_refusals_are_counted_by_endpoint_and_reason_and_no_label_is_the_clients(serve):
    server = serve()
    before = Figures(server)
    for target, method, body in (
        (f"{CHAT}?events=x", "GET", None),
        (CHAT, "POST", b'{"question": "' + b"x" * 70_000 + b'"}'),
        (CHAT, "PUT", b""),
        *((f"/planted-{number}/%22%0A", "GET", None) for number in range(30)),
        ("/witness", "GET", None),
    ):
        server.client().send(target, {"Connection": "close"}, method=method, body=body).reply()
    figures = Figures(server, before)
    assert figures.by("errors_total", "reason", endpoint=CHAT) == {"bad-request": 1, "too-large": 1}
    assert figures.by("errors_total", "reason", endpoint="other") == {
        "method-not-allowed": 1,
        "not-found": 30,
    }
    assert figures.by("requests_total", "endpoint") == {
        CHAT: 2,
        "other": 31,
        "/witness": 1,
        "/metrics": 1,
    }
    assert b"planted" not in scraped(server).body


def test_heartbeats_and_those_that_could_not_be_sent(serve):
    server = serve(fresh=True, heartbeat=ms(60))
    reply = server.stream("beat/-/1", "first_token_ms=0&interval_ms=400&events=2")
    figures = Figures(server)
    assert figures.of("heartbeats_total", endpoint=CHAT) == reply.types.count("ping") >= 2
    assert figures.of("heartbeat_timeouts_total", endpoint=CHAT) == 0

    stalling = serve(fresh=True, heartbeat=ms(60), misbehave="stall", misbehave_share=1.0)
    client = stalling.open(QUICK, {"Sseproof-Stream": "stall/-/1"})
    ends = time.monotonic() + 20
    while Figures(stalling).of("heartbeat_timeouts_total", endpoint=CHAT) < 3 and time.monotonic() < ends:
        time.sleep(0.02)
    client.close()
    (row,) = stalling.ended_rows("stall", 1)
    figures = Figures(stalling)
    silent_s = (row.ended.ns - row.last_write.ns) / 1e9
    assert 3 <= figures.of("heartbeat_timeouts_total", endpoint=CHAT) <= silent_s / 0.06
    assert figures.of("heartbeats_total", endpoint=CHAT) == 0


def test_a_reader_that_takes_nothing_times_out_heartbeats(serve):
    server = serve(fresh=True, heartbeat=ms(60), write_limit_bytes=4096, slow_reader=ms(500))
    client = server.client(receive_buffer=4096).send(
        f"{CHAT}?script=long&first_token_ms=0&interval_ms=0&events=5000", {"Sseproof-Stream": "slow/-/1"}
    )
    (row,) = server.ended_rows("slow", 1)
    figures = Figures(server)
    assert row.end == "slow-reader"
    assert figures.of("heartbeat_timeouts_total", endpoint=CHAT) >= 1
    assert figures.by("errors_total", "reason", endpoint=CHAT) == {"slow-reader": 1}
    client.close()


def test_types_units_and_help_are_there_in_both_formats(serve):
    server = serve()
    server.stream("types/-/1", QUICK)
    families = {family.name: family for family in Figures(server).families}
    for name, kind in (
        ("active_connections", "gauge"),
        ("requests", "counter"),
        ("errors", "counter"),
        ("connections_ended", "counter"),
        ("reconnections", "counter"),
        ("heartbeats", "counter"),
        ("heartbeat_timeouts", "counter"),
        ("sent_bytes", "counter"),
        ("events", "counter"),
        ("tokens", "counter"),
        ("time_to_first_token_seconds", "histogram"),
        ("stream_duration_seconds", "histogram"),
        ("stream_size_bytes", "histogram"),
        ("stream_tokens_per_second", "histogram"),
    ):
        family = families.pop(f"sse_server_{name}")
        assert family.type == kind, name
        assert family.documentation.endswith("."), name
    assert {name for name in families if name.startswith("sse_")} == {"sse_server"}
    reply = scraped(server)
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")
    older = scraped(server, Accept="text/plain")
    assert older.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in plain.text_string_to_metric_families(older.body.decode())}
    assert {"sse_server_time_to_first_token_seconds", "sse_server_requests"} <= names
    browser = scraped(server, Accept="text/html,*/*;q=0.8")
    assert browser.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_nobody_else_reads_them_unless_told(serve, header):
    forwarded = {header: "203.0.113.7"}
    refused = scraped(serve(), **forwarded)
    assert refused.status == 403
    assert b"sse_server" not in refused.body
    assert b"--metrics-from anywhere" in refused.body
    assert scraped(serve(metrics_from="anywhere"), **forwarded).status == 200


def test_many_open_streams_count_once_however_often_they_are_scraped(serve):
    server = serve()
    before = Figures(server)
    clients = [server.open("script=endless&first_token_ms=0&interval_ms=600000") for _ in range(200)]
    for client in clients:
        client.read_until(b"event: delta")
    scraped(server)
    figures = Figures(server, before)
    assert figures.of("active_connections", endpoint=CHAT) == 200
    assert figures.of("events_total", endpoint=CHAT) == 400
