"""The writing half of a client's connection, as streams use it: it never waits, and it knows when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kafka_gateway.config import Config
from kafka_gateway.dialect import error_event
from kafka_gateway.errors import REVOKED, CloseReason, ProofEnded, ServiceError
from kafka_gateway.heartbeats import HeartbeatTimer
from kafka_gateway.stream import Event, Feed
from kafka_gateway.transports.records.frames import Frame


class StreamLimits:
    """What may wait for one client, in bytes, and how long it may accept none of it, in seconds."""

    __slots__ = ("buffer_bytes", "write_timeout_s")

    def __init__(self, config: Config) -> None:
        self.buffer_bytes = config.integer("stream.buffer.bytes")
        self.write_timeout_s = config.seconds("stream.write.timeout.ms")


class Writer:
    """Writes to a client, at once, and cuts it off if it accepts no byte for the write timeout although some wait.

    Only a client for which something waits has a timer.
    """

    __slots__ = ("_limits", "_loop", "_stall_check", "transport", "written_bytes")

    def __init__(self, transport: asyncio.Transport | None, limits: StreamLimits, high: int) -> None:
        """``high``: bytes that may wait before the protocol is told to pause. ConnectionResetError if it is gone."""
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        transport.set_write_buffer_limits(high, high // 4)
        self.transport: asyncio.Transport | None = transport
        self.written_bytes = 0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._stall_check: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        """Takes the data, however much waits already."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
            self.written_bytes += len(data)

    @property
    def waiting_bytes(self) -> int:
        """What the client has not accepted yet."""
        transport = self.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def look(self) -> bool:
        """Whether nothing waits for the client; if something does, it is watched from now on."""
        if not self.waiting_bytes:
            return True
        self.watch()
        return False

    def watch(self) -> None:
        """Cuts the client off if it accepts nothing from now on."""
        if self._stall_check is None:
            accepted = self.written_bytes - self.waiting_bytes
            self._stall_check = self._loop.call_later(self._limits.write_timeout_s, self._check_stall, accepted)

    def unwatch(self) -> None:
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None

    def _check_stall(self, accepted_before: int) -> None:
        self._stall_check = None
        transport = self.transport
        if transport is None or not (waiting := transport.get_write_buffer_size()):
            return
        if self.written_bytes - waiting > accepted_before:
            self.watch()
        else:
            transport.abort()


class Connection(Writer):
    """Writes on a connection that stays aiohttp's, for streams that wait until what they have sent is gone."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Any, limits: StreamLimits) -> None:
        super().__init__(protocol.transport, limits, 0)
        self._protocol = protocol

    def beat(self) -> None:
        """Shows a sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self._stay_alive()

    def _stay_alive(self) -> None:
        raise NotImplementedError

    async def flushed(self) -> None:
        """Returns when the system has taken all that was put; ConnectionResetError if the client left."""
        protocol = self._protocol
        while protocol.writing_paused and protocol.transport is not None:
            self.watch()
            waiter: asyncio.Future[None] | None = protocol._drain_waiter
            if waiter is None:
                waiter = protocol._drain_waiter = self._loop.create_future()
            await asyncio.shield(waiter)
        if protocol.transport is None:
            self.transport = None
            raise ConnectionResetError("the client left")

    def release(self) -> None:
        """The stream is over; the connection goes on as it was."""
        self.unwatch()
        if self.transport is not None and self._protocol.transport is not None:
            self.transport.set_write_buffer_limits()


class FeedConnection(Writer, asyncio.Protocol):
    """A client's connection from the moment when it is only written to (gateway.stream.Outlet).

    It takes the place of aiohttp's protocol, and of the task that a request has: nothing is left of a connection but
    this, its session, and what feeds it. Above ``stream.buffer.bytes`` of unsent data the feed is paused.
    """

    __slots__ = ("_alive", "_feed", "_frame", "_gone", "_goodbye", "_heartbeats", "is_full")

    def __init__(
        self,
        transport: asyncio.Transport | None,
        limits: StreamLimits,
        feed: Feed,
        heartbeats: HeartbeatTimer,
        frame: Frame,
        alive: bytes,
        goodbye: bytes,
    ) -> None:
        """``alive`` is a sign of life, ``goodbye`` the last bytes when the feed has ended."""
        super().__init__(transport, limits, limits.buffer_bytes)
        self._feed, self._heartbeats, self._frame, self._alive, self._goodbye = feed, heartbeats, frame, alive, goodbye
        self._gone: Callable[[int], None] | None = None
        self.is_full = False

    def begin(self, gone: Callable[[int], None]) -> None:
        """The connection is ours. ``gone`` is told how many bytes were sent, when it is lost."""
        self._gone = gone
        self._heartbeats.add(self, self._feed.heartbeat_s)
        self._feed.connect(self, self._over)

    def write(self, event: Event) -> bool:
        frames = event.frames
        frame: bytes | None = frames.get(self._frame)
        if frame is None:
            frame = frames[self._frame] = self._frame(event)
        transport = self.transport
        if transport is None:
            return False
        transport.write(frame)
        self.written_bytes += len(frame)
        return not self.is_full

    def beat(self) -> None:
        """Shows a sign of life, for proxies and clients that give up a silent connection."""
        if self.look():
            self._stay_alive()

    def _stay_alive(self) -> None:
        self.put(self._alive)

    def session_closed(self, reason: CloseReason) -> None:
        """Tells the client why its session has ended (gateway.session.Session.on_close)."""
        if reason is REVOKED:
            self.fail(ProofEnded())

    def fail(self, error: ServiceError) -> None:
        """Ends the stream for a reason that is not its own."""
        self.write(error_event(error))
        self._feed.end()

    def abort(self) -> None:
        """Ends the connection without a word."""
        if self.transport is not None:
            self.transport.abort()

    def _over(self) -> None:
        """The feed has ended: so does the connection, when the client has taken what waits."""
        self.put(self._goodbye)
        self._close()

    def _close(self) -> None:
        if self.waiting_bytes:
            self.watch()
        if self.transport is not None:
            self.transport.close()

    # --- what the event loop calls ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Whatever else the client sends has nobody to answer it."""

    def pause_writing(self) -> None:
        self.is_full = True
        self.watch()

    def resume_writing(self) -> None:
        self.is_full = False
        self._feed.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self.unwatch()
        self._heartbeats.remove(self)
        self._feed.end()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone(self.written_bytes)
