"""Tokens and secret headers appear in no file and no output of a run, also when the target echoes them."""

import socket
import threading

import pytest

from tests.integration.suite import claims, sseproof

pytestmark = pytest.mark.integration

SECRETS = {
    "header": "hdr-7f3a91c2-secret",
    "env": "env-5b20e8d4-secret",
    "marked": "mrk-19ac77f0-secret",
    "query": "qry-84de03b1-secret",
    "user": "usr-6c95af2e-secret",
    "body": "bdy-e07714c8-secret",
}


def echo(request: bytes) -> bytes:
    """What a careless service does: every other answer repeats the request in an error body."""
    text = b"data: you sent " + request.replace(b"\r\n", b" ") + b"\n\n"
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(text) + text
    )


def refusal(request: bytes) -> bytes:
    return (
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(request)
        + request
    )


def test_planted_secrets_are_found_nowhere(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                    request += connection.recv(65536)
                seen.append(request)
                connection.sendall(refusal(request) if len(seen) % 2 == 0 else echo(request))

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    url = f"http://me:{SECRETS['user']}@127.0.0.1:{port}/s?api_key={SECRETS['query']}&q=plain-question"
    with listener:
        done = sseproof(
            *["run", "--target", url, "--method", "POST", "--streams", "10", "--users", "2"],
            *["--header", f"X-Api-Key: {SECRETS['header']}", "--header", "X-Env: env:PLANTED"],
            *["--header", f"X-Marked: {SECRETS['marked']}", "--set", 'target.secret_headers=["x-marked"]'],
            *["--body", '{"token": "{env:PLANTED_BODY}"}', "--label", "kind=secrets"],
            *claims("success >= 98%"),
            cwd=tmp_path,
            environ={"PLANTED": SECRETS["env"], "PLANTED_BODY": SECRETS["body"]},
        )
    assert len(seen) > 10, done.stderr
    for name, secret in SECRETS.items():
        if name == "user":
            continue  # goes out as Basic credentials
        assert any(secret.encode() in request for request in seen), f"{name} was sent"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "streams.jsonl" for path in files)
    assert b"plain-question" in b"".join(path.read_bytes() for path in files), "the search itself works"
    for name, secret in SECRETS.items():
        assert secret not in done.stdout + done.stderr, name
        for path in files:
            assert secret.encode() not in path.read_bytes(), f"{name} in {path.name}"
