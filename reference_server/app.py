"""The reference server over HTTP: aiohttp at the edge, everything it says decided by the pure modules.

Rules:
- `robust` does what a good SSE service does: ids, resume, heartbeats, `retry:`, headers that keep proxies from
  buffering. `legacy` is the naive one: none of these.
- Every response names the server and its witness; /witness answers loopback peers only, and pages of other names never.
- What a client gets wrong is a 400 with one sentence of JSON; an unknown Last-Event-ID is said in the stream.
- Who is let in, in which order that is asked, and what he may ask for is the gate's (gate.py); all its refusals are
  answers before a stream begins.
- A stream that is ended before its time ends with a word, a `retry:` or an error event, and with its framing complete.
- One shared timer sends the heartbeats; a reader that stays too slow is closed and the witness says so.
"""

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import hdrs, web

from sseproof.reference_server import wire
from sseproof.reference_server.ask import TooLongError, parse_ask, parse_feed_ask, sentence
from sseproof.reference_server.auth import TOKENS_VARIABLE, Tokens
from sseproof.reference_server.emission import Emission, LiveEmission, Options, ScriptEmission
from sseproof.reference_server.feed import FeedAdmitter, FeedAsk
from sseproof.reference_server.gate import Gate, Visitor
from sseproof.reference_server.handover import Handing
from sseproof.reference_server.limits import Refusal
from sseproof.reference_server.live import LiveAnswer
from sseproof.reference_server.llm import LiveAnswers, answering, mock_allowed, upstream_of
from sseproof.reference_server.metrics import OTHER, ServerMetrics
from sseproof.reference_server.misbehave import Misbehaviour, parse_modes
from sseproof.reference_server.page import add_page
from sseproof.reference_server.peer import listen
from sseproof.reference_server.script import Script
from sseproof.reference_server.settings import (
    ADMIN_PATH,
    CHAT_PATH,
    DROPPED_HEADER,
    FEED_PATH,
    HEALTH_PATH,
    KEY_HEADER,
    KEY_VARIABLE,
    METRICS_PATH,
    SERVER_HEADER,
    STREAM_PARAMETER,
    TRUTH_HEADER,
    WITNESS_PATH,
    ServerSettings,
)
from sseproof.reference_server.streams import Admission, Admitter, Ask, Stream, StreamName, parse_name
from sseproof.reference_server.waiting import Waiting
from sseproof.reference_server.witness import Connection, Witness
from sseproof.rundir.clock import NS_PER_S, now_ns
from sseproof.rundir.errors import RigError, SuiteError, UsageError, unbound
from sseproof.rundir.parent import orphaned
from sseproof.rundir.rows import Instant, WitnessRow
from sseproof.rundir.text import printable
from sseproof.rundir.units import Duration

SITE_HEADER: Final = "Sec-Fetch-Site"
REASON: Final = web.ResponseKey("reason", str)
"""Why it was refused, for the figures."""
DRAIN_RETRY_MS: Final = 500
DRAIN_SPREAD_MS: Final = 1_000
BACKLOG: Final = 4_096
"""Thousands of streams may connect within one turn of the loop; the kernel caps it by somaxconn."""
BODY_LIMIT_BYTES: Final = 64 * 1024
"""The longest question in four-byte characters, escaped, with room for its frame."""
WITNESS_BATCH_BYTES: Final = 256 * 1024
BEATS_A_TURN: Final = 256
"""Heartbeats in one turn of the loop, a few milliseconds: those of 9,000 streams at once would hold up everybody else."""
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

A_contra = TypeVar("A_contra", Ask, FeedAsk, contravariant=True)


class _Admits(Protocol[A_contra]):
    """Decides what a request gets: Admitter for answers, FeedAdmitter for topics."""

    def continued(
        self, name: StreamName | None, last_event_id: str | None, now: float, owner: str | None, /
    ) -> Stream | None: ...

    def admit(
        self,
        ask: A_contra,
        name: StreamName | None,
        last_event_id: str | None,
        now: float,
        owner: str | None,
        /,
    ) -> Admission: ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """The handlers and what they share.

    Raises UsageError for a bad mode or name, or tokens that can't be read, RigError for an unwritable run directory.
    """

    def __init__(self, settings: ServerSettings) -> None:
        tokens = load_tokens(settings, os.environ) if settings.login else None
        try:
            modes = parse_modes(settings.misbehave)
            misbehaviour = Misbehaviour(modes, settings.misbehave_share, settings.seed)
            self.gate = Gate(settings, tokens)
        except ValueError as error:
            raise UsageError(sentence(str(error))) from error
        self.settings = settings
        self.robust = settings.profile == "robust"
        self.witness = Witness(Path(settings.witness_dir) if settings.witness_dir else None)
        self.metrics = ServerMetrics(settings.profile, (CHAT_PATH, FEED_PATH))
        self._key = os.environ.get(KEY_VARIABLE, "")
        self.failure: SuiteError | None = None
        """Why the server can't go on."""
        self.on_failure: Callable[[], None] = _nothing
        self.waiting = None if settings.request_limit is None else Waiting(settings.request_limit.seconds)
        self._admitter = Admitter(
            settings.seed,
            misbehaviour,
            resumes=self.robust,
            window_s=None if settings.replay_window is None else settings.replay_window.seconds,
            replays=settings.replays,
        )
        self._feeds = FeedAdmitter(settings.seed, misbehaviour)
        self._live = _live_answers(settings, os.environ)
        if self._live is not None and modes:
            raise UsageError(
                "Defects are planted in scripted answers only: leave out --misbehave, or take --answers script."
            )
        self._answers: Admitter | LiveAnswers = self._admitter if self._live is None else self._live
        self._emissions: dict[Emission, None] = {}
        self._emptied = asyncio.Event()
        self._closing = False
        self._name = f"reference; profile={settings.profile}; witness={WITNESS_PATH}"

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=BODY_LIMIT_BYTES, middlewares=[self._counted, _sentences])
        app.on_response_prepare.append(self._sign)
        if self._live is not None:
            app.on_cleanup.append(self._live.stopped)
        if self.settings.allow_origin:
            app.on_response_prepare.append(self._allow_origin)
            app.router.add_route(hdrs.METH_OPTIONS, CHAT_PATH, _preflight)
        app.router.add_get(CHAT_PATH, self.chat, allow_head=False)
        app.router.add_post(CHAT_PATH, self.chat)
        app.router.add_get(ADMIN_PATH, self.admin_chat, allow_head=False)
        app.router.add_post(ADMIN_PATH, self.admin_chat)
        app.router.add_get(FEED_PATH, self.feed, allow_head=False)
        app.router.add_post(FEED_PATH, self.feed)
        app.router.add_get(HEALTH_PATH, self.health)
        app.router.add_get(WITNESS_PATH, self.witnessed, allow_head=False)
        add_page(app, self.settings)
        app.router.add_get(METRICS_PATH, self.scraped, allow_head=False)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One connection of a stream."""
        return await self._stream(request, self._parse_ask(request), self._answers)

    async def admin_chat(self, request: web.Request) -> web.StreamResponse:
        """The same for admins, whose hello tells how the server is."""
        return await self._stream(request, self._parse_ask(request), self._answers, admins_only=True)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        """One connection of a topic's subscriber."""
        if not self.robust:
            return _problem(404, "The legacy profile has no feed: its events have no numbers.")
        return await self._stream(request, lambda body: parse_feed_ask(_asked(request), body), self._feeds)

    def _parse_ask(self, request: web.Request) -> Callable[[bytes], Ask]:
        return lambda body: parse_ask(_asked(request), body, self.settings.question_limit_chars)

    async def _stream(
        self,
        request: web.Request,
        parse: Callable[[bytes], A_contra],
        admitter: "_Admits[A_contra]",
        *,
        admins_only: bool = False,
    ) -> web.StreamResponse:
        accepted_ns = now_ns()
        loop = asyncio.get_running_loop()
        last_event_id = request.headers.get(hdrs.LAST_EVENT_ID)
        try:
            visitor = self._visitor(request, admins_only=admins_only)
            header = request.headers.get(TRUTH_HEADER) or request.query.get(STREAM_PARAMETER)
            name = None if header is None else parse_name(header)
            free = admitter.continued(name, last_event_id, loop.time(), visitor.owner) is not None
            if not free:
                _heed(self.gate.rate(visitor, loop.time()))
            body = await self._body(request)
            try:
                ask = parse(body)
            except ValueError:
                if free:  # nothing was continued in the end
                    _heed(self.gate.rate(visitor, loop.time()))
                raise
            _heed(self.gate.draining(loop.time()))  # which may have begun while the body came
            continued = admitter.continued(name, last_event_id, loop.time(), visitor.owner)
            _heed(self.gate.room(visitor, None if continued is None else _place(continued)))
            admission = admitter.admit(ask, name, last_event_id, loop.time(), visitor.owner)
        except _RefusedError as error:
            return _refused(error.refusal)
        except TooLongError as error:
            return _problem(413, sentence(str(error)))
        except ValueError as error:
            return _problem(400, sentence(str(error)))
        connection = self._connection(request, admission, accepted_ns, visitor)
        with contextlib.ExitStack() as held:
            if admission.kind == "serve" and admission.stream is not None:
                if continued is None:  # else one name, asked for again and again, would hold one place
                    admission.stream.begun = admission.stream.connections
                held.enter_context(self.gate.holding(visitor, _place(admission.stream)))
            try:
                return await self._answer(
                    request, admission, connection, sent_at=ask.sent_at, tells=admins_only
                )
            finally:
                self._closed(connection, "shutdown" if self._closing else "client-gone")

    def _visitor(self, request: web.Request, *, admins_only: bool) -> Visitor:
        """Who asks. Raises _RefusedError by what the head says."""
        _heed(self.gate.draining(asyncio.get_running_loop().time()))
        headers = request.headers
        _heed(
            self.gate.page(headers.getall(hdrs.HOST, ()), headers.get(SITE_HEADER), headers.get(hdrs.ORIGIN))
        )
        visitor = self.gate.visitor(
            headers.getall(hdrs.AUTHORIZATION, ()),
            request.remote,
            time.time(),
            asyncio.get_running_loop().time(),
            admins_only=admins_only,
        )
        if isinstance(visitor, Refusal):
            raise _RefusedError(visitor)
        return visitor

    async def _body(self, request: web.Request) -> bytes:
        """The request's body. Raises _RefusedError when it is malformed, too large or too slow, and closes the connection then."""
        if not request.can_read_body:
            return b""
        length = request.content_length
        if length is not None and length > BODY_LIMIT_BYTES:  # before a byte of it is read
            raise _RefusedError(_TOO_LARGE)
        limit = self.settings.request_limit
        try:
            async with asyncio.timeout(None if limit is None else limit.seconds):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _RefusedError(_TOO_LARGE) from None
        except web.RequestPayloadError:
            raise _RefusedError(
                Refusal(400, "The body is not framed or encoded as its head says.", _CLOSES)
            ) from None
        except TimeoutError:
            raise _RefusedError(Refusal(408, f"The body did not come within {limit}.", _CLOSES)) from None

    async def health(self, _: web.Request) -> web.Response:
        """A sign of life, or that no new stream is taken any more."""
        if (refusal := self.gate.draining(asyncio.get_running_loop().time())) is not None:
            response = _json({"status": "draining", "service": wire.SERVICE}, refusal.status)
            response.headers.update(refusal.headers)
            return response
        return _json({"status": "ok", "service": wire.SERVICE})

    async def witnessed(self, request: web.Request) -> web.StreamResponse:
        """The witness rows of `?run=ID` (without it: all), a line of JSON each; with a login, of the user's own streams."""
        if not _is_loopback(request.remote):
            return _problem(
                403, "The witness answers loopback peers only: ask from the machine this server runs on."
            )
        try:
            _heed(self._keyless(request))
            if not self.settings.login:  # else the token keeps other pages out
                _heed(self.gate.names.heed(request.headers.getall(hdrs.HOST, ())))
            user = self._visitor_of_witness(request).user
        except _RefusedError as error:
            return _refused(error.refusal)
        run = request.query.get("run")
        owner = None if user is None or user.admin else user.name
        response = web.StreamResponse(
            headers={"Content-Type": "application/jsonl", DROPPED_HEADER: str(self.witness.dropped(run))}
        )
        await response.prepare(request)
        batch = bytearray()
        for line in self.witness.lines(run, owner):
            batch += line
            if len(batch) >= WITNESS_BATCH_BYTES:
                await response.write(batch)
                batch = bytearray()
        await response.write_eof(bytes(batch))
        return response

    async def scraped(self, request: web.Request) -> web.Response:
        """The figures for Prometheus."""
        if (refusal := self._keyless(request)) is not None:
            return _refused(refusal)
        if self.settings.metrics_from == "loopback" and not _is_direct(request):
            return _problem(
                403,
                "The metrics answer loopback peers only: scrape from the machine this server runs on, or start it with "
                "--metrics-from anywhere.",
            )
        if self.settings.metrics_from == "loopback" and (
            refusal := self.gate.names.heed(request.headers.getall(hdrs.HOST, ()))
        ):
            return _refused(refusal)
        content, content_type = self.metrics.exposition(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=content, headers={hdrs.CONTENT_TYPE: content_type})

    def _keyless(self, request: web.Request) -> Refusal | None:
        given = request.headers.get(KEY_HEADER, "").encode("utf-8", "surrogateescape")
        return None if not self._key or hmac.compare_digest(given, self._key.encode()) else _KEYLESS

    def _visitor_of_witness(self, request: web.Request) -> Visitor:
        # A proxy on this machine makes everybody a loopback peer, and a row tells the answer to who knows the scripts.
        visitor = self.gate.visitor(
            request.headers.getall(hdrs.AUTHORIZATION, ()),
            request.remote,
            time.time(),
            asyncio.get_running_loop().time(),
            admins_only=False,
        )
        if isinstance(visitor, Refusal):
            raise _RefusedError(visitor)
        return visitor

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """The one timer behind all heartbeats and limits."""
        self._beat_some(list(self._emissions), 0, loop)

    def _beat_some(self, emissions: list[Emission], first: int, loop: asyncio.AbstractEventLoop) -> None:
        """A part of the streams, then all others in the process have their turn, then the next part."""
        settings = self.settings
        heartbeat_s = settings.heartbeat.seconds
        limits_s = [each.seconds for each in (settings.total_limit, settings.idle_limit) if each is not None]
        now = loop.time()
        after = first + BEATS_A_TURN
        for emission in emissions[first:after]:
            self._end_over_limit(emission, now)
            if self.robust:
                emission.ping(now, heartbeat_s)
        if after < len(emissions):
            loop.call_soon(self._beat_some, emissions, after, loop)
            return
        step_s = min(max(min([heartbeat_s, *limits_s]) / HEARTBEAT_STEPS, SHORTEST_STEP_S), LONGEST_STEP_S)
        loop.call_later(step_s, self.beat, loop)

    def _end_over_limit(self, emission: Emission, now: float) -> None:
        total, idle = self.settings.total_limit, self.settings.idle_limit
        if total is not None and now - emission.began >= total.seconds:
            emission.leave("total-limit", self._retry_frame(self.settings.retry_ms))
        elif idle is not None and emission.idle_s(now) >= idle.seconds:
            emission.leave("idle-limit", wire.error_frame("nothing to send for too long", limit=str(idle)))

    def _retry_frame(self, retry_ms: int | None) -> bytes:
        return b"" if retry_ms is None or not self.robust else wire.retry_frame(retry_ms)

    def handing(self, loop: asyncio.AbstractEventLoop) -> Handing | None:
        """How streams come from an earlier server and go to a later one; None without a file for it."""
        if self.settings.handover is None:
            return None
        offset_ns = now_ns() - round(loop.time() * NS_PER_S)
        path = Path(self.settings.handover)
        return Handing(
            path,
            seed=self.settings.seed,
            answers=self._admitter,
            feeds=self._feeds,
            witness=self.witness,
            offset_ns=offset_ns,
        )

    def drain(self, limit_s: float) -> None:
        """From now on no new stream is taken, for so long as the open ones may go on."""
        self.gate.draining_until = asyncio.get_running_loop().time() + limit_s

    @property
    def open_streams(self) -> int:
        """How many connections are being sent to."""
        return len(self._emissions)

    def send_home(self) -> None:
        """Ends every stream with a word of when to come again, spread so that they don't come all at once."""
        for emission in list(self._emissions):
            emission.send_home(self._retry_frame(DRAIN_RETRY_MS + emission.spread(DRAIN_SPREAD_MS)))

    def close(self) -> None:
        """Ends every stream where it is."""
        self._closing = True
        for emission in list(self._emissions):
            emission.stop("shutdown")

    async def until_empty(self) -> None:
        """Until no connection is being sent to."""
        while self._emissions:
            self._emptied.clear()
            await self._emptied.wait()

    async def _answer(
        self,
        request: web.Request,
        admission: Admission,
        connection: Connection,
        *,
        sent_at: bool,
        tells: bool,
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
            details={"open_streams": self.open_streams, "profile": self.settings.profile} if tells else {},
        )
        self._bound(transport)
        writer_of = LiveEmission if isinstance(admission.stream.script, LiveAnswer) else ScriptEmission
        emission: Emission = writer_of(transport, admission.stream, connection, options, admission.first)
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
            admission.stream.left = asyncio.get_running_loop().time()
            del self._emissions[emission]
            if not self._emissions:
                self._emptied.set()
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

    def _connection(
        self, request: web.Request, admission: Admission, accepted_ns: int, visitor: Visitor
    ) -> Connection:
        stream = admission.stream
        served = stream is not None and admission.kind == "serve"
        script = stream.script if stream is not None and isinstance(stream.script, Script) else None
        headers = request.headers
        row = WitnessRow(
            run=admission.name.run,
            truth_id=admission.name.truth_id,
            connection=1 if stream is None else stream.connections,
            profile=self.settings.profile,
            path=printable(request.path),
            script=script.spec if script is not None and served else None,
            status=204 if admission.kind == "finished" else 200,
            meant_first=admission.meant_first,
            meant_last=script.last if script is not None and served else None,
            accepted=Instant(accepted_ns),
            misbehaved=list(admission.misbehaved),
            last_event_id=_shown(headers.get(hdrs.LAST_EVENT_ID)),
            accept=_shown(headers.get(hdrs.ACCEPT)),
            accept_encoding=_shown(headers.get(hdrs.ACCEPT_ENCODING)),
            user_agent=_shown(headers.get(hdrs.USER_AGENT)),
        )
        connection = Connection(row, visitor.owner)
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

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tells who is served from who is waited for."""
        if self.waiting is None:
            return await handler(request)
        connection = request.protocol
        self.waiting.begin(connection)
        try:
            return await handler(request)
        finally:
            self.waiting.end(connection, asyncio.get_running_loop().time())

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        self.metrics.responded(_endpoint(request), response.status, response.get(REASON, ""))
        response.headers.setdefault(SERVER_HEADER, self._name)

    async def _allow_origin(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = self.settings.allow_origin


def run_server(settings: ServerSettings, say: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT; prints one line on standard output when it is ready.

    `say` is told, in a sentence, who answers where that is left to the environment.

    Raises UsageError for a bad mode or an address that is not ours; RigError when the port is taken, or rows can't be written.
    """
    if orphaned():
        raise RigError("The process that started this server is gone.")
    _raise_descriptor_limit()
    service = Service(settings)
    if say is not None and settings.answers == "upstream":
        say(answering(os.environ))
    try:
        asyncio.run(_serve(service))
    finally:
        service.witness.close()


async def _serve(service: Service) -> None:
    settings = service.settings
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()
    """The first signal: to drain."""
    stopped: asyncio.Future[None] = loop.create_future()
    """The second signal, or a failure: to end at once."""
    service.on_failure = lambda: _set(stopped)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: _set(stopped if asked.done() else asked))
    runner = web.AppRunner(
        service.application(),
        handler_cancellation=True,
        handle_signals=False,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    assert runner.server is not None
    handing = service.handing(loop)
    listener = None
    try:
        if handing is not None:
            handing.read()
        listener = await _listen(runner.server, settings)
        if handing is not None:
            handing.remove()
        service.beat(loop)
        _sweep(service, runner.server, loop)
        print(f"sseproof reference server ({settings.profile}) on {_url(listener)}{CHAT_PATH}", flush=True)
        await asyncio.wait({asked, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if settings.drain is not None and not stopped.done():
            await _drain(service, settings.drain, stopped)
    finally:
        service.close()
        if listener is not None:
            listener.close()
        await runner.cleanup()
    if service.failure is not None:
        raise service.failure
    if handing is not None:
        handing.write()


async def _drain(service: Service, limit: Duration, stopped: asyncio.Future[None]) -> None:
    """Until all streams have ended: by themselves within the limit, by a word after it, or a second signal has come."""
    service.drain(limit.seconds)
    if service.open_streams:
        print(
            f"sseproof reference server: {service.open_streams} open streams may go on for {limit}; "
            "a second signal ends them at once.",
            file=sys.stderr,
            flush=True,
        )
    await _until_empty(service, limit.seconds, stopped)
    service.send_home()
    await _until_empty(service, service.settings.slow_reader.seconds, stopped)


async def _until_empty(service: Service, limit_s: float, stopped: asyncio.Future[None]) -> None:
    empty = asyncio.ensure_future(service.until_empty())
    await asyncio.wait({empty, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    empty.cancel()


def _sweep(service: Service, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
    """The one timer behind the limit of requests."""
    if service.waiting is None:
        return
    service.waiting.sweep(server.connections, loop.time())
    step_s = min(max(service.waiting.limit_s / HEARTBEAT_STEPS, SHORTEST_STEP_S), LONGEST_STEP_S)
    loop.call_later(step_s, _sweep, service, server, loop)


def load_tokens(settings: ServerSettings, environ: Mapping[str, str]) -> Tokens:
    """The tokens of the file, or else of the environment. Raises UsageError when there are none or they can't be read."""
    text = environ.get(TOKENS_VARIABLE, "")
    where = TOKENS_VARIABLE
    if settings.tokens_file is not None:
        where = settings.tokens_file
        text = _token_file(Path(where))
    try:
        tokens = Tokens(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from None
    if not len(tokens):
        raise UsageError(
            f"A login needs tokens: set {TOKENS_VARIABLE}=user:token, or give a file of such lines by --tokens."
        )
    return tokens


def _token_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The tokens of {path} can't be read: {getattr(error, 'strerror', error)}."
        ) from None
    if mode & stat.S_IWOTH:
        raise UsageError(f"Everybody may write into {path}, and so let himself in: chmod 600 {path}.")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        # Mounted secrets are often readable for all inside their container, so this is no error.
        print(
            f"sseproof reference server: others may read the tokens in {path}: chmod 600 {path}.",
            file=sys.stderr,
        )
    return text


async def _listen(server: web.Server, settings: ServerSettings) -> asyncio.Server:
    try:
        return await listen(server, settings.host, settings.port, BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        taken = error.errno == errno.EADDRINUSE
        raise unbound(
            error,
            f"The port of {where} is taken: choose another with --port, or 0 for a free one."
            if taken
            else f"The server can't listen on {where}: {error.strerror or error}; give an address of this machine with --host.",
        ) from error


def _live_answers(settings: ServerSettings, environ: Mapping[str, str]) -> LiveAnswers | None:
    """The answers of a language model; None where scripts answer. Raises UsageError for a bad environment."""
    if settings.answers == "script":
        return None
    upstream = upstream_of(environ)
    return None if upstream is None and mock_allowed(environ) else LiveAnswers(settings, upstream)


def _nothing() -> None:
    """Nobody is told before the server runs."""


def _url(listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()[:2]
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


_CLOSES: Final = ((str(hdrs.CONNECTION), "close"),)
_KEYLESS: Final = Refusal(403, "Only the run that started this server is told this.")
_TOO_LARGE: Final = Refusal(413, f"The body is larger than {BODY_LIMIT_BYTES // 1024} KiB.", _CLOSES)


class _RefusedError(Exception):
    """A request that is not served."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


def _heed(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _RefusedError(refusal)


def _refused(refusal: Refusal) -> web.Response:
    response = _problem(refusal.status, refusal.sentence)
    response.headers.update(refusal.headers)
    response[REASON] = refusal.reason
    if _CLOSES[0] in refusal.headers:
        response.force_close()
    return response


def _place(stream: Stream) -> str:
    """What tells a stream from all others, those of the same topic too, and from itself when it was begun anew."""
    return f"{stream.key} {stream.name.truth_id} {stream.begun}"


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
