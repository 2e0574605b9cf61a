"""What is counted of the proxy's sockets, for Prometheus (websocket-proxy.md §7.1). Each gateway has its own registry.

The sockets count in plain integers; they are read when somebody asks. Series of single clients end with their sockets,
and there is a bound on how many there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kafka_gateway.config import Config
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import BrokerNode
from kafka_gateway.services.websocket_proxy.session import CONSUMER, Kind
from kafka_gateway.services.websocket_proxy.sessions import SocketCounters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHERS = "(others)"
"""The client of the series that all sockets beyond the bound share."""
_KEY = "kafka.ws.proxy."


class Counted(Protocol):
    """A socket, as far as it is counted."""

    @property
    def kind(self) -> Kind: ...
    @property
    def session_id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def counters(self) -> SocketCounters: ...


class ProxyMetrics(Collector):
    """Belongs to the event loop."""

    def __init__(self, config: Config, admin: Admin) -> None:
        self._admin = admin
        self._most = config.integer(_KEY + "metrics.clients.max")
        self._open: dict[Counted, None] = {}
        """In the order of their opening."""
        self._nodes: list[BrokerNode] = []
        self.registry = CollectorRegistry(auto_describe=False)
        self._refused = Counter(
            "wsproxy_handshakes_refused", "Sockets that got no place", ["reason"], registry=self.registry
        )
        self._closed = Counter("wsproxy_sockets_closed", "Sockets that ended", ["type", "code"], registry=self.registry)
        started = Gauge("wsproxy_start_time_seconds", "When the gateway started", registry=self.registry)
        started.set(time.time())
        Info("wsproxy_status", "How the proxy is set up", registry=self.registry).info(_status(config))
        self.registry.register(self)

    def opened(self, socket: Counted) -> None:
        self._open[socket] = None

    def closed(self, socket: Counted, code: int) -> None:
        """``code`` is the close code; 0 for one that was registered and never opened."""
        self._open.pop(socket, None)
        if code:
            self._closed.labels(_type(socket.kind), str(code)).inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    async def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        try:
            self._nodes = await self._admin.nodes()
        except ServiceError:
            self._nodes = []
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """The series that are made when they are asked for; called by the registry."""
        counts = {"producer": 0, "consumer": 0}
        for socket in self._open:
            counts[_type(socket.kind)] += 1
        sockets = GaugeMetricFamily("wsproxy_open_websockets", "Open sockets", labels=["type"])
        for kind, count in counts.items():
            sockets.add_metric([kind], count)
        yield sockets
        yield from self._per_client()
        brokers = InfoMetricFamily("wsproxy_broker", "Brokers of the cluster")
        for node in self._nodes:
            brokers.add_metric(
                [], {"id": str(node.id), "host": node.host, "port": str(node.port), "rack": node.rack or ""}
            )
        yield brokers

    def _per_client(self) -> Iterator[Metric]:
        consumer, producer = ["group_id", "client_id"], ["producer_id", "instance_id"]
        sent = CounterMetricFamily("wsproxy_consumer_records_sent", "Records sent to a consumer", labels=consumer)
        commits = CounterMetricFamily("wsproxy_consumer_commits_received", "Commits of a consumer", labels=consumer)
        waiting = GaugeMetricFamily(
            "wsproxy_consumer_uncommitted_records", "Size of a consumer's commit stack", labels=consumer
        )
        received = CounterMetricFamily("wsproxy_producer_records_received", "Records of a producer", labels=producer)
        acks = CounterMetricFamily("wsproxy_producer_acks_sent", "Results sent to a producer", labels=producer)
        for (kind, *names), counters in self._sums().items():
            first, second = (sent, commits) if kind == CONSUMER else (received, acks)
            first.add_metric(names, counters.records)
            second.add_metric(names, counters.answers)
            if kind == CONSUMER:
                waiting.add_metric(names, counters.uncommitted)
        yield from (sent, commits, waiting, received, acks)

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
