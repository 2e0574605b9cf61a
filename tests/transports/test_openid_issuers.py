"""Tokens of several issuers, with keys of all kinds: what is taken, what is refused (security.md §2)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from kafka_gateway.authenticators import openid_issuer
from kafka_gateway.authenticators.openid import OpenIdAuthenticator
from kafka_gateway.commands.start_notes import start_notes
from kafka_gateway.config import ConfigError, load
from kafka_gateway.errors import Unauthorized, Unavailable
from kafka_gateway.session import Principal
from tests.keys import BUILTIN_KEYS
from tests.transports.conftest import gateway
from tests.waiting import PATIENCE_S, until

KEY = "authentication.openid."
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384, P521 = (ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
ED25519 = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str | None = "one", **more: Any) -> dict[str, Any]:
    kind: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    algorithm = next(made for private, made in kind.items() if isinstance(key, private))
    found = json.loads(algorithm.to_jwk(key.public_key()))
    return found | ({"kid": kid} if kid is not None else {}) | more


class Provider:
    """Answers whatever stands in it, and counts."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: list[dict[str, Any]] = list(keys)
        self.asked: list[str] = []
        self.answer: Callable[[str], web.Response] | None = None
        """Instead of the documents."""
        self.holds: asyncio.Event | None = None
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(app)
        self.url = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.holds is not None:
            await self.holds.wait()
        if self.answer is not None:
            return self.answer(request.path)
        if request.path.endswith("openid-configuration"):
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        return web.json_response({"keys": self.keys})

    def token(self, key: Any = RSA, alg: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
        claims = {"iss": self.url, "aud": "kafka", "sub": "ann", "exp": time.time() + 60, **claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid} if kid is not None else {})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided(jwk(RSA)) as made:
        yield made


@contextlib.asynccontextmanager
async def provided(*keys: dict[str, Any]) -> AsyncIterator[Provider]:
    made = Provider(*keys)
    await made.server.start_server()
    made.url = str(made.server.make_url("")).rstrip("/")
    try:
        yield made
    finally:
        await made.server.close()


def settings(*providers: Provider, **more: Any) -> dict[str, Any]:
    given = {"issuers": ",".join(each.url for each in providers), "audience": "kafka", "require.https": "false"}
    changed = {name.replace("_", "."): value for name, value in more.items()}
    return {KEY + name: value for name, value in {**given, **changed}.items()}


def authenticator(*providers: Provider, **more: Any) -> OpenIdAuthenticator:
    config = load(BUILTIN_KEYS, overrides=[f"{name}={value}" for name, value in settings(*providers, **more).items()])
    made = OpenIdAuthenticator(config)
    assert made.faults() == []
    return made


async def ask(asked: OpenIdAuthenticator, token: str) -> Principal:
    return await asked.authenticate({"authorization": f"Bearer {token}"}, "peer")


ALGORITHMS = {
    "RS256": RSA, "RS512": RSA, "PS256": RSA, "PS512": RSA,
    "ES256": P256, "ES384": P384, "ES512": P521, "EdDSA": ED25519,
}  # fmt: skip


@pytest.mark.parametrize("alg", ALGORITHMS)
async def test_algorithms(provider: Provider, alg: str) -> None:
    key = ALGORITHMS[alg]
    provider.keys = [jwk(key)]
    asked = authenticator(provider)
    assert (await ask(asked, provider.token(key, alg))).name == "ann"
    left_out = ",".join(each for each in ALGORITHMS if each != alg)
    with pytest.raises(Unauthorized):
        await ask(authenticator(provider, algorithms=left_out), provider.token(key, alg))


async def test_two_issuers_with_keys_of_one_name() -> None:
    """Neither can sign for the other, whatever their keys are called."""
    async with provided(jwk(RSA)) as one, provided(jwk(OTHER_RSA)) as two:
        asked = authenticator(one, two)
        assert (await ask(asked, one.token(RSA))).name == "ann"
        assert (await ask(asked, two.token(OTHER_RSA, sub="bob"))).name == "bob"
        for token in (one.token(OTHER_RSA), two.token(RSA), two.token(RSA, iss=one.url + "/"), one.token(iss=None)):
            with pytest.raises(Unauthorized):
                await ask(asked, token)


async def test_principals_of_two_issuers_are_told_apart() -> None:
    async with provided(jwk(RSA)) as one, provided(jwk(OTHER_RSA)) as two:
        asked = authenticator(one, two, principal_prefix="-,partners.")
        assert (await ask(asked, one.token(RSA))).name == "ann"
        assert (await ask(asked, two.token(OTHER_RSA))).name == "partners.ann"
        config = load(BUILTIN_KEYS, overrides=[f"{k}={v}" for k, v in settings(one, two, principal_prefix="a").items()])
        assert [fault.key for fault in OpenIdAuthenticator(config).faults()] == [f"{KEY}principal.prefix"]


@pytest.mark.parametrize(
    ("methods", "issuers", "prefixes", "alike"),
    [
        ("OPENID", "https://a,https://b", "", [("https://a", "https://b")]),
        ("OPENID", "https://a,https://b", "-,b.", [("https://a", "https://b")]),
        ("OPENID", "https://a,https://b", "x.,x.y.", [("https://a", "https://b")]),
        ("OPENID", "https://a,https://b", "a.,b.", []),
        ("OPENID,NONE", "https://a", "", []),
        ("BASIC,OPENID,KAFKA", "https://a", "", [("https://a", "BASIC"), ("https://a", "KAFKA")]),
        ("BASIC", "https://a,https://b", "", []),
    ],
)
def test_sources_of_the_same_names_are_warned_of(
    methods: str, issuers: str, prefixes: str, alike: list[tuple[str, str]]
) -> None:
    given = {"authentication.method": methods, f"{KEY}issuers": issuers, f"{KEY}principal.prefix": prefixes}
    notes = start_notes(load(BUILTIN_KEYS).with_values(given))
    told = [each for each in notes if "principals of the same name" in each]
    assert [tuple(each.split(" can ")[0].split(" and ")) for each in told] == alike


async def test_one_name_for_keys_of_two_kinds(provider: Provider) -> None:
    provider.keys = [jwk(P256), jwk(OTHER_RSA, use="enc"), jwk(RSA)]
    asked = authenticator(provider)
    assert (await ask(asked, provider.token(P256, "ES256"))).name == "ann"
    assert (await ask(asked, provider.token(RSA))).name == "ann"
    with pytest.raises(Unauthorized):
        await ask(asked, provider.token(OTHER_RSA))


async def test_no_key_id(provider: Provider) -> None:
    asked = authenticator(provider)
    assert (await ask(asked, provider.token(kid=None))).name == "ann"
    provider.keys = [jwk(RSA, None), jwk(OTHER_RSA, "two")]
    with pytest.raises(Unauthorized):  # which of them, nobody knows
        await ask(authenticator(provider), provider.token(kid=None))


CLAIMS: dict[str, dict[str, Any]] = {
    "no end": {"exp": None},
    "ended": {"exp": 1},
    "not yet": {"nbf": 10**10},
    "other audience": {"aud": "else"},
    "no audience": {"aud": None},
    "no name": {"sub": None},
    "a number for a name": {"sub": ["ann"]},
    "empty name": {"sub": ""},
    "name with control characters": {"sub": "ann\nbob"},
    "name without end": {"sub": "a" * 1001},
    "issuer that is no text": {"iss": 7},
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_claims_that_are_refused(provider: Provider, name: str) -> None:
    claims = CLAIMS[name]
    token = provider.token(**claims) if name != "issuer that is no text" else unsigned({"iss": 7}, "RS256")
    with pytest.raises(Unauthorized) as error:
        await ask(authenticator(provider), token)
    assert error.value.headers[0][1].startswith("Bearer realm=")


def unsigned(claims: dict[str, Any], alg: str) -> str:
    parts = ({"alg": alg, "kid": "one"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts) + ".aa"


async def test_confused_algorithms(provider: Provider) -> None:
    """The public key is no secret: what is "signed" with it as one is nobody's (RFC 8725 §2.1)."""
    asked = authenticator(provider)
    claims = {"iss": provider.url, "aud": "kafka", "sub": "ann", "exp": time.time() + 60}
    secret = "x" * 64
    for token in (
        jwt.encode(claims, secret, "HS256", headers={"kid": "one"}),
        unsigned(claims, "none"),
        unsigned(claims, "RS256"),
        unsigned(claims, ["RS256"]),  # type: ignore[arg-type]
    ):
        with pytest.raises(Unauthorized):
            await ask(asked, token)
    with pytest.raises(ConfigError):
        async with gateway(**settings(provider, algorithms="RS256,HS256"), **{"authentication.method": "OPENID"}):
            pass


async def test_names_roles_and_claims(provider: Provider) -> None:
    asked = authenticator(provider, principal_claim="preferred_username", roles_claim="realm_access.roles")
    token = provider.token(preferred_username="ann.lee", realm_access={"roles": ["a", "b", 7]}, tenant="t1")
    found = await ask(asked, token)
    assert (found.name, found.roles, found.attribute("tenant")) == ("ann.lee", {"a", "b"}, "t1")
    asked = authenticator(provider, roles_claim="scope")
    assert (await ask(asked, provider.token(scope="read write"))).roles == {"read", "write"}


async def test_leeway_and_tokens_without_an_end(provider: Provider) -> None:
    late = provider.token(exp=time.time() - 5)
    with pytest.raises(Unauthorized):
        await ask(authenticator(provider), late)
    assert (await ask(authenticator(provider, leeway_ms=30_000), late)).name == "ann"
    assert (await ask(authenticator(provider, require_exp="false"), provider.token(exp=None))).name == "ann"


async def test_keys_that_are_named_in_the_configuration(provider: Provider) -> None:
    asked = authenticator(provider, jwks_url=f"{provider.url}/elsewhere")
    assert (await ask(asked, provider.token())).name == "ann"
    assert provider.asked == ["/elsewhere"]


async def test_rotation_of_keys(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    asked = authenticator(provider)
    old = provider.token()
    await ask(asked, old)
    provider.keys.append(jwk(OTHER_RSA, "two"))
    assert (await ask(asked, provider.token(OTHER_RSA, kid="two"))).name == "ann"
    assert asked.recall({"authorization": f"Bearer {old}"}) is not None  # its key is still there
    provider.keys.pop(0)
    with pytest.raises(Unauthorized):
        await ask(asked, provider.token(kid="three"))  # has the keys fetched again
    assert asked.recall({"authorization": f"Bearer {old}"}) is None
    with pytest.raises(Unauthorized):
        await ask(asked, old)


ANSWERS: dict[str, Callable[[str], web.Response]] = {
    "HTML": lambda path: web.Response(text="<html>Log in</html>", content_type="text/html"),
    "a list": lambda path: web.json_response([]),
    "deep JSON": lambda path: web.Response(body=b"[" * 100_000),
    "nothing": lambda path: web.Response(status=204),
    "elsewhere": lambda path: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "too much": lambda path: web.Response(body=b" " * 2**20 + b"{}"),
    "another issuer": lambda path: web.json_response({"issuer": "http://other", "jwks_uri": "http://other/keys"}),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_that_are_none(provider: Provider, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    provider.answer = ANSWERS[name]
    asked = authenticator(provider)
    with pytest.raises(Unavailable, match="Could not load"):
        await ask(asked, provider.token())
    provider.answer = None
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    await ask(asked, provider.token())
    provider.answer = ANSWERS[name]
    monkeypatch.setattr(openid_issuer, "_KEPT_S", 0.0)
    assert (await ask(asked, provider.token(jti="2"))).name == "ann"  # the keys that are known go on
    await until(lambda: asked._issuers[0]._fetching is None)


async def test_each_thing_that_is_wrong_with_a_provider_is_told_once(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A JWKS over the limit was dropped without a word behind another failure: tokens of its new keys got 401."""
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    asked = authenticator(provider, jwks_url=f"{provider.url}/keys")
    await ask(asked, provider.token())
    filler = jwk(OTHER_RSA)
    long = [{**filler, "kid": f"filler-{number}"} for number in range(2700)]
    provider.keys += [*long, jwk(OTHER_RSA, "two")]
    assert 2**20 < len(json.dumps({"keys": provider.keys})) < 2**20 + 200_000
    for answer in (ANSWERS["HTML"], None):
        provider.answer = answer
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await ask(asked, provider.token(OTHER_RSA, kid="two"))
        assert (await ask(asked, provider.token(jti=str(answer)))).name == "ann"  # the keys that are known go on
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(told) == 2, told
    assert "no JSON" in told[0]
    for words in ("1048576 bytes", f"{provider.url}/keys", "jwks.url", "the keys that are known go on"):
        assert words in told[1]
    del provider.keys[1:-1]
    assert (await ask(asked, provider.token(OTHER_RSA, kid="two"))).name == "ann"


async def test_no_request_waits_long_for_a_provider_that_hangs(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was for up to 20 s, and 60 tokens of one address waited for each other besides."""
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    monkeypatch.setattr(openid_issuer, "_PATIENCE_S", 0.05)
    provider.holds = asyncio.Event()
    asked = authenticator(provider)
    (issuer,) = asked._issuers
    flights = []

    async def is_refused(kind: type[Exception], token: str) -> None:
        with pytest.raises(kind):
            await ask(asked, token)
        flights.append(issuer._fetching)

    try:
        async with asyncio.timeout(PATIENCE_S):  # the flight itself lasts until it is let go
            for _ in range(3):
                await is_refused(Unavailable, provider.token())
            provider.holds.set()
            await until(lambda: issuer._fetching is None)
            assert (await ask(asked, provider.token())).name == "ann"
            provider.holds.clear()
            began = len(provider.asked)
            for number in range(3):
                await is_refused(Unauthorized, provider.token(kid=str(number)))
            assert (await ask(asked, provider.token(jti="2"))).name == "ann"
            await until(lambda: len(provider.asked) > began)
        assert None not in flights
        assert [len(set(flights[:3])), len(set(flights[3:]))] == [1, 1], "all share one flight"
    finally:
        provider.holds.set()
    await until(lambda: issuer._fetching is None)


async def test_a_provider_has_so_long_for_all_that_it_is_asked(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openid_issuer, "_FETCH_S", 0.05)
    provider.holds = asyncio.Event()
    try:
        with pytest.raises(Unavailable, match="does not seem to be available"):
            await ask(authenticator(provider), provider.token())
    finally:
        provider.holds.set()
    assert [each.levelname for each in caplog.records if "has not answered within" in each.getMessage()] == ["WARNING"]
    assert "its tokens get 503" in caplog.text


@pytest.mark.parametrize("keys", [None, {}, [7, None, {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"}]])
async def test_keys_that_are_none(provider: Provider, keys: Any) -> None:
    provider.keys = keys
    with pytest.raises(Unauthorized):
        await ask(authenticator(provider), provider.token())


@pytest.mark.timing
async def test_a_document_of_a_megabyte(provider: Provider) -> None:
    """2,500 keys: none is made before a token needs it."""
    filler = jwk(OTHER_RSA)
    provider.keys = [{**filler, "kid": f"filler-{number}"} for number in range(2300)] + [jwk(RSA)]
    assert 900_000 < len(json.dumps({"keys": provider.keys})) < 2**20
    asked = authenticator(provider)
    started = time.process_time()
    assert (await ask(asked, provider.token())).name == "ann"
    assert time.process_time() - started < 0.5
    keys = [key for keys in asked._issuers[0]._keys.values() for key in keys]
    assert len(keys) == 2301
    assert sum(bool(key._made) for key in keys) == 1


async def test_what_was_found_right_is_remembered_within_bounds(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.authenticators.openid._KNOWN_MAX", 3)
    asked = authenticator(provider)
    for number in range(5):
        await ask(asked, provider.token(jti=str(number)))
    assert len(asked._known) == 3
    token = provider.token(exp=time.time() + 1)
    await ask(asked, token)
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("judged again"))
    assert (await ask(asked, token)).name == "ann"
    monkeypatch.setattr(jwt, "decode", decode)
    later = time.time() + 2
    monkeypatch.setattr("kafka_gateway.authenticators.openid.time.time", lambda: later)
    assert asked.recall({"authorization": f"Bearer {token}"}) is None
    assert len(asked._known) == 2


async def test_an_end_counts_while_nobody_can_be_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is open with a token would outlive it, for as long as its provider is away."""
    asked = authenticator(provider)
    token = provider.token(exp=time.time() + 60)
    await ask(asked, token)
    provider.answer = ANSWERS["HTML"]
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    monkeypatch.setattr(openid_issuer, "_STALE_S", 0.0)
    with pytest.raises(Unavailable):
        await ask(asked, token)
    later = time.time() + 61
    monkeypatch.setattr("kafka_gateway.authenticators.openid.time.time", lambda: later)
    with pytest.raises(Unauthorized):
        await ask(asked, token)


async def test_one_provider_that_is_down_disturbs_no_other(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openid_issuer, "_PATIENCE_S", PATIENCE_S)
    async with provided(jwk(OTHER_RSA)) as down:
        down.holds = asyncio.Event()
        values = {**settings(provider, down), "authentication.method": "OPENID"}
        try:
            async with gateway(**values) as app, aiohttp.ClientSession(app.addresses[0]) as client:

                async def status(token: str) -> int:
                    async with client.get("/topics", headers={"Authorization": f"Bearer {token}"}) as response:
                        return response.status

                waiting = asyncio.ensure_future(status(down.token(OTHER_RSA)))
                async with asyncio.timeout(PATIENCE_S):
                    assert await status(provider.token()) == 200
                assert not waiting.done()
                down.holds.set()
                assert await waiting == 200
        finally:
            down.holds.set()


FAULTS = {
    "issuers": {"issuers": ""},
    "audience": {"audience": ""},
    "jwks.url": {"jwks_url": "https://a/,https://b/"},
    "algorithms": {"algorithms": "none"},
    "principal.claim": {"principal_claim": ""},
    "require.https": {"require_https": "true"},
    "twice": {"issuers": "https://a,https://a"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_settings_that_are_refused(name: str) -> None:
    given = {"issuers": "http://a", "audience": "kafka", "require_https": "false", **FAULTS[name]}
    overrides = [f"{KEY}{key.replace('_', '.')}={value}" for key, value in given.items()]
    faults = OpenIdAuthenticator(load(BUILTIN_KEYS, overrides=overrides)).faults()
    assert len(faults) == 1, faults
