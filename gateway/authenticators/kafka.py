"""Basic credentials that Kafka judges: the gateway has no list of users (security.md §2, method KAFKA)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import KafkaLoginRefused, Unauthorized, Unavailable
from kafka_gateway.session import Principal

_TRUST_S: Final = 2.5
"""How long a client goes on before it is asked for again, which costs a lookup: what Kafka has refused meanwhile is out
within five seconds (security.md §2)."""


class PasswordJudge(Protocol):
    """Kafka, asked whether it takes a name and a password."""

    def recall(self, user: str, password: str) -> float | None:
        """Until when they are good, by time.monotonic(); None if that is not known. KafkaLoginRefused."""

    async def judge(self, user: str, password: str) -> float:
        """As ``recall``, asking if need be. Unavailable while Kafka cannot say."""


class KafkaAuthenticator(Authenticator):
    """``authentication.method=KAFKA``. Belongs to one event loop."""

    name = "KAFKA"
    scheme = "basic"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._realm = config.text("authentication.realm")
        escaped = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        self._challenge = f'Basic realm="{escaped}", charset="UTF-8"'
        self.passwords: PasswordJudge | None = None
        """Set before the first client is let in."""

    @property
    def challenge(self) -> str:
        return self._challenge

    def faults(self) -> Sequence[Fault]:
        if self._realm.isascii() and self._realm.isprintable():
            return ()
        place = self._config.place("authentication.realm")
        return (Fault(place, "authentication.realm", "is not visible ASCII"),)

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        pair = _pair(headers)
        if pair is None or self.passwords is None:
            return None
        try:
            until = self.passwords.recall(*pair)
        except KafkaLoginRefused:
            return None  # ``authenticate`` says so
        return self._principal(pair[0], until) if until is not None else None

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        pair = _pair(headers)
        if pair is None:
            raise Unauthorized(None, self._challenge)
        if self.passwords is None:
            raise Unavailable("The gateway is starting; send this again later.")
        try:
            return self._principal(pair[0], await self.passwords.judge(*pair))
        except KafkaLoginRefused as error:
            raise Unauthorized(error.message, self._challenge) from None

    @staticmethod
    def _principal(user: str, until: float) -> Principal:
        return Principal(user, until=min(until, time.monotonic() + _TRUST_S))


def _pair(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and password (RFC 7617 §2); None if there are none that Kafka could judge."""
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if user and colon and "\0" not in user + password else None
