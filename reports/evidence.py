"""Whether a planned fault really acted, from the rows of the streams that were to meet it.

Nothing is judged by what the injector was told: a toxic can stand on a proxy that nobody used. Rules, a fault each:
- cut: nine in ten of the connections that got as far ended there, by the planned FIN or RST, after exactly the planned
  byte of what came off the socket. Without TLS and redirects the count is exact; a compressed answer counts compressed.
- slow first byte: the time from sending to the headers of the answer is at least the planned delay, and longer than
  in nine of ten answers of the clean group: a hop that buffers is slow without any fault.
- slice: reads that ended inside an event or a character, more of them a read than in the clean group.
- stall: a silence of at least nine tenths of the planned length in a stream that was open in the window, and longer
  than in nine of ten streams of the clean group.
- refused: connections that were refused in the window, which nothing but a closed proxy does; or connections that
  lived when the proxy was closed and ended with it, by half of them more than in the clean group: answers end by
  themselves, too.
- behind a hop the client sees what the hop makes of it: of a cut, an answer that ends before it is over, at no exact byte
  and however the hop ends it, by half of the connections more than in the clean group; of a refusal, a 502 or 503.

Pure: rows in, evidence out. `acted` is None where no stream of the group ran, or where it would have to be told from
what a clean group does and no stream of one ran: that proves nothing.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct, structs

from sseproof.chaos.faults import Clean, Cut, Refused, SlowFirstByte, Stall, kind_of
from sseproof.chaos.plan import FaultPlan, GroupPlan
from sseproof.reports.checks import fault_windows
from sseproof.reports.clocks import Clocks
from sseproof.reports.facts import History
from sseproof.rundir.rows import AddressPlan, Attempt, FaultRow, Instant, StreamRecord, VariantPlan

MS: Final = 1_000_000
ENOUGH_OF_A_STALL: Final = 0.9
"""What was under way in buffers when the link stalled still arrives in its first moments."""
CHANCE: Final = 0.2
"""Of a group's occasions: one in ten lies above nine tenths of the clean group by chance, twice as many do not."""
MOST: Final = 0.9
"""Of the connections that reach the place of a cut: the limit stands on all of them, so none should pass. Some may, after
a server that broke was replaced by a clean one; then the group's streams are no longer those that a cut was planned for."""
HALF: Final = 0.5
"""Of the connections that live when their proxy is switched off: it ends all, and few end by themselves in that moment."""
SWITCH_SLACK_NS: Final = 100_000_000
"""How long after the answer to the switching call the end of a connection may reach its client, scheduling included."""
SLICED_SHARE: Final = 0.05
"""Of the group's reads, beyond the clean group's share: loopback reads of whole events end inside one by chance."""


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shows that one group's fault acted in one variant."""

    group: str
    kind: str
    variant: str | None
    acted: bool | None
    """None where it can't be known: no stream of the group ran, or none of the clean group to compare with."""
    failed: bool = False
    """The injector could not apply it."""
    count: int = 0
    """Occurrences that show it."""
    of: int = 0
    """Occasions on which it could have shown."""
    sentence: str


def planned_faults(history: History) -> FaultPlan | None:
    """The fault plan of a run; None in a run without faults."""
    return msgspec.json.decode(history.plan.faults, type=FaultPlan | None)


def evidence_of(history: History) -> list[Evidence]:
    """The evidence for every planned fault and variant, in the plan's order."""
    plan = planned_faults(history)
    if plan is None:
        return []
    found = []
    for variant in history.plan.variants:
        records = [record for record in history.streams if record.variant == variant.name]
        for group in plan.groups:
            if isinstance(group.fault, Clean):
                continue
            rows = [row for row in history.faults if row.variant == variant.name and row.group == group.name]
            look = _Look(group, variant, records, rows, clocks=history.clocks)
            found.append(look.evidence())
    return found


class _Look:
    """One group in one variant."""

    def __init__(
        self,
        group: GroupPlan,
        variant: VariantPlan,
        records: Sequence[StreamRecord],
        rows: Sequence[FaultRow],
        *,
        clocks: Clocks,
    ) -> None:
        self._clocks = clocks
        self._group = group
        self._variant = variant.name
        self._behind_hop = variant.fault_side == "service"
        self._addresses: dict[str, AddressPlan] = {
            f"{each.host}:{each.port}": each for each in variant.addresses if each.group == group.name
        }
        self._mine = [record for record in records if record.group == group.name]
        self._others = [record for record in records if record.group == "clean"]
        self._rows = rows

    def evidence(self) -> Evidence:
        failed = next((row for row in self._rows if row.step == "failed" or row.ok is False), None)
        if failed is not None:
            words = f"could not be applied: {failed.detail.rstrip('.') or 'see faults.jsonl'}."
            return structs.replace(self._made(False, 0, 0, words), failed=True)
        if not self._mine:
            return self._made(None, 0, 0, "met no stream: nobody of its group ran.")
        fault = self._group.fault
        if isinstance(fault, Cut) and not self._behind_hop:
            return self._cut(fault)
        if isinstance(fault, Refused):
            return self._refused()
        if not self._others:
            return self._made(None, 0, 0, "can't be told from the service's own doing: no stream was clean.")
        if isinstance(fault, Cut):
            return self._cut_behind_hop()
        if isinstance(fault, SlowFirstByte):
            return self._slow(fault)
        if isinstance(fault, Stall):
            return self._stall(fault)
        return self._slice()

    def _made(self, acted: bool | None, count: int, of: int, words: str) -> Evidence:
        where = f" ({self._variant})" if self._variant else ""
        return Evidence(
            group=self._group.name,
            kind=kind_of(self._group.fault),
            variant=self._variant,
            acted=acted,
            count=count,
            of=of,
            sentence=f"The fault of group {self._group.name}{where} {words}",
        )

    def _cut(self, fault: Cut) -> Evidence:
        ends = {"rst"} if fault.by == "rst" else {"fin", "eof"}
        cut = reached = 0
        for each in _attempts(self._mine):
            place = self._addresses.get(each.address)
            if place is None or place.cut_after_bytes is None or each.received_bytes < place.cut_after_bytes:
                continue  # an answer that was shorter, or ended before, can't show it
            there = each.received_bytes == place.cut_after_bytes
            if there and each.end in _DONE:
                continue
            reached += 1
            cut += there and each.end in ends
        words = (
            f"cut {cut} of the {reached} connections that got as far, by {fault.by.upper()} "
            "after exactly the planned byte."
            if reached
            else "met no connection that got as far as its place."
        )
        return self._made(reached > 0 and cut >= MOST * reached, cut, reached, words)

    def _cut_behind_hop(self) -> Evidence:
        there = [
            each
            for each in _attempts(self._mine)
            if (place := self._addresses.get(each.address)) is not None and place.cut_after_bytes is not None
        ]
        clean = _attempts(self._others)
        cut, clean_cut = (sum(each.end in _CUT_SHORT for each in attempts) for attempts in (there, clean))
        return self._made(
            _share(cut, len(there)) > _share(clean_cut, len(clean)) + HALF,
            cut,
            len(there),
            f"ended {cut} of the {len(there)} answers that it stood behind before they were over (of the clean group's "
            f"{clean_cut} of {len(clean)}); what stands behind a hop shows at no exact byte.",
        )

    def _slow(self, fault: SlowFirstByte) -> Evidence:
        waits = _waits(self._mine)
        late = sum(wait >= max(fault.delay_ms * MS, _usual(_waits(self._others))) for wait in waits)
        return self._made(
            late > CHANCE * len(waits),
            late,
            len(waits),
            f"held back {late} of {len(waits)} answers for {fault.delay_ms} ms or more, and longer than the clean "
            "group's.",
        )

    def _slice(self) -> Evidence:
        def split(records: Sequence[StreamRecord]) -> tuple[int, int, int]:
            attempts = _attempts(records)
            return (
                sum(each.split_events for each in attempts),
                sum(each.split_chars for each in attempts),
                sum(each.reads for each in attempts),
            )

        events, chars, reads = split(self._mine)
        clean_events, _, clean_reads = split(self._others)
        return self._made(
            _share(events, reads) > _share(clean_events, clean_reads) + SLICED_SHARE,
            events,
            reads,
            f"ended {events} of {reads} reads inside an event, {chars} of them inside a character.",
        )

    def _stall(self, fault: Stall) -> Evidence:
        windows = self._windows()
        usual = _usual([_longest_silence(record) for record in self._others])
        wanted = max(ENOUGH_OF_A_STALL * fault.duration_ms * MS, usual)
        there = [record for record in self._mine if any(self._open_in(record, window) for window in windows)]
        silent = [record for record in there if _longest_silence(record) >= wanted]
        return self._made(
            len(silent) > CHANCE * len(there),
            len(silent),
            len(there),
            f"silenced {len(silent)} of the {len(there)} streams that were open then, "
            f"for {wanted / MS:.0f} ms or more.",
        )

    def _refused(self) -> Evidence:
        mine, clean = self._compared(self._mine), self._compared(self._others)
        refused, dialled = self._turned_away(mine)
        clean_refused, clean_dialled = self._turned_away(clean)
        ended, lived = self._ended_by_the_switch(mine)
        clean_ended, clean_lived = self._ended_by_the_switch(clean)
        shut = refused > 0 and _share(refused, dialled) > _share(clean_refused, clean_dialled)
        broke = bool(clean) and _share(ended, lived) > _share(clean_ended, clean_lived) + HALF
        return self._made(
            shut or broke,
            (refused if shut else 0) + (ended if broke else 0),
            dialled + lived,
            f"refused {refused} of the {dialled} connections tried while it lasted, and {ended} of the {lived} that "
            f"lived ended as it began (of the clean group's {clean_ended} of {clean_lived}).",
        )

    def _turned_away(self, attempts: Sequence[Attempt]) -> tuple[int, int]:
        """How many of the connections that were tried in a window were refused, and how many were tried."""
        windows = self._windows()
        tried = [each for each in attempts if any(_within(each.started, window) for window in windows)]
        return sum(self._was_turned_away(each) for each in tried), len(tried)

    def _was_turned_away(self, attempt: Attempt) -> bool:
        if self._behind_hop:
            return attempt.end == "status" and attempt.status in _NO_SERVICE
        return attempt.end == "refused"

    def _ended_by_the_switch(self, attempts: Sequence[Attempt]) -> tuple[int, int]:
        """How many of the connections that lived when the proxies were switched off ended by it, and how many lived."""
        switches = [
            (row.call_sent_ns, row.call_answered_ns + SWITCH_SLACK_NS)
            for row in self._rows
            if row.step == "applied"
            and row.window is not None
            and row.call_sent_ns is not None
            and row.call_answered_ns is not None
        ]
        lived = ended = 0
        for sent_ns, over_ns in switches:
            for each in attempts:
                if each.connected is None or each.connected.hi_ns >= sent_ns or each.ended.hi_ns < sent_ns:
                    continue
                lived += 1
                ended += each.end in {"fin", "rst", "eof"} and _within(each.ended, (sent_ns, over_ns))
        return ended, lived

    def _compared(self, records: Sequence[StreamRecord]) -> list[Attempt]:
        """The attempts, with the instants that are held against the injector's clock as its reader must take them."""
        if not self._clocks.workers:
            return _attempts(records)
        return [
            structs.replace(
                attempt,
                started=self._across(record, attempt.started),
                connected=None if attempt.connected is None else self._across(record, attempt.connected),
                ended=self._across(record, attempt.ended),
            )
            for record in records
            for attempt in record.attempts
        ]

    def _across(self, record: StreamRecord, instant: Instant) -> Instant:
        return self._clocks.across(record.worker, record.dispatched, instant)

    def _open_in(self, record: StreamRecord, window: tuple[int, int]) -> bool:
        began, ended = self._across(record, record.dispatched), self._across(record, record.ended)
        return began.lo_ns <= window[1] and ended.hi_ns >= window[0]

    def _windows(self) -> list[tuple[int, int]]:
        """From the call that applied the fault to the answer of the one that healed it."""
        return [(window.since_ns, window.healed_ns or 1 << 63) for window in fault_windows(self._rows)]


_DONE: Final = frozenset({"terminal", "no-content", "inband-error", "stopped"})
"""Ends of ours: the client had all it wanted, or was told to leave, before a FIN could show."""


_CUT_SHORT: Final = frozenset({"fin", "eof", "rst", "protocol"})
"""Ends of an answer whose rest never came, as a hop can make them of a cut behind it."""
_NO_SERVICE: Final = frozenset({502, 503})
"""What nginx and Apache answer when they are refused themselves."""


def _attempts(records: Sequence[StreamRecord]) -> list[Attempt]:
    return [attempt for record in records for attempt in record.attempts]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _waits(records: Sequence[StreamRecord]) -> list[int]:
    """From sending to the headers of the answer, for every attempt that got some."""
    return [
        each.headers.hi_ns - each.sent.lo_ns
        for record in records
        for each in record.attempts
        if each.headers and each.sent
    ]


def _usual(values: Sequence[int]) -> int:
    """What nine of ten stay below without a fault; 0 without any, which asks for nothing."""
    return sorted(values)[len(values) * 9 // 10] + 1 if values else 0


def _within(instant: Instant, window: tuple[int, int]) -> bool:
    return instant.hi_ns >= window[0] and instant.lo_ns <= window[1]


def _longest_silence(record: StreamRecord) -> int:
    """Between two events, or before the first token."""
    gap = record.gaps.longest_hi_ns if record.gaps is not None else 0
    first = record.first_token.hi_ns - record.sent.lo_ns if record.first_token and record.sent else 0
    return max(gap, first)
