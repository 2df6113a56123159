"""Outside events in a real run: told while it goes on, from a file, and afterwards; shown in answer and report."""

import json

import pytest

from sseproof.cli import invoke
from sseproof.rundir.files import MARKS, REPORT_NAME
from tests.integration.suite import (
    directory_of,
    rows,
    sseproof,
    started,
    verdict_of,
    wait_for_rows,
)

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def test_marks_are_put_into_a_run_that_goes_on_and_into_a_recorded_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marked.toml").write_text(
        '[server]\n[target]\nurl = "/api/v1/stream/chat?events=20&interval_ms=20"\n[load]\nusers = 8\nduration = "5s"\n'
    )
    events = tmp_path / "events.jsonl"
    events.write_text("")
    options = ("--marks", "events.jsonl", "--quiet", "--claim", "success >= 50%")
    process = started("run", "marked.toml", *options, cwd=tmp_path)
    try:
        directory = wait_for_rows(tmp_path, 3)
        # In this process: a command of its own may take longer to begin than the run lasts.
        assert invoke(["mark", HOSTILE]) == 0
        assert "\x1b" not in capsys.readouterr().out
        events.write_text(
            '{"at": "+0.5s", "text": "deploy began", "source": "ci"}\n{"at": 5, "text": "long ago"}\n'
        )
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 0, out + err
    assert "1 of 2 marks" in err
    assert {(row.source, row.text.split("(")[0]) for row in rows(directory, MARKS)} == {
        ("sseproof mark", "<script>alert"),
        ("ci", "deploy began"),
    }
    assert "Marked, from outside:" in out
    assert "deploy began (ci)" in out
    assert "\x1b" not in out
    report = (directory / REPORT_NAME).read_text()
    assert "deploy began" in report
    assert "&lt;script&gt;" in report
    assert report.count("<script") == 1, "the page's own"
    assert next(mark.text for mark in verdict_of(directory).marks) == "deploy began"

    late = sseproof("mark", "found later", "--run", str(directory), "--at", "+1s", "--json", cwd=tmp_path)
    assert json.loads(late.stdout)["text"] == "found later"
    events.write_text('{"at": "+1.5s", "text": "from a file"}\n{"at": "+1h", "text": "long after"}\n')
    many = sseproof("mark", "--marks", "events.jsonl", "--run", str(directory), cwd=tmp_path)
    assert many.returncode == 0, many.stderr
    assert "1 mark. 1 mark of another time left out." in many.stdout
    before = verdict_of(directory).verdicts
    again = sseproof("judge", str(directory), cwd=tmp_path)
    assert "found later" in again.stdout
    assert "from a file" in again.stdout
    assert verdict_of(directory_of(tmp_path)).verdicts == before, "no verdict depends on a mark"


def test_what_can_not_be_is_said_in_one_sentence(tmp_path):
    for arguments, words in (
        (("mark", "x"), "There is no run in runs"),
        (("mark",), "--marks FILE"),
        (("mark", "x", "--marks", "events.jsonl"), "not both"),
        (("mark", "--marks", "events.jsonl", "--at", "+1s"), "each line"),
        (("mark", "x", "--run", "nowhere"), "not a run directory"),
        (("run", "--target", "http://127.0.0.1:9/", "--marks", "nowhere"), "nowhere can't be read"),
    ):
        done = sseproof(*arguments, cwd=tmp_path)
        assert done.returncode == 64, done.stdout + done.stderr
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
