"""The generator's sections of a scenario: what to talk to, how hard, and with what kind of client.

Pure: structs and defaults only. The same structs are read from TOML (strictly, by `sseproof.scenario`) and from
plan.json (by the workers). Values written as `env:NAME` stay names here; only the transport looks them up.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from sseproof.rundir.rows import PreflightResult, StreamKind
from sseproof.rundir.units import Duration

Profile = Literal["resilient", "browser", "legacy"]
OnCut = Literal["resume", "restart", "give-up"]

SECOND_NS: Final = 1_000_000_000


def _seconds(value: float) -> Duration:
    return Duration(round(value * SECOND_NS))


class Timeouts(Struct, kw_only=True, forbid_unknown_fields=True):
    """Five limits of one stream. Connect, headers, first event and idle are per attempt; total spans all attempts."""

    connect: Duration = _seconds(5)
    headers: Duration = _seconds(30)
    first_event: Duration = _seconds(60)
    idle: Duration = _seconds(45)
    """Any byte counts, comments included (sse.md C27); twice the usual heartbeat of 15 to 20 s."""
    total: Duration = _seconds(300)


class Client(Struct, kw_only=True, forbid_unknown_fields=True):
    """What kind of client the streams have."""

    profile: Profile = "resilient"
    retries: int = 5
    """Failed attempts in a row before the resilient client gives up (the browser never does)."""
    backoff: Duration = _seconds(0.1)
    """First wait of the resilient client; doubles with each failed attempt in a row, with jitter."""
    backoff_max: Duration = _seconds(5)
    on_cut: OnCut = "resume"
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)


class Target(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and how its events are to be understood."""

    url: str
    """With secrets in it replaced by `{env:NAME}`."""
    method: str = "GET"
    headers: dict[str, str] = {}
    """Values may be `env:NAME` (whole) or contain `{env:NAME}`."""
    body: str | None = None
    """JSON unless a Content-Type header says otherwise; may be or contain `env:NAME` as a header value may."""
    kind: StreamKind | None = None
    dialect: str | None = None
    """A name of `dialects.NAMES`; None = taken from the preflight stream."""
    terminal: str | None = None
    """`event:TYPE`, `data:TEXT` or `none`; None = taken from the preflight stream."""
    sequence: str | None = None
    """`id` (the digits at the end of the event id) or `json:FIELD`; `none` turns it off."""
    sent_at: str | None = None
    """`json:FIELD`, the sender's instant: seconds, milliseconds or nanoseconds since 1970, told apart by size."""
    topic: str | None = None
    """A name, `{payload:FIELD}` allowed: subscriptions with the same one get the same numbered events."""
    text: str | None = None
    """`data` or `json:FIELD`: what of a token event the user reads."""
    gzip: bool = False
    """Ask for gzip; otherwise identity."""
    ca: str | None = None
    """PEM file of a private certificate authority."""
    insecure: bool = False
    """Do not check the certificate (said in the report)."""
    connect_to: str | None = None
    """host:port to dial instead of the URL's; Host and SNI stay the URL's."""
    secret_headers: list[str] = []
    """Further header names whose values are secret."""
    allow: list[str] = []
    """Hosts beyond loopback that may be contacted."""
    allow_load: int | None = None
    """Streams at once that a public address may get, beyond the 50 that are allowed without."""


class Stage(Struct, kw_only=True, forbid_unknown_fields=True):
    """A part of a load: of an open loop's schedule by its rate, or of a closed loop by its users."""

    duration: Duration
    rate: float | None = None
    """Open loop: starts a second when it begins."""
    users: int | None = None
    """Closed loop: streams at once when it begins."""
    to: float | None = None
    """Starts a second, or streams at once, when it ends; None = it stays."""

    @property
    def first_rate(self) -> float:
        """The rate when it begins."""
        return self.rate or 0.0

    @property
    def last_rate(self) -> float:
        """The rate at its end."""
        return self.first_rate if self.to is None else self.to

    @property
    def first_users(self) -> int:
        """Streams at once when it begins."""
        return self.users or 0

    @property
    def last_users(self) -> int:
        """Streams at once at its end."""
        return self.first_users if self.to is None else int(self.to)


class Load(Struct, kw_only=True, forbid_unknown_fields=True):
    """How many streams, for how long.

    Closed: each of `users` starts its next stream when the last has ended; stages change how many users there are. Open:
    streams start by a schedule, whatever the target does.
    """

    model: Literal["open", "closed"] | None = None
    """None in a scenario: open when it has a rate, stages with rates, or a replay."""
    users: int = 10
    """Of a closed loop without stages: streams at once."""
    rate: float | None = None
    """Of an open loop: starts a second."""
    arrivals: Literal["constant", "poisson"] = "constant"
    stages: list[Stage] = []
    """Instead of one rate or number of users: parts with their own, one after the other."""
    replay: str | None = None
    """Instead of rates: a file of recorded start times, in seconds since the first, one a line."""
    payloads: str | None = None
    """A .jsonl or .csv file: each stream takes one row for the `{payload:FIELD}` of URL, headers and body."""
    max_open: int = 1_000
    """Of an open loop: a start that would make more streams at once is dropped, and counted as such."""
    warmup: Duration | None = None
    """Streams that start before it has passed are recorded and not judged."""
    duration: Duration | None = None
    """Admission of new streams ends after it."""
    streams: int | None = None
    """A fixed number of streams instead of a duration."""
    drain: Duration | None = None
    """Upper limit of the wait for open answers after admission ended; None = their own total time-out."""
    think: Duration = Duration(0)
    """Pause of a user between two streams."""
    max_requests: int | None = None
    """Upper limit of attempts, reconnections included."""

    @property
    def is_open(self) -> bool:
        """Whether streams start by a schedule."""
        return self.model == "open"

    @property
    def is_staged(self) -> bool:
        """Whether it is a closed loop whose number of users changes by a plan."""
        return bool(self.stages) and not self.is_open

    @property
    def at_once(self) -> int:
        """The most streams that are open at the same time."""
        if self.is_open:
            return self.max_open
        return max((max(stage.first_users, stage.last_users) for stage in self.stages), default=self.users)


class PreflightRequest(Struct):
    """What `python -m sseproof.loadtests.preflight` reads from standard input."""

    target: Target
    timeouts: Timeouts
    payload: dict[str, Any] | None = None
    """The row that this one stream takes."""


def adopted(target: Target, seen: PreflightResult) -> Target:
    """The target with what the scenario left open taken from the preflight stream."""
    return msgspec.structs.replace(
        target,
        kind=target.kind or seen.kind,
        terminal=target.terminal or seen.terminal,
        sequence=target.sequence or seen.sequence,
        text=target.text or seen.text,
        dialect=target.dialect or seen.dialect,
    )
