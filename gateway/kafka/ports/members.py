"""Members of consumer groups that hand over records as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import ConsumedRecord, RecordBatch


class MemberListener(Protocol):
    """Gets the records of a group member. All calls come on the event loop, none before ``Member.resume``."""

    def records(self, batch: RecordBatch) -> bool:
        """Takes the next records, encoded already; whether they are to be committed now, as by `Member.commit_batch`.

        ``Member.pause`` may be called in here."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """They belong to another member from now on: offsets of theirs are not committed any more."""

    def failed(self, error: ServiceError) -> None:
        """No more records come: Kafka refuses, a position is missing, or the encoder refuses a record."""


class Member(Protocol):
    """One member of a consumer group, without a thread of its own: for many consumers that each want every record.

    Belongs to the event loop, which polls all members in turn. It begins paused.
    """

    def pause(self) -> None:
        """No record comes until ``resume``; the membership goes on."""

    def resume(self, most: int | None = None) -> None:
        """Lets records come: ``most`` of them until the next call, or without bound."""

    def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        """Commits them soon, in the background; at most one commit of a member is on its way, later ones are merged.

        Offsets of partitions that are not this member's any more are left out. Failures are logged.
        """

    def commit_batch(self, batch: RecordBatch) -> None:
        """As `commit`, behind the batch. Batches come here in the order in which they were handed out."""

    def close(self) -> None:
        """Sends what is to be committed and leaves the group, in the background. Nothing comes any more."""


class GroupWork(Protocol):
    """What is done with a group's records. All calls come on the event loop, one after the other."""

    def records(self, records: Sequence[ConsumedRecord]) -> None:
        """The next records, each partition's in their order. No more come before this returns: pause in here."""

    def assigned(self, partitions: Sequence[TopicPartition]) -> None: ...
    async def revoked(self, partitions: Sequence[TopicPartition]) -> Sequence[PartitionOffset]:
        """These partitions are to be given up, which waits for the answer: what to commit of them before that."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Another member may have these partitions by now: nothing of them can be committed any more."""

    def failed(self, error: ServiceError) -> None:
        """Kafka refuses something, or a partition has no position (auto.offset.reset=none); reading goes on else."""


class GroupReader(Protocol):
    """One member of a consumer group whose records are worked on side by side, and end in any order.

    It keeps its membership whatever the work takes: paused partitions yield nothing, but it goes on polling.
    """

    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...
    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Reading goes on behind the last record that was handed over."""

    async def commit(self, offsets: Sequence[PartitionOffset]) -> None: ...
    async def ends(self) -> Sequence[PartitionOffset]:
        """The end offset of each partition that is assigned, as of the last fetch; without those not known yet."""

    def silent(self) -> Mapping[TopicPartition, str]:
        """Partitions of which no record can come at present, and why; Kafka is asked again until it answers."""

    async def close(self, offsets: Sequence[PartitionOffset] = (), within_s: float = 0.0) -> None:
        """Commits these and leaves the group; nothing is handed over any more.

        Answers within ``within_s`` seconds, and a few seconds at least, even if Kafka does not: while other members are
        late for a rebalance, it stores nothing. It is tried on then, as long as the process lives."""
