"""A consumer group's member for work that takes its time: the `GroupReader` port, and the thread behind it.

The thread alone calls librdkafka. One round is: do what was asked for, then take what has been fetched and hand it to
the event loop, and wait until it is accepted there. A listener that has enough pauses partitions in that moment; the
thread goes on polling, so the membership never depends on how long the work takes (``max.poll.interval.ms``).

Nothing is committed but what is asked for, and where a new group begins at the end of the log. A partition is given up
only when its owner has said up to where.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from kafka_gateway.config import Config
from kafka_gateway.errors import InstanceNotFound, ServiceError
from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.clients.properties import client_properties
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import LAST_COMMIT_S, GroupClient
from kafka_gateway.kafka.consuming.commits import next_offsets
from kafka_gateway.kafka.consuming.questions import Questions
from kafka_gateway.kafka.errors import to_consumer_error
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.members import GroupWork
from kafka_gateway.kafka.ports.topics import PartitionOffset, TopicPartition
from kafka_gateway.kafka_errors import NotAMember

_log = logging.getLogger("gateway.kafka.consumer")

SLICE_S = 0.1
"""How long a question may wait while there are no records."""
BATCH = 100
"""Records that are handed over at once. After each batch its receiver may pause."""
CLOSE_S = 4.0
"""How long `KafkaGroupReader.close` waits for Kafka, if its caller does not say more."""

_STRATEGY = "partition.assignment.strategy"

T = TypeVar("T")


class KafkaGroupReader:
    """The `GroupReader` port. Made by `open`; all methods belong to the event loop and raise ServiceErrors."""

    def __init__(
        self, clients: ClientFactory, config: Config, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork
    ) -> None:
        more: dict[str, Any] = {}
        if _STRATEGY not in client_properties(config, "consumer"):
            # A partition that stays with its member is not interrupted when another one comes or goes.
            more[_STRATEGY] = "cooperative-sticky"
        properties = clients.consumer_config(settings) | more
        self._client = GroupClient(
            partial(clients.consumer, settings, **more),
            self,
            cooperative=properties[_STRATEGY] == "cooperative-sticky",
            reset=properties["auto.offset.reset"],
        )
        self._topics = frozenset(topics)
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._questions = Questions(self._loop)
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._last: dict[TopicPartition, PartitionOffset] = {}
        """What is to be committed at the end."""
        self._starts: dict[Partition, int] = {}
        """What is to be committed because nothing was until now."""
        self._silent: Mapping[Partition, str] = {}
        """Replaced as a whole by the thread."""
        self._told_stopped: set[Partition] = set()
        # Daemon: a thread that hangs in close() on a frozen broker must not keep the process (reliability.md F4).
        self._thread = threading.Thread(target=self._run, name=f"kafka-group-{settings.group}", daemon=True)

    @classmethod
    async def open(
        cls, clients: ClientFactory, config: Config, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork
    ) -> KafkaGroupReader:
        """A reader that has begun. InvalidConsumerConfig if librdkafka does not take the settings."""
        reader = cls(clients, config, settings, topics, work)
        ready = reader._questions.ask(partial(reader._open, list(topics)))
        reader._thread.start()
        await ready
        return reader

    # --- on the event loop --------------------------------------------------------------------------------------------

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._questions.post(partial(self._pause, list(partitions)))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._questions.post(partial(self._client.flow, list(partitions)))

    def topics(self) -> Collection[str]:
        """What it reads."""
        return self._topics

    async def topic_changed(self, topic: str, anew: bool) -> None:
        """See `gateway.kafka.consuming.topic_watch`."""
        await self._ask(partial(self._topic_changed, topic, anew))

    async def topic_gone(self, topic: str) -> None:
        """Does nothing: what is done with its records is counted by their offsets, and begins again when
        the topic does."""

    def silent(self) -> Mapping[TopicPartition, str]:
        return {TopicPartition(*place): why for place, why in self._silent.items()}

    async def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        await self._ask(partial(self._commit, list(offsets), done))
        await done

    async def ends(self) -> Sequence[PartitionOffset]:
        found: dict[Partition, int] = await self._ask(self._client.known_ends)
        return [PartitionOffset(*place, end) for place, end in found.items()]

    async def close(self, offsets: Sequence[PartitionOffset] = (), within_s: float = CLOSE_S) -> None:
        """A second call waits for the first."""
        if not self._closing:
            self._last = {TopicPartition(*each[:2]): each for each in offsets}
            self._closing = True
        done, _ = await asyncio.wait([self._ended], timeout=max(CLOSE_S, within_s))
        if not done:
            _log.warning("Kafka did not let a consumer go within %g s; its thread goes on alone", within_s)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        if self._closing:
            raise InstanceNotFound
        return await self._questions.ask(question)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                self._questions.answer_all()
                if not self._closing:
                    self._round()
            except _LoopEndedError:
                break
            except Exception as error:
                if isinstance(error, KafkaException):
                    self._call(self._work.failed, to_consumer_error(error))
                _log.exception("a round of a group's member failed")
                time.sleep(SLICE_S)
        try:
            self._end()
        except Exception:
            _log.exception("a group's member did not leave properly")
        self._questions.answer(self._ended, None, None)

    def _open(self, topics: list[str]) -> None:
        self._client.open()
        self._client.subscribe(topics)

    def _round(self) -> None:
        client = self._client
        if not client.is_open:  # it could not be built, which is told already
            self._closing = True
            return
        now = time.monotonic()
        client.tend(now)
        client.look_for_missing(now)
        if self._starts and not client.commits.on_their_way:
            self._store_starts()
        records = client.poll(BATCH, SLICE_S if not self._questions else 0)
        if records and not self._closing:
            self._call(self._work.records, records)
        if client.failure is not None:
            failure, client.failure = client.failure, None
            self._call(self._work.failed, failure)
        for place in client.stopped.keys() - self._told_stopped:
            self._call(self._work.failed, client.stopped[place])
        self._told_stopped = set(client.stopped)
        self._silent = client.silent()

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        """Calls it on the event loop and waits for its answer."""

        async def call() -> T:
            return function(*arguments)

        return self._wait_for(call())

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise _LoopEndedError from None
        while True:
            try:
                return future.result(1.0)
            except concurrent.futures.CancelledError:
                raise _LoopEndedError from None
            except TimeoutError:
                if future.done():
                    raise  # its own
                if self._loop.is_closed():
                    raise _LoopEndedError from None

    # --- what is asked for --------------------------------------------------------------------------------------------

    def _pause(self, partitions: list[TopicPartition]) -> None:
        self._client.hold(each for each in partitions if each in self._client.assigned)

    def _topic_changed(self, topic: str, anew: bool) -> None:
        self._client.learn(topic)
        if not anew:
            return
        # What is known of the old life is dropped as if the group had taken it away.
        gone = [place for place in self._client.assigned if place[0] == topic]
        if gone:
            _log.warning("Topic %s was deleted and made again; its group goes on at its beginning", topic)
            self.lost(gone)
        self._client.begin_again(topic)
        if gone:
            self.assigned(gone)

    def _commit(self, offsets: list[PartitionOffset], done: asyncio.Future[None]) -> None:
        # A partition that was given up meanwhile has an owner who may have committed more.
        mine = self._client.assigned
        if offsets := [one for one in offsets if (one.topic, one.partition) in mine]:
            self._committed((one.topic, one.partition) for one in offsets)
            self._client.commit(offsets, partial(self._questions.answer, done, None))
        else:
            self._questions.answer(done, None, None)

    def _committed(self, partitions: Iterable[Partition]) -> None:
        """More than their starts: those are not to be stored any more."""
        for place in partitions:
            self._starts.pop(place, None)
            self._client.uncommitted_starts.pop(place, None)

    def _store_starts(self) -> None:
        starts, self._starts = self._starts, {}

        def done(error: ServiceError | None) -> None:
            if error is not None:
                _log.warning("Where a new group begins could not be stored: %s", error.message)
                if error.retriable:
                    self._starts |= self._client.starts_to_store(starts)

        self._client.commit(next_offsets(starts), done)

    # --- the group (the RebalanceListener of the client) --------------------------------------------------------------

    def assigned(self, partitions: Collection[Partition]) -> None:
        if not self._closing:
            self._tell(self._work.assigned, partitions)
        self.placed(partitions)

    def placed(self, partitions: Collection[Partition]) -> None:
        self._starts |= self._client.starts_to_store(partitions)

    def revoked(self, partitions: Collection[Partition]) -> None:
        if self._starts:
            self._store_starts()
        if self._closing:
            names = _names(partitions)
            offsets: Sequence[PartitionOffset] = [each for name in names if (each := self._last.pop(name, None))]
        else:
            offsets = self._give_up(partitions)
        if offsets:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._client.commit(offsets, _log_failure)

    def _give_up(self, partitions: Collection[Partition]) -> Sequence[PartitionOffset]:
        try:
            return self._wait_for(_awaited(self._work.revoked, _names(partitions)))
        except _LoopEndedError:
            self._closing = True
            return ()
        finally:
            # Whoever gets them again begins anew, and holds what it wants to.
            self._client.release(partitions)

    def lost(self, partitions: Collection[Partition]) -> None:
        for name in _names(partitions):
            self._last.pop(name, None)
        self._committed(partitions)
        self._client.release(partitions)
        if not self._closing:
            self._tell(self._work.lost, partitions)

    def _tell(self, function: Callable[[Sequence[TopicPartition]], None], partitions: Collection[Partition]) -> None:
        try:
            self._call(function, _names(partitions))
        except _LoopEndedError:
            self._closing = True

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._questions.refuse_all(InstanceNotFound())
        client = self._client
        if not client.is_open:
            return
        client.hold_all(True)
        self._commit_last(time.monotonic() + LAST_COMMIT_S)
        self._last = {}
        client.close()

    def _commit_last(self, until: float) -> None:
        """Commits what is to be committed at the end, and again if that came in the middle of a rebalance.

        A request to join waits in the broker for all members, and holds up what comes behind it on its connection: a
        commit is answered when the rebalance is over, and refused then (ILLEGAL_GENERATION). It can be stored when this
        member has learned of the new generation. How long that takes is up to the slowest member, so nobody need wait
        for this thread (see `close`).

        Only of partitions that are still ours. Those that go meanwhile are committed by `revoked`; behind that a commit
        could take their next owner back.
        """
        client = self._client
        while offsets := [each for name, each in self._last.items() if name in client.assigned]:
            answer: list[ServiceError | None] = []
            client.commit(offsets, answer.append)
            while not answer and time.monotonic() < until:
                client.poll(1, 0.01)
            error = answer[0] if answer else None
            if answer and error is None:
                return
            if time.monotonic() >= until or not (error and (error.retriable or isinstance(error, NotAMember))):
                _log.warning("the last commit failed, its records will come again: %s", error or "no answer")
                return
            client.poll(1, SLICE_S)


class _LoopEndedError(Exception):
    """The event loop is gone, and with it everybody who could want something."""


async def _awaited(function: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
    return await function(*arguments)


def _names(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*one) for one in partitions]


def _log_failure(error: object) -> None:
    if error is not None:
        _log.warning("a commit failed; its records may come again: %s", error)
