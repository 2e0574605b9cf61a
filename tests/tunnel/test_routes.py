"""The table of brokers (bridges.md C-4, C-18; C8 nos. 20 and 25)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kafka_gateway.errors import NotFound
from kafka_gateway.kafka_errors import BrokerNotAvailable
from kafka_gateway.transports.tunnel import routes as module
from kafka_gateway.transports.tunnel.routes import Routes
from kafka_gateway.upstream import Broker, Upstream
from tests.waiting import until


class Cluster:
    """What Kafka would answer, and how often it was asked."""

    def __init__(self, *brokers: Broker) -> None:
        self.brokers: tuple[Broker, ...] | None = brokers
        self.asked = 0

    async def __call__(self) -> tuple[str, tuple[Broker, ...]]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.brokers is None:
            raise BrokerNotAvailable
        return "id", self.brokers


def table(cluster: Cluster, static: dict[int, tuple[str, int]] | None = None, refresh_s: float = 60) -> Routes:
    servers = (("a", 1), ("b", 2), ("c", 3))
    return Routes(Upstream(servers, None, None, cluster), static or {}, refresh_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed, to be changed."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


async def test_an_unknown_id_is_one_question_for_all_who_ask(clock: list[float]) -> None:
    cluster = Cluster(Broker(1, "k1", 9092))
    routes = table(cluster)
    found = await asyncio.gather(*(routes.of(node) for node in (1, 1, 1, 2, 3)), return_exceptions=True)
    assert found[:3] == [("k1", 9092)] * 3
    assert [type(each) for each in found[3:]] == [NotFound, NotFound]
    assert cluster.asked == 1
    for node in range(10, 50):  # who tries out ids does not make the gateway ask for each
        with pytest.raises(NotFound):
            await routes.of(node)
    assert cluster.asked == 1
    clock[0] += 1.1
    cluster.brokers = (Broker(1, "k1", 9093), Broker(2, "k2", 9092))
    assert await routes.of(2) == ("k2", 9092)
    assert await routes.of(1) == ("k1", 9093)
    assert (routes.nodes(), routes.cluster_id) == ([1, 2], "id")


async def test_a_broker_that_is_down_stays_for_ten_minutes(clock: list[float]) -> None:
    cluster = Cluster(Broker(1, "k1", 9092), Broker(2, "k2", 9092))
    routes = table(cluster, {9: ("k9", 1)})
    await routes.refresh()
    cluster.brokers = (Broker(1, "k1", 9092),)
    for _ in range(9):
        clock[0] += 60
        await routes.refresh()
        assert routes.nodes() == [1, 2, 9]
    clock[0] += 100
    await routes.refresh()
    assert routes.nodes() == [1, 9]  # what the operator wrote stays for ever


async def test_kafka_is_asked_again_and_again(caplog: Any) -> None:
    cluster = Cluster(Broker(1, "k1", 9092))
    cluster.brokers = None
    routes = table(cluster, {1: ("k1", 1)}, 0.01)
    module_pause, module._ASK_AGAIN_S = module._ASK_AGAIN_S, 0.0
    try:
        following = asyncio.create_task(routes.follow())
        await until(lambda: cluster.asked > 3)
        assert len(caplog.records) == 1, "the log is told once"
        cluster.brokers = (Broker(4, "k4", 9092),)
        await until(lambda: 4 in routes.nodes())
    finally:
        module._ASK_AGAIN_S = module_pause
        following.cancel()
        await routes.aclose()


async def test_bootstrap_servers_take_turns() -> None:
    routes = table(Cluster())
    firsts = [routes.bootstrap()[0] for _ in range(4)]
    assert firsts == [("a", 1), ("b", 2), ("c", 3), ("a", 1)]
    assert sorted(routes.bootstrap()) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_port_that_is_none_is_not_learned() -> None:
    routes = table(Cluster())
    for port in (0, -1, 65536):
        routes.learn(1, "k1", port)
    assert routes.nodes() == []
