"""A hand-over that Kafka stores when its slot is served by another node already (cluster.md §4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kafka_gateway.cluster.ports import Process
from kafka_gateway.cluster.store import SlotStore
from kafka_gateway.kafka.ports.slots import SlotRecord
from kafka_gateway.metrics.registry import Metrics
from tests.services.conftest import V2, Rest, Start
from tests.services.fake_kafka import FakeKafka
from tests.waiting import settled

ALL = (0,)
"""There is one slot."""


class Node:
    """A gateway with its slots, and its producer of definitions: what that sends is stored at once, or later."""

    def __init__(self, number: int, rest: Rest, log: list[SlotRecord], readers: list[SlotStore]) -> None:
        self.rest = rest
        self.log = log
        self.readers = readers
        self.unsent: list[tuple[SlotRecord, asyncio.Future[list[Any]]]] = []
        self.reaches_kafka = True
        self.store = SlotStore(Process("test", f"gw-{number}/0", "1"), "instances", lambda: self, self)  # type: ignore[arg-type,return-value]
        self.store.count = len(ALL)
        self.lasting = rest.services.share(self.store, Metrics())
        self.store.holders = [self.lasting]
        readers.append(self.store)

    def slots_changed(self) -> None: ...
    def fenced(self, why: str) -> None: ...

    def send(self, topic: str, records: Sequence[Any], partition: int | None = None) -> asyncio.Future[list[Any]]:
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        for each in records:
            uid = dict(each.headers or ()).get("uid", b"").decode()
            self.unsent.append((SlotRecord(each.partition, each.key, each.value, uid), done))
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


async def test_a_commit_without_a_body_covers_what_came_before_the_late_word(start: Start, fake: FakeKafka) -> None:
    log: list[SlotRecord] = []
    readers: list[SlotStore] = []
    one, other = (Node(number, start(), log, readers) for number in range(2))
    one.serve()
    path = await one.rest.instance(name="c", auto_commit_enable="false")
    assert (await one.rest.post(f"{path}/subscription", {"topics": ["u"]}, V2)).status == 204
    one.reaches_kafka = False
    await one.give_up()
    other.serve()
    await other.rest.produce("u", {"value": 1})
    assert [each["value"] for each in (await other.rest.read(path)).body] == [1]
    one.deliver()
    await settled()
    assert (await other.rest.post(f"{path}/offsets", b"", V2)).status == 200
    assert fake.committed["g", "u", 0][0] == 1
    assert (await other.rest.read(path)).body == []
