"""The channel that carries the envelopes of one client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kafka_gateway.errors import CloseReason


class Channel(Protocol):
    """Moves the messages. ``send`` never waits; ``hold`` and ``release`` stop and resume reading.

    Both ``drain`` and ``written`` raise ConnectionResetError for a client that left, or was cut off because it accepts
    nothing: channels write through a `gateway.door.client_writer.ClientWriter`. ``drain`` is the better proof that
    the client has what was sent, but may return later than its next request comes. ``has_written``: whether ``written``
    would return at once.
    """

    def send(self, payload: bytes, binary: bool = False) -> None: ...
    async def drain(self) -> None: ...
    async def written(self) -> None: ...
    def has_written(self) -> bool: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def close(self, reason: CloseReason) -> None: ...


@runtime_checkable
class Proving(Protocol):
    """A channel that can say later what its client has."""

    @property
    def can_prove(self) -> bool:
        """Whether `prove` may be used, at present."""

    def prove(self, delivered: Callable[[], None]) -> None:
        """Calls back, later, when the client has all that was sent by now."""
