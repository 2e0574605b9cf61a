"""The metrics of the proxy's sockets (websocket-proxy.md §7.1): in its own ``/metrics`` resources, and under the same
names among the gateway's.

The sockets count in plain integers, which a scrape reads. Series of single clients end with their sockets, and their
number is bounded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from kafka_gateway.config import Config
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import BrokerNode
from kafka_gateway.metrics.families import Family, counter, gauge, info
from kafka_gateway.metrics.registry import Families, render
from kafka_gateway.services.websocket_proxy.session import CONSUMER, Kind
from kafka_gateway.services.websocket_proxy.sessions import SocketCounters

OTHERS = "(others)"
"""The client of the series that all sockets beyond the bound share."""
_KEY = "kafka.ws.proxy."


class CountedSocket(Protocol):
    """A socket, as far as it is counted."""

    @property
    def kind(self) -> Kind: ...
    @property
    def session_id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def counters(self) -> SocketCounters: ...


class ProxyMetrics:
    """Belongs to the event loop."""

    def __init__(self, config: Config, admin: Admin) -> None:
        self._admin = admin
        self._most = config.integer(_KEY + "metrics.clients.max")
        self._open: dict[CountedSocket, None] = {}
        """In the order of their opening."""
        self._refused: Counter[str] = Counter()
        self._closed: Counter[tuple[str, str]] = Counter()
        self._started_at = time.time()
        self._status = _status(config)

    def opened(self, socket: CountedSocket) -> None:
        self._open[socket] = None

    def closed(self, socket: CountedSocket, code: int) -> None:
        """Counts a socket that has ended. ``code``: its close code; 0 if it was registered and never opened."""
        self._open.pop(socket, None)
        if code:
            self._closed[_type(socket.kind), str(code)] += 1

    def refused(self, reason: str) -> None:
        self._refused[reason] += 1

    async def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        try:
            nodes = await self._admin.nodes()
        except ServiceError:
            nodes = []
        return await render([*self.families(), _brokers(nodes)])

    def families(self) -> Families:
        """A source of the gateway's metrics: all but the list of brokers, for which Kafka would have to be asked."""
        refused = [((reason,), count) for reason, count in self._refused.items()]
        yield _counter("wsproxy_handshakes_refused", "Sockets that got no place", ("reason",), refused)
        yield _counter("wsproxy_sockets_closed", "Sockets that ended", ("type", "code"), list(self._closed.items()))
        yield _gauge("wsproxy_start_time_seconds", "When the gateway started", (), [((), self._started_at)])
        yield _info("wsproxy_status", "How the proxy is set up", self._status)
        counts = Counter({"producer": 0, "consumer": 0})
        for socket in self._open:
            counts[_type(socket.kind)] += 1
        yield _gauge(
            "wsproxy_open_websockets", "Open sockets", ("type",), [((kind,), count) for kind, count in counts.items()]
        )
        yield from self._per_client()

    def _per_client(self) -> Families:
        consumer, producer = ("group_id", "client_id"), ("producer_id", "instance_id")
        sums = self._sums().items()
        consumers = [(names, sum) for (kind, *names), sum in sums if kind == CONSUMER]
        producers = [(names, sum) for (kind, *names), sum in sums if kind != CONSUMER]
        sent, commits = "Records sent to a consumer", "Commits of a consumer"
        yield _counter(
            "wsproxy_consumer_records_sent", sent, consumer, [(names, sum.records) for names, sum in consumers]
        )
        yield _counter(
            "wsproxy_consumer_commits_received", commits, consumer, [(names, sum.answers) for names, sum in consumers]
        )
        waiting = [(names, sum.uncommitted) for names, sum in consumers]
        yield _gauge("wsproxy_consumer_uncommitted_records", "Size of a consumer's commit stack", consumer, waiting)
        received, acks = "Records of a producer", "Results sent to a producer"
        yield _counter(
            "wsproxy_producer_records_received", received, producer, [(names, sum.records) for names, sum in producers]
        )
        yield _counter("wsproxy_producer_acks_sent", acks, producer, [(names, sum.answers) for names, sum in producers])

    def _sums(self) -> dict[tuple[str, str, str], SocketCounters]:
        sums: dict[tuple[str, str, str], SocketCounters] = {}
        for socket in self._open:
            name = (socket.kind, socket.session_id, socket.client_id)
            if name not in sums and len(sums) >= self._most:
                name = (socket.kind, OTHERS, OTHERS)
            total = sums.setdefault(name, SocketCounters())
            total.records += socket.counters.records
            total.answers += socket.counters.answers
            total.uncommitted += socket.counters.uncommitted
        return sums


_counter = partial(counter, prefix="")
_gauge = partial(gauge, prefix="")
_info = partial(info, prefix="")
"""The names are those of the specification."""


def _brokers(nodes: Sequence[BrokerNode]) -> Family:
    known = [{"id": str(node.id), "host": node.host, "port": str(node.port), "rack": node.rack or ""} for node in nodes]
    return _info("wsproxy_broker", "Brokers of the cluster", *known)


def _type(kind: Kind) -> str:
    return "consumer" if kind == CONSUMER else "producer"


def _status(config: Config) -> dict[str, str]:
    methods = config.methods
    listeners = config.listeners()
    plain = next((each.port for each in listeners if each.scheme == "http"), 0)
    tls = next((each.port for each in listeners if each.scheme == "https"), 0)
    return {
        "http_enabled": str(any(each.scheme == "http" for each in listeners)).lower(),
        "https_enabled": str(any(each.tls for each in listeners)).lower(),
        "basic_auth_enabled": str(not {"BASIC", "SINGLE-USER"}.isdisjoint(methods)).lower(),
        "open_id_connect_enabled": str("OPENID" in methods).lower(),
        "http_port": str(plain),
        "https_port": str(tls),
        "session_state_topic_name": config.text(_KEY + "session-handler.topic-name"),
        "dynamic_config_topic_name": config.text(_KEY + "dynamic-config-handler.topic-name"),
    }
