"""Numbers and names that no client should send, at every place that takes one: no 5xx, whatever is sent (issue 12, 11).

librdkafka takes some numbers for words (-1 is the end, -2 the beginning, -1001 "invalid"), cuts others to 32 bits, and
ends the process over a few. So a number of a client is judged before it gets there.
"""

# ruff: noqa: E501

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from urllib.parse import quote

import pytest

from kafka_gateway.assembly.app import App
from kafka_gateway.messages import Request
from kafka_gateway.session import Session
from tests.kafka_cluster import KafkaCluster
from tests.transports.conftest import gateway

pytestmark = pytest.mark.timeout(240)

V1, V2 = "application/vnd.kafka.v1+json", "application/vnd.kafka.v2+json"
JSON_V1, JSON_V2 = "application/vnd.kafka.json.v1+json", "application/vnd.kafka.json.v2+json"
JSON = "application/json"
ADMIN = "websocket-proxy-admin"
"""Stands for the area of the resources that are reached by no other."""

NUMBERS = (
    "-1", "-2", "-1000", "-1001", "-2001", "-0", "2147483647", "2147483648", "-2147483648", "-2147483649",
    "4294967296", "9007199254740993", "9223372036854775806", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551616", "1" * 400, "1.5", "1e2", "1e400", "-1e-400",
)  # fmt: skip
"""Each is JSON as it stands, and text for a path or a query."""
TEXTS = ("", " ", "+1", "1 ", "0x10", "1_000", "NaN", "Infinity", "\uff11", "\u0661", "null", "true", "0" * 300)
"""No JSON numbers; in bodies they are sent as texts."""
NAMES = (
    "a/b",
    "..",
    ".",
    "^.*",
    "a b",
    "é",
    "\x00",
    "a\x00b",
    "a" * 250,
    "a" * 300,
    "a" * 5000,
    "%2F",
    "a\nb",
    "-",
    "*",
    "__consumer_offsets",
)

INSTANCE = "/consumers/g/instances/i"
PLACE = '"topic":"TOPIC","partition":0'


BY_CONTRACT = (
    b"Fetch response contains an error code: 1",  # v1, of an offset that is not in the log (kafka-rest-http.md §5.4)
    b"Kafka does not have these partitions",  # a commit for one that is not there (kafka-rest-http.md, observed)
    b"This server does not host this topic-partition.",  # whatever Kafka refuses (websocket-proxy.md §1.8)
)
"""What is 500 because the programs whose place we take say so."""


class Field(NamedTuple):
    """A request with a place for a number (``N``) or a name (``NAME``)."""

    method: str
    target: str
    body: str = ""
    type: str = V2
    accept: str = V2


def _bodies(method: str, target: str, bodies: tuple[str, ...], **more: str) -> list[Field]:
    return [Field(method, target, body, **more) for body in bodies]


FIELDS = [
    # paths
    *(Field("GET", f"/topics/TOPIC/partitions/N{rest}", accept=accept)
      for rest, accept in (("", V1), ("", V2), ("/offsets", V2), ("/messages", JSON_V1))),
    Field("POST", "/topics/TOPIC/partitions/N", '{"records":[{"value":1}]}', JSON_V2),
    Field("POST", "/topics/TOPIC/partitions/N", '{"records":[{"value":1}]}', JSON_V1, V1),
    *(Field("GET", f"/v3/clusters/CLUSTER/{rest}", accept=JSON) for rest in (
        "brokers/N", "brokers/N/configs", "brokers/N/partition-replicas", "brokers/N/configs/log.retention.ms",
        "topics/TOPIC/partitions/N", "topics/TOPIC/partitions/N/offset", "topics/TOPIC/partitions/N/replicas",
        "topics/TOPIC/partitions/N/replicas/N", "topics/TOPIC/partitions/N/reassignment",
        "consumer-groups/g/lags/TOPIC/partitions/N",
        "consumer-groups/g/consumers/c/assignments/TOPIC/partitions/N",
    )),
    # queries
    *(Field("GET", f"/topics/TOPIC/partitions/0/messages?{query}", accept=JSON_V1) for query in ("offset=N", "count=N")),
    *(Field("GET", f"{INSTANCE}/records?{query}", accept=JSON_V2) for query in ("timeout=N&max_bytes=1", "max_bytes=N&timeout=0")),
    *(Field("GET", f"/topics/TOPIC/stream?{query}", accept="*/*") for query in (
        "offset=N", "since=N", "limit=N", "heartbeat=N", "partitions=N", "partitions=0,N")),
    Field("GET", "/flasfka/TOPIC/pulls?limit=N", accept="*/*"),
    *(Field("GET", f"/topics/TOPIC/stream?until=end&last_event_id={quote(token)}", accept="*/*") for token in (
        '[{"topic":"TOPIC","partition":0,"offset":N}]', '[{"topic":"TOPIC","partition":N,"offset":0}]')),
    Field("GET", "/v3/clusters/CLUSTER/topics/TOPIC/partitions/0/offset?timestamp=N", accept=JSON),
    # bodies
    *_bodies("POST", "/topics/TOPIC", (
        '{"records":[{"value":1,"partition":N}]}', '{"records":[{"value":1,"timestamp":N}]}',
        '{"records":[{"value":1}],"value_schema_id":N}', '{"records":[{"value":1}],"key_schema_id":N}'), type=JSON_V2),
    *_bodies("POST", "/consumers/made", (
        '{"fetch.min.bytes":N}', '{"responseMinBytes":N}', '{"consumer.request.timeout.ms":N}', '{"requestWaitMs":N}',
        '{"session.timeout.ms":N}')),
    Field("POST", "/consumers/made", '{"session.timeout.ms":N}', V1, V1),
    *_bodies("POST", f"{INSTANCE}/positions", (
        '{"offsets":[{"topic":"TOPIC","partition":N,"offset":0}]}', f'{{"offsets":[{{{PLACE},"offset":N}}]}}',
        f'{{"timestamps":[{{{PLACE},"timestamp":N}}]}}', '{"timestamps":[{"topic":"TOPIC","partition":N,"timestamp":0}]}')),
    *_bodies("POST", f"{INSTANCE}/positions/beginning", ('{"partitions":[{"topic":"TOPIC","partition":N}]}',)),
    *_bodies("POST", f"{INSTANCE}/positions/end", ('{"partitions":[{"topic":"TOPIC","partition":N}]}',)),
    *_bodies("POST", f"{INSTANCE}/offsets", (
        f'{{"offsets":[{{{PLACE},"offset":N}}]}}', '{"offsets":[{"topic":"TOPIC","partition":N,"offset":0}]}')),
    *_bodies("GET", f"{INSTANCE}/offsets", ('{"partitions":[{"topic":"TOPIC","partition":N}]}',)),
    *_bodies("POST", "/consumers/assigned/instances/i/assignments", ('{"partitions":[{"topic":"TOPIC","partition":N}]}',)),
    *_bodies("POST", "/v3/clusters/CLUSTER/topics/TOPIC/records", (
        '{"value":{"type":"JSON","data":1},"partition_id":N}', '{"value":{"type":"JSON","data":1},"timestamp":N}',
        '{"value":{"schema_id":N,"data":1}}', '{"value":{"schema_version":N,"data":1}}'), type=JSON, accept=JSON),
    *_bodies("POST", "/v3/clusters/CLUSTER/topics/TOPIC/records:batch", (
        '{"entries":[{"id":"1","value":{"type":"JSON","data":1},"partition_id":N}]}',), type=JSON, accept=JSON),
    *_bodies("POST", "/v3/clusters/CLUSTER/topics", (
        '{"topic_name":"TOPIC","partitions_count":N}', '{"topic_name":"TOPIC","replication_factor":N}',
        '{"topic_name":"TOPIC","replicas_assignments":[{"partition_id":N,"broker_ids":[1]}]}',
        '{"topic_name":"TOPIC","replicas_assignments":[{"partition_id":0,"broker_ids":[N]}]}',
        '{"topic_name":"TOPIC","configs":[{"name":"retention.ms","value":"N"}]}'), type=JSON, accept=JSON),
    *_bodies("PUT", "/admin/consumer-group/altered/offsets/alter/TOPIC", (
        f'[{{{PLACE},"offset":N}}]', '[{"topic":"TOPIC","partition":N,"offset":0}]'), type=JSON, accept=ADMIN),
    *(Field(method, f"/admin/client/config/consumer{rest}", f'{{"group-id":"c","{name}":N}}', JSON, ADMIN)
      for name in ("messages-per-second", "max-connections", "batch-size") for method, rest in (("POST", ""), ("PUT", "/c"))),
    *_bodies("PATCH", "/v3/clusters/CLUSTER/topics/TOPIC", ('{"partitions_count":N}',), type=JSON, accept=JSON),
    *_bodies("POST", "/v3/clusters/CLUSTER/consumer-groups/none/offsets:reset", (
        '{"topic_name":"TOPIC","to":N}', '{"topic_name":"TOPIC","to_offset":N}', '{"topic_name":"TOPIC","to_timestamp":N}',
        '{"topic_name":"TOPIC","partition_id":N,"to":"earliest"}', '{"topic_name":"TOPIC","shift_by":N}'), type=JSON, accept=JSON),
]  # fmt: skip

NAMED = [
    *(Field("GET", target, accept=accept) for target, accept in (
        ("/topics/NAME", V2), ("/topics/NAME/partitions", V1), ("/topics/NAME/partitions/0/offsets", V2),
        ("/topics/NAME/partitions/0/messages?offset=0", JSON_V1), ("/topics/NAME/stream?limit=1&until=end", "*/*"),
        ("/topics/TOPIC/stream?group=NAME&until=end", "*/*"), ("/flasfka/NAME/g", "*/*"), ("/flasfka/TOPIC/NAME", "*/*"),
        ("/consumers/NAME/instances/i/records", JSON_V2), ("/consumers/g/instances/NAME/records", JSON_V2),
        ("/v3/clusters/CLUSTER/topics/NAME", JSON), ("/v3/clusters/CLUSTER/topics/NAME/configs", JSON),
        ("/v3/clusters/CLUSTER/topics/NAME/partitions", JSON), ("/v3/clusters/CLUSTER/consumer-groups/NAME", JSON),
        ("/v3/clusters/CLUSTER/consumer-groups/NAME/lags", JSON), ("/v3/clusters/CLUSTER/consumer-groups/NAME/consumers", JSON),
        ("/v3/clusters/NAME/topics", JSON), ("/v3/clusters/CLUSTER/topics/TOPIC/configs/NAME", JSON),
        ("/v3/clusters/CLUSTER/brokers/1/configs/NAME", JSON))),
    Field("POST", "/topics/NAME", '{"records":[{"value":1}]}', JSON_V2),
    Field("POST", "/topics/NAME", '{"records":[{"value":1}]}', JSON_V1, V1),
    Field("POST", "/flasfka/NAME", '{"messages":["m"]}', JSON, "*/*"),
    Field("POST", "/consumers/NAME", '{}'),
    Field("POST", "/consumers/NAME", '{}', V1, V1),
    Field("POST", "/consumers/made", '{"name":"NAME"}'),
    Field("POST", "/consumers/made", '{"format":"NAME"}'),
    Field("POST", "/consumers/made", '{"auto.offset.reset":"NAME"}'),
    Field("POST", f"{INSTANCE}/subscription", '{"topics":["NAME"]}'),
    Field("POST", "/consumers/named/instances/i/subscription", '{"topics":["NAME"]}'),
    Field("POST", "/consumers/matched/instances/i/subscription", '{"topic_pattern":"NAME"}'),
    Field("POST", "/consumers/assigned/instances/i/assignments", '{"partitions":[{"topic":"NAME","partition":0}]}'),
    Field("POST", f"{INSTANCE}/positions", '{"offsets":[{"topic":"NAME","partition":0,"offset":0}]}'),
    Field("POST", f"{INSTANCE}/positions/end", '{"partitions":[{"topic":"NAME","partition":0}]}'),
    Field("POST", f"{INSTANCE}/offsets", '{"offsets":[{"topic":"NAME","partition":0,"offset":0}]}'),
    Field("POST", f"{INSTANCE}/offsets", '{"offsets":[{"topic":"TOPIC","partition":0,"offset":0,"metadata":"NAME"}]}'),
    Field("GET", f"{INSTANCE}/offsets", '{"partitions":[{"topic":"NAME","partition":0}]}'),
    Field("POST", "/v3/clusters/CLUSTER/topics/NAME/records", '{"value":{"type":"JSON","data":1}}', JSON, JSON),
    Field("POST", "/v3/clusters/CLUSTER/topics", '{"topic_name":"NAME","validate_only":true}', JSON, JSON),
    Field("POST", "/v3/clusters/CLUSTER/topics", '{"topic_name":"new","validate_only":true,"configs":[{"name":"NAME","value":"1"}]}', JSON, JSON),
    Field("PUT", "/v3/clusters/CLUSTER/topics/TOPIC/configs/NAME", '{"value":"1"}', JSON, JSON),
    Field("DELETE", "/v3/clusters/CLUSTER/topics/NAME", accept=JSON),
    Field("POST", "/v3/clusters/CLUSTER/consumer-groups/NAME/offsets:reset", '{"topic_name":"TOPIC","to":"earliest"}', JSON, JSON),
]  # fmt: skip


class Asker:
    """Asks the gateway without HTTP, as every transport does, and notes what is an error of the gateway's own."""

    def __init__(self, app: App, topic: str) -> None:
        self._app, self._topic = app, topic
        self._session = Session("test")
        app.gateway.admission.welcome(self._session)
        self.cluster = ""
        self.failed: list[str] = []

    async def ask(
        self, method: str, target: str, body: str = "", type_: str = V2, accept: str = V2
    ) -> tuple[int, bytes]:
        target = target.replace("TOPIC", self._topic).replace("CLUSTER", self.cluster)
        path, _, query_text = target.partition("?")
        query = dict(pair.split("=", 1) for pair in query_text.split("&")) if query_text else {}
        area = accept if accept == ADMIN else ""
        headers = {"accept": "*/*" if area else accept} | ({"content-type": type_} if body else {})
        data = body.replace("TOPIC", self._topic).encode()
        reply = await self._app.gateway.dispatch(Request(self._session, method, path, query, headers, data, area=area))
        if not isinstance(reply.body, bytes):
            self._session.streams.discard(reply.body)
            await reply.body.aclose()
            return reply.status, b""
        if reply.settle is not None:
            reply.settle(True)
        if reply.status >= 500 and not any(text in reply.body for text in BY_CONTRACT):
            self.failed.append(f"{reply.status} {method} {target} {body[:200]!r}: {reply.body[:200]!r}")
        return reply.status, reply.body


@pytest.fixture
async def asker(kafka: KafkaCluster, topic: str) -> AsyncIterator[Asker]:
    kafka.create_topic(topic)
    settings = {
        "bootstrap.servers": kafka.bootstrap, "embedded.enable": False, "push.pull.enable": True,
        "push.pull.prefix": "/flasfka", "consumer.request.timeout.ms": 50, "consumer.instances.max": 5000,
        "push.pull.timeout.ms": 50, "push.pull.wait.max.ms": 200,
    }  # fmt: skip
    async with gateway(**settings) as app:
        asker = Asker(app, topic)
        asker.cluster = json.loads((await asker.ask("GET", "/v3/clusters", accept=JSON))[1])["data"][0]["cluster_id"]
        for group in ("g", "assigned", "named", "matched"):
            assert (await asker.ask("POST", f"/consumers/{group}", '{"name":"i","format":"json"}'))[0] == 200
        assert (await asker.ask("POST", f"{INSTANCE}/assignments", f'{{"partitions":[{{{PLACE}}}]}}'))[0] == 204
        yield asker


def with_numbers(field: Field) -> Iterator[Field]:
    for number in (*NUMBERS, *TEXTS):
        as_json = number if number in NUMBERS else json.dumps(number)
        yield field._replace(
            target=field.target.replace("N", quote(number, safe="")) if "N" in _bare(field.target) else field.target,
            body=field.body.replace("N", number if '"N"' in field.body else as_json)
            if "N" in _bare(field.body)
            else field.body,
        )


def _bare(text: str) -> str:
    return text.replace("JSON", "").replace("TOPIC", "").replace("INSTANCE", "")


async def test_no_number_is_a_fault_of_the_gateway(asker: Asker) -> None:
    for field in FIELDS:
        for each in with_numbers(field):
            await asker.ask(*each)
    assert asker.failed == [], "\n".join(each[:600] for each in asker.failed)


async def test_no_name_is_a_fault_of_the_gateway(asker: Asker) -> None:
    for field in NAMED:
        for name in NAMES:
            in_json = json.dumps(name)[1:-1]
            await asker.ask(
                field.method, field.target.replace("NAME", quote(name, safe="")), field.body.replace("NAME", in_json),
                field.type, field.accept,
            )  # fmt: skip
    assert asker.failed == [], "\n".join(each[:600] for each in asker.failed)
