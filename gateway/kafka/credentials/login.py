"""How librdkafka's clients of one credential log in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import confluent_kafka

from kafka_gateway.kafka.credentials.credential import BEARER, Credential

_REFUSED: Final = frozenset(
    {confluent_kafka.KafkaError._AUTHENTICATION, confluent_kafka.KafkaError.SASL_AUTHENTICATION_FAILED}
)


class CredentialLogin:
    """`kafka_gateway.kafka.clients.factory.Login`. librdkafka's threads call back into it."""

    def __init__(self, newest: Callable[[], Credential], refused: Callable[[], None]) -> None:
        """
        Args:
            newest: the credentials as they are now: tokens are renewed.
            refused: is called, on any thread, when a broker refuses them: a password was changed, a user removed.
        """
        self._newest = newest
        self._refused = refused

    def settings(self) -> dict[str, Any]:
        """librdkafka's properties. They hold the secret: for no log."""
        credential = self._newest()
        found: dict[str, Any] = {"sasl.mechanism": credential.mechanism, "error_cb": self._error}
        if credential.mechanism == BEARER:
            return found | {"oauth_cb": self._token}
        return found | {"sasl.username": credential.user, "sasl.password": credential.secret}

    def _token(self, config: str) -> tuple[str, float]:
        """The token and when it ends. librdkafka asks again at four fifths of that time, and later if it fails."""
        credential = self._newest()
        expires_at = credential.expires_at
        if expires_at <= time.time():
            raise RuntimeError("the client's token has ended, and it has not brought another one")
        return credential.secret, expires_at

    def _error(self, error: confluent_kafka.KafkaError) -> None:
        if error.code() in _REFUSED:
            self._refused()
