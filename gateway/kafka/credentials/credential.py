"""What one client logs in to Kafka with."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json
import operator
import time
from typing import Any, Final

PASSWORD_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Those for which a name and a password are enough."""
BEARER: Final = "OAUTHBEARER"
_OPAQUE_S: Final = 3600.0
"""How long a token lasts that does not say it."""
_HEADER_MAX: Final = 8192
_OF_ONE_TOKEN: Final = frozenset(
    {
        *("exp", "iat", "nbf", "auth_time", "jti", "sid", "session_state", "at_hash", "c_hash"),
        *("uti", "aio", "rh"),  # Entra ID
        *("origin_jti", "event_id"),  # Cognito
    }
)
"""Claims that issuers set anew with each token or login of the same user: times, and names of the token or login
(RFC 7519 §4.1; OpenID Connect Core 1.0, sections 2 and 3.1.3.6). A client chooses none of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A user's name and password, or a token with whom it belongs to. Nothing prints the secret."""

    mechanism: str
    user: str
    """The name in Kafka; of a token its principal in the gateway, as ``kind:name``, or "" if nobody here knows it. It
    tells no two tokens apart: Kafka may go by another claim."""
    secret: str = dataclasses.field(repr=False)

    def key(self, pepper: bytes) -> bytes:
        """Under what it is kept: equal for equal ones, and worth nothing without ``pepper``."""
        text = "\0".join((self.mechanism, self.user, self.secret))
        return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), "sha256")

    def set_key(self, pepper: bytes) -> bytes:
        """Under what its clients are kept: a newer token of whom Kafka takes for the same user means the same ones."""
        if bearer := self._bearer:
            return hmac.digest(pepper, f"token\0{self.user}\0{bearer}".encode("utf-8", "surrogatepass"), "sha256")
        return self.key(pepper)

    def label(self, set_key: bytes) -> str:
        """By what the owner of these credentials is known, and told from others: for logs, and for descriptions of
        instances, which other processes read. Of a JWT it is the same in all processes."""
        if self.mechanism != BEARER:
            return self.user
        return f"{self.user or 'token'}#{self._bearer[:24] or set_key.hex()[:24]}"

    @property
    def _bearer(self) -> str:
        """`bearer_of` of the token; "" for a password."""
        return bearer_of(self.secret) if self.mechanism == BEARER else ""

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


def bearer_of(token: str) -> str:
    """Whose a JWT is: a digest of all that it claims but what is different in each token of the same user.

    Kafka may go by any claim (``sasl.oauthbearer.sub.claim.name``, validators, authorizers), and which is unknown here:
    tokens of one user that differ in another claim count as two users'. "" for what is no JWT (RFC 7519 §3).
    """
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    try:
        text = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True).decode()
        claims = json.loads(text, object_pairs_hook=_Members)
        if not isinstance(claims, _Members):
            return ""
        lasting = [each for each in claims if each[0] not in _OF_ONE_TOKEN]
        return hashlib.sha256(repr(lasting).encode("utf-8", "surrogatepass")).hexdigest()
    except (ValueError, RecursionError):
        return ""


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object by name. One that is there twice stays so: of the two, Kafka may take another."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(sorted(pairs, key=operator.itemgetter(0)))

    def __repr__(self) -> str:
        return f"{{{super().__repr__()}}}"  # an object is no list of pairs
