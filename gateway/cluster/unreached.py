"""Tells the others through Kafka whom this process does not reach, and who of these lives (cluster.md §7).

A process that is cut off from the others, and not from Kafka, hears nothing of them but what Kafka brings. So each
tells in its own record which others it does not reach. While one of these tells of itself, too, and so lives, it says
that again and again: by this the other one knows that it lives itself, and who does not reach it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kafka_gateway.cluster.ports import Peers, Process
from kafka_gateway.cluster.processes import Processes
from kafka_gateway.cluster.table import Known

LIVES_S: Final = 10.0
"""So long after it has told something a process counts as one that lives."""
_AGAIN_S: Final = 3.0
_LATE_S: Final = 3.0
"""How long a process may be out of reach before that is told, if nothing says that it lives."""
_LOOK_S: Final = 0.5


def lives(known: Known, now: float) -> bool:
    """Whether it has told something of itself a moment ago. ``now``: as of `time.monotonic`."""
    return now - known.told_at <= LIVES_S


class Unreached:
    """Belongs to the event loop."""

    def __init__(self, process: Process, peers: Peers, processes: Processes) -> None:
        self._process = process
        self._peers = peers
        self._processes = processes
        self._told_at = 0.0

    async def keep(self) -> None:
        """Tells, until it is cancelled."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(_LOOK_S)

    def look(self, now: float) -> None:
        """Tells what has to be told now."""
        found, anybody = [], False
        for each in self._processes.table:
            if each.id == self._process.id or each.claim.state == "gone":
                continue
            reach, is_alive = self._peers.reach(each.id), lives(each, now)
            if reach is None:
                continue
            if reach.reachable is None and is_alive:
                self._peers.look(each.id)  # it may be one that joins, and waits for our word
            elif reach.unreached_s is not None and (is_alive or reach.unreached_s >= _LATE_S):
                found.append(each.id)
                anybody |= is_alive
        unreached = tuple(sorted(found))
        if unreached != self._processes.unreached or (anybody and now - self._told_at >= _AGAIN_S):
            self._told_at = now
            self._processes.tell_unreached(unreached)
