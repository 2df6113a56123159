"""The run's own server goes by SIGKILL and comes back where it was."""

import http.client
import os

import pytest

from sseproof.chaos.processes import PortLease
from sseproof.reference_server.settings import ServerSettings
from sseproof.rundir.errors import RigError
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


def test_a_port_that_is_taken_is_one_sentence() -> None:
    server = OwnServer("server", ServerSettings(port=0), environ=os.environ, line=lambda *_: None)
    try:
        with pytest.raises(RigError, match="taken"):
            OwnServer("other", ServerSettings(port=server.port), environ=os.environ, line=lambda *_: None)
    finally:
        server.close()
