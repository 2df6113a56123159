"""Durations as people write them (250ms, 1.5s, 2m) and as the code counts them (nanoseconds).

`Duration` is a custom msgspec type: scenario files and plan.json hold it as text with its unit, so that no number in
either needs guessing. A bare number in a scenario is taken as seconds.
"""

import math
import re
from typing import Any, Final, TypeVar

import msgspec

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)", re.ASCII)
LONGEST_NS: Final = 7 * 24 * 3_600_000_000_000
"""A week: longer values are slips of the unit."""
_LONGEST_SHOWN_CHARS: Final = 40


S = TypeVar("S", bound=msgspec.Struct)


class Duration:
    """A length of time, at least 0; `ns` is its value."""

    __slots__ = ("ns",)

    def __init__(self, ns: int) -> None:
        self.ns = ns

    @property
    def ms(self) -> float:
        """The value in milliseconds."""
        return self.ns / 1e6

    @property
    def seconds(self) -> float:
        """The value in seconds."""
        return self.ns / 1e9

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and other.ns == self.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __str__(self) -> str:
        return format_duration(self.ns)

    def __repr__(self) -> str:
        return f"Duration({self})"


def parse_duration(value: object) -> Duration:
    """A Duration from '250ms', '1m30s' or a number of seconds.

    Raises ValueError with a sentence when it is none.
    """
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004  # callers catch one kind
            f"{value!r} is not a duration: write it with its unit, such as 250ms, 30s or 2m"
        )
    if isinstance(value, int | float):
        # TOML can say nan and inf, and whole numbers beyond any float.
        length_ns = value * 1e9 if 0 <= value <= LONGEST_NS else math.inf
    else:
        text = str(value).strip()
        pairs = _DURATION.findall(text)
        if not pairs or _DURATION.sub("", text).strip() or any(unit not in _UNITS_NS for _, unit in pairs):
            raise ValueError(
                f"{_shown(text)} is not a duration: write it with its unit, such as 250ms, 30s or 2m"
            )
        length_ns = sum(float(number) * _UNITS_NS[unit] for number, unit in pairs)
    if length_ns > LONGEST_NS:
        raise ValueError(f"{_shown(value)} is not a duration between 0 and one week")
    return Duration(round(length_ns))


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > LONGEST_NS:
        return "a number that large"  # Python refuses to print the largest
    return repr(value if isinstance(value, int | float) else str(value)[:_LONGEST_SHOWN_CHARS])


def format_duration(ns: int) -> str:
    """The shortest text in one unit that reads back as the same value: 250ms, 1.5s, 2m, 90s."""
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        size = _UNITS_NS[unit]
        if ns >= size and ns % size == 0:
            return f"{ns // size}{unit}"
        if unit in {"s", "ms", "us"} and ns >= size:
            text = f"{ns / size:.6f}".rstrip("0").rstrip(".")
            if round(float(text) * size) == ns:
                return f"{text}{unit}"
    return "0s"


def encode_hook(value: object) -> object:
    """The enc_hook for structs that hold durations."""
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no place in a row")


def decode_hook(kind: type, value: object) -> Any:
    """The dec_hook for structs that hold durations."""
    if kind is Duration:
        return parse_duration(value)
    raise NotImplementedError(f"{kind.__name__} has no place in a row")


def to_raw(section: msgspec.Struct) -> msgspec.Raw:
    """A section of the scenario, durations included, as raw JSON for plan.json."""
    return msgspec.Raw(msgspec.json.encode(section, enc_hook=encode_hook))


def from_raw(raw: msgspec.Raw, kind: type[S]) -> S:
    """A section of plan.json as the struct of the package that owns it."""
    return msgspec.json.decode(raw, type=kind, dec_hook=decode_hook)
