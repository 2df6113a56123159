"""A service on Flask, for gunicorn's sync workers: an event every 12 ms for as long as somebody reads."""

import itertools
import time
from collections.abc import Iterator

from flask import Flask, Response

TEXT = "x" * 380
app = Flask(__name__)


@app.get("/stream")
def stream() -> Response:
    """The answer to one request."""

    def events() -> Iterator[str]:
        for number in itertools.count(1):
            yield f'data: {{"n":{number},"text":"{TEXT}"}}\n\n'
            time.sleep(0.012)

    return Response(events(), content_type="text/event-stream", headers={"Cache-Control": "no-cache"})
