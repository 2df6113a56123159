"""Connections that send no request: counted from when they came, or from their last answer, and ended after a limit.

aiohttp waits for a request's head as long as it takes: thousands of peers that send a byte now and then would hold as
many descriptors. Who has sent no whole head in the limit is told so (408, RFC 9110, 15.5.9); a connection that is kept
alive and idle is closed in silence, as every server does.
"""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Waiting:
    """Who is waited for; times are those of the event loop, in seconds."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._since: dict[web.RequestHandler, float] = {}
        self._busy: set[web.RequestHandler] = set()
        self._served: set[web.RequestHandler] = set()

    def begin(self, connection: web.RequestHandler) -> None:
        """The head of a request is here."""
        self._busy.add(connection)
        self._served.add(connection)

    def end(self, connection: web.RequestHandler, now: float) -> None:
        """The request is answered."""
        self._busy.discard(connection)
        self._since[connection] = now

    def sweep(self, connections: Iterable[web.RequestHandler], now: float) -> None:
        """Ends those of all connections that have been waited for too long."""
        there = set(connections)
        self._since = {each: self._since.get(each, now) for each in there}
        self._served &= there
        for connection, since in self._since.items():
            transport = connection.transport
            if connection in self._busy or now - since < self.limit_s or transport is None:
                continue
            if connection not in self._served:
                transport.write(TIMED_OUT)
            transport.close()
