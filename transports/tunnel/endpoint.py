"""The tunnel's end in the gateway: Kafka's own protocol through a WebSocket (bridges.md C4).

A client names at most the id of a broker, and the gateway connects to the address that the cluster gives for it. It
never connects to a host, port or name that a client sends. It connects to the broker before it answers the handshake,
so a failure is an HTTP status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

from aiohttp import web

from kafka_gateway import jsonio
from kafka_gateway.config import Config, ConfigError, Fault
from kafka_gateway.core import Gateway
from kafka_gateway.description import Description
from kafka_gateway.errors import (
    SHUTDOWN,
    BadRequest,
    CloseReason,
    GatewayTimeout,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    ShuttingDown,
    Unavailable,
)
from kafka_gateway.limits import TokenBucket
from kafka_gateway.memory_budget import MemoryShare
from kafka_gateway.query import parse_query
from kafka_gateway.router import Route, served
from kafka_gateway.session import Session
from kafka_gateway.transport import HttpRequest, Transport, refusal
from kafka_gateway.transports.tunnel import apis, own_topics, sasl
from kafka_gateway.transports.tunnel.advertised_addresses import AdvertisedAddresses, node_of, of_query, ports_of
from kafka_gateway.transports.tunnel.broker import BadGateway, BrokerConnection, connect
from kafka_gateway.transports.tunnel.counts import Counts
from kafka_gateway.transports.tunnel.relay import Relay, Rules
from kafka_gateway.transports.tunnel.routes import Routes, Target
from kafka_gateway.transports.websocket.socket import OVER, Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from kafka_gateway.upstream import Sasl, Upstream
from kafka_gateway.wire.frames import WireError

log = logging.getLogger("gateway.tunnel")

_STATIC = re.compile(r"(?P<node>[0-9]{1,10})=(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:=\[\]]+):(?P<port>[0-9]{1,5})")
_FIRST_LOOK_S = 1.0
_BOOTSTRAP = -1
"""In place of a node id: any broker."""


class BrokerRow(jsonio.Struct):
    """One broker in the list: the path that leads to it, and never its address."""

    node_id: int
    rack: str | None
    path: str


class BrokerList(jsonio.Struct):
    cluster_id: str
    brokers: list[BrokerRow]


class UpgradeNeeded(ServiceError):
    """A plain request where a tunnel begins; the body is that of Kafka WebSocket Shim."""

    status, error_code, text = 426, 426, "Expected Upgrade: websocket"
    help = "Open a WebSocket on this path: docs/tunnel.md tells how."


def _resources(path: str, brokers: str) -> tuple[Route, Route]:
    """The tunnel, and the list of its brokers, at these paths."""
    tunnel = served(
        "GET",
        path,
        "tunnel.open",
        permission="read gateway:tunnel",
        description=Description(
            "A tunnel for Kafka's own protocol",
            "A WebSocket; docs/tunnel.md tells more.",
            tag="Tunnel",
            replies={101: None},
            errors=(UpgradeNeeded,),
        ),
    )
    ways = served(
        "GET",
        brokers,
        "tunnel.brokers",
        permission="read gateway:tunnel",
        description=Description("How to get to each broker", tag="Tunnel", replies={200: BrokerList}),
    )
    return tunnel, ways


class TunnelTransport(Transport):
    """Offered with ``tunnel.enable`` only; the keys are in transports/tunnel/keys.py."""

    name = "tunnel"

    def __init__(self, config: Config) -> None:
        self._path = "/" + config.text("tunnel.path").strip("/")
        self._prefix = f"{self._path}/brokers"
        self.resources = self._opening, self._listing = _resources(self._path, self._prefix)
        self.paths = (self._path, self._prefix, self._prefix + "/*", "/")
        self._mode = config.text("tunnel.advertise.mode")
        self._advertise = _advertise(config, self._mode)
        self._vhost = _vhost(self._advertise) if self._mode == "vhost" else None
        self._static = _static(config)
        self._inject = config.text("tunnel.upstream.auth") == "inject"
        request_max = config.integer("tunnel.max.request.bytes")
        self._response_max = config.integer("tunnel.max.response.bytes")
        denied = apis.INTERNAL | set(map(int, config.items("tunnel.denied.apis")))
        caps = dict(apis.CAPS)
        if self._inject:
            denied |= {apis.SASL_HANDSHAKE, apis.SASL_AUTHENTICATE} | own_topics.BY_ID
            caps |= {key: min(newest, caps.get(key, newest)) for key, newest in own_topics.CAPS.items()}
        if config.flag("tunnel.clamp.fetch"):
            caps[apis.FETCH] = min(caps[apis.FETCH], apis.FETCH_WITHOUT_ADDRESSES)
        hide_unknown = config.text("tunnel.unknown.apis") == "hide"
        self._rules = Rules(frozenset(denied), hide_unknown, caps, request_max, self._response_max, self._inject)
        self._limits = SocketLimits(
            text_max=request_max + 4,
            binary_max=request_max + 4,
            idle_s=config.seconds("tunnel.idle.timeout.ms"),
            write_timeout_s=config.seconds("tunnel.write.timeout.ms"),
            ping_s=config.seconds("tunnel.ping.interval.ms"),
        )
        self._buffered_max = config.integer("tunnel.max.buffered.bytes")
        self._memory: MemoryShare
        self._connect_timeout_s = config.seconds("tunnel.connect.timeout.ms")
        self._refresh_s = config.seconds("tunnel.refresh.ms")
        self._drain_s = config.seconds("tunnel.drain.timeout.ms")
        self._max = config.integer("tunnel.max.connections")
        self._max_per_ip = config.integer("tunnel.max.connections.per.ip")
        self._max_per_principal = config.integer("tunnel.max.connections.per.principal")
        rate = config.integer("tunnel.max.handshakes.per.sec")
        self._handshakes = TokenBucket(rate) if rate else None
        self.counts = Counts()
        self._by_ip: Counter[str] = Counter()
        self._by_principal: Counter[str] = Counter()
        self._down: set[Target] = set()
        self._upstream: Upstream | None = None
        self._routes: Routes | None = None
        self._brokers: set[BrokerConnection] = set()
        """Connections to brokers that are open, or are closing."""

    # --- which requests ---------------------------------------------------------------------------------------------

    def claims(self, request: web.BaseRequest) -> bool:
        path = request.raw_path.partition("?")[0]
        if path == self._path or path == self._prefix or path.startswith(self._prefix + "/"):
            return True
        return path == "/" and _wants_upgrade(request) and self._node_of_root(request) is not None

    def _node_of_root(self, request: web.BaseRequest) -> int | None:
        """The broker that a request for ``/`` means, by its Host header or the port it came to; None if it means none.

        Clients of Kafka WebSocket Shim send no path (C2).
        """
        if self._vhost is not None and (match := self._vhost.fullmatch(request.headers.get("Host", ""))):
            return node_of(match["node"])
        if self._mode == "listeners" and self._advertise is not None and self._routes is not None:
            port = _local_port(request)
            for node in self._routes.nodes():
                with contextlib.suppress(WireError):
                    if self._advertise.address(node)[1] == port:
                        return node
        return _BOOTSTRAP if _has_own_listener(request) else None

    @contextlib.asynccontextmanager
    async def lifespan(self, gateway: Gateway) -> AsyncIterator[None]:
        """Fills the route table before the first client: after a restart clients come to single brokers at once."""
        self._memory = gateway.memory.share(self._buffered_max)
        upstream = self._upstream = cast(Upstream, gateway.state[Upstream]())
        if self._inject and (upstream.sasl is None or upstream.sasl.mechanism not in sasl.MECHANISMS):
            key = "tunnel.upstream.auth"
            message = f"inject needs client.security.protocol=SASL_… and {', '.join(sasl.MECHANISMS)}"
            raise ConfigError([Fault("", key, message)])
        gateway.state[Counts] = self.counts
        gateway.metrics.add(self.counts.families)
        routes = self._routes = Routes(upstream, self._static, self._refresh_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await routes.refresh()
        following = asyncio.get_running_loop().create_task(routes.follow(), name="tunnel routes")
        try:
            yield
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await routes.aclose()
            brokers = list(self._brokers)
            for broker in brokers:
                broker.close()
            # What clients sent last still gets to the brokers; `close` limits the time.
            await asyncio.gather(*(broker.over for broker in brokers))

    # --- one request ------------------------------------------------------------------------------------------------

    async def handle(self, request: HttpRequest, session: Session, gateway: Gateway) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        request.lasts = _wants_upgrade(request)
        if request.method != "GET":
            raise MethodNotAllowed(allow=("GET",))
        if path == self._prefix:
            await gateway.admit(session, self._listing)
            return await self._list()
        node = self._node(request, path)
        if not _wants_upgrade(request):
            raise UpgradeNeeded()
        query = parse_query(query_text)
        await gateway.admit(session, self._opening)
        with self._admitted(session, gateway):
            advertise = of_query(query) or self._advertise
            return await self._relay(request, session, gateway, node, advertise)

    def refuse(self, request: HttpRequest, error: ServiceError) -> web.StreamResponse:
        self.counts.refused[error.status] = self.counts.refused.get(error.status, 0) + 1
        response = refusal(error, request)
        if isinstance(error, UpgradeNeeded):
            response.text, response.content_type = error.message, "text/plain"
            response.headers["Upgrade"] = "websocket"
        elif isinstance(error, BadRequest):
            response.headers["Sec-WebSocket-Version"] = "13"  # RFC 6455 §4.4
        if _wants_upgrade(request):
            response.force_close()  # what follows may be frames
        return response

    async def _list(self) -> web.Response:
        assert self._routes is not None
        if not self._routes.nodes():
            await self._routes.refresh()
        rows = [BrokerRow(node, None, f"{self._prefix}/{node}") for node in self._routes.nodes()]
        body = jsonio.encode(BrokerList(self._routes.cluster_id, rows))
        headers = {"Cache-Control": "no-store", "Server": "kafka-gateway"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    def _node(self, request: web.BaseRequest, path: str) -> int:
        if path == self._path:
            return _BOOTSTRAP
        node = None
        if path == "/":
            node = self._node_of_root(request)
        elif path.startswith(self._prefix + "/"):
            node = node_of(path[len(self._prefix) + 1 :])
        if node is None:
            raise NotFound("There is no such broker.")
        return node

    @contextlib.contextmanager
    def _admitted(self, session: Session, gateway: Gateway) -> Any:
        """Counts the tunnel in and out. Unavailable if there are too many (C-14)."""
        ip, name = session.peer, session.principal.name
        if gateway.stopping:
            raise ShuttingDown()
        if self.counts.open >= self._max:
            raise Unavailable("There are tunnel.max.connections open tunnels.")
        if self._max_per_ip and self._by_ip[ip] >= self._max_per_ip:
            raise Unavailable("This address has tunnel.max.connections.per.ip open tunnels.")
        if self._max_per_principal and self._by_principal[name] >= self._max_per_principal:
            raise Unavailable("This principal has tunnel.max.connections.per.principal open tunnels.")
        if self._handshakes is not None and self._handshakes.wait_s(1) > 0:
            self._handshakes.give_back(1)
            raise Unavailable("More than tunnel.max.handshakes.per.sec new tunnels.")
        self.counts.open += 1
        self._by_ip[ip] += 1
        self._by_principal[name] += 1
        try:
            yield
        finally:
            self.counts.open -= 1
            for counter, key in ((self._by_ip, ip), (self._by_principal, name)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    async def _relay(
        self,
        request: web.BaseRequest,
        session: Session,
        gateway: Gateway,
        node: int,
        advertise: AdvertisedAddresses | None,
    ) -> web.StreamResponse:
        assert self._routes is not None
        self._check_ports(advertise)
        # Asked for at each handshake: where clients bring credentials, these are the client's own (security.md §4).
        login = cast(Upstream, gateway.state[Upstream]()).sasl if self._inject else None
        if self._inject and login is None:
            raise BadGateway("There are no credentials with which the gateway could log in.")
        broker = await self._connect(node, login)
        relay = Relay(broker, self._rules, advertise, self._routes, self._memory, self.counts)
        started, code = time.monotonic(), 1006
        try:
            socket = await Socket.accept(
                request, self._limits, {}, gateway.memory, self.name, partial(relay.watch_frames, gateway.memory)
            )
            self.counts.opened += 1

            def close(reason: CloseReason) -> None:
                if reason is SHUTDOWN:
                    relay.drain(reason, self._drain_s)
                elif reason.error is not None:
                    relay.end(reason)
                else:
                    socket.close(reason)

            session.keep_open(close, f"{request.method} {request.raw_path.partition('?')[0]}")
            gateway.admission.hold(session, self._opening.needs({}))
            relay.attach(socket)
            code = (await socket.run(relay.take)).code
        except ConnectionError:
            pass  # the client left without a close frame, which is a normal end
        finally:
            session.on_close = None
            relay.close()
            if relay.reason is not None:  # whether or not the client stayed to hear it
                code = relay.reason.code
            self.counts.closed[code] = self.counts.closed.get(code, 0) + 1
            log.info(
                "tunnel of %s at %s to %s closed with %d after %.1f s",
                session.principal.name,
                session.peer,
                "bootstrap" if node == _BOOTSTRAP else f"broker {node}",
                code,
                time.monotonic() - started,
            )
        return OVER

    def _check_ports(self, advertise: AdvertisedAddresses | None) -> None:
        """BadRequest if a broker that is known would get an address that cannot be (C-20)."""
        assert self._routes is not None
        if advertise is not None:
            for node in self._routes.nodes():
                try:
                    advertise.address(node)
                except WireError as error:
                    raise BadRequest(f"{error}: its port would be over 65535, give it one with map=ID:PORT") from None

    async def _connect(self, node: int, login: Sasl | None) -> BrokerConnection:
        """A connection to that broker, logged in if there is a ``login``."""
        assert self._routes is not None
        assert self._upstream is not None
        if node == _BOOTSTRAP:
            broker = await self._connect_to(self._routes.bootstrap())
        else:
            target = await self._routes.of(node)
            try:
                broker = await self._connect_to([target])
            except BadGateway:
                await self._routes.refresh()
                if (moved := await self._routes.of(node)) == target:
                    raise
                broker = await self._connect_to([moved])
        self._brokers.add(broker)
        broker.over.add_done_callback(lambda _: self._brokers.discard(broker))
        if login is not None:
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await sasl.log_in(broker, login)
            except TimeoutError:
                broker.close()
                raise BadGateway("The broker did not let the gateway log in in time.") from None
            except BaseException:
                broker.close()
                raise
        return broker

    async def _connect_to(self, targets: list[Target]) -> BrokerConnection:
        """As `connect`. Clients try again and again, so only two things are logged: a broker cannot be reached, and it
        can again."""
        assert self._upstream is not None
        host, port = targets[0]
        try:
            broker = await connect(targets, self._upstream.tls, self._connect_timeout_s, self._response_max)
        except (BadGateway, GatewayTimeout) as error:
            if targets[0] not in self._down:
                self._down.add(targets[0])
                log.warning("broker %s:%d cannot be reached: %s", host, port, error.__cause__ or error.message)
            raise
        if targets[0] in self._down:
            self._down.discard(targets[0])
            log.info("broker %s:%d can be reached again", host, port)
        return broker


def _wants_upgrade(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").strip().lower() == "websocket"


def _has_own_listener(request: web.BaseRequest) -> bool:
    """Whether its listener offers nothing but the tunnel (``listener.name.<name>.transports``)."""
    offered: Any = request.protocol
    return len(offered.offer.transports) == 1


def _local_port(request: web.BaseRequest) -> int | None:
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return name[1] if isinstance(name, tuple) else None


def _advertise(config: Config, mode: str) -> AdvertisedAddresses | None:
    """The addresses for clients whose handshake asks for none. ConfigError says what is missing."""
    if mode == "none":
        return None
    key = "tunnel.advertise.host"
    host, port = config.text(key), config.integer("tunnel.advertise.port")
    if not host or ("{node}" in host) != (mode == "vhost") or not host.isascii():
        wanted = "one with {node} in it" if mode == "vhost" else "a plain one"
        raise ConfigError([Fault(config.place(key), key, f"tunnel.advertise.mode={mode} needs a host, {wanted}")])
    if not port:
        key = "tunnel.advertise.port"
        raise ConfigError([Fault(config.place(key), key, f"tunnel.advertise.mode={mode} needs a port")])
    key = "tunnel.advertise.map"
    try:
        return AdvertisedAddresses(host, port, ports_of(key, ",".join(config.items(key))))
    except BadRequest as error:
        raise ConfigError([Fault(config.place(key), key, error.message)]) from None


def _vhost(advertise: AdvertisedAddresses | None) -> re.Pattern[str]:
    assert advertise is not None
    before, _, behind = advertise.host.partition("{node}")
    return re.compile(rf"{re.escape(before)}(?P<node>[0-9]{{1,10}}){re.escape(behind)}(:[0-9]{{1,5}})?", re.IGNORECASE)


def _static(config: Config) -> dict[int, Target]:
    key = "tunnel.static.brokers"
    found: dict[int, Target] = {}
    for item in config.items(key):
        match = _STATIC.fullmatch(item)
        if match is None or not 0 < int(match["port"]) < 65536 or node_of(match["node"]) is None:
            raise ConfigError([Fault(config.place(key), key, f"{item!r} is not ID=HOST:PORT")])
        found[int(match["node"])] = (match["host"].strip("[]"), int(match["port"]))
    return found


def check(config: Config) -> None:
    """ConfigError for settings that contradict each other, or that the tunnel cannot use."""
    faults = []
    key = "tunnel.denied.apis"
    faults += [
        Fault(config.place(key), key, f"{item!r} is not a number")
        for item in config.items(key)
        if not re.fullmatch(r"[0-9]{1,5}", item)
    ]
    own = config.text("kafka.credentials") != "client"
    if config.text("tunnel.upstream.auth") == "inject" and own and not config.asks_who:
        # Else whoever reaches the gateway would be the gateway's user at the brokers (C-25).
        key = "tunnel.upstream.auth"
        faults.append(Fault(config.place(key), key, "inject needs authentication.method, or anybody could use it"))
    if not config.text("tunnel.path").strip("/"):
        key = "tunnel.path"
        message = "cannot be /: a listener that offers nothing but the tunnel has it there anyway"
        faults.append(Fault(config.place(key), key, message))
    if faults:
        raise ConfigError(faults)
