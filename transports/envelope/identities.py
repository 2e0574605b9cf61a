"""The principals of the envelopes of one client: each may show a proof of its own (atmosphere-binding.md §1.9)."""

from __future__ import annotations

from typing import Final

from kafka_gateway.core import Gateway
from kafka_gateway.door.proofs import certificate_of
from kafka_gateway.errors import GONE, TooManyRequests
from kafka_gateway.messages import Request
from kafka_gateway.session import Session

_IDENTITIES_MAX: Final = 16
"""Different proofs of identity in the envelopes of one client."""


class Identities:
    """The sessions of one client's envelopes: its own, and one for each other proof."""

    __slots__ = ("_gateway", "_others", "_own")

    def __init__(self, gateway: Gateway, own: Session) -> None:
        self._gateway, self._own = gateway, own
        self._others: dict[object, Session] = {}
        """By the proof that was shown."""

    async def of(self, request: Request) -> Session:
        """The session whose principal this request's headers prove. Unauthorized, Forbidden, TooManyRequests."""
        proofs, own = self._gateway.proofs, self._own
        certificate = certificate_of(own)
        shown = proofs.shown(request.headers, certificate)
        if shown == own.proof:
            await proofs.look_again(own, request.method, request.path)
            return own
        key = tuple(shown.items())
        known = self._others.get(key)
        if known is not None and known.closed is None:
            await proofs.look_again(known, request.method, request.path)
            return known
        if known is None and len(self._others) >= _IDENTITIES_MAX:
            raise TooManyRequests(f"More than {_IDENTITIES_MAX} identities on one connection.")
        opened = self._others[key] = await proofs.open(
            own.transport, request.headers, own.listener, own.peer, certificate, f"{request.method} {request.path}"
        )
        opened.admin = own.admin
        return opened

    async def aclose(self) -> None:
        """Ends all but the client's own."""
        others, self._others = self._others, {}
        for session in others.values():
            await self._gateway.close_session(session, GONE)
