"""K01 to K06: several at once and slow ones, as far as a client can see (checks.md 5.3 "Capacity and safety")."""

from itertools import pairwise
from typing import Final

from sseproof.reports.endpoint.case import NO_STREAM, Case, Check
from sseproof.reports.endpoint.model import Evidence, Outcome, failed, not_applicable, passed, unknown, warned
from sseproof.reports.endpoint.resume import numbered
from sseproof.reports.words import count_of, digits
from sseproof.rundir.text import printable

NOT_ASKED: Final = "it was not asked for"


def _parallel(case: Case) -> Outcome:
    answers = case.all("parallel")
    if not answers:
        return not_applicable(f"{NOT_ASKED} (--parallel)" if case.main.readable else NO_STREAM)
    good = [each for each in answers if each.opened and (each.messages or each.comments)]
    if len(good) == len(answers):
        return passed(
            f"All of {len(answers)} streams at once deliver; browsers open six for each host over HTTP/1.1."
        )
    bad = [each for each in answers if each not in good]
    kinds = sorted(
        {
            f"HTTP {each.status}"
            if each.status not in {None, 200}
            else "silent"
            if each.opened
            else "no headers in time"
            if each.probed.end == "late"
            else each.probed.end
            for each in bad
        }
    )
    return failed(
        f"{len(bad)} of {len(answers)} streams at once bring nothing: {', '.join(kinds)}.",
        case.chain.fix("workers"),
        *(
            Evidence(text=f"stream {each.probed.number}: {each.probed.end}", probe="parallel")
            for each in bad[:3]
        ),
    )


def _h2_streams(_case: Case) -> Outcome:
    return not_applicable("only HTTP/2 shows it, and HTTP/1.1 was examined")


def _slow_reader(case: Case) -> Outcome:
    seen = case.one("slow-reader")
    if seen is None:
        return not_applicable(f"{NOT_ASKED} (--slow-reader)" if case.main.readable else NO_STREAM)
    if not seen.opened:
        return unknown("The slow reader got no stream.", "Try again.")
    numbers = [found for each in seen.ids if (found := numbered(each)) is not None]
    for before, after in pairwise(numbers):
        if after[0] == before[0] and after[1] > before[1] + 1 and _steps_by_one(case):
            return failed(
                f"A reader that paused 10 s lost {count_of(after[1] - before[1] - 1, 'event')}, and nothing says so.",
                "Bound the queue, and close with an error event when it is full.",
                Evidence(text=f"ids {before[1]}, then {after[1]}", probe="slow-reader"),
            )
    if seen.probed.end in {"rst", "fin"}:
        return warned(
            f"A reader that paused 10 s was cut ({seen.probed.end}) after {len(seen.body):,} bytes.",
            "Wait longer for slow readers, or say so with an error event before closing.",
        )
    held = f"{len(seen.body):,} bytes"
    if not numbers or not _steps_by_one(case):
        return unknown(
            f"A reader that paused 10 s got {held}; without numbered ids nobody knows whether all.", ""
        )
    return passed(f"A reader that paused 10 s got {held}, all in order.")


def _steps_by_one(case: Case) -> bool:
    numbers = [numbered(each) for each in case.main.ids]
    known = [each for each in numbers if each is not None]
    return len(known) == len(numbers) > 1 and all(
        after[1] == before[1] + 1 for before, after in pairwise(known)
    )


def _only_inside(what: str) -> Outcome:
    return not_applicable(f"{what} shows only from inside the service")


def _disconnect(_case: Case) -> Outcome:
    return _only_inside("how soon a handler notices that its client left")


def _injection(_case: Case) -> Outcome:
    return _only_inside("whether a payload can inject fields")


def _fairness(case: Case) -> Outcome:
    answers = [each for each in case.all("parallel") if each.opened and each.last_byte_ns is not None]
    rates = []
    for each in answers:
        assert each.last_byte_ns is not None
        rates.append(len(each.body) / max((each.last_byte_ns - each.sent_ns) / 1e9, 1e-3))
    if len(rates) < 2:
        return not_applicable(f"{NOT_ASKED} (--parallel)" if case.main.readable else NO_STREAM)
    low, high = min(rates), max(rates)
    return passed(
        f"Streams at once get {digits(low)} to {digits(high)} bytes a second ({printable(str(len(rates)), 4)} of them)."
    )


CAPACITY: Final = (
    Check("K01", "parallel streams", _parallel),
    Check("K02", "HTTP/2 streams", _h2_streams),
    Check("K03", "slow reader", _slow_reader),
    Check("K04", "disconnect noticed", _disconnect),
    Check("K05", "injection", _injection),
    Check("K06", "fairness", _fairness),
)
