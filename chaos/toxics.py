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
- Standing toxics are set while the proxy is disabled: a reset can only be armed before a connection begins (1.6).
"""

from typing import Final, Literal

from msgspec import Struct

from sseproof.chaos.faults import (
    Clean,
    Cut,
    Fault,
    FaultError,
    Refused,
    Slice,
    SlowFirstByte,
    Stall,
    Windowed,
)

Direction = Literal["downstream", "upstream"]

_LONGEST_MS: Final = 7_200_000
_STALL_MS: Final = _LONGEST_MS
"""Longer than any window: a stall ends because it is healed."""
_LARGEST_BYTES: Final = 1 << 40
_FASTEST_KB_S: Final = 10_000_000
_LARGEST_PIECE_BYTES: Final = 32_768
_LONGEST_PIECE_DELAY_US: Final = 1_000_000

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
    "limit_data": {"bytes": (1, _LARGEST_BYTES)},
}
"""Type → attribute → smallest and largest value that may reach a server."""


class Toxic(Struct, frozen=True, kw_only=True):
    """One toxic as it is sent to the server and as the server echoes it."""

    name: str
    type: str
    stream: Direction = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, int]


class Switch(Struct, frozen=True):
    """A window that takes the proxy itself down: live connections end by FIN, new ones are refused."""


def checked(toxic: Toxic) -> Toxic:
    """The toxic, if a server survives it and does what it says. Raises FaultError with the reason if not."""
    bounds = _BOUNDS.get(toxic.type)
    if bounds is None:
        raise FaultError(f"{toxic.type!r} is no toxic of a stock server: it has {', '.join(_BOUNDS)}.")
    if toxic.stream not in {"downstream", "upstream"}:
        raise FaultError(f"A toxic acts downstream or upstream, not {toxic.stream!r}.")
    if set(toxic.attributes) != set(bounds):
        raise FaultError(
            f"{toxic.type} takes exactly {', '.join(bounds)}, not {', '.join(toxic.attributes) or 'nothing'}: "
            "the server would take what is missing as 0."
        )
    for name, (least, most) in bounds.items():
        value: object = toxic.attributes[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise FaultError(f"{name} of {toxic.type} is a whole number from {least} to {most}.")
    if toxic.type == "slicer" and toxic.attributes["size_variation"] >= toxic.attributes["average_size"]:
        raise FaultError("size_variation of slicer is below its average_size: more ends the server.")
    if toxic.toxicity not in ({0.0, 1.0} if toxic.type == "reset_peer" else {1.0}):
        raise FaultError("toxicity is 1 (0 only for reset_peer): shares are drawn by the plan's groups.")
    return toxic


def standing_toxics(fault: Fault, cut_after_bytes: int | None = None) -> list[Toxic]:
    """The toxics that stand on a proxy of this fault's group for the whole run.

    `cut_after_bytes` is the proxy's own offset where the group's offsets were drawn by the plan.
    """
    match fault:
        case Clean() | Refused():
            return []
        case Stall():
            return [_latency("stall", 0)]
        case SlowFirstByte(delay_ms=delay_ms):
            # Upstream: the answer is not shifted in a buffer but asked for later, so nothing bursts and no gap bends.
            return [_latency("slow_request", delay_ms, stream="upstream")]
        case Slice(size_bytes=size_bytes, delay_us=delay_us):
            return [
                _toxic(
                    "slices", "slicer", {"average_size": size_bytes, "size_variation": 0, "delay": delay_us}
                ),
            ]
        case Cut(after_bytes=after_bytes, by=by):
            limit = _toxic("limit", "limit_data", {"bytes": cut_after_bytes or after_bytes})
            # reset_peer at toxicity 0 never acts by itself: it only makes every close of the connection a reset.
            reset = _toxic("reset", "reset_peer", {"timeout": 0}, toxicity=0.0)
            return [reset, limit] if by == "rst" else [limit]


def window_action(fault: Windowed) -> Toxic | Switch:
    """What a window of this fault changes: a standing toxic gets these attributes, or the proxy is switched off."""
    match fault:
        case Stall():
            return _latency("stall", _STALL_MS)
        case Refused():
            return Switch()


def _latency(name: str, delay_ms: int, *, stream: Direction = "downstream") -> Toxic:
    return _toxic(name, "latency", {"latency": delay_ms, "jitter": 0}, stream=stream)


def _toxic(
    name: str,
    kind: str,
    attributes: dict[str, int],
    *,
    stream: Direction = "downstream",
    toxicity: float = 1.0,
) -> Toxic:
    return checked(Toxic(name=name, type=kind, stream=stream, toxicity=toxicity, attributes=attributes))
