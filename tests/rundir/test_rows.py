"""The data contract: schema 1 is meant to last, so what it asks of a reader and a writer is pinned here."""

import types
import typing

import msgspec
import pytest

from sseproof.rundir import rows
from sseproof.rundir.files import ROW_FILES
from sseproof.rundir.rows import (
    ATTEMPT_ENDS,
    GAP_GRID_NS,
    OUTCOMES,
    SUCCESSES,
    AttemptEnd,
    Gaps,
    Instant,
    MarkRow,
    Outcome,
    Row,
    StreamRecord,
)

STRUCTS = [
    value
    for value in vars(rows).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value not in {Row, msgspec.Struct}
]

REQUIRED = {
    "Instant": "ns",
    "Header": "schema version",
    "LiveEnd": "",
    "Attempt": "number address started ended end",
    "Gaps": "",
    "StreamRecord": "stream dispatched ended outcome end",
    "BreakRow": "stream number attempt seen end",
    "StartRow": "stream",
    "LookPlan": "error_share",
    "OpenRow": "at_ns worker",
    "MarkRow": "at_ns text",
    "FaultRow": "at_ns fault step",
    "ScriptSpec": "kind seed events first_token_ms interval_ms",
    "WitnessRow": "run truth_id connection profile accepted",
    "GeneratorRow": "at_ns worker",
    "AddressPlan": "host port",
    "BrowserPlan": "name client at_once",
    "BrowserRow": "variant at_ns resolution_ns length_ns frames",
    "PreflightResult": "ok",
    "VariantPlan": "target load client",
    "AbortPlan": "when stop",
    "Aborted": "when stop at_ns load_ns n k over_ns",
    "PhasePlan": "name start_ms",
    "PlannedClaim": "text",
    "Plan": "run scenario seed created_ns",
    "RunInfo": "run started_ns",
}


def required(struct):
    fields = msgspec.structs.fields(struct)
    return [field.name for field in fields if field.required]


def value_of(kind):
    """Some value of an annotation, other than any field's default."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return arguments[-1]
    if origin in {typing.Union, types.UnionType}:
        return value_of(next(argument for argument in arguments if argument is not type(None)))
    if origin is list:
        return [value_of(arguments[0])]
    if origin is tuple:
        return tuple(value_of(argument) for argument in arguments)
    if origin is dict:
        return {value_of(arguments[0]): value_of(arguments[1])}
    if kind is msgspec.Raw:
        return msgspec.Raw(b'{"raw":[1.50,"\\u0000"]}')
    if issubclass(kind, msgspec.Struct):
        return filled(kind)
    return {int: 2**53 + 1, float: 0.1, bool: True, str: "نجاح\n"}[kind]


def filled(struct):
    hints = typing.get_type_hints(struct)
    values = {field.name: value_of(hints[field.name]) for field in msgspec.structs.fields(struct)}
    for field in msgspec.structs.fields(struct):
        if values[field.name] is True and field.default is True:
            values[field.name] = False
    return struct(**values)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_what_a_row_must_have_is_pinned(struct):
    """A further required field would make every recorded run unreadable: it needs a default or a new version."""
    assert required(struct) == REQUIRED[struct.__name__].split()


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_survives_the_disk(struct):
    row = filled(struct)
    content = msgspec.json.encode(row)
    found = msgspec.json.decode(content, type=struct)
    assert msgspec.json.encode(found) == content
    for name in struct.__struct_fields__:
        value = getattr(row, name)
        if value is not None and "Raw" not in str(typing.get_type_hints(struct)[name]):
            assert getattr(found, name) == value, name
    if issubclass(struct, Row):
        assert set(msgspec.json.decode(content)) == set(struct.__struct_fields__)


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_a_field_that_an_older_writer_left_out_reads_as_its_default(struct):
    full = msgspec.json.decode(msgspec.json.encode(filled(struct)))
    if isinstance(full, list):
        assert msgspec.json.decode(b"[5]", type=struct) == Instant(5, 0, 0)
        return
    least = {name: full[name] for name in required(struct)}
    found = msgspec.json.decode(msgspec.json.encode(least), type=struct)
    for field in msgspec.structs.fields(struct):
        if not field.required and field.default_factory is not msgspec.NODEFAULT:
            assert getattr(found, field.name) == field.default_factory(), field.name
        elif not field.required:
            assert getattr(found, field.name) == field.default, field.name


def test_lists_and_tables_of_two_rows_are_not_the_same_object():
    one, other = (msgspec.json.decode(b'{"at_ns":1,"worker":0}', type=rows.OpenRow) for _ in range(2))
    one.streams.append(1)
    assert other.streams == []


@pytest.mark.parametrize("file", ROW_FILES, ids=lambda file: file.schema)
def test_the_reader_finds_a_row_by_its_head(file):
    """The first field has no default, so it is always written first, and no row within a row starts alike."""
    content = msgspec.json.encode(filled(file.type))
    assert content.startswith(file.head)
    assert content.count(file.head) == 1
    assert file.type.__struct_fields__[0] in required(file.type)


def test_row_files_have_names_and_schemas_of_their_own():
    assert len({file.name for file in ROW_FILES}) == len({file.schema for file in ROW_FILES}) == 8
    assert {file.name for file in ROW_FILES} == {f"{file.schema}.jsonl" for file in ROW_FILES}


def test_defaults_stay_off_the_disk():
    instant = Instant(1)
    row = StreamRecord(stream=1, dispatched=instant, ended=instant, outcome="held", end="stopped")
    assert msgspec.json.decode(msgspec.json.encode(row)) == {
        "stream": 1,
        "dispatched": [1, 0, 0],
        "ended": [1, 0, 0],
        "outcome": "held",
        "end": "stopped",
    }
    assert msgspec.json.encode(Gaps()) == b"{}"


def test_rows_are_made_by_name_only():
    with pytest.raises(TypeError):
        MarkRow(1, "text")  # type: ignore[misc]


def test_an_instant_has_two_ends():
    instant = Instant(100, before_ns=7, after_ns=3)
    assert (instant.lo_ns, instant.hi_ns) == (93, 103)
    assert (Instant(100).lo_ns, Instant(100).hi_ns) == (100, 100)
    assert msgspec.json.encode(instant) == b"[100,7,3]"
    assert {instant: 1}[Instant(100, 7, 3)] == 1


def test_the_words_are_the_vocabulary():
    assert typing.get_args(AttemptEnd) == ATTEMPT_ENDS
    assert typing.get_args(Outcome) == OUTCOMES
    assert " ".join(ATTEMPT_ENDS) == (
        "refused dns tls connect-timeout status content-type no-content headers-timeout first-event-timeout "
        "idle-timeout total-timeout fin eof rst protocol too-big terminal inband-error stopped"
    )
    assert " ".join(OUTCOMES) == (
        "complete complete-limited held damaged throttled error-http error-inband declined truncated cut stalled "
        "unreachable unfinished dropped"
    )
    assert {"complete", "complete-limited", "held"} == SUCCESSES


@pytest.mark.parametrize("word", ["Complete", "ok", "", "fin"])
def test_an_unknown_word_is_no_row(word):
    row = b'{"stream":1,"dispatched":[1],"ended":[1],"outcome":"%s","end":"eof"}' % word.encode()
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(row, type=StreamRecord)


def test_the_grid_of_gaps_ascends_and_covers_the_usual_time_outs():
    assert list(GAP_GRID_NS) == sorted(set(GAP_GRID_NS))
    assert {10**6, 10**9, 30 * 10**9, 60 * 10**9} <= set(GAP_GRID_NS)
    assert GAP_GRID_NS[0] > 0
