"""Numbers and counts as a reader sees them (report-style.md "Manner").

Three significant digits at most, ms below 1 s and s from there, a percentage never rounded up to all or down to none,
and a dash for what was not measured. Pure text: no terminal, no locale.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from sseproof.rundir.rows import Aborted

NOT_MEASURED: Final = "–"  # noqa: RUF001  # an en dash, as report-style.md asks for
NEVER: Final = "never"

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_MS_LIMIT_NS: Final = 999_500_000
"""From here on three digits of milliseconds would round to 1,000 ms, which is 1 s."""


def duration_text(ns: float | None) -> str:
    """A length of time: 0.27 ms, 86 ms, 420 ms, 1 s, 12.4 s, 1,240 s; None is never."""
    if ns is None:
        return NEVER
    if ns < _MS_LIMIT_NS:
        return f"{digits(ns / _NS_PER_MS)} ms"
    return f"{digits(ns / _NS_PER_S)} s"


def share_text(share: float | None, rounding: str = ROUND_HALF_EVEN) -> str:
    """A share as a percentage with its sign: 98 %, 0.96 %; 99.99 % stays below 100 % and 0.001 % above 0 %."""
    if share is None:
        return NOT_MEASURED
    text = digits(share * 100.0, rounding)
    if text == "100" and share < 1.0:
        return "> 99.9 %"
    if text in {"0", "0.01"} and 0.0 < share < 0.0001:
        return "< 0.01 %"
    return f"{text} %"


def least_text(share: float | None) -> str:
    """A lower bound, rounded down: never more than was shown."""
    return share_text(share, ROUND_FLOOR)


def most_text(share: float | None) -> str:
    """An upper bound, rounded up: never less than was shown."""
    return share_text(share, ROUND_CEILING)


def digits(value: float, rounding: str = ROUND_HALF_EVEN) -> str:
    """Three significant digits at most, two decimals at most, no exponent, thousands apart."""
    exact = Decimal(f"{value:.9f}")  # as it is meant, not as binary floats hold it: 0.29 * 100 is 29
    places = 2 - exact.adjusted() if exact else 0
    rounded = exact.quantize(Decimal(1).scaleb(-min(places, 2)), rounding)
    text = f"{rounded:,f}" if rounded == rounded.to_integral() else f"{rounded.normalize():f}"
    return text.partition(".")[0] if rounded == rounded.to_integral() else text


def signed(value: float) -> str:
    """Digits with their sign: +12.5, 0, and a real minus before 3."""
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    return f"{sign}{digits(abs(value))}"


def times_text(ratio: float) -> str:
    """Times so much: x1.3, with the sign of a multiplication."""
    return f"\N{MULTIPLICATION SIGN}{digits(ratio)}"


def count_of(count: int, noun: str) -> str:
    """A number with its noun: 1 stream, 1,200 streams."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of the nouns that reports use."""
    return f"{noun}s"


def aborted_text(aborted: Aborted) -> str:
    """Why a run gave up and what it stopped, as a sentence."""
    stopped = (
        "the faults were healed" if aborted.stop == "faults" else "faults were healed and the load ended"
    )
    return (
        f"Aborted at {duration_text(aborted.load_ns)}: success {share_text(aborted.k / max(aborted.n, 1))} of "
        f"{count_of(aborted.n, 'stream')} over {duration_text(aborted.over_ns)} ({aborted.when}); {stopped}."
    )


def most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """What there is of each, the most frequent first; without what there is none of."""
    return {
        name: count for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count
    }


def joined(texts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
