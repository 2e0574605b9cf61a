"""Record streams on plain WebSockets (streams.md §2): one message a batch, opened by the very URL of the stream.

There is no envelope and nothing to subscribe to; what the client sends is ignored, but for acknowledgements (§5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from aiohttp import web

from gateway import media
from gateway.core import Gateway
from gateway.dialect import error_event
from gateway.errors import GONE, SHUTDOWN, ServiceError
from gateway.messages import Reply, Request
from gateway.session import Session
from gateway.stream import Acknowledged, Event, Stream
from transports.connection import Connection, StreamLimits
from transports.frames import Socket
from transports.incoming import base_url
from transports.query import parse_query
from transports.stream_frames import PING_FRAME, text_frame

HEARTBEAT_S = 15


class SocketOutlet(Connection):
    """Writes the events of one stream as messages and waits until they have left (gateway.core.Sink)."""

    __slots__ = ()

    async def send(self, payload: bytes) -> None:
        self.put(text_frame(cast(Event, payload)))
        await self.flushed()

    def beat(self) -> None:
        """A sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self.put(PING_FRAME)


async def open_stream(request: web.BaseRequest, session: Session, gateway: Gateway) -> Reply:
    """What the gateway answers to the request for a stream: the stream, or why there is none."""
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {name.lower(): value for name, value in request.headers.items()}
    headers["accept"] = media.EVENTS
    asked: Mapping[str, str] = parse_query(query)
    return await gateway.dispatch(
        Request(session, "GET", path, asked, headers, base_url=base_url(request, request.headers))
    )


async def serve_stream(
    request: web.BaseRequest, socket: Socket, stream: Stream, session: Session, gateway: Gateway, limits: StreamLimits
) -> int:
    """Sends the stream until it or the client is gone; how many bytes that were."""
    outlet = SocketOutlet(request.protocol, limits)
    gateway.pulse.add(outlet, getattr(stream, "heartbeat_s", HEARTBEAT_S))
    session.on_close = socket.close

    async def deliver() -> None:
        try:
            await gateway.deliver(stream, outlet, session, limits.write_timeout_s)
        except ServiceError as error:
            outlet.put(text_frame(error_event(error)))
        socket.close(SHUTDOWN if gateway.stopping else GONE)

    def take(message: bytes, is_text: bool) -> None:
        if isinstance(stream, Acknowledged):
            stream.acknowledge(message)

    session.spawn(deliver(), "stream")
    try:
        await socket.run(take)
    finally:
        session.on_close = None
        gateway.pulse.remove(outlet)
        outlet.release()
        session.streams.discard(stream)
        await stream.aclose()
    return outlet.written_bytes
