"""T01 to T10: when things came (checks.md 5.3 "Timing"); instants are the kernel's, so our own lateness is not in them."""

from typing import Final

from sseproof.reports.endpoint.case import NO_STREAM, Case, Check
from sseproof.reports.endpoint.model import Evidence, Outcome, failed, not_applicable, passed, unknown, warned
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.statistics import quantile_rank
from sseproof.reports.words import count_of, duration_text

MS: Final = 1_000_000
S: Final = 1_000_000_000
HEADERS_GOOD_NS: Final = S
HEADERS_BAD_NS: Final = 5 * S
COUPLED_NS: Final = 5 * MS
OWN_LAG_LIMIT_NS: Final = 5 * MS
STALL_FACTOR: Final = 10
STALL_NS: Final = S
LEAST_BURSTS: Final = 10
HEARTBEAT_GOOD_NS: Final = 20 * S
HEARTBEAT_BAD_NS: Final = 50 * S
LIFE_LIMITS_S: Final = (15, 30, 60, 300, 900)
LIFE_SLACK_S: Final = 0.5
TRAFFIC_NS: Final = 5 * S
QUIET_NS: Final = int(2.5 * S)
"""A break behind as much silence looks like a time-out; no hop's is shorter by far."""
HOP_LIMITS_S: Final = (
    (15, "Envoy's limit for a whole answer"),
    (30, "gunicorn's, Heroku's first byte, Google's load balancer or a CDN"),
    (55, "Heroku's router"),
    (60, "nginx, an AWS load balancer or Azure Front Door"),
    (100, "Cloudflare"),
    (120, "Cloudflare"),
    (240, "an Azure load balancer"),
    (300, "Envoy's idle limit or API Gateway"),
    (900, "API Gateway's longest answer"),
)
"""checks.md 5.2; matched within HOP_SLACK_S."""
HOP_SLACK_S: Final = 2.0


def hop_limit(lasted_ns: float) -> str | None:
    """Whose limit a time looks like; None for no round number."""
    for limit_s, name in HOP_LIMITS_S:
        if abs(lasted_ns / S - limit_s) <= HOP_SLACK_S:
            return f"{limit_s} s is a limit of {name}"
    return None


def percentile(values: list[int], share: float) -> int:
    """The least value that this share of the (sorted) values does not exceed."""
    return values[quantile_rank(len(values), share) - 1]


def _header_time(case: Case) -> Outcome:
    seen = case.main
    if seen.head_ns is None:
        return not_applicable("there was no answer")
    took = seen.head_ns - seen.sent_ns
    text = f"Headers after {duration_text(took)}."
    if took <= HEADERS_GOOD_NS:
        return passed(text)
    if took <= HEADERS_BAD_NS:
        return warned(text, "Flush the headers at once.")
    return failed(f"{text[:-1]}; some hops give up after 30 s.", "Flush the headers at once.")


def _coupled(case: Case) -> Outcome:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    if seen.head_ns is None or seen.first_byte_ns is None:
        return not_applicable("no byte of the body came")
    took = seen.head_ns - seen.sent_ns
    apart = seen.first_byte_ns - seen.head_ns
    if took <= HEADERS_GOOD_NS:
        return passed(f"Headers after {duration_text(took)}: not held back.")
    if apart <= COUPLED_NS:
        fix = "Send a comment (`:ok`) first, so that the headers leave at once; take out middleware that waits for the body."
        if len(seen.bursts) == 1:
            fix = "The whole answer came with them (B01): " + case.chain.fix("buffering")
        return failed(
            f"The headers were withheld until the first data: both after {duration_text(took)}.", fix
        )
    return passed(f"Headers after {duration_text(took)}, the first byte {duration_text(apart)} later.")


def _firsts(case: Case) -> Outcome:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    if seen.first_byte_ns is None:
        lasted = duration_text(seen.probed.ended_ns - seen.sent_ns)
        return warned(
            f"No byte of the body came in {lasted}.",
            "Send a comment at once, so that hops see a live stream.",
        )
    parts = [f"first byte {duration_text(seen.first_byte_ns - seen.sent_ns)}"]
    if seen.event_ns:
        parts.append(f"first event {duration_text(seen.event_ns[0] - seen.sent_ns)}")
    token = case.spoken.review.first_token
    if token is not None:
        parts.append(f"first token {duration_text(seen.event_ns[token] - seen.sent_ns)}")
    return passed(f"After the request: {', '.join(parts)}.")


def _close_kind(case: Case) -> Outcome:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    end = seen.probed.end
    lasted = seen.probed.ended_ns - seen.sent_ns
    if end in {"complete", "eof"}:
        return passed(f"Ended cleanly after {duration_text(lasted)}.")
    if end in {"enough", "too-big"}:
        return passed(f"Still open when the look was over, after {duration_text(lasted)}.")
    silent = _silences(seen)[-1]
    hop = hop_limit(silent) or hop_limit(lasted)
    guess = f" {hop}." if hop else ""
    if end in {"fin", "rst"}:
        how = "reset" if end == "rst" else "closed inside the framing"
        text = (
            f"The connection was {how} after {duration_text(lasted)}, {count_of(len(seen.messages), 'event')}"
        )
        if silent >= QUIET_NS:
            return failed(
                f"{text}, and behind {duration_text(silent)} of silence, as a time-out does it.{guess}",
                case.chain.fix("timeout"),
            )
        if hop:
            return failed(f"{text}.{guess}", case.chain.fix("timeout"))
        return failed(
            f"{text}.",
            "Look for a worker time-out, a killed process or a hop's limit; end with the last chunk.",
        )
    at = seen.reader.broken_at
    return failed(
        f"The framing broke: {seen.probed.detail}.",
        "Look for a process that writes to the connection beside the HTTP server.",
        Evidence(text="in the answer's bytes, head included", offset=at),
    )


def _silences(seen: Seen) -> list[int]:
    """How long no byte came: before, between and behind the reads of the body."""
    body = [burst.began_ns for burst in seen.bursts]
    ends = [burst.at_ns for burst in seen.bursts]
    starts = [seen.head_ns or seen.sent_ns, *ends]
    return [after - before for before, after in zip(starts, [*body, seen.probed.ended_ns], strict=True)]


def _idle(case: Case) -> Seen | Outcome:
    """The watched stream, or why there is nothing to say."""
    seen = case.one("idle")
    if seen is None:
        return not_applicable("a stream is watched with --idle SECONDS" if case.main.readable else NO_STREAM)
    if not seen.opened:
        return unknown("The watched stream did not open.", "Try again.")
    if seen.ended_by_server and case.spoken_in(seen).review.terminal is not None:
        return not_applicable("the watched stream was an answer that ended by itself")
    return seen


def _heartbeat(case: Case) -> Outcome:
    seen = _idle(case)
    if isinstance(seen, Outcome):
        return seen
    longest = max(_silences(seen))
    watched = seen.probed.ended_ns - seen.sent_ns
    fix = "Send a comment every 15 s."
    text = f"The longest silence in {duration_text(watched)} was {duration_text(longest)}"
    if longest > HEARTBEAT_BAD_NS:
        return failed(f"{text}: longer than many hops wait.", fix)
    if longest > HEARTBEAT_GOOD_NS:
        return warned(f"{text}: hops with a limit of 30 s would cut.", fix)
    if watched < HEARTBEAT_GOOD_NS and len(seen.bursts) < 2:
        return unknown(f"{text}: too short a look.", "Watch for 70 s: --idle 70s.")
    if not seen.comments and not case.spoken_in(seen).review.heartbeats:
        return not_applicable(f"events come faster than heartbeats: {text[0].lower()}{text[1:]}")
    return passed(f"{text}.")


def _heartbeat_form(case: Case) -> Outcome:
    seen = case.one("idle") or case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    found = case.spoken_in(seen).review
    if found.noise:
        return warned(
            f"{count_of(found.noise, 'heartbeat')} as data: clients take it for content.",
            "Use a comment (`:`).",
        )
    if found.heartbeats:
        return passed(f"{count_of(found.heartbeats, 'heartbeat')} as an event of its own.")
    if seen.comments:
        return passed(f"{count_of(len(seen.comments), 'comment')}: the form that no client sees.")
    return not_applicable("no heartbeat came")


def _idle_survival(case: Case) -> Outcome:
    seen = _idle(case)
    if isinstance(seen, Outcome):
        return seen
    lasted = seen.probed.ended_ns - seen.sent_ns
    if seen.probed.end in {"enough", "too-big"}:
        return passed(f"Still open after {duration_text(lasted)}.")
    silent = _silences(seen)[-1]
    hop = hop_limit(silent) or hop_limit(lasted)
    guess = f"; {hop}" if hop else ""
    return failed(
        f"Closed after {duration_text(lasted)}, {duration_text(silent)} of them silent{guess}.",
        ("A heartbeat below the limit: " if silent >= QUIET_NS else "") + case.chain.fix("timeout"),
    )


def _total_life(case: Case) -> Outcome:
    seen = case.one("idle") or case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    if seen.probed.end in {"enough", "too-big"}:
        return not_applicable("the stream was still open when the look was over")
    if case.spoken_in(seen).review.terminal is not None:
        return not_applicable("the stream ended with its marker")
    lasted = seen.probed.ended_ns - seen.sent_ns
    near = [limit for limit in LIFE_LIMITS_S if abs(lasted / S - limit) <= LIFE_SLACK_S]
    if near and _silences(seen)[-1] < TRAFFIC_NS:
        return warned(
            f"Closed after {duration_text(lasted)} in the midst of traffic: a hard limit of {near[0]} s.",
            "Raise the limit of the route or function.",
        )
    return passed(f"Ended after {duration_text(lasted)}: no round number, or not in the midst of traffic.")


def _cadence(case: Case) -> Outcome:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    *between, silent = _silences(seen)
    gaps = sorted(between[1:])
    if len(gaps) < LEAST_BURSTS:
        return not_applicable(f"{count_of(len(seen.bursts), 'burst')}: too few for a cadence")
    middle = percentile(gaps, 0.5)
    text = (
        f"Between bursts: p50 {duration_text(middle)}, p95 {duration_text(percentile(gaps, 0.95))}, "
        f"longest {duration_text(gaps[-1])}"
    )
    limit = max(STALL_FACTOR * middle, STALL_NS)
    stalls = [gap for gap in gaps if gap > limit]
    if seen.probed.end == "enough" and silent > limit:
        # No gap ends it, and it is the longest of all.
        return warned(
            f"{text}; then nothing for {duration_text(silent)}, until the look was over.",
            "Look for a worker that hangs; where there was just nothing to say, send a comment every 15 s.",
        )
    if not stalls:
        return passed(f"{text} (n = {len(gaps)}).")
    return warned(
        f"{text}; {count_of(len(stalls), 'stall')} in {len(gaps)}.",
        "Look for garbage collection, a busy worker or a lossy link; compare with the buffering checks first.",
    )


def _self_check(case: Case) -> Outcome:
    seen = case.main
    if not seen.probed.reads:
        return not_applicable("nothing was read")
    if not seen.stamped:
        return unknown(
            "No kernel stamps here: instants are our own readings, and our lateness is in them.",
            "Check from Linux.",
        )
    lag = percentile(seen.lags_ns, 0.99)
    voided = sum(burst.void for burst in seen.bursts)
    if lag <= OWN_LAG_LIMIT_NS:
        return passed(f"We read at most {duration_text(lag)} late (p99 of {len(seen.lags_ns)}).")
    return warned(
        f"We read {duration_text(lag)} late (p99 of {len(seen.lags_ns)}): instants are the kernel's and hold, "
        f"{count_of(voided, 'burst')} left out of buffering.",
        "Give this machine less to do meanwhile.",
    )


TIMING: Final = (
    Check("T01", "time to headers", _header_time),
    Check("T02", "headers withheld", _coupled),
    Check("T03", "first byte, event, token", _firsts),
    Check("T04", "heartbeat interval", _heartbeat),
    Check("T05", "heartbeat form", _heartbeat_form),
    Check("T06", "idle survival", _idle_survival),
    Check("T07", "total life", _total_life),
    Check("T08", "kind of close", _close_kind),
    Check("T09", "cadence", _cadence),
    Check("T10", "our own lateness", _self_check),
)
