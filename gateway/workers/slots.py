"""Which worker of one machine is the home of a key: a table of hash slots that never changes."""

from __future__ import annotations

from kafka_gateway.slots import SEPARATOR, slot_of


class StaticTable:
    """As many slots as workers, each slot the worker's of its number, for as long as the gateway runs."""

    __slots__ = ("workers",)

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def home(self, *key: str) -> int:
        """The worker, from 0, at which that what has this key lives."""
        return slot_of(SEPARATOR.join(key), self.workers)
