"""What one client logs in to Kafka with."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import json
import time
from typing import Final

PASSWORD_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Those for which a name and a password are enough."""
BEARER: Final = "OAUTHBEARER"
_OPAQUE_S: Final = 3600.0
"""How long a token lasts that does not say it."""
_HEADER_MAX: Final = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A user's name and password, or a token with whom it belongs to. Nothing prints the secret."""

    mechanism: str
    user: str
    """The name in Kafka; of a token its principal in the gateway, as ``kind:name``, or "" if nobody here knows it."""
    secret: str = dataclasses.field(repr=False)

    def key(self, pepper: bytes) -> bytes:
        """Under what it is kept: equal for equal ones, and worth nothing without ``pepper``."""
        text = "\0".join((self.mechanism, self.user, self.secret))
        return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), "sha256")

    def set_key(self, pepper: bytes) -> bytes:
        """Under what its clients are kept: a newer token of the same principal means the same ones."""
        if self.mechanism == BEARER and self.user:
            return hmac.digest(pepper, f"token\0{self.user}".encode("utf-8", "surrogatepass"), "sha256")
        return self.key(pepper)

    @property
    def expires_at(self) -> float:
        """When the token ends, in seconds since 1970, as it says itself; an hour from now if it does not."""
        return token_expiry(self.secret) if self.mechanism == BEARER else time.time() + _OPAQUE_S


def of_header(text: str) -> tuple[str, str] | None:
    """Name and password of ``X-Kafka-Auth`` (websocket-proxy.md §1.3.4): Base64 of ``name:password``.

    None for what is no Base64 of UTF-8, or names nobody: it counts as absent. A leading ``Basic`` is tolerated.
    """
    text = text.strip()
    if text[:6].lower() == "basic ":
        text = text[6:].strip()
    if not text or len(text) > _HEADER_MAX:
        return None
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    if not name or "\0" in name + password:  # PLAIN separates its parts with it
        return None
    return name, password


def of_basic(authorization: str) -> tuple[str, str] | None:
    """Name and password of a Basic ``Authorization`` (RFC 7617); None if it is another one."""
    scheme, _, rest = authorization.strip().partition(" ")
    return of_header(rest) if scheme.lower() == "basic" else None


def of_bearer(authorization: str) -> str:
    """The token of a bearer's ``Authorization``; "" if it is another one."""
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.isascii() and token.isprintable() else ""


def token_expiry(token: str) -> float:
    """When a JWT ends, in seconds since 1970. Who judges the token does so elsewhere: this is only believed for when to
    ask again, and never for longer than an hour."""
    latest = time.time() + _OPAQUE_S
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return min(float(claims["exp"]), latest)
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return latest
