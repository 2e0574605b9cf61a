"""The reasons for which the session of a client ends."""

from __future__ import annotations

import dataclasses

from kafka_gateway.service_error import ServiceError


@dataclasses.dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a client session ends: a WebSocket close code (RFC 6455 §7.4) and a text."""

    code: int
    text: str
    error: ServiceError | None = None
    """What everything that the session has open tells its client at its end; None: it ends without a message."""

    @classmethod
    def of(cls, error: ServiceError) -> CloseReason:
        """For a client that may not have what is open any more: its proof ended, or a right (security.md §2, §3)."""
        return cls(1008, error.message, error)


GONE = CloseReason(1000, "client left")
SHUTDOWN = CloseReason(1001, "gateway is shutting down")
NO_MEMORY = CloseReason(1013, "memory is short (memory.max.bytes)")
SLOW = CloseReason(1008, "client reads too slowly")
IDLE = CloseReason(1001, "idle for too long")
FAILED = CloseReason(1011, "internal error")
