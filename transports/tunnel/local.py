"""The client's end of the tunnel as TCP ports: any Kafka client connects to them as if they were the brokers.

One port is for the first contact, and one for each broker, because a client goes on to the brokers' addresses that the
cluster tells it. The gateway is asked to tell these ports instead (bridges.md C3, C5). Every TCP connection has a
WebSocket of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl as tls_module
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from kafka_gateway.transports.tunnel.dialer import DialError, new_session, open_socket
from kafka_gateway.transports.tunnel.direct_reader import DirectReader
from kafka_gateway.wire.frames import FRAME_MAX, Cutter, WireError

log = logging.getLogger("gateway.tunnel.local")

_PAUSES_S = (0.0, 0.2, 0.4, 0.8, 1.6)
"""Before each attempt to dial (C3)."""
_CHUNK = 256 * 1024
_PONG_S = 10.0
"""How often pongs are sent on a tunnel whose client reads so slowly that the gateway's pings wait behind data."""
_PORT_MAX = 65535
_NOT_OURS = (404, 405, 426, 400, 501, 200)
"""Statuses by which another program than this gateway answers the question for the brokers."""


class LocalTunnelError(Exception):
    """The tunnel cannot be set up; the text says what to change."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """``broker`` is HOST:PORT of the gateway. Broker N listens on ``base`` + N; ``base`` 0 stands for ``port`` + 1."""

    broker: str = "localhost:8787"
    port: int = 8080
    bind: str = "127.0.0.1"
    tls: bool = False
    path: str = "/kafka"
    single: bool = False
    advertise_host: str = ""
    base: int = 0
    node_ports: Mapping[int, int] = field(default_factory=dict)
    refresh_s: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_file: str = ""
    ssl: tls_module.SSLContext | None = None
    frame_max: int = FRAME_MAX
    drain_s: float = 10.0


class LocalTunnel:
    """Listens while its block runs. ``bootstrap`` is what Kafka clients get as ``bootstrap.servers``.

    Raises OSError for a port that cannot be had, and LocalTunnelError for a broker that has no port.
    """

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._host = settings.advertise_host or (
            "127.0.0.1" if settings.bind in ("", "0.0.0.0", "::", "localhost") else settings.bind
        )
        self._path = "/" + settings.path.strip("/")
        self._single = settings.single
        self._base = settings.base
        self.port = settings.port
        self._servers: dict[int | None, asyncio.Server] = {}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()
        self._session: aiohttp.ClientSession | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def bootstrap(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port}"

    @property
    def ports(self) -> dict[int, int]:
        """The port of each broker that is known by now."""
        return {node: _port_of(server) for node, server in self._servers.items() if node is not None}

    async def __aenter__(self) -> LocalTunnel:
        self._session = new_session()
        try:
            self._servers[None] = await self._listen(None, self._settings.port)
            self.port = _port_of(self._servers[None])
            self._base = self._settings.base or self.port + 1
            log.info("listening on port %d", self.port)
            if not self._single:
                await self._refresh(first=True)
                self._following = asyncio.get_running_loop().create_task(self._follow(), name="tunnel brokers")
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers.values():
            server.close()
        if self._connections:
            await asyncio.gather(*(each.drain(self._settings.drain_s) for each in self._connections))
        await self._close()

    async def _close(self) -> None:
        for task in (self._following, *self._tasks):
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, (self._following, *self._tasks)), return_exceptions=True)
        for server in self._servers.values():
            server.close()
        if self._session is not None:
            await self._session.close()

    # --- the brokers ------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while not self._single:
            await asyncio.sleep(self._settings.refresh_s if self.ports else min(1.0, self._settings.refresh_s))
            await self._refresh()

    async def _refresh(self, first: bool = False) -> None:
        """Listens for every broker that the gateway names. A broker without a port is an error only at the start."""
        nodes = await self._ask()
        if nodes is None:
            return
        for node in nodes:
            if node in self._servers:
                continue
            port = self._settings.node_ports.get(node, self._base + node)
            if not 0 < port <= _PORT_MAX:
                message = f"broker {node} would get port {port}: give it one with -node-port {node}=PORT"
                if first:
                    raise LocalTunnelError(message)
                self._tell(message)
                continue
            try:
                self._servers[node] = await self._listen(node, port)
            except OSError as error:
                if first:
                    raise
                self._tell(f"broker {node} cannot have port {port}: {error}")
            else:
                log.info("listening on port %d for broker %d", port, node)

    async def _ask(self) -> list[int] | None:
        """The ids of the brokers; None if the gateway does not answer, or is another program."""
        assert self._session is not None
        scheme = "https" if self._settings.tls else "http"
        url = f"{scheme}://{self._settings.broker}{self._path.rstrip('/')}/brokers"
        try:
            async with self._session.get(
                url, headers=self._headers(), ssl=self._settings.ssl or True, allow_redirects=False
            ) as answer:
                if answer.status not in _NOT_OURS:
                    self._tell(f"the gateway does not say which brokers there are: status {answer.status}")
                    return None
                nodes = _nodes(await answer.json(content_type=None)) if answer.status == 200 else None
        except ValueError:  # not JSON
            nodes = None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._tell(f"the gateway does not say which brokers there are: {str(error) or type(error).__name__}")
            return None
        if nodes is None:
            log.warning("the other side is Kafka WebSocket Shim or its like: going on as with -single")
            self._single = True
        return nodes

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            log.warning("%s", message)

    def _headers(self) -> dict[str, str]:
        headers = dict(self._settings.headers)
        if self._settings.token_file:  # each time anew: tokens are replaced before they expire
            headers["Authorization"] = f"Bearer {Path(self._settings.token_file).read_text().strip()}"
        return headers

    # --- connections ------------------------------------------------------------------------------------------------

    async def _listen(self, node: int | None, port: int) -> asyncio.Server:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Not a coroutine function: asyncio's own tasks for those print a traceback when they are cancelled.
            task = asyncio.get_running_loop().create_task(self._serve(node, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return await asyncio.start_server(accept, self._settings.bind or None, port, limit=_CHUNK, backlog=1024)

    async def _serve(self, node: int | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _address(writer.get_extra_info("peername"))
        log.info("accepted tcp connection from %s", peer)
        connection: _Connection | None = None
        try:
            socket = await self._dial(node)
            log.info("opened websocket connection with %s", self._settings.broker)
            connection = _Connection(reader, writer, socket, self._settings.frame_max)
            self._connections.add(connection)
            await connection.run()
            log.info("closed tcp connection with %s", peer)
        except (DialError, OSError, WireError) as error:
            log.warning("connection with %s failed: %s", peer, error)
        finally:
            if connection is not None:
                self._connections.discard(connection)
            writer.transport.abort() if connection is None else writer.close()

    async def _dial(self, node: int | None) -> aiohttp.ClientWebSocketResponse[bool]:
        """Tries five times; a handshake that is refused for good is not tried again."""
        assert self._session is not None
        error = DialError("not tried")
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                return await open_socket(
                    self._session, self._url(node), self._headers(), self._settings.ssl, self._settings.frame_max
                )
            except DialError as failure:
                error = failure
                if 400 <= failure.status < 500:
                    break
        raise error

    def _url(self, node: int | None) -> str:
        scheme = "wss" if self._settings.tls else "ws"
        if self._single:
            return f"{scheme}://{self._settings.broker}/"
        path = self._path if node is None else f"{self._path.rstrip('/')}/brokers/{node}"
        query = f"advertise={self._host}&base={self._base}"
        if self._settings.node_ports:
            query += "&map=" + ",".join(f"{node}:{port}" for node, port in self._settings.node_ports.items())
        return f"{scheme}://{self._settings.broker}{path}?{query}"


class _Connection:
    """One TCP connection and its WebSocket. While one side does not read, nothing is read from the other."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        socket: aiohttp.ClientWebSocketResponse[bool],
        frame_max: int,
    ) -> None:
        self._reader, self._writer, self._socket = reader, writer, socket
        self._cutter = Cutter(frame_max)
        self._open = 0
        """Requests without a reply, as far as frames tell."""
        self._answered = asyncio.Event()
        self._up: asyncio.Task[None] | None = None
        self._pacing: asyncio.Task[None] | None = None
        self._bypass = DirectReader(socket, self._write, self._reply, frame_max + 4)
        self._code = 1000
        self._over = False

    async def run(self) -> None:
        """Copies until one side ends. WireError if the client does not speak Kafka's protocol."""
        loop = asyncio.get_running_loop()
        up = self._up = loop.create_task(self._copy_up())
        down = loop.create_task(self._copy_down())
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if up.cancelled() and not down.done():  # the proxy stops
                await asyncio.wait((down,))
            for task in (up, down):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            self._over = True
            up.cancel()
            if self._pacing is not None:
                self._pacing.cancel()
                if self._bypass.protocol.transport is not None:
                    self._bypass.protocol.resume_reading()  # the answer to our close frame is behind what waits
            await self._socket.close(code=self._code)  # ends _copy_down; cancelled, it would cut the connection
            await asyncio.gather(up, down, return_exceptions=True)

    async def _copy_up(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client may have left without closing
            await self._requests()

    async def _requests(self) -> None:
        read, send, cut = self._reader.read, self._socket.send_bytes, self._cutter.cut
        data = await read(_CHUNK)
        _look(data)
        while data:
            try:
                frames = cut(data)
            except WireError:
                self._code = 1007
                raise
            self._open += len(frames)
            for frame in frames:
                await send(frame)
            data = await read(_CHUNK)

    async def _copy_down(self) -> None:
        """Waits for the end of the socket. `DirectReader` passes the data on, so only errors and the end come here."""
        message = await self._socket.receive()
        if message.type is WSMsgType.ERROR:
            if isinstance(message.data, aiohttp.WebSocketError):
                self._code = message.data.code
            raise WireError(f"the gateway's side of the tunnel broke: {message.data or type(message.data).__name__}")
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
            self._code = 1002
            raise WireError("the gateway spoke first")
        code = self._socket.close_code
        if code not in (None, 1000, 1001):
            raise WireError(f"the gateway closed with {code} {message.extra or ''}".rstrip())

    def _reply(self) -> None:
        """A whole reply has gone to the client."""
        self._open -= 1
        if self._open <= 0:
            self._answered.set()

    def _write(self, data: memoryview) -> None:
        if self._over:
            return
        transport = self._writer.transport
        transport.write(data)
        if self._pacing is None and transport.get_write_buffer_size() > _CHUNK:
            self._bypass.protocol.pause_reading()
            self._pacing = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Reads on when the client has caught up.

        Meanwhile unsolicited pongs tell the gateway that the client is there (RFC 6455 §5.5.3): its pings wait behind
        the data.
        """
        while True:
            try:
                async with asyncio.timeout(_PONG_S):
                    await self._writer.drain()
                break
            except TimeoutError:
                await self._socket.pong(b"")
            except ConnectionError:
                break  # the client left; `_copy_up` ends by itself
        self._pacing = None
        self._bypass.protocol.resume_reading()

    async def drain(self, timeout_s: float) -> None:
        """Takes no more requests and closes when all are answered, after ``timeout_s`` at the latest."""
        if self._up is not None:
            self._up.cancel()
        self._code = 1001
        if self._open > 0:
            self._answered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._answered.wait()
        await self._socket.close(code=1001)


def _look(first: bytes) -> None:
    """Warns of a client that does not speak Kafka's protocol in plain text, by its first bytes."""
    if first[:2] == b"\x16\x03":
        log.warning("the client speaks TLS: set its security.protocol to plaintext or sasl_plaintext")
    elif first[:4] in (b"GET ", b"POST"):
        log.warning("the client speaks HTTP: this port is for Kafka clients")


def _nodes(document: Any) -> list[int] | None:
    """The ids in a list of brokers (C4.1); None if it is none."""
    brokers = document.get("brokers") if isinstance(document, dict) else None
    if not isinstance(brokers, list) or not all(isinstance(each, dict) for each in brokers):
        return None
    nodes = [each.get("node_id") for each in brokers]
    return nodes if all(isinstance(node, int) and node >= 0 for node in nodes) else None


def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _address(name: Any) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
