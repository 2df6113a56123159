"""The demo page: static files out of this package, under a policy that lets them do no more than they need.

Rules:
- A closed list of files, read once at the start; no path of a request ever names a file.
- What the page has to know of this server is one JSON object; it holds nothing that a stranger may not know.
- Scripts and styles come from here alone, nothing runs inline, no text can become markup (trusted types), and the page
  talks to this server only.
"""

from pathlib import Path
from typing import Final

import msgspec
from aiohttp import hdrs, web

from sseproof.reference_server.settings import ServerSettings

FOLDER: Final = Path(__file__).parent / "static"
PAGE: Final = "index.html"
ABOUT_PATH: Final = "/page.json"
STATIC_PATH: Final = "/static/"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-cache",
}


def add_page(app: web.Application, settings: ServerSettings) -> None:
    """Adds `/`, `/page.json` and `/static/NAME` to the routes."""
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}

    about = msgspec.json.encode({"answers": settings.answers, "login": settings.login})

    def answer(name: str) -> web.Response:
        kind = TYPES[Path(name).suffix]
        return web.Response(body=files[name], headers={**HEADERS, hdrs.CONTENT_TYPE: kind})

    async def page(_: web.Request) -> web.Response:
        return answer(PAGE)

    async def told(_: web.Request) -> web.Response:
        return web.Response(body=about, headers={**HEADERS, hdrs.CONTENT_TYPE: "application/json"})

    async def static(request: web.Request) -> web.Response:
        if (name := request.match_info["name"]) not in files:
            raise web.HTTPNotFound
        return answer(name)

    app.router.add_get("/", page)
    app.router.add_get(ABOUT_PATH, told)
    app.router.add_get(STATIC_PATH + "{name}", static)
