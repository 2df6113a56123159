"""The real nginx: what it does to a stream with its defaults and with sse.conf, and that nothing of it is left."""

import gzip
import os
import pwd
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from sseproof.chaos.hops import HOP_KINDS, Hop, find_nginx, nginx_config
from sseproof.rundir.errors import RigError
from tests.chaos.test_toxiproxy import gone, run
from tests.chaos.wire import Upstream, connect

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n"


def config(kind="nginx-sse", upstream="127.0.0.1:80") -> str:
    return nginx_config(kind, port=21000, upstream=upstream, user=None, descriptors=1024)


def test_the_configuration_listens_on_loopback_and_writes_in_its_folder() -> None:
    for kind in HOP_KINDS:
        text = config(kind)
        assert "listen 127.0.0.1:21000;" in text
        assert "proxy_pass http://127.0.0.1:80;" in text
        assert "/" not in text.replace("http://", "").replace("location /", "").replace(
            "text/event-stream", ""
        )
    assert "proxy_buffering off;" in config("nginx-sse")
    assert "proxy_buffering" not in config("nginx-defaults")
    assert "gzip_types text/event-stream;" in config("nginx-defaults")


@pytest.mark.parametrize("upstream", ["x", "127.0.0.1:80; evil on", "a b:1", "127.0.0.1:"])
def test_an_upstream_that_is_none_is_refused(upstream: str) -> None:
    with pytest.raises(RigError, match="no host:port"):
        config(upstream=upstream)


def test_without_nginx_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sseproof.chaos.hops.find_nginx", lambda: None)
    with pytest.raises(RigError, match="apt-get install nginx"):
        Hop("nginx-sse", upstream="127.0.0.1:9", folder=tmp_path, say=lambda line: None)


class Gated:
    """Writes one event, and the rest only when the test says so."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n"
        )
        self.go.wait(10)
        connection.sendall(b"data: 2\n\n" * 200)


def first_and_rest(hop: Hop, gate: Gated, more: bytes = b"") -> tuple[bytes, bytes]:
    """What came while the service had sent one event, and what came after it went on."""
    with connect(hop.port) as client:
        client.sendall(REQUEST % more)
        client.settimeout(0.7)
        early = b""
        try:
            while b"data: 1" not in early and (got := client.recv(65536)):
                early += got
        except TimeoutError:
            pass
        gate.go.set()
        client.settimeout(10)
        late = b""
        while got := client.recv(65536):
            late += got
        return early, late


@pytest.mark.integration
def test_sse_settings_pass_each_event_on_and_defaults_hold_it(nginx: Path, tmp_path: Path) -> None:
    for kind, passes in (("nginx-sse", True), ("nginx-defaults", False)):
        gate = Gated()
        with (
            Upstream(gate) as upstream,
            Hop(kind, upstream=upstream.place, folder=tmp_path / kind, say=print, nginx=nginx) as hop,
        ):
            early, late = first_and_rest(hop, gate)
        assert (b"data: 1" in early) is passes
        assert (early + late).count(b"data: 2") == 200
        assert hop.pid is None


@pytest.mark.integration
def test_defaults_compress_when_asked_and_sse_settings_never_do(nginx: Path, tmp_path: Path) -> None:
    for kind, compresses in (("nginx-sse", False), ("nginx-defaults", True)):
        gate = Gated()
        gate.go.set()
        with (
            Upstream(gate) as upstream,
            Hop(kind, upstream=upstream.place, folder=tmp_path / kind, say=print, nginx=nginx) as hop,
        ):
            answer = b"".join(first_and_rest(hop, gate, b"Accept-Encoding: gzip\r\n"))
        assert (b"Content-Encoding: gzip" in answer) is compresses
        if compresses:
            assert gzip.decompress(_unchunked(answer.partition(b"\r\n\r\n")[2])).count(b"data: 2") == 200


def _unchunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        out, body = out + rest[:count], rest[count + 2 :]
        if not count:
            break
    return out


@pytest.mark.integration
def test_everything_it_writes_is_in_its_folder(nginx: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / 'a "b"\n$c;'
    with (
        Upstream(lambda connection: None) as upstream,
        Hop("nginx-sse", upstream=upstream.place, folder=folder, say=said.append, nginx=nginx) as hop,
    ):
        assert {path.name for path in folder.iterdir()} >= {"nginx.conf", "nginx.pid", "proxy", "client_body"}
        with connect(hop.port) as client:  # the upstream says nothing: nginx answers 502 and tells why
            client.sendall(REQUEST % b"")
            assert b"502" in client.recv(65536)
    assert any("upstream prematurely closed" in line for line in said)
    assert hop.lines == [line for line in said if line][-50:]


@pytest.mark.integration
def test_a_configuration_it_refuses_is_an_error_with_its_words(nginx: Path, tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"nginx does not start: .*host not found in upstream"):
        Hop(
            "nginx-sse",
            upstream="no.such.host.invalid:1",
            folder=tmp_path,
            say=lambda line: None,
            nginx=nginx,
        )


STARTER = """
import sys
from pathlib import Path
from sseproof.chaos.hops import Hop
hop = Hop("nginx-defaults", upstream="127.0.0.1:9", folder=Path(sys.argv[1]), say=lambda line: None)
print(hop.pid, hop.port, flush=True)
sys.stdin.read()
"""


def children(pid: int) -> list[int]:
    """The workers: the kernel takes connections already before the master has made them."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return [int(one) for one in found]
        time.sleep(0.01)
    raise AssertionError(f"{pid} made no worker")


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard is Linux's")
def test_no_worker_outlives_a_killed_parent(nginx: Path, tmp_path: Path) -> None:
    assert find_nginx() is not None
    for number in range(20):
        with run(Path(sys.executable), "-c", STARTER, str(tmp_path / str(number))) as parent:
            pid, port = map(int, parent.stdout.readline().split())
            workers = children(pid)
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait(5)
            assert gone(pid)
            assert all(gone(worker) for worker in workers)
        assert workers
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def user_of(pid: int) -> int:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")
    )
    _, real, effective, saved, _ = line.split()
    assert real == effective == saved
    return int(real)


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is read from /proc")
def test_no_worker_is_root_and_all_can_write_what_does_not_fit_in_memory(nginx: Path, tmp_path: Path) -> None:
    """nginx keeps what a slow client has not taken in files of its worker's."""
    big = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + b"x" * 16_000_000
    )
    written = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(big)
        written.set()

    said: list[str] = []
    with (
        Upstream(serve) as upstream,
        Hop(
            "nginx-defaults", upstream=upstream.place, folder=tmp_path / "hop", say=said.append, nginx=nginx
        ) as hop,
    ):
        expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert {(tmp_path / "hop" / name).stat().st_uid for name in ("proxy", "client_body")} == {expected}
        with connect(hop.port) as client:
            client.sendall(REQUEST % b"")
            assert written.wait(10), said
            received = 0
            while got := client.recv(65536):
                received += len(got)
        # What has answered has left its first user behind.
        assert [user_of(worker) for worker in children(hop.pid)] == [expected]
    assert received > 16_000_000, said
    assert any("buffered to a temporary file" in line for line in said), said


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_closing_takes_the_workers_too(nginx: Path, tmp_path: Path, number: int) -> None:
    hop = Hop("nginx-sse", upstream="127.0.0.1:9", folder=tmp_path, say=lambda line: None, nginx=nginx)
    workers = children(hop.pid)
    os.kill(hop.pid, number)
    hop.close()
    hop.close()
    assert workers
    assert all(gone(worker) for worker in workers)
