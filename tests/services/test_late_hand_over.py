"""What Kafka stores of a node late, when another one has its slot already, or never (cluster.md §4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from kafka_gateway.cluster.ports import Process
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.errors import InstanceUnavailable
from kafka_gateway.kafka.ports.slots import SlotRecord
from kafka_gateway.messages import Reply, Request, Response
from kafka_gateway.metrics.registry import Metrics
from tests.services.conftest import V2, Rest, Start
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled

ALL = (0,)
"""There is one slot."""


class OnNoNode:
    """`Homes` of a node that reaches no other one: what is elsewhere is answered with 503."""

    is_fixed = False

    def elsewhere(self, method: str, path: str, area: str) -> int | None:
        return None

    def check_here(self, *key: str) -> None: ...
    def follow(self, request: Request, response: Response) -> None: ...
    def begin(self, request: Request, worker: int, told: object) -> None: ...
    async def forward(self, request: Request, worker: int, after: object = None) -> Reply | None:
        raise InstanceUnavailable()


class Node:
    """A gateway with its slots, and its producer of definitions: what that sends is stored at once, or later."""

    def __init__(
        self, number: int, rest: Rest, log: list[SlotRecord], readers: list[SlotStore], boot: str = "1"
    ) -> None:
        self.rest = rest
        self.log = log
        self.readers = readers
        rest.gateway.homes = OnNoNode()  # type: ignore[assignment]
        self.unsent: list[tuple[SlotRecord, asyncio.Future[list[Any]]]] = []
        self.reaches_kafka = True
        self.store = SlotStore(Process("test", f"gw-{number}/0", boot), "instances", lambda: self, self)  # type: ignore[arg-type,return-value]
        self.store.count = len(ALL)
        self.lasting = rest.services.share(self.store, Metrics())
        self.store.holders = [self.lasting]
        readers.append(self.store)

    def slots_changed(self) -> None: ...
    def fenced(self, why: str) -> None: ...

    def send(self, topic: str, records: Sequence[Any], partition: int | None = None) -> asyncio.Future[list[Any]]:
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        for each in records:
            headers = {name: value.decode() for name, value in each.headers or ()}
            self.unsent.append((SlotRecord(each.partition, each.key, each.value, headers), done))
        if self.reaches_kafka:
            self.deliver()
        return done

    def deliver(self) -> None:
        """Kafka stores what was sent."""
        unsent, self.unsent = self.unsent, []
        for record, done in unsent:
            self.log.append(record)
            for reader in self.readers:
                asyncio.get_running_loop().call_soon(reader.records, [record])
            if not done.done():
                done.set_result([object()])

    def serve(self) -> None:
        self.store.assigned(ALL)
        self.store.records(self.log)
        self.store.caught_up(ALL)

    async def give_up(self) -> None:
        """As far as it comes."""
        giving = asyncio.ensure_future(self.store.give_up(ALL))
        await settled()
        giving.cancel()  # its time is over
        await asyncio.wait([giving])

    def end(self, *, late: bool = False) -> None:
        """As SIGKILL does: what was not stored never is, or when it is delivered, where the network has it."""
        self.readers.remove(self.store)
        if not late:
            self.unsent.clear()
        self.store.lost(ALL)


class Nodes:
    """They come one after the other."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.log: list[SlotRecord] = []
        self.readers: list[SlotStore] = []

    def make(self, number: int = -1, boot: str = "1") -> Node:
        made = Node(len(self.readers) if number < 0 else number, self.start(), self.log, self.readers, boot)
        made.serve()
        return made


@pytest.fixture
def nodes(start: Start) -> Nodes:
    return Nodes(start)


async def test_a_commit_without_a_body_covers_what_came_before_the_late_word(nodes: Nodes, fake: FakeKafka) -> None:
    one = nodes.make()
    path = await one.rest.instance(name="c", auto_commit_enable="false")
    assert (await one.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    one.reaches_kafka = False
    await one.give_up()
    other = nodes.make()
    await other.rest.produce("u", {"value": 1})
    assert [each["value"] for each in (await other.rest.read(path)).body] == [1]
    one.deliver()
    await settled()
    assert (await other.rest.post(f"{path}/offsets", b"", V2)).status == 200
    assert fake.committed["g", "u", 0][0] == 1
    assert (await other.rest.read(path)).body == []


async def test_who_opens_an_instance_returns_nothing_before_that_is_stored(nodes: Nodes, fake: FakeKafka) -> None:
    """Else the one behind a node that was killed before would believe the hand-over to that node, and answer a commit
    without a body with 200 that covers nothing of what the client has got."""
    one = nodes.make()
    path = await one.rest.instance(name="c", auto_commit_enable="false")
    assert (await one.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    await one.give_up()
    other = nodes.make()
    other.reaches_kafka = False
    await other.rest.produce("u", {"value": 1})
    reading = asyncio.ensure_future(other.rest.read(path))
    await settled()
    returned = [each["value"] for each in (await reading).body] if reading.done() else []
    other.end()
    third = nodes.make()
    committed = (await third.rest.post(f"{path}/offsets", b"", V2)).status
    covered = fake.committed.get(("g", "u", 0), (0, ""))[0]
    assert committed != 200 or covered == len(returned), "what it has got, it has committed"
    assert returned == []
    assert [each["value"] for each in (await third.rest.read(path)).body] == [1]
    assert (await reading).status == 503


async def test_a_change_that_comes_late_takes_nothing_back(nodes: Nodes) -> None:
    """The client has asked for something else meanwhile, of the node that has the instance now."""
    one = nodes.make()
    path = await one.rest.instance(name="c")
    one.reaches_kafka = False
    changing = asyncio.ensure_future(one.rest.post(f"{path}/subscription", {"topics": ["t"]}, V2))
    await settled()
    one.store.lost(ALL)
    other = nodes.make()
    assert (await other.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    one.deliver()
    assert (await changing).status == 503, "it did not count"
    await settled()
    assert (await other.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}
    other.end()
    third = nodes.make()
    assert (await third.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}


async def test_a_deletion_that_comes_late_ends_nothing_that_is_in_use_elsewhere(nodes: Nodes) -> None:
    """As of a client that has given up waiting, or of an instance that has expired. Whoever waits is told of the
    instance as it is."""
    one = nodes.make()
    path = await one.rest.instance(name="c")
    one.reaches_kafka = False
    deleting = asyncio.ensure_future(one.rest.delete(path))
    await settled()
    one.store.lost(ALL)
    other = nodes.make()
    assert (await other.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    one.deliver()
    await settled()
    assert (await deleting).status == 503, "it did not count"
    assert (await other.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}
    other.end()
    third = nodes.make()
    assert (await third.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}
    assert (await third.rest.delete(path)).status == 204
    assert (await third.rest.delete(path)).code == 40403


async def test_what_a_process_has_sent_before_it_was_killed_is_not_its_own_when_it_is_started_again(
    nodes: Nodes,
) -> None:
    """It has its name, and counts as it did. Its client has asked for something else since."""
    one = nodes.make()
    path = await one.rest.instance(name="c")
    assert (await one.rest.post(f"{path}/subscription", {"topics": ["t"]}, V2)).status == 204
    await one.give_up()
    killed = nodes.make(7)
    killed.reaches_kafka = False
    asking = asyncio.ensure_future(killed.rest.get(f"{path}/subscription"))
    await settled()
    killed.end(late=True)
    again = nodes.make(7, boot="2")
    assert (await again.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    killed.deliver()
    await settled()
    assert (await again.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}
    again.end()
    third = nodes.make()
    assert (await third.rest.get(f"{path}/subscription")).body == {"topics": ["u"]}
    assert (await asking).status == 503
