"""The thread that reads a topic from given offsets on and hands what it reads to the event loop.

It is the same for the live edge of a topic and for its past; what differs is who takes the chunks. One round of the
thread: carry out what the loop asks for, then take what has arrived (``consume(1, t)``, then ``consume(n, 0)``), cut it
into chunks, encode them for everybody who follows, and wake the loop once for all that it has not fetched yet. The
thread stops reading while the loop has not taken `window` bytes.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from confluent_kafka import KafkaException, Message

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition, size_of
from kafka_gateway.kafka.consuming.client import Build, GroupClient
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka_errors import KafkaAuthentication, KafkaAuthorization
from kafka_gateway.records import ConsumedRecord, RecordBatch, RecordsEncoder

_log = logging.getLogger("gateway.kafka.streams")

SLICE_S = 0.2
"""How long the thread may wait for records before it looks for questions."""
CHUNK_RECORDS = 1000
CHUNK_BYTES = 256 * 1024
"""Keys and values of a chunk, unless a single record has more."""
RECORD_BYTES = 256
"""What a record costs beside key and value, roughly: the Message of the binding and librdkafka's own."""

_QUERY_S = 2.0
_AGAIN_S = 1.0

Filter = frozenset[int] | None
"""Partitions that somebody follows; None: all."""
Audience = Sequence[tuple[Filter, RecordsEncoder]]


class Chunk:
    """A run of records as they arrived.

    ``firsts`` is the offset of the first record of each partition in it, ``nexts`` the offset behind the last one; a
    chunk without records says with ``nexts`` how far the log goes (behind its last record there may be markers).
    """

    __slots__ = ("_parts", "batch", "firsts", "nexts", "size_bytes")

    def __init__(self, records: Sequence[Message], nexts: dict[int, int]) -> None:
        self.firsts: dict[int, int] = {}
        self.nexts = nexts
        size = 0
        if records:
            size = size_of(records)
            places = list(zip(map(Message.partition, records), map(Message.offset, records), strict=True))
            # Offsets rise within a partition: the last one of each key stays.
            last = cast(dict[int, int], dict(places))
            places.reverse()
            self.firsts = cast(dict[int, int], dict(places))
            for partition, offset in last.items():
                nexts[partition] = max(offset + 1, nexts.get(partition, 0))
        # A Message has the shape of a ConsumedRecord; its type says so less exactly.
        self.batch = RecordBatch(cast(Sequence[ConsumedRecord], records), size)
        self.size_bytes = size + RECORD_BYTES * len(records)
        self._parts: dict[frozenset[int], RecordBatch] = {}

    def part(self, partitions: frozenset[int]) -> RecordBatch:
        """The records of these partitions only; the same object for all who ask."""
        if partitions.issuperset(self.firsts):
            return self.batch
        found = self._parts.get(partitions)
        if found is None:
            found = batch_of([record for record in self.batch.records if record.partition() in partitions])
            self._parts[partitions] = found
        return found

    def encode(self, audience: Audience) -> None:
        """Makes the payloads ahead of time. What an encoder refuses is left to the tails that use it."""
        for partitions, encoder in audience:
            batch = self.batch if partitions is None else self.part(partitions)
            if len(batch):
                try:
                    self.size_bytes += len(batch.encode(encoder))
                except Exception:
                    _log.debug("An encoder refuses records", exc_info=True)


class Lost:
    """Reading cannot go on at ``offset``. It has gone on at ``first``; None: there is no record yet with that offset,
    and whoever reads this decides with `Fetcher.move`."""

    __slots__ = ("end", "first", "offset", "partition")

    def __init__(self, partition: int, offset: int, first: int | None, end: int) -> None:
        self.partition = partition
        self.offset = offset
        self.first = first
        self.end = end


Item = Chunk | Lost | ServiceError
"""What a fetcher hands over. A ServiceError is its end."""


class Fetcher:
    """One consumer and its thread. All methods belong to the event loop; ``deliver`` is called there."""

    def __init__(
        self,
        build: Build,
        topic: str,
        starts: Mapping[int, int],
        deliver: Callable[[list[Item]], None],
        window_bytes: int,
    ) -> None:
        """Starts reading. ``build`` makes the consumer, on the thread."""
        self.audience: Audience = ()
        """The tails for which the thread encodes; replaced as a whole."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._topic = topic
        self._deliver = deliver
        self._window = window_bytes
        self._loop = asyncio.get_running_loop()
        self._questions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = False
        # Written by one side each.
        self._handed = 0
        self._taken = 0
        self._waits = False
        self._out: collections.deque[Item] = collections.deque()
        self._called = False
        # On the thread.
        self._next = dict(starts)
        self._lost: dict[int, int] = {}
        self._client = GroupClient(build, joins=False)
        # Daemon: a thread that hangs in librdkafka must not keep the process (reliability.md F4).
        self._thread = threading.Thread(target=self._run, name=f"kafka-fetcher-{topic}", daemon=True)
        self._thread.start()

    @property
    def held_bytes(self) -> int:
        """Of records that were fetched and that the loop has not taken."""
        return self._handed - self._taken

    def taken(self, size_bytes: int) -> None:
        """The loop is done with so many bytes of chunks."""
        self._taken += size_bytes
        if self._waits:
            self._questions.put(None)

    def add(self, starts: Mapping[int, int]) -> None:
        """Reads these partitions as well."""
        self._questions.put(lambda: self._add(starts))

    def move(self, partition: int, offset: int) -> None:
        """Goes on there, after a `Lost` without ``first``."""
        self._questions.put(lambda: self._go_on({partition: offset}))

    def stop(self) -> None:
        """Nothing is delivered any more; ``ended`` is done when the consumer is gone."""
        self._stopping = True
        self._questions.put(None)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._client.open()
            self._client.add(self._places(self._next))
            while not self._stopping:
                self._round()
        except Exception as error:
            _log.exception("Reading topic %s failed", self._topic)
            self._hand_over([to_service_error(error)])
        finally:
            # Dropped: there is no group to leave, and close() takes 5 s with a frozen broker (reliability.md §3b).
            self._client.drop()
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(_done, self.ended)

    def _round(self) -> None:
        self._client.tend(time.monotonic())
        if self._handed - self._taken >= self._window:
            self._waits = True
            # The loop may have taken it all before it could see that somebody waits.
            wait_s = SLICE_S if self._handed - self._taken >= self._window else 0.0
            self._answer_questions(wait_s)
            self._waits = False
            return
        self._answer_questions(0.0)
        if self._lost:
            self._find_again()
        client = self._client
        records = client.poll(CHUNK_RECORDS, _AGAIN_S / 5 if self._lost else SLICE_S)
        if self._stopping:
            return
        if client.stopped or client.failure is not None:
            self._lost_positions(records)
        ends = {partition: end for (_, partition), end in client.ends.items()}
        client.ends.clear()
        if not records and not ends:
            return
        chunks = [Chunk(run, {}) for run in _cut(records)]
        for partition, end in ends.items():
            if end > self._next[partition]:
                last = chunks[-1].nexts if chunks else {}
                if end > last.get(partition, 0):
                    if chunks:
                        last[partition] = end
                    else:
                        chunks.append(Chunk((), {partition: end}))
        for chunk in chunks:
            self._next |= chunk.nexts
            chunk.encode(self.audience)
            self._handed += chunk.size_bytes
        self._hand_over(chunks)

    def _answer_questions(self, wait_s: float) -> None:
        with contextlib.suppress(queue.Empty):
            question = self._questions.get(wait_s > 0, wait_s or None)
            while True:
                if question is not None:
                    question()
                question = self._questions.get_nowait()

    def _hand_over(self, items: Iterable[Item]) -> None:
        self._out.extend(items)
        if self._out and not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._fetch)

    def _fetch(self) -> None:
        """On the loop."""
        self._called = False
        items = []
        with contextlib.suppress(IndexError):
            while True:
                items.append(self._out.popleft())
        if items and not self._stopping:
            self._deliver(items)

    def _lost_positions(self, records: list[Message]) -> None:
        """Notes partitions that Kafka has no position for any more, and what else it says."""
        client = self._client
        for (_, partition), why in list(client.stopped.items()):
            if partition in self._lost or partition not in self._next:
                continue
            _log.info("Reading topic %s: %s", self._topic, why.message)
            # What arrived of it before its position was lost counts.
            mine = [record.offset() or 0 for record in records if record.partition() == partition]
            self._lost[partition] = mine[-1] + 1 if mine else self._next[partition]
        if client.failure is not None:
            failure, client.failure = client.failure, None
            # All but a refusal passes: brokers come back, and the end of a topic is noticed elsewhere.
            if isinstance(failure, KafkaAuthorization | KafkaAuthentication):
                self._hand_over([failure])

    def _find_again(self) -> None:
        """Looks where partitions go on whose position Kafka does not have (reliability.md §3d)."""
        for partition, offset in list(self._lost.items()):
            try:
                first, end = self._client.bounds((self._topic, partition), _QUERY_S)
            except KafkaException as error:
                _log.info("Reading topic %s: %s", self._topic, error)
                return
            if first < 0 or end < 0:
                return
            del self._lost[partition]
            if offset > end:
                self._hand_over([Lost(partition, offset, None, end)])
                continue
            start = max(first, offset)
            if start > offset:
                self._hand_over([Lost(partition, offset, start, end)])
            self._go_on({partition: start})

    def _add(self, starts: Mapping[int, int]) -> None:
        self._client.learn(self._topic, _QUERY_S)
        self._next |= starts
        self._client.add(self._places(starts))

    def _go_on(self, starts: dict[int, int]) -> None:
        self._next |= starts
        self._client.restart(self._places(starts))

    def _places(self, starts: Mapping[int, int]) -> dict[Partition, int]:
        return {(self._topic, partition): offset for partition, offset in starts.items()}


def batch_of(records: Sequence[ConsumedRecord]) -> RecordBatch:
    """A batch of records that are part of a chunk."""
    return RecordBatch(records, size_of(cast(Sequence[Message], records)))


def _cut(records: list[Message]) -> list[list[Message]]:
    if not records:
        return []
    if len(records) == 1 or size_of(records) <= CHUNK_BYTES:
        return [records]
    middle = len(records) // 2
    return _cut(records[:middle]) + _cut(records[middle:])


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
