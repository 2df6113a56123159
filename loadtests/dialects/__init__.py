"""What events mean, by the kind of service that sends them; pure, and the same for load runs and `sseproof check`.

`dialect_of` gives the dialect a target names, `recognise` the name from a stream's own events.
"""

from difflib import get_close_matches
from typing import Final

from sseproof.loadtests.dialects.mcp import Mcp
from sseproof.loadtests.dialects.meaning import (
    HEARTBEAT_TYPES,
    TERMINAL_DATA,
    Dialect,
    Meaning,
    MeaningKind,
    Reader,
    Run,
)
from sseproof.loadtests.dialects.models import Anthropic, Chat, Gemini, Responses
from sseproof.loadtests.dialects.plain import (
    ERROR_TYPES,
    OTHER_TYPES,
    TERMINAL_TYPES,
    Guess,
    Plain,
    guess,
)
from sseproof.loadtests.dialects.recognise import PLAIN, Lookalike, Recognised, lookalike, recognise
from sseproof.loadtests.settings import Target

__all__ = [
    "AUTO",
    "ERROR_TYPES",
    "HEARTBEAT_TYPES",
    "NAMES",
    "OTHER_TYPES",
    "PLAIN",
    "TERMINAL_DATA",
    "TERMINAL_TYPES",
    "Dialect",
    "Guess",
    "Lookalike",
    "Meaning",
    "MeaningKind",
    "Plain",
    "Reader",
    "Recognised",
    "Run",
    "describes_plain",
    "dialect_of",
    "guess",
    "lookalike",
    "recognise",
]

AUTO: Final = "auto"
"""The word for a dialect that is to be recognised; leaving it out says the same."""
NAMES: Final = (PLAIN, "openai", "openai-responses", "anthropic", "gemini", "mcp")
_VERSION_HEADER: Final = "mcp-protocol-version"


def dialect_of(target: Target) -> Dialect:
    """The dialect of a target; plain where it names none. Raises ValueError, in a sentence without the section's name."""
    name = target.dialect or PLAIN
    if name not in NAMES:
        near = get_close_matches(name, NAMES, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"dialect = {name!r} is not known; {meant}known are: {', '.join(NAMES)}, {AUTO}")
    if name == PLAIN:
        return Plain(target.terminal, target.sequence, target.sent_at, target.text)
    own = describes_plain(target)
    if own:
        raise ValueError(
            f"{own[0]} describes a plain stream, the dialect {name} knows its own: leave one of them out"
        )
    if name == "openai":
        return Chat()
    if name == "openai-responses":
        return Responses(numbered=target.sequence != "none")
    if name == "anthropic":
        return Anthropic()
    if name == "gemini":
        return Gemini()
    versions = [value for key, value in target.headers.items() if key.lower() == _VERSION_HEADER]
    return Mcp(versions[0].strip() if versions else None, target.body)


def describes_plain(target: Target) -> list[str]:
    """The keys by which a target describes a plain stream's events, as far as it gives them.

    That numbers are to be left alone (`sequence = "none"`) describes nothing.
    """
    given = {key: getattr(target, key) for key in ("terminal", "sequence", "sent_at", "text")}
    return [key for key, word in given.items() if word is not None and (key, word) != ("sequence", "none")]
