"""The channel that carries the envelopes of one client."""

from __future__ import annotations

from typing import Protocol

from kafka_gateway.errors import CloseReason


class Channel(Protocol):
    """Moves the messages. ``send`` never waits; ``hold`` and ``release`` stop and resume reading.

    Both ``drain`` and ``written`` raise ConnectionResetError for a client that left, or was cut off because it accepts
    nothing: channels write through a `gateway.door.client_writer.ClientWriter`. ``drain`` is the better proof that
    the client has what was sent, but may return later than its next request comes.
    """

    def send(self, payload: bytes, binary: bool = False) -> None: ...
    async def drain(self) -> None: ...
    async def written(self) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def close(self, reason: CloseReason) -> None: ...
