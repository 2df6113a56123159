"""The reference server's figures for Prometheus: every row of "monitoring, backend" (reference: claims.md "Systems").

Rules:
- Names, units and types are those of Prometheus: base units last in the name, counters in `_total`, no rates: a rate is a
  query. Buckets of the time to the first token include 0.5 and 1 s.
- No label comes from a request: endpoints are the server's own routes, ends and reasons its own words.
- Nothing is done for an event. A connection is settled when it ends, and an open one when somebody scrapes: its figures
  are those that the witness folds anyway, so what is scraped and what /witness tells are the same.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

from sseproof.reference_server.witness import Connection
from sseproof.rundir.clock import NS_PER_S
from sseproof.rundir.machine import version_of
from sseproof.rundir.rows import Instant, WitnessRow

TTFT_BUCKETS_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)
DURATION_BUCKETS_S: Final = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600)
SIZE_BUCKETS_BYTES: Final = tuple(4**power for power in range(4, 14))
"""256 bytes, four times as many each, to 64 MiB."""
TOKENS_PER_SECOND_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
OTHER: Final = "other"
"""The endpoint of what was asked for and does not exist."""
WELL_ENDED: Final = frozenset(
    {"done", "finished", "client-gone", "total-limit", "drain", "shutdown", "taken-over"}
)
"""Ends of connections that are no error of the service: a client may leave, and a server may be stopped."""
_REASONS: Final = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "timeout",
    413: "too-large",
    429: "rate-limited",
    500: "internal",
    503: "unavailable",
}


class _Sums:
    """What connections sent, folded."""

    __slots__ = ("events", "heartbeats", "size_bytes", "timeouts", "tokens")

    def __init__(self) -> None:
        self.size_bytes = 0
        self.events = 0
        self.tokens = 0
        self.heartbeats = 0
        self.timeouts = 0


class _Place:
    """The figures of one endpoint."""

    def __init__(self, endpoint: str, metrics: "ServerMetrics") -> None:
        self.endpoint = endpoint
        self.active = metrics.active.labels(endpoint)
        self.ttft = metrics.ttft.labels(endpoint)
        self.duration = metrics.duration.labels(endpoint)
        self.size = metrics.size.labels(endpoint)
        self.speed = metrics.speed.labels(endpoint)
        self._counters = [(getattr(metrics, name).labels(endpoint), name) for name in _Sums.__slots__]
        self.more = _Sums()
        """Not yet in the counters."""

    def add(self) -> None:
        """Brings the counters up to date."""
        for counter, name in self._counters:
            counter.inc(getattr(self.more, name))
        self.more = _Sums()


class _Settled(_Sums):
    """What of one open connection is counted already."""

    __slots__ = ("place", "ttft")

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place
        self.ttft = False


class ServerMetrics:
    """The figures of one server; on the event loop's thread."""

    def __init__(self, profile: str, endpoints: Iterable[str]) -> None:
        """`endpoints` are those that stream: their figures are there, as 0, before the first request."""
        self._open: dict[Connection, _Settled] = {}
        self._registry = registry = CollectorRegistry()
        place = ["endpoint"]
        Info("sse_server", "The reference server.", registry=registry).info(
            {"profile": profile, "version": version_of("sseproof")}
        )
        self.active = Gauge(
            "sse_server_active_connections",
            "Connections on which a stream is being sent.",
            place,
            registry=registry,
        )
        self._requests = Counter(
            "sse_server_requests",
            "Requests by the status they were answered with.",
            ["endpoint", "status"],
            registry=registry,
        )
        self._errors = Counter(
            "sse_server_errors",
            "Requests that were refused, and streams that the server ended before they were done.",
            ["endpoint", "reason"],
            registry=registry,
        )
        self._ended = Counter(
            "sse_server_connections_ended",
            "Connections of streams by how they ended.",
            ["endpoint", "end"],
            registry=registry,
        )
        self._reconnections = Counter(
            "sse_server_reconnections",
            "Connections that wanted to go on with a stream, by what became of it.",
            ["endpoint", "result"],
            registry=registry,
        )
        self.heartbeats = Counter("sse_server_heartbeats", "Heartbeats sent.", place, registry=registry)
        self.timeouts = Counter(
            "sse_server_heartbeat_timeouts",
            "Heartbeats that were due and could not be sent, because the reader took nothing or the stream was stalled.",
            place,
            registry=registry,
        )
        self.size_bytes = Counter(
            "sse_server_sent_bytes",
            "Bytes of event streams, without HTTP's framing.",
            place,
            registry=registry,
        )
        self.events = Counter(
            "sse_server_events", "Numbered events sent, repeated ones included.", place, registry=registry
        )
        self.tokens = Counter(
            "sse_server_tokens", "Those among them that carry text.", place, registry=registry
        )
        self.ttft = Histogram(
            "sse_server_time_to_first_token_seconds",
            "From a request to the first piece of its answer; connections that go on with a stream left out.",
            place,
            buckets=TTFT_BUCKETS_S,
            registry=registry,
        )
        self.duration = Histogram(
            "sse_server_stream_duration_seconds",
            "From a request to the end of its connection.",
            place,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.size = Histogram(
            "sse_server_stream_size_bytes",
            "Bytes of the event stream of a connection that ended.",
            place,
            buckets=SIZE_BUCKETS_BYTES,
            registry=registry,
        )
        self.speed = Histogram(
            "sse_server_stream_tokens_per_second",
            "Of a connection that ended, from its first token to its last event.",
            place,
            buckets=TOKENS_PER_SECOND_BUCKETS,
            registry=registry,
        )
        ProcessCollector(registry=registry)
        self._places: dict[str, _Place] = {}
        for endpoint in endpoints:
            self._place(endpoint)

    def responded(self, endpoint: str, status: int, reason: str = "") -> None:
        """A response begins; a refusal may have a reason of its own."""
        self._requests.labels(endpoint, str(status)).inc()
        if status >= 400:
            self._errors.labels(endpoint, reason or _REASONS.get(status, f"http-{status}")).inc()

    def opened(self, connection: Connection, endpoint: str) -> None:
        """A connection of a stream, before anything is sent."""
        place = self._place(endpoint)
        self._open[connection] = _Settled(place)
        place.active.inc()
        if (result := _reconnection(connection.row)) is not None:
            self._reconnections.labels(endpoint, result).inc()

    def closed(self, connection: Connection) -> None:
        """It ended, and its row says how; later calls change nothing."""
        settled = self._open.pop(connection, None)
        if settled is None:
            return
        row, place = connection.row, settled.place
        _settle(connection, row, settled)
        place.active.dec()
        self._ended.labels(place.endpoint, row.end).inc()
        if row.end not in WELL_ENDED:
            self._errors.labels(place.endpoint, _reason(row)).inc()
        if row.end in {"finished", "unknown-id"}:
            return  # nothing was streamed
        place.duration.observe(_between_s(row.accepted, row.ended) or 0.0)
        place.size.observe(row.written_bytes)
        streamed_s = _between_s(row.first_token_write, row.last_write)
        if streamed_s:
            place.speed.observe(settled.tokens / streamed_s)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything as of now, and its content type: OpenMetrics for who accepts it, else Prometheus' older text."""
        for connection, settled in self._open.items():
            _settle(connection, connection.row, settled)
        for place in self._places.values():
            place.add()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _place(self, endpoint: str) -> _Place:
        place = self._places.get(endpoint)
        if place is None:
            place = self._places[endpoint] = _Place(endpoint, self)
        return place


def _settle(connection: Connection, row: WitnessRow, settled: _Settled) -> None:
    """Counts what happened since the last time; cheap for a connection on which nothing did."""
    more = settled.place.more
    if connection.heartbeat_timeouts != settled.timeouts:
        more.timeouts += connection.heartbeat_timeouts - settled.timeouts
        settled.timeouts = connection.heartbeat_timeouts
    if row.written_bytes == settled.size_bytes:
        return
    more.size_bytes += row.written_bytes - settled.size_bytes
    settled.size_bytes = row.written_bytes
    more.heartbeats += connection.heartbeats - settled.heartbeats
    settled.heartbeats = connection.heartbeats
    events = _events(row)
    more.events += events - settled.events
    settled.events = events
    more.tokens += connection.tokens - settled.tokens
    settled.tokens = connection.tokens
    if not settled.ttft and row.first_token_write is not None:
        settled.ttft = True
        if row.last_event_id is None:
            settled.place.ttft.observe(_between_s(row.accepted, row.first_token_write) or 0.0)


def _reconnection(row: WitnessRow) -> str | None:
    """What became of a connection that wanted to go on; None for one that begins a stream."""
    if row.last_event_id is None and row.connection <= 1:
        return None
    if row.status == 204:
        return "finished"
    if row.meant_first is None:
        return "unknown"
    resumed = row.last_event_id is not None and row.meant_first > 1 and "no-resume" not in row.misbehaved
    return "resumed" if resumed else "restarted"


def _events(row: WitnessRow) -> int:
    count = 0
    for first, last in row.written:
        count += last - first + 1
    return count


def _reason(row: WitnessRow) -> str:
    """Why a connection is an error: how it ended, or which error an answer came to."""
    return row.live.said if row.end == "error" and row.live is not None else row.end


def _between_s(start: Instant | None, end: Instant | None) -> float | None:
    return None if start is None or end is None else max(end.ns - start.ns, 0) / NS_PER_S
