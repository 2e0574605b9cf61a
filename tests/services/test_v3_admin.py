"""Clusters, brokers, topics, partitions, settings and ACLs of v3: kafka-rest-http.md §7.1 to §7.8."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kafka_gateway import jsonio
from kafka_gateway.kafka.ports.administration import CLUSTER_WIDE, Acl, ConfigOf, ConfigSynonym, Reassignment, Setting
from kafka_gateway.kafka.ports.topics import BrokerNode, PartitionInfo, TopicPartition
from kafka_gateway.kafka_errors import BrokerNotAvailable, KafkaAuthorization, KafkaRefused
from kafka_gateway.services.v3 import links
from tests.services.conftest import Rest, Start
from tests.services.fake_administration import CLUSTER
from tests.services.fake_kafka import FakeKafka

C = f"/v3/clusters/{CLUSTER}"
URL = f"http://gateway.example:8082{C}"
CRN = f"crn:///kafka={CLUSTER}"
JSON = "application/json"


def link(path: str) -> dict[str, str]:
    return {"related": URL + path}


def topic(name: str, partitions: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "KafkaTopic",
        "metadata": {"self": f"{URL}/topics/{name}", "resource_name": f"{CRN}/topic={name}"},
        "cluster_id": CLUSTER,
        "topic_name": name,
        "is_internal": False,
        "replication_factor": 1,
        "partitions_count": partitions,
        "partitions": link(f"/topics/{name}/partitions"),
        "configs": link(f"/topics/{name}/configs"),
        "partition_reassignments": link(f"/topics/{name}/partitions/-/reassignment"),
        "authorized_operations": [],
    } | more


async def test_clusters(rest: Rest, fake: FakeKafka) -> None:
    listed = await rest.get("/v3/clusters")
    assert (listed.status, listed.media_type) == (200, JSON)
    (cluster,) = listed.body["data"]
    assert listed.body["kind"] == "KafkaClusterList"
    assert listed.body["metadata"] == {"self": "http://gateway.example:8082/v3/clusters", "next": None}
    assert cluster == {
        "kind": "KafkaCluster",
        "metadata": {"self": URL, "resource_name": CRN},
        "cluster_id": CLUSTER,
        "controller": link("/brokers/1"),
        "acls": link("/acls"),
        "brokers": link("/brokers"),
        "broker_configs": link("/broker-configs"),
        "consumer_groups": link("/consumer-groups"),
        "topics": link("/topics"),
        "partition_reassignments": link("/topics/-/partitions/-/reassignment"),
    }
    assert (await rest.get(C)).body == cluster
    fake.administration.controller = None
    assert (await rest.get(C)).body["controller"] is None


async def test_another_cluster_is_not_found(rest: Rest) -> None:
    for path in ("", "/brokers", "/topics", "/topics/t", "/topics/t/partitions/0", "/consumer-groups", "/acls"):
        answer = await rest.get(f"/v3/clusters/other{path}")
        assert (answer.status, answer.code) == (404, 404), path
    assert (await rest.get("/v3/clusters/other/topics")).message == "Cluster other cannot be found."
    assert (await rest.get("/v3/clusters/other/consumer-groups")).message == "Cluster other could not be found."
    assert (await rest.get("/v3/clusters/other")).message == "HTTP 404 Not Found"


async def test_brokers(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.nodes.append(BrokerNode(2, "kafka-2", 9093, "r2"))
    listed = (await rest.get(f"{C}/brokers")).body
    assert [each["broker_id"] for each in listed["data"]] == [1, 2]
    assert (await rest.get(f"{C}/brokers/2")).body == {
        "kind": "KafkaBroker",
        "metadata": {"self": f"{URL}/brokers/2", "resource_name": f"{CRN}/broker=2"},
        "cluster_id": CLUSTER,
        "broker_id": 2,
        "host": "kafka-2",
        "port": 9093,
        "rack": "r2",
        "configs": link("/brokers/2/configs"),
        "partition_replicas": link("/brokers/2/partition-replicas"),
    }
    for number in ("9", "x", "99999999999"):
        assert (await rest.get(f"{C}/brokers/{number}")).status == 404
    assert (await rest.get(f"{C}/brokers/9/partition-replicas")).message == "Broker 9 cannot be found."


async def test_replicas_of_a_broker(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.nodes.append(BrokerNode(2, "kafka-2", 9093, None))
    fake.administration.replicas[TopicPartition("t", 1)] = PartitionInfo(1, 2, (2, 1), (2,))
    listed = (await rest.get(f"{C}/brokers/2/partition-replicas")).body
    assert listed["kind"] == "KafkaReplicaList"
    assert listed["data"] == [
        {
            "kind": "KafkaReplica",
            "metadata": {
                "self": f"{URL}/topics/t/partitions/1/replicas/2",
                "resource_name": f"{CRN}/topic=t/partition=1/replica=2",
            },
            "cluster_id": CLUSTER,
            "topic_name": "t",
            "partition_id": 1,
            "broker_id": 2,
            "is_leader": True,
            "is_in_sync": True,
            "broker": link("/brokers/2"),
        }
    ]
    places = [(each["topic_name"], each["partition_id"]) for each in (await replicas_on(rest, 1))]
    assert places == [("t", 0), ("t", 1), ("u", 0)]


async def replicas_on(rest: Rest, broker: int) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await rest.get(f"{C}/brokers/{broker}/partition-replicas")).body["data"]
    return data


# --- topics ----------------------------------------------------------------------------------------------------------


async def test_topics(rest: Rest, fake: FakeKafka) -> None:
    fake.add_topic("__consumer_offsets")
    fake.internal.add("__consumer_offsets")
    listed = (await rest.get(f"{C}/topics")).body
    assert listed["metadata"] == {"self": f"{URL}/topics", "next": None}
    assert listed["data"] == [topic("t", 2), topic("u", 1)]
    assert (await rest.get(f"{C}/topics/t")).body == topic("t", 2)
    assert (await rest.get(f"{C}/topics/__consumer_offsets")).body["is_internal"] is True
    missing = await rest.get(f"{C}/topics/none")
    assert (missing.status, missing.code) == (404, 40403)


@pytest.mark.parametrize("name", ["include_authorized_operations", "includeAuthorizedOperations"])
async def test_authorized_operations(rest: Rest, name: str) -> None:
    assert (await rest.get(f"{C}/topics/t?{name}=true")).body["authorized_operations"] == ["READ", "WRITE"]
    assert (await rest.get(f"{C}/topics?{name}=TRUE")).body["data"][0]["authorized_operations"] == ["READ", "WRITE"]
    assert (await rest.get(f"{C}/topics/t?{name}=x")).body["authorized_operations"] == []


async def test_a_topic_is_made_and_deleted(rest: Rest, fake: FakeKafka) -> None:
    made = await rest.post(f"{C}/topics", {"topic_name": "new", "partitions_count": 3}, JSON)
    assert (made.status, made.body) == (201, topic("new", 3))
    assert made.headers["Location"] == f"{URL}/topics/new"
    assert (await rest.post(f"{C}/topics", {"topic_name": "new"}, JSON)).code == 40002
    checked = await rest.post(f"{C}/topics", {"topic_name": "other", "validate_only": True}, JSON)
    assert (checked.status, checked.headers["Location"]) == (200, f"{URL}/topics/other")
    assert "other" not in fake.logs
    assert (await rest.delete(f"{C}/topics/new")).status == 204
    for name in ("new", "a%20b"):
        gone = await rest.delete(f"{C}/topics/{name}")
        assert (gone.status, gone.code) == (404, 40403)


async def test_names_and_numbers_that_cannot_be_say_what_can(start: Start) -> None:
    rest = start(errors_help=True)
    refused = await rest.post(f"{C}/topics", {"topic_name": "a:b"}, JSON)
    assert "1 to 249 of a-z" in refused.body["help"]
    refused = await rest.get(f"{C}/topics/t/partitions/99999999999")
    assert (refused.status, refused.body["help"].split(",")[0]) == (404, "Give a whole number of 32 bits")


async def test_assignments_win_over_counts(rest: Rest) -> None:
    body = {"topic_name": "n", "partitions_count": 9, "replicas_assignments": {"0": [1], "1": ["1"]}}
    assert (await rest.post(f"{C}/topics", body, JSON)).body["partitions_count"] == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, 42206),
        (b"null", 422, 42206),
        (b"[]", 400, 400),
        (b'"x"', 400, 400),
        (b"{", 400, 400),
        ({}, 400, 400),
        ({"topic_name": None}, 400, 400),
        ({"topic_name": {}}, 400, 400),
        ({"topic_name": ""}, 422, 42206),
        ({"topic_name": ".."}, 422, 42206),
        ({"topic_name": "a b"}, 422, 42206),
        ({"topic_name": "a" * 250}, 422, 42206),
        ({"topic_name": "n", "x": 1}, 422, 422),
        ({"topic_name": "n", "partitions_count": "x"}, 400, 400),
        ({"topic_name": "n", "partitions_count": 2**31}, 400, 400),
        ({"topic_name": "n", "replication_factor": 40000}, 400, 400),
        ({"topic_name": "n", "configs": {}}, 400, 400),
        ({"topic_name": "n", "configs": [None]}, 400, 400),
        ({"topic_name": "n", "configs": [{"value": "1"}]}, 400, 400),
        ({"topic_name": "n", "configs": [{"name": "a", "x": 1}]}, 422, 422),
        ({"topic_name": "n", "replicas_assignments": {"x": [1]}}, 400, 400),
        ({"topic_name": "n", "replicas_assignments": {"0": None}}, 400, 400),
        ({"topic_name": "n", "replicas_assignments": {"0": [None]}}, 400, 400),
        ({"topic_name": "n", "validate_only": 1}, 400, 400),
    ],
)
async def test_bad_bodies_make_no_topic(rest: Rest, fake: FakeKafka, body: Any, status: int, code: int) -> None:
    answer = await rest.post(f"{C}/topics", body, JSON)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert sorted(fake.logs) == ["t", "u"]


async def test_a_topic_grows(rest: Rest, fake: FakeKafka) -> None:
    path = f"{C}/topics/t"
    grown = await rest.send("PATCH", path, {"partitions_count": 4}, None, JSON)
    assert (grown.status, grown.body) == (200, topic("t", 4))
    assert len(fake.logs["t"]) == 4
    assert (await rest.send("PATCH", path, {"partitions_count": 4}, None, JSON)).code == 40002
    assert (await rest.send("PATCH", path, b"", None, JSON)).code == 42206
    assert (await rest.send("PATCH", path, {}, None, JSON)).code == 400
    missing = await rest.send("PATCH", f"{C}/topics/none", {"partitions_count": 4}, None, JSON)
    assert (missing.status, missing.code) == (404, 40403)


# --- partitions ------------------------------------------------------------------------------------------------------


async def test_partitions(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.replicas[TopicPartition("t", 1)] = PartitionInfo(1, -1, (1,), ())
    listed = (await rest.get(f"{C}/topics/t/partitions")).body
    path = "/topics/t/partitions/0"
    assert listed["data"][0] == {
        "kind": "KafkaPartition",
        "metadata": {"self": URL + path, "resource_name": f"{CRN}/topic=t/partition=0"},
        "cluster_id": CLUSTER,
        "topic_name": "t",
        "partition_id": 0,
        "leader": link(path + "/replicas/1"),
        "replicas": link(path + "/replicas"),
        "reassignment": link(path + "/reassignment"),
    }
    assert listed["data"][1]["leader"] is None
    assert (await rest.get(C + path)).body == listed["data"][0]
    assert (await rest.get(f"{C}/topics/t/partitions/2")).code == 404
    assert (await rest.get(f"{C}/topics/none/partitions/0")).code == 40403
    assert (await rest.get(f"{C}{path}/replicas")).body["data"][0]["is_leader"] is True
    assert (await rest.get(f"{C}{path}/replicas/7")).code == 404


async def test_offsets(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"1", b"2")
    path = "/topics/t/partitions/0/offset"
    assert (await rest.get(C + path)).body == {
        "kind": "KafkaPartitionWithOffsets",
        "metadata": {
            "self": URL + path,
            "resource_name": f"{CRN}/topic=t/partition=0/offset_type=earliest_and_latest",
        },
        "cluster_id": CLUSTER,
        "topic_name": "t",
        "partition_id": 0,
        "earliest_offset": 0,
        "latest_offset": 2,
    }
    assert (await rest.get(f"{C}{path}?offset_type=latest")).code == 400
    assert (await rest.get(f"{C}{path}?offset_type=")).code == 400
    assert (await rest.get(f"{C}/topics/t/partitions/9/offset")).code == 40402
    assert (await rest.get(f"{C}/topics/none/partitions/0/offset")).code == 40403


async def test_reassignments(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.moving = [Reassignment("u", 0, (2,), (1,)), Reassignment("t", 1, (2, 3), ())]
    listed = (await rest.get(f"{C}/topics/-/partitions/-/reassignment")).body
    path = "/topics/t/partitions/1"
    assert listed["metadata"] == {"self": f"{URL}/topics/-/partitions/-/reassignment", "next": None}
    assert listed["data"][0] == {
        "kind": "KafkaReassignment",
        "metadata": {
            "self": f"{URL}{path}/reassignment",
            "resource_name": f"{CRN}/topic=t/partition=1/reassignment",
        },
        "cluster_id": CLUSTER,
        "topic_name": "t",
        "partition_id": 1,
        "adding_replicas": [2, 3],
        "removing_replicas": [],
        "replicas": link(path + "/replicas"),
    }
    assert [each["topic_name"] for each in listed["data"]] == ["t", "u"]
    assert (await rest.get(f"{C}/topics/u/partitions/-/reassignment")).body["data"] == [listed["data"][1]]
    assert (await rest.get(f"{C}/topics/none/partitions/-/reassignment")).body["data"] == []
    assert (await rest.get(f"{C}{path}/reassignment")).body == listed["data"][0]
    assert (await rest.get(f"{C}/topics/t/partitions/0/reassignment")).code == 404


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(fake: FakeKafka) -> FakeKafka:
    known = fake.administration.settings
    known[ConfigOf("TOPIC", "t")] = {
        "retention.ms": Setting(
            "retention.ms", "5", "DYNAMIC_TOPIC_CONFIG", synonyms=(ConfigSynonym("log.retention.ms", "7", "UNKNOWN"),)
        ),
        "cleanup.policy": Setting("cleanup.policy", "delete", "DEFAULT_CONFIG"),
    }
    known[ConfigOf("BROKER", "1")] = {"secret": Setting("secret", None, "STATIC_BROKER_CONFIG", True, True)}
    known[CLUSTER_WIDE] = {"log.retention.ms": Setting("log.retention.ms", "9", "DYNAMIC_DEFAULT_BROKER_CONFIG")}
    return fake


async def test_configs(rest: Rest, settings: FakeKafka) -> None:
    listed = (await rest.get(f"{C}/topics/t/configs")).body
    assert (listed["kind"], listed["metadata"]["self"]) == ("KafkaTopicConfigList", f"{URL}/topics/t/configs")
    assert [each["name"] for each in listed["data"]] == ["cleanup.policy", "retention.ms"]
    assert listed["data"][1] == {
        "kind": "KafkaTopicConfig",
        "metadata": {
            "self": f"{URL}/topics/t/configs/retention.ms",
            "resource_name": f"{CRN}/topic=t/config=retention.ms",
        },
        "cluster_id": CLUSTER,
        "name": "retention.ms",
        "value": "5",
        "is_default": False,
        "is_read_only": False,
        "is_sensitive": False,
        "source": "DYNAMIC_TOPIC_CONFIG",
        "synonyms": [{"name": "log.retention.ms", "value": "7", "source": "UNKNOWN"}],
        "topic_name": "t",
    }
    assert (await rest.get(f"{C}/topics/t/configs/retention.ms")).body == listed["data"][1]
    broker = (await rest.get(f"{C}/brokers/1/configs/secret")).body
    assert (broker["broker_id"], broker["value"], broker["metadata"]["resource_name"]) == (
        1,
        None,
        f"{CRN}/broker=1/config=secret",
    )
    cluster = (await rest.get(f"{C}/broker-configs")).body["data"][0]
    assert (cluster["kind"], cluster["config_type"]) == ("KafkaClusterConfig", "BROKER")
    assert cluster["metadata"] == {
        "self": f"{URL}/broker-configs/log.retention.ms",
        "resource_name": f"{CRN}/broker-config=log.retention.ms",
    }
    assert (await rest.get(f"{C}/topics/t/configs/none")).code == 404
    assert (await rest.get(f"{C}/topics/none/configs")).code == 40403
    assert (await rest.get(f"{C}/brokers/9/configs")).code == 404


async def test_configs_of_all(rest: Rest, settings: FakeKafka) -> None:
    listed = (await rest.get(f"{C}/topics/-/configs")).body
    assert [(each["topic_name"], each["name"]) for each in listed["data"]] == [
        ("t", "cleanup.policy"),
        ("t", "retention.ms"),
    ]
    assert listed["data"][0]["metadata"]["self"] == f"{URL}/topics/t/configs/cleanup.policy"
    assert [each["name"] for each in (await rest.get(f"{C}/brokers/-/configs")).body["data"]] == ["secret"]


async def test_a_long_list_is_encoded_in_pieces(rest: Rest, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that encodes 9 MB in one step of the interpreter holds the event loop, too: for up to 90 ms."""
    for each in range(20):
        fake.add_topic(f"t{each}")
        fake.administration.settings[ConfigOf("TOPIC", f"t{each}")] = {
            f"s{number:02}": Setting(f"s{number:02}", "é", "DEFAULT_CONFIG") for number in range(36)
        }
    pieces: list[int] = []

    def encode(value: object) -> bytes:
        found = jsonio.encode(value)
        pieces.append(len(found))
        return found

    monkeypatch.setattr(links, "jsonio", SimpleNamespace(encode=encode))
    answer = await rest.get(f"{C}/topics/-/configs")
    rows = [(each["topic_name"], each["name"]) for each in answer.body["data"]]
    assert rows == [
        (name, f"s{number:02}") for name in sorted(f"t{each}" for each in range(20)) for number in range(36)
    ]
    assert answer.body["metadata"] == {"self": f"{URL}/topics/-/configs", "next": None}
    assert len(pieces) == 5
    assert max(pieces) < 200_000


async def test_a_setting_is_changed_and_reset(rest: Rest, settings: FakeKafka) -> None:
    path = f"{C}/topics/t/configs/retention.ms"
    assert (await rest.send("PUT", path, {"value": "8"}, None, JSON)).status == 204
    assert (await rest.get(path)).body["value"] == "8"
    assert (await rest.delete(path)).status == 204
    assert (await rest.get(path)).body["is_default"] is True
    for method in ("PUT", "DELETE"):
        unknown = await rest.send(method, f"{C}/topics/t/configs/none", {"value": "8"}, None, JSON)
        assert unknown.message == f"Config none cannot be found for TOPIC t in cluster {CLUSTER}."
    assert (await rest.send("PUT", path, b"", None, JSON)).code == 42206
    assert (await rest.send("PUT", path, {"valu": 1}, None, JSON)).code == 422
    assert (await rest.send("PUT", path, {"value": "refused"}, None, JSON)).code == 40002
    # A default for all brokers may not be set yet.
    assert (await rest.send("PUT", f"{C}/broker-configs/new", {"value": "8"}, None, JSON)).status == 204


async def test_many_settings_are_altered_at_once(rest: Rest, settings: FakeKafka) -> None:
    path = f"{C}/topics/t/configs:alter"
    data = [{"name": "retention.ms", "value": "6"}, {"name": "cleanup.policy", "operation": "DELETE"}]
    assert (await rest.post(path, {"data": data}, JSON)).status == 204
    assert (await rest.get(f"{C}/topics/t/configs/retention.ms")).body["value"] == "6"
    assert (await rest.post(path, {"data": data[:1], "validate_only": True}, JSON)).status == 204
    changed = settings.calls.copy()
    unknown = await rest.post(path, {"data": [*data, {"name": "none"}]}, JSON)
    assert (unknown.status, unknown.code) == (404, 404)
    assert not [call for call in settings.calls[len(changed) :] if call[0] == "alter_configs"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 42206),
        ({}, 400),
        ({"data": None}, 400),
        ({"data": {}}, 400),
        ({"data": [None]}, 400),
        ({"data": [{"value": "1"}]}, 400),
        ({"data": [{"name": "a", "operation": "set"}]}, 400),
        ({"data": [{"name": "a", "operation": "APPEND"}]}, 400),
        ({"data": [{"name": "a", "x": 1}]}, 422),
        ({"data": [], "x": 1}, 422),
    ],
)
async def test_bad_alterations(rest: Rest, settings: FakeKafka, body: Any, code: int) -> None:
    assert (await rest.post(f"{C}/topics/t/configs:alter", body, JSON)).code == code


async def test_settings_of_many_topics_are_altered(rest: Rest, settings: FakeKafka) -> None:
    known = settings.administration.settings
    known[ConfigOf("TOPIC", "u")] = dict(known[ConfigOf("TOPIC", "t")])
    path = f"{C}/topics/-/configs:alter"

    def body(t: str, u: str) -> dict[str, Any]:
        return {
            "data": [
                {"topic_name": "t", "configs": [{"name": "retention.ms", "value": t}]},
                {"topic_name": "u", "configs": [{"name": "retention.ms", "value": u}]},
            ]
        }

    assert (await rest.post(path, body("1", "2"), JSON)).status == 204
    partly = await rest.post(path, body("3", "refused"), JSON)
    assert partly.status == 207
    (failure,) = partly.body["failures"]
    assert (failure["topic_name"], failure["error_code"]) == ("u", 40002)
    assert (await rest.get(f"{C}/topics/t/configs/retention.ms")).body["value"] == "3"
    assert (await rest.post(path, {"data": [{"topic_name": "none", "configs": []}]}, JSON)).code == 40403
    assert (await rest.post(path, {"data": [{"configs": []}]}, JSON)).code == 400


# --- ACLs ------------------------------------------------------------------------------------------------------------

ALICE = Acl("TOPIC", "a b", "LITERAL", "User:alice", "*", "READ", "ALLOW")
BOB = Acl("TOPIC", "a", "PREFIXED", "User:bob", "*", "ALL", "DENY")


async def test_acls_are_searched(rest: Rest, fake: FakeKafka) -> None:
    fake.administration.rights = [ALICE, BOB, Acl("GROUP", "g", *BOB[2:])]
    listed = (await rest.get(f"{C}/acls?resource_type=topic")).body
    search = "resource_type=TOPIC&resource_name=&pattern_type=ANY&principal=&host=&operation=ANY&permission=ANY"
    assert listed["metadata"] == {"self": f"{URL}/acls?{search}", "next": None}
    assert [each["principal"] for each in listed["data"]] == ["User:bob", "User:alice"]
    own = "resource_type=TOPIC&resource_name=a+b&pattern_type=LITERAL&principal=User%3Aalice&host=*"
    assert listed["data"][1] == {
        "kind": "KafkaAcl",
        "metadata": {"self": f"{URL}/acls?{own}&operation=READ&permission=ALLOW"},
        "cluster_id": CLUSTER,
        **ALICE._asdict(),
    }
    assert (await rest.get(f"{C}/acls?operation=UNKNOWN")).code == 400
    unknown = await rest.get(f"{C}/acls?resource_type=nonsense")
    assert (unknown.status, unknown.message) == (404, "The valid values for ResourceType do not include 'nonsense'")


async def test_acls_are_created_and_deleted(rest: Rest, fake: FakeKafka) -> None:
    made = await rest.post(f"{C}/acls", ALICE._asdict(), JSON)
    assert (made.status, made.body) == (201, None)
    assert made.headers["Location"].startswith(f"{URL}/acls?resource_type=TOPIC&resource_name=a+b")
    assert (await rest.post(f"{C}/acls:batch", {"data": [ALICE._asdict(), BOB._asdict()]}, JSON)).status == 204
    assert fake.administration.rights == [ALICE, BOB]
    enums = "resource_type=TOPIC&pattern_type=ANY&operation=ANY&permission=ANY"
    gone = await rest.delete(f"{C}/acls?{enums}&principal=User:bob")
    assert (gone.status, [each["principal"] for each in gone.body["data"]]) == (200, ["User:bob"])
    assert fake.administration.rights == [ALICE]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("", "resource_type"),
        ("resource_type=TOPIC", "pattern_type"),
        ("resource_type=TOPIC&pattern_type=ANY", "operation"),
        ("resource_type=TOPIC&pattern_type=ANY&operation=ANY", "permission"),
        ("resource_type=UNKNOWN&pattern_type=ANY&operation=ANY&permission=ANY", "resource_type"),
    ],
)
async def test_a_deletion_says_what_it_means(rest: Rest, fake: FakeKafka, query: str, name: str) -> None:
    fake.administration.rights = [ALICE]
    refused = await rest.delete(f"{C}/acls?{query}")
    assert (refused.status, refused.code) == (400, 400)
    assert refused.message == f"Bad Request: {name} cannot be unspecified or UNKNOWN"
    assert fake.administration.rights == [ALICE]


@pytest.mark.parametrize("member", Acl._fields)
async def test_all_members_of_an_acl_are_needed(rest: Rest, member: str) -> None:
    body = ALICE._asdict()
    del body[member]
    assert (await rest.post(f"{C}/acls", body, JSON)).code == 400
    assert (await rest.post(f"{C}/acls", body | {member: None}, JSON)).code == 400


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("resource_type", "ANY"),
        ("resource_type", "UNKNOWN"),
        ("resource_type", "topic"),
        ("pattern_type", "MATCH"),
        ("operation", "ANY"),
        ("permission", "UNKNOWN"),
        ("permission", 3),
    ],
)
async def test_some_words_are_for_searches_only(rest: Rest, fake: FakeKafka, member: str, value: Any) -> None:
    assert (await rest.post(f"{C}/acls", ALICE._asdict() | {member: value}, JSON)).code == 400
    batch = {"data": [BOB._asdict(), ALICE._asdict() | {member: value}]}
    assert (await rest.post(f"{C}/acls:batch", batch, JSON)).code == 400
    assert fake.administration.rights == []


async def test_batches_of_acls(rest: Rest) -> None:
    for body, code in ((b"", 42206), ({}, 42206), ({"data": None}, 42206), ({"data": [{}]}, 400), ({"x": 1}, 422)):
        assert (await rest.post(f"{C}/acls:batch", body, JSON)).code == code
    assert (await rest.post(f"{C}/acls:batch", {"data": []}, JSON)).status == 204


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_kafkas_failures_are_passed_on(rest: Rest, fake: FakeKafka) -> None:
    await rest.get("/v3/clusters")
    for error, status, code in (
        (BrokerNotAvailable(), 503, 50302),
        (KafkaAuthorization("Not authorized to access topics: [t]"), 403, 40301),
        (KafkaRefused("No Authorizer is configured."), 400, 40002),
    ):
        fake.fail("acls", error)
        answer = await rest.get(f"{C}/acls")
        assert (answer.status, answer.code, answer.message) == (status, code, error.message)


async def test_v3_can_be_switched_off(start: Start) -> None:
    assert (await start(api_v3_enable=False).get("/v3/clusters")).status == 404


async def test_an_authority_stands_in_resource_names(start: Start) -> None:
    named = await start(confluent_resource_name_authority="/example.com/").get(f"{C}/topics/t")
    assert named.body["metadata"]["resource_name"] == f"crn://example.com/kafka={CLUSTER}/topic=t"


# --- what can be switched off -----------------------------------------------------------------------------------------

RESOURCES = {
    "clusters": "list get",
    "brokers": "list get",
    "broker-configs": "list get update delete alter",
    "brokers-configs": "list",
    "cluster-configs": "list get update delete alter",
    "topics": "list get create delete partitions",
    "topic-configs": "list get update delete alter alter-multi",
    "partitions": "list get list.offsets",
    "replicas": "list get search-by-broker",
    "partition-reassignments": "get list search-by-topic",
    "acls": "list create delete batch-create",
    "consumer-groups": "list get reset-offsets",
    "consumers": "list get",
    "consumer-assignments": "list get",
    "consumer-lags": "list get",
    "consumer-group-lag-summary": "get",
    "produce": "produce-to-topic",
    "batch-produce": "produce-to-topic",
}
"""kafka-rest-http.md §14.1; ``reset-offsets`` is our own."""


async def test_each_resource_is_switched_off_by_its_name(start: Start) -> None:
    left = {route for route in start().gateway.router.routes if route.template.startswith("/v3/")}
    for kind, verbs in RESOURCES.items():
        for verb in verbs.split():
            rest = start(api_endpoints_blocklist=f"api.v3.{kind}.{verb}")
            offered = set(map(id, rest.gateway.offered()))
            gone = [route for route in rest.gateway.router.routes if id(route) not in offered]
            assert gone, f"{kind}.{verb}"
            for route in gone:
                path = route.template.replace("{cluster_id}", CLUSTER).replace(":int}", "}")
                for name in ("broker_id", "partition_id"):
                    path = path.replace(f"{{{name}}}", "0")
                answer = await rest.send(route.method, path.replace("{", "").replace("}", ""), None, None, JSON)
                assert answer.status == (404 if route.method == "GET" else 405), route
                left -= {one for one in left if (one.method, one.template) == (route.method, route.template)}
    assert {route.template for route in left} == set()
