"""`sseproof check`: probe, keep the capture, judge it; or judge a kept one again."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from sseproof.rundir.capture import Capture
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.units import parse_duration

if TYPE_CHECKING:
    from sseproof.loadtests.examination import CheckRequest

LONGEST_S: Final = 3_600
PROMPT: Final = "Count from 1 to 120 in words, separated by commas."
"""Long enough an answer to see how it comes, and cheap."""
_HOST: Final = re.compile(r"[^A-Za-z0-9.-]+")


class Checked(Struct, kw_only=True):
    """What one call of the command gives."""

    capture: Capture
    path: Path
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


def page_place(path: Path) -> None:
    """Raises UsageError when no page can be written there."""
    if path.is_dir():
        raise UsageError(f"--html {path}: this is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"--html {path}: there is no folder {path.parent}; make it, or name another place.")


def request_of(url: str, options: Mapping[str, Any], headers: dict[str, str]) -> "CheckRequest":
    """What the command line asks for. Raises UsageError, naming the option, for what can't be taken."""
    from sseproof.loadtests.examination import CheckRequest
    from sseproof.loadtests.probe import Trust

    if options["key"] is not None and options["cert"] is None:
        raise UsageError("--key belongs to a certificate: name that by --cert FILE, too.")
    body, dialect = body_of(options["body"]), _dialect(options["dialect"], options["terminal"])
    service, model = options["service"], options["model"]
    if (service is None) != (model is None):
        raise UsageError("--as and --model go together: --as openai --model NAME.")
    if service is not None:
        asked = asking(service, model, url)
        url, dialect = asked.url, dialect or service
        body = asked.body if body is None else body
        headers = {**asked.headers, **headers}
    return CheckRequest(
        url=url,
        method=options["method"],
        headers=headers,
        body=body,
        dialect=dialect,
        terminal=_terminal(options["terminal"]),
        look_s=_optional("--look", options["look"]),
        headers_s=_seconds("--timeout", options["timeout"]),
        idle_s=_optional("--idle", options["idle"]),
        resume=options["resume"],
        repeat=options["repeat"],
        parallel=options["parallel"],
        slow_reader=options["slow_reader"],
        bad_request=options["bad_request"],
        also=options["also"],
        origin=options["origin"],
        via=[part.strip() for text in options["via"] for part in text.split(",") if part.strip()],
        resolve=list(options["resolve"]),
        connect_to=options["connect_to"],
        proxy=options["proxy"],
        trust=Trust(
            ca=options["cacert"], cert=options["cert"], key=options["key"], insecure=options["insecure"]
        ),
        allow=[host.lower() for host in options["allow"]],
    )


class Asking(Struct, frozen=True):
    """How a model service is asked for a stream."""

    url: str
    body: str
    headers: dict[str, str]


def asking(service: str, model: str, url: str) -> Asking:
    """The request that a service wants; a URL that has its path already keeps it."""
    question = {"role": "user", "content": PROMPT}
    fields: dict[str, object] = {"model": model, "stream": True, "messages": [question]}
    headers = {}
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(service, "")
    if service == "anthropic":
        fields["max_tokens"] = 1_024
        headers["anthropic-version"] = "2023-06-01"
    if service == "gemini":
        path = f"/v1beta/models/{quote(model, safe='')}:streamGenerateContent?alt=sse"
        fields = {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
    parts = urlsplit(url.strip())
    base, version = url.strip().rstrip("/"), path.split("/")[1]
    if parts.path.rstrip("/") == f"/{version}":
        path = path.removeprefix(f"/{version}")
    elif parts.path.rstrip("/") or parts.query:
        path = ""
    return Asking(f"{base}{path}" if path else url, msgspec.json.encode(fields).decode(), headers)


def _dialect(name: str | None, terminal: str | None) -> str | None:
    if name is None:
        return None
    from sseproof.loadtests.dialects import AUTO, dialect_of
    from sseproof.loadtests.settings import Target

    if name != AUTO:
        try:
            dialect_of(Target(url="", dialect=name, terminal=terminal))
        except ValueError as error:
            raise UsageError(f"--dialect: {error}.") from None
    return name


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


def _optional(option: str, text: str | None) -> float | None:
    return None if text is None else _seconds(option, text)


def _seconds(option: str, text: str) -> float:
    """A time with its unit; a bare number counts seconds."""
    try:
        seconds = parse_duration(f"{text}s" if text.strip().isdecimal() else text).seconds
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
