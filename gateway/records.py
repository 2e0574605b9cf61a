"""Records on their way to Kafka and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Headers = Sequence[tuple[str, bytes | None]]


class RecordToSend(Protocol):
    """What a producer reads of a record: bodies are decoded into objects of this shape, without another copy."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def partition(self) -> int | None:
        """None: chosen by key."""

    @property
    def timestamp_ms(self) -> int:
        """0: the time of receipt."""

    @property
    def headers(self) -> Headers | None: ...


class OutgoingRecord(NamedTuple):
    """A record to be produced, made by hand."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    timestamp_ms: int = 0
    headers: Headers | None = None


class ConsumedRecord(Protocol):
    """A record read from Kafka (confluent_kafka's Message has this shape)."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]: ...


RecordsEncoder = Callable[[Sequence[ConsumedRecord]], bytes]
"""Turns a run of records into a payload; raises UndecodableRecord for one that its format cannot express."""


class RecordBatch:
    """One run of consumed records. It keeps what is found out about it: a hundred sockets get the very same one."""

    __slots__ = ("_last_offsets", "_next_offsets", "count", "payloads", "records", "size_bytes")

    def __init__(self, records: Sequence[ConsumedRecord], size_bytes: int) -> None:
        self.records = records
        self.count = len(records)
        self.size_bytes = size_bytes
        self.payloads: dict[RecordsEncoder, bytes] = {}
        """What `encode` has made. To look here first costs half of a call."""
        self._last_offsets: dict[tuple[str, int], int] | None = None
        self._next_offsets: dict[tuple[str, int], int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def encode(self, encoder: RecordsEncoder) -> bytes:
        """The payload as this encoder makes it; raises what the encoder raises."""
        payload = self.payloads.get(encoder)
        if payload is None:
            payload = self.payloads[encoder] = encoder(self.records)
        return payload

    def last_offsets(self) -> Mapping[tuple[str, int], int]:
        """Topic and partition → the offset of its last record here."""
        found = self._last_offsets
        if found is None:
            # Offsets rise within a partition, so the last one of each stays.
            found = self._last_offsets = {
                (record.topic() or "", record.partition() or 0): record.offset() or 0 for record in self.records
            }
        return found

    def next_offsets(self) -> Mapping[tuple[str, int], int]:
        """Topic and partition → the offset behind its last record here: what a group commits that has the batch."""
        found = self._next_offsets
        if found is None:
            found = self._next_offsets = {place: offset + 1 for place, offset in self.last_offsets().items()}
        return found
