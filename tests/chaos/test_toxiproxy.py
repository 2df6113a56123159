"""The server as a child and the adapter: it is ours that answers, nothing is believed, nothing waits for ever."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import pytest

from sseproof.chaos.faults import FaultError
from sseproof.chaos.install import Found, find
from sseproof.chaos.processes import LOOPBACK, PortLease
from sseproof.chaos.toxics import Toxic
from sseproof.chaos.toxiproxy import Client, MismatchError, Server, ServerError, WedgedError, same_toxic
from sseproof.rundir.errors import RigError, UsageError

pytestmark = pytest.mark.integration

LIMIT = Toxic(name="limit", type="limit_data", attributes={"bytes": 9})


def run(program: Path, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_version_is_true(found: Found) -> None:
    said = subprocess.run([found.path, "-version"], capture_output=True, text=True, check=True).stdout
    assert said == "toxiproxy 2.12.0 sseproof-3\n"
    assert found.version == "2.12.0 sseproof-3"
    assert found.own


def test_it_ends_with_an_error_when_its_port_is_taken(found: Found) -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as taken,
        run(found.path, "-port", str(taken.getsockname()[1])) as process,
    ):
        out, errors = process.communicate(timeout=5)
    assert process.returncode == 1
    assert out == ""
    assert "address already in use" in errors


def test_it_ends_when_its_standard_input_closes(found: Found) -> None:
    with run(found.path, "-port", "0") as process:
        assert process.stdout.readline().startswith("listening 127.0.0.1:")
        process.stdin.close()
        assert process.wait(5) == 0


def test_it_ends_by_sigterm_and_refuses_a_log_level_that_is_none(found: Found) -> None:
    with run(found.path, "-port", "0") as process:
        process.stdout.readline()
        process.terminate()
        assert process.wait(5) == 0
    with run(found.path, env={**os.environ, "LOG_LEVEL": "loud"}) as process:
        _, errors = process.communicate(timeout=5)
        assert process.returncode == 1
        assert "LOG_LEVEL" in errors


def test_a_child_answers_on_a_low_loopback_port(server: Server) -> None:
    assert server.client.version() == "2.12.0 sseproof-3"
    assert server.client.proxies() == {}
    host, _, port = server.client.place.rpartition(":")
    assert host == LOOPBACK
    assert int(port) < 32_768


def test_two_servers_are_two(found: Found, server: Server) -> None:
    """The library keeps the address on a class: without one a server the second would take over the first."""
    other = Server(found, say=lambda line: None)
    other.client.create("a", listen="127.0.0.1:0", upstream="127.0.0.1:9")
    assert server.client.proxies() == {}
    assert set(other.client.proxies()) == {"a"}
    other.close()
    assert server.client.proxies() == {}


def test_a_program_that_is_no_server_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "x"
    program.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    program.chmod(0o755)
    for version in ("2.12.0", "2.12.0 sseproof-3"):
        with pytest.raises(ServerError, match="no such luck"):
            Server(Found(kind="path", path=program, version=version, why=""), say=lambda line: None)
    with pytest.raises(RigError, match="no Toxiproxy server to start"):
        Server(Found(kind="none", why="There is none."), say=lambda line: None)


def test_a_stock_child_is_believed_by_its_socket(found: Found) -> None:
    """Its ready line is not looked at when the version does not promise one."""
    stock = Found(kind="stock", path=found.path, version="2.12.0", why="")
    running = Server(stock, say=lambda line: None)
    assert running.client.proxies() == {}
    running.close()


def test_an_address_the_server_changed_is_an_error(server: Server) -> None:
    """Port 0 becomes a real one: a plan that names another address would send its streams nowhere."""
    with pytest.raises(MismatchError, match="listen of the proxy a is"):
        server.client.create("a", listen="127.0.0.1:0", upstream="127.0.0.1:9", enabled=True)


def test_state_is_read_back(server: Server, lease: PortLease) -> None:
    client = server.client
    place = f"127.0.0.1:{lease.ports[0]}"
    made = client.create("a", listen=place, upstream="127.0.0.1:9")
    assert (made.listen, made.enabled) == (place, False)
    assert client.add_toxic("a", LIMIT) == LIMIT
    more = Toxic(name="limit", type="limit_data", attributes={"bytes": 10})
    assert client.update_toxic("a", more) == more
    assert client.set_enabled("a", True).enabled
    assert client.proxy("a").toxics == [more]
    client.delete("a")
    assert client.proxies() == {}


def test_differences_are_named() -> None:
    seen = Toxic(name="limit", type="limit_data", toxicity=0.5, attributes={"bytes": 8, "byts": 9})
    with pytest.raises(MismatchError) as caught:
        same_toxic("p", LIMIT, seen)
    for part in ("toxicity is 0.5 instead of 1.0", "bytes is 8 instead of 9", "byts is 9 instead of None"):
        assert part in str(caught.value)


def test_a_killing_toxic_never_leaves(server: Server, lease: PortLease) -> None:
    server.client.create("a", listen=f"127.0.0.1:{lease.ports[0]}", upstream="127.0.0.1:9")
    with pytest.raises(FaultError):
        server.client.add_toxic("a", Toxic(name="s", type="slicer", attributes={"average_size": 0}))
    with pytest.raises(FaultError):
        server.client.update_toxic("a", Toxic(name="s", type="bandwidth", attributes={"rate": -1}))
    assert server.client.proxy("a").toxics == []


def test_errors_are_sentences(server: Server, lease: PortLease) -> None:
    client = server.client
    place = f"127.0.0.1:{lease.ports[0]}"
    client.create("a", listen=place, upstream="127.0.0.1:9", enabled=True)
    with pytest.raises(ServerError, match="refused POST /proxies: proxy already exists"):
        client.create("a", listen=place, upstream="127.0.0.1:9")
    with pytest.raises(ServerError, match="refused GET /proxies/b: proxy not found"):
        client.proxy("b")
    with pytest.raises(ServerError, match=r"500.*address already in use"):
        client.create("b", listen=place, upstream="127.0.0.1:9", enabled=True)
    with pytest.raises(ServerError, match="can't name a proxy"):
        client.create("a/b", listen=place, upstream="127.0.0.1:9")
    server.close()
    with pytest.raises(ServerError, match="is not there"):
        client.proxies()


def test_proxies_of_the_environment_are_ignored(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert server.client.proxies() == {}


class Pretender:
    """Something else on the port: it gives one fixed answer, or none."""

    def __init__(self, reply: bytes | None) -> None:
        self._server = socket.create_server((LOOPBACK, 0))
        self._reply = reply
        self._held: list[socket.socket] = []
        limit_s = 0.3 if reply is None else 5
        self.client = Client(LOOPBACK, self._server.getsockname()[1], limit_s=limit_s)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            if self._reply is None:
                self._held.append(connection)
                continue
            with connection:
                connection.recv(65536)
                connection.sendall(self._reply)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._held:
            each.close()


def http(status: str, body: bytes, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n".encode() + body
    )


@pytest.mark.parametrize(
    ("reply", "kind", "sentence"),
    [
        (None, WedgedError, "within 0.3 s: it is wedged"),
        (http("503 Service Unavailable", b"<html>"), WedgedError, "gave up"),
        (http("403 Forbidden", b"User agent not allowed\n"), ServerError, "User agent not allowed"),
        (http("500 Oops", b'{"error": "bad \\u001b[31m", "status": 500}'), ServerError, r"bad \\x1b"),
        (http("200 OK", b"<html>hello</html>"), ServerError, "is no Toxiproxy"),
        (http("302 Found", b"", "Location: http://127.0.0.1:9/\r\n"), ServerError, "302"),
        (b"\x00\x01", ServerError, "is not there"),
    ],
)
def test_whatever_answers_is_understood(reply: bytes | None, kind: type, sentence: str) -> None:
    begun = time.monotonic()
    with Pretender(reply) as other, pytest.raises(kind, match=sentence):
        other.client.proxies()
    assert time.monotonic() - begun < 1.5


def test_old_servers_tell_their_version_as_text() -> None:
    with Pretender(http("200 OK", b"git")) as other:
        assert other.client.version() == "git"


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "127.0.0.1:8474", "http://", "http://127.0.0.1:x", "http://127.0.0.1/x"]
)
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"write http://127\.0\.0\.1:8474"):
        Client.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:SECRETPW@127.0.0.1:1",
        "https://SECRETPW@127.0.0.1:x/",
        "me:SECRETPW@127.0.0.1",
        "http://127.0.0.1:1/?token=SECRETPW",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    for take in (Client.from_url, find):
        with pytest.raises(UsageError, match=r"write http://127\.0\.0\.1:8474") as refused:
            take(url)
        assert "SECRETPW" not in str(refused.value)


def test_only_loopback_unless_told() -> None:
    with pytest.raises(UsageError, match="only loopback"):
        Client.from_url("http://192.0.2.1:8474")
    assert Client.from_url("http://192.0.2.1", loopback_only=False).place == "192.0.2.1:8474"
    assert Client.from_url("http://[::1]:9").place == "[::1]:9"


STARTER = """
import sys
from pathlib import Path
from sseproof.chaos.install import Found
from sseproof.chaos.toxiproxy import Server
found = Found(kind="path", path=Path(sys.argv[1]), version=sys.argv[2], why="")
server = Server(found, say=lambda line: None)
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("version", ["2.12.0 sseproof-3", "2.12.0"])
def test_it_never_outlives_a_killed_parent(found: Found, version: str) -> None:
    for _ in range(5):
        with run(Path(sys.executable), "-c", STARTER, str(found.path), version) as parent:
            pid = int(parent.stdout.readline())
            parent.send_signal(signal.SIGKILL)
            parent.wait(5)
            assert gone(pid)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        threading.Event().wait(0.01)
    return False


def test_restart_gives_an_empty_server(server: Server, lease: PortLease) -> None:
    server.client.create("a", listen=f"127.0.0.1:{lease.ports[0]}", upstream="127.0.0.1:9")
    old = server.pid
    server.restart()
    assert server.pid not in {None, old}
    assert server.client.proxies() == {}


def test_a_port_with_nothing_but_ended_connections_can_be_asked_for_and_no_other_lease() -> None:
    with PortLease(1) as lease:
        (port,) = lease.ports
        with pytest.raises(RigError, match="in use"):
            PortLease.of([port])
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((LOOPBACK, port))
            server.listen()
            with socket.create_connection((LOOPBACK, port)) as client:
                accepted, _ = server.accept()
                accepted.close()  # first, so that TIME_WAIT is here
                assert client.recv(1) == b""
            with pytest.raises(RigError, match="in use"):
                PortLease.of([port])
    with pytest.raises(OSError, match="in use"), socket.socket() as plain:
        plain.bind((LOOPBACK, port))
    with PortLease.of([port]) as again:
        assert again.ports == [port]


def test_leased_ports_are_refused_kept_and_given_back() -> None:
    with PortLease(3) as one, PortLease(3) as two:
        assert not set(one.ports) & set(two.ports)
        port = one.ports[0]
        with socket.socket() as client:
            assert client.connect_ex((LOOPBACK, port)) != 0
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((LOOPBACK, port))
    with socket.socket() as other:
        other.bind((LOOPBACK, port))
