"""Logical streams: their names, their keys, and where a Last-Event-ID continues.

Rules:
- A client names its stream by `Sseproof-Stream: run/variant/number`; a stream without a name is called `-/-/key`.
- The key inside event ids is a function of server seed, name and script, so that a repeated run has the same ids; an id
  is `key-number`, the number at the end.
- A resume finds its stream by the key. A name that differs from the stream's own makes the id unknown: nobody continues
  somebody else's answer. A request without a name may continue any stream, as a plain EventSource or curl would.
- With a login a stream has an owner, whom its key depends on, and is unknown to everybody else, whatever his request
  says: nobody is told that it exists.
- A stream can be continued for a time and a number of times where the server sets such limits; then it is unknown.
- The table is bounded: the stream that was used longest ago goes first, and one that is being sent goes last.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sseproof.reference_server.live import LiveAnswer
from sseproof.reference_server.misbehave import DUPLICATES, Acts, Misbehaviour, Mode
from sseproof.reference_server.script import Kind, Script, seed_for, spec_for
from sseproof.reference_server.settings import QUESTION_LIMIT_CHARS
from sseproof.rundir.rows import ScriptSpec

STREAMS_KEPT: Final = 20_000
"""At about 1 KB each; as many as the descriptors a machine usually grants, so every open stream has its place."""
TRUTH_LIMIT_CHARS: Final = 200
EVENTS_LIMIT: Final = 10_000
"""Minutes at an ordinary pace; who needs more asks for an endless feed."""
WAIT_LIMIT_MS: Final = 600_000
SEED_LIMIT: Final = (1 << 53) - 1
"""The largest number that every JSON reader keeps exact."""
KEY_CHARS: Final = 12
_TRUTH: Final = re.compile(r"(?P<run>[!-~]+)/(?P<variant>[!-.0-~]+)/(?P<number>[0-9]{1,12})", re.ASCII)
_EVENT_ID: Final = re.compile(rf"(?P<key>[0-9a-f]{{{KEY_CHARS}}})-(?P<number>[1-9][0-9]{{0,17}})", re.ASCII)


class StreamName(Struct, frozen=True):
    """Who a stream is: the id its witness rows carry, and the part of it that a repeated run shares."""

    truth_id: str
    run: str

    @property
    def repeatable(self) -> str:
        """variant/number: what seeds are derived from, so that the next run gets the same answers and defects."""
        return self.truth_id[len(self.run) + 1 :]


def parse_name(header: str) -> StreamName:
    """The name in a Sseproof-Stream header. Raises ValueError with a sentence when it is none."""
    match = _TRUTH.fullmatch(header) if len(header) <= TRUTH_LIMIT_CHARS else None
    if match is None:
        raise ValueError(
            "the header Sseproof-Stream has to be run/variant/number in visible ASCII, "
            f"at most {TRUTH_LIMIT_CHARS} characters, with - for no variant"
        )
    return StreamName(header, match["run"])


def unnamed(seed: int, count: int) -> StreamName:
    """The name of the count-th stream whose client gave none."""
    return StreamName(f"-/-/{_digest(f'{seed}:unnamed:{count}')}", "-")


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Key and number of an event id of ours, None for any other text."""
    match = _EVENT_ID.fullmatch(text)
    return (match["key"], int(match["number"])) if match else None


def key_of(seed: int, name: StreamName, spec: ScriptSpec, owner: str | None = None) -> str:
    """What the ids of this stream start with."""
    whose = "" if owner is None else f"{owner}:"
    return _digest(f"{seed}:{whose}{name.truth_id}:{msgspec.json.encode(spec).decode()}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARS]


class Stream:
    """One logical stream of this server; its attempts share it."""

    __slots__ = (
        "acts",
        "begun",
        "connections",
        "first_token",
        "greets",
        "key",
        "left",
        "name",
        "opened",
        "owner",
        "replayed",
        "script",
        "started",
    )

    def __init__(
        self, key: str, name: StreamName, script: Script | LiveAnswer, acts: Acts, owner: str | None = None
    ) -> None:
        self.key = key
        self.name = name
        self.owner = owner
        """The user whose answer it is; None without a login."""
        self.script: Final = script
        """What its events are, or come from."""
        self.acts = acts
        self.started = 0.0
        """When its timeline began, on the event loop's clock."""
        self.connections = 0
        """Connections so far, those refused included."""
        self.begun = 0
        """Which of them was the last that continued nothing."""
        self.opened = 0
        """Connections open now."""
        self.left = 0.0
        """When the last of them ended, on the event loop's clock."""
        self.replayed = 0
        """How often it was continued."""
        self.first_token = 2
        """Number of the first event that carries text."""
        self.greets = True
        """Begins with hello, event 1; the subscriber of a topic comes in between."""


class Ask(Struct, frozen=True, forbid_unknown_fields=True):
    """What a request asks for; None leaves it to the seed."""

    question: Annotated[str, Meta(max_length=QUESTION_LIMIT_CHARS)] = ""
    script: Kind = "mixed"
    seed: Annotated[int, Meta(ge=0, le=SEED_LIMIT)] | None = None
    """Fixes the answer; else it follows from the server's seed, the stream's name and the question."""
    events: Annotated[int, Meta(ge=0, le=EVENTS_LIMIT)] | None = None
    """Deltas; 0 never ends."""
    first_token_ms: Annotated[float, Meta(ge=0, le=WAIT_LIMIT_MS)] | None = None
    interval_ms: Annotated[float, Meta(ge=0, le=WAIT_LIMIT_MS)] | None = None
    sent_at: bool = False
    """Puts the send time, in ns since 1970, into each delta."""


class Admission(Struct, frozen=True):
    """What a request gets."""

    kind: Literal["serve", "finished", "unknown"]
    name: StreamName
    stream: Stream | None
    """None when the stream is not known."""
    first: int = 1
    """The first number that is sent."""
    meant_first: int | None = None
    """The first number that a well-behaved server would send."""
    misbehaved: tuple[Mode, ...] = ()


class StreamTable:
    """The streams that can be continued, by key."""

    def __init__(self, limit: int = STREAMS_KEPT) -> None:
        self._limit = limit
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def find(self, key: str) -> Stream | None:
        """The stream of this key, which counts as used now."""
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._streams[key] = stream
        return stream

    def add(self, stream: Stream, key: str | None = None) -> None:
        """Keeps a stream, under its own key unless another is given; the longest unused one may have to go."""
        self._streams[key or stream.key] = stream
        for _ in range(len(self._streams)):
            if len(self._streams) <= self._limit:
                return
            oldest_key = next(iter(self._streams))
            oldest = self._streams.pop(oldest_key)
            if oldest.opened:
                self._streams[oldest_key] = oldest


class Admitter:
    """Decides what each request gets: a new stream, a stream from where it was, or a word about why not.

    `now` is the event loop's clock, in seconds; a new or restarted timeline begins there. A stream can be continued for
    `window_s` after its last connection ended, and so many times as `replays` says; None is without such a limit.
    """

    def __init__(
        self,
        seed: int,
        misbehaviour: Misbehaviour,
        *,
        resumes: bool,
        limit: int = STREAMS_KEPT,
        window_s: float | None = None,
        replays: int | None = None,
    ) -> None:
        self.table = StreamTable(limit)
        self._seed = seed
        self._misbehaviour = misbehaviour
        self._resumes = resumes
        self._window_s = window_s
        self._replays = replays
        self.unnamed = 0
        """Streams without a name so far."""

    def admit(
        self,
        ask: Ask,
        name: StreamName | None,
        last_event_id: str | None,
        now: float,
        owner: str | None = None,
    ) -> Admission:
        """What this request of this user gets. Raises ValueError for an endless script that is to end."""
        if not last_event_id or not self._resumes:
            return self._start(ask, name, now, owner)
        if name is not None and self._ignores_resume(ask, name):
            return self._start(ask, name, now, owner, ignored=True)
        return self._resume(ask, name, last_event_id, now, owner)

    def continued(
        self, name: StreamName | None, last_event_id: str | None, now: float, owner: str | None
    ) -> Stream | None:
        """The stream that this user may continue by this id, if there is one."""
        place = parse_event_id(last_event_id or "") if self._resumes else None
        stream = self.table.find(place[0]) if place else None
        if (
            place is None
            or stream is None
            or stream.owner != owner
            or (name is not None and stream.name != name)
            or (stream.script.last is not None and place[1] > stream.script.last)
            or (self._replays is not None and stream.replayed >= self._replays)
            or (self._window_s is not None and not stream.opened and now - stream.left > self._window_s)
        ):
            return None
        return stream

    def _start(
        self, ask: Ask, name: StreamName | None, now: float, owner: str | None, *, ignored: bool = False
    ) -> Admission:
        stream = self._own_stream(ask, name or self._next_unnamed(), owner)
        return self._restart(stream, now, ignored=ignored)

    def _restart(self, stream: Stream, now: float, *, ignored: bool) -> Admission:
        stream.started = now
        stream.connections += 1
        return Admission("serve", stream.name, stream, 1, 1, ("no-resume",) if ignored else ())

    def _resume(
        self, ask: Ask, name: StreamName | None, last_event_id: str, now: float, owner: str | None
    ) -> Admission:
        place = parse_event_id(last_event_id)
        stream = self.continued(name, last_event_id, now, owner)
        if place is None or stream is None:
            return self._unknown(ask, name, owner)
        stream.replayed += 1
        if stream.acts.no_resume:
            return self._restart(stream, now, ignored=True)
        stream.connections += 1
        if place[1] == stream.script.last:
            return Admission("finished", stream.name, stream)
        meant = place[1] + 1
        if not stream.acts.duplicate:
            return Admission("serve", stream.name, stream, meant, meant)
        return Admission("serve", stream.name, stream, max(1, meant - DUPLICATES), meant, ("duplicate",))

    def _unknown(self, ask: Ask, name: StreamName | None, owner: str | None) -> Admission:
        if name is None:
            return Admission("unknown", self._next_unnamed(), None)
        stream = self.table.find(self._key(ask, name, owner)[0])
        if stream is not None:
            stream.connections += 1
        return Admission("unknown", name, stream)

    def _ignores_resume(self, ask: Ask, name: StreamName) -> bool:
        return self._misbehaviour.acts(name.repeatable, self._key(ask, name)[1]).no_resume

    def _own_stream(self, ask: Ask, name: StreamName, owner: str | None) -> Stream:
        key, spec = self._key(ask, name, owner)
        stream = self.table.find(key)
        if stream is None:
            stream = self.made(key, name, spec, owner)
            self.table.add(stream)
        return stream

    def made(self, key: str, name: StreamName, spec: ScriptSpec, owner: str | None) -> Stream:
        """A stream as it is before its first connection. Raises ValueError for a script that does not exist."""
        acts = self._misbehaviour.acts(name.repeatable, spec)
        script = Script(spec)
        stream = Stream(key, name, script, acts, owner)
        stream.first_token = script.first_delta
        return stream

    def _key(self, ask: Ask, name: StreamName, owner: str | None = None) -> tuple[str, ScriptSpec]:
        seed = seed_for(self._seed, name.repeatable, ask.question) if ask.seed is None else ask.seed
        spec = spec_for(
            ask.script,
            seed,
            events=ask.events,
            first_token_ms=ask.first_token_ms,
            interval_ms=ask.interval_ms,
        )
        return key_of(self._seed, name, spec, owner), spec

    def _next_unnamed(self) -> StreamName:
        self.unnamed += 1
        return unnamed(self._seed, self.unnamed)
