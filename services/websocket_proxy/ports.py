"""The interface between the sockets of Kafka WebSocket Proxy's protocol and the services behind them.

A transport dispatches ``GET /socket/in`` or ``GET /socket/out`` with one of the requests below as the body, and gets an
object that lives as long as the socket: a sender or a follower. The transport knows frames and JSON, the object knows
topics, offsets and commits (websocket-proxy.md §2, §3).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from kafka_gateway.errors import ServiceError
from kafka_gateway.records import RecordBatch, RecordsEncoder, RecordToSend


@dataclasses.dataclass(frozen=True, slots=True)
class SenderRequest:
    """What the query of ``/socket/in`` asks for (§1.5)."""

    client_id: str
    topic: str
    instance_id: str | None = None
    transactional: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FollowerRequest:
    """What the query of ``/socket/out`` asks for (§1.6), and how records are to be encoded."""

    client_id: str
    group_id: str
    topic: str
    encoder: RecordsEncoder
    offset_reset: str = "earliest"
    isolation_level: str = "read_uncommitted"
    auto_commit: bool = True
    rate: int = 0
    batch_size: int = 0


class MessageId(NamedTuple):
    """What a wsProxyMessageId says of a record."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class StoredRecord(Protocol):
    """A record that Kafka has confirmed."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...


class RecordSender(Protocol):
    """Behind ``/socket/in``: takes records, in order."""

    rate: int
    """Messages per second that the socket may send; 0: no limit (§2.7)."""
    one_by_one: bool
    """Every record is a transaction of its own: send them singly, or the first result waits for the last."""

    def send(self, records: Sequence[RecordToSend]) -> asyncio.Future[list[StoredRecord | ServiceError]]:
        """Hands them to Kafka before it returns. Raises a ServiceError if there is no room, and then took none."""

    def answered(self, count: int) -> None:
        """Counts results that were sent."""

    def end(self, code: int) -> None:
        """The socket has ended with this close code. Records that were sent go on; safe to call twice."""

    async def aclose(self) -> None: ...


class RecordListener(Protocol):
    def records(self, batch: RecordBatch) -> bool:
        """Takes the next records, to be encoded with the request's encoder. Whether they have left this process
        already; if not, the listener calls ``RecordFollower.written`` when they have."""

    def failed(self, error: ServiceError) -> None:
        """No more records come: one of them does not fit the format, or Kafka refuses (§3.7)."""


class RecordFollower(Protocol):
    """Behind ``/socket/out``: a member of a group, and what its client has not committed yet."""

    def start(self, listener: RecordListener) -> None: ...
    def pause(self) -> None:
        """The client does not read: no records until ``resume``."""

    def resume(self) -> None: ...
    def written(self, batch: RecordBatch) -> None:
        """The batch has left this process: only now may it be committed (§3.5)."""

    def commit(self, place: MessageId) -> None:
        """The client is done with this record and all before it (§3.6). Unknown ids are ignored."""

    def end(self, code: int) -> None:
        """The socket has ended with this close code. Leaves the group; safe to call twice."""

    async def aclose(self) -> None: ...
