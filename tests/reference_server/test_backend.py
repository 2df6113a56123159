"""The rules of a product's backend over real sockets: who may come in, how much he may ask for, how long it lasts."""

import json
import time
from pathlib import Path

import pytest

from sseproof.reference_server.settings import ServerSettings
from sseproof.rundir.errors import EXIT_USAGE
from sseproof.rundir.units import Duration

CHAT = "/api/v1/stream/chat"
ADMIN = "/admin/api/chat/stream"
FEED = "/api/v1/stream/feed"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
PACED = "first_token_ms=0&interval_ms=20&events=500&script=ascii"
ENDLESS = "script=endless&first_token_ms=0&interval_ms=5"
ANN, BOB, ROOT, OLD = "ann-token-1", "bob-token-1", "root-token-1", "old-token-1"
TOKENS = f"ann:{ANN},bob:{BOB},root:{ROOT}:admin,old:{OLD}::2026-01-01"

pytestmark = pytest.mark.integration


def ms(value):
    return Duration(value * 1_000_000)


def bearer(token, **more):
    return {"Authorization": f"Bearer {token}", **more}


def problem(reply):
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.end == "whole"
    return json.loads(reply.body)["error"]


@pytest.fixture
def backend(serve):
    return serve(login=True, tokens=TOKENS)


# Who may come in


@pytest.mark.parametrize("path", [CHAT, ADMIN, f"{FEED}?topic=x", "/witness"])
@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, ""),
        (bearer("wrong-token-1"), ', error="invalid_token"'),
        (bearer(ANN[:-1]), ', error="invalid_token"'),
        (bearer(OLD), ', error="invalid_token"'),
        ({"Authorization": "Basic YW5uOmFubg=="}, ', error="invalid_request"'),
        ({"Authorization": b"Bearer \xff\xfe"}, ', error="invalid_request"'),
    ],
)
def test_nobody_without_a_token_comes_in(backend, path, headers, error):
    reply = backend.client().send(path, headers).reply()
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == f'Bearer realm="sse-streaming"{error}'
    assert not {ANN, OLD, "wrong-token-1"} & set(problem(reply).split())


def test_guesses_are_bounded_told_and_counted_and_users_come_in_meanwhile(serve):
    server = serve(login=True, tokens=TOKENS, failed_logins_per_minute=1)
    assert server.get(QUICK, bearer(ANN)).status == 200
    for path in (CHAT, "/witness"):  # the second does not help the first
        reply = server.client().send(path, bearer("wrong-token-1")).reply()
    assert (reply.status, problem(reply)) == (
        429,
        "Too many failed logins from this address: 1 a minute are allowed, 1 of them at once.",
    )
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert "www-authenticate" not in reply.headers
    assert server.get(QUICK, bearer(BOB)).status == 429, "a right token is not told from a wrong one"
    assert server.get(QUICK, bearer(ANN)).types[-1] == "done"
    assert server.get(QUICK).status == 401
    figures = server.client().send("/metrics", {"Connection": "close"}).reply().body.decode()
    for endpoint, reason in (
        (CHAT, "unknown-token"),
        ("/witness", "too-many-logins"),
        (CHAT, "too-many-logins"),
    ):
        assert f'sse_server_errors_total{{endpoint="{endpoint}",reason="{reason}"}} 1.0' in figures


def test_health_needs_no_login(backend):
    assert backend.client().send("/api/v1/stream/health").reply().status == 200


def test_the_body_of_somebody_unknown_is_not_waited_for(backend):
    """The head alone decides: 10 MB are announced and none of them is sent."""
    client = backend.client().send(CHAT, {"Content-Length": "10000000"}, method="POST")
    assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_users_and_admins(backend):
    assert backend.get(QUICK, bearer(ANN)).types[-1] == "done"
    refused = backend.client().send(f"{ADMIN}?{QUICK}", bearer(ANN)).reply()
    assert (refused.status, problem(refused)) == (403, "This path is for admins.")
    reply = backend.client().send(f"{ADMIN}?{QUICK}", bearer(ROOT)).reply()
    assert reply.types[-1] == "done"
    assert json.loads(reply.events[0]["data"])["open_streams"] == 0
    ordinary = backend.get(QUICK, bearer(ROOT))
    assert set(json.loads(ordinary.events[0]["data"])) == {"service", "stream"}


def test_a_stream_belongs_to_its_user(backend):
    """Whatever the other says, named as the owner or not, he hears what he would of an id that never was."""
    named = {"Sseproof-Stream": "owned/-/1"}
    whole = backend.get(QUICK, bearer(ANN, **named))
    key = whole.last_id.rpartition("-")[0]
    for place in (f"{key}-3", f"{key}-22"):
        for headers in (bearer(BOB, **named), bearer(BOB), bearer(ROOT, **named)):
            reply = backend.get(QUICK, {**headers, "Last-Event-ID": place})
            never = backend.get(QUICK, {**headers, "Last-Event-ID": "0123456789ab-3"})
            assert reply.types == ["error"]
            assert reply.body.replace(place.encode(), b"") == never.body.replace(b"0123456789ab-3", b"")
    assert backend.get(QUICK, bearer(ANN, **named, **{"Last-Event-ID": f"{key}-3"})).numbers[0] == 4
    same_name = backend.get(QUICK, bearer(BOB, **named))
    assert same_name.last_id != whole.last_id, "a stream of his own under the same name"


def test_the_witness_tells_each_user_of_his_own_streams(backend):
    for number, token in enumerate((ANN, BOB)):
        backend.get(QUICK, bearer(token, **{"Sseproof-Stream": f"told/-/{number}"}))
    seen = {}
    for token in (ANN, BOB, ROOT):
        reply = backend.client().send("/witness?run=told", bearer(token, Connection="close")).reply()
        seen[token] = {json.loads(line)["truth_id"] for line in reply.body.splitlines()}
        assert not any(each in reply.body.decode() for each in (ANN, BOB, ROOT, "Bearer"))
    assert len(seen[ANN]) == len(seen[BOB]) == 1
    assert not seen[ANN] & seen[BOB]
    assert seen[ROOT] == seen[ANN] | seen[BOB]


@pytest.mark.parametrize(
    ("tokens", "settings", "words"),
    [
        ("", {}, "A login needs tokens: set SSEPROOF_TOKENS=user:token"),
        ("ann", {}, "SSEPROOF_TOKENS: the 1. token has to be written"),
        ("", {"tokens_file": "/nonexistent/tokens"}, "can't be read: No such file"),
    ],
)
def test_a_login_without_tokens_is_bad_usage(start_server, tokens, settings, words):
    process = start_server(ServerSettings(port=0, login=True, **settings), SSEPROOF_TOKENS=tokens)
    _, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_USAGE
    assert words in err
    assert err.count("\n") == 1


def test_tokens_of_a_file(serve, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who\nann:{ANN}\n")
    path.chmod(0o600)
    server = serve(login=True, tokens_file=str(path), tokens=f"bob:{BOB}")
    assert server.get(QUICK, bearer(ANN)).status == 200
    assert server.get(QUICK, bearer(BOB)).status == 401, "the file wins"


@pytest.mark.parametrize(("mode", "serves"), [(0o640, True), (0o604, True), (0o606, False)])
def test_a_file_of_tokens_that_others_may_touch(start_server, tmp_path, mode, serves):
    path = tmp_path / "tokens"
    path.write_text(f"ann:{ANN}\n")
    path.chmod(mode)
    process = start_server(ServerSettings(port=0, login=True, tokens_file=str(path)))
    assert process.stdout.readline().startswith("sseproof reference server") is serves
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert f"chmod 600 {path}" in err
    assert ("others may read" in err) is serves
    assert (process.returncode == 0) is serves
    assert ANN not in err


def test_no_token_in_the_list_of_processes(backend):
    command = Path(f"/proc/{backend.process.pid}/cmdline").read_bytes()
    assert b"reference_server" in command
    assert not [token for token in (ANN, BOB, ROOT, OLD) if token.encode() in command]


# How much


def test_too_many_requests_and_when_to_come_again(serve):
    server = serve(login=True, rate_per_minute=60, rate_burst=3, tokens=TOKENS)
    whole = server.get(QUICK, bearer(ANN))
    key = whole.last_id.rpartition("-")[0]
    for _ in range(10):  # to continue one's own stream is free
        assert server.get(QUICK, bearer(ANN, **{"Last-Event-ID": f"{key}-20"})).numbers == [21, 22]
    began = time.monotonic()
    replies = [server.get(QUICK, bearer(ANN)) for _ in range(20)]
    took_s = time.monotonic() - began
    refused = [reply for reply in replies if reply.status == 429]
    assert replies[0].status == 200
    assert len(refused) >= 17 - took_s, "3 at once at most, and one a second"
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}
    assert problem(refused[0]) == "Too many requests: 60 a minute are allowed, 3 of them at once."
    assert server.get(QUICK, bearer(BOB)).status == 200, "each user has his own"
    deadline = time.monotonic() + 20
    while server.get(QUICK, bearer(ANN)).status == 429:
        assert time.monotonic() < deadline


def test_an_id_that_is_not_ones_own_is_not_free(serve):
    server = serve(login=True, rate_per_minute=1, rate_burst=2, tokens=TOKENS)
    key = server.get(QUICK, bearer(ANN)).last_id.rpartition("-")[0]
    guesses = [server.get(QUICK, bearer(BOB, **{"Last-Event-ID": f"{key}-3"})).status for _ in range(5)]
    assert guesses == [200, 200, 429, 429, 429]


def test_what_can_not_be_read_is_not_free_because_it_names_a_stream(serve):
    server = serve(login=True, rate_per_minute=1, rate_burst=3, tokens=TOKENS)
    last_id = server.get(QUICK, bearer(ANN)).last_id
    headers = bearer(ANN, **{"Last-Event-ID": last_id})
    bad = [server.get(headers=headers, method="POST", body=b"{").status for _ in range(4)]
    assert bad == [400, 400, 429, 429]
    assert server.get(QUICK, headers).status == 204


def test_open_streams_of_one_user(serve):
    server = serve(login=True, streams_per_user=2, tokens=TOKENS)
    first, second = (server.open(ENDLESS, bearer(ANN)) for _ in range(2))
    for client in (first, second):
        client.read_until(b"-3\nevent: delta")
    refused = server.get(QUICK, bearer(ANN))
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "2 streams are allowed" in problem(refused)
    assert server.get(QUICK, bearer(BOB)).status == 200
    key = first.raw.decode().split("id: ")[1].split("-")[0]
    again = server.open(ENDLESS, bearer(ANN, **{"Last-Event-ID": f"{key}-2"}))
    again.read_until(b"-9\nevent: delta")
    for client in (first, second, again):
        client.close()
    deadline = time.monotonic() + 20
    while server.get(QUICK, bearer(ANN)).status == 429:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("path", [f"{CHAT}?{ENDLESS}", f"{FEED}?topic=x&interval_ms=5"])
def test_one_stream_begun_again_and_again_is_as_many_open_ones(serve, path):
    server = serve(login=True, streams_per_user=2, tokens=TOKENS)
    named = bearer(ANN, **{"Sseproof-Stream": "again/-/1"})
    clients = [server.client().send(path, named) for _ in range(2)]
    for client in clients:
        client.read_until(b"event: delta")
    last_id = clients[0].raw.decode().split("id: ")[-1].split("\n")[0]
    more = {} if path.startswith(CHAT) else {"Last-Event-ID": last_id}  # a topic belongs to nobody
    for headers in (named, {**named, **more}):
        refused = server.client().send(path, headers)
        assert refused.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 429 ")
    for client in clients:
        client.close()
    deadline = time.monotonic() + 20
    while server.get(QUICK, bearer(ANN)).status == 429:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_long_question(serve, method):
    server = serve(question_limit_chars=10)
    for question, status in (("ش" * 10, 200), ("ش" * 11, 413)):
        asked = {"question": question, "events": 1, "first_token_ms": 0, "interval_ms": 0}
        body = json.dumps(asked).encode() if method == "POST" else None
        query = "" if body else f"question={'%D8%B4' * len(question)}&events=1&first_token_ms=0"
        reply = server.get(query, method=method, body=body)
        assert reply.status == status
    assert problem(reply) == "The question has 11 characters, and 10 are the most."


# How long


def test_a_connection_over_the_total_limit_goes_on_in_the_next(serve):
    server = serve(total_limit=ms(300))
    numbers, last, connections = [], None, 0
    while not numbers or last is not None:
        connections += 1
        headers = {"Sseproof-Stream": "total/-/1"} | ({"Last-Event-ID": last} if last else {})
        reply = server.get("first_token_ms=0&interval_ms=20&events=40&script=ascii", headers)
        assert reply.end == "whole"
        numbers += [int(e["id"].rpartition("-")[2]) for e in reply.events if "id" in e]
        last = None if "done" in reply.types else reply.last_seen_id
        if last is not None:
            assert reply.body.endswith(b"\n\nretry: 300\n\n")
    assert numbers == list(range(1, 43))
    assert connections >= 2
    ends = [row.end for row in server.ended_rows("total", connections)]
    assert ends == ["total-limit"] * (connections - 1) + ["done"]


def test_a_reader_that_lags_over_the_total_limit_hears_the_end(serve):
    """The limit comes while the server waits for him: what was written before it still arrives, and then the word."""
    server = serve(total_limit=ms(500), write_limit_bytes=16 * 1024, slow_reader=ms(60_000))
    lagging = server.client(receive_buffer=4096)
    lagging.send(f"{CHAT}?{QUICK.replace('=20', '=9999')}&script=long", {"Sseproof-Stream": "lags/-/1"})
    lagging.read_until(b"-2\nevent: delta")
    time.sleep(1)  # what is awaited is that the server's limit passes while nobody reads
    assert server.rows("lags")[0].written[-1][1] < 9_999
    reply = lagging.reply()
    assert reply.end == "whole"
    assert reply.body.endswith(b"\n\nretry: 300\n\n")
    assert reply.numbers == list(range(1, len(reply.numbers) + 1))
    assert [row.end for row in server.ended_rows("lags", 1)] == ["total-limit"]


def test_an_idle_stream_ends_with_an_error(serve):
    server = serve(idle_limit=ms(1_000), heartbeat=ms(50))
    reply = server.stream("idle/-/1", "first_token_ms=0&interval_ms=30000&events=5")
    assert reply.end == "whole"
    assert reply.types[-1] == "error"
    assert 1 <= reply.types.count("ping") <= 20, "heartbeats are no events"
    assert json.loads(reply.events[-1]["data"]) == {
        "message": "nothing to send for too long",
        "limit": "1s",
    }
    assert [row.end for row in server.ended_rows("idle", 1)] == ["idle-limit"]


def test_a_stream_can_be_continued_for_a_time(serve):
    server = serve(replay_window=ms(400))
    key = server.stream("window/-/1", QUICK).last_id.rpartition("-")[0]
    began, pause_s = time.monotonic(), 0.0
    assert server.stream("window/-/1", QUICK, f"{key}-20").numbers == [21, 22]
    deadline = began + 20
    while True:
        before, began = began, time.monotonic()
        reply = server.stream("window/-/1", QUICK, f"{key}-20")
        if reply.types == ["error"]:
            break
        pause_s += 0.1
        time.sleep(pause_s)  # what is awaited is that nobody asks for so long
        assert time.monotonic() < deadline
    assert time.monotonic() - before >= 0.4, "since the last that was continued had not ended yet"
    assert json.loads(reply.events[0]["data"])["message"] == "unknown Last-Event-ID"
    assert server.stream("window/-/1", QUICK).numbers[0] == 1, "from its begin it is there"


def test_a_stream_can_be_continued_a_number_of_times(serve):
    server = serve(replays=2)
    key = server.stream("times/-/1", QUICK).last_id.rpartition("-")[0]
    types = [server.stream("times/-/1", QUICK, f"{key}-21").types for _ in range(4)]
    assert types == [["done"], ["done"], ["error"], ["error"]]
    assert [row.end for row in server.rows("times")] == ["done"] * 3 + ["unknown-id"] * 2


def test_a_body_that_trickles(serve):
    server = serve(request_limit=ms(400))
    client = server.client().send(CHAT, {"Content-Length": "100"}, method="POST")
    client.socket.sendall(b'{"ques')
    reply = client.reply()
    assert (reply.status, problem(reply)) == (408, "The body did not come within 400ms.")
    assert reply.headers["connection"] == "close"
    assert client.socket.recv(1) == b""


def test_a_head_that_trickles_and_a_peer_that_says_nothing(serve):
    server = serve(request_limit=ms(400))
    silent, trickling = server.client(), server.client()
    stream = server.open(f"{PACED}", {"Sseproof-Stream": "apart/-/1"})
    trickling.socket.sendall(f"GET {CHAT} HTTP/1.1\r\nHost: x\r\n".encode())
    for client in (silent, trickling):
        raw = b""
        while data := client.socket.recv(65536):
            raw += data
        assert raw.startswith(b"HTTP/1.1 408 ")
    stream.read_until(b"-60\nevent: delta")  # longer than the limit, which is not for those that are served
    idle = server.client().send("/api/v1/stream/health")
    assert idle.reply().status == 200
    assert idle.socket.recv(1) == b"", "and no 408 for somebody who had his answer"
