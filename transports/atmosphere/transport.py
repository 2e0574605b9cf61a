"""The Atmosphere transports over HTTP: SSE, streaming and long-polling (atmosphere-binding.md §3).

A client opens a stream, or polls, and sends requests of their own beside it. These carry an envelope, or are plain REST
requests; what is answered goes to the stream. Here requests are told apart and replies written; what they do to the
client is in ``clients``, of this process or of the worker that keeps the client. How bytes travel is in ``sse``,
``streaming`` and ``long_polling``; what the protocol says, in ``protocol``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.body import BodyReader
from kafka_gateway.door.request import HttpRequest
from kafka_gateway.door.response_writer import ResponseWriter
from kafka_gateway.errors import BadRequest, NotSupported, ServiceError, ShuttingDown
from kafka_gateway.memory_budget import OutOfMemory
from kafka_gateway.messages import Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.relays import UNKNOWN, Relays
from kafka_gateway.session import Session
from kafka_gateway.stream import Stream
from kafka_gateway.transport import Transport, refusal
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.clients import AtmosphereClients
from kafka_gateway.transports.atmosphere.protocol import Kind, Parameters
from kafka_gateway.transports.atmosphere.sse import SSE
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.envelope.tracking_ids import TrackingIds

_EXPOSED = "X-Atmosphere-tracking-id, X-Heartbeat-Server"


class AtmosphereTransport(Transport):
    """All three, because all but their opening request is the same. Each can be switched off by its name."""

    name = "atmosphere"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._write_timeout_s = EnvelopeSettings.of(config).write_timeout_s
        self._disabled = config.flag("de.elakito.kafka.atmosphere.disabled")
        self._bodies = BodyReader(config)
        self._relays = Relays()
        self._ids = TrackingIds(self._relays)
        self._clients: AtmosphereClients

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        self._relays = Relays.of(gateway)
        self._ids = TrackingIds.of(gateway)
        self._clients = AtmosphereClients(self._config, gateway)
        self._relays.handlers[self.name] = self._serve_for_another
        yield

    def claims(self, request: web.BaseRequest) -> bool:
        headers, target = request.headers, request.raw_path
        if "?" in target or "X-Atmosphere-Transport" in headers:
            if "X-Atmosphere-Transport" not in headers and "x-atmosphere-" not in target.lower():
                return False
        elif target != "/" or "text/event-stream" not in headers.get("Accept", ""):
            return False
        if self._disabled or headers.get("Upgrade", "").strip().lower() == "websocket":
            return False
        try:
            kind, _, _ = self._read(request)
        except BadRequest:  # a query that cannot be read: plain HTTP answers that
            return False
        return kind is not Kind.REST

    def _read(self, request: web.BaseRequest) -> tuple[Kind, Parameters, Mapping[str, str]]:
        headers = request.headers
        path, _, text = request.raw_path.partition("?")
        query = parse_query(text)
        parameters = atmosphere.parameters(headers, query)
        tracking_id = parameters.tracking_id
        # Only that worker knows whether its client is there.
        live = self._ids.knows(tracking_id) or self._ids.elsewhere(tracking_id) is not None
        return (
            atmosphere.classify(request.method, path, headers.get("Accept", ""), parameters, live),
            parameters,
            query,
        )

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        kind, parameters, query = self._read(request)
        if kind is Kind.UNSUPPORTED:
            raise NotSupported(f"{parameters.transport} is no transport of this gateway, or not by plain HTTP.")
        request.lasts = kind is Kind.OPEN
        if kind is Kind.OPEN:
            if gateway.stopping:
                raise ShuttingDown()
            if gateway.homes is not None and self._relays.way is None:
                # Its requests come over many connections, and only this process would know the client.
                raise NotSupported(
                    "Atmosphere over plain HTTP needs cluster.peer.listener=tls://..., so that what clients prove"
                    " themselves with may go to other nodes; its WebSocket transport does not."
                )
            request.stays_open()
        body = await self._bodies.read(request, gateway) if kind is Kind.PUSH and request.body_exists else b""
        path = request.raw_path.partition("?")[0]
        asked = Request(session, request.method, path, query, request.headers, body, request.base_url, id=request.id)
        reply = await self._serve(asked, parameters)
        if reply is None:  # nobody has the id, or another principal has it: nobody may see the difference (S6)
            reply = await self._clients.call(asked, parameters, None)
        if reply.route:  # a request in a push, of which the access log tells
            request.facts = request.id, reply.route, len(body), reply.records
        if isinstance(reply.body, bytes):
            headers = self._headers(request, reply)
            return web.Response(status=reply.status, headers=headers, body=reply.body)
        try:
            return await self._write(request, reply, reply.body, parameters.transport or SSE.name, gateway)
        finally:
            session.streams.discard(reply.body)
            await reply.body.aclose()

    async def _serve(self, asked: Request, parameters: Parameters) -> Reply | None:
        worker = self._ids.elsewhere(parameters.tracking_id)
        if worker is None or self._relays.way is None:
            return await self._clients.serve(asked)
        reply = await self._relays.way.relay(self.name, asked, worker)
        if reply is None:
            return await self._clients.serve(asked)
        if not isinstance(reply.body, bytes):
            asked.session.add_stream(reply.body)  # it ends when the proof ends that opened it
        return None if reply.status == UNKNOWN else reply

    async def _serve_for_another(self, asked: Request) -> Reply:
        return await self._clients.serve(asked) or Reply(UNKNOWN, "", b"")

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error, request)
        if error.status == NotSupported.status:  # clients then fall back on another transport (§3.13)
            response.headers[atmosphere.ERROR] = "Websocket protocol not supported"
        return response

    # --- responses --------------------------------------------------------------------------------------------------

    async def _write(
        self, request: HttpRequest, reply: Reply, stream: Stream, name: str, gateway: Gateway
    ) -> web.StreamResponse:
        first = await anext(stream)
        response = web.StreamResponse(headers=self._headers(request, reply))
        await response.prepare(request)
        writer = ResponseWriter(request, response, gateway.memory, self._write_timeout_s, name)
        try:
            if first.data:
                await writer.write(first.data)
            async for payload in stream:
                await writer.write(payload.data)
            await response.write_eof()
        except ServiceError as error:
            if error.status == OutOfMemory.status and request.transport is not None:
                request.transport.abort()  # what it has not read would stay in memory
        finally:
            writer.unwatch()
        return response

    def _headers(self, request: HttpRequest, reply: Reply) -> dict[str, str]:
        headers = {"Server": "kafka-gateway"}
        if any(name == "Access-Control-Allow-Origin" for name, _ in request.cors):
            headers["Access-Control-Expose-Headers"] = _EXPOSED
        headers.update(reply.headers)
        if reply.media_type:
            headers["Content-Type"] = reply.media_type
        return headers
