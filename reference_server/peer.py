"""Connections as aiohttp serves them, but for what is no HTTP: that is answered without repeating it, and not logged.

aiohttp answers a malformed request with the line that it stumbled over, and logs it with a traceback. Such a line may hold
a token, and whoever sends many of them fills the log.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

LINGERING_S: Final = 2.0
"""How long what still comes of a refused body is read and thrown away: closed at once, the refusal itself might be lost."""
_OPTIONS: Final[dict[str, Any]] = {"access_log": None, "lingering_time": LINGERING_S}


class Peer(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that can't be read, or to a failure of ours, which is logged and told no more of."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        if request.writer.output_size:
            raise ConnectionError("An answer has begun: there is no room for another.")
        response = web.Response(
            status=status,
            body=msgspec.json.encode({"error": "The request is not well-formed HTTP."}),
            content_type="application/json",
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that can't be decoded is its sender's fault: who was refused without reading it has had the answer."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


async def listen(server: web.Server, host: str, port: int, backlog: int) -> asyncio.Server:
    """Listens for peers of this server. Raises OSError when that can't be."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Peer(server, loop=loop, **_OPTIONS), host, port, backlog=backlog)
