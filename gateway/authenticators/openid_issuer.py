"""One issuer of tokens: the address of its keys, and the keys.

They are fetched in the background, kept, and fetched again at an interval, also when a token names a key that is not
among them, but not more often than every few seconds: anybody can send tokens with made-up keys. While the provider
is down the keys that are known go on for a while, and no request waits long for one that does not answer. Nothing that
a token says is ever fetched.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import aiohttp
import jwt

from kafka_gateway.errors import Unavailable

log = logging.getLogger("gateway.auth")

_KEPT_S: Final = 300.0
_AGAIN_S: Final = 5.0
"""How often the provider is asked at most."""
_STALE_S: Final = 3600.0
"""How long keys go on while the provider is down."""
_FETCH_S: Final = 10.0
"""How long the provider may take for all that it is asked."""
_PATIENCE_S: Final = 2.0
"""How long requests wait for what the provider is asked, from the moment when it is asked on: those that come later
wait for the rest of it only, however many they are."""
_SIZE_MAX: Final = 1024 * 1024
"""Bytes of a document: a JWKS of so many has two thousand keys."""
DISCOVERY: Final = "/.well-known/openid-configuration"
"""Behind the issuer's URL (OpenID Connect Discovery 1.0, section 4)."""

_FAMILIES: Final[Mapping[str, tuple[str, str]]] = {
    **{f"{word}{size}": ("RSA", "") for word in ("RS", "PS") for size in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", ""),
}
"""Algorithm → type of key, and its curve (RFC 7518 §3.1, RFC 8037 §3.1)."""

BROKEN: Final = (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError)
"""What the library raises for tokens and keys that somebody made up."""


class ProviderUnreachable(Unavailable):
    text = "OpenID Connect server does not seem to be available."
    help = "Wait for the seconds in Retry-After, then send it again; the operator looks at the provider of the tokens."


class _Unusable(Exception):
    """What the provider answers cannot be used; the message says why, for the log."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSettings:
    """What one issuer's tokens must be, and where its keys are."""

    name: str
    """The claim ``iss`` of its tokens; "": whatever its discovery document says."""
    discovery_url: str = ""
    keys_url: str = ""
    """One of the two."""
    audience: Sequence[str]
    algorithms: Sequence[str]
    require_https: bool = True
    required: Sequence[str] = ("issuer", "jwks_uri")
    """Members that a discovery document must have."""
    prefix: str = ""
    """What stands before the names of its principals."""
    ignores_case: bool = False
    """Whether ids of keys are the same in any case, and every token names one (websocket-proxy.md §1.3.3)."""

    @property
    def url(self) -> str:
        """The URL that is fetched first."""
        return self.discovery_url or self.keys_url


class Key:
    """A public key, made from its JWK (RFC 7517) when a token needs it: a document may list thousands."""

    __slots__ = ("_made", "jwk", "retired")

    def __init__(self, jwk: dict[str, Any]) -> None:
        self.jwk = jwk
        self.retired = False
        """Whether the issuer does not list it any more."""
        self._made: dict[str, Any] = {}

    def verifies(self, algorithm: str) -> bool:
        """Whether signatures of this algorithm may be checked with it."""
        jwk, (kind, curve) = self.jwk, _FAMILIES[algorithm]
        operations = jwk.get("key_ops")
        return (
            jwk.get("kty") == kind
            and (not curve or jwk.get("crv") == curve)
            and jwk.get("use", "sig") == "sig"
            and jwk.get("alg", algorithm) == algorithm
            and (not isinstance(operations, list) or "verify" in operations)
        )

    def made(self, algorithm: str) -> Any:
        """What the library checks signatures with; None if the JWK is none."""
        if algorithm not in self._made:
            try:
                self._made[algorithm] = jwt.PyJWK(self.jwk, algorithm=algorithm).key
            except BROKEN as error:
                log.warning("a key of an OpenID provider cannot be used: %s", type(error).__name__)
                self._made[algorithm] = None
        return self._made[algorithm]


class Issuer:
    """Belongs to one event loop."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self._keys: dict[str | None, list[Key]] = {}
        """By id; None: those without one."""
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._failure: Callable[[], Unavailable] = ProviderUnreachable
        """What a client is told while there are no keys that count."""
        self._told = ""
        """What is wrong with the provider, as the log has it; empty while nothing is."""
        self._fetching: asyncio.Task[None] | None = None
        self._waits_until = 0.0
        """Until when requests wait for it, in the loop's time."""

    # --- keys -------------------------------------------------------------------------------------------------------

    async def have_keys(self) -> None:
        """Returns when there are keys that count, within ``_PATIENCE_S``. Unavailable."""
        if not self.is_usable:
            await self._refreshed()

    async def keys_for(self, key_id: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token whose head says so: seldom more than one. Within ``_PATIENCE_S``.

        Unavailable if there are no keys that count. A provider that has not said in time whether it has a key of this
        id has none for this token; the next one may find it.
        """
        if not self.is_usable:
            await self._refreshed()
        elif not self._is_fresh:
            self.refresh()  # the keys that are known go on meanwhile, however long the provider takes
        found = self._fitting(key_id, algorithm)
        if not found:
            await self._refreshed()
            found = self._fitting(key_id, algorithm)
        return found

    def _fitting(self, key_id: str | None, algorithm: str) -> list[Key]:
        if key_id is None:
            # A token may leave out the id where the issuer has one key (OpenID Connect Core 1.0, section 10.1).
            fitting = [key for keys in self._keys.values() for key in keys if key.verifies(algorithm)]
            return fitting if len(fitting) == 1 and not self.settings.ignores_case else []
        name = key_id.lower() if self.settings.ignores_case else key_id
        return [key for key in self._keys.get(name, ()) if key.verifies(algorithm)]

    def _take(self, document: dict[str, Any]) -> None:
        """Takes the keys of the document; a key that was there before stays the same object."""
        before = [key for keys in self._keys.values() for key in keys]
        known: dict[str, list[Key]] = {}
        for key in before:
            key.retired = True
            known.setdefault(str(key.jwk.get("kid")), []).append(key)
        taken: dict[str | None, list[Key]] = {}
        for jwk in _listed(document):
            same = next((key for key in known.get(str(jwk.get("kid")), ()) if key.jwk == jwk), None)
            key = same or Key(jwk)
            key.retired = False
            key_id = jwk.get("kid")
            name = key_id.lower() if isinstance(key_id, str) and self.settings.ignores_case else key_id
            taken.setdefault(name if isinstance(name, str) else None, []).append(key)
        self._keys = taken

    # --- asking the provider ----------------------------------------------------------------------------------------

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._fetched_at < _KEPT_S

    @property
    def is_usable(self) -> bool:
        """Whether its keys count, for they are not older than an hour."""
        return time.monotonic() - self._fetched_at < _STALE_S

    async def follow(self) -> None:
        """Keeps the keys fresh until it is cancelled, so that no request waits for the provider."""
        while True:
            if not self._is_fresh:
                self.refresh()
            await asyncio.sleep(_AGAIN_S if self._told else _AGAIN_S / 5)

    def ask_again(self) -> None:
        """Fetches the keys now, however fresh they are."""
        self._tried_at = float("-inf")
        self.refresh()

    def refresh(self) -> None:
        """Begins to fetch the keys, unless that is under way or was tried just now."""
        if self._fetching is None and time.monotonic() - self._tried_at >= _AGAIN_S:
            loop = asyncio.get_running_loop()
            self._waits_until = loop.time() + _PATIENCE_S
            self._fetching = loop.create_task(self._fetch(), name="fetch-openid-keys")
            self._fetching.add_done_callback(self._fetched)

    async def close(self) -> None:
        """Cancels what is being fetched."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def _refreshed(self) -> None:
        """Returns when the keys have been fetched, or have taken too long; callers at the same time share one
        request, which goes on without them.

        Raises Unavailable if there are no keys that count then.
        """
        self.refresh()
        if (fetching := self._fetching) is not None:
            left_s = self._waits_until - asyncio.get_running_loop().time()
            await asyncio.wait((fetching,), timeout=max(0.0, left_s))
        if not self.is_usable:
            raise self._failure()

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the keys of %s could not be taken", self.settings.url, exc_info=error)

    async def _fetch(self) -> None:
        url = self.settings.url
        try:
            async with asyncio.timeout(_FETCH_S):
                await self._load()
        except TimeoutError:
            self._failed(f"it has not answered within {_FETCH_S:.0f} s", ProviderUnreachable)
        except aiohttp.ClientConnectionError as error:
            self._failed(f"it cannot be reached ({type(error).__name__})", ProviderUnreachable)
        except (aiohttp.ClientError, _Unusable) as error:
            why = str(error) if isinstance(error, _Unusable) else f"it cannot be asked ({type(error).__name__})"
            self._failed(why, partial(Unavailable, f"Could not load {url}"))
        else:
            if self._told:
                log.info("%s answers again", url)
            self._failure, self._told = ProviderUnreachable, ""
        finally:
            self._tried_at = time.monotonic()

    def _failed(self, why: str, failure: Callable[[], Unavailable]) -> None:
        self._failure = failure
        if why != self._told:  # each reason once, not with every attempt
            self._told = why
            meanwhile = "the keys that are known go on" if self.is_usable else "its tokens get 503"
            log.warning("%s: %s; %s until that is mended", self.settings.url, why, meanwhile)

    async def _load(self) -> None:
        settings = self.settings
        name, uri = settings.name, settings.keys_url
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as client:  # `_fetch` has one
            if settings.discovery_url:
                discovery = await _get(client, settings.discovery_url)
                found, where = discovery.get("issuer"), discovery.get("jwks_uri")
                if any(not discovery.get(each) for each in settings.required) or not isinstance(where, str):
                    raise _Unusable("the document lacks what it must have")
                if name and found != name:  # OpenID Connect Discovery 1.0, section 4.3
                    raise _Unusable("the document is that of another issuer")
                name, uri = str(found), uri or where
            if settings.require_https and not uri.startswith("https://"):
                raise _Unusable("its jwks_uri is not https")
            document = await _get(client, uri)
        self.name = name
        self._take(document)
        self._fetched_at = time.monotonic()


def _listed(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    listed = document.get("keys")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict):
            yield each


async def _get(client: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """The JSON object at the URL. _Unusable, and what aiohttp raises."""
    shown = ascii(url[:200])
    async with client.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise _Unusable(f"{shown} is answered with HTTP {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(65536):
            body += chunk
            if len(body) > _SIZE_MAX:
                raise _Unusable(
                    f"the document at {shown} has more than {_SIZE_MAX} bytes, the limit: let the provider list "
                    "fewer keys there, or name a shorter list in authentication.openid.jwks.url"
                )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _Unusable(f"the answer at {shown} is no JSON object")
    return document
