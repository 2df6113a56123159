"""Series of many values: the steps they are rounded to, their histograms, and the lines of series.hlog.

Rules (design.md "Run directory", measurement.md 4, capacity.md "How"):
- A histogram is a mapping from the lowest value of a step to a count. The steps are those of an HdrHistogram from 1 ns to
  19.5 hours with two significant digits (at most 1 part in 128 wide), so nothing is rounded a second time and histograms
  of several workers and seconds add up to exactly the histogram of all their values.
- The payload is HdrHistogram's compressed V2 encoding, byte for byte what the hdrhistogram package writes; that package is
  the tests' oracle and no part of a run, because it takes longer for each value, allocates what a header asks for, and
  brings its build tools along.
- Two digits, not three: a busy second's series is encoded in under 1 ms instead of 4, in which the generator reads
  nothing, and an hour of them takes a quarter of the space.
- What a histogram can't hold (below 0, above the top) is counted beside it and never silently left out.
- series.hlog is HdrHistogram's log format: one line an interval and tag; what its readers do not know stands in comments.
"""

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

DIGITS: Final = 2
STEP_BITS: Final = 8
"""Significant bits that are kept of a value: the fewest that tell 2 * 10**DIGITS values apart."""
HIGHEST_NS: Final = (1 << 46) - 1
"""The last value of the last step."""
STEP_MASKS: Final = [-1 << max(0, bits - STEP_BITS) for bits in range(65)]
"""For a value of so many bits: what is left of it by `&` is its step."""
WARMUP_MARK: Final = "-warmup"
VARIANT_MARK: Final = "@"

Counts = Mapping[int, int]

_HALF_BITS: Final = STEP_BITS - 1
_STEPS: Final = (46 - STEP_BITS + 2) << _HALF_BITS
_COOKIE: Final = 0x1C849313
_COMPRESSED_COOKIE: Final = 0x1C849314
_HEADER: Final = struct.Struct(">IIIIQQd")
_OUTER: Final = struct.Struct(">II")
_SETTINGS: Final = (0, DIGITS, 1, HIGHEST_NS, 1.0)
_MOST_BYTES: Final = _HEADER.size + 9 * _STEPS
"""Of a payload once it is inflated; more is damage."""
_MOST_COUNT_BITS: Final = 63

_TAG: Final = rb"([A-Za-z0-9._@-]{1,200})"
_LINE: Final = re.compile(
    rb"Tag="
    + _TAG
    + rb",(\d{1,11})\.(\d{3}),(\d{1,8})\.(\d{3}),\d{1,9}\.\d{3},([A-Za-z0-9+/]{16,80000}={0,2})"
)
_OUT_OF_RANGE: Final = re.compile(rb"#\[OutOfRange: Tag=" + _TAG + rb",(\d{1,11})\.(\d{3}),(\d{1,18})\]")


class Interval(Struct, array_like=True, frozen=True):
    """One series of one worker (or of several, merged) over one interval."""

    tag: str
    start_ns: int
    end_ns: int
    payload: str
    """`encoded`; empty when every value was out of range."""
    out_of_range: int = 0
    """Values that the histogram can't hold."""


def tag_of(series: str, variant: str | None, *, warmup: bool = False) -> str:
    """How a series is called in series.hlog: gap, gap-warmup, gap@after, gap-warmup@after."""
    name = series + WARMUP_MARK if warmup else series
    return name if variant is None else name + VARIANT_MARK + variant


def last_of_step(value_ns: int) -> int:
    """The highest value of the step that begins with this one."""
    return value_ns + (1 << max(0, value_ns.bit_length() - STEP_BITS)) - 1


def within_range(counts: Counts) -> tuple[Counts, int]:
    """The counts that a histogram can hold, and the number of values that it can't."""
    if not counts or (min(counts) >= 0 and max(counts) <= HIGHEST_NS):
        return counts, 0
    held = {value: count for value, count in counts.items() if 0 <= value <= HIGHEST_NS}
    return held, sum(counts.values()) - sum(held.values())


def merged(parts: Iterable[Counts]) -> dict[int, int]:
    """One histogram of all; exact, because all have the same steps."""
    total: dict[int, int] = {}
    for counts in parts:
        for value, count in counts.items():
            total[value] = total.get(value, 0) + count
    return total


def encoded(counts: Counts) -> str:
    """The payload of a histogram whose values are steps in range."""
    body = bytearray()
    following = 0
    for value in sorted(counts):
        shift = max(0, value.bit_length() - STEP_BITS)
        index = (shift << _HALF_BITS) + (value >> shift)
        if index > following:
            _append_number(
                body, ((index - following) << 1) - 1
            )  # a run of empty steps is its length, negative
        _append_number(body, counts[value] << 1)
        following = index + 1
    content = _HEADER.pack(_COOKIE, len(body), *_SETTINGS) + body
    packed = zlib.compress(content)
    return base64.b64encode(_OUTER.pack(_COMPRESSED_COOKIE, len(packed)) + packed).decode("ascii")


def decoded(payload: str | bytes) -> dict[int, int]:
    """The histogram of a payload. Raises ValueError when it is damaged, too large or of other steps than ours."""
    try:
        outer = base64.b64decode(payload, validate=True)
        cookie, length = _OUTER.unpack_from(outer)
        if cookie != _COMPRESSED_COOKIE or length != len(outer) - _OUTER.size:
            raise ValueError("no compressed histogram of version 2")
        inflate = zlib.decompressobj()
        content = inflate.decompress(outer[_OUTER.size :], _MOST_BYTES)
        cookie, length, *settings = _HEADER.unpack_from(content)
    except (binascii.Error, struct.error, zlib.error) as error:
        raise ValueError(f"no histogram: {error}") from None
    if cookie != _COOKIE or tuple(settings) != _SETTINGS:
        raise ValueError("a histogram of other steps")
    if not inflate.eof or length != len(content) - _HEADER.size:
        raise ValueError("a histogram of another length than it says")
    return _counts(content[_HEADER.size :])


def _append_number(body: bytearray, number: int) -> None:
    while number > 0x7F:
        body.append(number & 0x7F | 0x80)
        number >>= 7
    body.append(number)


def _counts(body: bytes) -> dict[int, int]:
    counts: dict[int, int] = {}
    index = number = shift = 0
    for byte in body:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift >= _MOST_COUNT_BITS:
                raise ValueError("a count beyond all bounds")
            continue
        if number & 1:
            index += (number + 1) >> 1
        else:
            if number:
                exponent = max(0, (index >> _HALF_BITS) - 1)
                counts[(index - (exponent << _HALF_BITS)) << exponent] = number >> 1
            index += 1
        if index > _STEPS:
            raise ValueError("more steps than there are")
        number = shift = 0
    if shift:
        raise ValueError("a count that does not end")
    return counts


# --- lines -------------------------------------------------------------------------------------------------------------


def head_lines(start_ns: int) -> bytes:
    """What readers of the format want to see before the first interval."""
    return (
        b"#[Histogram log format version 1.3]\n"
        b"#[StartTime: %s (seconds since epoch)]\n"
        b"#[values in ns; Interval_Max in ms; Tag: series, then -warmup for streams that are not judged, then @variant]\n"
        b'"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    ) % _seconds(start_ns)


def untagged_line(interval: Interval) -> bytes:
    """An interval of a log that holds one series; empty when every value was out of range, or the payload is damaged."""
    try:
        lines = interval_lines(interval)
    except ValueError:
        return b""
    return b"".join(
        line.partition(b",")[2] if line.startswith(b"Tag=") else b""
        for line in lines.splitlines(keepends=True)
    )


def interval_lines(interval: Interval) -> bytes:
    """The lines of one interval. Raises ValueError when its tag is none or its payload is damaged."""
    tag, start = interval.tag.encode(), _seconds(interval.start_ns)
    if not re.fullmatch(_TAG, tag):
        raise ValueError("no tag")
    lines = b""
    if interval.payload:
        longest_ns = last_of_step(max(decoded(interval.payload), default=0))
        length = _seconds(max(0, interval.end_ns - interval.start_ns))
        lines = b"Tag=%s,%s,%s,%s,%s\n" % (
            *(tag, start, length, _milliseconds(longest_ns)),
            interval.payload.encode("ascii"),
        )
    if interval.out_of_range:
        lines += b"#[OutOfRange: Tag=%s,%s,%d]\n" % (tag, start, interval.out_of_range)
    return lines


def parsed_line(line: bytes) -> Interval | None:
    """The interval that a line holds, None for a line of another kind. Raises ValueError for one that is damaged."""
    line = line.rstrip(b"\r\n")
    found = _LINE.fullmatch(line)
    if found is not None:
        tag, seconds, part, length, length_part, payload = found.groups()
        start_ns = _ns(seconds, part)
        return Interval(
            tag.decode("ascii"), start_ns, start_ns + _ns(length, length_part), payload.decode("ascii")
        )
    found = _OUT_OF_RANGE.fullmatch(line)
    if found is not None:
        tag, seconds, part, number = found.groups()
        start_ns = _ns(seconds, part)
        return Interval(tag.decode("ascii"), start_ns, start_ns, "", int(number))
    if not line or (line.startswith((b"#", b'"')) and b"Tag=" not in line):
        return None
    raise ValueError("no line of a histogram log")


def _ns(seconds: bytes, thousandths: bytes) -> int:
    return (int(seconds) * 1_000 + int(thousandths)) * 1_000_000


def _seconds(ns: int) -> bytes:
    return b"%d.%03d" % divmod(ns // 1_000_000, 1_000)


def _milliseconds(ns: int) -> bytes:
    return b"%d.%03d" % divmod(ns // 1_000, 1_000)
