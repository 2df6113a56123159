"""The same events from sse-starlette, served by uvicorn.

python bench/starlette_server.py INTERVAL_MS   # prints its address, then serves until it is ended; 0: without a pause
"""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator

import peer_events
import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

INTERVAL_S = int(sys.argv[1]) / 1e3
TEXTS = peer_events.texts()


async def events() -> AsyncIterator[dict[str, str]]:
    """Numbered events without end."""
    number = 0
    due_s = time.monotonic()
    while True:
        data = peer_events.data_of(TEXTS[number % len(TEXTS)])
        number += 1
        yield {"id": f"{peer_events.KEY}-{number}", "event": "delta", "data": data}
        due_s += INTERVAL_S
        await asyncio.sleep(max(0, due_s - time.monotonic()))


async def stream(_: Request) -> EventSourceResponse:
    """The answer to one request; the separator is that of the other servers."""
    return EventSourceResponse(events(), sep="\n")


def main() -> None:
    """Until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4_096)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
    config = uvicorn.Config(
        Starlette(routes=[Route("/", stream)]), log_level="error", access_log=False, loop="asyncio"
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
