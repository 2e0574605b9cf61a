"""Counters of the tunnels of a gateway, for its metrics."""

from __future__ import annotations

import dataclasses

from kafka_gateway.metrics.families import counter, gauge
from kafka_gateway.metrics.registry import Families


@dataclasses.dataclass(slots=True)
class Counts:
    """Counts what all tunnels have carried since the start."""

    open: int = 0
    opened: int = 0
    refused: dict[int, int] = dataclasses.field(default_factory=dict)
    """Handshakes by the status of their answer."""
    closed: dict[int, int] = dataclasses.field(default_factory=dict)
    """Tunnels by close code, 1006 for clients that just left."""
    requests: int = 0
    request_bytes: int = 0
    replies: int = 0
    reply_bytes: int = 0
    rewritten: int = 0
    """Replies in which an address was replaced."""

    def families(self) -> Families:
        """These numbers as a source of the gateway's metrics."""
        yield gauge("tunnel_connections", "Open tunnels", (), [((), self.open)])
        yield counter("tunnel_opened", "Tunnels that were opened", (), [((), self.opened)])
        refused, closed = list(self.refused.items()), list(self.closed.items())
        yield counter("tunnel_refused", "Handshakes that were refused", ("code",), (((str(c),), n) for c, n in refused))
        yield counter("tunnel_closed", "Tunnels by close code", ("code",), (((str(c),), n) for c, n in closed))
        yield counter("tunnel_requests", "Requests of Kafka clients", (), [((), self.requests)])
        yield counter("tunnel_request_bytes", "Bytes of requests of Kafka clients", (), [((), self.request_bytes)])
        yield counter("tunnel_replies", "Replies of brokers", (), [((), self.replies)])
        yield counter("tunnel_reply_bytes", "Bytes of replies of brokers", (), [((), self.reply_bytes)])
        yield counter("tunnel_rewritten_replies", "Replies with a replaced address", (), [((), self.rewritten)])
