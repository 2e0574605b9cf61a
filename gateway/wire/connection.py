"""One connection to one broker, for requests of the gateway's own: any number at a time.

It begins with ApiVersions, so that a request is sent in a version that the broker has. With SASL it logs in before.
Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from kafka_gateway.upstream import Sasl
from kafka_gateway.wire.apis import API_VERSIONS, Api, Version
from kafka_gateway.wire.frames import Cutter, WireError, frame, string
from kafka_gateway.wire.sasl import log_in
from kafka_gateway.wire.schema import skip_tags

_HEADER = struct.Struct(">hhi")
_INT32 = struct.Struct(">i")
_CLIENT_ID = b"kafka-gateway"
_OFF_LOOP_BYTES = 32 * 1024
"""A longer answer takes milliseconds to decode: a thread does it."""


class ConnectionLost(ConnectionError):
    """The broker closed the connection, or could not be reached; ``sent`` tells whether it may have got the request."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UnsupportedApi(Exception):
    """The broker has no version of this API that the gateway speaks: it is too old, or too new."""


class BrokerClient(asyncio.Protocol):
    """A connection that is open and logged in; made by `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._cutter = Cutter()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._bare: asyncio.Future[bytes] | None = None
        self._number = 0
        self._versions: Mapping[int, tuple[int, int]] = {}
        self.opened_at = asyncio.get_running_loop().time()
        self.used_at = self.opened_at
        self.closed = False
        self._is_leaving = False

    # --- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for each in self._cutter.cut(data):
                self._answered(each)
        except WireError as error:
            self._fail(str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the broker closed the connection" if exc is None else str(exc))
        # With TLS the transport has a buffer of 256 KiB. The traceback of an error may keep this object for long.
        self._transport = None

    def _answered(self, answer: bytes) -> None:
        if self._bare is not None:
            if not self._bare.done():
                self._bare.set_result(answer)
            return
        if len(answer) < 8:
            raise WireError("answer without a header")
        waiting = self._waiting.pop(_INT32.unpack_from(answer, 4)[0], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, text: str) -> None:
        self.closed = True
        open_ones, self._waiting = list(self._waiting.values()), {}
        if self._bare is not None:
            open_ones.append(self._bare)
        for future in open_ones:
            if not future.done():
                future.set_exception(ConnectionLost(text, True))

    # --- asking -----------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._waiting

    async def start(self, sasl: Sasl | None) -> None:
        """Logs in and learns which versions the broker has. ConnectionLost, WireError, SaslRefused."""
        if sasl is not None:
            await log_in(self._ask_bare, sasl)
        found = await self.ask(API_VERSIONS, {})
        if found["error_code"]:
            raise WireError(f"ApiVersions answers error {found['error_code']}")
        self._versions = {each["key"]: (each["least"], each["most"]) for each in found["api_keys"]}

    def version(self, api: Api) -> Version:
        """The newest version of an API that the broker has too. UnsupportedApi if there is none."""
        if api is API_VERSIONS:
            return api.versions[0]
        least, most = self._versions.get(api.key, (0, -1))
        for version in api.versions:
            if least <= version.number <= most:
                return version
        raise UnsupportedApi(f"The broker offers no version of {api.name} that the gateway can use.")

    async def ask(self, api: Api, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request. Members of ``body`` that the version does not have are not sent.

        After cancelling, the broker's answer is thrown away. Raises ConnectionLost, UnsupportedApi, WireError. A longer
        answer is decoded on a thread.
        """
        version = self.version(api)
        self._number = number = (self._number + 1) & 0x7FFFFFFF
        header = _HEADER.pack(api.key, version.number, number) + string(_CLIENT_ID)
        if version.flexible:
            header += b"\0"
        request = frame(header, version.request.encode(body))
        answer = await self._roundtrip(number, request)
        at = skip_tags(answer, 8) if version.flexible else 8
        if len(answer) > _OFF_LOOP_BYTES:
            return await asyncio.to_thread(version.response.decode, answer, at)
        return version.response.decode(answer, at)

    async def _roundtrip(self, number: int, request: bytes) -> bytes:
        if self.closed or self._transport is None:
            raise ConnectionLost("the connection is closed", False)
        loop = asyncio.get_running_loop()
        self.used_at = loop.time()
        waiting: asyncio.Future[bytes] = loop.create_future()
        self._waiting[number] = waiting
        self._transport.write(request)
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)
            if self._is_leaving and not self._waiting:
                self.close()

    async def _ask_bare(self, request: bytes) -> bytes:
        """For the login: sends one frame and returns the next that comes."""
        if self.closed or self._transport is None:
            raise ConnectionLost("the connection is closed", False)
        bare: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._bare = bare
        self._transport.write(request)
        try:
            return await bare
        finally:
            self._bare = None

    def close_when_idle(self) -> None:
        """Ends the connection when the requests under way are answered."""
        self._is_leaving = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Ends the connection; requests under way fail with ConnectionLost. Safe to call twice."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


async def connect(
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    sasl: Sasl | None,
    opened: Callable[[], object] = lambda: None,
) -> BrokerClient:
    """An open connection to a broker, logged in. The caller limits the time.

    ``opened`` is called when the connection is open, TLS included, and before the login.

    Raises ConnectionLost (refused, no such name, TLS failed), SaslRefused, WireError.
    """
    loop = asyncio.get_running_loop()
    try:
        _, client = await loop.create_connection(
            BrokerClient, host, port, ssl=tls, server_hostname=host if tls is not None else None
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: what IDNA cannot write
        raise ConnectionLost(f"broker {host}:{port} cannot be reached: {error}", False) from None
    opened()
    try:
        await client.start(sasl)
    except BaseException:
        client.close()
        raise
    return client
