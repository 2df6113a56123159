"""`sseproof run` against the real reference server: figures, known answers, a gentle end."""

import json
import socket

import pytest

from sseproof.rundir.files import PLAN_NAME, RUN_NAME, STARTS, STREAMS, lines_of, read_document
from sseproof.rundir.rows import SUCCESSES, Plan, RunInfo
from tests.integration.suite import (
    claims,
    directory_of,
    numbers,
    rows,
    served,
    sseproof,
    verdict_of,
    verdicts_of,
    witnesses,
)

pytestmark = pytest.mark.integration


def test_the_first_run_of_a_newcomer(tmp_path):
    """50 users for 10 s: exit 0, enough streams for 98 %, and the figures agree with the witness to the stream."""
    wanted = ["success >= 98%", "ttft p95 <= 1s", "utf8 = 100%"]
    with served() as url:
        done = sseproof(
            "run", "--target", url, "--users", "50", "--duration", "10s", *claims(*wanted), cwd=tmp_path
        )
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    verdict = verdict_of(directory)
    assert [(v.claim, v.verdict) for v in verdict.verdicts] == [(text, "pass") for text in wanted]
    success = verdict.verdicts[0]
    assert success.n >= 149
    assert success.k == success.n
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert str(directory.name) in done.stdout or "latest" in done.stdout

    streams = rows(directory, STREAMS)
    began, ended = numbers(directory)
    assert began == ended == sorted({row.stream for row in streams})
    by_truth = {row.truth_id: row for row in witnesses(directory)}
    assert set(by_truth) == {row.truth_id for row in streams}
    for row in streams:
        seen = by_truth[row.truth_id]
        assert seen.end == "done"
        assert [tuple(pair) for pair in row.ids] == [tuple(pair) for pair in seen.written]
        assert row.text_chars == seen.written_text_chars
        assert row.lost == row.doubled == row.fffd == 0
        assert row.sent.lo_ns <= row.headers.hi_ns
        assert row.first_token.hi_ns >= seen.first_token_write.lo_ns
    assert read_document(directory / RUN_NAME, RunInfo, "run").how == "finished"
    assert "The load is over. Next: ask the server what it sent, judge what was recorded." in done.stderr

    before = (directory / "verdict.json").read_bytes()
    again = sseproof("judge", str(directory), cwd=tmp_path)
    assert again.returncode == 0
    assert (directory / "verdict.json").read_bytes() == before


def test_a_fixed_number_of_streams_over_two_workers(tmp_path):
    with served() as url:
        address = f"{url}?events=4&interval_ms=5"
        options = ["--streams", "61", "--users", "8", "--workers", "2", "--seed", "7", "--json"]
        done = sseproof("run", "--target", address, *options, *claims("success >= 90%"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    began, ended = numbers(directory)
    assert began == ended == list(range(61))
    assert {row.worker for row in rows(directory, STARTS)} == {0, 1}
    plan = read_document(directory / PLAN_NAME, Plan, "plan")
    assert (plan.seed, plan.workers, plan.claims[0].planned_n) == (7, 2, 61)
    info = read_document(directory / RUN_NAME, RunInfo, "run")
    assert info.lines == lines_of(directory)
    assert info.command.count("--seed") == 1
    assert lines_of(directory)["witness"] == 62
    assert done.stdout == (directory / "verdict.json").read_text("utf-8")


def test_a_normal_end_accuses_nobody(tmp_path):
    """Healthy 10 s streams are still open when admission ends: they drain, and all of them are good."""
    with served() as url:
        address = f"{url}?events=102&interval_ms=100"
        options = ["--users", "20", "--duration", "8s", "--set", "target.kind=answer"]
        done = sseproof(
            "run", "--target", address, *options, *claims("success >= 90%", "lost = 0"), cwd=tmp_path
        )
    assert verdict_of(directory_of(tmp_path)).totals.outcomes == {
        "complete": len(numbers(directory_of(tmp_path))[0])
    }
    assert done.returncode in {0, 2}, done.stdout + done.stderr
    assert "fail" not in verdicts_of(directory_of(tmp_path)).values()


def test_an_endless_feed_is_held(tmp_path):
    with served() as url:
        options = ["--users", "60", "--duration", "5s"]
        done = sseproof(
            "run",
            "--target",
            f"{url}?script=endless&interval_ms=50",
            *options,
            *claims("success >= 95%", "lost = 0"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = verdict_of(directory_of(tmp_path)).totals.outcomes
    assert outcomes == {"held": 60}


def test_a_run_of_one_second_streams_keeps_max_requests(tmp_path):
    with served() as url:
        options = ["--users", "5", "--duration", "20s", "--max-requests", "12"]
        sseproof("run", "--target", f"{url}?events=4&interval_ms=5", *options, cwd=tmp_path)
    directory = directory_of(tmp_path)
    streams = rows(directory, STREAMS)
    assert sum(row.attempts_total for row in streams) == 12
    assert {row.outcome for row in streams} == {"complete"}


LOCUSTFILE = """
from locust import task
from sseproof import SSEUser


class Mine(SSEUser):
    @task
    def ask(self):
        record = self.sse.post(json={"question": "why", "events": 5, "interval_ms": 5}, name="mine")
        assert record.outcome == "complete", record.outcome
        with self.sse.open("GET", "/api/v1/stream/chat?events=5&interval_ms=5", name="reader") as stream:
            texts = [event.data for event in stream if event.type == "delta"]
        assert len(texts) == 5, texts
        with self.sse.open("GET", "/api/v1/stream/chat?events=50&interval_ms=20", name="leaver") as stream:
            for event in stream:
                if event.type == "delta":
                    break
"""


def test_your_own_locustfile(tmp_path):
    (tmp_path / "mine.py").write_text(LOCUSTFILE)
    with served() as url:
        options = ["--users", "2", "--duration", "3s", "--locustfile", "mine.py"]
        done = sseproof("run", "--target", url, *options, *claims("success >= 5%"), cwd=tmp_path)
    directory = directory_of(tmp_path)
    streams = rows(directory, STREAMS)
    outcomes = {
        name: {row.outcome for row in streams if row.name == name} for name in ("mine", "reader", "leaver")
    }
    assert outcomes["mine"] == outcomes["reader"] == {"complete"}, done.stdout + done.stderr
    assert outcomes["leaver"] == {"unfinished"}
    assert {row.end for row in streams if row.name == "leaver"} == {"stopped"}


LISTENING = """
import json
from locust import events, task
from sseproof import SSEUser


class Mine(SSEUser):
    @task
    def ask(self):
        self.sse.request(name="whole")
        with self.sse.open("GET", name="read") as stream:
            list(stream)


@events.request.add_listener
def note(request_type, name, response_time, response_length, exception, context, **_):
    with open("requests.jsonl", "a") as file:
        row = [request_type, name, response_time, response_length, exception and str(exception), context["stream"]]
        print(json.dumps(row), file=file, flush=True)
"""


def test_locust_gets_one_request_event_a_stream_and_failures_are_bad_outcomes(tmp_path):
    (tmp_path / "mine.py").write_text(LISTENING)
    with served("--misbehave", "truncate", "--misbehave-share", "0.5", "--seed", "3") as url:
        options = ["--users", "4", "--streams", "40", "--locustfile", "mine.py", "--set", "client.retries=0"]
        done = sseproof("run", "--target", f"{url}?events=6&interval_ms=5", *options, cwd=tmp_path)
    streams = {row.stream: row for row in rows(directory_of(tmp_path), STREAMS)}
    told = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert sorted(number for *_, number in told) == sorted(streams) == list(range(40)), (
        done.stdout + done.stderr
    )
    bad = {number: row.outcome for number, row in streams.items() if row.outcome not in SUCCESSES}
    assert 5 < len(bad) < 35
    assert {number: failure for *_, failure, number in told if failure is not None} == bad
    for kind, name, ms, length, _, number in told:
        row = streams[number]
        assert (kind, name, length) == ("SSE", row.name, row.body_bytes)
        assert ms == pytest.approx((row.first_token.ns - row.sent.ns) / 1e6)


SHORT_LIVED = """
from locust import task
from locust.exception import StopUser
from sseproof import SSEUser


class Brief(SSEUser):
    @task
    def ask(self):
        self.sse.get(name="brief")
        raise StopUser
"""


def test_users_who_all_stop_early_end_the_run(tmp_path):
    """Nobody is left to take the rest of the hundred streams: the run ends with what there is."""
    (tmp_path / "brief.py").write_text(SHORT_LIVED)
    with served() as url:
        options = ["--users", "5", "--workers", "2", "--streams", "100", "--locustfile", "brief.py"]
        done = sseproof(
            "run",
            *["--target", f"{url}?events=4&interval_ms=5", *options],
            *claims("success >= 98%"),
            cwd=tmp_path,
        )
    directory = directory_of(tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert {row.outcome for row in rows(directory, STREAMS)} == {"complete"}
    assert len(rows(directory, STREAMS)) == 5
    assert "every user stopped" in (directory / "run.log").read_text()


def test_proxies_of_the_environment_are_ignored(tmp_path):
    """By the look, by the load and when the witness is asked: nobody connects to the proxy that is named."""
    with served() as url, socket.create_server(("127.0.0.1", 0)) as proxy:
        place = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        environ = {each: place for name in names for each in (name, name.upper())} | {
            "NO_PROXY": "",
            "no_proxy": "",
        }
        address = f"{url}?events=4&interval_ms=5"
        done = sseproof(
            *["run", "--target", address, "--users", "2", "--streams", "4"], cwd=tmp_path, environ=environ
        )
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(tmp_path)
    assert {row.outcome for row in rows(directory, STREAMS)} == {"complete"}
    assert len(witnesses(directory)) == 4


def test_json_and_quiet_leave_standard_error_alone(tmp_path):
    with served() as url:
        address = f"{url}?events=4&interval_ms=5"
        done = sseproof(
            "run", "--target", address, "--users", "2", "--streams", "4", "--json", "--quiet", cwd=tmp_path
        )
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("{")
    directory = directory_of(tmp_path)
    seed = read_document(directory / PLAN_NAME, Plan, "plan").seed
    repeat = read_document(directory / RUN_NAME, RunInfo, "run").command
    assert repeat[-3:] == ["--quiet", "--seed", str(seed)], "nobody chose it, and a repetition needs it"


def test_a_dry_run_sends_nothing(tmp_path):
    target = "http://no-such-host.invalid/stream"
    options = ["--streams", "420", "--users", "5", "--dry-run"]
    done = sseproof(
        "run", "--target", target, *options, *claims("success >= 98%", "reconnect p95 < 1s"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "420 streams planned: 3 may fail" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not (tmp_path / "runs").exists()
