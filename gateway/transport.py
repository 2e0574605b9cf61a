"""What a transport plugin implements and imports: :class:`Transport`, ``hookimpl``, and the types that it meets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from kafka_gateway.description import Channel
from kafka_gateway.dialect import REST
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import CloseReason, ServiceError, Unavailable
from kafka_gateway.markers import hookimpl
from kafka_gateway.messages import Reply, Request
from kafka_gateway.router import Route
from kafka_gateway.session import Session
from kafka_gateway.stream_server import StreamServer

if TYPE_CHECKING:
    from kafka_gateway.core import Gateway

__all__ = [
    "CloseReason",
    "HttpRequest",
    "Reply",
    "Request",
    "ServiceError",
    "Session",
    "Transport",
    "hookimpl",
    "refusal",
]


class Transport:
    """One way for requests to come in and replies to go out.

    ``name`` labels it in logs and prefixes its keys (``transport.<name>.*``). A transport over HTTP overrides
    ``claims`` and ``handle``; one with a port of its own sets ``server``, or overrides ``lifespan``.
    """

    name: str = ""
    server: StreamServer | None = None
    """What accepts the clients of a port of its own; it is open around the gateway's serving."""
    port: int = 0
    """Of a transport with a port of its own: the one that it is bound to, once its ``lifespan`` has begun."""

    named_only: bool = False
    """Offered only by listeners that name it (``listener.name.<name>.transports``)."""

    plain: bool = False
    """Whether its requests are as harmless as those of plain HTTP: one reply, and over. Pages of foreign origins may
    GET then what reads no records, since their browsers keep the reply from them, and ``authentication.skip.paths``
    counts. Of other transports a foreign page gets nothing, and each of their requests needs a proof."""

    admin: bool = False
    """Whether listeners of ``admin.listeners`` offer it. What it serves there is up to `Gateway.dispatch`."""
    paths: tuple[str, ...] = ("*",)
    """The paths that it may claim, as they are sent; one that ends with ``*`` stands for all that begin so. About
    requests for other paths it is not asked, unless it is the last to be."""
    upgrades: bool = False
    """Whether it claims nothing but requests with an ``Upgrade``."""
    area: str = ""
    """The area whose routes its requests find, `Route.area`."""
    channels: Sequence[Channel] = ()
    """The sockets and streams that it has, for ``/asyncapi.json``."""
    resources: Sequence[Route] = ()
    """What it serves by itself, without ``Gateway.dispatch``: each asks ``Gateway.admit`` first, so that lists and
    limits count it. These routes have names, and their handlers are never called."""

    def claims(self, request: HttpRequest) -> bool:
        """Whether this HTTP request is for this transport. The newest plugin is asked first, ``http`` last."""
        return False

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        """Decodes, dispatches, writes the reply. The host has opened the session and closes it with the connection."""
        raise NotImplementedError

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        """The reply to an HTTP request for this transport that gets no session; ``handle`` is not called."""
        return refusal(error, request)

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        """Runs around the gateway's serving: open a port before the yield, stop taking work and close it after."""
        if self.server is None:
            yield
            return
        async with self.server.open(gateway):
            self.port = self.server.port
            yield


def refusal(error: ServiceError, request: HttpRequest | None = None) -> web.Response:
    """The error as a plain HTTP response, with our body (kafka-rest-http.md §3.5).

    The body tells the way out where ``errors.help`` says so, if the request is given.
    """
    body = request.error_body(error) if request is not None else REST.error(error)
    response = web.Response(status=error.status, body=body, content_type="application/json")
    for name, value in error.headers:
        response.headers[name] = value
    if isinstance(error, Unavailable):
        response.force_close()
    return response
