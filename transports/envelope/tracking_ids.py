"""The Atmosphere clients of a gateway by tracking id, whatever transport they are on (atmosphere-binding.md §3).

One client's requests come in on many connections; the id tells which belong together. It is a secret of its client, and
valid only for the principal that opened the connection, with the same user of Kafka: for everybody else it is an id
that nobody has (S6; security.md §3, §4).
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kafka_gateway.core import Gateway
from kafka_gateway.errors import CloseReason
from kafka_gateway.relays import Relays
from kafka_gateway.session import Owner, Session
from kafka_gateway.transports.envelope.channel import Channel
from kafka_gateway.transports.envelope.session import EnvelopeSession

CLOSED = CloseReason(1000, "closed by the client")
TAKEN_OVER = CloseReason(1000, "connected again with this tracking id")


@dataclasses.dataclass(slots=True, eq=False)
class TrackedClient:
    """A client, as its other requests find it."""

    tracking_id: str
    path: str
    """What the connection was opened at. Envelopes are pushed there; other paths are those of resources (§3.10)."""
    session: Session
    conversation: EnvelopeSession
    channel: Channel
    room: Callable[[], Awaitable[None]]
    """Returns when the client may begin a further request."""
    owner: Owner = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.owner = self.session.owner


class TrackingIds:
    """All of them. Belongs to one event loop."""

    def __init__(self, relays: Relays) -> None:
        self._relays = relays
        self.heartbeat_id = str(uuid.uuid4())
        """One for each start of the gateway (§1.12)."""
        self._by_id: dict[str, dict[Owner, TrackedClient]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, gateway: Gateway) -> TrackingIds:
        """Those of this gateway, the same for all of its transports."""
        clients = gateway.state.get(cls)
        if clients is None:
            clients = gateway.state[cls] = cls(Relays.of(gateway))
        assert isinstance(clients, cls)
        return clients

    @property
    def mark(self) -> str:
        """What new ids begin with, so that another worker knows whose they are; empty with one process."""
        return self._relays.way.mark if self._relays.way is not None else ""

    def elsewhere(self, tracking_id: str) -> int | None:
        """The other worker that keeps the client with this id, if anybody does; None: this process."""
        way = self._relays.way
        return way.elsewhere_marked(tracking_id[:8]) if way is not None and tracking_id else None

    def knows(self, tracking_id: str) -> bool:
        """Whether anybody is connected with this id."""
        return tracking_id in self._by_id

    def find(self, tracking_id: str, session: Session) -> TrackedClient | None:
        """The client with this id, if it is the one of ``session``."""
        return self._by_id.get(tracking_id, {}).get(session.owner)

    def add(self, client: TrackedClient) -> None:
        """The newest connection of a tracking id replaces the one before (§3.12)."""
        owners = self._by_id.setdefault(client.tracking_id, {})
        older = owners.get(client.owner)
        owners[client.owner] = client
        if older is not None:
            older.channel.close(TAKEN_OVER)

    def remove(self, client: TrackedClient) -> None:
        """Forgets the client, unless a newer one has its place."""
        owners = self._by_id.get(client.tracking_id, {})
        if owners.get(client.owner) is client:
            del owners[client.owner]
            if not owners:
                del self._by_id[client.tracking_id]

    def end(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs the last task of a client that is gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
