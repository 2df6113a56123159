"""Child processes that never outlive us, and one capped log of what they say.

Rules (design.md decision 9):
- On Linux a child starts from the main thread under `setpriv --pdeathsig KILL`, so that a SIGKILL of the suite ends
  it (`chaos.processes.guarded`); ours also compare their parent with SSEPROOF_PARENT first thing.
- A child leads its own session: Ctrl-C reaches the suite alone, which then ends the run gently.
- Lines of a child go through a thread into run.log: printable, without secrets, capped.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from sseproof.chaos.processes import guarded
from sseproof.rundir.errors import RigError
from sseproof.rundir.parent import PARENT_VARIABLE, RIG_ERROR_MARK, WORKER_BACK_MARK, WORKER_LOST_MARK
from sseproof.rundir.text import Redactor, printable

LOG_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Enough for any honest run; a target that makes us log without end fills no disk."""
LINE_LIMIT_CHARS: Final = 2_000
POLL_S: Final = 0.1


class RunLog:
    """run.log: capped, printable, masked; safe for several threads. A full disk silences it, not the run."""

    def __init__(self, path: Path, redact: Redactor, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        self._redact = redact
        self._left = limit_bytes
        self._lock = threading.Lock()
        self._file: IO[str] | None
        try:
            self._file = path.open("a", encoding="utf-8", errors="replace")
        except OSError as error:
            raise RigError(
                f"{path} can't be written: {error.strerror}; choose another folder with --out."
            ) from error

    def line(self, source: str, text: str) -> None:
        """One line, prefixed by who said it."""
        shown = f"{source}: {printable(self._redact(text.rstrip()), LINE_LIMIT_CHARS)}\n"
        with self._lock:
            if self._file is None or self._left <= 0:
                return
            self._left -= len(shown.encode("utf-8", "replace"))
            if self._left <= 0:
                shown = "sseproof: this log is full; later lines were left out.\n"
            try:
                self._file.write(shown)
                self._file.flush()
            except OSError:
                self._file = None

    def close(self) -> None:
        """Later lines are dropped."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None


class Log(Protocol):
    """Whatever takes a child's lines."""

    def line(self, source: str, text: str) -> None:
        """One line, and who said it."""


class Child:
    """One process of ours, its lines in the log, its rig error if it said one."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        log: Log,
        environ: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        """Starts it. Raises RigError when it can't be started."""
        self.name = name
        self.rig_error: str | None = None
        self.workers_lost: set[int] = set()
        """Workers on other machines that this process, a master, has lost sight of."""
        self._log = log
        try:
            self._process = subprocess.Popen(
                guarded(arguments, "KILL"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**environ, PARENT_VARIABLE: str(os.getpid())},
                cwd=cwd,
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise RigError(f"{name} can't be started: {error.strerror}.") from error
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Asks it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it."""
        self._signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, None when it still runs after the time-out."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(timeout=1)
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe:
            while line := pipe.readline(LINE_LIMIT_CHARS * 4):
                if line.startswith(RIG_ERROR_MARK) and self.rig_error is None:
                    self.rig_error = printable(line.removeprefix(RIG_ERROR_MARK).strip(), LINE_LIMIT_CHARS)
                self._note_worker(line)
                self._log.line(self.name, line)

    def _note_worker(self, line: str) -> None:
        for mark, change in (
            (WORKER_LOST_MARK, self.workers_lost.add),
            (WORKER_BACK_MARK, self.workers_lost.discard),
        ):
            number = line.removeprefix(mark).strip()
            if line.startswith(mark) and number.isascii() and number.isdigit():
                change(int(number))


def end_all(children: list[Child], grace_s: float) -> None:
    """SIGTERM to all, then SIGKILL to those that are still there after the grace."""
    for child in children:
        child.terminate()
    for child in children:
        if child.wait(grace_s) is None:
            child.kill()
            child.wait(5)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line of one of our own modules."""
    return [sys.executable, "-m", module, *arguments]


class Answer(msgspec.Struct):
    """What a short-lived child said."""

    code: int
    stdout: bytes
    stderr: str


def run_to_end(
    arguments: list[str],
    question: bytes,
    *,
    environ: Mapping[str, str],
    timeout_s: float,
    cancelled: Callable[[], bool],
) -> Answer:
    """Runs a child that reads a question and prints an answer.

    Raises RigError when it can't be started or does not end in time; when cancelled, what it said so far is given.
    """
    try:
        process = subprocess.Popen(
            guarded(arguments, "KILL"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environ, PARENT_VARIABLE: str(os.getpid())},
            start_new_session=True,
        )
    except OSError as error:
        raise RigError(f"{arguments[0]} can't be started: {error.strerror}.") from error
    deadline = time.monotonic() + timeout_s
    given: bytes | None = question
    while True:
        try:
            stdout, stderr = process.communicate(given, timeout=POLL_S)
        except subprocess.TimeoutExpired:
            given = None
            if cancelled() or time.monotonic() > deadline:
                process.kill()
                stdout, stderr = process.communicate()
                if not cancelled():
                    raise RigError(f"{arguments[-1]} did not end within {timeout_s:.0f} s.") from None
                break
        else:
            break
    return Answer(code=process.returncode, stdout=stdout, stderr=printable(stderr, LINE_LIMIT_CHARS))
