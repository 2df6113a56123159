"""Tokens and secret headers appear in no file and no output of a run, also when the target echoes them."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sseproof.rundir.files import STREAMS
from tests.integration.suite import claims, directory_of, rows, sseproof

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


@pytest.fixture
def careless() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a service that repeats requests, every other time in a refusal; and what it was asked."""
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
    with listener:
        yield listener.getsockname()[1], seen


def found_nowhere(secrets: dict[str, str], folder: Path, *outputs: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"streams.jsonl", "run.log", "report.html", "verdict.json"} <= {path.name for path in files}
    assert b"plain-question" in b"".join(path.read_bytes() for path in files), "the search itself works"
    for name, secret in secrets.items():
        for output in outputs:
            assert secret not in output, name
        for path in files:
            assert secret.encode() not in path.read_bytes(), f"{name} in {path.name}"


def judged_again(folder: Path) -> list[str]:
    """What `judge` prints of the run in this folder, as text and as JSON."""
    run = str(directory_of(folder))
    again = [sseproof("judge", run, *options, cwd=folder) for options in ([], ["--json"])]
    return [text for done in again for text in (done.stdout, done.stderr)]


def test_planted_secrets_are_found_nowhere(tmp_path, careless):
    port, seen = careless
    url = f"http://me:{SECRETS['user']}@127.0.0.1:{port}/s?api_key={SECRETS['query']}&q=plain-question"
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
    found_nowhere(SECRETS, tmp_path, done.stdout, done.stderr, *judged_again(tmp_path))


LOCUSTFILE = """
import os
from locust import task
from sseproof import SSEUser


class Customer(SSEUser):
    @task
    def ask(self):
        # Another token for each call, as users of their own have; and one that only the scenario calls secret.
        token = os.environ["PLANTED_CALL"] + f"-{id(self)}"
        headers = {"Authorization": f"Bearer {token}", "X-Marked": os.environ["PLANTED_MARK"]}
        self.sse.post(json={"q": "plain-question"}, headers=headers, name="ask")
        with self.sse.open("POST", json={"q": "plain-question"}, headers=headers, name="read") as stream:
            list(stream)
"""


def test_secrets_of_single_calls_are_found_nowhere(tmp_path, careless):
    """A user's own locustfile, and the answer as JSON."""
    port, seen = careless
    (tmp_path / "mine.py").write_text(LOCUSTFILE)
    planted = {"PLANTED_CALL": "cll-55d0f7aa-secret", "PLANTED_MARK": "cmk-0e9b3c61-secret"}
    done = sseproof(
        *["run", "--target", f"http://127.0.0.1:{port}/s?q=plain-question", "--method", "POST"],
        *["--streams", "10", "--users", "2", "--locustfile", "mine.py", "--json"],
        *["--body", "{}", "--set", 'target.secret_headers=["x-marked"]'],
        *claims("success >= 98%"),
        cwd=tmp_path,
        environ=planted,
    )
    for name, secret in planted.items():
        assert any(secret.encode() in request for request in seen), f"{name} was sent"
    details = [row.detail for row in rows(directory_of(tmp_path), STREAMS)]
    assert sum("[secret]" in detail for detail in details) >= 3, (
        "refusals that repeat the request are on record"
    )
    found_nowhere(planted, tmp_path, done.stdout, done.stderr, *judged_again(tmp_path))


@pytest.mark.parametrize(
    "fault", ['{kind="cut", share="50%", after_bytes=900}', None], ids=["faults", "none"]
)
def test_a_password_for_a_toxiproxy_is_refused_before_anything_is_kept(
    tmp_path: Path, fault: str | None
) -> None:
    named = ("--toxiproxy", "http://me:SECRETPW@127.0.0.1:9")
    (tmp_path / "plan.toml").write_text('[[fault]]\nkind = "cut"\nafter_bytes = 900\n')
    sets = ("--set", f"fault=[{fault}]") if fault else ()
    for arguments in (
        ("run", "--target", "http://127.0.0.1:9/", *sets),
        ("chaos", "run", "plan.toml", "--upstream", "127.0.0.1:9", "--listen", "0"),
    ):
        done = sseproof(*arguments, *named, cwd=tmp_path)
        assert done.returncode == 64, done.stdout + done.stderr
        assert "http://127.0.0.1:8474" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "SECRETPW" not in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()
