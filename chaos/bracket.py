"""A process of its own that does what a fault's command says, and undoes it always. Run as `python -m`.

Rules (design.md decision 9):
- Commands are lists of words, run without a shell, each in a session of its own that is ended whole at its limit.
- It outlives whoever started it by exactly one thing: when its standard input ends, for whatever reason, what was done is
  undone. It is not tied to the death of its parent in any other way.
- `undo` runs once for each `do` that was started, however that ended; it runs on every end but a SIGKILL of this process.
- `env:NAME` as a word, or `{env:NAME}` in one, stands for the value of that variable, so that a plan on disk holds no secret.

It reads a line with the `Settings`, then words, one a line: `begin`, `undo`, and again. It says, one line each: `did CODE REASON`,
`over` when `done_when` came true or the longest time has passed, `undone CODE REASON`. With nothing begun it just ends.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import Redactor, printable
from sseproof.rundir.variables import env_names, resolve_env

POLL_S: Final = 0.2
"""From one question whether it is over to the next, and at most so late is a word from our owner heard."""
QUESTION_LIMIT_S: Final = 10.0
UNDO_LIMIT_S: Final = 60.0
REASON_LIMIT_CHARS: Final = 200
LOOKED_AT_BYTES: Final = 65_536
"""Of the end of what it said: far more than a reason holds, so that no reason begins inside a secret."""
NO_CODE: Final = 127
"""Of a command that could not be started, as shells have it."""


class Settings(Struct, frozen=True, kw_only=True):
    """One command."""

    do: tuple[str, ...]
    undo: tuple[str, ...] = ()
    done_when: tuple[str, ...] = ()
    max_ms: int
    secrets: tuple[str, ...] = ()
    """What no reason may repeat, besides the values of the commands' own variables."""


class Done(Struct, frozen=True):
    """How a command ended."""

    code: int
    reason: str
    """The end of what it said, on one line."""


class _Owner:
    """What the standard input says; its end is a wish to undo."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._held = b""
        self.gone = False

    def word(self, wait_s: float) -> str | None:
        """The next line, None if none comes in time; an empty one when there will be no more."""
        deadline = time.monotonic() + wait_s
        while b"\n" not in self._held:
            if self.gone:
                return ""
            if not self._selector.select(max(deadline - time.monotonic(), 0)):
                return None
            got = os.read(0, 65_536)
            self.gone = not got
            self._held += got
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()

    def wants_undo(self, wait_s: float) -> bool:
        """Whether it asks for the end, or is gone."""
        return self.word(wait_s) is not None


def main() -> None:
    """One bracket after the other, from the settings to the end of the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the run, which then says what it wants
    owner = _Owner()
    first = owner.word(UNDO_LIMIT_S)
    if not first:
        return
    settings = msgspec.json.decode(first, type=Settings)
    words = (*settings.do, *settings.undo, *settings.done_when)
    named = [os.environ.get(name, "") for word in words for name in env_names(word)]
    redact = Redactor([*settings.secrets, *named])
    while True:
        while (word := owner.word(POLL_S)) is None:
            pass
        if word != "begin":
            return
        try:
            _act(settings, owner, redact)
        finally:
            _say("undone", _run(settings.undo, UNDO_LIMIT_S, redact) if settings.undo else Done(0, ""))


def _act(settings: Settings, owner: _Owner, redact: Redactor) -> None:
    """From `do` to the moment at which it has to be undone."""
    deadline = time.monotonic() + settings.max_ms / 1000
    did = _run(settings.do, settings.max_ms / 1000, redact, owner)
    _say("did", did)
    if did.code != 0:
        return
    while time.monotonic() < deadline:
        if owner.wants_undo(min(POLL_S, max(deadline - time.monotonic(), 0))):
            return
        if settings.done_when and _run(settings.done_when, QUESTION_LIMIT_S, redact, owner).code == 0:
            break
    _say("over", Done(0, ""))
    while not owner.wants_undo(POLL_S):
        pass


def _run(words: Sequence[str], limit_s: float, redact: Redactor, owner: _Owner | None = None) -> Done:
    """Runs a command to its end, at most to the limit or until the owner is gone; its whole session is ended then."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [resolve_env(word, os.environ)[0] for word in words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Done(NO_CODE, f"{words[0]}: {error.strerror}")
        except UsageError as error:
            return Done(NO_CODE, str(error))
        deadline = time.monotonic() + limit_s
        code: int | None = None
        while code is None and time.monotonic() < deadline and not (owner is not None and owner.gone):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(0.02)
            if owner is not None and code is None:
                owner.gone = owner.gone or _hung_up()
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Done(NO_CODE, f"it did not end within {limit_s:g} s")
        size = said.seek(0, os.SEEK_END)
        said.seek(max(size - LOOKED_AT_BYTES, 0))
        text = " ".join(redact(said.read().decode("utf-8", "replace")).split())
        return Done(code, printable(text[-REASON_LIMIT_CHARS:], REASON_LIMIT_CHARS))


def _hung_up() -> bool:
    """Whether the other end of the standard input is closed, without taking what may still lie in it."""
    with selectors.PollSelector() as poll:
        poll.register(0, selectors.EVENT_READ)
        return bool(poll.select(0)) and _is_empty()


def _is_empty() -> bool:
    import fcntl
    import struct
    import termios

    waiting = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, b"\0\0\0\0"))
    return bool(waiting[0] == 0)


def _say(what: str, done: Done) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever would read it is gone
        print(what, done.code, done.reason, flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.close()
