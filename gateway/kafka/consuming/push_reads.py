"""Reads of a push subscription at the end of its topic: out of a fetcher that all such subscriptions share.

A hundred subscriptions of a hundred groups would fetch every record a hundred times, each with two hand-overs between
threads. Where at least three read the end of one topic, the event loop hands them the very same batches
(`shared_fetcher`), encoded once, and their threads only keep the membership and commit. Reads that are no push, seeks
and all else that has to do with positions end that first; so does a client that does not keep up, a record that its
format cannot express, and every change in its group. From then on its own client fetches, behind what it was given.

A batch is handed out when the one before is settled. A caller that takes it at once is not woken up for it: it gets it
in the very call that brings it from the fetcher, or that settles the one before.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.kafka.consuming.buffer import Partition, size_of
from kafka_gateway.kafka.consuming.fed_partitions import FedPartitions
from kafka_gateway.kafka.consuming.reads import HandedOut
from kafka_gateway.kafka.consuming.shared_reader import FetcherKey, FetcherPort, SharedReader
from kafka_gateway.kafka.ports.consuming import AtOnce, ReadLimits, TakenBatch
from kafka_gateway.records import RecordBatch, RecordsEncoder

_log = logging.getLogger("gateway.kafka.consumer")

_MOST_WAITING = 500
_MOST_WAITING_BYTES = 2**20
"""What may wait for a subscription, in records and bytes; all of a topic wait for the same ones. A subscription that
is further behind fetches by itself, which counts in the memory budget."""
_AGAIN_S = 0.2
"""How long after a vain attempt the next one may come."""


class SharedFetchers(Protocol):
    """The topics that are read once for all (`loop_polled_members`)."""

    def want_fetcher(self, key: FetcherKey, by: int = 1) -> None: ...
    def fetcher_for(self, key: FetcherKey) -> FetcherPort | None: ...
    def wake(self) -> None: ...


class FedWorker(Protocol):
    """The thread of the consumer, as it is seen here."""

    @property
    def fed(self) -> FedPartitions: ...
    def ask(self, question: Callable[[], Any]) -> asyncio.Future[Any]: ...
    def post(self, order: Callable[[], Any]) -> None: ...


class _Taker:
    """A call of `PushReads.take` that waits."""

    __slots__ = ("at_once", "encoder", "future", "hand_out", "limits", "room", "taken")

    def __init__(
        self,
        limits: ReadLimits,
        encoder: RecordsEncoder,
        hand_out: Callable[[HandedOut], TakenBatch],
        at_once: AtOnce | None,
    ) -> None:
        self.limits, self.encoder, self.hand_out, self.at_once = limits, encoder, hand_out, at_once
        self.room = limits.max_bytes + 1 if limits.inclusive else limits.max_bytes
        """Batches of fewer bytes than this fit."""
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken: TakenBatch | None = None
        """What it returns."""

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class PushReads:
    """Belongs to the event loop."""

    def __init__(self, worker: FedWorker, fetchers: SharedFetchers, isolation_level: str) -> None:
        self._worker = worker
        self._fetchers = fetchers
        self._isolation_level = isolation_level
        self._key: FetcherKey | None = None
        self._shared = SharedReader(self._take, lambda _: self.leave())
        self._joined_at: dict[int, int] = {}
        """The offset from which on the fetcher's records wait here, by partition."""
        self._waiting: collections.deque[RecordBatch] = collections.deque()
        self._waiting_records = self._waiting_bytes = 0
        self._nexts: dict[Partition, int] = {}
        """Where reading goes on behind what was handed out."""
        self.is_fed = False
        self._out: HandedOut | None = None
        """What was handed out last and is not settled."""
        self._taker: _Taker | None = None
        self._again_at = 0.0
        self._left = 0
        """How often it was left: what is under way then does not count."""

    # --- reads --------------------------------------------------------------------------------------------------------

    async def take(
        self,
        topics: Collection[str],
        limits: ReadLimits,
        encoder: RecordsEncoder,
        hand_out: Callable[[HandedOut], TakenBatch],
        at_once: AtOnce | None = None,
    ) -> TakenBatch | None:
        """The next records, or None: the consumer's own client is to be asked. Waits as long as nothing comes.

        Args:
            topics: what the consumer reads.
            hand_out: makes the batch of the caller, which is settled here.
            at_once: see `Consumer.take`.

        A caller that is cancelled loses nothing.
        """
        if not self.is_fed and not await self._join(topics):
            return None
        taker = self._taker = _Taker(limits, encoder, hand_out, at_once)
        try:
            if self._waiting and self._out is None:
                self._give_what_waits(taker)
            if self.is_fed and taker.taken is None:
                await taker.future
        except asyncio.CancelledError:
            if taker.taken is not None:
                taker.taken.put_back()
            self.stop()
            raise
        finally:
            if self._taker is taker:
                self._taker = None
        return taker.taken

    def _give_what_waits(self, taker: _Taker) -> None:
        """As much of it as fits."""
        room = taker.room
        taken: list[RecordBatch] = []
        while self._waiting and self._waiting[0].size_bytes < room:
            batch = self._waiting.popleft()
            room -= batch.size_bytes
            taken.append(batch)
        fetcher = self._shared.fetcher
        if not taken or fetcher is None:
            self.leave()
            return
        batch = taken[0] if len(taken) == 1 else fetcher.together(taken)
        self._waiting_records -= len(batch)
        self._waiting_bytes -= batch.size_bytes
        self._give(taker, batch)

    def _give(self, taker: _Taker, batch: RecordBatch) -> None:
        """Hands it out, unless it is for the consumer's own client. Nothing else is out."""
        if taker.encoder not in batch.payloads:
            try:
                batch.encode(taker.encoder)
            except ServiceError:
                self.leave()
                return
        self._nexts.update(batch.next_offsets())
        out = self._out = self._worker.fed.out = HandedOut(taker.limits, batch, batch.last_offsets())
        taken = taker.hand_out(out)
        try:
            if taker.at_once is not None and taker.at_once(taken):
                return
        except Exception:
            _log.exception("A batch could not be taken at once")
        taker.taken = taken
        taker.wake()

    def settle(self, read: HandedOut, accepted: bool) -> bool:
        """Whether a read that was handed out here is settled; else the thread is to be told."""
        if read is not self._out:
            return False
        if accepted and self.is_fed:
            self._out = None
            self._worker.fed.moves.append(read.batch.next_offsets())
            read.outcome = True
            if self._waiting and self._taker is not None:
                self._give_what_waits(self._taker)
            return True
        self.leave()
        return False

    # --- the fetcher --------------------------------------------------------------------------------------------------

    async def _join(self, topics: Collection[str]) -> bool:
        """Whether the fetcher brings the records from now on."""
        if len(topics) != 1:
            self.stop()
            return False
        (topic,) = topics
        if self._key != (topic, self._isolation_level):
            self.stop()
            self._key = (topic, self._isolation_level)
            self._fetchers.want_fetcher(self._key)
        if time.monotonic() < self._again_at:
            return False
        fetcher = self._fetchers.fetcher_for(self._key)
        if fetcher is None or fetcher.has_failed:
            return False
        shared = self._shared
        if shared.fetcher is None:
            # Before it is asked where the client is: what the fetcher brings meanwhile waits here.
            self._joined_at = dict(fetcher.next)
            shared.next = dict(fetcher.next)
            shared.join(fetcher, fetcher.next)
        self._worker.fed.ended = self.leave
        self._again_at = time.monotonic() + _AGAIN_S
        left = self._left
        try:
            starts: dict[Partition, int] = await self._worker.ask(self._worker.fed.begin)
        except asyncio.CancelledError:
            self._worker.post(self._worker.fed.cancel)
            self.stop()
            raise
        if not starts:
            return False
        if left != self._left or not self._takes_over(fetcher, topic, starts):
            self._worker.post(self._worker.fed.cancel)
            if self._joined_at.keys() != fetcher.next.keys():
                self.leave()  # the next attempt is to have the records of all partitions wait here
            return False
        self._nexts = starts
        self._worker.fed.out = None
        self.is_fed = True
        self._fetchers.wake()
        return True

    def _takes_over(self, fetcher: FetcherPort, topic: str, starts: dict[Partition, int]) -> bool:
        """Whether nothing is missing between where the client is and what the fetcher has brought, or will."""
        here = {partition: offset for (name, partition), offset in starts.items() if name == topic}
        if len(here) < len(starts):
            return False
        if any(offset < self._joined_at.get(partition, 0) for partition, offset in here.items()):
            return False
        new = [partition for partition in here if partition not in self._joined_at]
        if not all(fetcher.offers(partition, here[partition]) for partition in new):
            return False
        shared = self._shared
        waiting, self._waiting = self._waiting, collections.deque()
        self._waiting_records = self._waiting_bytes = 0
        for batch in waiting:
            # Without what the client has read by itself meanwhile, and partitions of other members.
            left = [each for each in batch.records if (each.offset() or 0) >= here.get(each.partition() or 0, 2**63)]
            if left:
                self._keep(batch if len(left) == len(batch) else _batch(left))
        if shared.exact:
            shared.part_from(fetcher)
        shared.fed = set(here)
        shared.next = {partition: max(offset, shared.next.get(partition, 0)) for partition, offset in here.items()}
        shared.compare_with(fetcher)
        return True

    def _take(self, batch: RecordBatch, now: float) -> None:
        taker = self._taker
        if taker is not None and self._out is None and not self._waiting and batch.size_bytes < taker.room:
            # So it is with nearly all of them.
            if batch.records:
                self._give(taker, batch)
            return
        if not len(batch):
            return
        self._keep(batch)
        if self._waiting_records > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES:
            self.leave()
        elif taker is not None and self._out is None:
            self._give_what_waits(taker)

    def _keep(self, batch: RecordBatch) -> None:
        self._waiting.append(batch)
        self._waiting_records += len(batch)
        self._waiting_bytes += batch.size_bytes

    def leave(self) -> None:
        """The consumer's own client fetches from now on; what is asked of the thread next finds it so."""
        self._left += 1
        self._shared.leave()
        self._waiting.clear()
        self._waiting_records = self._waiting_bytes = 0
        if self.is_fed:
            self.is_fed = False
            out, self._out = self._out, None
            self._worker.post(partial(self._worker.fed.end, out, self._nexts))
        if self._taker is not None:
            self._taker.wake()

    def stop(self) -> None:
        """Nobody pushes any more: `leave`, and no fetcher is needed."""
        self.leave()
        if self._key is not None:
            self._fetchers.want_fetcher(self._key, -1)
            self._key = None


def _batch(records: Any) -> RecordBatch:
    return RecordBatch(records, size_of(records))
