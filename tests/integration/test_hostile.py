"""What a hostile service says stays text in every file and every output, is cut where it is long, and holds no secret.

The service answers with markup, scripts, control characters, bidi overrides, broken UTF-8, formulas, commands to CI servers,
and far too much; and it repeats what it was asked, secrets included, wherever an answer has room: reason, headers, redirects,
ids, types, error bodies, error events, and as a witness that it is not.
"""

import base64
import csv
import gzip
import html
import io
import json
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.integration.suite import claims, directory_of, sseproof
from tests.loadtests.rawserver import Connection, serving

pytestmark = pytest.mark.integration

SECRETS = {
    "header": "hdr-7f3a91c2-secret",
    "env": 'env<5b20>&"e8d4"-secret',
    "marked": "mrk-19ac77f0-secret",
    "query": "qry-84de03b1/secret=",
    "user": "usr-6c95af2e-secret",
    "body": "bdy-e07714c8-secret",
}
PLANTED = "plantedtext"
"""Stands in everything hostile: that it is found shows that the search looks where the service's words go."""
MARKUP = f"<script>alert('{PLANTED}')</script><svg onload=alert(1)><!--]]>{{{{7*7}}}}"
CONTROL = "\x1b[2J\x1b]0;owned\x07\x00\x08\x7f\x9b31m\u202e\u2066reversed\u2028\ufeff"
CI = "::error::owned ##[add-mask]7 ##vso[task.complete] ##teamcity[x]"
FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = f"{FORMULA} {CI} {MARKUP} {CONTROL} {PLANTED}"
BROKEN = b"\xff\xfe\xc3(\xed\xa0\x80\xf5" + HOSTILE.encode()
TOO_MUCH = 18 * 1024 * 1024
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
FORBIDDEN = {character.encode() for character in "\x1b\x07\x00\x08\x7f\x9b\u202e\u2066\u2028\ufeff"}


def one_line(data: bytes) -> bytes:
    """For a header: what no client would take is left out."""
    return re.sub(rb"[\x00-\x1f\x7f]", b"", data)


def echo(connection: Connection) -> bytes:
    """Everything it was sent, as it stood there and as a page or a log would write it."""
    # Not the id that it was resumed with: else each would repeat the one before it several times.
    sent = re.sub(rb"(?i)last-event-id: [^\r]*", b"", connection.head) + b" " + connection.body
    text = sent.decode("utf-8", "replace")
    return sent + html.escape(text).encode() + quote(text, safe="").encode() + json.dumps(text).encode()


def scripts(connection: Connection) -> list[Callable[[], None]]:
    """The ways to answer, one a connection."""
    everything = BROKEN + b" " + echo(connection)
    line = one_line(everything)
    authorization = (connection.header("authorization") or "").encode()

    def status(code: bytes, *heads: bytes, body: bytes = everything) -> Callable[[], None]:
        head = b"HTTP/1.1 %b %b\r\n" % (code, line[:300])
        fields = b"".join(b"%b\r\n" % one_line(each) for each in heads)
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        return lambda: connection.send(head + fields + length + body) and None

    def events(*fields: bytes) -> Callable[[], None]:
        return lambda: connection.send(SSE + b"\r\n" + b"\n".join(fields) + b"\n\n") and None

    def told(name: bytes) -> bytes:
        return b"".join(name + b": " + each + b"\n" for each in everything.splitlines())

    hello = b'data: {"text": "hello"}\n\n'
    done = b"\n\nevent: done\ndata: x"
    return [
        events(hello, told(b"data"), b": " + line, b"id: " + line, b"event: " + line + done),
        events(hello, b"event: error", told(b"data")),
        events(b"id: " + one_line(echo(connection)), b"data: y\n"),  # resumed with that id, secrets and all
        events(b"id: " + authorization + b"\ndata: y\n"),
        events(b"id: " + one_line(HOSTILE.encode()) + b"\ndata: y\n"),
        events(b"id: " + b"A" * 100_000 + b"\ndata: y\n"),
        status(b"500", b"Server: " + line, b"X-Powered-By: " + line),
        status(b"403", b"Retry-After: " + line, body=authorization),
        status(b"400", body=b" " * 900 + SECRETS["header"].encode() * 20),
        status(b"200", b"Content-Type: text/html;" + line),
        status(b"302", b"Location: http://evil.invalid/" + line),
        status(b"302", b"Location: /again?token=" + quote(everything[:2_000]).encode(), body=b""),
        status(b"418", b"Content-Encoding: gzip", body=gzip.compress(everything * 2_000)),
        status(b"200", b"Content-Type: text/event-stream", b"Content-Encoding: " + line),
        lambda: too_much(connection, b"HTTP/1.1 500 Broken\r\n\r\n" + MARKUP.encode()),
        lambda: too_much(connection, SSE + b"\r\ndata: " + MARKUP.encode()),
        lambda: too_much(connection, SSE + b"X-Long: " + MARKUP.encode()),
        lambda: connection.send(SSE + b"Transfer-Encoding: chunked\r\n\r\nzz" + everything) and None,
        lambda: connection.send(everything) and None,
    ]


def too_much(connection: Connection, beginning: bytes) -> None:
    """Far more than anybody wants to keep; the client may leave when it likes."""
    connection.send(beginning)
    for _ in range(TOO_MUCH // (1 << 20)):
        connection.send(b"A" * (1 << 20))


class Service:
    """Answers the first look well, the rest in turns, and tells as a witness what nobody did."""

    def __init__(self) -> None:
        self.turn = 0
        self.asked: list[bytes] = []
        self.lock = threading.Lock()

    def __call__(self, connection: Connection) -> None:
        with self.lock:
            if connection.request_line.startswith("GET /witness"):
                connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + witness(connection))
                return
            self.asked.append(connection.head + b"\r\n\r\n" + connection.body)
            turn = self.turn
            self.turn += 1
        if turn == 0:
            own = b"Sseproof-Server: reference; witness=/witness\r\n"
            server = b"Server: " + SECRETS["header"].encode() + one_line(BROKEN) + b"\r\n"
            connection.send(SSE + server + own + b'\r\ndata: {"text": "a"}\n\nevent: done\ndata: x\n\n')
            return
        ways = scripts(connection)
        ways[turn % len(ways)]()


def witness(connection: Connection) -> bytes:
    run = connection.request_line.partition("run=")[2].split()[0]
    row = {
        "run": run, "truth_id": f"{run}/-/1", "connection": 1, "profile": HOSTILE, "path": HOSTILE * 50,
        "accepted": [1, 0, 0], "ended": [2, 0, 0], "end": HOSTILE, "misbehaved": [HOSTILE], "user_agent": SECRETS["header"],
    }  # fmt: skip
    return json.dumps(row).encode() + b"\n"


OUTPUTS = ("junit", "markdown", "openmetrics")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory):
    """A run against it with every output, judged again with all of them, and what was printed."""
    cwd = tmp_path_factory.mktemp("hostile")
    service = Service()
    files = [word for name in OUTPUTS for word in (f"--{name}", f"out.{name}")]
    exports = ["--annotations", "--export", "csv", "--export", "hgrm", "--export", "hlog"]
    with serving(service) as server:
        address = f"me:{SECRETS['user']}@127.0.0.1:{server.port}"
        url = f"http://{address}/s?api_key={quote(SECRETS['query'], safe='')}&q={PLANTED}"
        done = sseproof(
            *["run", "--target", url, "--method", "POST", "--streams", "40", "--users", "8"],
            *["--header", f"X-Api-Key: {SECRETS['header']}", "--header", "X-Env: env:PLANTED"],
            *["--header", f"X-Marked: {SECRETS['marked']}", "--set", 'target.secret_headers=["x-marked", "x-env"]'],
            *["--body", '{"token": "{env:PLANTED_BODY}"}', "--set", "client.timeouts.idle=2s"],
            *[*files, *exports],
            *claims("success >= 98%", "utf8 = 100%", "ttft p95 <= 1s", "reconnect p95 < 1s", "lost = 0"),
            cwd=cwd,
            environ={"PLANTED": SECRETS["env"], "PLANTED_BODY": SECRETS["body"]},
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    first = {name: (cwd / f"out.{name}").read_bytes() for name in OUTPUTS}
    directory = directory_of(cwd)
    again = [
        sseproof("judge", str(directory), *files, *exports, *options, cwd=cwd) for options in ([], ["--json"])
    ]
    assert first == {name: (cwd / f"out.{name}").read_bytes() for name in OUTPUTS}, "byte for byte"
    assert [each.returncode for each in again] == [1, 1]
    printed = {
        f"{name} of {what}": text
        for what, each in (("run", done), ("judge", again[0]), ("judge --json", again[1]))
        for name, text in (("stdout", each.stdout), ("stderr", each.stderr))
    }
    return cwd, directory, service, printed


def everything(ran) -> dict[str, bytes]:
    """Every file that is left and everything that was printed, by its name."""
    cwd, _, _, printed = ran
    files = {str(path.relative_to(cwd)): path.read_bytes() for path in cwd.rglob("*") if path.is_file()}
    return {**files, **{name: text.encode() for name, text in printed.items()}}


def test_all_of_it_was_asked_and_answered(ran):
    _, directory, service, _ = ran
    for name, secret in SECRETS.items():
        written = quote(secret, safe="") if name == "query" else secret
        if name == "user":
            written = base64.b64encode(f"me:{secret}".encode()).decode()
        assert any(written.encode() in request for request in service.asked), f"{name} was sent"
    assert service.turn > 38
    ends = set(re.findall(r'"end":"([a-z-]+)"', (directory / "streams.jsonl").read_text("utf-8")))
    assert {"status", "content-type", "protocol", "terminal", "inband-error", "too-big"} <= ends
    names = {Path(name).name for name in everything(ran)}
    assert {
        "report.html",
        "verdict.json",
        "run.log",
        "streams.csv",
        "gap.hgrm",
        "gap.hlog",
        "out.junit",
    } <= names
    found = [name for name, content in everything(ran).items() if PLANTED.encode() in content]
    for place in (
        "streams.jsonl",
        "report.html",
        "verdict.json",
        "streams.csv",
        "out.junit",
        "out.markdown",
        "stdout",
    ):
        assert any(place in name for name in found), f"the search finds the service's words in {place}"


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_nowhere(ran, secret):
    value = SECRETS[secret]
    writings = {
        value,
        html.escape(value),
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        base64.b64encode(f"me:{value}".encode()).decode(),
        value[: len(value) // 2 + 2],
    }
    for name, content in everything(ran).items():
        for writing in writings:
            assert writing.encode() not in content, f"{writing} in {name}"


def test_no_file_and_no_output_holds_what_drives_a_terminal(ran):
    for name, content in everything(ran).items():
        content.decode("utf-8")  # whole UTF-8 everywhere
        for character in FORBIDDEN:
            assert character not in content, f"{character!r} in {name}"


def test_no_printed_line_is_a_command_to_a_ci_server(ran):
    _, _, _, printed = ran
    for name, text in printed.items():
        for line in text.splitlines():
            assert not re.search(r"##\w*\[", line), name
            if line.lstrip().startswith("::"):
                assert re.match(r"::(error|warning|notice) title=[^:,\r\n]*::", line), f"{name}: {line}"


def test_a_check_of_it_steers_no_ci_server_either(tmp_path):
    """Its words stand in the evidence: reason, headers, body."""

    def script(connection: Connection) -> None:
        said = f"{CI} {PLANTED}".encode()
        head = b"HTTP/1.1 500 %b\r\nServer: %b\r\nContent-Type: text/%b\r\nConnection: close\r\n\r\n"
        connection.send(head % (said, said, said) + said)

    with serving(script) as server:
        done = sseproof("check", server.url, cwd=tmp_path)
    assert done.returncode in {0, 1, 2}, done.stderr
    assert PLANTED in done.stdout
    for line in (done.stdout + done.stderr).splitlines():
        assert not line.lstrip().startswith("::")
        assert not re.search(r"##\w*\[", line)


def test_markup_stays_text(ran):
    cwd, directory, _, _ = ran
    report = (directory / "report.html").read_text("utf-8")
    assert report.count("<script") == 1, "the page's own"
    assert f"alert('{PLANTED}')" not in report
    assert "onload=alert" not in re.sub(r"&lt;svg onload=alert", "", report)
    rendered = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render((cwd / "out.markdown").read_text("utf-8"))
    )
    assert set(re.findall(r"<([a-z0-9]+)", rendered)) <= {
        "h2",
        "h3",
        "p",
        "code",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "em",
    }
    suites = ET.fromstring((cwd / "out.junit").read_bytes())
    assert {each.tag for each in suites.iter()} <= {
        *("testsuites", "testsuite", "properties", "property", "testcase", "failure", "error", "system-out"),
    }
    families = list(text_string_to_metric_families((cwd / "out.openmetrics").read_text("utf-8")))
    assert all(family.name.startswith("sse_") for family in families)


def test_no_cell_is_a_formula(ran):
    _, directory, _, _ = ran
    for path in (directory / "export").glob("*.csv"):
        for row in csv.DictReader(io.StringIO(path.read_text("utf-8"))):
            for name, cell in row.items():
                assert not (cell or "").startswith(("=", "+", "@", "\t")), (path.name, name)


def test_what_is_too_much_is_cut(ran):
    cwd, directory, _, _ = ran
    for name, content in everything(ran).items():
        assert len(content) < 2_000_000, name
        assert b"A" * 5_000 not in content, name
    assert "… (cut)" in (directory / "streams.jsonl").read_text("utf-8")
    assert (cwd / "out.markdown").stat().st_size < 100_000
