"""Nobody gets at what the nodes of a cluster keep in Kafka, by any route (cluster.md §4.1)."""

from __future__ import annotations

import json

import pytest

from tests.services.conftest import V2, Rest, embedded
from tests.services.fake_administration import CLUSTER
from tests.services.fake_kafka import FakeKafka

TOPIC, GROUP = "_gateway.another.instances", "_gateway.another"
JSON = "application/json"
V3 = f"/v3/clusters/{CLUSTER}"
PLACE = {"topic": TOPIC, "partition": 0}

REFUSED = {
    "delete": ("DELETE", f"{V3}/topics/{TOPIC}", None, JSON),
    "more partitions": ("PATCH", f"{V3}/topics/{TOPIC}", {"partitions_count": 80}, JSON),
    "create": ("POST", f"{V3}/topics", {"topic_name": TOPIC}, JSON),
    "settings": ("POST", f"{V3}/topics/{TOPIC}/configs:alter", {"data": [{"name": "a", "value": "b"}]}, JSON),
    "a setting": ("PUT", f"{V3}/topics/{TOPIC}/configs/retention.ms", {"value": "1"}, JSON),
    "look": ("GET", f"{V3}/topics/{TOPIC}", None, ""),
    "look in v2": ("GET", f"/topics/{TOPIC}", None, ""),
    "produce": ("POST", f"/topics/{TOPIC}", {"records": [{"value": 1}]}, embedded("json")),
    "produce in v3": ("POST", f"{V3}/topics/{TOPIC}/records", {"value": {"type": "JSON", "data": 1}}, JSON),
    "messages of v1": ("GET", f"/topics/{TOPIC}/partitions/0/messages?offset=0", None, ""),
    "a stream": ("GET", f"/topics/{TOPIC}/stream", None, ""),
    "a stream in its group": ("GET", f"/topics/t/stream?group={GROUP}", None, ""),
    "an instance in its group": ("POST", f"/consumers/{GROUP}", {"name": "c"}, V2),
    "the group": ("GET", f"{V3}/consumer-groups/{GROUP}", None, ""),
    "its members": ("GET", f"{V3}/consumer-groups/{GROUP}/consumers", None, ""),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nobody_gets_at_them(rest: Rest, fake: FakeKafka, name: str) -> None:
    fake.add_topic(TOPIC)
    before = {topic: len(log) for topic, log in fake.logs.items()}
    method, path, body, content_type = REFUSED[name]
    answer = await rest.send(method, path, b"" if body is None else body, content_type=content_type or None)
    assert "40301" in json.dumps(answer.body), answer
    assert {topic: len(log) for topic, log in fake.logs.items()} == before


@pytest.mark.parametrize("what", ["subscription", "assignments"])
async def test_no_instance_reads_them(rest: Rest, fake: FakeKafka, what: str) -> None:
    fake.add_topic(TOPIC)
    path = await rest.instance()
    body = {"topics": [TOPIC]} if what == "subscription" else {"partitions": [PLACE]}
    answer = await rest.post(f"{path}/{what}", body, V2)
    assert answer.body["error_code"] == 40301
