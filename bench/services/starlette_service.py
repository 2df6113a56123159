"""A service on sse-starlette: 600 events, one every 12 ms, then the end; served by uvicorn on the socket it is given.

GET /stream            events without a pause, resumed after Last-Event-ID
GET /stream?quiet=1    an event every 7 s
"""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

EVENTS = 600
TEXT = "x" * 380


async def stream(request: Request) -> Response:
    """The answer to one request."""
    every_s = 7.0 if request.query_params.get("quiet") else 0.012
    last = request.headers.get("last-event-id", "")
    first = int(last) + 1 if last.isdigit() else 1
    if first > EVENTS:
        return Response(status_code=204)

    async def events() -> AsyncIterator[dict[str, str]]:
        for number in range(first, EVENTS + 1):
            yield {"id": str(number), "data": f'{{"n":{number},"text":"{TEXT}"}}'}
            await asyncio.sleep(every_s)

    return EventSourceResponse(events())


app = Starlette(routes=[Route("/stream", stream)])
