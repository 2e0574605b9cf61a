"""A consumer group's member for work that takes its time: the `GroupReader` port, and the thread behind it.

The thread alone calls librdkafka. One round is: do what was asked for, then take what has been fetched and hand it to
the event loop, and wait until it is accepted there. Whoever has enough pauses partitions in that moment; the thread
goes on polling, so the membership never depends on how long the work takes (``max.poll.interval.ms``).

Nothing is committed but what is asked for, and a partition is given up only when its owner has said up to where.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from gateway.config import Config
from gateway.errors import InstanceNotFound, ServiceError
from gateway.kafka.clients.factory import Clients
from gateway.kafka.clients.header_repair import without_unreadable_headers
from gateway.kafka.clients.properties import client_properties
from gateway.kafka.consuming.commits import Commits
from gateway.kafka.consuming.worker import LAST_COMMIT_S
from gateway.kafka.errors import to_service_error
from gateway.kafka.ports import ConsumerSettings, GroupWork, PartitionOffset, TopicPartition

_log = logging.getLogger(__name__)

SLICE_S = 0.1
"""How long a question may wait while there are no records."""
BATCH = 100
"""Records that are handed over at once. After each batch its receiver may pause."""
CLOSE_S = 4.0
"""`KafkaGroupReader.close` answers within this time; the rest is left to the thread."""

_PASSING = frozenset(
    {
        KafkaError._PARTITION_EOF,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""The brokers are away for the moment, or the topic is not there yet; librdkafka goes on trying."""

_STRATEGY = "partition.assignment.strategy"

T = TypeVar("T")


class KafkaGroupReader:
    """The `GroupReader` port. Made by `open`; all methods belong to the event loop and raise ServiceErrors."""

    def __init__(self, clients: Clients, config: Config, settings: ConsumerSettings, work: GroupWork) -> None:
        more: dict[str, Any] = {}
        if _STRATEGY not in client_properties(config, "consumer"):
            # A partition that stays with its member is not interrupted when another one comes or goes.
            more[_STRATEGY] = "cooperative-sticky"
        self._commits = Commits()
        self._build = partial(clients.consumer, settings, on_commit=self._commits.reported, **more)
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._questions: collections.deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = collections.deque()
        self._closing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._last: dict[TopicPartition, PartitionOffset] = {}
        """What is to be committed at the end."""
        # Daemon: a thread that hangs in close() on a frozen broker must not keep the process (reliability.md F4).
        self._thread = threading.Thread(target=self._run, name=f"kafka-group-{settings.group}", daemon=True)

    @classmethod
    async def open(
        cls, clients: Clients, config: Config, settings: ConsumerSettings, topics: Sequence[str], work: GroupWork
    ) -> KafkaGroupReader:
        """A reader that has begun. InvalidConsumerConfig if librdkafka does not take the settings."""
        reader = cls(clients, config, settings, work)
        ready: asyncio.Future[None] = reader._loop.create_future()
        reader._questions.append((partial(reader._open, list(topics)), ready))
        reader._thread.start()
        await ready
        return reader

    # --- on the event loop --------------------------------------------------------------------------------------------

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._questions.append((partial(self._pause, list(partitions)), None))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._questions.append((partial(self._resume, list(partitions)), None))

    async def commit(self, offsets: Sequence[PartitionOffset]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        await self._ask(partial(self._commit, list(offsets), done))
        await done

    async def ends(self) -> Sequence[PartitionOffset]:
        found: list[PartitionOffset] = await self._ask(self._ends)
        return found

    async def close(self, offsets: Sequence[PartitionOffset] = ()) -> None:
        """A second call waits for the first."""
        if not self._closing:
            self._last = {TopicPartition(*each[:2]): each for each in offsets}
            self._closing = True
        done, _ = await asyncio.wait([self._ended], timeout=CLOSE_S)
        if not done:
            _log.warning("Kafka did not let a consumer go within %g s; its thread goes on alone", CLOSE_S)

    async def _ask(self, question: Callable[[], Any]) -> Any:
        if self._closing:
            raise InstanceNotFound
        future: asyncio.Future[Any] = self._loop.create_future()
        self._questions.append((question, future))
        return await future

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                self._answer_questions()
                if not self._closing:
                    self._round()
            except _LoopEndedError:
                break
            except Exception as error:
                if isinstance(error, KafkaException):
                    self._call(self._work.failed, to_service_error(error))
                _log.exception("a round of a group's member failed")
                time.sleep(SLICE_S)
        try:
            self._end()
        except Exception:
            _log.exception("a group's member did not leave properly")
        self._answer(self._ended, None, None)

    def _open(self, topics: list[str]) -> None:
        self._client: confluent_kafka.Consumer = self._build()
        self._client.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _answer_questions(self) -> None:
        while self._questions:
            question, future = self._questions.popleft()
            try:
                result = question()
            except Exception as error:
                if future is None:
                    raise
                self._answer(future, None, error)
            else:
                if future is not None:
                    self._answer(future, result, None)

    def _answer(self, future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(to_service_error(error) if isinstance(error, KafkaException) else error)

        try:
            self._loop.call_soon_threadsafe(settle)
        except RuntimeError:
            _log.debug("the event loop has ended before a consumer answered")

    def _round(self) -> None:
        if not hasattr(self, "_client"):  # it could not be built, which is told already
            self._closing = True
            return
        self._commits.expire(time.monotonic())
        # consume(n, t) would wait for all n.
        messages = self._client.consume(1, SLICE_S if not self._questions else 0)
        failure: Exception | None = None
        if messages:
            try:
                messages += self._client.consume(BATCH - 1, 0)
            except Exception as error:
                failure = error  # what has been consumed must be handed over: librdkafka's position is behind it
        records = without_unreadable_headers([message for message in messages if message.error() is None])
        if records and not self._closing:
            self._call(self._work.records, records)
        if len(records) < len(messages):
            self._tell_errors(messages)
        if failure is not None:
            raise failure

    def _tell_errors(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None and error.code() not in _PASSING:
                self._call(self._work.failed, to_service_error(error))

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
        self._client.pause([confluent_kafka.TopicPartition(*one) for one in partitions])

    def _resume(self, partitions: list[TopicPartition]) -> None:
        mine = {(one.topic, one.partition) for one in self._client.assignment()}
        ours = [confluent_kafka.TopicPartition(*one) for one in partitions if one in mine]
        self._client.resume(ours)
        # librdkafka looks at a resumed partition after 950 ms, and at one that is sought at once (measured: 5 ms).
        for one in self._client.position(ours) if ours else ():
            if one.offset >= 0:
                self._client.seek(one)

    def _commit(self, offsets: list[PartitionOffset], done: asyncio.Future[None]) -> None:
        # A partition that was given up meanwhile has an owner who may have committed more.
        mine = {(one.topic, one.partition) for one in self._client.assignment()}
        if offsets := [one for one in offsets if (one.topic, one.partition) in mine]:
            self._commits.send(self._client, offsets, partial(self._answer, done, None))
        else:
            self._answer(done, None, None)

    def _ends(self) -> list[PartitionOffset]:
        found = []
        for one in self._client.assignment():
            watermarks = self._client.get_watermark_offsets(one, cached=True)
            if watermarks[1] >= 0:
                found.append(PartitionOffset(one.topic, one.partition, watermarks[1]))
        return found

    # --- the group ----------------------------------------------------------------------------------------------------
    # librdkafka calls these within consume(), and makes the assignment itself when they have returned.

    def _on_assign(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        if not self._closing:
            self._call(self._work.assigned, _names(partitions))

    def _on_revoke(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        names = _names(partitions)
        if self._closing:
            offsets: Sequence[PartitionOffset] = [each for name in names if (each := self._last.pop(name, None))]
        else:
            offsets = self._wait_for(_awaited(self._work.revoked, names))
        if offsets:
            # It goes out before the request to join again, on the same connection: whoever gets the partition finds it.
            self._commits.send(self._client, offsets, _log_failure)

    def _on_lost(self, _: confluent_kafka.Consumer, partitions: list[confluent_kafka.TopicPartition]) -> None:
        if not self._closing:
            self._call(self._work.lost, _names(partitions))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        while self._questions:
            _, future = self._questions.popleft()
            if future is not None:
                self._answer(future, None, InstanceNotFound())
        if not hasattr(self, "_client"):
            return
        until = time.monotonic() + CLOSE_S * 0.75
        mine = self._client.assignment()
        if mine:
            self._client.pause(mine)
        self._commit_last(until)
        while self._commits.on_their_way and time.monotonic() < until:
            self._client.consume(1, 0.01)
        if self._commits.on_their_way:
            # Never close() a client with commits on their way: see gateway.kafka.worker.
            self._answer(self._ended, None, None)
            until = time.monotonic() + LAST_COMMIT_S
            while self._commits.on_their_way and time.monotonic() < until:
                self._client.consume(1, SLICE_S * 5)
        self._last = {}
        self._client.close()

    def _commit_last(self, until: float) -> None:
        """Commits what is to be committed at the end, and again if that came in the middle of a rebalance: the member's
        generation is over then (ILLEGAL_GENERATION), until it has learned of the next one.

        Only of partitions that are still ours. Those that go meanwhile are committed by `_on_revoke`; behind that a
        commit could take their next owner back.
        """
        while self._last:
            mine = {(one.topic, one.partition) for one in self._client.assignment()}
            self._last = {name: each for name, each in self._last.items() if name in mine}
            if not self._last:
                return
            answer: list[ServiceError | None] = []
            self._commits.send(self._client, list(self._last.values()), answer.append)
            while not answer and time.monotonic() < until:
                self._client.consume(1, 0.01)
            if answer and answer[0] is None:
                self._last = {}
                return
            if time.monotonic() >= until:
                _log.warning("the last commit failed, its records will come again: %s", answer[0] if answer else "")
                return
            self._client.consume(1, SLICE_S)


class _LoopEndedError(Exception):
    """The event loop is gone, and with it everybody who could want something."""


async def _awaited(function: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
    return await function(*arguments)


def _names(partitions: Iterable[confluent_kafka.TopicPartition]) -> list[TopicPartition]:
    return [TopicPartition(one.topic, one.partition) for one in partitions]


def _log_failure(error: object) -> None:
    if error is not None:
        _log.warning("a commit failed; its records may come again: %s", error)
