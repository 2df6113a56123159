"""The reference server over HTTP: aiohttp at the edge, everything it says decided by the pure modules.

Rules:
- `robust` does what a good SSE service does: ids, resume, heartbeats, `retry:`, headers that keep proxies from
  buffering. `legacy` is the naive one: none of these.
- Every response names the server and its witness; /witness answers loopback peers only.
- What a client gets wrong is a 400 with one sentence of JSON; an unknown Last-Event-ID is said in the stream.
- One shared timer sends the heartbeats; a reader that stays too slow is closed and the witness says so.
"""

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from sseproof.reference_server import wire
from sseproof.reference_server.ask import parse_ask, parse_feed_ask, sentence
from sseproof.reference_server.emission import Emission, Options
from sseproof.reference_server.feed import FeedAdmitter, FeedAsk
from sseproof.reference_server.metrics import OTHER, ServerMetrics
from sseproof.reference_server.misbehave import Misbehaviour, parse_modes
from sseproof.reference_server.page import add_page
from sseproof.reference_server.settings import (
    CHAT_PATH,
    DROPPED_HEADER,
    FEED_PATH,
    HEALTH_PATH,
    METRICS_PATH,
    SERVER_HEADER,
    STREAM_PARAMETER,
    TRUTH_HEADER,
    WITNESS_PATH,
    ServerSettings,
)
from sseproof.reference_server.streams import Admission, Admitter, Ask, StreamName, parse_name
from sseproof.reference_server.witness import Connection, Witness
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import RigError, SuiteError, UsageError
from sseproof.rundir.parent import orphaned
from sseproof.rundir.rows import Instant, WitnessRow
from sseproof.rundir.text import printable

BACKLOG: Final = 4_096
"""Thousands of streams may connect within one turn of the loop; the kernel caps it by somaxconn."""
BODY_LIMIT_BYTES: Final = 64 * 1024
"""The longest question in four-byte characters, escaped, with room for its frame."""
WITNESS_BATCH_BYTES: Final = 256 * 1024
HEARTBEAT_STEPS: Final = 20
"""A heartbeat comes at most a twentieth late."""
LONGEST_STEP_S: Final = 1.0
SHORTEST_STEP_S: Final = 0.01

ROBUST_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
LEGACY_HEADERS: Final = {"Content-Type": "text/event-stream"}
PREFLIGHT_HEADERS: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Last-Event-ID, Content-Type, Authorization",
    "Access-Control-Max-Age": "600",
}

A = TypeVar("A", Ask, FeedAsk)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """The handlers and what they share. Raises UsageError for a bad mode, RigError for an unwritable run directory."""

    def __init__(self, settings: ServerSettings) -> None:
        try:
            modes = parse_modes(settings.misbehave)
            misbehaviour = Misbehaviour(modes, settings.misbehave_share, settings.seed)
        except ValueError as error:
            raise UsageError(sentence(str(error))) from error
        self.settings = settings
        self.robust = settings.profile == "robust"
        self.witness = Witness(Path(settings.witness_dir) if settings.witness_dir else None)
        self.metrics = ServerMetrics(settings.profile, (CHAT_PATH, FEED_PATH))
        self.failure: SuiteError | None = None
        """Why the server can't go on."""
        self.on_failure: Callable[[], None] = _nothing
        self._admitter = Admitter(settings.seed, misbehaviour, resumes=self.robust)
        self._feeds = FeedAdmitter(settings.seed, misbehaviour)
        self._emissions: dict[Emission, None] = {}
        self._closing = False
        self._name = f"reference; profile={settings.profile}; witness={WITNESS_PATH}"

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES, middlewares=[_sentences])
        app.on_response_prepare.append(self._sign)
        if self.settings.allow_origin:
            app.on_response_prepare.append(self._allow_origin)
            app.router.add_route(hdrs.METH_OPTIONS, CHAT_PATH, _preflight)
        app.router.add_get(CHAT_PATH, self.chat, allow_head=False)
        app.router.add_post(CHAT_PATH, self.chat)
        app.router.add_get(FEED_PATH, self.feed, allow_head=False)
        app.router.add_post(FEED_PATH, self.feed)
        app.router.add_get(HEALTH_PATH, self.health)
        app.router.add_get(WITNESS_PATH, self.witnessed, allow_head=False)
        add_page(app)
        app.router.add_get(METRICS_PATH, self.scraped, allow_head=False)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One connection of a stream."""
        return await self._stream(
            request, lambda body: parse_ask(_asked(request), body), self._admitter.admit
        )

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """One connection of a topic's subscriber."""
        if not self.robust:
            return _problem(404, "The legacy profile has no feed: its events have no numbers.")
        return await self._stream(
            request, lambda body: parse_feed_ask(_asked(request), body), self._feeds.admit
        )

    async def _stream(
        self,
        request: web.Request,
        parse: Callable[[bytes], A],
        admit: Callable[[A, StreamName | None, str | None, float], Admission],
    ) -> web.StreamResponse:
        accepted_ns = now_ns()
        loop = asyncio.get_running_loop()
        try:
            ask = parse(await request.read() if request.can_read_body else b"")
            header = request.headers.get(TRUTH_HEADER) or request.query.get(STREAM_PARAMETER)
            name = None if header is None else parse_name(header)
            admission = admit(ask, name, request.headers.get(hdrs.LAST_EVENT_ID), loop.time())
        except ValueError as error:
            return _problem(400, sentence(str(error)))
        connection = self._connection(request, admission, accepted_ns)
        try:
            return await self._answer(request, admission, connection, sent_at=ask.sent_at)
        finally:
            self._closed(connection, "shutdown" if self._closing else "client-gone")

    async def health(self, _: web.Request) -> web.Response:
        """A sign of life."""
        return _json({"status": "ok", "service": wire.SERVICE})

    async def witnessed(self, request: web.Request) -> web.StreamResponse:
        """The witness rows of `?run=ID` (without it: all), a line of JSON each."""
        if not _is_loopback(request.remote):
            return _problem(
                403, "The witness answers loopback peers only: ask from the machine this server runs on."
            )
        run = request.query.get("run")
        response = web.StreamResponse(
            headers={"Content-Type": "application/jsonl", DROPPED_HEADER: str(self.witness.dropped(run))}
        )
        await response.prepare(request)
        batch = bytearray()
        for line in self.witness.lines(run):
            batch += line
            if len(batch) >= WITNESS_BATCH_BYTES:
                await response.write(batch)
                batch = bytearray()
        await response.write_eof(bytes(batch))
        return response

    async def scraped(self, request: web.Request) -> web.Response:
        """The figures for Prometheus."""
        if self.settings.metrics_from == "loopback" and not _is_direct(request):
            return _problem(
                403,
                "The metrics answer loopback peers only: scrape from the machine this server runs on, or start it with "
                "--metrics-from anywhere.",
            )
        content, content_type = self.metrics.exposition(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=content, headers={hdrs.CONTENT_TYPE: content_type})

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """The one timer behind all heartbeats."""
        heartbeat_s = self.settings.heartbeat.seconds
        now = loop.time()
        for emission in self._emissions:
            emission.ping(now, heartbeat_s)
        step_s = min(max(heartbeat_s / HEARTBEAT_STEPS, SHORTEST_STEP_S), LONGEST_STEP_S)
        loop.call_later(step_s, self.beat, loop)

    def close(self) -> None:
        """Ends every stream where it is."""
        self._closing = True
        for emission in list(self._emissions):
            emission.stop("shutdown")

    async def _answer(
        self, request: web.Request, admission: Admission, connection: Connection, *, sent_at: bool
    ) -> web.StreamResponse:
        if admission.kind == "finished":
            self._closed(connection, "finished")
            return web.Response(status=204)
        response = web.StreamResponse(headers=ROBUST_HEADERS if self.robust else LEGACY_HEADERS)
        if admission.stream is not None:
            # A client can't see from the outside that a feed will never end.
            kind = "subscription" if admission.stream.script.endless else "answer"
            response.headers[SERVER_HEADER] = f"{self._name}; kind={kind}"
        chunked = request.version >= (1, 1)
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.force_close()  # an HTTP/1.0 body without a length ends with its connection
        if self.robust:
            response.headers[hdrs.CONNECTION] = "keep-alive" if chunked and request.keep_alive else "close"
        writer = transport = None
        with contextlib.suppress(ConnectionResetError):  # the client left before the first byte
            writer = await response.prepare(request)
            transport = request.transport
        if writer is None or transport is None:
            self._closed(connection, "client-gone")
            return response
        if admission.kind == "unknown":
            shown = printable(request.headers.get(hdrs.LAST_EVENT_ID, ""))
            await self._say_error(response, connection, "unknown Last-Event-ID", last_event_id=shown)
            self._closed(connection, "unknown-id")
            return response
        assert admission.stream is not None
        options = Options(
            ids=self.robust,
            sent_at=sent_at,
            chunked=chunked,
            retry_ms=self.settings.retry_ms if self.robust else None,
            write_limit_bytes=self.settings.write_limit_bytes,
        )
        self._bound(transport)
        emission = Emission(transport, admission.stream, connection, options, admission.first)
        admission.stream.opened += 1
        self._emissions[emission] = None
        try:
            emission.begin()
            while await emission.signal() == "full":
                async with asyncio.timeout(self.settings.slow_reader.seconds):
                    await writer.drain()
                emission.go_on()
        except TimeoutError:
            self._closed(connection, "slow-reader")
            transport.abort()
            return response
        finally:
            if emission.end is not None:  # closing after a cut cancels this task before it hears of the end
                self._closed(connection, emission.end)
            admission.stream.opened -= 1
            del self._emissions[emission]
            emission.stop("shutdown")
        return await self._ended(response, emission, connection, transport)

    def _bound(self, transport: asyncio.Transport) -> None:
        """Limits what may wait for this reader, here and in the kernel, whose own limit is megabytes."""
        limit = self.settings.write_limit_bytes
        transport.set_write_buffer_limits(high=limit)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limit)

    async def _ended(
        self,
        response: web.StreamResponse,
        emission: Emission,
        connection: Connection,
        transport: asyncio.Transport,
    ) -> web.StreamResponse:
        assert emission.end is not None
        if emission.error is not None:
            await self._say_error(response, connection, "internal error")
            raise emission.error
        if emission.end == "shutdown":
            transport.abort()
        elif emission.end != "cut":
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self.settings.slow_reader.seconds):
                    await response.write_eof()
                return response
            transport.abort()
        return response

    async def _say_error(
        self, response: web.StreamResponse, connection: Connection, message: str, **details: str
    ) -> None:
        frame = wire.error_frame(message, **details)
        connection.extra_bytes(len(frame))
        await response.write(frame)

    def _connection(self, request: web.Request, admission: Admission, accepted_ns: int) -> Connection:
        stream = admission.stream
        served = stream is not None and admission.kind == "serve"
        headers = request.headers
        row = WitnessRow(
            run=admission.name.run,
            truth_id=admission.name.truth_id,
            connection=1 if stream is None else stream.connections,
            profile=self.settings.profile,
            path=printable(request.path),
            script=stream.script.spec if stream is not None and served else None,
            status=204 if admission.kind == "finished" else 200,
            meant_first=admission.meant_first,
            meant_last=stream.script.last if stream is not None and served else None,
            accepted=Instant(accepted_ns),
            misbehaved=list(admission.misbehaved),
            last_event_id=_shown(headers.get(hdrs.LAST_EVENT_ID)),
            accept=_shown(headers.get(hdrs.ACCEPT)),
            accept_encoding=_shown(headers.get(hdrs.ACCEPT_ENCODING)),
            user_agent=_shown(headers.get(hdrs.USER_AGENT)),
        )
        connection = Connection(row)
        self.witness.opened(connection)
        self.metrics.opened(connection, _endpoint(request))
        return connection

    def _closed(self, connection: Connection, end: str) -> None:
        try:
            self.witness.closed(connection, end)
            self.metrics.closed(connection)
        except SuiteError as error:
            # The rows are what this server is for: without them it stops.
            self.failure = self.failure or error
            self.on_failure()

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        self.metrics.responded(_endpoint(request), response.status)
        response.headers.setdefault(SERVER_HEADER, self._name)

    async def _allow_origin(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = self.settings.allow_origin


def run_server(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT; prints one line on standard output when it is ready.

    Raises UsageError for a bad mode; RigError when the port is taken, the address is not ours, or rows can't be written.
    """
    if orphaned():
        raise RigError("The process that started this server is gone.")
    _raise_descriptor_limit()
    service = Service(settings)
    try:
        asyncio.run(_serve(service))
    finally:
        service.witness.close()


async def _serve(service: Service) -> None:
    settings = service.settings
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()
    service.on_failure = lambda: _set(stopped)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _set, stopped)
    runner = web.AppRunner(
        service.application(),
        access_log=None,
        handler_cancellation=True,
        handle_signals=False,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        await _listen(runner, settings)
        if service.robust:
            service.beat(loop)
        print(f"sseproof reference server ({settings.profile}) on {_url(runner)}{CHAT_PATH}", flush=True)
        await stopped
    finally:
        service.close()
        await runner.cleanup()
    if service.failure is not None:
        raise service.failure


async def _listen(runner: web.AppRunner, settings: ServerSettings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG).start()
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise RigError(
                f"The port of {where} is taken: choose another with --port, or 0 for a free one."
            ) from error
        raise RigError(f"The server can't listen on {where}: {error.strerror or error}.") from error


def _nothing() -> None:
    """Nobody is told before the server runs."""


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _raise_descriptor_limit() -> None:
    """The soft limit is often 1,024: too few for what one run asks of this server."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _is_loopback(peer: str | None) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_direct(request: web.Request) -> bool:
    """From this machine, and not through a proxy on it, whose own peers may be anywhere."""
    return _is_loopback(request.remote) and not {"X-Forwarded-For", "Forwarded"} & request.headers.keys()


def _endpoint(request: web.Request) -> str:
    """The route, never the path as it was asked for: whoever asks must not make up new ones."""
    resource = request.match_info.route.resource
    return OTHER if resource is None else resource.canonical


async def _preflight(_: web.Request) -> web.Response:
    """What a browser asks before it sends a header of a page's own, as a reconnection by fetch does."""
    return web.Response(status=204, headers=PREFLIGHT_HEADERS)


def _asked(request: web.Request) -> dict[str, str]:
    """The query's wishes, without the stream's name."""
    return {name: value for name, value in request.query.items() if name != STREAM_PARAMETER}


def _shown(header: str | None) -> str | None:
    return None if header is None else printable(header)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _problem(status: int, sentence: str) -> web.Response:
    return _json({"error": sentence}, status)


@web.middleware
async def _sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors of the HTTP layer (no such path, wrong method, body too large) as JSON sentences too."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _problem(error.status, f"{error.reason}: {request.method} {printable(request.path)}.")
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
        return response
