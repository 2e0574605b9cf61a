"""Data that waits for one client: it counts in the memory budget, and a client that takes none of it is cut off.

This is the only place where a slow client is noticed, whatever is sent to it: a reply, the records of a stream, the
messages of a WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from kafka_gateway.door.client_address import peer_of
from kafka_gateway.memory_budget import COUNT_FROM, Claim, MemoryBudget

log = logging.getLogger("gateway.host")


class ClientWriter:
    """Writes to a client, at once, and cuts it off if it accepts no byte for the write timeout although some wait.

    Only a client for which something waits has a timer and a claim. A caller that writes much checks afterwards
    whether the client is behind, and calls ``watch`` then. ``close`` when the connection is lost, or somebody else's.
    """

    __slots__ = ("_carrier", "_claim", "_loop", "_memory", "_stall_check", "_timeout_s", "transport", "written_bytes")

    def __init__(
        self, transport: asyncio.Transport | None, memory: MemoryBudget, write_timeout_s: float, carrier: str
    ) -> None:
        """``carrier`` is the transport under whose name the client is counted if it is given up.

        ConnectionResetError if the client is gone.
        """
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client left")
        self.transport: asyncio.Transport | None = transport
        self.written_bytes = 0
        self._memory, self._timeout_s, self._carrier = memory, write_timeout_s, carrier
        self._loop = asyncio.get_running_loop()
        self._stall_check: asyncio.TimerHandle | None = None
        self._claim: Claim | None = None

    def put(self, data: bytes) -> None:
        """Takes the data, however much waits already."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
            self.written_bytes += len(data)
            if self._claim is not None:
                self._count()

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
        """Cuts the client off if it accepts nothing from now on, and counts what waits for it."""
        if self._stall_check is None:
            accepted = self.written_bytes - self.waiting_bytes
            self._stall_check = self._loop.call_later(self._timeout_s, self._check_stall, accepted)
        self._count()

    def caught_up(self) -> None:
        """Notes that the client is not behind any more. Its timer ends by itself."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def unwatch(self) -> None:
        """Stops watching the client."""
        self.caught_up()
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None

    def close(self) -> None:
        """Ends all writing and watching."""
        self.unwatch()
        self.transport = None

    def abort(self) -> None:
        """Ends the connection without a message. What the client has not taken is dropped."""
        if self.transport is not None:
            self.transport.abort()

    def cut_off(self, why: str) -> None:
        """As ``give_up``, for a reason of this connection's own, which the log is told."""
        if self.transport is not None:
            peer = peer_of(self.transport.get_extra_info("peername"))
            log.info("a connection of %s (%s) is cut off: %s", peer, self._carrier, why)
        self.give_up()

    def give_up(self) -> None:
        """As ``abort``, of a client that does not read; it is counted."""
        if self._stall_check is not None:
            self._stall_check.cancel()
        if self.transport is not None:
            self._memory.slow_clients[self._carrier] += 1
            self.transport.abort()

    def _count(self) -> None:
        waiting = self.waiting_bytes
        if self._claim is None:
            if waiting < COUNT_FROM:
                return
            self._claim = self._memory.claim(self.give_up)
        self._claim.set_to(waiting)

    def _check_stall(self, accepted_before: int) -> None:
        self._stall_check = None
        waiting = self.waiting_bytes
        if not waiting:
            self.caught_up()
        elif self.written_bytes - waiting > accepted_before:
            self.watch()
        else:
            self.cut_off(f"its client accepts none of the {waiting} bytes that wait for it, for {self._timeout_s:g} s")


async def taken(protocol: Any, writer: ClientWriter) -> None:
    """Returns when the client is not behind (any more); ConnectionResetError if it left.

    ``protocol`` is the `gateway.door.connection.HttpConnection` on which was written. Others may wait for the same.
    """
    while protocol.writing_paused and protocol.transport is not None:
        writer.watch()
        await asyncio.shield(protocol.drained())
    writer.caught_up()
    if protocol.transport is None:
        raise ConnectionResetError("the client left")
