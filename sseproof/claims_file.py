"""A file of claims, for those who keep them apart from scenarios: one claim a line, or TOML with a list of them.

Rules:
- `#` begins a comment at the begin of a line or after white space, outside quotes: names of groups may hold one.
- A file whose name ends in .toml holds `claims = ["…", …]` and nothing else, as a scenario does.
- Every claim keeps its line, for errors that are found later: a mistake in one is told by file and line.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from sseproof.reports.claims import Claim, ClaimError, parse_claim
from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import printable

MOST_FILE_BYTES: Final = 1 << 20
MOST_CLAIMS: Final = 1_000
"""Nobody reads a table of more verdicts."""

_KEY: Final = "claims"
_COMMENT: Final = re.compile(r"""(?:^|\s)#""")
_TOML_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')


class PlacedClaim(NamedTuple):
    """A claim and where it was written, as the begin of a sentence."""

    claim: Claim
    place: str


def read_claims(path: Path) -> list[PlacedClaim]:
    """The claims of a file, in their order.

    Raises UsageError, with file and line, for a file that can't be read, that holds none, or a claim that can't be parsed.
    """
    text = _text(path)
    found = _toml_claims(path, text) if path.suffix.lower() == ".toml" else _line_claims(text)
    if not found:
        raise UsageError(f'{path} holds no claim: write one a line, such as "success >= 98%".')
    if len(found) > MOST_CLAIMS:
        raise UsageError(f"{path} holds {len(found):,} claims; {MOST_CLAIMS:,} are the most of one run.")
    claims = []
    for line, claim in found:
        place = f"{path}, line {line}"
        try:
            claims.append(PlacedClaim(parse_claim(claim), place))
        except ClaimError as error:
            raise UsageError(f"{place}: {error}") from None
    return claims


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}; name a file of claims.") from None
    if len(data) > MOST_FILE_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB; a file of claims holds one a line.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}, is not UTF-8 text.") from None


def _line_claims(text: str) -> list[tuple[int, str]]:
    return [
        (number, claim)
        for number, line in enumerate(text.split("\n"), 1)
        if (claim := _without_comment(line).strip())
    ]


def _without_comment(line: str) -> str:
    for match in _COMMENT.finditer(line):
        if line.count('"', 0, match.start()) % 2 == 0:
            return line[: match.start()]
    return line


def _toml_claims(path: Path, text: str) -> list[tuple[int, str]]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from None
    others = sorted(set(tree) - {_KEY})
    if others:
        raise UsageError(
            f"{path} has the key {printable(others[0], 80)!r}; a file of claims has {_KEY} = […] alone."
        )
    claims: Any = tree.get(_KEY, [])
    if not isinstance(claims, list) or not all(isinstance(each, str) for each in claims):
        raise UsageError(f'{path}: {_KEY} is a list of texts, as in {_KEY} = ["success >= 98%"].')
    return _with_lines(text, claims)


def _with_lines(text: str, claims: list[str]) -> list[tuple[int, str]]:
    """TOML does not say where a value stood: each text is looked for behind the one before it."""
    written = [(text.count("\n", 0, match.start()) + 1, match[0]) for match in _TOML_TEXT.finditer(text)]
    found = []
    at = 0
    for claim in claims:
        for position in range(at, len(written)):
            if tomllib.loads(f"text = {written[position][1]}")["text"] == claim:
                at = position + 1
                break
        line = written[at - 1][0] if at else 1
        found.append((line, claim))
    return found
