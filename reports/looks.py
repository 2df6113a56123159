"""Verdicts of a run that goes on until its claims are decided: at registered looks only, with a bounded error; pure.

Rules (measurement.md 3.7):
- Peeking at a count again and again passes what is not true: at exactly 98 % ten looks at 5 % each err in 14 runs of 100.
  So the looks are registered in plan.json before the run, and each may spend its own part of the claim's error: it is
  judged at a confidence of 1 - part * (1 - confidence). Added up, all looks together err no more often than one verdict.
- A look is defined by stream numbers, not by time: when every stream below its number has ended, and by these alone. What
  ends sooner, good or bad, does not come in earlier.
- The first look that decides a claim is its verdict. Later streams are on record and change nothing.
- The planned end of the run is the last look. An end that came from somewhere else (an interrupt, another claim that was
  decided) is none: what no look decided is unknown then.
- `= 100 %`, `= 0` and a peak keep the whole confidence at every look: they pass only while no violation was ever seen,
  and the chance of that is greatest at the first look with enough units. One violation fails them whenever it came: in a
  later stream than those of the look that passed, and in a run that ended before its planned end.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from sseproof.reports.claims import Claim
from sseproof.reports.facts import Facts, History
from sseproof.reports.verdicts import LookResult, Verdict, judge_claim
from sseproof.reports.words import count_of, share_text
from sseproof.rundir.rows import LookPlan

LOOKS: Final = 5
"""The planned number, twice, four and eight times as many, and the end."""
FIRST_SHARE: Final = 0.5
"""Of the error, for the number that was planned: a run that is decided there pays little for the right to go on."""
GROWTH: Final = 2


def planned_looks(streams: int) -> list[LookPlan]:
    """The looks of a run that was planned for so many streams of each variant."""
    rest = (1.0 - FIRST_SHARE) / (LOOKS - 1)
    numbers = [streams * GROWTH**power for power in range(LOOKS - 1)]
    shares = [FIRST_SHARE] + [rest] * (LOOKS - 2)
    looks = [LookPlan(streams=n, error_share=share) for n, share in zip(numbers, shares, strict=True)]
    return [*looks, LookPlan(error_share=rest)]


def confidence_at(claim: Claim, look: LookPlan) -> float:
    """The one-sided confidence at which this look judges the claim."""
    if claim.form in {"all", "none"}:
        return claim.confidence
    return 1.0 - (1.0 - claim.confidence) * look.error_share


def judge_at_looks(claim: Claim, history: History, facts: Sequence[Facts]) -> list[Verdict]:
    """The verdicts on a claim, each from the first look that decides it; of a run without looks, from its end.

    Never raises: a check that fails makes its verdict unknown.
    """
    if not history.plan.looks:
        return judge_claim(claim, history, facts)
    answers: list[Verdict] | None = None
    for number, look in enumerate(history.plan.looks, 1):
        found = _at_look(claim, look, history, facts)
        if look.streams is None and not _ended_as_planned(history):
            found = [_undecided(each, history) for each in found]
        for each in found:
            _note(each, look, number, history)
        if answers is None:
            answers = found
            continue
        answers = [
            before if _decided(before) and not (_violated(after) and before.verdict == "pass") else after
            for before, after in zip(answers, found, strict=True)
        ]
    return answers or []


def exit_is_settled(verdicts: Sequence[Sequence[Verdict]]) -> bool:
    """Whether further streams could change the exit code no more: a claim that counts fails, or all are decided."""
    counting = [each for verdict in verdicts for each in verdict if each.counts]
    return any(each.verdict == "fail" for each in counting) or all(_decided(each) for each in counting)


def complete(history: History, look: LookPlan, variant: str | None) -> bool:
    """Whether every stream of the variant that this look counts has ended, or was never started by us."""
    if look.streams is None:
        return True
    ended = {record.stream for record in history.streams if record.variant == variant}
    ended |= {start.stream for start in history.dropped if start.variant == variant}
    return ended.issuperset(range(look.streams))


def _decided(verdict: Verdict) -> bool:
    return verdict.verdict != "unknown"


def _violated(verdict: Verdict) -> bool:
    """Whether one bad unit is enough, and there is one: no number of good ones, early or late, takes that back."""
    return verdict.verdict == "fail" and verdict.form in {"all", "none"}


def _at_look(claim: Claim, look: LookPlan, history: History, facts: Sequence[Facts]) -> list[Verdict]:
    """What the streams of this look say; unknown for the variants that have not all of them."""
    mine = structs.replace(claim, confidence=confidence_at(claim, look))
    limit = look.streams
    if limit is None:
        return judge_claim(mine, history, facts)
    seen = structs.replace(
        history,
        streams=[row for row in history.streams if row.stream < limit],
        breaks=[row for row in history.breaks if row.stream < limit],
        unfinished=[row for row in history.unfinished if row.stream < limit],
        dropped=[row for row in history.dropped if row.stream < limit],
    )
    found = judge_claim(mine, seen, [each for each in facts if each.record.stream < limit])
    return [each if complete(history, look, each.variant) else _without_look(each) for each in found]


def _without_look(verdict: Verdict) -> Verdict:
    """A look that was not reached says nothing."""
    verdict.verdict, verdict.code = "unknown", "too-few"
    return verdict


def _ended_as_planned(history: History) -> bool:
    """Whether the load ended when the plan said, and not because something was seen."""
    if history.how != "finished" or history.run is None or history.run.aborted is not None:
        return False
    return not any(row.admission_end == "decided" for row in history.generator)


def _undecided(verdict: Verdict, history: History) -> Verdict:
    """What no look decided, in a run that ended before its planned end."""
    if not _decided(verdict) or _violated(verdict):
        return verdict
    verdict.verdict = "unknown"
    verdict.code = "too-few" if history.how == "finished" else "interrupted"
    verdict.sentence = (
        "No registered look decided it, and the run ended before its planned end: what it shows now is no look. "
        f"{verdict.sentence}"
    )
    verdict.next = "Run again without --until-decided, or until its planned end (--max-duration)."
    verdict.next_run = None
    return verdict


def _note(verdict: Verdict, look: LookPlan, number: int, history: History) -> None:
    total = sum(record.variant == verdict.variant for record in history.streams)
    counted = total if look.streams is None else min(look.streams, total)
    verdict.look = LookResult(
        number=number, of=len(history.plan.looks), streams=counted, confidence=verdict.confidence
    )
    if not _decided(verdict):
        return
    if look.streams is None and _violated(verdict) and not _ended_as_planned(history):
        verdict.sentence = f"{verdict.sentence} One violation fails at every moment, registered look or not."
        return
    where = "at the end" if look.streams is None else f"after the first {count_of(counted, 'stream')}"
    later = total - counted
    text = f"Look {number} of {len(history.plan.looks)}, {where}, at {share_text(verdict.confidence)}"
    left = f"; {count_of(later, 'later stream')} not counted" if later > 0 else ""
    verdict.sentence = f"{verdict.sentence} {text}{left}."
