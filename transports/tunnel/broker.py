"""One connection to one broker: opened for one client, used for nothing else, closed with it (bridges.md C-7)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Protocol, cast

from kafka_gateway.errors import GatewayTimeout, ServiceError
from kafka_gateway.wire.frames import Cutter, WireError

_LAST_BYTES_S = 2.0
"""How long a broker may take to accept what its client sent before it left."""


class BadGateway(ServiceError):
    """The broker cannot be reached."""

    status, error_code, retriable, text = 502, 502, True, "The broker cannot be reached."
    help = "Try again in a moment; the operator looks whether the gateway reaches the broker's advertised address."


class Receiver(Protocol):
    """Gets what comes from the broker."""

    def received(self, data: bytes) -> None: ...
    def lost(self, error: Exception | None) -> None: ...
    def congested(self, behind: bool) -> None:
        """The broker reads slower than it is written to (``behind``), or has caught up."""


class BrokerConnection(asyncio.Protocol):
    """One connection to a broker. Reads nothing until it has a receiver, but for `ask`."""

    def __init__(self, response_max: int) -> None:
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._paused = False
        self._lost = False
        self._error: Exception | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._abort_at: asyncio.TimerHandle | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        self._cutter = Cutter(response_max)

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.pause()

    def attach(self, receiver: Receiver) -> None:
        """From now on ``receiver`` gets what the broker sends."""
        self._receiver = receiver
        if self._lost:
            receiver.lost(self._error)
        else:
            self.resume()

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.received(data)
        elif self._answer is not None and not self._answer.done():
            try:
                frames = self._cutter.cut(data)
            except WireError as error:
                self._answer.set_exception(BadGateway(f"The broker's answer is no Kafka frame: {error}"))
                return
            if frames:
                self._answer.set_result(frames[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost, self._error = True, exc
        self.over.set_result(None)
        if self._abort_at is not None:
            self._abort_at.cancel()
        if self._receiver is not None:
            self._receiver.lost(exc)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BadGateway("The broker closed the connection while the gateway logged in."))

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.congested(True)

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.congested(False)

    def pause(self) -> None:
        """Stops reading."""
        if not self._paused and not self._lost:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._lost:
            self._paused = False
            self.transport.resume_reading()

    async def ask(self, request: bytes) -> bytes:
        """Sends one frame and returns the next that comes; while there is no receiver. BadGateway if none comes."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        self.resume()
        try:
            return await self._answer
        finally:
            self._answer = None
            self.pause()

    def close(self) -> None:
        """Ends the connection when what was written has gone out, after two seconds at the latest."""
        if self._lost or self._transport is None:
            return
        transport = self._transport
        transport.close()
        # With TLS it also waits for the broker's close_notify, up to half a minute; a paused connection reads none.
        if self._abort_at is None and (transport.get_write_buffer_size() or transport.get_extra_info("sslcontext")):
            self._abort_at = asyncio.get_running_loop().call_later(_LAST_BYTES_S, transport.abort)


async def connect(
    targets: Sequence[tuple[str, int]], tls: ssl.SSLContext | None, timeout_s: float, response_max: int
) -> BrokerConnection:
    """A connection to the first target that takes one; each gets an equal part of the time.

    Raises:
        BadGateway: refused, no such name, or TLS failed. GatewayTimeout: no answer in time. Neither tells an address.
    """
    loop = asyncio.get_running_loop()
    failure: Exception | None = None
    for host, port in targets:
        try:
            async with asyncio.timeout(timeout_s / len(targets)):
                _, connection = await loop.create_connection(
                    lambda: BrokerConnection(response_max),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host if tls is not None else None,
                )
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError; UnicodeError: what IDNA cannot write
            failure = error
        else:
            return connection
    if isinstance(failure, TimeoutError):
        raise GatewayTimeout("The broker did not answer in time (tunnel.connect.timeout.ms).") from None
    raise BadGateway() from failure
