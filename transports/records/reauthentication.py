"""Looking again at the proof with which a stream was opened, so that a revoked one ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from gateway.core import Gateway
from gateway.errors import GONE, Forbidden, ServiceError, Unauthorized
from gateway.session import Session


class Renewal:
    """Asked now and then, it asks the authenticator when the principal's time is up (``Principal.until``)."""

    __slots__ = ("_asking", "_gateway", "_headers", "_session")

    def __init__(self, gateway: Gateway, session: Session, headers: Mapping[str, str]) -> None:
        self._gateway, self._session = gateway, session
        self._headers = {
            name.lower(): value for name, value in headers.items() if name.lower().encode() in gateway.proof_fields
        }
        self._asking = False

    @classmethod
    def of(cls, gateway: Gateway, session: Session, headers: Mapping[str, str]) -> Renewal | None:
        """None for a principal that never has to prove itself again."""
        return cls(gateway, session, headers) if session.principal.until < float("inf") else None

    def look(self, revoked: Callable[[ServiceError], None]) -> None:
        """Asks if it is time; ``revoked`` is called when the proof is not valid any more."""
        session = self._session
        if session.principal.until < time.monotonic() and not self._asking and session.closed is None:
            self._asking = True
            session.spawn(self._ask(revoked), "renew")

    async def _ask(self, revoked: Callable[[ServiceError], None]) -> None:
        session = self._session
        try:
            opened = await self._gateway.open_session(
                session.transport, self._headers, listener=session.listener, peer=session.peer
            )
        except (Unauthorized, Forbidden) as error:
            revoked(error)
            return
        except ServiceError:
            return  # asked again at the next occasion
        finally:
            self._asking = False
        session.principal = opened.principal
        await self._gateway.close_session(opened, GONE)
