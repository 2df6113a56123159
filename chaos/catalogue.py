"""Every fault with what it does on the wire, its keys and their units: what `sseproof chaos list` says. Pure.

Rules:
- Nothing is written down twice: kinds, keys and defaults come from the types, and who can do it from the toxics.
"""

import textwrap
from typing import Any, Final, get_args

from msgspec import Struct, json
from msgspec.structs import fields

from sseproof.chaos.faults import FAULT_KINDS, Windowed, is_required, keys_of, shape_of, toml_key
from sseproof.chaos.toxics import OwnBuildOnly

WIDTH: Final = 80

_UNITS: Final = {
    "delay": 'time, such as "300ms"',
    "jitter": 'time, such as "100ms"',
    "after": 'time, such as "2s"',
    "duration": 'time, such as "500ms"',
    "drain": 'time, such as "500ms"',
    "every": 'time, such as "1s"',
    "down": 'time, such as "300ms"',
    "up": 'time, such as "2s"',
    "after_bytes": "bytes, or [from, to]",
    "size_bytes": "bytes",
    "offset_bytes": "bytes",
    "rate_kb_s": "KB (1000 bytes) a second",
    "after_events": "events",
    "times": "a number",
    "inside": "boundary, event or character",
    "do": "a list of words",
    "undo": "a list of words",
    "done_when": "a list of words",
    "max": 'time, such as "30s"',
    "shows": "breaks or silence",
    "when": "a table of times: after, duration, every, times",
    "by": "fin or rst",
    "on": "first or every",
}


class Key(Struct, frozen=True, kw_only=True):
    """One key of a [[fault]] table."""

    key: str
    unit: str
    needed: bool
    default: str
    """As it would be written; empty where there is none."""


class Entry(Struct, frozen=True, kw_only=True):
    """One kind of fault."""

    kind: str
    wire: str
    """What happens between client and target."""
    windows: bool
    """It acts at planned moments; else it stands for the whole run, unless it is given `when`."""
    stock: bool
    """A stock Toxiproxy 2.12.0 can do it; else a build of ours is needed."""
    keys: list[Key]


def catalogue() -> list[Entry]:
    """All kinds, in the order of the documents."""
    return [_entry(kind) for kind in FAULT_KINDS]


def to_json(entries: list[Entry]) -> str:
    """As JSON, one document with a line end."""
    return json.format(json.encode(entries), indent=2).decode() + "\n"


def to_text(entries: list[Entry]) -> str:
    """As text of 80 columns: a paragraph for each fault."""
    lines = []
    for entry in entries:
        when = "at planned moments" if entry.windows else "for the whole run, or at times"
        who = "" if entry.stock else "; needs a build of ours"
        lines.append(f"{entry.kind} ({when}{who})")
        lines += textwrap.wrap(entry.wire, WIDTH, initial_indent="  ", subsequent_indent="  ")
        for key in entry.keys:
            told = "needed" if key.needed else f"default {key.default}" if key.default else "optional"
            lines.append(f"    {key.key:<13} {key.unit}; {told}")
        lines.append("")
    lines += textwrap.wrap(
        "Each is a [[fault]] table of a scenario, with a kind and a share of the streams; a stock Toxiproxy 2.12.0 can do "
        "all but those that need a build of ours, which sseproof makes by itself. More in docs/faults.md.",
        WIDTH,
    )
    return "\n".join(lines) + "\n"


def _entry(kind: str) -> Entry:
    shape: Any = shape_of(kind)
    return Entry(
        kind=kind,
        wire=shape.wire,
        windows=shape in get_args(Windowed),
        stock=shape not in get_args(OwnBuildOnly),
        keys=[
            Key(key=key, unit=_UNITS[key], needed=is_required(shape, key), default=_default(shape, key))
            for key in keys_of(kind)
        ],
    )


def _default(shape: type[Struct], key: str) -> str:
    field = next(each for each in fields(shape) if toml_key(each.name) == key)
    if field.required or field.default in (None, ()):
        return ""
    unit = field.name.rpartition("_")[2]
    return f"{field.default}{unit}" if unit in {"ms", "us"} else str(field.default)
