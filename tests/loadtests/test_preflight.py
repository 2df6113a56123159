"""The look at the target before a run: what it finds out, and one sentence for each way it can fail."""

import socket
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
import trustme

from sseproof.loadtests import preflight
from sseproof.loadtests.dialects import dialect_of
from sseproof.loadtests.preflight import look, own_server
from sseproof.loadtests.settings import PreflightRequest, Target, Timeouts, adopted
from sseproof.rundir.rows import PreflightResult
from sseproof.rundir.units import encode_hook
from tests.loadtests.rawserver import (
    CHUNKED_HEAD,
    CLOSE_HEAD,
    LAST_CHUNK,
    Connection,
    chunk,
    event,
    serving,
)
from tests.loadtests.streaming import timeouts

pytestmark = pytest.mark.integration


def looked(url: str, *, limits: Timeouts | None = None, **target: object) -> PreflightResult:
    return look(PreflightRequest(target=Target(url=url, **target), timeouts=limits or Timeouts()), {})


def answering(content: bytes) -> object:
    def script(connection: Connection) -> None:
        connection.send(content)
        connection.close()

    return script


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LOOK_S", 0.3)
    monkeypatch.setattr(preflight, "AGAIN_AFTER_S", 0.01)


def test_an_answer_and_its_dialect() -> None:
    body = b"".join(event(f'{{"text":"{number}"}}', number=number) for number in range(1, 5))
    body += event("{}", type_="done", number=5)
    with serving(answering(CHUNKED_HEAD + chunk(body) + LAST_CHUNK)) as server:
        seen = looked(server.url)
        assert len(server.connections) == 1
    assert (seen.ok, seen.problem, seen.status, seen.content_type) == (True, "", 200, "text/event-stream")
    assert (seen.kind, seen.terminal, seen.sequence, seen.text) == ("answer", "event:done", "id", "json:text")
    assert (seen.events, seen.addresses, seen.dialect) == (5, ["127.0.0.1"], "plain")
    assert seen.connect_ns is not None
    assert seen.ttft_ns is not None
    assert seen.length_ns is not None
    assert seen.witness_path is None
    assert "ended by itself" in seen.sentence


def test_a_stream_still_open_is_taken_for_a_subscription_and_it_says_so() -> None:
    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD + chunk(event("a")))
        connection.until_gone()

    with serving(script) as server:
        seen = looked(server.url)
    assert (seen.ok, seen.kind, seen.length_ns, seen.events) == (True, "subscription", None, 1)
    assert "still open" in seen.sentence
    assert "subscription" in seen.sentence


def test_a_stream_that_was_cut_is_good_enough() -> None:
    with serving(answering(CHUNKED_HEAD + chunk(event("a")))) as server:
        seen = looked(server.url)
    assert (seen.ok, seen.kind) == (True, "answer")


@pytest.mark.parametrize(
    ("profile", "said", "kind", "sequence"),
    [
        ("robust", "answer", "answer", "id"),
        ("legacy", "answer", "answer", "none"),
        ("robust", "subscription", "subscription", "id"),
    ],
)
def test_our_own_server(profile: str, said: str, kind: str, sequence: str) -> None:
    """It says what it is; a stream that was still open after the look may be a long answer."""

    def script(connection: Connection) -> None:
        own = f"Sseproof-Server: reference; profile={profile}; witness=/witness; kind={said}\r\n"
        connection.send(CHUNKED_HEAD[:-2] + own.encode() + b"\r\n" + chunk(event('{"text":"a"}')))
        connection.until_gone()

    with serving(script) as server:
        seen = looked(server.url)
    assert (seen.ok, seen.witness_path, seen.profile) == (True, "/witness", profile)
    assert (seen.kind, seen.terminal, seen.sequence, seen.text) == (kind, "event:done", sequence, "json:text")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nginx",
        "reference",
        "other; witness=/w",
        "reference; witness=http://x/",
        "reference; witness=/w x",
        "reference; witness=/w\x9b31m",
        f"reference; witness=/{'w' * 200}",
        "reference; witness=/w; profile=evil",
    ],
)
def test_other_servers_headers_say_nothing(header: str) -> None:
    assert own_server(header) is None


FAILURES = {
    "status": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno such", "HTTP 404: no such"),
    "content-type": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<ht>",
        "is not SSE",
    ),
    "no-content": (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP 204"),
    "protocol": (b"+OK POP3 ready\r\n", "protocol"),
}


@pytest.mark.parametrize("problem", FAILURES)
def test_answers_that_are_no_stream(problem: str) -> None:
    content, words = FAILURES[problem]
    with serving(answering(content)) as server:
        seen = looked(server.url + "?key=hidden")
        assert len(server.connections) == 1
    assert (seen.ok, seen.problem) == (False, problem)
    assert words in seen.sentence
    assert server.url in seen.sentence
    assert "hidden" not in seen.sentence
    assert seen.sentence.endswith(".")
    assert "\n" not in seen.sentence


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    seen = looked(f"http://127.0.0.1:{port}/x")
    assert (seen.ok, seen.problem) == (False, "refused")
    assert f"127.0.0.1:{port} refused the connection" in seen.sentence


def test_no_such_name() -> None:
    seen = looked("http://nowhere.invalid/x")
    assert (seen.ok, seen.problem, seen.addresses) == (False, "dns", [])
    assert "nowhere.invalid" in seen.sentence


def test_no_answer_in_time() -> None:
    def script(connection: Connection) -> None:
        connection.until_gone()

    with serving(script) as server:
        seen = looked(server.url, limits=timeouts(headers=60))
    assert (seen.ok, seen.problem) == (False, "headers-timeout")


def test_certificate_that_is_not_accepted() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving(answering(CLOSE_HEAD), tls=context) as server:
        seen = looked(server.url)
    assert (seen.ok, seen.problem) == (False, "tls")
    assert "certificate" in seen.sentence
    assert "ca = " in seen.sentence


def test_authority_file_that_is_not_there() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving(answering(CLOSE_HEAD), tls=context) as server:
        seen = looked(server.url, ca="/nowhere.pem")
    assert not seen.ok
    assert "/nowhere.pem" in seen.sentence


def test_what_passes_by_itself_is_tried_again() -> None:
    def script(connection: Connection) -> None:
        if connection.number < 3:
            connection.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        else:
            connection.send(CLOSE_HEAD + event("a"))
        connection.close()

    with serving(script) as server:
        assert looked(server.url).ok
        assert len(server.connections) == 3


def test_it_does_not_try_for_ever() -> None:
    with serving(answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as server:
        seen = looked(server.url)
        assert len(server.connections) == preflight.ATTEMPTS
    assert (seen.ok, seen.problem, seen.status) == (False, "status", 503)


def test_bad_input_is_a_sentence_without_a_request() -> None:
    assert "ftp" in looked("ftp://127.0.0.1/").sentence
    seen = looked("http://127.0.0.1:1/", headers={"X": "env:MISSING"})
    assert not seen.ok
    assert "MISSING" in seen.sentence


def test_secrets_are_masked() -> None:
    def script(connection: Connection) -> None:
        said = f"bad {connection.header('authorization')}".encode()
        connection.send(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
        connection.close()

    with serving(script) as server:
        request = PreflightRequest(
            target=Target(url=server.url, headers={"Authorization": "Bearer {env:KEY}"}), timeouts=Timeouts()
        )
        seen = look(request, {"KEY": "sk-12345678"})
    assert not seen.ok
    assert "sk-12345678" not in seen.sentence
    assert "401" in seen.sentence


def test_as_a_process_of_its_own() -> None:
    with serving(answering(CLOSE_HEAD + event("a"))) as server:
        request = PreflightRequest(target=Target(url=server.url), timeouts=Timeouts())
        done = _process(msgspec.json.encode(request, enc_hook=encode_hook))
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout, type=PreflightResult).ok
    broken = _process(b"{")
    assert (broken.returncode, broken.stdout) == (64, b"")
    assert broken.stderr.count(b"\n") == 1


def _process(content: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "sseproof.loadtests.preflight"],
        input=content,
        capture_output=True,
        timeout=60,
        check=False,
    )


# Dialects.


def stream_named(name: str) -> bytes:
    table = Path(__file__).parents[1] / "data" / "dialects" / "streams.toml"
    cases = tomllib.loads(table.read_text("utf-8"))["stream"]
    return next(case["body"] for case in cases if case["name"].startswith(name)).encode()


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("chat: text", "openai"),
        ("responses: text", "openai-responses"),
        ("messages: thinking", "anthropic"),
        ("gemini: a thought", "gemini"),
        ("mcp: a result", "mcp"),
    ],
)
def test_the_dialect_is_recognised(name: str, dialect: str) -> None:
    with serving(answering(CHUNKED_HEAD + chunk(stream_named(name)) + LAST_CHUNK)) as server:
        seen = looked(server.url, method="POST", body="{}")
        described = looked(server.url, method="POST", body="{}", terminal="data:x")
        told = looked(server.url, method="POST", body="{}", dialect="plain")
    assert (seen.ok, seen.dialect, seen.kind) == (True, dialect, "answer")
    assert (seen.terminal, seen.sequence, seen.text) == (None, None, None)
    assert seen.service
    assert (described.text is not None) == (dialect in {"openai", "openai-responses"})
    assert described.dialect == "plain"  # whoever describes the events is believed
    assert adopted(Target(url="x"), seen).dialect == dialect
    assert adopted(Target(url="x", dialect="plain"), told).dialect == "plain"
    dialect_of(adopted(Target(url="x", terminal="data:x"), described))
    dialect_of(adopted(Target(url="x", dialect="plain"), told))


def test_a_stream_that_an_mcp_client_only_listens_to_is_a_subscription() -> None:
    content = stream_named("mcp 2024-11-05")
    with serving(answering(CHUNKED_HEAD + chunk(content) + LAST_CHUNK)) as server:
        seen = looked(server.url)
    assert (seen.dialect, seen.kind) == ("mcp", "subscription")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 16\r\n\r\n{"a":1}\n{"a":2}\n',
            "NDJSON",
        ),
        (
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n[{"candidates":[]}',
            "alt=sse",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "WebSocket",
        ),
    ],
)
def test_lookalikes_are_named(content: bytes, words: str) -> None:
    with serving(answering(content)) as server:
        seen = looked(server.url)
    assert not seen.ok
    assert words in seen.sentence
