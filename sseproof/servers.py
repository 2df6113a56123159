"""The reference servers that a run starts for itself, and kills and starts again where a fault asks for it.

Rules:
- A server is a child of the run (`children.Child`): started from the main thread, ended with the run.
- Where it listens it says itself. One that is to come back on the same port has it from the start, from a lease: the
  kernel gives a free port to whoever asks while the server is away.
- A killed server takes its own record with it, so `before_kill` is called first: whoever wants its rows asks for them then.
- One that drains is told to stop, and hands its streams and its record to the one that is started in its place.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from sseproof.children import Child, end_all, python_module
from sseproof.reference_server.settings import ServerSettings, settings_to_json
from sseproof.rundir.errors import RigError

READY_S: Final = 20.0
END_GRACE_S: Final = 5.0
DRAIN_LIMIT_S: Final = 20.0
"""From the end of the window: readers that are slow have a time-out of their own."""
POLL_S: Final = 0.02
_READY: Final = re.compile(r"sseproof reference server .* on http://[^/]+:(\d+)/")


class OwnServer:
    """One reference server of a run."""

    def __init__(
        self,
        name: str,
        settings: ServerSettings,
        *,
        environ: Mapping[str, str],
        line: Callable[[str, str], None],
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts it and waits until it is ready; `heed` is asked meanwhile and raises to end the wait.

        Raises RigError when it does not get ready.
        """
        self._name = name
        self._settings = settings
        self._environ = environ
        self._line = line
        self._heed = heed
        self._child: Child | None = None
        self._draining = False
        self.port = settings.port
        self.before_kill: Callable[[], None] = lambda: None
        try:
            self.bring_back()
        except BaseException:
            self.close()
            raise
        self._heed = lambda: None  # what it would end is over; a run that is interrupted still heals

    def bring_back(self) -> None:
        """Starts it where it does not run; it is ready then. From the main thread. Raises RigError."""
        if self._draining and self._child is not None:
            self._draining = False
            if self._child.wait(DRAIN_LIMIT_S) is None:
                raise RigError(
                    f"The {self._name} was told to stop and still runs after {DRAIN_LIMIT_S:.0f} s."
                )
        if self._child is not None and self._child.poll() is None:
            return
        lines = _Lines(self._name, self._line)
        child = self._child = Child(
            self._name,
            [*python_module("sseproof.reference_server"), settings_to_json(self._settings)],
            log=lines,
            environ=self._environ,
        )
        deadline = time.monotonic() + READY_S
        while lines.port is None:
            if child.poll() is not None:
                child.wait(1)
                raise RigError(child.rig_error or f"The {self._name} ended at once: {lines.last}")
            if time.monotonic() > deadline:
                raise RigError(f"The {self._name} was not ready within {READY_S:.0f} s.")
            self._heed()
            time.sleep(POLL_S)
        self.port = lines.port

    def take_away(self) -> None:
        """SIGKILL, and nobody listens on its port afterwards; SIGTERM where it is to drain. From any thread."""
        if self._child is not None and self._settings.drain is not None:
            self._draining = True
            self._child.terminate()
        elif self._child is not None:
            self.before_kill()
            self._child.kill()
            if self._child.wait(END_GRACE_S) is None:
                raise RigError(f"The {self._name} was killed and still runs.")

    def is_over(self) -> bool:
        """Never: it comes back when it is brought back."""
        return False

    def close(self) -> None:
        """Ends it; harmless when it has ended."""
        if self._child is not None:
            end_all([self._child], END_GRACE_S)


class _Lines:
    """Takes a server's lines for the log and finds the port in the one that says it is ready."""

    def __init__(self, name: str, line: Callable[[str, str], None]) -> None:
        self._name = name
        self._line = line
        self.port: int | None = None
        self.last = "it said nothing"

    def line(self, source: str, text: str) -> None:
        """One line, as `RunLog.line` takes it."""
        self.last = text.strip() or self.last
        if self.port is None and (found := _READY.match(text)):
            self.port = int(found[1])
        self._line(source, text)
