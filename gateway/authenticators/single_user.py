"""HTTP Basic authentication with one user from the configuration, as kafka-websocket-proxy has it
(websocket-proxy.md §1.3.2).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import Unauthorized
from kafka_gateway.session import Principal

NOT_SUPPLIED: Final = "The resource requires authentication, which was not supplied with the request"
INVALID: Final = "The supplied authentication is invalid"
_KEY: Final = "kafka.ws.proxy.server.basic-auth."


class SingleUserAuthenticator(Authenticator):
    """``authentication.method=SINGLE-USER``."""

    name = "SINGLE-USER"
    scheme = "basic"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._realm = config.text(_KEY + "realm")
        self._user = config.text(_KEY + "username")
        self._proof = f"{self._user}:{config.secret(_KEY + 'password')}".encode()
        escaped = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        self._challenge = f'Basic realm="{escaped}",charset=UTF-8'

    @property
    def challenge(self) -> str:
        return self._challenge

    def faults(self) -> Sequence[Fault]:
        found = [
            Fault(self._config.place(_KEY + name), _KEY + name, "must be set where basic-auth is enabled")
            for name, value in (
                ("realm", self._realm),
                ("username", self._user),
                ("password", self._config.secret(_KEY + "password")),
            )
            if not value
        ]
        if ":" in self._user:  # RFC 7617 §2
            found.append(Fault(self._config.place(_KEY + "username"), _KEY + "username", "must not contain a colon"))
        if not (self._realm.isascii() and self._realm.isprintable()):
            found.append(Fault(self._config.place(_KEY + "realm"), _KEY + "realm", "is not visible ASCII"))
        return found

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        scheme, _, token = headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized(NOT_SUPPLIED, self._challenge)
        try:
            given = base64.b64decode(token.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise Unauthorized(NOT_SUPPLIED, self._challenge) from None
        if not hmac.compare_digest(given, self._proof):
            raise Unauthorized(INVALID, self._challenge)
        return Principal(self._user)
