"""Bearer tokens of OpenID providers (security.md §2; RFC 7519, RFC 8725), and those that kafka-websocket-proxy takes
(websocket-proxy.md §1.3.3).

A token is judged by the keys of the issuer that it names, never by an id of a key alone: two issuers may use the same.
What was found right is remembered until it ends, so that its next request costs one look into a dictionary.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hmac
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import jwt

from kafka_gateway import jsonio
from kafka_gateway.auth import Authenticator
from kafka_gateway.authenticators.openid_issuer import BROKEN, DISCOVERY, Issuer, IssuerSettings, Key
from kafka_gateway.authenticators.single_user import INVALID, NOT_SUPPLIED
from kafka_gateway.config import Config, Fault
from kafka_gateway.errors import Unauthorized
from kafka_gateway.principal_prefixes import prefix_faults, principal_prefixes
from kafka_gateway.session import Principal
from kafka_gateway.settings.authentication_keys import ALGORITHMS

log = logging.getLogger("gateway.auth")

KEY: Final = "authentication.openid."
_PROXY_KEY: Final = "kafka.ws.proxy.server.openid-connect."
_PROXY_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
_PROXY_REQUIRED: Final = (
    "issuer",
    "jwks_uri",
    "authorization_endpoint",
    "token_endpoint",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
)
_TRUST_S: Final = 2.5
"""How long a client goes on before its token is looked at again: a key may have been taken back."""
_KNOWN_MAX: Final = 10_000
_KNOWN_BYTES_MAX: Final = 64 * 1024 * 1024
_TOKEN_MAX: Final = 16 * 1024
_NAME_MAX: Final = 1000
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""What a token may say that it is (RFC 7519 §5.1, RFC 9068 §2.1), in lower case. A provider signs others with the same
keys, for logouts say, and they let nobody in (RFC 8725 §3.11)."""


class OpenIdAuthenticator(Authenticator):
    """``authentication.method=OPENID``. Belongs to one event loop."""

    name = "OPENID"
    scheme = "bearer"
    query_parameter = "access_token"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._as_proxy = bool(config.text(_PROXY_KEY + "well-known-url")) and not config.items(KEY + "issuers")
        self._rules = _proxy_rules(config) if self._as_proxy else _rules(config)
        issuers = (_proxy_issuer(config),) if self._as_proxy else _issuers(config)
        self._issuers = [Issuer(each) for each in issuers]
        if self._as_proxy:
            self.unsure_max = config.integer(_PROXY_KEY + "revalidation-errors-limit")
            self.unsure_again_s = config.seconds(_PROXY_KEY + "revalidation-interval")
        self._secret = secrets.token_bytes(32)
        self._known: dict[bytes, _Known] = {}
        """Tokens that were found right, under an HMAC with a key of this process."""
        self._known_bytes = 0

    @property
    def challenge(self) -> str:
        return self._rules.challenge

    def faults(self) -> Sequence[Fault]:
        return _proxy_faults(self._config) if self._as_proxy else _faults(self._config)

    def reload(self) -> None:
        for each in self._issuers:
            each.ask_again()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(each.follow(), name=f"keys of {each.settings.url}") for each in self._issuers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in self._issuers:
                await each.close()

    # --- tokens -----------------------------------------------------------------------------------------------------

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        text = _token(headers)
        if not text:
            return None
        digest = hmac.digest(self._secret, text.encode("utf-8", "surrogateescape"), "sha256")
        known = self._known.get(digest)
        if known is None:
            return None
        if known.ends_at <= time.time() or known.key.retired:
            self._forget(digest)
            return None
        if not known.issuer.is_usable:
            return None
        return known.principal(self._rules.trust_s)

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        text = _token(headers)
        if not text:
            raise Unauthorized(NOT_SUPPLIED, self._rules.challenge)
        if (recalled := self.recall(headers)) is not None:
            return recalled
        known = await self._judge(text)
        digest = hmac.digest(self._secret, text.encode("utf-8", "surrogateescape"), "sha256")
        self._forget(digest)
        while self._known and (len(self._known) >= _KNOWN_MAX or self._known_bytes > _KNOWN_BYTES_MAX):
            self._forget(next(iter(self._known)))
        self._known[digest] = known
        self._known_bytes += known.size_bytes
        return known.principal(self._rules.trust_s)

    def _forget(self, digest: bytes) -> None:
        if (known := self._known.pop(digest, None)) is not None:
            self._known_bytes -= known.size_bytes

    async def _judge(self, text: str) -> _Known:
        """What a token says that is right. Unauthorized, Unavailable."""
        rules = self._rules
        if (
            self._as_proxy
        ):  # whatever the token is: while the provider is away, nobody can say (websocket-proxy.md §1.2)
            await self._issuers[0].have_keys()
        if len(text) > _TOKEN_MAX or not text.isascii() or text.count(".") != 2:
            raise self._invalid("it is no signed JWT")
        try:
            head, said = _HEADS.decode(_part(text, 0)), _CLAIMS.decode(_part(text, 1))
        except BROKEN as error:
            raise self._invalid(type(error).__name__) from None
        if head.typ.lower() not in _TYPES:
            raise self._invalid("it is of another type than JWT and at+jwt")
        algorithm = head.alg
        if algorithm not in rules.algorithms:
            raise self._invalid("its algorithm is not taken")
        issuer = self._issuer_of(said.iss)
        if issuer is None:
            raise self._invalid("its issuer is unknown")
        if said.exp + rules.leeway_s <= time.time():
            # Whoever has signed it, and also while no provider answers: everything opened with it ends.
            raise self._invalid("it has ended")
        keys = await issuer.keys_for(head.kid, algorithm)
        refusal = "its key is unknown"
        for key in keys:
            made = key.made(algorithm)
            if made is None:
                continue
            try:
                claims: dict[str, Any] = jwt.decode(
                    text,
                    made,
                    algorithms=[algorithm],
                    audience=list(rules.audience),
                    issuer=issuer.name,
                    leeway=rules.leeway_s,
                    options={"verify_iat": False, "require": ["exp"] if rules.require_exp else []},
                )
            except BROKEN as error:
                refusal = type(error).__name__
                continue
            return self._known_of(claims, said.exp + rules.leeway_s, issuer, key, len(text))
        raise self._invalid(refusal)

    def _issuer_of(self, named: str) -> Issuer | None:
        """The issuer that the token names. The one of kafka-websocket-proxy is known by its document only."""
        if self._as_proxy:
            return self._issuers[0]
        return next((each for each in self._issuers if each.name == named), None)

    def _known_of(self, claims: dict[str, Any], ends_at: float, issuer: Issuer, key: Key, size: int) -> _Known:
        rules, whole = self._rules, Principal("", attributes=claims)
        name = whole.attribute(rules.principal_claim)
        if self._as_proxy:
            name = str(name or "token")
        if not isinstance(name, str) or not name or len(name) > _NAME_MAX or not name.isprintable():
            raise self._invalid(f"its claim {rules.principal_claim} names nobody")
        roles = whole.attribute(rules.roles_claim) if rules.roles_claim else None
        words = roles.replace(",", " ").split() if isinstance(roles, str) else roles if isinstance(roles, list) else ()
        named = Principal(
            issuer.settings.prefix + name, frozenset(each for each in words if isinstance(each, str)), attributes=claims
        )
        return _Known(named, ends_at, issuer, key, 4 * size)

    def _invalid(self, why: str) -> Unauthorized:
        log.info("refused a token: %s", why)
        return Unauthorized(INVALID, self._rules.challenge)


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """A token that was found right."""

    named: Principal
    ends_at: float
    """Seconds since 1970."""
    issuer: Issuer
    key: Key
    size_bytes: int
    """About what it takes."""

    def principal(self, trust_s: float) -> Principal:
        named, left = self.named, self.ends_at - time.time()
        until = time.monotonic() + min(left, trust_s)
        return Principal(named.name, named.roles, until, attributes=named.attributes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What holds for the tokens of all issuers."""

    audience: Sequence[str]
    algorithms: frozenset[str]
    principal_claim: str
    roles_claim: str
    leeway_s: float
    require_exp: bool
    trust_s: float
    """After which time a token is looked at again."""
    challenge: str


def _token(headers: Mapping[str, str]) -> str:
    """The bearer's token; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclasses.dataclass(slots=True)
class _Head:
    """What the gateway reads of a token's head (RFC 7515 §4.1), each of its type; the library reads the rest."""

    alg: str
    kid: str | None = None
    typ: str = ""


@dataclasses.dataclass(slots=True)
class _Claims:
    """What the gateway reads of a token's claims before it has asked for a key, true or not (RFC 7519 §4.1)."""

    iss: str = ""
    exp: float = math.inf
    nbf: float = 0.0
    iat: float = 0.0


_HEADS: Final = jsonio.Decoder(_Head)
_CLAIMS: Final = jsonio.Decoder(_Claims)


def _part(text: str, place: int) -> bytes:
    """A part of a token, decoded. ValueError."""
    part = text.split(".")[place]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _challenge(realm: str) -> str:
    escaped = realm.replace("\\", "\\\\").replace('"', '\\"')
    return f'Bearer realm="{escaped}"'


# --- the gateway's own keys ---------------------------------------------------------------------------------------


def _rules(config: Config) -> _Rules:
    return _Rules(
        audience=config.items(KEY + "audience"),
        algorithms=frozenset(config.items(KEY + "algorithms")),
        principal_claim=config.text(KEY + "principal.claim"),
        roles_claim=config.text(KEY + "roles.claim"),
        leeway_s=config.seconds(KEY + "leeway.ms"),
        require_exp=config.flag(KEY + "require.exp"),
        trust_s=_TRUST_S,
        challenge=_challenge(config.text("authentication.realm")),
    )


def _issuers(config: Config) -> list[IssuerSettings]:
    names, urls, prefixes = config.items(KEY + "issuers"), config.items(KEY + "jwks.url"), principal_prefixes(config)
    return [
        IssuerSettings(
            name=name,
            prefix=prefixes[number] if number < len(prefixes) else "",
            discovery_url="" if urls else name.rstrip("/") + DISCOVERY,
            keys_url=urls[number] if number < len(urls) else "",
            audience=config.items(KEY + "audience"),
            algorithms=config.items(KEY + "algorithms"),
            require_https=config.flag(KEY + "require.https"),
        )
        for number, name in enumerate(names)
    ]


def _faults(config: Config) -> list[Fault]:
    found = []

    def fault(name: str, message: str) -> None:
        found.append(Fault(config.place(KEY + name), KEY + name, message))

    issuers, urls = config.items(KEY + "issuers"), config.items(KEY + "jwks.url")
    if not issuers:
        fault("issuers", "names no issuer, and authentication.method=OPENID needs one")
    if not config.items(KEY + "audience"):
        fault("audience", "names no audience: the tokens of other services would be taken")
    if urls and len(urls) != len(issuers):
        fault("jwks.url", f"names {len(urls)} URLs for {len(issuers)} issuers")
    if len(set(issuers)) != len(issuers):
        fault("issuers", "names an issuer twice")
    for name, values in (("issuers", issuers), ("jwks.url", urls)):
        for url in values:
            if not url.startswith(("https://", "http://")):
                fault(name, f"{url[:200]!r} is not https://…")
            elif config.flag(KEY + "require.https") and not url.startswith("https://"):
                fault(name, f"{url[:200]!r} is not https ({KEY}require.https)")
    if unknown := [each for each in config.items(KEY + "algorithms") if each not in ALGORITHMS]:
        fault("algorithms", f"{unknown[0][:50]!r} is none of {', '.join(ALGORITHMS)}")
    if not config.items(KEY + "algorithms"):
        fault("algorithms", "names none")
    if not config.text(KEY + "principal.claim"):
        fault("principal.claim", "names no claim")
    return found + prefix_faults(config)


# --- those of kafka-websocket-proxy -------------------------------------------------------------------------------


def _proxy_rules(config: Config) -> _Rules:
    return _Rules(
        audience=(config.text(_PROXY_KEY + "audience"),),
        algorithms=frozenset(_PROXY_ALGORITHMS),
        principal_claim="sub",
        roles_claim="",
        leeway_s=0,
        require_exp=False,
        trust_s=config.seconds(_PROXY_KEY + "revalidation-interval"),
        challenge=_challenge(config.text(_PROXY_KEY + "realm")),
    )


def _proxy_issuer(config: Config) -> IssuerSettings:
    return IssuerSettings(
        name="",
        discovery_url=config.text(_PROXY_KEY + "well-known-url"),
        audience=(config.text(_PROXY_KEY + "audience"),),
        algorithms=_PROXY_ALGORITHMS,
        require_https=config.flag(_PROXY_KEY + "require-https"),
        required=_PROXY_REQUIRED,
        ignores_case=True,
    )


def _proxy_faults(config: Config) -> list[Fault]:
    found = [
        Fault(config.place(_PROXY_KEY + name), _PROXY_KEY + name, "must be set where openid-connect is enabled")
        for name in ("well-known-url", "audience")
        if not config.text(_PROXY_KEY + name)
    ]
    realm = config.text(_PROXY_KEY + "realm")
    if not (realm.isascii() and realm.isprintable()):
        found.append(Fault(config.place(_PROXY_KEY + "realm"), _PROXY_KEY + "realm", "is not visible ASCII"))
    return found
