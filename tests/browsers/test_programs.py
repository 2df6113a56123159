"""Starting and ending browsers, with programs that make it as hard as real ones: nothing of theirs may stay."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sseproof.browsers import programs
from sseproof.browsers.programs import FOLDER, Browser, Found, Process, find, processes_of
from sseproof.rundir.errors import RigError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

ADDRESS = "http://127.0.0.1:1/?key=x"
LIMIT_S = 20.0
STUBBORN = """#!/bin/sh
trap '' TERM
# One that has neither our mark nor our session, as a helper that writes its title over its environment.
env -i setsid sleep 600 &
echo $! > "$HOME/helper"
while :; do sleep 1; done
"""


@pytest.fixture
def start() -> Iterator[Callable[[str, list[str], Mapping[str, str]], Process]]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(_name: str, command: list[str], environ: Mapping[str, str]) -> Process:
        begun.append(subprocess.Popen(command, env=environ, start_new_session=True))
        return Process(begun[-1].poll)

    yield begin
    for each in begun:
        each.wait(LIMIT_S)


def program(folder: Path, text: str) -> Found:
    path = folder / "firefox"
    path.write_text(text)
    path.chmod(0o755)
    return Found("firefox", str(path))


def living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"{FOLDER}-{os.getpid()}-*"))


def test_all_that_a_browser_started_ends_with_it(
    tmp_path: Path,
    start: Callable[[str, list[str], Mapping[str, str]], Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(programs, "END_GRACE_S", 0.5)
    with Browser(program(tmp_path, STUBBORN), ADDRESS, environ=os.environ, start=start) as browser:
        (home,) = folders()
        deadline = time.monotonic() + LIMIT_S
        while not (home / "helper").exists() or not (home / "helper").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        helper = int((home / "helper").read_text())
        assert living(helper)
        assert browser.ended is None
    assert not living(helper)
    assert folders() == []


def test_others_processes_are_left_alone() -> None:
    assert processes_of("0" * 16) == set()
    with subprocess.Popen(["sleep", "600"], env={programs.MARK_VARIABLE: "somebody-else"}) as other:
        assert processes_of("0" * 16) == set()
        assert {each.pid for each in processes_of("somebody-else")} == {other.pid}
        other.kill()


def test_profiles_of_killed_runs_go(
    tmp_path: Path, start: Callable[[str, list[str], Mapping[str, str]], Process]
) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    left = Path(tempfile.gettempdir()) / f"{FOLDER}-{dead.pid}-left"
    left.mkdir()
    Browser(program(tmp_path, "#!/bin/sh\n"), ADDRESS, environ=os.environ, start=start).close()
    assert not left.exists()


def test_a_browser_that_cannot_start_leaves_no_profile(tmp_path: Path) -> None:
    def refuse(_name: str, _command: list[str], _environ: Mapping[str, str]) -> Process:
        raise RigError("firefox can't be started.")

    with pytest.raises(RigError):
        Browser(program(tmp_path, ""), ADDRESS, environ=os.environ, start=refuse)
    assert folders() == []


def test_browsers_are_found_by_their_names(tmp_path: Path) -> None:
    assert find("firefox", {"PATH": str(tmp_path)}) is None
    made = program(tmp_path, "#!/bin/sh\n")
    assert find("firefox", {"PATH": str(tmp_path)}) == made
    assert find("chromium", {"PATH": str(tmp_path)}) is None
