"""`sseproof check` against servers of exact bytes: what it sends, what it keeps, and what it says."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from sseproof.loadtests.examination import CheckRequest, examine
from sseproof.loadtests.probe import Trust
from sseproof.reports.endpoint.judge import judge_capture
from sseproof.reports.endpoint.model import CheckReport
from sseproof.rundir.capture import Capture
from sseproof.rundir.capture_file import read_capture
from sseproof.rundir.errors import UsageError
from tests.integration.suite import served, sseproof
from tests.loadtests.rawserver import LAST_CHUNK, Connection, RawServer, chunk, event, serving

pytestmark = pytest.mark.integration

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENTS = 25
GAP_S = 0.012
MEMORY_LIMIT_KIB = 150 * 1024


def steady(connection: Connection) -> None:
    """A healthy answer: as many events as buffering needs, each in a write of its own."""
    if not connection.head.startswith((b"GET ", b"POST ")):
        connection.send(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        return
    connection.send(HEAD)
    for number in range(1, EVENTS + 1):
        connection.send(chunk(event(f'{{"n": {number}}}', number=number)))
        connection.server.tick.wait(GAP_S)
    connection.send(LAST_CHUNK)


def silent(_sentence: str) -> None:
    """Progress that nobody reads."""


def looked(url: str, environ: dict[str, str] | None = None, **options: object) -> Capture:
    return examine(CheckRequest(url=url, **options), environ or {}, silent)  # type: ignore[arg-type]


def report_of(server: RawServer, **options: object) -> CheckReport:
    return judge_capture(looked(server.url, **options))


def test_the_command_keeps_a_capture_that_gives_the_same_findings_again(tmp_path: Path) -> None:
    with served() as url:
        done = sseproof("check", url, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["counts"]["fail"] == 0
    assert report["requests"] <= 12
    (kept,) = (tmp_path / "checks").glob("*.json")
    again = sseproof("check", "--from", str(kept), "--json", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    text = sseproof("check", "--from", str(kept), cwd=tmp_path)
    assert text.stdout.startswith(report["diagnosis"].split(".")[0][:60])
    assert max(len(line) for line in text.stdout.splitlines() if not line.startswith("Capture")) <= 80


def test_a_check_sends_at_most_twelve_requests_one_at_a_time() -> None:
    with serving(steady) as server:
        capture = looked(server.url)
        assert capture.requests == len(server.connections) <= 12
        methods = [each.request_line.split()[0] for each in server.connections]
    assert {each.probe for each in capture.probes} == {
        "stream", "gzip", "any-accept", "resume", "bogus-id", "head", "options",
    }  # fmt: skip
    assert methods.count("HEAD") == methods.count("OPTIONS") == 1
    starts = [each.began_ns for each in capture.probes]
    ends = [each.ended_ns for each in capture.probes]
    assert all(after >= before for before, after in zip(ends, starts[1:], strict=False))


def test_a_chain_of_redirects_is_counted_and_ends() -> None:
    def script(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as server:
        report = report_of(server)
        assert len(server.connections) <= 12
    found = {each.id: each for each in report.findings}
    assert found["H01"].verdict == found["H11"].verdict == "fail"
    assert "redirects" in report.diagnosis


def test_a_redirect_is_followed_and_one_to_a_foreign_host_is_not() -> None:
    def script(connection: Connection) -> None:
        if connection.request_line.startswith("GET /stream"):
            connection.send(b"HTTP/1.1 307 Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
        else:
            steady(connection)

    with serving(script) as server:
        report = report_of(server)
    assert report.status == 200
    assert {each.verdict for each in report.findings if each.id == "H11"} == {"pass"}

    def away(connection: Connection) -> None:
        connection.send(
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n"
        )

    with serving(away) as server:
        report = report_of(server)
    assert "elsewhere.invalid was not followed" in report.diagnosis


def test_a_post_is_sent_once() -> None:
    with serving(steady) as server:
        capture = looked(server.url, body='{"question": "why"}')
        methods = [each.request_line.split()[0] for each in server.connections]
        body = server.connections[0].body
    assert methods.count("POST") == 1
    assert set(methods) == {"POST", "OPTIONS"}
    assert body == b'{"question": "why"}'
    assert "gzip" in capture.skipped
    with serving(steady) as server:
        looked(server.url, body="{}", repeat=True)
        assert [each.request_line.split()[0] for each in server.connections].count("POST") > 1


def test_secrets_are_masked_and_one_that_comes_back_is_reported(tmp_path: Path) -> None:
    secret = "correct-horse-battery"

    def script(connection: Connection) -> None:
        connection.send(HEAD.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=abc123def\r\n\r\n"))
        connection.send(chunk(event(f'{{"you said": "{secret}"}}', number=1)) + LAST_CHUNK)

    with serving(script) as server:
        url = server.url.replace("http://", "http://user:pass-word-9@") + f"?api_key={secret}&q=1"
        done = sseproof(
            "check", url, "--header", "Authorization: env:TOKEN", "--header", "X-Api-Key: other-secret-7",
            cwd=tmp_path, environ={"TOKEN": f"Bearer {secret}"},
        )  # fmt: skip
        sent = b"".join(each.head for each in server.connections)
    assert secret.encode() in sent
    (kept,) = (tmp_path / "checks").glob("*.json")
    capture = read_capture(kept)
    everything = (
        kept.read_text("utf-8") + done.stdout + done.stderr + repr([each.received for each in capture.probes])
    )
    for value in (secret, "other-secret-7", "pass-word-9", "abc123def"):
        assert value not in everything
    assert done.returncode == 1
    report = judge_capture(capture)
    found = {each.id: each.verdict for each in report.findings}
    assert found["S01"] == "fail"
    assert found["H15"] == "warn"
    main = next(each for each in capture.probes if each.probe == "stream")
    at = main.echoed[0]
    assert main.received[at : at + len(secret)] == b"*" * len(secret)


def test_reads_have_the_kernels_instants_and_every_byte() -> None:
    with serving(steady) as server:
        capture = looked(server.url)
        sends = server.connections[0].sends
    main = capture.probes[0]
    assert sum(each.size for each in main.reads) == len(main.received)
    if sys.platform.startswith("linux"):
        assert all(each.stamped for each in main.reads)
    # Each event's arrival lies within the server's own write of it, or just behind.
    arrivals = [each.at_ns for each in main.reads]
    slack_ns = 50_000_000
    for before_ns, after_ns in sends[1 : EVENTS + 1]:
        assert any(before_ns <= at_ns <= after_ns + slack_ns for at_ns in arrivals)
    report = judge_capture(capture)
    assert {each.verdict for each in report.findings if each.id in {"W01", "T10", "H01"}} <= {"pass", "warn"}


def test_a_buffer_before_the_client_is_found_over_the_wire() -> None:
    def script(connection: Connection) -> None:
        connection.send(HEAD)
        body = b"".join(event(f'{{"n": {number}}}', number=number) for number in range(1, 1_000))
        for at in range(0, 24 * 1_024, 1_024):
            connection.send(chunk(body[at : at + 1_024]))
            connection.server.tick.wait(0.03)
        connection.until_gone()

    with serving(script) as server:
        report = report_of(server, look_s=1.2)
    assert report.diagnosis.startswith("Events arrive 1,024 bytes at a time: something on the way buffers.")


def test_tls_is_examined_and_http2_is_asked_for(tmp_path: Path) -> None:
    authority = trustme.CA(organization_name="Corp")
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def script(connection: Connection) -> None:
        # After h2 was agreed on nobody may speak: the client only asked.
        steady(connection)

    with serving(script, tls=context) as server:
        capture = looked(server.url, trust=Trust(ca=str(ca)))
        report = judge_capture(capture)
        refused = judge_capture(looked(server.url))
    found = {each.id: each for each in report.findings}
    assert found["H10"].verdict == "pass"
    assert "Corp" in found["H18"].sentence
    assert report.status == 200
    main = capture.probes[0]
    assert main.tls is not None
    assert (main.tls.alpn, main.tls.version[:4]) == ("http/1.1", "TLSv")
    if sys.platform.startswith("linux"):
        assert all(each.stamped for each in main.reads)
    assert refused.exit_code == 1
    assert "certificate is not accepted" in refused.diagnosis
    assert "issued by" in refused.diagnosis
    assert "Corp" in refused.diagnosis


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    client = authority.issue_cert("client.example")
    client.cert_chain_pems[0].write_to_path(str(cert))
    client.private_key_pem.write_to_path(str(key))
    with serving(steady, tls=context) as server:
        shown = judge_capture(looked(server.url, trust=Trust(ca=str(ca), cert=str(cert), key=str(key))))
        bare = judge_capture(looked(server.url, trust=Trust(ca=str(ca))))
    assert shown.status == 200
    assert bare.status is None
    assert bare.exit_code == 1
    with pytest.raises(UsageError, match=r"missing\.pem"):
        looked("https://127.0.0.1:9/", trust=Trust(cert=str(tmp_path / "missing.pem")))


# Bad hosts: a sentence, within the stated time, in bounded memory.


def measured(url: str, *options: str, cwd: Path, limit_s: float) -> tuple[int, str]:
    """Exit code and diagnosis of one command; its memory is held against the limit."""
    child = subprocess.Popen(
        [sys.executable, "-m", "sseproof", "check", url, "--json", "--quiet", *options],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    timer = threading.Timer(limit_s, child.kill)
    timer.start()
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.stderr is not None
    complaint = child.stderr.read().decode()
    child.stdout.close()
    child.stderr.close()
    assert child.returncode >= 0, f"it took longer than {limit_s} s"
    assert usage.ru_maxrss <= MEMORY_LIMIT_KIB
    assert "Traceback" not in complaint
    if child.returncode in {64, 70}:
        return child.returncode, complaint
    return child.returncode, json.loads(output)["diagnosis"]


def endless_head(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.send(b"X-More: " + b"y" * 4_000 + b"\r\n")


def long_line(connection: Connection) -> None:
    """As much of ten gigabytes as the client takes."""
    connection.send(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"") + b"data: ")
    for _ in range(10_000):
        connection.send(b"x" * (1 << 20))


def never(connection: Connection) -> None:
    connection.until_gone()


def drop_by_drop(connection: Connection) -> None:
    for byte in HEAD:
        connection.send(bytes([byte]))
        connection.server.tick.wait(1)


def many_tiny_events(connection: Connection) -> None:
    connection.send(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""))
    while True:
        connection.send(b"data:\n\n" * 10_000)


BAD_HOSTS: dict[str, tuple[Callable[[Connection], None], str, int]] = {
    "an endless head": (endless_head, "64 KiB", 1),
    "a line without end": (long_line, "", 2),
    "a server that never answers": (never, "No answer came", 1),
    "a byte a second": (drop_by_drop, "No answer came", 1),
    "events without end": (many_tiny_events, "", 2),
}


@pytest.mark.parametrize("name", BAD_HOSTS)
def test_a_bad_host_gets_a_sentence_in_time_and_in_little_memory(name: str, tmp_path: Path) -> None:
    script, words, code = BAD_HOSTS[name]
    with serving(script) as server:
        found, diagnosis = measured(server.url, "--timeout", "2s", "--look", "2s", cwd=tmp_path, limit_s=60)
    assert found == code
    assert words in diagnosis
    assert diagnosis.endswith((".", "?"))


def test_what_is_no_host_is_said_in_a_sentence(tmp_path: Path) -> None:
    assert measured("not a url", cwd=tmp_path, limit_s=20)[0] == 64
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, diagnosis = measured(f"http://127.0.0.1:{port}/", cwd=tmp_path, limit_s=20)
    assert code == 1
    assert diagnosis.startswith("The connection was refused")
    code, diagnosis = measured("http://no-such-host.invalid/", cwd=tmp_path, limit_s=30)
    assert code == 1
    assert diagnosis.startswith("The host name does not resolve")
