"""A page of our own in a real browser, served by scripted bytes: what the modules of the demo page are tested on."""

import threading
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

    def __init__(self, number: int, *scripts: Script) -> None:
        self.number = number
        self.scripts = scripts
        self.seen: list[Connection] = []
        self._taken = 0
        self._change = threading.Condition()

    def __call__(self, connection: Connection) -> None:
        path, _, play = (
            connection.request_line.split(" ")[1].partition("?") if connection.head else ("", "", "")
        )
        if path == "/":
            connection.send(file_reply("text/html", EMPTY))
        elif path[1:] in MODULES:
            connection.send(file_reply("text/javascript", (FOLDER / path[1:]).read_bytes()))
        elif path == "/taken":
            if int(play) == self.number:
                with self._change:
                    self._taken = max(self._taken, int(connection.body))
                    self._change.notify_all()
            connection.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        elif path == "/stream" and play in {
            "",
            str(self.number),
        }:  # else one that an earlier play gave up comes late
            self.seen.append(connection)
            self.scripts[min(len(self.seen), len(self.scripts)) - 1](connection)

    def wait_taken(self, number: int) -> None:
        """Until the page has told that it took so many events of one stream."""
        with self._change:
            assert self._change.wait_for(lambda: self._taken >= number, 20), (self._taken, number)

    @property
    def last_ids(self) -> list[str | None]:
        """The Last-Event-ID of each attempt."""
        return [each.header("last-event-id") for each in self.seen]


class Stage:
    """An empty page beside a server whose /stream follows the scripts of the play that is on."""

    def __init__(self, page: Any, server: RawServer) -> None:
        self.page = page
        self.server = server
        self._plays = 0

    def play(self, *scripts: Script) -> Attempts:
        """From here on /stream follows these scripts; the page is the same, and knows nothing of what was before."""
        self._plays += 1
        attempts = Attempts(self._plays, *scripts)
        self.server.script = attempts
        self.page.evaluate("number => { window.play = number; }", self._plays)
        return attempts


@contextmanager
def staged(browser: Any) -> Iterator[Stage]:
    """One page for many plays; no error may be left uncaught on it, and no script may have failed."""
    with serving(Attempts(0)) as server:
        context = browser.new_context()
        try:
            page = context.new_page()
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto(f"http://127.0.0.1:{server.port}/", wait_until="load")
            yield Stage(page, server)
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


def streams(
    *parts: bytes, whole: bool = True, taken: int = 0, then: Callable[[Connection], object] | None = None
) -> Script:
    """An event stream in chunked coding; without its last chunk it is a cut, not an end.

    It ends when so many events were taken: browsers throw away what was not read before a break.
    """

    def script(connection: Connection) -> None:
        connection.send(CHUNKED_HEAD)
        for part in filter(None, parts):  # an empty chunk is the last one
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        if taken:
            attempts = connection.server.script
            assert isinstance(attempts, Attempts)
            attempts.wait_taken(taken)
        if then is not None:
            then(connection)
        elif whole:
            connection.send(b"0\r\n\r\n")

    return script
