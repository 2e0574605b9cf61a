"""The writing half of a client's connection, as streams use it: it never waits, and it knows when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.config import Config


class StreamLimits:
    """What may wait for one client, in bytes, and how long it may accept none of it, in seconds."""

    __slots__ = ("buffer_bytes", "write_timeout_s")

    def __init__(self, config: Config) -> None:
        self.buffer_bytes = config.integer("stream.buffer.bytes")
        self.write_timeout_s = config.seconds("stream.write.timeout.ms")


class Connection:
    """Writes to a client, at once.

    Above ``buffer_bytes`` of unsent data it is full; ``drained`` is called when it is empty enough again. A client that
    accepts no byte for the write timeout although some wait for it is cut off; only a client for which something waits
    has a timer.
    """

    __slots__ = ("_limits", "_loop", "_stall_check", "_waits", "drained", "protocol", "written_bytes")

    def __init__(self, protocol: Any, limits: StreamLimits, drained: Callable[[], None] | None) -> None:
        """``drained`` None: for a writer that waits, with ``flushed``, until everything has left."""
        transport: asyncio.Transport | None = protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        high = limits.buffer_bytes if drained is not None else 0
        transport.set_write_buffer_limits(high, high // 4)
        self.protocol = protocol
        self.drained = drained
        self.written_bytes = 0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._stall_check: asyncio.TimerHandle | None = None
        self._waits = False

    def put(self, data: bytes) -> bool:
        """Takes the data in any case; False when the connection is full, or gone."""
        protocol = self.protocol
        transport = protocol.transport
        if transport is None:
            return False
        transport.write(data)
        self.written_bytes += len(data)
        if protocol.writing_paused:
            self._filled()
            return False
        return True

    async def flushed(self) -> None:
        """Returns when the system has taken all that was put; ConnectionResetError if the client left."""
        protocol = self.protocol
        while protocol.writing_paused and protocol.transport is not None:
            self._filled()
            await asyncio.shield(self._drain_waiter())
        if protocol.transport is None:
            raise ConnectionResetError("the client left")

    @property
    def waiting_bytes(self) -> int:
        """What the client has not accepted yet."""
        transport = self.protocol.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def look(self) -> bool:
        """Whether nothing waits for the client; if something does, it is watched from now on."""
        if not self.waiting_bytes:
            return True
        self._watch()
        return False

    def release(self) -> None:
        """The stream is over; the connection goes on as it was."""
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None
        self.drained = None
        transport = self.protocol.transport
        if transport is not None:
            transport.set_write_buffer_limits()

    def _filled(self) -> None:
        waiter = self._drain_waiter()
        if self._stall_check is None:
            self._watch()
        if self.drained is not None and not self._waits:
            self._waits = True
            waiter.add_done_callback(self._resume)

    def _resume(self, drained: asyncio.Future[None]) -> None:
        self._waits = False
        if not drained.cancelled():
            drained.exception()  # seen: whoever waits for the client finds out by itself that it left
        if self.drained is not None and self.protocol.transport is not None:
            self.drained()

    def _drain_waiter(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] | None = self.protocol._drain_waiter
        if waiter is None:
            waiter = self.protocol._drain_waiter = self._loop.create_future()
        return waiter

    def _watch(self) -> None:
        if self._stall_check is None:
            accepted = self.written_bytes - self.waiting_bytes
            self._stall_check = self._loop.call_later(self._limits.write_timeout_s, self._check_stall, accepted)

    def _check_stall(self, accepted_before: int) -> None:
        self._stall_check = None
        transport = self.protocol.transport
        if transport is None or not transport.get_write_buffer_size():
            return
        if self.written_bytes - transport.get_write_buffer_size() > accepted_before:
            self._watch()
        else:
            transport.abort()
