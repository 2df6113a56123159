"""`sseproof check`: probe, keep the capture, judge it; or judge a kept one again."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from sseproof.rundir.capture import Capture
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.units import parse_duration

if TYPE_CHECKING:
    from sseproof.loadtests.examination import CheckRequest

CAPTURES: Final = Path("checks")
"""Where captures are kept unless the user says otherwise."""
LONGEST_S: Final = 3_600
_HOST: Final = re.compile(r"[^A-Za-z0-9.-]+")


class Checked(Struct, kw_only=True):
    """What one call of the command gives."""

    capture: Capture
    path: Path | None
    """Where the capture lies."""


def probe(
    request: "CheckRequest", environ: Mapping[str, str], say: Callable[[str], None], *, out: Path
) -> Checked:
    """Examines an endpoint and keeps the capture in this folder.

    Raises UsageError for bad input before the first connection, RigError when the file can't be written or this machine
    could not connect.
    """
    from sseproof.loadtests.examination import examine
    from sseproof.rundir.capture_file import write_capture

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out} can't be made: {error.strerror}; choose another folder with --out."
        ) from None
    capture = examine(request, environ, say)
    rig = next((each for each in capture.probes if each.end == "rig"), None)
    if rig is not None:
        raise RigError(f"This machine could not connect to {rig.address}: {rig.detail}.")
    host = _HOST.sub("-", urlsplit(capture.url).hostname or "endpoint")[:80]
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(capture.began_ns // 1_000_000_000))
    path = out / f"{moment}-{capture.began_ns // 1_000_000 % 1000:03}-{host}.json"
    write_capture(path, capture)
    return Checked(capture=capture, path=path)


def kept(path: Path) -> Checked:
    """A capture that was kept. Raises UsageError when it can't be read."""
    from sseproof.rundir.capture_file import read_capture

    return Checked(capture=read_capture(path), path=path)


def ids(texts: Collection[str]) -> list[str]:
    """The ids of --only and --skip, which take several behind commas."""
    return [part.strip().upper() for text in texts for part in text.split(",") if part.strip()]


def request_of(url: str, options: Mapping[str, Any], headers: dict[str, str]) -> "CheckRequest":
    """What the command line asks for. Raises UsageError, naming the option, for what can't be taken."""
    from sseproof.loadtests.examination import CheckRequest
    from sseproof.loadtests.probe import Trust

    look = None if options["look"] is None else _seconds("--look", options["look"])
    return CheckRequest(
        url=url,
        method=options["method"],
        headers=headers,
        body=body_of(options["body"]),
        terminal=_terminal(options["terminal"]),
        look_s=look,
        headers_s=_seconds("--timeout", options["timeout"]),
        trust=Trust(
            ca=options["cacert"], cert=options["cert"], key=options["key"], insecure=options["insecure"]
        ),
        allow=[host.lower() for host in options["allow"]],
    )


def body_of(text: str | None) -> str | None:
    """The body of --body, read from a file behind an @. Raises UsageError when that can't be read."""
    if text is None or not text.startswith("@"):
        return text
    path = Path(text[1:])
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--body {text}: {path} can't be read: {reason}.") from None


def _seconds(option: str, text: str) -> float:
    try:
        seconds = parse_duration(text).seconds
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from None
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"{option} is {text}: give more than nothing and at most {LONGEST_S} s.")
    return seconds


def _terminal(text: str | None) -> str | None:
    if text is None or text == "none":
        return text
    kind, _, value = text.partition(":")
    if kind not in {"event", "data"} or not value:
        raise UsageError("--terminal wants event:TYPE or data:TEXT, such as event:done or data:[DONE].")
    return text
