"""All bridges of a gateway: their start and end, and the pages about them (bridges.md A-16, A-35)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable

from kafka_gateway.errors import ServiceError
from kafka_gateway.messages import Call, Response
from kafka_gateway.metrics.families import PREFIX
from kafka_gateway.metrics.registry import TEXT, Families, render
from kafka_gateway.service import Service
from kafka_gateway.services.bridges.consume import ConsumerBridge
from kafka_gateway.services.bridges.metrics import families
from kafka_gateway.services.bridges.produce import ProducerBridge
from kafka_gateway.services.bridges.replies import BridgesReply, ConsumerReply, ProducerReply
from kafka_gateway.services.common.health import HealthService

log = logging.getLogger("gateway.bridges")


class Bridges(Service):
    """The handlers of ``/bridges``, ``/bridges/metrics``, ``/healthz`` and ``/readyz``."""

    def __init__(self, health: HealthService, grace_s: float) -> None:
        self._producers: tuple[ProducerBridge, ...] = ()
        self._consumers: tuple[ConsumerBridge, ...] = ()
        self._health = health
        self._grace_s = grace_s
        self._stopping = False

    def set(self, producers: Iterable[ProducerBridge], consumers: Iterable[ConsumerBridge]) -> None:
        """The bridges that there are, before `lifespan` begins."""
        self._producers, self._consumers = tuple(producers), tuple(consumers)

    async def replace(self, producers: Iterable[ProducerBridge], consumers: Iterable[ConsumerBridge]) -> None:
        """Other bridges from now on: what is not among them ends as at the gateway's end, what is new starts then."""
        before = self._consumers
        self.set(producers, consumers)
        ended = [each for each in before if each not in self._consumers]
        await asyncio.gather(*(self._end(each) for each in ended))
        for each in self._consumers:
            if each not in before and not self._stopping:
                try:
                    await each.start()
                except ServiceError as error:
                    log.error("bridge %s cannot start: %s", each.settings.name, error.message)
                else:
                    log.info("bridge %s has started", each.settings.name)

    async def _end(self, bridge: ConsumerBridge) -> None:
        await bridge.close(self._grace_s)
        await bridge.sink.aclose()
        log.info("bridge %s has ended", bridge.settings.name)

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        try:
            for bridge in self._consumers:
                await bridge.start()
            yield
        finally:
            self._stopping = True
            # ``drain`` has begun it already, while requests were still being finished.
            await asyncio.gather(*(bridge.close(self._grace_s) for bridge in self._consumers))
            await asyncio.gather(*(bridge.sink.aclose() for bridge in self._consumers))

    def drain(self) -> None:
        self._stopping = True
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
        return Response(await self._told())

    async def metrics(self, call: Call) -> Response:
        """``GET /bridges/metrics``: the same for Prometheus."""
        return Response(await render(families(await self._told(), "")), media_type=TEXT)

    async def families(self) -> Families:
        """What all bridges have counted, as a source of the gateway's metrics."""
        return families(await self._told(), PREFIX)

    async def _told(self) -> BridgesReply:
        consumers = [await _consumer_reply(each) for each in self._consumers]
        return BridgesReply([_producer_reply(each) for each in self._producers], consumers)


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
