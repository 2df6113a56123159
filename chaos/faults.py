"""What can be broken: small frozen types that refuse values no wire could show or no server would survive.

Rules (style.md "A fault is small data"; toxiproxy.md 1):
- A fault says what the wire does, never which option makes it so; `chaos.toxics` knows Toxiproxy's words.
- Units are part of every field's name. In TOML lengths of time are written with their unit (`delay = "1.5s"`), as
  everywhere in a scenario; `parse_fault` turns them into the unit of the field.
- Two kinds of faults: those that *stand* on their connections for the whole run (latency, cut, slice), and those with
  *windows*, begun and healed by the injector at planned moments (stall, refused). With `when` the former have windows, too.
- Faults with an `on` meet a stream's first connection only, or each of them.
"""

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, get_args

from msgspec import Struct

from sseproof.rundir.units import Duration, parse_duration

LONGEST_DELAY_MS: Final = 60_000
"""Servers give a request about a minute before they hang up; beyond it the fault would be theirs."""
LONGEST_WINDOW_MS: Final = 3_600_000
LATEST_MS: Final = 7 * 24 * 3_600_000
MOST_BYTES: Final = 1 << 40
LARGEST_SLICE_BYTES: Final = 32_768
"""Toxiproxy reads at most 32 KB at once (toxiproxy.md 1.0): larger slices would change nothing."""
SHORTEST_SLICE_DELAY_US: Final = 100
"""Slices closer together coalesce on their way: 98 one-byte slices came in 2 to 10 reads (toxiproxy.md 1.7)."""
LONGEST_SLICE_DELAY_US: Final = 1_000_000
MOST_WINDOWS: Final = 10_000
SHORTEST_AWAY_MS: Final = 200
"""Between the end of a drain and the next start: the last streams are sent away, and the process ends."""
SHORTEST_REST_MS: Final = 200
"""Between two windows of one fault: healing takes calls, and the next must not meet them."""

FASTEST_RATE_KB_S: Final = 1_000_000
MOST_EVENTS: Final = 1_000_000_000
LARGEST_OFFSET_BYTES: Final = 1 << 24
"""Of a place inside an event: beyond 16 MiB no event is taken by anybody."""
DEFAULT_OFFSET_BYTES: Final = 8
"""Behind the name of the first field, and within any event that says something."""

CutBy = Literal["fin", "rst"]
CutOn = Literal["first", "every"]
Inside = Literal["boundary", "event", "character"]
"""Where after so many events: at the end of the last one, inside the next one, inside the next character of several
bytes."""


Shows = Literal["breaks", "silence"]
MOST_WORDS: Final = 64
LONGEST_WORD_CHARS: Final = 4_096


class FaultError(ValueError):
    """A fault or a group that can't be; the message is one sentence for the person who wrote it."""


class When(Struct, frozen=True, kw_only=True):
    """The times of a fault that would else stand for the whole run: from `after_ms` of load on for `duration_ms`.

    With `every_ms` it acts `times` times, so long from one begin to the next.
    """

    duration_ms: int
    after_ms: int = 0
    every_ms: int | None = None
    times: int = 1

    def __post_init__(self) -> None:
        _check_windows(self)


class Clean(Struct, frozen=True, tag_field="kind", tag="clean"):
    """Nothing is broken: the control group, behind the same kind of proxy as the others."""

    wire: ClassVar[str] = "nothing happens"


class Latency(Struct, frozen=True, kw_only=True, tag_field="kind", tag="latency"):
    """Every byte of the answer arrives `delay_ms` later than it would: the stream is shifted, not slowed.

    The connection itself is made at once: TCP ends at the proxy (toxiproxy.md 1.0).
    """

    wire: ClassVar[str] = "each byte of the answer is passed on so much later, at its own pace"
    delay_ms: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("delay", self.delay_ms, 1, LONGEST_DELAY_MS, "ms")
        _check_when(self.when)


class Jitter(Struct, frozen=True, kw_only=True, tag_field="kind", tag="jitter"):
    """As latency, but each piece of the answer by `delay_ms` give or take up to `jitter_ms`; the order is kept.

    A late piece holds back those behind it, so on a fast stream the delays lean to the long side (toxiproxy.md 1.2).
    The draws are the server's own: of all faults only this one is not the same twice.
    """

    wire: ClassVar[str] = "each piece of the answer is passed on later by a time of its own, in order"
    delay_ms: int
    jitter_ms: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("delay", self.delay_ms, 1, LONGEST_DELAY_MS, "ms")
        _within("jitter (delay at most)", self.jitter_ms, 1, self.delay_ms, "ms")
        _check_when(self.when)


class Bandwidth(Struct, frozen=True, kw_only=True, tag_field="kind", tag="bandwidth"):
    """Each connection passes at most `rate_kb_s` of 1000 bytes a second of its answer.

    The service notices little: what it writes waits in the buffers of the kernel, megabytes on loopback.
    """

    wire: ClassVar[str] = "each connection passes at most so many KB (1000 bytes) of its answer a second"
    rate_kb_s: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("rate_kb_s", self.rate_kb_s, 1, FASTEST_RATE_KB_S, "KB/s")
        _check_when(self.when)


class SlowDrip(Struct, frozen=True, kw_only=True, tag_field="kind", tag="slow-drip"):
    """The answer comes in drops of at most `size_bytes`, `every_ms` apart, its head included, nothing lost."""

    wire: ClassVar[str] = "the answer is passed on in drops of so many bytes, one every so often"
    size_bytes: int
    every_ms: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("size_bytes", self.size_bytes, 1, LARGEST_SLICE_BYTES, "bytes")
        _within("every", self.every_ms, 1, LONGEST_SLICE_DELAY_US // 1_000, "ms")
        _check_when(self.when)


class SlowFirstByte(Struct, frozen=True, kw_only=True, tag_field="kind", tag="slow-first-byte"):
    """Each request reaches the service `delay_ms` late, so its answer begins late and then keeps its own pace.

    Over TLS each flight of the client is late, those of the handshake too.
    """

    wire: ClassVar[str] = "each request is held back before it goes on to the target"
    delay_ms: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("delay", self.delay_ms, 1, LONGEST_DELAY_MS, "ms")
        _check_when(self.when)


class Cut(Struct, frozen=True, kw_only=True, tag_field="kind", tag="cut"):
    """The connection ends after so many bytes of the answer, exact to the byte, headers and framing included.

    With a `to_bytes` above `after_bytes` each proxy of the group draws its own offset between both, from the seed.
    With `on="first"` only a stream's first connection is cut and its reconnections meet nothing.

    By RST the whole connection is armed: if the answer is shorter than the offset it still ends in a reset, so
    choose offsets below the answer's length.
    """

    wire: ClassVar[str] = "the connection is closed, or reset, after exactly so many bytes of the answer"
    after_bytes: int
    to_bytes: int | None = None
    by: CutBy = "fin"
    on: CutOn = "first"
    when: When | None = None

    def __post_init__(self) -> None:
        _within("after_bytes", self.after_bytes, 1, MOST_BYTES, "bytes")
        if self.to_bytes is not None:
            _within("the end of after_bytes", self.to_bytes, self.after_bytes, MOST_BYTES, "bytes")
        _one_of("by", self.by, get_args(CutBy))
        _one_of("on", self.on, get_args(CutOn))
        _check_when(self.when, self.by)


class CutEvents(Struct, frozen=True, kw_only=True, tag_field="kind", tag="cut-events"):
    """The connection ends after so many whole events of an answer, or inside what follows them.

    `inside="event"` ends it `offset_bytes` into the next event, `inside="character"` behind the first byte of the next
    character of several bytes. Needs plain text: no TLS, no compression. By RST as `Cut`.
    """

    wire: ClassVar[str] = (
        "the connection is closed, or reset, after so many whole events, or inside the next event or character"
    )
    after_events: int
    inside: Inside = "boundary"
    offset_bytes: int | None = None
    by: CutBy = "fin"
    on: CutOn = "first"
    when: When | None = None

    def __post_init__(self) -> None:
        _check_place(self)
        _one_of("by", self.by, get_args(CutBy))
        _one_of("on", self.on, get_args(CutOn))
        _check_when(self.when, self.by)


class CutTime(Struct, frozen=True, kw_only=True, tag_field="kind", tag="cut-time"):
    """The connection ends `after_ms` after it began, whatever passes on it at that moment. By RST as `Cut`."""

    wire: ClassVar[str] = "the connection is closed, or reset, so long after it began, whatever passes on it"
    after_ms: int
    by: CutBy = "fin"
    on: CutOn = "first"
    when: When | None = None

    def __post_init__(self) -> None:
        _within("after", self.after_ms, 1, LONGEST_WINDOW_MS, "ms")
        _one_of("by", self.by, get_args(CutBy))
        _one_of("on", self.on, get_args(CutOn))
        _check_when(self.when, self.by)


class AcceptThenClose(Struct, frozen=True, kw_only=True, tag_field="kind", tag="accept-then-close"):
    """The connection is accepted and ends with the first byte of its request, before any answer; the target gets none."""

    wire: ClassVar[str] = (
        "the connection is accepted, and closed or reset when its request comes: the target sees none"
    )
    by: CutBy = "fin"
    on: CutOn = "first"
    when: When | None = None

    def __post_init__(self) -> None:
        _one_of("by", self.by, get_args(CutBy))
        _one_of("on", self.on, get_args(CutOn))
        _check_when(self.when, self.by)


class Slice(Struct, frozen=True, kw_only=True, tag_field="kind", tag="slice"):
    """The answer comes in slices of at most `size_bytes`, `delay_us` apart, nothing lost: characters and events split.

    Timer granularity makes each slice cost about 1 ms (toxiproxy.md 1.7): do not judge latency in this group.
    """

    wire: ClassVar[str] = "the answer is passed on in small pieces with a pause between them"
    size_bytes: int
    delay_us: int = SHORTEST_SLICE_DELAY_US
    when: When | None = None

    def __post_init__(self) -> None:
        _within("size_bytes", self.size_bytes, 1, LARGEST_SLICE_BYTES, "bytes")
        _within("delay", self.delay_us, SHORTEST_SLICE_DELAY_US, LONGEST_SLICE_DELAY_US, "us")
        _check_when(self.when)


class SplitCharacters(Struct, frozen=True, kw_only=True, tag_field="kind", tag="split-characters"):
    """Every character of several bytes comes in two parts, `delay_ms` apart; everything else is left as it comes.

    Needs plain text: no TLS, no compression.
    """

    wire: ClassVar[str] = "a pause behind the first byte of every character of several bytes"
    delay_ms: int = 5
    when: When | None = None

    def __post_init__(self) -> None:
        _within("delay", self.delay_ms, 1, LONGEST_DELAY_MS, "ms")
        _check_when(self.when)


class StallEvents(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stall-events"):
    """After so many events of an answer nothing passes for `duration_ms`; then everything does, nothing lost.

    `inside` and `offset_bytes` as in `CutEvents`. Needs plain text: no TLS, no compression.
    """

    wire: ClassVar[str] = (
        "after so many events of each answer nothing is passed on for a while; then everything is, in order"
    )
    after_events: int
    duration_ms: int
    inside: Inside = "boundary"
    offset_bytes: int | None = None
    when: When | None = None

    def __post_init__(self) -> None:
        _check_place(self)
        _within("duration", self.duration_ms, 1, LONGEST_WINDOW_MS, "ms")
        _check_when(self.when)


class SlowClose(Struct, frozen=True, kw_only=True, tag_field="kind", tag="slow-close"):
    """When the target has closed the connection its client learns of it `delay_ms` later.

    Only who waits for the end of the connection meets it: after a terminal marker, or a framed end, nobody does.
    """

    wire: ClassVar[str] = "the target's closing of the connection is passed on later; no byte is"
    delay_ms: int
    when: When | None = None

    def __post_init__(self) -> None:
        _within("delay", self.delay_ms, 1, LONGEST_DELAY_MS, "ms")
        _check_when(self.when)


class Stall(Struct, frozen=True, kw_only=True, tag_field="kind", tag="stall"):
    """From `after_ms` of load on, for `duration_ms`, no byte of any answer arrives; then all of them do, none lost."""

    wire: ClassVar[str] = "nothing of any answer is passed on; then everything is, in order"
    after_ms: int
    duration_ms: int
    every_ms: int | None = None
    times: int = 1

    def __post_init__(self) -> None:
        _check_windows(self)


class BlackHole(Struct, frozen=True, kw_only=True, tag_field="kind", tag="black-hole"):
    """From `after_ms` of load on, for `duration_ms`, whatever is sent, either way, is gone; connections stay open.

    What went in never comes out: when the link is back, connections of that time end by FIN.
    """

    wire: ClassVar[str] = (
        "nothing passes either way and connections stay open; at the end those of that time are closed"
    )
    after_ms: int
    duration_ms: int
    every_ms: int | None = None
    times: int = 1

    def __post_init__(self) -> None:
        _check_windows(self)


class Refused(Struct, frozen=True, kw_only=True, tag_field="kind", tag="refused"):
    """From `after_ms` of load on, for `duration_ms`, live connections end by FIN and new ones are refused."""

    wire: ClassVar[str] = (
        "the listening socket is closed, live connections end by FIN; then it is opened again"
    )
    after_ms: int
    duration_ms: int
    every_ms: int | None = None
    times: int = 1

    def __post_init__(self) -> None:
        _check_windows(self)


class Flapping(Struct, frozen=True, kw_only=True, tag_field="kind", tag="flapping"):
    """From `after_ms` of load on the link goes down for `down_ms` and up for `up_ms`, `times` times.

    Down is as in `Refused`.
    """

    wire: ClassVar[str] = "the link goes down as in refused, and up again, time after time"
    after_ms: int
    down_ms: int
    up_ms: int
    times: int

    def __post_init__(self) -> None:
        _within("after", self.after_ms, 0, LATEST_MS, "ms")
        _within("down", self.down_ms, 1, LONGEST_WINDOW_MS, "ms")
        _within("up", self.up_ms, SHORTEST_REST_MS, LONGEST_WINDOW_MS, "ms")
        _within("times", self.times, 2, MOST_WINDOWS, "")


class ServerRestart(Struct, frozen=True, kw_only=True, tag_field="kind", tag="server-restart"):
    """From `after_ms` of load on the run's own server is away for `duration_ms`: killed, and started again on its port.

    All streams share the server, so all of them meet it. It forgets what it knew: answers it had begun can't go on. With
    `drain_ms` it is told to stop instead: for so long open streams go on and new ones are refused; then the others are
    sent away in good order, and the server started next continues them.
    """

    wire: ClassVar[str] = "the run's own server is ended by SIGKILL, and started again on the same port"
    after_ms: int
    duration_ms: int
    every_ms: int | None = None
    times: int = 1
    drain_ms: int | None = None

    def __post_init__(self) -> None:
        _check_windows(self)
        if self.drain_ms is not None:
            most = self.duration_ms - SHORTEST_AWAY_MS
            if most < 0:
                raise FaultError(f"duration is {SHORTEST_AWAY_MS} ms at least with drain.")
            _within(f"drain ({SHORTEST_AWAY_MS}ms less than duration at most)", self.drain_ms, 0, most, "ms")


class Command(Struct, frozen=True, kw_only=True, tag_field="kind", tag="command"):
    """From `after_ms` of load on something is done by a command, for `max_ms` at most, and undone by another.

    Words in a list, run without a shell; `env:NAME` as a word or `{env:NAME}` in one is looked up when it runs. It is over when `done_when` ends
    with 0, asked five times a second. With `every` and `times` it is done again, from one begin to the next. `shows` says what streams show of it: connections that break, or a silence. What
    a command does nobody can keep from a part of the streams, so all of them meet it.
    """

    wire: ClassVar[str] = (
        "a command does something to the service, another undoes it: a pod kill, a pause, anything"
    )
    do: tuple[str, ...]
    after_ms: int
    max_ms: int
    shows: Shows
    undo: tuple[str, ...] = ()
    done_when: tuple[str, ...] = ()
    every_ms: int | None = None
    times: int = 1

    def __post_init__(self) -> None:
        _words("do", self.do, least=1)
        _within("after", self.after_ms, 0, LATEST_MS, "ms")
        _within("max", self.max_ms, 1, LONGEST_WINDOW_MS, "ms")
        _check_times(self, "max", self.max_ms)
        _one_of("shows", self.shows, get_args(Shows))
        _words("undo", self.undo)
        _words("done_when", self.done_when)


Cuts = Cut | CutEvents | CutTime
Standing = (
    Latency
    | Jitter
    | SlowFirstByte
    | Bandwidth
    | SlowDrip
    | Cut
    | CutEvents
    | CutTime
    | AcceptThenClose
    | Slice
    | SplitCharacters
    | StallEvents
    | SlowClose
)
Windowed = Stall | BlackHole | Refused | Flapping | ServerRestart | Command
Fault = Clean | Standing | Windowed
OnFirst = Cut | CutEvents | CutTime | AcceptThenClose
"""Those that say on which connections of a stream they act."""
ReadsText = CutEvents | StallEvents | SplitCharacters | Slice
"""Those that mean the text of an answer: their streams ask for no compression."""
ReadsEvents = CutEvents | StallEvents | SplitCharacters
"""Those that have to read the stream, which TLS hides."""
OfEverybody = ServerRestart | Command
"""What happens to the service and not to a link: no stream can be left out."""
EndsConnections = Cut | CutEvents | CutTime | AcceptThenClose | BlackHole | Refused | Flapping | ServerRestart
"""After those a stream has fewer events on a connection than its answer."""

STANDING_KINDS: Final = frozenset(str(each.__struct_config__.tag) for each in get_args(Standing))
"""What acts on whatever passes while it stands, and on nothing else."""

_KINDS: Final[dict[str, type[Struct]]] = {
    str(each.__struct_config__.tag): each
    for each in (
        Latency,
        Jitter,
        SlowFirstByte,
        Bandwidth,
        SlowDrip,
        Stall,
        StallEvents,
        BlackHole,
        Cut,
        CutEvents,
        CutTime,
        Slice,
        SplitCharacters,
        Refused,
        AcceptThenClose,
        Flapping,
        SlowClose,
        ServerRestart,
        Command,
    )
}
FAULT_KINDS: Final = tuple(_KINDS)
"""What `kind` of a [[fault]] may be; the clean group needs no words."""

_COMMAND: Final = str(Command.__struct_config__.tag)
_TIMES: Final = {
    "delay": {"delay_ms": 1_000_000, "delay_us": 1_000},
    "after": {"after_ms": 1_000_000},
    "duration": {"duration_ms": 1_000_000},
    "every": {"every_ms": 1_000_000},
    "jitter": {"jitter_ms": 1_000_000},
    "down": {"down_ms": 1_000_000},
    "up": {"up_ms": 1_000_000},
    "max": {"max_ms": 1_000_000},
    "drain": {"drain_ms": 1_000_000},
}
"""Key in TOML → field of the struct → nanoseconds of its unit."""


EXAMPLE_WHEN: Final = 'when = { after = "10s", duration = "30s", every = "60s", times = 3 }'
_TIMING: Final = frozenset({"start", "after", "duration", "max", "every", "times"})
"""What people write who mean `when`."""


def kind_of(fault: Fault) -> str:
    """The fault's word: clean, latency, cut, stall, refused and so on."""
    return str(fault.__struct_config__.tag)


def when_of(fault: Fault) -> When | None:
    """The times of a fault that would else stand for the whole run; None for one that does, and for the other kinds."""
    return fault.when if isinstance(fault, Standing) else None


def is_timed(fault: Fault) -> bool:
    """Whether the fault is begun and healed at planned moments."""
    return isinstance(fault, Windowed) or when_of(fault) is not None


def stands(fault: Fault) -> bool:
    """Whether the fault acts for as long as the load does."""
    return not isinstance(fault, Clean) and not is_timed(fault)


def windows_of(fault: Fault) -> Iterator[tuple[int, int]]:
    """Begin and length in milliseconds of each time the fault acts, counted from the begin of load; none if it stands."""
    if isinstance(fault, Flapping):
        for number in range(fault.times):
            yield fault.after_ms + number * (fault.down_ms + fault.up_ms), fault.down_ms
    elif isinstance(fault, Command):
        for number in range(fault.times):
            yield fault.after_ms + number * (fault.every_ms or 0), fault.max_ms
    elif isinstance(fault, Windowed):
        yield from _times_of(fault)
    elif isinstance(fault, Standing) and fault.when is not None:
        yield from _times_of(fault.when)


def _times_of(times: When | Stall | BlackHole | Refused | ServerRestart) -> Iterator[tuple[int, int]]:
    for number in range(times.times):
        yield times.after_ms + number * (times.every_ms or 0), times.duration_ms


def parse_fault(table: Mapping[str, Any]) -> Fault:
    """The fault that a TOML table describes by `kind` and the keys of that kind.

    Raises FaultError, one sentence, for an unknown kind or key (naming the nearest) and for every bad value.
    """
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise FaultError(_unknown("fault", kind, FAULT_KINDS, "kind"))
    shape = _KINDS[kind]
    keys = keys_of(kind)
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in keys and kind == _COMMAND and key in _TIMING | {"when"}:
            raise FaultError(
                f"The fault {kind!r} is done at after, and lasts until done_when says so, for max at most; every and times do "
                f"it again: leave out {key}."
            )
        if key not in keys and key in _TIMING and "when" in keys:
            raise FaultError(f"The times of the fault {kind!r} belong into one key: {EXAMPLE_WHEN}.")
        if key not in keys:
            raise FaultError(_unknown(f"key of the fault {kind!r}", key, keys, "key"))
        try:
            fields.update(_field(shape, key, value))
        except FaultError:
            raise
        except ValueError as error:
            raise FaultError(f"{key} of the fault {kind!r}: {error}.") from None
    missing = [key for key in keys if is_required(shape, key) and key not in table]
    if missing:
        raise FaultError(f"The fault {kind!r} needs {_listed(missing)}.")
    try:
        made: Any = shape(**fields)
    except FaultError as error:
        raise FaultError(f"In the fault {kind!r}, {error}") from None
    fault: Fault = made
    return fault


def keys_of(kind: str) -> tuple[str, ...]:
    """The keys of one kind of fault as TOML has them, without `kind`."""
    fields = _KINDS[kind].__struct_fields__
    keys = [toml_key(field) for field in fields]
    return tuple(dict.fromkeys(key for key in keys if key))


def shape_of(kind: str) -> type[Struct]:
    """The type of one kind of fault."""
    return _KINDS[kind]


def toml_key(field: str) -> str:
    """The key in TOML that a field of a fault is written as."""
    if field == "to_bytes":
        return "after_bytes"  # written as after_bytes = [from, to]
    return next((key for key, units in _TIMES.items() if field in units), field)


def is_required(shape: type[Struct], key: str) -> bool:
    """Whether a field of that key has no default; in these structs required fields come first."""
    required = len(shape.__struct_fields__) - len(shape.__struct_defaults__)
    return any(toml_key(field) == key for field in shape.__struct_fields__[:required])


def _field(shape: type[Struct], key: str, value: Any) -> dict[str, Any]:
    if key in _TIMES:
        name = next(field for field in _TIMES[key] if field in shape.__struct_fields__)
        return {name: _in_unit(key, parse_duration(value), _TIMES[key][name])}
    if key == "when":
        return {"when": _when(value)}
    if key in {"do", "undo", "done_when"}:
        return {key: tuple(value) if isinstance(value, list) else value}
    if key == "after_bytes" and isinstance(value, list):
        if len(value) != 2:
            raise FaultError("after_bytes is a number of bytes, or two of them: [from, to].")
        return {"after_bytes": value[0], "to_bytes": value[1]}
    return {key: value}


def _when(value: object) -> When:
    known = tuple(toml_key(field) for field in When.__struct_fields__)
    if not isinstance(value, Mapping):
        raise FaultError(f"when is a table of times: {EXAMPLE_WHEN}.")
    fields: dict[str, Any] = {}
    for key, each in value.items():
        if key not in known:
            raise FaultError(_unknown("key of when", key, known, "key"))
        fields.update(_field(When, key, each))
    if "duration_ms" not in fields:
        raise FaultError(f"when needs duration, how long the fault acts: {EXAMPLE_WHEN}.")
    return When(**fields)


def _in_unit(key: str, length: Duration, unit_ns: int) -> int:
    count, rest = divmod(length.ns, unit_ns)
    if rest:
        unit = "1us" if unit_ns == 1_000 else "1ms"
        raise FaultError(f"{key} = {str(length)!r} is finer than {unit}: give whole multiples of {unit}.")
    return count


def _check_place(fault: CutEvents | StallEvents) -> None:
    """Raises FaultError for a place in the events that can't be."""
    _within("after_events", fault.after_events, 0, MOST_EVENTS, "")
    _one_of("inside", fault.inside, get_args(Inside))
    if fault.offset_bytes is not None:
        if fault.inside != "event":
            raise FaultError('offset_bytes is a place inside an event: write inside = "event" with it.')
        _within("offset_bytes", fault.offset_bytes, 1, LARGEST_OFFSET_BYTES, "bytes")


def _check_when(when: When | None, by: CutBy = "fin") -> None:
    if when is None:
        return
    if not isinstance(when, When):
        raise FaultError(f"when is a table of times: {EXAMPLE_WHEN}.")
    if by == "rst":
        raise FaultError(
            'by = "rst" can\'t come and go: whether a connection ends in a reset is settled when it begins, for all its '
            'life. Write by = "fin", or leave when out.'
        )


def _check_windows(fault: When | Stall | BlackHole | Refused | ServerRestart) -> None:
    _within("after", fault.after_ms, 0, LATEST_MS, "ms")
    _within("duration", fault.duration_ms, 1, LONGEST_WINDOW_MS, "ms")
    _check_times(fault, "duration", fault.duration_ms)


def _check_times(
    fault: When | Stall | BlackHole | Refused | ServerRestart | Command, length: str, length_ms: int
) -> None:
    """How often it acts, each time for a length of that name."""
    _within("times", fault.times, 1, MOST_WINDOWS, "")
    if fault.every_ms is None:
        if fault.times > 1:
            raise FaultError("times above 1 needs every: the time from one begin to the next.")
        return
    if fault.times == 1:
        raise FaultError("every needs times: how often the fault acts in all.")
    least = length_ms + SHORTEST_REST_MS
    _within(f"every (its {length} and 200ms of rest at least)", fault.every_ms, least, LATEST_MS, "ms")


def _words(what: str, value: object, *, least: int = 0) -> None:
    """Raises FaultError unless it is a list of words that can be run."""
    if not isinstance(value, tuple) or not all(isinstance(word, str) for word in value):
        raise FaultError(f'{what} is a list of words, such as ["kubectl", "delete", "pod", "chat-0"].')
    if not least <= len(value) <= MOST_WORDS:
        raise FaultError(f"{what} has {least} to {MOST_WORDS} words, not {len(value)}.")
    if any(len(word) > LONGEST_WORD_CHARS or "\0" in word for word in value) or value[:1] == ("",):
        raise FaultError(
            f"{what} holds a word that is no program, has a NUL, or is longer than {LONGEST_WORD_CHARS} characters."
        )


def _within(what: str, value: object, least: int, most: int, unit: str) -> None:
    """Raises FaultError unless the value is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultError(f"{what} is a whole number, not {_shown(value)}.")
    if not least <= value <= most:
        raise FaultError(
            f"{what} lies between {least} and {most} {unit}".rstrip() + f", not at {_shown(value)}."
        )


def _one_of(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise FaultError(f"{what} is {_listed(list(choices), 'or')}, not {_shown(value)}.")


def _unknown(what: str, given: object, known: tuple[str, ...], noun: str) -> str:
    if given is None:
        return f"A fault needs its kind: {_listed(list(known), 'or')}."
    nearest = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = (
        f"the {noun}s are {_listed(list(known))}."
        if noun == "key"
        else f"sseproof chaos list has the {noun}s."
    )
    if nearest:
        hint = f"did you mean {nearest[0]!r}?"
    return f"{_shown(given)} is no {what}: {hint}"


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 1 << 63:
        return "a number that large"  # Python refuses to print the largest
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return repr(value if isinstance(value, int | float | bool) else str(value)[:40])


def _listed(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
