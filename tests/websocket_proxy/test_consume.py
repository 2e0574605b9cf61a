"""``/socket/out`` on a real Kafka: the checklist of websocket-proxy.md §8, rows 5 to 7, 33 and 41 to 46."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from tests.waiting import PATIENCE_S
from tests.websocket_proxy.conftest import Log, Peer, Refused, Sockets

NewTopic = Callable[..., str]
Unique = Callable[..., str]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"topic": "t"}, "Request param 'clientId' is missing."),
        ({"isolationLevel": "uncommitted"},
         "Read isolation 'uncommitted' is not a valid value. "
         "Please use one of 'read_committed' or 'read_uncommitted'."),
        ({"offsetResetStrategy": "middle"}, "middle is not a valid offset reset strategy"),
        ({"rate": "1.5"}, "'1.5' is not a valid 32-bit signed integer value"),
        ({"batchSize": "99999999999"}, "'99999999999' is not a valid 32-bit signed integer value"),
        ({"autoCommit": "2"}, "'2' is not a valid Boolean value"),
        ({"keyType": ""}, "'' is not a valid format type"),
        ({}, "Topic t-missing does not exist"),
    ],
)  # fmt: skip
async def test_refusals(sockets: Sockets, query: dict[str, str], text: str) -> None:
    given = query if "topic" in query else {"clientId": "c", "topic": "t-missing", **query}
    with pytest.raises(Refused) as refused:
        await sockets.open("/socket/out", **given)
    assert refused.value.status == 400
    assert refused.value.body == json.dumps({"message": text}, indent=2, separators=(",", " : "))


async def test_everything_that_can_be_asked_for(sockets: Sockets, new_topic: NewTopic) -> None:
    await sockets.consumer(
        new_topic(), offsetResetStrategy="latest", isolationLevel="read_uncommitted", rate=10, batchSize=10,
        autoCommit="false",
    )  # fmt: skip


async def test_records_in_order_with_their_ids(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    for number in range(10):
        log.append(topic, b"bar-%d" % number, key=b"foo-%d" % number)
    peer = await sockets.consumer(topic, keyType="string", valType="string", batchSize=3)
    records = await peer.hear(10)
    for number, record in enumerate(records):
        assert list(record) == [
            "wsProxyMessageId", "topic", "partition", "offset", "timestamp", "headers", "key", "value"
        ]  # fmt: skip
        assert record["wsProxyMessageId"] == f"{topic}-0-{number}-{record['timestamp']}"
        assert record["headers"] is None
        assert record["key"] == {"value": f"foo-{number}", "format": "string"}
        assert record["value"] == {"value": f"bar-{number}", "format": "string"}


async def test_reconnects_without_a_commit_get_the_same_record_again(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, group = new_topic(), unique("group")
    log.append(topic, b"one")
    seen = set()
    for _ in range(10):
        peer = await sockets.consumer(topic, groupId=group, autoCommit="false")
        seen.add((await peer.hear())[0]["wsProxyMessageId"])
        await peer.socket.close()
    assert len(seen) == 1
    assert log.committed(group, topic) < 0


async def test_commits(sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique) -> None:
    topic, group = new_topic(partitions=2), unique("group")
    for number in range(4):
        log.append(topic, b"%d" % number, partition=0)
        log.append(topic, b"%d" % number, partition=1)
    peer = await sockets.consumer(topic, groupId=group, autoCommit="false")
    ids = {(each["partition"], each["offset"]): each["wsProxyMessageId"] for each in await peer.hear(8)}
    await peer.say("", "{not json", "[]", "{}", {"wsProxyMessageId": 5}, {"wsProxyMessageId": f"{topic}-0-0-1"})
    await peer.socket.send_bytes(b"\0\xff")
    await peer.say({"wsProxyMessageId": ids[0, 1]})
    await log.committed_becomes(group, topic, 2)
    assert log.committed(group, topic, 1) < 0
    await peer.say({"wsProxyMessageId": ids[0, 0]}, {"wsProxyMessageId": ids[1, 3]})
    await log.committed_becomes(group, topic, 4, partition=1)
    assert log.committed(group, topic) == 2


async def test_a_burst_of_commits_ends_at_the_last(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, group = new_topic(), unique("group")
    log.append(topic, *(b"%d" % number for number in range(90)))
    peer = await sockets.consumer(topic, groupId=group, autoCommit="false")
    for record in await peer.hear(90):
        await peer.say({"wsProxyMessageId": record["wsProxyMessageId"]})
    await peer.socket.close()
    await log.committed_becomes(group, topic, 90)


async def test_automatic_commits_follow_what_was_sent(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, group = new_topic(), unique("group")
    log.append(topic, b"1", b"2")
    peer = await sockets.consumer(topic, groupId=group)
    await peer.hear(2)
    await log.committed_becomes(group, topic, 2)
    await peer.say("anything", {"wsProxyMessageId": "t-0-0-1"})
    log.append(topic, b"3")
    assert (await peer.hear())[0]["offset"] == 2
    await peer.socket.close()
    again = await sockets.consumer(topic, groupId=group)
    log.append(topic, b"4")
    assert (await again.hear())[0]["offset"] in (2, 3)


async def test_two_members_share_the_partitions(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, group = new_topic(partitions=2), unique("group")
    one = await sockets.consumer(topic, "one", groupId=group)
    two = await sockets.consumer(topic, "two", groupId=group)
    seen: dict[Peer, set[int]] = {one: set(), two: set()}

    async def follow(peer: Peer) -> None:
        while True:
            seen[peer].add((await peer.hear(within_s=PATIENCE_S))[0]["partition"])

    tasks = [asyncio.create_task(follow(peer)) for peer in seen]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not all(seen.values()):
                await asyncio.to_thread(log.append, topic, b"v", partition=0)
                await asyncio.to_thread(log.append, topic, b"v", partition=1)
                await asyncio.sleep(0.1)  # time itself: some ten a second are enough
    finally:
        for task in tasks:
            task.cancel()


async def test_one_client_id_in_two_groups(sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique) -> None:
    topic = new_topic()
    log.append(topic, b"1")
    peers = [await sockets.consumer(topic, "é /x", groupId=unique("g"), autoCommit="false") for _ in range(2)]
    for peer in peers:
        assert (await peer.hear())[0]["offset"] == 0


async def test_where_reading_begins(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    log.append(topic, b"old")
    earliest = await sockets.consumer(topic, "earliest")
    none = await sockets.consumer(topic, "none", offsetResetStrategy="none")
    latest = await sockets.consumer(topic, "latest", offsetResetStrategy="LATEST")
    assert (await earliest.hear())[0]["offset"] == 0
    assert await none.end() == 1011
    async with asyncio.timeout(PATIENCE_S):
        hearing = asyncio.create_task(latest.hear())
        while not hearing.done():
            await asyncio.to_thread(log.append, topic, b"new")
            await asyncio.sleep(0.1)  # time itself: some ten a second are enough
    assert hearing.result()[0]["offset"] > 0


async def test_a_record_that_does_not_fit_is_met_again(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    topic, group = new_topic(), unique("group")
    log.append(topic, b"\0\0\0\1", b"\0\0\0\2", b"abc", b"\0\0\0\3")
    peer = await sockets.consumer(topic, groupId=group, valType="int")
    assert [each["value"]["value"] for each in await peer.hear(2)] == [1, 2]
    assert await peer.end() == 1011
    await log.committed_becomes(group, topic, 2)
    again = await sockets.consumer(topic, groupId=group, valType="int")
    assert await again.end() == 1011


async def test_tombstones_and_keys_without_a_type(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    log._producer.produce(topic, None, b"k")
    log.append(topic, b"v", key=b"")
    peer = await sockets.consumer(topic)
    tombstone, empty = await peer.hear(2)
    assert tombstone["value"] == {"value": None, "format": "string"}
    assert tombstone["key"] == empty["key"] == {"value": {}, "format": None}


@pytest.mark.timing
async def test_two_records_a_second(sockets: Sockets, new_topic: NewTopic, log: Log) -> None:
    topic = new_topic()
    log.append(topic, *(b"%d" % number for number in range(4)))
    peer = await sockets.consumer(topic, rate=2)
    await peer.hear()
    began = time.monotonic()
    await peer.hear(3)
    assert 1.2 < time.monotonic() - began < 3


async def test_aborted_records_are_seen_unless_one_asks_not_to(
    sockets: Sockets, new_topic: NewTopic, log: Log, kafka: object, unique: Unique
) -> None:
    from confluent_kafka import Producer

    topic = new_topic()
    producer = Producer({"bootstrap.servers": log._bootstrap, "transactional.id": unique("tx")})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    producer.flush(10)
    producer.abort_transaction(20)
    log.append(topic, b"plain")
    everything = await sockets.consumer(topic, "all")
    committed = await sockets.consumer(topic, "some", isolationLevel="READ_COMMITTED")
    assert [each["value"]["value"] for each in await everything.hear(2)] == ["aborted", "plain"]
    assert [each["value"]["value"] for each in await committed.hear(1)] == ["plain"]


async def test_a_deleted_topic_leaves_the_socket_silent_and_is_not_made_again(
    sockets: Sockets, new_topic: NewTopic, log: Log
) -> None:
    from confluent_kafka.admin import AdminClient

    topic = new_topic()
    log.append(topic, b"1")
    peer = await sockets.consumer(topic)
    await peer.hear()
    admin = AdminClient({"bootstrap.servers": log._bootstrap})
    admin.delete_topics([topic])[topic].result(20)
    await peer.silence(2)
    with pytest.raises(Refused, match=f"Topic {topic} does not exist"):
        await sockets.consumer(topic, "other")


async def test_a_client_that_lags_can_commit_all_that_it_was_sent(
    sockets: Sockets, new_topic: NewTopic, log: Log, unique: Unique
) -> None:
    """The oldest ids were forgotten while the gateway sent on, so that none of them was ever committed."""
    topic, group = new_topic(), unique("group")
    log.append(topic, *(b"%d" % number for number in range(250)))
    peer = await sockets.consumer(topic, groupId=group, autoCommit="false")
    first = await peer.hear(100)
    await peer.silence(1)  # sending waits for the client
    for record in first[:40]:
        await peer.say({"wsProxyMessageId": record["wsProxyMessageId"]})
    await log.committed_becomes(group, topic, 40)
    waiting = first[40:]
    while waiting:
        record = waiting.pop(0)
        await peer.say({"wsProxyMessageId": record["wsProxyMessageId"]})
        if len(waiting) == 50 and record["offset"] < 200:
            waiting += await peer.hear(min(50, 249 - waiting[-1]["offset"]))
    await log.committed_becomes(group, topic, 250)


async def test_a_topic_that_was_made_again_is_read_from_its_beginning(
    sockets: Sockets, new_topic: NewTopic, log: Log
) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = new_topic()
    log.append(topic, *(b"old" for _ in range(200)))
    peer = await sockets.consumer(topic)
    await peer.hear(200)
    await peer.silence(1.5)  # until the gateway has looked at the topic
    admin = AdminClient({"bootstrap.servers": log._bootstrap})
    admin.delete_topics([topic])[topic].result(20)
    while topic in admin.list_topics(timeout=5).topics:
        pass
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    await asyncio.to_thread(Log(log._bootstrap).append, topic, *(b"new" for _ in range(300)))
    offsets: set[int] = set()
    while len(offsets) < 300:
        (record,) = await peer.hear(within_s=PATIENCE_S)
        if record["value"]["value"] == "new":
            offsets.add(record["offset"])
    assert offsets == set(range(300))
