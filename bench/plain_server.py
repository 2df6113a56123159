"""The plainest event stream that aiohttp can serve: one `write` an event, then a sleep until the next is due.

python bench/plain_server.py INTERVAL_MS   # prints its address, then serves until it is ended; 0: without a pause
"""

import asyncio
import contextlib
import sys
import time

import peer_events
from aiohttp import web

INTERVAL_S = int(sys.argv[1]) / 1e3
TEXTS = peer_events.texts()


async def stream(request: web.Request) -> web.StreamResponse:
    """Numbered events without end."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    number = 0
    due_s = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while True:
            data = peer_events.data_of(TEXTS[number % len(TEXTS)])
            number += 1
            await response.write(f"id: {peer_events.KEY}-{number}\nevent: delta\ndata: {data}\n\n".encode())
            due_s += INTERVAL_S
            await asyncio.sleep(max(0, due_s - time.monotonic()))
    return response


async def serve() -> None:
    """Until the process is ended."""
    app = web.Application()
    app.router.add_get("/", stream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
