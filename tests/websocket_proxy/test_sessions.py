"""Sessions in their topic, shared by gateways, on a real Kafka: websocket-proxy.md §4, checklist 36 to 38, 47, 48."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import until
from tests.websocket_proxy.conftest import Log, Refused, Sockets

Unique = Callable[..., str]
KEY = "kafka.ws.proxy."
LIMIT = "The max number of WebSockets for session {} has been reached. Limit is {}"


def node(kafka: KafkaCluster, name: str, topic: str, *more: str) -> GatewayProcess:
    return GatewayProcess(
        f"{KEY}server.server-id={name}",
        f"{KEY}session-handler.topic-name={topic}",
        f"{KEY}session-handler.at-start=true",
        f"{KEY}session-handler.dead-server-timeout=6 seconds",
        f"{KEY}producer.sessions-enabled=true",
        *more,
        bootstrap=kafka.bootstrap,
    )


@contextlib.asynccontextmanager
async def sockets_of(gateway: GatewayProcess) -> AsyncIterator[Sockets]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        opened = Sockets(session, gateway.url)
        yield opened
        await opened.aclose()


async def accepted(opening: Callable[[], Any]) -> Any:
    """The socket, as soon as there is a place for it."""
    return await until(opening, but=Refused)


async def refusal(opening: Callable[[], Any]) -> tuple[int, str]:
    """How it is refused, as soon as it is: what another gateway did takes a moment to come here."""

    async def told() -> tuple[int, str] | None:
        try:
            peer = await opening()
        except Refused as error:
            if error.status != 101:  # what `Sockets.open` asks once more to see the body may be let in
                return error.status, json.loads(error.body)["message"]
        else:
            await peer.socket.close()
        return None

    found: tuple[int, str] = await until(told)
    return found


async def instances(log: Log, topic: str, key: str, expected: set[str]) -> dict[str, Any]:
    """The last record of a session, as soon as it has these instances."""
    found: dict[str, Any] = {}

    async def has_them() -> bool:
        nonlocal found
        records = await asyncio.to_thread(log.read, topic)
        last = [each.value() for each in records if each.key() == key.encode()]
        found = json.loads(last[-1]) if last and last[-1] is not None else {}
        ids = (each["id"] for each in found.get("instances", ()))
        return {each.get("clientId", each.get("instanceId")) for each in ids} == expected

    try:
        await until(has_them, but=KafkaException)  # while the topic is just being made
    except TimeoutError:
        pytest.fail(f"{found} has not the instances {expected}")
    return found


@pytest.fixture(scope="module")
def state() -> str:
    return f"state-{os.urandom(4).hex()}"


@pytest.fixture(scope="module")
def first(kafka: KafkaCluster, state: str) -> Iterator[GatewayProcess]:
    with node(kafka, "first", state) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def second(kafka: KafkaCluster, state: str) -> Iterator[GatewayProcess]:
    with node(kafka, "second", state) as gateway:
        yield gateway


async def test_one_client_id_a_group_on_all_gateways(
    first: GatewayProcess, second: GatewayProcess, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, group = new_topic(partitions=2), unique("g")
    async with sockets_of(first) as one, sockets_of(second) as two:
        peer = await one.consumer(topic, "c", groupId=group)
        taken = (
            400,
            f"WebSocket for consumer c in session {group} not established because a consumer with the same ID is "
            "already registered.",
        )
        assert await refusal(lambda: two.consumer(topic, "c", groupId=group)) == taken
        for opened in (one, two, one):  # a refused twin takes nothing from the first one
            assert await refusal(lambda opened=opened: opened.consumer(topic, "c", groupId=group)) == taken
        await two.consumer(topic, "other", groupId=group)
        text = LIMIT.format(group, 2)
        assert await refusal(lambda: one.consumer(topic, "third", groupId=group)) == (400, text)
        await peer.socket.close()
        await accepted(lambda: two.consumer(topic, "c", groupId=group))


async def test_both_kinds_share_the_names(first: GatewayProcess, new_topic: Callable[..., str], unique: Unique) -> None:
    topic, name = new_topic(), unique("both")
    async with sockets_of(first) as one:
        await one.consumer(topic, "c", groupId=name)
        status, text = await refusal(lambda: one.producer(topic, name, instanceId="i"))
        assert status == 500
        assert text == (
            f"An unexpected error occurred when trying to establish the WebSocket producer {name}-i in session {name}."
        )


async def test_odd_names(
    first: GatewayProcess, log: Log, state: str, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, name = new_topic(), unique('"é /%2F')
    async with sockets_of(first) as one:
        await one.producer(topic, name, instanceId="ü ,{}")
        found = await instances(log, state, name, {"ü ,{}"})
        assert found["sessionId"] == name
    await instances(log, state, name, set())


async def test_simultaneous_sockets_come_together(
    first: GatewayProcess, second: GatewayProcess, log: Log, state: str, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, name = new_topic(), unique("many")
    async with sockets_of(first) as one, sockets_of(second) as two:
        await asyncio.gather(
            *(
                opened.producer(topic, name, instanceId=f"{number}{side}")
                for number in range(10)
                for side, opened in (("a", one), ("b", two))
            )
        )
        await instances(log, state, name, {f"{number}{side}" for number in range(10) for side in "ab"})
    await instances(log, state, name, set())


async def test_four_times_in_and_out(first: GatewayProcess, new_topic: Callable[..., str], unique: Unique) -> None:
    topic, name = new_topic(), unique("p")
    async with sockets_of(first) as one:
        for _ in range(4):
            peer = await one.producer(topic, name, instanceId="i")
            await peer.socket.close()


@pytest.mark.slow
async def test_a_killed_gateway_gives_its_places_back(
    second: GatewayProcess, kafka: KafkaCluster, log: Log, state: str, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, name, limit = new_topic(), unique("killed"), 200
    more = (
        f"{KEY}producer.limits.client-specific-limits.0.producer-id={name}",
        f"{KEY}producer.limits.client-specific-limits.0.max-connections={limit}",
    )
    with node(kafka, "victim", state, *more) as victim, node(kafka, "heir", state, *more) as heir:
        async with sockets_of(victim) as doomed, sockets_of(heir) as two:
            names = {str(number) for number in range(limit)}
            await asyncio.gather(*(doomed.producer(topic, name, instanceId=each) for each in names))
            text = LIMIT.format(name, limit) + "."
            assert await refusal(lambda: two.producer(topic, name, instanceId="new")) == (400, text)
            victim.process.send_signal(signal.SIGKILL)
            victim.process.wait()
            # the group's session time, and two looks of the others
            await accepted(lambda: two.producer(topic, name, instanceId="new"))
            await instances(log, state, name, {"new"})
    await instances(log, state, name, set())  # stopped in order, the heir gives its own back


async def test_what_is_found_at_start(
    kafka: KafkaCluster, log: Log, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, name = new_topic(), unique("restart")
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    state = new_topic(config=config)

    def leftover(*found: tuple[str, str]) -> bytes:
        listed = [
            {
                "id": {"groupId": name, "clientId": client},
                "serverId": server,
                "client_instance_type": "ConsumerInstance",
            }
            for client, server in found
        ]
        session = {"sessionId": name, "groupId": name, "maxConnections": 5, "instances": listed}
        return json.dumps({**session, "session_type": "ConsumerSession"}).encode()

    log.append(state, leftover(("c", "me"), ("d", "other")), key=name.encode())
    log.append(state, b"no session", b"{}", key=b"broken")
    old = {"consumerGroupId": "old", "consumers": [{"id": "c", "serverId": "me"}], "consumerLimit": 2}
    log.append(state, json.dumps(old).encode(), key=b"old")
    with node(kafka, "me", state, f"{KEY}session-handler.dead-server-timeout=0") as gateway:
        await instances(log, state, name, {"d"})
        await instances(log, state, "old", set())
        async with sockets_of(gateway) as one:
            status, _ = await refusal(lambda: one.consumer(topic, "d", groupId=name))
            assert status == 400
        # Killed while a socket was open, it begins again where it was.
        other = new_topic(partitions=2)
        async with sockets_of(gateway) as one:
            await one.consumer(other, "e", groupId=name)
            gateway.process.send_signal(signal.SIGKILL)
            gateway.process.wait()
    with node(kafka, "me", state, f"{KEY}session-handler.dead-server-timeout=0") as gateway:
        await instances(log, state, name, {"d"})
        async with sockets_of(gateway) as one:
            peer = await one.consumer(other, "e", groupId=name)
            await instances(log, state, name, {"d", "e"})
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            assert await peer.end() == 1001
            assert await stopping == 0
    await instances(log, state, name, {"d"})  # stopped in order, it takes its sockets with it


async def test_the_topic_is_deleted(
    kafka: KafkaCluster, log: Log, new_topic: Callable[..., str], unique: Unique
) -> None:
    topic, name, state = new_topic(), unique("lost"), unique("state")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    with node(kafka, "me", state) as gateway:
        async with sockets_of(gateway) as one:
            await one.producer(topic, name, instanceId="1")
            await asyncio.to_thread(admin.delete_topics([state], operation_timeout=10)[state].result, 10)
            await instances(log, state, name, {"1"})
            await one.producer(topic, name, instanceId="2")
            await instances(log, state, name, {"1", "2"})


async def test_a_topic_of_the_wrong_shape(kafka: KafkaCluster, new_topic: Callable[..., str]) -> None:
    state = new_topic(partitions=2)
    with node(kafka, "me", state) as gateway:
        gateway.wait_for(r"has 2 partitions; it must have exactly 1")


@pytest.mark.slow
async def test_kafka_is_away(own_kafka: KafkaCluster, unique: Unique) -> None:
    topic, state = own_kafka.create_topic(), unique("state")
    log = Log(own_kafka.bootstrap)
    with node(own_kafka, "me", state) as gateway:
        async with sockets_of(gateway) as one:
            leaving = await one.producer(topic, "p", instanceId="1")
            await one.producer(topic, "p", instanceId="2")
            own_kafka.kill(1)
            await leaving.socket.close()
            await asyncio.to_thread(own_kafka.restart, 1)
            await instances(log, state, "p", {"2"})
            await accepted(lambda: one.producer(topic, "p", instanceId="3"))
            await instances(log, state, "p", {"2", "3"})


async def test_the_embedded_kafka_keeps_sessions_in_memory() -> None:
    with GatewayProcess("embedded.topics=t") as gateway:
        async with sockets_of(gateway) as one:
            peer = await one.consumer("t", "c")
            status, text = await refusal(lambda: one.consumer("t", "c"))
            assert (status, "already registered" in text) == (400, True)
            await peer.socket.close()
            await accepted(lambda: one.consumer("t", "c"))
        assert gateway.stop() == 0
