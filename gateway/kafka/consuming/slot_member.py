"""A static member of the group that shares out slots, on a thread of its own (cluster.md §5).

It subscribes to the topic of which each partition is a slot, by the classic protocol and ``cooperative-sticky``, reads
what it is assigned from the beginning, and follows it for ever. It commits nothing.

While slots are handed over the thread waits, within librdkafka's callback, for the event loop; heartbeats go on
meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import Message

from kafka_gateway.kafka.clients.factory import ClientFactory, answers_within
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.kafka.ports.slots import SlotGroup, SlotListener, SlotRecord

log = logging.getLogger("gateway.cluster")

_POLL_S: Final = 0.1
_POLL_MS: Final = 300_000
"""librdkafka's default."""
_BATCH: Final = 1000
_EACH_S, _EACH_MOST_S = 0.01, 30.0
"""How much longer a hand-over may take for each instance: Kafka is asked about each, and heartbeats go on meanwhile."""
_SPARE_S: Final = 1.0
"""Beyond its time, for the event loop to end a hand-over that took too long."""
_CLOSE_S: Final = 5.0


class KafkaSlotMember:
    """The `SlotMember` port. Its thread begins at once, and goes on trying while Kafka is away."""

    def __init__(self, clients: ClientFactory, group: SlotGroup, listener: SlotListener) -> None:
        self._clients = clients
        self._group = group
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._anew = threading.Event()
        self._for_good = True
        self._held: set[int] = set()
        self._failure = ""
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="cluster-slots", daemon=True)
        self._thread.start()

    def begin_again(self) -> None:
        self._anew.set()

    async def leave(self, for_good: bool) -> None:
        self._for_good = for_good
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._group.handover_s + _EACH_MOST_S + _SPARE_S + _CLOSE_S):
                await asyncio.shield(self._ended)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _tell(self, what: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(what, *arguments)

    def _run(self) -> None:
        group = self._group
        settings = ConsumerSettings(
            group.group, group.member, auto_offset_reset="earliest", auto_commit=False, finds_ends=True
        )
        own = {
            "group.protocol": "classic",
            "group.instance.id": group.member,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": group.session_timeout_ms,
            # librdkafka makes no client whose session is longer, whatever somebody has chosen for other consumers. The
            # thread polls all the time.
            "max.poll.interval.ms": max(_POLL_MS, group.session_timeout_ms),
            "heartbeat.interval.ms": group.heartbeat_ms,
            # With the 500 ms of the default a replay of some slots took 1.5 s.
            "fetch.wait.max.ms": 100,
            # A coordinator that is not found within the session could as well be away.
            **answers_within(group.session_timeout_ms),
        }
        build = partial(self._clients.consumer, settings, **own)
        client = GroupClient(build, self, cooperative=True, reset="earliest", blocking=False, from_beginning=True)
        try:
            client.open()
            client.subscribe([self._group.topic])
            while not (self._stopping.is_set() or client.fatal):
                self._round(client)
            if client.fatal:
                self._held.clear()
                self._tell(self._listener.fenced, client.fatal)
            else:
                self._give_up(self._held)
                if self._for_good:
                    client.leave()
        except Exception as error:
            log.exception("the member that holds slots has failed")
            self._tell(self._listener.fenced, str(error))
        finally:
            with contextlib.suppress(Exception):
                client.close()
            self._tell(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _round(self, client: GroupClient) -> None:
        client.tend(time.monotonic())
        if self._anew.is_set():
            self._anew.clear()
            client.learn(self._group.topic)
            client.begin_again(self._group.topic)
        messages = client.poll(_BATCH, _POLL_S)
        if messages:
            self._tell(
                self._listener.records,
                [
                    SlotRecord(each.partition() or 0, _bytes(each.key()) or b"", _bytes(each.value()), _headers(each))
                    for each in messages
                ],
            )
        if client.ends:
            ends = [slot for _, slot in client.ends]
            client.ends.clear()
            self._report("")
            self._tell(self._listener.caught_up, ends)
        failure, client.failure = client.failure, None
        if failure is not None and not client.fatal:
            self._report(failure.message)
        elif client.missing:
            client.missing.clear()
            self._report(f"There is no topic {self._group.topic}.")

    def _report(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            self._tell(self._listener.failed, failure)

    # --- the RebalanceListener of the client, called within its polls -------------------------------------------------

    def assigned(self, partitions: Collection[Partition]) -> None:
        slots = [slot for _, slot in partitions]
        self._held.update(slots)
        self._tell(self._listener.assigned, slots)  # their records come with a later poll

    def placed(self, partitions: Collection[Partition]) -> None:
        pass

    def revoked(self, partitions: Collection[Partition]) -> None:
        self._give_up([slot for _, slot in partitions])

    def lost(self, partitions: Collection[Partition]) -> None:
        slots = [slot for _, slot in partitions]
        self._held.difference_update(slots)
        if slots:  # at once, within the poll: others may serve them already
            self._tell(self._listener.lost, slots)

    def _give_up(self, slots: Collection[int]) -> None:
        slots = [slot for slot in slots if slot in self._held]
        self._held.difference_update(slots)
        if not slots:
            return
        giving = give_up_in_time(self._listener, slots, self._group.handover_s)
        try:
            done = asyncio.run_coroutine_threadsafe(giving, self._loop)
        except RuntimeError:  # the loop is closed
            giving.close()
            return
        try:
            done.result(self._group.handover_s + _EACH_MOST_S + _SPARE_S)
        except Exception as error:
            log.warning("slots %s were not handed over in order: %s", slots, str(error) or type(error).__name__)


async def give_up_in_time(listener: SlotListener, slots: Sequence[int], within_s: float) -> None:
    """Has the listener give these up, within that time and 10 ms more for each instance in them. TimeoutError."""
    async with asyncio.timeout(within_s + min(_EACH_MOST_S, _EACH_S * listener.size(slots))):
        await listener.give_up(slots)


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content


def _headers(message: Message) -> Mapping[str, str]:
    headers: Any = message.headers()
    found: dict[str, str] = {}
    for name, value in headers or ():
        if value is not None:
            found.setdefault(name, value.decode(errors="replace") if isinstance(value, bytes) else str(value))
    return found
