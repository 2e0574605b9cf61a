"""What a client without auto commit was sent and has not committed yet (websocket-proxy.md §3.6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kafka_gateway.kafka.unfinished import Unfinished
from kafka_gateway.records import ConsumedRecord
from kafka_gateway.services.websocket_proxy.ports import MessageId


class CommitStack:
    """The ids of each partition that a client can commit: all records that it was sent and has not committed. Sending
    must stop while the stack is `full`, and may go on when it is `half_empty`."""

    def __init__(self, size: int) -> None:
        """``size``: how many ids of a partition make the stack full."""
        self._size = size
        self._sent: Unfinished[tuple[int, float]] = Unfinished()
        """The note of each record: its timestamp, and when it was sent."""

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def full(self) -> bool:
        return len(self._sent) >= self._size and self._most() >= self._size

    @property
    def half_empty(self) -> bool:
        return self._most() * 2 <= self._size

    def _most(self) -> int:
        return max(map(self._sent.count, self._sent.partitions), default=0)

    def add(self, records: Sequence[ConsumedRecord], now: float) -> None:
        """Notes records that were sent, in this order."""
        for record in records:
            place = (record.topic() or "", record.partition() or 0)
            self._sent.sent(place, record.offset() or 0, (record.timestamp()[1], now))

    def take(self, place: MessageId) -> bool:
        """Removes the record, and all older ones of its partition. False if it is not known."""
        name = (place.topic, place.partition)
        for offset, (timestamp, _) in self._sent.notes(name):
            if offset == place.offset:
                if timestamp != place.timestamp:
                    return False
                self._sent.end_below(name, offset + 1)
                return True
        return False

    def take_older(self, than: float) -> list[MessageId]:
        """Removes what was sent before that time, and returns the newest of it in each partition."""
        newest = []
        for name in self._sent.partitions:
            old = [(offset, timestamp) for offset, (timestamp, sent) in self._sent.notes(name) if sent < than]
            if old:
                self._sent.end_below(name, old[-1][0] + 1)
                newest.append(MessageId(*name, *old[-1]))
        return newest

    def drop(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Forgets partitions: another member has them, or the topic was made again under its name."""
        self._sent.drop(partitions)
