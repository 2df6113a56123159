"""`sseproof chaos heal` on a real Toxiproxy of somebody else, after the run that used it was killed."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sseproof.chaos.install import install
from sseproof.chaos.processes import PortLease
from sseproof.chaos.toxics import Toxic
from sseproof.chaos.toxiproxy import ProxyState, Server
from sseproof.rundir.files import FAULTS
from tests.integration.suite import (
    directory_of,
    listening,
    nobody_listens,
    plan_of,
    rows,
    served,
    sseproof,
    started,
    wait_for_rows,
)

pytestmark = pytest.mark.integration

SCENARIO = """
[server]
[target]
url = "/api/v1/stream/chat?events=40&interval_ms=50"
[load]
users = 8
duration = "60s"
[[fault]]
kind = "cut"
share = "25%"
after_bytes = 900
[[fault]]
kind = "refused"
share = "25%"
after = "0s"
duration = "50s"
"""
THEIRS = Toxic(name="theirs", type="latency", attributes={"latency": 40, "jitter": 0})


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A server that somebody else runs, with proxies and a toxic of theirs, one of them named much like ours."""
    server = Server(install(print), say=lambda line: None)
    with PortLease(3) as lease:
        for name, port in zip(("theirs", "sseproof-1-x", "off"), lease.ports, strict=True):
            server.client.create(
                name, listen=f"127.0.0.1:{port}", upstream="127.0.0.1:9", enabled=name != "off"
            )
        server.client.add_toxic("theirs", THEIRS)
        yield server
        server.close()


@pytest.fixture(scope="module")
def before(other: Server) -> dict[str, ProxyState]:
    return other.client.proxies()


def killed(cwd: Path, other: Server) -> Path:
    """The directory of a run that was killed in the middle of a fault."""
    (cwd / "crash.toml").write_text(SCENARIO)
    url = f"http://{other.client.place}"
    process = started("run", "crash.toml", "--quiet", "--toxiproxy", url, cwd=cwd)
    try:
        directory = wait_for_rows(cwd, 1)
        deadline = time.monotonic() + 30
        while not any(row.step == "applied" and row.window for row in rows(directory, FAULTS)):
            assert time.monotonic() < deadline, "no window began"
            threading.Event().wait(0.05)
        done = sseproof("chaos", "heal", "--toxiproxy", url, str(directory), cwd=cwd)
        assert done.returncode == 70, done.stdout
        assert "still goes on" in done.stderr
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)
    return directory


@pytest.fixture
def crashed(tmp_path: Path, other: Server, before: dict[str, ProxyState]) -> Path:
    """The working folder of the killed run, whose proxies are still on the server."""
    directory = killed(tmp_path, other)
    assert len(plan_of(directory)["faults"]["proxies"]) == len(other.client.proxies()) - len(before)
    return tmp_path


def test_exactly_what_the_run_made_is_taken_back_once(
    other: Server, before: dict[str, ProxyState], crashed: Path
) -> None:
    """A second time nothing is left, and the crashed run can be judged; a service that is still away is told."""
    directory = directory_of(crashed)
    proxies = plan_of(directory)["faults"]["proxies"]
    url = f"http://{other.client.place}"
    # Somebody has taken one of our names since: with an address that we did not give it, it is theirs.
    taken = proxies[0]["name"]
    other.client.delete(taken)
    with PortLease(1) as lease:
        theirs = other.client.create(taken, listen=f"127.0.0.1:{lease.ports[0]}", upstream="127.0.0.1:9")
        with served() as target:
            done = sseproof("chaos", "heal", "--toxiproxy", url, "--url", target, "--json", cwd=crashed)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert sorted(answer["removed"]) == sorted(proxy["name"] for proxy in proxies[1:])
        assert answer["not_ours"] == [taken]
        assert answer["others"] == len(before) + 1
        assert answer["status"] == 200
        assert other.client.proxies() == {**before, taken: theirs}
        other.client.delete(taken)
    nobody_listens([proxy["port"] for proxy in proxies[1:]])
    assert listening(int(before["theirs"].listen.rpartition(":")[2]))
    last = [(row.step, row.ok) for row in rows(directory, FAULTS)][-3:]
    assert last == [("heal-intent", None), ("healed", True), ("verified", True)]

    recorded = (directory / FAULTS.name).read_bytes()
    done = sseproof("chaos", "heal", str(directory), "--toxiproxy", url, cwd=crashed)
    assert done.returncode == 0, done.stderr
    assert "Nothing of ours is left" in done.stdout
    assert "3 of other people are as they were" in done.stdout
    assert (directory / FAULTS.name).read_bytes() == recorded
    assert sseproof("judge", str(directory), cwd=crashed).returncode in {0, 2}
    done = sseproof("chaos", "heal", "--toxiproxy", url, "--url", "http://127.0.0.1:9/", cwd=crashed)
    assert done.returncode == 70
    assert "GET http://127.0.0.1:9/ failed" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--toxiproxy", "http://192.0.2.1:8474"], 64, "loopback"),
        (["--toxiproxy", "127.0.0.1"], 64, "address of a Toxiproxy"),
        (["--toxiproxy", "http://127.0.0.1:9"], 70, "is not there"),
        (["--out", "nowhere"], 64, "nowhere"),
        (["nowhere"], 64, "not a run directory"),
        (["--url", "ftp://x/"], 64, "ftp://x/"),
    ],
)
def test_what_can_not_be_is_said_in_one_sentence(
    other: Server, tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    server = [] if "--toxiproxy" in options else ["--toxiproxy", f"http://{other.client.place}"]
    done = sseproof("chaos", "heal", *server, *options, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
