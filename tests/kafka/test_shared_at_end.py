"""Members of several groups on one topic that is read once for all, of which nothing has come yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from kafka_gateway.config import load
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.consuming.loop_polled_members import FETCHER_FROM
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.records import RecordBatch
from tests.kafka.simulated_consumer import SimulatedClients, SimulatedKafka
from tests.keys import BUILTIN_KEYS
from tests.waiting import until

PLACES = {("t", 0), ("t", 1)}


class Heard:
    """The offsets that a member has got, by partition."""

    def __init__(self) -> None:
        self.offsets: dict[int, list[int]] = {}

    def records(self, batch: RecordBatch) -> None:
        for record in batch.records:
            self.offsets.setdefault(record.partition() or 0, []).append(record.offset() or 0)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing is taken away here."""

    def failed(self, error: ServiceError) -> None:
        raise error


async def test_members_that_are_at_the_end_share_what_comes_from_its_first_record_on() -> None:
    """A thousand groups that wait for a first record would ask Kafka for it twice a second each."""
    kafka = SimulatedKafka()
    kafka.make("t", 2)
    kafka.logs["t", 0] = 5  # one partition has been written to before they came
    clients = SimulatedClients(kafka)
    cluster = KafkaCluster(load(BUILTIN_KEYS), cast(Any, clients), embedded=True)
    heard = [Heard() for _ in range(FETCHER_FROM)]
    for number, each in enumerate(heard):
        settings = ConsumerSettings(f"g{number}", "c", auto_offset_reset="latest", auto_commit=True, kind="socket")
        (await cluster.member(settings, "t", each, lambda records: b"")).resume()
        clients.made[number].rebalance(PLACES)
    members = clients.made[:FETCHER_FROM]

    async def fed() -> bool:
        return all(each.paused == PLACES for each in members)

    await until(fed)
    assert not any(each.offsets for each in heard)
    kafka.logs |= {("t", 0): 7, ("t", 1): 1}

    async def come() -> bool:
        return all(each.offsets == {0: [5, 6], 1: [0]} for each in heard)

    await until(come)
    assert len(clients.made) == FETCHER_FROM + 1, "one that reads for all"
    await cluster.members.aclose(5.0)
