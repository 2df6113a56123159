"""What is wrong with a value of a user's file, in words of somebody who does not write Python; never msgspec's own."""

import re
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

_PLAIN_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}
_TYPE_NAME: Final = re.compile(r"\b(?:int|float|str|bool|object|array|null)\b")


def key_of(error: msgspec.ValidationError) -> str:
    """The dotted key that it is about, without places in lists; empty where it is about the whole."""
    path = str(error).partition(" - at `$")[2]
    return re.sub(r"\[\.\.\.\]|\[\d+\]", "", path.rstrip("`")).removeprefix(".")


def in_plain_words(
    error: msgspec.ValidationError, key: str, *, tables: Collection[str] = (), choices: Sequence[str] = ()
) -> str:
    """What is wrong with the key, as the rest of a sentence without its full stop.

    `tables` are the keys that hold a list of tables, `choices` the words that this one takes.
    """
    if key in tables:
        return f"{key} is a list of tables; write [[{key}]] above each"
    message = str(error).partition(" - at `$")[0].replace("`", "")
    if message.startswith("Invalid enum value "):
        message = f"{message.removeprefix('Invalid enum value ')} is not one of {', '.join(choices)}"
    elif message.startswith("Expected "):
        message = _TYPE_NAME.sub(lambda found: _PLAIN_WORDS[found[0]], message.replace(" | null", ""))
    return f"{key or 'the whole'}: {message[:1].lower()}{message[1:]}"
