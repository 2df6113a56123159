"""The run's end of a command's bracket (`chaos.bracket`): begins it, hears how it went, has it undone.

Rules:
- The bracket's process is started before the load, so that a window begins with no more than the command's own start.
- Its standard input is the only tie: closing it, or dying, has the command undone.
- It is one command, however many variants there are: who asks second finds it done. Undone, it can be done again.
"""

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

import msgspec

from sseproof.chaos.bracket import NO_CODE, UNDO_LIMIT_S, Settings
from sseproof.chaos.faults import Command
from sseproof.rundir.errors import RigError
from sseproof.rundir.text import printable

GRACE_S: Final = 5.0
LINE_LIMIT_BYTES: Final = 4_000


class CommandBracket:
    """One command of a run. `take_away` does it, `bring_back` undoes it."""

    def __init__(
        self,
        fault: Command,
        *,
        say: Callable[[str], None],
        environ: Mapping[str, str],
        secrets: Sequence[str] = (),
    ) -> None:
        """Starts the process that will do it; what it says of failures holds no secret. Raises RigError when that can't be started."""
        self._fault = fault
        self._say = say
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._over = threading.Event()
        self._begun = self._undone = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sseproof.chaos.bracket"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                start_new_session=True,
            )
        except OSError as error:
            raise RigError(f"The fault's command can't be prepared: {error.strerror}.") from error
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="command", daemon=True
        )
        self._reader.start()
        settings = Settings(
            do=fault.do,
            undo=fault.undo,
            done_when=fault.done_when,
            max_ms=fault.max_ms,
            secrets=tuple(secrets),
        )
        self._tell(msgspec.json.encode(settings).decode())

    def take_away(self) -> None:
        """Runs `do` to its end. Raises RigError when it fails; it is undone by then, or is being."""
        if self._begun and not self._undone:
            return
        self._begun, self._undone = True, False
        self._over.clear()
        self._tell("begin")
        try:
            self._expect("did", self._fault.do, self._fault.max_ms / 1000 + GRACE_S)
        except RigError:
            self._undone = True  # by its own process, at once
            raise

    def bring_back(self) -> None:
        """Runs `undo` to its end. Raises RigError when it fails."""
        if not self._begun or self._undone:
            return
        self._undone = True
        self._tell("undo")
        self._expect("undone", self._fault.undo, UNDO_LIMIT_S + GRACE_S)
        self._over.clear()  # whatever it had said before

    def is_over(self) -> bool:
        """Whether `done_when` has come true, or the longest time has passed."""
        return self._over.is_set()

    def close(self) -> None:
        """Has it undone where that was not done, and waits for it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(UNDO_LIMIT_S + GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=2)

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise RigError("The process that runs the fault's command is gone.") from None

    def _expect(self, what: str, words: tuple[str, ...], limit_s: float) -> None:
        """Waits for the line that says how it went. Raises RigError unless it went well."""
        shown = printable(" ".join(words[:3]), 60)
        try:
            while (line := self._lines.get(timeout=limit_s)) and not line.startswith(f"{what} "):
                pass
        except queue.Empty:
            line = ""
        if not line:
            raise RigError(f"The fault's command {shown!r} did not end within {limit_s:g} s.")
        _, code, *reason = line.split(" ", 2)
        if code != "0":
            why = f": {reason[0]}" if reason and reason[0] else ""
            how = "failed" if code == str(NO_CODE) else f"ended with exit code {code}"
            raise RigError(f"The fault's command {shown!r} {how}{why}.")

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while raw := pipe.readline(LINE_LIMIT_BYTES):
                line = printable(raw.rstrip(), LINE_LIMIT_BYTES)
                self._say(line)
                if line.startswith("over "):
                    self._over.set()
                self._lines.put(line)
        self._lines.put("")
