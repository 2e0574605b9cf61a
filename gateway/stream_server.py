"""A port of a transport's own, for clients that stay connected: accepting, sessions, slow clients, stopping.

A transport brings the protocol: a coroutine function that gets a `StreamClient` and reads requests from it until the
client leaves. All else is here, so that every such port behaves alike. docs/plugins.md §8 has an example.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast

from kafka_gateway.client_reader import PIECE, ClientReader
from kafka_gateway.client_time import once_read
from kafka_gateway.config import ConfigError, Fault
from kafka_gateway.core import Gateway
from kafka_gateway.door.client_writer import ClientWriter
from kafka_gateway.errors import GONE, IDLE, SHUTDOWN, CloseReason, ServiceError
from kafka_gateway.messages import Reply, Request, lower_names
from kafka_gateway.session import Session
from kafka_gateway.stream import Payload, Stream

_log = logging.getLogger("gateway.stream_server")

_STOP_S = 2.0
"""How long a client that is told to go may take for the last bytes, and for its own."""

Serve = Callable[["StreamClient"], Awaitable[None]]


class StreamServer:
    """Accepts connections and runs ``serve(client)`` for each, in a task of its own.

    Args:
        transport: its name; sessions and logs have it.
        serve: reads and answers requests; returns when its client has left or is to be left. ConnectionError and
            asyncio.IncompleteReadError mean that it left, a ServiceError that it is sent away: with what ``refuse``
            makes of the error. Anything else is a fault, and logged.
        host, port: where to listen; port 0: any. `port` has the real one once the server is open.
        tls: speaks TLS with this context.
        limit: bytes that one read of a client may bring; None for ``request.max.bytes``.
        write_timeout_s: a client that takes no byte for this time although some wait is given up.
        farewell: the last bytes for a client whose session the gateway ends; none if not given.
        refuse: the last bytes for a client that is sent away for an error; none if not given.
    """

    def __init__(
        self,
        transport: str,
        serve: Serve,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        limit: int | None = None,
        write_timeout_s: float = 60.0,
        farewell: Callable[[CloseReason], bytes] = lambda _: b"",
        refuse: Callable[[ServiceError], bytes] = lambda _: b"",
    ) -> None:
        self.transport, self.host, self.port = transport, host, port
        self.farewell, self.write_timeout_s = farewell, write_timeout_s
        self.limit, self.refuse = limit, refuse
        self._serve, self._tls = serve, tls
        self._clients: dict[StreamClient, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def open(self, gateway: Gateway) -> AsyncIterator[None]:
        """Listens for as long as the block runs; at its end all clients are gone. For `Transport.lifespan`.

        Raises:
            ConfigError: the address is open beyond this machine, and nobody need authenticate
                (``listeners.insecure=true`` allows it).
            OSError: the address cannot be had.
        """
        self._check_address(gateway)
        most = gateway.config.integer("connections.max")

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._clients) >= most or gateway.stopping or writer.transport.is_closing():
                writer.transport.abort()
                return
            client = StreamClient(self, gateway, reader, writer)
            # Not a coroutine function: asyncio prints a traceback when its own tasks for those are cancelled.
            self._clients[client] = asyncio.get_running_loop().create_task(self._run(client))

        # Where there are several workers, each listens on the port.
        shares = True if gateway.is_worker else None
        server = await asyncio.start_server(accept, self.host, self.port, limit=PIECE, ssl=self._tls, reuse_port=shares)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            tasks = list(self._clients.values())
            for client in list(self._clients):
                client.close(SHUTDOWN)
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=_STOP_S)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, client: StreamClient) -> None:
        try:
            await self._serve(client)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        except ServiceError as error:
            await client.send_away(error)
        except asyncio.CancelledError:
            pass  # the gateway stops, and waited long enough
        except Exception:
            _log.exception("transport %s: a connection failed", self.transport)
        finally:
            await client.end()
            self._clients.pop(client, None)

    def _check_address(self, gateway: Gateway) -> None:
        config = gateway.config
        if config.asks_who or config.flag("listeners.insecure"):
            return
        with contextlib.suppress(ValueError):
            if self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback:
                return
        message = (
            f"{self.host} can be reached from other machines, and nobody need authenticate: listen on 127.0.0.1, set"
            " authentication.method, or listeners.insecure=true if that is what you want"
        )
        raise ConfigError([Fault("", f"transport.{self.transport}", message)])


class StreamClient:
    """One client of a `StreamServer`. Belongs to the event loop; it ends with its connection."""

    def __init__(
        self, server: StreamServer, gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.gateway = gateway
        self.reader = ClientReader(reader, gateway.config, gateway.memory, server.limit)
        """What the client sends: ``readline``, ``readuntil``, ``readexactly``."""
        self.session: Session | None = None
        """None until `sign_in`."""
        self.state: Any = None
        """For the transport."""
        self._server, self._reader, self._writer = server, reader, writer
        self._not_welcome: ServiceError | None = None
        """Why it has got no session; that is counted already."""
        self._said_all = False
        """Whether our side of the connection is closed."""
        self._must_prove: asyncio.TimerHandle | None = None
        self._await_proof()
        self._out = ClientWriter(
            cast(asyncio.Transport, writer.transport), gateway.memory, server.write_timeout_s, server.transport
        )

    @property
    def peer(self) -> str:
        """The client's address."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    async def sign_in(self, headers: Mapping[str, str] | None = None) -> Session:
        """Opens the client's session with what it proves itself with: header fields, as an HTTP client would send them.

        A second call replaces the session; the streams of the first end. ServiceError if it gets none: Unauthorized,
        Forbidden, TooManyRequests; BadRequest for a field in two spellings.
        """
        fields = lower_names(headers or {})
        self._await_no_proof()  # looking at one may take long, and that is not the client's time
        try:
            session = await self.gateway.open_session(self._server.transport, fields, peer=self.peer)
        except ServiceError as error:
            self._not_welcome = error
            self.gateway.counters.refuse(error)
            if self.session is None:
                self._await_proof()
            raise
        before, self.session = self.session, session
        if before is not None:
            before.on_close = None
            await self.gateway.close_session(before, GONE)
        session.keep_open(self.close, "")
        return session

    async def ask(self, line: str, headers: Mapping[str, str] | None = None, body: Any = b"", **more: Any) -> Reply:
        """The reply to ``"GET /topics?x=y"`` (see `Request.of`): write it with `answer`, a stream with `follow`.

        Without `sign_in` the client is one that proves nothing.
        """
        session = self.session or await self.sign_in()
        started = time.perf_counter()
        try:
            request = Request.of(session, line, headers, body, settles=True, **more)
        except ServiceError as error:
            self.gateway.counters.refuse(error)
            reply = self.gateway.refusal(error)
        else:
            reply = await self.gateway.dispatch(request)
        method, _, target = line.partition(" ")
        size = len(reply.body) if isinstance(reply.body, bytes) else 0
        facts = reply.facts(len(body) if isinstance(body, bytes) else 0)
        self.gateway.access.finish(session, method, target, started, reply.status, size, facts)
        return reply

    async def write(self, data: bytes) -> None:
        """Sends the data; returns when there is room for more. ConnectionError: the client left, or takes nothing."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the client left")
        out = self._out
        out.put(data)
        if not out.look():  # a client that accepts nothing is cut off while this waits
            await self._writer.drain()
            out.caught_up()

    async def answer(self, reply: Reply, data: bytes) -> None:
        """Sends what the protocol makes of the reply; records of a read that is not taken stay for the next one."""
        written = False
        try:
            await self.write(data)
            written = True
        finally:
            if reply.settle is not None:
                reply.settle(written)

    def follow(
        self,
        stream: Stream,
        frame: Callable[[Payload], bytes],
        end: Callable[[ServiceError | None], bytes] = lambda _: b"",
    ) -> asyncio.Task[None]:
        """Sends what the stream yields until it ends, while the client's further requests are served.

        ``frame`` makes the bytes of a payload. ``end`` those behind the last one, of the error that ended the stream if
        one did. Cancelling the task ends the stream.
        """
        session = self.session
        assert session is not None, "a stream came from a request, and a request has a session"
        return session.spawn(self._deliver(stream, frame, end, session), f"{self._server.transport} stream")

    async def _deliver(
        self,
        stream: Stream,
        frame: Callable[[Payload], bytes],
        end: Callable[[ServiceError | None], bytes],
        session: Session,
    ) -> None:
        try:
            await self.gateway.deliver(stream, _Sink(self, frame), session, None)
        except ServiceError as error:
            last = end(error)
        else:
            last = end(None)
        with contextlib.suppress(ConnectionError):
            await self.write(last)

    def close(self, reason: CloseReason = GONE) -> None:
        """Says farewell and closes the connection; `serve` finds its end in the reader."""
        if not self._writer.transport.is_closing():
            if not self._said_all:
                self._writer.write(self._server.farewell(reason))
            self._writer.close()
        if not self._reader.at_eof():
            self._reader.feed_eof()

    def _await_proof(self) -> None:
        """Gives the client its time to sign in: who proves nothing would keep a place from others, over HTTP too."""
        config, loop = self.gateway.config, asyncio.get_running_loop()
        if config.asks_who:
            # Once to read what has come, and once for the protocol to look at it.
            late = partial(once_read, loop, partial(once_read, loop, self._prove_late))
            self._must_prove = loop.call_later(config.seconds("request.header.timeout.ms"), late)

    def _await_no_proof(self) -> None:
        if self._must_prove is not None:
            self._must_prove.cancel()
            self._must_prove = None

    def _prove_late(self) -> None:
        if self._must_prove is not None:
            self.close(IDLE)

    async def send_away(self, error: ServiceError) -> None:
        """Sends the last bytes for a client whose connection ends for this error.

        What it still sends is read and dropped for a while: else the system would answer it with a reset, which may
        overtake those bytes.
        """
        if error is not self._not_welcome:
            self.gateway.counters.refuse(error)
        await self._end_session()  # its streams send nothing more
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self.write(self._server.refuse(error))
            if self._writer.can_write_eof():
                self._writer.write_eof()
                self._said_all = True
                async with asyncio.timeout(_STOP_S):
                    while await self._reader.read(PIECE):
                        pass

    async def _end_session(self) -> None:
        self._await_no_proof()
        session, self.session = self.session, None
        if session is not None:
            session.on_close = None
            await self.gateway.close_session(session, SHUTDOWN if self.gateway.stopping else GONE)

    async def end(self) -> None:
        """Ends the session, because the connection has ended."""
        await self._end_session()
        if self._out.look():
            self._out.unwatch()
        self._writer.close()


class _Sink:
    """The payloads of one stream (`kafka_gateway.delivery.Sink`)."""

    __slots__ = ("_client", "_frame")

    def __init__(self, client: StreamClient, frame: Callable[[Payload], bytes]) -> None:
        self._client, self._frame = client, frame

    async def send(self, payload: Payload) -> None:
        await self._client.write(self._frame(payload))
