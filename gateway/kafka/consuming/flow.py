"""Which partitions of a consumer flow: our own state, of which librdkafka is told whenever it differs.

librdkafka keeps a partition paused across a new assignment, so an old pause silenced partitions for ever. And it
forgets pauses when a partition goes to another client and comes back. So what is wanted is kept here, `apply`
is called behind every assignment, and what is paused is resumed *before* it is given up: a partition that is assigned
while paused yields its first record a second after `resume`, otherwise after 3 ms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

import confluent_kafka
from confluent_kafka import KafkaException

from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.offset_queries import places

_log = logging.getLogger("gateway.kafka.consumer")


class Flow:
    """Sets of partitions: wanted to be held, and paused as librdkafka knows it. Belongs to whoever polls the client."""

    def __init__(self) -> None:
        self._held: set[Partition] = set()
        self._waiting: set[Partition] = set()
        """Held until it is known where they start."""
        self._paused: set[Partition] = set()
        self.all_held = False
        """Whether nothing flows at all."""

    def hold(self, partitions: Iterable[Partition]) -> None:
        self._held.update(partitions)

    def release(self, partitions: Iterable[Partition]) -> None:
        self._held.difference_update(partitions)

    def wait(self, partitions: Iterable[Partition]) -> None:
        """Nothing is to come of these before `start`: where librdkafka would begin is not where reading goes on."""
        self._waiting.update(partitions)

    def start(self, partitions: Iterable[Partition]) -> bool:
        """It is known where these start, or of no interest any more; whether one of them has waited for that."""
        started = self._waiting.intersection(partitions)
        self._waiting -= started
        return bool(started)

    def flowing(self, assigned: set[Partition]) -> set[Partition]:
        """Those that records may come of."""
        return set() if self.all_held else assigned - self._held - self._waiting

    def apply(
        self,
        consumer: confluent_kafka.Consumer,
        assigned: set[Partition],
        go_on: Callable[[Collection[Partition]], None],
    ) -> None:
        """Tells librdkafka what should flow of what is assigned, where that differs from what it was told last.

        ``go_on`` is to seek partitions that were resumed to where they are: librdkafka looks at a resumed partition
        after up to 950 ms, and at one that is sought after 3 to 7 ms.
        """
        held = assigned if self.all_held else (self._held | self._waiting) & assigned
        if pause := held - self._paused:
            consumer.pause(places(pause))
            self._paused |= pause
        if resume := self._paused - held:
            self._paused -= resume
            if resume := resume & assigned:
                consumer.resume(places(resume))
                go_on(resume)

    def let_go(self, consumer: confluent_kafka.Consumer, partitions: Iterable[Partition]) -> None:
        """They are about to be given up or assigned anew: librdkafka is to remember none of them as paused."""
        if paused := self._paused.intersection(partitions):
            self._paused -= paused
            try:
                consumer.resume(places(paused))
            except KafkaException as error:  # they are gone already
                _log.debug("partitions could not be resumed before they went: %s", error)
