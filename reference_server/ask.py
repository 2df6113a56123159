"""Reads and checks what a request asks for: query parameters and a JSON body, strictly (pure).

Rules: unknown names are refused with the nearest known one, values are bounded (limits in streams.py), and every
refusal is one sentence. A name in the body wins over the same name in the query.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from sseproof.reference_server.feed import FeedAsk
from sseproof.reference_server.settings import QUESTION_LIMIT_CHARS
from sseproof.reference_server.streams import Ask
from sseproof.rundir.text import printable

T = TypeVar("T", Ask, FeedAsk)

_PLACE = re.compile(r"(?P<what>.*?) - at `\$\.(?P<name>\w+)`", re.DOTALL)


class TooLongError(ValueError):
    """What was sent is longer than is taken: 413 and not 400."""


def parse_ask(query: Mapping[str, str], body: bytes, question_limit_chars: int = QUESTION_LIMIT_CHARS) -> Ask:
    """The request's wishes.

    Raises TooLongError for a question above the limit, and ValueError for anything else that is wrong, in one sentence
    without its full stop.
    """
    values = _values(Ask, query, body)
    question = values.get("question")
    if isinstance(question, str) and len(question) > question_limit_chars:
        raise TooLongError(
            f"the question has {len(question):,} characters, and {question_limit_chars:,} are the most"
        )
    return _converted(Ask, values)


def parse_feed_ask(query: Mapping[str, str], body: bytes) -> FeedAsk:
    """The wishes of a subscriber. Raises ValueError, in one sentence without its full stop, for anything wrong."""
    return _converted(FeedAsk, _values(FeedAsk, query, body))


def _values(kind: type[Struct], query: Mapping[str, str], body: bytes) -> dict[str, object]:
    values: dict[str, object] = dict(query)
    if body.strip():
        values.update(_object(body))
    for name in values:
        if name not in kind.__struct_fields__:
            raise ValueError(_unknown(name, kind.__struct_fields__))
    return values


def _converted(kind: type[T], values: dict[str, object]) -> T:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        if match is None:
            raise ValueError(f"the request can't be read: {error}") from error
        what = match["what"][:1].lower() + match["what"][1:]
        raise ValueError(f"the value of {match['name']!r} can't be taken: {what}") from error


def sentence(problem: str) -> str:
    """A problem as it is shown: printable, bounded, with a capital letter and a full stop or question mark."""
    problem = printable(problem)
    ending = "" if problem.endswith("?") else "."
    return f"{problem[:1].upper()}{problem[1:]}{ending}"


def _object(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the body has to be a JSON object: {error}") from error
    except RecursionError:
        raise ValueError("the body has to be a JSON object: this one goes too deep") from None


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"the parameter '{printable(name, 40)}' is not known: {hint}"
