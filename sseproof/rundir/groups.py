"""Which group a stream belongs to and which address each of its attempts dials, from the plan's seed alone.

Rules (design.md decision 8: chance lives in the plan):
- Streams are numbered from 0 and fall into blocks. Within each block every group has exactly its share, in an order
  drawn from the seed, so shares are exact after every whole block, however long the run, and no worker's stride
  (`k % workers`) lines up with a group.
- The n-th stream of a group sits at the n-th of the group's first-attempt addresses in turn: proxies of one group
  carry the same number of streams, and each stream's cut offset is known before the run.
- Later attempts go to the addresses marked `later`, in turn too.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct

from sseproof.rundir.rows import AddressPlan
from sseproof.rundir.seeds import named_random

_BLOCKS_KEPT: Final = 64
"""Streams start nearly in order, so few blocks are in use at once."""


class GroupShare(Struct, frozen=True):
    """How many streams of every block belong to one group."""

    name: str
    per_block: int


class GroupRule(Struct, frozen=True, kw_only=True):
    """The seeded rule that gives every stream number its group; `per_block` of all groups sum up to `block`."""

    seed: int
    block: int
    shares: tuple[GroupShare, ...]


class Seat(Struct, frozen=True):
    """A stream's group and its position among the streams of that group, from 0."""

    group: str
    ordinal: int


def seat_of(rule: GroupRule, stream: int) -> Seat:
    """Where stream number `stream` (from 0) sits."""
    block, place = divmod(stream, rule.block)
    share, rank = _block(rule, block)[place]
    return Seat(share.name, block * share.per_block + rank)


def group_of(rule: GroupRule, stream: int) -> str:
    """The group of stream number `stream`."""
    return seat_of(rule, stream).group


def address_of(
    addresses: Sequence[AddressPlan], rule: GroupRule, stream: int, attempt: int
) -> AddressPlan | None:
    """What attempt number `attempt` (from 1) of a stream dials; None when its group has no address."""
    seat = seat_of(rule, stream)
    mine = list(_fitting(addresses, seat.group, attempt))
    return mine[(seat.ordinal + attempt - 1) % len(mine)] if mine else None


def _fitting(addresses: Iterable[AddressPlan], group: str, attempt: int) -> Iterable[AddressPlan]:
    wanted = {"any", "first" if attempt == 1 else "later"}
    return (each for each in addresses if each.group == group and each.attempts in wanted)


@lru_cache(maxsize=_BLOCKS_KEPT)
def _block(rule: GroupRule, block: int) -> tuple[tuple[GroupShare, int], ...]:
    """The seats of one block in stream order."""
    seats = [(share, rank) for share in rule.shares for rank in range(share.per_block)]
    named_random(rule.seed, "groups", block).shuffle(seats)
    return tuple(seats)
