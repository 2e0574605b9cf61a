"""``/openapi.json``, ``/asyncapi.json`` and the page ``/docs`` that shows both.

The documents are made when they are first asked for, and kept. The page's files are read once, under fixed names, so no
path of a request meets the file system. The page asks this gateway and nobody else, and runs no code but its own file.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import Any

from aiohttp import web

from kafka_gateway import jsonio, media
from kafka_gateway.core import Gateway
from kafka_gateway.description import ANYTHING, Description
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.router import Route, served
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport
from kafka_gateway.transports.docs.asyncapi import asyncapi
from kafka_gateway.transports.docs.openapi import openapi, place_of

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.css": ("docs.css", "text/css"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
}


def _page(path: str, name: str, summary: str) -> Route:
    told = Description(summary, tag="Pages", replies={200: {"type": "string"}, 304: None}, kafka=False)
    return served(
        "GET",
        path,
        name,
        permission="read gateway:docs",
        produces=media.Produces([("text/html", 1.0)]),
        description=told,
    )


def _document(path: str, name: str, summary: str) -> Route:
    told = Description(summary, tag="Pages", replies={200: {"type": "object", **ANYTHING}, 304: None}, kafka=False)
    return served("GET", path, name, permission="read gateway:docs", description=told)


_PAGE = _page("/docs", "docs.page", "This API, for people")
_OPENAPI = _document("/openapi.json", "docs.openapi", "This document")
_ASYNCAPI = _document("/asyncapi.json", "docs.asyncapi", "Sockets and streams, as AsyncAPI")


class DocsTransport(Transport):
    name = "docs"
    plain = True
    paths = ("/docs", "/docs/*", "/openapi.json", "/asyncapi.json")
    resources = (_PAGE, _OPENAPI, _ASYNCAPI)

    def __init__(self) -> None:
        folder = resources.files("kafka_gateway.transports.docs") / "static"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
        self._documents: dict[str, bytes] = {}
        self._making = asyncio.Lock()

    def claims(self, request: HttpRequest) -> bool:
        path = request.raw_path.partition("?")[0]
        return path in self._files or path in ("/docs/", _OPENAPI.template, _ASYNCAPI.template)

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        resource = next((each for each in self.resources if each.template == path), _PAGE)
        await gateway.admit(session, resource)
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={**_HEADERS, "Allow": "GET, HEAD"})
        if path == "/docs/":  # the page refers to its files relative to /docs
            return web.Response(status=308, headers={**_HEADERS, "Location": "../docs"})
        if path in self._files:
            content, kind = self._files[path]
        else:
            content, kind = await self._document(path, gateway), media.JSON
        tag = '"' + hashlib.sha256(content).hexdigest()[:16] + '"'
        headers = {**_HEADERS, "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    async def _document(self, path: str, gateway: Gateway) -> bytes:
        async with self._making:
            if path not in self._documents:
                make = _openapi if path == _OPENAPI.template else asyncapi
                # On a thread: it takes some tenths of a second, and requests should not wait for it.
                self._documents[path] = await asyncio.to_thread(lambda: jsonio.encode(make(gateway)))
            return self._documents[path]


def _openapi(gateway: Gateway) -> dict[str, Any]:
    """The document of all that can be reached at some listener."""
    places = {each.area: each for each in gateway.transports if each.area}
    listeners = gateway.config.listeners()
    servers: dict[str, list[str]] = {}
    for listener in listeners:
        found = ["admin"] if listener.admin else [a for a, each in places.items() if each.name in listener.transports]
        for place in found:
            servers.setdefault(place, []).append(str(listener))
    reached = {"", *servers, *(area for area, each in places.items() if not each.named_only)}
    if all(each.loopback for each in listeners):
        reached.add("admin")
    routes = [route for route in gateway.offered() if place_of(route, gateway.config) in reached]
    return openapi(routes, gateway.config, judges=gateway.admission.authorization.is_on, servers=servers)
