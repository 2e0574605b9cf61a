"""All bridges of a gateway: their start and end, and what they tell of themselves (bridges.md A-16, A-35)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from kafka_gateway import jsonio
from kafka_gateway.messages import Call, Response
from kafka_gateway.service import Service
from kafka_gateway.services.bridges.consume import ConsumerBridge
from kafka_gateway.services.bridges.produce import ProducerBridge
from kafka_gateway.services.common.health import HealthService

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The text format of Prometheus."""


class ProducerReply(jsonio.Struct):
    """A bridge into Kafka, as ``GET /bridges`` shows it."""

    name: str
    topic: str
    paths: Sequence[str]
    stored: int
    stored_bytes: int
    failed: int
    in_flight: int


class ConsumerReply(jsonio.Struct):
    """A bridge out of Kafka."""

    name: str
    topics: Sequence[str]
    group: str
    state: str
    trouble: str
    consumed: int
    delivered: int
    attempts: int
    posts: dict[str, int]
    retrying: int
    dead_letters: int
    dropped_records: int
    dropped_headers: int
    at_work: int
    oldest_s: float
    lag: dict[str, int]
    silent: dict[str, str]


class BridgesReply(jsonio.Struct):
    producers: Sequence[ProducerReply]
    consumers: Sequence[ConsumerReply]


class Bridges(Service):
    """The handlers of ``/bridges``, ``/bridges/metrics``, ``/healthz`` and ``/readyz``."""

    def __init__(
        self,
        producers: Sequence[ProducerBridge],
        consumers: Sequence[ConsumerBridge],
        health: HealthService,
        close_sinks: Callable[[], Awaitable[None]],
        grace_s: float,
    ) -> None:
        self._producers = producers
        self._consumers = consumers
        self._health = health
        self._close_sinks = close_sinks
        self._grace_s = grace_s

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            for bridge in self._consumers:
                await bridge.start()
            yield
        finally:
            # ``drain`` has begun it already, beside the requests that are finished.
            await asyncio.gather(*(bridge.close(self._grace_s) for bridge in self._consumers))
            await self._close_sinks()

    def drain(self) -> None:
        self._health.stop()
        for bridge in self._consumers:
            bridge.close(self._grace_s)

    async def live(self, call: Call) -> Response:
        """``GET /healthz``: the process answers."""
        return await self._health.live(call)

    async def ready(self, call: Call) -> Response:
        """``GET /readyz``: Kafka answers, all that was assigned to a bridge is read, and the gateway does not stop."""
        return await self._health.ready(call)

    async def list(self, call: Call) -> Response:
        """``GET /bridges``"""
        consumers = [await _consumer_reply(each) for each in self._consumers]
        return Response(BridgesReply([_producer_reply(each) for each in self._producers], consumers))

    async def metrics(self, call: Call) -> Response:
        """``GET /bridges/metrics``: the same for Prometheus."""
        consumers = [await _consumer_reply(each) for each in self._consumers]
        lines = _lines([_producer_reply(each) for each in self._producers], consumers)
        return Response("".join(lines).encode(), media_type=_TEXT)


def _producer_reply(bridge: ProducerBridge) -> ProducerReply:
    settings, counters = bridge.settings, bridge.counters
    return ProducerReply(
        settings.name,
        settings.topic,
        settings.paths,
        counters.stored,
        counters.stored_bytes,
        counters.failed,
        counters.in_flight,
    )


async def _consumer_reply(bridge: ConsumerBridge) -> ConsumerReply:
    settings, delivery = bridge.settings, bridge.delivery
    counters = delivery.counters
    lag = await bridge.lag() if bridge.state == "running" else ()
    return ConsumerReply(
        settings.name,
        settings.topics,
        settings.group,
        bridge.state,
        delivery.trouble,
        counters.consumed,
        counters.delivered,
        counters.attempts,
        dict(counters.posts),
        counters.retrying,
        counters.dead_letters,
        counters.dropped_records,
        counters.dropped_headers,
        delivery.at_work,
        round(delivery.oldest_s(), 3),
        {f"{topic}-{number}": count for topic, number, count, _ in lag},
        {f"{topic}-{number}": why for (topic, number), why in bridge.silent().items()},
    )


def silence(consumers: Iterable[ConsumerBridge]) -> str:
    """Which partitions of which bridge are not read at present, and why; "" if all are."""
    return " ".join(
        f"Bridge {each.settings.name} does not read {topic}-{number}: {why}."
        for each in consumers
        for (topic, number), why in sorted(each.silent().items())
    )


_PRODUCER_METRICS = (
    ("records_total", "counter", "stored"),
    ("bytes_total", "counter", "stored_bytes"),
    ("failed_requests_total", "counter", "failed"),
    ("requests_in_flight", "gauge", "in_flight"),
)
_CONSUMER_METRICS = (
    ("records_consumed_total", "counter", "consumed"),
    ("records_delivered_total", "counter", "delivered"),
    ("attempts_total", "counter", "attempts"),
    ("retries_pending", "gauge", "retrying"),
    ("dead_letters_total", "counter", "dead_letters"),
    ("dropped_records_total", "counter", "dropped_records"),
    ("dropped_headers_total", "counter", "dropped_headers"),
    ("records_at_work", "gauge", "at_work"),
    ("oldest_record_seconds", "gauge", "oldest_s"),
)


def _lines(producers: Sequence[ProducerReply], consumers: Sequence[ConsumerReply]) -> Iterator[str]:
    """Prometheus' text format, version 0.0.4."""
    for name, kind, member in _PRODUCER_METRICS:
        yield from _metric(
            f"bridge_producer_{name}", kind, [({"bridge": each.name}, getattr(each, member)) for each in producers]
        )
    for name, kind, member in _CONSUMER_METRICS:
        yield from _metric(
            f"bridge_consumer_{name}", kind, [({"bridge": each.name}, getattr(each, member)) for each in consumers]
        )
    yield from _metric(
        "bridge_consumer_posts_total",
        "counter",
        [({"bridge": each.name, "status": word}, count) for each in consumers for word, count in each.posts.items()],
    )
    yield from _metric(
        "bridge_consumer_lag_records",
        "gauge",
        [({"bridge": each.name, "partition": name}, count) for each in consumers for name, count in each.lag.items()],
    )


def _metric(name: str, kind: str, values: Iterable[tuple[dict[str, str], Any]]) -> Iterator[str]:
    yield f"# TYPE {name} {kind}\n"
    for labels, value in values:
        # Names of bridges and topics have no character that the format would escape.
        shown = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"{name}{{{shown}}} {value}\n"
