"""A consumer instance of a REST client (kafka-rest-http.md §5.5, §6.9): what it reads, its reads, what that needs.

The registry (`registry`) makes, finds, expires and closes them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Literal, NamedTuple, Protocol

from kafka_gateway.codec import Codec
from kafka_gateway.definitions import Definition
from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.ports.consuming import AtOnce, Consumer, ReadLimits, TakenBatch
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.messages import Call
from kafka_gateway.records import RecordBatch, RecordsEncoder
from kafka_gateway.rights import EVERYTHING, Need, Rights
from kafka_gateway.services.common.patterns import TopicPattern
from kafka_gateway.session import Owner
from kafka_gateway.shortened import Shortened


class InstanceKey(NamedTuple):
    """The key of an instance. ``generation`` is "v1" or "v2"."""

    generation: str
    group: str
    name: str


class Subscription(Protocol):
    """A push subscription as its instance knows it: the stream that gets the records while it lasts."""

    def end(self) -> None:
        """Take no more records; what is under way goes on."""

    def fail(self, error: ServiceError, grace_s: float = ...) -> None:
        """As ``end``, for a reason that its client is to know. ``grace_s``: how long what is under way may take to
        become known as delivered."""

    async def settled(self) -> None:
        """Returns when it is known of every record whether the client has it."""


class ConsumerInstance:
    """One consumer of a REST client. It belongs to the event loop.

    What it reads is kept here, as the client asked for it; Kafka is told no name that is not legal. Whoever changes
    that holds ``lock``, so that what is written here and what Kafka was told do not drift apart.
    """

    def __init__(
        self,
        key: InstanceKey,
        owner: Owner,
        codec: Codec,
        consumer: Consumer,
        timeout_s: float,
        min_bytes: int | None,
        rights: Rights = EVERYTHING,
        group_s: float = 0.0,
    ) -> None:
        self.key = key
        self.definition: Definition | None = None
        """What lasts of it, where several nodes serve as one (cluster.md §4.2)."""
        self.was_moved = False
        """Whether it was opened again here after its process was gone: what that had returned is not known."""
        self.owner = owner
        """Who made it."""
        self.rights = rights
        """What that principal may do; a pattern gets the topics that it may read."""
        self.codec = codec
        self.consumer = consumer
        self.timeout_s = timeout_s
        """Longest duration of a read."""
        self.group_s = group_s
        """Longest duration of one that waits for the group to form; it may be longer."""
        self.min_bytes = min_bytes
        """See ReadLimits."""

        self.lock = asyncio.Lock()
        self.reads_from: Literal["nothing", "topics", "pattern", "partitions"] = "nothing"
        self.topics: tuple[str, ...] = ()
        """Subscribed topics, or those that the pattern matches at present."""
        self.illegal: tuple[str, ...] = ()
        """Names among those asked for that no topic can have: reads answer 40002 while there are some (observed)."""
        self.pattern: TopicPattern | None = None
        self.partitions: tuple[TopicPartition, ...] = ()
        """Manually assigned ones."""
        self.is_suspended = False
        """Whether another process may have it: nobody is served from it."""
        self.was_read = False
        """Since the last change of what it reads; a pattern's topics are shown only then (observed §6.5)."""
        self.matched = asyncio.Event()
        """Set while the pattern matches some topic."""

        self.running = 0
        """Operations at work; it cannot expire meanwhile."""
        self._quiet: asyncio.Future[None] | None = None
        """Done when the last of them has ended."""
        self.used_at = time.monotonic()
        self.closed = False
        self.push: Subscription | None = None
        """The newest subscription to pushes; it may have ended."""
        self.push_ends = 0
        """How often a client has ended its pushes, those included that were only about to begin."""
        self._reads: set[asyncio.Future[TakenBatch]] = set()
        self._interrupted = False

    @property
    def knows_what_was_returned(self) -> bool:
        """Whether a commit without a body would cover what its client has got: that is not known behind a failure until
        something has been returned here."""
        return not self.was_moved or bool(self.consumer.returned())

    def release(self) -> None:
        """One of those at work has ended; the clock of its expiry starts."""
        self.running -= 1
        self.used_at = time.monotonic()
        if self._quiet is not None and not self.running and not self._quiet.done():
            self._quiet.set_result(None)

    async def quiet(self) -> None:
        """Returns when nothing is at work."""
        while self.running:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    async def read(self, limits: ReadLimits, encoder: RecordsEncoder, shortened: Shortened | None = None) -> TakenBatch:
        """The next records; they count as returned when they are confirmed, and until then other reads wait.

        Cancelling it loses none. An interrupted read, and one that is ``shortened``, answers with none.
        """
        if self._ends_reads(shortened):
            return _nothing()
        reading = asyncio.ensure_future(self.take(limits, encoder))
        if shortened is not None:
            shortened.wait = reading
        self._reads.add(reading)
        try:
            return await reading
        except asyncio.CancelledError:
            put_back(reading)
            task = asyncio.current_task()
            if self._ends_reads(shortened) and not (task is not None and task.cancelling()):
                return _nothing()
            raise
        finally:
            self._reads.discard(reading)

    def _ends_reads(self, shortened: Shortened | None) -> bool:
        return self._interrupted or (shortened is not None and shortened.ended)

    async def take(self, limits: ReadLimits, encoder: RecordsEncoder, at_once: AtOnce | None = None) -> TakenBatch:
        """As read, for a push: nobody interrupts it. ``at_once``: see `Consumer.take`."""
        left = await self._readable(limits)
        return await self.consumer.take(left, encoder, at_once) if left else _nothing()

    async def _readable(self, limits: ReadLimits) -> ReadLimits | None:
        """Waits until there is something to read from: what is left of the limits then. None if there is nothing."""
        self.was_read = True
        if self.topics or any(partition.partition >= 0 for partition in self.partitions):
            return limits
        # Kafka knows of nothing to read: the pattern matches no topic yet, but one may appear while the client waits;
        # or only partitions were assigned that cannot be.
        began = time.monotonic()
        try:
            async with asyncio.timeout(limits.timeout_s):
                await self.matched.wait()
        except TimeoutError:
            return None
        left_s = max(0.0, limits.timeout_s - (time.monotonic() - began))
        return dataclasses.replace(limits, timeout_s=left_s)

    def needs(self, rights: Rights) -> list[Need]:
        """What a principal with these rights needs that reads from it.

        Whoever made it goes on with those topics of a pattern that it may still read, and ends with the last of them.
        """
        topics = self.topics
        if self.reads_from == "pattern" and rights is self.rights and rights.filter("read", "topic", topics):
            topics = ()
        names = dict.fromkeys([*topics, *(each.topic for each in self.partitions)])
        return [("read", "group", self.key.group), *(("read", "topic", name) for name in names)]

    def check_rights(self, call: Call) -> None:
        """NotAuthorized if the call's principal may not read what the instance reads: the rules may have changed
        since it subscribed, or it is another principal's instance. For as long as the call lasts it must go on so."""
        session = call.session
        if session.rights is not EVERYTHING:
            call.changing_needs = lambda: self.needs(session.rights)
            for need in self.needs(session.rights):
                session.rights.require(*need)

    def interrupt(self) -> None:
        """Ends the push, and the reads that wait; what they had taken goes back to the next read (§13 no. 18)."""
        self._interrupted = True
        for reading in list(self._reads):
            reading.cancel()
        if self.push is not None:
            self.push.end()

    def go_on(self) -> None:
        """Nobody else had it while it was suspended: it may be used again."""
        self.is_suspended = self._interrupted = False
        self.used_at = time.monotonic()

    async def reads_done(self) -> None:
        """Returns when the reads that are at work now have ended, well or not."""
        if self._reads:
            await asyncio.wait(self._reads)


def put_back(reading: asyncio.Future[TakenBatch]) -> None:
    """If the records came in the very moment in which the reader was cancelled (reliability.md F8)."""
    if reading.done() and not reading.cancelled() and reading.exception() is None:
        reading.result().put_back()


def _nothing() -> TakenBatch:
    return TakenBatch(RecordBatch((), 0))
