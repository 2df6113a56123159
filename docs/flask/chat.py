"""The chat service of the report as it was first deployed: Flask, a generator an answer, neither heartbeats nor ids.

    gunicorn -w 4 -b 127.0.0.1:8031 --chdir docs/flask chat:app        # sync workers: four answers at a time
    gunicorn -k gevent -b 127.0.0.1:8032 --chdir docs/flask chat:app   # the same app, one worker: as many as ask

An answer has a piece every half a second for `seconds`, by default 40: as long as a model thinks over a hard question.
What is wrong with it is not in this file: see ../flask.md.
"""

import hmac
import json
import os
import time
from collections.abc import Iterator
from typing import Final

from flask import Flask, Response, abort, request

EVERY_S: Final = 0.5
USUAL_S: Final = 40
LONGEST_S: Final = 600
QUESTION_LIMIT_CHARS: Final = 4_000

app = Flask(__name__)


def event(kind: str, **fields: object) -> str:
    """One event: its data is one line of JSON, so that no text can end it."""
    return f"event: {kind}\ndata: {json.dumps(fields, ensure_ascii=False)}\n\n"


def answer(question: str, seconds: int) -> Iterator[str]:
    """The events of one answer, at their times."""
    pieces = round(seconds / EVERY_S)
    for number in range(1, pieces + 1):
        time.sleep(EVERY_S)
        yield event("delta", text=f"{question[:40] or 'جواب'} ({number}/{pieces}). ")
    yield event("done", events=pieces)


def asked() -> tuple[str, int]:
    """The question, and how long its answer takes; 400 for anything else."""
    wishes = request.get_json(silent=True) if request.method == "POST" else request.args
    try:
        question = str((wishes or {}).get("question", ""))
        seconds = int((wishes or {}).get("seconds", USUAL_S))
    except (AttributeError, TypeError, ValueError):
        abort(400)
    if len(question) > QUESTION_LIMIT_CHARS or not 1 <= seconds <= LONGEST_S:
        abort(400)
    return question, seconds


@app.route("/api/v1/stream/chat", methods=["GET", "POST"])
def chat() -> Response:
    """Streams one answer."""
    return Response(answer(*asked()), content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@app.post("/admin/api/chat/stream")
def admin_chat() -> Response:
    """The same for who knows ADMIN_TOKEN; without one, for nobody."""
    token = os.environ.get("ADMIN_TOKEN", "")
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not token or not hmac.compare_digest(token.encode(), given.encode()):
        abort(403)
    return chat()


@app.get("/api/v1/stream/health")
def health() -> dict[str, str]:
    """A sign of life, while a worker is free to give it."""
    return {"status": "ok", "service": "sse-streaming"}
