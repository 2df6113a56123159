"""What goes on the wire, before there is a wire: addresses, headers, secrets, redirects.

Pure rules, with their numbers in sse.md 1.3:
- One request is one immutable `Request`; `Request.encode` is the only place that makes bytes of it.
- `Accept`, `Cache-Control` and `Accept-Encoding: identity` are sent unless the user says otherwise (C01, C02).
- Redirects 301, 302, 303, 307, 308 (C10): 303 becomes GET, so do 301 and 302 of a POST (RFC 9110 15.4); another origin
  gets no Authorization, no Cookie and no header the user called secret (C13); no Location is an error (C11).
- Values written `env:NAME` are looked up when a request is made ready; whoever shows a text masks what was found.
"""

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from sseproof.loadtests.framing import EVENT_STREAM
from sseproof.rundir.errors import UsageError
from sseproof.rundir.text import SECRET_HEADERS, SECRET_QUERY

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
REDIRECTS_LIMIT: Final = 10
"""Browsers stop at 20; nobody means more than a few (C12)."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE_REFUSED: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"
_QUERY_SAFE: Final = _PATH_SAFE + '?[]{}|^`\\"'


class Endpoint(Struct, frozen=True):
    """The parts of an absolute http or https address that a connection needs."""

    scheme: str
    host: str
    """Lower case, international names in their ASCII form, IPv6 without brackets."""
    port: int
    target: str
    """Path and query as sent, percent-encoded."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what decides whether secrets may travel."""
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        """The Host header: the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address, as it was put together."""
        return f"{self.scheme}://{self.host_header}{self.target}"


class Request(Struct, frozen=True):
    """One request, ready to be sent; headers in the order in which they go out."""

    endpoint: Endpoint
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def encode(self) -> bytes:
        """Head and body as they go on the wire; header values in UTF-8 (C05)."""
        lines = [f"{self.method} {self.endpoint.target} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {self.endpoint.host_header}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body or self.method in {"POST", "PUT", "PATCH"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body

    def as_get(self) -> "Request":
        """The request without its body, and without the headers that describe one."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != "content-type")
        return replace(self, method="GET", headers=kept, body=b"")

    def with_header(self, name: str, value: str) -> "Request":
        """The request with this header in place of any of the same name."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=(*kept, (name, value)))


def parse_url(url: str) -> Endpoint:
    """The endpoint of an absolute http or https URL; fragments and user information are left out.

    Raises UsageError when it is none.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{_shown(url)} is not a usable address ({error}).") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UsageError(
            f"{_shown(url)} is not an http:// or https:// address: write it in full, such as http://127.0.0.1:8000/stream."
        )
    return Endpoint(
        scheme=parts.scheme,
        host=_ascii_host(parts.hostname),
        port=port or DEFAULT_PORTS[parts.scheme],
        target=_target(parts.path, parts.query),
    )


def user_information(url: str) -> str | None:
    """The Authorization value of `http://user:password@host`, None without user information."""
    parts = urlsplit(url.strip())
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, stripped. Raises UsageError for names or values that HTTP can't carry (no value is shown)."""
    checked = {}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a header name.")
        stripped = value.strip()
        if HEADER_VALUE_REFUSED.search(stripped):
            raise UsageError(
                f"The value of the header {name} holds a line break or another control character."
            )
        checked[name] = stripped
    return checked


def build_request(
    endpoint: Endpoint, method: str, headers: Mapping[str, str], body: bytes, *, gzip: bool
) -> Request:
    """A request with our defaults; the user's headers win. Content-Length and Transfer-Encoding are always ours."""
    merged = {
        "User-Agent": USER_AGENT,
        "Accept": EVENT_STREAM,
        "Cache-Control": "no-cache",
        "Accept-Encoding": "gzip" if gzip else "identity",
    }
    if body:
        merged["Content-Type"] = "application/json"
    names = {name.lower(): name for name in merged}
    for name, value in headers.items():
        lower = name.lower()
        if lower in {"content-length", "transfer-encoding"}:
            continue
        merged[names.setdefault(lower, name)] = value
    return Request(endpoint=endpoint, method=method.upper(), headers=tuple(merged.items()), body=body)


def redirected(request: Request, status: int, location: str, secret_headers: Collection[str] = ()) -> Request:
    """The request that follows a redirect; raises ValueError with a sentence when there is none to follow."""
    if not location.strip():
        raise ValueError(f"status {status} without a Location")
    base = request.endpoint.url
    try:
        endpoint = parse_url(urljoin(base, location.strip()))
    except (UsageError, ValueError):
        raise ValueError(f"status {status} to something that is not an http address") from None
    dropped: set[str] = set()
    becomes_get = (status == 303 and request.method != "HEAD") or (
        status in {301, 302} and request.method == "POST"
    )
    if becomes_get and request.method != "GET":
        dropped |= {"content-type", "content-encoding", "content-language", "content-location"}
    if endpoint.origin != request.endpoint.origin:
        dropped |= {"host", *SECRET_HEADERS, *(name.lower() for name in secret_headers)}
    headers = tuple(pair for pair in request.headers if pair[0].lower() not in dropped)
    if becomes_get:
        return Request(endpoint=endpoint, method="GET", headers=headers)
    return replace(request, endpoint=endpoint, headers=headers)


def secret_values(headers: Iterable[tuple[str, str]], secret_headers: Collection[str]) -> list[str]:
    """The values of all headers that are secret by name."""
    names = SECRET_HEADERS | {name.lower() for name in secret_headers}
    return [value for name, value in headers if name.lower() in names]


def secret_query_values(endpoint: Endpoint) -> list[str]:
    """The values of all query parameters that are secret by name, as they are sent and as they are meant."""
    pairs = (pair.partition("=") for pair in endpoint.target.partition("?")[2].split("&"))
    found = [value for name, _, value in pairs if SECRET_QUERY.search(unquote(name).lower())]
    return [*found, *(unquote(value) for value in found)]


def _target(path: str, query: str) -> str:
    target = quote(path or "/", safe=_PATH_SAFE)
    return f"{target}?{quote(query, safe=_QUERY_SAFE)}" if query else target


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UsageError(f"{host!r} is not a host name.") from None


def _shown(url: str) -> str:
    """The URL without what may be secret in it: user information and query."""
    return repr(re.sub(r"//[^/@]*@", "//", url.partition("?")[0]))


def _version() -> str:
    try:
        return metadata.version("sseproof")
    except metadata.PackageNotFoundError:
        return "0"


USER_AGENT: Final = f"sseproof/{_version()}"
