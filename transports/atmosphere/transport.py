"""The Atmosphere transports over HTTP: SSE, streaming and long-polling (atmosphere-binding.md §3).

A client opens a stream, or polls, and sends requests of their own beside it. These carry an envelope, or are plain REST
requests; what is answered goes to the stream. How bytes travel there is in ``sse``, ``streaming`` and ``long_polling``;
who the client is, in ``clients``; what the protocol says, in ``atmosphere``.
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
from kafka_gateway.errors import (
    GONE,
    NO_MEMORY,
    BadRequest,
    NotFound,
    NotSupported,
    ServiceError,
    ShuttingDown,
    Unavailable,
    UpgradeRequired,
)
from kafka_gateway.messages import Reply, Request
from kafka_gateway.query import parse_query
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload, Stream
from kafka_gateway.transport import Transport, refusal
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.channel import HttpChannel, write_stream
from kafka_gateway.transports.atmosphere.long_polling import LONG_POLLING, PolledChannel, PollLimits
from kafka_gateway.transports.atmosphere.protocol import AtmosphereSettings, Kind, Parameters
from kafka_gateway.transports.atmosphere.sse import SSE
from kafka_gateway.transports.atmosphere.streaming import STREAMING
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.envelope.tracking_ids import CLOSED, TrackedClient, TrackingIds

_FRAMINGS = {framing.name: framing for framing in (SSE, STREAMING, LONG_POLLING)}
_EXPOSED = "X-Atmosphere-tracking-id, X-Heartbeat-Server"
_EMPTY = "text/plain;charset=utf-8"


class AtmosphereTransport(Transport):
    """All three, because all but their opening request is the same. Each can be switched off by its name."""

    name = "atmosphere"

    def __init__(self, config: Config) -> None:
        self._settings = AtmosphereSettings.of(config)
        self._conversations = EnvelopeSettings.of(config)
        self._limits = PollLimits(config)
        self._clients_max = config.integer("connections.max")
        self._idle_s = config.seconds("org.atmosphere.websocket.maxIdleTime")
        self._offered = {name for name in _FRAMINGS if config.flag(f"transport.{name}.enable")}
        self._disabled = config.flag("de.elakito.kafka.atmosphere.disabled")
        self._bodies = BodyReader(config)
        self._clients = TrackingIds()
        self._polled_count = 0

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        self._clients = TrackingIds.of(gateway)
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
        except BadRequest:  # a query that cannot be read: plain HTTP says so
            return False
        return kind is not Kind.REST

    def _read(self, request: web.BaseRequest) -> tuple[Kind, Parameters, Mapping[str, str]]:
        headers = request.headers
        path, _, text = request.raw_path.partition("?")
        query = parse_query(text)
        parameters = atmosphere.parameters(headers, query)
        live = bool(parameters.tracking_id) and self._clients.knows(parameters.tracking_id)
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
            return await self._open(request, parameters, session, gateway)
        client = self._clients.find(parameters.tracking_id, session)
        if kind is Kind.CLOSE:
            if client is not None:
                client.channel.close(CLOSED)
            return self._response(request, parameters, Reply(200, _EMPTY, b""))
        return await self._push(request, parameters, query, client, session, gateway)

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        response = refusal(error, request)
        if isinstance(error, NotSupported):  # clients then fall back on another transport (§3.13)
            response.headers[atmosphere.ERROR] = "Websocket protocol not supported"
        return response

    # --- opening ----------------------------------------------------------------------------------------------------

    async def _open(
        self, request: HttpRequest, parameters: Parameters, session: Session, gateway: Gateway
    ) -> web.StreamResponse:
        if gateway.stopping:
            raise ShuttingDown()
        if gateway.homes is not None:
            # Its requests come over many connections, and only this worker would know the client (docs/cluster.md).
            raise NotSupported("Atmosphere over plain HTTP needs workers=1; its WebSocket transport does not.")
        request.stays_open()
        name = parameters.transport or SSE.name
        if name not in self._offered:
            raise NotSupported(f"The transport {name} is switched off (transport.{name}.enable).")
        if name == LONG_POLLING.name:
            return await self._poll(request, parameters, session, gateway)
        channel = HttpChannel(_FRAMINGS[name], self._settings, parameters, self._clients, gateway)
        client = self._client(request, channel, gateway.proofs.open_beside(session, name), gateway)
        response = web.StreamResponse(headers=self._headers(request, parameters, client.tracking_id))
        response.headers["Content-Type"] = channel.framing.media_type
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Accel-Buffering"] = "no"
        channel.admit(client, self._idle_s)
        try:
            await response.prepare(request)
            # One write: the handshake has to be the first that the client sees, and a message of its own (§3.3).
            first = channel.framing.opening(parameters.major_version)
            if parameters.wants_handshake:
                first += channel.framing.frame(channel.wrap(self._handshake(client)))
            writer = ResponseWriter(request, response, gateway.memory, self._conversations.write_timeout_s, name)
            try:
                if first:
                    await writer.write(first)
                await write_stream(channel, writer)
                await response.write_eof()
            finally:
                writer.unwatch()
        finally:
            if channel.ended is NO_MEMORY and request.transport is not None:
                request.transport.abort()  # what it has not read would stay in memory
            channel.close(GONE)
            channel.send_queue.close()
        return response

    async def _poll(
        self, request: HttpRequest, parameters: Parameters, session: Session, gateway: Gateway
    ) -> web.StreamResponse:
        client = self._clients.find(parameters.tracking_id, session) if parameters.tracking_id else None
        channel = client.channel if client is not None else None
        greet = parameters.wants_handshake
        if client is not None and isinstance(channel, PolledChannel):
            gateway.proofs.keep_newer(client.session, session)
            greet = greet and channel.aborted
            channel.aborted = False
        else:
            if self._polled_count >= self._clients_max:
                raise Unavailable("There are connections.max clients that poll.")
            self._polled_count += 1
            channel = PolledChannel(
                self._limits, self._forget_polled, self._settings, parameters, self._clients, gateway
            )
            client = self._client(request, channel, gateway.proofs.open_beside(session, LONG_POLLING.name), gateway)
            channel.admit(client, self._idle_s)
        if greet:
            body = channel.wrap(self._handshake(client))
            return self._response(request, parameters, Reply(200, _EMPTY, body), client.tracking_id)
        response = web.StreamResponse(headers=self._headers(request, parameters, client.tracking_id))
        response.headers["Content-Type"] = LONG_POLLING.media_type
        response.headers["X-Content-Type-Options"] = "nosniff"  # or Chromium holds the head back until it sees a body
        writer = ResponseWriter(
            request, response, gateway.memory, self._conversations.write_timeout_s, LONG_POLLING.name
        )
        try:
            await channel.poll(request, response, writer)
        finally:
            writer.unwatch()
        return response

    def _forget_polled(self) -> None:
        self._polled_count -= 1

    def _client(self, request: HttpRequest, channel: HttpChannel, session: Session, gateway: Gateway) -> TrackedClient:
        parameters = channel.parameters
        conversation = EnvelopeSession(
            self._conversations,
            channel,
            session,
            gateway,
            request.headers,
            request.base_url(),
            form=parameters.form,
            reply_headers=parameters.reply_headers,
            wrap=channel.wrap,
            text_only=True,
        )
        tracking_id = parameters.tracking_id or atmosphere.new_id()
        path = request.raw_path.partition("?")[0]
        return TrackedClient(tracking_id, path, session, conversation, channel, channel.room)

    def _handshake(self, client: TrackedClient) -> bytes:
        settings = self._settings
        return atmosphere.handshake(client.tracking_id, settings.client_heartbeat_ms, settings.heartbeat.decode())

    # --- pushes -----------------------------------------------------------------------------------------------------

    async def _push(
        self,
        request: HttpRequest,
        parameters: Parameters,
        query: Mapping[str, str],
        client: TrackedClient | None,
        session: Session,
        gateway: Gateway,
    ) -> web.StreamResponse:
        body = await self._bodies.read(request, gateway) if request.body_exists else b""
        path = request.raw_path.partition("?")[0]
        if client is None:  # the id is another principal's: as if nobody had it (S6)
            return await self._call(request, parameters, query, body, None, session, gateway)
        gateway.proofs.keep_newer(client.session, session)
        await client.room()
        if request.method != "POST" or path != client.path:
            return await self._call(request, parameters, query, body, client, client.session, gateway)
        if client.session.closed is not None:
            raise NotFound("The client with this tracking id is gone.")
        client.conversation.take(body)
        return self._response(request, parameters, Reply(200, _EMPTY, b""))

    async def _call(
        self,
        request: HttpRequest,
        parameters: Parameters,
        query: Mapping[str, str],
        body: bytes,
        client: TrackedClient | None,
        session: Session,
        gateway: Gateway,
    ) -> web.StreamResponse:
        """A plain REST request: status and headers are answered here, the payload where the client listens (§3.7)."""
        headers, query = atmosphere.pushed_request(request.headers, query)
        reply = await gateway.dispatch(
            Request(
                session,
                request.method,
                request.raw_path.partition("?")[0],
                query,
                headers,
                body,
                request.base_url,
                one_reply=client is None,
                default_generation=self._conversations.generation,
            )
        )
        request.facts = reply.facts(len(body))
        payload = reply.body
        gone = client is None or session.closed is not None
        if not isinstance(payload, bytes):
            if client is None or gone:
                await payload.aclose()
                raise UpgradeRequired()
            session.spawn(self._deliver(payload, client, gateway, reply.request_id), "push")
            return self._response(request, parameters, Reply(204, "", b"", reply.headers))
        if client is None or gone:
            return self._response(request, parameters, reply)
        if payload and reply.status != 204 and request.method != "HEAD":
            client.conversation.send(payload)
        return self._response(request, parameters, Reply(reply.status, reply.media_type, b"", reply.headers))

    async def _deliver(self, stream: Stream, client: TrackedClient, gateway: Gateway, request_id: str) -> None:
        try:
            await gateway.deliver(stream, _Sink(client), client.session, None)
        except ServiceError as error:
            client.conversation.send(gateway.error_body(error, request_id))

    # --- responses --------------------------------------------------------------------------------------------------

    def _headers(self, request: HttpRequest, parameters: Parameters, tracking_id: str) -> dict[str, str]:
        headers = atmosphere.response_headers(parameters, tracking_id)
        headers["Server"] = "kafka-gateway"
        if any(name == "Access-Control-Allow-Origin" for name, _ in request.cors):
            headers["Access-Control-Expose-Headers"] = _EXPOSED
        return headers

    def _response(
        self, request: HttpRequest, parameters: Parameters, reply: Reply, tracking_id: str = ""
    ) -> web.Response:
        assert isinstance(reply.body, bytes)
        headers = self._headers(request, parameters, tracking_id or parameters.tracking_id)
        headers.update(reply.headers)
        if reply.media_type:
            headers["Content-Type"] = reply.media_type
        return web.Response(status=reply.status, headers=headers, body=reply.body)


class _Sink:
    """Payloads of a stream, bare (gateway.delivery.Sink)."""

    __slots__ = ("_client",)

    takes_errors = True

    def __init__(self, client: TrackedClient) -> None:
        self._client = client

    async def send(self, payload: Payload) -> None:
        self._client.conversation.send(payload.data)
        await self._client.channel.drain()
