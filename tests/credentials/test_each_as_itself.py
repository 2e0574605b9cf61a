"""Alice and bob, each a user of Kafka's own, over every way in (security.md §4, §8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from tests.behaviour.clients import v2
from tests.credentials.conftest import Person, Start
from tests.waiting import PATIENCE_S

PASS_THROUGH = {"kafka.credentials": "client", "authentication.method": "KAFKA"}


@pytest.fixture
async def app(start: Start) -> AsyncIterator[App]:
    async with start(**PASS_THROUGH) as running:
        yield running


@pytest.fixture
async def alice(app: App) -> AsyncIterator[Person]:
    async with Person(app, "alice") as person:
        yield person


@pytest.fixture
async def bob(app: App) -> AsyncIterator[Person]:
    async with Person(app, "bob") as person:
        yield person


async def test_each_produces_to_its_own_topic(topics: tuple[str, str], alice: Person, bob: Person) -> None:
    assert (await alice.produce(topics[0], 1)).status == 200
    assert (await bob.produce(topics[1], 1)).status == 200
    refused = await bob.produce(topics[0], 1)
    assert refused.status == 403
    assert refused.json["offsets"][0]["error_code"] == 40301
    assert topics[0] in refused.json["offsets"][0]["error"]


async def test_each_sees_its_own_topics(topics: tuple[str, str], alice: Person, bob: Person) -> None:
    assert topics[0] in (await alice.ask("GET", "/topics")).json
    assert topics[1] not in (await alice.ask("GET", "/topics")).json
    assert (await bob.ask("GET", f"/topics/{topics[0]}")).status == 403
    assert (await bob.ask("GET", f"/topics/{topics[1]}")).status == 200


async def test_v3_is_asked_in_the_client_s_name(topics: tuple[str, str], alice: Person, bob: Person) -> None:
    clusters = (await alice.ask("GET", "/v3/clusters")).json["data"]
    base = f"/v3/clusters/{clusters[0]['cluster_id']}"
    names = [each["topic_name"] for each in (await bob.ask("GET", f"{base}/topics")).json["data"]]
    assert topics[1] in names
    assert topics[0] not in names
    sent = await alice.ask(
        "POST", f"{base}/topics/{topics[0]}/records", {"value": {"type": "JSON", "data": 1}}, "application/json"
    )
    assert sent.json["error_code"] == 200, sent
    sent = await bob.ask(
        "POST", f"{base}/topics/{topics[0]}/records", {"value": {"type": "JSON", "data": 1}}, "application/json"
    )
    assert sent.json["error_code"] == 40301, sent
    # Reassignments are a request of the gateway's own to the brokers: alice may not describe the cluster.
    answer = await alice.ask("GET", f"{base}/topics/{topics[0]}/partitions/0/reassignment")
    assert answer.status in (403, 404), answer


async def test_instances_read_as_their_maker(topics: tuple[str, str], alice: Person, bob: Person) -> None:
    made = await alice.ask(
        "POST", f"/consumers/{topics[0]}", {"name": "one", "format": "json", "auto.offset.reset": "earliest"}
    )
    assert made.status == 200, made
    path = f"/consumers/{topics[0]}/instances/one"
    assert (await alice.ask("POST", f"{path}/subscription", {"topics": [topics[0]]})).status == 204
    found: list[Any] = []
    for _ in range(20):
        found += (await alice.ask("GET", f"{path}/records?timeout=1000", accept=v2("json"))).json
        if found:
            break
    assert [each["value"] for each in found] == ["of alice"]
    assert (await bob.ask("GET", f"{path}/records", accept=v2("json"))).error_code == 40403
    assert (await bob.ask("DELETE", path)).error_code == 40403
    assert (await alice.ask("DELETE", path)).status == 204


async def test_an_instance_in_a_group_that_kafka_refuses(topics: tuple[str, str], bob: Person) -> None:
    group = topics[0]  # alice's
    made = await bob.ask("POST", f"/consumers/{group}", {"name": "two", "format": "json"})
    path = f"/consumers/{group}/instances/two"
    assert made.status == 200
    await bob.ask("POST", f"{path}/subscription", {"topics": [topics[1]]})
    for _ in range(20):
        answer = await bob.ask("GET", f"{path}/records?timeout=500", accept=v2("json"))
        if answer.status != 200:
            break
    assert (answer.status, answer.error_code) == (403, 40301), answer
    assert "GROUP_AUTHORIZATION_FAILED" in answer.message


async def test_streams_are_never_shared_by_identities(
    app: App, topics: tuple[str, str], alice: Person, bob: Person
) -> None:
    path = f"{alice.url}/topics/{topics[0]}/stream?offset=earliest&format=json"
    async with alice.http.get(path, headers={"Accept": "text/event-stream"}) as one:
        assert one.status == 200
        await _until(one, b"of alice")
        # The topic is being read for alice, and what was read lies ready: bob gets nothing of it.
        async with bob.http.get(path, headers={"Accept": "text/event-stream"}) as other:
            assert other.status == 403, await other.text()


async def test_plain_reads(topics: tuple[str, str], alice: Person, bob: Person) -> None:
    path = f"/topics/{topics[0]}/partitions/0/messages?offset=0&count=1"
    accept = "application/vnd.kafka.json.v1+json"
    assert (await alice.ask("GET", path, accept=accept)).json[0]["value"] == "of alice"
    refused = await bob.ask("GET", path, accept=accept)
    assert refused.status == 500  # v1 has one code for all that Kafka refuses
    assert "TOPIC_AUTHORIZATION_FAILED" in refused.message


async def test_nobody_is_served_without_credentials(app: App, topics: tuple[str, str]) -> None:
    async with Person(app) as nobody:
        assert (await nobody.ask("GET", "/topics")).status == 401
    async with Person(app, "alice", "wrong") as guesser:
        answer = await guesser.ask("GET", "/topics")
    assert (answer.status, answer.message.partition(":")[0]) == (401, "Authentication to Kafka failed")


async def _until(response: aiohttp.ClientResponse, wanted: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for line in response.content:
            if wanted in line:
                return
    raise AssertionError(f"{wanted!r} never came")
