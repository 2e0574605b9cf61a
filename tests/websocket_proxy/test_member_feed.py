"""Many groups on one topic share what is read; each gets every record once, in order (websocket-proxy.md §3.4)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.gateway_process import GatewayProcess
from tests.waiting import until
from tests.websocket_proxy.conftest import Log, Peer, Sockets

NewTopic = Callable[..., str]
Unique = Callable[..., str]

RECORDS = 3000
"""For each of two partitions, at 2 kB."""


class Follower:
    """Notes what one peer hears, and may stop listening for a while. ``commits``: says so to the gateway."""

    def __init__(self, peer: Peer, commits: bool = False) -> None:
        self.peer = peer
        self.commits = commits
        self.heard: dict[int, list[int]] = defaultdict(list)
        self.deaf_until = 0.0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for record in await self.peer.hear(within_s=60):
                self.heard[record["partition"]].append(record["offset"])
                if self.commits:
                    await self.peer.say({"wsProxyMessageId": record["wsProxyMessageId"]})
            if self.deaf_until > loop.time():
                await asyncio.sleep(self.deaf_until - loop.time())  # time itself: it reads nothing for so long

    @property
    def count(self) -> int:
        return sum(len(offsets) for offsets in self.heard.values())


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_group_gets_every_record_once(
    proxy: GatewayProcess, sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic = new_topic(partitions=2)
    followers = [Follower(await sockets.consumer(topic, f"c{number}", groupId=unique("g"))) for number in range(6)]
    manual_peer = await sockets.consumer(topic, "manual", groupId=unique("g"), autoCommit="false", batchSize=7)
    manual = Follower(manual_peer, True)
    limited = Follower(await sockets.consumer(topic, "limited", groupId=unique("g"), rate=100))
    shared = unique("g")
    sharing = [Follower(await sockets.consumer(topic, "first", groupId=shared, autoCommit="false"), True)]
    loop = asyncio.get_running_loop()

    async def produce() -> None:
        value = b"x" * 2000
        for number in range(RECORDS // 10):
            for partition in range(2):
                await asyncio.to_thread(log.append, topic, *[value] * 10, partition=partition)
            if number == 50:  # in the middle of it: two stop reading, one comes, a group is rebalanced
                followers[0].deaf_until = loop.time() + 2.5
                followers[1].deaf_until = loop.time() + 0.4
                followers.append(Follower(await sockets.consumer(topic, "late", groupId=unique("g"))))
                second = await sockets.consumer(topic, "second", groupId=shared, autoCommit="false")
                sharing.append(Follower(second, True))
            if number == 200:
                sharing[1].task.cancel()
                await sharing[1].peer.socket.close()

    await produce()
    exact = [*followers, manual]
    await until(lambda: all(each.count >= 2 * RECORDS or each.task.done() for each in exact))
    for each in exact:
        assert each.heard == {0: list(range(RECORDS)), 1: list(range(RECORDS))}
    for offsets in limited.heard.values():
        assert offsets == list(range(len(offsets)))
    # After a rebalance records may come again, to either of the two, but none is left out.
    together: dict[int, set[int]] = {0: set(), 1: set()}

    def all_heard() -> bool:
        for each in sharing:
            for partition, offsets in each.heard.items():
                together[partition].update(offsets)
        return all(len(offsets) >= RECORDS for offsets in together.values())

    with contextlib.suppress(TimeoutError):
        await until(all_heard)
    assert {partition: sorted(set(range(RECORDS)) - offsets) for partition, offsets in together.items()} == {
        0: [],
        1: [],
    }
    for each in [*exact, *sharing, limited]:
        each.task.cancel()
    assert proxy.process.poll() is None
