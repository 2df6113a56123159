"""Payload files: rows by line, rows by seed, values written as their place needs it."""

import json
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sseproof.loadtests.payloads import (
    Payloads,
    fields_of,
    filled,
    in_form,
    in_json,
    in_url,
    plainly,
    read_payloads,
    writer_for,
)
from sseproof.rundir.errors import UsageError


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_rows_of_both_kinds(tmp_path: Path) -> None:
    lines = written(tmp_path, "a.jsonl", '{"q": "سؤال", "n": 3}\n\n{"q": "two\\u2028lines", "n": [1]}\n')
    assert read_payloads(lines, ["q", "n"]) == [{"q": "سؤال", "n": 3}, {"q": "two\u2028lines", "n": [1]}]
    table = written(tmp_path, "a.csv", '\ufeffq, n\r\n"a, ""b""\r\nc",1\r\n\r\nd,2\r\n')
    assert read_payloads(table, ["q", "n"]) == [{"q": 'a, "b"\r\nc', "n": "1"}, {"q": "d", "n": "2"}]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.jsonl", '{"q": 1}\n{"q": \n', "a.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"q": 1}\n\n[1]\n', "a.jsonl, line 3 is JSON but no object"),
        ("a.jsonl", '{"q": 1}\n{"r": 1}\n', "a.jsonl, line 2: there is no field 'q'"),
        ("a.jsonl", "\n", "a.jsonl holds no payload"),
        ("a.jsonl", '{"q": 1}\n{"q": "\\ud800"}\n', "a.jsonl, line 2 holds half a surrogate pair"),
        ("a.jsonl", '{"q": 1, "\\udfff": 2}\n', "a.jsonl, line 1 holds half a surrogate pair"),
        ("a.jsonl", '{"q": 1}\n\n{"q": [NaN]}\n', "a.jsonl, line 3 holds NaN or an infinite number"),
        ("a.jsonl", '{"q": -Infinity}\n', "a.jsonl, line 1 holds NaN or an infinite number"),
        ("a.jsonl", '{"q": 1e999}\n', "a.jsonl, line 1 holds NaN or an infinite number"),
        ("a.csv", "q,r\n1,2\n3\n", "a.csv, line 3 has 1 cells, the first line names 2"),
        ("a.csv", "q, r,q \n1,2,3\n", "a.csv, line 1 names the field 'q' twice"),
        ("a.csv", 'q\n"1\n\n2"\n"3" x\n', "a.csv, line 5 is not CSV"),
        ("a.csv", "q\n", "a.csv holds no payload"),
        ("a.csv", "r\n1\n", "a.csv, line 2: there is no field 'q'"),
        ("a.jsonl", '{"q": "a\\r\\nX-Evil: 1"}\n', "a.jsonl, line 1: the field 'q' holds a line break"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_payloads(written(tmp_path, name, text), ["q"], in_headers=["q"])
    assert sentence in str(refused.value)


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    assert read_payloads(written(tmp_path, "a.csv", "q,,\n1,2,3\n"), ["q"]) == [{"q": "1", "": "3"}]


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    lines = written(tmp_path, "a.jsonl", '{"q": "\\ud83d\\ude00"}\n')
    assert read_payloads(lines, ["q"]) == [{"q": "\U0001f600"}]


def test_each_pass_takes_every_row_once_in_an_order_of_the_seed() -> None:
    rows = [{"n": number} for number in range(10)]
    first, same, other = Payloads(rows, 1), Payloads(rows, 1), Payloads(rows, 2)
    passes = [[first.index_of(stream) for stream in range(10 * k, 10 * k + 10)] for k in range(3)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [same.index_of(stream) for stream in range(30)] == list(chain(*passes))
    assert [other.index_of(stream) for stream in range(30)] != list(chain(*passes))


@given(st.text())
def test_any_text_stays_itself_in_a_json_body(text: str) -> None:
    body = filled(
        '{"question": "{payload:q}", "n": {payload:n}}', {"q": text, "n": [1, {"a": None}]}, in_json
    )
    assert json.loads(body) == {"question": text, "n": [1, {"a": None}]}


def test_a_value_is_written_as_its_place_needs_it() -> None:
    assert filled("/s?q={payload:q}", {"q": "a b&c/é"}, in_url) == "/s?q=a%20b%26c%2F%C3%A9"
    assert writer_for({"Content-Type": "application/x-www-form-urlencoded"}) is in_form
    assert in_form("a b&c") == "a+b%26c"
    assert writer_for({"content-type": "text/plain"}) is plainly
    assert writer_for({"Content-Type": "application/problem+json"}) is in_json
    assert writer_for({}) is in_json
    assert plainly(3) == "3"


def test_fields_and_what_only_looks_like_one() -> None:
    assert fields_of("{payload:a} {env:B} {payload:a.b} {payload:} {a}") == ["a", "a.b"]
    assert (
        filled("{payload:a}", {"a": "{payload:b} {env:HOME}", "b": "no"}, plainly) == "{payload:b} {env:HOME}"
    )
