"""Answers of a real language model: any OpenAI-compatible chat completions endpoint, streamed through.

Rules:
- The endpoint comes from the environment of this process: LLM_BASE_URL, LLM_MODEL, LLM_API_KEY. The key goes into the
  request's header and nowhere else. Without an endpoint a scripted answer stands in only where ALLOW_MOCK_LLM=1 says so;
  else each answer is one clear error, never a silent mock.
- A task an answer reads the upstream into a LiveAnswer (live.py). It stops reading while the reader is too far behind,
  and the upstream's socket fills.
- The reader may leave and come back within `llm_window`: the upstream is read on meanwhile. After it the upstream is
  cancelled and the answer forgotten; its ids are unknown then, as they are to every other user. The same stream asked
  anew ends its earlier answer at once.
- What goes wrong becomes one `error` event with a code and a sentence. Nothing that the upstream said is part of it.
"""

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiohttp import hdrs

from sseproof.reference_server.completions import (
    Completion,
    CompletionError,
    ErrorCode,
    Finish,
    status_error,
)
from sseproof.reference_server.live import LiveAnswer
from sseproof.reference_server.misbehave import NO_ACTS
from sseproof.reference_server.settings import ServerSettings
from sseproof.reference_server.streams import (
    KEY_CHARS,
    Admission,
    Ask,
    Stream,
    StreamName,
    parse_event_id,
    unnamed,
)
from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import printable

URL_VARIABLE: Final = "LLM_BASE_URL"
MODEL_VARIABLE: Final = "LLM_MODEL"
KEY_VARIABLE: Final = "LLM_API_KEY"
MOCK_VARIABLE: Final = "ALLOW_MOCK_LLM"
_PATH: Final = "/chat/completions"

AWAY_KEPT: Final = 1_000
"""Answers whose reader is away; beyond it those that are away longest are forgotten first."""
AFTER_FINISH_S: Final = 1.0
"""How long an answer that is whole is read on for its `[DONE]`: to hang up before it looks like giving up."""
READ_BYTES: Final = 64 * 1024

_NO_UPSTREAM: Final = CompletionError(
    "no-upstream",
    f"No language model is configured: set {URL_VARIABLE} and {MODEL_VARIABLE}, or {MOCK_VARIABLE}=1 for scripted answers.",
)


_SLOW_MODEL: Final = CompletionError("upstream-timeout", "The language model took too long for its answer.")
_SLOW_READER: Final = CompletionError(
    "reader-slow", "The answer took too long: its reader is far behind, and the language model waits."
)


class Upstream:
    """Where the language model is; its repr shows no key."""

    def __init__(self, url: str, model: str, key: str | None) -> None:
        self.url = url
        self.model = model
        self._key = key

    def headers(self) -> dict[str, str]:
        """Of a request. Nothing is gained by compressing tokens that come one by one."""
        headers: dict[str, str] = {hdrs.ACCEPT: "text/event-stream", hdrs.ACCEPT_ENCODING: "identity"}
        if self._key:
            headers[hdrs.AUTHORIZATION] = f"Bearer {self._key}"
        return headers


def upstream_of(environ: Mapping[str, str]) -> Upstream | None:
    """The upstream that the environment names, None when it names none.

    Raises UsageError for an address that is none, a key that can't be sent, or an upstream without a model.
    """
    base = environ.get(URL_VARIABLE, "").strip()
    if not base:
        return None
    parts = _split(base)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"{URL_VARIABLE} is not the address of an endpoint: it looks like https://HOST/v1 (queries have no place in it)."
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{URL_VARIABLE} holds a login: give the key in {KEY_VARIABLE} instead.")
    model = environ.get(MODEL_VARIABLE, "").strip()
    if not model:
        raise UsageError(
            f"{MODEL_VARIABLE} is not set: name the model that {URL_VARIABLE} shall be asked for."
        )
    key = environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"{KEY_VARIABLE} can't be sent in a header: it has to be visible ASCII.")
    url = base.rstrip("/")
    return Upstream(url if url.endswith(_PATH) else url + _PATH, model, key or None)


def mock_allowed(environ: Mapping[str, str]) -> bool:
    """Whether a scripted answer may stand in for a model's."""
    return environ.get(MOCK_VARIABLE) == "1"


def answering(environ: Mapping[str, str]) -> str:
    """A sentence about who will answer here, for who starts the server. Raises UsageError as `upstream_of` does."""
    upstream = upstream_of(environ)
    if upstream is not None:
        return f"Answers come from {printable(upstream.model, 80)} at {printable(urlsplit(upstream.url).netloc, 120)}."
    if mock_allowed(environ):
        return f"Answers are scripted, as {MOCK_VARIABLE}=1 allows: {URL_VARIABLE} names no language model."
    return f"Each answer will be an error. {_NO_UPSTREAM.sentence}"


def _split(base: str) -> SplitResult | None:
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError:
        return None
    return None if parts.query or parts.fragment else parts


class _Live:
    """One answer with what keeps it going."""

    __slots__ = ("answer", "stream", "task", "timer")

    def __init__(self, stream: Stream, answer: LiveAnswer) -> None:
        self.stream = stream
        self.answer = answer
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class LiveAnswers:
    """All answers of one server, and who gets which. Lives on the event loop's thread."""

    def __init__(self, settings: ServerSettings, upstream: Upstream | None) -> None:
        self._settings = settings
        self._upstream = upstream
        self._resumes = settings.profile == "robust"
        self._by_key: dict[str, _Live] = {}
        self._by_name: dict[tuple[str | None, str], _Live] = {}
        """By owner and truth id."""
        self._away: dict[str, None] = {}
        """Keys of answers without a reader, those that are away longest first."""
        self._session: aiohttp.ClientSession | None = None
        self._unnamed = 0

    def continued(
        self, name: StreamName | None, last_event_id: str | None, _now: float, owner: str | None, /
    ) -> Stream | None:
        """The answer that this user may continue by this id, if there is one."""
        place = parse_event_id(last_event_id or "") if self._resumes else None
        live = self._by_key.get(place[0]) if place else None
        replays = self._settings.replays
        if (
            place is None
            or live is None
            or live.stream.owner != owner
            or (name is not None and live.stream.name != name)
            or (replays is not None and live.stream.replayed >= replays)
            or not (place[1] == live.answer.last or live.answer.has(place[1] + 1))
        ):
            return None
        return live.stream

    def admit(
        self,
        ask: Ask,
        name: StreamName | None,
        last_event_id: str | None,
        now: float,
        owner: str | None = None,
        /,
    ) -> Admission:
        """What this request of this user gets: a new answer, one from where it was, or a word about why not.

        Raises ValueError for a request that only a script can answer.
        """
        if not last_event_id or not self._resumes:
            return self._begin(ask, name, now, owner)
        place = parse_event_id(last_event_id)
        stream = self.continued(name, last_event_id, now, owner)
        if place is None or stream is None:
            return self._unknown(name, owner)
        stream.connections += 1
        stream.replayed += 1
        if place[1] == stream.script.last:
            return Admission("finished", stream.name, stream)
        return Admission("serve", stream.name, stream, place[1] + 1, place[1] + 1)

    async def stopped(self, _: object) -> None:
        """The server stops: cancels all upstreams."""
        tasks = [live.task for live in self._by_key.values() if live.task is not None]
        for key in list(self._by_key):
            self._forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _begin(self, ask: Ask, name: StreamName | None, now: float, owner: str | None) -> Admission:
        _refuse_script(ask)
        name = name or self._next_unnamed()
        earlier = self._by_name.get((owner, name.truth_id))
        live = self._new(ask, name, owner)
        stream = live.stream
        stream.started = now
        stream.connections = 1 if earlier is None else earlier.stream.connections + 1
        if earlier is not None:
            self._forget(earlier.stream.key)
        self._by_key[stream.key] = self._by_name[owner, name.truth_id] = live
        self._wait(live)
        return Admission("serve", name, stream, 1, 1)

    def _new(self, ask: Ask, name: StreamName, owner: str | None) -> _Live:
        answer = LiveAnswer(self._settings.llm_buffer_bytes, resumable=self._resumes)
        # Nobody may guess the ids of somebody else's answer.
        live = _Live(Stream(secrets.token_hex(KEY_CHARS // 2), name, answer, NO_ACTS, owner), answer)
        answer.on_left = lambda: self._left(live)
        answer.on_attached = lambda: self._returned(live)
        if self._upstream is None:
            answer.fail(_NO_UPSTREAM)
        else:
            live.task = asyncio.create_task(self._pump(self._upstream, answer, ask.question))
        return live

    def _unknown(self, name: StreamName | None, owner: str | None) -> Admission:
        live = None if name is None else self._by_name.get((owner, name.truth_id))
        if live is not None:
            live.stream.connections += 1
        return Admission("unknown", name or self._next_unnamed(), None if live is None else live.stream)

    def _next_unnamed(self) -> StreamName:
        self._unnamed += 1
        return unnamed(self._settings.seed, self._unnamed)

    # --- readers that leave and come back ---

    def _left(self, live: _Live) -> None:
        key = live.stream.key
        if self._by_key.get(key) is not live:
            return
        if self._resumes:
            self._wait(live)
        else:
            self._forget(key)

    def _wait(self, live: _Live) -> None:
        """From here on the answer has no reader, until one comes within the window."""
        key = live.stream.key
        live.timer = asyncio.get_running_loop().call_later(
            self._settings.llm_window.seconds, self._forget, key
        )
        self._away[key] = None
        if len(self._away) > AWAY_KEPT:
            self._forget(next(iter(self._away)))

    def _returned(self, live: _Live) -> None:
        self._away.pop(live.stream.key, None)
        if live.timer is not None:
            live.timer.cancel()
            live.timer = None

    def _forget(self, key: str) -> None:
        """Cancels the upstream of this answer; its ids are unknown from now on."""
        live = self._by_key.pop(key)
        self._returned(live)
        named = live.stream.owner, live.stream.name.truth_id
        if self._by_name.get(named) is live:
            del self._by_name[named]
        if live.task is not None:
            live.task.cancel()
        live.answer.abandon()

    # --- the upstream ---

    async def _pump(self, upstream: Upstream, answer: LiveAnswer, question: str) -> None:
        """Reads one answer to its end, whatever that is."""
        try:
            async with asyncio.timeout(self._settings.llm_total.seconds):
                await self._read(upstream, answer, question)
        except CompletionError as error:
            answer.fail(error)
        except TimeoutError:
            answer.fail(_SLOW_READER if answer.full else _SLOW_MODEL)
        except aiohttp.ClientConnectorError:
            answer.fail(_error("upstream-unreachable", "The language model can't be reached."))
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError):
            answer.fail(_error("upstream-cut", "The language model's answer ended in the middle."))
        except aiohttp.ClientError:
            answer.fail(_error("upstream-malformed", "The language model's answer can't be read as HTTP."))
        except Exception:
            answer.fail(_error("internal", "The answer failed inside this server."))
            raise

    async def _read(self, upstream: Upstream, answer: LiveAnswer, question: str) -> None:
        silence_s = self._settings.llm_silence.seconds
        body = {
            "model": upstream.model,
            "messages": [{"role": "user", "content": question}],
            "stream": True,
        }
        async with _silence(silence_s):
            response = await self._connected().post(
                upstream.url, json=body, headers=upstream.headers(), allow_redirects=False
            )
        try:
            if response.status != 200:
                raise status_error(response.status)
            if response.content_type != "text/event-stream":
                raise _error(
                    "upstream-malformed",
                    "The language model answered with something that is no event stream.",
                )
            await self._read_body(response, answer, silence_s)
        finally:
            response.close()

    async def _read_body(
        self, response: aiohttp.ClientResponse, answer: LiveAnswer, silence_s: float
    ) -> None:
        completion = Completion()
        room = asyncio.Event()
        answer.on_room = room.set
        loop = asyncio.get_running_loop()
        limit_s = silence_s
        until = math.inf
        while not completion.ended and loop.time() < until:
            while answer.full:
                room.clear()
                await room.wait()
            async with _silence(limit_s):
                data = await response.content.read(READ_BYTES)
            for item in completion.receive(data) if data else completion.close():
                if isinstance(item, Finish):
                    answer.finish(item.reason)
                    limit_s, until = AFTER_FINISH_S, loop.time() + AFTER_FINISH_S
                else:
                    answer.add(item.text)
            if not data:
                return

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A kept connection that the upstream closed meanwhile would fail an answer: each has its own.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


@contextlib.asynccontextmanager
async def _silence(limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise _error("upstream-timeout", "The language model has been silent for too long.") from None


def _refuse_script(ask: Ask) -> None:
    """Raises ValueError for wishes that a language model can't fulfil."""
    if not ask.question.strip():
        raise ValueError("the question is empty: a language model answers questions")
    for name, default in zip(Ask.__struct_fields__, Ask.__struct_defaults__, strict=True):
        if name not in {"question", "sent_at"} and getattr(ask, name) != default:
            raise ValueError(
                f"the parameter {name!r} describes scripted answers; here a language model answers"
            )


def _error(code: ErrorCode, sentence: str) -> CompletionError:
    return CompletionError(code, sentence)
