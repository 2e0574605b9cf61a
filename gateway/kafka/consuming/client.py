"""One librdkafka consumer: with its `AssignedPartitions` the only place that calls `confluent_kafka.Consumer`.

It has no thread and no loop. It belongs to whoever polls it: the thread of an instance, the event loop for members
without a thread, a reader for one fetch. Who gets the records, when, and what is committed are matters of those; here
are the rules that hold for every consumer:

- **What flows is ours** (`gateway.kafka.consuming.flow`), and librdkafka is told again after every assignment.
- **Positions are known.** Partitions that a group assigns start at offsets that were asked for here
  (`starting_offsets`), unless that would block the event loop. If Kafka does not answer, or the coordinator has moved
  (librdkafka's issue 5586), it is asked again until it does; `silent` says which partitions wait for that.
- **A commit on its way keeps the client open**: closing then hangs for ever on a frozen broker, and dropping it spins a
  processor (reliability.md §3b).
- Records whose headers the binding cannot read are mended before anybody sees them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import confluent_kafka
from confluent_kafka import KafkaException, Message, TopicPartition

from kafka_gateway.definitions import Anchor
from kafka_gateway.errors import ServiceError
from kafka_gateway.heap import CLIENT_BYTES, trimmer
from kafka_gateway.kafka.clients.fetched_ahead import CountedConsumer
from kafka_gateway.kafka.clients.header_repair import without_unreadable_headers
from kafka_gateway.kafka.consuming.anchors import Anchors
from kafka_gateway.kafka.consuming.assigned_partitions import UNKNOWN, AssignedPartitions
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.commits import COMMIT_S, Commits, Done, next_offsets
from kafka_gateway.kafka.consuming.events import Event, meaning_of
from kafka_gateway.kafka.consuming.offset_queries import (
    START_S,
    begins_at_end,
    ends_without_commits,
    starting_offsets,
)
from kafka_gateway.kafka.consuming.rebalance_listener import NoRebalanceListener, RebalanceListener
from kafka_gateway.kafka.consuming.stored_offsets import StoredOffsets
from kafka_gateway.kafka.errors import describe, kafka_error, to_consumer_error
from kafka_gateway.kafka.ports.topics import PartitionOffset

_log = logging.getLogger("gateway.kafka.consumer")

LAST_COMMIT_S = 900.0
"""How long `close` waits for a commit that Kafka does not answer."""

_COORDINATOR_S = 0.2
"""How long after word of a lost coordinator the starts are asked for again."""
_PLACE_AGAIN_S = 1.0
_SLICE_S = 0.5
_COUNT_EVERY_S = 1.0
_LEAVE_S, _LEFT_S = 0.2, 0.02
"""How long a client is polled that has left its group, and between looks whether it has."""
_JOIN_S = 5.0
"""How long a client joins its group at most, to leave it: the first of a group waits for others for 3 s
(group.initial.rebalance.delay.ms). And how long it waits for others that join, to leave."""
_NO_ANCHORS: Mapping[Partition, Anchor] = {}

Build = Callable[..., confluent_kafka.Consumer]
"""Makes the client; takes librdkafka's ``on_commit``. Raises InvalidConsumerConfig."""


class GroupClient(AssignedPartitions):
    """A consumer and what it has. Raises KafkaException as the binding does, unless a method says otherwise."""

    def __init__(
        self,
        build: Build,
        owner: RebalanceListener | None = None,
        *,
        cooperative: bool = False,
        reset: str = "latest",
        blocking: bool = True,
        joins: bool = True,
        anchors: Mapping[Partition, Anchor] = _NO_ANCHORS,
        from_beginning: bool = False,
    ) -> None:
        """Builds nothing yet; see `open`.

        Args:
            cooperative: whether the group's assignments come as differences (``cooperative-sticky``).
            reset: librdkafka's ``auto.offset.reset``, as ``build`` sets it.
            blocking: whether a poll in which partitions come may take the time of three questions to Kafka. Without
                it librdkafka finds the starts, and is made to ask again after a lost coordinator.
            joins: whether it is of its group at all. librdkafka asks for the group's coordinator all the same, and
                what Kafka lets the user do with a group that it only names is no matter.
            anchors: where partitions begin, as far as they count (cluster.md §4.3).
            from_beginning: whether the group's assignments begin at the beginning, whatever anybody has committed.
        """
        super().__init__(cooperative)
        self._build = build
        self._owner = owner or NoRebalanceListener()
        self._reset = reset
        self._blocking = blocking
        self._joins = joins
        self.anchors = Anchors(anchors)
        self._from_beginning = from_beginning
        self.fatal = ""
        """Why the client can do nothing any more, such as that another one has its ``group.instance.id``."""
        self.commits = Commits()
        self.stored = StoredOffsets()
        self.anchored: dict[Partition, int] = {}
        """Partitions that went on at an anchor; whoever looks takes them away."""
        self._was_member = False
        """Whether the client has the member id of a group that it has left: Kafka refuses its commits, for ever."""
        self._has_joined = False
        """Whether the group has answered the client since it joined it last."""
        self._count_at = 0.0
        self._record_bytes = 0
        """The size of the value that was polled last."""

    def open(self) -> None:
        """Builds the client, which takes milliseconds. Raises what ``build`` raises."""
        self._consumer = self._build(on_commit=self.commits.reported)

    # --- reading ------------------------------------------------------------------------------------------------------

    def poll(self, most: int, wait_s: float) -> list[Message]:
        """Up to ``most`` records; waits for the first, not for all of them: ``consume(n, t)`` would (257 ms, p50).

        Serves librdkafka's callbacks. What is no record changes `stopped`, `missing`, `ends`, `failure`.
        """
        consumer = self.client
        records = consumer.consume(1, wait_s) if wait_s else consumer.consume(most, 0)
        if not records:
            return records
        if wait_s and most > 1:
            try:
                records += consumer.consume(most - 1, 0)
            except Exception as error:
                # What has been consumed must be handed over: librdkafka's position is behind it.
                _log.exception("a second poll failed")
                self.failure = to_consumer_error(error)
        if any(map(Message.error, records)):
            records = self._without_events(records)
        without_unreadable_headers(records)
        if records:
            self._record_bytes = len(records[-1])
            if records[0].offset() == 0:  # not of each: that would cost as much as all the rest
                self._note_zero((each.topic() or "", each.partition() or 0) for each in records if not each.offset())
        if self._unplaced:
            for place in {(record.topic() or "", record.partition() or 0) for record in records}:
                self._unplaced.pop(place, None)
        return records

    def _without_events(self, records: list[Message]) -> list[Message]:
        good = []
        for record in records:
            error = record.error()
            if error is None:
                good.append(record)
                continue
            place = (record.topic() or "", record.partition() or 0)
            event = meaning_of(error.code())
            if event is Event.END:
                self.ends[place] = record.offset() or 0
            elif event is Event.NO_POSITION and record.topic() is not None:
                _log.info("%s-%d has no position: %s", *place, describe(error))
                if place in self.assigned:
                    self.stopped[place] = to_consumer_error(error)
            elif event is Event.MISSING:
                if place[0]:
                    self.missing.add(place[0])
            elif event is Event.COORDINATOR:
                _log.info("The group's coordinator has moved: %s", describe(error))
                self._coordinator_lost(describe(error))
            elif error.code() == confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED and not self._joins:
                _log.debug("A consumer without a group may not use one: %s", describe(error))
            elif event is not Event.PASSES or error.fatal():
                if error.code() == confluent_kafka.KafkaError._FATAL or error.fatal():
                    self.fatal = describe(error)
                _log.warning("A consumer reports %s", describe(error))
                self.failure = to_consumer_error(error)
        return good

    # --- starts that are not known yet --------------------------------------------------------------------------------

    def silent(self) -> dict[Partition, str]:
        """Partitions of which no record can come at present, and why."""
        return self._unplaced | {place: error.message for place, error in self.stopped.items()}

    def tend(self, now: float) -> None:
        """Does what is due. To be called in every round of whoever polls."""
        if self.commits:
            self.commits.tend(self.client, now)
        if now >= self._place_at:
            self._place_again(now)
        if now >= self._count_at:
            self.count(now)

    def count(self, now: float) -> None:
        """Tells the memory budget what has been fetched ahead. `tend` does it once a second."""
        self._count_at = now + _COUNT_EVERY_S
        if isinstance(self.client, CountedConsumer):
            self.client.note(self.fetched_ahead(self._record_bytes))

    def _coordinator_lost(self, why: str) -> None:
        self._place_at = time.monotonic() + _COORDINATOR_S
        here = self.positions(self.assigned) if self.assigned else {}
        self._unplaced |= {place: why for place, offset in here.items() if offset < 0 and place not in self.stopped}

    def _place_again(self, now: float) -> None:
        """Asks once more where partitions start that have not started yet."""
        self._place_at = math.inf
        waiting = [place for place in self._unplaced if place in self.assigned and place not in self.stopped]
        # Those that librdkafka has got going meanwhile are not to be disturbed.
        waiting = [place for place, offset in self.positions(waiting).items() if offset < 0]
        self._unplaced = {place: self._unplaced[place] for place in waiting}
        if not waiting:
            return
        if not self._blocking:
            self._unplaced = {}
            self.restart(dict.fromkeys(waiting, UNKNOWN))
            return
        try:
            starts = self._find_starts(self.client, self._existing(waiting))
        except KafkaException as error:
            self._place_at = now + _PLACE_AGAIN_S
            self._unplaced = dict.fromkeys(waiting, _text(error))
            return
        self._unplaced = {}
        # Those without a start (auto.offset.reset=none) too: librdkafka is to say that they have none.
        self.restart(dict.fromkeys(waiting, UNKNOWN) | starts)
        self._owner.placed(waiting)

    def _find_starts(self, consumer: confluent_kafka.Consumer, partitions: Sequence[Partition]) -> dict[Partition, int]:
        found = starting_offsets(consumer, partitions, self._reset)
        self.stored.tell(partitions, found.stored)
        self.uncommitted_starts |= found.others
        starts = found.committed | found.others
        if self.anchors.left:
            anchored = self.anchors.starts(partitions, found.stored)
            self.anchored |= anchored
            starts |= anchored
            for place in anchored:
                self.uncommitted_starts.pop(place, None)
        return starts

    def starts_to_store(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Starts of these that the group should commit: it has committed nothing and begins at the end of the log, so
        one whose member is killed before the first commit would skip what is written until it is back."""
        if not begins_at_end(self._reset):
            return {}
        return {place: self.uncommitted_starts[place] for place in partitions if place in self.uncommitted_starts}

    def assign_from_starts(self, partitions: Collection[Partition]) -> None:
        """As `assign`, from starts that are asked for here, so that whoever commits knows them. Blocks.

        Where Kafka does not tell them, librdkafka goes its own way, and `tend` asks again.
        """
        wanted = sorted(set(partitions))
        self.anchors.end(self.anchors.left.keys() - set(wanted))
        known, why = {}, ""
        # What is assigned until now is given up: the new starts are not to be mixed with its own.
        self.uncommitted_starts.clear()
        try:
            known = self._find_starts(self.client, self._existing(wanted))
        except KafkaException as error:
            why = _text(error)
            _log.info("Kafka does not tell where assigned partitions start: %s", error)
        uncommitted = dict(self.uncommitted_starts)
        self.assign(wanted, known)
        self.uncommitted_starts = uncommitted
        if why:
            self._flow.wait(self.anchors.left.keys() & self.assigned)
            self._apply()
            self._unplaced = dict.fromkeys(wanted, why)
            self._place_at = time.monotonic() + _PLACE_AGAIN_S

    # --- the group's assignments --------------------------------------------------------------------------------------

    def subscribe(self, topics: Sequence[str]) -> None:
        self.anchors.keep(topics)
        self.missing.clear()
        self._anew.clear()
        self._gone.clear()
        self.client.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        self.mode = "group"

    def unsubscribe(self) -> None:
        self.anchors.keep(())
        self._was_member |= self.mode == "group"
        self._has_joined = False
        super().unsubscribe()

    def seek(self, targets: Mapping[Partition, int]) -> None:
        super().seek(targets)
        self.anchors.end(targets)

    def begin_again(self, topic: str, but: Collection[Partition] = ()) -> list[Partition]:
        self.anchors.end([place for place in self.anchors.left if place[0] == topic])
        return super().begin_again(topic, but)

    def assign(self, partitions: Iterable[Partition], starts: Mapping[Partition, int] | None = None) -> None:
        """As of `AssignedPartitions`. Blocks for as long as leaving takes, if a group was left before."""
        self._be_nobody()
        super().assign(partitions, starts)

    def _be_nobody(self) -> None:
        """Has a new client in place of one that was in a group and has nothing of it any more.

        librdkafka keeps its member id and generation when it leaves, and sends them with each commit. Kafka takes
        commits of nobody's while a group has no members, and none of somebody who is none of them (UNKNOWN_MEMBER_ID).
        """
        if not self._was_member or self.mode or self.assigned:
            return
        if not self.settle_commits(time.monotonic() + COMMIT_S):
            raise KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))
        former, following = self.client, self._build(on_commit=self.commits.reported)
        self.mode = "manual"  # what the group still gives and takes back is nobody's
        try:
            former.close()
        finally:
            self.mode, self._consumer = "", following
            self._was_member = self._differences_only = False

    def store_ends(self, topic: str, within_s: float = START_S) -> None:
        """Has the group begin where the logs of the topic end now, where it has committed nothing; before `subscribe`.

        To be assigned something for the first time takes three seconds and more. A group of which nothing is stored
        until then begins behind what came meanwhile if its gateway is killed. Kafka takes a commit of nobody's only
        while a group has no members; where it has some, they have done this. Blocks for up to ``within_s``.
        """
        until = time.monotonic() + within_s
        try:
            ends = ends_without_commits(self.client, topic, until)
        except KafkaException as error:
            _log.info("Where the group begins in topic %s is not stored before it is joined: %s", topic, _text(error))
            return
        if ends:
            self.commit(next_offsets(ends), partial(_note_outcome, topic), max(0.0, until - time.monotonic()))
            self.settle_commits(until)

    # librdkafka calls these within consume(). What they raise would cost the records of that call.

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        mine = [(one.topic, one.partition) for one in partitions]
        if self.mode == "manual":
            self._answer_late(consumer, revoked=False)
            return
        self._has_joined = True
        try:
            if not self._cooperative:
                # The eager protocol took all of them away before; those that were lost, maybe without a callback.
                self._let_go(self.assigned)
                self._forget(list(self.assigned))
            self._forget(mine)
            self.missing -= {topic for topic, _ in mine}
            starts = self._first_starts(consumer, mine)
            anew = {place for place in mine if self._from_beginning or place[0] in self._anew}
            placed = [
                TopicPartition(
                    *place, confluent_kafka.OFFSET_BEGINNING if place in anew else starts.get(place, UNKNOWN)
                )
                for place in mine
            ]
            starts |= dict.fromkeys(anew, 0)
            self._anew.difference_update(topic for topic, _ in anew)
            if self._cooperative:
                consumer.incremental_assign(placed)
            else:
                consumer.assign(placed)
            self.assigned |= set(mine)
            self.starts |= starts
            self._note_afresh(mine)
            self._apply()
            self._owner.assigned(mine)
        except Exception:
            _log.exception("an assignment could not be carried out")

    def _first_starts(self, consumer: confluent_kafka.Consumer, mine: Sequence[Partition]) -> dict[Partition, int]:
        if not self._blocking or not mine:
            return {}
        try:
            return self._find_starts(consumer, mine)
        except KafkaException as error:
            # librdkafka goes its own way meanwhile, but where an anchor may count: that would not be undone any more.
            self._flow.wait(self.anchors.left.keys() & set(mine))
            _log.info("Kafka does not tell where new partitions start: %s", error)
            self._unplaced |= dict.fromkeys(mine, _text(error))
            self._place_at = time.monotonic() + _PLACE_AGAIN_S
            return {}

    def _on_revoke(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        if self.mode == "manual":
            self._answer_late(consumer, revoked=True)
        else:
            self._lose(partitions, self._owner.revoked)

    def _on_lost(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        if self.mode == "manual":
            self._answer_late(consumer, revoked=True)
        else:
            self._lose(partitions, self._owner.lost)

    def _answer_late(self, consumer: confluent_kafka.Consumer, revoked: bool) -> None:
        """A group that was left while it formed answers all the same, and takes that back later. What was assigned by
        hand meanwhile stays: the binding would put the group's partitions in its place, and then nothing.
        """
        try:
            if self._cooperative:
                (consumer.incremental_unassign if revoked else consumer.incremental_assign)([])
                return
            here = self.positions(self.assigned)
            self._let_go(self.assigned)
            if revoked:
                consumer.unassign()
            consumer.assign([TopicPartition(*place, offset) for place, offset in here.items()])
            self._apply()
        except Exception:
            _log.exception("an assignment by hand could not be kept")

    def _lose(self, partitions: list[TopicPartition], tell: Callable[[Collection[Partition]], None]) -> None:
        gone = [(one.topic, one.partition) for one in partitions]
        try:
            tell(gone)
        except Exception:
            _log.exception("partitions could not be given up in order")
        try:
            self._let_go(gone)
        finally:
            self._forget(gone)

    # --- commits, and the end -----------------------------------------------------------------------------------------

    def commit(self, offsets: Sequence[PartitionOffset], done: Done, within_s: float = COMMIT_S) -> None:
        """Sends a commit; ``done`` hears within that time what became of it, in a poll or in `tend`.

        Blocks for as long as leaving takes, if a group was left before."""
        self._be_nobody()
        self.commits.send(self.client, offsets, partial(self.stored.take_outcome, offsets, done), within_s)

    def settle_commits(self, until: float, wait_s: float = 0.01) -> bool:
        """Polls until no commit is on its way any more, or until that time (`time.monotonic`); whether none is. Records
        that come meanwhile are dropped."""
        while self.commits.on_their_way and time.monotonic() < until:
            self.poll(1, wait_s)
            self.commits.tend(self.client, time.monotonic())
        return not self.commits.on_their_way

    def leave(self) -> None:
        """Has a member with a ``group.instance.id`` leave its group, which closing does not (cluster.md §6.4).

        One that has not joined yet has no member id to leave with, but the group may keep its place for the client
        that had the ``group.instance.id`` before, for all of the session timeout: so it joins first. Not where its
        topics are missing, for which no group is formed, nor where another client has its place already.

        While its group shares out anew a client cannot leave: it does when that is over. One that was closed then left
        its partitions to nobody for all of the session timeout. A client that has left has no member id any more.
        """
        if self.mode == "group":
            self._blocking = False
            until = time.monotonic() + _JOIN_S
            while not (self._has_joined or self.missing or self.fatal) and (left_s := until - time.monotonic()) > 0:
                self.poll(1, min(left_s, _SLICE_S))
            self.client.unsubscribe()
            until = time.monotonic() + _JOIN_S
            while self.client.memberid() and time.monotonic() < until and not self.fatal:
                self.poll(1, _LEFT_S)
            until = time.monotonic() + _LEAVE_S
            while (left_s := until - time.monotonic()) > 0:
                self.poll(1, left_s)

    def close(self) -> None:
        """Leaves the group. Waits for commits that are on their way, for very long if need be: not for the event
        loop, nor for a thread that somebody waits for."""
        if self._consumer is None:
            return
        if self.commits.on_their_way:
            _log.warning("Kafka does not answer the last commit of a consumer; its thread waits for that alone")
            self.hold_all(True)
            self.settle_commits(time.monotonic() + LAST_COMMIT_S, _SLICE_S)
        self._blocking = False  # for partitions that come now Kafka is asked for no starts: that took two seconds
        self._consumer.close()
        self.drop()

    def drop(self) -> None:
        """Drops the client without closing it: it is in no group, and closing takes 5 s with a frozen broker (§3b)."""
        if self._consumer is not None:
            self._consumer = None
            trimmer.let_go(CLIENT_BYTES)


def _note_outcome(topic: str, error: ServiceError | None) -> None:
    if error is not None:
        _log.debug("Where the group begins in topic %s was not stored before it was joined: %s", topic, error.message)


def _text(error: KafkaException) -> str:
    return describe(cause) if (cause := kafka_error(error)) is not None else str(error)
