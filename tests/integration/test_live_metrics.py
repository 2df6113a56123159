"""`--metrics-port` of real runs: streams, the fault that acts and the generators while it lasts, and at its end the file."""

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sseproof.rundir.files import STREAMS
from tests.integration.suite import directory_of, nobody_listens, rows, served, sseproof, started

if TYPE_CHECKING:
    from subprocess import Popen

pytestmark = pytest.mark.integration

SCENARIO = """
claims = ["success >= 50%"]
[server]
[target]
url = "/api/v1/stream/chat?events=10&interval_ms=20"
[load]
rate = 20
duration = "2500ms"
[[fault]]
kind = "refused"
name = "away"
share = "40%"
after = "500ms"
duration = "1s"
"""
TOLD = re.compile(r"Live metrics: (http://127\.0\.0\.1:(\d+)/metrics)")


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


def labels_of(seen: list[dict[tuple, float]], name: str, label: str) -> set[str]:
    """Every value that the label ever had."""
    return {dict(pairs)[label] for found in seen for told, pairs in found if told == name}


def told_by(process: "Popen[str]") -> tuple[str, int]:
    """The address in the first line on standard error."""
    assert process.stderr is not None
    line = process.stderr.readline()
    found = TOLD.match(line)
    assert found, line
    return found[1], int(found[2])


def scrapes(process: "Popen[str]", url: str) -> Iterator[dict[tuple, float]]:
    """What it answers, again and again, until it is over."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                yield samples(reply.read())
        except (urllib.error.URLError, ConnectionError):
            return  # it closes its port last
        time.sleep(0.1)


def test_a_run_tells_what_it_has_come_to_and_ends_with_what_its_file_says(tmp_path: Path):
    (tmp_path / "live.toml").write_text(SCENARIO)
    options = ["--metrics-port", "0", "--quiet", "--openmetrics", "file.txt"]
    process = started("run", "live.toml", *options, cwd=tmp_path)
    url, port = told_by(process)
    seen = list(scrapes(process, url))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    nobody_listens([port])

    ended = [total(found, "sse_streams_total") for found in seen]
    assert ended == sorted(ended)
    assert len(set(ended)) >= 4, "it grows while the run lasts"
    assert max(total(found, "sse_streams_open") for found in seen) >= 1
    assert max(total(found, "sse_generator_open_streams") for found in seen) >= 1
    assert labels_of(seen, "sse_generator_open_streams", "worker") == {"0"}
    acts = [total(found, "sse_fault_active", group="away", toxic="refused") for found in seen]
    assert [now for now, before in zip(acts, [None, *acts], strict=False) if now != before] == [0, 1, 0]
    assert labels_of(seen, "sse_run_info", "how") == {"running", "finished"}

    file, last = samples((tmp_path / "file.txt").read_bytes()), seen[-1]
    assert total(file, "sse_streams_total") == len(rows(directory_of(tmp_path), STREAMS))
    shared = {name for name, _ in file} & {name for name, _ in last}
    assert {"sse_streams_total", "sse_breaks_total", "sse_time_to_first_token_seconds_bucket"} <= shared
    for (name, labels), value in last.items():
        if name in shared and not name.endswith("_created") and name != "sse_fault_active":
            assert file[name, labels] == pytest.approx(value), (name, labels)


def test_faults_alone_tell_which_of_them_acts(tmp_path: Path):
    (tmp_path / "plan.toml").write_text(
        'duration = "1800ms"\n[[fault]]\nkind = "refused"\nname = "away"\nafter = "500ms"\nduration = "800ms"\n'
    )
    with served() as target:
        upstream = target.split("/")[2]
        options = ["--upstream", upstream, "--listen", "0", "--metrics-port", "0", "--quiet"]
        process = started("chaos", "run", "plan.toml", *options, cwd=tmp_path)
        url, port = told_by(process)
        acts = [
            total(found, "sse_fault_active", group="away", toxic="refused") for found in scrapes(process, url)
        ]
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert [now for now, before in zip(acts, [None, *acts], strict=False) if now != before] == [0, 1, 0]
    nobody_listens([port])


def test_a_port_that_is_taken_is_told_before_anything_is_sent(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        done = sseproof("run", "--target", url, "--metrics-port", str(port), "--streams", "1", cwd=tmp_path)
        target.setblocking(False)
        with pytest.raises(BlockingIOError):
            target.accept()
    assert done.returncode == 64
    assert done.stderr == (
        f"metrics_port {port} of 127.0.0.1 can't be had (Address already in use): give another, or 0 for a free one.\n"
    )
    assert not (tmp_path / "runs").exists()
