"""The report's own deployment, Flask under gunicorn: its failure as `check` and a load run see it, and the way out.

gunicorn's time-out is shortened, so that this takes seconds; everything else is what `make demo-flask` does.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.rundir.files import STREAMS
from tests.chaos.wire import Upstream, answer, at_once
from tests.integration.suite import directory_of, rows, sseproof, verdict_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DEMO = Path(__file__).resolve().parents[2] / "docs" / "flask" / "demo.py"
TIMEOUT_S = 3
"""A worker tells each second that it lives, and begins within this time, also on a busy machine."""
ANSWER_S = 7
"""Longer than a worker lives, which gunicorn ends at most a second late."""
IDLE_S = 8
LONG_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("flask_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demo_asks_no_proxy_for_its_own_server(demo, monkeypatch):
    """Those who have one in their environment were told that gunicorn gave no sign of life."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(demo, "START_LIMIT_S", 5.0)
    with Upstream(at_once(answer(1))) as service:
        demo.wait_for("sync", int(service.place.partition(":")[2]))


def test_an_interrupt_is_left_to_the_command_that_runs(tmp_path):
    """It was killed a quarter of a second later, with neither verdicts nor an answer."""
    code = f"import runpy; print('code', runpy.run_path({str(DEMO)!r})['sseproof']('serve', '--port', '0'))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if "on http://" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out.split(), process.returncode) == (["code", "0"], 0), out + err
    assert "Traceback" not in err


def test_check_and_load_show_the_failure_and_the_way_out(demo, tmp_path):
    """Side by side, since both mostly wait."""
    load = [
        sys.executable,
        str(DEMO),
        "--only",
        "run",
        "--timeout",
        str(TIMEOUT_S),
        "--seconds",
        str(ANSWER_S),
    ]
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(
            subprocess.run, load, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        check_names_the_worker_class_and_passes_the_other(demo, tmp_path)
    ran = loading.result()
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("WORKER TIMEOUT") >= 8
    four_at_a_time_are_served_and_cut_at_the_time_out(directory_of(tmp_path))


def check_names_the_worker_class_and_passes_the_other(demo, tmp_path):
    """Four of eight wait, an answer ends with its worker; of gevent's workers neither is true."""

    def looked(port, *options):
        url = f"http://127.0.0.1:{port}{demo.CHAT}?seconds=40"
        answer = sseproof(
            "check", url, "--terminal", "event:done", "--look", "1s", "--json", *options, cwd=tmp_path
        )
        return {finding["id"]: finding for finding in json.loads(answer.stdout)["findings"]}

    with ExitStack() as parts, ThreadPoolExecutor(3) as pool:
        ports = parts.enter_context(PortLease(3)).ports
        servers = [("sync", LONG_TIMEOUT_S), ("sync", TIMEOUT_S), ("gevent", TIMEOUT_S)]
        for port, (worker, timeout_s) in zip(ports, servers, strict=True):
            parts.callback(demo.started(worker, port, timeout_s).end)
        for port, (worker, _) in zip(ports, servers, strict=True):
            demo.wait_for(worker, port)
        crowded = pool.submit(looked, ports[0], "--only", "K01", "--parallel")
        watched = pool.submit(looked, ports[1], "--only", "T06", "--idle", str(IDLE_S))
        careful = pool.submit(looked, ports[2], "--only", "K01,T06", "--parallel", "--idle", str(IDLE_S))
    found = crowded.result()["K01"]
    assert (found["verdict"], found["sentence"][:29]) == ("fail", "4 of 8 streams at once bring "), found
    assert "use an asynchronous worker class or threads" in found["fix"]
    found = watched.result()["T06"]
    assert (found["verdict"], found["sentence"][:13]) == ("fail", "Closed after "), found
    assert TIMEOUT_S - 1 < float(found["sentence"].split()[2]) < IDLE_S
    assert "use an asynchronous worker class" in found["fix"]
    assert {check: found["verdict"] for check, found in careful.result().items()} == {
        "K01": "pass",
        "T06": "pass",
    }


def most_at_once(spans):
    """Of these (begin, end), how many overlapped at any time."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def four_at_a_time_are_served_and_cut_at_the_time_out(directory):
    """Eight answers: under sync workers none ends well, under gevent's all do."""
    records = rows(directory, STREAMS)
    sync, gevent = ([each for each in records if each.variant == name] for name in ("sync", "gevent"))
    assert [each.outcome for each in sync] == ["cut"] * 8
    assert [attempt.end for each in sync for attempt in each.attempts] == ["fin"] * 8
    assert [each.outcome for each in gevent] == ["complete"] * 8

    served = sorted((each.first_event.ns, each.ended.ns) for each in sync)
    assert most_at_once(served) == 4
    assert most_at_once([(each.first_event.ns, each.ended.ns) for each in gevent]) == 8
    # The fifth gets its first event when a worker has been killed and another begun.
    first_s = sorted((each.first_event.ns - each.sent.ns) / 1e9 for each in sync)
    ended_s = sorted((each.ended.ns - each.sent.ns) / 1e9 for each in sync)
    assert ended_s[0] > TIMEOUT_S - 1
    assert first_s[3] < ended_s[0] < first_s[4]
    assert all(end - begin < ANSWER_S * 1e9 for begin, end in served)
    assert all(after >= before for before, after in pairwise(first_s))

    verdict = verdict_of(directory)
    by_variant = {(each.variant, each.metric): each.verdict for each in verdict.verdicts}
    assert by_variant["sync", "success"] == "fail"
    assert by_variant["gevent", "success"] == "pass"
