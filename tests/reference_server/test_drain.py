"""The end of a server that drains, over real sockets, and what it leaves to the next one."""

import json
import signal
import time

import pytest

from sseproof.reference_server.settings import ServerSettings
from sseproof.rundir.errors import EXIT_RIG
from sseproof.rundir.files import WITNESS, Reading
from sseproof.rundir.units import Duration

CHAT = "/api/v1/stream/chat"
HEALTH = "/api/v1/stream/health"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
SHORT = "first_token_ms=0&interval_ms=20&events=40&script=ascii"
LONG = "first_token_ms=0&interval_ms=20&events=5000&script=ascii"

pytestmark = pytest.mark.integration


def ms(value):
    return Duration(value * 1_000_000)


def drained(server, number=signal.SIGTERM):
    """Tells the server to drain and waits until it says that it does."""
    server.process.send_signal(number)
    deadline = time.monotonic() + 20
    while server.client().send(HEALTH).reply().status == 200:
        assert time.monotonic() < deadline


def ended(server):
    out, err = server.process.communicate(timeout=30)
    assert out == ""
    return server.process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_the_short_ones_end_and_sends_the_long_ones_home(serve, tmp_path, number):
    server = serve(fresh=True, drain=ms(1_500), witness_dir=str(tmp_path))
    short = server.open(SHORT, {"Sseproof-Stream": "drain/-/1"})
    long = server.open(LONG, {"Sseproof-Stream": "drain/-/2"})
    old = server.open(LONG, {"Sseproof-Stream": "drain/-/3"}, version="1.0")
    for client in (short, long, old):
        client.read_until(b"-3\nevent: delta")
    started = time.monotonic()
    drained(server, number)
    health = server.client().send(HEALTH).reply()
    assert json.loads(health.body) == {"status": "draining", "service": "sse-streaming"}
    refused = server.client().send(f"{CHAT}?{QUICK}").reply()
    assert (health.status, refused.status) == (503, 503)
    unread = server.client().send(CHAT, {"Content-Length": "9"}, method="POST")  # and no body
    assert unread.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    for reply in (health, refused):
        assert 1 <= int(reply.headers["retry-after"]) <= 3
    assert "about to stop" in json.loads(refused.body)["error"]
    whole, home, closed = short.reply(), long.reply(), old.reply()
    assert time.monotonic() - started >= 1.4
    assert (whole.end, whole.types[-1]) == ("whole", "done")
    assert (home.end, closed.end) == ("whole", "close")
    for reply in (home, closed):
        *_, word = reply.body.split(b"\n\n")[:-1]
        assert word.startswith(b"retry: ")
        assert 500 <= int(word.removeprefix(b"retry: ")) < 1_500
        assert reply.numbers == list(range(1, len(reply.numbers) + 1))
    assert ended(server) == (
        0,
        "sseproof reference server: 3 open streams may go on for 1.5s; a second signal ends them at once.\n",
    )
    rows = {row.truth_id: row.end for row in Reading(tmp_path, WITNESS)}
    assert rows == {"drain/-/1": "done", "drain/-/2": "drain", "drain/-/3": "drain"}


def test_a_drain_ends_as_soon_as_nobody_is_there(serve):
    server = serve(fresh=True, drain=ms(60_000))
    server.get(QUICK)
    idle = server.client().send(HEALTH)
    idle.reply()
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == (0, "")
    assert time.monotonic() - started < 20


def test_a_second_signal_ends_a_drain_at_once(serve, tmp_path):
    server = serve(fresh=True, drain=ms(60_000), witness_dir=str(tmp_path))
    client = server.open(LONG, {"Sseproof-Stream": "twice/-/1"})
    client.read_until(b"-3\nevent: delta")
    started = time.monotonic()
    drained(server)
    server.process.send_signal(signal.SIGTERM)
    code, err = ended(server)
    assert time.monotonic() - started < 20
    assert code == 0
    assert "1 open streams" in err
    assert client.reply().end in {"whole", "fin", "rst"}
    assert [row.end for row in Reading(tmp_path, WITNESS)] in (["drain"], ["shutdown"])


def test_a_slow_reader_does_not_hold_up_a_drain(serve):
    server = serve(fresh=True, drain=ms(300), slow_reader=ms(500), write_limit_bytes=16 * 1024)
    slow = server.client(receive_buffer=4096)
    slow.send(f"{CHAT}?script=endless&first_token_ms=0&interval_ms=0", {"Sseproof-Stream": "slow/-/1"})
    slow.read_until(b"-9\nevent: delta")
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert ended(server)[0] == 0
    assert time.monotonic() - started < 20


def test_the_next_server_continues_the_streams_of_a_drained_one(serve, tmp_path):
    """Named and unnamed, of users apart, a topic, and the witness's rows; the timeline went on meanwhile."""
    path = tmp_path / "handover"
    tokens = "ann:ann-token-1,bob:bob-token-1,root:root-token-1:admin"
    settings = {"drain": ms(200), "handover": str(path), "login": True, "tokens": tokens, "replays": 3}
    first = serve(fresh=True, **settings)
    ann, bob, root = ({"Authorization": f"Bearer {each}-token-1"} for each in ("ann", "bob", "root"))
    named = {**ann, "Sseproof-Stream": "handed/-/1"}
    unnamed = first.open(LONG, ann)
    clients = [first.open(LONG, named), first.open(LONG, {**bob, "Sseproof-Stream": "handed/-/1"}), unnamed]
    for client in clients:
        client.read_until(b"-3\nevent: delta")
    topic = first.client().send("/api/v1/stream/feed?topic=x&interval_ms=20", ann)
    topic.read_until(b"-5\nevent: delta")
    first.process.send_signal(signal.SIGTERM)
    replies = [client.reply() for client in clients]
    topic_reply = topic.reply()
    assert ended(first)[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"token-1" not in path.read_bytes()
    second = serve(fresh=True, **settings)
    assert not path.exists(), "one server at a time continues them"
    for headers, reply in zip((named, {**bob, "Sseproof-Stream": "handed/-/1"}, ann), replies, strict=True):
        last = reply.last_seen_id
        number = int(last.rpartition("-")[2])
        again = second.open(LONG, {**headers, "Last-Event-ID": last})
        rest = again.read_until(f"-{number + 10}\nevent: delta".encode()).decode()
        assert f"id: {last.rpartition('-')[0]}-{number + 1}\n" in rest
        assert f"-{number}\n" not in rest
        again.close()
    stolen = second.get(LONG, {**bob, "Last-Event-ID": replies[0].last_seen_id})
    assert stolen.types == ["error"]
    again = second.client().send(
        "/api/v1/stream/feed?topic=x&interval_ms=20", {**ann, "Last-Event-ID": topic_reply.last_seen_id}
    )
    number = int(topic_reply.last_seen_id.rpartition("-")[2])
    again.read_until(f"-{number + 10}\nevent: delta".encode())
    fresh = second.get(QUICK, ann)
    assert fresh.types[0] == "hello"
    assert fresh.last_id.rpartition("-")[0] != replies[2].last_seen_id.rpartition("-")[0]
    reply = second.client().send("/witness?run=handed", {**root, "Connection": "close"}).reply()
    rows = [json.loads(line) for line in reply.body.splitlines()]
    assert sorted((row["connection"], row["end"]) for row in rows if row.get("ended"))[:2] == [
        (1, "drain"),
        (1, "drain"),
    ]
    assert {row["connection"] for row in rows} == {1, 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "can't be read"),
        ('{"version":1}', "can't be read"),
        (
            '{"version":1,"seed":7,"unnamed":[0,0],"streams":[],"topics":[],"rows":[],"dropped":{}}',
            "another seed",
        ),
    ],
)
def test_a_handover_that_is_none_is_named_and_stays(start_server, tmp_path, content, words):
    path = tmp_path / "handover"
    path.write_text(content)
    process = start_server(ServerSettings(port=0, handover=str(path)))
    _, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_RIG
    assert words in err
    assert "remove it" in err
    assert path.exists()


def test_a_taken_port_leaves_the_handover_to_the_next(serve, start_server, tmp_path):
    path = tmp_path / "handover"
    first = serve(fresh=True, handover=str(path))
    assert first.stop() == (0, "", "")
    assert path.exists()
    other = serve()
    process = start_server(ServerSettings(port=other.port, handover=str(path)))
    process.communicate(timeout=20)
    assert process.returncode == EXIT_RIG
    assert path.exists()


def test_a_handover_without_a_folder_is_refused_before_a_stream_begins(start_server, tmp_path):
    process = start_server(ServerSettings(port=0, handover=str(tmp_path / "none" / "handover")))
    _, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_RIG
    assert err.endswith(f"can't be written: {tmp_path / 'none'} is no folder.\n")


def test_a_handover_that_can_not_be_written_is_a_rig_error(serve, tmp_path):
    folder = tmp_path / "none"
    folder.mkdir()
    server = serve(fresh=True, handover=str(folder / "handover"))
    folder.rmdir()
    code, _, err = server.stop()
    assert code == EXIT_RIG
    assert "can't be written" in err
