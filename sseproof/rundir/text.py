"""What came over the network, made fit to be shown and kept: printable, bounded, without secrets.

Control characters can drive a terminal and bidirectional overrides can turn a line round, so both are written as
escapes; every other character stays (an Arabic error text stays Arabic).
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

DETAIL_LIMIT_CHARS: Final = 300
"""A sentence of evidence fits; a gigabyte of error body does not."""

CUT_MARK: Final = "… (cut)"
SECRET_MASK: Final = "[secret]"  # noqa: S105  # the mask itself
OVERWRITTEN: Final = b"*"
SHORTEST_SECRET_CHARS: Final = 4
"""Masking shorter values would garble ordinary text and hide nothing worth hiding."""

SECRET_HEADERS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-csrf-token",
    }
)
"""Headers whose values are secret whoever sends them; `secret_headers` of the scenario adds more."""
SECRET_QUERY: Final = re.compile(
    r"(^|[_\-.])(key|apikey|token|secret|password|passwd|auth|sig|signature|credential)s?$"
)
"""Names of query parameters, in lower case, whose values are secret."""

_CI_COMMAND: Final = re.compile(r"^(\s*)::|##(?=\w*\[)", re.MULTILINE)
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ZERO_WIDTH_JOINERS: Final = frozenset("\u200c\u200d")  # part of ordinary Persian, Hindi and emoji


def printable(text: str | bytes, limit: int = DETAIL_LIMIT_CHARS) -> str:
    r"""The text with unsafe characters as \xNN or \uNNNN, cut at `limit` characters with a note."""
    if isinstance(text, bytes):
        text = text[: limit * 4 + 4].decode("utf-8", "replace")
    cut = len(text) > limit
    if not cut and text.isprintable():
        return text
    shown = "".join(_escaped(char) for char in text[:limit])
    return f"{shown}{CUT_MARK}" if cut else shown


def inert(text: str) -> str:
    r"""Lines of which a CI server takes none for a command to itself: \x3a:error::, #\x23[add-mask], #\x23teamcity[.

    GitHub obeys `::` at the beginning of any line that a step prints, and `##[` anywhere in it; Azure's agent and TeamCity
    have their own words behind `##`. What a target says must not speak to them.
    """
    return _CI_COMMAND.sub(lambda found: f"{found[1] or ''}\\x3a:" if "::" in found[0] else "#\\x23", text)


def _escaped(char: str) -> str:
    if char.isprintable() or char in _ZERO_WIDTH_JOINERS:
        return char
    if unicodedata.category(char) not in _UNSAFE_CATEGORIES:
        return char
    return char.encode("unicode_escape").decode("ascii")


class Redactor:
    """Masks known secrets in any text, also those a target echoes back at us, in a URL's or JSON's writing too.

    It comes before `printable` where it can. What was cut before may end in half a secret, which is masked too.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        wanted = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET_CHARS}
        # "Bearer abc" must also be found as "abc" alone.
        wanted |= {
            part for secret in wanted for part in secret.split() if len(part) >= 2 * SHORTEST_SECRET_CHARS
        }
        wanted |= {written for secret in wanted for written in _writings(secret)}
        self._secrets = sorted(wanted, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with every known secret replaced by a mask."""
        for secret in self._secrets:
            text = text.replace(secret, SECRET_MASK)
        if CUT_MARK in text:
            *cut, rest = text.split(CUT_MARK)
            text = CUT_MARK.join([*(self._without_half(part) for part in cut), rest])
        return text

    def overwritten(self, data: bytes) -> tuple[bytes, list[int]]:
        """Bytes of the same length with every known secret overwritten, and where those stood."""
        places: set[int] = set()
        for secret in self._secrets:
            sought = secret.encode("utf-8", "surrogatepass")
            at = data.find(sought)
            while at >= 0:
                data = data[:at] + OVERWRITTEN * len(sought) + data[at + len(sought) :]
                places.add(at)
                at = data.find(sought, at + len(sought))
        return data, sorted(places)

    def _without_half(self, text: str) -> str:
        """The text without a secret's beginning at its end."""
        for secret in self._secrets:
            for length in range(min(len(secret), len(text)), SHORTEST_SECRET_CHARS - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + SECRET_MASK
        return text


def _writings(secret: str) -> Iterator[str]:
    """Other forms in which a server, a proxy or a log may write the same secret."""
    # The environment can hold bytes that are no UTF-8; they are surrogates here.
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield quote(secret, errors="surrogatepass")
    yield quote(secret, safe="", errors="surrogatepass")
    yield quote_plus(secret, errors="surrogatepass")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
