"""What groups have committed, asked of a Kafka that has never heard of a group: its coordinators are still to come.

librdkafka's own question ends the process there (segmentation fault, 2.16), so this is asked with a Kafka of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kafka_gateway.kafka.ports.topics import PartitionOffset
from tests.kafka.conftest import open_cluster
from tests.kafka_cluster import KafkaCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def test_of_groups_whose_coordinator_is_still_to_come(
    own_kafka: KafkaCluster, unique: Callable[..., str]
) -> None:
    topic, group = own_kafka.create_topic(partitions=2), unique("g")
    async with open_cluster(own_kafka.bootstrap) as cluster:
        asked = (cluster.admin.group_offsets(unique("g")) for _ in range(20))
        assert await asyncio.gather(*asked) == [[]] * 20
        await cluster.admin.alter_group_offsets(group, [PartitionOffset(topic, 1, 7)])
        assert await cluster.admin.group_offsets(group) == [PartitionOffset(topic, 1, 7)]
