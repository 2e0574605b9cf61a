"""The sessions in which requests of another process are served, each for one request at a time.

The client and its proof stay where its connection is; so only a stream of a session outlasts its request.
One that has nothing left is used again for the next request of the same client: making one, with rights and quotas,
costs as much as serving a small request.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from kafka_gateway import jsonio
from kafka_gateway.core import Gateway
from kafka_gateway.session import Principal, Session
from kafka_gateway.workers.frames import Asker, FrameError, untold

TRANSPORT: Final = "worker"
"""As what these sessions are counted: the process that has the client counts its transport."""
_CLIENTS_MAX: Final = 256
"""Clients that a connection remembers."""
_UNUSED_MAX: Final = 64
"""Sessions of one client that wait for its next requests."""

_read_asker: Final = jsonio.Decoder(Asker).decode


class ForwardedClient:
    """A client as the other process has told of it. Belongs to the event loop."""

    __slots__ = ("_asker", "_changes", "_gateway", "_is_lasting", "_principal", "_sessions", "_unused")

    def __init__(self, gateway: Gateway, asker: Asker) -> None:
        self._gateway = gateway
        self._asker = asker
        self._principal = Principal(
            asker.principal, frozenset(asker.roles), kind=asker.kind, attributes=asker.attributes or {}
        )  # its end is watched where the client is
        # What a proof opens here, Kafka clients for one, ends with its request.
        self._is_lasting = asker.proven and asker.proof is None
        self._sessions = gateway.sessions
        self._unused: list[Session] = []
        self._changes = 0
        """Of the rules, when these got their rights and quotas."""

    def take(self) -> Session | None:
        """A session for a request, if there is one that need not be opened."""
        unused = self._unused
        if not unused:
            return None
        if self._changes != self._gateway.admission.changes:
            unused.clear()
            return None
        session = unused.pop()
        self._sessions.add(session)
        return session

    async def open(self, until: float | None) -> Session:
        """A new session for a request, whose proof counts until then. ServiceError as `Proofs.open_forwarded`."""
        asker, principal = self._asker, self._principal
        if until is not None:
            principal = dataclasses.replace(principal, until=until)
        proof = {name: untold(value) for name, value in (asker.proof or {}).items()}
        session = Session(TRANSPORT, asker.listener, asker.peer, principal, proof, proven=asker.proven)
        session.admin = asker.admin
        session.forwarded = True
        await self._gateway.proofs.open_forwarded(session)
        return session

    def keep(self, session: Session) -> bool:
        """The request is over, and left nothing that lasts: whether its session waits for the next one. If not, whoever
        asks has to close it."""
        unused = self._unused
        if (
            not self._is_lasting
            or session.tasks
            or session.streams
            or session.closed is not None
            or session.on_close is not None
            or session.principal is not self._principal
            or len(unused) >= _UNUSED_MAX
        ):
            return False
        if self._changes != (changes := self._gateway.admission.changes):
            unused.clear()
            self._changes = changes
        self._sessions.discard(session)
        unused.append(session)
        return True


class ClientSessions:
    """Of one connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: dict[bytes, ForwardedClient] = {}

    def client(self, who: jsonio.Raw) -> ForwardedClient:
        """Whom the other process means by that (`gateway.workers.frames.Ask.who`). FrameError if it is nobody."""
        raw = bytes(who)
        found = self._known.get(raw)
        if found is None:
            try:
                found = ForwardedClient(self._gateway, _read_asker(raw))
            except ValueError as error:
                raise FrameError(f"a client that cannot be read: {error}") from None
            if len(self._known) >= _CLIENTS_MAX:
                self._known.clear()
            self._known[raw] = found
        return found
