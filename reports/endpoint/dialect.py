"""D01 to D08: the events against the rules of the dialect that they speak (checks.md 5.3 "Dialect", sse.md 6).

Rule: whatever our own look, or a broken connection, kept from being seen accuses nobody here; T08 speaks of broken ones.
"""

from typing import Final

from sseproof.loadtests.dialects import PLAIN
from sseproof.loadtests.dialects.review import Remark, RemarkKind
from sseproof.reports.endpoint.case import NO_STREAM, Case, Check
from sseproof.reports.endpoint.model import (
    Evidence,
    Outcome,
    bytes_at,
    failed,
    not_applicable,
    passed,
    unknown,
    warned,
)
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.words import count_of
from sseproof.rundir.text import printable

SHOWN: Final = 3
BACK_BYTES: Final = 60
"""What is shown of an event: its end, and so much before."""
NUMBERED: Final = "openai-responses"
"""The one dialect whose events are numbered, and whose deltas are repeated as a whole."""


def _closed(case: Case) -> Outcome | None:
    if not case.main.readable:
        return not_applicable(NO_STREAM)
    if not case.main.messages:
        return not_applicable("no event came")
    return None


def _place(seen: Seen, end: int, text: str) -> Evidence:
    """The end of an event, and what stands before it."""
    return bytes_at(seen.body, max(0, end - BACK_BYTES), text, size=BACK_BYTES)


def _recognised(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    told = case.spoken
    if told.name != PLAIN and told.recognised not in {told.name, PLAIN}:
        return warned(
            f"Read as {told.name}, as you said; its events look like {told.service}.", "Check --dialect."
        )
    if told.service:
        return passed(f"The events are those of {told.service}.")
    if told.name != PLAIN:
        return passed(f"Read as {told.name}, as you said; nothing contradicts it.")
    return passed("Plain events, of no dialect known here.")


def _terminal(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    seen, told = case.main, case.spoken
    ending = told.review.ending
    limited = " A length limit ended it." if told.review.limited else ""
    if ending == "marker":
        shown = f" ({told.terminal})" if told.terminal is not None else ""
        return passed(f"The terminal marker came{printable(shown, 60)}.{limited}")
    if ending == "endless":
        return not_applicable("nothing ends such a stream")
    if told.terminal == "none":
        return not_applicable("you said that there is no terminal marker")
    if not seen.ended_by_server or seen.cut:
        return not_applicable("the end of the stream was not seen")
    if ending == "error":
        return not_applicable("an error ended the stream (D03)")
    if ending == "unknown":
        return unknown(
            "The stream ended, and no terminal marker is known: a stream that was cut short would look the same.",
            "Name it with --terminal event:TYPE or data:TEXT, or say --terminal none; better, let the service send one.",
        )
    last = _place(seen, seen.messages[-1].end, "the last event")
    if ending == "implied":
        return warned(
            f"Every choice has its finish_reason, and data: [DONE] is missing.{limited}",
            "Send data: [DONE] last: clients wait for it.",
            last,
        )
    if ending == "bare":
        return warned(
            "The stream ended by data: [DONE], and a choice had no finish_reason.",
            "Say why each choice ended.",
            last,
        )
    return failed(
        f"The stream ended without its marker ({told.review.marker if told.terminal is None else printable(told.terminal, 60)}): "
        "clients take it for cut short.",
        "Send it always, also after an error.",
        last,
    )


def _errors(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    told = case.spoken.review
    if told.errors:
        first = told.errors[0]
        code = f" ({first.code})" if first.code else ""
        return failed(
            f"An error{code} came as an event, after status 200 and {count_of(told.tokens, 'token')}.",
            "Answer with a status code where nothing was sent yet; look for its cause in the service's log.",
            *(_place(case.main, each.end, "the error's end") for each in told.errors[:SHOWN]),
        )
    if told.declined:
        return warned("A content filter ended the answer.", "Ask something harmless, to see a whole one.")
    return passed("No error in the stream.")


def _remarks(case: Case, kind: RemarkKind) -> list[Remark]:
    return [each for each in case.spoken.review.remarks if each.kind == kind]


def _judged(case: Case, kind: RemarkKind, good: str, fix: str) -> Outcome:
    """Fails with the first remark of a kind."""
    found = _remarks(case, kind)
    if not found:
        return passed(good)
    more = f" ({len(found)} such places)" if found[1:] else ""
    return failed(
        f"{found[0].told[0].upper()}{found[0].told[1:]}{more}.",
        fix,
        *(_place(case.main, each.end, "the event's end") for each in found[:SHOWN]),
    )


def _order(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    if case.spoken.name == PLAIN:
        return not_applicable("plain events have no order of their own")
    return _judged(
        case, "order", "The events come in their order.", "Send each event where the dialect has it."
    )


def _numbers(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    if case.spoken.name != NUMBERED:
        return not_applicable("the events have no numbers of the dialect's own")
    return _judged(
        case, "sequence", "The numbers go up one by one.", "Number every event, from 0, without a gap."
    )


def _sums(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    if case.spoken.name != NUMBERED:
        return not_applicable("the dialect does not repeat the whole")
    return _judged(
        case,
        "sum",
        "The deltas add up to the whole.",
        "Look for lost deltas, or a text that is changed at the end.",
    )


def _usage(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    if case.spoken.name != "openai":
        return not_applicable("only chat completions have usage frames")
    if _remarks(case, "usage"):
        return passed("A usage frame without choices came: clients must not look at choices[0] blindly.")
    return passed("No usage frame without choices.")


def _heartbeats(case: Case) -> Outcome:
    if (closed := _closed(case)) is not None:
        return closed
    told = case.spoken
    if told.name == PLAIN:
        return not_applicable("plain events: T05 looks at their heartbeats")
    if told.review.noise:
        return warned(
            f"{count_of(told.review.noise, 'event')} of the kind that carries data says nothing.",
            "Use a comment (`: ping`), or the dialect's own ping.",
        )
    comments = len(case.main.comments)
    if not (comments or told.review.heartbeats):
        return not_applicable("no heartbeat came")
    return passed(
        f"{count_of(comments, 'comment')}, {count_of(told.review.heartbeats, 'heartbeat')} of the dialect's own."
    )


DIALECT: Final = (
    Check("D01", "dialect", _recognised),
    Check("D02", "terminal marker", _terminal),
    Check("D03", "error in the stream", _errors),
    Check("D04", "order of events", _order),
    Check("D05", "sequence numbers", _numbers),
    Check("D06", "sum of deltas", _sums),
    Check("D07", "usage frames", _usage),
    Check("D08", "kind of heartbeat", _heartbeats),
)
