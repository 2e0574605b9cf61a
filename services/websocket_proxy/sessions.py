"""The interface by which sockets of Kafka WebSocket Proxy's protocol get a place (websocket-proxy.md §2.6, §3.3, §4).

``SocketSessions`` decides whether a socket may be opened, and gives its limits. A `Lease` is one socket's place; it
also has the socket's counters, which a scrape reads (§7.1). Nothing here knows where sessions are kept.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from kafka_gateway.errors import BadRequest, ServiceError, Unavailable


class SocketRefused(BadRequest):
    """No place for this socket: a limit, a duplicate, no instance id. The message is one of §2.6 and §3.3."""


class SessionKindClash(ServiceError):
    """The id belongs to a session of the other kind; answered with 500 (§2.6, §3.3)."""

    help = "Choose another id: this one is in use by a socket of the other kind."


class SessionsUnavailable(Unavailable):
    """The session topic did not take the registration in time; nothing was registered (§4.3)."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProducerSocket:
    """A socket on ``/socket/in`` that asks for its place."""

    client_id: str
    instance_id: str | None = None
    """None if the client named none: then there is no session for it (or SocketRefused, §2.6). "" is a name."""
    transactional: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class ConsumerSocket:
    """A socket on ``/socket/out`` that asks for its place."""

    client_id: str
    group_id: str
    topic: str
    partitions: int
    """Of the topic at present: the upper bound of the group's limit (§3.3)."""


@dataclasses.dataclass(slots=True)
class SocketCounters:
    """What a socket has done so far, for the metrics (§7.1). Belongs to the event loop."""

    records: int = 0
    """Producer: records received. Consumer: records sent."""
    answers: int = 0
    """Producer: results sent. Consumer: commits received."""
    uncommitted: int = 0
    """Consumer without auto commit: the size of its commit stack."""


class Lease(Protocol):
    """One socket's place, from before the reply to its handshake until its end."""

    @property
    def counters(self) -> SocketCounters: ...

    @property
    def rate(self) -> int:
        """Messages per second that the server allows this socket, as of its opening; 0: no limit (§2.7, §3.4)."""

    @property
    def batch_size(self) -> int:
        """Consumer: most records fetched per turn by the configuration; 0: the gateway's choice (§3.4)."""

    def close(self, code: int = 1000) -> None:
        """Gives the place back; ``code`` is the WebSocket close code, 1006 if the connection broke, 0 if there never
        was a socket (refused after its registration). Safe to call twice; returns at once: what is to be published is
        published in the background (§2.9).
        """


class SocketSessions(Protocol):
    """Who may open a socket. Both raise SocketRefused, SessionKindClash or SessionsUnavailable; then nothing stays
    registered. A call that is cancelled leaves nothing registered either.
    """

    async def open_producer(self, socket: ProducerSocket) -> Lease: ...
    async def open_consumer(self, socket: ConsumerSocket) -> Lease: ...


@dataclasses.dataclass(frozen=True, slots=True)
class ProxySettings:
    """The part of the configuration that the sockets need (§5); times in seconds."""

    sessions_enabled: bool = False
    exactly_once_enabled: bool = False
    max_stack_size: int = 100
    auto_commit_enabled: bool = False
    auto_commit_interval_s: float = 1.0
    auto_commit_max_age_s: float = 20.0
    hidden_topics: frozenset[str] = frozenset()
    """The state topics: they count as non-existent for clients (§5.6)."""
