"""S5: no request makes a topic, unless the operator lets brokers do that. (Kafka's own default is that they do.)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from tests.acceptance.rest import Answer, Rest
from tests.behaviour.clients import V1, V2, v1, v2
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COUNT = 1000


@pytest.fixture(scope="module")
def gateway(kafka: KafkaCluster) -> Iterator[GatewayProcess]:
    """With auto.create.topics.enable=false; the broker itself would make topics."""
    with GatewayProcess(
        "access.log.enable=false", "auto.create.topics.enable=false", bootstrap=kafka.bootstrap
    ) as running:
        yield running


@pytest.fixture
async def rest(gateway: GatewayProcess) -> AsyncIterator[Rest]:
    async with Rest(gateway.url) as client:
        yield client


class Topics:
    """The topics of the cluster, as a client of their own sees them."""

    def __init__(self, kafka: KafkaCluster) -> None:
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def now(self) -> set[str]:
        return {name for name in self._admin.list_topics(timeout=10).topics if not name.startswith("__")}


async def test_s5_nothing_creates_a_topic(kafka: KafkaCluster, rest: Rest, unique: Callable[..., str]) -> None:
    known, unknown = kafka.create_topic(), unique("unknown")
    topics = Topics(kafka)
    before = await asyncio.to_thread(topics.now)
    at_a_time = asyncio.Semaphore(20)

    async def produce(number: int) -> tuple[int, int]:
        name = f"{unknown}-{number % (COUNT - 100)}"  # some are asked for twice
        async with at_a_time:
            body = {"records": [{"value": number}]}
            if number % 3 == 0:
                answer = await rest.request("POST", f"/topics/{name}/partitions/0", body, content_type=v2("json"))
            elif number % 3 == 1:
                answer = await rest.request("POST", f"/topics/{name}", body, content_type=v1("json"), accept=V1)
            else:
                answer = await rest.request("POST", f"/topics/{name}", body, content_type=v2("json"))
        return answer.status, answer.error_code

    answers = set(await asyncio.gather(*(produce(number) for number in range(COUNT))))
    assert answers <= {(404, 40401), (404, 40403)}, answers

    path = await rest.instance(unique("g"), *(f"{unknown}-subscribed-{number}" for number in range(20)), known)
    other = await rest.instance(unique("g"))
    await rest.assign(other, f"{unknown}-assigned")
    v1_path = f"/consumers/{unique('g')}"
    answer = await rest.request("POST", v1_path, {"format": "json"}, content_type=V1, accept=V1)
    v1_path += f"/instances/{answer.json['instance_id']}/topics/{unknown}-v1"
    for _ in range(3):
        await rest.read(path, 500)
        await rest.read(other, 200)
        await rest.request("GET", v1_path, accept=v1("json"))
    for place in ("", "/partitions", "/partitions/0", "/partitions/0/offsets"):
        answer = await rest.request("GET", f"/topics/{unknown}-metadata{place}", accept=V2)
        assert answer.status == 404, answer
    answer = await rest.request(
        "GET", f"/topics/{unknown}-messages/partitions/0/messages?offset=0&count=1", accept=v1("json")
    )
    assert answer.status == 404, answer
    place = {"topic": f"{unknown}-committed", "partition": 0}
    await rest.request("POST", f"{path}/offsets", {"offsets": [{**place, "offset": 0}]})
    await rest.request("GET", f"{path}/offsets", {"partitions": [place]})

    assert await asyncio.to_thread(topics.now) == before
    await rest.store(known, "still works")
    assert [record["value"] for record in await rest.read_some(path)] == ["still works"]
    assert await asyncio.to_thread(topics.now) == before


async def test_s5_a_topic_that_appears_can_be_produced_to(
    kafka: KafkaCluster, rest: Rest, unique: Callable[..., str]
) -> None:
    name = unique("late")
    assert (await rest.produce(name, {"value": 1})).status == 404
    await asyncio.to_thread(kafka.create_topic, name)
    # "There is no such topic" counts for half a second (kafka/admin/topic_directory.py).

    async def known() -> Answer | None:
        found = await rest.produce(name, {"value": 2})
        return found if found.status != 404 else None

    answer = await until(known)
    assert answer.json["offsets"][0]["error_code"] is None, answer


async def test_s5_produce_creates_where_the_operator_allows_it(kafka: KafkaCluster, unique: Callable[..., str]) -> None:
    name, topics = unique("made"), Topics(kafka)
    with GatewayProcess("access.log.enable=false", bootstrap=kafka.bootstrap) as gateway:
        async with Rest(gateway.url) as rest:
            answer = await rest.produce(name, {"value": 1})
            assert answer.json["offsets"] == [{"partition": 0, "offset": 0, "error_code": None, "error": None}]
            # Reading and asking still create nothing.
            path = await rest.instance(unique("g"), f"{name}-read")
            await rest.read(path, 500)
            assert (await rest.request("GET", f"/topics/{name}-asked")).status == 404
    made = {each for each in await asyncio.to_thread(topics.now) if each.startswith(name)}
    assert made == {name}
