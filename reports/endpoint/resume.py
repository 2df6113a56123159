"""R01 to R05: what a client finds when it comes back (checks.md 5.3 "Resume")."""

import re
from itertools import pairwise
from typing import Final

from sseproof.reports.endpoint.case import NO_STREAM, Case, Check
from sseproof.reports.endpoint.model import Evidence, Outcome, failed, not_applicable, passed, unknown, warned
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.words import count_of, digits, duration_text
from sseproof.rundir.text import printable

DEFAULT_RETRY_MS: Final = 3_000
FLAPPING_PER_MINUTE: Final = 2.0
_NUMBER: Final = re.compile(r"(\d{1,18})$")
_LOSS: Final = re.compile(r"reset|lost|loss|gap|expired|unknown|not.?found|too.?old|missed", re.IGNORECASE)
_KEEP: Final = "Keep a window of events, keyed by their ids, and begin behind the one that comes back."


def _stream(case: Case) -> Outcome | None:
    if not case.main.readable:
        return not_applicable(NO_STREAM)
    if not case.main.ids:
        return not_applicable("no event has an id")
    return None


def numbered(identity: str) -> tuple[str, int] | None:
    """An id's stem and the number at its end."""
    match = _NUMBER.search(identity)
    return None if match is None else (identity[: match.start()], int(match[1]))


def _resume(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    again = case.one("resume")
    if again is None:
        return not_applicable(f"not resumed: {case.skipped('resume')}")
    sent = again.probed.last_event_id or ""
    shown = printable(sent, 60)
    if again.status == 204:
        return passed(f"After id {shown} the server says that there is nothing more (204).")
    if not again.opened:
        what = "no answer" if again.status is None else f"HTTP {again.status}"
        return failed(f"Resuming after id {shown} gets {what}.", _KEEP)
    if not again.ids:
        if again.messages:
            return failed(f"Resuming after id {shown} gives events without ids.", _KEEP)
        return unknown(f"Resuming after id {shown} gave no event in time.", "Try again when events flow.")
    first = again.ids[0]
    evidence = Evidence(
        text=f"Last-Event-ID {shown}, the first event after it {printable(first, 60)}", probe="resume"
    )
    ids = case.main.ids
    at = ids.index(sent)
    if _LOSS.search(again.messages[0].type):
        return warned(
            f"The id {shown} is not known any more, and the stream says so ({printable(again.messages[0].type, 40)}).",
            "Keep a larger window of events.",
            evidence,
        )
    if first == sent:
        return warned(
            f"The event {shown} comes again: a duplicate.", "Begin behind the id that comes back.", evidence
        )
    if at + 1 < len(ids) and first == ids[at + 1]:
        return passed(f"Continues behind the id {shown}.", evidence)
    if first in ids[1:at]:
        return warned(
            f"{count_of(at + 1 - ids.index(first), 'event')} up to the id {shown} come again: duplicates.",
            "Begin behind the id that comes back.",
            evidence,
        )
    if first in ids[:at]:
        return failed("The id is ignored: the stream begins anew.", _KEEP, evidence)
    if first in ids:
        return failed(
            f"{count_of(ids.index(first) - at - 1, 'event')} behind the id are left out.", _KEEP, evidence
        )
    old, new = numbered(sent), numbered(first)
    if at + 1 == len(ids) and old is not None and new is not None and (old[0], old[1] + 1) == new:
        return passed(f"Continues behind the id {shown}.", evidence)
    if old is not None and new is not None and old[0] == new[0] and new[1] > old[1]:
        return failed("The id is ignored: the stream begins at now, with a gap.", _KEEP, evidence)
    return failed("The id is ignored: another stream begins.", _KEEP, evidence)


def _unknown_id(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    again = case.one("bogus-id")
    if again is None:
        return not_applicable(f"an unknown id was not sent: {case.skipped('bogus-id')}")
    if again.status is None:
        return failed("An unknown id gets no answer.", "Send a reset event, or begin with the oldest.")
    if again.status >= 500:
        return failed(
            f"An unknown id gets HTTP {again.status}.", "Send a reset event, or begin with the oldest."
        )
    if again.status != 200:
        return passed(f"An unknown id is refused visibly, with HTTP {again.status}.")
    if again.get("last-event-id"):
        return passed("The answer says by Last-Event-ID where it begins.")
    first = again.messages[0] if again.messages else None
    if first is not None and (_LOSS.search(first.type) or _LOSS.search(first.data[:2_000])):
        return passed(f"The first event says that something is missing ({printable(first.type, 40)}).")
    if not again.ids:
        if first is None:
            return unknown("After an unknown id no event came in time.", "Try again when events flow.")
        return warned(
            "An unknown id is passed over in silence.", "Send a reset event, or begin with the oldest."
        )
    opening, own = numbered(case.main.ids[0]), numbered(again.ids[0])
    if again.ids[0] == case.main.ids[0] or (own is not None and opening is not None and own[1] == opening[1]):
        return passed("After an unknown id the stream begins with its oldest event.")
    return warned(
        "An unknown id is passed over in silence: the gap is not said.",
        "Send a reset event, or begin with the oldest.",
    )


def _end_of_resource(case: Case) -> Outcome:
    if (closed := _stream(case)) is not None:
        return closed
    if not case.main.ended_by_server:
        return not_applicable("the stream did not end by itself")
    again = case.one("resume", 2)
    if again is None:
        return not_applicable(f"not resumed: {case.skipped('resume')}")
    if again.status == 204:
        return passed("A finished stream answers 204.")
    if again.status is None:
        return failed("A finished stream gives no answer to who comes back.", "Answer 204.")
    if again.status != 200:
        return passed(f"A finished stream answers HTTP {again.status}, which ends reconnecting.")
    if not any(block.fields for block in again.lines.blocks) and again.ended_by_server:
        return failed(
            "A finished stream answers 200 and ends at once: clients come back for ever.", "Answer 204."
        )
    if not again.messages and not again.ended_by_server:
        return passed("After the end the stream waits for new events.")
    return warned("A finished stream sends events to who comes back: EventSource never stops.", "Answer 204.")


def _flapping(case: Case) -> Outcome:
    seen = case.main
    if not seen.readable:
        return not_applicable(NO_STREAM)
    if not seen.ended_by_server:
        return not_applicable("the stream did not end by itself")
    if case.spoken.review.ending in {"marker", "implied", "bare"}:
        return not_applicable("an answer that says its end is not taken up again")
    again = case.one("resume", 2)
    if again is not None and again.status == 204:
        return not_applicable("the server ends reconnecting by 204")
    retry_ms = seen.retries[-1].ms if seen.retries else DEFAULT_RETRY_MS
    lasted_ns = seen.probed.ended_ns - seen.sent_ns
    rate = 60 / (lasted_ns / 1e9 + max(retry_ms, 1) / 1000)
    text = f"Streams of {duration_text(lasted_ns)} and a wait of {retry_ms} ms: {digits(rate)} reconnections a minute"
    if rate < FLAPPING_PER_MINUTE:
        return passed(f"{text}.")
    return warned(
        f"{text}, for clients that come back as EventSource does.",
        "Keep the stream open with heartbeats, or end it for good (204, or a terminal marker that clients know).",
    )


def _exactness(case: Case) -> Outcome:
    cuts = case.all("cut")
    if not cuts:
        return not_applicable(case.capture.skipped.get("cut", "cuts are made with --resume"))
    if (closed := _stream(case)) is not None:
        return closed
    lost = doubled = 0
    places: list[Evidence] = []
    for before, after in pairwise(cuts):
        last = after.probed.last_event_id or ""
        step = _step(case.main, before, last, after)
        if step is None:
            return unknown("The ids do not say which event follows which.", "Use numbers that go up by one.")
        lost += max(0, step)
        doubled += max(0, -step)
        if step:
            first = printable(after.ids[0], 60) if after.ids else "no event"
            places.append(Evidence(text=f"behind {printable(last, 60)} came {first}", probe="cut"))
    count = count_of(len(cuts) - 1, "cut")
    if lost:
        return failed(
            f"{count_of(lost, 'event')} lost over {count}.",
            "Commit an id only after its data is written.",
            *places,
        )
    if doubled:
        return warned(
            f"{count_of(doubled, 'event')} doubled over {count}.",
            "Begin behind the id that comes back.",
            *places,
        )
    return passed(f"Nothing lost and nothing doubled over {count}.")


def _step(main: Seen, before: Seen, last: str, after: Seen) -> int | None:
    """Events lost (positive) or doubled (negative) between two connections; None when it can't be told."""
    if not after.ids:
        return 0 if after.status in {200, 204} else None
    first = after.ids[0]
    if last in main.ids and first in main.ids:
        return main.ids.index(first) - main.ids.index(last) - 1
    numbers = [numbered(each) for each in before.ids]
    known = [each for each in numbers if each is not None]
    old, new = numbered(last), numbered(first)
    steady = len(known) == len(numbers) and all(
        after_[1] == before_[1] + 1 and after_[0] == before_[0] for before_, after_ in pairwise(known)
    )
    if old is None or new is None or not steady:
        return None
    if old[0] != new[0]:
        return max(1, new[1] - 1)  # another stream begins: the rest of this one is lost
    return new[1] - old[1] - 1


RESUME: Final = (
    Check("R01", "resume", _resume),
    Check("R02", "unknown id", _unknown_id),
    Check("R03", "end of a resource", _end_of_resource),
    Check("R04", "flapping", _flapping),
    Check("R05", "exactness over cuts", _exactness),
)
