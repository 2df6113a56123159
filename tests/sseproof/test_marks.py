"""Marks: where they are put, what is refused, and that nobody's text can harm a terminal or a page."""

import json

import pytest

from sseproof.marks import newest_run, put_mark, put_marks, read_marks, take_marks
from sseproof.rundir.clock import now_ns
from sseproof.rundir.errors import UsageError
from sseproof.rundir.files import MARKS, RUN_NAME, Reading, write_document
from sseproof.rundir.rows import RunInfo

S = 1_000_000_000
RUN = "20261127T140000.000000Z-7"


@pytest.fixture
def info(tmp_path):
    """A run that began ten seconds ago and goes on."""
    made = RunInfo(run=RUN, started_ns=now_ns() - 10 * S)
    write_document(tmp_path / RUN_NAME, made)
    return made


def over(directory, info, after_s=5):
    info.ended_ns = info.started_ns + after_s * S
    info.how = "finished"
    write_document(directory / RUN_NAME, info)


def marks(directory):
    return list(Reading(directory, MARKS))


def test_a_run_that_goes_on_is_marked_now(tmp_path, info):
    before = now_ns()
    put_mark(tmp_path, "pod killed", at=None)
    put_mark(tmp_path, "earlier", at="+2.5s")
    first, second = marks(tmp_path)
    assert before <= first.at_ns <= now_ns()
    assert (first.text, first.source) == ("pod killed", "sseproof mark")
    assert second.at_ns == info.started_ns + 2_500_000_000


def test_a_run_that_is_over_wants_the_moment(tmp_path, info):
    over(tmp_path, info)
    with pytest.raises(UsageError, match="--at"):
        put_mark(tmp_path, "pod killed", at=None)
    assert put_mark(tmp_path, "pod killed", at="+5s").at_ns == info.ended_ns
    for at in ("+5.1s", "2020-01-01T00:00:00Z"):
        with pytest.raises(UsageError, match="no moment of the run"):
            put_mark(tmp_path, "pod killed", at=at)
    assert len(marks(tmp_path)) == 1


@pytest.mark.parametrize("at", ["", "soon", "+soon", "2026-11-27T14:03:05", "2026-13-01T00:00:00Z", "+"])
def test_what_is_no_moment_is_refused(tmp_path, info, at):
    with pytest.raises(UsageError, match="no moment"):
        put_mark(tmp_path, "pod killed", at=at)


def test_a_text_is_one_bounded_printable_line(tmp_path, info):
    put_mark(tmp_path, "a\x1b[31m\nb\u202ec" + "x" * 10_000, at="+1s")
    (mark,) = marks(tmp_path)
    assert "\n" not in mark.text
    assert "\x1b" not in mark.text
    assert "\u202e" not in mark.text
    assert len(mark.text) < 600
    with pytest.raises(UsageError, match="text"):
        put_mark(tmp_path, "  ", at="+1s")


def test_the_newest_run_is_the_one_that_began_last(tmp_path, info):
    with pytest.raises(UsageError, match="no run"):
        newest_run(tmp_path / "runs")
    for number, name in enumerate(("b", "a")):
        directory = tmp_path / "runs" / name / "x"
        directory.mkdir(parents=True)
        write_document(directory / RUN_NAME, RunInfo(run=RUN, started_ns=number))
        (directory.parent / "latest").symlink_to("x")
    assert newest_run(tmp_path / "runs") == tmp_path / "runs" / "a" / "x"


def test_a_file_is_taken_and_what_is_of_another_time_left_out(tmp_path, info):
    path = tmp_path / "events.jsonl"
    lines = [
        {"at": "+1s", "text": "relative"},
        {"at": (info.started_ns + 2 * S) / 1e9, "text": "seconds", "source": "cron"},
        {"at": "2020-01-01T00:00:00+02:00", "text": "long ago"},
    ]
    path.write_text("\n\n".join(json.dumps(line) for line in lines) + "\n")
    left = take_marks(path, tmp_path, info)
    assert left.startswith("1 of 3 marks")
    assert [(mark.text, mark.source) for mark in marks(tmp_path)] == [
        ("relative", "events.jsonl"),
        ("seconds", "cron"),
    ]
    assert abs(marks(tmp_path)[1].at_ns - info.started_ns - 2 * S) < 1_000


def test_a_file_is_put_into_a_run_that_is_over(tmp_path, info):
    over(tmp_path, info)
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"at": "+1s", "text": "in"}\n{"at": "+5s", "text": "last"}\n{"at": "+6s", "text": "after"}\n'
    )
    taken = put_marks(tmp_path, path)
    assert (taken.directory, [mark.text for mark in taken.marks], taken.left_out) == (
        str(tmp_path),
        ["in", "last"],
        1,
    )
    assert [mark.text for mark in marks(tmp_path)] == ["in", "last"]
    path.write_text('{"at": "+6s", "text": "after"}\n')
    with pytest.raises(UsageError, match="no mark of the run"):
        put_marks(tmp_path, path)
    path.write_text('{"at": "+1s", "text": "in"}\n{"at": "noon", "text": "bad"}\n')
    with pytest.raises(UsageError, match="line 2"):
        put_marks(tmp_path, path)
    assert len(marks(tmp_path)) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pod killed", "line 1"),
        ('{"at": "+1s"}', "text"),
        ('{"at": "+1s", "text": ""}', "text"),
        ('{"at": "+1s", "text": "x", "txet": "y"}', "txet"),
        ('{"at": 1e300, "text": "x"}', "seconds since 1970"),
        ('{"at": "noon", "text": "x"}', "no moment"),
        ('{"at": "+1s", "text": "\\ud800"}', "line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, info, line, words):
    path = tmp_path / "events.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UsageError, match=r"events\.jsonl, line 1") as refused:
        read_marks(path)
    assert words in str(refused.value)
    assert "No mark was taken" in take_marks(path, tmp_path, info)
    assert marks(tmp_path) == []


def test_too_much_is_refused(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"at": 1, "text": "x"}\n' * 1_001)
    with pytest.raises(UsageError, match="1001 marks"):
        read_marks(path)
    path.write_bytes(b"x" * (1 << 21))
    with pytest.raises(UsageError, match="1 MiB"):
        read_marks(path)
    with pytest.raises(UsageError, match="can't be read"):
        read_marks(tmp_path / "nothing")
