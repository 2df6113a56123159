"""What each kind of hop is told: whole configurations of nginx and Apache, made of nothing but checked values.

Rules:
- A hop stands for one thing that deployments do to a stream, and its name says which; what it then does to one is measured
  by `tests/chaos/test_hops.py` and written in docs/faults.md.
- It listens on loopback alone, and names only files of its own folder.
- One hop has a server of its own for each of its upstreams, so that each proxy behind it keeps its own address before it.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, get_args

from sseproof.rundir.errors import RigError, UsageError

HopKind = Literal[
    "nginx-defaults",
    "nginx-plain",
    "nginx-gzip",
    "nginx-sse",
    "nginx-timeout",
    "nginx-cache",
    "nginx-routes",
    "apache-defaults",
    "apache-flush",
]
HOP_KINDS: Final[tuple[HopKind, ...]] = get_args(HopKind)
Program = Literal["nginx", "apache"]

HOST: Final = "127.0.0.1"
READ_LIMIT_S: Final = 5
"""Of `nginx-timeout`: short enough for a test, longer than any gap of a healthy stream."""

_UPSTREAM: Final = re.compile(r"[A-Za-z0-9_.\-\[\]:]+:\d{1,5}")
_ROUTE: Final = re.compile(r"/[A-Za-z0-9/_.~-]*")
"""What nginx compares is the decoded path: one with escapes is not written here."""

_PASSED_ON: Final = ("proxy_buffering off;", "proxy_http_version 1.1;")
_COMPRESSED: Final = ("gzip on;", "gzip_types text/event-stream;")
_SSE: Final = (
    "proxy_buffering off;",
    "proxy_cache off;",
    "gzip off;",
    "proxy_read_timeout 3600s;",
    "proxy_http_version 1.1;",
)
"""The five settings of sse.conf."""
_CACHE: Final = (
    "proxy_cache hop;",
    "proxy_cache_valid 200 1m;",
    # Who caches a whole site like this did not mean its streams: their own headers would forbid it.
    "proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires X-Accel-Buffering;",
    "add_header X-Cache-Status $upstream_cache_status;",
)

_NGINX: Final[dict[HopKind, tuple[str, ...]]] = {
    # What a deployment gets that adds `proxy_pass` and turns compression on for all of its types.
    "nginx-defaults": _COMPRESSED,
    "nginx-plain": (),
    "nginx-gzip": (*_PASSED_ON, *_COMPRESSED),
    "nginx-sse": _SSE,
    "nginx-timeout": (*_PASSED_ON, f"proxy_read_timeout {READ_LIMIT_S}s;"),
    "nginx-cache": _CACHE,
    "nginx-routes": _COMPRESSED,
}
_APACHE: Final[dict[HopKind, str]] = {
    "apache-defaults": "",
    "apache-flush": " flushpackets=on timeout=3600",
}
_APACHE_ROOM: Final[dict[HopKind, str]] = {
    "apache-defaults": "",
    # Each stream holds a thread: by its own defaults Apache has 400.
    "apache-flush": "ServerLimit 32\nThreadsPerChild 64\nMaxRequestWorkers 2048\n",
}
_APACHE_MODULES: Final = ("mpm_event", "authz_core", "proxy", "proxy_http")


def program_of(kind: HopKind) -> Program:
    """Which program is such a hop."""
    return "apache" if kind in _APACHE else "nginx"


def check_route(kind: HopKind, path: str) -> None:
    """Raises UsageError when the kind has a route of its own for streams and can't have one for this path."""
    if kind == "nginx-routes" and not _ROUTE.fullmatch(path):
        raise UsageError(
            f"the hop {kind} has a route of its own for the target's path, and {path!r} can't be one: use a path of "
            "letters, digits, dot, dash, underscore and tilde, or another hop."
        )


def nginx_config(
    kind: HopKind,
    *,
    ports: Sequence[int],
    upstreams: Sequence[str],
    user: str | None,
    descriptors: int,
    route: str = "/",
) -> str:
    """The whole configuration: port number i leads to upstream number i.

    `user` (with its group) is named only by root: others may not change theirs. `route` is the path of the streams.
    Raises RigError for an upstream and UsageError for a route that a configuration can't hold.
    """
    check_route(kind, route)
    temporary = "\n".join(
        f"    {name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = "\n".join(
        _nginx_server(kind, port, _checked(upstream), route)
        for port, upstream in zip(ports, upstreams, strict=True)
    )
    return f"""\
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile {descriptors};
{f"user {user};" if user else ""}
pid nginx.pid;
error_log stderr warn;
events {{
    worker_connections {max(descriptors - 64, 64)};
}}
http {{
    access_log off;
{temporary}
{"    proxy_cache_path cache keys_zone=hop:1m;" if kind == "nginx-cache" else ""}
{servers}
}}
"""


def _nginx_server(kind: HopKind, port: int, upstream: str, route: str) -> str:
    locations = [_nginx_location("/", upstream, _NGINX[kind])]
    if kind == "nginx-routes":
        locations.insert(0, _nginx_location(f"= {route}", upstream, _SSE))
    return f"""\
    server {{
        listen {HOST}:{port};
{chr(10).join(locations)}
    }}"""


def _nginx_location(place: str, upstream: str, settings: Sequence[str]) -> str:
    lines = "\n".join(f"            {line}" for line in settings)
    return f"""\
        location {place} {{
            proxy_pass http://{upstream};
{lines}
        }}"""


def apache_config(
    kind: HopKind,
    *,
    ports: Sequence[int],
    upstreams: Sequence[str],
    user: tuple[str, str] | None,
    modules: str,
) -> str:
    """The whole configuration: port number i leads to upstream number i.

    `user` is a user and a group, named only by root; `modules` is the folder that the program's modules lie in.
    Raises RigError for an upstream that a configuration can't hold.
    """
    loads = "\n".join(
        f'<IfModule !{name}_module>\nLoadModule {name}_module "{modules}/mod_{name}.so"\n</IfModule>'
        for name in _APACHE_MODULES
    )
    servers = "\n".join(
        f'Listen {HOST}:{port}\n<VirtualHost {HOST}:{port}>\nProxyPass "/" "http://{_checked(upstream)}/"{_APACHE[kind]}\n'
        "</VirtualHost>"
        for port, upstream in zip(ports, upstreams, strict=True)
    )
    return f"""\
{loads}
{f"User {user[0]}{chr(10)}Group {user[1]}" if user else ""}
ServerName {HOST}
PidFile apache.pid
DefaultRuntimeDir .
Mutex pthread
ErrorLog /dev/stderr
LogLevel warn
{_APACHE_ROOM[kind]}{servers}
"""


def _checked(upstream: str) -> str:
    if not _UPSTREAM.fullmatch(upstream):
        raise RigError(f"{upstream!r} is no host:port that a hop could pass requests to.")
    return upstream
