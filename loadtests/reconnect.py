"""When and how a client connects again (sse.md 1.3), as values: no clock, no socket, no global chance.

Three clients:
- `resilient`: retries what may pass, with backoff, jitter and a limit of failed attempts in a row; resumes, restarts or
  gives up after a cut, as told. A first attempt that fails is retried like any other.
- `browser`: what EventSource does: always the same wait, no limit, final on any answer that is not a stream.
- `legacy`: the naive client; it never connects again.

An end that is no failure (`terminal`, `stopped`) is final everywhere.
"""

from random import Random
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from sseproof.loadtests.settings import Client, OnCut
from sseproof.rundir.rows import AttemptEnd, StreamKind

NS_PER_MS: Final = 1_000_000
BROWSER_RETRY_MS: Final = 3000
"""The standard's "a few seconds" (C21), as npm's eventsource has it."""
RETRY_FLOOR_MS: Final = 10
"""`retry: 0` asks for a tight loop; the resilient client waits at least this and says so (A2)."""
RETRY_AFTER_LIMIT_MS: Final = 60_000
"""A longer Retry-After is obeyed up to here: a test run can't wait for an hour."""
RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of a service that may be well again in a moment."""

_RETRIED: Final[frozenset[AttemptEnd]] = frozenset(
    {
        "refused",
        "connect-timeout",
        "headers-timeout",
        "first-event-timeout",
        "idle-timeout",
        "fin",
        "rst",
        "protocol",
    }
)
"""Ends that another attempt may cure. `status` and `eof` depend on more than the end."""


class BreakState(Struct, kw_only=True):
    """What the client knows when an attempt has ended."""

    failed_in_a_row: int = 0
    """Attempts that brought no new event since the last one that did, the one just ended included."""
    got_events: bool = False
    """The stream has received an event on any attempt."""
    has_last_event_id: bool = False
    """The parser's last event id is not empty (and can be sent)."""
    server_retry_ms: int | None = None
    """The last `retry:` of any attempt (C22)."""
    retry_after_ms: int | None = None
    """The Retry-After of the attempt just ended."""
    status: int | None = None
    terminal_known: bool = False
    """The dialect knows this stream's terminal marker: a clean end without it is a cut."""
    kind: StreamKind = "answer"


class Wait(Struct, frozen=True):
    """Connect again after `delay_ns`."""

    delay_ns: int
    send_last_event_id: bool = False
    """Send Last-Event-ID."""
    restart: bool = False
    """The text begins anew: what was received before is discarded."""
    clamped: bool = False
    """The server asked for a wait out of bounds, and the nearest bound was taken."""


class GiveUp(Struct, frozen=True):
    """Do not connect again."""

    reason: str
    """The end itself when it is final, else `retries`, `no-id`, `give-up` or `legacy`."""


Decision: TypeAlias = Wait | GiveUp


class Policy(Protocol):
    """Decides after each attempt that did not end the stream well."""

    def after(self, end: AttemptEnd, state: BreakState, rng: Random) -> Decision:
        """What to do now; `rng` gives the jitter."""


class Legacy:
    """Never connects again."""

    def after(self, end: AttemptEnd, state: BreakState, rng: Random) -> Decision:
        """Always GiveUp."""
        del end, state, rng
        return GiveUp("legacy")


class Browser:
    """EventSource: the server's reconnection time or 3 s, unchanged, for ever.

    DNS and certificate failures are final (C17 allows it: the target's name was resolved before the run).
    """

    def after(self, end: AttemptEnd, state: BreakState, rng: Random) -> Decision:
        """Wait after a network failure and after a clean end (C16, C18), GiveUp on every other answer (C07 to C09)."""
        del rng
        if end not in _RETRIED and end != "eof":
            return GiveUp(end)
        retry_ms = BROWSER_RETRY_MS if state.server_retry_ms is None else state.server_retry_ms
        return Wait(retry_ms * NS_PER_MS, send_last_event_id=state.has_last_event_id)


class Resilient:
    """Backoff that doubles with each failed attempt in a row and starts over after a new event (C20, C31, C32)."""

    def __init__(self, *, retries: int, backoff_ns: int, backoff_max_ns: int, on_cut: OnCut) -> None:
        self._retries = retries
        self._backoff_ns = backoff_ns
        self._backoff_max_ns = backoff_max_ns
        self._on_cut = on_cut

    def after(self, end: AttemptEnd, state: BreakState, rng: Random) -> Decision:
        """Wait if the end may be cured and attempts are left, else GiveUp."""
        if not _curable(end, state):
            return GiveUp(end)
        if state.got_events and self._on_cut == "give-up":
            return GiveUp("give-up")
        resume = self._on_cut == "resume" and state.has_last_event_id
        if state.got_events and self._on_cut == "resume" and not resume:
            return GiveUp("no-id")
        if state.failed_in_a_row >= self._retries:
            return GiveUp("retries")
        delay_ns, clamped = self._delay(end, state, rng)
        restart = self._on_cut == "restart" and state.got_events
        return Wait(delay_ns, send_last_event_id=resume, restart=restart, clamped=clamped)

    def _delay(self, end: AttemptEnd, state: BreakState, rng: Random) -> tuple[int, bool]:
        """The wait in ns, and whether the server's wish was out of bounds.

        Our own backoff is jittered downwards, [0.5, 1.0]; a time the server named is a minimum (C20), so its jitter
        goes upwards, [1.0, 1.5]. Retry-After is waited for in full and the backoff comes on top of it, so that
        clients turned away together do not come back together.
        """
        clamped = False
        if state.server_retry_ms is None:
            base_ns, low = self._backoff_ns, 0.5
        else:
            clamped = state.server_retry_ms < RETRY_FLOOR_MS
            base_ns, low = max(state.server_retry_ms, RETRY_FLOOR_MS) * NS_PER_MS, 1.0
        limit_ns = max(self._backoff_max_ns, base_ns)
        # Before the first event the attempt that just failed counts itself: its wait is the first one all the same.
        doublings = state.failed_in_a_row if state.got_events else state.failed_in_a_row - 1
        nominal_ns = min(base_ns << min(max(doublings, 0), _MOST_DOUBLINGS), limit_ns)
        delay_ns = round(nominal_ns * (low + 0.5 * rng.random()))
        if end == "status" and state.retry_after_ms is not None:
            clamped = clamped or state.retry_after_ms > RETRY_AFTER_LIMIT_MS
            delay_ns += min(max(state.retry_after_ms, 0), RETRY_AFTER_LIMIT_MS) * NS_PER_MS
        return delay_ns, clamped


_MOST_DOUBLINGS: Final = 40
"""Beyond it every backoff is at its limit; shifting by an unbounded count would build enormous numbers."""


def policy(client: Client) -> Policy:
    """The policy of a client's profile."""
    if client.profile == "legacy":
        return Legacy()
    if client.profile == "browser":
        return Browser()
    return Resilient(
        retries=client.retries,
        backoff_ns=client.backoff.ns,
        backoff_max_ns=client.backoff_max.ns,
        on_cut=client.on_cut,
    )


def _curable(end: AttemptEnd, state: BreakState) -> bool:
    if end == "status":
        return state.status in RETRIED_STATUSES
    if end == "eof":
        return state.terminal_known or state.kind == "subscription"
    return end in _RETRIED
