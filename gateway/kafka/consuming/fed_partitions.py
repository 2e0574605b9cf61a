"""Partitions of a consumer whose records the event loop hands out from a fetcher (`push_reads`): the consumer's thread.

The thread keeps its membership, its positions and its commits; it only fetches nothing meanwhile. Whatever moves or
takes away one of these partitions ends that here first, and the loop hears of it.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Collection, Mapping

from kafka_gateway.kafka.consuming.auto_commit import AutoCommit
from kafka_gateway.kafka.consuming.buffer import Partition
from kafka_gateway.kafka.consuming.client import GroupClient
from kafka_gateway.kafka.consuming.read_queue import ReadQueue
from kafka_gateway.kafka.consuming.reads import HandedOut

_TAKING_S = 0.25
"""How long a group that shares out anew may wait for a client that is just taking records."""


class FedPartitions:
    """Belongs to the thread, but for ``moves``."""

    def __init__(
        self, client: GroupClient, reads: ReadQueue, auto: AutoCommit, tell: Callable[[Callable[[], None]], None]
    ) -> None:
        """``tell`` has the event loop call something."""
        self._client = client
        self._reads = reads
        self._auto = auto
        self._tell = tell
        self._partitions: set[Partition] = set()
        """They are held in the client."""
        self.moves: collections.deque[Mapping[Partition, int]] = collections.deque()
        """Positions behind what was returned; the loop appends, the thread takes them."""
        self.out: HandedOut | None = None
        """What the loop handed out last; set by the loop."""
        self.ended: Callable[[], None] = lambda: None
        """Called on the loop when these partitions changed here; set by the loop before `begin` is asked."""

    def begin(self) -> dict[Partition, int]:
        """Fetches nothing any more, and says where reading goes on. Empty: something else is to be done first."""
        self.absorb()
        client, reads = self._client, self._reads
        if reads.waiting or reads.unsettled is not None or len(reads.buffer) or client.failure or client.silent():
            return {}
        if not client.assigned or self._partitions:
            return {}
        assigned = set(client.assigned)
        client.hold(assigned)
        goes_on = client.positions(assigned)
        if min(goes_on.values()) < 0:
            client.flow(assigned)
            return {}
        self._partitions = assigned
        return goes_on

    def cancel(self) -> None:
        """Ends an attempt to be fed: fetching goes on where it was."""
        kept, self._partitions = self._partitions, set()
        if kept:
            self._client.flow(kept)

    def end(self, read: HandedOut | None, nexts: Mapping[Partition, int]) -> None:
        """Fetching goes on at ``nexts``, behind the records of ``read``, which are out."""
        self.absorb()
        kept, self._partitions = self._partitions, set()
        if not kept:
            return
        if read is not None:
            read.last = {place: offset for place, offset in read.last.items() if place in kept}
            self._reads.adopt(read)
        self._client.release(kept)
        self._client.restart({place: nexts[place] for place in kept})

    def absorb(self) -> None:
        """Notes what was returned; of partitions that are not fed any more it counts no longer."""
        moved: dict[Partition, int] = {}
        while self.moves:
            moved.update(self.moves.popleft())
        if mine := {place: offset for place, offset in moved.items() if place in self._partitions}:
            self._auto.move(mine)

    def settle_now(self, partitions: Collection[Partition]) -> None:
        """These are about to be given up: what is out of them and is accepted without the thread having heard of it, or
        within a moment, counts. It would come again to their next owner, though its client has it."""
        if self._auto.stores_starts:  # else nothing is committed for it
            until = time.monotonic() + _TAKING_S
            if mine := self._partitions.intersection(partitions):
                self._settle_fed(mine, until)
            else:
                self._reads.settle_now(partitions, until)
        self.absorb()

    def _settle_fed(self, mine: Collection[Partition], until: float) -> None:
        left = threading.Event()  # nothing is handed out any more behind that
        self._tell(self.ended)
        self._tell(left.set)
        left.wait(_TAKING_S)
        out = self.out
        if out is not None and out.is_known(until) and out.outcome:
            self.absorb()
            self._auto.move({place: offset + 1 for place, offset in out.last.items() if place in mine})

    def disturbed(self) -> None:
        """The group has assigned something: the loop is to look at all of it again."""
        if self._partitions:
            self._tell(self.ended)

    def drop(self, partitions: Collection[Partition]) -> None:
        """These start anew, or belong to others; `absorb` comes before if what was returned is to count."""
        if gone := self._partitions.intersection(partitions):
            self.absorb()
            self._partitions -= gone
            self._client.release(gone)
            self._tell(self.ended)

    def drop_all(self) -> None:
        self.drop(set(self._partitions))
