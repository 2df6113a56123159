"""A real nginx as a hop before a service: with its defaults, or with the settings an SSE service needs.

Rules:
- It is the user's own nginx, run as the user who runs us, with a configuration of ours and everything it writes in one
  folder: nothing of the machine's nginx is read or touched.
- What takes connections is never root: started by root, its workers are `nobody`, who owns the folders they write in.
  All paths are relative to the folder it is started in, so nobody has to get through the folders above.
- It ends with us: `setpriv --pdeathsig TERM` reaches the master when our thread is gone, and a master that gets TERM
  ends its workers (one that gets KILL leaves them behind). Ending it ourselves ends its whole process group.
- Its messages come through a pipe into `say`, capped; there is no log file.
- The port is leased for as long as the hop lives.
"""

import contextlib
import grp
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, get_args

from sseproof.chaos.processes import LOOPBACK, Child, PortLease
from sseproof.rundir.errors import RigError

HopKind = Literal["nginx-defaults", "nginx-sse"]
HOP_KINDS: Final[tuple[HopKind, ...]] = get_args(HopKind)
HOW_TO_GET_NGINX: Final = (
    "nginx not found: install it (Debian: apt-get install nginx-light; macOS: brew install nginx)."
)
START_LIMIT_S: Final = 10.0
LINES_KEPT: Final = 50
MOST_DESCRIPTORS: Final = 65_536
ORDINARY_USER: Final = "nobody"
CONFIGURATION: Final = "nginx.conf"

_UPSTREAM: Final = re.compile(r"[A-Za-z0-9_.\-\[\]:]+:\d{1,5}")
_PLACES: Final = "/usr/sbin:/usr/local/sbin:/sbin:/opt/homebrew/bin"
"""Debian keeps nginx where only root's PATH looks."""

_SETTINGS: Final[dict[HopKind, tuple[str, ...]]] = {
    # What a deployment gets that adds `proxy_pass` and turns compression on for all of its types.
    "nginx-defaults": ("gzip on;", "gzip_types text/event-stream;"),
    # The five settings of sse.conf.
    "nginx-sse": (
        "proxy_buffering off;",
        "proxy_cache off;",
        "gzip off;",
        "proxy_read_timeout 3600s;",
        "proxy_http_version 1.1;",
    ),
}


def find_nginx() -> Path | None:
    """The program, None when there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path=_PLACES)
    return Path(found) if found else None


def nginx_config(kind: HopKind, *, port: int, upstream: str, user: str | None, descriptors: int) -> str:
    """The whole configuration. `user` (with its group) is named only by root: others may not change theirs.

    Raises RigError for an upstream that a configuration can't hold.
    """
    if not _UPSTREAM.fullmatch(upstream):
        raise RigError(f"{upstream!r} is no host:port that nginx could pass requests to.")
    settings = "\n".join(f"            {line}" for line in _SETTINGS[kind])
    temporary = "\n".join(
        f"    {name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile {descriptors};
{f"user {user};" if user else ""}
pid nginx.pid;
error_log stderr warn;
events {{
    worker_connections {max(descriptors - 64, 64)};
}}
http {{
    access_log off;
{temporary}
    server {{
        listen {LOOPBACK}:{port};
        location / {{
            proxy_pass http://{upstream};
{settings}
        }}
    }}
}}
"""


class Hop:
    """A running nginx; a context manager."""

    def __init__(
        self,
        kind: HopKind,
        *,
        upstream: str,
        folder: Path,
        say: Callable[[str], None],
        nginx: Path | None = None,
    ) -> None:
        """Starts it, from the main thread, and waits until it accepts connections.

        `upstream` is host:port; `folder` is made if need be and holds all it writes.
        Raises RigError when there is no nginx or it does not start.
        """
        program = nginx or find_nginx()
        if program is None:
            raise RigError(f"No hop: {HOW_TO_GET_NGINX}")
        self.kind = kind
        self._say = say
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._lease = PortLease(1)
        try:
            self._write(folder, upstream)
            self._child = Child(
                kind,
                [str(program.absolute()), "-e", "stderr", "-p", "./", "-c", CONFIGURATION],
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
        """Where it listens."""
        return self._lease.ports[0]

    @property
    def pid(self) -> int | None:
        """The master's process id while it runs."""
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

    def _write(self, folder: Path, upstream: str) -> None:
        as_root = os.geteuid() == 0
        text = nginx_config(
            self.kind,
            port=self._lease.ports[0],
            upstream=upstream,
            user=_ordinary_user() if as_root else None,
            descriptors=_descriptors(),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIGURATION).write_text(text, "utf-8")
            if as_root:
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
                raise RigError(f"nginx does not start: {self._child.last_line or 'it ended at once'}")
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port), 0.2).close()
                return
            time.sleep(0.01)
        raise RigError(f"nginx did not accept connections within {START_LIMIT_S:g} s.")


def _ordinary_user() -> str:
    """`nobody` and its group, as the `user` directive takes them. Raises RigError where there is no such user."""
    try:
        user = pwd.getpwnam(ORDINARY_USER)
        return f"{user.pw_name} {grp.getgrgid(user.pw_gid).gr_name}"
    except KeyError:
        raise RigError(
            f"No hop: root's nginx needs the user {ORDINARY_USER} and its group for its workers, and there is none: "
            "make it, or run as an ordinary user."
        ) from None


def _descriptors() -> int:
    """As many as may be had without privileges: a stream takes two."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
