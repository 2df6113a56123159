"""Children that never outlive us, and a log that is capped, printable and without secrets."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sseproof.children import Child, RunLog, end_all, run_to_end
from sseproof.rundir.errors import RigError
from sseproof.rundir.parent import RIG_ERROR_MARK
from sseproof.rundir.text import Redactor

WAIT_S = 20


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path / "run.log", Redactor(["s3cr3t-value"]))
    yield log
    log.close()


def test_lines_are_prefixed_printable_and_masked(tmp_path, log):
    code = r"print('token s3cr3t-value \x1b[31mred\x1b[0m مرحبا')"
    child = Child("worker 0", python(code), log=log, environ=os.environ)
    assert child.wait(WAIT_S) == 0
    text = (tmp_path / "run.log").read_text("utf-8")
    assert text == "worker 0: token [secret] \\x1b[31mred\\x1b[0m مرحبا\n"


def test_the_log_is_capped(tmp_path):
    log = RunLog(tmp_path / "run.log", Redactor(), limit_bytes=2_000)
    child = Child("noisy", python("for n in range(10_000): print('x' * 50)"), log=log, environ=os.environ)
    assert child.wait(WAIT_S) == 0
    log.close()
    content = (tmp_path / "run.log").read_bytes()
    assert len(content) < 2_200
    assert content.endswith(b"later lines were left out.\n")


def test_a_line_without_end_is_cut(tmp_path, log):
    child = Child("noisy", python("print('x' * 1_000_000)"), log=log, environ=os.environ)
    assert child.wait(WAIT_S) == 0
    assert max(map(len, (tmp_path / "run.log").read_text("utf-8").splitlines())) < 2_100


def test_a_rig_error_is_heard(log):
    child = Child(
        "worker 1", python(f"print({RIG_ERROR_MARK!r} + 'The disk is full.')"), log=log, environ=os.environ
    )
    child.wait(WAIT_S)
    assert child.rig_error == "The disk is full."


def test_end_all_asks_then_ends(log):
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
    child = Child("stubborn", python(stubborn), log=log, environ=os.environ)
    end_all([child], 0.3)
    assert child.poll() is not None


def test_a_command_that_does_not_exist(log, monkeypatch):
    monkeypatch.setattr("sseproof.children.guarded", lambda arguments, _signal: arguments)
    with pytest.raises(RigError, match="can't be started"):
        Child("ghost", ["/nonexistent/program"], log=log, environ=os.environ)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the guard is Linux's")
def test_a_command_that_does_not_exist_behind_the_guard(log):
    child = Child("ghost", ["/nonexistent/program"], log=log, environ=os.environ)
    assert child.wait(WAIT_S) not in {0, None}  # the guard starts, then fails to exec


def test_an_unwritable_log_is_a_rig_error(tmp_path):
    with pytest.raises(RigError, match=r"run\.log"):
        RunLog(tmp_path / "missing" / "run.log", Redactor())


def test_run_to_end_answers():
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('note')"
    answer = run_to_end(python(code), b"abc", environ=os.environ, timeout_s=WAIT_S, cancelled=lambda: False)
    assert (answer.code, answer.stdout, answer.stderr) == (0, b"ABC", "note")


def test_run_to_end_does_not_wait_for_ever():
    code = "import time; time.sleep(600)"
    with pytest.raises(RigError, match="did not end within"):
        run_to_end(python(code), b"", environ=os.environ, timeout_s=0.3, cancelled=lambda: False)


def test_run_to_end_can_be_cancelled():
    code = "import time; time.sleep(600)"
    answer = run_to_end(python(code), b"", environ=os.environ, timeout_s=600, cancelled=lambda: True)
    assert answer.code != 0


PARENT = """
import os, sys, time
from pathlib import Path
from sseproof.children import Child, RunLog
from sseproof.rundir.text import Redactor
log = RunLog(Path(sys.argv[1]), Redactor())
child = Child("c", [sys.executable, "-c", "import time; time.sleep(600)"], log=log, environ=os.environ)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pdeathsig is Linux's")
def test_a_killed_parent_takes_its_children_along(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "run.log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.stdout.close()
    assert alive(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + WAIT_S
    while alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
