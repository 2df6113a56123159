"""The history of a run as read, and what is known about each of its streams: pure functions of rows.

Rules:
- Loss has a truth or it is unknown (design.md decision 11). With witness rows: numbers meant, below the last one received,
  never received. For subscribers of one topic: what others of them received (`topics`). With a sequence alone: what the
  client counted. Without any: None, never 0.
- Loss and damage do not hide each other: the text is compared with the text of exactly the events that came. Streams
  without ids are compared as a prefix of what was meant, then of what was written.
- A live answer has no script: its loss is judged by the numbers that the server wrote, its text by the digest of the whole.
  Whether a length limit or a content filter ended it is the model's word, which the server passes on.
- A stream that ended well but in which something is known to be lost, doubled, out of order or ill-formed is `damaged`;
  one that ended cleanly before the last number the server meant is `truncated`.
- A character that a cut connection left unfinished was never handed to the user and is no damage.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from sseproof.loadtests.dialects import PLAIN
from sseproof.loadtests.dialects.models import OPENAI_DECLINED, OPENAI_LIMITED
from sseproof.loadtests.settings import Target
from sseproof.loadtests.sse import ILL_FORMED
from sseproof.reference_server.script import Script
from sseproof.reports.clocks import Clocks
from sseproof.reports.lean import Witnessed
from sseproof.reports.phases import Phases
from sseproof.reports.topics import TopicTruth, merged, numbered_by_the_service, topic_truths
from sseproof.rundir.rows import (
    SUCCESSES,
    AttemptEnd,
    BreakRow,
    BrowserRow,
    FaultRow,
    GeneratorRow,
    MarkRow,
    Outcome,
    Plan,
    RunInfo,
    ScriptSpec,
    StartRow,
    StreamRecord,
    VariantPlan,
)
from sseproof.rundir.units import from_raw

How = Literal["finished", "interrupted", "terminated", "failed", "killed"]
"""How the run ended; *killed* is a run without an end on record (or one that still runs)."""

Truth = Literal["witness", "subscribers", "sequence"]
"""Who tells what was lost: the server's own rows, other subscribers of the topic, or the numbers alone."""
Knowledge = Literal["lost", "doubled", "order", "text", "truncation"]
KNOWLEDGE: Final[tuple[Knowledge, ...]] = ("lost", "doubled", "order", "text", "truncation")

SERVER_SEQUENCE: Final = "id"
SERVER_TEXT: Final = "json:text"
"""How a target has to be read for its numbers and text to be those of the reference server's script."""

_CUT_ENDS: Final[frozenset[AttemptEnd]] = frozenset(
    {
        "fin",
        "rst",
        "protocol",
        "headers-timeout",
        "first-event-timeout",
        "idle-timeout",
        "total-timeout",
        "stopped",
    }
)
"""Ends in the middle of something: a character that one of them cuts was never handed to the user."""

_Ranges = list[tuple[int, int]]


class History(Struct, kw_only=True):
    """Everything the checks may look at; rows in the order they were written, instants by the master's clock."""

    plan: Plan
    run: RunInfo | None = None
    """None when run.json is missing."""
    how: How = "killed"
    starts: int = 0
    """Streams that were dispatched, warm-up left out."""
    streams: list[StreamRecord] = []
    unfinished: list[StartRow] = []
    """Dispatched, and no record of an end."""
    dropped: list[StartRow] = []
    """Never dispatched by us."""
    warmup: int = 0
    breaks: list[BreakRow] = []
    faults: list[FaultRow] = []
    witness: dict[str, list[Witnessed]] = {}
    """By truth id, in the order of connections."""
    generator: list[GeneratorRow] = []
    marks: list[MarkRow] = []
    browsers: list[BrowserRow] = []
    """How the pages were drawn; empty where the users are Locust's."""
    outages: list[tuple[int, int]] = []
    """When our own fault engine was broken: from when it was last well until streams had a clean way again."""
    phases: Phases = msgspec.field(default_factory=Phases)
    """Which streams count in which part of the load; finished ones and their breaks have it in their rows."""
    clocks: Clocks = msgspec.field(default_factory=Clocks)
    """Of workers on other machines: what comparing with another clock adds to a bracket."""
    problems: list[str] = []
    """Sentences about the record itself: what is missing, torn, doubled."""
    missing: list[str] = []
    """Row files that a whole run directory has and this one lacks, or has not whole, without their ending."""
    torn: dict[str, int] = {}
    """Damaged places in each row file."""
    hidden: int = 0
    """So many streams may have started of which no row tells; they are in no count, and no claim passes without them."""


class Facts(Struct, kw_only=True):
    """What is known about one finished stream; None is unknown, never 0."""

    record: StreamRecord
    outcome: Outcome
    """The client's outcome, refined by what only truth can tell."""
    lost: int | None = None
    truth: Truth | None = None
    """Who tells it; None without a truth."""
    witnessed: float | None = None
    """Of a stream that subscribers witness: the share of its numbers that others witnessed."""
    shared_numbers: bool = False
    """The service numbers the events of all its streams together, so that holes tell nothing of what was lost."""
    doubled: int | None = None
    reordered: int | None = None
    text_exact: bool | None = None
    """The user's text is byte for byte what was meant; None without a truth."""
    ill_formed: int = 0
    """Places with ill-formed bytes that reached the user, and U+FFFD where no truth explains them."""
    truncation_known: bool = False
    """A missing end would have shown."""
    failed: str = ""
    """The class of the error that stopped this stream's check."""

    @property
    def received(self) -> bool:
        """Whether any event came, without which there is nothing to judge but the outcome."""
        return self.record.events > 0

    @property
    def intact(self) -> bool:
        """Text and bytes as they were meant, as far as that is known."""
        return self.ill_formed == 0 and self.text_exact is not False

    @property
    def good(self) -> bool:
        """Ended well."""
        return self.outcome in SUCCESSES

    def knows(self, what: Knowledge) -> bool:
        """Whether this stream could have shown that kind of damage."""
        if what == "lost":
            return self.lost is not None
        if what == "doubled":
            return self.doubled is not None
        if what == "order":
            return self.reordered is not None
        if what == "text":
            return self.text_exact is not None
        return self.truncation_known or self.record.kind == "subscription"


def all_facts(history: History) -> list[Facts]:
    """The facts of every finished stream, in the order of the rows; a check that raises marks its stream `failed`."""
    targets = {variant.name: _target(variant) for variant in history.plan.variants}
    topics = topic_truths(history.streams)
    shared = numbered_by_the_service(history.streams)
    return [
        _guarded_facts(
            record,
            history.witness.get(record.truth_id or "", []),
            targets.get(record.variant),
            topics.get((record.variant, record.stream)),
            shared_numbers=record.variant in shared and record.topic is None,
        )
        for record in history.streams
    ]


def stream_facts(
    record: StreamRecord,
    witness: Sequence[Witnessed],
    target: Target | None,
    topic: TopicTruth | None = None,
    *,
    shared_numbers: bool = False,
) -> Facts:
    """The facts of one finished stream.

    They come from the client's row, the witness's rows, the dialect it was read with, and what other subscribers of its
    topic, or other streams of a service that numbers all together, received.
    """
    facts = Facts(
        record=record,
        outcome=_undamaged(record),
        lost=record.lost,
        truth=None if record.lost is None else "sequence",
        doubled=record.doubled,
        reordered=record.reordered,
        truncation_known=target is not None and _says_its_end(target),
    )
    if topic is not None:
        facts.lost, facts.truth = topic.lost, None if topic.lost is None else "subscribers"
        facts.witnessed = topic.witnessed / topic.seen
    if shared_numbers and record.lost is not None:
        facts.lost, facts.truth, facts.shared_numbers = None, None, True
    spec = next((row.script for row in witness if row.script is not None), None)
    if spec is not None and target is not None:
        _add_truth(facts, witness, spec, target)
    elif witness and target is not None:
        _add_live_truth(facts, witness, target)
    facts.ill_formed = _ill_formed(record, explained=facts.text_exact is True)
    _refine(facts)
    return facts


def client_facts(record: StreamRecord) -> Facts:
    """What the client's row alone tells of a finished stream, while the run lasts and no other has been read."""
    return _guarded_facts(record, [], None, None)


def _guarded_facts(
    record: StreamRecord,
    witness: Sequence[Witnessed],
    target: Target | None,
    topic: TopicTruth | None,
    *,
    shared_numbers: bool = False,
) -> Facts:
    try:
        return stream_facts(record, witness, target, topic, shared_numbers=shared_numbers)
    except Exception as error:  # noqa: BLE001  # Jepsen's check-safe: a check that raises is unknown, not a crash
        return Facts(record=record, outcome=record.outcome, failed=type(error).__name__)


def _target(variant: VariantPlan) -> Target:
    return from_raw(variant.target, Target)


def _says_its_end(target: Target) -> bool:
    """Whether its answers say when they are over; the dialects of model services do."""
    return target.terminal not in {None, "none"} or target.dialect not in {None, PLAIN}


def _add_truth(facts: Facts, witness: Sequence[Witnessed], spec: ScriptSpec, target: Target) -> None:
    """Loss, text and truncation from what the server meant."""
    record = facts.record
    script = Script(spec)
    if not script.endless and record.kind == "answer":
        facts.truncation_known = True
    if target.sequence == SERVER_SEQUENCE and record.ids:
        if not record.ids_capped:  # else the client's own count is right and the ranges are only a beginning
            _count_lost(facts, script.last, _first_meant(witness))
            facts.truth, facts.witnessed = "witness", None
            if target.text == SERVER_TEXT and not record.reordered:
                facts.text_exact = _has_text_of(record, script)
    elif record.events and target.text == SERVER_TEXT:
        _text_against_script(facts, witness, script)
        facts.truth = "witness" if facts.lost is not None else facts.truth


def _first_meant(witness: Sequence[Witnessed]) -> int:
    """The first number that was meant for this stream: who subscribes to a topic comes in between."""
    first = witness[0]
    return first.meant_first if first.connection == 1 and first.meant_first is not None else 1


def _count_lost(facts: Facts, last_meant: int | None, first: int) -> None:
    """Loss by numbers, where events `first` to `last_meant` were meant (None: without end, or nobody knows)."""
    record = facts.record
    last = record.ids[-1][1]
    if last_meant is not None and last < last_meant:
        if record.end == "terminal":
            last = (
                last_meant - 1
            )  # the terminal event came, without a number of its own in the client's dialect
        elif facts.outcome in SUCCESSES and record.kind == "answer":
            facts.outcome = "truncated"
    received = sum(high - max(low, first) + 1 for low, high in record.ids if high >= first)
    facts.lost = max(last - first + 1, 0) - received


def _has_text_of(record: StreamRecord, script: Script) -> bool:
    """Whether the user's text is that of exactly the numbers received."""
    if record.ids[0][0] < 1 or (script.last is not None and record.ids[-1][1] > script.last):
        return False  # numbers that were never meant
    return _is_text(record, script.text_of(record.ids))


def _text_against_script(facts: Facts, witness: Sequence[Witnessed], script: Script) -> None:
    """A stream without ids: its text must be the beginning of what was meant, or of what was written."""
    record = facts.record
    meant = _meant_text(script, record.text_chars)
    if _is_text(record, meant[: record.text_chars]):
        facts.text_exact, facts.doubled, facts.reordered, facts.lost = True, 0, 0, 0
        if script.last is not None and record.text_chars < len(meant):
            if record.end == "terminal":
                facts.lost = _tokens_after(script, record.text_chars, script.last)
            elif facts.outcome in SUCCESSES and record.kind == "answer":
                facts.outcome = "truncated"
        return
    written = merged(witness[-1].written)
    if _is_text(record, script.text_of(written)[: record.text_chars]):
        facts.text_exact, facts.doubled, facts.reordered = True, 0, 0
        received = written if record.end == "terminal" else _up_to(script, written, record.text_chars)
        facts.lost = _holes(received)
        return
    facts.text_exact = False  # lost, doubled or damaged: without numbers nobody can tell which


def _add_live_truth(facts: Facts, witness: Sequence[Witnessed], target: Target) -> None:
    """Loss and text of a live answer, which no script foretold: from what the server wrote and how that ended.

    A restarted answer is another one; what came before is discarded by the client too. The text is known for the whole
    answer only: where some of it is missing, whether the rest is exact stays unknown.
    """
    record = facts.record
    began = max((place for place, row in enumerate(witness) if row.meant_first == 1), default=0)
    rows = witness[began:]
    written = merged([each for row in rows for each in row.written])
    end = next((row.live for row in rows if row.live is not None and row.live.last is not None), None)
    last_meant = None if end is None else end.last
    if not written:
        return
    if end is not None and record.end == "terminal" and facts.outcome == "complete":
        if end.said in OPENAI_DECLINED:
            facts.outcome = "declined"
        elif end.said in OPENAI_LIMITED:
            facts.outcome = "complete-limited"
    if target.sequence == SERVER_SEQUENCE and record.ids:
        if record.ids_capped or record.ids[-1][1] > written[-1][1]:
            return
        _count_lost(facts, last_meant, 1)
        facts.truth, facts.witnessed = "witness", None
        whole = last_meant is not None and record.ids[-1][1] >= last_meant - 1 and facts.lost == 0
        if end is not None and whole and target.text == SERVER_TEXT and not record.reordered:
            facts.text_exact = record.text_sha256 == end.text_sha256
    elif end is not None and record.end == "terminal" and target.text == SERVER_TEXT:
        facts.text_exact = record.text_sha256 == end.text_sha256
        if facts.text_exact:
            facts.truth, facts.lost, facts.doubled, facts.reordered = "witness", 0, 0, 0


def _meant_text(script: Script, chars: int) -> str:
    """The whole text; of an endless script at least `chars` characters."""
    if not script.endless:
        return script.full_text()
    last = 64
    while len(text := script.text_of([(1, last)])) < chars:
        last *= 2
    return text


def _is_text(record: StreamRecord, expected: str) -> bool:
    encoded = expected.encode()
    return (
        len(encoded) == record.text_bytes
        and len(expected) == record.text_chars
        and hashlib.sha256(encoded).hexdigest() == record.text_sha256
    )


def _tokens_after(script: Script, chars: int, last_meant: int) -> int:
    """How many events with text were meant after the first `chars` characters."""
    count = 0
    position = 0
    for number in range(1, last_meant + 1):
        text = script.text(number)
        position += len(text)
        count += bool(text) and position > chars
    return count


def _up_to(script: Script, ranges: _Ranges, chars: int) -> _Ranges:
    """The ranges, ended with the event in which the first `chars` characters end."""
    kept: _Ranges = []
    position = 0
    for low, high in ranges:
        for number in range(low, high + 1):
            if position >= chars:
                return kept
            position += len(script.text(number))
            if kept and kept[-1][1] == number - 1:
                kept[-1] = (kept[-1][0], number)
            else:
                kept.append((number, number))
    return kept


def _holes(ranges: _Ranges) -> int:
    """Numbers from 1 to the last that are in no range."""
    return ranges[-1][1] - sum(high - low + 1 for low, high in ranges) if ranges else 0


def _ill_formed(record: StreamRecord, *, explained: bool) -> int:
    """Ill-formed bytes, and U+FFFD characters unless the text is known to be exact."""
    cut = any(attempt.end in _CUT_ENDS for attempt in record.attempts) or record.end in _CUT_ENDS
    count = sum(
        times
        for kind, times in record.defects.items()
        if kind in ILL_FORMED and not (kind == "unterminated-character" and cut)
    )
    return count if explained else count + record.fffd


def _undamaged(record: StreamRecord) -> Outcome:
    """How the stream ended, before damage is looked at."""
    if record.outcome != "damaged":
        return record.outcome
    return "held" if record.end == "stopped" else "complete"


def _refine(facts: Facts) -> None:
    if facts.outcome not in SUCCESSES:
        return
    known = facts.lost or facts.doubled or facts.reordered or not facts.intact
    # The client's word stands unless the truth clears the stream: U+FFFD can be what was meant, and holes no loss.
    cleared = facts.text_exact is True or facts.shared_numbers
    if known or (facts.record.outcome == "damaged" and not cleared):
        facts.outcome = "damaged"


def load_began_ns(history: History) -> int:
    """When the first stream started, from which the times of a report count; that of the run where none did."""
    run = history.run
    starts = [record.dispatched.ns for record in history.streams]
    starts += [row.dispatched.ns for row in history.unfinished if row.dispatched is not None]
    if starts:
        return min(starts)
    return history.plan.created_ns if run is None else run.started_ns


def ttft_ns(record: StreamRecord) -> int | None:
    """From the planned start, or from sending where there is none; None never came."""
    start = record.sent if record.intended is None else record.intended
    if start is None or record.first_token is None:
        return None
    return max(record.first_token.ns - start.ns, 0)
