"""The route table against kafka-rest-http.md §5.1, §6.1, §14.1."""

from __future__ import annotations

from kafka_gateway.router import Route
from tests.services.conftest import Rest, Start

V1 = """
GET / POST / GET /brokers GET /topics GET /topics/{topic} POST /topics/{topic} GET /topics/{topic}/partitions
GET /topics/{topic}/partitions/{partition:int} POST /topics/{topic}/partitions/{partition:int}
GET /topics/{topic}/partitions/{partition:int}/messages POST /consumers/{group}
GET /consumers/{group}/instances/{instance}/topics/{topic} POST /consumers/{group}/instances/{instance}/offsets
DELETE /consumers/{group}/instances/{instance}
GET /ws/consumers/{group}/instances/{instance}/topics/{topic}
DELETE /ws/consumers/{group}/instances/{instance}/topics/{topic}
"""
V2 = """
GET / POST / GET /brokers GET /topics GET /topics/{topic} POST /topics/{topic} GET /topics/{topic}/partitions
GET /topics/{topic}/partitions/{partition:int} POST /topics/{topic}/partitions/{partition:int}
GET /topics/{topic}/partitions/{partition:int}/offsets POST /consumers/{group}
DELETE /consumers/{group}/instances/{instance}
POST /consumers/{group}/instances/{instance}/subscription GET /consumers/{group}/instances/{instance}/subscription
DELETE /consumers/{group}/instances/{instance}/subscription
POST /consumers/{group}/instances/{instance}/assignments GET /consumers/{group}/instances/{instance}/assignments
POST /consumers/{group}/instances/{instance}/positions
POST /consumers/{group}/instances/{instance}/positions/beginning
POST /consumers/{group}/instances/{instance}/positions/end
POST /consumers/{group}/instances/{instance}/offsets GET /consumers/{group}/instances/{instance}/offsets
GET /consumers/{group}/instances/{instance}/records
GET /ws/consumers/{group}/instances/{instance}/records DELETE /ws/consumers/{group}/instances/{instance}/records
"""
NAMES = """
root.get root.post brokers.list topics.list topics.get partitions.list partitions.get partitions.get-offsets
produce-to-topic.binary produce-to-topic.json produce-to-topic.avro produce-to-topic.json-schema
produce-to-topic.protobuf produce-to-partition.binary produce-to-partition.json produce-to-partition.avro
produce-to-partition.json-schema produce-to-partition.protobuf consumers.create consumers.delete consumers.subscribe
consumers.get-subscription consumers.unsubscribe consumers.consume-binary consumers.consume-json
consumers.consume-avro consumers.consume-json-schema consumers.consume-protobuf consumers.commit-offsets
consumers.get-committed-offsets consumers.seek-to-beginning consumers.seek-to-end consumers.seek-to-offset
consumers.assign consumers.get-assignments consumers.push-binary consumers.push-json consumers.push-avro
consumers.push-json-schema consumers.push-protobuf consumers.end-push
"""


def table(text: str) -> set[tuple[str, str]]:
    words = text.split()
    return set(zip(words[::2], words[1::2], strict=True))


def names(route: Route) -> list[str]:
    return list(route.extras["names"].values()) if "names" in route.extras else [route.name]


def test_paths(rest: Rest) -> None:
    routes = rest.services.routes()
    for generation, text in (("v1", V1), ("v2", V2)):
        assert {(each.method, each.template) for each in routes if each.generation == generation} == table(text)
        own = {"/health/live", "/health/ready", "/topics/{topics}/stream"}
        assert {each.template for each in routes if not each.generation} == own


def test_names(rest: Rest) -> None:
    routes = [each for each in rest.services.routes() if each.generation == "v2"]
    assert sorted(name for route in routes for name in names(route)) == sorted(f"api.v2.{n}" for n in NAMES.split())
    v1 = [name for route in rest.services.routes() if route.generation == "v1" for name in names(route)]
    assert len(set(v1)) == len(v1)
    assert all(name.startswith("api.v1.") for name in v1)


def test_every_route_is_complete(rest: Rest) -> None:
    for route in rest.services.routes():
        assert route.service is rest.services
        assert route.produces is not None or route.extras.get("streams")  # a stream answers to any Accept
        if route.generation:
            assert route.permission
            assert route.consumes is not None or route.extras.get("reads")
        assert (route.takes is not None) <= (route.body != "none")


async def test_single_formats_can_be_switched_off(start: Start) -> None:
    rest = start(api_endpoints_blocklist="api.v2.produce-to-topic.json,api.v2.consumers.consume-json")
    assert (await rest.produce("t", {"value": 1})).status == 405
    assert (await rest.produce("t", {"value": "eA=="}, format="binary")).status == 200
    instance = await rest.instance()
    assert (await rest.read(instance)).status == 404
