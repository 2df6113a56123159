"""A server of exact bytes: each connection is handed to a script, in a thread of its own.

Connections are numbered from 1 in the order of their arrival; what each one's request was is kept. Nothing sleeps where
an event can be waited for; where a script is to be slow, it waits for the server's end.
"""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED_HEAD = SSE_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE_HEAD = SSE_HEAD + b"Connection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: str, *, type_: str | None = None, number: int | None = None) -> bytes:
    lines = []
    if number is not None:
        lines.append(f"id: s-{number}")
    if type_ is not None:
        lines.append(f"event: {type_}")
    lines += [f"data: {line}" for line in data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


class Connection:
    """One accepted connection; `send` notes the instants around each write."""

    def __init__(self, server: "RawServer", sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.head = b""
        self.body = b""
        self.sends: list[tuple[int, int]] = []

    def read_request(self) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            part = self.sock.recv(65536)
            if not part:
                return
            received += part
        self.head, _, self.body = received.partition(b"\r\n\r\n")
        if self.server.reads == "head":
            return
        length = int(self.header("content-length") or 0)
        parts = [self.body]
        missing = length - len(self.body)
        while missing > 0 and (part := self.sock.recv(1 << 20)):
            parts.append(part)
            missing -= len(part)
        self.body = b"".join(parts)

    def header(self, name: str) -> str | None:
        for line in self.head.decode("utf-8", "replace").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    def send(self, data: bytes) -> tuple[int, int]:
        before = time.time_ns()
        self.sock.sendall(data)
        after = time.time_ns()
        self.sends.append((before, after))
        return before, after

    def reset(self) -> tuple[int, int]:
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.close()

    def close(self) -> tuple[int, int]:
        before = time.time_ns()
        self.sock.close()
        return before, time.time_ns()

    def until_gone(self) -> None:
        """Blocks until the client has closed, or the server is being stopped."""
        self.sock.settimeout(30)
        with suppress(OSError):
            while self.sock.recv(65536):
                pass


Script = Callable[[Connection], None]


class RawServer:
    """Serves on a free loopback port until `stop`."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, backlog: int = 512) -> None:
        self.script = script
        self.tls = tls
        self.reads: Literal["all", "head", "nothing"] = "all"
        """What of a request is read before the script runs."""
        self.tick = threading.Event()
        """Set when the server stops; `tick.wait(seconds)` paces a script."""
        self.connections: list[Connection] = []
        self.errors: list[BaseException] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/stream"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections) + 1)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self.tls is not None:
                connection.sock = self.tls.wrap_socket(connection.sock, server_side=True)
            if self.reads != "nothing":
                connection.read_request()
            self.script(connection)
        except OSError:
            pass  # the client is gone, or the handshake failed: what the tests provoke
        except BaseException as error:  # noqa: BLE001
            self.errors.append(error)
        finally:
            connection.sock.close()

    def stop(self) -> None:
        self.tick.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._acceptor.join(5)
        for connection in self.connections:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        if self.errors:
            raise self.errors[0]


@contextmanager
def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    server = RawServer(script, tls=tls)
    try:
        yield server
    finally:
        server.stop()
