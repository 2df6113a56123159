"""What `sseproof chaos list` says is what the types and the toxics are."""

from typing import get_args

import msgspec
import pytest

from sseproof.chaos.catalogue import WIDTH, Entry, catalogue, to_json, to_text
from sseproof.chaos.faults import FAULT_KINDS, FaultError, Windowed, keys_of, parse_fault, shape_of
from sseproof.chaos.toxics import OWN_TOXICS, needs_own_build, standing_toxics
from tests.chaos.test_faults import GOOD


def test_every_kind_and_key_is_listed() -> None:
    entries = catalogue()
    assert tuple(entry.kind for entry in entries) == FAULT_KINDS
    for entry in entries:
        assert tuple(key.key for key in entry.keys) == keys_of(entry.kind)
        assert entry.windows == (shape_of(entry.kind) in get_args(Windowed))
        assert entry.wire


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.kind)
def test_what_is_needed_and_what_is_default(entry: Entry) -> None:
    table = next(table for table, _ in GOOD if table["kind"] == entry.kind)
    least = {"kind": entry.kind} | {key.key: table[key.key] for key in entry.keys if key.needed}
    whole = parse_fault(least)
    for key in entry.keys:
        if key.needed:
            with pytest.raises(FaultError, match=rf"needs .*\b{key.key}\b"):
                parse_fault({name: value for name, value in least.items() if name != key.key})
        elif key.default:
            value = int(key.default) if key.default.isdigit() else key.default
            assert parse_fault({**least, key.key: value}) == whole


def test_who_can_do_it_is_told_by_the_toxics() -> None:
    stock = {entry.kind: entry.stock for entry in catalogue()}
    for table, fault in GOOD:
        own = any(toxic.type in OWN_TOXICS for toxic in standing_toxics(fault))
        assert needs_own_build(fault) == own == (not stock[table["kind"]])


def test_text_and_json_say_the_same() -> None:
    entries = catalogue()
    text = to_text(entries)
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert msgspec.json.decode(to_json(entries), type=list[Entry]) == entries
    for entry in entries:
        assert f"\n{entry.kind} (" in f"\n{text}"
    assert text.count("needs a build of ours") == sum(not entry.stock for entry in entries)
