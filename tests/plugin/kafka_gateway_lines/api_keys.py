"""Clients that show a key in the header ``X-Api-Key``."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import Unauthorized
from kafka_gateway.session import Principal

_KEYS = "authentication.apikey.keys"


class ApiKeyAuthenticator(Authenticator):
    name = "APIKEY"
    proof = ("x-api-key",)

    def __init__(self, config: Config) -> None:
        entries = (entry.strip().partition(":") for entry in config.secret(_KEYS).split(","))
        self._keys = {name: key.encode() for name, _, key in entries if name and key}

    def faults(self) -> Sequence[Fault]:
        return () if self._keys else [Fault("", _KEYS, "holds no NAME:KEY, and authentication.method=APIKEY needs one")]

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        shown = headers.get("x-api-key", "").encode()
        # Every key is compared, and each in constant time, so that the time of an answer tells nothing.
        found = [name for name, key in self._keys.items() if hmac.compare_digest(shown, key)]
        if not found:
            raise Unauthorized("X-Api-Key is missing or wrong.")
        return Principal(found[0])
