"""A1: what a client may set of the Kafka client behind its consumer instance: a handful of names, and no more.

Some properties of librdkafka load libraries, open files or connect anywhere (reliability.md §2.1).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import confluent_kafka
import pytest

from kafka_gateway.assembly.app import App, serve
from kafka_gateway.assembly.plugins import Plugins
from kafka_gateway.config import load
from kafka_gateway.kafka.clients import factory
from kafka_gateway.kafka.clients.fetched_ahead import CountedConsumer
from tests.acceptance.rest import Rest
from tests.behaviour.clients import V1, V2, Answer, v2
from tests.librdkafka_properties import known_properties

DOCUMENTED = {
    V1: {"auto.offset.reset": "largest", "auto.commit.enable": "true", "session.timeout.ms": "6000"},
    V2: {
        "auto.offset.reset": "earliest",
        "auto.commit.enable": "true",
        "fetch.min.bytes": "1",
        "isolation.level": "read_committed",
        "session.timeout.ms": "6000",
    },
}
"""The names that librdkafka has too, with a value."""

ACCEPTED = {V1: DOCUMENTED[V1].keys() | {"id"}, V2: DOCUMENTED[V2].keys() | {"id", "consumer.request.timeout.ms"}}

HIDDEN = ("test.mock.num.brokers", "test.mock.broker.rtt", "on_commit", "logger", "error_cb", "throttle_cb", "stats_cb")


PER_INSTANCE = ("client.id", "group.id", "logger", "on_commit", "stats_cb")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every property of librdkafka and of the binding."""
    return sorted({known.name for known in known_properties(tmp_path_factory.mktemp("a1"))} | set(HIDDEN))


@dataclasses.dataclass
class Built:
    """The configurations that consumers of librdkafka were built with."""

    configs: list[dict[str, Any]]

    def last(self) -> dict[str, Any]:
        """The newest, without what differs from instance to instance."""
        config = self.configs[-1]
        return {name: value for name, value in config.items() if name not in PER_INSTANCE}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Built:
    original, found = CountedConsumer, Built([])

    def build(config: dict[str, Any], *more: Any) -> confluent_kafka.Consumer:
        found.configs.append(dict(config))
        return original(config, *more)

    monkeypatch.setattr(factory, "CountedConsumer", build)
    return found


@pytest.fixture
async def app() -> AsyncIterator[App]:
    plugins = Plugins(installed=False)
    config = load(plugins.config_keys()).with_values({"port": 0, "access.log.enable": False, "errors.help": False})
    async with serve(config, plugins) as running:
        yield running


@pytest.fixture
async def rest(app: App) -> AsyncIterator[Rest]:
    async with Rest(app.addresses[0]) as client:
        yield client


async def create(rest: Rest, media_type: str, body: Any = None, path: str = "/consumers/a1", **headers: str) -> Answer:
    return await rest.request(
        "POST", path, body if body is not None else {}, content_type=media_type, accept=media_type, **headers
    )


@pytest.mark.parametrize("media_type", [V1, V2])
async def test_a1_as_members_of_the_body(rest: Rest, built: Built, names: list[str], media_type: str) -> None:
    prefixed = {prefix + name for name in names for prefix in ("", "consumer.", "client.")}
    for name in sorted(prefixed - ACCEPTED[media_type]):
        answer = await create(rest, media_type, {name: "1"})
        assert answer.status == 422, (name, answer)
        assert answer.error_code == 422, (name, answer)
        assert name in answer.message
    for name, documented in DOCUMENTED[media_type].items():
        answer = await create(rest, media_type, {name.upper(): documented})
        assert answer.status == 422, (name, answer)
        answer = await create(rest, media_type, {f" {name}": documented})
        assert answer.status == 422, (name, answer)
    assert built.configs == []


@pytest.mark.parametrize("media_type", [V1, V2])
async def test_a1_the_documented_members_change_that_and_nothing_else(
    rest: Rest, built: Built, media_type: str
) -> None:
    assert (await create(rest, media_type)).status == 200
    plain = built.last()
    changes = {
        "auto.offset.reset": {"auto.offset.reset": "earliest" if media_type == V2 else "latest"},
        "isolation.level": {"isolation.level": "read_committed"},
    }
    for name, value in DOCUMENTED[media_type].items():
        assert (await create(rest, media_type, {name: value})).status == 200
        # The others are settings of the gateway: it commits, and it gathers what a read returns.
        assert built.last() == plain | changes.get(name, {}), name
    forced = {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "allow.auto.create.topics": False,
        "enable.partition.eof": False,
    }
    assert plain.items() >= forced.items()


@pytest.mark.parametrize("media_type", [V1, V2])
async def test_a1_as_headers_and_query(rest: Rest, built: Built, names: list[str], media_type: str) -> None:
    assert (await create(rest, media_type)).status == 200
    plain = built.last()
    for some in (names[start : start + 30] for start in range(0, len(names), 30)):
        query = "&".join(f"{quote(name)}=1&consumer.{quote(name)}=1" for name in some)
        assert (await create(rest, media_type, path=f"/consumers/a1?{query}")).status == 200
        assert built.last() == plain
        headers = {prefix + name: "1" for name in some for prefix in ("", "X-Kafka-")}
        assert (await create(rest, media_type, **headers)).status == 200
        assert built.last() == plain
    assert {config["group.id"] for config in built.configs} == {"a1"}
    assert all(config["client.id"].startswith("rest-consumer-") for config in built.configs)


async def test_a1_names_do_not_reach_other_properties(rest: Rest, built: Built) -> None:
    """The instance's name becomes the client.id, which brokers tell quotas by, and the group is the path's."""
    for name in ("kafka-gateway", "x;bootstrap.servers=evil:9092", "a b\tc"):
        answer = await create(rest, V2, {"name": name})
        if answer.status == 200:
            assert built.configs[-1]["client.id"].startswith("rest-consumer-")
            assert not set(built.configs[-1]["client.id"]) & set("; =:\t")
        else:
            assert answer.status == 422, answer
    assert {config["group.id"] for config in built.configs} == {"a1"}
    assert {config["bootstrap.servers"] for config in built.configs} == {built.configs[0]["bootstrap.servers"]}


async def test_a1_in_other_bodies(rest: Rest, names: list[str]) -> None:
    answer = await create(rest, V2)
    path = f"/consumers/a1/instances/{answer.json['instance_id']}"
    bodies = [
        ("POST", "/topics/t", {"records": [{"value": 1}]}, v2("json")),
        ("POST", f"{path}/subscription", {"topics": ["t"]}, V2),
        ("POST", f"{path}/assignments", {"partitions": []}, V2),
        ("POST", f"{path}/positions", {"offsets": []}, V2),
    ]
    for name, (method, place, body, content_type) in itertools.product(names, bodies):
        answer = await rest.request(method, place, {**body, name: "1"}, content_type=content_type)
        assert (answer.status, answer.error_code) == (422, 422), (place, name, answer)
