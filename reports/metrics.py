"""What can be claimed: every metric with the units it counts, the kind of its value, and its meaning in a line.

`sseproof.reports.claims` reads claims about them, `sseproof.reports.checks` counts them; help, documents and the nearest
name of a mistyped one come from this table.
"""

from typing import Final, Literal

from msgspec import Struct

from sseproof.rundir.rows import ATTEMPT_ENDS, OUTCOMES, SUCCESSES

Unit = Literal["stream", "break", "gap", "event", "attempt"]
ValueKind = Literal["share", "bad-share", "duration", "rate", "portion", "number", "count", "peak"]
"""share, bad-share: of the units, at least and at most; count: of violations, none; peak: the highest rate of all; the others
are measured of each unit: a duration, a rate a second, a portion of its time, a number."""


class Metric(Struct, frozen=True, kw_only=True):
    """One measure of the units it counts."""

    name: str
    unit: Unit
    value: ValueKind
    meaning: str
    default_quantile: float | None = None
    """What help and errors propose; a claim about a value of each unit always names its own."""
    of_stream: bool = False
    """A stream keeps or breaks a limit of it, so goodput can ask for one; of gaps and ages it is the longest."""

    @property
    def example(self) -> str:
        """A claim about this metric."""
        return _EXAMPLES[self.name]


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="success",
            unit="stream",
            value="share",
            meaning="ended complete (a subscription: held), with nothing known to be lost, doubled, out of order or ill-formed",
        ),
        Metric(
            name="complete",
            unit="stream",
            value="share",
            meaning="came to its terminal marker, whatever else happened; open subscriptions left out",
        ),
        Metric(
            name="goodput",
            unit="stream",
            value="share",
            meaning="succeeded and kept every limit that is named; of gaps and ages the longest counts",
        ),
        Metric(
            name="errors",
            unit="stream",
            value="bad-share",
            meaning="ended with this outcome or this end of its last attempt; without `of`: did not succeed",
        ),
        Metric(
            name="ttft",
            unit="stream",
            value="duration",
            default_quantile=0.95,
            of_stream=True,
            meaning="time to first token, from the planned start (open load) or from sending the request (closed load)",
        ),
        Metric(
            name="ttft-plan",
            unit="stream",
            value="duration",
            default_quantile=0.95,
            of_stream=True,
            meaning="time to first token from the planned start, which only an open load has",
        ),
        Metric(
            name="ttft-send",
            unit="stream",
            value="duration",
            default_quantile=0.95,
            of_stream=True,
            meaning="time to first token from sending the request",
        ),
        Metric(
            name="token-rate",
            unit="stream",
            value="rate",
            default_quantile=0.05,
            of_stream=True,
            meaning="tokens a second after the first one, pauses included; a stream that did not end well had none",
        ),
        Metric(
            name="gap",
            unit="gap",
            value="duration",
            default_quantile=0.99,
            of_stream=True,
            meaning="silence between two events of one connection, from its first token on",
        ),
        Metric(
            name="stale",
            unit="stream",
            value="portion",
            default_quantile=0.95,
            of_stream=True,
            meaning="share of a stream's time, from first token to end, in which its newest event was older than 500 ms",
        ),
        Metric(
            name="age",
            unit="event",
            value="duration",
            default_quantile=0.99,
            of_stream=True,
            meaning="from the send time inside an event (target.sent_at) to its arrival; lost events never arrived",
        ),
        Metric(
            name="fanout",
            unit="event",
            value="duration",
            default_quantile=0.99,
            meaning="how far a subscriber of a topic was behind the first one of the same worker",
        ),
        Metric(
            name="heartbeat",
            unit="stream",
            value="duration",
            default_quantile=0.95,
            of_stream=True,
            meaning="longest silence of a connection that a heartbeat ended, or that had none; comments are heartbeats",
        ),
        Metric(
            name="e2e",
            unit="stream",
            value="duration",
            default_quantile=0.95,
            of_stream=True,
            meaning="start to last event; a stream that did not end well never arrived",
        ),
        Metric(
            name="reconnect",
            unit="break",
            value="duration",
            default_quantile=0.95,
            meaning="from a break (or its healing) to the first event not seen before",
        ),
        Metric(
            name="connected",
            unit="break",
            value="share",
            meaning="breaks after which an answer had begun again within the time, from the break (or its healing)",
        ),
        Metric(
            name="recovery",
            unit="break",
            value="share",
            meaning="breaks after which the stream still succeeded, without a person",
        ),
        Metric(
            name="attempts",
            unit="stream",
            value="number",
            default_quantile=0.99,
            of_stream=True,
            meaning="connections that one stream took, the first included: retry amplification",
        ),
        Metric(
            name="retries",
            unit="break",
            value="number",
            default_quantile=0.99,
            meaning="connections that were tried after one break",
        ),
        Metric(
            name="reconnect-rate",
            unit="attempt",
            value="peak",
            meaning="reconnections of all streams that began within one second, in the worst second",
        ),
        Metric(
            name="lost",
            unit="stream",
            value="count",
            meaning="streams in which an event was meant, overtaken and never received",
        ),
        Metric(
            name="doubled",
            unit="stream",
            value="count",
            meaning="streams that received an event twice",
        ),
        Metric(
            name="utf8",
            unit="stream",
            value="share",
            meaning="text byte for byte as it was meant; without a truth: no ill-formed bytes and no U+FFFD",
        ),
    )
}
"""Every metric by its name."""

_EXAMPLES: Final = {
    "success": "success >= 98%",
    "complete": "complete >= 99%",
    "goodput": "goodput >= 95% with ttft <= 1s, gap <= 500ms",
    "errors": "errors <= 1% of throttled",
    "ttft": "ttft p95 <= 1s",
    "ttft-plan": "ttft-plan p95 <= 1s",
    "ttft-send": "ttft-send p95 <= 1s",
    "token-rate": "token-rate p5 >= 20/s",
    "gap": "gap p99 <= 250ms in group clean",
    "stale": "stale p95 <= 5%",
    "age": "age p99 <= 500ms",
    "fanout": "fanout p99 <= 200ms",
    "heartbeat": "heartbeat p95 <= 20s",
    "e2e": "e2e p95 <= 30s",
    "reconnect": "reconnect p95 < 1s",
    "connected": "connected >= 99% within 5s after refused",
    "recovery": "recovery = 100% after cut",
    "attempts": "attempts p99 <= 3",
    "retries": "retries p99 <= 2",
    "reconnect-rate": "reconnect-rate <= 50/s",
    "lost": "lost = 0",
    "doubled": "doubled = 0",
    "utf8": "utf8 = 100%",
}
ALIASES: Final = {
    "utf-8": "utf8",
    "duplicated": "doubled",
    "duplicates": "doubled",
    "reconnection": "reconnect",
    "completed": "complete",
    "error-rate": "errors",
    "tokens-per-second": "token-rate",
    "staleness": "stale",
    "fan-out": "fanout",
    "heartbeats": "heartbeat",
    "heartbeat-interval": "heartbeat",
    "reconnected": "connected",
    "amplification": "attempts",
    "retry-amplification": "attempts",
    "reconnects": "reconnect-rate",
}

ERROR_CLASSES: Final = tuple(
    dict.fromkeys(
        name
        for name in (*OUTCOMES, *ATTEMPT_ENDS)
        if name not in SUCCESSES | {"unfinished", "dropped", "terminal", "no-content", "stopped"}
    )
)
"""Outcomes and ends of attempts that `errors … of CLASS` counts: what we ended ourselves is open, and no class."""
