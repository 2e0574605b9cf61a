"""The services behind the real dispatch, with a Kafka in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import pytest

from kafka_gateway.assembly import builtin
from kafka_gateway.auth import NoAuthentication
from kafka_gateway.codec import Codec
from kafka_gateway.config import Config, load
from kafka_gateway.core import Gateway
from kafka_gateway.messages import NOTHING, Reply, Request
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Router
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.services.v3.routes import V3Routes
from kafka_gateway.session import Principal, Session
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeKafka

V1 = "application/vnd.kafka.v1+json"
V2 = "application/vnd.kafka.v2+json"


def embedded(format: str, generation: str = "v2") -> str:
    return f"application/vnd.kafka.{format}.{generation}+json"


def configuration(**values: object) -> Config:
    """A configuration; ``_`` in names stands for a dot."""
    given = {name.replace("_", "."): value for name, value in values.items()}
    return load(BUILTIN_KEYS).with_values({"errors.help": False, **given})


def codecs(config: Config) -> dict[str, Codec]:
    return {codec.name: codec for codec in builtin.gateway_codecs(config)}


@dataclass
class Answer:
    status: int
    media_type: str
    headers: dict[str, str]
    body: Any
    """JSON, or None if there is none."""

    @property
    def code(self) -> Any:
        return self.body["error_code"]

    @property
    def message(self) -> str:
        return str(self.body["message"])


class Rest:
    """A client that sends its requests through dispatch."""

    at_once = False
    """Whether it begins those without a task that need none (gateway/at_once.py)."""
    begun = 0
    """How many it has begun so."""

    def __init__(self, kafka: FakeKafka, config: Config) -> None:
        self.kafka = kafka
        self.schemas = Catalogue(config, codecs(config))
        self.services = RestServices(config, kafka, codecs(config), self.schemas)
        v3_routes = V3Routes(config, kafka, codecs(config), self.schemas)
        self.v3_produce = v3_routes.produce
        routes = [*self.services.routes(), *(v3_routes.routes() if config.flag("api.v3.enable") else ())]
        self.gateway = Gateway(config, Router(routes), codecs(config), NoAuthentication())
        self.session = Session("test")
        self.base_url = "http://gateway.example:8082"

    def as_principal(self, name: str) -> Rest:
        """The same gateway, as somebody else."""
        other = Rest.__new__(Rest)
        other.__dict__ = dict(self.__dict__)
        other.session = Session("test", principal=Principal(name))
        return other

    async def send(
        self, method: str, target: str, body: Any = b"", accept: str | None = None, content_type: str | None = None
    ) -> Answer:
        path, _, query = target.partition("?")
        headers = {name: value for name, value in (("accept", accept), ("content-type", content_type)) if value}
        parameters: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            parameters.setdefault(name, value)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(self.session, method, path, parameters, headers, raw, self.base_url)
        reply = await self._begin(request) if self.at_once else None
        if reply is None:
            reply = await self.gateway.dispatch(request)
        assert isinstance(reply.body, bytes)
        return Answer(
            reply.status, reply.media_type, dict(reply.headers), json.loads(reply.body) if reply.body else None
        )

    async def _begin(self, request: Request) -> Reply | None:
        at_once = self.gateway.at_once
        # The first request of its kind has its plan made; this one has nothing that could be stored.
        await self.gateway.dispatch(
            Request(self.session, request.method, request.path, NOTHING, request.headers, b"-", self.base_url)
        )
        plan = at_once.plan(request)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if plan is None or not at_once.begin(plan, request, answered.set_result):
            return None
        self.begun += 1
        return await answered

    async def get(self, target: str, body: Any = b"", accept: str | None = None) -> Answer:
        return await self.send("GET", target, body, accept)

    async def post(self, target: str, body: Any = b"", content_type: str | None = None) -> Answer:
        return await self.send("POST", target, body, None, content_type)

    async def delete(self, target: str, accept: str | None = None) -> Answer:
        return await self.send("DELETE", target, b"", accept)

    async def produce(self, topic: str, *records: Any, format: str = "json", generation: str = "v2") -> Answer:
        return await self.post(f"/topics/{topic}", {"records": list(records)}, embedded(format, generation))

    async def instance(self, group: str = "g", name: str = "c", **settings: Any) -> str:
        """The path of a new v2 instance; ``_`` in the names of settings stands for a dot."""
        defaults = {"name": name, "format": "json", "auto.offset.reset": "earliest"}
        request = defaults | {setting.replace("_", "."): value for setting, value in settings.items()}
        answer = await self.post(f"/consumers/{group}", request, V2)
        assert answer.status == 200, answer.body
        return f"/consumers/{group}/instances/{answer.body['instance_id']}"

    async def read(self, instance: str, query: str = "", format: str = "json") -> Answer:
        return await self.get(f"{instance}/records{query}", accept=embedded(format))


Start = Callable[..., Rest]


@pytest.fixture
def fake() -> FakeKafka:
    return FakeKafka(t=2, u=1)


@pytest.fixture
async def start(fake: FakeKafka) -> AsyncIterator[Start]:
    """Makes a client of a gateway with these settings; ``_`` in their names stands for a dot."""
    started: list[Rest] = []

    def make(**values: object) -> Rest:
        started.append(
            Rest(fake, configuration(**{"consumer_request_timeout_ms": 200, "schema_registry_url": (), **values}))
        )
        return started[-1]

    yield make
    for rest in started:
        rest.services.drain()
        await rest.services.registry.close_all()


@pytest.fixture
def rest(start: Start) -> Rest:
    return start()
