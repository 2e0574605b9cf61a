"""What clients of v3 send, as far as the documentation of Confluent and of Terraform's provider shows it.

The requests have the shape of those documents. The brokers are a fake.
"""

from __future__ import annotations

import json
from typing import Any

from tests.services.conftest import Rest
from tests.services.fake_administration import CLUSTER
from tests.services.fake_kafka import FakeKafka
from tests.services.test_v3_produce import reports_of

JSON = "application/json"
C = f"/v3/clusters/{CLUSTER}"


async def ask(rest: Rest, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    answer = await rest.send(method, path, content, JSON, JSON if content else None)
    return answer.status, answer.body


async def test_terraform_makes_changes_and_destroys_a_topic(rest: Rest, fake: FakeKafka) -> None:
    """A resource's life: created, read back, planned again without a difference, changed, destroyed, gone."""
    wanted = {
        "topic_name": "orders",
        "partitions_count": 4,
        "configs": [{"name": "cleanup.policy", "value": "compact"}, {"name": "retention.ms", "value": "1000"}],
    }
    status, made = await ask(rest, "POST", f"{C}/topics", wanted)
    assert (status, made["topic_name"], made["partitions_count"]) == (201, "orders", 4)
    status, again = await ask(rest, "POST", f"{C}/topics", wanted)
    assert (status, again["error_code"]) == (400, 40002)
    assert "already exists" in again["message"]

    for _ in range(2):
        status, read = await ask(rest, "GET", f"{C}/topics/orders")
        assert (status, read["partitions_count"], read["kind"]) == (200, 4, "KafkaTopic")
        status, configs = await ask(rest, "GET", f"{C}/topics/orders/configs")
        assert (status, configs["kind"]) == (200, "KafkaTopicConfigList")

    status, grown = await ask(rest, "PATCH", f"{C}/topics/orders", {"partitions_count": 6})
    assert (status, grown["partitions_count"]) == (200, 6)
    status, _ = await ask(rest, "DELETE", f"{C}/topics/orders")
    assert status == 204
    status, gone = await ask(rest, "GET", f"{C}/topics/orders")
    assert (status, gone["error_code"]) == (404, 40403)


async def test_terraform_makes_finds_and_destroys_an_acl(rest: Rest, fake: FakeKafka) -> None:
    acl = {
        "resource_type": "TOPIC", "resource_name": "orders", "pattern_type": "LITERAL", "principal": "User:sa-1",
        "host": "*", "operation": "READ", "permission": "ALLOW",
    }  # fmt: skip
    search = "&".join(f"{name}={value}" for name, value in acl.items())
    assert (await ask(rest, "POST", f"{C}/acls", acl))[0] == 201
    status, found = await ask(rest, "GET", f"{C}/acls?{search}")
    assert (status, len(found["data"])) == (200, 1)
    assert {name: found["data"][0][name] for name in acl} == acl
    status, deleted = await ask(rest, "DELETE", f"{C}/acls?{search}")
    assert (status, len(deleted["data"])) == (200, 1)
    status, found = await ask(rest, "GET", f"{C}/acls?{search}")
    assert (status, found["data"]) == (200, [])


async def test_the_loop_of_the_quick_start(rest: Rest, fake: FakeKafka) -> None:
    """A shell loop writes an object after another into one request; each gets its report."""
    records = [
        {
            "partition_id": 0,
            "headers": [{"name": "Header-1", "value": "SGVhZGVyLTE="}],
            "key": {"type": "BINARY", "data": "Zm9vYmFy"},
            "value": {"type": "JSON", "data": {"count": number, "text": f"line {number}"}},
            "timestamp": "2021-02-05T19:14:42Z",
        }
        for number in range(3)
    ]
    body = "\n".join(json.dumps(each) for each in records).encode()
    reports = await reports_of(rest, body, f"{C}/topics/t/records")
    assert [(each["error_code"], each["offset"], each["timestamp"]) for each in reports] == [
        (200, number, "2021-02-05T19:14:42Z") for number in range(3)
    ]
    assert len(fake.logs["t"][0]) == 3


async def test_a_binary_record_of_the_quick_start(rest: Rest, fake: FakeKafka) -> None:
    record = {"key": {"type": "BINARY", "data": "Zm9vYmFy"}, "value": {"type": "JSON", "data": {"foo": "bar"}}}
    status, report = await ask(rest, "POST", f"{C}/topics/t/records", record)
    assert status == 200
    assert (report["error_code"], report["cluster_id"], report["topic_name"]) == (200, CLUSTER, "t")
    assert (report["key"], report["value"]) == ({"type": "BINARY", "size": 6}, {"type": "JSON", "size": 13})
