"""A stream of topics without a group: it turns the records of tails into events (streams.md §2).

This is the hot path of pushing: ``records`` runs for every batch and every client. What it makes is kept with the
batch, so that for clients in step it is a look-up and a write; no task is woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kafka_gateway import jsonio
from kafka_gateway.dialect import error_event
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.tails import Gap, Tail, TailBatch
from kafka_gateway.kafka.ports.topics import PartitionOffset
from kafka_gateway.records import RecordBatch, RecordsEncoder
from kafka_gateway.schemas import SchemaPending
from kafka_gateway.services.streams.token import token, token_part
from kafka_gateway.stream import Feed, Payload


class GapBody(jsonio.Struct, rename={"start": "from"}):
    topic: str
    partition: int
    start: int
    to: int


def ready_event(cursor: bytes) -> Payload:
    """The event with the positions from which on nothing is missed."""
    return Payload(b'{"positions":%b}' % cursor, "ready", cursor)


def end_event(cursor: bytes) -> Payload:
    """The event of the live edge, or of the end of a stream that has one."""
    return Payload(b'{"positions":%b}' % cursor, "end", cursor)


class TopicStream(Feed):
    """All topics of one client. ``left`` is called once, when it is over."""

    __slots__ = (
        "_caught_up",
        "_held",
        "_left",
        "_limit",
        "_paused",
        "_topics",
        "_until_end",
        "_waiting",
        "_waits",
        "encoder",
        "is_plain",
    )

    def __init__(
        self,
        encoder: RecordsEncoder,
        heartbeat_s: int,
        until_end: bool,
        limit: int,
        left: Callable[[TopicStream], None],
    ) -> None:
        """``limit`` 0: none."""
        super().__init__(heartbeat_s)
        self.encoder = encoder
        self._until_end = until_end
        self._limit = limit
        self._left: Callable[[TopicStream], None] | None = left
        self._topics: tuple[StreamedTopic, ...] = ()
        self._paused = True
        self._caught_up = False
        self._waits = bool(getattr(encoder, "waits", False))
        self.is_plain = False
        """Whether each batch of its one topic is an event, and nothing else is to be done with it."""
        self._held: list[Callable[[], None]] | None = None
        """What came while a schema is being fetched."""
        self._waiting: asyncio.Task[None] | None = None

    def set_topics(self, streamed_topics: Sequence[StreamedTopic]) -> None:
        """Sets what it reads. The tails have been opened, and are paused."""
        self._topics = tuple(streamed_topics)
        self.is_plain = len(self._topics) == 1 and not self._limit and not self._waits

    @property
    def ends_itself(self) -> bool:  # type: ignore[override]  # it is asked for only
        """With ``until`` or ``limit``."""
        return self._until_end or self._limit > 0

    # --- what the outlet calls --------------------------------------------------------------------------------------

    def begin(self) -> None:
        if self.outlet.write(ready_event(self.cursor())):
            self.resume()

    def pause(self) -> None:
        self._paused = True
        for streamed in self._topics:
            streamed.tail.pause()

    def resume(self) -> None:
        self._paused = False
        if self._held is not None:
            return
        for streamed in self._topics:
            streamed.tail.resume()
            if self._paused:  # the first records were too many already
                break

    def close(self) -> None:
        self._paused = True
        if self._waiting is not None:
            self._waiting.cancel()
        streamed_topics, self._topics = self._topics, ()
        for streamed in streamed_topics:
            streamed.tail.close()
        left, self._left = self._left, None
        if left is not None:
            left(self)

    # --- what the tails call ----------------------------------------------------------------------------------------

    def records(self, streamed: StreamedTopic, batch: TailBatch) -> None:
        if self._held is not None:
            self._held.append(lambda: self.records(streamed, batch))
            return
        if self._waits:
            try:
                batch.records.encode(self.encoder)
            except SchemaPending as pending:
                self._hold(lambda: self.records(streamed, batch), pending)
                return
        if self._limit:
            self._limited(streamed, batch)
            return
        streamed.positions = batch.positions
        if not self.outlet.write(self._event(streamed, batch)):
            self.pause()

    def _hold(self, again: Callable[[], None], pending: SchemaPending) -> None:
        """Keeps what comes until a schema is there. The reading thread has usually fetched it before."""
        self._held = [again]
        for streamed in self._topics:
            streamed.tail.pause()
        self._waiting = asyncio.get_running_loop().create_task(self._go_on(pending))

    async def _go_on(self, pending: SchemaPending) -> None:
        await pending.wait()
        held, self._held, self._waiting = self._held or [], None, None
        for again in held:
            if self._topics:
                again()
        self._resume_if_wanted()

    def _resume_if_wanted(self) -> None:
        if self._held is None and not self._paused:
            self.resume()

    def _event(self, streamed: StreamedTopic, batch: TailBatch) -> Payload:
        derived = batch.derived
        streamed_topics = self._topics
        if len(streamed_topics) == 1:
            found = derived.get(self.encoder)
            if found is None:
                cursor = token([token_part(batch.positions)])
                found = derived[self.encoder] = Payload(batch.records.encode(self.encoder), "record", cursor)
            event: Payload = found
            return event
        part = derived.get(_PART)
        if part is None:
            part = derived[_PART] = token_part(batch.positions)
        streamed.part = part
        parts = tuple([each.part for each in streamed_topics])
        key = (self.encoder, parts)
        found = derived.get(key)
        if found is None:
            found = derived[key] = Payload(batch.records.encode(self.encoder), "record", token(parts))
        event = found
        return event

    def _limited(self, streamed: StreamedTopic, batch: TailBatch) -> None:
        """As ``records``, for a stream that ends behind so many records: the last batch may have to be cut."""
        records = batch.records.records
        if len(records) < self._limit:
            self._limit -= len(records)
            streamed.positions = batch.positions
            room = self.outlet.write(self._event(streamed, batch))
        else:
            records = records[: self._limit]
            ends = {record.partition(): (record.offset() or 0) + 1 for record in records}
            streamed.moved_to(
                [each._replace(offset=ends.get(each.partition, each.offset)) for each in streamed.positions]
            )
            self.outlet.write(Payload(RecordBatch(records, 0).encode(self.encoder), "record", self.cursor()))
            self._finish()
            return
        if not room:
            self.pause()

    def gap(self, streamed: StreamedTopic, gap: Gap) -> None:
        if self._held is not None:
            self._held.append(lambda: self.gap(streamed, gap))
            return
        streamed.moved_to(
            [each._replace(offset=gap.end) if each.partition == gap.partition else each for each in streamed.positions]
        )
        body = jsonio.encode(GapBody(gap.topic, gap.partition, gap.start, gap.end))
        if not self.outlet.write(Payload(body, "gap", self.cursor())):
            self.pause()

    def caught_up(self) -> None:
        if self._held is not None:
            self._held.append(self.caught_up)
            return
        if self._caught_up or not all(streamed.is_caught_up for streamed in self._topics):
            return
        self._caught_up = True
        if self._until_end:
            self._finish()
        elif not self.outlet.write(end_event(self.cursor())):
            self.pause()

    def fail(self, error: ServiceError) -> None:
        """Says why and ends."""
        self.outlet.write(error_event(error))
        self.end()

    def _finish(self) -> None:
        self.outlet.write(end_event(self.cursor()))
        self.end()

    def cursor(self) -> bytes:
        """The token behind what has been written."""
        return token([token_part(streamed.positions) for streamed in self._topics])


_PART = "part of the token"


class StreamedTopic:
    """One topic of a stream (gateway.kafka.ports.tails.TailListener)."""

    __slots__ = ("is_caught_up", "part", "positions", "stream", "tail")

    tail: Tail

    def __init__(self, stream: TopicStream) -> None:
        self.stream = stream
        self.positions: Sequence[PartitionOffset] = ()
        self.part = b""
        """Its part of the token; streams of one topic do without."""
        self.is_caught_up = False

    def opened(self, tail: Tail) -> None:
        self.tail = tail
        self.moved_to(tail.positions)

    def moved_to(self, positions: Sequence[PartitionOffset]) -> None:
        self.positions = tuple(positions)
        self.part = token_part(self.positions)

    def records(self, batch: TailBatch) -> None:
        stream = self.stream
        if stream.is_plain and (event := batch.derived.get(stream.encoder)) is not None:
            # So it is for all clients in step but the first: as `TopicStream.records`, without its calls.
            self.positions = batch.positions
            if not stream.outlet.write(event):
                stream.pause()
            return
        stream.records(self, batch)

    def gap(self, gap: Gap) -> None:
        self.stream.gap(self, gap)

    def caught_up(self) -> None:
        self.is_caught_up = True
        self.stream.caught_up()

    def failed(self, error: ServiceError) -> None:
        self.stream.fail(error)
