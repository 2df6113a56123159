"""A page of our own in a real browser, served by scripted bytes: what the modules of the demo page are tested on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sseproof.reference_server.page import FOLDER
from tests.loadtests.rawserver import CHUNKED_HEAD, Connection, RawServer, Script, serving

MODULES: Final = sorted(path.name for path in FOLDER.glob("*.js"))
EMPTY: Final = b"<!doctype html><title>test</title><link rel=icon href=data:,>"


def file_reply(kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Attempts:
    """The connections to /stream, each handed to the script of its turn; the last script serves all that follow."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.seen: list[Connection] = []

    def __call__(self, connection: Connection) -> None:
        path = connection.request_line.split(" ")[1].partition("?")[0] if connection.head else ""
        if path == "/":
            connection.send(file_reply("text/html", EMPTY))
        elif path[1:] in MODULES:
            connection.send(file_reply("text/javascript", (FOLDER / path[1:]).read_bytes()))
        elif path == "/stream":
            self.seen.append(connection)
            self.scripts[min(len(self.seen), len(self.scripts)) - 1](connection)

    @property
    def last_ids(self) -> list[str | None]:
        """The Last-Event-ID of each attempt."""
        return [each.header("last-event-id") for each in self.seen]


@contextmanager
def opened(browser: Any, *scripts: Script) -> Iterator[tuple[Any, Attempts, RawServer]]:
    """An empty page beside which /stream follows the scripts; nothing may stand on its console but failed requests."""
    attempts = Attempts(*scripts)
    with serving(attempts) as server:
        context = browser.new_context()
        try:
            page = context.new_page()
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"http://127.0.0.1:{server.port}/", wait_until="load")
            yield page, attempts, server
            assert said == []
        finally:
            context.close()


def says(*parts: bytes, then: Callable[[Connection], object] = Connection.close) -> Script:
    """Sends these bytes as they are, then ends as told."""

    def script(connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        then(connection)

    return script


def streams(*parts: bytes, whole: bool = True, then: Callable[[Connection], object] | None = None) -> Script:
    """An event stream in chunked coding; without its last chunk it is a cut, not an end."""

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for part in parts:
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        if then is not None:
            then(connection)
        elif whole:
            connection.send(b"0\r\n\r\n")

    return script
