"""Which dialect a stream speaks: the user's word, else what its events are recognised as.

A terminal marker of the user's describes plain events, as it does in a scenario.
"""

from msgspec import Struct

from sseproof.loadtests.dialects import AUTO, PLAIN, Plain, dialect_of, guess, recognise
from sseproof.loadtests.dialects.review import Review, review
from sseproof.loadtests.settings import Target
from sseproof.reports.endpoint.seen import Seen


class Spoken(Struct, frozen=True):
    """What dialect a stream speaks, and how well."""

    name: str
    service: str
    """What its events were recognised as, in words; empty for the unknown."""
    recognised: str
    """The name of that."""
    terminal: str | None
    """Of plain events: the terminal marker in the scenario's words, None when none is known."""
    review: Review


def spoken(seen: Seen, dialect: str | None, terminal: str | None) -> Spoken:
    """Reads a stream in the dialect that was named, or in its own."""
    recognised = recognise(seen.messages)
    named = None if dialect == AUTO else dialect
    name = named or (PLAIN if terminal is not None else recognised.dialect)
    if name != PLAIN:
        read = review(seen.messages, dialect_of(Target(url="", dialect=name)))
        return Spoken(name, recognised.service, recognised.dialect, None, read)
    marker = terminal or guess(seen.messages).terminal
    read = review(seen.messages, Plain(marker), terminal_known=marker not in {None, "none"})
    return Spoken(name, recognised.service, recognised.dialect, marker, read)
