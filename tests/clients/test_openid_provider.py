"""A certified OpenID provider (npm oidc-provider) and the gateway: docs/security.md's set-up, rotation, two issuers,
a provider that goes down, tokens that end (security.md §8, 4)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from kafka_gateway.authenticators import openid_issuer
from tests.cache import node_packages
from tests.gateway_process import ROOT
from tests.transports.authority import Authority
from tests.transports.conftest import gateway
from tests.transports.npm import Driver
from tests.waiting import PATIENCE_S, until

FOLDER = Path(__file__).parent / "oidc"
PAGE = (ROOT / "docs" / "security.md").read_text()
JSON = "application/vnd.kafka.json.v2+json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.fetches(what=functools.partial(node_packages, FOLDER)),
]


class Provider:
    """One that runs; it knows the machines ann of tenant shop and bob of tenant depot."""

    def __init__(self, driver: Driver, issuer: str) -> None:
        self.driver, self.issuer = driver, issuer

    async def do(self, what: str, **more: Any) -> None:
        self.driver.do(what, **more)
        await self.driver.until("done")

    async def token(self, client: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": f"{client}-secret",
            "resource": "urn:kafka-gateway",
        }
        async with aiohttp.ClientSession() as session, session.post(f"{self.issuer}/token", data=form) as reply:
            found = await reply.json()
            assert reply.status == 200, found
            return str(found["access_token"])


@contextlib.asynccontextmanager
async def provided(kid: str = "one") -> AsyncIterator[Provider]:
    node_packages(FOLDER)
    async with await Driver.start(FOLDER / "provider.js", kid, "ann:shop", "bob:depot") as driver:
        yield Provider(driver, (await driver.until("ready"))["issuer"])


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    monkeypatch.setattr(openid_issuer, "_AGAIN_S", 0.2)
    async with provided() as made:
        yield made


def block(kind: str, name: str) -> str:
    """What docs/security.md shows of that set-up."""
    found = re.search(rf"<!-- {kind}: {name} -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def properties(name: str) -> dict[str, Any]:
    return dict(line.split("=", 1) for line in block("properties", name).splitlines())


def settings(folder: Path, *providers: Provider) -> dict[str, Any]:
    """The page's properties, with the files, issuers and ports of this test."""
    authority = Authority(folder)
    rules = folder / "rules"
    rules.write_text(block("set-up", "oidc"))
    return properties("oidc") | {
        "listeners": "https://127.0.0.1:0",
        "ssl.keystore.location": authority.server().write(folder / "server.pem"),
        "authentication.openid.issuers": ",".join(each.issuer for each in providers),
        "authentication.openid.require.https": False,
        "authorization.file": rules,
        "embedded.enable": True,
        "embedded.topics": "shop.orders,shop.audit,depot.orders",
        "transport.websocket.enable": True,
    }


class Client:
    """Asks the gateway with a token."""

    def __init__(self, address: str, folder: Path) -> None:
        self.url = address
        context = Authority.trusting(folder)
        self.session = aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(ssl=context))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.session.close()

    async def produce(self, topic: str, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": JSON}
        body = json.dumps({"records": [{"value": 1}]})
        async with self.session.post(f"/topics/{topic}", data=body, headers=headers) as reply:
            return reply.status, await reply.json()


async def test_the_set_up_of_the_page(provider: Provider, tmp_path: Path) -> None:
    ann, bob = await provider.token("ann"), await provider.token("bob")
    async with gateway(**settings(tmp_path, provider)) as app, Client(app.addresses[0], tmp_path) as client:
        assert (await client.produce("shop.orders", ann))[0] == 200
        assert (await client.produce("depot.orders", bob))[0] == 200
        for topic, token, name in (
            ("depot.orders", ann, "ann"),
            ("shop.orders", bob, "bob"),
            ("shop.audit", ann, "ann"),
        ):
            status, body = await client.produce(topic, token)
            assert (status, body["error_code"]) == (403, 40301)
            assert body["message"] == f"User:{name} may not write to topic {topic}."
        assert (await client.produce("shop.orders", ann[:-8] + "AAAAAAAA"))[0] == 401
        async with client.session.get("/topics", headers={"Authorization": f"Bearer {ann}"}) as reply:
            assert sorted(await reply.json()) == ["shop.audit", "shop.orders"]


async def test_rotation_of_keys(provider: Provider, tmp_path: Path) -> None:
    async with gateway(**settings(tmp_path, provider)) as app, Client(app.addresses[0], tmp_path) as client:
        first = await provider.token("ann")
        assert (await client.produce("shop.orders", first))[0] == 200
        for kid, alg in (("two", "ES256"), ("three", "EdDSA"), ("four", "RS256")):
            await provider.do("rotate", kid=kid, alg=alg, keep=True)
            await asyncio.sleep(0.3)  # time itself: the provider is asked so seldom
            assert (await client.produce("shop.orders", await provider.token("ann")))[0] == 200
        assert (await client.produce("shop.orders", first))[0] == 200  # its key is still listed
        await provider.do("rotate", kid="one", alg="RS256", keep=False)  # the old id, another key
        await asyncio.sleep(0.3)  # time itself: the provider is asked so seldom
        newer = await provider.token("ann")
        app.gateway.reload()

        async def taken() -> bool:
            return (await client.produce("shop.orders", newer))[0] == 200

        await until(taken)
        assert (await client.produce("shop.orders", first))[0] == 401


async def test_two_issuers_with_keys_of_one_name(provider: Provider, tmp_path: Path) -> None:
    async with (
        provided() as second,
        gateway(**settings(tmp_path, provider, second)) as app,
        Client(app.addresses[0], tmp_path) as client,
    ):
        tokens = await provider.token("ann"), await second.token("ann")
        assert {jwt.get_unverified_header(each)["kid"] for each in tokens} == {"one"}
        for token in tokens:
            assert (await client.produce("shop.orders", token))[0] == 200
        head, body, _ = tokens[0].split(".")
        assert (await client.produce("shop.orders", f"{head}.{body}.{tokens[1].split('.')[2]}"))[0] == 401


async def test_a_provider_that_goes_down(provider: Provider, tmp_path: Path) -> None:
    async with provided() as second, gateway(**settings(tmp_path, provider, second)) as app:
        async with Client(app.addresses[0], tmp_path) as client:
            ann, other = await provider.token("ann"), await second.token("ann")
            assert (await client.produce("shop.orders", ann))[0] == 200
            assert (await client.produce("shop.orders", other))[0] == 200
            later = await second.token("bob")
        second.driver._process.kill()
        await second.driver._process.wait()
        app.gateway.reload()
        await asyncio.sleep(0.5)  # time itself: nothing tells that a provider was asked in vain
        async with Client(app.addresses[0], tmp_path) as client:
            assert (await client.produce("depot.orders", later))[0] == 200  # by the key that is known
            assert (await client.produce("shop.orders", ann))[0] == 200


async def test_confused_algorithms(provider: Provider, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{provider.issuer}/jwks") as reply:
        listed = (await reply.json())["keys"][0]
    public: Any = RSAAlgorithm.from_jwk(listed)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(await provider.token("ann"), options={"verify_signature": False})

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'one'})}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(pem, signed.encode(), "sha256")).rstrip(b"=").decode()
    async with gateway(**settings(tmp_path, provider)) as app, Client(app.addresses[0], tmp_path) as client:
        assert (await client.produce("shop.orders", f"{signed}.{mac}"))[0] == 401
        assert (await client.produce("shop.orders", f"{part({'alg': 'none'})}.{part(claims)}."))[0] == 401


@pytest.mark.timing  # within five seconds of the end of the token
async def test_the_end_of_a_token_ends_what_is_open_unless_it_is_renewed(provider: Provider, tmp_path: Path) -> None:
    await provider.do("ttl", seconds=4)
    async with gateway(**settings(tmp_path, provider)) as app, Client(app.addresses[0], tmp_path) as client:
        ends, renewed = await provider.token("ann"), await provider.token("ann")
        end = jwt.decode(ends, options={"verify_signature": False})["exp"]
        events = await client.session.get(
            f"/topics/shop.orders/stream?access_token={ends}", headers={"Accept": "text/event-stream"}
        )
        assert events.status == 200
        falls = await client.session.ws_connect("/", headers={"Authorization": f"Bearer {ends}"})
        stays = await client.session.ws_connect("/", headers={"Authorization": f"Bearer {renewed}"})
        await provider.do("ttl", seconds=300)
        proof = {"Authorization": f"Bearer {await provider.token('ann')}"}
        await stays.send_str(json.dumps({"id": "r", "method": "PUT", "path": "/ws/session", "headers": proof}))
        assert '"code":204' in (await stays.receive(timeout=PATIENCE_S)).data
        foreign = {"Authorization": f"Bearer {await provider.token('bob')}"}
        await stays.send_str(json.dumps({"id": "f", "method": "PUT", "path": "/ws/session", "headers": foreign}))
        assert '"code":403' in (await stays.receive(timeout=PATIENCE_S)).data
        async with asyncio.timeout(PATIENCE_S):
            assert b'"error_code":40101' in await events.content.read()
            message = await falls.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert end - 1 <= time.time() <= end + 5
        await stays.send_str(json.dumps({"id": "t", "method": "GET", "path": "/topics"}))
        assert "shop.orders" in (await stays.receive(timeout=PATIENCE_S)).data
        await stays.close()
