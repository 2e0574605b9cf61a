"""The writing half of a client's connection, as streams use it: it never waits, and it knows when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from kafka_gateway.config import Config
from kafka_gateway.core import Gateway
from kafka_gateway.door.client_writer import ClientWriter, taken
from kafka_gateway.errors import ServiceError
from kafka_gateway.memory_budget import COUNT_FROM
from kafka_gateway.stream import Feed, Payload
from kafka_gateway.transports.records.frames import Frame


class StreamLimits:
    """What may wait for one client, in bytes, and how long it may accept none of it, in seconds."""

    __slots__ = ("buffer_bytes", "write_timeout_s")

    def __init__(self, config: Config) -> None:
        self.buffer_bytes = config.integer("stream.buffer.bytes")
        self.write_timeout_s = config.seconds("stream.write.timeout.ms")


class Connection(ClientWriter):
    """Writes on a connection that stays aiohttp's, for streams that wait until what they have sent is gone."""

    __slots__ = ("_protocol",)

    CARRIER = "http"
    """The transport under whose name its clients are counted."""

    def __init__(self, protocol: Any, limits: StreamLimits, gateway: Gateway) -> None:
        super().__init__(protocol.transport, gateway.memory, limits.write_timeout_s, self.CARRIER)
        protocol.transport.set_write_buffer_limits(0)
        self._protocol = protocol

    def beat(self) -> None:
        """Shows a sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self._stay_alive()

    def _stay_alive(self) -> None:
        raise NotImplementedError

    async def flushed(self) -> None:
        """Returns when the system has taken all that was put; ConnectionResetError if the client left."""
        try:
            await taken(self._protocol, self)
        except ConnectionResetError:
            self.close()
            raise

    def release(self) -> None:
        """The stream is over; the connection goes on as it was."""
        self.unwatch()
        if self.transport is not None and self._protocol.transport is not None:
            self.transport.set_write_buffer_limits()


class FeedConnection(ClientWriter, asyncio.Protocol):
    """A client's connection from the moment when it is only written to (gateway.stream.Outlet).

    It takes the place of aiohttp's protocol, and of the task that a request has: nothing is left of a connection but
    this, its session, and what feeds it. Above ``stream.buffer.bytes`` of unsent data the feed is paused.
    """

    __slots__ = (
        "_alive",
        "_buffer_bytes",
        "_feed",
        "_frame",
        "_gone",
        "_heartbeats",
        "_last_bytes",
        "error",
        "is_full",
    )

    CARRIER = "http"
    """As in `Connection`."""

    def __init__(
        self,
        transport: asyncio.Transport | None,
        limits: StreamLimits,
        gateway: Gateway,
        feed: Feed,
        frame: Frame,
        alive: bytes,
        last_bytes: bytes,
    ) -> None:
        """``alive`` is a sign of life, ``last_bytes`` the last bytes when the feed has ended."""
        super().__init__(transport, gateway.memory, limits.write_timeout_s, self.CARRIER)
        # What waits is counted long before it is so much that the feed must pause.
        cast(asyncio.Transport, transport).set_write_buffer_limits(min(COUNT_FROM, limits.buffer_bytes))
        self._buffer_bytes = limits.buffer_bytes
        self._feed, self._heartbeats, self._frame, self._alive, self._last_bytes = (
            feed,
            gateway.heartbeats,
            frame,
            alive,
            last_bytes,
        )
        self._gone: Callable[[int], None] | None = None
        self.error: ServiceError | None = None
        """With which the stream has ended."""
        self.is_full = False

    def begin(self, gone: Callable[[int], None]) -> None:
        """The connection is ours. ``gone`` is told how many bytes were sent, when it is lost."""
        self._gone = gone
        self._heartbeats.add(self, self._feed.heartbeat_s)
        self._feed.connect(self, self._over)

    def write(self, event: Payload) -> bool:
        try:
            frame: bytes = event.frames[self._frame]
        except KeyError:
            frame = event.frames[self._frame] = self._frame(event)
            if event.error is not None:
                self.error = event.error
        transport = self.transport
        if transport is None:
            return False
        transport.write(frame)
        self.written_bytes += len(frame)
        if self._stall_check is None:  # nothing waits
            return True
        self._fill()
        return not self.is_full

    def beat(self) -> None:
        """Shows a sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self._stay_alive()

    def _stay_alive(self) -> None:
        self.put(self._alive)

    def _fill(self) -> None:
        """The client is behind: what waits is counted, and may be too much."""
        self.watch()
        self.is_full = self.waiting_bytes > self._buffer_bytes

    def _over(self) -> None:
        """The feed has ended: so does the connection, when the client has taken what waits."""
        self.put(self._last_bytes)
        self._close()

    def _close(self) -> None:
        if self.waiting_bytes:
            self.watch()
        if self.transport is not None:
            self.transport.close()

    # --- what the event loop calls ----------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        """The client has closed its sending side, or is gone: it is sent what ends by itself."""
        is_secure = self.transport is not None and self.transport.get_extra_info("sslcontext") is not None
        return self._feed.ends_itself and not is_secure

    def data_received(self, data: bytes) -> None:
        """Drops what the client sends: nobody would answer it."""

    def pause_writing(self) -> None:
        self._fill()

    def resume_writing(self) -> None:
        self.caught_up()
        if self.is_full:
            self.is_full = False
            self._feed.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.close()
        self._heartbeats.remove(self)
        self._feed.end()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone(self.written_bytes)
