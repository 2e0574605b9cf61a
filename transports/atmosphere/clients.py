"""The Atmosphere clients of this process on HTTP: what each of their requests does (atmosphere-binding.md §3).

No HTTP here: requests come in as `kafka_gateway.messages.Request`, and what is answered is a Reply, whose body is a
stream where the client listens. So it does not matter to which process the client is connected.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.errors import (
    GONE,
    NO_MEMORY,
    NotFound,
    NotSupported,
    ServiceError,
    ShuttingDown,
    Unavailable,
    UpgradeRequired,
)
from kafka_gateway.memory_budget import OutOfMemory
from kafka_gateway.messages import Reply, Request
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload, Stream
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.channel import HttpChannel, pieces_of
from kafka_gateway.transports.atmosphere.long_polling import LONG_POLLING, PolledChannel, PollLimits
from kafka_gateway.transports.atmosphere.protocol import AtmosphereSettings, Kind, Parameters
from kafka_gateway.transports.atmosphere.sse import SSE
from kafka_gateway.transports.atmosphere.streaming import STREAMING
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.envelope.tracking_ids import CLOSED, TrackedClient, TrackingIds

_FRAMINGS = {framing.name: framing for framing in (SSE, STREAMING, LONG_POLLING)}
_EMPTY = "text/plain;charset=utf-8"


class AtmosphereClients:
    """Belongs to the event loop."""

    def __init__(self, config: Config, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = AtmosphereSettings.of(config)
        self._conversations = EnvelopeSettings.of(config)
        self._limits = PollLimits(config)
        self._clients_max = config.integer("connections.max")
        self._idle_s = config.seconds("org.atmosphere.websocket.maxIdleTime")
        self._offered = {name for name in _FRAMINGS if config.flag(f"transport.{name}.enable")}
        self._ids = TrackingIds.of(gateway)
        self._polled_count = 0

    async def serve(self, request: Request) -> Reply | None:
        """The reply; None if it is meant for a client that is not here, or not this principal's (S6).

        Raises NotSupported, ShuttingDown, Unavailable, and what opening a session does.
        """
        parameters = atmosphere.parameters(request.headers, request.query)
        live = self._ids.knows(parameters.tracking_id)
        kind = atmosphere.classify(request.method, request.path, request.headers.get("accept", ""), parameters, live)
        if kind is Kind.OPEN:
            return self._open(request, parameters)
        client = self._ids.find(parameters.tracking_id, request.session)
        if kind is Kind.CLOSE:
            if client is not None:
                client.channel.close(CLOSED)
            return _reply(parameters, Reply(200, _EMPTY, b""))
        return await self._push(request, parameters, client) if client is not None and kind is Kind.PUSH else None

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self, request: Request, parameters: Parameters) -> Reply:
        if self._gateway.stopping:
            raise ShuttingDown()
        name = parameters.transport or SSE.name
        if name not in self._offered:
            raise NotSupported(f"The transport {name} is switched off (transport.{name}.enable).")
        if name == LONG_POLLING.name:
            return self._poll(request, parameters)
        channel = HttpChannel(_FRAMINGS[name], self._settings, parameters, self._ids, self._gateway)
        client = self._client(request, channel, self._gateway.proofs.open_beside(request.session, name))
        channel.admit(client, self._idle_s, f"{request.method} {request.path}")
        # One write: the handshake has to be the first that the client sees, and a message of its own (§3.3).
        first = channel.framing.opening(parameters.major_version)
        if parameters.wants_handshake:
            first += channel.framing.frame(channel.wrap(self._handshake(client)))

        def over() -> None:
            channel.close(GONE)
            channel.send_queue.close()

        headers = (("X-Content-Type-Options", "nosniff"), ("X-Accel-Buffering", "no"))
        pieces = Pieces(_stream(channel, first), over)
        return _reply(parameters, Reply(200, channel.framing.media_type, pieces, headers), client.tracking_id)

    def _poll(self, request: Request, parameters: Parameters) -> Reply:
        session, proofs = request.session, self._gateway.proofs
        client = self._ids.find(parameters.tracking_id, session) if parameters.tracking_id else None
        channel = client.channel if client is not None else None
        greet = parameters.wants_handshake
        if client is not None and isinstance(channel, PolledChannel):
            proofs.keep_newer(client.session, session)
            greet = greet and channel.aborted
            channel.aborted = False
        else:
            if self._polled_count >= self._clients_max:
                raise Unavailable("There are connections.max clients that poll.")
            self._polled_count += 1
            channel = PolledChannel(
                self._limits, self._forget_polled, self._settings, parameters, self._ids, self._gateway
            )
            client = self._client(request, channel, proofs.open_beside(session, LONG_POLLING.name))
            channel.admit(client, self._idle_s, f"{request.method} {request.path}")
        if greet:
            body = channel.wrap(self._handshake(client))
            return _reply(parameters, Reply(200, _EMPTY, body), client.tracking_id)
        # Without nosniff Chromium holds the head back until it sees a body.
        headers = (("X-Content-Type-Options", "nosniff"),)
        in_browser = request.headers.get("user-agent", "").startswith("Mozilla/")
        pieces = Pieces(channel.poll(in_browser))
        return _reply(parameters, Reply(200, LONG_POLLING.media_type, pieces, headers), client.tracking_id)

    def _forget_polled(self) -> None:
        self._polled_count -= 1

    def _client(self, request: Request, channel: HttpChannel, session: Session) -> TrackedClient:
        parameters, base_url = channel.parameters, request.base_url
        conversation = EnvelopeSession(
            self._conversations,
            channel,
            session,
            self._gateway,
            request.headers,
            base_url if isinstance(base_url, str) else base_url(),
            form=parameters.form,
            reply_headers=parameters.reply_headers,
            wrap=channel.wrap,
            text_only=True,
        )
        tracking_id = parameters.tracking_id or atmosphere.new_id(self._ids.mark)
        return TrackedClient(tracking_id, request.path, session, conversation, channel, channel.room)

    def _handshake(self, client: TrackedClient) -> bytes:
        settings = self._settings
        return atmosphere.handshake(client.tracking_id, settings.client_heartbeat_ms, settings.heartbeat.decode())

    # --- pushes -----------------------------------------------------------------------------------------------------

    async def _push(self, request: Request, parameters: Parameters, client: TrackedClient) -> Reply:
        self._gateway.proofs.keep_newer(client.session, request.session)
        await client.room()
        if request.method != "POST" or request.path != client.path:
            return await self.call(request, parameters, client)
        if client.session.closed is not None:
            raise NotFound("The client with this tracking id is gone.")
        client.conversation.take(request.body)
        return _reply(parameters, Reply(200, _EMPTY, b""))

    async def call(self, request: Request, parameters: Parameters, client: TrackedClient | None) -> Reply:
        """A plain REST request: status and headers are answered here, the payload where the client listens (§3.7).
        Without a client it is answered as a whole."""
        headers, query = atmosphere.pushed_request(request.headers, request.query)
        session = client.session if client is not None else request.session
        reply = await self._gateway.dispatch(
            Request(
                session,
                request.method,
                request.path,
                query,
                headers,
                request.body,
                request.base_url,
                one_reply=client is None,
                default_generation=self._conversations.generation,
                id=request.id,
            )
        )
        payload = reply.body
        gone = client is None or session.closed is not None
        if not isinstance(payload, bytes):
            if client is None or gone:
                await payload.aclose()
                raise UpgradeRequired()
            session.spawn(self._deliver(payload, client, reply.request_id), "push")
            return _reply(parameters, _told(reply, 204, ""))
        if client is None or gone:
            return _reply(parameters, reply)
        if payload and reply.status != 204 and request.method != "HEAD":
            client.conversation.send(payload)
        return _reply(parameters, _told(reply, reply.status, reply.media_type))

    async def _deliver(self, stream: Stream, client: TrackedClient, request_id: str) -> None:
        try:
            await self._gateway.deliver(stream, _Sink(client), client.session, None)
        except ServiceError as error:
            client.conversation.send(self._gateway.error_body(error, request_id))


def _reply(parameters: Parameters, reply: Reply, tracking_id: str = "") -> Reply:
    """The reply with the header fields of every response to an Atmosphere client."""
    headers = atmosphere.response_headers(parameters, tracking_id or parameters.tracking_id)
    headers.update(reply.headers)
    reply.headers = tuple(headers.items())
    return reply


def _told(reply: Reply, status: int, media_type: str) -> Reply:
    """The reply without its payload, which goes to the response on which the client listens."""
    return Reply(status, media_type, b"", reply.headers, route=reply.route, records=reply.records)


async def _stream(channel: HttpChannel, first: bytes) -> AsyncGenerator[bytes, None]:
    yield first
    async with contextlib.aclosing(pieces_of(channel)) as pieces:
        async for piece in pieces:
            yield piece
    if channel.ended is NO_MEMORY:
        raise OutOfMemory()  # what the client has not read would stay in memory


class Pieces:
    """What is written to a client, piece by piece (`kafka_gateway.stream.Stream`). The caller asks for the next one
    when it has written the one before. The first one comes at once, and may be empty: then the head is sent."""

    heartbeat_s = 0

    def __init__(self, pieces: AsyncGenerator[bytes, None], over: Callable[[], None] = lambda: None) -> None:
        self._pieces, self._over = pieces, over

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Payload:
        return Payload(await anext(self._pieces))

    async def aclose(self) -> None:
        await self._pieces.aclose()
        self._over()


class _Sink:
    """Payloads of a stream, bare (gateway.delivery.Sink)."""

    __slots__ = ("_client",)

    takes_errors = True

    def __init__(self, client: TrackedClient) -> None:
        self._client = client

    async def send(self, payload: Payload) -> None:
        self._client.conversation.send(payload.data)
        await self._client.channel.drain()
