"""What counts as a client's credentials for Kafka, and what of it comes first (security.md §4)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kafka_gateway.auth import Authenticator
from kafka_gateway.config import ConfigError
from kafka_gateway.hookspecs import hookimpl
from kafka_gateway.kafka.credentials.credential import (
    Credential,
    bearer_of,
    of_basic,
    of_bearer,
    of_header,
    token_expiry,
)
from kafka_gateway.kafka.credentials.principal_map import read_map
from kafka_gateway.session import Principal
from tests.credentials.conftest import Person, Start, x_kafka_auth
from tests.secured_kafka import PLAIN_USERS, SecuredKafka
from tests.transports.authority import Authority
from tests.transports.conftest import gateway
from tests.transports.wire import Wire, produce

CLAIMS = {
    "authentication.openid.kafka.username.claim": "kafka_user",
    "authentication.openid.kafka.password.claim": "kafka.password",
}


class Named(Authenticator):
    """Believes the header, as a plugin: a name, and claims behind it."""

    name = "NAMED"
    proof = ("x-name",)

    def __init__(self, **claims: Any) -> None:
        self.claims = claims

    async def authenticate(self, headers: Mapping[str, str], peer: str) -> Principal:
        return Principal(headers.get("x-name", "nobody"), attributes=self.claims)

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return [self]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_the_header(start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str], mechanism: str) -> None:
    password = PLAIN_USERS["alice"]
    if mechanism != "PLAIN":
        secured_kafka.add_user("alice", password)
    async with start(mechanism, **{"kafka.credentials": "client-or-gateway"}) as app:
        async with Person(app, X_Kafka_Auth=x_kafka_auth("alice", password)) as alice:
            assert (await alice.produce(topics[0], 1)).status == 200
            assert (await alice.produce(topics[1], 1)).status == 403
        async with Person(app, X_Kafka_Auth=x_kafka_auth("alice", "wrong")) as guesser:
            assert (await guesser.produce(topics[0], 1)).status == 401
        async with Person(app) as gateway:  # which may write nowhere
            assert (await gateway.produce(topics[0], 1)).status == 403


async def test_claims_come_before_the_header(start: Start, topics: tuple[str, str]) -> None:
    named = Named(kafka_user="alice", **{"kafka.password": PLAIN_USERS["alice"]})
    settings = {"kafka.credentials": "client", "authentication.method": "NAMED", **CLAIMS}
    header = x_kafka_auth("bob", PLAIN_USERS["bob"])
    async with start("PLAIN", named, **settings) as app, Person(app, X_Name="x", X_Kafka_Auth=header) as alice:
        assert (await alice.produce(topics[0], 1)).status == 200
        assert (await alice.produce(topics[1], 1)).status == 403


@pytest.mark.parametrize("token_only", [False, True])
async def test_a_token_without_claims(start: Start, topics: tuple[str, str], token_only: bool) -> None:
    settings = {
        "kafka.credentials": "client", "authentication.method": "NAMED", **CLAIMS,
        "kafka.ws.proxy.server.openid-connect.custom-jwt.kafka-token-auth-only": token_only,
    }  # fmt: skip
    async with start("PLAIN", Named(), **settings) as app:
        async with Person(app, X_Name="x", X_Kafka_Auth=x_kafka_auth("bob", PLAIN_USERS["bob"])) as bob:
            assert (await bob.produce(topics[1], 1)).status == (401 if token_only else 200)
        async with Person(app, X_Name="x") as nobody:
            assert (await nobody.produce(topics[1], 1)).status == 401


async def test_what_the_operator_has_noted(start: Start, topics: tuple[str, str], tmp_path: Path) -> None:
    noted = tmp_path / "map"
    noted.touch(0o600)
    noted.write_text(f'"User:CN=a, O=b" alice {PLAIN_USERS["alice"]}\n')
    settings = {
        "kafka.credentials": "client", "authentication.method": "NAMED", "kafka.credentials.mtls.map": str(noted),
    }  # fmt: skip
    async with start("PLAIN", Named(), **settings) as app:
        async with Person(app, X_Name="CN=a, O=b") as alice:
            assert (await alice.produce(topics[0], 1)).status == 200
        async with Person(app, X_Name="CN=other") as other:
            assert (await other.produce(topics[0], 1)).status == 401


async def test_a_certificate_is_the_kafka_user_that_the_operator_has_noted(
    start: Start, topics: tuple[str, str], tmp_path: Path
) -> None:
    """End to end: TLS, the mapping of the subject, the map of principals, Kafka's own rights."""
    authority, noted = Authority(tmp_path), tmp_path / "map"
    noted.touch(0o600)
    noted.write_text("".join(f"User:{name} {name} {PLAIN_USERS[name]}\n" for name in ("alice", "bob")))
    settings = {
        "kafka.credentials": "client", "kafka.credentials.mtls.map": str(noted), "authentication.method": "MTLS",
        "listeners": "https://127.0.0.1:0", "ssl.client.authentication": "REQUIRED",
        "ssl.keystore.location": str(authority.server().write(tmp_path / "server.pem")),
        "ssl.truststore.location": str(authority.path),
        "ssl.principal.mapping.rules": r"RULE:^CN=([^,]+),OU=Shop.*$/$1/L",
    }  # fmt: skip
    async with start("PLAIN", **settings) as app:
        seen = {}
        for name in ("Alice", "Bob", "Carol"):
            context = authority.context(authority.sign(f"OU=Shop / CN={name}"))
            async with await Wire.open(app.addresses[0], context) as wire:
                for owner, topic in zip(("alice", "bob"), topics, strict=True):
                    await wire.send(produce(topic))
                    seen[name, owner] = (await wire.reply(timeout_s=30)).status
    assert seen == {
        ("Alice", "alice"): 200, ("Alice", "bob"): 403, ("Bob", "alice"): 403, ("Bob", "bob"): 200,
        ("Carol", "alice"): 401, ("Carol", "bob"): 401,
    }  # fmt: skip


async def test_a_token_that_ends_ends_its_streams_and_nobody_else_s(
    start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str]
) -> None:
    settings = {"kafka.credentials": "client", "kafka.credentials.bearer": "passthrough"}
    async with start(**settings) as app:
        path = "/topics/{}/stream?offset=earliest&format=json"
        async with (
            Person(app, Authorization=f"Bearer {secured_kafka.token('alice', 8)}", Accept="text/event-stream") as alice,
            Person(app, Authorization=f"Bearer {secured_kafka.token('bob')}", Accept="text/event-stream") as bob,
            alice.http.get(alice.url + path.format(topics[0])) as hers,
            bob.http.get(bob.url + path.format(topics[1])) as his,
        ):
            assert (hers.status, his.status) == (200, 200)
            async with asyncio.timeout(20):
                told = await hers.content.read()
            assert b"of alice" in told
            assert b'"error_code":40101' in told.splitlines()[-2]
            secured_kafka.put(topics[1], b'"later"')
            seen = b""
            async with asyncio.timeout(20):
                while b"later" not in seen:
                    seen += await his.content.readany()


async def test_the_bearer_s_own_token(start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str]) -> None:
    async with start(**{"kafka.credentials": "client", "kafka.credentials.bearer": "passthrough"}) as app:
        async with Person(app, Authorization=f"Bearer {secured_kafka.token('alice')}") as alice:
            assert (await alice.produce(topics[0], 1)).status == 200
            assert (await alice.produce(topics[1], 1)).status == 403
            assert topics[0] in (await alice.ask("GET", "/topics")).json
            # A request of the gateway's own to the brokers, by Kafka's protocol: with the token, too.
            secured_kafka.allow("alice", "describe", "cluster")
            cluster = (await alice.ask("GET", "/v3/clusters")).json["data"][0]["cluster_id"]
            path = f"/v3/clusters/{cluster}/topics/{topics[0]}/partitions/-/reassignment"
            answer = await alice.ask("GET", path)
            assert answer.status == 200, answer
            secured_kafka.disallow("alice", "describe", "cluster")
            assert (await alice.ask("GET", path)).status == 403
        for token in (secured_kafka.token("alice", -10), secured_kafka.token("alice") + "x", "nonsense"):
            async with Person(app, Authorization=f"Bearer {token}") as refused:
                assert (await refused.produce(topics[0], 1)).status == 401


async def test_a_newer_token_takes_the_place_of_the_older(
    start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str]
) -> None:
    settings = {
        "kafka.credentials": "client", "kafka.credentials.bearer": "passthrough", "authentication.method": "NAMED",
    }  # fmt: skip
    async with start("PLAIN", Named(), **settings) as app:
        for lasts_s in (300, 600):
            token = f"Bearer {secured_kafka.token('alice', lasts_s)}"
            async with Person(app, X_Name="alice", Authorization=token) as alice:
                assert (await alice.produce(topics[0], 1)).status == 200
                (session,) = [each for each in app.gateway.sessions if each.kafka is not None]
                assert session.kafka.user == f"User:alice#{bearer_of(token)[:24]}"
                newest = session.kafka.credential
        assert newest.secret in token


async def test_tokens_of_two_kafka_users_who_are_one_principal_here(
    start: Start, secured_kafka: SecuredKafka, topics: tuple[str, str], unique: Callable[..., str]
) -> None:
    """Kafka goes by ``sub``, and the gateway by another claim: each has clients and instances of its own."""
    settings = {
        "kafka.credentials": "client", "kafka.credentials.bearer": "passthrough", "authentication.method": "NAMED",
    }  # fmt: skip

    async with start("PLAIN", Named(), **settings) as app, contextlib.AsyncExitStack() as stack:
        seen, people = {}, {}
        for name in ("bob", "alice"):
            token = f"Bearer {secured_kafka.token(name, azp='web')}"
            people[name] = await stack.enter_async_context(Person(app, X_Name="web", Authorization=token))
        for name, person in people.items():
            for owner, topic in zip(("alice", "bob"), topics, strict=True):
                seen[name, owner] = (await person.produce(topic, 1)).status
        instance = {"name": "i", "format": "json"}
        made = await people["bob"].ask("POST", f"/consumers/{topics[1]}", instance)
        path = f"/consumers/{topics[1]}/instances/i/subscription"
        of_others = await people["alice"].ask("GET", path)
        of_ones_own = await people["bob"].ask("GET", path)
    assert seen == {("bob", "bob"): 200, ("bob", "alice"): 403, ("alice", "alice"): 200, ("alice", "bob"): 403}
    assert (made.status, of_others.status, of_ones_own.status) == (200, 404, 200)


def test_whose_a_token_is() -> None:
    def token(claims: str, head: str = "{}") -> str:
        return ".".join(base64.urlsafe_b64encode(each.encode()).rstrip(b"=").decode() for each in (head, claims, "x"))

    ann = bearer_of(token('{"iss":"a","sub":"ann","exp":1,"jti":"1"}'))
    assert ann == bearer_of(token('{"exp":2,"sub":"ann","iat":1,"iss":"a","jti":"2"}', '{"kid":"2"}')) != ""
    others = [
        '{"iss":"b","sub":"ann"}', '{"iss":"a","sub":"bob"}', '{"iss":"a","sub":"ann","azp":"web"}',
        '{"iss":"a","sub":"bob","sub":"ann"}', '{"iss":"a","sub":"ann","sub":"bob"}',
        '{"iss":"a","sub":"ann","x":{"y":1}}', '{"iss":"a","sub":"ann","x":[["y",1]]}', '{}',
    ]  # fmt: skip
    digests = [bearer_of(token(each)) for each in others]
    assert len({ann, *digests}) == len(others) + 1
    for opaque in ("x", "a.b.c", "a.b.c.d.e", token("[]"), token("[" * 100_000), f"a.{token('{}').split('.')[1]}!.c"):
        assert bearer_of(opaque) == "", opaque[:50]


def test_faults_at_start(tmp_path: Path) -> None:
    for text, named in {
        "User:a b": "line 1 is not",
        "user:a b c": r"line 1 has a kind .* \(did you mean User\?\)",
        "User:a b c\nUser:a d e": "line 2: that principal",
        'User:a "b c': "line 1 has a quotation mark",
    }.items():
        file = tmp_path / "map"
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ValueError, match=named):
            read_map(str(file))
    file.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        read_map(str(file))


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        ({"bootstrap.servers": "127.0.0.1:1"}, "kafka.credentials", "a listener without SASL"),
        ({"bootstrap.servers": ""}, "kafka.credentials", "the embedded one does not"),
        ({"bootstrap.servers": ""}, "authentication.method", "the embedded one does not"),
    ],
)
async def test_settings_that_cannot_work(settings: dict[str, str], key: str, text: str) -> None:
    asked = {key: "client" if key == "kafka.credentials" else "KAFKA"}
    with pytest.raises(ConfigError) as refused:
        async with gateway(**{**asked, **settings}):
            pass
    assert [fault.key for fault in refused.value.faults] == [key]
    assert text in refused.value.faults[0].message


async def test_one_claim_without_the_other(start: Start) -> None:
    with pytest.raises(ConfigError, match="set both"):
        async with start(**{"kafka.credentials": "client", "authentication.openid.kafka.username.claim": "u"}):
            pass


def test_reading_what_is_shown() -> None:
    assert of_header(x_kafka_auth("a", "b:c")) == ("a", "b:c")
    assert of_header("Basic " + x_kafka_auth("a", "")) == ("a", "")
    assert of_header(base64.b64encode(b"alone").decode()) == ("alone", "")
    for broken in ("", "%%%", "Basic", x_kafka_auth("", "b"), x_kafka_auth("a", "b\0c"), "A" * 9000, "/w=="):
        assert of_header(broken) is None, broken
    assert of_basic("Bearer abc") is None
    assert of_bearer("Bearer  a.b.c ") == "a.b.c"
    assert of_bearer("Basic abc") == of_bearer("Bearer a\x01b") == ""
    for token in ("x", "a.b.c", "a." + base64.urlsafe_b64encode(b"{}").decode() + ".c", "a." + "W" * 4000):
        assert time.time() + 3500 < token_expiry(token) <= time.time() + 3600
    assert "s3cret" not in repr(Credential("PLAIN", "alice", "s3cret"))
