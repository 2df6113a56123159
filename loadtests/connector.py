"""One attempt: a new connection, and those that redirects lead to.

Rules (sse.md C10 to C13, design.md "Ground rules"): a name is looked up once; a redirect is followed at most ten times,
and only to the target's own host, to loopback, or to a host that was allowed. An attempt is sent with its first request
and answered by its last response.
"""

import _socket
import ipaddress
import time
from collections.abc import Collection
from typing import cast

import gevent
from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.metrics import Metrics
from sseproof.loadtests.request import REDIRECTS_LIMIT, Request, redirected
from sseproof.loadtests.transport import TLS, Address, Exchange, Limits, Receiver
from sseproof.rundir.rows import AttemptEnd, Instant
from sseproof.rundir.text import printable


class Attempted(Struct):
    """One attempt, all its redirects included."""

    exchange: Exchange | None
    """The last connection, whose response counts; None when no address was found for it."""
    address: str
    started: Instant
    connected: Instant | None
    secured: Instant | None
    sent: Instant | None
    end: AttemptEnd
    ended: Instant
    detail: str
    redirects: int
    received_bytes: int
    reads: int
    unstamped_reads: int
    read_lag_max_ns: int


class Connector:
    """Makes attempts: one new connection each, redirects followed where that is allowed."""

    def __init__(
        self, *, tls: TLS, metrics: Metrics, allow: Collection[str] = (), secret_headers: Collection[str] = ()
    ) -> None:
        self._tls = tls
        self._metrics = metrics
        self._allow = {host.lower() for host in allow}
        self._secret_headers = tuple(secret_headers)
        self._resolved: dict[tuple[str, int], list[Address]] = {}

    def attempt(
        self, request: Request, place: tuple[str, int] | None, limits: Limits, receiver: Receiver
    ) -> Attempted:
        """One attempt to its end; blocks the greenlet.

        `place` is the host and port to connect to, None for the URL's own; names are looked up once.
        """
        done: list[Exchange] = []
        answering: list[Exchange] = []
        """One of each hop, the others were refused."""
        redirects = 0
        current = request
        place = place or (request.endpoint.host, request.endpoint.port)
        while True:
            before = time.time_ns()
            try:
                addresses = self.resolve(*place, limits.connect_ns)
            except OSError as error:
                now = time.time_ns()
                return replace(
                    _attempted(Instant(before), answering, done, redirects),
                    exchange=None,
                    address=f"{place[0]}:{place[1]}",
                    end="dns",
                    ended=Instant(now, max(0, now - before)),
                    detail=printable(f"{place[0]}: {error.strerror or error}"),
                )
            answering.append(self._connect(current, addresses, limits, receiver, done))
            attempted = _attempted(Instant(before), answering, done, redirects)
            exchange = answering[-1]
            if exchange.end != "redirect":
                return attempted
            try:
                if redirects == REDIRECTS_LIMIT:
                    raise ValueError(f"more than {REDIRECTS_LIMIT} redirects")  # noqa: TRY301  # one way out
                following = self._followed(request, current, exchange)
            except ValueError as error:
                return replace(attempted, detail=f"HTTP {exchange.status}: {error}")
            redirects += 1
            place = _following_place(current, following, place)
            current = following

    def _followed(self, original: Request, current: Request, exchange: Exchange) -> Request:
        """The request that a redirect leads to. Raises ValueError when it may not be made."""
        following = redirected(
            current, exchange.status or 0, exchange.header("location"), self._secret_headers
        )
        host = following.endpoint.host
        if host != original.endpoint.host and not self._allowed(host):
            raise ValueError(f"a redirect to {printable(host, 80)}, which nobody allowed, was not followed")
        return following

    def resolved_addresses(self) -> list[str]:
        """Every IP address that was looked up or given so far, in the order of its first use."""
        return list(dict.fromkeys(each.host for found in self._resolved.values() for each in found))

    def resolve(self, host: str, port: int, limit_ns: int) -> list[Address]:
        """The addresses of a host, looked up once; blocks only the greenlet. Raises OSError when there are none."""
        known = self._resolved.get((host, port))
        if known is not None:
            return known
        try:
            literal = [Address(str(ipaddress.ip_address(host)), port)]
        except ValueError:
            literal = []
        found = literal or _look_up(host, port, limit_ns)
        self._resolved[host, port] = found
        return found

    def _connect(
        self,
        request: Request,
        addresses: list[Address],
        limits: Limits,
        receiver: Receiver,
        done: list[Exchange],
    ) -> Exchange:
        """One exchange with the first address that accepts a connection."""
        for position, address in enumerate(addresses, start=1):
            exchange = Exchange(
                request, address, limits=limits, receiver=receiver, metrics=self._metrics, tls=self._tls
            )
            done.append(exchange)
            receiver.on_exchange(exchange)
            if not exchange.over:
                exchange.start()
            try:
                exchange.wait()
            except BaseException as interruption:  # noqa: BLE001  # the receiver raises it again when all is recorded
                receiver.on_interrupt(interruption)
                exchange.stop("interrupted")
            if exchange.error is not None:
                raise exchange.error
            if exchange.end != "refused" or position == len(addresses):
                return exchange
        raise AssertionError("an attempt needs an address")

    def _allowed(self, host: str) -> bool:
        if host == "localhost" or host in self._allow:
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _look_up(host: str, port: int, limit_ns: int) -> list[Address]:
    resolver = gevent.get_hub().resolver
    try:
        with gevent.Timeout(limit_ns / 1e9):
            found = resolver.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
    except gevent.Timeout:
        raise OSError(f"{host} did not resolve in time") from None
    except UnicodeError:
        raise OSError(f"{host!r} is no host name") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return [Address(address, port) for address in sorted(addresses, key=lambda each: ":" in each)]


def _following_place(before: Request, after: Request, place: tuple[str, int]) -> tuple[str, int]:
    """Where a redirect leads: to the same origin as before, to the same host by the address in use."""
    if after.endpoint.origin == before.endpoint.origin:
        return place
    if after.endpoint.host == before.endpoint.host and place[1] == before.endpoint.port:
        return place[0], after.endpoint.port
    return after.endpoint.host, after.endpoint.port


def _attempted(
    started: Instant, answering: list[Exchange], done: list[Exchange], redirects: int
) -> Attempted:
    """What the exchanges so far add up to: sent with the first, answered by the last."""
    first, last = (answering[0], answering[-1]) if answering else (None, None)
    end = last.end if last is not None and last.end not in {None, "redirect"} else "status"
    return Attempted(
        exchange=last,
        address=str(last.address) if last is not None else "",
        started=done[0].started if done and done[0].started.ns else started,
        connected=first.connected if first is not None else None,
        secured=first.secured if first is not None else None,
        sent=first.sent if first is not None else None,
        end=cast("AttemptEnd", end),
        ended=last.ended if last is not None else started,
        detail=last.detail if last is not None else "",
        redirects=redirects,
        received_bytes=sum(each.received_bytes for each in done),
        reads=sum(each.reads for each in done),
        unstamped_reads=sum(each.unstamped_reads for each in done),
        read_lag_max_ns=max((each.read_lag_max_ns for each in done), default=0),
    )
