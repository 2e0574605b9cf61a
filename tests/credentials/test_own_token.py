"""The gateway's own login with OAUTHBEARER, for questions that it puts to the brokers itself (RFC 6749 §4.4)."""

from __future__ import annotations

import base64
import contextlib
import urllib.parse
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kafka_gateway.kafka.admin.own_token import OwnToken
from kafka_gateway.wire.sasl import SaslRefused
from tests.credentials.conftest import Person, Start
from tests.secured_kafka import GATEWAY, SecuredKafka

SECRET = "the-client-s-secret"


class Endpoint:
    """A provider's token endpoint; ``answer`` is what it says to the right login."""

    def __init__(self) -> None:
        self.answer: web.Response | dict[str, object] = {}
        self.asked: list[dict[str, str]] = []
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        login = "Basic " + base64.b64encode(f"gateway-client:{SECRET}".encode()).decode()
        self.asked.append(dict(urllib.parse.parse_qsl(await request.text())))
        if request.headers.get("Authorization") != login:
            return web.json_response({"error": "invalid_client"}, status=401)
        return self.answer if isinstance(self.answer, web.Response) else web.json_response(self.answer)

    def properties(self, prefix: str = "", secret: str = SECRET) -> dict[str, str]:
        return {
            f"{prefix}sasl.oauthbearer.method": "oidc",
            f"{prefix}sasl.oauthbearer.token.endpoint.url": self.url,
            f"{prefix}sasl.oauthbearer.client.id": "gateway-client",
            f"{prefix}sasl.oauthbearer.client.secret": secret,
            f"{prefix}sasl.oauthbearer.scope": "kafka",
        }


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with contextlib.AsyncExitStack() as stack:
        made, app = Endpoint(), web.Application()
        app.router.add_post("/token", made.token)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
        yield made


async def test_it_is_fetched_once_while_it_is_good(endpoint: Endpoint) -> None:
    endpoint.answer = {"access_token": "one", "expires_in": 600}
    own = OwnToken(endpoint.properties())
    await own.renew()
    await own.renew()
    assert own.token() == "one"
    assert endpoint.asked == [{"grant_type": "client_credentials", "scope": "kafka"}]


async def test_one_that_is_over_is_fetched_anew(endpoint: Endpoint) -> None:
    own = OwnToken(endpoint.properties())
    for token in ("one", "two"):
        endpoint.answer = {"access_token": token, "expires_in": 0}
        await own.renew()
        assert own.token() == token


ANSWERS = {
    "an error": web.Response(status=503),
    "no JSON": web.Response(text="<html>"),
    "a list": web.json_response([]),
    "no token": web.json_response({"expires_in": 1}),
    "a token that ends a line": web.json_response({"access_token": "a\r\nb"}),
    "elsewhere": web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_token(endpoint: Endpoint, name: str) -> None:
    endpoint.answer = ANSWERS[name]
    own = OwnToken(endpoint.properties())
    with pytest.raises(SaslRefused) as refused:
        await own.renew()
    assert "sasl.oauthbearer.token.endpoint.url" in str(refused.value)
    assert own.token() == ""


async def test_a_wrong_secret_is_not_told(endpoint: Endpoint) -> None:
    with pytest.raises(SaslRefused) as refused:
        await OwnToken(endpoint.properties(secret="wrong-secret")).renew()
    assert "401" in str(refused.value)
    assert "wrong-secret" not in str(refused.value)


async def test_nobody_answers() -> None:
    made = Endpoint()
    made.url = "http://127.0.0.1:1/token"
    with pytest.raises(SaslRefused, match="cannot be asked"):
        await OwnToken(made.properties()).renew()


@pytest.mark.broker
async def test_questions_that_no_client_of_librdkafka_can_ask(
    start: Start, secured_kafka: SecuredKafka, endpoint: Endpoint
) -> None:
    endpoint.answer = {"access_token": secured_kafka.token(GATEWAY[0]), "expires_in": 600, "token_type": "Bearer"}
    settings = {**endpoint.properties("client."), "client.sasl.mechanism": "OAUTHBEARER"}
    async with start(**settings) as app, Person(app) as anyone:
        cluster = (await anyone.ask("GET", "/v3/clusters")).json["data"][0]["cluster_id"]
        answer = await anyone.ask("GET", f"/v3/clusters/{cluster}/topics/-/partitions/-/reassignment")
    assert (answer.status, answer.json["data"]) == (200, [])
