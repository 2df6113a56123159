"""The only socket to the target: one HTTP/1.1 exchange on one new connection, driven by the event loop's callbacks.

Rules (design.md decisions 2 to 4 and 14; measured in capacity.md):
- Raw non-blocking sockets under gevent's loop, with or without monkey patching; no greenlet runs while bytes arrive.
  A callback does one `recvmsg`, hands the body on and returns; it never blocks and never raises.
- Every byte that arrived before an end is handed on first; how the exchange ended is one of rows.AttemptEnd.
- Body bytes go to the receiver with [lower, stamp], in which the last of them arrived, and whether the stamp is exactly
  that of the last one: it is not when framing or a TLS record follows it in the same read, or without a kernel stamp.
- Reads of a fast, steady stream are kept with their stamps and handed on several at a time (deferral.py).
- Time-outs cost nothing while bytes flow: one timer, re-armed to the next deadline when it fires. One that fires reads
  once more first, so that a late event loop is never taken for a silent server.
- Trouble of this machine (descriptors, ports) is a rig error and never charged to the target.
"""

import _socket
import _ssl
import contextlib
import errno
import os
import ssl
import time
import zlib
from email.utils import parsedate_to_datetime
from time import time_ns
from typing import Any, Final, Literal, Protocol

import gevent
import gevent.event
import gevent.monkey
import httptools
from msgspec import Struct

from sseproof.loadtests.deferral import READS_TOGETHER, WAITING_READ_BYTES, Deferral, deferral
from sseproof.loadtests.framing import is_event_stream
from sseproof.loadtests.kernel_stamps import (
    ANCILLARY_BYTES,
    SO_TIMESTAMPING,
    STAMP_BYTES,
    stamp_socket,
    unpack_stamp,
    unpack_stamps,
)
from sseproof.loadtests.metrics import LAG_MASKS, Metrics
from sseproof.loadtests.request import (
    REDIRECTS,
    Request,
)
from sseproof.loadtests.settings import Timeouts
from sseproof.loadtests.stamps import PollClock, poll_clock
from sseproof.rundir.errors import UsageError
from sseproof.rundir.rows import AttemptEnd, Instant
from sseproof.rundir.text import CUT_MARK, DETAIL_LIMIT_CHARS, printable

READ_BYTES: Final = 65_536
SEND_BYTES: Final = 262_144
HEADERS_LIMIT_BYTES: Final = 65_536
"""Of all response headers, interim ones and trailers included; servers' own limits are 8 to 32 KiB."""
SHORT_HEADER_BYTES: Final = 128
HEADERS_KEPT: Final = 1_024
"""In one process, 250 KB at most; a date header makes a new one each second."""
PIECE_BYTES: Final = 65_536
"""Decompressed at once."""
INFLATE_STEP_BYTES: Final = 1 << 20
"""Decompressed in one callback; the rest waits for the next turn of the loop, so that a bomb can't hold it."""
EXCERPT_BYTES: Final = 4 * DETAIL_LIMIT_CHARS
EXCERPT_GRACE_NS: Final = 100_000_000
"""How long the body of an error answer is waited for; the answer itself is over with its headers."""
LINGER_S: Final = 0.05
"""After the terminal event we let the server finish its framing before we close."""
LONGEST_RETRY_AFTER_MS: Final = 24 * 3600 * 1000
_READ: Final = 1
_WRITE: Final = 2

_CONNECT, _HANDSHAKE, _SEND, _HEAD, _BODY, _EXCERPT, _LINGER, _DONE = range(8)

_EVENT_END: Final = {"chunked": b"\n\n\r\n", "close": b"\n\n"}
"""What a read ends with that brings a whole event, in the usual form and in a chunk of its own."""
_NOTHING_TO_SEND: Final = memoryview(b"")

ExchangeEnd = AttemptEnd | Literal["redirect"]
_GONE: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN})
_OURS: Final = {
    errno.EMFILE: "this process has no file descriptor left",
    errno.ENFILE: "this machine has no file descriptor left",
    errno.EADDRNOTAVAIL: "this machine has no outgoing port left for that address",
    errno.ENOBUFS: "this machine has no network buffer left",
    errno.ENOMEM: "this machine has no memory left",
}


class Address(Struct, frozen=True):
    """Where to connect: an IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Receiver(Protocol):
    """Who takes what arrives; called from the event loop's callbacks, must not block."""

    def on_exchange(self, exchange: "Exchange") -> None:
        """A new connection of the attempt is about to start (redirects make several)."""

    def on_open(self) -> None:
        """Status 200 and an event stream."""

    def on_interrupt(self, interruption: BaseException) -> None:
        """The greenlet that waits for the attempt is being ended; the attempt ends `stopped`."""

    def on_data(self, data: bytes, lower_ns: int, stamp_ns: int, exact: bool) -> None:
        """Body bytes of one read; the last one arrived at `stamp_ns` if `exact`, else in [lower_ns, stamp_ns]."""

    def on_run(self, bodies: list[bytes], stamps_ns: list[int], lowers_ns: list[int]) -> bool:
        """Body bytes of several reads; the last one of each arrived at its stamp, the others from its lower bound on.

        False, and nothing has changed, if they have to come one by one; only asked after `Exchange.defer`.
        """


class Limits(Struct, frozen=True):
    """The four time-outs of one attempt and the deadline of all, in monotonic ns."""

    connect_ns: int
    headers_ns: int
    first_event_ns: int
    idle_ns: int
    deadline_ns: int

    @classmethod
    def of(cls, timeouts: Timeouts, started_ns: int) -> "Limits":
        """The limits of a stream that began at this monotonic instant."""
        return cls(
            timeouts.connect.ns,
            timeouts.headers.ns,
            timeouts.first_event.ns,
            timeouts.idle.ns,
            started_ns + timeouts.total.ns,
        )


class TLS:
    """TLS client contexts, made when first needed: certificates checked, HTTP/1.1 offered."""

    def __init__(self, *, ca: str | None = None, insecure: bool = False) -> None:
        self._ca = ca
        self._insecure = insecure
        self._context: ssl.SSLContext | None = None

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, host: str) -> ssl.SSLObject:
        """A client connection for this host name. Raises UsageError when the CA file can't be read."""
        if self._context is None:
            self._context = self._make()
        return self._context.wrap_bio(incoming, outgoing, server_hostname=host)

    def _make(self) -> ssl.SSLContext:
        # gevent replaces ssl.SSLContext by one that wants gevent sockets; MemoryBIO needs the original.
        context: ssl.SSLContext = gevent.monkey.get_original("ssl", "SSLContext")(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if self._insecure:
            context.check_hostname = False
            # The Python property recurses for ever once gevent has patched the module's SSLContext.
            _ssl._SSLContext.verify_mode.__set__(context, ssl.CERT_NONE)  # type: ignore[attr-defined]  # noqa: SLF001  # the C base
        elif self._ca is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(self._ca)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(
                    f"The CA file {self._ca} can't be used ({error.strerror or error})."
                ) from None
        return context


_headers: dict[tuple[bytes, bytes], tuple[str, str]] = {}
"""Short headers as texts: those of thousands of streams are the same few."""


def _header(name: bytes, value: bytes) -> tuple[str, str]:
    """A header's name in lower case and its value."""
    known = _headers.get((name, value))
    if known is not None:
        return known
    texts = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
    if len(name) + len(value) <= SHORT_HEADER_BYTES:
        if len(_headers) >= HEADERS_KEPT:
            _headers.clear()
        _headers[name, value] = texts
    return texts


class _Head:
    """What httptools tells about one response; body pieces go straight into a list."""

    __slots__ = (
        "_interim",
        "arrived",
        "complete",
        "header_bytes",
        "headers",
        "on_body",
        "parser",
        "pieces",
        "status",
    )

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append
        self.headers: list[tuple[str, str]] = []
        self.header_bytes = 0
        self.status = 0
        self.arrived = False
        """The final response's headers are here."""
        self.complete = False
        self.parser: Any = httptools.HttpResponseParser(self)
        self._interim = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_bytes += len(name) + len(value) + 4
        if self.header_bytes <= HEADERS_LIMIT_BYTES and not self.arrived:
            self.headers.append(_header(name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim = True
            self.headers.clear()
        elif not self.arrived:
            self.status = status
            self.arrived = True

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self.complete = True


class Exchange:
    """One request and its response on one new connection; `start`, then `wait` for the end."""

    __slots__ = (
        "_begun_mono_ns",
        "_clock",
        "_completed",
        "_connected_lo_ns",
        "_deferral",
        "_done",
        "_drained",
        "_event_end",
        "_excerpt",
        "_excerpt_end",
        "_fed",
        "_floor_ns",
        "_framing",
        "_head",
        "_held",
        "_hub_loop",
        "_inflate",
        "_limits",
        "_lower_ns",
        "_metrics",
        "_on_data",
        "_on_run",
        "_outbox",
        "_parse",
        "_paused",
        "_phase",
        "_phase_mono_ns",
        "_plain",
        "_polled",
        "_quiet_bytes",
        "_quiet_read",
        "_read_watcher",
        "_receiver",
        "_recvmsg",
        "_request",
        "_rx_ns",
        "_rx_reads",
        "_rx_step_ns",
        "_send_error",
        "_sent_offset",
        "_sock",
        "_stamp_ns",
        "_timer",
        "_tls",
        "_tls_broken",
        "_tls_closed",
        "_tls_factory",
        "_tls_head",
        "_tls_in",
        "_tls_out",
        "_tls_partial",
        "_waiting",
        "_waiting_lower_ns",
        "_waiting_most",
        "_write_watcher",
        "address",
        "body_bytes",
        "connected",
        "detail",
        "end",
        "ended",
        "error",
        "first_byte",
        "gzip",
        "had_event",
        "head_received",
        "local_port",
        "read_lag_max_ns",
        "reads",
        "received_bytes",
        "retry_after_ms",
        "secured",
        "sent",
        "started",
        "unstamped_reads",
    )

    def __init__(
        self,
        request: Request,
        address: Address,
        *,
        limits: Limits,
        receiver: Receiver,
        metrics: Metrics,
        tls: TLS,
    ) -> None:
        self._request = request
        self.address = address
        self._limits = limits
        self._receiver = receiver
        self._on_data = receiver.on_data
        self._on_run = receiver.on_run
        self._metrics = metrics
        self._tls_factory = tls
        self._hub_loop = gevent.get_hub().loop
        self._clock: PollClock = poll_clock()
        self._deferral: Deferral = deferral()
        self._done = gevent.event.Event()
        self._sock: Any = None
        self._recvmsg: Any = None
        self._read_watcher: Any = None
        self._write_watcher: Any = None
        self._timer: Any = None
        self._tls: ssl.SSLObject | None = None
        self._phase = _CONNECT
        self._phase_mono_ns = self._begun_mono_ns = 0
        self._connected_lo_ns = 0
        # sending
        self._outbox = _NOTHING_TO_SEND
        self._sent_offset = 0
        self._send_error: OSError | None = None
        # reading
        self._lower_ns = 0
        self._floor_ns = 0
        self._stamp_ns = 0
        self._drained = True
        self._polled = True
        self._rx_ns = 0
        self._rx_reads = 0
        self._rx_step_ns = 0
        self._fed = 0
        self._quiet_bytes = 0
        self._quiet_read = 0
        self._head = _Head()
        self._parse: Any = self._head.parser.feed_data
        self._framing: Literal["chunked", "length", "close"] = "close"
        self._completed = False
        self._inflate: Any = None
        self._held: tuple[bytes, int, int, bool] | None = None
        self._paused = False
        self._waiting: list[Any] | None = None
        """Of each read that waits its bytes, its instant and its stamp as the kernel gives it; None = none may wait.

        One flat list: tuples that live for a while are work for the garbage collector.
        """
        self._waiting_lower_ns = 0
        self._waiting_most = 0
        self._event_end = b""
        self._plain = False  # a body with neither TLS nor compression has begun: the hot path's own case
        self._excerpt = b""
        self._excerpt_end: tuple[ExchangeEnd, Instant] | None = None
        self._tls_closed = False
        self._tls_broken = ""
        self._tls_partial = 0
        self._tls_head = b""
        # the result
        self.started = Instant(0)
        self.connected: Instant | None = None
        self.secured: Instant | None = None
        self.sent: Instant | None = None
        self.head_received: Instant | None = None
        self.first_byte: Instant | None = None
        self.ended = Instant(0)
        self.end: ExchangeEnd | None = None
        self.detail = ""
        self.error: BaseException | None = None
        """What the receiver raised; the attempt raises it again."""
        self.local_port: int | None = None
        self.retry_after_ms: int | None = None
        self.gzip = False
        self.had_event = False
        self.reads = 0
        self.received_bytes = 0
        self.body_bytes = 0
        self.unstamped_reads = 0
        self.read_lag_max_ns = 0

    @property
    def status(self) -> int | None:
        """The status of the final response, None before its headers."""
        return self._head.status or None

    @property
    def open(self) -> bool:
        """Whether an event stream is coming in."""
        return self._phase == _BODY

    @property
    def over(self) -> bool:
        """Whether the exchange has ended."""
        return self._phase >= _LINGER

    def header(self, name: str) -> str:
        """A response header, joined when it came several times; empty when it did not come."""
        return ", ".join(value for each, value in self._head.headers if each == name)

    # Beginning and end.

    def start(self) -> None:
        """Begins to connect; returns at once."""
        self._begun_mono_ns = self._phase_mono_ns = time.monotonic_ns()
        now = time_ns()
        self.started = Instant(now)
        self._connected_lo_ns = now
        try:
            family = _socket.AF_INET6 if ":" in self.address.host else _socket.AF_INET
            self._sock = sock = _socket.socket(family, _socket.SOCK_STREAM)
            sock.setblocking(False)
            stamp_socket(sock)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            code = sock.connect_ex((self.address.host, self.address.port))
        except OSError as error:
            self._refused(error.errno or 0, self._since(now))
            return
        if code not in {0, errno.EINPROGRESS}:
            self._refused(code, self._since(now))
            return
        self._recvmsg = sock.recvmsg
        self._write_watcher = self._hub_loop.io(sock.fileno(), _WRITE)
        self._write_watcher.start(self._writable)
        self._arm()

    def wait(self) -> None:
        """Blocks the calling greenlet until the end."""
        self._done.wait()

    def finish(self, end: ExchangeEnd, ended: Instant, detail: str = "", *, linger: bool = False) -> None:
        """Ends the exchange, from outside or from within `on_data`; later calls change nothing."""
        if self._waiting:
            self.catch_up()
        if self._phase >= _LINGER:
            return
        self.end = end
        self.ended = ended
        self.detail = detail
        self._plain = False
        self._waiting = None
        self._stop_timer()
        self._stop_writing()
        if linger and not self._completed and self._read_watcher is not None:
            self._phase = _LINGER
            self._read_watcher.stop()
            self._read_watcher.start(self._discard)
            self._timer = self._hub_loop.timer(LINGER_S, ref=False)
            self._timer.start(self._close)
        else:
            self._close()
        self._done.set()

    def stop(self, detail: str) -> None:
        """Ends the exchange by our own decision, now."""
        self.finish("stopped", Instant(time_ns()), detail)

    def pause(self) -> None:
        """Stops reading: the server feels it as back-pressure."""
        if self._phase == _BODY and not self._paused and self._read_watcher is not None:
            self._paused = True
            self._read_watcher.stop()

    def resume(self) -> None:
        """Reads again."""
        if self._paused:
            self._paused = False
            # The descriptor was not watched: polls say nothing about when the next bytes came.
            self._drained = False
            self._rx_ns = time_ns()
            if self._phase == _BODY and self._held is None:
                self._read_watcher.start(self._readable)

    def defer(self) -> None:
        """From now on reads that end as an event does may wait for others; until one of them is anything else."""
        if self._plain and self._waiting is None and self._framing != "length":
            self._waiting = []
            self._event_end = _EVENT_END[self._framing]
            self._waiting_most = self._first_waiting_most

    @property
    def reads_wait(self) -> bool:
        """Whether there are reads that were not handed on yet."""
        return bool(self._waiting)

    @property
    def _first_waiting_most(self) -> int:
        """Streams that begin together, or are looked at together, would else fill up together: one heap of work."""
        return 3 * (1 + (self.local_port or 0) // 2 % READS_TOGETHER)

    def waiting_since_ns(self) -> tuple[int, int]:
        """When the first and the last of the waiting reads were made."""
        assert self._waiting
        return self._waiting[1], self._waiting[-2]

    def catch_up(self) -> None:
        """Hands on the reads that wait; never raises."""
        waiting = self._waiting
        if not waiting:
            return
        self._waiting = []
        full = len(waiting) >= self._waiting_most
        self._waiting_most = 3 * READS_TOGETHER if full else self._first_waiting_most
        self._deferral.discard(self)
        try:
            lower_ns = self._lower_ns
            self._hand_on_waiting(waiting)
            self._lower_ns, self._drained = lower_ns, True
        except httptools.HttpParserError as error:
            self._broken_framing(error)
        except Exception as error:  # noqa: BLE001  # a callback must not raise into the hub
            self._fail(error)

    def _hand_on_waiting(self, waiting: list[Any]) -> None:
        chunked = self._framing == "chunked"
        reads, instants, contents = waiting[::3], waiting[1::3], waiting[2::3]
        bodies = [data.partition(b"\r\n")[2][:-2] for data in reads] if chunked else reads
        stamps = [
            seconds * 1_000_000_000 + nanoseconds
            for seconds, nanoseconds in unpack_stamps(b"".join(contents))
        ]
        lags = [now - stamp for now, stamp in zip(instants, stamps, strict=True)]
        self._metrics.read_lags.add_all(lags)
        self.read_lag_max_ns = max(self.read_lag_max_ns, *lags)
        head = self._head
        pieces = head.pieces
        received = b"".join(reads)
        self.received_bytes += len(received)
        self.reads += len(reads)
        # What the polls say now is about later reads.
        self._lower_ns, self._stamp_ns, self._drained = self._waiting_lower_ns, stamps[-1], False
        self._parse(received)
        body = b"".join(pieces)
        if b"".join(bodies) != body:  # one chunk a read was a guess, and wrong
            bodies = [_dechunked(data) for data in reads]
        if b"".join(bodies) != body or head.complete:
            # Reads that end inside a chunk, however much it looks otherwise: only the whole time is known.
            self._waiting = None
            self._hand_on(received, False)
            if head.complete:
                self._message_complete()
            return
        pieces.clear()
        self.body_bytes += len(body)
        lowers = [self._waiting_lower_ns, *instants[:-1]]
        if self._on_run(bodies, stamps, lowers):
            return
        self._waiting = None
        for part, lower_ns, stamp in zip(bodies, lowers, stamps, strict=True):
            self._lower_ns, self._stamp_ns = lower_ns, stamp
            self._on_data(part, lower_ns, stamp, True)
            if self._phase >= _LINGER:
                return

    def arrival_lower_ns(self) -> int:
        """The earliest that any byte of the read at hand can have arrived."""
        lower = self._lower_ns
        if self._drained:
            lower = max(lower, self._clock.lower_bound())
        return min(lower, self._stamp_ns)

    def first_event_seen(self) -> None:
        """The receiver had its first event: from now on the idle time-out counts."""
        if not self.had_event:
            self.had_event = True
            self._phase_mono_ns = time.monotonic_ns()
            self._arm()

    def _close(self) -> None:
        self._phase = _DONE
        self._stop_timer()
        self._stop_writing()
        if self._read_watcher is not None:
            self._read_watcher.stop()
            self._read_watcher.close()
            self._read_watcher = None
        self._recvmsg = None
        if self._sock is not None:
            if self._tls is not None and self.secured is not None:
                self._say_goodbye()
            self._sock.close()
            self._sock = None
        self._tls = None
        self._held = None
        self._parse = None
        self._head.parser = None  # they hold each other

    def _say_goodbye(self) -> None:
        """close_notify, if the socket takes it at once: some servers log its absence as an attack."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._sock.send(self._tls_out.read())

    def _discard(self) -> None:
        """What the server still sends after the end; its own end is ours."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data or (self._framing == "chunked" and data.endswith(b"0\r\n\r\n")):
            self._close()

    def _since(self, before_ns: int) -> Instant:
        """Something that happened between then and now, in our own call."""
        now = time_ns()
        return Instant(now, max(0, now - before_ns))

    def _refused(self, code: int, ended: Instant) -> None:
        if code in _OURS:
            self._metrics.rig_error(
                f"A connection to {self.address} could not be opened: {_OURS[code]}; its stream is unfinished."
            )
            self.finish("stopped", ended, _OURS[code])
        else:
            self.finish("refused", ended, f"{self.address}: {os.strerror(code)}")

    # Time-outs.

    def _arm(self) -> None:
        """Sets the one timer to the next deadline."""
        if self._phase >= _LINGER:
            return
        deadline, _ = self._next_deadline(time.monotonic_ns())
        self._stop_timer()
        wait_s = max(0, deadline - time.monotonic_ns()) / 1e9
        self._rx_reads = self.reads
        self._rx_step_ns = time_ns() - time.monotonic_ns()
        self._timer = self._hub_loop.timer(wait_s)
        self._timer.start(self._on_timer, update=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _next_deadline(self, now_mono_ns: int) -> tuple[int, ExchangeEnd]:
        limits = self._limits
        end: ExchangeEnd
        if self._phase in {_CONNECT, _HANDSHAKE}:
            phase, end = self._begun_mono_ns + limits.connect_ns, "connect-timeout"
        elif self._phase in {_SEND, _HEAD}:
            phase, end = self._phase_mono_ns + limits.headers_ns, "headers-timeout"
        elif self._phase == _EXCERPT:
            phase, end = self._phase_mono_ns + EXCERPT_GRACE_NS, "status"
        elif not self.had_event:
            phase, end = self._phase_mono_ns + limits.first_event_ns, "first-event-timeout"
        else:
            phase, end = self._idle_since(now_mono_ns) + limits.idle_ns, "idle-timeout"
        return (phase, end) if phase <= limits.deadline_ns else (limits.deadline_ns, "total-timeout")

    def _idle_since(self, now_mono_ns: int) -> int:
        """The monotonic instant of the last byte.

        Reads are timed by the wall clock only (it costs once); when that was stepped since the timer was set, silence
        begins anew: late by one idle time at most, never a false time-out.
        """
        if self._paused or self._held is not None:
            return now_mono_ns
        if self.reads == self._rx_reads and self._timer is not None:
            return self._phase_mono_ns
        offset = time_ns() - time.monotonic_ns()
        if abs(offset - self._rx_step_ns) > 1_000_000:
            self._phase_mono_ns = now_mono_ns
        else:
            read_ns = self._lower_ns if self._drained else self._rx_ns
            self._phase_mono_ns = min(now_mono_ns, max(self._phase_mono_ns, read_ns - offset))
        return self._phase_mono_ns

    def _on_timer(self) -> None:
        try:
            self.catch_up()
            if self._phase >= _LINGER:
                return
            now = time.monotonic_ns()
            deadline, _ = self._next_deadline(now)
            if (
                now >= deadline
                and self._phase in {_HEAD, _BODY, _SEND}
                and deadline < self._limits.deadline_ns
            ):
                self._polled = False
                self._readable()
                self._polled = True
                if self._phase >= _LINGER:
                    return
            now = time.monotonic_ns()
            deadline, end = self._next_deadline(now)
            if now < deadline:
                self._arm()
            else:
                self._time_out(end, now - deadline)
        except Exception as error:  # noqa: BLE001  # a callback must not raise into the hub
            self._fail(error)

    def _time_out(self, end: ExchangeEnd, late_ns: int) -> None:
        if self._excerpt_end is not None:
            self._end_excerpt()
            return
        detail = "the TLS handshake did not finish" if self._phase == _HANDSHAKE else ""
        self.finish(end, Instant(time_ns(), late_ns), detail)

    def _fail(self, error: BaseException) -> None:
        """Something of ours went wrong: the stream ends, the caller gets the exception."""
        self.error = self.error or error
        self.stop("the recorder failed")

    # Connecting and sending.

    def _writable(self) -> None:
        try:
            if self._phase == _CONNECT:
                self._connected()
            else:
                self._send_more()
        except Exception as error:  # noqa: BLE001  # a callback must not raise into the hub
            self._fail(error)

    def _connected(self) -> None:
        code = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        now = self._clock.readiness(self._connected_lo_ns)
        if code:
            self._refused(code, now)
            return
        local = self._sock.getsockname()
        if local[:2] == self._sock.getpeername()[:2]:
            # A port of the outgoing range without a listener can be given to the very socket that asks for it.
            self._refused(errno.ECONNREFUSED, now)
            return
        self.connected = now
        self.local_port = local[1]
        self._write_watcher.stop()
        self._read_watcher = self._hub_loop.io(self._sock.fileno(), _READ)
        self._read_watcher.start(self._readable)
        self._lower_ns = now.lo_ns
        if self._request.endpoint.scheme == "https":
            self._phase = _HANDSHAKE
            self._tls_in, self._tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = self._tls_factory.wrap(self._tls_in, self._tls_out, self._request.endpoint.host)
            self._shake_hands()
        else:
            self._begin_request()

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._put(self._tls_out.read())
            return
        except ssl.SSLError as error:
            self._put(self._tls_out.read())  # the alert tells the server why
            self.finish("tls", self.read_instant(), _tls_reason(error))
            return
        self.secured = self.read_instant()
        self._begin_request()

    def _begin_request(self) -> None:
        self._phase = _SEND
        self._phase_mono_ns = time.monotonic_ns()
        content = self._request.encode()
        if self._tls is not None:
            self._tls.write(content)
            content = self._tls_out.read()
        self._put(content)
        self._arm()

    def _put(self, content: bytes) -> None:
        """Queues bytes for the socket and sends what it takes."""
        if not content:
            return
        self._outbox = memoryview(bytes(self._outbox[self._sent_offset :]) + content)
        self._sent_offset = 0
        self._send_more()

    def _send_more(self) -> None:
        outbox = self._outbox
        while self._sent_offset < len(outbox) and self._send_error is None:
            before = time_ns()
            try:
                self._sent_offset += self._sock.send(
                    outbox[self._sent_offset : self._sent_offset + SEND_BYTES]
                )
            except (BlockingIOError, InterruptedError):
                self._write_watcher.start(self._writable)
                return
            except OSError as error:
                # The server may have answered and closed: what it sent is still to be read.
                self._send_error = error
                break
            if self._sent_offset >= len(outbox) and self._phase == _SEND:
                after = time_ns()
                self.sent = Instant(before, 0, max(0, after - before))
                self._lower_ns = max(self._lower_ns, before)
                self._phase = _HEAD
        self._outbox = _NOTHING_TO_SEND
        self._sent_offset = 0
        self._write_watcher.stop()

    def _stop_writing(self) -> None:
        if self._write_watcher is not None:
            self._write_watcher.stop()
            self._write_watcher.close()
            self._write_watcher = None

    # Reading: the hot path.

    def _readable(self) -> None:
        """One read, handed on. The hot path.

        The usual read brings a piece of a plain event stream's body with its kernel stamp, and takes no branch but those
        below. Every attribute costs: a stream's own are seldom in the processor's caches. So one is written only where
        it does not follow from another: the process's reads are the lags counted, when this one was is `_lower_ns`.
        """
        now = time_ns()
        try:
            data, ancillary, _, _ = self._recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.catch_up()
            if self._phase < _LINGER:
                self._lost(error)
            return
        size = len(data)
        waiting = self._waiting
        if waiting is not None:
            if (
                size <= WAITING_READ_BYTES
                and data.endswith(self._event_end)
                and ancillary
                and ancillary[0][1] == SO_TIMESTAMPING
                and len(ancillary[0][2]) == STAMP_BYTES
            ):
                if not waiting:
                    self._waiting_lower_ns = self._lower_ns
                    self._deferral.add(self)
                waiting += data, now, ancillary[0][2]
                self._lower_ns = now
                self._clock.handled += 1
                if len(waiting) >= self._waiting_most:
                    self.catch_up()
                return
            self.catch_up()
            if self._phase >= _LINGER:
                return  # what follows a whole response is nobody's
        try:
            if not size:
                self._closed_by_peer()
                return
            stamp = 0
            if ancillary:
                _, kind, content = ancillary[0]
                if kind == SO_TIMESTAMPING:
                    seconds, nanoseconds = unpack_stamp(content)
                    stamp = seconds * 1_000_000_000 + nanoseconds
            exact = stamp > 0
            if exact:
                lag = now - stamp
                if lag < 0:
                    lag = 0
                elif lag > self.read_lag_max_ns:
                    self.read_lag_max_ns = lag
                # Lags.add, without the call
                lags = self._metrics.read_lags
                if lag > lags.longest_ns:  # noqa: PLR1730  # a call costs more than the comparison
                    lags.longest_ns = lag
                lags.values[lag & LAG_MASKS[lag.bit_length()]] += 1
            else:
                stamp = time_ns()
                self._floor_ns = self._lower_ns
                self.unstamped_reads += 1
                self._metrics.unstamped_reads += 1
            self._stamp_ns = stamp
            self.reads += 1
            self._clock.handled += 1
            self.received_bytes += size
            if self._plain:
                self._parse(data)
                head = self._head
                pieces = head.pieces
                if pieces:
                    if len(pieces) == 1:
                        body = pieces.pop()
                    else:
                        body = b"".join(pieces)
                        pieces.clear()
                    self.body_bytes += len(body)
                    if exact and self._framing == "chunked":
                        # The usual end of an event, then of its chunk: nothing else in the framing looks like it.
                        exact = (data.endswith(b"\n\n\r\n") or _ends_with(data, body)) and not head.complete
                    self._on_data(body, self._lower_ns, stamp, exact)
                else:
                    self._quiet(size)
                if head.complete:
                    self._message_complete()
            else:
                self._receive(data, exact)
        except httptools.HttpParserError as error:
            self._broken_framing(error)
        except Exception as error:  # noqa: BLE001  # a callback must not raise into the hub
            self._fail(error)
        if size < READ_BYTES:
            self._lower_ns = now
            self._drained = True
        else:
            self._lower_ns = stamp
            self._rx_ns = now
            self._drained = False

    def _receive(self, data: bytes, exact: bool) -> None:
        """A read of anything but a plain event stream's body: TLS, headers, error bodies, compressed bodies."""
        if self._tls is not None:
            exact = self._ends_record(data) and exact
            self._tls_in.write(data)
            if self._phase == _HANDSHAKE:
                self._shake_hands()
                if self._phase not in {_HEAD, _SEND}:
                    return
            data = self._decrypt()
            exact = exact and not self._tls_closed
        if data and self._phase < _LINGER:
            self._feed(data, exact)
        if self._phase >= _LINGER:
            return
        if self._tls_broken:
            self.finish("protocol", self.read_instant(), self._tls_broken)
        elif self._tls_closed:
            self._closed_by_peer()

    def _ends_record(self, data: bytes) -> bool:
        """Follows the TLS records; whether this read ends with one, so that its stamp is that of what it decrypts to."""
        at = self._tls_partial
        if self._tls_head:
            data = self._tls_head + data
            at = 0
        size = len(data)
        while at + 5 <= size:
            at += 5 + (data[at + 3] << 8) + data[at + 4]
        self._tls_head = data[at:]
        self._tls_partial = max(0, at - size)
        return at == size

    def _decrypt(self) -> bytes:
        """The plain text of everything received so far."""
        assert self._tls is not None
        parts = []
        try:
            while part := self._tls.read(READ_BYTES):
                parts.append(part)
            self._tls_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._tls_closed = True
        except ssl.SSLError as error:
            self._tls_broken = f"TLS: {_tls_reason(error)}"
        if self._tls_out.pending and not self._tls_closed:
            self._put(self._tls_out.read())  # the answer to a key update
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _feed(self, data: bytes, exact: bool) -> None:
        """HTTP of any phase: what was parsed before a fault in the framing is handed on before it is reported."""
        head = self._head
        broken: httptools.HttpParserError | None = None
        try:
            self._parse(data)
        except httptools.HttpParserUpgrade:
            pass  # 101: the status says it
        except httptools.HttpParserError as error:
            broken = error
        if self._phase <= _HEAD:
            self._fed += len(data)
            if head.header_bytes > HEADERS_LIMIT_BYTES or (
                not head.arrived and self._fed > HEADERS_LIMIT_BYTES
            ):
                self.finish(
                    "protocol", self.read_instant(), f"response headers over {HEADERS_LIMIT_BYTES >> 10} KiB"
                )
            elif head.arrived:
                self._headers_arrived(data)
        self._hand_on(data, exact)
        if self._phase >= _LINGER:
            return
        if head.complete:
            self._message_complete()
        elif broken is not None:
            self._broken_framing(broken)

    def _hand_on(self, data: bytes, exact: bool) -> None:
        """The body pieces of this read, to whom they belong."""
        pieces = self._head.pieces
        if not pieces:
            self._quiet(len(data))
            return
        body = b"".join(pieces)
        pieces.clear()
        if self._phase == _EXCERPT:
            self._excerpt += body[: EXCERPT_BYTES - len(self._excerpt)]
            if len(self._excerpt) >= EXCERPT_BYTES:
                self._end_excerpt()
            return
        if self._phase != _BODY:
            return
        if self.first_byte is None:
            self.first_byte = self.read_instant()
            self._plain = self._tls is None and self._inflate is None
        if exact and self._framing == "chunked":
            exact = _ends_with(data, body) and not self._head.complete
        if self._inflate is None:
            self.body_bytes += len(body)
            self._on_data(body, self._lower_ns, self._stamp_ns, exact)
        else:
            self._expand(body, self._lower_ns, self._stamp_ns, exact)

    def _quiet(self, size: int) -> None:
        """A read without body bytes; endless trailers are the one way to fill memory with them."""
        if self._phase < _BODY:
            return
        if self._quiet_read != self.reads - 1:
            self._quiet_bytes = 0
        self._quiet_read = self.reads
        self._quiet_bytes += size
        if self._quiet_bytes > HEADERS_LIMIT_BYTES and not self._head.complete:
            self.finish(
                "protocol", self.read_instant(), f"{self._quiet_bytes} bytes of framing without a body byte"
            )

    def _headers_arrived(self, data: bytes) -> None:
        """The final response's headers are complete: decides what the body is for."""
        head = self._head
        stamp = self._stamp_ns
        alone = data.endswith(b"\r\n\r\n") and not head.pieces and not self.unstamped_reads
        self.head_received = Instant(stamp) if alone else self.read_instant()
        self.retry_after_ms = _retry_after_ms(self.header("retry-after"), time.time())
        if "chunked" in self.header("transfer-encoding").lower():
            self._framing = "chunked"
        elif self.header("content-length"):
            self._framing = "length"
        status = head.status
        if status in REDIRECTS and self.header("location").strip():
            self.finish("redirect", self.head_received)
        elif status == 204:
            self.finish("no-content", self.head_received)
        elif status == 101:
            self.finish("protocol", self.head_received, "HTTP 101: the server switched to another protocol")
        elif status != 200:
            self._expect_excerpt("status")
        elif not is_event_stream(self.header("content-type")):
            self._expect_excerpt("content-type")
        elif not self._understands(self.header("content-encoding").strip().lower()):
            coding = printable(self.header("content-encoding"), 40)
            self.finish("protocol", self.head_received, f"Content-Encoding {coding} was not asked for")
        else:
            self._phase = _BODY
            self._phase_mono_ns = time.monotonic_ns()
            self._arm()
            self._receiver.on_open()

    def _understands(self, coding: str) -> bool:
        if coding in {"", "identity"}:
            return True
        if coding in {"gzip", "x-gzip", "deflate"}:
            self._inflate = zlib.decompressobj(47)  # gzip or zlib, as the data says
            self.gzip = True
            return True
        return False

    def _expect_excerpt(self, end: AttemptEnd) -> None:
        """An answer that is over with its headers; a moment is left for the reason in its body."""
        assert self.head_received is not None
        self._excerpt_end = (end, self.head_received)
        self._phase = _EXCERPT
        self._phase_mono_ns = time.monotonic_ns()
        if self._head.complete and not self._head.pieces:
            self._end_excerpt()
        else:
            self._arm()

    def _end_excerpt(self) -> None:
        assert self._excerpt_end is not None
        end, ended = self._excerpt_end
        text = self._excerpt
        if self.header("content-encoding").strip().lower() in {"gzip", "x-gzip", "deflate"}:
            try:
                text = zlib.decompressobj(47).decompress(text, EXCERPT_BYTES)
            except zlib.error:
                text = b""
        what = f"HTTP {self._head.status}"
        if end == "content-type":
            what += f", Content-Type {printable(self.header('content-type'), 80) or 'missing'}"
        elif self._head.status in REDIRECTS:
            what += " without a Location"
        shown = printable(" ".join(text.decode("utf-8", "replace").split()))
        if len(text) >= EXCERPT_BYTES and CUT_MARK not in shown:  # much of it was white space
            shown += CUT_MARK
        self.finish(end, ended, f"{what}: {shown}" if shown else what)

    # Compressed bodies.

    def _expand(self, body: bytes, lower_ns: int, stamp_ns: int, exact: bool) -> None:
        """Hands on what these bytes decompress to, in bounded pieces and at most one step a turn of the loop."""
        expanded = 0
        piece = b""
        while True:
            try:
                following = self._inflate.decompress(body, PIECE_BYTES)
            except zlib.error as error:
                if piece:
                    self._hand_piece(piece, lower_ns, stamp_ns, False)
                self.finish("protocol", self.read_instant(), f"the compressed body is damaged ({error})")
                return
            if piece:
                self._hand_piece(piece, lower_ns, stamp_ns, exact and not following)
                if self._phase != _BODY:
                    return
            piece = following
            body = self._inflate.unconsumed_tail
            if self._inflate.eof and self._inflate.unused_data:
                body = self._inflate.unused_data  # a further member: gzip files may be joined
                self._inflate = zlib.decompressobj(47)
            expanded += len(piece)
            if not body and len(piece) < PIECE_BYTES:
                break
            if expanded >= INFLATE_STEP_BYTES:
                self._hand_piece(piece, lower_ns, stamp_ns, False)
                if self._phase == _BODY:
                    self._hold(body, lower_ns, stamp_ns, exact)
                return
        if piece:
            self._hand_piece(piece, lower_ns, stamp_ns, exact)

    def _hand_piece(self, piece: bytes, lower_ns: int, stamp_ns: int, exact: bool) -> None:
        self.body_bytes += len(piece)
        self._on_data(piece, lower_ns, stamp_ns, exact)

    def _hold(self, body: bytes, lower_ns: int, stamp_ns: int, exact: bool) -> None:
        self._held = (body, lower_ns, stamp_ns, exact)
        self._read_watcher.stop()
        self._hub_loop.run_callback(self._expand_held)

    def _expand_held(self) -> None:
        try:
            if self._held is None or self._phase != _BODY:
                return
            held, self._held = self._held, None
            self._expand(*held)
            if self._held is not None or self._phase != _BODY:
                return
            if self._drained:
                self._drained = False  # it was not watched meanwhile
                self._rx_ns = self._lower_ns
            if self._head.complete:
                self._message_complete()
            elif not self._paused:
                self._read_watcher.start(self._readable)
        except Exception as error:  # noqa: BLE001  # a callback must not raise into the hub
            self._fail(error)

    # How the other side ends it.

    def _message_complete(self) -> None:
        """The framing says that the response is whole."""
        if self._phase >= _LINGER or self._held is not None:
            return
        if self._phase == _EXCERPT:
            self._end_excerpt()
        elif self._inflate is not None and not self._inflate.eof:
            self.finish("fin", self.read_instant(), "the compressed body was cut")
        else:
            self.finish("eof", self.read_instant())

    def _broken_framing(self, error: Exception) -> None:
        if self._phase < _LINGER:
            self._hand_on(b"", False)
        if self._phase >= _LINGER:
            return
        if self._head.complete:
            self._message_complete()  # what follows a whole response is nobody's
        elif self._excerpt_end is not None:
            self._end_excerpt()
        else:
            self.finish("protocol", self.read_instant(), printable(f"not HTTP/1.1: {error}", 120))

    def _closed_by_peer(self) -> None:
        """FIN, or a TLS close_notify."""
        ended = self._unstamped_instant() if not self._tls_closed else self.read_instant()
        if self._phase == _HANDSHAKE:
            self.finish("tls", ended, "the server closed the connection during the handshake")
        elif self._phase == _EXCERPT:
            self._end_excerpt()
        elif self._phase < _BODY:
            if self._send_error is not None:
                self.finish("rst", ended, "before a response")
            else:
                self.finish("fin", ended, "before a response")
        elif self._framing != "close":
            self.finish("fin", ended)
        elif self._inflate is not None and not self._inflate.eof:
            self.finish("fin", ended, "the compressed body was cut")
        elif self._tls is not None and not self._tls_closed:
            self.finish("fin", ended, "TLS ended without close_notify")
        else:
            self.finish("eof", ended)

    def _lost(self, error: OSError) -> None:
        """RST, or the kernel gave the connection up."""
        ended = self._unstamped_instant()
        reason = "" if error.errno in _GONE else os.strerror(error.errno or 0)
        if self._phase == _HANDSHAKE:
            self.finish("tls", ended, reason or "the server reset the connection during the handshake")
        elif self._phase == _EXCERPT:
            self._end_excerpt()
        else:
            self.finish("rst", ended, reason)

    def _unstamped_instant(self) -> Instant:
        """When the connection ended: not before its last byte."""
        not_before = self._stamp_ns or self._lower_ns
        if self.unstamped_reads:
            not_before = min(
                not_before, self._floor_ns
            )  # our own reading of the clock was later than the bytes
        if not self._polled:
            return self._since(not_before)
        # It may have come with the last bytes: the poll after theirs reports it, however long it was there.
        fresh = self._drained and (not self.reads or self._clock.last_returned_ns > self._lower_ns)
        return self._clock.readiness(not_before, fresh=fresh)

    def read_instant(self) -> Instant:
        """Something that the read at hand completed, not necessarily with its last byte."""
        if not self._stamp_ns:
            return self._since(self._lower_ns)
        return Instant(self._stamp_ns, self._stamp_ns - self.arrival_lower_ns())


def _dechunked(data: bytes) -> bytes:
    """The body bytes of whole chunks; nothing for what is none."""
    parts = []
    at = 0
    while at < len(data):
        head, _, rest = data[at:].partition(b"\r\n")
        try:
            size = int(head.partition(b";")[0], 16)
        except ValueError:
            return b""
        if size <= 0:
            return b""
        parts.append(rest[:size])
        at += len(head) + 2 + size + 2
    return b"".join(parts)


def _ends_with(data: bytes, body: bytes) -> bool:
    """Whether a read of a chunked body ends with its last body byte, or with that and its chunk's own CRLF."""
    tail = body[-4:]
    return data.endswith(tail + b"\r\n") or (len(tail) == 4 and data.endswith(tail))


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    return printable((error.reason or str(error)).replace("_", " ").lower(), 120)


def _retry_after_ms(value: str, now_s: float) -> int | None:
    """Retry-After in ms from now (seconds or a date), None when it is missing or neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:9]) * 1000, LONGEST_RETRY_AFTER_MS)
    try:
        at_s = parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0, round((at_s - now_s) * 1000)), LONGEST_RETRY_AFTER_MS)
