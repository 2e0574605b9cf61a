"""A Kafka that asks everybody who they are, for the tests of a file in this folder."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from kafka_gateway.assembly.app import App
from tests.behaviour.clients import V2, Answer, encoded, v2
from tests.cache import unavailable
from tests.kafka_cluster import KafkaUnavailableError
from tests.secured_kafka import GATEWAY, PLAIN_USERS, SecuredKafka
from tests.transports.conftest import gateway


class _Secured:
    """The one of all files of this folder, which one worker runs (tests/scheduling.py)."""

    def __init__(self) -> None:
        self._cluster: SecuredKafka | None = None

    def started(self) -> SecuredKafka:
        if self._cluster is None:
            self._cluster = SecuredKafka().start()
        return self._cluster

    def stop(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.stop()


_secured = _Secured()


@pytest.fixture(scope="module")
def secured_kafka() -> SecuredKafka:
    """A broker with SASL_SSL and ACLs, for the tests of this folder: use topics and groups of your own. Alice and bob
    have no rights but those that a test gives them."""
    try:
        return _secured.started()
    except KafkaUnavailableError as error:
        unavailable(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """It ends with the last test of the folder: with nothing to do it takes 3 % of a processor."""
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path.parent != item.path.parent:
            _secured.stop()


@pytest.fixture
def topics(secured_kafka: SecuredKafka, unique: Callable[..., str]) -> tuple[str, str]:
    """Alice's topic and bob's, of one record each. Each may do everything with its own, and nothing else."""
    names = unique("alices"), unique("bobs")
    for user, topic in zip(("alice", "bob"), names, strict=True):
        secured_kafka.create_topic(topic)
        secured_kafka.allow(user, "read,write,describe-configs", f"topic:{topic}")
        secured_kafka.allow(user, "read", f"group:{topic}*")
        secured_kafka.allow(user, "write", f"transactional-id:{topic}*")
        secured_kafka.put(topic, json.dumps(f"of {user}").encode())
    return names


class Person:
    """A client of a gateway that shows what it is given, over plain HTTP."""

    def __init__(self, app: App, name: str = "", password: str = "", **headers: str) -> None:
        self.url = app.addresses[0]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if name:
            self.headers["Authorization"] = basic(name, password or PLAIN_USERS.get(name, ""))

    async def __aenter__(self) -> Person:
        self.http = aiohttp.ClientSession(headers=self.headers, timeout=aiohttp.ClientTimeout(30))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.close()

    async def ask(self, method: str, path: str, body: Any = None, content_type: str = V2, accept: str = "") -> Answer:
        headers = {"Content-Type": content_type} if body is not None else {}
        if accept:
            headers["Accept"] = accept
        async with self.http.request(method, self.url + path, data=encoded(body), headers=headers) as response:
            return Answer(response.status, response.headers.get("Content-Type", ""), await response.read())

    async def produce(self, topic: str, *values: Any) -> Answer:
        records = {"records": [{"value": value} for value in values]}
        return await self.ask("POST", f"/topics/{topic}", records, v2("json"))


def basic(name: str, password: str) -> str:
    return "Basic " + x_kafka_auth(name, password)


def x_kafka_auth(name: str, password: str) -> str:
    """The value of the header."""
    return base64.b64encode(f"{name}:{password}".encode()).decode()


Start = Callable[..., contextlib.AbstractAsyncContextManager[App]]


@pytest.fixture
def start(secured_kafka: SecuredKafka) -> Start:
    """`async with start(mechanism="PLAIN", **{"kafka.credentials": "client"}) as app`: a gateway on that Kafka."""

    @contextlib.asynccontextmanager
    async def start(mechanism: str = "PLAIN", *extra: object, **settings: Any) -> AsyncIterator[App]:
        if mechanism != "PLAIN" and not secured_kafka.lets_in(*GATEWAY, mechanism):
            secured_kafka.add_user(*GATEWAY)
        properties = dict(line.split("=", 1) for line in secured_kafka.properties(mechanism))
        async with gateway(*extra, **{**properties, "listeners.insecure": True, **settings}) as app:
            yield app

    return start
