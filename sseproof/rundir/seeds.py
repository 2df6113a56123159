"""Named random streams of one seed: a draw added in one never shifts another (measurement.md 7).

A seed reproduces the inputs of a run (arrivals, payloads, faults, sampling), not the interleaving of real sockets.
"""

import random
import secrets
from collections.abc import Sequence
from typing import Final

SEED_BITS: Final = 32
"""Short enough to be typed, long enough that two runs of a day do not share one by accident."""


def new_seed() -> int:
    """A seed nobody chose; it is printed, stored in plan.json and part of the directory's name."""
    return secrets.randbits(SEED_BITS)


def with_seed(command: Sequence[str], seed: int) -> list[str]:
    """The command line that draws the same as one whose seed nobody chose."""
    return [*command, "--seed", str(seed)]


def named_random(seed: int, *names: str | int) -> random.Random:
    """The stream of random numbers that belongs to these names; string seeding is stable across Python versions."""
    return random.Random(":".join([str(seed), *map(str, names)]))  # noqa: S311  # reproducible on purpose
