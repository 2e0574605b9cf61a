"""What a client without auto commit was sent and has not committed yet (websocket-proxy.md §3.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from kafka_gateway.records import ConsumedRecord
from kafka_gateway.services.websocket_proxy.ports import Place

_Entry = tuple[int, int, float]
"""Offset, timestamp, when it was sent."""


class CommitStack:
    """One list for each partition, with ``size`` entries at most: the oldest is dropped for the newest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[tuple[str, int], deque[_Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def add(self, records: Sequence[ConsumedRecord], now: float) -> None:
        """The records were sent, in this order."""
        for record in records:
            name = (record.topic() or "", record.partition() or 0)
            entries = self._entries.get(name)
            if entries is None:
                entries = self._entries[name] = deque(maxlen=self._size)
            entries.append((record.offset() or 0, record.timestamp()[1], now))

    def take(self, place: Place) -> bool:
        """Whether the place is known; it and all that is older in its partition are removed."""
        entries = self._entries.get((place.topic, place.partition))
        if not entries:
            return False
        for number, (offset, timestamp, _) in enumerate(entries):
            if offset == place.offset:
                if timestamp != place.timestamp:
                    return False
                for _ in range(number + 1):
                    entries.popleft()
                return True
        return False

    def take_older(self, than: float) -> list[Place]:
        """Removes what was sent before that time; the newest of it in each partition."""
        newest = []
        for (topic, partition), entries in self._entries.items():
            last: _Entry | None = None
            while entries and entries[0][2] < than:
                last = entries.popleft()
            if last is not None:
                newest.append(Place(topic, partition, last[0], last[1]))
        return newest

    def drop(self, partitions: Iterable[tuple[str, int]]) -> None:
        """They belong to another member now."""
        for topic, partition in partitions:
            self._entries.pop((topic, partition), None)
