"""F7: fewer replicas are in sync than `min.insync.replicas` asks for. librdkafka would try again in silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.rest import Rest, until
from tests.cache import unavailable
from tests.gateway_process import GatewayProcess
from tests.kafka_cluster import KafkaCluster, KafkaUnavailableError

pytestmark = [pytest.mark.alone, pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaCluster]:
    """Three brokers of which the first is the only controller, so that the other two can die and Kafka knows it."""
    try:
        with KafkaCluster(3, controllers=1, min_insync_replicas=2) as cluster:
            yield cluster
    except KafkaUnavailableError as error:
        unavailable(str(error))


@pytest.mark.timing
async def test_f7_two_of_three_brokers_dead(kafka: KafkaCluster) -> None:
    topic = kafka.create_topic(partitions=3)
    with GatewayProcess("access.log.enable=false", bootstrap=kafka.bootstrap) as gateway:
        async with Rest(gateway.url) as rest:
            await rest.store(topic, 0)
            for node in (2, 3):
                await asyncio.to_thread(kafka.kill, node)

            async def fenced() -> bool:
                answer = await rest.request("GET", f"/topics/{topic}/partitions")
                # While Kafka moves the leaders, a partition may have none, and the answer is an error.
                return answer.status == 200 and all(
                    [one["broker"] for one in partition["replicas"] if one["in_sync"]] == [1]
                    for partition in answer.json
                )

            await until(fenced, 30)

            # One partition, by name and by key, alone and in a batch; several connections at the same time.
            began = time.monotonic()
            answers = await asyncio.gather(
                *(
                    rest.produce(topic, *({"key": f"{n}-{m}", "value": [n, m]} for m in range(1 + n * 20)))
                    for n in range(10)
                ),
                rest.produce(topic, {"value": 1, "partition": 2}),
            )
            took = time.monotonic() - began
            print(f"F7: answered after {took:.2f} s: {answers[-1].json}")
            assert took <= 2
            for answer in answers:
                assert answer.status == 200, answer
                for row in answer.json["offsets"]:
                    assert row["error_code"] == 50003, answer
                    assert row["error"].startswith("NOT_ENOUGH_REPLICAS: "), answer
                    assert "outcome is unknown" in row["error"], answer
            assert "min.insync.replicas=2" in answers[0].json["offsets"][0]["error"]

            # Still so later, for the next client.
            again = await rest.produce(topic, {"value": 2})
            assert again.json["offsets"][0]["error"].startswith("NOT_ENOUGH_REPLICAS: "), again

            await asyncio.to_thread(kafka.restart, 2)
            began = time.monotonic()

            async def stored() -> bool:
                answer = await rest.produce(topic, {"value": 3})
                return bool(answer.json["offsets"][0]["error_code"] is None)

            await until(stored, 30)
            took = time.monotonic() - began
            print(f"F7: recovered {took:.2f} s after the broker")
            assert took <= 5
    await asyncio.to_thread(kafka.restart, 3)
