"""B01 to B08: whether something on the way holds events back, told from how bursts and events lie to each other (checks.md 5.4).

Rules:
- No clock is needed where a buffer of a fixed size cuts: its bursts end inside events. Timers need the sender's clock, or
  are only suspected.
- Fewer than LEAST_BURSTS bursts prove nothing: the answer is unknown, not pass. Bursts that we read late are left out.
- What was there within QUICK_NS of the request proves nothing either: nobody can be shown to have held it back.
- The variation of gaps alone accuses nobody: models group tokens by design, and lossy links group by themselves.
"""

import itertools
import math
from collections import Counter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.dialects import Plain
from sseproof.reports.endpoint.beat import Beat, beat_of, steadiness
from sseproof.reports.endpoint.case import NO_STREAM, UNREAD, Case, Check
from sseproof.reports.endpoint.model import (
    WORST_FIRST,
    Outcome,
    bytes_at,
    failed,
    not_applicable,
    passed,
    unknown,
    warned,
)
from sseproof.reports.endpoint.seen import BURST_GAP_NS, LATE_READ_NS, Burst, Seen
from sseproof.reports.statistics import lower_bound, upper_bound
from sseproof.reports.words import count_of, digits, duration_text, share_text
from sseproof.rundir.text import printable

MS: Final = 1_000_000
LEAST_BURSTS: Final = 20
ACCUSED_BURSTS: Final = 10
"""Enough to accuse where the bound is clear: a buffer of 16 KiB fills less than 20 times in a look of 30 s."""
QUICK_NS: Final = 500 * MS
FULL_BURSTS: Final = 2
FULL_EVENTS: Final = 5.0
FULL_SPREAD: Final = 0.1
PACED_SHARE: Final = 0.8
PACED_NS: Final = MS
ALIGNED_BELOW: Final = 0.5
GROUPED_FROM: Final = 1.5
TIMER_EVENTS: Final = 3.0
TIMER_CV: Final = 0.1
"""A timer's spacing varies by some hundredths, groups that a sender makes by more (docs/check-evidence.md)."""
TIMER_CLOCK_CV: Final = 0.3
TIMER_LATE_NS: Final = 50 * MS
TIMER_SHARED: Final = 0.6
TIMER_DROP_NS: Final = 40 * MS
TIMER_BAD_NS: Final = 200 * MS
OFF_BEAT: Final = 0.7
"""Who is sent less steadily than this, and arrives on a beat, was let go by a timer."""
COARSE: Final = 4
"""A sender's clock that counts in more than this part of the beat does not tell how it keeps to it."""
BEHIND_EVENTS: Final = 1.5
BEHIND_LATE_NS: Final = 20 * MS
BEHIND_NEAR: Final = 0.2
BEHIND_FACTOR: Final = 4
BEHIND_VARIES_NS: Final = 2 * MS
"""A pace that varies less does not tell an event's own instant from the next one's, shifted."""
COMPRESSED_FACTOR: Final = 3.0
FIRST_EVENTS: Final = 5
FIRST_BYTES: Final = 1_024
BUFFER_SIZES: Final = (32_768, 16_384, 8_192, 4_096, 1_024)
NAMED_SHARE: Final = 0.6
CLOCK_FIELDS: Final = ("sent_at_ns", "sent_at", "sentAt", "ts", "timestamp", "time", "created_at")
CLOCK_SHARE: Final = 0.9
SOMETHING: Final = "something on the way buffers"
_LONGER: Final = (
    "Examine a longer stream: a body over 64 KiB or 30 s (--look), or a prompt that asks for a long answer."
)
_CLOCK: Final = "Let the events say when they were sent (a field `ts`, in milliseconds): B03 then decides."


class Flow(Struct, frozen=True):
    """The features of one stream's bursts."""

    bursts: int
    """All of them."""
    judged: int
    """Without the last one, whose end nobody chose, and without void ones."""
    aligned: int
    """Of those judged, how many end between events."""
    events: int
    per_burst: float
    """E: events a burst."""
    variation: float | None
    """CV of the distances between bursts; None below three."""
    spread: float | None
    """S: share of the time since the request in which the body came."""
    waited_ns: int
    """From the request to the last byte."""
    buffer_bytes: int | None
    """Q: the size that most bursts are multiples of."""
    middle_bytes: int

    @property
    def alignment(self) -> float:
        """A."""
        return self.aligned / self.judged if self.judged else 1.0


def flow_of(seen: Seen) -> Flow:
    """The features of a stream; void bursts are left out of shares and sizes."""
    bursts = seen.bursts
    inner = [burst for burst in bursts[:-1] if not burst.void]
    sound = [burst for burst in bursts if not burst.void]
    events = sum(burst.events for burst in sound)
    gaps = [after.at_ns - before.at_ns for before, after in itertools.pairwise(bursts)]
    first, last = seen.first_byte_ns, seen.last_byte_ns
    waited = 0 if last is None else max(1, last - seen.sent_ns)
    sizes = sorted(burst.size for burst in inner)
    return Flow(
        bursts=len(bursts),
        judged=len(inner),
        aligned=sum(burst.between_events for burst in inner),
        events=events,
        per_burst=events / len(sound) if sound else 0.0,
        variation=_variation(gaps),
        spread=None if first is None or last is None else (last - first) / waited,
        waited_ns=waited,
        buffer_bytes=_named_size(inner),
        middle_bytes=sizes[len(sizes) // 2] if sizes else 0,
    )


def _variation(gaps: list[int]) -> float | None:
    if len(gaps) < 2:
        return None
    mean = sum(gaps) / len(gaps)
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean if mean else None


def _named_size(bursts: list[Burst]) -> int | None:
    """The size that most bursts are multiples of, and the commonest multiple of it when most have that."""
    sizes = [burst.size for burst in bursts if burst.size]
    for unit in BUFFER_SIZES:
        fitting = [size for size in sizes if size % unit == 0]
        if sizes and len(fitting) / len(sizes) >= NAMED_SHARE:
            return Counter(fitting).most_common(1)[0][0]
    return None


# The rules, as functions of a stream: they are asked of P0, of P1, and of each way.


def all_at_once(seen: Seen) -> Outcome:
    """B01 of one stream."""
    flow = flow_of(seen)
    if _together_though_late(seen, flow):
        flow = replace(flow, events=len(seen.messages), per_burst=len(seen.messages) / flow.bursts)
    if flow.events < FULL_EVENTS:
        waited = seen.probed.ended_ns - seen.sent_ns
        if flow.events < len(seen.messages):
            return unknown(
                f"{count_of(len(seen.messages), 'event')} in {duration_text(waited)}, all but {flow.events} in bursts that we "
                "read late: nothing to compare.",
                "Give this machine less to do meanwhile, and try again.",
            )
        return unknown(
            f"Only {count_of(flow.events, 'event')} in {duration_text(waited)}: nothing to compare.", _LONGER
        )
    once = flow.per_burst >= FULL_EVENTS and (
        flow.bursts <= FULL_BURSTS or (flow.spread is not None and flow.spread < FULL_SPREAD)
    )
    text = f"{flow.events:,} events in {count_of(flow.bursts, 'burst')}, the last {duration_text(flow.waited_ns)} after the request"
    if not once:
        return passed(f"{text}: they come one after the other.")
    if flow.waited_ns < QUICK_NS:
        return unknown(f"{text}: too quick to tell whether anybody held them back.", _LONGER)
    if _paced(seen):
        return unknown(f"{text}, yet each event by itself: a quick sender behind a long wait.", _LONGER)
    return failed(f"The whole answer arrives at once: {text}.", "")


def _together_though_late(seen: Seen, flow: Flow) -> bool:
    """Whether everything came at once even if each late reading of ours hides as many bursts as fit into its lateness."""
    late_ns = sum(lag_ns for lag_ns in seen.body_lags_ns if lag_ns > LATE_READ_NS)
    if flow.spread is None or not late_ns:
        return False
    least_per_burst = len(seen.messages) / (flow.bursts + late_ns / BURST_GAP_NS)
    return least_per_burst >= FULL_EVENTS and flow.spread + late_ns / flow.waited_ns < FULL_SPREAD


def _paced(seen: Seen) -> bool:
    """Whether reads bring the events one by one, further apart than a buffer that is let go sends them."""
    instants = sorted(set(seen.event_ns))
    if len(instants) < PACED_SHARE * len(seen.messages):
        return False
    return len(instants) >= LEAST_BURSTS and instants[-1] - instants[0] >= PACED_NS * (len(instants) - 1)


def by_size(seen: Seen) -> Outcome:
    """B02 of one stream."""
    flow = flow_of(seen)
    low, high = (
        (0.0, 1.0)
        if not flow.judged
        else (lower_bound(flow.aligned, flow.judged), upper_bound(flow.aligned, flow.judged))
    )
    clear = flow.judged >= ACCUSED_BURSTS and high < ALIGNED_BELOW and flow.per_burst >= GROUPED_FROM
    if flow.judged < LEAST_BURSTS and not clear:
        return unknown(
            f"{count_of(flow.judged, 'burst')} to judge by, {LEAST_BURSTS} are needed: insufficient.", _LONGER
        )
    figures = (
        f"{flow.aligned} of {flow.judged} bursts end between events ({share_text(low)} to {share_text(high)} at 95 %), "
        f"{digits(flow.per_burst)} events a burst"
    )
    if flow.alignment >= ALIGNED_BELOW or flow.per_burst < GROUPED_FROM:
        return passed(f"{figures}.")
    inside = next(burst for burst in seen.bursts if not burst.between_events and not burst.void)
    size = (
        f"{flow.buffer_bytes:,} bytes"
        if flow.buffer_bytes is not None
        else f"about {flow.middle_bytes:,} bytes"
    )
    return failed(
        f"Events arrive {size} at a time: {SOMETHING}. {figures[0].upper()}{figures[1:]}.",
        "",
        bytes_at(seen.body, inside.end, "a burst ends here, inside an event", size=0),
    )


def by_timer(seen: Seen) -> Outcome:
    """B04 of one stream."""
    flow = flow_of(seen)
    if flow.judged < LEAST_BURSTS or flow.variation is None:
        return unknown(
            f"{count_of(flow.judged, 'burst')} to judge by, {LEAST_BURSTS} are needed: insufficient.", _LONGER
        )
    text = f"{digits(flow.per_burst)} events a burst, spacing varies by {share_text(flow.variation)}"
    beat = beat_of([burst.began_ns for burst in seen.bursts])
    even = flow.variation < TIMER_CV or (beat is not None and beat.even)
    if not even and beat is not None:
        return unknown(
            f"Bursts keep to a beat: {beat.fitting} of {beat.distances} distances are multiples of "
            f"{duration_text(beat.every_ns)}. A flush timer on the way or a sender with a timer of its own: "
            "nothing here tells the two apart.",
            _CLOCK,
        )
    if not even or flow.per_burst < GROUPED_FROM:
        return passed(f"No timer seen: {text}.")
    if flow.per_burst < TIMER_EVENTS:
        return unknown(f"A flush timer, or a sender with an even pace: {text}.", _CLOCK)
    gaps = sorted(
        after.at_ns - before.at_ns for before, after in zip(seen.bursts, seen.bursts[1:], strict=False)
    )
    return warned(
        f"Events come in groups, every {duration_text(gaps[len(gaps) // 2])}: a flush timer, or a server that groups. {text}.",
        "",
    )


def _with_fix(outcome: Outcome, fix: str) -> Outcome:
    if outcome.verdict not in {"warn", "fail"}:
        return outcome
    return replace(outcome, fix=fix)


def _stream(case: Case) -> Outcome | None:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    if seen.damaged and not seen.body:
        return not_applicable(UNREAD)
    if seen.decoded.problem:
        return unknown(f"The body can't be read whole: {seen.decoded.problem}.", "Offer identity only.")
    if not seen.stamped and any(burst.void for burst in seen.bursts):
        return unknown(
            "Our own readings were late, and there are no kernel stamps here.", "Check from Linux."
        )
    return None


def _full(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    return _with_fix(all_at_once(case.main), case.chain.fix("buffering"))


def _by_size(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    if all_at_once(case.main).verdict == "fail":
        return not_applicable("everything came at once (B01)")
    coding = (
        " The answer is compressed: the buffer may be the compressor's." if case.main.decoded.coding else ""
    )
    found = _with_fix(by_size(case.main), case.chain.fix("buffering") + coding)
    if not case.chain.proxies:
        return found
    return replace(found, sentence=found.sentence.replace(SOMETHING, "a proxy buffers"))


# With the sender's clock.


class Lateness(Struct, frozen=True):
    """How late events are, against the least late of them: the difference between the clocks falls out."""

    field: str
    middle_ns: int
    gap_ns: int
    """The median distance between two events, by the sender."""
    shared: float
    """Share of the events that came in a burst with others."""
    drop_ns: int
    """How much later the first event of a burst is than its last, in the median."""
    ends: int
    """Bursts that another one followed."""
    own_ns: int
    """Median deviation of their arrival from when their own last event was sent."""
    following_ns: int
    """Median deviation of their arrival from when the event behind them was sent: small when that released them."""
    beat: Beat | None
    """What bursts keep to, as they arrive."""
    sent_steady: float
    """How well the last events of the bursts keep to it as they are sent; 1 where that can't be told."""

    @property
    def retimed(self) -> bool:
        """They arrive on a beat that they were not sent on."""
        return self.beat is not None and self.sent_steady < OFF_BEAT


def lateness_of(seen: Seen) -> Lateness | None:
    """None when the events do not say when they were sent."""
    for field in CLOCK_FIELDS:
        plain = Plain(sent_at=f"json:{field}")
        sent = [plain.read(message).sent_at_ns for message in seen.messages]
        pairs = [
            (at_ns, sent_ns)
            for at_ns, sent_ns in zip(seen.event_ns, sent, strict=True)
            if sent_ns is not None
        ]
        if len(pairs) < max(LEAST_BURSTS, CLOCK_SHARE * len(sent)) or len(
            {each for _, each in pairs}
        ) * 2 < len(pairs):
            continue
        late = [at_ns - sent_ns for at_ns, sent_ns in pairs]
        least = min(late)
        groups: list[list[int]] = []
        previous: int | None = None
        for (at_ns, _), each in zip(pairs, late, strict=True):
            if previous is None or at_ns - previous >= 5 * MS:
                groups.append([])
            groups[-1].append(each - least)
            previous = at_ns
        drops = sorted(group[0] - group[-1] for group in groups if len(group) > 1)
        ends = [
            (at_ns - own_ns, at_ns - following_ns)
            for (at_ns, own_ns), (next_ns, following_ns) in itertools.pairwise(pairs)
            if next_ns - at_ns >= 5 * MS
        ]
        gaps = sorted(after - before for (_, before), (_, after) in itertools.pairwise(pairs))
        arrived, made = _let_go(pairs)
        beat = beat_of(arrived)
        return Lateness(
            field=field,
            middle_ns=sorted(each - least for each in late)[len(late) // 2],
            gap_ns=gaps[len(gaps) // 2],
            shared=sum(len(group) for group in groups if len(group) > 1) / len(pairs),
            drop_ns=drops[len(drops) // 2] if drops else 0,
            ends=len(ends),
            own_ns=_deviation([own for own, _ in ends]),
            following_ns=_deviation([following for _, following in ends]),
            beat=beat,
            sent_steady=1.0 if beat is None or _coarse(sent, beat) else steadiness(made, beat.every_ns),
        )
    return None


def _let_go(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Of each burst when it began to arrive, and when its last event was sent."""
    arrived, made = [pairs[0][0]], []
    for (at_ns, sent_ns), (next_ns, _) in itertools.pairwise(pairs):
        if next_ns - at_ns >= BURST_GAP_NS:
            arrived.append(next_ns)
            made.append(sent_ns)
    return arrived, [*made, pairs[-1][1]]


def _coarse(sent: list[int | None], beat: Beat) -> bool:
    """The sender's clock counts in steps that are no small part of the beat."""
    # Seconds with decimals went through a float: below a microsecond there is only its rounding.
    return math.gcd(*(round(each, -3) for each in sent if each is not None)) * COARSE > beat.every_ns


def _deviation(values: list[int]) -> int:
    """The median distance from the median, 0 of nothing."""
    if not values:
        return 0
    middle = sorted(values)[len(values) // 2]
    return sorted(abs(each - middle) for each in values)[len(values) // 2]


def _timer_with_clock(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    if all_at_once(case.main).verdict == "fail":
        return not_applicable("everything came at once (B01)")
    late = lateness_of(case.main)
    if late is None:
        return not_applicable("the events do not say when they were sent")
    flow = flow_of(case.main)
    if flow.judged < ACCUSED_BURSTS:
        return unknown(
            f"{count_of(flow.judged, 'burst')} to judge by, {ACCUSED_BURSTS} are needed: insufficient.",
            _LONGER,
        )
    text = (
        f"by {late.field}: events {duration_text(late.middle_ns)} late in the median, "
        f"{share_text(late.shared)} of {flow.events:,} share a burst, the first of a burst waited {duration_text(late.drop_ns)} longer"
    )
    fix = "Turn the flush timer off (Go: FlushInterval: -1), flush after each event, set TCP_NODELAY."
    if (
        late.middle_ns <= TIMER_LATE_NS
        or late.shared < TIMER_SHARED
        or late.drop_ns <= TIMER_DROP_NS
        or flow.alignment < ALIGNED_BELOW
    ):
        if late.retimed:
            return warned(f"A flush timer, on the way or in the service: {_on_beat(late)}.", fix)
        return passed(f"No timer, {text}.")
    if flow.variation is None or flow.variation >= TIMER_CLOCK_CV:
        return warned(f"A flush timer, or loss on the way: {text}.", fix)
    if late.middle_ns <= TIMER_BAD_NS:
        return warned(f"A flush timer, {text}.", fix)
    return failed(f"A flush timer holds events back, {text}.", fix)


def _on_beat(late: Lateness) -> str:
    """How they arrive on a beat that they were not sent on, in words."""
    assert late.beat is not None
    beat = late.beat
    return (
        f"{beat.fitting} of {beat.distances} distances between bursts are multiples of {duration_text(beat.every_ns)}, "
        f"and by {late.field} the events were not sent at such distances; {duration_text(late.middle_ns)} late in the median"
    )


def _timer_without_clock(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    if lateness_of(case.main) is not None:
        return not_applicable("the sender's clock decides it (B03)")
    if all_at_once(case.main).verdict == "fail" or by_size(case.main).verdict == "fail":
        return not_applicable("B01 or B02 names the cause")
    fix = "If a proxy does it, let it flush at once (Go: FlushInterval: -1; TCP_NODELAY); a sender's clock would decide."
    return _with_fix(by_timer(case.main), fix)


def _one_behind(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    late = lateness_of(case.main)
    if late is None:
        return not_applicable("invisible when events do not say when they were sent")
    if all_at_once(case.main).verdict == "fail" or by_size(case.main).verdict == "fail":
        return not_applicable("B01 or B02 names the cause")
    flow = flow_of(case.main)
    if flow.alignment < ALIGNED_BELOW:
        # Whoever fills a buffer releases it with the event that the burst ends in: it looks the same, and is B02's.
        return not_applicable("bursts end inside events")
    near = abs(late.middle_ns - late.gap_ns) <= BEHIND_NEAR * late.gap_ns
    text = f"{duration_text(late.middle_ns)} late in the median, {duration_text(late.gap_ns)} between two"
    if late.ends >= LEAST_BURSTS and max(late.own_ns, late.following_ns) >= BEHIND_VARIES_NS:
        # Subtracting the least lateness hides a wait that all events have: whose instant the arrivals follow does not.
        text = (
            f"arrivals keep to within {duration_text(late.own_ns)} of their own sending, "
            f"{duration_text(late.following_ns)} of the next event's, in the median"
        )
        waits = late.following_ns * BEHIND_FACTOR <= late.own_ns
    else:
        waits = flow.per_burst < BEHIND_EVENTS and late.middle_ns > BEHIND_LATE_NS and near
    if waits:
        return failed(
            f"Each event waits for the next: {text}.",
            "HTTPS inspection or antivirus on the way: try another network; follow each event with a comment.",
        )
    return passed(f"No event waits for the next: {text}.")


def grouped_by_compression(case: Case) -> str | None:
    """How compression groups the events of P1, in words; None when it does not, or P1 was not made or not compressed."""
    squeezed = case.one("gzip")
    if squeezed is None or not case.main.readable:
        return None
    plain = flow_of(case.main)
    if not plain.bursts or plain.waited_ns < QUICK_NS:
        return None
    if squeezed.status is None and squeezed.probed.end in {"late", "quiet", "enough"}:
        # Even the head is held back: a compressor that waits for its first full buffer.
        span_ns = squeezed.probed.ended_ns - squeezed.sent_ns
        return _against(0, case.main, span_ns)
    if squeezed.status != 200 or not squeezed.decoded.coding:
        return None
    packed = flow_of(squeezed)
    if squeezed.decoded.problem or not packed.events:
        # Not to be read here, or nothing came: the pieces of the same time are compared.
        return _against(packed.bursts, case.main, squeezed.probed.ended_ns - squeezed.sent_ns)
    if packed.per_burst >= COMPRESSED_FACTOR * max(plain.per_burst, 1.0):
        return f"{digits(packed.per_burst)} events a burst against {digits(plain.per_burst)}"
    return None


def _against(bursts: int, plain: Seen, span_ns: int) -> str | None:
    """So many bursts against those of the plain answer in the same time, where they are far fewer."""
    meanwhile = sum(burst.at_ns - plain.sent_ns <= span_ns for burst in plain.bursts)
    if meanwhile < COMPRESSED_FACTOR * max(1, bursts):
        return None
    return f"{count_of(bursts, 'burst')} where the plain answer has {meanwhile}"


def _compression(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    squeezed = case.one("gzip")
    if squeezed is None:
        return not_applicable(f"no compressed answer: {case.skipped('gzip')}")
    grouped = grouped_by_compression(case)
    if grouped is not None:
        return failed(f"Compression holds events back: {grouped}.", case.chain.fix("compression"))
    if squeezed.status is None:
        return unknown("There was no answer when compression was offered.", "Try again.")
    if not squeezed.decoded.coding:
        return passed("Not compressed, also when that was offered.")
    if squeezed.damaged:
        return unknown(
            "The compressed answer can't be read (H07), so not how its events come.", "Mend that first."
        )
    if case.main.probed.ended_ns - case.main.sent_ns < QUICK_NS or flow_of(case.main).events < FULL_EVENTS:
        return unknown("Compressed, and too short to tell whether that holds events back.", _LONGER)
    if squeezed.decoded.problem:
        return passed(f"Compressed ({squeezed.decoded.problem}): its pieces come as often as the plain ones.")
    return passed("Compressed, and as timely as the plain answer.")


def _first_flush(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    bursts = case.main.bursts
    if len(bursts) < FIRST_EVENTS:
        return not_applicable(f"{count_of(len(bursts), 'burst')}: too few to tell the first from the others")
    first, later = bursts[0], bursts[1:]
    usual = sum(burst.events for burst in later) / len(later)
    usual_bytes = sum(burst.size for burst in later) / len(later)
    held = first.events >= FIRST_EVENTS or first.size >= FIRST_BYTES
    grouped = first.events > FIRST_EVENTS * max(usual, 1.0) - 1 or first.size > FIRST_EVENTS * usual_bytes
    text = f"The first burst holds {count_of(first.events, 'event')} and {first.size:,} bytes, later ones {digits(usual)}"
    if not (held and grouped):
        return passed("The first burst is like the others.")
    if first.at_ns - case.main.sent_ns < QUICK_NS:
        return passed(f"{text}; it came at once, so nobody held it back.")
    return warned(
        f"{text}: a buffer that fills before it lets the first byte through.",
        "Send 2 KiB of comment first, or shrink the header buffer (nginx: proxy_buffer_size).",
    )


def _state(seen: Seen) -> str | None:
    """What one way does to the events; None when it can't be told."""
    if not seen.readable or seen.decoded.problem:
        return None
    once, size = all_at_once(seen), by_size(seen)
    if once.verdict == "fail":
        return "all at once"
    if size.verdict == "fail":
        return "cut by size"
    return "one by one" if once.verdict == "pass" else None


def _by_hop(case: Case) -> Outcome:
    """By ways, and by methods; where both were asked for, the worse of the two."""
    ways = bool(case.all("origin") or case.all("path"))
    other = case.one("method")
    if not ways and other is None:
        why = case.capture.skipped.get("method", "no second way was asked for (--origin, --via, --also)")
        return not_applicable(why)
    if (closed := _stream(case)) is not None:
        return closed
    found = [] if other is None else [_by_method(case.main, other)]
    if ways:
        found.append(_by_way(case))
    return min(found, key=lambda each: WORST_FIRST.index(each.verdict))


def _by_method(main: Seen, other: Seen) -> Outcome:
    """What asks by GET and what asks by POST may go different ways (checks.md B08: some tunnels buffer GET alone)."""
    names = main.probed.method, other.probed.method
    if not other.readable:
        what = f"HTTP {other.status}" if other.status is not None else other.probed.detail or "no answer"
        return unknown(
            f"No event stream came by {names[1]}: {printable(what, 120)}.",
            "Name what that method needs (--header, --body), or leave --also out.",
        )
    states = _state(main), _state(other)
    told = " and ".join(f"{state or 'unclear'} by {name}" for name, state in zip(names, states, strict=True))
    if None in states:
        return unknown(f"The methods can't be compared: events come {told}.", _LONGER)
    held = [name for name, state in zip(names, states, strict=True) if state != "one by one"]
    if len(held) != 1:
        return passed(f"Events come {told}.")
    return failed(
        f"Events come {told}: something on the way, or the service, holds back what is asked by {held[0]} alone.",
        f"Find who treats the methods differently (some tunnels buffer GET), and let it flush; else offer {_rest(names, held)} only.",
    )


def _rest(names: tuple[str, str], held: list[str]) -> str:
    return next(name for name in names if name not in held)


def _by_way(case: Case) -> Outcome:
    origins, paths = case.all("origin"), case.all("path")
    states: dict[str, list[str | None]] = {}
    if origins:
        states["edge"] = [_state(case.main)]
        states["origin"] = [_state(each) for each in origins]
    for each in paths:
        states.setdefault(each.probed.vantage, []).append(_state(each))
    for each in (*origins, *paths):
        if not each.readable:
            what = f"HTTP {each.status}" if each.status is not None else each.probed.detail or "no answer"
            return unknown(
                f"No event stream came by way of {each.probed.vantage}: {printable(what, 120)}.",
                "Check the address of this way, or what it needs to let the request through.",
            )
    seen = {name: found[0] for name, found in states.items() if len(set(found)) == 1 and found[0] is not None}
    told = ", ".join(
        f"{name} {' and '.join(str(each or 'unclear') for each in found)}" for name, found in states.items()
    )
    if len(seen) < len(states):
        return unknown(f"The ways can't be compared: {told}.", _LONGER)
    smooth = [name for name, state in seen.items() if state == "one by one"]
    guilty = [name for name in seen if name not in smooth]
    if not guilty:
        return passed(f"All ways let events through one by one: {told}.")
    if not smooth:
        return passed(f"All ways hold events back alike ({told}): the cause lies before they part.")
    if guilty == ["edge"]:
        hop = f" ({', '.join(case.chain.proxies)})" if case.chain.proxies else ""
        return failed(
            f"The origin sends events one by one, the edge{hop} holds them back.", case.chain.fix("buffering")
        )
    return failed(
        f"Events are held back by way of {', '.join(guilty)}, and not by {', '.join(smooth)}.",
        "Change that proxy: flush at once, no buffering, no scanning of text/event-stream.",
    )


BUFFERING: Final = (
    Check("B01", "all at once", _full),
    Check("B02", "buffer of a size", _by_size),
    Check("B03", "timer, by the sender's clock", _timer_with_clock),
    Check("B04", "timer, without a clock", _timer_without_clock),
    Check("B05", "one event behind", _one_behind),
    Check("B06", "buffering by compression", _compression),
    Check("B07", "first flush", _first_flush),
    Check("B08", "which hop", _by_hop),
)
