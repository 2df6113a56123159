"""A command is done once, undone always, and says why it failed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sseproof.chaos.command import CommandBracket
from sseproof.chaos.faults import Command
from sseproof.rundir.errors import RigError

pytestmark = pytest.mark.integration


def told(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def say(path: Path, word: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"echo {word} >> {path}")


def until(true: Callable[[], bool]) -> bool:
    """Waits for what another process does: its file is the event."""
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@contextmanager
def bracket(path: Path, **changes) -> Iterator[CommandBracket]:
    values = {"do": say(path, "done"), "undo": say(path, "undone"), "after_ms": 0, "max_ms": 20_000}
    fault = Command(**{"shows": "breaks", **values, **changes})
    made = CommandBracket(fault, say=lambda _: None, environ=os.environ)
    try:
        yield made
    finally:
        made.close()


def test_it_is_done_and_undone_once(tmp_path: Path) -> None:
    path = tmp_path / "told"
    with bracket(path) as command:
        assert told(path) == []
        command.take_away()
        command.take_away()  # the second variant's
        assert told(path) == ["done"]
        assert not command.is_over()
        command.bring_back()
        command.bring_back()
        assert told(path) == ["done", "undone"]
    assert told(path) == ["done", "undone"]


def test_it_is_done_again_and_over_anew(tmp_path: Path) -> None:
    path, flag = tmp_path / "told", tmp_path / "flag"
    with bracket(path, done_when=("/usr/bin/test", "-e", str(flag))) as command:
        for _ in range(2):
            command.take_away()
            command.take_away()
            assert not command.is_over()
            flag.touch()
            assert until(command.is_over)
            flag.unlink()
            command.bring_back()
            command.bring_back()
            assert not command.is_over()
        command.take_away()
    assert told(path) == ["done", "undone"] * 3, "the last by leaving"


def test_what_was_never_begun_is_not_undone(tmp_path: Path) -> None:
    with bracket(tmp_path / "told") as command:
        command.bring_back()
    assert told(tmp_path / "told") == []


def test_leaving_undoes_it(tmp_path: Path) -> None:
    with bracket(tmp_path / "told") as command:
        command.take_away()
    assert told(tmp_path / "told") == ["done", "undone"]


def test_it_is_over_when_it_says_so(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with bracket(tmp_path / "told", done_when=("/usr/bin/test", "-e", str(flag))) as command:
        command.take_away()
        assert not command.is_over()
        flag.touch()
        assert until(command.is_over)
        assert told(tmp_path / "told") == ["done"], "undone when it is asked for, so that it is on record"


def test_it_is_over_after_its_longest_time(tmp_path: Path) -> None:
    with bracket(tmp_path / "told", max_ms=300) as command:
        begun_s = time.monotonic()
        command.take_away()
        assert until(command.is_over)
        assert time.monotonic() - begun_s >= 0.29


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (("/bin/sh", "-c", "echo no such pod >&2; exit 3"), "exit code 3: no such pod"),
        (("/no/such/program",), "failed: /no/such/program: No such file"),
        (("env:SSEPROOF_TEST_NOT_SET",), "SSEPROOF_TEST_NOT_SET is not set"),
        (("/bin/sh", "-c", "sleep 60 & sleep 60"), "failed: it did not end within 0.5 s"),
    ],
    ids=["fails", "no-program", "no-variable", "hangs"],
)
def test_what_fails_says_why_and_is_undone(tmp_path: Path, do: tuple[str, ...], words: str) -> None:
    limit_ms = 500 if "0.5 s" in words else 20_000
    with bracket(tmp_path / "told", do=do, max_ms=limit_ms) as command:
        with pytest.raises(RigError, match=words):
            command.take_away()
        command.bring_back()  # by itself already: no second time
    assert told(tmp_path / "told") == ["undone"]


def test_an_undoing_that_fails_is_told(tmp_path: Path) -> None:
    with bracket(tmp_path / "told", undo=("/bin/false",)) as command:
        command.take_away()
        with pytest.raises(RigError, match="'/bin/false' ended with exit code 1"):
            command.bring_back()


def test_a_variable_is_looked_up_when_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSEPROOF_TEST_TOKEN", "s3cret")
    path = tmp_path / "told"
    do = (
        "/bin/sh",
        "-c",
        f'echo "$0 $1" >> {path}',
        "env:SSEPROOF_TEST_TOKEN",
        "key={env:SSEPROOF_TEST_TOKEN}",
    )
    with bracket(path, do=do, undo=()) as command:
        command.take_away()
    assert told(path) == ["s3cret", "key=s3cret"]


def test_why_it_failed_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own variables' values, and what the run keeps secret, even where the reason begins inside one."""
    own, other = "own-" + "5" * 180, "run-" + "7" * 180
    monkeypatch.setenv("SSEPROOF_TEST_TOKEN", own)
    monkeypatch.setenv("SSEPROOF_TEST_OTHER", other)
    said: list[str] = []
    do = (
        "/bin/sh",
        "-c",
        "echo $0 $0 $SSEPROOF_TEST_OTHER no such pod >&2; exit 3",
        "key={env:SSEPROOF_TEST_TOKEN}",
    )
    fault = Command(do=do, undo=do, after_ms=0, max_ms=20_000, shows="breaks")
    command = CommandBracket(fault, say=said.append, environ=os.environ, secrets=[other])
    with pytest.raises(RigError, match="no such pod") as raised:
        command.take_away()
    command.close()
    assert len(said) == 2, "do and undo"
    for text in (str(raised.value), *said):
        assert "no such pod" in text
        assert "555" not in text
        assert "777" not in text


OWNER = """
import os, signal, sys
from sseproof.chaos.command import CommandBracket
from sseproof.chaos.faults import Command
command = CommandBracket(
    Command(do=("/bin/sh", "-c", sys.argv[1]), undo=("/bin/sh", "-c", sys.argv[2]), after_ms=0, max_ms=60000,
            shows="breaks"),
    say=print, environ=os.environ)
print("ready", flush=True)
command.take_away()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("while_it_runs", [False, True], ids=["afterwards", "in-the-middle"])
def test_it_is_undone_when_its_owner_is_killed(tmp_path: Path, while_it_runs: bool) -> None:
    path = tmp_path / "told"
    do = f"echo done >> {path}" + ("; exec sleep 60" if while_it_runs else "")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, do, f"echo undone >> {path}"], stdout=subprocess.DEVNULL
    ) as owner:
        if while_it_runs:
            assert until(lambda: told(path) == ["done"])
            owner.kill()
    assert until(lambda: told(path) == ["done", "undone"])
