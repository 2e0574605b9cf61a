"""What the Atmosphere transports over HTTP share (atmosphere-binding.md §3): messages wait for a response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from kafka_gateway.core import Gateway
from kafka_gateway.errors import IDLE, NO_MEMORY, SHUTDOWN, CloseReason
from kafka_gateway.transports.atmosphere import protocol as atmosphere
from kafka_gateway.transports.atmosphere.protocol import AtmosphereSettings, Parameters
from kafka_gateway.transports.atmosphere.send_queue import SendQueue
from kafka_gateway.transports.envelope.tracking_ids import TrackedClient, TrackingIds

CONGESTED_BYTES = 256 * 1024
"""With more on its way to a client no heartbeats are sent, and on a stream its further requests wait."""
_WRITE_BYTES = 64 * 1024
"""What is taken from the queue and written at once."""


@dataclass(frozen=True, slots=True)
class Framing:
    """What differs from one transport to the other.

    ``text`` turns a message into the text whose length counts (§3.4), and ``frame`` turns that into bytes to send.
    """

    name: str
    media_type: str
    text: Callable[[bytes], bytes]
    frame: Callable[[bytes], bytes]
    opening: Callable[[int], bytes]
    """The first bytes of a response, by the major version of the client."""
    json_heartbeats: bool


class HttpChannel:
    """Carries one client's messages (transports.envelope.session.Carrier), and ends the client.

    ``admit`` makes the rest of it. Nothing waits without bound: on a stream, requests wait for their client to read.
    """

    def __init__(
        self,
        framing: Framing,
        settings: AtmosphereSettings,
        parameters: Parameters,
        clients: TrackingIds,
        gateway: Gateway,
    ) -> None:
        self.framing = framing
        self.parameters = parameters
        self.send_queue = SendQueue(gateway.memory.claim(lambda: self.give_up(NO_MEMORY)))
        self.client: TrackedClient
        self.ended: CloseReason | None = None
        self._settings, self._clients, self._gateway = settings, clients, gateway
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._timers: dict[Callable[[], float], asyncio.TimerHandle] = {}

    def admit(self, client: TrackedClient, idle_s: float, request: str) -> None:
        """Makes the client known and starts its timers. ``request``: what it came with, as method and path."""
        self.client = client
        client.session.keep_open(self.close, request)
        self._clients.add(client)
        self._begin(idle_s)

    def _begin(self, idle_s: float) -> None:
        quiet_s = self.parameters.quiet_s(self._settings.heartbeat_s)
        if quiet_s:
            self.every(quiet_s, lambda: self._pad(quiet_s))
        if self._settings.heartbeat_s and self.framing.json_heartbeats:
            self.every(self._settings.heartbeat_s, self._beat)
        self.every(idle_s, lambda: self._check_idle(idle_s))

    # --- what the conversation calls --------------------------------------------------------------------------------

    def wrap(self, message: bytes) -> bytes:
        """The message as it waits: text, behind its length if the client wants that."""
        message = self.framing.text(message)
        return atmosphere.with_length(message, self._settings.delimiter) if self.parameters.track_length else message

    def send(self, payload: bytes, binary: bool = False) -> None:
        self.send_queue.put(payload)

    async def drain(self) -> None:
        await self.send_queue.drain()

    async def written(self) -> None:
        await self.send_queue.drain()

    def has_written(self) -> bool:
        return self.send_queue.is_written

    def hold(self) -> None:
        """Does nothing: further requests of this client wait for ``room``."""

    def release(self) -> None:
        """As ``hold``."""

    def give_up(self, reason: CloseReason) -> None:
        """Ends a client that does not take what waits for it; it is counted."""
        if self.ended is None:
            self._gateway.memory.slow_clients[self.framing.name] += 1
        self.close(reason)

    def close(self, reason: CloseReason) -> None:
        """Ends the client and all that it has open; the first reason counts."""
        if self.ended is not None:
            return
        self.ended = reason
        # What waits when the gateway stops are replies to requests that it has served; or the client is told why.
        self.send_queue.close(drop=reason is not SHUTDOWN and reason.error is None)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._clients.remove(self.client)
        self._clients.end(self._end(reason))
        self._over()

    def _over(self) -> None:
        """Called once at the end; a subclass frees what it holds."""

    async def _end(self, reason: CloseReason) -> None:
        await self._gateway.close_session(self.client.session, reason)
        await self.client.conversation.aclose()

    # --- further requests -------------------------------------------------------------------------------------------

    async def room(self) -> None:
        """Returns when the client may begin a further request: it reads, and not too many are at work."""
        self.heard_at = self._loop.time()
        if self.send_queue.size_bytes > CONGESTED_BYTES:
            with contextlib.suppress(ConnectionResetError):
                await self.send_queue.drain()
        await self.client.conversation.room()

    # --- time -------------------------------------------------------------------------------------------------------

    def every(self, first_s: float, call: Callable[[], float]) -> None:
        """Calls ``call`` in ``first_s`` seconds, and then in as many as it says, until the client ends."""
        self._timers[call] = self._loop.call_later(first_s, self._call, call)

    def _call(self, call: Callable[[], float]) -> None:
        next_s = call()
        if self.ended is None:
            self._timers[call] = self._loop.call_later(next_s, self._call, call)

    def _pad(self, quiet_s: float) -> float:
        """Sends the heartbeat if nothing else was sent for so long (§3.5)."""
        left_s = self.send_queue.put_at + quiet_s - self._loop.time()
        if left_s > 0.01:
            return left_s
        if self.send_queue.size_bytes <= CONGESTED_BYTES:
            self.client.conversation.send(self._settings.heartbeat)
        return quiet_s

    def _beat(self) -> float:
        if self.send_queue.size_bytes <= CONGESTED_BYTES:
            self.client.conversation.send(atmosphere.json_heartbeat(self._clients.heartbeat_id))
        return self._settings.heartbeat_s

    def _check_idle(self, idle_s: float) -> float:
        """Ends a client that has neither sent nor been sent anything; heartbeats count (§1.13)."""
        left_s = max(self.send_queue.put_at, self.heard_at) + idle_s - self._loop.time()
        if left_s <= 0:
            self.close(IDLE)
        return left_s


async def pieces_of(channel: HttpChannel) -> AsyncGenerator[bytes, None]:
    """The messages of the send queue until it is closed, framed; a piece counts as written when the next one is asked
    for."""
    send_queue, frame = channel.send_queue, channel.framing.frame
    while await send_queue.filled():
        taken = send_queue.take(_WRITE_BYTES)
        yield b"".join(map(frame, taken))
        send_queue.written(taken)
