"""Answers of a language model through the real server: an upstream that does what the question says, over real sockets."""

import asyncio
import contextlib
import hashlib
import json
import signal
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from sseproof.reference_server.llm import AWAY_KEPT, LiveAnswers, upstream_of
from sseproof.reference_server.settings import ServerSettings
from sseproof.reference_server.streams import Ask
from sseproof.rundir.errors import EXIT_USAGE, UsageError
from sseproof.rundir.files import WITNESS, Reading
from sseproof.rundir.units import parse_duration
from tests.reference_server.upstream import KEY, MODEL, SECRET, TEXT, upstream

pytestmark = pytest.mark.integration

SHORT = parse_duration("400ms")


@pytest.fixture(scope="module")
def model():
    with upstream() as running:
        yield running


@pytest.fixture
def ask(serve, model):
    """Asks a server in front of the upstream; gives the server and a connection."""

    def begin(question, headers=None, **settings):
        server = serve(answers="upstream", environ=model.environ, **settings)
        return server, server.open(f"question={quote(question)}", headers)

    return begin


def error_of(reply):
    assert (reply.end, reply.types[-1]) == ("whole", "error")
    assert "id" not in reply.events[-1]
    return json.loads(reply.events[-1]["data"])


def done_of(reply):
    assert (reply.end, reply.types[-1]) == ("whole", "done")
    return json.loads(reply.events[-1]["data"])


# --- what comes through ---


def test_an_answer_comes_through_piece_by_piece_with_ids(ask, model):
    before = len(model.calls)
    server, client = ask("whole", {"Sseproof-Stream": "whole/-/1"})
    reply = client.reply()
    assert reply.text == TEXT
    assert reply.types == ["hello", *["delta"] * len(TEXT), "done"]
    assert reply.numbers == list(range(1, len(TEXT) + 3))
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert done_of(reply) == {"events": len(TEXT) + 2, "sha256": digest, "finish_reason": "stop"}
    call = model.call(before)
    assert call.head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert f"Authorization: Bearer {KEY}" in call.head
    assert call.body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "whole"}],
        "stream": True,
    }
    (row,) = server.ended_rows("whole", 1)
    assert (row.script, row.meant_first, row.meant_last, row.end) == (None, 1, None, "done")
    assert row.written == [(1, len(TEXT) + 2)]
    assert row.written_text_chars == len(TEXT)
    assert row.written_bytes == len(reply.body)
    assert row.live is not None
    assert (row.live.last, row.live.text_sha256, row.live.said) == (len(TEXT) + 2, digest, "stop")


@pytest.mark.parametrize(
    ("question", "text", "reason"),
    [
        ("length", "x", "length"),
        ("halves", "ü😀😀!", "stop"),
        ("zipped", "zip", "stop"),
        ("without_done", "x", "stop"),
        ("after_done", "x", "stop"),
    ],
)
def test_answers_that_look_odd_and_are_whole(ask, question, text, reason):
    reply = ask(question)[1].reply()
    assert reply.text == text
    assert done_of(reply)["finish_reason"] == reason


def test_an_answer_without_a_word_has_no_first_token(ask):
    server, client = ask("declined", {"Sseproof-Stream": "mute/-/1"}, fresh=True)
    reply = client.reply()
    assert (reply.types, done_of(reply)["finish_reason"]) == (["hello", "done"], "content_filter")
    (row,) = server.ended_rows("mute", 1)
    assert row.first_write is not None
    assert row.first_token_write is None
    scraped = server.client().send("/metrics", {"Connection": "close"}).reply().body.decode()
    assert 'time_to_first_token_seconds_count{endpoint="/api/v1/stream/chat"} 0.0' in scraped


def test_an_upstream_that_goes_on_behind_its_answer_is_left(ask, model):
    before = len(model.calls)
    reply = ask("talks_on")[1].reply()
    assert (reply.text, done_of(reply)["finish_reason"]) == ("x", "stop")
    assert model.call(before).gone.wait(10)  # within the window in which a reader may come back


def test_a_post_with_the_send_time_in_each_delta(serve, model):
    server = serve(answers="upstream", environ=model.environ)
    body = json.dumps({"question": "whole", "sent_at": True}).encode()
    reply = server.client().send("/api/v1/stream/chat", method="POST", body=body).reply()
    assert all("sent_at" in json.loads(each["data"]) for each in reply.events if each["event"] == "delta")


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("status 401", "upstream-refused"),
        ("status 429", "upstream-busy"),
        ("status 500", "upstream-error"),
        ("moved", "upstream-error"),
        ("inband", "upstream-error"),
        ("cut", "upstream-cut"),
        ("half_an_event", "upstream-cut"),
        ("reset", "upstream-cut"),
        ("hung_up", "upstream-cut"),
        ("no_json", "upstream-malformed"),
        ("page", "upstream-malformed"),
        ("garbage", "upstream-malformed"),
        ("long_line", "upstream-malformed"),
        ("slow", "upstream-timeout"),
        ("slow_headers", "upstream-timeout"),
    ],
)
def test_what_goes_wrong_is_one_error_with_a_code_and_no_secret(ask, question, code):
    name = question.replace(" ", "-")
    limits = {"llm_silence": SHORT} if code == "upstream-timeout" else {}  # which a busy machine may break
    server, client = ask(question, {"Sseproof-Stream": f"{name}/-/1"}, **limits)
    reply = client.reply()
    error = error_of(reply)
    assert set(error) == {"message", "code"}
    assert error["code"] == code
    assert error["message"].endswith((".", "again later."))
    for secret in (KEY, "Traceback", "/srv", SECRET):
        assert secret.encode() not in client.raw
    (row,) = server.ended_rows(name, 1)
    assert (row.end, row.live.said, row.live.last) == ("error", code, None)
    assert KEY not in repr(row)


def test_an_answer_that_takes_longer_than_allowed_in_all(ask):
    reply = ask("slow", llm_total=SHORT)[1].reply()
    assert error_of(reply)["code"] == "upstream-timeout"
    assert reply.text == "before "


def test_a_model_that_waits_for_its_reader_is_not_the_slow_one(ask, model):
    before = len(model.calls)
    limits = {
        "llm_buffer_bytes": 64 * 1024,
        "write_limit_bytes": 16 * 1024,
        "slow_reader": parse_duration("1h"),
    }
    client = ask("flood", {"Sseproof-Stream": "lags/-/1"}, llm_total=parse_duration("1s"), **limits)[1]
    assert model.call(before).gone.wait(20), "nothing of the answer is read before its time is over"
    assert error_of(client.reply())["code"] == "reader-slow"


def test_an_upstream_that_nobody_runs(serve):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {"LLM_BASE_URL": f"http://127.0.0.1:{port}", "LLM_MODEL": MODEL}
    reply = serve(answers="upstream", environ=environ).get("question=x")
    assert reply.types == ["hello", "error"]
    assert error_of(reply)["code"] == "upstream-unreachable"


def test_an_upstream_by_tls_has_to_prove_who_it_is(serve, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with upstream(context) as model:
        stranger = serve(answers="upstream", environ=model.environ)
        assert error_of(stranger.get("question=whole"))["code"] == "upstream-unreachable"
        assert model.calls == []
        known = serve(
            answers="upstream", environ={**model.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        )
        assert known.get("question=whole").text == TEXT


def test_an_error_is_told_again_to_who_comes_back(ask):
    server, client = ask("cut")
    first = client.reply()
    again = server.get("question=cut", {"Last-Event-ID": first.events[-2]["id"]})
    assert again.types == ["error"]
    assert error_of(again) == error_of(first)


def test_a_stall_is_covered_by_heartbeats(ask, model):
    before = len(model.calls)
    client = ask("quiet", heartbeat=parse_duration("50ms"))[1]
    client.read_until(b"event: ping")
    client.read_until(b"before ")
    model.call(before).go.set()
    reply = client.reply()
    assert reply.text == "before after"
    done_of(reply)


# --- leaving and coming back ---


def test_who_leaves_for_good_has_the_upstream_cancelled(ask, model):
    before = len(model.calls)
    server, client = ask("slow", llm_window=SHORT)
    last_id = client.read_until(b"before ").decode().split("id: ")[-1].split("\n")[0]
    client.close()
    assert model.call(before).gone.wait(20)
    reply = server.get("question=slow", {"Last-Event-ID": last_id})
    assert error_of(reply) == {"message": "unknown Last-Event-ID", "last_event_id": last_id}


def test_who_leaves_before_the_first_byte_too(ask, model):
    before = len(model.calls)
    client = ask("slow_headers", llm_window=SHORT)[1]
    client.close()
    assert model.call(before).gone.wait(20)


def test_who_comes_back_in_time_goes_on_where_it_was(ask, model):
    before = len(model.calls)
    server, client = ask("quiet", {"Sseproof-Stream": "back/-/1"})
    client.read_until(b"before ")
    client.close()
    server.ended_rows("back", 1)
    model.call(before).go.set()
    key = client.raw.decode().split("id: ")[-1].split("-")[0]
    reply = server.stream("back/-/1", "question=quiet", f"{key}-2")
    assert reply.text == "after"
    assert reply.numbers == [3, 4]
    assert len(model.calls) == before + 1
    assert done_of(reply)["sha256"] == hashlib.sha256(b"before after").hexdigest()
    rows = server.ended_rows("back", 2)
    assert [(each.connection, each.end, each.meant_first, each.written) for each in rows] == [
        (1, "client-gone", 1, [(1, 2)]),
        (2, "done", 3, [(3, 4)]),
    ]
    assert rows[0].live is None
    assert server.stream("back/-/1", "question=quiet", f"{key}-4").status == 204
    assert server.stream("back/-/1", "question=quiet", f"{key}-5").types == ["error"]
    assert server.stream("back/-/2", "question=quiet", f"{key}-2").types == ["error"]
    whole_again = server.stream("back/-/1", "question=quiet", f"{key}-1")
    assert whole_again.text == "before after"


def test_a_second_connection_takes_the_answer_over(ask, model):
    before = len(model.calls)
    server, client = ask("quiet", {"Sseproof-Stream": "over/-/1"})
    key = client.read_until(b"before ").decode().split("id: ")[-1].split("-")[0]
    second = server.open("question=quiet", {"Last-Event-ID": f"{key}-1"})
    first = client.reply()
    assert (first.end, first.types) == ("whole", ["hello", "delta"])
    second.read_until(b"before ")
    model.call(before).go.set()
    assert second.reply().text == "before after"
    assert [row.end for row in server.ended_rows("over", 2)] == ["taken-over", "done"]


def test_an_answer_belongs_to_its_user(serve, model):
    server = serve(
        answers="upstream", environ=model.environ, login=True, tokens="ann:token-of-ann,bob:token-of-bob"
    )
    ann, bob = ({"Authorization": f"Bearer token-of-{user}"} for user in ("ann", "bob"))
    named = {"Sseproof-Stream": "owned/-/1"}
    whole = server.get("question=whole", {**ann, **named})
    last_ids = [{"Last-Event-ID": event["id"]} for event in (whole.events[1], whole.events[-1])]
    for last_id in last_ids:
        for headers in (bob, {**bob, **named}):
            refused = server.get("question=whole", {**headers, **last_id})
            assert error_of(refused)["message"] == "unknown Last-Event-ID"
            assert "delta" not in refused.types
    own = server.get("question=whole", {**bob, **named})
    assert own.text == TEXT
    assert own.last_id != whole.last_id
    assert server.get("question=whole", {**ann, **last_ids[0]}).text == TEXT[1:]
    assert server.get("question=whole", {**ann, **last_ids[1]}).status == 204


def test_an_answer_can_be_continued_only_so_often(ask):
    server, client = ask("whole", replays=2)
    first = {"Last-Event-ID": client.reply().events[0]["id"]}
    assert [server.get("question=whole", first).types[-1] for _ in range(3)] == ["done", "done", "error"]


def test_the_same_stream_asked_anew_ends_its_earlier_answer(ask, model):
    before = len(model.calls)
    server, client = ask("slow", {"Sseproof-Stream": "anew/-/1"})
    client.read_until(b"before ")
    assert server.stream("anew/-/1", "question=whole").text == TEXT
    assert client.reply().end == "whole"
    assert model.call(before).gone.wait(20)
    assert sorted(row.connection for row in server.ended_rows("anew", 2)) == [1, 2]


def test_the_legacy_profile_cancels_at_once_and_has_no_ids(ask, model):
    before = len(model.calls)
    server, client = ask("slow", profile="legacy", llm_window=parse_duration("1h"))
    client.read_until(b"before ")
    assert b"id: " not in client.raw
    client.close()
    assert model.call(before).gone.wait(20)
    assert server.get("question=whole").text == TEXT


def test_the_server_stops_under_open_answers(ask, model):
    before = len(model.calls)
    server, client = ask("slow", fresh=True)
    client.read_until(b"before ")
    code, _, err = server.stop()
    assert (code, err) == (0, "")
    assert model.call(before).gone.wait(20)


def test_a_server_that_drains_lets_an_answer_end(ask, model):
    before = len(model.calls)
    server, client = ask("quiet", fresh=True, drain=parse_duration("1h"))
    client.read_until(b"before ")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stderr.readline().startswith("sseproof reference server: 1 open streams")
    model.call(before).go.set()
    assert done_of(client.reply())["events"] == 4
    assert server.process.communicate(timeout=20) == ("", "")
    assert server.process.returncode == 0


# --- bounds ---


def assert_small(server):
    """A server takes about 60 MB."""
    memory = Path(f"/proc/{server.process.pid}/status")
    if memory.exists():
        assert int(memory.read_text().split("VmHWM:")[1].split()[0]) < 250_000


def test_readers_that_do_not_read_pause_their_upstreams(ask, model):
    before = len(model.calls)
    limits = {"llm_buffer_bytes": 64 * 1024, "write_limit_bytes": 16 * 1024}
    clients = [ask("flood", slow_reader=parse_duration("1h"), **limits) for _ in range(5)]
    calls = [model.call(before + number) for number in range(5)]
    sent, still = -1, 0
    # What the kernel holds for two connections comes on top of what this server holds; else it goes on to 1 GB.
    while still < 10 and sent < 250_000_000:
        seen, sent = sent, sum(call.sent_bytes for call in calls)
        still = still + 1 if seen == sent else 0
        time.sleep(0.1)
    assert sent < 150_000_000
    assert not any(call.gone.is_set() for call in calls)
    server = clients[0][0]
    assert_small(server)
    for _, client in clients:
        client.close()


def test_a_compressed_bomb_takes_no_memory(ask):
    server, client = ask("bomb")
    assert error_of(client.reply())["code"] == "upstream-malformed"
    assert_small(server)


def test_an_event_too_old_to_be_kept_is_unknown(ask, model):
    before = len(model.calls)
    server, client = ask("flood", llm_buffer_bytes=16 * 1024)
    client.read_until(b"-2000\n")
    key = client.raw.decode().split("id: ")[-1].split("-")[0]
    assert error_of(server.get("question=flood", {"Last-Event-ID": f"{key}-1"}))["message"].startswith(
        "unknown"
    )
    client.close()
    model.call(before)


def test_only_so_many_answers_wait_for_their_readers():
    async def ids():
        answers = LiveAnswers(ServerSettings(), None)
        streams = [answers.admit(Ask("x"), None, None, 0.0).stream for _ in range(AWAY_KEPT + 3)]
        found = [answers.continued(None, f"{stream.key}-1", 0.0, None) for stream in streams]
        await answers.stopped(None)
        return [each is not None for each in found]

    assert asyncio.run(ids()) == [False] * 3 + [True] * AWAY_KEPT


# --- no upstream ---


def test_without_an_upstream_each_answer_is_a_clear_error(serve):
    environ = {"LLM_BASE_URL": "", "ALLOW_MOCK_LLM": "yes"}  # only 1 allows it
    reply = serve(answers="upstream", environ=environ).get("question=x")
    assert reply.types == ["hello", "error"]
    error = error_of(reply)
    assert error["code"] == "no-upstream"
    assert "LLM_BASE_URL" in error["message"]
    assert "ALLOW_MOCK_LLM=1" in error["message"]


def test_a_mock_answers_only_when_it_is_asked_for(serve, model):
    mock = serve(answers="upstream", environ={"LLM_BASE_URL": "", "ALLOW_MOCK_LLM": "1"})
    assert mock.get("question=x&events=3&first_token_ms=0&interval_ms=1").types[-1] == "done"
    real = serve(answers="upstream", environ={**model.environ, "ALLOW_MOCK_LLM": "1"})
    assert real.get("question=whole").text == TEXT


@pytest.mark.parametrize("profile", ["robust", "legacy"])
def test_what_a_drain_does_not_let_end_says_so_and_is_not_handed_over(serve, model, tmp_path, profile):
    handover = tmp_path / "handover.json"
    settings = {"drain": SHORT, "handover": str(handover), "witness_dir": str(tmp_path), "profile": profile}
    server = serve(answers="upstream", environ=model.environ, fresh=True, **settings)
    before = len(model.calls)
    client = server.open("question=slow", {"Sseproof-Stream": "stopped/-/1"})
    client.read_until(b"before")
    server.process.send_signal(signal.SIGTERM)
    reply = client.reply()
    assert reply.text == "before "
    assert error_of(reply) == {
        "message": "The server stopped before the answer was whole: ask again.",
        "code": "server-stopping",
    }
    assert b"retry:" not in reply.body.partition(b"before")[2]
    assert model.call(before).gone.wait(20), "the model is not paid for who can't be told"
    assert "Traceback" not in server.process.communicate(timeout=20)[1]
    assert server.process.returncode == 0
    (row,) = Reading(tmp_path, WITNESS)
    assert (row.end, row.live.last, row.live.said, row.written) == (
        "error",
        None,
        "server-stopping",
        [(1, 2)],
    )
    if profile == "robust":
        again = serve(answers="upstream", environ=model.environ, fresh=True, handover=str(handover))
        later = again.open("question=slow", {"Last-Event-ID": reply.last_seen_id}).reply()
        assert (later.types, error_of(later)["message"]) == (["error"], "unknown Last-Event-ID")


def test_scripted_answers_know_no_upstream(serve, model):
    reply = serve(environ=model.environ).get("question=whole&events=3&first_token_ms=0&interval_ms=1")
    assert reply.text != TEXT


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "The question is empty"),
        ("question=whole&events=5", "'events' describes scripted answers"),
        ("question=whole&script=arabic", "'script' describes scripted answers"),
    ],
)
def test_what_only_a_script_can_do_is_refused(serve, model, query, said):
    reply = serve(answers="upstream", environ=model.environ).get(query)
    assert reply.status == 400
    assert said in json.loads(reply.body)["error"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LLM_BASE_URL": "example.org/v1"}, "LLM_BASE_URL is not the address"),
        ({"LLM_BASE_URL": "ftp://example.org"}, "LLM_BASE_URL is not the address"),
        ({"LLM_BASE_URL": "http://h:99999999"}, "LLM_BASE_URL is not the address"),
        ({"LLM_BASE_URL": "http://h/v1?key=sk-1"}, "LLM_BASE_URL is not the address"),
        ({"LLM_BASE_URL": "http://me:sk-1@h/v1"}, "LLM_API_KEY instead"),
        ({"LLM_BASE_URL": "http://h/v1"}, "LLM_MODEL is not set"),
        ({"LLM_BASE_URL": "http://h/v1", "LLM_MODEL": "m", "LLM_API_KEY": "sk-1\nX: y"}, "LLM_API_KEY can't"),
        ({"LLM_BASE_URL": "http://h/v1", "LLM_MODEL": "m", "LLM_API_KEY": "sk-1é"}, "LLM_API_KEY can't"),
    ],
)
def test_an_upstream_that_can_t_be_asked_is_a_usage_error(environ, said):
    with pytest.raises(UsageError, match=said) as caught:
        upstream_of(environ)
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("base", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"])
def test_the_address_of_the_endpoint(base):
    found = upstream_of({"LLM_BASE_URL": base, "LLM_MODEL": "m", "LLM_API_KEY": "sk-1"})
    assert found is not None
    assert found.url == "http://h:1/v1/chat/completions"
    assert "sk-1" not in repr(found)


@pytest.mark.parametrize(
    ("settings", "environ", "said"),
    [
        ({}, {"LLM_BASE_URL": "nowhere"}, "LLM_BASE_URL"),
        ({"misbehave": "loss"}, {"LLM_BASE_URL": ""}, "Defects are planted in scripted answers only"),
    ],
)
def test_a_server_that_could_not_answer_does_not_start(start_server, settings, environ, said):
    process = start_server(ServerSettings(port=0, answers="upstream", **settings), **environ)
    _, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_USAGE
    assert said in err
    assert "Traceback" not in err


def test_the_key_stays_out_of_the_process_list_and_of_every_page(serve, model):
    server = serve(answers="upstream", environ=model.environ)
    with contextlib.suppress(FileNotFoundError):
        assert KEY.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    for path in ("/witness", "/metrics", "/api/v1/stream/health", "/nowhere"):
        client = server.client().send(path, {"Connection": "close"})
        client.reply()
        assert KEY.encode() not in client.raw
