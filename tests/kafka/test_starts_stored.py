"""A group that begins at the end of the log commits that at once: a gateway that is killed would skip records else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import confluent_kafka

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.records import RecordBatch
from tests.kafka.conftest import Position, Topic, places, places_of
from tests.kafka.group_work import Work
from tests.waiting import until


class Listener:
    def __init__(self) -> None:
        self.found: list[Position] = []

    def records(self, batch: RecordBatch) -> None:
        self.found += places_of(batch.records)

    def revoked(self, partitions: Sequence[TopicPartition]) -> None: ...

    def failed(self, error: ServiceError) -> None:
        raise error


async def test_all_who_commit_by_themselves_do_and_no_others(
    filled: Topic, cluster: KafkaCluster, unique: Callable[..., str]
) -> None:
    def settings(auto_commit: bool) -> ConsumerSettings:
        return ConsumerSettings(unique("group"), "test", auto_offset_reset="latest", auto_commit=auto_commit)

    def stored(group: str) -> list[int]:
        asked = [confluent_kafka.TopicPartition(filled.name, each) for each in range(4)]
        client = confluent_kafka.Consumer({"bootstrap.servers": filled.bootstrap, "group.id": group})
        try:
            return [each.offset for each in client.committed(asked, timeout=10)]
        finally:
            client.close()

    await asyncio.to_thread(filled.write, [b"old"] * 3)
    automatic, by_hand, bridge = settings(True), settings(False), settings(False)
    listeners = [Listener(), Listener()]
    for chosen, listener in zip((automatic, by_hand), listeners, strict=True):
        (await cluster.member(chosen, filled.name, listener, places)).resume()
    work = Work()
    reader = await cluster.group_reader(bridge, [filled.name], work)
    for chosen in (automatic, bridge):

        async def begun(group: str = chosen.group) -> bool:
            return await asyncio.to_thread(stored, group) == [3, 0, 0, 0]

        await until(begun)

    async def all_read() -> bool:
        # Again and again: who commits nothing may still have to find the end.
        await asyncio.to_thread(filled.write, [b"new"])
        return all(each.found for each in listeners) and bool(work.found)

    await until(all_read)
    assert await asyncio.to_thread(stored, by_hand.group) == [confluent_kafka.OFFSET_INVALID] * 4
    assert work.found[0] == (0, 3)
    assert listeners[0].found[0] == (0, 3)
    await reader.close()
