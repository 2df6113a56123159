"""The real nginx and Apache: what each kind of hop does to a stream, and that nothing of it is left."""

import gzip
import os
import pwd
import signal
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

from sseproof.chaos.hop_config import HOP_KINDS, HopKind, apache_config, nginx_config, program_of
from sseproof.chaos.hops import Hop
from sseproof.rundir.errors import RigError, UsageError
from tests.chaos.test_toxiproxy import gone, run
from tests.chaos.wire import Upstream, connect
from tests.integration.suite import nobody_listens

REQUEST = b"GET %s HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
ROUTE = "/events"
PATIENCE_S = 20.0
HELD_S = 0.7
"""What has not come by then is held back: a hop that passes on takes some milliseconds."""
MASTERS: tuple[HopKind, ...] = ("nginx-sse", "apache-defaults")
"""One kind of each program."""


def config(kind: HopKind = "nginx-sse", upstream: str = "127.0.0.1:80", route: str = ROUTE) -> str:
    if program_of(kind) == "apache":
        return apache_config(kind, ports=[21000], upstreams=[upstream], user=None, modules="/modules")
    return nginx_config(kind, ports=[21000], upstreams=[upstream], user=None, descriptors=1024, route=route)


@pytest.fixture(params=HOP_KINDS)
def kind(request: pytest.FixtureRequest) -> HopKind:
    """Each kind of hop whose program is there."""
    asked: HopKind = request.param
    request.getfixturevalue(program_of(asked))
    return asked


def test_the_configuration_listens_on_loopback_and_writes_in_its_folder() -> None:
    for kind in HOP_KINDS:
        text = config(kind)
        assert "127.0.0.1:21000" in text
        assert "http://127.0.0.1:80" in text
        listening = [line.strip() for line in text.splitlines() if line.strip().lower().startswith("listen ")]
        assert [line.split()[1].rstrip(";") for line in listening] == ["127.0.0.1:21000"]
        rest = text.replace("http://", "").replace("text/event-stream", "").replace(f"= {ROUTE}", "")
        for known in (
            "location /",
            'ProxyPass "/" "127.0.0.1:80/"',
            "/modules/mod_",
            "<IfModule",
            "</IfModule",
        ):
            rest = rest.replace(known, "")
        for known in ("</VirtualHost>", "ErrorLog /dev/stderr"):
            rest = rest.replace(known, "")
        assert "/" not in rest, rest
    assert "proxy_buffering off;" in config("nginx-sse")
    assert "proxy_buffering" not in config("nginx-defaults")
    assert "gzip_types text/event-stream;" in config("nginx-defaults")
    assert "flushpackets=on" in config("apache-flush")
    assert "flushpackets" not in config("apache-defaults")


@pytest.mark.parametrize("upstream", ["x", "127.0.0.1:80; evil on", "a b:1", "127.0.0.1:", 'a:1" evil'])
@pytest.mark.parametrize("kind", MASTERS)
def test_an_upstream_that_is_none_is_refused(kind: HopKind, upstream: str) -> None:
    with pytest.raises(RigError, match="no host:port"):
        config(kind, upstream)


@pytest.mark.parametrize("route", ["events", "/a b", "/a;", "/%41", "/{x}", ""])
def test_a_route_that_is_none_is_refused(route: str) -> None:
    with pytest.raises(UsageError, match="route"):
        config("nginx-routes", route=route)
    assert config("nginx-sse", route=route), "other kinds have no route to write"


@pytest.mark.parametrize(("kind", "package"), [("nginx-sse", "nginx-light"), ("apache-flush", "apache2-bin")])
def test_without_the_program_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: HopKind, package: str
) -> None:
    monkeypatch.setattr("sseproof.chaos.hops.find_program", lambda program: None)
    with pytest.raises(RigError, match=f"apt-get install {package}"):
        Hop(kind, upstreams=["127.0.0.1:9"], folder=tmp_path, say=lambda line: None)


class Gated:
    """Writes one event, and the rest only when the test says so."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(HEAD + b"data: 1\n\n")
        self.go.wait(20)
        connection.sendall(b"data: 2\n\n" * 200)


def read_until(client: socket.socket, wanted: bytes = b"data: 1", limit_s: float = PATIENCE_S) -> bytes:
    """What came until the wanted bytes did, or nothing for as long as the limit."""
    client.settimeout(limit_s)
    early = b""
    try:
        while wanted not in early and (got := client.recv(65536)):
            early += got
    except TimeoutError:
        pass
    return early


def read_to_end(client: socket.socket) -> bytes:
    client.settimeout(20)
    late = b""
    while got := client.recv(65536):
        late += got
    return late


def first_and_rest(
    hop: Hop, gate: Gated, more: bytes = b"", path: str = ROUTE, *, limit_s: float = HELD_S
) -> tuple[bytes, bytes]:
    """What came while the service had sent one event, and what came after it went on."""
    with connect(hop.port) as client:
        client.sendall(REQUEST % (path.encode(), more))
        early = read_until(client, limit_s=limit_s)
        gate.go.set()
        return early, read_to_end(client)


HOLDS_BACK = {"nginx-defaults", "nginx-plain", "nginx-cache"}
COMPRESSES = {"nginx-defaults", "nginx-gzip"}


@pytest.mark.integration
def test_a_hop_passes_each_event_on_or_holds_it(kind: HopKind, tmp_path: Path) -> None:
    gate = Gated()
    with (
        Upstream(gate) as upstream,
        Hop(kind, upstreams=[upstream.place], folder=tmp_path, say=print, route=ROUTE) as hop,
    ):
        early, late = first_and_rest(hop, gate, limit_s=HELD_S if kind in HOLDS_BACK else PATIENCE_S)
    assert (b"data: 1" in early) is (kind not in HOLDS_BACK)
    assert (early + late).count(b"data: 2") == 200
    assert hop.pid is None


@pytest.mark.integration
def test_a_hop_compresses_for_who_asks_or_never(kind: HopKind, tmp_path: Path) -> None:
    gate = Gated()
    gate.go.set()
    with (
        Upstream(gate) as upstream,
        Hop(kind, upstreams=[upstream.place], folder=tmp_path, say=print, route=ROUTE) as hop,
    ):
        answer = b"".join(first_and_rest(hop, gate, b"Accept-Encoding: gzip\r\n"))
    assert (b"Content-Encoding: gzip" in answer) is (kind in COMPRESSES)
    if kind in COMPRESSES:
        assert gzip.decompress(_unchunked(answer.partition(b"\r\n\r\n")[2])).count(b"data: 2") == 200


@pytest.mark.integration
def test_compression_alone_passes_each_event_on(nginx: Path, tmp_path: Path) -> None:
    """What holds a stream back is the buffer: compression without it ends a block with each write of the service."""
    gate = Gated()
    with (
        Upstream(gate) as upstream,
        Hop("nginx-gzip", upstreams=[upstream.place], folder=tmp_path, say=print, program=nginx) as hop,
        connect(hop.port) as client,
    ):
        client.sendall(REQUEST % (ROUTE.encode(), b"Accept-Encoding: gzip\r\n"))
        head, _, body = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
        stream, text = zlib.decompressobj(wbits=31), b""
        while b"data: 1" not in text:
            line, whole, rest = body.partition(b"\r\n")
            if not whole or len(rest) < int(line, 16) + 2:
                body += client.recv(65536)
                continue
            text += stream.decompress(rest[: int(line, 16)])
            body = rest[int(line, 16) + 2 :]
        assert not gate.go.is_set()
        gate.go.set()
        read_to_end(client)
    assert b"Content-Encoding: gzip" in head
    assert text == b"data: 1\n\n"


@pytest.mark.integration
def test_the_buffer_of_nginx_is_a_page(nginx: Path, tmp_path: Path) -> None:
    """4096 bytes at a time, the first less by the head of the answer, whatever the events are."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for number in range(1_500):
            connection.sendall(b"data: %050d\n\n" % number)
            threading.Event().wait(0.0005)  # or all would lie in the socket, and nginx take it in one

    with (
        Upstream(serve) as upstream,
        Hop("nginx-plain", upstreams=[upstream.place], folder=tmp_path, say=print, program=nginx) as hop,
        connect(hop.port) as client,
    ):
        client.sendall(REQUEST % (b"/", b""))
        body = read_to_end(client).partition(b"\r\n\r\n")[2]
    first, *middle, _last = _chunk_sizes(body)
    assert (first + len(HEAD)) % 4096 == 0
    assert middle
    assert all(size % 4096 == 0 for size in middle), middle


@pytest.mark.integration
def test_a_short_read_timeout_cuts_a_silent_stream(nginx: Path, tmp_path: Path) -> None:
    """The stream ends in mid-answer, without its last chunk, after 5 s; sse.conf lets the same silence be."""
    gate = Gated()
    with (
        Upstream(gate) as upstream,
        Hop(
            "nginx-timeout", upstreams=[upstream.place], folder=tmp_path / "a", say=print, program=nginx
        ) as hop,
        Hop(
            "nginx-sse", upstreams=[upstream.place], folder=tmp_path / "b", say=print, program=nginx
        ) as patient,
        connect(hop.port) as client,
        connect(patient.port) as other,
    ):
        other.sendall(REQUEST % (b"/", b""))
        client.sendall(REQUEST % (b"/", b""))
        early = read_until(client)
        began = time.monotonic()
        late = read_to_end(client)
        silent_s = time.monotonic() - began
        assert not gate.go.is_set(), "the service was still silent"
        gate.go.set()
        went_on = read_to_end(other)
    assert b"data: 1" in early
    assert b"data: 2" not in late
    assert not (early + late).endswith(b"0\r\n\r\n")
    assert 4 < silent_s < 15
    assert went_on.count(b"data: 2") == 200
    assert any("upstream timed out" in line for line in hop.lines)


@pytest.mark.integration
def test_a_cache_gives_everybody_the_first_answer(nginx: Path, tmp_path: Path) -> None:
    gate = Gated()
    gate.go.set()
    with (
        Upstream(gate) as upstream,
        Hop("nginx-cache", upstreams=[upstream.place], folder=tmp_path, say=print, program=nginx) as hop,
    ):
        answers = [b"".join(first_and_rest(hop, gate, path="/a")) for _ in range(2)]
        assert upstream.requests == 1
        other = b"".join(first_and_rest(hop, gate, path="/b"))
        assert upstream.requests == 2
    assert [b"X-Cache-Status: HIT" in answer for answer in (*answers, other)] == [False, True, False]
    assert all(answer.count(b"data: 2") == 200 for answer in answers)


@pytest.mark.integration
def test_a_route_of_their_own_is_for_streams_alone(nginx: Path, tmp_path: Path) -> None:
    """The streams' path passes each event on and is never compressed; any other one is as with the defaults."""
    for path, passes in ((ROUTE, True), (f"{ROUTE}?of=7", True), ("/", False), (f"{ROUTE}/more", False)):
        gate = Gated()
        with (
            Upstream(gate) as upstream,
            Hop(
                "nginx-routes",
                upstreams=[upstream.place],
                folder=tmp_path / str(len(path)),
                say=print,
                route=ROUTE,
                program=nginx,
            ) as hop,
        ):
            asked = b"Accept-Encoding: gzip\r\n"
            early, late = first_and_rest(hop, gate, asked, path, limit_s=PATIENCE_S if passes else HELD_S)
        assert (b"data: 1" in early) is passes, path
        assert (b"Content-Encoding: gzip" in early + late) is not passes, path


@pytest.mark.integration
def test_each_upstream_has_a_port_of_its_own(kind: HopKind, tmp_path: Path) -> None:
    with (
        Upstream(lambda connection: connection.sendall(HEAD + b"data: one\n\n")) as one,
        Upstream(lambda connection: connection.sendall(HEAD + b"data: two\n\n")) as two,
        Hop(kind, upstreams=[one.place, two.place], folder=tmp_path, say=print, route=ROUTE) as hop,
    ):
        answers = []
        for port in hop.ports:
            with connect(port) as client:
                client.sendall(REQUEST % (ROUTE.encode(), b""))
                answers.append(read_to_end(client))
    assert [(b"data: one" in each, b"data: two" in each) for each in answers] == [
        (True, False),
        (False, True),
    ]


def _chunk_sizes(body: bytes) -> list[int]:
    sizes = []
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            break
        sizes.append(size)
        body = rest[size + 2 :]
    return sizes


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
        Hop("nginx-sse", upstreams=[upstream.place], folder=folder, say=said.append, program=nginx) as hop,
    ):
        assert {path.name for path in folder.iterdir()} >= {"nginx.conf", "nginx.pid", "proxy", "client_body"}
        with connect(hop.port) as client:  # the upstream says nothing: nginx answers 502 and tells why
            client.sendall(REQUEST % (b"/", b""))
            assert b"502" in client.recv(65536)
    assert any("upstream prematurely closed" in line for line in said)
    assert hop.lines == [line for line in said if line][-50:]


@pytest.mark.integration
def test_a_configuration_it_refuses_is_an_error_with_its_words(nginx: Path, tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"nginx does not start: .*host not found in upstream"):
        Hop(
            "nginx-sse",
            upstreams=["no.such.host.invalid:1"],
            folder=tmp_path,
            say=lambda line: None,
            program=nginx,
        )


STARTER = """
import sys
from pathlib import Path
from sseproof.chaos.hops import Hop
hop = Hop(sys.argv[2], upstreams=[sys.argv[3]], folder=Path(sys.argv[1]), say=lambda line: None)
print(hop.pid, hop.port, flush=True)
sys.stdin.read()
"""


def children(pid: int) -> list[int]:
    """The workers: the kernel takes connections already before the master has made them."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        # Before Apache stands a shell: its only child is the master.
        if found and Path(f"/proc/{pid}/comm").read_text().strip() == "sh":
            pid = found[0]
        elif found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{pid} made no worker")


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard is Linux's")
@pytest.mark.parametrize("kind", MASTERS)
def test_no_worker_outlives_a_killed_parent(
    request: pytest.FixtureRequest, tmp_path: Path, kind: HopKind
) -> None:
    """Not even while it carries a stream."""
    request.getfixturevalue(program_of(kind))
    gate = Gated()
    with Upstream(gate) as upstream:
        for number in range(20):
            arguments = (str(tmp_path / str(number)), kind, upstream.place)
            with run(Path(sys.executable), "-c", STARTER, *arguments) as parent:
                pid, port = map(int, parent.stdout.readline().split())
                with connect(port) as client:
                    client.sendall(REQUEST % (b"/", b""))
                    assert b"data: 1" in read_until(client)
                    workers = children(pid)
                    os.kill(parent.pid, signal.SIGKILL)
                    parent.wait(5)
                    assert gone(pid)
                    assert all(gone(worker) for worker in workers)
            assert workers
            nobody_listens([port], limit_s=5)
        gate.go.set()


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
            "nginx-defaults",
            upstreams=[upstream.place],
            folder=tmp_path / "hop",
            say=said.append,
            program=nginx,
        ) as hop,
    ):
        expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert {(tmp_path / "hop" / name).stat().st_uid for name in ("proxy", "client_body")} == {expected}
        with connect(hop.port) as client:
            client.sendall(REQUEST % (b"/", b""))
            assert written.wait(10), said
            received = 0
            while got := client.recv(65536):
                received += len(got)
        # What has answered has left its first user behind.
        assert [user_of(worker) for worker in children(hop.pid)] == [expected]
    assert received > 16_000_000, said
    assert any("buffered to a temporary file" in line for line in said), said


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is read from /proc")
def test_no_worker_of_apache_is_root(apache: Path, tmp_path: Path) -> None:
    expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    with (
        Upstream(lambda connection: connection.sendall(HEAD + b"data: 1\n\n")) as upstream,
        Hop("apache-defaults", upstreams=[upstream.place], folder=tmp_path, say=print, program=apache) as hop,
        connect(hop.port) as client,
    ):
        client.sendall(REQUEST % (b"/", b""))
        assert b"data: 1" in read_to_end(client)
        # What has answered has left its first user behind; others may just be on their way.
        deadline = time.monotonic() + 10
        while (users := {user_of(worker) for worker in children(hop.pid)}) != {expected}:
            assert time.monotonic() < deadline, users
            time.sleep(0.01)
        assert {path.name for path in tmp_path.iterdir()} == {"apache.conf", "apache.pid"}


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", MASTERS)
def test_closing_takes_the_workers_too(
    request: pytest.FixtureRequest, tmp_path: Path, kind: HopKind, number: int
) -> None:
    request.getfixturevalue(program_of(kind))
    hop = Hop(kind, upstreams=["127.0.0.1:9"], folder=tmp_path, say=lambda line: None)
    workers = children(hop.pid)
    os.kill(hop.pid, number)
    hop.close()
    hop.close()
    assert workers
    assert all(gone(worker) for worker in workers)
