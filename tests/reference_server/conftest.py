"""The reference server as a real child process, and a client that is nothing but a socket."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from sseproof.reference_server.settings import ServerSettings, settings_to_json
from sseproof.rundir.rows import WitnessRow

CHAT = "/api/v1/stream/chat"
QUICK = "first_token_ms=0&interval_ms=1"


@dataclass
class Reply:
    """What came over one connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: str
    """whole (framing complete), fin (closed inside the framing), close (closed, no framing), open (still open)."""

    @property
    def events(self) -> list[dict[str, str]]:
        """Fields of each event, data undecoded; written for LF and one data line, which is all the server sends."""
        blocks = self.body.decode("utf-8", "replace").split("\n\n")
        return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks[:-1]]

    @property
    def numbers(self) -> list[int]:
        return [int(e["id"].rpartition("-")[2]) for e in self.events if e.get("event", "ping") != "ping"]

    @property
    def types(self) -> list[str]:
        return [event["event"] for event in self.events if "event" in event]

    @property
    def text(self) -> str:
        return "".join(
            json.loads(event["data"])["text"] for event in self.events if event["event"] == "delta"
        )

    @property
    def last_id(self) -> str:
        return self.events[-1]["id"]

    @property
    def last_seen_id(self) -> str:
        """What an EventSource would continue from: blocks without an id change nothing."""
        return next(event["id"] for event in reversed(self.events) if "id" in event)


class Client:
    """One connection: writes a request, reads what comes."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, timeout_s: float = 20) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self.raw = b""

    def send(
        self,
        target: str,
        headers: dict[str, str | bytes] | None = None,
        *,
        method: str = "GET",
        body: bytes | None = None,
        version: str = "1.1",
    ) -> "Client":
        lines = [f"{method} {target} HTTP/{version}".encode()]
        if "Host" not in (headers or {}):
            lines.append(b"Host: localhost")
        for name, value in (headers or {}).items():
            lines.append(name.encode() + b": " + (value.encode() if isinstance(value, str) else value))
        if body is not None:
            lines.append(f"Content-Length: {len(body)}".encode())
        self.socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""))
        return self

    def read_until(self, mark: bytes) -> bytes:
        """Reads on until the mark has come."""
        while mark not in self.raw:
            data = self.socket.recv(65536)
            assert data, f"closed before {mark!r}: {self.raw[-300:]!r}"
            self.raw += data
        return self.raw

    def reply(self, quiet_s: float | None = None) -> Reply:
        """Reads to the end, or until nothing has come for so long."""
        if quiet_s is not None:
            self.socket.settimeout(quiet_s)
        end = ""
        while not end:
            if self._may_be_whole() and (parsed := _parsed(self.raw)) is not None and parsed.end == "whole":
                return parsed
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                if quiet_s is None:
                    raise
                end = "open"
            except ConnectionResetError:
                end = "rst"
            else:
                self.raw += data
                end = "" if data else "closed"
        parsed = _parsed(self.raw)
        assert parsed is not None, self.raw
        if end != "closed":
            parsed.end = end
        return parsed

    def _may_be_whole(self) -> bool:
        """Spares parsing a long answer after each read."""
        return b"chunked" not in self.raw[:1000] or self.raw.endswith(b"0\r\n\r\n")

    def close(self) -> None:
        self.socket.close()


def _parsed(raw: bytes) -> Reply | None:
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    status = int(lines[0].split(" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        body, whole = _unchunked(rest)
        return Reply(status, headers, body, "whole" if whole else "fin")
    if "content-length" in headers or status == 204:
        size = int(headers.get("content-length", "0"))
        return Reply(status, headers, rest[:size], "whole" if len(rest) >= size else "fin")
    return Reply(status, headers, rest, "close")


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        line, found, tail = rest.partition(b"\r\n")
        if not found:
            return body, False
        assert re.fullmatch(rb"[0-9a-f]+", line), line
        size = int(line, 16)
        if size == 0:
            assert tail in {b"\r\n", b""}, tail
            return body, tail == b"\r\n"
        body += tail[:size]
        if len(tail) < size + 2:
            return body, False
        assert tail[size : size + 2] == b"\r\n"
        rest = tail[size + 2 :]


@dataclass
class Server:
    """A running reference server."""

    process: "subprocess.Popen[str]"
    line: str
    port: int
    clients: list[Client] = field(default_factory=list)

    def client(self, **options: Any) -> Client:
        client = Client(self.port, **options)
        self.clients.append(client)
        return client

    def open(self, query: str = "", headers: dict[str, str | bytes] | None = None, **options: Any) -> Client:
        return self.client().send(f"{CHAT}?{query}", headers, **options)

    def get(self, query: str = "", headers: dict[str, str | bytes] | None = None, **options: Any) -> Reply:
        """One whole answer."""
        client = self.open(query, headers, **options)
        reply = client.reply()
        client.close()
        return reply

    def stream(self, truth_id: str, query: str = "", last_event_id: str | None = None) -> Reply:
        headers: dict[str, str | bytes] = {"Sseproof-Stream": truth_id}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        return self.get(query, headers)

    def rows(self, run: str) -> list[WitnessRow]:
        reply = self.client().send(f"/witness?run={run}", {"Connection": "close"}).reply()
        assert reply.status == 200
        return [msgspec.json.decode(line, type=WitnessRow) for line in reply.body.splitlines()]

    def ended_rows(self, run: str, count: int) -> list[WitnessRow]:
        """The rows once so many connections of the run have ended; the server may learn of it a moment later."""
        deadline = time.monotonic() + 20
        while True:
            rows = [row for row in self.rows(run) if row.ended is not None]
            if len(rows) >= count:
                return rows
            assert time.monotonic() < deadline, rows

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, the rest of standard output, standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def start(settings: ServerSettings, **environ: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if name != "SSEPROOF_PARENT"}
    return subprocess.Popen(
        [sys.executable, "-m", "sseproof.reference_server", settings_to_json(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **environ},
    )


Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts servers with the settings given, on free ports; those with equal settings are shared within a module.

    Afterwards each must still have been alive and silent on standard error.
    """
    servers: dict[str, Server] = {}

    def begin(
        *, fresh: bool = False, tokens: str = "", environ: dict[str, str] | None = None, **settings: Any
    ) -> Server:
        made = ServerSettings(**{"port": 0, **settings})
        name = f"{settings_to_json(made)} {tokens} {environ}" + (f" {len(servers)}" if fresh else "")
        if name not in servers:
            process = start(made, SSEPROOF_TOKENS=tokens, **(environ or {}))
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            servers[name] = Server(process, line, int(line.split(":")[2].split("/")[0]))
        return servers[name]

    yield begin
    complaints = [complaint for server in servers.values() if (complaint := _finish(server))]
    assert not complaints


def _finish(server: Server) -> str:
    for client in server.clients:
        client.close()
    process = server.process
    if (
        process.stdout is None or process.stdout.closed
    ):  # the test stopped it itself and looked at what it said
        return ""
    died = process.poll() is not None
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    _, err = process.communicate(timeout=20)
    return f"died: {err}" if died else err


@pytest.fixture
def start_server() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A server whose start is expected to fail."""
    started: list[subprocess.Popen[str]] = []

    def begin(settings: ServerSettings, **environ: str) -> "subprocess.Popen[str]":
        started.append(start(settings, **environ))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
