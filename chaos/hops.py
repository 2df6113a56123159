"""A real nginx or Apache as a hop before a service, good or bad for streams: `hop_config` says which kinds there are.

Rules:
- It is the user's own program, run as the user who runs us, with a configuration of ours and everything it writes in one
  folder: nothing of the machine's nginx or Apache is read or touched but its modules.
- What takes connections is never root: started by root, its workers are `nobody`, who owns the folders they write in.
  nginx is given paths relative to the folder it is started in, so nobody has to get through the folders above; Apache's
  workers write nothing.
- It ends with us: `setpriv --pdeathsig TERM` reaches the master when our thread is gone. nginx's ends its workers then (one
  that gets KILL leaves them behind). Apache's waits ten seconds for workers that carry a stream, measured, so a shell
  stands before it that answers the signal by ending its whole process group. Ending it ourselves ends the group too.
- Its messages come through a pipe into `say`, capped; there is no log file.
- The ports are leased for as long as the hop lives.
"""

import contextlib
import grp
import os
import pwd
import resource
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sseproof.chaos.hop_config import HopKind, Program, apache_config, nginx_config, program_of
from sseproof.chaos.processes import LOOPBACK, Child, PortLease
from sseproof.rundir.errors import RigError

HOW_TO_GET_NGINX: Final = (
    "nginx not found: install it (Debian: apt-get install nginx-light; macOS: brew install nginx)."
)
HOW_TO_GET_APACHE: Final = (
    "Apache not found: install it (Debian: apt-get install apache2-bin; macOS: brew install httpd)."
)
START_LIMIT_S: Final = 10.0
LINES_KEPT: Final = 50
MOST_DESCRIPTORS: Final = 65_536
ORDINARY_USER: Final = "nobody"

_HOW_TO_GET: Final[dict[Program, str]] = {"nginx": HOW_TO_GET_NGINX, "apache": HOW_TO_GET_APACHE}
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/sbin:/opt/homebrew/bin"
"""Debian keeps both where only root's PATH looks."""
_ENDS_ITS_GROUP: Final = 'trap "kill -KILL 0" TERM; "$@" & wait "$!"'
_APACHE_NAMES: Final = ("apache2", "httpd")
_APACHE_MODULES: Final = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/libexec/apache2",
    "/opt/homebrew/lib/httpd/modules",
)


def find_nginx() -> Path | None:
    """The program, None when there is none."""
    return _find("nginx")


def find_apache() -> Path | None:
    """The program, None when there is none, or none of its modules."""
    found = next((path for name in _APACHE_NAMES if (path := _find(name)) is not None), None)
    return found if _modules() is not None else None


def find_program(program: Program) -> Path | None:
    """The program that is such a hop, None when there is none."""
    return find_nginx() if program == "nginx" else find_apache()


def _find(name: str) -> Path | None:
    found = shutil.which(name) or shutil.which(name, path=_PLACES)
    return Path(found) if found else None


def _modules() -> str | None:
    return next((folder for folder in _APACHE_MODULES if Path(folder, "mod_proxy_http.so").is_file()), None)


class Hop:
    """A running nginx or Apache; a context manager."""

    def __init__(
        self,
        kind: HopKind,
        *,
        upstreams: Sequence[str],
        folder: Path,
        say: Callable[[str], None],
        route: str = "/",
        program: Path | None = None,
    ) -> None:
        """Starts it, from the main thread, and waits until it accepts connections.

        `upstreams` are host:port, each with a port of its own before it; `route` is the path of the streams, for the kind
        that treats it apart; `folder` is made if need be and holds all it writes.

        Raises RigError when the program is not there or does not start, UsageError for a route that can't be written.
        """
        which = program_of(kind)
        found = program or find_program(which)
        if found is None:
            raise RigError(f"No hop: {_HOW_TO_GET[which]}")
        self.kind = kind
        self._program = which
        self._say = say
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._lease = PortLease(len(upstreams))
        try:
            self._write(folder, upstreams, route)
            self._child = Child(
                kind,
                self._command(found, folder),
                say=self._said,
                cwd=folder,
                death_signal="TERM",
                process_group=True,
            )
            try:
                self._await()
            except BaseException:
                self._child.end()
                raise
        except BaseException:
            self._lease.close()
            raise

    @property
    def host(self) -> str:
        """Where it listens."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """Where it listens for the first upstream."""
        return self._lease.ports[0]

    @property
    def ports(self) -> list[int]:
        """Where it listens for each upstream, in their order."""
        return self._lease.ports

    @property
    def pid(self) -> int | None:
        """The process id of the master, or of the shell before it, while it runs."""
        return self._child.pid if self._child.poll() is None else None

    @property
    def lines(self) -> list[str]:
        """The last things it said, oldest first."""
        return list(self._lines)

    def close(self) -> None:
        """Ends it with its workers; harmless when it has ended."""
        self._child.end(signal.SIGTERM)
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _command(self, program: Path, folder: Path) -> list[str]:
        called = str(program.absolute())
        if self._program == "nginx":
            return [called, "-e", "stderr", "-p", "./", "-c", self._configuration]
        place = folder.absolute()
        options = ["-D", "FOREGROUND", "-d", str(place), "-f", str(place / self._configuration)]
        return ["/bin/sh", "-c", _ENDS_ITS_GROUP, "hop", called, *options]

    @property
    def _configuration(self) -> str:
        return f"{self._program}.conf"

    def _text(self, upstreams: Sequence[str], route: str) -> str:
        user = _ordinary_user() if os.geteuid() == 0 else None
        if self._program == "nginx":
            return nginx_config(
                self.kind,
                ports=self.ports,
                upstreams=upstreams,
                user=None if user is None else " ".join(user),
                descriptors=_descriptors(),
                route=route,
            )
        modules = _modules()
        assert modules is not None, "without them there is no Apache"
        return apache_config(self.kind, ports=self.ports, upstreams=upstreams, user=user, modules=modules)

    def _write(self, folder: Path, upstreams: Sequence[str], route: str) -> None:
        text = self._text(upstreams, route)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / self._configuration).write_text(text, "utf-8")
            if os.geteuid() == 0:
                folder.chmod(0o755)
        except OSError as error:
            raise RigError(f"{folder} can't be written: {error.strerror}.") from error

    def _said(self, line: str) -> None:
        self._lines.append(line)
        self._say(line)

    def _await(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                self._child.end()  # its last line is read before it is quoted
                raise RigError(
                    f"{self._program} does not start: {self._child.last_line or 'it ended at once'}"
                )
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port), 0.2).close()
                return
            time.sleep(0.01)
        raise RigError(f"{self._program} did not accept connections within {START_LIMIT_S:g} s.")


def _ordinary_user() -> tuple[str, str]:
    """`nobody` and its group. Raises RigError where there is no such user."""
    try:
        user = pwd.getpwnam(ORDINARY_USER)
        return user.pw_name, grp.getgrgid(user.pw_gid).gr_name
    except KeyError:
        raise RigError(
            f"No hop: started by root, it needs the user {ORDINARY_USER} and its group for its workers, and there is none: "
            "make it, or run as an ordinary user."
        ) from None


def _descriptors() -> int:
    """As many as may be had without privileges: a stream takes two."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
