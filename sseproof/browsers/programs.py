"""The browsers of this machine: found on PATH, started without a window, ended with all that they started.

Rules:
- Nothing of theirs stays: each has a profile folder of its own that goes when it ends. A browser is many processes: some
  leave its session, some lose their parent, some write their title over their environment. They are found by a mark of ours
  in the environment and as children of those that are known, each with the time of its start, and ended by id.
- They contact nobody but loopback and the hosts that the run names: background traffic is turned off, and Chromium's names
  resolve to nothing else.
- Chromium's sandbox needs what root gives up: as root it runs without (`--no-sandbox`), and the run says so.
"""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from msgspec import Struct

from sseproof.rundir.errors import RigError
from sseproof.rundir.layout import alive

BrowserName = Literal["chromium", "firefox"]
PROGRAMS: Final[Mapping[BrowserName, tuple[str, ...]]] = {
    "chromium": ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
HOW_TO_GET: Final[Mapping[BrowserName, str]] = {
    "chromium": "apt-get install chromium",
    "firefox": "apt-get install firefox-esr",
}
MARK_VARIABLE: Final = "SSEPROOF_BROWSER"
FOLDER: Final = "sseproof-browser"
END_GRACE_S: Final = 3.0
POLL_S: Final = 0.05

_CHROMIUM: Final = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-crash-reporter",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--metrics-recording-only",
    "--password-store=basic",
    "--use-mock-keychain",
    "--window-size=1000,800",
)
_FIREFOX_PREFERENCES: Final[Mapping[str, bool | int | str]] = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "app.update.auto": False,
    "browser.aboutwelcome.enabled": False,
    "browser.cache.disk.enable": False,
    "browser.region.update.enabled": False,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.proxy.type": 0,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.unified": False,
}


class Found(Struct, frozen=True):
    """A browser on PATH."""

    name: BrowserName
    path: str


def find(name: BrowserName, environ: Mapping[str, str]) -> Found | None:
    """The browser's program; None where there is none."""
    for program in PROGRAMS[name]:
        path = shutil.which(program, path=environ.get("PATH"))
        if path is not None:
            return Found(name, path)
    return None


def command_of(found: Found, address: str, profile: Path, *, root: bool) -> list[str]:
    """The command line that opens an address without a window."""
    if found.name == "firefox":
        return [found.path, "--headless", "--no-remote", "--profile", str(profile), address]
    host = urlsplit(address).hostname or ""
    return [
        found.path,
        *_CHROMIUM,
        *(["--no-sandbox"] if root else []),
        f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {host}",
        f"--user-data-dir={profile}",
        address,
    ]


def preferences() -> str:
    """user.js of Firefox's profile."""
    return "".join(
        f"user_pref({_quoted(name)}, {_quoted(value)});\n" for name, value in _FIREFOX_PREFERENCES.items()
    )


def _quoted(value: bool | int | str) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower()


class Process(Struct, frozen=True):
    """Whoever runs the browser for us: `children.Child`, as far as it is needed here."""

    poll: Callable[[], int | None]


Start = Callable[[str, list[str], Mapping[str, str]], Process]
"""Starts a command under a name and with an environment. Raises RigError."""


class Browser:
    """One browser that runs, until `close`."""

    def __init__(self, found: Found, address: str, *, environ: Mapping[str, str], start: Start) -> None:
        """Opens the address. Raises RigError when it can't be started."""
        self.found = found
        self._mark = secrets.token_hex(8)
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-"))
        try:
            profile = self._folder / "profile"
            profile.mkdir()
            (profile / "user.js").write_text(preferences(), "utf-8")
            own = {
                # A session of a desktop would hand the address to a browser that runs there already.
                name: value
                for name, value in environ.items()
                if name not in {"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}
            }
            own |= {MARK_VARIABLE: self._mark, "HOME": str(self._folder), "MOZ_CRASHREPORTER_DISABLE": "1"}
            command = command_of(found, address, profile, root=is_root())
            self._process = start(found.name, command, own)
        except OSError as error:
            self.close()
            raise RigError(f"No profile can be made for {found.name}: {error.strerror}.") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def close(self) -> None:
        """Ends it and everything it started; its profile goes."""
        deadline = time.monotonic() + END_GRACE_S
        known: set[Known] = set()
        while known := processes_of(self._mark, known):
            late = time.monotonic() > deadline
            for each in known:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(each.pid, signal.SIGKILL if late else signal.SIGTERM)
            if time.monotonic() > deadline + END_GRACE_S:
                break
            time.sleep(POLL_S)
        shutil.rmtree(self._folder, ignore_errors=True)


def _sweep() -> None:
    """Profiles that a killed run left go at the next one's start."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}-*-*"):
        pid = left.name.removeprefix(f"{FOLDER}-").partition("-")[0]
        if pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def is_root() -> bool:
    """Whether Chromium has to run without its sandbox."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


class Known(NamedTuple):
    """A process that no other can be taken for, even when its id is used again."""

    pid: int
    started: str
    """In ticks since the machine's start."""


def processes_of(mark: str, known: Collection[Known] = ()) -> set[Known]:
    """The living processes with this mark in their environment, those that were known before, and the children of all.

    Linux; elsewhere none is found.
    """
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    children: dict[int, list[Known]] = {}
    found: list[Known] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *rest = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            environ = (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue
        each = Known(int(folder.name), rest[_STARTED])
        if state == "Z":
            continue  # it has ended, and waits for its parent to notice
        children.setdefault(int(parent), []).append(each)
        if each in known or wanted in environ.split(b"\0"):
            found.append(each)
    all_of_them = set()
    while found:
        each = found.pop()
        if each not in all_of_them:
            all_of_them.add(each)
            found += children.get(each.pid, [])
    return all_of_them


_STARTED: Final = 17
"""Field 22 of /proc/PID/stat, counted behind the parent's id."""


def parts(names: Sequence[BrowserName], environ: Mapping[str, str]) -> dict[BrowserName, Found | None]:
    """What there is of these browsers."""
    return {name: find(name, environ) for name in names}
