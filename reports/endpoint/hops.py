"""Who stands between the service and us, by what the answer says of itself, and what to change there.

Rules: a hop is named only by what it writes into headers (checks.md 5.1, 5.2: sources stand there); where none is named,
the fix is written for the service and for any proxy. Pure.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from msgspec import Struct

Trouble = Literal["buffering", "compression", "caching", "timeout", "http1", "workers"]
Get = Callable[[str], str]


class Hop(NamedTuple):
    """One kind of server or proxy, by a word in one of its headers; an empty word stands for the header's presence."""

    name: str
    signs: tuple[tuple[str, str], ...]
    proxy: bool


HOPS: Final = (
    Hop("ingress-nginx", (("server", "ingress"), ("x-ingress", "")), True),
    Hop("openresty", (("server", "openresty"),), True),
    Hop("nginx", (("server", "nginx"), ("via", "nginx")), True),
    Hop("Apache", (("server", "apache"),), True),
    Hop("Cloudflare", (("server", "cloudflare"), ("cf-ray", "")), True),
    Hop("CloudFront", (("x-amz-cf-id", ""), ("via", "cloudfront")), True),
    Hop("AWS load balancer", (("server", "awselb"),), True),
    Hop("API Gateway", (("x-amz-apigw-id", ""), ("apigw-requestid", "")), True),
    Hop("Envoy", (("server", "envoy"), ("server", "istio"), ("x-envoy-upstream-service-time", "")), True),
    Hop("HAProxy", (("server", "haproxy"), ("via", "haproxy")), True),
    Hop("Varnish", (("via", "varnish"), ("x-varnish", "")), True),
    Hop("Fastly", (("x-served-by", "cache-"),), True),
    Hop("Akamai", (("server", "akamai"), ("x-akamai-request-id", "")), True),
    Hop("Google front end", (("server", "google frontend"), ("via", "google")), True),
    Hop("Azure Front Door", (("x-azure-ref", ""),), True),
    Hop("Heroku router", (("via", "vegur"), ("via", "heroku")), True),
    Hop("Vercel", (("server", "vercel"), ("x-vercel-id", "")), True),
    Hop("Caddy", (("server", "caddy"), ("via", "caddy")), True),
    Hop("Traefik", (("server", "traefik"),), True),
    Hop("Kong", (("server", "kong"), ("via", "kong")), True),
    Hop("Squid", (("via", "squid"), ("server", "squid")), True),
    Hop("IIS", (("server", "microsoft-iis"),), True),
    Hop("gunicorn", (("server", "gunicorn"),), False),
    Hop("uvicorn", (("server", "uvicorn"),), False),
    Hop("hypercorn", (("server", "hypercorn"),), False),
    Hop("aiohttp", (("server", "aiohttp"),), False),
    Hop("Werkzeug", (("server", "werkzeug"),), False),
    Hop("Express", (("x-powered-by", "express"),), False),
    Hop("Next.js", (("x-powered-by", "next.js"),), False),
    Hop("PHP", (("x-powered-by", "php"),), False),
    Hop("ASP.NET", (("x-powered-by", "asp.net"), ("server", "kestrel")), False),
)

_NGINX: Final[dict[Trouble, str]] = {
    "buffering": "set proxy_buffering off, or send X-Accel-Buffering: no from the service",
    "compression": "set gzip off where the stream is served (text/event-stream must not be in gzip_types)",
    "caching": "set proxy_cache off where the stream is served",
    "timeout": "raise proxy_read_timeout (60 s by default), or send a comment more often",
    "http1": "set proxy_http_version 1.1 and listen with http2",
}
FIXES: Final[dict[str, dict[Trouble, str]]] = {
    "nginx": _NGINX,
    "openresty": _NGINX,
    "ingress-nginx": {
        **_NGINX,
        "buffering": 'annotate the ingress with nginx.ingress.kubernetes.io/proxy-buffering: "off", or send '
        "X-Accel-Buffering: no from the service",
        "timeout": "annotate the ingress with nginx.ingress.kubernetes.io/proxy-read-timeout, or send a comment more often",
    },
    "Apache": {
        "buffering": "set flushpackets=on on the ProxyPass",
        "compression": "SetEnvIf Accept .*event-stream.* no-gzip, or take the type out of AddOutputFilterByType DEFLATE",
        "timeout": "raise ProxyTimeout (60 s by default), or send a comment more often",
        "caching": "CacheDisable for the stream's path",
    },
    "Cloudflare": {
        "buffering": "send Content-Type text/event-stream and Cache-Control: no-transform; quick tunnels buffer GET: use a named one",
        "compression": "send Cache-Control: no-transform, which Cloudflare honours",
        "caching": "a cache rule that bypasses the stream's path",
        "timeout": "send a comment at least every 100 s (its limit is 120 s without a byte)",
    },
    "CloudFront": {
        "buffering": "take compression off the behaviour of this path",
        "compression": "set Compress objects automatically to No for this path",
        "caching": "the CachingDisabled policy for this path",
        "timeout": "raise the origin response timeout, or send a comment more often",
    },
    "AWS load balancer": {
        "timeout": "raise the idle timeout (60 s by default), or send a comment more often"
    },
    "API Gateway": {
        "buffering": "set the integration's response transfer mode to STREAM (BUFFERED is the default)",
        "timeout": "mode STREAM ends after 5 min idle (30 s when edge-optimised): send a comment more often",
    },
    "Envoy": {
        "buffering": "take the buffer filter off this route",
        "compression": "take the compressor filter off this route",
        "timeout": "set the route's timeout to 0 (15 s for the whole answer by default)",
    },
    "HAProxy": {
        "buffering": "set option http-no-delay",
        "compression": "take text/event-stream out of compression type",
        "timeout": "raise timeout client and timeout server (timeout tunnel does not count)",
    },
    "Varnish": {
        "buffering": "set beresp.do_stream = true",
        "caching": "return (pass) for the stream's path",
        "compression": "set beresp.do_gzip = false",
    },
    "Heroku router": {"timeout": "send the first byte within 30 s, then one at least every 55 s"},
    "Vercel": {"timeout": "raise the function's maximum duration", "buffering": "use a streaming response"},
    "IIS": {
        "buffering": "set responseBufferLimit to 0 on the handler",
        "compression": "take text/event-stream out of dynamic compression",
    },
    "Express": {
        "compression": "the compression middleware needs res.flush() after each event, or no-transform"
    },
    "Next.js": {"compression": "set compress: false, or send Cache-Control: no-transform"},
    "gunicorn": {
        "timeout": "use an asynchronous worker class: sync workers are killed after --timeout (30 s)",
        "workers": "use an asynchronous worker class or threads: each stream holds a sync worker",
    },
    "PHP": {
        "buffering": "turn output_buffering and zlib.output_compression off, and flush() after each event"
    },
}
ANYBODY: Final[dict[Trouble, str]] = {
    "buffering": "flush after each event in the service; turn buffering off in every proxy (for nginx X-Accel-Buffering: no)",
    "compression": "exclude text/event-stream from compression, or flush the compressor after each event",
    "caching": "send Cache-Control: no-cache, no-transform",
    "timeout": "send a comment every 15 s, and raise the time-outs of service and proxies",
    "http1": "speak HTTP/1.1 between proxy and service",
    "workers": "use an asynchronous server or more workers: each stream holds one of them",
}


class Chain(Struct):
    """The hops that named themselves, in the order of HOPS."""

    hops: list[str]
    proxies: list[str]
    named_by: dict[str, str]
    """The header that gave each away, as text."""

    def fix(self, trouble: Trouble) -> str:
        """What to change, for the first hop that has an answer to it."""
        for name in [*self.proxies, *(name for name in self.hops if name not in self.proxies)]:
            if trouble in FIXES.get(name, {}):
                return f"{self.named_by[name]} says {name}: {FIXES[name][trouble]}."
        text = ANYBODY[trouble]
        return f"{text[0].upper()}{text[1:]}."

    def has(self, *names: str) -> bool:
        """Whether one of these is there."""
        return any(name in self.hops for name in names)


def chain_of(get: Get) -> Chain:
    """The chain from a function that gives a header's value, empty when it did not come."""
    hops: list[str] = []
    proxies: list[str] = []
    named_by: dict[str, str] = {}
    for hop in HOPS:
        for header, word in hop.signs:
            value = get(header).lower()
            if value and word in value:
                if hop.name == "nginx" and any(name in hops for name in ("openresty", "ingress-nginx")):
                    continue
                if hop.name not in hops:
                    hops.append(hop.name)
                    named_by[hop.name] = f"{header.title()} header"
                    if hop.proxy:
                        proxies.append(hop.name)
    return Chain(hops=hops, proxies=proxies, named_by=named_by)
