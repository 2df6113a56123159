"""Planted defects with a known place: what a check must find, and what it must not accuse anybody of.

Rules:
- A stream is hit or not by its name and the seed alone, so that all its attempts agree, and the same stream numbers are
  hit again in the next run with this seed (the run's own id is left out of the draw).
- A hit stream has all modes that were asked for. Each acts on every attempt, `cut` on the first only.
- Places are drawn so that no mode hides another: lost and damaged events lie before the middle, then comes the place of
  `cut`, then those of `truncate` and `stall`. Of these two the nearer one acts.

| mode | what happens |
|---|---|
| loss | one delta is never written; its number is skipped |
| utf8 | one character of a delta is ill-formed: cut short, or FF in the place of an ASCII letter; frame and JSON stay whole |
| slow | the first token comes at 1.2 s, the later ones as much later |
| no-resume | Last-Event-ID is ignored: the stream starts again at 1, with the same ids |
| duplicate | after a resume the last 3 events are sent again first |
| truncate | a clean end without `done`; no attempt gets past the place |
| stall | silence, heartbeats included, with the connection held open; no attempt gets past the place |
| cut | the connection closes inside the framing, inside an event |
"""

import difflib
import random
from collections.abc import Iterable
from typing import Final, Literal, get_args

import msgspec
from msgspec import Struct

from sseproof.reference_server.script import first_delta
from sseproof.rundir.rows import ScriptSpec
from sseproof.rundir.seeds import named_random

Mode = Literal["loss", "utf8", "slow", "no-resume", "duplicate", "truncate", "stall", "cut"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
DEFAULT_SHARE: Final = 0.3
SLOW_FIRST_TOKEN_MS: Final = 1200.0
"""Just over the 1 s of the usual claim, so that a check that rounds to seconds is caught."""
DUPLICATES: Final = 3
ENDLESS_EVENTS: Final = 16
"""Places in an endless feed are drawn as if it had so many deltas: early enough to be met in a short run."""


def parse_modes(text: str) -> tuple[Mode, ...]:
    """The modes of `loss,utf8`, in the order of MODES, each once; empty text has none.

    Raises ValueError, with the nearest name, for a mode that does not exist.
    """
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    for name in sorted(wanted - set(MODES)):
        near = difflib.get_close_matches(name, MODES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(MODES)}"
        raise ValueError(f"{name!r} is not a way to misbehave: {hint}")
    return tuple(mode for mode in MODES if mode in wanted)


class Acts(Struct, frozen=True):
    """What happens to one hit stream. Numbers are event numbers; None means that mode was not asked for."""

    loss: int | None = None
    """Never written."""
    utf8: int | None = None
    """Written with an ill-formed character."""
    delay_ns: int = 0
    """Added to every token's instant."""
    no_resume: bool = False
    duplicate: bool = False
    cut_after: int | None = None
    truncate_after: int | None = None
    stall_after: int | None = None


NO_ACTS: Final = Acts()


class Misbehaviour:
    """The modes of a server, and which streams they hit. Raises ValueError for a share outside 0 to 1."""

    def __init__(self, modes: Iterable[Mode] = (), share: float = DEFAULT_SHARE, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"{share} is not a share of the streams: it lies between 0 and 1")
        self.modes = frozenset(modes)
        self.share = share
        self._seed = seed

    def hits(self, stream: str) -> bool:
        """Whether the stream of this name misbehaves."""
        return bool(self.modes) and named_random(self._seed, "misbehave", stream).random() < self.share

    def acts(self, stream: str, spec: ScriptSpec) -> Acts:
        """What happens to the stream of this name; NO_ACTS when it is not hit."""
        if not self.hits(stream):
            return NO_ACTS
        return _acts(self.modes, spec, named_random(self._seed, "misbehave", stream, "places"))


def _acts(modes: frozenset[Mode], spec: ScriptSpec, rng: random.Random) -> Acts:
    deltas = spec.events or ENDLESS_EVENTS
    first = first_delta(spec.kind)
    last_delta = first + deltas - 1

    def place(low_share: float, high_share: float, above: int = 0) -> int:
        low = min(max(first + int(deltas * low_share), above + 1), last_delta)
        return rng.randint(low, max(low, min(first + int(deltas * high_share), last_delta)))

    # Every place is drawn whatever the modes are: adding a mode never moves the place of another.
    early = place(0.25, 0.5)
    other = place(0.25, 0.5)
    middle = place(0.5, 0.625, above=max(early, other))
    late = place(0.625, 0.75, above=middle)
    later = place(0.625, 0.75, above=middle)
    if other == early:
        other = early - 1 if early > first else min(early + 1, last_delta)
    delay_ms = max(0.0, SLOW_FIRST_TOKEN_MS - spec.first_token_ms)
    return Acts(
        loss=early if "loss" in modes else None,
        utf8=other if "utf8" in modes else None,
        delay_ns=round(delay_ms * 1e6) if "slow" in modes else 0,
        no_resume="no-resume" in modes,
        duplicate="duplicate" in modes,
        cut_after=middle if "cut" in modes else None,
        truncate_after=late if "truncate" in modes else None,
        stall_after=later if "stall" in modes else None,
    )


def damaged_literal(text: str, number: int) -> bytes:
    """The JSON string of `text` with one character ill-formed in UTF-8, the same one each time for this event number.

    A multi-byte character loses its last byte; where there is none an ASCII character becomes FF. What follows is never
    swallowed by a decoder, so that frame and JSON stay whole (Unicode 3.9, maximal subparts). Raises ValueError for an
    empty text.
    """
    if not text:
        raise ValueError("an empty text has no character to damage")
    wide = [place for place, char in enumerate(text) if ord(char) > 0x7F]
    places = wide or range(len(text))
    place = places[number % len(places)]
    bad = text[place].encode()[:-1] or b"\xff"
    return b'"' + _inside(text[:place]) + bad + _inside(text[place + 1 :]) + b'"'


def _inside(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]
