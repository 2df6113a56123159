"""One look at the target before a run: `python -m sseproof.loadtests.preflight`, a process of its own.

Standard input is a `settings.PreflightRequest` as JSON, standard output a `rows.PreflightResult`. Rules:
- One stream, looked at for LOOK_S at most. What passes by itself (a busy or restarting service) is tried again, so at
  most ATTEMPTS requests are made.
- It finds out what can't be measured at all (name, refusal, certificate, status, content type), each in a sentence; a
  stream that opened is good enough, however it went on: the run judges, this does not.
- It reads the dialect off the events; a stream still open after the look is taken for a subscription. Our own
  reference server says in a header what it is and whether the stream is endless.
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Final

import gevent
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.dialects import (
    PLAIN,
    Guess,
    Recognised,
    describes_plain,
    guess,
    lookalike,
    recognise,
)
from sseproof.loadtests.metrics import Metrics
from sseproof.loadtests.payloads import Payloads
from sseproof.loadtests.reconnect import RETRIED_STATUSES
from sseproof.loadtests.request import DEFAULT_PORTS, Endpoint
from sseproof.loadtests.session import OpenStream, StreamClient
from sseproof.loadtests.settings import Client, PreflightRequest, Target, Timeouts
from sseproof.loadtests.sse import Message  # noqa: TC001  # a type only, but session imports the module anyway
from sseproof.rundir.errors import EXIT_USAGE, SuiteError
from sseproof.rundir.rows import Attempt, PreflightResult, StreamKind, StreamRecord
from sseproof.rundir.text import printable
from sseproof.rundir.units import Duration, decode_hook

LOOK_S: Final = 15.0
"""A chat answer takes 2 to 15 s; one that is taken for a subscription would be closed by us and never be `truncated`."""
LOOK_AT_OWN_S: Final = 3.0
"""Our own reference server says what it is: this is only for the figures."""
ATTEMPTS: Final = 3
AGAIN_AFTER_S: Final = 0.3
MESSAGES_KEPT: Final = 5_000
"""Enough to guess a dialect from; a fast feed sends more in the time of a look."""
LONGEST_WAIT: Final = Duration(8_000_000_000)
"""For each of connecting, headers and the first event: whoever started us waits a minute in all."""
SERVER_HEADER: Final = "sseproof-server"
PROFILES: Final = ("robust", "legacy")
"""What our own server calls itself."""
_WITNESS_PATH: Final = re.compile(r"/[A-Za-z0-9/._-]{0,100}")


class _Look:
    """What one stream showed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.opened = False
        self.still_open = False
        self.headers: dict[str, str] = {}


def look(request: PreflightRequest, environ: Mapping[str, str]) -> PreflightResult:
    """Looks at the target; never raises for anything the target or the scenario does wrong."""
    try:
        client = _client(request, environ)
    except SuiteError as error:
        return PreflightResult(ok=False, sentence=str(error))
    try:
        return _looked(client, request.target)
    except SuiteError as error:
        return PreflightResult(ok=False, sentence=client.redact(str(error)))


def _client(request: PreflightRequest, environ: Mapping[str, str]) -> StreamClient:
    given = request.timeouts
    timeouts = Timeouts(
        connect=_shorter(given.connect),
        headers=_shorter(given.headers),
        first_event=_shorter(given.first_event),
        idle=given.idle,
        total=Duration(3 * LONGEST_WAIT.ns),
    )
    return StreamClient(
        request.target,
        Client(profile="resilient", retries=0, timeouts=timeouts),
        run="preflight",
        metrics=Metrics(worker=0),
        payloads=None if request.payload is None else Payloads([request.payload], seed=0),
        environ=environ,
    )


def _shorter(given: Duration) -> Duration:
    return given if given.ns < LONGEST_WAIT.ns else LONGEST_WAIT


def _looked(client: StreamClient, target: Target) -> PreflightResult:
    deadline = time.monotonic() + 2 * LONGEST_WAIT.seconds
    for attempt in range(1, ATTEMPTS + 1):
        seen, record = _one_stream(client)
        if seen.opened or attempt == ATTEMPTS or not _may_pass(record) or time.monotonic() > deadline:
            break
        gevent.sleep(AGAIN_AFTER_S)
    result = _measured(client, record, seen)
    if not seen.opened:
        return replace(
            result,
            ok=False,
            problem=record.end,
            sentence=_sentence(client.endpoint, record, target) + _likeness(record, seen),
        )
    return _understood(result, record, seen, target)


def _one_stream(client: StreamClient) -> tuple[_Look, StreamRecord]:
    seen = _Look()
    stream = client.open()
    with stream:
        seen.opened = stream.wait_open()
        for name in ("content-type", "server", "upgrade", SERVER_HEADER):
            seen.headers[name] = stream.header(name)
        try:
            with gevent.Timeout(LOOK_S if own_server(seen.headers[SERVER_HEADER]) is None else LOOK_AT_OWN_S):
                _take(stream, seen)
        except gevent.Timeout:
            seen.still_open = True
    assert stream.record is not None
    return seen, stream.record


def _take(stream: OpenStream, seen: _Look) -> None:
    for message in stream:
        if len(seen.messages) < MESSAGES_KEPT:
            seen.messages.append(message)


def _may_pass(record: StreamRecord) -> bool:
    """Whether another request may fare better: the service is busy, restarting, or dropped this one."""
    return (record.end == "status" and record.status in RETRIED_STATUSES) or record.end in {"fin", "rst"}


def _measured(client: StreamClient, record: StreamRecord, seen: _Look) -> PreflightResult:
    last: Attempt | None = record.attempts[-1] if record.attempts else None
    first = record.first_token or record.first_event
    return PreflightResult(
        ok=True,
        status=record.status if record.status is not None else (last.status if last else None),
        content_type=printable(client.redact(seen.headers["content-type"]), 120),
        server=printable(client.redact(seen.headers["server"]), 120),
        addresses=_addresses(client, last),
        connect_ns=last.connected.ns - last.started.ns if last and last.connected else None,
        ttft_ns=first.ns - record.sent.ns if first and record.sent else None,
        length_ns=record.ended.ns - record.sent.ns if record.sent and not seen.still_open else None,
        looked_ns=record.ended.ns - record.sent.ns if record.sent else None,
        events=record.events,
    )


def _addresses(client: StreamClient, last: Attempt | None) -> list[str]:
    """The addresses the name resolved to, the one that answered first."""
    used = last.address.rpartition(":")[0].strip("[]") if last and last.end != "dns" else ""
    return list(dict.fromkeys(each for each in [used, *client.resolved_addresses()] if each))


def _understood(
    result: PreflightResult, record: StreamRecord, seen: _Look, target: Target
) -> PreflightResult:
    """The dialect and kind of a stream that opened."""
    own = own_server(seen.headers[SERVER_HEADER])
    if own is not None and target.dialect in {None, PLAIN}:
        return replace(
            result,
            kind=own.kind,
            terminal="event:done",
            sequence="id" if own.profile == "robust" else "none",
            text="json:text",
            witness_path=own.witness_path,
            profile=own.profile,
            sentence="The target is our own reference server.",
        )
    recognised = recognise(seen.messages)
    # Who names the dialect, or describes the events, is believed.
    described = target.dialect is None and bool(describes_plain(target))
    dialect = target.dialect or (PLAIN if described else recognised.dialect)
    found = guess(seen.messages) if dialect == PLAIN else Guess(kind=_kind_in(dialect, recognised, target))
    ended = record.end in {"eof", "terminal", "no-content", "inband-error"}
    kind = found.kind or ("subscription" if seen.still_open else "answer")
    if seen.still_open and found.kind == "answer":
        sentence = f"The stream was still open after {LOOK_S:.0f} s, and such streams are answers."
    elif seen.still_open:
        sentence = f'The stream was still open after {LOOK_S:.0f} s: taken for a subscription (kind = "answer" says otherwise).'
    elif ended:
        sentence = f"The stream ended by itself: taken for {_A_KIND[kind]}."
    else:
        sentence = f"The stream was ended by {record.end}: taken for {_A_KIND[kind]} (kind says otherwise)."
    return replace(
        result,
        kind=kind,
        terminal=found.terminal,
        sequence=found.sequence,
        text=found.text,
        dialect=PLAIN if described else recognised.dialect,
        service=recognised.service,
        sentence=sentence,
    )


_A_KIND: Final[dict[StreamKind, str]] = {"answer": "an answer", "subscription": "a subscription"}


def _kind_in(dialect: str, recognised: Recognised, target: Target) -> StreamKind:
    """Whether streams of a known dialect end by themselves: all do, but those that an MCP client only listens to."""
    listens = dialect == "mcp" and (recognised.endless or target.method == "GET")
    return "subscription" if listens else "answer"


def _likeness(record: StreamRecord, seen: _Look) -> str:
    """What an answer that is no event stream looks like, as a sentence of its own; empty for the unknown."""
    if record.end not in {"content-type", "protocol"}:
        return ""
    excerpt = record.detail.partition(": ")[2]
    found = lookalike(seen.headers["content-type"], excerpt, seen.headers["upgrade"])
    return "" if found is None else f" It looks like {found.what}: {found.instead}."


class OwnServer(Struct, frozen=True):
    """What our reference server says of itself in each answer."""

    profile: str
    witness_path: str
    kind: StreamKind


def own_server(header: str) -> OwnServer | None:
    """From `reference; profile=robust; witness=/witness; kind=answer`; None for anything else.

    Anybody can send it, and what it says goes into a file and a request: nothing but our own server's words is taken.
    """
    name, *parts = [part.strip() for part in header.split(";")]
    fields = dict(part.partition("=")[::2] for part in parts)
    path = fields.get("witness", "")
    profile = fields.get("profile", PROFILES[0])
    if name != "reference" or not _WITNESS_PATH.fullmatch(path) or profile not in PROFILES:
        return None
    kind: StreamKind = "subscription" if fields.get("kind") == "subscription" else "answer"
    return OwnServer(profile=profile, witness_path=path, kind=kind)


def _sentence(endpoint: Endpoint, record: StreamRecord, target: Target) -> str:
    """What went wrong and what to do, for a target that can't be measured."""
    port = "" if endpoint.port == DEFAULT_PORTS[endpoint.scheme] else f":{endpoint.port}"
    where = f"{endpoint.scheme}://{endpoint.host}{port}{endpoint.target.partition('?')[0]}"
    attempt = record.attempts[-1] if record.attempts else None
    dialled = f" (connecting to {target.connect_to})" if target.connect_to else ""
    detail = record.detail
    said = f" ({detail})" if detail else ""
    end = record.end
    if end == "dns":
        return f"The host name of {where} does not resolve{said}: check the spelling in the target's URL."
    if end == "refused":
        address = attempt.address if attempt else where
        return f"{address} refused the connection: is the service that {where} names running there?"
    if end == "connect-timeout":
        return f"{where}{dialled} did not accept a connection in time{said}: check host, port and firewall."
    if end == "tls":
        hint = "is it an https:// service?"
        if "certificate" in detail:
            hint = 'give a private authority with ca = "FILE.pem" under [target], or insecure = true for a test system'
        return f"The TLS connection to {where}{dialled} failed{said}: {hint}."
    if end == "headers-timeout":
        return f"{where}{dialled} accepted the request but sent no answer in time: does it stream at this address?"
    if end == "no-content":
        return f"{where} answered HTTP 204, which tells event stream clients never to come back: nothing to measure."
    if end == "status":
        return (
            f"{where} gave no event stream but {detail or 'an error'}: check path, method, headers and body."
        )
    if end == "content-type":
        return (
            f"{where} is not SSE, it answered {detail}: an event stream has Content-Type text/event-stream."
        )
    if end == "stopped":
        return f"The look at {where} could not be made: {detail or 'it was interrupted'}."
    return f"{where} ended the connection before an event stream began: {end}{said}."


def main() -> int:
    """Reads the request, looks, prints the result."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=PreflightRequest, dec_hook=decode_hook)
    except (msgspec.DecodeError, ValueError) as error:
        print(f"The preflight request can't be read: {error}", file=sys.stderr)
        return EXIT_USAGE
    sys.stdout.buffer.write(msgspec.json.encode(look(request, os.environ)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
