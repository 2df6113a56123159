"""Which dialect a stream speaks: the user's word, else what its events are recognised as.

A terminal marker of the user's describes plain events, as it does in a scenario.
"""

from typing import Final

from msgspec import Struct

from sseproof.loadtests.dialects import AUTO, PLAIN, Plain, dialect_of, guess, recognise
from sseproof.loadtests.dialects.review import Review, review
from sseproof.loadtests.settings import Target
from sseproof.reports.endpoint.seen import Seen
from sseproof.rundir.capture import Asked

MOST_RESPONSES: Final = 1_000
_RPC: Final = '{"method":"","id":1}'
_MCP_VERSION: Final = "mcp-protocol-version:"


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


def spoken(seen: Seen, asked: Asked) -> Spoken:
    """Reads a stream in the dialect that was named, or in its own."""
    recognised = recognise(seen.messages)
    terminal = asked.terminal
    named = None if asked.dialect == AUTO else asked.dialect
    name = named or (PLAIN if terminal is not None else recognised.dialect)
    if name != PLAIN:
        read = review(seen.messages, dialect_of(_target(seen, name, asked.responses)))
        return Spoken(name, recognised.service, recognised.dialect, None, read)
    marker = terminal or guess(seen.messages).terminal
    read = review(seen.messages, Plain(marker), terminal_known=marker not in {None, "none"})
    return Spoken(name, recognised.service, recognised.dialect, marker, read)


def _target(seen: Seen, dialect: str, responses: int) -> Target:
    """What a dialect has to know of the request; its body is not kept, only how many responses it asked for."""
    version = [
        line.partition(":")[2].strip()
        for line in seen.probed.request.split("\r\n")
        if line.lower().startswith(_MCP_VERSION)
    ]
    return Target(
        url="",
        dialect=dialect,
        headers={"MCP-Protocol-Version": version[0]} if version else {},
        body=f"[{','.join([_RPC] * min(responses, MOST_RESPONSES))}]",
    )
