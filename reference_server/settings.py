"""How the reference server is started: one struct, shared by the command line, the experiment and the tests.

It travels as one JSON argument to `python -m sseproof.reference_server`; durations are text with their unit.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sseproof.rundir.units import Duration, decode_hook, encode_hook

Profile = Literal["robust", "legacy"]
Peers = Literal["loopback", "anywhere"]

CHAT_PATH: Final = "/api/v1/stream/chat"
ADMIN_PATH: Final = "/admin/api/chat/stream"
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

KEY_VARIABLE: Final = "SSEPROOF_SERVER_KEY"
KEY_HEADER: Final = "Sseproof-Key"
"""What has to be in this header of a request for /witness and /metrics, where the variable is set: a run's proxies make
everybody a loopback peer, so only the run that started the server is told what it sent."""

QUESTION_LIMIT_CHARS: Final = 4_000
RATE_BURST: Final = 10
"""A page that asks several things at once, and somebody who tries again, are no flood."""
RETRY_MS: Final = 300
"""Sent with hello: a client that obeys is back well inside a second, and a thousand of them are no stampede."""


class ServerSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything `run_server` needs."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Never empty: that would be every address of the machine."""
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
    allow_hosts: list[str] = []
    """Names besides loopback's and `host` under which browsers may know this server; addresses are never asked for."""
    answers: Literal["script", "upstream"] = "script"
    """Where answers come from: seeded scripts, or the language model that the environment names (llm.py)."""
    llm_silence: Duration = Duration(60_000_000_000)
    """How long the upstream may say nothing, its first byte included, before its answer is given up."""
    llm_total: Duration = Duration(600_000_000_000)
    """How long one answer may take."""
    llm_window: Duration = Duration(15_000_000_000)
    """How long a reader may be away before the upstream is cancelled and its answer forgotten."""
    llm_buffer_bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024
    """What one answer may be ahead of its reader before the upstream is paused, and as much behind it for a resume."""

    # The rules of a product's backend, each on its own (BACKEND_RULES turns them on together).

    login: bool = False
    """Asks for a bearer token; they come from the environment (auth.TOKENS_VARIABLE) or from `tokens_file`, and never
    travel with these settings, which anybody can read in the list of processes."""
    tokens_file: str | None = None
    failed_logins_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Unknown tokens a minute and peer, as many at once as of its requests; beyond it only known users come in from there."""
    rate_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Requests a minute and user, or peer without a login; continuing one's own stream is not counted."""
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = RATE_BURST
    """So many of them at once."""
    question_limit_chars: Annotated[int, Meta(ge=1, le=QUESTION_LIMIT_CHARS)] = QUESTION_LIMIT_CHARS
    streams_per_user: Annotated[int, Meta(ge=1)] | None = None
    """Open at once."""
    request_limit: Duration | None = None
    """How long a request's head and body may take to come, each."""
    total_limit: Duration | None = None
    """How long one connection may last; then it ends with a `retry:`, and the client continues on another."""
    idle_limit: Duration | None = None
    """How long a stream may be without an event, heartbeats left out; then it ends with an error event."""
    replay_window: Duration | None = None
    """How long after its last connection ended a stream can be continued."""
    replays: Annotated[int, Meta(ge=0)] | None = None
    """How often a stream can be continued."""
    drain: Duration | None = None
    """How long open streams may go on after SIGTERM or SIGINT, while new ones are refused."""
    handover: str | None = None
    """A file: written when the server has drained, read and removed by the next one, which so continues the streams."""


BACKEND_RULES: Final[dict[str, Any]] = {
    "login": True,
    "failed_logins_per_minute": 30,
    "rate_per_minute": 60,
    "streams_per_user": 8,
    "request_limit": Duration(10_000_000_000),
    "total_limit": Duration(3_600_000_000_000),
    "idle_limit": Duration(120_000_000_000),
    "replay_window": Duration(600_000_000_000),
    "replays": 20,
    "drain": Duration(10_000_000_000),
    "answers": "upstream",
}
"""What `sseproof serve --backend` sets where no option says otherwise."""


def settings_to_json(settings: ServerSettings) -> str:
    """The one argument of `python -m sseproof.reference_server`."""
    return msgspec.json.encode(settings, enc_hook=encode_hook).decode()


def settings_from_json(text: str) -> ServerSettings:
    """The settings of that argument. Raises msgspec.DecodeError (a ValueError) when it is not such JSON."""
    return msgspec.json.decode(text, type=ServerSettings, dec_hook=decode_hook)
