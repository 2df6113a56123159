"""What a run answers while it lasts: the counts of its file, as soon as the rows are there, whoever asks and however."""

import contextlib
import itertools
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sseproof import live_metrics
from sseproof.chaos.plan import FaultPlan, parse_groups, plan_faults
from sseproof.cli import invoke
from sseproof.live_metrics import CONTENT_TYPE, Endpoint, LiveRun, endpoint, faults_text, planned_faults
from sseproof.reports.facts import all_facts
from sseproof.reports.history import read_history
from sseproof.reports.judge import judge
from sseproof.reports.openmetrics import openmetrics_text
from sseproof.rundir.errors import RigError
from sseproof.rundir.files import BROWSERS, FAULTS, PLAN_NAME, Appender, read_document
from sseproof.rundir.rows import BrowserPlan, BrowserRow, FaultRow, Plan
from tests.reports import made_runs
from tests.reports.conftest import RunBuilder


def samples(content: bytes) -> dict[tuple, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def total(found: dict[tuple, float], name: str, **labels: str) -> float:
    return sum(
        value
        for (told, pairs), value in found.items()
        if told == name and labels.items() <= dict(pairs).items()
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_runs.two_variants(tmp_path_factory.mktemp("made"), 60)


ALWAYS = itertools.count(0.0, 10.0).__next__
"""A clock by which it is always time to look again."""


def live_of(directory, clock=ALWAYS) -> LiveRun:
    return LiveRun(directory, read_document(directory / PLAN_NAME, Plan, "plan"), None, clock)


class TestRows:
    def test_all_rows_give_what_the_file_gives(self, made):
        history = read_history(made)
        history.witness.clear()  # nobody asks a server before the load is over
        facts = all_facts(history)
        file = samples(openmetrics_text(history, facts, judge(history, facts)))
        live = live_of(made)
        live.end("finished")
        found = samples(live.text())
        shared = {name for name, _ in file} & {name for name, _ in found}
        assert {
            *("sse_streams_total", "sse_streams_started_total", "sse_attempts_total", "sse_breaks_total"),
            *("sse_reconnections_total", "sse_events_total", "sse_reconnect_seconds_bucket"),
            *("sse_time_to_first_token_seconds_bucket", "sse_inter_event_gap_seconds_sum", "sse_run_info"),
            *("sse_end_to_end_seconds_count", "sse_generator_within_limit", "sse_fault_active"),
        } <= shared
        assert {name for name, _ in file} - shared == {
            *("sse_run_exit_code", "sse_claim_verdict", "sse_claim_units", "sse_claim_good_units")
        } & {name for name, _ in file}
        for (name, labels), value in found.items():
            if name in shared and not name.endswith("_created"):
                assert file[name, labels] == pytest.approx(value), (name, labels)
        assert total(found, "sse_streams_open") == 0
        assert total(found, "sse_streams_total") == total(found, "sse_streams_started_total") == 120

    def test_it_grows_with_the_rows(self, made, tmp_path):
        shutil.copy(made / PLAN_NAME, tmp_path)
        live = live_of(tmp_path)
        live.update()
        assert total(samples(live.text()), "sse_streams_total") == 0
        files = [path for path in made.iterdir() if path.suffix == ".jsonl"]
        lines = {path.name: path.read_bytes().splitlines(keepends=True) for path in files}
        seen = []
        for part in range(5):
            for name, all_lines in lines.items():
                size = -(-len(all_lines) // 5)
                chunk = b"".join(all_lines[part * size : (part + 1) * size])
                with (tmp_path / name).open("ab") as stream:
                    stream.write(chunk)
            live.update()
            found = samples(live.text())
            started, ended = total(found, "sse_streams_started_total"), total(found, "sse_streams_total")
            assert total(found, "sse_streams_open") == started - ended
            seen.append(ended)
        assert seen == sorted(set(seen))
        assert seen[-1] == 120

    def test_rows_are_read_once_a_second_and_at_the_end(self, made):
        now = 100.0
        live = live_of(made, lambda: now)
        live.update()
        live._streams.new = lambda: pytest.fail("read again")
        now = 100.9
        live.update()
        now = 101.1
        with pytest.raises(pytest.fail.Exception, match="read again"):
            live.update()
        now = 101.2
        with pytest.raises(pytest.fail.Exception, match="read again"):
            live.end("finished")

    def test_the_warm_up_is_left_out(self, tmp_path):
        run = RunBuilder(tmp_path)
        run.stream()
        run.stream(warmup=True)
        run.start(warmup=True)
        run.start()
        run.start(dropped=True)
        run.break_(0, attempts=3)
        run.break_(1, attempts=5)
        run.write()
        run.close()
        live = live_of(run.directory)
        live.update()
        found = samples(live.text())
        assert total(found, "sse_streams_started_total") == 2
        assert total(found, "sse_streams_open") == 1
        assert total(found, "sse_streams_total", outcome="dropped") == 1
        assert total(found, "sse_streams_total") == 2
        assert total(found, "sse_breaks_total") == total(found, "sse_reconnect_seconds_count") == 1
        assert total(found, "sse_reconnections_total") == 3

    @pytest.mark.parametrize("browser", [False, True])
    def test_the_generator_is_held_to_what_the_file_holds_it_to(self, tmp_path, browser):
        """A claim on short times narrows a limit, and pages have indicators of their own."""
        run = RunBuilder(tmp_path)
        run.claims("gap p99 <= 250ms")
        run.stream()
        run.generator(read_lag_p99_ns=13_000_000, loop_lag_max_ns=20_000_000)
        if browser:
            run.plan.variants[0].name = "firefox"
            run.plan.variants[0].browser = BrowserPlan(name="firefox", client="eventsource", at_once=1)
            run.append(
                BROWSERS,
                BrowserRow(variant="firefox", at_ns=1, resolution_ns=1, length_ns=1, frames=1, hidden=True),
            )
        history = read_history(run.write())
        run.close()
        facts = all_facts(history)
        file = samples(openmetrics_text(history, facts, judge(history, facts)))
        live = live_of(run.directory)
        live.update()
        found = samples(live.text())
        name = "sse_generator_within_limit"
        there = {labels: value for (told, labels), value in found.items() if told == name}
        assert there == {labels: file[name, labels] for labels in there}
        late = "pages not in front" if browser else "read lag p99, worst second"
        assert there[(("indicator", late),)] == 0

    def test_damage_is_passed_over(self, made, tmp_path):
        for path in made.iterdir():
            if path.is_file():
                shutil.copy(path, tmp_path)
        for name in ("streams", "starts", "breaks", "faults", "generator"):
            with (tmp_path / f"{name}.jsonl").open("ab") as stream:
                stream.write(b'{"stream": 7, \xff\n[]\n{}\n')
        live = live_of(tmp_path)
        live.update()
        assert total(samples(live.text()), "sse_streams_total") == 120

    def test_only_so_many_seconds_of_generators_are_kept(self, made):
        live = live_of(made)
        live.update()
        row = live._generators.rows[-1]
        for _ in range(live._generators.rows.maxlen + 5):
            live._generators.add(row)
        assert len(live._generators.rows) == live._generators.rows.maxlen


def plan_of_faults() -> FaultPlan:
    groups = parse_groups(
        [
            {"kind": "latency", "share": "20%", "delay": "20ms"},
            {"kind": "refused", "share": "30%", "after": "1s", "duration": "1s", "name": "away"},
        ]
    )
    upstreams = {"before": "127.0.0.1:1", "after": "127.0.0.1:2"}
    return plan_faults(
        groups, run="r", seed=7, upstreams=upstreams, connect_ns=1_000_000, at_once=10, load_ms=5_000
    )


class TestFaults:
    def test_every_planned_fault_is_there_before_it_acts(self):
        assert planned_faults(plan_of_faults()) == [
            ("away", "refused", "after"),
            ("away", "refused", "before"),
            ("latency", "latency", "after"),
            ("latency", "latency", "before"),
        ]
        assert planned_faults(None) == []

    def test_a_fault_is_active_from_its_call_to_its_healing(self, tmp_path):
        plan = Plan(run="r", scenario="s", seed=7, created_ns=1, gap_edges_ns=[1])
        rows: list[FaultRow] = []

        def active(variant: str) -> float:
            found = samples(faults_text(plan, plan_of_faults(), rows))
            return found["sse_fault_active", (("group", "away"), ("toxic", "refused"), ("variant", variant))]

        assert (active("after"), active("before")) == (0, 0)
        told = {"fault": "away", "kind": "refused", "group": "away", "window": 1, "variant": "after"}
        rows.append(FaultRow(at_ns=2, step="applied", call_sent_ns=2, call_answered_ns=3, ok=True, **told))
        assert (active("after"), active("before")) == (1, 0)
        rows.append(FaultRow(at_ns=5, step="healed", call_sent_ns=5, call_answered_ns=6, ok=True, **told))
        assert active("after") == 0

    def test_they_come_from_the_journal(self, made, tmp_path):
        shutil.copy(made / PLAN_NAME, tmp_path)
        plan = read_document(tmp_path / PLAN_NAME, Plan, "plan")
        live = LiveRun(tmp_path, plan, plan_of_faults(), ALWAYS)
        live.update()
        assert total(samples(live.text()), "sse_fault_active") == 0
        journal = Appender(tmp_path, FAULTS, plan.run)
        journal.append(
            FaultRow(
                at_ns=2,
                fault="latency",
                step="applied",
                kind="latency",
                group="latency",
                variant="after",
                ok=True,
            )
        )
        journal.close()
        live.update()
        assert total(samples(live.text()), "sse_fault_active", group="latency", variant="after") == 1
        assert total(samples(live.text()), "sse_fault_active") == 1


@pytest.fixture
def opened() -> Iterator[Endpoint]:
    opened = Endpoint(0)
    yield opened
    opened.close()


def port_of(opened: Endpoint) -> int:
    return int(opened.url.split(":")[2].split("/")[0])


class TestEndpoint:
    def test_it_answers_what_there_is_now(self, opened):
        with urllib.request.urlopen(opened.url) as reply:
            assert reply.headers["Content-Type"] == CONTENT_TYPE
            assert reply.read() == b"# EOF\n"
        opened.text = lambda: b"a 1\n# EOF\n"
        with urllib.request.urlopen(f"{opened.url}?x=1") as reply:
            assert reply.read() == b"a 1\n# EOF\n"
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(opened.url.replace("/metrics", "/"))
        refused.value.close()

    def test_it_listens_on_loopback_alone(self, opened):
        assert opened._server.server_address[0] == "127.0.0.1"

    def test_who_asks_for_ever_is_closed_and_keeps_nobody_out(self, monkeypatch, capfd):
        monkeypatch.setattr(live_metrics, "PATIENCE_S", 0.3)
        monkeypatch.setattr(live_metrics._Handler, "timeout", 0.3)
        opened = Endpoint(0)
        with contextlib.closing(opened), socket.create_connection(("127.0.0.1", port_of(opened))) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
            ends = time.monotonic() + 5
            with contextlib.suppress(OSError):
                while time.monotonic() < ends:  # never silent for as long as one read may take
                    slow.sendall(b"X: y\r\n")
                    time.sleep(0.05)
            assert time.monotonic() < ends
            for rubbish in (b"\x00\xff\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b""):
                with socket.create_connection(("127.0.0.1", port_of(opened))) as other:
                    other.sendall(rubbish)
                    other.shutdown(socket.SHUT_WR)
                    while other.recv(4096):
                        pass
            with urllib.request.urlopen(opened.url) as reply:
                assert reply.status == 200
        assert capfd.readouterr() == ("", "")

    def test_a_port_that_is_taken_is_refused_and_a_closed_one_is_free(self, opened):
        port = port_of(opened)
        with pytest.raises(RigError, match=rf"^metrics_port {port} .*give another, or 0 for a free one\.$"):
            Endpoint(port)
        said: list[str] = []
        with endpoint(None, said.append) as none:
            assert none is None
        with endpoint(0, said.append) as other:
            assert said == [f"Live metrics: {other.url}"]
        with endpoint(port_of(other), said.append):
            pass


@pytest.mark.parametrize(
    ("options", "variable", "words"),
    [
        (
            ["--set", "metrics_port=70000"],
            None,
            "--set metrics_port: metrics_port is 70000; give 1 to 65535, or 0",
        ),
        (["--set", "metrics_port=x"], None, "expected a whole number"),
        ([], "-1", "SSEPROOF_METRICS_PORT: metrics_port is -1;"),
        (["--metrics-port", "70000"], None, "'--metrics-port': 70000 is not in the range"),
    ],
)
def test_a_port_that_is_none_is_refused(monkeypatch, capsys, options, variable, words):
    if variable is not None:
        monkeypatch.setenv("SSEPROOF_METRICS_PORT", variable)
    assert invoke(["run", "--target", "http://127.0.0.1:9/", "--streams", "1", "--dry-run", *options]) == 64
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


@pytest.mark.parametrize("command", [["run"], ["demo"], ["browsers"], ["chaos", "run"]])
def test_every_command_that_runs_takes_it(capsys, command):
    assert invoke([*command, "--help"]) == 0
    assert "--metrics-port" in capsys.readouterr().out


def test_the_plan_of_faults_is_what_a_run_writes():
    """`planned_faults` reads the planner's own struct: the same after its way through plan.json."""
    plan = plan_of_faults()
    again = msgspec.json.decode(msgspec.json.encode(plan), type=FaultPlan)
    assert planned_faults(again) == planned_faults(plan)
