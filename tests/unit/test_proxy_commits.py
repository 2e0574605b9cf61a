"""Commits of clients on ``/socket/out`` wait for the rate limit that everybody shares; automatic ones follow records
that have left."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import WSMsgType

from kafka_gateway.errors import CloseReason
from kafka_gateway.limits import Meter, TokenBucket
from kafka_gateway.memory_budget import MemoryBudget
from kafka_gateway.records import RecordBatch
from kafka_gateway.transports.websocket.socket import Socket
from kafka_gateway.transports.websocket.socket_limits import SocketLimits
from kafka_gateway.transports.websocket_proxy.sockets import ConsumeConversation


class Recorder:
    """Stands in for the socket and for what is behind it."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.held = False
        self.released = asyncio.Event()

    def commit(self, place: Any) -> None:
        self.commits.append(place.offset)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        self.released.set()


def commit_of(offset: int) -> bytes:
    return json.dumps({"wsProxyMessageId": f"topic-0-{offset}-0"}).encode()


def conversation(recorder: Recorder, meter: Meter | None) -> ConsumeConversation:
    return ConsumeConversation(cast(Any, recorder), cast(Any, recorder), cast(Any, None), False, False, meter)


async def test_they_wait_in_order_and_nothing_is_read_meanwhile() -> None:
    recorder = Recorder()
    commits = conversation(recorder, Meter(TokenBucket(20.0), 1))
    begun = asyncio.get_running_loop().time()
    for offset in range(30):
        commits.take(commit_of(offset), True)
    assert recorder.commits == list(range(20))
    assert recorder.held
    recorder.released.clear()
    await recorder.released.wait()
    assert recorder.commits == list(range(30))
    assert asyncio.get_running_loop().time() - begun >= 0.4
    assert not recorder.held


async def test_what_was_read_is_committed_when_the_socket_ends() -> None:
    recorder = Recorder()
    commits = conversation(recorder, Meter(TokenBucket(2.0), 1))
    for offset in range(5):
        commits.take(commit_of(offset), True)
    commits.stop()
    assert recorder.commits == list(range(5))


async def test_without_a_limit_none_waits() -> None:
    recorder = Recorder()
    commits = conversation(recorder, None)
    for offset in range(1000):
        commits.take(commit_of(offset), True)
    assert len(recorder.commits) == 1000


async def test_requests_find_permits_while_commits_wait() -> None:
    recorder, bucket = Recorder(), TokenBucket(100.0)
    commits = conversation(recorder, Meter(bucket, 1))
    for offset in range(140):
        commits.take(commit_of(offset), True)
    served = 0
    while len(recorder.commits) < 140:
        await asyncio.sleep(0.01)  # time itself: permits come with it
        if bucket.wait_s(1):
            bucket.give_back(1)
        else:
            served += 1
    assert served >= 10


class Client:
    """Transport, protocol and queue of a socket whose client takes no more than its system, if that is full."""

    half_close: Any = None
    half_closed = writing_paused = False

    def __init__(self) -> None:
        self.transport = self
        self.written: list[bytes] = []
        self.wrote = asyncio.Event()
        self.waiting_bytes = 0
        self.closing = False
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        self.read = self._messages.get

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.wrote.set()

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def is_closing(self) -> bool:
        return self.closing

    def feed_data(self, message: Any, size: int) -> None:
        self._messages.put_nowait(message)

    def feed_eof(self) -> None: ...


class Sent:
    """Stands in for what is behind the socket."""

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []

    def written(self, batch: RecordBatch) -> None:
        self.batches.append(batch)


def frames_of(records: Any) -> bytes:
    return b"".join(records)


def records_to(client: Client) -> tuple[Socket, ConsumeConversation, Sent]:
    request = SimpleNamespace(transport=client, protocol=client)
    response = SimpleNamespace(
        take_queue=lambda: client, watch_pongs=lambda _: None, fresh_compressor=False, compress=0
    )
    socket = Socket(cast(Any, request), cast(Any, response), SocketLimits(), MemoryBudget(1 << 20), "websocket_proxy")
    sent = Sent()
    return socket, ConsumeConversation(socket, cast(Any, sent), frames_of, True, False, None), sent


def batch_of(*frames: bytes) -> RecordBatch:
    return RecordBatch(cast(Any, frames), 0)


async def test_records_count_as_sent_in_their_order_once_they_have_left() -> None:
    client = Client()
    _, conversation, sent = records_to(client)
    first, second, third, fourth = (batch_of(each) for each in (b"1", b"22", b"3", b"4"))
    assert conversation.records(first)
    client.waiting_bytes = 2
    assert not conversation.records(second)
    assert sent.batches == []
    client.waiting_bytes = 1
    assert not conversation.records(third)
    assert sent.batches == [second]
    client.waiting_bytes = 0
    assert not conversation.records(fourth)
    assert sent.batches == [second, third, fourth]
    assert client.written == [b"1", b"22", b"3", b"4"]
    conversation.stop()


async def test_records_behind_the_close_frame_or_for_a_lost_connection_do_not_count_as_sent() -> None:
    client = Client()
    socket, conversation, sent = records_to(client)
    running = asyncio.create_task(socket.run(conversation.take))
    socket.close(CloseReason(1001, ""))
    await client.wrote.wait()
    (close,) = client.written
    assert not conversation.records(batch_of(b"1"))
    assert (client.written, sent.batches) == ([close], [])
    client.feed_data((WSMsgType.CLOSE, 1001, ""), 0)
    await running
    conversation.stop()

    client = Client()
    _, conversation, sent = records_to(client)
    client.closing = True
    assert not conversation.records(batch_of(b"1"))
    assert (client.written, sent.batches) == ([], [])
    conversation.stop()
