"""The HTTP listeners of a gateway, and what their connections share.

aiohttp's low-level server parses; one catch-all handler takes every request. A session belongs to a connection, so a
keep-alive client is authenticated once for as long as its Authorization header stays the same.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kafka_gateway.config import Config, ConfigError
from kafka_gateway.core import Gateway
from kafka_gateway.counted import counted
from kafka_gateway.door.accepting import AcceptingServer
from kafka_gateway.door.beginnings import Beginnings
from kafka_gateway.door.connection import HttpConnection
from kafka_gateway.door.forwarded import Proxies, move_host, proxy_faults
from kafka_gateway.door.guesses import network_of
from kafka_gateway.door.host_names import checks_names
from kafka_gateway.door.http import Door
from kafka_gateway.door.listening import bind_shared, bind_unix, listen_tcp, open_tcp
from kafka_gateway.door.offer import Offer
from kafka_gateway.door.proxy_protocol import ProxyServer
from kafka_gateway.door.request import HttpRequest, move_token
from kafka_gateway.door.subprotocol_proof import FIELD, move_proof
from kafka_gateway.door.told_seldom import ToldSeldom
from kafka_gateway.door.unfinished_heads import UnfinishedHeads
from kafka_gateway.errors import (
    GONE,
    SHUTDOWN,
    Unauthorized,
)
from kafka_gateway.following import Change
from kafka_gateway.metrics import door as door_metrics
from kafka_gateway.session import Session
from kafka_gateway.settings.listeners import Listener
from kafka_gateway.stream import Settling
from kafka_gateway.transport import Transport

if TYPE_CHECKING:
    from kafka_gateway.door.tls import ListenerTls

log = logging.getLogger("gateway.host")

_SETTLED_S = 0.5
"""How long a gateway that stops waits for word of what its clients have: streams that have ended give up earlier."""
_TOKEN = "access_token"
"""Where browsers put a token (RFC 6750 §2.3). Who always sends it is served where nobody asks for one, too."""


class Server(web.Server):
    """aiohttp's low-level server, making our connections."""

    def __init__(self, host: Host, listener: str, handler: Any, settings: dict[str, Any]) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True, **settings)
        self._host = host
        self._reads_tokens = bool(host.gateway.proofs.query_parameter)
        self._token_parameter = host.gateway.proofs.query_parameter or _TOKEN
        self._listener = listener
        self._settings = settings

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        if "?" in message.path and (self._reads_tokens or _TOKEN in message.path):
            message = move_token(message, self._token_parameter, self._reads_tokens)
        if FIELD in message.headers:
            message = move_proof(message)
        told = self._host.proxies.told_by(message.headers, protocol.peer) if protocol.trusted else None
        sent_host = message.headers.get("Host", "")
        if told is not None and told.host:
            message = move_host(message, told.host)
        request = HttpRequest(message, payload, protocol, writer, task, self._loop)
        request.bodies = self._host.door
        if told is not None:
            request.told, request.sent_host = told, sent_host
        return request

    def __call__(self) -> RequestHandler:
        return HttpConnection(self._host, self._listener, loop=self._loop, **self._settings)


class Host:
    """Serves the gateway's listeners. ``async with`` opens and closes them."""

    def __init__(
        self,
        config: Config,
        gateway: Gateway,
        transports: Sequence[Transport],
        inherited: Callable[[int], list[socket.socket]] | None = None,
    ) -> None:
        """``inherited``: the listening sockets of the listener at a place of the configuration, for a process that
        shares them with others; without it the host opens them."""
        self.gateway = gateway
        self._inherited = inherited
        self.connection_count = 0
        self.connections: Counter[str] = Counter()
        """Those that are open, by listener."""
        gateway.metrics.add(door_metrics.listeners(lambda: self.connections, self.certificates))
        self.refused = 0
        """Requests that were no valid HTTP."""
        self._told = ToldSeldom()
        self.connections_max = config.integer("connections.max")
        self.beginnings = Beginnings(self.connections_max, lambda: self.connection_count, self._no_room)
        self.heads = UnfinishedHeads(gateway.memory)
        self.head_max = config.integer("request.head.max.bytes") or 8 * config.integer("max.request.header.size")
        """Bytes of the head of a request."""
        self.header_timeout_s = config.seconds("request.header.timeout.ms")
        self.addresses: list[str] = []
        """What is listened on, with the real ports."""
        if faults := proxy_faults(config):
            raise ConfigError(faults)
        self.proxies = Proxies(config)
        self.door = Door(config, gateway, self.forget)
        gateway.following.append(lambda new: Change(lambda: self.door.follow(new)))
        self._config = config
        self.transports = tuple(transports)
        self._offers: dict[str, Offer] = {}
        self._servers: dict[str, Server] = {}
        self._secured_by_listener: dict[str, ListenerTls] = {}
        self._sockets: list[asyncio.Server | AcceptingServer] = []
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
        for place, listener in enumerate(self._config.listeners()):
            name = f"{listener} (admin)" if listener.admin else str(listener)
            offer = self._offers[name] = Offer(offered(listener, self.transports), checks_names(self._config, listener))
            self.gateway.reloads.append(offer.heads.forget)
            if listener.admin:
                self._admin.add(name)
            server = self._servers[name] = Server(self, name, self.door.serve, settings)
            secured = self._secured(listener, name) if listener.tls else None
            context = secured.context if secured is not None else None
            opened: asyncio.Server | AcceptingServer
            shared = self._inherited(place) if self._inherited is not None else []
            try:
                if listener.scheme == "unix":
                    sock = shared[0] if shared else bind_unix(listener.path)
                    opened = await loop.create_unix_server(server, sock=sock, backlog=1024)
                elif self._config.flag(f"listener.{listener.name}.proxy.protocol"):
                    opened = self._open_behind_proxies(listener, server, context, shared)
                elif context is not None:
                    # With asyncio's server nobody would hear of whoever is refused at the beginning of TLS.
                    opened = AcceptingServer(
                        shared or bind_shared(listener, 1)[0], context, server, self.note_no_tls, self.header_timeout_s,
                        self.beginnings,
                    )  # fmt: skip
                elif shared:
                    for sock in shared[1:]:
                        self._sockets.append(await loop.create_server(server, sock=sock, backlog=1024))
                    opened = await loop.create_server(server, sock=shared[0], backlog=1024)
                else:
                    opened = await open_tcp(loop, server, listener)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise OSError(f"cannot listen on {listener}: {reason}") from None
            if listener.scheme == "unix":
                if not shared:
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

    def _open_behind_proxies(
        self, listener: Listener, server: Server, context: ssl.SSLContext | None, shared: list[socket.socket]
    ) -> ProxyServer:
        def serve(client: str) -> asyncio.Protocol:
            connection = cast(HttpConnection, server())
            connection.proxied = client
            return connection

        return ProxyServer(
            shared or listen_tcp(listener), context, self.proxies.trusts, serve, self.note_no_proxy, self.note_no_tls,
            self.header_timeout_s, self.beginnings,
        )  # fmt: skip

    def _secured(self, listener: Listener, name: str) -> ListenerTls:
        from kafka_gateway.door.tls import ListenerTls  # importing its library takes a while

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
        """Counts a request that was no valid HTTP. It is logged now and then, because it could flood the log."""
        self.refused += 1
        if count := self._told.count("http"):
            what = counted(count, "request")
            log.warning("refused %s of no valid HTTP, the last one from %s: %s", what, peer, type(reason).__name__)

    def note_no_tls(self, peer: str, error: OSError) -> None:
        """TLS could not begin. If that is for the client's certificate, or for the name of the host that it asks for,
        the audit log has it, and now and then the log; whatever else fails is the client's business."""
        from kafka_gateway.door.tls import NO_HOST, certificate_refusal, is_of_host, tell_no_host, tell_refused

        if is_of_host(error):
            self.gateway.counters.refused["tls"] += 1
            reason, tell = NO_HOST, tell_no_host
        elif reason := certificate_refusal(error):
            self.gateway.counters.refuse(Unauthorized())
            tell = tell_refused
        else:
            return
        self.gateway.proofs.refused(peer, "tls", reason, False, "")
        if count := self._told.count(("tls", reason, network_of(peer))):
            tell(count, peer, reason)

    def note_no_proxy(self, peer: str, reason: str) -> None:
        """A connection was closed at a listener for proxies: counted, in the audit log, and now and then in the log."""
        self.gateway.counters.refused["proxy"] += 1
        self.gateway.proofs.refused(peer, "proxy", reason, False, "")
        if count := self._told.count(("proxy", reason, network_of(peer))):
            log.warning("closed %s of %s: %s (PROXY protocol)", counted(count, "connection"), peer, reason)

    def _no_room(self) -> None:
        self.gateway.counters.refused["connections"] += 1

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
        """Closes the connections that are still there after ``timeout_s``. What clients are being sent may become known
        as delivered before, for a moment: else whoever goes on in the place of this gateway sends it again."""
        began = time.monotonic()
        await _settled(self.gateway.sessions, min(_SETTLED_S, timeout_s))
        timeout_s = max(0.1, timeout_s - (time.monotonic() - began))
        for session in list(self.gateway.sessions):
            await self.gateway.close_session(session, SHUTDOWN)
        for server in self._servers.values():
            await server.shutdown(timeout_s)


async def _settled(sessions: Iterable[Session], within_s: float) -> None:
    streams = [stream for session in sessions for stream in session.streams if isinstance(stream, Settling)]
    if streams:
        _, late = await asyncio.wait([asyncio.ensure_future(each.settled()) for each in streams], timeout=within_s)
        for each in late:
            each.cancel()


def offered(listener: Listener, transports: Sequence[Transport]) -> tuple[Transport, ...]:
    """The transports of a listener: those that it names, else all that need not be named."""
    if listener.admin:
        return tuple(each for each in transports if each.admin)
    if listener.transports:
        return tuple(each for each in transports if each.name in listener.transports)
    return tuple(each for each in transports if not each.named_only)
