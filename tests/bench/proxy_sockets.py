"""Records to proxy sockets of a hundred groups: from the poll of the one fetcher to a write for each, with the rounds
of polls and the commits that belong to it.

librdkafka, Kafka and the connections are simulated, and so is time: what is counted is the same in every run.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from kafka_gateway.config import load
from kafka_gateway.kafka.cluster import KafkaCluster
from kafka_gateway.kafka.ports.consuming import ConsumerSettings
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.services.websocket_proxy.consume import AUTO_COMMIT_S, Follower
from kafka_gateway.services.websocket_proxy.ports import FollowerRequest
from kafka_gateway.services.websocket_proxy.produce import Sender
from kafka_gateway.services.websocket_proxy.sessions import ProxySettings
from kafka_gateway.transports.websocket.socket import Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from kafka_gateway.transports.websocket_proxy.formats import FORMATS
from kafka_gateway.transports.websocket_proxy.messages import produce_decoder, record_encoder, result_frame
from kafka_gateway.transports.websocket_proxy.sockets import ConsumeConversation, Messages, ProduceConversation
from tests.kafka.simulated_consumer import SimulatedClients, SimulatedKafka
from tests.keys import BUILTIN_KEYS
from tests.open_sessions import UncountedLease

SOCKETS = 100
RECORDS = 50
"""Of one operation: half a second, in which each member commits once."""
APART_S = 0.01
WHAT = f"{RECORDS} records to {SOCKETS} proxy sockets of groups"
FEW, FEW_APART_S = 4, 0.25
WHAT_OF_FEW = f"{FEW} records in a second to {SOCKETS} proxy sockets of groups"
"""Mostly what is done while nothing comes."""

_TOPIC = "orders"
_READY_S = 2.0
"""After this time each has had its first record, and the fetcher brings the next."""


class SimulatedTime:
    """A clock and a loop in one: time passes when it is told to, and what has been planned is done then."""

    def __init__(self) -> None:
        self.now = time.monotonic()  # what is made outside of `passing` reads the real clock
        self._planned: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, arguments, self._loop)
        heapq.heappush(self._planned, (when, next(self._numbers), handle))
        return handle

    def call_later(self, delay_s: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay_s, call, *arguments)

    def call_soon(self, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        return self.call_at(self.now, call, *arguments)

    def create_task(self, work: Any) -> asyncio.Task[Any]:
        return self._loop.create_task(work)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Whoever asks for the time, or for the loop, gets this one."""
        with (
            patch.object(time, "monotonic", self.time),
            patch.object(asyncio, "get_running_loop", lambda: self),
        ):
            yield

    def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while self._planned and self._planned[0][0] <= until:
            when, _, handle = heapq.heappop(self._planned)
            self.now = max(self.now, when)
            if not handle.cancelled():
                handle._run()
        self.now = until


class _Connection:
    """Transport and protocol of a client that reads everything at once."""

    writing_paused = False

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class _Stored:
    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 5

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


class _Producer:
    """Confirms what it is sent, in the next turn of the event loop."""

    def ready(self, topic: str, rights: object) -> None:
        return None

    def send(self, topic: str, records: Sequence[object]) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[list[Any]] = loop.create_future()
        loop.call_soon(sent.set_result, [_Stored() for _ in records])
        return sent


MESSAGES = 16
WHAT_IS_PRODUCED = f"{MESSAGES} messages of a produce socket, of one turn"


def produce_socket() -> Callable[[], Awaitable[None]]:
    """The operation: from messages that were read to the write of their results."""
    written: list[bytes] = []
    kafka: Any = SimpleNamespace(producer=_Producer())
    call: Any = SimpleNamespace(session=SimpleNamespace(rights=None))
    socket: Any = SimpleNamespace(send_frames=written.append, hold=_nothing, release=_nothing)
    gateway: Any = SimpleNamespace(is_full=False, begin_work=_nothing, end_work=_nothing)
    conversation = ProduceConversation(
        socket,
        Sender(kafka, _TOPIC, cast(Any, UncountedLease()), call),
        Messages(produce_decoder(None, FORMATS["string"]), partial(result_frame, b'"orders"'), False),
        MemoryBudget(1 << 20).claim(),
        gateway,
        None,
    )
    message = b'{"messageId":"12","value":{"value":"%b","format":"string"}}' % (b"x" * 100)

    async def run() -> None:
        written.clear()
        for _ in range(MESSAGES):
            conversation.take(message, True)
        async with asyncio.timeout(10):
            while not written:  # noqa: ASYNC110  # it waits for nothing but the loop
                await asyncio.sleep(0)
        assert len(written) == 1

    return run


def _nothing() -> None:
    pass


@asynccontextmanager
async def to_proxy_sockets() -> AsyncIterator[Callable[[int, float], None]]:
    """The operation; counted when the sockets are at the end of the topic."""
    clock, kafka = SimulatedTime(), SimulatedKafka()
    kafka.make(_TOPIC, 1)
    clients = SimulatedClients(kafka)
    config = load(BUILTIN_KEYS)
    with clock.passing():
        cluster = KafkaCluster(config, cast(Any, clients), embedded=True)
        connections = [await _socket(cluster) for _ in range(SOCKETS)]

    def records(count: int, apart_s: float) -> None:
        for _ in range(count):
            kafka.logs[_TOPIC, 0] += 1
            clock.pass_by(apart_s)

    def run(count: int, apart_s: float) -> None:
        before = [each.writes for each in connections]
        with clock.passing():
            records(count, apart_s)
        assert [each.writes for each in connections] == [each + count for each in before]

    for consumer in clients.made:
        consumer.rebalance({(_TOPIC, 0)})
    with clock.passing():
        records(1, APART_S)
        clock.pass_by(_READY_S)
    fetcher = await _fetcher(cluster)
    with clock.passing():
        records(1, APART_S)
        clock.pass_by(_READY_S)
        assert len(fetcher.members) == SOCKETS
    yield run
    with clock.passing():
        await cluster.members.aclose(_READY_S)


async def _fetcher(cluster: KafkaCluster) -> Any:
    for task in list(cluster.members._fetchers_building.values()):
        await task
    (fetcher,) = cluster.members._fetchers.values()
    return fetcher


async def _socket(cluster: KafkaCluster) -> _Connection:
    encoder = record_encoder(_TOPIC, None, FORMATS["string"])
    follower = Follower(FollowerRequest("client", "group", _TOPIC, encoder), UncountedLease(), ProxySettings())
    settings = ConsumerSettings("group", "client", auto_offset_reset="earliest", auto_commit=True, kind="socket")
    follower.member = await cluster.member(settings, _TOPIC, follower, encoder, commit_interval_s=AUTO_COMMIT_S)
    connection = _Connection()
    request = SimpleNamespace(transport=connection, protocol=connection)
    response = SimpleNamespace(take_queue=lambda: None, watch_pongs=lambda _: None, fresh_compressor=False, compress=0)
    socket = Socket(cast(Any, request), cast(Any, response), SocketLimits(), MemoryBudget(1 << 30), "websocket_proxy")
    follower.start(ConsumeConversation(socket, follower, encoder, True, False, None))
    return connection
