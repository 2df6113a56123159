"""Every option and every scenario key acts, seen from outside: through the command line, in what the target received and
in the rows; and a hostile target reaches neither the terminal nor the page nor the memory.
"""

import itertools
import json
import re
import shutil
import ssl
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trustme

from sseproof.rundir.files import GENERATOR, STREAMS, Appender
from sseproof.rundir.rows import GeneratorRow
from tests.integration.suite import (
    claims,
    directory_of,
    rows,
    served,
    sseproof,
    verdict_of,
)
from tests.loadtests.rawserver import CLOSE_HEAD, Connection, event, serving

pytestmark = pytest.mark.integration

DONE = event("bye", type_="done")
ANSWER = (
    CLOSE_HEAD + b"".join(event(f'{{"text":"t{n}"}}', type_="delta", number=n) for n in range(1, 5)) + DONE
)


def answer(connection: Connection) -> None:
    """Four numbered events and the end."""
    connection.send(ANSWER)


def after_the_look(script: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """A healthy answer for the look before the run, then the script."""

    def chosen(connection: Connection) -> None:
        (answer if connection.number == 1 else script)(connection)

    return chosen


def run(cwd: Path, url: str, *options: str, environ: dict[str, str] | None = None):
    """A run of few streams; its exit code is the test's own business."""
    return sseproof("run", "--target", url, "--users", "1", "--quiet", *options, cwd=cwd, environ=environ)


def records(cwd: Path) -> list:
    return rows(directory_of(cwd), STREAMS)


def sets(**keys: str) -> list[str]:
    """`client__retries="1"` as `--set client.retries=1`."""
    return [word for key, value in keys.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]


# --- the request -----------------------------------------------------------------------------------------------------------


def test_method_headers_and_body_reach_the_target(tmp_path):
    (tmp_path / "question.json").write_text('{"question": "why"}')
    with serving(answer) as server:
        options = ["--streams", "1", "--method", "POST", "--header", "X-Device: phone"]
        done = run(tmp_path, server.url, *options, "--body", "@question.json")
        for connection in server.connections:
            assert connection.request_line == "POST /stream HTTP/1.1", done.stderr
            assert connection.header("x-device") == "phone"
            assert connection.header("content-type") == "application/json"
            assert connection.header("accept-encoding") == "identity"
            assert connection.body == b'{"question": "why"}'
    assert [row.outcome for row in records(tmp_path)] == ["complete"]


@pytest.mark.parametrize("trust", ["ca", "insecure"])
def test_tls_by_a_private_authority_under_another_address(tmp_path, trust):
    """`connect_to` dials elsewhere; certificate, SNI and Host stay those of the URL."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("feed.example.com").configure_cert(context)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    how = sets(target__ca="ca.pem") if trust == "ca" else sets(target__insecure="true")
    with serving(answer, tls=context) as server:
        options = ["--streams", "2", *sets(target__connect_to=f"127.0.0.1:{server.port}"), *how]
        done = run(tmp_path, "https://feed.example.com/stream", *options)
        assert done.returncode == 0, done.stderr
        assert {connection.header("host") for connection in server.connections} == {"feed.example.com"}
    assert set(asked) == {"feed.example.com"}
    assert [row.outcome for row in records(tmp_path)] == ["complete", "complete"]
    said = any("certificate" in problem for problem in verdict_of(directory_of(tmp_path)).problems)
    assert said == (trust == "insecure"), "a certificate that nobody checked is said in the report"


@pytest.mark.parametrize("asked", [False, True])
def test_gzip_only_when_it_is_asked_for(tmp_path, asked):
    def script(connection: Connection) -> None:
        wanted = connection.header("accept-encoding")
        if wanted != "gzip":
            connection.send(ANSWER)
            return
        packer = zlib.compressobj(wbits=31)
        body = ANSWER.removeprefix(CLOSE_HEAD)
        head = CLOSE_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        connection.send(head + packer.compress(body) + packer.flush())

    with serving(script) as server:
        run(tmp_path, server.url, "--streams", "1", *sets(target__gzip=str(asked).lower()))
    (row,) = records(tmp_path)
    assert (row.outcome, row.attempts[0].gzip) == ("complete", asked)


# --- how events are read ---------------------------------------------------------------------------------------------------

NUMBERED = [b'data: {"n":%d,"at":1790000000.5,"said":{"it":"ab"}}\n\n' % n for n in (1, 2, 4)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {},
            {
                "lost": None,
                "outcome": "complete",
                "text_chars": 3 * len(NUMBERED[0].strip()) - 18,
                "aged": False,
            },
        ),
        ({"target__sequence": "json:n"}, {"lost": 1, "outcome": "damaged"}),
        ({"target__sequence": "none"}, {"lost": None, "outcome": "complete"}),
        ({"target__text": "json:said.it"}, {"text_chars": 6}),
        ({"target__sent_at": "json:at"}, {"aged": True}),
        ({"target__terminal": "event:done"}, {"outcome": "truncated"}),
        ({"target__terminal": "none"}, {"outcome": "complete"}),
    ],
    ids=lambda value: " ".join(f"{key}={each}" for key, each in value.items()),
)
def test_the_words_for_events_are_heeded(tmp_path, keys, expected):
    with serving(lambda connection: connection.send(CLOSE_HEAD + b"".join(NUMBERED))) as server:
        done = run(tmp_path, server.url, "--streams", "1", *sets(**({"client__retries": "0"} | keys)))
    assert done.returncode == 0, done.stderr
    (row,) = records(tmp_path)
    found = {
        "lost": row.lost,
        "outcome": row.outcome,
        "text_chars": row.text_chars,
        "aged": row.ages is not None,
    }
    assert found | expected == found


@pytest.mark.parametrize(("kind", "outcome"), [("answer", "complete"), ("subscription", "truncated")])
def test_a_clean_end_means_what_the_kind_says(tmp_path, kind, outcome):
    """Until admission ends, a subscription that the target closes is open no more; an answer without a marker is over."""
    with serving(lambda connection: connection.send(CLOSE_HEAD + b"".join(NUMBERED))) as server:
        options = ["--duration", "2s", *sets(target__kind=kind, client__retries="0", load__think="300ms")]
        run(tmp_path, server.url, *options)
    assert {row.outcome for row in records(tmp_path)[:3]} == {outcome}


# --- the load --------------------------------------------------------------------------------------------------------------


def test_think_time_lies_between_two_streams(tmp_path):
    with serving(answer) as server:
        run(tmp_path, server.url, "--streams", "3", *sets(load__think="700ms"))
    began = records(tmp_path)
    pauses = [after.dispatched.ns - before.ended.ns for before, after in itertools.pairwise(began)]
    assert len(pauses) == 2
    assert min(pauses) >= 690_000_000


def test_streams_beyond_the_drain_limit_are_unfinished_and_decide_nothing(tmp_path):
    def endless(connection: Connection) -> None:
        connection.send(CLOSE_HEAD + event("a", number=1))
        connection.until_gone()

    with serving(after_the_look(endless)) as server:
        options = ["--duration", "1s", *sets(load__drain="1s"), *claims("success >= 5%")]
        done = run(tmp_path, server.url, *options)
    assert done.returncode == 2, done.stdout
    assert [row.outcome for row in records(tmp_path)] == ["unfinished"]
    assert "1 stream did not end within the run." in done.stdout


@pytest.mark.parametrize(
    ("key", "head", "end"),
    [
        ("headers", b"", "headers-timeout"),
        ("first_event", CLOSE_HEAD, "first-event-timeout"),
        ("idle", CLOSE_HEAD + event("a", number=1), "idle-timeout"),
        ("total", CLOSE_HEAD + event("a", number=1), "total-timeout"),
    ],
)
def test_each_time_out_acts_alone(tmp_path, key, head, end):
    def silent(connection: Connection) -> None:
        connection.send(head)
        connection.until_gone()

    with serving(after_the_look(silent)) as server:
        options = ["--streams", "1", *sets(**{f"client__timeouts__{key}": "600ms", "client__retries": "0"})]
        run(tmp_path, server.url, *options)
    (row,) = records(tmp_path)
    assert (row.outcome, row.end) == ("stalled", end)
    lasted = row.ended.ns - row.dispatched.ns
    assert 590_000_000 <= lasted < 5_000_000_000


@pytest.mark.parametrize(
    ("keys", "attempts", "outcome"),
    [
        (["--profile", "legacy"], 1, "cut"),
        (["--profile", "browser"], 2, "complete"),
        (["--profile", "resilient"], 2, "complete"),
        (sets(client__on_cut="give-up"), 1, "cut"),
        (sets(client__on_cut="restart"), 2, "complete"),
        (sets(client__retries="0"), 1, "cut"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_a_client_does_after_a_cut(tmp_path, keys, attempts, outcome):
    def cut_once(connection: Connection) -> None:
        if connection.header("last-event-id") is None and connection.number == 2:
            connection.send(CLOSE_HEAD.replace(b"Connection: close", b"Content-Length: 9999"))
            connection.send(b"retry: 40\n" + event('{"text":"t1"}', type_="delta", number=1))
            return
        first = int((connection.header("last-event-id") or "s-0").rpartition("-")[2]) + 1
        tail = [event(f'{{"text":"t{n}"}}', type_="delta", number=n) for n in range(first, 5)]
        connection.send(CLOSE_HEAD + b"".join(tail) + DONE)

    with serving(after_the_look(cut_once)) as server:
        run(tmp_path, server.url, "--streams", "1", *keys)
        resumed = [connection.header("last-event-id") for connection in server.connections[2:]]
    (row,) = records(tmp_path)
    assert (row.attempts_total, row.outcome) == (attempts, outcome)
    if attempts > 1:
        assert resumed == ([None] if "client.on_cut=restart" in keys else ["s-1"])


def test_max_requests_ends_streams_that_are_ours_to_answer_for(tmp_path):
    def refuse(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    with serving(after_the_look(refuse)) as server:
        options = ["--duration", "20s", "--max-requests", "7", *sets(client__backoff="1ms")]
        done = run(tmp_path, server.url, *options, *claims("success >= 1%"))
        assert len(server.connections) == 8, "the look before the run, and seven"
    assert sum(row.attempts_total for row in records(tmp_path)) == 7
    assert done.returncode in {1, 2}, done.stdout


# --- the rest of the command line --------------------------------------------------------------------------------------------


def test_the_options_around_a_run(tmp_path):
    """Labels, seed, variables, folder, and unknown claims as a warning; standard output holds JSON and nothing else."""
    with serving(answer) as server:
        options = ["--label", "release=candidate", "--seed", "4711", "--on-unknown", "warn", "--out", "kept"]
        done = run(
            tmp_path,
            server.url,
            *options,
            "--json",
            *claims("success >= 98%"),
            environ={"SSEPROOF_LOAD_STREAMS": "3", "SSEPROOF_NAME": "nightly"},
        )
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["labels"] == {"release": "candidate"}
    assert (verdict["seed"], verdict["scenario"], verdict["totals"]["streams"]) == (4711, "nightly", 3)
    assert verdict["verdicts"][0]["verdict"] == "unknown"
    (directory,) = [path for path in (tmp_path / "kept" / "nightly").iterdir() if not path.is_symlink()]
    assert directory.name.endswith("-4711")


@pytest.mark.parametrize(
    "command",
    [
        ["setup", "--check", "--json"],
        ["demo", "--dry-run", "--json"],
        ["run", "--target", "http://127.0.0.1:9/", "--dry-run", "--json"],
    ],
    ids=" ".join,
)
def test_json_is_all_that_standard_output_holds(tmp_path, command):
    done = sseproof(*command, cwd=tmp_path)
    assert json.loads(done.stdout), done.stderr
    assert "invalid" not in done.stdout, "no stand-in of ours is shown"


def test_claims_whose_metric_has_no_data_are_unknown(tmp_path):
    def nothing(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")

    wanted = [
        "gap p99 <= 1s",
        "reconnect p95 <= 1s",
        "recovery = 100%",
        "lost = 0",
        "doubled = 0",
        "utf8 = 100%",
    ]
    with serving(after_the_look(nothing)) as server:
        done = run(tmp_path, server.url, "--streams", "80", *claims(*wanted))
    found = verdict_of(directory_of(tmp_path)).verdicts
    by_metric = {verdict.metric: verdict.verdict for verdict in found}
    assert "pass" not in by_metric.values(), done.stdout
    assert by_metric["lost"] == by_metric["utf8"] == by_metric["doubled"] == "unknown"
    assert done.returncode in {1, 2}


# --- a hostile target --------------------------------------------------------------------------------------------------------

HOSTILE = "\x1b[31mred\x1b]0;title\x07\u202etxet\u2066<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_what_a_target_says_moves_no_cursor_and_runs_no_script(tmp_path):
    said = HOSTILE.encode()
    length = str(len(said)).encode()
    answers = itertools.cycle(
        [
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: "
            + length
            + b"\r\n\r\n"
            + said,
            CLOSE_HEAD + b"event: error\ndata: " + said + b"\n\n",
            CLOSE_HEAD + b"id: " + said + b"\nevent: " + said + b"\ndata: " + said + b"\n\n" + DONE,
        ]
    )
    with serving(after_the_look(lambda connection: connection.send(next(answers)))) as server:
        options = ["--streams", "6", *claims("success >= 98%", "utf8 = 100%")]
        done = run(tmp_path, f"{server.url}?q=%1b%3Cscript%3E", *options)
    assert done.returncode == 1, done.stderr
    shown = done.stdout + done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert "HTTP 404" in shown, "the answer says what the first bad stream met"
    page = (directory_of(tmp_path) / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    for path in directory_of(tmp_path).iterdir():
        assert b"\x1b" not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    "place", ["http://192.0.2.1/x", "http://elsewhere.example/x", "https://user@192.0.2.1:8443/x"]
)
def test_a_redirect_to_a_host_nobody_allowed_is_not_followed(tmp_path, place):
    def elsewhere(connection: Connection) -> None:
        connection.send(f"HTTP/1.1 307 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

    with serving(after_the_look(elsewhere)) as server:
        run(tmp_path, server.url, "--streams", "2")
    for row in records(tmp_path):
        assert (row.outcome, row.end, row.attempts_total) == ("error-http", "status", 1)
        assert "which nobody allowed" in row.detail
        assert row.attempts[0].address.startswith("127.0.0.1:")


def test_an_endless_event_and_endless_headers_are_cut_off(tmp_path):
    def endless(connection: Connection) -> None:
        head = CLOSE_HEAD + b"data: " if connection.number % 2 else b"HTTP/1.1 200 OK\r\nX-Filler: "
        connection.send(head)
        while True:
            connection.send(b"a" * 65_536)

    with serving(after_the_look(endless)) as server:
        run(tmp_path, server.url, "--streams", "2", *sets(client__retries="0"))
    ends = {row.end: row for row in records(tmp_path)}
    assert set(ends) == {"too-big", "protocol"}
    assert ends["too-big"].body_bytes < 18 * 1024 * 1024


def test_more_pending_than_a_process_may_hold_is_our_own_error(tmp_path):
    """40 streams with 10 MB of an unfinished event each: the largest are stopped, and the answer says by whom."""
    gone: list[int] = []
    over = threading.Event()

    def pending(connection: Connection) -> None:
        """Goes on when 26 are left, which may be pending at once."""
        try:
            connection.send(CLOSE_HEAD + b"data: " + b"a" * 10_000_000)
            connection.sock.settimeout(0.05)
            while not over.is_set():
                with suppress(TimeoutError):
                    if not connection.sock.recv(1):
                        raise ConnectionResetError
        except ConnectionError:
            gone.append(connection.number)
            if len(gone) >= 14:
                over.set()
        else:
            connection.sock.settimeout(20)
            connection.send(b"\n\n" + DONE)

    with serving(after_the_look(pending)) as server:
        options = ["--users", "40", "--streams", "40", *sets(client__retries="0")]
        done = run(tmp_path, server.url, *options, *claims("success >= 98%"))
    outcomes = verdict_of(directory_of(tmp_path)).totals.outcomes
    assert set(outcomes) <= {"complete", "unfinished"}, done.stdout
    assert outcomes["unfinished"] >= 14
    assert done.returncode == 2
    assert "256 MiB" in " ".join(done.stdout.split())


# --- judging a record ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run: first tokens at 200 ms, 80 streams."""
    cwd = tmp_path_factory.mktemp("recorded")
    with served() as url:
        options = ["--users", "20", "--streams", "80", *claims("success >= 95%", "ttft p95 <= 5s")]
        done = sseproof(
            "run", "--target", f"{url}?first_token_ms=200&events=4&interval_ms=5", *options, cwd=cwd
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory_of(cwd)


def judged(recorded: Path, tmp_path: Path, damage: Callable[[Path], object]):
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    damage(copy)
    return sseproof("judge", "copy", "--json", cwd=tmp_path)


def step(copy: Path) -> None:
    """The clock jumped back by 8 s while the streams ran."""
    seen = rows(copy, GENERATOR)[-1]
    first = min(row.dispatched.ns for row in rows(copy, STREAMS))
    row = GeneratorRow(
        at_ns=seen.at_ns,
        worker=0,
        interval_ns=seen.at_ns - first + 1_000_000_000,
        clock_step_ns=-8_000_000_000,
    )
    Appender(copy, GENERATOR, msgspec.json.decode((copy / "plan.json").read_bytes())["run"]).append(row)


def test_a_clock_step_makes_only_the_claim_unknown_that_it_could_turn(recorded, tmp_path):
    success, ttft = json.loads(judged(recorded, tmp_path, step).stdout)["verdicts"]
    assert (success["verdict"], ttft["verdict"], ttft["code"]) == ("pass", "unknown", "rig-late")


def lines(name: str, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    def damage(copy: Path) -> None:
        path = copy / name
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return damage


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda copy: (copy / "streams.jsonl").unlink(), 2),
        (lambda copy: (copy / "starts.jsonl").unlink(), 2),
        (lines("streams.jsonl", lambda rows: rows[:1]), 2),
        (lines("streams.jsonl", lambda rows: [*rows[:-1], rows[-1][:-50]]), 2),
        (lines("streams.jsonl", lambda rows: []), 2),
        (lambda copy: [lines(name, lambda rows: rows[:1])(copy) for name in ("starts.jsonl", "streams.jsonl")], 2),
        (lines("streams.jsonl", lambda rows: [rows[0].replace(b'"run":"', b'"run":"other-'), *rows[1:]]), 64),
        (lines("plan.json", lambda rows: [row.replace(b'"url": "', b'"url": 5, "x": "') for row in rows]), 64),
        (lambda copy: (copy / "plan.json").unlink(), 64),
        (lambda copy: [(copy / "streams.jsonl").unlink(), (copy / "streams.jsonl").mkdir()], 2),
    ],
    ids=["no streams", "no starts", "no rows", "torn", "empty", "no stream at all", "another run's", "bad plan",
         "no plan", "a folder"],
)  # fmt: skip  # a table
def test_no_damage_to_the_record_makes_a_claim_pass(recorded, tmp_path, damage, code):
    done = judged(recorded, tmp_path, damage)
    assert done.returncode == code, done.stdout + done.stderr
    assert "broke" not in done.stderr
    if code == 2:
        assert {verdict["verdict"] for verdict in json.loads(done.stdout)["verdicts"]} == {"unknown"}
    else:
        assert done.stdout == ""
