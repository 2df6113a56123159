"""What strangers try on the server with a backend's rules: it answers them, or closes, and serves the others meanwhile."""

import contextlib
import json
import resource
import socket
import time
import zlib
from pathlib import Path

import pytest

from sseproof.loadtests.sse import Message, Parser
from sseproof.rundir.units import Duration

CHAT = "/api/v1/stream/chat"
HEALTH = "/api/v1/stream/health"
QUICK = "first_token_ms=0&interval_ms=1&events=20"
TOKENS = "ann:ann-token-1,bob:bob-token-1"
ANN = {"Authorization": "Bearer ann-token-1"}
AUTH = b"Authorization: Bearer ann-token-1\r\n"
POST = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode() + AUTH
HALF_OPEN = 3_000
TEN_MB = 10_000_000

pytestmark = pytest.mark.integration


@pytest.fixture
def server(serve):
    return serve(
        login=True,
        tokens=TOKENS,
        streams_per_user=1_000,
        request_limit=Duration(30_000_000_000),
        replays=1_000,
    )


def memory_bytes(server):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def well(server):
    """Others are served, right after."""
    assert server.client().send(HEALTH).reply().status == 200
    assert server.get(QUICK, ANN).types[-1] == "done"


INJECTED = 'why?\r\n\r\nid: 99\r\nevent: done\r\ndata: {"text":"pwned"}\n\n\0id: 1\u2028data: x'


def test_a_question_with_the_frame_of_an_event_in_it(server):
    """As JSON and in the address: the answer's events are those of any other question, in its own words."""
    asked = {"question": INJECTED, "events": 20, "first_token_ms": 0, "interval_ms": 0}
    quoted = "".join(f"%{byte:02x}" for byte in INJECTED.encode())
    for reply in (
        server.get(headers=ANN, method="POST", body=json.dumps(asked).encode()),
        server.get(f"{QUICK}&question={quoted}", ANN),
    ):
        events = [event for event in Parser().receive(reply.body) if isinstance(event, Message)]
        assert [event.type for event in events] == ["hello", *["delta"] * 20, "done"]
        key = events[0].last_event_id.rpartition("-")[0]
        assert [event.last_event_id for event in events] == [f"{key}-{n}" for n in range(1, 23)]
        assert b"pwned" not in reply.body


def test_a_question_of_10_mb_is_refused_and_not_kept(server):
    before = memory_bytes(server)
    announced = server.client().send(
        CHAT, {**ANN, "Content-Length": str(TEN_MB)}, method="POST"
    )  # and nothing of it is sent
    assert announced.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    for chunked in (False, True):
        client = server.client()
        size = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(TEN_MB)}
        client.send(CHAT, {**ANN, **size}, method="POST")
        piece = b"x" * 50_000
        with contextlib.suppress(ConnectionError):  # it may be closed before all of it is sent
            for _ in range(TEN_MB // len(piece)):
                client.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        with contextlib.suppress(ConnectionError):
            assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    line = server.client()
    with contextlib.suppress(ConnectionError):
        line.socket.sendall(f"GET {CHAT}?question=".encode() + b"x" * TEN_MB + b" HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert line.read_until(b"\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    assert memory_bytes(server) - before < TEN_MB
    well(server)


def test_thousands_of_half_open_connections(server):
    """Some say nothing, some half a head, some a head and half a body; others are served, and then all are ended."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > HALF_OPEN + 500, "the machine gives too few descriptors for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, HALF_OPEN + 500), hard))
    halves = (
        b"",
        f"GET {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bea".encode(),
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann-token-1\r\nContent-Length: 99\r\n\r\n{{".encode(),
    )
    with contextlib.ExitStack() as opened:
        peers = []
        for number in range(HALF_OPEN):
            peer = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            peer.sendall(halves[number % len(halves)])
            peers.append(peer)
        well(server)
        stream = server.open("script=endless&first_token_ms=0&interval_ms=50", ANN)
        stream.read_until(b"-20\nevent: delta")
        stream.close()
    deadline = time.monotonic() + 30
    while len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) > 200:
        assert time.monotonic() < deadline, "their descriptors stay taken"
        time.sleep(0.1)
    well(server)


def test_half_open_connections_are_ended_by_the_server(serve):
    server = serve(request_limit=Duration(500_000_000))
    with contextlib.ExitStack() as opened:
        peers = []
        for number in range(300):
            peer = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            if number % 2:  # at once: to send to who has given up already is answered by a reset
                peer.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            peers.append(peer)
        for peer in peers:
            said = b""
            while data := peer.recv(4096):
                said += data
            assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n",
        b"\x00\xff\xfe\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/v1/stream/chat%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /x%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/v1/stream/chat HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Bad Name: y\r\n\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann-token-1\x00\r\n\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\n" + AUTH + b"Host: x\r\nLast-Event-ID: a\rid: 1\r\n\r\n",
        b"GET " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\n" + AUTH + AUTH + b"\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        POST + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
        POST + b"Content-Length: 9\r\n\r\n[" + b"[" * 8,
        POST + b"Content-Length: 60000\r\n\r\n" + b'{"a":' * 12_000,
        b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_nonsense_is_refused_and_told_nothing(server, raw):
    client = server.client()
    client.socket.sendall(raw)
    client.socket.shutdown(socket.SHUT_WR)
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := client.socket.recv(65536):
            said += data
    assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/9.9 4", b"HTTP/2.0 4")), said[
        :200
    ]
    assert b"\r\nSet-Cookie" not in said
    for secret in (b"Traceback", b"root:", b"ann-token-1", str(Path.cwd()).encode()):
        assert secret not in said
    well(server)


def test_a_body_that_swells_is_refused(server):
    """64 MiB of zeros in 64 KiB: what comes out counts, and no more of it is made."""
    packer = zlib.compressobj(9, wbits=31)
    swelling = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    before = memory_bytes(server)
    head = {**ANN, "Content-Encoding": "gzip"}
    for body in (swelling[:60_000], swelling):
        reply = server.client().send(CHAT, head, method="POST", body=body).reply()
        assert reply.status in {400, 413}
    assert memory_bytes(server) - before < TEN_MB
    well(server)


def test_nothing_of_a_malformed_request_is_logged_or_sent_back(serve):
    server = serve(fresh=True, login=True, tokens=TOKENS)
    for raw in (AUTH + b"Bad Name: y", b"Authorization: Bearer ann-token-1\x00", b"X: " + b"y" * 20_000):
        client = server.client()
        client.socket.sendall(b"GET / HTTP/1.1\r\n" + raw + b"\r\n\r\n")
        assert client.read_until(b'HTTP."}').startswith(b"HTTP/1.0 400 ")
        assert client.raw.endswith(b'\r\n\r\n{"error":"The request is not well-formed HTTP."}')
    assert server.stop() == (0, "", "")


def test_no_answer_leaks_to_another_user(server):
    """Every id that Ann has seen, asked for by Bob in every way, gives him not one byte of an answer."""
    named = {"Sseproof-Stream": "secret/-/1"}
    whole = server.get(QUICK, {**ANN, **named})
    bob = {"Authorization": "Bearer bob-token-1"}
    for event in whole.events:
        for headers, query in (
            ({**bob, **named}, QUICK),
            (bob, QUICK),
            (bob, ""),
            (bob, f"{QUICK}&stream=secret/-/1"),
        ):
            reply = server.get(query, {**headers, "Last-Event-ID": event["id"]})
            assert reply.types == ["error"]
            assert reply.end == "whole"
    for row in server.client().send("/witness", {**bob, "Connection": "close"}).reply().body.splitlines():
        assert json.loads(row)["end"] == "unknown-id" or json.loads(row)["run"] != "secret"
