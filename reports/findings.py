"""What a manager wants to know first: how many claims hold, and why the others do not, a sentence each (pure).

Rules:
- A sentence begins with the count. What the bad units have in common follows it, and the cause only where the rows of
  at least MOST of them show it and there are at least FEWEST of them: no cause is better than a guessed one.
- A fault is named only where it lay on the path of most bad streams and of clearly fewer of the others.
- Claims of one metric share a cause: each metric is explained once, by the first of its claims that fails.
"""

import json
import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from sseproof.loadtests.settings import Client
from sseproof.reports import statistics
from sseproof.reports.charts.svg import joined_spans
from sseproof.reports.checks import (
    SETTLED,
    CheckFailedError,
    FaultWindow,
    Scoped,
    Unit,
    fault_windows,
    measure,
)
from sseproof.reports.claims import Claim, ClaimError, parse_claim
from sseproof.reports.facts import Facts, History
from sseproof.reports.verdicts import Verdict
from sseproof.reports.words import count_of, duration_text, joined, share_text
from sseproof.rundir.rows import BreakRow, StreamRecord
from sseproof.rundir.text import printable
from sseproof.rundir.units import from_raw

FEWEST: Final = 3
MOST: Final = 0.8
APART: Final = 0.2
"""By so much a fault's share among the bad streams has to exceed its share among all."""
_NEAR: Final = 0.1
_MOST_SENTENCES: Final = 5
_LEAST_TOKENS: Final = 10
_NAMES: Final[dict[str, str]] = {
    "success": "Success",
    "ttft": "Time to first token",
    "ttft-plan": "Time to first token from plan",
    "ttft-send": "Time to first token from send",
    "gap": "The gap between events",
    "e2e": "End-to-end time",
    "reconnect": "Reconnection",
    "recovery": "Recovery",
    "lost": "Completeness",
    "doubled": "Once-only delivery",
    "utf8": "UTF-8",
}

_LATE: Final = {
    "ttft": ("stream", "got no token"),
    "ttft-plan": ("stream", "got no token"),
    "ttft-send": ("stream", "got no token"),
    "e2e": ("stream", "never ended well"),
    "reconnect": ("break", "never got a new event again"),
}
"""Metrics of a time: what they count, and what those did that never came to it."""


class _Bad(NamedTuple):
    """What a failing claim's bad units are, as rows."""

    units: list[Unit]
    streams: list[Facts]
    """Each once."""
    breaks: list[BreakRow]
    """Of claims about breaks: one a bad unit."""
    all: Sequence[Facts]
    """Every stream that the claim covers; of claims about breaks, those that broke."""
    client: Client
    windows: Sequence[FaultWindow]


def findings(history: History, facts: Sequence[Facts], verdicts: Sequence[Verdict]) -> list[str]:
    """Sentences for the top of every output, the weightiest first; empty when every claim holds."""
    counting = [verdict for verdict in verdicts if verdict.counts]
    failing = [verdict for verdict in counting if verdict.verdict == "fail"]
    unknown = [verdict for verdict in counting if verdict.verdict == "unknown"]
    found: list[str] = []
    if failing or unknown:
        held = len(counting) - len(failing) - len(unknown)
        found.append(_held(held, len(counting), decided=bool(failing)))
    explained: dict[tuple[str, str | None], Verdict] = {}
    for verdict in failing:
        explained.setdefault((verdict.metric, verdict.variant), verdict)
    shown = list(explained.values())[:_MOST_SENTENCES]
    several = len({verdict.variant for verdict in counting}) > 1
    said: set[str] = set()
    for verdict in shown:
        what, why = _failure(verdict, history, facts, several=several)
        found.append(f"{what}{', for the same reason' if why in said else f': {why}' if why else ''}.")
        said.update({why} - {""})
    left = [verdict for verdict in failing if not any(verdict is each for each in shown)]
    if left:
        names = joined([f"“{printable(verdict.claim, 200)}”" for verdict in left[:_MOST_SENTENCES]])
        rest = f" and {len(left) - _MOST_SENTENCES} more" if len(left) > _MOST_SENTENCES else ""
        found.append(f"{names}{rest} {'fails' if len(left) == 1 else 'fail'} too.")
    if unknown:
        names = joined(
            [f"“{printable(verdict.claim, 200)}” ({verdict.code})" for verdict in unknown[:_MOST_SENTENCES]]
        )
        rest = f" and {len(unknown) - _MOST_SENTENCES} more" if len(unknown) > _MOST_SENTENCES else ""
        found.append(f"Not decided: {names}{rest}.")
    return found


def _held(held: int, claims: int, *, decided: bool) -> str:
    if claims == 1:
        return f"The one claim {'does not hold' if decided else 'is not decided'}."
    return f"{held or 'None'} of {claims:,} claims {'holds' if held <= 1 else 'hold'}."


def figures(history: History, facts: Sequence[Facts]) -> list[str]:
    """How many streams ended well, a sentence a variant."""
    sentences = []
    for variant in history.plan.variants:
        streams = [each for each in facts if each.record.variant == variant.name]
        total = len(streams) + sum(start.variant == variant.name for start in history.unfinished)
        if not total:
            continue
        lead = "" if variant.name is None else f"{printable(variant.name, 60)}: "
        good = sum(each.good for each in streams)
        broken = [each for each in streams if each.record.breaks]
        well = sum(each.good for each in broken)
        after = f"; of {len(broken):,} that broke, {well:,} did" if broken else ""
        sentences.append(f"{lead}{good:,} of {count_of(total, 'stream')} ended well{after}.")
    return sentences


def _failure(verdict: Verdict, history: History, facts: Sequence[Facts], *, several: bool) -> tuple[str, str]:
    """Success fails: 234 of 420 streams …, and why; both without a full stop."""
    name = _NAMES.get(verdict.metric)
    where = f" in {printable(verdict.variant or '', 60)}" if several and verdict.variant else ""
    try:
        claim = parse_claim(verdict.claim)
        bad = None if name is None else _bad(claim, verdict, history, facts)
    except (ClaimError, CheckFailedError):
        bad = None
    if bad is None or not bad.units:
        lead = f"{name} fails" if name else f"“{printable(verdict.claim, 200)}” fails"
        return f"{lead}{where}: {printable(verdict.sentence, limit=1_000).removesuffix('.')}", ""
    why = "; ".join(part for part in (_cause(verdict.metric, bad), _fault(bad)) if part)
    return f"{name} fails{where}: {_what(verdict, bad)}", why


def _bad(claim: Claim, verdict: Verdict, history: History, facts: Sequence[Facts]) -> _Bad:
    scoped = Scoped(claim, verdict.variant, history, facts)
    units = [unit for unit in measure(scoped).units if unit.cause in SETTLED and unit.worst < unit.n]
    numbers = {unit.stream for unit in units}
    streams = [each for each in scoped.facts if each.record.stream in numbers]
    breaks: list[BreakRow] = []
    if verdict.unit == "break":
        # A break's unit stands in the order of the rows, and there may be several of one stream.
        wanted = Counter(unit.stream for unit in units)
        slowest = sorted(scoped.breaks, key=_lasted, reverse=True)
        for row in slowest:
            if wanted[row.stream] > 0:
                wanted[row.stream] -= 1
                breaks.append(row)
    client = next(
        (
            from_raw(variant.client, Client)
            for variant in history.plan.variants
            if variant.name == verdict.variant
        ),
        Client(),
    )
    covered = [each for each in scoped.facts if verdict.unit != "break" or each.record.breaks]
    return _Bad(units, streams, breaks, covered, client, fault_windows(history.faults))


def _lasted(row: BreakRow) -> float:
    return float("inf") if row.first_new is None else row.first_new.ns - row.seen.ns


# --- what happened -------------------------------------------------------------------------------------------------------


def _what(verdict: Verdict, bad: _Bad) -> str:
    number = verdict.n - verdict.k
    of = f"{number:,} of {count_of(verdict.n, verdict.unit)}"
    if verdict.metric in _LATE:
        return _slow(verdict, bad)
    if verdict.metric == "gap":
        return f"{of} were longer than {duration_text(verdict.limit_ns)}"
    if verdict.metric in {"lost", "doubled"}:
        did = "lost" if verdict.metric == "lost" else "got twice"
        return f"{count_of(verdict.amount or 0, 'event')} {did} in {of}"
    if verdict.metric == "utf8":
        return f"{of} {'is' if number == 1 else 'are'} not intact"
    words = "did not end well" if verdict.metric == "success" else "did not end in a recovered stream"
    return f"{of} {words}{_mostly(verdict.reasons, number)}"


def _slow(verdict: Verdict, bad: _Bad) -> str:
    noun, nothing = _LATE[verdict.metric]
    total = count_of(verdict.n, noun)
    late = [unit.value_ns for unit in bad.units if unit.value_ns is not None]
    never = sum(1 for unit in bad.units if unit.value_ns is None)
    parts = []
    if late:
        about = _near(late)
        text = f"{len(late):,} of {total} took longer than {duration_text(verdict.limit_ns)}"
        parts.append(text + (f", most of them about {duration_text(about)}" if about is not None else ""))
    if never:
        parts.append(f"{never:,}{'' if late else f' of {total}'} {nothing}")
    return " and ".join(parts)


def _near(values: Sequence[int]) -> float | None:
    """The value round which more than half of them lie; None where they are spread, or too few."""
    if len(values) < FEWEST:
        return None
    middle = _middle(values)
    close = sum(1 for value in values if abs(value - middle) <= _NEAR * middle)
    return middle if close > len(values) / 2 else None


def _middle(values: Sequence[int]) -> float:
    ranked = sorted(values)
    return ranked[statistics.quantile_rank(len(ranked), 0.5) - 1]


def _mostly(reasons: dict[str, int], number: int) -> str:
    if not reasons:
        return ""
    reason, count = max(reasons.items(), key=lambda item: (item[1], item[0]))
    if count == number:
        return f", {'' if number == 1 else 'all '}{printable(reason)}"
    return f", most often {printable(reason)} ({count:,})"


# --- why -----------------------------------------------------------------------------------------------------------------


def _cause(metric: str, bad: _Bad) -> str:
    if metric in {"reconnect", "recovery"}:
        return _of_breaks(metric, bad)
    if metric.startswith("ttft"):
        return _of_waits(bad)
    if metric in {"lost", "doubled"}:
        return _of_numbers(metric, bad)
    if metric == "success":
        return _of_ends(bad)
    return _of_text(bad) if metric == "utf8" else ""


def _holds(rows: Sequence[object], shown: Iterable[bool]) -> bool:
    """Whether enough rows, and most of them, show it."""
    return len(rows) >= FEWEST and sum(shown) >= MOST * len(rows)


def _of_breaks(metric: str, bad: _Bad) -> str:
    rows = bad.breaks
    back = [row for row in rows if row.first_new is not None]
    gone = [row for row in rows if row.first_new is None]
    if len(gone) > len(back):
        return _of_given_up(gone, bad)
    return _of_slow_breaks(back, bad) if metric == "reconnect" else _of_damage(bad)


def _of_given_up(rows: Sequence[BreakRow], bad: _Bad) -> str:
    words = {
        "legacy": "the client never reconnects (profile legacy)",
        "give-up": "the client was told to give up after a cut (on_cut)",
        "no-id": "the service numbers no events to resume from",
        "retries": f"{count_of(bad.client.retries, 'attempt')} in a row failed",
        "status": "the service answered the reconnection with an error",
        "no-content": "the service answered the reconnection with 204",
        "content-type": "the service answered the reconnection with no event stream",
    }
    for reason, text in words.items():
        if _holds(rows, (row.gave_up == reason for row in rows)):
            return text
    told = _said(bad)
    if _holds(rows, (row.gave_up == "inband-error" for row in rows)):
        return told or "the service answered the reconnection with an error event"
    return told


def _of_slow_breaks(rows: Sequence[BreakRow], bad: _Bad) -> str:
    def took(row: BreakRow) -> int:
        return max(_lasted(row), 1)  # type: ignore[return-value]  # these came back

    if _holds(rows, (sum(row.waits_ns) >= MOST * took(row) for row in rows)):
        if bad.client.profile == "browser" and _holds(rows, (row.server_retry_ms is None for row in rows)):
            wait = duration_text(_middle([row.waits_ns[0] for row in rows if row.waits_ns]))
            return f"the server sends no retry hint, so that a browser waits its own {wait}"
        asked = [row.server_retry_ms for row in rows if row.server_retry_ms is not None]
        if bad.client.profile == "browser" and _holds(
            rows, (row.server_retry_ms is not None for row in rows)
        ):
            return f"the server's retry hint asks for {duration_text(_middle(asked) * 1e6)}"
        if _holds(rows, (row.attempts > 1 for row in rows)):
            return "further attempts failed, and the client waited longer before each"
        return "that is the client's own wait before it connects again (client.backoff)"
    if _holds(rows, (_after_sent(row) >= MOST * took(row) for row in rows)):
        return "the service took that long from the request to the first new event"
    return ""


def _after_sent(row: BreakRow) -> int:
    return 0 if row.sent is None or row.first_new is None else row.first_new.ns - row.sent.ns


def _of_waits(bad: _Bad) -> str:
    rows = [each.record for each in bad.streams if each.record.first_token is not None]
    if _holds(rows, (_at_once(row) for row in rows)):
        return "their answers were held back and then came at once: something on the way buffers them"
    parts: tuple[tuple[Callable[[StreamRecord], float], str], ...] = (
        (_before_dispatch, "we started them late: the generator could not keep up with the plan"),
        (_before_headers, "the wait lies before the head of the response"),
        (_after_headers, "the head of the response came at once, its first event late"),
    )
    for share, text in parts:
        if _holds(rows, (share(row) >= MOST for row in rows)):
            return text
    return ""


def _at_once(row: StreamRecord) -> bool:
    first, last, sent = row.first_token, row.last_event, row.sent
    if first is None or last is None or sent is None or row.tokens < _LEAST_TOKENS:
        return False
    return last.ns - first.ns <= (1 - MOST) * (first.ns - sent.ns) and row.breaks == 0


def _share_of_wait(row: StreamRecord, since: int | None, until: int | None) -> float:
    start = row.intended or row.sent
    if start is None or row.first_token is None or since is None or until is None:
        return 0.0
    return (until - since) / max(row.first_token.ns - start.ns, 1)


def _before_dispatch(row: StreamRecord) -> float:
    if row.intended is None:
        return 0.0
    return _share_of_wait(row, row.intended.ns, row.dispatched.ns)


def _before_headers(row: StreamRecord) -> float:
    sent, headers = row.sent, row.headers
    return _share_of_wait(row, None if sent is None else sent.ns, None if headers is None else headers.ns)


def _after_headers(row: StreamRecord) -> float:
    headers, token = row.headers, row.first_token
    return _share_of_wait(row, None if headers is None else headers.ns, None if token is None else token.ns)


def _of_numbers(metric: str, bad: _Bad) -> str:
    rows = [each.record for each in bad.streams]
    if _holds(rows, (row.breaks == 0 for row in rows)):
        return "on connections that never broke"
    whole = [each for each in bad.all if each.received and not each.record.breaks]
    clean = sum(not (each.lost if metric == "lost" else each.doubled) for each in whole)
    if _holds(rows, (row.breaks > 0 for row in rows)) and whole and clean == len(whole):
        after = "what was sent while it was away" if metric == "lost" else "what the client already had"
        verb = "does not send" if metric == "lost" else "sends again"
        return f"only in streams that broke: after a reconnection the service {verb} {after}"
    return ""


def _of_ends(bad: _Bad) -> str:
    streams = [each for each in bad.streams if not each.good]
    rows = [each.record for each in streams]
    if bad.client.profile == "legacy" and _holds(
        rows, (each.outcome in {"cut", "unreachable", "truncated"} for each in streams)
    ):
        return "the client never reconnects (profile legacy)"
    statuses = Counter(row.status for row in rows if row.status is not None and row.status >= 400)
    if statuses:
        status, count = statuses.most_common(1)[0]
        if len(rows) >= FEWEST and count >= MOST * len(rows):
            return f"the service answered {status}"
    return _said(bad) or _of_damage(bad)


def _of_damage(bad: _Bad) -> str:
    """What most streams that are damaged have in common."""
    streams = [each for each in bad.streams if each.outcome == "damaged"]
    if len(streams) < len(bad.streams):
        return ""
    kinds: tuple[tuple[Callable[[Facts], bool], str], ...] = (
        (lambda each: bool(each.doubled), "events came twice"),
        (lambda each: bool(each.lost), "events are lost"),
        (lambda each: bool(each.reordered), "events came out of order"),
        (lambda each: each.ill_formed > 0, "bytes are ill-formed or characters replaced"),
        (lambda each: each.text_exact is False, "the text is not what was meant"),
    )
    what = next((text for shows, text in kinds if _holds(streams, map(shows, streams))), "")
    again = [each.record for each in streams if len(each.record.attempts) > 1]
    if (
        what
        and len(again) == len(streams)
        and not any(attempt.last_event_id for row in again for attempt in row.attempts[1:])
    ):
        return f"{what}, and no reconnection could say where to go on, for want of event ids"
    return what


def _of_text(bad: _Bad) -> str:
    rows = [each.record for each in bad.streams]
    if bad.client.profile == "legacy" and _holds(rows, (row.fffd > 0 for row in rows)):
        return "the client decodes each read alone (profile legacy), and characters were cut in two"
    defects = Counter(kind for row in rows for kind in row.defects)
    if defects:
        kind, count = min(defects.items(), key=lambda item: (-item[1], item[0]))
        if len(rows) >= FEWEST and count >= MOST * len(rows):
            return f"{printable(kind)} in {count:,} of them"
    return ""


_LONGEST_SAID: Final = 120


def _said(bad: _Bad) -> str:
    """What the service itself gave as the reason, where most bad streams got the same one."""
    rows = [each.record for each in bad.streams]
    said = [_message(row.detail) for row in rows]
    kinds = Counter(_kind(text) for text in said if text)
    if not kinds:
        return ""
    kind, count = min(kinds.items(), key=lambda item: (-item[1], item[0]))
    if len(rows) < FEWEST or count < MOST * len(rows):
        return ""
    first = next(text for text in said if text and _kind(text) == kind)
    return f"the reason on record is “{printable(first, _LONGEST_SAID)}”"


def _kind(text: str) -> str:
    """The text without its words that hold a digit: numbers and ids differ from stream to stream."""
    return " ".join(word for word in text[:1_000].split() if not any(char.isdigit() for char in word))


def _message(detail: str) -> str:
    """The message of an error event that is JSON, else the text itself."""
    try:
        told = json.loads(detail)
    except (ValueError, RecursionError):
        return detail
    message = told.get("message") if isinstance(told, dict) else None
    return message if isinstance(message, str) else detail


# --- faults --------------------------------------------------------------------------------------------------------------


def _fault(bad: _Bad) -> str:
    """The fault on the path of most bad streams, and of clearly fewer of the others."""
    rows = [each.record for each in bad.streams]
    if not bad.windows or len(rows) < FEWEST or len(rows) == len(bad.all):
        return ""
    best = ("", 0.0, 0)
    for kind, group in dict.fromkeys((window.kind, window.group) for window in bad.windows):
        spans = Spans(window for window in bad.windows if (window.kind, window.group) == (kind, group))
        hit = sum(spans.met(row) for row in rows)
        share = hit / len(rows)
        if share < MOST or share <= best[1]:
            continue
        among_all = sum(spans.met(each.record) for each in bad.all) / len(bad.all)
        if share - among_all >= APART:
            best = (group or kind, share, hit)
    if best[0]:
        which = "all of them" if best[2] == len(rows) else f"{best[2]:,} of {len(rows):,}"
        return f"{which} had the fault {printable(best[0], 60)} on their path"
    every = Spans(bad.windows)
    anywhere = sum(map(every.met, rows)) / len(rows)
    among_all = sum(every.met(each.record) for each in bad.all) / len(bad.all)
    if not anywhere and among_all:
        return "none of them had a fault on its path"
    if anywhere >= MOST and anywhere - among_all >= APART:
        return f"{share_text(anywhere)} of these {len(rows):,} streams had a fault on their path"
    return ""


class Spans:
    """When windows acted on a path, joined: whether a stream met one takes no longer for a thousand of them."""

    def __init__(self, windows: Iterable[FaultWindow]) -> None:
        self._spans: dict[tuple[str | None, str | None], list[tuple[float, float]]] = {}
        for window in windows:
            healed = float("inf") if window.healed_ns is None else window.healed_ns
            self._spans.setdefault((window.group, window.variant), []).append((window.since_ns, healed))
        for path, spans in self._spans.items():
            self._spans[path] = joined_spans(spans)

    def met(self, row: StreamRecord) -> bool:
        """Whether one of them acted while the stream was open."""
        since, until = row.dispatched.lo_ns, row.ended.hi_ns
        paths = {(row.group, row.variant), (None, row.variant), (row.group, None), (None, None)}
        for path in paths & self._spans.keys():
            spans = self._spans[path]
            last = bisect_right(spans, until, key=operator.itemgetter(0)) - 1
            if last >= 0 and spans[last][1] >= since:
                return True
        return False
