"""A stream with a group: the share of the topics that Kafka assigns to it (streams.md §5).

It is a consumer of its own, which joins with the stream and leaves with it. Nothing is read ahead: the next records are
taken when those before have been written. With ``ack=sent`` being asked for more is the proof that they were, and the
consumer commits them by itself, before a rebalance too. With ``ack=client``, and where a limit may cut a batch,
records count as returned at once and positions are committed here, as they are acknowledged or written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from kafka_gateway import jsonio
from kafka_gateway.dialect import error_event
from kafka_gateway.errors import ServiceError, ShuttingDown, TopicNotFound, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.consuming import Consumer, ReadLimits, TakenBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka.unfinished import Unfinished
from kafka_gateway.memory_budget import COUNT_FROM, Claim
from kafka_gateway.records import ConsumedRecord, RecordsEncoder
from kafka_gateway.services.streams.acks import Committer, read_ack
from kafka_gateway.services.streams.token import token, token_part
from kafka_gateway.services.streams.topic_stream import GapBody, end_event, ready_event
from kafka_gateway.stream import Payload

_WAIT_S = 60.0
"""How long one read waits for a record; then there is another one."""
_GRACE_S = 0.25
"""How long acknowledgements count behind the word that the gateway stops."""
_AGAIN_S, _AGAIN_MAX_S = 0.5, 10.0
"""The pause after a read that failed and may be repeated doubles with each further one."""


class GroupStream:
    """An iterator over events (gateway.stream.Stream), for one task. ``left`` is called once when it is over."""

    def __init__(
        self,
        encoder: RecordsEncoder,
        heartbeat_s: int,
        max_bytes: int,
        ends: Mapping[TopicPartition, int],
        until_end: bool,
        limit: int,
        max_unacked: int,
        left: Callable[[GroupStream], None],
    ) -> None:
        """``ends``: end offsets at opening. ``limit`` 0: none; ``max_unacked`` 0: the client does not acknowledge."""
        self.heartbeat_s = heartbeat_s
        self._encoder = encoder
        self._limits = ReadLimits(max_bytes, _WAIT_S)
        self._ends = ends
        self._until_end = until_end
        self._left_of_limit = limit
        self._max_unacked = max_unacked
        self._left: Callable[[GroupStream], None] | None = left
        self._itself = bool(limit or max_unacked)
        """Whether commits are made here."""
        self._consumer: Consumer
        self._committer: Committer
        self._unacked: Unfinished[None] = Unfinished()
        self._positions: dict[TopicPartition, int] = {}
        """The next offset to send, for each assigned partition."""
        self._reached: dict[TopicPartition, int] = {}
        """The same of those that were taken away."""
        self._events: deque[Payload] = deque()
        self._records: deque[ConsumedRecord] = deque()
        """Read, and not sent yet."""
        self._claim: Claim | None = None
        self._written: Sequence[ConsumedRecord] = ()
        """The records of the event that is being written."""
        self._taken: TakenBatch | None = None
        """What that event is of."""
        self._opened: tuple[TakenBatch, Payload] | None = None
        """What is to be written behind the events that wait."""
        self._reading: asyncio.Future[TakenBatch] | None = None
        self._changed = asyncio.Event()
        self._again_s = 0.0
        self._told_end = False
        self._last = False
        """Nothing comes behind the events that wait."""
        self._hopeless = False
        """True when it ends with an error: it waits for no acknowledgement then."""
        self._ended = False
        self._over: asyncio.Event | None = None
        """Somebody waits until it has."""

    @property
    def ends_itself(self) -> bool:
        """With ``until`` or ``limit``."""
        return self._until_end or self._left_of_limit > 0

    @property
    def commits_itself(self) -> bool:
        """Whether the consumer must not commit what was returned."""
        return self._itself

    async def start(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Joins the group. ServiceError if that cannot be."""
        self._consumer, self._committer = consumer, Committer(consumer)
        await consumer.subscribe(topics)

    # --- what the consumer calls ------------------------------------------------------------------------------------

    def rebalanced(self, assigned: Sequence[PartitionOffset], anew: Collection[TopicPartition]) -> None:
        """Takes the partitions of this member. Records of others are dropped: another member sends them. So are records
        of topics that were deleted and made again (``anew``)."""
        if self._ended:
            return
        before = self._positions
        self._reached |= before
        self._positions = {}
        for topic, partition, offset, _ in assigned:
            place = TopicPartition(topic, partition)
            if place in anew and self._reached.get(place, offset) != offset:
                self._tell_gap(place, self._reached[place], offset)
            # What is on its way to the client counts here, what has merely been read does not.
            self._positions[place] = before.get(place, offset) if self._itself and place not in anew else offset
        if self._itself:
            kept = self._positions.keys() - anew
            self._unacked.keep(kept)
            self._committer.keep(kept)
            self._records = deque(each for each in self._records if _place(each) in kept)
        self._events.append(ready_event(self._cursor()))
        self._look_for_end()
        self._changed.set()

    # --- what the client says ---------------------------------------------------------------------------------------

    def acknowledge(self, message: bytes) -> None:
        """Commits what ``{"ack":<token>}`` names; any other message says nothing."""
        if not self._max_unacked or self._ended:
            return
        try:
            positions = read_ack(message)
        except ServiceError as error:
            self.fail(error)
            return
        for partition, position in (positions or {}).items():
            offset = self._unacked.end_below(partition, position)
            if offset is not None:
                self._committer.commit(partition, offset)
        self._changed.set()

    def fail(self, error: ServiceError) -> None:
        """Says why and ends."""
        self._records.clear()
        self._count(0)
        self._finish(error_event(error))
        if isinstance(error, ShuttingDown):  # its client may acknowledge what it has
            asyncio.get_running_loop().call_later(_GRACE_S, self._give_up)
        else:
            self._hopeless = True
        self._changed.set()

    def _give_up(self) -> None:
        self._hopeless = True
        self._changed.set()

    async def settled(self) -> None:
        """See `gateway.stream.Settling`: also acknowledged, if the client does that."""
        while self._last and not self._ended:
            if self._over is None:
                self._over = asyncio.Event()
            await self._over.wait()

    # --- what deliver calls -----------------------------------------------------------------------------------------

    def __aiter__(self) -> GroupStream:
        return self

    async def __anext__(self) -> Payload:
        self._confirm()
        while not self._ended:
            if self._events:
                return self._events.popleft()
            if self._opened is not None:
                (self._taken, event), self._opened = self._opened, None
                return event
            if self._last:
                if self._hopeless or not self._unacked:
                    break  # else the last records sent are not acknowledged yet
            elif self._records:
                if (piece := self._next_piece()) is not None:
                    return piece
                if self._events:
                    continue
            elif self._reading is None:
                self._read()
            elif self._reading.done():
                reading, self._reading = self._reading, None
                try:
                    self._open(reading.result())
                except ServiceError as error:
                    self._failed(error)
                continue
            self._changed.clear()
            await self._changed.wait()
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leaves the group, in the background; what was not written or acknowledged goes to the next member."""
        if self._ended:
            return
        self._ended = True
        self._changed.set()
        if self._over is not None:
            self._over.set()
        for taken in (self._taken, self._opened[0] if self._opened is not None else None):
            if taken is not None:
                taken.put_back()
        self._taken = self._opened = None
        if self._reading is not None:
            self._reading.cancel()
            _put_back(self._reading)
        left, self._left = self._left, None
        if left is not None:
            left(self)

    async def leave(self) -> None:
        """Commits what is pending, and leaves the group; after ``aclose``."""
        await self._committer.close()
        await self._consumer.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        encoder = _no_payload if self._itself else self._encoder
        self._reading = asyncio.ensure_future(self._take(encoder))
        self._reading.add_done_callback(lambda _: self._changed.set())

    async def _take(self, encoder: RecordsEncoder) -> TakenBatch:
        if self._again_s:
            await asyncio.sleep(self._again_s)
        return await self._consumer.take(self._limits, encoder)

    def _failed(self, error: ServiceError) -> None:
        if error.retriable:  # Kafka is away; the group may be as well, and another member goes on
            self._again_s = min(max(_AGAIN_S, 2 * self._again_s), _AGAIN_MAX_S)
        elif isinstance(error, UnknownTopicOrPartition):
            self.fail(TopicNotFound())
        else:
            self.fail(error)

    def _open(self, taken: TakenBatch) -> None:
        """Makes ready what was read."""
        self._again_s = 0.0
        records = taken.batch.records
        if self._itself:
            taken.confirm()
            self._records.extend(records)
            self._count(taken.batch.size_bytes)
            return
        if not records:
            taken.confirm()
            return
        for record in records:
            place, offset = _place(record), record.offset() or 0
            if offset < self._positions.get(place, 0):
                self._tell_gap(place, self._positions[place], offset)
            self._positions[place] = offset + 1
        self._opened = taken, Payload(taken.batch.encode(self._encoder), "record", self._cursor())

    def _next_piece(self) -> Payload | None:
        """As many of the records as limits allow; None if none are allowed now, or none before the events that wait."""
        count = len(self._records)
        if self._max_unacked:
            count = min(count, self._max_unacked - len(self._unacked))
        if self._left_of_limit:
            count = min(count, self._left_of_limit)
        written: list[ConsumedRecord] = []
        while len(written) < count:
            place, offset = _place(self._records[0]), self._records[0].offset() or 0
            if offset < self._positions.get(place, 0):
                if not written:
                    self._tell_gap(place, self._positions[place], offset)
                    self._positions[place] = offset
                break
            self._positions[place] = offset + 1
            written.append(self._records.popleft())
            if self._max_unacked:
                self._unacked.sent(place, offset, None)
        if not written:
            return None
        self._written = written
        if not self._records:
            self._count(0)
        return Payload(self._encoder(written), "record", self._cursor())

    def _tell_gap(self, place: TopicPartition, start: int, to: int) -> None:
        """The topic was deleted and made again: records of the old one can be acknowledged no longer."""
        self._unacked.drop([place])
        body = GapBody(place.topic, place.partition, start, to)
        self._events.append(Payload(jsonio.encode(body), "gap", self._cursor()))

    def count_in(self, claim: Claim) -> None:
        """Records that wait for acknowledgements count in ``claim`` from now on."""
        self._claim = claim

    def _count(self, size: int) -> None:
        if self._claim is not None and (self._claim.held or size >= COUNT_FROM):
            self._claim.set_to(size)

    def _confirm(self) -> None:
        """Notes that the records handed out last have been written."""
        if self._taken is not None:
            self._taken.confirm()
            self._taken = None
            self._look_for_end()
            return
        written, self._written = self._written, ()
        if not written:
            return
        if not self._max_unacked:
            for partition, position in {_place(each): (each.offset() or 0) + 1 for each in written}.items():
                if partition in self._positions:
                    self._committer.commit(partition, position)
        if self._left_of_limit:
            self._left_of_limit -= len(written)
            if not self._left_of_limit:
                self._records.clear()
                self._finish(end_event(self._cursor()))
                return
        self._look_for_end()

    def _look_for_end(self) -> None:
        """Whether all that was there at opening has been sent, of what is assigned."""
        if self._told_end or self._last or not self._positions:
            return
        if any(at < self._ends.get(partition, 0) for partition, at in self._positions.items()):
            return
        self._told_end = True
        event = end_event(self._cursor())
        if self._until_end:
            self._finish(event)
        else:
            self._events.append(event)

    def _finish(self, event: Payload) -> None:
        if not self._last:
            self._events.append(event)
            self._last = True
            self._changed.set()

    def _cursor(self) -> bytes:
        return token([token_part(PartitionOffset(*each, at) for each, at in sorted(self._positions.items()))])


def _no_payload(records: Sequence[ConsumedRecord]) -> bytes:
    return b""


def _place(record: ConsumedRecord) -> TopicPartition:
    return TopicPartition(record.topic() or "", record.partition() or 0)


def _put_back(reading: asyncio.Future[TakenBatch]) -> None:
    """Puts records back that came in the moment in which the reader left."""
    if reading.done() and not reading.cancelled() and reading.exception() is None:
        reading.result().put_back()
