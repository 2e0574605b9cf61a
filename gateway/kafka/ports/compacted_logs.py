"""Small topics that keep the last record of each key, read whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class CompactedTopic:
    """A topic of one partition that keeps the last record of each key; made when it is missing."""

    name: str
    replicas: int = 3
    retention_ms: int = 0
    presence_s: float = 0.0
    """The reader is also a member of its group, and Kafka forgets it when nothing is heard of it for so long; by that
    others can tell whether this process lives. 0: no member."""


class LogListener(Protocol):
    """The reader of a compacted topic. All calls come on the event loop, in the order of the log."""

    def record(self, key: bytes, value: bytes | None, offset: int) -> None: ...
    def caught_up(self) -> None:
        """All that was there when the reading began has been given."""

    def restarted(self) -> None:
        """The topic is another one, or is read from its start again: offsets given before mean nothing any more."""


class CompactedLog(Protocol):
    @property
    def trouble(self) -> str:
        """Why the topic cannot be read at present; "" if it can."""

    async def write(self, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        """Stores keys and values in this order; the offset of the last, once Kafka has confirmed all of them."""

    async def close(self) -> None:
        """Ends the reading and leaves the group. Nothing comes any more."""
