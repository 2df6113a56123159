"""`sseproof check` against servers of exact bytes: what it sends, what it keeps, and what it says."""

import bisect
import contextlib
import datetime as dt
import itertools
import json
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from sseproof.check_commands import asking
from sseproof.loadtests.examination import REQUESTS_LIMIT, TIME_LIMIT_S, CheckRequest, examine
from sseproof.loadtests.probe import Trust
from sseproof.reports.endpoint.judge import judge_capture
from sseproof.reports.endpoint.model import CheckReport
from sseproof.rundir.capture import Capture
from sseproof.rundir.capture_file import read_capture
from sseproof.rundir.errors import UsageError
from tests.integration.suite import has_ipv6, served, sseproof, started
from tests.loadtests.rawserver import LAST_CHUNK, Connection, RawServer, chunk, event, serving
from tests.spent import spent

pytestmark = pytest.mark.integration

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
EVENTS = 25
GAP_S = 0.012
MEMORY_LIMIT_BYTES = 150 << 20


def refused(connection: Connection) -> bool:
    """Whether the method was one of those that get 405 here."""
    if connection.head.startswith((b"GET ", b"POST ")):
        return False
    connection.send(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
    return True


def steady(connection: Connection) -> None:
    """A healthy answer: as many events as buffering needs, each in a write of its own."""
    if refused(connection):
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
    # What is there may be in order: nobody is accused for what we left undone.
    verdicts = {each.id: each.verdict for each in report.findings}
    assert (verdicts["H01"], verdicts["H11"]) == ("unknown", "unknown")
    assert report.exit_code == 2


def test_the_budget_holds_when_redirects_and_tls_use_it_up(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def script(connection: Connection) -> None:
        path = connection.request_line.split()[1] if connection.head else "/stream4"
        hop = int(path.partition("?")[0].removeprefix("/stream") or 0)
        if hop < 4:
            location = b"/stream%d?token=handed-out-%d" % (hop + 1, hop)
            connection.send(b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)
        else:
            steady(connection)

    with serving(script, tls=context) as server:
        capture = looked(server.url, trust=Trust(ca=str(ca)))
        assert len(server.connections) == capture.requests == 12
    assert capture.skipped["options"] == "the 12 requests of one check were used up"
    assert "handed-out" not in repr(capture)
    report = judge_capture(capture)
    assert report.status == 200
    assert {each.verdict for each in report.findings if each.id == "H11"} == {"warn"}
    assert {each.verdict for each in report.findings if each.id == "S01"} == {"pass"}


def test_the_time_of_a_check_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproof.loadtests.examination.TIME_LIMIT_S", 2.5)

    def script(connection: Connection) -> None:
        if refused(connection):
            return
        connection.send(HEAD + chunk(event("x", number=1)))
        connection.until_gone()

    began = time.monotonic()
    with serving(script) as server:
        capture = looked(server.url, look_s=0.5)
        assert time.monotonic() - began < 2.5 * 5
        assert len(server.connections) == capture.requests
    assert "seconds of one check were used up" in capture.skipped["options"]


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
    # Each arrival lies within the server's own write of its last byte, or just behind: however late it was read, and with how much.
    events = [chunk(event(f'{{"n": {number}}}', number=number)) for number in range(1, EVENTS + 1)]
    written = list(itertools.accumulate(map(len, [HEAD, *events, LAST_CHUNK])))
    received = list(itertools.accumulate(each.size for each in main.reads))
    slack_ns = 50_000_000
    for each, size in zip(main.reads, received, strict=True):
        before_ns, after_ns = sends[bisect.bisect_left(written, size)]
        assert before_ns <= each.at_ns <= after_ns + slack_ns
    report = judge_capture(capture)
    assert {each.verdict for each in report.findings if each.id in {"W01", "T10", "H01"}} <= {"pass", "warn"}


def test_a_buffer_before_the_client_is_found_over_the_wire() -> None:
    def script(connection: Connection) -> None:
        if refused(connection):
            return
        connection.send(HEAD)
        # Without ids: nobody asks it to resume. Twice as many pieces as are needed: some are read late on a busy machine.
        body = b"".join(event(f'{{"n": {number}}}') for number in range(1, 3_000))
        for at in range(0, 48 * 1_024, 1_024):
            connection.send(chunk(body[at : at + 1_024]))
            connection.server.tick.wait(0.03)
        connection.until_gone()

    with serving(script) as server:
        report = report_of(server, look_s=1.6)
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
    found = spent(
        ["check", url, "--json", "--quiet", *options], cwd=cwd, said=cwd / "spent.json", limit_s=limit_s
    )
    assert 10 << 20 < found.peak_bytes <= MEMORY_LIMIT_BYTES
    assert "Traceback" not in found.stderr
    if found.code in {64, 70}:
        return found.code, found.stderr
    return found.code, json.loads(found.stdout)["diagnosis"]


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
        # It is held, and nobody listens: given back, it might be somebody else's by now.
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        code, diagnosis = measured(url, cwd=tmp_path, limit_s=20)
    assert code == 1
    assert diagnosis.startswith("The connection was refused")
    code, diagnosis = measured("http://no-such-host.invalid/", cwd=tmp_path, limit_s=30)
    assert code == 1
    assert diagnosis.startswith("The host name does not resolve")


# What comes on top when it is asked for.


def probes(capture: Capture, name: str) -> list:
    return [each for each in capture.probes if each.probe == name]


def found(capture: Capture) -> dict[str, str]:
    return {each.id: each.verdict for each in judge_capture(capture).findings}


def test_four_workers_are_told_from_eight_though_each_is_free_again_when_its_client_leaves() -> None:
    places = threading.Semaphore(4)

    def script(connection: Connection) -> None:
        if refused(connection):
            return
        with places:
            connection.send(HEAD)
            number = 0
            while not connection.server.tick.wait(0.02):
                number += 1
                connection.send(chunk(event(f'{{"n": {number}}}')))

    with serving(script) as server:
        report = report_of(server, parallel=True, look_s=0.5)
    finding = next(each for each in report.findings if each.id == "K01")
    assert finding.verdict == "fail"
    assert finding.sentence.startswith("4 of 8 streams")


def feed(connection: Connection) -> None:
    """A feed that resumes: numbers go on behind the id that comes back, until the client leaves."""
    last = int(connection.header("last-event-id") or 0)
    connection.send(HEAD)
    while not connection.server.tick.wait(0.01):
        last += 1
        connection.send(chunk(event(f'{{"n": {last}}}', number=last)))


def resuming(connection: Connection) -> None:
    numbers = (connection.header("last-event-id") or "s-0").rpartition("-")[2]
    if not numbers.isdigit():
        connection.send(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        return
    first = int(numbers) + 1
    if first > EVENTS:
        connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        return
    connection.send(HEAD)
    for number in range(first, EVENTS + 1):
        connection.send(chunk(event("{}", number=number)))
        connection.server.tick.wait(GAP_S)
    connection.send(LAST_CHUNK)


def test_resuming_is_examined_over_the_wire() -> None:
    with serving(resuming) as server:
        capture = looked(server.url, resume=True)
    answers = found(capture)
    assert {answers[each] for each in ("R01", "R02", "R03", "R05")} == {"pass"}
    cuts = probes(capture, "cut")
    assert [each.number for each in cuts] == [1, 2, 3, 4]
    with serving(steady) as server:
        answers = found(looked(server.url, resume=True))
    assert (answers["R01"], answers["R03"], answers["R05"]) == ("fail", "warn", "warn")


def test_eight_streams_at_once_against_a_server_that_has_four_places() -> None:
    usual_is_over = threading.Event()
    places = threading.Semaphore(4)

    def cramped(connection: Connection) -> None:
        """OPTIONS is the last of what is always asked; of all who come after it four are served."""
        if connection.head.startswith(b"OPTIONS "):
            usual_is_over.set()
        if refused(connection):
            return
        if not usual_is_over.is_set() or places.acquire(blocking=False):
            connection.send(HEAD + chunk(event("x") * 4))
        connection.until_gone()

    with serving(steady) as server:
        capture = looked(server.url, parallel=True)
        assert len(probes(capture, "parallel")) == 8
        assert found(capture)["K01"] == "pass"
    with serving(cramped) as server:
        report = judge_capture(looked(server.url, parallel=True, look_s=0.5))
    finding = next(each for each in report.findings if each.id == "K01")
    assert finding.verdict == "fail"
    assert finding.sentence.startswith("4 of 8")


def test_a_watched_stream_is_closed_by_somebody() -> None:
    def script(connection: Connection) -> None:
        if refused(connection):
            return
        connection.send(HEAD + chunk(b": hello\n\n"))
        connection.server.tick.wait(1)

    with serving(script) as server:
        capture = looked(server.url, look_s=0.3, idle_s=3)
    (watched,) = probes(capture, "idle")
    assert watched.end == "fin"
    assert found(capture)["T06"] == "fail"


def test_a_bad_request_is_sent_only_when_asked_for() -> None:
    def script(connection: Connection) -> None:
        if "sseproof-no-such-path" in connection.request_line:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
        else:
            steady(connection)

    with serving(script) as server:
        assert found(looked(server.url))["H17"] == "n/a"
        assert found(looked(server.url, bad_request=True))["H17"] == "fail"


class Tunnel:
    """A proxy that tunnels by CONNECT and forwards http; it may hold answers back in pieces of a size."""

    def __init__(self, held_bytes: int = 0) -> None:
        self.held_bytes = held_bytes
        self.heads: list[bytes] = []

    def __call__(self, connection: Connection) -> None:
        self.heads.append(connection.head)
        method, target, _ = connection.request_line.split()
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            host, _, port = target.split("/")[2].rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            if method != "CONNECT":
                upstream.sendall(connection.head + b"\r\n\r\n" + connection.body)
            else:
                threading.Thread(target=self._up, args=(connection.sock, upstream), daemon=True).start()
            self._down(connection, upstream)

    def _up(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)

    def _down(self, connection: Connection, upstream: socket.socket) -> None:
        held = b""
        while data := upstream.recv(65_536):
            held += data
            while len(held) >= max(self.held_bytes, 1):
                size = self.held_bytes or len(held)
                connection.send(held[:size])
                held = held[size:]
        connection.send(held)


def closing(connection: Connection) -> None:
    """Without chunks, so that a proxy can cut anywhere; many small events."""
    if refused(connection):
        return
    connection.send(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""))
    for number in range(1, 121):
        connection.send(event(f'{{"n": {number}, "text": "{"x" * 60}"}}', number=number))
        connection.server.tick.wait(0.008)


def test_the_proxy_that_holds_back_is_named() -> None:
    with serving(closing) as server, serving(Tunnel(held_bytes=300)) as proxy:
        way = f"http://127.0.0.1:{proxy.port}"
        capture = looked(server.url, via=["direct", way])
        names = [(each.vantage, each.number) for each in probes(capture, "path")]
    assert names == [("direct", 1), (way, 1), ("direct", 2), (way, 2)]
    report = judge_capture(capture)
    finding = next(each for each in report.findings if each.id == "B08")
    assert finding.verdict == "fail"
    assert f"by way of {way}, and not by direct" in finding.sentence


def test_the_method_that_is_held_back_is_named() -> None:
    def get_held(connection: Connection) -> None:
        if connection.request_line.startswith("POST "):
            steady(connection)
            return
        body = b"".join(event(f'{{"n": {number}}}', number=number) for number in range(1, 1_201))
        connection.send(HEAD)
        for at in range(0, 30 * 300, 300):
            connection.send(chunk(body[at : at + 300]))
            connection.server.tick.wait(0.04)
        connection.send(LAST_CHUNK)

    with serving(get_held) as server:
        capture = looked(server.url, also="POST")
    (answer,) = probes(capture, "method")
    assert answer.method == "POST"
    finding = next(each for each in judge_capture(capture).findings if each.id == "B08")
    assert finding.verdict == "fail"
    assert "is asked by GET alone" in finding.sentence


@pytest.mark.parametrize("also", ["GET", "POST"])
def test_the_other_method_is_asked_once_and_the_body_is_the_posts_alone(also: str) -> None:
    def short(connection: Connection) -> None:
        connection.send(HEAD + chunk(event("{}")) + LAST_CHUNK)

    with serving(short) as server:
        looked(server.url, also=also, body="{}")
        asked = [
            (each.request_line.split()[0], each.body, each.header("content-type"))
            for each in server.connections
        ]
    assert asked.count(("POST", b"{}", "application/json")) == 1
    assert {each for each in asked if each[0] != "POST"} <= {
        (method, b"", None) for method in ("GET", "HEAD", "OPTIONS")
    }
    assert sum(each[0] == "GET" for each in asked) >= 1


def test_a_secret_in_the_body_does_not_follow_a_redirect_by_another_method() -> None:
    """As secret headers don't; a POST that the service itself sends on by 307 is what was asked for."""
    with serving(steady) as other:

        def elsewhere(connection: Connection) -> None:
            location = b"Location: " + other.url.encode()
            connection.send(b"HTTP/1.1 302 Found\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n")

        with serving(elsewhere) as server:
            capture = looked(server.url, {"KEY": "hush"}, also="POST", body='{"key": "{env:KEY}"}')
            finding = next(each for each in judge_capture(capture).findings if each.id == "B08")
            assert (finding.verdict, probes(capture, "method")) == ("n/a", [])
            assert "redirect led elsewhere" in finding.sentence
            looked(server.url, also="POST", body="{}")
        assert [each.body for each in other.connections if each.body] == [b"{}"]


@pytest.mark.parametrize(("also", "options"), [("GET", {}), ("POST", {"method": "post"})])
def test_the_same_method_once_more_is_refused(also: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=rf"--also {also} is how the URL is asked anyway"):
        looked("http://127.0.0.1:9/", also=also, **options)


def test_https_goes_through_a_proxy_by_connect(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("service.example").configure_cert(context)
    tunnel = Tunnel()

    def to_the_server(connection: Connection) -> None:
        connection.head = connection.head.replace(b"service.example:443", b"127.0.0.1:%d" % server.port)
        tunnel(connection)

    with serving(steady, tls=context) as server, serving(to_the_server) as proxy:
        environ = {
            "HTTPS_PROXY": f"http://me:pass-phrase@127.0.0.1:{proxy.port}",
            "NO_PROXY": "other.example",
        }
        capture = looked("https://service.example/stream", environ, trust=Trust(ca=str(ca)))
        assert capture.probes[0].end == "complete"
        assert judge_capture(capture).status == 200
        assert b"Proxy-Authorization: Basic" in tunnel.heads[0]
        assert tunnel.heads[0].startswith(b"CONNECT 127.0.0.1")
        seen = len(tunnel.heads)
        around = looked(
            "https://service.example/stream",
            {**environ, "NO_PROXY": "service.example"},
            trust=Trust(ca=str(ca)),
            resolve=["service.example:443:127.0.0.1"],
            connect_to=None,
        )
        assert len(tunnel.heads) == seen
        assert around.probes[0].end == "refused"
        straight = looked(
            "https://service.example/stream",
            trust=Trust(ca=str(ca)),
            connect_to=f"127.0.0.1:{server.port}",
        )
        assert judge_capture(straight).status == 200


def test_a_proxy_that_refuses_is_named() -> None:
    def refusing(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with serving(refusing) as proxy:
        report = judge_capture(looked("https://service.invalid/", proxy=f"http://127.0.0.1:{proxy.port}"))
    assert report.diagnosis.startswith("The proxy did not let us through")
    assert "407" in report.diagnosis


def test_the_origin_is_asked_beside_the_edge() -> None:
    with serving(steady) as origin, serving(closing) as edge:
        capture = looked(edge.url, origin=origin.url)
        (answer,) = probes(capture, "origin")
        assert answer.url == origin.url
        assert len(origin.connections) == 1
    assert found(capture)["B08"] == "pass"


def test_addresses_of_ones_own() -> None:
    with serving(steady) as server:
        port = server.port
        capture = looked(f"http://chat.example:{port}/stream", resolve=[f"chat.example:{port}:127.0.0.1"])
        assert judge_capture(capture).status == 200
        assert server.connections[0].header("host") == f"chat.example:{port}"


def test_an_address_of_ipv6() -> None:
    if not has_ipv6():
        pytest.skip("no ::1 on this machine")
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    thread = threading.Thread(target=_answer_once, args=(listener,), daemon=True)
    thread.start()
    capture = looked(f"http://[::1]:{listener.getsockname()[1]}/stream")
    listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
    listener.close()
    thread.join(5)
    assert not thread.is_alive()
    assert capture.probes[0].address.startswith("[::1]:")
    assert judge_capture(capture).status == 404


def _answer_once(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65_536)
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


MISTAKES = {
    "--resolve": {"resolve": ["chat.example:443"]},
    "--connect-to": {"connect_to": "nowhere"},
    "--via": {"via": ["ftp://proxy"]},
    "--proxy": {"proxy": "https://proxy:3128"},
    "--method": {"method": "GET /"},
    "TOKEN": {"headers": {"Authorization": "env:TOKEN"}},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_before_the_first_connection(name: str) -> None:
    with serving(steady) as server:
        with pytest.raises(UsageError, match=name):
            looked(server.url, **MISTAKES[name])
        assert not server.connections


def test_direct_is_offered_to_ways_alone() -> None:
    """--proxy direct would look for a proxy of that name."""
    for option, offered in ({"via": ["ftp://proxy"]}, True), ({"proxy": "ftp://proxy"}, False):
        with pytest.raises(UsageError) as refused:
            looked("http://127.0.0.1:9/", **option)
        assert ("`direct`" in str(refused.value)) == offered


MISTAKEN_OPTIONS = {
    "no check has this id": ("--only", "H01,Q7"),
    "leave no check over": ("--only", "H", "--skip", "H"),
    "there is no folder": ("--html", "nowhere/check.html"),
    "this is a folder": ("--html", "."),
    "--key belongs to a certificate": ("--key", "key.pem"),
}


@pytest.mark.parametrize("sentence", MISTAKEN_OPTIONS)
def test_a_mistaken_option_is_named_before_the_first_connection(sentence: str, tmp_path: Path) -> None:
    with serving(steady) as server:
        done = sseproof("check", server.url, *MISTAKEN_OPTIONS[sentence], cwd=tmp_path)
        assert not server.connections
    assert done.returncode == 64
    assert sentence in done.stderr
    assert not done.stdout


def test_a_model_service_is_asked_in_its_own_words(tmp_path: Path) -> None:
    with serving(steady) as server:
        base = server.url.removesuffix("/stream")
        sseproof(
            "check", base, "--as", "anthropic", "--model", "m-1", "--look", "1s", "--quiet", cwd=tmp_path
        )
        sent = server.connections[0]
    assert sent.request_line == "POST /v1/messages HTTP/1.1"
    assert sent.header("anthropic-version")
    body = json.loads(sent.body)
    assert (body["model"], body["stream"], bool(body["messages"])) == ("m-1", True, True)
    done = sseproof("check", base, "--as", "openai", cwd=tmp_path)
    assert done.returncode == 64
    assert "--model" in done.stderr


ADDRESSES = {
    ("openai", "https://api.example.com"): "https://api.example.com/v1/chat/completions",
    ("openai", "https://api.example.com/v1/"): "https://api.example.com/v1/chat/completions",
    ("openai", "https://api.example.com/own/path"): "https://api.example.com/own/path",
    ("anthropic", "http://127.0.0.1:9/"): "http://127.0.0.1:9/v1/messages",
    (
        "gemini",
        "https://api.example.com",
    ): "https://api.example.com/v1beta/models/m%2F1:streamGenerateContent?alt=sse",
}


@pytest.mark.parametrize(("service", "url"), ADDRESSES)
def test_a_model_service_has_its_own_address(service: str, url: str) -> None:
    wanted = asking(service, "m/1", url)
    assert wanted.url == ADDRESSES[service, url]
    body = json.loads(wanted.body)
    if service == "gemini":
        assert body["contents"][0]["parts"][0]["text"]
    else:
        assert (body["model"], body["stream"]) == ("m/1", True)


def test_a_slow_reader_is_borne_or_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sseproof.loadtests.examination.SLOW_AFTER_S", 0.0)
    monkeypatch.setattr("sseproof.loadtests.examination.SLOW_PAUSE_S", 1.0)
    patience_s = 30.0

    def script(connection: Connection) -> None:
        """More than the kernels' buffers hold, so that the reader is felt."""
        if refused(connection):
            return
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        connection.sock.settimeout(patience_s)
        connection.send(HEAD)
        with contextlib.suppress(TimeoutError):
            for number in range(1, 400):
                connection.send(chunk(event(f'{{"n": {number}, "text": "{"x" * 2_000}"}}', number=number)))
            connection.send(LAST_CHUNK)
            connection.until_gone()

    with serving(script) as server:
        capture = looked(server.url, slow_reader=True, look_s=0.3)
        assert found(capture)["K03"] == "pass"
        felt_ns = max(after - before for before, after in server.connections[-1].sends)
    (slow,) = probes(capture, "slow-reader")
    assert slow.end == "complete"
    assert felt_ns > 500_000_000
    patience_s = 0.2
    with serving(script) as server:
        capture = looked(server.url, slow_reader=True, look_s=0.3)
    assert found(capture)["K03"] == "warn"


def certified(name: str, tmp_path: Path, **options: object) -> tuple[ssl.SSLContext, Trust]:
    """A server's certificate of an authority that the client trusts."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(context)  # type: ignore[arg-type]
    return context, Trust(ca=str(ca))


def test_a_certificate_of_another_name_and_one_that_is_over(tmp_path: Path) -> None:
    context, trust = certified("other.example", tmp_path)
    with serving(steady, tls=context) as server:
        report = judge_capture(looked(server.url, trust=trust))
        assert report.exit_code == 1
        assert "IP address mismatch" in report.diagnosis
        insecure = judge_capture(looked(server.url, trust=Trust(insecure=True)))
        assert insecure.status == 200
    year = dt.timedelta(days=365)
    now = dt.datetime.now(dt.UTC)
    context, trust = certified("127.0.0.1", tmp_path, not_before=now - 2 * year, not_after=now - year)
    with serving(steady, tls=context) as server:
        report = judge_capture(looked(server.url, trust=trust))
    assert "certificate has expired" in report.diagnosis
    assert "renew" in report.diagnosis


def test_a_service_without_tls_is_told_from_one_that_is_down() -> None:
    def script(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.until_gone()

    with serving(script) as server:
        server.reads = "nothing"
        report = judge_capture(looked(server.url.replace("http:", "https:")))
    assert report.diagnosis.startswith("The TLS connection failed")
    assert "is it an https:// service?" in report.diagnosis.lower()


def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    began = threading.Event()

    def script(connection: Connection) -> None:
        began.set()
        connection.until_gone()

    with serving(script) as server:
        child = started("check", server.url, cwd=tmp_path)
        assert began.wait(30)
        child.send_signal(signal.SIGINT)
        _, complaint = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "Traceback" not in complaint


def test_help_says_what_will_be_sent(tmp_path: Path) -> None:
    said = " ".join(sseproof("check", "--help", cwd=tmp_path).stdout.split())
    assert (
        f"Sends at most {REQUESTS_LIMIT} requests to URL, one at a time, within {TIME_LIMIT_S:.0f} s" in said
    )
