"""Instances that outlive their process: two gateways with one store of definitions (cluster.md §6)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import pytest

from kafka_gateway.definitions import Definition, SlotKey, opened_by
from kafka_gateway.errors import InstanceExists, InstanceUnavailable
from kafka_gateway.forwarding import Told
from kafka_gateway.homes import Elsewhere
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.messages import Reply, Request, Unanswered
from kafka_gateway.metrics.registry import Metrics
from kafka_gateway.rights import EVERYTHING
from kafka_gateway.services.instances import push_stream
from kafka_gateway.services.instances.instance import InstanceKey
from kafka_gateway.services.instances.lasting import LastingInstances
from tests.services.conftest import V1, V2, Rest, Start, embedded
from tests.services.fake_kafka import FakeKafka
from tests.services.pushed import Client
from tests.waiting import settled, until


class Log:
    """What both have written."""

    def __init__(self) -> None:
        self.live: dict[SlotKey, Definition] = {}
        self.writes: list[Definition] = []


class Definitions:
    """The port, of a process that holds all slots or none."""

    trouble = ""

    def __init__(self, writer: str, log: Log) -> None:
        self.writer = writer
        self.log = log
        self.here = False
        self.deleted: list[str] = []

    def member_id(self, uid: str) -> str:
        return f"test.{uid}"

    def check_here(self, place: SlotKey) -> None:
        if not self.here:
            raise Elsewhere(0)

    def find(self, place: SlotKey) -> Definition | None:
        return self.log.live.get(place)

    def idle(self, seconds: float) -> Iterable[Definition]:
        return list(self.log.live.values()) if self.here else []

    async def create(self, definition: Definition) -> None:
        if (place := SlotKey(definition.group, definition.name)) in self.log.live:
            raise InstanceExists()
        self.log.live[place] = definition

    async def open(self, definition: Definition) -> Definition:
        opened = opened_by(self.writer, definition, definition.epoch + 1)
        await self.change(opened)
        return opened

    async def change(self, definition: Definition) -> None:
        self.log.live[SlotKey(definition.group, definition.name)] = definition
        self.log.writes.append(definition)

    async def delete(self, definition: Definition) -> None:
        self.deleted.append(definition.name)
        del self.log.live[SlotKey(definition.group, definition.name)]


class Nodes:
    """Two gateways. ``move`` hands all that there is over to the other one; ``kill`` leaves it no time for that."""

    def __init__(self, start: Start, **values: object) -> None:
        self.log = Log()
        self.rests = [start(**values) for _ in range(2)]
        self.stores = [Definitions(f"gw-{number}/0", self.log) for number in range(2)]
        for rest, store in zip(self.rests, self.stores, strict=True):
            rest.services.share(store, Metrics())
        self.at = 0
        self.stores[0].here = True

    @property
    def lasting(self) -> LastingInstances:
        found = self.rests[self.at].services.registry.lasting
        assert isinstance(found, LastingInstances)
        return found

    @property
    def rest(self) -> Rest:
        return self.rests[self.at]

    async def move(self) -> Rest:
        await self.lasting.hand_over(list(self.log.live))
        return self.kill()

    def lose(self) -> None:
        """The coordinator is away for too long: nobody has anything."""
        self.lasting.suspend(list(self.log.live))
        self.stores[self.at].here = False

    def find_again(self, number: int) -> Rest:
        """That one has all there is, as before or for the first time."""
        self.at = number
        self.stores[number].here = True
        self.lasting.resume([SlotKey("g", "c")])
        return self.rest

    def kill(self) -> Rest:
        self.lasting.drop(list(self.log.live))
        self.stores[self.at].here = False
        self.at = 1 - self.at
        self.stores[self.at].here = True
        return self.rest


@pytest.fixture
def nodes(start: Start) -> Nodes:
    return Nodes(start, errors_help=True)


async def values(rest: Rest, path: str) -> list[object]:
    answer = await rest.read(path)
    assert answer.status == 200, answer
    return [each["value"] for each in answer.body]


async def test_a_planned_move_goes_on_behind_what_was_returned(nodes: Nodes, fake: FakeKafka) -> None:
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1}, {"value": 2})
    assert await values(nodes.rest, path) == [1, 2]
    other = await nodes.move()
    await until(lambda: fake.calls[-1] == ("close, and stay", None))
    await other.produce("u", {"value": 3})
    assert (await other.get(f"{path}/subscription")).body == {"topics": ["u"]}
    # What it would have committed there, it commits here.
    assert (await other.post(f"{path}/offsets", b"", V2)).status == 200
    assert await values(other, path) == [3]
    assert nodes.log.writes[-1].by == "gw-1/0"
    assert not nodes.log.writes[-1].handed, "from now on nobody believes the anchors"


async def test_a_read_that_begins_while_its_instance_is_handed_over_ends_with_nothing(nodes: Nodes) -> None:
    """As v1's first, which subscribes before: its records would be behind where the next holder goes on."""
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    [instance] = nodes.rest.services.registry._instances.values()
    assert instance is not None
    instance.interrupt()
    assert await values(nodes.rest, path) == []


BOTH = (TopicPartition("h", 0), TopicPartition("h", 1))
SHARES = {"nothing": frozenset[TopicPartition](), "one": frozenset(BOTH[:1]), "both": frozenset(BOTH)}


@pytest.mark.parametrize("steps", [*itertools.product([*SHARES, "both, and again"], repeat=2)])
@pytest.mark.parametrize("other", ["commits nothing", "commits"])
async def test_what_its_group_has_not_given_yet_is_handed_on(
    nodes: Nodes, fake: FakeKafka, steps: tuple[str, ...], other: str
) -> None:
    """An instance is handed over again before it has all of its partitions; another member commits meanwhile or not."""
    fake.add_topic("h", 2)
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["h"]}, V2)
    for partition in (0, 1):
        fake.put("h", b"1", b"2", partition=partition)
    assert await values(nodes.rest, path) == [1, 2, 1, 2]
    for number, step in enumerate(steps):
        await nodes.move()
        if number and other == "commits":
            fake.committed["g", "h", 1] = (1, "")
        fake.first_share = SHARES[step.partition(",")[0]]
        assert (await nodes.rest.get(f"{path}/subscription")).status == 200
        if step == "both, and again":
            fake.consumers[-1].rebalance()
            fake.consumers[-1].rebalance(*BOTH)
    fake.first_share = None
    rest = await nodes.move()
    assert (await rest.post(f"{path}/offsets", b"", V2)).status == 200, "it is known what was returned"
    for partition in (0, 1):
        fake.put("h", b"3", partition=partition)
    assert await values(rest, path) == ([3, 3] if other == "commits nothing" else [3, 2, 3])


@pytest.mark.parametrize("again", [{"topics": ["h"]}, {"topics": ["u"]}])
async def test_anchors_last_over_a_subscription_to_the_same_topic(
    nodes: Nodes, fake: FakeKafka, again: dict[str, list[str]]
) -> None:
    fake.add_topic("h")
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["h"]}, V2)
    fake.put("h", b"1")
    assert await values(nodes.rest, path) == [1]
    await nodes.move()
    await nodes.rest.post(f"{path}/subscription", again, V2)
    nodes.kill()
    await nodes.rest.post(f"{path}/subscription", {"topics": ["h"]}, V2)
    fake.put("h", b"2")
    assert await values(nodes.rest, path) == ([2] if again == {"topics": ["h"]} else [1, 2])


async def test_what_was_not_known_at_a_failure_is_not_known_by_a_hand_over(nodes: Nodes) -> None:
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    assert await values(nodes.rest, path) == [1]
    assert (await nodes.kill().get(f"{path}/subscription")).status == 200
    other = await nodes.move()
    assert (await other.post(f"{path}/offsets", b"", V2)).code == 50002
    assert await values(other, path) == [1]
    assert (await (await nodes.move()).post(f"{path}/offsets", b"", V2)).status == 200


async def test_one_whose_consumer_has_ended_by_itself_is_opened_again(nodes: Nodes, fake: FakeKafka) -> None:
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    assert await values(nodes.rest, path) == [1]
    fake.consumers[0].closed = True
    assert (await nodes.rest.as_principal("bob").read(path)).code == 40403
    fake.consumers[-1].closed = True
    assert (await nodes.rest.post(f"{path}/offsets", b"", V2)).code == 50002
    assert await values(nodes.rest, path) == [1]
    assert len(fake.consumers) == 2


async def test_after_a_crash_it_goes_on_at_what_was_committed(nodes: Nodes) -> None:
    path = await nodes.rest.instance(auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    assert await values(nodes.rest, path) == [1]
    assert (await nodes.rest.post(f"{path}/offsets", b"", V2)).status == 200
    await nodes.rest.produce("u", {"value": 2})
    assert await values(nodes.rest, path) == [2]
    other = nodes.kill()
    answer = await other.post(f"{path}/offsets", b"", V2)
    for _ in range(2):
        assert (answer.status, answer.code) == (500, 50002)
        assert "Read again, and commit then" in answer.body["help"]
        answer = await other.post(f"{path}/offsets", b"", V2)
    assert await values(other, path) == [2]
    assert (await other.post(f"{path}/offsets", b"", V2)).status == 200


async def test_after_an_outage_of_kafka_it_goes_on_where_it_was(nodes: Nodes, fake: FakeKafka) -> None:
    path = await nodes.rest.instance(name="c", auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    assert await values(nodes.rest, path) == [1]
    waiting = asyncio.ensure_future(nodes.rest.read(path))
    [reader] = nodes.rest.services.registry._instances.values()
    assert reader is not None
    await until(lambda: bool(reader._reads))
    nodes.lose()
    answer = await waiting
    assert (answer.status, answer.body) == (200, [])
    assert len(nodes.rest.services.registry) == 0, "nobody is served from it"
    rest = nodes.find_again(0)
    await rest.produce("u", {"value": 2})
    assert await values(rest, path) == [2], "nothing comes again"
    assert (await rest.post(f"{path}/offsets", b"", V2)).status == 200, "and it knows what was returned"
    assert len(fake.consumers) == 1


@pytest.mark.parametrize("other_has", ["read", "deleted", "made anew", "nothing"])
async def test_what_another_node_has_had_meanwhile_is_let_go(nodes: Nodes, fake: FakeKafka, other_has: str) -> None:
    path = await nodes.rest.instance(name="c", auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1}, {"value": 2})
    assert await values(nodes.rest, path) == [1, 2]
    nodes.lose()
    other = nodes.find_again(1)
    if other_has == "read":
        assert await values(other, path) == [1, 2]
        assert (await other.post(f"{path}/offsets", b"", V2)).status == 200
    elif other_has != "nothing":
        assert (await other.delete(path)).status == 204
    if other_has == "made anew":
        await other.instance(name="c")
        await other.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    nodes.kill()
    rest = nodes.find_again(0)
    first = fake.consumers[0]
    await until(lambda: first.closed or other_has == "nothing")
    assert first.closed == (other_has != "nothing")
    if other_has == "deleted":
        assert (await rest.read(path)).code == 40403
    else:
        await rest.produce("u", {"value": 3})
        assert await values(rest, path) == ([1, 2, 3] if other_has == "made anew" else [3])
    assert not rest.services.registry._kept


async def test_what_moves_on_while_it_is_opened_is_let_go_again(nodes: Nodes, fake: FakeKafka) -> None:
    await nodes.rest.instance(name="c")
    other = nodes.kill()
    lasting, fake.create_gate = nodes.lasting, asyncio.Event()
    opening = asyncio.ensure_future(lasting.awake(InstanceKey("v2", "g", "c"), other.session))
    await until(lambda: bool(lasting._reviving))
    nodes.kill()
    fake.create_gate.set()
    with pytest.raises(Elsewhere):
        await opening
    assert len(other.services.registry) == 0
    await until(lambda: fake.consumers[-1].closed)


async def test_what_a_client_has_chosen_moves_along(nodes: Nodes, fake: FakeKafka) -> None:
    """Pattern, assignment with a seek, settings of the creation, and v1's topic."""
    pattern = await nodes.rest.instance(name="p", auto_commit_enable="false")
    assert (await nodes.rest.post(f"{pattern}/subscription", {"topic_pattern": "[tu]"}, V2)).status == 204
    assigned = await nodes.rest.instance(name="a", fetch_min_bytes="7", consumer_request_timeout_ms="50")
    place = {"topic": "u", "partition": 0}
    await nodes.rest.produce("u", {"value": 1}, {"value": 2})
    assert (await nodes.rest.post(f"{assigned}/assignments", {"partitions": [place]}, V2)).status == 204
    assert (await nodes.rest.post(f"{assigned}/positions", {"offsets": [{**place, "offset": 1}]}, V2)).status == 204
    made = {"id": "o", "format": "json", "auto.offset.reset": "smallest"}
    assert (await nodes.rest.post("/consumers/g", made, V1)).status == 200
    of_v1 = "/consumers/g/instances/o/topics/u"
    accept = "application/vnd.kafka.json.v1+json"
    assert [each["value"] for each in (await nodes.rest.get(of_v1, accept=accept)).body] == [1, 2]
    other = nodes.kill()
    assert (await other.get(f"{assigned}/assignments")).body == {"partitions": [place]}
    assert await values(other, assigned) == [2], "from where it was sent"
    settings = other.services.registry.get(next(iter(other.services.registry._instances)))
    assert settings is not None
    assert (settings.min_bytes, settings.timeout_s) == (7, 0.05)
    assert await values(other, pattern) == [1, 2]
    assert (await other.get(f"{pattern}/subscription")).body == {"topics": ["t", "u"]}
    assert [each["value"] for each in (await other.get(of_v1, accept=accept)).body] == [1, 2]
    consumers = fake.consumers
    assert {each.settings.instance_id for each in consumers} == {
        f"test.{each.uid}" for each in nodes.log.live.values()
    }, "the same member of its group, here and there"


async def test_nobody_else_finds_it_after_a_move(nodes: Nodes) -> None:
    alice = nodes.rest.as_principal("alice")
    path = await alice.instance()
    await alice.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    other = nodes.kill()
    bob = other.as_principal("bob")
    assert bob.session.rights is EVERYTHING
    answer = await bob.read(path)
    assert answer.code == 40403
    assert "All nodes of the cluster say so" in answer.body["help"]
    assert (await bob.delete(path)).code == 40403
    assert len(other.services.registry) == 0, "nor is it opened for him"
    assert (await other.as_principal("alice").read(path)).status == 200
    assert (await bob.read(path)).code == 40403


async def test_a_name_that_only_has_a_definition_is_taken(nodes: Nodes) -> None:
    await nodes.rest.instance()
    other = nodes.kill()
    for body, type in (({"name": "c"}, V2), ({"id": "c"}, V1)):
        assert (await other.post("/consumers/g", body, type)).code == 40902
    assert (await other.delete("/consumers/g/instances/c")).status == 204
    assert nodes.log.live == {}
    assert (await other.delete("/consumers/g/instances/c")).code == 40403
    assert (await other.post("/consumers/g", {"name": "c"}, V2)).status == 200


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_nobody_waits_for_a_group_that_an_instance_joins_to_leave_it(
    nodes: Nodes, fake: FakeKafka, generation: str
) -> None:
    kind, body = (V2, {"name": "c"}) if generation == "v2" else (V1, {"id": "c"})
    assert (await nodes.rest.post("/consumers/g", body, kind)).status == 200
    first, first.is_joining, first.close_gate = fake.consumers[0], True, asyncio.Event()
    assert (await nodes.rest.delete("/consumers/g/instances/c")).status == 204
    assert (await nodes.rest.post("/consumers/g", body, kind)).status == 200, "its name is free"
    ending = asyncio.ensure_future(nodes.rest.services.registry.close_all())
    await settled()
    assert not ending.done(), "but the process does not end before"
    first.close_gate.set()
    await ending
    assert ("close", None) in fake.calls, "it leaves"


@pytest.mark.parametrize("body", [{"topics": ["u"]}, {"topic_pattern": "u"}])
async def test_the_place_of_one_that_is_deleted_before_it_is_used_is_given_up_behind_the_answer(
    nodes: Nodes, fake: FakeKafka, body: dict[str, object]
) -> None:
    fake.add_topic("u")
    path = await nodes.rest.instance(name="c")
    assert (await nodes.rest.post(f"{path}/subscription", body, V2)).status == 204
    other = nodes.kill()
    fake.create_gate = asyncio.Event()
    assert (await other.delete(path)).status == 204
    assert nodes.log.live == {}
    assert (await other.delete(path)).code == 40403
    fake.create_gate.set()
    await until(lambda: len(fake.consumers) == 2 and fake.consumers[1].closed)
    old, new = fake.consumers
    assert (new.settings.instance_id, new.subscribed) == (old.settings.instance_id, ("u",))
    assert fake.calls[-1] == ("close", None), "it leaves"


async def test_a_creation_that_is_sent_again_is_well(nodes: Nodes) -> None:
    """The process that made it is gone before it could say so, and another one gets the request."""
    body = b'{"name": "c", "format": "json"}'
    headers = {"content-type": V2, "x-gateway-creation": "a client's own"}

    async def send(rest: Rest, creation: str = "") -> tuple[int, str]:
        request = Request(rest.session, "POST", "/consumers/g", {}, headers, body, creation=creation)
        return (await rest.gateway.dispatch(request)).status, request.creation

    for rest in nodes.rests:
        rest.gateway.homes = AtHome()
    status, creation = await send(nodes.rest)
    assert (status, nodes.log.live[SlotKey("g", "c")].uid) == (200, creation)
    other = nodes.kill()
    assert await send(other, creation) == (200, creation)
    status, another = await send(other)
    assert (status, another != creation) == (409, True)


async def test_a_creation_that_is_sent_again_while_it_is_carried_out_is_the_same_one(
    nodes: Nodes, fake: FakeKafka
) -> None:
    """The connection by which it came first was given up, and the process that has it is slow."""
    nodes.rest.gateway.homes = AtHome()
    fake.create_gate = asyncio.Event()

    def send(creation: str) -> asyncio.Task[Reply]:
        headers = {"content-type": V2}
        request = Request(nodes.rest.session, "POST", "/consumers/g", {}, headers, b'{"name": "c"}', creation=creation)
        return asyncio.create_task(nodes.rest.gateway.dispatch(request))

    first = send("one")
    await settled()
    again, another = send("one"), send("another")
    await settled()
    first.cancel()
    assert (await another).status == 409
    assert not again.done()
    fake.create_gate.set()
    assert (await again).status == 200
    assert nodes.log.live[SlotKey("g", "c")].uid == "one"
    assert len(fake.consumers) == 1
    assert not fake.consumers[0].closed


async def test_a_creation_whose_client_leaves_is_undone_on_all_nodes(nodes: Nodes, fake: FakeKafka) -> None:
    fake.create_gate = asyncio.Event()
    creating = asyncio.create_task(nodes.rest.instance(name="c"))
    await settled()
    creating.cancel()
    fake.create_gate.set()
    await until(lambda: bool(fake.consumers) and fake.consumers[0].closed)
    await until(lambda: nodes.log.live == {})
    await nodes.rest.instance(name="c")


async def test_a_push_has_the_time_of_the_hand_over_to_tell_what_has_arrived(start: Start, fake: FakeKafka) -> None:
    nodes = Nodes(start, cluster_handover_timeout_ms=60_000)
    path = await nodes.rest.instance(name="c", auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    client = await Client(nodes.rest).subscribe(f"/ws{path}/records", embedded("json"))
    await client.has(1)
    client.room.clear()
    await nodes.rest.produce("u", {"value": 1})
    await client.sending.wait()
    moving = asyncio.create_task(nodes.move())
    await asyncio.wait([moving], timeout=2 * push_stream.GRACE_S)
    assert not moving.done()
    client.room.set()
    other = await moving
    await client.has_values(1)
    assert (await other.post(f"{path}/offsets", b"", V2)).status == 200, "it is known what was returned"
    await other.produce("u", {"value": 2})
    assert await values(other, path) == [2]


async def test_what_may_have_arrived_when_an_instance_moves_is_in_doubt(nodes: Nodes) -> None:
    path = await nodes.rest.instance(name="c", auto_commit_enable="false")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    await nodes.rest.produce("u", {"value": 1})
    headers = {"accept": embedded("json")}
    request = Request(nodes.rest.session, "GET", f"{path}/records", {}, headers, settles=True)
    reply = await nodes.rest.gateway.dispatch(request)
    assert reply.settle is not None
    reply.settle(None)
    other = await nodes.move()
    assert (await other.post(f"{path}/offsets", b"", V2)).code == 50002
    assert await values(other, path) == [1]


class AtHome:
    """Homes of which each is here."""

    is_fixed = False

    def is_here(self, *key: str) -> bool:
        return True

    def check_here(self, *key: str) -> None:
        pass

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        return None

    def follow(self, request: object, response: object) -> None:
        pass


async def test_what_nobody_uses_expires_where_its_slot_is(start: Start) -> None:
    nodes = Nodes(start, consumer_instance_timeout_ms=1)
    await nodes.rest.instance()
    nodes.kill()
    await nodes.lasting.expire(0.001)
    assert nodes.log.live == {}


LONG_S = 600.0


async def test_what_was_live_a_moment_ago_does_not_expire(start: Start, fake: FakeKafka) -> None:
    """However long its slot has been here: somebody has just used it."""
    nodes = Nodes(start)
    path = await nodes.rest.instance(name="c")
    await nodes.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)
    nodes.lasting.drop([SlotKey("g", "c")])  # another process has changed it
    await nodes.lasting.expire(LONG_S)
    assert list(nodes.log.live) == [SlotKey("g", "c")]
    other = nodes.kill()
    fake.fail("consumer", InstanceUnavailable())
    assert (await other.get(f"{path}/subscription")).status == 503, "it could not be opened"
    await nodes.lasting.expire(LONG_S)
    assert list(nodes.log.live) == [SlotKey("g", "c")]
    await nodes.lasting.expire(-LONG_S)
    assert nodes.log.live == {}


async def test_what_is_being_made_does_not_expire(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its definition is there before it is."""
    nodes, stored, answered = Nodes(start), asyncio.Event(), asyncio.Event()
    create = nodes.stores[0].create

    async def slowly(definition: Definition) -> None:
        await create(definition)
        stored.set()
        await answered.wait()

    monkeypatch.setattr(nodes.stores[0], "create", slowly)
    making = asyncio.ensure_future(nodes.rest.instance(name="c"))
    await stored.wait()
    await nodes.lasting.expire(-LONG_S)
    answered.set()
    assert (await nodes.rest.read(await making)).code != 40403
    assert list(nodes.log.live) == [SlotKey("g", "c")]


async def test_what_expires_ends_once(start: Start) -> None:
    """What a live one leaves behind is not taken for a dormant one of the same moment."""
    nodes = Nodes(start, consumer_instance_timeout_ms=1)
    await nodes.rest.instance(name="c")
    registry = nodes.rest.services.registry
    instance = registry.get(InstanceKey("v2", "g", "c"))
    assert instance is not None
    instance.used_at -= LONG_S
    registry.expire()
    await nodes.lasting.expire(LONG_S)
    await settled()
    assert nodes.stores[0].deleted == ["c"]


async def test_where_there_is_no_room_it_is_not_gone(start: Start) -> None:
    nodes = Nodes(start, consumer_instances_max=1)
    first = await nodes.rest.instance(name="a")
    nodes.kill()
    await nodes.rest.instance(name="b")
    answer = await nodes.rest.get(f"{first}/subscription")
    assert (answer.status, answer.code) == (503, 50303)
    assert "consumer.instances.max" in answer.message
    assert (await nodes.rest.delete("/consumers/g/instances/b")).status == 204
    assert (await nodes.rest.get(f"{first}/subscription")).status == 200


async def test_a_start_at_the_end_is_kept(nodes: Nodes, fake: FakeKafka) -> None:
    """Without it, what is written between the crash and the next request would be skipped."""
    path = await nodes.rest.instance(auto_offset_reset="latest", auto_commit_enable="false")
    await nodes.rest.produce("u", {"value": 1})
    place = {"topic": "u", "partition": 0}
    assert (await nodes.rest.post(f"{path}/assignments", {"partitions": [place]}, V2)).status == 204
    other = nodes.kill()
    await other.produce("u", {"value": 2})
    assert await values(other, path) == [2]


class OnNoNode(AtHome):
    """Homes while nobody has the slot."""

    def elsewhere(self, method: str, path: str, area: str) -> int:
        return 0

    def begin(self, request: Request, worker: int, told: Told) -> None:
        """There is nobody to send it to."""

    async def forward(self, request: Request, worker: int, after: Unanswered | None = None) -> Reply:
        raise InstanceUnavailable()


@pytest.mark.parametrize("accept", ["json.", ""])
@pytest.mark.parametrize(("api", "resource"), [("v1", "topics/t"), ("v2", "records")])
@pytest.mark.parametrize("socket", ["", "/ws"])
async def test_an_error_has_the_type_of_its_resource_while_nobody_has_the_slot(
    rest: Rest, socket: str, api: str, resource: str, accept: str
) -> None:
    accept = f"application/vnd.kafka.{accept}{api}+json"
    path = f"{socket}/consumers/g/instances/c/{resource}"
    here = await rest.get(path, accept=accept)
    rest.gateway.homes = OnNoNode()  # type: ignore[assignment]
    away = await rest.get(path, accept=accept)
    assert (here.code, away.code) == (40403, 50303)
    assert (here.media_type, away.media_type) == (accept, accept)
