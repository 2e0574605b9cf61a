"""Reads of a v2 instance: by one process alone, in place on a node of a cluster, and forwarded to another node.

Both nodes are in this process, with a Unix socket between them and a Kafka in memory behind each; what is read is there
already. So what differs between two of these operations is the gateway's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from kafka_gateway.assembly import builtin
from kafka_gateway.auth import NoAuthentication
from kafka_gateway.cluster.homes import ClusterHomes
from kafka_gateway.cluster.ports import Peers, Process
from kafka_gateway.cluster.records import Claim, write_slots
from kafka_gateway.cluster.store import SlotStore, Watcher
from kafka_gateway.cluster.table import Table
from kafka_gateway.config import Config, load
from kafka_gateway.core import Gateway
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.messages import Reply, Request
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Router
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.session import Session
from kafka_gateway.workers.peers import open_peers
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeConsumer, FakeKafka

RECORDS = 10
_SLOTS = 64
_PATIENCE_MS = 60_000
"""So that no timer runs out while instructions are counted, which takes its time."""
_HOME, _ORIGIN = Process("bench", "home/0", "1"), Process("bench", "origin/0", "1")
_QUERY = {"timeout": "0"}
_FIELDS = {
    "host": "gateway.example",
    "accept": "application/vnd.kafka.binary.v2+json",
    "user-agent": "a client/1.0",
    "accept-encoding": "gzip, deflate",
}
"""A client that keeps its connection has its head known, and each of its requests the same mappings."""


class _Nobody:
    """Is told of slots, and waits for none."""

    def slots_changed(self) -> None:
        pass

    def fenced(self, why: str) -> None:
        pass


class Node:
    """A gateway over a Kafka of its own; one alone, until it joins others."""

    def __init__(self, config: Config) -> None:
        self.kafka = FakeKafka(orders=1)
        codecs = {codec.name: codec for codec in builtin.gateway_codecs(config)}
        self.services = RestServices(config, self.kafka, codecs, Catalogue(config, codecs))
        self.gateway = Gateway(config, Router(self.services.routes()), codecs, NoAuthentication())

    def join(self, process: Process, peers: Peers, table: Table, serves: bool) -> None:
        """It is one of several from now on, and serves all slots or none."""
        store = SlotStore(process, "instances", lambda: cast(Any, self.kafka.producer), cast(Watcher, _Nobody()))
        store.count = _SLOTS
        if serves:
            store.assigned(range(_SLOTS))
            store.caught_up(range(_SLOTS))
        store.holders.append(self.services.share(store, self.gateway.metrics))
        self.gateway.homes = ClusterHomes(self.gateway, process, store, table, peers)

    async def make_instance(self) -> FakeConsumer:
        """One that reads a topic with records; its consumer."""
        self.kafka.put("orders", *[b"x" * 100] * RECORDS)
        session = Session("http")
        headers = {"content-type": "application/vnd.kafka.v2+json"}
        for path, body in (
            ("/consumers/g", b'{"name":"c","format":"binary","auto.offset.reset":"earliest"}'),
            ("/consumers/g/instances/c/subscription", b'{"topics":["orders"]}'),
        ):
            reply = await self.gateway.dispatch(Request(session, "POST", path, headers=headers, body=body))
            assert reply.status in (200, 204), reply.body
        return self.kafka.consumers[0]


def read_by(gateway: Gateway, session: Session, consumer: FakeConsumer, count: int) -> Callable[[], Awaitable[None]]:
    """A read that finds so many records, of the instance that has this consumer; it is over when the instance knows
    that the client has them."""
    place = TopicPartition("orders", 0)

    async def run() -> None:
        consumer.assigned[place] = RECORDS - count
        reply: Reply = await gateway.dispatch(_read(session))
        assert (reply.status, reply.records) == (200, count), reply.body
        if reply.settle is not None:
            reply.settle(True)
        while consumer._turn.locked():  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)

    return run


def read_without_a_task(gateway: Gateway, session: Session, consumer: FakeConsumer) -> Callable[[], Awaitable[None]]:
    """A read that finds nothing and that another process answers, as plain HTTP begins it for a known head."""

    async def run() -> None:
        consumer.assigned[TopicPartition("orders", 0)] = RECORDS
        request = _read(session)
        assert gateway.homes is not None
        home = gateway.homes.elsewhere(request.method, request.path, request.area)
        assert home is not None
        answered: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        assert gateway.at_once.forward(request, home, answered.set_result) is not None
        reply = await answered
        assert reply is not None
        assert (reply.status, reply.body) == (200, b"[]")
        while consumer._turn.locked():  # noqa: ASYNC110  # it waits for nothing but the loop
            await asyncio.sleep(0)

    return run


def _read(session: Session) -> Request:
    return Request(
        session,
        "GET",
        "/consumers/g/instances/c/records",
        _QUERY,
        _FIELDS,
        base_url="http://gateway.example",
        one_reply=True,
        settles=True,
    )


@asynccontextmanager
async def reads(folder: Path) -> AsyncIterator[Mapping[str, Callable[[], Awaitable[None]]]]:
    """By what they are."""
    values = {"cluster.peer.dir": folder, "cluster.peer.connect.timeout.ms": _PATIENCE_MS}
    config = load(BUILTIN_KEYS).with_values(values)
    alone, home, origin = Node(config), Node(config), Node(config)
    own, there = await alone.make_instance(), await home.make_instance()
    async with open_peers(config, origin.gateway, _ORIGIN) as asks, open_peers(config, home.gateway, _HOME) as answers:
        asks.know(_HOME.id, _HOME.boot, answers.addresses)
        table = Table()
        table.put(_HOME.id, Claim(1, _HOME.boot, tuple(answers.addresses), write_slots(range(_SLOTS))), 0, 0.0)
        home.join(_HOME, answers, table, serves=True)
        origin.join(_ORIGIN, asks, table, serves=False)
        sessions = [await each.gateway.open_session("http", {}) for each in (alone, home, origin)]
        found = {}
        for count, what in ((0, "no records"), (RECORDS, f"{RECORDS} records")):
            found[f"a read of {what}, alone"] = read_by(alone.gateway, sessions[0], own, count)
            found[f"a read of {what}, in place"] = read_by(home.gateway, sessions[1], there, count)
            found[f"a read of {what}, forwarded"] = read_by(origin.gateway, sessions[2], there, count)
        found["a read of no records, forwarded without a task"] = read_without_a_task(
            origin.gateway, sessions[2], there
        )
        yield found
        for node, session in zip((alone, home, origin), sessions, strict=True):
            await node.gateway.close_session(session)
