"""A chat completions endpoint that does what the question says, wrong things above all: a thread a connection, raw bytes."""

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MODEL = "test-model"
KEY = "sk-planted-0123456789"
SECRET = "Traceback: File /srv/secret/app.py, api_key=sk-planted-0123456789"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
TEXT = "Grüße, مرحبا 你好 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2028 end\r\n\n: no comment"


def chunk(content: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'choices': choices}, ensure_ascii=False)}\n\n".encode()


def answer(*texts: str, finish: str = "stop") -> bytes:
    return b"".join(map(chunk, texts)) + chunk(finish=finish) + DONE


@dataclass
class Call:
    """One request that came."""

    connection: socket.socket
    head: str
    body: dict
    sent_bytes: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    """Set by the test where the behaviour waits for it."""
    gone: threading.Event = field(default_factory=threading.Event)
    """The client has closed."""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.sent_bytes += len(data)

    def until_gone(self) -> None:
        with contextlib.suppress(OSError):
            while self.connection.recv(4096):
                pass
        self.gone.set()


def whole(call: Call) -> None:
    call.send(HEAD + answer(*TEXT))


def length(call: Call) -> None:
    call.send(HEAD + answer("x", finish="length"))


def declined(call: Call) -> None:
    """Not one word."""
    call.send(HEAD + answer(finish="content_filter"))


def halves(call: Call) -> None:
    """Cut inside characters, by bytes and by surrogate halves."""
    call.send(HEAD)
    half = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'
    for byte in chunk("ü😀") + half % rb"\ud83d" + half % rb"\ude00" + answer("!"):
        call.send(bytes([byte]))


def zipped(call: Call) -> None:
    """Although nobody asked for it."""
    call.send(HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(answer("zip")))


def without_done(call: Call) -> None:
    call.send(HEAD + chunk("x", "stop"))


def after_done(call: Call) -> None:
    """Keeps the connection open behind its answer."""
    call.send(HEAD + chunk("x", "stop"))
    call.until_gone()


def talks_on(call: Call) -> None:
    """Never stops, although its answer is whole."""
    with contextlib.suppress(OSError):
        call.send(HEAD + chunk("x", "stop"))
        while not call.go.wait(0.05):
            call.send(chunk("more"))
    call.gone.set()


def quiet(call: Call) -> None:
    """Says something, then nothing until the test lets it."""
    call.send(HEAD + chunk("before "))
    call.go.wait(30)
    call.send(answer("after"))


def slow(call: Call) -> None:
    """As `quiet`, and hears of the client's leaving."""
    call.send(HEAD + chunk("before "))
    call.until_gone()


def slow_headers(call: Call) -> None:
    call.send(HEAD[:20])
    call.until_gone()


def cut(call: Call) -> None:
    call.send(HEAD + chunk("x"))


def half_an_event(call: Call) -> None:
    call.send(HEAD[:-2] + b"Content-Length: 999\r\n\r\n" + chunk("x") + b"data: {")


def reset(call: Call) -> None:
    call.send(HEAD + chunk("x"))
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def status(code: int) -> Callable[[Call], None]:
    def behave(call: Call) -> None:
        body = json.dumps({"error": {"message": SECRET}}).encode()
        call.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (code, len(body), body))

    return behave


def moved(call: Call) -> None:
    call.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere?whole\r\nContent-Length: 0\r\n\r\n")


def inband(call: Call) -> None:
    call.send(HEAD + chunk("x") + f"data: {json.dumps({'error': {'message': SECRET}})}\n\n".encode())


def no_json(call: Call) -> None:
    call.send(HEAD + chunk("x") + b"data: " + SECRET.encode() + b"\n\n")


def garbage(call: Call) -> None:
    call.send(b"\x16\x03\x01" + SECRET.encode() + b"\r\n\r\n")


def page(call: Call) -> None:
    call.send(HEAD.replace(b"event-stream", b"html") + SECRET.encode())


def long_line(call: Call) -> None:
    with contextlib.suppress(OSError):
        call.send(HEAD + b"data: ")
        while call.sent_bytes < 50_000_000:
            call.send(b"x" * 65_536)


def bomb(call: Call) -> None:
    """A few hundred KB that are 500 MB of one line."""
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"data: ") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"x" * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    with contextlib.suppress(OSError):
        call.send(HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n" + head + block * 500)


def flood(call: Call) -> None:
    """Far more than anybody reads."""
    with contextlib.suppress(OSError):
        call.send(HEAD)
        while call.sent_bytes < 200_000_000:
            call.send(chunk("x" * 1000) * 16)
    call.gone.set()


def hung_up(call: Call) -> None:
    """No byte of an answer."""


BEHAVIOURS: dict[str, Callable[[Call], None]] = {
    behave.__name__: behave
    for behave in (
        whole, length, declined, halves, zipped, without_done, after_done, talks_on, quiet, slow, slow_headers, cut, half_an_event, reset,
        moved, inband, no_json, garbage, page, long_line, bomb, flood, hung_up,
    )
}  # fmt: skip  # one name a line helps nobody
BEHAVIOURS |= {f"status {code}": status(code) for code in (401, 429, 500)}


class Upstream:
    """Listens on a free port of loopback, by TLS where it is given a context."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.calls: list[Call] = []
        self._came = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def environ(self) -> dict[str, str]:
        scheme = "http" if self._tls is None else "https"
        base = f"{scheme}://127.0.0.1:{self.port}/v1"
        return {"LLM_BASE_URL": base, "LLM_MODEL": MODEL, "LLM_API_KEY": KEY}

    def call(self, number: int, limit_s: float = 20) -> Call:
        """The request of this number, counted from 0, once it has come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.calls) > number, limit_s)
            return self.calls[number]

    def close(self) -> None:
        self._listener.close()
        for call in self.calls:
            call.go.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError), self._ready(accepted) as connection:
            raw = b""
            while b"\r\n\r\n" not in raw:
                raw += connection.recv(65_536)
            head, _, body = raw.partition(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(body) < size:
                body += connection.recv(65_536)
            call = Call(connection, head.decode(), json.loads(body))
            with self._came:
                self.calls.append(call)
                self._came.notify_all()
            BEHAVIOURS[call.body["messages"][0]["content"]](call)

    def _ready(self, accepted: socket.socket) -> socket.socket:
        if self._tls is None:
            return accepted
        with accepted:  # of a wrapped one only the shell is left here
            return self._tls.wrap_socket(accepted, server_side=True)


@contextlib.contextmanager
def upstream(tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """A running one."""
    running = Upstream(tls)
    try:
        yield running
    finally:
        running.close()
