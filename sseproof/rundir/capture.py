"""What `sseproof check` saw of one endpoint: a file that can be judged again, without the endpoint.

Rules (checks.md 5.3, 5.4):
- Bytes are those that came off the connection, after TLS and before HTTP: framing, compression and events are read from
  them by the judge, so that a better judge finds more in an old capture.
- `Read` says how they were cut: size, arrival and the moment we read them. Nothing about them is rounded or joined.
- Secrets of the request are masked here already, and where the target sent one back its bytes are overwritten one for
  one, so that offsets stay what they were; `echoed` says where.
- Bounded: the probe stops at its limits and says so in `end`.
"""

from typing import Final, Literal

from msgspec import Struct

from sseproof.rundir.rows import SCHEMA_PREFIX, SCHEMA_VERSION

SCHEMA: Final = "check-capture"
NOT_FOLLOWED: Final = "was not followed, for want of consent"
"""The detail of a redirect that ends so may lead to something healthy."""

ProbeName = Literal[
    "stream", "gzip", "any-accept", "alpn", "resume", "bogus-id", "options", "head", "idle", "parallel",
    "slow-reader", "bad-request", "origin", "path", "cut", "method",
]  # fmt: skip
"""P0 is `stream`, P1 `gzip`, P4 `resume` and `cut`, P5 `bogus-id`, P6 `options` and `head`, P7 `origin` and `path`; `method` asks by another one."""

ProbeEnd = Literal[
    "complete", "eof", "fin", "rst", "enough", "too-big", "late", "quiet", "protocol", "refused", "dns", "tls",
    "connect-timeout", "proxy", "send", "handshake", "rig",
]  # fmt: skip
"""How a probe's connection ended.

`complete` by its framing, `eof` by closing where that is the framing, `fin` by closing inside the framing, `enough` and
`too-big` by us after a good look or at a limit of ours, `late` without headers in time, `quiet` without any byte for the
time that was asked for, `protocol` because it was no HTTP/1.1, `proxy` because a proxy refused, `send` because the request
could not be sent, `handshake` after a look at TLS alone, `rig` because of this machine.
"""


class Read(Struct, array_like=True, frozen=True, gc=False):
    """One read of the connection."""

    size: int
    """Bytes; after TLS, so it can be 0."""
    at_ns: int
    """When the last of them arrived (kernel stamp), else when we read them."""
    lag_ns: int
    """From the arrival to our reading; 0 without a stamp."""
    stamped: bool


class Certificate(Struct, kw_only=True, frozen=True):
    """Of the server's certificate what decides whom we speak to."""

    subject: str = ""
    issuer: str = ""
    not_after: str = ""


class Secured(Struct, kw_only=True, frozen=True):
    """The TLS connection."""

    version: str = ""
    alpn: str = ""
    """What the server chose of what we offered; empty when it chose nothing."""
    offered: list[str] = []
    certificate: Certificate | None = None
    verified: bool = True
    """False with --insecure."""
    private_ca: bool = False
    """Verified against the file of --cacert alone."""


class Probed(Struct, kw_only=True):
    """One request on one connection, and everything that came back."""

    probe: ProbeName
    vantage: str = "direct"
    """Which way it went: direct, a proxy, or the origin."""
    number: int = 1
    """Counts the probes of one name and vantage."""
    url: str
    method: str = "GET"
    request: str = ""
    """The head as sent, secrets masked."""
    body_bytes: int = 0
    address: str = ""
    began_ns: int
    connected_ns: int | None = None
    secured_ns: int | None = None
    sent_ns: int | None = None
    ended_ns: int
    end: ProbeEnd
    detail: str = ""
    tls: Secured | None = None
    redirected: bool = False
    """Its answer led to the probe after it."""
    last_event_id: str | None = None
    """What was sent as Last-Event-ID."""
    reads: list[Read] = []
    received: bytes = b""
    echoed: list[int] = []
    """Offsets in `received` where a secret of ours stood."""


class Asked(Struct, kw_only=True):
    """What the user said about the endpoint: the judge needs it, too."""

    method: str = "GET"
    dialect: str | None = None
    terminal: str | None = None
    responses: int = 1
    """How many JSON-RPC responses the body asked for."""
    idle_s: float | None = None
    look_s: float
    sensitive_query: list[str] = []
    """Names of query parameters that look like secrets; their values are masked."""
    credentials: bool = False
    """The request carried a credential."""


class Capture(Struct, kw_only=True):
    """One examination: every probe in the order in which it was made."""

    schema: str = SCHEMA_PREFIX + SCHEMA
    version: int = SCHEMA_VERSION
    suite: str
    """The version of sseproof that made it."""
    url: str
    asked: Asked
    began_ns: int
    ended_ns: int
    requests: int
    """How many requests were sent, redirects and bare handshakes included."""
    connections: int
    skipped: dict[str, str] = {}
    """Probes that were not made, and why."""
    probes: list[Probed]
