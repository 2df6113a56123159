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


def test_every_stream_gets_its_events_in_order_and_evenly(source):
    streams = [source.opened() for _ in range(4)]
    assert source.ask("/each/50") == 204
    for stream in streams:
        assert numbers(stream, 50)[:50] == list(range(1, 51))
    rows = [source.row() for _ in range(3)]
    assert rows[-1].open_streams == 4
    assert 100 <= rows[-1].written <= 300
    assert rows[-1].left_out == 0
    source.ask("/total/40")
    for _ in range(2):
        source.row()
    assert 20 <= source.row().written <= 60
    for stream in streams:
        stream.close()
    deadline = time.monotonic() + 10
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
