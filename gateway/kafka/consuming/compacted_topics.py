"""Compacted topics of one partition that gateways share: read from the start, then followed; written one by one.

A task keeps the topic in being: it makes it where it is missing and reads it again from its start when it was lost. The
reading runs on a thread of its own. The same thread serves a second consumer that is only a member of the reader's
group: it shows others whether this process lives. It cannot be the one that reads, since members share a partition,
and two readers of one name must both see everything (websocket-proxy.md §4.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING

from kafka_gateway.errors import NotSupported, ServiceError, UnknownTopicOrPartition
from kafka_gateway.kafka.clients.factory import ClientFactory, answers_within
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.errors import to_service_error
from kafka_gateway.kafka.ports.admin import Admin
from kafka_gateway.kafka.ports.compacted_logs import CompactedTopic, LogListener
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.producing import Producer
from kafka_gateway.kafka_errors import KafkaRefused
from kafka_gateway.records import OutgoingRecord

log = logging.getLogger("gateway.kafka.compacted")

_POLL_S = 0.1
_RETRY_S = 1.0
_LOOK_S = 3.0
"""How often it is looked whether the topic is still there; librdkafka asks every five minutes only."""
_BATCH = 1000
_FETCH_WAIT_MS = 100
_ANSWER_MS = 6000
_REPLICAS_MAX = 3
_CLOSE_S = 3.0

_Given = tuple[bytes, bytes | None, int]


class KafkaCompactedLog:
    """The `CompactedLog` port. Belongs to the event loop."""

    def __init__(
        self,
        clients: ClientFactory,
        admin: Admin,
        producer: Producer,
        topic: CompactedTopic,
        reader: str,
        listener: LogListener,
    ) -> None:
        self._clients = clients
        self._admin = admin
        self._producer = producer
        self._topic = topic
        self._reader = reader
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._last = -1
        self._begun = False
        self.trouble = f"Topic {topic.name} has not been read yet."
        self._task = self._loop.create_task(self._keep(), name=f"follow-{topic.name}")

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        outgoing = [OutgoingRecord(key, value, partition=0) for key, value in records]
        stored = await self._producer.send(self._topic.name, outgoing)
        for each in stored:
            if isinstance(each, ServiceError):
                raise each
        last = stored[-1]
        offset = None if isinstance(last, ServiceError) else last.offset()
        return -1 if offset is None else offset

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._task

    # --- the topic ----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            try:
                await self._find_or_make()
                if self._begun:
                    self._listener.restarted()
                self._begun, self._last = True, -1
                await self._follow()
            except ServiceError as error:
                if error.message != self.trouble:
                    log.warning("topic %s: %s; trying again every second", self._topic.name, error.message)
                self.trouble = error.message
            except Exception as error:
                log.exception("following topic %s failed; trying again every second", self._topic.name)
                self.trouble = str(error)
            await asyncio.sleep(_RETRY_S)

    async def _find_or_make(self) -> None:
        name = self._topic.name
        try:
            found = await self._admin.topic(name)
        except UnknownTopicOrPartition:
            brokers = len(await self._admin.brokers())
            replicas = max(1, min(self._topic.replicas, _REPLICAS_MAX, brokers))
            settings = {
                "cleanup.policy": "compact",
                "retention.ms": str(self._topic.retention_ms),
                # A segment that is written to is not compacted, and every reader begins with all of it: with Kafka's
                # seven days or 1 GiB that were 400,000 records, and the first socket waited 10 s for them.
                "segment.ms": "3600000",
            }
            await self._admin.create_topic(name, 1, replicas, settings)
            log.info("made topic %s with %d replicas", name, replicas)
            return
        if len(found.partitions) != 1:
            raise KafkaRefused(f"Topic {name} has {len(found.partitions)} partitions; it must have exactly 1.")
        with contextlib.suppress(ServiceError, NotSupported):  # reading it does not imply seeing its settings
            settings = {entry.name: entry.value or "" for entry in await self._admin.topic_configs(name)}
            if "compact" not in settings.get("cleanup.policy", "compact"):
                log.warning("topic %s is not compacted: what it holds will be forgotten", name)

    async def _follow(self) -> None:
        """Reads until the topic is gone or the reading fails, which is raised."""
        stop = threading.Event()
        ended: asyncio.Future[None] = self._loop.create_future()
        thread = threading.Thread(
            target=self._read, args=(stop, partial(_end, ended)), name=f"read-{self._topic.name}", daemon=True
        )
        thread.start()
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_LOOK_S)
                if not ended.done():
                    await self._look()
            ended.result()
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, _CLOSE_S)
            if ended.done() and not ended.cancelled():
                ended.exception()

    async def _look(self) -> None:
        try:
            await self._admin.topic(self._topic.name)
        except UnknownTopicOrPartition:
            raise
        except ServiceError as error:
            log.debug("topic %s: %s", self._topic.name, error.message)

    def _take(self, records: Sequence[_Given], at_end: bool) -> None:
        """On the loop: hands records on."""
        if self._task.done():
            return
        for key, value, offset in records:
            if offset <= self._last:  # it was deleted and made again while we read
                log.warning("topic %s begins anew", self._topic.name)
                self._listener.restarted()
            self._last = offset
            self._listener.record(key, value, offset)
        if at_end:
            self.trouble = ""
            self._listener.caught_up()

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _read(self, stop: threading.Event, end: Callable[[Exception | None], None]) -> None:
        place = (self._topic.name, 0)
        settings = ConsumerSettings(self._reader, self._reader, auto_offset_reset="earliest", auto_commit=False)
        # The end shows in a fetch that brings nothing, which takes half a second by default.
        own = {"enable.partition.eof": True, "fetch.wait.max.ms": _FETCH_WAIT_MS, **answers_within(_ANSWER_MS)}
        build = partial(self._clients.consumer, settings, **own)
        reader = GroupClient(build, joins=False)
        member: GroupClient | None = None
        failure: Exception | None = None
        try:
            member = self._join(settings)
            reader.open()
            reader.learn(
                self._topic.name
            )  # what is not known yet when it is assigned, librdkafka looks for a second later
            reader.assign([place], {place: OFFSET_BEGINNING})
            caught_up = False
            while not stop.is_set():
                records = [
                    (_bytes(message.key()) or b"", _bytes(message.value()), message.offset() or 0)
                    for message in reader.poll(_BATCH, _POLL_S)
                ]
                at_end = not caught_up and place in reader.ends
                if records or at_end:
                    caught_up = caught_up or at_end
                    self._loop.call_soon_threadsafe(self._take, records, at_end)
                _raise_failure(reader)
                if member is not None:
                    member.tend(time.monotonic())
                    member.poll(1, 0)
        except confluent_kafka.KafkaException as error:
            failure = to_service_error(error)
        except Exception as error:
            failure = error
        finally:
            for client in (member, reader):
                if client is not None:
                    client.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(end, failure)

    def _join(self, settings: ConsumerSettings) -> GroupClient | None:
        if not self._topic.presence_s:
            return None
        timeout_ms = int(self._topic.presence_s * 1000)
        session = {"session.timeout.ms": timeout_ms, "heartbeat.interval.ms": max(1, timeout_ms // 4)}
        member = GroupClient(partial(self._clients.consumer, settings, **session), blocking=False)
        member.open()
        member.hold_all(True)  # it is there, and reads nothing
        member.subscribe([self._topic.name])
        return member


def _raise_failure(reader: GroupClient) -> None:
    """Raises what ends the reading; brokers that are away do not."""
    failure = reader.failure or next(iter(reader.stopped.values()), None)
    if failure is not None:
        raise failure
    if reader.missing:
        raise UnknownTopicOrPartition


def _end(ended: asyncio.Future[None], failure: Exception | None) -> None:
    if ended.done():
        return
    if failure is None:
        ended.set_result(None)
    else:
        ended.set_exception(failure)


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


class MemoryLog:
    """The `CompactedLog` port without a topic, beside the embedded Kafka: what is written comes back, for as long as
    the process lives."""

    trouble = ""

    def __init__(self, listener: LogListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._loop.call_soon(listener.caught_up)

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        for key, value in records:
            self._loop.call_soon(self._listener.record, key, value, self._next)
            self._next += 1
        return self._next - 1

    async def close(self) -> None:
        return None
