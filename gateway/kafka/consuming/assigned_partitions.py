"""The partitions of one consumer: which flow, where reading is in each, and assigning them by hand.

The half of `GroupClient` that has nothing to do with polling and with what a group assigns.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import confluent_kafka
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, TopicPartition

from kafka_gateway.errors import IllegalState, InstanceNotFound, ServiceError
from kafka_gateway.kafka.clients.fetched_ahead import CountedConsumer
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.flow import Flow
from kafka_gateway.kafka.consuming.offset_queries import (
    QUERY_S,
    START_S,
    committed_offsets,
    log_bounds,
    offsets_at_times,
    places,
)
from kafka_gateway.kafka.errors import kafka_error
from kafka_gateway.kafka.ports.topics import PartitionOffset

_log = logging.getLogger("gateway.kafka.consumer")

AFRESH_S = 5.0
"""How long after a topic was made again somebody may tell so; they look once a second (`topic_watch`)."""

UNKNOWN = confluent_kafka.OFFSET_INVALID
"""A start that librdkafka is to find out: the committed offset, or where ``auto.offset.reset`` says."""
_LOOK_AGAIN_S, _LOOK_S = 1.0, 0.1
_LEARN_S = 2.0


class AssignedPartitions:
    """Partitions and what is known of each. Belongs to whoever polls the consumer.

    Raises KafkaException as the binding does, unless a method says otherwise.
    """

    def __init__(self, cooperative: bool) -> None:
        """``cooperative``: whether the group's assignments come as differences (``cooperative-sticky``)."""
        self._cooperative = cooperative
        self._differences_only = False
        """Whether librdkafka takes an assignment by hand by differences only: a group that was left had it so."""
        self._consumer: confluent_kafka.Consumer | None = None
        self.mode: Literal["", "group", "manual"] = ""
        self.assigned: set[Partition] = set()
        self.starts: dict[Partition, int] = {}
        """Where librdkafka was last told to go on in each partition. Until a record was polled from there it tells no
        position by itself; from then on its own counts (see `positions`)."""
        self.uncommitted_starts: dict[Partition, int] = {}
        """Those of them that are not what the group had committed, of its latest assignments."""
        self.stopped: dict[Partition, ServiceError] = {}
        """Partitions without a position, which only `seek` or a new assignment moves."""
        self.missing: set[str] = set()
        """Topics of which something was unknown."""
        self.ends: dict[Partition, int] = {}
        """Ends of partitions that were met since they were sought or assigned last (``enable.partition.eof``)."""
        self.failure: ServiceError | None = None
        """The last thing that Kafka refused; whoever tells somebody takes it away."""
        self._flow = Flow()
        self._unplaced: dict[Partition, str] = {}
        """Partitions whose start is not known, and why."""
        self._place_at = math.inf
        """When Kafka is asked for those starts again."""
        self._afresh: dict[Partition, float] = {}
        """Partitions that read a new life of their topic from its beginning already, and since when."""
        self._from_zero: set[Partition] = set()
        """Those whose record 0 has come since they were sought or assigned last."""
        self._gone: set[str] = set()
        """Topics that Kafka did not know when it was asked last."""
        self._anew: set[str] = set()
        """Topics that begin at the beginning when they are assigned next."""
        self._look_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._consumer is not None

    @property
    def client(self) -> confluent_kafka.Consumer:
        """The consumer. Raises InstanceNotFound when there is none."""
        if self._consumer is None:
            raise InstanceNotFound
        return self._consumer

    # --- what flows ---------------------------------------------------------------------------------------------------

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Nothing comes of these until `flow`, whatever is assigned meanwhile."""
        self._flow.hold(partitions)
        self._apply()

    def flow(self, partitions: Iterable[Partition]) -> None:
        """Lets these come again, behind what was polled of them last."""
        self._flow.release(partitions)
        self._apply()

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forgets that these are to be held, when they come again; changes nothing for now."""
        self._flow.release(partitions)

    def hold_all(self, held: bool) -> None:
        """Nothing comes of any partition, whatever is assigned meanwhile; or all but those that `hold` names."""
        if self._flow.all_held != held:
            self._flow.all_held = held
            self._apply()

    @property
    def all_held(self) -> bool:
        return self._flow.all_held

    def _apply(self) -> None:
        self._flow.apply(self.client, self.assigned, self._go_on)

    def _go_on(self, partitions: Collection[Partition]) -> None:
        for place, offset in self.positions(partitions).items():
            if offset >= 0:
                self._seek(place, offset)

    def _let_go(self, partitions: Iterable[Partition]) -> None:
        self._flow.let_go(self.client, partitions)

    # --- positions ----------------------------------------------------------------------------------------------------

    def check_assigned(self, partitions: Iterable[Partition]) -> None:
        """Raises IllegalState for one that is not assigned."""
        for topic, partition in partitions:
            if (topic, partition) not in self.assigned:
                raise IllegalState(f"Illegal state: No current assignment for partition {topic}-{partition}")

    def positions(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Where librdkafka goes on in each: behind what was polled last, else where it was sent; below 0 where only
        librdkafka will find out."""
        if not partitions:
            return {}
        found = {(one.topic, one.partition): one.offset for one in self.client.position(places(partitions))}
        return {place: offset if offset >= 0 else self.starts.get(place, UNKNOWN) for place, offset in found.items()}

    def seek(self, targets: Mapping[Partition, int]) -> None:
        """The next records of these come from there; offsets below 0 are librdkafka's names for the ends.

        Raises IllegalState for one that is not assigned; nothing moves then.
        """
        self.check_assigned(targets)
        targets = {**targets, **self._bounds_for(targets)}
        again = {}
        for place, offset in targets.items():
            self._from_zero.discard(place)
            self.ends.pop(place, None)
            self._unplaced.pop(place, None)
            if place in self.stopped or not self._seek(place, offset):
                again[place] = offset
        self.starts |= targets
        if again:
            self.restart(again)
        if self._flow.start(targets):
            self._apply()

    def _bounds_for(self, targets: Mapping[Partition, int]) -> dict[Partition, int]:
        """The offsets of those that are to go to an end of the log.

        librdkafka (2.16) finds them by itself, but a seek to an end that meets another question of its own for the same
        partition leaves that without a position for ever, and without an error.
        """
        ends = {place: offset for place, offset in targets.items() if offset < 0}
        if not ends:
            return {}
        try:
            return log_bounds(self.client, ends)
        except KafkaException as error:
            _log.info("Kafka does not tell the ends of partitions, its client is to find them: %s", error)
            return {}

    def _seek(self, place: Partition, offset: int) -> bool:
        try:
            self.client.seek(TopicPartition(*place, offset))
        except KafkaException as error:
            if not _is_state(error):
                raise
            return False  # it was assigned a moment ago and is not fetched yet
        self.starts[place] = offset
        return True

    def restart(self, starts: Mapping[Partition, int]) -> None:
        """Gives partitions a new start where `seek` cannot; the others go on where they are."""
        self._flow.start(starts)
        moved = [TopicPartition(*place, offset) for place, offset in starts.items()]
        # Under the eager protocol only the whole assignment can be replaced.
        whole = self.mode == "group" and not self._cooperative
        if not whole:
            self._let_go(starts)
            try:
                self.client.incremental_unassign(places(starts))
                self.client.incremental_assign(moved)
            except KafkaException as error:
                if not _is_state(error):
                    raise
                whole = True  # by hand, and a group that was left has given librdkafka its protocol
        if whole:
            others = self.positions([place for place in self.assigned if place not in starts])
            self._let_go(self.assigned)
            self.client.assign([TopicPartition(*place, offset) for place, offset in others.items()] + moved)
            self.starts |= {place: offset for place, offset in others.items() if offset != UNKNOWN}
        for place, offset in starts.items():
            self._from_zero.discard(place)
            self.stopped.pop(place, None)
            self.ends.pop(place, None)
            if offset != UNKNOWN:
                self.starts[place] = offset
                self._unplaced.pop(place, None)
        self._apply()

    def begin_again(self, topic: str, but: Collection[Partition] = ()) -> list[Partition]:
        """The topic was deleted and made again: its partitions start at the beginning of its new life. Returns them.

        librdkafka goes on at its old offset, without an error, as soon as the new log has one (reliability.md §3c).
        ``but``: not these, which have begun there already (`afresh`).
        """
        self._gone.discard(topic)
        mine = {place for place in self.assigned if place[0] == topic}
        gone = sorted(mine.difference(but))
        for place in mine:
            self._afresh.pop(place, None)
            self.uncommitted_starts.pop(place, None)
        if gone:
            self.restart(dict.fromkeys(gone, confluent_kafka.OFFSET_BEGINNING))
            self.starts |= dict.fromkeys(gone, 0)
        elif self.mode == "group" and not mine:
            self._anew.add(topic)  # the group took it away when it was deleted, and will give it back
        return gone

    def topic_gone(self, topic: str) -> None:
        """Kafka does not know the topic any more: partitions of it that are assigned from now on are another one's."""
        self._gone.add(topic)

    def afresh(self) -> set[Partition]:
        """Assigned partitions that have begun at the beginning of a new life of their topic: to begin again would give
        all of it twice."""
        now = time.monotonic()
        return {place for place, since in self._afresh.items() if now - since < AFRESH_S and place in self.assigned}

    def _note_afresh(self, places: Iterable[Partition]) -> None:
        """These have been assigned just now, at the starts that are known."""
        now = time.monotonic()
        self._afresh.update((place, now) for place in places if place[0] in self._gone and self.starts.get(place) == 0)

    def _note_zero(self, places: Iterable[Partition]) -> None:
        """Record 0 has come of these: where reading was behind it and nobody moved it, it is that of another log.

        librdkafka goes to the beginning by itself where the new log does not have the old offset
        (``auto.offset.reset``).
        """
        now = time.monotonic()
        for place in places:
            if self.starts.get(place, 0) > 0 or place in self._from_zero:
                self._afresh[place] = now
                self.starts.pop(place, None)
            self._from_zero.add(place)

    # --- assigning by hand --------------------------------------------------------------------------------------------

    def unsubscribe(self) -> None:
        """Ends a subscription, whose partitions are revoked within the next polls, or drops an assignment at once."""
        if self.mode == "group":
            self.client.unsubscribe()
        elif self.mode == "manual":
            self._let_go(self.assigned)
            self._replace([])
            self.forget()
        self.mode = ""

    def assign(self, partitions: Iterable[Partition], starts: Mapping[Partition, int] | None = None) -> None:
        """Takes exactly these, from ``starts``; where that says nothing from the committed offset, as librdkafka finds
        it."""
        starts = starts or {}
        wanted = set(partitions)
        self._let_go(self.assigned)
        self._replace([TopicPartition(*place, starts.get(place, UNKNOWN)) for place in wanted])
        self.forget()
        self.assigned = wanted
        self.starts = dict(starts)
        self.mode = "manual" if wanted else ""
        self._apply()

    def _replace(self, placed: list[TopicPartition]) -> None:
        if not self._differences_only:
            try:
                self.client.assign(placed)
            except KafkaException as error:
                if not _is_state(error):
                    raise
                self._differences_only = True
            else:
                return
        self.client.incremental_unassign(self.client.assignment())
        self.client.incremental_assign(placed)

    def add(self, starts: Mapping[Partition, int]) -> None:
        """Takes these as well; not for a subscription."""
        self.client.incremental_assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        self.assigned |= starts.keys()
        self.starts |= starts
        self.mode = "manual"
        self._apply()

    def forget(self) -> None:
        """Drops all that is known of partitions. `hold` and `hold_all` stay: they say what whoever polls wants."""
        self._forget(self.assigned | set(self.starts) | set(self.ends))
        self.assigned = set()
        self.stopped.clear()
        self.missing.clear()
        self._unplaced.clear()
        self.failure = None
        self._place_at = math.inf

    def _forget(self, partitions: Iterable[Partition]) -> None:
        partitions = list(partitions)
        self._flow.start(partitions)
        for place in partitions:
            self.assigned.discard(place)
            self._afresh.pop(place, None)
            self._from_zero.discard(place)
            self.starts.pop(place, None)
            self.uncommitted_starts.pop(place, None)
            self.stopped.pop(place, None)
            self.ends.pop(place, None)
            self._unplaced.pop(place, None)

    # --- questions ----------------------------------------------------------------------------------------------------

    def _existing(self, partitions: Sequence[Partition]) -> Sequence[Partition]:
        """Those that there are, where they were assigned by hand: Kafka refuses all of a question that names another.

        librdkafka refuses it, too, as long as it has not heard of the topic. Blocks. Not for librdkafka's callbacks:
        ``list_topics`` within a ``consume()`` of the same thread makes the binding (2.16) abort the process.
        """
        if self.mode == "group":
            return partitions
        known: set[Partition] = set()
        for topic in {topic for topic, _ in partitions}:
            found = self.client.list_topics(topic, timeout=START_S).topics[topic]
            if found.error is None:
                known.update((topic, number) for number in found.partitions)
        return [place for place in partitions if place in known]

    def look_for_missing(self, now: float) -> None:
        """Asks for a topic that was unknown, once a second at most: librdkafka would after five minutes. Blocks."""
        if not self.missing or now < self._look_at:
            return
        self._look_at = now + _LOOK_AGAIN_S
        topic = self.missing.pop()
        if not self.learn(topic, _LOOK_S):
            self.missing.add(topic)

    def learn(self, topic: str, within_s: float = _LEARN_S) -> bool:
        """Has librdkafka ask for the topic now, so that it knows of new partitions; whether there is such a topic.

        Blocks. May be called on any thread.
        """
        try:
            return self.client.list_topics(topic, timeout=within_s).topics[topic].error is None
        except KafkaException:
            return False

    def committed(self, partitions: Collection[Partition], within_s: float = QUERY_S) -> list[PartitionOffset]:
        """What the group has committed, without partitions of which it has nothing. Blocks."""
        return committed_offsets(self.client, partitions, within_s)

    def offsets_at_times(self, times: Mapping[Partition, int]) -> dict[Partition, int]:
        """The first record at or after each time (epoch ms), or the end of the log if there is none. Blocks."""
        return offsets_at_times(self.client, times)

    def bounds(self, place: Partition, within_s: float = QUERY_S) -> tuple[int, int]:
        """Where the partition's log begins and ends; below 0 if that is not known. Blocks."""
        first, end = self.client.get_watermark_offsets(TopicPartition(*place), timeout=within_s)
        return first, end

    def fetched_ahead(self, record_bytes: int) -> int:
        """What librdkafka may have fetched and not handed out: of a partition what one fetch answers, unless less is
        left of it, in all what the consumer's buffer takes. Nothing of partitions that are held: pausing drops it.

        ``record_bytes`` is the size of one record; 0 if none is known.
        """
        consumer = self.client
        if not isinstance(consumer, CountedConsumer):
            return 0
        ahead = 0
        for place, offset in self.positions(self._flow.flowing(self.assigned)).items():
            _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            if offset < end:
                left = (end - max(0, offset)) * (record_bytes or consumer.fetch_bytes)
                ahead += min(left, max(record_bytes, consumer.fetch_bytes))
                if ahead >= consumer.buffer_bytes:
                    break
        return min(ahead, max(record_bytes, consumer.buffer_bytes))

    def known_ends(self) -> dict[Partition, int]:
        """The end of each partition's log as of its last fetch, of those that were fetched."""
        found = {}
        for place in self.assigned:
            watermarks = self.client.get_watermark_offsets(TopicPartition(*place), cached=True)
            if watermarks[1] >= 0:
                found[place] = watermarks[1]
        return found


def _is_state(error: KafkaException) -> bool:
    cause = kafka_error(error)
    return cause is not None and cause.code() == Code._STATE
