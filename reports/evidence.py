"""Whether a planned fault really acted, from the rows of the streams that were to meet it.

Nothing is judged by what the injector was told: a toxic can stand on a proxy that nobody used. Rules, a fault each:
- cut: nine in ten of the connections that got as far ended there, by the planned FIN or RST, after exactly the planned
  byte of what came off the socket. Without TLS and redirects the count is exact; a compressed answer counts compressed.
- cut-events: the same, after exactly so many events, and inside the next one if that was asked for; or with a read that
  ended inside a character, which may lie some events further.
- cut-time: the same, within a moment of the planned time after the connection was made.
- accept-then-close: nine in ten of the connections ended by the planned FIN or RST, and not one byte came.
- latency, slow first byte: the time from sending to the headers of the answer is at least the planned delay, and longer
  than in nine of ten answers of the clean group: a hop that buffers is slow without any fault.
- jitter: those times lie apart by at least half of the planned jitter, and by twice as much as the clean group's; by more
  than the clean group's where half of them are longer than nine of ten answers of that one.
- bandwidth, slow-drip: answers that came no faster than the planned rate, and slower than nine in ten of the clean group.
- slice: reads that ended inside an event or a character, more of them a read than in the clean group.
- split-characters: reads that ended inside a character, more of them a read than in the clean group.
- stall: a silence of at least nine tenths of the planned length in a stream that was open in the window, between two events
  or before the first token, and longer than that one is in nineteen of twenty streams of the clean group. stall-events: the same, in streams that had so many events.
- black-hole: connections on which nothing came for at least half of the window, more of them than in the clean group.
- refused, flapping: connections that were refused in the window, which nothing but a closed proxy does; or connections
  that lived when the proxy was closed and ended with it, by half of them more than in the clean group: answers end by
  themselves, too.
- server-restart: nine in ten of the connections that lived when the server was killed ended in that moment, nine in ten of
  those begun before it was started again got no byte, and no event came in between. With a drain: nine in ten of the
  connections that lived when it was told to stop ended until it was back, some of them without their answer's end or some
  that were tried without a stream, and nine in ten of those tried before it was started again got none. When it was back is
  known by an answer alone, which a busy rig gets late: from the call on, clients may be served.
- command, by breaks: connections that lived in its time and broke in it, or were begun in it and got no byte, a fifth more
  of them than break at other times. By silence: as stall, against the streams that were not open in its time.
- slow-close: connections whose end came at least the planned delay after their last event, and later than in nine of
  ten of the clean group.
- a fault with times of its own (`when`) is looked for in the connections that began in them, early enough to meet it: what
  passed before and afterwards, or while a call that sets it or heals it is on its way, proves nothing. Rates need answers that ended in them, too; a cut may come late in a
  connection, so one that ended in them at the very place counts. Streams that last longer than such a time show a
  latency by the silence with which it begins.
- behind a hop the client sees what the hop makes of it: of a cut, an answer that ends before it is over, at no exact byte
  and however the hop ends it, by half of the connections more than in the clean group; of a refusal, a 502 or 503.
- in a browser a page is told of no byte, and of whole events alone: of a cut by bytes or time, and of closed connections, it
  shows that a connection of the stream broke, or none got through, in half of the streams more than in the clean group.

A fault that is set and healed by calls stood from the answer of the one to the sending of the other. What passes while a call
is on its way, which on a busy machine is long, is no sign against it, and it is asked for no longer effect than it stood.

What takes time is held against the clean group at both ends of its brackets (design.md decision 4): it acted where enough
streams show it by the least that their waits, silences and ends can have lasted, and by more than the clean group's with
all that our own processes waited for a core meanwhile: our Toxiproxy shares the machine with the generator. It did not act
where too few can show it by the longest. Between the two our own lateness explains as much, and it can't be told. Of a
delay nine tenths are enough where the bracket holds the whole: it is kept to the millisecond.

A toxic of ours counts its own firings. The count proves nothing alone (the client may have left), but a toxic that never
fired did nothing, whatever the rows look like.

Pure: rows in, evidence out. `acted` is None where no stream of the group ran, or none was over while its fault stood, or where it would have to be told from
what a clean group does and no stream of one ran, or where our own lateness may be what shows: that proves nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, structs

from sseproof.chaos.faults import (
    AcceptThenClose,
    Bandwidth,
    BlackHole,
    Clean,
    Command,
    Cut,
    CutEvents,
    Cuts,
    CutTime,
    Flapping,
    Jitter,
    Latency,
    Refused,
    ServerRestart,
    SlowClose,
    SlowDrip,
    SlowFirstByte,
    SplitCharacters,
    Stall,
    StallEvents,
    is_timed,
    kind_of,
    when_of,
)
from sseproof.chaos.plan import FaultPlan, GroupPlan
from sseproof.reports.checks import Bracket, fault_windows
from sseproof.reports.clocks import Clocks
from sseproof.reports.facts import History
from sseproof.reports.words import count_of
from sseproof.rundir.rows import (
    AddressPlan,
    Attempt,
    FaultRow,
    GeneratorRow,
    Instant,
    StreamRecord,
    VariantPlan,
)

MS: Final = 1_000_000
ENOUGH_OF_A_STALL: Final = 0.9
"""What was under way in buffers when the link stalled still arrives in its first moments."""
ENOUGH_OF_A_DELAY: Final = 0.9
"""It is kept to the millisecond, so that a bracket of a few around it would leave every one of them open."""
CHANCE: Final = 0.2
"""Of a group's occasions: one in ten lies above nine tenths of the clean group by chance, twice as many do not."""
USUAL: Final = 0.9
USUAL_OF_TWO: Final = 0.95
"""Where either of two waits shows a fault: both together are as seldom longer by chance."""
FEW_ROWS: Final = 256
"""Beyond it most rows of the generator touch the time, so that the first of all that does is found soonest."""
MOST: Final = 0.9
"""Of the connections that reach the place of a cut: the limit stands on all of them, so none should pass. Some may, after
a server that broke was replaced by a clean one; then the group's streams are no longer those that a cut was planned for."""
HALF: Final = 0.5
"""Of the connections that live when their proxy is switched off: it ends all, and few end by themselves in that moment. Of
answers that only chance delays: one in ten lies above nine tenths of the clean group."""
SWITCH_SLACK_NS: Final = 100_000_000
"""How long after the answer to the switching call the end of a connection may reach its client, scheduling included."""
SLICED_SHARE: Final = 0.05
"""Of the group's reads, beyond the clean group's share: loopback reads of whole events end inside one by chance."""
TIMED_SLACK_NS: Final = 500_000_000
"""How long after the planned time the end of a connection may reach its client: the clock of the toxic begins when our
proxy has dialled the service, and a busy machine is late."""
RATE_SLACK: Final = 1.1
"""Over the planned rate: the first piece comes at once."""


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shows that one group's fault acted in one variant."""

    group: str
    kind: str
    variant: str | None
    acted: bool | None
    """None where it can't be known: no stream of the group ran, none of the clean group to compare with, or our own
    measuring was too late to tell."""
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


def evidence_of(history: History, times: Collection[tuple[str, int]] | None = None) -> list[Evidence]:
    """The evidence for every planned fault and variant, in the plan's order.

    With `times`, groups and numbers of windows, that they acted in those alone: what another time shows proves nothing.
    """
    plan = planned_faults(history)
    if plan is None:
        return []
    found = []
    waited = _Waited(history.generator)
    for variant in history.plan.variants:
        every = [record for record in history.streams if record.variant == variant.name]
        for group in plan.groups:
            if isinstance(group.fault, Clean) or (
                times is not None and all(name != group.name for name, _ in times)
            ):
                continue
            rows = [
                row
                for row in history.faults
                if row.variant == variant.name
                and row.group == group.name
                and (times is None or row.window is None or (group.name, row.window) in times)
            ]
            records = every if is_timed(group.fault) else _before_abort(every, history)
            look = _Look(group, variant, records, rows, clocks=history.clocks, waited=waited)
            if not is_timed(group.fault) and (aborted_ns := _aborted_ns(history)) is not None:
                met = [each for each in every if each.group == group.name and each.dispatched.ns < aborted_ns]
                look.outlived = len(met)
            look.unended = sum(
                (each.variant, each.group) == (variant.name, group.name) and each.dispatched is not None
                for each in history.unfinished
            )
            evidence = look.evidence()
            if evidence.acted is False and not evidence.failed and "faults" in history.missing:
                evidence = look.untold("can't be told without faults.jsonl, which is missing or not whole.")
            found.append(evidence)
    return found


def _before_abort(records: list[StreamRecord], history: History) -> list[StreamRecord]:
    """Streams that were over when a run gave up: from then on what had stood was gone."""
    aborted_ns = _aborted_ns(history)
    return records if aborted_ns is None else [each for each in records if each.ended.hi_ns < aborted_ns]


def _aborted_ns(history: History) -> int | None:
    return None if history.run is None or history.run.aborted is None else history.run.aborted.at_ns


class _Length(NamedTuple):
    """How long something lasted, at both ends of its bracket."""

    lo_ns: int
    hi_ns: int
    waited_ns: int = 0
    """The longest that a process of ours can have waited for a core at a time meanwhile."""


class _Asked:
    """How long something has to have lasted to show a fault: so long, and longer than in the clean group."""

    def __init__(
        self, clean: Sequence[_Length], least_ns: float, share: float = USUAL, at_least: float = 1.0
    ) -> None:
        """`at_least` is the part of that time that it must have lasted for certain, where its bracket holds the whole."""
        self._least_ns, self._certain_ns = least_ns, at_least * least_ns
        self._usual_ns, self._usual_at_least_ns = _usual(_highs(clean), share), _usual(_lows(clean), share)
        self.wanted_ns = max(least_ns, self._usual_ns)

    def is_longer(self, length: _Length | None) -> bool:
        return (
            length is not None
            and length.hi_ns >= self._least_ns
            and length.lo_ns >= max(self._certain_ns, self._usual_ns + length.waited_ns)
        )

    def may_be_longer(self, length: _Length | None) -> bool:
        return length is not None and length.hi_ns >= max(self._least_ns, self._usual_at_least_ns)


class _Waited:
    """How long processes of ours waited for a core at a time, second by second.

    Of a second it is the timer's lateness, as far as the kernel says that the process waited: a hub that was busy itself
    holds up nobody else.
    """

    def __init__(self, rows: Iterable[GeneratorRow]) -> None:
        told = sorted(
            (row.at_ns, row.at_ns - row.interval_ns, _waited_ns(row))
            for row in rows
            if row.loop_lag_max_ns is not None
        )
        self._until_ns = [at for at, _, _ in told]
        self._rows = told
        self._widest_ns = max((until - since for until, since, _ in told), default=0)
        self._worst_first = sorted(told, key=itemgetter(2), reverse=True)

    def longest_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest such wait in the seconds that a time touches; 0 where no row tells of them."""
        begin = bisect_left(self._until_ns, since_ns)
        # The row of a worker that was held up is a long one: it ends late and begins early.
        end = bisect_right(self._until_ns, until_ns + self._widest_ns)
        few = end - begin <= FEW_ROWS
        rows = sorted(self._rows[begin:end], key=itemgetter(2), reverse=True) if few else self._worst_first
        return next((waited for until, since, waited in rows if until >= since_ns and since <= until_ns), 0)


def _waited_ns(row: GeneratorRow) -> int:
    late = row.loop_lag_max_ns or 0
    return late if row.run_queue_share is None else min(late, round(row.run_queue_share * row.interval_ns))


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
        waited: _Waited,
    ) -> None:
        self._clocks = clocks
        self._waited = waited
        self._group = group
        self._variant = variant.name
        self._behind_hop = variant.fault_side == "service"
        self._in_browser = variant.browser is not None
        self._addresses: dict[str, AddressPlan] = {
            f"{each.host}:{each.port}": each for each in variant.addresses if each.group == group.name
        }
        self._mine = [record for record in records if record.group == group.name]
        self._others = [record for record in records if record.group == "clean"]
        self._rows = rows
        windows = fault_windows(rows)
        self._windows = [(each.since_ns, each.healed_ns or 1 << 63) for each in windows]
        """From the call that applied the fault to the answer of the one that healed it."""
        self._stood = [(each.stands_ns, each.heal_sent_ns or 1 << 63) for each in windows]
        """The same times, for certain: from the answer of the one call to the sending of the other."""
        self.outlived: int | None = None
        """Streams that met a fault which stood until the run gave up; None where it did not, or the fault had its times."""
        self.unended = 0
        """Streams of the group without an end on record."""

    def evidence(self) -> Evidence:
        failed = next((row for row in self._rows if row.step == "failed" or row.ok is False), None)
        if failed is not None:
            stood = any(row.step == "applied" and row.ok is not False for row in self._rows)
            how = "could not be kept up or healed" if stood else "could not be applied"
            words = f"{how}: {failed.detail.rstrip('.') or 'see faults.jsonl'}."
            return structs.replace(self._made(False, 0, 0, words), failed=True)
        if not self._mine:
            return self._made(None, 0, 0, self._unmet())
        found = self._looked() if when_of(self._group.fault) is None else self._looked_in_time()
        fired = [row.fired for row in self._rows if row.fired is not None]
        if not fired:
            return found
        said = f" Its toxic counts {sum(fired):,} firings."
        acted = found.acted if any(fired) else False
        return structs.replace(found, acted=acted, sentence=found.sentence + said)

    def untold(self, words: str) -> Evidence:
        """That it can't be known, and why."""
        return self._made(None, 0, 0, words)

    def _unmet(self) -> str:
        """Why there is no stream to tell by."""
        met = count_of((self.outlived or 0) + self.unended, "stream")
        if self.outlived:
            return (
                f"was taken away when the run gave up, and not one of {met} that it met was over by then: what it did "
                "can't be told."
            )
        if self.unended:
            return f"met {met} without an end on record: what it did can't be told."
        while_it_stood = "" if self.outlived is None else " before the run gave up and took it away"
        return f"met no stream: nobody of its group ran{while_it_stood}."

    def _looked_in_time(self) -> Evidence:
        """By the connections that can have met a fault with times of its own."""
        fault, everybody = self._group.fault, self._mine
        self._mine = [
            structs.replace(record, attempts=met)
            for record in everybody
            if (met := [each for each in self._across_clocks([record]) if self._met(each)])
        ]
        if self._mine:
            return self._looked()
        if isinstance(fault, Latency) and self._others:
            there = [
                record
                for record in everybody
                if any(self._outlasts(record, since, fault.delay_ms * MS) for since, _ in self._windows)
            ]
            if there:
                return self._held_still(there, self._others, "that it began with", fault.delay_ms * MS)
        return self._made(None, 0, 0, "met no connection that could show it: none began in its time.")

    def _met(self, each: Attempt) -> bool:
        fault = self._group.fault
        for (since_ns, healed_ns), (stands_ns, falls_ns) in zip(self._windows, self._stood, strict=True):
            since, healed = stands_ns + SWITCH_SLACK_NS, falls_ns - SWITCH_SLACK_NS
            begun = since <= each.started.lo_ns and each.started.hi_ns <= healed
            ended = since_ns <= each.ended.lo_ns and each.ended.hi_ns <= healed_ns + SWITCH_SLACK_NS
            match fault:
                case Cut() | CutEvents() | CutTime():
                    place = self._addresses.get(each.address)
                    hit = (
                        place is not None
                        and self._at_the_place(fault, each, place)
                        and each.end in _ENDS[fault.by]
                    )
                    met = (begun and each.ended.hi_ns <= falls_ns) or (ended and bool(hit))
                case Bandwidth() | SlowDrip():
                    met = begun and ended
                case (
                    Latency(delay_ms=delay_ms) | Jitter(delay_ms=delay_ms) | SlowFirstByte(delay_ms=delay_ms)
                ):
                    met = begun and each.started.hi_ns + delay_ms * MS <= healed
                case SlowClose(delay_ms=delay_ms):
                    met = since + delay_ms * MS <= each.ended.lo_ns and each.ended.hi_ns <= healed
                case _:
                    met = begun
            if met:
                return True
        return False

    def _outlasts(self, record: StreamRecord, since_ns: int, length_ns: int) -> bool:
        began, ended = self._across(record, record.dispatched), self._across(record, record.ended)
        return began.hi_ns <= since_ns and ended.lo_ns >= since_ns + length_ns

    def _looked(self) -> Evidence:
        """By what shows the fault without any clean group, or in comparison with one."""
        match self._group.fault:
            case CutEvents() as fault if not self._behind_hop:
                return self._cut(fault)
            case Cut() | CutTime() as fault if not (self._behind_hop or self._in_browser):
                return self._cut(fault)
            case AcceptThenClose() as fault if not (self._behind_hop or self._in_browser):
                return self._closed(fault)
            case Refused() | Flapping():
                return self._refused()
            case ServerRestart(drain_ms=None):
                return self._restarted()
            case ServerRestart():
                return self._drained()
            case Command(shows="breaks"):
                return self._broke()
            case Command():
                return self._silenced()
        if not self._others:
            return self._made(None, 0, 0, "can't be told from the service's own doing: no stream was clean.")
        return self._compared()

    def _compared(self) -> Evidence:
        match self._group.fault:
            case Cut() | CutTime() | AcceptThenClose() if not self._behind_hop:
                return self._broke_in_browser()
            case Cut() | CutEvents() | CutTime() | AcceptThenClose():
                return self._cut_behind_hop()
            case Latency() | SlowFirstByte() as fault:
                return self._slow(fault)
            case Jitter() as fault:
                return self._jitter(fault)
            case Bandwidth(rate_kb_s=rate):
                return self._throttled(rate * 1_000)
            case SlowDrip(size_bytes=size_bytes, every_ms=every_ms):
                return self._throttled(size_bytes * 1_000 / every_ms)
            case Stall() as fault:
                return self._stall(fault)
            case StallEvents() as fault:
                return self._stall_events(fault)
            case BlackHole():
                return self._black_hole()
            case SlowClose() as fault:
                return self._slow_close(fault)
            case SplitCharacters():
                return self._split()
            case _:
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

    def _cut(self, fault: Cuts) -> Evidence:
        ends = _ENDS[fault.by]
        cut = reached = 0
        for each, place in self._dialled():
            there = self._at_the_place(fault, each, place)
            if there is None or (there and each.end in _DONE):
                continue  # an answer that was shorter, or ended before, can't show it
            reached += 1
            cut += there and each.end in ends
        words = (
            f"cut {cut} of the {reached} connections that got as far, by {fault.by.upper()} {_PLACES[type(fault)]}."
            if reached
            else "met no connection that got as far as its place."
        )
        return self._made(reached > 0 and cut >= MOST * reached, cut, reached, words)

    def _at_the_place(self, fault: Cuts, each: Attempt, place: AddressPlan) -> bool | None:
        if not self._in_browser or not isinstance(fault, CutEvents):
            return _at_the_place(fault, each, place)
        # A page is given whole events alone: that one was begun, the toxic's own count says.
        if each.events < fault.after_events or each.end in _DONE:
            return None
        return fault.inside == "character" or each.events == fault.after_events

    def _cut_behind_hop(self) -> Evidence:
        there = [each for each, _ in self._dialled()]
        clean = _attempts(self._others)
        cut, clean_cut = (
            sum(each.end in _CUT_SHORT or each.status in _NO_SERVICE for each in attempts)
            for attempts in (there, clean)
        )
        return self._made(
            _share(cut, len(there)) > _share(clean_cut, len(clean)) + HALF,
            cut,
            len(there),
            f"ended {cut} of the {len(there)} answers that it stood behind before they were over (of the clean group's "
            f"{clean_cut} of {len(clean)}); what stands behind a hop shows at no exact byte.",
        )

    def _broke_in_browser(self) -> Evidence:
        closed = isinstance(self._group.fault, AcceptThenClose)
        broke, clean_broke = (
            sum(any(_broke_in_browser(each, closed=closed) for each in record.attempts) for record in records)
            for records in (self._mine, self._others)
        )
        what = "let no answer begin on a connection" if closed else "broke a connection with its answer"
        return self._made(
            _share(broke, len(self._mine)) > _share(clean_broke, len(self._others)) + HALF,
            broke,
            len(self._mine),
            f"{what} in {broke} of the {len(self._mine)} streams that it stood before (of the clean group's {clean_broke} of "
            f"{len(self._others)}); a page is told of no byte.",
        )

    def _dialled(self) -> list[tuple[Attempt, AddressPlan]]:
        """The group's connections to proxies that break: those that later attempts have of their own are clean."""
        return [
            (each, place)
            for each in _attempts(self._mine)
            if (place := self._addresses.get(each.address)) is not None and place.attempts != "later"
        ]

    def _closed(self, fault: AcceptThenClose) -> Evidence:
        tried = [each for each, _ in self._dialled()]
        closed = sum(each.received_bytes == 0 and each.end in _ENDS[fault.by] for each in tried)
        words = (
            f"closed {closed} of {len(tried)} connections by {fault.by.upper()} before any byte of an answer."
        )
        return self._made(bool(tried) and closed >= MOST * len(tried), closed, len(tried), words)

    def _longer(self, mine: Sequence[_Length], clean: Sequence[_Length], least_ns: float) -> tuple[int, int]:
        """How many are at least that long and longer than the clean group's for certain; and how many may be."""
        asked = _Asked(clean, least_ns, at_least=ENOUGH_OF_A_DELAY)
        return sum(map(asked.is_longer, mine)), sum(map(asked.may_be_longer, mine))

    def _held(self, certain: int, possible: int, of: int, words: str) -> Evidence:
        """What more than chance of the occasions show, or may show."""
        return self._shown(_told(certain > CHANCE * of, possible > CHANCE * of), certain, of, words)

    def _shown(self, acted: bool | None, count: int, of: int, words: str) -> Evidence:
        late = " Our own measuring was too late to tell." if acted is None else ""
        return self._made(acted, count, of, words + late)

    def _slow(self, fault: SlowFirstByte | Latency) -> Evidence:
        waits = self._waits(self._mine)
        late, possible = self._longer(waits, self._waits(self._others), fault.delay_ms * MS)
        return self._held(
            late,
            possible,
            len(waits),
            f"held back {late} of {len(waits)} answers for {fault.delay_ms} ms or more, and longer than the clean "
            f"group's; half of them by {_middle(_lows(waits)) / MS:.0f} ms or more.",
        )

    def _jitter(self, fault: Jitter) -> Evidence:
        waits, clean = self._waits(self._mine), self._waits(self._others)
        least_ns, half_ns = (fault.delay_ms - fault.jitter_ms) * MS, fault.jitter_ms * MS / 2
        found = []
        for end, other in ((_lows, _highs), (_highs, _lows)):
            late = sum(wait >= least_ns for wait in end(waits))
            longer = sum(wait >= _usual(other(clean)) for wait in end(waits))
            apart, usual = _apart(end(waits)), _apart(end(clean))
            # Where the service's own waits lie far apart, that most are longer than those shows it.
            further = usual if longer > HALF * len(waits) else 2 * usual
            acted = late > CHANCE * len(waits) and apart >= max(half_ns, further)
            found.append((acted, late, apart, usual))
        acted, late, apart, usual = min(found)
        return self._shown(
            _told(acted, any(each[0] for each in found)),
            late,
            len(waits),
            f"held back {late} of {len(waits)} answers for {fault.delay_ms - fault.jitter_ms} ms or more, four in five of "
            f"them within {apart / MS:.0f} ms of each other ({usual / MS:.0f} ms in the clean group).",
        )

    def _throttled(self, bytes_s: float) -> Evidence:
        clean = _rates(self._others)
        rates = _rates(self._mine)
        slowest = _slowest([least for least, _ in clean])
        slowest_at_most = _slowest([most for _, most in clean])
        limit = RATE_SLACK * bytes_s
        slow = sum(most <= limit and most < slowest for _, most in rates)
        possible = sum(least <= limit and least < slowest_at_most for least, _ in rates)
        return self._held(
            slow,
            possible,
            len(rates),
            f"passed {slow} of {len(rates)} answers no faster than {bytes_s:,.0f} bytes a second, and slower than the "
            f"clean group's (half of those at {_middle([least for least, _ in clean]):,.0f} or more).",
        )

    def _split(self) -> Evidence:
        chars, reads = _of_reads(self._mine, "split_chars")
        clean_chars, clean_reads = _of_reads(self._others, "split_chars")
        return self._made(
            _share(chars, reads) > _share(clean_chars, clean_reads) + SLICED_SHARE,
            chars,
            reads,
            f"ended {chars:,} of {reads:,} reads inside a character.",
        )

    def _stall_events(self, fault: StallEvents) -> Evidence:
        there = [record for record in self._mine if record.events > fault.after_events]
        which = f"with more than {fault.after_events} events"
        return self._held_still(there, self._others, which, fault.duration_ms * MS)

    def _held_still(
        self, there: Sequence[StreamRecord], others: Sequence[StreamRecord], which: str, lasted_ns: int
    ) -> Evidence:
        """Who of those that it could meet was silent for most of a stall, and for longer than the others ever are.

        Between two events, or before the first token: a service that takes long to begin is not silent for it afterwards.
        """
        certain, possible, wanted_ns = set[int](), set[int](), []
        for lengths in (self._gaps, self._first_waits):
            clean = [length for length in map(lengths, others) if length is not None]
            asked = _Asked(clean, ENOUGH_OF_A_STALL * lasted_ns, USUAL_OF_TWO)
            wanted_ns.append(asked.wanted_ns)
            for at, length in enumerate(map(lengths, there)):
                if asked.is_longer(length):
                    certain.add(at)
                if asked.may_be_longer(length):
                    possible.add(at)
        return self._held(
            len(certain),
            len(possible),
            len(there),
            f"silenced {len(certain)} of the {len(there)} streams {which}, for {min(wanted_ns) / MS:.0f} ms or more.",
        )

    def _black_hole(self) -> Evidence:
        silent, possible, there = self._swallowed(self._mine)
        clean_silent, clean_possible, clean_there = self._swallowed(self._others)
        return self._shown(
            _told(
                _share(silent, there) > _share(clean_possible, clean_there) + CHANCE,
                _share(possible, there) > _share(clean_silent, clean_there) + CHANCE,
            ),
            silent,
            there,
            f"swallowed everything on {silent} of the {there} connections that were open for half of it or longer "
            f"(of the clean group's {clean_silent} of {clean_there}).",
        )

    def _swallowed(self, records: Sequence[StreamRecord]) -> tuple[int, int, int]:
        """On how many connections nothing came in a window, nor ever after, for certain and perhaps, of how many.

        Those count that were open for at least half of the window.
        """
        silent = possible = there = 0
        for (_, healed), (since, _) in zip(self._windows, self._stood, strict=True):
            for each in self._across_clocks(records):
                half_ns = (healed - since) // 2
                first, last = max(each.started.ns, since), min(each.ended.ns, healed)
                if last - first < half_ns:
                    continue
                there += 1
                heard = (each.headers, each.first_event, each.last_event)
                settled = since + SWITCH_SLACK_NS
                possible += not any(one and one.lo_ns > settled for one in heard)
                at_least_ns = min(each.ended.lo_ns, healed) - max(each.started.hi_ns, since)
                silent += at_least_ns >= half_ns and not any(one and one.hi_ns > settled for one in heard)
        return silent, possible, there

    def _slow_close(self, fault: SlowClose) -> Evidence:
        waits = self._closings(self._mine)
        late, possible = self._longer(waits, self._closings(self._others), fault.delay_ms * MS)
        return self._held(
            late,
            possible,
            len(waits),
            f"put off the end of {late} of the {len(waits)} connections that waited for it, "
            f"by {fault.delay_ms} ms or more after their last event.",
        )

    def _slice(self) -> Evidence:
        events, reads = _of_reads(self._mine, "split_events")
        chars, _ = _of_reads(self._mine, "split_chars")
        clean_events, clean_reads = _of_reads(self._others, "split_events")
        return self._made(
            _share(events, reads) > _share(clean_events, clean_reads) + SLICED_SHARE,
            events,
            reads,
            f"ended {events} of {reads} reads inside an event, {chars} of them inside a character.",
        )

    def _stall(self, fault: Stall) -> Evidence:
        windows = self._windows
        there = [record for record in self._mine if any(self._open_in(record, window) for window in windows)]
        lasted_ns = min([fault.duration_ms * MS, *(until - since for since, until in self._stood)])
        return self._held_still(there, self._others, "that were open then", lasted_ns)

    def _refused(self) -> Evidence:
        mine, clean = self._across_clocks(self._mine), self._across_clocks(self._others)
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

    def _restarted(self) -> Evidence:
        """There is no clean group: who ends in that very moment, and gets nothing until the end of the gap, shows it."""
        attempts = self._across_clocks(self._mine)
        ended, lived = self._ended_by_the_switch(attempts)
        tried = [
            each
            for each in attempts
            if any(since + SWITCH_SLACK_NS < each.started.lo_ns < until for since, until in self._stood)
        ]
        empty = sum(each.received_bytes == 0 for each in tried)
        heard = sum(
            since + SWITCH_SLACK_NS < instant.lo_ns and instant.hi_ns < until
            for since, until in self._stood
            for each in attempts
            for instant in (each.first_event, each.last_event)
            if instant is not None
        )
        gap_ms = max((healed - since for since, healed in self._windows), default=0) / MS
        return self._made(
            lived + len(tried) > 0 and ended >= MOST * lived and empty >= MOST * len(tried) and not heard,
            ended + empty,
            lived + len(tried),
            f"ended {ended} of the {lived} connections that lived, left {empty} of the {len(tried)} tried before the server "
            f"was started again without a byte, and let {heard} events through; the longest gap took {gap_ms:,.0f} ms.",
        )

    def _drained(self) -> Evidence:
        """There is no clean group: who is sent away before his answer's end, and who gets none meanwhile, shows it."""
        lived = ended = sent_away = tried = refused = 0
        for (since, healed), (stands, falls) in zip(self._windows, self._stood, strict=True):
            for each in self._across_clocks(self._mine):
                if each.connected is not None and each.connected.hi_ns < since <= each.ended.lo_ns:
                    lived += 1
                    in_time = each.ended.lo_ns <= healed + SWITCH_SLACK_NS
                    ended += in_time
                    sent_away += in_time and each.end in _SENT_AWAY
                elif stands + SWITCH_SLACK_NS < each.started.lo_ns < falls:
                    tried += 1
                    refused += each.events == 0
        return self._made(
            sent_away + refused > 0 and ended >= MOST * lived and refused >= MOST * tried,
            sent_away + refused,
            lived + tried,
            f"ended {ended} of the {lived} connections that lived, {sent_away} of them before their answer did, and left "
            f"{refused} of the {tried} tried before the server was started again without an event.",
        )

    def _broke(self) -> Evidence:
        """There is no clean group; other times of the same streams have to do."""
        met = broke = others = broke_else = 0
        windows = [(since, healed + SWITCH_SLACK_NS) for since, healed in self._windows]
        for each in self._across_clocks(self._mine):
            broken = each.end in _BROKEN or (each.end == "status" and each.received_bytes == 0)
            if any(each.started.lo_ns <= healed and each.ended.hi_ns >= since for since, healed in windows):
                met += 1
                broke += broken and any(_within(each.ended, window) for window in windows)
            else:
                others += 1
                broke_else += broken
        return self._made(
            _share(broke, met) > _share(broke_else, others) + CHANCE,
            broke,
            met,
            f"broke {broke} of the {met} connections of its time (of those at other times {broke_else} of {others}).",
        )

    def _silenced(self) -> Evidence:
        windows = self._windows
        there = [record for record in self._mine if any(self._open_in(record, window) for window in windows)]
        others = [
            record for record in self._mine if not any(self._open_in(record, window) for window in windows)
        ]
        if windows and not others:
            return self._made(
                None, 0, 0, "can't be told from the service's own doing: no stream ran at another time."
            )
        lasted_ns = min((until - since for since, until in self._stood), default=0)
        return self._held_still(there, others, "that were open then", lasted_ns)

    def _turned_away(self, attempts: Sequence[Attempt]) -> tuple[int, int]:
        """How many of the connections that were tried in a window were refused, and how many were tried."""
        windows = self._windows
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

    def _gaps(self, record: StreamRecord) -> _Length | None:
        """The longest silence between two events; None where there were no two."""
        gaps = record.gaps
        if gaps is None:
            return None
        waited_ns = self._waited.longest_ns(record.dispatched.lo_ns, record.ended.hi_ns)
        return _Length(gaps.longest_lo_ns, gaps.longest_hi_ns, waited_ns)

    def _first_waits(self, record: StreamRecord) -> _Length | None:
        """The silence before the first token; None where that never came."""
        if record.first_token is None or record.sent is None:
            return None
        return self._length(record.sent, record.first_token, record.proxy_queue_ns or 0)

    def _waits(self, records: Sequence[StreamRecord]) -> list[_Length]:
        """From sending to the headers of the answer, for every attempt that got some."""
        return [
            self._length(each.sent, each.headers, record.proxy_queue_ns or 0)
            for record in records
            for each in record.attempts
            if each.headers and each.sent
        ]

    def _closings(self, records: Sequence[StreamRecord]) -> list[_Length]:
        """From the last event to the end, for every connection that the other side ended."""
        return [
            self._length(each.last_event, each.ended)
            for each in _attempts(records)
            if each.last_event and each.end in _ENDS["fin"]
        ]

    def _length(self, start: Instant, end: Instant, queued_ns: int = 0) -> _Length:
        low, high = _between(start, end)
        return _Length(low - queued_ns, high, self._waited.longest_ns(start.lo_ns, end.hi_ns))

    def _across_clocks(self, records: Sequence[StreamRecord]) -> list[Attempt]:
        """The attempts, with the instants that are held against the injector's clock as its reader must take them."""
        if not self._clocks.workers:
            return _attempts(records)
        return [
            structs.replace(
                attempt,
                started=self._across(record, attempt.started),
                ended=self._across(record, attempt.ended),
                **{
                    name: self._across(record, instant)
                    for name in ("connected", "headers", "first_event", "last_event")
                    if (instant := getattr(attempt, name)) is not None
                },
            )
            for record in records
            for attempt in record.attempts
        ]

    def _across(self, record: StreamRecord, instant: Instant) -> Instant:
        return self._clocks.across(record.worker, record.dispatched, instant)

    def _open_in(self, record: StreamRecord, window: tuple[int, int]) -> bool:
        began, ended = self._across(record, record.dispatched), self._across(record, record.ended)
        return began.lo_ns <= window[1] and ended.hi_ns >= window[0]


_BROKEN: Final = frozenset(
    {"fin", "rst", "refused", "connect-timeout", "headers-timeout", "first-event-timeout", "idle-timeout"}
)
_DONE: Final = frozenset({"terminal", "no-content", "inband-error", "stopped"})
"""Ends of ours: the client had all it wanted, or was told to leave, before a FIN could show."""


_CUT_SHORT: Final = frozenset({"fin", "eof", "rst", "protocol"})
"""Ends of an answer whose rest never came, as a hop can make them of a cut behind it."""
_SHUT: Final = frozenset({"fin", "refused", "status"})
"""How a page tells of a connection that ended before an answer began: it knows no status, and not whether one was there."""
_SENT_AWAY: Final = frozenset({"fin", "eof"})
"""How a connection ends whose server ended its stream in good order, and early."""
_NO_SERVICE: Final = frozenset({502, 503})
"""What nginx and Apache answer when they are refused themselves."""
_ENDS: Final[dict[str, frozenset[str]]] = {"rst": frozenset({"rst"}), "fin": frozenset({"fin", "eof"})}
_PLACES: Final[dict[type, str]] = {
    Cut: "after exactly the planned byte",
    CutEvents: "after exactly the planned events",
    CutTime: "within a moment of the planned time",
}


def _broke_in_browser(each: Attempt, *, closed: bool) -> bool:
    """Whether a page's connection broke under its answer, or (`closed`) before there was one."""
    if closed:
        return each.headers is None and each.status is None and each.end in _SHUT
    return each.headers is not None and each.end in _CUT_SHORT


def _at_the_place(fault: Cuts, each: Attempt, place: AddressPlan) -> bool | None:
    """Whether a connection ended where its cut was planned; None for one that did not get as far."""
    match fault:
        case Cut():
            if place.cut_after_bytes is None or each.received_bytes < place.cut_after_bytes:
                return None
            return each.received_bytes == place.cut_after_bytes
        case CutEvents(after_events=events, inside=inside):
            if each.events < events:
                return None
            if inside == "character":  # the next one may be several events further, or never come
                return None if each.end in _DONE else each.split_chars > 0
            return each.events == events and (inside == "boundary" or each.split_events > 0)
        case CutTime(after_ms=after_ms):
            # A busy client learns late that it is connected; the connection began after it was asked for.
            if each.connected is None or each.ended.hi_ns - each.started.lo_ns < after_ms * MS:
                return None
            return each.ended.lo_ns - each.connected.hi_ns <= after_ms * MS + TIMED_SLACK_NS


def _attempts(records: Sequence[StreamRecord]) -> list[Attempt]:
    return [attempt for record in records for attempt in record.attempts]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _told(certain: bool, possible: bool) -> bool | None:
    """Whether a fault acted, by what is certain and by what may be; None where our own lateness decides."""
    return True if certain else None if possible else False


def _between(start: Instant, end: Instant) -> Bracket:
    return end.lo_ns - start.hi_ns, end.hi_ns - start.lo_ns


def _rates(records: Sequence[StreamRecord]) -> list[tuple[float, float]]:
    """Bytes a second from sending to the end, at least and at most, for every answer that came."""
    found = []
    for each in _attempts(records):
        if each.first_byte and each.sent:
            low, high = _between(each.sent, each.ended)
            found.append((each.received_bytes * 1e9 / max(high, 1), each.received_bytes * 1e9 / max(low, 1)))
    return found


def _slowest(rates: Sequence[float]) -> float:
    """What nine of ten are not slower than; 0 without any."""
    return sorted(rates)[len(rates) // 10] if rates else 0.0


def _of_reads(records: Sequence[StreamRecord], field: str) -> tuple[int, int]:
    attempts = _attempts(records)
    return sum(getattr(each, field) for each in attempts), sum(each.reads for each in attempts)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


def _lows(lengths: Sequence[_Length]) -> list[int]:
    return [each.lo_ns for each in lengths]


def _highs(lengths: Sequence[_Length]) -> list[int]:
    return [each.hi_ns for each in lengths]


def _apart(values: Sequence[int]) -> int:
    """How far four in five of them lie apart."""
    ordered = sorted(values)
    return ordered[len(ordered) * 9 // 10] - ordered[len(ordered) // 10] if ordered else 0


def _usual(values: Sequence[int], share: float = USUAL) -> int:
    """What so many of them stay below without a fault; 0 without any, which asks for nothing."""
    return sorted(values)[int(len(values) * share)] + 1 if values else 0


def _within(instant: Instant, window: tuple[int, int]) -> bool:
    return instant.hi_ns >= window[0] and instant.lo_ns <= window[1]
