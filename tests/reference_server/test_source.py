"""The lean source: evenly paced, numbered without a gap, and honest about what it could not write."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from sseproof.reference_server.source import SourceRow

pytestmark = pytest.mark.integration


class Running:
    """The source as a child."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "sseproof.reference_server.source"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def row(self) -> SourceRow:
        """The next second's."""
        assert self.process.stdout is not None
        return msgspec.json.decode(self.process.stdout.readline(), type=SourceRow)

    def ask(self, path: str) -> int:
        """The status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        with contextlib.closing(connection):
            return connection.getresponse().status

    def opened(self) -> socket.socket:
        """A stream."""
        stream = socket.create_connection(("127.0.0.1", self.port))
        stream.settimeout(10)
        stream.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.recv(4_096).startswith(b"HTTP/1.1 200 OK")
        return stream


@pytest.fixture
def source() -> Iterator[Running]:
    running = Running()
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        running.process.stdout.close()


def numbers(stream: socket.socket, count: int) -> list[int]:
    """The numbers of a stream's events, until there are so many."""
    data = b""
    while len(re.findall(rb"\n\n\r\n", data)) < count:
        data += stream.recv(65_536)
    return [int(number) for number in re.findall(rb"id: (\d+)\nevent: delta\ndata: ", data)]


def paced(source: Running, path: str, rate: float) -> SourceRow:
    """Asks for a rate; the events of about two seconds are never more than planned, and not far fewer."""
    from_ns = time.time_ns()
    assert source.ask(path) == 204
    rows = [source.row()]
    while rows[-1].at_ns < from_ns + 2 * 10**9:
        rows.append(source.row())
    written = sum(row.written for row in rows if row.at_ns >= from_ns)
    length_s = (rows[-1].at_ns - from_ns) / 1e9
    # The second in which it was asked may begin with events of the rate before.
    assert 0.2 * rate * length_s <= written <= 1.1 * rate * (length_s + 1)
    return rows[-1]


def test_every_stream_gets_its_events_in_order_and_evenly(source):
    streams = [source.opened() for _ in range(4)]
    row = paced(source, "/each/50", 200)
    assert (row.open_streams, row.left_out) == (4, 0)
    for stream in streams:
        seen = numbers(stream, 50)
        assert seen == list(range(1, len(seen) + 1))
    paced(source, "/total/300", 300)
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 30
    while source.row().open_streams:
        assert time.monotonic() < deadline


def test_what_a_reader_does_not_take_is_left_out_and_counted(source):
    with source.opened():
        source.ask("/total/100000")
        deadline = time.monotonic() + 30
        while not source.row().left_out:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("path", ["/each/x", "/all/5", "/each", "/total/-1", "/total/1e12", "/total/nan"])
def test_what_it_does_not_understand_is_refused(source, path):
    assert source.ask(path) == 400
