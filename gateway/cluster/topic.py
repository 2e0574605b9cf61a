"""The topic whose partitions are the slots (cluster.md §4.1): found, and made where it is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from kafka_gateway.errors import UnknownTopicOrPartition
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.topics import TopicInfo

log = logging.getLogger("gateway.cluster")

_IN_SYNC: Final = 3
"""Replicas from which on two must have a record."""


class InstanceTopic:
    """Belongs to the event loop."""

    def __init__(self, name: str, admin: Callable[[], Admin], replicas: int) -> None:
        self._name = name
        self._admin = admin
        self._replicas = replicas
        self.id = ""
        """Of the topic that was found last: one that is made again under the same name has another one."""

    async def find_or_make(self, partitions: int) -> TopicInfo:
        """The topic as it is now, or a new one with so many partitions. ServiceError: Kafka does not answer, or lets
        nobody make it."""
        admin = self._admin()
        try:
            found = await admin.topic(self._name, fresh=True)
        except UnknownTopicOrPartition:
            replicas = max(1, min(self._replicas, len(await admin.brokers())))
            settings = {
                "cleanup.policy": "compact",
                "segment.ms": "3600000",
                "min.compaction.lag.ms": "60000",
                "min.insync.replicas": "2" if replicas >= _IN_SYNC else "1",
            }
            await admin.create_topic(self._name, partitions, replicas, settings)
            log.info("made topic %s, or another node has: %d partitions, %d replicas", self._name, partitions, replicas)
            found = await admin.topic(self._name, fresh=True)
        self.id = found.topic_id
        return found
