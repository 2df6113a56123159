"""`sseproof chaos`: what the commands that break and heal without load do, apart from the command line itself."""

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from sseproof.reports.words import count_of
from sseproof.rundir.errors import RigError, UsageError
from sseproof.rundir.text import printable

GET_LIMIT_S: Final = 10.0


class HealAnswer(Struct, kw_only=True):
    """The answer of `sseproof chaos heal`."""

    server: str
    removed: list[str]
    not_ours: list[str]
    """Of a name of ours, with addresses that we did not give them."""
    others: int
    """Other people's proxies, each as it was before."""
    runs: int
    """How many run directories were looked at."""
    going_on: list[str]
    """Sentences about runs that were left alone, because they still go on."""
    url: str | None = None
    status: int | None = None
    """What the URL answered, when one was given."""

    def to_text(self) -> str:
        """What a person reads."""
        lines = list(self.going_on)
        if self.removed:
            lines.append(f"Removed from {self.server}, each gone from its list and its port refusing:")
            lines += [f"  {name}" for name in self.removed]
        else:
            lines.append(
                f"Nothing of ours is left on {self.server}, by the record of {count_of(self.runs, 'run')}."
            )
        lines += [
            f"Left alone: {name} has a name of ours and addresses that are not." for name in self.not_ours
        ]
        if self.others:
            verb = "is as it was" if self.others == 1 else "are as they were"
            lines.append(f"{self.others} of other people {verb}, toxics included.")
        if self.status is not None:
            lines.append(f"GET {printable(self.url or '')}: {self.status}.")
        return "\n".join(lines)


def heal(directories: Sequence[Path], *, out: Path, toxiproxy: str, url: str | None) -> HealAnswer:
    """Takes back what the runs of these directories (all below `out` when there are none) left on a server.

    Raises UsageError for what can't be taken, RigError when the server or the URL does not answer as it should.
    """
    from sseproof.chaos.healing import RunGoesOnError, made_by, run_directories, take_back
    from sseproof.chaos.toxiproxy import Client

    if url is not None:
        _parts(url)
    client = Client.from_url(toxiproxy)
    client.version()
    records, going_on = [], []
    for directory in directories or run_directories(out):
        try:
            records.append(made_by(directory))
        except RunGoesOnError as error:
            if directories:
                raise
            going_on.append(str(error))
    if not records and not going_on:
        raise UsageError(
            f"There is no run in {out}: name the directory of the run that crashed, or the folder of runs with --out."
        )
    done = take_back(client, records)
    return HealAnswer(
        server=done.server,
        removed=done.removed,
        not_ours=done.not_ours,
        others=done.others,
        runs=len(records),
        going_on=going_on,
        url=url,
        status=None if url is None else one_get(url),
    )


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{printable(url)!r} is no http:// or https:// address.")
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path


def one_get(url: str) -> int:
    """The status of one GET; the body is not read, since a stream has no end. Raises RigError for none, and for 5xx."""
    scheme, host, port, path = _parts(url)
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=GET_LIMIT_S)
    try:
        connection.request(
            "GET", path, headers={"Accept": "text/event-stream, */*", "User-Agent": "sseproof"}
        )
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RigError(
            f"GET {printable(url)} failed: {printable(str(error)) or type(error).__name__}."
        ) from None
    finally:
        connection.close()
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise RigError(f"GET {printable(url)} answered {status}.")
    return status
