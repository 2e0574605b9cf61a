"""The console page: static files, and the list of connected clients. For all else it is a client like any other.

Files are read once at start, under fixed names, so no path of a request ever meets the file system (S14).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from importlib import resources

from aiohttp import web

from kafka_gateway import jsonio, media
from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.description import Description
from kafka_gateway.router import served
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport

_FILES = {
    "/console": ("index.html", "text/html"),
    "/console/console.css": ("console.css", "text/css"),
    "/console/console.js": ("console.js", "text/javascript"),
    "/console/records.js": ("records.js", "text/javascript"),
    "/console/schemas.js": ("schemas.js", "text/javascript"),
    "/console/groups.js": ("groups.js", "text/javascript"),
    "/console/kafka-gateway.mjs": ("kafka-gateway.mjs", "text/javascript"),
    "/console/kafka-gateway-stream.mjs": ("kafka-gateway-stream.mjs", "text/javascript"),
}
_CLIENTS = "/console/clients"
_CLIENTS_MAX = 200

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class ClientRow(jsonio.Struct):
    """One connected client, as the page lists it."""

    peer: str
    transport: str
    principal: str
    seconds: float
    """Since it connected."""
    streams: int


_PAGE = served(
    "GET",
    "/console",
    "console.page",
    permission="read gateway:console",
    produces=media.Produces([("text/html", 1.0)]),
    description=Description("The console page", tag="Pages", replies={200: {"type": "string"}, 304: None}, kafka=False),
)
_LIST = served(
    "GET",
    _CLIENTS,
    "console.clients",
    permission="read gateway:console",
    description=Description("Connected clients", tag="Pages", replies={200: list[ClientRow]}, kafka=False),
)


class ConsoleTransport(Transport):
    name = "console"
    plain = True
    paths = ("/console*",)
    resources = (_PAGE, _LIST)

    def __init__(self, config: Config) -> None:
        self._admins = frozenset(config.items("console.admins"))
        folder = resources.files("kafka_gateway.transports.console") / "static"
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for path, (name, media_type) in _FILES.items():
            content = (folder / name).read_bytes()
            self._files[path] = (content, media_type, '"' + hashlib.sha256(content).hexdigest()[:16] + '"')

    def claims(self, request: web.BaseRequest) -> bool:
        path = request.raw_path.partition("?")[0]
        return path in self._files or path in (_CLIENTS, "/console/")

    async def handle(self, request: web.BaseRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        await gateway.admit(session, _LIST if path == _CLIENTS else _PAGE)
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={**_HEADERS, "Allow": "GET, HEAD"})
        if path == "/console/":  # the page refers to its files relative to this path
            return web.Response(status=308, headers={**_HEADERS, "Location": "/console"})
        if path == _CLIENTS:
            body = await self._clients(gateway, session)
            return web.Response(body=body, content_type="application/json", headers=_HEADERS)
        content, media_type, tag = self._files[path]
        headers = {**_HEADERS, "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=media_type, charset="utf-8", headers=headers)

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        gateway.questions[_CLIENTS] = lambda asked: self._rows(gateway, str(asked["principal"]))
        yield

    async def _clients(self, gateway: Gateway, asking: Session) -> bytes:
        """The caller's sessions, or all for ``console.admins``: who else is there, and from where, is
        for them alone."""
        name = asking.principal.name
        rows = self._rows(gateway, name)
        if gateway.homes is not None:
            found = jsonio.encode(await gateway.homes.ask_all(_CLIENTS, {"principal": name}))
            rows = sorted([*rows, *_read_rows(found)], key=lambda row: -row.seconds)[:_CLIENTS_MAX]
        return jsonio.encode(rows)

    def _rows(self, gateway: Gateway, name: str) -> list[ClientRow]:
        """Those that are connected to this process."""
        now = time.monotonic()
        found = [
            each
            for each in gateway.sessions
            if (name in self._admins or each.principal.name == name) and not each.forwarded
        ]
        return [
            ClientRow(each.peer, each.transport, each.principal.name, now - each.opened_at, len(each.streams))
            for each in sorted(found, key=lambda each: each.opened_at)[:_CLIENTS_MAX]
        ]


_read_rows = jsonio.Decoder(list[ClientRow]).decode
