"""Members of groups in memory (`GroupReader`, `Member`): rebalances, pauses and revocations as services see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.members import GroupWork, MemberListener
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.records import RecordBatch, RecordsEncoder

if TYPE_CHECKING:
    from tests.services.fake_kafka import FakeKafka, FakeRecord


class _Share:
    """What a member has, and where it reads on."""

    def __init__(self, kafka: FakeKafka, settings: ConsumerSettings) -> None:
        self._kafka = kafka
        self.settings = settings
        self.assigned: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.closed = False

    def _start(self, place: TopicPartition) -> int:
        stored = self._kafka.committed.get((self.settings.group, *place))
        if stored is not None:
            return stored[0]
        return 0 if self.settings.auto_offset_reset == "earliest" else len(self._log(place))

    def _log(self, place: TopicPartition) -> list[FakeRecord]:
        return self._kafka.logs[place.topic][place.partition]

    def _commit(self, offsets: Iterable[PartitionOffset]) -> None:
        for each in offsets:
            if TopicPartition(each.topic, each.partition) in self.assigned:
                place = (self.settings.group, each.topic, each.partition)
                self._kafka.committed[place] = (each.offset, each.metadata)

    def _take(self, place: TopicPartition, most: int) -> list[FakeRecord]:
        at = self.assigned[place]
        records = self._log(place)[at : at + most]
        self.assigned[place] = at + len(records)
        return records


class FakeGroupReader(_Share):
    """The `GroupReader` port. It reads only in `pump`; `rebalance` is what the group does."""

    def __init__(self, kafka: FakeKafka, settings: ConsumerSettings, work: GroupWork) -> None:
        super().__init__(kafka, settings)
        self._work = work
        self.silence: dict[TopicPartition, str] = {}

    async def rebalance(self, *share: TopicPartition) -> None:
        """The group assigns exactly these: others are given up first, in order."""
        gone = [place for place in self.assigned if place not in share]
        if gone:
            self._commit(await self._work.revoked(gone))
            self._drop(gone)
        self._gain(share)

    def lose(self, *gone: TopicPartition) -> None:
        """Another member has these already."""
        self._work.lost(list(gone))
        self._drop(gone)

    def _drop(self, gone: Iterable[TopicPartition]) -> None:
        for place in gone:
            del self.assigned[place]
            self.paused.discard(place)

    def _gain(self, share: Sequence[TopicPartition]) -> None:
        come = [place for place in share if place not in self.assigned]
        self.assigned |= {place: self._start(place) for place in come}
        if come:
            self._work.assigned(come)

    def pump(self, most: int = 100) -> int:
        """Hands over what flows; how many records that were."""
        count = 0
        for place in list(self.assigned):
            if place not in self.paused and (records := self._take(place, most)):
                self._work.records(records)
                count += len(records)
        return count

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused.update(each for each in partitions if each in self.assigned)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused.difference_update(partitions)

    async def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        self._kafka.called("commit", offsets)
        self._commit(offsets)

    async def ends(self) -> Sequence[PartitionOffset]:
        return [PartitionOffset(*place, len(self._log(place))) for place in self.assigned]

    def silent(self) -> Mapping[TopicPartition, str]:
        return self.silence

    async def close(self, offsets: Sequence[PartitionOffset] = (), within_s: float = 0.0) -> None:
        self._commit(offsets)
        self.closed = True


class FakeMember(_Share):
    """The `Member` port. It reads as soon as records are wanted."""

    def __init__(
        self,
        kafka: FakeKafka,
        settings: ConsumerSettings,
        topic: str,
        listener: MemberListener,
        encoder: RecordsEncoder,
        most_records: int,
    ) -> None:
        super().__init__(kafka, settings)
        self._listener = listener
        self._encoder = encoder
        self._most = most_records
        self._left: float = 0
        self.rebalance(*(TopicPartition(topic, each) for each in range(len(kafka.logs[topic]))))

    def rebalance(self, *share: TopicPartition) -> None:
        """The group takes all away and assigns exactly these."""
        if self.assigned:
            gone, self.assigned = list(self.assigned), {}
            self._listener.revoked(gone)
        self.assigned = {place: self._start(place) for place in share}
        self.pump()

    def pump(self) -> None:
        for place in list(self.assigned):
            while self._left and not self.closed:
                records: Any = self._take(place, int(min(self._most, self._left)))
                if not records:
                    break
                self._left -= len(records)
                batch = RecordBatch(records, 0)
                batch.encode(self._encoder)
                if self._listener.records(batch):
                    self.commit_batch(batch)

    def pause(self) -> None:
        self._left = 0

    def resume(self, most: int | None = None) -> None:
        self._left = float("inf") if most is None else most
        self.pump()

    def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        self._commit(offsets)

    def commit_batch(self, batch: RecordBatch) -> None:
        self._commit([PartitionOffset(*place, offset) for place, offset in batch.next_offsets().items()])

    def close(self) -> None:
        self.closed = True
