"""Bearer tokens of an OpenID provider, as kafka-websocket-proxy takes them (websocket-proxy.md §1.3.3).

The provider's discovery document and keys are fetched when a token needs them and kept for a while. A token with a key
that is not among them makes the gateway look again, though not more often than every few seconds; and while the
provider is down, the keys that are known go on. Nothing that a token says is ever fetched or trusted before its
signature is found right.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import jwt

from kafka_gateway.auth import Authenticator
from kafka_gateway.authenticators.single_user import INVALID, NOT_SUPPLIED
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import Unauthorized, Unavailable
from kafka_gateway.session import Principal

log = logging.getLogger("gateway.auth")

_KEY: Final = "kafka.ws.proxy.server.openid-connect."
_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
_KEPT_S: Final = 300.0
_AGAIN_S: Final = 5.0
"""How often the provider is asked at most: anybody can send tokens with made-up keys."""
_STALE_S: Final = 3600.0
"""How long keys go on while the provider is down."""
_BROKEN = (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError)
"""What the library raises for tokens that somebody made up."""
_KNOWN_MAX: Final = 10_000
_FETCH_S: Final = 10.0
_SIZE_MAX: Final = 1024 * 1024
_REQUIRED: Final = (
    "issuer",
    "jwks_uri",
    "authorization_endpoint",
    "token_endpoint",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
)


def _token(headers: Mapping[str, str]) -> str:
    """The bearer's token; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class ProviderUnreachable(Unavailable):
    text = "OpenID Connect server does not seem to be available."


class OpenIdAuthenticator(Authenticator):
    """``authentication.method=OPENID``. Belongs to one event loop."""

    name = "OPENID"
    query_parameter = "access_token"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._url = config.text(_KEY + "well-known-url")
        self._audience = config.text(_KEY + "audience")
        self._realm = config.text(_KEY + "realm")
        self._require_https = config.flag(_KEY + "require-https")
        self._again_s = config.seconds(_KEY + "revalidation-interval")
        escaped = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        self._challenge = f'Bearer realm="{escaped}"'
        self._issuer = ""
        self._keys: dict[str, tuple[Any, list[str]]] = {}
        """By id in lower case: the key, and the algorithms it is for."""
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failure: Unavailable | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[dict[str, Any], str, Any]] = {}
        """Tokens that were found right, under an HMAC with a key of this process: what they say, and their key."""

    def faults(self) -> Sequence[Fault]:
        found = [
            Fault(self._config.place(_KEY + name), _KEY + name, "must be set where openid-connect is enabled")
            for name, value in (("well-known-url", self._url), ("audience", self._audience))
            if not value
        ]
        if not (self._realm.isascii() and self._realm.isprintable()):
            found.append(Fault(self._config.place(_KEY + "realm"), _KEY + "realm", "is not visible ASCII"))
        return found

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        token = _token(headers)
        known = self._known.get(hmac.digest(self._secret, token.encode(), "sha256")) if token else None
        if known is None or not self._is_usable():
            return None
        claims, key_id, key = known
        if claims.get("exp", math.inf) <= time.time() or self._keys.get(key_id, (None,))[0] is not key:
            return None
        if not self._is_fresh():
            self._refresh()
        return self._principal(claims)

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        token = _token(headers)
        if not token:
            raise Unauthorized(NOT_SUPPLIED, self._challenge)
        if (known := self.recall(headers)) is not None:
            return known
        key_id, key, claims = await self._claims(token)
        if len(self._known) >= _KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[hmac.digest(self._secret, token.encode(), "sha256")] = (claims, key_id, key)
        return self._principal(claims)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        now = time.time()
        until = min(claims.get("exp", now + self._again_s), now + self._again_s)
        return Principal(str(claims.get("sub") or "token"), until=time.monotonic() + until - now)

    async def _claims(self, token: str) -> tuple[str, Any, dict[str, Any]]:
        """The id of the key and the key with which the token is signed, and what it says. Unauthorized, Unavailable."""
        if not self._is_usable():
            await self._refreshed()
        elif not self._is_fresh():
            self._refresh()  # the keys that are known go on meanwhile, however long the provider takes
        try:
            key_id = str(jwt.get_unverified_header(token)["kid"]).lower()
        except (*_BROKEN, KeyError):
            raise self._invalid() from None
        if key_id not in self._keys:
            await self._refreshed()
        if key_id not in self._keys:
            raise self._invalid()
        key, algorithms = self._keys[key_id]
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options={"verify_iat": False},
            )
        except _BROKEN as error:
            log.info("refused a token: %s", type(error).__name__)
            raise self._invalid() from None
        return key_id, key, claims

    def _invalid(self) -> Unauthorized:
        return Unauthorized(INVALID, self._challenge)

    # --- the provider's keys ----------------------------------------------------------------------------------------

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._fetched_at < _KEPT_S

    def _is_usable(self) -> bool:
        return time.monotonic() - self._fetched_at < _STALE_S

    def _refresh(self) -> None:
        """Begins to fetch the keys, unless that is under way or was tried just now."""
        if self._fetching is None and time.monotonic() - self._tried_at >= _AGAIN_S:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), name="fetch-openid-keys")
            self._fetching.add_done_callback(self._fetched)

    async def _refreshed(self) -> None:
        """Returns when the keys have been fetched; all who ask at the same time share one flight.

        Raises Unavailable if that failed and there are no keys that could go on.
        """
        self._refresh()
        fetching = self._fetching
        if fetching is None:
            if self._failure is not None and not self._is_usable():
                raise self._failure
            return
        try:
            await asyncio.shield(fetching)
        except Unavailable:
            if not self._is_usable():
                raise

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # all who asked may have gone

    async def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            await self._load()
            self._failure = None
        except Unavailable as error:
            self._failure = error
            raise
        finally:
            self._tried_at = time.monotonic()

    async def _load(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_FETCH_S)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            discovery = await _get(client, self._url, self._url)
            uri = discovery.get("jwks_uri")
            if any(not discovery.get(name) for name in _REQUIRED) or not isinstance(uri, str):
                raise Unavailable(f"Could not load {self._url}")
            if self._require_https and not uri.startswith("https://"):
                log.error("the provider's jwks_uri is not https (%srequire-https)", _KEY)
                raise Unavailable(f"Could not load {self._url}")
            keys = await _get(client, uri, self._url)
        self._issuer = str(discovery["issuer"])
        self._keys = _rsa_keys(keys)
        self._fetched_at = time.monotonic()


async def _get(client: aiohttp.ClientSession, url: str, shown: str) -> dict[str, Any]:
    try:
        async with client.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise Unavailable(f"Could not load {shown}")
            body = b""
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > _SIZE_MAX:
                    raise Unavailable(f"Could not load {shown}")
            document = json.loads(body)
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        log.warning("the OpenID provider cannot be reached: %s", type(error).__name__)
        raise ProviderUnreachable() from None
    except (aiohttp.ClientError, ValueError):
        raise Unavailable(f"Could not load {shown}") from None
    if not isinstance(document, dict):
        raise Unavailable(f"Could not load {shown}")
    return document


def _rsa_keys(document: dict[str, Any]) -> dict[str, tuple[Any, list[str]]]:
    """The keys for signatures, by id."""
    found: dict[str, tuple[Any, list[str]]] = {}
    listed = document.get("keys")
    for each in listed if isinstance(listed, list) else ():
        if not isinstance(each, dict) or each.get("kty") != "RSA" or each.get("use", "sig") != "sig":
            continue
        key_id, algorithm = each.get("kid"), each.get("alg")
        if isinstance(key_id, str) and algorithm in (None, *_ALGORITHMS):
            try:
                key = jwt.PyJWK(each, algorithm="RS256").key
            except _BROKEN as error:
                log.warning("a key of the OpenID provider cannot be used: %s", type(error).__name__)
                continue
            found[key_id.lower()] = (key, [algorithm] if algorithm else list(_ALGORITHMS))
    return found
