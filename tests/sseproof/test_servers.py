"""The run's own server goes by SIGKILL and comes back where it was."""

import http.client
import os
from pathlib import Path

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.reference_server.settings import ServerSettings
from sseproof.rundir.errors import RigError
from sseproof.rundir.units import parse_duration
from sseproof.servers import OwnServer
from tests.integration.suite import listening

pytestmark = pytest.mark.integration


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/v1/stream/chat?events=1&interval_ms=1&first_token_ms=1")
        return b"event: done" in connection.getresponse().read()
    finally:
        connection.close()


def test_it_is_killed_and_comes_back_on_its_port() -> None:
    with PortLease(1) as lease:
        (port,) = lease.ports
        server = OwnServer("server", ServerSettings(port=port), environ=os.environ, line=lambda *_: None)
        asked: list[bool] = []
        server.before_kill = lambda: asked.append(answers(port))
        try:
            assert (server.port, answers(port)) == (port, True)
            for _ in range(2):
                server.take_away()
                assert not listening(port)
                server.bring_back()
                server.bring_back()  # it runs: nothing to do
                assert (server.port, answers(port)) == (port, True)
        finally:
            server.close()
    assert asked == [True, True], "its record is asked for while it lives"
    assert not listening(port)


def test_one_that_drains_is_told_to_and_hands_over(tmp_path: Path) -> None:
    path = "/api/v1/stream/chat?events=400&interval_ms=20&first_token_ms=1"
    with PortLease(1) as lease:
        (port,) = lease.ports
        settings = ServerSettings(port=port, drain=parse_duration("300ms"), handover=str(tmp_path / "h.json"))
        server = OwnServer("server", settings, environ=os.environ, line=lambda *_: None)
        server.before_kill = lambda: pytest.fail("its record is handed over")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.readline() == b"retry: 300\n"
            server.take_away()
            server.bring_back()
            body = answer.read()  # to the end of its framing, else it raises
            assert body.endswith(b"\n\n")
            key, _, last = body.rpartition(b"id: ")[2].partition(b"\n")[0].decode().rpartition("-")
            assert b"event: done" not in body
            connection.close()
            connection.request("GET", path, headers={"Last-Event-ID": f"{key}-{last}"})
            assert connection.getresponse().readline() == f"id: {key}-{int(last) + 1}\n".encode()
            connection.close()
        finally:
            server.close()
    assert not listening(port)


def test_a_port_that_is_taken_is_one_sentence() -> None:
    server = OwnServer("server", ServerSettings(port=0), environ=os.environ, line=lambda *_: None)
    try:
        with pytest.raises(RigError, match="taken"):
            OwnServer("other", ServerSettings(port=server.port), environ=os.environ, line=lambda *_: None)
    finally:
        server.close()
