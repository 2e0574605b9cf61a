"""Slots that nobody has, because their topic was deleted while the group shared them out (cluster.md §4.1).

librdkafka shares out what partitions there are at that moment. When the topic is back with as many as before, it
notices no change: what nobody had got then was nobody's until the next process came or left.
"""

from __future__ import annotations

import math
from typing import Final

from kafka_gateway.cluster.ports import Peers, Process
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.cluster.table import Table

_WITHIN_S: Final = 60.0
"""How long after the topic was made again this may be so."""
_PATIENCE_S: Final = 4.0
"""How long it takes at most until whoever has a slot serves it, and has told so."""


class LeftOver:
    """Belongs to the event loop."""

    def __init__(self, process: Process, store: SlotStore, table: Table, peers: Peers, session_s: float) -> None:
        """``session_s``: so long Kafka keeps the slots of a process that is dead."""
        self._process = process
        self._store = store
        self._table = table
        self._peers = peers
        self._session_s = session_s
        self._until = -math.inf
        self._since: float | None = None

    def topic_made_again(self, now: float) -> None:
        """From now on slots may be nobody's. ``now``: as of `time.monotonic`."""
        self._until, self._since = now + _WITHIN_S, None

    def is_due(self, now: float) -> bool:
        """Whether this process is the one that should leave the group and join it again, upon which all is shared out.
        To be asked about once a second."""
        if now > self._until or not self._is_any():
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < _PATIENCE_S or min(self._holders(), default=self._process.id) != self._process.id:
            return False
        self._since = None
        return True

    def _is_any(self) -> bool:
        return any(
            self._store.state(slot) is None and not self._lives(self._table.owner(slot))
            for slot in range(self._store.count)
        )

    def _holders(self) -> list[str]:
        own = [self._process.id] if self._store.served() else []
        return own + [each for each in self._table.holders() if each != self._process.id and self._lives(each)]

    def _lives(self, process: str | None) -> bool:
        """Whether what this process has claimed is not to be another one's by now."""
        if process is None or process == self._process.id:
            return False
        found = self._peers.reach(process)
        return found is None or (found.unreached_s or 0.0) < self._session_s + _PATIENCE_S
