"""Consumer groups, lags and the moving of offsets in v3: kafka-rest-http.md §7.9, docs/rest-v3.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kafka_gateway.errors import NotAuthorized
from kafka_gateway.kafka.ports.administration import GroupDetails, GroupMember
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.rights import Decision, Rights
from tests.services.conftest import Rest
from tests.services.fake_administration import CLUSTER
from tests.services.fake_kafka import FakeKafka

C = f"/v3/clusters/{CLUSTER}"
URL = f"http://gateway.example:8082{C}"
CRN = f"crn:///kafka={CLUSTER}"
GROUP = f"{C}/consumer-groups/g"
JSON = "application/json"


def link(path: str) -> dict[str, str]:
    return {"related": URL + path}


@pytest.fixture
def group(fake: FakeKafka) -> FakeKafka:
    members = (
        GroupMember("b", "client-b", None, "", (TopicPartition("t", 1), TopicPartition("u", 0))),
        GroupMember("a", "client-a", "static", "", (TopicPartition("t", 0),)),
    )
    fake.administration.known_groups["g"] = GroupDetails("g", "STABLE", "CONSUMER", False, "uniform", 1, True, members)
    fake.put("t", *[b"x"] * 5)
    fake.put("t", *[b"x"] * 3, partition=1)
    fake.committed |= {("g", "t", 0): (2, ""), ("g", "t", 1): (3, ""), ("g", "gone", 0): (1, "")}
    return fake


async def test_a_group(rest: Rest, group: FakeKafka) -> None:
    listed = (await rest.get(f"{C}/consumer-groups")).body
    assert listed["kind"] == "KafkaConsumerGroupList"
    assert listed["data"] == [(await rest.get(GROUP)).body]
    assert listed["data"][0] == {
        "kind": "KafkaConsumerGroup",
        "metadata": {"self": f"{URL}/consumer-groups/g", "resource_name": f"{CRN}/consumer-group=g"},
        "cluster_id": CLUSTER,
        "consumer_group_id": "g",
        "is_simple": False,
        "partition_assignor": "uniform",
        "state": "STABLE",
        "type": "CONSUMER",
        "is_mixed_consumer_group": True,
        "coordinator": link("/brokers/1"),
        "consumers": link("/consumer-groups/g/consumers"),
        "lag_summary": link("/consumer-groups/g/lag-summary"),
    }


async def test_consumers_and_assignments(rest: Rest, group: FakeKafka) -> None:
    listed = (await rest.get(f"{GROUP}/consumers")).body["data"]
    assert [(each["consumer_id"], each["instance_id"]) for each in listed] == [("a", "static"), ("b", None)]
    assert (await rest.get(f"{GROUP}/consumers/a")).body == listed[0]
    assigned = (await rest.get(f"{GROUP}/consumers/b/assignments")).body["data"]
    assert [(each["topic_name"], each["partition_id"]) for each in assigned] == [("t", 1), ("u", 0)]
    one = (await rest.get(f"{GROUP}/consumers/b/assignments/t/partitions/1")).body
    assert one == assigned[0]
    assert one["metadata"]["resource_name"] == f"{CRN}/consumer-group=g/consumer=b/assignment=t/partition=1"
    assert one["lag"] == link("/consumer-groups/g/lags/t/partitions/1")
    assert (await rest.get(f"{GROUP}/consumers/b/assignments/t/partitions/0")).status == 404
    assert (await rest.get(f"{GROUP}/consumers/x/assignments")).message == "Consumer x does not exist."


async def test_lags(rest: Rest, group: FakeKafka) -> None:
    listed = (await rest.get(f"{GROUP}/lags")).body["data"]
    names = ("partition_id", "consumer_id", "current_offset", "log_end_offset", "lag")
    shown = [tuple(each[name] for name in names) for each in listed]
    assert shown == [(0, "a", 2, 5, 3), (1, "b", 3, 3, 0)]
    assert (await rest.get(f"{GROUP}/lags/t/partitions/0")).body == listed[0]
    assert (await rest.get(f"{GROUP}/lags/t/partitions/7")).status == 404
    summary = (await rest.get(f"{GROUP}/lag-summary")).body
    assert (summary["max_lag"], summary["total_lag"], summary["max_lag_consumer_id"]) == (3, 3, "a")
    assert summary["max_lag_consumer"] == link("/consumer-groups/g/consumers/a")
    assert summary["max_lag_instance_id"] == "static"


async def test_groups_that_are_not_there(rest: Rest, fake: FakeKafka) -> None:
    for path, text in (
        ("", "HTTP 404 Not Found"),
        ("/consumers", "Consumer Group g does not exist."),
        ("/consumers/x/assignments/t/partitions/0", "Consumer Group g does not exist."),
        ("/lags", "Consumer Group g could not be found."),
        ("/lag-summary", "Consumer Group g could not be found."),
    ):
        answer = await rest.get(GROUP + path)
        assert (answer.status, answer.message) == (404, text), path
    fake.administration.known_groups["g"] = GroupDetails("g", "EMPTY", "CLASSIC", False, "", 1)
    assert (await rest.get(f"{GROUP}/lags")).message == "Consumer group offsets could not be found."


async def test_names_with_odd_characters(rest: Rest, fake: FakeKafka) -> None:
    name = "a b/c:d%é"
    fake.administration.known_groups[name] = GroupDetails(name, "EMPTY", "CLASSIC", False, "", 1)
    (shown,) = (await rest.get(f"{C}/consumer-groups")).body["data"]
    assert shown["consumer_group_id"] == name
    own = shown["metadata"]["self"].removeprefix("http://gateway.example:8082")
    assert (await rest.get(own)).body == shown


class OnlyT(Rights):
    """May do anything with the topic t and the group g, and with nothing else."""

    def decide(self, operation: str, resource: str, name: str) -> Decision:
        return Decision(resource == "cluster" or name in ("t", "g"))

    def require(self, operation: str, resource: str, *names: str) -> None:
        if refused := [name for name in names if not self.allows(operation, resource, name)]:
            raise NotAuthorized(f"{operation} {refused[0]}")

    def filter(self, operation: str, resource: str, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.allows(operation, resource, name)]


async def test_lists_show_what_may_be_described(rest: Rest, group: FakeKafka) -> None:
    group.administration.known_groups["h"] = GroupDetails("h", "EMPTY", "CLASSIC", False, "", 1)
    rest.session.rights = OnlyT()
    assert [each["topic_name"] for each in (await rest.get(f"{C}/topics")).body["data"]] == ["t"]
    assert [each["consumer_group_id"] for each in (await rest.get(f"{C}/consumer-groups")).body["data"]] == ["g"]
    replicas = (await rest.get(f"{C}/brokers/1/partition-replicas")).body["data"]
    assert {each["topic_name"] for each in replicas} == {"t"}
    assigned = (await rest.get(f"{GROUP}/consumers/b/assignments")).body["data"]
    assert [(each["topic_name"], each["partition_id"]) for each in assigned] == [("t", 1)]


# --- offsets:reset ---------------------------------------------------------------------------------------------------


async def reset(rest: Rest, **body: Any) -> Any:
    return await rest.post(f"{GROUP}/offsets:reset", body, JSON)


@pytest.fixture
def idle(group: FakeKafka) -> FakeKafka:
    """The group without its members."""
    group.administration.known_groups["g"] = GroupDetails("g", "EMPTY", "CLASSIC", False, "", 1)
    del group.committed["g", "gone", 0]
    return group


@pytest.mark.parametrize(
    ("to", "value", "offsets"),
    [
        ("earliest", None, [0, 0]),
        ("latest", None, [5, 3]),
        ("current", None, [2, 3]),
        ("offset", 4, [4, 3]),
        ("shift_by", -1, [1, 2]),
        ("shift_by", "2", [4, 3]),
        ("shift_by", -9, [0, 0]),
        ("timestamp", 1, [5, 3]),
        ("timestamp", "1970-01-01T00:00:00Z", [0, 0]),
    ],
)
async def test_where_offsets_go(rest: Rest, idle: FakeKafka, to: str, value: Any, offsets: list[int]) -> None:
    before = dict(idle.committed)
    more = {} if value is None else {"value": value}
    told = (await reset(rest, to=to, **more)).body
    assert told["dry_run"] is True
    assert [(each["partition_id"], each["current_offset"]) for each in told["data"]] == [(0, 2), (1, 3)]
    assert [each["new_offset"] for each in told["data"]] == offsets
    assert idle.committed == before
    done = (await reset(rest, to=to, dry_run=False, **more)).body
    assert (done["data"], done["dry_run"]) == (told["data"], False)
    assert [idle.committed["g", "t", number][0] for number in (0, 1)] == offsets


async def test_topics_and_partitions_are_chosen(rest: Rest, idle: FakeKafka) -> None:
    told = await reset(rest, to="latest", topics=[{"topic_name": "t", "partitions": [1]}, {"topic_name": "u"}])
    places = [(each["topic_name"], each["partition_id"], each["current_offset"]) for each in told.body["data"]]
    assert places == [("t", 1, 3), ("u", 0, None)]
    assert (await reset(rest, to="latest", topics=[{"topic_name": "none"}])).code == 40403
    assert (await reset(rest, to="latest", topics=[{"topic_name": "t", "partitions": [9]}])).code == 40402


async def test_a_group_with_members_is_left_alone(rest: Rest, group: FakeKafka) -> None:
    before = dict(group.committed)
    assert (await reset(rest, to="earliest", dry_run=False)).status == 412
    assert group.committed == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"to": "EARLIEST"},
        {"to": "offset"},
        {"to": "offset", "value": "x"},
        {"to": "timestamp", "value": "yesterday"},
        {"to": "earliest", "value": 1},
        {"to": "earliest", "topics": [{}]},
        {"to": "earliest", "topics": [None]},
        {"to": "earliest", "topics": [{"topic_name": "a b"}]},
        {"to": "earliest", "topics": [{"topic_name": "t", "partitions": [None]}]},
        {"to": "earliest", "dry_run": 0},
    ],
)
async def test_bad_bodies_move_nothing(rest: Rest, idle: FakeKafka, body: Any) -> None:
    answer = await rest.post(f"{GROUP}/offsets:reset", body, JSON)
    assert (answer.status, answer.code) == (400, 400)
    assert (await rest.post(f"{GROUP}/offsets:reset", {"to": "latest", "x": 1}, JSON)).code == 422
    assert (await rest.post(f"{GROUP}/offsets:reset", b"", JSON)).code == 42206


async def test_rights_count_for_topics_too(rest: Rest, idle: FakeKafka) -> None:
    idle.committed["g", "u", 0] = (0, "")

    rest.session.rights = OnlyT()
    assert (await reset(rest, to="latest", dry_run=False)).status == 403
    assert idle.committed["g", "t", 0] == (2, "")
