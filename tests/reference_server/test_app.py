"""The whole server over real sockets: bytes, resume, each way to misbehave, the witness, and its own ends."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import get_args

import pytest

from sseproof.reference_server.app import BEATS_A_TURN, Service, _is_loopback
from sseproof.reference_server.script import Kind, Script
from sseproof.reference_server.settings import ServerSettings, settings_from_json, settings_to_json
from sseproof.rundir.errors import EXIT_RIG, EXIT_USAGE
from sseproof.rundir.files import WITNESS, Reading
from sseproof.rundir.units import Duration

CHAT = "/api/v1/stream/chat"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
PROGRESS = ("queued", "fetched", "decoded", "analysed", "described")
LAST = 22
"""The number of done in a QUICK answer."""


def ms(value):
    return Duration(value * 1_000_000)


def expected(script, key, first=1, last=None, *, robust=True):
    """The bytes of these events, written down a second time and without the server's own code."""
    body = b""
    for number in range(first, (script.last if last is None else last) + 1):
        step = script.step(number)
        data = {
            "hello": {"service": "sse-streaming", "stream": key},
            "progress": {"percent": 20 * (number - 1), "step": PROGRESS[(number - 2) % 5]},
            "delta": {"text": step.text},
            "done": {"events": script.last, "sha256": hashlib.sha256(script.full_text().encode()).hexdigest()}
            if step.type == "done"
            else {},
        }[step.type]
        if robust and number == 1:
            body += b"retry: 300\n"
        if robust:
            body += f"id: {key}-{number}\n".encode()
        shown = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        body += f"event: {step.type}\ndata: {shown}\n\n".encode()
    return body


def served(server, run, connection=1):
    """The script and key of the run's stream."""
    row = next(row for row in server.rows(run) if row.connection == connection)
    return Script(row.script)


def key_of(reply):
    return reply.last_id.rpartition("-")[0]


pytestmark = pytest.mark.integration


# What it sends


@pytest.mark.parametrize("kind", [kind for kind in get_args(Kind) if kind != "endless"])
def test_a_robust_answer_byte_for_byte(serve, kind):
    server = serve()
    reply = server.stream(f"bytes-{kind}/-/1", f"first_token_ms=0&interval_ms=1&script={kind}")
    script = served(server, f"bytes-{kind}")
    assert reply.status == 200
    assert reply.end == "whole"
    assert reply.body == expected(script, key_of(reply))
    assert reply.text == script.full_text()


def test_a_legacy_answer_byte_for_byte(serve):
    server = serve(profile="legacy")
    reply = server.stream("bytes/-/1", QUICK, last_event_id="0123456789ab-7")
    stream = json.loads(reply.events[0]["data"])["stream"]
    assert reply.end == "whole"
    assert reply.body == expected(served(server, "bytes"), stream, robust=False)


def test_headers_of_both_profiles(serve):
    for profile in ("robust", "legacy"):
        headers = serve(profile=profile).get(QUICK).headers
        assert headers["sseproof-server"] == f"reference; profile={profile}; witness=/witness; kind=answer"
        assert headers["transfer-encoding"] == "chunked"
    assert headers["content-type"] == "text/event-stream"
    assert not {"cache-control", "x-accel-buffering", "connection"} & set(headers)
    robust = serve().get(QUICK).headers
    assert robust["content-type"] == "text/event-stream; charset=utf-8"
    assert robust["cache-control"] == "no-cache, no-transform"
    assert robust["x-accel-buffering"] == "no"
    assert robust["connection"] == "keep-alive"


def test_a_feed_that_never_ends_says_so_in_its_headers(serve):
    for query in ("script=endless", "script=ascii&events=0"):
        client = serve().open(query)
        assert b"\r\nSseproof-Server: reference; profile=robust; witness=/witness; kind=subscription\r\n" in (
            client.read_until(b"\r\n\r\n")
        )
        client.close()


def test_what_is_no_stream_is_signed_without_a_kind(serve):
    reply = serve().client().send("/api/v1/stream/health").reply()
    assert reply.headers["sseproof-server"] == "reference; profile=robust; witness=/witness"


def test_a_connection_serves_several_requests_and_closes_when_asked(serve):
    client = serve().client()
    for _ in range(2):
        client.raw = b""
        assert client.send(f"{CHAT}?{QUICK}").reply().end == "whole"
    client.raw = b""
    assert client.send(f"{CHAT}?{QUICK}", {"Connection": "close"}).reply().headers["connection"] == "close"
    assert client.socket.recv(1) == b""


def test_an_old_proxy_gets_a_body_that_ends_with_the_connection(serve):
    server = serve()
    headers = {"Sseproof-Stream": "old/-/1", "Connection": "keep-alive"}
    reply = server.get(QUICK, headers, version="1.0")
    assert reply.end == "close"
    assert "transfer-encoding" not in reply.headers
    assert reply.headers["connection"] == "close"
    assert reply.body == expected(served(server, "old"), key_of(reply))


def test_the_send_time_is_inside_when_asked_for(serve):
    server = serve()
    before = time.time_ns()
    reply = server.stream("sent/-/1", f"{QUICK}&sent_at=1")
    after = time.time_ns()
    sent = [json.loads(event["data"])["sent_at"] for event in reply.events if event["event"] == "delta"]
    assert len(sent) == 20
    assert before <= sent[0] <= sent[-1] <= after
    assert sent == sorted(sent)
    row = server.rows("sent")[0]
    assert row.first_token_write.ns == sent[0]


def test_events_come_at_their_instants(serve):
    server = serve()
    reply = server.stream("pace/-/1", "first_token_ms=150&interval_ms=40&events=10&sent_at=1")
    row = server.rows("pace")[0]
    script = Script(row.script)
    late_ms = sorted(
        (json.loads(event["data"])["sent_at"] - row.accepted.ns - script.step(number).due_ns) / 1e6
        for number, event in enumerate(reply.events, 1)
        if event["event"] == "delta"
    )
    assert late_ms[0] > -1, "none comes early"
    assert late_ms[3] < 20, "a busy machine may hold up some, not most"


def test_post_is_get_with_a_body(serve):
    server = serve()
    asked = {"question": "لماذا؟", "script": "arabic", "events": 5, "first_token_ms": 0, "interval_ms": 1}
    reply = server.get(
        headers={"Sseproof-Stream": "post/-/1"}, method="POST", body=json.dumps(asked).encode()
    )
    script = served(server, "post")
    assert (script.spec.kind, script.spec.events) == ("arabic", 5)
    assert reply.body == expected(script, key_of(reply))
    other = server.get(
        "question=why&script=arabic&events=5&first_token_ms=0&interval_ms=1", {"Sseproof-Stream": "post/-/1"}
    )
    assert other.text != reply.text, "another question gets another answer"


@pytest.mark.parametrize(
    ("target", "method", "headers", "body", "status", "words"),
    [
        (f"{CHAT}?event=3", "GET", {}, None, 400, "did you mean 'events'?"),
        (f"{CHAT}?events=-3", "GET", {}, None, 400, "'events' can't be taken"),
        (f"{CHAT}?script=endless&events=3", "GET", {}, None, 400, "endless"),
        (CHAT, "POST", {}, b"{", 400, "JSON object"),
        (CHAT, "POST", {}, b'{"seed": "x"}', 400, "'seed'"),
        (CHAT, "POST", {}, b'{"question": "' + b"x" * 70_000 + b'"}', 413, "larger than 64 KiB"),
        (CHAT, "POST", {}, b'{"question": "' + b"x" * 4_001 + b'"}', 413, "The question has 4,001 characters"),
        ("/admin/api/chat/stream", "GET", {}, None, 403, "a server without a login has none"),
        (CHAT, "GET", {"Sseproof-Stream": "nonsense"}, None, 400, "run/variant/number"),
        (CHAT, "PUT", {}, b"", 405, "Method Not Allowed"),
        ("/api/v1/stream/chats", "GET", {}, None, 404, "Not Found"),
    ],
)  # fmt: skip
def test_what_a_client_gets_wrong_is_one_sentence(serve, target, method, headers, body, status, words):
    reply = serve().client().send(target, headers, method=method, body=body).reply()
    assert reply.status == status
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["sseproof-server"].startswith("reference")
    problem = json.loads(reply.body)
    assert list(problem) == ["error"]
    assert words in problem["error"]
    assert problem["error"].count(". ") == 0
    assert problem["error"][-1] in ".?"


def test_health(serve):
    reply = serve().client().send("/api/v1/stream/health").reply()
    assert json.loads(reply.body) == {"status": "ok", "service": "sse-streaming"}


# Resume


def test_resume_at_every_number_and_204_at_the_end(serve):
    server = serve()
    key = key_of(server.stream("resume/-/1", QUICK))
    script = served(server, "resume")
    for number in range(1, LAST):
        reply = server.stream("resume/-/1", QUICK, last_event_id=f"{key}-{number}")
        assert reply.body == expected(script, key, number + 1), number
    finished = server.stream("resume/-/1", QUICK, last_event_id=f"{key}-{LAST}")
    assert (finished.status, finished.body) == (204, b"")
    rows = server.rows("resume")
    assert [row.connection for row in rows] == list(range(1, LAST + 2))
    assert [row.meant_first for row in rows] == [*range(1, LAST + 1), None]
    assert [row.written for row in rows] == [*([(first, LAST)] for first in range(1, LAST + 1)), []]
    assert [row.end for row in rows] == ["done"] * LAST + ["finished"]
    assert rows[-1].status == 204
    assert rows[-1].script is None
    assert rows[5].last_event_id == f"{key}-5"


def test_the_timeline_runs_on_while_nobody_listens(serve):
    """After a whole answer all is due: a resume gets the rest at once, not in the pace of the script again."""
    server = serve()
    query = "first_token_ms=200&interval_ms=200&events=10"
    started = time.monotonic()
    key = key_of(server.stream("late/-/1", query))
    whole_s = time.monotonic() - started
    started = time.monotonic()
    reply = server.stream("late/-/1", query, last_event_id=f"{key}-1")
    assert reply.numbers == list(range(2, 13))
    assert whole_s > 2
    assert time.monotonic() - started < whole_s / 2


def test_a_resume_in_the_middle_waits_for_what_is_not_due(serve):
    server = serve()
    client = server.open(
        "first_token_ms=50&interval_ms=150&events=8&sent_at=1", {"Sseproof-Stream": "middle/-/1"}
    )
    key = client.read_until(b"-4\nevent").decode().split("id: ")[1].split("-")[0]
    client.close()
    reply = server.stream(
        "middle/-/1", "first_token_ms=50&interval_ms=150&events=8&sent_at=1", last_event_id=f"{key}-4"
    )
    assert reply.numbers == [5, 6, 7, 8, 9, 10]
    first, second = sorted(server.ended_rows("middle", 2), key=lambda row: row.connection)
    script = Script(first.script)
    last_delta = json.loads(reply.events[-2]["data"])["sent_at"]
    assert last_delta - first.accepted.ns >= script.step(9).due_ns - 1_000_000
    assert second.first_write.ns < last_delta


@pytest.mark.parametrize(
    "last", ["nonsense", "0123456789ab-3", 'x" \\ data: y', "سلام\u2028data: 1", b"\xff\xfe\n ".strip()]
)
def test_an_unknown_id_is_said_in_the_stream(serve, last):
    server = serve()
    reply = server.get(QUICK, {"Last-Event-ID": last if isinstance(last, bytes) else last.encode()})
    assert reply.status == 200
    assert reply.end == "whole"
    assert reply.types == ["error"]
    assert set(reply.events[0]) == {"event", "data"}
    problem = json.loads(reply.events[0]["data"])
    assert problem["message"] == "unknown Last-Event-ID"
    assert reply.body.count(b"\n") == 3
    assert reply.body.decode().isascii() or "سلام" in problem["last_event_id"]


def test_the_id_of_another_stream_is_unknown_and_witnessed(serve):
    server = serve()
    key = key_of(server.stream("theirs/-/1", QUICK))
    assert server.stream("theirs/-/2", QUICK, last_event_id=f"{key}-3").types == ["error"]
    row = server.rows("theirs")[-1]
    assert (row.truth_id, row.end, row.written, row.script) == ("theirs/-/2", "unknown-id", [], None)
    assert row.written_bytes > 0


def test_a_multimedia_job_can_be_continued_in_its_progress(serve):
    server = serve()
    query = f"{QUICK}&script=multimedia"
    reply = server.stream("media/-/1", query)
    key = key_of(reply)
    assert reply.types == ["hello", *["progress"] * 5, *["delta"] * 20, "done"]
    for number in (1, 3, 6, 7):
        assert server.stream("media/-/1", query, last_event_id=f"{key}-{number}").body == expected(
            served(server, "media"), key, number + 1
        )


def test_a_plain_client_resumes_without_a_name(serve):
    server = serve()
    key = key_of(server.get(QUICK))
    assert server.get(QUICK, {"Last-Event-ID": f"{key}-9"}).numbers == list(range(10, LAST + 1))


def test_an_endless_feed_goes_on_until_it_is_left(serve):
    server = serve()
    client = server.open("script=endless&first_token_ms=0&interval_ms=1", {"Sseproof-Stream": "feed/-/1"})
    raw = client.read_until(b"-300\nevent: delta")
    assert b"event: done" not in raw
    client.close()
    row = server.ended_rows("feed", 1)[0]
    assert (row.end, row.meant_last, row.script.events) == ("client-gone", None, 0)


def test_heartbeats_come_in_silence_only_and_move_no_id(serve):
    server = serve(heartbeat=ms(150))
    client = server.open("first_token_ms=0&interval_ms=600&events=2", {"Sseproof-Stream": "beat/-/1"})
    reply = client.reply()
    assert reply.types.count("ping") >= 2
    shown = [event["id"] for event in reply.events]
    for place, event in enumerate(reply.events):
        if event["event"] == "ping":
            assert event["id"] == shown[place - 1]
            assert event["data"] == "{}"
    assert reply.numbers == [1, 2, 3, 4]
    row = server.rows("beat")[0]
    assert reply.types.count("ping") <= (row.ended.ns - row.accepted.ns) / 150e6
    assert row.written == [(1, 4)]
    assert row.written_bytes == len(reply.body)
    assert server.get(QUICK).types.count("ping") == 0


class Turns:
    """A loop that notes what is to come."""

    def __init__(self):
        self.soon = []
        self.later = []

    def time(self):
        return 1.0

    def call_soon(self, call, *arguments):
        self.soon.append((call, arguments))

    def call_later(self, _delay_s, call, *arguments):
        self.later.append((call, arguments))


@pytest.mark.parametrize("streams", [0, 1, BEATS_A_TURN, 2 * BEATS_A_TURN, 2 * BEATS_A_TURN + 1])
def test_heartbeats_of_many_streams_leave_turns_to_others(streams):
    beaten = []

    class Silent:
        def ping(self, now, heartbeat_s):
            beaten.append((self, now, heartbeat_s))

    service = Service(ServerSettings(port=0))
    service._emissions = {Silent(): None for _ in range(streams)}
    loop = Turns()
    service.beat(loop)
    turns = [len(beaten)]
    while loop.soon:
        assert loop.later == []
        [(call, arguments)] = loop.soon
        loop.soon.clear()
        call(*arguments)
        turns.append(len(beaten) - sum(turns))
    assert max(turns) <= BEATS_A_TURN
    assert len(turns) == max(1, -(-streams // BEATS_A_TURN))
    assert beaten == [(each, 1.0, 20.0) for each in service._emissions]
    assert loop.later == [(service.beat, (loop,))]


def test_legacy_has_no_heartbeat(serve):
    server = serve(profile="legacy", heartbeat=ms(50))
    assert "ping" not in server.get("first_token_ms=0&interval_ms=400&events=2").types


# Each way to misbehave


def misbehaving(serve, modes, **settings):
    return serve(misbehave=modes, misbehave_share=1.0, **settings)


def test_loss_skips_one_number_on_every_attempt(serve):
    server = misbehaving(serve, "loss")
    reply = server.stream("loss/-/1", QUICK)
    [lost] = set(range(1, LAST + 1)) - set(reply.numbers)
    assert 2 < lost < LAST - 2
    assert reply.types[-1] == "done"
    again = server.stream("loss/-/1", QUICK, last_event_id=f"{key_of(reply)}-{lost - 1}")
    assert again.numbers == list(range(lost + 1, LAST + 1))
    first, second = server.rows("loss")
    assert first.written == [(1, lost - 1), (lost + 1, LAST)]
    assert (first.meant_first, first.meant_last) == (1, LAST)
    assert (second.meant_first, second.written) == (lost, [(lost + 1, LAST)])
    assert [row.misbehaved for row in (first, second)] == [["loss"], ["loss"]]
    after = server.stream("loss/-/1", QUICK, last_event_id=f"{key_of(reply)}-{lost}")
    assert after.numbers == again.numbers
    assert server.rows("loss")[-1].misbehaved == []


def test_a_heartbeat_never_shows_the_id_of_a_lost_event(serve):
    server = misbehaving(serve, "loss", heartbeat=ms(60))
    reply = server.stream("lost-beat/-/1", "first_token_ms=0&interval_ms=250&events=4")
    [lost] = set(range(1, 7)) - set(reply.numbers)
    shown = [int(event["id"].rpartition("-")[2]) for event in reply.events]
    assert reply.types.count("ping") > 3
    assert lost not in shown
    assert shown == sorted(shown)


def test_utf8_damages_one_character_and_nothing_else(serve):
    server = misbehaving(serve, "utf8")
    reply = server.stream("utf8/-/1", f"{QUICK}&script=arabic")
    with pytest.raises(UnicodeDecodeError):
        reply.body.decode()
    assert reply.numbers == list(range(1, LAST + 1))
    script = served(server, "utf8")
    damaged = [
        event
        for event in reply.events
        if event["event"] == "delta"
        and json.loads(event["data"])["text"] != script.text(int(event["id"].split("-")[1]))
    ]
    assert len(damaged) == 1
    assert reply.text.count("\ufffd") == 1
    assert len(reply.text) == len(script.full_text())
    row = server.rows("utf8")[0]
    assert row.misbehaved == ["utf8"]
    assert row.written_text_chars == len(script.full_text())
    assert server.stream("utf8/-/1", f"{QUICK}&script=arabic").body == reply.body


def test_slow_holds_back_the_first_token(serve):
    server = misbehaving(serve, "slow")
    server.stream("slow/-/1", "first_token_ms=20&interval_ms=5&events=10")
    row = server.rows("slow")[0]
    assert 1.199e9 <= row.first_token_write.ns - row.accepted.ns < 2.4e9
    assert row.last_write.ns - row.accepted.ns >= 1.249e9, "the later ones are held back as much"
    assert row.misbehaved == ["slow"]


def test_no_resume_starts_again_with_the_same_ids(serve):
    server = misbehaving(serve, "no-resume")
    reply = server.stream("again/-/1", QUICK)
    again = server.stream("again/-/1", QUICK, last_event_id=f"{key_of(reply)}-8")
    assert again.body == reply.body
    assert [row.misbehaved for row in server.rows("again")] == [[], ["no-resume"]]


def test_duplicate_sends_three_again(serve):
    server = misbehaving(serve, "duplicate")
    reply = server.stream("twice/-/1", QUICK)
    assert reply.numbers == list(range(1, LAST + 1))
    again = server.stream("twice/-/1", QUICK, last_event_id=f"{key_of(reply)}-8")
    assert again.numbers == list(range(6, LAST + 1))
    first, second = server.rows("twice")
    assert (first.misbehaved, second.misbehaved) == ([], ["duplicate"])
    assert (second.meant_first, second.written) == (9, [(6, LAST)])


def test_truncate_ends_cleanly_and_no_attempt_gets_further(serve):
    server = misbehaving(serve, "truncate")
    reply = server.stream("short/-/1", QUICK)
    assert reply.end == "whole"
    assert "done" not in reply.types
    last = reply.numbers[-1]
    assert reply.numbers == list(range(1, last + 1))
    assert LAST / 2 <= last < LAST - 1
    again = server.stream("short/-/1", QUICK, last_event_id=reply.last_id)
    assert (again.status, again.end, again.body) == (200, "whole", b"")
    assert server.stream("short/-/1", QUICK).body == reply.body
    rows = server.rows("short")
    assert [row.end for row in rows] == ["truncate"] * 3
    assert [row.misbehaved for row in rows] == [["truncate"]] * 3
    assert [row.written for row in rows] == [[(1, last)], [], [(1, last)]]


def test_stall_is_silence_with_the_connection_open(serve):
    server = misbehaving(serve, "stall", heartbeat=ms(50))
    headers = {"Sseproof-Stream": "stall/-/1"}
    reply = server.open(QUICK, headers).reply(quiet_s=0.6)
    assert reply.end == "open"
    assert not {"done", "ping"} & set(reply.types)
    client = server.open(QUICK, {**headers, "Last-Event-ID": reply.last_id})
    client.read_until(b"\r\n\r\n")
    again = client.reply(quiet_s=0.3)
    assert (again.status, again.end, again.body) == (200, "open", b"")
    still_open = server.rows("stall")
    assert [(row.end, row.ended, row.misbehaved) for row in still_open] == [("", None, ["stall"])] * 2
    assert still_open[0].written == [(1, reply.numbers[-1])]
    for client in server.clients:
        client.close()
    assert {row.end for row in server.ended_rows("stall", 2)} == {"client-gone"}


def cut_reply(server, run):
    return server.open(QUICK, {"Sseproof-Stream": f"{run}/-/1"}).reply()


@pytest.mark.parametrize("profile", ["robust", "legacy"])
def test_cut_closes_inside_an_event_and_inside_the_framing(serve, profile):
    server = misbehaving(serve, "cut", profile=profile)
    reply = cut_reply(server, "cut")
    assert reply.end == "fin"
    whole, _, half = reply.body.rpartition(b"\n\n")
    assert half.endswith(b"event: delta\ndata: ")
    row = server.rows("cut")[0]
    assert (row.end, row.misbehaved) == ("cut", ["cut"])
    last = row.written[0][1]
    script = Script(row.script)
    stream = json.loads(reply.events[0]["data"])["stream"]
    assert whole + b"\n\n" == expected(script, stream, 1, last, robust=profile == "robust")
    assert row.written_text_chars == len(script.text_of([(1, last)]))
    assert row.written_bytes == len(reply.body)


def test_cut_acts_on_the_first_attempt_only(serve):
    server = misbehaving(serve, "cut")
    reply = cut_reply(server, "once")
    last = server.rows("once")[0].written[0][1]
    key = reply.events[0]["id"].rpartition("-")[0]
    rest = server.stream("once/-/1", QUICK, last_event_id=f"{key}-{last}")
    assert rest.body == expected(served(server, "once"), key, last + 1)
    assert [row.misbehaved for row in server.rows("once")] == [["cut"], []]


@pytest.mark.parametrize(
    ("modes", "second"),
    [
        ("cut,no-resume", lambda last: [*range(1, LAST + 1)]),
        ("cut,duplicate", lambda last: [*range(last - 2, LAST + 1)]),
    ],
)
def test_cut_makes_a_bad_resume_visible(serve, modes, second):
    server = misbehaving(serve, modes)
    key = cut_reply(server, "visible").events[0]["id"].rpartition("-")[0]
    last = server.rows("visible")[0].written[0][1]
    again = server.stream("visible/-/1", QUICK, last_event_id=f"{key}-{last}")
    assert again.numbers == second(last)
    assert again.types[-1] == "done"
    assert [row.misbehaved for row in server.rows("visible")] == [["cut"], [modes.split(",")[1]]]


def test_all_defects_of_a_combination_act(serve):
    server = misbehaving(serve, "loss,utf8,truncate")
    reply = server.stream("all/-/1", QUICK)
    row = server.rows("all")[0]
    assert sorted(row.misbehaved) == ["loss", "truncate", "utf8"]
    assert "\ufffd" in reply.body.decode("utf-8", "replace")
    assert len(row.written) == 2
    assert "done" not in reply.types


def test_a_share_hits_that_share_and_leaves_the_others_alone(serve):
    server = serve(misbehave="loss", misbehave_share=0.4)
    clients = [server.open(QUICK, {"Sseproof-Stream": f"share/-/{n}"}) for n in range(100)]
    numbers = [client.reply().numbers for client in clients]
    hit = [len(got) == LAST - 1 for got in numbers]
    assert all(got == list(range(1, LAST + 1)) for got, bad in zip(numbers, hit, strict=True) if not bad)
    assert 20 <= sum(hit) <= 60
    witnessed = {row.truth_id: row.misbehaved == ["loss"] for row in server.rows("share")}
    assert witnessed == {f"share/-/{n}": bad for n, bad in enumerate(hit)}


# The witness


def test_the_witness_equals_what_was_received(serve):
    """Sixty connections, a third of them left early: ranges, characters and bytes agree with each client's own."""
    server = serve(misbehave="loss", misbehave_share=0.5)
    query = "first_token_ms=5&interval_ms=3&events="
    clients = [
        # Those who leave ask for what never ends: else the server may be done before they do.
        server.open(
            f"{query}{30 if n % 3 else 0}", {"Sseproof-Stream": f"agree/-/{n}", "User-Agent": f"t/{n}"}
        )
        for n in range(60)
    ]
    for n, client in enumerate(clients):
        if n % 3 == 0:
            client.read_until(b"-6\nevent")
            client.close()
    replies = {f"agree/-/{n}": clients[n].reply() for n in range(60) if n % 3}
    rows = server.ended_rows("agree", 60)
    assert len(rows) == 60
    for row in rows:
        assert row.user_agent == f"t/{row.truth_id.split('/')[2]}"
        if row.truth_id not in replies:
            assert row.end == "client-gone"
            continue
        reply = replies[row.truth_id]
        assert [n for first, last in row.written for n in range(first, last + 1)] == reply.numbers
        assert row.written_bytes == len(reply.body)
        assert row.written_text_chars == len(reply.text)
        assert reply.text == Script(row.script).text_of(row.written)
        assert row.end == "done"
        assert (
            row.accepted.ns
            <= row.first_write.ns
            <= row.first_token_write.ns
            <= row.last_write.ns
            <= row.ended.ns
        )
        assert row.connection == 1
        assert row.profile == "robust"
        assert row.path == CHAT


def test_an_open_connection_is_witnessed(serve):
    server = serve()
    client = server.open(
        "script=endless&first_token_ms=0&interval_ms=1",
        {"Sseproof-Stream": "now/-/1", "Accept": "text/event-stream"},
    )
    client.read_until(b"-5\nevent")
    [row] = server.rows("now")
    assert row.ended is None
    assert row.written[0][1] >= 5
    assert row.accept == "text/event-stream"
    client.close()


def test_the_witness_keeps_runs_apart_and_says_what_it_dropped(serve):
    server = serve()
    server.stream("apart-1/-/1", QUICK)
    server.stream("apart-2/-/1", QUICK)
    assert [row.run for row in server.rows("apart-2")] == ["apart-2"]
    assert server.rows("apart-3") == []
    reply = server.client().send("/witness", {"Connection": "close"}).reply()
    assert reply.headers["sseproof-witness-dropped"] == "0"
    assert reply.body.count(b'"run":"apart-') == 2


@pytest.mark.parametrize(
    ("peer", "near"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("10.0.0.1", False), ("192.0.2.1", False), ("::ffff:10.0.0.1", False), ("fe80::1", False), (None, False), ("x", False)],
)  # fmt: skip
def test_the_witness_is_for_loopback_peers(peer, near):
    assert _is_loopback(peer) is near


def test_a_witness_far_away_is_refused(start_server, tmp_path):
    """The peer's address is the only thing that changes: the handler is the real one."""
    script = tmp_path / "far.py"
    script.write_text(
        "from sseproof.reference_server import app, settings\n"
        "app._is_loopback = lambda peer: False\n"
        "app.run_server(settings.ServerSettings(port=0))\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(b"GET /witness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert peer.recv(65536).startswith(b"HTTP/1.1 403 ")
        process.terminate()


def test_a_run_s_own_server_tells_that_run_alone(serve):
    """Through a run's proxies everybody is a loopback peer."""
    server = serve(environ={"SSEPROOF_SERVER_KEY": "0123456789abcdef"})
    assert server.stream("keyed/-/1", QUICK).end == "whole"
    for path in ("/witness?run=keyed", "/metrics"):
        for key in ({}, {"Sseproof-Key": ""}, {"Sseproof-Key": "0123"}, {"Sseproof-Key": b"\xff"}):
            reply = server.client().send(path, {"Connection": "close", **key}).reply()
            assert reply.status == 403
            assert b"keyed" not in reply.body
        reply = (
            server.client().send(path, {"Connection": "close", "Sseproof-Key": "0123456789abcdef"}).reply()
        )
        assert reply.status == 200


# Its own limits and ends


def test_a_slow_reader_is_bounded_and_then_closed(serve):
    server = serve(write_limit_bytes=64 * 1024, slow_reader=ms(300))
    slow = server.client(receive_buffer=4096)
    slow.send(f"{CHAT}?script=endless&first_token_ms=0&interval_ms=0", {"Sseproof-Stream": "reader/-/1"})
    [row] = server.ended_rows("reader", 1)
    assert row.end == "slow-reader"
    assert row.written_bytes < 1024 * 1024, "process and kernel together hold a few times the limit"
    assert row.ended.ns - row.last_write.ns >= 290e6
    assert server.get(QUICK).end == "whole"


def test_a_reader_that_only_lags_gets_everything(serve):
    server = serve(write_limit_bytes=64 * 1024, slow_reader=ms(60_000))
    lagging = server.client(receive_buffer=4096)
    lagging.send(
        f"{CHAT}?script=long&events=10000&first_token_ms=0&interval_ms=0", {"Sseproof-Stream": "lag/-/1"}
    )
    before, [row] = None, server.rows("lag")
    while before is None or not row.written or row.written_bytes != before.written_bytes:
        before, [row] = row, server.rows("lag")
    assert row.written[0][1] < row.meant_last, "the server waits for its reader"
    reply = lagging.reply()
    assert reply.end == "whole"
    assert reply.numbers == list(range(1, 10_003))
    assert json.loads(reply.events[-1]["data"])["sha256"] == hashlib.sha256(reply.text.encode()).hexdigest()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_its_rows_are_there(serve, tmp_path, number):
    server = serve(fresh=True, witness_dir=str(tmp_path))
    server.stream("ends/-/1", QUICK)
    client = server.open("script=endless&interval_ms=5", {"Sseproof-Stream": "ends/-/2"})
    client.read_until(b"-3\nevent")
    started = time.monotonic()
    code, out, err = server.stop(number)
    assert time.monotonic() - started < 10
    assert (code, out, err) == (0, "", "")
    assert client.reply().end in {"fin", "rst"}
    rows = list(Reading(tmp_path, WITNESS))
    assert [(row.truth_id, row.end) for row in rows] == [("ends/-/1", "done"), ("ends/-/2", "shutdown")]


def test_the_ready_line_is_the_only_line(serve):
    server = serve(fresh=True, profile="legacy")
    assert server.line == f"sseproof reference server (legacy) on http://127.0.0.1:{server.port}{CHAT}\n"
    assert server.stop() == (0, "", "")


def failed(process):
    out, err = process.communicate(timeout=20)
    assert out == ""
    assert err.startswith("sseproof rig error: ")
    assert err.count("\n") == 1
    return process.returncode, err


def test_a_taken_port_is_a_rig_error(serve, start_server):
    port = serve().port
    code, err = failed(start_server(ServerSettings(port=port)))
    assert code == EXIT_RIG
    assert f"127.0.0.1:{port} is taken" in err


def test_an_address_that_is_not_ours_is_bad_usage(start_server):
    code, err = failed(start_server(ServerSettings(host="192.0.2.1", port=0)))
    assert code == EXIT_USAGE
    assert "can't listen on 192.0.2.1:0" in err
    assert "give an address of this machine with --host" in err


def test_a_wrong_mode_is_bad_usage(start_server):
    code, err = failed(start_server(ServerSettings(port=0, misbehave="los")))
    assert code == EXIT_USAGE
    assert "did you mean 'loss'?" in err


def test_a_missing_run_directory_is_a_rig_error(start_server, tmp_path):
    code, err = failed(start_server(ServerSettings(port=0, witness_dir=str(tmp_path / "none"))))
    assert code == EXIT_RIG
    assert "can't be written" in err


def test_a_child_whose_parent_is_gone_does_not_serve(start_server):
    code, _ = failed(start_server(ServerSettings(port=0), SSEPROOF_PARENT="1"))
    assert code == EXIT_RIG


def test_a_child_whose_parent_is_there_serves(start_server):
    process = start_server(ServerSettings(port=0), SSEPROOF_PARENT=str(os.getpid()))
    assert process.stdout.readline().startswith("sseproof reference server")


def test_a_full_disk_stops_the_server(serve, tmp_path):
    (tmp_path / "witness.jsonl").symlink_to("/dev/full")
    server = serve(fresh=True, witness_dir=str(tmp_path))
    server.get(QUICK)
    code, err = failed(server.process)
    assert code == EXIT_RIG
    assert "disk is full" in err


@pytest.mark.parametrize(
    "argument", ["{", '{"prot": 1}', '{"port": 70000}', '{"misbehave_share": 2}', '{"heartbeat": "x"}']
)
def test_settings_that_can_not_be_read(argument):
    done = subprocess.run(
        [sys.executable, "-m", "sseproof.reference_server", argument],
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith("sseproof rig error: ")


def test_settings_survive_their_way_into_the_child():
    settings = ServerSettings(port=0, heartbeat=ms(150), misbehave="cut", witness_dir="/x", slow_reader=ms(1))
    assert settings_from_json(settings_to_json(settings)) == settings


def test_an_error_of_its_own_ends_the_stream_in_band_and_without_details(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(
        "from sseproof.reference_server import app, settings, wire\n"
        "whole = wire.delta_frame\n"
        "def broken(key, number, *rest):\n"
        "    if number == 5:\n"
        "        raise RuntimeError('a secret path')\n"
        "    return whole(key, number, *rest)\n"
        "wire.delta_frame = broken\n"
        "app.run_server(settings.ServerSettings(port=0))\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(f"GET {CHAT}?first_token_ms=0&interval_ms=0 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            raw = b""
            while data := peer.recv(65536):
                raw += data
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(b"GET /witness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            witnessed = b""
            while data := peer.recv(65536):
                witnessed += data
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert b'event: error\ndata: {"message":"internal error"}\n\n' in raw
    assert b"-4\nevent" in raw, "what was due before it, in the same turn, was written"
    assert b'"written":[[1,4]]' in witnessed
    assert b'"end":"failed"' in witnessed
    assert b"secret" not in raw
    assert "a secret path" in err
