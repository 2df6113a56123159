"""Which probes `sseproof check` makes of an endpoint, in which order, and how few of them.

Rules (checks.md 5.3, design.md decision 13):
- The typed URL is consent to REQUESTS_LIMIT requests, one at a time, within TIME_LIMIT_S: redirects and the handshake that
  only asks for HTTP/2 are counted. What does not fit is left out and named in `skipped`.
- A request with a body costs the service something: such a request is made once, unless `repeat` says otherwise.
- Idle watch, parallel and slow reader, cuts, further ways and the bad request are made only when asked for, each in a time
  of its own.
- A redirect is followed to the URL's own host, to loopback, or to a host that was allowed.
- Secrets leave this module masked.
"""

import contextlib
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.content import Decoded
from sseproof.loadtests.dialects import AUTO, Dialect, dialect_of, recognise
from sseproof.loadtests.dialects.mcp import requests_in
from sseproof.loadtests.framing import HEAD_LIMIT_BYTES, Head, ResponseReader, is_event_stream
from sseproof.loadtests.probe import (
    RECEIVED_LIMIT_BYTES,
    Exchanged,
    Look,
    Place,
    Progress,
    Proxy,
    Trust,
    Way,
    context_for,
    exchange,
)
from sseproof.loadtests.request import (
    DEFAULT_PORTS,
    REDIRECTS,
    Request,
    build_request,
    checked_headers,
    parse_url,
    redirected,
    secret_query_values,
    secret_values,
    user_information,
)
from sseproof.loadtests.settings import Target
from sseproof.loadtests.sse import Message, Parser
from sseproof.rundir.capture import NOT_FOLLOWED, Asked, Capture, Probed, ProbeName, Secured
from sseproof.rundir.errors import UsageError
from sseproof.rundir.machine import version_of
from sseproof.rundir.text import SECRET_QUERY, Redactor, printable
from sseproof.rundir.variables import resolve_env

REQUESTS_LIMIT: Final = 12
TIME_LIMIT_S: Final = 120.0
REDIRECTS_FOLLOWED: Final = 4
PARALLEL: Final = 8
CUTS: Final = 3
GET_LOOK_S: Final = 30.0
POST_LOOK_S: Final = 90.0
"""There is one request only, and models think."""
GZIP_LOOK_S: Final = 15.0
SHORT_LOOK_S: Final = 5.0
RESUME_LOOK_S: Final = 8.0
ENOUGH_BURSTS: Final = 60
"""Three times what buffering is judged from."""
ENOUGH_S: Final = 10.0
SLOW_AFTER_S: Final = 1.0
SLOW_PAUSE_S: Final = 10.0
BOGUS_ID: Final = "sseproof-no-such-id"
PROBE_ORIGIN: Final = "https://origin.example"
_COOKIE: Final = re.compile(rb"(?i)(?<=\nset-cookie:)[^\r\n]*")

Say = Callable[[str], None]


class CheckRequest(Struct, kw_only=True):
    """What the user asked for."""

    url: str
    method: str | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    dialect: str | None = None
    terminal: str | None = None
    look_s: float | None = None
    headers_s: float = 30.0
    idle_s: float | None = None
    repeat: bool = False
    resume: bool = False
    parallel: bool = False
    slow_reader: bool = False
    bad_request: bool = False
    also: str | None = None
    """GET or POST: another method that the same URL is asked by; a body is the POST's alone."""
    origin: str | None = None
    via: list[str] = []
    resolve: list[str] = []
    connect_to: str | None = None
    proxy: str | None = None
    trust: Trust = Trust()
    allow: list[str] = []


def examine(asked: CheckRequest, environ: Mapping[str, str], say: Say) -> Capture:
    """Probes the endpoint and gives the capture, masked.

    `say` is told what goes on. Raises UsageError for input that can't be taken, before the first connection.
    """
    return _Examination(asked, environ, say).made()


class _Examination:
    def __init__(self, asked: CheckRequest, environ: Mapping[str, str], say: Say) -> None:
        self._asked = asked
        self._say = say
        self._secrets: list[str] = []
        self._tokens: list[str] = []
        self._request = self._first_request(asked, environ)
        self._dialect = self._dialect_of(asked.dialect)
        self._way = self._usual_way(asked, environ)
        self._ways = [self._named_way(name) for name in asked.via]
        self._origin = None if asked.origin is None else parse_url(asked.origin)
        if self._origin is not None:
            self._secrets += secret_query_values(self._origin)
        context_for(asked.trust, ["http/1.1"])
        self._own = Redactor(self._secrets)
        """Masks what the user gave; where the target sends it back is worth a finding."""
        self._redact = self._own
        """Masks also the tokens that redirects put into addresses."""
        self._probed: list[Probed] = []
        self._skipped: dict[str, str] = {}
        self._requests = 0
        self._began_ns = time.time_ns()
        self._deadline_s = time.monotonic() + TIME_LIMIT_S

    def made(self) -> Capture:
        """All probes, one after the other."""
        head, stream = self._stream()
        if self._request.endpoint.scheme == "https" and stream.tls is not None:
            self._handshake()
        if head is not None and head.status == 200 and is_event_stream(head.get("content-type") or ""):
            self._further(stream)
        else:
            why = "there was no event stream to go on with"
            self._skipped.update(dict.fromkeys(("gzip", "any-accept", "resume", "bogus-id"), why))
            if head is not None:
                self._crossing()
        return self._capture()

    # What the user said.

    def _first_request(self, asked: CheckRequest, environ: Mapping[str, str]) -> Request:
        endpoint = parse_url(asked.url)
        headers = {}
        for name, value in checked_headers(asked.headers).items():
            headers[name], found = resolve_env(value, environ)
            self._secrets += found
        user = user_information(asked.url)
        if user is not None:
            headers.setdefault("Authorization", user)
            self._secrets.append(unquote(urlsplit(asked.url.strip()).password or ""))
        body, found = resolve_env(asked.body or "", environ)
        self._secrets += found
        usual = "POST" if asked.body is not None and asked.also != "POST" else "GET"
        method = (asked.method or usual).upper()
        if not re.fullmatch(r"[A-Z]{1,16}", method):
            raise UsageError(f"--method {printable(asked.method or '', 40)} is no HTTP method.")
        if asked.also == method:
            other = "POST" if method == "GET" else "GET"
            raise UsageError(
                f"--also {method} is how the URL is asked anyway: write --also {other}, or leave it out."
            )
        self._body = body.encode()
        self._secret_body_for = endpoint.origin if found else None
        """Who alone may get the body, where that holds a value of the environment; None where anybody may."""
        sent = b"" if asked.also == "POST" else self._body
        accept = self._dialect_of(asked.dialect).accept
        if accept is not None:
            headers = {"Accept": accept, **headers}
        request = build_request(endpoint, method, checked_headers(headers), sent, gzip=False)
        carried = secret_values(request.headers, ())
        self._secrets += carried
        self._credentials = bool(carried)
        self._secrets += secret_query_values(endpoint)
        return request

    def _dialect_of(self, name: str | None) -> Dialect:
        named = None if name == AUTO else name
        return dialect_of(Target(url="", dialect=named, headers=self._asked.headers))

    def _usual_way(self, asked: CheckRequest, environ: Mapping[str, str]) -> Way:
        connect_to = None if asked.connect_to is None else _place("--connect-to", asked.connect_to)
        proxy = asked.proxy or _environment_proxy(self._request, environ)
        return Way(
            connect_to=connect_to,
            resolve=tuple(_resolution(text) for text in asked.resolve),
            proxy=None if not proxy else self._proxy(proxy, "--proxy" if asked.proxy else "HTTPS_PROXY"),
        )

    def _named_way(self, name: str) -> Way:
        if name == "direct":
            return replace(self._way, proxy=None, name="direct")
        return replace(self._way, proxy=self._proxy(name, "--via"), name=_without_user(name))

    def _proxy(self, text: str, option: str) -> Proxy:
        full = text if "://" in text else f"http://{text}"
        try:
            endpoint = parse_url(full)
        except UsageError:
            direct = "`direct` or " if option == "--via" else ""
            raise UsageError(f"{option} wants {direct}http://HOST:PORT.") from None
        if endpoint.scheme != "http":
            raise UsageError(f"{option}: a proxy is spoken to by http://, not {endpoint.scheme}://.")
        user = user_information(full)
        if user is not None:
            self._secrets += [user, unquote(urlsplit(full).password or "")]
        return Proxy(Place(endpoint.host, endpoint.port), user)

    @property
    def _gentle(self) -> bool:
        """Whether every request may cost the service something, so that one is all."""
        return self._request.method not in {"GET", "HEAD"} and not self._asked.repeat

    # Probes.

    def _stream(self) -> tuple[Head | None, Probed]:
        """P0, redirects included."""
        look_s = self._asked.look_s
        usual_s = GET_LOOK_S if self._request.method == "GET" else POST_LOOK_S
        look = Look(
            headers_s=self._asked.headers_s,
            total_s=look_s or usual_s,
            first_byte_s=self._asked.headers_s,
            received_bytes=RECEIVED_LIMIT_BYTES,
            enough=_enough if look_s is None else None,
        )
        first = self._request
        shown = self._redact(first.endpoint.url)
        self._say(f"Looks at {printable(shown)} for {look_s or usual_s:.0f} s at most.")
        for followed in range(REDIRECTS_FOLLOWED + 1):
            probed = self._probe("stream", self._request, look, number=followed + 1)
            head = head_of(probed)
            if probed.end != "complete" or head is None or head.status not in REDIRECTS:
                return head, probed
            try:
                if followed == REDIRECTS_FOLLOWED:
                    raise ValueError(f"more than {REDIRECTS_FOLLOWED} redirects")  # noqa: TRY301  # one way out
                self._request = self._followed(first, head)
            except ValueError as error:
                probed.detail = printable(str(error))
                return head, probed
            probed.redirected = True
        raise AssertionError("the last turn returns")

    def _followed(self, first: Request, head: Head) -> Request:
        named = [name for name, value in self._asked.headers.items() if "env:" in value]
        following = redirected(self._request, head.status, head.get("location") or "", named)
        host = following.endpoint.host
        if host != first.endpoint.host and not _loopback(host) and host not in self._asked.allow:
            raise ValueError(f"a redirect to {printable(host, 80)} {NOT_FOLLOWED}")
        if following.endpoint.origin != first.endpoint.origin and self._way.connect_to is not None:
            raise ValueError(f"a redirect to {printable(host, 80)} leaves the address of --connect-to")
        return following

    def _handshake(self) -> None:
        """P2, as far as TLS tells: whether the server would speak HTTP/2."""
        self._probe("alpn", self._request, Look(), offer=("h2", "http/1.1"))

    def _further(self, stream: Probed) -> None:
        ids = ids_of(stream)
        if self._gentle:
            why = f"{self._request.method} may cost the service something: --repeat allows it"
            self._skipped.update(dict.fromkeys(("gzip", "any-accept", "head"), why))
        else:
            self._gzip(stream)
            self._probe("any-accept", self._request.with_header("Accept", "*/*"), _short(first_byte=True))
        self._resume(stream, ids)
        self._crossing()
        self._opted(ids)

    def _gzip(self, stream: Probed) -> None:
        looked_s = (stream.ended_ns - (stream.sent_ns or stream.began_ns)) / 1e9
        look = Look(
            headers_s=self._asked.headers_s,
            total_s=max(2.0, min(GZIP_LOOK_S, looked_s + 1.0)),
            enough=_enough,
        )
        self._probe("gzip", self._request.with_header("Accept-Encoding", "gzip, deflate, br, zstd"), look)

    def _resume(self, stream: Probed, ids: list[str]) -> None:
        """P4 and P5."""
        if self._asked.dialect in {None, AUTO} and self._asked.terminal is None:
            self._dialect = self._dialect_of(recognise(messages_of(stream)).dialect)
        if not self._dialect.resumable:
            why = self._skipped["cut"] = "this version of the protocol does not resume"
        elif not ids:
            why = "no event had an id"
        elif self._gentle and not self._asked.resume and not self._dialect.resumes_by_get:
            why = f"{self._request.method} may cost the service something: --resume allows it"
        else:
            why = ""
        if why:
            self._skipped.update(dict.fromkeys(("resume", "bogus-id"), why))
            return
        # From the middle: what follows is known, and a server that begins anew or at its newest event is seen.
        self._again("resume", ids[(len(ids) - 1) // 2], 1)
        if stream.end in {"complete", "eof"}:
            self._again("resume", ids[-1], 2)
        self._again("bogus-id", BOGUS_ID, 1)

    def _again(self, name: ProbeName, last_event_id: str, number: int) -> Probed:
        request = self._resuming(last_event_id)
        look = Look(headers_s=RESUME_LOOK_S, total_s=RESUME_LOOK_S, enough=lambda seen: seen.blocks >= 4)
        return self._probe(name, request, look, number=number, last_event_id=last_event_id)

    def _resuming(self, last_event_id: str) -> Request:
        request = self._request.with_header("Last-Event-ID", last_event_id)
        return request.as_get() if self._dialect.resumes_by_get else request

    def _crossing(self) -> None:
        """P6: whether a page of another origin may use it, and what HEAD answers."""
        if self._request.method == "GET":
            self._probe("head", replace(self._request, method="HEAD"), _short())
        asking = replace(self._request, method="OPTIONS", body=b"")
        kept = ("user-agent", "host")
        asking = replace(asking, headers=tuple(pair for pair in asking.headers if pair[0].lower() in kept))
        asking = asking.with_header("Origin", PROBE_ORIGIN)
        asking = asking.with_header("Access-Control-Request-Method", self._request.method)
        asking = asking.with_header("Access-Control-Request-Headers", "last-event-id")
        self._probe("options", asking, _short())

    def _opted(self, ids: list[str]) -> None:
        asked = self._asked
        if asked.idle_s is not None:
            self._say(f"Watches one stream for {asked.idle_s:.0f} s.")
            look = Look(headers_s=asked.headers_s, total_s=asked.idle_s)
            self._probe("idle", self._request, look, extra_s=asked.idle_s + 20)
        if asked.parallel:
            self._parallel()
        if asked.slow_reader:
            look = Look(
                headers_s=asked.headers_s,
                total_s=SLOW_AFTER_S + SLOW_PAUSE_S + RESUME_LOOK_S,
                pause_after_s=SLOW_AFTER_S,
                pause_s=SLOW_PAUSE_S,
            )
            self._probe("slow-reader", self._request, look, extra_s=look.total_s + asked.headers_s)
        if asked.resume and ids and self._dialect.resumable:
            self._cuts()
        if asked.bad_request:
            self._bad_request()
        if asked.also == "POST" and self._secret_body_for not in {None, self._request.endpoint.origin}:
            self._skipped["method"] = "a redirect led elsewhere, and the body has a secret for the typed URL"
        elif asked.also is not None:
            look = Look(headers_s=asked.headers_s, total_s=GZIP_LOOK_S, enough=_enough)
            extra_s = GZIP_LOOK_S + asked.headers_s
            self._probe("method", self._by_method(asked.also), look, extra_s=extra_s)
        if self._origin is not None:
            self._probe(
                "origin",
                replace(self._request, endpoint=self._origin),
                Look(headers_s=asked.headers_s, total_s=GZIP_LOOK_S, enough=_enough),
                way=replace(self._way, connect_to=None, proxy=None, name="origin"),
                extra_s=GZIP_LOOK_S + asked.headers_s,
            )
        for number in (1, 2) if self._ways else ():
            for way in self._ways:
                look = Look(headers_s=asked.headers_s, total_s=GZIP_LOOK_S, enough=_enough)
                extra_s = GZIP_LOOK_S + asked.headers_s
                self._probe("path", self._request, look, way=way, number=number, extra_s=extra_s)

    def _by_method(self, method: str) -> Request:
        """The request by another method, made from the one in use: a redirect may have taken secrets out of it."""
        if method == "GET":
            return self._request.as_get()
        request = replace(self._request, method=method, body=self._body)
        if self._body and not any(name.lower() == "content-type" for name, _ in request.headers):
            request = request.with_header("Content-Type", "application/json")
        return request

    def _parallel(self) -> None:
        """P8: eight at once, each kept open until all deliver: one that left would make room for the next."""
        deadline_s = time.monotonic() + RESUME_LOOK_S + 15
        found: dict[int, Exchanged] = {}
        delivering: set[int] = set()

        def one(number: int) -> None:
            def enough(seen: Progress) -> bool:
                if seen.blocks >= 2:
                    delivering.add(number)
                return len(delivering) == PARALLEL

            look = Look(headers_s=SHORT_LOOK_S, total_s=RESUME_LOOK_S, enough=enough)
            found[number] = exchange(self._request, self._way, self._asked.trust, look, deadline_s=deadline_s)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(1, PARALLEL + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._requests += PARALLEL
        for number in sorted(found):
            self._keep("parallel", self._request, found[number], number=number)

    def _cuts(self) -> None:
        """R05: we close after a few events and come back with the last id, several times."""
        last_event_id: str | None = None
        request = self._request
        for number in range(1, CUTS + 2):
            look = Look(headers_s=RESUME_LOOK_S, total_s=RESUME_LOOK_S, enough=lambda seen: seen.blocks >= 4)
            probed = self._probe(
                "cut", request, look, number=number, extra_s=2 * RESUME_LOOK_S, last_event_id=last_event_id
            )
            ids = ids_of(probed)
            if not ids:
                return
            last_event_id = ids[-1]
            request = self._resuming(last_event_id)

    def _bad_request(self) -> None:
        if self._request.body:
            bad = replace(self._request, body=b"{")
        else:
            path, mark, query = self._request.endpoint.target.partition("?")
            target = f"{path.rstrip('/')}/sseproof-no-such-path{mark}{query}"
            bad = replace(self._request, endpoint=replace(self._request.endpoint, target=target))
        self._probe("bad-request", bad, _short(), extra_s=2 * SHORT_LOOK_S)

    def _probe(
        self,
        name: ProbeName,
        request: Request,
        look: Look,
        *,
        number: int = 1,
        way: Way | None = None,
        offer: tuple[str, ...] = ("http/1.1",),
        extra_s: float | None = None,
        last_event_id: str | None = None,
    ) -> Probed:
        """One connection; with `extra_s` outside the budget, because the user asked for it."""
        now_s = time.monotonic()
        deadline_s = self._deadline_s if extra_s is None else now_s + extra_s + 15
        if extra_s is None and (self._requests >= REQUESTS_LIMIT or now_s > self._deadline_s - 1):
            spent = "requests" if self._requests >= REQUESTS_LIMIT else "seconds"
            limit = REQUESTS_LIMIT if spent == "requests" else int(TIME_LIMIT_S)
            self._skipped[name] = f"the {limit} {spent} of one check were used up"
            return self._nothing(name, request)
        way = way or self._way
        done = exchange(request, way, self._asked.trust, look, deadline_s=deadline_s, offer=offer, name=name)
        self._requests += 1
        if done.end == "tls" and "certificate" in done.detail:
            done.tls = self._unaccepted(request, way, deadline_s)
        return self._keep(name, request, done, number=number, vantage=way.name, last_event_id=last_event_id)

    def _unaccepted(self, request: Request, way: Way, deadline_s: float) -> Secured | None:
        """Whose certificate it was that was not accepted: one more handshake."""
        trust = replace(self._asked.trust, insecure=True)
        seen = exchange(request, way, trust, Look(), deadline_s=deadline_s, name="alpn")
        self._requests += 1
        return seen.tls

    def _nothing(self, name: ProbeName, request: Request) -> Probed:
        now = time.time_ns()
        return Probed(probe=name, url=self._shown(request), began_ns=now, ended_ns=now, end="enough")

    def _keep(
        self,
        name: ProbeName,
        request: Request,
        done: Exchanged,
        *,
        number: int = 1,
        vantage: str = "direct",
        last_event_id: str | None = None,
    ) -> Probed:
        self._learn_tokens(request, done.received)
        received, echoed = self._own.overwritten(done.received)
        received, _ = self._redact.overwritten(received)
        received = _COOKIE.sub(lambda found: b"*" * len(found[0]), received[:65_536]) + received[65_536:]
        head = done.request.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        probed = Probed(
            probe=name,
            vantage=vantage,
            number=number,
            url=self._shown(request),
            method=request.method,
            request=self._redact(head),
            body_bytes=len(request.body),
            address=done.address,
            began_ns=done.began_ns,
            connected_ns=done.connected_ns,
            secured_ns=done.secured_ns,
            sent_ns=done.sent_ns,
            ended_ns=done.ended_ns,
            end=done.end,
            detail=printable(self._redact(done.detail)),
            tls=done.tls,
            last_event_id=last_event_id,
            reads=done.reads,
            received=received,
            echoed=echoed,
        )
        self._probed.append(probed)
        return probed

    def _learn_tokens(self, request: Request, received: bytes) -> None:
        reader = ResponseReader(request.method)
        reader.feed(received[:HEAD_LIMIT_BYTES])
        location = None if reader.head is None else reader.head.get("location")
        with contextlib.suppress(UsageError, ValueError):
            if location:
                base = request.endpoint.url
                self._tokens += secret_query_values(parse_url(urljoin(base, location)))
                self._redact = Redactor([*self._secrets, *self._tokens])

    def _shown(self, request: Request) -> str:
        endpoint = request.endpoint
        return self._redact(endpoint.url)

    def _capture(self) -> Capture:
        asked = self._asked
        names = [
            unquote(pair.partition("=")[0])
            for pair in parse_url(asked.url).target.partition("?")[2].split("&")
        ]
        method = self._request.method
        return Capture(
            suite=version_of("sseproof"),
            url=self._redact(_without_user(asked.url.strip())),
            asked=Asked(
                method=method,
                dialect=asked.dialect,
                terminal=asked.terminal,
                responses=requests_in(asked.body),
                idle_s=asked.idle_s,
                look_s=asked.look_s or (GET_LOOK_S if method == "GET" else POST_LOOK_S),
                sensitive_query=[printable(name, 60) for name in names if SECRET_QUERY.search(name.lower())],
                credentials=self._credentials,
            ),
            began_ns=self._began_ns,
            ended_ns=time.time_ns(),
            requests=self._requests,
            connections=self._requests,
            skipped=self._skipped,
            probes=self._probed,
        )


def head_of(probed: Probed) -> Head | None:
    """The head of what came back, None when none did."""
    reader = ResponseReader(probed.method)
    reader.feed(probed.received)
    return reader.head


def ids_of(probed: Probed) -> list[str]:
    """The ids of its events, in order; events without one of their own are left out."""
    return [each.last_event_id for each in messages_of(probed) if each.has_id and each.last_event_id]


def messages_of(probed: Probed) -> list[Message]:
    """Its events."""
    reader = ResponseReader(probed.method)
    reader.feed(probed.received)
    if reader.head is None:
        return []
    body = Decoded(reader.head.get("content-encoding") or "", [reader.body()])
    return [each for each in Parser().receive(bytes(body.data)) if isinstance(each, Message)]


def _enough(seen: Progress) -> bool:
    """A stream that goes on has shown what there is to see."""
    return seen.bursts >= ENOUGH_BURSTS and seen.elapsed_s >= ENOUGH_S


def _short(*, first_byte: bool = False) -> Look:
    enough = (lambda seen: seen.body_bytes > 0) if first_byte else None
    return Look(headers_s=SHORT_LOOK_S, total_s=SHORT_LOOK_S, enough=enough)


def _place(option: str, text: str) -> Place:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{option} wants HOST:PORT, not {printable(text, 80)!r}.")
    return Place(host.strip("[]").lower(), int(port))


def _resolution(text: str) -> tuple[str, int, str]:
    host, port, address = [*text.strip().split(":", 2), "", ""][:3]
    try:
        literal = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        literal = ""
    if not host or not port.isdigit() or not literal:
        raise UsageError(f"--resolve wants HOST:PORT:ADDRESS, not {printable(text, 80)!r}.")
    return host.lower(), int(port), literal


def _environment_proxy(request: Request, environ: Mapping[str, str]) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say of this target; loopback is never asked through a proxy."""
    endpoint = request.endpoint
    if _loopback(endpoint.host):
        return None
    names = {
        name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value
    }
    chosen = names.get(f"{endpoint.scheme}_proxy") or names.get("all_proxy")
    port = "" if endpoint.port == DEFAULT_PORTS[endpoint.scheme] else f":{endpoint.port}"
    if proxy_bypass_environment(f"{endpoint.host}{port}", {"no": names.get("no_proxy", "")}):
        return None
    return chosen


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
