"""Reaching clients that another process of a cluster keeps: those of Atmosphere over plain HTTP, whose tracking ids
begin with the mark of that process (cluster.md §5.1).

All processes read a mark in the same way, as far as they know the same processes. A mark of a process that is gone, or
of none, is served by the process that has the slot which the mark hashes to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from kafka_gateway.cluster.ports import PeerLost, Peers, Process
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.cluster.table import Table, mark_of
from kafka_gateway.core import Gateway
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.messages import Reply, Request

_AGAIN_S: Final = 0.1


class ClusterWay:
    """`kafka_gateway.relays.Way` of a process of a cluster. Belongs to the event loop.

    Args:
        node: the processes of this node, which may not have claimed anything yet.
    """

    def __init__(
        self, gateway: Gateway, process: Process, node: list[str], store: SlotStore, table: Table, peers: Peers
    ) -> None:
        self._gateway = gateway
        self._me = process.id
        self._own = {mark_of(each): each for each in node}
        self._store = store
        self._table = table
        self._peers = peers
        self._hold_s = gateway.config.seconds("cluster.hold.ms")
        self.mark = mark_of(process.id)

    def elsewhere_marked(self, mark: str) -> int | None:
        hashed = int(mark, 16)
        return hashed if next(self._keepers(hashed)) != self._me else None

    def _keepers(self, hashed: int) -> Iterator[str]:
        """Who serves this mark: the process that has made it; if that cannot be reached, the next one."""
        mark = f"{hashed:08x}"
        maker = self._own.get(mark) or self._table.marked(mark)
        if maker is not None:
            yield maker
        if maker is None or maker not in self._table.holders():
            # With nobody known yet it is this process.
            yield self._table.owner(self._store.slot(hashed)) or self._me

    async def relay(self, name: str, request: Request, worker: int) -> Reply | None:
        return await self._gateway.entrusted.run(self._relay(name, request, worker))

    async def _relay(self, name: str, request: Request, worker: int) -> Reply | None:
        until = time.monotonic() + self._hold_s
        while True:
            for process in self._keepers(worker):
                if process == self._me:
                    return None
                try:
                    return await self._peers.call(process, request, name)
                except PeerLost as lost:
                    if lost.sent:  # it may have been carried out, and its client is gone
                        raise InstanceUnavailable() from None
            if time.monotonic() >= until:
                raise InstanceUnavailable()
            await asyncio.sleep(_AGAIN_S)
