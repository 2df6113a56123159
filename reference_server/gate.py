"""The order in which a request is looked at before a stream begins, cheapest first.

Rules:
- Draining (503), name and site (421, 403), login (401), role (403), rate (429): by the head alone, so that nobody without a
  token has his body read.
  Then the body is read and parsed (408, 413, 400), then the visitor's open streams are counted (429).
- Name and site are asked where anybody may start an answer that costs something: a login already keeps other pages out.
- A visitor is a user, or without a login the peer's address. Streams belong to their user and to nobody else.
- Who asks for the same stream anew, and continues nothing, has one more open.
- Tokens can be guessed, so unknown ones are counted by the address they come from, an IPv6 one by its /64, which is one
  customer's. Where there were too many nobody comes in but who came in from there within the hour: behind one proxy all
  have one address, and a guesser must not turn its users away. Their tokens are all that can still be guessed then.
- To continue a stream of one's own costs no request of the rate: how often that can be done is the stream's own limit.
"""

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from sseproof.reference_server.auth import GUESSED, Tokens, User
from sseproof.reference_server.limits import VISITORS_KEPT, RateLimiter, Refusal, come_again
from sseproof.reference_server.origins import Names
from sseproof.reference_server.settings import RATE_BURST, ServerSettings

KNOWN_S: Final = 3_600.0
"""How long an address that has had too many unknown tokens is still open to who came in from there."""
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


class _Logins:
    """Unknown tokens by address, and who came in from there; `now` is the event loop's clock."""

    def __init__(self, per_minute: int) -> None:
        self._limiter = RateLimiter(
            per_minute,
            min(RATE_BURST, per_minute),
            what="failed logins from this address",
            reason="too-many-logins",
        )
        self._seen: dict[tuple[str, str], float] = {}
        """When a user last came in from an address; who came in longest ago goes first."""

    def __len__(self) -> int:
        return len(self._seen)

    def heed(self, found: User | Refusal, peer: str | None, now: float) -> Refusal | None:
        """Too many of them; what was found of the token is not told then."""
        place = _network(peer)
        if isinstance(found, User) and self._seen.get((place, found.name), -KNOWN_S) > now - KNOWN_S:
            self._came(place, found, now)
            return None
        if (refusal := self._limiter.look(place, now)) is not None:
            return refusal
        if isinstance(found, User):
            self._came(place, found, now)
        elif found.reason == GUESSED:
            self._limiter.take(place, now)
        return None

    def _came(self, place: str, user: User, now: float) -> None:
        self._seen.pop((place, user.name), None)
        self._seen[place, user.name] = now
        if len(self._seen) > VISITORS_KEPT:
            del self._seen[next(iter(self._seen))]


def _network(peer: str | None) -> str:
    try:
        address = ipaddress.ip_address((peer or "").partition("%")[0])
    except ValueError:
        return "-"
    if (mapped := getattr(address, "ipv4_mapped", None)) is not None:
        return str(mapped)
    return str(address if address.version == 4 else ipaddress.ip_network((address, 64), strict=False))  # IPv4


class Gate:
    """What is asked of every request for a stream. `tokens` are None where no login is needed.

    Raises ValueError for a further name that is none.
    """

    def __init__(self, settings: ServerSettings, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._limiter = (
            None
            if settings.rate_per_minute is None
            else RateLimiter(settings.rate_per_minute, settings.rate_burst)
        )
        self.names = Names(settings.host, settings.allow_hosts, settings.allow_origin)
        failed = settings.failed_logins_per_minute
        self._logins = None if failed is None else _Logins(failed)
        self._guarded = tokens is None and settings.answers == "upstream"
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

    def page(self, hosts: Sequence[str], site: str | None, origin: str | None) -> Refusal | None:
        """The refusal of what a page that is not ours asks, by Host, Sec-Fetch-Site and Origin."""
        if not self._guarded:
            return None
        return self.names.heed(hosts) or self.names.heed_site(hosts, site, origin)

    def visitor(
        self,
        authorization: Sequence[str],
        peer: str | None,
        now_s: float,
        now: float,
        *,
        admins_only: bool,
    ) -> Visitor | Refusal:
        """Who asks, by the Authorization headers, or why he is not let in.

        The time is given in seconds since 1970 (`now_s`) and by the event loop's clock (`now`).
        """
        if self._tokens is None:
            if admins_only:
                return Refusal(403, "This path is for admins, and a server without a login has none.")
            return Visitor(f"peer {peer or '-'}")
        user = self._tokens.user_of(authorization, now_s)
        if (
            self._logins is not None
            and authorization
            and (refusal := self._logins.heed(user, peer, now)) is not None
        ):
            return refusal
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
