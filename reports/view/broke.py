"""What broke: the classes of ends, most frequent first, each with three streams as lanes and the fault that was active."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from sseproof.reports.charts.ends import EndClass, ends_chart
from sseproof.reports.charts.lanes import Lane, waterfall
from sseproof.reports.charts.svg import short
from sseproof.reports.facts import Facts
from sseproof.reports.view.model import Block, Bullets, Figure, Paragraph, Section, Subheading
from sseproof.reports.view.record import Record, variant_text, window_name
from sseproof.reports.view.streams import (
    END_WORDS,
    MOST_LANE_ATTEMPTS,
    OUTCOME_WORDS,
    began,
    segments,
    told,
)
from sseproof.reports.words import count_of, joined, share_text
from sseproof.rundir.rows import SUCCESSES, AttemptEnd, Outcome, StartRow, StreamRecord

MOST_CLASSES: Final = 8
EXAMPLES: Final = 3
_NS_PER_MS: Final = 1e6
_LONGEST_NAME_CHARS: Final = 14


class _Class(Struct, kw_only=True):
    """Streams with the same outcome that ended, or first broke, in the same way."""

    outcome: Outcome
    end: AttemptEnd | None
    """None for starts without a record."""
    streams: list[Facts] = []
    starts: list[StartRow] = []

    @property
    def count(self) -> int:
        return len(self.streams) + len(self.starts)

    @property
    def good(self) -> bool:
        return self.outcome in SUCCESSES


def broke_section(record: Record) -> Section | None:
    """Absent when every stream ended well on its first connection, or when there is none."""
    classes = _classes(record)
    if not classes:
        return None
    shown = classes[:MOST_CLASSES]
    blocks: list[Block] = []
    chart = ends_chart(_bars(record, classes), [variant_text(name) for name in record.variants])
    if chart is not None:
        blocks.append(Figure(chart=chart))
    for index, each in enumerate(shown, start=1):
        blocks += _class_blocks(record, each, index)
    if len(classes) > len(shown):
        rest = sum(each.count for each in classes[MOST_CLASSES:])
        blocks.append(
            Paragraph(text=f"Without lanes: {len(classes) - len(shown)} rarer classes with {rest:,} streams.")
        )
    return Section(key="broke", name="What broke", heading=_heading(record, classes), blocks=blocks)


def _classes(record: Record) -> list[_Class]:
    classes: dict[tuple[Outcome, AttemptEnd | None], _Class] = {}
    for facts in record.facts:
        first = next((a.end for a in facts.record.attempts[:-1]), None)
        if facts.good and not facts.record.breaks and first is None:
            continue
        end = first or facts.record.end
        key = (facts.outcome, end)
        classes.setdefault(key, _Class(outcome=key[0], end=end)).streams.append(facts)
    never: tuple[tuple[Outcome, list[StartRow]], ...] = (
        ("unfinished", record.history.unfinished),
        ("dropped", record.history.dropped),
    )
    for outcome, starts in never:
        if starts:
            classes[outcome, None] = _Class(outcome=outcome, end=None, starts=starts)
    return sorted(classes.values(), key=lambda each: (each.good, -each.count, each.outcome, each.end or ""))


def _heading(record: Record, classes: Sequence[_Class]) -> str:
    bad = [each for each in classes if not each.good]
    recovered = sum(each.count for each in classes if each.good)
    total = len(record.facts) + len(record.history.unfinished) + len(record.history.dropped)
    if not bad:
        return f"All {total:,} streams ended well, {recovered:,} of them after a break"
    count = sum(each.count for each in bad)
    most = max(bad, key=lambda each: each.count)
    lead = f"{count:,} of {count_of(total, 'stream')} did not end well"
    if len(bad) == 1:
        return f"{lead}: {most.outcome}"
    return f"{lead}, most often {most.outcome} ({most.count:,})"


def _bars(record: Record, classes: Sequence[_Class]) -> list[EndClass]:
    """Every class as a bar, and those that ended well without a break as one more."""
    bars = [
        EndClass(
            label=each.outcome if each.end is None else f"{each.outcome}, first end {each.end}",
            good=None if each.outcome in {"unfinished", "dropped"} else each.good,
            counts=tuple(_in(each, name) for name in record.variants),
        )
        for each in classes
    ]
    broken = {id(facts) for each in classes for facts in each.streams}
    whole = Counter(facts.record.variant for facts in record.facts if id(facts) not in broken)
    if whole:
        label = "well, never broke"
        bars.append(EndClass(label=label, good=True, counts=tuple(whole[name] for name in record.variants)))
    return sorted(bars, key=lambda bar: (bar.good is True, bar.good is None, -sum(bar.counts), bar.label))


def _in(each: _Class, name: str | None) -> int:
    return sum(1 for facts in each.streams if facts.record.variant == name) + sum(
        1 for start in each.starts if start.variant == name
    )


# --- one class ----------------------------------------------------------------------------------------------------------


def _class_blocks(record: Record, each: _Class, index: int) -> list[Block]:
    words = OUTCOME_WORDS[each.outcome]
    after = "" if each.end is None else f", first end: {END_WORDS[each.end]}"
    blocks: list[Block] = [Subheading(text=f"{count_of(each.count, 'stream')}: {words}{after}")]
    if not each.streams:
        numbers = [_named(record, start) for start in each.starts[:EXAMPLES]]
        blocks.append(Paragraph(text=f"For example {_streams(numbers)}."))
        return blocks
    examples = _examples(record, each.streams)
    chart = waterfall(
        f"class-{index}",
        f"For example {_streams([_named(record, facts.record) for facts in examples])}",
        [_lane(record, facts) for facts in examples],
    )
    if chart is not None:
        chart.sentence = f"Showing {len(examples)} of {each.count:,}. {_active(record, each.streams)}"
        blocks.append(Figure(chart=chart))
    blocks.append(
        Bullets(items=[f"Stream {_named(record, facts.record)}: {told(record, facts)}" for facts in examples])
    )
    return blocks


def _streams(numbers: Sequence[str]) -> str:
    return f"{'stream' if len(numbers) == 1 else 'streams'} {joined(numbers)}"


def _named(record: Record, row: StreamRecord | StartRow) -> str:
    """A stream's number, which counts in each variant from the start."""
    return f"{row.stream} ({variant_text(row.variant)})" if record.several else str(row.stream)


def _examples(record: Record, streams: Sequence[Facts]) -> list[Facts]:
    """Three, from every variant in turn, the lowest numbers first."""
    by_variant: dict[str | None, list[Facts]] = defaultdict(list)
    for facts in sorted(streams, key=lambda each: each.record.stream):
        by_variant[facts.record.variant].append(facts)
    queues = [by_variant[name] for name in record.variants if name in by_variant] or list(by_variant.values())
    chosen: list[Facts] = []
    for turn in range(EXAMPLES):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
    return sorted(
        chosen[:EXAMPLES],
        key=lambda each: (
            record.variants.index(each.record.variant) if each.record.variant in record.variants else 0,
            each.record.stream,
        ),
    )


def _active(record: Record, streams: Sequence[Facts]) -> str:
    counts = Counter[str]()
    none = 0
    for facts in streams:
        names = {window_name(window, several=False) for window in record.active(facts.record)}
        counts.update(names)
        none += not names
    if not counts:
        return "No fault was active on their path."
    parts = [
        f"{name} in {count:,} of {len(streams):,} ({share_text(count / len(streams))})"
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4]
    ]
    more = f"; {len(counts) - 4} more faults" if len(counts) > 4 else ""
    return f"Active on their path: {'; '.join(parts)}{more}" + (f"; none in {none:,}." if none else ".")


def _lane(record: Record, facts: Facts) -> Lane:
    row = facts.record
    parts = [f"stream {row.stream}"]
    parts += [short(row.variant, _LONGEST_NAME_CHARS)] if record.several else []
    parts += [short(row.group, _LONGEST_NAME_CHARS)] if row.group else []
    parts += [] if facts.good else [f"end {row.end}"]
    if row.attempts_total > 1 or len(row.attempts) > 1:
        parts.append(count_of(max(row.attempts_total, len(row.attempts)), "attempt"))
    origin = began(row).ns
    retries = [(attempt.started.ns - origin) / _NS_PER_MS for attempt in row.attempts[1:MOST_LANE_ATTEMPTS]]
    return Lane(label=" · ".join(parts), segments=segments(row), good=facts.good, retries_ms=retries)
