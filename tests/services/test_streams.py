"""Record streams as a service: what is asked of Kafka, what is sent, and what is committed (streams.md)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kafka_gateway.errors import ShuttingDown, UnknownTopicOrPartition
from kafka_gateway.kafka.ports.tails import TailStart
from kafka_gateway.kafka.ports.topics import TopicPartition
from kafka_gateway.kafka_errors import KafkaRetriable
from kafka_gateway.messages import Request
from kafka_gateway.records import OutgoingRecord
from kafka_gateway.services.streams.token import read_token
from kafka_gateway.session import Session
from kafka_gateway.stream import Acknowledged, Feed, Payload
from tests.services.conftest import V1, V2, Rest, Start
from tests.services.fake_kafka import FakeConsumer, FakeKafka
from tests.waiting import PATIENCE_S

EVENTS = "text/event-stream"
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Client:
    """Somebody who takes events. ``written`` ones count as sent when the next is asked for."""

    def __init__(self, rest: Rest, session: Session | None = None) -> None:
        self.rest, self.session = rest, session or Session("test")
        self.stream: Any = None

    async def open(self, path: str, accept: str = EVENTS, plain_http: bool = False, **headers: str) -> Client:
        path, _, query = path.partition("?")
        parameters = dict(each.split("=", 1) for each in query.split("&") if each)
        asked = {"accept": accept} | {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await self.rest.gateway.dispatch(
            Request(self.session, "GET", path, parameters, asked, b"", one_reply=plain_http)
        )
        assert not isinstance(reply.body, bytes), reply
        self.stream = reply.body
        return self

    async def event(self) -> Payload:
        async with asyncio.timeout(PATIENCE_S):
            event = await anext(self.stream)
        assert isinstance(event, Payload)
        return event

    async def named(self, name: str) -> Any:
        """The next event, which has this name."""
        event = await self.event()
        assert event.name == name, event
        return json.loads(event.data)

    async def rows(self) -> list[Any]:
        event = await self.event()
        assert event.name == "record", event
        return [json.loads(line) for line in event.data.splitlines()]

    async def values(self) -> list[Any]:
        return [row["value"] for row in await self.rows()]

    async def over(self) -> None:
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(self.stream), 10)

    async def leave(self) -> None:
        await self.stream.aclose()


@pytest.fixture
def client(rest: Rest) -> Client:
    return Client(rest)


def positions(*offsets: int, topic: str = "t") -> dict[str, Any]:
    return {"positions": [{"topic": topic, "partition": n, "offset": at} for n, at in enumerate(offsets)]}


# --- what is asked of Kafka -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", TailStart("latest")),
        ("offset=latest", TailStart("latest")),
        ("offset=earliest", TailStart("earliest")),
        ("offset=17", TailStart("offset", 17)),
        ("offset=0", TailStart("offset", 0)),
        ("offset=-5", TailStart("last", 5)),
        ("offset=-0", TailStart("last", 0)),
        ("since=1763700000123", TailStart("time", 1763700000123)),
        ("since=2025-11-21T04:40:00.123Z", TailStart("time", 1763700000123)),
        ("since=2025-11-21T05:40:00.123+01:00", TailStart("time", 1763700000123)),
        ("since=1969-12-31T23:59:59.999Z", TailStart("time", 0)),
        ("since=-1000", TailStart("time", 0)),
        ("since=0001-01-01T00:00:00Z", TailStart("time", 0)),
        ('last_event_id=[{"topic":"t","partition":0,"offset":3}]&offset=-5', TailStart("last", 5, {0: 3})),
        ('last_event_id=[{"topic":"t","partition":0,"offset":-1,"x":1}]', TailStart("latest")),
        ("last_event_id=[]", TailStart("latest")),
    ],
)
async def test_where_a_stream_starts(client: Client, fake: FakeKafka, query: str, expected: TailStart) -> None:
    await client.open(f"/topics/t/stream?{query}")
    assert [call for call in fake.calls if call[0] == "open_tail"] == [("open_tail", ("t", expected, None))]


async def test_only_chosen_partitions_are_read(client: Client, fake: FakeKafka) -> None:
    fake.put("t", b"0", partition=0)
    fake.put("t", b"1", partition=1)
    token = '[{"topic":"t","partition":0,"offset":9}]'  # of another choice
    await client.open(f"/topics/t/stream?partitions=1&offset=earliest&format=json&last_event_id={token}")
    assert fake.calls[-1] == ("open_tail", ("t", TailStart("earliest"), frozenset({1})))
    assert await client.named("ready") == {"positions": [{"topic": "t", "partition": 1, "offset": 0}]}
    assert await client.values() == [1]


async def test_a_topic_that_is_missing_closes_those_that_are_there(rest: Rest, fake: FakeKafka) -> None:
    answer = await rest.get("/topics/u,t,none/stream", accept=EVENTS)
    assert (answer.status, answer.code, answer.media_type) == (404, 40401, "application/json")
    assert fake.tails.open_tails == []
    assert len(rest.services.streams) == 0


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_the_token_is_the_whole_state_of_all_topics(client: Client, fake: FakeKafka) -> None:
    await client.open("/topics/u,t/stream?format=json")
    await client.named("ready")
    await client.named("end")
    fake.put("t", b"1", partition=1)
    event = await client.event()
    assert read_token(event.cursor) == {"u": {0: 0}, "t": {0: 0, 1: 1}}
    fake.put("u", b"2")
    assert read_token((await client.event()).cursor) == {"u": {0: 1}, "t": {0: 0, 1: 1}}


async def test_clients_in_step_get_the_very_same_event(rest: Rest, fake: FakeKafka) -> None:
    for path in ("/topics/t/stream", "/topics/u,t/stream"):
        clients = [await Client(rest).open(path) for _ in range(3)]
        for client in clients:
            await client.named("ready")
            await client.named("end")
        fake.put("t", b"x")
        events = [await client.event() for client in clients]
        assert events[0] is events[1] is events[2]
        for client in clients:
            await client.leave()


async def test_a_limit_cuts_a_batch(client: Client, fake: FakeKafka) -> None:
    fake.put("t", *[b"%d" % n for n in range(3)], partition=0)
    fake.put("t", *[b"%d" % n for n in range(10, 13)], partition=1)
    await client.open("/topics/t/stream?format=json&offset=earliest&limit=5")
    await client.named("ready")
    assert await client.values() == [0, 1, 2]
    event = await client.event()
    assert [json.loads(line)["value"] for line in event.data.splitlines()] == [10, 11]
    assert read_token(event.cursor) == {"t": {0: 3, 1: 2}}
    assert await client.named("end") == positions(3, 2)
    await client.over()
    assert fake.tails.open_tails == []


async def test_until_end_stops_where_the_topic_ended_at_the_start(client: Client, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    await client.open("/topics/t,u/stream?format=json&offset=earliest&until=end")
    fake.put("t", b"2")
    await client.named("ready")
    assert await client.values() == [1]
    assert read_token((await client.event()).cursor) == {"t": {0: 1, 1: 0}, "u": {0: 0}}
    await client.over()


async def test_formats_of_key_and_value(client: Client, fake: FakeKafka) -> None:
    for key, value in ((b"k", b"[1]"), (b"\xff", b"[1]"), (b"k", b"]"), (b"\xff", b"]"), (None, None)):
        fake.store("u", 0, OutgoingRecord(key, value))
    await client.open("/topics/u/stream?key_format=string&value_format=json&offset=earliest")
    await client.named("ready")
    rows = await client.rows()
    assert [(row["key"], row["value"]) for row in rows] == [
        ("k", [1]), (None, [1]), ("k", None), (None, None), (None, None),
    ]  # fmt: skip
    assert [row["error"]["message"][:17] if "error" in row else "" for row in rows] == [
        "", "The key is not st", "The value is not ", "The key is not st", "",
    ]  # fmt: skip
    assert all(row["error"]["error_code"] == 42208 for row in rows if "error" in row)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("application/vnd.kafka.json.v2+json, text/event-stream", {"a": 1}),
        ("text/event-stream", "eyJhIjoxfQ=="),
        ("application/vnd.kafka.nonsense.v2+json", "eyJhIjoxfQ=="),
        ("", "eyJhIjoxfQ=="),
    ],
)
async def test_accept_may_name_the_format(client: Client, fake: FakeKafka, accept: str, format: object) -> None:
    fake.put("u", b'{"a":1}')
    await client.open("/topics/u/stream?offset=earliest", accept=accept)
    await client.named("ready")
    assert await client.values() == [format]


async def test_a_feed_can_be_iterated_and_is_paused_for_who_does_not_ask(client: Client, fake: FakeKafka) -> None:
    await client.open("/topics/u/stream?format=string")
    assert isinstance(client.stream, Feed)
    await client.named("ready")
    tail = fake.tails.open_tails[0]
    while tail.is_reading:
        fake.put("u", b"x" * 10_000)
    total = len(fake.logs["u"][0])
    assert total * 10_000 < 512 * 1024
    await client.named("end")
    offsets: list[int] = []
    while len(offsets) < total:
        offsets += [row["offset"] for row in await client.rows()]
    assert offsets == list(range(total))
    assert tail.is_reading


async def test_a_session_that_closes_closes_its_streams(rest: Rest, fake: FakeKafka) -> None:
    client = await Client(rest).open("/topics/t/stream")
    assert len(rest.services.streams) == 1
    await rest.gateway.close_session(client.session)
    assert (fake.tails.open_tails, len(rest.services.streams)) == ([], 0)


async def test_no_stream_begins_when_the_gateway_stops(rest: Rest) -> None:
    rest.services.streams.drain()
    answer = await rest.get("/topics/t/stream", accept=EVENTS)
    assert (answer.status, answer.code) == (503, 50301)


# --- with a group -----------------------------------------------------------------------------------------------------


async def join(client: Client, query: str = "", **more: Any) -> FakeConsumer:
    fake = client.rest.kafka
    await client.open(f"/topics/t/stream?format=json&offset=earliest&group=g{query}", **more)
    return fake.consumers[-1]


def committed(fake: FakeKafka) -> dict[int, int]:
    return {partition: offset for (_, _, partition), (offset, _) in fake.committed.items()}


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_group_is_joined_and_left_with_the_stream(client: Client, fake: FakeKafka) -> None:
    consumer = await join(client)
    assert (consumer.settings.group, consumer.settings.auto_commit) == ("g", True)
    assert (consumer.settings.auto_offset_reset, consumer.subscribed) == ("earliest", ("t",))
    fake.put("t", b"1")
    consumer.rebalance(T0, T1)
    assert await client.named("ready") == positions(0, 0)
    assert await client.named("end") == positions(0, 0)
    event = await client.event()
    assert read_token(event.cursor) == {"t": {0: 1, 1: 0}}
    assert consumer.returned() == []  # it is being written
    waiting = asyncio.ensure_future(client.event())
    await settled()
    assert [each.offset for each in consumer.returned()] == [0]  # being asked for more is the proof
    waiting.cancel()
    await asyncio.wait({waiting})
    await client.leave()
    await client.rest.services.streams.close_all()
    assert consumer.closed


async def test_what_was_not_written_goes_to_the_next_member(client: Client, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    consumer = await join(client)
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [1]
    await client.leave()
    assert (consumer.returned(), consumer.assigned[T0]) == ([], 0)


async def test_ready_comes_again_after_a_rebalance(client: Client, fake: FakeKafka) -> None:
    consumer = await join(client)
    consumer.rebalance(T0)
    assert await client.named("ready") == positions(0)
    await client.named("end")
    consumer.rebalance(T0, T1)
    assert await client.named("ready") == positions(0, 0)
    fake.put("t", b"1", partition=1)
    assert await client.values() == [1]
    consumer.rebalance()
    assert await client.named("ready") == {"positions": []}


@pytest.mark.parametrize("query", ["", "&limit=100", "&ack=client"])
@pytest.mark.parametrize("told", ["taken away", "at once", "by the records"])
async def test_a_topic_that_was_made_again_is_a_gap(client: Client, fake: FakeKafka, query: str, told: str) -> None:
    """Fault: nothing was told, and what is behind the records of the old life came twice."""
    fake.put("t", b"1", b"2")
    consumer = await join(client, query)
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [1, 2]
    await client.named("end")
    waiting = asyncio.ensure_future(client.named("ready" if told == "taken away" else "gap"))
    await settled()
    if told == "taken away":
        consumer.rebalance()
        assert await waiting == {"positions": []}
        waiting = asyncio.ensure_future(client.named("gap"))
    fake.logs["t"][0].clear()
    if told == "by the records":
        consumer.assigned[T0] = 0
    else:
        consumer.rebalance(T0, anew=[T0])
    fake.put("t", b"3", b"4", b"5")
    assert await waiting == {"topic": "t", "partition": 0, "from": 2, "to": 0}
    if told != "by the records":
        assert await client.named("ready") == positions(0)
    assert await client.values() == [3, 4, 5]
    assert read_token(client.stream._cursor()) == {"t": {0: 3}}


async def test_until_end_with_a_group(client: Client, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    fake.put("t", b"2", partition=1)
    consumer = await join(client, "&until=end")
    consumer.rebalance(T0, T1)
    await client.named("ready")
    assert await client.values() == [1, 2]
    assert await client.named("end") == positions(1, 1)
    await client.over()


async def test_a_limit_commits_what_was_sent_and_no_more(client: Client, fake: FakeKafka) -> None:
    fake.put("t", *[b"%d" % n for n in range(5)])
    consumer = await join(client, "&limit=3")
    assert consumer.settings.auto_commit is False
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [0, 1, 2]
    assert await client.named("end") == positions(3)
    await client.over()
    await client.rest.services.streams.close_all()
    assert committed(fake) == {0: 3}


async def test_only_what_is_acknowledged_is_committed(client: Client, fake: FakeKafka) -> None:
    consumer = await join(client, "&ack=client")
    assert isinstance(client.stream, Acknowledged)
    fake.put("t", b"1", b"2", b"3")
    consumer.rebalance(T0, T1)
    await client.named("ready")
    await client.named("end")
    assert await client.values() == [1, 2, 3]
    fake.put("t", b"4", partition=1)
    assert await client.values() == [4]
    await settled()
    assert committed(fake) == {}
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":2}]}')
    await settled()
    assert committed(fake) == {0: 2}
    for nothing in (b"", b"x", b"[]", b'{"other":1}', b"\xff", b'{"ack":[]}'):
        client.stream.acknowledge(nothing)
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":1}]}')  # not back
    client.stream.acknowledge(b'{"ack":"[{\\"topic\\":\\"t\\",\\"partition\\":1,\\"offset\\":99}]"}')  # nor beyond
    client.stream.acknowledge(b'{"ack":[{"topic":"x","partition":0,"offset":1}]}')
    await settled()
    assert committed(fake) == {0: 2, 1: 1}
    await client.leave()
    await client.rest.services.streams.close_all()
    assert committed(fake) == {0: 2, 1: 1}


@pytest.mark.parametrize("bound", ["limit=3", "until=end"])
async def test_the_end_waits_for_the_last_acknowledgement(client: Client, fake: FakeKafka, bound: str) -> None:
    fake.put("t", b"1", b"2", b"3")
    consumer = await join(client, f"&ack=client&{bound}")
    consumer.rebalance(T0, T1)
    await client.named("ready")
    assert await client.values() == [1, 2, 3]
    await client.named("end")
    ending = asyncio.ensure_future(client.over())
    await settled()
    assert not ending.done()
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":3}]}')
    await ending
    await client.rest.services.streams.close_all()
    assert committed(fake) == {0: 3}


async def test_the_end_of_the_gateway_waits_a_moment_for_acknowledgements(client: Client, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    consumer = await join(client, "&ack=client&until=end")
    consumer.rebalance(T0, T1)
    await client.named("ready")
    assert await client.values() == [1]
    await client.named("end")
    client.rest.services.streams.drain()
    await client.over()


async def test_an_acknowledgement_that_is_none_ends_the_stream(client: Client, fake: FakeKafka) -> None:
    consumer = await join(client, "&ack=client")
    consumer.rebalance(T0)
    await client.named("ready")
    await client.named("end")
    client.stream.acknowledge(b'{"ack":[{"topic":"t"}]}')
    assert (await client.named("error"))["error_code"] == 40002
    await client.over()


async def test_no_more_is_in_flight_than_allowed(start: Start, fake: FakeKafka) -> None:
    client = Client(start(stream_max_unacked_records=3))
    fake.put("t", *[b"%d" % n for n in range(8)])
    consumer = await join(client, "&ack=client")
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [0, 1, 2]
    waiting = asyncio.ensure_future(client.values())
    await settled()
    assert not waiting.done()
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":2}]}')
    assert await waiting == [3, 4]


async def test_a_rebalance_drops_what_another_member_has_now(start: Start, fake: FakeKafka) -> None:
    client = Client(start(stream_max_unacked_records=2))
    fake.put("t", b"0", b"1", b"2")
    consumer = await join(client, "&ack=client")
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [0, 1]
    consumer.rebalance(T1)
    assert await client.named("ready") == {"positions": [{"topic": "t", "partition": 1, "offset": 0}]}
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":2}]}')  # too late
    fake.put("t", b"9", partition=1)
    assert await client.named("end") == {"positions": [{"topic": "t", "partition": 1, "offset": 0}]}
    assert await client.values() == [9]  # and not 2, of the partition that went
    await settled()
    assert committed(fake) == {}


async def test_a_commit_that_fails_is_repeated(
    client: Client, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_gateway.services.streams.acks._AGAIN_S", 0.0)
    fake.put("t", b"1")
    consumer = await join(client, "&ack=client")
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [1]
    fake.fail("commit", KafkaRetriable())
    client.stream.acknowledge(b'{"ack":[{"topic":"t","partition":0,"offset":1}]}')
    await settled()
    assert committed(fake) == {0: 1}


async def test_kafka_may_be_away_for_a_while(client: Client, fake: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_gateway.services.streams.group_stream._AGAIN_S", 0.0)
    fake.put("t", b"1")
    fake.fail("read", KafkaRetriable(), KafkaRetriable())
    consumer = await join(client)
    consumer.rebalance(T0)
    await client.named("ready")
    assert await client.values() == [1]


async def test_a_topic_that_goes_ends_the_stream_of_a_group(client: Client, fake: FakeKafka) -> None:
    fake.fail("read", UnknownTopicOrPartition())
    consumer = await join(client)
    assert (await client.named("error"))["error_code"] == 40401
    await client.over()
    await client.rest.services.streams.close_all()
    assert consumer.closed


async def test_a_group_stream_ends_with_the_gateway(client: Client) -> None:
    consumer = await join(client)
    consumer.rebalance(T0)
    await client.named("ready")
    client.rest.services.streams.drain()
    await client.named("end")
    assert (await client.named("error"))["error_code"] == ShuttingDown.error_code
    await client.over()


async def test_who_leaves_while_joining_leaves_no_consumer(rest: Rest, fake: FakeKafka) -> None:
    fake.create_gate = asyncio.Event()
    joining = asyncio.ensure_future(join(Client(rest)))
    await settled()
    joining.cancel()
    await asyncio.wait({joining})
    fake.create_gate.set()
    await settled()
    await rest.services.streams.close_all()
    assert [consumer.closed for consumer in fake.consumers] == [True]


# --- of consumer instances --------------------------------------------------------------------------------------------


async def test_the_records_of_an_instance_as_events(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b'{"a":1}')
    instance = await rest.instance()
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    client = await Client(rest).open(f"{instance}/records", plain_http=True)
    assert await client.named("ready") == positions(0)  # as far as known
    event = await client.event()
    assert json.loads(event.data) == {
        "topic": "t", "partition": 0, "offset": 0, "timestamp": 0, "key": None, "value": {"a": 1},
    }  # fmt: skip
    assert read_token(event.cursor) == {"t": {0: 1}}
    fake.put("t", b"]", b"2")
    rows = await client.rows()
    assert [row["value"] for row in rows] == [None, 2]
    assert rows[0]["error"]["error_code"] == 42208
    await client.leave()  # the last batch counts as not returned: it was being written
    assert [each.offset for each in fake.consumers[-1].returned()] == [0]


async def test_a_read_of_an_instance_stays_a_read(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    instance = await rest.instance()
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    answer = await rest.get(f"{instance}/records", accept="application/vnd.kafka.json.v2+json, text/event-stream;q=0.5")
    assert [row["value"] for row in answer.body] == [1]


async def test_an_instance_that_is_not_there_has_no_events(rest: Rest) -> None:
    answer = await rest.get("/consumers/g/instances/none/records", accept=EVENTS)
    assert (answer.status, answer.code, answer.media_type) == (404, 40403, "application/json")
    instance = await rest.instance()
    answer = await rest.get(f"{instance}/records?heartbeat=0", accept=EVENTS)
    assert answer.status >= 400
    other = rest.as_principal("somebody else")
    answer = await other.get(f"{instance}/records", accept=EVENTS)
    assert (answer.status, answer.code) == (404, 40403)  # reliability.md S6


async def test_the_records_of_a_v1_instance_as_events(rest: Rest, fake: FakeKafka) -> None:
    fake.put("t", b"1")
    body = {"name": "c", "format": "json", "auto.offset.reset": "smallest"}
    assert (await rest.post("/consumers/g", body, V1)).status == 200
    client = await Client(rest).open("/ws/consumers/g/instances/c/topics/t", plain_http=True)
    await client.named("ready")
    assert await client.values() == [1]


async def test_an_instance_has_one_subscription(rest: Rest, fake: FakeKafka) -> None:
    instance = await rest.instance()
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    older = await Client(rest).open(f"{instance}/records", plain_http=True)
    await older.named("ready")
    newer = await Client(rest).open(f"{instance}/records", plain_http=True)
    await older.over()
    await newer.named("ready")
    fake.put("t", b"1")
    assert await newer.values() == [1]


async def test_events_of_an_instance_end_with_the_gateway(rest: Rest) -> None:
    instance = await rest.instance()
    await rest.post(f"{instance}/subscription", {"topics": ["t"]}, V2)
    client = await Client(rest).open(f"{instance}/records", plain_http=True)
    await client.named("ready")
    rest.services.drain()
    with pytest.raises(ShuttingDown):
        await client.event()


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_a_session_has_so_many_streams(start: Start) -> None:
    rest = start(stream_max_per_session=2)
    session = Session("test")
    clients = [await Client(rest, session).open("/topics/t/stream") for _ in range(2)]
    with pytest.raises(AssertionError, match=r"stream\.max\.per\.session"):
        await Client(rest, session).open("/topics/t/stream")
    await Client(rest).open("/topics/t/stream")  # of somebody else
    await clients[0].leave()
    session.streams.discard(clients[0].stream)
    await Client(rest, session).open("/topics/t/stream")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"api_endpoints_blocklist": "streams.topics"}, 404),
        ({"api_endpoints_blocklist": "streams.*"}, 404),
        ({"api_endpoints_allowlist": "api.v2.topics.list"}, 404),
        ({"api_endpoints_allowlist": "streams.topics"}, 400),
    ],
)
async def test_operators_can_switch_streams_off(start: Start, settings: dict[str, str], status: int) -> None:
    rest = start(**settings)
    assert (await rest.get("/topics/t/stream?offset=x", accept=EVENTS)).status == status


async def test_values_over_several_lines_are_put_on_one(client: Client, fake: FakeKafka) -> None:
    fake.put("u", b'{\n  "a": "x\\ny",\r\n  "b": [1,\r2]\n}', b"1")
    await client.open("/topics/u/stream?format=json&offset=earliest")
    await client.named("ready")
    event = await client.event()
    assert event.data.count(b"\n") == 2
    assert b"\r" not in event.data
    assert [json.loads(line)["value"] for line in event.data.splitlines()] == [{"a": "x\ny", "b": [1, 2]}, 1]
