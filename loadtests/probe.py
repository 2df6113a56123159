"""One request on one new connection, and every byte that came back with its kernel instant: what `check` looks with.

Rules (checks.md 5.3, 5.4; design.md decisions 3 and 13):
- Nothing is interpreted that need not be: framing decides when an answer is whole, all else is the judge's.
- One connection at a time in one thread, with blocking polls and no event loop: between two reads nothing of ours runs,
  so a read is as close to its arrival as the machine allows.
- Every wait has an end, every buffer a limit; a connection that went wrong is an end with a sentence, never an exception.
- TLS goes through `ssl.MemoryBIO`, as in load runs, so that reads carry kernel stamps there too.
"""

import contextlib
import errno
import ipaddress
import os
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.certificate import certificate_names
from sseproof.loadtests.framing import ResponseReader
from sseproof.loadtests.kernel_stamps import (
    ANCILLARY_BYTES,
    SO_TIMESTAMPING,
    stamp_socket,
    unpack_stamp,
    warm_stamps,
)
from sseproof.loadtests.request import REDIRECTS, Request
from sseproof.rundir.capture import Certificate, ProbeEnd, ProbeName, Read, Secured
from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import printable

READ_BYTES: Final = 65_536
RECEIVED_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Of the one answer that is read at length; what shows nothing in 4 MiB shows nothing in more, and a whole check stays
below 150 MB."""
FURTHER_LIMIT_BYTES: Final = 1024 * 1024
"""Of every other answer."""
READS_LIMIT: Final = 40_000
CONNECT_LIMIT_S: Final = 10.0
"""Name, connection, proxy and TLS together."""
LINGER_S: Final = 0.1
"""After a whole answer: does the server close, or send more?"""
REFUSED_LOOK_S: Final = 2.0
"""How long the text of an answer is read that is no 200."""
BURST_GAP_NS: Final = 5_000_000
"""Reads closer than this belong to one burst (checks.md 5.4)."""

SLOW_BUFFER_BYTES: Final = 4_096
"""Of a slow reader: the kernel would else take most streams whole while we pause."""

_GONE: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ESHUTDOWN})
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


class Place(Struct, frozen=True):
    """A host or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy(Struct, frozen=True):
    """A proxy: https targets through CONNECT, http ones by the address in full."""

    place: Place
    authorization: str | None = None


class Way(Struct, frozen=True, kw_only=True):
    """How a connection reaches the target."""

    name: str = "direct"
    connect_to: Place | None = None
    """Instead of the URL's own host and port."""
    resolve: tuple[tuple[str, int, str], ...] = ()
    """(host, port, address), as curl's --resolve."""
    proxy: Proxy | None = None


class Trust(Struct, frozen=True, kw_only=True):
    """What TLS needs."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False


class Progress:
    """What a look has seen so far, for whoever decides that it is enough."""

    __slots__ = ("blocks", "body_bytes", "bursts", "elapsed_s", "first_s")

    def __init__(self) -> None:
        self.body_bytes = 0
        self.bursts = 0
        self.blocks = 0
        """Blank lines in the bytes as they came: about as many events and comments."""
        self.elapsed_s = 0.0
        """Since the request was sent."""
        self.first_s: float | None = None
        """The first body byte."""


class Look(Struct, frozen=True, kw_only=True):
    """How long an answer is looked at."""

    headers_s: float = 30.0
    total_s: float = 30.0
    """From the request on, however it goes on."""
    first_byte_s: float | None = None
    """Longer, while no byte of the body has come."""
    received_bytes: int = FURTHER_LIMIT_BYTES
    enough: Callable[[Progress], bool] | None = None
    pause_after_s: float | None = None
    """Stop reading that long after the first body byte (a slow reader), for `pause_s`."""
    pause_s: float = 0.0


class Exchanged(Struct, kw_only=True):
    """What one connection brought."""

    began_ns: int
    address: str = ""
    connected_ns: int | None = None
    secured_ns: int | None = None
    sent_ns: int | None = None
    ended_ns: int = 0
    end: ProbeEnd = "rig"
    detail: str = ""
    tls: Secured | None = None
    reads: list[Read] = []
    received: bytes = b""
    request: bytes = b""


class _End(Exception):  # noqa: N818  # a way out, no error
    def __init__(self, end: ProbeEnd, detail: str = "") -> None:
        super().__init__(end)
        self.end: ProbeEnd = end
        self.detail = detail


def exchange(
    request: Request,
    way: Way,
    trust: Trust,
    look: Look,
    *,
    deadline_s: float,
    offer: Sequence[str] = ("http/1.1",),
    name: ProbeName = "stream",
) -> Exchanged:
    """Connects, sends, reads to the end or until the look is over; `deadline_s` is on the monotonic clock.

    With the name `alpn` it ends after the handshake, without a request. Raises UsageError for files of `trust` that can't
    be used, nothing else.
    """
    warm_stamps()
    done = _Connection(request, way, trust, look, deadline_s=deadline_s, offer=list(offer))
    try:
        done.connect()
        if name == "alpn":
            raise _End("handshake")  # noqa: TRY301  # one way out
        done.send()
        done.read()
    except _End as end:
        done.result.end, done.result.detail = end.end, printable(end.detail)
    except OSError as error:
        done.result.end, done.result.detail = _os_end(error)
    finally:
        done.close()
    return done.result


def context_for(trust: Trust, offer: Sequence[str]) -> ssl.SSLContext:
    """A client context. Raises UsageError, naming the file, for what can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(list(offer))
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trust.ca is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(trust.ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--cacert {trust.ca} can't be used ({error.strerror or error}).") from None
    if trust.cert is not None:
        try:
            context.load_cert_chain(trust.cert, trust.key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UsageError(
                f"--cert {trust.cert} (and --key) can't be used ({printable(reason)})."
            ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


class _Connection:
    """One connection while it lasts."""

    def __init__(
        self, request: Request, way: Way, trust: Trust, look: Look, *, deadline_s: float, offer: list[str]
    ) -> None:
        self._request = request
        self._way = way
        self._trust = trust
        self._look = look
        self._deadline_s = deadline_s
        self._offer = offer
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._tls: ssl.SSLObject | None = None
        self._tls_in = ssl.MemoryBIO()
        self._tls_out = ssl.MemoryBIO()
        self._reader = ResponseReader(request.method)
        self._last_ns = 0
        self._progress = Progress()
        self._paused = False
        self.result = Exchanged(began_ns=time.time_ns())

    def close(self) -> None:
        """Says when it ended, and gives everything back."""
        self.result.ended_ns = self.result.ended_ns or time.time_ns()
        self.result.received = self._reader.received
        if self._sock is not None:
            if self._tls is not None and self.result.secured_ns is not None:
                with contextlib.suppress(ssl.SSLError, OSError, ValueError):
                    self._tls.unwrap()
                with contextlib.suppress(OSError):
                    self._sock.send(self._tls_out.read())
            self._sock.close()
            self._sock = None

    # Connecting.

    def connect(self) -> None:
        """Name, connection, proxy, TLS."""
        limit_s = min(time.monotonic() + CONNECT_LIMIT_S, self._deadline_s)
        endpoint = self._request.endpoint
        proxy = self._way.proxy
        wanted = proxy.place if proxy is not None else self._wanted(endpoint.host, endpoint.port)
        addresses = resolve(wanted, limit_s)
        self._dial(addresses, limit_s)
        self.result.connected_ns = time.time_ns()
        if proxy is not None and endpoint.scheme == "https":
            self._tunnel(proxy, limit_s)
        if endpoint.scheme == "https":
            self._handshake(limit_s)
            self.result.secured_ns = time.time_ns()

    def _wanted(self, host: str, port: int) -> Place:
        for each_host, each_port, address in self._way.resolve:
            if (each_host.lower(), each_port) == (host, port):
                return Place(address, port)
        return self._way.connect_to or Place(host, port)

    def _dial(self, addresses: list[Place], limit_s: float) -> None:
        refused = ""
        for position, address in enumerate(addresses, start=1):
            self.result.address = str(address)
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            self._sock = sock
            sock.setblocking(False)
            stamp_socket(sock)
            if self._look.pause_after_s is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex((address.host, address.port))
            self._poll = select.poll()
            self._poll.register(sock, select.POLLOUT)
            if code in {0, errno.EINPROGRESS}:
                # Half of what is left for all but the last: a dead IPv6 must not use up the time of IPv4.
                left = limit_s - time.monotonic()
                waited = self._wait(
                    min(limit_s, time.monotonic() + left / (1 if position == len(addresses) else 2))
                )
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if waited else errno.ETIMEDOUT
            if code == 0:
                self._poll.modify(sock, select.POLLIN)
                return
            sock.close()
            self._sock = None
            if code in _OURS:
                raise _End("rig", os.strerror(code))
            refused = f"{address}: {os.strerror(code)}"
        raise _End("connect-timeout" if code == errno.ETIMEDOUT else "refused", refused)

    def _wait(self, limit_s: float) -> bool:
        """Whether the socket became ready before this monotonic moment."""
        left_ms = (min(limit_s, self._deadline_s) - time.monotonic()) * 1000
        return bool(self._poll.poll(max(0.0, left_ms)))

    def _tunnel(self, proxy: Proxy, limit_s: float) -> None:
        place = str(Place(self._request.endpoint.host, self._request.endpoint.port))
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        self._send_all("\r\n".join([*lines, "", ""]).encode(), limit_s)
        reader = ResponseReader("CONNECT")
        while reader.head is None:
            # One byte at a time: what follows the head is TLS, which is not ours to read here.
            if not self._wait(limit_s):
                raise _End("proxy", f"the proxy {proxy.place} did not answer CONNECT in time")
            assert self._sock is not None
            data = self._sock.recv(1)
            if not data:
                raise _End(
                    "proxy", f"the proxy {proxy.place} closed the connection instead of answering CONNECT"
                )
            reader.feed(data)
            if reader.broken:
                raise _End("proxy", f"the proxy {proxy.place} does not speak HTTP: {reader.broken}")
        if reader.head.status // 100 != 2:
            raise _End(
                "proxy",
                f"the proxy {proxy.place} answered CONNECT with {reader.head.status} {reader.head.reason}",
            )

    def _handshake(self, limit_s: float) -> None:
        host = self._request.endpoint.host
        context = context_for(self._trust, self._offer)
        try:
            self._shake(context, host, limit_s)
        except ssl.SSLCertVerificationError as error:
            raise _End("tls", f"the certificate is not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise _End("tls", reason) from None
        assert self._tls is not None
        self.result.tls = Secured(
            version=self._tls.version() or "",
            alpn=self._tls.selected_alpn_protocol() or "",
            offered=self._offer,
            certificate=_certificate(self._tls.getpeercert(binary_form=True)),
            verified=not self._trust.insecure,
            private_ca=self._trust.ca is not None,
        )

    def _shake(self, context: ssl.SSLContext, host: str, limit_s: float) -> None:
        self._tls = context.wrap_bio(self._tls_in, self._tls_out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                self._flush(limit_s)
                return  # noqa: TRY300  # the rest of the loop is for what is still missing
            except ssl.SSLWantReadError:
                self._flush(limit_s)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(limit_s)  # the alert that says why
                raise
            if not self._wait(limit_s):
                raise _End("tls", "the handshake did not finish in time")
            assert self._sock is not None
            try:
                data = self._sock.recv(READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                raise _End("tls", "the server closed the connection during the handshake")
            self._tls_in.write(data)

    # Sending.

    def send(self) -> None:
        """The request as it is, in one go."""
        request = self._request
        if self._way.proxy is not None and request.endpoint.scheme == "http":
            endpoint = request.endpoint
            request = replace(
                request, endpoint=replace(endpoint, target=f"http://{endpoint.host_header}{endpoint.target}")
            )
            if self._way.proxy.authorization is not None:
                request = request.with_header("Proxy-Authorization", self._way.proxy.authorization)
        self.result.request = request.encode()
        limit_s = min(self._deadline_s, time.monotonic() + self._look.headers_s)
        data = self.result.request
        if self._tls is not None:
            self._tls.write(data)
            self._flush(limit_s)
        else:
            self._send_all(data, limit_s)
        self.result.sent_ns = time.time_ns()

    def _flush(self, limit_s: float) -> None:
        data = self._tls_out.read()
        if data:
            self._send_all(data, limit_s)

    def _send_all(self, data: bytes, limit_s: float) -> None:
        assert self._sock is not None
        left = memoryview(data)
        self._poll.modify(self._sock, select.POLLOUT)
        while left:
            if not self._wait(limit_s):
                raise _End("send", "the server did not take the request in time")
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                break  # it may have answered before it closed: reading says it
        self._poll.modify(self._sock, select.POLLIN)

    # Reading.

    def read(self) -> None:
        """Reads until an end."""
        began_s = time.monotonic()
        reader = self._reader
        while True:
            now_s = time.monotonic()
            self._progress.elapsed_s = now_s - began_s
            end, limit_s = self._next_limit(began_s)
            if self._look.enough is not None and self._look.enough(self._progress):
                raise _End("enough")
            if self._look.pause_after_s is not None and not self._paused:
                self._pause()
            if not self._wait(limit_s):
                raise _End(end, "" if end == "enough" else "no answer in time")
            self._take()
            if reader.broken:
                raise _End("protocol", reader.broken)
            if reader.complete or self._is_redirect():
                self._linger()
                raise _End("complete")
            if reader.received_bytes >= self._look.received_bytes:
                raise _End("too-big", f"{self._look.received_bytes >> 20} MiB are enough")
            if len(self.result.reads) >= READS_LIMIT:
                raise _End("too-big", f"{READS_LIMIT:,} reads are enough")

    def _next_limit(self, began_s: float) -> tuple[ProbeEnd, float]:
        head = self._reader.head
        total_s = self._look.total_s
        if self._progress.first_s is None and self._look.first_byte_s is not None:
            total_s = max(total_s, self._look.first_byte_s)
        total_s = min(began_s + total_s, self._deadline_s)
        if head is None:
            headers_s = began_s + self._look.headers_s
            return "late", min(headers_s, self._deadline_s)
        if head.status != 200:
            return "enough", min(total_s, time.monotonic() + REFUSED_LOOK_S)
        return "enough", total_s

    def _is_redirect(self) -> bool:
        head = self._reader.head
        return head is not None and head.status in REDIRECTS and bool(head.get("location"))

    def _take(self) -> None:
        """One read: its bytes with their stamp."""
        assert self._sock is not None
        try:
            data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            self.result.ended_ns = time.time_ns()
            raise _End("rst", "" if self._reader.received_bytes else "before an answer") from None
        read_ns = time.time_ns()
        if not data:
            self._closed(read_ns, orderly=self._tls is None)
        stamp_ns = next(
            (
                seconds * 1_000_000_000 + nanoseconds
                for level, kind, content in ancillary
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING
                for seconds, nanoseconds in [unpack_stamp(content)]
            ),
            0,
        )
        if self._tls is not None:
            data = self._decrypted(data, read_ns)
            if not data:
                return
        at_ns = min(stamp_ns, read_ns) if stamp_ns else read_ns
        self._note(data, at_ns, read_ns - at_ns, stamped=bool(stamp_ns))

    def _note(self, data: bytes, at_ns: int, lag_ns: int, *, stamped: bool) -> None:
        self.result.reads.append(Read(len(data), at_ns, lag_ns, stamped))
        self._reader.feed(data)
        seen = self._progress
        if self._reader.body_bytes:
            if seen.first_s is None:
                seen.first_s = seen.elapsed_s
            if at_ns - self._last_ns >= BURST_GAP_NS:
                seen.bursts += 1
            seen.body_bytes = self._reader.body_bytes
            seen.blocks += data.count(b"\n\n") + data.count(b"\r\n\r\n") + data.count(b"\r\r")
        self._last_ns = at_ns

    def _decrypted(self, data: bytes, read_ns: int) -> bytes:
        assert self._tls is not None
        self._tls_in.write(data)
        parts = []
        try:
            while part := self._tls.read(READ_BYTES):
                parts.append(part)
            closed = True
        except ssl.SSLWantReadError:
            closed = False
        except ssl.SSLZeroReturnError:
            closed = True
        except ssl.SSLError as error:
            raise _End("protocol", f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}") from None
        plain = b"".join(parts)
        if closed:
            if plain:
                self._note(plain, read_ns, 0, stamped=False)
            self._closed(read_ns, orderly=True)
        if self._tls_out.pending:
            self._flush(self._deadline_s)  # the answer to a key update
        return plain

    def _closed(self, at_ns: int, *, orderly: bool) -> None:
        """The server's FIN, or its close_notify."""
        self.result.ended_ns = at_ns
        if self._reader.head is not None and self._reader.framing == "close" and not orderly:
            raise _End("fin", "TLS ended without close_notify")
        self._reader.close()
        if self._reader.complete:
            raise _End("eof")
        raise _End("fin", "" if self._reader.received_bytes else "before an answer")

    def _linger(self) -> None:
        """What comes after a whole answer."""
        self.result.ended_ns = time.time_ns()
        limit_s = time.monotonic() + LINGER_S
        with contextlib.suppress(_End, OSError):
            while self._reader.trailing_bytes < READ_BYTES and self._wait(limit_s):
                self._take()

    def _pause(self) -> None:
        """Stops reading for a while: the server feels it as back-pressure."""
        first_s = self._progress.first_s
        assert self._look.pause_after_s is not None
        if first_s is None or self._progress.elapsed_s < first_s + self._look.pause_after_s:
            return
        self._paused = True
        time.sleep(max(0.0, min(self._look.pause_s, self._deadline_s - time.monotonic())))


def resolve(place: Place, limit_s: float) -> list[Place]:
    """The addresses of a name, IPv4 first. Raises the end `dns` when there is none before this monotonic moment."""
    with contextlib.suppress(ValueError):
        return [Place(str(ipaddress.ip_address(place.host)), place.port)]
    answer: queue.SimpleQueue[list[str] | str] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as error:
            answer.put(str(getattr(error, "strerror", "") or error))

    # The resolver can't be told to stop; a daemon thread that goes on waiting is no reason not to end.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        got = answer.get(timeout=max(0.01, limit_s - time.monotonic()))
    except queue.Empty:
        raise _End("dns", f"{place.host} did not resolve in time") from None
    if isinstance(got, str) or not got:
        raise _End("dns", f"{place.host}: {got or 'no address'}")
    return [Place(address, place.port) for address in sorted(got, key=lambda each: ":" in each)]


def _certificate(der: bytes | None) -> Certificate | None:
    return None if der is None else certificate_names(der)


def _os_end(error: OSError) -> tuple[ProbeEnd, str]:
    code = error.errno or 0
    if code in _OURS:
        return "rig", os.strerror(code)
    if code in _GONE:
        return "rst", ""
    return "fin", printable(error.strerror or str(error))
