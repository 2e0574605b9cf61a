"""Tokens of an OpenID provider: what is taken, refused, and asked of the provider (websocket-proxy.md §1.3.3)."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from kafka_gateway.authenticators import openid_issuer
from kafka_gateway.authenticators.openid import OpenIdAuthenticator
from kafka_gateway.config import load
from kafka_gateway.errors import Unauthorized, Unavailable
from tests.keys import BUILTIN_KEYS
from tests.transports.conftest import gateway
from tests.waiting import PATIENCE_S, until

KEY = "kafka.ws.proxy.server.openid-connect."
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """An OpenID provider that counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.up = True
        self.answers: asyncio.Event | None = None
        """Set when it answers; None: always."""
        self.keys = [{**json.loads(RSAAlgorithm.to_jwk(PRIVATE.public_key())), "kid": "Key-1", "use": "sig"}]
        self.document: dict[str, Any] = {}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self.server = TestServer(app)

    async def start(self) -> None:
        await self.server.start_server()
        base = str(self.server.make_url("")).rstrip("/")
        self.document = {
            "issuer": "me",
            "jwks_uri": f"{base}/keys",
            "authorization_endpoint": f"{base}/a",
            "token_endpoint": f"{base}/t",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self.url = f"{base}/well-known"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.answers is not None:
            await self.answers.wait()
        if not self.up:
            return web.Response(status=500)
        return web.json_response(self.document if request.path == "/well-known" else {"keys": self.keys})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    await made.start()
    yield made
    await made.server.close()


@pytest.fixture
def authenticator(provider: Provider) -> OpenIdAuthenticator:
    values = {"well-known-url": provider.url, "audience": "kit", "realm": "kit", "require-https": "false"}
    config = load(BUILTIN_KEYS, overrides=[f"{KEY}{name}={value}" for name, value in values.items()])
    made = OpenIdAuthenticator(config)
    assert made.faults() == []
    return made


KEY_ONE = {"kid": "key-1"}


def token(key: Any = PRIVATE, alg: str = "RS256", headers: dict[str, Any] = KEY_ONE, **claims: Any) -> str:
    claims = {"iss": "me", "aud": "kit", "sub": "somebody", "exp": time.time() + 60, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=alg, headers=KEY_ONE | headers if headers else None)


async def ask(authenticator: OpenIdAuthenticator, text: str) -> str:
    return (await authenticator.authenticate({"authorization": f"Bearer {text}"}, "peer")).name


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def made_up(head: Any, claims: Any = MappingProxyType({"iss": "me"})) -> str:
    return f"{part(head)}.{part(dict(claims))}.aa"


PUBLIC_PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
ELSEWHERE = "http://127.0.0.1:1/evil"


def hs256(secret: bytes) -> str:
    """What an attacker signs with the public key as the secret; the library refuses to."""
    import hmac

    body = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'key-1'})}.{part({'iss': 'me', 'aud': 'kit'})}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), "sha256")).rstrip(b"=").decode()
    return f"{body}.{signature}"


GOOD = {
    "plain": lambda: token(),
    "RS384": lambda: token(alg="RS384"),
    "RS512": lambda: token(alg="RS512"),
    "several audiences": lambda: token(aud=["other", "kit"]),
    "no expiry": lambda: token(exp=None),
    "far expiry": lambda: token(exp=10**15),
    "key id in other case": lambda: token(headers={"kid": "KEY-1"}),
    "an access token": lambda: token(headers={"typ": "at+JWT"}),
    "issued in the future": lambda: token(iat=time.time() + 1000),
}
BAD = {
    "nothing": lambda: "x",
    "two dots": lambda: "..",
    "foo": lambda: "foo.bar.baz",
    "alg none": lambda: f"{part({'alg': 'none', 'kid': 'key-1'})}.{part({'iss': 'me', 'aud': 'kit'})}.",
    "HS256 with the public key": lambda: hs256(PUBLIC_PEM),
    "PS256": lambda: token(alg="PS256"),
    "other key": lambda: token(OTHER),
    "other audience": lambda: token(aud="other"),
    "no audience": lambda: token(aud=None),
    "other issuer": lambda: token(iss="other"),
    "no issuer": lambda: token(iss=None),
    "expired": lambda: token(exp=time.time() - 1),
    "not yet": lambda: token(nbf=time.time() + 60),
    "odd expiry": lambda: token(exp="soon"),
    "expiry beyond time": lambda: token(exp=10**400),
    "expiry beyond time, as text": lambda: token(exp=str(10**400)),
    "endless expiry": lambda: token(exp=math.inf),
    "beginning beyond time": lambda: token(nbf=-(10**400)),
    "issued beyond time": lambda: token(iat=10**400),
    "no key id": lambda: token(headers={}),
    "unknown key": lambda: token(headers={"kid": "key-2"}),
    "own key by jwk": lambda: token(OTHER, headers={"jwk": json.loads(RSAAlgorithm.to_jwk(OTHER.public_key()))}),
    "own key by jku": lambda: token(OTHER, headers={"jku": ELSEWHERE, "kid": "key-2"}),
    "own key by x5u": lambda: token(OTHER, headers={"x5u": ELSEWHERE}),
    "crit": lambda: token(headers={"crit": ["exp"]}),
    "five parts": lambda: f"{part({'alg': 'RSA-OAEP', 'enc': 'A128GCM', 'kid': 'key-1'})}.a.b.c.d",
    "huge": lambda: token() + "a" * 100_000,
    "deep": lambda: f"{base64.urlsafe_b64encode(b'[' * 50_000).decode()}.e30.e30",
    "alg a list": lambda: made_up({"alg": ["RS256"]}),
    "alg an object": lambda: made_up({"alg": {"RS256": 1}}),
    "alg null": lambda: made_up({"alg": None}),
    "key id a list": lambda: made_up({"alg": "RS256", "kid": ["key-1"]}),
    "issuer a list": lambda: made_up({"alg": "RS256", "kid": "key-1"}, {"iss": ["me"]}),
    "issuer an object": lambda: made_up({"alg": "RS256", "kid": "key-1"}, {"iss": {"me": 1}}),
    "expiry an object": lambda: made_up({"alg": "RS256", "kid": "key-1"}, {"iss": "me", "exp": {}}),
    "a logout": lambda: token(headers={"typ": "logout+jwt"}),
    "a proof of possession": lambda: token(headers={"typ": "dpop+jwt"}),
    "type a list": lambda: made_up({"alg": "RS256", "kid": "key-1", "typ": ["JWT"]}),
    "no object": lambda: f"{part([])}.{part({})}.aa",
}


@pytest.mark.parametrize("name", GOOD)
async def test_tokens_that_are_taken(authenticator: OpenIdAuthenticator, name: str) -> None:
    assert await ask(authenticator, GOOD[name]()) == "somebody"


@pytest.mark.parametrize("name", BAD)
async def test_tokens_that_are_refused(authenticator: OpenIdAuthenticator, provider: Provider, name: str) -> None:
    with pytest.raises(Unauthorized, match="The supplied authentication is invalid") as error:
        await ask(authenticator, BAD[name]())
    assert error.value.headers == (("WWW-Authenticate", 'Bearer realm="kit"'),)
    assert provider.asked in ([], ["/well-known", "/keys"])  # nothing that a token names


@pytest.mark.parametrize("header", ["", "Basic dXNlcjpwYXNz", "Bearer", "Bearer  "])
async def test_no_token(authenticator: OpenIdAuthenticator, provider: Provider, header: str) -> None:
    with pytest.raises(Unauthorized, match="was not supplied"):
        await authenticator.authenticate({"authorization": header}, "peer")
    assert provider.asked == []


async def test_an_unknown_key_is_looked_for_now_and_then(
    authenticator: OpenIdAuthenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(authenticator, token())
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.3)
    await asyncio.sleep(0.31)  # time itself: keys are not asked for again before
    new = token(OTHER, headers={"kid": "key-2"})
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await ask(authenticator, new)
    assert provider.asked.count("/keys") == 2
    provider.keys.append({**json.loads(RSAAlgorithm.to_jwk(OTHER.public_key())), "kid": "key-2"})
    await asyncio.sleep(0.31)  # time itself: keys are not asked for again before
    assert await ask(authenticator, new) == "somebody"
    assert provider.asked.count("/keys") == 3


async def test_many_at_once_share_one_flight(authenticator: OpenIdAuthenticator, provider: Provider) -> None:
    text = token()
    assert set(await asyncio.gather(*(ask(authenticator, text) for _ in range(20)))) == {"somebody"}
    assert provider.asked == ["/well-known", "/keys"]


async def test_known_keys_go_on_while_the_provider_is_down(
    authenticator: OpenIdAuthenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(authenticator, token())
    provider.up = False
    monkeypatch.setattr(openid_issuer, "_KEPT_S", 0.0)
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    assert await ask(authenticator, token()) == "somebody"
    await until(lambda: len(provider.asked) > 2)
    monkeypatch.setattr(openid_issuer, "_STALE_S", 0.0)
    with pytest.raises(Unavailable, match="Could not load"):
        await ask(authenticator, token())


async def test_a_provider_that_hangs_holds_up_nobody_with_a_known_key(
    authenticator: OpenIdAuthenticator, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 10 of issue 11: keys 300 s old, and each valid token waited for the provider, 10 s out of 15."""
    await ask(authenticator, token())
    monkeypatch.setattr(openid_issuer, "_KEPT_S", 0.0)
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.0)
    provider.answers = asyncio.Event()
    try:
        for number in range(3):
            async with asyncio.timeout(PATIENCE_S):
                assert await ask(authenticator, token(jti=str(number))) == "somebody"
        await until(lambda: len(provider.asked) > 2)
    finally:
        provider.answers.set()
    await until(lambda: authenticator._issuers[0]._fetching is None)  # refreshed in the background


async def test_a_provider_that_is_down_is_not_asked_by_every_request(
    authenticator: OpenIdAuthenticator, provider: Provider
) -> None:
    provider.up = False
    for _ in range(5):
        with pytest.raises(Unavailable, match="Could not load http"):
            await ask(authenticator, token())
    assert provider.asked == ["/well-known"]
    await provider.server.close()
    authenticator._issuers[0]._tried_at = float("-inf")
    with pytest.raises(Unavailable, match="OpenID Connect server does not seem to be available"):
        await ask(authenticator, token())


async def test_an_open_socket_ends_when_its_token_counts_no_more(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.door.proofs._LOOK_EVERY_S", 0.05)
    values = {"well-known-url": provider.url, "audience": "kit", "require-https": "false", "revalidation-interval": 50}
    settings: dict[str, Any] = {KEY + name: value for name, value in values.items()}
    settings |= {"authentication.method": "OPENID", "embedded.topics": "t"}
    async with gateway(**settings) as app, aiohttp.ClientSession() as client:
        url = app.addresses[0]
        short, long = token(exp=time.time() + 1.2), token()
        headers = {"Authorization": f"Bearer {short}"}
        produce = await client.ws_connect(f"{url}/socket/in?clientId=c&topic=t", headers=headers)
        consume = await client.ws_connect(f"{url}/socket/out?clientId=c&topic=t&access_token={short}")
        stays = await client.ws_connect(f"{url}/socket/in?clientId=d&topic=t&access_token={long}")
        started = time.monotonic()
        for socket, code in ((produce, 1000), (consume, 1011)):
            message = await socket.receive(timeout=PATIENCE_S)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, code)
        assert time.monotonic() - started > 0.3
        with pytest.raises(TimeoutError):
            await stays.receive(timeout=0.3)
        await stays.close()


@pytest.mark.parametrize("broken", [{"issuer": ""}, {"jwks_uri": 7}, {"token_endpoint": None}])
async def test_a_document_that_cannot_be_used(
    authenticator: OpenIdAuthenticator, provider: Provider, broken: dict[str, Any]
) -> None:
    provider.document |= broken
    with pytest.raises(Unavailable, match="Could not load"):
        await ask(authenticator, token())


async def test_keys_over_http_need_the_word(provider: Provider) -> None:
    values = {"well-known-url": provider.url, "audience": "kit"}
    config = load(BUILTIN_KEYS, overrides=[f"{KEY}{name}={value}" for name, value in values.items()])
    with pytest.raises(Unavailable, match="Could not load"):
        await ask(OpenIdAuthenticator(config), token())
    assert provider.asked == ["/well-known"]


async def test_a_token_in_the_query(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    values = {"well-known-url": provider.url, "audience": "kit", "realm": "kit", "require-https": "false"}
    settings: dict[str, Any] = {KEY + name: value for name, value in values.items()}
    caplog.set_level("INFO")
    text = token()
    async with gateway(**{"authentication.method": "OPENID", "embedded.topics": "t", **settings}) as app:
        url = app.addresses[0] + "/health/live"
        async with aiohttp.ClientSession() as client:

            async def status(query: str, **headers: str) -> int:
                async with client.get(url + query, headers=headers) as response:
                    return response.status

            assert await status("") == 401
            assert await status(f"?access_token={text}") == 200
            assert await status("?access_token=foo.bar.baz") == 401
            assert await status(f"?access_token={text}", Authorization="Basic abc") == 200
            assert await status(f"?access_token={text}", Authorization="Bearer foo.bar.baz") == 401
            assert await status("?" + "&".join(f"a{n}=1" for n in range(500)) + "&access_token=x") == 401
            socket = app.addresses[0] + f"/socket/in?clientId=c&topic=t&access_token={text}"
            async with client.ws_connect(socket) as opened:
                assert not opened.closed
    assert text not in caplog.text
