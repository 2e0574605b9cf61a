"""Who hears what a group does with the partitions of a consumer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from kafka_gateway.kafka.consuming.buffer import Partition


class RebalanceListener(Protocol):
    """Called within `GroupClient.poll` and `GroupClient.close`; `placed` within `GroupClient.tend`."""

    def assigned(self, partitions: Collection[Partition]) -> None:
        """They are this client's, and known to it already."""

    def placed(self, partitions: Collection[Partition]) -> None:
        """Kafka has told at last where these start, which it did not when they were assigned."""

    def revoked(self, partitions: Collection[Partition]) -> None:
        """They are given up as soon as this returns: commits that are sent in here reach Kafka before their next owner
        asks."""

    def lost(self, partitions: Collection[Partition]) -> None:
        """Another member may have them already: nothing of them can be committed any more."""


class NoRebalanceListener:
    """For clients that are in no group."""

    def assigned(self, partitions: Collection[Partition]) -> None: ...
    def placed(self, partitions: Collection[Partition]) -> None: ...
    def revoked(self, partitions: Collection[Partition]) -> None: ...
    def lost(self, partitions: Collection[Partition]) -> None: ...
