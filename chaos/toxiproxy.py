"""A Toxiproxy server and how we talk to it: one private child an experiment, or somebody else's by its URL.

Rules (toxiproxy.md 1.9, 2, 3 and 8):
- `toxiproxy-python` does the talking, through a class of its own a server (its host and port are class attributes).
  Added here: time-outs on every call, PATCH, one sentence for every error, and no proxy, redirect or .netrc of the
  environment.
- Nothing is believed: what the server echoes after a change is compared attribute by attribute, and a difference is an
  error. It takes a misspelt attribute without a word, and the fault would silently not be there. The injector reads the
  whole state back once more (`same_proxy`) before the first stream starts.
- A call that is not answered within `CALL_LIMIT_S` means that the server is wedged for good (its locks don't recover
  when the cause goes away). It is never repeated: `WedgedError`, and only a new server helps.
- Our own child says where it listens through its own pipe, so no other process can pass for it. A stock child is
  believed when the listening socket belongs to its process.
- The API has no authentication: it is reached on loopback only, unless the caller says otherwise.
"""

import contextlib
import ipaddress
import os
import queue
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from toxiproxy import api as library
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from sseproof.chaos.install import Found, check_address
from sseproof.chaos.processes import LOOPBACK, Child, PortLease
from sseproof.chaos.toxics import COUNTERS, Toxic, checked
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.text import printable

CALL_LIMIT_S: Final = 5.0
CONNECT_LIMIT_S: Final = 0.5
"""Loopback connects at once or not at all; together with the answer a call ends within 6 s."""
START_LIMIT_S: Final = 10.0
START_ATTEMPTS: Final = 3
EVERYWHERE: Final = "0.0.0.0"  # compared, not bound
MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024

D = TypeVar("D")

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_NO_PROXIES: Final = {"http": "", "https": "", "all": ""}


class ServerError(RigError):
    """The fault engine failed; never the target's doing."""


class WedgedError(ServerError):
    """The server did not answer in time: it is deadlocked and has to be replaced."""


class MismatchError(ServerError):
    """What the server says it has is not what it was given."""


class ProxyState(Struct, kw_only=True):
    """A proxy as the server describes it."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: list[Toxic] = []


class _Version(Struct):
    version: str


class Client:
    """The API of one server."""

    def __init__(
        self, host: str, port: int, *, limit_s: float = CALL_LIMIT_S, loopback_only: bool = True
    ) -> None:
        """Raises UsageError for an address outside loopback unless that is wanted."""
        if loopback_only and not _is_loopback(host):
            raise UsageError(
                f"{host} is not this machine: a Toxiproxy has no authentication, so only loopback is used unless "
                "you say otherwise."
            )
        self.place = f"{f'[{host}]' if ':' in host else host}:{port}"
        self._limit_s = limit_s
        # The library keeps host and port on the class: a class a server, or two servers would be one.
        self._api: Any = type(
            "_Api", (library.APIConsumer,), {"host": f"[{host}]" if ":" in host else host, "port": port}
        )

    @classmethod
    def from_url(cls, url: str, *, loopback_only: bool = True) -> "Client":
        """The client of a running server: http://127.0.0.1:8474. Raises UsageError for anything else."""
        check_address(url)
        try:
            parts = urlsplit(url)
            port = parts.port or 8474
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"}:
            raise UsageError(f"{printable(url)!r} is no address of a Toxiproxy: write http://127.0.0.1:8474.")
        return cls(parts.hostname, port, loopback_only=loopback_only)

    def version(self) -> str:
        """What the server calls itself; before 2.7 as plain text."""
        body = self._call("get", "/version")
        with contextlib.suppress(msgspec.DecodeError):
            return printable(msgspec.json.decode(body, type=_Version).version)
        return printable(body.strip())

    def proxies(self) -> dict[str, ProxyState]:
        """All proxies of the server, ours and other people's."""
        return self._decoded(self._call("get", "/proxies"), dict[str, ProxyState])

    def proxy(self, name: str) -> ProxyState:
        """One proxy with its toxics."""
        return self._decoded(self._call("get", f"/proxies/{_named(name)}"), ProxyState)

    def create(self, name: str, *, listen: str, upstream: str, enabled: bool = False) -> ProxyState:
        """Makes a proxy, off by default: toxics are to stand before the first connection."""
        wanted = ProxyState(name=_named(name), listen=listen, upstream=upstream, enabled=enabled)
        body = self._call("post", "/proxies", msgspec.to_builtins(wanted))
        return same_proxy(wanted, self._decoded(body, ProxyState))

    def set_enabled(self, name: str, enabled: bool) -> ProxyState:
        """Switches a proxy on or off; off also ends its live connections."""
        state = self._decoded(self._patch(f"/proxies/{_named(name)}", {"enabled": enabled}), ProxyState)
        if state.enabled is not enabled:
            raise MismatchError(f"The proxy {name} was switched {_on(enabled)} and is {_on(state.enabled)}.")
        return state

    def delete(self, name: str) -> None:
        """Removes a proxy with its toxics and connections."""
        self._call("delete", f"/proxies/{_named(name)}")

    def add_toxic(self, proxy: str, toxic: Toxic) -> Toxic:
        """Puts a toxic on a proxy and compares the echo. Raises FaultError for one that would end the server."""
        wanted = msgspec.to_builtins(checked(toxic))
        body = self._call("post", f"/proxies/{_named(proxy)}/toxics", wanted)
        return same_toxic(proxy, toxic, self._decoded(body, Toxic))

    def update_toxic(self, proxy: str, toxic: Toxic) -> Toxic:
        """Changes the attributes of a toxic (name, type and direction stay) and compares the echo."""
        wanted = {"attributes": checked(toxic).attributes, "toxicity": toxic.toxicity}
        body = self._patch(f"/proxies/{_named(proxy)}/toxics/{_named(toxic.name)}", wanted)
        return same_toxic(proxy, toxic, self._decoded(body, Toxic))

    def _patch(self, path: str, body: object) -> bytes:
        try:
            return self._call("patch", path, body)
        except _MethodError:
            return self._call("post", path, body)  # servers before 2.6 know only the older verb

    def _call(self, method: str, path: str, body: object = None) -> bytes:
        """One request, one answer. Raises WedgedError or ServerError, each in one sentence."""
        what = f"{method.upper()} {path}"
        errors = library.requests.exceptions
        options: dict[str, Any] = {
            "timeout": (CONNECT_LIMIT_S, self._limit_s),
            "proxies": _NO_PROXIES,
            "auth": _unchanged,
            "allow_redirects": False,
            "headers": {"User-Agent": "sseproof"},
        }
        if body is not None:
            options["json"] = body
        try:
            if method == "patch":
                url = f"http://{self.place}{path}"
                answer = library.validate_response(library.requests.patch(url, **options))
            else:
                answer = getattr(self._api, method)(path, **options)
        except (NotFound, ProxyExists, InvalidToxic) as error:
            raise ServerError(
                f"Toxiproxy at {self.place} refused {what}: {_reason(error.args[0])}."
            ) from None
        except errors.ConnectTimeout:
            self._gone(what, "it does not accept connections")
        except errors.Timeout:
            raise WedgedError(
                f"Toxiproxy at {self.place} did not answer {what} within {self._limit_s:g} s: it is wedged."
            ) from None
        except errors.RequestException as error:
            self._gone(what, type(error).__name__)
        return self._checked(what, int(answer.status_code), bytes(answer.content))

    def _checked(self, what: str, status: int, content: bytes) -> bytes:
        if status == 405:
            raise _MethodError(f"Toxiproxy at {self.place} knows no {what}.")
        if status == 503:  # its own time-out of 25 s, with the lock still held
            raise WedgedError(f"Toxiproxy at {self.place} gave up on {what}: it is wedged.")
        if not 200 <= status < 300:
            raise ServerError(f"Toxiproxy at {self.place} refused {what} ({status}): {_reason(content)}.")
        if len(content) > MOST_ANSWER_BYTES:
            raise ServerError(
                f"What answers at {self.place} is no Toxiproxy: {len(content)} bytes for {what}."
            )
        return content

    def _gone(self, what: str, why: str) -> NoReturn:
        raise ServerError(f"Toxiproxy at {self.place} is not there ({why}, {what}).") from None

    def _decoded(self, body: bytes, kind: type[D]) -> D:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(f"What answers at {self.place} is no Toxiproxy ({error}).") from None


class _MethodError(ServerError):
    """The server does not know this verb."""


def same_toxic(proxy: str, wanted: Toxic, seen: Toxic) -> Toxic:
    """The toxic as the server has it. Raises MismatchError naming every attribute that differs."""
    differences = [
        f"{field} is {getattr(seen, field)!r} instead of {getattr(wanted, field)!r}"
        for field in ("name", "type", "stream", "toxicity")
        if getattr(seen, field) != getattr(wanted, field)
    ]
    names = {**wanted.attributes, **seen.attributes}
    differences += [
        f"{name} is {seen.attributes.get(name)!r} instead of {wanted.attributes.get(name)!r}"
        for name in names
        if name not in COUNTERS and seen.attributes.get(name) != wanted.attributes.get(name)
    ]
    if differences:
        raise MismatchError(f"The toxic {wanted.name} of {proxy}: {', '.join(differences)}.")
    return seen


def same_listen(wanted: str, seen: str) -> bool:
    """Whether both are one place: a server that listens on every address of IPv4 says that it does so on IPv6, too."""
    return seen == wanted or (
        wanted.startswith(f"{EVERYWHERE}:") and seen == f"[::]:{wanted.rpartition(':')[2]}"
    )


def same_proxy(wanted: ProxyState, seen: ProxyState) -> ProxyState:
    """The proxy as the server has it, its toxics compared one by one. Raises MismatchError with what differs."""
    for field in ("name", "listen", "upstream", "enabled"):
        if field == "listen" and same_listen(wanted.listen, seen.listen):
            continue
        if getattr(seen, field) != getattr(wanted, field):
            raise MismatchError(
                f"{field} of the proxy {wanted.name} is {getattr(seen, field)!r} "
                f"instead of {getattr(wanted, field)!r}."
            )
    there = {toxic.name: toxic for toxic in seen.toxics}
    if set(there) != {toxic.name for toxic in wanted.toxics}:
        raise MismatchError(
            f"The proxy {wanted.name} has the toxics {sorted(there)} "
            f"instead of {sorted(toxic.name for toxic in wanted.toxics)}."
        )
    for toxic in wanted.toxics:
        same_toxic(wanted.name, toxic, there[toxic.name])
    return seen


class Server:
    """A private server as a child of this process. `client` talks to it while it runs."""

    client: Client

    def __init__(
        self, found: Found, *, say: Callable[[str], None], environ: Mapping[str, str] | None = None
    ) -> None:
        """Starts it; call it from the main thread. `say` gets the server's lines.

        Raises RigError when it can't be started.
        """
        if found.path is None:
            raise RigError(f"There is no Toxiproxy server to start: {found.why}")
        self._path: Path = found.path
        self._own = found.own
        self._say = say
        self._environ = dict(os.environ if environ is None else environ)
        self._child: Child | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    def kill(self) -> None:
        """Ends it at once and waits for it: afterwards none of its ports listens. From any thread."""
        if self._child is not None:
            self._child.end(signal.SIGKILL)

    def restart(self) -> None:
        """A new, empty server; from the main thread. Raises RigError when it can't be started."""
        self.kill()
        self._start()

    def close(self) -> None:
        """Ends it; harmless when it has ended."""
        if self._child is not None:
            self._child.end(signal.SIGTERM)

    def _start(self) -> None:
        problem = ""
        for _ in range(START_ATTEMPTS):
            with PortLease(1) as lease:
                port = lease.ports[0]
                said: queue.SimpleQueue[str] = queue.SimpleQueue()
                self._child = Child(
                    "toxiproxy",
                    [str(self._path.absolute()), "-host", LOOPBACK, "-port", str(port)],
                    say=self._say,
                    environ={**self._environ, "LOG_LEVEL": "error"},
                    on_line=said.put,
                )
                try:
                    problem = self._problem(self._child, said, port)
                except BaseException:
                    self.kill()
                    raise
                if not problem:
                    self.client = Client(LOOPBACK, port)
                    return
                self.kill()
        raise ServerError(f"The Toxiproxy server {self._path} does not start: {problem}.")

    def _problem(self, child: Child, said: "queue.SimpleQueue[str]", port: int) -> str:
        """Waits until it is certain that our child answers on the port; otherwise why not."""
        deadline = time.monotonic() + START_LIMIT_S
        if self._own:
            return _wait_for_line(said, f"listening {LOOPBACK}:{port}", deadline)
        while time.monotonic() < deadline:
            if child.poll() is not None:
                child.end()  # its last line is read before it is quoted
                return child.last_line or "it ended at once"
            if _listens(child.pid, port):
                with contextlib.suppress(WedgedError):
                    return "" if not Client(LOOPBACK, port).proxies() else "it has proxies nobody gave it"
            with contextlib.suppress(
                queue.Empty
            ):  # a line may be its reason, and is no more than a pause otherwise
                said.get(timeout=0.01)
        return child.last_line or f"no API on port {port} within {START_LIMIT_S:g} s"


def _wait_for_line(said: "queue.SimpleQueue[str]", wanted: str, deadline: float) -> str:
    last = ""
    while True:
        try:
            line = said.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            return last or "it did not say that it listens"
        if line == wanted:
            return ""
        if not line:  # its output ended
            return last or "it ended at once"
        last = line


def _listens(pid: int, port: int) -> bool:
    """Whether this process holds the listening socket of the port; where that can't be seen, whether anybody does."""
    if not sys.platform.startswith("linux"):
        with socket.socket() as probe:
            probe.settimeout(CONNECT_LIMIT_S)
            return probe.connect_ex((LOOPBACK, port)) == 0
    inodes = set()
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _named(name: str) -> str:
    """The name, if it can be part of a path. A name with a slash is created and can never be addressed again."""
    if not _NAME.fullmatch(name):
        raise ServerError(f"{printable(name)!r} can't name a proxy or toxic: letters, digits, _ . and - can.")
    return name


def _reason(content: object) -> str:
    """Errors are JSON, plain text or HTML, whatever their type says."""
    raw = content if isinstance(content, bytes) else str(content).encode()
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return printable(msgspec.json.decode(raw, type=_Problem).error).rstrip(".")
    return printable(raw.strip() or b"it gave no reason", 160).rstrip(".")


class _Problem(Struct):
    error: str


def _unchanged(request: Any) -> Any:
    """An authentication that adds none: without it a .netrc would."""
    return request


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"
