"""Topics: endless feeds with one numbered sequence that all their subscribers share (pure).

Rules:
- A topic is a name and a pace; its timeline begins with its first subscriber and never stops. Event n of a topic is the
  same event for everybody: same id `key-n`, same text, due at the same instant.
- A subscriber begins with the next event that is due; the first event of all has number 2, since a topic has no hello.
- A Last-Event-ID of the topic continues behind it, with everything that came since; one of another topic, or of an
  event that is not due yet, is unknown.
- Planted defects act on single subscribers, at places counted from where each of them began. Who ignores resume sends
  what is due next: to the subscriber the events of the outage are lost.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from sseproof.reference_server.misbehave import DUPLICATES, Acts, Misbehaviour, Mode
from sseproof.reference_server.script import Script, seed_for, spec_for
from sseproof.reference_server.streams import (
    SEED_LIMIT,
    STREAMS_KEPT,
    WAIT_LIMIT_MS,
    Admission,
    Stream,
    StreamName,
    StreamTable,
    key_of,
    parse_event_id,
    unnamed,
)

TOPICS_KEPT: Final = 1_000
TOPIC_LIMIT_CHARS: Final = 100
FASTEST_MS: Final = 1.0
"""A topic never stops: without a pace its first subscriber would be sent events as fast as they can be made."""
DEFAULT_INTERVAL_MS: Final = 100.0
FIRST: Final = 2
"""Number of a topic's first event; 1 is hello, which only answers have."""
_NS_PER_S: Final = 1_000_000_000


class FeedAsk(Struct, frozen=True, forbid_unknown_fields=True):
    """What a subscriber asks for."""

    topic: Annotated[str, Meta(min_length=1, max_length=TOPIC_LIMIT_CHARS)]
    interval_ms: Annotated[float, Meta(ge=FASTEST_MS, le=WAIT_LIMIT_MS)] = DEFAULT_INTERVAL_MS
    """Part of the topic's identity, as the seed is: who asks for another pace gets another topic."""
    seed: Annotated[int, Meta(ge=0, le=SEED_LIMIT)] | None = None
    sent_at: bool = False


class Topic:
    """One feed of this server."""

    __slots__ = ("key", "script", "started")

    def __init__(self, key: str, script: Script, started: float) -> None:
        self.key = key
        self.script = script
        self.started = started
        """When event FIRST is due, on the event loop's clock."""

    def next_due(self, now: float) -> int:
        """The number of the next event that is due at `now` or later."""
        elapsed_ns = max(0.0, (now - self.started) * _NS_PER_S)
        # Jitter moves an event by less than an interval.
        number = max(FIRST, FIRST - 1 + int(elapsed_ns / (self.script.spec.interval_ms * 1e6)))
        while self.script.step(number).due_ns < elapsed_ns:
            number += 1
        return number


class FeedAdmitter:
    """Decides what each subscriber gets; `now` is the event loop's clock, in seconds."""

    def __init__(self, seed: int, misbehaviour: Misbehaviour, limit: int = STREAMS_KEPT) -> None:
        self._seed = seed
        self._misbehaviour = misbehaviour
        self.topics: dict[str, Topic] = {}
        self._subscribers = StreamTable(limit)
        self.unnamed = 0
        """Subscribers without a name so far."""

    def continued(
        self, _name: StreamName | None, _last_event_id: str | None, _now: float, _owner: str | None
    ) -> Stream | None:
        """None: a topic belongs to nobody, so that to continue it is a request like another."""
        return None

    def admit(
        self,
        ask: FeedAsk,
        name: StreamName | None,
        last_event_id: str | None,
        now: float,
        owner: str | None = None,
    ) -> Admission:
        """What this request of this user gets."""
        topic = self._topic(ask, now)
        due = topic.next_due(now)
        if name is None:
            self.unnamed += 1
            name = unnamed(self._seed, self.unnamed)
        stream = self._subscribers.find(_place(topic, name, owner))
        if not last_event_id:
            stream = stream or self._subscriber(topic, name, due, owner)
            stream.connections += 1
            return Admission("serve", name, stream, due, due)
        place = parse_event_id(last_event_id)
        if place is None or place[0] != topic.key or not FIRST - 1 <= place[1] < due:
            if stream is not None:
                stream.connections += 1
            return Admission("unknown", name, stream)
        meant = place[1] + 1
        stream = stream or self._subscriber(topic, name, meant, owner)
        stream.connections += 1
        modes: tuple[Mode, ...] = ()
        first = meant
        if stream.acts.no_resume:
            first, modes = due, ("no-resume",)
        elif stream.acts.duplicate:
            first, modes = max(FIRST, meant - DUPLICATES), ("duplicate",)
        return Admission("serve", name, stream, first, meant, modes)

    def _topic(self, ask: FeedAsk, now: float) -> Topic:
        seed = seed_for(self._seed, "topic", ask.topic) if ask.seed is None else ask.seed
        spec = spec_for("endless", seed, first_token_ms=0, interval_ms=ask.interval_ms)
        # As the name of a stream, so that two topics with one seed have ids of their own.
        key = key_of(self._seed, StreamName(f"topic {ask.topic}", "-"), spec)
        topic = self.topics.pop(key, None) or Topic(key, Script(spec), now)
        self.topics[key] = topic
        if len(self.topics) > TOPICS_KEPT:
            del self.topics[next(iter(self.topics))]
        return topic

    def _subscriber(self, topic: Topic, name: StreamName, first: int, owner: str | None) -> Stream:
        acts = _moved(self._misbehaviour.acts(name.repeatable, topic.script.spec), first - FIRST)
        stream = Stream(topic.key, name, topic.script, acts, owner)
        stream.started = topic.started
        stream.first_token = first
        stream.greets = False
        self._subscribers.add(stream, _place(topic, name, owner))
        return stream


def _place(topic: Topic, name: StreamName, owner: str | None) -> str:
    return f"{topic.key} {name.truth_id} {owner or ''}"


def _moved(acts: Acts, by: int) -> Acts:
    """The places of an answer's defects, for somebody who begins so many events later."""
    places = ("loss", "utf8", "cut_after", "truncate_after", "stall_after")
    moved = {name: place + by for name in places if (place := getattr(acts, name)) is not None}
    return msgspec.structs.replace(acts, **moved)
