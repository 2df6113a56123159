"""Single streams: their steps for the lanes, what happened to each in words, and which of them are shown.

Shown are failures, the slowest to their first token, the longest breaks that were recovered, and a sample drawn by the
run's seed, so that the same record shows the same streams.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sseproof.reports.charts.lanes import Life, Segment, Step, lifelines
from sseproof.reports.charts.overtime import compact
from sseproof.reports.charts.svg import Chart, sampled, short
from sseproof.reports.facts import Facts, ttft_ns
from sseproof.reports.view.record import Record, variant_text, window_name
from sseproof.reports.words import count_of, duration_text, joined
from sseproof.rundir.rows import Attempt, AttemptEnd, BreakRow, Instant, Outcome, StreamRecord
from sseproof.rundir.seeds import named_random

MOST_LANE_ATTEMPTS: Final = 200
_NS_PER_MS: Final = 1e6
_MOST_FAILED: Final = 16
_MOST_SLOW: Final = 6
_MOST_BROKEN: Final = 6
_MOST_SAMPLED: Final = 8
_LONGEST_DETAIL_CHARS: Final = 300
_MOST_BREAKS_TOLD: Final = 3

OUTCOME_WORDS: Final[dict[Outcome, str]] = {
    "complete": "complete",
    "complete-limited": "complete, ended at its length limit",
    "held": "held open to the end",
    "damaged": "damaged: it ended, but events are lost, doubled, out of order or ill-formed",
    "throttled": "throttled: 429 or 503 with Retry-After",
    "error-http": "refused by an HTTP answer that is no stream",
    "error-inband": "ended by an error event inside the stream",
    "declined": "declined by a content filter",
    "truncated": "truncated: a clean end without the terminal marker",
    "cut": "cut off and not recovered",
    "stalled": "stalled until one of our time-outs",
    "unreachable": "unreachable: no connection came about",
    "unfinished": "unfinished: we ended it, or it has no end on record",
    "dropped": "dropped: never started by us",
}
END_WORDS: Final[dict[AttemptEnd, str]] = {
    "refused": "connection refused",
    "dns": "the name was not resolved",
    "tls": "the TLS handshake failed",
    "connect-timeout": "connecting took too long",
    "status": "an HTTP status that is no stream",
    "content-type": "a content type that is no event stream",
    "no-content": "204, no content",
    "headers-timeout": "no headers in time",
    "first-event-timeout": "no first event in time",
    "idle-timeout": "silence for longer than the idle time-out",
    "total-timeout": "longer than the total time-out",
    "fin": "closed inside the framing (fin)",
    "eof": "a clean end (eof)",
    "rst": "reset (rst)",
    "protocol": "broken HTTP",
    "too-big": "an event larger than the limit",
    "terminal": "the terminal marker",
    "inband-error": "an error event",
    "stopped": "stopped by us",
}


def began(row: StreamRecord) -> Instant:
    """When the stream was to start: its plan in open load, else its start."""
    return row.intended or row.dispatched


# --- in words -----------------------------------------------------------------------------------------------------------


def told(record: Record, facts: Facts) -> str:
    """What happened to one stream, in a sentence or two."""
    row = facts.record
    parts = []
    ttft = ttft_ns(row)
    parts.append("no token came" if ttft is None else f"first token after {duration_text(ttft)}")
    breaks = record.breaks_of(row)
    parts += [_break(row, each) for each in breaks[:_MOST_BREAKS_TOLD]]
    if len(breaks) > _MOST_BREAKS_TOLD:
        parts.append(f"{len(breaks) - _MOST_BREAKS_TOLD:,} more breaks")
    lasted = duration_text(max(row.ended.ns - began(row).ns, 0))
    last = "" if facts.good else f", last end: {END_WORDS[row.end]}"
    parts.append(f"{OUTCOME_WORDS[facts.outcome]}{last}, {lasted} in all")
    text = "; ".join(parts)
    active = list(dict.fromkeys(window_name(window, several=False) for window in record.active(row)))
    if active:
        text += f". On its path: {joined(active[:4])}{' and more' if len(active) > 4 else ''}"
    if row.detail:
        text += f". On record: {short(row.detail, _LONGEST_DETAIL_CHARS).rstrip('.')}"
    return f"{text}."


def _break(row: StreamRecord, each: BreakRow) -> str:
    at = duration_text(max(each.seen.ns - began(row).ns, 0))
    text = f"broken at {at}, {END_WORDS[each.end]}"
    if each.first_new is not None:
        after = duration_text(max(each.first_new.ns - each.seen.ns, 0))
        tries = "" if each.attempts <= 1 else f" and {count_of(each.attempts, 'attempt')}"
        return f"{text}, something new {after}{tries} later"
    gave_up = {
        "legacy": "the client does not reconnect",
        "retries": f"given up after {count_of(each.attempts, 'attempt')}",
        "no-id": "given up, without an id to go on from",
        "give-up": "given up, as it was told",
    }
    reason = each.gave_up or ""
    known = END_WORDS.get(reason)  # type: ignore[call-overload]  # or one of the words above
    return f"{text}, {gave_up.get(reason, f'given up after {known}' if known else 'nothing new came')}"


# --- step by step -------------------------------------------------------------------------------------------------------


def segments(row: StreamRecord) -> list[Segment]:
    """The steps of a stream, in ms since it was to start."""
    origin = began(row).ns
    steps: list[Segment] = []
    previous: Instant | None = None
    seen_events = False
    _step(steps, "late", row.intended, row.dispatched, origin)
    for attempt in row.attempts[:MOST_LANE_ATTEMPTS]:
        if previous is not None:
            _step(steps, "broken", previous, attempt.started, origin)
        _attempt(steps, attempt, origin, again=seen_events)
        seen_events = seen_events or attempt.first_event is not None
        previous = attempt.ended
    if not row.attempts:  # an older or torn record: the stream's own instants
        _step(steps, "connect", row.dispatched, row.sent, origin)
        _step(steps, "waiting", row.sent, row.first_event or row.ended, origin)
        _step(steps, "streaming", row.first_event, row.last_event, origin)
        _step(steps, "silent", row.last_event, row.ended, origin)
    return steps


def _attempt(steps: list[Segment], attempt: Attempt, origin: int, *, again: bool) -> None:
    _step(steps, "connect", attempt.started, attempt.sent or attempt.ended, origin)
    if attempt.sent is None:
        return
    _step(steps, "waiting", attempt.sent, attempt.first_event or attempt.ended, origin)
    _step(steps, "resumed" if again else "streaming", attempt.first_event, attempt.last_event, origin)
    if attempt.first_event is not None:
        _step(steps, "silent", attempt.last_event, attempt.ended, origin)


def _step(
    steps: list[Segment], step: Step, since: Instant | None, until: Instant | None, origin: int
) -> None:
    if since is None or until is None or until.ns <= since.ns:
        return
    steps.append(Segment(step, (since.ns - origin) / _NS_PER_MS, (until.ns - origin) / _NS_PER_MS))


# --- which ones ---------------------------------------------------------------------------------------------------------


def lifelines_chart(record: Record) -> Chart | None:
    """The chosen streams on the run's own time, with every fault; None without a stream."""
    lives = [
        Life(
            number=str(facts.record.stream),
            variant=variant_text(facts.record.variant) if record.several else "",
            since_s=record.seconds(began(facts.record).ns),
            segments=segments(facts.record),
            good=None if facts.outcome == "unfinished" else facts.good,
            words=told(record, facts),
            why=why,
        )
        for facts, why in chosen(record)
    ]
    return lifelines(lives, compact(record.bands(), record.length_s), record.length_s, len(record.facts))


def chosen(record: Record) -> list[tuple[Facts, str]]:
    """The streams that are shown, each once, with the reason."""
    found: list[tuple[Facts, str]] = []
    taken: set[int] = set()

    def take(streams: Iterable[Facts], why: str) -> None:
        for facts in streams:
            if id(facts) not in taken:
                taken.add(id(facts))
                found.append((facts, why))

    take(
        _evenly(_by_start(each for each in record.facts if not each.good), _MOST_FAILED),
        "that did not end well",
    )
    good = [each for each in record.facts if each.good]
    slow = sorted(good, key=lambda each: (-(ttft_ns(each.record) or 0), each.record.stream))
    take(slow[:_MOST_SLOW], "of the slowest to their first token")
    broken = sorted(
        (each for each in good if each.record.breaks),
        key=lambda each: (-_longest_break(record, each.record), each.record.stream),
    )
    take(broken[:_MOST_BROKEN], "of the longest breaks that were recovered")
    rest = _by_start(each for each in good if id(each) not in taken)
    drawn = named_random(record.history.plan.seed, "report").sample(
        range(len(rest)), min(_MOST_SAMPLED, len(rest))
    )
    take((rest[index] for index in sorted(drawn)), "drawn from the rest by the seed")
    return found


def _by_start(streams: Iterable[Facts]) -> list[Facts]:
    return sorted(
        streams, key=lambda each: (began(each.record).ns, each.record.variant or "", each.record.stream)
    )


def _evenly(streams: Sequence[Facts], most: int) -> list[Facts]:
    """An even choice over time that has every outcome, and then as many of each variant as there is room for."""
    by_kind: dict[tuple[Outcome, AttemptEnd], list[Facts]] = defaultdict(list)
    for each in streams:
        by_kind[each.outcome, each.record.end].append(each)
    if not by_kind:
        return []
    each_may = max(1, most // len(by_kind))
    kinds = sorted(by_kind.values(), key=len, reverse=True)[:most]
    return [kind[index] for kind in kinds for index in sampled(len(kind), each_may)]


def _longest_break(record: Record, row: StreamRecord) -> int:
    return max(
        (each.first_new.ns - each.seen.ns for each in record.breaks_of(row) if each.first_new is not None),
        default=0,
    )
