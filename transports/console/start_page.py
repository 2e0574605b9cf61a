"""The page with links at the gateway's address, for a person with a browser. Programs get the API's ``{}``."""

from __future__ import annotations

from aiohttp import web

from kafka_gateway import media
from kafka_gateway.core import Gateway
from kafka_gateway.description import Description
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import BadRequest
from kafka_gateway.media_ranges import parse_accept
from kafka_gateway.rights import OPEN
from kafka_gateway.router import served
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport

_PAGE = served(
    "GET",
    "/",
    "console.start",
    permission=OPEN,
    produces=media.Produces([("text/html", 1.0)]),
    description=Description(
        "For browsers: where to go on", tag="Pages", replies={200: {"type": "string"}}, kafka=False
    ),
)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
_JAVA = "text/html, image/gif, image/jpeg"
"""How the Accept of Java's HttpURLConnection begins, which wants no page: it sends that with everything."""

_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Kafka Gateway</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 2rem auto; max-width: 40rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif }}
code {{ font-size: .9em }}
</style>
</head>
<body>
<h1>Kafka Gateway</h1>
<p>This is a gateway between HTTP, WebSockets and Apache Kafka. Programs use its API at this address.</p>
<ul>
<li>{console}</li>
<li><a href="health/ready">Health</a>: whether Kafka answers</li>
<li><a href="docs">The API</a>: every resource, every socket, with requests to try out</li>
<li><a href="topics">Topics</a>: what the API answers to <code>GET /topics</code></li>
</ul>
<p>Documentation comes with the program: <code>README.md</code> is where to begin; <code>docs/rest.md</code> is about
the REST API, <code>docs/streaming.md</code> about record streams, <code>docs/sockets.md</code> about WebSockets, and
<code>docs/configuration.md</code> lists all properties.</p>
</body>
</html>
"""
_CONSOLE = '<a href="console">Console</a>: follow topics and produce records'
_NO_CONSOLE = "Console: switched off; <code>console.enabled=true</code> switches it on"


class StartPage(Transport):
    name = "start-page"
    plain = True
    paths = ("/",)
    resources = (_PAGE,)

    def __init__(self, console: bool) -> None:
        self._page = _HTML.format(console=_CONSOLE if console else _NO_CONSOLE).encode()

    def claims(self, request: HttpRequest) -> bool:
        if request.raw_path != "/" or request.method not in ("GET", "HEAD"):
            return False
        accept = request.headers.get("Accept", "")
        return "text/html" in accept and "Upgrade" not in request.headers and _wants_page(accept)

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        await gateway.admit(session, _PAGE)
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=_HEADERS)


def _wants_page(accept: str) -> bool:
    """Whether ``Accept`` names a page, and no type of the API with a higher weight."""
    if accept.startswith(_JAVA):
        return False
    try:
        ranges = parse_accept(accept)
    except BadRequest:
        return False
    page = max((each.q for each in ranges if str(each.media_type) == "text/html"), default=0.0)
    others = (each.q for each in ranges if str(each.media_type).startswith("application/") and "json" in str(each))
    return page > 0 and page >= max(others, default=0.0)
