"""What of the cluster this process does not reach, though others may (cluster.md §7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kafka_gateway.cluster.ports import Peers
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.cluster.table import Table
from kafka_gateway.config import Config
from kafka_gateway.metrics.families import gauge
from kafka_gateway.metrics.registry import Families

_TAKEN_OVER_S: Final = 2.0
"""How long after the session timeout others have the slots of a process that is dead."""


class OutOfReach:
    """Belongs to the event loop."""

    def __init__(self, config: Config, store: SlotStore, table: Table, peers: Peers) -> None:
        self._store = store
        self._table = table
        self._peers = peers
        self._own = store.process
        # Not before others have taken over what was a dead process's: its slots are out of everybody's reach.
        self._patience_s = max(
            config.seconds("cluster.hold.ms"), config.seconds("cluster.session.timeout.ms") + _TAKEN_OVER_S
        )

    def trouble(self) -> str:
        """Why a balancer should choose another process: most slots are at processes that have not been reached for
        ``cluster.hold.ms``. "" if they are not."""
        unreached = frozenset(self._unreached(self._patience_s))
        slots = self._slots_of(unreached) if unreached else 0
        if 2 * slots <= self._store.count:
            return ""
        return (
            f"{slots} of {self._store.count} slots are served by processes that have not been reached for"
            f" {self._patience_s:g} s. GET /cluster says which, and why."
        )

    def families(self) -> Families:
        """As a source of the gateway's metrics."""
        unreached = frozenset(self._unreached(0.0))
        reached = sum(1 for each in self._others() if (found := self._peers.reach(each)) and found.reachable)
        rows = [(("reachable",), float(reached)), (("unreachable",), float(len(unreached)))]
        yield gauge("cluster_peers", "Other processes, by whether they can be reached from here", ("state",), rows)
        slots = float(self._slots_of(unreached))
        text = "Slots that are served by processes which cannot be reached from here"
        yield gauge("cluster_slots_out_of_reach", text, (), [((), slots)])

    def _others(self) -> Iterable[str]:
        return (each.id for each in self._table if each.id != self._own and each.claim.state != "gone")

    def _unreached(self, for_s: float) -> Iterable[str]:
        for each in self._others():
            found = self._peers.reach(each)
            if found is not None and found.unreached_s is not None and found.unreached_s >= for_s:
                yield each

    def _slots_of(self, processes: frozenset[str]) -> int:
        return sum(1 for slot in self._table.slots_of(processes) if not self._store.serves(slot))
