"""HTTP: listeners, connections, and handing each request to the transport that claims it.

aiohttp's low-level server parses; one catch-all handler takes every request. A session belongs to a connection, so a
keep-alive client is authenticated once for as long as its Authorization header stays the same.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.web_protocol import RequestHandler

from kafka_gateway.config import Config, ConfigError
from kafka_gateway.core import Gateway
from kafka_gateway.door.forwarded import Proxies, move_host, proxy_faults
from kafka_gateway.door.http import Door, Offer, peer_of
from kafka_gateway.door.known_heads import NO_BODY, KnownHead, is_simple, length_of
from kafka_gateway.door.listening import bind_unix, listen_tcp, open_tcp
from kafka_gateway.door.proxy_protocol import ProxyServer
from kafka_gateway.door.request import HttpRequest, move_token
from kafka_gateway.door.subprotocol_proof import FIELD, move_proof
from kafka_gateway.errors import (
    GONE,
    SHUTDOWN,
    BadRequest,
    HeadTooLarge,
    MethodNotAllowed,
    ServiceError,
)
from kafka_gateway.metrics import door as door_metrics
from kafka_gateway.session import Session
from kafka_gateway.settings.listeners import Listener
from kafka_gateway.transport import Transport, refusal

if TYPE_CHECKING:
    from kafka_gateway.door.tls import ListenerTls

log = logging.getLogger("gateway.host")

WRITE_TIMEOUT_S = 60.0
"""A client that does not read its reply for this long is cut off."""
HALF_CLOSED_WAIT_S = 5.0
"""How long a read waits for records whose client has closed its sending side. A new group is formed by then."""
_TELL_EVERY_S = 10.0


class HttpConnection(RequestHandler):
    """One client's connection: aiohttp's, plus a session, a deadline for the first head, and our own error bodies."""

    __slots__ = (
        "_abort_at",
        "_arriving",
        "_at_work",
        "_give_up_at",
        "_head_deadline",
        "_host",
        "_idle_waiter",
        "_listener",
        "_lost",
        "_rest",
        "_served",
        "_served_request",
        "admin",
        "certificate",
        "half_closed",
        "handed_over",
        "offer",
        "peer",
        "proxied",
        "session",
        "trusted",
    )

    def __init__(self, host: Host, listener: str, **settings: Any) -> None:
        super().__init__(host.server_of(listener), **settings)
        self._host, self._listener = host, listener
        self.offer = host.offer_of(listener)
        self.certificate = ""
        """What the client has shown at the beginning of TLS, and was verified."""
        self.admin = host.is_admin(listener)
        self.proxied: tuple[str, int] | None = None
        """The client, as the proxy says whose connection it is (PROXY protocol)."""
        self.peer = ""
        """The client's address."""
        self.trusted = False
        """Whether it is a proxy whose requests say who their clients are."""
        self.session: Session | None = None
        self.handed_over: Session | None = None
        """The session that went with the connection to another protocol."""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._abort_at: asyncio.TimerHandle | None = None
        self.half_closed = False
        self._give_up_at: asyncio.TimerHandle | None = None
        self._lost = False
        self._rest = 0
        """Bytes that are still to come of a request which aiohttp's parser is at; _UNKNOWN: nobody but it can tell."""
        self._arriving: Any = None
        """The body of which so much is still to come, as aiohttp has it."""
        self._at_work: asyncio.Task[None] | None = None
        """Serves a request whose head is known."""
        self._served: KnownHead | None = None
        """That head."""
        self._served_request: HttpRequest | None = None
        self._idle_waiter: asyncio.Future[None] | None = None
        """What aiohttp's task waits for meanwhile."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.certificate = self._host.certificate_of(self._listener, transport)
        self.peer = self.proxied[0] if self.proxied is not None else peer_of(self.peername)
        self.trusted = self._host.proxies.any and self._host.proxies.trusts(self.peer)
        if self.trusted:  # what follows from its heads is not the same for those of others
            self._rest = _UNKNOWN
        self._host.connection_count += 1
        self._host.connections[self._listener] += 1
        if self._host.connection_count > self._host.connections_max and isinstance(transport, asyncio.Transport):
            self._host.gateway.counters.refused["connections"] += 1
            transport.write(_TOO_MANY)
            self.force_close()
            return
        # aiohttp has no limit for the first head but its keep-alive time (reliability.md §2.3: 75 s for nothing).
        self._head_deadline = self._loop.call_later(self._host.header_timeout_s, self._no_request_yet)

    def _no_request_yet(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = True
        self._host.connection_count -= 1
        self._host.connections[self._listener] -= 1
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        if self._abort_at is not None:
            self._abort_at.cancel()
        self.answers()
        session, self.session = self.session, None
        super().connection_lost(exc)
        if self._at_work is not None:
            self._at_work.cancel()
        if session is not None:
            self._host.forget(session)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            super().data_received(data)
            if self._rest != _UNKNOWN:
                self._rest -= len(data)
                # Where the two do not agree on the end of the request, nothing is known of this connection any more.
                if self._rest < 0 or (not self._rest) != self._arriving.is_eof():
                    self._rest = _UNKNOWN
            return
        end = data.find(b"\r\n\r\n") + 4
        head = data[:end]
        known = self.offer.heads.find(head)
        waiter = self._waiter
        if (
            known is not None
            and len(data) == end + known.length
            and waiter is not None  # no request is at work
            and not waiter.done()
            and not self._messages
            and not self._force_close
            and not self._close
        ):
            self._serve_known(known, data[end:], waiter)
            return
        messages = self._messages
        before = len(messages)
        self._waiter = None  # so that aiohttp's task stays where it is while what has come is looked at
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        came = len(messages) - before
        if came:
            message, payload = messages[-1]
            self._rest = rest = _rest_of(head, message, len(data)) if came == 1 else _UNKNOWN
            if rest != _UNKNOWN and (not rest) != payload.is_eof():
                self._rest = _UNKNOWN
            self._arriving = payload
            if known is None and not self._rest and is_simple(message) and self.offer.heads.is_due(head):
                known = self._learn(head, message, len(data) - end)
                if known is not None and waiter is not None and not waiter.done() and len(messages) == 1:
                    messages.clear()
                    self._parser.message_consumed()  # type: ignore[union-attr]
                    # Read from aiohttp, which may hold the connection back for what is not read of it.
                    self._serve_known(known, payload.read_nowait(), waiter)
                    return
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        elif data:
            self._rest = _UNKNOWN

    def _learn(self, head: bytes, message: Any, length: int) -> KnownHead | None:
        """Has the head known from now on, if it is one of plain HTTP."""
        assert self._request_factory is not None
        request = cast(HttpRequest, self._request_factory(message, NO_BODY, self, cast(Any, None), cast(Any, None)))
        if request._message is not message:  # a proof was moved to where it belongs
            return None
        known = self._host.door.know(request, length, self)
        if known is not None:
            self.offer.heads.keep(head, known)
        return known

    def _serve_known(self, known: KnownHead, body: bytes, waiter: asyncio.Future[None]) -> None:
        """Serves a request without aiohttp's task. What arrives meanwhile waits in ``_messages``, as always."""
        self._waiter, self._idle_waiter = None, waiter
        self._request_count += 1
        self._request_in_progress = True
        self._served = known
        self._at_work = self._loop.create_task(self._work(known, body))

    async def _work(self, known: KnownHead, body: bytes) -> None:
        stays = False
        try:
            stays = await self._host.door.serve_known(self, known, body)
        except ConnectionError:
            log.debug("the client left")
        except Exception as error:
            await self._tell_failed(known, error)
        finally:
            self._at_work = self._served = self._served_request = None
            self._request_in_progress = False
            waiter, self._idle_waiter = self._idle_waiter, None
            self._waiter = waiter
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
            if not stays or self._close or self._force_close:
                self.force_close()
            else:
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                if self._keepalive_handle is None:
                    self._keepalive_handle = self._loop.call_at(
                        self._next_keepalive_close_time, self._process_keepalive
                    )
                if self._messages and waiter is not None and not waiter.done():
                    waiter.set_result(None)

    async def _tell_failed(self, known: KnownHead, error: Exception) -> None:
        try:
            request = self.request_of(known)
            response = self.handle_error(request, 500, error)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            log.debug("the client left")

    def request_of(self, known: KnownHead) -> HttpRequest:
        """The request that is at work, which has this head, for what needs more of it than its head."""
        request = self._served_request
        if request is None:
            nothing = cast(Any, None)
            request = HttpRequest(known.message, NO_BODY, self, nothing, nothing, self._loop)
            self._served_request = request
            request.cors = known.cors
        return request

    async def start(self) -> None:
        await super().start()
        self._abort_unless_read(self.transport)

    def force_close(self) -> None:
        transport = self.transport
        super().force_close()
        self._abort_unless_read(transport)

    def _abort_unless_read(self, transport: asyncio.Transport | None) -> None:
        """A connection that is closed stays until its last reply is read: for so long, and no longer."""
        if self._lost or transport is None or self._abort_at is not None:
            return  # asyncio's TLS transport cannot be asked any more once it is lost
        try:
            unread = transport.get_write_buffer_size()
        except AttributeError:
            return  # asyncio's TLS transport, when it has been closed a second time
        if unread:
            self._abort_at = self._loop.call_later(WRITE_TIMEOUT_S, transport.abort)

    def retire(self) -> None:
        """For a gateway that stops: closes the connection, after the reply if a request is at work.

        aiohttp's ``close`` would throw away what still comes of a request's body, and leave an idle connection open,
        deaf, for as long as any other is at work.
        """
        if not self._request_in_progress and not self._messages:
            self.force_close()

    def hand_over(self, protocol: asyncio.Protocol, session: Session) -> Callable[[], None]:
        """Gives the connection to another protocol, for good; the request at work should return then.

        What is here for requests and replies is 9 KiB a connection, which one that is only written to can do without.
        The answer is to be called when the connection is lost: it ends the session and counts the connection out.
        """
        transport = self.transport
        assert transport is not None
        self.handed_over, self.session, self.transport = session, None, None
        # So that the handler, which brought us here, is not cancelled.
        self._current_request = None
        self._task_handler = None
        transport.set_protocol(protocol)
        super().connection_lost(None)
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        return partial(self._host.lose, session, self._listener)

    def drained(self) -> asyncio.Future[None]:
        """Done when the client is not behind any more (``writing_paused``), or has left. Shared: shield it."""
        waiter = self._drain_waiter
        if waiter is None:
            waiter = self._drain_waiter = self._loop.create_future()
        return waiter

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only after a pause: aiohttp calls it for every body read, and it runs parser and selector each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio looks at the answer
        """The client has closed its sending side, as ``nc -N`` does: what it asked is answered, then the connection
        ends. A client that is gone looks the same, so what only ends with its client ends at once, and a read waits
        for ``HALF_CLOSED_WAIT_S`` at most. Only has_taken_all tells them apart, once there is something to write.
        """
        self.half_closed = self.ssl_context is None and self._all_is_answered_once()
        at_work = self._request_at_work()
        if self.half_closed and not self._messages:
            self._close = True  # also behind a reply that has just been written, before aiohttp's task waits again
            if at_work is not None:
                self._bound_wait(at_work)
        return self.half_closed

    def close_behind_the_last(self, request: HttpRequest) -> None:
        """For a request that is about to be served to a client that has closed its sending side."""
        self._close = not self._messages
        self._bound_wait(request)

    def _bound_wait(self, request: HttpRequest) -> None:
        """Ends the waiting of a read some time after its client has closed its sending side."""
        if self._host.door.waits(request):
            self._give_up_at = self._loop.call_later(HALF_CLOSED_WAIT_S, self._give_up, request)

    def _give_up(self, request: HttpRequest) -> None:
        if request is self._request_at_work() and self.transport is not None:
            self.transport.write(_WAITED)
            self.force_close()

    def answers(self) -> None:
        """The reply is about to be written: nothing is given up any more."""
        if self._give_up_at is not None:
            self._give_up_at.cancel()
            self._give_up_at = None

    def _request_at_work(self) -> HttpRequest | None:
        if self._served is not None:
            return self.request_of(self._served)
        return cast("HttpRequest | None", self._current_request)

    def _all_is_answered_once(self) -> bool:
        if self._waiter is not None and not self._messages:
            return False
        # One that has been taken from the queue in this turn of the loop is looked at when its turn comes.
        at_work = self._request_at_work()
        if at_work is not None and (not at_work.arriving.is_eof() or self._host.door.lasts(at_work, self)):
            return False
        return all(payload.is_eof() for _, payload in self._messages)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp's parser refuses, as our error body and one line of log (its own is a traceback each)."""
        if request.writer.output_size > 0:
            raise ConnectionError("the reply has begun")
        error: ServiceError
        if isinstance(exc, ConnectionError):
            raise exc  # the client left; aiohttp ends the connection
        if status >= 500:
            log.error("a request failed outside of dispatch: %r", exc, exc_info=exc)
            error = ServiceError()
        else:
            self._host.note_refused(self.peer, exc)
            error = _head_error(exc, message)
            self._host.gateway.counters.refuse(error)
        response = refusal(error)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """aiohttp reports what went wrong round a handler; a client that broke its own request is not worth a line."""
        log.debug(*args, **kwargs)


_UNKNOWN = -1


def _rest_of(head: bytes, message: Any, arrived: int) -> int:
    """Bytes that are still to come of the only request in what has arrived, which begins with this head; or _UNKNOWN.

    Only for a head whose end is beyond doubt: a line that ends without CR might end it earlier for a parser.
    """
    length = length_of(message)
    if length < 0 or not head.endswith(b"\r\n\r\n") or head.count(b"\n") != head.count(b"\r\n"):
        return _UNKNOWN
    rest = len(head) + length - arrived
    return rest if rest >= 0 else _UNKNOWN


_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


_WAITED_BODY = (
    b'{"error_code":408,"message":"The client has closed its sending side, and no record has come since: keep the '
    b'connection open both ways (nc without -N) to wait for longer."}'
)
_WAITED = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_WAITED_BODY), _WAITED_BODY)
)
_TOO_MANY_BODY = b'{"error_code":503,"message":"The gateway has connections.max open connections."}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)


def _head_error(exc: BaseException | None, message: str | None) -> ServiceError:
    """What aiohttp's parser finds wrong with the head of a request."""
    text = (message or "").strip().split("\n", 1)[0].rstrip(":")
    if isinstance(exc, BadHttpMethod):  # a word that HTTP does not know (kafka-rest-http.md §3.1)
        return MethodNotAllowed(allow=_METHODS)
    if isinstance(exc, LineTooLong) or text == "Too many headers received":
        return HeadTooLarge(
            "The request line or a header field is longer than max.request.header.size, or there are "
            "more than 128 fields."
        )
    return BadRequest(f"HTTP 400: the request is not valid HTTP/1.1: {text}")


class Server(web.Server):
    """aiohttp's low-level server, making our connections."""

    def __init__(self, host: Host, listener: str, handler: Any, settings: dict[str, Any]) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True, **settings)
        self._host = host
        self._token_parameter = host.gateway.proofs.query_parameter
        self._listener = listener
        self._settings = settings

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if self._token_parameter and "?" in message.path:
            message = move_token(message, self._token_parameter)
        if FIELD in message.headers:
            message = move_proof(message)
        told = self._host.proxies.told_by(message.headers, protocol.peer) if protocol.trusted else None
        if told is not None and told.host:
            message = move_host(message, told.host)
        request = HttpRequest(message, payload, protocol, writer, task, self._loop)
        request.bodies = self._host.door
        if told is not None:
            request.told = told
        return request

    def __call__(self) -> RequestHandler:
        return HttpConnection(self._host, self._listener, loop=self._loop, **self._settings)


class Host:
    """Serves the gateway's listeners. ``async with`` opens and closes them."""

    def __init__(self, config: Config, gateway: Gateway, transports: Sequence[Transport]) -> None:
        self.gateway = gateway
        self.connection_count = 0
        self.connections: Counter[str] = Counter()
        """Those that are open, by listener."""
        gateway.metrics.add(door_metrics.connections(lambda: self.connections))
        self.refused = 0
        """Requests that were no valid HTTP."""
        self._refused_told = 0
        self._tell_refused_at = 0.0
        self.connections_max = config.integer("connections.max")
        self.header_timeout_s = config.seconds("request.header.timeout.ms")
        self.addresses: list[str] = []
        """What is listened on, with the real ports."""
        if faults := proxy_faults(config):
            raise ConfigError(faults)
        self.proxies = Proxies(config)
        self.door = Door(config, gateway, self.forget)
        self._config = config
        self.transports = tuple(transports)
        self._offers: dict[str, Offer] = {}
        self._servers: dict[str, Server] = {}
        self._secured_by_listener: dict[str, ListenerTls] = {}
        self._sockets: list[asyncio.Server | ProxyServer] = []
        self._admin: set[str] = set()
        self._paths: list[str] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._following: list[asyncio.Task[None]] = []

    def server_of(self, listener: str) -> Server:
        return self._servers[listener]

    def offer_of(self, listener: str) -> Offer:
        """The transports of this listener."""
        return self._offers[listener]

    async def open(self) -> None:
        """Opens every listener. OSError names the address that cannot be had."""
        header_bytes = self._config.integer("max.request.header.size")
        settings: dict[str, Any] = {
            "keepalive_timeout": self._config.seconds("idle.timeout.ms"),
            "access_log": None,
            "logger": log,
            "max_line_size": header_bytes,
            "max_field_size": header_bytes,
            "lingering_time": 2.0,
            # Some bodies must stay as they were sent, and aiohttp's switch is for all of a server:
            # gateway/door/body.py unpacks the others.
            "auto_decompress": False,
        }
        loop = asyncio.get_running_loop()
        for listener in self._config.listeners():
            name = f"{listener} (admin)" if listener.admin else str(listener)
            offer = self._offers[name] = Offer(offered(listener, self.transports))
            self.gateway.reloads.append(offer.heads.forget)
            if listener.admin:
                self._admin.add(name)
            server = self._servers[name] = Server(self, name, self.door.serve, settings)
            secured = self._secured(listener, name) if listener.tls else None
            context = secured.context if secured is not None else None
            opened: asyncio.Server | ProxyServer
            try:
                if listener.scheme == "unix":
                    opened = await loop.create_unix_server(
                        server, sock=bind_unix(listener.path), ssl=context, backlog=1024
                    )
                elif self._config.flag(f"listener.{listener.name}.proxy.protocol"):
                    opened = self._open_behind_proxies(listener, server, context)
                else:
                    opened = await open_tcp(loop, server, listener, context)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise OSError(f"cannot listen on {listener}: {reason}") from None
            if listener.scheme == "unix":
                self._paths.append(listener.path)
                self.addresses.append(str(listener))
            else:
                port = opened.sockets[0].getsockname()[1]
                host = f"[{listener.host}]" if ":" in listener.host else listener.host
                self.addresses.append(f"{listener.scheme}://{host}:{port}")
            self._sockets.append(opened)

    def is_admin(self, listener: str) -> bool:
        """Whether the listener is for operators."""
        return listener in self._admin

    def _open_behind_proxies(self, listener: Listener, server: Server, context: ssl.SSLContext | None) -> ProxyServer:
        def serve(client: tuple[str, int] | None) -> asyncio.Protocol:
            connection = cast(HttpConnection, server())
            connection.proxied = client
            return connection

        return ProxyServer(listen_tcp(listener), context, self.proxies.trusts, serve, self.header_timeout_s)

    def _secured(self, listener: Listener, name: str) -> ListenerTls:
        from kafka_gateway.door.tls import ListenerTls  # its library takes a while to import

        secured = self._secured_by_listener[name] = ListenerTls(self._config.for_listener(listener.name))
        self.gateway.reloads.append(secured.reload)
        task = asyncio.get_running_loop().create_task(secured.follow(), name=f"follow {listener}")
        self._following.append(task)
        return secured

    def certificates(self) -> dict[str, float]:
        """By listener, the seconds since 1970 at which its certificate ends; of several the first."""
        return {name: each.ends_at for name, each in self._secured_by_listener.items()}

    def certificate_of(self, listener: str, transport: asyncio.BaseTransport) -> str:
        """The certificate that TLS has verified of a client of this listener, DER in base64; "" without one."""

        secured = self._secured_by_listener.get(listener)
        if secured is None or not secured.asks_certificate:
            return ""
        connection = transport.get_extra_info("ssl_object")
        shown = connection.getpeercert(binary_form=True) if connection is not None else None
        return base64.b64encode(shown).decode() if shown else ""

    def note_refused(self, peer: str, reason: BaseException | None) -> None:
        """Counts a request that was no valid HTTP. The log is told now and then only, or it could be flooded."""
        self.refused += 1
        now = time.monotonic()
        if now >= self._tell_refused_at:
            self._tell_refused_at = now + _TELL_EVERY_S
            count, self._refused_told = self.refused - self._refused_told, self.refused
            log.warning("%d requests were no valid HTTP, the last one from %s: %s", count, peer, type(reason).__name__)

    def forget(self, session: Session) -> None:
        """Closes a session whose client is gone, in the background."""
        if not session.idle:
            task = asyncio.get_running_loop().create_task(self.gateway.close_session(session, GONE))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        else:
            self.gateway.sessions.discard(session)
            session.closed = GONE

    def lose(self, session: Session, listener: str) -> None:
        """A connection that was handed over is lost."""
        self.connection_count -= 1
        self.connections[listener] -= 1
        self.forget(session)

    async def stop_listening(self) -> None:
        """Closes the listeners; connections stay, each until its request at work is answered."""
        for opened in self._sockets:
            opened.close()
        for task in self._following:
            task.cancel()
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for server in self._servers.values():
            for connection in server.connections:
                if isinstance(connection, HttpConnection):
                    connection.retire()

    async def close(self, timeout_s: float) -> None:
        """Closes the connections that are still there after ``timeout_s``."""
        for session in list(self.gateway.sessions):
            await self.gateway.close_session(session, SHUTDOWN)
        for server in self._servers.values():
            await server.shutdown(timeout_s)


def offered(listener: Listener, transports: Sequence[Transport]) -> tuple[Transport, ...]:
    """The transports of a listener: those that it names, else all that need not be named."""
    if listener.admin:
        return tuple(each for each in transports if each.admin)
    if listener.transports:
        return tuple(each for each in transports if each.name in listener.transports)
    return tuple(each for each in transports if not each.named_only)
