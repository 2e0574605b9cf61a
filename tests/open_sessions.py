"""Sessions of proxy sockets that nobody counts, for tests of what stands behind them."""

from __future__ import annotations

from kafka_gateway.services.websocket_proxy.sessions import ConsumerSocket, Lease, ProducerSocket, SocketCounters


class UncountedLease:
    """The lease of a socket that nobody counts."""

    __slots__ = ("batch_size", "counters", "rate")

    def __init__(self, rate: int = 0, batch_size: int = 0) -> None:
        self.counters = SocketCounters()
        self.rate, self.batch_size = rate, batch_size

    def close(self, code: int = 1000) -> None:
        return None


class OpenSessions:
    """``SocketSessions`` without any limit: every socket gets a place."""

    async def open_producer(self, socket: ProducerSocket) -> Lease:
        return UncountedLease()

    async def open_consumer(self, socket: ConsumerSocket) -> Lease:
        return UncountedLease()
