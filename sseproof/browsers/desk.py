"""The desk: serves the page, says what there is to do, tells the time, and takes the records.

Rules:
- One origin for all of it, so that a page needs no permission to post; the streams come from elsewhere, as the service
  allows (CORS). Nothing is answered without the run's key but the page's own static parts, which hold no secret.
- Whoever can reach the port can knock: bodies, connections and waits are bounded, the Host header must be ours (no page of
  another name may lead here), and a stream is taken once, from the page that it was given to.
- Threads of the standard library: the process that makes a run imports neither gevent nor asyncio. Records are few: a
  hundred answers are two hundred posts.
"""

import contextlib
import hmac
import http.server
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from sseproof.browsers.posts import (
    BODY_LIMIT_BYTES,
    Clock,
    Done,
    Job,
    Join,
    Joined,
    Post,
    Question,
    Rendering,
    Start,
    Stream,
    Work,
    browser_of,
    unique,
)
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, SuiteError
from sseproof.rundir.text import printable

PAGE_FOLDER: Final = Path(__file__).resolve().parent / "page"
CLIENT_FOLDER: Final = Path(__file__).resolve().parents[1] / "reference_server" / "static"
CLIENT_NAME: Final = "sse-consumer.js"
PAGE_NAME: Final = "index.html"
MOST_PAGES: Final = 32
MOST_CONNECTIONS: Final = 128
"""A browser keeps six; the rest are strangers."""
SOCKET_S: Final = 30.0
"""For one request, and for the silence between two."""
GONE_S: Final = 90.0
"""A page says every two seconds that it is there; in a tab behind others browsers let it do so once a minute."""
_KINDS: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


class Page(Struct, kw_only=True):
    """A browser's page that joined."""

    id: str
    name: str
    """The browser's, one of its kind: firefox, firefox-2."""
    version: str
    joined: Join
    seen_s: float
    jobs: list[Job] | None = None
    """None before it was given any."""
    begun: set[tuple[str, int]] = msgspec.field(default_factory=set)
    ended: set[tuple[str, int]] = msgspec.field(default_factory=set)
    drawn: set[str] = msgspec.field(default_factory=set)
    over: bool = False
    problem: str = ""

    def may(self, variant: str, stream: int) -> bool:
        """Whether this stream was given to it."""
        return any(
            job.variant == variant and any(number == stream for number, _ in job.streams)
            for job in self.jobs or []
        )


class Sink(Protocol):
    """Whoever puts on record what pages tell."""

    def started(self, _page: Page, post: Start) -> None:
        """A stream begins."""

    def ended(self, page: Page, post: Stream) -> None:
        """A stream is over. Raises ValueError for an account that can't be."""

    def drawn(self, page: Page, post: Rendering) -> None:
        """How the page was drawn meanwhile."""


class _RefusedError(Exception):
    """An answer that is no 200; the sentence goes to the page."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Desk:
    """The desk of one run; safe for its threads."""

    def __init__(self, host: str, port: int) -> None:
        """Listens at once; port 0 takes a free one. Raises RigError when it can't."""
        self.key = secrets.token_urlsafe(16)
        self.problem: SuiteError | None = None
        """Why the record can't go on: a full disk."""
        self._pages: dict[str, Page] = {}
        self._sink: Sink | None = None
        self._lock = threading.RLock()
        self._over = False
        handler = type("Handler", (_Handler,), {"desk": self})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise RigError(f"The page can't be served on {host}:{port}: {error.strerror}.") from error
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        """Scheme, host and port of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def address(self) -> str:
        """What a browser has to open."""
        return f"{self.origin}/?key={self.key}"

    @property
    def pages(self) -> list[Page]:
        """Those that joined, in their order."""
        with self._lock:
            return list(self._pages.values())

    def begin(self, jobs: Mapping[str, list[Job]], sink: Sink) -> None:
        """Gives each page (by its id) its work."""
        with self._lock:
            self._sink = sink
            for page, mine in jobs.items():
                self._pages[page].jobs = mine
                self._pages[page].seen_s = time.monotonic()

    def waiting_for(self) -> list[Page]:
        """Pages with work that are not over yet; one that is silent for too long is over."""
        now_s = time.monotonic()
        with self._lock:
            for page in self._pages.values():
                if page.jobs and not page.over and now_s - page.seen_s > GONE_S:
                    page.over, page.problem = True, "the page went away"
            return [page for page in self._pages.values() if page.jobs and not page.over]

    def close(self) -> None:
        """Tells nobody anything any more."""
        self._over = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def finish(self) -> None:
        """Pages that ask now are told that the run is over, and nothing they tell is put on record any more."""
        with self._lock:  # the record is closed next: whoever is writing to it ends before
            self._over, self._sink = True, None

    # --- what pages ask; from the server's threads ---

    def take(self, path: str, body: bytes) -> Struct | None:
        """The answer to one post. Raises _RefusedError."""
        kind = _POSTS.get(path)
        if kind is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")
        try:
            post = msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST, f"This is no such record: {printable(str(error), 200)}."
            ) from None
        self.check_key(post.key)
        with self._lock:
            if isinstance(post, Join):
                return self._join(post)
            page = self._pages.get(post.page)
            if page is None:
                raise _RefusedError(HTTPStatus.FORBIDDEN, "No page of this name has joined.")
            page.seen_s = time.monotonic()
            try:
                return self._taken(page, post)
            except SuiteError as error:
                self.problem = self.problem or error
                raise _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "The record can't be kept.") from None

    def check_key(self, key: str) -> None:
        """Raises _RefusedError for another key than this run's."""
        if not hmac.compare_digest(key.encode("utf-8", "replace"), self.key.encode()):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, "The key is not this run's: open the address that it printed."
            )

    def _join(self, post: Join) -> Joined:
        if len(self._pages) >= MOST_PAGES:
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS, f"{MOST_PAGES} pages have joined already.")
        name, version = browser_of(post.user_agent)
        page = Page(
            id=secrets.token_hex(8),
            name=unique(name, [each.name for each in self._pages.values()]),
            version=version,
            joined=post,
            seen_s=time.monotonic(),
        )
        self._pages[page.id] = page
        return Joined(page=page.id)

    def _taken(self, page: Page, post: Post) -> Struct | None:
        if isinstance(post, Question):
            return self._work(page, again=post.again)
        if isinstance(post, Done):
            page.over, page.problem = True, printable(post.problem, 400)
            return None
        sink = self._sink
        if sink is None or page.over:
            raise _RefusedError(HTTPStatus.CONFLICT, "Nothing runs for this page.")
        if isinstance(post, Rendering):
            if post.variant in page.drawn or not any(job.variant == post.variant for job in page.jobs or []):
                raise _RefusedError(
                    HTTPStatus.CONFLICT, "This page was not given that client, or has told of it."
                )
            sink.drawn(page, post)
            page.drawn.add(post.variant)
            return None
        assert isinstance(post, Start | Stream)
        key = (post.variant, post.stream)
        known = page.begun if isinstance(post, Start) else page.ended
        if not page.may(*key) or key in known:
            raise _RefusedError(HTTPStatus.CONFLICT, "This stream was not given to this page, or is known.")
        if isinstance(post, Start):
            sink.started(page, post)
        else:
            if key not in page.begun:
                raise _RefusedError(HTTPStatus.CONFLICT, "This stream did not begin.")
            try:
                sink.ended(page, post)
            except ValueError as error:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, f"This can't be: {error}.") from None
        known.add(key)
        return None

    def _work(self, page: Page, *, again: bool) -> Work:
        if self._over or page.over:
            return Work(state="over")
        if page.jobs is None:
            return Work(state="wait")
        return Work(state="run", jobs=[] if again else page.jobs)


_POSTS: Final[Mapping[str, type[Join | Question | Start | Stream | Rendering | Done]]] = {
    "/join": Join,
    "/task": Question,
    "/start": Start,
    "/stream": Stream,
    "/rendering": Rendering,
    "/done": Done,
}


class _Server(http.server.ThreadingHTTPServer):
    """Bounded in its connections; silent about what strangers do wrong."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Callable[..., "_Handler"]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the look-up of our own name that http.server makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(
        self, request: "socket.socket | tuple[bytes, socket.socket]", address: object
    ) -> None:
        """A thread for the connection, or its end where there are too many."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, address)

    def process_request_thread(
        self, request: "socket.socket | tuple[bytes, socket.socket]", address: object
    ) -> None:
        """The connection's thread."""
        try:
            super().process_request_thread(request, address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection to the desk."""

    desk: ClassVar[Desk]
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_S
    server_version = "sseproof"
    sys_version = ""

    def do_GET(self) -> None:  # the name that http.server calls
        """The page, its parts, and the time."""
        received_ns = now_ns()
        with self._sentences():
            parts = urlsplit(self.path)
            if parts.path == "/clock":
                self.desk.check_key(_key_of(parts.query))
                self._json(Clock(us=received_ns / 1_000))
                return
            if parts.path == "/":
                self.desk.check_key(_key_of(parts.query))
                self._file(PAGE_FOLDER / PAGE_NAME)
                return
            name = parts.path.removeprefix("/")
            if name == CLIENT_NAME:
                self._file(CLIENT_FOLDER / CLIENT_NAME)
            elif name in _PARTS:
                self._file(PAGE_FOLDER / name)
            else:
                raise _RefusedError(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:  # the name that http.server calls
        """What a page tells or asks."""
        with self._sentences():
            text = self.headers.get("Content-Length", "")
            if not (text.isascii() and text.isdigit() and len(text) < 12):  # far above any body
                self.close_connection = True
                raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "A record says how long it is.")
            if int(text) > BODY_LIMIT_BYTES:
                self.close_connection = True
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This record is too long.")
            body = self.rfile.read(int(text))
            if len(body) < int(text):
                self.close_connection = True
                return
            self._json(self.desk.take(urlsplit(self.path).path, body))

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Refusals as a sentence of JSON."""
        try:
            self._refuse_other_names()
            yield
        except _RefusedError as error:
            if self.command == "POST" and error.status is not HTTPStatus.BAD_REQUEST:
                self.close_connection = True
            self._send(error.status, "application/json", msgspec.json.encode({"error": str(error)}))

    def _refuse_other_names(self) -> None:
        """No page of another name may lead here (DNS rebinding)."""
        if self.headers.get("Host", "") != urlsplit(self.desk.origin).netloc:
            self.close_connection = True
            raise _RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "The address has another name.")

    def _file(self, path: Path) -> None:
        self._send(HTTPStatus.OK, f"{_KINDS[path.suffix]}; charset=utf-8", path.read_bytes())

    def _json(self, answer: Struct | None) -> None:
        self._send(HTTPStatus.OK, "application/json", msgspec.json.encode({} if answer is None else answer))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as http.server names it
        """Nobody reads it."""


_PARTS: Final = frozenset({"page.js", "page.css"})
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src http:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    # An isolated page gets a finer clock: 5 µs in place of 100 in Chromium, 20 µs in place of 1 ms in Firefox.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _key_of(query: str) -> str:
    try:
        return parse_qs(query, max_num_fields=8).get("key", [""])[0]
    except ValueError:
        return ""
