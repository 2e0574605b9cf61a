"""What holds for a connection between two processes, for the one that asks."""

from __future__ import annotations

from dataclasses import dataclass

from kafka_gateway.holding import Holding
from kafka_gateway.memory_budget import MemoryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for a connection on which this process asks.

    ``secret``: lower-case names of the header fields by which clients prove who they are. ``brings_proofs``: whether
    the other process needs these proofs, because Kafka is asked in the client's name.

    ``ping_s``: after so long without a byte the other end is asked for a sign of life. What follows from silence
    depends on ``drops``. True, for another node: after twice that the connection is given up, and with it all that was
    asked. False, for a worker of this machine, of which its parent says whether it is dead: after ``hold_s`` of
    silence, two pings at least, what was asked is answered for it, 503, and the connection stays.

    ``requests_max``: more requests than that are not open at a time; what is beyond waits, ``hold_s`` at most,
    with bodies that count in ``holding``. What goes and comes in pieces counts in ``memory``.
    """

    secret: frozenset[str] = frozenset()
    brings_proofs: bool = False
    hold_s: float = 10.0
    ping_s: float = 1.0
    drops: bool = False
    requests_max: int = 4096
    memory: MemoryBudget | None = None
    holding: Holding | None = None
