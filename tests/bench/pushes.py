"""Records to a hundred push subscriptions of a hundred groups over envelopes: from the poll of the one fetcher to the
proof that each client has each record.

librdkafka, the threads of the consumers and the connections are simulated. What keeps the group memberships is not
counted: it takes as long however many records come.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import Message

from kafka_gateway.assembly import builtin
from kafka_gateway.auth import NoAuthentication
from kafka_gateway.config import load
from kafka_gateway.core import Gateway
from kafka_gateway.kafka.consuming.consumer import KafkaConsumer
from kafka_gateway.kafka.consuming.crowd import Crowd
from kafka_gateway.kafka.consuming.push_reads import PushReads
from kafka_gateway.kafka.consuming.reads import Read
from kafka_gateway.kafka.consuming.shared_fetcher import SharedFetcher
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.registry.catalogue import Catalogue
from kafka_gateway.router import Router
from kafka_gateway.services.rest.routes import RestServices
from kafka_gateway.transports.envelope.session import EnvelopeSession
from kafka_gateway.transports.envelope.settings import EnvelopeSettings
from kafka_gateway.transports.websocket.incoming_frames import FrameRules, IncomingFrames
from kafka_gateway.transports.websocket.socket import Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from tests.keys import BUILTIN_KEYS
from tests.services.fake_kafka import FakeKafka

SOCKETS = 100
RECORDS = 25
WHAT = f"{RECORDS} records to {SOCKETS} push subscriptions of groups"

_TOPIC = "orders"
_TYPE = "application/vnd.kafka.binary.v1+json"
_PATIENCE_S = 60.0
"""So long that no timer runs out while instructions are counted, which takes its time."""
_PING, _PONG = 0x89, 0x8A


class _Client:
    """librdkafka's, of the fetcher."""

    failure = None
    stopped: Mapping[Any, Any] = {}

    def __init__(self) -> None:
        self.found: list[Message] = []

    def tend(self, now: float) -> None:
        pass

    def poll(self, most: int, wait_s: float) -> list[Message]:
        found, self.found = self.found, []
        return found


class _Fetchers:
    """The one fetcher, and what brings records to it."""

    def __init__(self) -> None:
        self.client = _Client()
        self.fetcher = SharedFetcher(_TOPIC)
        self.fetcher._client = cast(Any, self.client)
        self.fetcher.next[0] = 0

    def want_fetcher(self, key: Any, by: int = 1) -> None:
        pass

    def fetcher_for(self, key: Any) -> SharedFetcher:
        return self.fetcher

    def wake(self) -> None:
        pass

    def bring(self) -> None:
        """A record."""
        self.client.found = [Message(topic=_TOPIC, partition=0, offset=self.fetcher.next[0], value=b"x" * 100)]
        self.fetcher.poll(time.monotonic())


class _Worker:
    """The thread of a consumer at the end of the topic, which never has records by itself."""

    held_bytes = 0

    def __init__(self, fetcher: SharedFetcher) -> None:
        self.fed = SimpleNamespace(
            begin=lambda: {(_TOPIC, 0): fetcher.next[0]},
            cancel=lambda: None,
            end=lambda *_: None,
            ended=lambda: None,
            moves=deque(maxlen=1),
        )
        self.standing = SimpleNamespace()

    def ask(self, question: Callable[[], Any]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(question())
        return answer

    def post(self, order: Callable[[], Any]) -> None:
        order()

    def subscribe(self, topics: Any) -> None:
        pass

    def read(self, limits: Any, encoder: Any) -> Read:
        read = Read(limits, encoder, asyncio.get_running_loop().create_future())
        read.batch.encode(encoder)
        read.future.set_result(None)
        return read

    def settle(self, read: Any, accepted: bool) -> None:
        pass

    def close(self, within_s: float, leave: bool = True) -> asyncio.Future[Any]:
        return self.ask(lambda: None)


class _Kafka(FakeKafka):
    def __init__(self) -> None:
        super().__init__(**{_TOPIC: 1})
        self.fetchers = _Fetchers()

    async def consumer(self, settings: Any, rebalanced: Any = None) -> Any:
        worker: Any = _Worker(self.fetchers.fetcher)
        clients: Any = SimpleNamespace(check_process=lambda: None, embedded_bootstrap="")
        pushes = PushReads(worker, self.fetchers, "")
        return KafkaConsumer(clients, worker, Crowd(), lambda _: None, "instance", pushes=pushes)


class _Parser:
    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        raise AssertionError("pongs need no parser")


class _Connection:
    """Transport and protocol of a client that reads everything at once, and answers pings."""

    writing_paused = False
    transport = True

    def __init__(self) -> None:
        self.messages = self.pongs = 0
        self.message = b""
        self.frames: IncomingFrames | None = None

    def write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            length = data[at + 1]
            at += 2
            if length == 126:
                length = int.from_bytes(data[at : at + 2], "big")
                at += 2
            payload = data[at : at + length]
            if data[at - (2 if length < 126 else 4)] == _PING:
                asyncio.get_running_loop().call_soon(self._answer, bytes((_PONG, 0x80 | length)) + bytes(4) + payload)
            else:
                self.messages += 1
                self.message = payload
            at += length

    def _answer(self, pong: bytes) -> None:
        assert self.frames is not None
        self.frames.feed_data(pong)
        self.pongs += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


@asynccontextmanager
async def to_push_subscriptions() -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The operation; all subscriptions are at the end of the topic."""
    config = load(BUILTIN_KEYS)
    kafka = _Kafka()
    codecs = {codec.name: codec for codec in builtin.gateway_codecs(config)}
    services = RestServices(config, kafka, codecs, Catalogue(config, codecs))
    gateway = Gateway(config, Router(services.routes()), codecs, NoAuthentication())
    connections = [await _subscribed(gateway, number) for number in range(SOCKETS)]
    members = kafka.fetchers.fetcher.members

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # it waits for nothing but the loop
                await asyncio.sleep(0)

    async def run() -> None:
        for _ in range(RECORDS):
            wanted = [(each.messages + 1, each.pongs + 1) for each in connections]
            kafka.fetchers.bring()
            await until(lambda wanted=wanted: [(each.messages, each.pongs) for each in connections] == wanted)

    await until(lambda: len(members) == SOCKETS)
    yield run
    for session in list(gateway.sessions):
        await gateway.close_session(session)
    await services.registry.close_all()


async def _subscribed(gateway: Gateway, number: int) -> _Connection:
    connection = _Connection()
    session = await gateway.open_session("websocket", {})
    frames = connection.frames = IncomingFrames(connection, _Parser(), None, FrameRules(MemoryBudget(1 << 20)))
    response = SimpleNamespace(
        take_queue=lambda: None,
        watch_pongs=lambda pong: setattr(frames, "pong", pong),
        fresh_compressor=False,
        compress=0,
    )
    limits = SocketLimits(write_timeout_s=_PATIENCE_S, ping_s=_PATIENCE_S)
    request = SimpleNamespace(transport=connection, protocol=connection)
    socket = Socket(cast(Any, request), cast(Any, response), limits, gateway.memory, "websocket")
    conversation = EnvelopeSession(
        EnvelopeSettings.of(gateway.config), socket, session, gateway, {}, "http://gateway.example"
    )
    path = f"/consumers/g{number}"
    make = {"id": "i", "method": "POST", "path": path, "type": _TYPE}
    asked = {"id": "s", "path": f"/ws{path}/instances/c/topics/{_TOPIC}", "accept": _TYPE}
    for message in (json.dumps(make) + '{"name":"c","format":"binary"}', json.dumps(asked)):
        before = connection.messages
        conversation.take(message.encode())
        async with asyncio.timeout(_PATIENCE_S):
            while connection.messages == before:  # noqa: ASYNC110  # it waits for nothing but the loop
                await asyncio.sleep(0)
        assert connection.message.startswith(b'{"code":200,'), connection.message
    return connection
