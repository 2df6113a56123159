"""How the reference server is started: one struct, shared by the command line, the experiment and the tests.

It travels as one JSON argument to `python -m sseproof.reference_server`; durations are text with their unit.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sseproof.rundir.units import Duration, decode_hook, encode_hook

Profile = Literal["robust", "legacy"]
Peers = Literal["loopback", "anywhere"]

CHAT_PATH: Final = "/api/v1/stream/chat"
FEED_PATH: Final = "/api/v1/stream/feed"
HEALTH_PATH: Final = "/api/v1/stream/health"
WITNESS_PATH: Final = "/witness"
METRICS_PATH: Final = "/metrics"
SERVER_HEADER: Final = "Sseproof-Server"
"""On every response: how a client knows its second witness."""
TRUTH_HEADER: Final = "Sseproof-Stream"
"""On a request: run/variant/stream number, the logical stream this connection belongs to."""
STREAM_PARAMETER: Final = "stream"
"""The same as a parameter of the URL, for who can't set headers: a page's EventSource."""
DROPPED_HEADER: Final = "Sseproof-Witness-Dropped"
"""On the answer of /witness: rows of that run that were dropped because too many were kept."""

RETRY_MS: Final = 300
"""Sent with hello: a client that obeys is back well inside a second, and a thousand of them are no stampede."""


class ServerSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything `run_server` needs."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765
    """0 takes a free one; the ready line says which."""
    profile: Profile = "robust"
    misbehave: str = ""
    """Modes of misbehave.py, joined by commas; empty for none."""
    misbehave_share: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """Share of the streams that are hit."""
    seed: int = 0
    heartbeat: Duration = Duration(20_000_000_000)
    """Silence after which the robust profile sends `ping`; below every usual proxy's idle time-out of 30 s and more."""
    witness_dir: str | None = None
    """A run directory whose witness.jsonl gets a row as each connection ends."""
    write_limit_bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024
    """What one connection may have waiting in this process, and as much in the kernel: thousands of slow readers still
    fit into memory."""
    slow_reader: Duration = Duration(10_000_000_000)
    """How long a connection may stay above that limit before it is closed."""
    metrics_from: Peers = "loopback"
    """Who may read /metrics."""
    retry_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = RETRY_MS
    """What the robust profile says in `retry:`; None says nothing, and leaves clients to their own defaults."""
    allow_origin: str = ""
    """The one origin whose pages may read the streams from elsewhere (CORS), such as http://127.0.0.1:8080; empty for none."""


def settings_to_json(settings: ServerSettings) -> str:
    """The one argument of `python -m sseproof.reference_server`."""
    return msgspec.json.encode(settings, enc_hook=encode_hook).decode()


def settings_from_json(text: str) -> ServerSettings:
    """The settings of that argument. Raises msgspec.DecodeError (a ValueError) when it is not such JSON."""
    return msgspec.json.decode(text, type=ServerSettings, dec_hook=decode_hook)
