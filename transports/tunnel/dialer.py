"""The client's end of a tunnel for Python programs: a connection to a broker through a WebSocket.

Its interface is that of Kafka WebSocket Shim's dialer for Go (bridges.md C2, C-1), so that a Kafka client with a
pluggable dial function can use it. What is written and read is Kafka's protocol and nothing else.
"""

from __future__ import annotations

import ssl as tls_module
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from kafka_gateway.wire.frames import FRAME_MAX, Cutter, WireError

_HANDSHAKE_S = 45.0
_CLOSE_S = 2.0


class TunnelError(Exception):
    """Something about the tunnel failed; the text begins with ``shim:``, as that of the dialer for Go."""


class InvalidNetworkError(TunnelError):
    def __init__(self, network: str) -> None:
        super().__init__(f"shim: invalid network: expected tcp but got {network}")
        self.network = network


class InvalidMessageTypeError(TunnelError):
    """The other side sent a message that is not binary; ``kind`` is its opcode."""

    def __init__(self, kind: int) -> None:
        super().__init__(f"shim: invalid websocket message type: expected 2 but got {kind}")
        self.kind = kind


class DialError(TunnelError):
    """No tunnel was opened. ``status`` is the HTTP status of the refusal, 0 without an answer."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(f"shim: dial websocket failed: {reason}")
        self.status = status


class ReadError(TunnelError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"shim: read websocket message failed: {reason}")


class WriteError(TunnelError):
    """``written`` bytes of the data had been sent or buffered before it failed."""

    def __init__(self, reason: str, written: int) -> None:
        super().__init__(f"shim: write websocket message failed: {reason}")
        self.written = written


async def open_socket(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str] | None = None,
    ssl: tls_module.SSLContext | None = None,
    frame_max: int = FRAME_MAX,
) -> aiohttp.ClientWebSocketResponse[bool]:
    """A WebSocket that takes frames up to the limit. DialError if none can be opened; cancelling gives up."""
    try:
        return await session.ws_connect(
            url,
            headers=headers,
            ssl=ssl if ssl is not None else True,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
            # aiohttp refuses a message that is exactly as long as its limit.
            max_msg_size=frame_max + 4 + 1,
            compress=0,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise DialError(f"status {error.status}", error.status) from error
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        raise DialError(str(error) or type(error).__name__) from error


def new_session() -> aiohttp.ClientSession:
    """A session with the time limit of a handshake; it uses HTTPS_PROXY and the like."""
    return aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=_HANDSHAKE_S))


class TunnelConn:
    """One connection to a broker. One task may read while another writes."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._session, self._socket = session, socket
        self._cutter = Cutter()
        self._rest = b""

    @property
    def local_addr(self) -> Any:
        return self._socket.get_extra_info("sockname")

    @property
    def remote_addr(self) -> Any:
        return self._socket.get_extra_info("peername")

    async def read(self, n: int) -> bytes:
        """At least one and at most ``n`` bytes, never of two messages; empty when the tunnel is closed.

        Raises:
            InvalidMessageTypeError: a text message came. ReadError: the tunnel broke.
        """
        while not self._rest:
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY:
                self._rest = message.data
            elif message.type is WSMsgType.TEXT:
                raise InvalidMessageTypeError(int(message.type))
            elif message.type is WSMsgType.ERROR:
                raise ReadError(str(message.data) or type(message.data).__name__)
            elif self._socket.close_code in (None, 1000, 1001, 1005):
                return b""
            else:
                raise ReadError(f"closed with {self._socket.close_code} {message.extra or ''}".rstrip())
        head, self._rest = self._rest[:n], self._rest[n:]
        return head

    async def write(self, data: bytes) -> int:
        """Sends every frame that ``data`` completes and keeps the rest for the next call. Returns its length.

        Raises:
            WriteError: the tunnel broke, or the data is not Kafka's protocol.
        """
        written = 0
        try:
            frames = self._cutter.cut(data)
            for frame in frames:
                await self._socket.send_bytes(frame)
                written = min(len(data), written + len(frame))
        except (WireError, ConnectionError) as error:
            raise WriteError(str(error), written) from error
        return len(data)

    async def close(self) -> None:
        """Ends the tunnel; safe to call twice."""
        await self._socket.close()
        await self._session.close()

    async def __aenter__(self) -> TunnelConn:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class TunnelDialer:
    """Opens tunnels.

    Args:
        tls: speak TLS (``wss``). ssl: with this context, for authorities of one's own or a client certificate.
        path: ``/kafka`` for any broker, ``/kafka/brokers/1`` for one; ``?advertise=HOST&base=PORT`` may follow.
        headers: of the handshake, such as Authorization.
    """

    def __init__(
        self,
        tls: bool = False,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        ssl: tls_module.SSLContext | None = None,
    ) -> None:
        self._scheme = "wss" if tls else "ws"
        self._path = path if path.startswith("/") else f"/{path}"
        self._headers = dict(headers or {})
        self._ssl = ssl

    async def dial(self, network: str, addr: str) -> TunnelConn:
        """A connection through the gateway at ``addr``, HOST:PORT. Cancelling gives up.

        Raises:
            InvalidNetworkError: ``network`` is not "tcp". DialError: no tunnel can be opened.
        """
        if network != "tcp":
            raise InvalidNetworkError(network)
        session = new_session()
        try:
            socket = await open_socket(session, f"{self._scheme}://{addr}{self._path}", self._headers, self._ssl)
        except BaseException:
            await session.close()
            raise
        return TunnelConn(session, socket)
