"""Child processes that end with us, and loopback ports that stay ours.

Rules (design.md decision 9 and "Ground rules"):
- On Linux a child starts under `setpriv --pdeathsig`, which the kernel ties to the *thread* that started it: start
  children from the main thread. In between fork and exec the parent can die unseen, so the child compares its parent
  once more before it becomes the real program.
- Ports lie below 32768, where the kernel picks no outgoing ports. A `PortLease` keeps each port bound (SO_REUSEADDR,
  never listening) for as long as it lives: others see it as taken, our server may listen on it, and where nobody
  listens a connect is refused. So a proxy that was switched off always gets its port back (toxiproxy.md 1.3).
"""

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Final, Self

from sseproof.rundir.errors import RigError, unbound
from sseproof.rundir.text import printable

LOOPBACK: Final = "127.0.0.1"
PORTS_FROM: Final = 20_000
PORTS_BELOW: Final = 32_768
LINE_LIMIT_BYTES: Final = 8_000
LOG_LIMIT_LINES: Final = 2_000
"""What a child may say before the rest is dropped: a server under fire fills no disk."""

_CHECK_PARENT: Final = 'test "$PPID" = "$0" && exec "$@"'


class PortLease:
    """Loopback ports that nobody else takes until `close`."""

    def __init__(self, count: int) -> None:
        """Any that are free. Raises RigError when so many ports are not."""
        self._sockets: list[socket.socket] = []
        span = PORTS_BELOW - PORTS_FROM
        start = os.getpid() * 7
        try:
            for offset in range(span):
                if len(self._sockets) == count:
                    return
                self._try(PORTS_FROM + (start + offset) % span)
        except BaseException:
            self.close()
            raise
        if len(self._sockets) < count:
            self.close()
            raise RigError(
                f"{count} free ports are needed between {PORTS_FROM} and {PORTS_BELOW - 1} on {LOOPBACK}, "
                "and there are fewer: end what listens there."
            )

    @classmethod
    def of(cls, ports: Sequence[int], host: str = LOOPBACK) -> Self:
        """These ports of an address of this machine. Raises RigError naming one that is taken, UsageError one that we can't have at all."""
        lease = cls(0)
        for port in ports:
            if (problem := lease._try(port, host, leftovers=True)) is not None:
                lease.close()
                taken = problem.errno == errno.EADDRINUSE
                way = (
                    "end what listens there, or take another"
                    if taken
                    else "take another, on an address of this machine"
                )
                raise unbound(problem, f"Port {port} of {host} can't be had ({problem.strerror}): {way}.")
        return lease

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ports(self) -> list[int]:
        """The ports, in the order they are to be used."""
        return [int(each.getsockname()[1]) for each in self._sockets]

    def close(self) -> None:
        """Gives the ports back."""
        for each in self._sockets:
            each.close()
        self._sockets = []

    def _try(self, port: int, host: str = LOOPBACK, *, leftovers: bool = False) -> OSError | None:
        """Why the port can't be had; None when it is held now.

        With `leftovers`, connections of a server that has ended don't matter: who asks for a port again may have it.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with contextlib.ExitStack() as undo:
            # Without SO_REUSEADDR a bind fails wherever anybody holds the port, another lease included.
            with socket.socket(family) as probe:
                try:
                    probe.bind((host, port))
                except OSError as error:
                    if not (leftovers and _only_left_over(host, port)):
                        return error
            held = undo.enter_context(socket.socket(family))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind((host, port))
            except OSError as error:
                if error.errno is not None and error.errno not in _PORT_TAKEN:
                    raise RigError(f"No socket can be made: {error.strerror}.") from error
                return error
            undo.pop_all()
            self._sockets.append(held)
        return None


def _only_left_over(host: str, port: int) -> bool:
    """Whether a port is taken by nothing but connections that live on without a server, TIME_WAIT for a minute (Linux).

    With SO_REUSEADDR one could listen there; but that is true of another lease's port too, which has none of those.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                place, state = itemgetter(1, 3)(line.split())
                if int(place.rpartition(":")[2], 16) == port and state in _ENDING:
                    return True
    return False


_ENDING: Final = frozenset({"04", "05", "06", "09", "0B"})
"""FIN_WAIT1 and 2, TIME_WAIT, LAST_ACK, CLOSING."""
_PORT_TAKEN: Final = frozenset({98, 48, 13})  # EADDRINUSE on Linux and macOS, EACCES


def guarded(arguments: list[str], death_signal: str) -> list[str]:
    """The command line of a child that gets this signal when the thread that starts it is gone (Linux)."""
    if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
        return arguments
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return arguments
    return [
        setpriv,
        "--pdeathsig",
        death_signal,
        "--",
        "/bin/sh",
        "-c",
        _CHECK_PARENT,
        str(os.getpid()),
        *arguments,
    ]


class Child:
    """One server process whose lines go to `say`, a thread draining them so that it never blocks on us."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        say: Callable[[str], None],
        death_signal: str = "KILL",
        environ: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        process_group: bool = False,
        cwd: Path | None = None,
    ) -> None:
        """Starts it, its standard input an open pipe that closes with us.

        `on_line` sees every line before it is logged. With `process_group`, signals of ours go to its children too.
        Raises RigError when it can't be started.
        """
        self.name = name
        self._say = say
        self._on_line = on_line
        self._group = process_group
        self._left = LOG_LIMIT_LINES
        self.last_line = ""
        try:
            self._process = subprocess.Popen(
                guarded(arguments, death_signal),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise RigError(f"{name} can't be started: {error.strerror}.") from error
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name=f"lines of {name}", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def end(self, number: signal.Signals = signal.SIGTERM, grace_s: float = 3.0) -> int:
        """Sends the signal, then SIGKILL after the grace; the exit code. Harmless when it has ended."""
        self._signal(number)
        try:
            code = self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            code = self._process.wait()
        if self._group:  # whatever of it is left: the group is named after the leader, which has ended
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._reader.join(timeout=2)
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while raw := pipe.readline(LINE_LIMIT_BYTES):
                line = printable(raw.rstrip(), LINE_LIMIT_BYTES)
                if line:
                    self.last_line = line
                if self._on_line is not None:
                    self._on_line(line)
                self._left -= 1
                if self._left > 0:
                    self._say(line)
                elif self._left == 0:
                    self._say("later lines were left out.")
        if self._on_line is not None:
            self._on_line("")  # the end of its output: who waits for a line waits no longer
