"""H01 to H18: what the answer's head says before the first byte of the stream (checks.md 5.3 "Handshake")."""

import itertools
import re
from typing import Final
from urllib.parse import urlsplit

from sseproof.loadtests.dialects import Lookalike, lookalike
from sseproof.loadtests.framing import is_event_stream
from sseproof.reports.endpoint.buffering import grouped_by_compression
from sseproof.reports.endpoint.case import Case, Check
from sseproof.reports.endpoint.model import (
    Evidence,
    Outcome,
    escaped,
    failed,
    not_applicable,
    passed,
    unknown,
    warned,
)
from sseproof.reports.endpoint.seen import Seen
from sseproof.reports.words import count_of, duration_text
from sseproof.rundir.capture import NOT_FOLLOWED, ProbeName
from sseproof.rundir.text import printable

NO_ANSWER: Final = "there was no answer"
_AGAIN: Final[tuple[ProbeName, ...]] = ("any-accept", "gzip", "resume")
_HIT: Final = re.compile(r"\b(hit|stale|revalidated|updating)\b", re.IGNORECASE)
_CACHE_HEADERS: Final = (
    "cf-cache-status",
    "x-cache",
    "x-cache-status",
    "x-proxy-cache",
    "cdn-cache",
    "cache-status",
)
_STORED: Final = re.compile(r";\s*stored\b(?!\s*=\s*\?0)", re.IGNORECASE)
"""RFC 9211, 2.4."""
_ASKED: Final = re.compile(r"\s*(?:miss|expired)\s*", re.IGNORECASE)
_ASKED_HEADERS: Final = ("x-cache-status", "x-proxy-cache", "cf-cache-status")
"""Those that tell a cache that was asked in vain from one that keeps out (BYPASS, DYNAMIC); X-Cache says Miss for both."""
SAME_DATE_NS: Final = 3_000_000_000
"""Further apart than the seconds that Date counts in, and than a server keeps its text for."""
_AGE: Final = re.compile(r"(?:^|[\s,])(s-maxage|max-age)\s*=\s*\"?(\d+)")
_TYPES: Final = re.compile(r"(?:^|,)\s*([\w.+-]+/[\w.+-]+)")
_TEXT_BYTES: Final = 300
LOOKED_AT_BYTES: Final = 65_536
"""Of a body that is no event stream."""
_ALLOW: Final = "Check that address, or allow it by --allow-target HOST."
_PUBLIC_AUTHORITIES: Final = (
    "actalis", "amazon", "apple", "asseco", "baltimore", "buypass", "certainly", "certigna", "certum", "chunghwa",
    "cloudflare", "comodo", "cybertrust", "d-trust", "digicert", "disig", "emsign", "entrust", "gandi", "geant",
    "geotrust", "globalsign", "godaddy", "google trust", "gts", "harica", "identrust", "isrg", "izenpe", "jprs",
    "let's encrypt", "microsec", "microsoft", "naver", "netlock", "quovadis", "rapidssl", "secom", "sectigo", "ssl.com",
    "ssl corp", "starfield", "swisssign", "t-systems", "telekom", "telia", "thawte", "trustasia", "trustcor", "twca",
    "usertrust", "verisign", "verokey", "wisekey", "zerossl",
)  # fmt: skip
"""Words of the names under which public authorities issue; anybody else is a private one."""
_INSPECTORS: Final = (
    "avast", "avg ", "bitdefender", "blue coat", "bluecoat", "charles proxy", "checkpoint", "cisco umbrella", "dr.web",
    "eset", "fiddler", "forcepoint", "fortigate", "fortinet", "kaspersky", "mcafee", "menlo", "mitmproxy", "netskope",
    "palo alto", "sonicwall", "sophos", "symantec web", "trend micro", "untangle", "watchguard", "websense", "zscaler",
)  # fmt: skip
_ENDS: Final[dict[str, tuple[str, str]]] = {
    "dns": ("The host name does not resolve", "Check the spelling of the URL."),
    "refused": ("The connection was refused", "Is the service running at this port?"),
    "connect-timeout": ("No connection came about in time", "Check host, port and firewall."),
    "tls": ("The TLS connection failed", "Is it an https:// service?"),
    "proxy": ("The proxy did not let us through", "Check --proxy, HTTPS_PROXY and NO_PROXY."),
    "send": ("The server did not take the request", "Check the service's log."),
    "late": ("No answer came", "Flush the headers at once; look for a blocked worker."),
    "fin": ("The connection was closed", "Look for a crash or a refused path in the service's log."),
    "rst": ("The connection was reset", "Look for a crash, or a firewall in between."),
    "protocol": ("The answer is no HTTP/1.1", "Is this the port of the HTTP service?"),
    "too-big": ("The answer's head never ended", "Is this the port of the HTTP service?"),
}


def no_answer(seen: Seen, case: Case) -> Outcome:
    """H01 where nothing like an HTTP answer came: what happened, when, and where to look."""
    probed = seen.probed
    what, fix = _ENDS.get(probed.end, ("No answer came", "Try again."))
    where = urlsplit(case.capture.url).netloc.rpartition("@")[2]
    after = duration_text(probed.ended_ns - probed.began_ns)
    detail = f" ({probed.detail})" if probed.detail else ""
    if probed.end == "rig":
        return unknown(
            f"This machine could not connect{detail}.", "Free descriptors, ports or memory, and try again."
        )
    if probed.end == "tls" and "no application protocol" in probed.detail:
        fix = "The server speaks HTTP/2 alone; HTTP/1.1 is what is examined here: offer it, too."
    elif probed.end == "tls" and "certificate" in probed.detail:
        fix = "Give a private authority by --cacert FILE, or --insecure for a test system; renew an expired certificate."
        issuer = (
            probed.tls.certificate.issuer
            if probed.tls is not None and probed.tls.certificate is not None
            else ""
        )
        if issuer:
            detail += f"; it was issued by {issuer}"
    return failed(f"{what} at {printable(where, 80)} after {after}{detail}.", fix)


def unconsented(seen: Seen) -> bool:
    """A redirect that was not followed for want of consent: what it leads to may be in order."""
    return seen.status is not None and 300 <= seen.status < 400 and NOT_FOLLOWED in seen.probed.detail


def _status(case: Case) -> Outcome:
    seen = case.main
    if seen.head is None:
        return no_answer(seen, case)
    status = seen.head.status
    named = f"HTTP {status} {printable(seen.head.reason, 60)}".strip()
    if status == 200:
        return passed(f"{named}.")
    if status == 204:
        return warned(
            "HTTP 204: the server tells clients never to come back.",
            "Answer 200; 204 only ends a subscription.",
        )
    text = escaped(seen.body[:_TEXT_BYTES].strip())
    said = [Evidence(text="the answer says", offset=0, excerpt=text)] if text else []
    if 300 <= status < 400:
        why = seen.probed.detail or "a redirect without a Location"
        if unconsented(seen):
            return unknown(f"{named}: {why}.", _ALLOW)
        return failed(f"{named}: {why}.", "Use the final URL.", *said)
    if status // 100 == 2 and is_event_stream(seen.get("content-type")):
        return failed(
            f"{named}, with an event stream: EventSource takes one of status 200 alone.", "Answer 200."
        )
    fix = {
        401: "Give the credential by --header 'Authorization: env:NAME'.",
        403: "Give a credential that may read this stream.",
        404: "Check the path.",
        405: "Try --method POST with --body.",
        406: "Answer Accept: text/event-stream with the stream.",
        429: "Wait as Retry-After says, and try again.",
    }.get(status, "Answer 200, and decide on errors before the first byte.")
    return failed(f"{named} instead of a stream.", fix, *said)


def _content_type(case: Case) -> Outcome:
    seen = case.main
    if seen.head is None or seen.status == 204:
        return not_applicable(NO_ANSWER)
    if seen.status != 200:
        return not_applicable(f"the status is {seen.status}")
    value = printable(seen.get("content-type"), 80)
    types = _TYPES.findall(value.lower())
    if len(types) > 1 and "text/event-stream" in types:
        text = f"Content-Type was sent more than once ({value})"
        fix = "Send it once: text/event-stream."
        if len(set(types)) == 1:
            return warned(f"{text}: who reads both as one does not know the type.", fix)
        return failed(f"{text}: clients take the last one, or refuse the stream.", fix)
    if seen.opened and seen.lines.foreign:
        inside = _disguised(seen.body) or lookalike(
            "", seen.body[:LOOKED_AT_BYTES].decode("utf-8", "replace")
        )
        return failed(
            f"Content-Type {value}, and the body is {inside.what if inside else 'something else'}: there is no field in it.",
            f"{inside.instead}." if inside else "Write events: `data: `, the payload, and a blank line.",
            Evidence(text="the body begins", offset=0, excerpt=escaped(seen.body[:_TEXT_BYTES])),
        )
    if seen.opened:
        return passed(f"Content-Type {value}.")
    alike = look_alike(seen)
    fix = f"{alike.instead}." if alike else "Send Content-Type: text/event-stream."
    what = f"Content-Type {value}" if value else "Content-Type is missing"
    return failed(f"{what}: {alike.what if alike else 'clients refuse it'}.", fix)


def _disguised(body: bytes) -> Lookalike | None:
    """What a body without a field is, where something was done to the text of the stream."""
    start = body[:LOOKED_AT_BYTES]
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return Lookalike(
            "compressed, and no Content-Encoding says so", "send Content-Encoding, or do not compress"
        )
    if start.count(0) >= len(start) / 4:
        return Lookalike("UTF-16 text", "encode it as UTF-8")
    if re.match(rb"\s*b['\"](?:data|event|id|retry|:)", start):
        return Lookalike(
            "bytes as Python prints them", "write the bytes themselves, without str() or repr() around them"
        )
    if re.match(rb"\s*\"(?:data|event|id|retry|:)", start):
        return Lookalike("the stream's text as a JSON string", "write the text itself: no JSON around it")
    return None


def look_alike(seen: Seen) -> Lookalike | None:
    """What an answer that is no event stream by its type is instead, and what to do; None when nothing is known."""
    start = seen.body[:LOOKED_AT_BYTES].decode("utf-8", "replace")
    found = lookalike(seen.get("content-type"), start, seen.get("upgrade"))
    if found is None and seen.readable:
        return Lookalike(
            "the body looks like SSE, and clients refuse it for its type",
            "send Content-Type: text/event-stream",
        )
    return found


def _charset(case: Case) -> Outcome:
    seen = case.main
    if not seen.opened:
        return not_applicable("the answer is no event stream by its type")
    found = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", seen.get("content-type"), re.IGNORECASE)
    if found is None or found[1].lower() in {"utf-8", "utf8"}:
        return passed(f"charset {found[1].lower() if found else 'not given'}; a stream is always UTF-8.")
    name = printable(found[1], 40)
    return warned(
        f"charset={name}: clients that obey it garble the text.",
        "Leave the parameter out: a stream is UTF-8.",
    )


def _opened(case: Case) -> Outcome | None:
    return None if case.main.readable else not_applicable("no event stream came")


def _further(case: Case) -> list[Seen]:
    """The answers to the same request, asked again."""
    return [seen for name in _AGAIN for seen in case.all(name) if seen.status == 200]


def _cache_control(case: Case) -> Outcome:
    if (closed := _opened(case)) is not None:
        return closed
    value = case.main.get("cache-control").lower()
    fix = case.chain.fix("caching") if case.chain.proxies else "Send Cache-Control: no-cache, no-transform."
    # A cache that has not kept the stream yet shows itself when it is asked again.
    for seen, which in ((case.main, "this answer"), *((each, "a further answer") for each in _further(case))):
        age = seen.get("age").strip()
        if age.isascii() and age.isdigit():
            return failed(f"Age {age[:12]}: {which} came out of a cache.", fix)
        for name in _CACHE_HEADERS:
            if _HIT.search(seen.get(name)):
                return failed(f"{name}: {printable(seen.get(name), 60)}: {which} came out of a cache.", fix)
        if _STORED.search(seen.get("cache-status")):
            return failed(
                f"Cache-Status: {printable(seen.get('cache-status'), 60)}: a cache has stored {which}.", fix
            )
    if (again := _same_date(case)) is not None:
        apart = duration_text(again.sent_ns - case.main.sent_ns)
        return failed(
            f"Date: {printable(again.get('date'), 40)} came again {apart} later: a further answer came out of a cache.",
            fix,
        )
    directives = {part.strip().partition("=")[0] for part in value.split(",")}
    if directives & {"no-store", "no-cache"}:
        asked = _asked_cache(case)
        if asked and not case.main.ended_by_server:
            return unknown(
                f"{asked}: a cache is asked for this stream. Whether it keeps what Cache-Control forbids shows only when "
                "a stream ends, and this one went on.",
                "Keep it out of the way: " + case.chain.fix("caching"),
            )
        return passed(f"Cache-Control {printable(value, 80)}.")
    kept = [found for found in _AGE.findall(value) if int(found[1][:12]) > 0 or found[0] == "s-maxage"]
    if "public" in directives or kept:
        return failed(
            f"Cache-Control {printable(value, 80)}: caches may keep and replay the stream.",
            "Send Cache-Control: no-cache, no-transform.",
        )
    said = f"Cache-Control {printable(value, 60)} does not forbid caching" if value else "No Cache-Control"
    return warned(f"{said}: a cache may keep the stream.", "Send Cache-Control: no-cache, no-transform.")


def _same_date(case: Case) -> Seen | None:
    """A further answer with the Date of the first, though it was asked for later: caches keep it, and nothing else does."""
    date = case.main.get("date").strip()
    return next(
        (
            each
            for each in _further(case)
            if date and each.get("date").strip() == date and each.sent_ns - case.main.sent_ns >= SAME_DATE_NS
        ),
        None,
    )


def _asked_cache(case: Case) -> str:
    """The header by which a cache says that it looked for the stream among what it keeps; empty when none does."""
    names = (*_ASKED_HEADERS, "x-cache") if case.chain.has("nginx", "openresty") else _ASKED_HEADERS
    found = next((name for name in names if _ASKED.fullmatch(case.main.get(name))), None)
    return "" if found is None else f"{found.title()}: {printable(case.main.get(found).strip(), 20)}"


def _no_transform(case: Case) -> Outcome:
    if (closed := _opened(case)) is not None:
        return closed
    if "no-transform" in case.main.get("cache-control").lower():
        return passed("Cache-Control has no-transform.")
    fix = "Send Cache-Control: no-cache, no-transform."
    squeezed = case.one("gzip")
    if squeezed is not None and squeezed.decoded.coding and compression_bursty(case):
        return failed("No no-transform, and a compressor that nothing forbids groups the events.", fix)
    return warned("No no-transform: a proxy may compress the stream, and hold it while it does.", fix)


def compression_bursty(case: Case) -> bool:
    """Whether the compressed answer comes in far fewer pieces than the plain one (B06)."""
    return grouped_by_compression(case) is not None


def _accel(case: Case) -> Outcome:
    if (closed := _opened(case)) is not None:
        return closed
    value = case.main.get("x-accel-buffering").strip().lower()
    if value == "no":
        return passed("X-Accel-Buffering: no.")
    if case.chain.has("nginx", "openresty", "ingress-nginx"):
        said = f"X-Accel-Buffering is {printable(value, 20)}" if value else "No X-Accel-Buffering"
        return warned(
            f"{said} in front of nginx (which may have taken it out).", "Send X-Accel-Buffering: no."
        )
    return passed("No X-Accel-Buffering, and no nginx that names itself (one may have taken it out).")


def _content_encoding(case: Case) -> Outcome:
    if (closed := _opened(case)) is not None:
        return closed
    fix = case.chain.fix("compression")
    plain = case.main.decoded.coding
    if plain:
        unread = (
            f", and nobody can read it: {printable(case.main.decoded.problem)}" if case.main.damaged else ""
        )
        return failed(
            f"Content-Encoding {printable(plain, 40)}, though only identity was asked for{unread}.", fix
        )
    squeezed = case.one("gzip")
    if squeezed is None or squeezed.head is None:
        return passed("Not compressed; compression was not asked for.")
    coding = squeezed.decoded.coding
    if not coding:
        return passed("Not compressed, also when that was offered.")
    offered = f"Compressed with {printable(coding, 40)} when that is offered"
    if squeezed.damaged:
        return failed(f"{offered}, and nobody can read it: {printable(squeezed.decoded.problem)}.", fix)
    if squeezed.decoded.further_bytes:
        return failed(
            f"{offered}, in {count_of(squeezed.decoded.members, 'gzip member')}: browsers read the first "
            f"({len(squeezed.body) - squeezed.decoded.further_bytes:,} bytes of the stream), and never the other "
            f"{squeezed.decoded.further_bytes:,}.",
            "Compress the stream as one, and flush the compressor after each event; do not compress each event by itself.",
        )
    if compression_bursty(case):
        return failed(f"{offered}, and then held back.", fix)
    if squeezed.decoded.problem:
        return warned(f"{offered}; {squeezed.decoded.problem}, {_PIECES}.", fix)
    return warned(f"{offered}; it came in time here.", fix)


_PIECES: Final = "and its pieces came about as often as those of the plain answer"


def _content_length(case: Case) -> Outcome:
    if (closed := _opened(case)) is not None:
        return closed
    value = case.main.get("content-length")
    if not value:
        return passed("No Content-Length.")
    if case.main.get("transfer-encoding"):
        return failed(
            f"Content-Length {printable(value, 20)} beside Transfer-Encoding: hops differ on where the answer ends, and some refuse it.",
            "Send Transfer-Encoding: chunked alone.",
        )
    return failed(
        f"Content-Length {printable(value, 20)}: the whole answer was there before its first byte was sent.",
        "Stream it: chunked over HTTP/1.1. " + case.chain.fix("buffering"),
    )


def _framing(case: Case) -> Outcome:
    seen = case.main
    if (closed := _opened(case)) is not None:
        return closed
    assert seen.head is not None
    if seen.head.version != "1.1":
        return warned(
            f"HTTP/{printable(seen.head.version, 10)}: an answer that was cut looks like one that ended.",
            case.chain.fix("http1"),
        )
    if seen.reader.framing == "close":
        return warned(
            "The answer ends by closing: one that was cut looks like one that ended.",
            "Use chunked transfer coding.",
        )
    return passed(f"HTTP/1.1, {'chunked' if seen.reader.framing == 'chunked' else 'with a length'}.")


def _version(case: Case) -> Outcome:
    if not case.capture.url.lower().startswith("https:"):
        return not_applicable(
            "HTTP/2 is agreed on in TLS; without TLS a browser has six streams for each host"
        )
    asked = case.one("alpn")
    if asked is None or asked.probed.tls is None:
        return not_applicable("the handshake that asks for HTTP/2 was not made")
    chosen = asked.probed.tls.alpn
    if chosen == "h2":
        return passed("The server would speak HTTP/2; its HTTP/1.1 answer was examined.")
    return warned(
        "HTTP/1.1 only: a browser has six streams for each host, the seventh tab waits.", "Enable HTTP/2."
    )


def _redirects(case: Case) -> Outcome:
    answers = case.all("stream")
    if not case.redirects and case.main.head is None:
        return not_applicable(NO_ANSWER)
    steps = [printable(each.get("location"), 120) for each in case.redirects]
    evidence = [
        Evidence(text=f"{each.status} to {step}") for each, step in zip(case.redirects, steps, strict=True)
    ]
    last = case.main
    if unconsented(last):
        return unknown(f"{printable(last.probed.detail)}.", _ALLOW)
    if last.status is not None and 300 <= last.status < 400:
        return failed(
            f"{len(answers)} answers in a row were redirects: {last.probed.detail or 'without a Location'}.",
            "Redirect once at most, or name the final URL.",
            *evidence,
        )
    urls = [each.probed.url for each in answers]
    for before, after in itertools.pairwise(urls):
        if before.startswith("https:") and after.startswith("http:"):
            return failed("A redirect leads from https to http.", "Redirect to https.", *evidence)
    if case.capture.asked.credentials and len({urlsplit(url)[:2] for url in urls}) > 1:
        return failed(
            "A redirect leads to another origin, and a credential was sent: clients drop it there, or leak it.",
            "Use the final URL.",
            *evidence,
        )
    if len(steps) > 1:
        return warned(f"{len(steps)} redirects before the stream.", "Use the final URL.", *evidence)
    return passed("One redirect." if steps else "No redirect.", *evidence)


def _accept(case: Case) -> Outcome:
    if case.main.status == 406:
        return failed("406 for Accept: text/event-stream.", "Do not negotiate SSE away.")
    if (closed := _opened(case)) is not None:
        return closed
    other = case.one("any-accept")
    if other is None:
        return not_applicable(case.skipped("any-accept"))
    if other.status == 406:
        return failed("406 for Accept: */*.", "Do not negotiate SSE away.")
    if other.opened:
        return passed("Streams for Accept: text/event-stream and for */*.")
    what = (
        "no answer"
        if other.status is None
        else f"HTTP {other.status}, {printable(other.get('content-type'), 40)}"
    )
    return warned(
        f"Accept: */* gets {what}.", "Answer */* with the stream, too: not every client asks by its type."
    )


def _method(case: Case) -> Outcome:
    if not case.answered:
        return not_applicable(NO_ANSWER)
    method = case.capture.asked.method
    head = case.one("head")
    if method != "GET":
        return passed(
            f"{method} only was examined: such a stream can't be read by EventSource, only by fetch."
        )
    if not case.main.readable:
        return not_applicable("no event stream came")
    if head is not None and (head.status is None or head.status >= 500):
        what = f"HTTP {head.status}" if head.status else "no answer in time"
        return warned(f"Works with GET; HEAD gets {what}.", "Answer HEAD with the headers alone, or 405.")
    return passed("Works with GET.")


def _crossing(case: Case) -> Outcome:
    if not case.answered:
        return not_applicable(NO_ANSWER)
    asked = case.one("options")
    answers = [("the stream", case.main)] + ([("the preflight", asked)] if asked is not None else [])
    said = []
    for name, seen in answers:
        origin = seen.get("access-control-allow-origin").strip()
        if not origin:
            continue
        said.append(f"{name} allows {printable(origin, 60)}")
        if origin == "*" and seen.get("access-control-allow-credentials").strip().lower() == "true":
            return failed(
                f"On {name} Access-Control-Allow-Origin is * with credentials: browsers refuse that.",
                "Echo the origin that asked.",
            )
    if not said:
        return passed("No CORS headers: pages of other origins can't read it.")
    return passed(f"CORS: {' and '.join(said)}.")


def _query(case: Case) -> Outcome:
    names = case.capture.asked.sensitive_query
    if not names:
        return passed("No parameter of the query looks like a secret.")
    return warned(
        f"The query carries {', '.join(names)}: addresses end up in logs and histories.",
        "Use a short-lived token, a cookie or a header.",
    )


def _h2_headers(_case: Case) -> Outcome:
    return not_applicable("only HTTP/2 shows it, and HTTP/1.1 was examined")


def _error_shape(case: Case) -> Outcome:
    bad = case.one("bad-request")
    if bad is None:
        return not_applicable(f"a bad request was not sent: {case.skipped('bad-request')} (--bad-request)")
    if bad.status is None:
        return failed("A bad request gets no answer.", "Answer it with 4xx.")
    if 400 <= bad.status < 600:
        return passed(f"A bad request gets HTTP {bad.status}.")
    if bad.opened:
        return warned(
            f"A bad request gets HTTP {bad.status} and a stream.", "Decide before the first byte: 4xx."
        )
    if bad.body.lstrip()[:1] == b"<":
        return failed(
            f"A bad request gets HTTP {bad.status} and a page.", "Decide before the first byte: 4xx."
        )
    return warned(f"A bad request gets HTTP {bad.status}.", "Decide before the first byte: 4xx.")


def _issuer(case: Case) -> Outcome:
    if not case.capture.url.lower().startswith("https:"):
        return not_applicable("there is no TLS")
    secured = case.main.probed.tls
    issuer = "" if secured is None or secured.certificate is None else secured.certificate.issuer
    if secured is None or not issuer:
        return not_applicable("no certificate was seen")
    lower = issuer.lower()
    fix = "Check from another network; inspection holds streams back (Kaspersky until the next message, Sophos until the end)."
    if any(name in lower for name in _INSPECTORS):
        return warned(f"The certificate is from {issuer}: TLS inspection reads and may hold the stream.", fix)
    if any(name in lower for name in _PUBLIC_AUTHORITIES):
        return passed(f"The certificate is from {issuer}.")
    if secured.private_ca:
        return passed(f"The certificate is from {issuer}, a private authority that --cacert names.")
    return warned(
        f"The certificate is from {issuer}, no public authority: TLS inspection, or a private authority.", fix
    )


HANDSHAKE: Final = (
    Check("H01", "status", _status),
    Check("H02", "content type", _content_type),
    Check("H03", "charset", _charset),
    Check("H04", "caching", _cache_control),
    Check("H05", "no-transform", _no_transform),
    Check("H06", "X-Accel-Buffering", _accel),
    Check("H07", "compression", _content_encoding),
    Check("H08", "content length", _content_length),
    Check("H09", "framing", _framing),
    Check("H10", "HTTP version", _version),
    Check("H11", "redirects", _redirects),
    Check("H12", "Accept", _accept),
    Check("H13", "method", _method),
    Check("H14", "CORS", _crossing),
    Check("H15", "secrets in the query", _query),
    Check("H16", "HTTP/2 headers", _h2_headers),
    Check("H17", "shape of errors", _error_shape),
    Check("H18", "certificate", _issuer),
)
