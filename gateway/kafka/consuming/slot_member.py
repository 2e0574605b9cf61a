"""A static member of the group that shares out slots, on a thread of its own (cluster.md §5).

It subscribes to the topic of which each partition is a slot, by the classic protocol and ``cooperative-sticky``, reads
what it is assigned from the beginning, and follows it for ever. It commits nothing.

librdkafka calls back within ``consume()``. Whatever a callback raises would surface as an unrelated SystemError from
there, so none does. While slots are handed over the callback waits for the event loop; heartbeats go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, TopicPartition

from kafka_gateway.kafka.clients.factory import ClientFactory
from kafka_gateway.kafka.errors import describe
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.slots import SlotGroup, SlotListener, SlotRecord

log = logging.getLogger("gateway.cluster")

_POLL_S: Final = 0.1
_BATCH: Final = 1000
_LEAVE_S: Final = 0.2
"""How long is polled after ``unsubscribe()``: only then a static member leaves (cluster.md §6.4)."""
_SPARE_S: Final = 1.0
"""Beyond its time, for the event loop to end a hand-over that took too long."""
_CLOSE_S: Final = 5.0
_UID: Final = "uid"


class KafkaSlotMember:
    """The `SlotMember` port. Its thread begins at once, and goes on trying while Kafka is away."""

    def __init__(self, clients: ClientFactory, group: SlotGroup, listener: SlotListener) -> None:
        self._clients = clients
        self._group = group
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._for_good = True
        self._held: set[int] = set()
        self._fenced = False
        self._failure = ""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="cluster-slots", daemon=True)
        self._thread.start()

    async def leave(self, for_good: bool) -> None:
        self._for_good = for_good
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._group.handover_s + _SPARE_S + _CLOSE_S):
                await asyncio.shield(self._ended)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _tell(self, what: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(what, *arguments)

    def _build(self) -> confluent_kafka.Consumer:
        group = self._group
        settings = ConsumerSettings(
            group.group, group.member, auto_offset_reset="earliest", auto_commit=False, finds_ends=True
        )
        own = {
            "group.protocol": "classic",
            "group.instance.id": group.member,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": group.session_timeout_ms,
            "heartbeat.interval.ms": group.heartbeat_ms,
            # With the 500 ms of the default a replay of some slots took 1.5 s.
            "fetch.wait.max.ms": 100,
        }
        return self._clients.consumer(settings, **own)

    def _run(self) -> None:
        consumer: confluent_kafka.Consumer | None = None
        try:
            consumer = self._build()
            consumer.subscribe(
                [self._group.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not (self._stopping.is_set() or self._fenced):
                self._take(consumer.consume(1, _POLL_S) or [], consumer)
            if not self._fenced:
                self._give_up(self._held)
                if self._for_good:
                    self._leave(consumer)
        except Exception as error:
            log.exception("the member that holds slots has failed")
            self._tell(self._listener.fenced, str(error))
        finally:
            if consumer is not None:
                with contextlib.suppress(Exception):
                    consumer.close()
            self._tell(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _leave(self, consumer: confluent_kafka.Consumer) -> None:
        consumer.unsubscribe()
        until = time.monotonic() + _LEAVE_S
        while (left_s := until - time.monotonic()) > 0:
            consumer.consume(1, left_s)

    def _take(self, messages: list[Message], consumer: confluent_kafka.Consumer) -> None:
        if not messages:
            return
        messages += consumer.consume(_BATCH, 0)
        records: list[SlotRecord] = []
        ends: list[int] = []
        for message in messages:
            error = message.error()
            slot = message.partition() or 0
            if error is None:
                records.append(SlotRecord(slot, _bytes(message.key()) or b"", _bytes(message.value()), _uid(message)))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.append(slot)
            else:
                self._note(error)
        if records:
            self._tell(self._listener.records, records)
        if ends:
            self._report("")
            self._tell(self._listener.caught_up, ends)

    def _note(self, error: KafkaError) -> None:
        text = describe(error)
        if error.code() == KafkaError._FATAL or error.fatal():  # the former says nothing of itself
            self._fenced = True
            self._held.clear()
            self._tell(self._listener.fenced, text)
        elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._report(text)

    def _report(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            self._tell(self._listener.failed, failure)

    # --- librdkafka's callbacks, on the thread: none may raise --------------------------------------------------------

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        try:
            slots = [each.partition for each in partitions]
            self._held.update(slots)
            # Before the assignment, so that no record comes first.
            self._tell(self._listener.assigned, slots)
            consumer.incremental_assign(
                [TopicPartition(each.topic, each.partition, OFFSET_BEGINNING) for each in partitions]
            )
        except Exception:
            log.exception("slots could not be taken")

    def _on_revoke(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._give_up([each.partition for each in partitions])
            consumer.incremental_unassign(partitions)
        except Exception:
            log.exception("slots could not be given up")

    def _on_lost(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        try:
            slots = [each.partition for each in partitions]
            self._held.difference_update(slots)
            self._tell(self._listener.lost, slots)
            consumer.incremental_unassign(partitions)
        except Exception:
            log.exception("slots that were lost could not be let go")

    def _give_up(self, slots: Collection[int]) -> None:
        slots = [slot for slot in slots if slot in self._held]
        self._held.difference_update(slots)
        if not slots:
            return
        giving = _give_up_in_time(self._listener, slots, self._group.handover_s)
        try:
            done = asyncio.run_coroutine_threadsafe(giving, self._loop)
        except RuntimeError:  # the loop is closed
            giving.close()
            return
        try:
            done.result(self._group.handover_s + _SPARE_S)
        except Exception as error:
            log.warning("slots %s were not handed over in order: %s", slots, str(error) or type(error).__name__)


async def _give_up_in_time(listener: SlotListener, slots: Sequence[int], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        await listener.give_up(slots)


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


def _uid(message: Message) -> str:
    headers: Any = message.headers()
    for name, value in headers or ():
        if name == _UID and value is not None:
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return ""
