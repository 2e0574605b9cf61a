"""The plain HTTP requests of Kafka WebSocket Proxy's protocol (websocket-proxy.md; docs/websocket-proxy.md).

Three transports of one kind, each for the routes of its area. The one beside the sockets also serves listeners that
other transports share, and claims only its own paths there. Admin and exporter have listeners of their own.
"""

from __future__ import annotations

from aiohttp import web

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.body import BodyReader
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.errors import MethodNotAllowed, NoRoute, NotFound, ServiceError, Unauthorized
from kafka_gateway.messages import NOTHING, Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.session import Session
from kafka_gateway.transport import Transport
from kafka_gateway.transports.websocket_proxy.transport import ProxyDialect

_PATHS = ("/healthcheck", "/kafka/cluster/info")
_BELOW = "/schemas/avro/"


class ProxyHttpDialect(ProxyDialect):
    """Errors as this protocol's clients know them (§1.2)."""

    def error(self, error: ServiceError) -> bytes:
        if isinstance(error, MethodNotAllowed):
            error = MethodNotAllowed(f"HTTP method not allowed, supported methods: {', '.join(_methods(error.allow))}")
        elif isinstance(error, NotFound) and error.message == NotFound.text:
            error = NotFound("This is not the resource you are looking for.")
        return super().error(error)


_DIALECT = ProxyHttpDialect()


class ProxyHttp(Transport):
    """Serves the routes of the area that has its name, and all paths that no other transport of a listener claims."""

    plain = True

    def __init__(self, config: Config, name: str, area: str, named_only: bool) -> None:
        self.name = name
        self.paths = (*_PATHS, _BELOW + "*")
        self.named_only = named_only
        self.area = area
        self._bodies = BodyReader(config)

    def claims(self, request: web.BaseRequest) -> bool:
        # On a listener that other transports share, the last one has all paths that nobody else claims.
        transports = request.protocol.offer.transports  # type: ignore[attr-defined]  # it is a door.connection.HttpConnection
        if transports[-1] is self:
            return True
        path = request.raw_path.partition("?")[0]
        return path in _PATHS or path.startswith(_BELOW)

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path, mark, query_text = request.raw_path.partition("?")
        begun = not gateway.stopping
        query = parse_query(query_text) if mark else NOTHING
        body = await self._bodies.read(request, gateway) if request.body_exists else b""
        if path.endswith("/"):
            raise NoRoute()
        method = "-" if request.method == "OPTIONS" else request.method  # no route has it: 405 with the others
        reply = await gateway.dispatch(
            Request(session, method, path, query, NOTHING, body, dialect=_DIALECT, begun=begun, area=self.area)
        )
        request.facts = reply.facts(len(body))
        response = _response(reply)
        if gateway.stopping:
            response.force_close()
        return response

    def refuse(self, request: web.BaseRequest, error: ServiceError) -> web.StreamResponse:
        if isinstance(error, Unauthorized) and error.message == Unauthorized.text:
            given = "Authorization" in request.headers
            error = Unauthorized(_INVALID if given else _MISSING, dict(error.headers).get("WWW-Authenticate", ""))
        return _response(Reply(error.status, "", _DIALECT.error(error), error.headers))


def _response(reply: Reply) -> web.Response:
    response = web.Response(status=reply.status, body=reply.body if isinstance(reply.body, bytes) else b"")
    own_type = reply.media_type.startswith("text/")  # errors are JSON, whatever the router thinks is asked for
    response.headers["Content-Type"] = reply.media_type if own_type else "application/json"
    for name, value in reply.headers:
        response.headers[name] = ", ".join(_methods(value.split(", "))) if name == "Allow" else value
    return response


_MISSING = "The resource requires authentication, which was not supplied with the request"
_INVALID = "The supplied authentication is invalid"


def _methods(allow: tuple[str, ...] | list[str]) -> list[str]:
    """In the order that the protocol's clients know, and without HEAD and OPTIONS."""
    return [each for each in ("GET", "POST", "PUT", "DELETE") if each in allow]
