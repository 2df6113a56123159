"""The order in which a request is looked at before a stream begins, cheapest first.

Rules:
- Draining (503), login (401), role (403), rate (429): by the head alone, so that nobody without a token has his body read.
  Then the body is read and parsed (408, 413, 400), then the visitor's open streams are counted (429).
- A visitor is a user, or without a login the peer's address. Streams belong to their user and to nobody else.
- Who asks for the same stream anew, and continues nothing, has one more open.
- To continue a stream of one's own costs no request of the rate: how often that can be done is the stream's own limit.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from sseproof.reference_server.auth import Tokens, User
from sseproof.reference_server.limits import RateLimiter, Refusal, come_again
from sseproof.reference_server.settings import ServerSettings

OPEN_WAIT_S: Final = 5.0
"""When an open stream will end is not known."""


class Visitor(Struct, frozen=True):
    """Who asks, and what his requests are counted under."""

    counted_as: str
    user: User | None = None

    @property
    def owner(self) -> str | None:
        """Whom his streams belong to; None without a login."""
        return None if self.user is None else self.user.name


class Gate:
    """What is asked of every request for a stream. `tokens` are None where no login is needed."""

    def __init__(self, settings: ServerSettings, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._limiter = (
            None
            if settings.rate_per_minute is None
            else RateLimiter(settings.rate_per_minute, settings.rate_burst)
        )
        self._most_open = settings.streams_per_user
        self._open: dict[str, Counter[str]] = {}
        self.draining_until: float | None = None
        """On the event loop's clock, while the server takes no new streams."""

    def draining(self, now: float) -> Refusal | None:
        """The refusal while the server drains; `now` is the event loop's clock."""
        if self.draining_until is None:
            return None
        wait_s = self.draining_until - now + 1
        return come_again(503, "The server is about to stop and takes no new streams.", wait_s)

    def visitor(
        self, authorization: Sequence[str], peer: str | None, now_s: float, *, admins_only: bool
    ) -> Visitor | Refusal:
        """Who asks, by the Authorization headers at this time in seconds since 1970, or why he is not let in."""
        if self._tokens is None:
            if admins_only:
                return Refusal(403, "This path is for admins, and a server without a login has none.")
            return Visitor(f"peer {peer or '-'}")
        user = self._tokens.user_of(authorization, now_s)
        if isinstance(user, Refusal):
            return user
        if admins_only and not user.admin:
            return Refusal(403, "This path is for admins.")
        return Visitor(f"user {user.name}", user)

    def rate(self, visitor: Visitor, now: float) -> Refusal | None:
        """Takes one request of the visitor's rate."""
        return None if self._limiter is None else self._limiter.take(visitor.counted_as, now)

    def room(self, visitor: Visitor, stream: str | None) -> Refusal | None:
        """Whether the visitor may open this stream (None for a new one) beside those that he has open."""
        held = self._open.get(visitor.counted_as)
        if self._most_open is None or held is None or len(held) < self._most_open or stream in held:
            return None
        what = "stream is" if self._most_open == 1 else "streams are"
        return come_again(
            429, f"Too many open streams: {self._most_open} {what} allowed at once.", OPEN_WAIT_S
        )

    @contextlib.contextmanager
    def holding(self, visitor: Visitor, stream: str) -> Iterator[None]:
        """Counts one connection of this stream as the visitor's, until it ends."""
        held = self._open.setdefault(visitor.counted_as, Counter())
        held[stream] += 1
        try:
            yield
        finally:
            held[stream] -= 1
            if not held[stream]:
                del held[stream]
            if not held:
                self._open.pop(visitor.counted_as, None)
