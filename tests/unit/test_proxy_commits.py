"""Commits of clients on ``/socket/out`` wait for the rate limit that everybody shares."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from kafka_gateway.limits import Meter, TokenBucket
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
