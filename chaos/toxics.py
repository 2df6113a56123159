"""Faults in Toxiproxy's words: the only module that knows them. Pure; recipes and traps of toxiproxy.md 1, measured.

Rules:
- Every attribute is written out: the server takes an omitted or misspelt one as 0, and a 0 can be a stall, a drop of
  all data, or the end of the server (1.1, 1.4, 1.7).
- Toxicity is 1, or 0 for `reset_peer` alone: any other share would be drawn again at each change (1.1).
- What kills the server is refused here, before a call: a slicer without a size, negative or too large variation, a
  negative rate, endless jitter (1.2, 1.4, 1.7). The client adapter sends nothing that `checked` has not passed.
- A toxic is never added to or taken from a proxy that carries streams. A DELETE waits, holding the proxy's lock, for
  each connection whose client has gone: 20 clients that left during a stall by bandwidth 0 blocked it for over 5 s,
  measured. Changing that bandwidth instead can end the server: it slices its chunk by the new rate. So a stall is a
  latency that stands at 0 and is changed to longer than the window: nothing is written while it holds, nothing is
  dropped, and changing it back lets everything go, in order.
- A black hole is a stall both ways that ends with the proxy off for a moment: what it held dies with its connections.
- Standing toxics are set while the proxy is disabled: a reset can only be armed before a connection begins (1.6).
- So a fault that comes and goes has its toxics stand at rest, where they change nothing, and wakes them. Those that can't
  rest are never woken: `reset_peer` marks each connection for its life, and a `bandwidth` that is raised can end the
  server. A rate that comes and goes is `pace`, of our own, and a cut that does is our `sse`, which lets a connection be
  that has passed its byte before.
- The toxics `sse` and `pace` are our own (`toxiproxy_server`): events, characters, time, and a rate that may change. Only
  a build of ours has them. All others are those of a stock server.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, structs

from sseproof.chaos.faults import (
    DEFAULT_OFFSET_BYTES,
    AcceptThenClose,
    Bandwidth,
    BlackHole,
    Clean,
    Command,
    Cut,
    CutBy,
    CutEvents,
    CutTime,
    Fault,
    FaultError,
    Flapping,
    Jitter,
    Latency,
    Refused,
    ServerRestart,
    Slice,
    SlowClose,
    SlowDrip,
    SlowFirstByte,
    SplitCharacters,
    Stall,
    StallEvents,
    Standing,
    When,
    Windowed,
    when_of,
)

Direction = Literal["downstream", "upstream"]

_LONGEST_MS: Final = 7_200_000
_STALL_MS: Final = _LONGEST_MS
"""Longer than any window: a stall ends because it is healed."""
_LARGEST_BYTES: Final = 1 << 40
_FASTEST_KB_S: Final = 10_000_000
_LARGEST_PIECE_BYTES: Final = 32_768
_LONGEST_PIECE_DELAY_US: Final = 1_000_000

OWN_TOXIC: Final = "sse"
OWN_TOXICS: Final = frozenset({OWN_TOXIC, "pace"})
OwnBuildOnly = CutEvents | CutTime | StallEvents | SplitCharacters
"""Faults that stand for that toxic."""
OwnBuildIfTimed = Cut | Bandwidth
"""Faults that a stock server can only do for a whole run."""
_MOST: Final = 1 << 40
_WORDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    OWN_TOXIC: {
        "action": ("cut", "stall", "split", "rest"),
        "at": ("boundary", "event", "character", "time", "byte"),
    }
}
"""Type → attribute that is a word → the words it takes."""
COUNTERS: Final = frozenset({"fired"})
"""Attributes that a server adds to its echo: how often a toxic of ours fired, on all connections of its proxy."""

_BOUNDS: Final[dict[str, dict[str, tuple[int, int]]]] = {
    "latency": {"latency": (0, _LONGEST_MS), "jitter": (0, _LONGEST_MS)},  # a jitter of 2^62 ends the server
    "bandwidth": {"rate": (0, _FASTEST_KB_S)},  # below 0 ends the server, 0 stalls
    "slow_close": {"delay": (0, _LONGEST_MS)},
    "timeout": {"timeout": (0, _LONGEST_MS)},
    "reset_peer": {"timeout": (0, _LONGEST_MS)},
    "slicer": {
        "average_size": (1, _LARGEST_PIECE_BYTES),  # 0 ends the server
        "size_variation": (0, _LARGEST_PIECE_BYTES),
        "delay": (0, _LONGEST_PIECE_DELAY_US),
    },
    "limit_data": {"bytes": (0, _LARGEST_BYTES)},
    OWN_TOXIC: {
        "after_events": (0, _MOST),
        "offset": (0, _MOST),
        "after_ms": (0, _LONGEST_MS),
        "after_bytes": (0, _LARGEST_BYTES),
        "delay_ms": (0, _LONGEST_MS),
        "times": (0, _MOST),
    },
    "pace": {"rate": (0, _FASTEST_KB_S)},  # 0 is as it comes
}
"""Type → attribute → smallest and largest value that may reach a server."""


class Toxic(Struct, frozen=True, kw_only=True):
    """One toxic as it is sent to the server and as the server echoes it."""

    name: str
    type: str
    stream: Direction = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, int | str]


class Switch(Struct, frozen=True):
    """A window that takes the proxy itself down: live connections end by FIN, new ones are refused."""


class Outside(Struct, frozen=True):
    """A window in which something happens that is none of a proxy's business."""


class Change(Struct, frozen=True):
    """A window in which standing toxics have these attributes."""

    toxics: list[Toxic]
    closes: bool = False
    """Its end is the end of the proxy's connections, too: nothing that was held may come out."""


def checked(toxic: Toxic) -> Toxic:
    """The toxic, if a server survives it and does what it says. Raises FaultError with the reason if not."""
    bounds = _BOUNDS.get(toxic.type)
    if bounds is None:
        raise FaultError(f"{toxic.type!r} is no toxic that we know: there are {', '.join(_BOUNDS)}.")
    if toxic.stream not in {"downstream", "upstream"}:
        raise FaultError(f"A toxic acts downstream or upstream, not {toxic.stream!r}.")
    words = _WORDS.get(toxic.type, {})
    if set(toxic.attributes) != {*bounds, *words}:
        raise FaultError(
            f"{toxic.type} takes exactly {', '.join([*words, *bounds])}, "
            f"not {', '.join(toxic.attributes) or 'nothing'}: the server would take what is missing as 0."
        )
    for name, choices in words.items():
        if toxic.attributes[name] not in choices:
            raise FaultError(f"{name} of {toxic.type} is one of {', '.join(choices)}.")
    for name, (least, most) in bounds.items():
        value: object = toxic.attributes[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FaultError(f"{name} of {toxic.type} is a whole number from {least} to {most}.")
    _check_together(toxic)
    if toxic.toxicity not in ({0.0, 1.0} if toxic.type == "reset_peer" else {1.0}):
        raise FaultError("toxicity is 1 (0 only for reset_peer): shares are drawn by the plan's groups.")
    return toxic


def _check_together(toxic: Toxic) -> None:
    """What one attribute alone does not show."""
    value = {name: each for name, each in toxic.attributes.items() if isinstance(each, int)}
    if toxic.type == "slicer" and value["size_variation"] >= value["average_size"]:
        raise FaultError("size_variation of slicer is below its average_size: more ends the server.")
    if toxic.type == "limit_data" and toxic.stream == "downstream" and value["bytes"] == 0:
        raise FaultError("bytes of limit_data is 1 or more downstream: 0 lets the target answer for nothing.")
    if toxic.type == OWN_TOXIC and toxic.stream != "downstream":
        raise FaultError(f"{OWN_TOXIC} reads answers: it acts downstream.")
    if toxic.type == OWN_TOXIC and toxic.attributes["at"] == "event" and value["offset"] == 0:
        raise FaultError(f"offset of {OWN_TOXIC} is 1 or more: 0 bytes into an event is before it.")
    if toxic.type == OWN_TOXIC and toxic.attributes["at"] == "byte" and value["after_bytes"] == 0:
        raise FaultError(f"after_bytes of {OWN_TOXIC} is 1 or more: 0 bytes are before every connection.")


def needs_own_build(fault: Fault) -> bool:
    """Whether only a build of our sources can do it."""
    return isinstance(fault, OwnBuildOnly) or (
        isinstance(fault, OwnBuildIfTimed) and when_of(fault) is not None
    )


def standing_toxics(fault: Fault, cut_after_bytes: int | None = None) -> list[Toxic]:
    """The toxics that stand on a proxy of this fault's group for the whole run, at rest where the fault has its times.

    `cut_after_bytes` is the proxy's own offset where the group's offsets were drawn by the plan.
    """
    match fault:
        case Clean() | Refused() | Flapping() | ServerRestart() | Command():
            return []
        case Stall():
            return [_latency("stall", 0)]
        case BlackHole():
            return [_latency("hole_down", 0), _latency("hole_up", 0, stream="upstream")]
    acting = _acting(fault, cut_after_bytes)
    return acting if when_of(fault) is None else [_at_rest(toxic) for toxic in acting]


def _at_rest(toxic: Toxic) -> Toxic:
    """The same toxic, changing nothing."""
    resting = _RESTING[toxic.type]
    return checked(structs.replace(toxic, attributes=toxic.attributes | resting))


def toxics_laid_to_rest(fault: Fault, cut_after_bytes: int | None = None) -> list[Toxic] | None:
    """What stands on a proxy for the whole run, as it is when it changes nothing more and its connections live on.

    None where that can't be had: raising a stock rate can end the server, and a reset is settled when a connection begins.
    """
    standing = standing_toxics(fault, cut_after_bytes)
    if any(toxic.type not in _RESTING for toxic in standing):
        return None
    return [_at_rest(toxic) for toxic in standing]


_RESTING: Final[dict[str, dict[str, int | str]]] = {
    "latency": {"latency": 0, "jitter": 0},
    "slicer": {"average_size": _LARGEST_PIECE_BYTES, "delay": 0},  # nothing larger is read at once
    "slow_close": {"delay": 0},
    "limit_data": {"bytes": _LARGEST_BYTES},
    "pace": {"rate": 0},
    OWN_TOXIC: {"action": "rest"},
}


def _acting(fault: Standing, cut_after_bytes: int | None) -> list[Toxic]:
    match fault:
        case Latency(delay_ms=delay_ms):
            return [_latency("late", delay_ms)]
        case Jitter(delay_ms=delay_ms, jitter_ms=jitter_ms):
            return [_toxic("jitter", "latency", {"latency": delay_ms, "jitter": jitter_ms})]
        case SlowFirstByte(delay_ms=delay_ms):
            # Upstream: the answer is not shifted in a buffer but asked for later, so nothing bursts and no gap bends.
            return [_latency("slow_request", delay_ms, stream="upstream")]
        case Bandwidth(rate_kb_s=rate, when=When()):
            return [_toxic("rate", "pace", {"rate": rate})]
        case Bandwidth(rate_kb_s=rate):
            return [_toxic("rate", "bandwidth", {"rate": rate})]
        case SlowDrip(size_bytes=size_bytes, every_ms=every_ms):
            return [_slicer("drops", size_bytes, every_ms * 1_000)]
        case Slice(size_bytes=size_bytes, delay_us=delay_us):
            return [_slicer("slices", size_bytes, delay_us)]
        case SlowClose(delay_ms=delay_ms):
            return [_toxic("slow_close", "slow_close", {"delay": delay_ms})]
        case Cut(after_bytes=after_bytes, when=When()):
            return [_sse("cut", "byte", after_bytes=cut_after_bytes or after_bytes)]
        case Cut(after_bytes=after_bytes, by=by):
            limit = _toxic("limit", "limit_data", {"bytes": cut_after_bytes or after_bytes})
            return [*_reset(by), limit]
        case AcceptThenClose(by="fin"):
            return [_toxic("close", "limit_data", {"bytes": 0}, stream="upstream")]
        case AcceptThenClose():
            return [_toxic("close", "reset_peer", {"timeout": 0}, stream="upstream")]
        case CutEvents(by=by):
            return [*_reset(by), _at(fault, "cut", 0)]
        case CutTime(after_ms=after_ms, by=by):
            return [*_reset(by), _sse("cut", "time", after_ms=after_ms)]
        case StallEvents(duration_ms=duration_ms):
            return [_at(fault, "stall", duration_ms)]
        case SplitCharacters(delay_ms=delay_ms):
            return [_sse("split", "character", delay_ms=delay_ms, times=0)]


def window_action(
    fault: Standing | Windowed, cut_after_bytes: int | None = None
) -> Change | Switch | Outside:
    """What a window of this fault changes: standing toxics get these attributes, or the proxy is switched off."""
    if isinstance(fault, Standing):
        return Change(_acting(fault, cut_after_bytes))
    match fault:
        case Stall():
            return Change([_latency("stall", _STALL_MS)])
        case BlackHole():
            return Change(
                [_latency("hole_down", _STALL_MS), _latency("hole_up", _STALL_MS, stream="upstream")],
                closes=True,
            )
        case Refused() | Flapping():
            return Switch()
        case ServerRestart() | Command():
            return Outside()


def _reset(by: CutBy) -> list[Toxic]:
    """reset_peer at toxicity 0 never acts by itself: it only makes every close of the connection a reset."""
    return [_toxic("reset", "reset_peer", {"timeout": 0}, toxicity=0.0)] if by == "rst" else []


def _slicer(name: str, size_bytes: int, delay_us: int) -> Toxic:
    return _toxic(name, "slicer", {"average_size": size_bytes, "size_variation": 0, "delay": delay_us})


def _at(fault: CutEvents | StallEvents, action: str, delay_ms: int) -> Toxic:
    offset = (fault.offset_bytes or DEFAULT_OFFSET_BYTES) if fault.inside == "event" else 0
    return _sse(action, fault.inside, after_events=fault.after_events, offset=offset, delay_ms=delay_ms)


def _sse(action: str, at: str, *, times: int = 1, **numbers: int) -> Toxic:
    attributes: dict[str, int | str] = {"action": action, "at": at, "times": times}
    for name in ("after_events", "offset", "after_ms", "after_bytes", "delay_ms"):
        attributes[name] = numbers.get(name, 0)
    return _toxic("sse", OWN_TOXIC, attributes)


def _latency(name: str, delay_ms: int, *, stream: Direction = "downstream") -> Toxic:
    return _toxic(name, "latency", {"latency": delay_ms, "jitter": 0}, stream=stream)


def _toxic(
    name: str,
    kind: str,
    attributes: Mapping[str, int | str],
    *,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Toxic:
    return checked(Toxic(name=name, type=kind, stream=stream, toxicity=toxicity, attributes=dict(attributes)))
