"""Who is asking: the interface of authenticators, and the one for gateways that ask nobody."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.session import ANONYMOUS, Principal


class Authenticator:
    """Tells who sends a request. ``authentication.method`` names the one in use (its ``name``, any case)."""

    name: str = ""

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        """The principal that these headers (looked up by lower-case name) prove.

        ``peer`` is the client's address. Raises gateway.errors.Unauthorized, best with a challenge, or Forbidden. It is
        asked when a session is opened, and again on a connection whose Authorization header changes.
        """
        raise NotImplementedError


class NoAuthentication(Authenticator):
    """Everybody is the same anonymous principal."""

    name = "NONE"

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        return ANONYMOUS
